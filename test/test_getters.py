"""
Tests of what blocking iterators over Twisted's values have in common, and of the semaphores in them.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import QueueRunError
from asynqueue.threads.gate import Gate, GateClosed
from asynqueue.threads.getters import IterationGetter, RunState
from test.pools import LIMIT, PoolTestCase, outputOf
from test.support import Outcome

#: What a blocking call for a single value returns at the end.
END = "end"


class Countdown(IterationGetter):
    """
    A getter by the protocol, whose loop makes the values, and looks at C{runState}.
    """

    def __init__(self, number: int, **kw: Any) -> None:
        super().__init__(**kw)
        self.number = number
        self.isOver = False

    def loop(self) -> None:
        """
        Count down to 1.
        """
        while self.runState == "running":
            self.nLock.acquire()
            self.bIterationValue = self.number or self.IterationStopper()
            self.number -= 1
            self.bLock.release()
            if self.number < 0:
                break
        self.isOver = True


class Careless(IterationGetter):
    """
    A getter by the protocol, of what Twisted's side gives, whose loop looks at nothing.
    """

    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        self.values: list[Any] = []

    def give(self, value: Any) -> None:
        """
        Give a value.
        """
        self.values.append(value)
        self.cLock.release()

    def loop(self) -> None:
        """
        Hand over values for ever.
        """
        while True:
            self.nLock.acquire()
            self.cLock.acquire()
            self.bIterationValue = self.values.pop(0) if self.values else None
            self.bLock.release()


class Looping(IterationGetter):
    """
    A getter whose loop is a function that gets it.
    """

    def __init__(self, function: Callable[[IterationGetter], object], **kw: Any) -> None:
        super().__init__(**kw)
        self.function = function

    def loop(self) -> None:
        """
        Call the function.
        """
        self.function(self)


class ProtocolTests(PoolTestCase):
    """
    Subclasses by the documented protocol.
    """

    async def test_R16_values(self) -> None:
        """
        Arrive in order, and then there is the end, again and again.
        """
        getter = self.make(Countdown, 5)
        self.assertEqual(getter.runState, "init")
        done = getter.deferUntilDone()
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [5, 4, 3, 2, 1])
        await done
        self.assertEqual((getter.runState, getter.isOver), ("stopped", True))
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [])
        await getter.deferUntilDone()

    async def test_R16_valuesFromTwisted(self) -> None:
        """
        Are waited for, one release of C{cLock} each. A loop that goes on after the end comes to an end nevertheless.
        """
        getter = self.make(Careless)
        values = [getter.deferToThreadInPool(next, getter, END) for _ in range(3)]
        for value in "abc":
            getter.give(value)
        self.assertEqual(sorted(await gatherResults(values)), ["a", "b", "c"])
        getter.give(getter.IterationStopper())
        self.assertEqual(await getter.deferToThreadInPool(next, getter, END), END)
        await getter.deferUntilDone()

    async def test_R16_eachValueOnce(self) -> None:
        """
        Several threads share the values, and all see the end.
        """
        getter = self.make(Countdown, 1000)
        shares: list[list[int]] = await gatherResults([getter.deferToThreadInPool(list, getter) for _ in range(4)])
        self.assertEqual(sorted(chain(*shares)), list(range(1, 1001)))
        for share in shares:
            self.assertEqual(share, sorted(share, reverse=True))

    async def test_errorOfTheStopper(self) -> None:
        """
        Is raised, as it is or as a Failure, once.
        """
        for wrapped in (lambda error: error, Failure):
            getter = self.make(Careless)
            getter.give(getter.IterationStopper(wrapped(KeyError("for the blocking side"))))
            with self.assertRaises(KeyError):
                await getter.deferToThreadInPool(next, getter)
            self.assertEqual(await getter.deferToThreadInPool(next, getter, END), END)
            await getter.deferUntilDone()

    async def test_loopReturns(self) -> None:
        """
        Without a stopper: that is the end, after the last value.
        """

        def loop(getter: IterationGetter) -> None:
            getter.nLock.acquire()
            getter.bIterationValue = "only"
            getter.bLock.release()

        getter = self.make(Looping, loop)
        await getter.start()
        self.assertEqual(await getter.deferToThreadInPool(list, getter), ["only"])
        await getter.deferUntilDone()

    async def test_loopRaises(self) -> None:
        """
        The blocking side gets the exception, once, and so does who waits for the end.
        """
        getter = self.make(Looping, lambda getter: divmod(getter.nLock.acquire(), 0))
        done = Outcome(getter.deferUntilDone())
        with self.assertRaises(ZeroDivisionError):
            await getter.deferToThreadInPool(next, getter)
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [])
        await self.until(lambda: done.fired, "the iteration is over")
        self.assertIs(done.kind, ZeroDivisionError)
        with self.assertRaises(ZeroDivisionError):
            await getter.deferUntilDone()
        await getter.stop()

    async def test_loopRaisesUnseen(self) -> None:
        """
        What nobody has been told is logged.
        """
        for look in (False, True):
            getter = Looping(lambda _: divmod(1, 0), reactor=self.reactor)
            await getter.start()
            await self.until(partial(self.hasStopped, getter), "the loop has failed")
            await getter.stop()
            if look:
                with self.assertRaises(ZeroDivisionError):
                    await getter.deferUntilDone()
            del getter
            # The frames that have led to here hold it, and so does the reactor's.
            for _ in range(2):
                await deferLater(reactor, 0)
            gc.collect()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 0 if look else 1)

    def hasStopped(self, getter: IterationGetter) -> bool:
        """
        Tell whether an iteration is over.
        """
        return getter.runState == "stopped"

    async def test_loopRaisesStopIteration(self) -> None:
        """
        That is an end like any other.
        """
        getter = self.make(Looping, lambda _: next(iter(())))
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [])
        await getter.deferUntilDone()

    async def test_loopRaisesSystemExit(self) -> None:
        """
        That is an error like any other.
        """

        def loop(_: IterationGetter) -> None:
            raise SystemExit("of the loop's own")

        getter = self.make(Looping, loop)
        with self.assertRaises(SystemExit):
            await getter.deferToThreadInPool(next, getter)

    async def test_theReactorsThread(self) -> None:
        """
        May wait for what a loop makes by itself.
        """
        getter = self.make(Countdown, 3)
        self.assertEqual(list(getter), [3, 2, 1])

    async def test_noThreadToBeHad(self) -> None:
        """
        The blocking side is told, and so is who waits for the end.
        """

        def start(thread: threading.Thread) -> None:
            raise RuntimeError(f"can't start new thread {thread}")

        getter = self.make(Countdown, 3)
        patcher = self.patch(threading.Thread, "start", start)
        started = Outcome(getter.start())
        patcher.restore()
        self.assertEqual((started.fired, getter.runState), (1, "stopped"))
        self.assertRaises(RuntimeError, next, getter)
        self.assertEqual(next(getter, END), END)
        with self.assertRaises(RuntimeError):
            await getter.deferUntilDone()

    async def test_interruptedWait(self) -> None:
        """
        A thread that is interrupted while it waits asks for the same value again.
        """
        getter = self.make(Careless)
        acquire = getter.bLock.acquire

        def interrupted() -> bool:
            raise KeyboardInterrupt

        getter.bLock.acquire = interrupted  # type: ignore[method-assign, assignment]
        with self.assertRaises(KeyboardInterrupt):
            await getter.deferToThreadInPool(next, getter)
        getter.bLock.acquire = acquire  # type: ignore[method-assign]
        for value in "ab":
            getter.give(value)
        self.assertEqual([await getter.deferToThreadInPool(next, getter) for _ in range(2)], ["a", "b"])


class StartTests(PoolTestCase):
    """
    The beginning of an iteration.
    """

    async def test_start(self) -> None:
        """
        Fires when the loop has begun. To start again is without effect.
        """
        getter = self.make(Careless)
        started = getter.start()
        self.assertEqual(getter.runState in ("started", "running"), True)
        await gatherResults([started, getter.start()])
        self.assertIs(getter.runState, RunState.RUNNING)
        await getter.start()
        self.assertEqual(len(self.threads()), 2)

    async def test_startAfterTheEnd(self) -> None:
        """
        Is refused.
        """
        getter = self.make(Careless)
        await getter.start()
        stopped = getter.stop()
        self.assertRaises(QueueRunError, getter.start)
        await stopped
        self.assertRaises(QueueRunError, getter.start)

    async def test_oneThreadMore(self) -> None:
        """
        The loop takes none of those for calls.
        """
        getter = self.make(Countdown, 3, maxThreads=1)
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [3, 2, 1])

    async def test_wrongNumber(self) -> None:
        """
        Is refused at the call.
        """
        for kind in (IterationGetter, Careless):
            self.assertRaises(ValueError, kind, maxThreads=0)

    async def test_Z32_poolsOfTheirOwn(self) -> None:
        """
        Two getters do not share a pool.
        """
        first, second = self.make(Countdown, 3), self.make(Countdown, 3)
        self.assertIsNot(first.pool, second.pool)
        lists: list[Deferred[list[int]]] = [getter.deferToThreadInPool(list, getter) for getter in (first, second)]
        self.assertEqual(await gatherResults(lists), [[3, 2, 1]] * 2)


class StopTests(PoolTestCase):
    """
    The end of an iteration.
    """

    async def test_init(self) -> None:
        """
        What has never been started is stopped at once, and is without threads.
        """
        getter = self.make(Careless)
        done = Outcome(getter.deferUntilDone())
        self.assertEqual(Outcome(getter.stop()).fired, 1)
        self.assertEqual((getter.runState, self.threads()), ("stopped", []))
        self.assertEqual(done.fired, 1)
        self.assertEqual(next(getter, END), END)
        await getter.stop()

    async def test_started(self) -> None:
        """
        What has been started, and has no thread yet, never has its loop run.
        """
        looped: list[Any] = []
        getter = self.make(Looping, looped.append, maxThreads=1)
        barrier = self.makeBarrier()
        busy = [getter.deferToThreadInPool(barrier) for _ in range(2)]
        started = Outcome(getter.start())
        await barrier.entered
        self.assertEqual((getter.runState, started.fired), ("started", 0))
        stopped = Outcome(getter.stop())
        self.assertEqual((getter.runState, stopped.fired), ("stopping", 0))
        self.assertEqual(next(getter, END), END)
        barrier.open()
        await gatherResults(busy)
        await getter.deferUntilDone()
        self.assertEqual((stopped.fired, started.fired, looped), (1, 1, []))

    async def test_running(self) -> None:
        """
        Everybody who waits goes on.
        """
        getter = self.make(Careless)
        waiting = [getter.deferToThreadInPool(next, getter, END) for _ in range(3)]
        await self.until(lambda: getter.runState == "running", "the loop has begun")
        await gatherResults([getter.stop(), getter.stop()])
        self.assertEqual(getter.runState, "stopped")
        self.assertEqual(await gatherResults(waiting), [END] * 3)

    async def test_runningLoopThatLooks(self) -> None:
        """
        Returns, with all that it has to do after.
        """
        getter = self.make(Countdown, 3)
        await getter.start()
        await getter.stop()
        self.assertTrue(getter.isOver)
        self.assertEqual((getter.runState, self.threads()), ("stopped", []))
        self.assertEqual(next(getter, END), END)

    async def test_runningLoopThatFails(self) -> None:
        """
        What it raises after the stop is dropped.
        """

        def loop(getter: IterationGetter) -> None:
            getter.cLock.acquire()
            divmod(1, 0)

        getter = self.make(Looping, loop)
        waiting = getter.deferToThreadInPool(next, getter, END)
        await getter.start()
        await getter.stop()
        self.assertEqual(await waiting, END)
        await getter.deferUntilDone()
        self.assertNothingLogged()

    async def test_stopping(self) -> None:
        """
        While the loop takes its time, the iteration is over, and all who stop it wait.
        """
        barrier = self.makeBarrier()
        getter = self.make(Looping, lambda _: barrier())
        waiting = getter.deferToThreadInPool(next, getter, END)
        await barrier.entered
        outcomes = [Outcome(getter.stop()), Outcome(getter.stop()), Outcome(getter.deferUntilDone())]
        self.assertEqual(await waiting, END)
        self.assertEqual((getter.runState, [each.fired for each in outcomes]), ("stopping", [0, 0, 0]))
        barrier.open()
        await getter.stop()
        self.assertEqual((getter.runState, [each.fired for each in outcomes]), ("stopped", [1, 1, 1]))

    async def test_stopped(self) -> None:
        """
        To stop again is without effect.
        """
        getter = self.make(Countdown, 1)
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [1])
        await getter.stop()
        await getter.stop()
        self.assertEqual((getter.runState, self.threads()), ("stopped", []))

    async def test_cancel(self) -> None:
        """
        Ends the wait, and nothing else.
        """
        getter = self.make(Careless)
        await getter.start()
        done = getter.deferUntilDone()
        outcomes = [Outcome(done)]
        done.cancel()
        self.assertEqual(getter.runState, "running")
        stopped = getter.stop()
        outcomes.append(Outcome(stopped))
        stopped.cancel()
        self.assertEqual([each.kind for each in outcomes], [CancelledError] * 2)
        await getter.deferUntilDone()

    async def test_theBlockingSideLeaves(self) -> None:
        """
        Before the end: it has the reactor stop the iteration, and may wait for that, even in the pool.
        """
        getter = self.make(Countdown, 1000)
        stopped: list[str] = []

        def leave() -> list[int]:
            values = [value for value, _ in zip(getter, range(3), strict=False)]
            event = threading.Event()
            self.reactor.callFromThread(lambda: getter.stop().addCallback(lambda _: event.set()))
            self.assertTrue(event.wait(LIMIT))
            stopped.append(getter.runState)
            return values

        self.assertEqual(await getter.deferToThreadInPool(leave), [1000, 999, 998])
        self.assertEqual(stopped, ["stopped"])

    async def test_callsAreWaitedForByShutdownOnly(self) -> None:
        """
        Whoever stops the iteration does not wait for what else the pool does.
        """
        getter = self.make(Careless)
        barrier = self.makeBarrier()
        call = getter.deferToThreadInPool(barrier)
        await barrier.entered
        await getter.start()
        await getter.stop()
        gone = Outcome(getter.shutdown())
        self.assertEqual(gone.fired, 0)
        barrier.open()
        self.assertEqual(await call, "through")
        await self.until(lambda: gone.fired, "the threads have gone")
        self.assertEqual(self.threads(), [])

    async def test_shutdownEndsTheIteration(self) -> None:
        """
        And all waits, before it fires.
        """
        getter = self.make(Careless)
        waiting = Outcome(getter.deferToThreadInPool(next, getter, END))
        stopped, done = Outcome(getter.stop()), Outcome(getter.deferUntilDone())
        await getter.shutdown()
        self.assertEqual((waiting.value, getter.runState, self.threads()), (END, "stopped", []))
        self.assertEqual((stopped.fired, done.fired), (1, 1))

    async def test_callsAfterTheEnd(self) -> None:
        """
        Get a pool that ends with them.
        """
        getter = self.make(Careless)
        await getter.stop()
        self.assertEqual(await getter.deferToThreadInPool(int), 0)
        await self.until(lambda: not self.threads() and not self.reactor.triggers, "the threads have gone")

    async def test_threadsGoByThemselves(self) -> None:
        """
        When the iteration is over, nobody has to end the pool.
        """
        getter = Countdown(3, reactor=self.reactor)
        self.assertEqual(await getter.deferToThreadInPool(list, getter), [3, 2, 1])
        await self.until(lambda: not self.threads() and not self.reactor.triggers, "the threads have gone")

    async def test_Z21_manyCycles(self) -> None:
        """
        Leave nothing.
        """
        before = threading.active_count()
        for number in range(200):
            getter = Countdown(2, reactor=self.reactor)
            values = getter.deferToThreadInPool(list if number % 2 else next, getter)
            self.assertEqual(await values, [2, 1] if number % 2 else 2)
            await getter.stop()
        self.assertEqual((threading.active_count(), self.reactor.triggers), (before, []))

    async def test_reactorStops(self) -> None:
        """
        All waits end, and so does the pool.
        """
        getter = self.make(Careless)
        waiting = Outcome(getter.deferToThreadInPool(next, getter, END))
        await getter.start()
        await self.reactor.shutDown()
        self.assertEqual((waiting.value, getter.runState, self.threads()), (END, "stopped", []))


class GateTests(SynchronousTestCase):
    """
    Semaphores that can be closed.
    """

    def test_semaphore(self) -> None:
        """
        It is one, which starts at 0.
        """
        gate = Gate()
        self.assertIsInstance(gate, threading.Semaphore)
        self.assertFalse(gate.acquire(blocking=False))
        self.assertFalse(gate.acquire(timeout=0.001))
        gate.release(2)
        with gate:
            self.assertTrue(gate.acquire())
            self.assertFalse(gate.acquire(False))
        self.assertTrue(gate.acquire(timeout=0.001))

    def test_closed(self) -> None:
        """
        What has been released before is there, and then nothing ever.
        """
        gate = Gate()
        gate.release(2)
        gate.close()
        gate.close()
        gate.release()
        self.assertEqual([gate.acquire() for _ in range(4)], [True, True, False, False])
        self.assertFalse(gate.acquire(False))
        self.assertFalse(gate.acquire(timeout=0.001))

    def test_raises(self) -> None:
        """
        Where it is to end loops, only the first is told.
        """
        gate = Gate(raises=True)
        self.assertFalse(gate.acquire(False))
        self.assertFalse(gate.acquire(False))
        gate.close()
        self.assertFalse(gate.acquire())
        self.assertRaises(GateClosed, gate.acquire)
        self.assertRaises(GateClosed, gate.acquire, False)
        self.assertNotIsInstance(GateClosed(), Exception)

    def test_manyWaiters(self) -> None:
        """
        All go on, as many of them let through as there were releases.
        """
        gate = Gate()
        told: list[bool] = []
        waiters = [threading.Thread(target=lambda: told.append(gate.acquire()), daemon=True) for _ in range(20)]
        for waiter in waiters:
            waiter.start()
        gate.release(7)
        gate.close()
        for waiter in waiters:
            waiter.join(LIMIT)
        self.assertEqual((told.count(True), told.count(False)), (7, 13))


PROGRAM = """
import threading
from twisted.internet import reactor, task
from asynqueue.threads.consumerator import Consumerator
from asynqueue.threads.filerator import Filerator
from asynqueue.threads.ordered import OrderedItemProducer

