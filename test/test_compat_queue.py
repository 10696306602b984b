"""
Tests of compatibility: programs for AsynQueue 0.9.9 that use a task queue, and what asynqueue.base has beside it.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import asynqueue
from asynqueue.base import LoadInfoProducer, Priority, Queue, TaskQueue
from asynqueue.errors import (
    ImplementationError,
    InvariantError,
    QueueRunError,
    TimeoutError,
    WorkerError,
)
from asynqueue.interfaces import IPushProducer
from asynqueue.tasks import Task, TaskFactory, TaskHandler
from asynqueue.testing import MemoryWorker
from asynqueue.testing.tasks import fail as raising
from asynqueue.testing.tasks import identity, timesTwo
from asynqueue.workers import AsyncWorker
from test.compat import CompatibilityTestCase, ListOf, Program, program
from test.support import OrderTestCase, Outcome
from test.test_policy import Records, StoppableClock


def keywordsOf(*args: Any, **kw: Any) -> dict[str, Any]:
    """
    Return the keywords that a call has come with.
    """
    return kw


def count(number: int) -> Iterator[int]:
    """
    Yield the numbers below one.
    """
    yield from range(number)


def deferatorOf(iterator: Iterator[Any]) -> Any:
    """
    Return what a worker reports with status i.
    """
    from asynqueue.iteration import Deferator

    return Deferator(iterator)


class TopLevelTests(CompatibilityTestCase):
    """
    A program that imports from the package alone.
    """

    @program
    def test_C01_wholeProgram(self) -> Program:
        """
        Makes a queue, attaches a worker, has calls run in it, and shuts it down.
        """
        queue = asynqueue.TaskQueue(returnFailure=True, reactor=self.clock)
        yield queue.attachWorker(asynqueue.AsyncWorker(reactor=self.clock))
        for number in range(3):
            result = yield queue.call(timesTwo, number)
            self.assertEqual(result, 2 * number)
        left = yield queue.shutdown()
        self.assertEqual(left, [])

    @program
    def test_W11_nullQueue(self) -> Program:
        """
        Takes what a task queue takes, and has a worker already.
        """
        queue = self.makeNullQueue(timeout=5, warn=True, returnFailure=False)
        self.assertIsInstance(queue, asynqueue.TaskQueue)
        self.assertIsInstance(queue.workers(1), asynqueue.AsyncWorker)
        self.assertEqual(len(queue), 1)
        self.assertEqual((yield queue.call(timesTwo, 21)), 42)
        yield queue.shutdown()


class WorkersTests(CompatibilityTestCase):
    """
    The workers of a queue.
    """

    def test_base_TaskQueue_workersOfTheConstructor(self) -> None:
        """
        They are the positional arguments, any number of them.
        """
        workers = [MemoryWorker(), MemoryWorker()]
        self.assertEqual(len(self.makeQueue(*workers)), 2)
        self.assertEqual(len(self.makeQueue()), 0)

    def test_base_TaskQueue_unknownKeyword(self) -> None:
        """
        Is a TypeError.
        """
        self.assertRaises(TypeError, TaskQueue, MemoryWorker(), timeOut=5)

    def test_base_TaskQueue_attributes(self) -> None:
        """
        Those that programs use: the queue, the task handler and the factory of tasks.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.assertIsInstance(queue.q, Queue)
        self.assertIsInstance(queue.th, TaskHandler)
        self.assertIsInstance(queue.taskFactory, TaskFactory)
        self.assertEqual(queue.th.workers, {1: worker})
        self.assertTrue(queue.q.isRunning())

    @program
    def test_W01_attachWorker(self) -> Program:
        """
        Its Deferred fires with an integer ID, which is the worker's own.
        """
        queue = self.makeQueue()
        one, other = MemoryWorker(), MemoryWorker()
        oneID = yield queue.attachWorker(one)
        otherID = yield queue.attachWorker(other)
        self.assertEqual((type(oneID), type(otherID)), (int, int))
        self.assertNotEqual(oneID, otherID)
        self.assertIs(queue.workers(oneID), one)
        self.assertIs(queue.workers(otherID), other)

    @program
    def test_W01_IDsAreNeverUsedAgain(self) -> Program:
        """
        Not after their worker has left, either.
        """
        queue = self.makeQueue()
        seen = []
        for _ in range(3):
            ID = yield queue.attachWorker(MemoryWorker())
            seen.append(ID)
            yield queue.detachWorker(ID)
        self.assertEqual(len(set(seen)), 3)
        self.assertGreaterEqual(min(seen), 1)

    @program
    def test_W01_noIWorker(self) -> Program:
        """
        Is an ImplementationError.
        """
        queue = self.makeQueue()
        with self.assertRaises(ImplementationError):
            yield queue.attachWorker(object())
        self.assertEqual(len(queue), 0)

    @program
    def test_W01_qualificationsAreLists(self) -> Program:
        """
        Anything else is an InvariantError.
        """
        queue = self.makeQueue()
        for name in ("cQualified", "iQualified"):
            worker = MemoryWorker()
            setattr(worker, name, ("a", "tuple"))
            with self.assertRaises(InvariantError):
                yield queue.attachWorker(worker)
        self.assertEqual(len(queue), 0)

    def test_W03_workers(self) -> None:
        """
        One by its ID, None for an unknown one, and a list of them all without an ID.
        """
        one, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(one, other)
        self.assertIs(queue.workers(1), one)
        self.assertIs(queue.workers(ID=2), other)
        self.assertIsNone(queue.workers(3))
        self.assertIsInstance(queue.workers(), list)
        self.assertCountEqual(queue.workers(), [one, other])

    def test_W04_len(self) -> None:
        """
        Is the number of workers at the queue's disposal.
        """
        queue = self.makeQueue(MemoryWorker())
        self.assertEqual(len(queue), 1)
        queue.attachWorker(MemoryWorker())
        self.assertEqual(len(queue), 2)
        queue.detachWorker(1)
        self.assertEqual(len(queue), 1)

    @program
    def test_Z08_bool(self) -> Program:
        """
        Is true with a worker, while the queue runs.
        """
        queue = self.makeQueue()
        self.assertIs(bool(queue), False)
        yield queue.attachWorker(MemoryWorker())
        self.assertIs(bool(queue), True)
        yield queue.shutdown()
        self.assertIs(bool(queue), False)

    def test_P12_everyWorkerTakesNoSeries(self) -> None:
        """
        A call without series is for any worker; one of a series waits for a worker that is qualified.
        """
        queue, worker = self.makePair()
        plain, special = self.call(queue, int), self.call(queue, int, series="special")
        worker.stepAll()
        self.assertValue(plain, 0)
        self.assertPending(special)

    def test_P12_qualifiedByItsClassOrItself(self) -> None:
        """
        By what is in C{cQualified} and in C{iQualified}.
        """

        class Special(MemoryWorker):
            cQualified = ["ofClass"]

        worker = Special(["ofInstance"])
        queue = self.makeQueue(worker)
        calls = [self.call(queue, int, series=series) for series in ("ofClass", "ofInstance")]
        worker.stepAll()
        for call in calls:
            self.assertValue(call, 0)

    def test_P12_qualifyWorker(self) -> None:
        """
        Adds a series, whose calls the worker gets from then on, those that wait as well.
        """
        queue, worker = self.makePair()
        waiting = self.call(queue, int, series="special")
        queue.qualifyWorker(worker, "special")
        queue.qualifyWorker(worker, "special")
        after = self.call(queue, int, series="special")
        worker.stepAll()
        self.assertValue(waiting, 0)
        self.assertValue(after, 0)
        self.assertEqual((worker.cQualified + worker.iQualified).count("special"), 1)

    def test_Z12_qualifyingOneQualifiesNoOther(self) -> None:
        """
        Neither another worker of its class, nor one made later.
        """
        one, other = AsyncWorker(), AsyncWorker()
        queue = self.makeQueue(one, other)
        queue.qualifyWorker(one, "special")
        later = AsyncWorker()
        self.assertEqual(queue.th.roster("special"), [one])
        for worker in (other, later):
            self.assertNotIn("special", [*worker.cQualified, *worker.iQualified])


