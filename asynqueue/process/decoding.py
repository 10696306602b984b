"""
Calls as they arrive in a child: unpickled, with the parent's main module loaded first if they need it.

This module imports neither Twisted nor anything else that takes time to load.
"""

from __future__ import annotations

try:
    # What `pickle` has these from; it would import regular expressions besides.
    from _pickle import PickleBuffer, dumps, loads
except ImportError:
    from pickle import PickleBuffer, dumps, loads

from asynqueue.process.frames import APART

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["CallDecoder", "PickleBuffer", "dumps", "loads"]

#: So many functions are kept.
FUNCTIONS = 1000


class CallDecoder:
    """
    Unpickles what L{asynqueue.process.encoding.CallEncoder} has pickled.
    """

    __slots__ = ("_descriptor", "_isMainLoaded", "_known", "_main")

    def __init__(self, main: tuple[str, str], descriptor: int = -1) -> None:
        """
        @param main: The name and the path of the parent's main module.
        @param descriptor: That of the file in memory for the parts of calls.
        """
        self._main = main
        self._descriptor = descriptor
        self._isMainLoaded = False
        self._known: dict[bytes, Any] = {}

    def decode(self, body: bytes) -> tuple[Callable[..., Any], Any, Any, int, int, dict[str, Any] | None]:
        """
        Return a function, its arguments and keywords, the ID of the call, the number of the attempt, and the values of
        context variables. May raise anything, for unpickling runs anybody's code.
        """
        # Hot path, watched by `bench --only processes`.
        if not self._isMainLoaded and b"__main__" in body:
            self._loadMain()
        end = 2 + (body[0] | body[1] << 8)
        rest = memoryview(body)[end:]
        if end == 2:
            if not rest[0]:
                return self._decodeParts(rest[1:])
            call: tuple[Callable[..., Any], Any, Any, int, int, dict[str, Any] | None] = loads(rest)
            return call
        name = body[2:end]
        func = self._known.get(name)
        if func is None or func.__globals__.get(func.__qualname__) is not func:
            # It may have been replaced, by a reload of its module for one.
            func = loads(name)
            if hasattr(func, "__globals__"):
                if len(self._known) >= FUNCTIONS:
                    self._known.clear()
                self._known[name] = func
        args, kw, ID, attempt, variables = loads(rest)
        return func, args, kw, ID, attempt, variables

    def _decodeParts(self, body: memoryview) -> tuple[Callable[..., Any], Any, Any, int, int, dict[str, Any] | None]:
        from asynqueue.process.parts import Segment, arrived

        segment = Segment(self._descriptor)
        name, pickled, *buffers = arrived(body, segment)
        if len(body) >= APART:
            segment.grow(len(body))
        if name:
            if not self._isMainLoaded and (b"__main__" in name or b"__main__" in pickled):
                self._loadMain()
            func = loads(name)
            args, kw, ID, attempt, variables = loads(pickled, buffers=buffers)
            return func, args, kw, ID, attempt, variables
        if not self._isMainLoaded and b"__main__" in pickled:
            self._loadMain()
        call: tuple[Callable[..., Any], Any, Any, int, int, dict[str, Any] | None] = loads(pickled, buffers=buffers)
        return call

    def decodeStart(self, body: bytes) -> tuple[Callable[..., Any], Any, Any]:
        """
        Return a function that is to be called before the first call, its arguments and keywords.
        """
        if not self._isMainLoaded and b"__main__" in body:
            self._loadMain()
        start: tuple[Callable[..., Any], Any, Any] = loads(body)
        return start

    def _loadMain(self) -> None:
        """
        Load the parent's main module, by another name, as C{multiprocessing} does.

        @raise ImportError: It cannot be loaded.
        """
        from asynqueue.process.mainmodule import ensureMain

        ensureMain(*self._main)
        self._isMainLoaded = True
