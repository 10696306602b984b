"""
The vocabulary by which callers and runners of calls talk: records, lanes, commands, and both ends over memory.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import currentCall
from asynqueue.errors import SoftTimeLimitExceeded
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.sources import sourceOf
from asynqueue.protocol import commands, records, runner
from asynqueue.protocol.caller import Caller, CallerEnd
from asynqueue.protocol.lanes import BOX, GRANT, PIECE, WINDOW, Incoming, Outgoing
from asynqueue.protocol.records import NUMBER, SECONDS, Splitter, numbersAs, record
from asynqueue.protocol.runner import Call, Runner, RunnerEnd
from asynqueue.testing.tasks import fail, identity, timesTwo

#: How long, in bytes, a call or a result may be, in these tests.
LIMIT = 4 << 20


class RecordTests(SynchronousTestCase):
    """
    Records as bytes.
    """

    @given(
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=50)), max_size=8),
        st.lists(st.integers(1, 40), min_size=1),
    )
    def test_anyCut(self, originals: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
        """
        Come out as they were, however they are cut.
        """
        # A part of them is put together in place; and any piece may be a view.
        for most, views in product((1 << 20, 20), (False, True)):
            data = b"".join(record(kind, number, body, flags=7) for kind, number, body in originals)
            with patch.object(records, "IN_PLACE", most):
                splitter = Splitter(100, inPlace=True)
                found = []
                place = 0
                while data:
                    size = sizes[place % len(sizes)]
                    found += splitter.feed(memoryview(data)[:size] if views else data[:size])
                    data = data[size:]
                    place += 1
            self.assertEqual(found, [(kind, 7, number, body) for kind, number, body in originals])

    def test_limit(self) -> None:
        """
        A record may be as long as the limit, and one that is longer is refused before it is there.
        """
        self.assertEqual(Splitter(10).feed(record(1, 2, bytes(10))), [(1, 0, 2, bytes(10))])
        with self.assertRaises(ValueError) as caught:
            Splitter(10).feed(record(1, 2, bytes(11))[:14])
        self.assertIn("11 bytes, where 10 are the limit", str(caught.exception))

    def test_missing(self) -> None:
        """
        A splitter tells how much of a record is to come, as far as it knows.
        """
        splitter = Splitter(100)
        self.assertEqual(splitter.missing, 0)
        data = record(1, 2, bytes(20))
        splitter.feed(data + data[:10])
        self.assertEqual(splitter.missing, 4)
        splitter.feed(data[10:24])
        self.assertEqual(splitter.missing, 10)
        splitter.feed(data[24:])
        self.assertEqual(splitter.missing, 0)

    def test_layout(self) -> None:
        """
        The header is fourteen bytes, little-endian, whatever the machine.
        """
        self.assertEqual(record(1, 258, b"x", 3), b"\x01\x03\x02\x01\0\0\0\0\0\0\x01\0\0\0x")


class LaneTests(SynchronousTestCase):
    """
    Lanes.
    """

    def setUp(self) -> None:
        """
        Make a lane that keeps what it sends.
        """
        self.boxes: list[list[bytes]] = []
        self.lane = Outgoing(lambda pieces: self.boxes.append([bytes(piece) for piece in pieces]))

    def sent(self) -> int:
        """
        Return how many bytes have been sent.
        """
        return sum(len(piece) for box in self.boxes for piece in box)

    def test_smallAtOnce(self) -> None:
        """
        What is small goes in a box of its own as soon as it is posted.
        """
        self.lane.post(b"one")
        self.lane.post(b"two")
        self.assertEqual(self.boxes, [[b"one"], [b"two"]])

    def test_bounds(self) -> None:
        """
        A box is bounded, in bytes and in pieces, and so is each piece.
        """
        self.lane.post(bytes(WINDOW))
        for box in self.boxes:
            self.assertLessEqual(sum(map(len, box)), BOX)
            self.assertLessEqual(len(box), commands.PIECES)
            self.assertLessEqual(max(map(len, box)), 65_535)

    def test_window(self) -> None:
        """
        Without credit there is about a window under way; with credit the rest follows.
        """
        self.lane.post(bytes(3 * WINDOW))
        self.assertGreaterEqual(self.sent(), WINDOW)
        self.assertLess(self.sent(), WINDOW + BOX)
        self.assertEqual(self.lane.pending, 3 * WINDOW - self.sent())
        self.lane.credited(GRANT)
        self.assertLess(self.sent(), WINDOW + GRANT + BOX)
        for _ in range(20):
            self.lane.credited(GRANT)
        self.assertEqual((self.sent(), self.lane.pending), (3 * WINDOW, 0))

    def test_creditIsBounded(self) -> None:
        """
        Credit for what was never sent, and less than none, is of no use.
        """
        self.lane.credited(100 * WINDOW)
        self.lane.credited(-WINDOW)
        self.lane.post(bytes(5 * WINDOW))
        self.assertLess(self.sent(), WINDOW + BOX)

    def test_manyThatWaitShareABox(self) -> None:
        """
        What is small, and has to wait, goes together.
        """
        self.lane.post(bytes(WINDOW + BOX))
        self.boxes.clear()
        for _ in range(1000):
            self.lane.post(b"0123456789")
        self.assertEqual(self.boxes, [])
        self.lane.credited(WINDOW)
        self.assertLess(len(self.boxes), 10)

    @given(st.lists(st.integers(0, 3 * PIECE), max_size=30), st.integers(1, 9))
    def test_order(self, sizes: list[int], credit: int) -> None:
        """
        The bytes of all boxes, one after the other, are those that were posted, and all boxes are bounded.
        """
        boxes: list[list[bytes]] = []
        lane = Outgoing(lambda pieces: boxes.append([bytes(piece) for piece in pieces]))
        posted = b"".join(bytes([number % 251]) * size for number, size in enumerate(sizes))
        for number, size in enumerate(sizes):
            lane.post(bytes([number % 251]) * size)
        while lane.pending:
            lane.credited(credit * PIECE)
        self.assertEqual(b"".join(piece for box in boxes for piece in box), posted)
        for box in boxes:
            self.assertLessEqual(sum(map(len, box)), BOX)
            self.assertLessEqual(len(box), commands.PIECES)
            self.assertTrue(all(len(piece) <= 65_535 for piece in box))

    def test_incoming(self) -> None:
        """
        Credit is given for many boxes at once, and for every byte in the end.
        """
        granted: list[int] = []
        incoming = Incoming(granted.append)
        for _ in range(3 * GRANT // 1000):
            incoming.took(1000)
        self.assertEqual(len(granted), 2)
        self.assertGreaterEqual(sum(granted), 2 * GRANT)


class CommandTests(SynchronousTestCase):
    """
    Commands as boxes of AMP.
    """

    def test_pieces(self) -> None:
        """
        Pieces become values of their own, and come back in order.
        """
        pieces = [bytes([number]) * 3 for number in range(12)]
        box = commands.Run.makeArguments({"records": pieces}, None)
        self.assertEqual(len(box), 12)
        self.assertEqual(box[b"records"], pieces[0])
        self.assertEqual(commands.Run.parseArguments(box, None), {"records": pieces})

    def test_views(self) -> None:
        """
        Pieces need not be copied before they are sent.
        """
        box = commands.Run.makeArguments({"records": [memoryview(b"abcdef")[1:3]]}, None)
        self.assertIn(b"\0\7records\0\2bc", box.serialize())

    def test_noPieces(self) -> None:
        """
        A box without them is none of this command.
        """
        self.assertRaises(KeyError, commands.Outcome.parseArguments, amp.AmpBox(), None)

    def test_names(self) -> None:
        """
        The names of the commands, by which both ends know them, and which are answered.
        """
        every = [each for each in vars(commands).values() if isinstance(each, type) and issubclass(each, amp.Command)]
        self.assertEqual(
            {each.commandName for each in every if each is not commands.Pushed},
            {
                b"run",
                b"outcome",
                b"credit",
                b"cancel",
                b"recall",
                b"pull",
                b"close",
                b"ready",
                b"hello",
                b"ping",
                b"go-away",
            },
        )
        self.assertEqual(
            {each for each in every if each.requiresAnswer}, {commands.Hello, commands.Ping, commands.GoAway}
        )


class Unpicklable:
    """
    An object that cannot travel.
    """

    def __reduce__(self) -> str:
        raise TypeError("it stays where it is")


class PickleEncoding:
    """
    Pickles calls as C{(func, args, kw)}.
    """

    def call(self, flags: int, body: bytes) -> Call:
        """
        Unpickle a call.
        """
        func, args, kw = pickle.loads(body)
        return Call(func, args, kw, ID=11, attempt=2)

    def result(self, call: Call, value: Any) -> bytes:
        """
        Pickle a result.
        """
        return pickle.dumps(value)

    def items(self, items: list[Any]) -> bytes:
        """
        Pickle items.
        """
        return pickle.dumps(items)

    def error(self, error: BaseException, where: str) -> bytes:
        """
        Pickle what there is to tell of an error.
        """
        return pickle.dumps((type(error).__name__, str(error), where))


class RunnerProtocol(RunnerEnd, amp.AMP):
    """
    A runner over AMP.
    """

    def __init__(self, clock: Clock, **keywords: Any) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.runner = Runner(self.callRemote, PickleEncoding(), clock, LIMIT, onBegin=self.begun.append, **keywords)


class CallerProtocol(CallerEnd, amp.AMP):
    """
    A caller over AMP, that counts boxes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.boxes: list[bytes] = []
        self.caller = Caller(self.callRemote, LIMIT)

    def ampBoxReceived(self, box: amp.AmpBox) -> None:
        """
        Note the command.
        """
        self.boxes.append(box[b"_command"])
        super().ampBoxReceived(box)


