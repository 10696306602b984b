"""
Tests of compatibility: tasks and their handler, interfaces, errors, and workers, one of them written for AsynQueue
0.9.9 by somebody else.
"""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Callable
from typing import Any

import twisted.internet.interfaces
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import Invalid, implementer
from zope.interface.verify import verifyObject

from asynqueue import TaskQueue, interfaces, threads, workers
from asynqueue.errors import (
    ImplementationError,
    InvariantError,
    NotReadyError,
    ProcessError,
    QueueRunError,
    ThreadError,
    TimeoutError,
    WorkerError,
)
from asynqueue.interfaces import IConsumer, IPushProducer, IWorker
from asynqueue.null import NullQueue
from asynqueue.tasks import Assignment, AssignmentFactory, Task, TaskFactory, TaskHandler
from asynqueue.testing import LeakCheckMixin, MemoryWorker
from asynqueue.testing.tasks import fail as raising
from asynqueue.testing.tasks import identity, timesTwo
from asynqueue.threads import ThreadQueue, ThreadWorker, deferToThread
from asynqueue.workers import AsyncWorker
from test.compat import CompatibilityTestCase, ListOf, Program, program
from test.support import Outcome

#: Seconds; a test takes less than one.
TIMEOUT = 30


def makeTask(priority: float = 0, timeout: float | None = None) -> Task:
    """
    Make a task for a call of timesTwo(3).
    """
    return Task(timesTwo, (3,), {}, priority, None, timeout)


class TaskTests(SynchronousTestCase):
    """
    tasks.Task, made by itself.
    """

    def test_tasks_Task_attributes(self) -> None:
        """
        Are what it has been made of.
        """
        task = Task(int, ["ff"], {"base": 16}, 5, "series", 10)
        func, args, kw = task.callTuple
        self.assertEqual((func, list(args), kw), (int, ["ff"], {"base": 16}))
        self.assertEqual((task.priority, task.series, task.timeout), (5, "series", 10))
        self.assertIsInstance(task.d, Deferred)
        self.assertIsNone(makeTask().timeout)

    def test_tasks_Task_typeErrors(self) -> None:
        """
        The arguments are a list or a tuple, the keywords a dictionary.
        """
        for args in ("text", 5, None, {1}):
            self.assertRaises(TypeError, Task, int, args, {}, 0, None)
        wrong: tuple[Any, ...] = None, [], ()
        for kw in wrong:
            self.assertRaises(TypeError, Task, int, (), kw, 0, None)

    def test_tasks_Task_callback(self) -> None:
        """
        Fires the Deferred with the status and the result.
        """
        for statusResult in ((b"r", 6), ("r", 6)):
            task = makeTask()
            task.callback(statusResult)
            self.assertEqual(self.successResultOf(task.d), statusResult)

    def test_tasks_Task_errback(self) -> None:
        """
        Lets the Deferred fail.
        """
        task = makeTask()
        task.errback(Failure(ValueError("the text")))
        self.assertEqual(str(self.failureResultOf(task.d, ValueError).value), "the text")

    def test_tasks_Task_addCallback(self) -> None:
        """
        Adds one to the Deferred, with further arguments.
        """
        task = makeTask()
        seen: list[Any] = []
        task.addCallback(lambda *args, **kw: seen.append((args, kw)), 1, x=2)
        task.callback((b"r", 6))
        self.assertEqual(seen, [(((b"r", 6), 1), {"x": 2})])

    def test_tasks_Task_timedout(self) -> None:
        """
        Fires the Deferred with status t.
        """
        task = makeTask()
        task.timedout()
        self.assertIn(self.successResultOf(task.d)[0], ("t", b"t"))

    def test_Z05_outcomeAfterTheTimeout(self) -> None:
        """
        Is no error.
        """
        task = makeTask()
        task.timedout()
        task.callback((b"r", 6))
        task.errback(Failure(ValueError()))
        self.assertIn(self.successResultOf(task.d)[0], ("t", b"t"))

    def test_tasks_Task_reset(self) -> None:
        """
        Returns a fresh Deferred, which is the task's from now on.
        """
        task = makeTask()
        first = task.d
        task.callback((b"t", None))
        fresh = task.reset()
        self.assertIsNot(fresh, first)
        self.assertIs(task.d, fresh)
        self.assertNoResult(fresh)
        task.callback((b"r", 6))
        self.assertEqual(self.successResultOf(fresh), (b"r", 6))

    def test_tasks_Task_rush(self) -> None:
        """
        It goes before those that are not rushed.
        """
        task, other = makeTask(5), makeTask(-1000)
        task.rush()
        self.assertEqual(sorted([other, task]), [task, other])

    def test_tasks_Task_relax(self) -> None:
        """
        It goes after those that are not relaxed.
        """
        task, other = makeTask(5), makeTask(1000)
        task.relax()
        self.assertEqual(sorted([task, other]), [other, task])

    def test_tasks_Task_copy(self) -> None:
        """
        Is another task for the same call, with the callbacks that have been added.
        """
        task = Task(int, ("ff",), {"base": 16}, 5, "series", 10)
        seen: list[Any] = []
        task.addCallback(seen.append)
        copy = task.copy()
        self.assertIsNot(copy, task)
        self.assertIsNot(copy.d, task.d)
        self.assertEqual(copy.callTuple, task.callTuple)
        self.assertEqual((copy.priority, copy.series, copy.timeout), (5, "series", 10))
        copy.callback((b"r", 255))
        self.assertEqual(seen, [(b"r", 255)])
        self.assertNoResult(task.d)

    def test_tasks_Task_ordersByPriority(self) -> None:
        """
        The least first.
        """
        ordered = [makeTask(priority) for priority in (-5, 0, 0.5, 20)]
        self.assertEqual(sorted([ordered[2], ordered[0], ordered[3], ordered[1]]), ordered)
        self.assertTrue(ordered[0] < ordered[1])
        self.assertFalse(ordered[1] < ordered[0])

    def test_tasks_Task_beforeNone(self) -> None:
        """
        Everything is.
        """
        task: Any = makeTask(1_000_000)
        self.assertTrue(task < None)
        self.assertFalse(task > None)
        self.assertEqual(sorted([None, task]), [task, None])

    def test_Z29_equalPriorityIsNotEquality(self) -> None:
        """
        Two tasks are two tasks.
        """
        task, other = makeTask(), makeTask()
        self.assertNotEqual(task, other)
        self.assertNotIn(other, [task])
        self.assertEqual(len({task, other}), 2)


