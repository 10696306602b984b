"""
Tests of the consumer that makes a list.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure

from asynqueue.interfaces import IStreamConsumer
from asynqueue.iteration import IterationProducer, ListConsumer
from asynqueue.iteration.batches import WINDOW
from test.streamed import IterationTestCase, Numbers
from test.support import Outcome


class Later(ListConsumer):
    """
    Processes its items when the test says so.
    """

    def __init__(self, **attributes: Any) -> None:
        self.waits: list[Deferred[Any]] = []
        super().__init__(**attributes)

    def processItem(self, item: Any) -> Any:
        """
        Have the test answer.
        """
        self.waits.append(Deferred())
        return self.waits[-1]


class PullProducer:
    """
    Writes an item each time that it is resumed.
    """

    def __init__(self, consumer: ListConsumer, count: int) -> None:
        self.consumer = consumer
        self.count = count
        self.made = 0
        self.stopped = 0

    def resumeProducing(self) -> None:
        """
        Write one, or come to the end.
        """
        if self.made < self.count:
            self.made += 1
            self.consumer.write(self.made)
        else:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        """
        Count.
        """
        self.stopped += 1


class ListConsumerTests(IterationTestCase):
    """
    ListConsumer.
    """

    def produce(self, consumer: ListConsumer, numbers: Numbers) -> Outcome:
        """
        Have numbers produced for a consumer, as far as that can be at once.
        """
        outcome = Outcome(IterationProducer(self.over(iter(numbers)), consumer).run())
        for _ in range(100):
            self.turn()
        return outcome

    def test_interfaces(self) -> None:
        """
        It is what it says.
        """
        self.assertProvides(IStreamConsumer, ListConsumer())
        self.assertTrue(IConsumer.providedBy(ListConsumer()))

    def test_R15_list(self) -> None:
        """
        Calling it gives the list of the items, in order, before and after the end, to each caller one of his own.
        """
        consumer = ListConsumer()
        before = Outcome(consumer())
        self.assertEqual(before.fired, 0)
        self.produce(consumer, Numbers(50))
        after = self.successResultOf(consumer())
        self.assertEqual((before.value, after), (list(range(50)), list(range(50))))
        after.clear()
        self.assertEqual(len(before.value), 50)
        self.assertEqual(self.successResultOf(consumer()), list(range(50)))

    def test_R15_empty(self) -> None:
        """
        Of nothing is an empty list.
        """
        consumer = ListConsumer()
        self.produce(consumer, Numbers(0))
        self.assertEqual(self.successResultOf(consumer()), [])

    def test_R15_attributes(self) -> None:
        """
        Keywords are attributes, for processItem.
        """

        class Multiplied(ListConsumer):
            """
            Multiplies.
            """

            factor: int

            def processItem(self, item: Any) -> Any:
                return item * self.factor

        consumer = Multiplied(factor=3, other="text")
        self.assertEqual((consumer.factor, vars(consumer)["other"]), (3, "text"))
        self.produce(consumer, Numbers(3))
        self.assertEqual(self.successResultOf(consumer()), [0, 3, 6])

    def test_R15_outOfOrder(self) -> None:
        """
        Results that come in any order are in the order of the items; the list comes when the last is there.
        """
        consumer = Later()
        outcome = Outcome(consumer())
        self.assertEqual(self.produce(consumer, Numbers(4)).fired, 1)
        for index in (2, 0, 3):
            consumer.waits[index].callback(f"item {index}")
            self.assertEqual(outcome.fired, 0)
        consumer.waits[1].callback(None)
        self.assertEqual(outcome.value, ["item 0", None, "item 2", "item 3"])

    def test_alreadyThere(self) -> None:
        """
        Results that are there, as Deferreds and as values.
        """

        class Mixed(ListConsumer):
            """
            Does both.
            """

            def processItem(self, item: Any) -> Any:
                return succeed(-item) if item % 2 else item

        consumer = Mixed()
        self.produce(consumer, Numbers(40))
        self.assertEqual(self.successResultOf(consumer())[:4], [0, -1, 2, -3])

    def test_backPressure(self) -> None:
        """
        A producer is paused while as many are in process as a stream may be ahead, and goes on when half are through.
        """
        consumer = Later()
        numbers = Numbers(100)
        outcome = Outcome(consumer())
        self.produce(consumer, numbers)
        self.assertEqual(len(consumer.waits), WINDOW)
        self.assertLessEqual(numbers.made, 2 * WINDOW)
        index = 0
        while index < len(consumer.waits):
            inProcess = len(consumer.waits) - index
            self.assertLessEqual(inProcess, WINDOW)
            consumer.waits[index].callback(index)
            self.turn()
            index += 1
        self.assertEqual((index, outcome.value), (100, list(range(100))))

    def test_Z22_partialIsAnError(self) -> None:
        """
        When an error ends the stream, it is what everybody gets, never a list that is too short.
        """
        for count in (0, 3):
            for consumer in (ListConsumer(), Later()):
                before = Outcome(consumer())
                self.produce(consumer, Numbers(count, KeyError("wrong")))
                after = Outcome(consumer())
                for outcome in (before, after):
                    self.assertIsInstance(outcome.error, KeyError)

    def test_stopped(self) -> None:
        """
        So it is when the iteration is left.
        """
        consumer = Later()
        producer = IterationProducer(self.over(iter(Numbers())), consumer)
        d = producer.run()
        run, outcome = Outcome(d), Outcome(consumer())
        d.cancel()
        self.assertEqual([each.kind for each in (run, outcome)], [CancelledError] * 2)

    def test_processItemRaises(self) -> None:
        """
        Is the error of both the producer and the list; the generator is closed.
        """

        class Failing(ListConsumer):
            """
            Cannot process each item.
            """

            def processItem(self, item: Any) -> Any:
                return 10 // (3 - item)

        consumer = Failing()
        numbers = Numbers()
        run = self.produce(consumer, numbers)
        outcome = Outcome(consumer())
        self.assertEqual((run.kind, outcome.kind), (ZeroDivisionError, ZeroDivisionError))
        self.assertEqual(numbers.closed, 1)

    def test_processItemFails(self) -> None:
        """
        Later: the generator is closed, and the error is the list's. Other items that are in process are nobody's.
        """
        consumer = Later()
        numbers = Numbers()
        run = self.produce(consumer, numbers)
        outcome = Outcome(consumer())
        consumer.waits[2].errback(KeyError("wrong"))
        self.assertEqual((outcome.kind, numbers.closed, run.fired), (KeyError, 1, 1))
        consumer.waits[0].callback(1)
        consumer.waits[1].errback(ValueError("also wrong"))
        self.assertEqual(outcome.fired, 1)
        self.assertIs(Outcome(consumer()).kind, KeyError)

    def test_processItemFailsAtOnce(self) -> None:
        """
        Likewise.
        """

        class Failing(ListConsumer):
            """
            Fails.
            """

            def processItem(self, item: Any) -> Any:
                return fail(KeyError("wrong")) if item == 3 else succeed(item)

        consumer = Failing()
        numbers = Numbers()
        run = self.produce(consumer, numbers)
        self.assertEqual((numbers.closed, run.fired), (1, 1))
        self.assertIs(Outcome(consumer()).kind, KeyError)

    def test_foreignProducerGoesOn(self) -> None:
        """
        After an item that could not be processed, a producer of somebody else's may not care: the list is an error.
        """

        class Failing(ListConsumer):
            """
            Cannot process each item.
            """

            def processItem(self, item: Any) -> Any:
                return 10 // (3 - item)

        consumer = Failing()
        for item in range(5):
            if item == 3:
                self.assertRaises(ZeroDivisionError, consumer.write, item)
            else:
                consumer.write(item)
        consumer.unregisterProducer()
        self.assertIs(Outcome(consumer()).kind, ZeroDivisionError)

    def test_cancel(self) -> None:
        """
        Who does not wait any more keeps nobody else from getting the list, nor does who cancels another.
        """
        consumer = ListConsumer()
        waits = [consumer() for _ in range(3)]
        waits[0].cancel()
        outcomes = [Outcome(each) for each in waits]
        self.produce(consumer, Numbers(3))
        self.assertEqual([each.kind for each in outcomes], [CancelledError, None, None])
        self.assertEqual(outcomes[2].value, [0, 1, 2])

    def test_waitersCancelOneAnother(self) -> None:
        """
        While they are told of the end.
        """
        consumer = ListConsumer()
        first, second = consumer(), consumer()
        outcomes = [Outcome(first.addCallback(lambda _: second.cancel())), Outcome(second)]
        self.produce(consumer, Numbers(3))
        self.assertEqual([each.fired for each in outcomes], [1, 1])
        self.assertIsNone(outcomes[0].failure)

    def test_twoProducers(self) -> None:
        """
        The second is refused.
        """
        consumer = ListConsumer()
        IterationProducer(self.over(iter("a")), consumer)
        self.assertRaises(RuntimeError, IterationProducer, self.over(iter("b")), consumer)

    def test_told(self) -> None:
        """
        The first error is the one that counts.
        """
        consumer = ListConsumer()
        consumer.streamFailed(Failure(KeyError("first")))
        consumer.streamFailed(Failure(ValueError("second")))
        consumer.unregisterProducer()
        self.assertIs(Outcome(consumer()).kind, KeyError)


class PullTests(IterationTestCase):
    """
    Producers that have to be asked for each item.
    """

    def pull(self, consumer: ListConsumer, count: int) -> PullProducer:
        """
        Have a number of items pulled.
        """
        producer = PullProducer(consumer, count)
        consumer.registerProducer(producer, False)
        return producer

    def test_items(self) -> None:
        """
        All are asked for.
        """
        consumer = ListConsumer()
        self.pull(consumer, 50)
        self.assertEqual(self.successResultOf(consumer()), list(range(1, 51)))

    def test_manyItems(self) -> None:
        """
        In no deeper stack for each.
        """
        consumer = ListConsumer()
        try:
            self.pull(consumer, 5_000)
        except RecursionError:
            self.fail("asking for each item is done within the write of the one before")
        self.assertEqual(len(self.successResultOf(consumer())), 5_000)

    def test_backPressure(self) -> None:
        """
        No more are asked for than may be in process, and all in the end.
        """
        consumer = Later()
        producer = self.pull(consumer, 50)
        outcome = Outcome(consumer())
        self.assertLessEqual(producer.made, WINDOW)
        index = 0
        while index < len(consumer.waits):
            consumer.waits[index].callback(index)
            index += 1
        self.assertEqual((index, outcome.value), (50, list(range(50))))

    def test_fails(self) -> None:
        """
        The producer is stopped.
        """
        consumer = Later()
        producer = self.pull(consumer, 50)
        consumer.waits[0].errback(KeyError("wrong"))
        self.assertEqual((producer.stopped, Outcome(consumer()).kind), (1, KeyError))
