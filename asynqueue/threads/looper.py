"""
One thread for calls and streams, and another in its place when a call does not return.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure

from asynqueue.callinfo import safeRepr
from asynqueue.deferreds.context import runInContext
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.errors import ThreadError, WorkerLost
from asynqueue.failures import errorText, exceptionOf, failureOf
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.producer import IterationProducer
from asynqueue.iteration.recognition import PLAIN, isIterator
from asynqueue.options import DEFAULT_OPTIONS, checkedTimeout
from asynqueue.threads.call import OwnTask, ThreadCall
from asynqueue.threads.source import ThreadSource
from asynqueue.threads.thread import WorkerThread
from asynqueue.workers.lifecycle import Readiness

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.tasks import Task

T = TypeVar("T")

#: How long, in seconds, a call that nobody waits for any more may go on before its thread is written off.
GRACE = 2.0

#: How long, in seconds, the end of the thread bears with a stream that nobody reads.
PATIENCE = 2.0

#: How long, in seconds, items of a stream may wait in the thread for those after them.
LOOK = 0.005


class ThreadLooper:
    """
    Runs one call after the other in its own thread, in the context of the caller, and steps the iterators that calls
    have returned there, between the other calls.

    What a callable returns as a Deferred or coroutine is awaited in the reactor, while the thread goes on.

    A thread cannot be interrupted. A call that is cancelled sees it in L{asynqueue.currentCall}C{().cancelled}; when it
    has not returned after a while, its thread is written off: another one takes its place, and the old one ends when
    its call returns. There is at most one such thread at a time; for a second one, the looper is unfit, until the first
    has returned.

    The thread begins with the first call. It is a daemon and does not keep the interpreter from exiting.

    @ivar raw: Whether iterators are returned as they are.
    @ivar tasks: What has been submitted and has no outcome.
    @ivar unfitness: Why no task should be submitted, or an empty text.
    @ivar onReported: Called each time after some tasks have been given their outcomes, with their number and when that
        began, on the monotonic clock.
    @ivar onFitness: Called when L{unfitness} has changed.
    """

    def __init__(self, raw: bool = False, reactor: Any = None, grace: float = GRACE) -> None:
        """
        @param raw: Whether iterators are returned as they are.
        @param reactor: Where outcomes are reported; the global reactor unless given.
        @param grace: Seconds until the thread of a call that nobody waits for is written off.
        """
        self.raw = raw
        self.reactor = reactor
        self.tasks: dict[Task, None] = {}
        self.unfitness = ""
        self.onReported: Callable[[int, float], object] = _ignore
        self.onFitness: Callable[[], object] = int
        self._grace = checkedTimeout(grace, "grace") or 0.0
        self._thread: WorkerThread | None = None
        self._strays: set[WorkerThread] = set()
        self._sources: set[ThreadSource] = set()
        self._writeOffs: dict[Task, IDelayedCall] = {}
        self._look: IDelayedCall | None = None
        self._idleWatch: IDelayedCall | None = None
        self._stuck: Task | None = None
        self._isStopping = False
        self._ends = Readiness()

    # The documented API

    @property
    def threadRunning(self) -> bool:
        """
        Whether there is a thread.
        """
        return self._thread is not None

    @property
    def thread(self) -> Thread | None:
        """
        The thread, or C{None} before the first call and after L{stop}.
        """
        return None if self._thread is None else self._thread.thread

    def call(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[tuple[bytes, Any]]:
        """
        Run a call in the thread, after those before it.

        @keyword doNext: Before those that have not been started.
        @keyword raw: Whether an iterator is to be returned as it is; by default as this object has it.
        @keyword consumer: An C{IConsumer} that gets the iterations if the result is an iterator.
        @keyword timeout: Seconds until the call is not waited for any more.
        @return: Fires with status and result: C{b"r"} and what the function returned; C{b"i"} and a L{Deferator}, or
            the consumer after everything has been written to it; C{b"e"} and the traceback of an exception as text; or
            C{b"t"} and C{None} after a timeout. Cancelled before the call has started, it is never run.
        @raise TypeError: C{f} is not callable, or C{consumer} is none.
        """
        seconds = checkedTimeout(kw.pop("timeout", None))
        consumer = _consumerOf(kw)
        call = self._submitCall(f, args, kw)
        deadline: list[Deadline] = []
        if seconds is not None:
            deadline.append(Deadline(self.reactor, monotonicOf(self.reactor), seconds, lambda: self._timedOut(call)))

        def stopDeadline(result: Any) -> Any:
            for each in deadline:
                each.stop()
            return result

        result: Deferred[Any] = call.result
        return result.addBoth(stopDeadline).addCallback(_reported, consumer)

    def deferToThread(self, f: Callable[..., Deferred[T] | T], *args: Any, **kw: Any) -> Deferred[T]:
        """
        Run a call in the thread, after those before it.

        @keyword doNext: Before those that have not been started.
        @keyword raw: Whether an iterator is to be returned as it is; by default as this object has it.
        @keyword consumer: An C{IConsumer} that gets the iterations if the result is an iterator.
        @return: Fires with the result of the call: a L{Deferator} if that is an iterator, or the consumer after
            everything has been written to it. Errors errback as L{asynqueue.errors.ThreadError}. Cancelled before the
            call has started, it is never run.
        @raise TypeError: C{f} is not callable, or C{consumer} is none.
        """
        consumer = _consumerOf(kw)
        result: Deferred[Any] = self._submitCall(f, args, kw).result
        return result.addCallback(_delivered, consumer)

    def dr2ip(self, deferator: Deferator, consumer: Any = None) -> IterationProducer:
        """
        Make a producer of a L{Deferator}.

        @param consumer: Is registered, if given. The producer has yet to be run.
        @raise TypeError: C{deferator} is none.
        @raise ImplementationError: C{consumer} does not provide C{IConsumer}.
        """
        return IterationProducer(deferator, consumer)

    def stop(self) -> Deferred[None]:
        """
        Come to an end when everything is done and all iterators have come to their ends.

        @return: Fires when that is so and the thread has gone. One that has been written off is not waited for.
        """
        self._isStopping = True
        if self._sources and self._idleWatch is None:
            self._watchIdle()
        gone = self._ends.wait()
        stuck, self._stuck = self._stuck, None
        if stuck is not None and stuck in self.tasks:
            self._replaceThread(stuck)
        self._checkEnd()
        return gone

    # For the worker

    def submit(self, task: Task, first: bool = False) -> None:
        """
        Run a task after all that have been submitted, or before all that have not been started.
        """
        # Hot path, watched by `bench --only threads`.
        thread = self._living()
        self.tasks[task] = None
        thread.submit(task, first)

    @property
    def running(self) -> Task | None:
        """
        The task that the thread is running.
        """
        return None if self._thread is None else self._thread.running

    def cancel(self, task: Task) -> None:
        """
        Never start a task, or write off its thread after a while.
        """
        if task in self.tasks and task not in self._writeOffs:
            self._writeOffs[task] = self.reactor.callLater(self._grace, self._writeOff, task)

    def recall(self) -> list[Task]:
        """
        Give back the tasks that have not been started, but those that are no queue's.
        """
        if self._thread is None:
            return []
        recalled = []
        for task in self._thread.recall():
            if isinstance(task, OwnTask):
                self._thread.submit(task)
            else:
                del self.tasks[task]
                recalled.append(task)
        for task in recalled:
            self._stopWriteOff(task)
        return recalled

    def crash(self) -> list[Task]:
        """
        Let go of the thread, which ends when the call that it is running returns, and give back all tasks but those
        that are no queue's.
        """
        held, self.tasks = self.tasks, {}
        writeOffs, self._writeOffs = self._writeOffs, {}
        for writeOff in writeOffs.values():
            writeOff.cancel()
        self._stopLooking()
        sources, self._sources = self._sources, set()
        for source in sources:
            source.lost(WorkerLost(f"the stream of {source.describe()} was left unfinished by its worker"))
        thread, self._thread = self._thread, None
        if thread is not None:
            self._strays.add(thread)
            # It closes the iterators at last.
            thread.abandon(sources)
        self._stuck = None
        self._isStopping = False
        self._setUnfitness("")
        tasks = []
        for task in held:
            if task in sources:
                # It still has to be closed.
                continue
            task.cancelled = True
            if not isinstance(task, OwnTask):
                tasks.append(task)
            else:
                task.lost(WorkerLost(f"{task!r} was left unfinished by its thread; it may have run"))
        self._ends.ready()
        return tasks

    def sourceEnded(self, source: ThreadSource) -> None:
        """
        Take note that the thread is not needed for a source any more.
        """
        self._sources.discard(source)
        if not self._sources:
            self._stopLooking()
        self._checkEnd()

    def watch(self, source: ThreadSource) -> None:
        """
        Have a source that is out look after a while at what is there, as long as it is out.
        """
        if self._look is None:
            self._look = self.reactor.callLater(LOOK, self._lookAtSources)
        elif self._look.getTime() - self.reactor.seconds() < LOOK / 2:
            # Not before the thread has had its time with this one, too.
            self._look.delay(LOOK / 2)

    def _lookAtSources(self) -> None:
        self._look = None
        for source in tuple(self._sources):
            if source.isOut and not source.isSeen:
                source.isSeen = True
                source.lookAt()

    def _watchIdle(self) -> None:
        """
        From now on, end each stream that nobody has read from for a while.
        """
        seen = {source: _deliveredBy(source) for source in self._sources}
        self._idleWatch = self.reactor.callLater(PATIENCE, self._endIdle, seen)

    def _endIdle(self, seen: dict[ThreadSource, int]) -> None:
        self._idleWatch = None
        for source, delivered in seen.items():
            stream = None if source.stream is None else source.stream()
            if stream is None or source not in self._sources or stream.isWaitedFor or stream.delivered != delivered:
                continue
            stream.fail(WorkerLost(f"the stream of {source.describe()} has been ended: nobody read it"))
        if self._sources and self._isStopping:
            self._watchIdle()

    def _stopLooking(self) -> None:
        timers = (self._look, self._idleWatch)
        self._look = self._idleWatch = None
        for timer in timers:
            if timer is not None:
                timer.cancel()

    # Calls

    def _submitCall(self, f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> ThreadCall[Any]:
        first = bool(kw.pop("doNext", False))
        raw = kw.pop("raw", None)
        call: ThreadCall[Any] = ThreadCall(f, args, kw)
        if raw is not None:
            call.options = evolve(DEFAULT_OPTIONS, raw=bool(raw))
        call.onCancel = self.cancel
        self.submit(call, first)
        return call

    def _timedOut(self, call: ThreadCall[Any]) -> None:
        call.cancelled = True
        self.cancel(call)
        call.callback(("t", None))

    def _perform(self, task: Task) -> tuple[str, Any]:
        """
        Run the call of a task, unless it has been cancelled, and return the outcome. For the thread.
        """
        # Hot path, watched by `bench --only threads`.
        if task.cancelled:
            return ("k", None)
        func, args, kw = task.callTuple
        try:
            result = runInContext(task.context, task, func, args, kw)
        except BaseException as error:  # even a SystemExit of the call's own ends the call, not the thread
            return ("e", errorText(error, ThreadError))
        kind = type(result)
        return ("r", result) if kind in PLAIN else self._outcomeOf(task, result, kind)

    def _outcomeOf(self, task: Task, result: Any, kind: type) -> tuple[str, Any]:
        """
        Return the outcome for a result, with a source in place of an iterator. For the thread.
        """
        isRaw = task.options.raw
        if self.raw if isRaw is None else isRaw:
            return ("r", result)
        if isIterator(result):
            isBlocking = hasattr(kind, "__next__") and kind is not Deferator
            return ("i", ThreadSource(result, task, self) if isBlocking else result)
        return ("i" if kind is CoroutineType or Deferred in kind.__mro__ else "r", result)

    def _completed(self, task: Task, outcome: tuple[str, Any]) -> None:
        """
        Give a task its outcome.
        """
        # Hot path, watched by `bench --only threads`.
        self.tasks.pop(task, None)
        if self._writeOffs:
            self._stopWriteOff(task)
        if task is self._stuck:
            self._stuck = None
            self._setUnfitness("")
        result = outcome[1]
        kind = type(result)
        if kind is ThreadSource:
            deferator = Deferator.over(result)
            result.stream = ref(deferator.stream)
            if not task.cancelled:
                self._sources.add(result)
                result.begin()
            outcome = ("i", deferator)
        elif kind is CoroutineType:
            outcome = self._awaited(task, outcome[0], result)
        task.callback(outcome)

    def _awaited(self, task: Task, status: str, result: CoroutineType[Any, Any, Any]) -> tuple[str, Any]:
        """
        Run a coroutine that a call has returned, in the reactor.
        """
        if task.cancelled:
            result.close()
            return ("k", None)
        return (status, runInContext(task.context, task, Deferred.fromCoroutine, (result,), {}))

    # The thread

    def _living(self) -> WorkerThread:
        if self._thread is None:
            if self.reactor is None:
                from twisted.internet import reactor

                self.reactor = reactor
            self._thread = WorkerThread(
                self.reactor, self._perform, self._completed, self._batchReported, self._threadEnded
            )
        return self._thread

    def _batchReported(self, number: int, began: float) -> None:
        self.onReported(number, began)
        if self._isStopping:
            self._checkEnd()

    def _checkEnd(self) -> None:
        if self._isStopping and not self.tasks and not self._sources:
            self._endThread()

    def _endThread(self) -> None:
        if self._thread is None:
            # It may be used again.
            self._isStopping = False
            self._ends.ready()
        else:
            self._thread.end()

    def _threadEnded(self, thread: WorkerThread) -> None:
        if thread in self._strays:
            self._strays.remove(thread)
            stuck, self._stuck = self._stuck, None
            if stuck is not None and stuck in self.tasks:
                self._replaceThread(stuck)
            self._setUnfitness("")
        elif thread is self._thread:
            self._thread = None
            # What came when the thread had been told to end.
            self._resubmit(thread.recall())
            self._checkEnd()

    # Threads that do not return

    def _stopWriteOff(self, task: Task) -> None:
        writeOff = self._writeOffs.pop(task, None)
        if writeOff is not None:
            writeOff.cancel()

    def _writeOff(self, task: Task) -> None:
        """
        Put another thread in the place of one that a task holds, if there may be another.
        """
        del self._writeOffs[task]
        if self.running is not task:
            # It has not been started, or has just returned: its turn to be passed over, or reported, comes by itself.
            if task in self.tasks:
                self._writeOffs[task] = self.reactor.callLater(self._grace, self._writeOff, task)
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
        self.tasks.pop(task, None)
        # Iterators are stepped in their own thread, or not at all. They are closed there when it returns.
        sources = [source for source in self._sources if source is not task]
        waiting = stray.abandon(sources)
        for source in sources:
            self.tasks.pop(source, None)
            source.lost(WorkerLost(f"the stream of {source.describe()} was lost with its thread, which did not return"))
            self._sources.discard(source)
        self._resubmit([each for each in waiting if each not in sources])
        task.callback(("k", None))
        self._batchReported(0, monotonic())

    def _resubmit(self, tasks: list[Task]) -> None:
        """
        Have another thread run tasks that one has not started.
        """
        for task in tasks:
            try:
                self._living().submit(task)
            except RuntimeError as error:
                # The system has no more threads to give. Another worker may have one.
                self.tasks.pop(task, None)
                task.callback(("e", errorText(error, ThreadError)) if isinstance(task, OwnTask) else ("d", None))

    def _setUnfitness(self, unfitness: str) -> None:
        if unfitness != self.unfitness:
            self.unfitness = unfitness
            self.onFitness()


def _deliveredBy(source: ThreadSource) -> int:
    stream = None if source.stream is None else source.stream()
    return -1 if stream is None else stream.delivered


def _ignore(number: int, began: float) -> None:
    return


def _consumerOf(kw: dict[str, Any]) -> Any:
    consumer = kw.pop("consumer", None)
    if consumer is not None and not IConsumer.providedBy(consumer):
        raise TypeError(f"consumer must provide IConsumer, and {safeRepr(consumer)} does not")
    return consumer


def _delivered(statusResult: tuple[str, Any], consumer: Any) -> Any:
    """
    Return what the caller gets for an outcome.
    """
    status, result = statusResult
    if status == "e":
        return failureOf(result)
    if status == "k":
        return Failure(CancelledError())
    if Deferred in type(result).__mro__:
        arriving: Deferred[Any] = result
        return arriving.addCallbacks(lambda value: _delivered((status, value), consumer), _failedInReactor)
    if status != "i" or not isIterator(result):
        return result
    deferator = result if isinstance(result, Deferator) else Deferator(result)
    if consumer is None:
        return deferator
    try:
        return IterationProducer(deferator, consumer).run()
    except BaseException:
        deferator.stop()
        raise


def _failedInReactor(failure: Failure) -> Failure:
    return failure if failure.check(CancelledError) else failureOf(errorText(exceptionOf(failure), ThreadError))


def _reported(statusResult: tuple[str, Any], consumer: Any) -> Any:
    """
    Return status and result, as the documented API has them.
    """
    status, result = statusResult
    if status in ("t", "e"):
        return status.encode(), result
    arrived = _delivered(statusResult, consumer)
    if Deferred in type(arrived).__mro__:
        return arrived.addCallbacks(_withStatus, _errorWithStatus, (consumer,))
    return arrived if isinstance(arrived, Failure) else _withStatus(arrived, consumer)


def _withStatus(value: Any, consumer: Any) -> tuple[bytes, Any]:
    return (b"i" if isinstance(value, Deferator) or (consumer is not None and value is consumer) else b"r", value)


def _errorWithStatus(failure: Failure) -> Any:
    return failure if failure.check(CancelledError) else (b"e", str(errorText(exceptionOf(failure))))
