"""
Tests of C{map}: the runner of batches, their pace, the map on a virtual clock, and on real threads and children.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker, Deferator, TaskQueue, ThreadWorker, currentCall
from asynqueue.errors import (
    EncodeError,
    NotReadyError,
    PoisonTask,
    ProcessError,
    QueueClosed,
    QueueRunError,
    QueueShutdown,
    ResultDecodeError,
    ResultEncodeError,
    ThreadError,
    TimeLimitExceeded,
    TimeoutError,
    WorkerError,
)
from asynqueue.iteration.sources import sourceOf
from asynqueue.mapping.batch import BatchOutcome, MappedCall
from asynqueue.mapping.pace import CEILING, FIRST, MOST, Pace
from asynqueue.testing import MemoryWorker
from asynqueue.testing.tasks import identity, timesTwo
from test.mapped import Unpicklable, Ununpicklable, inverse, isBad, killAt, unpicklableAt
from test.processes import LIMIT, ProcessTestCase
from test.streaming import TurningClock
from test.support import Outcome, QueueTestCase
from test.test_threads import ThreadTestCase

variable: ContextVar[str] = ContextVar("variable", default="nothing")

#: More seconds than any batch of these tests takes.
LONG = 60.0


class Items:
    """
    Makes a generator of numbers, and tells what becomes of it.

    @ivar taken: How many numbers it has given.
    @ivar closed: How often it has come to its C{finally}.
    """

    def __init__(self, stop: int, error: BaseException | None = None) -> None:
        self.taken = self.closed = 0
        self._stop = stop
        self._error = error

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self._stop):
                self.taken += 1
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self.closed += 1


class AsyncItems(Items):
    """
    Makes an asynchronous generator of numbers, which waits for what C{before} returns.
    """

    before: Callable[[int], Any] = staticmethod(succeed)

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self._stop):
                await self.before(number)
                self.taken += 1
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self.closed += 1


class BatchTests(SynchronousTestCase):
    """
    What runs where the worker is.
    """

    def run_(self, func: Callable[[Any], Any], *items: Any, span: float = LONG) -> BatchOutcome:
        """
        Run a batch.
        """
        outcome = MappedCall(func, span)(*items)
        assert isinstance(outcome, BatchOutcome)
        return outcome

    def travel(self, outcome: BatchOutcome) -> BatchOutcome:
        """
        Pickle and unpickle an outcome.
        """
        travelled = pickle.loads(pickle.dumps(outcome, 5))
        assert isinstance(travelled, BatchOutcome)
        return travelled

    def test_results(self) -> None:
        """
        Each item has its result.
        """
        outcome = self.run_(timesTwo, 1, 2, 3)
        self.assertEqual(outcome.values, [2, 4, 6])
        self.assertEqual(outcome.errors, [])
        self.assertGreater(outcome.elapsed, 0)
        self.assertEqual(self.travel(outcome).values, [2, 4, 6])

    def test_oneErrorSpoilsNothingElse(self) -> None:
        """
        It stands in the place of its item, with the traceback from the function on.
        """
        outcome = self.run_(inverse, 1, 0, 2)
        self.assertEqual(outcome.values, [1, None, 0.5])
        [(index, where, error)] = outcome.errors
        self.assertEqual((index, where), (1, ""))
        self.assertIsInstance(error, ZeroDivisionError)
        self.assertEqual(error.__traceback__.tb_frame.f_code.co_name, "inverse")
        [(index, where, told)] = self.travel(outcome).errors
        self.assertEqual((index, where), (1, ""))
        self.assertIn("ZeroDivisionError", told[2])
        self.assertIn("in inverse", told[2])

    def test_timeIsUp(self) -> None:
        """
        The items behind are left to another call; the first one never is.
        """
        self.assertEqual(self.run_(identity, 1, 2, 3, span=0.0).values, [1])

    def test_largeResults(self) -> None:
        """
        So they are when the results take much memory.
        """
        outcome = self.run_(bytes, *[1 << 18] * 10)
        self.assertEqual(len(outcome.values), 4)

    def test_systemExit(self) -> None:
        """
        Is an error of its item, and the last one of its batch.
        """
        outcome = self.run_(sys.exit, 1, 2)
        self.assertEqual(outcome.values, [None])
        self.assertIsInstance(outcome.errors[0][2], SystemExit)

    def test_contexts(self) -> None:
        """
        No item sees what another one has set.
        """

        def setAndSee(value: str) -> str:
            seen = variable.get()
            variable.set(value)
            return seen

        self.assertEqual(self.run_(setAndSee, "one", "two").values, ["nothing", "nothing"])

    def test_unpicklableResult(self) -> None:
        """
        Costs its own item only, at either end.
        """
        results = [Unpicklable(), [1], Ununpicklable(), "text"]
        travelled = self.travel(self.run_(results.__getitem__, 0, 1, 2, 3))
        self.assertEqual(travelled.values, [None, [1], None, "text"])
        self.assertEqual([(index, where) for index, where, _ in travelled.errors], [(0, "result"), (2, "unpickling")])

    def test_awaited(self) -> None:
        """
        A function that returns something to be awaited ends the batch with that item.
        """
        waited: Deferred[str] = Deferred()
        made = MappedCall(lambda item: waited if item == 2 else item, LONG)(1, 2, 3)
        assert isinstance(made, Coroutine)
        outcome = Outcome(Deferred.fromCoroutine(made))
        self.assertEqual(outcome.fired, 0)
        waited.callback("two")
        self.assertEqual(outcome.value.values, [1, "two"])
        self.assertFalse(outcome.value.isPlain)

    def test_awaitedError(self) -> None:
        """
        Is that of the item.
        """
        waited: Deferred[str] = Deferred()
        outcome = Outcome(Deferred.fromCoroutine(MappedCall(lambda item: waited, LONG)(1, 2)))
        waited.errback(LookupError("nothing"))
        self.assertEqual(outcome.value.values, [None])
        self.assertIsInstance(outcome.value.errors[0][2], LookupError)

    def test_iterators(self) -> None:
        """
        The iterator of the first item is the result; that of another one is made again by itself.
        """
        self.assertEqual(list(MappedCall(iter, LONG)([1, 2], [3])), [1, 2])
        numbers = Items(3)
        outcome = self.run_(lambda item: iter(numbers) if item else 0, 0, 1, 0)
        self.assertEqual((outcome.values, outcome.isPlain), ([0], False))
        self.assertEqual(numbers.taken, 0)

    def test_text(self) -> None:
        """
        In messages, it reads as the map of the function.
        """
        from asynqueue.callinfo import describeCall

        call = pickle.loads(pickle.dumps(MappedCall(timesTwo, 1.0), 5))
        self.assertEqual(describeCall(call, (1, 2)), "map of timesTwo(1, 2)")

    def test_childNeedsNoTwisted(self) -> None:
        """
        What travels is understood without importing Twisted, errors included.
        """
        program = (
            "import pickle, sys\n"
            "from asynqueue.mapping.batch import MappedCall\n"
            "pickle.loads(pickle.dumps(MappedCall(int, 1.0)('1', 'x')))\n"
            "print([name for name in sys.modules if name.split('.')[0] in ('twisted', 'typing')])\n"
        )
        ended = subprocess.run(
            [sys.executable, "-S", "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((ended.stdout, ended.stderr), ("[]\n", ""))


class PaceTests(SynchronousTestCase):
    """
    How many items travel together, and how far the map is ahead.
    """

    def test_short(self) -> None:
        """
        Batches of short items grow up to a bound, but not beyond their share of the window.
        """
        pace = Pace()
        self.assertEqual(pace.batch(1), 1)
        for _ in range(10):
            pace.finished(pace.size, pace.size * 1e-7)
        self.assertEqual(pace.size, CEILING)
        self.assertEqual(pace.batch(1), FIRST // 4)
        self.assertEqual(pace.batch(100), 1)
        while pace.grow():
            pass
        self.assertEqual(pace.window, MOST)
        self.assertEqual(pace.batch(2), CEILING)

    def test_long(self) -> None:
        """
        An item that takes long travels alone, from the next call on.
        """
        pace = Pace()
        pace.size = 500
        pace.finished(1, 0.1)
        self.assertEqual(pace.size, 1)

    def test_limits(self) -> None:
        """
        A batch takes a small part of the time that a call may take.
        """
        pace = Pace(limit=0.004)
        self.assertLessEqual(pace.span, 0.001)

    def test_memory(self) -> None:
        """
        The window does not grow over large items.
        """
        pace = Pace()
        for _ in range(50):
            pace.weighed(1 << 20)
        pace.grow()
        self.assertLessEqual(pace.window, FIRST)

    def test_fixed(self) -> None:
        """
        A window that has been asked for stays as it is.
        """
        pace = Pace(7)
        self.assertFalse(pace.grow())
        self.assertEqual(pace.window, 7)


class MapCase(QueueTestCase):
    """
    What the tests on a virtual clock share.
    """

    def makeAsync(self, count: int = 1, **keywords: Any) -> TaskQueue:
        """
        Make a queue with workers in the reactor.
        """
        return self.makeQueue(*[AsyncWorker(reactor=self.clock) for _ in range(count)], **keywords)

    def settle(self, outcome: Outcome) -> Outcome:
        """
        Let turns pass until an outcome is there.
        """
        for _ in range(100_000):
            if outcome.fired:
                return outcome
            self.turn()
        raise AssertionError("nothing has come of it")

    def collect(self, queue: Any, func: Any, iterable: Any, **keywords: Any) -> Outcome:
        """
        Collect a map.
        """
        return self.settle(Outcome(queue.map(func, iterable, **keywords).collect()))

    def run_(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """
        Run a coroutine to its end.
        """
        outcome = self.settle(Outcome(Deferred.fromCoroutine(coroutine)))
        if outcome.failure is not None:
            outcome.failure.raiseException()
        return outcome.value

    def read(self, results: Any) -> tuple[list[Any], Any]:
        """
        Iterate over results, and return them and what has ended them.
        """
        found: list[Any] = []

        async def iterate() -> BaseException | None:
            try:
                async for each in results:
                    found.append(each)  # noqa: PERF401 - what is there counts, even if there is an error behind it
            except Exception as error:
                return error
            return None

        return found, self.run_(iterate())

    def drive(self, worker: MemoryWorker, act: Callable[[Any], object]) -> None:
        """
        Have something done with each task that a worker gets, until there are no more.
        """
        while True:
            while worker.held:
                act(worker.held[0])
            self.turn()
            if not worker.held:
                return


class ReadingTests(MapCase):
    """
    How results are had.
    """

    def test_N20_collected(self) -> None:
        """
        As a list, through C{collect} or by awaiting, in the order of the items.
        """
        queue = self.makeAsync(2)
        self.assertValue(self.collect(queue, timesTwo, range(1000)), [2 * number for number in range(1000)])

        async def awaited() -> list[int]:
            return await queue.map(timesTwo, range(10))

        self.assertEqual(self.run_(awaited()), [2 * number for number in range(10)])

    def test_N20_iterated(self) -> None:
        """
        By C{async for}.
        """
        queue = self.makeAsync()

        async def read() -> list[int]:
            return [each async for each in queue.map(timesTwo, range(1000))]

        self.assertEqual(self.run_(read()), [2 * number for number in range(1000)])

    def test_N20_deferreds(self) -> None:
        """
        By the documented protocol of Deferators.
        """
        queue = self.makeAsync()
        for window in (None, 1, 2):
            found: list[int] = []

            @inlineCallbacks
            def read(window: int | None = window, found: list[int] = found) -> Generator[Any, Any, None]:
                for d in queue.map(timesTwo, range(100), window=window):
                    number = yield d
                    found.append(number)

            self.settle(Outcome(read()))
            self.assertEqual(found, [2 * number for number in range(100)])

    def test_nothing(self) -> None:
        """
        No items, no results, however one asks.
        """
        queue = self.makeAsync()
        self.assertValue(self.collect(queue, identity, []), [])
        self.assertEqual(list(queue.map(identity, ())), [])

        async def read() -> list[int]:
            return [each async for each in queue.map(identity, AsyncItems(0))]

        self.assertEqual(self.run_(read()), [])

    def test_batches(self) -> None:
        """
        Short items travel together: there are far fewer calls than items.
        """
        queue = self.makeAsync()
        self.collect(queue, identity, range(10_000))
        self.assertLess(queue.statistics().submitted, 1000)

    def test_longItemsTravelAlone(self) -> None:
        """
        Each with its own call.
        """
        queue = self.makeAsync()

        def slow(item: int) -> int:
            time.sleep(0.003)
            return item

        self.assertValue(self.collect(queue, slow, range(20)), list(range(20)))
        self.assertEqual(queue.statistics().submitted, 20)

    def test_asCompleted(self) -> None:
        """
        With C{ordered=False}, as they come.
        """
        first, second = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(first, second)
        results = Outcome(queue.map(identity, "ab", ordered=False).collect())
        second.step()
        first.step()
        self.assertValue(results, ["b", "a"])
        results = Outcome(queue.map(identity, "ab").collect())
        second.step()
        first.step()
        self.assertValue(results, ["a", "b"])

    def test_asyncInput(self) -> None:
        """
        The input may be asynchronous.
        """
        queue = self.makeAsync()
        waits: list[Deferred[None]] = [Deferred() for _ in range(5)]
        items = AsyncItems(5)
        items.before = waits.__getitem__
        outcome = Outcome(queue.map(timesTwo, items).collect())
        for wait in waits:
            self.turn()
            self.assertPending(outcome)
            wait.callback(None)
        self.assertValue(self.settle(outcome), [0, 2, 4, 6, 8])
        self.assertEqual(items.closed, 1)
        self.assertValue(self.collect(queue, timesTwo, AsyncItems(1000)), [2 * each for each in range(1000)])

    def test_restIsCollected(self) -> None:
        """
        What has been read before is not in the list.
        """
        queue = self.makeAsync()

        @inlineCallbacks
        def read() -> Generator[Any, Any, Any]:
            results = queue.map(identity, range(10))
            first = yield next(results)
            return first, (yield results.collect())

        self.assertValue(self.settle(Outcome(read())), (0, list(range(1, 10))))

    def test_oneReader(self) -> None:
        """
        A second one is told so.
        """
        queue = self.makeQueue(MemoryWorker())
        results = queue.map(identity, "abc")
        collected = Outcome(results.collect())
        self.assertRaises(NotReadyError, results.collect)
        self.assertRaises(NotReadyError, next, results)
        results.stop()
        self.assertFailed(collected, CancelledError)
        self.assertRaises(NotReadyError, results.collect)

    def test_deferring(self) -> None:
        """
        What a function returns as a Deferred or coroutine is awaited, always or now and then.
        """
        queue = self.makeAsync()

        async def awaiting(item: int) -> int:
            return 2 * item

        def deferring(item: int) -> Any:
            return succeed(2 * item)

        def sometimes(item: int) -> Any:
            return deferring(item) if item > 50 else 2 * item

        for func in (awaiting, deferring, sometimes, partial(awaiting)):
            self.assertValue(self.collect(queue, func, range(100)), [2 * number for number in range(100)])

    def test_deferringError(self) -> None:
        """
        Its errors are those of its items.
        """
        queue = self.makeAsync()

        async def awaiting(item: int) -> int:
            return isBad(item)

        def deferring(item: int) -> Any:
            return Deferred.fromCoroutine(awaiting(item))

        for func in (awaiting, deferring):
            results = self.collect(queue, func, range(20), onError="yield").value
            self.assertTrue(results[13].check(LookupError) and results[13].check(WorkerError))
            self.assertEqual(results[:13] + results[14:], [*range(13), *range(14, 20)])

    def test_streams(self) -> None:
        """
        What a function returns as an iterator is a stream, as that of any call.
        """
        queue = self.makeAsync()
        for func in (lambda item: iter(range(item)), lambda item: iter(range(item)) if item != 2 else "two"):
            results = self.collect(queue, func, [1, 2, 3]).value
            self.assertIsInstance(results[2], Deferator)

            async def read(stream: Any = results[2]) -> list[int]:
                return [each async for each in stream]

            self.assertEqual(self.run_(read()), [0, 1, 2])
            results[0].stop()
            if results[1] != "two":
                results[1].stop()

    def test_context(self) -> None:
        """
        All calls have the context of the caller, whenever they are made.
        """
        queue = self.makeAsync()
        variable.set("caller's")
        self.addCleanup(variable.set, "nothing")
        results = queue.map(lambda item: variable.get(), range(500))
        variable.set("something else")
        self.assertEqual(set(self.settle(Outcome(results.collect())).value), {"caller's"})

    def test_inputsContext(self) -> None:
        """
        So has the iterable.
        """
        queue = self.makeAsync()
        variable.set("caller's")
        self.addCleanup(variable.set, "nothing")
        results = queue.map(identity, (variable.get() for _ in range(500)))
        variable.set("something else")
        self.assertEqual(set(self.settle(Outcome(results.collect())).value), {"caller's"})

    def test_noRecursion(self) -> None:
        """
        A worker that reports at once does not make the map recurse.
        """

        class AtOnce(MemoryWorker):
            def run(self, task: Any) -> Deferred[None]:
                func, args, kw = task.callTuple
                task.callback(("r", func(*args, **kw)))
                return succeed(None)

        queue = self.makeQueue(AtOnce())
        self.assertValue(self.collect(queue, identity, range(20_000)), list(range(20_000)))

    def test_options(self) -> None:
        """
        The calls have the options of the queue's C{options}.
        """
        worker = MemoryWorker(["text"])
        queue = self.makeQueue(worker)
        results = Outcome(queue.options(series="text", niceness=5, timeout=3.0).map(identity, "ab").collect())
        task = worker.held[0]
        self.assertEqual((task.series, task.priority, task.timeout), ("text", 5, 3.0))
        worker.stepAll()
        self.assertValue(results, ["a", "b"])

    def test_notIdempotent(self) -> None:
        """
        What must not run twice does not travel with anything else.
        """
        queue = self.makeAsync()
        self.collect(queue.options(idempotent=False), identity, range(100))
        self.assertEqual(queue.statistics().submitted, 100)

    def test_arguments(self) -> None:
        """
        Bad ones are told at the call.
        """
        queue = self.makeQueue()
        untyped: Any = queue
        self.assertRaises(TypeError, untyped.map, None, [])
        self.assertRaises(TypeError, untyped.map, identity, 3)
        self.assertRaises(TypeError, untyped.map, identity, [], window="3")
        self.assertRaises(ValueError, untyped.map, identity, [], window=0)
        self.assertRaises(ValueError, untyped.map, identity, [], onError="ignore")
        self.assertRaises(TypeError, untyped.map, identity, [], niceness=3)


class WindowTests(MapCase):
    """
    How far a map is ahead of its reader, and what it leaves to other calls.
    """

    def test_reader(self) -> None:
        """
        Items are taken up to the window beyond what has been read, and no further.
        """
        queue = self.makeAsync()
        for window in (1, 2, 5, 100):
            items = Items(1000)

            async def read(items: Items = items, window: int = window) -> int:
                number = 0
                async for _ in queue.map(identity, items, window=window):
                    number += 1
                    for _ in range(5):
                        await self.pause()
                    self.assertLessEqual(items.taken, number + window)
                return number

            self.assertEqual(self.run_(read()), 1000)

    def pause(self) -> Deferred[None]:
        """
        Wait for the next turn.
        """
        d: Deferred[None] = Deferred()
        self.clock.callLater(0, d.callback, None)
        return d

    def test_nobodyReads(self) -> None:
        """
        Then the map stops at its window.
        """
        queue = self.makeAsync()
        items = Items(1000)
        results = queue.map(identity, items)
        for _ in range(100):
            self.turn()
        self.assertEqual(items.taken, FIRST)
        results.stop()
        self.assertEqual(items.closed, 1)

    def test_noWorker(self) -> None:
        """
        Without a worker the map waits, and little of its input is taken.
        """
        queue = self.makeQueue()
        items = Items(1000)
        results = Outcome(queue.map(identity, items).collect())
        self.turn()
        self.assertEqual(items.taken, 1)
        queue.attachWorker(AsyncWorker(reactor=self.clock))
        self.assertValue(self.settle(results), list(range(1000)))

    def test_othersAreNotHeldUp(self) -> None:
        """
        As many calls wait as there are workers, so that one that comes later does not wait long.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        queue.map(identity, range(10**6)).collect().addErrback(lambda failure: failure.trap(QueueRunError))
        for _ in range(20):
            worker.step()
        other = self.call(queue, identity, "other")
        worker.step(3)
        self.assertValue(other, "other")

    def test_slowHead(self) -> None:
        """
        With one worker stuck on the first item, the window grows for the others, up to a bound.
        """
        stuck, busy = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(stuck, busy)
        results = Outcome(queue.map(identity, range(10**5)).collect())
        done = 0
        while busy.held and done < 10_000:
            done += len(busy.held[0].callTuple[1])
            busy.step()
            self.turn()
        self.assertGreater(done, 5000)
        while stuck.held or busy.held:
            for worker in (stuck, busy):
                worker.stepAll()
            self.turn()
        self.assertValue(results, list(range(10**5)))

    def test_maxPending(self) -> None:
        """
        The map waits for room on the queue like everybody else.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker, maxPending=1)
        others = [self.call(queue, identity, each) for each in "ab"]
        results = Outcome(queue.map(identity, range(100)).collect())
        self.assertPending(results)
        while worker.held:
            worker.step()
            self.turn()
        self.assertValue(results, list(range(100)))
        self.assertValue(others[1], "b")
        self.assertEqual(queue.statistics().refused, 0)

    def test_slowInput(self) -> None:
        """
        An iterable that takes its time leaves turns to others.
        """
        self.clock = TurningClock()
        queue = self.makeAsync()

        def slow() -> Iterator[int]:
            for number in range(50):
                time.sleep(0.001)
                yield number

        results = Outcome(queue.map(identity, slow()).collect())
        turns = 0
        while not results.fired:
            began = time.monotonic()
            self.turn()
            turns += 1
            self.assertLess(time.monotonic() - began, 1.0)
        self.assertGreater(turns, 5)
        self.assertValue(results, list(range(50)))


class ErrorTests(MapCase):
    """
    What becomes of errors.
    """

    def test_N20_raise(self) -> None:
        """
        The first one ends the map, behind the results before it, and closes the input.
        """
        queue = self.makeAsync(2)
        items = Items(10**6)
        found, error = self.read(queue.map(isBad, items))
        self.assertEqual(found, list(range(13)))
        self.assertIsInstance(error, LookupError)
        self.assertIsInstance(error, WorkerError)
        self.assertIn("in isBad", error.remoteTraceback)
        self.assertIs(type(error.original), LookupError)
        self.assertEqual(items.closed, 1)
        self.assertLess(items.taken, 1000)
        self.assertEqual(queue.outstanding(), [])

    def test_N20_yield(self) -> None:
        """
        Failures take the places of results, and nothing else is spoilt.
        """
        queue = self.makeAsync(2)
        results = self.collect(queue, lambda item: inverse(item % 3), range(3000), onError="yield").value
        self.assertEqual(len(results), 3000)
        for number, result in enumerate(results):
            if number % 3:
                self.assertEqual(result, inverse(number % 3))
            else:
                self.assertTrue(result.check(ZeroDivisionError) and result.check(WorkerError))

    def test_yieldToDeferreds(self) -> None:
        """
        In the protocol of Deferators, the Deferred of the item errbacks, and the others go on.
        """
        queue = self.makeAsync()
        found: list[Any] = []

        @inlineCallbacks
        def read() -> Generator[Any, Any, None]:
            for d in queue.map(isBad, range(10, 16), onError="yield"):
                try:
                    found.append((yield d))
                except LookupError:
                    found.append("bad")

        self.settle(Outcome(read()))
        self.assertEqual(found, [10, 11, 12, "bad", 14, 15])

    def test_firstInOrder(self) -> None:
        """
        With C{ordered}, the first error is that of the first item that fails, whatever comes first.
        """
        untyped: Any = inverse
        workers = [MemoryWorker() for _ in range(3)]
        queue = self.makeQueue(*workers)
        results = Outcome(queue.map(untyped, [1, 0, "text"]).collect())
        workers[2].step()
        self.assertPending(results)
        workers[1].step()
        self.assertPending(results)
        workers[0].step()
        self.assertFailed(results, ZeroDivisionError)

    def test_firstAsCompleted(self) -> None:
        """
        Otherwise it is the one that comes first, and ends the map at once.
        """
        untyped: Any = inverse
        workers = [MemoryWorker() for _ in range(3)]
        queue = self.makeQueue(*workers)
        results = Outcome(queue.map(untyped, [1, 0, "text"], ordered=False).collect())
        workers[2].step()
        self.assertFailed(results, TypeError)
        self.assertTrue(all(task.cancelled for worker in workers[:2] for task in worker.held))

    def test_input(self) -> None:
        """
        An exception of the iterable arrives as it is, behind all results.
        """
        queue = self.makeAsync()
        for kind in (Items, AsyncItems):
            for ordered in (True, False):
                found, error = self.read(queue.map(identity, kind(100, KeyError("key")), ordered=ordered))
                self.assertIs(type(error), KeyError)
                self.assertEqual(sorted(found), list(range(100)))

    def test_inputExits(self) -> None:
        """
        Even its SystemExit ends the map only.
        """
        queue = self.makeAsync()
        self.assertFailed(self.collect(queue, identity, Items(3, SystemExit(1))), WorkerError)

    def test_split(self) -> None:
        """
        A batch that fails as a whole is sent item by item, so that only the guilty one gets the error.
        """
        for error in (
            EncodeError("no way"),
            ResultEncodeError("no way back"),
            TimeLimitExceeded("too long"),
            PoisonTask("it kills"),
            WorkerError("anything"),
        ):
            worker = MemoryWorker()
            queue = self.makeQueue(worker)
            results = Outcome(queue.map(identity, range(500), onError="yield").collect())
            sizes: list[int] = []

            def act(
                task: Any, worker: MemoryWorker = worker, sizes: list[int] = sizes, error: Exception = error
            ) -> None:
                if 333 in task.callTuple[1]:
                    sizes.append(len(task.callTuple[1]))
                    worker.report("x", error)
                else:
                    worker.step()

            self.drive(worker, act)
            self.assertGreater(sizes[0], 1)
            self.assertEqual(sizes[1:], [1])
            self.assertEqual(results.value[:333] + results.value[334:], [*range(333), *range(334, 500)])
            self.assertIs(results.value[333].value, error)

    def test_lost(self) -> None:
        """
        A batch that is lost with its worker is run again as any call is; the one item that kills is isolated.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        results = Outcome(queue.map(identity, range(500), onError="yield").collect())
        lost: list[int] = []

        def act(task: Any) -> None:
            if 333 in task.callTuple[1]:
                lost.append(len(task.callTuple[1]))
                worker.report("l")
            else:
                worker.step()

        self.drive(worker, act)
        self.assertGreater(lost[0], 1)
        self.assertEqual(lost[3:], [1, 1, 1])
        self.assertEqual(results.value[:333] + results.value[334:], [*range(333), *range(334, 500)])
        self.assertTrue(results.value[333].check(PoisonTask))

    def test_timeout(self) -> None:
        """
        So is the one that times out.
        """
        worker = MemoryWorker(overlaps=True)
        queue = self.makeQueue(worker)
        results = Outcome(queue.options(timeout=5).map(identity, range(200), onError="yield").collect())
        for _ in range(10_000):
            for task in list(worker.held):
                if 133 not in task.callTuple[1]:
                    worker.held.remove(task)
                    worker.held.insert(0, task)
                    worker.step()
            if results.fired:
                break
            self.clock.advance(1)
        self.assertEqual(results.value[:133] + results.value[134:], [*range(133), *range(134, 200)])
        self.assertTrue(results.value[133].check(TimeoutError))

    def test_cancelledCalls(self) -> None:
        """
        Who cancels all calls of a queue cancels items of its maps.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        results = Outcome(queue.map(identity, range(3), onError="yield").collect())
        queue.cancelAll()
        for _ in range(10):
            self.turn()
            worker.stepAll()
        self.assertEqual(results.value[0], 0)
        self.assertTrue(results.value[1].check(CancelledError))
        self.assertEqual(results.value[2], 2)


class LeavingTests(MapCase):
    """
    What is left of a map that is left.
    """

    def begin(self) -> tuple[MemoryWorker, TaskQueue, Items, Any]:
        """
        Begin a map.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        items = Items(1000)
        return worker, queue, items, queue.map(identity, items)

    def assertLeft(self, worker: MemoryWorker, queue: TaskQueue, items: Items) -> None:
        """
        Nothing is left of the map but what the worker runs, which is told so.
        """
        self.assertEqual(queue.outstanding(), [])
        self.assertEqual(items.closed, 1)
        self.assertTrue(all(task.cancelled for task in worker.held))
        taken = items.taken
        worker.stepAll()
        self.turn()
        self.assertEqual(items.taken, taken)
        self.assertEqual(queue._maps, {})

    def test_break(self) -> None:
        """
        By C{break}.
        """
        worker, queue, items, results = self.begin()

        async def read(results: Any) -> int:
            async for each in results:
                return int(each)
            return -1

        outcome = Outcome(Deferred.fromCoroutine(read(results)))
        worker.step(1)
        self.assertValue(outcome, 0)
        self.assertLeft(worker, queue, items)

    def test_stop(self) -> None:
        """
        By C{stop}.
        """
        worker, queue, items, results = self.begin()
        results.stop()
        self.assertLeft(worker, queue, items)

    def test_cancel(self) -> None:
        """
        By cancelling the Deferred of the list.
        """
        worker, queue, items, results = self.begin()
        d = results.collect()
        outcome = Outcome(d)
        worker.step(3)
        d.cancel()
        self.assertFailed(outcome, CancelledError)
        self.assertLeft(worker, queue, items)

    def test_drop(self) -> None:
        """
        By dropping the last reference.
        """
        worker, queue, items, results = self.begin()
        worker.step(3)
        del results
        gc.collect()
        self.assertLeft(worker, queue, items)

    def test_asyncInput(self) -> None:
        """
        An asynchronous input that waits is cancelled, and closed.
        """
        queue = self.makeAsync()
        waits: list[Deferred[None]] = [Deferred(), Deferred()]
        waits[0].callback(None)
        items = AsyncItems(5)
        items.before = waits.__getitem__
        results = queue.map(identity, items)
        outcome = Outcome(results.collect())
        for _ in range(5):
            self.turn()
        self.assertEqual(items.taken, 1)
        results.stop()
        self.assertEqual(items.closed, 1)
        self.assertFailed(outcome, CancelledError)

    def test_streamAsInput(self) -> None:
        """
        A stream may be the input, and is left with the map.
        """
        queue = self.makeAsync()
        items = Items(1000)
        results = queue.map(timesTwo, Deferator.over(sourceOf(iter(items), None, self.clock)))
        self.assertValue(self.settle(Outcome(results.collect())), [2 * number for number in range(1000)])
        items = Items(1000)
        stream = Deferator.over(sourceOf(iter(items), None, self.clock))
        results = queue.map(timesTwo, stream)
        for _ in range(5):
            self.turn()
        results.stop()
        self.assertEqual(items.closed, 1)
        self.assertLess(items.taken, 100)

    def test_collectionKeepsItself(self) -> None:
        """
        While a list is being made, nobody has to keep the results.
        """
        queue = self.makeAsync()
        outcome = Outcome(queue.map(identity, range(100)).collect())
        gc.collect()
        self.assertValue(self.settle(outcome), list(range(100)))

    def test_fromInside(self) -> None:
        """
        The input itself, and the function, may leave the map.
        """
        queue = self.makeAsync()
        holder: list[Any] = []

        def leaving() -> Iterator[int]:
            for number in range(100):
                if number == 40:
                    holder[0].stop()
                yield number

        holder.append(queue.map(identity, leaving()))
        self.assertFailed(self.settle(Outcome(holder[0].collect())), CancelledError)
        holder[0] = queue.map(lambda item: holder[0].stop() if item == 40 else item, range(100))
        self.assertFailed(self.settle(Outcome(holder[0].collect())), CancelledError)


