"""
Tests of calls: what is queued, what comes back, what is run again, and what errors look like.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import io
import pickle
import sys
from collections import Counter
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Invalid, implementer

from asynqueue import AsyncWorker, errors
from asynqueue.errors import (
    AsynQueueError,
    ImplementationError,
    InvariantError,
    NotReadyError,
    PoisonTask,
    ProcessError,
    QueueClosed,
    QueueFull,
    QueueRunError,
    QueueShutdown,
    RemoteError,
    ThreadError,
    TimeoutError,
    Undeliverable,
    WorkerError,
    WorkerHung,
    WorkerLost,
)
from asynqueue.interfaces import IConsumer
from asynqueue.tasks import Task, TaskFactory
from asynqueue.testing import Act, ManagedMemoryWorker, MemoryWorker, ScriptedWorker
from asynqueue.testing.tasks import fail as raising
from asynqueue.testing.tasks import identity, timesTwo
from test.support import Consumer, Outcome, QueueTestCase

#: F38: the longest text of an error, in characters.
TEXT_LIMIT = 64 * 1024


@implementer(IConsumer)
class RealConsumer(Consumer):
    """
    A consumer.
    """


class CallTests(QueueTestCase):
    """
    What is called, and with what.
    """

    def setUp(self) -> None:
        """
        Make a queue of one worker.
        """
        super().setUp()
        self.worker = MemoryWorker(["a"])
        self.queue = self.makeQueue(self.worker)

    def test_C01_callFiresWithTheResult(self) -> None:
        """
        The function gets its arguments, and the Deferred its result.
        """
        outcome = self.call(self.queue, divmod, 17, 5)
        self.assertPending(outcome)
        self.worker.step()
        self.assertValue(outcome, (3, 2))

    def test_C01_functionsOwnKeywordsPassThrough(self) -> None:
        """
        Those that are not reserved, C{thread} among them.
        """
        outcome = self.call(self.queue, dict, one=1, thread=True, priority=3, idempotent=0, series="a")
        self.worker.step()
        self.assertValue(outcome, {"one": 1, "thread": True, "priority": 3, "idempotent": 0})

    def test_C01_notRunningIsAQueueRunError(self) -> None:
        """
        C{call} errbacks on a closed queue, C{newTask} raises.
        """
        self.shutDown(self.queue)
        self.assertFailed(self.call(self.queue, int), QueueClosed, QueueRunError)
        with self.assertRaises(QueueRunError):
            self.queue.newTask(int, (), {})

    def test_C01_notCallable(self) -> None:
        """
        What cannot be called is refused at the call.
        """
        with self.assertRaises(TypeError):
            self.queue.call(3)  # type: ignore[call-overload]
        self.assertEqual(self.queue.outstanding(), [])

    def test_C02_reservedKeywordsAreRemoved(self) -> None:
        """
        The function sees none of the documented ones.
        """
        outcome = self.call(
            self.queue,
            dict,
            niceness=3,
            series="a",
            doNext=True,
            doLast=False,
            timeout=100,
            consumer=None,
            returnFailure=True,
            raw=True,
            own="own",
        )
        self.worker.step()
        self.assertValue(outcome, {"own": "own"})

    def test_C02_keywordsOfTheWrongType(self) -> None:
        """
        Are errors at the call, and nothing is queued.
        """
        wrongs: list[tuple[dict[str, Any], type[Exception]]] = [
            ({"timeout": "5"}, TypeError),
            ({"timeout": True}, TypeError),
            ({"timeout": -1}, ValueError),
            ({"timeout": float("inf")}, ValueError),
            ({"timeout": float("nan")}, ValueError),
            ({"series": []}, TypeError),
            ({"series": {}}, TypeError),
            ({"consumer": object()}, TypeError),
            ({"niceness": 99}, ValueError),
        ]
        for wrong, kind in wrongs:
            with self.assertRaises(kind, msg=str(wrong)):
                self.queue.call(int, **wrong)
        self.assertEqual(self.queue.statistics().submitted, 0)

    def test_C03_optionsLeaveTheFunctionItsKeywords(self) -> None:
        """
        All of them, also those that C{call} reserves.
        """
        own = {"niceness": "n", "series": [], "doNext": 1, "doLast": 1, "timeout": "own", "consumer": 0, "raw": 2}
        outcome = self.call(self.queue.options(niceness=5, series="a", timeout=3.0), dict, **own, returnFailure=None)
        (task,) = self.worker.held
        self.assertEqual((task.series, task.timeout, task.priority), ("a", 3.0, 5))
        self.worker.step()
        self.assertValue(outcome, {**own, "returnFailure": None})

    def test_C03_optionsAreReusable(self) -> None:
        """
        One object serves any number of calls.
        """
        verbs = self.queue.options(series="a")
        outcomes = [self.call(verbs, identity, number) for number in range(3)]
        self.worker.stepAll()
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)

    def test_C03_unknownOption(self) -> None:
        """
        Is an error, as is one that makes no sense.
        """
        wrongs: list[dict[str, Any]] = [{"nicenes": 5}, {"returnFailure": False}, {"series": []}, {"timeout": "1"}]
        for wrong in wrongs:
            with self.assertRaises(TypeError, msg=str(wrong)):
                self.queue.options(**wrong)
        with self.assertRaises(ValueError):
            self.queue.options(doNext=True, doLast=True)

    def test_C03_optionsAlwaysDeliverFailures(self) -> None:
        """
        Whatever the queue does with errors.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, returnFailure=False, warn=True)
        outcome = self.call(queue.options(niceness=1), raising, ValueError, "as it should")
        worker.step()
        self.assertFailed(outcome, ValueError)

    def test_C04_newTask(self) -> None:
        """
        Makes a task and queues nothing; the reserved keywords are taken out of the dictionary.
        """
        keywords = {"own": 1, "series": "a", "niceness": 7, "timeout": 2.5}
        task = self.queue.newTask(dict, [], keywords)
        self.assertEqual(keywords, {"own": 1})
        func, args, kw = task.callTuple
        self.assertEqual((func, tuple(args), kw), (dict, (), {"own": 1}))
        self.assertEqual((task.series, task.timeout), ("a", 2.5))
        self.assertEqual(self.worker.held, [])
        self.assertEqual(self.queue.outstanding(), [])

    def test_C04_newTaskTakesADeferred(self) -> None:
        """
        Its outcome is judged as that of a queued call.
        """
        task = self.queue.newTask(int, (), {})
        outcome = Outcome(task.d)
        task.callback((b"r", 5))
        self.assertValue(outcome, 5)

    def test_C04_newTaskIsNotCounted(self) -> None:
        """
        The counts of a queue are of the calls that it has accepted.
        """
        task = self.queue.newTask(int, (), {})
        outcome = Outcome(task.d)
        task.d.cancel()
        self.assertFailed(outcome, CancelledError)
        other = self.queue.newTask(int, (), {})
        failed = Outcome(other.d)
        other.callback(("x", "no"))
        self.assertFailed(failed, WorkerError)
        statistics = self.queue.statistics()
        self.assertEqual((statistics.cancelled, statistics.failed, statistics.succeeded), (0, 0, 0))

    def test_C04_argumentsOfTheWrongType(self) -> None:
        """
        C{args} must be a list or tuple, C{kw} a dictionary.
        """
        for args, kw in (("ab", {}), ({1}, {}), (None, {}), ((), []), ((), None)):
            with self.assertRaises(TypeError):
                self.queue.newTask(int, args, kw)  # type: ignore[arg-type]

    def test_Z06_rerunHasAllThatTheFirstRunHad(self) -> None:
        """
        Keywords and options survive a worker that takes them out of what it is given.
        """
        consumer = RealConsumer()
        outcome = self.call(self.queue, dict, own=1, raw=True, consumer=consumer, doNext=True)
        (task,) = self.worker.held
        task.callTuple[2].clear()
        self.worker.report("d")
        (again,) = self.worker.held
        self.assertIsNot(again, task)
        self.assertEqual(again.callTuple[2], {"own": 1})
        self.assertIs(again.options.consumer, consumer)
        self.assertIs(again.options.raw, True)
        self.worker.step()
        self.assertValue(outcome, {"own": 1})

    def test_Z06_everyWorkerSeesTheOptionsOfAnUpdate(self) -> None:
        """
        Also the last one, with keywords of its own.
        """
        others = [MemoryWorker(), MemoryWorker()]
        for worker in others:
            self.queue.attachWorker(worker)
        results = Outcome(self.queue.update(dict, raw=True, own=1))
        for worker in (self.worker, *others):
            (task,) = worker.held
            self.assertIs(task.options.raw, True)
            self.assertEqual(task.callTuple[2], {"own": 1})
            task.callTuple[2].clear()
            worker.step()
        self.assertEqual(len(results.value), 3)

    def test_N18_asyncWith(self) -> None:
        """
        The queue is shut down at the end of the block, with what was queued done.
        """
        steps: list[Any] = []

        async def program() -> None:
            async with self.makeQueue(AsyncWorker(reactor=self.clock)) as queue:
                steps.append(queue)
                queue.call(steps.append, "called")
            steps.append(queue.isRunning())

        outcome = Outcome(Deferred.fromCoroutine(program()))
        self.assertPending(outcome)
        self.turn()
        self.assertValue(outcome, None)
        self.assertEqual(steps[1:], ["called", False])

    def test_N18_asyncWithAnError(self) -> None:
        """
        An exception ends the block, what was queued is refused, and the exception goes on.
        """
        calls: list[Outcome] = []

        async def program() -> None:
            async with self.makeQueue() as queue:
                calls.append(self.call(queue, int))
                raise KeyError("the block's own")

        outcome = Outcome(Deferred.fromCoroutine(program()))
        self.turn()
        self.assertFailed(outcome, KeyError)
        self.assertFailed(calls[0], QueueShutdown)


