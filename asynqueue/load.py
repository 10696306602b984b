"""
The load of a queue, as a number that consumers are told.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from asynqueue.errors import ImplementationError


@implementer(IPushProducer)
class LoadInfoProducer:
    """
    Writes the number of calls that are queued or running to its consumers, as an C{int}, each time that it changes.

    A consumer that has paused the producer is told the present number when it resumes, and none in between.

    @ivar load: The number.
    """

    def __init__(self) -> None:
        self.load = 0
        self._consumers: list[IConsumer] = []
        self._isPaused = False
        self._isStale = False

    def registerConsumer(self, consumer: IConsumer) -> None:
        """
        Start writing to a consumer. One that is registered already is not registered again.

        @raise ImplementationError: It does not provide C{IConsumer}.
        """
        if not IConsumer.providedBy(consumer):
            raise ImplementationError(f"{consumer!r} cannot be told the load: it provides no IConsumer")
        if not any(each is consumer for each in self._consumers):
            self._consumers.append(consumer)
            producer: Any = self
            consumer.registerProducer(producer, True)

    def oneMore(self) -> None:
        """
        Count one more.
        """
        self.changed(self.load + 1)

    def oneLess(self) -> None:
        """
        Count one less, but not below 0.
        """
        self.changed(max(0, self.load - 1))

    def changed(self, load: int) -> None:
        """
        Tell the consumers, unless the number is what it was.
        """
        if load == self.load:
            return
        self.load = load
        if self._isPaused:
            self._isStale = True
            return
        for consumer in tuple(self._consumers):
            number: Any = load
            consumer.write(number)

    def pauseProducing(self) -> None:
        """
        Write nothing until told to resume.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        Write again, at once if the number has changed since.
        """
        self._isPaused = False
        if self._isStale:
            self._isStale = False
            for consumer in tuple(self._consumers):
                number: Any = self.load
                consumer.write(number)

    def stopProducing(self) -> None:
        """
        Write to nobody any more.
        """
        self.shutdown()

    def shutdown(self) -> None:
        """
        Let go of all consumers.
        """
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.unregisterProducer()
