"""
Tests of pools of threads that belong to one object.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar, copy_context
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.python import context as twistedContext
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.threads.pool import PoolUser
from asynqueue.threads.poolkeeper import GRACE
from test.pools import LIMIT, PoolTestCase, outputOf
from test.support import Outcome

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class Mixin:
    """
    Something that needs no C{__init__} of its bases.
    """

    def __init__(self) -> None:
        self.name = "mixed"


class Mixed(Mixin, PoolUser):
    """
    A class that has the user of a pool among others as a base.
    """

    maxThreads = 3


class CallTests(PoolTestCase):
    """
    Calls in the pool.
    """

    async def test_result(self) -> None:
        """
        Is what the call returns, which runs in a thread of the pool.
        """
        user = self.make(PoolUser)
        thread, number = await user.deferToThreadInPool(lambda *args: (threading.current_thread(), sum(args)), 1, 2)
        self.assertEqual(number, 3)
        self.assertIn(thread.name, self.threads())
        self.assertTrue(thread.daemon)

    async def test_keywords(self) -> None:
        """
        Are those of the call.
        """
        user = self.make(PoolUser)
        self.assertEqual(await user.deferToThreadInPool(dict, first=1, second=2), {"first": 1, "second": 2})

    async def test_error(self) -> None:
        """
        Arrives as it is, with its traceback.
        """
        user = self.make(PoolUser)
        d = user.deferToThreadInPool(divmod, 1, 0)
        failure = await d.addErrback(lambda failure: [failure])
        self.assertIs(failure[0].type, ZeroDivisionError)
        with self.assertRaises(SystemExit):
            await user.deferToThreadInPool(self.leave)

    @staticmethod
    def leave() -> None:
        """
        Do what no function should do.
        """
        raise SystemExit("of the call's own")

    async def test_deferredAndCoroutine(self) -> None:
        """
        As results are awaited, in the reactor and the context of the caller.
        """

        async def coroutine() -> tuple[str, threading.Thread]:
            await deferLater(reactor, 0)
            return variable.get(), threading.current_thread()

        user = self.make(PoolUser)
        self.assertEqual(await user.deferToThreadInPool(succeed, 5), 5)
        variable.set("of the caller")
        arrived: Any = await user.deferToThreadInPool(coroutine)
        self.assertEqual(arrived, ("of the caller", threading.current_thread()))

    async def test_context(self) -> None:
        """
        Is that of the caller, of which the call has a copy.
        """

        def call() -> tuple[str, Any]:
            before = variable.get()
            variable.set("of the call")
            return before, twistedContext.get("key")

        def inContext() -> Deferred[tuple[str, Any]]:
            variable.set("of the caller")
            return twistedContext.call({"key": "value"}, user.deferToThreadInPool, call)  # type: ignore[no-any-return]

        user = self.make(PoolUser)
        self.assertEqual(await copy_context().run(inContext), ("of the caller", "value"))
        self.assertEqual(variable.get(), "nothing")

    async def test_cancel(self) -> None:
        """
        The result of a call that is running is dropped, and one that has not started is never run.
        """
        user = self.make(PoolUser, maxThreads=1)
        barrier = self.makeBarrier()
        ran: list[int] = []
        running, waiting = user.deferToThreadInPool(barrier), user.deferToThreadInPool(ran.append, 1)
        outcomes = [Outcome(running), Outcome(waiting)]
        await barrier.entered
        running.cancel()
        waiting.cancel()
        self.assertEqual([each.kind for each in outcomes], [CancelledError] * 2)
        barrier.open()
        await user.deferToThreadInPool(int)
        self.assertEqual(ran, [])
        self.assertNothingLogged()

    async def test_cancelWhatHasArrived(self) -> None:
        """
        A Deferred that the call has returned is cancelled, too.
        """
        arrived: Deferred[None] = Deferred()
        user = self.make(PoolUser)
        d = user.deferToThreadInPool(lambda: arrived)
        outcome = Outcome(d)
        await self.until(lambda: d.paused, "the Deferred has arrived")
        d.cancel()
        self.assertTrue(arrived.called)
        self.assertIs(outcome.kind, CancelledError)

    async def test_manyAtATime(self) -> None:
        """
        As many run as may.
        """
        user = self.make(PoolUser, 4)
        barrier = threading.Barrier(4)
        await gatherResults([user.deferToThreadInPool(barrier.wait, LIMIT) for _ in range(8)])
        self.assertEqual(len(self.threads()), 4)

    async def test_notCallable(self) -> None:
        """
        Is refused at the call.
        """
        wrong: Any = "function"
        self.assertRaises(TypeError, self.make(PoolUser).deferToThreadInPool, wrong)

    async def test_noThreadToBeHad(self) -> None:
        """
        The call fails, and the next one does not.
        """

        def start(thread: threading.Thread) -> None:
            raise RuntimeError(f"can't start new thread {thread}")

        user = self.make(PoolUser)
        patcher = self.patch(threading.Thread, "start", start)
        outcome = Outcome(user.deferToThreadInPool(int))
        patcher.restore()
        self.assertIs(outcome.kind, RuntimeError)
        self.assertEqual(self.reactor.triggers, [])
        self.assertEqual(await user.deferToThreadInPool(int), 0)

    async def test_noMoreThreadsToBeHad(self) -> None:
        """
        Likewise where there are some.
        """

        def start(thread: threading.Thread) -> None:
            raise RuntimeError(f"can't start new thread {thread}")

        user = self.make(PoolUser)
        barrier = self.makeBarrier()
        for _ in range(2):
            user.deferToThreadInPool(barrier)
        patcher = self.patch(threading.Thread, "start", start)
        outcome = Outcome(user.deferToThreadInPool(int))
        patcher.restore()
        self.assertIs(outcome.kind, RuntimeError)
        self.assertEqual(await user.deferToThreadInPool(int), 0)


class SetupTests(PoolTestCase):
    """
    The pool and its size.
    """

    async def test_begin(self) -> None:
        """
        There is no thread before the first use.
        """
        user = self.make(PoolUser)
        self.assertEqual((self.threads(), self.reactor.triggers), ([], []))
        user.setup()
        self.assertIsInstance(user.pool, ThreadPool)
        self.assertEqual((user.pool.min, user.pool.max), (2, 10))
        self.assertEqual((len(self.threads()), len(self.reactor.triggers)), (2, 1))

    async def test_poolIsTheFirstUse(self) -> None:
        """
        Whoever looks at it gets one that runs.
        """
        user = self.make(PoolUser)
        pool = user.pool
        self.assertTrue(pool.started)
        self.assertIs(user.pool, pool)

    async def test_Z32_ofItsOwn(self) -> None:
        """
        No two objects share a pool, nor what it may have.
        """
        first, second = self.make(PoolUser, 5), self.make(PoolUser)
        second.setup(3)
        self.assertIsNot(first.pool, second.pool)
        self.assertEqual((first.pool.max, second.pool.max, PoolUser.maxThreads), (5, 3, 10))
        barrier = self.makeBarrier()
        for _ in range(5):
            first.deferToThreadInPool(barrier)
        self.assertEqual(await second.deferToThreadInPool(int), 0)

    async def test_setupAgain(self) -> None:
        """
        Changes how many threads there may be.
        """
        user = self.make(PoolUser)
        user.setup(1)
        self.assertEqual((user.pool.min, user.pool.max), (1, 1))
        pool = user.pool
        user.setup(4)
        self.assertIs(user.pool, pool)
        self.assertEqual((pool.min, pool.max), (2, 4))
        user.setup()
        self.assertEqual(pool.max, 4)
        user.setup(1)
        await self.until(lambda: len(self.threads()) == 1, "one thread is left")
        self.assertEqual(await user.deferToThreadInPool(int), 0)

    async def test_wrongNumbers(self) -> None:
        """
        Are refused at the call, by the name of the argument.
        """
        for wrong, kind in [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]:
            number: Any = wrong
            for refused in (PoolUser, self.make(PoolUser).setup):
                with self.assertRaises(kind) as caught:
                    refused(number)
                self.assertIn("maxThreads", str(caught.exception))
        self.assertEqual(self.threads(), [])

    async def test_mixin(self) -> None:
        """
        Works without its C{__init__}.
        """
        user = Mixed()
        user.setup()
        self.addCleanup(user.shutdown)
        self.assertEqual(user.pool.max, 3)
        self.assertEqual(await user.deferToThreadInPool(int), 0)
        await Mixed().shutdown()


class ShutdownTests(PoolTestCase):
    """
    The end of a pool.
    """

    async def test_shutdown(self) -> None:
        """
        Fires when the threads have gone, and all calls are done.
        """
        user = self.make(PoolUser, 2)
        barrier = self.makeBarrier()
        calls = [Outcome(user.deferToThreadInPool(barrier, number)) for number in range(5)]
        gone = user.shutdown()
        await barrier.entered
        outcome = Outcome(gone)
        self.assertEqual((outcome.fired, len(self.threads())), (0, 2))
        barrier.open()
        await user.shutdown()
        self.assertEqual((outcome.fired, outcome.value, self.threads()), (1, None, []))
        self.assertEqual([each.value for each in calls], [0, 1, 2, 3, 4])

    async def test_Z21_triggerIsRemoved(self) -> None:
        """
        There is one as long as there are threads.
        """
        user = self.make(PoolUser)
        for _ in range(3):
            await user.deferToThreadInPool(int)
            self.assertEqual([each[:2] for each in self.reactor.triggers], [("before", "shutdown")])
            await user.shutdown()
            self.assertEqual(self.reactor.triggers, [])

    async def test_again(self) -> None:
        """
        Is without effect.
        """
        user = self.make(PoolUser)
        await user.shutdown()
        user.setup()
        await gatherResults([user.shutdown(), user.shutdown()])
        await user.shutdown()
        self.assertEqual(self.threads(), [])

    async def test_cancel(self) -> None:
        """
        Ends the wait, and the threads go nevertheless.
        """
        user = self.make(PoolUser)
        user.setup()
        d = user.shutdown()
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        await user.shutdown()
        self.assertEqual((self.threads(), self.reactor.triggers), ([], []))

    async def test_usableAgain(self) -> None:
        """
        A call that comes later gets a new pool, even while the old one ends.
        """
        user = self.make(PoolUser)
        barrier = self.makeBarrier()
        old, before = user.pool, user.deferToThreadInPool(barrier)
        gone = Outcome(user.shutdown())
        self.assertEqual(await user.deferToThreadInPool(int), 0)
        self.assertIsNot(user.pool, old)
        self.assertEqual(gone.fired, 0)
        barrier.open()
        await before
        await self.until(lambda: gone.fired, "the old pool has ended")
        self.assertEqual(len(self.reactor.triggers), 1)
        self.assertEqual(await user.deferToThreadInPool(int), 0)

    async def test_stoppedByHand(self) -> None:
        """
        A pool that somebody has stopped is replaced.
        """
        user = self.make(PoolUser)
        user.pool.stop()
        self.assertEqual(await user.deferToThreadInPool(int), 0)
        user.pool.stop()
        await user.shutdown()

    async def test_noThreadIsLeft(self) -> None:
        """
        After many pools.
        """
        before = threading.active_count()
        for _ in range(200):
            user = PoolUser(reactor=self.reactor)
            user.setup()
            await user.shutdown()
        self.assertEqual((threading.active_count(), self.reactor.triggers), (before, []))

    async def test_shutdownInThePool(self) -> None:
        """
        A call that has the pool end, and does not wait for that, is done before.
        """
        user = self.make(PoolUser)

        def call() -> str:
            self.reactor.callFromThread(user.shutdown)
            return "done"

        self.assertEqual(await user.deferToThreadInPool(call), "done")
        await self.until(lambda: not self.threads(), "the threads have gone")


class ReactorStopTests(PoolTestCase):
    """
    The end of the reactor.
    """

    async def test_waitsForCalls(self) -> None:
        """
        Those that are running are waited for, and the pool ends.
        """
        user = self.make(PoolUser)
        barrier = self.makeBarrier()
        call = Outcome(user.deferToThreadInPool(barrier))
        await barrier.entered
        stopped = self.reactor.shutDown()
        outcome = Outcome(stopped)
        self.assertEqual((outcome.fired, self.reactor.triggers), (0, []))
        barrier.open()
        await self.until(lambda: outcome.fired, "the reactor goes on")
        self.assertEqual((call.value, self.threads()), ("through", []))

    async def test_notForEver(self) -> None:
        """
        A call that takes its time is not waited for, which is logged.
        """
        user = self.make(PoolUser)
        barrier = self.makeBarrier()
        user.deferToThreadInPool(barrier)
        thread = await barrier.entered
        outcome = Outcome(self.reactor.shutDown())
        self.assertEqual(outcome.fired, 0)
        self.reactor.clock.advance(GRACE)
        self.assertEqual((outcome.fired, outcome.failure), (1, None))
        self.assertTrue(thread.is_alive())

    async def test_failingShutdown(self) -> None:
        """
        A subclass whose shutdown fails does not keep the reactor from going on.
        """

        class Failing(PoolUser):
            fails = True

            def shutdown(self) -> Deferred[None]:
                if self.fails:
                    raise ValueError("failing shutdown")
                return super().shutdown()

        user = self.make(Failing)
        user.setup()
        await self.reactor.shutDown()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        user.fails = False


class ProgramTests(SynchronousTestCase):
    """
    Programs that end by themselves.
    """

    def test_withoutAReactor(self) -> None:
        """
        Threads do not keep a program from ending whose reactor never runs.
        """
        program = "from asynqueue.threads.pool import PoolUser\nPoolUser().setup()\nprint('end')"
        self.assertEqual(outputOf(program, 20).strip(), "end")

    def test_Z32_noReactorBeforeItsUse(self) -> None:
        """
        Making an object installs none.
        """
        program = (
            "import sys\n"
            "from asynqueue.threads.consumerator import Consumerator\n"
            "from asynqueue.threads.filerator import Filerator\n"
            "from asynqueue.threads.ordered import OrderedItemProducer\n"
            "from asynqueue.threads.pool import PoolUser\n"
            "made = [kind(maxThreads=3) for kind in (PoolUser, Consumerator, Filerator, OrderedItemProducer)]\n"
            "print('twisted.internet.reactor' in sys.modules)\n"
        )
        self.assertEqual(outputOf(program, 20).strip(), "False")

    def test_stuckCall(self) -> None:
        """
        A call that does not return does not keep the reactor from stopping.
        """
        program = (
            "import threading\n"
            "from twisted.internet import reactor\n"
            "from asynqueue.threads.pool import PoolUser\n"
            "def stuck():\n"
            "    reactor.callFromThread(reactor.stop)\n"
            "    threading.Event().wait(300)\n"
            "reactor.callWhenRunning(PoolUser().deferToThreadInPool, stuck)\n"
            "reactor.run()\n"
            "print('end')\n"
        )
        self.assertEqual(outputOf(program, 20).strip(), "end")
