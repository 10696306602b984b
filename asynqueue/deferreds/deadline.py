"""
Deadlines that a step of the wall clock cannot bring forward.

A reactor's timers follow the wall clock. A deadline is kept on a monotonic one: when a timer fires early, it is armed
again for what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import Clock

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime


def monotonicOf(clock: IReactorTime) -> Callable[[], float]:
    """
    Return the monotonic clock, in seconds, that belongs to a source of timers: the system's for a real reactor, and
    for anything else, such as C{twisted.internet.task.Clock}, its own.
    """
    isReal = IReactorCore.providedBy(clock) and not isinstance(clock, Clock)
    return monotonic if isReal else clock.seconds


class Deadline:
    """
    Calls a function once, when a number of seconds has passed on the monotonic clock.
    """

    __slots__ = ("_call", "_clock", "_due", "_func", "_monotonic")

    def __init__(
        self, clock: IReactorTime, monotonic: Callable[[], float], seconds: float, func: Callable[[], object]
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._func = func
        self._due = monotonic() + seconds
        self._call: IDelayedCall | None = clock.callLater(seconds, self._elapsed)

    def _elapsed(self) -> None:
        self._call = None
        left = self._due - self._monotonic()
        if left > 1e-6:
            self._call = self._clock.callLater(left, self._elapsed)
        else:
            self._func()

    def stop(self) -> None:
        """
        Never call the function, if it has not been called. May be called again.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
