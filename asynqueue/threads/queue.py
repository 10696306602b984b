"""
A queue whose calls run in threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from asynqueue.taskqueue import TaskQueue
from asynqueue.threads.worker import ThreadWorker

T = TypeVar("T")


class ThreadQueue(TaskQueue):
    """
    A L{TaskQueue} with one L{ThreadWorker}, or more.

    @ivar worker: The first worker.
    @ivar d: Fires with the first worker's ID.
    """

    def __init__(self, raw: bool = False, N: int = 1, **kw: Any) -> None:
        """
        @param raw: Whether iterators are returned as they are.
        @param N: How many workers the queue has, each with a thread of its own.
        @param kw: The keywords of L{TaskQueue}.
        @raise ValueError: C{N} is not at least 1.
        """
        if isinstance(N, bool) or not isinstance(N, int) or N < 1:
            raise ValueError(f"N must be a whole number from 1 on, not {N!r}")
        super().__init__(**kw)
        workers = [ThreadWorker(raw=raw, reactor=kw.get("reactor")) for _ in range(N)]
        self.worker = workers[0]
        self.d, *_ = [self.attachWorker(worker) for worker in workers]

    def deferToThread(self, f: Callable[..., Deferred[T] | T], *args: Any, **kw: Any) -> Deferred[T]:
        """
        Run a call in the first worker's thread, past the queue.

        @keyword doNext: Before what the worker has not started.
        @keyword raw: Whether an iterator is to be returned as it is.
        @keyword consumer: An C{IConsumer} that gets the iterations if the result is an iterator.
        @return: Fires with the result of the call; errors errback as L{asynqueue.errors.ThreadError}.
        """
        return self.worker.deferToThread(f, *args, **kw)
