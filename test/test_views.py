"""
Tests of what a queue tells of its calls: outstanding(), statistics() and explain().
"""

from __future__ import annotations

import io
import sys

from twisted.internet.defer import Deferred

from asynqueue.states import CallState
from asynqueue.statistics import Statistics
from asynqueue.testing import ManagedMemoryWorker, MemoryWorker
from asynqueue.testing.tasks import fail as raising
from asynqueue.testing.tasks import identity
from test.support import Outcome, QueueTestCase


class ExplainTests(QueueTestCase):
    """
    explain(), for every way of being stuck.
    """

    def explained(self, queue: object, call: object) -> str:
        """
        Return what is told of a call.
        """
        text: str = queue.explain(call.ID)  # type: ignore[attr-defined]
        self.assertIn(f"call {call.ID}", text)  # type: ignore[attr-defined]
        return text

    def makeCall(self, queue: object, *args: object, **keywords: object) -> object:
        """
        Queue a call, and look at no outcome.
        """
        call = queue.call(*args, **keywords)  # type: ignore[attr-defined]
        Outcome(call)
        return call

    def test_N15_noWorker(self) -> None:
        """
        None is attached.
        """
        queue = self.makeQueue()
        text = self.explained(queue, self.makeCall(queue, identity, "argument"))
        self.assertIn("no worker is attached", text)
        self.assertIn("identity('argument')", text)

    def test_N15_noQualifiedWorker(self) -> None:
        """
        None is qualified for the series.
        """
        queue = self.makeQueue(MemoryWorker(["a"]))
        text = self.explained(queue, self.makeCall(queue, int, series="special"))
        self.assertIn("no attached worker is qualified for series 'special'", text)

    def test_N15_onlyAWorkerThatLeaves(self) -> None:
        """
        The one that is qualified is leaving.
        """
        worker = MemoryWorker(["a"])
        queue = self.makeQueue(worker)
        self.makeCall(queue, int)
        queue.detachWorker(worker)
        text = self.explained(queue, self.makeCall(queue, int, series="a"))
        self.assertIn("worker 1", text)
        self.assertIn("leaving", text)
        worker.stepAll()

    def test_N15_onlyAWorkerThatIsComing(self) -> None:
        """
        The one that is qualified is running its updates, and so are those told of.
        """
        queue = self.makeQueue()
        queue.update(identity, 1)
        queue.update(identity, 2)
        worker = MemoryWorker()
        queue.attachWorker(worker)
        text = self.explained(queue, self.makeCall(queue, int))
        self.assertIn("worker 1", text)
        self.assertIn("joining", text)
        running, waiting = queue.outstanding()[:2]
        self.assertIn("running on worker 1", queue.explain(running.ID))
        self.assertIn("update", queue.explain(waiting.ID))
        worker.stepAll()

    def test_N15_workersAreBusy(self) -> None:
        """
        Those that are qualified have other calls; how many stand before this one is told.
        """
        worker = MemoryWorker(["a"])
        queue = self.makeQueue(worker, MemoryWorker())
        for _ in range(2):
            self.makeCall(queue, int)
        for _ in range(3):
            self.makeCall(queue, int, series="a", niceness=5)
        for _ in range(4):
            self.makeCall(queue, int)
        text = self.explained(queue, self.makeCall(queue, int, series="a", niceness=5))
        for part in ("niceness 5", "behind 3 of its own lane", "4 of others", "1 qualified"):
            self.assertIn(part, text)

    def test_N15_classes(self) -> None:
        """
        What is to go next or last is told, too.
        """
        queue = self.makeQueue()
        self.assertIn("doNext", self.explained(queue, self.makeCall(queue, int, doNext=True)))
        self.assertIn("doLast", self.explained(queue, self.makeCall(queue, int, doLast=True)))

    def test_N15_running(self) -> None:
        """
        On which worker, and which attempt that is.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.makeCall(queue, int)
        text = self.explained(queue, call)
        self.assertIn("running on worker 1 (MemoryWorker)", text)
        self.assertIn("attempt 1", text)
        worker.report("d")
        self.assertIn("attempt 2", self.explained(queue, call))

    def test_N15_inTheWindowOfAWorker(self) -> None:
        """
        Given to a worker that has not started it.
        """
        queue = self.makeQueue(ManagedMemoryWorker(capacity=3))
        self.makeCall(queue, int)
        self.makeCall(queue, int)
        text = self.explained(queue, self.makeCall(queue, int))
        self.assertIn("behind 2 others", text)
        self.assertIn("worker 1", text)

    def test_N15_seriesIsWithAnotherWorker(self) -> None:
        """
        Calls of its series wait in the window of a worker, and this one must not overtake them.
        """
        ahead = ManagedMemoryWorker(["a"], capacity=3)
        queue = self.makeQueue(ahead, ManagedMemoryWorker())
        for number in range(4):
            self.makeCall(queue, int, number, series="a")
        queue.qualifyWorker(2, "a")
        (waiting,) = [call for call in queue.outstanding() if call.state is CallState.QUEUED]
        self.assertIn("waits (niceness 0) for worker 1", queue.explain(waiting.ID))

    def test_N15_waitsForItsRerun(self) -> None:
        """
        With what has become of it before.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.makeCall(queue, int, timeout=5)
        self.clock.advance(5)
        text = self.explained(queue, call)
        self.assertIn("re-run", text)
        self.assertIn("attempt 1 on worker 1 timed out after 5 s", text)

    def test_N15_waitsToRunAlone(self) -> None:
        """
        For a worker that holds nothing.
        """
        worker = ManagedMemoryWorker(capacity=2)
        queue = self.makeQueue(worker)
        other = self.makeCall(queue, int)
        call = self.makeCall(queue, int)
        for _ in range(2):
            (task,) = [task for task in worker.held if task.ID == call.ID]  # type: ignore[attr-defined]
            worker.report("l", task=task)
        text = self.explained(queue, call)
        self.assertIn("alone", text)
        self.assertIn("attempt 2 on worker 1 was lost", text)
        self.assertIn("running", self.explained(queue, other))

    def test_N15_valueIsArriving(self) -> None:
        """
        The worker has done its part.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.makeCall(queue, int)
        worker.report("c", Deferred())
        self.assertIn("still arriving", self.explained(queue, call))

    def test_N15_cancelledInBulk(self) -> None:
        """
        And about to be told so.
        """
        queue = self.makeQueue()
        call = self.makeCall(queue, int)
        queue.cancelAll()
        self.assertIn("cancelled", self.explained(queue, call))

    def test_N15_settledOrUnknown(self) -> None:
        """
        There is nothing to tell.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        call = self.makeCall(queue, int)
        worker.step()
        for ID in (call.ID, 999):  # type: ignore[attr-defined]
            self.assertIn(f"call {ID}: unknown here, or settled already", queue.explain(ID))

    def test_P13_saidOnceInTheLog(self) -> None:
        """
        That nobody serves a series is logged once, until somebody has.
        """
        events = self.watchLog()

        def said() -> int:
            return sum("special" in str(event.get("series")) for event in events)

        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        for _ in range(5):
            self.call(queue, int, series="special")
        self.assertEqual(said(), 1)
        queue.qualifyWorker(worker, "special")
        worker.stepAll()
        self.call(queue, int, series="special")
        worker.stepAll()
        self.assertEqual(said(), 1)


