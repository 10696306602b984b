"""
What the tests of iteration share: generators that are watched, a source that is scripted, and readers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from threading import get_ident
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer, provider
from zope.interface.verify import verifyObject

from asynqueue.interfaces import IStreamConsumer
from asynqueue.iteration.batches import WINDOW, Batch
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.sources import AsyncIteratorSource, IteratorSource
from test.support import Consumer, Outcome

#: How many turns anything may take that comes to an end. A source that shares turns takes one item in each at least.
TURNS = 10_000

#: How many items an endless generator makes before it gives up, so that a test that would hang fails instead.
ENDLESS = 3_000_000


class Numbers:
    """
    Makes generators of numbers, and knows how far they have come.

    @ivar made: How many numbers have been made.
    @ivar closed: How often a generator has run its C{finally}.
    @ivar threads: In which threads.
    """

    def __init__(self, end: int = ENDLESS, error: BaseException | None = None) -> None:
        """
        @param error: What is raised in the end.
        """
        self.made = 0
        self.closed = 0
        self.threads: list[int] = []
        self._end = end
        self._error = error

    def __iter__(self) -> Generator[int, None, None]:
        try:
            for number in range(self._end):
                self.made += 1
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self._close()

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self._end):
                self.made += 1
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self._close()

    def _close(self) -> None:
        self.closed += 1
        self.threads.append(get_ident())


class ScriptedSource:
    """
    A source that gives what the test says, now or later.

    @ivar pulled: How many items each pull was for.
    @ivar closed: How often it has been closed.
    @ivar ready: Batches for the next pulls; without any, the test answers later.
    """

    def __init__(self, *ready: Batch, runsAhead: bool = False, tellsEnd: bool = False) -> None:
        self.runsAhead = runsAhead
        self.tellsEnd = tellsEnd
        self.pulled: list[int] = []
        self.closed = 0
        self.ready = deque(ready)
        self.isEnded = False
        self._pending: Deferred[Batch] | None = None

    @property
    def isPending(self) -> bool:
        """
        Whether a pull waits for its answer.
        """
        return self._pending is not None

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Give the next batch, or a Deferred of it.
        """
        assert self._pending is None, "pulled while a pull was pending"
        assert not self.isEnded, "pulled after the last batch"
        assert not self.closed, "pulled after it was closed"
        assert 0 < most <= WINDOW, f"pulled {most} items"
        self.pulled.append(most)
        if self.ready:
            batch = self.ready.popleft()
            assert len(batch.items) <= most, "the script has more items than are wanted"
            self.isEnded = batch.isLast
            return batch
        self._pending = Deferred()
        return self._pending

    def close(self) -> None:
        """
        Count.
        """
        self.closed += 1

    def answer(self, *items: Any, isLast: bool = False, error: object = None) -> None:
        """
        Answer the pull that is pending.
        """
        pending, self._pending = self._pending, None
        assert pending is not None
        batch = Batch(list(items), isLast, error)
        self.isEnded = batch.isLast
        pending.callback(batch)

    def fail(self, error: BaseException) -> None:
        """
        Fail the pull that is pending.
        """
        pending, self._pending = self._pending, None
        assert pending is not None
        self.isEnded = True
        pending.errback(Failure(error))


