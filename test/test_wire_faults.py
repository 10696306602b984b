"""
Wire workers and servers when something is wrong: with the connection, the other end, or what it says.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols import amp
from twisted.python.failure import Failure

from asynqueue.errors import NotAuthorized, PoisonTask, RemoteError, ResultEncodeError, VersionMismatch, WorkerLost
from asynqueue.process import frames
from asynqueue.protocol import commands, plain, records
from asynqueue.protocol.records import NUMBER, Splitter, numbersAs, record
from asynqueue.testing.wiretasks import Universe
from asynqueue.wire.connecting import LONGEST_DELAY
from asynqueue.wire.endpoints import serverEndpoint
from asynqueue.wire.hardened import BOX, FIRST_BOX, FIRST_PAIRS, PAIRS
from asynqueue.wire.identity import Identity
from asynqueue.wire.node import Node, NodeSettings
from asynqueue.wire.peers import authorizeCaller, authorizeRunner
from asynqueue.wire.registry import Registry
from asynqueue.wire.session import CALLS, Session
from test.nodes import IS_ROOT, MemoryEnd, MemoryTestCase, WireTestCase
from test.processes import LIMIT, SOAK, reactor
from test.support import Outcome


class Numbering(Universe):
    """
    Numbers the runs of a method.
    """

    async def numbered(self, seconds: float) -> str:
        """
        Take some seconds, and return which run this was.
        """
        self.noted.append("begun")
        number = self.noted.count("begun")
        await self._later(seconds)
        self.noted.append("done")
        return f"run {number}"


class ConnectionFaultTests(MemoryTestCase):
    """
    Connections that end, stall, or cannot be had.
    """

    def test_F100_lostMidCall(self) -> None:
        """
        What was sent may have run, and is lost; it is run again, or not, by the rule for losses.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run()
        again = self.call(queue, "telling", "again", 1.0)
        once = self.call(queue.options(idempotent=False), "telling", "once", 1.0)
        self.net.run(0.5)
        self.net.connections[0][0].close(ConnectionLost())
        self.net.run(0.5)
        self.assertFailed(once, WorkerLost)
        self.assertPending(again)
        self.net.run(2.0)
        self.assertValue(again, "again")
        noted = self.universe.noted
        self.assertEqual((noted.count(("begun", "again")), noted.count(("begun", "once"))), (2, 1))
        self.assertEqual(noted.count(("cancelled", "again")), 1)

    def test_F100_unsent(self) -> None:
        """
        What had not gone out was not started, and moves, uncounted.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run()
        self.net.cut()
        data = bytes(1 << 20)
        calls = [self.call(queue.options(idempotent=False), "echo", data) for _ in range(8)]
        self.net.run(1.0)
        self.net.connections[0][0].close(ConnectionLost())
        self.net.connections[0][1].close(ConnectionLost())
        self.net.run(5.0)
        lost = [call for call in calls if call.kind is not None]
        # The first fills what may be under way.
        self.assertEqual(len(lost), 1)
        for call in lost:
            self.assertFailed(call, WorkerLost)
        self.assertEqual(sum(call.value == data for call in calls), 7)
        self.assertEqual(queue.statistics().reruns, 0)

    def test_F100_thirdTime(self) -> None:
        """
        A call whose connection is lost each time is not run for ever.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        call = self.call(queue, "later", 100.0)
        for _ in range(3):
            self.net.run(3.0)
            self.net.connections[-1][0].close(ConnectionLost())
        self.net.run(1.0)
        self.assertEqual(len(self.assertFailed(call, PoisonTask).history), 3)

    def test_F101_halfOpen(self) -> None:
        """
        A connection over which nothing comes any more is found out in 16 seconds, at both ends.
        """
        for delay in (0.0, 2.4, 4.9):
            server = self.serve()
            queue = self.client(whenLost="reconnect")
            call = self.call(queue.options(idempotent=False), "telling", "one", 100.0)
            self.net.run(delay)
            self.assertIn(("begun", "one"), self.universe.taken())
            assert server.node is not None
            self.net.cut()
            self.net.run(9.8)
            self.assertPending(call)
            self.net.run(6.2)
            self.assertFailed(call, WorkerLost)
            self.assertIn(("cancelled", "one"), self.universe.taken())
            self.net.heal()
            self.net.run(1.0)
            self.assertValue(self._soon(queue), 1)
            self.shutDownNow(queue)
            server.stop()
            self.net.run(1.0)

    def _soon(self, queue: Any) -> Outcome:
        outcome = self.call(queue, "echo", 1)
        self.net.run(31.0)
        return outcome

    def shutDownNow(self, queue: Any) -> None:
        """
        Shut a queue down.
        """
        done = Outcome(queue.shutdown())
        self.net.run(1.0)
        self.assertEqual(done.fired, 1)

    def test_F102_slowInOneDirection(self) -> None:
        """
        An end that sends much over a slow connection hears of the other all the time, and does not give up.
        """
        self.serve()
        queue = self.client(whenLost="reconnect", N_concurrent=1)
        self.net.run()
        here, _ = self.net.connections[0]
        here.isCut = True
        calls = [self.call(queue, "echo", bytes(20_000)) for _ in range(20)]
        for _ in range(120):
            self.net.run(1.0)
            # What the server hears is a few bytes at a time.
            here.trickle(1024)
        self.assertPending(calls[-1])
        here.isCut = False
        self.net.run(1.0)
        self.assertEqual([len(call.value) for call in calls], [20_000] * 20)
        self.assertEqual(len(self.net.connections), 1)

    def test_F102_largeBoxes(self) -> None:
        """
        A long value comes through at 1 KiB a second, in either direction, though one box of it takes four minutes.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run()
        here, there = self.net.connections[0]
        data = bytes(300 << 10)
        for end, call in ((here, ("echo", data)), (there, ("repeat", len(data)))):
            end.isCut = True
            outcome = self.call(queue, *call)
            for _ in range(320):
                self.net.run(1.0)
                end.trickle(1024)
            end.isCut = False
            self.net.run(1.0)
            self.assertValue(outcome, data)
        self.assertEqual(len(self.net.connections), 1)

    def test_F103_partition(self) -> None:
        """
        After a partition of 30 seconds the reply that comes late is dropped, and the call has one outcome.
        """
        self.universe = Numbering()
        self.universe.clock = self.net
        self.serve()
        queue = self.client(whenLost="reconnect")
        call = self.call(queue, "numbered", 20.0)
        self.net.run(1.0)
        [(here, there)] = self.net.connections
        link = here.protocol
        # What the client says arrives, so that the server keeps the connection, until the client gives it up.
        there.isCut = True
        self.net.isDown = True
        self.net.run(14.0)
        self.assertFalse(here.isClosed)
        here.isCut = True
        self.net.run(10.0)
        self.assertEqual((here.isClosed, there.isClosed), (True, False))
        reply = b"".join(there.sent)
        self.assertIn(b"run 1", reply)
        self.net.run(5.0)
        self.net.isDown = False
        self.net.heal()
        for _ in range(31):
            if len(self.net.connections) < 2:
                self.net.run(1.0)
        self.assertEqual(self.universe.noted, ["begun", "done", "begun"])
        link.dataReceived(reply)
        self.net.run(1.0)
        self.assertPending(call)
        self.net.run(20.0)
        self.assertValue(call, "run 2")
        self.assertEqual(self.universe.noted, ["begun", "done", "begun", "done"])
        self.assertEqual(queue.statistics().settled, 1)

    def test_F105_backOff(self) -> None:
        """
        Attempts become rarer, up to one in half a minute, and are not made in step; then there is a connection.
        """
        self.net.isDown = True
        queue = self.client()
        call = self.call(queue, "echo", 1)
        self.net.run(300.0)
        pauses = [after - before for before, after in zip(self.net.attempts, self.net.attempts[1:], strict=False)]
        self.assertGreaterEqual(len(pauses), 12)
        for number, pause in enumerate(pauses):
            most = min(0.1 * 2**number, LONGEST_DELAY)
            self.assertGreaterEqual(pause, most / 2)
            self.assertLess(pause, most + 0.2)
        self.assertGreater(len({round(pause, 2) for pause in pauses[-4:]}), 1)
        self.serve()
        self.net.isDown = False
        self.net.run(31.0)
        self.assertValue(call, 1)

    def test_F105_doorsThatOpenOntoNothing(self) -> None:
        """
        A server that takes connections and drops them is not stormed.
        """
        self.serve()
        self.client(whenLost="reconnect")
        for _ in range(600):
            self.net.run(0.1)
            for here, _there in self.net.connections:
                if not here.isClosed:
                    here.close(ConnectionLost())
        self.assertLess(len(self.net.attempts), 15)

    def test_F118_idle(self) -> None:
        """
        A connection that nothing is to be said over stays, with something said every few seconds.
        """
        self.serve()
        queue = self.client()
        self.net.run()
        here, there = self.net.connections[0]
        for _ in range(60):
            before = here.delivered, there.delivered
            self.net.run(10.0)
            self.assertGreater(here.delivered, before[0])
            self.assertGreater(there.delivered, before[1])
        self.assertEqual(len(self.net.connections), 1)
        self.assertLess(here.delivered + there.delivered, 60_000)
        call = self.call(queue, "echo", 1)
        self.net.run()
        self.assertValue(call, 1)

    def test_F118_droppedWhileIdle(self) -> None:
        """
        One that a router has forgotten meanwhile is found out, and a call waits no longer than that.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run(300.0)
        self.net.cut()
        call = self.call(queue, "echo", 1)
        self.net.run(17.0)
        self.net.run(2.0)
        self.assertValue(call, 1)


