"""
Tests of items that are made at once and arrive in order.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from asynqueue.errors import QueueRunError
from asynqueue.threads.ordered import OrderedItemProducer
from test.pools import PoolTestCase
from test.support import Outcome


def failing(_: Iterable[Any]) -> None:
    """
    Be a blocking function that fails.
    """
    raise ZeroDivisionError("failing function")


class ProducerTestCase(PoolTestCase):
    """
    Tests of a producer.
    """

    def setUp(self) -> None:
        """
        Make the producer.
        """
        super().setUp()
        self.producer = self.make(OrderedItemProducer)

    def pending(self, number: int) -> tuple[list[Deferred[Any]], list[Outcome]]:
        """
        Have some items made, which fire when told.

        @return: What is to be fired, and what became of each.
        """
        makers: list[Deferred[Any]] = [Deferred() for _ in range(number)]
        return makers, [Outcome(self.producer.produceItem(lambda maker=maker: maker)) for maker in makers]


class ProduceTests(ProducerTestCase):
    """
    What is produced.
    """

    async def test_R16_inOrderOfTheCalls(self) -> None:
        """
        Items arrive in the order of the calls, in whatever order they are made.
        """
        await self.producer.start(list)
        makers, outcomes = self.pending(6)
        for number in (3, 5, 0, 1, 4, 2):
            makers[number].callback(number)
            self.assertEqual((outcomes[number].fired, outcomes[number].value), (1, number))
        self.assertEqual(await self.producer.stop(), [0, 1, 2, 3, 4, 5])

    async def test_kindsOfFunctions(self) -> None:
        """
        They may return a value or a Deferred, or be coroutine functions, and get their arguments.
        """

        async def coroutine(number: int, *, by: int) -> int:
            await deferLater(reactor, 0)
            return number * by

        await self.producer.start(list)
        items: list[Deferred[Any]] = [
            self.producer.produceItem(coroutine, 2, by=5),
            self.producer.produceItem(divmod, 7, 2),
            self.producer.produceItem(deferLater, reactor, 0, str, 5),
            self.producer.produceItem(self.producer.deferToThreadInPool, threading.current_thread),
            self.producer.produceItem(lambda: None),
        ]
        made = await gatherResults(items)
        self.assertEqual(made[:3], [10, (3, 1), "5"])
        self.assertIsNot(made[3], threading.current_thread())
        self.assertEqual(await self.producer.stop(), made)

    async def test_arrivesWhenItIsMade(self) -> None:
        """
        The blocking function need not wait for the end.
        """
        seen: Deferred[Any] = Deferred()

        def look(items: Iterable[Any]) -> None:
            for item in items:
                self.reactor.callFromThread(seen.callback, item)

        await self.producer.start(look)
        self.producer.produceItem(int, "5")
        self.assertEqual(await seen, 5)
        self.assertIsNone(await self.producer.stop())

    async def test_R16_failing(self) -> None:
        """
        An item that fails is left out, and its Deferred fails.
        """
        await self.producer.start(list)
        makers, outcomes = self.pending(4)
        outcomes.append(Outcome(self.producer.produceItem(divmod, 1, 0)))
        makers[3].callback(3)
        makers[1].errback(ValueError("not made"))
        makers[0].callback(0)
        makers[2].callback(2)
        self.assertEqual([each.kind for each in outcomes], [None, ValueError, None, None, ZeroDivisionError])
        self.assertEqual(await self.producer.stop(), [0, 2, 3])
        self.assertNothingLogged()

    async def test_cancel(self) -> None:
        """
        An item that is cancelled is left out, too.
        """
        await self.producer.start(list)
        maker: Deferred[None] = Deferred()
        item = self.producer.produceItem(lambda: maker)
        outcome = Outcome(item)
        self.producer.produceItem(int)
        stopped = self.producer.stop()
        item.cancel()
        self.assertEqual((outcome.kind, maker.called), (CancelledError, True))
        self.assertEqual(await stopped, [0])

    async def test_arguments(self) -> None:
        """
        The blocking function gets its own, after the iterator.
        """
        await self.producer.start(lambda items, *args, **kw: (list(items), args, kw), 1, key="value")
        self.assertEqual(await self.producer.stop(), ([], (1,), {"key": "value"}))

    async def test_oneThread(self) -> None:
        """
        Is enough.
        """
        self.producer = self.make(OrderedItemProducer, maxThreads=1)
        await self.producer.start(sum)
        for number in range(100):
            self.producer.produceItem(int, number)
        self.assertEqual(await self.producer.stop(), 4950)


class StateTests(ProducerTestCase):
    """
    What may be called when.
    """

    def refused(self, function: Callable[..., Any], *args: Any) -> str:
        """
        Call a method that must be refused, and return why.
        """
        with self.assertRaises(QueueRunError) as caught:
            function(*args)
        return str(caught.exception)

    async def test_R16_errorsAtTheCall(self) -> None:
        """
        Items are for a producer that has been started and not stopped; it is started once.
        """
        self.assertIn("has not been started", self.refused(self.producer.produceItem, int))
        started = self.producer.start(list)
        self.assertIn("is running", self.refused(self.producer.start, list))
        await started
        maker: Deferred[int] = Deferred()
        self.producer.produceItem(lambda: maker)
        stopped = self.producer.stop()
        self.assertIn("is being stopped", self.refused(self.producer.produceItem, int))
        self.assertIn("is being stopped", self.refused(self.producer.start, list))
        maker.callback(1)
        self.assertEqual(await stopped, [1])
        self.assertIn("has been stopped", self.refused(self.producer.produceItem, int))
        self.assertIn("has been stopped", self.refused(self.producer.start, list))

    async def test_notCallable(self) -> None:
        """
        Is refused at the call.
        """
        wrong: Any = "function"
        self.assertRaises(TypeError, self.producer.start, wrong)
        await self.producer.start(list)
        self.assertRaises(TypeError, self.producer.produceItem, wrong)
        self.assertEqual(await self.producer.stop(), [])

    async def test_startWaits(self) -> None:
        """
        Until the function has begun, in a thread of the pool.
        """
        self.producer = self.make(OrderedItemProducer, maxThreads=1)
        barrier = self.makeBarrier()
        self.producer.deferToThreadInPool(barrier)
        started = Outcome(self.producer.start(list))
        await barrier.entered
        self.producer.produceItem(int)
        self.assertEqual(started.fired, 0)
        barrier.open()
        await self.until(lambda: started.fired, "the function has begun")
        self.assertEqual((started.value, await self.producer.stop()), (None, [0]))

    async def test_cancelTheStart(self) -> None:
        """
        Ends the wait, and nothing else.
        """
        started = self.producer.start(list)
        outcome = Outcome(started)
        started.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.producer.produceItem(int)
        self.assertEqual(await self.producer.stop(), [0])

    async def test_noThreadToBeHad(self) -> None:
        """
        The start fails, and so does the stop.
        """

        def start(thread: threading.Thread) -> None:
            raise RuntimeError(f"can't start new thread {thread}")

        patcher = self.patch(threading.Thread, "start", start)
        started = Outcome(self.producer.start(list))
        patcher.restore()
        self.assertIs(started.kind, RuntimeError)
        self.assertEqual(Outcome(self.producer.produceItem(int)).value, 0)
        self.assertIs(Outcome(self.producer.stop()).kind, RuntimeError)


class StopTests(ProducerTestCase):
    """
    The end.
    """

    async def test_R16_afterAllItems(self) -> None:
        """
        Stopping waits for those that are being made, and all who stop get the result.
        """
        await self.producer.start(list)
        makers, _ = self.pending(3)
        stops = [self.producer.stop() for _ in range(2)]
        outcomes = [Outcome(each) for each in stops]
        makers[2].callback(2)
        makers[0].callback(0)
        await deferLater(reactor, 0)
        self.assertEqual([each.fired for each in outcomes], [0, 0])
        makers[1].callback(1)
        self.assertEqual(await self.producer.stop(), [0, 1, 2])
        self.assertEqual([each.value for each in outcomes], [[0, 1, 2]] * 2)
        self.assertEqual((await self.producer.stop(), self.threads()), ([0, 1, 2], []))

    async def test_new(self) -> None:
        """
        What has not been started has no result.
        """
        outcome = Outcome(self.producer.stop())
        self.assertEqual((outcome.fired, outcome.value, self.threads()), (1, None, []))

    async def test_R16_functionFails(self) -> None:
        """
        Stopping fails as it has. Items that come after are made for nobody.
        """
        await self.producer.start(failing)
        makers, outcomes = self.pending(2)
        makers[1].callback(1)
        for _ in range(2):
            with self.assertRaises(ZeroDivisionError):
                await self.producer.stop()
        makers[0].callback(0)
        self.assertEqual([each.value for each in outcomes], [0, 1])

    async def test_functionFailsUnseen(self) -> None:
        """
        What nobody has been told is logged.
        """
        producer = OrderedItemProducer(reactor=self.reactor)
        await producer.start(failing)
        await producer.shutdown()
        del producer
        for _ in range(2):
            await deferLater(reactor, 0)
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_R16_functionLeaves(self) -> None:
        """
        Before the end: nothing waits for what is being made.
        """
        await self.producer.start(lambda items: next(items))
        makers, outcomes = self.pending(3)
        makers[0].callback("first")
        self.assertEqual(await self.producer.stop(), "first")
        makers[2].callback("third")
        makers[1].errback(ValueError("not made"))
        self.assertEqual([each.kind for each in outcomes], [None, ValueError, None])
        self.assertEqual(self.threads(), [])

    async def test_functionHasLeft(self) -> None:
        """
        Items may be produced nevertheless, until the producer is stopped.
        """
        over: Deferred[None] = Deferred()

        def leave(_: Iterable[Any]) -> str:
            self.reactor.callFromThread(over.callback, None)
            return "left"

        await self.producer.start(leave)
        await over
        await deferLater(reactor, 0)
        self.assertEqual([await self.producer.produceItem(int, number) for number in range(20)], list(range(20)))
        self.assertEqual(await self.producer.stop(), "left")

    async def test_cancel(self) -> None:
        """
        Ends the wait, and nothing else.
        """
        await self.producer.start(list)
        makers, _ = self.pending(1)
        stopped = self.producer.stop()
        outcome = Outcome(stopped)
        stopped.cancel()
        self.assertIs(outcome.kind, CancelledError)
        makers[0].callback(0)
        self.assertEqual(await self.producer.stop(), [0])

    async def test_shutdown(self) -> None:
        """
        Ends the iterator at once, whatever is being made.
        """
        await self.producer.start(list)
        makers, outcomes = self.pending(2)
        stopped = Outcome(self.producer.stop())
        await self.producer.shutdown()
        self.assertEqual((stopped.fired, stopped.value, self.threads()), (1, [], []))
        self.assertRaises(QueueRunError, self.producer.produceItem, int)
        makers[0].callback(0)
        makers[1].callback(1)
        self.assertEqual([each.value for each in outcomes], [0, 1])

    async def test_reactorStops(self) -> None:
        """
        Likewise.
        """
        await self.producer.start(list)
        makers, outcomes = self.pending(1)
        await self.reactor.shutDown()
        self.assertEqual((await self.producer.stop(), self.threads()), ([], []))
        makers[0].callback(0)
        self.assertEqual(outcomes[0].value, 0)

    async def test_iteratorAfterTheEnd(self) -> None:
        """
        Is at its end, for whoever asks, and again.
        """

        def share(items: Any) -> tuple[list[Any], Any]:
            return list(items), items

        await self.producer.start(share)
        self.producer.produceItem(int)
        taken, iterator = await self.producer.stop()
        self.assertEqual((taken, list(iterator), list(iterator)), ([0], [], []))

    async def test_manyCycles(self) -> None:
        """
        Leave nothing.
        """
        before = threading.active_count()
        for _ in range(200):
            producer = OrderedItemProducer(reactor=self.reactor)
            await producer.start(sum)
            for number in range(3):
                producer.produceItem(int, number)
            self.assertEqual(await producer.stop(), 3)
        self.assertEqual((threading.active_count(), self.reactor.triggers), (before, []))
