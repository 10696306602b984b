"""
What wire workers and nodes owe their callers beside results: room, time, an end.
"""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater

from asynqueue import AsyncWorker, TaskQueue
from asynqueue.errors import EncodeError, PoisonTask, QueueShutdown, WorkerLost, WorkerStartError
from asynqueue.options import CallOptions
from asynqueue.protocol.runner import MOST
from asynqueue.tasks import Task
from asynqueue.testing.tasks import identity
from asynqueue.wire import WireWorker
from asynqueue.wire.calls import NodeCall, NodeEncoding, Wanted, WireEncoder
from asynqueue.wire.identity import Identity
from asynqueue.wire.link import OUTSTANDING
from asynqueue.wire.peers import authorizeCaller, authorizeRunner
from asynqueue.wire.preparing import UPDATES_TIME
from asynqueue.wire.registry import Registry
from asynqueue.wire.session import CALLS
from test.nodes import IS_ROOT, MemoryTestCase, WireTestCase
from test.processes import LIMIT, Program, reactor
from test.support import Outcome


class RoomTests(WireTestCase):
    """
    How many calls a node holds, and how many go on.
    """

    async def test_concurrentOverrides(self) -> None:
        """
        With C{N_concurrent} the node holds that many, not as many as it can run, and they stay there.
        """
        await self.serve(threads=1)
        queue = self.client(N_concurrent=50)
        await self.within(LIMIT, queue.call("tests.echo"))
        worker = queue.workers()[0]
        self.assertEqual(worker.capacity, 50)
        calls = [queue.call("tests.sleep", 0.01, number) for number in range(60)]
        for _ in range(3):
            await deferLater(reactor, 0.05)
            self.assertEqual(worker.capacity, 50)
            if queue.statistics().queued:
                self.assertEqual(len(worker.tasks), 50)
        self.assertEqual(await self.allOf(calls), list(range(60)))
        await self.shutDown(queue)

    async def test_concurrentIsBounded(self) -> None:
        """
        However large it is, the connection is not ended for too many calls.
        """
        await self.serve()
        queue = self.client(N_concurrent=10 * CALLS, whenLost="reconnect")
        await self.within(LIMIT, queue.call("echo"))
        calls = [queue.call("later", 0.01, number) for number in range(CALLS + 1000)]
        worker = queue.workers()[0]
        self.assertEqual((worker.capacity, len(worker.tasks)), (OUTSTANDING, OUTSTANDING))
        self.assertLess(OUTSTANDING, CALLS)
        self.assertEqual(await self.allOf(calls, 30.0), list(range(CALLS + 1000)))
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDown(queue)

    async def test_concurrentIsGivenBack(self) -> None:
        """
        What the node has not begun with goes to others when the worker is detached.
        """
        server = await self.serve(threads=1)
        queue = self.client(N_concurrent=10)
        await self.within(LIMIT, queue.call("tests.echo"))
        first = queue.call("tests.sleep", 0.4, "first")
        others = [queue.call("tests.sleep", 0.0, number) for number in range(8)]
        await self.until(lambda: server.node is not None and server.node.sessions[0].runner.size == 9, "the calls")
        # The thread may hold two calls, until it is seen that the first is long.
        await deferLater(reactor, 0.05)
        self.description = f"unix:{self.folder}/other"
        await self.serve(threads=1)
        detached = queue.detachWorker(1)
        worker = self.makeWorker()
        began = time.monotonic()
        queue.attachWorker(worker)
        self.assertEqual(await self.allOf(others), list(range(8)))
        self.assertLess(time.monotonic() - began, 0.25)
        self.assertEqual(await self.within(LIMIT, first), "first")
        self.assertEqual(await self.within(LIMIT, detached), [])
        await self.shutDown(queue)

    async def test_greedyAndModest(self) -> None:
        """
        A caller whose calls fill a node does not keep another from its share.
        """
        server = await self.serve(threads=2)
        greedy, modest = self.client(N_concurrent=200), self.client()
        await self.allOf([greedy.call("tests.echo"), modest.call("tests.echo")])
        calls = [greedy.call("tests.sleep", 0.01, number) for number in range(400)]
        await deferLater(reactor, 0.1)
        assert server.node is not None
        self.assertGreater(max(session.runner.size for session in server.node.sessions), 150)
        began = time.monotonic()
        for number in range(5):
            few = [modest.call("tests.sleep", 0.01, number) for _ in range(4)]
            self.assertEqual(await self.allOf(few), [number] * 4)
        self.assertLess(time.monotonic() - began, 1.0)
        self.assertGreater(greedy.statistics().running, 0, "the test has not tested anything")
        self.assertEqual(await self.allOf(calls), list(range(400)))

    async def test_methodsAreBounded(self) -> None:
        """
        So many methods go on at once as on a node without workers, and no connection is ended for more.
        """
        for workers in ({}, {"threads": 1}):
            server = await self.serve(**workers)
            queue = self.client(whenLost="reconnect")
            await self.within(LIMIT, queue.call("echo"))
            self.universe.noted.clear()
            calls = [Outcome(queue.call("telling", number, 30.0)) for number in range(CALLS + 1000)]
            await self.until(lambda: len(self.universe.noted) >= MOST, "the calls")
            await deferLater(reactor, 0.3)
            self.assertEqual(len(self.universe.noted), MOST)
            self.assertLessEqual(len(queue.workers()[0].tasks), OUTSTANDING)
            self.assertEqual([call for call in calls if call.fired], [])
            await self.within(LIMIT, queue.shutdown(drain=False, deadline=0.1))
            await self.within(LIMIT, server.stop())

    async def test_methodsDoNotWaitForOthers(self) -> None:
        """
        A method is run at once, though the calls of somebody else wait for the node's threads.
        """
        await self.serve(threads=1)
        busy, quick = self.client(), self.client()
        await self.allOf([busy.call("tests.echo"), quick.call("tests.echo")])
        calls = [busy.call("tests.sleep", 0.5) for _ in range(3)]
        await deferLater(reactor, 0.1)
        began = time.monotonic()
        lasting = quick.call("later", 0.2, "lasting")
        for number in range(20):
            self.assertEqual(await self.within(LIMIT, quick.call("echo", number)), number)
        self.assertLess(time.monotonic() - began, 0.2)
        self.assertEqual(await self.within(LIMIT, lasting), "lasting")
        await self.allOf(calls)

    async def test_workersDoNotWaitForMethods(self) -> None:
        """
        Nor do calls for the node's threads wait for methods of somebody else, however many go on.
        """
        await self.serve(threads=1)
        busy, quick = self.client(), self.client()
        await self.allOf([busy.call("echo"), quick.call("echo")])
        calls: list[Any] = [Outcome(busy.call("later", 5.0)) for _ in range(2 * MOST)]
        await deferLater(reactor, 0.1)
        began = time.monotonic()
        self.assertEqual(await self.within(LIMIT, quick.call("tests.echo", 1)), 1)
        self.assertLess(time.monotonic() - began, 0.5)
        self.assertEqual([call for call in calls if call.fired], [])