class Answering(amp.AMP):
    """
    A server that answers a hello with whatever it is told to.
    """

    transport: Any

    def __init__(self, answer: dict[bytes, bytes], then: Iterable[bytes] = ()) -> None:
        super().__init__()
        self._answer = answer
        self._then = then

    def makeConnection(self, transport: Any) -> None:
        """
        Begin, without a line in the log.
        """
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End, likewise.
        """
        amp.BinaryBoxProtocol.connectionLost(self, reason)

    def ampBoxReceived(self, box: Any) -> None:
        """
        Answer the hello, and say something after it.
        """
        if box.get(amp.COMMAND) == b"hello" and self._answer[b"version"]:
            self.transport.write(amp.Box({amp.ANSWER: box[amp.ASK], **self._answer}).serialize())
            for data in self._then:
                self.transport.write(data)


#: Attributes that an exception has as methods.
SHADOWS = {"with_traceback": "x", "add_note": 1}

HELLO = {b"version": b"1", b"node": b"odd", b"serializer": b"plain", b"capacity": b"1", b"limit": b"1000"}


class OddServerTests(MemoryTestCase):
    """
    Servers that do not say what they should.
    """

    def listen(self, answer: dict[bytes, bytes] | None = None, then: Iterable[bytes] = ()) -> None:
        """
        Listen for clients.
        """
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: Answering({**HELLO, **(answer or {})}, then)  # type: ignore[method-assign]
        endpoint = serverEndpoint(self.net, "tcp:1:interface=127.0.0.1", insecure_plaintext=True, insecure_root=IS_ROOT)
        self.successResultOf(endpoint.listen(factory))

    def test_F106_versions(self) -> None:
        """
        Without a version in common the worker leaves, says why, and does not try again.
        """
        for version in (b"0", b"2", b"-1", b"99999999999999999999"):
            self.net.attempts.clear()
            self.listen({b"version": version})
            queue = self.makeQueue()
            attached = Outcome(queue.attachWorker(self.worker(whenLost="reconnect")))
            self.net.run(60.0)
            error = self.assertFailed(attached, VersionMismatch)
            self.assertIn("understands none of the versions 1 to 1", str(error))
            self.assertEqual((len(self.net.attempts), queue.workers()), (1, []))
            self.net.tcpServers.clear()

    def test_F106_garbage(self) -> None:
        """
        So it does with an answer that is none, and what it says of it can be shown.
        """
        for wrong in (
            {b"version": b"one"},
            {b"version": b"one", b"node": b""},
            {b"limit": b"\xff"},
            {b"capacity": b"{}"},
            {b"node": b"\xff\xfe"},
            {b"version": b"\x1b[2J\r\n"},
        ):
            self.net.attempts.clear()
            self.listen(wrong)
            queue = self.makeQueue()
            attached = Outcome(queue.attachWorker(self.worker(whenLost="reconnect")))
            self.net.run(60.0)
            text = str(self.assertFailed(attached, VersionMismatch))
            self.assertIn("not understood", text)
            self.assertTrue(text.isprintable() and len(text) < 2000, text)
            self.assertEqual((len(self.net.attempts), queue.workers()), (1, []))
            self.net.tcpServers.clear()

    def test_silent(self) -> None:
        """
        A server that does not answer is given up after five seconds.
        """
        self.listen({b"version": b""})
        queue = self.client()
        self.net.run(4.9)
        self.assertEqual(len(self.net.connections), 1)
        self.net.run(2.0)
        self.assertGreater(len(self.net.attempts), 1)
        self.assertEqual(queue.workers()[0].capacity, 0)

    def test_pickles(self) -> None:
        """
        A server that would send pickles, and is not trusted with code, is left; so is one that writes unknown ways.
        """
        for serializer in (b"pickle", b"yaml", b"__class__"):
            self.net.attempts.clear()
            self.listen({b"serializer": serializer})
            queue = self.makeQueue()
            attached = Outcome(queue.attachWorker(self.worker(whenLost="reconnect")))
            self.net.run(60.0)
            self.assertFailed(attached, NotAuthorized)
            self.assertEqual(len(self.net.attempts), 1)
            self.net.tcpServers.clear()

    def test_oddNumbers(self) -> None:
        """
        A capacity and a limit that cannot be are taken for what comes next to them.
        """
        self.listen({b"capacity": b"-5", b"limit": b"-5"})
        queue = self.client()
        call = self.call(queue, "echo", 1)
        self.net.run(1.0)
        self.assertEqual(queue.workers()[0].capacity, 1)
        self.assertIn("1 are the most", str(call.error))

    def test_F114_answers(self) -> None:
        """
        A server that answers what it has not been asked is left at once; no call gets an outcome by that.
        """
        for box in (
            {amp.ANSWER: b"77"},
            {amp.ANSWER: b"1", b"version": b"1"},
            {amp.ERROR: b"1", b"_error_code": b"UNKNOWN", b"_error_description": b"x"},
            {amp.ANSWER: b""},
        ):
            self.net.connections.clear()
            self.listen(then=[amp.Box(box).serialize()])
            queue = self.client(whenLost="reconnect")
            call = self.call(queue.options(idempotent=False), "echo", 1)
            self.net.run(0.05)
            self.assertTrue(all(end.isClosed for end in self.net.connections[0]))
            self.assertNotEqual(call.value, 1)
            self.shutDownHere(queue)

    def shutDownHere(self, queue: Any) -> None:
        """
        Shut a queue down, and forget the server.
        """
        done = Outcome(queue.shutdown(drain=False, deadline=0.0))
        self.net.run(1.0)
        self.assertEqual(done.fired, 1)
        self.net.tcpServers.clear()

    def test_F114_outcomes(self) -> None:
        """
        Outcomes of calls that are not there, or have one, are dropped; those in any order belong to their calls.
        """
        value = plain.dumps
        outcomes = [
            record(records.RESULT, 77, value("of nothing")),
            record(records.ITEMS, 3, value([1])),
            record(records.STREAM_END, 3),
            record(records.STREAM, 78),
            record(records.CANCELLED, 79),
            record(records.BEGUN, 0, numbersAs([1 << 60])),
        ]
        self.listen({b"capacity": b"5", b"limit": b"10000"}, [_box(commands.Outcome, b"".join(outcomes))])
        queue = self.client()
        calls = [self.call(queue.options(idempotent=False), "echo", number) for number in range(3)]
        self.net.run(0.1)
        _, there = self.net.connections[0]
        for number, text in ((3, "c"), (1, "a"), (3, "c again"), (2, "b"), (1, "a again")):
            there.write(_box(commands.Outcome, record(records.RESULT, number, value(text))))
        self.net.run(0.1)
        self.assertEqual([call.value for call in calls], ["a", "b", "c"])
        self.assertEqual([call.fired for call in calls], [1, 1, 1])

    def test_F114_records(self) -> None:
        """
        Records that a node has no reason to send end the connection.
        """
        for odd in (
            record(99, 1),
            record(records.CALL, 5, b"x"),
            record(records.TOOK, 1, bytes(8)),
            record(records.UNREADY, 0, b"x"),
            # What children without a reactor send.
            record(frames.RESULT_PARTS, 1, b"x"),
            record(frames.STACK_TEXT, 1, b"x"),
            record(records.BEGUN, 0),
            record(records.BEGUN, 0, b"123"),
            record(records.RECALLED, 0, b""),
            record(records.RECALLED, 0, NUMBER.pack(5)),
            record(records.STREAM, 1) + record(records.ITEMS, 1, plain.dumps(list(range(99)))),
        ):
            self.net.connections.clear()
            self.listen({b"capacity": b"5", b"limit": b"10000"}, [_box(commands.Outcome, odd)])
            queue = self.client(whenLost="reconnect")
            call = self.call(queue.options(idempotent=False), "echo", 1)
            self.net.run(0.05)
            self.assertTrue(all(end.isClosed for end in self.net.connections[0]), odd)
            self.assertNotEqual(call.value, 1)
            self.shutDownHere(queue)

    def test_S1_server(self) -> None:
        """
        No pickle of a server is read, in whatever field of whatever box or record it stands, unless the server has the
        role C{code} and says that it writes pickles.
        """
        marker = os.path.abspath(self.mktemp())
        for bomb in (pickle.dumps(_Bomb(marker), protocol) for protocol in (0, 2, 5)):
            answers = [{field: bomb} for field in HELLO] + [{b"other": bomb}, {b"serializer": b"pickle"}]
            refusal = {amp.ERROR: b"1", b"_error_code": b"not-authorized", b"_error_description": bomb}
            kinds = (*range(33, 47), 0, 255)
            bodies = (bomb, plain.dumps(bomb), len(bomb).to_bytes(4, "little") + bomb)
            outcomes = [record(kind, 1, body) for kind in kinds for body in bodies]
            outcomes += [record(records.STREAM, 1) + record(records.ITEMS, 1, body) for body in bodies]
            sent = [*everyBox(bomb), amp.Box(refusal).serialize()]
            sent += [_box(commands.Outcome, outcome) for outcome in outcomes]
            for answer, then in [(answer, b"") for answer in answers] + [({}, data) for data in sent]:
                self.net.connections.clear()
                self.listen(answer, [then])
                queue = self.client(whenLost="reconnect")
                self.call(queue.options(idempotent=False), "echo", 1)
                self.net.run(0.05)
                self.shutDownHere(queue)
                self.assertFalse(os.path.exists(marker), "a pickle was read")

    def test_S10_results(self) -> None:
        """
        What is told of errors makes exceptions of known classes only, and calls nothing.
        """
        before = (1, "x")
        stories: list[Any] = [
            ("", ("os.system", "text", "traceback", plain.dumps((("echo no",), {})), None, None, False)),
            ("", ("builtins.eval", "text", "traceback", plain.dumps((("1/0",), {})), None, None, False)),
            ("", ("builtins.ValueError", "text", "traceback", b"garbage", None, None, False)),
            ("", ("builtins.ValueError", "text", "tb", plain.dumps(((), {"__class__": 1, "_x": 2})), None, None, 0)),
            ("", "short"),
            ("nowhere", ("builtins.ValueError", "text", "traceback", b"", None, None, False)),
            (5, 6),
            "text",
            None,
            before,
            # Without these nobody could raise, or show, what comes of it.
            ("", ("builtins.ValueError", "text", "tb", plain.dumps((("m",), SHADOWS)), None, None, False)),
            ("", ("\x1b[2J\r\n" * 1000, "\x1b[2J", "\x1b[2J\r", b"", None, None, False)),
            ("result", ("\x1b[2J\r\n" * 1000, "\x1b[2J", "traceback", b"", None, None, False)),
        ]
        self.listen({b"capacity": b"20", b"limit": b"10000"})
        queue = self.client()
        calls = [self.call(queue, "echo", 1) for _ in [*stories, *stories]]
        self.net.run(0.1)
        _, there = self.net.connections[0]
        for number, story in enumerate(stories, 1):
            there.write(_box(commands.Outcome, record(records.ERROR, number, plain.dumps(story))))
        for number in range(len(stories) + 1, len(calls) + 1):
            there.write(_box(commands.Outcome, record(records.ERROR, number, os.urandom(50))))
        self.net.run(0.1)
        for call in calls:
            failure: Any = call.failure
            self.assertFailed(call)
            self.assertTrue(issubclass(type(call.error), RemoteError | ValueError | ResultEncodeError), call.error)
            self.assertRaises(type(call.error), failure.raiseException)
            for text in (str(call.error), str(getattr(call.error, "remoteType", ""))):
                self.assertLess(len(text), 10_000)
                self.assertNotIn("\x1b", text)


def _box(command: type[amp.Command], data: bytes, name: bytes = b"records") -> bytes:
    """
    Return the bytes of a command of one argument.
    """
    return amp.Box({amp.COMMAND: command.commandName, name: data}).serialize()  # type: ignore[no-any-return]


class Client(Protocol):
    """
    The other end of a session, which writes bytes.
    """

    def __init__(self) -> None:
        self.boxes: list[Any] = []
        self.isLost = False
        self._parts = b""
        self._splitter = Splitter(1 << 30)

    def dataReceived(self, data: bytes) -> None:
        """
        Take boxes.
        """
        self._parts += data
        while b"\0\0" in self._parts:
            try:
                self.boxes += amp.parseString(self._parts)
            except Exception:  # the end of the last box is not there
                return
            self._parts = b""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Take note.
        """
        self.isLost = True

    def outcomes(self) -> dict[int, tuple[int, bytes]]:
        """
        Return the outcomes of calls, by their numbers, that have come since.
        """
        found = {}
        boxes, self.boxes = self.boxes, []
        for box in boxes:
            if box.get(amp.COMMAND) == b"outcome":
                for kind, _, number, body in self._splitter.feed(box[b"records"]):
                    if kind in (records.RESULT, records.NOTHING, records.ERROR):
                        found[number] = kind, body
        return found


