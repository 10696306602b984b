"""
A hash of nearly anything.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterable, Mapping, Set
from itertools import islice
from typing import Any

#: How deep within one another containers are looked into, and at how many items of each.
DEPTH = 50
ITEMS = 1_000_000

_SEQUENCES = (list, tuple, deque)


def hashIt(*args: object) -> int:
    """
    Return a whole number that is the same, in this process, for equal arguments.

    Lists, tuples, dicts, sets and objects that have no hash of their own count by what is in them, which may be
    themselves. What can be looked into in no way has a number of its own.
    """
    return _Hashing().of(args)


class _Hashing:
    """
    One calculation, in which each object is looked into once.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        # What is made on the way must stay, or another object may get its id.
        self._kept: list[object] = []
        self._depth = 0

    def of(self, value: object) -> int:
        """
        Return the hash of an object.
        """
        if isinstance(value, tuple):
            # Its own hash would be another than that of an equal tuple in which something has none.
            return self._within(value)
        try:
            return hash(value)
        except Exception:  # whatever a foreign __hash__ raises, what is in it is looked at
            return self._within(value)

    def _within(self, value: object) -> int:
        known = self._known.get(id(value))
        if known is not None:
            return known
        kind = type(value).__qualname__
        if self._depth >= DEPTH:
            return hash(("deep", kind))
        self._kept.append(value)
        self._known[id(value)] = hash(("within itself", kind))
        self._depth += 1
        try:
            result = hash(self._parts(value))
        except Exception:  # whatever a foreign container raises, there must be a number
            result = object.__hash__(value)
        finally:
            self._depth -= 1
        self._known[id(value)] = result
        return result

    def _parts(self, value: Any) -> object:
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        if isinstance(value, Mapping):
            pairs = islice(value.items(), ITEMS)
            return ("mapping", frozenset([(self.of(key), self.of(each)) for key, each in pairs]))
        if isinstance(value, Set):
            return frozenset(value)
        for kind in _SEQUENCES:
            if isinstance(value, kind):
                return (kind.__name__, tuple(self._each(value)))
        state = self._state(value)
        if state:
            return ("object", type(value).__qualname__, self.of(state))
        return pickle.dumps(value)

    def _each(self, values: Iterable[object]) -> list[int]:
        return [self.of(each) for each in islice(values, ITEMS)]

    def _state(self, value: Any) -> object:
        """
        Return the attributes of an object, as far as they are Python's.
        """
        try:
            return value.__getstate__()
        except Exception:  # whatever a foreign __getstate__ raises, the object is pickled then
            return None
