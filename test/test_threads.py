"""
Tests of the workers in threads, with real threads and the real reactor.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, gatherResults
from twisted.internet.task import deferLater
from twisted.python import context as twistedContext
from twisted.trial.unittest import SynchronousTestCase, TestCase

import asynqueue
from asynqueue import TaskQueue, ThreadQueue, ThreadWorker, currentCall, deferToThread
from asynqueue.errors import RemoteError, ThreadError, TimeoutError, WorkerError, WorkerHung, WorkerLost
from asynqueue.tasks import Task
from asynqueue.testing import LeakCheckMixin
from test.support import Outcome

reactor: Any = globalReactor

#: Seconds that anything may block or be waited for, in a test that fails.
LIMIT = 10.0

#: Seconds until a thread is written off, in the tests about that.
GRACE = 0.05

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class Gate:
    """
    A function for a thread, which says when it has been entered, and returns when it is let through.

    @ivar entered: Gets the thread each time.
    @ivar ended: The threads that have been let through.
    @ivar call: What C{currentCall} has told.
    """

    def __init__(self, result: Any = "through") -> None:
        self.entered: DeferredQueue[threading.Thread] = DeferredQueue()
        self.ended: list[threading.Thread] = []
        self.call: Any = None
        self._event = threading.Event()
        self._result = result

    def __call__(self) -> Any:
        """
        Wait until the gate is open.
        """
        self.call = currentCall()
        reactor.callFromThread(self.entered.put, threading.current_thread())
        if not self._event.wait(LIMIT):
            raise AssertionError("the gate has not been opened")
        self.ended.append(threading.current_thread())
        return self._result() if callable(self._result) else self._result

    def open(self) -> None:
        """
        Let through who waits, and who will come.
        """
        self._event.set()


#: A gate that a call does not get through, and the thread of that call.
Stuck = tuple[Gate, threading.Thread]


class ThreadTestCase(LeakCheckMixin, TestCase):
    """
    Tests with threads. After each, queues are shut down, gates are open, and no thread is left.
    """

    timeout = 60

    def makeQueue(self, *workers: ThreadWorker, **keywords: Any) -> TaskQueue:
        """
        Make a queue that delivers failures.
        """
        queue = TaskQueue(*workers, **{"returnFailure": True, **keywords})
        self.addCleanup(queue.shutdown, drain=False, deadline=LIMIT)
        return queue

    def makeGate(self, result: Any = "through") -> Gate:
        """
        Make a gate, which is opened at the end of the test, before the queues made until now are shut down.
        """
        gate = Gate(result)
        self.addCleanup(gate.open)
        return gate

    def makeWorker(self, **keywords: Any) -> ThreadWorker:
        """
        Make a worker without a queue.
        """
        worker = ThreadWorker(**keywords)
        self.addCleanup(worker.crash)
        return worker

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """
        Wait for something that is not told.
        """
        limit = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > limit:
                self.fail(f"in {LIMIT} s it has not come to this: {what}")
            await deferLater(reactor, 0.002)

    async def ended(self, thread: threading.Thread) -> None:
        """
        Wait until a thread has ended.
        """
        await self.until(lambda: not thread.is_alive(), f"{thread} has ended")
        # What it has told the reactor at last is told by a timer, where the reactor is that of asyncio.
        for _ in range(2):
            await deferLater(reactor, 0)

    async def bounded(self, d: Deferred[Any], seconds: float = LIMIT) -> Any:
        """
        Wait for a Deferred that must fire by itself.
        """
        outcome = Outcome(d)
        limit = time.monotonic() + seconds
        while not outcome.fired:
            if time.monotonic() > limit:
                self.fail(f"the Deferred has not fired in {seconds} s")
            await deferLater(reactor, 0.002)
        if outcome.failure is not None:
            outcome.failure.raiseException()
        return outcome.value

    async def train(self, queue: TaskQueue, size: int = 8) -> None:
        """
        Make short calls until all workers of a queue hold several at a time.
        """
        limit = time.monotonic() + LIMIT
        while any(worker.capacity < size for worker in queue.workers()):
            if time.monotonic() > limit:
                self.fail(
                    f"in {LIMIT} s of short calls, windows have not grown: {[w.capacity for w in queue.workers()]}"
                )
            await gatherResults([queue.call(int) for _ in range(1000)])

    def assertNothingLogged(self) -> None:
        """
        Neither an error nor a warning has been logged, those of the garbage collector's making included.
        """
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.flushWarnings(), [])


class RunningTests(ThreadTestCase):
    """
    What runs, where, in what order and context, and with what result.
    """

    async def test_W07_oneThreadEach(self) -> None:
        """
        Each worker has one thread of its own, which is not the reactor's.
        """
        queue = self.makeQueue(*(ThreadWorker() for _ in range(3)))

        def where() -> tuple[int | None, threading.Thread]:
            call = currentCall()
            assert call is not None
            return call.workerID, threading.current_thread()

        places = set(await gatherResults([queue.call(where) for _ in range(600)]))
        self.assertEqual(len({worker for worker, _ in places}), len(places))
        self.assertEqual(len({thread for _, thread in places}), len(places))
        self.assertLessEqual(len(places), 3)
        self.assertNotIn(threading.current_thread(), {thread for _, thread in places})

    async def test_W07_workersRunAtOnce(self) -> None:
        """
        As many calls run at a time as there are workers.
        """
        queue = self.makeQueue(*(ThreadWorker() for _ in range(4)))
        barrier = threading.Barrier(4)
        await gatherResults([queue.call(barrier.wait, LIMIT) for _ in range(4)])

    async def test_W07_inOrder(self) -> None:
        """
        One worker runs calls in the order in which it gets them.
        """
        order: list[int] = []
        queue = self.makeQueue(ThreadWorker())
        await gatherResults([queue.call(order.append, number) for number in range(5000)])
        self.assertEqual(order, list(range(5000)))

    async def test_W07_series(self) -> None:
        """
        A worker is qualified for its class's series, and its own.
        """
        worker = ThreadWorker(["own"])
        self.assertEqual(ThreadWorker.cQualified, ["thread", "local"])
        self.assertEqual(worker.iQualified, ["own"])
        queue = self.makeQueue(worker)
        names = ["thread", "local", "own"]
        self.assertEqual(await gatherResults([queue.call(str, name, series=name) for name in names]), names)

    async def test_W07_direct(self) -> None:
        """
        Without a queue, run() runs a task and tells when the worker can take another.
        """
        worker = self.makeWorker()
        task = Task(divmod, (7, 2), {}, 0, None)
        await self.bounded(worker.run(task))
        self.assertEqual(await self.bounded(task.d), ("r", (3, 1)))
        self.assertEqual(worker.tasks, [])

    async def test_N08_context(self) -> None:
        """
        Variables of the caller, and what is in Twisted's context, are there in the thread. What is set there stays.
        """
        queue = self.makeQueue(ThreadWorker())

        def look() -> tuple[str, Any]:
            found = variable.get(), twistedContext.get("key")
            variable.set("set in the thread")
            return found

        def callAll() -> Deferred[list[Any]]:
            variable.set("the caller's")
            return gatherResults([queue.call(look), queue.call(look), deferToThread(look)])

        self.addCleanup(deferToThread)
        results = await twistedContext.call({"key": "value"}, copy_context().run, callAll)
        self.assertEqual(results, [("the caller's", "value")] * 3)
        self.assertEqual(variable.get(), "nothing")
        self.assertEqual(await queue.call(look), ("nothing", None))

    async def test_N08_contextOfCoroutines(self) -> None:
        """
        A coroutine function called in a thread has the caller's context in the reactor, throughout.
        """
        queue = self.makeQueue(ThreadWorker())

        async def look() -> list[str]:
            found = [variable.get()]
            await deferLater(reactor, 0)
            return [*found, variable.get()]

        def call() -> Deferred[list[str]]:
            variable.set("the caller's")
            return queue.call(look)

        self.assertEqual(await copy_context().run(call), ["the caller's"] * 2)

    async def test_currentCall(self) -> None:
        """
        A function can see which call it is.
        """
        queue = self.makeQueue(ThreadWorker())

        def look() -> tuple[Any, ...]:
            call = currentCall()
            assert call is not None
            return call.ID, call.attempt, call.series, call.workerID, call.cancelled

        first = await queue.call(look, series="thread")
        second = await queue.call(look)
        self.assertEqual(first[1:], (1, "thread", 1, False))
        self.assertEqual(second[1:], (1, None, 1, False))
        self.assertGreater(second[0], first[0])
        self.assertIsNone(currentCall())

    async def test_errors(self) -> None:
        """
        An error is both a L{ThreadError} and of the original's class, and the original is at hand.
        """
        queue = self.makeQueue(ThreadWorker())
        error: Any = await self.assertFailure(queue.call(int, "three"), ThreadError)
        self.assertIsInstance(error, ValueError)
        self.assertIs(type(error.original), ValueError)
        self.assertIn("three", str(error))
        self.assertEqual(await queue.call(int, "3"), 3)

    async def test_F04_exits(self) -> None:
        """
        What would end a program ends only the call. The thread goes on.
        """
        queue = self.makeQueue(ThreadWorker())
        thread = await queue.call(threading.current_thread)

        def leave(kind: type[BaseException]) -> None:
            raise kind("leaving")

        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
            error: Any = await self.assertFailure(queue.call(leave, kind), RemoteError)
            self.assertNotIsInstance(error, kind)
            self.assertIn(kind.__name__, error.remoteType)
        await self.assertFailure(queue.call(sys.exit, 3), RemoteError)
        self.assertEqual(await queue.call(threading.current_thread), thread)

    async def test_F43_deferreds(self) -> None:
        """
        A Deferred that is returned in a thread is waited for, and the thread goes on meanwhile.
        """
        queue = self.makeQueue(ThreadWorker())
        inner: Deferred[str] = Deferred()
        call = queue.call(lambda: inner)
        self.assertEqual(await queue.call(int, "1"), 1)
        self.assertNoResult(call)
        inner.callback("at last")
        self.assertEqual(await call, "at last")

    async def test_F43_deferredErrors(self) -> None:
        """
        The error of such a Deferred is the call's.
        """
        queue = self.makeQueue(ThreadWorker())
        inner: Deferred[str] = Deferred()
        call = queue.call(lambda: inner)
        await queue.call(int)
        inner.errback(KeyError("lost"))
        error: Any = await self.assertFailure(call, KeyError)
        self.assertIsInstance(error, WorkerError)
        self.assertNothingLogged()

    async def test_F43_coroutines(self) -> None:
        """
        A coroutine is run in the reactor, and its result is the call's; so is its error.
        """
        queue = self.makeQueue(ThreadWorker())

        async def work(text: str) -> tuple[int, threading.Thread]:
            await deferLater(reactor, 0)
            return int(text), threading.current_thread()

        self.assertEqual(await queue.call(work, "7"), (7, threading.current_thread()))
        error: Any = await self.assertFailure(queue.call(work, "seven"), ValueError)
        self.assertIsInstance(error, WorkerError)

    async def test_burst(self) -> None:
        """
        A burst of calls arrives whole.
        """
        queue = self.makeQueue(*(ThreadWorker() for _ in range(2)))
        results = await gatherResults([queue.call(abs, -number) for number in range(30_000)])
        self.assertEqual(results, list(range(30_000)))
        self.assertEqual(queue.outstanding(), [])
        self.assertEqual(queue.statistics().late, 0)

    async def test_F83_deepChain(self) -> None:
        """
        Calls made in callbacks of calls, however many, do not recurse.
        """
        queue = self.makeQueue(ThreadWorker())
        done: Deferred[None] = Deferred()

        def again(number: int) -> None:
            if number:
                queue.call(int, number - 1).addCallback(again).addErrback(done.errback)
            else:
                done.callback(None)

        again(5000)
        await done

    async def test_batches(self) -> None:
        """
        Of short calls, many outcomes are reported at a time.
        """
        counting = CountingReactor()
        queue = self.makeQueue(ThreadWorker(reactor=counting))
        await gatherResults([queue.call(int) for _ in range(10_000)])
        self.assertLess(counting.fromThread, 2500)


class CountingReactor:
    """
    The reactor, and how often threads have called it.
    """

    def __init__(self) -> None:
        self.fromThread = 0

    def callFromThread(self, func: Callable[..., object], *args: Any, **kw: Any) -> None:
        """
        Count, and pass on.
        """
        self.fromThread += 1
        reactor.callFromThread(func, *args, **kw)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class SeriesTests(ThreadTestCase):
    """
    Calls of a series start in the order in which they were queued, though four workers look ahead.
    """

    async def check(self, number: int, seconds: float, series: tuple[str, ...] = ("one",)) -> None:
        """
        Make calls of some series in turn, each of which takes a while, and see in what order they start.
        """
        lock = threading.Lock()
        started: dict[str, list[int]] = {name: [] for name in series}

        def work(name: str, index: int) -> None:
            with lock:
                started[name].append(index)
            if seconds:
                time.sleep(seconds)

        queue = self.makeQueue(*(ThreadWorker(series) for _ in range(4)))
        await gatherResults([queue.call(work, name, index, series=name) for index in range(number) for name in series])
        for name, order in started.items():
            wrong = [pair for pair in pairwise(order) if pair[1] < pair[0]]
            self.assertEqual(wrong, [], f"calls of series {name!r} started before those queued before them")
            self.assertEqual(len(order), number)

    def test_F90_trivial(self) -> Deferred[None]:
        """
        Calls that take no time.
        """
        return Deferred.fromCoroutine(self.check(10_000, 0))

    def test_F90_halfMillisecond(self) -> Deferred[None]:
        """
        Calls of which a few fit into a window.
        """
        return Deferred.fromCoroutine(self.check(2000, 0.0005))

    def test_F90_threeMilliseconds(self) -> Deferred[None]:
        """
        Calls that travel alone.
        """
        return Deferred.fromCoroutine(self.check(400, 0.003))

    def test_F90_severalTrivial(self) -> Deferred[None]:
        """
        Several series, with calls that take no time.
        """
        return Deferred.fromCoroutine(self.check(1500, 0, tuple("abcdef")))

    def test_F90_severalHalfMillisecond(self) -> Deferred[None]:
        """
        Several series, with calls of which a few fit into a window.
        """
        return Deferred.fromCoroutine(self.check(300, 0.0005, tuple("abcdef")))


class StallTests(ThreadTestCase):
    """
    What waits in a worker behind a call that takes long is given to others, and pays nothing for it.
    """

    def look(self) -> tuple[int, int]:
        """
        Tell who runs this, and in which attempt.
        """
        call = currentCall()
        assert call is not None
        return call.workerID or 0, call.attempt

    async def check(self, **keywords: Any) -> None:
        """
        Queue short calls behind a long one, so that some of them are with the worker that runs it.
        """
        workers = ThreadWorker(["s"]), ThreadWorker(["s"])
        queue = self.makeQueue(*workers)
        await self.train(queue)
        gate = self.makeGate()
        long = queue.call(gate, **keywords)
        (busy,) = [worker for worker in workers if worker.tasks]
        order: list[int] = []
        short = [queue.call(self.look, **keywords) for _ in range(20)]
        for number, call in enumerate(short):
            call.addCallback(self.noted, order, number)
        self.assertGreater(len(busy.tasks), 1, "nothing waits behind the long call")
        places = await self.bounded(gatherResults(short))
        self.assertNoResult(long)
        other = 2 if busy is workers[0] else 1
        self.assertEqual(set(places), {(other, 1)})
        if keywords:
            self.assertEqual(order, list(range(20)))
        gate.open()
        self.assertEqual(await long, "through")
        self.assertEqual((queue.statistics().reruns, queue.statistics().late), (0, 0))

    def noted(self, result: Any, order: list[int], number: int) -> Any:
        """
        Note the order in which calls are done.
        """
        order.append(number)
        return result

    def test_stall(self) -> Deferred[None]:
        """
        Calls of no series.
        """
        return Deferred.fromCoroutine(self.check())

    def test_stallInSeries(self) -> Deferred[None]:
        """
        Calls of one series, which are all with one worker at first.
        """
        return Deferred.fromCoroutine(self.check(series="s"))

    async def test_recalledPastTheQueue(self) -> None:
        """
        A deferToThread call that waits behind a long one stays with its worker.
        """
        worker, other = ThreadWorker(), ThreadWorker()
        queue = self.makeQueue(worker)
        await self.train(queue)
        gate = self.makeGate()
        long = queue.call(gate)
        thread = await gate.entered.get()
        queued = queue.call(threading.current_thread)
        direct = worker.deferToThread(threading.current_thread)
        await queue.attachWorker(other)
        self.assertNotEqual(await self.bounded(queued), thread)
        self.assertNoResult(direct)
        gate.open()
        self.assertEqual(await direct, thread)
        await long


class CancelTests(ThreadTestCase):
    """
    Cancelling at each stage.
    """

    async def assertCancelled(self, call: Deferred[Any]) -> None:
        """
        Cancel a call, which fails at once.
        """
        call.cancel()
        self.failureResultOf(call, CancelledError)

    async def test_F80_queued(self) -> None:
        """
        A call that waits is never run.
        """
        queue = self.makeQueue(ThreadWorker())
        gate = self.makeGate()
        ran: list[str] = []
        running = queue.call(gate)
        await gate.entered.get()
        waiting = queue.call(ran.append, "waiting")
        await self.assertCancelled(waiting)
        gate.open()
        await running
        await queue.call(ran.append, "after")
        self.assertEqual(ran, ["after"])

    async def test_F80_inTheWindow(self) -> None:
        """
        A call that the worker has and has not started is never run, and those around it are.
        """
        worker = ThreadWorker()
        queue = self.makeQueue(worker)
        await self.train(queue)
        gate = self.makeGate()
        ran: list[int] = []
        running = queue.call(gate)
        calls = [queue.call(ran.append, number) for number in range(6)]
        self.assertEqual(len(worker.tasks), 7)
        for call in calls[::2]:
            await self.assertCancelled(call)
        gate.open()
        await gatherResults([running, *calls[1::2]])
        await queue.call(ran.append, 6)
        self.assertEqual(ran, [1, 3, 5, 6])

    async def test_F80_direct(self) -> None:
        """
        A worker without a queue reports a task that it has been told to cancel in time as cancelled.
        """
        worker = self.makeWorker()
        gate = self.makeGate()
        ran: list[int] = []
        tasks = [Task(gate, (), {}, 0, None)]
        tasks += [Task(ran.append, (number,), {}, 0, None) for number in range(3)]
        for task in tasks:
            worker.accept(task)
        await gate.entered.get()
        tasks[2].cancelled = True
        worker.cancel(tasks[2])
        gate.open()
        outcomes = await self.bounded(gatherResults([task.d for task in tasks]))
        self.assertEqual([status for status, _ in outcomes], ["r", "r", "k", "r"])
        self.assertEqual(ran, [0, 2])

    async def test_F81_running(self) -> None:
        """
        A function that runs sees that its call is cancelled. If it returns soon, its thread goes on.
        """
        queue = self.makeQueue(ThreadWorker())
        entered: Deferred[threading.Thread] = Deferred()
        seen: list[bool] = []

        def work() -> None:
            call = currentCall()
            assert call is not None
            seen.append(call.cancelled)
            reactor.callFromThread(entered.callback, threading.current_thread())
            limit = time.monotonic() + LIMIT
            while not call.cancelled and time.monotonic() < limit:
                time.sleep(0.001)
            seen.append(call.cancelled)

        running = queue.call(work)
        thread = await entered
        await self.assertCancelled(running)
        self.assertEqual(await queue.call(threading.current_thread), thread)
        self.assertEqual(seen, [False, True])
        self.assertNothingLogged()

    async def test_F81_resultIsDropped(self) -> None:
        """
        What a cancelled call returns, or raises, is dropped and counted.
        """
        queue = self.makeQueue(ThreadWorker())
        for number, result in enumerate(["a result", lambda: int("three")], 1):
            gate = self.makeGate(result)
            running = queue.call(gate)
            await gate.entered.get()
            await self.assertCancelled(running)
            gate.open()
            await queue.call(int)
            self.assertEqual(queue.statistics().late, number)
        self.assertNothingLogged()

    async def test_F81_coroutineIsNotRun(self) -> None:
        """
        A coroutine that a cancelled call returns is not run, nor is its never being awaited complained of.
        """
        worker = ThreadWorker()
        queue = self.makeQueue(worker)
        ran: list[str] = []

        async def work() -> None:
            ran.append("the coroutine")

        for call in (queue.call, worker.deferToThread):
            gate = self.makeGate(work)
            running: Deferred[Any] = call(gate)
            await gate.entered.get()
            await self.assertCancelled(running)
            gate.open()
            await queue.call(int)
        self.assertEqual(ran, [])
        self.assertNothingLogged()

    async def test_F81_deferredIsCancelled(self) -> None:
        """
        A Deferred that a cancelled call returns is cancelled.
        """
        worker = ThreadWorker()
        queue = self.makeQueue(worker)
        for call in (worker.deferToThread, queue.call):
            cancelled: list[Deferred[None]] = []
            inner: Deferred[None] = Deferred(cancelled.append)
            gate = self.makeGate(lambda inner=inner: inner)
            running: Deferred[Any] = call(gate)
            await gate.entered.get()
            await self.assertCancelled(running)
            gate.open()
            await queue.call(int)
            self.assertEqual(cancelled, [inner], f"after {call.__qualname__}")
        self.assertNothingLogged()

    async def test_F81_arriving(self) -> None:
        """
        A Deferred that is waited for when its call is cancelled, is cancelled; so is what a coroutine waits for.
        """
        queue = self.makeQueue(ThreadWorker())
        cancelled: list[Deferred[None]] = []

        async def work(inner: Deferred[None]) -> None:
            await inner

        for func in (work, lambda inner: inner):
            inner: Deferred[None] = Deferred(cancelled.append)
            running = queue.call(func, inner)
            await queue.call(int)
            await self.assertCancelled(running)
            self.assertEqual(cancelled.pop(), inner)
        self.assertNothingLogged()

    async def test_F82_settled(self) -> None:
        """
        Cancelling a call that is settled, and cancelling twice, does nothing.
        """
        queue = self.makeQueue(ThreadWorker())
        gate = self.makeGate()
        done: Deferred[int] = queue.call(int, "5")

        def cancelIt(value: int) -> int:
            done.cancel()
            return value

        self.assertEqual(await done.addCallback(cancelIt), 5)
        done.cancel()
        running = queue.call(gate)
        await gate.entered.get()
        running.cancel()
        running.cancel()
        self.failureResultOf(running, CancelledError)

    async def test_N01_race(self) -> None:
        """
        Calls that are cancelled while they run, finish or are reported settle once each, and the worker goes on.
        """
        queue = self.makeQueue(ThreadWorker(grace=0.0), ThreadWorker(grace=0.0))
        outcomes: list[Outcome] = []
        for number in range(300):
            call = queue.call(time.sleep, (number % 7) * 1e-4)
            outcomes.append(Outcome(call))
            await deferLater(reactor, (number % 5) * 1e-4)
            call.cancel()
        await self.until(lambda: not any(worker.unfitness for worker in queue.workers()), "all workers are fit")
        self.assertEqual(await queue.call(int), 0)
        self.assertEqual({outcome.fired for outcome in outcomes}, {1})
        self.assertLessEqual({outcome.kind for outcome in outcomes}, {None, CancelledError})
        await self.until(lambda: not any(worker.tasks for worker in queue.workers()), "no task is held")
        self.assertNothingLogged()


class WriteOffTests(ThreadTestCase):
    """
    Threads that are stuck in calls nobody waits for.
    """

    async def stick(self, queue: TaskQueue) -> Stuck:
        """
        Cancel a call that runs and goes on running.
        """
        gate = self.makeGate()
        running = queue.call(gate)
        thread = await gate.entered.get()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        return gate, thread

    async def unfit(self, worker: ThreadWorker, queue: TaskQueue) -> list[Stuck]:
        """
        Have a worker stuck in two calls.
        """
        stuck = [await self.stick(queue), await self.stick(queue)]
        await self.until(lambda: worker.unfitness, "the worker is unfit")
        self.assertEqual(queue.statistics().workers[0].state, "unfit")
        self.flushLoggedErrors()
        return stuck

    async def test_N01_replaced(self) -> None:
        """
        After the grace, another thread takes the place of the one that is stuck, which ends when its call does.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        gate, thread = await self.stick(queue)
        self.assertNotEqual(await self.bounded(queue.call(threading.current_thread)), thread)
        self.assertEqual(worker.unfitness, "")
        self.assertTrue(thread.is_alive())
        gate.open()
        await self.ended(thread)
        self.assertEqual(await queue.call(int), 0)
        self.assertNothingLogged()

    async def test_N01_replacedAgain(self) -> None:
        """
        When the thread that was stuck has ended, another one may be written off.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        for _ in range(3):
            gate, thread = await self.stick(queue)
            self.assertNotEqual(await self.bounded(queue.call(threading.current_thread)), thread)
            gate.open()
            await self.ended(thread)

    async def test_F27_unfit(self) -> None:
        """
        With two threads stuck, calls fail that no other worker can run, those that wait and those that come.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        await self.stick(queue)
        second = await self.stick(queue)
        waiting = queue.call(int)
        error: Any = await self.assertFailure(self.bounding(waiting), WorkerHung)
        self.assertIsInstance(error, WorkerLost)
        self.assertIn("stuck", str(error))
        self.failureResultOf(queue.call(int), WorkerHung)
        self.failureResultOf(queue.call(int, series="thread"), WorkerHung)
        self.assertTrue(second[1].is_alive())
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def bounding(self, d: Deferred[Any]) -> Deferred[Any]:
        """
        Bound a Deferred that must fire by itself.
        """
        return Deferred.fromCoroutine(self.bounded(d))

    async def test_F27_firstReturns(self) -> None:
        """
        The worker recovers when the call returns that was stuck first.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        (gate, thread), (_, other) = await self.unfit(worker, queue)
        gate.open()
        await self.until(lambda: not worker.unfitness, "the worker is fit")
        self.assertNotIn(await self.bounded(queue.call(threading.current_thread)), (thread, other))
        self.assertFalse(thread.is_alive())
        self.assertTrue(other.is_alive())

    async def test_F27_secondReturns(self) -> None:
        """
        The worker recovers when the call returns that was stuck last.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        (_, other), (gate, thread) = await self.unfit(worker, queue)
        gate.open()
        await self.until(lambda: not worker.unfitness, "the worker is fit")
        self.assertEqual(await self.bounded(queue.call(threading.current_thread)), thread)
        self.assertTrue(other.is_alive())

    async def test_F27_bothReturn(self) -> None:
        """
        The worker recovers when both return, and is as good as new.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        stuck = await self.unfit(worker, queue)
        for gate, _ in stuck:
            gate.open()
        await self.until(lambda: not worker.unfitness, "the worker is fit")
        self.assertEqual(await self.bounded(queue.call(int)), 0)
        again = await self.unfit(worker, queue)
        for gate, _ in again:
            gate.open()
        await self.until(lambda: not worker.unfitness, "the worker is fit again")
        self.assertEqual(await self.bounded(queue.call(int)), 0)

    async def test_F27_another(self) -> None:
        """
        Calls that another worker can run, it runs.
        """
        worker, other = ThreadWorker(["s"], grace=GRACE), ThreadWorker()
        queue = self.makeQueue(worker)
        await self.unfit(worker, queue)
        await queue.attachWorker(other)
        self.assertEqual(await self.bounded(queue.call(int)), 0)
        self.failureResultOf(queue.call(int, series="s"), WorkerHung)

    async def test_F27_waitingGoesElsewhere(self) -> None:
        """
        What an unfit worker holds and has not started, another worker runs.
        """
        worker, other = ThreadWorker(grace=GRACE), ThreadWorker(["other"])
        queue = self.makeQueue(worker)
        await self.stick(queue)
        await self.stick(queue)
        calls = [queue.call(int) for _ in range(20)]
        blocked = self.makeGate()
        await queue.attachWorker(other)
        last = queue.call(blocked, series="other")
        blocked.open()
        self.assertEqual(await self.bounded(gatherResults(calls)), [0] * 20)
        await last
        await self.until(lambda: worker.unfitness, "the worker is unfit")

    async def test_F27_timeout(self) -> None:
        """
        A call that blocks for ever times out, in time, and so does its re-run. The worker is written off then.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        gate = self.makeGate()
        since = time.monotonic()
        error = await self.assertFailure(self.bounding(queue.call(gate, timeout=0.2)), TimeoutError)
        elapsed = time.monotonic() - since
        self.assertGreaterEqual(elapsed, 0.2)
        self.assertLess(elapsed, 2.0)
        self.assertIn("attempt 2", str(error))
        await self.until(lambda: worker.unfitness, "the worker is unfit")
        self.failureResultOf(queue.call(int), WorkerHung)
        gate.open()
        await self.until(lambda: not worker.unfitness, "the worker is fit")
        self.assertEqual(await self.bounded(queue.call(int)), 0)
        self.assertEqual(len(gate.ended), 2)

    async def test_F27_timeoutOnce(self) -> None:
        """
        A call that is not to be run again times out, and its thread is replaced.
        """
        queue = self.makeQueue(ThreadWorker(grace=GRACE))
        gate = self.makeGate()
        call = queue.options(timeout=0.1, idempotent=False).call(gate)
        thread = await gate.entered.get()
        await self.assertFailure(self.bounding(call), TimeoutError)
        self.assertTrue(gate.call.cancelled)
        self.assertNotEqual(await self.bounded(queue.call(threading.current_thread)), thread)

    async def test_F27_SystemExit(self) -> None:
        """
        A thread that raises C{SystemExit} while its call is timed goes on, and the call fails at once.
        """
        queue = self.makeQueue(ThreadWorker(grace=GRACE))
        thread = await queue.call(threading.current_thread)
        await self.assertFailure(queue.call(sys.exit, 1, timeout=LIMIT), RemoteError)
        self.assertEqual(await queue.call(threading.current_thread), thread)

    async def test_F27_boundPerWorker(self) -> None:
        """
        A worker that has left a queue and joined another has no more threads stuck than before.
        """
        worker = ThreadWorker(grace=GRACE)
        first = self.makeQueue(worker)
        await first.call(int)
        await first.detachWorker(worker)
        queue = self.makeQueue(worker)
        await self.unfit(worker, queue)

    async def test_writeOffHitsItsCallOnly(self) -> None:
        """
        The call that runs while one that waits behind it is cancelled goes on, for as long as it likes.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        gate = self.makeGate()
        running = worker.deferToThread(gate)
        thread = await gate.entered.get()
        waiting = queue.call(int)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        # It is the passing of time that must not do anything.
        await deferLater(reactor, 5 * GRACE)
        self.assertNoResult(running)
        gate.open()
        self.assertEqual(await self.bounded(running), "through")
        self.assertEqual(await self.bounded(queue.call(threading.current_thread)), thread)

    async def test_deferToThreadBehindStuckCall(self) -> None:
        """
        What waits behind a call that is stuck, past the queue, is run by the thread that replaces the one.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        gate = self.makeGate()
        running = queue.call(gate)
        thread = await gate.entered.get()
        calls = [worker.deferToThread(threading.current_thread) for _ in range(3)]
        running.cancel()
        self.failureResultOf(running, CancelledError)
        threads = await self.bounded(gatherResults(calls))
        self.assertEqual(len(set(threads)), 1)
        self.assertNotIn(thread, threads)


