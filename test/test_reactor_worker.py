"""
Tests of the worker in the reactor, on a virtual clock and on the real reactor.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from itertools import pairwise
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.python import context as twistedContext
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from asynqueue import AsyncWorker, TaskQueue, currentCall
from asynqueue.errors import RemoteError, TimeoutError, WorkerError, WorkerLost
from asynqueue.tasks import Task
from asynqueue.testing import LeakCheckMixin
from test.support import Outcome, QueueTestCase

reactor: Any = globalReactor

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class AsyncTestCase(QueueTestCase):
    """
    Tests of a queue with one worker, both on a virtual clock.
    """

    def setUp(self) -> None:
        """
        Make the queue.
        """
        super().setUp()
        self.worker = AsyncWorker(["own"], reactor=self.clock)
        self.queue = self.makeQueue(self.worker)

    def runs(self, func: Callable[..., Any], *args: Any, **kw: Any) -> Outcome:
        """
        Queue a call and let the clock turn once.
        """
        outcome = self.call(self.queue, func, *args, **kw)
        self.turn()
        return outcome


class RunningTests(AsyncTestCase):
    """
    When calls run, and with what result.
    """

    def test_W06_nextTurn(self) -> None:
        """
        A call never runs its function before it has returned, but in the next turn.
        """
        ran: list[str] = []
        outcome = self.call(self.queue, ran.append, "first")
        self.assertEqual(ran, [])
        self.assertPending(outcome)
        self.turn()
        self.assertEqual(ran, ["first"])
        self.assertValue(outcome, None)

    def test_W06_nextTurnWhileBusy(self) -> None:
        """
        So do calls that are made by a function that runs, and by callbacks.
        """
        events: list[str] = []

        def inner(name: str) -> None:
            events.append(f"{name} runs")

        def outer() -> None:
            self.queue.call(inner, "from the function")
            events.append("the function returns")

        def called(_: object) -> None:
            self.queue.call(inner, "from the callback")
            events.append("the callback returns")

        self.queue.call(outer).addCallback(called)
        self.turn()
        self.turn()
        self.assertEqual(
            events,
            ["the function returns", "the callback returns", "from the function runs", "from the callback runs"],
        )

    def test_W06_manyInOneTurn(self) -> None:
        """
        Short calls follow one another without a turn between them, in order.
        """
        order: list[int] = []
        outcomes = [self.call(self.queue, order.append, number) for number in range(20)]
        self.turn()
        self.assertEqual(order, list(range(20)))
        for outcome in outcomes:
            self.assertValue(outcome, None)

    def test_W06_series(self) -> None:
        """
        The worker is qualified for its class's series, and its own.
        """
        self.assertEqual(AsyncWorker.cQualified, ["async", "local"])
        self.assertEqual(self.worker.iQualified, ["own"])
        for series in ("async", "local", "own", None):
            self.assertValue(self.runs(str, series, series=series), str(series))

    def test_W06_deferreds(self) -> None:
        """
        A Deferred that is returned is waited for, and nothing else runs meanwhile.
        """
        inner: Deferred[str] = Deferred()
        ran: list[str] = []
        waiting = self.runs(lambda: inner)
        after = self.runs(ran.append, "after")
        self.clock.advance(100)
        self.assertPending(waiting)
        self.assertEqual(ran, [])
        inner.callback("at last")
        self.assertValue(waiting, "at last")
        self.turn()
        self.assertValue(after, None)
        self.assertEqual(ran, ["after"])

    def test_W06_firedDeferred(self) -> None:
        """
        A Deferred that has fired already, and one that has failed already, are results too.
        """
        good: Deferred[int] = Deferred()
        good.callback(5)
        bad: Deferred[int] = Deferred()
        bad.errback(KeyError("bad"))
        self.assertValue(self.runs(lambda: good), 5)
        self.assertFailed(self.runs(lambda: bad), KeyError, WorkerError)

    def test_W06_coroutines(self) -> None:
        """
        Coroutine functions and generators in C{inlineCallbacks} are run to their ends.
        """

        async def coroutine(text: str) -> int:
            await deferLater(self.clock, 1, int)
            return int(text)

        @inlineCallbacks
        def generator(text: str) -> Any:
            yield deferLater(self.clock, 1, int)
            return int(text)

        for func in (coroutine, generator):
            good = self.runs(func, "5")
            bad = self.runs(func, "five")
            self.assertPending(good)
            self.clock.advance(1)
            self.assertValue(good, 5)
            self.turn()
            self.assertPending(bad)
            self.clock.advance(1)
            self.assertFailed(bad, ValueError, WorkerError)

    def test_W06_noneAndFailure(self) -> None:
        """
        C{None} is a result, and a C{Failure} that is returned is an error.
        """
        self.assertValue(self.runs(lambda: None), None)
        self.assertFailed(self.runs(lambda: Failure(KeyError("returned"))), KeyError, WorkerError)

    def test_W06_direct(self) -> None:
        """
        Without a queue, run() runs a task in the next turn and tells when the worker can take another.
        """
        worker = AsyncWorker(reactor=self.clock)
        task = Task(divmod, (7, 2), {}, 0, None)
        ready = Outcome(worker.run(task))
        outcome = Outcome(task.d)
        self.assertPending(outcome)
        self.assertPending(ready)
        self.turn()
        self.assertValue(outcome, ("r", (3, 1)))
        self.assertValue(ready, None)

    def test_W06_oneAtATime(self) -> None:
        """
        Of calls that wait for Deferreds, each begins when the one before has its result.
        """
        running: list[int] = []
        most: list[int] = []

        async def work(number: int) -> int:
            running.append(number)
            most.append(len(running))
            await deferLater(self.clock, 1, int)
            running.remove(number)
            return number

        outcomes = [self.call(self.queue, work, number) for number in range(5)]
        for number in range(5):
            self.turn()
            self.assertEqual(running, [number])
            self.clock.advance(1)
        self.assertEqual([outcome.value for outcome in outcomes], list(range(5)))
        self.assertEqual(set(most), {1})

    def test_W06_twoWorkers(self) -> None:
        """
        Two workers have two calls waiting at a time.
        """
        self.queue.attachWorker(AsyncWorker(reactor=self.clock))
        waiting: list[Deferred[None]] = []

        def wait() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        outcomes = [self.call(self.queue, wait) for _ in range(3)]
        self.turn()
        self.assertEqual(len(waiting), 2)
        waiting[1].callback(None)
        self.turn()
        self.assertEqual(len(waiting), 3)
        waiting[0].callback(None)
        waiting[2].callback(None)
        self.turn()
        for outcome in outcomes:
            self.assertValue(outcome, None)

    def test_N08_context(self) -> None:
        """
        Variables of the caller, and what is in Twisted's context, are there in the call, and in a coroutine throughout.
        """

        async def look() -> list[Any]:
            found = [variable.get(), twistedContext.get("key")]
            await deferLater(self.clock, 1)
            found.append(variable.get())
            variable.set("set in the call")
            return found

        def call() -> Outcome:
            variable.set("the caller's")
            return self.call(self.queue, look)

        outcome = twistedContext.call({"key": "value"}, copy_context().run, call)
        self.turn()
        self.clock.advance(1)
        self.assertValue(outcome, ["the caller's", "value", "the caller's"])
        self.assertEqual(variable.get(), "nothing")
        self.assertValue(self.runs(variable.get), "nothing")

    def test_currentCall(self) -> None:
        """
        A function, and a coroutine after it has waited, can see which call it is.
        """

        async def look() -> list[Any]:
            before = currentCall()
            await deferLater(self.clock, 1)
            after = currentCall()
            assert before is not None
            return [before is after, before.attempt, before.series, before.workerID]

        outcome = self.runs(look, series="own")
        self.clock.advance(1)
        self.assertValue(outcome, [True, 1, "own", 1])
        self.assertIsNone(currentCall())


class ErrorTests(AsyncTestCase):
    """
    Calls that raise.
    """

    def test_Z07_goesOn(self) -> None:
        """
        After a call has failed, in whatever way, the next ones run.
        """

        def fails() -> None:
            raise KeyError("at once")

        async def failsLater() -> None:
            await deferLater(self.clock, 0)
            raise KeyError("later")

        def failsInDeferred() -> Deferred[None]:
            d: Deferred[None] = Deferred()
            self.clock.callLater(0, d.errback, KeyError("in a Deferred"))
            return d

        for func in (fails, failsLater, failsInDeferred):
            outcomes = [self.call(self.queue, func) for _ in range(3)]
            after = self.call(self.queue, int, "5")
            for _ in range(10):
                self.turn()
            for outcome in outcomes:
                self.assertFailed(outcome, KeyError, WorkerError)
            self.assertValue(after, 5)

    def test_F04_exits(self) -> None:
        """
        What would end a program ends only the call, and the worker goes on.
        """

        def leave(kind: type[BaseException]) -> None:
            raise kind("leaving")

        async def leaveLater(kind: type[BaseException]) -> None:
            await deferLater(self.clock, 0)
            raise kind("leaving")

        async def leaveAtOnce(kind: type[BaseException]) -> None:
            raise kind("leaving")

        def leaveInDeferred(kind: type[BaseException]) -> Deferred[None]:
            d: Deferred[None] = Deferred()
            d.errback(kind("leaving"))
            return d

        for func in (leave, leaveLater, leaveAtOnce, leaveInDeferred):
            for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
                outcome = self.runs(func, kind)
                after = self.call(self.queue, int, "5")
                self.turn()
                self.turn()
                error = self.assertFailed(outcome, RemoteError)
                self.assertNotIsInstance(error, kind)
                self.assertIn(kind.__name__, error.remoteType)
                self.assertValue(after, 5)

    def test_original(self) -> None:
        """
        The very exception is at hand, and its traceback is told without the library's own frames.
        """
        raised = KeyError("the very one")

        def fails() -> None:
            raise raised

        error = self.assertFailed(self.runs(fails), KeyError)
        self.assertIs(error.original, raised)
        self.assertIn("fails", str(error))
        self.assertNotIn("runInContext", str(error))

    def test_F84_callbackRaises(self) -> None:
        """
        A callback that raises is logged, once, and no other call suffers.
        """

        def fails(value: Any) -> None:
            raise KeyError(value)

        outcomes = [self.call(self.queue, int) for _ in range(3)]
        d = self.queue.call(int, "7")
        d.addCallback(fails)
        outcomes += [self.call(self.queue, int) for _ in range(3)]
        self.turn()
        for outcome in outcomes:
            self.assertValue(outcome, 0)
        del d
        self.assertValue(self.runs(int, "8"), 8)
        gc.collect()
        errors = self.flushLoggedErrors(KeyError)
        self.assertEqual([error.value.args for error in errors], [(7,)])

    def test_F84_unhandled(self) -> None:
        """
        An error that nobody handles is logged, once, and no other call suffers.
        """
        self.queue.call(int, "seven")
        after = self.call(self.queue, int, "8")
        self.turn()
        self.assertValue(after, 8)
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_F83_shutdownInCallback(self) -> None:
        """
        A callback may shut the queue down.
        """
        ended: list[Outcome] = []
        first = self.queue.call(int)
        first.addCallback(lambda _: ended.append(Outcome(self.queue.shutdown())))
        second = self.call(self.queue, int, "2")
        self.turn()
        self.assertValue(second, 2)
        self.assertValue(ended[0], [])


class CancelTests(AsyncTestCase):
    """
    Cancelling at each stage.
    """

    def test_F80_queued(self) -> None:
        """
        A call that waits is never run, nor is one that the worker has and has not begun.
        """
        ran: list[str] = []
        first = self.queue.call(ran.append, "first")
        second = self.queue.call(ran.append, "second")
        third = self.call(self.queue, ran.append, "third")
        for d in (first, second):
            outcome = Outcome(d)
            d.cancel()
            self.assertFailed(outcome, CancelledError)
        self.turn()
        self.assertEqual(ran, ["third"])
        self.assertValue(third, None)

    def test_F81_inner(self) -> None:
        """
        The Deferred that a call waits for is cancelled, and the next call runs.
        """
        cancelled: list[Deferred[None]] = []
        inner: Deferred[None] = Deferred(cancelled.append)
        d = self.queue.call(lambda: inner)
        outcome = Outcome(d)
        after = self.call(self.queue, int, "5")
        self.turn()
        d.cancel()
        self.assertFailed(outcome, CancelledError)
        self.assertEqual(cancelled, [inner])
        self.turn()
        self.assertValue(after, 5)

    def test_F81_coroutine(self) -> None:
        """
        A coroutine gets the error where it waits, and can clean up.
        """
        events: list[str] = []

        async def work() -> None:
            try:
                await deferLater(self.clock, 100)
            except CancelledError:
                events.append("cancelled")
                raise
            finally:
                events.append("cleaned up")

        d = self.queue.call(work)
        outcome = Outcome(d)
        self.turn()
        d.cancel()
        self.assertFailed(outcome, CancelledError)
        self.assertEqual(events, ["cancelled", "cleaned up"])
        self.assertValue(self.runs(int), 0)

    def test_F81_ignored(self) -> None:
        """
        A call that does not end when it is cancelled keeps the worker busy until it does; its caller does not wait.
        """

        async def stubborn() -> str:
            try:
                await deferLater(self.clock, 100)
            except CancelledError:
                await deferLater(self.clock, 10)
            return "done nevertheless"

        d = self.queue.call(stubborn)
        outcome = Outcome(d)
        after = self.call(self.queue, int, "5")
        self.turn()
        d.cancel()
        self.assertFailed(outcome, CancelledError)
        self.clock.advance(9)
        self.turn()
        self.assertPending(after)
        self.clock.advance(1)
        self.turn()
        self.assertValue(after, 5)
        self.assertEqual(outcome.fired, 1)
        self.assertEqual(self.queue.statistics().late, 1)

    def test_F81_ignoredByDeferred(self) -> None:
        """
        So does a Deferred whose chain goes on after it has been cancelled.
        """
        inner: Deferred[None] = Deferred()
        more: Deferred[str] = Deferred()
        inner.addErrback(lambda _: more)
        d = self.queue.call(lambda: inner)
        outcome = Outcome(d)
        after = self.call(self.queue, int, "5")
        self.turn()
        d.cancel()
        self.assertFailed(outcome, CancelledError)
        self.turn()
        self.assertPending(after)
        more.callback("at last")
        self.turn()
        self.assertValue(after, 5)

    def test_F81_byItself(self) -> None:
        """
        A function may cancel its own call; what it returns is cancelled, or dropped.
        """
        cancelled: list[Deferred[None]] = []
        inner: Deferred[None] = Deferred(cancelled.append)
        calls: list[Deferred[Any]] = []

        def work(result: Any) -> Any:
            calls[-1].cancel()
            return result

        for result in (inner, "a value"):
            calls.append(self.queue.call(work, result))
            outcome = Outcome(calls[-1])
            self.turn()
            self.assertFailed(outcome, CancelledError)
            self.assertValue(self.runs(int), 0)
        self.assertEqual(cancelled, [inner])

    def test_F82_settled(self) -> None:
        """
        Cancelling a call that is settled, and cancelling twice, does nothing.
        """
        d = self.queue.call(int)
        outcome = Outcome(d)
        self.turn()
        d.cancel()
        self.assertValue(outcome, 0)
        inner: Deferred[None] = Deferred()
        waiting = self.queue.call(lambda: inner)
        cancelled = Outcome(waiting)
        self.turn()
        waiting.cancel()
        waiting.cancel()
        self.assertFailed(cancelled, CancelledError)

    def test_timeout(self) -> None:
        """
        A call whose time is up is cancelled, run again, and cancelled again.
        """
        cancelled: list[Deferred[None]] = []
        outcome = self.runs(lambda: Deferred(cancelled.append), timeout=5)
        self.clock.advance(5)
        self.assertEqual(len(cancelled), 1)
        self.assertPending(outcome)
        self.turn()
        self.clock.advance(5)
        self.assertEqual(len(cancelled), 2)
        self.assertFailed(outcome, TimeoutError)
        self.assertValue(self.runs(int), 0)

    def test_crash(self) -> None:
        """
        A worker that is crashed cancels what it waits for, and gives back all it has.
        """
        cancelled: list[Deferred[None]] = []
        running = self.runs(lambda: Deferred(cancelled.append))
        left = Outcome(self.queue.detachWorker(self.worker, crash=True))
        self.assertEqual(len(cancelled), 1)
        self.assertFailed(running, WorkerLost)
        self.assertEqual(len(left.value), 1)

    def test_crashBeforeBegin(self) -> None:
        """
        A worker that is crashed in the turn in which it got a call never runs it. Another one does.
        """
        ran: list[str] = []
        outcome = self.call(self.queue, ran.append, "once")
        self.queue.attachWorker(AsyncWorker(reactor=self.clock))
        self.queue.detachWorker(self.worker, crash=True, reassign=True)
        self.turn()
        self.assertValue(outcome, None)
        self.assertEqual(ran, ["once"])

    def test_crashInCall(self) -> None:
        """
        A call may crash the worker that runs it; what it returns is cancelled.
        """
        cancelled: list[Deferred[None]] = []

        def work() -> Deferred[None]:
            self.queue.detachWorker(self.worker, crash=True)
            return Deferred(cancelled.append)

        self.assertFailed(self.runs(work), WorkerLost)
        self.assertEqual(len(cancelled), 1)

    def test_stop(self) -> None:
        """
        A worker that is stopped is done when its calls are.
        """
        inner: Deferred[None] = Deferred()
        worker = AsyncWorker(reactor=self.clock)
        self.assertValue(Outcome(worker.stop()), None)
        task = Task(lambda: inner, (), {}, 0, None)
        worker.run(task)
        self.turn()
        stopped = Outcome(worker.stop())
        self.assertPending(stopped)
        inner.callback(None)
        self.assertValue(stopped, None)
        self.assertValue(Outcome(task.d), ("r", None))


class ReactorTests(LeakCheckMixin, TestCase):
    """
    Tests on the real reactor.
    """

    timeout = 60

    def makeQueue(self, *workers: AsyncWorker) -> TaskQueue:
        """
        Make a queue that delivers failures.
        """
        queue = TaskQueue(*(workers or (AsyncWorker(),)), returnFailure=True)
        self.addCleanup(queue.shutdown, drain=False, deadline=10)
        return queue

    async def test_W06_reactorsThread(self) -> None:
        """
        Calls run in the reactor's thread, after C{call} has returned.
        """
        queue = self.makeQueue()
        ran: list[int] = []

        def work() -> None:
            ran.append(threading.get_ident())

        call = queue.call(work)
        self.assertEqual(ran, [])
        await call
        self.assertEqual(ran, [threading.get_ident()])

    async def test_W06_burst(self) -> None:
        """
        A burst of calls arrives whole and in order.
        """
        queue = self.makeQueue(AsyncWorker(), AsyncWorker())
        self.assertEqual(await gatherResults([queue.call(int, each) for each in range(20_000)]), list(range(20_000)))

    async def test_F83_deepChain(self) -> None:
        """
        A chain of 100,000 calls, each of which is made by the callback of the one before, does not recurse.
        """
        queue = self.makeQueue()
        done: Deferred[None] = Deferred()

        def again(number: int) -> None:
            if number:
                queue.call(int, number - 1).addCallback(again).addErrback(done.errback)
            else:
                done.callback(None)

        again(100_000)
        await done

    async def test_F83_deepChainOfFunctions(self) -> None:
        """
        Nor does one in which each is made by the function of the one before.
        """
        queue = self.makeQueue()
        done: Deferred[None] = Deferred()

        def again(number: int) -> None:
            if number:
                queue.call(again, number - 1).addErrback(done.errback)
            else:
                done.callback(None)

        again(50_000)
        await done

    async def test_F83_fairTurns(self) -> None:
        """
        While a large backlog is worked off, the reactor has turns for others, none of them long in coming.
        """
        queue = self.makeQueue()
        turns: list[int] = []
        done: list[int] = []
        left = 50_000

        def turn() -> None:
            turns.append(len(done))
            if len(done) < left:
                reactor.callLater(0, turn)

        calls = [queue.call(done.append, number) for number in range(left)]
        reactor.callLater(0, turn)
        await gatherResults(calls)
        await deferLater(reactor, 0)
        # A turn of the queue is 20 ms, in which no machine does a fifth of this.
        self.assertGreater(len(turns), 5)
        self.assertLess(max(after - before for before, after in pairwise(turns)), left // 2)

    async def test_F83_fairTurnsOfChain(self) -> None:
        """
        A chain of calls without end leaves the reactor its turns.
        """
        queue = self.makeQueue()
        ended: list[bool] = []

        def again(_: object) -> None:
            if not ended:
                queue.call(int).addCallback(again)

        again(None)
        for _ in range(20):
            await deferLater(reactor, 0)
        ended.append(True)

    async def test_F04_exit(self) -> None:
        """
        A call that raises C{SystemExit} does not end the program.
        """
        queue = self.makeQueue()

        def leave() -> None:
            raise SystemExit(3)

        await self.assertFailure(queue.call(leave), RemoteError)
        self.assertEqual(await queue.call(int), 0)

    async def test_globalReactor(self) -> None:
        """
        A worker that has been given a reactor uses no other.
        """
        clock = Clock()
        worker = AsyncWorker(reactor=clock)
        task = Task(int, (), {}, 0, None)
        ready = worker.run(task)
        await deferLater(reactor, 0)
        self.assertNoResult(ready)
        clock.advance(0)
        self.assertIsNone(self.successResultOf(ready))
        self.assertEqual(self.successResultOf(task.d), ("r", 0))
