"""
The dispatcher: gives calls of the ledger to hired workers, and takes their outcomes.

Data flow::

    submit -> Ledger.admit -> Backlog.push --+
                                             |  Backlog.match
    worker has room -> Backlog.offer --------+-------> _assign -> worker.accept or worker.run
                                                                        |
    Deferred fires <- Ledger.settle <- verdict <- report <- task.callback
                       (or Backlog.push again)      |
                                                    +-> the worker has room

One loop matches what there is, in L{Dispatcher.dispatch}; whatever happens while it runs only leaves its mark in the
backlog, so that nothing recurses.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.calls import CallDeferred
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.errors import (
    ImplementationError,
    WorkerError,
    WorkerHung,
)
from asynqueue.forks import closeInForks
from asynqueue.hires import Hire, HireState
from asynqueue.ledger import TURN, Ledger
from asynqueue.lookahead import LookAhead
from asynqueue.options import DEFAULT_OPTIONS
from asynqueue.outcomes import Outcomes
from asynqueue.scheduling.backlog import Backlog
from asynqueue.scheduling.lanes import ALONE, Lane
from asynqueue.streams import Streams
from asynqueue.tasks import Attempt
from asynqueue.verdicts import Policy, callOf

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How often in a row a worker may break its contract before it gets no more tasks.
MAX_STRIKES = 3


class Dispatcher:
    """
    Matches calls with workers.

    @ivar ledger: The calls.
    @ivar backlog: Those of them that wait.
    @ivar hires: The workers, by ID.
    @ivar lookAhead: Cares for what workers hold and have not started.
    @ivar outcomes: Takes what workers report.
    @ivar streams: Takes what they report to be iterators.
    @ivar isOpen: Whether calls are accepted.
    @ivar onChange: Called whenever the number of waiting calls has changed otherwise than by a new call.
    @ivar onClose: Called once no more calls are accepted.
    @ivar onFit: Called with each worker that has become fit again.
    @ivar onHiresChange: Called whenever the workers or their qualifications have changed.
    """

    log = Logger()

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], IReactorTime],
        monotonicClock: Callable[[], float] | None = None,
    ) -> None:
        self.policy = policy
        self.ledger = Ledger(clock)
        self.backlog = Backlog()
        self.hires: dict[int, Hire] = {}
        self.isOpen = True
        self.lookAhead = LookAhead(self)
        self.outcomes = Outcomes(self)
        self.streams = Streams(self)
        self.onChange: Callable[[], object] | None = None
        self.onHiresChange: Callable[[], object] | None = None
        self.onFit: Callable[[Hire], object] | None = None
        self.onClose: Callable[[], object] | None = None
        self.clock = clock
        self._givenMonotonic = monotonicClock
        self.isDispatching = False
        self._isMissed = False
        self._turn: IDelayedCall | None = None
        self._acceptances: dict[int, Deferred[Any]] = {}
        self._parked: set[Any] = set()
        self._parkedLimit = 64
        closeInForks(self)

    # Time

    def deadline(self, seconds: float, func: Callable[[], object]) -> Deadline:
        """
        Have a function called when a number of seconds has passed.
        """
        clock = self.clock()
        return Deadline(clock, self._givenMonotonic or monotonicOf(clock), seconds, func)

    # Calls

    def submit(self, entry: CallDeferred[Any]) -> None:
        """
        Accept a call and give it to a worker, if one has room for it.
        """
        # Hot path, watched by `bench --only reactor`.
        backlog = self.backlog
        seat = None if backlog.waiting or self.isDispatching else backlog.seatAtOnce(entry.series)
        if seat is not None:
            self.ledger.admit(entry)
            if seat.group is not None:
                self._assignNow(cast(Hire, seat), entry)
                if self.backlog.waiting:
                    # The worker has given it back, or its outcome has led to other calls.
                    self.dispatch()
                return
            # Somebody who was told the load has dismissed the worker.
            backlog.push(entry, entry.band)
        else:
            # The series is foreign, and may raise when it is compared; then the call has not been accepted.
            backlog.push(entry, entry.band)
            self.ledger.admit(entry)
        if backlog.isOffered() or self.isDispatching:
            self.dispatch()
        lane = entry.lane
        if lane is not None and lane.heaps == ():
            self.nobodyServes(entry)

    def whenAssigned(self, entry: CallDeferred[Any]) -> Deferred[Any]:
        """
        Wait until a call is given to a worker.

        @return: Fires with the worker's ID, or with C{None} if the call is settled before.
        """
        accepted: Deferred[Any] = Deferred()
        self._acceptances[entry.ID] = accepted
        entry.addBoth(self._settledFirst, entry.ID)
        return accepted

    def _settledFirst(self, result: Any, ID: int) -> Any:
        accepted = self._acceptances.pop(ID, None)
        if accepted is not None:
            accepted.callback(None)
        return result

    def nobodyServes(self, entry: CallDeferred[Any]) -> None:
        """
        Tell, once a series, that a call has to wait for a worker to come; or refuse it if all there are have hung.
        """
        unfit = [hire for hire in self.hires.values() if hire.state is HireState.UNFIT]
        if any(hire.isQualified(entry.series) for hire in unfit):
            self.backlog.discard(entry)
            self.outcomes.settle(entry, Failure(self._hung(entry)))
        elif self.hires and entry.series not in self._parked:
            self._parked.add(entry.series)
            if len(self._parked) > self._parkedLimit:
                self._parked = {series for series in self._parked if self.backlog.lanesOf(series)}
                self._parkedLimit = 2 * len(self._parked) + 64
            self.log.warn(
                "No attached worker is qualified for series {series!r}: its calls wait until one is.",
                series=entry.series,
            )

    def _hung(self, entry: CallDeferred[Any]) -> WorkerError:
        why = [
            f"{hire.name} {hire.unfitness}"
            for hire in self.hires.values()
            if hire.state is HireState.UNFIT and hire.isQualified(entry.series)
        ]
        kinds = {hire.unfitnessKind for hire in self.hires.values() if hire.state is HireState.UNFIT}
        kind = kinds.pop() if len(kinds) == 1 else WorkerHung
        return kind(f"{callOf(entry)} cannot be run: {'; '.join(why)}")

    def cancelLanes(self, lanes: list[Lane], reason: Callable[[CallDeferred[Any]], BaseException]) -> int:
        """
        Take whole lanes out of the backlog, and settle their calls over the next turns.

        @return: How many calls that is.
        """
        number = self.backlog.remove(lanes)
        self.ledger.condemn(lanes, reason)
        if number and self.onChange is not None:
            self.onChange()
        return number

    # Dispatch

    def freed(self, hire: Hire) -> None:
        """
        Give a worker that has come to the end of a task what is best for it now. Nothing else must have changed.
        """
        # Hot path, watched by `bench --only reactor`: what L{dispatch} would do, for one worker, as long as none waits.
        if not self.isDispatching and hire.state is HireState.ACTIVE and not hire.updates and hire.hasRoom():
            entry = self.backlog.serve(hire)
            if entry is not None:
                self._assignNow(hire, cast("CallDeferred[Any]", entry))
                if self.onChange is not None:
                    self.onChange()
                if hire.offered is None and not self._isMissed:
                    return
                self._isMissed = False
        elif hire.managed or hire.ready:
            self.roomAt(hire)
        self.dispatch()

    def dispatch(self) -> None:
        """
        Match calls with workers until there is no match, or the turn is over.
        """
        # Hot path, watched by `bench --only reactor`.
        if self.isDispatching:
            self._isMissed = True
            return
        self.isDispatching = True
        backlog = self.backlog
        number = 0
        until = 0.0
        try:
            while (pair := backlog.match()) is not None:
                self._assign(cast(Hire, pair[0]), cast("CallDeferred[Any]", pair[1]))
                number += 1
                if not number & 31:
                    if not until:
                        until = monotonic() + TURN
                    elif monotonic() > until:
                        self._dispatchLater()
                        break
        finally:
            self.isDispatching = False
        if number and self.onChange is not None:
            self.onChange()

    def _assignNow(self, hire: Hire, entry: CallDeferred[Any]) -> None:
        """
        Give a call to a worker, outside of the loop.
        """
        self.isDispatching = True
        try:
            self._assign(hire, entry)
        finally:
            self.isDispatching = False

    def _dispatchLater(self) -> None:
        if self._turn is None:
            self._turn = self.clock().callLater(0, self._dispatchNow)

    def _dispatchNow(self) -> None:
        self._turn = None
        self.dispatch()

    def _assign(self, hire: Hire, entry: CallDeferred[Any]) -> None:
        """
        Give a call to a worker.
        """
        # Hot path, watched by `bench --only reactor`.
        task = Attempt(entry, hire)
        entry.current = task
        hire.tasks[task] = None
        hire.held += 1
        try:
            if task.attempt > 1:
                self._isRerun(entry, hire)
            if self._acceptances:
                accepted = self._acceptances.pop(entry.ID, None)
                if accepted is not None:
                    accepted.callback(hire.ID)
            if entry.options is not DEFAULT_OPTIONS:
                self._startTimer(entry, task, hire)
            if not hire.managed:
                self._run(hire, task)
                return
            if hire.held > 1 or entry.series is not None:
                self.lookAhead.given(hire, task)
            worker = hire.worker
            worker.accept(task)
            if hire.held < worker.capacity and not hire.exclusive:
                self.roomAt(hire)
        except Exception:  # whatever a worker or a clock, which may be anybody's, raises, the call must be settled
            self._broken(hire, task, Failure(), "raised an exception when it was given")

    def _startTimer(self, entry: CallDeferred[Any], task: Attempt, hire: Hire) -> None:
        options = entry.options
        timeout = options.timeout
        limit = None
        if not hire.keepsTimeLimits:
            limit = options.softTimeLimit if options.timeLimit is None else options.timeLimit
        if limit is not None and (timeout is None or limit <= timeout):
            task.deadline = self.deadline(limit, lambda: self.outcomes.limitReached(task, limit))
        elif timeout is not None:
            task.deadline = self.deadline(timeout, task.timedout)

    def _isRerun(self, entry: CallDeferred[Any], hire: Hire) -> None:
        self.ledger.reruns += 1
        self.outcomes.stopWaiting(entry)
        hire.exclusive = entry.band == ALONE

    def _run(self, hire: Hire, task: Attempt) -> None:
        """
        Give a task to a worker that is not managed.
        """
        hire.ready = False
        try:
            ready = hire.worker.run(task)
        except BaseException:  # even the SystemExit of a call that it let out costs the task, not the queue
            self._broken(hire, task, Failure(), "raised an exception when it was given")
            hire.ready = True
            self.roomAt(hire)
            return
        if not isinstance(ready, Deferred):
            failure = Failure(ImplementationError(f"run() of {hire.worker!r} returned {ready!r}, which is no Deferred"))
            self._broken(hire, task, failure, "broke its contract for")
            hire.ready = True
            self.roomAt(hire)
            return
        ready.addCallbacks(self._ready, self._unready, (hire,), {}, (hire, task), {})

    def _ready(self, _: object, hire: Hire) -> None:
        if not hire.ready:
            hire.ready = True
            for task in [task for task in hire.tasks if task.cancelled]:
                self.forget(hire, task)
            self.roomAt(hire)
            self.dispatch()

    def forget(self, hire: Hire, task: Attempt) -> None:
        """
        Count an attempt that is over as gone from a worker that has said it is ready for more.
        """
        if hire.tasks.pop(task, 0) is None:
            hire.held -= 1
            task.hire = None
            self.roomAt(hire)

    def _unready(self, failure: Failure, hire: Hire, task: Attempt) -> None:
        self._broken(hire, task, failure, "failed to get ready after")
        self._ready(None, hire)

    def _broken(self, hire: Hire, task: Attempt, failure: Failure, what: str) -> None:
        """
        Bear with a worker that has broken its contract: its task fails, and after a number of times it gets no more.
        """
        strikes = hire.strikes + 1
        self.log.failure("{worker} {what} {task!r}", failure=failure, worker=hire.name, what=what, task=task)
        if task.hire is not None:
            error = WorkerError(f"{hire.name} {what} {callOf(task.entry)}: {failure.getErrorMessage()}")
            error.original = failure.value
            error.__cause__ = failure.value
            self.outcomes.report(task, ("x", error))
        hire.strikes = strikes
        if strikes >= MAX_STRIKES and hire.state is HireState.ACTIVE:
            self.setUnfit(hire, f"has broken its contract {strikes} times in a row")

    def close(self) -> None:
        """
        Let go of all timers, when nothing is left to be done.
        """
        self.lookAhead.close()
        self.ledger.close()
        self.streams.close()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
        self.outcomes.close()

    # Fitness

    def attend(self, hire: Hire) -> None:
        """
        Take note of what a managed worker says of its room and its fitness.
        """
        unfitness = hire.worker.unfitness
        if unfitness and hire.state is HireState.ACTIVE:
            self.setUnfit(hire, unfitness)
        elif not unfitness and hire.state is HireState.UNFIT:
            hire.state = HireState.ACTIVE
            hire.unfitness = ""
            self.seat(hire)
            if self.onFit is not None:
                self.onFit(hire)
        self.roomAt(hire)
        self.dispatch()

    def setUnfit(self, hire: Hire, why: str) -> None:
        """
        Give no more tasks to a worker. Calls that nobody else could run fail.
        """
        hire.state = HireState.UNFIT
        hire.unfitness = why
        self.log.warn("{worker} gets no more tasks: it {why}", worker=hire.name, why=why)
        self.lookAhead.forget(hire)
        self.backlog.unseat(hire)
        self.lookAhead.recall(hire)
        while hire.updates:
            entry = hire.updates.popleft()
            self.outcomes.settle(
                entry, Failure(hire.unfitnessKind(f"{callOf(entry)} cannot be run: {hire.name} {why}"))
            )
        stranded = [lane for lane in self.backlog.unserved() if hire.isQualified(lane.family.series)]
        self.cancelLanes(
            stranded, lambda entry: hire.unfitnessKind(f"{callOf(entry)} cannot be run: {hire.name} {why}")
        )
        self.dispatch()

    def seat(self, hire: Hire) -> None:
        """
        Let a worker serve, by its present qualifications.
        """
        self.backlog.seat(hire, hire.qualifications)
        self._parked = {series for series in self._parked if not hire.isQualified(series)}
        self.roomAt(hire)
        self.dispatch()

    def roomAt(self, hire: Hire) -> None:
        """
        Use the room that a worker has: for an update first.
        """
        # Hot path, watched by `bench --only reactor`.
        while hire.updates and hire.hasRoom() and hire.state in (HireState.JOINING, HireState.ACTIVE):
            self.backlog.withdraw(hire)
            self._assign(hire, hire.updates.popleft())
        if hire.state is not HireState.ACTIVE:
            return
        if hire.hasRoom():
            self.backlog.offer(hire)
        elif hire.offered is not None:
            self.backlog.withdraw(hire)


def _unfitError(entry: CallDeferred[Any], hire: Hire, why: str) -> WorkerError:
    return hire.unfitnessKind(f"{callOf(entry)} cannot be run: {hire.name} {why}")