class DeferToThreadTests(ThreadTestCase):
    """
    L{deferToThread} and the method of workers.
    """

    def setUp(self) -> None:
        """
        Have the shared thread end after each test.
        """
        super().setUp()
        self.addCleanup(deferToThread)

    async def test_C30_oneThreadInOrder(self) -> None:
        """
        All calls run in one thread, in their order.
        """
        order: list[int] = []

        def work(number: int) -> threading.Thread:
            order.append(number)
            return threading.current_thread()

        threads = await gatherResults([deferToThread(work, number) for number in range(2000)])
        self.assertEqual(order, list(range(2000)))
        self.assertEqual(len(set(threads)), 1)
        self.assertNotEqual(threads[0], threading.current_thread())

    async def test_C30_arguments(self) -> None:
        """
        The function gets its arguments, also those that have a meaning on queues.
        """
        result = await deferToThread(lambda *args, **kw: (args, kw), 1, timeout=2, series=3, niceness=4)
        self.assertEqual(result, ((1,), {"timeout": 2, "series": 3, "niceness": 4}))

    async def test_C30_ending(self) -> None:
        """
        Called with nothing, it ends the thread, when what was asked for before is done. The next call begins another.
        """
        thread = await deferToThread(threading.current_thread)
        self.assertTrue(thread.is_alive())
        calls = [deferToThread(time.sleep, 0.001) for _ in range(20)]
        await deferToThread()
        for call in calls:
            self.assertIsNone(self.successResultOf(call))
        self.assertFalse(thread.is_alive())
        await deferToThread()
        self.assertEqual(await deferToThread(int), 0)

    async def test_C30_endingAndBeginning(self) -> None:
        """
        Calls that come while the thread ends run in the next one.
        """
        first = deferToThread(threading.current_thread)
        ending = deferToThread()
        second = deferToThread(threading.current_thread)
        before, _, after = await self.bounded(gatherResults([first, ending, second]))
        self.assertFalse(before.is_alive())
        self.assertIs(await deferToThread(threading.current_thread), after)

    async def test_C30_doNext(self) -> None:
        """
        A call may go before those that have not been started.
        """
        gate = self.makeGate()
        order: list[str] = []
        running = deferToThread(gate)
        await gate.entered.get()
        calls = [deferToThread(order.append, name) for name in "ab"]
        calls.append(deferToThread(order.append, "first", doNext=True))
        gate.open()
        await gatherResults([running, *calls])
        self.assertEqual(order, ["first", "a", "b"])

    async def test_C30_errors(self) -> None:
        """
        Errors are L{ThreadError}s and of the original's class, and tell where they were raised.
        """
        error: Any = await self.assertFailure(deferToThread(int, "three"), ThreadError)
        self.assertIsInstance(error, ValueError)
        self.assertIn("invalid literal", str(error))
        self.assertIs(type(error.original), ValueError)
        await self.assertFailure(deferToThread(sys.exit, 3), RemoteError)
        self.assertEqual(await deferToThread(int, "3"), 3)

    async def test_C30_notCallable(self) -> None:
        """
        What cannot be called raises at once.
        """
        worker = self.makeWorker()
        for func in (3, "text"):
            self.assertRaises(TypeError, deferToThread, func)
            self.assertRaises(TypeError, worker.deferToThread, func)
        self.assertRaises(TypeError, deferToThread, None, 1)
        self.assertRaises(TypeError, deferToThread, None, a=1)
        self.assertEqual(worker.tasks, [])

    async def test_C30_deferreds(self) -> None:
        """
        Results that are Deferreds or coroutines are waited for, and their errors are the call's.
        """

        async def work(text: str) -> int:
            await deferLater(reactor, 0)
            return int(text)

        self.assertEqual(await deferToThread(work, "5"), 5)
        six: Deferred[int] = Deferred.fromCoroutine(work("6"))
        self.assertEqual(await deferToThread(lambda: six), 6)
        wrong: Deferred[int] = Deferred.fromCoroutine(work("six"))
        for call in (deferToThread(work, "five"), deferToThread(lambda: wrong)):
            error: Any = await self.assertFailure(call, ValueError)
            self.assertIsInstance(error, ThreadError)
        self.assertNothingLogged()

    async def test_C30_cancelWaiting(self) -> None:
        """
        A call that has not been started is never run.
        """
        gate = self.makeGate()
        ran: list[str] = []
        running = deferToThread(gate)
        await gate.entered.get()
        waiting = deferToThread(ran.append, "waiting")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        gate.open()
        await running
        await deferToThread(ran.append, "after")
        self.assertEqual(ran, ["after"])
        self.assertNothingLogged()

    async def test_C30_cancelRunning(self) -> None:
        """
        A call that runs fails at once, and its function can see that.
        """
        gate = self.makeGate()
        running = deferToThread(gate)
        thread = await gate.entered.get()
        self.assertFalse(gate.call.cancelled)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertTrue(gate.call.cancelled)
        gate.open()
        self.assertEqual(await deferToThread(threading.current_thread), thread)
        self.assertNothingLogged()

    async def test_C30_cancelArriving(self) -> None:
        """
        Where the result is a Deferred that is waited for, that one is cancelled, and so is what a coroutine waits for.
        """

        async def work(inner: Deferred[None]) -> None:
            await inner

        cancelled: list[Deferred[None]] = []
        for func in (work, lambda inner: inner):
            inner: Deferred[None] = Deferred(cancelled.append)
            call = deferToThread(func, inner)
            await deferToThread(int)
            call.cancel()
            self.failureResultOf(call, CancelledError)
            self.assertEqual(cancelled.pop(), inner)
        self.assertNothingLogged()

    async def test_C30_cancelArrivingAnswered(self) -> None:
        """
        Where that Deferred has an answer to being cancelled, that is the result.
        """
        inner: Deferred[str] = Deferred(lambda each: each.callback("as far as it came"))
        call = deferToThread(lambda: inner)
        await deferToThread(int)
        call.cancel()
        self.assertEqual(self.successResultOf(call), "as far as it came")

    async def test_C30_stuck(self) -> None:
        """
        The thread of a call that has been cancelled and does not return is replaced.
        """
        worker = self.makeWorker(grace=GRACE)
        gate = self.makeGate()
        running = worker.deferToThread(gate)
        thread = await gate.entered.get()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertNotEqual(await self.bounded(worker.deferToThread(threading.current_thread)), thread)
        gate.open()
        await self.ended(thread)
        self.assertNothingLogged()

    async def test_N02_crash(self) -> None:
        """
        When a worker is crashed, calls that it has fail: the one that runs, and those that wait.
        """
        worker = self.makeWorker()
        gate = self.makeGate()
        calls = [worker.deferToThread(gate)]
        await gate.entered.get()
        calls += [worker.deferToThread(int) for _ in range(3)]
        self.assertEqual(worker.crash(), [])
        for call in calls:
            self.failureResultOf(call, WorkerLost)
        self.assertTrue(gate.call.cancelled)
        gate.open()
        self.assertEqual(await self.bounded(worker.deferToThread(int)), 0)
        self.assertNothingLogged()

    async def test_N02_crashAfterCancel(self) -> None:
        """
        Crashing a worker does nothing to calls that are settled.
        """
        worker = self.makeWorker()
        gate = self.makeGate()
        calls = [worker.deferToThread(gate), worker.deferToThread(int)]
        await gate.entered.get()
        for call in calls:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        worker.crash()
        gate.open()
        self.assertNothingLogged()

    async def test_N02_stopping(self) -> None:
        """
        A call that comes when the thread has been told to end fires nevertheless, whether the thread has ended or not.
        """
        worker = self.makeWorker()
        before = set(threading.enumerate())
        await worker.deferToThread(int)
        (thread,) = set(threading.enumerate()) - before
        stopped = worker.stop()
        # The thread ends, and the reactor has not been told.
        thread.join(LIMIT)
        self.assertFalse(thread.is_alive())
        self.assertEqual(await self.bounded(worker.deferToThread(int), 2.0), 0)
        await self.bounded(stopped)


