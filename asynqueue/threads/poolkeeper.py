"""
What makes and ends the pool of threads of one object.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from inspect import iscoroutine
from threading import Thread, current_thread
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from asynqueue.workers.lifecycle import Readiness

#: How long, in seconds, a reactor that stops waits for calls that are running in a pool.
GRACE = 2.0


class PoolKeeper:
    """
    Makes a pool when there is none, and sees to its end.

    @ivar calls: How many calls have no outcome yet.
    @ivar isTransient: Whether a pool ends with the calls for which it has been made.
    """

    log = Logger()

    def __init__(self, reactor: Any, onReactorStop: Callable[[], object]) -> None:
        """
        @param reactor: The reactor, or C{None} for the global one, which is looked up when it is needed.
        @param onReactorStop: Called when the reactor stops while there is a pool, which it must end; it may return a
            Deferred.
        """
        self.calls = 0
        self.isTransient = False
        self._reactor = reactor
        self._onReactorStop = onReactorStop
        self._pool: QuietPool | None = None
        self._leaving: set[QuietPool] = set()
        self._ends = Readiness()
        self._trigger: Any = None

    @property
    def reactor(self) -> Any:
        """
        The reactor.
        """
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor

    def opened(self) -> ThreadPool:
        """
        Return the pool, which there must be.
        """
        assert self._pool is not None
        return self._pool

    def begin(self, least: int, most: int) -> None:
        """
        Make a pool, unless there is one.

        @raise RuntimeError: The system has no threads to give.
        """
        if self._pool is not None:
            if not self._pool.joined:
                return
            # Somebody has stopped it.
            self.end()
        pool = QuietPool(self.reactor, least, most, self._ended)
        try:
            pool.start()
        except RuntimeError:
            self._leaving.add(pool)
            pool.end()
            raise
        self._pool = pool
        if self._trigger is None:
            self._trigger = self.reactor.addSystemEventTrigger("before", "shutdown", self._reactorStops)

    def resize(self, least: int, most: int) -> None:
        """
        Have the pool, if there is one, be of another size.
        """
        if self._pool is not None:
            self._pool.adjustPoolsize(least, most)

    def call(self, f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> Deferred[Any]:
        """
        Run a call in the pool, which there must be.
        """
        context = copy_context()
        result: Deferred[Any] = Deferred()

        def run() -> Any:
            return None if result.called else context.run(f, *args, **kw)

        def ran(isResult: bool, value: Any) -> None:
            self.reactor.callFromThread(self._called, result, isResult, value)

        self.calls += 1
        result.addCallback(_arriving, context)
        try:
            self.opened().callInThreadWithCallback(ran, run)
        except RuntimeError:
            # The system has no more threads to give.
            self._called(result, False, Failure())
        if self.isTransient:
            self.end()
        return result

    def _called(self, result: Deferred[Any], isResult: bool, value: Any) -> None:
        self.calls -= 1
        if isResult:
            # Wrapped, for a Deferred cannot be the result of one.
            result.callback((value,))
        else:
            result.errback(value)

    def end(self) -> Deferred[None]:
        """
        Let the pool end when all is done that has been given to it.

        @return: Fires when its threads have gone, and those of pools before it.
        """
        pool, self._pool = self._pool, None
        if pool is not None:
            self._leaving.add(pool)
            pool.end()
        return self._ends.wait() if self._leaving else succeed(None)

    def letGo(self) -> Deferred[None]:
        """
        Let the pool end, and those that may come later, with the calls that they have.

        @return: Fires when their threads have gone, but at once if there are calls, which may take any time.
        """
        self.isTransient = True
        gone = self.end()
        return succeed(None) if self.calls else gone

    def _ended(self, pool: QuietPool) -> None:
        self._leaving.remove(pool)
        if self._leaving:
            return
        if self._pool is None and self._trigger is not None:
            trigger, self._trigger = self._trigger, None
            self.reactor.removeSystemEventTrigger(trigger)
        self._ends.ready()

    def _reactorStops(self) -> Deferred[None]:
        self._trigger = None
        ended: Deferred[Any] = maybeDeferred(self._onReactorStop)
        return ended.addTimeout(GRACE, self.reactor).addErrback(self._unended)

    def _unended(self, failure: Failure) -> None:
        if failure.check(DeferredTimeout):
            self.log.warn("The reactor stops while calls are running in a pool of threads; they are not waited for.")
        else:
            self.log.failure("A pool of threads could not be ended", failure)


class QuietPool(ThreadPool):
    """
    Twisted's pool, of daemon threads, whose end does not block.
    """

    def __init__(self, reactor: Any, least: int, most: int, ended: Callable[[QuietPool], object]) -> None:
        """
        @param reactor: Provides C{IReactorFromThreads}.
        @param least: How many threads there are from the beginning.
        @param most: How many there may be.
        @param ended: Called with this object when L{end} has been called and all threads have gone.
        """
        super().__init__(least, most, "asynqueue")
        self._reactor = reactor
        self._ended = ended
        self._leaving: set[Thread] | None = None

    def threadFactory(self, *, target: Callable[[], object], name: str) -> Thread:  # type: ignore[override]
        """
        Make a thread, which tells when it is about to go.
        """
        return Thread(target=self._work, args=(target,), name=name, daemon=True)

    def _work(self, target: Callable[[], object]) -> None:
        try:
            target()
        finally:
            self._reactor.callFromThread(self._gone, current_thread())

    def end(self) -> None:
        """
        Let the threads end when all is done that has been given to them.
        """
        # stop() joins the threads that it finds. One without an identity could not be started.
        self._leaving = {thread for thread in self.threads if thread.ident is not None}
        self.threads = []
        if not self.joined:
            self.stop()
        self._look()

    def _gone(self, thread: Thread) -> None:
        # It is past its last statement; what is left of it takes no time that anybody could notice.
        thread.join()
        if self._leaving is None:
            self.threads.remove(thread)
        else:
            self._leaving.remove(thread)
            self._look()

    def _look(self) -> None:
        if not self._leaving:
            self._ended(self)


def _arriving(wrapped: tuple[Any], context: Context) -> Any:
    (value,) = wrapped
    return context.run(Deferred.fromCoroutine, value) if iscoroutine(value) else value
