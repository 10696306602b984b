"""
Tests of back-pressure: the bound on waiting calls, who waits for room, producers that are paused, and the load figure.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from asynqueue import TaskQueue
from asynqueue.errors import ImplementationError, QueueClosed, QueueFull, QueueRunError, TimeoutError
from asynqueue.interfaces import IConsumer
from asynqueue.load import LoadInfoProducer
from asynqueue.testing import ManagedMemoryWorker, MemoryWorker
from asynqueue.testing.tasks import identity
from test.support import Consumer, Outcome, QueueTestCase


@implementer(IConsumer)
class LoadConsumer(Consumer):
    """
    Keeps the load.
    """


@implementer(IPushProducer)
class CallProducer:
    """
    Notes what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        """
        Note it.
        """
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """
        Note it.
        """
        self.told.append("resume")

    def stopProducing(self) -> None:
        """
        Note it.
        """
        self.told.append("stop")


class BoundTests(QueueTestCase):
    """
    maxPending.
    """

    def setUp(self) -> None:
        """
        Make a queue in which two calls may wait, with a worker that is busy.
        """
        super().setUp()
        self.worker = MemoryWorker()
        self.queue = self.makeQueue(self.worker, maxPending=2)
        self.running = self.call(self.queue, identity, "running")

    def test_F89_full(self) -> None:
        """
        A call beyond the bound errbacks at once, is counted, and changes nothing.
        """
        waiting = [self.call(self.queue, identity, number) for number in range(2)]
        for _ in range(3):
            error = self.assertFailed(self.call(self.queue, identity, "too many"), QueueFull, QueueRunError)
        self.assertIn("2 calls wait", str(error))
        self.assertEqual(self.queue.statistics().refused, 3)
        self.assertEqual(self.queue.statistics().submitted, 3)
        self.worker.stepAll()
        for number, outcome in enumerate(waiting):
            self.assertValue(outcome, number)
        self.assertEqual(len(self.worker.started), 3)

    def test_F89_roomAgain(self) -> None:
        """
        When a call has been given to a worker, or is cancelled, another may come.
        """
        calls = [self.queue.call(identity, number) for number in range(2)]
        outcomes = [Outcome(call) for call in calls]
        self.worker.step()
        self.assertPending(self.call(self.queue, identity, "room"))
        calls[1].cancel()
        self.assertFailed(outcomes[1], CancelledError)
        self.assertPending(self.call(self.queue, identity, "room"))
        self.assertFailed(self.call(self.queue, identity, "too many"), QueueFull)
        self.queue.cancelAll()
        self.assertPending(self.call(self.queue, identity, "room"))

    def test_F89_parkedCallsCount(self) -> None:
        """
        Whatever they wait for.
        """
        for _ in range(2):
            self.call(self.queue, int, series="nobody")
        self.assertFailed(self.call(self.queue, int), QueueFull)

    def test_N05_badBounds(self) -> None:
        """
        A bound is a whole number from 1 on.
        """
        for wrong in ("5", 2.0, True):
            with self.assertRaises(TypeError):
                self.makeQueue(maxPending=wrong)
        for wrong in (0, -1):
            with self.assertRaises(ValueError):
                self.makeQueue(maxPending=wrong)

    def test_N05_readyAtOnce(self) -> None:
        """
        While there is room, and always in a queue without a bound.
        """
        self.assertValue(Outcome(self.queue.ready()), None)
        self.assertValue(Outcome(self.makeQueue().ready()), None)

    def test_N05_readyInTurn(self) -> None:
        """
        Those who wait are told one after the other, as far as there is room.
        """
        for _ in range(2):
            self.call(self.queue, int)
        order: list[int] = []

        def use(_: None, number: int) -> None:
            order.append(number)
            self.call(self.queue, int)

        for number in range(3):
            waiter = self.queue.ready()
            waiter.addCallback(use, number)
        self.assertEqual(order, [])
        self.worker.step()
        self.assertEqual(order, [0])
        self.worker.step()
        self.assertEqual(order, [0, 1])
        self.worker.stepAll()
        self.assertEqual(order, [0, 1, 2])
        self.assertEqual(self.queue.statistics().refused, 0)

    def test_N05_readyCanBeCancelled(self) -> None:
        """
        And the others wait on.
        """
        for _ in range(2):
            self.call(self.queue, int)
        waiters = [self.queue.ready() for _ in range(2)]
        outcomes = [Outcome(waiter) for waiter in waiters]
        waiters[0].cancel()
        self.assertFailed(outcomes[0], CancelledError)
        self.worker.step()
        self.assertValue(outcomes[1], None)

    def test_N05_readyAfterBulkCancel(self) -> None:
        """
        Room that comes by cancelAll and cancelSeries counts at once.
        """
        for cancel in (self.queue.cancelAll, lambda: self.queue.cancelSeries(None)):
            for _ in range(2):
                self.call(self.queue, int)
            waiter = Outcome(self.queue.ready())
            self.assertPending(waiter)
            cancel()
            self.assertValue(waiter, None)
            self.turn()

    def test_N05_readyAfterARerunThatNobodyTook(self) -> None:
        """
        Room that comes by a call's timeout counts, too.
        """
        queue = self.makeQueue(MemoryWorker(), maxPending=1)
        outcome = self.call(queue, identity, 1, timeout=5)
        self.clock.advance(5)
        waiter = Outcome(queue.ready())
        self.assertPending(waiter)
        self.clock.advance(5)
        self.assertFailed(outcome, TimeoutError)
        self.assertValue(waiter, None)

    def test_N05_readyWhenWaitingCallsFail(self) -> None:
        """
        And room that comes since their worker has hung.
        """
        worker = ManagedMemoryWorker()
        queue = self.makeQueue(worker, maxPending=1)
        for _ in range(2):
            self.call(queue, int)
        waiter = Outcome(queue.ready())
        self.assertPending(waiter)
        worker.setFitness("is stuck")
        self.turn()
        self.assertValue(waiter, None)

    def test_N05_readyWhenShutDown(self) -> None:
        """
        There will be no more room.
        """
        for _ in range(2):
            self.call(self.queue, int)
        waiter = Outcome(self.queue.ready())
        self.queue.shutdown()
        self.assertFailed(waiter, QueueClosed)
        self.assertFailed(Outcome(self.queue.ready()), QueueClosed)
        self.worker.stepAll()

    def test_F83_manyWhoWait(self) -> None:
        """
        A thousand who wait for room, and each use it at once, make no recursion.
        """
        queue = self.makeQueue(maxPending=1)
        self.call(queue, int)
        called: list[Any] = []

        def use(_: None, number: int) -> None:
            called.append(self.call(queue, identity, number))

        for number in range(1000):
            queue.ready().addCallback(use, number).addErrback(called.append)
        worker = MemoryWorker(overlaps=True)
        queue.attachWorker(worker)
        while self.clock.getDelayedCalls():
            self.turn()
        worker.stepAll()
        self.assertEqual([getattr(outcome, "value", outcome) for outcome in called], list(range(1000)))


