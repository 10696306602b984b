"""
Writing the items of an iteration to a consumer, at the consumer's pace.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.callinfo import safeRepr
from asynqueue.errors import ImplementationError
from asynqueue.interfaces import IStreamConsumer
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.recognition import isIterator
from asynqueue.iteration.sources import WrappedSource


class Production(Enum):
    """
    How far a producer has come::

        READY --run--> RUNNING --the end, an error or a stop--> DONE
    """

    READY = "ready"
    RUNNING = "running"
    DONE = "done"


@implementer(IPushProducer)
class IterationProducer:
    """
    Writes each item to the consumer that is registered, one C{write} an item, unless that has paused it.

    At the end, it unregisters itself from the consumer. A consumer that provides
    L{asynqueue.interfaces.IStreamConsumer} is told before if that was an error.

    @ivar deferator: What is iterated over.
    @ivar consumer: Where the items go.
    """

    _log = Logger()

    def __init__(self, deferator: Deferator, consumer: Any = None) -> None:
        """
        @param consumer: An C{IConsumer} to register, now rather than later.
        @raise TypeError: C{deferator} is no L{Deferator}.
        @raise ImplementationError: C{consumer} does not provide C{IConsumer}.
        """
        if not isinstance(deferator, Deferator):
            raise TypeError(f"deferator must be a Deferator, and {safeRepr(deferator)} is none")
        self.deferator = deferator
        self.consumer: Any = None
        self._stream = deferator.stream
        self._production = Production.READY
        self._isPaused = False
        self._isWriting = False
        self._outcome: Any = None
        self._waiters: list[Deferred[Any]] = []
        if consumer is not None:
            self.registerConsumer(consumer)

    def registerConsumer(self, consumer: Any) -> None:
        """
        Write to a consumer, once the producer runs.

        @raise ImplementationError: It does not provide C{IConsumer}, or there is one already.
        """
        if not IConsumer.providedBy(consumer):
            raise ImplementationError(f"a consumer must provide IConsumer, and {safeRepr(consumer)} does not")
        if self.consumer is not None:
            raise ImplementationError(f"{self.consumer!r} is the consumer already, and there can be only one")
        self.consumer = consumer
        try:
            consumer.registerProducer(self, True)
        except BaseException:
            self.consumer = None
            raise

    def run(self) -> Deferred[Any]:
        """
        Write everything to the consumer. Cancelled, it leaves the iteration.

        @return: Fires with the consumer when all has been written. Errbacks with the error that ends the iteration,
            after the items before it have been written; with what the consumer's C{write} raises; or with
            C{CancelledError} when the consumer stops the producer.
        @raise ImplementationError: There is no consumer.
        @raise NotReadyError: Somebody else iterates.
        """
        if self.consumer is None:
            raise ImplementationError("there is no consumer to produce for; give one to registerConsumer()")
        if self._production is Production.READY:
            self._stream.claim()
            self._production = Production.RUNNING
            self._stream.onStop = self._stopped
            self._produce()
        return self.deferUntilDone()

    def deferUntilDone(self) -> Deferred[Any]:
        """
        Wait for what L{run} waits for.

        @return: Fires, or errbacks, as that of L{run} does.
        """
        waiter: Deferred[Any] = Deferred(self._cancelled)
        if self._production is Production.DONE:
            waiter.callback(self._outcome)
        else:
            self._waiters.append(waiter)
        return waiter

    def _cancelled(self, waiter: Deferred[Any]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._leave(Failure(CancelledError("the producer has been cancelled")))

    def _stopped(self) -> None:
        """
        Take note that somebody else has left the iteration.
        """
        self._leave(Failure(CancelledError("the stream has been stopped")))

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        Write nothing until L{resumeProducing}.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        Go on writing.
        """
        self._isPaused = False
        self._produce()

    def stopProducing(self) -> None:
        """
        Write nothing any more, for the consumer has gone, and leave the iteration.
        """
        self._leave(Failure(CancelledError("the consumer has stopped the producer")), isRegistered=False)

    def _produce(self) -> None:
        # Hot path, watched by `bench --only streams`. What the consumer does in write() may call this again.
        if self._isWriting or self._isPaused or self._production is not Production.RUNNING:
            return
        stream = self._stream
        write: Callable[[Any], object] = self.consumer.write
        self._isWriting = True
        try:
            while not self._isPaused and self._production is Production.RUNNING:
                if stream.items:
                    write(stream.pop())
                elif not stream.request(self._produce):
                    break
                elif not stream.items:
                    self._finish(stream.conclude())
        except BaseException:  # a consumer may be anybody's; even a SystemExit of its own ends the stream only
            self._leave(Failure())
        finally:
            self._isWriting = False

    def _leave(self, failure: Failure, isRegistered: bool = True) -> None:
        """
        End before the iteration does.
        """
        if self._production is not Production.DONE:
            self._finish(failure, isRegistered)
            self._stream.stop()

    def _finish(self, failure: Failure | None, isRegistered: bool = True) -> None:
        self._production = Production.DONE
        self._outcome = self.consumer if failure is None else failure
        self._stream.onStop = None
        if failure is not None and IStreamConsumer.providedBy(self.consumer):
            self._tell(self.consumer.streamFailed, failure)
        if self.consumer is not None and isRegistered:
            self._tell(self.consumer.unregisterProducer)
        while self._waiters:
            # One of them may cancel another one.
            self._waiters.pop(0).callback(self._outcome)

    def _tell(self, method: Callable[..., object], *args: object) -> None:
        try:
            method(*args)
        except BaseException:  # a consumer may be anybody's, and whoever waits must be told in any case
            self._log.failure("{consumer!r} raised an exception at the end of a stream", consumer=self.consumer)


