"""
Streams at the end that runs calls: an iterator is stepped as far as the caller gives credit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.failures import ErrorText, exceptionOf
from asynqueue.iteration.batches import Batch
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.sources import AsyncIteratorSource, IteratorSource

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: How many items are sent at once at most.
MOST = 1024

#: How much memory, in bytes, they may take together, as far as C{sys.getsizeof} knows.
MEMORY = 1 << 20

#: For how many items a reader may give credit.
CREDIT = 1 << 20


class Sender(Protocol):
    """
    The runner, as its streams know it.
    """

    @property
    def clock(self) -> IReactorTime:
        """
        The clock.
        """

    @property
    def isFull(self) -> bool:
        """
        Whether so much waits to be sent that there should not be more.
        """

    def encodeItems(self, items: list[Any]) -> bytes:
        """
        Encode items. May raise anything.
        """

    def sendItems(self, number: int, body: bytes) -> None:
        """
        Send items that have been encoded.
        """

    def streamEnded(self, number: int, error: BaseException | None, where: str = "") -> None:
        """
        Tell that a stream is at its end.
        """


class Stepped:
    """
    An iterator that is stepped, and closed, in a context of its own.
    """

    __slots__ = ("_context", "_iterator")

    def __init__(self, iterator: Iterator[Any], context: Context) -> None:
        self._iterator = iterator
        self._context = context

    def __iter__(self) -> Stepped:
        return self

    def __next__(self) -> Any:
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        """
        Close the iterator, if it can be.
        """
        close = getattr(self._iterator, "close", None)
        if callable(close):
            self._context.run(close)


class Awaited:
    """
    An asynchronous iterator, stepped and closed in a context of its own, that tells when it has been closed.

    @ivar isBusy: Whether it is being stepped or closed.
    @ivar onClosed: Called when it has been closed.
    """

    __slots__ = ("_context", "_iterator", "isBusy", "onClosed")

    def __init__(self, iterator: AsyncIterator[Any], context: Context) -> None:
        self._iterator = iterator
        self._context = context
        self.isBusy = False
        self.onClosed: Callable[[], object] = int

    def __aiter__(self) -> Awaited:
        return self

    async def __anext__(self) -> Any:
        self.isBusy = True
        try:
            return await self._in(self._step())
        finally:
            self.isBusy = False

    async def _step(self) -> Any:
        return await anext(self._iterator)

    def _in(self, coroutine: Any) -> Deferred[Any]:
        return self._context.run(Deferred.fromCoroutine, coroutine)

    async def aclose(self) -> None:
        """
        Close the iterator, if it can be.
        """
        close = getattr(self._iterator, "aclose", None)
        if callable(close):
            self.isBusy = True
            try:
                await self._in(_awaited(close))
            finally:
                self.isBusy = False
                self.onClosed()


async def _awaited(close: Callable[[], Any]) -> None:
    await close()


class RunnerStream:
    """
    Sends the items of an iterator.

    States::

        waits for its first item --first--> FLOWING --no more, or an error--> ENDED
                   |                           |                                ^
                   +--- withdraw: the call has no stream                        |
                                               +-- close --> CLOSING --closed --+

    @ivar waitsSince: When somebody asked for items last, if all of those have been sent.
    """

    def __init__(self, sender: Sender, number: int, iterator: Any, context: Context) -> None:
        """
        @param number: That of the call, and of the stream.
        @param context: Where the iterator is stepped.
        """
        clock = sender.clock
        self._clock = clock
        self.waitsSince: float | None = None
        self._sender = sender
        self._number = number
        self._awaited: Awaited | None = None
        if isinstance(iterator, Deferator):
            iterator = aiter(iterator)
        if hasattr(type(iterator), "__next__"):
            self._source: IteratorSource | AsyncIteratorSource = IteratorSource(Stepped(iterator, context), None, clock)
        else:
            self._awaited = Awaited(iterator, context)
            self._source = AsyncIteratorSource(self._awaited, None, clock)
        self._begun: Deferred[RunnerStream] = Deferred()
        self._firstPulled: Deferred[Batch] | None = None
        self._first: Batch | None = None
        self._credit = 0
        self._items: list[Any] = []
        self._memory = MEMORY
        self._size = 1
        self._isPumping = False
        self._isPulling = False
        self._isClosing = False
        self._isEnded = False
        self._closed: Callable[[], object] | None = None

    def first(self) -> Deferred[RunnerStream]:
        """
        Take the first item.

        @return: Fires with this object when it is there, or there is none. Errbacks with the iterator's error, or with
            C{CancelledError} when it has been closed after L{withdraw}.
        """
        pulled = self._source.pull(1)
        if isinstance(pulled, Batch):
            self._gotFirst(pulled)
        else:
            self._firstPulled = pulled
            pulled.addBoth(self._gotFirst)
        return self._begun

    def _gotFirst(self, batch: Batch | Failure) -> None:
        self._firstPulled = None
        if self._isClosing:
            self._onceClosed()
            return
        error = exceptionOf(batch) if isinstance(batch, Failure) else _errorOf(batch.error)
        if error is not None:
            self._source.close()
            self._begun.errback(Failure(error))
            return
        assert isinstance(batch, Batch)
        self._first = batch
        self._begun.callback(self)

    def interrupt(self) -> None:
        """
        Cancel what the iterator waits for before its first item.
        """
        if self._firstPulled is not None and not self._isClosing:
            cancelQuietly(self._firstPulled)

    def withdraw(self) -> None:
        """
        Close the iterator before there is a first item.
        """
        if not self._isClosing:
            self._shut(lambda: self._begun.errback(CancelledError()))

    def begin(self) -> None:
        """
        Send the first item, for which no credit is needed, and the end if there is none.
        """
        self.waitsSince = self._clock.seconds()
        batch, self._first = self._first, None
        if batch is not None:
            self._took(batch)
            self._flush()

    def pull(self, count: int) -> None:
        """
        Send so many items more, when they are there.

        @raise ValueError: They are very many.
        """
        # Hot path, watched by `bench --only streams`.
        self._credit += max(count, 0)
        if self._credit > CREDIT:
            raise ValueError(f"credit for {self._credit} items of a stream, where {CREDIT} are the most")
        self.waitsSince = None
        self._pump()

    def goOn(self) -> None:
        """
        Send what there is credit for: there is room for it.
        """
        self._pump()

    def giveUp(self, error: Exception) -> None:
        """
        Close the iterator, and tell that the stream has ended with an error.
        """
        if not self._isClosing and not self._isEnded:
            self._shut(lambda: self._end(error))

    def _pump(self) -> None:
        # Hot path, watched by `bench --only streams`.
        if self._isPumping:
            return
        self._isPumping = True
        try:
            while (
                self._credit > 0
                and not (self._isPulling or self._isClosing or self._isEnded)
                and not self._sender.isFull
            ):
                batch = self._source.pull(min(self._credit, MOST, max(1, MEMORY // self._size)))
                if isinstance(batch, Batch):
                    self._took(batch)
                else:
                    self._isPulling = True
                    batch.addCallbacks(self._arrived, self._failed)
        finally:
            self._isPumping = False
        self._flush()

    def _arrived(self, batch: Batch) -> None:
        self._isPulling = False
        if self._isClosing:
            self._onceClosed()
            return
        self._took(batch)
        self._pump()

    def _failed(self, failure: Failure) -> None:
        self._isPulling = False
        if self._isClosing:
            self._onceClosed()
        else:
            self._end(exceptionOf(failure))

    def _took(self, batch: Batch) -> None:
        self._credit -= len(batch.items)
        if self._credit <= 0:
            self.waitsSince = self._clock.seconds()
        self._items += batch.items
        if batch.items:
            size = sum(getsizeof(item, 0) for item in batch.items)
            self._memory -= size
            # Those that follow are expected to be as large.
            self._size = max(1, size // len(batch.items))
        if batch.isLast:
            self._end(_errorOf(batch.error))
        elif len(self._items) >= MOST or self._memory <= 0:
            self._flush()

    def _flush(self) -> None:
        items, self._items = self._items, []
        self._memory = MEMORY
        if items and not self._isEnded:
            self._sendOff(items)

    def _sendOff(self, items: list[Any]) -> None:
        try:
            body = self._sender.encodeItems(items)
        except BaseException as error:  # encoding may run anybody's code
            if len(items) == 1:
                self._source.close()
                self._end(error, "item")
                return
            # Those before the one that will not travel do.
            for item in items:
                if not self._isEnded:
                    self._sendOff([item])
            return
        self._sender.sendItems(self._number, body)

    def _end(self, error: BaseException | None, where: str = "") -> None:
        self._flush()
        if not self._isEnded:
            self._isEnded = True
            self._sender.streamEnded(self._number, error, where)

    def close(self) -> None:
        """
        Close the iterator, and tell when that is done.
        """
        if not self._isClosing and not self._isEnded:
            self._items.clear()
            self._shut(lambda: self._end(None))

    def _shut(self, closed: Callable[[], object]) -> None:
        """
        Close the iterator, and call something when it is closed.
        """
        self._isClosing = True
        self._closed = closed
        if self._awaited is not None:
            self._awaited.onClosed = self._onceClosed
        self._source.close()
        self._onceClosed()

    def _onceClosed(self) -> None:
        if self._awaited is None or not self._awaited.isBusy:
            closed, self._closed = self._closed, None
            if closed is not None:
                closed()


def _errorOf(error: object) -> BaseException | None:
    if error is None or isinstance(error, BaseException):
        return error
    if isinstance(error, ErrorText):
        return error.exception
    assert isinstance(error, Failure), error
    return exceptionOf(error)
