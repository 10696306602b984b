"""
Measurements of this library's streams.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from asynqueue import AsyncWorker, TaskQueue, ThreadWorker
from bench.child import Arguments, Measurement, measure
from bench.leavers import leaveAll
from bench.readers import Reader, byAsyncFor, byConsumer, byDeferreds, read, readSlowly
from bench.watches import Sample


def _reactorQueue() -> TaskQueue:
    return TaskQueue(AsyncWorker(), returnFailure=True)


def _threadQueue() -> TaskQueue:
    return TaskQueue(ThreadWorker(), returnFailure=True)


def _inReactor(reader: Reader) -> Measurement:
    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        return await read(reader, _reactorQueue().call, arguments.count, arguments.rounds, process_time)

    return measurement


def _inThread(reader: Reader) -> Measurement:
    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        return await read(reader, _threadQueue().call, arguments.count, arguments.rounds, perf_counter)

    return measurement


def _slowly(makeQueue: Callable[[], TaskQueue]) -> Measurement:
    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        return await readSlowly(reactor, makeQueue().call, arguments.count)

    return measurement


def _left(makeQueue: Callable[[], TaskQueue]) -> Measurement:
    async def measurement(reactor: Any, arguments: Arguments) -> Sample:
        return await leaveAll(reactor, makeQueue(), arguments.count)

    return measurement


if __name__ == "__main__":
    measure(
        {
            "byDeferreds": _inReactor(byDeferreds),
            "byAsyncFor": _inReactor(byAsyncFor),
            "byConsumer": _inReactor(byConsumer),
            "slowly": _slowly(_reactorQueue),
            "left": _left(_reactorQueue),
            "threadByDeferreds": _inThread(byDeferreds),
            "threadByAsyncFor": _inThread(byAsyncFor),
            "threadByConsumer": _inThread(byConsumer),
            "threadSlowly": _slowly(_threadQueue),
            "threadLeft": _left(_threadQueue),
        }
    )
