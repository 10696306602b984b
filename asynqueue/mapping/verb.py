"""
The verb C{map} of queues.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from asynqueue.callinfo import functionName, safeRepr
from asynqueue.deferreds.context import captureContext
from asynqueue.mapping.intake import intakeOf
from asynqueue.mapping.mapper import Mapper
from asynqueue.mapping.pace import Pace
from asynqueue.mapping.results import MapResults
from asynqueue.options import CallOptions, checkedCount

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from asynqueue.callargs import Place
    from asynqueue.taskqueue import TaskQueue

A = TypeVar("A")
R = TypeVar("R")

#: Between how many parcels the workers that are qualified for a series are counted.
RECOUNT = 64


class MapVerb:
    """
    Objects that have the verb.
    """

    __slots__ = ()

    def _mapped(self) -> tuple[TaskQueue, Place, CallOptions]:
        """
        Return the queue, and the place and the options of the calls of a map.
        """
        raise NotImplementedError

    @overload
    def map(
        self,
        func: Callable[[A], Awaitable[R]],
        iterable: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        onError: Literal["raise"] = "raise",
    ) -> MapResults[R]: ...

    @overload
    def map(
        self,
        func: Callable[[A], R],
        iterable: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        onError: Literal["raise"] = "raise",
    ) -> MapResults[R]: ...

    @overload
    def map(
        self,
        func: Callable[[A], Awaitable[R]],
        iterable: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        onError: Literal["yield"],
    ) -> MapResults[R | Failure]: ...

    @overload
    def map(
        self,
        func: Callable[[A], R],
        iterable: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        onError: Literal["yield"],
    ) -> MapResults[R | Failure]: ...

    @overload
    def map(
        self,
        func: str,
        iterable: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        onError: str = "raise",
    ) -> MapResults[Any]: ...

    def map(
        self,
        func: Callable[[Any], Any] | str,
        iterable: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        onError: str = "raise",
    ) -> MapResults[Any]:
        """
        Call C{func(item)} for each item of an iterable, and give the results as they come.

        The items are taken in the reactor, a few at a time, the first ones at once. Those of a function that takes less
        than a millisecond travel to the workers several with one call. A call that is lost with its worker, or times
        out, is run again as any other is, and with it all items that have travelled with it.

        @param func: Its other arguments are for C{functools.partial}.
        @param iterable: Anything to iterate over, asynchronously or not.
        @param ordered: Whether results come in the order of the items, or else as they are completed.
        @param window: How many items may be taken beyond those whose results have been read. C{None}: as many as it
            takes to keep the workers busy, within some memory.
        @param onError: C{"raise"}: the first error ends the map, behind the results before it. C{"yield"}: a C{Failure}
            takes the place of each result that there is none of.
        @return: The results, to be iterated over, awaited or collected. Errors are those of calls, and always arrive as
            failures; L{QueueClosed} or L{QueueShutdown} ends a map whose queue is shut down.
        @raise TypeError: C{func} is not callable, C{iterable} is no iterable, or C{window} no whole number.
        @raise ValueError: C{window} is less than 1, C{onError} is neither, or the options have a consumer.
        """
        if not callable(func) and not isinstance(func, str):
            raise TypeError(f"func must be callable, and {func!r} is not")
        if onError not in ("raise", "yield"):
            raise ValueError(f"onError must be 'raise' or 'yield', not {onError!r}")
        queue, place, options = self._mapped()
        pace = Pace(checkedCount(window, "window"), _limitOf(options))
        if options.consumer is not None:
            raise ValueError("a map cannot have a consumer: iterate over what it returns")
        submission = QueueSubmission(queue, place, options)
        intake = intakeOf(iterable, submission.context, queue.th.dispatcher.clock())
        isBatching = options.idempotent and not isinstance(func, str) and _isPlain(func)
        mapper = Mapper(func, intake, submission, pace, bool(ordered), onError == "raise", isBatching)
        results: MapResults[Any] = MapResults.of(mapper, f"map of {functionName(func)} over {safeRepr(iterable, 200)}")
        submission.begin(mapper)
        return results


class QueueSubmission:
    """
    Makes the calls of one map.

    @ivar context: That of whoever has made the map.
    """

    __slots__ = ("_count", "_dispatcher", "_hires", "_options", "_place", "_queue", "_since", "context")

    def __init__(self, queue: TaskQueue, place: Place, options: CallOptions) -> None:
        self.context = captureContext()
        self._queue = queue
        self._dispatcher = queue.th.dispatcher
        self._place = place
        self._options = options
        self._hires = -1
        self._count = 1
        self._since = 0

    def begin(self, mapper: Mapper) -> None:
        """
        Let a map begin, and know when the queue is shut down.
        """
        self._queue._maps[mapper] = None
        if self._dispatcher.isOpen:
            mapper.start()
        else:
            mapper.queueClosed()

    def submit(self, func: Any, args: tuple[Any, ...]) -> Deferred[Any]:
        """
        Queue a call, with the options and in the context of the map.
        """
        # Hot path, watched by `bench --only map`.
        place = self._place
        return self._queue._submit(func, args, {}, place.series, place.band, self._options, lambda: self.context)

    def seats(self) -> int:
        """
        Return how many workers may run such calls, at least 1.
        """
        hires = self._dispatcher.hires
        self._since += 1
        if len(hires) != self._hires or self._since >= RECOUNT:
            series = self._place.series
            self._hires = len(hires)
            self._since = 0
            self._count = max(1, sum(1 for hire in hires.values() if hire.isQualified(series)))
        return self._count

    def room(self) -> Deferred[None] | None:
        """
        Return C{None} if the queue would accept a call, or else a Deferred that fires when it may.
        """
        if self._queue._maxPending is None or self._dispatcher.backlog.waiting < self._queue._maxPending:
            return None
        return self._queue.ready()

    def over(self, mapper: Mapper) -> None:
        """
        Take note that a map needs the queue no more.
        """
        self._queue._maps.pop(mapper, None)


def _limitOf(options: CallOptions) -> float | None:
    """
    Return the least of the times that a call with these options may take, in seconds.
    """
    limits = [limit for limit in (options.timeout, options.timeLimit, options.softTimeLimit) if limit is not None]
    return min(limits) if limits else None


def _isPlain(func: Any) -> bool:
    """
    Tell whether a function may well return results that are there, rather than promises of some.
    """
    while isinstance(func, partial):
        func = func.func
    called = getattr(func, "__call__", func)  # noqa: B004 - the method is looked at, not whether there is one
    return not any(
        isOne(each)
        for isOne in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
        for each in (func, called)
    )
