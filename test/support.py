"""
What the tests of the engine share: a queue on a virtual clock, and what became of its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from asynqueue import TaskQueue
from asynqueue.testing import MemoryWorker


class Outcome:
    """
    What a Deferred has fired with.

    @ivar fired: How often it has.
    @ivar value: Its value.
    @ivar failure: Its failure.
    """

    def __init__(self, d: Deferred[Any]) -> None:
        self.fired = 0
        self.value: Any = None
        self.failure: Failure | None = None
        d.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, value: Any) -> None:
        self.fired += 1
        self.value = value

    def _failed(self, failure: Failure) -> None:
        self.fired += 1
        self.failure = failure

    @property
    def error(self) -> Any:
        """
        The exception of the failure, which there must be.
        """
        assert self.failure is not None, f"no failure, but {self.value!r}, after firing {self.fired} times"
        return self.failure.value

    @property
    def kind(self) -> type[BaseException] | None:
        """
        The class of the error, or C{None}.
        """
        return None if self.failure is None else type(self.error)


class QueueTestCase(SynchronousTestCase):
    """
    Tests of queues on a virtual clock. After each, its queues are shut down, and no timer is left.
    """

    def setUp(self) -> None:
        """
        Make the clock.
        """
        super().setUp()
        self.clock = Clock()
        self._queues: list[TaskQueue] = []
        self.addCleanup(self._nothingIsLeft)

    def makeQueue(self, *workers: Any, **keywords: Any) -> TaskQueue:
        """
        Make a queue that delivers failures, unless told otherwise.
        """
        keywords.setdefault("reactor", self.clock)
        keywords.setdefault("returnFailure", True)
        queue = TaskQueue(*workers, **keywords)
        self._queues.append(queue)
        return queue

    def call(self, queue: Any, func: Callable[..., Any] | str, *args: Any, **kw: Any) -> Outcome:
        """
        Queue a call, and watch what becomes of it.
        """
        return Outcome(queue.call(func, *args, **kw))

    def watchLog(self) -> list[LogEvent]:
        """
        Return a list to which all events of Twisted's log are added during the test.
        """
        events: list[LogEvent] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return events

    def turn(self) -> None:
        """
        Let everything run that is due now.
        """
        self.clock.advance(0)

    def assertValue(self, outcome: Outcome, value: Any) -> None:
        """
        A Deferred has fired, once, with a value.
        """
        if outcome.failure is not None:
            self.fail(f"failed with {outcome.failure.value!r}")
        self.assertEqual(outcome.fired, 1)
        self.assertEqual(outcome.value, value)

    def assertFailed(self, outcome: Outcome, *kinds: type[BaseException]) -> Any:
        """
        A Deferred has fired, once, with a failure that is of each of the given kinds.

        @return: The exception.
        """
        self.assertEqual(outcome.fired, 1, "the Deferred has not fired, or more than once")
        for kind in kinds:
            self.assertIsInstance(outcome.error, kind)
        return outcome.error

    def assertPending(self, outcome: Outcome) -> None:
        """
        A Deferred has not fired.
        """
        self.assertEqual(outcome.fired, 0, f"the Deferred has fired: {outcome.failure or outcome.value!r}")

    def shutDown(self, queue: TaskQueue, drain: bool = False, deadline: float | None = 0) -> list[Any]:
        """
        Shut a queue down, which must come to an end at the deadline.

        @return: What was left unfinished.
        """
        outcome = Outcome(queue.shutdown(drain=drain, deadline=deadline))
        self.clock.advance(deadline or 0)
        self.turn()
        self.assertEqual(outcome.fired, 1, "the Deferred of shutdown() has not fired")
        self.assertIsNone(outcome.failure)
        self.assertEqual(queue.outstanding(), [])
        left: list[Any] = outcome.value
        return left

    def _nothingIsLeft(self) -> None:
        for queue in self._queues:
            self.shutDown(queue)
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])


class OrderTestCase(QueueTestCase):
    """
    Tests of the order in which one worker gets calls: the calls are queued while the worker is busy.
    """

    def setUp(self) -> None:
        """
        Make a queue whose one worker is busy.
        """
        super().setUp()
        self.worker = MemoryWorker(["a", "b", "c", "d"])
        self.queue = self.makeQueue(self.worker)
        self.order: list[Any] = []
        self.busy = self.call(self.queue, int)

    def add(self, label: Any, **options: Any) -> Outcome:
        """
        Queue a call that notes its label when it runs.
        """
        return self.call(self.queue, self.order.append, label, **options)

    def served(self) -> list[Any]:
        """
        Run everything, and return the labels in the order of dispatch.
        """
        self.worker.stepAll()
        return self.order


class Consumer:
    """
    The parts of a consumer that a test of its own adds to.
    """

    def __init__(self) -> None:
        self.producer: Any = None
        self.written: list[Any] = []
        self.unregistered = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Keep the producer.
        """
        self.producer = producer

    def unregisterProducer(self) -> None:
        """
        Count.
        """
        self.producer = None
        self.unregistered += 1

    def write(self, data: Any) -> None:
        """
        Keep what is written.
        """
        self.written.append(data)
