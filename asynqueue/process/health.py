"""
What the system tells of a child: whether it is stopped, how much processor time it has used, and its memory.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Vitals:
    """
    How a process is.

    @ivar isStopped: Whether it has been stopped by a signal, or is being traced.
    @ivar ticks: How much processor time it has used, in clock ticks.
    """

    isStopped: bool
    ticks: int


def vitalsOf(pid: int) -> Vitals | None:
    """
    Return how a process is, or C{None} where the system does not tell.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name, in parentheses, may hold anything.
            fields = stat.read().rpartition(b")")[2].split()
        return Vitals(fields[0] in (b"T", b"t"), int(fields[11]) + int(fields[12]))
    except (OSError, ValueError, IndexError):
        return None


def memoryOf(pid: int) -> int | None:
    """
    Return the resident memory of a process in kilobytes, or C{None} where the system does not tell.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return None
