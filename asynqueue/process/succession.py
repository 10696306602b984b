"""
When a child that has died gets a successor: at once, or after a while if its kind does not live long.
"""

from __future__ import annotations

#: Seconds until a successor is started, after the first child that has come to nothing; doubles with each.
FIRST_DELAY = 0.1

#: The longest of these delays, in seconds.
LONGEST_DELAY = 5.0

#: The first delay, and the longest, when so many have never got ready that nobody should wait for the next.
FIRST_HOPELESS_DELAY = 3.0
LONGEST_HOPELESS_DELAY = 20.0

#: After so many children in a row that never got ready, the worker is unfit until one does.
TRIES = 3


class Succession:
    """
    Counts children that have come to nothing, and says how long to wait for the next.

    @ivar failures: How many children in a row never got ready.
    """

    __slots__ = ("_fruitless", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self._fruitless = 0

    def gotReady(self) -> None:
        """
        Note that a child is ready for calls.
        """
        self.failures = 0

    def ended(self, wasReady: bool, finished: int) -> float:
        """
        Note that a child has died.

        @param wasReady: Whether it ever was ready for calls.
        @param finished: How many it has finished.
        @return: Seconds until its successor may be started.
        """
        if not wasReady:
            self.failures += 1
        if finished:
            self._fruitless = 0
            return 0.0
        self._fruitless += 1
        if wasReady and self._fruitless == 1:
            return 0.0
        if self.isHopeless:
            return float(min(FIRST_HOPELESS_DELAY * 2 ** (self.failures - TRIES), LONGEST_HOPELESS_DELAY))
        return float(min(FIRST_DELAY * 2 ** (self._fruitless - 1), LONGEST_DELAY))

    @property
    def isHopeless(self) -> bool:
        """
        Whether so many have failed to get ready that nobody should wait for the next.
        """
        return self.failures >= TRIES
