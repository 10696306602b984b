"""
Results of a map, put into the order in which its reader gets them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar


class InOrder:
    """
    In the order of the items.

    @ivar ready: Those that the reader can have.
    """

    isOrdered: ClassVar[bool] = True

    def __init__(self) -> None:
        self.ready: deque[Any] = deque()
        self._next = 0
        self._early: dict[int, Sequence[Any]] = {}

    def put(self, start: int, results: Sequence[Any]) -> None:
        """
        Take the results of items that follow one another, from a number on.
        """
        if start != self._next:
            self._early[start] = results
            return
        while results:
            self.ready.extend(results)
            self._next += len(results)
            results = self._early.pop(self._next, ())

    def hasAllBefore(self, number: int) -> bool:
        """
        Tell whether nothing is missing before an item.
        """
        return self._next >= number


class AsCompleted:
    """
    As they come.

    @ivar ready: Those that the reader can have.
    """

    isOrdered: ClassVar[bool] = False

    def __init__(self) -> None:
        self.ready: deque[Any] = deque()

    def put(self, start: int, results: Sequence[Any]) -> None:
        """
        Take results.
        """
        self.ready.extend(results)

    def hasAllBefore(self, number: int) -> bool:
        """
        Tell whether what is there is all there is to come before something that has come.
        """
        return True
