"""
Tests of attaching and detaching workers, of workers that leave by themselves, and of workers that misbehave.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from asynqueue import AsyncWorker, NullQueue, ThreadWorker
from asynqueue.errors import (
    ImplementationError,
    InvariantError,
    PoisonTask,
    QueueClosed,
    WorkerError,
    WorkerHung,
    WorkerLost,
)
from asynqueue.interfaces import IManagedWorker, IWorker
from asynqueue.testing import Act, ManagedMemoryWorker, MemoryWorker, ScriptedWorker
from asynqueue.testing.tasks import identity
from test.support import Outcome, QueueTestCase


class AttachTests(QueueTestCase):
    """
    Workers that come.
    """

    def test_W01_idsFromOneAndNeverTwice(self) -> None:
        """
        The Deferred fires with the ID.
        """
        queue = self.makeQueue()
        ids = [Outcome(queue.attachWorker(MemoryWorker())).value for _ in range(3)]
        self.assertEqual(ids, [1, 2, 3])
        for ID in ids:
            queue.detachWorker(ID)
        self.assertEqual(Outcome(queue.attachWorker(MemoryWorker())).value, 4)

    def test_W01_workersOfTheConstructor(self) -> None:
        """
        Are attached in their order.
        """
        workers = [MemoryWorker(), AsyncWorker(reactor=self.clock)]
        queue = self.makeQueue(*workers)
        self.assertEqual([queue.workers(ID) for ID in (1, 2)], workers)

    def test_W01_noWorker(self) -> None:
        """
        What provides no C{IWorker} is refused, and leaves nothing behind.
        """
        queue = self.makeQueue()
        for wrong in (object(), None, MemoryWorker, "worker"):
            with self.assertRaises(ImplementationError):
                queue.attachWorker(wrong)
        with self.assertRaises(ImplementationError):
            self.makeQueue(object())
        self.assertEqual(len(queue), 0)

    def test_W01_qualificationsMustBeLists(self) -> None:
        """
        Of the class and of the instance.
        """
        queue = self.makeQueue()
        tupled = MemoryWorker()
        tupled.iQualified = ("a",)  # type: ignore[assignment]
        missing = MemoryWorker()
        del missing.iQualified

        class Classy(MemoryWorker):
            cQualified = "a"  # type: ignore[assignment]

        for wrong in (tupled, missing, Classy()):
            with self.assertRaises(InvariantError):
                queue.attachWorker(wrong)
        self.assertEqual(len(queue), 0)

    def test_W01_twice(self) -> None:
        """
        A worker that is attached cannot be attached again; one that has left can.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        with self.assertRaises(ValueError):
            queue.attachWorker(worker)
        self.assertEqual(len(queue), 1)
        queue.detachWorker(worker)
        self.assertEqual(Outcome(queue.attachWorker(worker)).value, 2)

    def test_W01_onAClosedQueue(self) -> None:
        """
        The Deferred errbacks, and the worker gets nothing.
        """
        queue = self.makeQueue()
        self.shutDown(queue)
        self.assertFailed(Outcome(queue.attachWorker(MemoryWorker())), QueueClosed)
        self.assertEqual(len(queue), 0)

    def test_W01_workerGetsWhatWaits(self) -> None:
        """
        At once.
        """
        queue = self.makeQueue()
        waits = self.call(queue, identity, 1)
        worker = MemoryWorker()
        queue.attachWorker(worker)
        worker.step()
        self.assertValue(waits, 1)

    def test_W03_workers(self) -> None:
        """
        By ID, or all of them.
        """
        one, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(one, other)
        self.assertIs(queue.workers(1), one)
        self.assertIs(queue.workers(2), other)
        self.assertIsNone(queue.workers(3))
        self.assertEqual(set(queue.workers()), {one, other})
        queue.detachWorker(one)
        self.assertIsNone(queue.workers(1))
        self.assertEqual(queue.workers(), [other])

    def test_W04_lenAndBool(self) -> None:
        """
        The number of workers; true while there is one and the queue runs.
        """
        queue = self.makeQueue()
        self.assertEqual((len(queue), bool(queue), queue.isRunning()), (0, False, True))
        queue.attachWorker(MemoryWorker())
        self.assertEqual((len(queue), bool(queue)), (1, True))
        done = Outcome(queue.shutdown())
        self.assertEqual(done.fired, 1)
        self.assertEqual((len(queue), bool(queue), queue.isRunning()), (0, False, False))

    def test_Z08_boolWhileShuttingDown(self) -> None:
        """
        It is false as soon as the queue takes no calls any more, though a worker is there.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        queue.shutdown()
        self.assertEqual((len(queue), bool(queue)), (1, False))
        worker.step()

    def test_W05_interfaces(self) -> None:
        """
        Our workers provide theirs.
        """
        for worker in (MemoryWorker(), ScriptedWorker()):
            verifyObject(IWorker, worker)
            self.assertFalse(IManagedWorker.providedBy(worker))
        for managed in (ManagedMemoryWorker(), AsyncWorker(), ThreadWorker()):
            verifyObject(IManagedWorker, managed)

    def test_Z12_qualificationsAreNotShared(self) -> None:
        """
        Qualifying one worker qualifies none other, of whatever kind.
        """
        for kind in (AsyncWorker, ThreadWorker, MemoryWorker, ManagedMemoryWorker, ScriptedWorker):
            one, other = kind(), kind()
            queue = self.makeQueue(one)
            queue.qualifyWorker(one, "special")
            self.assertEqual(one.iQualified, ["special"])
            self.assertEqual(other.iQualified, [])
            self.assertNotIn("special", kind.cQualified)
            queue.detachWorker(one)

    def test_Z12_seriesOfAWorkerAreItsOwn(self) -> None:
        """
        The sequence that a worker was made with is not changed.
        """
        series = ["a"]
        worker = AsyncWorker(series, reactor=self.clock)
        self.makeQueue(worker).qualifyWorker(worker, "b")
        self.assertEqual((series, worker.iQualified), (["a"], ["a", "b"]))

    def test_W06_labelsOfTheWorkerInTheReactor(self) -> None:
        """
        C{async} and C{local}.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        outcomes = [self.call(queue, identity, series, series=series) for series in ("async", "local", "thread")]
        self.turn()
        self.assertValue(outcomes[0], "async")
        self.assertValue(outcomes[1], "local")
        self.assertPending(outcomes[2])

    def test_W11_nullQueue(self) -> None:
        """
        A queue with one worker, in the reactor.
        """
        queue = NullQueue(reactor=self.clock, returnFailure=True)
        self.assertEqual([type(worker) for worker in queue.workers()], [AsyncWorker])
        outcome = self.call(queue, identity, 1)
        self.turn()
        self.assertValue(outcome, 1)
        self.shutDown(queue)

    def test_W01_workerThatRaisesWhenAttached(self) -> None:
        """
        Is not attached.
        """

        class Shy(MemoryWorker):
            def setResignator(self, callableObject: Any) -> None:
                raise RuntimeError("no")

        queue = self.makeQueue()
        with self.assertRaises(RuntimeError):
            queue.attachWorker(Shy())
        self.assertEqual(len(queue), 0)


