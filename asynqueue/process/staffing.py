"""
As many workers as there is work for, within bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IProducer

    from asynqueue.process.worker import ProcessWorker
    from asynqueue.taskqueue import TaskQueue


@implementer(IConsumer)
class Staffing:
    """
    Attaches workers to a queue when more calls are under way than there are workers, and detaches those that there has
    been nothing to do for.
    """

    def __init__(
        self,
        queue: TaskQueue,
        clock: Callable[[], Any],
        makeWorker: Callable[[], ProcessWorker],
        least: int,
        most: int,
        idle: float,
    ) -> None:
        """
        @param least: How many workers there are at least.
        @param most: How many there are at most.
        @param idle: Seconds with fewer calls than workers after which one is detached.
        """
        self._queue = queue
        self._clock = clock
        self._makeWorker = makeWorker
        self._least = least
        self._most = most
        self._idle = idle
        self._peak = 0
        self._look: IDelayedCall | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Be told the load.
        """

    def unregisterProducer(self) -> None:
        """
        Be told it no more.
        """

    def write(self, data: Any) -> None:
        """
        Take note of the load.

        @param data: How many calls are not settled.
        """
        # Hot path, watched by `bench --only processes`.
        underWay: int = data
        if underWay > self._peak:
            self._peak = underWay
        workers = len(self._queue)
        if workers < underWay and workers < self._most and self._queue.isRunning():
            # Whether it can be started is told by the others, too, when their turn comes.
            self._queue.attachWorker(self._makeWorker()).addErrback(lambda failure: None)
            if self._look is None:
                self._look = self._clock().callLater(self._idle, self._shrink)

    def _shrink(self) -> None:
        """
        Detach the workers that have not been needed since the last look.
        """
        self._look = None
        if not self._queue.isRunning():
            return
        needed = max(self._least, self._peak)
        self._peak = len(self._queue.outstanding())
        idle = [worker for worker in self._queue.workers() if not worker.tasks]
        for worker in idle[: max(0, len(self._queue) - needed)]:
            self._queue.detachWorker(worker)
        if len(self._queue) > self._least:
            self._look = self._clock().callLater(self._idle, self._shrink)

    def close(self) -> None:
        """
        Attach and detach nobody any more.
        """
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
