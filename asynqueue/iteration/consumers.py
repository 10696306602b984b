"""
A consumer that makes a list.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.interfaces import IStreamConsumer
from asynqueue.iteration.batches import WINDOW


@implementer(IStreamConsumer)
class ListConsumer:
    """
    Collects what is written to it, and has each item processed, in a subclass that overrides L{processItem}.

    While there are as many items in process as a stream may be ahead, the producer is paused.
    """

    def __init__(self, **attributes: Any) -> None:
        """
        @param attributes: Are set on this object, for L{processItem}.
        """
        self._items: list[Any] = []
        self._producer: Any = None
        self._isStreaming = True
        self._inProcess = 0
        self._isPausing = False
        self._isAsking = False
        self._wantsMore = False
        self._isEnded = False
        self._failure: Failure | None = None
        self._waiters: list[Deferred[list[Any]]] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def processItem(self, item: Any) -> Any:
        """
        Return what goes into the list for an item, or a Deferred of it: here, the item. To be overridden.
        """
        return item

    def __call__(self) -> Deferred[list[Any]]:
        """
        Wait for the end of what is produced.

        @return: Fires with the list of what L{processItem} has made of all items, in the order in which they were
            written. Errbacks with the error that has ended the stream, or of L{processItem}.
        """
        waiter: Deferred[list[Any]] = Deferred(self._forget)
        self._waiters.append(waiter)
        self._checkEnd()
        return waiter

    def _forget(self, waiter: Deferred[list[Any]]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write.

        @raise RuntimeError: There is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered already")
        self._producer = producer
        self._isStreaming = streaming
        self._isEnded = False
        self._isPausing = False
        self._askForMore()

    def _askForMore(self) -> None:
        """
        Ask a pull producer for an item, and for another when it has given one, unless enough are in process.
        """
        self._wantsMore = True
        if self._isStreaming or self._isAsking:
            return
        self._isAsking = True
        try:
            while self._wantsMore and self._producer is not None and self._inProcess < WINDOW:
                self._wantsMore = False
                self._producer.resumeProducing()
        finally:
            self._isAsking = False

    def unregisterProducer(self) -> None:
        """
        Let the producer go: it has produced everything.
        """
        self._producer = None
        self._isEnded = True
        self._checkEnd()

    def streamFailed(self, failure: Failure) -> None:
        """
        Take note that what has been written is not all there should have been.
        """
        self._failure = self._failure or failure
        self._isEnded = True
        self._checkEnd()

    def write(self, item: Any) -> None:
        """
        Have an item processed.
        """
        index = len(self._items)
        self._items.append(None)
        try:
            result = self.processItem(item)
        except BaseException:
            self._failure = self._failure or Failure()
            raise
        if isinstance(result, Deferred):
            self._inProcess += 1
            result.addCallbacks(self._processed, self._notProcessed, (index,))
            if self._inProcess >= WINDOW and not self._isPausing and self._isStreaming and self._producer is not None:
                self._isPausing = True
                self._producer.pauseProducing()
        else:
            self._items[index] = result
        self._askForMore()

    def _processed(self, result: Any, index: int) -> None:
        self._items[index] = result
        self._inProcess -= 1
        self._goOn()
        self._checkEnd()

    def _notProcessed(self, failure: Failure) -> None:
        self._inProcess -= 1
        self._failure = self._failure or failure
        producer, self._producer = self._producer, None
        self._isEnded = True
        if producer is not None:
            producer.stopProducing()
        self._checkEnd()

    def _goOn(self) -> None:
        if self._isPausing and self._inProcess <= WINDOW // 2:
            self._isPausing = False
            if self._producer is not None:
                self._producer.resumeProducing()
        elif self._wantsMore:
            self._askForMore()

    def _checkEnd(self) -> None:
        if self._isEnded and (not self._inProcess or self._failure is not None):
            while self._waiters:
                # One of them may cancel another one.
                self._waiters.pop(0).callback(list(self._items) if self._failure is None else self._failure)
