"""
Failures that have been through other hands, and clocks that are reactors.
"""

from __future__ import annotations

import pickle
from time import monotonic
from typing import Any

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from asynqueue.deferreds.deadline import monotonicOf
from asynqueue.errors import WorkerError
from asynqueue.failures import failureOf


def divide() -> Failure:
    """
    Make a failure as they are made.
    """
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError:
        return Failure()


class FailureOfTests(SynchronousTestCase):
    """
    What becomes of a failure that a worker reports.
    """

    def test_E04_cleaned(self) -> None:
        """
        One that has been cleaned, or has been pickled, has no traceback, and is both kinds of error all the same.
        """
        cleaned = divide()
        cleaned.cleanFailure()
        for failure in (divide(), cleaned, pickle.loads(pickle.dumps(divide()))):
            result = failureOf(failure)
            self.assertTrue(result.check(ZeroDivisionError))
            self.assertTrue(result.check(WorkerError))
            self.assertIn("by nothing", str(result.value))


class MonotonicTests(SynchronousTestCase):
    """
    Which clock goes with which source of timers.
    """

    def test_F92_clocks(self) -> None:
        """
        A reactor has the system's; a test's clock has its own, also where it stands for a reactor.
        """

        class Reactor:
            pass

        reactor: Any = Reactor()
        directlyProvides(reactor, IReactorCore)
        for clock in (Clock(), MemoryReactorClock()):
            clock.advance(5)
            self.assertEqual(monotonicOf(clock)(), 5)
        self.assertIs(monotonicOf(reactor), monotonic)
