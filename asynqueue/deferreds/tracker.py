"""
Waiting for Deferreds without having or touching them: many of them, or the one that is an attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.deferreds.delay import checkedBackoff, checkedSeconds, givenOrGlobal
from asynqueue.options import checkedCount, checkedTimeout

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")


class DeferredTracker:
    """
    Counts Deferreds that have not fired, and tells when there are few enough.

        >>> tracker = DeferredTracker()
        >>> for page in pages:
        ...     tracker.put(fetch(page)).addCallback(store)
        ...     await tracker.deferUntilFewer(10)
        >>> await tracker.deferToAll()

    Nothing is polled. What a wait is for has happened when the count says so, be it for a moment; its Deferred fires in
    the next turn of the reactor, so that the callbacks have run that were added to the tracked Deferred meanwhile. Each
    wait can be cancelled.
    """

    def __init__(
        self, interval: float | None = None, backoff: float | None = None, clock: IReactorTime | None = None
    ) -> None:
        """
        @param interval: Without effect, as nothing is polled; checked nevertheless, as for L{Delay}.
        @param backoff: Likewise.
        @param clock: The source of timers; the global reactor unless given.
        @raise ValueError: The interval is negative or the backoff out of 1.0…1.3.
        """
        if interval is not None:
            checkedSeconds(interval, "interval")
        if backoff is not None:
            checkedBackoff(backoff)
        self._clock = clock
        self._tracked = 0
        self._added = 0
        self._waiters: dict[_Waiter, None] = {}

    def put(self, d: Deferred[T]) -> Deferred[T]:
        """
        Track a Deferred until it fires, with a result or a failure.

        @return: The same one, whose results and failures stay what they are. It is not kept.
        @raise TypeError: It is no Deferred.
        """
        if not isinstance(d, Deferred):
            raise TypeError(f"only a Deferred can be tracked, and {d!r} is none")
        self._tracked += 1
        d.addBoth(self._fired)
        return d

    def addWait(self) -> None:
        """
        Count one more, as if a Deferred had been put, until L{removeWait}.
        """
        self._added += 1

    def removeWait(self) -> None:
        """
        Take back one L{addWait}, if there is any left.
        """
        if self._added:
            self._added -= 1
            self._oneLess()

    def quitWaiting(self) -> None:
        """
        End all waits that there are: their Deferreds fire now, C{False} unless what they wait for has happened.

        What is tracked stays so, and whoever waits later waits for it.
        """
        for waiter in list(self._waiters):
            waiter.end(waiter.isMet)

    def notWaiting(self) -> bool:
        """
        Tell whether nothing is tracked that has not fired, and each L{addWait} has been taken back.
        """
        return not self._count()

    def deferToAll(self, timeout: float | None = None) -> Deferred[bool]:
        """
        Wait until all have fired, those included that are put meanwhile.

        @param timeout: Seconds, or C{None} for no limit.
        @return: Fires C{True} then, at once if there is none, and C{False} at the timeout.
        """
        return self.deferUntilFewer(1, timeout)

    def deferToAny(self, timeout: float | None = None) -> Deferred[bool]:
        """
        Wait until another one has fired.

        @param timeout: Seconds, or C{None} for no limit.
        @return: Fires C{True} then, at once if there is none to wait for, and C{False} at the timeout.
        """
        return self._wait(1, None, timeout)

    def deferUntilFewer(self, N: int, timeout: float | None = None) -> Deferred[bool]:
        """
        Wait until there are fewer than a number.

        @param N: The number, 1 or more.
        @param timeout: Seconds, or C{None} for no limit.
        @return: Fires C{True} then, at once if it is so, and C{False} at the timeout.
        @raise ValueError: The number is less than 1: there are never fewer than none.
        """
        number = checkedCount(N, "N")
        if number is None:
            raise TypeError("N must be a whole number, not None")
        return self._wait(number, number, timeout)

    def _wait(self, enough: int, fewer: int | None, timeout: float | None) -> Deferred[bool]:
        timeout = checkedTimeout(timeout)
        if self._count() < enough:
            return succeed(True)
        waiter = _Waiter(fewer, self._forget, givenOrGlobal(self._clock), timeout)
        self._waiters[waiter] = None
        return waiter.done

    def _forget(self, waiter: _Waiter) -> None:
        self._waiters.pop(waiter, None)

    def _count(self) -> int:
        return self._tracked + self._added

    def _fired(self, result: T) -> T:
        self._tracked -= 1
        self._oneLess()
        return result

    def _oneLess(self) -> None:
        count = self._count()
        for waiter in self._waiters:
            if waiter.fewer is None or count < waiter.fewer:
                waiter.met()


class _Waiter:
    """
    One who waits for the count of a L{DeferredTracker}.

    @ivar done: Fires when the wait is over.
    @ivar fewer: The count must be below this; C{None}: it must fall.
    @ivar isMet: Whether that has happened.
    """

    def __init__(
        self, fewer: int | None, forget: Callable[[_Waiter], object], clock: IReactorTime, timeout: float | None
    ) -> None:
        self.done: Deferred[bool] = Deferred(lambda _: self._stop())
        self.fewer = fewer
        self.isMet = False
        self._forget = forget
        self._clock = clock
        self._turn: IDelayedCall | None = None
        self._deadline: Deadline | None = None
        if timeout is not None:
            self._deadline = Deadline(clock, monotonicOf(clock), timeout, lambda: self.end(False))

    def met(self) -> None:
        """
        Fire in the next turn.
        """
        if not self.isMet:
            self.isMet = True
            self._stopDeadline()
            self._turn = self._clock.callLater(0, self._due)

    def end(self, result: bool) -> None:
        """
        Fire now, unless that has been done.
        """
        if not self.done.called:
            self._stop()
            self.done.callback(result)

    def _due(self) -> None:
        self._turn = None
        self.end(True)

    def _stop(self) -> None:
        self._forget(self)
        self._stopDeadline()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()

    def _stopDeadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.stop()


def callAfterDeferred(
    namespace: object, name: str, f: Callable[..., Deferred[T] | T], *args: Any, **kw: Any
) -> Deferred[T]:
    """
    Call a function after C{namespace.name}, a Deferred, has fired, with a result or a failure, which it keeps.

    The attribute is removed then. If there is none, or it is C{None}, the function is called now.

    @param f: It may return a Deferred, or be a coroutine function.
    @return: Fires with the function's result. Cancelling it before the function has been called only keeps that from
        happening.
    @raise TypeError: The attribute is something else, or C{f} cannot be called.
    """
    if not callable(f):
        raise TypeError(f"f must be callable, and {f!r} is not")
    awaited = getattr(namespace, name, None)
    if awaited is not None and not isinstance(awaited, Deferred):
        raise TypeError(f"the attribute {name!r} must be a Deferred, and {awaited!r} is none")

    def call(_: None) -> Deferred[T]:
        result: Deferred[Any] = maybeDeferred(f, *args, **kw)
        return result

    turn: Deferred[None] = Deferred()
    called: Deferred[T] = turn.addCallback(call)
    if awaited is None:
        turn.callback(None)
        return called

    def fired(result: Any) -> Any:
        with suppress(AttributeError):  # that of a class, seen through an instance, cannot be removed from it
            if getattr(namespace, name, None) is awaited:
                delattr(namespace, name)
        turn.callback(None)
        return result

    awaited.addBoth(fired)
    return called
