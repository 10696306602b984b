"""
Tests of Prefetcherators.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from asynqueue.errors import NotReadyError
from asynqueue.iteration import Prefetcherator
from test.streamed import IterationTestCase, Numbers
from test.support import Outcome


class PrefetcheratorTests(IterationTestCase):
    """
    Prefetcherators.
    """

    def test_R12_items(self) -> None:
        """
        Each comes with whether it is one, and whether there is another; behind the last there is none.
        """
        fetcher = Prefetcherator("some ID")
        self.assertEqual(fetcher.ID, "some ID")
        self.assertIsNone(Prefetcherator().ID)
        self.assertFalse(fetcher.isBusy())
        self.assertIs(self.successResultOf(fetcher.setup(iter("ab"))), True)
        self.assertTrue(fetcher.isBusy())
        self.assertEqual(self.successResultOf(fetcher.getNext()), ("a", True, True))
        self.assertEqual(self.successResultOf(fetcher.getNext()), ("b", True, False))
        self.assertFalse(fetcher.isBusy())
        for _ in range(2):
            self.assertEqual(self.successResultOf(fetcher.getNext()), (None, False, False))

    def test_R12_setup(self) -> None:
        """
        Is false for what is of neither kind, for what is empty, and while busy; then it can be done again.
        """
        fetcher = Prefetcherator()
        values: list[Any] = [None, [1], "text", 5, iter(()), lambda: (None, False, False)]
        for value in values:
            self.assertIs(self.successResultOf(fetcher.setup(value)), False)
            self.assertFalse(fetcher.isBusy())
        self.assertEqual(self.successResultOf(fetcher.getNext()), (None, False, False))
        for items in ("a", "b"):
            self.assertIs(self.successResultOf(fetcher.setup(iter(items))), True)
            self.assertIs(self.successResultOf(fetcher.setup(iter("other"))), False)
            self.assertEqual(self.successResultOf(fetcher.getNext()), (items, True, False))

    def test_R12_callable(self) -> None:
        """
        A callable is asked for one item ahead, with its arguments.
        """
        asked: list[Any] = []
        waits: list[Deferred[Any]] = []

        def func(*args: Any, **kw: Any) -> Deferred[Any]:
            asked.append((args, kw))
            waits.append(Deferred())
            return waits[-1]

        fetcher = Prefetcherator()
        begun = Outcome(fetcher.setup(func, 1, name=2))
        self.assertEqual((asked, begun.fired), ([((1,), {"name": 2})], 0))
        waits[0].callback(("a", True, True))
        self.assertIs(begun.value, True)
        first = fetcher.getNext()
        self.assertEqual(self.successResultOf(first), ("a", True, True))
        second = Outcome(fetcher.getNext())
        self.assertRaises(NotReadyError, fetcher.getNext)
        waits[1].callback(("b", True, False))
        self.assertEqual(second.value, ("b", True, False))
        self.assertEqual(len(asked), 2)

    def test_errors(self) -> None:
        """
        An exception comes after the items before it: where it is the first thing, from setup.
        """
        fetcher = Prefetcherator()
        failure = self.failureResultOf(fetcher.setup(iter(Numbers(0, KeyError("wrong")))))
        self.assertTrue(failure.check(KeyError))
        self.assertFalse(fetcher.isBusy())
        self.assertIs(self.successResultOf(fetcher.setup(iter(Numbers(2, KeyError("wrong"))))), True)
        for number in range(2):
            self.assertEqual(self.successResultOf(fetcher.getNext()), (number, True, True))
        self.assertTrue(self.failureResultOf(fetcher.getNext()).check(KeyError))
        self.assertFalse(fetcher.isBusy())
        self.assertEqual(self.successResultOf(fetcher.getNext()), (None, False, False))

    def test_cancelLosesNothing(self) -> None:
        """
        An item whose Deferred is cancelled is the next one's.
        """
        waits: list[Deferred[Any]] = [succeed(("a", True, True)), Deferred(), succeed(("c", True, False))]
        remaining = iter(waits)
        fetcher = Prefetcherator()
        self.successResultOf(fetcher.setup(lambda: next(remaining)))
        self.successResultOf(fetcher.getNext())
        d = fetcher.getNext()
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        waits[1].callback(("b", True, True))
        self.assertEqual(self.successResultOf(fetcher.getNext()), ("b", True, True))

    def test_dropped(self) -> None:
        """
        Closes the generator.
        """
        numbers = Numbers()
        fetcher = Prefetcherator()
        self.successResultOf(fetcher.setup(iter(numbers)))
        del fetcher
        self.assertEqual(numbers.closed, 1)

    def test_repr(self) -> None:
        """
        Tells the ID and whether it is busy.
        """
        fetcher = Prefetcherator("some ID")
        self.assertEqual(repr(fetcher), "<Prefetcherator 'some ID', idle>")
        fetcher.setup(iter("a"))
        self.assertEqual(repr(fetcher), "<Prefetcherator 'some ID', busy>")

    def test_failureAsAResult(self) -> None:
        """
        What a callable fires with as a failure is an error.
        """
        fetcher = Prefetcherator()
        d = fetcher.setup(lambda: Failure(KeyError("wrong")))
        self.assertTrue(self.failureResultOf(d).check(KeyError))