class UpdateTests(QueueTestCase):
    """
    Calls that every worker runs.
    """

    def test_C05_onEveryWorkerAheadOfTheQueue(self) -> None:
        """
        All attached workers run it, before what is queued, and the results come in a list.
        """
        workers = [MemoryWorker(), MemoryWorker()]
        queue = self.makeQueue(*workers)
        order: list[str] = []
        for label in ("running", "running", "queued", "queued"):
            self.call(queue, order.append, label)
        results = Outcome(queue.update(order.append, "update"))
        for worker in workers:
            worker.step()
        self.assertPending(results)
        for worker in workers:
            worker.stepAll()
        self.assertValue(results, [None, None])
        self.assertEqual(order, ["running", "running", "update", "queued", "queued", "update"])

    def test_C05_onWorkersHiredLater(self) -> None:
        """
        A worker that comes runs the updates, in order, before it is attached and gets anything else.
        """
        queue = self.makeQueue()
        self.assertValue(Outcome(queue.update(identity, 1)), [])
        queue.update(identity, 2)
        waits = self.call(queue, identity, "queued")
        worker = MemoryWorker()
        hired = Outcome(queue.attachWorker(worker))
        worker.step()
        self.assertPending(hired)
        worker.step()
        self.assertValue(hired, 1)
        worker.step()
        self.assertValue(waits, "queued")
        self.assertEqual([task.callTuple[1] for task in worker.started], [(1,), (2,), ("queued",)])

    def test_C05_ephemeral(self) -> None:
        """
        Is for the workers that are there.
        """
        first, later = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(first)
        results = Outcome(queue.update(timesTwo, 4, ephemeral=True))
        first.step()
        self.assertValue(results, [8])
        self.assertValue(Outcome(queue.attachWorker(later)), 2)
        self.assertEqual(later.started, [])

    def test_C05_sequential(self) -> None:
        """
        One worker after the other.
        """
        workers = [MemoryWorker(), MemoryWorker(), MemoryWorker()]
        queue = self.makeQueue(*workers)
        results = Outcome(queue.update(identity, 1, sequential=True))
        for number, worker in enumerate(workers):
            self.assertEqual([len(each.held) for each in workers], [int(each is worker) for each in workers])
            self.assertPending(results)
            worker.report("r", number)
        self.assertValue(results, [0, 1, 2])

    def test_C05_onlyForASeries(self) -> None:
        """
        Only workers that are qualified for it run it, now and later.
        """
        able, unable = MemoryWorker(["a"]), MemoryWorker(["b"])
        queue = self.makeQueue(able, unable)
        results = Outcome(queue.update(identity, 3, series="a"))
        able.step()
        self.assertValue(results, [3])
        self.assertEqual(unable.started, [])
        late = MemoryWorker()
        self.assertValue(Outcome(queue.attachWorker(late)), 3)
        self.assertEqual(late.started, [])

    def test_C05_consumerIsRefused(self) -> None:
        """
        An update cannot have one.
        """
        queue = self.makeQueue(MemoryWorker())
        with self.assertRaises(ValueError):
            queue.update(int, consumer=RealConsumer())
        with self.assertRaises(ValueError):
            queue.options(consumer=RealConsumer()).update(int)

    def test_C05_workerThatIsUnfitRunsItWhenItIsFitAgain(self) -> None:
        """
        An update is for every worker that is attached, and for one that comes back.
        """
        worker = ManagedMemoryWorker()
        queue = self.makeQueue(worker)
        worker.setFitness("is stuck")
        queue.update(identity, 1)
        worker.setFitness("")
        self.call(queue, identity, 2)
        worker.stepAll()
        self.assertEqual([task.callTuple[1] for task in worker.started], [(1,), (2,)])

    def test_C05_canBeCancelled(self) -> None:
        """
        What is running and what waits.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        running = queue.update(identity, 1)
        waiting = queue.update(identity, 2)
        outcomes = Outcome(running), Outcome(waiting)
        waiting.cancel()
        running.cancel()
        for outcome in outcomes:
            self.assertEqual(outcome.fired, 1)
        worker.stepAll()
        self.assertEqual([task.callTuple[1] for task in worker.started], [(1,)])
        self.assertEqual(queue.outstanding(), [])

    def test_C05_onAClosedQueue(self) -> None:
        """
        Errbacks.
        """
        queue = self.makeQueue(MemoryWorker())
        self.shutDown(queue)
        self.assertFailed(Outcome(queue.update(int)), QueueClosed)

    def test_C05_timeoutOfAnUpdate(self) -> None:
        """
        It is not given to another worker, nor run again.
        """
        one, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(one, other)
        results = Outcome(queue.update(identity, 1, timeout=3))
        other.step()
        self.clock.advance(3)
        self.assertEqual(results.fired, 1)
        failure, value = results.value
        self.assertTrue(failure.check(TimeoutError))
        self.assertEqual(value, 1)
        self.assertEqual((len(one.started), len(other.started)), (1, 1))

    def test_Z28_resultsAreValuesAndFailures(self) -> None:
        """
        A call that fails leaves a failure in the list, whatever the queue does with errors of calls.
        """
        workers = [MemoryWorker(), MemoryWorker()]
        queue = self.makeQueue(*workers, returnFailure=False, warn=True)
        results = Outcome(queue.update(raising, ValueError, "one"))
        for worker in workers:
            worker.step()
        for failure in results.value:
            self.assertIsInstance(failure, Failure)
            self.assertTrue(failure.check(ValueError))

    def test_Z28_workerThatFailsAnUpdateIsNotHired(self) -> None:
        """
        C{attachWorker} errbacks with the failure, and the worker gets nothing and is stopped.
        """
        queue = self.makeQueue()
        queue.update(raising, ValueError, "as it should")
        worker = MemoryWorker()
        hired = Outcome(queue.attachWorker(worker))
        worker.step()
        self.assertFailed(hired, ValueError)
        self.assertEqual(len(queue), 0)
        self.assertTrue(worker.isStopping)
        self.assertPending(self.call(queue, int))
        self.assertEqual(worker.held, [])


class OutcomeTests(QueueTestCase):
    """
    What becomes of a status and a result.
    """

    def setUp(self) -> None:
        """
        Make a queue of one worker, with a call.
        """
        super().setUp()
        self.worker = MemoryWorker()
        self.queue = self.makeQueue(self.worker)
        self.outcome = self.call(self.queue, identity, 1)

    def test_R01_lettersAsBytesAndText(self) -> None:
        """
        Both are accepted.
        """
        self.worker.report(b"r", "bytes")
        self.assertValue(self.outcome, "bytes")
        other = self.call(self.queue, identity, 1)
        self.worker.report("r", "text")
        self.assertValue(other, "text")

    def test_R01_taskDone(self) -> None:
        """
        The documented method makes the result of any task's status.
        """
        task = self.queue.newTask(identity, (1,), {})
        self.assertEqual(self.queue.taskDone((b"r", 5), task), 5)
        self.assertIsNone(self.queue.taskDone(("n", None), task))
        failure = self.queue.taskDone((b"e", "traceback text"), task, rf=True)
        self.assertIsInstance(failure, Failure)
        self.assertTrue(failure.check(WorkerError))
        with self.assertRaises(TypeError):
            self.queue.taskDone(("r", 1), task, unknown=True)

    def test_R01_taskDoneRunsAgain(self) -> None:
        """
        A task that was not started is queued, and a Deferred of its result is returned.
        """
        task = self.queue.newTask(identity, ("again",), {})
        again = self.queue.taskDone(("d", None), task)
        outcome = Outcome(again)
        self.worker.stepAll()
        self.assertValue(outcome, "again")

    def test_R01_taskDoneOnAClosedQueue(self) -> None:
        """
        Nothing is run again once the queue is closed: what C{taskDone} returns has failed, or fails.
        """
        task = self.queue.newTask(identity, ("again",), {})
        self.shutDown(self.queue)
        value = self.queue.taskDone(("d", None), task)
        if not isinstance(value, Failure):
            outcome = Outcome(value)
            self.turn()
            self.assertFailed(outcome, AsynQueueError)

    def test_R02_errorText(self) -> None:
        """
        The text that a worker reports becomes a failure that shows it.
        """
        self.worker.report(b"e", "Traceback: it went wrong")
        error = self.assertFailed(self.outcome, WorkerError)
        self.assertIn("it went wrong", str(error))
        self.assertIn("it went wrong", error.remoteTraceback)

    def test_R02_returnFailurePerCall(self) -> None:
        """
        The call's keyword decides before the queue's.
        """
        self.patch(sys, "stderr", io.StringIO())
        worker = MemoryWorker()
        queue = self.makeQueue(worker, returnFailure=False, warn=True)
        asked = self.call(queue, raising, ValueError, "asked", returnFailure=True)
        unasked = self.call(queue, raising, ValueError, "unasked")
        other = self.makeQueue(worker2 := MemoryWorker(), returnFailure=True, warn=True)
        declined = self.call(other, raising, ValueError, "declined", returnFailure=False)
        worker.stepAll()
        worker2.stepAll()
        self.assertFailed(asked, ValueError)
        self.assertIsNone(unasked.failure)
        self.assertIn("ValueError: unasked", unasked.value)
        self.assertIsNone(declined.failure)
        self.assertIn("ValueError: declined", declined.value)

    def test_R03_plainValue(self) -> None:
        """
        Whatever it is.
        """
        value = object()
        self.worker.report("r", value)
        self.assertValue(self.outcome, value)

    def test_R03_falseValues(self) -> None:
        """
        Are values like any other.
        """
        self.worker.stepAll()
        values: list[Any] = [None, 0, "", [], False]
        for value in values:
            outcome = self.call(self.queue, identity, value)
            self.worker.step()
            self.assertEqual((outcome.fired, outcome.failure, outcome.value), (1, None, value))

    def test_R05_chunks(self) -> None:
        """
        A value that is arriving in pieces is waited for, without holding the worker.
        """
        arriving: Deferred[str] = Deferred()
        self.worker.report(b"c", arriving)
        other = self.call(self.queue, identity, 2)
        self.worker.step()
        self.assertValue(other, 2)
        self.assertPending(self.outcome)
        arriving.callback("whole")
        self.assertValue(self.outcome, "whole")

    def test_R05_chunksThatFail(self) -> None:
        """
        The failure is the call's.
        """
        self.worker.report("c", fail(KeyError("lost piece")))
        self.assertFailed(self.outcome, KeyError)

    def test_R07_nothing(self) -> None:
        """
        Is C{None}, whatever came with it.
        """
        self.worker.report(b"n", "ignored")
        self.assertValue(self.outcome, None)

    def test_R09_unknownStatus(self) -> None:
        """
        Whatever a worker reports that is no status is the call's failure, and the queue goes on.
        """
        self.worker.stepAll()
        hostile: list[Any] = [("?", 1), (b"zz", 1), ("r",), ("r", 1, 2), None, 5, "r", ([], 1), ({}, {}), (None, None)]
        for odd in hostile:
            outcome = self.call(self.queue, identity, 1)
            (task,) = self.worker.held
            self.worker.held.clear()
            task.callback(odd)
            self.worker.getReady()
            error = self.assertFailed(outcome, WorkerError)
            self.assertIn("identity(1)", str(error))
        after = self.call(self.queue, identity, "still here")
        self.worker.step()
        self.assertValue(after, "still here")

    def test_R09_emptyOutcome(self) -> None:
        """
        An empty tuple is no status, either.
        """
        (task,) = self.worker.held
        self.worker.held.clear()
        task.callback(())  # type: ignore[arg-type]
        self.worker.getReady()
        self.assertFailed(self.outcome, WorkerError)

    def test_F85_onlyTheFirstOutcomeCounts(self) -> None:
        """
        Those after it are dropped and counted.
        """
        (task,) = self.worker.held
        self.worker.report("r", "first")
        task.callback(("r", "second"))
        task.errback(Failure(KeyError("third")))
        self.assertValue(self.outcome, "first")
        self.assertEqual(self.queue.statistics().late, 2)

    def test_R01_refused(self) -> None:
        """
        The reason is the failure: an exception, a Failure or a text.
        """
        self.worker.report("x", KeyError("reason"))
        self.assertFailed(self.outcome, KeyError)
        for reason in (Failure(KeyError("reason")), "the reason"):
            outcome = self.call(self.queue, identity, 1)
            self.worker.report(b"x", reason)
            self.assertIn(
                "reason", str(self.assertFailed(outcome, KeyError if reason != "the reason" else WorkerError))
            )

    def test_R01_cancelledByTheWorker(self) -> None:
        """
        Is C{CancelledError}.
        """
        self.worker.report("k")
        self.assertFailed(self.outcome, CancelledError)

    def test_R04_consumerThatCannotBeServed(self) -> None:
        """
        What a worker calls an iterator, and is none, is an error, not a result.
        """
        self.worker.stepAll()
        for keywords in ({}, {"consumer": RealConsumer()}):
            outcome = self.call(self.queue, identity, 1, **keywords)
            self.worker.report("i", [1])
            self.assertIn("[1]", str(self.assertFailed(outcome, WorkerError)))

    def test_F43_deferredsAndCoroutinesAreAwaited(self) -> None:
        """
        What a function of the reactor's worker returns later is its result.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))

        async def coroutine() -> str:
            return "coroutine"

        async def waiting(d: Deferred[str]) -> str:
            return await d

        later: Deferred[str] = Deferred()
        outcomes = [
            self.call(queue, succeed, "deferred"),
            self.call(queue, coroutine),
            self.call(queue, waiting, later),
            self.call(queue, identity, "after it"),
        ]
        self.turn()
        self.assertPending(outcomes[3])
        later.callback("later")
        self.turn()
        for outcome, value in zip(outcomes, ("deferred", "coroutine", "later", "after it"), strict=True):
            self.assertValue(outcome, value)

    def test_C01_neverRunsBeforeCallReturns(self) -> None:
        """
        The worker in the reactor begins in the turn after.
        """
        ran: list[int] = []
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        self.call(queue, ran.append, 1)
        self.assertEqual(ran, [])
        self.turn()
        self.assertEqual(ran, [1])


