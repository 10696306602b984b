"""
Back-pressure: telling those who make calls when there is room for more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger

from asynqueue.errors import QueueClosed

if TYPE_CHECKING:
    from asynqueue.dispatch import Dispatcher


class BackPressure:
    """
    Holds back who asks for room, and a push producer of calls, while as many calls wait as may.
    """

    log = Logger()

    def __init__(self, dispatcher: Dispatcher, maxPending: int | None) -> None:
        self._dispatcher = dispatcher
        self._maxPending = maxPending
        self._waiters: deque[Deferred[None]] = deque()
        self._producer: IPushProducer | None = None
        self._isPaused = False
        self._isWaking = False
        dispatcher.onClose = self.close
        if maxPending is not None:
            dispatcher.onChange = self._changed

    def _hasRoom(self) -> bool:
        return self._maxPending is None or self._dispatcher.backlog.waiting < self._maxPending

    def ready(self) -> Deferred[None]:
        """
        Wait for room.
        """
        if not self._dispatcher.isOpen:
            return fail(QueueClosed("there will be no more room: the queue is shut down"))
        if self._hasRoom() and not self._waiters:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """
        Pause and resume a push producer from now on.
        """
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self._producer!r} is, and there can be only one")
        if not streaming or not IPushProducer.providedBy(producer):
            raise ValueError(f"{producer!r} must be a push producer, an IPushProducer registered with streaming=True")
        if self._maxPending is None:
            raise ValueError("a queue without maxPending takes any number of calls, and never pauses a producer")
        self._producer = producer
        self._isPaused = False
        self.grown()

    def unregisterProducer(self) -> None:
        """
        Let go of the producer.
        """
        self._producer = None

    def grown(self) -> None:
        """
        Note that there may be no room any more.
        """
        if self._producer is not None and not self._isPaused and not self._hasRoom():
            self._isPaused = True
            self._tell("pauseProducing")

    def _changed(self) -> None:
        """
        Note that there may be room again, or none any more.
        """
        if self._isWaking or not self._dispatcher.isOpen:
            # Somebody who has been woken has made a call; the loop below goes on when he returns.
            return
        self._isWaking = True
        while self._waiters and self._hasRoom():
            self._waiters.popleft().callback(None)
        self._isWaking = False
        if self._isPaused and self._dispatcher.backlog.waiting <= (self._maxPending or 0) // 2:
            self._isPaused = False
            self._tell("resumeProducing")
        self.grown()

    def _tell(self, what: str) -> None:
        producer = self._producer
        if producer is not None:
            try:
                getattr(producer, what)()
            except Exception:  # a producer may be anybody's; the queue and its callers go on
                self.log.failure("{producer!r} raised in {what}", producer=producer, what=what)

    def close(self) -> None:
        """
        Tell everybody that there will be no more room.
        """
        while self._waiters:
            # One of them may cancel another one.
            self._waiters.popleft().errback(QueueClosed("there will be no more room: the queue is shut down"))
        self._tell("stopProducing")
        self._producer = None