class UpdateTests(WireTestCase):
    """
    Updates: of which queue they are, and nodes that cannot run them.
    """

    async def test_ofItsQueue(self) -> None:
        """
        A worker has a node run the updates of the queue that it is attached to, once, and not of another one.
        """
        server = await self.serve()
        worker = WireWorker(None, self.description)
        first, second = self.client(worker), TaskQueue(returnFailure=True)
        await self.within(LIMIT, first.update("note", "first"))
        await self.within(LIMIT, first.detachWorker(worker))
        self.assertEqual(self.universe.taken(), ["first"])
        for queue, crash in ((second, False), (first, False), (first, True), (second, True), (first, False)):
            # Another node, which knows of no update.
            await self.within(LIMIT, server.stop())
            server = await self.serve()
            queue.attachWorker(worker)
            self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
            self.assertEqual(self.universe.taken(), [] if queue is second else ["first"])
            await self.within(LIMIT, queue.detachWorker(worker, crash=crash))
        await self.shutDown(second)

    async def test_otherSerializer(self) -> None:
        """
        A node that has another way for values to travel than the one that ran an update runs it all the same, once.
        """
        for before, after in ((True, False), (False, True)):
            server = await self.serve(pickles=before)
            queue = self.client(whenLost="reconnect")
            await self.within(LIMIT, queue.update("note", ("updated", before)))
            await self.within(LIMIT, server.stop())
            self.universe.taken()
            server = await self.serve(pickles=after)
            for _ in range(2):
                self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
                self.assertEqual(self.universe.noted, [("updated", before)])
                assert server.node is not None
                sessions = server.node.sessions
                sessions[0].transport.abortConnection()
                await self.until(lambda sessions=sessions: not sessions, "the end of the connection")  # type: ignore[misc]
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_cannotTravel(self) -> None:
        """
        When an update cannot travel to the node any more, the worker resigns, and says why.
        """
        server = await self.serve(pickles=True)
        queue = self.client(whenLost="reconnect")
        await self.within(LIMIT, queue.update(identity, {1j}))
        await self.within(LIMIT, server.stop())
        call = queue.call("echo", 1)
        await self.serve(pickles=False)
        error = await self.errorOf(call, WorkerStartError)
        self.assertIn("an update failed on its node: the callable", str(error))
        self.assertEqual(queue.workers(), [])
        [failure] = self.flushLoggedErrors(EncodeError)
        self.assertIn("role 'code'", failure.getErrorMessage())

    async def test_failsOnAnotherNode(self) -> None:
        """
        Likewise when it fails there.
        """
        server = await self.serve()
        queue = self.client(whenLost="reconnect")
        path = f"{self.folder}/once"
        await self.within(LIMIT, queue.update("tests.once", path))
        self.addCleanup(os.unlink, path)
        await self.within(LIMIT, server.stop())
        call = queue.call("note", 1)
        await self.serve()
        await self.errorOf(call, WorkerStartError)
        self.assertEqual(queue.workers(), [])
        self.assertEqual(len(self.flushLoggedErrors(FileExistsError)), 1)
        self.assertEqual(self.universe.noted, [])
        await self.shutDown(queue)


