"""
What the tests of streams share: generators that tell what becomes of them, consumers, and cases that run on the worker
in the reactor as well as on the one in a thread.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from itertools import count
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from asynqueue import AsyncWorker, TaskQueue, ThreadWorker
from asynqueue.testing.tasks import identity
from test.support import Consumer, Outcome
from test.test_threads import LIMIT, ThreadTestCase

reactor: Any = globalReactor

#: How many items a stream may be ahead of its reader.
WINDOW = 16

#: How many items a generator without an end makes before it takes the test for one that hangs.
ENDLESS = 100_000

#: Seconds until the thread of a call that nobody waits for is written off, in these tests.
GRACE = 0.05


class Numbers:
    """
    Makes generators of the numbers from 0 on, and notes what becomes of them.

    @ivar begun: How many generators have been begun.
    @ivar closed: How many have come to their C{finally}.
    @ivar made: How many items have been made.
    @ivar threads: The threads in which that was.
    @ivar before: Called with each number before it is made an item.
    @ivar last: Called in each C{finally}.
    """

    def __init__(self, stop: int | None = None, error: BaseException | None = None) -> None:
        """
        @param stop: How many items there are; C{None}: they do not end.
        @param error: Is raised behind them.
        """
        self.begun = self.closed = self.made = 0
        self.threads: set[threading.Thread] = set()
        self.before: Callable[[int], object] = int
        self.last: Callable[[], object] = int
        self.item: Callable[[int], Any] = identity
        self._stop = stop
        self._error = error

    @property
    def numbers(self) -> Iterator[int]:
        """
        The numbers themselves.
        """
        return count() if self._stop is None else iter(range(self._stop))

    def __call__(self) -> Iterator[Any]:
        """
        Make a generator.
        """
        self.begun += 1
        try:
            for number in self.numbers:
                self.threads.add(threading.current_thread())
                self.before(number)
                self.made += 1
                yield self.item(number)
                if self._stop is None and number > ENDLESS:
                    raise AssertionError("the generator goes on and on")
            if self._error is not None:
                raise self._error
        finally:
            self._end()

    def _end(self) -> None:
        self.threads.add(threading.current_thread())
        self.closed += 1
        self.last()

    def begin(self) -> Iterator[Any]:
        """
        Make a generator that has been begun, so that its C{finally} runs when it is closed.
        """
        generator = self()
        next(generator)
        return generator


class AsyncNumbers(Numbers):
    """
    Makes asynchronous generators, which wait for what C{before} returns, if that can be awaited.
    """

    async def __call__(self) -> AsyncIterator[Any]:  # type: ignore[override]
        """
        Make an asynchronous generator.
        """
        self.begun += 1
        try:
            for number in self.numbers:
                self.threads.add(threading.current_thread())
                waited = self.before(number)
                if isinstance(waited, Awaitable):
                    await waited
                self.made += 1
                yield self.item(number)
                if self._stop is None and number > ENDLESS:
                    raise AssertionError("the generator goes on and on")
            if self._error is not None:
                raise self._error
        finally:
            self._end()


@implementer(IConsumer)
class Taker(Consumer):
    """
    A consumer, in C{written}, that lets the test do something with each item.

    @ivar onWrite: Called with each item after that has been noted.
    @ivar pauseAt: The item at which it pauses the producer.
    @ivar registered: How often a producer has been registered, and whether it was a streaming one.
    """

    def __init__(self, onWrite: Callable[[Any], object] = id, pauseAt: int | None = None) -> None:
        super().__init__()
        self.onWrite = onWrite
        self.pauseAt = pauseAt
        self.registered: list[bool] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Keep the producer.
        """
        super().registerProducer(producer, streaming)
        self.registered.append(streaming)

    def write(self, data: Any) -> None:
        """
        Keep what is written.
        """
        super().write(data)
        if data == self.pauseAt:
            self.producer.pauseProducing()
        self.onWrite(data)


@implementer(IConsumer)
class Counter(Consumer):
    """
    A consumer that keeps nothing but the number of its items, and their order.
    """

    def __init__(self, onWrite: Callable[[int], object] = id) -> None:
        super().__init__()
        self.number = 0
        self.onWrite = onWrite

    def write(self, data: Any) -> None:
        """
        Count.
        """
        if data != self.number:
            raise AssertionError(f"item {self.number} is {data!r}")
        self.number += 1
        self.onWrite(data)


class TurningClock(Clock):
    """
    A virtual clock that leaves to the next turn what is scheduled in this one, as a reactor does, so that what goes on
    for ever leaves turns to others.
    """

    def advance(self, amount: float) -> None:
        """
        Let time pass, and make the calls that are due, as far as they have been scheduled before.
        """
        self.rightNow += amount
        for call in sorted(self.calls, key=lambda each: each.getTime()):
            if call.active() and call.getTime() <= self.seconds():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