class EndingTests(MapCase):
    """
    What a map does when its queue ends: it says so.
    """

    def test_closed(self) -> None:
        """
        A map of a queue that is shut down.
        """
        queue = self.makeQueue()
        self.shutDown(queue)
        items = Items(3)
        self.assertFailed(Outcome(queue.map(identity, items).collect()), QueueClosed)
        self.assertEqual(items.taken, 0)

    def test_shutdown(self) -> None:
        """
        What is on its way comes, then an error; the input is closed at once.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        items = Items(1000)
        results = queue.map(identity, items)
        worker.step(3)
        down = Outcome(queue.shutdown())
        self.assertEqual(items.closed, 1)
        worker.stepAll()
        found, error = self.read(results)
        self.assertIsInstance(error, QueueClosed)
        self.assertEqual(found, list(range(items.taken)))
        self.assertEqual(down.fired, 1)

    def test_withoutDraining(self) -> None:
        """
        What is queued is not run.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = Outcome(queue.map(identity, range(1000)).collect())
        worker.step(3)
        queue.shutdown(drain=False)
        self.turn()
        worker.stepAll()
        self.turn()
        self.assertFailed(outcome, QueueRunError)
        self.assertIsInstance(outcome.error, QueueShutdown | QueueClosed)

    def test_lastCallsAreDrained(self) -> None:
        """
        A map that has sent everything comes to its natural end.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        outcome = Outcome(queue.map(identity, "ab").collect())
        worker.step()
        queue.shutdown()
        worker.stepAll()
        self.turn()
        self.assertEqual(outcome.fired, 1)

    def test_waitingInput(self) -> None:
        """
        A map that waits for its input does not wait any longer.
        """
        queue = self.makeAsync()
        items = AsyncItems(5)
        items.before = lambda number: Deferred()
        outcome = Outcome(queue.map(identity, items).collect())
        queue.shutdown()
        self.assertFailed(outcome, QueueClosed)
        self.assertEqual(items.closed, 1)

    def test_nobodyReads(self) -> None:
        """
        What is there can be read afterwards.
        """
        queue = self.makeAsync()
        results = queue.map(identity, range(1000))
        for _ in range(20):
            self.turn()
        self.shutDown(queue)
        found, error = self.read(results)
        self.assertIsInstance(error, QueueClosed)
        self.assertEqual(found, list(range(FIRST)))


class RandomTests(MapCase):
    """
    No result is lost, comes twice or out of order, whatever becomes of the calls.
    """

    #: What an item can be: good, or one that raises, kills its worker, times out, or cannot travel there or back.
    KINDS: ClassVar[dict[str, tuple[type[BaseException], ...]]] = {
        "raises": (ArithmeticError, WorkerError),
        "kills": (PoisonTask,),
        "hangs": (TimeoutError,),
        "stays": (EncodeError,),
        "breaks": (ResultEncodeError,),
    }

    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        count=st.integers(0, 400),
        share=st.sampled_from([0.0, 0.01, 0.1]),
        workers=st.integers(1, 4),
        ordered=st.booleans(),
        window=st.sampled_from([None, 1, 3, 50]),
        onError=st.sampled_from(["raise", "yield"]),
    )
    def test_random(
        self,
        seed: int,
        count: int,
        share: float,
        workers: int,
        ordered: bool,
        window: int | None,
        onError: str,
    ) -> None:
        """
        Every item has its own result or error.
        """
        chance = random.Random(seed)
        kinds = {number: chance.choice(list(self.KINDS)) for number in range(count) if chance.random() < share}

        def func(number: int) -> int:
            if kinds.get(number) == "raises":
                raise ArithmeticError(number)
            return number

        staff = [MemoryWorker() for _ in range(workers)]
        queue = self.makeQueue(*staff)
        target: Any = queue.options(timeout=1e6)
        outcome = Outcome(target.map(func, range(count), ordered=ordered, window=window, onError=onError).collect())
        for _ in range(200_000):
            busy = [worker for worker in staff if worker.held]
            if not busy:
                self.turn()
                if not any(worker.held for worker in staff):
                    break
                continue
            self.act(chance, chance.choice(busy), kinds)
        self.check(outcome, kinds, count, ordered, onError)

    def act(self, chance: random.Random, worker: MemoryWorker, kinds: dict[int, str]) -> None:
        """
        Let a worker do something with a call.
        """
        task = worker.held[0]
        found = {kinds[number] for number in task.callTuple[1] if number in kinds}
        if task.cancelled:
            worker.report("k")
        elif "stays" in found:
            worker.report("x", EncodeError("it cannot travel"))
        elif task.attempt == 1 and chance.random() < 0.1:
            worker.report(chance.choice("ldt"))
        elif "kills" in found:
            worker.report("l")
        elif "hangs" in found:
            worker.report("t")
        elif "breaks" in found:
            worker.report("x", ResultEncodeError("it cannot travel back"))
        else:
            worker.step()

    def check(self, outcome: Outcome, kinds: dict[int, str], count: int, ordered: bool, onError: str) -> None:
        """
        The outcome is what it must be.
        """
        self.assertEqual(outcome.fired, 1)
        if onError == "raise" and kinds:
            expected = self.KINDS[kinds[min(kinds)]] if ordered else (WorkerError, TimeoutError)
            self.assertTrue(isinstance(outcome.error, expected), outcome.error)
            return
        self.assertIsNone(outcome.failure)
        results = outcome.value
        self.assertEqual(len(results), count)
        good = [each for each in results if not isinstance(each, Failure)]
        if ordered:
            for number, result in enumerate(results):
                if number in kinds:
                    self.assertTrue(result.check(*self.KINDS[kinds[number]]), result)
                else:
                    self.assertEqual(result, number)
        self.assertEqual(sorted(good), [number for number in range(count) if number not in kinds])


class ThreadMapTests(ThreadTestCase):
    """
    Maps over real threads.
    """

    async def test_W_threads(self) -> None:
        """
        Results in order, in threads, and errors with their origins.
        """
        queue = TaskQueue(ThreadWorker(), ThreadWorker(), returnFailure=True)
        try:
            mapped: Deferred[list[Any]] = queue.map(isBad, range(10_000), onError="yield").collect()
            results = await mapped.addTimeout(20, self.clock_())
            self.assertEqual(results[:13] + results[14:], [*range(13), *range(14, 10_000)])
            failure = results[13]
            self.assertTrue(failure.check(LookupError) and failure.check(ThreadError))
            self.assertIn("in isBad", failure.value.remoteTraceback)
            self.assertNotIn("batch.py", failure.value.remoteTraceback)
            self.assertIsInstance(failure.value.original, LookupError)
            threads = set(await queue.map(lambda item: threading.get_ident(), range(2000)))
            self.assertNotIn(threading.get_ident(), threads)
            self.assertLess(queue.statistics().submitted, 3000)
        finally:
            await queue.shutdown()

    def clock_(self) -> Any:
        """
        Return the reactor.
        """
        from twisted.internet import reactor

        return reactor

    async def test_leaving(self) -> None:
        """
        A batch that nobody waits for any more ends with the item at hand.
        """
        queue = TaskQueue(ThreadWorker(), returnFailure=True)
        seen: list[int] = []

        def watchful(item: int) -> None:
            seen.append(item)
            call = currentCall()
            until = time.monotonic() + 10
            while item == 900 and call is not None and not call.cancelled and time.monotonic() < until:
                time.sleep(0.001)

        try:
            d = queue.map(watchful, range(100_000)).collect()
            while 900 not in seen:
                await self.pause()
            d.cancel()
            with self.assertRaises(CancelledError):
                await d
        finally:
            await queue.shutdown()
        self.assertEqual(seen[-1], 900)

    def pause(self) -> Deferred[None]:
        """
        Wait for a moment.
        """
        from twisted.internet.task import deferLater

        return deferLater(self.clock_(), 0.005, lambda: None)


class ProcessMapTests(ProcessTestCase):
    """
    Maps over real children.
    """

    async def bounded(self, d: Deferred[Any], limit: float = LIMIT) -> Any:
        """
        Wait, but not for ever.
        """
        return await self.within(limit, d)

    async def test_W_results(self) -> None:
        """
        Results in order; few calls for many items.
        """
        queue = self.makeQueue(2)
        results = await self.bounded(queue.map(timesTwo, range(20_000)).collect())
        self.assertEqual(results, [2 * number for number in range(20_000)])
        self.assertLess(queue.statistics().submitted, 2000)

    async def test_W_errors(self) -> None:
        """
        One failing item has its own error, with its own traceback, from the midst of a batch.
        """
        queue = self.makeQueue(1)
        results = await self.bounded(queue.map(isBad, [*range(100, 1000), 13, 5], onError="yield").collect())
        self.assertEqual(results[:900] + results[901:], [*range(100, 1000), 5])
        failure = results[900]
        self.assertTrue(failure.check(LookupError) and failure.check(ProcessError))
        self.assertIn("in isBad", failure.value.remoteTraceback)
        self.assertEqual(failure.value.args, ("13 is none",))

    async def test_W_poison(self) -> None:
        """
        An item that kills its child is isolated.
        """
        queue = self.makeQueue(1)
        results = await self.bounded(queue.map(killAt, range(200), onError="yield").collect(), 40)
        self.assertEqual(results[:77] + results[78:], [*range(77), *range(78, 200)])
        self.assertTrue(results[77].check(PoisonTask))

    async def test_W_unpicklable(self) -> None:
        """
        What cannot travel there or back costs its own item, with an error that names it.
        """
        queue = self.makeQueue(1)
        lock = threading.Lock()
        results = await self.bounded(queue.map(identity, [*range(500), lock, 7], onError="yield").collect())
        self.assertEqual(results[:500] + results[501:], [*range(500), 7])
        self.assertTrue(results[500].check(EncodeError))
        self.assertIn("args[0]", results[500].getErrorMessage())
        results = await self.bounded(queue.map(unpicklableAt, range(200), onError="yield").collect())
        self.assertTrue(results[77].check(ResultEncodeError))
        self.assertTrue(results[78].check(ResultDecodeError))
        self.assertEqual(results[:77] + results[79:], [[number] for number in (*range(77), *range(79, 200))])

    async def test_W_lambda(self) -> None:
        """
        A function that cannot travel is an error, once, that says so.
        """
        queue = self.makeQueue(1)
        with self.assertRaises(EncodeError) as caught:
            await self.bounded(queue.map(lambda item: item, range(10**6)).collect())
        self.assertIn("the callable", str(caught.exception))

    async def test_W_timeLimit(self) -> None:
        """
        The item that takes too long is the one that is ended.
        """
        queue = self.makeQueue(1)
        target = queue.options(timeLimit=0.5)
        pauses = [0.0] * 100 + [LONG] + [0.0] * 100
        results = await self.bounded(target.map(time.sleep, pauses, onError="yield").collect(), 30)
        self.assertTrue(results[100].check(TimeLimitExceeded))
        self.assertEqual(results[:100] + results[101:], [None] * 200)

    async def test_W_leaving(self) -> None:
        """
        Who leaves a map interrupts what runs, and the child goes on with other things.
        """
        queue = self.makeQueue(1)
        async for _ in queue.map(time.sleep, [0.0, 0.0, LONG, LONG]):
            break
        self.assertEqual(queue.outstanding(), [])
        self.assertEqual(await self.bounded(queue.call(identity, 5)), 5)