class RerunTests(QueueTestCase):
    """
    Which calls are run again, how often, and where they stand then.
    """

    def queueOf(self, *script: Act) -> None:
        """
        Make a queue with one scripted worker.
        """
        self.worker = ScriptedWorker(script)
        self.queue = self.makeQueue(self.worker)

    def test_R06_timedOutOnce(self) -> None:
        """
        The call is run again, ahead of others.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        first = self.call(queue, identity, "first")
        second = self.call(queue, identity, "second", doNext=True)
        worker.report("t")
        self.assertEqual(worker.held[0].callTuple[1], ("first",))
        self.assertEqual(worker.held[0].attempt, 2)
        worker.stepAll()
        self.assertValue(first, "first")
        self.assertValue(second, "second")

    def test_Z04_timedOutTwice(self) -> None:
        """
        The letter is understood as bytes and as text, and the second time is the last.
        """
        self.queueOf(Act.TIME_OUT)
        outcome = self.call(self.queue, identity, 1)
        self.assertFailed(outcome, TimeoutError, builtins.TimeoutError)
        self.assertEqual(self.queue.statistics().reruns, 1)

    def test_R08_notStartedIsRunElsewhere(self) -> None:
        """
        Ahead of others, and for nothing.
        """
        self.queueOf(*[Act.RETURN] * 20, Act.RUN)
        outcome = self.call(self.queue, identity, 1)
        self.assertValue(outcome, 1)
        self.assertEqual(len(self.worker.executions), 1)

    def test_R08_notStartedIsBounded(self) -> None:
        """
        After 20 times more, the call is C{Undeliverable}.
        """
        self.queueOf(Act.RETURN)
        outcome = self.call(self.queue, identity, 1)
        error = self.assertFailed(outcome, Undeliverable)
        self.assertIn("identity(1)", str(error))
        self.assertEqual(self.queue.statistics().reruns, 20)
        self.assertEqual(self.worker.executions, [])

    def test_Z29_callsAreToldApart(self) -> None:
        """
        Two calls of the same standing that time out in turn have a re-run each.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        one = self.call(queue, identity, 1, doNext=True)
        two = self.call(queue, identity, 2, doNext=True)
        worker.report("t")
        worker.report("r", "one")
        worker.report("t")
        worker.report("r", "two")
        self.assertValue(one, "one")
        self.assertValue(two, "two")

    def test_T02_lostOnce(self) -> None:
        """
        The call is run again.
        """
        self.queueOf(Act.LOSE, Act.RUN)
        outcome = self.call(self.queue, identity, 1)
        self.assertValue(outcome, 1)
        self.assertEqual(len(self.worker.executions), 2)

    def test_F16_poison(self) -> None:
        """
        After three executions that were lost, the call is not run again, and the error tells of all three.
        """
        self.queueOf(Act.LOSE)
        outcome = self.call(self.queue, identity, 1)
        error = self.assertFailed(outcome, PoisonTask, WorkerError)
        self.assertEqual(len(error.history), 3)
        for number in (1, 2, 3):
            self.assertIn(f"attempt {number}", error.history[number - 1])
        self.assertEqual(len(self.worker.executions), 3)

    def test_F16_thirdTimeAlone(self) -> None:
        """
        The last execution begins when its worker holds nothing, and the worker gets nothing beside it.
        """
        for worker in (MemoryWorker(overlaps=True), ManagedMemoryWorker(capacity=5)):
            with self.subTest(worker=type(worker).__name__):
                queue = self.makeQueue(worker)
                poison = self.call(queue, identity, "poison")
                worker.report("l")
                self.call(queue, identity, "beside")
                worker.report("l", task=next(task for task in worker.held if task.callTuple[1] == ("poison",)))
                self.call(queue, identity, "after")
                while worker.held[0].callTuple[1] != ("poison",):
                    worker.step()
                self.assertEqual(worker.held[0].attempt, 3)
                self.call(queue, identity, "after")
                self.assertEqual([task.callTuple[1] for task in worker.held], [("poison",)])
                worker.report("r", "survived")
                self.assertValue(poison, "survived")
                worker.stepAll()
                self.assertEqual(queue.outstanding(), [])

    def test_F16_lastExecutionIsAloneAfterATimeoutToo(self) -> None:
        """
        A call that has timed out and then been lost is executed for the last time, which it is alone.
        """
        worker = ManagedMemoryWorker(capacity=5)
        queue = self.makeQueue(worker)
        outcome = self.call(queue, identity, "poison")
        self.call(queue, identity, "beside")
        for status in "tl":
            (task,) = [task for task in worker.held if task.callTuple[1] == ("poison",)]
            worker.report(status, task=task)
        self.assertEqual([task.callTuple[1] for task in worker.held], [("beside",)])
        worker.stepAll()
        self.assertValue(outcome, "poison")

    def test_F87_noMoreThanThreeExecutions(self) -> None:
        """
        Losses and timeouts together.
        """
        for script in (
            (Act.LOSE, Act.LOSE, Act.TIME_OUT),
            (Act.LOSE, Act.TIME_OUT, Act.LOSE),
            (Act.TIME_OUT, Act.LOSE, Act.LOSE),
            (Act.LOSE, Act.TIME_OUT, Act.TIME_OUT),
        ):
            with self.subTest(script=script):
                self.queueOf(*script, Act.RUN)
                outcome = self.call(self.queue, identity, 1)
                self.assertEqual(self.queue.statistics().reruns, 2)
                self.assertEqual(outcome.fired, 1)
                self.assertIsNotNone(outcome.failure)

    def test_T02_notIdempotent(self) -> None:
        """
        A call that must not run twice is not run again once it may have run; if it has not, it is.
        """
        for act, kind in ((Act.LOSE, WorkerLost), (Act.TIME_OUT, TimeoutError)):
            self.queueOf(act, Act.RUN)
            outcome = self.call(self.queue.options(idempotent=False), identity, 1)
            self.assertFailed(outcome, kind)
            self.assertEqual(self.queue.statistics().reruns, 0)
        self.queueOf(Act.RETURN, Act.RUN)
        self.assertValue(self.call(self.queue.options(idempotent=False), identity, 1), 1)

    def test_F90_rerunKeepsTheOrderOfItsSeries(self) -> None:
        """
        A call that comes back is started before those of its series that were queued after it.
        """
        worker = MemoryWorker(["a"])
        queue = self.makeQueue(worker)
        order: list[int] = []
        for number in range(6):
            self.call(queue, order.append, number, series="a")
        worker.step()
        for status in ("d", "l", "t"):
            worker.report(status)
            self.assertEqual(worker.held[0].callTuple[1], (len(order),))
            worker.step()
        cancelled = queue.call(order.append, "cancelled", series="a")
        Outcome(cancelled)
        cancelled.cancel()
        worker.stepAll()
        self.assertEqual(order, [0, 1, 2, 3, 4, 5])