class ProducerTests(QueueTestCase):
    """
    A push producer of calls.
    """

    def setUp(self) -> None:
        """
        Make a queue in which four calls may wait, with a worker that is busy, and its producer.
        """
        super().setUp()
        self.worker = MemoryWorker()
        self.queue = self.makeQueue(self.worker, maxPending=4)
        self.producer = CallProducer()
        self.queue.registerProducer(self.producer, True)
        self.call(self.queue, int)

    def test_N05_pausedAndResumed(self) -> None:
        """
        Paused when as many calls wait as may, resumed when half as many do.
        """
        for _ in range(3):
            self.call(self.queue, int)
        self.assertEqual(self.producer.told, [])
        self.call(self.queue, int)
        self.assertEqual(self.producer.told, ["pause"])
        self.worker.step()
        self.assertEqual(self.producer.told, ["pause"])
        self.worker.step()
        self.assertEqual(self.producer.told, ["pause", "resume"])
        for _ in range(2):
            self.call(self.queue, int)
        self.assertEqual(self.producer.told, ["pause", "resume", "pause"])
        self.queue.cancelAll()
        self.assertEqual(self.producer.told, ["pause", "resume", "pause", "resume"])

    def test_N05_stoppedByShutdown(self) -> None:
        """
        Once.
        """
        self.queue.shutdown()
        self.queue.shutdown(drain=False)
        self.assertEqual(self.producer.told, ["stop"])
        self.worker.stepAll()

    def test_N05_unregistered(self) -> None:
        """
        A producer that is let go is told nothing, and another may come.
        """
        self.queue.unregisterProducer()
        for _ in range(4):
            self.call(self.queue, int)
        self.assertEqual(self.producer.told, [])
        other = CallProducer()
        self.queue.registerProducer(other, True)
        self.assertEqual(other.told, ["pause"])

    def test_N05_badProducers(self) -> None:
        """
        A second one, one that is no push producer, and one for a queue without a bound.
        """
        with self.assertRaises(RuntimeError):
            self.queue.registerProducer(CallProducer(), True)
        self.queue.unregisterProducer()
        with self.assertRaises(ValueError):
            self.queue.registerProducer(CallProducer(), False)
        with self.assertRaises(ValueError):
            self.queue.registerProducer(object(), True)  # type: ignore[arg-type]
        with self.assertRaises(ValueError):
            self.makeQueue().registerProducer(CallProducer(), True)

    def test_N05_pausedWhenCallsComeBack(self) -> None:
        """
        A worker that gives its calls back fills the queue as well.
        """
        for _ in range(3):
            self.call(self.queue, int)
        self.worker.resign()
        self.assertEqual(self.queue.statistics().queued, 4)
        self.assertEqual(self.producer.told, ["pause"])

    def test_F83_producerThatRaises(self) -> None:
        """
        Costs no call its Deferred, and the worker nothing.
        """

        @implementer(IPushProducer)
        class Broken(CallProducer):
            def pauseProducing(self) -> None:
                raise RuntimeError("from pauseProducing")

            def resumeProducing(self) -> None:
                raise RuntimeError("from resumeProducing")

        worker = MemoryWorker()
        queue = self.makeQueue(worker, maxPending=1)
        queue.registerProducer(Broken(), True)
        outcomes = [self.call(queue, identity, number) for number in range(2)]
        worker.stepAll()
        self.flushLoggedErrors(RuntimeError)
        for number, outcome in enumerate(outcomes):
            self.assertValue(outcome, number)


