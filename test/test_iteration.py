"""
Tests of what counts as an iterator, and of stepping one.
"""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from time import sleep
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.currentcall import currentCall
from asynqueue.errors import WorkerError
from asynqueue.failures import ErrorText, failureOf
from asynqueue.iteration import Deferator, isIterator
from asynqueue.iteration.batches import MEMORY, SPAN, WINDOW, Batch, Stepper
from test.streamed import Numbers

variable: ContextVar[int] = ContextVar("variable", default=0)


def generate() -> Iterator[int]:
    """
    Yield a number.
    """
    yield 1


async def generateLater() -> AsyncIterator[int]:
    """
    Yield a number, asynchronously.
    """
    yield 1


class Countdown:
    """
    An iterator by its class.
    """

    def __init__(self, start: int = 3) -> None:
        self.left = start

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left


class OldCountdown:
    """
    An iterator that lacks C{__iter__}, and has C{close}.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        self.closed = 0
        self.error = error

    def __next__(self) -> int:
        return 1

    def close(self) -> None:
        """
        Count, and raise the error.
        """
        self.closed += 1
        if self.error is not None:
            raise self.error


class Container:
    """
    Something that can be iterated over any number of times.
    """

    def __iter__(self) -> Iterator[int]:
        return iter([1])


class RecognitionTests(SynchronousTestCase):
    """
    isIterator.
    """

    def assertIterators(self, expected: bool, table: dict[str, Any]) -> None:
        """
        Each object of a table is one, or is none.
        """
        wrong = [name for name, obj in table.items() if isIterator(obj) is not expected]
        self.assertEqual(wrong, [])
        wrong = [name for name, obj in table.items() if Deferator.isIterator(obj) is not expected]
        self.assertEqual(wrong, [])

    def test_R10_iterators(self) -> None:
        """
        Whatever gives its items once.
        """
        asynchronous = generateLater()
        self.assertIterators(
            True,
            {
                "generator": generate(),
                "generator expression": (each for each in "abc"),
                "asynchronous generator": asynchronous,
                "map": map(str, [1]),
                "zip": zip([1], [2], strict=True),
                "filter": filter(None, [1]),
                "reversed": reversed([1]),
                "enumerate": enumerate([1]),
                "itertools": itertools.chain([1], [2]),
                "iterator of a list": iter([1]),
                "iterator of a range": iter(range(2)),
                "iterator until a value": iter(int, 1),
                "text file": io.StringIO("text"),
                "binary file": io.BytesIO(b"bytes"),
                "class with __next__": Countdown(),
                "class without __iter__": OldCountdown(),
                "Deferator": Deferator(iter([1])),
            },
        )

    def test_R10_values(self) -> None:
        """
        What can be iterated over again, and what cannot be at all.
        """
        self.assertIterators(
            False,
            {
                "None": None,
                "number": 1,
                "str": "text",
                "bytes": b"bytes",
                "bytearray": bytearray(b"bytes"),
                "memoryview": memoryview(b"bytes"),
                "list": [1],
                "tuple": (1,),
                "dict": {1: 2},
                "dict's items": {1: 2}.items(),
                "set": {1},
                "frozenset": frozenset([1]),
                "deque": deque([1]),
                "range": range(2),
                "class with __iter__ alone": Container(),
                "Deferred": Deferred(),
                "object": object(),
            },
        )

    def test_Z31_functionsAndClasses(self) -> None:
        """
        A function that makes generators is none, nor is a class whose instances are iterators, nor an attribute.
        """
        table = {
            "generator function": generate,
            "asynchronous generator function": generateLater,
            "method": Countdown().__next__,
            "lambda": lambda: generate(),
            "class": Countdown,
            "built-in class": map,
            "attribute": SimpleNamespace(__next__=int, __iter__=int),
        }
        self.assertIterators(False, table)

    def test_subclasses(self) -> None:
        """
        Of plain types are what their class makes of them.
        """

        class Consumed(list[int]):
            def __next__(self) -> int:
                return self.pop()

        self.assertIterators(True, {"list with __next__": Consumed([1])})
        self.assertIterators(False, {"list": type("Other", (list,), {})([1])})


class BatchTests(SynchronousTestCase):
    """
    Batches.
    """

    def test_last(self) -> None:
        """
        A batch with an error is the last.
        """
        error = ValueError("wrong")
        self.assertFalse(Batch([1]).isLast)
        self.assertTrue(Batch([1], isLast=True).isLast)
        self.assertTrue(Batch([1], error=error).isLast)
        self.assertIs(Batch([1], error=error).error, error)

    def test_repr(self) -> None:
        """
        Tells how many items there are, and not which.
        """
        self.assertEqual(repr(Batch(["secret"] * 3)), "<Batch of 3 items>")
        self.assertEqual(repr(Batch([], isLast=True)), "<Batch of 0 items, the last>")


class StepperTests(SynchronousTestCase):
    """
    How many items are taken at a time, and how it ends.
    """

    def takeAll(self, stepper: Stepper, most: int = WINDOW) -> tuple[list[Any], Batch]:
        """
        Take batches until the last, and return the items, and that batch.
        """
        items: list[Any] = []
        while True:
            batch = stepper.take(most)
            self.assertLessEqual(len(batch.items), most)
            items.extend(batch.items)
            if batch.isLast:
                return items, batch
            self.assertGreater(len(batch.items), 0)

    def test_window(self) -> None:
        """
        No more items are taken than are wanted, nor does the iterator run further.
        """
        for most in (1, 2, WINDOW):
            numbers = Numbers()
            stepper = Stepper(iter(numbers))
            self.assertEqual(stepper.take(1).items, [0])
            taken = len(stepper.take(most).items)
            self.assertLessEqual(taken, most)
            self.assertEqual(numbers.made, 1 + taken)
            stepper.close()

    def test_size(self) -> None:
        """
        A batch takes little more memory than it may.
        """
        stepper = Stepper(bytes(MEMORY // 4) for _ in range(10))
        self.assertLessEqual(len(stepper.take(WINDOW).items), 4)
        for size in (MEMORY, 3 * MEMORY):
            large = Stepper(bytes(size) for _ in range(3))
            for _ in range(3):
                batch = large.take(WINDOW)
                self.assertEqual([len(item) for item in batch.items], [size])
                self.assertFalse(batch.isLast)
            self.assertEqual((large.take(WINDOW).items, large.isClosed), ([], True))

    def test_unmeasurable(self) -> None:
        """
        Items of unknown size count for nothing.
        """

        class Unmeasurable:
            def __sizeof__(self) -> int:
                raise TypeError("cannot be measured")

        items, batch = self.takeAll(Stepper(iter([Unmeasurable(), Unmeasurable()])))
        self.assertEqual((len(items), batch.error), (2, None))

    def test_time(self) -> None:
        """
        Items that take long come alone.
        """

        def slow() -> Iterator[int]:
            for number in range(3):
                sleep(2 * SPAN)
                yield number

        stepper = Stepper(slow())
        for number in range(3):
            self.assertEqual(stepper.take(WINDOW).items, [number])

    def test_F50_errorAfterItems(self) -> None:
        """
        An exception of the iterator comes with the items before it.
        """
        for count in (0, 1, 3, 40):
            numbers = Numbers(count, KeyError("wrong"))
            stepper = Stepper(iter(numbers))
            items, batch = self.takeAll(stepper)
            self.assertEqual(items, list(range(count)))
            self.assertIsInstance(batch.error, ErrorText)
            failure = failureOf(batch.error)
            self.assertTrue(failure.check(WorkerError))
            self.assertTrue(failure.check(KeyError))
            self.assertIn("in __iter__", str(failure.value))
            self.assertTrue(stepper.isClosed)
            self.assertEqual(numbers.closed, 1)

    def test_exitIsAnError(self) -> None:
        """
        So is what would end a thread or the program.
        """
        for kind in (SystemExit, GeneratorExit, StopAsyncIteration):
            items, batch = self.takeAll(Stepper(iter(Numbers(2, kind()))))
            self.assertEqual(items, [0, 1])
            self.assertIsNotNone(batch.error)

    def test_end(self) -> None:
        """
        A natural end is no error. Afterwards there is nothing, and closing does nothing.
        """
        numbers = Numbers(20)
        stepper = Stepper(iter(numbers))
        items, batch = self.takeAll(stepper)
        self.assertEqual((items, batch.error, stepper.isClosed), (list(range(20)), None, True))
        stepper.close()
        batch = stepper.take(WINDOW)
        self.assertEqual((batch.items, batch.isLast, batch.error, numbers.closed), ([], True, None, 1))

    def test_close(self) -> None:
        """
        A generator runs its C{finally}, once. Whoever asks for more gets the end.
        """
        numbers = Numbers()
        stepper = Stepper(iter(numbers))
        stepper.take(3)
        stepper.close()
        self.assertEqual((numbers.closed, stepper.isClosed, stepper.isAborted), (1, True, True))
        stepper.close()
        batch = stepper.take(3)
        self.assertEqual((batch.items, batch.isLast, numbers.closed), ([], True, 1))

    def test_closeOfOthers(self) -> None:
        """
        Whatever has a method C{close} is closed, such as a file; what has none is let go.
        """
        file, countdown = io.StringIO("a\nb\nc\n"), OldCountdown()
        anything: Any
        for anything in (file, countdown, Countdown()):
            stepper = Stepper(anything)
            stepper.take(1)
            stepper.close()
            stepper.close()
        self.assertEqual((file.closed, countdown.closed), (True, 1))

    def test_closeRaises(self) -> None:
        """
        An exception of C{close} is logged: the stream is over for its reader.
        """
        for error in (ValueError("wrong"), SystemExit(1)):
            countdown: Any = OldCountdown(error)
            stepper = Stepper(countdown)
            stepper.close()
            self.assertTrue(stepper.isClosed)
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    def test_closeIgnored(self) -> None:
        """
        A generator that goes on when it is closed is an error that is logged.
        """

        def stubborn() -> Iterator[int]:
            while True:
                try:
                    yield 1
                except GeneratorExit:
                    yield 2
                    return

        stepper = Stepper(stubborn())
        stepper.take(1)
        stepper.close()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_closeWhileStepping(self) -> None:
        """
        A generator that closes its own stepper is closed when it has given the item at hand.
        """
        events: list[str] = []

        def closing() -> Iterator[int]:
            try:
                yield 0
                stepper.close()
                events.append("goes on")
                yield 1
                events.append("never")
            finally:
                events.append("finally")

        stepper = Stepper(closing())
        items = [*stepper.take(1).items, *stepper.take(WINDOW).items]
        self.assertEqual((items, events), ([0, 1], ["goes on", "finally"]))
        self.assertTrue(stepper.isClosed)

    def test_takeWhileStepping(self) -> None:
        """
        A generator that asks its own stepper for an item gets none, and is closed.
        """
        inner: list[Batch] = []
        closed: list[bool] = []

        def greedy() -> Iterator[int]:
            try:
                inner.append(stepper.take(1))
                yield 1
            finally:
                closed.append(True)

        stepper = Stepper(greedy())
        stepper.take(WINDOW)
        self.assertEqual([(each.items, each.isLast) for each in inner], [([], True)])
        self.assertEqual((closed, stepper.isClosed), ([True], True))

    def test_abort(self) -> None:
        """
        The item at hand is the last, and the generator is closed; whoever looks at currentCall() knows before.
        """
        seen: list[bool] = []
        task: Any = SimpleNamespace(context=None, cancelled=False)

        def looking() -> Iterator[int]:
            for number in range(5):
                call = currentCall()
                assert call is not None
                if number == 2:
                    stepper.abort()
                    seen.append(call.cancelled)
                yield number

        stepper = Stepper(looking(), task)
        items: list[int] = []
        while not stepper.isClosed:
            items += stepper.take(WINDOW).items
        self.assertEqual((items, seen), ([0, 1, 2], [True]))

    def test_context(self) -> None:
        """
        What the generator sets stays set for its next step, and is nobody else's.
        """

        def counting() -> Iterator[int]:
            for _ in range(3):
                variable.set(variable.get() + 1)
                yield variable.get()

        stepper = Stepper(counting())
        self.assertEqual([stepper.take(1).items for _ in range(3)], [[1], [2], [3]])
        self.assertEqual(variable.get(), 0)
