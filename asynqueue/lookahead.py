"""
Look-ahead: what workers hold that they have not started, kept in order and not kept for long.

A managed worker may hold several tasks, and starts them in order. So that the order of a series is kept among workers,
the calls of a series that have not been started are all with one worker: while there are some, the series is pinned to
it. And since a task may turn out long, a worker that has reported nothing for a while gives back what it has not
started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.calls import CallDeferred
    from asynqueue.dispatch import Dispatcher
    from asynqueue.hires import Hire
    from asynqueue.tasks import Attempt

#: How long, in seconds, a worker that looks ahead may report nothing before what it has not started is recalled.
STALL = 0.005


class LookAhead:
    """
    Pins series to workers, and recalls what is stuck.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._watch: IDelayedCall | None = None

    def given(self, hire: Hire, task: Attempt) -> None:
        """
        Keep the series of a call for a managed worker until it has started the call, and watch that it does so soon.
        """
        if task.series is not None and hire.group is not None and not task.options.alone:
            self._dispatcher.backlog.pin(task.series, hire)
            hire.pins.add(task)
            task.tellsStart = True
        if (hire.held > 1 or hire.streams) and self._watch is None:
            self._watch = self._dispatcher.clock().callLater(STALL, self._look)

    def started(self, hire: Hire, task: Attempt) -> None:
        """
        Note that a worker has started a task.
        """
        if task in hire.pins:
            self.release(hire, task)
            self._dispatcher.dispatch()

    def release(self, hire: Hire, task: Attempt) -> None:
        """
        Let go of the series of a task that a worker has started, or has not any more.
        """
        if task in hire.pins:
            hire.pins.remove(task)
            self._dispatcher.backlog.unpin(task.series, hire)

    def forget(self, hire: Hire) -> None:
        """
        Let go of all series that are kept for a worker.
        """
        for task in list(hire.pins):
            self.release(hire, task)

    def _look(self) -> None:
        """
        Recall what workers have not started, if they have reported nothing since the last look.
        """
        self._watch = None
        again = False
        recalled = False
        for hire in tuple(self._dispatcher.hires.values()):
            if hire.held > (0 if hire.streams else 1) and hire.managed and not hire.exclusive:
                again = True
                if hire.held == 1 and not self._isAnyIdle():
                    # It would only come back.
                    continue
                if hire.finished == hire.progress:
                    recalled = self.recall(hire) or recalled
                hire.progress = hire.finished
        if again and self._watch is None:
            self._watch = self._dispatcher.clock().callLater(STALL, self._look)
        if recalled:
            self._dispatcher.dispatch()

    def _isAnyIdle(self) -> bool:
        return any(not (hire.held or hire.streams) and hire.hasRoom() for hire in self._dispatcher.hires.values())

    def recall(self, hire: Hire) -> bool:
        """
        Take back what a worker has not started. It costs the calls nothing.
        """
        if not hire.managed:
            return False
        try:
            tasks = hire.worker.recall()
        except Exception:  # a worker may be anybody's; what it does not give back counts as running
            self._dispatcher.log.failure("{worker} raised when tasks were recalled", worker=hire.name)
            return False
        self._takeBack(hire, tasks)
        return bool(tasks)

    def returned(self, hire: Hire, tasks: list[Attempt]) -> None:
        """
        Take back what a worker gives back of itself.
        """
        self._takeBack(hire, tasks)
        self._dispatcher.dispatch()

    def _takeBack(self, hire: Hire, tasks: list[Attempt]) -> None:
        updates: list[CallDeferred[Any]] = []
        # Those that were given last go back first, which is quicker.
        for task in reversed(tasks):
            if task.hire is not hire:
                continue
            task.hire = None
            hire.tasks.pop(task, None)
            hire.held -= 1
            self.release(hire, task)
            entry = task.entry
            if entry.current is task:
                self._dispatcher.outcomes.abandon(task)
                entry.attempts -= 1
                if entry.options.alone:
                    updates.append(entry)
                else:
                    self._dispatcher.outcomes.putBack(entry)
        if updates:
            updates.reverse()
            self._dispatcher.returnUpdates(hire, updates)
        if tasks:
            self._dispatcher.roomAt(hire)

    def close(self) -> None:
        """
        Let go of the timer.
        """
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
