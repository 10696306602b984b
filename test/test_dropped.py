"""
Tests of Deferators that nobody refers to any more, in whatever thread that comes to pass.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from asynqueue.iteration import Deferator, Prefetcherator
from asynqueue.testing import LeakCheckMixin
from test.streamed import IterationTestCase, Numbers, ScriptedSource

reactor: Any = globalReactor

#: Seconds; a test takes less than one.
TIMEOUT = 30


class DroppedTests(IterationTestCase):
    """
    Deferators that nobody refers to any more.
    """

    def test_dropped(self) -> None:
        """
        The generator is closed at once, whether or not it has been read from.
        """
        for count in (1, 3):
            numbers = Numbers()
            deferator = self.over(iter(numbers))
            for _ in range(count):
                self.successResultOf(next(deferator))
            del deferator
            self.assertEqual(numbers.closed, 1)
        numbers = Numbers()
        self.read(self.over(iter(numbers)), 2)
        self.assertEqual(numbers.closed, 1)

    def test_R11_leftWithoutStop(self) -> None:
        """
        As a program may that breaks out of the documented loop.
        """
        numbers = Numbers()

        @inlineCallbacks
        def first(deferator: Deferator) -> Any:
            for d in deferator:
                item = yield d
                return item

        self.assertEqual(self.successResultOf(first(self.over(iter(numbers)))), 0)
        self.assertEqual(numbers.closed, 1)

    def test_inACycle(self) -> None:
        """
        The collector closes it.
        """
        numbers = Numbers()
        deferator = self.over(iter(numbers))
        self.successResultOf(next(deferator))
        cycle: list[Any] = [deferator]
        cycle.append(cycle)
        del cycle, deferator
        self.turn()
        gc.collect()
        self.assertEqual(numbers.closed, 1)

    def test_sourceForgetsItsPull(self) -> None:
        """
        A reader and a source that are gone together leave no error in the log.
        """
        source = ScriptedSource()
        deferator = Deferator.over(source)
        d = next(deferator)
        del deferator, d
        gc.collect()
        source._pending = None
        del source
        gc.collect()
        self.assertEqual([str(each.value) for each in self.flushLoggedErrors()], [])

    def test_notMade(self) -> None:
        """
        One that could not be made is dropped without a word.
        """
        wrong: Any = 5
        self.assertRaises(TypeError, Deferator, wrong)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_afterItsPrefetcherator(self) -> None:
        """
        Stopping a Deferator over a Prefetcherator closes what that iterates over, and that can begin again.
        """
        numbers = Numbers()
        fetcher = Prefetcherator()
        self.successResultOf(fetcher.setup(iter(numbers)))
        deferator = Deferator(fetcher)
        self.successResultOf(next(deferator))
        deferator.stop()
        self.assertEqual(numbers.closed, 1)
        self.assertFalse(fetcher.isBusy())


class CollectorTests(LeakCheckMixin, TestCase):
    """
    The cyclic collector in another thread, on the real reactor.
    """

    timeout = TIMEOUT

    def abandon(self, numbers: Numbers) -> None:
        """
        Read an item, and leave a cycle.
        """
        deferator = Deferator(iter(numbers))
        self.assertEqual(self.successResultOf(next(deferator)), 0)
        cycle: list[Any] = [deferator]
        cycle.append(cycle)

    @inlineCallbacks
    def collectElsewhere(self, numbers: Numbers) -> Any:
        """
        Have the collector run in another thread.
        """
        gc.collect()
        gc.disable()
        try:
            self.abandon(numbers)
            yield deferLater(reactor, 0)
            yield deferLater(reactor, 0)
            self.assertEqual(numbers.closed, 0)
            yield deferToThread(gc.collect)
        finally:
            gc.enable()
        yield deferLater(reactor, 0)

    @inlineCallbacks
    def test_collectedInAnotherThread(self) -> Any:
        """
        The generator is closed, once.
        """
        numbers = Numbers()
        yield self.collectElsewhere(numbers)
        self.assertEqual(numbers.closed, 1)

    @inlineCallbacks
    def test_dropped(self) -> Any:
        """
        The last reference may be dropped in another thread; the source is closed in the reactor's.
        """
        threads: list[int] = []

        class Closing(ScriptedSource):
            def close(self) -> None:
                threads.append(threading.get_ident())

        holder = [Deferator.over(Closing())]
        yield deferToThread(holder.clear)
        yield deferLater(reactor, 0)
        self.assertEqual(threads, [threading.get_ident()])