class ThreadQueueTests(ThreadTestCase):
    """
    The ready-made queue.
    """

    def makeThreadQueue(self, *args: Any, **keywords: Any) -> ThreadQueue:
        """
        Make one.
        """
        queue = ThreadQueue(*args, **keywords)
        self.addCleanup(queue.shutdown, drain=False, deadline=LIMIT)
        return queue

    async def test_W11_attributes(self) -> None:
        """
        The queue has one worker, and tells which.
        """
        queue = self.makeThreadQueue(returnFailure=True)
        self.assertIsInstance(queue.worker, ThreadWorker)
        self.assertEqual(await queue.d, 1)
        self.assertIs(queue.workers(1), queue.worker)
        self.assertEqual(len(queue), 1)
        self.assertEqual(await queue.call(int, "2"), 2)
        await self.assertFailure(queue.call(int, "two"), ValueError)

    async def test_W11_keywords(self) -> None:
        """
        The queue takes the keywords of its class, and C{raw}.
        """
        self.assertFalse(self.makeThreadQueue().worker.raw)
        queue = self.makeThreadQueue(True, warn=True, timeout=3)
        self.assertTrue(queue.worker.raw)
        self.assertEqual(queue.timeout, 3)
        self.assertRaises(TypeError, ThreadQueue, nonsense=True)

    async def test_W11_several(self) -> None:
        """
        The queue has as many workers as told.
        """
        queue = self.makeThreadQueue(N=3, returnFailure=True)
        self.assertEqual(await queue.d, 1)
        self.assertEqual(len(queue), 3)
        self.assertIs(queue.workers()[0], queue.worker)
        barrier = threading.Barrier(3)
        await gatherResults([queue.call(barrier.wait, LIMIT) for _ in range(3)])
        for number in (0, -1, True, 1.5, "2", None):
            self.assertRaises(ValueError, ThreadQueue, N=number)

    async def test_W11_deferToThread(self) -> None:
        """
        A call may go to the worker's thread past the queue.
        """
        queue = self.makeThreadQueue(returnFailure=True)
        gate = self.makeGate()
        order: list[str] = []
        running = queue.call(gate)
        thread = await gate.entered.get()
        queued = queue.call(order.append, "queued")
        direct = queue.deferToThread(order.append, "direct")
        first = queue.deferToThread(order.append, "first", doNext=True)
        where = queue.deferToThread(threading.current_thread)
        gate.open()
        await gatherResults([running, queued, direct, first])
        self.assertEqual(order, ["first", "direct", "queued"])
        self.assertEqual(await where, thread)
        await self.assertFailure(queue.deferToThread(int, "three"), ValueError)


