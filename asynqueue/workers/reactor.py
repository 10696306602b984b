"""
A worker that runs calls in the reactor's own thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.deferreds.context import runInContext
from asynqueue.failures import errorText, exceptionOf
from asynqueue.interfaces import IManagedWorker
from asynqueue.iteration.recognition import PLAIN, isIterator
from asynqueue.workers.lifecycle import Readiness, checkedSeriesList, checkUnattached

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from asynqueue.tasks import Task

#: How long, in seconds, calls may follow one another before the reactor gets a turn for other things.
TURN = 0.02


@implementer(IManagedWorker)
class AsyncWorker:
    """
    Runs one call after the other in the reactor, beginning in the turn after the one in which it got the task.

    A callable may return a Deferred, or be a coroutine function: the next call then begins when that has its result. A
    call that is cancelled, or has timed out, has that Deferred cancelled; a callable that returns a plain value cannot
    be interrupted.
    """

    cQualified: ClassVar[list[Hashable]] = ["async", "local"]
    capacity = 1
    unfitness = ""

    def __init__(self, series: Sequence[Hashable] = (), raw: bool = False, reactor: IReactorTime | None = None) -> None:
        """
        @param series: What the worker is qualified for beside the series of its class, C{async} and C{local}.
        @param raw: Whether iterators are returned as they are.
        @param reactor: Where to run; the global reactor unless given.
        """
        self.iQualified: list[Hashable] = checkedSeriesList(series)
        self._attendant: Callable[[], object] | None = None
        self.raw = raw
        self._reactor = reactor
        self._queue: deque[Task] = deque()
        self._current: Task | None = None
        self._inner: Deferred[Any] | None = None
        self._turn: IDelayedCall | None = None
        self._isTurning = False
        self._readiness = Readiness()

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Do nothing: the worker never has to leave.
        """

    def setAttendant(self, callableObject: Callable[[], object] | None) -> None:
        """
        Belong to one queue, until it calls this with C{None}.

        @raise ValueError: The worker belongs to a queue already.
        """
        checkUnattached(self, self._attendant, callableObject)
        self._attendant = callableObject

    def run(self, task: Task) -> Deferred[None]:
        """
        Run a task after those that are here already.

        @return: Fires when the worker has nothing to do.
        """
        self.accept(task)
        return self._readiness.wait()

    def accept(self, task: Task) -> None:
        """
        Run a task after those that are here already.
        """
        # Hot path, watched by `bench --only reactor`.
        self._queue.append(task)
        if not self._isTurning and self._turn is None and self._current is None:
            self._turn = self._clock().callLater(0, self._work)

    def _clock(self) -> IReactorTime:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = cast("IReactorTime", reactor)
        return self._reactor

    def _work(self) -> None:
        """
        Run calls until there is none, one is not done, or the turn is over.
        """
        # Hot path, watched by `bench --only reactor`. An outcome makes the queue give the next task, which only lands
        # in _queue: so a backlog is worked off by this loop, and nothing recurses.
        self._turn = None
        self._isTurning = True
        queue = self._queue
        until = monotonic() + TURN
        try:
            while queue and self._current is None:
                self._start(queue.popleft())
                if monotonic() > until:
                    break
        finally:
            self._isTurning = False
        if queue and self._current is None and self._turn is None:
            self._turn = self._clock().callLater(0, self._work)

    def _start(self, task: Task) -> None:
        # Hot path, watched by `bench --only reactor`.
        self._current = task
        func, args, kw = task.callTuple
        try:
            result = runInContext(task.context, task, func, args, kw)
        except BaseException as error:  # even a SystemExit of the call's own ends the call, not the application
            self._finish(task, ("e", errorText(error)))
            return
        kind = type(result)
        if kind in PLAIN:
            self._finish(task, ("r", result))
        # An isinstance(…, Deferred) takes several times as long, since the class is an abstract base class.
        elif Deferred in kind.__mro__ or kind is CoroutineType:
            self._await(task, result)
        else:
            self._finish(task, self._outcomeOf(task, result))

    def _outcomeOf(self, task: Task, result: Any) -> tuple[str, Any]:
        if isinstance(result, Failure):
            if result.check(CancelledError):
                return ("k", None)
            return ("e", errorText(exceptionOf(result)))
        isRaw = task.options.raw
        if isIterator(result) and not (self.raw if isRaw is None else isRaw):
            return ("i", result)
        return ("r", result)

    def _await(self, task: Task, result: Any) -> None:
        if isinstance(result, CoroutineType):
            result = runInContext(task.context, task, Deferred.fromCoroutine, (result,), {})
        if self._current is task:
            self._inner = result
        result.addBoth(self._arrived, task)
        if task.tellsStart:
            task.started()
        if task.cancelled or self._current is not task:
            # It was cancelled, or the worker crashed, while the call was making the Deferred.
            cancelQuietly(result)

    def _arrived(self, result: Any, task: Task) -> None:
        if self._current is task:
            self._inner = None
        self._finish(task, self._outcomeOf(task, result))

    def _finish(self, task: Task, outcome: tuple[str, Any]) -> None:
        # Hot path, watched by `bench --only reactor`.
        if self._current is not task:
            # The worker has been crashed; the task is not its any more.
            return
        self._current = None
        task.callback(outcome)
        if not self._queue:
            if self._readiness.waiters:
                self._readiness.ready()
        elif not self._isTurning and self._turn is None and self._current is None:
            self._turn = self._clock().callLater(0, self._work)

    def cancel(self, task: Task) -> None:
        """
        Cancel the Deferred of a call that waits for one, or never start the call.
        """
        if task is self._current:
            if self._inner is not None:
                cancelQuietly(self._inner)
        elif task in self._queue:
            self._queue.remove(task)
            task.callback(("k", None))

    def recall(self) -> list[Task]:
        """
        Give back the tasks that have not been started.
        """
        tasks = list(self._queue)
        self._queue.clear()
        self._stopTurn()
        return tasks

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all calls are done.
        """
        done = self._readiness.wait()
        if self._current is None and not self._queue:
            self._readiness.ready()
        return done

    def crash(self) -> list[Task]:
        """
        Cancel what is running, and give back all tasks.
        """
        tasks = self.recall()
        current, self._current = self._current, None
        if current is not None:
            tasks.insert(0, current)
        inner, self._inner = self._inner, None
        if inner is not None:
            cancelQuietly(inner)
        self._readiness.ready()
        return tasks

    def _stopTurn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
