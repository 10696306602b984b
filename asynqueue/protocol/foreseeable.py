"""
Keys whose place in a dictionary or set can be foreseen by whoever has chosen them.

Python mixes a secret into the hashes of text and bytes, and into no others. Of whole numbers, of floating-point numbers
and of tuples of them anybody can find as many as they like that get in each other's way, so that making a dictionary of
them takes a time that grows with the square of their number. For most it needs neither large numbers nor equal hashes.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from operator import eq
from typing import Any

#: How many keys of one dictionary, or members of one set, may have the same hash. Some have by nature: -1 and -2, and
#: tuples of these.
ALIKE = 100


def foreseeable(keys: Collection[Any]) -> int:
    """
    Return how many of the keys of a dictionary, or members of a set, there are whose hashes can be foreseen.
    """
    kinds = [*map(type, keys)]
    return len(kinds) - kinds.count(str) - kinds.count(bytes)


def checkHashes(keys: Collection[Any]) -> None:
    """
    Look for keys of one dictionary, or members of one set, with the same hash. There must not be so many of them that a
    set of their hashes would take long.

    @raise ValueError: Too many have the same.
    @raise TypeError: There is one without a hash.
    """
    if len(set(map(hash, keys))) > len(keys) - ALIKE:
        return
    hashes = sorted(map(hash, keys))
    if any(map(eq, hashes, islice(hashes, ALIKE, None))):
        raise ValueError(f"more than {ALIKE} keys of a dictionary, or members of a set, have the same hash")
