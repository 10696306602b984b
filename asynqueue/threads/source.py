"""
A stream from a generator that is stepped in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall
from asynqueue.errors import ThreadError
from asynqueue.iteration.batches import WINDOW, Batch, Stepper
from asynqueue.threads.call import OwnTask

if TYPE_CHECKING:
    from asynqueue.tasks import Task


class Keeper(Protocol):
    """
    Has the thread.
    """

    def submit(self, task: Task) -> None:
        """
        Run a task in the thread.
        """

    def cancel(self, task: Task) -> None:
        """
        Write off the thread, if the task does not come to its end in a while.
        """

    def sourceEnded(self, source: ThreadSource) -> None:
        """
        Take note that the thread is not needed for a source any more.
        """


class ThreadSource(OwnTask):
    """
    Gives the items of an iterator, a batch for each time that it is run as a task, in the iterator's thread.

    Made in that thread, with the first batch; everything else is for the reactor's thread.

    @ivar isOut: Whether it is with the thread, to be run or running.
    """

    __slots__ = ("_call", "_first", "_keeper", "_lost", "_pulled", "_stepper", "isOut")

    runsAhead: ClassVar[bool] = True
    tellsEnd: ClassVar[bool] = False

    def __init__(self, iterator: Iterator[Any], task: Task, keeper: Keeper) -> None:
        """
        @param task: The call that the iterator is the result of.
        """
        self._call = task.excerpt()
        stepper = Stepper(iterator, self._call, ThreadError)
        super().__init__(stepper.take, (WINDOW,), {}, 0, None)
        self._stepper = stepper
        self._keeper = keeper
        self._pulled: Deferred[Batch] | None = None
        self._lost: Exception | None = None
        self.isOut = False
        self._first: Batch | None = stepper.take(WINDOW)

    def __repr__(self) -> str:
        return f"<ThreadSource: what {describeCall(*self._call.callTuple)} has returned>"

    @property
    def isEnded(self) -> bool:
        """
        Whether the iterator has come to its end, or has gone with its thread.
        """
        return self._stepper.isClosed or self._lost is not None

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Have the thread take items.
        """
        # Hot path, watched by `bench --only streams`.
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._lost is not None:
            return Batch([], error=Failure(self._lost))
        pulled: Deferred[Batch] = Deferred()
        self._pulled = pulled
        self._goOut()
        return pulled

    def _goOut(self) -> None:
        self.isOut = True
        self._keeper.submit(self)

    def callback(self, statusResult: tuple[Any, Any]) -> None:
        """
        Take what the thread has brought.
        """
        # Hot path, watched by `bench --only streams`.
        self.isOut = False
        status, result = statusResult
        if status != "r":
            # The thread has been written off, or could not do it.
            self.lost(
                ThreadError(f"the thread of {self!r} did not return from the iterator") if status == "k" else result
            )
            self._keeper.sourceEnded(self)
            return
        if self._stepper.isClosed:
            self._keeper.sourceEnded(self)
        elif self._stepper.isAborted and self._lost is None:
            # It was while the thread had taken its last look.
            self._goOut()
        pulled, self._pulled = self._pulled, None
        if pulled is not None:
            pulled.callback(result)

    def lost(self, error: Exception) -> None:
        """
        End the stream with an error, for the thread is gone.
        """
        self._lost = error
        self._stepper.abort()
        pulled, self._pulled = self._pulled, None
        if pulled is not None:
            pulled.callback(Batch([], error=Failure(error)))

    def close(self) -> None:
        """
        Have the thread close the iterator.
        """
        self._first = None
        self._stepper.abort()
        if self.isEnded:
            return
        if self.isOut:
            self._keeper.cancel(self)
        else:
            self._goOut()
