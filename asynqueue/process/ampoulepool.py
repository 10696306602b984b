"""
A worker whose calls are commands of AMP, which an existing pool of ampoule runs.

The pool's own queue is never used: whatever happens to one of its processes fails all that is queued there. A command
is given to the pool only when a process is free for it, or may be started; everything else waits in our queue, by
niceness and series. A process that has died, or is about to, may still be among those that the pool takes for ready;
it is taken out, and the calls that follow do not suffer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionClosed, ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.callinfo import safeRepr
from asynqueue.deferreds.delay import givenOrGlobal
from asynqueue.errors import EncodeError, WorkerError, WorkerStartError
from asynqueue.interfaces import IManagedWorker
from asynqueue.options import checkedTimeout
from asynqueue.workers.lifecycle import Readiness, checkedSeriesList, checkUnattached

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from asynqueue.tasks import Task

#: How long, in seconds, a command that nobody waits for any more may go on before its process is ended.
GRACE = 2.0

#: What a call errbacks with whose process is lost.
_LOST = (ProcessDone, ProcessTerminated, ConnectionClosed)


@implementer(IManagedWorker)
class AmpouleWorker:
    """
    Runs commands in the processes of an C{ampoule.pool.ProcessPool}, as many at once as it may have processes.

        >>> queue.call(SomeCommand, number=5, niceness=-3)

    The callable of a call is a class of C{amp.Command}, and its arguments are keywords, as C{callRemote} has them; the
    result is the dictionary of the response. An error that the command declares is delivered as such, and is a
    L{WorkerError} as well. A call whose process dies is lost, and is run again, at most twice.

    The pool is started and stopped by its owner, and should be this worker's alone. It replaces its processes when the
    next command comes.

    @ivar unfitness: Why the worker takes no tasks, or an empty text.
    """

    cQualified: ClassVar[list[Hashable]] = ["ampoule"]

    #: What calls fail with that only an unfit worker could run.
    unfitnessKind = WorkerStartError

    def __init__(
        self,
        pool: Any,
        series: Sequence[Hashable] = (),
        *,
        grace: float | None = GRACE,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param pool: The C{ProcessPool}.
        @param series: What the worker is qualified for beside the series of its class, C{ampoule}.
        @param grace: Seconds that a command may go on which has been cancelled or has used up its time limit, before
            its process is ended; C{None}: as many as it takes.
        @param reactor: The clock for that; the global reactor unless given.
        @raise TypeError: C{pool} is none.
        """
        if not all(hasattr(pool, name) for name in ("doWork", "processes", "ready", "max")):
            raise TypeError(f"pool must be a ProcessPool of ampoule, and {safeRepr(pool)} is none")
        self.iQualified: list[Hashable] = checkedSeriesList(series)
        self.unfitness = ""
        self._pool = pool
        self._grace = checkedTimeout(grace, "grace")
        self._reactor = reactor
        self._held: dict[Task, Any] = {}
        self._timers: dict[Task, IDelayedCall] = {}
        self._watched: set[Any] = set()
        self._readiness = Readiness()
        self._ends = Readiness()
        self._attendant: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<AmpouleWorker, {len(self._held)} commands under way>"

    # What the queue asks

    @property
    def capacity(self) -> int:
        """
        How many commands the worker may hold: those that it does, and one for each process that is free, or that may
        be started.
        """
        if self.unfitness:
            return 0
        pool = self._pool
        free: int = len(pool.ready) + max(0, pool.max - len(pool.processes))
        most: int = max(pool.max, len(self._held))
        return min(len(self._held) + free, most)

    @property
    def tasks(self) -> list[Task]:
        """
        The tasks that the worker has and has given no outcome.
        """
        return list(self._held)

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Do nothing: the worker never has to leave.
        """

    def setAttendant(self, callableObject: Callable[[], object] | None) -> None:
        """
        Register who is to be told of changes.

        @raise ValueError: The worker belongs to a queue already.
        """
        checkUnattached(self, self._attendant, callableObject)
        self._attendant = callableObject
        if callableObject is not None:
            self.unfitness = ""

    def run(self, task: Task) -> Deferred[None]:
        """
        Run a command.

        @return: Fires when the worker can take another.
        """
        waiter = self._readiness.wait()
        self.accept(task)
        self._tellReadiness()
        return waiter

    def accept(self, task: Task) -> None:
        """
        Run a command.
        """
        command, _, keywords = task.callTuple
        try:
            _check(*task.callTuple)
        except EncodeError as error:
            task.callback(("x", error))
            return
        pool = self._pool
        if pool.finished:
            # Only its owner knows whether it is going to be started again.
            self.unfitness = "has a pool of processes that has been stopped"
            task.returned()
            self._changed()
            return
        before = set(pool.busy)
        self._held[task] = None
        answered: Deferred[Any] = maybeDeferred(pool.doWork, command, **keywords)
        if answered.called:
            # No process answers before this returns: either it was not sent, or it is a command that has no answer.
            answered.addBoth(self._notAnswered, task)
        else:
            process = self._held[task] = next(iter(pool.busy - before), None)
            answered.addBoth(self._answered, task, process)

    def _notAnswered(self, result: Any, task: Task) -> None:
        """
        Take what there is of a command that no process has answered.
        """
        if not isinstance(result, Failure):
            self._finish(task, ("r", result))
            return
        error: WorkerError
        command: Any
        command, _, keywords = task.callTuple
        reason = _reasonNotToSend(command, keywords)
        if reason is not None:
            error = EncodeError(f"{command.__name__} cannot be sent: {reason}")
        elif result.check(*_LOST):
            # It has been given to a process that was gone.
            self._pool.ready.difference_update([each for each in self._pool.ready if each.transport is None])
            self._finish(task, ("d", None))
            return
        else:
            error = WorkerStartError(f"no process could be given {command.__name__}: {result.getErrorMessage()}")
        error.__cause__ = result.value
        self._finish(task, ("x", error))

    def _answered(self, result: Any, task: Task, process: Any) -> None:
        """
        Take a response or an error.
        """
        if isinstance(result, Failure) and _endsProcess(result):
            # The pool takes it for ready, though it is gone or about to be.
            self._pool.ready.discard(process)
        self._finish(task, _outcomeOf(result))

    def _finish(self, task: Task, outcome: tuple[str, Any]) -> None:
        self._stopTimer(task)
        self._watch()
        if task in self._held:
            del self._held[task]
            task.callback(("k", None) if task.cancelled else outcome)
        self._tellReadiness()
        if not self._held:
            self._ends.ready()

    def _watch(self) -> None:
        """
        Have it told when processes are gone that take no calls any more, but take the places of others.
        """
        pool = self._pool
        for process in tuple(pool.processes):
            if process not in pool.ready and process not in pool.busy and process not in self._watched:
                finished = getattr(pool, "_finishCallbacks", {}).get(process)
                if finished is not None:
                    self._watched.add(process)
                    finished.addBoth(self._processGone, process)

    def _processGone(self, result: Any, process: Any) -> Any:
        self._watched.discard(process)
        self._changed()
        return result

    def _changed(self) -> None:
        self._tellReadiness()
        if self._attendant is not None:
            self._attendant()

    def _tellReadiness(self) -> None:
        if self._readiness.waiters and len(self._held) < self.capacity:
            self._readiness.ready()

    def cancel(self, task: Task) -> None:
        """
        Let a command go on for a while, and then end its process, which runs nothing else.
        """
        if task in self._held and task not in self._timers and self._grace is not None:
            clock = givenOrGlobal(self._reactor)
            self._timers[task] = clock.callLater(self._grace, self._endProcess, task)

    def _endProcess(self, task: Task) -> None:
        del self._timers[task]
        process = self._held.get(task)
        if process is not None and process.transport is not None:
            try:
                process.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                # It will be reported.
                return

    def _stopTimer(self, task: Task) -> None:
        timer = self._timers.pop(task, None)
        if timer is not None:
            timer.cancel()

    def recall(self) -> list[Task]:
        """
        Give back nothing: every command has been started.
        """
        return []

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all commands are done. The pool goes on.
        """
        done = self._ends.wait()
        if not self._held:
            self._ends.ready()
        return done

    def crash(self) -> list[Task]:
        """
        Wait for no command any more, and give back all tasks. The pool goes on, and with it what it runs.
        """
        tasks = list(self._held)
        self._held.clear()
        for task in tuple(self._timers):
            self._stopTimer(task)
        self._readiness.ready()
        self._ends.ready()
        return tasks


