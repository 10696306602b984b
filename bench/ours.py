"""
Measurements of this library.
"""

from __future__ import annotations

import threading
from functools import partial
from time import process_time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from asynqueue import AsyncWorker, TaskQueue, ThreadWorker
from bench.child import Arguments, measure
from bench.loops import burst, cancelled, drain, oneAtATime, queuedMemory
from bench.watches import Sample


def _reactorQueue() -> TaskQueue:
    return TaskQueue(AsyncWorker(), returnFailure=True)


def _threadQueue() -> TaskQueue:
    return TaskQueue(ThreadWorker(), returnFailure=True)


async def reactorBurst(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{burst}
    """
    return await burst(_reactorQueue().call, arguments.count, arguments.rounds, clock=process_time)


async def threadBurst(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{burst}
    """
    return await burst(_threadQueue().call, arguments.count, arguments.rounds)


async def reactorLatency(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{oneAtATime}
    """
    return await oneAtATime(_reactorQueue().call, arguments.count)


async def threadLatency(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{oneAtATime}
    """
    return await oneAtATime(_threadQueue().call, arguments.count)


async def threadMemory(reactor: Any, arguments: Arguments) -> Sample:
    """
    Queue calls behind one that blocks the thread.
    """
    queue = _threadQueue()
    released = threading.Event()
    queue.call(released.wait)
    sample = queuedMemory(queue.call, arguments.count)
    released.set()
    return sample


async def _busyQueue(reactor: Any) -> tuple[TaskQueue, Deferred[None]]:
    """
    Make a queue whose worker is busy until a Deferred is fired.
    """
    queue = _reactorQueue()
    gate: Deferred[None] = Deferred()
    queue.call(lambda: gate)
    await deferLater(reactor, 0)
    return queue, gate


async def drained(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{drain}
    """
    queue, gate = await _busyQueue(reactor)
    return await drain(reactor, queue.call, partial(gate.callback, None), arguments.count)


async def cancelledHandled(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{cancelled}
    """
    queue, _ = await _busyQueue(reactor)
    return await cancelled(reactor, queue.call, queue.cancelAll, arguments.count)


async def cancelledUnhandled(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{cancelled}
    """
    queue, _ = await _busyQueue(reactor)
    return await cancelled(reactor, queue.call, queue.cancelAll, arguments.count, areHandled=False)


if __name__ == "__main__":
    measure(
        {
            "burst": reactorBurst,
            "latency": reactorLatency,
            "threadBurst": threadBurst,
            "threadLatency": threadLatency,
            "threadMemory": threadMemory,
            "drain": drained,
            "cancel": cancelledHandled,
            "cancelUnhandled": cancelledUnhandled,
        }
    )
