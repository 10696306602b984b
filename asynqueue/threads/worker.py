"""
A worker that runs calls in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from asynqueue.interfaces import IManagedWorker
from asynqueue.scheduling.window import Window
from asynqueue.threads.looper import GRACE, ThreadLooper
from asynqueue.workers.lifecycle import Readiness, checkedSeriesList, checkUnattached

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.tasks import Task

T = TypeVar("T")

#: How long, in seconds, a thread must have been running a call until the call counts as started.
START = 0.005


@implementer(IManagedWorker)
class ThreadWorker:
    """
    Runs one call after the other in its own thread, in the context of the caller.

    Calls that are short are handed over some at a time. What a callable returns as a Deferred or coroutine is awaited
    in the reactor, and what it returns as an iterator is stepped in the thread, between the other calls.

    A thread cannot be interrupted. A call that is cancelled, or has timed out, sees it in
    L{asynqueue.currentCall}C{().cancelled}; when it has not returned after a while, its thread is written off: another
    one takes its place, and the old one ends when its call returns. There is at most one such thread at a time. A
    worker that would need another one takes no tasks until the first has returned.

    @ivar t: What has the thread.
    @ivar capacity: How many tasks the worker may hold.
    """

    cQualified: ClassVar[list[Hashable]] = ["thread", "local"]

    def __init__(
        self, series: Sequence[Hashable] = (), raw: bool = False, reactor: Any = None, grace: float = GRACE
    ) -> None:
        """
        @param series: What the worker is qualified for beside the series of its class, C{thread} and C{local}.
        @param raw: Whether iterators are returned as they are.
        @param reactor: Where outcomes are reported; the global reactor unless given.
        @param grace: Seconds until the thread of a call that nobody waits for is written off.
        """
        self.iQualified: list[Hashable] = checkedSeriesList(series)
        self.t = ThreadLooper(raw, reactor, grace)
        self.t.onReported = self._reported
        self.t.onFitness = self._tellAttendant
        self._window = Window()
        self.capacity = self._window.size
        self._look: IDelayedCall | None = None
        self._seen: Task | None = None
        self._untold: set[Task] = set()
        self._readiness = Readiness()
        self._attendant: Callable[[], object] | None = None

    @property
    def raw(self) -> bool:
        """
        Whether iterators are returned as they are.
        """
        return self.t.raw

    @property
    def tasks(self) -> list[Task]:
        """
        The tasks that the worker has and has given no outcome.
        """
        return list(self.t.tasks)

    @property
    def unfitness(self) -> str:
        """
        Why the worker takes no tasks, or an empty text.
        """
        return self.t.unfitness

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Do nothing: the worker never has to leave.
        """

    def setAttendant(self, callableObject: Callable[[], object] | None) -> None:
        """
        Register who is to be told that the worker has become unfit, or fit again: one queue, until it calls this with
        C{None}.

        @raise ValueError: The worker belongs to a queue already.
        """
        checkUnattached(self, self._attendant, callableObject)
        self._attendant = callableObject

    def _tellAttendant(self) -> None:
        if self._attendant is not None:
            self._attendant()

    def run(self, task: Task) -> Deferred[None]:
        """
        Run a task after those that are here already.

        @return: Fires when the worker can take another.
        """
        self.accept(task)
        waiter = self._readiness.wait()
        if len(self.t.tasks) < self.capacity:
            self._readiness.ready()
        return waiter

    def accept(self, task: Task) -> None:
        """
        Run a task after those that are here already.
        """
        # Hot path, watched by `bench --only threads`.
        window = self._window
        if window.since is None:
            window.since = monotonic()
        self.t.submit(task)
        if task.tellsStart:
            self._untold.add(task)
            if self._look is None:
                self._look = self.t.reactor.callLater(START, self._tellStart)

    def deferToThread(self, f: Callable[..., Deferred[T] | T], *args: Any, **kw: Any) -> Deferred[T]:
        """
        Run a call in the worker's thread without regard to any queue, after what the worker holds.

        @see: L{ThreadLooper.deferToThread}, for the keywords C{doNext}, C{raw} and C{consumer}.
        @return: Fires with the result; errors errback as L{asynqueue.errors.ThreadError}.
        """
        return self.t.deferToThread(f, *args, **kw)

    def _tellStart(self) -> None:
        """
        Report that the task at hand has been started, if the thread has been running it since the last look.

        A thread that reported this itself could lose the interpreter to another one before it gets into the function.
        """
        self._look = None
        running = self.t.running
        self._untold.intersection_update(self.t.tasks)
        if running is not None and running is self._seen:
            self._untold.discard(running)
            running.started()
        self._seen = running
        if self._untold and self._look is None:
            self._look = self.t.reactor.callLater(START, self._tellStart)

    def _stopLooking(self) -> None:
        look, self._look = self._look, None
        self._seen = None
        self._untold.clear()
        if look is not None:
            look.cancel()

    def _reported(self, number: int, began: float) -> None:
        """
        Note the rate at which tasks finish, and let those go on who wait for that.
        """
        tasks = self.t.tasks
        isFull = self._window.reported(number, began, len(tasks))
        self.capacity = self._window.size
        if isFull:
            self._tellAttendant()
        if self._readiness.waiters and len(tasks) < self.capacity:
            self._readiness.ready()
        if not tasks:
            self._stopLooking()

    def cancel(self, task: Task) -> None:
        """
        Never start a task, or write off its thread after a while.
        """
        self.t.cancel(task)

    def recall(self) -> list[Task]:
        """
        Give back the tasks that have not been started.
        """
        recalled = self.t.recall()
        if recalled:
            self.capacity = self._window.stalled()
        return recalled

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all tasks are done, all streams have ended and the thread has gone. One that has been
            written off is not waited for.
        """
        return self.t.stop()

    def crash(self) -> list[Task]:
        """
        Let go of the thread, which ends when the call that it is running returns, and give back all tasks.
        """
        self._stopLooking()
        tasks = self.t.crash()
        self._readiness.ready()
        return tasks
