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

        OPEN --shutdown--> DRAINING --ledger empty--> STOPPING --workers gone--> CLOSED
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
        self._left: list[Task] = []
        self._deadlines: list[Deadline] = []

    def shutdown(self, drain: bool, deadline: float | None) -> Deferred[list[Task]]:
        """
        Begin to close the queue, or go on with it more strictly.

        @param drain: Run what is queued and can be run; otherwise refuse it.
        @param deadline: Seconds from now until workers are crashed and whatever is left is refused.
        @return: Fires with the tasks that workers left unfinished, when all is done.
        """
        done: Deferred[list[Task]] = Deferred()
        if self.phase is Phase.CLOSED:
            done.callback(list(self._left))
            return done
        self._waiters.append(done)
        if self.phase is Phase.OPEN:
            self.phase = Phase.DRAINING
            self._dispatcher.isOpen = False
            self._dispatcher.onHiresChange = self._refuseUnserved
            self._dispatcher.ledger.onEmpty = self._settled
        if deadline is not None:
            self._deadlines.append(self._dispatcher.deadline(deadline, self._timeIsUp))
        if drain:
            self._refuseUnserved()
        else:
            self._refuse(list(self._dispatcher.backlog.lanes()))
        self._settled()
        return done

    def _refuse(self, lanes: list[Any]) -> None:
        if lanes:
            self._dispatcher.cancelLanes(lanes, _refused)

    def _refuseUnserved(self) -> None:
        """
        Refuse the queued calls that no attached worker can run.
        """
        self._refuse(self._dispatcher.backlog.unserved())

    def _timeIsUp(self) -> None:
        """
        Crash what is still there.
        """
        self._refuse(list(self._dispatcher.backlog.lanes()))
        for hire in list(self._dispatcher.hires.values()):
            self._dismiss(hire, crash=True)
        for entry in list(self._dispatcher.ledger.entries.values()):
            if entry.lane is None:
                # Its outcome is still arriving, and there is no more time for it.
                entry.cancel()

    def _settled(self) -> None:
        """
        Stop the workers once no call is left.
        """
        if self.phase is Phase.DRAINING and not self._dispatcher.ledger.entries:
            self.phase = Phase.STOPPING
            for hire in list(self._dispatcher.hires.values()):
                self._dismiss(hire)
            self._workerGone()

    def _dismiss(self, hire: Any, crash: bool = False) -> None:
        farewell = self._staff.dismiss(hire, crash=crash)
        farewell.addCallback(self._workerGone)

    def _workerGone(self, unfinished: list[Task] | None = None) -> None:
        for task in unfinished or ():
            if not any(task is known for known in self._left):
                self._left.append(task)
        if self.phase is Phase.STOPPING and not self._dispatcher.hires:
            self.phase = Phase.CLOSED
            for deadline in self._deadlines:
                deadline.stop()
            self._dispatcher.onHiresChange = None
            self._dispatcher.close()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(list(self._left))


def _refused(entry: CallDeferred[Any]) -> QueueShutdown:
    return QueueShutdown(f"{callOf(entry)} was still queued when its queue was shut down, and has not been run")