class DetachTests(QueueTestCase):
    """
    Workers that are let go.
    """

    def setUp(self) -> None:
        """
        Make a queue of two workers, each with a call.
        """
        super().setUp()
        self.worker, self.other = MemoryWorker(), MemoryWorker()
        self.queue = self.makeQueue(self.worker, self.other)
        self.first = self.call(self.queue, identity, "first")
        self.second = self.call(self.queue, identity, "second")

    def test_W02_stopsWhenItIsDone(self) -> None:
        """
        It gets no more calls, finishes what it has, and nothing is left.
        """
        done = Outcome(self.queue.detachWorker(self.worker))
        self.assertTrue(self.worker.isStopping)
        waiting = self.call(self.queue, identity, "third")
        self.assertPending(done)
        self.worker.step()
        self.assertValue(done, [])
        self.assertValue(self.first, "first")
        self.assertEqual(self.worker.held, [])
        self.assertEqual(self.queue.workers(), [self.other])
        self.other.stepAll()
        self.assertValue(waiting, "third")

    def test_W02_byID(self) -> None:
        """
        A worker can be named by its ID.
        """
        done = Outcome(self.queue.detachWorker(2))
        self.other.step()
        self.assertValue(done, [])
        self.assertEqual(self.queue.workers(), [self.worker])

    def test_W02_unknown(self) -> None:
        """
        Nothing happens.
        """
        for unknown in (99, MemoryWorker(), None, "worker"):
            self.assertValue(Outcome(self.queue.detachWorker(unknown)), [])
        self.assertEqual(len(self.queue), 2)

    def test_W02_crash(self) -> None:
        """
        At once: the unfinished task is returned, and its Deferred errbacks.
        """
        (task,) = self.worker.held
        done = Outcome(self.queue.detachWorker(self.worker, crash=True))
        self.assertTrue(self.worker.isCrashed)
        self.assertValue(done, [task])
        error = self.assertFailed(self.first, WorkerLost)
        self.assertIn("identity('first')", str(error))
        self.assertPending(self.second)

    def test_F65_crashAndReassign(self) -> None:
        """
        The unfinished call goes to another worker, ahead of others, and the list is empty.
        """
        queued = self.call(self.queue, identity, "queued")
        done = Outcome(self.queue.detachWorker(self.worker, reassign=True, crash=True))
        self.assertValue(done, [])
        self.assertPending(self.first)
        self.other.step()
        self.assertEqual(self.other.held[0].callTuple[1], ("first",))
        self.other.stepAll()
        self.assertValue(self.first, "first")
        self.assertValue(queued, "queued")

    def test_F65_lateResultOfACrashedWorker(self) -> None:
        """
        Is dropped, after reassignment.
        """
        (task,) = self.worker.held
        self.queue.detachWorker(self.worker, reassign=True, crash=True)
        task.callback(("r", "late"))
        self.assertPending(self.first)
        self.other.stepAll()
        self.assertValue(self.first, "first")
        self.assertEqual(self.queue.statistics().late, 1)

    def test_F65_reassignToFutureWorkers(self) -> None:
        """
        If nobody is left, a worker that comes later runs the call.
        """
        self.queue.detachWorker(self.other, reassign=True, crash=True)
        self.queue.detachWorker(self.worker, reassign=True, crash=True)
        self.assertEqual(len(self.queue), 0)
        comer = MemoryWorker()
        self.queue.attachWorker(comer)
        comer.stepAll()
        self.assertValue(self.first, "first")
        self.assertValue(self.second, "second")

    def test_D02_timeoutOfTheQueueCrashes(self) -> None:
        """
        A worker that has not stopped by then is crashed, here with reassignment.
        """
        worker, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(worker, other, timeout=7)
        outcome = self.call(queue, identity, 1)
        done = Outcome(queue.detachWorker(worker, reassign=True))
        self.clock.advance(6.9)
        self.assertFalse(worker.isCrashed)
        self.clock.advance(0.2)
        self.assertTrue(worker.isCrashed)
        self.assertValue(done, [])
        other.stepAll()
        self.assertValue(outcome, 1)

    def test_W02_timeoutLeavesNoTimer(self) -> None:
        """
        When the worker stops in time.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, timeout=7)
        queue.detachWorker(worker)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_W02_crashWhileStopping(self) -> None:
        """
        All who asked get an answer.
        """
        (task,) = self.worker.held
        gently = Outcome(self.queue.detachWorker(self.worker))
        self.assertPending(gently)
        rudely = Outcome(self.queue.detachWorker(self.worker, crash=True))
        self.assertValue(gently, [task])
        self.assertValue(rudely, [task])
        self.assertFailed(self.first, WorkerLost)

    def test_Z35_whatWasNotStartedIsGivenToOthers(self) -> None:
        """
        Whether it is to be reassigned or not, and it is in no list.
        """
        ahead = ManagedMemoryWorker(["a"], capacity=3)
        queue = self.makeQueue(ahead)
        outcomes = [self.call(queue, identity, number, series="a") for number in range(4)]
        comer = MemoryWorker(["a"])
        queue.attachWorker(comer)
        (started,) = ahead.held[:1]
        done = Outcome(queue.detachWorker(ahead, crash=True))
        self.assertValue(done, [started])
        self.assertFailed(outcomes[0], WorkerLost)
        comer.stepAll()
        for number in (1, 2, 3):
            self.assertValue(outcomes[number], number)
        self.assertEqual([task.callTuple[1] for task in comer.started], [(1,), (2,), (3,)])
        self.assertEqual(queue.statistics().reruns, 0)

    def test_Z36_crashedWorkerInTheReactor(self) -> None:
        """
        The running call settles, and what it waited for is cancelled.
        """
        cancelled: list[Any] = []
        for reassign in (False, True):
            worker = AsyncWorker(reactor=self.clock)
            queue = self.makeQueue(worker)
            calls: list[Deferred[str]] = []

            def run(calls: list[Deferred[str]] = calls) -> Deferred[str]:
                calls.append(Deferred(cancelled.append))
                return calls[-1]

            outcome = self.call(queue, run)
            self.turn()
            done = Outcome(queue.detachWorker(worker, reassign=reassign, crash=True))
            self.assertEqual(len(done.value), 0 if reassign else 1)
            self.assertEqual(cancelled.pop(), calls[0])
            queue.attachWorker(AsyncWorker(reactor=self.clock))
            self.turn()
            if reassign:
                calls[1].callback("second")
                self.assertValue(outcome, "second")
            else:
                self.assertFailed(outcome, WorkerLost)

    def test_F81_attemptOfACrashedWorkerIsTold(self) -> None:
        """
        C{cancelled} is true for an attempt that has been given up with its worker.
        """
        (task,) = self.worker.held
        self.assertFalse(task.cancelled)
        self.queue.detachWorker(self.worker, reassign=True, crash=True)
        self.assertTrue(task.cancelled)

    def test_W02_idempotence(self) -> None:
        """
        A call that must not run twice is not reassigned.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = self.call(queue.options(idempotent=False), identity, 1)
        self.assertValue(Outcome(queue.detachWorker(worker, reassign=True, crash=True)), [])
        self.assertFailed(outcome, WorkerLost)

    def test_F73_manyAttachedAndDetached(self) -> None:
        """
        1,000 workers come and go under load, and no call is lost.
        """
        queue = self.makeQueue()
        outcomes = []
        for number in range(1000):
            worker = MemoryWorker()
            queue.attachWorker(worker)
            outcomes.append(self.call(queue, identity, number))
            if number % 3:
                worker.stepAll()
            queue.detachWorker(worker, reassign=True, crash=bool(number % 2))
            worker.stepAll()
        last = MemoryWorker()
        queue.attachWorker(last)
        last.stepAll()
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)
        self.assertEqual(len(queue), 1)


