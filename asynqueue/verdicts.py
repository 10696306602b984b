"""
Verdicts: what follows from an outcome, as rules. A call is settled with a value or a failure, or it is run again.

    ========== =====================================================================
    status     what follows
    ========== =====================================================================
    r n c i    the value
    e          what the error policy makes of it
    k          C{CancelledError}
    x          the reason that the worker gave
    d          again, ahead of others; after 20 times C{Undeliverable}
    l          again, twice, the second time alone; then C{PoisonTask}
    t          again, once, ahead of others; then C{TimeoutError}
    ========== =====================================================================

A call that is not idempotent is not run again once it may have been started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall, safeRepr
from asynqueue.errors import PoisonTask, TimeoutError, Undeliverable, WorkerError, WorkerLost
from asynqueue.scheduling.lanes import ALONE, RERUN
from asynqueue.states import SPELLINGS, Status

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.tasks import Attempt

MAX_DELIVERIES = 20
MAX_LOSSES = 2
MAX_TIMEOUTS = 1


class Policy(Protocol):
    """
    What a queue makes of the outcomes that are a matter of its settings.
    """

    def errorValue(self, result: Any, entry: CallDeferred[Any]) -> Any:
        """
        Return what a call gets whose worker reports an error.
        """

    def iterationValue(self, result: Any, entry: CallDeferred[Any]) -> Any:
        """
        Return what a call gets whose worker reports an iterator.
        """


class Again:
    """
    The verdict that a call is to be run again.

    @ivar band: The band in which it waits for that.
    @ivar isTimed: Whether it waits only for as long as its timeout.
    """

    __slots__ = ("band", "isTimed")

    def __init__(self, band: int, isTimed: bool = False) -> None:
        self.band = band
        self.isTimed = isTimed


def verdict(entry: CallDeferred[Any], task: Attempt, statusResult: Any, policy: Policy) -> Any:
    """
    Return the value or failure with which to settle a call after an attempt, or L{Again}.
    """
    try:
        status, result = statusResult
        known = SPELLINGS.get(status)
    except (TypeError, ValueError):
        known = None
    if known is None:
        return Failure(
            WorkerError(
                f"{workerOf(task)} reported {safeRepr(statusResult, 200)} as the outcome of "
                f"{callOf(entry)}, which is no (status, result) with a known status"
            )
        )
    rule = _RULES.get(known)
    if rule is not None:
        return rule(entry, task, result)
    if known is Status.ERROR:
        return policy.errorValue(result, entry)
    if known is Status.ITERATION:
        return policy.iterationValue(result, entry)
    return None if known is Status.NOTHING else result


def callOf(entry: CallDeferred[Any]) -> str:
    """
    Return the call as text, with its ID.
    """
    return f"call {entry.ID}, {describeCall(entry.func, entry.args, entry.kw)}"


def workerOf(task: Attempt) -> str:
    """
    Return the worker of an attempt as text.
    """
    return "no worker" if task.workerID is None else f"worker {task.workerID}"


def _note(entry: CallDeferred[Any], task: Attempt, status: Status, text: str) -> int:
    """
    Put the end of an attempt into the history of the call, and return how many ended so.
    """
    entry.history += ((status.value, f"attempt {task.attempt} on {workerOf(task)} {text}"),)
    return sum(1 for letter, _ in entry.history if letter == status.value)


def _historyOf(entry: CallDeferred[Any]) -> str:
    return "; ".join(text for _, text in entry.history)


def _cancelled(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    return Failure(CancelledError(f"{callOf(entry)} was cancelled by {workerOf(task)}"))


def _refused(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    if isinstance(result, Failure | BaseException):
        return result if isinstance(result, Failure) else Failure(result)
    return Failure(WorkerError(f"{workerOf(task)} refused {callOf(entry)}: {result}"))


def _notStarted(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    count = _note(entry, task, Status.NOT_STARTED, "was not started")
    if entry.options.alone:
        return Failure(Undeliverable(f"{callOf(entry)} was not started by {workerOf(task)}, which it was for"))
    if count > MAX_DELIVERIES:
        return Failure(Undeliverable(f"{callOf(entry)} was given to workers {count} times, and none started it"))
    return Again(ALONE if entry.band == ALONE else RERUN)


def _lost(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    count = _note(entry, task, Status.LOST, f"was lost{f': {result}' if result else ''}")
    if entry.options.alone or not entry.options.idempotent:
        return Failure(
            WorkerLost(
                f"{callOf(entry)} was lost with {workerOf(task)}, may have run, and is not to be run again: "
                f"{_historyOf(entry)}"
            )
        )
    if count > MAX_LOSSES or _isExhausted(entry):
        return Failure(
            PoisonTask(
                f"{callOf(entry)} is not run any more: {_historyOf(entry)}",
                [text for _, text in entry.history],
            )
        )
    return Again(ALONE if count == MAX_LOSSES else RERUN)


def _timedOut(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    seconds = entry.options.timeout
    limit = "" if seconds is None else f" after {seconds:g} s"
    count = _note(entry, task, Status.TIMEOUT, f"timed out{limit}")
    if entry.options.alone or not entry.options.idempotent or count > MAX_TIMEOUTS or _isExhausted(entry):
        return Failure(TimeoutError(f"{callOf(entry)} timed out: {_historyOf(entry)}"))
    return Again(RERUN, isTimed=True)


def _isExhausted(entry: CallDeferred[Any]) -> bool:
    """
    Tell whether the call may have been executed as often as it may, for whatever reasons.
    """
    undelivered = sum(1 for letter, _ in entry.history if letter == Status.NOT_STARTED.value)
    return entry.attempts - undelivered > MAX_LOSSES


_RULES: dict[Status, Callable[[CallDeferred[Any], Attempt, Any], Any]] = {
    Status.CANCELLED: _cancelled,
    Status.REFUSED: _refused,
    Status.NOT_STARTED: _notStarted,
    Status.LOST: _lost,
    Status.TIMEOUT: _timedOut,
}