class Reading:
    """
    What somebody has read.

    @ivar items: The items.
    @ivar errors: The errors.
    @ivar done: What became of the reader.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.errors: list[BaseException] = []
        self.done: Outcome

    @property
    def kinds(self) -> list[type[BaseException]]:
        """
        The classes of the errors.
        """
        return [type(each) for each in self.errors]


def reading(iterable: Any, most: int | None = None) -> Reading:
    """
    Read C{async for}, and leave that after so many items. The error that it raises, if any, is noted.
    """
    result = Reading()

    async def read(iterable: Any) -> None:
        try:
            async for item in iterable:
                result.items.append(item)
                if len(result.items) == most:
                    break
        except Exception as error:
            result.errors.append(error)

    d = Deferred.fromCoroutine(read(iterable))
    del iterable
    result.done = Outcome(d)
    return result


def yielding(deferator: Any, most: int | None = None) -> Reading:
    """
    Read the documented way, and stop after so many items.
    """
    result = Reading()

    @inlineCallbacks
    def read() -> Generator[Deferred[Any], Any, None]:
        for d in deferator:
            try:
                result.items.append((yield d))
            except Exception as error:
                result.errors.append(error)
            if len(result.items) == most:
                d.stop()

    result.done = Outcome(read())
    return result


class Plain(Consumer):
    """
    A consumer that does as it is told when it is written to.

    @ivar streaming: What the producer said it was.
    @ivar onWrite: Called with each item.
    """

    def __init__(self, onWrite: Callable[[Any], object] | None = None) -> None:
        super().__init__()
        self.streaming: bool | None = None
        self.onWrite = onWrite

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Keep both.
        """
        super().registerProducer(producer, streaming)
        self.streaming = streaming

    def write(self, data: Any) -> None:
        """
        Keep what is written, and do what is to be done.
        """
        super().write(data)
        if self.onWrite is not None:
            self.onWrite(data)


@implementer(IConsumer)
class PlainConsumer(Plain):
    """
    One that knows nothing of errors.
    """


@implementer(IStreamConsumer)
class ToldConsumer(Plain):
    """
    One that is told of errors.

    @ivar failures: What it has been told, and how often it had been unregistered then.
    """

    def __init__(self, onWrite: Callable[[Any], object] | None = None) -> None:
        super().__init__(onWrite)
        self.failures: list[tuple[type[BaseException], int]] = []

    def streamFailed(self, failure: Failure) -> None:
        """
        Take note.
        """
        assert failure.value is not None
        self.failures.append((type(failure.value), self.unregistered))


class IterationTestCase(SynchronousTestCase):
    """
    Tests of iterators on a virtual clock, on which nothing is left in the end.
    """

    def setUp(self) -> None:
        """
        Make the clock.
        """
        super().setUp()
        self.clock = Clock()
        self.addCleanup(self._nothingIsLeft)

    def over(self, iterator: Iterator[Any]) -> Deferator:
        """
        Make a Deferator of an iterator that shares the turns of the clock.
        """
        return Deferator.over(IteratorSource(iterator, clock=self.clock), "numbers")

    def overAsync(self, iterator: AsyncIterator[Any]) -> Deferator:
        """
        Make a Deferator of an asynchronous iterator.
        """
        return Deferator.over(AsyncIteratorSource(iterator, clock=self.clock), "numbers")

    def turn(self) -> None:
        """
        Let everything run that is due now, but nothing that becomes due meanwhile: that is for the next turn.
        """
        calls: list[Any] = list(self.clock.getDelayedCalls())
        for call in sorted(calls, key=lambda each: float(each.getTime())):
            if call.active() and call.getTime() <= self.clock.seconds():
                func, args, kw = call.func, call.args, call.kw
                call.cancel()
                func(*args, **kw)

    def settle(self, outcome: Outcome) -> None:
        """
        Let the clock turn until a Deferred has fired.
        """
        for _ in range(TURNS):
            if outcome.fired:
                break
            self.turn()
        self.assertEqual(outcome.fired, 1, "the Deferred has not fired, or more than once")

    def read(self, iterable: Any, most: int | None = None) -> Reading:
        """
        Read to the end with C{async for}.
        """
        result = reading(iterable, most)
        del iterable
        self.settle(result.done)
        self.assertIsNone(result.done.failure)
        return result

    def yielded(self, deferator: Any, most: int | None = None) -> Reading:
        """
        Read to the end the documented way.
        """
        result = yielding(deferator, most)
        del deferator
        self.settle(result.done)
        self.assertIsNone(result.done.failure)
        return result

    def assertProvides(self, interface: Any, obj: object) -> None:
        """
        An object is what it says.
        """
        self.assertTrue(verifyObject(interface, obj))

    def watchLog(self) -> list[LogEvent]:
        """
        Return a list to which all events of Twisted's log are added during the test.
        """
        events: list[LogEvent] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return events

    def _nothingIsLeft(self) -> None:
        self.turn()
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])