class SessionTestCase(MemoryTestCase):
    """
    Tests of sessions, whose clients write bytes.
    """

    def setUp(self) -> None:
        """
        Make a node.
        """
        super().setUp()
        self.node = self.makeNode()
        self.ends: list[MemoryEnd] = []

    def makeNode(self, **keywords: Any) -> Node:
        """
        Make a node.
        """
        node = Node(Registry(self.universe), settings=NodeSettings(name="node", **keywords), reactor=self.net)
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self._stop(node))))
        return node

    async def _stop(self, node: Node) -> None:
        stopped = Deferred.fromCoroutine(node.stop(0.0))
        self.net.run(5.0)
        await stopped

    def connect(self, roles: Iterable[str] = ("submit",), how: str = "unix", node: Node | None = None) -> Client:
        """
        Connect a client.
        """
        client = Client()
        session = Session(node or self.node)
        pair = MemoryEnd.pair(self.net, client, session)
        pair[1].identity = Identity("somebody", roles, how)
        self.net.connections.append(pair)
        session.makeConnection(pair[1])
        client.makeConnection(pair[0])
        client.session = session  # type: ignore[attr-defined]
        return client

    def say(self, client: Any, data: bytes) -> None:
        """
        Have a client write something.
        """
        client.transport.write(data)
        self.net.run()

    def greet(self, client: Any, **changes: bytes) -> None:
        """
        Have it say hello.
        """
        self.say(client, hello(**changes))

    def guest(self, roles: Iterable[str] = ("submit",), how: str = "unix", node: Node | None = None) -> Client:
        """
        Connect a client that has said hello.
        """
        client = self.connect(roles, how, node)
        self.greet(client)
        self.assertFalse(client.isLost)
        return client

    def assertEnded(self, client: Client) -> None:
        """
        The connection of a client has been ended.
        """
        self.net.run()
        self.assertTrue(client.isLost, "the connection is still there")


