"""
The statuses of the worker contract: how an attempt at a call ended, as the letter that a worker reports.
"""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """
    How an attempt ended. The value is the letter of the worker contract, which a worker reports as bytes or text.
    """

    RESULT = "r"
    NOTHING = "n"
    ERROR = "e"
    ITERATION = "i"
    CHUNKS = "c"
    TIMEOUT = "t"
    NOT_STARTED = "d"
    LOST = "l"
    CANCELLED = "k"
    REFUSED = "x"

    def __str__(self) -> str:
        return self.value


#: Every accepted spelling of a status: its letter as text or bytes.
SPELLINGS: dict[object, Status] = {
    spelling: status for status in Status for spelling in (status.value, status.value.encode("ascii"))
}


class CallState(Enum):
    """
    Where a call stands that a queue has accepted.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SETTLING = "settling"
    SETTLED = "settled"

    def __str__(self) -> str:
        return self.value
