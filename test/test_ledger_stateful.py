"""
Stateful tests of a whole queue on a virtual clock: whatever is called, reported, cancelled, attached and detached, in
whatever order and from within whatever callback, each Deferred fires once, and nothing is left at the end.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import TaskQueue, currentCall
from asynqueue.errors import QueueClosed
from asynqueue.scheduling.lanes import ALONE
from asynqueue.tasks import Task
from asynqueue.testing import ManagedMemoryWorker, MemoryWorker
from asynqueue.workers.reactor import AsyncWorker

EXAMPLES = int(os.environ.get("ASYNQUEUE_HYPOTHESIS_EXAMPLES", "200"))

SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

T = TypeVar("T")

MAX_EXECUTIONS = 3
MAX_WORKERS = 4

#: Twice what a worker that looks ahead may report nothing before it is to give back what it has not started.
STALLS = (0.005, 0.005)

anySeries = st.sampled_from((None, None, "a", "b"))
someSeries = st.sampled_from(((), ("a",), ("b",), ("a", "b")))
indices = st.integers(0, 1 << 16)

#: What a status letter may come with.
OUTCOMES: list[Any] = [
    ("r", 1),
    (b"r", 1),
    ("n", None),
    (b"n", None),
    ("e", "Traceback (most recent call last):\n  ...\nValueError: reported\n"),
    (b"e", "no traceback at all"),
    ("i", "an iterator"),
    ("t", None),
    (b"t", None),
    ("d", None),
    (b"d", None),
    ("l", "lost"),
    (b"l", None),
    ("k", None),
    ("x", "refused"),
    (b"x", ValueError("refused")),
    ("?", None),
    ("r",),
    (),
    None,
    "rr",
    ("r", 1, 2),
    (["r"], 1),
]

REACTIONS = (
    "nothing",
    "nothing",
    "nothing",
    "call",
    "callNext",
    "cancelOther",
    "cancelSelf",
    "cancelAll",
    "cancelSeries",
    "attach",
    "detach",
    "detachCrashing",
    "resign",
    "update",
    "report",
    "shutdown",
    "shutdownAtOnce",
)

reactions = st.sampled_from(REACTIONS)


class Watched:
    """
    A Deferred that has been handed out, how often it has fired, and what happens then.
    """

    def __init__(self, d: Deferred[Any], what: str) -> None:
        self.d = d
        self.what = what
        self.fired = 0
        self.value: Any = None
        self.reaction: Callable[[], object] = int
        d.addBoth(self._fire)

    def __repr__(self) -> str:
        return f"<{self.what}: fired {self.fired} times, {self.value!r}>"

    def _fire(self, value: Any) -> None:
        self.fired += 1
        self.value = value.value if isinstance(value, Failure) else value
        self.reaction()


class Call(Watched):
    """
    A call.

    @ivar ID: Its ID, if the queue has accepted it.
    """

    def __init__(self, d: Any, number: int) -> None:
        self.ID: int | None = getattr(d, "ID", None)
        super().__init__(d, f"call {number}")


class JournalWorker(AsyncWorker):
    """
    A worker that runs calls in the reactor, and keeps a list of those that it has got.
    """

    def __init__(self, series: Sequence[Hashable], clock: Clock, accepted: list[Task]) -> None:
        super().__init__(series, reactor=clock)
        self.accepted = accepted
        self.mine: list[Task] = []

    def accept(self, task: Task) -> None:
        """
        Run a task after those that are here already.
        """
        self.accepted.append(task)
        self.mine.append(task)
        super().accept(task)


class QueueMachine(RuleBasedStateMachine):
    """
    A queue, its workers, and all Deferreds that have been handed out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.errors: list[Any] = []
        observer: Any = self.observe
        globalLogPublisher.addObserver(observer)
        self.queue = TaskQueue(reactor=self.clock, returnFailure=True)
        self.workers: list[Any] = []
        self.calls: list[Call] = []
        self.others: list[Watched] = []
        self.arriving: list[Deferred[Any]] = []
        # All tasks that workers have got, and those that have been started, in order.
        self.accepted: list[Task] = []
        self.started: list[Any] = []
        self.lookedAt = [0, 0]
        self.lastOf: dict[tuple[str, Any], int] = {}
        self.placeOf: dict[int, Any] = {}
        self.seen: set[tuple[str, int]] = set()
        self.executions: Counter[int] = Counter()
        self.limits: dict[Any, int] = {}
        self.reactionsLeft = 100
        self.waitsForRoom: list[Watched] = []
        self.isPatient = False
        self.maxPending: int | None = None

    def observe(self, event: Any) -> None:
        """
        Keep what is logged as an error.
        """
        if event.get("log_format", "").startswith("An update failed on"):
            # An update that nobody waits for, of a worker that was hired later, or unfit for a while.
            return
        if "log_failure" in event or event.get("isError"):
            self.errors.append(event.get("log_failure") or event)

    @initialize(
        isPatient=st.booleans(), timeout=st.sampled_from((None, None, 2.0)), maxPending=st.sampled_from((None, 5))
    )
    def begin(self, isPatient: bool, timeout: float | None, maxPending: int | None) -> None:
        """
        Make the queue.

        @param isPatient: Whether the end is waited for, instead of having a deadline.
        """
        self.isPatient = isPatient
        self.maxPending = maxPending
        self.queue = TaskQueue(reactor=self.clock, returnFailure=True, timeout=timeout, maxPending=maxPending)

    # Help

    def pick(self, choices: list[T], index: int) -> T:
        """
        Return one of some things.
        """
        return choices[index % len(choices)]

    def watch(self, d: Deferred[Any], what: str) -> Watched:
        """
        Count how often a Deferred fires.
        """
        watched = Watched(d, what)
        self.others.append(watched)
        return watched

    def holders(self) -> list[Any]:
        """
        Return the workers that hold something and report it when told to.
        """
        return [worker for worker in self.workers if isinstance(worker, MemoryWorker) and worker.held]

    def plainHolders(self) -> list[Any]:
        """
        Return those of them that tell by themselves when they are ready.
        """
        return [worker for worker in self.holders() if not isinstance(worker, ManagedMemoryWorker)]

    def pendingCalls(self) -> list[Call]:
        """
        Return the calls that have not fired.
        """
        return [call for call in self.calls if not call.fired]

    def settle(self, worker: MemoryWorker, task: Task, outcome: Any) -> None:
        """
        Have a worker report an outcome.
        """
        self.noteStarts()
        if isinstance(outcome, tuple) and outcome[:1] in (("d",), (b"d",)) and ("executed", id(task)) in self.seen:
            self.executions[task.ID] -= 1
        worker.held.remove(task)
        task.callback(outcome)
        worker.getReady()

    def noteStarts(self) -> None:
        """
        Count the attempts that have been started, and see that calls were accepted, and started, in order.
        """
        accepted = self.accepted[self.lookedAt[0] :]
        started = self.started[self.lookedAt[1] :]
        self.lookedAt = [len(self.accepted), len(self.started)]
        for task in accepted:
            self.checkTurn("accepted", task)
        for task in started:
            if task.attempt == 1 and not task.cancelled:
                self.checkTurn("started", task)
            self.seen.add(("executed", id(task)))
            self.executions[task.ID] += 1

    def checkTurn(self, what: str, task: Task) -> None:
        """
        See that a call of the same series and niceness that was queued later has not gone before.
        """
        place = self.placeOf.get(task.ID)
        if place is None or (what, task.ID) in self.seen or (what == "started" and task.series is None):
            return
        self.seen.add((what, task.ID))
        last = self.lastOf.get((what, place), 0)
        assert last < task.ID, f"{what} call {task.ID} of {place} after call {last}"
        self.lastOf[what, place] = task.ID

    # Reactions

    def react(self, number: int, reaction: str, index: int) -> None:
        """
        Do something from within a callback.
        """
        if not self.reactionsLeft:
            return
        self.reactionsLeft -= 1
        try:
            self.reactTo(number, reaction, index)
        except Exception:  # nothing that is done from within a callback may raise; the machine is to notice
            self.errors.append(Failure())

    def reactTo(self, number: int, reaction: str, index: int) -> None:
        """
        Do what the reaction says.
        """
        queue = self.queue
        match reaction:
            case "call":
                self.submit({"series": (None, "a", "b")[index % 3]}, "nothing", 0)
            case "callNext":
                self.submit({"doNext": True}, "cancelOther", index)
            case "cancelOther":
                self.pick(self.calls, index).d.cancel()
            case "cancelSelf":
                self.calls[number].d.cancel()
            case "cancelAll":
                queue.cancelAll()
            case "cancelSeries":
                queue.cancelSeries("a")
            case "attach":
                self.attachMemory((), bool(index & 1))
            case "detach" | "detachCrashing" if self.workers:
                worker = self.pick(self.workers, index)
                crash = reaction == "detachCrashing"
                self.watch(queue.detachWorker(worker, bool(index & 1), crash), reaction)
            case "resign":
                self.resign(index)
            case "update":
                self.watch(queue.update(int, ephemeral=True), "update from a callback")
            case "report" if self.holders():
                worker = self.pick(self.holders(), index)
                self.settle(worker, worker.held[0], ("r", "from a callback"))
            case "shutdown":
                self.watch(queue.shutdown(), "shutdown from a callback")
            case "shutdownAtOnce":
                self.watch(queue.shutdown(drain=False, deadline=1), "shutdown at once from a callback")

    def submit(self, keywords: dict[str, Any], reaction: str, index: int, idempotent: bool = True) -> None:
        """
        Make a call. An L{AsyncWorker} really runs it, and then something happens within it.
        """
        number = len(self.calls)
        place = (keywords.get("series"), *(keywords.get(name) for name in ("niceness", "doNext", "doLast")))
        target: Any = self.queue
        if not idempotent:
            target = self.queue.options(idempotent=False, **keywords)
            keywords = {}
        d = target.call(partial(self.run, number, reaction, index), **keywords)
        fires = partial(self.react, number, reaction, index)
        # A call that is refused has fired by now, and its reaction would look for it in the list.
        call = Call(d, number)
        self.calls.append(call)
        if call.ID is not None:
            self.placeOf[call.ID] = place
        if call.fired:
            fires()
        else:
            call.reaction = fires

    def run(self, number: int, reaction: str, index: int) -> Any:
        """
        Be the function of a call, in the worker that runs in the reactor.
        """
        task = currentCall()
        assert task is not None
        self.started.append(task)
        kind = index % 6
        if kind == 0:
            self.react(number, reaction, index >> 3)
            return number
        if kind == 1:
            raise ValueError(f"call {number}")
        if kind in (2, 3):
            if kind == 3:
                self.react(number, reaction, index >> 3)
            d: Deferred[Any] = Deferred()
            self.arriving.append(d)
            return d
        return number

    # Calls

    @rule(
        series=anySeries,
        place=st.sampled_from(({}, {}, {}, {"niceness": -10}, {"niceness": 10}, {"doNext": True}, {"doLast": True})),
        timeout=st.sampled_from((None, None, None, 0, 1.0)),
        idempotent=st.sampled_from((True, True, True, False)),
        number=st.integers(1, 4),
        reaction=reactions,
        index=indices,
    )
    def call(
        self,
        series: Hashable,
        place: dict[str, Any],
        timeout: float | None,
        idempotent: bool,
        number: int,
        reaction: str,
        index: int,
    ) -> None:
        """
        Queue some calls.
        """
        for _ in range(number):
            keywords = {"series": series, "timeout": timeout, **place}
            self.submit(keywords, reaction, index, idempotent)

    @precondition(lambda self: self.calls)
    @rule(index=indices)
    def cancel(self, index: int) -> None:
        """
        Cancel a call, whether it has fired or not.
        """
        self.pick(self.calls, index).d.cancel()

    @precondition(lambda self: self.pendingCalls())
    @rule(index=indices)
    def cancelPending(self, index: int) -> None:
        """
        Cancel a call that has not fired.
        """
        call = self.pick(self.pendingCalls(), index)
        call.d.cancel()
        assert call.fired == 1

    @rule()
    def cancelAll(self) -> None:
        """
        Cancel what waits.
        """
        self.queue.cancelAll()

    @rule(series=anySeries)
    def cancelSeries(self, series: Hashable) -> None:
        """
        Cancel what waits of a series.
        """
        self.queue.cancelSeries(series)

    @rule(
        series=anySeries,
        ephemeral=st.booleans(),
        sequential=st.booleans(),
        timeout=st.sampled_from((None, None, 1.0)),
    )
    def update(self, series: Hashable, ephemeral: bool, sequential: bool, timeout: float | None) -> None:
        """
        Have all workers run a call.
        """
        d = self.queue.update(int, series=series, ephemeral=ephemeral, sequential=sequential, timeout=timeout)
        self.watch(d, "update")

    @rule(isCancelled=st.booleans())
    def ready(self, isCancelled: bool) -> None:
        """
        Wait for room.
        """
        watched = self.watch(self.queue.ready(), "ready")
        self.waitsForRoom.append(watched)
        if isCancelled:
            watched.d.cancel()

    # Workers

    def attach(self, worker: Any) -> None:
        """
        Attach a worker.
        """
        if len(self.queue) >= MAX_WORKERS:
            return
        self.workers.append(worker)
        if isinstance(worker, MemoryWorker):
            worker.started = self.accepted
            if isinstance(worker, ManagedMemoryWorker):
                worker.begun = self.started
        attached = self.watch(self.queue.attachWorker(worker), f"attach {type(worker).__name__}")
        if isinstance(attached.value, QueueClosed):
            self.workers.remove(worker)

    @rule(series=someSeries, overlaps=st.booleans())
    def attachMemory(self, series: tuple[str, ...], overlaps: bool) -> None:
        """
        Attach a worker of the documented kind.
        """
        self.attach(MemoryWorker(series, overlaps=overlaps))

    @rule(series=someSeries, capacity=st.integers(1, 4))
    def attachManaged(self, series: tuple[str, ...], capacity: int) -> None:
        """
        Attach a worker that the queue manages.
        """
        self.attach(ManagedMemoryWorker(series, capacity))

    @rule(series=someSeries)
    def attachAsync(self, series: tuple[str, ...]) -> None:
        """
        Attach a worker that runs calls in the reactor.
        """
        self.attach(JournalWorker(series, self.clock, self.accepted))

    @precondition(lambda self: self.workers)
    @rule(index=indices, reassign=st.booleans(), crash=st.booleans())
    def detach(self, index: int, reassign: bool, crash: bool) -> None:
        """
        Detach a worker, which may have gone before.
        """
        self.watch(self.queue.detachWorker(self.pick(self.workers, index), reassign, crash), "detach")

    @precondition(lambda self: self.workers)
    @rule(index=indices, series=st.sampled_from(("a", "b")))
    def qualify(self, index: int, series: str) -> None:
        """
        Qualify a worker for a series.
        """
        worker = self.pick(self.workers, index)
        if worker in self.queue.workers():
            self.queue.qualifyWorker(worker, series)

    @precondition(lambda self: self.holders())
    @rule(index=indices)
    def resign(self, index: int) -> None:
        """
        Have a worker resign.
        """
        workers = [worker for worker in self.workers if isinstance(worker, MemoryWorker)]
        if workers:
            self.pick(workers, index).resign()

    @rule(index=indices, capacity=st.integers(0, 4))
    def setCapacity(self, index: int, capacity: int) -> None:
        """
        Change how much a worker may hold.
        """
        workers = [worker for worker in self.workers if isinstance(worker, ManagedMemoryWorker)]
        if workers:
            worker = self.pick(workers, index)
            self.limits[worker] = max(len(worker.held), capacity)
            worker.setCapacity(capacity)

    @rule(index=indices, unfitness=st.sampled_from(("", "has had enough")))
    def setFitness(self, index: int, unfitness: str) -> None:
        """
        Have a worker become unfit, or fit again.
        """
        workers = [worker for worker in self.workers if isinstance(worker, ManagedMemoryWorker)]
        if workers:
            self.pick(workers, index).setFitness(unfitness)

    @precondition(lambda self: self.plainHolders())
    @rule(index=indices)
    def getReady(self, index: int) -> None:
        """
        Have a worker say that it is ready, though it has reported nothing.
        """
        worker = self.pick(self.plainHolders(), index)
        self.limits[worker] = self.limits.get(worker, 1) + 1
        worker.getReady()

    # Outcomes

    @precondition(lambda self: self.holders())
    @rule(index=indices, outcome=st.sampled_from(OUTCOMES), isFirst=st.booleans(), times=st.sampled_from((1, 1, 1, 2)))
    def report(self, index: int, outcome: Any, isFirst: bool, times: int) -> None:
        """
        Have a worker report an outcome, perhaps twice.
        """
        worker = self.pick(self.holders(), index)
        task = worker.held[0] if isFirst else self.pick(worker.held, index >> 8)
        self.settle(worker, task, outcome)
        for _ in range(times - 1):
            task.callback(("r", "once more"))

    @precondition(lambda self: self.holders())
    @rule(index=indices, status=st.sampled_from(("r", "c", b"c")))
    def reportLater(self, index: int, status: Any) -> None:
        """
        Have a worker report a value that is still arriving.
        """
        worker = self.pick(self.holders(), index)
        d: Deferred[Any] = Deferred()
        self.arriving.append(d)
        self.settle(worker, worker.held[0], (status, d))

    @precondition(lambda self: self.holders())
    @rule(number=st.integers(1, 8))
    def reportAll(self, number: int) -> None:
        """
        Have workers report results.
        """
        for _ in range(number):
            for worker in self.holders():
                if worker.held:
                    self.settle(worker, worker.held[0], ("r", None))

    @precondition(lambda self: self.accepted)
    @rule(index=indices, outcome=st.sampled_from(OUTCOMES))
    def reportLate(self, index: int, outcome: Any) -> None:
        """
        Report an outcome of an attempt that has had one, or has been given up with its worker.
        """
        here = [task for worker in self.holders() for task in worker.held]
        for worker in self.workers:
            if isinstance(worker, JournalWorker):
                here += worker.mine
        late = [task for task in self.accepted if task not in here]
        if late:
            self.pick(late, index).callback(outcome)

    @precondition(lambda self: self.arriving)
    @rule(index=indices, fails=st.sampled_from((None, None, ValueError("arrived"), SystemExit(3))))
    def arrive(self, index: int, fails: BaseException | None) -> None:
        """
        Have a value arrive.
        """
        d = self.arriving.pop(index % len(self.arriving))
        if d.called:
            return
        if fails is None:
            d.callback("arrived")
        else:
            d.errback(Failure(fails))

    # Time

    @rule(seconds=st.sampled_from((0, 0, 0.002, 0.5, 1.0, 3.0)))
    def advance(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.clock.advance(seconds)

    @rule()
    def stall(self) -> None:
        """
        Let workers report nothing for so long that what they have not started is recalled.
        """
        self.clock.pump(STALLS)

    @precondition(lambda self: len(self.calls) > 10)
    @rule(drain=st.booleans(), deadline=st.sampled_from((None, 0, 1.0)))
    def shutdown(self, drain: bool, deadline: float | None) -> None:
        """
        Shut the queue down, perhaps once more.
        """
        self.watch(self.queue.shutdown(drain, deadline), "shutdown")

    # What holds at any time

    @invariant()
    def everythingHolds(self) -> None:
        """
        The counts are consistent, and the promises are kept.
        """
        self.noteStarts()
        self.checkCounts()
        self.checkExecutions()
        self.checkOrder()
        self.checkAlone()
        self.checkHolders()
        self.checkNobodyIdles()
        self.checkRoom()
        assert not self.errors, self.errors

    def checkCounts(self) -> None:
        """
        Each call is where the queue says that it is.
        """
        found = self.queue.statistics()
        outstanding = self.queue.outstanding()
        assert found.submitted == found.settled + len(outstanding), found
        assert found.submitted == found.queued + found.running + found.settled, found
        assert found.settled == found.succeeded + found.failed + found.cancelled, found
        assert min(found.queued, found.running, found.succeeded, found.failed, found.cancelled) >= 0, found
        IDs = {each.ID for each in outstanding}
        for watched in (*self.calls, *self.others):
            assert watched.fired <= 1, watched
        for call in self.calls:
            if call.ID is not None:
                assert (call.ID in IDs) is not bool(call.fired), call

    def checkExecutions(self) -> None:
        """
        No call is executed more often than it may be.
        """
        for ID, number in self.executions.items():
            assert number <= MAX_EXECUTIONS, f"call {ID} was executed {number} times"

    def checkOrder(self) -> None:
        """
        The calls of a series that have not been started are with one worker, in the order in which they were queued.
        """
        for series in ("a", "b"):
            waiting = [
                [
                    task.ID
                    for task in worker.held[1:]
                    if task.series == series and not task.cancelled and not task.options.alone
                ]
                for worker in self.workers
                if isinstance(worker, ManagedMemoryWorker)
            ]
            waiting = [IDs for IDs in waiting if IDs]
            assert len(waiting) <= 1, f"calls of series {series} wait with several workers: {waiting}"

    def checkAlone(self) -> None:
        """
        An attempt that is to be alone is: but for those that nobody waits for, in a worker that takes others beside.
        """
        for worker in self.workers:
            if isinstance(worker, MemoryWorker) and len(worker.held) > 1:
                counted = [
                    task for task in worker.held if isinstance(worker, ManagedMemoryWorker) or not task.cancelled
                ]
                alone = [task for task in counted if task.priority == ALONE and not task.cancelled]
                assert not alone or len(counted) == 1, f"{alone} alone among {worker.held}"

    def checkHolders(self) -> None:
        """
        No worker has more than it can take, or what it is not qualified for.
        """
        for worker in self.workers:
            if not isinstance(worker, MemoryWorker):
                continue
            if isinstance(worker, ManagedMemoryWorker):
                limit = self.limits[worker] = max(worker.capacity, min(self.limits.get(worker, 0), len(worker.held)))
            else:
                limit = self.limits.get(worker, 1)
            assert worker._overlaps or len(worker.held) <= limit, f"{worker} has {worker.held}, and room for {limit}"
            for task in worker.held:
                assert task.series is None or task.series in worker.iQualified, f"{worker} has {task}"

    def checkNobodyIdles(self) -> None:
        """
        No worker has nothing to do while a call waits that it could run, and that need not wait for others of its
        series.
        """
        if any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            return
        found = self.queue.statistics()
        known = list(zip(self.queue.workers(), found.workers, strict=True))
        idle = [
            worker
            for worker, its in known
            if its.state == "active" and isinstance(worker, MemoryWorker) and not worker.held
            if getattr(worker, "capacity", 1)
        ]
        busySeries: set[Hashable] = {task.series for worker in self.holders() for task in worker.held}
        for worker, its in known:
            if isinstance(worker, AsyncWorker) and its.running:
                busySeries.update(worker.iQualified)
        for series, band, number in found.lanes:
            if series is None or series not in busySeries:
                for worker in idle:
                    isQualified = series is None or series in worker.iQualified
                    assert not isQualified, f"{number} calls wait as {band} of {series}, and {worker} is idle"

    def checkRoom(self) -> None:
        """
        Nobody waits for room that there is.
        """
        waiting = sum(number for _, _, number in self.queue.statistics().lanes)
        if self.maxPending is None or waiting < self.maxPending:
            for watched in self.waitsForRoom:
                assert watched.fired, f"{watched}, and {waiting} calls wait"

    # The end

    def teardown(self) -> None:
        """
        Shut down; then nothing is left.
        """
        try:
            if sys.exc_info()[0] is None:
                self.end()
        finally:
            observer: Any = self.observe
            globalLogPublisher.removeObserver(observer)

    def end(self) -> None:
        """
        Shut down, and let everything come to its end, or time be up.
        """
        if self.isPatient:
            self.watch(self.queue.shutdown(), "the last shutdown")
            self.runEverything()
        else:
            self.watch(self.queue.shutdown(deadline=5.0), "the last shutdown")
            self.clock.advance(5.0)
            self.clock.advance(0)
        self.everythingHolds()
        for watched in (*self.calls, *self.others):
            assert watched.fired == 1, watched
        assert self.queue.outstanding() == []
        assert len(self.queue) == 0
        assert [str(call) for call in self.clock.getDelayedCalls()] == []
        for task in self.accepted:
            task.callback(("r", "after the end"))
        self.calls.clear()
        self.others.clear()
        gc.collect()
        assert not self.errors, self.errors

    def runEverything(self) -> None:
        """
        Have workers do what they are given, until all is done.
        """
        for worker in self.workers:
            if isinstance(worker, ManagedMemoryWorker) and not worker.capacity:
                worker.setCapacity(1)
        for _ in range(1000):
            if not len(self.queue) and not self.queue.outstanding():
                break
            for worker in self.holders():
                if worker.held:
                    self.settle(worker, worker.held[0], ("r", None))
            while self.arriving:
                d = self.arriving.pop()
                if not d.called:
                    d.callback(None)
            self.clock.advance(0.005)
        else:
            raise AssertionError(f"{self.queue.outstanding()} wait for ever: {self.queue.statistics()}")
        self.clock.advance(0)


class QueueTests(SynchronousTestCase):
    """
    A queue keeps its promises.
    """

    def setUp(self) -> None:
        """
        Let the collector look at nothing that has been there before, since it is to look often.
        """
        gc.collect()
        gc.freeze()
        self.addCleanup(gc.unfreeze)

    def test_queue(self) -> None:
        """
        Calls, outcomes and workers come and go.
        """
        try:
            run_state_machine_as_test(QueueMachine, settings=SETTINGS)
        except Exception as error:  # trial does not show the notes, which say what to do to see it again
            self.fail("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
        # The machine has looked at them.
        self.flushLoggedErrors()