class EndingTests(ThreadTestCase):
    """
    What is left when workers, queues and programs end. That no thread is left is checked after each test.
    """

    async def test_F60_drain(self) -> None:
        """
        A queue that is shut down runs what it has, and its threads end.
        """
        queue = self.makeQueue(*(ThreadWorker() for _ in range(2)))
        calls = [queue.call(int, number) for number in range(10_000)]
        self.assertEqual(await self.bounded(queue.shutdown()), [])
        self.assertEqual([self.successResultOf(call) for call in calls], list(range(10_000)))

    async def test_F60_deadline(self) -> None:
        """
        At the deadline, a call that is running is given up. Its thread ends when it returns.
        """
        queue = self.makeQueue(ThreadWorker())
        gate = self.makeGate()
        running = queue.call(gate)
        thread = await gate.entered.get()
        left = await self.bounded(queue.shutdown(deadline=0.05))
        self.failureResultOf(running, WorkerLost)
        self.assertEqual(len(left), 1)
        self.assertTrue(gate.call.cancelled)
        gate.open()
        await self.ended(thread)
        self.assertNothingLogged()

    async def test_F60_shutDownWhileStuck(self) -> None:
        """
        A queue whose worker is stuck in calls that have been cancelled shuts down without waiting for them.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        gate = self.makeGate()
        for _ in range(2):
            running = queue.call(gate)
            await gate.entered.get()
            running.cancel()
            self.failureResultOf(running, CancelledError)
        await self.bounded(queue.shutdown())

    async def test_N02_noThread(self) -> None:
        """
        Where no thread can be begun, the call fails. The next one runs if one can, and nothing is held for ever.
        """
        worker = ThreadWorker()
        queue = self.makeQueue(worker)
        impossible = self.patch(threading.Thread, "start", lambda thread: self.cannotStart(thread))
        await self.assertFailure(queue.call(int), WorkerError)
        self.flushLoggedErrors(RuntimeError)
        impossible.restore()
        self.assertEqual(await self.bounded(queue.call(int)), 0)
        self.assertEqual(worker.tasks, [])
        self.assertEqual(await self.bounded(queue.shutdown(), 2.0), [])

    async def test_N02_noReplacement(self) -> None:
        """
        Where no thread can be begun in the place of one that is stuck, calls that wait there are not lost.
        """
        worker = ThreadWorker(grace=GRACE)
        queue = self.makeQueue(worker)
        gate = self.makeGate()
        running = queue.call(gate)
        stuck = await gate.entered.get()
        calls = [Outcome(worker.deferToThread(int)), Outcome(queue.call(int))]
        attempts: list[threading.Thread] = []
        impossible = self.patch(threading.Thread, "start", lambda thread: self.cannotStart(thread, attempts))
        running.cancel()
        self.failureResultOf(running, CancelledError)
        await self.until(lambda: attempts, "a thread has been tried")
        impossible.restore()
        gate.open()
        await self.ended(stuck)
        await self.until(lambda: all(outcome.fired for outcome in calls), "all calls are settled")
        self.assertEqual(await self.bounded(queue.call(int)), 0)
        self.flushLoggedErrors(RuntimeError)

    def cannotStart(self, thread: threading.Thread, attempts: list[threading.Thread] | None = None) -> None:
        """
        Do what the system does when it has no more threads to give.
        """
        if attempts is not None:
            attempts.append(thread)
        raise RuntimeError("can't start new thread")

    async def test_F65_detachBusy(self) -> None:
        """
        A worker that is detached finishes what it runs; the rest is others' to run.
        """
        worker, other = ThreadWorker(), ThreadWorker()
        queue = self.makeQueue(worker)
        await self.train(queue)
        gate = self.makeGate()
        running = queue.call(gate)
        thread = await gate.entered.get()
        calls = [queue.call(threading.current_thread) for _ in range(10)]
        detached = queue.detachWorker(worker)
        self.assertNoResult(detached)
        await queue.attachWorker(other)
        self.assertNotIn(thread, await self.bounded(gatherResults(calls)))
        gate.open()
        self.assertEqual(await running, "through")
        self.assertEqual(await self.bounded(detached), [])
        self.assertFalse(thread.is_alive())

    async def test_F65_reassigned(self) -> None:
        """
        A worker that is crashed loses what it runs to another.
        """
        worker, other = ThreadWorker(), ThreadWorker()
        queue = self.makeQueue(worker)
        gate = self.makeGate()
        running = queue.call(gate)
        first = await gate.entered.get()
        await queue.attachWorker(other)
        self.assertEqual(await self.bounded(queue.detachWorker(worker, reassign=True, crash=True)), [])
        self.assertNotEqual(await gate.entered.get(), first)
        gate.open()
        self.assertEqual(await self.bounded(running), "through")
        await self.ended(first)
        self.assertNothingLogged()

    async def test_F73_comingAndGoing(self) -> None:
        """
        Queues that come and go leave no thread.
        """
        for _ in range(100):
            async with TaskQueue(ThreadWorker(), ThreadWorker(), returnFailure=True) as queue:
                self.assertEqual(await gatherResults([queue.call(int, number) for number in range(4)]), [0, 1, 2, 3])


BLOCKED = """
import sys, threading
from twisted.internet import defer, reactor
from asynqueue import TaskQueue, ThreadWorker, deferToThread

