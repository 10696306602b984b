"""
What is an iterator, and what is a value like any other.
"""

from __future__ import annotations

from typing import Any

#: Types of results that are frequent and no iterators, so that most calls need no closer look.
PLAIN = frozenset([type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset])


def isIterator(obj: Any) -> bool:
    """
    Tell whether an object is one to iterate over, once, rather than a value.

    Generators, maps, zips, filters, open files and all others are whose class has C{__next__}; so are asynchronous
    generators and all others whose class has C{__anext__}. Containers, texts, ranges, Deferreds, functions (also those
    that make generators) and classes are not.
    """
    # Hot path, watched by `bench --only reactor`.
    kind = type(obj)
    return kind not in PLAIN and (hasattr(kind, "__next__") or hasattr(kind, "__anext__"))
