"""
Verdicts: what follows from an outcome, as rules. A call is settled with a value or a failure, or it is run again::

    r n c      the value
    i          what is iterated over
    e          what the error policy makes of it
    k          CancelledError
    x          the reason that the worker gave
    d          again, ahead of others; after 20 times Undeliverable
    l          again, twice; then PoisonTask
    t          again, once, ahead of others; then TimeoutError

A call is executed three times at most, over losses and timeouts; the third time it is alone with its worker.
A call that is not idempotent is not run again once it may have been started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall, printable, safeRepr
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


class Iterations:
    """
    The verdict that a call gets what its result gives.

    @ivar result: What is iterated over.
    """

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result


class Refusal:
    """
    What takes the place of an arriving value when it is not the call that has failed.

    @ivar failure: The reason.
    """

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def verdict(entry: CallDeferred[Any], task: Attempt, statusResult: Any, policy: Policy) -> Any:
    """
    Return the value or failure with which to settle a call after an attempt, or L{Again}, or L{Iterations}.
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
        return Iterations(result)
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
    why = result.getErrorMessage() if isinstance(result, Failure) else ""
    return Failure(CancelledError(f"{callOf(entry)} was cancelled by {workerOf(task)}{why and ': '}{why}"))


def _refused(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    if isinstance(result, Failure | BaseException):
        return result if isinstance(result, Failure) else Failure(result)
    return Failure(WorkerError(f"{workerOf(task)} refused {callOf(entry)}: {printable(str(result), 1024)}"))


def _notStarted(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    count = _note(entry, task, Status.NOT_STARTED, "was not started")
    if entry.options.alone:
        return Failure(Undeliverable(f"{callOf(entry)} was not started by {workerOf(task)}, which it was for"))
    if count > MAX_DELIVERIES:
        return Failure(Undeliverable(f"{callOf(entry)} was given to workers {count} times, and none started it"))
    return Again(ALONE if entry.band == ALONE else RERUN)


def _lost(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    _note(entry, task, Status.LOST, f"was lost{f': {printable(str(result), 1024)}' if result else ''}")
    if entry.options.alone or not entry.options.idempotent:
        return Failure(
            WorkerLost(
                f"{callOf(entry)} was lost with {workerOf(task)}, may have run, and is not to be run again: "
                f"{_historyOf(entry)}"
            )
        )
    if _executions(entry) > MAX_LOSSES:
        return Failure(
            PoisonTask(
                f"{callOf(entry)} is not run any more: {_historyOf(entry)}",
                [text for _, text in entry.history],
            )
        )
    return Again(_nextBand(entry))


def _timedOut(entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
    seconds = entry.options.timeout
    limit = "" if seconds is None else f" after {seconds:g} s"
    count = _note(entry, task, Status.TIMEOUT, f"timed out{limit}")
    if entry.options.alone or not entry.options.idempotent or count > MAX_TIMEOUTS or _executions(entry) > MAX_LOSSES:
        return Failure(TimeoutError(f"{callOf(entry)} timed out: {_historyOf(entry)}"))
    return Again(_nextBand(entry), isTimed=True)


def _executions(entry: CallDeferred[Any]) -> int:
    """
    Count how often the call may have been executed.
    """
    return entry.attempts - sum(1 for letter, _ in entry.history if letter == Status.NOT_STARTED.value)


def _nextBand(entry: CallDeferred[Any]) -> int:
    """
    Return where the call waits to be executed again: the last time alone.
    """
    return ALONE if _executions(entry) == MAX_LOSSES else RERUN


_RULES: dict[Status, Callable[[CallDeferred[Any], Attempt, Any], Any]] = {
    Status.CANCELLED: _cancelled,
    Status.REFUSED: _refused,
    Status.NOT_STARTED: _notStarted,
    Status.LOST: _lost,
    Status.TIMEOUT: _timedOut,
}
