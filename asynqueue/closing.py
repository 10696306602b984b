"""
Closing a queue: from the first C{shutdown} until all calls are settled and all workers are gone.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from asynqueue.errors import QueueShutdown
from asynqueue.verdicts import callOf

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.dispatch import Dispatcher
    from asynqueue.staff import Staff
    from asynqueue.tasks import Task


class Phase(Enum):
    """
    How far a queue has come::

        OPEN --shutdown--> DRAINING --no call, no stream--> STOPPING --workers gone--> CLOSED
    """

    OPEN = "open"
    DRAINING = "draining"
    STOPPING = "stopping"
    CLOSED = "closed"


class Closing:
    """
    Brings a queue to its end.

    @ivar phase: How far that has come.
    """

    def __init__(self, dispatcher: Dispatcher, staff: Staff) -> None:
        self.phase = Phase.OPEN
        self._dispatcher = dispatcher
        self._staff = staff
        self._waiters: list[Deferred[list[Task]]] = []
        self._drains = True
        self._before = 0
        self._deadlines: list[Deadline] = []

    @property
    def takesWorkers(self) -> bool:
        """
        Whether a worker may still come: to help with what is queued.
        """
        return self.phase is Phase.OPEN or (self.phase is Phase.DRAINING and self._drains)

    def shutdown(self, drain: bool, deadline: float | None) -> Deferred[list[Task]]:
        """
        Begin to close the queue, or go on with it more strictly.

        @param drain: Run what is queued and can be run; otherwise refuse it.
        @param deadline: Seconds from now until workers are crashed and whatever is left is refused.
        @return: Fires with the tasks that workers left unfinished, when all is done.
        """
        done: Deferred[list[Task]] = Deferred()
        if self.phase is Phase.CLOSED:
            done.callback(self._left())
            return done
        self._waiters.append(done)
        if self.phase is Phase.OPEN:
            self.phase = Phase.DRAINING
            self._dispatcher.isOpen = False
            self._before = len(self._staff.unfinished)
            self._dispatcher.onHiresChange = self._changed
            self._dispatcher.ledger.onEmpty = self._settled
            self._dispatcher.streams.onEmpty = self._settled
            if self._dispatcher.onClose is not None:
                self._dispatcher.onClose()
        if deadline is not None:
            self._deadlines.append(self._dispatcher.deadline(deadline, self._timeIsUp))
        self._drains = self._drains and drain
        self._changed()
        self._settled()
        return done

    def _refuse(self, lanes: list[Any]) -> None:
        if lanes:
            self._dispatcher.cancelLanes(lanes, _refused)

    def _changed(self) -> None:
        """
        Refuse the queued calls that are not to be run, or that no attached worker can run, and see whether all is done.
        """
        backlog = self._dispatcher.backlog
        self._refuse(backlog.unserved() if self._drains else list(backlog.lanes()))
        if self.phase is Phase.DRAINING:
            for hire in list(self._dispatcher.hires.values()):
                hire.tellClosing()
        self._workerGone()

    def _timeIsUp(self) -> None:
        """
        Crash what is still there.
        """
        self._drains = False
        self._changed()
        self._dispatcher.streams.endAll()
        for hire in list(self._dispatcher.hires.values()):
            self._dismiss(hire, crash=True)
        for entry in list(self._dispatcher.ledger.entries.values()):
            if entry.lane is None:
                # Its outcome is still arriving, and there is no more time for it.
                entry.cancel()

    def _settled(self) -> None:
        """
        Stop the workers once no call is left, and no stream that is being read.
        """
        if self.phase is not Phase.DRAINING or self._dispatcher.ledger.entries:
            return
        if self._dispatcher.streams:
            self._dispatcher.streams.endIdle()
        else:
            self.phase = Phase.STOPPING
            for hire in list(self._dispatcher.hires.values()):
                self._dismiss(hire)
            self._workerGone()

    def _dismiss(self, hire: Any, crash: bool = False) -> None:
        self._staff.dismiss(hire, crash=crash)

    def _workerGone(self) -> None:
        """
        Tell everybody once the last worker is gone.
        """
        if self.phase is Phase.STOPPING and self._staff.isGone:
            self.phase = Phase.CLOSED
            for deadline in self._deadlines:
                deadline.stop()
            self._dispatcher.onHiresChange = None
            waiters, self._waiters = self._waiters, []
            try:
                self._dispatcher.close()
            finally:
                for waiter in waiters:
                    waiter.callback(self._left())

    def _left(self) -> list[Task]:
        return self._staff.unfinished[self._before :]


def _refused(entry: CallDeferred[Any]) -> QueueShutdown:
    return QueueShutdown(f"{callOf(entry)} was still queued when its queue was shut down, and has not been run")
