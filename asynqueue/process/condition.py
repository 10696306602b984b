"""
How a child is, while it computes.
"""

from __future__ import annotations

import sys
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def condition(thread: int) -> dict[str, Any]:
    """
    Return what there is to tell of this process.

    @param thread: The identity of the main thread.
    @return: C{stack}, the stack of the main thread as text, without the frames of this library; C{memory}, the
        resident memory in kilobytes, or C{None} where it cannot be told.
    """
    frame = sys._current_frames().get(thread)
    stack = "" if frame is None else "".join(traceback.format_stack(frame, limit=100))
    return {"stack": stack, "memory": residentMemory()}


def residentMemory() -> int | None:
    """
    Return the resident memory of this process in kilobytes, or C{None} where it cannot be told.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        return None
    return None
