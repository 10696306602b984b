"""
Tests of compatibility: what AsynQueue 0.9.9 has in asynqueue.util and asynqueue.info, and delays.
"""

from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import twisted.internet.defer
import twisted.internet.protocol
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

import asynqueue
from asynqueue.info import Info, InfoHolder, hashIt, showResult, whichThread
from asynqueue.testing import LeakCheckMixin
from asynqueue.util import (
    CallRunner,
    DeferredLock,
    DeferredTracker,
    ProcessProtocol,
    callAfterDeferred,
    killProcess,
    o2p,
    p2o,
)
from test.compat import Program
from test.support import Outcome

reactor: Any = globalReactor

#: Seconds; a test takes less than one.
TIMEOUT = 30

#: A program that says when it is ready, and then does nothing for longer than the test may take.
IDLE = "import sys, time; print('ready', flush=True); time.sleep(100)"


def func(*args: Any, **kw: Any) -> Any:
    """
    Return the first argument.
    """
    return args[0] if args else None


def divide(dividend: float, divisor: float) -> float:
    """
    Return the quotient.
    """
    return dividend / divisor


def count(number: int) -> Iterator[int]:
    """
    Yield the numbers below one.
    """
    yield from range(number)


class Thing:
    """
    Something with a method, equal to all of its kind.
    """

    def method(self, value: Any) -> Any:
        """
        Return the value.
        """
        return value

    @showResult
    def shown(self, value: Any) -> Any:
        """
        Return the value, and show it.
        """
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    __hash__ = None  # type: ignore[assignment]


class PickleTests(SynchronousTestCase):
    """
    util.o2p and util.p2o.
    """

    def test_util_o2p(self) -> None:
        """
        Makes a pickle, and nothing of what is empty.
        """
        self.assertEqual(pickle.loads(o2p({"key": [1, 2]})), {"key": [1, 2]})
        empty: tuple[Any, ...] = ([], (), {})
        for each in empty:
            self.assertEqual(o2p(each), b"")

    def test_util_p2o(self) -> None:
        """
        Is the object of the pickle, or the default for nothing.
        """
        self.assertEqual(p2o(pickle.dumps((1, "text"))), (1, "text"))
        self.assertIsNone(p2o(b""))
        self.assertEqual(p2o(b"", []), [])
        self.assertEqual(p2o(b"", default={}), {})

    def test_util_thereAndBack(self) -> None:
        """
        What is false, but not empty, comes back.
        """
        for value in (None, 0, False, "", b""):
            self.assertEqual(p2o(o2p(value), "default"), value)


class AfterTests(SynchronousTestCase):
    """
    util.callAfterDeferred.
    """

    class Namespace:
        """
        Something that has the Deferred.
        """

        d: Any

    def setUp(self) -> None:
        """
        Make one.
        """
        super().setUp()
        self.namespace = self.Namespace()

    def test_util_callAfterDeferred(self) -> None:
        """
        Calls the function when the attribute has fired, which is then removed.
        """
        awaited = self.namespace.d = Deferred()
        called = callAfterDeferred(self.namespace, "d", int, "ff", base=16)
        self.assertNoResult(called)
        awaited.callback(None)
        self.assertEqual(self.successResultOf(called), 255)
        self.assertFalse(hasattr(self.namespace, "d"))

    def test_util_callAfterDeferredThatHasFired(self) -> None:
        """
        Now.
        """
        self.namespace.d = succeed(None)
        self.assertEqual(self.successResultOf(callAfterDeferred(self.namespace, "d", func, 5)), 5)

    def test_util_callAfterNoDeferred(self) -> None:
        """
        Now.
        """
        self.assertEqual(self.successResultOf(callAfterDeferred(self.namespace, "d", func, 5)), 5)

    def test_util_callAfterDeferredOfADeferred(self) -> None:
        """
        The function may return one.
        """
        self.assertEqual(self.successResultOf(callAfterDeferred(self.namespace, "d", succeed, 5)), 5)


