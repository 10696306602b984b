"""
Tests of shutting a queue down.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue import AsyncWorker, TaskQueue
from asynqueue.errors import AsynQueueError, QueueClosed, QueueShutdown, WorkerLost
from asynqueue.testing import Act, ManagedMemoryWorker, MemoryWorker, ScriptedWorker
from asynqueue.testing.tasks import identity
from test.support import Outcome, QueueTestCase


class DrainTests(QueueTestCase):
    """
    What becomes of calls that are there when the queue is shut down.
    """

    def test_D01_isRunningUntilShutdown(self) -> None:
        """
        The Deferred fires when the workers are gone.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.assertTrue(queue.isRunning())
        self.call(queue, int)
        done = Outcome(queue.shutdown())
        self.assertFalse(queue.isRunning())
        self.assertPending(done)
        self.assertFalse(worker.isStopping)
        worker.step()
        self.assertTrue(worker.isStopping)
        self.assertValue(done, [])
        self.assertEqual(len(queue), 0)

    def test_D01_emptyQueue(self) -> None:
        """
        Is shut down at once, with workers or without.
        """
        for workers in ((), (MemoryWorker(), AsyncWorker(reactor=self.clock))):
            self.assertValue(Outcome(self.makeQueue(*workers).shutdown()), [])

    def test_D01_needsNoClock(self) -> None:
        """
        A queue that has not been used installs no reactor, nor needs one.
        """
        self.assertValue(Outcome(TaskQueue(MemoryWorker()).shutdown()), [])

    def test_D03_fiveQueuedCallsAndShutdown(self) -> None:
        """
        All six Deferreds fire.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        outcomes = [self.call(queue, identity, number) for number in range(5)]
        done = Outcome(queue.shutdown())
        self.turn()
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)
        self.assertValue(done, [])

    def test_Z14_backlogWithoutWorkers(self) -> None:
        """
        Is refused, and the shutdown ends.
        """
        queue = self.makeQueue()
        outcomes = [self.call(queue, identity, number) for number in range(5)]
        done = Outcome(queue.shutdown())
        self.turn()
        for number, outcome in enumerate(outcomes):
            error = self.assertFailed(outcome, QueueShutdown)
            self.assertIn(f"identity({number})", str(error))
        self.assertValue(done, [])

    def test_F60_drain(self) -> None:
        """
        10,000 queued calls are run.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcomes = [self.call(queue, identity, number) for number in range(10_000)]
        done = Outcome(queue.shutdown())
        worker.stepAll()
        self.assertValue(done, [])
        self.assertEqual([outcome.value for outcome in outcomes], list(range(10_000)))

    def test_F60_withoutDraining(self) -> None:
        """
        Of 10,000 queued calls each is refused; the one that runs is waited for.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        running = self.call(queue, identity, "running")
        outcomes = [self.call(queue, identity, number, niceness=number % 7) for number in range(10_000)]
        done = Outcome(queue.shutdown(drain=False))
        while self.clock.getDelayedCalls():
            self.turn()
        self.assertEqual({(outcome.fired, outcome.kind) for outcome in outcomes}, {(1, QueueShutdown)})
        self.assertPending(done)
        worker.step()
        self.assertValue(running, "running")
        self.assertValue(done, [])
        self.assertEqual(len(worker.started), 1)

    def test_D03_drainRefusesWhatNobodyCanRun(self) -> None:
        """
        At once, while the rest is run.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        runnable = [self.call(queue, identity, number) for number in range(3)]
        parked = self.call(queue, identity, "parked", series="nobody")
        done = Outcome(queue.shutdown())
        self.turn()
        self.assertFailed(parked, QueueShutdown)
        self.assertPending(runnable[0])
        worker.stepAll()
        for number, outcome in enumerate(runnable):
            self.assertValue(outcome, number)
        self.assertValue(done, [])

    def test_D03_drainRefusesWhatNobodyCanRunAnyMore(self) -> None:
        """
        A worker that leaves during the shutdown takes its series with it.
        """
        worker, other = MemoryWorker(["a"]), MemoryWorker()
        queue = self.makeQueue(worker, other)
        outcomes = [self.call(queue, identity, number, series="a") for number in range(3)]
        done = Outcome(queue.shutdown())
        worker.resign()
        self.turn()
        for outcome in outcomes:
            self.assertFailed(outcome, QueueShutdown)
        self.assertValue(done, [])

    def test_D03_qualifiedDuringTheShutdown(self) -> None:
        """
        Workers can still be qualified for what waits while the queue drains.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        running = self.call(queue, identity, "running")
        queue.shutdown()
        queue.qualifyWorker(worker, "a")
        worker.step()
        self.assertValue(running, "running")

    def test_D03_rerunsDuringTheShutdown(self) -> None:
        """
        A call that comes back while the queue drains is run again.
        """
        worker, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(worker, other)
        outcome = self.call(queue, identity, 1)
        done = Outcome(queue.shutdown())
        worker.report("d")
        self.assertPending(done)
        for each in (worker, other):
            each.stepAll()
        self.assertValue(outcome, 1)
        self.assertValue(done, [])

    def test_D03_valueThatIsArriving(self) -> None:
        """
        Is waited for.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = self.call(queue, identity, 1)
        arriving: Deferred[int] = Deferred()
        worker.report("c", arriving)
        done = Outcome(queue.shutdown())
        self.assertPending(done)
        arriving.callback(5)
        self.assertValue(outcome, 5)
        self.assertValue(done, [])

    def test_D03_updatesAreDrained(self) -> None:
        """
        An update that runs, and one that waits for its worker.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        results = [Outcome(queue.update(identity, number)) for number in range(2)]
        done = Outcome(queue.shutdown())
        worker.stepAll()
        self.assertEqual([result.value for result in results], [[0], [1]])
        self.assertValue(done, [])

    def test_F63_whileAWorkerRunsItsUpdates(self) -> None:
        """
        The queue waits for a worker that is being attached, and lets it go.
        """
        queue = self.makeQueue()
        queue.update(identity, 1)
        worker = MemoryWorker()
        hired = Outcome(queue.attachWorker(worker))
        done = Outcome(queue.shutdown())
        self.turn()
        self.assertPending(done)
        worker.step()
        self.assertEqual(hired.fired, 1)
        self.assertValue(done, [])
        self.assertTrue(worker.isStopping)
        self.assertEqual(len(queue), 0)

    def test_F64_whileACallWaitsForItsRerun(self) -> None:
        """
        No timer is left of it.
        """
        for drain in (True, False):
            worker = MemoryWorker()
            queue = self.makeQueue(worker)
            outcome = self.call(queue, identity, 1, timeout=5)
            self.clock.advance(5)
            done = Outcome(queue.shutdown(drain=drain))
            self.turn()
            worker.stepAll()
            self.turn()
            self.assertEqual((outcome.fired, done.fired), (1, 1))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_F60_callThatComesBackWithoutDraining(self) -> None:
        """
        C{drain=False}: what comes back unstarted is refused like what was queued.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = self.call(queue, identity, 1)
        done = Outcome(queue.shutdown(drain=False))
        worker.report("d")
        self.turn()
        self.assertFailed(outcome, QueueShutdown)
        self.assertValue(done, [])


