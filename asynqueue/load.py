"""
The load of a queue, as a number that consumers are told.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from asynqueue.errors import ImplementationError


@implementer(IPushProducer)
class Subscription:
    """
    Writes the load to one consumer, which may pause, resume and stop it.

    A consumer that has paused is told the present number when it resumes, and none in between.
    """

    log = Logger()

    def __init__(self, producer: LoadInfoProducer, consumer: IConsumer) -> None:
        self.consumer = consumer
        self._producer = producer
        self._isPaused = False
        self._written: int | None = None

    def write(self) -> None:
        """
        Write the load, unless it is what has been written last, or the consumer has paused.
        """
        load: Any = self._producer.load
        if self._isPaused or load == self._written:
            return
        self._written = load
        try:
            self.consumer.write(load)
        except Exception:  # a consumer may be anybody's; the queue goes on without it
            self.log.failure("{consumer!r} raised when told the load, and is told no more", consumer=self.consumer)
            self.stopProducing()

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
        self.write()

    def stopProducing(self) -> None:
        """
        Never write again.
        """
        self._isPaused = True
        self._producer.unregister(self)


@implementer(IPushProducer)
class LoadInfoProducer:
    """
    Writes the number of calls that are queued or running to its consumers, as an C{int}, each time that it changes.

    @ivar load: The number.
    """

    def __init__(self) -> None:
        self.load = 0
        self._subscriptions: list[Subscription] = []

    def registerConsumer(self, consumer: IConsumer) -> None:
        """
        Start writing to a consumer. One that is registered already is not registered again.

        @raise ImplementationError: It does not provide C{IConsumer}.
        """
        if not IConsumer.providedBy(consumer):
            raise ImplementationError(f"{consumer!r} cannot be told the load: it provides no IConsumer")
        if any(each.consumer is consumer for each in self._subscriptions):
            return
        subscription: Any = Subscription(self, consumer)
        consumer.registerProducer(subscription, True)
        self._subscriptions.append(subscription)

    def unregister(self, subscription: Subscription) -> None:
        """
        Forget a consumer.
        """
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

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
        Tell the consumers what the number is now.
        """
        self.load = load
        for subscription in tuple(self._subscriptions):
            subscription.write()

    def pauseProducing(self) -> None:
        """
        Write nothing to anybody until told to resume.
        """
        for subscription in self._subscriptions:
            subscription.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Write to everybody again.
        """
        for subscription in tuple(self._subscriptions):
            subscription.resumeProducing()

    def stopProducing(self) -> None:
        """
        Write to nobody any more.
        """
        self.shutdown()

    def shutdown(self) -> None:
        """
        Let go of all consumers.
        """
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            try:
                subscription.consumer.unregisterProducer()
            except Exception:  # a consumer may be anybody's; the queue goes on without it
                subscription.log.failure("{consumer!r} raised when let go", consumer=subscription.consumer)
