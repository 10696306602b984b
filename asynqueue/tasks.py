"""
Tasks as workers get them: a call, and where its outcome goes.

A queue makes one L{Attempt} for each time that it gives a call to a worker. A L{Task} that is made by itself stands for
itself: its Deferred fires with the status tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.options import DEFAULT_OPTIONS, CallOptions, checkedSeries, checkedTimeout
from asynqueue.scheduling.lanes import LAST, NEXT
from asynqueue.scheduling.niceness import COSTS, checkedNiceness

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.deferreds.context import Captured
    from asynqueue.hires import Hire

#: What L{Task.rush} and L{Task.relax} make of a priority.
RUSHED = -1_000_000
RELAXED = 1_000_000


class Task:
    """
    A call that a worker can run.

    @ivar callTuple: The function, a tuple of its arguments, and a dictionary of its keywords.
    @ivar series: The series of the call.
    @ivar priority: Less goes first.
    @ivar timeout: Seconds from its start that the task may take, or C{None}.
    @ivar options: What else applies to the call.
    @ivar d: Fires with the outcome, C{(status, result)}.
    @ivar ID: The ID of the call on its queue, 0 outside of one.
    @ivar attempt: Which attempt at the call this is, from 1 on.
    @ivar cancelled: True as soon as nobody waits for the outcome any more.
    """

    __slots__ = (
        "ID",
        "__weakref__",
        "_callbacks",
        "_timer",
        "attempt",
        "callTuple",
        "cancelled",
        "d",
        "options",
        "priority",
        "series",
        "timeout",
    )

    d: Deferred[Any]

    #: Whether the worker is to call L{started} when it starts the task.
    tellsStart = False

    def __init__(
        self,
        f: Callable[..., Any],
        args: Sequence[Any],
        kw: dict[str, Any],
        priority: float,
        series: Hashable,
        timeout: float | None = None,
    ) -> None:
        """
        @raise TypeError: C{args} is neither list nor tuple, or C{kw} no dictionary.
        """
        self.callTuple = checkedCall(f, args, kw)
        self.priority = priority
        self.series = series
        self.timeout = checkedTimeout(timeout)
        self.options: CallOptions = DEFAULT_OPTIONS
        self.d = Deferred()
        self.ID = 0
        self.attempt = 1
        self.cancelled = False
        self._timer: Deadline | None = None
        self._callbacks: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ID} attempt {self.attempt}: {describeCall(*self.callTuple)}>"

    def __lt__(self, other: object) -> bool:
        if other is None:
            return True
        if not isinstance(other, Task):
            return NotImplemented
        return self.priority < other.priority

    def __gt__(self, other: object) -> bool:
        if other is None:
            return False
        if not isinstance(other, Task):
            return NotImplemented
        return self.priority > other.priority

    @property
    def context(self) -> Captured | None:
        """
        The context of the caller, as L{asynqueue.deferreds.context.captureContext} has it.
        """
        return None

    @property
    def workerID(self) -> int | None:
        """
        The ID of the worker that has the task, if a queue has given it to one.
        """
        return None

    def started(self) -> None:
        """
        Report that the worker has started the task.
        """

    def returned(self) -> None:
        """
        Report that the worker gives the task back, which it has not started and never will.
        """
        self.callback(("d", None))

    def excerpt(self) -> Task:
        """
        Return what L{asynqueue.currentCall} needs to tell of the task for as long as its result is iterated over.
        """
        return Excerpt(self)

    def callback(self, statusResult: tuple[Any, Any]) -> None:
        """
        Report the outcome of the task. Only the first counts.
        """
        self._stopTimer()
        if not self.d.called:
            self.d.callback(statusResult)

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Report that the task has failed in a way that has no status.
        """
        self._stopTimer()
        if not self.d.called:
            self.d.errback(failure)

    def addCallback(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Add a callback to C{d}, which a L{copy} gets too.
        """
        self._callbacks.append((f, args, kw))
        return self.d.addCallback(f, *args, **kw)

    def startTimer(self) -> None:
        """
        Report a timeout when the task's C{timeout} has passed without an outcome.
        """
        if self.timeout is not None and self._timer is None:
            from twisted.internet import reactor

            clock: Any = reactor
            self._timer = Deadline(clock, monotonicOf(clock), self.timeout, self.timedout)

    def timedout(self) -> None:
        """
        Report a timeout.
        """
        self.callback(("t", None))

    def reset(self) -> Deferred[Any]:
        """
        Make the task ready for another run, with a fresh C{d}, which is returned.
        """
        self._stopTimer()
        self.d = Deferred()
        return self.d

    def rush(self) -> None:
        """
        Let the task go before those that are not rushed.
        """
        self.priority = RUSHED

    def relax(self) -> None:
        """
        Let the task go after those that are not relaxed.
        """
        self.priority = RELAXED

    def copy(self) -> Task:
        """
        Return another task for the same call, with the callbacks that L{addCallback} has added.
        """
        func, args, kw = self.callTuple
        other = Task(func, args, dict(kw), self.priority, self.series, self.timeout)
        other.options = self.options
        for callback, callbackArgs, callbackKeywords in self._callbacks:
            other.addCallback(callback, *callbackArgs, **callbackKeywords)
        return other

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()


class Attempt(Task):
    """
    One attempt at a call on a queue.

    @ivar entry: The call's entry in the ledger.
    @ivar hire: The worker's employment under which the attempt runs, until it has reported an outcome.
    @ivar deadline: The timer of the attempt, if it has one.
    @ivar arriving: The Deferred that the value is to come from, once that is the outcome.
    """

    __slots__ = ("_dispatcher", "_workerID", "arriving", "deadline", "entry", "hire", "tellsStart")

    def __init__(self, entry: CallDeferred[Any], hire: Hire | None) -> None:
        # Hot path, watched by `bench --only reactor`.
        self.entry = entry
        self.hire = hire
        self._dispatcher = entry.dispatcher
        self.attempt = entry.attempts = entry.attempts + 1
        kw = entry.kw
        self.callTuple = (entry.func, entry.args, dict(kw) if kw else {})
        self.cancelled = False
        self.tellsStart = False
        self.deadline: Deadline | None = None
        self.arriving: Deferred[Any] | None = None
        self._workerID = None if hire is None else hire.ID

    @property
    def ID(self) -> int:  # type: ignore[override]
        """
        The ID of the call.
        """
        return self.entry.ID

    @property
    def d(self) -> Deferred[Any]:  # type: ignore[override]
        """
        The Deferred that the caller has.
        """
        return self.entry

    @property
    def series(self) -> Hashable:  # type: ignore[override]
        """
        The series of the call.
        """
        return self.entry.series

    @property
    def options(self) -> CallOptions:  # type: ignore[override]
        """
        What else applies to the call.
        """
        return self.entry.options

    @property
    def timeout(self) -> float | None:  # type: ignore[override]
        """
        Seconds from its start that the attempt may take, or C{None}. The queue keeps the time.
        """
        return self.entry.options.timeout

    @property
    def priority(self) -> int:  # type: ignore[override]
        """
        The niceness of the call, less than -20 for one that goes before all, more than 20 for one that goes after.
        """
        return self.entry.band

    @property
    def context(self) -> Captured | None:
        """
        The context of the caller.
        """
        return self.entry.context

    @property
    def workerID(self) -> int | None:
        """
        The ID of the worker that has, or had, the attempt.
        """
        return self._workerID

    def started(self) -> None:
        """
        Report that the worker has started the attempt.
        """
        if self.hire is not None and self._dispatcher is not None:
            self._dispatcher.lookAhead.started(self.hire, self)

    def returned(self) -> None:
        """
        Report that the worker gives the attempt back, which it has not started and never will.
        """
        if self.hire is not None and self._dispatcher is not None:
            self._dispatcher.lookAhead.returned(self.hire, [self])

    def callback(self, statusResult: tuple[Any, Any]) -> None:
        """
        Report the outcome of the attempt. Only the first counts, and only while the attempt is the call's current one.
        """
        if self._dispatcher is not None:
            self._dispatcher.outcomes.report(self, statusResult)

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Report that the attempt has failed.
        """
        self.callback(("x", failure))

    def addCallback(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Add a callback to the Deferred that the caller has.
        """
        return self.entry.addCallback(f, *args, **kw)

    def startTimer(self) -> None:
        """
        Do nothing: the queue keeps the time of its attempts.
        """

    def timedout(self) -> None:
        """
        End the attempt, for its time is up. The worker goes on until it notices.
        """
        if self._dispatcher is not None and self.entry.current is self:
            self._dispatcher.outcomes.timedOut(self)

    def reset(self) -> Deferred[Any]:
        """
        Return C{d}; the queue itself makes an attempt for each run.
        """
        return self.entry

    def rush(self) -> None:
        """
        Let the call go before all that are not rushed. Of no effect once it waits.
        """
        self.entry.band = NEXT

    def relax(self) -> None:
        """
        Let the call go after all others. Of no effect once it waits.
        """
        self.entry.band = LAST

    def copy(self) -> Task:
        """
        Return a task by itself for the same call.
        """
        func, args, kw = self.callTuple
        other = Task(func, args, dict(kw), self.priority, self.series, self.timeout)
        other.options = self.options
        return other

    def _stopTimer(self) -> None:
        if self.deadline is not None:
            self.deadline.stop()
            self.deadline = None


class Excerpt(Task):
    """
    What there is to tell of a task that may be over, without keeping it, and with it its result.
    """

    __slots__ = ("_context", "_isCancelled", "_task", "_workerID")

    def __init__(self, task: Task) -> None:
        self._isCancelled = False
        self._task = ref(task)
        super().__init__(*task.callTuple, task.priority, task.series, task.timeout)
        self.ID = task.ID
        self.attempt = task.attempt
        self.options = task.options
        self._context = task.context
        self._workerID = task.workerID

    @property
    def cancelled(self) -> bool:
        """
        True as soon as nobody waits for the outcome, or for what is iterated over, any more.
        """
        task = self._task()
        return self._isCancelled or (task is not None and task.cancelled)

    @cancelled.setter
    def cancelled(self, isCancelled: bool) -> None:
        self._isCancelled = isCancelled

    @property
    def context(self) -> Captured | None:
        """
        The context of the caller.
        """
        return self._context

    @property
    def workerID(self) -> int | None:
        """
        The ID of the worker that had the attempt.
        """
        return self._workerID


def checkedCall(
    func: Callable[..., Any], args: Sequence[Any], kw: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """
    Return the three parts of a call, the arguments as a tuple.

    @raise TypeError: The arguments are neither list nor tuple, or the keywords no dictionary.
    """
    if not isinstance(args, list | tuple):
        raise TypeError(f"args must be a list or tuple, not {args!r}")
    if not isinstance(kw, dict):
        raise TypeError(f"kw must be a dictionary, not {kw!r}")
    return func, tuple(args), kw


class TaskFactory:
    """
    Makes tasks that stand for themselves, with priorities by niceness and series.

    Within a series, each task advances the next one's priority by the cost of its niceness, so that tasks ordered by
    priority interleave their series as a queue's scheduler does.

    @ivar TaskClass: What is made.
    """

    def __init__(self, klass: type[Task] | None = None) -> None:
        self.TaskClass = Task if klass is None else klass
        self._tags: dict[tuple[Hashable, int], int] = {}

    def new(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kw: dict[str, Any],
        niceness: int,
        series: Hashable = None,
        timeout: float | None = None,
    ) -> Task:
        """
        Make a task.

        @raise ValueError: C{niceness} is no integer from -20 to 20.
        @raise TypeError: C{series} is not hashable, or C{args} or C{kw} are of the wrong type.
        """
        niceness = checkedNiceness(niceness)
        key = (checkedSeries(series), niceness)
        priority = self._tags.get(key, 0)
        task = self.TaskClass(func, args, kw, priority, series, timeout)
        self._tags[key] = priority + COSTS[niceness]
        return task


def __getattr__(name: str) -> Any:
    # The documented place of what is built on top of this module.
    if name in ("Assignment", "AssignmentFactory", "TaskHandler"):
        from importlib import import_module

        return getattr(import_module("asynqueue.handler"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
