"""
Tests of compatibility: what AsynQueue 0.9.9 has in asynqueue.iteration, used as its programs do.

Delays are in L{test.test_compat_util}.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import asynqueue
from asynqueue import iteration
from asynqueue.errors import ImplementationError, NotReadyError
from asynqueue.testing import LeakCheckMixin
from test.compat import ListOf, Program

reactor: Any = globalReactor

#: Seconds; a test takes less than one.
TIMEOUT = 30


def count(number: int) -> Iterator[int]:
    """
    Yield the numbers below one.
    """
    yield from range(number)


def failing(number: int) -> Iterator[int]:
    """
    Yield so many numbers, and raise.
    """
    yield from range(number)
    raise ValueError("in the middle")


@implementer(IConsumer)
class Slow(ListOf):
    """
    A consumer that pauses after each item, and resumes in a later turn.
    """

    def write(self, data: Any) -> None:
        """
        Keep what is written.
        """
        super().write(data)
        self.producer.pauseProducing()
        reactor.callLater(0, self.goOn)

    def goOn(self) -> None:
        """
        Resume, unless the producer is through.
        """
        if self.producer is not None:
            self.producer.resumeProducing()


class IterationTestCase(LeakCheckMixin, TestCase):
    """
    Programs on the real reactor.
    """

    timeout = TIMEOUT

    def counter(self, number: int) -> Any:
        """
        Return what returns Deferreds of C{(value, isValid, moreLeft)} for so many numbers, in later turns.
        """
        numbers = iter(range(number))

        def getNext(*args: Any, **kw: Any) -> Deferred[Any]:
            self.asked = args, kw
            value = next(numbers, None)
            return deferLater(reactor, 0, lambda: (value, value is not None, value is not None and value < number - 1))

        return getNext


class NamesTests(IterationTestCase):
    """
    Where the names are.
    """

    def test_iteration_namesOfThePackage(self) -> None:
        """
        Are the same objects.
        """
        for name in (
            "Deferator",
            "Delay",
            "IterationProducer",
            "ListConsumer",
            "Prefetcherator",
            "deferToDelay",
            "isIterator",
            "iteratorToProducer",
        ):
            self.assertTrue(callable(getattr(iteration, name)), name)
            if hasattr(asynqueue, name):
                self.assertIs(getattr(asynqueue, name), getattr(iteration, name))

    def test_iteration_isIterator(self) -> None:
        """
        Generators, maps, zips and files are; texts, containers and Deferreds are not.
        """
        yes: tuple[Any, ...] = (count(1), map(str, "a"), zip("a", "b", strict=True), io.StringIO("a"))
        no: tuple[Any, ...] = ("a", b"a", bytearray(b"a"), [1], (1,), {1: 2}, {1}, frozenset([1]), Deferred())
        for isIterator in (
            iteration.isIterator,
            iteration.Deferator.isIterator,
            iteration.Deferator(count(1)).isIterator,
        ):
            self.assertEqual([isIterator(each) for each in yes], [True] * len(yes))
            self.assertEqual([isIterator(each) for each in no], [False] * len(no))


class DeferatorTests(IterationTestCase):
    """
    iteration.Deferator.
    """

    @inlineCallbacks
    def test_R11_ofAnIterator(self) -> Program:
        """
        Yields Deferreds of the items.
        """
        items = []
        deferator = iteration.Deferator(count(5))
        for d in deferator:
            item = yield d
            items.append(item)
        self.assertEqual(items, [0, 1, 2, 3, 4])
        self.assertIs((yield deferator.d), True)

    @inlineCallbacks
    def test_R11_ofACallable(self) -> Program:
        """
        With something that represents the iterator, and the arguments of the callable.
        """
        items = []
        deferator = iteration.Deferator("an iterator", self.counter(3), 1, name=2)
        for d in deferator:
            item = yield d
            items.append(item)
        self.assertEqual((items, self.asked), ([0, 1, 2], ((1,), {"name": 2})))

    @inlineCallbacks
    def test_R11_callableKeyword(self) -> Program:
        """
        By their names.
        """
        items = []
        for d in iteration.Deferator(objectOrRepresentation="an iterator", callable=self.counter(3)):
            item = yield d
            items.append(item)
        self.assertEqual(items, [0, 1, 2])

    @inlineCallbacks
    def test_R11_ofAPrefetcherator(self) -> Program:
        """
        That has been set up.
        """
        fetcher = iteration.Prefetcherator()
        self.assertIs((yield fetcher.setup(count(3))), True)
        items = []
        for d in iteration.Deferator(fetcher):
            item = yield d
            items.append(item)
        self.assertEqual(items, [0, 1, 2])

    @inlineCallbacks
    def test_R11_stop(self) -> Program:
        """
        The loop ends, and C{d} is false.
        """
        items = []
        deferator = iteration.Deferator(count(1000))
        each: Any
        for each in deferator:
            item = yield each
            items.append(item)
            if len(items) == 3:
                each.stop()
        self.assertEqual(items, [0, 1, 2])
        self.assertIs((yield deferator.d), False)

    @inlineCallbacks
    def test_R11_stopOfTheDeferator(self) -> Program:
        """
        Is the same.
        """
        deferator = iteration.Deferator(count(1000))
        self.assertEqual((yield next(deferator)), 0)
        deferator.stop()
        self.assertEqual(list(deferator), [])
        self.assertIs((yield deferator.d), False)

    @inlineCallbacks
    def test_R11_notReady(self) -> Program:
        """
        Asking before the last has fired.
        """
        deferator = iteration.Deferator("an iterator", self.counter(3))
        d = next(deferator)
        self.assertRaises(NotReadyError, next, deferator)
        self.assertEqual((yield d), 0)
        self.assertEqual((yield next(deferator)), 1)
        deferator.stop()

    @inlineCallbacks
    def test_R11_moreLeft(self) -> Program:
        """
        Is false after the last item.
        """
        deferator = iteration.Deferator("an iterator", self.counter(3))
        seen = []
        for d in deferator:
            yield d
            seen.append(deferator.moreLeft)
        self.assertEqual(seen, [True, True, False])

    @inlineCallbacks
    def test_R11_attributesOfD(self) -> Program:
        """
        A Deferator can be used as the Deferred of its end.
        """
        results: list[Any] = []
        items = []
        deferator = iteration.Deferator(count(3))
        deferator.addCallback(results.append)
        for d in deferator:
            item = yield d
            items.append(item)
        self.assertEqual((items, results), ([0, 1, 2], [True]))
        self.assertTrue(deferator.called)

    @inlineCallbacks
    def test_Z22_error(self) -> Program:
        """
        Of the iterator is raised after the items before it.
        """
        items = []
        deferator = iteration.Deferator(failing(2))
        with self.assertRaises(ValueError):
            for d in deferator:
                item = yield d
                items.append(item)
        self.assertEqual(items, [0, 1])
        self.assertIs((yield deferator.d), False)


class PrefetcheratorTests(IterationTestCase):
    """
    iteration.Prefetcherator.
    """

    @inlineCallbacks
    def test_R12_getNext(self) -> Program:
        """
        Until there is no more.
        """
        for source in (count(3), self.counter(3)):
            fetcher = iteration.Prefetcherator()
            self.assertIs((yield fetcher.setup(source)), True)
            items, moreLeft = [], True
            while moreLeft:
                value, isValid, moreLeft = yield fetcher.getNext()
                self.assertIs(isValid, True)
                items.append(value)
            self.assertEqual(items, [0, 1, 2])

    @inlineCallbacks
    def test_R12_setup(self) -> Program:
        """
        With arguments for a callable; false where there is nothing to iterate over.
        """
        fetcher = iteration.Prefetcherator(ID="mine")
        self.assertEqual(fetcher.ID, "mine")
        self.assertIs((yield fetcher.setup(self.counter(3), 1, name=2)), True)
        self.assertEqual(self.asked, ((1,), {"name": 2}))
        for nothing in (None, [1, 2], 5, count(0)):
            self.assertIs((yield iteration.Prefetcherator().setup(nothing)), False)

    @inlineCallbacks
    def test_R12_isBusy(self) -> Program:
        """
        From setup until the last item is out. Meanwhile there is no other setup.
        """
        fetcher = iteration.Prefetcherator()
        self.assertFalse(fetcher.isBusy())
        yield fetcher.setup(count(2))
        self.assertTrue(fetcher.isBusy())
        self.assertIs((yield fetcher.setup(count(2))), False)
        yield fetcher.getNext()
        self.assertTrue(fetcher.isBusy())
        self.assertEqual((yield fetcher.getNext()), (1, True, False))
        self.assertFalse(fetcher.isBusy())


class ListConsumerTests(IterationTestCase):
    """
    iteration.ListConsumer.
    """

    @inlineCallbacks
    def test_R15_list(self) -> Program:
        """
        Of the items, in order.
        """
        consumer = iteration.ListConsumer()
        self.assertTrue(verifyObject(IConsumer, consumer))
        yield iteration.iteratorToProducer(count(5), consumer)
        self.assertEqual((yield consumer()), [0, 1, 2, 3, 4])

    @inlineCallbacks
    def test_R15_processItem(self) -> Program:
        """
        May return Deferreds, which fire in any order, and uses the attributes.
        """

        class Delaying(iteration.ListConsumer):
            """
            Takes longer for the first items than for the last.
            """

            delay: float

            def processItem(self, item: Any) -> Any:
                return deferLater(reactor, (5 - item) * self.delay, lambda: item * 10)

        consumer = Delaying(delay=0.002)
        self.assertEqual(consumer.delay, 0.002)
        iteration.iteratorToProducer(count(5), consumer)
        self.assertEqual((yield consumer()), [0, 10, 20, 30, 40])

    @inlineCallbacks
    def test_R15_ofAProducerOfItsOwn(self) -> Program:
        """
        Anything may write to it that registers.
        """
        consumer = iteration.ListConsumer()
        consumer.registerProducer(self, True)
        done = consumer()
        consumer.write("a")
        consumer.write("b")
        consumer.unregisterProducer()
        self.assertEqual((yield done), ["a", "b"])


class ProducerTests(IterationTestCase):
    """
    iteration.IterationProducer and iteration.iteratorToProducer.
    """

    @inlineCallbacks
    def test_R16_IterationProducer(self) -> Program:
        """
        Runs until everything has been written.
        """
        consumer = ListOf()
        producer = iteration.IterationProducer(iteration.Deferator(count(5)), consumer)
        self.assertTrue(verifyObject(IPushProducer, producer))
        self.assertIs((yield producer.run()), consumer)
        self.assertEqual((consumer.written, consumer.unregistered), ([0, 1, 2, 3, 4], 1))

    @inlineCallbacks
    def test_R16_registerConsumer(self) -> Program:
        """
        Later; what is no consumer is an ImplementationError, what is no Deferator a TypeError.
        """
        wrong: Any = count(5)
        self.assertRaises(TypeError, iteration.IterationProducer, wrong)
        producer = iteration.IterationProducer(deferator=iteration.Deferator(count(5)), consumer=None)
        self.assertRaises(ImplementationError, producer.registerConsumer, object())
        consumer = ListOf()
        producer.registerConsumer(consumer)
        self.assertIs(consumer.producer, producer)
        yield producer.run()
        self.assertEqual(consumer.written, [0, 1, 2, 3, 4])

    @inlineCallbacks
    def test_R16_deferUntilDone(self) -> Program:
        """
        Waits for the end.
        """
        consumer = ListOf()
        producer = iteration.IterationProducer(iteration.Deferator("an iterator", self.counter(3)), consumer)
        producer.run()
        self.assertEqual(consumer.written, [])
        yield producer.deferUntilDone()
        self.assertEqual(consumer.written, [0, 1, 2])
        yield producer.deferUntilDone()

    @inlineCallbacks
    def test_R13_pauseAndResume(self) -> Program:
        """
        Are obeyed.
        """
        consumer = Slow()
        yield iteration.IterationProducer(iteration.Deferator(count(5)), consumer).run()
        self.assertEqual(consumer.written, [0, 1, 2, 3, 4])
        # One call of goOn is behind the end.
        yield deferLater(reactor, 0)

    @inlineCallbacks
    def test_R16_iteratorToProducer(self) -> Program:
        """
        Gives the producer, or None.
        """
        consumer = ListOf()
        producer = yield iteration.iteratorToProducer(count(5))
        self.assertIsInstance(producer, iteration.IterationProducer)
        producer.registerConsumer(consumer)
        yield producer.run()
        self.assertEqual(consumer.written, [0, 1, 2, 3, 4])
        for nothing in (count(0), [1, 2], None):
            self.assertIsNone((yield iteration.iteratorToProducer(nothing)))

    @inlineCallbacks
    def test_R16_iteratorToProducerWithAConsumer(self) -> Program:
        """
        After everything has been produced.
        """
        consumer = Slow()
        producer = yield iteration.iteratorToProducer(count(5), consumer=consumer)
        self.assertIsInstance(producer, iteration.IterationProducer)
        self.assertEqual(consumer.written, [0, 1, 2, 3, 4])
        yield deferLater(reactor, 0)

    @inlineCallbacks
    def test_R16_iteratorToProducerWithAWrapper(self) -> Program:
        """
        That has each step made elsewhere, or at once.
        """

        def atOnce(func: Any, *args: Any, **kw: Any) -> Any:
            return succeed(func(*args, **kw))

        for wrapper in (deferToThread, atOnce):
            consumer = ListOf()
            yield iteration.iteratorToProducer(count(50), consumer, wrapper=wrapper)
            self.assertEqual(consumer.written, list(range(50)))

    @inlineCallbacks
    def test_Z22_error(self) -> Program:
        """
        Of the iterator reaches the caller after the items before it have been written.
        """
        consumer = ListOf()
        with self.assertRaises(ValueError):
            yield iteration.iteratorToProducer(failing(3), consumer)
        self.assertEqual(consumer.written, [0, 1, 2])