class PreparingTests(MemoryTestCase):
    """
    Updates that a node does not come to the end of.
    """

    def test_hangs(self) -> None:
        """
        The connection is given up after a time, the worker tries again, and takes tasks when the update ends.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run(0.5)
        updated = Outcome(queue.update("telling", "updated", 0.1))
        self.net.run(1.0)
        self.assertValue(updated, ["updated"])
        for server in self.servers:
            server.stop()
        self.net.run(1.0)
        waiting: list[Deferred[None]] = []

        def never(seconds: float, value: Any = None) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        later, self.universe._later = self.universe._later, never  # type: ignore[method-assign]
        self.serve()
        self.net.run(40.0)
        call = self.call(queue, "echo", 1)
        self.net.run(UPDATES_TIME - 60.0)
        self.assertEqual((len(waiting), call.fired), (1, 0))
        events = self.watchLog()
        self.net.run(100.0)
        self.assertEqual((len(waiting), call.fired), (2, 0))
        self.assertTrue(any("has not run 1 updates in 300 s" in str(event.get("why")) for event in events))
        self.universe._later = later  # type: ignore[method-assign]
        waiting[-1].callback(None)
        self.net.run(1.0)
        self.assertValue(call, 1)


class EndTests(MemoryTestCase):
    """
    Queues that are shut down, and workers that are told to stop, while there is no connection.
    """

    def lose(self) -> None:
        """
        Have the connections lost, and let no others be made.
        """
        self.net.isDown = True
        for here, _ in self.net.connections:
            here.close(ConnectionLost())

    def test_drain(self) -> None:
        """
        A queue that is shut down waits for a connection as long as making one may take; then what waits is refused.
        """
        for keywords, seconds in (({}, 30.0), ({"timeout": 4.0}, 4.0)):
            for isLostBefore in (True, False):
                self.net.isDown = False
                server = self.serve()
                queue = self.client(whenLost="reconnect", **keywords)
                calls = [self.call(queue, "later", 60.0), self.call(queue.options(idempotent=False), "later", 60.0)]
                self.net.run(0.5)
                if isLostBefore:
                    self.lose()
                    self.net.run(100.0)
                done = Outcome(queue.shutdown())
                if not isLostBefore:
                    self.net.run(1.0)
                    self.lose()
                self.net.run(seconds - 0.5)
                self.assertEqual((done.fired, calls[0].fired), (0, 0))
                self.assertFailed(calls[1], WorkerLost)
                self.net.run(1.0)
                self.assertFailed(calls[0], QueueShutdown)
                self.assertEqual((done.fired, done.failure), (1, None))
                server.stop()
                self.net.run(1.0)

    def test_drainWithoutAnyConnection(self) -> None:
        """
        Likewise when there has never been a connection, whatever the worker does when one is lost.
        """
        self.net.isDown = True
        queue = self.client()
        call = self.call(queue, "echo", 1)
        update = Outcome(queue.update("echo", 2))
        self.net.run(100.0)
        done = Outcome(queue.shutdown())
        self.net.run(29.0)
        self.assertEqual((done.fired, call.fired, update.fired), (0, 0, 0))
        self.net.run(2.0)
        self.assertFailed(call, QueueShutdown)
        self.assertIsInstance(update.value[0].value, WorkerLost)
        self.assertEqual((done.fired, done.failure), (1, None))

    def test_comesBack(self) -> None:
        """
        When there is a connection again in that time, the calls are run; the worker does not wait for the next attempt
        of one that has become rare.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run(0.5)
        self.lose()
        call = self.call(queue, "later", 100.0, 5)
        self.net.run(300.0)
        self.assertPending(call)
        done = Outcome(queue.shutdown())
        self.net.run(1.0)
        self.net.isDown = False
        self.net.run(2.0)
        self.assertEqual(len(queue.workers()[0].tasks), 1)
        self.net.run(97.0)
        self.assertPending(call)
        self.net.run(2.0)
        self.assertValue(call, 5)
        self.assertEqual(done.fired, 1)

    def test_otherWorkers(self) -> None:
        """
        What other workers can run is run.
        """
        self.serve()
        self.net.isDown = True
        queue = self.client()
        call, other = self.call(queue, identity, 1, series="wire"), self.call(queue, identity, 2)
        queue.attachWorker(AsyncWorker(reactor=self.net))
        self.net.run(1.0)
        self.assertValue(other, 2)
        done = Outcome(queue.shutdown())
        self.net.run(31.0)
        self.assertFailed(call, QueueShutdown)
        self.assertEqual(done.fired, 1)
        queue = self.client()
        call = self.call(queue, identity, 1)
        done = Outcome(queue.shutdown())
        queue.attachWorker(AsyncWorker(reactor=self.net))
        self.net.run(1.0)
        self.assertValue(call, 1)
        self.assertEqual(done.fired, 1)

    def test_hangingUpdate(self) -> None:
        """
        A connection whose node does not come to the end of an update is none.
        """
        self.serve()
        queue = self.client(whenLost="reconnect")
        self.net.run(0.5)
        queue.update("telling", "updated", 0.1)
        self.net.run(1.0)
        self.servers[0].stop()
        self.universe._later = lambda seconds, value=None: Deferred()  # type: ignore[method-assign]
        self.serve()
        self.net.run(40.0)
        call = self.call(queue, "echo", 1)
        done = Outcome(queue.shutdown())
        self.net.run(31.0)
        self.assertFailed(call, QueueShutdown)
        self.assertEqual(done.fired, 1)

    def test_withoutAQueue(self) -> None:
        """
        A worker that is told to stop gives back what it has been given, when no connection can be had for that time.
        """
        self.net.isDown = True
        worker = self.worker()
        name: Any = "echo"
        task = Task(name, (5,), {}, 0, None)
        given, ready = Outcome(task.d), Outcome(worker.run(task))
        self.net.run(100.0)
        stopped = Outcome(worker.stop())
        self.net.run(29.0)
        self.assertEqual((given.fired, stopped.fired), (0, 0))
        self.net.run(2.0)
        self.assertValue(given, ("d", None))
        self.assertEqual((ready.fired, stopped.fired), (1, 1))
        self.assertEqual(worker.tasks, [])