class TaskTimerTests(LeakCheckMixin, TestCase):
    """
    The timer of a task, in the reactor.
    """

    timeout = TIMEOUT

    @inlineCallbacks
    def test_tasks_Task_startTimer(self) -> Program:
        """
        When the timeout has passed, the Deferred fires with status t.
        """
        task = makeTask(timeout=0.01)
        task.startTimer()
        status, _ = yield task.d
        self.assertIn(status, ("t", b"t"))

    def test_tasks_Task_timerEndsWithTheOutcome(self) -> None:
        """
        No timer is left.
        """
        from twisted.internet import reactor

        before = reactor.getDelayedCalls()
        task = makeTask(timeout=1000)
        task.startTimer()
        task.callback((b"r", 6))
        self.assertEqual(self.successResultOf(task.d), (b"r", 6))
        self.assertEqual(reactor.getDelayedCalls(), before)

    def test_tasks_Task_withoutTimeout(self) -> None:
        """
        There is no timer.
        """
        from twisted.internet import reactor

        before = reactor.getDelayedCalls()
        task = makeTask()
        task.startTimer()
        self.assertEqual(reactor.getDelayedCalls(), before)
        self.assertNoResult(task.d)


class TaskFactoryTests(SynchronousTestCase):
    """
    tasks.TaskFactory.
    """

    def test_tasks_TaskFactory_new(self) -> None:
        """
        Makes a task of the call.
        """
        task = TaskFactory().new(int, ("ff",), {"base": 16}, 0, "series", 10)
        self.assertIs(type(task), Task)
        self.assertEqual(task.callTuple, (int, ("ff",), {"base": 16}))
        self.assertEqual((task.series, task.timeout), ("series", 10))

    def test_tasks_TaskFactory_klass(self) -> None:
        """
        Is the class of what is made.
        """

        class OwnTask(Task):
            pass

        factory = TaskFactory(OwnTask)
        self.assertIs(factory.TaskClass, OwnTask)
        self.assertIsInstance(factory.new(int, (), {}, 0), OwnTask)
        self.assertIs(TaskFactory().TaskClass, Task)

    def test_tasks_TaskFactory_niceness(self) -> None:
        """
        A ValueError unless it is an integer from -20 to 20.
        """
        factory = TaskFactory()
        for niceness in (-20, 0, 20):
            factory.new(int, (), {}, niceness)
        for wrong in (-21, 21, 0.0, "0", None, True):
            self.assertRaises(ValueError, factory.new, int, (), {}, wrong)

    def test_tasks_TaskFactory_typeErrors(self) -> None:
        """
        As of the task.
        """
        self.assertRaises(TypeError, TaskFactory().new, int, "text", {}, 0)
        self.assertRaises(TypeError, TaskFactory().new, int, (), None, 0)

    def test_P04_orderOfASeries(self) -> None:
        """
        Tasks of one series and niceness are in the order in which they were made.
        """
        factory = TaskFactory()
        tasks = [factory.new(int, (), {}, 0, "a") for _ in range(10)]
        self.assertEqual(sorted(tasks), tasks)

    def test_P02_lessNiceFirst(self) -> None:
        """
        Of as many tasks, those that are less nice are done sooner.
        """
        factory = TaskFactory()
        nice = [factory.new(int, (), {}, 10, "nice") for _ in range(100)]
        eager = [factory.new(int, (), {}, 0, "eager") for _ in range(100)]
        first = sorted(nice + eager)[:90]
        self.assertTrue(1.7 <= sum(task in eager for task in first) / sum(task in nice for task in first) <= 2.3)


