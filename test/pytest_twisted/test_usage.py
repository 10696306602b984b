"""
The library in tests for pytest, with pytest-twisted.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, deferLater

from asynqueue import AsyncWorker, TaskQueue, ThreadQueue, ThreadWorker, deferToThread
from asynqueue.errors import QueueClosed, ThreadError, WorkerError
from asynqueue.testing import CONFORMANCE_CHECKS, LeakCheck, MemoryWorker
from asynqueue.testing.conformance import Check

reactor: Any = globalReactor

#: Seconds that anything may block, in a test that fails.
LIMIT = 10.0

WORKERS = [AsyncWorker, ThreadWorker]


@pytest.mark.parametrize("worker", WORKERS, ids=lambda worker: worker.__name__)
@pytest.mark.parametrize("check", CONFORMANCE_CHECKS, ids=lambda check: check.__name__)
@pytest_twisted.ensureDeferred
async def test_conformance(check: Check, worker: Any) -> None:
    """
    The conformance suite, as its documentation tells to use it with pytest.
    """
    await check(worker)


@pytest.mark.parametrize("worker", WORKERS, ids=lambda worker: worker.__name__)
@pytest_twisted.ensureDeferred
async def test_asyncWith(worker: Any) -> None:
    """
    A queue in C{async with} is shut down at the end of the block, after all calls.
    """
    async with TaskQueue(worker(), returnFailure=True) as queue:
        calls = [queue.call(int, number) for number in range(100)]
        assert await queue.call(pow, 2, 10) == 1024
    assert not queue.isRunning()
    assert await gatherResults(calls) == list(range(100))
    with pytest.raises(QueueClosed):
        await queue.call(int)


@pytest_twisted.ensureDeferred
async def test_asyncWithError() -> None:
    """
    An exception that ends the block is passed on, and what is queued is not run.
    """
    worker = MemoryWorker()
    queue = TaskQueue(worker, returnFailure=True)
    running, waiting = queue.call(int), queue.call(int)

    async def block() -> None:
        async with queue:
            raise KeyError("in the block")

    ended = Deferred.fromCoroutine(block())
    with pytest.raises(Exception, match="was still queued"):
        await waiting
    worker.stepAll()
    assert await running == 0
    with pytest.raises(KeyError, match="in the block"):
        await ended


@pytest.mark.parametrize("worker", WORKERS, ids=lambda worker: worker.__name__)
@pytest_twisted.ensureDeferred
async def test_errors(worker: Any) -> None:
    """
    Errors of calls are caught by C{pytest.raises}, by the library's class and by their own.
    """
    async with TaskQueue(worker(), returnFailure=True) as queue:
        with pytest.raises(WorkerError, match="invalid literal"):
            await queue.call(int, "three")
        with pytest.raises(ValueError, match="invalid literal"):
            await queue.call(int, "three")


@pytest_twisted.inlineCallbacks
def test_inlineCallbacks() -> Iterator[Deferred[Any]]:
    """
    Tests may be generators, too.
    """
    queue = ThreadQueue(returnFailure=True)
    result: Any = yield queue.call(int, "5")
    assert result == 5
    yield queue.shutdown()


@pytest_twisted.async_yield_fixture
async def threadQueue() -> AsyncIterator[ThreadQueue]:
    """
    A queue for a test, which is shut down after it.
    """
    queue = ThreadQueue(returnFailure=True)
    yield queue
    await queue.shutdown(drain=False, deadline=LIMIT)


@pytest_twisted.ensureDeferred
async def test_fixture(threadQueue: ThreadQueue) -> None:
    """
    A queue may be a fixture.
    """
    assert await threadQueue.call(threading.get_ident) != threading.get_ident()
    assert await threadQueue.deferToThread(int, "7") == 7


@pytest_twisted.ensureDeferred
async def test_cancel(threadQueue: ThreadQueue) -> None:
    """
    A call that runs in a thread can be cancelled.
    """
    event = threading.Event()
    entered: Deferred[None] = Deferred()

    def work() -> None:
        reactor.callFromThread(entered.callback, None)
        event.wait(LIMIT)

    call = threadQueue.call(work)
    await entered
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    event.set()
    assert await threadQueue.call(int) == 0


@pytest_twisted.ensureDeferred
async def test_sharedThread() -> None:
    """
    The shared thread ends when it is told to.
    """
    assert await deferToThread(int, "5") == 5
    with pytest.raises(ThreadError):
        await deferToThread(int, "five")
    await deferToThread()


def test_synchronous() -> None:
    """
    With the memory worker and a virtual clock, a test needs no reactor.
    """
    clock = Clock()
    worker = MemoryWorker()
    queue = TaskQueue(worker, reactor=clock, returnFailure=True)
    results: list[int] = []
    queue.call(pow, 2, 3).addCallback(results.append)
    worker.step()
    assert results == [8]
    queue.shutdown()
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_leakCheck(leakCheck: LeakCheck) -> None:
    """
    The fixture of all tests finds a timer and a thread, while they are there.
    """
    queue = ThreadQueue(returnFailure=True)
    timer = reactor.callLater(LIMIT, int)
    await queue.call(int)
    found = leakCheck.leaks()
    assert any("timer" in text for text in found), found
    assert any("thread 'asynqueue'" in text for text in found), found
    with pytest.raises(AssertionError, match="left behind"):
        leakCheck.verify(patience=0)
    timer.cancel()
    await queue.shutdown()
    await deferLater(reactor, 0)
    assert leakCheck.leaks() == []
