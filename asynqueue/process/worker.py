"""
A worker that runs calls in a child process.

Data flow::

    queue -> ProcessWorker.accept -> Conversation: pickle, number -> PipeWriter ======> child: data pipe
                  ^                       |                                                  |
                  |                       +- recall, interrupt ---------------------> control pipe
                  |                                                                          |
    queue <- task.callback <- Conversation: records in order <- PipeReader <========= outcomes pipe
                                          |
    Lineage: starts, replaces,            +- Page (shared memory): which call the child has begun with
    retires children

The walk of a call:

  1. The queue gives a task to the worker, which may hold as many as fit into a few milliseconds of work. The first is
     written to the child at once, those that follow together at the end of a turn.
  2. The child runs them in order, in its main thread, and writes each outcome when it is there.
  3. When nothing has come for some milliseconds, the queue recalls what has not been started. The child's control
     thread tells how far the child has come, and gives back the rest, even while the main thread computes.
  4. When the child dies, the page tells which call it had begun with. That one is lost, and may be run again; those
     after it have not been started and cost nothing. A successor is started.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.callinfo import describeCall
from asynqueue.errors import WorkerLost, WorkerStartError
from asynqueue.interfaces import IStartedWorker
from asynqueue.process.childspec import childSpec
from asynqueue.process.conversation import Conversation
from asynqueue.process.health import memoryOf
from asynqueue.process.lineage import Lineage
from asynqueue.process.mainmodule import NAME
from asynqueue.process.timelimits import TimeLimits
from asynqueue.scheduling.window import Window
from asynqueue.workers.lifecycle import Readiness, checkedSeriesList, checkUnattached

if TYPE_CHECKING:
    from asynqueue.tasks import Task

#: How long, in seconds, a call that has been interrupted may go on before its child is ended.
GRACE = 2.0

#: How long, in seconds, a child may take to get ready.
START_LIMIT = 10.0

#: How long, in bytes, a pickled call or result may be.
LIMIT = 64 << 20

#: How much work, in seconds, a child may hold: one of its calls always waits for the next.
TARGET = 0.004

#: Of so many calls at most the times are kept.
TIMES = 100_000


def cores() -> int:
    """
    Return how many processor cores this process may use.
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # Not every system has it.
        return os.cpu_count() or 1


class PresentChild:
    """
    The child of a worker, whichever that is at the moment.
    """

    def __init__(self, worker: ProcessWorker) -> None:
        self._worker = worker

    @property
    def pid(self) -> int | None:
        """
        Its process ID, or C{None} while there is none.
        """
        return self._worker.pid

    def is_alive(self) -> bool:
        """
        Tell whether there is one.
        """
        return self._worker.pid is not None