class DetachTests(CompatibilityTestCase):
    """
    Workers that leave.
    """

    @program
    def test_W02_byIDOrItself(self) -> Program:
        """
        A worker is told by the ID or the object; nothing is left of an idle one.
        """
        one, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(one, other)
        self.assertEqual((yield queue.detachWorker(1)), [])
        self.assertEqual((yield queue.detachWorker(other)), [])
        self.assertEqual(queue.workers(), [])
        self.assertEqual((one.isStopping, other.isStopping), (True, True))

    @program
    def test_W02_unknown(self) -> Program:
        """
        Has left nothing unfinished.
        """
        queue = self.makeQueue()
        self.assertEqual((yield queue.detachWorker(99)), [])
        self.assertEqual((yield queue.detachWorker(MemoryWorker())), [])

    def test_W02_busyWorkerFinishes(self) -> None:
        """
        The Deferred fires when the task is done, which the worker is let finish.
        """
        queue, worker = self.makePair()
        call = self.call(queue, timesTwo, 2)
        gone = Outcome(queue.detachWorker(worker))
        self.assertPending(gone)
        worker.step()
        self.assertValue(call, 4)
        self.assertValue(gone, [])

    def test_W02_crash(self) -> None:
        """
        At once; the Deferred fires with the tasks left unfinished.
        """
        queue, worker = self.makePair()
        call = self.call(queue, timesTwo, 2)
        gone = Outcome(queue.detachWorker(worker, crash=True))
        self.assertTrue(worker.isCrashed)
        (task,) = gone.value
        self.assertIsInstance(task, Task)
        self.assertEqual(task.callTuple, (timesTwo, (2,), {}))
        self.assertFailed(call, WorkerError)

    def test_W02_secondArgumentIsReassign(self) -> None:
        """
        After the worker, by its place: the worker is not crashed for that.
        """
        queue, worker = self.makePair()
        call = self.call(queue, timesTwo, 2)
        gone = Outcome(queue.detachWorker(worker, True))
        self.assertFalse(worker.isCrashed)
        worker.step()
        self.assertValue(gone, [])
        self.assertValue(call, 4)

    def test_W02_thirdArgumentIsCrash(self) -> None:
        """
        By its place: what was running is returned, and not reassigned.
        """
        queue, worker = self.makePair()
        call = self.call(queue, timesTwo, 2)
        gone = Outcome(queue.detachWorker(worker, False, True))
        self.assertTrue(worker.isCrashed)
        self.assertEqual(len(gone.value), 1)
        self.assertFailed(call, WorkerError)

    def test_W02_reassign(self) -> None:
        """
        What is left unfinished is for other or future workers, and is not returned.
        """
        for isThere in (True, False):
            queue, worker = self.makePair()
            call = self.call(queue, timesTwo, 2)
            other = MemoryWorker()
            if isThere:
                queue.attachWorker(other)
            gone = Outcome(queue.detachWorker(worker, reassign=True, crash=True))
            self.assertValue(gone, [])
            if not isThere:
                queue.attachWorker(other)
            other.step()
            self.assertValue(call, 4)

    def test_D02_timeoutOfTheQueue(self) -> None:
        """
        A worker that has not stopped gracefully by then is crashed, and its tasks are returned.
        """
        queue, worker = self.makePair(timeout=5)
        call = self.call(queue, timesTwo, 2)
        gone = Outcome(queue.detachWorker(worker))
        self.clock.advance(4)
        self.assertPending(gone)
        self.assertFalse(worker.isCrashed)
        self.clock.advance(1)
        self.assertTrue(worker.isCrashed)
        self.assertEqual([task.callTuple[0] for task in gone.value], [timesTwo])
        self.assertFailed(call, WorkerError)

    def test_Z35_whatWaitsStays(self) -> None:
        """
        The calls that the worker has not got are still queued, and are run by another.
        """
        queue, worker = self.makePair()
        calls = [self.call(queue, identity, number) for number in range(3)]
        gone = Outcome(queue.detachWorker(worker, crash=True))
        self.assertEqual(len(gone.value), 1)
        other = MemoryWorker()
        queue.attachWorker(other)
        other.stepAll()
        self.assertFailed(calls[0], WorkerError)
        self.assertValue(calls[1], 1)
        self.assertValue(calls[2], 2)

    def test_Z36_crashedCallsDoNotHang(self) -> None:
        """
        The Deferred of a call that the crashed worker was running fires.
        """
        queue = self.makeNullQueue()
        call = self.call(queue, Deferred)
        self.turn()
        gone = Outcome(queue.detachWorker(1, crash=True))
        self.assertEqual(len(gone.value), 1)
        self.assertFailed(call, WorkerError)


class ShutdownTests(CompatibilityTestCase):
    """
    The end of a queue.
    """

    @program
    def test_D01_isRunning(self) -> Program:
        """
        Until the shutdown is initiated.
        """
        queue, worker = self.makePair()
        self.assertIs(queue.isRunning(), True)
        self.assertIs(queue.q.isRunning(), True)
        self.assertTrue(queue.th.isRunning)
        call = self.call(queue, int)
        done = queue.shutdown()
        self.assertIs(queue.isRunning(), False)
        worker.step()
        self.assertValue(call, 0)
        yield done
        self.assertIs(queue.isRunning(), False)
        self.assertIs(queue.q.isRunning(), False)
        self.assertFalse(queue.th.isRunning)

    def test_D01_isRunningNeedsQueueAndHandler(self) -> None:
        """
        It is false when either of them has been shut down.
        """
        for name in ("q", "th"):
            queue, _ = self.makePair()
            self.assertTrue(queue.isRunning())
            getattr(queue, name).shutdown()
            self.assertFalse(queue.isRunning(), name)

    @program
    def test_D01_workersAreGone(self) -> Program:
        """
        When the Deferred has fired.
        """
        queue, worker = self.makePair()
        yield queue.shutdown()
        self.assertTrue(worker.isStopping)
        self.assertEqual(len(queue), 0)

    @program
    def test_D01_twice(self) -> Program:
        """
        The second Deferred fires, too.
        """
        queue, _ = self.makePair()
        yield queue.shutdown()
        yield queue.shutdown()

    @program
    def test_E01_callAfterwards(self) -> Program:
        """
        Is a QueueRunError.
        """
        queue, _ = self.makePair()
        yield queue.shutdown()
        with self.assertRaises(QueueRunError):
            yield queue.call(int)

    @program
    def test_E01_newTaskAfterwards(self) -> Program:
        """
        Is a QueueRunError.
        """
        queue, _ = self.makePair()
        yield queue.shutdown()
        with self.assertRaises(QueueRunError):
            queue.newTask(int, (), {})

    def test_Z33_callDuringShutdown(self) -> None:
        """
        Is a QueueRunError from the moment on at which the shutdown is asked for.
        """
        queue, worker = self.makePair()
        self.call(queue, int)
        done = Outcome(queue.shutdown())
        self.assertFailed(self.call(queue, int), QueueRunError)
        worker.step()
        self.assertEqual(done.fired, 1)

    def test_Z14_backlogIsRunFirst(self) -> None:
        """
        What is queued is run before the workers are let go.
        """
        queue, worker = self.makePair()
        calls = [self.call(queue, identity, number) for number in range(5)]
        done = Outcome(queue.shutdown())
        worker.stepAll()
        for number, call in enumerate(calls):
            self.assertValue(call, number)
        self.assertEqual(done.fired, 1)

    def test_Z14_backlogWithoutWorkers(self) -> None:
        """
        Does not keep the queue from its end; the calls errback.
        """
        queue = self.makeQueue()
        calls = [self.call(queue, int) for _ in range(3)]
        done = Outcome(queue.shutdown())
        self.turn()
        for call in calls:
            self.assertFailed(call, QueueRunError)
        self.assertEqual(done.fired, 1)

    def test_D02_timeout(self) -> None:
        """
        Workers that have not shut down gracefully by then are terminated.
        """
        queue, worker = self.makePair(timeout=10)
        call = self.call(queue, int)
        done = Outcome(queue.shutdown())
        self.clock.advance(9)
        self.assertPending(done)
        self.clock.advance(1)
        self.turn()
        self.assertTrue(worker.isCrashed)
        self.assertEqual(done.fired, 1)
        self.assertFailed(call, WorkerError)


