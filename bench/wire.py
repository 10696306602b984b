"""
Measurements of calls at a wire server, which is a process of its own on this host.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import TaskQueue
from asynqueue.wire import ServerManager, WireServer, WireWorker
from bench.child import Arguments, measure
from bench.loops import WARM_UP, allFired, burst, oneAtATime
from bench.readers import byAsyncFor, byConsumer, byDeferreds, read
from bench.watches import Sample
from bench.wireuniverse import Universe
from bench.work import SPIN, spin

_isRoot = os.geteuid() == 0


async def _queue() -> TaskQueue:
    """
    Make a queue with a worker that is connected to a server, over a unix socket.
    """
    manager = ServerManager("bench.wireuniverse.Universe", insecure_root=_isRoot)
    description = manager.newSocket()
    await manager.spawn(description)
    queue = TaskQueue(returnFailure=True)
    await queue.attachWorker(WireWorker(Universe(), description))
    return queue


def _named(queue: TaskQueue) -> Callable[..., Deferred[Any]]:
    """
    Return a function that calls by the name of what it is given.
    """
    call = queue.call
    return lambda func, *args, **kw: call(func.__name__, *args, **kw)


async def burstOfCalls(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{burst}
    """
    queue = await _queue()
    call = queue.call
    await allFired([call("identity", number) for number in range(WARM_UP)])
    return await burst(lambda func, number: call("identity", number), arguments.count, arguments.rounds)


async def latency(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{oneAtATime}
    """
    call = (await _queue()).call
    return await oneAtATime(lambda func, number: call("identity", number), arguments.count)


async def tlsBurst(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{burst}; by mutual TLS over loopback.
    """
    from bench.tlsserver import tlsQueue

    call = (await tlsQueue(reactor)).call
    await allFired([call("identity", number) for number in range(WARM_UP)])
    return await burst(lambda func, number: call("identity", number), arguments.count, arguments.rounds)


def _reading(reader: Any) -> Any:
    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        return await read(reader, _named(await _queue()), arguments.count, arguments.rounds, perf_counter)

    return measurement


async def echo(reactor: Any, arguments: Arguments) -> Sample:
    """
    Send a block of bytes there and back, several times.

    @return: C{perMiB}, the seconds of a MiB, either way, in the median round.
    """
    call = (await _queue()).call
    data = os.urandom(arguments.count)
    if await call("echo", data) != data:
        raise AssertionError("what came back is something else")
    times = []
    for _ in range(arguments.rounds):
        began = perf_counter()
        await call("echo", data)
        times.append(perf_counter() - began)
    return {"perMiB": sorted(times)[arguments.rounds // 2] / 2 / len(data) * (1 << 20)}


async def spins(reactor: Any, arguments: Arguments) -> Sample:
    """
    Fill a node that has two child processes with calls of 10 ms.
    """
    folder = ServerManager()
    description = folder.newSocket()
    server = WireServer(description, processes=2, insecure_root=_isRoot)
    await server.start()
    queue = TaskQueue(returnFailure=True)
    await queue.attachWorker(WireWorker(None, description))
    await allFired([queue.call(spin, 0.001) for _ in range(20)])
    start = perf_counter()
    await allFired([queue.call(spin, SPIN) for _ in range(arguments.count)])
    return {"total": perf_counter() - start}


if __name__ == "__main__":
    measure(
        {
            "burst": burstOfCalls,
            "latency": latency,
            "tlsBurst": tlsBurst,
            "byDeferreds": _reading(byDeferreds),
            "byAsyncFor": _reading(byAsyncFor),
            "byConsumer": _reading(byConsumer),
            "echo": echo,
            "spins": spins,
        }
    )
