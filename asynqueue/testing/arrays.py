"""
Objects with buffers, for tests: what arrays are to a pickler, without a library of arrays.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pickle import PickleBuffer
from typing import Any

from asynqueue.testing.faults import makeLock


class Array:
    """
    Bytes that a pickle of protocol 5 may leave out.

    @ivar data: An object with a buffer.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """
        Give the buffer to picklers that can leave it out.
        """
        return Array, (PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]


def makeArray(size: int, fill: int = 120, isReadOnly: bool = False) -> Array:
    """
    Return an array of so many bytes.
    """
    data = bytes([fill & 255]) * size
    return Array(data if isReadOnly else bytearray(data))


def makeArrays(size: int, number: int) -> Iterator[Array]:
    """
    Give so many arrays, each with other bytes.
    """
    for index in range(number):
        yield makeArray(size, index)


def changed(array: Array) -> tuple[str, Array]:
    """
    Change an array, if it can be.

    @return: The name of its class, and the array.
    """
    name = type(array.data).__name__
    if not memoryview(array.data).readonly:
        array.data[0] ^= 255
    return name, array


def withLock(size: int) -> list[Any]:
    """
    Return an array, and what cannot be pickled.
    """
    return [makeArray(size), makeLock()]


def dieWith(array: Array) -> None:
    """
    End this process.
    """
    os.kill(os.getpid(), signal.SIGKILL)


#: What this process has been told to keep.
_kept: list[Array] = []


def keep(array: Array) -> None:
    """
    Keep an array.
    """
    _kept.append(array)


def kept() -> list[Array]:
    """
    Return what is kept.
    """
    return _kept


def noRoom() -> None:
    """
    Let there be no room for what this process writes to files at a given position.
    """

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def allocate(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    os.pwrite = pwrite
    os.posix_fallocate = allocate
