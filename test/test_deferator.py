"""
Tests of Deferators: the documented protocol, C{async for}, and leaving early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, succeed

from asynqueue.errors import NotReadyError, WorkerError
from asynqueue.failures import errorText
from asynqueue.iteration import Deferator, Prefetcherator
from asynqueue.iteration.batches import Batch
from test.streamed import IterationTestCase, Numbers, Reading, ScriptedSource, reading, yielding
from test.support import Outcome

reactor: Any = globalReactor

#: Seconds; a test takes less than one.
TIMEOUT = 30


class DeferatorTestCase(IterationTestCase):
    """
    Tests of Deferators over scripted sources.
    """

    def scripted(self, *ready: Batch, **keywords: Any) -> Deferator:
        """
        Make a Deferator of a source that the test scripts.
        """
        self.source = ScriptedSource(*ready, **keywords)
        return Deferator.over(self.source, "numbers")

    def everyWay(self, make: Callable[[], Deferator]) -> Iterator[tuple[str, Reading]]:
        """
        Read to the end in each of the two ways.
        """
        yield "yield", self.yielded(make())
        yield "async for", self.read(make())


class MakingTests(DeferatorTestCase):
    """
    What a Deferator can be made of.
    """

    def test_R11_iterator(self) -> None:
        """
        Any iterator.
        """
        for _, result in self.everyWay(lambda: Deferator(iter("abc"))):
            self.assertEqual((result.items, result.errors), (["a", "b", "c"], []))

    def test_asynchronousIterator(self) -> None:
        """
        And any asynchronous one.
        """
        for _, result in self.everyWay(lambda: Deferator(aiter(Numbers(3)))):
            self.assertEqual((result.items, result.errors), ([0, 1, 2], []))

    def test_R11_callable(self) -> None:
        """
        A callable that returns C{(value, isValid, moreLeft)}, or a Deferred of it, with its arguments.
        """

        def make(isDeferred: bool) -> Deferator:
            left = [3, 2, 1]

            def func(factor: int, offset: int = 0) -> Any:
                item = left.pop() * factor + offset, True, bool(left)
                return succeed(item) if isDeferred else item

            return Deferator("numbers", func, 10, offset=1)

        for isDeferred in (False, True):
            for _, result in self.everyWay(lambda isDeferred=isDeferred: make(isDeferred)):  # type: ignore[misc]
                self.assertEqual((result.items, result.errors), ([11, 21, 31], []))

    def test_R11_prefetcherator(self) -> None:
        """
        A Prefetcherator.
        """

        def make() -> Deferator:
            fetcher = Prefetcherator("ID")
            self.assertTrue(self.successResultOf(fetcher.setup(iter("abc"))))
            return Deferator(fetcher)

        for _, result in self.everyWay(make):
            self.assertEqual((result.items, result.errors), (["a", "b", "c"], []))

    def test_values(self) -> None:
        """
        Anything else is refused, and so is a callable that is none.
        """
        values: list[Any] = [[1], "text", None, range(3), Numbers]
        for value in values:
            self.assertRaises(TypeError, Deferator, value)
        wrong: Any = "callable"
        with self.assertRaises(TypeError) as caught:
            Deferator("numbers", wrong)
        self.assertIn("'callable'", str(caught.exception))

    def test_repr(self) -> None:
        """
        Tells what is iterated over, and how far it has come.
        """
        deferator = self.scripted(Batch([1, 2], isLast=True))
        self.assertEqual(repr(deferator), "<Deferator of numbers: flowing, 0 items delivered>")
        next(deferator)
        self.assertEqual(repr(deferator), "<Deferator of numbers: ended, 1 items delivered>")
        self.yielded(deferator)
        self.assertEqual(repr(deferator), "<Deferator of numbers: concluded, 2 items delivered>")


class ProtocolTests(DeferatorTestCase):
    """
    Asking for Deferreds.
    """

    def test_R11_later(self) -> None:
        """
        Each item comes when it is known whether there is another one.
        """
        result = yielding(self.scripted())
        self.source.answer("a")
        self.assertEqual(result.items, [])
        self.source.answer("b")
        self.assertEqual(result.items, ["a"])
        self.source.answer("c", "d", isLast=True)
        self.assertEqual((result.items, result.errors, result.done.fired), (["a", "b", "c", "d"], [], 1))

    def test_R11_laterFromOneThatTells(self) -> None:
        """
        Or at once where the source tells that.
        """
        result = yielding(self.scripted(tellsEnd=True))
        self.source.answer("a")
        self.assertEqual(result.items, ["a"])
        self.source.answer("b", isLast=True)
        self.assertEqual((result.items, result.errors, result.done.fired), (["a", "b"], [], 1))

    def test_R11_notReady(self) -> None:
        """
        Asking again before an item is there is an error, and costs nothing.
        """
        deferator = self.scripted(tellsEnd=True)
        outcome = Outcome(next(deferator))
        self.assertRaises(NotReadyError, next, deferator)
        self.assertRaises(NotReadyError, aiter, deferator)
        self.source.answer("a")
        self.assertEqual(outcome.value, "a")
        d = next(deferator)
        self.source.answer("b", isLast=True)
        self.assertEqual(self.successResultOf(d), "b")
        self.assertRaises(StopIteration, next, deferator)

    def test_R11_stop(self) -> None:
        """
        Each Deferred has what leaves the iteration: no more items, and the generator is closed.
        """
        numbers = Numbers()
        deferator = self.over(iter(numbers))
        result = self.yielded(deferator, 3)
        self.assertEqual((result.items, result.errors), ([0, 1, 2], []))
        self.assertEqual(numbers.closed, 1)
        self.assertIs(self.successResultOf(deferator.d), False)
        self.assertFalse(deferator.moreLeft)
        self.assertRaises(StopIteration, next, deferator)
        self.assertRaises(NotReadyError, aiter, deferator)

    def test_stopWhileWaiting(self) -> None:
        """
        Whoever waits gets a CancelledError, and what comes late is nobody's.
        """
        for isTheItems in (False, True):
            deferator = self.scripted()
            d: Any = next(deferator)
            outcome = Outcome(d)
            stopped = d if isTheItems else deferator
            stopped.stop()
            self.assertIs(outcome.kind, CancelledError)
            self.assertEqual(self.source.closed, 1)
            self.source.answer("late", isLast=True)
            self.assertEqual(outcome.fired, 1)
            self.assertRaises(StopIteration, next, deferator)
            self.assertIs(self.successResultOf(deferator.d), False)

    def test_stopAtTheLastItem(self) -> None:
        """
        Is a stop.
        """
        deferator = self.scripted(Batch(["a", "b"], isLast=True))
        result = self.yielded(deferator, 2)
        self.assertEqual((result.items, self.source.closed), (["a", "b"], 0))

    def test_stopAfterTheEnd(self) -> None:
        """
        Does nothing.
        """
        deferator = self.over(iter(Numbers(3)))
        self.yielded(deferator)
        deferator.stop()
        self.assertIs(self.successResultOf(deferator.d), True)

    def test_R11_d(self) -> None:
        """
        Is true when all has been iterated over, false after an error.
        """
        for way in (self.yielded, self.read):
            for error, expected in ((None, True), (KeyError("wrong"), False)):
                deferator = self.over(iter(Numbers(3, error)))
                self.assertNoResult(deferator.d)
                way(deferator)
                self.assertIs(self.successResultOf(deferator.d), expected)

    def test_R11_moreLeft(self) -> None:
        """
        Is true until the last item, or the error, is out.
        """
        deferator = self.scripted(Batch(["a", "b"], isLast=True))
        seen = [deferator.moreLeft]
        for _ in range(2):
            self.successResultOf(next(deferator))
            seen.append(deferator.moreLeft)
        self.assertEqual(seen, [True, True, False])
        deferator = self.scripted(Batch(["a"], error=errorText(KeyError("wrong"))))
        self.successResultOf(next(deferator))
        self.assertTrue(deferator.moreLeft)
        self.assertIs(self.failureResultOf(next(deferator)).check(KeyError), KeyError)
        self.assertFalse(deferator.moreLeft)

    def test_R11_attributes(self) -> None:
        """
        Others are those of C{d}; private ones are nobody's.
        """
        deferator = self.over(iter("abc"))
        outcomes: list[Any] = []
        deferator.addCallback(outcomes.append)
        self.assertFalse(deferator.called)
        self.yielded(deferator)
        self.assertEqual((outcomes, deferator.called), ([True], True))
        for name in ("_private", "nothing", "__len__"):
            self.assertFalse(hasattr(deferator, name))

    def test_empty(self) -> None:
        """
        Nothing to iterate over is no iteration.
        """
        for _, result in self.everyWay(lambda: self.over(iter(()))):
            self.assertEqual((result.items, result.errors), ([], []))
        deferator = self.over(iter(()))
        self.assertRaises(StopIteration, next, deferator)
        self.assertIs(self.successResultOf(deferator.d), True)
        self.assertFalse(deferator.moreLeft)

    def test_emptyInTheEnd(self) -> None:
        """
        Where that turns out only after a Deferred has been handed out, this fails as iterations end.
        """
        deferator = self.scripted()
        outcome = Outcome(next(deferator))
        self.source.answer(isLast=True)
        self.assertIs(outcome.kind, StopAsyncIteration)
        self.assertRaises(StopIteration, next, deferator)
        self.assertIs(self.successResultOf(deferator.d), True)
        result = reading(self.scripted())
        self.source.answer(isLast=True)
        self.assertEqual((result.items, result.errors, result.done.fired), ([], [], 1))

    def test_Z22_errorInTheMiddle(self) -> None:
        """
        Reaches whoever iterates, after the items before it, as what it was and as a WorkerError. Then it is over.
        """
        for count in (0, 1, 2, 16, 40):
            for way, result in self.everyWay(lambda count=count: self.over(iter(Numbers(count, KeyError("no"))))):  # type: ignore[misc]
                self.assertEqual(result.items, list(range(count)), way)
                self.assertEqual(len(result.errors), 1, way)
                self.assertIsInstance(result.errors[0], KeyError)
                self.assertIsInstance(result.errors[0], WorkerError)

    def test_Z22_errorLater(self) -> None:
        """
        Likewise where the items come later.
        """
        for read in (reading, yielding):
            for count in (0, 1, 3):
                result = read(self.scripted())
                if count:
                    self.source.answer(*range(count))
                self.source.answer(error=errorText(KeyError("no")))
                self.assertEqual((result.items, result.done.fired), (list(range(count)), 1))
                self.assertEqual([isinstance(each, KeyError) for each in result.errors], [True])

    def test_cancelLosesNothing(self) -> None:
        """
        An item whose Deferred is cancelled is the next one's.
        """
        deferator = self.scripted()
        d = next(deferator)
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        second = Outcome(next(deferator))
        self.source.answer("a", "b")
        self.assertEqual((outcome.fired, second.value), (1, "a"))
        third = next(deferator)
        third.addErrback(lambda _: None)
        third.cancel()
        self.source.answer("c", isLast=True)
        self.assertEqual(self.yielded(deferator).items, ["b", "c"])

    def test_itemsThatAreFalse(self) -> None:
        """
        Come as any others.
        """
        items: list[Any] = [None, 0, "", False, []]
        for _, result in self.everyWay(lambda: self.over(iter(items))):
            self.assertEqual((result.items, result.errors), (items, []))

    def test_itemsThatAreDeferreds(self) -> None:
        """
        Come as they are from C{async for}.
        """
        items: list[Deferred[Any]] = [Deferred(), succeed(1)]
        self.assertEqual(self.read(self.over(iter(items))).items, items)

    def test_manyItems(self) -> None:
        """
        Are no deep stack.
        """
        for _, result in self.everyWay(lambda: self.over(iter(range(20_000)))):
            self.assertEqual(result.items, list(range(20_000)))


class AsyncForTests(DeferatorTestCase):
    """
    C{async for}.
    """

    def leave(self, how: str, numbers: Numbers) -> Outcome:
        """
        Leave a loop in the middle, while something else still knows the Deferator.
        """
        self.deferator = self.over(iter(numbers))

        async def read() -> int:
            async for item in self.deferator:
                if item == 3:
                    if how == "break":
                        break
                    if how == "return":
                        return 3
                    raise KeyError("wrong")
            return -1

        outcome = Outcome(Deferred.fromCoroutine(read()))
        self.settle(outcome)
        return outcome

    def test_leaving(self) -> None:
        """
        By break, return or an exception: the generator is closed.
        """
        for how, value, kind in (("break", -1, None), ("return", 3, None), ("raise", None, KeyError)):
            numbers = Numbers()
            outcome = self.leave(how, numbers)
            self.assertEqual((outcome.value, outcome.kind), (value, kind))
            self.assertEqual(numbers.closed, 1)
            self.assertIs(self.successResultOf(self.deferator.d), False)
            with self.assertRaises(NotReadyError) as caught:
                aiter(self.deferator)
            self.assertIn("left before its end", str(caught.exception))

    def test_cancelledReader(self) -> None:
        """
        A coroutine that is cancelled while it waits leaves.
        """
        deferator = self.scripted()

        async def read() -> None:
            async for _ in deferator:
                pass

        d = Deferred.fromCoroutine(read())
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.assertEqual(self.source.closed, 1)
        self.source.answer("late")

    def test_anext(self) -> None:
        """
        Asking twice before an item is there is an error; a Deferred that is cancelled loses no item.
        """
        deferator = self.scripted()
        reader = aiter(deferator)
        self.assertIs(aiter(reader), reader)
        first = Deferred.fromCoroutine(anext(reader))
        outcome = Outcome(first)
        self.assertIs(Outcome(Deferred.fromCoroutine(anext(reader))).kind, NotReadyError)
        first.cancel()
        self.assertIs(outcome.kind, CancelledError)
        second = Outcome(Deferred.fromCoroutine(anext(reader)))
        self.source.answer("a", isLast=True)
        self.assertEqual(second.value, "a")
        for _ in range(2):
            self.assertIs(Outcome(Deferred.fromCoroutine(anext(reader))).kind, StopAsyncIteration)
        self.assertIs(self.successResultOf(deferator.d), True)

    def test_F56_twoReaders(self) -> None:
        """
        The second is refused, and the first is not disturbed.
        """
        deferator = self.scripted()
        first = reading(deferator)
        second = reading(deferator)
        self.assertEqual((second.items, second.kinds), ([], [NotReadyError]))
        self.assertRaises(NotReadyError, next, deferator)
        self.source.answer("a")
        self.assertRaises(NotReadyError, next, deferator)
        self.source.answer("b", isLast=True)
        self.assertEqual((first.items, first.errors), (["a", "b"], []))

    def test_oneAfterTheOther(self) -> None:
        """
        Items asked for one by one first, then the rest.
        """
        deferator = self.over(iter("abc"))
        self.assertEqual(self.successResultOf(next(deferator)), "a")
        self.assertEqual(self.read(deferator).items, ["b", "c"])
        self.assertEqual(self.read(deferator).items, [])

    def test_afterTheEnd(self) -> None:
        """
        There is nothing, and an error is not raised twice.
        """
        for count in (0, 3):
            deferator = self.over(iter(Numbers(count, KeyError("wrong"))))
            self.read(deferator)
            self.assertEqual(self.read(deferator).errors, [])
            self.assertRaises(StopIteration, next, deferator)

    def test_stopWhileWaiting(self) -> None:
        """
        The loop gets a CancelledError.
        """
        deferator = self.scripted()
        result = reading(deferator)
        deferator.stop()
        self.assertEqual(result.kinds, [CancelledError])

    def test_engineEndsIt(self) -> None:
        """
        The error comes behind the items.
        """
        for read in (reading, yielding):
            deferator = self.scripted(Batch(["a"]))
            result = read(deferator)
            deferator.stream.fail(ValueError("given up"))
            self.assertEqual(result.items, ["a"])
            self.assertEqual([isinstance(each, ValueError) for each in result.errors], [True])
            self.assertEqual((result.done.fired, self.source.closed), (1, 1))
