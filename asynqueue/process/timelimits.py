"""
Which calls a child has started, and how long they may take from then on: limits, and the grace of those cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asynqueue.callinfo import describeCall
from asynqueue.errors import TimeLimitExceeded, WorkerError
from asynqueue.process import frames

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.process.lineage import Lineage
    from asynqueue.tasks import Task

#: How long, in seconds, between two looks at what the child has begun with.
LOOK = 0.005


class TimeLimits:
    """
    Watches the calls of one lineage of children.
    """

    def __init__(self, lineage: Lineage, reactor: Any, grace: float) -> None:
        """
        @param grace: Seconds that a call that has been interrupted may go on before its child is ended.
        """
        self._lineage = lineage
        self._reactor = reactor
        self._grace = grace
        self._untold: dict[Task, None] = {}
        self._look: IDelayedCall | None = None
        self._timers: dict[Task, IDelayedCall] = {}

    def watch(self, task: Task) -> None:
        """
        Report when a task is started, if it is to be told, and count its time from then on, if that is limited.
        """
        self._untold[task] = None
        if self._look is None:
            self._look = self._reactor.callLater(LOOK, self._tellStarts)

    def _tellStarts(self) -> None:
        self._look = None
        untold = self._untold
        for task in self._lineage.begun():
            if task in untold:
                del untold[task]
                if task.options.softTimeLimit is not None:
                    self._setTimer(task, task.options.softTimeLimit, self._softLimitReached)
                elif task.options.timeLimit is not None:
                    self._setTimer(task, task.options.timeLimit, self._limitReached)
                if task.tellsStart:
                    task.started()
        held = set(self._lineage.tasks())
        self._untold = {task: None for task in self._untold if task in held}
        if self._untold and self._look is None:
            self._look = self._reactor.callLater(LOOK, self._tellStarts)

    def settled(self) -> None:
        """
        Let go of the timers of tasks that are over.
        """
        # Hot path, watched by `bench --only processes`.
        if self._timers:
            held = set(self._lineage.tasks())
            for task in [task for task in self._timers if task not in held]:
                self._stopTimer(task)

    def cancel(self, task: Task) -> None:
        """
        Interrupt a task, or never start it. If it goes on regardless, end its child.
        """
        if self._interrupt(task, frames.CANCELLED):
            self._setTimer(task, self._grace, self._graceOver)

    def _interrupt(self, task: Task, reason: int) -> bool:
        conversation, number = self._lineage.find(task)
        if conversation is None:
            return False
        conversation.interrupt(number, reason)
        return True

    def _graceOver(self, task: Task) -> None:
        self._kill(task, WorkerError(f"{_callOf(task)} did not end when it was interrupted"))

    def _softLimitReached(self, task: Task) -> None:
        limit, soft = task.options.timeLimit, task.options.softTimeLimit or 0.0
        if self._interrupt(task, frames.SOFT_LIMIT) and limit is not None:
            self._setTimer(task, max(limit - soft, 0.0), self._limitReached)

    def _limitReached(self, task: Task) -> None:
        self._kill(task, TimeLimitExceeded(f"{_callOf(task)} took longer than {task.options.timeLimit:g} s"))

    def _kill(self, task: Task, error: WorkerError) -> None:
        conversation, number = self._lineage.find(task)
        if conversation is not None:
            conversation.kill(number, error)

    def _setTimer(self, task: Task, seconds: float, func: Callable[[Task], object]) -> None:
        self._stopTimer(task)

        def elapsed() -> None:
            del self._timers[task]
            func(task)

        self._timers[task] = self._reactor.callLater(seconds, elapsed)

    def _stopTimer(self, task: Task) -> None:
        timer = self._timers.pop(task, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """
        Let go of all timers.
        """
        for task in tuple(self._timers):
            self._stopTimer(task)
        look, self._look = self._look, None
        self._untold.clear()
        if look is not None:
            look.cancel()


def _callOf(task: Task) -> str:
    return f"call {task.ID}, {describeCall(*task.callTuple)},"
