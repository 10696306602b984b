"""
The task queue: the public face of the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from attrs import evolve
from twisted.internet.defer import Deferred, fail

from asynqueue.backpressure import BackPressure
from asynqueue.callargs import Place, optionsOf
from asynqueue.calls import CallDeferred
from asynqueue.closing import Phase
from asynqueue.collector import STEP, Collector
from asynqueue.deferreds.context import captureContext
from asynqueue.errorpolicy import ErrorPolicy
from asynqueue.errors import QueueClosed, QueueFull, WorkerLost
from asynqueue.explanations import explain, outstanding, statistics
from asynqueue.handler import TaskHandler, globalClock
from asynqueue.itemqueue import CallQueue, Queue
from asynqueue.mapping.verb import MapVerb
from asynqueue.optioned import OptionedQueue
from asynqueue.options import DEFAULT_OPTIONS, RESERVED, CallOptions, checkedCount, checkedSeries, checkedTimeout
from asynqueue.staff import Update
from asynqueue.statistics import OutstandingCall, Statistics
from asynqueue.tasks import Attempt, Task, TaskFactory, checkedCall

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
    from twisted.python.failure import Failure

    from asynqueue.deferreds.context import Captured
    from asynqueue.mapping.mapper import Mapper

__all__ = ["TaskQueue"]

T = TypeVar("T")

#: The options of the calls of a map that has been given none.
MAPPED = CallOptions(returnFailure=True)


class TaskQueue(MapVerb):
    """
    Takes calls, orders them by niceness and series, and has them run by the workers that are attached to it.

    Every Deferred that L{call} returns fires exactly once, and can be cancelled. After L{shutdown}, which a program
    must call, nothing is left of the queue.

    @ivar timeout: Seconds until workers that have been told to stop are crashed, or C{None}.
    @ivar th: The handler, which the queue is built on.
    @ivar q: The calls that wait or run, as a L{Queue<asynqueue.itemqueue.Queue>}.
    @ivar taskFactory: Makes tasks that stand for themselves.
    """

    def __init__(
        self,
        *workers: Any,
        timeout: float | None = None,
        warn: bool = False,
        verbose: bool = False,
        spew: bool = False,
        returnFailure: bool = False,
        maxPending: int | None = None,
        reactor: IReactorTime | None = None,
        monotonic: Callable[[], float] | None = None,
        ids: Iterator[int] | None = None,
        freezeEvery: int | None = STEP,
    ) -> None:
        """
        @param workers: Workers to attach, providers of L{asynqueue.interfaces.IWorker}.
        @param timeout: Seconds until workers that have been told to stop are crashed; C{None}: they are waited for.
        @param warn: Log errors of calls, to the logger C{asynqueue} of C{logging}, instead of stopping the reactor.
        @param verbose: Say which call it was in what is logged.
        @param spew: Log every call and its result. Implies C{verbose}.
        @param returnFailure: Errors of calls arrive as failures, at the errbacks, and are the caller's to handle.
        @param maxPending: How many calls may wait; those beyond errback L{QueueFull}. C{None}: any number.
        @param reactor: The source of timers; the global reactor unless given.
        @param monotonic: A clock in seconds that never steps; by default the one that belongs to C{reactor}.
        @param ids: The source of the IDs of calls, which must grow.
        @param freezeEvery: By how many calls the backlog grows until C{gc.freeze()} takes them out of the sight of
            CPython's cyclic garbage collector, which else stops everything for longer and longer; undone when the
            backlog is gone. C{None}: never.
        @raise TypeError: A keyword is unknown, or of the wrong type.
        @raise ValueError: A number is out of its range.
        @raise ImplementationError: A worker is none.
        @see: L{asynqueue.collector} for what freezing does, and what it costs.
        """
        checkedCount(maxPending, "maxPending")
        checkedCount(freezeEvery, "freezeEvery")
        self.timeout = checkedTimeout(timeout)
        self.taskFactory = TaskFactory()
        clock = globalClock if reactor is None else lambda: reactor
        self._policy = ErrorPolicy(clock, warn=warn, verbose=verbose, spew=spew, returnFailure=returnFailure)
        self.th = TaskHandler(clock, self._policy, monotonic, ids)
        self.th.dispatcher.ledger.collector = Collector(freezeEvery)
        self.q: Queue = CallQueue(self.th, self.timeout)
        self._dispatcher = self.th.dispatcher
        self._staff = self.th.staff
        self._closing = self.th.closing
        self._nextID = self.th.nextID
        self._pressure = BackPressure(self._dispatcher, maxPending)
        self._maxPending = maxPending
        self._spews = spew
        self._maps: dict[Mapper, None] = {}
        for worker in workers:
            self.attachWorker(worker).addErrback(self._notAttached, worker)

    def _notAttached(self, failure: Failure, worker: Any) -> None:
        # One that has been let go of before it could start is no news.
        if not failure.check(WorkerLost):
            self._dispatcher.log.failure("{worker!r} could not be attached", failure, worker=worker)

    # State

    def __len__(self) -> int:
        """
        Return the number of workers that are attached.
        """
        return len(self._dispatcher.hires)

    def __bool__(self) -> bool:
        """
        Tell whether the queue runs and has a worker.
        """
        return self.isRunning() and len(self) > 0

    def __repr__(self) -> str:
        return (
            f"<TaskQueue, {self._closing.phase.value}: {len(self)} workers, "
            f"{len(self._dispatcher.ledger.entries)} calls not settled>"
        )

    def isRunning(self) -> bool:
        """
        Tell whether the queue takes calls, as it does until L{shutdown}.
        """
        return self._closing.phase is Phase.OPEN

    def shutdown(self, drain: bool = True, deadline: float | None = None) -> Deferred[list[Task]]:
        """
        Take no more calls, and let go of the workers when all calls are settled.

        May be called again, also to be stricter: each Deferred fires when all is done. Without C{deadline} and the
        queue's C{timeout}, calls that are running are waited for without bound.

        @param drain: Run what is queued and what an attached worker can run; the rest errbacks L{QueueShutdown} at
            once. If false, all that is queued does.
        @param deadline: Seconds until workers are crashed, and all that is left errbacks; C{None}: the queue's
            C{timeout}.
        @return: Fires with the list of the tasks that workers left unfinished, when the workers are gone.
        """
        deadline = checkedTimeout(deadline, "deadline")
        done = self._closing.shutdown(drain, self.timeout if deadline is None else deadline)
        for mapper in tuple(self._maps):
            mapper.queueClosed()
        return done

    async def __aenter__(self) -> TaskQueue:
        """
        Return the queue itself.
        """
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """
        Shut the queue down, and wait for that. What is queued is run, unless an exception ends the block.
        """
        await self.shutdown(drain=error is None)

    # Workers

    def attachWorker(self, worker: Any) -> Deferred[int]:
        """
        Attach a worker. It runs the updates first; if one fails, the worker is not attached.

        @return: Fires with the worker's ID, which is 1 or greater and never used again. Errbacks with the failure of an
            update, or with L{QueueClosed} on a queue that is shut down.
        @raise ImplementationError: It provides no L{asynqueue.interfaces.IWorker}.
        @raise InvariantError: Its C{cQualified} or C{iQualified} is no list.
        @raise ValueError: It is attached already.
        """
        return self.th.hire(worker)

    def detachWorker(self, workerOrID: Any, reassign: bool = False, crash: bool = False) -> Deferred[list[Task]]:
        """
        Detach a worker, when it is done with what it is running, or after the queue's C{timeout} in any case.

        @param workerOrID: The worker or its ID.
        @param reassign: Give what the worker leaves unfinished to others, by the rules for lost calls. Otherwise the
            Deferreds of those calls errback L{WorkerLost}. What it has not started is given to others in any case.
        @param crash: At once, whatever it is running.
        @return: Fires with the list of tasks that the worker left unfinished, empty if they have been reassigned, or if
            no such worker is attached.
        """
        return self.th.terminate(workerOrID, timeout=self.timeout, crash=crash, reassign=reassign)

    def qualifyWorker(self, worker: Any, series: Hashable) -> None:
        """
        Qualify an attached worker for a series, from now on.

        @param worker: The worker or its ID.
        @raise TypeError: The series is not hashable.
        @raise ValueError: No such worker is attached.
        """
        checkedSeries(series)
        hire = self._staff.find(worker)
        if hire is None:
            raise ValueError(f"{worker!r} cannot be qualified for series {series!r}: it is not attached to this queue")
        hire.qualify(series)
        self._staff.requalify(hire)

    def workers(self, ID: int | None = None) -> Any:
        """
        Return the attached worker with an ID, or C{None}; or a list of all attached workers if no ID is given.
        """
        if ID is None:
            return self.th.roster()
        hire = self._dispatcher.hires.get(ID)
        return None if hire is None else hire.worker

    # Calls

    @overload
    def call(self, func: Callable[..., Awaitable[T]], *args: Any, **kw: Any) -> Deferred[T]: ...

    @overload
    def call(self, func: Callable[..., T], *args: Any, **kw: Any) -> Deferred[T]: ...

    @overload
    def call(self, func: str, *args: Any, **kw: Any) -> Deferred[Any]: ...

    def call(self, func: Callable[..., Any] | str, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Queue a call of C{func(*args, **kw)}.

        The following keywords are the queue's, and the function does not see them. To pass a function one of the same
        name, use L{options}.

        @keyword niceness: From -20 to 20, 0 by default. Calls of a series at niceness M{n + 10} are started half as
            often as those at M{n}, while both wait.
        @keyword series: A hashable object. Calls of one series and niceness are started in the order in which they were
            queued, by workers that are qualified for the series; any worker is for C{None}.
        @keyword doNext: Go before all calls that are not so marked, which go in the order in which they were queued.
        @keyword doLast: Go after all calls that are not so marked, likewise.
        @keyword timeout: Seconds from when a worker takes the call until it is run again, once, ahead of others; after
            as many again it errbacks L{asynqueue.errors.TimeoutError}.
        @keyword consumer: An C{IConsumer} that gets the iterations if the result is an iterator.
        @keyword returnFailure: Whether an error arrives as a failure, instead of as the queue has it.
        @keyword raw: Whether an iterator is to be returned as it is.
        @return: Fires with the result of the call. Errbacks with L{QueueFull} or L{QueueClosed} if the call is not
            accepted.
        @raise ValueError: C{niceness} is none, or both C{doNext} and C{doLast} are given.
        @raise TypeError: C{series} is not hashable, or another keyword is of the wrong type.
        """
        # Hot path, watched by `bench --only reactor`.
        if kw and not RESERVED.isdisjoint(kw):
            place, options = optionsOf(kw)
            series, band = place.series, place.band
        else:
            series, band, options = None, 0, DEFAULT_OPTIONS
        return self._submit(func, args, kw, series, band, options)

    def _submit(
        self,
        func: Any,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        series: Hashable,
        band: int,
        options: CallOptions,
        capture: Callable[[], Captured | None] = captureContext,
    ) -> Deferred[Any]:
        # Hot path, watched by `bench --only reactor`. A text is the name of a remote function, for a wire worker.
        if not callable(func) and not isinstance(func, str):
            raise TypeError(f"func must be callable, and {func!r} is not")
        dispatcher = self._dispatcher
        if not dispatcher.isOpen:
            dispatcher.ledger.refused += 1
            return fail(QueueClosed("the call was not queued: the queue is shut down"))
        if self._maxPending is not None and dispatcher.backlog.waiting >= self._maxPending:
            dispatcher.ledger.refused += 1
            return fail(QueueFull(f"the call was not queued: {self._maxPending} calls wait already"))
        entry: CallDeferred[Any] = CallDeferred(
            dispatcher, self._nextID(), func, args, kw or None, series, band, options, capture()
        )
        if self._spews:
            self._policy.watch(entry)
        dispatcher.submit(entry)
        if self._maxPending is not None:
            self._pressure.grown()
        return entry

    def _mapped(self) -> tuple[TaskQueue, Place, CallOptions]:
        return self, Place(), MAPPED

    def newTask(self, func: Callable[..., Any], args: Any, kw: dict[str, Any]) -> Task:
        """
        Make a task from a call, without queueing it. The queue's keywords are taken out of C{kw}.

        @raise QueueClosed: The queue is shut down.
        @raise TypeError: C{args} is no list or tuple, or C{kw} no dictionary; see L{call} for the rest.
        """
        if not self._dispatcher.isOpen:
            raise QueueClosed("no task can be made: the queue is shut down")
        func, args, _ = checkedCall(func, args, kw)
        place, options = optionsOf(kw)
        entry: CallDeferred[Any] = CallDeferred(
            self._dispatcher, self._nextID(), func, args, kw, place.series, place.band, options, captureContext()
        )
        task = Attempt(entry, None)
        entry.current = task
        return task

    def update(self, func: Callable[..., Any] | str, *args: Any, **kw: Any) -> Deferred[list[Any]]:
        """
        Have every attached worker run a call, ahead of what is queued, and every worker that is attached later.

        @keyword ephemeral: Only those that are attached now.
        @keyword sequential: One worker after the other.
        @keyword series: Only the workers that are qualified for the series.
        @keyword timeout: Seconds from when a worker takes the call.
        @keyword raw: Whether an iterator is to be returned as it is.
        @return: Fires with the list of the results of the workers attached now; a C{Failure} stands where the call
            failed. Those of workers attached later can't be had; a worker for which the call fails is not attached.
        @raise ValueError: A C{consumer} is given, which an update cannot have.
        """
        ephemeral, sequential = bool(kw.pop("ephemeral", False)), bool(kw.pop("sequential", False))
        if kw.get("consumer") is not None:
            raise ValueError("an update cannot have a consumer")
        place, options = optionsOf(kw)
        return self._update(func, args, kw, place, options, ephemeral, sequential)

    def _update(
        self,
        func: Any,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        place: Place,
        options: CallOptions,
        ephemeral: bool,
        sequential: bool,
    ) -> Deferred[list[Any]]:
        if not self._dispatcher.isOpen:
            return fail(QueueClosed("the update was not made: the queue is shut down"))
        options = evolve(options, returnFailure=True, alone=True, lasting=not ephemeral)
        context = captureContext()

        def makeEntry() -> CallDeferred[Any]:
            return CallDeferred(
                self._dispatcher, self._nextID(), func, args, kw, place.series, place.band, options, context
            )

        return self._staff.update(Update(makeEntry, place.series), ephemeral, sequential)

    def options(self, **options: Any) -> OptionedQueue:
        """
        Return an object with the verbs C{call}, C{map} and C{update} of this queue, whose calls have the given options.

        Its verbs leave the function all of its keywords. Errors of its calls always arrive as failures.

        @keyword ephemeral: See L{update}; of no effect on C{call}.
        @keyword sequential: Likewise.
        @keyword priority: From 0 (first) to 9 (last), instead of C{niceness}: mapped linearly onto -20 … 20.
        @keyword idempotent: C{False} for a call that must not be run again once it may have been started: it errbacks
            L{WorkerLost} or L{asynqueue.errors.TimeoutError} where others are run again.
        @keyword timeLimit: Seconds that the call may run: after that it is ended, with its child process if it has one,
            and errbacks L{asynqueue.errors.TimeLimitExceeded}. It is not run again.
        @keyword softTimeLimit: Seconds that the call may run until L{asynqueue.errors.SoftTimeLimitExceeded} is raised
            in it, in a child process; elsewhere as C{timeLimit}.
        @raise TypeError: An option is unknown, or of the wrong type.
        @raise ValueError: An option has no proper value, or contradicts another.
        @see: L{call} for C{niceness}, C{series}, C{doNext}, C{doLast}, C{timeout}, C{consumer} and C{raw}.
        """
        if "returnFailure" in options:
            raise TypeError("options() takes no returnFailure: errors of its calls always arrive as failures")
        given = dict(options)
        ephemeral, sequential = bool(given.pop("ephemeral", False)), bool(given.pop("sequential", False))
        place, callOptions = optionsOf(given, explicit=True)
        if given:
            raise TypeError(f"options() does not know {', '.join(sorted(given))}")
        return OptionedQueue(self, place, evolve(callOptions, returnFailure=True), ephemeral, sequential)

    def taskDone(self, statusResult: tuple[Any, Any], task: Task, **kw: Any) -> Any:
        """
        Return what the Deferred of a task is to get for an outcome. The queue does this by itself.

        @param statusResult: The status letter, as bytes or text, and the result.
        @keyword rf: Whether an error becomes a failure.
        @keyword consumer: What receives the iterations of the result.
        @keyword ID: The ID of the call, for messages.
        @return: The value, a C{Failure}, or a Deferred. A call that is to be run again is queued, and the Deferred of
            that is returned; the second time it is a failure.
        @raise TypeError: Another keyword is given.
        """
        options = evolve(
            task.options,
            returnFailure=kw.pop("rf", task.options.returnFailure),
            consumer=kw.pop("consumer", task.options.consumer),
        )
        kw.pop("ID", None)
        if kw:
            raise TypeError(f"taskDone() does not know {', '.join(sorted(kw))}")
        return self._policy.taskDone(self._dispatcher, self._nextID, statusResult, task, options)

    # Control

    def cancelAll(self) -> int:
        """
        Cancel all calls that wait. They are removed at once; their Deferreds errback C{CancelledError} over the next
        turns of the reactor.

        @return: How many there were.
        """
        return self.q.cancelAll()

    def cancelSeries(self, series: Hashable) -> int:
        """
        Cancel the calls of a series that wait, as L{cancelAll} does.

        @return: How many there were.
        @raise TypeError: The series is not hashable.
        """
        return self.q.cancelSeries(checkedSeries(series))

    def ready(self) -> Deferred[None]:
        """
        Wait until a call would be accepted.

        @return: Fires when fewer than C{maxPending} calls wait, mostly at once. Errbacks L{QueueClosed} when the queue
            is shut down.
        """
        return self._pressure.ready()

    def registerProducer(self, producer: IPushProducer, streaming: bool = True) -> None:
        """
        Let a push producer of calls be paused when C{maxPending} calls wait, and resumed when half as many do.

        @raise RuntimeError: There is one already.
        @raise ValueError: The producer is no push producer, or the queue has no C{maxPending}.
        """
        self._pressure.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        Let go of the producer.
        """
        self._pressure.unregisterProducer()

    def subscribe(self, consumer: IConsumer) -> None:
        """
        Write the number of calls that are queued or running to a consumer, as an C{int}, each time that it changes.

        @raise ImplementationError: It does not provide C{IConsumer}.
        """
        self.q.subscribe(consumer)

    # Views

    def outstanding(self) -> list[OutstandingCall]:
        """
        Return the calls that are not settled, in the order in which they were queued.
        """
        return outstanding(self._dispatcher)

    def statistics(self) -> Statistics:
        """
        Return the counts of calls, and how workers and lanes stand.
        """
        return statistics(self._dispatcher)

    def explain(self, taskID: int) -> str:
        """
        Tell where a call stands, and what it waits for.

        @param taskID: Its ID: C{outstanding()[…].ID}, or C{currentCall().ID} inside of the call.
        """
        return explain(self._dispatcher, taskID)
