"""
How calls are typed: checked by C{make lint}, never run.
"""

from __future__ import annotations

from typing import assert_type

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from asynqueue import AsyncWorker, TaskQueue, ThreadWorker
from asynqueue.mapping.results import MapResults


def plain(number: int, name: str = "") -> float:
    """
    Return a value.
    """
    return number / len(name)


def single(number: int) -> float:
    """
    Return a value, given one.
    """
    return number / 2


def deferring(number: int) -> Deferred[str]:
    """
    Return a Deferred.
    """
    return succeed(str(number))


async def awaiting(number: int) -> bytes:
    """
    Be a coroutine function.
    """
    return bytes(number)


async def sample() -> None:
    """
    Call each kind of function by each verb.
    """
    async with TaskQueue(AsyncWorker(), ThreadWorker(), returnFailure=True) as queue:
        assert_type(queue, TaskQueue)
        assert_type(queue.call(plain, 1, niceness=5), Deferred[float])
        assert_type(queue.call(deferring, 1), Deferred[str])
        assert_type(queue.call(awaiting, 1), Deferred[bytes])
        urgent = queue.options(niceness=-5)
        assert_type(urgent.call(plain, 1, name="x"), Deferred[float])
        assert_type(urgent.call(deferring, 1), Deferred[str])
        assert_type(urgent.call(awaiting, 1), Deferred[bytes])
        assert_type(await queue.call(plain, 1), float)
        urgent.call(plain, "no number")  # type: ignore[call-overload]
        assert_type(queue.map(single, range(3)), MapResults[float])
        assert_type(await queue.map(single, range(3)), list[float])
        assert_type(queue.map(deferring, range(3), ordered=False).collect(), Deferred[list[str]])
        assert_type(await urgent.map(awaiting, range(3), window=5), list[bytes])
        async for number in urgent.map(single, range(3)):
            assert_type(number, float)
        assert_type(await urgent.map(single, range(3), onError="yield"), list[float | Failure])
        queue.map(single, ["no number"])  # type: ignore[arg-type]
