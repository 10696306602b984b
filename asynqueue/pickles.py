"""
Objects as pickles, with nothing at all for what is empty.

Loading a pickle runs what whoever wrote it wants: never load one from a source that is not trusted with that.
"""

from __future__ import annotations

import pickle as pickling
from typing import Any

#: The protocol of the pickles that are made here: that of all Pythons from 3.8 on.
PROTOCOL = 5


def o2p(obj: object) -> bytes:
    """
    Return the pickle of an object, and C{b""} for an empty list, tuple or dict.

    @raise Exception: It cannot be pickled; mostly C{pickle.PicklingError}, C{TypeError} or C{AttributeError}.
    """
    if type(obj) in (list, tuple, dict) and not obj:
        return b""
    return pickling.dumps(obj, PROTOCOL)


def p2o(pickle: bytes | bytearray | memoryview, default: Any = None) -> Any:
    """
    Return the object that a trusted pickle holds, and C{default} for C{b""}.

    @raise TypeError: It is no bytes.
    @raise Exception: It is no pickle, or not of this program; mostly C{pickle.UnpicklingError} or C{ImportError}.
    """
    if not isinstance(pickle, bytes | bytearray | memoryview):
        raise TypeError(f"a pickle is bytes, not {type(pickle).__name__}")
    if not len(pickle):
        return default
    return pickling.loads(pickle)
