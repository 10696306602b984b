"""
Hires: the employment of a worker by a queue, from its attachment until the queue has let go of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from asynqueue.errors import WorkerError, WorkerHung
from asynqueue.interfaces import IManagedWorker
from asynqueue.scheduling.groups import Seat

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.dispatch import Dispatcher
    from asynqueue.staff import Update
    from asynqueue.tasks import Attempt


class HireState(Enum):
    """
    Where an employment stands::

        JOINING -> ACTIVE <-> UNFIT
           |          |         |
           +----------+---------+--> LEAVING -> GONE
    """

    JOINING = "joining"
    ACTIVE = "active"
    UNFIT = "unfit"
    LEAVING = "leaving"
    GONE = "gone"


class Hire(Seat):
    """
    One worker's employment.

    @ivar ID: The worker's ID, from 1 on, never used twice.
    @ivar managed: Whether the worker is an L{IManagedWorker}.
    @ivar keepsTimeLimits: Whether the worker itself sees to the time limits of calls.
    @ivar ready: Whether a worker that is not managed has said that it can take another task.
    @ivar tasks: The attempts that the worker has and has reported no outcome of.
    @ivar updates: Update calls that wait for the worker to have room.
    @ivar missed: Updates that came while the worker was unfit.
    @ivar finished: How many outcomes the worker has reported.
    @ivar progress: How many outcomes it had reported when that was last looked at.
    @ivar streams: How many streams of the worker are open, which it may be at instead of a call.
    @ivar pins: The attempts that have not been started, and keep their series for the worker.
    @ivar exclusive: Whether the worker has an attempt that is to be alone.
    @ivar strikes: How often in a row the worker has broken its contract.
    @ivar unfitnessKind: The class of the errors of calls that only this worker could run while it is unfit.
    @ivar unfitness: Why the worker gets no tasks, while it is unfit.
    @ivar farewell: Fires with the attempts left unfinished when the queue has let go of the worker.
    """

    __slots__ = (
        "ID",
        "dispatcher",
        "exclusive",
        "farewell",
        "finished",
        "keepsTimeLimits",
        "managed",
        "missed",
        "pins",
        "progress",
        "ready",
        "reassigns",
        "state",
        "streams",
        "strikes",
        "tasks",
        "unfitness",
        "unfitnessKind",
        "updates",
        "worker",
    )

    def __init__(self, dispatcher: Dispatcher, worker: Any, ID: int) -> None:
        super().__init__()
        self.dispatcher = dispatcher
        self.worker = worker
        self.ID = ID
        self.managed = bool(IManagedWorker.providedBy(worker))
        self.unfitnessKind: type[WorkerError] = getattr(worker, "unfitnessKind", WorkerHung)
        self.keepsTimeLimits = bool(getattr(worker, "keepsTimeLimits", False))
        self.state = HireState.JOINING
        self.ready = True
        self.exclusive = False
        self.tasks: dict[Attempt, None] = {}
        self.missed: list[Update] = []
        self.updates: deque[CallDeferred[Any]] = deque()
        self.finished = 0
        self.progress = 0
        self.pins: set[Attempt] = set()
        self.streams = 0
        self.strikes = 0
        self.unfitness = ""
        self.reassigns = False
        self.farewell: list[Deferred[list[Any]]] = []

    def __repr__(self) -> str:
        return f"<worker {self.ID}, {type(self.worker).__name__}, {self.state.value}>"

    @property
    def name(self) -> str:
        """
        The worker as people are told of it.
        """
        return f"worker {self.ID} ({type(self.worker).__name__})"

    @property
    def qualifications(self) -> frozenset[Hashable]:
        """
        The series that the worker is qualified for at the moment, beside C{None}.
        """
        return frozenset(self.worker.cQualified) | frozenset(self.worker.iQualified)

    def isQualified(self, series: Hashable) -> bool:
        """
        Tell whether the worker may run calls of a series.
        """
        return series is None or series in self.qualifications

    def qualify(self, series: Hashable) -> None:
        """
        Add a series to those that the worker may run calls of.
        """
        if series not in self.qualifications:
            # A new list: the one it has may be shared, as the default argument of its class or an attribute there.
            self.worker.iQualified = [*self.worker.iQualified, series]

    def tellClosing(self) -> None:
        """
        Call the worker's method C{queueClosing}, if it has one: the queue waits for the calls that it has, and takes no
        more. May be called again. A worker that may never take them has to resign then, after a time.
        """
        tell = getattr(self.worker, "queueClosing", None)
        if tell is not None:
            tell()

    def hasRoom(self) -> bool:
        """
        Tell whether the worker can take another task now.
        """
        if self.exclusive and self.held:
            return False
        return self.held < self.worker.capacity if self.managed else self.ready
