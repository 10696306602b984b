"""
A consumer of Twisted's, whose data blocking code iterates over.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer
from zope.interface import implementer

from asynqueue.errors import ImplementationError, QueueRunError
from asynqueue.threads.getters import IterationGetter
from asynqueue.threads.pool import isReactorThread

#: A push producer is paused when more items than this wait.
MOST = 16

#: It is resumed when no more than this are left.
HALF = MOST // 2


@implementer(IConsumer)
class Consumerator(IterationGetter):
    """
    Takes what a producer writes, and is an iterator over it for a thread.

        >>> rows = Consumerator()
        >>> stored = rows.deferToThreadInPool(store, rows)
        >>> rows.registerProducer(producer, True)
        >>> await stored

    A push producer is paused when more than 16 items wait, and resumed when half of them are left; a pull producer is
    asked for data when the blocking side waits for some. The iteration is over with what was written before
    C{unregisterProducer}. When the producer raises an exception as it is asked to go on, the blocking side gets that
    after what was written.

    All but the iteration is for the reactor's thread.

    @ivar producer: The producer that is registered, or C{None}.
    """

    def __init__(self, producer: Any = None, maxThreads: int | None = None, reactor: Any = None) -> None:
        """
        @param producer: A producer to be registered, a push producer if it provides that. It may register itself once
            more.
        @param maxThreads: As for L{IterationGetter}.
        @param reactor: The reactor, unless it is the global one.
        @raise ImplementationError: The producer provides neither C{IPushProducer} nor C{IPullProducer}.
        """
        super().__init__(maxThreads, reactor)
        self.producer: Any = None
        self._isPush = False
        self._isGiven = False
        self._isPaused = False
        self._isAwaited = False
        self._isClosed = False
        if producer is not None:
            self.registerProducer(producer, IPushProducer.providedBy(producer))
            self._isGiven = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Begin to consume. A producer that comes after the end is stopped.

        @param streaming: Whether it is a push producer.
        @raise RuntimeError: There is a producer.
        @raise ImplementationError: It provides no C{IPushProducer}, or no C{IPullProducer} if it is not streaming.
        """
        isKnown = self._isGiven and producer is self.producer
        if self.producer is not None and not isKnown:
            raise RuntimeError(f"{producer!r} cannot be registered: {self.producer!r} is, and has to leave first")
        wanted = IPushProducer if streaming else IPullProducer
        if not wanted.providedBy(producer):
            raise ImplementationError(
                f"{producer!r} cannot be registered with streaming={streaming!r}: it provides no {wanted.__name__}"
            )
        if self._isClosed:
            self._tell(producer, "stopProducing")
            return
        self._isGiven = False
        self.producer = producer
        self._isPush = bool(streaming)
        if self._isPush:
            self._pauseIfFull()
        elif self._isAwaited and not isKnown:
            self._resume()

    def unregisterProducer(self) -> None:
        """
        Let go of the producer. The iteration is over after what has been written.
        """
        self.producer = None
        self._isPaused = False
        self._endAfterAll()

    def write(self, data: Any) -> None:
        """
        Add an item to the iteration. After the end it is dropped.
        """
        if not self._isClosed:
            self._isAwaited = False
            self._give(data)
            self._pauseIfFull()

    def __next__(self) -> Any:
        """
        Wait for the next item.

        @raise QueueRunError: It is the reactor's thread, and there is none: nobody could ever write one.
        """
        if not self._given and self._last is None and not self._isAtEnd and isReactorThread():
            raise QueueRunError(f"{self!r} has no item, and the reactor's thread cannot wait for one")
        return super().__next__()

    def _endAfterAll(self, error: BaseException | None = None) -> None:
        if not self._isClosed:
            self._isClosed = True
            self._finish(error)

    def _pauseIfFull(self) -> None:
        if self._isPush and self.producer is not None and not self._isPaused and len(self._given) > MOST:
            self._isPaused = True
            self._tell(self.producer, "pauseProducing")
            if len(self._given) <= HALF:
                # They were taken when nobody knew yet that it would be paused.
                self._keeper().reactor.callFromThread(self._resumeIfHalf)

    def _taken(self) -> None:
        if self._isPaused and len(self._given) <= HALF:
            self._keeper().reactor.callFromThread(self._resumeIfHalf)

    def _resumeIfHalf(self) -> None:
        if self._isPaused and self.producer is not None and len(self._given) <= HALF:
            self._isPaused = False
            self._resume()

    def _wanted(self) -> None:
        if not self._isPush and not self._given:
            self._keeper().reactor.callFromThread(self._ask)

    def _ask(self) -> None:
        """
        Have a pull producer produce, now or when there is one, unless it has been faster.
        """
        if not self._given and not self._isClosed:
            self._isAwaited = True
            if self.producer is not None and not self._isPush:
                self._resume()

    def _resume(self) -> None:
        error = self._tell(self.producer, "resumeProducing")
        if error is not None:
            # Nothing more can be expected of it.
            producer, self.producer = self.producer, None
            self._endAfterAll(error)
            if producer is not None:
                self._tell(producer, "stopProducing")

    def _tell(self, producer: Any, what: str) -> Exception | None:
        try:
            getattr(producer, what)()
        except Exception as error:  # a producer may be anybody's; the blocking side goes on
            if what != "resumeProducing":
                self._log.failure("{producer!r} raised in {what}", producer=producer, what=what)
            return error
        return None

    def _iterationEnded(self) -> None:
        self._isClosed = True
        producer, self.producer = self.producer, None
        if producer is not None:
            self._tell(producer, "stopProducing")