class CallTests(CompatibilityTestCase):
    """
    call() and its keywords.
    """

    @program
    def test_C01_argumentsAndKeywords(self) -> Program:
        """
        Are the function's.
        """
        queue = self.makeNullQueue()
        result = yield queue.call(int, "ff", base=16)
        self.assertEqual(result, 255)

    def test_C02_reservedKeywordsAreTheQueues(self) -> None:
        """
        The function sees its own, and none of those documented.
        """
        queue, worker = self.makePair()
        for keywords in (
            {"niceness": 5},
            {"series": None},
            {"doNext": True},
            {"doLast": True},
            {"timeout": 5},
            {"consumer": ListOf()},
            {"returnFailure": True},
            {"raw": True},
        ):
            call = self.call(queue, keywordsOf, own=1, **keywords)
            worker.step()
            self.assertValue(call, {"own": 1})

    def test_C01_notRunBeforeItReturns(self) -> None:
        """
        The call goes into the pipeline; its function runs in a later turn.
        """
        ran: list[int] = []
        queue = self.makeNullQueue()
        call = self.call(queue, ran.append, 1)
        self.assertEqual(ran, [])
        self.turn()
        self.assertEqual(ran, [1])
        self.assertEqual(call.fired, 1)

    def test_P01_niceness(self) -> None:
        """
        Is an integer from -20 to 20; anything else is a ValueError.
        """
        queue, worker = self.makePair()
        calls = [self.call(queue, int, niceness=niceness) for niceness in (-20, 0, 20)]
        worker.stepAll()
        for call in calls:
            self.assertValue(call, 0)
        for niceness in (-21, 21, 0.5, "0", None, True):
            self.assertRaises(ValueError, queue.call, int, niceness=niceness)

    def test_T01_timeout(self) -> None:
        """
        Seconds from when a worker gets the task, after which the call is retried; another time, and it fails.
        """
        queue = self.makeQueue()
        call = self.call(queue, int, timeout=5)
        self.clock.advance(20)
        worker, other = MemoryWorker(), MemoryWorker()
        queue.attachWorker(worker)
        self.clock.advance(4)
        queue.attachWorker(other)
        self.assertEqual(other.started, [])
        self.clock.advance(1)
        self.assertEqual(len(other.started), 1)
        self.assertPending(call)
        self.clock.advance(5)
        self.assertFailed(call, TimeoutError)

    def test_T01_inTime(self) -> None:
        """
        A call that is done in time is run once.
        """
        queue, worker = self.makePair()
        call = self.call(queue, timesTwo, 4, timeout=5)
        self.clock.advance(4)
        worker.step()
        self.clock.advance(100)
        self.assertValue(call, 8)
        self.assertEqual(len(worker.started), 1)

    def test_Z05_lateResult(self) -> None:
        """
        The result of a run that had timed out does not reach anybody.
        """
        first, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(first, other)
        call = self.call(queue, int, timeout=5)
        self.clock.advance(5)
        first.report("r", "late")
        self.assertPending(call)
        other.report("r", "in time")
        self.assertValue(call, "in time")

    def test_R02_returnFailure(self) -> None:
        """
        Of the call: its errback gets a Failure, though the queue's setting is another.
        """
        queue, worker = self.makePair(returnFailure=False, warn=True)
        call = self.call(queue, raising, ValueError, "the text", returnFailure=True)
        worker.step()
        error = self.assertFailed(call, WorkerError)
        self.assertIn("the text", str(error))

    def test_R02_returnFailureOtherwise(self) -> None:
        """
        Of the call: its callback gets the text, though the queue's setting is another.
        """
        queue, worker = self.makePair(returnFailure=True, warn=True)
        call = self.call(queue, raising, ValueError, "the text", returnFailure=False)
        with self.assertLogs("asynqueue", "ERROR"):
            worker.step()
        self.assertIsNone(call.failure)
        self.assertIn("ValueError: the text", call.value)

    @program
    def test_Z03_originalClass(self) -> Program:
        """
        A failure is one of WorkerError and of the class of what was raised.
        """
        queue = self.makeNullQueue()
        caught: list[Failure] = []
        yield queue.call(raising, ValueError, "the text").addErrback(caught.append)
        self.assertIs(caught[0].check(ValueError), ValueError)
        self.assertIs(caught[0].check(WorkerError), WorkerError)

    @program
    def test_Z07_goesOnAfterAnError(self) -> Program:
        """
        A failing call leaves the worker free for the next one.
        """
        queue = self.makeNullQueue()
        with self.assertRaises(ValueError):
            yield queue.call(raising, ValueError)
        self.assertEqual((yield queue.call(timesTwo, 1)), 2)

    @program
    def test_Z11_cancel(self) -> Program:
        """
        A call that waits can be cancelled by its Deferred, and is then never run.
        """
        queue, worker = self.makePair()
        ran: list[str] = []
        first = queue.call(ran.append, "first")
        second = queue.call(ran.append, "second")
        second.cancel()
        worker.stepAll()
        yield first
        with self.assertRaises(CancelledError):
            yield second
        self.assertEqual(ran, ["first"])

    def test_Z06_rerunHasItsKeywords(self) -> None:
        """
        The second run has all keywords that the first one had, though its worker took some out of the dictionary.
        """
        queue, worker = self.makePair()
        self.call(queue, keywordsOf, own=1)
        worker.held[0].callTuple[2].pop("own")
        worker.report("d")
        self.assertEqual(worker.held[0].callTuple[2], {"own": 1})

    def test_Z15_threeWorkersThreeSeries(self) -> None:
        """
        Run at once.
        """
        workers = [MemoryWorker(["a", "b", "c"]) for _ in range(3)]
        queue = self.makeQueue(*workers)
        for series in "abc":
            self.call(queue, int, series=series)
        self.assertEqual([len(worker.held) for worker in workers], [1, 1, 1])

    def test_Z13_unservedSeriesHoldsUpNobody(self) -> None:
        """
        Calls behind one that no worker is qualified for are run.
        """
        queue, worker = self.makePair()
        unserved = self.call(queue, int, series="nobody", doNext=True)
        call = self.call(queue, int)
        worker.step()
        self.assertValue(call, 0)
        self.assertPending(unserved)


