"""
One thread that runs tasks in order, woken by events, and reports to the reactor in batches.

Data flow::

    reactor's thread                          |  the thread
                                              |
    submit -> _tasks ---- _wake (a lock) -----+-> _loop: run a task
                                              |       |
    _drain <- callFromThread, if none is <----+-- _outcomes
       |      under way already               |
       +-> completed, for all that is done    |

Both deques are filled at one end by one thread and emptied at the other end by the other; C{append}, C{popleft} and the
lock are all the synchronisation there is. C{_wake} is released to say that there is something in C{_tasks}, and
acquired by the thread before it looks there again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynqueue.tasks import Task

#: How long, in seconds, outcomes may be reported before the reactor gets a turn for other things.
TURN = 0.02


class WorkerThread:
    """
    A daemon thread, which does not keep the interpreter from exiting.

    Its methods are for the reactor's thread.

    @ivar thread: The thread itself.
    @ivar running: The task that it is running. Only the thread sets it.
    """

    def __init__(
        self,
        reactor: Any,
        perform: Callable[[Task], tuple[str, Any]],
        completed: Callable[[Task, tuple[str, Any]], object],
        reported: Callable[[int, float], object],
        ended: Callable[[WorkerThread], object],
        name: str = "asynqueue",
    ) -> None:
        """
        @param reactor: Provides C{IReactorFromThreads} and C{IReactorTime}.
        @param perform: Called in the thread with each task, runs it and returns its outcome.
        @param completed: Called with each task that has been run, and its outcome.
        @param reported: Called each time after some tasks have been given their outcomes, with their number and when
            that began, on the monotonic clock.
        @param ended: Called with this object when the thread has come to its end.
        """
        self._reactor = reactor
        self._perform = perform
        self._completed = completed
        self._reported = reported
        self._ended = ended
        self._tasks: deque[Task] = deque()
        self._outcomes: deque[tuple[Task, tuple[str, Any]]] = deque()
        self.running: Task | None = None
        self._wake = threading.Lock()
        self._wake.acquire()
        self._isSignalled = False
        self._isEnding = False
        self.thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self.thread.start()

    def submit(self, task: Task, first: bool = False) -> None:
        """
        Run a task after all that have been submitted, or before all that have not been started.
        """
        # Hot path, watched by `bench --only threads`.
        if first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)
        if self._wake.locked():
            self._wake.release()

    def recall(self) -> list[Task]:
        """
        Take back the tasks that have not been started, in their order.
        """
        tasks = []
        while True:
            try:
                tasks.append(self._tasks.popleft())
            except IndexError:
                return tasks

    def end(self) -> None:
        """
        Come to an end when all that has been submitted is done.
        """
        self._isEnding = True
        if self._wake.locked():
            self._wake.release()

    def abandon(self, last: Iterable[Task] = ()) -> list[Task]:
        """
        Come to an end as soon as the task at hand returns, if it ever does, and report it then.

        @param last: Tasks to be run after that.
        @return: The tasks that have not been started.
        """
        tasks = self.recall()
        self._tasks.extend(last)
        self.end()
        return tasks

    def _loop(self) -> None:
        # Hot path, watched by `bench --only threads`.
        next_ = self._tasks.popleft
        perform = self._perform
        outcomes = self._outcomes
        wait = self._wake.acquire
        while True:
            isEnding = self._isEnding
            try:
                task = next_()
            except IndexError:
                if isEnding:
                    break
                wait()
                continue
            self.running = task
            outcomes.append((task, perform(task)))
            self.running = None
            del task
            if not self._isSignalled:
                self._isSignalled = True
                self._reactor.callFromThread(self._drain)
        self._reactor.callFromThread(self._finish)

    def _drain(self) -> None:
        """
        Hand on outcomes, for the length of a turn.
        """
        # Hot path, watched by `bench --only threads`. The flag goes down before the deque is read: what the thread adds
        # after the last look, it signals anew.
        self._isSignalled = False
        outcomes = self._outcomes
        completed = self._completed
        began = monotonic()
        until = began + TURN
        number = 0
        while outcomes:
            task, outcome = outcomes.popleft()
            completed(task, outcome)
            number += 1
            if monotonic() > until:
                break
        if outcomes and not self._isSignalled:
            self._isSignalled = True
            self._reactor.callLater(0, self._drain)
        self._reported(number, began)

    def _finish(self) -> None:
        self._drain()
        if self._outcomes:
            # The turn was over before all had been reported.
            self._reactor.callLater(0, self._finish)
            return
        # It is past its last statement; what is left of it takes no time that anybody could notice.
        self.thread.join()
        self._ended(self)
