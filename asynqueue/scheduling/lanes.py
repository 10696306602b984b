"""
Lanes: the calls of one series and one band in the order of their submission, and heaps of lanes by who is next.

A lane is a (series, band) pair. The band is a niceness for the normal class, or one of L{ALONE}, L{RERUN}, L{NEXT} and
L{LAST}, which are classes of their own before and after it. Within a heap, lanes are ordered by their I{rank}::

    (class, tag, niceness, ID of the first item, the lane)

In the normal class the tag is the start tag of start-time fair queueing; in the others it is the ID of the lane's first
item, which makes each class first in, first out over all its lanes.

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
    from asynqueue.scheduling.backlog import Group, SeriesLanes

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
    @ivar tag: The start tag, for a lane of the normal class.
    @ivar rank: The lane's entry in its heap; any other entry that names the lane is stale.
    """

    __slots__ = ("band", "cost", "family", "heap", "items", "live", "rank", "tag", "weight")

    def __init__(self, family: SeriesLanes, band: int) -> None:
        self.family = family
        self.band = band
        self.cost = COSTS.get(band, 0)
        self.weight = WEIGHTS.get(band, 0)
        self.items: deque[Queueable] = deque()
        self.live = 0
        self.tag = 0
        self.heap: LaneHeap | None = None
        self.rank: Rank | None = None

    def __iter__(self) -> Iterator[Queueable]:
        return (item for item in self.items if item.lane is self)

    def insert(self, item: Queueable) -> bool:
        """
        Put an item where its ID says, and tell whether it is the first now. It mostly is, or the last.
        """
        items = self.items
        if not items or items[-1].ID < item.ID:
            items.append(item)
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

    def ranked(self) -> Rank:
        """
        Make the rank that the lane has with its present first item, which it must have.
        """
        items = self.items
        while items[0].lane is not self:
            items.popleft()
        if self.weight:
            self.rank = (NORMAL_CLASS, self.tag, self.band, items[0].ID, self)
        else:
            self.rank = (self.band, items[0].ID, 0, 0, self)
        return self.rank


class LaneHeap:
    """
    The lanes that the same groups of workers can serve, ordered by rank.

    @ivar groups: Those groups; none of them for lanes that nobody can serve.
    """

    __slots__ = ("entries", "groups", "stale")

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = groups
        self.entries: list[Rank] = []
        self.stale = 0

    def top(self) -> Rank | None:
        """
        Return the rank of the lane that is next, or C{None}.
        """
        entries = self.entries
        while entries:
            entry = entries[0]
            lane = entry[4]
            if lane.rank is not entry:
                heappop(entries)
                self.stale -= 1
            elif lane.items[0].lane is not lane:
                heappop(entries)
                heappush(entries, lane.ranked())
            else:
                return entry
        return None

    def add(self, lane: Lane) -> None:
        """
        Take in a lane that has items.
        """
        lane.heap = self
        heappush(self.entries, lane.ranked())
        for group in self.groups:
            group.weight += lane.weight

    def rerank(self, lane: Lane) -> None:
        """
        Note that the first item of a lane has changed.
        """
        self._outdate(lane)
        heappush(self.entries, lane.ranked())

    def remove(self, lane: Lane) -> None:
        """
        Let a lane go.
        """
        for group in self.groups:
            group.weight -= lane.weight
        lane.heap = None
        self._outdate(lane)

    def _outdate(self, lane: Lane) -> None:
        lane.rank = None
        self.stale += 1
        if self.stale > len(self.entries) // 2 + 16:
            self.entries = [entry for entry in self.entries if entry[4].rank is entry]
            heapify(self.entries)
            self.stale = 0
