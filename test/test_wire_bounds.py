"""
What somebody who has been let in can make a node hold, and a node its client, and that neither holds on to what need
not be there (FAULTS 7.8, F109, F110, F115).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater
from twisted.protocols import amp

from asynqueue.protocol import commands, plain, records, runner
from asynqueue.protocol.lanes import BOX, WINDOW, Outgoing
from asynqueue.protocol.records import record
from asynqueue.protocol.runnerstream import CREDIT
from asynqueue.wire.hardened import TAG, UNREAD
from asynqueue.wire.session import LINGER, STREAM_TIME, STREAMS
from test.nodes import MemoryTestCase, WireTestCase
from test.processes import LIMIT, reactor
from test.test_wire_faults import Client, SessionTestCase, bodyOf, hello


def boxOf(command: type[amp.Command], **arguments: bytes) -> bytes:
    """
    Return a command that is not answered, as it travels.
    """
    pairs = {name.encode("ascii"): value for name, value in arguments.items()}
    return amp.Box({amp.COMMAND: command.commandName, **pairs}).serialize()  # type: ignore[no-any-return]


class GreedyTests(SessionTestCase):
    """
    Clients who write bytes, to a node on a virtual clock.
    """

    def runs(self, client: Client, *calls: bytes) -> None:
        """
        Send calls, as if there were credit for any number.
        """
        lane = Outgoing(lambda pieces: self.say(client, self.boxed(pieces)))
        lane.post(b"".join(calls))
        while lane.pending:
            lane.credited(WINDOW)

    def boxed(self, pieces: list[Any]) -> bytes:
        """
        Return pieces of a lane as a box.
        """
        return b"".join(
            amp.Box(dict([(amp.COMMAND, b"run"), *commands.namedPieces(b"records", [bytes(each)])])).serialize()
            for each in pieces
        )

    def runner(self, client: Client) -> Any:
        """
        Return the end that runs the calls of a client.
        """
        return client.session.runner  # type: ignore[attr-defined]

    def test_F110_credit(self) -> None:
        """
        Who sends more than there is credit for is cut off.
        """
        self.patch(runner, "WAITING", 1 << 20)
        for size, isIn in ((1 << 20, True), (WINDOW + BOX, True), (WINDOW + BOX + (1 << 20), False), (1 << 24, False)):
            client = self.guest()
            later = bodyOf("later", (99.0,))
            self.runs(client, *(record(records.CALL, each, later) for each in range(1, runner.MOST + 1)))
            # These wait, and the last of them is one more than may.
            body = bodyOf("size", (bytes(1 << 16),))
            numbers = range(100, 100 + size // len(body))
            self.runs(client, *(record(records.CALL, number, body) for number in numbers))
            self.assertEqual(not client.isLost, isIn, size)
            client.transport.abortConnection()  # type: ignore[union-attr]

    def test_F114_numbersGrow(self) -> None:
        """
        A call has a greater number than all before it.
        """
        for numbers, isIn in (((1, 2, 5, 1 << 60), True), ((1, 1), False), ((5, 4), False), ((0,), False)):
            client = self.guest()
            self.runs(client, *(record(records.CALL, number, bodyOf("later", (9.0,))) for number in numbers))
            self.assertEqual(not client.isLost, isIn, numbers)
            client.transport.abortConnection()  # type: ignore[union-attr]
            self.net.run(0.1)
            self.assertEqual(self.node.sessions.count(client.session), 0)  # type: ignore[attr-defined]
        self.net.run(20.0)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_otherRecords(self) -> None:
        """
        There is nothing but calls on the lane of calls.
        """
        for kind in (0, records.RESULT, records.ITEMS, 255):
            client = self.guest()
            self.runs(client, record(kind, 1, b""))
            self.assertEnded(client)

    def test_cancelledInAdvance(self) -> None:
        """
        Only so many calls may be cancelled that have not come.
        """
        for count, isIn in ((runner.UNWANTED, True), (runner.UNWANTED + 1, False)):
            client = self.guest()
            box = [boxOf(commands.Cancel, number=b"%d" % each, reason=b"0") for each in range(1, count + 1)]
            for start in range(0, count, 1000):
                self.say(client, b"".join(box[start : start + 1000]))
            self.assertEqual(not client.isLost, isIn, count)
        # Calls that never come do not count.
        for start in range(1, 3 * runner.UNWANTED, 1 << 14):
            client = self.guest() if start == 1 else client
            numbers = range(start, start + (1 << 14) - 1)
            self.say(client, b"".join(boxOf(commands.Cancel, number=b"%d" % each, reason=b"0") for each in numbers))
            self.runs(client, record(records.CALL, start + (1 << 14) - 1, bodyOf("echo")))
            self.assertFalse(client.isLost)

    def test_F110_results(self) -> None:
        """
        Who takes no results has no more calls run than a few, however many there are.
        """
        client = self.guest()
        body = bodyOf("repeat", (900_000,))
        self.runs(client, *(record(records.CALL, number, body) for number in range(1, 101)))
        ours = self.runner(client)
        self.net.run(1.0)
        held = ours._lane.pending
        self.assertGreater(held, runner.UNTAKEN)
        self.assertLess(held, runner.UNTAKEN + (2 << 20))
        self.assertGreater(ours.size, 90)
        self.assertFalse(client.isLost)
        for _ in range(101):
            self.say(client, boxOf(commands.Credit, size=b"%d" % WINDOW))
            self.net.run(0.1)
        self.assertEqual((ours.size, ours._lane.pending), (0, 0))

    def test_F110_items(self) -> None:
        """
        Nor are items made that nobody takes, however many are asked for; and nobody can ask for any number.
        """
        client = self.guest()
        self.runs(client, record(records.CALL, 1, bodyOf("large", (1 << 16,))))
        self.say(client, boxOf(commands.Pull, number=b"1", count=b"%d" % CREDIT))
        self.net.run(1.0)
        self.assertLess(self.runner(client)._lane.pending, runner.UNTAKEN + (4 << 20))
        before = self.universe.made
        for _ in range(8):
            self.say(client, boxOf(commands.Credit, size=b"%d" % WINDOW))
        self.net.run(1.0)
        self.assertGreater(self.universe.made, before)
        self.say(client, boxOf(commands.Pull, number=b"1", count=b"%d" % CREDIT))
        self.assertEnded(client)

    def test_S5_streams(self) -> None:
        """
        A connection may have 64 streams; the call that would be another one fails.
        """
        for count, most in ((STREAMS, STREAMS), (STREAMS + 1, STREAMS), (10 * STREAMS, STREAMS)):
            client = self.guest()
            self.runs(client, *(record(records.CALL, 1 + each, bodyOf("count", (1 << 30,))) for each in range(count)))
            self.net.run(0.1)
            failed = [kind for kind, _ in client.outcomes().values() if kind == records.ERROR]
            self.assertEqual((len(self.runner(client)._streams), len(failed)), (min(count, most), max(0, count - most)))
            # There is room again when one is left.
            self.say(client, boxOf(commands.Close, number=b"1"))
            self.runs(client, record(records.CALL, 10_000, bodyOf("count", (1 << 30,))))
            self.net.run(0.1)
            self.assertEqual(client.outcomes(), {})
            self.assertFalse(client.isLost)

    def test_S5_streamTime(self) -> None:
        """
        A stream of which nobody asks for items for five minutes is closed; others go on.
        """
        client = self.guest()
        calls = [record(records.CALL, each, bodyOf("noting", (each,))) for each in (1, 2)]
        self.runs(client, *calls)
        for _ in range(40):
            self.net.run(10.0)
            self.say(client, boxOf(commands.Pull, number=b"2", count=b"1"))
        self.assertEqual(self.universe.taken(), [("closed", 1)])
        self.assertEqual(list(self.runner(client)._streams), [2])
        self.assertGreater(40 * 10.0, STREAM_TIME)

    def test_pingsThatAreNotRead(self) -> None:
        """
        Who asks and asks, and reads no answers, is cut off, and so is who asks by a long name.
        """
        for count, isIn in ((UNREAD, True), (UNREAD + 1, False)):
            client = self.guest()
            session: Any = client.session  # type: ignore[attr-defined]
            session.pauseProducing()
            for each in range(count):
                self.say(client, amp.Box({amp.COMMAND: b"ping", amp.ASK: b"%d" % each}).serialize())
            self.assertEqual(not client.isLost, isIn, count)
        for size, isIn in ((TAG, True), (TAG + 1, False)):
            client = self.guest()
            self.say(client, amp.Box({amp.COMMAND: b"ping", amp.ASK: b"x" * size}).serialize())
            self.assertEqual(not client.isLost, isIn, size)

    def test_heldConnection(self) -> None:
        """
        Nothing is sent into a connection that takes nothing, but for what is little; then it goes on.
        """
        client = self.guest()
        session: Any = client.session  # type: ignore[attr-defined]
        session.pauseProducing()
        self.runs(client, record(records.CALL, 1, bodyOf("echo", (5,))))
        self.net.run(0.1)
        self.assertEqual(client.outcomes(), {})
        session.resumeProducing()
        self.net.run(0.1)
        self.assertEqual(client.outcomes(), {1: (records.RESULT, plain.dumps(5))})

    def test_refusedAndStays(self) -> None:
        """
        Who was told to go, and does not agree to that, goes after a second.
        """
        for roles, changes in ((["worker"], {}), (["submit"], {"oldest": b"7", "newest": b"9"})):
            client = self.connect(roles)
            client.transport.other.loseConnection = lambda: None  # type: ignore[union-attr]
            self.say(client, hello(**changes))
            self.net.run(LINGER - 0.2)
            self.assertFalse(client.isLost)
            self.net.run(0.4)
            self.assertTrue(client.isLost)

    def test_S5_perIdentity(self) -> None:
        """
        One identity may have so many connections; there is room again when one has ended.
        """
        node = self.makeNode(perIdentity=3)
        clients = [self.guest(node=node) for _ in range(3)]
        for _ in range(30):
            client = self.connect(node=node)
            self.assertEnded(client)
        self.assertFalse(any(client.isLost for client in clients))
        clients[0].transport.abortConnection()  # type: ignore[union-attr]
        self.net.run(0.1)
        self.guest(node=node)

    def test_helloWithoutRoom(self) -> None:
        """
        Who would take results of no bytes at all has not understood what a hello is.
        """
        for limit in (b"0", b"-1"):
            client = self.connect()
            self.greet(client, limit=limit)
            self.assertEnded(client)


class UnsentTests(MemoryTestCase):
    """
    Calls that have not gone out, over memory.
    """

    def test_F100_unsentAfterABurst(self) -> None:
        """
        What had not gone out moves, uncounted, also when much has gone out before.
        """
        self.serve()
        queue = self.client(whenLost="reconnect", N_concurrent=8)
        self.net.run()
        calls = [self.call(queue, "echo", number) for number in range(2000)]
        self.net.run(5.0)
        self.assertEqual([call.value for call in calls], list(range(2000)))
        self.net.cut()
        data = bytes(1 << 19)
        calls = [self.call(queue.options(idempotent=False), "echo", data) for _ in range(8)]
        self.net.run(1.0)
        for end in self.net.connections[0]:
            end.close(ConnectionLost())
        self.net.run(5.0)
        # One, and a part of another one, fill what may be under way.
        self.assertEqual(sum(call.kind is not None for call in calls), 1)
        self.assertEqual(sum(call.value == data for call in calls), 7)
        self.assertEqual(queue.statistics().reruns, 0)

    def test_largeCallsAreSentOnce(self) -> None:
        """
        Large calls go out one after the other, and none of them again and again, however long that takes.
        """
        self.serve()
        queue = self.client(N_concurrent=8)
        self.net.run()
        here, _ = self.net.connections[0]
        here.isCut = True
        calls = [self.call(queue, "size", bytes(1 << 20)) for _ in range(4)]
        calls += [self.call(queue, "echo", number) for number in range(5)]
        for _ in range(120):
            self.net.run(0.05)
            here.trickle(1 << 16)
        here.isCut = False
        self.net.run(1.0)
        self.assertEqual([call.value for call in calls], [1 << 20] * 4 + list(range(5)))
        self.assertLess(here.delivered, 5 << 20)


class LargeTests(WireTestCase):
    """
    Large values beside small ones, over a unix socket.
    """

    async def test_bothWays(self) -> None:
        """
        Several of 8 MiB each way, with small calls between them, wherever they are run.
        """
        for workers in ({}, {"threads": 2}, {"processes": 2}):
            server = await self.serve(**workers)
            queue = self.client()
            data = bytes(8 << 20)
            large = [queue.call("tests.echo", data) for _ in range(3)]
            small = [queue.call("tests.echo", number) for number in range(50)]
            self.assertEqual(await self.allOf(small), list(range(50)))
            self.assertEqual(await self.allOf(large), [data] * 3)
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_memory(self) -> None:
        """
        A value that goes there and back takes three times its length at either end, and no more.
        """
        if not os.access("/proc/self/clear_refs", os.W_OK):
            raise SkipTest("this system does not tell how much memory was taken at most")
        program = self.spawn().listening()
        queue = self.client()
        data = os.urandom(32 << 20)
        await self.within(LIMIT, queue.call("echo", data[: 1 << 20]))
        ends: list[Any] = ["self", program.process.pid]
        for pid in ends:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        before = [_memory(pid, "VmRSS") for pid in ends]
        self.assertTrue(await self.within(LIMIT, queue.call("echo", data)) == data)
        for pid, least in zip(ends, before, strict=True):
            self.assertLess(_memory(pid, "VmHWM") - least, 3 * len(data) + (4 << 20))
        await self.shutDown(queue)
        program.process.send_signal(signal.SIGTERM)
        self.assertEqual(program.end(10)[0], 0)


def _memory(pid: object, what: str) -> int:
    """
    Return how many bytes a process has, or has had at most.
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


