"""
How long the reactor is kept from its work, seen from within.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: The seconds between two beats.
INTERVAL = 0.05


class Heartbeat:
    """
    Beats at a steady pace and remembers by how much the latest beat was late.

    @param clock: The reactor.
    @param beaten: Called at each beat.
    @param interval: The seconds from one beat to the next.
    @param timer: A clock that never steps back, in seconds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        beaten: Callable[[], object] = lambda: None,
        *,
        interval: float = INTERVAL,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._beaten = beaten
        self._interval = interval
        self._timer = timer
        self._last = 0.0
        self._longestPause = 0.0
        self._loop = LoopingCall(self._beat)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Begin to beat, and forget what there was before.
        """
        self._last = self._timer()
        self._longestPause = 0.0
        self._loop.start(self._interval, now=False)

    def stop(self) -> float:
        """
        Stop beating.

        @return: The longest time, in seconds, for which a beat that was due had to wait.
        """
        if self._loop.running:
            self._loop.stop()
            self._observe()
        return self._longestPause

    def _beat(self) -> None:
        self._observe()
        self._beaten()

    def _observe(self) -> None:
        now = self._timer()
        self._longestPause = max(self._longestPause, now - self._last - self._interval)
        self._last = now
