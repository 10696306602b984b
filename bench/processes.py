"""
Measurements of this library's process workers.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from asynqueue import ProcessQueue
from bench.child import Arguments, Measurement, measure
from bench.loops import WARM_UP, allFired, burst, checkResults, identity, oneAtATime
from bench.readers import Reader, byAsyncFor, byConsumer, byDeferreds, read
from bench.watches import Collector, Sample, TurnProbe
from bench.work import LONG, SPIN, Block, length, same, sleep, spin, zeros

#: How many calls a turn of the reactor queues, so that the turn is short whatever the library does later.
SLICE = 100

#: How long, in seconds, a child is left alone before its memory is looked at.
IDLE = 0.5


async def _queue(arguments: Arguments) -> ProcessQueue:
    """
    Make a queue whose children are ready, and have imported what they need.
    """
    queue = ProcessQueue(arguments.workers, returnFailure=True)
    if len(await queue.d) != arguments.workers:
        raise AssertionError("some children could not be started")
    await allFired([queue.call(identity, number) for number in range(WARM_UP)])
    return queue


async def burstOfCalls(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{burst}
    """
    queue = await _queue(arguments)
    return await burst(queue.call, arguments.count, arguments.rounds)


async def latency(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{oneAtATime}
    """
    queue = await _queue(arguments)
    return await oneAtATime(queue.call, arguments.count)


async def added(reactor: Any, arguments: Arguments) -> Sample:
    """
    Make calls that take some milliseconds each, one at a time.

    @return: C{added}: the median of the seconds by which the caller has waited longer than the function took.
    """
    queue = await _queue(arguments)
    await queue.call(sleep, 0.0)
    times = []
    for _ in range(arguments.rounds):
        start = perf_counter()
        took = await queue.call(sleep, arguments.count / 1000)
        times.append(perf_counter() - start - took)
    return {"added": sorted(times)[len(times) // 2]}


async def spins(reactor: Any, arguments: Arguments) -> Sample:
    """
    Queue calls that keep a core busy, all at once.

    @return: C{total} seconds until the last was settled.
    """
    queue = await _queue(arguments)
    await allFired([queue.call(spin, SPIN) for _ in range(2 * arguments.workers)])
    start = perf_counter()
    await allFired([queue.call(spin, SPIN) for _ in range(arguments.count)])
    return {"total": perf_counter() - start}


def _mixed(where: float) -> Measurement:
    """
    Queue one long call among tiny ones: behind a part of them.
    """

    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        queue = await _queue(arguments)
        await queue.call(spin, 0.0)
        start = perf_counter()
        deferreds: list[Deferred[Any]] = []
        for number in range(arguments.count):
            if number == int(where * arguments.count):
                deferreds.append(queue.call(spin, LONG))
            deferreds.append(queue.call(identity, number))
        await allFired(deferreds)
        return {"total": perf_counter() - start}

    return measurement


def _read(reader: Reader) -> Measurement:
    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        queue = await _queue(arguments)
        return await read(reader, queue.call, arguments.count, arguments.rounds, perf_counter)

    return measurement


async def mapped(reactor: Any, arguments: Arguments) -> Sample:
    """
    Map over numbers, and collect the results.
    """
    queue = await _queue(arguments)
    await queue.map(identity, range(WARM_UP)).collect()
    gc.collect()
    start = perf_counter()
    results = await queue.map(identity, range(arguments.count)).collect()
    elapsed = perf_counter() - start
    if results != list(range(arguments.count)):
        raise AssertionError("some calls had other results")
    return {"perItem": elapsed / arguments.count}


async def blocks(reactor: Any, arguments: Arguments) -> Sample:
    """
    Send a block of bytes there and back, several times.

    @return: C{perMiB}: the seconds for a mebibyte one way, in the median round.
    """
    queue = await _queue(arguments)
    block = Block(bytearray(b"x") * arguments.count)
    times = []
    for _ in range(arguments.rounds + 1):
        began = perf_counter()
        await queue.call(same, block)
        times.append(perf_counter() - began)
    # The first time makes room.
    return {"perMiB": sorted(times[1:])[arguments.rounds // 2] / 2 / arguments.count * (1 << 20)}


# Turns


async def _watched(reactor: Any, run: Callable[[], Awaitable[Any]]) -> Sample:
    """
    Return the longest turn, and what it was without the collector, while something is done.
    """
    collector = Collector()
    collector.clear()
    probe = TurnProbe(reactor, collector)
    await deferLater(reactor, 0)
    await run()
    # What is left over from the last turn counts, too.
    await deferLater(reactor, 0)
    return probe.stop("longest")


async def queuedTurn(reactor: Any, arguments: Arguments) -> Sample:
    """
    Queue many calls, some in each turn of the reactor, and have them run. None is settled before all are queued.
    """
    queue = await _queue(arguments)
    blockers = [queue.call(sleep, LONG * 3) for _ in range(arguments.workers)]
    await deferLater(reactor, 0.05)
    deferreds: list[Deferred[int]] = []

    async def run() -> None:
        for first in range(0, arguments.count, SLICE):
            deferreds.extend([queue.call(identity, number) for number in range(first, first + SLICE)])
            await deferLater(reactor, 0)
        await allFired(blockers)
        await _allFiredSlowly(reactor, deferreds)

    sample = await _watched(reactor, run)
    checkResults(deferreds)
    return sample


async def _allFiredSlowly(reactor: Any, deferreds: Sequence[Deferred[Any]]) -> None:
    """
    Wait until all Deferreds have fired, and look at some of them only in each turn.
    """
    for first in range(0, len(deferreds), SLICE):
        await allFired(deferreds[first : first + SLICE])
        await deferLater(reactor, 0)


async def argumentTurn(reactor: Any, arguments: Arguments) -> Sample:
    """
    Send a long argument.
    """
    queue = await _queue(arguments)
    data = bytes(arguments.count)
    await queue.call(length, b"")

    async def run() -> None:
        if await queue.call(length, data) != arguments.count:
            raise AssertionError("another argument has arrived")

    return await _watched(reactor, run)


async def resultTurn(reactor: Any, arguments: Arguments) -> Sample:
    """
    Get a long result.
    """
    queue = await _queue(arguments)
    await queue.call(zeros, 1)

    async def run() -> None:
        if len(await queue.call(zeros, arguments.count)) != arguments.count:
            raise AssertionError("another result has arrived")

    return await _watched(reactor, run)


async def deathTurn(reactor: Any, arguments: Arguments) -> Sample:
    """
    Kill all children while there are calls, and have the calls run by their successors.
    """
    queue = await _queue(arguments)
    deferreds = [queue.call(identity, number) for number in range(arguments.count)]
    await deferLater(reactor, 0)

    async def run() -> None:
        for worker in queue.workers():
            os.kill(worker.pid, signal.SIGKILL)
        await _allFiredSlowly(reactor, deferreds)

    sample = await _watched(reactor, run)
    checkResults(deferreds)
    return sample


# Starting, and doing nothing


async def start(reactor: Any, arguments: Arguments) -> Sample:
    """
    Make a queue, and wait for the result of its first call. C{abs} makes the child import nothing.

    @return: C{total} seconds, in the median round.
    """
    times = []
    for turn in range(arguments.count + 1):
        began = perf_counter()
        queue = ProcessQueue(1)
        if await queue.call(abs, -1) != 1:
            raise AssertionError("the call had another result")
        if turn:  # the first one of this process imports
            times.append(perf_counter() - began)
        await queue.shutdown()
    return {"total": sorted(times)[len(times) // 2]}


async def memory(reactor: Any, arguments: Arguments) -> Sample:
    """
    Look at the memory of a child that has made some calls and has nothing to do.

    @return: C{private}, that which it shares with no other process, and C{anonymous}, that of it which is in no file.
    """
    queue = ProcessQueue(1)
    await allFired([queue.call(abs, -number) for number in range(arguments.count)])
    await deferLater(reactor, IDLE)
    [worker] = queue.workers()
    rollup = Path(f"/proc/{worker.pid}/smaps_rollup")
    sizes = {}
    for line in rollup.read_text(encoding="ascii").splitlines()[1:]:
        name, kilobytes = line.split()[:2]
        sizes[name] = 1024 * int(kilobytes)
    return {"private": sizes["Private_Clean:"] + sizes["Private_Dirty:"], "anonymous": sizes["Anonymous:"]}


if __name__ == "__main__":
    measure(
        {
            "burst": burstOfCalls,
            "latency": latency,
            "added": added,
            "spins": spins,
            "mixFirst": _mixed(0),
            "mixAmong": _mixed(0.5),
            "byDeferreds": _read(byDeferreds),
            "byAsyncFor": _read(byAsyncFor),
            "byConsumer": _read(byConsumer),
            "map": mapped,
            "blocks": blocks,
            "queuedTurn": queuedTurn,
            "argumentTurn": argumentTurn,
            "resultTurn": resultTurn,
            "deathTurn": deathTurn,
            "start": start,
            "memory": memory,
        }
    )