class LeavingTests(WireTestCase):
    """
    Servers that stop while they have calls.
    """

    async def test_F104_callsThatCross(self) -> None:
        """
        A call that is made in the moment in which the server goes away is not lost: nobody has begun with it.
        """
        server = await self.serve(threads=1, grace=5.0)
        queue = self.client(whenLost="reconnect")
        await self.within(LIMIT, queue.call("tests.echo"))
        stopped = server.stop()
        call = queue.options(idempotent=False).call("tests.echo", 1)
        await self.within(LIMIT, stopped)
        self.assertFalse(call.called)
        await self.within(LIMIT, server.start())
        self.assertEqual(await self.within(LIMIT, call), 1)
        await self.shutDown(queue)

    async def test_F104_callsThatWaitThere(self) -> None:
        """
        Those that a node has, and none of its workers, are given back, though it had begun with them.
        """
        for workers in ({"threads": 1}, {"processes": 1}):
            server = await self.serve(grace=5.0, **workers)
            queue = self.client(whenLost="reconnect")
            await self.allOf([queue.call("tests.echo", number) for number in range(3000)])
            path = self.path()
            once = queue.options(idempotent=False)
            calls = [once.call("tests.write", path, "ran", 0.05) for _ in range(60)]
            await deferLater(reactor, 0.02)
            began = time.monotonic()
            await self.within(LIMIT, server.stop())
            self.assertLess(time.monotonic() - began, 2.0)
            done = sum(call.called for call in calls)
            self.assertLess(done, 20)
            await self.within(LIMIT, server.start())
            self.assertEqual(await self.allOf(calls), ["ran"] * 60)
            with open(path, encoding="ascii") as file:
                self.assertEqual(len(file.readlines()), 60)
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_nicenessAfterABurst(self) -> None:
        """
        However far ahead the workers of a node were, an urgent call waits for one call that goes on, and not for all.
        """
        for workers in ({"threads": 1}, {"processes": 1}):
            server = await self.serve(**workers)
            queue = self.client()
            await self.allOf([queue.call("tests.echo", number) for number in range(3000)])
            calls = [queue.call("tests.sleep", 0.05, niceness=10) for _ in range(40)]
            await deferLater(reactor, 0.15)
            await self.within(LIMIT, queue.call("tests.echo", "urgent", niceness=-20))
            self.assertLess(sum(call.called for call in calls), 12)
            self.assertEqual(await self.allOf(calls), [None] * 40)
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())
