"""
Tests for the smaller parts of the demo: L{demo.baseline}, L{demo.heartbeat}, L{demo.interrupts} and L{demo.tally}.
"""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from demo.baseline import OneByOne
from demo.heartbeat import Heartbeat
from demo.interrupts import SIGNALS, SignalCatcher
from demo.sources import findSources
from demo.tally import Lane, SeriesCount, Tally, WorkerCount


class OneByOneTests(SynchronousTestCase):
    """
    Tests for L{OneByOne}.
    """

    def setUp(self) -> None:
        root = Path(self.mktemp())
        root.mkdir(parents=True)
        for name in ("a", "b", "c"):
            (root / f"{name}.py").write_text("if a:\n" if name == "b" else "a = 1\n", encoding="utf-8")
        self.sources = findSources(root)
        self.clock = Clock()
        self.done: list[int] = []
        self.now = 0.0

    def tick(self) -> float:
        """
        A timer that goes on by two seconds whenever it is read, so that each file takes a turn of its own.
        """
        self.now += 2
        return self.now

    def test_all(self) -> None:
        """
        The reactor gets its turns, files that cannot be parsed are reported, and only measuring counts as time.
        """
        oneByOne = OneByOne(self.sources, self.clock, progressed=self.done.append, timer=self.tick)
        running = oneByOne.run()
        self.assertNoResult(running)
        self.assertEqual(self.done, [1])
        self.clock.advance(0)
        self.assertEqual(self.done, [1, 2, 3])
        baseline = self.successResultOf(running)
        self.assertEqual([report.name for report in baseline.reports], ["a.py", "b.py", "c.py"])
        self.assertEqual([report.problem is None for report in baseline.reports], [True, False, True])
        self.assertEqual((baseline.seconds, baseline.complete), (6.0, True))

    def test_oneTurn(self) -> None:
        """
        Quick files share a turn.
        """
        running = OneByOne(self.sources, self.clock, progressed=self.done.append, timer=lambda: 1.0).run()
        self.assertEqual(self.done, [3])
        self.clock.advance(0)
        self.assertTrue(self.successResultOf(running).complete)

    def test_stop(self) -> None:
        oneByOne = OneByOne(self.sources, self.clock, timer=self.tick)
        running = oneByOne.run()
        oneByOne.stop()
        self.clock.advance(0)
        baseline = self.successResultOf(running)
        self.assertEqual((len(baseline.reports), baseline.seconds, baseline.complete), (1, 2.0, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HeartbeatTests(SynchronousTestCase):
    """
    Tests for L{Heartbeat}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.beats: list[float] = []
        self.heartbeat = Heartbeat(
            self.clock, lambda: self.beats.append(self.clock.seconds()), interval=1, timer=self.clock.seconds
        )

    def test_steady(self) -> None:
        self.heartbeat.start()
        self.clock.pump([1] * 3)
        self.assertEqual(self.beats, [1, 2, 3])
        self.assertEqual(self.heartbeat.stop(), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        The longest of several pauses is told, and a new start forgets it.
        """
        self.heartbeat.start()
        self.clock.pump([1, 3.5, 0.5, 2, 1])
        self.assertEqual(self.heartbeat.stop(), 2.5)
        self.heartbeat.start()
        self.clock.advance(1)
        self.assertEqual(self.heartbeat.stop(), 0)

    def test_stillWaiting(self) -> None:
        """
        A pause that has not ended with a beat counts, too.
        """
        self.heartbeat.start()
        self.clock.rightNow += 5
        self.assertEqual(self.heartbeat.stop(), 4)

    def test_stopTwice(self) -> None:
        self.heartbeat.start()
        self.heartbeat.stop()
        self.assertEqual(self.heartbeat.stop(), 0)


@implementer(IReactorFromThreads)
class ThreadReactor:
    """
    Remembers what it is to call, until it is its turn.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        self.calls.append((partial(callable, **kwargs), args))

    def turn(self) -> None:
        """
        Call it.
        """
        while self.calls:
            function, args = self.calls.pop(0)
            function(*args)


class SignalCatcherTests(SynchronousTestCase):
    """
    Tests for L{SignalCatcher}.
    """

    def test_caught(self) -> None:
        """
        Signals are told to the function in the reactor, each time.
        """
        if platform.isWindows():
            self.skipTest("Signals end the process on Windows")
        reactor = ThreadReactor()
        self.assertTrue(verifyObject(IReactorFromThreads, reactor))
        caught: list[int] = []
        with SignalCatcher(reactor, caught.append):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
        self.assertEqual(caught, [])
        reactor.turn()
        self.assertEqual(caught, [signal.SIGINT, signal.SIGTERM, signal.SIGINT])

    def test_restored(self) -> None:
        """
        What was in place before is back afterwards, after an error as well.
        """

        def handlers() -> list[object]:
            return [signal.getsignal(number) for number in SIGNALS]

        def catch() -> None:
            with SignalCatcher(ThreadReactor(), print):
                self.assertNotEqual(handlers(), before)
                raise ZeroDivisionError

        before = handlers()
        self.assertRaises(ZeroDivisionError, catch)
        self.assertEqual(handlers(), before)


@frozen
class FakeWorkerStatistics:
    """
    What a queue's statistics say of a worker.
    """

    ID: int
    kind: str
    finished: int


class TallyTests(SynchronousTestCase):
    """
    Tests for L{Tally}.
    """

    one = Lane("one", None, 0)
    two = Lane("two", "two", 10)

    def tally(self, ended: str) -> Tally:
        tally = Tally([self.one, self.two])
        for after, name in enumerate(ended):
            lane = self.one if name == "1" else self.two
            tally.submitted(lane)
            tally.finished(lane, float(after))
        return tally

    def test_series(self) -> None:
        tally = self.tally("112")
        tally.submitted(self.two)
        self.assertEqual(tally.series(), (SeriesCount(self.one, 2, 2, 1.0), SeriesCount(self.two, 2, 1, 2.0)))

    def test_workers(self) -> None:
        """
        The latest figures count, and a worker that has gone keeps its.
        """
        tally = self.tally("")
        tally.observed([FakeWorkerStatistics(2, "Some", 1), FakeWorkerStatistics(1, "Other", 3)])
        tally.observed([FakeWorkerStatistics(2, "Some", 5)])
        self.assertEqual(tally.workers(), (WorkerCount(1, "Other", 3), WorkerCount(2, "Some", 5)))

    def test_contested(self) -> None:
        """
        Calls count until the first of the two lanes has ended its last.
        """
        for ended, contested in (
            ("112112112111", (6, 3)),
            ("121222", (2, 1)),
            ("12", (1, 0)),
            ("111", (0, 0)),
            ("", (0, 0)),
        ):
            self.assertEqual(self.tally(ended).contested(self.one, self.two), contested, ended)