class ProcessTests(LeakCheckMixin, TestCase):
    """
    util.killProcess and util.ProcessProtocol, with a process.
    """

    timeout = TIMEOUT

    @inlineCallbacks
    def test_util_killProcess(self) -> Program:
        """
        True when it had to be killed, False when it was gone.
        """
        process = subprocess.Popen([sys.executable, "-c", IDLE], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            killed = yield killProcess(process.pid)
            process.wait(TIMEOUT)
        self.assertIs(killed, True)
        self.assertIs((yield killProcess(process.pid)), False)

    @inlineCallbacks
    def test_util_ProcessProtocol(self) -> Program:
        """
        The Deferred fires with the first output; the stopper is called when the process has ended.
        """
        stopped: Deferred[Any] = Deferred()
        protocol = ProcessProtocol(lambda *args: stopped.callback(None))
        transport = reactor.spawnProcess(protocol, sys.executable, [sys.executable, "-c", IDLE], env={})
        first = yield protocol.d
        self.assertEqual(first.strip(), b"ready")
        self.assertEqual(protocol.pid, transport.pid)
        self.assertFalse(stopped.called)
        yield killProcess(transport.pid)
        yield stopped

    def test_util_ProcessProtocolWithoutStopper(self) -> None:
        """
        Is one of Twisted's, before there is a process.
        """
        protocol = ProcessProtocol()
        self.assertIsInstance(protocol, twisted.internet.protocol.ProcessProtocol)
        self.assertIsNone(protocol.pid)
        self.assertNoResult(protocol.d)

    assertNoResult = SynchronousTestCase.assertNoResult


class TrackerTests(SynchronousTestCase):
    """
    util.DeferredTracker.
    """

    def setUp(self) -> None:
        """
        Make a tracker with two Deferreds.
        """
        super().setUp()
        self.clock = Clock()
        self.tracker = DeferredTracker(clock=self.clock)
        self.first: Deferred[Any] = Deferred()
        self.second: Deferred[Any] = Deferred()
        self.tracker.put(self.first)
        self.tracker.put(self.second)

    def fire(self, *deferreds: Deferred[Any]) -> None:
        """
        Fire Deferreds, and let a while pass.
        """
        for d in deferreds:
            d.callback("value")
        self.clock.pump([0.1] * 20)

    def assertFires(self, outcome: Outcome, value: bool) -> None:
        """
        A wait is over.
        """
        self.assertIsNone(outcome.failure)
        self.assertEqual(outcome.fired, 1)
        self.assertIs(outcome.value, value)

    def test_util_DeferredTracker_arguments(self) -> None:
        """
        The interval and the backoff, neither of which is needed.
        """
        for tracker in (DeferredTracker(), DeferredTracker(0.01, 1.2), DeferredTracker(interval=0.01, backoff=1.2)):
            self.assertIs(self.successResultOf(tracker.deferToAll()), True)

    def test_util_DeferredTracker_put(self) -> None:
        """
        Returns the Deferred, whose result and failure stay what they are.
        """
        good: Deferred[Any] = Deferred()
        bad: Deferred[Any] = Deferred()
        self.assertIs(self.tracker.put(good), good)
        self.assertIs(self.tracker.put(bad), bad)
        good.callback("value")
        bad.errback(ValueError("the text"))
        self.assertEqual(self.successResultOf(good), "value")
        self.failureResultOf(bad, ValueError)

    def test_util_DeferredTracker_deferToAll(self) -> None:
        """
        Fires True when all have fired.
        """
        done = Outcome(self.tracker.deferToAll())
        self.fire(self.first)
        self.assertEqual(done.fired, 0)
        self.fire(self.second)
        self.assertFires(done, True)

    def test_util_DeferredTracker_deferToAny(self) -> None:
        """
        Fires True when one has fired.
        """
        done = Outcome(self.tracker.deferToAny())
        self.clock.pump([0.1] * 20)
        self.assertEqual(done.fired, 0)
        self.fire(self.second)
        self.assertFires(done, True)

    def test_util_DeferredTracker_deferUntilFewer(self) -> None:
        """
        Fires True when there are fewer than a number.
        """
        self.assertFires(Outcome(self.tracker.deferUntilFewer(3)), True)
        done = Outcome(self.tracker.deferUntilFewer(2))
        self.clock.pump([0.1] * 20)
        self.assertEqual(done.fired, 0)
        self.fire(self.first)
        self.assertFires(done, True)

    def test_util_DeferredTracker_timeouts(self) -> None:
        """
        Each wait fires False when it is up.
        """
        waits = [
            Outcome(self.tracker.deferToAll(5)),
            Outcome(self.tracker.deferToAny(timeout=5)),
            Outcome(self.tracker.deferUntilFewer(1, 5)),
        ]
        self.clock.advance(4)
        self.assertEqual([wait.fired for wait in waits], [0, 0, 0])
        self.clock.advance(2)
        for wait in waits:
            self.assertFires(wait, False)

    def test_util_DeferredTracker_inTime(self) -> None:
        """
        A wait that is over in time leaves nothing of its timeout.
        """
        done = Outcome(self.tracker.deferToAll(5))
        self.fire(self.first, self.second)
        self.assertFires(done, True)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_util_DeferredTracker_failuresCount(self) -> None:
        """
        A Deferred that has failed has fired.
        """
        done = Outcome(self.tracker.deferToAll())
        self.first.errback(ValueError())
        self.fire(self.second)
        self.assertFires(done, True)
        self.failureResultOf(self.first, ValueError)

    def test_util_DeferredTracker_nothingTracked(self) -> None:
        """
        There is nothing to wait for.
        """
        tracker = DeferredTracker(clock=self.clock)
        for done in (tracker.deferToAll(), tracker.deferToAny(), tracker.deferUntilFewer(1)):
            self.assertIs(self.successResultOf(done), True)

    def test_util_DeferredTracker_addWait(self) -> None:
        """
        Keeps those waiting until removeWait.
        """
        self.tracker.addWait()
        done = Outcome(self.tracker.deferToAll())
        self.fire(self.first, self.second)
        self.assertEqual(done.fired, 0)
        self.tracker.removeWait()
        self.clock.pump([0.1] * 20)
        self.assertFires(done, True)

    def test_util_DeferredTracker_quitWaiting(self) -> None:
        """
        Those who wait do so no more.
        """
        done = Outcome(self.tracker.deferToAll())
        self.tracker.quitWaiting()
        self.clock.pump([0.1] * 20)
        self.assertEqual((done.fired, done.failure), (1, None))
        self.assertFalse(self.first.called)

    def test_util_DeferredTracker_notWaiting(self) -> None:
        """
        Is true when there is nothing to wait for.
        """
        self.assertFalse(self.tracker.notWaiting())
        self.fire(self.first, self.second)
        self.assertTrue(self.tracker.notWaiting())

    def test_Z21_nothingIsAddedToTheReactor(self) -> None:
        """
        Waits leave no timer behind.
        """
        for _ in range(50):
            self.tracker.deferToAll(1)
        self.fire(self.first, self.second)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LockTests(SynchronousTestCase):
    """
    util.DeferredLock.
    """

    def setUp(self) -> None:
        """
        Make a lock.
        """
        super().setUp()
        self.lock = DeferredLock()
        self.order: list[Any] = []

    def wait(self, label: Any, vip: bool = False) -> None:
        """
        Wait for the lock, and note when it is had.
        """
        self.lock.acquire(vip).addCallback(lambda _: self.order.append(label))

    def test_L25_isTwisteds(self) -> None:
        """
        With all that it offers.
        """
        self.assertIsInstance(self.lock, twisted.internet.defer.DeferredLock)
        self.assertIs(asynqueue.util.DeferredLock, DeferredLock)
        self.assertEqual(self.successResultOf(self.lock.run(func, 5)), 5)
        self.assertFalse(self.lock.locked)

    def test_L25_excludes(self) -> None:
        """
        One holds it at a time, in the order of the calls.
        """
        for label in "abc":
            self.wait(label)
        self.assertEqual(self.order, ["a"])
        self.lock.release()
        self.assertEqual(self.order, ["a", "b"])
        self.lock.release()
        self.assertEqual(self.order, ["a", "b", "c"])

    def test_L25_vipsFirst(self) -> None:
        """
        They are ahead of all others, in order.
        """
        self.wait("holder")
        self.wait("ordinary")
        self.wait("vip 1", vip=True)
        self.wait("vip 2", True)
        for _ in range(3):
            self.lock.release()
        self.assertEqual(self.order, ["holder", "vip 1", "vip 2", "ordinary"])

    def test_L25_context(self) -> None:
        """
        A block whose value is the Deferred, and whose end releases the lock.
        """

        @inlineCallbacks
        def block(label: str) -> Program:
            with self.lock.context() as d:
                yield d
                self.order.append(label)
                yield inner
            self.order.append(f"after {label}")

        inner: Deferred[Any] = Deferred()
        first, second = block("first"), block("second")
        self.assertEqual(self.order, ["first"])
        inner.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertCountEqual(self.order, ["first", "after first", "second", "after second"])
        self.assertFalse(self.lock.locked)

    def test_L25_vipContext(self) -> None:
        """
        Goes ahead.
        """
        self.wait("holder")
        self.wait("ordinary")
        with self.lock.context(vip=True) as d:
            d.addCallback(lambda _: self.order.append("vip"))
            self.lock.release()
            self.assertEqual(self.order, ["holder", "vip"])
        self.assertEqual(self.order, ["holder", "vip", "ordinary"])

    def test_L25_acquireAndRelease(self) -> None:
        """
        Fires when those before are through, and holds up nobody.
        """
        self.wait("holder")
        through = self.lock.acquireAndRelease()
        self.wait("next")
        self.assertNoResult(through)
        self.lock.release()
        self.successResultOf(through)
        self.assertEqual(self.order, ["holder", "next"])

    def test_L25_vipAcquireAndRelease(self) -> None:
        """
        Goes ahead.
        """
        self.wait("holder")
        self.wait("ordinary")
        through = self.lock.acquireAndRelease(vip=True)
        self.lock.release()
        self.successResultOf(through)

    def test_L25_stop(self) -> None:
        """
        Fires after those who wait, and the stoppers.
        """
        stopper: Deferred[Any] = Deferred()

        def stop(*args: Any, **kw: Any) -> Deferred[Any]:
            self.order.append((args, kw))
            return stopper

        self.lock.addStopper(stop, 1, x=2)
        self.wait("holder")
        self.wait("waiter")
        stopped = self.lock.stop()
        self.lock.release()
        self.assertEqual(self.order, ["holder", "waiter"])
        self.lock.release()
        self.assertEqual(self.order, ["holder", "waiter", ((1,), {"x": 2})])
        self.assertNoResult(stopped)
        stopper.callback(None)
        self.successResultOf(stopped)

    def test_L25_severalStoppers(self) -> None:
        """
        Are all called.
        """
        for number in range(3):
            self.lock.addStopper(self.order.append, number)
        self.successResultOf(self.lock.stop())
        self.assertCountEqual(self.order, [0, 1, 2])

    def test_L25_onceStopped(self) -> None:
        """
        Acquiring succeeds at once.
        """
        self.successResultOf(self.lock.stop())
        for label in "ab":
            self.wait(label)
        self.assertEqual(self.order, ["a", "b"])

    def test_util_DeferredLock_allowZombies(self) -> None:
        """
        Is the one argument.
        """
        for lock in (DeferredLock(True), DeferredLock(allowZombies=True)):
            self.successResultOf(lock.acquire())
            lock.release()
            self.assertFalse(lock.locked)


class RunnerTests(SynchronousTestCase):
    """
    util.CallRunner.
    """

    def test_util_CallRunner_result(self) -> None:
        """
        Status r and what the function has returned.
        """
        self.assertEqual(CallRunner()((int, ("ff",), {"base": 16})), (b"r", 255))

    def test_util_CallRunner_error(self) -> None:
        """
        Status e and the text of the traceback.
        """
        status, result = CallRunner()((divide, (1, 0), {}))
        self.assertEqual(status, b"e")
        self.assertIsInstance(result, str)
        self.assertIn("ZeroDivisionError", result)

    def test_R10_iterators(self) -> None:
        """
        Status i and the iterator, for what is one.
        """
        iterators: tuple[Any, ...] = count(2), map(abs, []), zip([], [], strict=True), filter(None, []), reversed([])
        for iterator in iterators:
            self.assertEqual(CallRunner()((func, (iterator,), {})), (b"i", iterator))

    def test_R10_noIterators(self) -> None:
        """
        Status r for what is not.
        """
        values: tuple[Any, ...] = [], (), {}, set(), "", b"", range(2), count, None
        for value in values:
            self.assertEqual(CallRunner()((func, (value,), {})), (b"r", value))

    def test_R14_raw(self) -> None:
        """
        Status r and the iterator, untouched.
        """
        iterator = count(2)
        self.assertEqual(CallRunner(True)((func, (iterator,), {})), (b"r", iterator))

    def test_util_CallRunner_callStats(self) -> None:
        """
        The seconds of each call are in C{callTimes}.
        """
        runner = CallRunner(callStats=True)
        for _ in range(3):
            runner((func, (), {}))
        self.assertEqual(len(runner.callTimes), 3)
        self.assertTrue(all(isinstance(seconds, float) and seconds >= 0 for seconds in runner.callTimes))


class ReactorRunnerTests(LeakCheckMixin, TestCase):
    """
    util.CallRunner with a reactor.
    """

    timeout = TIMEOUT

    @inlineCallbacks
    def test_util_CallRunner_reactor(self) -> Program:
        """
        The function is run in it.
        """
        runner = CallRunner(reactor=reactor)
        status, where = yield deferToThread(runner, (threading.current_thread, (), {}))
        self.assertEqual(status, b"r")
        self.assertIs(where, threading.current_thread())


class HashTests(SynchronousTestCase):
    """
    info.hashIt.
    """

    def test_R27_hashIt(self) -> None:
        """
        Is an integer for nearly anything, the same for the same.
        """
        things: list[tuple[Any, ...]] = [(1,), ([1, {2: [3]}],), ({"key": {1, 2}},), (Thing(), None), (func,), ()]
        for args in things:
            self.assertIs(type(hashIt(*args)), int)
            self.assertEqual(hashIt(*args), hashIt(*args))
        self.assertEqual(hashIt([1, 2], {"key": []}), hashIt([1, 2], {"key": []}))

    def test_R27_hashItDiffers(self) -> None:
        """
        For other arguments, or in another order.
        """
        self.assertEqual(len({hashIt(1, [2]), hashIt([2], 1), hashIt(1, [3]), hashIt(1)}), 4)


class ShowTests(SynchronousTestCase):
    """
    The decorators of asynqueue.info.
    """

    def printed(self, f: Any, *args: Any, **kw: Any) -> tuple[Any, str]:
        """
        Return what a function returns, and what it prints.
        """
        with redirect_stdout(io.StringIO()) as output:
            result = f(*args, **kw)
        return result, output.getvalue()

    def test_R27_showResult(self) -> None:
        """
        Prints the call and its result.
        """
        self.assertIs(asynqueue.info.showResult, showResult)
        result, text = self.printed(showResult(divide), 6, divisor=2)
        self.assertEqual(result, 3.0)
        self.assertIn("divide(6, divisor=2)", text)
        self.assertIn("3.0", text)

    def test_R27_showResultOfAMethod(self) -> None:
        """
        Without its object among the arguments.
        """
        result, text = self.printed(Thing().shown, 5)
        self.assertEqual(result, 5)
        self.assertIn("shown(5)", text)

    def test_R27_showResultThroughDeferreds(self) -> None:
        """
        The result is that of the Deferred, whose callbacks get it as ever.
        """
        d: Deferred[Any] = Deferred()
        result, text = self.printed(showResult(func), d)
        self.assertIs(result, d)
        self.assertNotIn("'value'", text)
        _, text = self.printed(d.callback, "value")
        self.assertIn("'value'", text)
        self.assertEqual(self.successResultOf(d), "value")

    def test_R27_whichThread(self) -> None:
        """
        Prints the thread in which the call runs.
        """
        result, text = self.printed(whichThread(divide), 6, 2)
        self.assertEqual(result, 3.0)
        self.assertIn("divide", text)
        self.assertIn(threading.current_thread().name, text)


class InfoTests(SynchronousTestCase):
    """
    info.Info.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        super().setUp()
        self.info = Info()

    def failed(self) -> tuple[ZeroDivisionError, Failure]:
        """
        Return an error, and its failure.
        """
        try:
            divide(1, 0)
        except ZeroDivisionError as error:
            return error, Failure()
        raise AssertionError

    def assertInOrder(self, text: str, *parts: str) -> None:
        """
        The text begins with the first part, and has the others after one another.
        """
        self.assertTrue(text.startswith(parts[0]), text)
        places = [text.find(part) for part in parts]
        self.assertNotIn(-1, places, text)
        self.assertEqual(places, sorted(places), text)

    def test_R27_setCall(self) -> None:
        """
        Returns the object itself, and takes arguments and keywords by place or name.
        """
        self.assertIs(self.info.setCall(func), self.info)
        for args, kw in (
            ((func, (1,), {"x": 2}), {}),
            ((func, (1,)), {"kw": {"x": 2}}),
            ((func,), {"args": (1,), "kw": {"x": 2}}),
            ((func,), {"args": [1], "kw": {"x": 2}}),
        ):
            self.assertEqual(self.info.setCall(*args, **kw).aboutCall(), "func(1, x=2)")

    def test_R27_singleArgument(self) -> None:
        """
        Need not be wrapped.
        """
        self.assertEqual(self.info.setCall(func, 1).aboutCall(), "func(1)")
        self.assertEqual(self.info.setCall(func, args="text").aboutCall(), "func('text')")

    def test_R27_aboutCallWithoutArguments(self) -> None:
        """
        Has none in its parentheses.
        """
        self.assertEqual(self.info.setCall(func).aboutCall(), "func()")

    def test_R27_instance(self) -> None:
        """
        Is the object whose method is called.
        """
        thing = Thing()
        text = self.info.setCall("method", (1,), instance=thing).aboutCall()
        self.assertIn("method(1)", text)
        self.assertEqual(self.info.nn(raw=True), (thing, "method"))

    def test_R27_ID(self) -> None:
        """
        Tells calls apart, as far as they are remembered.
        """
        info = Info(remember=True)
        one = info.setCall(func, 1).ID
        other = info.setCall(func, 2).ID
        self.assertNotEqual(one, other)
        self.assertEqual((info.aboutCall(one), info.aboutCall(ID=other)), ("func(1)", "func(2)"))
        self.assertEqual(info.aboutCall(), "func(2)")

    def test_R27_nowForget(self) -> None:
        """
        The call is not known afterwards.
        """
        info = Info(True)
        ID = info.setCall(func, 1).ID
        self.assertEqual(info.aboutCall(ID, True), "func(1)")
        self.assertNotIn("func(1)", info.aboutCall(ID))

    def test_R27_forgetID(self) -> None:
        """
        The call is not known afterwards, and others are.
        """
        info = Info(remember=True)
        one = info.setCall(func, 1).ID
        other = info.setCall(func, 2).ID
        info.forgetID(one)
        self.assertNotIn("func(1)", info.aboutCall(one))
        self.assertEqual(info.aboutCall(other), "func(2)")

    def test_R27_whichThread(self) -> None:
        """
        The thread is in the text of the call.
        """
        name = threading.current_thread().name
        self.assertIn(name, Info(whichThread=True).setCall(func, 1).aboutCall())
        self.assertNotIn(name, Info().setCall(func, 1).aboutCall())

    def test_R27_aboutException(self) -> None:
        """
        Begins with the message, goes on with the call, then the traceback.
        """
        self.info.setCall(divide, (1, 0))
        try:
            divide(1, 0)
        except ZeroDivisionError:
            text = self.info.aboutException()
        self.assertInOrder(text, "Exception 'division by zero'", "divide(1, 0)", "Traceback", "ZeroDivisionError")

    def test_R27_aboutExceptionOfOthers(self) -> None:
        """
        The ID of the call and the exception can be given.
        """
        info = Info(remember=True)
        ID = info.setCall(divide, (1, 0)).ID
        info.setCall(func)
        error, _ = self.failed()
        for text in (info.aboutException(ID, error), info.aboutException(ID=ID, exception=error)):
            self.assertInOrder(text, "Exception 'division by zero'", "divide(1, 0)", "Traceback")

    def test_R27_aboutFailure(self) -> None:
        """
        Begins with the message, goes on with the call, then the traceback.
        """
        info = Info(remember=True)
        ID = info.setCall(divide, (1, 0)).ID
        _, failure = self.failed()
        self.assertInOrder(info.aboutFailure(failure), "Failure 'division by zero'", "divide(1, 0)", "Traceback")
        info.setCall(func)
        self.assertInOrder(info.aboutFailure(failure, ID), "Failure 'division by zero'", "divide(1, 0)", "Traceback")

    def test_R27_nnOfFunctions(self) -> None:
        """
        No parent, and the name, or a pickle if there is none.
        """
        self.assertEqual(self.info.setCall(math.sqrt).nn(), (None, "math.sqrt"))
        parent, pickled = self.info.setCall(partial(func, 5)).nn()
        self.assertIsNone(parent)
        self.assertEqual(pickle.loads(pickled)(), 5)

    def test_R27_nnOfMethods(self) -> None:
        """
        The parent as a pickle, and the name of the method.
        """
        parent, name = self.info.setCall(Thing().method, 1).nn()
        self.assertEqual((pickle.loads(parent), name), (Thing(), "method"))

    def test_R27_nnOfOthers(self) -> None:
        """
        The ID of the call can be given.
        """
        info = Info(remember=True)
        ID = info.setCall(math.sqrt).ID
        info.setCall(func)
        self.assertEqual(info.nn(ID), (None, "math.sqrt"))

    def test_R27_nnRaw(self) -> None:
        """
        The objects themselves.
        """
        thing = Thing()
        parent, name = self.info.setCall(thing.method).nn(raw=True)
        self.assertIs(parent, thing)
        self.assertEqual(name, "method")
        self.assertEqual(self.info.setCall(func).nn(None, True), (None, func))

    def test_R27_savedInfo(self) -> None:
        """
        What has been saved for a call can be had, until the call is forgotten.
        """
        info = Info(remember=True)
        ID = info.setCall(func).ID
        info.saveInfo("key", "value", ID)
        info.setCall(divide)
        self.assertEqual(info.getInfo(ID, "key"), "value")
        info.forgetID(ID)
        self.assertIsNone(info.getInfo(ID, "key"))

    def test_R27_context(self) -> None:
        """
        A block with a holder of the call's info, which has what the methods of the same names tell.
        """
        with self.info.context(divide, 1, {"divisor": 0}) as holder:
            self.assertIsInstance(holder, InfoHolder)
            self.assertEqual(holder.aboutCall(), "divide(1, divisor=0)")
            self.assertEqual(holder.nn(), self.info.nn())
            self.assertEqual(holder.nn(raw=True), (None, divide))
            self.assertEqual(holder.getInfo("callTuple"), (divide, (1,), {"divisor": 0}))
            error, failure = self.failed()
            for text, word in (
                (holder.aboutException(error), "Exception"),
                (holder.aboutFailure(failure), "Failure"),
            ):
                self.assertInOrder(text, f"{word} 'division by zero'", "divide(1, divisor=0)", "Traceback")

    def test_R27_contextWithNamedArguments(self) -> None:
        """
        Takes what setCall takes.
        """
        with self.info.context(func, args=(1,), kw={"x": 2}) as holder:
            self.assertEqual(holder.aboutCall(), "func(1, x=2)")


class DelayTests(SynchronousTestCase):
    """
    iteration.Delay and iteration.deferToDelay.
    """

    def setUp(self) -> None:
        """
        Get the module, and make a clock.
        """
        super().setUp()
        self.iteration: Any = import_module("asynqueue.iteration")
        self.clock = Clock()

    def delay(self, *args: Any, **kw: Any) -> Any:
        """
        Make a Delay on the clock.
        """
        return self.iteration.Delay(*args, clock=self.clock, **kw)

    def test_iteration_deferToDelay(self) -> None:
        """
        Fires after so many seconds.
        """
        done = self.iteration.deferToDelay(5, clock=self.clock)
        self.clock.advance(4.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        self.successResultOf(done)

    def test_iteration_deferToDelayOfThePackage(self) -> None:
        """
        Is at the top, too.
        """
        self.assertIs(asynqueue.deferToDelay, self.iteration.deferToDelay)

    def test_iteration_Delay_call(self) -> None:
        """
        Fires after so many seconds, or after the interval.
        """
        for arguments, seconds in (((5,), 5), ((), 2), ((None,), 2)):
            done = self.delay(interval=2)(*arguments)
            self.clock.advance(seconds - 0.1)
            self.assertNoResult(done)
            self.clock.advance(0.2)
            self.successResultOf(done)

    def test_iteration_Delay_backoff(self) -> None:
        """
        Out of 1.0 to 1.3 is a ValueError.
        """
        for backoff in (1.0, 1.1, 1.3):
            self.delay(backoff=backoff)
        for wrong in (0.99, 1.31, -1):
            self.assertRaises(ValueError, self.delay, 0.001, wrong)

    def test_iteration_Delay_untilEvent(self) -> None:
        """
        Fires True once the function answers true, which gets the arguments.
        """
        asked: list[Any] = []

        def ask(*args: Any, **kw: Any) -> bool:
            asked.append((args, kw))
            return len(asked) == 4

        done = self.delay().untilEvent(ask, 1, x=2)
        for _ in range(100):
            self.clock.advance(0.01)
        self.assertIs(self.successResultOf(done), True)
        self.assertEqual(asked, [((1,), {"x": 2})] * 4)

    def test_iteration_Delay_gapsGrow(self) -> None:
        """
        By the backoff, from the interval on.
        """
        times: list[float] = []

        def ask() -> bool:
            times.append(self.clock.seconds())
            return len(times) == 5

        done = self.delay(0.1, 1.3).untilEvent(ask)
        for _ in range(1000):
            self.clock.advance(0.001)
        self.assertIs(self.successResultOf(done), True)
        gaps = [after - before for before, after in pairwise(times)]
        for before, after in pairwise(gaps):
            self.assertApproximates(after / before, 1.3, 0.05)

    def test_iteration_Delay_timeout(self) -> None:
        """
        Fires False when it is up.
        """
        done = self.delay(0.01, 1.1, 2).untilEvent(lambda: False)
        for _ in range(19):
            self.clock.advance(0.1)
        self.assertNoResult(done)
        for _ in range(3):
            self.clock.advance(0.1)
        self.assertIs(self.successResultOf(done), False)

    def test_iteration_Delay_shutdown(self) -> None:
        """
        Ends all waits.
        """
        delay = self.delay()
        waits = [delay(100), delay.untilEvent(lambda: False)]
        delay.shutdown()
        for wait in waits:
            self.assertIsNone(self.successResultOf(wait))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ReactorDelayTests(LeakCheckMixin, TestCase):
    """
    Delays as a program for 0.9.9 has them: in the reactor.
    """

    timeout = TIMEOUT

    @inlineCallbacks
    def test_iteration_inTheReactor(self) -> Program:
        """
        None needs more than its documented arguments.
        """
        iteration: Any = import_module("asynqueue.iteration")
        answers = iter([False, False, True])
        yield iteration.deferToDelay(0.001)
        yield iteration.Delay()()
        self.assertIs((yield iteration.Delay(0.001, 1.2).untilEvent(next, answers)), True)
        self.assertIs((yield iteration.Delay(0.001, 1.0, 0.01).untilEvent(bool)), False)
