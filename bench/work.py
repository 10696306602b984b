"""
What calls in child processes do. Nothing is imported here that a child has not got anyway.
"""

from __future__ import annotations

import time
from _pickle import PickleBuffer
from time import perf_counter
from typing import Any

#: How long, in seconds, each of the calls is that are run one by one to fill all workers.
SPIN = 0.01

#: How long, in seconds, the one call is that is among tiny ones.
LONG = 1.0


def spin(seconds: float) -> float:
    """
    Keep a core busy for a while, by the clock on the wall, so that it takes as long whatever else the machine does.

    @return: How long it has taken, in seconds.
    """
    start = perf_counter()
    until = start + seconds
    while perf_counter() < until:
        pass
    return perf_counter() - start


def sleep(seconds: float) -> float:
    """
    Take some time, and no core.

    @return: How long it has taken, in seconds.
    """
    start = perf_counter()
    time.sleep(seconds)
    return perf_counter() - start


def length(data: bytes) -> int:
    """
    Return how long something is.
    """
    return len(data)


class Block:
    """
    An array of bytes, as far as a pickler is concerned.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """
        Give the bytes to picklers that can leave them out, and copy them for others, as arrays of numpy do.
        """
        return Block, (PickleBuffer(self.data) if protocol >= 5 else self.data,)


def same(block: Block) -> Block:
    """
    Return a block.
    """
    return block


def zeros(number: int) -> bytes:
    """
    Return a number of bytes.
    """
    return bytes(number)
