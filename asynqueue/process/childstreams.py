"""
Iterators in a child whose items its parent gets, as far as the parent gives credit.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections import deque
from time import monotonic

from asynqueue.process import frames
from asynqueue.process.decoding import dumps
from asynqueue.process.surroundings import endCopy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Context
    from typing import Any

    from asynqueue.process.control import Control
    from asynqueue.process.outlet import Outlet

#: How long, in seconds, a stream may be stepped before calls have their turn.
SPAN = 0.002

#: How much, in bytes, pickled items may take that are ahead of their reader.
MEMORY = 1 << 20


class ChildStream:
    """
    An iterator whose items the parent gets.
    """

    __slots__ = ("context", "credit", "items", "iterator", "step")

    def __init__(self, iterator: Any, context: Context) -> None:
        self.iterator = iterator
        self.context = context
        self.step = iterator.__next__
        self.items: deque[Any] = deque()
        self.credit = 0

    def takeFirst(self) -> bool:
        """
        Take the first item, which is still a part of the call.

        @return: Whether there is none.
        """
        self.credit = 1
        try:
            self.context.run(self._take, 0.0)
        except StopIteration:
            return True
        return False

    def take(self, until: float) -> None:
        """
        Take some items, until a time on the monotonic clock.

        @raise StopIteration: There are no more. Anything else may be raised as well.
        """
        self.context.run(self._take, until)

    def _take(self, until: float) -> None:
        # Hot path, watched by `bench --only processes`.
        step = self.step
        append = self.items.append
        memory = MEMORY
        while self.credit and memory > 0:
            item = step()
            self.credit -= 1
            memory -= _sizeOf(item)
            append(item)
            if monotonic() > until:
                return

    def close(self) -> None:
        """
        Close the iterator, if it can be.
        """
        close = getattr(self.iterator, "close", None)
        if callable(close):
            try:
                self.context.run(close)
            except BaseException as error:  # a generator's finally may raise anything
                sys.excepthook(type(error), error, error.__traceback__)


def _sizeOf(item: Any) -> int:
    # Hot path, watched by `bench --only processes`.
    try:
        return sys.getsizeof(item)
    except Exception:  # a class of anybody's may raise anything
        return 0


class ChildStreams:
    """
    The streams that are open.

    @ivar isCopy: Whether this process is a copy of the child, which an iterator has made.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._open: dict[int, ChildStream] = {}
        self._steppable: deque[int] = deque()
        self._closings: deque[ChildStream] = deque()
        self._flushing = allocate_lock()
        self.isCopy = False

    def __contains__(self, number: object) -> bool:
        return number in self._open

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, number: int, stream: ChildStream, isLast: bool) -> None:
        """
        Begin with a stream whose first item has been taken.

        @param isLast: Whether there was none.
        """
        self._open[number] = stream
        self._outlet.write(frames.STREAM, number)
        self._flush(number, stream)
        if isLast and self._open.pop(number, None) is not None:
            self._outlet.write(frames.STREAM_END, number)

    def pull(self, number: int, count: int) -> None:
        """
        Let so many items more of a stream be taken.
        """
        stream = self._open.get(number)
        if stream is not None:
            if not stream.credit:
                self._steppable.append(number)
            stream.credit += count

    def close(self, number: int) -> None:
        """
        Close a stream, for nobody wants more of it.
        """
        stream = self._open.pop(number, None)
        if stream is not None:
            stream.close()
            self._outlet.write(frames.STREAM_END, number)

    def closeBroken(self) -> None:
        """
        Close the iterators of which an item could not be sent.
        """
        while self._closings:
            self._closings.popleft().close()

    @property
    def areSteppable(self) -> bool:
        """
        Whether there is one whose items may be taken.
        """
        return bool(self._steppable)

    def step(self, page: Any, control: Control) -> None:
        """
        Take some items of the stream whose turn it is, and send them.
        """
        number = self._steppable.popleft()
        stream = self._open.get(number)
        if stream is None:
            return
        error: BaseException | None = None
        isLast = False
        until = monotonic() + SPAN
        page[0] = number
        try:
            try:
                control.enter(number)
                stream.take(until)
            finally:
                control.running = 0
                if self.isCopy:
                    endCopy()
        except StopIteration:
            isLast = True
        except BaseException as caught:  # even a SystemExit of the iterator's own ends the stream, not the child
            control.running = 0
            error = caught
        self._flush(number, stream)
        if error is not None or isLast:
            if self._open.pop(number, None) is not None:
                if error is not None:
                    # It may have been interrupted beside the iterator, not within.
                    stream.close()
                self._end(number, error)
                if error is not None:
                    # What the traceback refers to is let go of now.
                    error.__traceback__ = None
        elif stream.credit:
            self._steppable.append(number)

    def flush(self, number: int) -> None:
        """
        Send the items of a stream that are there. In either thread; the main thread may be adding to them.
        """
        stream = self._open.get(number)
        if stream is not None:
            self._flush(number, stream)

    def _flush(self, number: int, stream: ChildStream) -> None:
        with self._flushing:
            waiting = stream.items
            items = [waiting.popleft() for _ in range(len(waiting))]
            if items:
                self._send(number, items)

    def _send(self, number: int, items: list[Any]) -> None:
        try:
            self._outlet.deliver(frames.ITEMS, number, items)
        except BaseException as error:  # pickling runs anybody's code
            if len(items) > 1:
                # Those before the one that will not travel do.
                for item in items:
                    if number in self._open:
                        self._send(number, [item])
                return
            from asynqueue.process.culprits import located

            self._broken(number, located(dumps, items[0], "item", error))

    def _broken(self, number: int, error: BaseException) -> None:
        """
        End a stream of which an item cannot travel. The main thread closes the iterator when it comes to that.
        """
        stream = self._open.pop(number, None)
        if stream is not None:
            self._closings.append(stream)
            self._end(number, error, "item")

    def _end(self, number: int, error: BaseException | None, where: str = "") -> None:
        if error is None:
            self._outlet.write(frames.STREAM_END, number)
        else:
            self._outlet.writeError(frames.STREAM_END, number, error, where)