class TimeoutTests(QueueTestCase):
    """
    The timeout of a call.
    """

    def setUp(self) -> None:
        """
        Make a queue of two workers.
        """
        super().setUp()
        self.first, self.second = MemoryWorker(), MemoryWorker()
        self.queue = self.makeQueue(self.first, self.second)

    def test_T01_runsFromTheAssignment(self) -> None:
        """
        Waiting in the queue costs nothing.
        """
        self.call(self.queue, int)
        self.call(self.queue, int)
        outcome = self.call(self.queue, identity, 1, timeout=5)
        self.clock.advance(100)
        self.assertPending(outcome)
        self.first.step()
        self.clock.advance(4)
        self.first.step()
        self.assertValue(outcome, 1)

    def test_T01_rerunOnceThenTimeoutError(self) -> None:
        """
        The call goes to another worker, and after as long again it fails.
        """
        outcome = self.call(self.queue, identity, 1, timeout=5)
        self.assertEqual((len(self.first.held), len(self.second.held)), (1, 0))
        self.clock.advance(5)
        self.assertEqual(len(self.second.held), 1)
        self.assertTrue(self.first.held[0].cancelled)
        self.assertPending(outcome)
        self.clock.advance(5)
        error = self.assertFailed(outcome, TimeoutError, builtins.TimeoutError, AsynQueueError)
        self.assertIn("identity(1)", str(error))

    def test_T01_rerunThatNobodyTakes(self) -> None:
        """
        A re-run that finds no worker for as long as the timeout fails, too.
        """
        outcome = self.call(self.queue, identity, 1, timeout=5)
        self.call(self.queue, int)
        self.clock.advance(5)
        self.assertPending(outcome)
        self.clock.advance(5)
        self.assertFailed(outcome, TimeoutError)

    def test_Z05_lateResultIsDropped(self) -> None:
        """
        And counted: the re-run alone settles the call.
        """
        outcome = self.call(self.queue, identity, 1, timeout=5)
        self.clock.advance(5)
        self.first.report("r", "late")
        self.assertPending(outcome)
        self.assertEqual(self.queue.statistics().late, 1)
        self.second.report("r", "in time")
        self.assertValue(outcome, "in time")

    def test_F86_lateResultAfterTheCallIsSettled(self) -> None:
        """
        Is dropped as well.
        """
        outcome = self.call(self.queue, identity, 1, timeout=5)
        self.clock.advance(5)
        self.second.report("r", "in time")
        self.first.report("e", "late")
        self.assertValue(outcome, "in time")
        self.assertEqual(self.queue.statistics().late, 1)

    def test_F85_timeoutAndResultInOneTick(self) -> None:
        """
        In either order there is one outcome.
        """
        self.clock.callLater(5, self.first.report, "r", "first")
        early = self.call(self.queue, identity, 1, timeout=5)
        self.clock.advance(5)
        self.assertValue(early, "first")
        late = self.call(self.queue, identity, 1, timeout=5)
        busy = next(worker for worker in (self.first, self.second) if worker.held)
        self.clock.callLater(5, busy.report, "r", "late")
        self.clock.advance(5)
        self.assertPending(late)
        other = next(worker for worker in (self.first, self.second) if worker.held)
        other.report("r", "again")
        self.assertValue(late, "again")
        self.assertEqual(self.queue.statistics().late, 1)

    def test_F85_secondTimeoutAndResultInOneTick(self) -> None:
        """
        Likewise at the end of the re-run, when the first attempt's result comes, too.
        """
        outcome = self.call(self.queue, identity, 1, timeout=5)
        self.clock.advance(5)
        self.clock.callLater(5, self.second.report, "r", "second")
        self.clock.callLater(5, self.first.report, "r", "first")
        self.clock.advance(5)
        self.assertFailed(outcome, TimeoutError)
        self.assertEqual(self.queue.statistics().late, 2)

    def test_T01_noTimerIsLeft(self) -> None:
        """
        After a call has its result, or is cancelled, in whichever attempt.
        """
        plain = self.call(self.queue, identity, 1, timeout=50)
        again = self.call(self.queue, identity, 2, timeout=5)
        self.clock.advance(5)
        cancelled = self.queue.call(identity, 3, timeout=50)
        Outcome(cancelled)
        self.first.step()
        cancelled.cancel()
        self.first.stepAll()
        self.second.stepAll()
        self.first.stepAll()
        self.assertValue(plain, 1)
        self.assertValue(again, 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_T01_cancelledReruns(self) -> None:
        """
        Calls that wait for their re-runs and are cancelled, one by one or in bulk, leave no timer.
        """
        calls = [self.queue.call(identity, number, timeout=5) for number in range(2)]
        outcomes = [Outcome(call) for call in calls]
        self.call(self.queue, int)
        self.clock.advance(5)
        calls[0].cancel()
        self.assertEqual(self.queue.cancelAll(), 2)
        self.turn()
        for outcome in outcomes:
            self.assertFailed(outcome, CancelledError)
        self.shutDown(self.queue)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_F74_workerThatNeverReports(self) -> None:
        """
        A call with a timeout is settled all the same, also when the worker claims to be ready.
        """
        for act in (Act.HANG, Act.FORGET):
            queue = self.makeQueue(ScriptedWorker([act]))
            outcome = self.call(queue, identity, 1, timeout=5)
            self.clock.advance(5)
            self.clock.advance(5)
            self.assertFailed(outcome, TimeoutError)

    def test_F92_timersThatFireEarlyAreArmedAgain(self) -> None:
        """
        A step of the wall clock brings no timeout forward.
        """
        now = [0.0]
        worker = MemoryWorker()
        queue = self.makeQueue(worker, monotonic=lambda: now[0])
        outcome = self.call(queue, identity, 1, timeout=5)
        now[0] = 0.3
        self.clock.advance(3600)
        self.assertPending(outcome)
        self.assertEqual(queue.statistics().reruns, 0)
        now[0] = 4.9
        self.clock.advance(4.7)
        self.assertEqual(worker.held[0].cancelled, False)
        now[0] = 5.0
        self.clock.advance(0.2)
        self.assertEqual(worker.held[0].cancelled, True)
        now[0] = 10.0
        self.clock.advance(5)
        self.assertFailed(outcome, TimeoutError)

    def test_F92_deadlineOfAShutdown(self) -> None:
        """
        Nor does it crash workers that have time left.
        """
        now = [0.0]
        worker = MemoryWorker()
        queue = self.makeQueue(worker, monotonic=lambda: now[0])
        outcome = self.call(queue, identity, 1)
        done = Outcome(queue.shutdown(deadline=10))
        self.clock.advance(86400)
        self.assertFalse(worker.isCrashed)
        worker.step()
        self.assertValue(outcome, 1)
        self.assertValue(done, [])


class CancelTests(QueueTestCase):
    """
    Calls that are cancelled.
    """

    def test_F80_queuedCallNeverRuns(self) -> None:
        """
        Its Deferred errbacks at once, its place is given up, and others go on.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        ran: list[int] = []
        calls = [queue.call(ran.append, number) for number in range(5)]
        outcomes = [Outcome(call) for call in calls]
        calls[2].cancel()
        error = self.assertFailed(outcomes[2], CancelledError)
        self.assertIn("call 3", str(error))
        self.assertEqual(queue.statistics().queued, 3)
        worker.stepAll()
        self.assertEqual(ran, [0, 1, 3, 4])

    def test_Z11_everyCallCanBeCancelled(self) -> None:
        """
        Also a parked one.
        """
        queue = self.makeQueue()
        call = queue.call(int, series="nobody")
        outcome = Outcome(call)
        call.cancel()
        self.assertFailed(outcome, CancelledError)
        self.assertEqual(queue.outstanding(), [])

    def test_F81_runningInTheReactor(self) -> None:
        """
        The Deferred that the function waits for is cancelled, and the worker is free.
        """
        cancelled: list[Any] = []
        inner: Deferred[None] = Deferred(cancelled.append)
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        call = queue.call(lambda: inner)
        outcome = Outcome(call)
        after = self.call(queue, identity, "after")
        self.turn()
        call.cancel()
        self.assertFailed(outcome, CancelledError)
        self.assertEqual(cancelled, [inner])
        self.turn()
        self.assertValue(after, "after")

    def test_F81_managedWorkerIsToldAndKeepsItsPlace(self) -> None:
        """
        The caller has its error now; the worker gets nothing else until it is truly free.
        """
        worker = ManagedMemoryWorker()
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)
        outcome = Outcome(call)
        after = self.call(queue, identity, "after")
        call.cancel()
        self.assertFailed(outcome, CancelledError)
        (task,) = worker.held
        self.assertEqual(worker.cancelled, [task])
        self.assertTrue(task.cancelled)
        worker.report("k")
        self.assertEqual(len(worker.held), 1)
        worker.step()
        self.assertValue(after, "after")
        self.assertEqual(queue.statistics().late, 0)

    def test_F81_resultOfACancelledCallIsDropped(self) -> None:
        """
        And counted.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)
        outcome = Outcome(call)
        call.cancel()
        worker.step()
        self.assertFailed(outcome, CancelledError)
        self.assertEqual(queue.statistics().late, 1)

    def test_F81_valueThatIsArriving(self) -> None:
        """
        Is not waited for any more: its Deferred is cancelled.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)
        outcome = Outcome(call)
        cancelled: list[Any] = []
        worker.report("c", Deferred(cancelled.append))
        call.cancel()
        self.assertFailed(outcome, CancelledError)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(queue.outstanding(), [])

    def test_F82_afterTheResultAndTwice(self) -> None:
        """
        Does nothing.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)
        outcome = Outcome(call)
        worker.step()
        call.cancel()
        call.cancel()
        self.assertValue(outcome, 1)
        twice = queue.call(identity, 2)
        other = Outcome(twice)
        twice.cancel()
        twice.cancel()
        self.assertFailed(other, CancelledError)

    def test_F82_insideItsOwnCallback(self) -> None:
        """
        Does nothing either.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)

        def cancel(value: Any) -> Any:
            call.cancel()
            return value

        call.addCallback(cancel)
        outcome = Outcome(call)
        worker.step()
        self.assertValue(outcome, 1)

    def test_F82_ofWhatACallbackWaitsFor(self) -> None:
        """
        A Deferred that a callback has returned is cancelled, as everywhere in Twisted.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)
        call.addCallback(lambda _: Deferred())
        outcome = Outcome(call)
        worker.step()
        self.assertPending(outcome)
        call.cancel()
        self.assertFailed(outcome, CancelledError)

    def test_F82_whileWaitingForTheRerun(self) -> None:
        """
        The call is not run again.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int, doNext=True)
        call = queue.call(identity, 1, timeout=5)
        outcome = Outcome(call)
        worker.step()
        self.clock.advance(5)
        self.assertPending(outcome)
        call.cancel()
        self.assertFailed(outcome, CancelledError)
        worker.stepAll()
        self.assertEqual(len(worker.started), 2)

    def test_T13_cancelAll(self) -> None:
        """
        All that wait are removed at once; the Deferreds errback in the next turn. What runs goes on.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        running = self.call(queue, identity, "running")
        waiting = [self.call(queue, int, niceness=number % 5, doLast=number > 50) for number in range(99)]
        waiting.append(self.call(queue, int, series="nobody"))
        self.assertEqual(queue.cancelAll(), 100)
        self.assertEqual(queue.cancelAll(), 0)
        self.turn()
        for outcome in waiting:
            self.assertFailed(outcome, CancelledError)
        worker.stepAll()
        self.assertValue(running, "running")
        self.assertEqual(len(worker.started), 1)

    def test_T13_cancelSeries(self) -> None:
        """
        Only the calls of that series, at any niceness.
        """
        worker = MemoryWorker(["a", "b"])
        queue = self.makeQueue(worker)
        self.call(queue, int)
        gone = [self.call(queue, int, series="a", niceness=niceness) for niceness in (0, 5, 0)]
        gone.append(self.call(queue, int, series="a", doNext=True))
        kept = [self.call(queue, int, series=series) for series in ("b", None)]
        self.assertEqual(queue.cancelSeries("a"), 4)
        self.assertEqual(queue.cancelSeries("unknown"), 0)
        with self.assertRaises(TypeError):
            queue.cancelSeries([])  # type: ignore[arg-type]
        self.turn()
        worker.stepAll()
        for outcome in gone:
            self.assertFailed(outcome, CancelledError)
        for outcome in kept:
            self.assertValue(outcome, 0)

    def test_F88_hugeBacklog(self) -> None:
        """
        Of 100,000 queued calls each is settled: half by running, half by being cancelled at once.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcomes = [self.call(queue, identity, number, niceness=number % 3) for number in range(100_000)]
        for _ in range(50_000):
            worker.step()
            worker.started.clear()
        self.assertEqual(queue.cancelAll(), 49_999)
        while self.clock.getDelayedCalls():
            self.turn()
        worker.step()
        kinds = Counter((outcome.fired, outcome.kind) for outcome in outcomes)
        self.assertEqual(kinds, {(1, None): 50_001, (1, CancelledError): 49_999})

    def test_Z09_cancelAllLeavesNothing(self) -> None:
        """
        Neither a call nor a false load.
        """
        queue = self.makeQueue()
        outcomes = [self.call(queue, int) for _ in range(5)]
        self.assertEqual(queue.cancelAll(), 5)
        self.turn()
        statistics = queue.statistics()
        self.assertEqual((statistics.queued, statistics.running, statistics.cancelled), (0, 0, 5))
        late = MemoryWorker()
        queue.attachWorker(late)
        self.assertEqual(late.started, [])
        self.assertEqual([outcome.fired for outcome in outcomes], [1] * 5)

    def test_Z10_cancelledDeferredsFire(self) -> None:
        """
        Each, once, with C{CancelledError}; also if it is cancelled by itself meanwhile.
        """
        queue = self.makeQueue()
        calls = [queue.call(int) for _ in range(5)]
        outcomes = [Outcome(call) for call in calls]
        queue.cancelAll()
        calls[1].cancel()
        self.assertFailed(outcomes[1], CancelledError)
        self.turn()
        for outcome in outcomes:
            self.assertFailed(outcome, CancelledError)
        self.assertEqual(queue.statistics().cancelled, 5)


class ReentrancyTests(QueueTestCase):
    """
    What callbacks may do.
    """

    def test_F83_longChain(self) -> None:
        """
        100,000 calls, each made in the callback of the one before, run without recursion.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        length = 100_000
        counted = [0]

        def again(number: int) -> None:
            counted[0] = number
            worker.started.clear()
            if number < length:
                queue.call(identity, number + 1).addCallback(again)

        again(0)
        worker.stepAll()
        self.assertEqual(counted[0], length)

    def test_F83_longChainInTheReactor(self) -> None:
        """
        So they do with the worker in the reactor.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        counted = [0]

        def again(number: int) -> None:
            counted[0] = number
            if number < 5000:
                queue.call(identity, number + 1).addCallback(again)

        again(0)
        while self.clock.getDelayedCalls():
            self.turn()
        self.assertEqual(counted[0], 5000)

    def test_F83_burstToOneWorker(self) -> None:
        """
        A burst of 5,000 calls to a worker that runs at once.
        """
        queue = self.makeQueue()
        outcomes = [self.call(queue, identity, number) for number in range(5000)]
        queue.attachWorker(ScriptedWorker())
        while self.clock.getDelayedCalls():
            self.turn()
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)

    def test_F83_controlFromCallbacks(self) -> None:
        """
        Cancelling, detaching, attaching and shutting down in callbacks.
        """
        worker, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(worker)
        first = queue.call(identity, 1)
        second = queue.call(identity, 2)
        third = self.call(queue, identity, 3)
        first.addCallback(lambda _: second.cancel())
        detached: list[Outcome] = []

        def replace(failure: Failure) -> None:
            failure.trap(CancelledError)
            queue.attachWorker(other)
            detached.append(Outcome(queue.detachWorker(worker, crash=True)))

        second.addErrback(replace)
        worker.step()
        self.assertEqual(len(detached), 1)
        self.assertEqual(detached[0].fired, 1)
        other.stepAll()
        self.assertValue(third, 3)
        self.assertEqual(queue.workers(), [other])

    def test_F84_unhandledErrorIsLoggedOnce(self) -> None:
        """
        And touches no other call.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        queue.call(raising, ValueError, "nobody looks")
        after = self.call(queue, identity, "after")
        self.turn()
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertValue(after, "after")

    def test_F84_callbackThatRaises(self) -> None:
        """
        Likewise.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        queue.call(identity, 1).addCallback(lambda _: 1 / 0)
        after = self.call(queue, identity, "after")
        self.turn()
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertValue(after, "after")

    def test_Z07_failingCallsLeaveTheWorkerFree(self) -> None:
        """
        The worker in the reactor goes on after errors of all kinds.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        failing = [self.call(queue, raising, ValueError), self.call(queue, lambda: fail(KeyError("k")))]
        after = self.call(queue, identity, "after")
        self.turn()
        self.assertFailed(failing[0], ValueError)
        self.assertFailed(failing[1], KeyError)
        self.assertValue(after, "after")

    def test_F04_exceptionsThatEndPrograms(self) -> None:
        """
        SystemExit and the like of a call are a C{RemoteError} of the call, and end nothing.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        kinds: list[type[BaseException]] = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
        outcomes = [self.call(queue, raising, kind, "as it should") for kind in kinds]
        after = self.call(queue, identity, "after")
        self.turn()
        for kind, outcome in zip(kinds, outcomes, strict=True):
            error = self.assertFailed(outcome, RemoteError)
            self.assertEqual(error.remoteType.rpartition(".")[2], kind.__name__)
        self.assertValue(after, "after")


class Fussy(Exception):
    """
    An exception that needs its arguments.
    """

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail


class Slotted(Exception):
    """
    An exception with slots.
    """

    __slots__ = ("left", "unset")

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class Stubborn(Exception):
    """
    An exception that can be made in one way only.
    """

    def __new__(cls, *args: Any, secret: bool = False) -> Stubborn:
        """
        Refuse.
        """
        if not secret:
            raise RuntimeError("not so")
        return super().__new__(cls, *args)


class Final(Exception):
    """
    An exception that nothing can be derived from.
    """

    def __init_subclass__(cls) -> None:
        """
        Refuse.
        """
        raise TypeError("final")


class Hostile(Exception):
    """
    An exception whose text cannot be had.
    """

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ErrorTests(QueueTestCase):
    """
    What a caller gets to see of an exception.
    """

    def setUp(self) -> None:
        """
        Make a queue of one worker.
        """
        super().setUp()
        self.worker = MemoryWorker()
        self.queue = self.makeQueue(self.worker)

    def errorOf(self, func: Any, *args: Any) -> Any:
        """
        Have a function called that raises, and return what the caller gets.
        """
        outcome = self.call(self.queue, func, *args)
        self.worker.stepAll()
        return self.assertFailed(outcome, WorkerError)

    def raised(self, error: BaseException) -> Any:
        """
        Have an exception raised by a call, and return what the caller gets.
        """

        def raiseIt() -> None:
            raise error

        return self.errorOf(raiseIt)

    def test_Z03_isBothKinds(self) -> None:
        """
        The failure checks as the original class and as C{WorkerError}, and so does C{except}.
        """
        outcome = self.call(self.queue, int, "no number")
        self.worker.step()
        assert outcome.failure is not None
        self.assertTrue(outcome.failure.check(ValueError))
        self.assertTrue(outcome.failure.check(WorkerError))
        self.assertFalse(outcome.failure.check(KeyError))
        with self.assertRaises(ValueError):
            outcome.failure.raiseException()

    def test_Z03_hasTheOriginal(self) -> None:
        """
        With its arguments and attributes, and as it was raised.
        """
        original = Fussy(5, detail="why")
        error = self.raised(original)
        self.assertIs(error.original, original)
        self.assertEqual(error.args, ("code 5",))
        self.assertEqual((error.code, error.detail), (5, "why"))
        self.assertIsInstance(error, Fussy)

    def test_E04_showsTheRemoteTraceback(self) -> None:
        """
        As its text: where it was raised, and what it said.
        """

        def innermost() -> None:
            raise ValueError("the very text")

        def outer() -> None:
            innermost()

        error = self.errorOf(outer)
        for part in ("in outer", "in innermost", "ValueError: the very text", "test_calls.py"):
            self.assertIn(part, str(error))
            self.assertIn(part, error.remoteTraceback)

    def test_E04_classIsDerivedOnce(self) -> None:
        """
        Two errors of one class are of one class.
        """
        self.assertIs(type(self.raised(ValueError(1))), type(self.raised(ValueError(2))))
        self.assertEqual(type(self.raised(ValueError(1))).__name__, "ValueError")

    def test_E04_attributesOfBuiltins(self) -> None:
        """
        Those that are not in the dictionary are there, too.
        """
        missing = self.errorOf(open, "/nonexistent/file")
        self.assertIsInstance(missing, FileNotFoundError)
        self.assertEqual((missing.errno, missing.filename), (2, "/nonexistent/file"))
        decode = self.errorOf(b"\xff".decode)
        self.assertEqual((decode.start, decode.end, decode.object), (0, 1, b"\xff"))
        # A coroutine that awaits a call could not raise this one.
        self.assertIsInstance(self.raised(StopIteration(7)), RemoteError)
        syntax = self.errorOf(compile, "a b", "some.py", "exec")
        self.assertEqual((syntax.filename, syntax.lineno), ("some.py", 1))
        self.assertEqual(self.raised(KeyError("k")).args, ("k",))
        self.assertEqual(self.raised(ImportError("x", name="module")).name, "module")

    def test_E04_slots(self) -> None:
        """
        Are copied as far as they are set.
        """
        error = self.raised(Slotted(4))
        self.assertEqual(error.left, 4)
        self.assertFalse(hasattr(error, "unset"))

    def test_E04_causeContextAndNotes(self) -> None:
        """
        Are kept, and shown in the text.
        """

        def chained() -> None:
            try:
                raise KeyError("the cause")
            except KeyError as cause:
                error = ValueError("the effect")
                error.add_note("a note on it")
                raise error from cause

        error = self.errorOf(chained)
        self.assertIsInstance(error.__cause__, KeyError)
        self.assertEqual(error.__notes__, ["a note on it"])
        for part in ("KeyError: 'the cause'", "direct cause", "ValueError: the effect", "a note on it"):
            self.assertIn(part, str(error))

        def nested() -> None:
            try:
                raise KeyError("the context")
            except KeyError:
                raise ValueError("during it")  # noqa: B904

        error = self.errorOf(nested)
        self.assertIsInstance(error.__context__, KeyError)
        self.assertIn("During handling", str(error))

    def test_E04_groups(self) -> None:
        """
        Keep their exceptions, and show them.
        """
        group = ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])
        error = self.raised(group)
        self.assertIsInstance(error, ExceptionGroup)
        self.assertEqual(error.exceptions, group.exceptions)
        matching, _ = error.split(KeyError)
        self.assertIsNotNone(matching)
        for part in ("several", "ValueError: one", "inner", "KeyError: 'two'"):
            self.assertIn(part, str(error))

    def test_F37_classThatCannotBeRebuilt(self) -> None:
        """
        Becomes a plain C{RemoteError}, which names it.
        """
        for original, name in ((Stubborn.__new__(Stubborn, secret=True), "Stubborn"), (Final("x"), "Final")):
            error = self.raised(original)
            self.assertIs(type(error), RemoteError)
            self.assertIn(name, error.remoteType)
            self.assertIn(name, str(error))
            self.assertIs(error.original, original)

    def test_E04_pickles(self) -> None:
        """
        What a caller has can be sent on: class, arguments, attributes and text arrive.
        """
        error = self.raised(Fussy(5, detail="why"))
        copy = pickle.loads(pickle.dumps(error))
        self.assertIsInstance(copy, Fussy)
        self.assertIsInstance(copy, WorkerError)
        self.assertEqual((copy.args, copy.code, copy.detail), (error.args, 5, "why"))
        self.assertEqual(str(copy), str(error))

    def test_E04_errorOfAnInnerCall(self) -> None:
        """
        A call that waits for another call passes its error on as it is.
        """
        inner = WorkerLost("the inner call was lost")
        self.assertIs(self.raised(inner), inner)

    def test_F38_exceptionWithoutText(self) -> None:
        """
        Is an error like any other.
        """
        error = self.raised(Hostile())
        self.assertIsInstance(error, Hostile)
        self.assertIn("Hostile", str(error))

    def test_F38_hugeAndUglyText(self) -> None:
        """
        Is bounded and printable.
        """
        ugly = "\x1b[31m\x00\x07" * 1_000_000 + "\ud800" + "x" * 1_000_000
        text = str(self.raised(ValueError(ugly)))
        self.assertLessEqual(len(text), TEXT_LIMIT)
        text.encode("utf-8")
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\x00", text)
        self.assertIn("ValueError", text)

    def test_F38_hugeAndUglyTextOfAWorker(self) -> None:
        """
        So is the text that a worker reports.
        """
        outcome = self.call(self.queue, int)
        self.worker.report("e", "\x1b[31m" * 1_000_000)
        text = str(self.assertFailed(outcome, WorkerError))
        self.assertLessEqual(len(text), TEXT_LIMIT)
        self.assertNotIn("\x1b", text)

    def test_F39_longChainOfCauses(self) -> None:
        """
        Only so many are shown, the last ones.
        """
        error: Exception = ValueError("number 0")
        for number in range(1, 1000):
            following = ValueError(f"number {number}")
            following.__cause__ = error
            error = following
        text = str(self.raised(error))
        self.assertIn("number 999", text)
        self.assertNotIn("number 5\n", text)
        self.assertLessEqual(text.count("ValueError: number"), 20)

    def test_F39_cycleOfCauses(self) -> None:
        """
        Ends.
        """
        one, other = ValueError("one"), KeyError("other")
        one.__cause__, other.__cause__ = other, one
        text = str(self.raised(one))
        self.assertEqual((text.count("ValueError: one"), text.count("KeyError: 'other'")), (1, 1))

    def test_F39_noLocals(self) -> None:
        """
        What was in the variables is not in the text.
        """

        def careless() -> None:
            password = "hunter" + str(2)
            raise ValueError(len(password))

        self.assertNotIn("hunter2", str(self.errorOf(careless)))

    def test_F39_deepRecursion(self) -> None:
        """
        The traceback of a recursion that ran too deep is bounded.
        """

        def deeper(number: int) -> Any:
            return deeper(number + 1) + number

        error = self.errorOf(deeper, 0)
        self.assertIsInstance(error, RecursionError)
        self.assertLessEqual(len(str(error)), TEXT_LIMIT)


class RaisingRepr:
    """
    An argument that cannot be shown.
    """

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class WrongRepr:
    """
    An argument whose text is none.
    """

    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class HugeRepr:
    """
    An argument with a long text, which would rule a terminal.
    """

    def __repr__(self) -> str:
        return "\x1b[2J\r" * 1_000_000


class RecursiveRepr:
    """
    An argument whose text needs its text.
    """

    def __repr__(self) -> str:
        return f"<{self!r}>"


class Proxy:
    """
    A callable whose names cannot be had, such as a proxy outside of what it stands for.
    """

    def __call__(self) -> int:
        return 5

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of its context")


class HostileCallTests(QueueTestCase):
    """
    Functions and arguments that do not want to be shown.
    """

    def test_F38_argumentsInMessages(self) -> None:
        """
        Are shown within bounds, or are said to be impossible to show.
        """
        queue = self.makeQueue()
        for argument in (RaisingRepr(), WrongRepr(), HugeRepr(), RecursiveRepr(), "\ud800\x1b"):
            call = queue.call(identity, argument, key=argument)
            outcome = Outcome(call)
            (listed,) = queue.outstanding()
            self.assertLessEqual(len(queue.explain(listed.ID)), 10_000)
            call.cancel()
            text = str(self.assertFailed(outcome, CancelledError))
            for each in (text, listed.call):
                self.assertIn("identity(", each)
                self.assertNotIn("\x1b", each)
                self.assertNotIn("\r", each)
                self.assertLessEqual(len(each), 10_000)
                each.encode("utf-8")

    def test_F38_functionWithoutAName(self) -> None:
        """
        A callable whose name raises can be called, listed, and cancelled.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        run = self.call(queue, Proxy())
        waiting = queue.call(Proxy())
        outcome = Outcome(waiting)
        self.assertEqual(len(queue.outstanding()), 2)
        waiting.cancel()
        self.assertFailed(outcome, CancelledError)
        worker.stepAll()
        self.assertValue(run, 5)

    def test_F38_functionWithoutANameIsShutDown(self) -> None:
        """
        And refused with others when the queue shuts down.
        """
        queue = self.makeQueue()
        outcomes = [self.call(queue, Proxy()), self.call(queue, int)]
        self.shutDown(queue)
        for outcome in outcomes:
            self.assertFailed(outcome, QueueShutdown)

    def test_F38_mock(self) -> None:
        """
        A mock, which has any attribute there could be, can be called, listed, and cancelled.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        mock = Mock(return_value=3)
        run = self.call(queue, mock, 1)
        waiting = queue.call(mock, 2)
        outcome = Outcome(waiting)
        self.assertEqual(len(queue.outstanding()), 2)
        waiting.cancel()
        self.assertFailed(outcome, CancelledError)
        worker.stepAll()
        self.assertValue(run, 3)
        mock.assert_called_once_with(1)


class ErrorClassTests(SynchronousTestCase):
    """
    The documented classes.
    """

    def test_E01_queueRunErrors(self) -> None:
        """
        What the state of the queue causes is a C{QueueRunError}.
        """
        for kind in (QueueClosed, QueueShutdown, QueueFull):
            self.assertTrue(issubclass(kind, QueueRunError))

    def test_E02_interfaceErrors(self) -> None:
        """
        As documented.
        """
        self.assertTrue(issubclass(NotReadyError, ImplementationError))
        self.assertTrue(issubclass(InvariantError, Invalid))

    def test_E03_timeoutErrorIsThePythonOne(self) -> None:
        """
        Too.
        """
        self.assertTrue(issubclass(TimeoutError, builtins.TimeoutError))

    def test_E04_workerErrors(self) -> None:
        """
        All that workers cause.
        """
        for kind in (RemoteError, ThreadError, ProcessError, WorkerLost, PoisonTask, WorkerHung):
            self.assertTrue(issubclass(kind, WorkerError))

    def test_E04_oneRoot(self) -> None:
        """
        Every class of the module derives from C{AsynQueueError}, says what it is for, and pickles.
        """
        kinds = [
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
        ]
        self.assertGreaterEqual(len(kinds), 17)
        for kind in kinds:
            self.assertTrue(issubclass(kind, AsynQueueError), kind)
            self.assertTrue(kind.__doc__, kind)
            copy = pickle.loads(pickle.dumps(kind("what happened")))
            self.assertEqual((type(copy), str(copy)), (kind, "what happened"))

    def test_E04_poisonKeepsItsHistory(self) -> None:
        """
        Also through pickle.
        """
        copy = pickle.loads(pickle.dumps(PoisonTask("it is", ["one", "two"])))
        self.assertEqual(copy.history, ("one", "two"))


class TaskTests(QueueTestCase):
    """
    Tasks that stand for themselves.
    """

    def test_taskIsChecked(self) -> None:
        """
        C{args} is a list or tuple, C{kw} a dictionary.
        """
        for args, kw in (("x", {}), (None, {}), ((), None), ((), [])):
            with self.assertRaises(TypeError):
                Task(int, args, kw, 0, None)  # type: ignore[arg-type]

    def test_taskHasWhatItWasGiven(self) -> None:
        """
        As attributes.
        """
        task = Task(divmod, [7, 2], {"own": 1}, 3, "a", timeout=2.5)
        self.assertEqual(task.callTuple[0], divmod)
        self.assertEqual(tuple(task.callTuple[1]), (7, 2))
        self.assertEqual(task.callTuple[2], {"own": 1})
        self.assertEqual((task.priority, task.series, task.timeout), (3, "a", 2.5))

    def test_callbackFiresItsDeferredOnce(self) -> None:
        """
        With the status and the result.
        """
        task = Task(int, (), {}, 0, None)
        outcome = Outcome(task.d)
        task.callback((b"r", 5))
        task.callback((b"r", 6))
        task.errback(Failure(KeyError()))
        self.assertValue(outcome, (b"r", 5))

    def test_errback(self) -> None:
        """
        Fails the Deferred.
        """
        task = Task(int, (), {}, 0, None)
        outcome = Outcome(task.d)
        task.errback(Failure(KeyError("k")))
        self.assertFailed(outcome, KeyError)

    def test_addCallback(self) -> None:
        """
        Callbacks get the status tuple and their own arguments.
        """
        task = Task(int, (), {}, 0, None)
        got: list[Any] = []
        task.addCallback(lambda *args, **kw: got.append((args, kw)), 1, own=2)
        task.callback(("r", 5))
        self.assertEqual(got, [((("r", 5), 1), {"own": 2})])

    def test_timedout(self) -> None:
        """
        Reports a timeout.
        """
        task = Task(int, (), {}, 0, None)
        outcome = Outcome(task.d)
        task.timedout()
        self.assertIn(outcome.value[0], ("t", b"t"))

    def test_reset(self) -> None:
        """
        Makes a fresh Deferred.
        """
        task = Task(int, (), {}, 0, None)
        task.callback(("r", 1))
        again = task.reset()
        self.assertIs(task.d, again)
        outcome = Outcome(again)
        task.callback(("r", 2))
        self.assertValue(outcome, ("r", 2))

    def test_copy(self) -> None:
        """
        Has the call and the callbacks, and a Deferred of its own.
        """
        task = Task(dict, (), {"own": 1}, 3, "a", timeout=2)
        got: list[Any] = []
        task.addCallback(got.append)
        copy = task.copy()
        copy.callTuple[2]["other"] = 2
        self.assertEqual(task.callTuple[2], {"own": 1})
        self.assertEqual((copy.priority, copy.series, copy.timeout), (3, "a", 2))
        copy.callback(("r", 1))
        self.assertEqual(got, [("r", 1)])
        self.assertFalse(task.d.called)

    def test_ordersByPriority(self) -> None:
        """
        Less goes first; rushed before all, relaxed after all; and every task before None.
        """
        tasks = [Task(int, (), {}, priority, None) for priority in (5, 1, 3)]
        self.assertEqual([task.priority for task in sorted(tasks)], [1, 3, 5])
        tasks[0].rush()
        tasks[1].relax()
        self.assertEqual(sorted(tasks), [tasks[0], tasks[2], tasks[1]])
        self.assertEqual(min([None, tasks[1]]), tasks[1])  # type: ignore[type-var]
        self.assertEqual(min([tasks[1], None]), tasks[1])  # type: ignore[type-var]
        self.assertEqual(sorted([tasks[1], None]), [tasks[1], None])

    def test_P02_factoryPrioritiesInterleave(self) -> None:
        """
        Ordered by priority, of the tasks of two series with niceness 0 and 10 two thirds are the former's.
        """
        factory = TaskFactory()
        tasks = [factory.new(int, (), {}, niceness, series) for series, niceness in (("a", 0), ("b", 10)) * 60]
        first = sorted(tasks)[:60]
        self.assertLessEqual(abs(sum(task.series == "a" for task in first) - 40), 1)

    def test_P04_factoryKeepsTheOrderOfASeries(self) -> None:
        """
        Priorities within a series grow.
        """
        factory = TaskFactory()
        priorities = [factory.new(int, (), {}, 0, "a").priority for _ in range(20)]
        self.assertEqual(priorities, sorted(set(priorities)))

    def test_P01_factoryChecks(self) -> None:
        """
        Niceness, series and timeout.
        """
        factory = TaskFactory()
        for niceness in (21, -21, 0.5, True, "0"):
            with self.assertRaises(ValueError):
                factory.new(int, (), {}, niceness)  # type: ignore[arg-type]
        with self.assertRaises(TypeError):
            factory.new(int, (), {}, 0, [])  # type: ignore[arg-type]
        self.assertEqual(factory.new(int, (), {}, 0, "a", timeout=3).timeout, 3)

    def test_factoryOfAClass(self) -> None:
        """
        Makes tasks of it.
        """

        class Special(Task):
            pass

        self.assertIsInstance(TaskFactory(Special).new(int, (), {}, 0), Special)

    def test_Z12_factoriesShareNothing(self) -> None:
        """
        Each begins anew.
        """
        one = TaskFactory()
        one.new(int, (), {}, 0, "a")
        self.assertEqual(
            TaskFactory().new(int, (), {}, 0, "a").priority, TaskFactory().new(int, (), {}, 0, "b").priority
        )