class ClosedTests(QueueTestCase):
    """
    What can be done with a queue that is shut down, or shutting down.
    """

    def test_F62_callAfterwards(self) -> None:
        """
        Errbacks at once, also while the queue drains.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        done = Outcome(queue.shutdown())
        self.assertFailed(self.call(queue, int), QueueClosed)
        worker.step()
        self.assertValue(done, [])
        self.assertFailed(self.call(queue, int), QueueClosed)
        self.assertFailed(self.call(queue.options(niceness=1), int), QueueClosed)
        self.assertEqual(queue.statistics().refused, 3)
        self.assertEqual(len(worker.started), 1)

    def test_Z33_nothingIsTakenAfterwards(self) -> None:
        """
        Not in the callbacks of the last calls either, nor does anything set the queue running again.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        late: list[Outcome] = []
        queue.call(identity, 1).addCallback(lambda _: late.append(self.call(queue, int)))
        done = Outcome(queue.shutdown())
        worker.stepAll()
        self.assertFailed(late[0], QueueClosed)
        self.assertValue(done, [])
        self.assertFalse(queue.isRunning())

    def test_D01_programmingErrorsStillRaise(self) -> None:
        """
        On a closed queue, too.
        """
        queue = self.makeQueue()
        self.shutDown(queue)
        with self.assertRaises(ValueError):
            queue.call(int, niceness=99)
        with self.assertRaises(TypeError):
            queue.shutdown(deadline="soon")  # type: ignore[arg-type]
        with self.assertRaises(ValueError):
            queue.shutdown(deadline=-1)

    def test_D01_viewsOfAClosedQueue(self) -> None:
        """
        Work.
        """
        queue = self.makeQueue()
        self.shutDown(queue)
        self.assertEqual(queue.outstanding(), [])
        self.assertEqual(queue.statistics().workers, ())
        self.assertEqual(queue.workers(), [])
        self.assertEqual(queue.cancelAll(), 0)
        self.assertValue(Outcome(queue.detachWorker(1)), [])
        self.assertIn("closed", repr(queue))


