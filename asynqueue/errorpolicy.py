"""
The error policy of a queue: what a call gets, and who is told, when it has raised an exception.

With C{returnFailure}, the caller gets a failure. With C{warn}, the error is logged and the caller gets the text of the
traceback as a result. With neither, the caller gets that text too, the error is reported on standard error, and the
reactor is stopped a second later, so that no error of a call passes unseen.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.callinfo import TRACEBACK_LIMIT, describeCall, describeException, printable, safeRepr
from asynqueue.calls import CallDeferred
from asynqueue.errors import QueueClosed, WorkerError
from asynqueue.failures import exceptionOf, failureOf
from asynqueue.tasks import Attempt, Task
from asynqueue.verdicts import Again, Iterations, Refusal, callOf, verdict

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from asynqueue.dispatch import Dispatcher
    from asynqueue.options import CallOptions

#: Seconds from an error that nobody handles until the reactor is stopped.
STOP_DELAY = 1.0


class ErrorPolicy:
    """
    Makes of errors what the settings of a queue say.

    What it logs goes to the logger C{asynqueue} of C{logging}, as in 0.9.9, and to C{twisted.logger}.
    """

    log = Logger()

    def __init__(
        self,
        clock: Callable[[], IReactorTime],
        warn: bool = False,
        verbose: bool = False,
        spew: bool = False,
        returnFailure: bool = False,
    ) -> None:
        self._clock = clock
        self._warns = warn
        self._isVerbose = verbose or spew
        self._returnsFailure = returnFailure
        self._isStopping = False
        self._logger = logging.getLogger("asynqueue")
        if warn or spew:
            self._logger.setLevel(logging.INFO if spew else logging.ERROR)

    def errorValue(self, result: Any, entry: CallDeferred[Any]) -> Any:
        """
        Return what a call gets whose worker reports an error.
        """
        returnFailure = entry.options.returnFailure
        if self._returnsFailure if returnFailure is None else returnFailure:
            return failureOf(result)
        text = _textOf(exceptionOf(result)) if isinstance(result, Failure) else str(result)
        text = printable(text, TRACEBACK_LIMIT)
        if self._warns:
            call = describeCall(entry.func, entry.args, entry.kw)
            said = f"{call}: {text}" if self._isVerbose else text
            self._logger.error("%s", said)
            self.log.error("{said}", said=said)
        else:
            self._alarm(text, entry)
        return text

    def _alarm(self, text: str, entry: CallDeferred[Any]) -> None:
        """
        Report an error that nobody handles, and stop the reactor.
        """
        sys.stderr.write(
            f"asynqueue: {callOf(entry)} raised an exception:\n\n{text.rstrip()}\n\n"
            f"The reactor will be stopped in {STOP_DELAY:g} s. To handle the errors of calls by their errbacks, use "
            f"TaskQueue(returnFailure=True);\nto have them logged only, use TaskQueue(warn=True).\n"
        )
        if self._isStopping:
            return
        self._isStopping = True
        clock = self._clock()
        clock.callLater(STOP_DELAY, self._stop, clock)

    def _stop(self, clock: Any) -> None:
        self._isStopping = False
        try:
            clock.stop()
        except ReactorNotRunning:
            # It has come to its end by itself.
            return

    def watch(self, entry: CallDeferred[Any]) -> None:
        """
        Log a call with its result when it is finished.
        """
        entry.addBoth(self._finished, describeCall(entry.func, entry.args, entry.kw))

    def _finished(self, result: Any, call: str) -> Any:
        shown = result.getErrorMessage() if isinstance(result, Failure) else safeRepr(result)
        self._logger.info("%s", f"{call} -> {shown}")
        self.log.info("{call} -> {shown}", call=call, shown=shown)
        return result

    def taskDone(
        self,
        dispatcher: Dispatcher,
        nextID: Callable[[], int],
        statusResult: tuple[Any, Any],
        task: Task,
        options: CallOptions,
    ) -> Any:
        """
        Return what the Deferred of any task is to get for an outcome.
        """
        known = task.entry if isinstance(task, Attempt) else None
        func, args, kw = task.callTuple
        band = known.band if known is not None else 0
        entry: CallDeferred[Any] = CallDeferred(
            dispatcher, nextID(), func, args, kw, task.series, band, options, task.context
        )
        entry.attempts = task.attempt
        attempt = Attempt(entry, None)
        if known is not None:
            entry.history = known.history
        value = verdict(entry, attempt, statusResult, self)
        if known is not None:
            known.history = entry.history
        if isinstance(value, Again):
            if not dispatcher.isOpen:
                return Failure(QueueClosed(f"{callOf(entry)} is not run again: the queue is shut down"))
            dispatcher.ledger.admit(entry)
            dispatcher.outcomes.requeue(entry, value.band)
            dispatcher.dispatch()
            return entry
        if not isinstance(value, Iterations):
            return value
        value = dispatcher.streams.start(entry, attempt, value.result)
        return value.addCallback(_unrefused) if isinstance(value, Deferred) else value


def _unrefused(value: Any) -> Any:
    return value.failure if isinstance(value, Refusal) else value


def _textOf(error: BaseException) -> str:
    """
    Return the traceback of an exception as text, or of that which it stands for.
    """
    text = error.remoteTraceback if isinstance(error, WorkerError) else ""
    return text or describeException(error)
