"""
A child that does not outlive its parent.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import SIGKILL
else:
    # What `signal` has it from; that would make enumerations besides, which takes time.
    from _signal import SIGKILL

_SET_PARENT_DEATH_SIGNAL = 1


def dieWithParent(parent: int) -> None:
    """
    Have the system end this process when the thread of the parent that started it has ended, where it can.

    That also ends a child that is blocked in C. Elsewhere, end-of-file on the control pipe has to do.

    @param parent: The parent's process ID.
    """
    if sys.platform == "linux":
        import ctypes

        try:
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)
        except (OSError, AttributeError):
            # A C library without it.
            return
    if os.getppid() != parent:
        # It was gone before.
        os._exit(0)
