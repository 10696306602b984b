"""
Waiting for time to pass, and for events that nobody announces, which have to be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.options import checkedTimeout

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: The least and greatest factor by which the gaps between two questions may grow.
BACKOFF_RANGE = (1.0, 1.3)

#: The gaps do not grow beyond this, in seconds, unless the first is longer.
LONGEST_GAP = 1.0


def givenOrGlobal(clock: IReactorTime | None) -> IReactorTime:
    """
    Return a source of timers: the one that is given, or the global reactor, which is looked up now.
    """
    if clock is not None:
        return clock
    from twisted.internet import reactor

    return cast("IReactorTime", reactor)


def checkedSeconds(seconds: Any, name: str) -> float:
    """
    Return a number of seconds.

    @raise TypeError: It is no number.
    @raise ValueError: It is negative, infinite or not a number at all.
    """
    checked = checkedTimeout(seconds, name)
    if checked is None:
        raise TypeError(f"{name} must be a number of seconds, not None")
    return checked


def checkedBackoff(backoff: Any) -> float:
    """
    Return the factor by which gaps grow.

    @raise TypeError: It is no number.
    @raise ValueError: It is out of 1.0…1.3.
    """
    if isinstance(backoff, bool) or not isinstance(backoff, int | float):
        raise TypeError(f"backoff must be a number, not {backoff!r}")
    least, greatest = BACKOFF_RANGE
    if not least <= backoff <= greatest:
        raise ValueError(f"backoff must be from {least} to {greatest}, not {backoff!r}")
    return backoff


class Delay:
    """
    Deferreds that fire after a time, or once a function answers true.

        >>> delay = Delay(interval=0.01, timeout=5.0)
        >>> await delay(0.5)
        >>> exists = await delay.untilEvent(os.path.exists, "ready.txt")

    Times are measured on a monotonic clock. Where an event comes with a Deferred or a callback of its own, wait for
    that instead of asking. Every Deferred can be cancelled, which ends its wait.

    @ivar interval: Seconds until the function is asked for the second time, and what a call without seconds waits.
    @ivar backoff: The factor by which each gap is longer than the one before.
    @ivar timeout: Seconds after which L{untilEvent} gives up, or C{None}.
    """

    def __init__(
        self,
        interval: float = 0.001,
        backoff: float = 1.10,
        timeout: float | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        """
        @param interval: Seconds.
        @param backoff: From 1.0, for equal gaps, to 1.3. Gaps grow up to a second, or to C{interval} if that is longer.
        @param timeout: Seconds, for each call of L{untilEvent}; C{None}: no limit.
        @param clock: The source of timers; the global reactor unless given.
        @raise ValueError: The backoff is out of its range, or a time is negative or not finite.
        """
        self.interval = checkedSeconds(interval, "interval")
        self.backoff = checkedBackoff(backoff)
        self.timeout = checkedTimeout(timeout)
        self._clock = clock
        self._waits: dict[_Wait, None] = {}

    def __call__(self, seconds: float | None = None) -> Deferred[None]:
        """
        Wait.

        @param seconds: How long; C{None}: the interval.
        @return: Fires C{None} after that time, in a later turn of the reactor even for 0 seconds.
        """
        checked = self.interval if seconds is None else checkedSeconds(seconds, "seconds")
        return _Pause(self, checked, givenOrGlobal(self._clock)).done

    def untilEvent(self, f: Callable[..., object], *args: Any, **kw: Any) -> Deferred[bool | None]:
        """
        Ask a function, now and then again, until it answers true.

        @param f: What is called with the other arguments. It may return a Deferred, or be a coroutine function, and is
            not asked again before that has answered.
        @return: Fires C{True} once the answer is true, C{False} when that has not been so within the timeout, at whose
            end it is asked for the last time, and C{None} when L{shutdown} was called. It fails when C{f} does.
        @raise TypeError: C{f} cannot be called.
        """
        if not callable(f):
            raise TypeError(f"f must be callable, and {f!r} is not")
        poll = _Poll(self, lambda: maybeDeferred(f, *args, **kw), givenOrGlobal(self._clock))
        poll.begin()
        return poll.done

    def shutdown(self) -> None:
        """
        End all waits that there are: their Deferreds fire C{None} now. What is called later waits as ever.
        """
        for wait in list(self._waits):
            wait.end(None)

    def _waiting(self, wait: _Wait) -> None:
        self._waits[wait] = None

    def _waited(self, wait: _Wait) -> None:
        self._waits.pop(wait, None)


class _Wait:
    """
    A wait of a L{Delay}, which knows of it as long as it lasts.

    @ivar done: Fires at its end.
    @ivar isOver: Whether that has come.
    """

    def __init__(self, delay: Delay) -> None:
        self.done: Deferred[Any] = Deferred(lambda _: self._stop())
        self.isOver = False
        self._delay = delay
        self._deadline: Deadline | None = None
        delay._waiting(self)

    def end(self, result: bool | None) -> None:
        """
        Fire, unless the wait is over.
        """
        if not self.isOver:
            self._stop()
            self.done.callback(result)

    def _stop(self) -> None:
        self.isOver = True
        self._delay._waited(self)
        if self._deadline is not None:
            self._deadline.stop()


class _Pause(_Wait):
    """
    Waits for a time.
    """

    def __init__(self, delay: Delay, seconds: float, clock: IReactorTime) -> None:
        super().__init__(delay)
        self._deadline = Deadline(clock, monotonicOf(clock), seconds, lambda: self.end(None))


class _Poll(_Wait):
    """
    Waits for a function to answer true.
    """

    def __init__(self, delay: Delay, ask: Callable[[], Deferred[object]], clock: IReactorTime) -> None:
        super().__init__(delay)
        self._ask = ask
        self._clock = clock
        self._gap = delay.interval
        self._longest = max(delay.interval, LONGEST_GAP)
        self._answer: Deferred[object] | None = None
        self._next: IDelayedCall | None = None
        self._isLate = False

    def begin(self) -> None:
        """
        Ask for the first time.
        """
        self._question()
        timeout = self._delay.timeout
        if timeout is not None and not self.isOver:
            self._deadline = Deadline(self._clock, monotonicOf(self._clock), timeout, self._timeIsUp)

    def _question(self) -> None:
        self._next = None
        answer = self._answer = self._ask()
        answer.addCallbacks(self._answered, self._failed)
        if self.isOver:
            # The function itself has ended the wait.
            answer.cancel()

    def _answered(self, answer: object) -> None:
        self._answer = None
        if answer:
            self.end(True)
        elif self._isLate:
            self.end(False)
        elif not self.isOver:
            self._next = self._clock.callLater(self._gap, self._question)
            self._gap = min(self._gap * self._delay.backoff, self._longest)

    def _failed(self, failure: Failure) -> None:
        self._answer = None
        if not self.isOver:
            self._stop()
            self.done.errback(failure)

    def _timeIsUp(self) -> None:
        self._isLate = True
        if self._next is not None:
            self._next.cancel()
            self._question()
        self.end(False)

    def _stop(self) -> None:
        super()._stop()
        waiting, self._next = self._next, None
        if waiting is not None:
            waiting.cancel()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.cancel()


def deferToDelay(seconds: float, clock: IReactorTime | None = None) -> Deferred[None]:
    """
    Wait.

    @param seconds: How long.
    @param clock: The source of timers; the global reactor unless given.
    @return: Fires C{None} after that time. It can be cancelled.
    """
    return Delay(clock=clock)(checkedSeconds(seconds, "seconds"))
