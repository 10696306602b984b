"""
A semaphore whose waits come to an end.
"""

from __future__ import annotations

import threading
from typing import Any


class GateClosed(BaseException):
    """
    A thread waits again and again for what does not come any more.

    Like C{GeneratorExit}, it is no C{Exception}: it is to get through to the one who runs the loop.
    """


class Gate(threading.Semaphore):
    """
    A semaphore that starts at 0 and can be closed: what has been released by then is still acquired, and nothing else.

    Whoever waits in vain, or comes later, is told by C{False}.
    """

    def __init__(self, raises: bool = False) -> None:
        """
        @param raises: Whether only the first is told so, and L{GateClosed} is raised from then on. It ends loops that
            do not look at the answer.
        """
        super().__init__(0)
        self._raises = raises
        self._tally = threading.Lock()
        self._released = 0
        self._isClosed = False
        self._hasTold = False

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """
        Wait until the gate is released or closed, or the time is over.

        @return: Whether it has been released.
        @raise GateClosed: It is closed, and that has been told.
        """
        isThrough = super().acquire(blocking, timeout)
        with self._tally:
            if self._isClosed and isThrough:
                # What close() has put in stays in, for all.
                super().release()
            if isThrough and self._released:
                self._released -= 1
                return True
            if self._isClosed:
                if self._raises and self._hasTold:
                    raise GateClosed("the iteration is over, and loop() goes on: it must look at runState after a wait")
                self._hasTold = True
            return False

    __enter__ = acquire

    def release(self, n: int = 1) -> None:
        """
        Let somebody through. Without effect when the gate is closed.

        @param n: How many.
        """
        with self._tally:
            if not self._isClosed:
                super().release(n)
                self._released += n

    def close(self) -> None:
        """
        End all waits.
        """
        with self._tally:
            if not self._isClosed:
                self._isClosed = True
                super().release()

    def __exit__(self, *_: Any) -> None:
        self.release()