def iteratorToProducer(
    iterator: Any, consumer: Any = None, wrapper: Callable[..., Any] | None = None
) -> Deferred[IterationProducer | None]:
    """
    Make a producer of an iterator.

    @param iterator: Is stepped in the reactor, unless there is a C{wrapper}.
    @param consumer: Gets everything at once, if given. Otherwise, give one to the producer and run it.
    @param wrapper: Called with a function and its arguments, each time that some items are needed: calls the function
        wherever the iterator is to be stepped, and returns its result, or a Deferred of it. For one that blocks,
        L{asynqueue.threads.deferToThread}.
    @return: Fires with the producer, with a consumer after everything has been produced; or with C{None} if there is
        nothing to iterate over. Errbacks as L{IterationProducer.run} does.
    @raise ImplementationError: C{consumer} does not provide C{IConsumer}.
    @raise TypeError: C{wrapper} cannot be called.
    """
    if consumer is not None and not IConsumer.providedBy(consumer):
        raise ImplementationError(f"a consumer must provide IConsumer, and {safeRepr(consumer)} does not")
    if wrapper is not None and not callable(wrapper):
        raise TypeError(f"wrapper must be callable, and {safeRepr(wrapper)} is not")
    return Deferred.fromCoroutine(_produced(iterator, consumer, wrapper))


async def _produced(iterator: Any, consumer: Any, wrapper: Callable[..., Any] | None) -> IterationProducer | None:
    if isinstance(iterator, Deferator):
        deferator = iterator
    elif not isIterator(iterator):
        return None
    elif wrapper is None or not hasattr(type(iterator), "__next__"):
        deferator = Deferator(iterator)
    else:
        deferator = Deferator.over(WrappedSource(iterator, wrapper), safeRepr(iterator, 200))
    # What is in it is freed when it is closed.
    del iterator
    stream = deferator.stream
    if consumer is None:
        stream.claim()
        begun: Deferred[None] = Deferred(lambda _: stream.stop())
        if not stream.request(lambda: begun.callback(None)):
            await begun
        stream.isClaimed = False
        if not stream.items:
            failure = stream.conclude()
            if failure is not None:
                failure.raiseException()
            return None
        return IterationProducer(deferator)
    try:
        producer = IterationProducer(deferator, consumer)
    except BaseException:
        deferator.stop()
        raise
    await producer.run()
    return producer if stream.delivered else None