async def main():
    entered = defer.Deferred()
    def block():
        reactor.callFromThread(entered.callback, None)
        threading.Event().wait()
    queue = TaskQueue(ThreadWorker(), returnFailure=True)
    queue.call(block)
    await entered
    await deferToThread(int)
    print("blocked", flush=True)
    reactor.stop()

reactor.callWhenRunning(lambda: defer.ensureDeferred(main()))
reactor.run()
{ending}
"""


class InterpreterTests(SynchronousTestCase):
    """
    A thread that is blocked for ever does not keep the interpreter from exiting.
    """

    def check(self, ending: str, code: int) -> None:
        """
        Run a program with a blocked thread.
        """
        path = str(Path(asynqueue.__file__).parents[1])
        ended = subprocess.run(
            [sys.executable, "-c", BLOCKED.format(ending=ending)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((ended.returncode, ended.stdout), (code, "blocked\n"), ended.stderr)
        if not code:
            self.assertEqual(ended.stderr, "")

    def test_F27_end(self) -> None:
        """
        At the end of the program.
        """
        self.check("", 0)

    def test_F68_exitCode(self) -> None:
        """
        By C{sys.exit}, with the code given there.
        """
        self.check("sys.exit(3)", 3)

    def test_F68_unhandled(self) -> None:
        """
        By an exception.
        """
        self.check("raise ValueError('unhandled')", 1)
