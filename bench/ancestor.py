"""
Measurements of AsynQueue 0.9.9, by its documented API.

This file is run as a script, by an interpreter that has AsynQueue 0.9.9 installed. It stands by itself: what it has in
common with L{bench.loops} and L{bench.readers} is written down again here.

A measurement in which calls or items are lost gives C{problem}, which says how many, in the place of figures.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import LoopingCall, deferLater, react
from zope.interface import implementer

from asynqueue import AsyncWorker, TaskQueue, ThreadQueue

EXPECTED = "0.9.9"

WARM_UP = 300

#: How many seconds without any call settled mean that none will be.
PATIENCE = 2.0


class Lost(Exception):
    """
    Some calls will never be settled, or some items never come.
    """


def identity(value: int) -> int:
    """
    Be the trivial function that all calls are of.
    """
    return value


class Collector:
    """
    A watch on CPython's cyclic garbage collector.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds = 0.0
        self._since = 0.0
        gc.callbacks.append(self._watch)

    def _watch(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._since = self.clock()
        else:
            self.seconds += self.clock() - self._since

    def clear(self) -> None:
        """
        Collect what there is, and begin to count anew.
        """
        gc.collect()
        self.seconds = 0.0


def residentBytes() -> int:
    """
    Return how much memory the process has: now on Linux, at most so far elsewhere.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


async def allFired(deferreds: list[Any]) -> None:
    """
    Wait until all Deferreds have fired, or no more of them do.

    @raise Lost: No more of them do.
    """
    waiter: Deferred[None] = Deferred()
    seen = [-1, 0.0]

    def pass_(result: Any) -> Any:
        if not waiter.called:
            waiter.callback(None)
        return result

    def look() -> None:
        number = sum(deferred.called for deferred in deferreds)
        if number != seen[0]:
            seen[:] = [number, perf_counter()]
        elif perf_counter() - seen[1] > PATIENCE and not waiter.called:
            waiter.errback(Lost(f"{number:,} of {len(deferreds):,} settled"))

    looking = LoopingCall(look)
    looking.start(PATIENCE / 4, now=False)
    try:
        for deferred in chain(deferreds[-1:], deferreds):
            if not deferred.called:
                waiter = Deferred()
                deferred.addBoth(pass_)
                await waiter
    finally:
        looking.stop()


def reactorQueue() -> Any:
    """
    Make a queue that runs calls in the reactor.
    """
    return TaskQueue(AsyncWorker(), returnFailure=True)


def threadQueue() -> Any:
    """
    Make a queue that runs calls in a thread.
    """
    return ThreadQueue(returnFailure=True)


async def burst(queue: Any, count: int, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """
    Queue many calls at once, and wait until all are settled.
    """
    collector = Collector(clock)
    await allFired([queue.call(identity, number) for number in range(WARM_UP)])
    numbers = list(range(count))
    deferreds: list[Any] = []
    times = []
    for _ in range(rounds):
        deferreds = [None] * count
        collector.clear()
        start = clock()
        for number in numbers:
            deferreds[number] = queue.call(identity, number)
        await allFired(deferreds)
        times.append((clock() - start, collector.seconds))
        if [deferred.result for deferred in deferreds] != numbers:
            raise AssertionError("some calls had other results")
    elapsed, collected = sorted(times)[(len(times) - 1) // 2]
    return {"perCall": elapsed / count, "perCallNet": (elapsed - collected) / count}


async def latency(queue: Any, count: int) -> dict[str, float]:
    """
    Make many calls, each when the one before it is settled.
    """
    for number in range(WARM_UP):
        await queue.call(identity, number)
    gc.collect()
    times = []
    for number in range(count):
        start = perf_counter()
        if await queue.call(identity, number) != number:
            raise AssertionError(f"call {number} had another result")
        times.append(perf_counter() - start)
    times.sort()
    return {"perCall": times[count // 2], "p99": times[count * 99 // 100]}


async def memory(reactor: Any, count: int) -> dict[str, float]:
    """
    Queue many calls behind one that takes its time.
    """
    queue = reactorQueue()
    queue.call(Deferred)
    await deferLater(reactor, 0)
    numbers = list(range(count))
    deferreds: list[Any] = [None] * count
    gc.collect()
    before = residentBytes()
    for number in numbers:
        deferreds[number] = queue.call(identity, number)
    return {"bytesPerCall": (residentBytes() - before) / count}


async def drain(reactor: Any, count: int) -> dict[str, float]:
    """
    Queue many calls behind one that takes its time, and then have all of them run.
    """
    queue = reactorQueue()
    gate: Deferred[None] = Deferred()
    queue.call(lambda: gate)
    await deferLater(reactor, 0)
    deferreds = [queue.call(identity, number) for number in range(count)]
    start = perf_counter()
    gate.callback(None)
    await allFired(deferreds)
    return {"total": perf_counter() - start}


async def cancel(reactor: Any, count: int) -> dict[str, float]:
    """
    Queue many calls behind one that takes its time, and cancel them all.
    """
    queue = reactorQueue()
    queue.call(Deferred)
    await deferLater(reactor, 0)
    deferreds = [queue.call(identity, number) for number in range(count)]
    start = perf_counter()
    queue.q.cancelAll()
    returned = perf_counter() - start
    try:
        await allFired(deferreds)
    except Lost as lost:
        raise Lost(f"{lost}, returned after {returned:.2f} s") from lost
    return {"total": perf_counter() - start}


def numbers(count: int) -> Iterator[int]:
    """
    Be the trivial generator that all streams come from.
    """
    yield from range(count)


@inlineCallbacks
def byDeferreds(call: Callable[..., Any], count: int) -> Generator[Any, Any, int]:
    """
    Read a stream by the documented protocol.
    """
    number = 0
    deferator: Any = yield call(numbers, count)
    for d in deferator:
        yield d
        number += 1
    return number


@implementer(IConsumer)
class Counter:
    """
    A consumer that counts items.
    """

    def __init__(self) -> None:
        self.number = 0
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Be ready for items.
        """
        self.producer = producer

    def unregisterProducer(self) -> None:
        """
        Let the producer go.
        """
        self.producer = None

    def write(self, data: Any) -> None:
        """
        Take an item.
        """
        self.number += 1


def byConsumer(call: Callable[..., Any], count: int) -> Any:
    """
    Have everything written to a consumer.
    """
    consumer = Counter()
    return call(numbers, count, consumer=consumer).addCallback(lambda _: consumer.number)


async def read(
    reader: Callable[..., Any], queue: Any, count: int, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """
    Read streams to their ends.
    """
    collector = Collector(clock)
    await reader(queue.call, WARM_UP)
    times = []
    for _ in range(rounds):
        collector.clear()
        start = clock()
        number = await reader(queue.call, count)
        times.append(clock() - start)
        if number != count:
            raise Lost(f"{number:,} of {count:,} items came")
    return {"perItem": sorted(times)[(len(times) - 1) // 2] / count}


async def measure(reactor: Any, measurement: str, count: int, rounds: int) -> dict[str, float]:
    """
    Make a measurement.
    """
    measurements: dict[str, Callable[[], Any]] = {
        "burst": lambda: burst(reactorQueue(), count, rounds, process_time),
        "latency": lambda: latency(reactorQueue(), count),
        "threadBurst": lambda: burst(threadQueue(), count, rounds, perf_counter),
        "threadLatency": lambda: latency(threadQueue(), count),
        "memory": lambda: memory(reactor, count),
        "drain": lambda: drain(reactor, count),
        "cancel": lambda: cancel(reactor, count),
        "byDeferreds": lambda: read(byDeferreds, reactorQueue(), count, rounds, process_time),
        "byConsumer": lambda: read(byConsumer, reactorQueue(), count, rounds, process_time),
        "threadByDeferreds": lambda: read(byDeferreds, threadQueue(), count, rounds, perf_counter),
        "threadByConsumer": lambda: read(byConsumer, threadQueue(), count, rounds, perf_counter),
    }
    sample: dict[str, float] = await measurements[measurement]()
    return sample


async def main(reactor: Any) -> None:
    """
    Make the measurement that the command line asks for: its name, the number of calls, and C{--rounds} with a number.
    """
    measurement, count, _, rounds = sys.argv[1:]
    sample: dict[str, Any]
    try:
        sample = await measure(reactor, measurement, int(count), int(rounds))
    except Lost as lost:
        sample = {"problem": str(lost)}
    print(json.dumps(sample), flush=True)
    # Its threads would keep the process, and a shutdown does not end while calls are lost.
    os._exit(0)


if __name__ == "__main__":
    if version("asynqueue") != EXPECTED:
        sys.exit(f"asynqueue {version('asynqueue')} is installed where {EXPECTED} should be")
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
