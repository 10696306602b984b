"""
How values are written as bytes between machines, by the name of the way. Which one is used is the server's choice.

  - C{plain}: L{asynqueue.protocol.plain}, the default.
  - C{json}: what JSON has, and nothing else; a tuple arrives as a list.
  - C{msgpack}: likewise with bytes and dates; needs the extra C{asynqueue[msgpack]}.
  - C{pickle}: everything that can be pickled. Reading it runs whatever its writer wants: only for peers with the role
    C{code}.

Of all but the last, a value may be as deeply nested, and consist of as many, as of plain ones.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from attrs import frozen

from asynqueue.protocol import jsonvalues, plain


@frozen
class Serializer:
    """
    A way to write values as bytes.

    @ivar name: What it is called.
    @ivar dumps: Returns a value as bytes, or raises C{TypeError} or C{ValueError}; of C{pickle}, anything.
    @ivar loads: Returns the value again. For L{asynqueue.wire.peers.decode} alone.
    @ivar takesViews: Whether that may be given a C{memoryview}.
    """

    name: str
    dumps: Callable[[Any], bytes]
    loads: Callable[[Any], Any]
    takesViews: bool = False


def _pickleDumps(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def _msgpack() -> Serializer:
    try:
        from asynqueue.protocol import msgpackvalues
    except ImportError:
        raise ImportError("serializer='msgpack' needs the package msgpack: install asynqueue[msgpack]") from None
    return Serializer("msgpack", msgpackvalues.dumps, msgpackvalues.loads)


_KNOWN: dict[str, Callable[[], Serializer]] = {
    "plain": lambda: Serializer("plain", plain.dumps, plain.loads, takesViews=True),
    "json": lambda: Serializer("json", jsonvalues.dumps, jsonvalues.loads),
    "msgpack": _msgpack,
    "pickle": lambda: Serializer("pickle", _pickleDumps, pickle.loads, takesViews=True),
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
