"""
Stepping an iterator, some items at a time, wherever it may run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableSequence, Sequence
from itertools import repeat
from sys import getsizeof
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from asynqueue.deferreds.context import Surroundings
from asynqueue.errors import WorkerError
from asynqueue.failures import ErrorText, errorText

if TYPE_CHECKING:
    from asynqueue.tasks import Task

#: How many items may be ahead of whoever reads a stream.
WINDOW = 16

#: How much memory, in bytes, items may take that are ahead: as far as C{sys.getsizeof} knows.
MEMORY = 1 << 20

#: Types of items that take next to no memory.
SMALL = frozenset([type(None), bool, int, float])

#: How long, in seconds, a batch may take, beyond which it consists of what is there by then.
SPAN = 0.002


class Batch:
    """
    Items that follow one another in a stream.

    @ivar items: The items.
    @ivar isLast: Whether the stream ends with them.
    @ivar error: What ends it, if that is an error.
    """

    __slots__ = ("error", "isLast", "items")

    def __init__(self, items: Sequence[Any], isLast: bool = False, error: object = None) -> None:
        self.items = items
        self.isLast = isLast or error is not None
        self.error = error

    def __repr__(self) -> str:
        return f"<Batch of {len(self.items)} items{', the last' if self.isLast else ''}>"


class Stepper:
    """
    Takes items out of an iterator, and closes it.

    All its methods but L{abort} are for the thread in which the iterator is at home.

    @ivar isAborted: Whether nobody wants any more items.
    @ivar isClosed: Whether the iterator has come to its end.
    """

    __slots__ = ("_isStepping", "_iterator", "_kind", "_next", "_surroundings", "_task", "isAborted", "isClosed")

    _log = Logger()

    def __init__(
        self, iterator: Iterator[Any], task: Task | None = None, kind: type[WorkerError] = WorkerError
    ) -> None:
        """
        @param task: The call that the iterator is the result of, in whose context it is stepped.
        @param kind: The kind of error that reports an exception of the iterator.
        """
        self._iterator: Iterator[Any] | None = iterator
        self._next: Callable[[], Any] = iterator.__next__
        self._task = task
        self._kind = kind
        self._surroundings = Surroundings(None if task is None else task.context, task)
        self._isStepping = False
        self.isAborted = False
        self.isClosed = False

    def take(self, most: int, items: MutableSequence[Any] | None = None) -> Batch:
        """
        Take items until there are so many, or they are large enough, or time is up, or the iterator ends.

        @param items: Where they go, one by one, for whoever looks at them meanwhile; a new list unless given.
        """
        if self.isClosed or self.isAborted or self._isStepping:
            self.close()
            return Batch([], isLast=True)
        self._isStepping = True
        try:
            batch = self._surroundings.run(self._take, most, [] if items is None else items)
        finally:
            self._isStepping = False
        self._taken(batch)
        return batch

    def _taken(self, batch: Batch) -> None:
        if batch.isLast:
            self._finished()
        elif self.isAborted:
            self.close()

    def _take(self, most: int, items: MutableSequence[Any]) -> Batch:
        # Hot path, watched by `bench --only streams`.
        append = items.append
        step = self._next
        memory = MEMORY
        until = monotonic() + SPAN
        try:
            for _ in repeat(None, most):
                item = step()
                append(item)
                if type(item) not in SMALL:
                    memory -= _sizeOf(item)
                    if memory <= 0:
                        break
                if self.isAborted or monotonic() > until:
                    break
            return Batch(items)
        except StopIteration:
            return Batch(items, isLast=True)
        except BaseException as error:  # even a SystemExit of the iterator's own ends the stream, not the thread
            return Batch(items, error=self._told(error))

    def _told(self, error: BaseException) -> ErrorText:
        return errorText(error, self._kind)

    def abort(self) -> None:
        """
        Let the iterator know that nobody wants any more items, as far as it looks at C{currentCall().cancelled}.
        """
        self.isAborted = True
        if self._task is not None:
            self._task.cancelled = True

    def close(self) -> None:
        """
        Close the iterator, so that a generator runs its C{finally}, now or as soon as it has given the item at hand.
        """
        self.abort()
        if self._isStepping or self.isClosed:
            return
        close = getattr(self._iterator, "close", None)
        self._finished()
        if callable(close):
            self._isStepping = True
            try:
                self._surroundings.run(close)
            except BaseException:  # even a SystemExit of the iterator's own: the stream is over for its reader
                self._log.failure("An iterator raised an exception when it was closed")
            finally:
                self._isStepping = False

    def _finished(self) -> None:
        self.isClosed = True
        self._iterator = None
        self._next = _ended


def _sizeOf(item: Any) -> int:
    try:
        return getsizeof(item, 0)
    except Exception:  # a foreign __sizeof__ may raise anything
        return 0


def _ended() -> Any:
    raise StopIteration
