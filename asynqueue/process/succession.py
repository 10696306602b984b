"""
When a child that has died gets a successor: at once, or after a while if its kind does not live long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

#: Seconds until a successor is started, after the first child that has come to nothing; doubles with each.
FIRST_DELAY = 0.1

#: The longest of these delays, in seconds.
LONGEST_DELAY = 5.0

#: After so many children in a row that never got ready, the worker is unfit until one does.
TRIES = 3

#: So many children in a row that come to nothing may be started in C{PERIOD} seconds.
BUDGET = 10

#: See C{BUDGET}.
PERIOD = 60.0


class Succession:
    """
    Counts children that have come to nothing, and says how long to wait for the next.

    @ivar failures: How many children in a row never got ready.
    """

    __slots__ = ("_clock", "_ends", "_fruitless", "failures")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.failures = 0
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=BUDGET)
        self._fruitless = 0

    def gotReady(self) -> None:
        """
        Note that a child is ready for calls.
        """
        self.failures = 0

    def tookTooLong(self) -> None:
        """
        Note that a child is being given up that has not got ready for so long that nobody should wait for another.
        """
        self.failures = TRIES

    def ended(self, wasReady: bool, finished: int, wasStarted: bool = True) -> float:
        """
        Note that a child has died.

        @param wasReady: Whether it ever was ready for calls.
        @param finished: How many it has finished.
        @param wasStarted: Whether it ever was there; if not, the system could not start it.
        @return: Seconds until its successor may be started.
        """
        if not wasReady:
            self.failures += 1
        if finished:
            self._fruitless = 0
            self._ends.clear()
            return 0.0
        self._fruitless += 1
        now = self._clock()
        if wasStarted:
            self._ends.append(now)
        if wasReady and self._fruitless == 1:
            return 0.0
        rest = self._ends[0] + PERIOD - now if len(self._ends) == BUDGET else 0.0
        return max(float(min(FIRST_DELAY * 2 ** min(self._fruitless - 1, 10), LONGEST_DELAY)), rest)

    @property
    def isHopeless(self) -> bool:
        """
        Whether so many have failed to get ready that nobody should wait for the next.
        """
        return self.failures >= TRIES
