"""
The floor: the least code that does what a queue of calls does, without being one.

That is one object for the call, one push onto a heap and one pop off it, and one Deferred made and fired. The loop of
L{burst} is written out, so that not even the call of a function is counted for submitting. Of a stream, it is the bare
generator, with a fired Deferred for each item if need be, and a thread that hands over batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from functools import partial
from heapq import heappop, heappush
from itertools import islice
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed

from bench.child import Arguments, measure
from bench.loops import WARM_UP, cancelled, checkResults, drain, identity, middle, oneAtATime, perCall
from bench.readers import Call, numbers, read
from bench.watches import Collector, Sample, residentBytes

#: How long, in seconds, to work on a backlog before the reactor gets a turn: as long as the library does.
TURN = 0.02

#: How many items a thread hands over at a time: as many as the library lets a generator be ahead.
BATCH = 16


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


def bareLoop(call: Call, count: int) -> Deferred[int]:
    """
    Iterate over the generator, and over nothing else.
    """
    number = 0
    for _ in numbers(count):
        number += 1
    return succeed(number)


@inlineCallbacks
def bareDeferreds(call: Call, count: int) -> Generator[Deferred[Any], Any, int]:
    """
    Wait for a Deferred for each item, which has fired already.
    """
    number = 0
    for item in numbers(count):
        yield succeed(item)
        number += 1
    return number


class BareThread:
    """
    A thread that hands items over in batches, and makes the next one when the last has been taken.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._taken = threading.Lock()
        self._taken.acquire()
        self._number = 0
        self._done: Deferred[int] = Deferred()

    def run(self, count: int) -> Deferred[int]:
        """
        Have a generator stepped.

        @return: Fires with the number of items.
        """
        threading.Thread(target=self._loop, args=(count,), daemon=True).start()
        return self._done

    def _loop(self, count: int) -> None:
        items = numbers(count)
        while batch := list(islice(items, BATCH)):
            self._reactor.callFromThread(self._take, batch)
            self._taken.acquire()
        self._reactor.callFromThread(self._ended)

    def _take(self, batch: list[int]) -> None:
        # As the library does: the thread goes on while the batch is being read.
        self._taken.release()
        for _ in batch:
            self._number += 1

    def _ended(self) -> None:
        self._done.callback(self._number)


async def readBare(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{read}
    """
    return await read(bareLoop, _noCall, arguments.count, arguments.rounds, process_time)


async def readDeferreds(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{read}
    """
    return await read(bareDeferreds, _noCall, arguments.count, arguments.rounds, process_time)


async def readFromThread(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{read}
    """
    return await read(
        lambda _, count: BareThread(reactor).run(count), _noCall, arguments.count, arguments.rounds, perf_counter
    )


def _noCall(*args: Any, **kw: Any) -> Deferred[Any]:
    raise AssertionError("there is no queue")


if __name__ == "__main__":
    measure(
        {
            "burst": burst,
            "latency": callLater,
            "drain": drained,
            "cancel": cancelledHandled,
            "cancelUnhandled": cancelledUnhandled,
            "read": readBare,
            "readDeferreds": readDeferreds,
            "readFromThread": readFromThread,
        }
    )