def hello(**changes: bytes) -> bytes:
    """
    Return a hello.
    """
    box = {
        b"_command": b"hello",
        b"_ask": b"1",
        b"oldest": b"1",
        b"newest": b"1",
        b"node": b"client",
        b"limit": b"1000000",
    }
    box.update({name.encode("ascii"): value for name, value in changes.items()})
    return amp.Box(box).serialize()  # type: ignore[no-any-return]


def bodyOf(name: str, args: Any = (), kw: Any = None, *wanted: Any) -> bytes:
    """
    Return the body of a call.
    """
    rest = wanted or (1, 1, 0, 0, None, None, False, True)
    return bytes([len(name)]) + name.encode("ascii") + plain.dumps([args, {} if kw is None else kw, *rest])


class HelloTests(SessionTestCase):
    """
    Before anything else.
    """

    def test_F106_versions(self) -> None:
        """
        The highest version that both understand is spoken; without one, the client is told, and let go.
        """
        for oldest, newest, version in (
            (b"1", b"1", b"1"),
            (b"0", b"1", b"1"),
            (b"1", b"99", b"1"),
            (b"-5", b"5", b"1"),
            (b"2", b"3", b"0"),
            (b"0", b"0", b"0"),
            (b"9", b"1", b"0"),
            (b"3", b"-3", b"0"),
        ):
            client = self.connect()
            self.greet(client, oldest=oldest, newest=newest)
            self.assertEqual(client.boxes[0][b"version"], version)
            self.assertEqual(client.isLost, version == b"0")

    def test_F106_garbage(self) -> None:
        """
        A hello that is none ends the connection.
        """
        for changes in (
            {"oldest": b"one"},
            {"newest": b""},
            {"newest": b"1" * 4300},
            {"limit": b"\xff"},
            {"node": b"\xff"},
            {"oldest": b"1.5"},
        ):
            client = self.connect()
            self.greet(client, **changes)
            self.assertEnded(client)

    def test_roles(self) -> None:
        """
        Who may not have calls run is told so, and let go.
        """
        for roles, isIn in (
            ([], False),
            (["read"], False),
            (["worker"], False),
            (["submit"], True),
            (["control"], True),
            (["admin"], True),
            (["code"], True),
        ):
            client = self.connect(roles)
            self.greet(client)
            self.assertEqual(client.isLost, not isIn)
            if not isIn:
                self.assertEqual(client.boxes[0][b"_error_code"], b"not-authorized")

    def test_F109_garbage(self) -> None:
        """
        Garbage ends the connection, before and after the hello; that of others is not touched.
        """
        other = self.guest()
        for data in (
            b"\xff\xff",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0\0",
            b"\0\1a\0\1b\0\0",
            os.urandom(5000) + b"\xff" * 10,
            _box(commands.Ping, b""),
            _box(commands.Run, b"x"),
            b"\0\1a" * 100,
            amp.Box({b"_command": b"StartTLS", b"_ask": b"1"}).serialize(),
            amp.Box({b"_command": b"\xff\xfe", b"_ask": b"1"}).serialize(),
            amp.Box({b"_command": b"__class__", b"_ask": b"1"}).serialize(),
            amp.Box({b"_command": b"HELLO", b"_ask": b"1"}).serialize(),
            amp.Box({b"_answer": b"1"}).serialize(),
            amp.Box({b"_error": b"1"}).serialize(),
        ):
            for client in (self.connect(), self.guest()):
                if b"ping" not in data and not (b"run" in data and client.boxes):
                    self.say(client, data)
                    self.assertEnded(client)
        self.say(other, _box(commands.Run, record(records.CALL, 1, bodyOf("echo", (5,)))))
        self.assertEqual(other.outcomes(), {1: (records.RESULT, plain.dumps(5))})

    def test_helloTwice(self) -> None:
        """
        A second hello ends the connection.
        """
        client = self.guest()
        self.greet(client)
        self.assertEnded(client)

    def test_S5_firstBox(self) -> None:
        """
        Before the hello, a box may have 8 pairs and 4 KiB, and no more of one is held.
        """
        room = FIRST_BOX - len(b"".join(b"_command_askoldestnewestnodelimit".split(b"-"))) - len(b"hello111") - 7
        for size, isIn in ((room, True), (room + 1, False), (10 * room, False)):
            client = self.connect()
            self.greet(client, node=b"x" * size)
            self.assertEqual(not client.isLost, isIn, f"{size} bytes of a name")
        for extra, isIn in ((FIRST_PAIRS - 6, True), (FIRST_PAIRS - 5, False), (10 * FIRST_PAIRS, False)):
            client = self.connect()
            self.greet(client, **{f"x{number}": b"" for number in range(extra)})
            self.assertEqual(not client.isLost, isIn, f"{extra} pairs more")

    def test_S5_heldBeforeHello(self) -> None:
        """
        However it is sent, no more than 4 KiB of what somebody says is held before the hello.
        """
        held: list[int] = []
        for data in (
            b"\0\1a\xff\xff" + bytes(65_535),
            b"\0\1a\x10\0" + bytes(4096),
            (b"\0\1a\0\xff" + bytes(255)) * 100,
            b"\0\xff" + b"k" * 255 + b"\xff\xff" + bytes(65_535),
            b"".join(b"\0\1" + bytes([each]) + b"\1\xf4" + bytes(500) for each in b"abcdefghijk"),
        ):
            client = self.connect()
            most = 0
            for place in range(0, len(data), 100):
                self.say(client, data[place : place + 100])
                # It is another one when the connection has been ended.
                most = max(most, client.session._reader.held)  # type: ignore[attr-defined]
            self.assertLessEqual(most, FIRST_BOX)
            held.append(most)
            self.assertEnded(client)
        # Whoever keeps to the limits until then is listened to.
        self.assertGreater(max(held), FIRST_BOX - 300)

    def test_F111_slow(self) -> None:
        """
        Whoever says hello one byte a second, or nothing, is dropped after five seconds; others are served meanwhile.
        """
        slow = [self.connect() for _ in range(50)]
        honest = self.guest()
        for number in range(4):
            for client in slow[:25]:
                self.say(client, hello()[number : number + 1])
            self.net.run(1.2)
        self.assertEqual([client.isLost for client in slow], [False] * 50)
        self.say(honest, _box(commands.Run, record(records.CALL, 1, bodyOf("echo", (5,)))))
        self.assertEqual(len(honest.outcomes()), 1)
        self.net.run(0.3)
        self.assertEqual([client.isLost for client in slow], [True] * 50)
        self.assertFalse(honest.isLost)

    def test_S7_fileDescriptors(self) -> None:
        """
        A file that is passed is closed, and the connection ended.
        """
        client = self.guest()
        descriptor = os.open(os.devnull, os.O_RDONLY)
        client.session.fileDescriptorReceived(descriptor)  # type: ignore[attr-defined]
        self.assertRaises(OSError, os.fstat, descriptor)
        self.assertEnded(client)


