"""
What a child tells its parent: records, from either of its threads, one after the other.
"""

from __future__ import annotations

import os
from threading import Lock

from asynqueue.process.decoding import dumps
from asynqueue.process.frames import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Outlet:
    """
    Writes records to the parent, and waits for room if there is none.
    """

    __slots__ = ("_descriptor", "_limit", "_lock")

    def __init__(self, descriptor: int, limit: int) -> None:
        """
        @param limit: How long, in bytes, a pickle may be.
        """
        self._descriptor = descriptor
        self._limit = limit
        self._lock = Lock()

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

    def pickled(self, value: Any) -> bytes:
        """
        Return the pickle of a result, or of items.

        @raise ValueError: It is too long. Anything else may be raised as well, for pickling runs anybody's code.
        """
        body = dumps(value, 5)
        if len(body) > self._limit:
            raise ValueError(f"it takes {len(body)} bytes, and {self._limit} are the limit")
        return body

    def writeError(self, kind: int, number: int, error: BaseException, where: str = "") -> None:
        """
        Write a record about an exception.

        @param where: What could not be unpickled or pickled for it: C{"arguments"}, C{"result"} or C{"item"}; or
            nothing, if the application has raised it.
        """
        from asynqueue.told import told

        self.write(kind, number, dumps((where, told(error)), 5))
