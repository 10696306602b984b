"""
Tests of DeferredTracker and callAfterDeferred.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.deferreds.tracker import DeferredTracker, callAfterDeferred
from test.support import Outcome
from test.test_delay import TriggerClock


class TrackerTestCase(SynchronousTestCase):
    """
    Tests on a virtual clock. After each, no timer is left, and nothing that waits for the end of the reactor.
    """

    def setUp(self) -> None:
        """
        Make a tracker of three Deferreds.
        """
        super().setUp()
        self.clock = TriggerClock()
        self.tracker = DeferredTracker(clock=self.clock)
        self.tracked: list[Deferred[Any]] = [self.tracker.put(Deferred()) for _ in range(3)]
        self.addCleanup(self._nothingIsLeft)

    def fire(self, number: int) -> None:
        """
        Fire one of the Deferreds, and let the reactor turn.
        """
        self.tracked[number].callback(number)
        self.clock.advance(0)

    def assertFired(self, outcome: Outcome, value: bool) -> None:
        """
        A wait has ended, once.
        """
        self.assertEqual((outcome.fired, outcome.value, outcome.failure), (1, value, None))

    def assertWaits(self, outcome: Outcome) -> None:
        """
        A wait goes on.
        """
        self.assertEqual(outcome.fired, 0)

    def _nothingIsLeft(self) -> None:
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])
        self.assertEqual(self.clock.triggers, [])
        self.assertEqual(self.tracker._waiters, {})


class TrackingTests(TrackerTestCase):
    """
    What is tracked.
    """

    def test_untouched(self) -> None:
        """
        What is put is given back, and has the results that it had.
        """
        d: Deferred[str] = Deferred()
        self.assertIs(self.tracker.put(d), d)
        d.callback("value")
        self.assertEqual(self.successResultOf(d), "value")
        failing: Deferred[str] = self.tracker.put(Deferred())
        failing.errback(KeyError("it"))
        self.failureResultOf(failing, KeyError)

    def test_failuresStayUnhandled(self) -> None:
        """
        Tracking is no handling.
        """
        self.tracker.put(Deferred()).errback(KeyError("nobody cares"))
        import gc

        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_notADeferred(self) -> None:
        """
        Is refused at the call.
        """
        wrong: Any = "result"
        self.assertRaises(TypeError, self.tracker.put, wrong)

    def test_notWaiting(self) -> None:
        """
        Tells whether there is nothing left.
        """
        self.assertFalse(self.tracker.notWaiting())
        for number in range(3):
            self.assertFalse(self.tracker.notWaiting())
            self.fire(number)
        self.assertTrue(self.tracker.notWaiting())
        self.tracker.put(succeed(None))
        self.assertTrue(self.tracker.notWaiting())

    def test_constructor(self) -> None:
        """
        Takes an interval and a backoff, as it did when it polled, within their ranges.
        """
        self.assertTrue(DeferredTracker(0.01, 1.2).notWaiting())
        self.assertRaises(ValueError, DeferredTracker, backoff=2)
        self.assertRaises(ValueError, DeferredTracker, interval=-1)
        wrong: Any = "1"
        self.assertRaises(TypeError, DeferredTracker, wrong)

    def test_badValues(self) -> None:
        """
        Are refused at the call.
        """
        wrong: Any
        for wrong in (None, "1", 1.5):
            self.assertRaises(TypeError, self.tracker.deferUntilFewer, wrong)
        for number in (0, -1):
            self.assertRaises(ValueError, self.tracker.deferUntilFewer, number)
        self.assertRaises(ValueError, self.tracker.deferToAll, timeout=-1)
        wrong = "1"
        self.assertRaises(TypeError, self.tracker.deferToAny, timeout=wrong)


class WaitingTests(TrackerTestCase):
    """
    Waiting for what is tracked.
    """

    def test_all(self) -> None:
        """
        Fires True when the last has fired, in whatever order.
        """
        outcome = Outcome(self.tracker.deferToAll())
        for number in (2, 0):
            self.fire(number)
            self.assertWaits(outcome)
        self.fire(1)
        self.assertFired(outcome, True)

    def test_allFailing(self) -> None:
        """
        A failure is an end like any other.
        """
        outcome = Outcome(self.tracker.deferToAll())
        for d in self.tracked:
            d.addErrback(lambda _: None)
            d.errback(KeyError())
        self.clock.advance(0)
        self.assertFired(outcome, True)

    def test_allOfMore(self) -> None:
        """
        Those that are put meanwhile are waited for, too.
        """
        outcome = Outcome(self.tracker.deferToAll())
        self.fire(0)
        self.tracked.append(self.tracker.put(Deferred()))
        self.fire(1)
        self.fire(2)
        self.assertWaits(outcome)
        self.fire(3)
        self.assertFired(outcome, True)

    def test_any(self) -> None:
        """
        Fires True when the next has fired.
        """
        for number in (1, 0):
            outcome = Outcome(self.tracker.deferToAny())
            self.assertWaits(outcome)
            self.fire(number)
            self.assertFired(outcome, True)

    def test_fewer(self) -> None:
        """
        Fires True when there are fewer than N.
        """
        two = Outcome(self.tracker.deferUntilFewer(2))
        three = Outcome(self.tracker.deferUntilFewer(3))
        self.assertFired(Outcome(self.tracker.deferUntilFewer(4)), True)
        self.fire(0)
        self.assertFired(three, True)
        self.assertWaits(two)
        self.fire(1)
        self.assertFired(two, True)

    def test_nothingToWaitFor(self) -> None:
        """
        All fire True at once.
        """
        tracker = DeferredTracker(clock=self.clock)
        for wait in (tracker.deferToAll(), tracker.deferToAny(), tracker.deferUntilFewer(1), tracker.deferToAll(5)):
            self.assertFired(Outcome(wait), True)

    def test_callbacksComeFirst(self) -> None:
        """
        What has been added to a Deferred since it was put has run when the wait is over.
        """
        results: list[Any] = []
        seen: list[list[Any]] = []
        self.tracker.deferToAll().addCallback(lambda _: seen.append(list(results)))
        for d in self.tracked:
            d.addCallback(results.append)
        for number in range(3):
            self.fire(number)
        self.assertEqual(seen, [[0, 1, 2]])

    def test_aMomentIsEnough(self) -> None:
        """
        What has happened has happened, whatever is put before the next turn.
        """
        outcome = Outcome(self.tracker.deferToAll(timeout=0.5))
        for number in range(3):
            self.tracked[number].callback(None)
        self.tracker.put(Deferred())
        self.clock.advance(1)
        self.assertFired(outcome, True)

    def test_noPolling(self) -> None:
        """
        A wait without a timeout has no timer, however long it takes, and ends in the turn after the event.
        """
        outcome = Outcome(self.tracker.deferToAll())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100_000)
        for d in self.tracked:
            d.callback(None)
        self.clock.advance(0)
        self.assertFired(outcome, True)

    def test_timeouts(self) -> None:
        """
        Fire False; what is tracked stays so.
        """
        waits = [
            Outcome(self.tracker.deferToAll(timeout=1.0)),
            Outcome(self.tracker.deferToAny(timeout=1.0)),
            Outcome(self.tracker.deferUntilFewer(2, timeout=1.0)),
        ]
        self.clock.advance(0.9)
        for outcome in waits:
            self.assertWaits(outcome)
        self.clock.advance(0.2)
        for outcome in waits:
            self.assertFired(outcome, False)
        self.assertFalse(self.tracker.notWaiting())
        again = Outcome(self.tracker.deferToAll())
        for number in range(3):
            self.fire(number)
        self.assertFired(again, True)
        for outcome in waits:
            self.assertFired(outcome, False)

    def test_timeoutNotNeeded(self) -> None:
        """
        Its timer is gone with the wait.
        """
        outcome = Outcome(self.tracker.deferToAny(timeout=100))
        self.fire(0)
        self.assertFired(outcome, True)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """
        Ends a wait, before or after its event, and no other.
        """
        first, second = self.tracker.deferToAny(timeout=5), self.tracker.deferToAny()
        outcomes = [Outcome(first), Outcome(second), Outcome(self.tracker.deferToAny())]
        first.cancel()
        self.tracked[0].callback(None)
        second.cancel()
        self.clock.advance(0)
        self.assertEqual([each.kind for each in outcomes], [CancelledError, CancelledError, None])
        self.assertFired(outcomes[2], True)

    def test_Z21_noTriggersAreLeft(self) -> None:
        """
        Waiting adds nothing to what the reactor does at its end.
        """
        for _ in range(50):
            outcome = Outcome(self.tracker.deferToAll(timeout=0.1))
            self.assertEqual(self.clock.triggers, [])
            self.clock.advance(0.1)
            self.assertFired(outcome, False)
        self.assertEqual(self.clock.triggers, [])

    def test_manyAtOnce(self) -> None:
        """
        A hundred thousand are counted one by one, and no stack grows.
        """
        tracker = DeferredTracker(clock=self.clock)
        many: list[Deferred[None]] = [tracker.put(Deferred()) for _ in range(100_000)]
        outcome = Outcome(tracker.deferToAll())
        for d in many:
            d.callback(None)
        self.clock.advance(0)
        self.assertFired(outcome, True)


class AddedWaitTests(TrackerTestCase):
    """
    Waits that are no Deferreds, and the end of all.
    """

    def test_addWait(self) -> None:
        """
        Counts as one more until removeWait.
        """
        self.tracker.addWait()
        outcome = Outcome(self.tracker.deferToAll())
        for number in range(3):
            self.fire(number)
        self.assertWaits(outcome)
        self.assertFalse(self.tracker.notWaiting())
        self.tracker.removeWait()
        self.clock.advance(0)
        self.assertFired(outcome, True)
        self.assertTrue(self.tracker.notWaiting())

    def test_addWaitTwice(self) -> None:
        """
        Is taken back twice, and once too often does no harm.
        """
        self.tracker.addWait()
        self.tracker.addWait()
        self.tracker.removeWait()
        for number in range(3):
            self.fire(number)
        self.assertFalse(self.tracker.notWaiting())
        self.tracker.removeWait()
        self.tracker.removeWait()
        self.assertTrue(self.tracker.notWaiting())
        self.tracker.addWait()
        self.assertFalse(self.tracker.notWaiting())
        self.tracker.removeWait()

    def test_quitWaiting(self) -> None:
        """
        Ends the waits that there are, with False; what is tracked stays so.
        """
        waits = [
            Outcome(self.tracker.deferToAll()),
            Outcome(self.tracker.deferToAny(timeout=5)),
            Outcome(self.tracker.deferUntilFewer(2)),
        ]
        self.tracker.quitWaiting()
        for outcome in waits:
            self.assertFired(outcome, False)
        later = Outcome(self.tracker.deferToAll())
        self.assertWaits(later)
        for number in range(3):
            self.fire(number)
        self.assertFired(later, True)

    def test_quitWaitingAfterTheEvent(self) -> None:
        """
        Tells the truth about those whose turn would have been next.
        """
        outcome = Outcome(self.tracker.deferToAny())
        self.tracked[0].callback(None)
        self.tracker.quitWaiting()
        self.assertFired(outcome, True)


class AfterDeferredTests(SynchronousTestCase):
    """
    Calling a function after an attribute has fired.
    """

    def setUp(self) -> None:
        """
        Make an object with a Deferred.
        """
        super().setUp()
        self.d: Deferred[Any] = Deferred()
        self.namespace = SimpleNamespace(d=self.d)
        self.called: list[Any] = []

    def note(self, *args: Any, **kw: Any) -> str:
        """
        Note a call.
        """
        self.called.append((args, kw, hasattr(self.namespace, "d")))
        return "noted"

    def test_after(self) -> None:
        """
        The attribute is gone by then, and its result is what it was.
        """
        outcome = Outcome(callAfterDeferred(self.namespace, "d", self.note, 1, x=2))
        self.assertEqual((self.called, outcome.fired), ([], 0))
        self.d.callback("value")
        self.assertEqual(self.called, [((1,), {"x": 2}, False)])
        self.assertEqual(outcome.value, "noted")
        self.assertEqual(self.successResultOf(self.d), "value")

    def test_afterFailure(self) -> None:
        """
        Likewise; the failure remains to be handled.
        """
        outcome = Outcome(callAfterDeferred(self.namespace, "d", self.note))
        self.d.errback(KeyError())
        self.assertEqual((outcome.value, hasattr(self.namespace, "d")), ("noted", False))
        self.failureResultOf(self.d, KeyError)

    def test_nothingToWaitFor(self) -> None:
        """
        The function is called at once.
        """
        for namespace in (SimpleNamespace(), SimpleNamespace(d=None), SimpleNamespace(d=succeed(1))):
            self.assertEqual(Outcome(callAfterDeferred(namespace, "d", self.note)).value, "noted")
            self.assertIsNone(getattr(namespace, "d", None))

    def test_several(self) -> None:
        """
        Are called in their order.
        """
        outcomes = [Outcome(callAfterDeferred(self.namespace, "d", self.note, number)) for number in range(3)]
        self.d.callback(None)
        self.assertEqual([args for args, _, _ in self.called], [(0,), (1,), (2,)])
        self.assertEqual([each.value for each in outcomes], ["noted"] * 3)

    def test_replaced(self) -> None:
        """
        Another Deferred under that name stays.
        """
        outcome = Outcome(callAfterDeferred(self.namespace, "d", self.note))
        another = self.namespace.d = Deferred()
        self.d.callback(None)
        self.assertEqual(outcome.fired, 1)
        self.assertIs(self.namespace.d, another)

    def test_attributeOfTheClass(self) -> None:
        """
        Cannot be removed from an object, which is no reason not to call.
        """

        class Owner:
            d = self.d

        outcome = Outcome(callAfterDeferred(Owner(), "d", self.note))
        self.d.callback(None)
        self.assertEqual(outcome.value, "noted")

    def test_results(self) -> None:
        """
        Those of Deferreds and coroutines are waited for; errors are failures.
        """
        inner: Deferred[str] = Deferred()
        waiting = Outcome(callAfterDeferred(self.namespace, "d", lambda: inner))

        async def function() -> str:
            return "awaited"

        awaited = Outcome(callAfterDeferred(self.namespace, "d", function))
        failing = Outcome(callAfterDeferred(self.namespace, "d", divmod, 1, 0))
        self.d.callback(None)
        self.assertEqual((waiting.fired, awaited.value, failing.kind), (0, "awaited", ZeroDivisionError))
        inner.callback("inner")
        self.assertEqual(waiting.value, "inner")

    def test_cancel(self) -> None:
        """
        Keeps the function from being called, and leaves the Deferred alone.
        """
        d = callAfterDeferred(self.namespace, "d", self.note)
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.assertNoResult(self.d)
        self.d.callback("value")
        self.assertEqual(self.called, [])

    def test_refused(self) -> None:
        """
        What is no Deferred and what is no function, at the call.
        """
        wrong: Any = "function"
        self.assertRaises(TypeError, callAfterDeferred, SimpleNamespace(d=1), "d", self.note)
        self.assertRaises(TypeError, callAfterDeferred, self.namespace, "d", wrong)