def report(name, function, *args):
    try:
        result = function(*args)
    except ValueError as error:
        result = error
    print(f"{name} {result}\\n", end="")

def write(file):
    while True:
        file.write("chunk")

mine, foreign = Consumerator(), Consumerator()
unread, file = Filerator(), Filerator()
producer = OrderedItemProducer()

def begin():
    mine.deferToThreadInPool(report, "mine", list, mine)
    reactor.callInThread(report, "foreign", list, foreign)
    reactor.callInThread(report, "unread", write, unread)
    file.deferToThreadInPool(report, "file", list, file)
    producer.start(lambda items: report("ordered", list, items))

def look():
    states = [each.runState for each in (mine, foreign, unread, file)]
    if states == ["running"] * 4:
        looking.stop()
        reactor.stop()

looking = task.LoopingCall(look)
reactor.callWhenRunning(begin)
looking.start(0.01)
reactor.run()
assert len(threading.enumerate()) == 1, threading.enumerate()
"""


class ProgramTests(SynchronousTestCase):
    """
    A program whose reactor stops while threads wait.
    """

    def test_R16_reactorStops(self) -> None:
        """
        It ends by itself: all threads go on, in pools of their own or the reactor's.
        """
        lines = sorted(outputOf(PROGRAM, 20).splitlines())
        self.assertEqual(
            lines, ["file []", "foreign []", "mine []", "ordered []", "unread I/O operation on closed file"]
        )
