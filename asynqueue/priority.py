"""
A heap of anything that can be ordered, from which one waits for the least.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from asynqueue.errors import QueueRunError

ItemT = TypeVar("ItemT")


class _Placed(Generic[ItemT]):
    """
    An item with its number, which decides between items of which neither is less.
    """

    __slots__ = ("item", "number")

    def __init__(self, item: ItemT, number: int) -> None:
        self.item = item
        self.number = number

    def __lt__(self, other: _Placed[ItemT]) -> bool:
        mine: Any = self.item
        theirs: Any = other.item
        if mine < theirs:
            return True
        return self.number < other.number and not theirs < mine


class Priority(Generic[ItemT]):
    """
    Gives the least of its items to whoever has waited longest; of equals, the one that came first.
    """

    def __init__(self) -> None:
        self._heap: list[_Placed[ItemT]] = []
        self._getters: deque[Deferred[ItemT]] = deque()
        self._number = 0
        self._isOpen = True

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, item: ItemT) -> None:
        """
        Add an item.

        @raise QueueRunError: It has been shut down.
        """
        if not self._isOpen:
            raise QueueRunError(f"{item!r} was not taken: the queue is shut down")
        self._number += 1
        heappush(self._heap, _Placed(item, self._number))
        if self._getters:
            self._getters.popleft().callback(heappop(self._heap).item)

    def get(self) -> Deferred[ItemT]:
        """
        @return: Fires with the least item, when there is one.
        """
        if self._heap:
            return succeed(heappop(self._heap).item)
        if not self._isOpen:
            return fail(QueueRunError("there will be no more items: the queue is shut down"))
        getter: Deferred[ItemT] = Deferred(self._getters.remove)
        self._getters.append(getter)
        return getter

    def cancel(self, selector: Callable[[ItemT], object]) -> list[ItemT]:
        """
        Remove the items for which C{selector} is true.

        @return: Those items, in the order in which they came.
        """
        removed = [placed for placed in self._heap if selector(placed.item)]
        if removed:
            gone = {id(placed) for placed in removed}
            self._heap = [placed for placed in self._heap if id(placed) not in gone]
            heapify(self._heap)
        return [placed.item for placed in sorted(removed, key=lambda placed: placed.number)]

    def shutdown(self) -> None:
        """
        Take no more items. Those who wait errback L{QueueRunError}.
        """
        self._isOpen = False
        while self._getters:
            self._getters.popleft().errback(QueueRunError("there will be no more items: the queue is shut down"))
