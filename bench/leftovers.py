"""
What a measuring process may leave behind: child processes that outlive it. They are ended.
"""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

#: The environment variable by which a process is known that was started for a measurement.
VARIABLE = "ASYNQUEUE_BENCH"

#: How often to look again, as a process that is being ended may just have started another one.
LOOKS = 3


def newMark() -> str:
    """
    Return a value of the variable that no other process has.
    """
    return uuid.uuid4().hex


def endLeftovers(mark: str) -> int:
    """
    End all processes that have a mark, whoever has started them and whatever session they are in. Those are known that
    still have the environment with which they were started, and only where C{/proc} has it.

    @return: How many there were.
    """
    number = 0
    for _ in range(LOOKS):
        found = _marked(f"{VARIABLE}={mark}".encode())
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            number += 1
        if not found:
            break
    return number


def _marked(entry: bytes) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            entries = path.read_bytes().split(b"\0")
        except OSError:
            # It is gone, or somebody else's.
            continue
        if entry in entries:
            found.append(int(path.parent.name))
    return found