class IterationTests(CompatibilityTestCase):
    """
    Calls whose result is an iterator.
    """

    @program
    def test_R04_deferator(self) -> Program:
        """
        The result yields Deferreds to the iterations.
        """
        queue = self.makeNullQueue()
        found = []
        for d in (yield queue.call(count, 3)):
            self.assertIsInstance(d, Deferred)
            item = yield d
            found.append(item)
        self.assertEqual(found, [0, 1, 2])

    @program
    def test_R04_emptyIterator(self) -> Program:
        """
        The result is an empty list.
        """
        queue = self.makeNullQueue()
        self.assertEqual((yield queue.call(count, 0)), [])

    @program
    def test_R04_pythonsOwnIterables(self) -> Program:
        """
        Are results like any other.
        """
        queue = self.makeNullQueue()
        for value in ([1, 2], (1, 2), {"key": 1}, {1, 2}, "text", b"bytes"):
            self.assertEqual((yield queue.call(identity, value)), value)

    @program
    def test_R13_consumer(self) -> Program:
        """
        Gets the iterations; the result is the consumer, when they have all been produced.
        """
        queue = self.makeNullQueue()
        consumer = ListOf()
        result = yield queue.call(count, 4, consumer=consumer)
        self.assertIs(result, consumer)
        self.assertEqual(consumer.written, [0, 1, 2, 3])
        self.assertEqual(consumer.unregistered, 1)

    @program
    def test_R04_consumerOfAnEmptyIterator(self) -> Program:
        """
        Is the result, too.
        """
        queue = self.makeNullQueue()
        consumer = ListOf()
        self.assertIs((yield queue.call(count, 0, consumer=consumer)), consumer)
        self.assertEqual(consumer.written, [])

    @program
    def test_R14_rawOfTheCall(self) -> Program:
        """
        The iterator is returned untouched.
        """
        queue = self.makeNullQueue()
        iterator = count(3)
        self.assertIs((yield queue.call(identity, iterator, raw=True)), iterator)

    @program
    def test_R14_rawOfTheWorker(self) -> Program:
        """
        Likewise, unless the call has it otherwise.
        """
        queue = self.makeQueue(AsyncWorker(raw=True, reactor=self.clock))
        iterator = count(3)
        self.assertIs((yield queue.call(identity, iterator)), iterator)
        self.assertIsNot((yield queue.call(identity, iterator, raw=False)), iterator)


class OrderTests(OrderTestCase):
    """
    The order in which calls are dequeued.
    """

    def test_P04_withinASeries(self) -> None:
        """
        In sequence.
        """
        for number in range(10):
            self.add(number, series="a")
        self.assertEqual(self.served(), list(range(10)))

    def test_P04_exceptForNiceness(self) -> None:
        """
        Of calls of one series, those that are less nice go first.
        """
        self.add("nice", series="a", niceness=15)
        self.add("eager", series="a", niceness=-15)
        self.assertEqual(self.served(), ["eager", "nice"])

    def test_P03_seriesInterleave(self) -> None:
        """
        Series are run concurrently, though they are dumped into the queue in big batches.
        """
        for series in "ab":
            for _ in range(10):
                self.add(series, series=series)
        order = self.served()
        for number in range(2, 20, 2):
            self.assertLessEqual(abs(order[:number].count("a") - order[:number].count("b")), 2)

    def test_P02_tenIsHalfTheRate(self) -> None:
        """
        A series at niceness N+10 is dequeued at approximately half the rate of another at N.
        """
        for niceness in (-20, -10, 0, 10):
            for _ in range(100):
                self.add("fast", series="a", niceness=niceness)
                self.add("slow", series="b", niceness=niceness + 10)
            order = self.served()[:90]
            self.assertTrue(1.7 <= order.count("fast") / order.count("slow") <= 2.3, order)
            self.order.clear()
            self.busy = self.call(self.queue, int)

    def test_P05_doNext(self) -> None:
        """
        Goes before a deeply queued call with niceness -20.
        """
        for _ in range(50):
            self.add("other", niceness=-20)
        self.add("next", doNext=True)
        self.assertEqual(self.served()[0], "next")

    def test_Z26_doNextAmongThemselves(self) -> None:
        """
        Go in the order in which they came.
        """
        for number in range(10):
            self.add(number, doNext=True)
        self.assertEqual(self.served(), list(range(10)))

    def test_P06_doLast(self) -> None:
        """
        Goes after any call of another priority, however long it has been queued.
        """
        self.add("last", doLast=True)
        for number in range(50):
            self.add(number, niceness=20)
        self.assertEqual(self.served()[-1], "last")

    def test_P06_doLastAmongThemselves(self) -> None:
        """
        Go in the order in which they came.
        """
        for number in range(10):
            self.add(number, doLast=True)
        self.assertEqual(self.served(), list(range(10)))

    def test_P06_both(self) -> None:
        """
        Contradict each other.
        """
        self.assertRaises(ValueError, self.queue.call, int, doNext=True, doLast=True)

    def test_base_TaskQueue_seriesIsAnyHashable(self) -> None:
        """
        A tuple or a number names a series as well as a text.
        """
        names: list[Any] = [("a", 1), 5, None, frozenset()]
        for series in names:
            if series is not None:
                self.queue.qualifyWorker(self.worker, series)
            self.add(series, series=series)
        self.assertCountEqual(self.served(), names)
        self.assertRaises(TypeError, self.queue.call, int, series=["not", "hashable"])


