"""
A stream from a generator that is stepped in a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall
from asynqueue.errors import ThreadError, WorkerLost
from asynqueue.failures import failureOf
from asynqueue.iteration.batches import WINDOW, Batch, Stepper
from asynqueue.threads.call import OwnTask

if TYPE_CHECKING:
    from asynqueue.iteration.stream import Stream
    from asynqueue.tasks import Task


class Keeper(Protocol):
    """
    Has the thread.
    """

    @property
    def threadRunning(self) -> bool:
        """
        Whether there is a thread.
        """

    def submit(self, task: Task) -> None:
        """
        Run a task in the thread.
        """

    def cancel(self, task: Task) -> None:
        """
        Write off the thread, if the task does not come to its end in a while.
        """

    def watch(self, source: ThreadSource) -> None:
        """
        Have a source that is out look after a while at what is there, as long as it is out.
        """

    def sourceEnded(self, source: ThreadSource) -> None:
        """
        Take note that the thread is not needed for a source any more.
        """


class ThreadSource(OwnTask):
    """
    Gives the items of an iterator, some each time that it is run as a task, in the iterator's thread.

    The thread puts items where they can be seen at once: L{lookAt} gives those that are there while it waits, in the
    iterator, for another one.

    @ivar isOut: Whether it is with the thread, to be run or running.
    @ivar isSeen: Whether somebody has looked at what is there since it is out. Later, the thread comes back with each
        item.
    @ivar stream: The stream that it is the source of, as long as that has a reader.
    """

    __slots__ = ("_arrived", "_call", "_end", "_keeper", "_pulled", "_stepper", "isOut", "isSeen", "stream")

    runsAhead: ClassVar[bool] = True
    tellsEnd: ClassVar[bool] = False

    def __init__(self, iterator: Iterator[Any], task: Task, keeper: Keeper) -> None:
        """
        @param task: The call that the iterator is the result of.
        """
        self._call = task.excerpt()
        self._stepper = Stepper(iterator, self._call, ThreadError)
        self._arrived: deque[Any] = deque()
        super().__init__(self._stepper.take, (WINDOW, self._arrived), {}, 0, None)
        self._keeper = keeper
        self._pulled: Deferred[Batch] | None = None
        self._end: Batch | None = None
        self.isOut = False
        self.isSeen = False
        self.stream: ref[Stream] | None = None

    def __repr__(self) -> str:
        return f"<ThreadSource: what {describeCall(*self._call.callTuple)} has returned>"

    def describe(self) -> str:
        """
        Return the call as text, with its ID if it has one.
        """
        number = f"call {self._call.ID}, " if self._call.ID else ""
        return f"{number}{describeCall(*self._call.callTuple)}"

    @property
    def isEnded(self) -> bool:
        """
        Whether the iterator has come to its end, or has gone with its thread.
        """
        return self._stepper.isClosed or self._end is not None

    def begin(self) -> None:
        """
        Have the thread take items before anybody asks for them.
        """
        self._goOut()

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Give the items that are there, or have the thread take some.
        """
        # Hot path, watched by `bench --only streams`.
        if self._arrived or self._end is not None:
            return self._batch()
        pulled: Deferred[Batch] = Deferred()
        self._pulled = pulled
        if not self.isOut:
            self._goOut()
        return pulled

    def _goOut(self) -> None:
        self.isOut = True
        self.isSeen = False
        self._keeper.submit(self)
        self._keeper.watch(self)

    def _batch(self) -> Batch:
        """
        Return the items that are there. The thread may be adding to them.
        """
        arrived, end = self._arrived, self._end
        items = [arrived.popleft() for _ in range(len(arrived))]
        return Batch(items) if end is None else Batch(items, True, end.error)

    def lookAt(self) -> None:
        """
        Give what is there to a reader who has been waiting for a while.
        """
        if self._arrived or self._end is not None:
            pulled, self._pulled = self._pulled, None
            if pulled is not None:
                pulled.callback(self._batch())

    def callback(self, statusResult: tuple[Any, Any]) -> None:
        """
        Take note that the thread has come back.
        """
        # Hot path, watched by `bench --only streams`.
        self.isOut = False
        status, result = statusResult
        if status != "r":
            # The thread has been written off, or could not be had.
            why = "did not return" if status == "k" else failureOf(result).getErrorMessage()
            self.lost(WorkerLost(f"the stream of {self.describe()} was lost with its thread, which {why}"))
            self._keeper.sourceEnded(self)
            return
        if self._stepper.isClosed:
            self._keeper.sourceEnded(self)
        elif self._stepper.isAborted and self._end is None:
            # It was while the thread had taken its last look.
            self._goOutToClose()
        if result.isLast and self._end is None:
            self._end = result
        self.lookAt()
        if self._pulled is not None and not self.isOut:
            # All that it has brought had been given before.
            self._goOut()

    def lost(self, error: Exception) -> None:
        """
        End the stream with an error, for the thread is gone.
        """
        self._end = Batch([], error=Failure(error))
        self._stepper.abort()
        self.lookAt()

    def close(self) -> None:
        """
        Have the thread close the iterator.
        """
        self._stepper.abort()
        self._pulled = None
        self._arrived.clear()
        if self.isEnded:
            return
        if self.isOut:
            self._keeper.cancel(self)
        elif self._keeper.threadRunning:
            self._goOutToClose()
        else:
            # Its thread is gone, and another one would be no better.
            self._stepper.close()
            self._keeper.sourceEnded(self)

    def _goOutToClose(self) -> None:
        self._goOut()
        # A generator's C{finally} may not return, either.
        self._keeper.cancel(self)
