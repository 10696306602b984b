"""
Tests of the consumer whose data blocking code iterates over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from asynqueue.errors import ImplementationError, QueueRunError
from asynqueue.load import LoadInfoProducer
from asynqueue.threads.consumerator import HALF, MOST, Consumerator
from test.pools import PoolTestCase
from test.support import Outcome

#: What a blocking call for a single item returns at the end.
END = "end"


@implementer(IPushProducer)
class Pusher:
    """
    A push producer that notes what it is told.
    """

    def __init__(self, failing: str = "") -> None:
        self.told: list[str] = []
        self.failing = failing

    def _note(self, what: str) -> None:
        self.told.append(what)
        if what == self.failing:
            raise ValueError(what)

    def pauseProducing(self) -> None:
        """
        Note it.
        """
        self._note("pause")

    def resumeProducing(self) -> None:
        """
        Note it.
        """
        self._note("resume")

    def stopProducing(self) -> None:
        """
        Note it.
        """
        self._note("stop")


@implementer(IPullProducer)
class Puller:
    """
    A pull producer of some items, one each time.

    @ivar asked: How often it has been asked.
    """

    def __init__(self, consumer: Consumerator, items: Iterable[Any]) -> None:
        self.consumer = consumer
        self.items = iter(items)
        self.asked = 0
        self.isStopped = False

    def resumeProducing(self) -> None:
        """
        Write an item, or leave.
        """
        self.asked += 1
        try:
            item = next(self.items)
        except StopIteration:
            self.consumer.unregisterProducer()
        else:
            self.consumer.write(item)

    def stopProducing(self) -> None:
        """
        Note it.
        """
        self.isStopped = True


class ConsumeratorTestCase(PoolTestCase):
    """
    Tests of a consumer.
    """

    def setUp(self) -> None:
        """
        Make the consumer.
        """
        super().setUp()
        self.consumer = self.make(Consumerator)

    async def take(self, number: int = 1) -> list[Any]:
        """
        Take some items in a thread, one after the other.
        """
        return [await self.consumer.deferToThreadInPool(next, self.consumer, END) for _ in range(number)]

    async def takeAll(self) -> list[Any]:
        """
        Take all items in a thread.
        """
        return await self.consumer.deferToThreadInPool(list, self.consumer)


class WriteTests(ConsumeratorTestCase):
    """
    What is written.
    """

    async def test_R16_inOrder(self) -> None:
        """
        Arrives in order, whether it was written before it was waited for or after.
        """
        verifyObject(IConsumer, self.consumer)
        self.consumer.registerProducer(Pusher(), True)
        self.consumer.write(0)
        taken = self.takeAll()
        for number in range(1, 10):
            self.consumer.write(number)
        self.consumer.unregisterProducer()
        self.assertEqual(await taken, list(range(10)))
        await self.consumer.deferUntilDone()
        self.assertEqual(self.consumer.runState, "stopped")

    async def test_waitsForTheProducer(self) -> None:
        """
        The iteration may begin before there is a producer.
        """
        waiting = Outcome(self.consumer.deferToThreadInPool(list, self.consumer))
        await self.until(lambda: self.consumer.runState == "running", "the loop has begun")
        self.assertEqual(waiting.fired, 0)
        self.consumer.registerProducer(Pusher(), True)
        self.consumer.write("item")
        self.consumer.unregisterProducer()
        await self.until(lambda: waiting.fired, "the iteration is over")
        self.assertEqual(waiting.value, ["item"])

    async def test_nothing(self) -> None:
        """
        A producer that writes nothing makes an iteration of nothing.
        """
        self.consumer.registerProducer(Pusher(), True)
        self.consumer.unregisterProducer()
        self.consumer.unregisterProducer()
        self.assertEqual(await self.takeAll(), [])

    async def test_noneIsAnItem(self) -> None:
        """
        Like any other, and so are errors that are written.
        """
        items = [None, False, StopIteration(), ValueError("written")]
        for item in items:
            self.consumer.write(item)
        self.consumer.unregisterProducer()
        self.assertEqual(await self.takeAll(), items)

    async def test_afterTheEnd(self) -> None:
        """
        Is dropped, and producers that come are stopped.
        """
        self.consumer.write("before")
        self.consumer.unregisterProducer()
        self.consumer.write("after")
        late = Pusher()
        self.consumer.registerProducer(late, True)
        self.assertEqual((late.told, self.consumer.producer), (["stop"], None))
        self.assertEqual(await self.takeAll(), ["before"])
        self.consumer.write("later")
        self.assertEqual(await self.takeAll(), [])

    async def test_reactorsThread(self) -> None:
        """
        Takes what is there, and is told that it must not wait.
        """
        self.consumer.write("item")
        self.assertEqual(next(self.consumer), "item")
        self.assertRaises(QueueRunError, next, self.consumer)
        self.consumer.unregisterProducer()
        self.assertEqual(next(self.consumer, END), END)
        self.assertEqual(next(self.consumer, END), END)

    async def test_foreignThread(self) -> None:
        """
        May iterate as well as those of the pool.
        """
        taken: list[Any] = []
        thread = threading.Thread(target=lambda: taken.extend(self.consumer), daemon=True)
        thread.start()
        self.consumer.write("item")
        self.consumer.unregisterProducer()
        await self.consumer.deferUntilDone()
        await self.until(lambda: not thread.is_alive(), "the thread has ended")
        self.assertEqual((taken, self.threads()), (["item"], []))


class RegisterTests(ConsumeratorTestCase):
    """
    Which producers there may be.
    """

    def test_second(self) -> None:
        """
        Is refused, as Twisted does.
        """
        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        for other in (producer, Pusher(), Puller(self.consumer, [])):
            self.assertRaises(RuntimeError, self.consumer.registerProducer, other, other is producer)
        self.assertIs(self.consumer.producer, producer)

    def test_interfaces(self) -> None:
        """
        It must provide that of its kind.
        """
        for producer, streaming in [(object(), True), (object(), False), (Puller(self.consumer, []), True)]:
            self.assertRaises(ImplementationError, self.consumer.registerProducer, producer, streaming)
        self.assertRaises(ImplementationError, self.consumer.registerProducer, Pusher(), False)
        self.assertRaises(ImplementationError, Consumerator, object())
        self.assertIsNone(self.consumer.producer)

    async def test_given(self) -> None:
        """
        A producer that is given when the consumer is made is registered, and may register itself.
        """
        producer = Pusher()
        self.consumer = self.make(Consumerator, producer)
        self.assertIs(self.consumer.producer, producer)
        self.assertRaises(RuntimeError, self.consumer.registerProducer, Pusher(), True)
        self.consumer.registerProducer(producer, True)
        self.assertRaises(RuntimeError, self.consumer.registerProducer, producer, True)
        self.consumer.write("item")
        self.consumer.unregisterProducer()
        self.assertEqual((await self.takeAll(), producer.told), (["item"], []))

    async def test_loadInfo(self) -> None:
        """
        A producer of ours writes to it.
        """
        load = LoadInfoProducer()
        load.registerConsumer(self.consumer)
        load.oneMore()
        load.oneLess()
        load.shutdown()
        self.assertEqual(await self.takeAll(), [1, 0])


class PushTests(ConsumeratorTestCase):
    """
    Back-pressure on push producers.
    """

    async def test_R16_pauseAndResume(self) -> None:
        """
        The producer is paused when more than 16 items wait, and resumed when half of them are left.
        """
        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        for number in range(MOST):
            self.consumer.write(number)
        self.assertEqual((MOST, producer.told), (16, []))
        self.consumer.write(16)
        self.consumer.write(17)
        self.assertEqual(producer.told, ["pause"])
        self.assertEqual(await self.take(MOST + 2 - HALF - 1), list(range(9)))
        self.assertEqual(producer.told, ["pause"])
        self.assertEqual(await self.take(), [9])
        self.assertEqual(producer.told, ["pause", "resume"])
        for number in range(9):
            self.consumer.write(number)
        self.assertEqual(producer.told, ["pause", "resume", "pause"])
        self.consumer.unregisterProducer()
        self.assertEqual(len(await self.takeAll()), 17)
        self.assertEqual(producer.told, ["pause", "resume", "pause"])

    async def test_neverStuck(self) -> None:
        """
        However fast either side is: what is paused is resumed.
        """

        class Flood(Pusher):
            left = 3000
            isRunning = False

            def resumeProducing(self) -> None:
                super().resumeProducing()
                self.flow()

            def pauseProducing(self) -> None:
                super().pauseProducing()
                self.isRunning = False

            def flow(self) -> None:
                self.isRunning = True
                while self.isRunning and self.left:
                    self.left -= 1
                    consumer.write(self.left)
                if not self.left:
                    consumer.unregisterProducer()

        consumer = self.consumer
        producer = Flood()
        consumer.registerProducer(producer, True)
        taken: Deferred[list[int]] = consumer.deferToThreadInPool(list, consumer)
        producer.flow()
        self.assertEqual(await taken, list(reversed(range(3000))))
        self.assertIn("resume", producer.told)

    async def test_lateProducer(self) -> None:
        """
        That comes when there is much already is paused at once.
        """
        for number in range(MOST + 1):
            self.consumer.write(number)
        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        self.assertEqual(producer.told, ["pause"])

    async def test_failingPause(self) -> None:
        """
        Is logged, and nothing is lost.
        """
        self.consumer.registerProducer(Pusher("pause"), True)
        for number in range(MOST + 1):
            self.consumer.write(number)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.consumer.unregisterProducer()
        self.assertEqual(len(await self.takeAll()), MOST + 1)

    async def test_failingResume(self) -> None:
        """
        Is raised in the blocking side, after what was written; the producer is let go.
        """
        producer = Pusher("resume")
        self.consumer.registerProducer(producer, True)
        for number in range(MOST + 1):
            self.consumer.write(number)
        self.assertEqual(len(await self.take(MOST + 1)), MOST + 1)
        with self.assertRaises(ValueError):
            await self.take()
        self.assertEqual((await self.take(), producer.told), ([END], ["pause", "resume", "stop"]))
        await self.consumer.deferUntilDone()


class PullTests(ConsumeratorTestCase):
    """
    Pull producers.
    """

    async def test_R16_askedWhenWanted(self) -> None:
        """
        Once for each item that the blocking side waits for.
        """
        producer = Puller(self.consumer, "abc")
        self.consumer.registerProducer(producer, False)
        self.assertEqual(producer.asked, 0)
        for number, item in enumerate("abc", 1):
            self.assertEqual((await self.take(), producer.asked), ([item], number))
        self.assertEqual((await self.take(2), producer.asked), ([END, END], 4))
        self.assertFalse(producer.isStopped)
        await self.consumer.deferUntilDone()

    async def test_comesLate(self) -> None:
        """
        A producer for which the blocking side has been waiting is asked at once.
        """
        waiting: Deferred[list[int]] = self.consumer.deferToThreadInPool(list, self.consumer)
        await self.until(lambda: self.consumer.runState == "running", "the loop has begun")
        self.consumer.registerProducer(Puller(self.consumer, range(100)), False)
        self.assertEqual(await waiting, list(range(100)))

    async def test_given(self) -> None:
        """
        When the consumer is made, it is known for what it is.
        """
        producer = Puller(self.consumer, "abc")
        self.consumer = producer.consumer = self.make(Consumerator, producer)
        self.consumer.registerProducer(producer, False)
        self.assertEqual(await self.takeAll(), ["a", "b", "c"])

    async def test_severalAtATime(self) -> None:
        """
        What is there is taken before the producer is asked again.
        """

        class Pairs(Puller):
            def resumeProducing(self) -> None:
                for _ in range(2):
                    super().resumeProducing()

        producer = Pairs(self.consumer, range(10))
        self.consumer.registerProducer(producer, False)
        self.assertEqual((await self.take(4), producer.asked), ([0, 1, 2, 3], 4))

    async def test_raises(self) -> None:
        """
        The blocking side gets the exception, and then there is the end.
        """

        def items() -> Iterable[int]:
            yield 1
            yield 1 // 0

        producer = Puller(self.consumer, items())
        self.consumer.registerProducer(producer, False)
        self.assertEqual(await self.take(), [1])
        with self.assertRaises(ZeroDivisionError):
            await self.takeAll()
        self.assertEqual((await self.take(), producer.isStopped), ([END], True))


class StopTests(ConsumeratorTestCase):
    """
    The end before the end.
    """

    async def test_R16_stop(self) -> None:
        """
        The producer is stopped, the blocking side gets no more, and what is written is dropped.
        """
        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        for number in range(3):
            self.consumer.write(number)
        self.assertEqual(await self.take(), [0])
        stopped = self.consumer.stop()
        self.consumer.write("late")
        self.assertEqual((producer.told, self.consumer.producer), (["stop"], None))
        self.assertEqual(await self.takeAll(), [])
        await stopped
        await self.consumer.stop()
        self.assertEqual(producer.told, ["stop"])

    async def test_beforeTheStart(self) -> None:
        """
        Likewise.
        """
        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        for number in range(MOST + 1):
            self.consumer.write(number)
        self.assertEqual(Outcome(self.consumer.stop()).fired, 1)
        self.assertEqual(producer.told, ["pause", "stop"])
        self.assertEqual((await self.takeAll(), self.consumer.runState), ([], "stopped"))

    async def test_whileWaiting(self) -> None:
        """
        The blocking side goes on.
        """
        waiting: Deferred[list[int]] = self.consumer.deferToThreadInPool(list, self.consumer)
        await self.consumer.start()
        await self.consumer.stop()
        self.assertEqual(await waiting, [])

    async def test_producerThatLeavesWhenStopped(self) -> None:
        """
        Or fails, does no harm.
        """

        class Leaving(Pusher):
            def stopProducing(self) -> None:
                consumer.write("last words")
                consumer.unregisterProducer()
                super().stopProducing()

        consumer = self.consumer
        consumer.registerProducer(Leaving("stop"), True)
        await consumer.stop()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(await self.takeAll(), [])

    async def test_theBlockingSideLeaves(self) -> None:
        """
        With an error: the reactor learns it, and stops the producer.
        """

        def fail(items: Iterable[Any]) -> None:
            for item in items:
                divmod(item, 0)

        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        self.consumer.write(1)
        with self.assertRaises(ZeroDivisionError):
            await self.consumer.deferToThreadInPool(fail, self.consumer)
        await self.consumer.stop()
        self.assertEqual((producer.told, self.threads()), (["stop"], []))

    async def test_reactorStops(self) -> None:
        """
        The producer is stopped, and the blocking side goes on.
        """
        producer = Pusher()
        self.consumer.registerProducer(producer, True)
        waiting = Outcome(self.consumer.deferToThreadInPool(list, self.consumer))
        await self.consumer.start()
        await self.reactor.shutDown()
        self.assertEqual((waiting.value, producer.told, self.threads()), ([], ["stop"], []))

    async def test_failingLoop(self) -> None:
        """
        Of a subclass stops the producer.
        """

        class Failing(Consumerator):
            def loop(self) -> None:
                raise ValueError("failing loop")

        producer = Pusher()
        self.consumer = self.make(Failing, producer)
        with self.assertRaises(ValueError):
            await self.take()
        await self.consumer.stop()
        self.assertEqual(producer.told, ["stop"])

    async def test_manyCycles(self) -> None:
        """
        Leave nothing.
        """
        before = threading.active_count()
        for _ in range(200):
            self.consumer = Consumerator(reactor=self.reactor)
            self.consumer.registerProducer(Puller(self.consumer, "abc"), False)
            self.assertEqual(await self.takeAll(), ["a", "b", "c"])
            await self.consumer.stop()
        self.assertEqual((threading.active_count(), self.reactor.triggers), (before, []))