def _check(command: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """
    @raise EncodeError: The call is none of a command, or its arguments cannot be sent.
    """
    if not (isinstance(command, type) and issubclass(command, amp.Command)):
        raise EncodeError(f"the callable must be a class of amp.Command, and {safeRepr(command)} is none")
    if args:
        raise EncodeError(f"a command takes its arguments by keywords, not {safeRepr(args)}")
    try:
        command(**_sent(keywords))
    except amp.InvalidSignature as error:
        raise EncodeError(f"{command.__name__} cannot be sent: {error}") from error


def _sent(keywords: dict[str, Any]) -> dict[str, Any]:
    """
    Return the keywords that are the command's own, and not the pool's.
    """
    return {name: value for name, value in keywords.items() if name not in ("_timeout", "_deadline")}


def _reasonNotToSend(command: type[amp.Command], keywords: dict[str, Any]) -> str | None:
    """
    Return why AMP cannot send a command, as text, or C{None} if it can.
    """
    try:
        command.makeArguments(_sent(keywords), None).serialize()
    except amp.TooLong as error:
        name = (error.keyName or b"an argument").decode("ascii", "replace")
        return f"{name} is longer than the 65,535 bytes that AMP sends in one value"
    except Exception as error:  # an argument's type may be anybody's
        return f"{type(error).__name__}: {error}"
    return None


def _endsProcess(failure: Failure) -> bool:
    """
    Tell whether a process has died, or is about to, with this error: one that its command does not declare ends it.
    """
    return bool(failure.check(amp.UnknownRemoteError, amp.TooLong, *_LOST))


def _outcomeOf(result: Any) -> tuple[str, Any]:
    if not isinstance(result, Failure):
        return ("r", result)
    if result.check(amp.TooLong, *_LOST):
        return ("l", f"its process was lost: {result.getErrorMessage()}")
    return ("e", result)
