"""
Tests of Delay and deferToDelay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue.deferreds.delay import LONGEST_GAP, Delay, deferToDelay
from asynqueue.deferreds.tracker import DeferredTracker
from asynqueue.testing import LeakCheckMixin
from test.support import Outcome


class TriggerClock(Clock):
    """
    A virtual clock that has a reactor's way to wait for its end.

    @ivar triggers: What has been added.
    """

    def __init__(self) -> None:
        super().__init__()
        self.triggers: list[Any] = []

    def addSystemEventTrigger(self, *args: Any, **kw: Any) -> int:
        """
        Note it. None of ours is ever removed.
        """
        self.triggers.append((args, kw))
        return len(self.triggers)


class DelayTestCase(SynchronousTestCase):
    """
    Tests on a virtual clock. After each, no timer is left, and nothing that waits for the end of the reactor.
    """

    def setUp(self) -> None:
        """
        Make the clock.
        """
        super().setUp()
        self.clock = TriggerClock()
        self.asked: list[float] = []
        self.addCleanup(self._nothingIsLeft)

    def delay(self, interval: float = 0.001, backoff: float = 1.10, timeout: float | None = None) -> Delay:
        """
        Make a Delay.
        """
        return Delay(interval, backoff, timeout, self.clock)

    def answers(self, *answers: Any) -> Any:
        """
        Return a function that notes when it is asked, and answers, the last again and again.
        """
        left = list(answers)

        def ask() -> Any:
            self.asked.append(self.clock.seconds())
            return left.pop(0) if len(left) > 1 else left[0]

        return ask

    def advance(self, seconds: float, step: float = 0.001) -> None:
        """
        Let time pass in small steps.
        """
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(step)

    def _nothingIsLeft(self) -> None:
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])
        self.assertEqual(self.clock.triggers, [])


class PauseTests(DelayTestCase):
    """
    Waiting for a time.
    """

    def test_seconds(self) -> None:
        """
        The Deferred fires after them, with None.
        """
        outcome = Outcome(self.delay()(2.5))
        self.clock.advance(2.4)
        self.assertEqual(outcome.fired, 0)
        self.clock.advance(0.2)
        self.assertEqual((outcome.fired, outcome.value), (1, None))

    def test_interval(self) -> None:
        """
        Is what is waited for without seconds.
        """
        outcome = Outcome(self.delay(interval=3)())
        self.clock.advance(2.9)
        self.assertEqual(outcome.fired, 0)
        self.clock.advance(0.2)
        self.assertEqual(outcome.fired, 1)

    def test_zero(self) -> None:
        """
        Is the next turn of the reactor.
        """
        outcome = Outcome(self.delay()(0))
        self.assertEqual(outcome.fired, 0)
        self.clock.advance(0)
        self.assertEqual(outcome.fired, 1)

    def test_cancel(self) -> None:
        """
        Ends a wait, and leaves no timer.
        """
        d = self.delay()(5)
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_documentedDefaults(self) -> None:
        """
        Are 1 ms, 1.10, and no timeout.
        """
        delay = Delay()
        self.assertEqual((delay.interval, delay.backoff, delay.timeout), (0.001, 1.10, None))

    def test_backoffOutOfRange(self) -> None:
        """
        Is refused; the ends of the range are not.
        """
        for wrong in (0.99, 1.31, float("nan"), -1):
            with self.assertRaises(ValueError) as caught:
                Delay(backoff=wrong)
            self.assertIn("1.0 to 1.3", str(caught.exception))
        for right in (1.0, 1.3, 1):
            self.assertEqual(Delay(backoff=right).backoff, right)

    def test_badValues(self) -> None:
        """
        Are refused where they are given.
        """
        for keywords in ({"interval": -1}, {"timeout": -0.1}, {"interval": float("inf")}):
            self.assertRaises(ValueError, Delay, **keywords)
        for others in ({"interval": "1"}, {"interval": None}, {"backoff": "1.1"}, {"backoff": True}, {"timeout": "1"}):
            self.assertRaises(TypeError, Delay, **others)
        self.assertRaises(ValueError, self.delay(), -1)
        self.assertRaises(TypeError, self.delay(), "1")

    def test_deferToDelay(self) -> None:
        """
        Is a wait without a Delay; it can be cancelled.
        """
        outcome = Outcome(deferToDelay(1.5, clock=self.clock))
        self.clock.advance(1.4)
        self.assertEqual(outcome.fired, 0)
        self.clock.advance(0.2)
        self.assertEqual((outcome.fired, outcome.value), (1, None))
        d = deferToDelay(1, clock=self.clock)
        cancelled = Outcome(d)
        d.cancel()
        self.assertIs(cancelled.kind, CancelledError)
        wrong: Any
        for wrong in (None, "1", True):
            self.assertRaises(TypeError, deferToDelay, wrong)
        self.assertRaises(ValueError, deferToDelay, -1)


class EventTests(DelayTestCase):
    """
    Waiting for a function to answer true.
    """

    def test_trueAtOnce(self) -> None:
        """
        Then there is no wait.
        """
        outcome = Outcome(self.delay().untilEvent(self.answers("yes")))
        self.assertIs(outcome.value, True)
        self.assertEqual(len(self.asked), 1)

    def test_gapsGrow(self) -> None:
        """
        By the backoff, from the interval on.
        """
        outcome = Outcome(self.delay(0.1, 1.3).untilEvent(self.answers(0, None, "", [], 1)))
        self.advance(2)
        self.assertIs(outcome.value, True)
        gaps = [later - earlier for earlier, later in zip(self.asked, self.asked[1:], strict=False)]
        for gap, expected in zip(gaps, [0.1, 0.13, 0.169, 0.2197], strict=True):
            self.assertApproximates(gap, expected, 0.002)

    def test_gapsAreBounded(self) -> None:
        """
        So that an event is seen soon, however long it took to come.
        """
        d = self.delay(0.5, 1.3).untilEvent(self.answers(False))
        outcome = Outcome(d)
        self.advance(60, 0.05)
        self.assertLessEqual(self.asked[-1] - self.asked[-2], LONGEST_GAP + 0.06)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)

    def test_arguments(self) -> None:
        """
        Are the function's.
        """
        outcome = Outcome(self.delay().untilEvent(lambda *args, **kw: args == (1, 2) and kw == {"x": 3}, 1, 2, x=3))
        self.assertIs(outcome.value, True)

    def test_timeout(self) -> None:
        """
        Fires False, for each call anew.
        """
        delay = self.delay(0.1, timeout=1.0)
        for _ in range(2):
            outcome = Outcome(delay.untilEvent(self.answers(False)))
            self.advance(0.99)
            self.assertEqual(outcome.fired, 0)
            self.advance(0.05)
            self.assertIs(outcome.value, False)

    def test_askedOnceMoreAtTheTimeout(self) -> None:
        """
        What came after the last question is no timeout.
        """
        for last in (True, False):
            outcome = Outcome(self.delay(10, timeout=1).untilEvent(self.answers(False, last)))
            self.clock.advance(1)
            self.assertIs(outcome.value, last)

    def test_error(self) -> None:
        """
        Of the function is that of the wait.
        """
        outcome = Outcome(self.delay().untilEvent(divmod, 1, 0))
        self.assertIs(outcome.kind, ZeroDivisionError)

    def test_errorLater(self) -> None:
        """
        Likewise.
        """
        answers: list[Any] = [0, "wrong"]
        outcome = Outcome(self.delay(0.1, timeout=9).untilEvent(lambda: int(answers.pop(0))))
        self.clock.advance(0.1)
        self.assertIs(outcome.kind, ValueError)

    def test_answerIsDeferred(self) -> None:
        """
        It is waited for, and counts by its result.
        """
        answers: list[Deferred[bool]] = [Deferred(), Deferred()]
        ask = self.answers(*answers)
        outcome = Outcome(self.delay(0.1).untilEvent(ask))
        self.clock.advance(5)
        self.assertEqual(len(self.asked), 1)
        answers[0].callback(False)
        self.clock.advance(0.1)
        self.assertEqual((len(self.asked), outcome.fired), (2, 0))
        answers[1].callback(True)
        self.assertIs(outcome.value, True)

    def test_answerIsLate(self) -> None:
        """
        At the timeout, a Deferred that has not fired is cancelled.
        """
        cancelled: list[Any] = []
        answer: Deferred[bool] = Deferred(cancelled.append)
        outcome = Outcome(self.delay(timeout=1).untilEvent(lambda: answer))
        self.clock.advance(1)
        self.assertIs(outcome.value, False)
        self.assertEqual(cancelled, [answer])

    def test_answerCancelled(self) -> None:
        """
        Cancelling the wait cancels what it waits for.
        """
        cancelled: list[Any] = []
        answer: Deferred[bool] = Deferred(cancelled.append)
        d = self.delay(timeout=1).untilEvent(lambda: answer)
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.assertEqual((outcome.fired, cancelled), (1, [answer]))

    def test_coroutineFunction(self) -> None:
        """
        Answers by what it returns.
        """

        async def ask() -> int:
            return len(self.answers(None)() or "yes")

        self.assertIs(Outcome(self.delay().untilEvent(ask)).value, True)

    def test_notCallable(self) -> None:
        """
        Is refused at the call.
        """
        wrong: Any = True
        self.assertRaises(TypeError, self.delay().untilEvent, wrong)


class ShutdownTests(DelayTestCase):
    """
    Ending all waits.
    """

    def test_Z21_noTriggersAreLeft(self) -> None:
        """
        Waiting adds nothing to what the reactor does at its end, neither during a wait nor after it.
        """
        delay = self.delay(timeout=1)
        for _ in range(50):
            waits: list[Deferred[Any]] = [delay(0.5), delay.untilEvent(self.answers(False))]
            self.assertEqual(self.clock.triggers, [])
            self.clock.advance(0.5)
            self.clock.advance(0.5)
            self.assertEqual([wait.called for wait in waits], [True, True])
        self.assertEqual(self.clock.triggers, [])

    def test_Z21_shutdownEndsAllWaits(self) -> None:
        """
        Of that Delay, and no others.
        """
        delay = self.delay()
        waits: Iterable[Outcome] = [
            Outcome(delay(5)),
            Outcome(delay.untilEvent(self.answers(False))),
            Outcome(delay.untilEvent(Deferred)),
        ]
        other = Outcome(self.delay()(5))
        delay.shutdown()
        self.assertEqual([(each.fired, each.value, each.failure) for each in waits], [(1, None, None)] * 3)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(5)
        self.assertEqual(other.fired, 1)
        delay.shutdown()

    def test_Z21_nothingIsKept(self) -> None:
        """
        A wait that is over is known no more.
        """
        delay = self.delay()
        d = delay(3)
        outcomes = [Outcome(d), Outcome(delay(1)), Outcome(delay.untilEvent(self.answers(True)))]
        d.cancel()
        self.clock.advance(1)
        self.assertEqual([each.fired for each in outcomes], [1, 1, 1])
        self.assertEqual(delay._waits, {})

    def test_shutdownFromTheFunction(self) -> None:
        """
        Ends that wait, too, whatever the function answers.
        """
        answers: tuple[Any, ...] = (True, False, Deferred())
        for answer in answers:
            delay = self.delay()

            def ask(delay: Delay = delay, answer: Any = answer) -> Any:
                delay.shutdown()
                return answer

            outcome = Outcome(delay.untilEvent(ask))
            self.assertEqual((outcome.fired, outcome.value), (1, None))

    def test_waitsAfterwards(self) -> None:
        """
        Are waits as ever, so that a loop around one does not spin.
        """
        delay = self.delay()
        delay.shutdown()
        outcome = Outcome(delay(1))
        self.assertEqual(outcome.fired, 0)
        self.clock.advance(1)
        self.assertEqual(outcome.fired, 1)


class GlobalReactorTests(LeakCheckMixin, TestCase):
    """
    Waiting without a clock of one's own.
    """

    timeout = 30

    async def test_Z32_reactorIsFoundWhenNeeded(self) -> None:
        """
        It is the global one.
        """
        await deferToDelay(0.01)
        delay = Delay(timeout=0.02)
        await delay()
        self.assertIs(await delay.untilEvent(self.answers(0, 0, 1)), True)
        self.assertIs(await delay.untilEvent(self.answers(0)), False)
        tracker = DeferredTracker()
        tracker.put(delay(0.01))
        self.assertIs(await tracker.deferToAll(timeout=0.001), False)
        self.assertIs(await tracker.deferToAll(timeout=20), True)

    def answers(self, *answers: int) -> Callable[[], int]:
        """
        Return a function that answers, the last again and again.
        """
        left = list(answers)
        return lambda: left.pop(0) if len(left) > 1 else left[0]