Rule = Callable[[Any], Any]


def rule(test: Rule) -> Rule:
    """
    Make a test of a coroutine function that holds for each kind of worker.
    """

    @wraps(test)
    def run(self: Any) -> Any:
        return self.conduct(test)

    return run


class StreamCase:
    """
    Tests of a queue on a virtual clock, with one worker of some kind.

    @ivar home: The thread in which the worker runs what is not asynchronous.
    @ivar isInCallback: Whether what a test does to a stream is done in the callback of another call of the same queue.
    @ivar grave: How many seconds of the clock bring everything to its end that could be waited for.
    """

    isInCallback = False
    clock: Clock
    queue: TaskQueue
    home: threading.Thread

    # Of trial's cases
    assertEqual: Callable[..., None]
    assertIn: Callable[..., None]
    assertRaises: Callable[..., Any]
    assertNotIsInstance: Callable[..., None]
    assertIs: Callable[..., None]
    assertIsInstance: Callable[..., None]
    assertLessEqual: Callable[..., None]
    fail: Callable[..., Any]
    flushLoggedErrors: Callable[..., list[Any]]

    def makeWorker(self, **keywords: Any) -> Any:
        """
        Make a worker of the kind that is tested.
        """
        raise NotImplementedError

    async def turn(self) -> None:
        """
        Let everything run that is due now.
        """
        raise NotImplementedError

    def prepare(self, **keywords: Any) -> None:
        """
        Make the clock, the worker and the queue.
        """
        self.clock = TurningClock()
        self.sources: list[Numbers] = []
        self.worker = self.makeWorker()
        self.queue = self.makeStreamQueue(self.worker)

    def makeStreamQueue(self, *workers: Any, **keywords: Any) -> TaskQueue:
        """
        Make a queue on the virtual clock, that delivers failures unless told otherwise.
        """
        return TaskQueue(*workers, **{"reactor": self.clock, "returnFailure": True, **keywords})

    def numbers(self, stop: int | None = None, error: BaseException | None = None) -> Numbers:
        """
        Make a maker of generators, all of which must have been closed, in the worker's thread, at the end of the test.
        """
        source = Numbers(stop, error)
        self.sources.append(source)
        return source

    def asyncNumbers(self, stop: int | None = None, error: BaseException | None = None) -> AsyncNumbers:
        """
        Make a maker of asynchronous generators, all of which must have been closed at the end of the test.
        """
        source = AsyncNumbers(stop, error)
        self.sources.append(source)
        return source

    async def conducted(self, test: Rule) -> None:
        """
        Conduct a test, and verify that nothing is left.
        """
        self.home = await self.bounded(self.queue.call(threading.current_thread))
        await test(self)
        await self.verify(self.queue)

    async def verify(self, queue: TaskQueue) -> None:
        """
        The queue works, and can be shut down at once. Then, nothing is left of it, and all generators are closed.
        """
        # What only the collector finds, and cancelled timers of the reactor, are no streams that are read.
        gc.collect()
        if queue.isRunning() and len(queue):
            self.assertEqual(await self.bounded(queue.call(identity, "probe")), "probe")
        await self.bounded(queue.shutdown())
        self.assertEqual(queue.outstanding(), [])
        counts = queue.statistics()
        self.assertEqual((counts.queued, counts.running), (0, 0))
        self.assertEqual(counts.succeeded + counts.failed + counts.cancelled, counts.submitted)
        self.assertEqual(len(queue.th.dispatcher.streams), 0)
        for source in self.sources:
            if source.begun:
                await self.closed(source)
            where = threading.main_thread() if isinstance(source, AsyncNumbers) else self.home
            self.assertLessEqual(source.threads, {where})
        await self.turn()
        self.assertEqual([str(each) for each in self.clock.getDelayedCalls()], [])
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    async def enter(self) -> None:
        """
        Go on at the bottom of the stack, or in the callback of a call.
        """
        await self.turn()
        if self.isInCallback:
            await self.queue.call(int)

    async def passes(self, seconds: float, steps: int = 20) -> None:
        """
        Let time pass on the virtual clock.
        """
        for _ in range(steps):
            await self.turn()
            self.clock.advance(seconds / steps)
        await self.turn()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """
        Wait for something that needs no virtual time.
        """
        limit = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > limit:
                self.fail(f"in {LIMIT:g} s it has not come to this: {what}")
            await self.turn()

    async def closed(self, numbers: Numbers) -> None:
        """
        Wait until all generators of a maker are closed, of which there is at least one.
        """
        await self.until(lambda: numbers.closed == numbers.begun > 0, "the generator is closed")

    async def made(self, numbers: Numbers, number: int) -> None:
        """
        Wait until a generator has been begun, and has made so many items.
        """
        await self.until(lambda: numbers.begun and numbers.made >= number, f"{number} items have been made")

    async def settled(self, d: Deferred[Any]) -> None:
        """
        Wait until a Deferred has fired, without looking at its result.
        """
        await self.until(lambda: d.called, "the Deferred has fired")

    async def filled(self, container: list[Any]) -> None:
        """
        Wait until there is something in a list.
        """
        await self.until(lambda: container, "there is something")

    async def written(self, taker: Taker, number: int) -> None:
        """
        Wait until a consumer has so many items, at which it has paused the producer.
        """
        await self.until(lambda: len(taker.written) == number, f"{number} items have been written")

    async def fired(self, outcome: Outcome) -> Outcome:
        """
        Wait until a Deferred that needs no virtual time has fired.
        """
        await self.until(lambda: outcome.fired, "the Deferred has fired")
        return outcome

    async def bounded(self, d: Deferred[Any], seconds: float = LIMIT) -> Any:
        """
        Wait for a Deferred that must fire by itself, and return its value.
        """
        outcome = Outcome(d)
        limit = time.monotonic() + seconds
        while not outcome.fired:
            if time.monotonic() > limit:
                self.fail(f"the Deferred has not fired in {seconds:g} s")
            await self.turn()
        if outcome.failure is not None:
            outcome.failure.raiseException()
        return outcome.value

    async def raised(self, d: Deferred[Any], *kinds: type[BaseException]) -> Any:
        """
        Wait for a Deferred that must fail, with an error of all these kinds, and return that.
        """
        outcome = await self.fired(Outcome(d))
        for kind in kinds:
            self.assertIsInstance(outcome.error, kind)
        return outcome.error

    async def read(self, deferator: Any, most: int | None = None) -> list[Any]:
        """
        Read a stream to its end, or so many items. An error that it ends with is the last of the list.
        """
        items: list[Any] = []
        if most != 0:
            try:
                async for item in deferator:
                    items.append(item)
                    if len(items) == most:
                        break
            except Exception as error:  # the test looks at it
                items.append(error)
        return items