#: What the functions below have noted.
noted: list[Any] = []

#: What they have returned, and the test may fire.
promised: dict[Any, Deferred[Any]] = {}


#: The clock of the test.
clocks: list[Clock] = []


def note(value: Any) -> Any:
    """
    Note a value, and return it.
    """
    noted.append(value)
    return value


def promise(key: Any) -> Deferred[Any]:
    """
    Return a Deferred that the test fires.
    """
    noted.append(key)
    d: Deferred[Any] = Deferred(lambda _: noted.append(f"cancelled {key}"))
    promised[key] = d
    return d


async def wait(key: Any) -> Any:
    """
    Wait for a Deferred that the test fires, and tell of a cancellation.
    """
    try:
        return await promise(key)
    except CancelledError:
        noted.append("cleaned up")
        raise


async def stubborn(key: Any) -> Any:
    """
    Return a value even when cancelled.
    """
    try:
        return await promise(key)
    except CancelledError:
        return "nevertheless"


def tell() -> tuple[int, int, bool]:
    """
    Return what there is to be known of the call.
    """
    call = currentCall()
    assert call is not None
    return call.ID, call.attempt, call.cancelled


def count(stop: int, last: str = "") -> Iterator[int]:
    """
    Generate numbers.
    """
    try:
        for number in range(stop):
            noted.append(number)
            yield number
        if last:
            raise ValueError(last)
    finally:
        noted.append("closed")


