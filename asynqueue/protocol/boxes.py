"""
Boxes of AMP as bytes: read within bounds, and written, without the detour over strings that AMP itself takes.

A box is pairs of a key and a value, each with its length before it in two bytes, big-endian, and an empty key at the
end. A key has 255 bytes at most, a value 65,535.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: What ends a box.
END = b"\0\0"

#: How long a key may be.
KEY = 255

#: From how many bytes on a value is large.
LARGE = 1 << 14


class BoxReader:
    """
    Makes boxes of the bytes that come, however they are cut.

    @ivar mostPairs: How many pairs a box may have.
    @ivar mostBytes: How long, in bytes, its keys and values may be together.
    """

    __slots__ = ("_box", "_bytes", "_data", "_key", "mostBytes", "mostPairs")

    def __init__(self, mostPairs: int, mostBytes: int) -> None:
        self.mostPairs = mostPairs
        self.mostBytes = mostBytes
        self._data = b""
        self._box: dict[bytes, Any] = {}
        self._key: bytes | None = None
        self._bytes = 0

    @property
    def isWithin(self) -> bool:
        """
        Whether a box has begun to come, and has not come as a whole.
        """
        return bool(self._data or self._box or self._key is not None)

    @property
    def held(self) -> int:
        """
        How many bytes are kept of what has not come as a whole.
        """
        return len(self._data) + len(self._key or b"") + sum(len(key) + len(value) for key, value in self._box.items())

    def feed(self, data: bytes) -> list[dict[bytes, Any]]:
        """
        Take some bytes.

        @return: The boxes that are complete with them. What is large in C{records} is not copied, but a C{memoryview}.
        @raise ValueError: A box is larger than it may be, has a key twice or too long, or has nothing in it.
        """
        # Hot path, watched by `bench --only wire`.
        if self._data:
            data = self._data + data
        boxes: list[dict[bytes, Any]] = []
        box = self._box
        key = self._key
        place = 0
        end = len(data)
        while place + 2 <= end:
            length = data[place] << 8 | data[place + 1]
            after = place + 2 + length
            if key is None and length > KEY:
                raise ValueError(f"a key of {length} bytes, where {KEY} are the most")
            if self._bytes + length > self.mostBytes:
                raise ValueError(f"more than {self.mostBytes} bytes")
            if after > end:
                break
            if key is not None:
                if length >= LARGE and key[:7] == b"records":
                    box[key] = memoryview(data)[place + 2 : after]
                else:
                    box[key] = data[place + 2 : after]
                key = None
            elif length:
                key = data[place + 2 : after]
                if key in box:
                    raise ValueError("a key that it has already")
                if len(box) >= self.mostPairs:
                    raise ValueError(f"more than {self.mostPairs} pairs")
            else:
                if not box:
                    raise ValueError("nothing in it")
                boxes.append(box)
                box = {}
                self._bytes = -length
            self._bytes += length
            place = after
        self._box = box
        self._key = key
        self._data = data[place:]
        return boxes


def written(pairs: Iterable[tuple[bytes, bytes | memoryview]]) -> bytes:
    """
    Return a box as bytes.

    @param pairs: Keys and values, which are not too long.
    """
    # Hot path, watched by `bench --only wire`.
    parts: list[bytes | memoryview] = []
    for key, value in pairs:
        parts += (len(key).to_bytes(2, "big"), key, len(value).to_bytes(2, "big"), value)
    parts.append(END)
    return b"".join(parts)