class Noting(Task):
    """
    A task that notes what a worker tells of it.
    """

    __slots__ = ("outcome", "starts", "tellsStart")

    def __init__(self, seconds: float, niceness: int = 0) -> None:
        name: Any = "later"
        super().__init__(name, (seconds,), {}, niceness, None)
        self.tellsStart = True
        self.starts = 0
        self.outcome = Outcome(self.d)

    def started(self) -> None:
        """
        Take note.
        """
        self.starts += 1


class TaskTests(MemoryTestCase):
    """
    What a worker does with tasks, and says of them, step by step.
    """

    def connected(self, **keywords: Any) -> WireWorker:
        """
        Make a worker that has a connection.
        """
        worker = self.worker(**keywords)
        self.addCleanup(self._ended, worker)
        worker.setAttendant(lambda: None)
        self.net.run(1.0)
        self.assertGreater(worker.capacity, 0)
        return worker

    def _ended(self, worker: WireWorker) -> None:
        worker.setAttendant(None)
        worker.crash()
        self.net.run(1.0)

    def test_recall(self) -> None:
        """
        What the node has not begun with it gives back, in order, and never runs; the rest goes on.
        """
        self.serve()
        worker = self.connected()
        tasks = [Noting(1.0) for _ in range(MOST + 5)]
        for task in tasks:
            worker.accept(task)
        self.net.run(0.5)
        self.assertEqual(worker.tasks, tasks)
        self.assertEqual(worker.recall(), [])
        self.net.run(0.1)
        self.assertEqual([task.outcome.value for task in tasks[MOST:]], [("d", None)] * 5)
        self.assertEqual(worker.tasks, tasks[:MOST])
        self.net.run(1.0)
        self.assertEqual([task.outcome.value for task in tasks[:MOST]], [("r", None)] * MOST)

    def test_recallOfWhatIsToStay(self) -> None:
        """
        But not what it is to hold as the worker was told to.
        """
        self.serve()
        worker = self.connected(N_concurrent=MOST + 5)
        tasks = [Noting(1.0) for _ in range(MOST + 5)]
        for task in tasks:
            worker.accept(task)
        self.net.run(0.5)
        self.assertEqual(worker.recall(), [])
        self.net.run(0.1)
        self.assertEqual(worker.tasks, tasks)
        stopped = Outcome(worker.stop())
        self.net.run(0.1)
        self.assertEqual(worker.tasks, tasks[:MOST])
        self.net.run(1.0)
        self.assertEqual(stopped.fired, 1)

    def test_started(self) -> None:
        """
        A worker tells once that the node has begun with a task.
        """
        self.serve()
        worker = self.connected()
        tasks = [Noting(1.0) for _ in range(MOST + 5)]
        for task in tasks:
            worker.accept(task)
        self.assertEqual([task.starts for task in tasks], [0] * (MOST + 5))
        self.net.run(0.5)
        self.assertEqual([task.starts for task in tasks], [1] * MOST + [0] * 5)
        self.net.run(1.0)
        self.assertEqual([task.starts for task in tasks], [1] * (MOST + 5))

    def test_seriesGoesOn(self) -> None:
        """
        So the next call of a series goes to another node when the first one has begun with the one before.
        """
        self.serve(threads=0)
        queue = self.makeQueue()
        workers = [self.worker(N_concurrent=1) for _ in range(2)]
        for worker in workers:
            queue.attachWorker(worker)
        self.net.run(1.0)
        calls = [self.call(queue, "telling", number, 1.0, series="wire") for number in range(2)]
        self.net.run(0.5)
        self.assertEqual([len(worker.tasks) for worker in workers], [1, 1])
        self.assertEqual(self.universe.noted, [("begun", 0), ("begun", 1)])
        self.net.run(1.0)
        self.assertEqual([call.value for call in calls], [0, 1])

    def test_leaving(self) -> None:
        """
        A node that is about to end is sent no more, and finishes what it has begun with.
        """
        server = self.serve(grace=10.0)
        worker = self.connected(whenLost="reconnect")
        task = Noting(2.0)
        worker.accept(task)
        self.net.run(0.5)
        server.stop()
        self.net.run(0.5)
        self.assertIn(", connected>", repr(worker))
        self.assertEqual(worker.capacity, 0)
        self.net.run(2.0)
        self.assertEqual(task.outcome.value, ("r", None))

    def test_leavingForOthers(self) -> None:
        """
        A call that comes then waits for another node, though the connection is still there.
        """
        server = self.serve(grace=10.0)
        queue = self.client(whenLost="reconnect")
        first = self.call(queue.options(idempotent=False), "later", 2.0, 1)
        self.net.run(0.5)
        server.stop()
        self.net.run(0.5)
        second = self.call(queue.options(idempotent=False), "echo", 2)
        self.assertEqual(len(queue.workers()[0].tasks), 1)
        self.net.run(1.0)
        self.assertPending(second)
        self.serve()
        self.net.run(35.0)
        self.assertValue(first, 1)
        self.assertValue(second, 2)
        self.assertEqual(queue.statistics().reruns, 0)