class HandlerTests(CompatibilityTestCase):
    """
    tasks.TaskHandler, used by itself.
    """

    def setUp(self) -> None:
        """
        Make a handler.
        """
        super().setUp()
        self.handler = TaskHandler(lambda: self.clock)

    def hire(self, worker: Any) -> int:
        """
        Hire a worker that is hired at once.
        """
        ID: int = self.successResultOf(self.handler.hire(worker))
        self.assertIs(type(ID), int)
        return ID

    def test_tasks_TaskHandler_needsNothing(self) -> None:
        """
        Is made without arguments, without workers, and runs.
        """
        handler = TaskHandler()
        self.assertTrue(handler.isRunning)
        self.assertEqual(handler.workers, {})
        self.successResultOf(handler.shutdown())
        self.assertFalse(handler.isRunning)

    def test_W01_hire(self) -> None:
        """
        Its Deferred fires with the ID, by which the worker is in C{workers}.
        """
        one, other = MemoryWorker(), MemoryWorker()
        oneID, otherID = self.hire(one), self.hire(other)
        self.assertNotEqual(oneID, otherID)
        self.assertEqual(self.handler.workers, {oneID: one, otherID: other})

    @program
    def test_W01_hireErrors(self) -> Program:
        """
        ImplementationError for what is no IWorker, InvariantError where the qualifications are no lists.
        """
        with self.assertRaises(ImplementationError):
            yield self.handler.hire(object())
        worker = MemoryWorker()
        worker.iQualified = ()  # type: ignore[assignment]
        with self.assertRaises(InvariantError):
            yield self.handler.hire(worker)
        self.assertEqual(self.handler.workers, {})

    def test_P12_roster(self) -> None:
        """
        A list of the workers that are qualified for a series; all of them without one.
        """
        special, other = MemoryWorker(["special"]), MemoryWorker()
        self.hire(special)
        self.hire(other)
        self.assertCountEqual(self.handler.roster(), [special, other])
        self.assertEqual(self.handler.roster("special"), [special])
        self.assertEqual(self.handler.roster(series="nobody"), [])

    def test_tasks_TaskHandler_runsTasks(self) -> None:
        """
        It is called with a task, which a worker gets; the outcome goes to the task's Deferred.
        """
        worker = MemoryWorker()
        self.hire(worker)
        task = makeTask()
        accepted = self.handler(task)
        self.assertIsInstance(accepted, Deferred)
        worker.step()
        status, result = self.successResultOf(task.d)
        self.assertIn(status, ("r", b"r"))
        self.assertEqual(result, 6)
        self.assertEqual(Outcome(accepted).fired, 1)

    def test_tasks_TaskHandler_waitsForAWorker(self) -> None:
        """
        The Deferred of a call with a task fires when a worker has accepted it.
        """
        accepted = Outcome(self.handler(makeTask()))
        self.assertPending(accepted)
        worker = MemoryWorker()
        self.hire(worker)
        self.assertEqual(accepted.fired, 1)
        worker.step()

    def test_tasks_TaskHandler_series(self) -> None:
        """
        A task of a series is for a worker that is qualified for it.
        """
        special, other = MemoryWorker(["special"]), MemoryWorker()
        self.hire(other)
        self.hire(special)
        task = Task(timesTwo, (3,), {}, 0, "special")
        self.handler(task)
        self.assertEqual((len(special.held), len(other.held)), (1, 0))
        special.step()
        self.assertEqual(self.successResultOf(task.d)[1], 6)

    def test_W02_terminate(self) -> None:
        """
        The worker is let finish; the Deferred fires with the tasks left unfinished, which are none.
        """
        worker = MemoryWorker()
        ID = self.hire(worker)
        self.handler(makeTask())
        gone = Outcome(self.handler.terminate(ID))
        self.assertPending(gone)
        worker.step()
        self.assertValue(gone, [])
        self.assertEqual(self.handler.workers, {})

    def test_W02_terminateCrash(self) -> None:
        """
        At once, with the tasks left unfinished.
        """
        worker = MemoryWorker()
        ID = self.hire(worker)
        self.handler(makeTask())
        gone = Outcome(self.handler.terminate(ID, crash=True))
        self.assertTrue(worker.isCrashed)
        self.assertEqual([task.callTuple for task in gone.value], [(timesTwo, (3,), {})])

    def test_D02_terminateTimeout(self) -> None:
        """
        After that many seconds, a worker that has not stopped is crashed.
        """
        worker = MemoryWorker()
        ID = self.hire(worker)
        self.handler(makeTask())
        gone = Outcome(self.handler.terminate(ID, 5))
        self.clock.advance(4)
        self.assertPending(gone)
        self.clock.advance(1)
        self.assertTrue(worker.isCrashed)
        self.assertEqual(len(gone.value), 1)

    def test_W02_terminateReassign(self) -> None:
        """
        What is left unfinished is given to others.
        """
        worker, other = MemoryWorker(), MemoryWorker()
        ID = self.hire(worker)
        task = makeTask()
        self.handler(task)
        gone = Outcome(self.handler.terminate(ID, crash=True, reassign=True))
        self.assertValue(gone, [])
        self.hire(other)
        other.step()
        self.assertEqual(self.successResultOf(task.d)[1], 6)

    def test_W02_terminateUnknown(self) -> None:
        """
        Has left nothing.
        """
        self.assertEqual(self.successResultOf(self.handler.terminate(99)), [])

    def test_C05_update(self) -> None:
        """
        A task that every worker runs, and that those hired later run first.
        """
        ran: list[str] = []
        worker, later = MemoryWorker(), MemoryWorker()
        self.hire(worker)
        done = Outcome(self.handler.update(Task(ran.append, ("updated",), {}, 0, None)))
        worker.step()
        self.assertEqual(ran, ["updated"])
        self.assertValue(done, [None])
        hired = Outcome(self.handler.hire(later))
        self.assertPending(hired)
        later.step()
        self.assertEqual(ran, ["updated", "updated"])
        self.assertEqual((hired.fired, hired.failure), (1, None))

    def test_C05_updateEphemeral(self) -> None:
        """
        Those hired later do not run it.
        """
        self.handler.update(makeTask(), ephemeral=True)
        worker = MemoryWorker()
        self.hire(worker)
        self.assertEqual(worker.started, [])

    def test_C05_updateSequential(self) -> None:
        """
        One worker after the other.
        """
        one, other = MemoryWorker(), MemoryWorker()
        self.hire(one)
        self.hire(other)
        done = Outcome(self.handler.update(makeTask(), sequential=True))
        self.assertEqual((len(one.held), len(other.held)), (1, 0))
        one.step()
        other.step()
        self.assertValue(done, [6, 6])

    def test_D01_shutdown(self) -> None:
        """
        Lets go of all workers, and runs no more.
        """
        worker = MemoryWorker()
        self.hire(worker)
        done = Outcome(self.handler.shutdown())
        self.assertEqual(done.fired, 1)
        self.assertTrue(worker.isStopping)
        self.assertEqual(self.handler.workers, {})
        self.assertFalse(self.handler.isRunning)

    def test_D02_shutdownTimeout(self) -> None:
        """
        After that many seconds, workers are crashed.
        """
        worker = MemoryWorker()
        self.hire(worker)
        self.handler(makeTask())
        done = Outcome(self.handler.shutdown(5))
        self.clock.advance(4)
        self.assertPending(done)
        self.clock.advance(1)
        self.turn()
        self.assertTrue(worker.isCrashed)
        self.assertEqual(done.fired, 1)

    def test_tasks_Assignment_names(self) -> None:
        """
        Assignments have the methods that they had.
        """
        self.assertTrue(callable(Assignment.accept))
        for name in ("new", "request", "cancelRequests"):
            self.assertTrue(callable(getattr(AssignmentFactory, name)), name)


