"""
Workers that are stepped by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from asynqueue.failures import errorText
from asynqueue.interfaces import IManagedWorker, IWorker
from asynqueue.iteration.recognition import isIterator

if TYPE_CHECKING:
    from asynqueue.tasks import Task


@implementer(IWorker)
class MemoryWorker:
    """
    A worker of the documented kind, which does nothing until told to.

    @ivar held: The tasks that it has, in the order in which it got them.
    @ivar started: All tasks that it has ever got.
    @ivar isStopping: Whether it has been told to stop.
    @ivar isCrashed: Whether it has been crashed.
    """

    cQualified: ClassVar[list[Hashable]] = []

    def __init__(self, series: Sequence[Hashable] = (), overlaps: bool = False) -> None:
        """
        @param series: What the worker is qualified for.
        @param overlaps: Whether it takes any number of tasks at a time, instead of one.
        """
        self.iQualified: list[Hashable] = list(series)
        self.held: list[Task] = []
        self.started: list[Task] = []
        self.isStopping = False
        self.isCrashed = False
        self._overlaps = overlaps
        self._readiness: list[Deferred[None]] = []
        self._stopped: list[Deferred[None]] = []
        self._resign: Callable[[], object] | None = None

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Register what L{resign} calls.
        """
        self._resign = callableObject

    def run(self, task: Task) -> Deferred[None]:
        """
        Hold a task until told what becomes of it.
        """
        self.held.append(task)
        self.started.append(task)
        ready: Deferred[None] = Deferred()
        if self._overlaps:
            ready.callback(None)
        else:
            self._readiness.append(ready)
        return ready

    def step(self, number: int = 1) -> None:
        """
        Run the first C{number} of the tasks held, one after the other, and report the outcomes.
        """
        for _ in range(number):
            task = self.held[0]
            func, args, kw = task.callTuple
            try:
                result = func(*args, **kw)
                outcome = ("i" if isIterator(result) and not task.options.raw else "r", result)
            except Exception as error:  # whatever the call raises is its outcome
                outcome = ("e", errorText(error))
            self.report(*outcome)

    def stepAll(self) -> None:
        """
        Run tasks until none is held.
        """
        while self.held:
            self.step()

    def report(self, status: Any, result: Any = None, task: Task | None = None) -> None:
        """
        Report an outcome, and be ready for another task.

        @param task: The task; the first one held by default.
        """
        task = self.held[0] if task is None else task
        self.held.remove(task)
        task.callback((status, result))
        self.getReady()

    def getReady(self) -> None:
        """
        Say that another task may come, whatever has become of the one before.
        """
        if self._readiness:
            self._readiness.pop(0).callback(None)
        if self.isStopping and not self.held:
            stopped, self._stopped = self._stopped, []
            for each in stopped:
                each.callback(None)

    def resign(self) -> None:
        """
        Tell the queue that no more tasks can be taken, as a worker does that has lost its connection.
        """
        assert self._resign is not None, "the worker has not been attached"
        self._resign()

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when no task is held.
        """
        self.isStopping = True
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        if not self.held:
            self.getReady()
        return stopped

    def crash(self) -> list[Task]:
        """
        Let go of all tasks.
        """
        self.isCrashed = True
        held, self.held = self.held, []
        return held


@implementer(IManagedWorker)
class ManagedMemoryWorker(MemoryWorker):
    """
    A managed worker that does nothing until told to. Of the tasks that it holds, the first one counts as started.

    @ivar begun: The tasks that have counted as started, in that order.
    @ivar capacity: How many tasks it may hold.
    @ivar cancelled: The tasks that it has been told to cancel.
    @ivar recalled: The tasks that have been recalled.
    """

    def __init__(self, series: Sequence[Hashable] = (), capacity: int = 1) -> None:
        super().__init__(series)
        self.begun: list[Task] = []
        self.capacity = capacity
        self.unfitness = ""
        self.cancelled: list[Task] = []
        self.recalled: list[Task] = []
        self._attend: Callable[[], object] | None = None
        self._first: Task | None = None

    def setAttendant(self, callableObject: Callable[[], object] | None) -> None:
        """
        Register what L{setFitness} and L{setCapacity} call.
        """
        self._attend = callableObject

    def accept(self, task: Task) -> None:
        """
        Hold a task until told what becomes of it.
        """
        self.held.append(task)
        self.started.append(task)
        self._begin()

    def _begin(self) -> None:
        """
        Let the first task count as started, if it does not yet.
        """
        first = self.held[0] if self.held else None
        if first is not None and first is not self._first:
            self._first = first
            self.begun.append(first)
            if first.tellsStart:
                first.started()

    def getReady(self) -> None:
        """
        Start the next task.
        """
        self._begin()
        super().getReady()

    def setFitness(self, unfitness: str) -> None:
        """
        Become unfit for a reason, or fit with an empty text.
        """
        self.unfitness = unfitness
        if self._attend is not None:
            self._attend()

    def setCapacity(self, capacity: int) -> None:
        """
        Change the capacity and say so.
        """
        self.capacity = capacity
        if self._attend is not None:
            self._attend()

    def cancel(self, task: Task) -> None:
        """
        Note that a task is to be cancelled. It is held until an outcome is reported.
        """
        self.cancelled.append(task)

    def recall(self) -> list[Task]:
        """
        Give back all tasks but the first.
        """
        recalled, self.held = self.held[1:], self.held[:1]
        self.recalled.extend(recalled)
        return recalled
