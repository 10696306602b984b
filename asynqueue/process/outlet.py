"""
What a child tells its parent: records, from either of its threads, one after the other.
"""

from __future__ import annotations

import os
from threading import Lock

from asynqueue.process.decoding import PickleBuffer, dumps
from asynqueue.process.frames import APART, ITEMS_PARTS, RESULT, RESULT_PARTS, record
from asynqueue.protocol.records import ERROR_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from asynqueue.process.parts import Segment

#: Of these, pickles leave out nothing.
PLAIN = frozenset([int, str, float, bool, type(None)])

#: These are buffers themselves.
BYTES = frozenset([bytes, bytearray])


class Outlet:
    """
    Writes records to the parent, and waits for room if there is none.
    """

    __slots__ = ("_descriptor", "_limit", "_lock", "_long", "_page", "_segment", "_sent", "_shared")

    def __init__(self, descriptor: int, limit: int, shared: int, page: Any) -> None:
        """
        @param limit: How long, in bytes, a pickle may be.
        @param shared: The descriptor of the file in memory for parts.
        @param page: The shared page, on which the parent counts the records with parts that it has taken.
        """
        self._descriptor = descriptor
        self._limit = limit
        self._long = min(limit + 1, APART)
        self._lock = Lock()
        self._shared = shared
        self._page = page
        self._segment: Segment | None = None
        self._sent = 0

    def write(self, kind: int, number: int, body: bytes = b"") -> None:
        """
        Write a record. If the parent is gone, end this process.
        """
        # Hot path, watched by `bench --only processes`.
        data: bytes | memoryview = record(kind, number, body)
        with self._lock:
            while True:
                try:
                    written = os.write(self._descriptor, data)
                except OSError:
                    os._exit(0)
                if written == len(data):
                    return
                data = memoryview(data)[written:]

    def deliver(self, kind: int, number: int, value: Any) -> None:
        """
        Pickle a result, or items, and write a record of it.

        @raise ValueError: It is too long. Anything else may be raised as well, for pickling runs anybody's code.
        """
        # Hot path, watched by `bench --only processes`.
        buffers: list[PickleBuffer] | None = None
        if type(value) in PLAIN:
            body = dumps(value, 5)
        else:
            if type(value) in BYTES and len(value) >= APART:
                # It need not be copied into the pickle.
                value = PickleBuffer(value)
            buffers = []
            body = dumps(value, 5, buffer_callback=buffers.append)
        if buffers or len(body) >= self._long:
            kind, body = self._inParts(kind, body, buffers or ())
        self.write(kind, number, body)

    def _inParts(self, kind: int, pickled: bytes, buffers: Sequence[PickleBuffer]) -> tuple[int, bytes]:
        from asynqueue.process.parts import Parts, Segment

        parts = Parts((pickled,), buffers)
        size = len(parts) if buffers else len(pickled)
        if size > self._limit:
            raise ValueError(f"it takes {size} bytes, and {self._limit} are the limit")
        if len(parts) > self._limit:
            return kind, pickled
        with self._lock:
            if self._segment is None:
                self._segment = Segment(self._shared)
            body = b"".join(parts.laid(self._segment, self._page[3] == self._sent))
            self._sent += 1
        return RESULT_PARTS if kind == RESULT else ITEMS_PARTS, body

    def writeError(self, kind: int, number: int, error: BaseException, where: str = "") -> None:
        """
        Write a record about an exception.

        @param where: What could not be unpickled or pickled for it: C{"arguments"}, C{"result"} or C{"item"}; or
            nothing, if the application has raised it.
        """
        self.write(kind, number, packedError(error, where))


def packedError(error: BaseException, where: str) -> bytes:
    """
    Return what is told of an exception, not longer than L{asynqueue.protocol.records.ERROR_LIMIT}.
    """
    from asynqueue.told import told

    body = dumps((where, told(error)), 5)
    if len(body) > ERROR_LIMIT:
        # The texts are bounded.
        body = dumps((where, told(error, lambda _: b"")), 5)
    return body
