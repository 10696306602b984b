"""
How many items of a map go with one call, and how many it may be ahead of its reader.

A batch is to be worth a little time, by the times that the items before it have taken. The window grows while it is
what the reader waits for, and while what is in it takes little memory.
"""

from __future__ import annotations

#: How much work, in seconds, a batch is to be worth.
TARGET = 0.0015

#: How many times as long a batch may take until the items that are left in it go with another call.
PATIENCE = 4

#: How many items may go with one call, however short they are.
CEILING = 1024

#: How many items a map may be ahead at first.
FIRST = 16

#: How many it may be ahead of a reader that is always there for more.
MOST = 16 * CEILING

#: How much memory, in bytes, items and results may take that are ahead, beyond the first few: as far as
#: C{sys.getsizeof} knows.
MEMORY = 8 << 20

#: Into how many batches for each worker the window is divided at least.
SHARES = 4


class Pace:
    """
    The size of batches and the window of one map.

    @ivar window: How many items may be on their way or wait for the reader.
    @ivar size: How many items are to go with one call, if the window is large enough.
    @ivar span: After how many seconds a batch is not to begin with another item.
    @ivar isFixed: Whether the window is as somebody has wanted it.
    """

    __slots__ = ("_bytes", "_target", "isFixed", "size", "span", "window")

    def __init__(self, window: int | None = None, limit: float | None = None) -> None:
        """
        @param window: How many items may be ahead, or C{None} for as many as turn out well.
        @param limit: Seconds that a call may take, whatever the reason, or C{None}. A batch takes much less.
        """
        self.isFixed = window is not None
        self.window = FIRST if window is None else window
        self.size = 1
        self._target = TARGET if limit is None else min(TARGET, limit / 16)
        self.span = PATIENCE * self._target
        self._bytes = 1.0

    def finished(self, count: int, elapsed: float) -> None:
        """
        Note that a batch of so many items has taken so many seconds.
        """
        fitting = int(self._target * count / elapsed) if elapsed > 0 else CEILING
        self.size = max(1, min(fitting, 4 * self.size, CEILING))

    def broke(self) -> None:
        """
        Note that a batch could not travel, or was lost, so that what follows is better begun with carefully.
        """
        self.size = 1

    def weighed(self, size: int) -> None:
        """
        Note how many bytes an item and its result take.
        """
        self._bytes += (size - self._bytes) / 8

    def batch(self, seats: int) -> int:
        """
        Return how many items are to go with the next call, for so many workers.
        """
        return max(1, min(self.size, self.window // (SHARES * seats)))

    def grow(self) -> bool:
        """
        Let the map be further ahead, since its reader had to wait for that.

        @return: Whether it may.
        """
        most = min(MOST, int(MEMORY / self._bytes))
        if self.isFixed or self.window >= most:
            return False
        self.window = min(2 * self.window, most)
        return True
