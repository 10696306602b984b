"""
Records, as they travel over the pipes between a queue's process and its children.

A record is a header of 14 bytes and a body::

    kind    1 byte     what the record is about, below
    flags   1 byte     of a call, below
    number  8 bytes    which call or stream, native order
    length  4 bytes    of the body

Both ends are the same interpreter on the same machine. This module is for both, and imports neither Twisted nor
anything else that a child does not need.
"""

from __future__ import annotations

from struct import Struct

# To the child, over the data pipe

#: A call: C{pickle((func, args, kw))}. The number grows with each.
CALL = 1
#: So many more items of a stream may come; the body is one C{COUNT}.
PULL = 2
#: Nobody wants more items of a stream.
CLOSE = 3
#: Come to an end, when all before this is done.
END = 4

# To the child, over the control pipe

#: Give back the calls up to the number that have not been started.
RECALL = 16
#: Raise the exception that is numbered by the flags in the call of the number, if that is running.
INTERRUPT = 17
#: Tell how you are; the reply has the same number.
PING = 18

#: Send the items of a stream that are there, while the iterator is at another one.
FLUSH = 19

# From the child

#: It is ready for calls.
READY = 32
#: It could not get ready; the body is a text.
UNREADY = 33
#: The result of a call: C{pickle(result)}.
RESULT = 34
#: The call returned C{None}.
NOTHING = 35
#: The call has failed: C{pickle} of what L{asynqueue.process.told} makes of an exception.
ERROR = 36
#: Calls have been given back: those after the number, up to the one of the body, a C{NUMBER}.
RECALLED = 37
#: The call has returned an iterator, whose items are a stream of that number.
STREAM = 38
#: Items of a stream: C{pickle(list)}.
ITEMS = 39
#: The end of a stream: an empty body, or that of C{ERROR}.
STREAM_END = 40
#: The reply to C{PING}: C{pickle} of a dictionary.
PONG = 41
#: How long the call took whose outcome follows: a C{SECONDS}.
TOOK = 42

# Flags of a call

#: An iterator is a result like any other.
RAW = 1
#: Something in it is of the parent's main module.
MAIN = 2

# What an interrupt is for

CANCELLED = 0
SOFT_LIMIT = 1

HEADER = Struct("=BBQI")
NUMBER = Struct("=Q")
COUNT = Struct("=I")
SECONDS = Struct("=d")

_pack = HEADER.pack


def record(kind: int, number: int, body: bytes = b"", flags: int = 0) -> bytes:
    """
    Return a record as it travels.
    """
    return _pack(kind, flags, number, len(body)) + body


class Splitter:
    """
    Makes records of the bytes that come over a pipe, however they are cut.
    """

    __slots__ = ("_limit", "_missing", "_parts")

    def __init__(self, limit: int) -> None:
        """
        @param limit: How long, in bytes, a body may be.
        """
        self._limit = limit
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> list[tuple[int, int, int, bytes]]:
        """
        Take some bytes.

        @return: The records that are complete with them: kind, flags, number and body.
        @raise ValueError: A record is longer than it may be.
        """
        # Hot path, watched by `bench --only processes`. A long record is put together once, when it is complete.
        records: list[tuple[int, int, int, bytes]] = []
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return records
            data = b"".join(self._parts)
            self._parts.clear()
        size = HEADER.size
        unpack = HEADER.unpack_from
        start = 0
        end = len(data)
        missing = size - end
        while end - start >= size:
            kind, flags, number, length = unpack(data, start)
            if length > self._limit:
                raise ValueError(f"a record of kind {kind} with {length} bytes, where {self._limit} are the limit")
            after = start + size + length
            if after > end:
                missing = after - end
                break
            records.append((kind, flags, number, data[start + size : after]))
            start = after
            missing = size - (end - start)
        if start < end:
            self._parts.append(data[start:] if start else data)
            self._missing = missing
        return records