class ResignTests(QueueTestCase):
    """
    Workers that leave by themselves.
    """

    def test_W22_resignation(self) -> None:
        """
        The worker is crashed and removed, and its tasks go to others.
        """
        worker, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(worker, other)
        outcome = self.call(queue, identity, 1)
        worker.resign()
        self.assertTrue(worker.isCrashed)
        self.assertEqual(queue.workers(), [other])
        other.stepAll()
        self.assertValue(outcome, 1)

    def test_W22_twice(self) -> None:
        """
        The second time does nothing, also when another worker has come.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        worker.resign()
        queue.attachWorker(MemoryWorker())
        worker.resign()
        self.assertEqual(len(queue), 1)

    def test_W22_whileBeingGivenATask(self) -> None:
        """
        The task goes to another.
        """
        other = MemoryWorker()
        queue = self.makeQueue(ScriptedWorker([Act.RESIGN]), other)
        outcome = self.call(queue, identity, 1)
        other.stepAll()
        self.assertValue(outcome, 1)
        self.assertEqual(queue.workers(), [other])

    def test_W22_idleWorker(self) -> None:
        """
        Nothing is touched, and calls wait for the next worker.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        worker.resign()
        outcome = self.call(queue, identity, 1)
        comer = MemoryWorker()
        queue.attachWorker(comer)
        comer.step()
        self.assertValue(outcome, 1)

    def test_W22_whileRunningItsUpdates(self) -> None:
        """
        The worker is not attached, and C{attachWorker} errbacks.
        """
        queue = self.makeQueue()
        queue.update(identity, 1)
        worker = MemoryWorker()
        hired = Outcome(queue.attachWorker(worker))
        worker.resign()
        self.assertFailed(hired, WorkerLost)
        self.assertEqual((len(queue), queue.outstanding()), (0, []))

    def test_T02_workersThatAlwaysLeave(self) -> None:
        """
        A call that loses three workers is poison.
        """
        queue = self.makeQueue(*[ScriptedWorker([Act.RESIGN]) for _ in range(5)])
        outcome = self.call(queue, identity, 1)
        self.assertFailed(outcome, PoisonTask)
        self.assertEqual(len(queue), 2)


