"""
Calls as they arrive in a child: unpickled, with the parent's main module loaded first if they need it.

This module imports neither Twisted nor anything else that takes time to load.
"""

from __future__ import annotations

import sys

try:
    # What `pickle` has these from; it would import regular expressions besides.
    from _pickle import PickleBuffer, Unpickler, dumps, loads
except ImportError:
    from pickle import PickleBuffer, Unpickler, dumps, loads

from asynqueue.process.frames import APART

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Decoded = tuple[Callable[..., Any], Any, Any, int, int, dict[str, Any] | None]

__all__ = ["CallDecoder", "PickleBuffer", "dumps", "loads"]


class CallDecoder:
    """
    Unpickles what L{asynqueue.process.encoding.CallEncoder} has pickled.
    """

    __slots__ = ("_descriptor", "_isMainLoaded", "_main", "_places")

    def __init__(self, main: tuple[str, str], descriptor: int = -1) -> None:
        """
        @param main: The name and the path of the parent's main module.
        @param descriptor: That of the file in memory for the parts of calls.
        """
        self._main = main
        self._descriptor = descriptor
        self._isMainLoaded = False
        self._places: dict[bytes, tuple[str, str]] = {}

    def decode(self, body: bytes) -> Decoded:
        """
        Return a function, its arguments and keywords, the ID of the call, the number of the attempt, and the values of
        context variables. May raise anything, for unpickling runs anybody's code.
        """
        # Hot path, watched by `bench --only processes`.
        end = 2 + (body[0] | body[1] << 8)
        rest = memoryview(body)[end:]
        load = loads if self._isMainLoaded or b"__main__" not in body else self._loadWithMain
        if end == 2:
            if not rest[0]:
                return self._decodeParts(rest[1:])
            call: Decoded = load(rest)
            return call
        func = self._find(body[2:end])
        args, kw, ID, attempt, variables = load(rest)
        return func, args, kw, ID, attempt, variables

    def _decodeParts(self, body: memoryview) -> Decoded:
        from asynqueue.process.parts import Segment, arrived

        segment = Segment(self._descriptor)
        name, pickled, *buffers = arrived(body, segment)
        if len(body) >= APART:
            segment.grow(len(body))
        isPlain = self._isMainLoaded or b"__main__" not in pickled
        whole: Any = loads(pickled, buffers=buffers) if isPlain else self._loadWithMain(pickled, buffers)
        if not name:
            call: Decoded = whole
            return call
        args, kw, ID, attempt, variables = whole
        return self._find(bytes(name)), args, kw, ID, attempt, variables

    def _find(self, name: bytes) -> Any:
        """
        Return what a name in a module means now: it may be something else than it was, after a reload for one.
        """
        # Hot path, watched by `bench --only processes`.
        place = self._places.get(name)
        if place is None:
            module, _, attribute = name.decode("utf-8").partition(":")
            if module == "__main__":
                # As yet, that is what has started this process.
                self._loadMain()
            place = self._places[name] = (module, attribute)
        try:
            return sys.modules[place[0]].__dict__[place[1]]
        except KeyError:
            return self._import(*place)

    def _import(self, module: str, attribute: str) -> Any:
        __import__(module)
        return getattr(sys.modules[module], attribute)

    def decodeStart(self, body: bytes) -> tuple[Callable[..., Any], Any, Any]:
        """
        Return a function that is to be called before the first call, its arguments and keywords.
        """
        start: tuple[Callable[..., Any], Any, Any] = self._loadWithMain(body)
        return start

    def _loadWithMain(self, body: bytes | bytearray | memoryview, buffers: Sequence[Any] = ()) -> Any:
        """
        Unpickle something in which the parent's main module may be mentioned. It is loaded only if it really is needed.
        """
        from io import BytesIO

        return _MainUnpickler(BytesIO(body), self._loadMain, buffers).load()

    def _loadMain(self) -> None:
        """
        Load the parent's main module, by another name, as C{multiprocessing} does.

        @raise ImportError: It cannot be loaded.
        """
        if not self._isMainLoaded:
            from asynqueue.process.mainmodule import ensureMain

            ensureMain(*self._main)
            self._isMainLoaded = True


class _MainUnpickler(Unpickler):
    """
    Has the main module loaded when something of it is looked up.
    """

    def __init__(self, file: Any, loadMain: Callable[[], None], buffers: Sequence[Any]) -> None:
        super().__init__(file, buffers=buffers)
        self._loadMain = loadMain

    def find_class(self, module: str, name: str) -> Any:
        """
        Look something up.
        """
        if module == "__main__":
            self._loadMain()
        return super().find_class(module, name)