class OutstandingTests(QueueTestCase):
    """
    outstanding().
    """

    def test_N02_inTheOrderOfSubmission(self) -> None:
        """
        With what is known of each.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, identity, "running", own=1)
        self.call(queue, identity, "queued", series="a", niceness=-5)
        running, queued = queue.outstanding()
        self.assertEqual((running.call, queued.call), ("identity('running', own=1)", "identity('queued')"))
        self.assertEqual((running.state, queued.state), (CallState.RUNNING, CallState.QUEUED))
        self.assertEqual((running.workerID, queued.workerID), (1, None))
        self.assertEqual((running.attempts, queued.attempts), (1, 0))
        self.assertEqual((running.series, queued.series), (None, "a"))
        self.assertLess(running.ID, queued.ID)

    def test_N02_idsAreGiven(self) -> None:
        """
        By the constructor's source, if there is one.
        """
        queue = self.makeQueue(ids=iter(range(100, 200)))
        for _ in range(3):
            self.call(queue, int)
        self.assertEqual([call.ID for call in queue.outstanding()], [100, 101, 102])

    def test_N02_emptyWhenAllIsSettled(self) -> None:
        """
        In whichever way.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        self.call(queue, raising, ValueError)
        call = queue.call(int)
        Outcome(call)
        worker.step(2)
        self.assertEqual([each.ID for each in queue.outstanding()], [call.ID])  # type: ignore[attr-defined]
        call.cancel()
        self.assertEqual(queue.outstanding(), [])

    def test_N02_settling(self) -> None:
        """
        A value that is arriving is a state of its own.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        worker.report("c", Deferred())
        (call,) = queue.outstanding()
        self.assertEqual(call.state, CallState.SETTLING)


class StatisticsTests(QueueTestCase):
    """
    statistics().
    """

    def counted(self, queue: object) -> Statistics:
        """
        Return the counts, which must add up.
        """
        statistics: Statistics = queue.statistics()  # type: ignore[attr-defined]
        self.assertEqual(statistics.submitted, statistics.queued + statistics.running + statistics.settled)
        self.assertEqual(statistics.settled, statistics.succeeded + statistics.failed + statistics.cancelled)
        return statistics

    def test_I36_eachKindIsCounted(self) -> None:
        """
        And the sums hold at each step.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, maxPending=50)
        self.counted(queue)
        self.call(queue, int)
        self.call(queue, raising, ValueError)
        call = queue.call(int)
        Outcome(call)
        for _ in range(3):
            self.call(queue, int, series="nobody")
        statistics = self.counted(queue)
        self.assertEqual((statistics.queued, statistics.running, statistics.settled), (5, 1, 0))
        worker.step(2)
        call.cancel()
        self.assertEqual(queue.cancelSeries("nobody"), 3)
        statistics = self.counted(queue)
        self.assertEqual((statistics.succeeded, statistics.failed, statistics.cancelled), (1, 1, 1))
        self.assertEqual((statistics.queued, statistics.running), (3, 0))
        self.turn()
        statistics = self.counted(queue)
        self.assertEqual((statistics.queued, statistics.running, statistics.cancelled), (0, 0, 4))
        worker.step()
        self.assertEqual(self.counted(queue).late, 1)

    def test_I36_rerunsAreCounted(self) -> None:
        """
        Attempts that followed another.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        for status in ("d", "l", "t"):
            worker.report(status)
        worker.step()
        self.assertEqual(self.counted(queue).reruns, 3)

    def test_I36_updatesAreCounted(self) -> None:
        """
        As calls, for each worker.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        self.call(queue, int)
        queue.update(int)
        statistics = self.counted(queue)
        self.assertEqual((statistics.queued, statistics.running), (1, 1))
        worker.stepAll()
        self.assertEqual(self.counted(queue).succeeded, 2)

    def test_I36_errorsThatThePolicyDelivers(self) -> None:
        """
        Are failed calls, though their result is a text.
        """
        self.patch(sys, "stderr", io.StringIO())
        worker = MemoryWorker()
        queue = self.makeQueue(worker, returnFailure=False, warn=True)
        self.call(queue, raising, ValueError)
        worker.step()
        statistics = self.counted(queue)
        self.assertEqual((statistics.succeeded, statistics.failed), (0, 1))

    def test_I36_workers(self) -> None:
        """
        What each is, has and has done.
        """
        one, other = MemoryWorker(), ManagedMemoryWorker()
        queue = self.makeQueue(one, other)
        for _ in range(3):
            self.call(queue, int)
        one.step()
        first, second = self.counted(queue).workers
        self.assertEqual(
            (first.ID, first.kind, first.state, first.running, first.finished), (1, "MemoryWorker", "active", 1, 1)
        )
        self.assertEqual((second.ID, second.kind, second.running, second.finished), (2, "ManagedMemoryWorker", 1, 0))
        other.setFitness("is stuck")
        queue.detachWorker(one)
        self.assertEqual([worker.state for worker in self.counted(queue).workers], ["leaving", "unfit"])

    def test_I36_recalledTasksAreNoOutcomes(self) -> None:
        """
        A worker has finished what it has reported, and not what it has given back.
        """
        worker = ManagedMemoryWorker(capacity=3)
        queue = self.makeQueue(worker)
        for _ in range(3):
            self.call(queue, int)
        worker.capacity = 1
        self.clock.advance(0.01)
        self.clock.advance(0.01)
        self.assertEqual(len(worker.recalled), 2)
        self.assertEqual(self.counted(queue).workers[0].finished, 0)
        worker.stepAll()
        self.assertEqual(self.counted(queue).workers[0].finished, 3)

    def test_I36_lanes(self) -> None:
        """
        Where calls wait.
        """
        queue = self.makeQueue()
        for keywords in ({}, {"series": "a"}, {"series": "a"}, {"series": "a", "niceness": 5}, {"doNext": True}):
            self.call(queue, int, **keywords)
        self.assertEqual(set(self.counted(queue).lanes), {(None, 0, 1), ("a", 0, 2), ("a", 5, 1), (None, "doNext", 1)})

    def test_I36_reprOfAQueue(self) -> None:
        """
        Tells its state, its workers and its calls.
        """
        queue = self.makeQueue(MemoryWorker())
        self.call(queue, int)
        for part in ("open", "1 workers", "1 calls"):
            self.assertIn(part, repr(queue))