@implementer(IStartedWorker)
class ProcessWorker:
    """
    Runs one call after the other in a child process: a fresh interpreter, started when the worker is attached to a
    queue, and replaced when it dies.

    A call, its arguments and its result travel pickled. What cannot be pickled is an error of that call alone. A call
    whose child dies is lost, and is run again, at most twice, by whoever is qualified. A call that is cancelled is
    interrupted by an exception; if it goes on regardless, its child is ended and replaced.

    @ivar unfitness: Why the worker takes no tasks, or an empty text.
    """

    cQualified: ClassVar[list[Hashable]] = ["process", "local"]

    cores = staticmethod(cores)

    #: What calls fail with that only an unfit worker could run.
    unfitnessKind = WorkerStartError

    #: The worker itself counts the time that calls take from their starts.
    keepsTimeLimits = True

    def __init__(
        self,
        series: Sequence[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        useReactor: bool = False,
        *,
        reactor: Any = None,
        onStart: Callable[..., object] | None = None,
        onStartArgs: Sequence[Any] = (),
        pickler: str | None = None,
        environment: Mapping[str, str] | None = None,
        contextVars: Sequence[str] = (),
        limit: int = LIMIT,
        grace: float = GRACE,
        startLimit: float = START_LIMIT,
        maxTasks: int | None = None,
        maxMemory: int | None = None,
        maxGrowth: float | None = None,
        maxAge: float | None = None,
        guard: bool = False,
    ) -> None:
        """
        @param series: What the worker is qualified for beside the series of its class, C{process} and C{local}.
        @param raw: Whether iterators are results like any other, which cannot be pickled mostly.
        @param callStats: Whether L{stats} keeps the times of calls.
        @param useReactor: Whether children run their calls in a reactor, in which a call may return a Deferred or a
            coroutine, and as many as 64 go on at once.
        @param reactor: The global reactor, which is taken anyway: children cannot be started by any other.
        @param onStart: Called in each child before its first call, with C{onStartArgs}. A child in which it raises an
            exception is not used.
        @param pickler: C{"pickle"}, or C{"cloudpickle"} for lambdas and functions within functions.
        @param environment: The environment variables of the children; by default those of this process.
        @param contextVars: The context variables whose values travel with a call, by the names of their modules and
            their own, such as C{"myprogram.requests.requestID"}.
        @param limit: How long, in bytes, a pickled call or result may be.
        @param grace: Seconds that a call that has been interrupted may go on before its child is ended.
        @param startLimit: Seconds that a child may take to get ready, C{onStart} included.
        @param maxTasks: After how many calls a child is replaced.
        @param maxMemory: Above how much resident memory, in kilobytes, a child is replaced, between calls.
        @param maxGrowth: Above how many times the memory that it had after its first call it is replaced.
        @param maxAge: After about how many seconds it is replaced.
        @param guard: Whether a small process ends what children have started themselves, should this process be killed.
            The children end in any case.
        @raise ValueError: A number is out of its range, or the reactor is not the global one.
        @raise TypeError: An argument is of the wrong type.
        @raise EncodeError: C{onStart} or its arguments cannot be pickled.
        """
        self.iQualified: list[Hashable] = checkedSeriesList(series)
        # What a child makes of the classes of the program's main module is known by this name there.
        sys.modules.setdefault(NAME, sys.modules["__main__"])
        self.raw = raw
        self.unfitness = ""
        self._reactor = reactor
        self._times: deque[tuple[float, float]] | None = deque(maxlen=TIMES) if callStats else None
        self._spec = childSpec(
            callStats=callStats,
            useReactor=useReactor,
            onStart=onStart,
            onStartArgs=onStartArgs,
            pickler=pickler,
            environment=environment,
            contextVars=contextVars,
            limit=limit,
            grace=grace,
            startLimit=startLimit,
            maxTasks=maxTasks,
            maxMemory=maxMemory,
            maxGrowth=maxGrowth,
            maxAge=maxAge,
            guard=guard,
        )
        self._numbers = count(1).__next__
        self._window = Window(TARGET)
        self._lineage: Lineage | None = None
        self._limits: TimeLimits | None = None
        self._readiness = Readiness()
        self._starts = Readiness()
        self._ends = Readiness()
        self._gone = Readiness()
        self._lineages: set[Lineage] = set()
        self._attendant: Callable[[], object] | None = None

    def __repr__(self) -> str:
        pid = self.pid
        return f"<ProcessWorker, {'no child' if pid is None else f'child {pid}'}>"

    # What there is to see

    @property
    def pid(self) -> int | None:
        """
        The process ID of the present child, or C{None}.
        """
        current = self._current
        return None if current is None else current.child.pid

    @property
    def _current(self) -> Conversation | None:
        return None if self._lineage is None else self._lineage.current

    @property
    def capacity(self) -> int:
        """
        How many tasks the worker may hold.
        """
        # Hot path, watched by `bench --only processes`.
        return 0 if self._lineage is None else self._lineage.capacity(self._window.size)

    @property
    def tasks(self) -> list[Task]:
        """
        The tasks that the worker has and has given no outcome.
        """
        return [] if self._lineage is None else self._lineage.tasks()

    def memUsage(self) -> int | None:
        """
        Return the resident memory of the present child in kilobytes, or C{None} if there is none or the system does
        not tell.
        """
        pid = self.pid
        return None if pid is None else memoryOf(pid)

    @property
    def process(self) -> PresentChild:
        """
        The present child, with C{pid} and C{is_alive()}.
        """
        return PresentChild(self)

    @property
    def times(self) -> list[tuple[float, float]]:
        """
        The times of calls, with C{callStats}: for each, the seconds until its result was here, and the seconds that it
        took in the child. Of the last 100,000 calls at most.
        """
        return [] if self._times is None else list(self._times)

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: Fires with L{times}.
        """
        return succeed(self.times)

    def stack(self) -> Deferred[str]:
        """
        Ask the present child where it is, also while it computes.

        @return: Fires with the stack of its main thread as text. Errbacks with C{TimeoutError} when there is no reply
            for 5 seconds, for C code does not let the interpreter go; with L{WorkerLost} if there is no child, or it
            dies; and with C{NotImplementedError} for a child with a reactor.
        """
        current = self._current
        return fail(WorkerLost(f"{self!r} has no child at the moment")) if current is None else current.stack()

    @property
    def isIdle(self) -> bool:
        """
        Whether there is nothing to do: neither a task nor an open stream.
        """
        current = self._current
        return not self.tasks and (current is None or current.isIdle)

    def describeRunning(self) -> str:
        """
        Return what the present child is running, as text.
        """
        begun = [] if self._current is None else self._current.begun()
        return f"running {describeCall(*begun[-1].callTuple)}" if begun else "running nothing"

    # What the queue asks

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Do nothing: the worker never has to leave.
        """

    def setAttendant(self, callableObject: Callable[[], object] | None) -> None:
        """
        Register who is to be told of changes, and start a child.

        @raise ValueError: The worker belongs to a queue already, or its reactor is not the global one.
        """
        checkUnattached(self, self._attendant, callableObject)
        if callableObject is not None:
            self._begin()
        self._attendant = callableObject

    def _begin(self) -> None:
        from twisted.internet import reactor

        if self._reactor not in (None, reactor):
            raise ValueError(f"children can be started by the global reactor only, and {self._reactor!r} is another")
        self._reactor = reactor
        if self._lineage is None:
            self._lineage = Lineage(reactor, self._spec, self, self._numbers, self._times)
            self._lineages.add(self._lineage)
            self._limits = TimeLimits(self._lineage, reactor, self._spec.grace)
        self._lineage.begin()

    def whenStarted(self) -> Deferred[None]:
        """
        @return: Fires when there is a child that is ready for calls. Errbacks with
            L{asynqueue.errors.WorkerStartError} when several in a row could not be started; the worker goes on trying.
        """
        started = self._starts.wait()
        if self._current is not None:
            self._starts.ready()
        elif self.unfitness:
            self._starts.fail(self._startError())
        return started

    def _startError(self) -> Failure:
        return Failure(WorkerStartError(f"{self!r} {self.unfitness}"))

    def run(self, task: Task) -> Deferred[None]:
        """
        Run a task after those that are here already.

        @return: Fires when the worker can take another.
        """
        waiter = self._readiness.wait()
        if self._current is None:
            self._begin()
            self.whenStarted().addCallbacks(lambda _: self._run(task), self._notRun, errbackArgs=(task,))
        else:
            self._run(task)
        return waiter

    def _notRun(self, failure: Failure, task: Task) -> None:
        task.errback(failure)
        self._readiness.ready()

    def _run(self, task: Task) -> None:
        self.accept(task)
        if len(self.tasks) < self.capacity:
            self._readiness.ready()

    def accept(self, task: Task) -> None:
        """
        Run a task after those that are here already.
        """
        # Hot path, watched by `bench --only processes`.
        lineage = self._lineage
        current = None if lineage is None else lineage.current
        if lineage is None or current is None:
            task.returned()
            return
        window = self._window
        if window.since is None:
            window.since = monotonic()
        current.accept(task)
        lineage.gaveCall()
        options = task.options
        if task.tellsStart or options.timeLimit is not None or options.softTimeLimit is not None:
            assert self._limits is not None
            self._limits.watch(task)

    def cancel(self, task: Task) -> None:
        """
        Interrupt a task, or never start it. If it goes on regardless, end its child.
        """
        if self._limits is not None:
            self._limits.cancel(task)

    def recall(self) -> list[Task]:
        """
        Ask the child for the tasks that it has not started.

        @return: An empty list; each task is given back when the child has replied.
        """
        current = self._current
        if current is not None and current.recall():
            self._window.stalled()
        return []

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all tasks are done, all streams have ended and the child has gone.
        """
        gone = self._ends.wait()
        self._notStarted()
        if self._lineage is None:
            self._ends.ready()
        else:
            self._lineage.end()
        return gone

    def _notStarted(self) -> None:
        """
        Tell those who wait for a child that there will be none.
        """
        if self._current is None:
            self._starts.fail(Failure(WorkerLost(f"{self!r} was let go of before it had a child")))

    def crash(self) -> list[Task]:
        """
        End the child at once, and give back all tasks.
        """
        self._notStarted()
        lineage, self._lineage = self._lineage, None
        tasks: list[Task] = []
        if lineage is not None:
            for conversation in lineage.kill():
                tasks.extend(conversation.abandon())
        self._closeLimits()
        self._readiness.ready()
        self._ends.ready()
        return tasks

    def whenGone(self) -> Deferred[None]:
        """
        @return: Fires when there is no child.
        """
        gone = self._gone.wait()
        if not self._lineages:
            self._gone.ready()
        return gone

    def _closeLimits(self) -> None:
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.close()

    # What the lineage tells

    def reported(self, conversation: Conversation, number: int, began: float) -> None:
        """
        Note the rate at which calls finish, and let those go on who wait for that.
        """
        # Hot path, watched by `bench --only processes`.
        if self._limits is not None:
            self._limits.settled()
        if conversation is not self._current:
            return
        if self._window.reported(number, began, len(conversation.held)):
            self._tellAttendant()
        if self._readiness.waiters and len(conversation.held) < self.capacity:
            self._readiness.ready()

    def begunMore(self, conversation: Conversation) -> None:
        """
        Take more tasks.
        """
        if conversation is self._current:
            self._tellAttendant()
            if self._readiness.waiters and len(conversation.held) < self.capacity:
                self._readiness.ready()

    def childChanged(self) -> None:
        """
        Take tasks from a child that is ready for them, and none without.
        """
        self._window.since = None
        if self._current is not None:
            self.unfitness = ""
            self._starts.ready()
        self._tellAttendant()

    def startFailed(self, reason: str) -> None:
        """
        Take no tasks until a child can be started.
        """
        self.unfitness = f"could not start a child: {reason}"
        self._starts.fail(self._startError())
        self._tellAttendant()

    def allGone(self, lineage: Lineage) -> None:
        """
        Tell those who wait for the end.
        """
        self._lineages.discard(lineage)
        if lineage is self._lineage:
            self._lineage = None
            self._closeLimits()
            self._ends.ready()
        if not self._lineages:
            self._gone.ready()

    def _tellAttendant(self) -> None:
        if self._attendant is not None:
            self._attendant()
