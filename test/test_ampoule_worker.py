"""
The worker whose calls are commands that a pool of ampoule runs: real pools.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from ampoule import pool as ampoulePool
from ampoule.main import ProcessStarter
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from asynqueue import TaskQueue
from asynqueue.errors import (
    EncodeError,
    PoisonTask,
    TimeLimitExceeded,
    WorkerError,
    WorkerLost,
    WorkerStartError,
)
from asynqueue.interfaces import IManagedWorker, IWorker
from asynqueue.process.ampoulepool import AmpouleWorker
from asynqueue.tasks import Task
from asynqueue.testing import reactortasks as tasks
from asynqueue.testing.tasks import identity
from test.processes import FOLDER, GRACE, LIMIT, MARK, ProcessTestCase, isAlive

reactor: Any = globalReactor


class FakePool:
    """
    A pool that has no processes and answers what it is told to.
    """

    def __init__(self, size: int = 2) -> None:
        self.max = size
        self.finished = False
        self.processes: set[Any] = set()
        self.ready: set[Any] = set()
        self.busy: set[Any] = set()
        self.answer: Any = None

    def doWork(self, command: Any, **keywords: Any) -> Any:
        """
        Answer.
        """
        return self.answer


class AmpouleWorkerSynchronousTests(SynchronousTestCase):
    """
    What needs no process.
    """

    def test_interface(self) -> None:
        """
        The worker is one, for calls of the series C{ampoule}.
        """
        worker = AmpouleWorker(FakePool(), ["mine"])
        verifyObject(IWorker, worker)
        verifyObject(IManagedWorker, worker)
        self.assertEqual((worker.cQualified, worker.iQualified), (["ampoule"], ["mine"]))
        self.assertEqual((worker.capacity, worker.tasks, worker.recall(), worker.crash()), (2, [], [], []))
        self.successResultOf(worker.stop())

    def test_noPool(self) -> None:
        """
        It wants a pool.
        """
        self.assertRaises(TypeError, AmpouleWorker, object())
        self.assertRaises(ValueError, AmpouleWorker, FakePool(), grace=-1)

    def outcomeOf(self, func: Any, *args: Any, **kw: Any) -> Any:
        """
        Give a call to a worker of a pool that answers, and return its outcome.
        """
        task = Task(func, args, kw, 0, None)
        AmpouleWorker(FakePool()).accept(task)
        return self.successResultOf(task.d)

    def test_noCommands(self) -> None:
        """
        Anything but a class of a command, with keywords that it knows, is refused, with a text that says why.
        """
        for func, args, kw, said in (
            (identity, (), {}, "must be a class of amp.Command"),
            (tasks.Answer, (1,), {}, "by keywords"),
            (tasks.Answer, (), {}, "forgot number"),
            (tasks.Answer(number=1), (), {}, "must be a class"),
        ):
            status, error = self.outcomeOf(func, *args, **kw)
            self.assertEqual(status, "x")
            self.assertIsInstance(error, EncodeError)
            self.assertIn(said, str(error))

    def test_poolThatCannotStart(self) -> None:
        """
        The call fails if the pool can start no process.
        """
        pool = FakePool()
        pool.doWork = lambda command, **kw: _raise(OSError("no room"))  # type: ignore[method-assign]
        task = Task(tasks.Answer, (), {"number": 1}, 0, None)
        worker = AmpouleWorker(pool)
        worker.accept(task)
        status, error = self.successResultOf(task.d)
        self.assertEqual(status, "x")
        self.assertIsInstance(error, WorkerStartError)
        self.assertEqual(worker.tasks, [])

    def test_crash(self) -> None:
        """
        A worker that is crashed gives back what it had, and what comes of it is of no interest.
        """
        pool = FakePool()
        pool.answer = Deferred()
        worker = AmpouleWorker(pool)
        task = Task(tasks.Answer, (), {"number": 1}, 0, None)
        ready = worker.run(task)
        self.successResultOf(ready)
        self.assertEqual(worker.crash(), [task])
        pool.answer.callback({})
        self.assertNoResult(task.d)

    def test_stop(self) -> None:
        """
        A worker that is to stop does so when all commands are answered.
        """
        pool = FakePool()
        pool.answer = Deferred()
        worker = AmpouleWorker(pool)
        worker.accept(Task(tasks.Answer, (), {"number": 1}, 0, None))
        stopped = worker.stop()
        self.assertNoResult(stopped)
        pool.answer.callback({})
        self.successResultOf(stopped)

    def test_answerAtOnce(self) -> None:
        """
        A pool may answer at once.
        """
        pool = FakePool()
        pool.answer = succeed({"answer": 5})
        task = Task(tasks.Answer, (), {"number": 1}, 0, None)
        AmpouleWorker(pool).accept(task)
        self.assertEqual(self.successResultOf(task.d), ("r", {"answer": 5}))


def _note(_: object, done: list[str], name: str) -> None:
    done.append(name)


def _raise(error: Exception) -> Any:
    raise error


class AmpouleTestCase(ProcessTestCase):
    """
    Tests with a pool.
    """

    def makePool(self, size: int = 1, **keywords: Any) -> Any:
        """
        Make a pool that is stopped at the end of the test.
        """
        starter = ProcessStarter(env={**os.environ, MARK: self.mark, "PYTHONPATH": str(FOLDER)}, packages=("twisted",))
        pool = ampoulePool.ProcessPool(tasks.ServingChild, min=0, max=size, maxIdle=100, starter=starter, **keywords)
        self.addCleanup(self.stopPool, pool)
        return pool

    def stopPool(self, pool: Any) -> Deferred[Any]:
        """
        Stop a pool.
        """
        if pool.finished:
            return succeed(None)
        stopped: Deferred[Any] = pool.stop()
        return Deferred.fromCoroutine(self.within(LIMIT, stopped, "the end of the pool"))

    def queueFor(self, pool: Any, **keywords: Any) -> TaskQueue:
        """
        Make a queue with a worker for a pool.
        """
        queue = TaskQueue(AmpouleWorker(pool, **{"grace": GRACE, **keywords}), returnFailure=True)
        self.addCleanup(lambda: queue.shutdown(drain=False, deadline=1.0))
        return queue


class AmpouleWorkerTests(AmpouleTestCase):
    """
    Commands and what comes of them.
    """

    async def test_response(self) -> None:
        """
        The result is the response.
        """
        queue = self.queueFor(self.makePool())
        response = await self.within(LIMIT, queue.call(tasks.Answer, number=21))
        self.assertEqual(response["answer"], 42)
        self.assertNotEqual(response["pid"], os.getpid())
        await self.within(LIMIT, queue.shutdown())

    async def test_poolGoesOn(self) -> None:
        """
        The pool is its owner's, and serves after the queue has shut down.
        """
        pool = self.makePool()
        queue = self.queueFor(pool)
        first = await self.within(LIMIT, queue.call(tasks.Answer, number=1))
        await self.within(LIMIT, queue.shutdown())
        second = await self.within(LIMIT, pool.doWork(tasks.Answer, number=2))
        self.assertEqual(first["pid"], second["pid"])

    async def test_many(self) -> None:
        """
        As many go on as the pool may have processes, and never one waits in the pool's own queue.
        """
        pool = self.makePool(2)
        queue = self.queueFor(pool)
        worker = queue.workers()[0]
        seen: list[tuple[int, int]] = []

        def look(response: Any) -> Any:
            seen.append((len(worker.tasks), len(pool._queue)))
            return response

        calls = [queue.call(tasks.Answer, number=number, seconds=0.02).addCallback(look) for number in range(20)]
        responses = await self.allOf(calls)
        self.assertEqual([each["answer"] for each in responses], [2 * number for number in range(20)])
        self.assertEqual(len({each["pid"] for each in responses}), 2)
        self.assertLessEqual(max(tasks for tasks, _ in seen), 2)
        self.assertEqual(max(queued for _, queued in seen), 0)

    async def test_priorities(self) -> None:
        """
        Commands wait in our queue, and so go by niceness.
        """
        queue = self.queueFor(self.makePool())
        done: list[str] = []
        for name, niceness in (("first", 0), ("nice", 20), ("urgent", -20)):
            d: Deferred[Any] = queue.call(tasks.Answer, number=1, seconds=0.02, niceness=niceness)
            d.addCallback(_note, done, name)
        await self.until(lambda: len(done) == 3, "three answers")
        self.assertEqual(done, ["first", "urgent", "nice"])

    async def test_series(self) -> None:
        """
        The worker serves its series beside others for functions in the same queue.
        """
        queue = self.queueFor(self.makePool(), series=["commands"])
        answer = await self.within(LIMIT, queue.call(tasks.Answer, number=1, series="commands"))
        self.assertEqual(answer["answer"], 2)
        answer = await self.within(LIMIT, queue.call(tasks.Answer, number=2, series="ampoule"))
        self.assertEqual(answer["answer"], 4)

    async def test_noAnswer(self) -> None:
        """
        A command without an answer has none.
        """
        queue = self.queueFor(self.makePool())
        path = self.path()
        self.assertIsNone(await self.within(LIMIT, queue.call(tasks.Note, path=path, text="noted")))
        await self.until(lambda: os.path.exists(path), "the note")
        self.assertEqual(Path(path).read_text("utf-8"), "noted\n")

    async def test_arguments(self) -> None:
        """
        What AMP cannot send fails that call alone, and the process stays.
        """
        queue = self.queueFor(self.makePool())
        pid = (await self.within(LIMIT, queue.call(tasks.Answer, number=1)))["pid"]
        error = await self.errorOf(queue.call(tasks.Note, path="x" * 70_000, text=""), EncodeError)
        self.assertIn("path is longer than the 65,535 bytes", str(error))
        error = await self.errorOf(queue.call(tasks.Answer, number=1, other=2), EncodeError)
        self.assertIn("other", str(error))
        await self.errorOf(queue.call(tasks.Note, path=5, text=""), EncodeError)
        response = await self.within(LIMIT, queue.call(tasks.Answer, number=1))
        self.assertEqual(response["pid"], pid)

    async def test_declaredError(self) -> None:
        """
        An error that the command declares has its class, and is a WorkerError.
        """
        queue = self.queueFor(self.makePool())
        error = await self.errorOf(queue.call(tasks.Refuse, declared=True), ValueError, WorkerError)
        self.assertIn("as declared", str(error))

    async def test_undeclaredError(self) -> None:
        """
        One that it does not declare ends ampoule's process; the calls behind it do not suffer.
        """
        pool = self.makePool()
        queue = self.queueFor(pool)
        bad = queue.call(tasks.Refuse, declared=False)
        calls = [queue.call(tasks.Answer, number=number) for number in range(5)]
        await self.errorOf(bad, amp.UnknownRemoteError, WorkerError)
        self.assertEqual([each["answer"] for each in await self.allOf(calls)], [0, 2, 4, 6, 8])
        self.assertEqual(queue.statistics().reruns, 0)
        self.assertEqual(len(pool.processes), 1)

    async def test_unknownCommand(self) -> None:
        """
        A command that the child does not serve is an error of that call.
        """

        class Other(amp.Command):
            commandName = b"other"

        queue = self.queueFor(self.makePool())
        await self.errorOf(queue.call(Other), amp.UnhandledCommand, WorkerError)
        self.assertEqual((await self.within(LIMIT, queue.call(tasks.Answer, number=1)))["answer"], 2)


class AmpouleDeathTests(AmpouleTestCase):
    """
    Processes of the pool that come to their ends.
    """

    async def test_exit(self) -> None:
        """
        Whatever code a process ends with, its call is lost, and run again; those that wait do not suffer, and the pool
        is back at its size.
        """
        for code in (0, 1):
            pool = self.makePool(2)
            queue = self.queueFor(pool)
            lost = queue.call(tasks.Leave, code=code, path=self.path())
            calls = [queue.call(tasks.Answer, number=number, seconds=0.01) for number in range(20)]
            self.assertEqual((await self.within(LIMIT, lost))["answer"], "survived")
            self.assertEqual([each["answer"] for each in await self.allOf(calls)], list(range(0, 40, 2)))
            self.assertEqual(queue.statistics().reruns, 1)
            self.assertEqual(len(pool.processes), 2)
            self.assertTrue(all(isAlive(process.transport.transport.pid) for process in pool.processes))

    async def test_poison(self) -> None:
        """
        A command that ends every process is given up after three.
        """
        queue = self.queueFor(self.makePool())
        error = await self.errorOf(queue.call(tasks.Leave, code=0), PoisonTask)
        self.assertEqual(len(error.history), 3)
        await self.errorOf(queue.options(idempotent=False).call(tasks.Leave, code=1), WorkerLost)

    async def test_nonsense(self) -> None:
        """
        So is one that writes nonsense where AMP is spoken, and nothing behind it suffers.
        """
        queue = self.queueFor(self.makePool())
        bad = queue.call(tasks.Scribble)
        calls = [queue.call(tasks.Answer, number=number) for number in range(5)]
        await self.errorOf(bad, PoisonTask)
        self.assertEqual([each["answer"] for each in await self.allOf(calls)], [0, 2, 4, 6, 8])

    async def test_killedWhileIdle(self) -> None:
        """
        A process that dies while it has nothing to do is replaced when there is.
        """
        queue = self.queueFor(self.makePool())
        pid = (await self.within(LIMIT, queue.call(tasks.Answer, number=1)))["pid"]
        os.kill(pid, signal.SIGKILL)
        response = await self.within(LIMIT, queue.call(tasks.Answer, number=1))
        self.assertNotEqual(response["pid"], pid)

    async def test_recycling(self) -> None:
        """
        While the pool replaces a process, nothing is given to it that would wait there.
        """
        pool = self.makePool(recycleAfter=3)
        queue = self.queueFor(pool)
        waiting: list[int] = []

        def look(response: Any) -> Any:
            waiting.append(len(pool._queue))
            return response

        calls: list[Deferred[Any]] = [queue.call(tasks.Answer, number=number) for number in range(10)]
        for call in calls:
            call.addCallback(look)
        responses = await self.allOf(calls)
        self.assertEqual([each["answer"] for each in responses], list(range(0, 20, 2)))
        pids = [each["pid"] for each in responses]
        self.assertEqual(sorted(pids.count(pid) for pid in set(pids)), [1, 3, 3, 3])
        self.assertEqual(max(waiting), 0)

    async def test_cancel(self) -> None:
        """
        A command that was cancelled may go on for the grace, and then its process is ended.
        """
        queue = self.queueFor(self.makePool(2))
        other = queue.call(tasks.Answer, number=1, seconds=1.0)
        d = queue.call(tasks.Answer, number=2, seconds=LIMIT)
        await deferLater(reactor, 0.3)
        began = time.monotonic()
        d.cancel()
        await self.errorOf(d, CancelledError)
        await self.until(lambda: len(queue.workers()[0].tasks) == 1, "room for another one")
        self.assertGreater(time.monotonic() - began, 0.9 * GRACE)
        self.assertEqual((await self.within(LIMIT, other))["answer"], 2)

    async def test_timeLimit(self) -> None:
        """
        So it is with one that has used up its time limit.
        """
        queue = self.queueFor(self.makePool())
        await self.errorOf(queue.options(timeLimit=0.5).call(tasks.Answer, number=2, seconds=LIMIT), TimeLimitExceeded)
        self.assertEqual((await self.within(LIMIT, queue.call(tasks.Answer, number=1)))["answer"], 2)

    async def test_poolStopped(self) -> None:
        """
        When the pool's owner stops it, calls fail instead of waiting for ever.
        """
        pool = self.makePool()
        queue = self.queueFor(pool)
        await self.within(LIMIT, queue.call(tasks.Answer, number=1))
        running = queue.call(tasks.Answer, number=1, seconds=LIMIT)
        waiting = queue.call(tasks.Answer, number=1)
        await self.within(LIMIT, self.stopPool(pool))
        await self.errorOf(running, WorkerError)
        await self.errorOf(waiting, WorkerStartError)
        error = await self.errorOf(queue.call(tasks.Answer, number=1), WorkerStartError)
        self.assertIn("stopped", str(error))
