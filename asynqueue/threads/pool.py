"""
A pool of threads of one's own, which begins at its first use and ends without blocking the reactor.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred, fail
from twisted.python import threadable
from twisted.python.threadpool import ThreadPool

from asynqueue.options import checkedCount
from asynqueue.threads.poolkeeper import PoolKeeper

T = TypeVar("T")


class PoolUser:
    """
    Calls in threads of one's own, some at a time.

    The pool is Twisted's, each object has another one, and its threads begin when there is something for them to do.
    L{shutdown} ends them. A reactor that stops does so, too, and waits for calls that are running, but not for long.
    The threads do not keep the interpreter from exiting.

    All methods are for the reactor's thread. A class that has this one among others as a base need not call
    C{__init__}.

    @cvar minThreads: How many threads a pool begins with.
    @cvar maxThreads: How many calls run at a time, unless told otherwise.
    """

    minThreads = 2
    maxThreads = 10
    #: How many threads there may be beside those for calls.
    _extraThreads = 0
    _pools: PoolKeeper | None = None

    def __init__(self, maxThreads: int | None = None, reactor: Any = None) -> None:
        """
        @param maxThreads: How many calls may run at a time; that of the class unless given.
        @param reactor: Where results arrive, and whose end is that of the pool; the global reactor unless given.
        @raise ValueError: C{maxThreads} is less than 1.
        @raise TypeError: It is no whole number.
        """
        self._limit(maxThreads)
        self._pools = PoolKeeper(reactor, self.shutdown)

    @property
    def pool(self) -> ThreadPool:
        """
        The pool. It is made and started now if there is none.
        """
        self._begin()
        return self._keeper().opened()

    def setup(self, maxThreads: int | None = None) -> None:
        """
        Make the pool and start its threads, if that has not been done.

        @param maxThreads: How many calls may run at a time from now on; as it is unless given.
        @raise ValueError: It is less than 1.
        @raise TypeError: It is no whole number.
        """
        if self._limit(maxThreads):
            self._keeper().resize(*self._sizes())
        self._begin()

    @overload
    def deferToThreadInPool(self, f: Callable[..., Awaitable[T]], *args: Any, **kw: Any) -> Deferred[T]: ...

    @overload
    def deferToThreadInPool(self, f: Callable[..., T], *args: Any, **kw: Any) -> Deferred[T]: ...

    def deferToThreadInPool(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Run a call in a thread of the pool, in the context of the caller, as soon as one is free.

        @param f: What it returns as a Deferred or coroutine is awaited in the reactor.
        @return: Fires with the result; errors errback as they are. Cancelled before it has started, the call is never
            run; later, its result is dropped.
        @raise TypeError: C{f} is not callable.
        """
        if not callable(f):
            raise TypeError(f"f must be callable, and {f!r} is not")
        try:
            self._begin()
        except RuntimeError:
            # The system has no more threads to give.
            return fail()
        return self._keeper().call(f, args, kw)

    def shutdown(self) -> Deferred[None]:
        """
        Let the threads end when all is done that has been given to them. A call that comes later gets a new pool.

        @return: Fires when they have gone, at once if there are none.
        """
        return self._keeper().end()

    def _keeper(self) -> PoolKeeper:
        if self._pools is None:
            self._pools = PoolKeeper(None, self.shutdown)
        return self._pools

    def _limit(self, maxThreads: int | None) -> bool:
        checked = checkedCount(maxThreads, "maxThreads")
        if checked is None:
            return False
        self.maxThreads = checked
        return True

    def _sizes(self) -> tuple[int, int]:
        most = self.maxThreads + self._extraThreads
        return min(self.minThreads, most), most

    def _begin(self) -> None:
        self._keeper().begin(*self._sizes())


def isReactorThread() -> bool:
    """
    Tell whether this is the thread in which the reactor runs, or will run: the main thread, as far as one can know.
    """
    registered: int | None = threadable.ioThread
    return threading.get_ident() == (threading.main_thread().ident if registered is None else registered)