class InterfaceTests(SynchronousTestCase):
    """
    asynqueue.interfaces.
    """

    def test_W05_IWorker(self) -> None:
        """
        Has the documented attributes and methods.
        """
        for name in ("cQualified", "iQualified", "setResignator", "run", "stop", "crash"):
            self.assertIn(name, IWorker)
        self.assertCountEqual(IWorker["run"].getSignatureInfo()["positional"], ["task"])
        self.assertCountEqual(IWorker["setResignator"].getSignatureInfo()["positional"], ["callableObject"])
        for name in ("stop", "crash"):
            self.assertEqual(list(IWorker[name].getSignatureInfo()["positional"]), [])

    def test_W05_nothingElseIsRequired(self) -> None:
        """
        Of a worker written for 0.9.9.
        """
        documented = {"cQualified", "iQualified", "setResignator", "run", "stop", "crash"}
        self.assertEqual(set(IWorker.names(all=True)), documented)

    def test_W05_invariant(self) -> None:
        """
        Both qualifications are lists.
        """
        worker = MemoryWorker()
        IWorker.validateInvariants(worker)
        for name in ("cQualified", "iQualified"):
            wrong = MemoryWorker()
            setattr(wrong, name, "text")
            self.assertRaises(InvariantError, IWorker.validateInvariants, wrong)

    def test_interfaces_ofTwisted(self) -> None:
        """
        IConsumer and IPushProducer are Twisted's own.
        """
        self.assertIs(IConsumer, twisted.internet.interfaces.IConsumer)
        self.assertIs(IPushProducer, twisted.internet.interfaces.IPushProducer)


class ErrorTests(SynchronousTestCase):
    """
    asynqueue.errors.
    """

    def test_E02_classes(self) -> None:
        """
        NotReadyError is an ImplementationError, InvariantError is zope's Invalid.
        """
        self.assertTrue(issubclass(NotReadyError, ImplementationError))
        self.assertTrue(issubclass(InvariantError, Invalid))

    def test_E03_timeoutError(self) -> None:
        """
        Is Python's, too.
        """
        self.assertTrue(issubclass(TimeoutError, builtins.TimeoutError))

    def test_E01_madeOfAText(self) -> None:
        """
        A program can raise each of them with a text.
        """
        for kind in (
            QueueRunError,
            ImplementationError,
            NotReadyError,
            InvariantError,
            TimeoutError,
            WorkerError,
            ThreadError,
            ProcessError,
        ):
            error = kind("the text")
            self.assertIsInstance(error, Exception)
            self.assertEqual(str(error), "the text")


