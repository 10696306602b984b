"""
The backlog: which waiting item goes to which seat, by class, fairness, order of submission and qualification.

A I{seat} is a worker's place at the queue. Seats with the same qualifications form a I{group}. The lanes that the same
groups can serve stand in one heap, so that each lane stands in exactly one, and the best item for a group is the best
of the few heaps that it can see. A match is made only when a seat with room and an item for it are both there.

Fairness is start-time fair queueing: the lane with the least start tag is next, and each dispatch advances its tag by
the cost of its niceness. Each group has a virtual time, which advances with each dispatch by the unit over the weight
at work, and never lags behind the tag that was served. A lane that wakes, or that becomes servable, starts at the
greater of its own tag and the virtual time of those that serve it. The tag of a lane that has run empty is kept until
virtual time has passed it, or nothing waits at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import chain

from asynqueue.scheduling.lanes import ALONE, RERUN, Lane, LaneHeap, Queueable, Rank
from asynqueue.scheduling.niceness import UNIT


class Group:
    """
    The seats that have the same qualifications.

    @ivar heaps: The heaps of the lanes that these seats can serve.
    @ivar idle: Seats with room that hold nothing, longest idle first.
    @ivar roomy: Seats with room that hold something.
    @ivar pinning: Seats that have lanes pinned to them.
    @ivar weight: The sum of the weights of the lanes that these seats can serve.
    """

    __slots__ = ("heaps", "idle", "members", "pinning", "qualifications", "roomy", "virtualTime", "weight")

    def __init__(self, qualifications: frozenset[Hashable], virtualTime: int) -> None:
        self.qualifications = qualifications
        self.virtualTime = virtualTime
        self.heaps: list[LaneHeap] = []
        self.idle: deque[Seat] = deque()
        self.roomy: deque[Seat] = deque()
        self.members = 0
        self.pinning: list[Seat] = []
        self.weight = 0


class Seat:
    """
    A place at which items can be served.

    @ivar held: How many items the seat holds; its owner counts them.
    @ivar offered: The deque of its group in which the seat stands, with room, or C{None}.
    @ivar pinned: The heap of the lanes that only this seat may serve.
    """

    __slots__ = ("group", "held", "idleSince", "offered", "pinned")

    def __init__(self) -> None:
        self.group: Group | None = None
        self.held = 0
        self.idleSince = 0
        self.offered: deque[Seat] | None = None
        self.pinned: LaneHeap | None = None


def _isFitter(seat: Seat, other: Seat) -> bool:
    """
    Tell whether a seat is to be preferred: one that is idle, and of those the one that has been so longest.
    """
    return (bool(seat.held), seat.idleSince) < (bool(other.held), other.idleSince)


class SeriesLanes:
    """
    The lanes of one series, and the seat that they are pinned to.
    """

    __slots__ = ("lanes", "pin", "pinCount", "series")

    def __init__(self, series: Hashable) -> None:
        self.series = series
        self.lanes: dict[int, Lane] = {}
        self.pin: Seat | None = None
        self.pinCount = 0


class Backlog:
    """
    All waiting items, and the seats that wait for them.

    @ivar waiting: The number of waiting items.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._families: dict[Hashable, SeriesLanes] = {}
        self._tags: dict[tuple[Hashable, int], int] = {}
        self._sweepAt = 64
        self._groups: list[Group] = []
        self._heaps: dict[tuple[Group, ...], LaneHeap] = {}
        self._turn = 0

    # Items

    def push(self, item: Queueable, band: int) -> None:
        """
        Let an item wait, behind all others of its series and band; those of re-runs are kept in the order of their IDs.
        """
        # Hot path, watched by `bench --only reactor`.
        family = self._families.get(item.series)
        if family is None:
            family = self._families[item.series] = SeriesLanes(item.series)
        lane = family.lanes.get(band)
        if lane is None:
            self._wake(item, family, band)
        else:
            item.lane = lane
            lane.live += 1
            if band > RERUN:
                lane.items.append(item)
            elif lane.insert(item) and lane.heap is not None:
                lane.heap.rerank(lane)
        self.waiting += 1

    def _wake(self, item: Queueable, family: SeriesLanes, band: int) -> None:
        lane = family.lanes[band] = Lane(family, band)
        item.lane = lane
        lane.items.append(item)
        lane.live = 1
        lane.tag = self._tags.pop((family.series, band), 0) if self._tags else 0
        heap = self._homeOf(lane)
        for group in heap.groups:
            if lane.tag < group.virtualTime:
                lane.tag = group.virtualTime
        heap.add(lane)

    def _homeOf(self, lane: Lane) -> LaneHeap:
        """
        Return the heap of those that can serve a lane.
        """
        pin = lane.family.pin
        return self._heapFor(lane.family.series) if pin is None else self._pinnedHeap(pin)

    def discard(self, item: Queueable) -> None:
        """
        Take a waiting item out, from wherever it stands.
        """
        lane = item.lane
        item.lane = None
        if lane is None or lane.heap is None:
            return
        self.waiting -= 1
        lane.discard()
        if not lane.live:
            lane.heap.remove(lane)
            self._retire(lane)

    def remove(self, lanes: Iterable[Lane]) -> int:
        """
        Take whole lanes out, at once. Their items still name them as their lane, but do not wait any more.

        @return: The number of items in them.
        """
        count = 0
        for lane in lanes:
            if lane.heap is not None:
                lane.heap.remove(lane)
            count += lane.live
            self.waiting -= lane.live
            self._retire(lane)
        return count

    def _retire(self, lane: Lane) -> None:
        """
        Forget a lane that nothing waits in, but for its tag, which says what it has been served.
        """
        family = lane.family
        del family.lanes[lane.band]
        if not (family.lanes or family.pinCount):
            del self._families[family.series]
        if not self.waiting:
            self._tags.clear()
        elif lane.weight:
            self._tags[family.series, lane.band] = lane.tag
            if len(self._tags) > self._sweepAt:
                self._sweep()

    def _sweep(self) -> None:
        """
        Forget the tags that virtual time has passed.
        """
        now = min((group.virtualTime for group in self._groups), default=0)
        self._tags = {key: tag for key, tag in self._tags.items() if tag > now}
        self._sweepAt = 2 * len(self._tags) + 64

    # Seats

    def seat(self, seat: Seat, qualifications: frozenset[Hashable]) -> None:
        """
        Seat a newcomer, or seat one elsewhere whose qualifications have changed. It must be offered anew.
        """
        left = self._leave(seat)
        group = next((group for group in self._groups if group.qualifications == qualifications), None)
        fresh = group is None
        if group is None:
            group = Group(qualifications, max((each.virtualTime for each in self._groups), default=0))
            self._groups.append(group)
        group.members += 1
        seat.group = group
        if seat.pinned is not None:
            group.pinning.append(seat)
            # The weights of its lanes belong to the new group.
            fresh = True
        if left is not None and not left.members:
            self._groups.remove(left)
            fresh = True
        if fresh:
            self._regroup()

    def unseat(self, seat: Seat) -> None:
        """
        Let a seat go. Lanes that were pinned to it are served by others again.
        """
        group = self._leave(seat)
        if group is None:
            return
        if not group.members:
            self._groups.remove(group)
        pins = [family for family in self._families.values() if family.pin is seat]
        for family in pins:
            family.pin = None
            family.pinCount = 0
        if pins or not group.members:
            self._regroup()
        for family in pins:
            if not family.lanes:
                del self._families[family.series]

    def _leave(self, seat: Seat) -> Group | None:
        self.withdraw(seat)
        group, seat.group = seat.group, None
        if group is not None:
            group.members -= 1
            if seat in group.pinning:
                group.pinning.remove(seat)
        return group

    def _regroup(self) -> None:
        """
        Place all lanes anew, since the set of qualifications has changed.
        """
        served = {lane for lane in self.lanes() if lane.heap is not None and lane.heap.groups}
        self._heaps = {}
        for group in self._groups:
            group.heaps = []
            group.weight = 0
            for seat in group.pinning:
                seat.pinned = LaneHeap((group,))
        for lane in self.lanes():
            heap = self._homeOf(lane)
            if lane not in served:
                lane.tag = max(lane.tag, *(group.virtualTime for group in heap.groups), 0)
            lane.heap = heap
            heap.entries.append(lane.ranked())
            for group in heap.groups:
                group.weight += lane.weight
        for group in self._groups:
            for heap in group.heaps:
                heapify(heap.entries)
            for seat in group.pinning:
                if seat.pinned is not None:
                    heapify(seat.pinned.entries)
        if () in self._heaps:
            heapify(self._heaps[()].entries)

    def _heapFor(self, series: Hashable) -> LaneHeap:
        if series is None:
            groups = tuple(self._groups)
        else:
            groups = tuple([group for group in self._groups if series in group.qualifications])
        heap = self._heaps.get(groups)
        if heap is None:
            heap = self._heaps[groups] = LaneHeap(groups)
            for group in groups:
                group.heaps.append(heap)
        return heap

    def _pinnedHeap(self, seat: Seat) -> LaneHeap:
        if seat.pinned is None:
            assert seat.group is not None
            seat.pinned = LaneHeap((seat.group,))
            seat.group.pinning.append(seat)
        return seat.pinned

    def offer(self, seat: Seat) -> None:
        """
        Note that a seat has room. Nothing happens to one that has been offered, unless it has become idle.
        """
        group = seat.group
        if group is None:
            return
        place = group.roomy if seat.held else group.idle
        if seat.offered is place:
            return
        if seat.offered is not None:
            seat.offered.remove(seat)
        self._turn += 1
        seat.idleSince = self._turn
        seat.offered = place
        place.append(seat)

    def withdraw(self, seat: Seat) -> None:
        """
        Note that a seat has no room.
        """
        if seat.offered is not None:
            seat.offered.remove(seat)
            seat.offered = None

    # Pins

    def pin(self, series: Hashable, seat: Seat) -> None:
        """
        Reserve a series for a seat, once more, since the seat holds an item of the series that has not been started.
        """
        family = self._families.get(series)
        if family is None:
            family = self._families[series] = SeriesLanes(series)
        if family.pin is None:
            family.pin = seat
            self._replace(family)
        if family.pin is seat:
            family.pinCount += 1

    def unpin(self, series: Hashable, seat: Seat) -> None:
        """
        Undo one L{pin}. Of no effect once the seat has been left.
        """
        family = self._families.get(series)
        if family is None or family.pin is not seat:
            return
        family.pinCount -= 1
        if not family.pinCount:
            family.pin = None
            if family.lanes:
                self._replace(family)
            else:
                del self._families[series]

    def _replace(self, family: SeriesLanes) -> None:
        """
        Move the lanes of a series to where they belong now. They have been servable all the time, and keep their tags.
        """
        for lane in family.lanes.values():
            if lane.heap is not None:
                lane.heap.remove(lane)
            self._homeOf(lane).add(lane)

    # Matches

    def match(self) -> tuple[Seat, Queueable] | None:
        """
        Take the best item that can be served now out of its lane, and choose the seat for it.

        @return: The seat, which is not offered any more, and the item; or C{None} when nothing can be served.
        """
        # Hot path, watched by `bench --only reactor`.
        best: Rank | None = None
        chosen: Seat | None = None
        for group in self._groups:
            if not (group.idle or group.roomy):
                continue
            seat = group.idle[0] if group.idle else self._unreserved(group)
            for heap in group.heaps:
                rank = heap.top()
                if rank is None or seat is None or (rank[0] == ALONE and seat.held):
                    continue
                if best is None or rank < best:
                    best = rank
                    chosen = seat
                elif rank is best and chosen is not None and _isFitter(seat, chosen):
                    chosen = seat
            for seat in group.pinning:
                if seat.offered is None or seat.pinned is None:
                    continue
                rank = seat.pinned.top()
                if rank is not None and (best is None or rank < best) and not (rank[0] == ALONE and seat.held):
                    best = rank
                    chosen = seat
        if best is None or chosen is None:
            return None
        place = chosen.offered
        assert place is not None
        if place[0] is chosen:
            place.popleft()
        else:
            place.remove(chosen)
        chosen.offered = None
        return chosen, self._take(best[4], chosen)

    def _unreserved(self, group: Group) -> Seat | None:
        """
        Choose the seat of a group of which none is idle: not the one that holds least, if an item waits to be alone.
        """
        seat = group.roomy[0]
        if any(rank is not None and rank[0] == ALONE for rank in [heap.top() for heap in group.heaps]):
            reserved = min(group.roomy, key=lambda each: each.held)
            return next((each for each in group.roomy if each is not reserved), None)
        return seat

    def _take(self, lane: Lane, seat: Seat) -> Queueable:
        """
        Take the first item of the lane that is next in its heap, and charge the lane for it.
        """
        heap = lane.heap
        group = seat.group
        assert heap is not None
        assert group is not None
        item = lane.items.popleft()
        item.lane = None
        lane.live -= 1
        self.waiting -= 1
        if lane.weight:
            tag = lane.tag
            lane.tag = tag + lane.cost
            virtualTime = group.virtualTime + UNIT // group.weight
            group.virtualTime = virtualTime if virtualTime > tag else tag
        if lane.live:
            rank = lane.ranked()
            if len(heap.entries) == 1:
                heap.entries[0] = rank
            else:
                heapreplace(heap.entries, rank)
        else:
            heappop(heap.entries)
            for each in heap.groups:
                each.weight -= lane.weight
            lane.heap = lane.rank = None
            self._retire(lane)
        return item

    # Views

    def lanes(self) -> Iterator[Lane]:
        """
        Iterate over all lanes in which something waits.
        """
        return chain.from_iterable(family.lanes.values() for family in self._families.values())

    def lanesOf(self, series: Hashable) -> list[Lane]:
        """
        Return the lanes of a series in which something waits.
        """
        family = self._families.get(series)
        return [] if family is None else list(family.lanes.values())

    def unserved(self) -> list[Lane]:
        """
        Return the lanes in which something waits that no seat is qualified for.
        """
        return [lane for lane in self.lanes() if lane.heap is not None and not lane.heap.groups]

    def isServed(self, series: Hashable) -> bool:
        """
        Tell whether any seat is qualified for a series.
        """
        return any(series is None or series in group.qualifications for group in self._groups)

    def ahead(self, item: Queueable) -> int:
        """
        Count the items that would go before this one if nothing else came: those before it in its own lane.
        """
        lane = item.lane
        if lane is None:
            return 0
        return sum(1 for other in lane if other.ID < item.ID)