class WantedTests(WireTestCase):
    """
    How a call is to be run, as the node sees it.
    """

    def seen(self, task: Task) -> Wanted:
        """
        Return what a node gets of a task.
        """
        peer = authorizeRunner(Identity("node", {"worker"}, "tls"), "plain")
        caller = authorizeCaller(Identity("caller", {"submit"}, "tls"), "plain", False)
        call = NodeEncoding(caller, Registry(self.universe), id, 10_000).call(
            0, b"".join(WireEncoder(peer, 10_000).encode(task))
        )
        assert isinstance(call, NodeCall)
        return call.wanted

    def test_niceness(self) -> None:
        """
        It gets its niceness; one that goes before all others or after them, at either end.
        """
        for niceness, there in ((0, 0), (7, 7), (-20, -20), (20, 20), (-1000, -20), (1000, 20)):
            self.assertEqual(self.seen(Noting(1.0, niceness)).niceness, there)

    def test_idempotent(self) -> None:
        """
        And whether it may be run again.
        """
        for isIdempotent in (False, True):
            task = Noting(1.0)
            task.options = CallOptions(idempotent=isIdempotent)
            self.assertIs(self.seen(task).isIdempotent, isIdempotent)

    async def test_notRunAgain(self) -> None:
        """
        A call that must not be run again is not, when it is lost with a child of the node.
        """
        await self.serve(processes=1)
        queue = self.client()
        error = await self.errorOf(queue.options(idempotent=False).call("tests.die"), WorkerLost)
        self.assertNotIsInstance(error, PoisonTask)
        error = await self.errorOf(queue.call("tests.die"), PoisonTask)
        self.assertEqual(len(error.history), 3)


