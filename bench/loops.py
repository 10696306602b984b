"""
The loops over calls, the same for all that is measured.

Whatever is measured comes as a function that makes a call and returns its Deferred.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from bench.watches import Collector, Sample, TurnProbe, residentBytes

#: How many calls come before those that are measured.
WARM_UP = 300

#: How many calls a turn of the reactor queues, where a backlog is built up over many turns.
SLICE = 1_000

Call = Callable[[Callable[[int], int], int], Deferred[int]]


def identity(value: int) -> int:
    """
    Be the trivial function that all calls are of.
    """
    return value


# Figures


def perCall(count: int, elapsed: float, collected: float) -> Sample:
    """
    Return the time of a call, with and without the collector's.
    """
    return {"perCall": elapsed / count, "perCallNet": (elapsed - collected) / count}


def middle(rounds: Iterable[Sample]) -> Sample:
    """
    Return the round whose C{perCall} is the median.
    """
    ordered = sorted(rounds, key=lambda sample: sample["perCall"])
    return ordered[(len(ordered) - 1) // 2]


def latency(times: list[float]) -> Sample:
    """
    Return the median of the times of calls, C{perCall}, and what one in a hundred exceeds, C{p99}.
    """
    times.sort()
    return {"perCall": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


# Ends


async def fired(deferred: Deferred[Any]) -> None:
    """
    Wait until a Deferred has fired, and leave it what it has fired with.
    """
    if deferred.called:
        return
    waiter: Deferred[None] = Deferred()

    def passOn(result: Any) -> Any:
        waiter.callback(None)
        return result

    deferred.addBoth(passOn)
    await waiter


async def allFired(deferreds: Sequence[Deferred[Any]]) -> None:
    """
    Wait until all Deferreds have fired, nearly without callbacks, which would be measured too.
    """
    for deferred in chain(deferreds[-1:], deferreds):
        if not deferred.called:
            await fired(deferred)


def checkResults(deferreds: Iterable[Deferred[Any]]) -> None:
    """
    Make sure that the Deferred of each C{identity(number)} has fired with C{number}.
    """
    for number, deferred in enumerate(deferreds):
        if not deferred.called or deferred.result != number:
            raise AssertionError(f"call {number} led to {deferred!r}")


class CountCancelled:
    """
    An errback that handles cancellations, and counts them.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, failure: Failure) -> None:
        """
        Take the failure of a call.
        """
        # trap() would take longer than everything else.
        if isinstance(failure.value, CancelledError):
            self.number += 1


# Loops


async def burst(call: Call, count: int, rounds: int, clock: Callable[[], float] = perf_counter) -> Sample:
    """
    Queue many calls at once, and wait until all are settled.

    @param clock: What the time is taken by. Where everything happens in one thread that never waits, the time of the
        process says the same as that on the wall, and leaves out what other processes took from it.
    @return: C{perCall} and C{perCallNet}, of the median round; C{bytesPerCall}, of the first one: by how much the
        memory had grown when all had been queued.
    """
    collector = Collector(clock)
    await allFired([call(identity, number) for number in range(WARM_UP)])
    numbers = list(range(count))
    deferreds: list[Any] = []
    grown: list[int] = []
    samples: list[Sample] = []
    for _ in range(rounds):
        deferreds = [None] * count
        collector.clear()
        before = residentBytes()
        start = clock()
        for number in numbers:
            deferreds[number] = call(identity, number)
        grown.append(residentBytes() - before)
        await allFired(deferreds)
        samples.append(perCall(count, clock() - start, collector.seconds))
        checkResults(deferreds)
    return {**middle(samples), "bytesPerCall": grown[0] / count}


async def oneAtATime(call: Call, count: int) -> Sample:
    """
    Make many calls, each when the one before it is settled.

    @see: L{latency} for what is returned.
    """
    for number in range(WARM_UP):
        await call(identity, number)
    gc.collect()
    times = []
    for number in range(count):
        start = perf_counter()
        if await call(identity, number) != number:
            raise AssertionError(f"call {number} had another result")
        times.append(perf_counter() - start)
    return latency(times)


def queuedMemory(call: Callable[[Callable[[int], int], int], object], count: int) -> Sample:
    """
    Queue many calls where all have to wait.

    @return: C{bytesPerCall}: by how much the memory has grown.
    """
    numbers = list(range(count))
    results: list[Any] = [None] * count
    gc.collect()
    before = residentBytes()
    for number in numbers:
        results[number] = call(identity, number)
    return {"bytesPerCall": (residentBytes() - before) / count}


async def drain(reactor: Any, call: Call, release: Callable[[], object], count: int) -> Sample:
    """
    Queue many calls where all have to wait, some in each turn of the reactor, and then have all of them run.

    @param release: Lets them run, in their order.
    @return: C{total} seconds until the last was settled, once they ran; the longest turns while queueing, C{queueTurn},
        and while dispatching and settling, C{drainTurn}.
    """
    collector = Collector()
    collector.clear()
    probe = TurnProbe(reactor, collector)
    deferreds = await _queueInSlices(reactor, call, count)
    sample = probe.stop("queue")
    probe = TurnProbe(reactor, collector)
    await deferLater(reactor, 0)
    start = perf_counter()
    release()
    await fired(deferreds[-1])
    sample["total"] = perf_counter() - start
    sample |= probe.stop("drain")
    checkResults(deferreds)
    return sample


async def cancelled(
    reactor: Any, call: Call, cancel: Callable[[], object], count: int, areHandled: bool = True
) -> Sample:
    """
    Queue many calls where all have to wait, and cancel them all.

    @param cancel: Cancels them, in their order.
    @param areHandled: Whether each Deferred has an errback, as it should have. Without, each keeps its failure.
    @return: C{total} seconds of the processor until the last was told, C{totalNet} without the collector's, and the
        longest turn until then, C{cancelTurn}.
    """
    handle = CountCancelled()
    collector, collectorOnWall = Collector(process_time), Collector()
    deferreds = await _queueInSlices(reactor, call, count)
    if areHandled:
        for deferred in deferreds:
            deferred.addErrback(handle)
    collector.clear()
    probe = TurnProbe(reactor, collectorOnWall)
    await deferLater(reactor, 0)
    start = process_time()
    cancel()
    await fired(deferreds[-1])
    elapsed = process_time() - start
    sample = {"total": elapsed, "totalNet": elapsed - collector.seconds, **probe.stop("cancel")}
    # The last one is calling back at this moment.
    await deferLater(reactor, 0)
    if not areHandled:
        gc.disable()  # Nothing is measured any more, and this is to take no time.
        for deferred in deferreds:
            deferred.addErrback(handle)
    if handle.number != count:
        raise AssertionError(f"{handle.number:,} of {count:,} calls were cancelled")
    return sample


async def _queueInSlices(reactor: Any, call: Call, count: int) -> list[Deferred[int]]:
    """
    Queue many calls, some in each turn of the reactor.
    """
    deferreds: list[Deferred[int]] = []
    for first in range(0, count, SLICE):
        deferreds.extend([call(identity, number) for number in range(first, min(first + SLICE, count))])
        await deferLater(reactor, 0)
    return deferreds
