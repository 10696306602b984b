"""
The queue by its documented name of 0.9.9: items wait, and a handler gets the best of them, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.closing import Phase
from asynqueue.errors import QueueClosed, QueueRunError
from asynqueue.load import LoadInfoProducer
from asynqueue.priority import Priority

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConsumer

    from asynqueue.calls import CallDeferred
    from asynqueue.handler import TaskHandler
    from asynqueue.tasks import Task


class Queue:
    """
    Calls a handler with the least of its items, waits for the Deferred that it returns, and goes on with the next.

    An error of the handler is logged, and the next item is handled.
    """

    log = Logger()

    def __init__(self, handler: Any, timeout: float | None = None) -> None:
        """
        @param handler: A callable, with a method C{shutdown(timeout)} which is called at the end, if it has one.
        @param timeout: What the handler's C{shutdown} is given.
        """
        self._handler = handler
        self._timeout = timeout
        self._items: Priority[Any] = Priority()
        self._load = LoadInfoProducer()
        self._isOpen = True
        self._isHandling = False
        self._closers: list[Deferred[list[Any]]] = []
        self._left: list[Any] | None = None
        self._isLooping = False

    def isRunning(self) -> bool:
        """
        Tell whether items are taken.
        """
        return self._isOpen

    def put(self, item: Any) -> None:
        """
        Let an item wait for its turn.

        @raise ValueError: It is C{None}.
        @raise QueueRunError: The queue is shut down.
        """
        if item is None:
            raise ValueError("None cannot be queued: an item must be something that can be ordered")
        if not self._isOpen:
            raise QueueRunError(f"{item!r} was not queued: the queue is shut down")
        self._items.put(item)
        self._load.oneMore()
        self._next()

    def _next(self) -> None:
        """
        Handle items until the handler is busy.
        """
        if self._isLooping:
            return
        self._isLooping = True
        while self._isOpen and not self._isHandling and len(self._items):
            self._isHandling = True
            self._items.get().addCallback(self._handle)
        self._isLooping = False
        if not self._isOpen and not self._isHandling:
            self._end()

    def _handle(self, item: Any) -> None:
        maybeDeferred(self._handler, item).addErrback(self._failed, item).addBoth(self._handled)

    def _failed(self, failure: Failure, item: Any) -> None:
        self.log.failure("The handler of a queue failed with {item!r}", failure, item=item)

    def _handled(self, _: object) -> None:
        self._isHandling = False
        self._load.oneLess()
        self._next()

    def shutdown(self) -> Deferred[list[Any]]:
        """
        Take and handle no more items, wait for the one that is being handled, and shut down the handler.

        @return: Fires with the items left: those that waited, then those that the handler has left unfinished.
        """
        closer: Deferred[list[Any]] = Deferred()
        if self._left is not None:
            closer.callback(list(self._left))
            return closer
        self._closers.append(closer)
        if self._isOpen:
            self._isOpen = False
            self._next()
        return closer

    def _end(self) -> None:
        self._left = self._items.cancel(lambda item: True)
        self._items.shutdown()
        self._load.shutdown()
        shutdown = getattr(self._handler, "shutdown", None)
        if shutdown is None:
            self._ended(None)
        else:
            maybeDeferred(shutdown, self._timeout).addErrback(self._failed, "its shutdown").addBoth(self._ended)

    def _ended(self, unfinished: Any) -> None:
        assert self._left is not None
        if isinstance(unfinished, list):
            self._left.extend(unfinished)
        closers, self._closers = self._closers, []
        for closer in closers:
            closer.callback(list(self._left))

    def cancelSeries(self, series: Hashable) -> int:
        """
        Remove the items whose attribute C{series} is equal to C{series}. If they have a Deferred C{d}, it is cancelled.

        @return: How many there were.
        """
        return self._cancel(lambda item: getattr(item, "series", None) == series)

    def cancelAll(self) -> int:
        """
        Remove all items. If they have a Deferred C{d}, it is cancelled.

        @return: How many there were.
        """
        return self._cancel(lambda item: True)

    def _cancel(self, selector: Callable[[Any], bool]) -> int:
        removed = self._items.cancel(selector)
        for item in removed:
            self._load.oneLess()
            if isinstance(getattr(item, "d", None), Deferred):
                item.d.cancel()
        return len(removed)

    def subscribe(self, consumer: IConsumer) -> None:
        """
        Write the number of items that wait or are being handled to a consumer, each time that it changes.

        @raise ImplementationError: It does not provide C{IConsumer}.
        """
        self._load.registerConsumer(consumer)


class CallQueue(Queue):
    """
    The calls of a task queue, seen as a L{Queue}. What it shows is what the task queue does.
    """

    def __init__(self, handler: TaskHandler, timeout: float | None = None) -> None:
        super().__init__(handler, timeout)
        self._calls = handler

    def isRunning(self) -> bool:
        """
        Tell whether tasks are taken.
        """
        return self._calls.closing.phase is Phase.OPEN

    def put(self, item: Task) -> None:
        """
        Queue a task, such as C{TaskQueue.newTask} makes.

        @raise QueueClosed: The queue is shut down.
        """
        if not self.isRunning():
            raise QueueClosed(f"{item!r} was not queued: the queue is shut down")
        self._calls.dispatcher.submit(self._calls.entryOf(item))

    def shutdown(self) -> Deferred[list[Any]]:
        """
        Shut the queue down, as C{TaskQueue.shutdown} does.

        @return: Fires with the tasks that workers left unfinished.
        """
        return self._calls.shutdown(self._timeout)

    def cancelSeries(self, series: Hashable) -> int:
        """
        Cancel the calls of a series that wait, over the next turns of the reactor.

        @return: How many there were.
        """
        return self._calls.dispatcher.cancelLanes(self._calls.dispatcher.backlog.lanesOf(series), _cancelledInBulk)

    def cancelAll(self) -> int:
        """
        Cancel all calls that wait, over the next turns of the reactor.

        @return: How many there were.
        """
        return self._calls.dispatcher.cancelLanes(list(self._calls.dispatcher.backlog.lanes()), _cancelledInBulk)

    def subscribe(self, consumer: IConsumer) -> None:
        """
        Write the number of calls that are queued or running to a consumer, each time that it changes.

        @raise ImplementationError: It does not provide C{IConsumer}.
        """
        self._calls.dispatcher.ledger.subscribe(consumer)


def _cancelledInBulk(entry: CallDeferred[Any]) -> CancelledError:
    # The calls may be a million: what they were is not told.
    return CancelledError(f"call {entry.ID} was cancelled with others")
