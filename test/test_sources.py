"""
Tests of the sources of streams, on a virtual clock.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from asynqueue.errors import WorkerError
from asynqueue.failures import failureOf
from asynqueue.iteration.batches import WINDOW, Batch
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.sources import AsyncIteratorSource, CallableSource, IteratorSource, WrappedSource, sourceOf
from test.streamed import TURNS, IterationTestCase, Numbers, reading
from test.support import Outcome

variable: ContextVar[int] = ContextVar("variable", default=0)


class Hops:
    """
    A wrapper whose calls are made when the test says so, as if in a thread.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.count = 0

    def __call__(self, func: Callable[..., Any], *args: Any) -> Deferred[Any]:
        d: Deferred[Any] = Deferred()
        self.waiting.append((d, func, args))
        self.count += 1
        return d

    def hop(self) -> None:
        """
        Make the call that waits.
        """
        d, func, args = self.waiting.pop(0)
        d.callback(func(*args))

    def hopAll(self) -> None:
        """
        Make calls until none waits.
        """
        while self.waiting:
            self.hop()


class SourceOfTests(IterationTestCase):
    """
    Which source an object gets.
    """

    def test_kinds(self) -> None:
        """
        It depends on its class.
        """
        self.assertIsInstance(sourceOf(iter([1])), IteratorSource)
        self.assertIsInstance(sourceOf(aiter(Numbers(1))), AsyncIteratorSource)

    def test_values(self) -> None:
        """
        What is no iterator is refused, with what to do.
        """
        values: list[Any] = [[1], "text", range(3), None, Numbers]
        for value in values:
            with self.assertRaises(TypeError) as caught:
                sourceOf(value)
            self.assertIn("an iterator is needed", str(caught.exception))