class SubscriptionTests(QueueTestCase):
    """
    The load, written to consumers.
    """

    def subscribed(self, queue: TaskQueue, *consumers: Any) -> None:
        """
        Subscribe consumers, and forget the number that each may be told at once.
        """
        for consumer in consumers:
            queue.subscribe(consumer)
            del consumer.written[:]

    def test_P16_queuedPlusRunning(self) -> None:
        """
        An int at each change.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        consumer = LoadConsumer()
        self.subscribed(queue, consumer)
        self.assertIsNotNone(consumer.producer)
        for _ in range(3):
            self.call(queue, int)
        self.assertEqual(consumer.written, [1, 2, 3])
        worker.step(2)
        self.assertEqual(consumer.written, [1, 2, 3, 2, 1])
        self.assertEqual({type(number) for number in consumer.written}, {int})

    def test_P16_cancelledCallsCount(self) -> None:
        """
        As well.
        """
        queue = self.makeQueue()
        consumer = LoadConsumer()
        queue.subscribe(consumer)
        call = queue.call(int)
        Outcome(call)
        for _ in range(4):
            self.call(queue, int)
        call.cancel()
        self.assertEqual(consumer.written[-1], 4)
        queue.cancelAll()
        self.turn()
        self.assertEqual(consumer.written[-1], 0)

    def test_P16_subscribedLate(self) -> None:
        """
        A consumer that comes when there is a load is told it.
        """
        queue = self.makeQueue()
        for _ in range(3):
            self.call(queue, int)
        consumers = LoadConsumer(), LoadConsumer()
        for consumer in consumers:
            queue.subscribe(consumer)
        self.call(queue, int)
        for consumer in consumers:
            self.assertEqual(consumer.written[-1], 4)
        self.assertEqual(consumers[0].written[0], 3)

    def test_P16_noConsumer(self) -> None:
        """
        Is refused.
        """
        with self.assertRaises(ImplementationError):
            self.makeQueue().subscribe(object())  # type: ignore[arg-type]

    def test_P16_twice(self) -> None:
        """
        A consumer is told once.
        """
        queue = self.makeQueue()
        consumer = LoadConsumer()
        self.subscribed(queue, consumer, consumer)
        self.call(queue, int)
        self.assertEqual(consumer.written, [1])

    def test_P16_pauseAndResume(self) -> None:
        """
        A consumer that has paused gets the present number when it resumes; another one gets all.
        """
        queue = self.makeQueue()
        paused, other = LoadConsumer(), LoadConsumer()
        self.subscribed(queue, paused, other)
        self.call(queue, int)
        paused.producer.pauseProducing()
        for _ in range(3):
            self.call(queue, int)
        self.assertEqual(paused.written, [1])
        paused.producer.resumeProducing()
        self.assertEqual(paused.written, [1, 4])
        self.assertEqual(other.written, [1, 2, 3, 4])

    def test_P16_stop(self) -> None:
        """
        A consumer that has stopped the producer is told no more; another one is.
        """
        queue = self.makeQueue()
        stopped, other = LoadConsumer(), LoadConsumer()
        self.subscribed(queue, stopped, other)
        self.call(queue, int)
        stopped.producer.stopProducing()
        self.call(queue, int)
        self.assertEqual((stopped.written, other.written), ([1], [1, 2]))

    def test_P16_consumerThatRaises(self) -> None:
        """
        Costs no call anything, nor another consumer.
        """

        class Broken(LoadConsumer):
            def write(self, data: Any) -> None:
                raise RuntimeError("from write")

        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        other = LoadConsumer()
        self.subscribed(queue, Broken(), other)
        outcome = self.call(queue, identity, 1)
        worker.step()
        self.assertGreaterEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertValue(outcome, 1)
        self.assertEqual(other.written, [1, 0])

    def test_P16_shutdownLetsGoOfConsumers(self) -> None:
        """
        There is nothing more to tell.
        """
        queue = self.makeQueue()
        consumer = LoadConsumer()
        self.subscribed(queue, consumer)
        self.call(queue, int)
        self.shutDown(queue)
        self.assertEqual(consumer.written, [1, 0])
        self.assertEqual(consumer.unregistered, 1)


class LoadInfoProducerTests(SynchronousTestCase):
    """
    The documented producer, by itself.
    """

    def test_countsUpAndDown(self) -> None:
        """
        With C{oneMore} and C{oneLess}, not below zero.
        """
        producer, consumer = LoadInfoProducer(), LoadConsumer()
        producer.registerConsumer(consumer)
        producer.oneMore()
        producer.oneMore()
        producer.oneLess()
        producer.oneLess()
        producer.oneLess()
        self.assertEqual(producer.load, 0)
        self.assertEqual(consumer.written, [1, 2, 1, 0])

    def test_isAPushProducer(self) -> None:
        """
        For all of its consumers.
        """
        producer, consumer = LoadInfoProducer(), LoadConsumer()
        self.assertTrue(IPushProducer.providedBy(producer))
        producer.registerConsumer(consumer)
        self.assertTrue(IPushProducer.providedBy(consumer.producer))
        producer.pauseProducing()
        producer.oneMore()
        self.assertEqual(consumer.written, [])
        producer.resumeProducing()
        self.assertEqual(consumer.written, [1])

    def test_noConsumer(self) -> None:
        """
        Is refused.
        """
        with self.assertRaises(ImplementationError):
            LoadInfoProducer().registerConsumer(object())  # type: ignore[arg-type]

    def test_shutdown(self) -> None:
        """
        Lets go of the consumers.
        """
        producer, consumer = LoadInfoProducer(), LoadConsumer()
        producer.registerConsumer(consumer)
        producer.shutdown()
        producer.oneMore()
        self.assertEqual((consumer.written, consumer.unregistered), ([], 1))
