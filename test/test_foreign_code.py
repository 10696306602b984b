"""
Code of others that misbehaves inside of the engine: nothing is lost, and nothing hangs.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue import AsyncWorker, TaskQueue, ThreadWorker
from asynqueue.errors import QueueClosed, QueueShutdown, RemoteError, WorkerError, WorkerLost
from asynqueue.testing import ManagedMemoryWorker, MemoryWorker
from asynqueue.testing.tasks import identity
from test.support import Outcome, QueueTestCase


@implementer(IConsumer)
class Consumer:
    """
    Does what it has been told when it is written to, and raises when it is let go.
    """

    def __init__(self, action: Any = None) -> None:
        self.action = action

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Do nothing.
        """

    def unregisterProducer(self) -> None:
        """
        Raise.
        """
        raise RuntimeError("let go")

    def write(self, data: Any) -> None:
        """
        Act once.
        """
        action, self.action = self.action, None
        if action is not None:
            action()


class ForeignCodeTests(QueueTestCase):
    """
    One class, since each is short.
    """

    def test_W01_oneQueueAtATime(self) -> None:
        """
        A managed worker cannot be attached to two queues, and can be attached to the second after the first.
        """
        for worker in (AsyncWorker(reactor=self.clock), ThreadWorker(reactor=self.clock)):
            first, second = self.makeQueue(worker), self.makeQueue()
            self.assertRaises(ValueError, second.attachWorker, worker)
            self.assertEqual(len(second), 0)
            first.detachWorker(worker)
            second.attachWorker(worker)
            self.assertEqual(len(second), 1)

    def test_N02_callMadeWhileAnotherIsGiven(self) -> None:
        """
        A worker that is idle gets a call that is made while another worker is given its next one.
        """
        one, other = ManagedMemoryWorker(["a"]), ManagedMemoryWorker(["b"])
        queue = self.makeQueue(one, other)
        self.call(queue, int, series="a")
        task = queue.newTask(int, (), {"series": "a"})
        task.d.addErrback(lambda failure: failure.trap(WorkerLost))
        queue.th(task).addCallback(lambda _: self.call(queue, int, series="b"))
        one.step()
        self.assertEqual([task.series for task in other.held], ["b"])

    def test_P16_consumerThatRaisesWhenLetGo(self) -> None:
        """
        The queue comes to its end all the same.
        """
        queue = self.makeQueue(MemoryWorker())
        queue.subscribe(Consumer())
        self.assertEqual(Outcome(queue.shutdown()).fired, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_P16_consumerThatShutsDown(self) -> None:
        """
        The call of which it is told is settled.
        """
        queue = self.makeQueue()
        ended: list[Outcome] = []
        queue.subscribe(Consumer())
        queue.subscribe(Consumer(None))
        consumer = Consumer()
        queue.subscribe(consumer)
        consumer.action = lambda: ended.append(Outcome(queue.shutdown(drain=False)))
        call = self.call(queue, int)
        self.turn()
        self.assertFailed(call, QueueShutdown)
        self.assertEqual(ended[0].fired, 1)
        self.flushLoggedErrors(RuntimeError)

    def test_N05_waiterThatCancelsAnother(self) -> None:
        """
        Shutting down is not stopped by it.
        """
        queue = self.makeQueue(maxPending=1)
        self.call(queue, int)
        waiters = [queue.ready() for _ in range(4)]
        waiters[0].addErrback(lambda _: waiters[1].cancel())
        outcomes = [Outcome(waiter) for waiter in waiters]
        queue.shutdown()
        self.assertFailed(outcomes[1], CancelledError)
        for outcome in outcomes[2:]:
            self.assertFailed(outcome, QueueClosed)

    def test_N05_readyWhenTheViewsShutDown(self) -> None:
        """
        Whoever waits for room is told that there will be none, by whatever name the queue is shut down.
        """
        for shut in (lambda queue: queue.q.shutdown(), lambda queue: queue.th.shutdown()):
            queue = self.makeQueue(maxPending=1)
            self.call(queue, int)
            waiter = Outcome(queue.ready())
            shut(queue)
            self.assertFailed(waiter, QueueClosed)

    def test_F74_systemExitOfAWorker(self) -> None:
        """
        A worker that lets the SystemExit of a call out costs that call only.
        """

        class Leaky(MemoryWorker):
            def run(self, task: Any) -> Deferred[None]:
                func, args, kw = task.callTuple
                func(*args, **kw)
                raise AssertionError("the call was to raise")

        queue = self.makeQueue(Leaky())
        self.assertFailed(self.call(queue, exit, 3), WorkerError)
        self.flushLoggedErrors(SystemExit)

    def test_C01_seriesThatCannotBeCompared(self) -> None:
        """
        A call whose series raises is not accepted, and nothing is left of it.
        """

        class Series:
            def __hash__(self) -> int:
                return 1

            def __eq__(self, other: object) -> bool:
                raise RuntimeError("not comparable")

        queue = self.makeQueue()
        first = self.call(queue, int, series=Series())
        self.assertRaises(RuntimeError, queue.call, int, series=Series())
        self.assertEqual(queue.statistics().submitted, 1)
        ended = Outcome(queue.shutdown(drain=False))
        self.turn()
        self.assertFailed(first, QueueShutdown)
        self.assertEqual(ended.fired, 1)

    def test_F81_cancellerThatRaises(self) -> None:
        """
        A worker whose call has returned a Deferred that cannot be cancelled goes on when that has fired.
        """

        def refuse(_: Deferred[Any]) -> None:
            raise ZeroDivisionError

        inner: Deferred[None] = Deferred(refuse)
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        call = queue.call(lambda: inner)
        cancelled = Outcome(call)
        self.turn()
        call.cancel()
        self.assertFailed(cancelled, CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        inner.callback(None)
        after = self.call(queue, identity, "after")
        self.turn()
        self.assertValue(after, "after")

    def test_E04_exceptionsThatCannotBeImitated(self) -> None:
        """
        An exception that is frozen, or that coroutines cannot raise, arrives as another that tells of it.
        """

        @frozen
        class Frozen(Exception):
            number: int

        def fail(error: BaseException) -> None:
            raise error

        worker = MemoryWorker()
        queue: TaskQueue = self.makeQueue(worker)
        for error in (Frozen(3), StopIteration(3)):
            call = self.call(queue, fail, error)
            worker.step()
            self.assertFailed(call, RemoteError)
            self.assertIs(call.error.original, error)