class MisbehaviourTests(QueueTestCase):
    """
    Workers that break their contract.
    """

    def test_F74_itsCallFailsAndTheQueueGoesOn(self) -> None:
        """
        A worker that raises, returns no Deferred, or one that fails: the call gets a C{WorkerError}, once.
        """
        for act in (Act.RAISE, Act.MISTAKE, Act.FAIL):
            queue = self.makeQueue(ScriptedWorker([act, Act.RUN]))
            broken = self.call(queue, identity, 1)
            self.assertFailed(broken, WorkerError)
            self.assertEqual(len(self.flushLoggedErrors()), 1, act)
            self.assertValue(self.call(queue, identity, 2), 2)
            self.assertTrue(queue.isRunning())

    def test_F74_quarantineAfterThree(self) -> None:
        """
        Such a worker gets no more after three times in a row; calls that only it could run fail at once, others go on.
        """
        for act in (Act.RAISE, Act.MISTAKE, Act.FAIL):
            broken = ScriptedWorker([act], series=["special"])
            queue = self.makeQueue(broken)
            outcomes = [self.call(queue, identity, number) for number in range(3)]
            for outcome in outcomes:
                self.assertFailed(outcome, WorkerError)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError, ImplementationError)), 3)
            hung = self.call(queue, identity, 1, series="special")
            self.turn()
            self.assertFailed(hung, WorkerHung)
            helper = MemoryWorker()
            queue.attachWorker(helper)
            after = self.call(queue, identity, "after")
            helper.step()
            self.assertValue(after, "after")

    def test_F74_onceInAWhileIsForgiven(self) -> None:
        """
        A worker is judged by how often in a row it breaks its contract.
        """
        for act in (Act.RAISE, Act.MISTAKE, Act.FAIL):
            queue = self.makeQueue(ScriptedWorker([act, act, Act.RUN] * 4))
            outcomes = [self.call(queue, identity, number) for number in range(12)]
            self.flushLoggedErrors()
            for number, outcome in enumerate(outcomes):
                if number % 3 == 2:
                    self.assertValue(outcome, number)
                else:
                    self.assertFailed(outcome, WorkerError)

    def test_F74_managedWorkerThatRaises(self) -> None:
        """
        The same goes for one that is managed.
        """

        class Flaky(ManagedMemoryWorker):
            def accept(self, task: Any) -> None:
                if task.callTuple[1] == ("bad",):
                    raise RuntimeError("as it should")
                super().accept(task)

        worker = Flaky()
        queue = self.makeQueue(worker)
        for _ in range(5):
            bad = self.call(queue, identity, "bad")
            self.assertFailed(bad, WorkerError)
            good = self.call(queue, identity, "good")
            worker.step()
            self.assertValue(good, "good")
        for _ in range(3):
            self.assertFailed(self.call(queue, identity, "bad"), WorkerError)
        self.flushLoggedErrors(RuntimeError)
        last = self.call(queue, identity, "good")
        self.turn()
        self.assertFailed(last, WorkerHung)

    def test_F74_repeatedOutcome(self) -> None:
        """
        The second is dropped and counted, and the calls after it are not touched.
        """
        queue = self.makeQueue(ScriptedWorker([Act.REPEAT]))
        outcomes = [self.call(queue, identity, number) for number in range(5)]
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)
        self.assertEqual(queue.statistics().late, 5)

    def test_F74_babble(self) -> None:
        """
        A status that there is none of is the call's error.
        """
        queue = self.makeQueue(ScriptedWorker([Act.BABBLE, Act.RUN]))
        self.assertFailed(self.call(queue, identity, 1), WorkerError)
        self.assertValue(self.call(queue, identity, 2), 2)

    def test_F74_reportsAndRaises(self) -> None:
        """
        An outcome that was reported before the exception stands.
        """

        class Both(MemoryWorker):
            def run(self, task: Any) -> Any:
                task.callback(("r", "done"))
                raise RuntimeError("after all")

        queue = self.makeQueue(Both())
        self.assertValue(self.call(queue, identity, 1), "done")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_F74_outcomeFromCrashAndStop(self) -> None:
        """
        Workers that raise, or return nonsense, when told to leave are let go all the same.
        """

        class Stubborn(MemoryWorker):
            def __init__(self, answer: Any) -> None:
                super().__init__()
                self.answer = answer

            def stop(self) -> Any:
                if isinstance(self.answer, Exception):
                    raise self.answer
                return self.answer

            def crash(self) -> Any:
                raise RuntimeError("from crash")

        for answer in (RuntimeError("from stop"), None, fail(RuntimeError("from stop"))):
            worker = Stubborn(answer)
            queue = self.makeQueue(worker)
            outcome = self.call(queue, identity, 1)
            done = Outcome(queue.detachWorker(worker))
            self.assertEqual(done.fired, 1)
            self.assertFailed(outcome, WorkerLost)
            self.assertEqual(len(queue), 0)
            self.assertGreaterEqual(len(self.flushLoggedErrors()), 1)

    def test_F74_cancelAndRecallThatRaise(self) -> None:
        """
        A managed worker that raises when told to cancel or to give back keeps nobody from going on.
        """

        class Deaf(ManagedMemoryWorker):
            def cancel(self, task: Any) -> None:
                raise RuntimeError("from cancel")

            def recall(self) -> Any:
                raise RuntimeError("from recall")

        worker = Deaf(capacity=2)
        queue = self.makeQueue(worker)
        call = queue.call(identity, 1)
        cancelled = Outcome(call)
        second = self.call(queue, identity, 2)
        call.cancel()
        self.assertFailed(cancelled, CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.clock.advance(0.01)
        self.clock.advance(0.01)
        self.flushLoggedErrors(RuntimeError)
        worker.stepAll()
        self.assertValue(second, 2)
        self.shutDown(queue)
        self.flushLoggedErrors(RuntimeError)

    def test_Z34_theQueueSurvivesItsWorkers(self) -> None:
        """
        It runs on, and serves, when every worker it had has broken down.
        """
        queue = self.makeQueue(*[ScriptedWorker([Act.RAISE]) for _ in range(3)])
        outcomes = [self.call(queue, identity, number) for number in range(20)]
        self.turn()
        for outcome in outcomes:
            self.assertFailed(outcome, WorkerError)
        self.flushLoggedErrors(RuntimeError)
        self.assertTrue(queue.isRunning())
        helper = MemoryWorker()
        queue.attachWorker(helper)
        after = self.call(queue, identity, "after")
        helper.step()
        self.assertValue(after, "after")

    def test_F16_forgottenTaskKeepsNobodyFromARerunAlone(self) -> None:
        """
        A call that is to run alone is settled though the worker has forgotten another one.
        """
        worker = ScriptedWorker([Act.FORGET, Act.LOSE, Act.LOSE, Act.RUN])
        queue = self.makeQueue(worker)
        forgotten = self.call(queue, identity, "forgotten", timeout=5)
        lost = self.call(queue, identity, "lost")
        others = self.call(queue, identity, "others")
        for _ in range(4):
            self.clock.advance(5)
        self.assertEqual(forgotten.fired, 1)
        self.assertEqual((lost.fired, others.fired), (1, 1))

    def test_W05_overlappingWorker(self) -> None:
        """
        A worker whose Deferreds have fired already gets everything at once.
        """
        worker = MemoryWorker(overlaps=True)
        queue = self.makeQueue(worker)
        outcomes = [self.call(queue, identity, number) for number in range(50)]
        self.assertEqual(len(worker.held), 50)
        for task in list(worker.held)[::-1]:
            worker.report("r", task.callTuple[1][0], task)
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)

    def test_W05_readinessIsNotTheOutcome(self) -> None:
        """
        A worker that has reported gets its next task when it says that it is ready.
        """

        @implementer(IWorker)
        class Slow:
            cQualified: list[Any] = []

            def __init__(self) -> None:
                self.iQualified: list[Any] = []
                self.tasks: list[Any] = []
                self.ready: list[Deferred[None]] = []

            def setResignator(self, callableObject: Any) -> None:
                pass

            def run(self, task: Any) -> Deferred[None]:
                self.tasks.append(task)
                self.ready.append(Deferred())
                return self.ready[-1]

            def stop(self) -> Deferred[None]:
                return succeed(None)

            def crash(self) -> list[Any]:
                return []

        worker = Slow()
        queue = self.makeQueue(worker)
        first, second = self.call(queue, int), self.call(queue, int)
        worker.tasks[0].callback(("r", 1))
        self.assertValue(first, 1)
        self.assertEqual(len(worker.tasks), 1)
        worker.ready[0].callback(None)
        self.assertEqual(len(worker.tasks), 2)
        worker.tasks[1].callback(("r", 2))
        self.assertValue(second, 2)


