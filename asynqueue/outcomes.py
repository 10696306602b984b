"""
Outcomes: what follows when an attempt at a call ends, by a worker's report, a timeout or a cancellation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.errors import TimeLimitExceeded, TimeoutError
from asynqueue.hires import HireState
from asynqueue.verdicts import Again, Iterations, Refusal, callOf, verdict

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.dispatch import Dispatcher
    from asynqueue.tasks import Attempt

_ERRORS = (("e",), (b"e",))


class Outcomes:
    """
    Takes the ends of attempts, and settles calls or lets them wait again.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._ledger = dispatcher.ledger
        self._backlog = dispatcher.backlog
        self._waits: dict[int, Deadline] = {}

    def report(self, task: Attempt, statusResult: Any) -> None:
        """
        Take the outcome of an attempt. One that comes late, or twice, is dropped and counted.
        """
        # Hot path, watched by `bench --only reactor`.
        hire = task.hire
        entry = task.entry
        task.hire = None
        isPlain = True
        if hire is not None:
            hire.tasks.pop(task, None)
            hire.finished += 1
            hire.strikes = 0
            if hire.pins:
                isPlain = False
                self._dispatcher.lookAhead.release(hire, task)
        if entry.current is not task or task.arriving is not None:
            self._dropLate(statusResult)
        elif (
            type(statusResult) is tuple
            and len(statusResult) == 2
            and statusResult[0] == "r"
            and not isinstance(statusResult[1], Failure)
        ):
            if hire is not None and isPlain and not self._backlog.waiting and hire.state is not HireState.GONE:
                # Whoever waits for this result alone is going to make the next call of it.
                hire.held -= 1
                hire.exclusive = False
                if hire.managed or hire.ready:
                    self._dispatcher.roomAt(hire)
                hire = None
            self._deliver(entry, task, statusResult[1])
        else:
            isPlain = False
            if isinstance(statusResult, tuple) and len(statusResult) == 2 and isinstance(statusResult[1], Failure):
                # An error is one by whatever letter it comes.
                statusResult = ("x" if statusResult[0] in ("x", b"x") else "e", statusResult[1])
            self._judge(entry, task, statusResult)
        if hire is not None and hire.state is not HireState.GONE:
            hire.held -= 1
            hire.exclusive = False
            if isPlain:
                self._dispatcher.freed(hire)
            else:
                # What has come back, or is not kept for this worker any more, may be for others.
                if hire.managed or hire.ready:
                    self._dispatcher.roomAt(hire)
                self._dispatcher.dispatch()

    def _dropLate(self, statusResult: Any) -> None:
        """
        Drop the outcome of an attempt that is over.
        """
        letter, value = statusResult if isinstance(statusResult, tuple) and len(statusResult) == 2 else ("?", None)
        if letter not in ("k", b"k"):
            self._ledger.late += 1
        if isinstance(value, Deferred):
            value.addErrback(lambda failure: None)
            cancelQuietly(value)
        elif letter in ("i", b"i"):
            self._dispatcher.streams.drop(value)

    def _judge(self, entry: CallDeferred[Any], task: Attempt, statusResult: Any) -> None:
        try:
            value = verdict(entry, task, statusResult, self._dispatcher.policy)
            if isinstance(value, Iterations):
                value = self._dispatcher.streams.start(entry, task, value.result)
                if isinstance(value, Failure):
                    # It was the first item, or the consumer.
                    statusResult = ("e", value)
                    value = verdict(entry, task, statusResult, self._dispatcher.policy)
        except Exception:  # an error policy may be anybody's; the call must be settled whatever it raises
            value = Failure()
        if entry.current is not task and isinstance(statusResult, tuple):
            # What has been written to a consumer meanwhile has led to the end of the call.
            self._dispatcher.streams.drop(value)
            return
        if isinstance(statusResult, tuple) and statusResult[:1] in _ERRORS and not isinstance(value, Failure):
            # The error policy has made a value of it.
            self._ledger.failed += 1
        if isinstance(value, Again):
            self.abandon(task)
            self.requeue(entry, value.band, value.isTimed)
        else:
            self._deliver(entry, task, value)

    def _deliver(self, entry: CallDeferred[Any], task: Attempt, value: Any) -> None:
        """
        Settle a call with the value of its current attempt, as soon as that is there.
        """
        # Hot path, watched by `bench --only reactor`. An isinstance(…, Deferred) takes several times as long, since the
        # class is an abstract base class.
        if Deferred in type(value).__mro__:
            task.arriving = value
            value.addBoth(self._arrived, entry, task)
            return
        if task.deadline is not None:
            task.deadline.stop()
            task.deadline = None
        if self._waits:
            self.stopWaiting(entry)
        self._ledger.settle(entry, value)

    def _arrived(self, value: Any, entry: CallDeferred[Any], task: Attempt) -> None:
        """
        Take the value that an attempt's outcome promised. Errors are those of the call.
        """
        if entry.current is not task:
            return
        if isinstance(value, Failure):
            task.arriving = None
            self._judge(entry, task, ("k", value) if value.check(CancelledError) else ("e", value))
        elif type(value) is Refusal:
            task.arriving = None
            self._judge(entry, task, ("x", value.failure))
        else:
            self._deliver(entry, task, value)

    def requeue(self, entry: CallDeferred[Any], band: int, isTimed: bool = False) -> None:
        """
        Let a call wait again, ahead of those that have not been given to a worker yet.

        @param isTimed: Only for as long as its timeout.
        """
        entry.band = band
        self._backlog.push(entry, band)
        timeout = entry.options.timeout
        if isTimed and timeout is not None:
            self._waits[entry.ID] = self._dispatcher.deadline(timeout, lambda: self._waitedTooLong(entry))
        self._waitsAgain(entry)

    def putBack(self, entry: CallDeferred[Any]) -> None:
        """
        Let a call wait again that a worker has given back, where it was.
        """
        self._backlog.putBack(entry, entry.band)
        self._waitsAgain(entry)

    def _waitsAgain(self, entry: CallDeferred[Any]) -> None:
        entry.current = None
        lane = entry.lane
        if lane is not None and lane.heaps == ():
            self._dispatcher.nobodyServes(entry)
        if self._dispatcher.onChange is not None:
            self._dispatcher.onChange()
        if self._dispatcher.onHiresChange is not None:
            # A call may have come back that nobody who is still here can run.
            self._dispatcher.onHiresChange()

    def _waitedTooLong(self, entry: CallDeferred[Any]) -> None:
        del self._waits[entry.ID]
        if entry.lane is not None and entry.lane.heaps is not None:
            self._backlog.discard(entry)
            self._ledger.settle(
                entry,
                Failure(
                    TimeoutError(
                        f"{callOf(entry)}: no worker took it for its re-run within {entry.options.timeout:g} s; "
                        + "; ".join(text for _, text in entry.history)
                    )
                ),
            )
            if self._dispatcher.onChange is not None:
                self._dispatcher.onChange()

    def timedOut(self, task: Attempt) -> None:
        """
        End an attempt whose timeout has passed.
        """
        self._giveUp(task, ("t", None))

    def limitReached(self, task: Attempt, limit: float) -> None:
        """
        End an attempt that has used up the time limit of its call.
        """
        if task.entry.current is task:
            self._giveUp(task, ("x", TimeLimitExceeded(f"{callOf(task.entry)} took longer than {limit:g} s")))

    def _giveUp(self, task: Attempt, outcome: tuple[str, Any]) -> None:
        entry = task.entry
        self.abandon(task)
        self._judge(entry, task, outcome)
        self._stopWorking(task)
        self._dispatcher.dispatch()

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
            cancelQuietly(task.arriving)
        hire = task.hire
        if hire is None:
            return
        if not hire.managed:
            if hire.ready:
                self._dispatcher.forget(hire, task)
        else:
            try:
                hire.worker.cancel(task)
            except Exception:  # a worker may be anybody's; the call is settled already
                self._dispatcher.log.failure(
                    "{worker} raised an exception when told to cancel {task!r}", worker=hire.name, task=task
                )

    def cancel(self, entry: CallDeferred[Any], reason: BaseException | None = None) -> None:
        """
        Settle a call with C{CancelledError}, or another error, wherever it stands, and tell the worker that has it.
        """
        failure = Failure(CancelledError(f"{callOf(entry)} was cancelled") if reason is None else reason)
        task = entry.current
        if task is not None:
            self.abandon(task)
            self.settle(entry, failure)
            self._stopWorking(task)
        else:
            if entry.lane is not None:
                if entry.lane.heaps is None:
                    self._ledger.condemned -= 1
                self._backlog.discard(entry)
            for hire in self._dispatcher.hires.values():
                if entry.options.alone and entry in hire.updates:
                    hire.updates.remove(entry)
            self.settle(entry, failure)
        if self._dispatcher.onChange is not None:
            self._dispatcher.onChange()

    def settle(self, entry: CallDeferred[Any], value: Any) -> None:
        """
        Let a call go, with its value or a C{Failure}.
        """
        # Hot path, watched by `bench --only reactor`.
        if self._waits:
            self.stopWaiting(entry)
        self._ledger.settle(entry, value)

    def stopWaiting(self, entry: CallDeferred[Any]) -> None:
        """
        Let a call that waits to be run again wait for as long as it takes.
        """
        wait = self._waits.pop(entry.ID, None)
        if wait is not None:
            wait.stop()

    def close(self) -> None:
        """
        Let go of all timers, when no call is left.
        """
        for wait in self._waits.values():
            wait.stop()
        self._waits.clear()
