"""
How values are written as bytes between machines, by the name of the way. Which one is used is the server's choice.

  - C{plain}: L{asynqueue.protocol.plain}, the default.
  - C{json}: what JSON has, and nothing else; a tuple arrives as a list.
  - C{msgpack}: likewise with bytes and dates; needs the extra C{asynqueue[msgpack]}.
  - C{pickle}: everything that can be pickled. Reading it runs whatever its writer wants: only for peers with the role
    C{code}.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

from attrs import frozen

from asynqueue.protocol import plain


@frozen
class Serializer:
    """
    A way to write values as bytes.

    @ivar name: What it is called.
    @ivar dumps: Returns a value as bytes, or raises C{TypeError} or C{ValueError}; of C{pickle}, anything.
    @ivar loads: Returns the value again. For L{asynqueue.wire.peers.decode} alone.
    """

    name: str
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def _jsonDumps(value: Any) -> bytes:
    _checkJSON(value, plain.DEPTH)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _checkJSON(value: Any, depth: int) -> None:
    """
    Look for what JSON would make something else of.

    @raise TypeError: There is something.
    @raise ValueError: It is nested too deeply.
    """
    if depth < 0:
        raise ValueError(f"it is nested more than {plain.DEPTH} deep")
    kind = type(value)
    if kind is dict:
        for key, each in value.items():
            if type(key) is not str:
                raise TypeError(f"a key must be text in JSON, not {key!r:.100}")
            _checkJSON(each, depth - 1)
    elif kind in (list, tuple):
        for each in value:
            _checkJSON(each, depth - 1)
    elif value is not None and kind not in (str, int, float, bool):
        raise TypeError(f"an instance of {kind.__module__}.{kind.__qualname__} cannot be written as JSON")


def _pickleDumps(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def _msgpack() -> Serializer:
    try:
        import msgpack
    except ImportError:
        raise ImportError("serializer='msgpack' needs the package msgpack: install asynqueue[msgpack]") from None

    def dumps(value: Any) -> bytes:
        packed: bytes = msgpack.packb(value, use_bin_type=True, datetime=True, strict_types=False)
        return packed

    def loads(body: bytes) -> Any:
        return msgpack.unpackb(body, raw=False, strict_map_key=False, timestamp=3)

    return Serializer("msgpack", dumps, loads)


_KNOWN: dict[str, Callable[[], Serializer]] = {
    "plain": lambda: Serializer("plain", plain.dumps, plain.loads),
    "json": lambda: Serializer("json", _jsonDumps, json.loads),
    "msgpack": _msgpack,
    "pickle": lambda: Serializer("pickle", _pickleDumps, pickle.loads),
}


def serializerOf(name: str) -> Serializer:
    """
    Return a serializer by its name.

    @raise ValueError: There is none of that name.
    @raise ImportError: It needs a package that is not installed.
    """
    if name not in _KNOWN:
        raise ValueError(f"serializer must be one of {', '.join(_KNOWN)}, not {name!r}")
    return _KNOWN[name]()