class FitnessTests(QueueTestCase):
    """
    Managed workers that say that they can take nothing.
    """

    def setUp(self) -> None:
        """
        Make a queue of one worker.
        """
        super().setUp()
        self.worker = ManagedMemoryWorker(["a"], capacity=2)
        self.queue = self.makeQueue(self.worker)

    def test_F27_newCallsFail(self) -> None:
        """
        While all workers that could run them are stuck; the error says why.
        """
        self.worker.setFitness("is stuck in calls that do not return")
        outcome = self.call(self.queue, identity, 1)
        self.turn()
        error = self.assertFailed(outcome, WorkerHung, WorkerLost)
        self.assertIn("is stuck in calls that do not return", str(error))
        self.assertIn("identity(1)", str(error))

    def test_F27_waitingCallsFail(self) -> None:
        """
        So do those that wait already, and those that the worker had not started; the one that it runs goes on.
        """
        outcomes = [self.call(self.queue, identity, number, series="a") for number in range(5)]
        self.assertEqual(len(self.worker.held), 2)
        self.worker.setFitness("is stuck")
        self.turn()
        self.assertPending(outcomes[0])
        for outcome in outcomes[1:]:
            error = self.assertFailed(outcome, WorkerHung)
            self.assertIn("is stuck", str(error))
        self.worker.step()
        self.assertValue(outcomes[0], 0)

    def test_F27_othersTakeOver(self) -> None:
        """
        If there are others, nothing fails.
        """
        other = ManagedMemoryWorker(["a"])
        self.queue.attachWorker(other)
        outcomes = [self.call(self.queue, identity, number) for number in range(5)]
        self.worker.setFitness("is stuck")
        self.turn()
        other.stepAll()
        self.assertEqual([outcome.fired for outcome in outcomes].count(0), 1)
        self.assertEqual([outcome.failure for outcome in outcomes], [None] * 5)

    def test_F27_fitAgain(self) -> None:
        """
        A worker that recovers is given calls again.
        """
        self.worker.setFitness("is stuck")
        self.worker.setFitness("")
        outcome = self.call(self.queue, identity, 1, series="a")
        self.worker.step()
        self.assertValue(outcome, 1)

    def test_F27_parkedForAnotherSeries(self) -> None:
        """
        A call that the stuck worker could not run anyway waits.
        """
        self.worker.setFitness("is stuck")
        outcome = self.call(self.queue, identity, 1, series="b")
        self.turn()
        self.assertPending(outcome)

    def test_F27_unfitFromTheStart(self) -> None:
        """
        A worker may be unfit when it is attached.
        """
        worker = ManagedMemoryWorker(["b"])
        worker.setFitness("is not there yet")
        self.queue.attachWorker(worker)
        self.assertEqual(worker.held, [])
        worker.setFitness("")
        outcome = self.call(self.queue, identity, 1, series="b")
        worker.step()
        self.assertValue(outcome, 1)

    def test_F27_unfitWorkerCanBeDetached(self) -> None:
        """
        And calls then wait for another.
        """
        self.worker.setFitness("is stuck")
        self.assertValue(Outcome(self.queue.detachWorker(self.worker)), [])
        outcome = self.call(self.queue, identity, 1)
        self.turn()
        self.assertPending(outcome)

    def test_W05_capacityMayChange(self) -> None:
        """
        A worker that says that it has more room is given more.
        """
        for number in range(5):
            self.call(self.queue, identity, number)
        self.assertEqual(len(self.worker.held), 2)
        self.worker.setCapacity(4)
        self.assertEqual(len(self.worker.held), 4)
        self.worker.setCapacity(1)
        self.worker.step()
        self.assertEqual(len(self.worker.held), 3)
        self.worker.stepAll()
        self.assertEqual(len(self.worker.started), 5)