class AsyncStreamCase(StreamCase, SynchronousTestCase):
    """
    Tests of streams from the worker in the reactor, on a virtual clock.
    """

    def setUp(self) -> None:
        """
        Make the worker and its queue.
        """
        super().setUp()
        self._turns: list[Deferred[None]] = []
        self.prepare()

    def makeWorker(self, **keywords: Any) -> AsyncWorker:
        """
        Make a worker on the virtual clock.
        """
        return AsyncWorker(reactor=self.clock, **keywords)

    async def turn(self) -> None:
        """
        Let everything run that is due now.
        """
        turn: Deferred[None] = Deferred()
        self._turns.append(turn)
        await turn

    def conduct(self, test: Rule) -> None:
        """
        Conduct a test, turn by turn.
        """
        done = Outcome(Deferred.fromCoroutine(self.conducted(test)))
        limit = time.monotonic() + 2 * LIMIT
        while not done.fired:
            if time.monotonic() > limit:
                self.fail("the test waits for something that does not come without time passing")
            turns, self._turns = self._turns, []
            for turn in turns:
                turn.callback(None)
            self.clock.advance(0)
        if done.failure is not None:
            done.failure.raiseException()


class ThreadStreamCase(StreamCase, ThreadTestCase):
    """
    Tests of streams from a worker with a thread of its own. Only the queue's time is virtual.
    """

    def setUp(self) -> None:
        """
        Make the worker and its queue.
        """
        super().setUp()
        self.prepare()
        self.addCleanup(self._crash)

    def _crash(self) -> None:
        for worker in self.queue.workers():
            worker.crash()

    def makeWorker(self, **keywords: Any) -> ThreadWorker:
        """
        Make a worker, which is crashed at the end of the test, if it is still there.
        """
        return ThreadTestCase.makeWorker(self, **{"grace": GRACE, **keywords})

    async def turn(self) -> None:
        """
        Let everything run that is due now, and threads go on.
        """
        await deferLater(reactor, 0.001)
        self.clock.advance(0)

    def conduct(self, test: Rule) -> Deferred[None]:
        """
        Conduct a test on the reactor, turn by turn of the queue's clock.
        """
        return Deferred.fromCoroutine(self._conducted(test))

    async def _conducted(self, test: Rule) -> None:
        conducted = Deferred.fromCoroutine(self.conducted(test))
        done = Outcome(conducted)
        limit = time.monotonic() + 4 * LIMIT
        while not done.fired and time.monotonic() < limit:
            # What the test waits for may need turns.
            await self.turn()
        if not done.fired:
            conducted.cancel()
            self.fail("the test waits for something that does not come without time passing")
        if done.failure is not None:
            done.failure.raiseException()
