"""
The loops over streams: ways to read one to its end.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from random import Random
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from bench.watches import Collector, Sample, residentBytes

#: How many items come before those that are measured.
WARM_UP = 300

#: How many items at most a slow consumer takes at a time.
GULP = 15

#: After how many items the memory is looked at.
LOOK_EVERY = 1_000

Call = Callable[..., Deferred[Any]]

#: Reads the stream of C{numbers(count)} to its end, and returns how many items there were.
Reader = Callable[[Call, int], Deferred[int]]


def numbers(count: int) -> Iterator[int]:
    """
    Be the trivial generator that all streams come from.
    """
    yield from range(count)


@inlineCallbacks
def byDeferreds(call: Call, count: int) -> Generator[Deferred[Any], Any, int]:
    """
    Read by the documented protocol of 0.9.9.
    """
    number = 0
    deferator: Any = yield call(numbers, count)
    for d in deferator:
        yield d
        number += 1
    return number


async def _iterated(call: Call, count: int) -> int:
    number = 0
    async for _ in await call(numbers, count):
        number += 1
    return number


def byAsyncFor(call: Call, count: int) -> Deferred[int]:
    """
    Read in a coroutine.
    """
    return Deferred.fromCoroutine(_iterated(call, count))


@implementer(IConsumer)
class Counter:
    """
    A consumer that counts items.

    @ivar number: How many there have been.
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


def byConsumer(call: Call, count: int) -> Deferred[int]:
    """
    Have everything written to a consumer.
    """
    consumer = Counter()
    return call(numbers, count, consumer=consumer).addCallback(lambda _: consumer.number)


async def read(reader: Reader, call: Call, count: int, rounds: int, clock: Callable[[], float]) -> Sample:
    """
    Read streams to their ends.

    @param clock: What the time is taken by.
    @return: C{perItem} seconds, in the median round, from the call on.
    """
    collector = Collector(clock)
    await reader(call, WARM_UP)
    times = []
    for _ in range(rounds):
        collector.clear()
        start = clock()
        number = await reader(call, count)
        times.append(clock() - start)
        if number != count:
            raise AssertionError(f"{number:,} of {count:,} items came")
    return {"perItem": sorted(times)[(len(times) - 1) // 2] / count}


class SlowConsumer(Counter):
    """
    A consumer that takes some items, and then no more before the reactor's next turn.

    @ivar made: How many items the generator has made.
    @ivar lead: By how many it has been ahead of those taken, at most.
    @ivar most: How much memory the process has had, at most, in bytes.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.made = 0
        self.lead = 0
        self.most = residentBytes()
        self._reactor = reactor
        self._random = Random(0)
        self._left = GULP

    def numbers(self, count: int) -> Iterator[int]:
        """
        Make items, wherever that may be, and count them.
        """
        for number in range(count):
            self.made += 1
            yield number

    def write(self, data: Any) -> None:
        """
        Take an item, which must be the next one.
        """
        if data != self.number:
            raise AssertionError(f"item {data} came in the place of {self.number}")
        self.number += 1
        self._look()
        self._left -= 1
        if not self._left:
            self.producer.pauseProducing()
            self._reactor.callLater(0, self._goOn)
        if not self.number % LOOK_EVERY:
            self.most = max(self.most, residentBytes())

    def _look(self) -> None:
        self.lead = max(self.lead, self.made - self.number)

    def _goOn(self) -> None:
        self._look()
        self._left = self._random.randint(1, GULP)
        if self.producer is not None:
            self.producer.resumeProducing()


async def readSlowly(reactor: Any, call: Call, count: int) -> Sample:
    """
    Have everything written to a consumer that pauses all the time.

    @return: By how many bytes the memory has C{grown} at most, C{lead} items of the generator, and C{perItem} seconds.
    """
    warmUp = SlowConsumer(reactor)
    await call(warmUp.numbers, max(WARM_UP, count // 100), consumer=warmUp)
    gc.collect()
    consumer = SlowConsumer(reactor)
    before = consumer.most
    start = perf_counter()
    await call(consumer.numbers, count, consumer=consumer)
    elapsed = perf_counter() - start
    if consumer.number != count:
        raise AssertionError(f"{consumer.number:,} of {count:,} items came")
    return {"grown": consumer.most - before, "lead": consumer.lead, "perItem": elapsed / count}
