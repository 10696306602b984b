"""
What measuring processes watch: the collector, the turns of a reactor, and their own memory.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

#: Figures by name. Times are in seconds.
Sample = dict[str, float]


class Collector:
    """
    A watch on CPython's cyclic garbage collector, which works as it does by default.

    @ivar clock: Gives the time, in seconds.
    @ivar seconds: How long the collector has worked.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.seconds = 0.0
        self._since = 0.0
        gc.callbacks.append(self._watch)

    def _watch(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._since = self.clock()
        else:
            self.seconds += self.clock() - self._since

    def clear(self) -> None:
        """
        Collect what there is, and begin to count anew.
        """
        gc.collect()
        self.seconds = 0.0


class TurnProbe:
    """
    A watch on the turns of a reactor: something that asks to be called in each.
    """

    def __init__(self, reactor: Any, collector: Collector) -> None:
        self._reactor = reactor
        self._collector = collector
        self._longest = 0.0
        self._longestNet = 0.0
        self._last = perf_counter()
        self._collected = collector.seconds
        self._next = reactor.callLater(0, self._tick)

    def _tick(self) -> None:
        self._look()
        self._next = self._reactor.callLater(0, self._tick)

    def _look(self) -> None:
        now, collected = perf_counter(), self._collector.seconds
        gap = now - self._last
        self._longest = max(self._longest, gap)
        self._longestNet = max(self._longestNet, gap - (collected - self._collected))
        self._last, self._collected = now, collected

    def stop(self, name: str) -> Sample:
        """
        Watch no more.

        @param name: What has been watched.
        @return: The longest turn, the present one included, as C{nameTurn}, and the longest less the collector's time
            in it, as C{nameTurnNet}.
        """
        self._next.cancel()
        self._look()
        return {f"{name}Turn": self._longest, f"{name}TurnNet": self._longestNet}


def residentBytes() -> int:
    """
    Return how much memory the process has: now on Linux, at most so far elsewhere.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()