class UpdateTests(CompatibilityTestCase):
    """
    update() and its keywords.
    """

    @program
    def test_C05_onAllCurrentWorkers(self) -> Program:
        """
        Each runs the call, with its arguments and keywords; the Deferred fires with their results.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock), AsyncWorker(reactor=self.clock))
        results = yield queue.update(int, "ff", base=16)
        self.assertEqual(results, [255, 255])

    def test_C05_onFutureWorkers(self) -> None:
        """
        Those that are attached later run it before they are attached.
        """
        ran: list[str] = []
        queue = self.makeQueue()
        queue.update(ran.append, "updated")
        worker = MemoryWorker()
        attached = Outcome(queue.attachWorker(worker))
        self.assertPending(attached)
        worker.step()
        self.assertEqual(ran, ["updated"])
        self.assertValue(attached, 1)

    def test_C05_pastTheQueue(self) -> None:
        """
        It is run before what is queued.
        """
        queue, worker = self.makePair()
        order: list[str] = []
        self.call(queue, order.append, "running")
        self.call(queue, order.append, "queued")
        queue.update(order.append, "update")
        worker.stepAll()
        self.assertEqual(order, ["running", "update", "queued"])

    def test_C05_ephemeral(self) -> None:
        """
        Only the workers that are attached now run it.
        """
        queue, worker = self.makePair()
        done = Outcome(queue.update(identity, 5, ephemeral=True))
        worker.step()
        self.assertValue(done, [5])
        later = MemoryWorker()
        queue.attachWorker(later)
        self.assertEqual(later.started, [])

    def test_C05_sequential(self) -> None:
        """
        One worker begins when the one before is done.
        """
        workers = [MemoryWorker(), MemoryWorker()]
        queue = self.makeQueue(*workers)
        done = Outcome(queue.update(identity, 5, sequential=True))
        self.assertEqual([len(worker.held) for worker in workers], [1, 0])
        workers[0].step()
        self.assertEqual([len(worker.held) for worker in workers], [0, 1])
        self.assertPending(done)
        workers[1].step()
        self.assertValue(done, [5, 5])

    def test_C05_togetherOtherwise(self) -> None:
        """
        All workers begin at once.
        """
        workers = [MemoryWorker(), MemoryWorker()]
        queue = self.makeQueue(*workers)
        queue.update(int)
        self.assertEqual([len(worker.held) for worker in workers], [1, 1])

    def test_C05_series(self) -> None:
        """
        Only the workers that are qualified for it run the call.
        """
        special, other = MemoryWorker(["special"]), MemoryWorker()
        queue = self.makeQueue(special, other)
        queue.update(int, series="special")
        self.assertEqual((len(special.held), len(other.held)), (1, 0))

    def test_C05_consumer(self) -> None:
        """
        Is a ValueError.
        """
        queue, _ = self.makePair()
        self.assertRaises(ValueError, queue.update, int, consumer=ListOf())

    def test_C05_functionSeesItsOwnKeywords(self) -> None:
        """
        And none of the update's.
        """
        queue, worker = self.makePair()
        done = Outcome(queue.update(keywordsOf, own=1, ephemeral=True, sequential=False, timeout=5, raw=True))
        worker.step()
        self.assertValue(done, [{"own": 1}])

    def test_Z28_failedUpdate(self) -> None:
        """
        Is a Failure in the list, beside the results of others.
        """
        good, bad = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(good, bad)
        done = Outcome(queue.update(int))
        bad.report("e", "Traceback: it went wrong")
        good.step()
        first, second = done.value
        self.assertEqual(first, 0)
        self.assertIsInstance(second, Failure)
        second.trap(WorkerError)

    def test_Z28_newWorkerThatFailsAnUpdate(self) -> None:
        """
        Is not hired.
        """
        queue = self.makeQueue()
        queue.update(raising, ValueError)
        worker = MemoryWorker()
        attached = Outcome(queue.attachWorker(worker))
        worker.step()
        self.assertFailed(attached, ValueError)
        self.assertEqual(len(queue), 0)


class StatusTests:
    """
    What becomes of each status that a worker reports, and that taskDone() is given.
    """

    spelled: Callable[[str], Any]
    makePair: Any
    call: Any

    def assertAllAreKnown(self: Any) -> None:
        """
        Each of the letters has its meaning.
        """
        self.assertValue(self.reported("r", 5), 5)
        self.assertValue(self.reported("n", 5), None)
        self.assertIn("it went wrong", str(self.reported("e", "it went wrong").error))
        self.assertPending(self.reported("c", Deferred()))
        for letter in "td":
            self.assertPending(self.reported(letter))

    def reported(self, letter: str, result: Any = None, **keywords: Any) -> Outcome:
        """
        Return what a call gets when its worker reports an outcome.
        """
        queue, worker = self.makePair()
        outcome: Outcome = self.call(queue, int, **keywords)
        worker.report(self.spelled(letter), result)
        return outcome

    def done(self, letter: str, result: Any = None, **kw: Any) -> Outcome:
        """
        Return what taskDone() makes of an outcome.
        """
        queue, _ = self.makePair()
        task = queue.newTask(int, (), {})
        return Outcome(maybeDeferred(queue.taskDone, (self.spelled(letter), result), task, **kw))

    def test_R03_result(self: Any) -> None:
        """
        Is the return value of the call.
        """
        values: tuple[Any, ...] = 5, None, [], "text", b"bytes"
        for value in values:
            self.assertValue(self.reported("r", value), value)
            self.assertValue(self.done("r", value), value)

    def test_R02_error(self: Any) -> None:
        """
        Is a Failure with the text, for a queue with C{returnFailure}.
        """
        for outcome in (self.reported("e", "the traceback"), self.done("e", "the traceback", rf=True)):
            self.assertIn("the traceback", str(self.assertFailed(outcome, WorkerError)))

    def test_R02_errorOfTheCallsKeyword(self: Any) -> None:
        """
        Likewise with that of the call.
        """
        queue, worker = self.makePair(returnFailure=False, warn=True)
        outcome = self.call(queue, int, returnFailure=True)
        worker.report(self.spelled("e"), "the traceback")
        self.assertFailed(outcome, WorkerError)

    def test_Z02_errorWithWarn(self: Any) -> None:
        """
        Is the text, which is logged too.
        """
        queue, worker = self.makePair(returnFailure=False, warn=True)
        outcome = self.call(queue, int)
        with self.assertLogs("asynqueue", "ERROR") as caught:
            worker.report(self.spelled("e"), "the traceback")
        self.assertValue(outcome, "the traceback")
        self.assertIn("the traceback", caught.output[0])

    def test_R04_iteration(self: Any) -> None:
        """
        Is the Deferator, whose iterations the caller gets.
        """
        for get in (self.reported, self.done):
            outcome = get("i", deferatorOf(count(2)))
            self.assertEqual((outcome.fired, outcome.failure), (1, None))
            found = [self.successResultOf(d) for d in outcome.value]
            self.assertEqual(found, [0, 1])

    def test_R13_iterationWithAConsumer(self: Any) -> None:
        """
        Is the consumer, when it has got all.
        """
        for get in (self.reported, self.done):
            consumer = ListOf()
            outcome = get("i", deferatorOf(count(3)), consumer=consumer)
            for _ in range(10):
                self.turn()
            self.assertValue(outcome, consumer)
            self.assertEqual(consumer.written, [0, 1, 2])

    def test_R05_chunks(self: Any) -> None:
        """
        Are a Deferred that will fire with the result.
        """
        for get in (self.reported, self.done):
            whole: Deferred[Any] = Deferred()
            outcome = get("c", whole)
            self.assertPending(outcome)
            whole.callback("put together")
            self.assertValue(outcome, "put together")

    def test_R06_timeout(self: Any) -> None:
        """
        The call is run again, before others.
        """
        queue, worker = self.makePair()
        outcome = self.call(queue, identity, "again")
        self.call(queue, identity, "other", doNext=True)
        worker.report(self.spelled("t"))
        self.assertPending(outcome)
        worker.step()
        self.assertValue(outcome, "again")

    def test_R06_timeoutTwice(self: Any) -> None:
        """
        Is a TimeoutError.
        """
        queue, worker = self.makePair()
        outcome = self.call(queue, int)
        worker.report(self.spelled("t"))
        worker.report(self.spelled("t"))
        self.assertFailed(outcome, TimeoutError)

    def test_R06_taskDoneOfATimeout(self: Any) -> None:
        """
        Has the call run again, and is its Deferred.
        """
        queue, worker = self.makePair()
        task = queue.newTask(timesTwo, (4,), {})
        outcome = Outcome(maybeDeferred(queue.taskDone, (self.spelled("t"), None), task))
        self.assertPending(outcome)
        worker.step()
        self.assertValue(outcome, 8)

    def test_R07_nothing(self: Any) -> None:
        """
        Is None.
        """
        self.assertValue(self.reported("n"), None)
        self.assertValue(self.done("n", "ignored"), None)

    def test_R08_disconnection(self: Any) -> None:
        """
        The call is run again, by another worker if need be.
        """
        queue, worker = self.makePair()
        outcome = self.call(queue, timesTwo, 4)
        worker.report(self.spelled("d"))
        self.assertPending(outcome)
        worker.step()
        self.assertValue(outcome, 8)

    def test_R08_taskDoneOfADisconnection(self: Any) -> None:
        """
        Has the call run again, and is its Deferred.
        """
        queue, worker = self.makePair()
        task = queue.newTask(timesTwo, (4,), {})
        outcome = Outcome(maybeDeferred(queue.taskDone, (self.spelled("d"), None), task))
        self.assertPending(outcome)
        worker.step()
        self.assertValue(outcome, 8)

    def test_Z29_disconnectionsAreBounded(self: Any) -> None:
        """
        A call that is never run does not go round for ever.
        """
        queue, worker = self.makePair()
        outcome = self.call(queue, int)
        for _ in range(100):
            if not worker.held:
                break
            worker.report(self.spelled("d"))
        self.assertFailed(outcome, asynqueue.errors.AsynQueueError)

    def test_R09_unknown(self: Any) -> None:
        """
        Is a WorkerError.
        """
        self.assertFailed(self.reported("?"), WorkerError)
        self.assertFailed(self.done("?"), WorkerError)

    def test_base_TaskQueue_taskDoneTakesAnID(self: Any) -> None:
        """
        As a keyword beside the others.
        """
        self.assertValue(self.done("r", 5, ID=7, rf=True, consumer=None), 5)


class TextStatusTests(StatusTests, CompatibilityTestCase):
    """
    Statuses as text.
    """

    def spelled(self, letter: str) -> Any:
        """
        Return the letter as text.
        """
        return letter

    def test_R01_statusAsText(self) -> None:
        """
        As good as the other spelling.
        """
        self.assertAllAreKnown()


class BytesStatusTests(StatusTests, CompatibilityTestCase):
    """
    Statuses as bytes.
    """

    def spelled(self, letter: str) -> Any:
        """
        Return the letter as bytes.
        """
        return letter.encode("ascii")

    def test_R01_statusAsBytes(self) -> None:
        """
        As good as the other spelling.
        """
        self.assertAllAreKnown()

    def test_Z04_timeoutAsBytes(self) -> None:
        """
        Has the call run again, as it does as text.
        """
        queue, worker = self.makePair()
        outcome = self.call(queue, timesTwo, 2)
        worker.report(b"t")
        worker.step()
        self.assertValue(outcome, 4)


class NewTaskTests(CompatibilityTestCase):
    """
    newTask().
    """

    def test_C04_isATask(self) -> None:
        """
        Of the call that it is given.
        """
        queue, _ = self.makePair()
        task = queue.newTask(int, ["ff"], {"base": 16})
        self.assertIsInstance(task, Task)
        func, args, kw = task.callTuple
        self.assertEqual((func, list(args), kw), (int, ["ff"], {"base": 16}))
        self.assertIsInstance(task.d, Deferred)

    def test_C04_isNotQueued(self) -> None:
        """
        No worker gets it.
        """
        queue, worker = self.makePair()
        queue.newTask(int, (), {})
        self.turn()
        self.assertEqual(worker.started, [])

    def test_C04_takesTheReservedKeywordsOut(self) -> None:
        """
        Of the very dictionary that it is given.
        """
        queue, _ = self.makePair()
        kw = {
            "own": 1,
            "niceness": 5,
            "series": "a",
            "doNext": True,
            "timeout": 3,
            "consumer": ListOf(),
            "returnFailure": True,
        }
        task = queue.newTask(keywordsOf, (), kw)
        self.assertEqual(kw, {"own": 1})
        self.assertEqual(task.callTuple[2], {"own": 1})
        self.assertEqual((task.series, task.timeout), ("a", 3))

    def test_C04_typeErrors(self) -> None:
        """
        The arguments are a list or a tuple, the keywords a dictionary.
        """
        queue, _ = self.makePair()
        self.assertRaises(TypeError, queue.newTask, int, "ff", {})
        self.assertRaises(TypeError, queue.newTask, int, (), None)

    def test_C04_canBeQueued(self) -> None:
        """
        By the queue's C{q}, and its Deferred gets the result.
        """
        queue, worker = self.makePair()
        task = queue.newTask(timesTwo, (4,), {})
        result = Outcome(task.d)
        queue.q.put(task)
        worker.step()
        self.assertValue(result, 8)

    def test_C04_priority(self) -> None:
        """
        The keywords decide when it is run.
        """
        queue, worker = self.makePair()
        order: list[str] = []
        self.call(queue, int)
        for label, keywords in (("last", {"doLast": True}), ("plain", {}), ("next", {"doNext": True})):
            queue.q.put(queue.newTask(order.append, (label,), keywords))
        worker.stepAll()
        self.assertEqual(order, ["next", "plain", "last"])


class QueueOfTasksTests(CompatibilityTestCase):
    """
    What programs do with a task queue's C{q}.
    """

    def test_Z09_cancelAllRemovesAll(self) -> None:
        """
        Of what waits, nothing is left, and what runs goes on.
        """
        queue, worker = self.makePair()
        running = self.call(queue, int)
        waiting = [self.call(queue, int) for _ in range(5)]
        queue.q.cancelAll()
        worker.stepAll()
        self.turn()
        self.assertEqual(len(worker.started), 1)
        self.assertValue(running, 0)
        for call in waiting:
            self.assertFailed(call, CancelledError)

    def test_Z10_cancelledDeferredsFire(self) -> None:
        """
        Those of the calls of a cancelled series errback, and those of others do not.
        """
        queue, worker = self.makePair()
        queue.qualifyWorker(worker, "a")
        self.call(queue, int)
        cancelled = self.call(queue, int, series="a")
        other = self.call(queue, int)
        queue.q.cancelSeries("a")
        self.turn()
        self.assertFailed(cancelled, CancelledError)
        worker.stepAll()
        self.assertValue(other, 0)

    def test_T13_cancelSeries(self) -> None:
        """
        The calls of the series are never run.
        """
        queue, worker = self.makePair()
        queue.qualifyWorker(worker, "a")
        order: list[str] = []
        self.call(queue, int)
        self.call(queue, order.append, "a", series="a")
        self.call(queue, order.append, "b")
        queue.q.cancelSeries("a")
        worker.stepAll()
        self.assertEqual(order, ["b"])
        self.turn()

    def test_P16_subscribe(self) -> None:
        """
        A consumer is written the number of calls queued and running, on each change.
        """
        queue, worker = self.makePair()
        consumer = ListOf()
        queue.q.subscribe(consumer)
        for _ in range(3):
            self.call(queue, int)
        worker.stepAll()
        self.assertEqual(consumer.written[-6:], [1, 2, 3, 2, 1, 0])
        self.assertTrue(all(type(load) is int for load in consumer.written))

    def test_P16_noConsumer(self) -> None:
        """
        Is an ImplementationError.
        """
        queue, _ = self.makePair()
        self.assertRaises(ImplementationError, queue.q.subscribe, object())

    def test_Z09_loadAfterCancelAll(self) -> None:
        """
        The number is right after calls have been cancelled.
        """
        queue, worker = self.makePair()
        consumer = ListOf()
        queue.q.subscribe(consumer)
        for _ in range(5):
            self.call(queue, int)
        queue.q.cancelAll()
        self.turn()
        self.assertEqual(consumer.written[-1], 1)
        worker.stepAll()
        self.assertEqual(consumer.written[-1], 0)


class Handler:
    """
    A handler of items, which is done with one when told to.
    """

    def __init__(self, left: list[Any] | None = None) -> None:
        self.handled: list[Any] = []
        self.ended: list[Any] = []
        self.waiting: list[Deferred[None]] = []
        self._left = [] if left is None else left

    def __call__(self, item: Any) -> Deferred[None]:
        """
        Take an item.
        """
        self.handled.append(item)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def shutdown(self, timeout: float | None = None) -> Deferred[list[Any]]:
        """
        Come to an end.
        """
        self.ended.append(timeout)
        done: Deferred[list[Any]] = Deferred()
        done.callback(self._left)
        return done

    def getDone(self) -> None:
        """
        Be done with the item at hand.
        """
        self.waiting.pop(0).callback(None)

    def getAllDone(self) -> None:
        """
        Be done with all items.
        """
        while self.waiting:
            self.getDone()


class Labelled:
    """
    An item of a series.
    """

    def __init__(self, number: int, series: str) -> None:
        self.number = number
        self.series = series

    def __lt__(self, other: Labelled) -> bool:
        return self.number < other.number


class QueueTests(SynchronousTestCase):
    """
    base.Queue with a handler of the program's own.
    """

    def setUp(self) -> None:
        """
        Make a queue.
        """
        super().setUp()
        self.handler = Handler(["unfinished"])
        self.queue: Queue = Queue(self.handler, 7)

    def test_base_Queue_putCallsTheHandler(self) -> None:
        """
        With the item.
        """
        self.queue.put("item")
        self.assertEqual(self.handler.handled, ["item"])

    def test_base_Queue_awaitsTheHandler(self) -> None:
        """
        The next item is handled when the Deferred of the one before has fired.
        """
        self.queue.put(1)
        self.queue.put(2)
        self.assertEqual(self.handler.handled, [1])
        self.handler.getDone()
        self.assertEqual(self.handler.handled, [1, 2])

    def test_base_Queue_bestItemFirst(self) -> None:
        """
        That is the least of those that wait.
        """
        for item in (0, 5, 3, 4, 1):
            self.queue.put(item)
        self.handler.getAllDone()
        self.assertEqual(self.handler.handled, [0, 1, 3, 4, 5])

    def test_base_Queue_noneIsNoItem(self) -> None:
        """
        It is refused.
        """
        self.assertRaises(ValueError, self.queue.put, None)

    def test_base_Queue_isRunning(self) -> None:
        """
        Until shutdown.
        """
        self.assertIs(self.queue.isRunning(), True)
        self.queue.shutdown()
        self.assertIs(self.queue.isRunning(), False)

    def test_base_Queue_shutdown(self) -> None:
        """
        The handler is shut down, with the timeout; the Deferred fires with the items left.
        """
        for item in range(3):
            self.queue.put(item)
        done = Outcome(self.queue.shutdown())
        self.handler.getAllDone()
        self.assertEqual(self.handler.ended, [7])
        self.assertEqual(done.fired, 1)
        self.assertIn("unfinished", done.value)
        waited = set(done.value) - {"unfinished"}
        self.assertEqual(sorted([*self.handler.handled, *waited]), [0, 1, 2])

    def test_base_Queue_timeoutIsNoneByDefault(self) -> None:
        """
        The handler gets that.
        """
        handler = Handler()
        self.successResultOf(Queue(handler).shutdown())
        self.assertEqual(handler.ended, [None])

    def test_E01_putAfterShutdown(self) -> None:
        """
        Is a QueueRunError.
        """
        self.queue.shutdown()
        self.assertRaises(QueueRunError, self.queue.put, 1)

    def test_Z34_handlerThatRaises(self) -> None:
        """
        Does not keep the queue from the next item.
        """
        handled: list[int] = []

        def handle(item: int) -> None:
            handled.append(item)
            raise ValueError("the handler's own")

        queue: Queue = Queue(handle)
        queue.put(1)
        queue.put(2)
        self.assertEqual(handled, [1, 2])
        self.assertTrue(queue.isRunning())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_Z09_cancelAll(self) -> None:
        """
        Removes all items that wait, though some are equal.
        """
        for item in (0, 1, 1, 2, 2, 1):
            self.queue.put(item)
        self.queue.cancelAll()
        self.handler.getAllDone()
        self.assertEqual(self.handler.handled, [0])

    def test_Z09_loadAfterCancelAll(self) -> None:
        """
        Is that of what is left.
        """
        consumer = ListOf()
        self.queue.subscribe(consumer)
        for item in range(5):
            self.queue.put(item)
        self.queue.cancelAll()
        self.assertEqual(consumer.written[-1], 1)
        self.handler.getAllDone()
        self.assertEqual(consumer.written[-1], 0)

    def test_T13_cancelSeries(self) -> None:
        """
        Removes the items of the series that wait.
        """
        items = [Labelled(number, series) for number, series in enumerate("aabab")]
        for item in items:
            self.queue.put(item)
        self.queue.cancelSeries("a")
        self.handler.getAllDone()
        self.assertEqual([item.number for item in self.handler.handled], [0, 2, 4])

    def test_P16_subscribe(self) -> None:
        """
        A consumer is told how many items wait or are handled.
        """
        consumer = ListOf()
        self.queue.subscribe(consumer)
        self.queue.put(1)
        self.queue.put(2)
        self.handler.getAllDone()
        self.assertEqual(consumer.written[-4:], [1, 2, 1, 0])

    def test_P16_noConsumer(self) -> None:
        """
        Is an ImplementationError.
        """
        self.assertRaises(ImplementationError, self.queue.subscribe, object())


class PriorityTests(SynchronousTestCase):
    """
    base.Priority.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        super().setUp()
        self.heap: Priority[Any] = Priority()

    def put(self, *items: Any) -> None:
        """
        Put items.
        """
        for item in items:
            self.heap.put(item)

    def got(self, number: int) -> list[Any]:
        """
        Get a number of items, which are there.
        """
        return [self.successResultOf(self.heap.get()) for _ in range(number)]

    def test_base_Priority_leastFirst(self) -> None:
        """
        Whatever the order in which they came.
        """
        self.put(3, 1, 2)
        self.assertEqual(self.got(3), [1, 2, 3])

    def test_base_Priority_getWaits(self) -> None:
        """
        For an item.
        """
        getter = self.heap.get()
        self.assertNoResult(getter)
        self.put("item")
        self.assertEqual(self.successResultOf(getter), "item")

    def test_base_Priority_oldestGetterFirst(self) -> None:
        """
        It gets the first item that comes.
        """
        one, other = self.heap.get(), self.heap.get()
        self.put("first")
        self.assertEqual(self.successResultOf(one), "first")
        self.assertNoResult(other)
        self.put("second")
        self.assertEqual(self.successResultOf(other), "second")

    def test_base_Priority_inACoroutine(self) -> None:
        """
        A loop of a program gets one item after the other.
        """
        found: list[int] = []

        @inlineCallbacks
        def loop() -> Program:
            while len(found) < 3:
                item = yield self.heap.get()
                found.append(item)

        done = loop()
        self.put(1, 2, 3, 4)
        self.successResultOf(done)
        self.assertEqual(found, [1, 2, 3])

    def test_Z09_cancel(self) -> None:
        """
        Removes those that the selector picks, and no others, though they are equal.
        """
        self.put(*range(10))
        self.heap.cancel(lambda item: item % 2 == 0)
        self.assertEqual(self.got(5), [1, 3, 5, 7, 9])
        self.assertNoResult(self.heap.get())

    def test_E01_shutdown(self) -> None:
        """
        Pending getters errback QueueRunError.
        """
        getters = [self.heap.get(), self.heap.get()]
        self.heap.shutdown()
        for getter in getters:
            self.failureResultOf(getter, QueueRunError)


