"""
Measurements of peers that can be installed beside this library: deferToThreadPool and ThreadPoolExecutor.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from bench.child import Arguments, measure
from bench.loops import WARM_UP, Call, burst, identity, latency, middle, oneAtATime, perCall, queuedMemory
from bench.watches import Collector, Sample


def _pool(threads: int) -> ThreadPool:
    # More than one: as the reactor's own pool is, which starts threads as it needs them.
    pool = ThreadPool(minthreads=1 if threads == 1 else 0, maxthreads=threads)
    pool.start()
    return pool


def _deferring(reactor: Any, threads: int) -> Call:
    pool = _pool(threads)

    def call(func: Callable[[int], int], number: int) -> Deferred[int]:
        return deferToThreadPool(reactor, pool, func, number)

    return call


async def poolBurst(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{burst}
    """
    return await burst(_deferring(reactor, arguments.threads), arguments.count, arguments.rounds)


async def poolLatency(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{oneAtATime}
    """
    return await oneAtATime(_deferring(reactor, arguments.threads), arguments.count)


async def poolMemory(reactor: Any, arguments: Arguments) -> Sample:
    """
    Queue calls behind one that blocks the thread.
    """
    pool = _pool(arguments.threads)
    released = threading.Event()
    pool.callInThread(released.wait)
    sample = queuedMemory(lambda func, number: deferToThreadPool(reactor, pool, func, number), arguments.count)
    released.set()
    return sample


async def executorBurst(reactor: Any, arguments: Arguments) -> Sample:
    """
    Submit many calls at once, and wait until all have their results. The reactor has no part in it, and stands still.
    """
    collector = Collector()
    executor = ThreadPoolExecutor(arguments.threads)
    for number in range(WARM_UP):
        executor.submit(identity, number)
    executor.submit(identity, 0).result()
    futures: list[Future[int]] = []
    samples = []
    for _ in range(arguments.rounds):
        futures = []
        collector.clear()
        start = perf_counter()
        futures = [executor.submit(identity, number) for number in range(arguments.count)]
        # One thread takes them in their order.
        futures[-1].result()
        samples.append(perCall(arguments.count, perf_counter() - start, collector.seconds))
        if [future.result(0) for future in futures] != list(range(arguments.count)):
            raise AssertionError("some calls had other results")
    return middle(samples)


async def executorLatency(reactor: Any, arguments: Arguments) -> Sample:
    """
    Make many calls, each when the one before it is done. The reactor has no part in it, and stands still.
    """
    executor = ThreadPoolExecutor(arguments.threads)
    for number in range(WARM_UP):
        executor.submit(identity, number).result()
    gc.collect()
    times = []
    for number in range(arguments.count):
        start = perf_counter()
        if executor.submit(identity, number).result() != number:
            raise AssertionError(f"call {number} had another result")
        times.append(perf_counter() - start)
    return latency(times)


async def executorMemory(reactor: Any, arguments: Arguments) -> Sample:
    """
    Queue calls behind one that blocks the thread.
    """
    executor = ThreadPoolExecutor(arguments.threads)
    released = threading.Event()
    executor.submit(released.wait)
    sample = queuedMemory(executor.submit, arguments.count)
    released.set()
    return sample


if __name__ == "__main__":
    measure(
        {
            "poolBurst": poolBurst,
            "poolLatency": poolLatency,
            "poolMemory": poolMemory,
            "executorBurst": executorBurst,
            "executorLatency": executorLatency,
            "executorMemory": executorMemory,
        }
    )
