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

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.calls import CallDeferred
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.errors import (
    ImplementationError,
    TimeoutError,
    WorkerError,
    WorkerHung,
)
from asynqueue.hires import Hire, HireState
from asynqueue.ledger import TURN, Ledger
from asynqueue.lookahead import LookAhead
from asynqueue.scheduling.backlog import Backlog
from asynqueue.scheduling.lanes import ALONE, Lane
from asynqueue.tasks import Attempt
from asynqueue.verdicts import Again, Policy, callOf, verdict

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How often in a row a worker may break its contract before it gets no more tasks.
MAX_STRIKES = 3

_ERRORS = (("e",), (b"e",))


class Dispatcher:
    """
    Matches calls with workers.

    @ivar ledger: The calls.
    @ivar backlog: Those of them that wait.
    @ivar hires: The workers, by ID.
    @ivar lookAhead: Cares for what workers hold and have not started.
    @ivar isOpen: Whether calls are accepted.
    @ivar onChange: Called whenever the number of waiting calls has changed otherwise than by a new call.
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
        self.onChange: Callable[[], object] | None = None
        self.onHiresChange: Callable[[], object] | None = None
        self.onFit: Callable[[Hire], object] | None = None
        self.clock = clock
        self._givenMonotonic = monotonicClock
        self._isDispatching = False
        self._turn: IDelayedCall | None = None
        self._waits: dict[int, Deadline] = {}
        self._acceptances: dict[int, Deferred[Any]] = {}
        self._parked: set[Any] = set()

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
        self.ledger.admit(entry)
        self.backlog.push(entry, entry.band)
        if not self._isDispatching:
            self.dispatch()
        lane = entry.lane
        if lane is not None and lane.heaps == ():
            self._nobodyServes(entry)

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

    def _nobodyServes(self, entry: CallDeferred[Any]) -> None:
        """
        Tell, once a series, that a call has to wait for a worker to come; or refuse it if all there are have hung.
        """
        unfit = [hire for hire in self.hires.values() if hire.state is HireState.UNFIT]
        if any(hire.isQualified(entry.series) for hire in unfit):
            self.backlog.discard(entry)
            self._settle(entry, Failure(self._hung(entry)))
        elif entry.series not in self._parked and (self.hires or entry.series is not None):
            self._parked = {series for series in self._parked if self.backlog.lanesOf(series)} | {entry.series}
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
        return WorkerHung(f"{callOf(entry)} cannot be run: {'; '.join(why)}")

    def cancel(self, entry: CallDeferred[Any]) -> None:
        """
        Settle a call with C{CancelledError}, wherever it stands, and tell the worker that has it.
        """
        failure = Failure(CancelledError(f"{callOf(entry)} was cancelled"))
        task = entry.current
        if task is not None:
            self.abandon(task)
            self._settle(entry, failure)
            self._stopWorking(task)
        else:
            if entry.lane is not None:
                if entry.lane.heaps is None:
                    self.ledger.condemned -= 1
                self.backlog.discard(entry)
            for hire in self.hires.values():
                if entry.options.alone and entry in hire.updates:
                    hire.updates.remove(entry)
            self._settle(entry, failure)
        if self.onChange is not None:
            self.onChange()

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

    def _settle(self, entry: CallDeferred[Any], value: Any) -> None:
        if self._waits:
            wait = self._waits.pop(entry.ID, None)
            if wait is not None:
                wait.stop()
        self.ledger.settle(entry, value)

    # Dispatch

    def dispatch(self) -> None:
        """
        Match calls with workers until there is no match, or the turn is over.
        """
        # Hot path, watched by `bench --only reactor`.
        if self._isDispatching:
            return
        self._isDispatching = True
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
            self._isDispatching = False
        if number and self.onChange is not None:
            self.onChange()

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
        if task.attempt > 1:
            self._isRerun(entry, hire)
        hire.tasks[task] = None
        hire.held += 1
        if self._acceptances:
            accepted = self._acceptances.pop(entry.ID, None)
            if accepted is not None:
                accepted.callback(hire.ID)
        timeout = entry.options.timeout
        if timeout is not None:
            task.deadline = self.deadline(timeout, task.timedout)
        if not hire.managed:
            self._run(hire, task)
            return
        if hire.held > 1 or entry.series is not None:
            self.lookAhead.given(hire, task)
        worker = hire.worker
        try:
            worker.accept(task)
        except Exception:  # a worker may be anybody's; what it raises costs the task, not the queue
            self._broken(hire, task, Failure(), "raised an exception when it was given")
            return
        if hire.held < worker.capacity and not hire.exclusive:
            self.roomAt(hire)

    def _isRerun(self, entry: CallDeferred[Any], hire: Hire) -> None:
        self.ledger.reruns += 1
        if self._waits:
            wait = self._waits.pop(entry.ID, None)
            if wait is not None:
                wait.stop()
        hire.exclusive = entry.band == ALONE

    def _run(self, hire: Hire, task: Attempt) -> None:
        """
        Give a task to a worker that is not managed.
        """
        hire.ready = False
        try:
            ready = hire.worker.run(task)
        except Exception:  # a worker may be anybody's; what it raises costs the task, not the queue
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
                self._forget(hire, task)
            self.roomAt(hire)
            self.dispatch()

    def _forget(self, hire: Hire, task: Attempt) -> None:
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
            self.report(task, ("x", error))
        hire.strikes = strikes
        if strikes >= MAX_STRIKES and hire.state is HireState.ACTIVE:
            self.setUnfit(hire, f"has broken its contract {strikes} times in a row")

    def close(self) -> None:
        """
        Let go of all timers, when nothing is left to be done.
        """
        self.lookAhead.close()
        self.ledger.close()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
        for wait in self._waits.values():
            wait.stop()
        self._waits.clear()

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
        stranded = [lane for lane in self.backlog.unserved() if hire.isQualified(lane.family.series)]
        self.cancelLanes(stranded, lambda entry: WorkerHung(f"{callOf(entry)} cannot be run: {hire.name} {why}"))
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

    # Outcomes

    def report(self, task: Attempt, statusResult: Any) -> None:
        """
        Take the outcome of an attempt. One that comes late, or twice, is dropped and counted.
        """
        # Hot path, watched by `bench --only reactor`.
        hire = task.hire
        entry = task.entry
        task.hire = None
        if hire is not None:
            hire.tasks.pop(task, None)
            hire.finished += 1
            hire.strikes = 0
            if hire.pins:
                self.lookAhead.release(hire, task)
        if entry.current is not task or task.arriving is not None:
            self._dropLate(statusResult)
        elif type(statusResult) is tuple and len(statusResult) == 2 and statusResult[0] == "r":
            self._deliver(entry, task, statusResult[1])
        else:
            self._judge(entry, task, statusResult)
        if hire is not None and hire.state is not HireState.GONE:
            hire.held -= 1
            hire.exclusive = False
            if hire.managed or hire.ready:
                self.roomAt(hire)
            if not self._isDispatching:
                self.dispatch()

    def _dropLate(self, statusResult: Any) -> None:
        """
        Drop the outcome of an attempt that is over.
        """
        letter, value = statusResult if isinstance(statusResult, tuple) and len(statusResult) == 2 else ("?", None)
        if letter not in ("k", b"k"):
            self.ledger.late += 1
        if isinstance(value, Deferred):
            value.addErrback(lambda failure: None)
            value.cancel()

    def _judge(self, entry: CallDeferred[Any], task: Attempt, statusResult: Any) -> None:
        try:
            value = verdict(entry, task, statusResult, self.policy)
        except Exception:  # an error policy may be anybody's; the call must be settled whatever it raises
            value = Failure()
        if isinstance(statusResult, tuple) and statusResult[:1] in _ERRORS and not isinstance(value, Failure):
            # The error policy has made a value of it.
            self.ledger.failed += 1
        if isinstance(value, Again):
            self.abandon(task)
            self.requeue(entry, value.band, value.isTimed)
        else:
            self._deliver(entry, task, value)

    def _deliver(self, entry: CallDeferred[Any], task: Attempt, value: Any) -> None:
        """
        Settle a call with the value of its current attempt, as soon as that is there.
        """
        # Hot path, watched by `bench --only reactor`.
        if isinstance(value, Deferred):
            task.arriving = value
            value.addBoth(self._arrived, entry, task)
            return
        if task.deadline is not None:
            task.deadline.stop()
            task.deadline = None
        self._settle(entry, value)

    def _arrived(self, value: Any, entry: CallDeferred[Any], task: Attempt) -> None:
        """
        Take the value that an attempt's outcome promised. Errors are those of the call.
        """
        if entry.current is not task:
            return
        if isinstance(value, Failure):
            task.arriving = None
            self._judge(entry, task, ("k", None) if value.check(CancelledError) else ("e", value))
        else:
            self._deliver(entry, task, value)

    def requeue(self, entry: CallDeferred[Any], band: int, isTimed: bool = False) -> None:
        """
        Let a call wait again, ahead of those that have not been given to a worker yet.

        @param isTimed: Only for as long as its timeout.
        """
        entry.current = None
        entry.band = band
        self.backlog.push(entry, band)
        timeout = entry.options.timeout
        if isTimed and timeout is not None:
            self._waits[entry.ID] = self.deadline(timeout, lambda: self._waitedTooLong(entry))
        lane = entry.lane
        if lane is not None and lane.heaps == ():
            self._nobodyServes(entry)
        if self.onChange is not None:
            self.onChange()
        if self.onHiresChange is not None:
            # A call may have come back that nobody who is still here can run.
            self.onHiresChange()

    def _waitedTooLong(self, entry: CallDeferred[Any]) -> None:
        del self._waits[entry.ID]
        if entry.lane is not None and entry.lane.heaps is not None:
            self.backlog.discard(entry)
            self.ledger.settle(
                entry,
                Failure(
                    TimeoutError(
                        f"{callOf(entry)}: no worker took it for its re-run within {entry.options.timeout:g} s; "
                        + "; ".join(text for _, text in entry.history)
                    )
                ),
            )
            if self.onChange is not None:
                self.onChange()

    def timedOut(self, task: Attempt) -> None:
        """
        End an attempt whose time is up.
        """
        entry = task.entry
        self.abandon(task)
        self._judge(entry, task, ("t", None))
        self._stopWorking(task)
        self.dispatch()

    def abandon(self, task: Attempt) -> None:
        """
        Note that nobody waits for the outcome of an attempt any more.
        """
        task.cancelled = True
        if task.deadline is not None:
            task.deadline.stop()
            task.deadline = None

    def _stopWorking(self, task: Attempt) -> None:
        if task.arriving is not None:
            task.arriving.cancel()
        hire = task.hire
        if hire is None:
            return
        if not hire.managed:
            if hire.ready:
                self._forget(hire, task)
        else:
            try:
                hire.worker.cancel(task)
            except Exception:  # a worker may be anybody's; the call is settled already
                self.log.failure(
                    "{worker} raised an exception when told to cancel {task!r}", worker=hire.name, task=task
                )
