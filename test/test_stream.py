"""
Tests of streams, whose sources are scripted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.deferreds.deadline import Deadline
from asynqueue.errors import NotReadyError, TimeoutError, WorkerError
from asynqueue.failures import errorText
from asynqueue.iteration.batches import WINDOW, Batch
from asynqueue.iteration.sources import IteratorSource
from asynqueue.iteration.stream import Stream, StreamState
from test.streamed import Numbers, ScriptedSource
from test.support import Outcome

FLOWING, ENDED, CONCLUDED, STOPPED = StreamState


def failing(number: int) -> Batch:
    """
    Make a batch of so many items, with an error behind them.
    """
    return Batch(list(range(number)), error=errorText(KeyError("wrong")))


class StreamTestCase(SynchronousTestCase):
    """
    Tests of a stream.
    """

    def setUp(self) -> None:
        """
        Note who is called.
        """
        super().setUp()
        self.called: list[str] = []

    def makeStream(self, *ready: Batch, **keywords: Any) -> Stream:
        """
        Make a stream of what a source has ready, and note its end.
        """
        self.source = ScriptedSource(*ready, **keywords)
        self.stream = Stream(self.source)
        self.stream.onEnd = partial(self.called.append, "onEnd")
        self.done = Outcome(self.stream.done)
        return self.stream

    def waits(self, need: int = 1, name: str = "waiter") -> bool:
        """
        Ask for items, and tell whether there is something to wait for.
        """
        return not self.stream.request(partial(self.called.append, name), need)

    def popAll(self) -> list[Any]:
        """
        Return the items that are there.
        """
        items = []
        while self.stream.items:
            items.append(self.stream.pop())
        return items


class StateTests(StreamTestCase):
    """
    What can be done in which state, and what comes of it.
    """

    def makeIn(self, state: StreamState, items: int = 0) -> Stream:
        """
        Make a stream that is in a state.
        """
        stream = self.makeStream(
            *([] if state is FLOWING else [Batch(list(range(items)), isLast=state is not STOPPED)])
        )
        if state in (ENDED, CONCLUDED):
            self.assertFalse(self.waits())
        if state is CONCLUDED:
            self.popAll()
            stream.conclude()
        if state is STOPPED:
            stream.stop()
        self.assertIs(stream.state, state)
        self.called.clear()
        return stream

    def test_stop(self) -> None:
        """
        Closes the source where it has not come to its end, and fires done where it has not fired.
        """
        table = [
            (FLOWING, STOPPED, False, 1, ["onEnd"]),
            (ENDED, STOPPED, False, 0, []),
            (CONCLUDED, CONCLUDED, True, 0, []),
            (STOPPED, STOPPED, False, 1, []),
        ]
        for before, after, done, closed, called in table:
            stream = self.makeIn(before)
            stream.stop()
            stream.stop()
            self.assertIs(stream.state, after)
            self.assertEqual((self.done.fired, self.done.value), (1, done))
            self.assertEqual((self.source.closed, self.called), (closed, called))

    def test_fail(self) -> None:
        """
        Ends what flows, and nothing else.
        """
        table = [
            (FLOWING, ENDED, 1, ["onEnd"]),
            (ENDED, ENDED, 0, []),
            (CONCLUDED, CONCLUDED, 0, []),
            (STOPPED, STOPPED, 1, []),
        ]
        for before, after, closed, called in table:
            stream = self.makeIn(before)
            stream.fail(ValueError("given up"))
            stream.fail(ValueError("again"))
            self.assertIs(stream.state, after)
            self.assertEqual((self.source.closed, self.called), (closed, called))

    def test_conclude(self) -> None:
        """
        Tells the error once. A stream that is stopped has one of its own.
        """
        for before, after, kind in (
            (ENDED, CONCLUDED, None),
            (CONCLUDED, CONCLUDED, None),
            (STOPPED, STOPPED, CancelledError),
        ):
            stream = self.makeIn(before)
            for _ in range(2):
                failure = stream.conclude()
                self.assertEqual(None if failure is None else failure.type, kind)
                self.assertIs(stream.state, after)

    def test_hasMore(self) -> None:
        """
        Something may come while it flows; afterwards there is what is there.
        """
        for state, items, expected in (
            (FLOWING, 0, True),
            (ENDED, 0, False),
            (ENDED, 1, True),
            (CONCLUDED, 0, False),
            (STOPPED, 0, False),
        ):
            self.assertIs(self.makeIn(state, items).hasMore(), expected)

    def test_request(self) -> None:
        """
        Waits for nothing but what is to come.
        """
        for state, expected in ((FLOWING, True), (ENDED, False), (CONCLUDED, False), (STOPPED, False)):
            self.makeIn(state)
            self.assertIs(self.waits(), expected)

    def test_claim(self) -> None:
        """
        There is one reader, and none of a stream that has been left.
        """
        for state in (FLOWING, ENDED):
            stream = self.makeIn(state)
            stream.claim()
            self.assertTrue(stream.isClaimed)
            self.assertRaises(NotReadyError, stream.claim)
        stream = self.makeIn(CONCLUDED)
        stream.claim()
        stream.claim()
        self.assertFalse(stream.isClaimed)
        with self.assertRaises(NotReadyError) as caught:
            self.makeIn(STOPPED).claim()
        self.assertIn("left before its end", str(caught.exception))

    def test_claimWhileWaited(self) -> None:
        """
        Whoever waits is a reader.
        """
        stream = self.makeIn(FLOWING)
        self.waits()
        self.assertTrue(stream.isWaitedFor)
        self.assertRaises(NotReadyError, stream.claim)
        stream.withdraw()
        stream.claim()

    def test_done(self) -> None:
        """
        Is false after an error, and after fail.
        """
        stream = self.makeStream(failing(0))
        self.waits()
        failure = stream.conclude()
        assert failure is not None
        self.assertTrue(failure.check(KeyError))
        self.assertEqual((self.done.fired, self.done.value), (1, False))
        stream = self.makeIn(FLOWING)
        stream.fail(ValueError("given up"))
        self.assertEqual(self.done.fired, 0)
        stream.conclude()
        self.assertEqual((self.done.fired, self.done.value), (1, False))


class FlowTests(StreamTestCase):
    """
    How items come.
    """

    def test_nothingBeforeItIsAskedFor(self) -> None:
        """
        Not even from a source that runs ahead.
        """
        self.makeStream(runsAhead=True)
        self.assertEqual(self.source.pulled, [])

    def test_window(self) -> None:
        """
        Each pull is for no more than there is room for.
        """
        stream = self.makeStream(Batch([0]), Batch([1, 2]), Batch(list(range(3, 16))))
        for need, pulled in ((1, [16]), (2, [16, 15]), (4, [16, 15, 13])):
            self.assertFalse(self.waits(need))
            self.assertEqual(self.source.pulled, pulled)
        self.assertEqual(self.popAll(), list(range(16)))
        self.assertEqual(stream.delivered, 16)

    def test_F53_neverMoreThanTheWindow(self) -> None:
        """
        A source that runs ahead is asked when everything has been read, and stops when nobody reads.
        """
        stream = self.makeStream(*(Batch(list(range(16))) for _ in range(5)), runsAhead=True)
        self.assertFalse(self.waits())
        self.assertEqual(len(self.source.pulled), 1)
        for _ in range(15):
            stream.pop()
        self.assertEqual(len(self.source.pulled), 1)
        stream.pop()
        self.assertEqual((len(self.source.pulled), len(stream.items)), (2, 16))

    def test_lazySource(self) -> None:
        """
        One that costs the reader's own time is asked when its items are wanted.
        """
        stream = self.makeStream(Batch([0]), Batch([1]))
        self.assertFalse(self.waits())
        stream.pop()
        self.assertEqual(len(self.source.pulled), 1)

    def test_need(self) -> None:
        """
        A waiter is called when there is enough, and once.
        """
        self.makeStream()
        self.assertTrue(self.waits(3))
        self.source.answer(1)
        self.source.answer(2)
        self.assertEqual(self.called, [])
        self.source.answer(3, 4)
        self.assertEqual(self.called, ["waiter"])
        self.assertFalse(self.source.isPending)

    def test_needAtTheEnd(self) -> None:
        """
        Or there will be none.
        """
        for kind in (None, KeyError("wrong")):
            self.makeStream()
            self.assertTrue(self.waits(3))
            self.source.answer(1, isLast=True, error=None if kind is None else errorText(kind))
            self.assertEqual(self.called, ["onEnd", "waiter"])
            self.called.clear()

    def test_emptyBatches(self) -> None:
        """
        A batch may be empty without being the last.
        """
        self.makeStream()
        self.assertTrue(self.waits())
        for _ in range(3):
            self.source.answer()
        self.source.answer(1)
        self.assertEqual(self.called, ["waiter"])

    def test_withdraw(self) -> None:
        """
        A waiter that does not want to wait any more is not called, and what comes is kept for the next.
        """
        stream = self.makeStream()
        self.assertTrue(self.waits())
        stream.withdraw()
        self.assertFalse(stream.isWaitedFor)
        self.source.answer(1, 2)
        self.assertFalse(self.waits())
        self.assertEqual((self.called, self.popAll()), ([], [1, 2]))

    def test_withdrawAndAskAgain(self) -> None:
        """
        Does not pull twice.
        """
        stream = self.makeStream()
        self.assertTrue(self.waits(name="first"))
        stream.withdraw()
        self.assertTrue(self.waits(name="second"))
        self.assertEqual(self.source.pulled, [16])
        self.source.answer(1)
        self.assertEqual(self.called, ["second"])

    def test_foresight(self) -> None:
        """
        Of a source that tells whether more is to come, one item is enough; otherwise, it takes two.
        """
        self.assertEqual(self.makeStream(tellsEnd=True).foresight, 1)
        self.assertEqual(self.makeStream(tellsEnd=False).foresight, 2)

    def test_Z22_errorBehindItems(self) -> None:
        """
        The items before an error are there, and there is more, then the error, once.
        """
        for number in (0, 1, WINDOW):
            stream = self.makeStream(failing(number))
            self.assertFalse(self.waits())
            self.assertEqual(self.popAll(), list(range(number)))
            self.assertTrue(stream.hasMore())
            failure = stream.conclude()
            assert failure is not None
            self.assertTrue(failure.check(KeyError))
            self.assertTrue(failure.check(WorkerError))
            self.assertIsNone(stream.conclude())
            self.assertFalse(stream.hasMore())

    def test_sourceFails(self) -> None:
        """
        The failure of a pull is an error of the stream.
        """
        stream = self.makeStream()
        self.waits()
        self.source.fail(KeyError("wrong"))
        self.assertEqual(self.called, ["onEnd", "waiter"])
        failure = stream.conclude()
        assert failure is not None
        self.assertTrue(failure.check(KeyError))

    def test_failBehindItems(self) -> None:
        """
        Fail lets the items that wait be read first.
        """
        stream = self.makeStream(Batch([1, 2]))
        self.assertFalse(self.waits())
        stream.fail(ValueError("given up"))
        self.assertEqual(self.source.closed, 1)
        self.assertFalse(self.waits())
        self.assertEqual(self.popAll(), [1, 2])
        failure = stream.conclude()
        assert failure is not None
        self.assertIs(failure.type, ValueError)

    def test_failWhileWaited(self) -> None:
        """
        Whoever waits is called; what the source answers then is nobody's.
        """
        stream = self.makeStream()
        self.assertTrue(self.waits())
        stream.fail(ValueError("given up"))
        self.assertEqual(self.called, ["onEnd", "waiter"])
        self.source.answer(1, 2)
        self.assertEqual(self.popAll(), [])
        stream.conclude()
        self.assertEqual(self.done.fired, 1)

    def test_stopWhileWaited(self) -> None:
        """
        Whoever waits is called; what the source answers then, or fails with, is nobody's.
        """
        for later in (lambda: self.source.answer(1, isLast=True), lambda: self.source.fail(KeyError("wrong"))):
            stream = self.makeStream()
            self.assertTrue(self.waits())
            stream.stop()
            self.assertEqual(self.called, ["onEnd", "waiter"])
            later()
            self.assertEqual((self.called, self.popAll(), self.done.fired), (["onEnd", "waiter"], [], 1))
            self.called.clear()

    def test_stopDropsItems(self) -> None:
        """
        Nobody gets what waits.
        """
        stream = self.makeStream(failing(3))
        self.assertFalse(self.waits())
        stream.stop()
        self.assertEqual(self.popAll(), [])
        failure = stream.conclude()
        assert failure is not None
        self.assertIs(failure.type, CancelledError)

    def test_dropped(self) -> None:
        """
        Is a stop, where there is something to stop.
        """
        for ready in ([], [Batch([1])], [Batch([1], isLast=True)]):
            stream = self.makeStream(*ready)
            self.waits()
            stream.dropped()
            stream.dropped()
            self.assertIs(stream.state, STOPPED)
            self.assertEqual(self.done.value, False)


class ReentranceTests(StreamTestCase):
    """
    Iterators in the reactor that end their own streams while they are stepped.
    """

    def streamOf(self, func: Callable[[Stream], object], atTheEnd: bool, items: int) -> tuple[Stream, Numbers]:
        """
        Make a stream of a generator that does something to it before or after its items.
        """
        numbers = Numbers(0)

        def generate() -> Any:
            try:
                yield -1
                func(stream)
                yield from range(items)
            finally:
                if atTheEnd:
                    func(stream)
                numbers._close()

        clock = Clock()
        stream = Stream(IteratorSource(generate(), clock=clock))
        stream.onEnd = partial(self.called.append, "onEnd")
        self.done = Outcome(stream.done)
        self.stream = stream
        return stream, numbers

    def check(self, func: Callable[[Stream], object], atTheEnd: bool, items: int) -> None:
        """
        The stream has one end, and nothing behind it.
        """
        self.called.clear()
        stream, numbers = self.streamOf(func, atTheEnd, items)
        waiting = self.waits(WINDOW)
        self.assertFalse(waiting)
        if stream.state is STOPPED:
            self.assertEqual(self.popAll(), [])
        self.popAll()
        stream.conclude()
        stream.stop()
        self.assertEqual((self.called, self.done.fired, numbers.closed), (["onEnd"], 1, 1))

    def test_stop(self) -> None:
        """
        A generator that stops its stream, and goes on or ends: it is closed, and the stream is stopped.
        """
        for items in (3, 0):
            self.check(Stream.stop, False, items)
            self.assertIs(self.stream.state, STOPPED)

    def test_stopInFinally(self) -> None:
        """
        One that stops it in its C{finally}.
        """
        self.check(Stream.stop, True, 3)

    def test_fail(self) -> None:
        """
        A generator that has its stream fail, as one may that shuts its own queue down: the error reaches the reader.
        """
        for items in (3, 0):
            stream, numbers = self.streamOf(lambda each: each.fail(ValueError("given up")), False, items)
            self.called.clear()
            self.assertFalse(self.waits(WINDOW))
            self.popAll()
            failure = stream.conclude()
            self.assertIsNotNone(failure)
            self.assertEqual((self.called, self.done.fired, numbers.closed), (["onEnd"], 1, 1))

    def test_stopInFinallyWhenFailed(self) -> None:
        """
        A stream that fails while its generator's C{finally} stops it has one end.
        """
        stream, numbers = self.streamOf(lambda _: None, False, 100)
        self.stream = stream
        self.assertFalse(self.waits())

        def generate() -> Any:
            try:
                while True:
                    yield 1
            finally:
                other.stop()

        other = Stream(IteratorSource(generate(), clock=Clock()))
        done = Outcome(other.done)
        other.onEnd = partial(self.called.append, "other")
        self.assertTrue(other.request(lambda: None))
        other.fail(ValueError("given up"))
        other.stop()
        self.assertEqual((done.fired, self.called), (1, ["other"]))
        stream.stop()
        self.assertEqual(numbers.closed, 1)


class DeadlineTests(StreamTestCase):
    """
    How long a source may take for its items.
    """

    def setUp(self) -> None:
        """
        Make the clock.
        """
        super().setUp()
        self.clock = Clock()

    def timed(self, **keywords: Any) -> Stream:
        """
        Make a stream whose source may take 5 seconds.
        """
        stream = self.makeStream(**keywords)
        stream.makeDeadline = lambda func: Deadline(self.clock, self.clock.seconds, 5, func)
        return stream

    def test_F56_tooLong(self) -> None:
        """
        The stream fails behind the items that are there, tells which item it was, and the source is closed.
        """
        stream = self.timed()
        self.assertTrue(self.waits(2))
        self.clock.advance(4)
        self.source.answer("a")
        self.clock.advance(4.9)
        self.assertEqual(self.called, [])
        self.clock.advance(0.2)
        self.assertEqual((self.called, self.source.closed), (["onEnd", "waiter"], 1))
        self.assertEqual(self.popAll(), ["a"])
        failure = stream.conclude()
        assert failure is not None
        self.assertIs(failure.type, TimeoutError)
        self.assertIn("item 1", str(failure.value))
        self.source.answer("late")
        self.assertEqual(self.popAll(), [])

    def test_F56_onlyWhileItIsAsked(self) -> None:
        """
        A reader may take its time.
        """
        self.timed()
        for _ in range(3):
            self.assertTrue(self.waits())
            self.clock.advance(4)
            self.source.answer("item")
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.popAll()
            self.clock.advance(100)
        self.assertIs(self.stream.state, FLOWING)

    def test_noTimerIsLeft(self) -> None:
        """
        However the stream ends.
        """
        ends: list[Callable[[Stream], object]] = [
            Stream.stop,
            lambda stream: stream.fail(ValueError("given up")),
            lambda _: self.source.answer(isLast=True),
            lambda _: self.source.fail(KeyError("wrong")),
        ]
        for end in ends:
            stream = self.timed()
            self.assertTrue(self.waits())
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            end(stream)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noTimerForWhatIsThere(self) -> None:
        """
        A source that answers at once needs none, with or without a Deferred.
        """
        stream = self.timed()
        self.source.ready.append(Batch([1]))
        self.assertFalse(self.waits())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        pulled = self.source.pull
        self.source.ready.append(Batch([2]))
        source: Any = self.source
        source.pull = lambda most: Deferred.fromCoroutine(later(pulled(most)))
        self.popAll()
        self.assertFalse(self.waits())
        self.assertEqual((self.popAll(), self.clock.getDelayedCalls()), ([2], []))
        stream.stop()


async def later(value: Any) -> Any:
    """
    Return the value.
    """
    return value