class LoadInfoProducerTests(SynchronousTestCase):
    """
    base.LoadInfoProducer.
    """

    def setUp(self) -> None:
        """
        Make one, with a consumer.
        """
        super().setUp()
        self.producer = LoadInfoProducer()
        self.consumer = ListOf()
        self.producer.registerConsumer(self.consumer)

    def test_base_LoadInfoProducer_isAPushProducer(self) -> None:
        """
        It provides the interface.
        """
        self.assertTrue(verifyObject(IPushProducer, self.producer))

    def test_base_LoadInfoProducer_registersItself(self) -> None:
        """
        The consumer gets a push producer.
        """
        self.assertTrue(IPushProducer.providedBy(self.consumer.producer))

    def test_P16_oneMoreAndOneLess(self) -> None:
        """
        The number is written each time.
        """
        self.producer.oneMore()
        self.producer.oneMore()
        self.producer.oneLess()
        self.assertEqual(self.consumer.written[-3:], [1, 2, 1])

    def test_P16_neverBelowZero(self) -> None:
        """
        However often there is one less.
        """
        for _ in range(3):
            self.producer.oneLess()
        self.producer.oneMore()
        self.assertEqual(self.consumer.written[-1], 1)
        self.assertGreaterEqual(min(self.consumer.written), 0)

    def test_P16_registeredAlready(self) -> None:
        """
        A consumer is written each number once.
        """
        self.producer.registerConsumer(self.consumer)
        self.producer.oneMore()
        self.assertEqual(self.consumer.written.count(1), 1)

    def test_P16_severalConsumers(self) -> None:
        """
        Each is told.
        """
        other = ListOf()
        self.producer.registerConsumer(other)
        self.producer.oneMore()
        self.assertEqual((self.consumer.written[-1], other.written[-1]), (1, 1))

    def test_P16_noConsumer(self) -> None:
        """
        Is an ImplementationError.
        """
        self.assertRaises(ImplementationError, self.producer.registerConsumer, object())

    def test_P16_pause(self) -> None:
        """
        Nothing is written until the producer is resumed.
        """
        written = len(self.consumer.written)
        self.producer.pauseProducing()
        self.producer.oneMore()
        self.assertEqual(len(self.consumer.written), written)
        self.producer.resumeProducing()
        self.assertEqual(self.consumer.written[-1], 1)

    def test_P16_stop(self) -> None:
        """
        Nothing is written any more.
        """
        written = len(self.consumer.written)
        self.producer.stopProducing()
        self.producer.oneMore()
        self.assertEqual(len(self.consumer.written), written)

    def test_base_LoadInfoProducer_shutdown(self) -> None:
        """
        The consumer is let go, and told nothing more.
        """
        self.producer.shutdown()
        self.producer.oneMore()
        self.assertEqual(self.consumer.unregistered, 1)
        self.assertNotIn(1, self.consumer.written)