class BoxTests(SessionTestCase):
    """
    After the hello.
    """

    def test_S5_pairs(self) -> None:
        """
        A box may have 32 pairs; one more ends the connection, and so does a box without an end.
        """
        for number, isIn in ((PAIRS - 1, True), (PAIRS, False), (10 * PAIRS, False)):
            client = self.guest()
            pairs = {f"x{each}".encode("ascii"): b"" for each in range(number)}
            self.say(client, amp.Box({b"_command": b"ping", **pairs}).serialize())
            self.assertEqual(not client.isLost, isIn)

    def test_F110_bytes(self) -> None:
        """
        A box may have 256 KiB; one byte more ends the connection.
        """
        for size, isIn in ((BOX, True), (BOX + 1, False), (10 * BOX, False)):
            client = self.guest()
            values: list[tuple[bytes, bytes]] = []
            left = size - len(b"_commandping")
            while left > 3:
                part = min(left - 3, 65_535)
                values.append((f"{len(values):03}".encode("ascii"), bytes(part)))
                left -= part + 3
            if left:
                values[-1] = (values[-1][0] + b"x" * left, values[-1][1])
            self.say(client, amp.Box({b"_command": b"ping", **dict(values)}).serialize())
            self.assertEqual(not client.isLost, isIn, size)

    def test_F110_declared(self) -> None:
        """
        A call that says that it is longer than one may be ends the connection, before it is there.
        """
        node = self.makeNode(limit=1000)
        for size, isIn in ((1000, True), (1001, False), (10_000, False), (0xFFFFFFFF, False)):
            client = self.guest(node=node)
            self.say(client, _box(commands.Run, record(records.CALL, 1)[:-4] + size.to_bytes(4, "little")))
            self.assertEqual(not client.isLost, isIn)

    def test_S5_boxTime(self) -> None:
        """
        A box may take 30 seconds.
        """
        client = self.guest()
        data = amp.Box({b"_command": b"ping", b"x": b"y" * 100}).serialize()
        for number in range(29):
            self.say(client, data[number : number + 1])
            self.net.run(1.0)
        self.assertFalse(client.isLost)
        self.say(client, data[29:] + data[:5])
        for number in range(5, 33):
            self.net.run(1.0)
            self.say(client, data[number : number + 1])
        self.assertFalse(client.isLost)
        self.net.run(2.5)
        self.assertTrue(client.isLost)

    def test_S5_boxRate(self) -> None:
        """
        And longer, as long as 256 bytes of it come in a second.
        """
        data = amp.Box({b"_command": b"ping", b"_ask": b"1", b"x": bytes(60_000)}).serialize()
        for rate, isIn in ((256, True), (255, False), (25, False)):
            client = self.guest()
            for number in range(100):
                self.say(client, data[number * rate : (number + 1) * rate])
                # The other end is heard all the time.
                self.net.run(1.0)
            self.assertEqual(not client.isLost, isIn, rate)

    def test_S5_calls(self) -> None:
        """
        A connection may have 8,192 calls outstanding; one more ends it.
        """
        for number, isIn in ((CALLS, True), (CALLS + 1, False), (10 * CALLS, False)):
            client = self.guest()
            body = bodyOf("later", (100.0,))
            for start in range(0, number, 500):
                numbers = range(start, min(start + 500, number))
                self.say(client, _box(commands.Run, b"".join(record(records.CALL, 1 + each, body) for each in numbers)))
            self.assertEqual(not client.isLost, isIn)
            client.transport.abortConnection()  # type: ignore[union-attr]
            self.net.run()

    def test_S4_names(self) -> None:
        """
        A name is looked up as it is, and nothing else: whatever is in it, it is the name of something, or of nothing.
        """
        client = self.guest()
        names = [
            b"__class__",
            b"__init__",
            b"_hidden",
            b"Inner",
            b"attribute",
            b"wireServer",
            b"check",
            b"methodNames",
            b"echo.__globals__",
            b"echo\0",
            b"echo\n",
            b" echo",
            b"ECHO",
            b"\xd0\xb5cho",
            b"\xff",
            b"os.system",
            b"builtins.eval",
            b"a" * 65,
            b"a" * 255,
        ]
        for number, name in enumerate(names, 1):
            body = bytes([len(name)]) + name + bodyOf("")[1:]
            self.say(client, _box(commands.Run, record(records.CALL, number, body)))
        outcomes = client.outcomes()
        self.assertEqual(len(outcomes), len(names))
        for kind, body in outcomes.values():
            where, story = plain.loads(body)
            self.assertEqual((kind, where, story[0]), (records.ERROR, "", "asynqueue.errors.NotAuthorized"))
        self.assertEqual(self.universe.noted, [])

    def test_S3_roles(self) -> None:
        """
        Each role calls what is for it, and for those that it includes.
        """
        ladder = {"tests.read": "read", "tests.echo": "submit", "tests.control": "control", "tests.admin": "admin"}
        steps = list(ladder.values())
        for roles in (["submit"], ["control"], ["admin"], ["code"], ["read", "code"], ["submit", "worker"]):
            client = self.guest(roles, "insecure")
            for number, (name, needed) in enumerate({**ladder, "tests.code": "code", "echo": "submit"}.items(), 1):
                self.say(client, _box(commands.Run, record(records.CALL, number, bodyOf(name))))
                [(kind, _)] = client.outcomes().values()
                own = max((steps.index(role) for role in roles if role in steps), default=-1)
                isIn = "code" in roles if needed == "code" else own >= steps.index(needed)
                self.assertEqual(kind != records.ERROR, isIn, (roles, name))

    def test_wantedIsLookedAt(self) -> None:
        """
        How a call is to be run cannot be said in a way that harms the node.
        """
        good: tuple[Any, ...] = (1, 1, 0, 0, None, None, False, True)
        wrongs: list[tuple[int, Any]] = [
            (0, "x"),
            (1, None),
            (2, 21),
            (2, -103),
            (2, 1.5),
            (2, True),
            (2, "nice"),
            (3, 65),
            (3, -1),
            (3, []),
            (4, -1.0),
            (4, "1"),
            (4, float("nan")),
            (5, float("inf")),
            (5, []),
        ]
        client = self.guest()
        numbers = count(1)
        for place, wrong in wrongs:
            wanted = (*good[:place], wrong, *good[place + 1 :])
            self.say(client, _box(commands.Run, record(records.CALL, next(numbers), bodyOf("echo", (), {}, *wanted))))
            [(kind, body)] = client.outcomes().values()
            self.assertEqual(kind, records.ERROR, wanted)
            self.assertEqual(plain.loads(body)[0], "arguments")
        for args, kw in (("text", {}), (5, {}), (None, {}), ((), []), ((), "ab"), ({}, {}), ((), {1: 2})):
            self.say(client, _box(commands.Run, record(records.CALL, next(numbers), bodyOf("keywords", args, kw))))
            [(kind, _)] = client.outcomes().values()
            self.assertEqual(kind, records.ERROR, (args, kw))
        for rest in ([], [1], [1, 2], 5, "text", {"a": 1}, [(), {}, *good, 9]):
            body = b"\4echo" + plain.dumps(rest)
            self.say(client, _box(commands.Run, record(records.CALL, next(numbers), body)))
            [(kind, _)] = client.outcomes().values()
            self.assertEqual(kind, records.ERROR, rest)
        for body in (b"", b"\4", b"\4ech", b"\0", b"\4echo", b"\4echo" + os.urandom(9)):
            self.say(client, _box(commands.Run, record(records.CALL, next(numbers), body)))
            [(kind, _)] = client.outcomes().values()
            self.assertEqual(kind, records.ERROR, body)
        self.assertFalse(client.isLost)

    def test_F115_vanished(self) -> None:
        """
        A client that is silent is given up after 15 seconds, and its calls cancelled.
        """
        client = self.guest()
        self.say(client, _box(commands.Run, record(records.CALL, 1, bodyOf("telling", ("one", 100.0)))))
        self.net.run(14.0)
        self.assertFalse(client.isLost)
        self.net.run(2.0)
        self.assertTrue(client.isLost)
        self.assertEqual(self.universe.noted, [("begun", "one"), ("cancelled", "one")])


