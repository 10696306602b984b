"""
A queue whose calls run in child processes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from asynqueue.options import checkedCount, checkedTimeout
from asynqueue.process.staffing import Staffing
from asynqueue.process.worker import ProcessWorker, cores
from asynqueue.taskqueue import TaskQueue
from asynqueue.tasks import Task

#: The keywords of L{ProcessQueue} that are those of its workers.
FOR_WORKERS = (
    "series",
    "raw",
    "onStart",
    "onStartArgs",
    "pickler",
    "environment",
    "contextVars",
    "limit",
    "grace",
    "startLimit",
    "maxTasks",
    "maxMemory",
    "maxGrowth",
    "maxAge",
    "guard",
    "useReactor",
)


class ProcessQueue(TaskQueue):
    """
    A L{TaskQueue} with a number of L{ProcessWorker}s.

    @ivar d: Fires with the list of the workers' IDs when all their children are ready for calls, an empty one if some
        could not be started.
    """

    cores = staticmethod(cores)

    def __init__(
        self,
        N: int | None = None,
        callStats: bool = False,
        min: int | None = None,
        max: int | None = None,
        idle: float = 15.0,
        **kw: Any,
    ) -> None:
        """
        @param N: How many workers the queue has; C{None}: as many as there are cores.
        @param callStats: Whether L{stats} has the times of calls.
        @param min: How many workers it has at least, instead of C{N}, when their number follows the work there is.
        @param max: How many it has at most then; C{None}: as many as there are cores, or C{min} if that is more.
        @param idle: After how many seconds a worker is let go that there was nothing to do for.
        @param kw: The keywords of L{TaskQueue} and L{ProcessWorker}.
        @raise ValueError: A number is out of its range, or C{N} is given beside C{min} or C{max}.
        @raise TypeError: A keyword is unknown, or of the wrong type.
        """
        least, most = _numbersOf(N, min, max)
        checkedTimeout(idle, "idle")
        keywords = {name: kw.pop(name) for name in FOR_WORKERS if name in kw}
        self._makeWorker = partial(ProcessWorker, callStats=callStats, **keywords)
        workers = [self._makeWorker() for _ in range(least)]
        super().__init__(**kw)
        self._staffing = (
            Staffing(self, self._dispatcher.clock, self._makeWorker, least, most, idle) if most > least else None
        )
        if self._staffing is not None:
            self.subscribe(self._staffing)
        attached = [self.attachWorker(worker) for worker in workers]
        self.d: Deferred[list[int]] = gatherResults(attached, consumeErrors=True)
        # Each call that cannot be run is told so.
        self.d.addErrback(self._notStarted)

    def _notStarted(self, failure: Failure) -> list[int]:
        return []

    def shutdown(self, drain: bool = True, deadline: float | None = None) -> Deferred[list[Task]]:
        """
        Take no more calls, and let go of the workers when all calls are settled.

        @see: L{TaskQueue.shutdown}
        """
        if self._staffing is not None:
            self._staffing.close()
        return super().shutdown(drain, deadline)

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        Return the times of calls, with C{callStats}.

        @return: Fires with a list: for each call, the seconds until its result was here, and the seconds that it took
            in its child. Of the last 100,000 calls of each worker at most.
        """
        return succeed([times for worker in self._processWorkers() for times in worker.times])

    def memUsage(self) -> list[int | None]:
        """
        Return the resident memory of each worker's child in kilobytes, or C{None} where that is not known.
        """
        return [worker.memUsage() for worker in self._processWorkers()]

    def crashWorkers(self) -> Deferred[list[list[Task]]]:
        """
        Let go of all workers at once, whatever they are running.

        @return: Fires with a list of the tasks that each has left unfinished.
        """
        return gatherResults([self.detachWorker(worker, crash=True) for worker in self._processWorkers()])

    def _processWorkers(self) -> list[ProcessWorker]:
        return [worker for worker in self.workers() if isinstance(worker, ProcessWorker)]


def _numbersOf(N: int | None, least: int | None, most: int | None) -> tuple[int, int]:
    """
    Return how many workers there are to be, at least and at most.
    """
    checkedCount(N, "N")
    checkedCount(least, "min")
    checkedCount(most, "max")
    if least is None and most is None:
        number = cores() if N is None else N
        return number, number
    if N is not None:
        raise ValueError(f"N={N!r} is for a fixed number of workers, and contradicts min={least!r} and max={most!r}")
    least = 1 if least is None else least
    most = max(least, cores()) if most is None else most
    if most < least:
        raise ValueError(f"max={most!r} must not be less than min={least!r}")
    return least, most