_STEPPED = """\
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from asynqueue import TaskQueue
from asynqueue.testing.wiretasks import Universe
from asynqueue.wire import WireServer, WireWorker

description, isRoot, steps = sys.argv[1], sys.argv[2] == "True", float(sys.argv[3])
offset = 0.0
wall = reactor.seconds
reactor.seconds = lambda: wall() + offset

def step():
    global offset
    offset += steps

async def main():
    server = WireServer(description, Universe(), insecure_root=isRoot, grace=20.0)
    await server.start()
    queue = TaskQueue(WireWorker(None, description), returnFailure=True)
    await queue.call("echo")
    [session] = server.node.sessions
    once = queue.options(idempotent=False)
    for name in ("call", "stop"):
        d = once.call("block", 0.6, name, thread=True)
        reactor.callLater(0.2, step)
        if name == "stop":
            reactor.callLater(0.1, lambda: stopped.append(server.stop()))
        print(await d, flush=True)
        print(len(queue.workers()), session.why, flush=True)
    await stopped[0]
    await queue.shutdown()

stopped = []
d = Deferred.fromCoroutine(main())
d.addErrback(lambda failure: failure.printTraceback())
d.addBoth(lambda _: reactor.stop())
reactor.run()
"""


class WallClockTests(WireTestCase):
    """
    F92: the wall clock steps.
    """

    async def test_F92_ahead(self) -> None:
        """
        By an hour or a day: no connection is given up for silence, and no server ends before its time.
        """
        for step in (3600.0, 86400.0):
            program = Program(self.path() + ".py", _STEPPED, self.mark, self.description, str(IS_ROOT), str(step))
            self.addCleanup(program.close)
            code, out, err = program.end(20.0)
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(out.split("\n"), ["call", "1 ", "stop", "1 ", ""])