class DefaultPolicyTests(CompatibilityTestCase):
    """
    Errors on a queue with neither warn nor returnFailure.
    """

    def setUp(self) -> None:
        """
        Have a reactor that notes when it is stopped, and keep what is written on stderr.
        """
        super().setUp()
        self.clock = self.reactor = StoppableClock()
        self.written = io.StringIO()
        self.patch(sys, "stderr", self.written)

    @program
    def test_Z01_textIsTheResult(self) -> Program:
        """
        The callback gets the text of the traceback.
        """
        queue = self.makeNullQueue(returnFailure=False)
        result = yield queue.call(raising, ValueError, "the text")
        self.assertIsInstance(result, str)
        self.assertIn("ValueError: the text", result)
        self.clock.advance(2)

    @program
    def test_Z01_stopsTheReactor(self) -> Program:
        """
        A second later, once.
        """
        queue = self.makeNullQueue(returnFailure=False)
        yield queue.call(raising, ValueError)
        yield queue.call(raising, ValueError)
        self.assertEqual(self.reactor.stopped, [])
        self.clock.advance(1)
        self.assertEqual(len(self.reactor.stopped), 1)

    @program
    def test_Z01_message(self) -> Program:
        """
        Is printed on stderr, and says which call it was and what can be done.
        """
        queue = self.makeNullQueue(returnFailure=False)
        yield queue.call(raising, ValueError, "the text")
        for part in ("fail(", "ValueError: the text", "returnFailure=True", "warn=True"):
            self.assertIn(part, self.written.getvalue())
        self.clock.advance(2)

    @program
    def test_Z01_notWithReturnFailure(self) -> Program:
        """
        A queue that returns failures stops nothing, nor does a call that asks for them.
        """
        for queue in (self.makeNullQueue(returnFailure=True), self.makeNullQueue(returnFailure=False)):
            with self.assertRaises(ValueError):
                yield queue.call(raising, ValueError, returnFailure=True)
        self.clock.advance(2)
        self.assertEqual(self.reactor.stopped, [])
        self.assertEqual(self.written.getvalue(), "")

    @program
    def test_Z02_notWithWarn(self) -> Program:
        """
        Merely logs; nothing is stopped.
        """
        queue = self.makeNullQueue(returnFailure=False, warn=True)
        with self.assertLogs("asynqueue", "ERROR"):
            yield queue.call(raising, ValueError)
        self.clock.advance(2)
        self.assertEqual(self.reactor.stopped, [])


