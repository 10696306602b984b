"""
Items that are made at once, for blocking code that gets them in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from queue import SimpleQueue
from typing import Any, Self, TypeVar, overload

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from asynqueue.errors import QueueRunError
from asynqueue.failures import exceptionOf
from asynqueue.threads.pool import PoolUser
from asynqueue.threads.unseen import KeptFailure
from asynqueue.workers.lifecycle import Readiness

T = TypeVar("T")


class Phase(Enum):
    """
    How far an L{OrderedItemProducer} has come::

        NEW --start--> OPEN --stop--> CLOSING --fb is over--> CLOSED
    """

    NEW = "has not been started"
    OPEN = "is running"
    CLOSING = "is being stopped"
    CLOSED = "has been stopped"


class Settling(Enum):
    """
    What is in the place of an item that there is not.
    """

    PENDING = "pending"
    LEFT_OUT = "left out"


class OrderedItemProducer(PoolUser):
    """
    Runs a blocking function over items that are made by others, concurrently, and reach it in the order of the calls.

        >>> producer = OrderedItemProducer()
        >>> await producer.start(writeAll, "pages.txt")
        >>> for url in urls:
        ...     producer.produceItem(fetch, url)
        >>> count = await producer.stop()

    An item waits for those before it. Nothing limits how many wait: who makes many calls is to wait for some of their
    Deferreds now and then.
    """

    def __init__(self, maxThreads: int | None = None, reactor: Any = None) -> None:
        """
        @param maxThreads: How many calls may run in the pool at a time, the blocking function included; that of the
            class unless given.
        @param reactor: The reactor, unless it is the global one.
        @raise ValueError: C{maxThreads} is less than 1.
        @raise TypeError: It is no whole number.
        """
        super().__init__(maxThreads, reactor)
        self._phase = Phase.NEW
        self._feed = Feed()
        self._slots: deque[Slot] = deque()
        self._begun: Deferred[None] = Deferred()
        self._isOver = False
        self._result: Any = None
        self._failure: KeptFailure | None = None
        self._ends = Readiness()

    def start(self, fb: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[None]:
        """
        Run a blocking function in a thread of the pool.

        @param fb: It gets an iterator over the items as its first argument, and then the others. The iterator blocks
            until there is an item, and ends with L{stop}.
        @return: Fires when the function has begun.
        @raise QueueRunError: That has been done, or the producer has been stopped.
        @raise TypeError: C{fb} is not callable.
        """
        if not callable(fb):
            raise TypeError(f"fb must be callable, and {fb!r} is not")
        if self._phase is not Phase.NEW:
            raise QueueRunError(f"{fb!r} cannot be started: {self!r} {self._phase.value}")
        self._phase = Phase.OPEN
        callFromThread = self._keeper().reactor.callFromThread

        def run() -> Any:
            callFromThread(self._began)
            return fb(self._feed, *args, **kw)

        self.deferToThreadInPool(run).addCallbacks(self._returned, self._raised).addBoth(self._over)
        return self._begun

    @overload
    def produceItem(self, fp: Callable[..., Awaitable[T]], *args: Any, **kw: Any) -> Deferred[T]: ...

    @overload
    def produceItem(self, fp: Callable[..., T], *args: Any, **kw: Any) -> Deferred[T]: ...

    def produceItem(self, fp: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Make an item, for the blocking function to get after those of earlier calls.

        @param fp: What makes it, called now, in the reactor's thread. It may return a Deferred, or be a coroutine
            function.
        @return: Fires with the item when it has been made. When C{fp} has failed, or the Deferred is cancelled, it
            fails, and the item is left out.
        @raise QueueRunError: The producer has not been started, or has been stopped.
        @raise TypeError: C{fp} is not callable.
        """
        if not callable(fp):
            raise TypeError(f"fp must be callable, and {fp!r} is not")
        if self._phase is not Phase.OPEN:
            raise QueueRunError(f"{fp!r} cannot produce an item: {self!r} {self._phase.value}")
        slot = Slot()
        if not self._isOver:
            self._slots.append(slot)
        made: Deferred[Any] = maybeDeferred(fp, *args, **kw)
        return made.addCallbacks(self._made, self._failed, callbackArgs=(slot,), errbackArgs=(slot,))

    def stop(self) -> Deferred[Any]:
        """
        Take no more calls, and end the iterator when all items have been delivered that are being made.

        One that is never made is waited for, until its Deferred is cancelled. When the blocking function has returned,
        nothing is.

        @return: Fires with what the blocking function returns, or C{None} if it has not been started, and fails as it
            does.
        """
        return self._close().addCallback(lambda _: self._result if self._failure is None else self._failure.see())

    def _close(self) -> Deferred[None]:
        if self._phase is Phase.NEW:
            self._phase = Phase.CLOSED
            self._feed.end()
        elif self._phase is Phase.OPEN:
            self._phase = Phase.CLOSING
            self._deliver()
            self._closeIfOver()
        return self._keeper().letGo() if self._phase is Phase.CLOSED else self._ends.wait()

    def shutdown(self) -> Deferred[None]:
        """
        Take no more calls, end the iterator at once, whatever has not been delivered, and let the threads end when all
        is done that has been given to the pool.

        @return: Fires when they have gone.
        """
        self._slots.clear()
        self._feed.abort()
        closed = self._close()
        return super().shutdown().addCallback(lambda _: closed)

    def _began(self) -> None:
        if not self._begun.called:
            self._begun.callback(None)

    def _returned(self, result: Any) -> None:
        self._result = result

    def _raised(self, failure: Failure) -> None:
        self._failure = KeptFailure(exceptionOf(failure))

    def _over(self, _: None) -> None:
        """
        Note that the blocking function is over, or has never begun, for want of a thread.
        """
        self._isOver = True
        self._slots.clear()
        if self._failure is not None and not self._begun.called:
            self._begun.errback(self._failure.see())
        self._began()
        self._closeIfOver()

    def _closeIfOver(self) -> None:
        if self._isOver and self._phase is Phase.CLOSING:
            self._phase = Phase.CLOSED
            self._keeper().letGo().addCallback(lambda _: self._ends.ready())

    def _made(self, item: T, slot: Slot) -> T:
        slot.item = item
        self._deliver()
        return item

    def _failed(self, failure: Failure, slot: Slot) -> Failure:
        slot.item = Settling.LEFT_OUT
        self._deliver()
        return failure

    def _deliver(self) -> None:
        """
        Give all items to the blocking function that wait for none.
        """
        while self._slots and self._slots[0].item is not Settling.PENDING:
            item = self._slots.popleft().item
            if item is not Settling.LEFT_OUT:
                self._feed.give(item)
        if not self._slots and self._phase is Phase.CLOSING:
            self._feed.end()


class Slot:
    """
    The place of an item among the others.

    @ivar item: The item, or why it is not there.
    """

    __slots__ = ("item",)

    def __init__(self) -> None:
        self.item: Any = Settling.PENDING


class Feed:
    """
    A blocking iterator over what it is given, from any thread.
    """

    def __init__(self) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._isAborted = False

    def give(self, item: Any) -> None:
        """
        Add an item.
        """
        self._items.put(item)

    def end(self) -> None:
        """
        End the iteration after what has been given. It may be done again.
        """
        self._items.put(Settling.LEFT_OUT)

    def abort(self) -> None:
        """
        End the iteration now.
        """
        self._isAborted = True
        self.end()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """
        Wait for an item.
        """
        item = self._items.get()
        if item is Settling.LEFT_OUT or self._isAborted:
            # For others who wait, or come again.
            self.end()
            raise StopIteration
        return item
