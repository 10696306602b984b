"""
Tests of DeferredLock.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.deferreds.lock import DeferredLock
from test.support import Outcome


class LockTestCase(SynchronousTestCase):
    """
    Tests of a lock.
    """

    def setUp(self) -> None:
        """
        Make the lock, and note who gets it.
        """
        super().setUp()
        self.lock = DeferredLock()
        self.order: list[Any] = []

    def want(self, name: Any, vip: bool = False) -> Deferred[Any]:
        """
        Wait for the lock, and note a name when it is there.
        """
        d = self.lock.acquire(vip=vip)
        d.addCallbacks(lambda _: self.order.append(name), lambda _: self.order.append(f"not {name}"))
        return d


class AcquireTests(LockTestCase):
    """
    Who gets the lock, and when.
    """

    def test_L25_isTwisteds(self) -> None:
        """
        It is a lock of Twisted's, with all that those do.
        """
        self.assertIsInstance(self.lock, defer.DeferredLock)
        self.assertFalse(self.lock.locked)
        self.assertIs(self.successResultOf(self.lock.acquire()), self.lock)
        self.assertTrue(self.lock.locked)
        ran = Outcome(self.lock.run(lambda value: value, 5))
        self.assertEqual(ran.fired, 0)
        self.lock.release()
        self.assertEqual(ran.value, 5)
        self.assertFalse(self.lock.locked)

    def test_L25_vipsFirst(self) -> None:
        """
        Vips go ahead of others, and are in order among themselves.
        """
        for name, vip in [("first", False), ("a", False), ("B", True), ("c", False), ("D", True), ("E", True)]:
            self.want(name, vip)
        for _ in range(5):
            self.lock.release()
        self.assertEqual(self.order, ["first", "B", "D", "E", "a", "c"])
        self.lock.release()
        self.assertFalse(self.lock.locked)

    def test_L25_vipOfAFreeLock(self) -> None:
        """
        Gets it, and takes it from nobody who has it.
        """
        self.want("A", True)
        self.want("b")
        self.want("C", True)
        self.assertEqual(self.order, ["A"])

    def test_L25_vipsAfterVips(self) -> None:
        """
        Those that come when earlier ones are through keep their place.
        """
        self.want("first")
        self.want("a")
        self.want("B", True)
        self.lock.release()
        self.want("C", True)
        self.want("d")
        self.want("E", True)
        for _ in range(4):
            self.lock.release()
        self.assertEqual(self.order, ["first", "B", "C", "E", "a", "d"])

    def test_cancel(self) -> None:
        """
        A waiter that is cancelled is out of the line, and the others keep their places.
        """
        self.want("first")
        waiters = [self.want(name, name.isupper()) for name in "aBcDe"]
        waiters[1].cancel()
        waiters[2].cancel()
        self.want("F", True)
        for _ in range(4):
            self.lock.release()
        self.assertEqual(self.order, ["first", "not B", "not c", "D", "F", "a", "e"])

    def test_cancelTheHolder(self) -> None:
        """
        Is without effect.
        """
        d = self.want("first")
        d.cancel()
        self.assertTrue(self.lock.locked)

    def test_acquireAndRelease(self) -> None:
        """
        Is over when those before are through, and keeps nobody waiting.
        """
        self.want("first")
        passing = Outcome(self.lock.acquireAndRelease())
        self.want("second")
        vip = Outcome(self.lock.acquireAndRelease(vip=True))
        self.assertEqual((passing.fired, vip.fired), (0, 0))
        self.lock.release()
        self.assertEqual((passing.fired, vip.fired, self.order), (1, 1, ["first", "second"]))
        self.lock.release()
        self.assertEqual(Outcome(self.lock.acquireAndRelease()).fired, 1)
        self.assertFalse(self.lock.locked)

    def test_cancelAcquireAndRelease(self) -> None:
        """
        Is out of the line.
        """
        self.want("first")
        d = self.lock.acquireAndRelease()
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.assertEqual(self.lock.waiting, [])

    def test_manyWaiters(self) -> None:
        """
        Who releases the lock as soon as it is theirs does so in no deeper stack than the one before.
        """
        self.want("first")
        for _ in range(5_000):
            self.lock.acquireAndRelease()
        last = self.want("last")
        self.lock.release()
        self.assertEqual(self.order, ["first", "last"])
        self.successResultOf(last)

    def test_nobodyPushesIn(self) -> None:
        """
        Who releases the lock and wants it again at once is behind those who wait.
        """

        def again(lock: DeferredLock) -> None:
            lock.release()
            self.want("again")

        self.want("first")
        self.lock.acquire().addCallback(again)
        self.want("second")
        self.lock.release()
        self.assertEqual(self.order, ["first", "second"])
        self.lock.release()
        self.assertEqual(self.order, ["first", "second", "again"])
        self.lock.release()
        self.assertFalse(self.lock.locked)

    def test_releaseTooOften(self) -> None:
        """
        Is an error, as with Twisted's; with zombies allowed it is let pass.
        """
        with self.assertRaises(AssertionError) as caught:
            self.lock.release()
        self.assertIn("nobody has it", str(caught.exception))
        DeferredLock(allowZombies=True).release()


class ContextTests(LockTestCase):
    """
    Blocks that hold the lock.
    """

    def test_L25_withBlock(self) -> None:
        """
        Its value is the Deferred of acquire; its end releases the lock.
        """
        with self.lock.context() as d:
            self.assertIs(self.successResultOf(d), self.lock)
            self.assertTrue(self.lock.locked)
        self.assertFalse(self.lock.locked)

    def test_L25_vipContext(self) -> None:
        """
        Goes ahead of ordinary waiters.
        """

        @inlineCallbacks
        def work(name: str, vip: bool) -> Any:
            with self.lock.context(vip) as d:
                yield d
                self.order.append(name)

        self.want("first")
        outcomes = [Outcome(work("a", False)), Outcome(work("B", True))]
        self.lock.release()
        self.assertEqual(self.order, ["first", "B", "a"])
        self.assertEqual([each.fired for each in outcomes], [1, 1])
        self.assertFalse(self.lock.locked)

    def test_L25_asynchronousBlock(self) -> None:
        """
        Begins when the lock is held.
        """

        async def work() -> None:
            async with self.lock.context(vip=True) as lock:
                self.assertIs(lock, self.lock)
                self.order.append("work")

        self.want("first")
        self.want("second")
        outcome = Outcome(Deferred.fromCoroutine(work()))
        self.lock.release()
        self.assertEqual((self.order, outcome.fired), (["first", "work", "second"], 1))

    def test_errorInTheBlock(self) -> None:
        """
        Goes on, and the lock is released.
        """
        with self.assertRaises(ZeroDivisionError), self.lock.context():
            divmod(1, 0)
        self.assertFalse(self.lock.locked)

    def test_blockLeftBeforeTheLockCame(self) -> None:
        """
        The wait is over, and no error is left.
        """
        self.want("first")
        with self.lock.context() as d:
            self.assertNoResult(d)
        self.assertEqual(self.lock.waiting, [])
        self.successResultOf(d)
        self.assertTrue(self.lock.locked)

    def test_cancelledInTheBlock(self) -> None:
        """
        Likewise, and the lock stays with who has it.
        """

        async def work(asynchronous: bool) -> None:
            if asynchronous:
                async with self.lock.context():
                    self.order.append("work")
            else:
                with self.lock.context() as d:
                    await d
                    self.order.append("work")

        self.want("first")
        for asynchronous in (False, True):
            d = Deferred.fromCoroutine(work(asynchronous))
            outcome = Outcome(d)
            d.cancel()
            self.assertIs(outcome.kind, CancelledError)
            self.assertEqual(self.lock.waiting, [])
        self.assertTrue(self.lock.locked)
        self.lock.release()
        self.assertEqual(self.order, ["first"])

    def test_oneBlockAtATime(self) -> None:
        """
        A context within itself is an error, not a wait for ever.
        """
        context = self.lock.context()
        with context:
            self.assertRaises(RuntimeError, context.__enter__)
        with context as d:
            self.successResultOf(d)
        self.assertFalse(self.lock.locked)


class StopTests(LockTestCase):
    """
    The end of a lock.
    """

    def test_L25_stop(self) -> None:
        """
        Comes after those who wait, then the stoppers are called, one after the other is done.
        """
        slow: Deferred[None] = Deferred()

        def stopper(name: str, *, result: Any = None) -> Any:
            self.order.append(name)
            return result

        async def coroutine() -> None:
            self.order.append("coroutine")

        self.lock.addStopper(stopper, "slow", result=slow)
        self.lock.addStopper(stopper, "quick")
        self.lock.addStopper(coroutine)
        self.want("first")
        self.want("second")
        outcome = Outcome(self.lock.stop())
        self.lock.release()
        self.assertEqual(self.order, ["first", "second"])
        self.lock.release()
        self.assertEqual((self.order, outcome.fired), (["first", "second", "slow"], 0))
        slow.callback(None)
        self.assertEqual(self.order, ["first", "second", "slow", "quick", "coroutine"])
        self.assertEqual((outcome.fired, outcome.value, outcome.failure), (1, None, None))

    def test_L25_afterwardsAcquiringSucceeds(self) -> None:
        """
        At once, for all, and releasing is without effect.
        """
        for zombies in (False, True):
            self.lock = DeferredLock(allowZombies=zombies)
            self.successResultOf(self.lock.stop())
            for vip in (False, True):
                self.assertIs(self.successResultOf(self.lock.acquire(vip)), self.lock)
            self.successResultOf(self.lock.acquireAndRelease())
            with self.lock.context() as d:
                self.successResultOf(d)
            self.assertEqual(self.successResultOf(self.lock.run(len, "abc")), 3)
            self.lock.release()
            self.lock.release()

    def test_L25_comersDuringTheEnd(self) -> None:
        """
        Who comes after stop waits for those who have the lock; then all get it. Vips go ahead, as ever.
        """
        self.want("first")
        self.want("second")
        outcome = Outcome(self.lock.stop())
        self.want("late")
        self.want("later")
        self.want("VIP", True)
        self.lock.release()
        self.assertEqual(self.order, ["first", "VIP"])
        self.lock.release()
        self.assertEqual((self.order, outcome.fired), (["first", "VIP", "second"], 0))
        self.lock.release()
        self.assertEqual((self.order, outcome.fired), (["first", "VIP", "second", "late", "later"], 1))

    def test_stopperWantsTheLock(self) -> None:
        """
        It gets it.
        """
        self.lock.addStopper(lambda: self.want("stopper"))
        self.want("first")
        outcome = Outcome(self.lock.stop())
        self.lock.release()
        self.assertEqual((self.order, outcome.fired), (["first", "stopper"], 1))

    def test_failingStopper(self) -> None:
        """
        Keeps no other from being called. The first failure is that of stop, the others are logged.
        """
        self.lock.addStopper(divmod, 1, 0)
        self.lock.addStopper(int, "wrong")
        self.lock.addStopper(self.order.append, "called")
        outcomes = [Outcome(self.lock.stop()), Outcome(self.lock.stop())]
        self.assertEqual([each.kind for each in outcomes], [ZeroDivisionError] * 2)
        self.assertEqual(self.order, ["called"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIs(self.successResultOf(self.lock.acquire()), self.lock)

    def test_stopTwice(self) -> None:
        """
        Is one end, for which both wait. One that is cancelled waits no more; the lock ends nevertheless.
        """
        self.lock.addStopper(self.order.append, "stopper")
        self.want("first")
        stops = [self.lock.stop() for _ in range(3)]
        outcomes = [Outcome(each) for each in stops]
        stops[1].cancel()
        self.lock.release()
        self.assertEqual([each.kind for each in outcomes], [None, CancelledError, None])
        self.assertEqual([each.fired for each in outcomes], [1, 1, 1])
        self.assertEqual(self.order, ["first", "stopper"])
        self.successResultOf(self.lock.stop())
        self.assertEqual(self.order, ["first", "stopper"])

    def test_stopperAfterTheEnd(self) -> None:
        """
        Is called at once; its failure is logged.
        """
        self.successResultOf(self.lock.stop())
        self.lock.addStopper(self.order.append, "late")
        self.assertEqual(self.order, ["late"])
        self.lock.addStopper(divmod, 1, 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(self.lock.stop())

    def test_stopperThatAddsOne(self) -> None:
        """
        Has it called, too.
        """
        self.lock.addStopper(lambda: self.lock.addStopper(self.order.append, "second"))
        self.successResultOf(self.lock.stop())
        self.assertEqual(self.order, ["second"])

    def test_waitersCancelOneAnother(self) -> None:
        """
        While all get in at the end.
        """
        self.want("first")
        outcome = Outcome(self.lock.stop())
        others: list[Deferred[Any]] = []
        self.lock.acquire().addCallback(lambda _: others[0].cancel())
        others.append(self.want("other"))
        self.lock.release()
        self.assertEqual((self.order, outcome.fired), (["first", "not other"], 1))

    def test_stopperNotCallable(self) -> None:
        """
        Is refused at the call.
        """
        wrong: Any = "stopper"
        self.assertRaises(TypeError, self.lock.addStopper, wrong)
