"""
A worker that runs calls in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from asynqueue.deferreds.context import runInContext
from asynqueue.errors import ThreadError, WorkerLost
from asynqueue.failures import errorText
from asynqueue.interfaces import IManagedWorker
from asynqueue.options import checkedTimeout
from asynqueue.scheduling.window import Window
from asynqueue.threads.call import ThreadCall
from asynqueue.threads.thread import WorkerThread
from asynqueue.workers.lifecycle import Readiness, checkedSeriesList, checkUnattached

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.tasks import Task

T = TypeVar("T")

#: How long, in seconds, a call that nobody waits for any more may go on before its thread is written off.
GRACE = 2.0

#: How long, in seconds, a thread must have been running a call until the call counts as started.
START = 0.005


@implementer(IManagedWorker)
class ThreadWorker:
    """
    Runs one call after the other in its own thread, in the context of the caller.

    Calls that are short are handed over some at a time. What a callable returns as a Deferred or coroutine is awaited
    in the reactor, while the thread goes on to the next call.

    A thread cannot be interrupted. A call that is cancelled, or has timed out, sees it in
    L{asynqueue.currentCall}C{().cancelled}; when it has not returned after a while, its thread is written off: another
    one takes its place, and the old one ends when its call returns. There is at most one such thread at a time. A
    worker that would need another one takes no tasks until the first has returned.

    @ivar capacity: How many tasks the worker may hold.
    @ivar unfitness: Why it takes no tasks, or an empty text.
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
        self.raw = raw
        self.unfitness = ""
        self._grace = checkedTimeout(grace, "grace") or 0.0
        self._reactor = reactor
        self._window = Window()
        self.capacity = self._window.size
        self._busySince: float | None = None
        self._tasks: dict[Task, None] = {}
        self._thread: WorkerThread | None = None
        self._strays: set[WorkerThread] = set()
        self._writeOffs: dict[Task, IDelayedCall] = {}
        self._stuck: Task | None = None
        self._look: IDelayedCall | None = None
        self._seen: Task | None = None
        self._untold: set[Task] = set()
        self._isStopping = False
        self._readiness = Readiness()
        self._ends = Readiness()
        self._attendant: Callable[[], object] | None = None

    @property
    def tasks(self) -> list[Task]:
        """
        The tasks that the worker has and has given no outcome.
        """
        return list(self._tasks)

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

    def run(self, task: Task) -> Deferred[None]:
        """
        Run a task after those that are here already.

        @return: Fires when the worker can take another.
        """
        self.accept(task)
        waiter = self._readiness.wait()
        if len(self._tasks) < self.capacity:
            self._readiness.ready()
        return waiter

    def accept(self, task: Task) -> None:
        """
        Run a task after those that are here already.
        """
        # Hot path, watched by `bench --only threads`.
        if self._busySince is None:
            self._busySince = monotonic()
        thread = self._living()
        self._tasks[task] = None
        thread.submit(task)
        if task.tellsStart:
            self._untold.add(task)
            if self._look is None:
                self._look = self._reactor.callLater(START, self._tellStart)

    def deferToThread(self, f: Callable[..., Deferred[T] | T], *args: Any, **kw: Any) -> Deferred[T]:
        """
        Run a call in the worker's thread without regard to any queue, after what the worker holds.

        @keyword doNext: Before what the worker has not started.
        @keyword raw: Whether an iterator is to be returned as it is.
        @return: Fires with the result; errors errback as L{asynqueue.errors.ThreadError}.
        """
        first = bool(kw.pop("doNext", False))
        kw.pop("raw", None)
        call: ThreadCall[T] = ThreadCall(f, args, kw)
        call.onCancel = self.cancel
        thread = self._living()
        self._tasks[call] = None
        thread.submit(call, first)
        return call.result

    def _living(self) -> WorkerThread:
        if self._thread is None:
            if self._reactor is None:
                from twisted.internet import reactor

                self._reactor = reactor
            self._thread = WorkerThread(self._reactor, self._completed, self._reported, self._threadEnded)
        return self._thread

    def _tellStart(self) -> None:
        """
        Report that the task at hand has been started, if the thread has been running it since the last look.

        A thread that reported this itself could lose the interpreter to another one before it gets into the function.
        """
        self._look = None
        running = None if self._thread is None else self._thread.running
        if running is not None and running is self._seen:
            self._untold.discard(running)
            running.started()
        self._seen = running
        if self._untold and self._look is None:
            self._look = self._reactor.callLater(START, self._tellStart)

    def _stopLooking(self) -> None:
        look, self._look = self._look, None
        self._seen = None
        self._untold.clear()
        if look is not None:
            look.cancel()

    def _completed(self, task: Task, outcome: tuple[str, Any]) -> None:
        """
        Give a task its outcome.
        """
        # Hot path, watched by `bench --only threads`.
        self._tasks.pop(task, None)
        if self._untold:
            self._untold.discard(task)
        if self._writeOffs:
            writeOff = self._writeOffs.pop(task, None)
            if writeOff is not None:
                writeOff.cancel()
        if task is self._stuck:
            self._stuck = None
            self._setUnfitness("")
        result = outcome[1]
        if isinstance(result, CoroutineType):
            outcome = self._awaited(task, result)
        task.callback(outcome)

    def _awaited(self, task: Task, result: CoroutineType[Any, Any, Any]) -> tuple[str, Any]:
        """
        Run a coroutine that a call has returned, in the reactor.
        """
        if task.cancelled:
            result.close()
            return ("k", None)
        return ("r", runInContext(task.context, task, Deferred.fromCoroutine, (result,), {}))

    def _reported(self, number: int, began: float) -> None:
        """
        Note the rate at which tasks finish, and let those go on who wait for that.
        """
        if number and self._busySince is not None:
            before = self.capacity
            self.capacity = self._window.finished(number, began - self._busySince)
            if self.capacity < before and self.capacity <= len(self._tasks) and self._attendant is not None:
                self._attendant()
        self._busySince = began if self._tasks else None
        if self._readiness.waiters and len(self._tasks) < self.capacity:
            self._readiness.ready()
        if not self._tasks:
            self._stopLooking()
            if self._isStopping:
                self._endThread()

    def cancel(self, task: Task) -> None:
        """
        Never start a task, or write off its thread after a while.
        """
        if task in self._tasks and task not in self._writeOffs:
            self._writeOffs[task] = self._reactor.callLater(self._grace, self._writeOff, task)

    def _writeOff(self, task: Task) -> None:
        """
        Put another thread in the place of one that a task holds, if there may be another.
        """
        del self._writeOffs[task]
        if self._thread is None or self._thread.running is not task:
            # It has not been started, or has just returned: its turn to be passed over, or reported, comes by itself.
            if task in self._tasks:
                self._writeOffs[task] = self._reactor.callLater(self._grace, self._writeOff, task)
        elif self._strays and not self._isStopping:
            self._stuck = task
            self._setUnfitness("is stuck in calls that do not return")
        else:
            self._replaceThread(task)

    def _replaceThread(self, task: Task) -> None:
        """
        Let a thread go that a task holds, and have another one run what it has not started.
        """
        stray = self._thread
        assert stray is not None
        self._thread = None
        self._strays.add(stray)
        self._tasks.pop(task, None)
        self._resubmit(stray.abandon())
        task.callback(("k", None))
        self._reported(0, monotonic())

    def _resubmit(self, tasks: list[Task]) -> None:
        """
        Have another thread run tasks that one has not started.
        """
        for task in tasks:
            try:
                self._living().submit(task)
            except RuntimeError as error:
                # The system has no more threads to give. Another worker may have one.
                self._tasks.pop(task, None)
                task.callback(("e", errorText(error, ThreadError)) if isinstance(task, ThreadCall) else ("d", None))

    def _setUnfitness(self, unfitness: str) -> None:
        if unfitness != self.unfitness:
            self.unfitness = unfitness
            if self._attendant is not None:
                self._attendant()

    def recall(self) -> list[Task]:
        """
        Give back the tasks that have not been started.
        """
        if self._thread is None:
            return []
        recalled = []
        for task in self._thread.recall():
            if isinstance(task, ThreadCall):
                # It came past the queue and stays.
                self._thread.submit(task)
            else:
                del self._tasks[task]
                self._untold.discard(task)
                recalled.append(task)
        for task in recalled:
            writeOff = self._writeOffs.pop(task, None)
            if writeOff is not None:
                writeOff.cancel()
        if recalled:
            self.capacity = self._window.stalled()
        return recalled

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all tasks are done and the thread has gone. One that has been written off is not waited for.
        """
        self._isStopping = True
        gone = self._ends.wait()
        stuck, self._stuck = self._stuck, None
        if stuck is not None and stuck in self._tasks:
            self._replaceThread(stuck)
        if not self._tasks:
            self._endThread()
        return gone

    def _endThread(self) -> None:
        if self._thread is None:
            # It may be attached to another queue.
            self._isStopping = False
            self._ends.ready()
        else:
            self._thread.end()

    def _threadEnded(self, thread: WorkerThread) -> None:
        if thread in self._strays:
            self._strays.remove(thread)
            stuck, self._stuck = self._stuck, None
            if stuck is not None and stuck in self._tasks:
                self._replaceThread(stuck)
            self._setUnfitness("")
        elif thread is self._thread:
            self._thread = None
            # What came when the thread had been told to end.
            self._resubmit(thread.recall())
            self._endThread()

    def crash(self) -> list[Task]:
        """
        Let go of the thread, which ends when the call that it is running returns, and give back all tasks.
        """
        held, self._tasks = self._tasks, {}
        self._stopLooking()
        writeOffs, self._writeOffs = self._writeOffs, {}
        for writeOff in writeOffs.values():
            writeOff.cancel()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._strays.add(thread)
            thread.abandon()
        self._stuck = None
        self._setUnfitness("")
        tasks = []
        for task in held:
            task.cancelled = True
            if isinstance(task, ThreadCall):
                task.errback(WorkerLost(f"{task!r} was left unfinished by its thread; it may have run"))
            else:
                tasks.append(task)
        self._readiness.ready()
        self._ends.ready()
        return tasks
