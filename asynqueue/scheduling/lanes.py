"""
Lanes: the calls of one series and one band in the order of their submission, and heaps of lanes by who is next.

A lane is a (series, band) pair. The band is a niceness for the normal class, or one of L{ALONE}, L{RERUN}, L{NEXT} and
L{LAST}, which are classes of their own before and after it. Within a heap, lanes are ordered by their I{rank}::

    (class, tag, niceness, ID of the first item, the lane)

In the normal class the tag is the start tag of start-time fair queueing, in which each group of workers has a virtual
time of its own; so a lane has a tag, and stands in a heap, for each group that can serve it. In the other classes the
tag is the ID of the lane's first item, which makes each class first in, first out over all its lanes.

Whatever leaves a lane by its head costs O(1). What leaves from the middle stays behind as a husk, an item whose C{lane}
is not this lane any more; husks are dropped when they come to the head, or all at once when they outnumber the rest.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from asynqueue.scheduling.niceness import COSTS, WEIGHTS

if TYPE_CHECKING:
    from asynqueue.scheduling.groups import Group, SeriesLanes

#: Bands that are no niceness. Their order is that of their classes.
ALONE = -103
RERUN = -102
NEXT = -101
LAST = 101

#: The class of the lanes that are ordered by niceness, in the first place of a rank.
NORMAL_CLASS = 0

_byID = attrgetter("ID")


class Queueable(Protocol):
    """
    What can stand in a lane.

    @ivar ID: Grows with each submission.
    @ivar lane: The lane in which the item stands, C{None} outside of one. Only the functions of this package set it.
    """

    ID: int
    lane: Lane | None
    series: Hashable


Rank = tuple[int, int, int, int, "Lane"]


class Lane:
    """
    The waiting items of one series in one band.

    @ivar live: The number of items; C{len(items)} counts the husks too.
    @ivar heaps: The heaps in which the lane stands: one for each group that can serve it, or that of the seat that its
        series is pinned to. C{None} once nobody is to serve it any more.
    @ivar served: What the lane has been charged since it woke, for a lane of the normal class.
    @ivar offsets: By group, what its tag there is beyond that.
    """

    __slots__ = ("band", "cost", "family", "heaps", "items", "live", "offsets", "served", "weight")

    def __init__(self, family: SeriesLanes, band: int) -> None:
        self.family = family
        self.band = band
        self.cost = COSTS.get(band, 0)
        self.weight = WEIGHTS.get(band, 0)
        self.items: deque[Queueable] = deque()
        self.live = 0
        self.served = 0
        self.offsets: dict[Group, int] = {}
        self.heaps: tuple[LaneHeap, ...] | None = ()

    def __iter__(self) -> Iterator[Queueable]:
        return (item for item in self.items if item.lane is self)

    def __lt__(self, other: Lane) -> bool:
        # Only an entry that is stale can rank with another one; which of them comes first makes no difference.
        return id(self) < id(other)

    def insert(self, item: Queueable) -> bool:
        """
        Put an item where its ID says, and tell whether it is the first now. It mostly is, or the last.
        """
        items = self.items
        if not items or items[-1].ID < item.ID:
            items.append(item)
        elif item.ID < items[0].ID:
            items.appendleft(item)
        else:
            insort(items, item, key=_byID)
        return items[0] is item

    def discard(self) -> None:
        """
        Account for an item that has left from the middle.
        """
        self.live -= 1
        if len(self.items) > 2 * self.live + 32:
            self.items = deque(self)

    def ranked(self, group: Group) -> Rank:
        """
        Make the rank that the lane has in a group with its present first item, which it must have.
        """
        items = self.items
        while items[0].lane is not self:
            items.popleft()
        if self.weight:
            return (NORMAL_CLASS, self.offsets[group] + self.served, self.band, items[0].ID, self)
        return (self.band, items[0].ID, 0, 0, self)


class LaneHeap:
    """
    The lanes that a group of seats, or one seat, can serve, ordered by rank.

    @ivar current: The rank of each lane; any other entry of the heap is stale.
    """

    __slots__ = ("current", "entries", "group")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.entries: list[Rank] = []
        self.current: dict[Lane, Rank] = {}

    def top(self) -> Rank | None:
        """
        Return the rank of the lane that is next, or C{None}.
        """
        entries = self.entries
        while entries:
            entry = entries[0]
            lane = entry[4]
            if self.current.get(lane) is not entry:
                heappop(entries)
            elif lane.items[0].lane is not lane:
                heappop(entries)
                self.rank(lane)
            else:
                return entry
        return None

    def add(self, lane: Lane) -> None:
        """
        Take in a lane that has items.
        """
        self.group.weight += lane.weight
        self.rank(lane)

    def rank(self, lane: Lane) -> None:
        """
        Give a lane the rank that it has now.
        """
        entry = self.current[lane] = lane.ranked(self.group)
        heappush(self.entries, entry)
        if len(self.entries) > 2 * len(self.current) + 16:
            self.entries = list(self.current.values())
            heapify(self.entries)

    def remove(self, lane: Lane) -> None:
        """
        Let a lane go.
        """
        self.group.weight -= lane.weight
        del self.current[lane]
