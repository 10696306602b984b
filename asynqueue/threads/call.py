"""
What runs in a thread beside the tasks of a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.deferreds.context import Captured, captureContext
from asynqueue.iteration.deferator import Deferator
from asynqueue.tasks import Task

T = TypeVar("T")


class OwnTask(Task):
    """
    A task that belongs to the thread: it is not given back to a queue.
    """

    __slots__ = ()

    def lost(self, error: Exception) -> None:
        """
        Tell whoever waits that the thread has been given up.
        """
        self.errback(error)


class ThreadCall(OwnTask, Generic[T]):
    """
    A call without a queue, whose Deferred can be cancelled.

    @ivar result: Fires with the outcome of the call, C{(status, result)}.
    @ivar onCancel: Called with the task when the result is cancelled.
    """

    __slots__ = ("_captured", "onCancel", "result")

    def __init__(self, f: Callable[..., Deferred[T] | T], args: tuple[Any, ...], kw: dict[str, Any]) -> None:
        if not callable(f):
            raise TypeError(f"f must be callable, and {f!r} is not")
        super().__init__(f, args, kw, 0, None)
        self._captured = captureContext()
        self.result: Deferred[tuple[str, Any]] = Deferred(self._cancelled)
        self.onCancel: Callable[[Task], object] | None = None

    @property
    def context(self) -> Captured | None:
        """
        The context of the caller.
        """
        return self._captured

    def _cancelled(self, _: Deferred[tuple[str, Any]]) -> None:
        self.cancelled = True
        if self.onCancel is not None:
            self.onCancel(self)

    def callback(self, statusResult: tuple[Any, Any]) -> None:
        """
        Let the result fire, unless it has been cancelled. Then nothing that the call has made is left.
        """
        if not self.result.called:
            self.result.callback(statusResult)
            return
        unwanted = statusResult[1]
        if isinstance(unwanted, Deferator):
            unwanted.stop()
        elif isinstance(unwanted, Deferred):
            unwanted.addErrback(lambda failure: None)
            cancelQuietly(unwanted)

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Let the result fail.
        """
        if not self.result.called:
            self.result.errback(failure)
