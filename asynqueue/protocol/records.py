"""
Records, as calls and their outcomes travel: over pipes as they are, and in AMP boxes cut to pieces.

A record is a header of 14 bytes and a body::

    kind    1 byte     what the record is about, below
    flags   1 byte     of a call, below
    number  8 bytes    which call or stream, little-endian
    length  4 bytes    of the body, little-endian

This module imports neither Twisted nor anything else that a child process does not need.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# From the caller

#: A call, whose body is what both ends have agreed upon. The number grows with each.
CALL = 1

# From the runner

#: It cannot take calls: what is told of an exception.
UNREADY = 33
#: The result of a call.
RESULT = 34
#: The call returned C{None}.
NOTHING = 35
#: The call has failed: what is told of an exception.
ERROR = 36
#: Calls have been given back: those after the number, up to the one of the body, a C{NUMBER}; and those whose numbers
#: follow it.
RECALLED = 37
#: The call has returned an iterator, whose items are a stream of that number.
STREAM = 38
#: Items of a stream.
ITEMS = 39
#: The end of a stream: an empty body, or that of C{ERROR}.
STREAM_END = 40
#: How long the call took whose outcome follows: a C{SECONDS}.
TOOK = 42
#: Calls have been begun with, and go on: those whose numbers the body consists of.
BEGUN = 43
#: The call has been cancelled, or has never been begun with for that reason.
CANCELLED = 44

# The flags of a call

#: An iterator is a result like any other.
RAW = 1
#: An update that has been run before: by another child, or over another connection.
AGAIN = 2

# What a call is interrupted for

#: Nobody waits for it any more.
UNWANTED = 0
#: It takes longer than its soft time limit.
SOFT_LIMIT = 1

#: How long, in bytes, what is told of an exception may be, whatever the limit is for calls and results.
ERROR_LIMIT = 4 << 20

HEADER = Struct("<BBQI")
NUMBER = Struct("<Q")
COUNT = Struct("<I")
SECONDS = Struct("<d")

_pack = HEADER.pack


def numbersAs(numbers: Iterable[int]) -> bytes:
    """
    Return numbers as they stand in a body.
    """
    return b"".join(map(NUMBER.pack, numbers))


def numbersIn(body: bytes) -> list[int]:
    """
    Return the numbers that a body consists of.

    @raise ValueError: It does not.
    """
    if len(body) % NUMBER.size:
        raise ValueError(f"{len(body)} bytes, where there should be numbers of {NUMBER.size} each")
    return [number for (number,) in NUMBER.iter_unpack(body)]


def record(kind: int, number: int, body: bytes = b"", flags: int = 0) -> bytes:
    """
    Return a record as it travels.
    """
    return _pack(kind, flags, number, len(body)) + body


#: From how many bytes on a body may be put together in place.
IN_PLACE = 1 << 20


class Splitter:
    """
    Makes records of the bytes that come, however they are cut.
    """

    __slots__ = ("_body", "_head", "_inPlace", "_limit", "_missing", "_parts", "_start")

    def __init__(self, limit: int, inPlace: bool = False) -> None:
        """
        @param limit: How long, in bytes, a body may be.
        @param inPlace: Whether a very long body, from L{IN_PLACE} bytes on, is put together as it comes, and given as a
            C{bytearray}: that takes half the memory.
        """
        self._limit = limit
        self._inPlace = inPlace
        self._body: bytearray | None = None
        # The beginning of a header; or the header of a record, what there is of its body, and how much of that is not.
        self._start = b""
        self._head: tuple[int, int, int] | None = None
        self._parts: list[bytes | memoryview] = []
        self._missing = 0

    @property
    def missing(self) -> int:
        """
        How many bytes of a record have not come of which some have, as far as is known.
        """
        if self._head is not None:
            return self._missing
        return HEADER.size - len(self._start) if self._start else 0

    def feed(self, data: bytes | memoryview) -> list[tuple[int, int, int, bytes]]:
        """
        Take some bytes.

        @return: The records that are complete with them: kind, flags, number and body.
        @raise ValueError: A record is longer than it may be.
        """
        # Hot path, watched by `bench --only processes`. A long body is put together once, when it is complete.
        records: list[tuple[int, int, int, bytes]] = []
        start = 0
        if self._head is not None:
            start = self._missing
            if len(data) < start:
                self._add(data)
                self._missing -= len(data)
                return records
            self._add(data[:start])
            kind, flags, number = self._head
            self._head = None
            body: Any = self._body
            if body is None:
                body = b"".join(self._parts)
                self._parts.clear()
            self._body = None
            records.append((kind, flags, number, body))
        elif self._start:
            data = self._start + data
            self._start = b""
        size = HEADER.size
        unpack = HEADER.unpack_from
        end = len(data)
        if type(data) is memoryview and not (end - start > size and unpack(data, start)[3] > end - start):
            # Of what is not the beginning of a long body, there may be many records to be made.
            data = bytes(data)
        while end - start >= size:
            kind, flags, number, length = unpack(data, start)
            if length > self._limit:
                raise ValueError(f"a record of kind {kind} with {length} bytes, where {self._limit} are the limit")
            after = start + size + length
            if after > end:
                self._head = (kind, flags, number)
                self._missing = length
                if self._inPlace and length >= IN_PLACE:
                    self._body = bytearray(length)
                self._add(data[start + size :])
                self._missing = after - end
                return records
            # Of a view, there is only a long one.
            records.append((kind, flags, number, data[start + size : after]))  # type: ignore[arg-type]
            start = after
        if start < end:
            self._start = bytes(data[start:])
        return records

    def _add(self, data: bytes | memoryview) -> None:
        body = self._body
        if body is None:
            self._parts.append(data)
        else:
            start = len(body) - self._missing
            body[start : start + len(data)] = data
