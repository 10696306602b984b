"""
A stream: the items between a source and one reader, who always learns how it ends.

States::

    FLOWING --the source has no more--> ENDED --the reader has had it all--> CONCLUDED
       |                                  |
       +------------- stop ---------------+--> STOPPED

In ENDED, items may still wait for the reader, and an error behind them. Neither a stream that is concluded nor one
that is stopped has anything left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.python import threadable
from twisted.python.failure import Failure

from asynqueue.callinfo import safeRepr
from asynqueue.errors import NotReadyError, TimeoutError
from asynqueue.failures import errorText, exceptionOf, failureOf
from asynqueue.iteration.batches import WINDOW, Batch

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.iteration.sources import Source


class StreamState(Enum):
    """
    How far a stream has come.
    """

    FLOWING = "flowing"
    ENDED = "ended"
    CONCLUDED = "concluded"
    STOPPED = "stopped"


class Stream:
    """
    Takes items from a source, never more than a window ahead of the reader.

    @ivar state: How far it has come.
    @ivar name: What errors call it.
    @ivar items: Those that wait for the reader.
    @ivar delivered: How many the reader has had.
    @ivar done: Fires with C{True} when the reader has had all there was, and with C{False} at an error or a stop.
    @ivar isClaimed: Whether somebody reads it who bears no other reader.
    @ivar wasCutShort: Whether neither its source nor its reader has ended it.
    @ivar onEnd: Called once when the source is not needed any more.
    @ivar onStop: Called once when the stream is left before its end.
    @ivar makeDeadline: Starts the time that the source may take for an item; given what to call when it is up.
    """

    __slots__ = (
        "__weakref__",
        "_deadline",
        "_error",
        "_isPulling",
        "_source",
        "_waiter",
        "delivered",
        "done",
        "isClaimed",
        "items",
        "makeDeadline",
        "name",
        "onEnd",
        "onStop",
        "state",
        "wasCutShort",
    )

    OPEN = (StreamState.FLOWING, StreamState.ENDED)

    def __init__(self, source: Source) -> None:
        self.state = StreamState.FLOWING
        self.name = "the stream"
        self.items: deque[Any] = deque()
        self.delivered = 0
        itself = ref(self)
        self.done: Deferred[bool] = Deferred(lambda _: _cancelled(itself))
        self.isClaimed = False
        self.wasCutShort = False
        self.onEnd: Callable[[], object] | None = None
        self.onStop: Callable[[], object] | None = None
        self.makeDeadline: Callable[[Callable[[], object]], Deadline] | None = None
        self._source = source
        self._isPulling = False
        self._waiter: tuple[Callable[[], object], int] | None = None
        self._error: object = None
        self._deadline: Deadline | None = None

    # For the reader

    @property
    def isWaitedFor(self) -> bool:
        """
        Whether a reader waits for something to come.
        """
        return self._waiter is not None

    def hasMore(self) -> bool:
        """
        Tell whether the reader can expect anything more, items or an error, as far as is known.
        """
        state = self.state
        return state is StreamState.FLOWING or (
            state is StreamState.ENDED and (len(self.items) > 0 or self._error is not None)
        )

    def claim(self) -> None:
        """
        Become the one reader.

        @raise NotReadyError: There is one already, or the stream has been stopped.
        """
        if self.isClaimed or self._waiter is not None:
            raise NotReadyError("the stream is being read already, and there can be only one reader")
        if self.state is StreamState.STOPPED:
            raise NotReadyError("the stream has been left before its end, and cannot be read any more")
        self.isClaimed = self.state in self.OPEN

    def request(self, waiter: Callable[[], object], need: int = 1) -> bool:
        """
        Ask for items.

        @param waiter: Called when there are enough, or there will be none, if that is not so already.
        @param need: How many are enough.
        @return: Whether it is so already. Then C{waiter} is not called.
        """
        # Hot path, watched by `bench --only streams`.
        while self.state is StreamState.FLOWING and len(self.items) < need:
            if self._isPulling:
                self._waiter = (waiter, need)
                return False
            self._pull()
        return True

    def withdraw(self) -> None:
        """
        Have no waiter called any more.
        """
        self._waiter = None

    def pop(self) -> Any:
        """
        Return the next item, of which there must be one.
        """
        # Hot path, watched by `bench --only streams`.
        items = self.items
        item = items.popleft()
        self.delivered += 1
        if not items and self.state is StreamState.FLOWING and not self._isPulling and self._source.runsAhead:
            self._pull()
        return item

    @property
    def foresight(self) -> int:
        """
        How many items must be there until it is known whether anything follows the first.
        """
        return 1 if self._source.tellsEnd else 2

    def conclude(self) -> Failure | None:
        """
        Take note of the end, when the reader has had all items.

        @return: What has ended the stream, unless that was its natural end.
        """
        if self.state is StreamState.STOPPED:
            return Failure(CancelledError("the stream has been stopped"))
        error, self._error = self._error, None
        if self.state is StreamState.ENDED:
            self.state = StreamState.CONCLUDED
            self.isClaimed = False
            self._finish(error is None)
        return error if error is None or isinstance(error, Failure) else failureOf(error)

    def _finish(self, isWhole: bool) -> None:
        if not self.done.called:
            self.done.callback(isWhole)

    def stop(self) -> None:
        """
        Leave the stream: no more items are made, and those that wait are dropped.
        """
        if self.state not in self.OPEN:
            return
        isFlowing = self.state is StreamState.FLOWING
        self.state = StreamState.STOPPED
        self.isClaimed = False
        self.items.clear()
        self._error = None
        self._stopDeadline()
        try:
            if isFlowing:
                self._source.close()
        finally:
            if isFlowing:
                self._ended()
            onStop, self.onStop = self.onStop, None
            if onStop is not None:
                onStop()
            self._wake()
            self._finish(False)

    def dropped(self) -> None:
        """
        Leave the stream since nobody refers to its reader any more. May be called in any thread, as the collector does.
        """
        if self.state in self.OPEN:
            thread: int | None = threadable.ioThread
            if thread is None or thread == get_ident():
                self.stop()
            else:
                from twisted.internet import reactor

                cast("IReactorFromThreads", reactor).callFromThread(self.stop)

    # For who keeps the stream

    def fail(self, error: BaseException) -> None:
        """
        End the stream with an error, behind the items that wait.
        """
        if self.state is StreamState.FLOWING:
            self.wasCutShort = True
            self._end(Failure(error))
            self._source.close()
            self._wake()

    # The source

    def _pull(self) -> None:
        batch = self._source.pull(WINDOW - len(self.items))
        if type(batch) is Batch:
            self._take(batch)
            return
        self._isPulling = True
        assert isinstance(batch, Deferred)
        batch.addCallback(self._arrived).addErrback(self._failed)
        if self._isPulling and self.makeDeadline is not None:
            self._deadline = self.makeDeadline(self._tookTooLong)

    def _arrived(self, batch: Batch) -> None:
        # Hot path, watched by `bench --only streams`.
        if not isinstance(batch, Batch):
            raise TypeError(f"{self._source!r} has given {safeRepr(batch)} in place of items")
        self._isPulling = False
        self._stopDeadline()
        self._take(batch)
        self._wake()

    def _failed(self, failure: Failure) -> None:
        """
        Take note that the source does not work.
        """
        self._isPulling = False
        if self.state is StreamState.FLOWING:
            self._end(errorText(exceptionOf(failure)))
            self._source.close()
        self._wake()

    def _take(self, batch: Batch) -> None:
        # While it was stepped, the source may have stopped or failed its own stream.
        if self.state is StreamState.FLOWING:
            self.items.extend(batch.items)
            if batch.isLast:
                self._end(batch.error)

    def _end(self, error: object) -> None:
        self.state = StreamState.ENDED
        self._error = error
        self._stopDeadline()
        self._ended()

    def _ended(self) -> None:
        onEnd, self.onEnd = self.onEnd, None
        if onEnd is not None:
            onEnd()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and self.request(*waiter):
            waiter[0]()

    def _tookTooLong(self) -> None:
        self._deadline = None
        item = self.delivered + len(self.items)
        self.fail(TimeoutError(f"{self.name} took too long for item {item}"))

    def _stopDeadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.stop()


def _cancelled(itself: ref[Stream]) -> None:
    stream = itself()
    if stream is not None:
        stream.stop()
