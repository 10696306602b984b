"""
Tests of producers: items that are written to a consumer, at its pace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer

from asynqueue.errors import ImplementationError, NotReadyError
from asynqueue.interfaces import IStreamConsumer
from asynqueue.iteration import Deferator, IterationProducer, iteratorToProducer
from asynqueue.iteration.batches import WINDOW, Batch
from test.streamed import IterationTestCase, Numbers, PlainConsumer, ScriptedSource, ToldConsumer
from test.support import Outcome


class ProducerTestCase(IterationTestCase):
    """
    Tests of a producer.
    """

    def scripted(self, *ready: Batch, **keywords: Any) -> Deferator:
        """
        Make a Deferator of a source that the test scripts.
        """
        self.source = ScriptedSource(*ready, **keywords)
        return Deferator.over(self.source)

    def assertCancelled(self, outcome: Outcome) -> None:
        """
        A Deferred has been cancelled, or what it waits for has.
        """
        self.assertEqual((outcome.fired, outcome.kind), (1, CancelledError))


class RegisterTests(ProducerTestCase):
    """
    Who can be a consumer, and of what.
    """

    def test_interfaces(self) -> None:
        """
        The producer, and the doubles of these tests, are what they say.
        """
        self.assertProvides(IPushProducer, IterationProducer(self.over(iter("a"))))
        self.assertProvides(IConsumer, PlainConsumer())
        self.assertProvides(IStreamConsumer, ToldConsumer())

    def test_R16_noDeferator(self) -> None:
        """
        A producer is made of a Deferator.
        """
        wrong: Any
        for wrong in (iter("a"), [1], None):
            self.assertRaises(TypeError, IterationProducer, wrong)

    def test_R13_noConsumer(self) -> None:
        """
        A consumer that is none is refused, whenever it is given, and so is a second one.
        """
        producer = IterationProducer(self.over(iter("a")))
        for wrong in (object(), IConsumer, "consumer"):
            self.assertRaises(ImplementationError, producer.registerConsumer, wrong)
            self.assertRaises(ImplementationError, IterationProducer, self.over(iter("a")), wrong)
        self.assertRaises(ImplementationError, producer.run)
        consumer = PlainConsumer()
        producer.registerConsumer(consumer)
        self.assertRaises(ImplementationError, producer.registerConsumer, PlainConsumer())
        self.assertEqual((consumer.producer, consumer.streaming), (producer, True))
        self.assertIs(producer.consumer, consumer)

    def test_consumerRefuses(self) -> None:
        """
        What its registerProducer raises goes to the caller, and another consumer may come.
        """

        class Refusing(PlainConsumer):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                raise RuntimeError("there is one already")

        producer = IterationProducer(self.over(iter("a")))
        self.assertRaises(RuntimeError, producer.registerConsumer, Refusing())
        producer.registerConsumer(PlainConsumer())
        outcome = Outcome(producer.run())
        self.settle(outcome)
        self.assertIs(outcome.value, producer.consumer)


class RunTests(ProducerTestCase):
    """
    Writing everything.
    """

    def test_R13_run(self) -> None:
        """
        A write for each item, in order, then unregisterProducer; the Deferreds fire with the consumer.
        """
        consumer = ToldConsumer()
        producer = IterationProducer(self.over(iter(Numbers(50))), consumer)
        before = Outcome(producer.deferUntilDone())
        self.assertEqual((consumer.written, before.fired), ([], 0))
        outcome = Outcome(producer.run())
        self.settle(outcome)
        for each in (outcome, before, Outcome(producer.deferUntilDone()), Outcome(producer.run())):
            self.assertEqual((each.fired, each.failure), (1, None))
            self.assertIs(each.value, consumer)
        self.assertEqual((consumer.written, consumer.unregistered), (list(range(50)), 1))
        self.assertEqual(consumer.failures, [])
        self.assertIs(self.successResultOf(producer.deferator.d), True)

    def test_empty(self) -> None:
        """
        Nothing is an end like any other.
        """
        consumer = PlainConsumer()
        outcome = Outcome(IterationProducer(self.over(iter(())), consumer).run())
        self.assertIs(outcome.value, consumer)
        self.assertEqual((consumer.written, consumer.unregistered), ([], 1))

    def test_later(self) -> None:
        """
        Items are written when they come.
        """
        consumer = PlainConsumer()
        outcome = Outcome(IterationProducer(self.scripted(), consumer).run())
        for number in range(3):
            self.source.answer(number)
            self.assertEqual(consumer.written, list(range(number + 1)))
        self.source.answer(isLast=True)
        self.assertIs(outcome.value, consumer)

    def test_F50_error(self) -> None:
        """
        Comes after the items before it, to the caller; a consumer that can be told is told before it is unregistered.
        """
        for count in (0, 3, 40):
            for consumer in (ToldConsumer(), PlainConsumer()):
                deferator = self.over(iter(Numbers(count, KeyError("wrong"))))
                outcome = Outcome(IterationProducer(deferator, consumer).run())
                self.settle(outcome)
                self.assertIsInstance(outcome.error, KeyError)
                self.assertEqual((consumer.written, consumer.unregistered), (list(range(count)), 1))
                if isinstance(consumer, ToldConsumer):
                    self.assertEqual(consumer.failures, [(outcome.kind, 0)])
                self.assertIs(self.successResultOf(deferator.d), False)

    def test_twoReaders(self) -> None:
        """
        Who comes second is refused.
        """
        deferator = self.scripted()
        first = Outcome(IterationProducer(deferator, PlainConsumer()).run())
        self.assertRaises(NotReadyError, IterationProducer(deferator, PlainConsumer()).run)
        self.assertRaises(NotReadyError, next, deferator)
        self.source.answer(1, isLast=True)
        self.assertEqual((first.fired, first.failure), (1, None))
        deferator = self.scripted()
        d = next(deferator)
        self.assertRaises(NotReadyError, IterationProducer(deferator, PlainConsumer()).run)
        self.source.answer(1, isLast=True)
        self.assertEqual(self.successResultOf(d), 1)

    def test_manyItems(self) -> None:
        """
        10^5 of them are no deep stack, whether they are there, or come one by one, or the consumer pauses for each.
        """
        count = 100_000
        outcome = Outcome(IterationProducer(self.over(iter(range(count))), consumer := PlainConsumer()).run())
        self.settle(outcome)
        self.assertEqual(len(consumer.written), count)
        answers = iter(range(count))

        def give() -> Any:
            number = next(answers)
            return succeed((number, True, number < count - 1))

        def pause(_: object) -> None:
            consumer.producer.pauseProducing()
            consumer.producer.resumeProducing()

        consumer = PlainConsumer(pause)
        outcome = Outcome(IterationProducer(Deferator("numbers", give), consumer).run())
        self.assertEqual((outcome.fired, len(consumer.written)), (1, count))


class PaceTests(ProducerTestCase):
    """
    Pausing, resuming and stopping.
    """

    def test_R13_pauseInWrite(self) -> None:
        """
        Not one more is written until it is resumed.
        """

        def pause(_: object) -> None:
            consumer.producer.pauseProducing()

        consumer = PlainConsumer(pause)
        producer = IterationProducer(self.over(iter("abc")), consumer)
        outcome = Outcome(producer.run())
        for written in ("a", "ab", "abc"):
            self.turn()
            self.assertEqual(consumer.written, list(written))
            producer.resumeProducing()
        self.assertIs(outcome.value, consumer)

    def test_F53_pausedForEver(self) -> None:
        """
        The generator is not more than a window ahead.
        """

        def pause(item: int) -> None:
            if item == 20:
                consumer.producer.pauseProducing()

        numbers = Numbers()
        consumer = PlainConsumer(pause)
        producer = IterationProducer(self.over(iter(numbers)), consumer)
        outcome = Outcome(producer.run())
        for _ in range(10):
            self.turn()
        self.assertEqual(consumer.written, list(range(21)))
        self.assertLessEqual(numbers.made, 21 + WINDOW)
        producer.stopProducing()
        self.assertCancelled(outcome)
        self.assertEqual(numbers.closed, 1)

    def test_pauseWhileWaiting(self) -> None:
        """
        What comes then is kept.
        """
        consumer = PlainConsumer()
        producer = IterationProducer(self.scripted(), consumer)
        outcome = Outcome(producer.run())
        producer.pauseProducing()
        self.source.answer("a")
        self.assertEqual(consumer.written, [])
        producer.resumeProducing()
        producer.resumeProducing()
        self.assertEqual(consumer.written, ["a"])
        self.source.answer("b", isLast=True)
        self.assertEqual((consumer.written, outcome.fired), (["a", "b"], 1))

    def test_resumeInWrite(self) -> None:
        """
        Writes nothing twice, and in order.
        """
        consumer = PlainConsumer(lambda _: consumer.producer.resumeProducing())
        outcome = Outcome(IterationProducer(self.over(iter(Numbers(50))), consumer).run())
        self.settle(outcome)
        self.assertEqual(consumer.written, list(range(50)))

    def test_whileRegistering(self) -> None:
        """
        A consumer may resume, pause or stop a producer as soon as it knows it.
        """

        class Eager(PlainConsumer):
            """
            Does something when it is registered.
            """

            def registerProducer(self, producer: Any, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                getattr(producer, self.todo)()

            todo = ""

        for todo, written, kind in (
            ("resumeProducing", ["a", "b"], None),
            ("pauseProducing", [], None),
            ("stopProducing", [], CancelledError),
        ):
            consumer = Eager()
            consumer.todo = todo
            producer = IterationProducer(self.over(iter("ab")), consumer)
            self.assertEqual(consumer.written, [])
            outcome = Outcome(producer.run())
            self.turn()
            self.assertEqual((consumer.written, outcome.kind), (written, kind))
            producer.resumeProducing()
            self.turn()
            self.assertEqual(outcome.fired, 1)

    def test_F52_stop(self) -> None:
        """
        The generator is closed, the consumer gets nothing more, and the caller a CancelledError.
        """

        def stop(item: int) -> None:
            if item == 3:
                consumer.producer.stopProducing()

        numbers = Numbers()
        consumer = ToldConsumer(stop)
        producer = IterationProducer(self.over(iter(numbers)), consumer)
        outcome = Outcome(producer.run())
        self.assertCancelled(outcome)
        self.assertEqual((consumer.written, consumer.unregistered, numbers.closed), ([0, 1, 2, 3], 0, 1))
        self.assertEqual([kind for kind, _ in consumer.failures], [CancelledError])
        producer.stopProducing()
        producer.resumeProducing()
        self.assertEqual((consumer.written, outcome.fired), ([0, 1, 2, 3], 1))
        self.assertCancelled(Outcome(producer.deferUntilDone()))

    def test_F52_stopWhileWaiting(self) -> None:
        """
        What comes late is nobody's.
        """
        consumer = PlainConsumer()
        producer = IterationProducer(self.scripted(), consumer)
        outcome = Outcome(producer.run())
        producer.stopProducing()
        self.assertCancelled(outcome)
        self.source.answer("late")
        self.assertEqual((consumer.written, self.source.closed), ([], 1))

    def test_F57_writeRaises(self) -> None:
        """
        The caller gets that very error; the generator is closed.
        """
        error = KeyError("wrong")

        def fail(item: int) -> None:
            if item == 2:
                raise error

        numbers = Numbers()
        consumer = ToldConsumer(fail)
        outcome = Outcome(IterationProducer(self.over(iter(numbers)), consumer).run())
        self.assertIs(outcome.error, error)
        self.assertEqual((numbers.closed, consumer.unregistered), (1, 1))
        self.assertEqual(consumer.failures, [(KeyError, 0)])

    def test_consumerRaisesAtTheEnd(self) -> None:
        """
        Is logged, and the Deferred fires.
        """

        class Failing(ToldConsumer):
            """
            Is no good at the end.
            """

            def unregisterProducer(self) -> None:
                raise ValueError("wrong")

            def streamFailed(self, failure: Any) -> None:
                raise ValueError("wrong")

        for error, kind, logged in ((None, type(None), 1), (KeyError("wrong"), KeyError, 2)):
            outcome = Outcome(IterationProducer(self.over(iter(Numbers(2, error))), Failing()).run())
            self.settle(outcome)
            self.assertIsInstance(outcome.failure and outcome.error, kind)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), logged)

    def test_toldRaises(self) -> None:
        """
        A consumer that raises when it is told of an error is unregistered nevertheless.
        """

        class Failing(ToldConsumer):
            """
            Does not want to know.
            """

            def streamFailed(self, failure: Any) -> None:
                raise ValueError("wrong")

        consumer = Failing()
        outcome = Outcome(IterationProducer(self.over(iter(Numbers(2, KeyError("wrong")))), consumer).run())
        self.assertIsInstance(outcome.error, KeyError)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(consumer.unregistered, 1)

    def test_cancel(self) -> None:
        """
        Leaves the iteration; the consumer is told and let go.
        """
        for isPaused in (False, True):
            consumer = ToldConsumer()
            producer = IterationProducer(self.scripted(Batch(["a"])), consumer)
            d = producer.run()
            other = Outcome(producer.deferUntilDone())
            outcome = Outcome(d)
            if isPaused:
                producer.pauseProducing()
            d.cancel()
            self.assertCancelled(outcome)
            self.assertCancelled(other)
            self.assertEqual((consumer.written, self.source.closed), (["a"], 1))
            self.assertEqual((consumer.unregistered, consumer.failures), (1, [(CancelledError, 0)]))

    def test_waitersCancelOneAnother(self) -> None:
        """
        While they are told of the end.
        """
        producer = IterationProducer(self.scripted(), PlainConsumer())
        first, second = producer.run(), producer.deferUntilDone()
        outcomes = [Outcome(first.addCallback(lambda _: second.cancel())), Outcome(second)]
        self.source.answer("a", isLast=True)
        self.assertEqual([each.fired for each in outcomes], [1, 1])
        self.assertIsNone(outcomes[0].failure)

    def test_deferatorStopped(self) -> None:
        """
        By somebody else: the caller learns it, even of a producer that is paused.
        """
        for isPaused in (False, True):
            consumer = ToldConsumer()
            producer = IterationProducer(self.scripted(Batch(["a"])), consumer)
            outcome = Outcome(producer.run())
            if isPaused:
                producer.pauseProducing()
            producer.deferator.stop()
            self.assertCancelled(outcome)
            self.assertEqual((consumer.unregistered, self.source.closed), (1, 1))


class IteratorToProducerTests(ProducerTestCase):
    """
    iteratorToProducer.
    """

    def test_R16_iterator(self) -> None:
        """
        Gives a producer, to be given a consumer and run.
        """
        producer = self.successResultOf(iteratorToProducer(iter("abc")))
        assert producer is not None
        consumer = PlainConsumer()
        producer.registerConsumer(consumer)
        self.assertEqual(consumer.written, [])
        self.assertIs(self.successResultOf(producer.run()), consumer)
        self.assertEqual(consumer.written, ["a", "b", "c"])

    def test_R16_consumer(self) -> None:
        """
        Gets everything, then the Deferred fires with the producer.
        """
        for iterator in (iter("abc"), Deferator(iter("abc"))):
            consumer = PlainConsumer()
            producer = self.successResultOf(iteratorToProducer(iterator, consumer=consumer))
            self.assertIsInstance(producer, IterationProducer)
            self.assertEqual((consumer.written, consumer.unregistered), (["a", "b", "c"], 1))
            assert producer is not None
            self.assertIs(producer.consumer, consumer)

    def test_R16_nothing(self) -> None:
        """
        What is no iterator, or has no items, makes no producer.
        """
        nothing: Any
        for nothing in ([1], None, "text", 5, iter(()), self.over(iter(()))):
            self.assertIsNone(self.successResultOf(iteratorToProducer(nothing)))

    def test_nothingForAConsumer(self) -> None:
        """
        A consumer learns that there is nothing.
        """
        consumer = PlainConsumer()
        self.assertIsNone(self.successResultOf(iteratorToProducer(iter(()), consumer)))
        self.assertEqual((consumer.written, consumer.unregistered), ([], 1))

    def test_errors(self) -> None:
        """
        Come after the items before them; at the first item, to the caller, with or without a consumer.
        """
        for count in (0, 3):
            told = ToldConsumer()
            d = iteratorToProducer(iter(Numbers(count, KeyError("wrong"))), told)
            self.assertTrue(self.failureResultOf(d).check(KeyError))
            self.assertEqual(told.written, list(range(count)))
            self.assertEqual([issubclass(kind, KeyError) for kind, _ in told.failures], [True])
        d = iteratorToProducer(iter(Numbers(0, KeyError("wrong"))))
        self.assertTrue(self.failureResultOf(d).check(KeyError))

    def test_wrongArguments(self) -> None:
        """
        Are refused at the call.
        """
        wrong: Any = "wrapper"
        self.assertRaises(ImplementationError, iteratorToProducer, iter("a"), object())
        self.assertRaises(TypeError, iteratorToProducer, iter("a"), None, wrong)

    def test_R16_wrapper(self) -> None:
        """
        Calls what steps the iterator.
        """
        calls: list[Deferred[Any]] = []

        def wrapper(func: Callable[..., Any], *args: Any) -> Deferred[Any]:
            calls.append(Deferred())
            return calls[-1].addCallback(lambda _: func(*args))

        numbers = Numbers(20)
        consumer = PlainConsumer()
        outcome = Outcome(iteratorToProducer(iter(numbers), consumer, wrapper=wrapper))
        self.assertEqual(numbers.made, 0)
        done = 0
        while done < len(calls):
            calls[done].callback(None)
            done += 1
        self.assertIsInstance(outcome.value, IterationProducer)
        self.assertEqual((consumer.written, numbers.closed), (list(range(20)), 1))

    def test_cancel(self) -> None:
        """
        Leaves the iteration, before and after its first item.
        """
        for answers in (0, 1):
            deferator = self.scripted()
            consumer = PlainConsumer()
            d = iteratorToProducer(deferator, consumer)
            for _ in range(answers):
                self.source.answer("a")
            outcome = Outcome(d)
            d.cancel()
            self.assertCancelled(outcome)
            self.assertEqual((self.source.closed, len(consumer.written)), (1, answers))

    def test_beingRead(self) -> None:
        """
        A Deferator that somebody reads is refused, and whoever waits for its item gets it.
        """
        deferator = self.scripted(tellsEnd=True)
        first = Outcome(next(deferator))
        second = Outcome(iteratorToProducer(deferator, PlainConsumer()))
        self.source.answer("a")
        self.assertEqual((first.fired, first.value), (1, "a"))
        self.assertIs(second.kind, NotReadyError)
        deferator.stop()