async def countSlowly(stop: int) -> AsyncIterator[int]:
    """
    Generate numbers, each when the test says so; and wait once more at the end.
    """
    try:
        for number in range(stop):
            await promise(number)
            yield number
    finally:
        await promise("closing")
        noted.append("closed")


async def countAtOnce(stop: int) -> AsyncIterator[int]:
    """
    Generate numbers, without waiting for anything.
    """
    for number in range(stop):
        yield number


def mixed() -> Iterator[Any]:
    """
    Generate items one of which cannot travel.
    """
    try:
        yield from (1, 2, Unpicklable(), 4)
    finally:
        noted.append("closed")


def many(stop: int) -> Deferator:
    """
    Return what a queue returns for an iterator.
    """
    return Deferator.over(sourceOf(iter(range(stop)), clock=clocks[0]))


def cancelItself() -> Deferred[Any]:
    """
    Return a Deferred that somebody else has cancelled.
    """
    d: Deferred[Any] = Deferred()
    d.cancel()
    return d


def failLater() -> Deferred[Any]:
    """
    Return a Deferred that fails.
    """
    d: Deferred[Any] = Deferred()
    d.errback(Failure(ValueError("later")))
    return d


class EndsTests(SynchronousTestCase):
    """
    Both ends, over memory.
    """

    def setUp(self) -> None:
        """
        Connect them.
        """
        noted.clear()
        promised.clear()
        self.clock = Clock()
        clocks[:] = [self.clock]
        self.connect()
        self.addCleanup(self.close)

    def close(self) -> None:
        """
        Let all generators come to their ends, so that none is left to be collected in another test.
        """
        self.runner.stop()
        for _ in range(3):
            for d in tuple(promised.values()):
                if not d.called:
                    d.callback(None)

    def connect(self, **keywords: Any) -> None:
        """
        Connect a caller with a runner.
        """
        self.theCaller = CallerProtocol()
        self.theRunner = RunnerProtocol(self.clock, **keywords)
        self.caller = self.theCaller.caller
        self.runner = self.theRunner.runner
        self.came: list[tuple[int, int, Any]] = []
        self.caller.onRecords = self.take
        self.pump = iosim.connect(
            self.theRunner, iosim.makeFakeServer(self.theRunner), self.theCaller, iosim.makeFakeClient(self.theCaller)
        )

    def take(self, received: list[tuple[int, int, int, bytes]]) -> None:
        """
        Keep what has come, unpacked as far as it is pickled.
        """
        for kind, _, number, body in received:
            value: Any = body
            if kind in (records.RESULT, records.ERROR, records.ITEMS) or (kind == records.STREAM_END and body):
                value = pickle.loads(body)
            self.came.append((kind, number, value))

    def call(self, number: int, func: Any, *args: Any, flags: int = 0) -> None:
        """
        Post a call.
        """
        self.caller.post(record(records.CALL, number, pickle.dumps((func, args, {})), flags))

    def flush(self) -> None:
        """
        Let everything happen that is about to.
        """
        for _ in range(5):
            self.pump.flush()
            self.clock.advance(0)
        self.pump.flush()

    def takeAll(self) -> list[tuple[int, int, Any]]:
        """
        Let everything happen, and return what has come since the last time.
        """
        self.flush()
        came, self.came = self.came, []
        return came

    # Calls

    def test_ready(self) -> None:
        """
        The runner tells when it can take calls, or why it cannot.
        """
        told: list[str] = []
        self.caller.onReady = lambda: told.append("ready")
        self.runner.ready()
        self.flush()
        self.assertEqual(told, ["ready"])
        self.runner.refuse(ValueError("not today"))
        [(kind, number, body)] = self.takeAll()
        self.assertEqual((kind, number), (records.UNREADY, 0))
        self.assertEqual(pickle.loads(body), ("ValueError", "not today", ""))

    def test_results(self) -> None:
        """
        Calls are begun with in order, and the outcomes come in one box if they are there at once.
        """
        data = b"".join(
            record(records.CALL, number, pickle.dumps((timesTwo, (number,), {}))) for number in range(1, 101)
        )
        self.caller.post(data)
        self.assertEqual(self.takeAll(), [(records.RESULT, number, 2 * number) for number in range(1, 101)])
        self.assertEqual(self.theRunner.begun, list(range(1, 101)))
        self.assertEqual(self.theCaller.boxes, [b"outcome"])

    def test_nothing(self) -> None:
        """
        None takes no pickle.
        """
        self.call(1, identity, None)
        self.assertEqual(self.takeAll(), [(records.NOTHING, 1, b"")])

    def test_large(self) -> None:
        """
        What is longer than a box goes in several, both ways, and small things behind it arrive behind it.
        """
        value = bytes(range(256)) * (3 << 12)
        self.assertGreater(len(value), 2 * WINDOW)
        self.call(1, identity, value)
        self.call(2, identity, "small")
        self.assertEqual(self.takeAll(), [(records.RESULT, 1, value), (records.RESULT, 2, "small")])
        self.assertGreater(self.theCaller.boxes.count(b"outcome"), len(value) // BOX)

    def test_cancelPasses(self) -> None:
        """
        A call whose arguments are still on their way can be cancelled before they are there, and never begins.
        """
        self.call(1, note, bytes(3 * WINDOW))
        self.assertGreater(self.caller.pending, 0)
        self.caller.cancel(1, records.UNWANTED)
        self.assertEqual(self.takeAll(), [(records.CANCELLED, 1, b"")])
        self.assertEqual((noted, self.theRunner.begun), ([], []))

    def test_errors(self) -> None:
        """
        What a call raises, even what would end a program, is its outcome, and others go on.
        """
        self.call(1, fail, ValueError, "no")
        self.call(2, fail, SystemExit, 3)
        self.call(3, failLater)
        self.call(4, identity, 4)
        self.assertEqual(
            self.takeAll(),
            [
                (records.ERROR, 1, ("ValueError", "no", "")),
                (records.ERROR, 2, ("SystemExit", "3", "")),
                (records.ERROR, 3, ("ValueError", "later", "")),
                (records.RESULT, 4, 4),
            ],
        )

    def test_whatCannotTravel(self) -> None:
        """
        Arguments that cannot be decoded, results that cannot be encoded or are too long are told of as such.
        """
        self.caller.post(record(records.CALL, 1, b"no pickle"))
        self.call(2, Unpicklable)
        self.call(3, bytes, LIMIT)
        self.call(4, identity, 4)
        came = self.takeAll()
        self.assertEqual([(number, kind) for kind, number, _ in came[:3]], [(n, records.ERROR) for n in (1, 2, 3)])
        self.assertEqual([value[2] for _, _, value in came[:3]], ["arguments", "result", "result"])
        self.assertIn(f"{LIMIT} are the limit", came[2][2][1])
        self.assertEqual(came[3], (records.RESULT, 4, 4))

    def test_currentCall(self) -> None:
        """
        The function can look at its call.
        """
        self.call(1, tell)
        self.assertEqual(self.takeAll(), [(records.RESULT, 1, (11, 2, False))])

    def test_deferreds(self) -> None:
        """
        Calls that wait go on at once, end in any order, and that they have begun is told once.
        """
        for number in (1, 2):
            self.call(number, promise, number)
        self.call(3, wait, 3)
        self.assertEqual(self.takeAll()[-1], (records.BEGUN, 0, numbersAs([3])))
        self.assertEqual(self.takeAll(), [])
        promised[3].callback("c")
        promised[1].callback("a")
        self.assertEqual(self.takeAll(), [(records.RESULT, 3, "c"), (records.RESULT, 1, "a")])
        promised[2].callback("b")
        self.assertEqual(self.takeAll(), [(records.RESULT, 2, "b")])

    def test_batchesOfATurn(self) -> None:
        """
        Of the outcomes of one turn, the first goes at once, and the others together.
        """
        for number in range(1, 11):
            self.call(number, promise, number)
        self.takeAll()
        self.theCaller.boxes.clear()
        for number in range(1, 11):
            promised[number].callback(number)
        self.assertEqual(len(self.takeAll()), 10)
        self.assertEqual(self.theCaller.boxes, [b"outcome", b"outcome"])

    def test_most(self) -> None:
        """
        No more calls go on than may; the next one begins when one has ended.
        """
        self.connect(most=lambda: 2)
        for number in (1, 2, 3, 4):
            self.call(number, promise, number)
        self.flush()
        self.assertEqual(noted, [1, 2])
        promised[1].callback(None)
        self.flush()
        self.assertEqual(noted, [1, 2, 3])

    def test_times(self) -> None:
        """
        How long a call took comes before its outcome, if that is wanted.
        """
        self.connect(isTimed=True)
        self.call(1, identity, 1)
        took, result = self.takeAll()
        self.assertEqual((took[:2], result), ((records.TOOK, 1), (records.RESULT, 1, 1)))
        self.assertLess(SECONDS.unpack(took[2])[0], 1.0)

    # Ends before the end

    def test_cancel(self) -> None:
        """
        The Deferred that a call waits for is cancelled, and the coroutine can clean up.
        """
        self.call(1, wait, "one")
        self.takeAll()
        self.caller.cancel(1, records.UNWANTED)
        self.assertEqual(self.takeAll(), [(records.CANCELLED, 1, b"")])
        self.assertEqual(noted, ["one", "cancelled one", "cleaned up"])

    def test_cancelledByItself(self) -> None:
        """
        A call that was cancelled by somebody else is told of in the same way.
        """
        self.call(1, cancelItself)
        self.assertEqual(self.takeAll(), [(records.CANCELLED, 1, b"")])

    def test_stubborn(self) -> None:
        """
        A call may return something although it has been cancelled.
        """
        self.call(1, stubborn, "one")
        self.takeAll()
        self.caller.cancel(1, records.UNWANTED)
        self.assertEqual(self.takeAll(), [(records.RESULT, 1, "nevertheless")])

    def test_softLimit(self) -> None:
        """
        A call that does not go on after its soft limit fails with that.
        """
        self.call(1, wait, "one")
        self.takeAll()
        self.caller.cancel(1, records.SOFT_LIMIT)
        [(kind, _, value)] = self.takeAll()
        self.assertEqual((kind, value[0]), (records.ERROR, SoftTimeLimitExceeded.__name__))

    def test_cancelWhatWaits(self) -> None:
        """
        A call that has come, and has to wait for others, is never begun with when it is cancelled.
        """
        self.connect(most=lambda: 1)
        self.call(1, promise, 1)
        self.call(2, promise, 2)
        self.takeAll()
        self.caller.cancel(2, records.UNWANTED)
        self.assertEqual(self.takeAll(), [(records.CANCELLED, 2, b"")])
        promised[1].callback(None)
        self.assertEqual(self.takeAll(), [(records.NOTHING, 1, b"")])
        self.assertEqual(noted, [1])

    def test_cancelTooLate(self) -> None:
        """
        A call that has ended cannot be cancelled, and nothing comes of it.
        """
        self.call(1, identity, 1)
        self.takeAll()
        self.caller.cancel(1, records.UNWANTED)
        self.assertEqual(self.takeAll(), [])

    def test_recall(self) -> None:
        """
        What has not been begun with is given back, even what is still on its way, and never begun with.
        """
        self.connect(most=lambda: 1)
        self.call(1, promise, 1)
        self.call(2, promise, 2)
        self.flush()
        self.call(3, note, bytes(2 * WINDOW))
        self.caller.recall(3)
        came = self.takeAll()
        self.assertEqual(came[-1], (records.RECALLED, 1, NUMBER.pack(3)))
        promised[1].callback(None)
        self.assertEqual(self.takeAll(), [(records.NOTHING, 1, b"")])
        self.assertEqual(noted, [1])
        self.call(4, identity, 4)
        self.assertEqual(self.takeAll(), [(records.RESULT, 4, 4)])

    def test_bytesThatWait(self) -> None:
        """
        When the calls that wait are large, no more are let in until some of them have been begun with.
        """
        self.patch(runner, "WAITING", WINDOW // 2)
        self.connect(most=lambda: 1)
        self.call(1, promise, 1)
        for number in (2, 3, 4):
            self.call(number, note, bytes(WINDOW))
        self.takeAll()
        self.assertGreater(self.caller.pending, WINDOW)
        promised[1].callback(None)
        came = self.takeAll()
        self.assertEqual([number for kind, number, _ in came if kind != records.BEGUN], [1, 2, 3, 4])
        self.assertEqual(self.caller.pending, 0)

    def test_bytesThatAreGivenBack(self) -> None:
        """
        Those that are given back, or cancelled, do not count any more.
        """
        self.patch(runner, "WAITING", WINDOW // 2)
        self.connect(most=lambda: 1)
        self.call(1, promise, 1)
        for number in (2, 3, 4):
            self.call(number, note, bytes(WINDOW))
        self.takeAll()
        self.caller.cancel(2, records.UNWANTED)
        self.caller.recall(4)
        self.takeAll()
        self.assertEqual(self.caller.pending, 0)
        promised[1].callback(None)
        self.assertEqual(self.takeAll(), [(records.NOTHING, 1, b"")])

    def test_recallNothing(self) -> None:
        """
        When everything has been begun with, nothing is given back, and what comes next is run.
        """
        self.call(1, promise, 1)
        self.flush()
        self.caller.recall(1)
        self.assertEqual(self.takeAll()[-1], (records.RECALLED, 1, NUMBER.pack(1)))
        self.call(2, identity, 2)
        self.assertEqual(self.takeAll(), [(records.RESULT, 2, 2)])

    # Streams

    def test_stream(self) -> None:
        """
        Items come as far as there is credit, many in a box, and the end behind them.
        """
        self.call(1, count, 100)
        self.assertEqual(self.takeAll(), [(records.STREAM, 1, b""), (records.ITEMS, 1, [0])])
        self.assertEqual(noted, [0])
        self.caller.pull(1, 10)
        self.assertEqual(self.takeAll(), [(records.ITEMS, 1, list(range(1, 10)))])
        self.assertEqual(noted, list(range(10)))
        self.caller.pull(1, 1000)
        came = self.takeAll()
        self.assertEqual([item for kind, _, items in came[:-1] for item in items], list(range(10, 100)))
        self.assertEqual(came[-1], (records.STREAM_END, 1, b""))
        self.assertEqual(noted[-1], "closed")

    def test_streamOfCoroutine(self) -> None:
        """
        An iterator that a call has waited for is one, too; so is an asynchronous one, and a Deferator.
        """
        for number, (func, stop) in enumerate([(countAtOnce, 3000), (many, 50), (count, 50)], 1):
            self.call(number, func, stop)
            came = self.takeAll()
            self.assertEqual(came.pop(0), (records.STREAM, number, b""))
            self.caller.pull(number, 10_000)
            while not came or came[-1][0] != records.STREAM_END:
                came += self.takeAll()
            self.assertEqual([item for kind, _, items in came[:-1] for item in items], list(range(stop)))
            self.assertEqual(came[-1], (records.STREAM_END, number, b""))

    def test_raw(self) -> None:
        """
        A call for which iterators are nothing special has one as its result, which cannot be pickled mostly.
        """
        self.call(1, iter, [1, 2], flags=records.RAW)
        [(kind, _, value)] = self.takeAll()
        self.assertEqual((kind, list(value)), (records.RESULT, [1, 2]))

    def test_streamError(self) -> None:
        """
        An error comes behind the items before it.
        """
        self.call(1, count, 3, "behind")
        self.flush()
        self.caller.pull(1, 10)
        self.assertEqual(
            self.takeAll(),
            [
                (records.STREAM, 1, b""),
                (records.ITEMS, 1, [0]),
                (records.ITEMS, 1, [1, 2]),
                (records.STREAM_END, 1, ("ValueError", "behind", "")),
            ],
        )

    def test_itemThatCannotTravel(self) -> None:
        """
        Items before it arrive, and the iterator is closed.
        """
        self.call(1, mixed)
        self.flush()
        self.caller.pull(1, 10)
        self.assertEqual(
            self.takeAll()[1:],
            [
                (records.ITEMS, 1, [1]),
                (records.ITEMS, 1, [2]),
                (records.STREAM_END, 1, ("TypeError", "it stays where it is", "item")),
            ],
        )
        self.assertEqual(noted, ["closed"])

    def test_firstItem(self) -> None:
        """
        A call whose iterator has no item yet goes on; then come the stream and the item, without credit.
        """
        self.call(1, countSlowly, 5)
        self.assertEqual(self.takeAll(), [(records.BEGUN, 0, numbersAs([1]))])
        promised[0].callback(None)
        self.assertEqual(self.takeAll(), [(records.STREAM, 1, b""), (records.ITEMS, 1, [0])])

    def test_noItem(self) -> None:
        """
        An iterator without an item is a stream that ends at once; one with an error before is no stream.
        """
        self.call(1, count, 0)
        self.assertEqual(self.takeAll(), [(records.STREAM, 1, b""), (records.STREAM_END, 1, b"")])
        self.call(2, count, 0, "before")
        self.assertEqual(self.takeAll(), [(records.ERROR, 2, ("ValueError", "before", ""))])

    def test_cancelBeforeFirstItem(self) -> None:
        """
        A call that is cancelled before there is an item closes its iterator, and is over when that is done.
        """
        self.call(1, countSlowly, 5)
        self.flush()
        self.caller.cancel(1, records.UNWANTED)
        self.caller.cancel(1, records.UNWANTED)
        self.assertEqual(self.takeAll(), [(records.BEGUN, 0, numbersAs([1]))])
        self.assertEqual(noted, [0, "cancelled 0", "closing"])
        promised["closing"].callback(None)
        self.assertEqual(self.takeAll(), [(records.CANCELLED, 1, b"")])
        self.assertEqual(noted[-1], "closed")

    def test_softLimitBeforeFirstItem(self) -> None:
        """
        So does one that takes longer than its soft limit for that, and fails with it.
        """
        self.call(1, countSlowly, 5)
        self.flush()
        self.caller.cancel(1, records.SOFT_LIMIT)
        self.flush()
        promised["closing"].callback(None)
        self.assertEqual(self.takeAll()[-1][2][0], SoftTimeLimitExceeded.__name__)

    def test_close(self) -> None:
        """
        An iterator that is left is closed, and its end is told.
        """
        self.call(1, count, 100)
        self.flush()
        self.caller.pull(1, 2)
        self.takeAll()
        self.caller.close(1)
        self.assertEqual(self.takeAll(), [(records.STREAM_END, 1, b"")])
        self.assertEqual(noted, [0, 1, "closed"])
        self.caller.pull(1, 5)
        self.caller.close(1)
        self.assertEqual(self.takeAll(), [])

    def test_closeAsynchronous(self) -> None:
        """
        The end is told when an asynchronous generator has come to the end of its C{finally}.
        """
        self.call(1, countSlowly, 5)
        self.flush()
        promised[0].callback(None)
        self.flush()
        self.caller.pull(1, 5)
        self.takeAll()
        self.caller.close(1)
        self.assertEqual(self.takeAll(), [])
        self.assertEqual(noted, [0, 1, "cancelled 1", "closing"])
        promised["closing"].callback(None)
        self.assertEqual(self.takeAll(), [(records.STREAM_END, 1, b"")])
        self.assertEqual(noted[-1], "closed")

    def test_closeWhatIsNotStepped(self) -> None:
        """
        So it is for one that nobody has given credit for, between two items.
        """
        self.call(1, countSlowly, 5)
        self.flush()
        promised[0].callback(None)
        self.assertEqual(self.takeAll()[-1], (records.ITEMS, 1, [0]))
        self.caller.close(1)
        self.assertEqual(self.takeAll(), [])
        promised["closing"].callback(None)
        self.assertEqual(self.takeAll(), [(records.STREAM_END, 1, b"")])

    # What must not be

    def test_tooLong(self) -> None:
        """
        A call that is longer than it may be ends the connection, before it has come.
        """
        self.caller.post(record(records.CALL, 1, bytes(LIMIT + 1)))
        self.flush()
        self.assertIsNone(self.theRunner.transport)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_unknownCommand(self) -> None:
        """
        So does a command that is none.
        """
        self.theCaller.callRemoteString(b"nothing", requiresAnswer=False)
        self.flush()
        self.assertIsNone(self.theRunner.transport)
        self.assertEqual(len(self.flushLoggedErrors(amp.RemoteAmpError)), 1)

    def test_stop(self) -> None:
        """
        A runner whose caller is gone cancels calls, closes streams, begins with nothing and leaves no timer.
        """
        self.connect(most=lambda: 1)
        self.call(1, count, 5)
        self.flush()
        self.caller.pull(1, 1)
        self.call(2, promise, 2)
        self.call(3, note, 3)
        self.takeAll()
        self.runner.stop()
        self.assertEqual(self.takeAll(), [])
        self.assertEqual(noted, [0, 2, "cancelled 2", "closed"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
