"""
A lock with a fast lane, which can be stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Self

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure


class Phase(Enum):
    """
    How far a lock has come::

        OPEN --stop--> ENDING --its last holder has released it--> STOPPING --stoppers done--> STOPPED

    It excludes in the first two only.
    """

    OPEN = "open"
    ENDING = "ending"
    STOPPING = "stopping"
    STOPPED = "stopped"


class DeferredLock(defer.DeferredLock):
    """
    Twisted's lock, where important ones go ahead of others, and whose users can be brought to an end.

        >>> with lock.context(vip=True) as acquired:
        ...     await acquired
        ...     await work()

    All that Twisted's offers is there: C{run}, C{async with lock}, C{locked}. Releasing a lock with many waiters never
    nests one waiter's callbacks into another's. A waiter that is cancelled is out of the line.
    """

    _log = Logger()

    def __init__(self, allowZombies: bool = False) -> None:
        """
        @param allowZombies: Whether it is let pass when somebody releases the lock who does not have it any more;
            otherwise, that is an error as long as the lock has not been stopped.
        """
        super().__init__()
        self.allowZombies = allowZombies
        self._vips: set[Deferred[Any]] = set()
        self._isPassing = False
        self._phase = Phase.OPEN
        self._stoppers: deque[Callable[[], Deferred[Any]]] = deque()
        self._stopWaiters: list[Deferred[None]] = []
        self._failure: Failure | None = None

    def acquire(self, vip: bool = False) -> Deferred[Self]:
        """
        Wait for the lock.

        @param vip: Whether to go ahead of all waiters that do not; among those that do, the first comes first.
        @return: Fires with this object when the lock is held, at once if the lock has been stopped.
        """
        if self._hasEnded():
            return succeed(self)
        d: Deferred[Self] = Deferred(self._cancelAcquire)
        if not self.locked and not self.waiting:
            self.locked = True
            d.callback(self)
        elif vip:
            self.waiting.insert(len(self._vips), d)
            self._vips.add(d)
        else:
            self.waiting.append(d)
        return d

    def release(self) -> None:
        """
        Give the lock to the next waiter. Without effect when the lock has been stopped.

        @raise AssertionError: Nobody has it, as with Twisted's. Not raised with C{allowZombies}.
        """
        if self._hasEnded():
            return
        if not self.locked:
            if self.allowZombies:
                return
            raise AssertionError("the lock is released, and nobody has it: each acquire() is for one release()")
        self.locked = False
        if self._isPassing:
            # Called from the loop below, which goes on with the next waiter.
            return
        self._isPassing = True
        try:
            while self.waiting and not self.locked:
                self.locked = True
                self._next().callback(self)
        finally:
            self._isPassing = False

    def acquireAndRelease(self, vip: bool = False) -> Deferred[None]:
        """
        Wait for the lock, and release it at once.

        @param vip: As for L{acquire}.
        @return: Fires when all that were before are through.
        """
        return self.acquire(vip).addCallback(lambda _: self.release())

    def context(self, vip: bool = False) -> LockContext:
        """
        Hold the lock for a block, whose end releases it, or ends the wait for it.

        C{with} gives the Deferred of L{acquire}, to be awaited within; C{async with} awaits it before the block begins.

        @param vip: As for L{acquire}.
        """
        return LockContext(self, vip)

    def addStopper(self, f: Callable[..., object], *args: Any, **kw: Any) -> None:
        """
        Have a function called by L{stop}, after those that were added before; now, if the lock has been stopped.

        @param f: It may return a Deferred, or be a coroutine function, and is awaited.
        @raise TypeError: C{f} cannot be called.
        """
        if not callable(f):
            raise TypeError(f"f must be callable, and {f!r} is not")
        self._stoppers.append(lambda: maybeDeferred(f, *args, **kw))
        if self._phase is Phase.STOPPED:
            self._phase = Phase.STOPPING
            self._runStoppers()

    def stop(self) -> Deferred[None]:
        """
        Bring the lock to an end: those who wait get it in their order, then the stoppers are called, one by one.

        From the moment on at which the last of them has released it, L{acquire} succeeds at once, for stoppers too.

        @return: Fires when the stoppers are done. If any have failed, it fails as the first of them did, and the others
            are logged; none keeps another from being called. How long it takes is up to them and to whoever holds the
            lock.
        """
        if self._phase is Phase.STOPPED:
            return succeed(None) if self._failure is None else fail(self._failure)
        stopped: Deferred[None] = Deferred(self._stopWaiters.remove)
        self._stopWaiters.append(stopped)
        if self._phase is Phase.OPEN:
            self._phase = Phase.ENDING
            self.acquire().addCallback(self._end)
        return stopped

    def _hasEnded(self) -> bool:
        return self._phase in (Phase.STOPPING, Phase.STOPPED)

    def _next(self) -> Deferred[Any]:
        d: Deferred[Any] = self.waiting.pop(0)
        self._vips.discard(d)
        return d

    def _cancelAcquire(self, d: Deferred[Any]) -> None:
        self.waiting.remove(d)
        self._vips.discard(d)

    def _end(self, _: object) -> None:
        """
        Let everybody in who came after L{stop}, and call the stoppers.
        """
        self._phase = Phase.STOPPING
        self.locked = False
        while self.waiting:
            self._next().callback(self)
        self._runStoppers()

    def _runStoppers(self) -> None:
        Deferred.fromCoroutine(self._callStoppers()).addErrback(
            lambda failure: self._log.failure("a lock could not be stopped", failure)
        )

    async def _callStoppers(self) -> None:
        while self._stoppers:
            stopper = self._stoppers.popleft()
            try:
                await stopper()
            except Exception:  # whatever it raises, the others must be called
                failure = Failure()
                if self._failure is None and self._stopWaiters:
                    self._failure = failure
                else:
                    self._log.failure("a stopper of a lock failed", failure)
        self._phase = Phase.STOPPED
        while self._stopWaiters:
            waiter = self._stopWaiters.pop(0)
            if self._failure is None:
                waiter.callback(None)
            else:
                waiter.errback(self._failure)


class LockContext:
    """
    A block in which a L{DeferredLock} is held.
    """

    def __init__(self, lock: DeferredLock, vip: bool) -> None:
        self._lock = lock
        self._vip = vip
        self._acquired: Deferred[DeferredLock] | None = None
        self._isHeld = False

    def __enter__(self) -> Deferred[DeferredLock]:
        if self._acquired is not None:
            raise RuntimeError("the context is for one block at a time: call context() for each")
        self._acquired = self._lock.acquire(self._vip).addCallback(self._held)
        return self._acquired

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        acquired, self._acquired = self._acquired, None
        if self._isHeld:
            self._isHeld = False
            self._lock.release()
        elif acquired is not None and not acquired.called:
            acquired.cancel()
            acquired.addErrback(lambda failure: failure.trap(CancelledError))
        return False

    async def __aenter__(self) -> DeferredLock:
        try:
            return await self.__enter__()
        except BaseException:
            # Cancelled: then the block never begins, nor ends.
            self.__exit__(None, None, None)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        return self.__exit__(kind, error, trace)

    def _held(self, lock: DeferredLock) -> DeferredLock:
        self._isHeld = True
        return lock
