"""
Tests of what was wrong once: each the shortest program that showed it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from asynqueue.errors import PoisonTask, QueueClosed, TimeoutError, WorkerError, WorkerLost
from asynqueue.scheduling.lanes import ALONE
from asynqueue.tasks import Task
from asynqueue.testing import ManagedMemoryWorker, MemoryWorker
from asynqueue.workers.reactor import AsyncWorker
from test.support import Outcome, QueueTestCase

#: What a worker that looks ahead may report nothing, twice, before it is to give back what it has not started.
STALL = 0.005


class Hesitant(ManagedMemoryWorker):
    """
    A worker that starts nothing until it is told the outcome, so that everything can be recalled.
    """

    def recall(self) -> list[Task]:
        """
        Give back all tasks.
        """
        recalled, self.held = self.held, []
        return recalled


def idsOf(tasks: list[Task]) -> list[int]:
    """
    Return the numbers of calls, from 1 on.
    """
    return [task.ID for task in tasks]


class ExecutionTests(QueueTestCase):
    """
    How often calls are run, and how they end.
    """

    def test_A1_threeExecutionsWhateverTheReasons(self) -> None:
        """
        Losses and timeouts count together: the third execution is the last one.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.call(queue, int)
        worker.report("l")
        worker.report("l")
        self.assertPending(call)
        worker.report("t")
        self.assertFailed(call, TimeoutError)
        self.assertEqual(len(worker.started), 3)

    def test_A1_lossAfterTimeout(self) -> None:
        """
        The same in another order.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.call(queue, int)
        worker.report("t")
        worker.report("l")
        self.assertPending(call)
        worker.report("l")
        self.assertFailed(call, PoisonTask)
        self.assertEqual(len(worker.started), 3)

    def test_A7_recalledCallIsNotLimitedInItsWait(self) -> None:
        """
        The time of a call that was recalled without having been started begins anew when it is given to a worker.
        """
        worker = ManagedMemoryWorker(capacity=2)
        queue = self.makeQueue(worker)
        self.call(queue, int)
        call = self.call(queue, int, timeout=1)
        worker.setCapacity(1)
        self.clock.pump([STALL, STALL])
        self.assertEqual(idsOf(worker.recalled), [2])
        self.clock.advance(5)
        self.assertPending(call)
        worker.report("r", 1)
        worker.report("r", 2)
        self.assertValue(call, 2)

    def test_A10_emptyOutcome(self) -> None:
        """
        An outcome that is no pair costs the call, with an error that says so.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.call(queue, int)
        task: Any = worker.held.pop()
        task.callback(())
        worker.getReady()
        self.assertIn("()", str(self.assertFailed(call, WorkerError)))
        after = self.call(queue, int)
        worker.step()
        self.assertValue(after, 0)

    def test_A13_timeoutOfAValueThatNeverArrives(self) -> None:
        """
        An outcome that is a Deferred does not stop the time, and is cancelled when it is up.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.call(queue, int, timeout=1)
        values: list[Deferred[Any]] = [Deferred(), Deferred()]
        for value in values:
            self.assertPending(call)
            value.addErrback(lambda failure: failure.trap(CancelledError))
            worker.report("c", value)
            self.clock.advance(1)
            self.assertTrue(value.called)
        self.assertFailed(call, TimeoutError)

    def test_A14_errorOfAValueThatArrives(self) -> None:
        """
        It is both a C{WorkerError} and of its own class, like one that the call raised at once.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.call(queue, int)
        value: Deferred[Any] = Deferred()
        worker.report("r", value)
        self.assertPending(call)
        original = ValueError("late")
        value.errback(original)
        error = self.assertFailed(call, WorkerError, ValueError)
        self.assertIs(error.original, original)

    def test_A14_errorPolicyOfAValueThatArrives(self) -> None:
        """
        A queue that only logs errors does so with these.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, returnFailure=False, warn=True)
        call = self.call(queue, int)
        value: Deferred[Any] = Deferred()
        worker.report("r", value)
        with self.assertLogs("asynqueue", "ERROR"):
            value.errback(ValueError("late"))
        self.assertEqual(call.fired, 1)
        self.assertIsNone(call.failure)
        self.assertIn("ValueError: late", call.value)


class AloneTests(QueueTestCase):
    """
    Calls that have been lost twice, and are to be alone.
    """

    def test_A2_overlappingWorker(self) -> None:
        """
        A worker that takes any number of tasks, but holds none, can run a call alone.
        """
        worker = MemoryWorker(overlaps=True)
        queue = self.makeQueue(worker)
        call = self.call(queue, int)
        worker.report("l")
        worker.report("l")
        self.assertEqual([task.attempt for task in worker.held], [3])
        worker.step()
        self.assertValue(call, 0)

    def test_A8_notStarvedByCallsThatKeepComing(self) -> None:
        """
        A worker that looks ahead runs empty for a call that is to be alone.
        """
        worker = ManagedMemoryWorker(capacity=2)
        queue = self.makeQueue(worker)
        call = self.call(queue, int)
        for _ in range(3):
            self.call(queue, int)
        worker.report("l")
        worker.report("l", task=next(task for task in worker.held if task.ID == 1))
        for _ in range(4):
            self.call(queue, int)
            if idsOf(worker.held) == [1]:
                break
            worker.report("r")
        self.assertEqual(idsOf(worker.held), [1])
        self.call(queue, int)
        self.assertEqual(idsOf(worker.held), [1])
        worker.report("r", "alone")
        self.assertValue(call, "alone")

    def test_A8_notStarvedByAPinnedSeries(self) -> None:
        """
        Nor do calls keep it waiting whose series is with the worker, since some of them have not been started.
        """
        worker = ManagedMemoryWorker(["s", "t"], capacity=3)
        queue = self.makeQueue(worker)
        call = self.call(queue, int, series="t")
        for _ in range(6):
            self.call(queue, int, series="s")
        worker.report("l")
        worker.report("l", task=next(task for task in worker.held if task.ID == 1))
        for _ in range(20):
            self.call(queue, int, series="s")
            worker.report("r", "some")
            if call.fired:
                break
        self.assertValue(call, "some")

    def loseTwice(self, queue: Any, worker: MemoryWorker) -> Outcome:
        """
        Queue a call, and have it lost twice.
        """
        call = self.call(queue, int)
        worker.report("l")
        worker.report("l")
        return call

    def assertAlone(self, queue: Any, worker: MemoryWorker) -> None:
        """
        The worker gets nothing beside the call that it has.
        """
        self.assertEqual([(task.attempt, task.priority) for task in worker.held], [(worker.held[0].attempt, ALONE)])
        self.call(queue, int)
        self.assertEqual(len(worker.held), 1)

    def test_A9_aloneAfterItWasNotStarted(self) -> None:
        """
        A call that is to be alone is so too when it has been given back.
        """
        worker = ManagedMemoryWorker(capacity=4)
        queue = self.makeQueue(worker)
        self.loseTwice(queue, worker)
        self.assertAlone(queue, worker)
        worker.report("d")
        self.assertAlone(queue, worker)

    def test_A9_aloneAfterARecall(self) -> None:
        """
        A call that is to be alone and is recalled waits for a worker that holds nothing.
        """
        first = Hesitant(capacity=4)
        queue = self.makeQueue(first)
        call = self.loseTwice(queue, first)
        other = ManagedMemoryWorker(capacity=4)
        queue.attachWorker(other)
        self.call(queue, int)
        self.assertEqual(len(other.held), 1)
        queue.detachWorker(first)
        self.assertEqual(idsOf(other.held), [2])
        other.report("r")
        self.assertEqual(idsOf(other.held), [1])
        self.assertAlone(queue, other)
        other.report("r", "alone")
        self.assertValue(call, "alone")

    def test_A9_aloneWithAWorkerThatIsNotManaged(self) -> None:
        """
        Neither does one that takes any number of tasks get others beside.
        """
        worker = MemoryWorker(overlaps=True)
        queue = self.makeQueue(worker)
        self.loseTwice(queue, worker)
        self.assertAlone(queue, worker)


class WorkerTests(QueueTestCase):
    """
    What workers get, and in which order.
    """

    def test_A3_pinnedSeatMovesIntoAnotherGroup(self) -> None:
        """
        A worker that holds calls of a series, not started, becomes as qualified as another one.
        """
        first = ManagedMemoryWorker(["a"], capacity=2)
        other = ManagedMemoryWorker(["a", "b"])
        queue = self.makeQueue(first, other)
        self.call(queue, int)
        calls = [self.call(queue, int, series="a") for _ in range(5)]
        queue.qualifyWorker(first, "b")
        workers: list[ManagedMemoryWorker] = [first, other]
        while held := [worker for worker in workers if worker.held]:
            held[0].report("r", "done")
        for call in calls:
            self.assertValue(call, "done")

    def test_A4_pinForAWorkerThatJoins(self) -> None:
        """
        Updates of a series are run by a worker that has no place yet, beside which a call of the series waits.
        """
        queue = self.makeQueue()
        queue.update(int, series="s")
        queue.update(int, series="s")
        call = self.call(queue, int, series="s")
        worker = ManagedMemoryWorker(["s"], capacity=2)
        attached = Outcome(queue.attachWorker(worker))
        self.assertEqual([task.options.alone for task in worker.held], [True, True])
        worker.stepAll()
        self.assertValue(attached, 1)
        self.assertValue(call, 0)

    def test_A5_orderWhenAnotherWorkerComes(self) -> None:
        """
        A call of a series is not started before those that wait in the worker that was alone until now.
        """
        first = ManagedMemoryWorker(["s"], capacity=3)
        queue = self.makeQueue(first)
        for _ in range(3):
            self.call(queue, int, series="s")
        self.assertEqual(len(first.held), 3)
        other = ManagedMemoryWorker(["s"])
        queue.attachWorker(other)
        self.call(queue, int, series="s")
        self.assertEqual(other.held, [])
        first.report("r")
        self.assertEqual(other.held, [])
        first.report("r")
        self.assertEqual(idsOf(first.begun), [1, 2, 3])

    def test_A11_lessCapacityThanIsHeld(self) -> None:
        """
        A worker that has less room than it holds tasks gets none until it has room.
        """
        worker = ManagedMemoryWorker(capacity=3)
        queue = self.makeQueue(worker)
        for _ in range(8):
            self.call(queue, int)
        worker.setCapacity(1)
        for left in (2, 1):
            worker.report("r")
            self.assertEqual(len(worker.held), left)
        worker.report("r")
        self.assertEqual(idsOf(worker.held), [4])

    def test_A5_idleWorkerGetsARerunThatAnotherOneLeaves(self) -> None:
        """
        A call that comes back is given to a worker that is idle, if the one that it comes from has better to do.
        """
        idle = ManagedMemoryWorker()
        busy = ManagedMemoryWorker(["a"], capacity=2)
        queue = self.makeQueue(idle)
        self.call(queue, int)
        queue.attachWorker(busy)
        self.call(queue, int, series="a")
        self.call(queue, int)
        self.assertEqual(idsOf(busy.held), [2, 3])
        busy.setCapacity(1)
        idle.report("r")
        busy.report("l")
        busy.report("l")
        self.assertEqual(idsOf(busy.held), [2])
        self.assertEqual(idsOf(idle.held), [3])

    def test_N06_lanesAreServedElsewhere(self) -> None:
        """
        A lane that wakes does not monopolise a worker that has had other things to do while a worker of another kind
        served the lanes that both can serve.
        """
        first = ManagedMemoryWorker()
        other = ManagedMemoryWorker(["x"])
        queue = self.makeQueue(other)
        self.call(queue, int, series="x")
        queue.attachWorker(first)
        for _ in range(200):
            self.call(queue, int)
        for _ in range(100):
            first.report("r")
        nice = [self.call(queue, int, niceness=10) for _ in range(100)]
        for _ in range(30):
            other.report("r")
        self.assertLessEqual(sum(call.fired for call in nice), 12)

    def test_A15_cancelledWithinItsSynchronousPart(self) -> None:
        """
        A call that is cancelled while it makes its Deferred has that cancelled.
        """
        worker = AsyncWorker(reactor=self.clock)
        queue = self.makeQueue(worker)
        inner: Deferred[Any] = Deferred()
        calls: list[Outcome] = []

        def run() -> Deferred[Any]:
            entry.cancel()
            return inner

        entry = queue.call(run)
        calls.append(Outcome(entry))
        self.turn()
        self.assertFailed(calls[0], CancelledError)
        self.assertTrue(inner.called)
        after = self.call(queue, int)
        self.turn()
        self.assertValue(after, 0)

    def test_A15_crashedWithinItsSynchronousPart(self) -> None:
        """
        So has one whose worker is crashed meanwhile.
        """
        worker = AsyncWorker(reactor=self.clock)
        queue = self.makeQueue(worker)
        inner: Deferred[Any] = Deferred()
        farewells: list[Outcome] = []

        def run() -> Deferred[Any]:
            farewells.append(Outcome(queue.detachWorker(worker, crash=True)))
            return inner

        call = self.call(queue, run)
        self.turn()
        self.assertFailed(call, WorkerLost)
        self.assertEqual(idsOf(farewells[0].value), [1])
        self.assertTrue(inner.called)
        self.assertEqual(len(queue), 0)


class EndingTests(QueueTestCase):
    """
    How queues end.
    """

    def test_A12_noTimerIsLeftWhenShutDown(self) -> None:
        """
        When the Deferred of C{shutdown} fires, no timer is left, though calls that were refused have called it again.
        """
        queue = self.makeQueue(MemoryWorker())
        left: list[int] = []

        def shutDown(_: object) -> None:
            queue.shutdown(drain=False, deadline=1).addCallback(
                lambda _: left.append(len(self.clock.getDelayedCalls()))
            )

        for _ in range(40):
            queue.call(int).addBoth(shutDown)
        shutDown(None)
        self.clock.pump([0, 1, 0, 0])
        self.assertEqual(left, [0] * 41)

    def test_A12_workerThatComesWhenTimeIsUp(self) -> None:
        """
        A worker that is attached by the errback of a call that was refused at the deadline does not keep the queue from
        its end: it is refused too.
        """
        worker = ManagedMemoryWorker()
        queue = self.makeQueue(worker)
        queue.update(int).addErrback(lambda failure: None)
        attached: list[Outcome] = []
        call = queue.call(int)
        call.addErrback(lambda _: attached.append(Outcome(queue.attachWorker(MemoryWorker()))))
        ended = Outcome(queue.shutdown(deadline=1))
        self.clock.advance(1)
        self.turn()
        self.assertEqual(ended.fired, 1)
        self.assertFailed(attached[0], QueueClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_A15_callsOfALostWorkerThatCancelOneAnother(self) -> None:
        """
        When a worker is crashed, the errback of one of its calls may cancel another one.
        """
        worker = MemoryWorker(overlaps=True)
        queue = self.makeQueue(worker)
        first, second = queue.call(int), queue.call(int)
        first.addErrback(lambda _: second.cancel())
        cancelled = Outcome(second)
        gone = Outcome(queue.detachWorker(worker, crash=True))
        self.assertEqual(gone.fired, 1)
        self.assertFailed(cancelled, CancelledError)
        self.assertEqual(len(queue), 0)

    def test_A12_updateOfAWorkerThatHasHung(self) -> None:
        """
        An update that waits for a worker which gets no more tasks is not waited for when the queue shuts down.
        """
        worker = ManagedMemoryWorker()
        queue = self.makeQueue(worker)
        queue.update(int)
        update = Outcome(queue.update(int))
        worker.setFitness("is stuck")
        worker.report("r")
        ended = Outcome(queue.shutdown())
        self.turn()
        self.assertEqual(update.fired, 1)
        self.assertEqual(ended.fired, 1)


class CountTests(QueueTestCase):
    """
    What is told of the queue.
    """

    def test_C1_readyWhenARerunHasWaitedTooLong(self) -> None:
        """
        Whoever waits for room is told of the room that a re-run leaves which nobody took in time.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, maxPending=1)
        call = self.call(queue, int, timeout=1)
        self.clock.advance(1)
        ready = Outcome(queue.ready())
        self.assertPending(ready)
        self.clock.advance(1)
        self.assertFailed(call, TimeoutError)
        self.assertValue(ready, None)

    def test_C2_cancelledTaskThatWasNeverQueued(self) -> None:
        """
        Cancelling what C{newTask} has made keeps the counts consistent.
        """
        queue = self.makeQueue(MemoryWorker())
        task = queue.newTask(int, (), {})
        made = Outcome(task.d)
        task.d.cancel()
        self.assertFailed(made, CancelledError)
        found = queue.statistics()
        self.assertEqual(found.submitted, found.queued + found.running + found.settled)
        self.assertEqual(found.settled, found.succeeded + found.failed + found.cancelled)
        self.assertEqual((found.queued, found.running), (0, 0))
