"""
How deeply a value is nested, and of how many it consists, before it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asynqueue.protocol import plain


class Extent:
    """
    Counts values that are to be written, as L{plain} counts its own.
    """

    def __init__(self, isContainer: Callable[[Any], bool], scalars: frozenset[object]) -> None:
        """
        @param isContainer: Tells whether a value is a dictionary, or one of those that are written as lists. May raise
            something about a value, or the keys of a dictionary.
        @param scalars: Types whose instances it says nothing about.
        """
        self._isContainer = isContainer
        self._scalars = scalars
        self._left = plain.ITEMS

    def add(self, value: Any, depth: int) -> None:
        """
        Count one, with all that is in it.

        @param depth: How many levels there may be of it.
        @raise ValueError: They are too many, or nested too deeply.
        """
        if not self._isContainer(value):
            return
        if depth <= 0:
            raise ValueError(f"it is nested more than {plain.DEPTH} deep")
        self._left -= len(value)
        if self._left < 0:
            raise ValueError(f"it consists of more than {plain.ITEMS} values")
        values = value.values() if isinstance(value, dict) else value
        if not self._scalars.issuperset(map(type, values)):
            for each in values:
                self.add(each, depth - 1)