def everyBox(bomb: bytes) -> list[bytes]:
    """
    Return boxes of all commands, with a value in each of their fields.
    """
    found = []
    every = [each for each in vars(commands).values() if isinstance(each, type) and issubclass(each, amp.Command)]
    for command in every:
        if command is not commands.Pushed:
            names = [b"_command", b"_ask", *(name for name, _ in command.arguments), b"other"]
            for field in names:
                box = {b"_command": command.commandName, b"_ask": b"5"}
                box.update({name: b"1" for name, _ in command.arguments})
                box[field] = bomb
                found.append(amp.Box(box).serialize())
            found.append(amp.Box({b"_command": command.commandName, bomb[:255]: bomb}).serialize())
    found += [amp.Box({tag: bomb, b"version": bomb}).serialize() for tag in (b"_answer", b"_error")]
    found += [bomb, len(bomb).to_bytes(2, "big") + bomb]
    return found


class _Bomb:
    """
    An object whose unpickling leaves a marker.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _explode, (self._path,)


def _explode(path: str) -> str:
    with open(path, "a", encoding="ascii") as file:
        file.write("!")
    return "exploded"


class PickleTests(SessionTestCase):
    """
    S1: pickles where they do not belong.
    """

    def setUp(self) -> None:
        """
        Make a pickle that would leave a marker.
        """
        super().setUp()
        self.marker = os.path.abspath(self.mktemp())
        self.bombs = [pickle.dumps(_Bomb(self.marker), protocol) for protocol in (0, 2, 5)]

    def bodies(self, bomb: bytes) -> list[bytes]:
        """
        Return bodies of calls, with the pickle in each of their parts.
        """
        good = plain.dumps([[], {}, 1, 1, 0, 0, None, None, False, True])
        return [
            bomb,
            b"\0" + bomb,
            b"\4echo" + bomb,
            bytes([min(len(bomb), 255)]) + bomb[:255] + good,
            b"\4echo" + plain.dumps([[bomb], {"value": bomb}, 1, 1, 0, 0, None, None, False, True]),
            b"\4echo" + plain.dumps([bomb, bomb, *[bomb] * 8]),
            b"\4echo" + plain.dumps(bomb),
            b"\4echo" + plain.dumps([[bomb], {}, 1, 1, 0, 0, None, None, False, True])[:-3],
            b"\4echo" + len(bomb).to_bytes(4, "little") + bomb,
            b"\0" + plain.dumps([bomb, [], {}, 1, 1, 0, 0, None, None, False, True]),
        ]

    def assertNothingRan(self) -> None:
        """
        No pickle has been read.
        """
        self.assertFalse(os.path.exists(self.marker), "a pickle was read")

    def test_S1_beforeHello(self) -> None:
        """
        Whoever it is, nothing is read before the hello.
        """
        node = self.makeNode(pickles=True)
        for bomb in self.bombs:
            for data in everyBox(bomb):
                for roles in (["submit"], ["code"]):
                    self.say(self.connect(roles, node=node), data)
                    self.assertNothingRan()

    def test_S1_afterHello(self) -> None:
        """
        After it, nothing that the messages themselves consist of is.
        """
        node = self.makeNode(pickles=True)
        for bomb in self.bombs:
            for data in everyBox(bomb):
                for roles in (["submit"], ["code"]):
                    self.say(self.guest(roles, node=node), data)
                    self.assertNothingRan()

    def test_S1_calls(self) -> None:
        """
        Nor is any part of a call of somebody who has not the role C{code}, or whose pickles are not wanted, or who is
        not known to be who they say.
        """
        pickling, plainNode = self.makeNode(pickles=True), self.makeNode(pickles=False)
        for bomb in self.bombs:
            for roles, how, node in (
                (["submit"], "unix", pickling),
                (["admin"], "tls", pickling),
                (["code"], "unix", plainNode),
                (["code"], "insecure", pickling),
                (["code", "submit"], "insecure", pickling),
            ):
                client = self.guest(roles, how, node)
                for number, body in enumerate(self.bodies(bomb), 1):
                    for kind in (records.CALL, records.RESULT, records.ERROR, records.ITEMS, 0, 255):
                        self.say(client, _box(commands.Run, record(kind, number, body)))
                    self.assertNothingRan()

    def test_S1_withTheRole(self) -> None:
        """
        Who has it may have anything run: where a call has its arguments.
        """
        client = self.guest(["code", "submit"], "unix", self.makeNode(pickles=True))
        body = b"\0" + self.bombs[-1]
        self.say(client, _box(commands.Run, record(records.CALL, 1, body)))
        self.assertTrue(os.path.exists(self.marker))

    def test_S1_results(self) -> None:
        """
        Nor is what a server sends that is not trusted with code.
        """
        peer = authorizeRunner(Identity("server", {"worker"}, "tls"), "plain")
        from asynqueue.wire.calls import WireResults

        results = WireResults(peer)
        for bomb in self.bombs:
            for body in (bomb, plain.dumps(bomb), len(bomb).to_bytes(4, "little") + bomb):
                with contextlib.suppress(ValueError):
                    results.value(body)
                results.failure(body)
            story = ("builtins.ValueError", "text", "traceback", bomb, None, None, False)
            results.failure(plain.dumps(("", story)))
            self.assertNothingRan()

    def test_S1_whoMay(self) -> None:
        """
        Pickles are read of those with the role C{code} only, who have shown who they are.
        """
        for how in ("unix", "tls", "token", "insecure"):
            for role in ("read", "submit", "control", "admin", "worker", "code"):
                identity = Identity("somebody", {role}, how)
                mayCode = role == "code" and how != "insecure"
                try:
                    self.assertEqual(authorizeRunner(identity, "pickle").mayCode, mayCode)
                except NotAuthorized:
                    self.assertFalse(mayCode)
                try:
                    self.assertEqual(authorizeCaller(identity, "plain", True).mayCode, mayCode)
                except NotAuthorized:
                    self.assertIn(role, ("read", "worker"))
                self.assertFalse(role == "submit" and authorizeCaller(identity, "plain", False).mayCode)


class KillTests(WireTestCase):
    """
    Servers that are killed.
    """

    timeout = 600 if SOAK else 60

    async def test_F104_killed(self) -> None:
        """
        A server that is killed with 200 calls outstanding, and started again: each call has one outcome, by the rule.
        """
        for number in range(100 if SOAK else 3):
            program = self.spawn("threads=2").listening()
            queue = self.client(whenLost="reconnect", N_concurrent=50)
            await self.within(LIMIT, queue.call("tests.echo"))
            calls = [Outcome(queue.call("tests.sleep", 0.002, each)) for each in range(100)]
            once = queue.options(idempotent=False)
            calls += [Outcome(once.call("telling", each, 0.3)) for each in range(100)]
            await deferLater(reactor, 0.02 * (number % 10) + 0.03)
            program.process.send_signal(signal.SIGKILL)
            program.close()
            other = self.spawn("threads=2").listening()
            await self.until(lambda calls=calls: all(each.fired for each in calls), "all outcomes", 30.0)  # type: ignore[misc]
            self.assertEqual({each.fired for each in calls}, {1})
            self.assertEqual([each.value for each in calls[:100]], list(range(100)))
            for place, each in enumerate(calls[100:]):
                if each.failure is None:
                    self.assertEqual(each.value, place)
                else:
                    self.assertIsInstance(each.error, WorkerLost)
            await self.shutDown(queue)
            self.assertEqual(queue.statistics().settled, 201)
            other.process.send_signal(signal.SIGTERM)
            self.assertEqual(other.end(10)[0], 0)

    async def test_F104_terminated(self) -> None:
        """
        A server that is told to end by a signal finishes what it has begun with.
        """
        program = self.spawn().listening()
        queue = self.client()
        await self.within(LIMIT, queue.call("echo"))
        call = queue.options(idempotent=False).call("later", 0.5, "finished")
        await deferLater(reactor, 0.1)
        program.process.send_signal(signal.SIGTERM)
        self.assertEqual(await self.within(LIMIT, call), "finished")
        await self.until(lambda: program.process.poll() is not None, "the end of the server")
        self.assertEqual(program.process.returncode, 0)

    async def test_endsInACall(self) -> None:
        """
        A call that ends the server is not tried for ever.
        """
        program = self.spawn().listening()
        queue = self.client()
        call = queue.call("end", 3)
        await self.until(lambda: not queue.workers(), "the resignation")
        self.assertEqual(program.end(10)[0], 3)
        os.unlink(f"{self.folder}/socket")
        self.assertFalse(call.called)
        call.cancel()
        await self.errorOf(call, CancelledError)
