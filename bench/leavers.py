"""
The ways to leave a stream before its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from itertools import cycle, islice
from random import Random
from time import perf_counter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import deferLater

from bench.readers import Call, Counter
from bench.watches import Sample

#: How many items are read, at most, before a stream is left.
FURTHEST = 200

#: How many streams are open at a time.
AT_A_TIME = 50

#: How many seconds the generators have to come to their ends, after the last of them has been left.
PATIENCE = 10.0


class Generators:
    """
    Makes endless generators.

    @ivar begun: How many have been begun.
    @ivar closed: How many of them have run their C{finally}.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.closed = 0

    def endless(self) -> Iterator[int]:
        """
        Count for ever.
        """
        self.begun += 1
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.closed += 1


@inlineCallbacks
def _byStop(call: Call, generators: Generators, point: int) -> Generator[Deferred[Any], Any, None]:
    deferator: Any = yield call(generators.endless)
    for d in deferator:
        item = yield d
        if item == point:
            d.stop()


@inlineCallbacks
def _byDropping(call: Call, generators: Generators, point: int) -> Generator[Deferred[Any], Any, None]:
    deferator: Any = yield call(generators.endless)
    for number, d in enumerate(deferator):
        yield d
        if number == point:
            break


async def _break(call: Call, generators: Generators, point: int) -> None:
    async for item in await call(generators.endless):
        if item == point:
            break


def _byBreak(call: Call, generators: Generators, point: int) -> Deferred[None]:
    return Deferred.fromCoroutine(_break(call, generators, point))


class _Leaver(Counter):
    """
    A consumer that has had enough at some point.
    """

    def __init__(self, point: int) -> None:
        super().__init__()
        self._point = point
        self.leave: Callable[[], object] = self._stop

    def write(self, data: Any) -> None:
        """
        Take an item.
        """
        super().write(data)
        if data == self._point:
            self.leave()

    def _stop(self) -> None:
        self.producer.stopProducing()


def _byConsumer(call: Call, generators: Generators, point: int) -> Deferred[Any]:
    return call(generators.endless, consumer=_Leaver(point)).addErrback(lambda failure: failure.trap(CancelledError))


def _byCancelling(call: Call, generators: Generators, point: int) -> Deferred[Any]:
    consumer = _Leaver(point)
    called = call(generators.endless, consumer=consumer)
    consumer.leave = called.cancel
    return called.addErrback(lambda failure: failure.trap(CancelledError))


WAYS: tuple[Callable[[Call, Generators, int], Deferred[Any]], ...] = (
    _byStop,
    _byDropping,
    _byBreak,
    _byConsumer,
    _byCancelling,
)


async def leaveAll(reactor: Any, queue: Any, count: int) -> Sample:
    """
    Begin many streams, leave each at some point, in one of several ways, and shut the queue down.

    @return: How many generators have been C{closed}, how many more C{threads} there are than at first, and how many
        seconds it has taken in C{total}.
    """
    threads = threading.active_count()
    generators = Generators()
    random = Random(0)
    ways = islice(cycle(WAYS), count)
    start = perf_counter()
    while some := list(islice(ways, AT_A_TIME)):
        await gatherResults([way(queue.call, generators, random.randrange(1, FURTHEST)) for way in some])
    left = perf_counter()
    while generators.closed < count and perf_counter() - left < PATIENCE:
        await deferLater(reactor, 0.001)
    total = perf_counter() - start
    closed = generators.closed
    await queue.shutdown(drain=False, deadline=PATIENCE)
    if generators.begun != count:
        raise AssertionError(f"{generators.begun:,} of {count:,} generators have been begun")
    return {"closed": closed, "threads": threading.active_count() - threads, "total": total}