@implementer(IWorker)
class OldWorker:
    """
    A worker as somebody has written it for 0.9.9: one task at a time, and as many connections to somewhere as it has
    tasks.
    """

    cQualified = ["old"]
    isText = False

    def __init__(self, series: list[Any] = []) -> None:  # noqa: B006 - as it was usual
        self.iQualified = series
        self.tasks: list[Any] = []
        self.dList: list[Deferred[Any]] = []
        self.resignator: Callable[[], object] | None = None

    def status(self, letter: bytes) -> Any:
        """
        Return a status, as bytes or as text.
        """
        return letter.decode("ascii") if self.isText else letter

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Keep what to call when the connection is lost.
        """
        self.resignator = callableObject

    def run(self, task: Any) -> Deferred[Any]:
        """
        Run a task.
        """

        def success(result: Any) -> None:
            finished((self.status(b"r"), result))

        def failure(reason: Failure) -> None:
            finished((self.status(b"e"), reason.getTraceback()))

        def finished(statusResult: tuple[Any, Any]) -> None:
            if task in self.tasks:
                self.tasks.remove(task)
                task.callback(statusResult)

        func, args, kw = task.callTuple
        kw.pop("consumer", None)
        kw.pop("raw", None)
        if kw.pop("doNext", False) or task.priority <= -20:
            self.wasRushed = True
        self.tasks.append(task)
        d = maybeDeferred(func, *args, **kw).addCallbacks(success, failure)
        self.dList.append(d)
        return d

    def stop(self) -> Deferred[Any]:
        """
        Wait for all tasks.
        """
        return DeferredList(self.dList)

    def crash(self) -> list[Any]:
        """
        Give the tasks up.
        """
        left, self.tasks = self.tasks, []
        return left


class TextWorker(OldWorker):
    """
    The same, but for its statuses, which are text.
    """

    isText = True


class OldWorkerTests(CompatibilityTestCase):
    """
    A third party's worker, in a queue.
    """

    kind: type[OldWorker] = OldWorker

    def makeOldQueue(self, *workers: Any, **keywords: Any) -> tuple[Any, Any]:
        """
        Make a queue with such a worker.
        """
        worker = self.kind([])
        return self.makeQueue(worker, *workers, **keywords), worker

    def test_W05_providesTheInterface(self) -> None:
        """
        And needs nothing that 0.9.9 has not asked for.
        """
        self.assertTrue(verifyObject(IWorker, self.kind([])))

    @program
    def test_W05_runsCalls(self) -> Program:
        """
        One after the other, with arguments and keywords, or none.
        """
        queue, worker = self.makeOldQueue()
        self.assertEqual((yield queue.call(int, "ff", base=16)), 255)
        self.assertEqual((yield queue.call(int)), 0)
        self.assertEqual((yield queue.call(succeed, 5)), 5)
        self.assertEqual(worker.tasks, [])

    def test_W05_readyForTheNext(self) -> None:
        """
        It gets a task when the Deferred of the one before has fired.
        """
        queue, worker = self.makeOldQueue()
        inner: list[Deferred[int]] = [Deferred(), Deferred()]
        calls = [self.call(queue, identity, d) for d in inner]
        self.assertEqual(len(worker.tasks), 1)
        inner[0].callback(1)
        self.assertEqual(len(worker.tasks), 1)
        self.assertValue(calls[0], 1)
        inner[1].callback(2)
        self.assertValue(calls[1], 2)

    @program
    def test_R02_errors(self) -> Program:
        """
        The text that it reports is in the failure.
        """
        queue, _ = self.makeOldQueue()
        caught: list[Failure] = []
        yield queue.call(raising, ValueError, "the text").addErrback(caught.append)
        caught[0].trap(WorkerError)
        self.assertIn("the text", caught[0].getErrorMessage())

    @program
    def test_R02_errorTextOfTheOldPolicy(self) -> Program:
        """
        A queue that merely logs returns the text.
        """
        queue, _ = self.makeOldQueue(returnFailure=False, warn=True)
        with self.assertLogs("asynqueue", logging.ERROR):
            result = yield queue.call(raising, ValueError, "the text")
        self.assertIn("the text", result)

    @program
    def test_P12_seriesOfItsClass(self) -> Program:
        """
        It gets calls of the series that its class is qualified for.
        """
        queue, _ = self.makeOldQueue()
        self.assertEqual((yield queue.call(timesTwo, 2, series="old")), 4)

    @program
    def test_P12_qualifiedLater(self) -> Program:
        """
        Also of one that it has been qualified for.
        """
        queue, worker = self.makeOldQueue()
        d = queue.call(timesTwo, 2, series="special")
        self.assertFalse(d.called)
        queue.qualifyWorker(worker, "special")
        self.assertEqual((yield d), 4)

    def test_Z12_sharedDefaultList(self) -> None:
        """
        Two workers that share their list of series, as was usual, are both attached.
        """
        one, other = self.kind(), self.kind()
        self.assertIs(one.iQualified, other.iQualified)
        queue = self.makeQueue(one, other)
        self.assertEqual(len(queue), 2)

    def test_Z12_qualifyingOneQualifiesNoOther(self) -> None:
        """
        Though the two share the default for their list of series, as was usual.
        """
        one, other = self.kind(), self.kind()
        queue = self.makeQueue(one, other)
        self.addCleanup(one.iQualified.clear)
        queue.qualifyWorker(one, "special")
        self.assertIn("special", one.iQualified)
        self.assertEqual(queue.th.roster("special"), [one])
        self.assertNotIn("special", self.kind().iQualified)

    def test_W22_resignation(self) -> None:
        """
        When it resigns, it is let go, and its unfinished tasks are run by another.
        """
        queue, worker = self.makeOldQueue()
        inner: list[Deferred[str]] = []

        def connect() -> Deferred[str]:
            inner.append(Deferred())
            return inner[-1]

        call = self.call(queue, connect)
        waiting = self.call(queue, identity, "waiting")
        worker.resignator()
        self.assertEqual(len(queue), 0)
        self.assertPending(call)
        queue.attachWorker(self.kind([]))
        self.assertEqual(len(inner), 2)
        inner[1].callback("another")
        self.assertValue(call, "another")
        self.assertValue(waiting, "waiting")

    def test_W02_stopIsWaitedFor(self) -> None:
        """
        The worker is gone when the Deferred of its stop() has fired.
        """
        queue, _ = self.makeOldQueue()
        inner: Deferred[str] = Deferred()
        call = self.call(queue, identity, inner)
        gone = Outcome(queue.detachWorker(1))
        self.assertPending(gone)
        inner.callback("done")
        self.assertValue(call, "done")
        self.assertValue(gone, [])

    def test_W02_crash(self) -> None:
        """
        The list that it returns is the one of the queue.
        """
        queue, worker = self.makeOldQueue()
        inner: Deferred[str] = Deferred()
        call = self.call(queue, identity, inner)
        (held,) = worker.tasks
        gone = Outcome(queue.detachWorker(worker, crash=True))
        self.assertEqual(gone.value, [held])
        self.assertFailed(call, WorkerError)

    @program
    def test_C05_update(self) -> Program:
        """
        It runs updates, also those of before it was hired.
        """
        ran: list[int] = []
        queue, _ = self.makeOldQueue()
        yield queue.update(ran.append, 1)
        yield queue.attachWorker(self.kind([]))
        self.assertEqual(ran, [1, 1])

    @program
    def test_D01_shutdown(self) -> Program:
        """
        The queue comes to its end.
        """
        queue, _ = self.makeOldQueue()
        yield queue.call(int)
        yield queue.shutdown()
        self.assertEqual(len(queue), 0)

    def test_R06_timeoutOfItsTask(self) -> None:
        """
        A call that it does not finish in time is retried by another worker.
        """
        queue, _ = self.makeOldQueue()
        calls: list[int] = []

        def first() -> Any:
            calls.append(1)
            return Deferred() if len(calls) == 1 else "second"

        call = self.call(queue, first, timeout=5)
        queue.attachWorker(self.kind([]))
        self.clock.advance(5)
        self.assertValue(call, "second")

    def test_W05_taskHasWhatItHad(self) -> None:
        """
        What workers have used of a task is there.
        """
        queue, worker = self.makeOldQueue()
        inner: Deferred[str] = Deferred()
        d = queue.call(identity, inner, series="old", timeout=5, niceness=3)
        (task,) = worker.tasks
        self.assertEqual(task.callTuple, (identity, (inner,), {}))
        self.assertEqual((task.series, task.timeout), ("old", 5))
        self.assertIsInstance(task.d, Deferred)
        task.addCallback(lambda result, more: result + more, more="!")
        inner.callback("done")
        self.assertEqual(self.successResultOf(d), "done!")

    def test_W05_rushedTask(self) -> None:
        """
        A worker can see from its priority that a task is to be done next.
        """
        queue, worker = self.makeOldQueue()
        self.call(queue, int, doNext=True)
        self.assertTrue(worker.wasRushed)

    def test_W05_errbackOfTheTask(self) -> None:
        """
        A worker that has no status for what has happened can let the task fail.
        """
        queue, worker = self.makeOldQueue()
        inner: Deferred[str] = Deferred()
        call = self.call(queue, identity, inner)
        worker.tasks[0].errback(Failure(WorkerError("no status")))
        self.assertFailed(call, WorkerError)
        inner.callback("late")

    def test_Z29_d(self) -> None:
        """
        A task that it has not run, for a disconnection, is run by another.
        """

        class Disconnected(OldWorker):
            isText = self.kind.isText

            def run(self, task: Any) -> Deferred[Any]:
                task.callback((self.status(b"d"), None))
                return Deferred()

        queue = self.makeQueue(Disconnected([]))
        call = self.call(queue, timesTwo, 2)
        self.assertPending(call)
        queue.attachWorker(self.kind([]))
        self.assertValue(call, 4)


class TextWorkerTests(OldWorkerTests):
    """
    The same with statuses that are text.
    """

    kind = TextWorker


class WorkerNamesTests(SynchronousTestCase):
    """
    asynqueue.workers.
    """

    def test_workers_areTheSame(self) -> None:
        """
        As those of the modules that they come from.
        """
        self.assertIs(workers.ThreadWorker, threads.ThreadWorker)
        self.assertIs(workers.IWorker, interfaces.IWorker)

    def test_workers_provideIWorker(self) -> None:
        """
        All do.
        """
        for worker in (AsyncWorker(), ThreadWorker()):
            self.assertTrue(verifyObject(IWorker, worker))

    def test_W06_labels(self) -> None:
        """
        Those of a worker in the reactor are async and local, with the series that it is given.
        """
        worker = AsyncWorker(["a", "b"])
        self.assertCountEqual(worker.cQualified, ["async", "local"])
        self.assertCountEqual(worker.iQualified, ["a", "b"])
        self.assertEqual(AsyncWorker().iQualified, [])

    def test_W07_labels(self) -> None:
        """
        Those of a worker in a thread are thread and local, with the series that it is given.
        """
        worker = ThreadWorker(["a"])
        self.assertCountEqual(worker.cQualified, ["thread", "local"])
        self.assertCountEqual(worker.iQualified, ["a"])

    def test_R14_raw(self) -> None:
        """
        Is the second argument.
        """
        self.assertIs(AsyncWorker([], True).raw, True)
        self.assertIs(ThreadWorker([], True).raw, True)
        self.assertIs(AsyncWorker().raw, False)


class AsyncWorkerTests(CompatibilityTestCase):
    """
    workers.AsyncWorker.
    """

    def setUp(self) -> None:
        """
        Make a worker.
        """
        super().setUp()
        self.worker = AsyncWorker(reactor=self.clock)

    @program
    def test_W06_runsInTheReactor(self) -> Program:
        """
        In its very thread.
        """
        queue = self.makeQueue(self.worker)
        self.assertIs((yield queue.call(threading.current_thread)), threading.current_thread())

    def test_W06_waitsForDeferreds(self) -> None:
        """
        A call may return one, whose result is that of the call; the next call waits for it.
        """
        queue = self.makeQueue(self.worker)
        inner: Deferred[int] = Deferred()
        first, second = self.call(queue, identity, inner), self.call(queue, identity, 2)
        self.turn()
        self.assertPending(first)
        self.assertPending(second)
        inner.callback(1)
        self.turn()
        self.assertValue(first, 1)
        self.assertValue(second, 2)

    def test_W06_series(self) -> None:
        """
        It takes calls of its labels and of its own series.
        """
        worker = AsyncWorker(["own"], reactor=self.clock)
        queue = self.makeQueue(worker)
        for series in ("async", "local", "own", None):
            call = self.call(queue, int, series=series)
            self.turn()
            self.assertValue(call, 0)

    def test_W05_run(self) -> None:
        """
        Without a queue: the outcome goes to the task, and the Deferred fires when another can come.
        """
        task = makeTask()
        ready = Outcome(self.worker.run(task))
        self.turn()
        status, result = self.successResultOf(task.d)
        self.assertIn(status, ("r", b"r"))
        self.assertEqual(result, 6)
        self.assertEqual(ready.fired, 1)

    def test_W05_stop(self) -> None:
        """
        The Deferred fires after the tasks are done.
        """
        inner: Deferred[int] = Deferred()
        self.worker.run(Task(identity, (inner,), {}, 0, None))
        self.turn()
        stopped = Outcome(self.worker.stop())
        self.assertPending(stopped)
        inner.callback(1)
        self.assertEqual(stopped.fired, 1)

    def test_Z36_crash(self) -> None:
        """
        Returns a list of the tasks left, at once.
        """
        self.assertEqual(self.worker.crash(), [])
        tasks = [Task(identity, (Deferred(),), {}, 0, None) for _ in range(2)]
        for task in tasks:
            self.worker.run(task)
            self.turn()
        self.assertEqual(self.worker.crash(), tasks)

    @program
    def test_Z07_afterAnError(self) -> Program:
        """
        The next call is run.
        """
        queue = self.makeQueue(self.worker)
        with self.assertRaises(ZeroDivisionError):
            yield queue.call(divmod, 1, 0)
        self.assertEqual((yield queue.call(timesTwo, 1)), 2)

    def test_W06_resignatorIsTaken(self) -> None:
        """
        Though the worker never leaves.
        """
        self.worker.setResignator(self.fail)


class NullQueueTests(CompatibilityTestCase):
    """
    null.NullQueue.
    """

    @program
    def test_W11_runsCalls(self) -> Program:
        """
        In the reactor, with all that a task queue offers.
        """
        queue = self.makeNullQueue()
        self.assertIsInstance(queue, NullQueue)
        self.assertEqual((yield queue.call(timesTwo, 3, niceness=-5, series="local")), 6)
        self.assertEqual((yield queue.update(timesTwo, 3)), [6])
        yield queue.shutdown()

    def test_W11_keywordsAreOfTheTaskQueue(self) -> None:
        """
        And no others.
        """
        self.assertEqual(self.makeNullQueue(timeout=5).timeout, 5)
        self.assertRaises(TypeError, NullQueue, timeOut=5)


class ThreadTests(LeakCheckMixin, TestCase):
    """
    Threads, as far as they are documented for 0.9.9 without iteration.
    """

    timeout = TIMEOUT

    def setUp(self) -> None:
        """
        See to it that the shared thread is ended.
        """
        super().setUp()
        self.addCleanup(deferToThread)

    @inlineCallbacks
    def test_W07_threadWorker(self) -> Program:
        """
        Has a thread of its own, which is not the reactor's, and none any more when it has been stopped.
        """
        worker = ThreadWorker()
        queue = TaskQueue(worker, returnFailure=True)
        self.addCleanup(queue.shutdown)
        first = yield queue.call(threading.current_thread)
        second = yield queue.call(threading.current_thread, series="thread")
        self.assertIs(first, second)
        self.assertIsNot(first, threading.current_thread())
        yield queue.shutdown()
        first.join(TIMEOUT)
        self.assertFalse(first.is_alive())

    @inlineCallbacks
    def test_W07_tasks(self) -> Program:
        """
        Are those that the worker has not finished.
        """
        worker = ThreadWorker()
        entered, leave = threading.Event(), threading.Event()

        def wait() -> None:
            entered.set()
            leave.wait(TIMEOUT)

        task = Task(wait, (), {}, 0, None)
        worker.run(task)
        self.assertTrue(entered.wait(TIMEOUT))
        self.assertEqual(list(worker.tasks), [task])
        leave.set()
        yield task.d
        self.assertEqual(list(worker.tasks), [])
        yield worker.stop()

    @inlineCallbacks
    def test_W11_threadQueue(self) -> Program:
        """
        Is a task queue with one worker, which is C{worker}; C{d} fires when it has been hired.
        """
        queue = ThreadQueue(returnFailure=True)
        self.addCleanup(queue.shutdown)
        hired = yield queue.d
        self.assertIsInstance(queue.worker, ThreadWorker)
        self.assertIs(queue.workers(hired), queue.worker)
        self.assertEqual(len(queue), 1)
        self.assertEqual((yield queue.call(timesTwo, 2)), 4)
        yield queue.shutdown()

    @inlineCallbacks
    def test_W11_threadQueueDeferToThread(self) -> Program:
        """
        Runs a call past the queue, in the same thread; errors errback with a ThreadError.
        """
        queue = ThreadQueue(returnFailure=True)
        self.addCleanup(queue.shutdown)
        queued = yield queue.call(threading.current_thread)
        past = yield queue.deferToThread(threading.current_thread)
        self.assertIs(past, queued)
        self.assertEqual((yield queue.deferToThread(int, "ff", base=16)), 255)
        with self.assertRaises(ThreadError):
            yield queue.deferToThread(divmod, 1, 0)
        yield queue.shutdown()

    @inlineCallbacks
    def test_C30_deferToThread(self) -> Program:
        """
        Runs calls in one shared thread, which it ends when called with nothing.
        """
        first = yield deferToThread(threading.current_thread)
        second = yield deferToThread(threading.current_thread)
        self.assertIs(first, second)
        self.assertIsNot(first, threading.current_thread())
        self.assertEqual((yield deferToThread(int, "ff", base=16)), 255)
        yield deferToThread()
        first.join(TIMEOUT)
        self.assertFalse(first.is_alive())

    @inlineCallbacks
    def test_C30_order(self) -> Program:
        """
        Is that of the calls, but for doNext, which goes before those that have not begun.
        """
        leave = threading.Event()
        order: list[Any] = []
        ends = [deferToThread(leave.wait, TIMEOUT)]
        ends += [deferToThread(order.append, number) for number in range(3)]
        ends.append(deferToThread(order.append, "next", doNext=True))
        leave.set()
        yield DeferredList(ends)
        self.assertEqual(order, ["next", 0, 1, 2])

    @inlineCallbacks
    def test_C30_errors(self) -> Program:
        """
        Errback with a ThreadError whose text is that of the error.
        """
        caught: list[Failure] = []
        yield deferToThread(raising, ValueError, "the text").addErrback(caught.append)
        caught[0].trap(ThreadError)
        self.assertIn("the text", caught[0].getErrorMessage())

    @inlineCallbacks
    def test_Z23_consumer(self) -> Program:
        """
        Of a call past the queue gets the iterations.
        """
        queue = ThreadQueue(returnFailure=True)
        self.addCleanup(queue.shutdown)
        for defer in (queue.deferToThread, deferToThread):
            consumer = ListOf()
            yield defer(iter, range(5), consumer=consumer)
            self.assertEqual(consumer.written, [0, 1, 2, 3, 4])

    @inlineCallbacks
    def test_R14_raw(self) -> Program:
        """
        The iterator is returned untouched.
        """
        queue = ThreadQueue(returnFailure=True)
        self.addCleanup(queue.shutdown)
        iterator = iter(range(5))
        for defer in (queue.deferToThread, deferToThread, queue.call):
            self.assertIs((yield defer(identity, iterator, raw=True)), iterator)

    @inlineCallbacks
    def test_R14_rawOfTheQueue(self) -> Program:
        """
        Is its first argument.
        """
        queue = ThreadQueue(True, returnFailure=True)
        self.addCleanup(queue.shutdown)
        iterator = iter(range(5))
        self.assertIs((yield queue.call(identity, iterator)), iterator)