class IteratorSourceTests(IterationTestCase):
    """
    Iterators in the reactor.
    """

    def test_sharesTurns(self) -> None:
        """
        A reader of an endless generator that never waits for anything else lets the reactor do other things.
        """
        numbers = Numbers()
        deferator = self.over(iter(numbers))
        result = reading(deferator)
        seen: list[int] = []
        for _ in range(3):
            self.assertEqual(result.done.fired, 0)
            self.clock.callLater(0, lambda: seen.append(len(result.items)))
            self.turn()
        self.assertEqual(len(set(seen)), 3)
        self.assertEqual(seen, sorted(seen))
        self.assertEqual(result.items, list(range(len(result.items))))
        self.assertLessEqual(numbers.made - len(result.items), WINDOW)
        deferator.stop()
        self.assertEqual((numbers.closed, result.kinds), (1, [CancelledError]))

    def test_end(self) -> None:
        """
        Nothing is left on the clock when the iterator is at its end.
        """
        source = IteratorSource(iter(Numbers(3)), clock=self.clock)
        batches = [source.pull(2), source.pull(2)]
        items: list[int] = []
        for batch in batches:
            assert isinstance(batch, Batch)
            items += batch.items
        self.assertEqual(items, [0, 1, 2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneTimerForEachTurn(self) -> None:
        """
        However often it is asked.
        """
        source = IteratorSource(iter(Numbers()), clock=self.clock)
        for _ in range(5):
            source.pull(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        source.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def untilDeferred(self, source: IteratorSource) -> Deferred[Batch]:
        """
        Pull until the turn is used up.
        """
        for _ in range(10_000_000):
            batch = source.pull(1)
            if isinstance(batch, Deferred):
                return batch
        raise self.failureException("the source never gives the turn away")

    def test_nextTurn(self) -> None:
        """
        A pull that has to wait is answered in the next turn.
        """
        numbers = Numbers()
        source = IteratorSource(iter(numbers), clock=self.clock)
        outcome = Outcome(self.untilDeferred(source))
        made = numbers.made
        self.assertEqual(outcome.fired, 0)
        self.turn()
        self.assertEqual(outcome.value.items, [made])
        source.close()

    def test_closeWhileWaiting(self) -> None:
        """
        The generator is closed, and the turn is given back.
        """
        numbers = Numbers()
        source = IteratorSource(iter(numbers), clock=self.clock)
        outcome = Outcome(self.untilDeferred(source))
        source.close()
        self.assertEqual((numbers.closed, self.clock.getDelayedCalls(), outcome.fired), (1, [], 0))

    def test_taskIsTold(self) -> None:
        """
        A call whose stream is closed is marked as one that nobody waits for.
        """
        task: Any = SimpleNamespace(context=None, cancelled=False)
        source = IteratorSource(iter(Numbers()), task, self.clock)
        source.pull(1)
        self.assertFalse(task.cancelled)
        source.close()
        self.assertTrue(task.cancelled)


class AsyncIteratorSourceTests(IterationTestCase):
    """
    Asynchronous iterators.
    """

    def test_awaits(self) -> None:
        """
        A generator may await Deferreds, and its items come in order.
        """
        waits: list[Deferred[int]] = [Deferred() for _ in range(3)]

        async def generate() -> AsyncIterator[int]:
            for wait in waits:
                yield await wait

        result = reading(self.overAsync(generate()))
        for number, wait in enumerate(waits):
            self.assertEqual(result.items, list(range(number)))
            wait.callback(number)
        self.assertEqual((result.items, result.done.fired), ([0, 1, 2], 1))

    def test_withoutAwait(self) -> None:
        """
        A generator that never awaits anything is no deep stack.
        """
        result = self.read(self.overAsync(aiter(Numbers(5_000))))
        self.assertEqual(result.items, list(range(5_000)))

    def test_sharesTurns(self) -> None:
        """
        One that never awaits anything does not hold the reactor either.
        """
        numbers = Numbers(50_000)
        deferator = Deferator(aiter(numbers))
        self.addCleanup(deferator.stop)
        result = reading(deferator)
        self.assertEqual(result.done.fired, 0, "all 50,000 items have been read without a turn of the reactor")

    def test_F50_error(self) -> None:
        """
        An exception comes after the items before it, as a WorkerError that is of its class, too.
        """
        for count in (0, 3):
            result = self.read(self.overAsync(aiter(Numbers(count, KeyError("wrong")))))
            self.assertEqual(result.items, list(range(count)))
            self.assertIsInstance(result.errors[0], WorkerError)
            self.assertIsInstance(result.errors[0], KeyError)

    def test_exitIsAnError(self) -> None:
        """
        Even what would end the program.
        """
        source = AsyncIteratorSource(aiter(Numbers(0, SystemExit(1))))
        batch = self.successResultOf(source.pull(1))
        self.assertIsNotNone(batch.error)
        self.assertIn("SystemExit", str(failureOf(batch.error).value))

    def test_close(self) -> None:
        """
        A generator runs its C{finally}, once, which may await.
        """
        wait: Deferred[None] = Deferred()
        events: list[str] = []

        async def generate() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                events.append("begin")
                await wait
                events.append("end")

        source = AsyncIteratorSource(generate())
        self.assertEqual(self.successResultOf(source.pull(1)).items, [1])
        source.close()
        source.close()
        self.assertEqual(events, ["begin"])
        wait.callback(None)
        self.assertEqual(events, ["begin", "end"])

    def test_closeAnIteratorWhileAwaiting(self) -> None:
        """
        An iterator that is no generator is closed as well when what it awaits has been cancelled.
        """

        class Waiting:
            closed = 0

            def __aiter__(self) -> AsyncIterator[int]:
                return self

            async def __anext__(self) -> int:
                return await Deferred()

            async def aclose(self) -> None:
                self.closed += 1

        iterator = Waiting()
        source = AsyncIteratorSource(iterator)
        pulled = Outcome(source.pull(1))
        source.close()
        self.assertEqual((pulled.fired, iterator.closed), (1, 1))
        source.close()
        self.assertEqual(iterator.closed, 1)

    def test_closeWhileAwaiting(self) -> None:
        """
        What the generator awaits is cancelled, and it is closed.
        """
        cancelled: list[bool] = []
        wait: Deferred[None] = Deferred(lambda _: cancelled.append(True))
        events: list[str] = []

        async def generate() -> AsyncIterator[int]:
            try:
                await wait
                yield 1
            except CancelledError:
                events.append("cancelled")
                raise
            finally:
                events.append("finally")

        source = AsyncIteratorSource(generate())
        outcome = Outcome(source.pull(1))
        source.close()
        self.assertEqual((cancelled, events), ([True], ["cancelled", "finally"]))
        self.assertEqual(outcome.fired, 1)

    def test_closeWhileAwaitingUnmoved(self) -> None:
        """
        A generator that does not mind being cancelled is closed after the item at hand.
        """
        wait: Deferred[None] = Deferred()
        numbers = Numbers(0)

        async def generate() -> AsyncIterator[int]:
            try:
                try:
                    await wait
                except CancelledError:
                    yield 1
                yield 2
            finally:
                numbers._close()

        source = AsyncIteratorSource(generate())
        outcome = Outcome(source.pull(1))
        source.close()
        self.assertEqual((outcome.fired, numbers.closed), (1, 1))

    def test_closeRaises(self) -> None:
        """
        An exception of the generator's C{finally} is logged.
        """

        async def generate() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise ValueError("wrong")

        source = AsyncIteratorSource(generate())
        source.pull(1)
        source.close()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopsItself(self) -> None:
        """
        A generator that stops its own stream is closed when it has given the item at hand, whatever it has awaited.
        """
        for begun in (False, True):
            wait: Deferred[None] = succeed(None) if begun else Deferred()
            numbers = Numbers(0)
            errors: list[BaseException] = []
            holder: list[Deferator] = []
            # Bound now, for what is defined in a loop.
            generator = self.stopping(wait, numbers, errors, holder)
            deferator = self.overAsync(generator)
            holder.append(deferator)
            result = reading(deferator)
            if not begun:
                wait.callback(None)
            self.assertEqual(errors, [])
            self.assertEqual((numbers.closed, result.kinds), (1, [CancelledError]))
            self.assertIs(self.successResultOf(deferator.d), False)

    async def stopping(
        self, wait: Deferred[None], numbers: Numbers, errors: list[BaseException], holder: list[Deferator]
    ) -> AsyncIterator[int]:
        """
        Stop the stream, and go on.
        """
        try:
            await wait
            try:
                holder[0].stop()
            except Exception as error:
                errors.append(error)
            yield 1
            yield 2
        finally:
            numbers._close()

    def test_context(self) -> None:
        """
        What the generator sets stays set for its next step, as it is with any other generator.
        """

        async def generate() -> AsyncIterator[int]:
            for _ in range(3):
                variable.set(variable.get() + 1)
                yield variable.get()

        self.assertEqual(self.read(self.overAsync(generate())).items, [1, 2, 3])
        self.assertEqual(variable.get(), 0)


class CallableSourceTests(IterationTestCase):
    """
    Callables that give one item after another.
    """

    def pull(self, func: Callable[..., Any], *args: Any, **kw: Any) -> Batch:
        """
        Return what a source of a callable gives.
        """
        batch: Batch = self.successResultOf(CallableSource(func, args, kw).pull(WINDOW))
        return batch

    def test_triples(self) -> None:
        """
        The value, whether it is one, and whether there will be another.
        """
        table = [
            ((1, True, True), [1], False),
            ((1, True, False), [1], True),
            ((None, True, True), [None], False),
            ((None, False, False), [], True),
            ((1, False, True), [], True),
        ]
        for triple, items, isLast in table:
            for result in (triple, succeed(triple)):
                batch = self.pull(lambda given=result: given)
                self.assertEqual((batch.items, batch.isLast, batch.error), (items, isLast, None))

    def test_arguments(self) -> None:
        """
        Are those that the source was made with.
        """
        batch = self.pull(lambda *args, **kw: ((args, kw), True, False), 1, 2, name=3)
        self.assertEqual(batch.items, [((1, 2), {"name": 3})])

    def test_coroutine(self) -> None:
        """
        A coroutine function is awaited.
        """

        async def give() -> Any:
            return 1, True, False

        self.assertEqual(self.pull(give).items, [1])

    def test_errors(self) -> None:
        """
        Raised or fired, they end the stream.
        """

        def fails() -> Any:
            return Deferred.fromCoroutine(self.raising())

        for func in (lambda: divmod(1, 0), fails):
            batch = self.pull(func)
            self.assertEqual((batch.items, batch.isLast), ([], True))
            self.assertTrue(failureOf(batch.error).check(ZeroDivisionError))

    async def raising(self) -> None:
        """
        Raise.
        """
        divmod(1, 0)

    def test_wrongResult(self) -> None:
        """
        Is an error that says what is needed.
        """
        results: list[Any] = [None, 1, (1, True), (1, True, False, 4), "four"]
        for result in results:
            failure = failureOf(self.pull(lambda given=result: given).error)
            self.assertTrue(failure.check(TypeError))
            self.assertIn("(value, isValid, moreLeft)", str(failure.value))

    def test_close(self) -> None:
        """
        Cancels what has been promised; what the canceller raises is logged.
        """

        def canceller(_: Deferred[Any]) -> None:
            divmod(1, 0)

        wait: Deferred[Any] = Deferred(canceller)
        source = CallableSource(lambda: wait)
        source.close()
        outcome = Outcome(source.pull(1))
        source.close()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        wait.callback((1, True, True))
        self.assertEqual(outcome.fired, 1)
        other: Deferred[Any] = Deferred()
        source = CallableSource(lambda: other)
        outcome = Outcome(source.pull(1))
        source.close()
        self.assertEqual(outcome.fired, 1)


class WrappedSourceTests(IterationTestCase):
    """
    Iterators that are stepped elsewhere.
    """

    def setUp(self) -> None:
        """
        Make the wrapper.
        """
        super().setUp()
        self.hops = Hops()

    def wrapped(self, numbers: Iterator[Any]) -> Deferator:
        """
        Make a Deferator of an iterator that is stepped in hops.
        """
        return Deferator.over(WrappedSource(numbers, self.hops))

    def test_items(self) -> None:
        """
        All come, in order, many in a hop.
        """
        result = reading(self.wrapped(iter(Numbers(100))))
        self.hops.hopAll()
        self.assertEqual((result.items, result.done.fired), (list(range(100)), 1))
        self.assertLess(self.hops.count, 100)

    def test_ahead(self) -> None:
        """
        The next hop begins when the last item of one has been read, never with more than the window to come.
        """
        numbers = Numbers()
        deferator = self.wrapped(iter(numbers))
        for count in range(100):
            d = next(deferator)
            self.hops.hopAll()
            self.assertEqual(self.successResultOf(d), count)
            self.assertLessEqual(numbers.made, count + 1 + WINDOW)
        deferator.stop()
        self.hops.hopAll()
        self.assertEqual(numbers.closed, 1)

    def test_F50_error(self) -> None:
        """
        Comes after the items before it.
        """
        for count in (0, 3, 40):
            result = reading(self.wrapped(iter(Numbers(count, KeyError("wrong")))))
            self.hops.hopAll()
            self.assertEqual(result.items, list(range(count)))
            self.assertIsInstance(result.errors[0], KeyError)

    def test_close(self) -> None:
        """
        The generator is closed by the wrapper, too.
        """
        numbers = Numbers()
        deferator = self.wrapped(iter(numbers))
        d = next(deferator)
        self.hops.hop()
        self.successResultOf(d)
        while self.hops.waiting:
            self.hops.hop()
        deferator.stop()
        self.assertEqual(numbers.closed, 0)
        self.hops.hop()
        self.assertEqual((numbers.closed, self.hops.waiting), (1, []))

    def test_closeWhileStepping(self) -> None:
        """
        After the hop that is under way.
        """
        numbers = Numbers()
        deferator = self.wrapped(iter(numbers))
        outcome = Outcome(next(deferator))
        self.hops.hop()
        self.hops.hopAll()
        self.assertEqual(outcome.fired, 1)
        asked = [next(deferator) for _ in range(1)]
        deferator.stop()
        self.hops.hopAll()
        self.assertEqual(numbers.closed, 1)
        self.assertEqual(len(asked), 1)

    def test_wrapperFails(self) -> None:
        """
        Its error ends the stream, and the generator is closed nevertheless.
        """
        numbers = Numbers()
        results: list[Any] = [None, Failure(KeyError("no thread"))]

        def wrapper(func: Callable[..., Any], *args: Any) -> Any:
            return results.pop() or func(*args) if results else func(*args)

        generator = iter(numbers)
        next(generator)
        deferator = Deferator.over(WrappedSource(generator, wrapper))
        result = self.read(deferator)
        self.assertIsInstance(result.errors[0], KeyError)
        self.assertEqual(numbers.closed, 1)

    def test_wrapperRaises(self) -> None:
        """
        Likewise.
        """

        def wrapper(func: Callable[..., Any], *args: Any) -> Any:
            raise KeyError("no thread")

        result = self.read(Deferator.over(WrappedSource(iter(Numbers()), wrapper)))
        self.assertIsInstance(result.errors[0], KeyError)
        self.flushLoggedErrors(KeyError)

    def test_wrapperReturnsNothing(self) -> None:
        """
        A wrapper that forgets to return the result of the function is an error, not a wait for ever.
        """
        waits: list[Deferred[None]] = []

        def wrapper(func: Callable[..., Any], *args: Any) -> Any:
            func(*args)
            waits.append(Deferred())
            return waits[-1]

        result = reading(Deferator.over(WrappedSource(iter(Numbers(50)), wrapper)))
        for _ in range(TURNS):
            if result.done.fired or not waits:
                break
            waits.pop().callback(None)
        gc.collect()
        self.assertEqual([str(each.value) for each in self.flushLoggedErrors()], [])
        self.assertEqual(result.done.fired, 1)
        self.assertEqual(len(result.errors), 1)

    def test_closeFails(self) -> None:
        """
        The error is logged.
        """

        def wrapper(func: Callable[..., Any], *args: Any) -> Any:
            if args:
                return func(*args)
            raise KeyError("no thread")

        deferator = Deferator.over(WrappedSource(iter(Numbers()), wrapper))
        self.successResultOf(next(deferator))
        deferator.stop()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
