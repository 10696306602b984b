"""
A call in a thread without a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue.deferreds.context import Captured, captureContext
from asynqueue.errors import ThreadError
from asynqueue.failures import errorText, exceptionOf, failureOf
from asynqueue.tasks import Task

T = TypeVar("T")


class ThreadCall(Task, Generic[T]):
    """
    A task that stands for itself, whose Deferred can be cancelled.

    @ivar result: Fires with the result of the call; errors errback as L{asynqueue.errors.ThreadError}.
    @ivar onCancel: Called with the task when the result is cancelled.
    """

    __slots__ = ("_arriving", "_captured", "onCancel", "result")

    def __init__(self, f: Callable[..., Deferred[T] | T], args: tuple[Any, ...], kw: dict[str, Any]) -> None:
        if not callable(f):
            raise TypeError(f"f must be callable, and {f!r} is not")
        super().__init__(f, args, kw, 0, None)
        self._captured = captureContext()
        self.result: Deferred[T] = Deferred(self._cancelled)
        self.onCancel: Callable[[Task], object] | None = None
        self._arriving: Deferred[T] | None = None

    @property
    def context(self) -> Captured | None:
        """
        The context of the caller.
        """
        return self._captured

    def _cancelled(self, _: Deferred[T]) -> None:
        self.cancelled = True
        if self._arriving is not None:
            self._arriving.cancel()
        elif self.onCancel is not None:
            self.onCancel(self)

    def callback(self, statusResult: tuple[Any, Any]) -> None:
        """
        Let the result fire, when it is there and unless it has been cancelled.
        """
        status, value = statusResult
        if status == "r" and isinstance(value, Deferred):
            self._arriving = value
            value.addCallbacks(lambda result: self.callback(("r", result)), self._failed)
            if self.cancelled:
                value.cancel()
        elif self.result.called:
            return
        elif status == "r":
            self.result.callback(value)
        elif status == "k":
            self.result.errback(CancelledError())
        else:
            self.result.errback(failureOf(value))

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Let the result fail.
        """
        if not self.result.called:
            self.result.errback(failure)

    def _failed(self, failure: Failure) -> None:
        self.errback(
            failure if failure.check(CancelledError) else failureOf(errorText(exceptionOf(failure), ThreadError))
        )
