"""
A stream from a generator that is stepped in a child.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall, said
from asynqueue.errors import ResultDecodeError
from asynqueue.iteration.batches import Batch
from asynqueue.process import frames

if TYPE_CHECKING:
    from asynqueue.process.conversation import Conversation
    from asynqueue.tasks import Task


#: How many items the child may be ahead at first.
FIRST = 16

#: How many it may be ahead of a reader that is always there for more.
MOST = 1024


class ChildSource:
    """
    Gives the items that a child sends, which is given credit for them.

    The credit grows while the reader is faster than items come, so that a frame carries many.

    @ivar delivered: How many items have come.
    """

    runsAhead: ClassVar[bool] = True
    tellsEnd: ClassVar[bool] = False

    def __init__(self, conversation: Conversation, number: int, task: Task) -> None:
        """
        @param number: That of the call, and of the stream.
        @param task: The call.
        """
        self._conversation = conversation
        self._number = number
        self._call = task.excerpt()
        self.delivered = 0
        self._window = FIRST
        # The first item comes by itself.
        self._credit = 1
        self._items: list[Any] = []
        self._end: Batch | None = None
        self._pulled: Deferred[Batch] | None = None
        self._isClosed = False

    def __repr__(self) -> str:
        return f"<ChildSource: what {describeCall(*self._call.callTuple)} has returned>"

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Give what has come, and the child credit for as many more.
        """
        # Hot path, watched by `bench --only streams`.
        if self._items or self._end is not None:
            # The reader has not been there for them.
            self._window = max(FIRST, self._window // 2)
            return self._batch()
        pulled: Deferred[Batch] = Deferred()
        self._pulled = pulled
        self._grant()
        self._conversation.watch()
        return pulled

    @property
    def isWaitedFor(self) -> bool:
        """
        Whether a reader waits for items.
        """
        return self._pulled is not None

    @property
    def number(self) -> int:
        """
        The number of the call, and of the stream.
        """
        return self._number

    def _grant(self) -> None:
        missing = self._window - self._credit
        if missing > 0 and self._end is None:
            self._credit += missing
            self._conversation.pull(self._number, missing)

    def _batch(self) -> Batch:
        items, self._items = self._items, []
        end = self._end
        if end is not None:
            return Batch(items, isLast=True, error=end.error)
        self._grant()
        return Batch(items)

    def received(self, kind: int, body: bytes, loads: Callable[[bytes], Any] | None = None) -> None:
        """
        Take what the child has sent.

        @param loads: Makes items of it; by default the decoder of the conversation does.
        """
        # Hot path, watched by `bench --only streams`.
        if self._isClosed:
            return
        if kind == frames.STREAM_END:
            self._end = Batch([], isLast=True, error=self._conversation.decoder.failure(body) if body else None)
        else:
            try:
                items = _checkedItems((loads or self._conversation.decoder.value)(body))
            except BaseException as error:  # decoding runs anybody's code
                wrong = ResultDecodeError(f"an item could not be decoded: {said(error)}")
                self._end = Batch([], error=Failure(wrong))
                self._isClosed = True
                self._conversation.closeStream(self._number)
            else:
                self._credit -= len(items)
                if self._credit < 0:
                    self._conversation.child.broke(f"{-self._credit} items of a stream that nobody had asked for")
                    return
                self.delivered += len(items)
                self._items.extend(items)
        self._give()

    def _give(self) -> None:
        pulled, self._pulled = self._pulled, None
        if pulled is not None:
            if self._credit <= self._window // 2:
                # Items come faster than credit.
                self._window = min(2 * self._window, MOST)
            pulled.callback(self._batch())

    def lost(self, error: Exception) -> None:
        """
        End the stream with an error, for the child is gone.
        """
        self._end = Batch([], error=Failure(error))
        self._give()

    def close(self) -> None:
        """
        Have the child close the iterator.
        """
        if not self._isClosed and self._end is None:
            self._isClosed = True
            self._pulled = None
            self._conversation.closeStream(self._number)


def _checkedItems(items: Any) -> list[Any]:
    if type(items) is not list:
        raise TypeError(f"items come as a list, not as {type(items).__name__}")
    return items
