"""
Look-ahead: how many tasks a worker may hold so that it never idles between two, and none waits long for a third.

The window is sized from the rate at which outcomes have come: as many as fit into a few milliseconds. It grows by
doubling, and shrinks at once. A call that takes longer than those milliseconds travels alone.
"""

from __future__ import annotations

#: How much work, in seconds, a worker may hold.
TARGET = 0.002

#: How many tasks a worker may hold, however short they are.
CEILING = 1024


class Window:
    """
    The number of tasks that a worker may hold.

    @ivar size: That number, at least 1.
    @ivar since: When the worker began with what it has, by any clock; C{None} while it has nothing. Whoever gives it
        something sets that.
    """

    __slots__ = ("_target", "since", "size")

    def __init__(self, target: float = TARGET) -> None:
        self.size = 1
        self.since: float | None = None
        self._target = target

    def reported(self, count: int, now: float, left: int) -> bool:
        """
        Note that a number of tasks have finished since the last time.

        @param now: By the clock of C{since}.
        @param left: How many the worker has now.
        @return: Whether the window has shrunk, and is full.
        """
        before = size = self.size
        if count and self.since is not None:
            size = self.finished(count, now - self.since)
        self.since = now if left else None
        return left >= size < before

    def finished(self, count: int, elapsed: float) -> int:
        """
        Note that a number of tasks have finished in a number of seconds in which the worker had something to do.

        @return: The size from now on.
        """
        fitting = int(self._target * count / elapsed) if elapsed > 0 else CEILING
        self.size = max(1, min(fitting, 2 * self.size, CEILING))
        return self.size

    def stalled(self) -> int:
        """
        Note that a task takes longer than was thought.

        @return: The size from now on.
        """
        self.size = 1
        return self.size
