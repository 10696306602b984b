"""
The floor: the least code that does what a queue of calls does, without being one.

That is one object for the call, one push onto a heap and one pop off it, and one Deferred made and fired. The loop of
L{burst} is written out, so that not even the call of a function is counted for submitting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from bench.child import Arguments, measure
from bench.loops import WARM_UP, cancelled, checkResults, drain, identity, middle, oneAtATime, perCall
from bench.watches import Collector, Sample, residentBytes

#: How long, in seconds, to work on a backlog before the reactor gets a turn: as long as the library does.
TURN = 0.02


class BareCall:
    """
    A call and its Deferred. It has no C{__init__}, whose call would cost as much as the rest of it.
    """

    __slots__ = ("args", "deferred", "func")

    func: Callable[..., Any]
    args: tuple[Any, ...]
    deferred: Deferred[Any]


Heap = list[tuple[int, int, BareCall]]


async def burst(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{bench.loops.burst}
    """
    collector = Collector(process_time)
    _round(WARM_UP, collector)
    rounds = [_round(arguments.count, collector) for _ in range(arguments.rounds)]
    return {**middle(rounds), "bytesPerCall": rounds[0]["bytesPerCall"]}


def _round(count: int, collector: Collector) -> Sample:
    numbers = list(range(count))
    deferreds: list[Any] = [None] * count
    heap: Heap = []
    collector.clear()
    before = residentBytes()
    start = process_time()
    for number in numbers:
        call = BareCall()
        call.func = identity
        call.args = (number,)
        call.deferred = deferreds[number] = Deferred()
        heappush(heap, (0, number, call))
    grown = residentBytes() - before
    while heap:
        call = heappop(heap)[2]
        call.deferred.callback(call.func(*call.args))
    sample = perCall(count, process_time() - start, collector.seconds)
    checkResults(deferreds)
    return {**sample, "bytesPerCall": grown / count}


async def callLater(reactor: Any, arguments: Arguments) -> Sample:
    """
    Make one call in each turn of the reactor.
    """

    def call(func: Callable[[int], int], number: int) -> Deferred[int]:
        deferred: Deferred[int] = Deferred()
        reactor.callLater(0, lambda: deferred.callback(func(number)))
        return deferred

    return await oneAtATime(call, arguments.count)


class BareBacklog:
    """
    Calls in a heap, worked off in the turns of a reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._heap: Heap = []
        self._number = 0

    def call(self, func: Callable[[int], int], number: int) -> Deferred[int]:
        """
        Add a call.
        """
        call = BareCall()
        call.func = func
        call.args = (number,)
        deferred: Deferred[int] = Deferred()
        call.deferred = deferred
        self._number += 1
        heappush(self._heap, (0, self._number, call))
        return deferred

    def workOff(self, settle: Callable[[BareCall], object]) -> None:
        """
        Settle all calls.
        """
        heap = self._heap
        until = perf_counter() + TURN
        while heap:
            settle(heappop(heap)[2])
            if perf_counter() > until:
                self._reactor.callLater(0, self.workOff, settle)
                return


def _run(call: BareCall) -> None:
    call.deferred.callback(call.func(*call.args))


def _cancel(call: BareCall) -> None:
    call.deferred.errback(CancelledError())


async def drained(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{drain}
    """
    backlog = BareBacklog(reactor)
    return await drain(reactor, backlog.call, partial(backlog.workOff, _run), arguments.count)


async def cancelledHandled(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{cancelled}
    """
    backlog = BareBacklog(reactor)
    return await cancelled(reactor, backlog.call, partial(backlog.workOff, _cancel), arguments.count)


async def cancelledUnhandled(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{cancelled}
    """
    backlog = BareBacklog(reactor)
    return await cancelled(reactor, backlog.call, partial(backlog.workOff, _cancel), arguments.count, areHandled=False)


if __name__ == "__main__":
    measure(
        {
            "burst": burst,
            "latency": callLater,
            "drain": drained,
            "cancel": cancelledHandled,
            "cancelUnhandled": cancelledUnhandled,
        }
    )