class LoggerTests(CompatibilityTestCase):
    """
    The logger of warn, verbose and spew.
    """

    def setUp(self) -> None:
        """
        Add a handler to the logger.
        """
        super().setUp()
        self.logger = logging.getLogger("asynqueue")
        self.patch(self.logger, "propagate", False)
        self.patch(sys, "stderr", io.StringIO())
        self.handler = Records()
        self.logger.addHandler(self.handler)
        self.addCleanup(self.logger.removeHandler, self.handler)

    def records(self, func: Any, *args: Any, **settings: Any) -> list[tuple[int, str]]:
        """
        Run one call on a queue with certain settings, and return what has been logged.
        """
        settings.setdefault("returnFailure", False)
        if not (settings["returnFailure"] or settings.get("warn")):
            self.clock = StoppableClock()
        call = self.call(self.makeNullQueue(**settings), func, *args)
        self.turn()
        self.assertEqual(call.fired, 1)
        self.clock.advance(2)
        return [(record.levelno, record.getMessage()) for record in self.handler.records]

    def test_I36_warn(self) -> None:
        """
        An error is one record at level ERROR, with the traceback.
        """
        ((level, text),) = self.records(raising, ValueError, "the text", warn=True)
        self.assertEqual(level, logging.ERROR)
        self.assertIn("ValueError: the text", text)

    def test_I36_warnOfAGoodCall(self) -> None:
        """
        Is nothing.
        """
        self.assertEqual(self.records(timesTwo, 3, warn=True), [])

    def test_I36_verbose(self) -> None:
        """
        The record begins with the call.
        """
        ((level, text),) = self.records(timesTwo, None, warn=True, verbose=True)
        self.assertEqual(level, logging.ERROR)
        self.assertTrue(text.startswith("timesTwo(None): "), text)
        self.assertIn("TypeError", text)

    def test_I36_spew(self) -> None:
        """
        A finished call is one record at level INFO.
        """
        self.assertEqual(self.records(timesTwo, 3, spew=True), [(logging.INFO, "timesTwo(3) -> 6")])

    def test_I36_spewWithKeywords(self) -> None:
        """
        The call reads as in a program, without what is the queue's.
        """
        queue = self.makeNullQueue(spew=True)
        self.call(queue, int, "ff", base=16, niceness=5)
        self.turn()
        self.assertEqual(self.handler.texts, ["int('ff', base=16) -> 255"])

    def test_I36_spewOfAnError(self) -> None:
        """
        The calls that raise errors are logged, too.
        """
        for returnFailure in (True, False):
            self.handler.records.clear()
            found = self.records(raising, ValueError, "the text", spew=True, returnFailure=returnFailure)
            infos = [text for level, text in found if level == logging.INFO]
            self.assertEqual(len(infos), 1)
            self.assertIn("'the text') -> ", infos[0])
            self.assertIn("the text", infos[0].partition(" -> ")[2])

    def test_I36_spewImpliesVerbose(self) -> None:
        """
        Errors are logged with their calls.
        """
        found = self.records(timesTwo, None, warn=True, spew=True)
        errors = [text for level, text in found if level == logging.ERROR]
        self.assertEqual(len(errors), 1)
        self.assertTrue(errors[0].startswith("timesTwo(None): "), errors)

    def test_I36_levels(self) -> None:
        """
        The logger's is ERROR, and INFO with spew.
        """
        self.makeQueue(warn=True)
        self.assertEqual(self.logger.level, logging.ERROR)
        self.makeQueue(warn=True, spew=True)
        self.assertEqual(self.logger.level, logging.INFO)