class RepeatTests(QueueTestCase):
    """
    shutdown() more than once, and from where it is least expected.
    """

    def test_F61_twice(self) -> None:
        """
        Both Deferreds fire with the same, and so does one after the end.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        (task,) = worker.held
        first = Outcome(queue.shutdown())
        second = Outcome(queue.shutdown(deadline=5))
        self.clock.advance(5)
        self.assertValue(first, [task])
        self.assertValue(second, [task])
        self.assertValue(Outcome(queue.shutdown()), [task])

    def test_F61_stricter(self) -> None:
        """
        The second may refuse what the first would have run.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        running, queued = self.call(queue, identity, 1), self.call(queue, identity, 2)
        first = Outcome(queue.shutdown())
        second = Outcome(queue.shutdown(drain=False))
        self.turn()
        self.assertFailed(queued, QueueShutdown)
        worker.step()
        self.assertValue(running, 1)
        self.assertValue(first, [])
        self.assertValue(second, [])

    def test_F61_laterDeadlineRelaxesNothing(self) -> None:
        """
        The earliest deadline holds.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        done = Outcome(queue.shutdown(deadline=5))
        queue.shutdown(deadline=50)
        queue.shutdown()
        self.clock.advance(5)
        self.assertEqual(done.fired, 1)
        self.assertTrue(worker.isCrashed)

    def test_F61_fromACallback(self) -> None:
        """
        Of a call that is the last, or is not.
        """
        for further in range(3):
            worker = MemoryWorker()
            queue = self.makeQueue(worker)
            done: list[Outcome] = []

            def end(_: Any, queue: TaskQueue = queue, done: list[Outcome] = done) -> None:
                done.append(Outcome(queue.shutdown()))

            queue.call(identity, 1).addCallback(end)
            others = [self.call(queue, identity, number) for number in range(further)]
            worker.stepAll()
            self.assertValue(done[0], [])
            for number, outcome in enumerate(others):
                self.assertValue(outcome, number)

    def test_F61_fromAnErrbackOfWhatItRefuses(self) -> None:
        """
        Each refused call asks for another shutdown.
        """
        queue = self.makeQueue()
        dones: list[Outcome] = []

        def again(failure: Any) -> None:
            failure.trap(QueueShutdown)
            dones.append(Outcome(queue.shutdown(drain=False, deadline=1)))

        for _ in range(20):
            queue.call(int).addErrback(again)
        dones.append(Outcome(queue.shutdown()))
        self.turn()
        self.assertEqual([done.fired for done in dones], [1] * 21)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_F61_fromACallInTheReactor(self) -> None:
        """
        A call that shuts its own queue down, and does not wait for that.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        done: list[Outcome] = []
        first = self.call(queue, lambda: done.append(Outcome(queue.shutdown())))
        second = self.call(queue, identity, 2)
        self.turn()
        self.assertValue(first, None)
        self.assertValue(second, 2)
        self.assertValue(done[0], [])

    def test_F61_fromAWorkerThatResigns(self) -> None:
        """
        While a task is being given out.
        """
        queue = self.makeQueue(ScriptedWorker([Act.RESIGN]))
        done: list[Outcome] = []

        def end(failure: Failure) -> Failure:
            done.append(Outcome(queue.shutdown()))
            return failure

        outcome = Outcome(queue.options(idempotent=False).call(int).addErrback(end))
        self.assertFailed(outcome, WorkerLost)
        self.assertValue(done[0], [])

    def test_F61_cancellingTheDeferred(self) -> None:
        """
        Gives up waiting; the queue shuts down all the same, and others are told.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        given = queue.shutdown()
        first, second = Outcome(given), Outcome(queue.shutdown())
        given.cancel()
        self.assertEqual(first.fired, 1)
        worker.step()
        self.assertValue(second, [])


class DeadlineTests(QueueTestCase):
    """
    Shutdowns that take no longer than they may.
    """

    def test_D02_timeoutOfTheQueue(self) -> None:
        """
        Workers that are not done by then are crashed, and what they had is returned.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, timeout=10)
        running, queued = self.call(queue, identity, 1), self.call(queue, identity, 2)
        (task,) = worker.held
        done = Outcome(queue.shutdown())
        self.clock.advance(9.9)
        self.assertPending(done)
        self.assertFalse(worker.isCrashed)
        self.clock.advance(0.2)
        self.turn()
        self.assertTrue(worker.isCrashed)
        self.assertFailed(running, WorkerLost)
        self.assertFailed(queued, QueueShutdown)
        self.assertValue(done, [task])

    def test_D02_deadlineBeforeTimeout(self) -> None:
        """
        The argument counts, sooner or later than the queue's own.
        """
        for deadline in (3, 30):
            worker = MemoryWorker()
            queue = self.makeQueue(worker, timeout=10)
            self.call(queue, int)
            done = Outcome(queue.shutdown(deadline=deadline))
            self.clock.advance(deadline - 0.1)
            self.assertPending(done)
            self.clock.advance(0.2)
            self.assertEqual(done.fired, 1)

    def test_D02_withoutEither(self) -> None:
        """
        Calls that run are waited for.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = self.call(queue, identity, 1)
        done = Outcome(queue.shutdown())
        self.clock.advance(1_000_000)
        self.assertPending(done)
        worker.step()
        self.assertValue(outcome, 1)
        self.assertValue(done, [])

    def test_D02_deadlineOfNothing(self) -> None:
        """
        Zero seconds: everything is refused or crashed in the next turn.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcomes = [self.call(queue, identity, number) for number in range(3)]
        done = Outcome(queue.shutdown(deadline=0))
        self.turn()
        self.assertFailed(outcomes[0], WorkerLost)
        self.assertFailed(outcomes[1], QueueShutdown)
        self.assertEqual(len(done.value), 1)

    def test_D02_noTimerIsLeft(self) -> None:
        """
        When all is done before the deadline.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, timeout=10)
        self.call(queue, int)
        done = Outcome(queue.shutdown(deadline=20))
        queue.shutdown(deadline=30)
        worker.step()
        self.assertValue(done, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_D02_workerThatDoesNotStop(self) -> None:
        """
        Is crashed at the deadline, though it has nothing to do.
        """

        class Sticky(MemoryWorker):
            def stop(self) -> Deferred[None]:
                return Deferred()

        worker = Sticky()
        queue = self.makeQueue(worker)
        done = Outcome(queue.shutdown(deadline=5))
        self.assertPending(done)
        self.clock.advance(5)
        self.assertTrue(worker.isCrashed)
        self.assertValue(done, [])

    def test_D02_valueThatDoesNotArrive(self) -> None:
        """
        Is not waited for any longer.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = self.call(queue, identity, 1)
        worker.report("c", Deferred())
        done = Outcome(queue.shutdown(deadline=5))
        self.clock.advance(5)
        self.assertEqual(outcome.fired, 1)
        self.assertIsNotNone(outcome.failure)
        self.assertEqual(done.fired, 1)

    def test_D02_updatesThatDoNotEnd(self) -> None:
        """
        Neither is a worker that is still running its updates.
        """
        queue = self.makeQueue()
        queue.update(identity, 1)
        hired = Outcome(queue.attachWorker(MemoryWorker()))
        results = Outcome(queue.update(identity, 2))
        done = Outcome(queue.shutdown(deadline=5))
        self.clock.advance(5)
        self.turn()
        self.assertEqual((hired.fired, results.fired, done.fired), (1, 1, 1))
        self.assertIsNotNone(hired.failure)

    def test_D02_whatIsBeingDetachedAndReassigned(self) -> None:
        """
        A worker that is leaving, with what it has to be reassigned, delays nothing.
        """
        worker, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(worker, other)
        outcomes = [self.call(queue, identity, number) for number in range(2)]
        leaving = Outcome(queue.detachWorker(worker, reassign=True))
        done = Outcome(queue.shutdown(deadline=5))
        self.clock.advance(5)
        self.turn()
        self.assertEqual((leaving.fired, done.fired), (1, 1))
        for outcome in outcomes:
            self.assertFailed(outcome, AsynQueueError)

    def test_N02_everythingIsSettled(self) -> None:
        """
        Whatever stands where, each Deferred fires once.
        """
        workers = [MemoryWorker(["a"]), ManagedMemoryWorker(["b"], capacity=3), ScriptedWorker([Act.HANG])]
        queue = self.makeQueue(*workers)
        calls = [
            queue.call(identity, number, series=series, timeout=timeout, niceness=number % 20)
            for number in range(40)
            for series in (None, "a", "b", "nobody")
            for timeout in (None, 3)
        ]
        outcomes = [Outcome(call) for call in calls]
        self.clock.advance(2)
        queue.cancelSeries("a")
        calls[5].cancel()
        self.clock.advance(2)
        done = Outcome(queue.shutdown(deadline=1))
        self.clock.advance(1)
        self.turn()
        self.assertEqual({outcome.fired for outcome in outcomes}, {1})
        self.assertEqual(done.fired, 1)
        statistics = queue.statistics()
        self.assertEqual(statistics.settled, len(calls))
        self.assertEqual(statistics.succeeded + statistics.failed + statistics.cancelled, len(calls))
        self.assertEqual(self.clock.getDelayedCalls(), [])
