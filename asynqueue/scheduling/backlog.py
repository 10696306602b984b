"""
The backlog: which waiting item goes to which seat, by class, fairness, order of submission and qualification.

A I{seat} is a worker's place at the queue. Seats with the same qualifications form a I{group}, which has a heap of all
lanes that it can serve. A match is made only when a seat with room and an item for it are both there.

Fairness is start-time fair queueing: the lane with the least start tag is next, and each dispatch advances its tags by
the cost of its niceness, in all groups that can serve it, whichever of them did. Each group has a virtual time, which
advances with each dispatch by the unit over the weight at work, and never lags behind the tag that was served. A lane
that wakes, or that becomes servable, starts at the virtual time of each group, or at the tag that it had there, if that
is greater. The tags of a lane that has run empty are kept until virtual time has passed them, or nothing waits at all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from heapq import heapreplace
from itertools import chain

from asynqueue.scheduling.groups import Group, Seat, SeriesLanes, isFitter
from asynqueue.scheduling.lanes import ALONE, RERUN, Lane, LaneHeap, Queueable, Rank
from asynqueue.scheduling.niceness import UNIT


class Backlog:
    """
    All waiting items, and the seats that wait for them.

    @ivar waiting: The number of waiting items.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._families: dict[Hashable, SeriesLanes] = {}
        self._groups: list[Group] = []
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
            elif lane.insert(item):
                for heap in lane.heaps or ():
                    heap.rank(lane)
        self.waiting += 1

    def putBack(self, item: Queueable, band: int) -> None:
        """
        Let an item wait that has been taken and was of no use: before all that came after it in its series and band,
        and as if it had not been served.
        """
        family = self._familyOf(item.series)
        lane = family.lanes.get(band)
        if lane is None:
            self._wake(item, family, band)
            lane = family.lanes[band]
        else:
            item.lane = lane
            lane.live += 1
            lane.insert(item)
        if lane.weight:
            for group, offset in lane.offsets.items():
                tag = offset + lane.served
                # Virtual time has gone on with it; who comes now is to find the lane there, and not far behind.
                lane.offsets[group] -= min(lane.cost, max(0, tag - group.now()))
        for heap in lane.heaps or ():
            heap.rank(lane)
        self.waiting += 1

    def _familyOf(self, series: Hashable) -> SeriesLanes:
        family = self._families.get(series)
        if family is None:
            family = self._families[series] = SeriesLanes(series)
        return family

    def _wake(self, item: Queueable, family: SeriesLanes, band: int) -> None:
        lane = family.lanes[band] = Lane(family, band)
        item.lane = lane
        lane.items.append(item)
        lane.live = 1
        self._settleIn(lane)

    def _settleIn(self, lane: Lane) -> None:
        """
        Put a lane into the heaps of those that can serve it, at the tags that it has there or gets now.
        """
        series = lane.family.series
        groups = [group for group in self._groups if series is None or series in group.qualifications]
        pin = lane.family.pin
        if pin is not None and pin.group is not None and pin.group not in groups:
            groups.append(pin.group)
        for group in groups:
            if group not in lane.offsets:
                tag = group.tags.pop((series, lane.band), 0) if group.tags else 0
                lane.offsets[group] = max(tag, group.now()) - lane.served
        if pin is not None:
            lane.heaps = (self._pinnedHeap(pin),)
        elif lane.band == ALONE:
            lane.heaps = tuple([group.alone for group in groups])
        else:
            lane.heaps = tuple([group.heap for group in groups])
        for heap in lane.heaps:
            heap.add(lane)

    def _leaveHeaps(self, lane: Lane) -> None:
        for heap in lane.heaps or ():
            heap.remove(lane)

    def discard(self, item: Queueable) -> None:
        """
        Take a waiting item out, from wherever it stands.
        """
        lane = item.lane
        item.lane = None
        if lane is None or lane.heaps is None:
            return
        self.waiting -= 1
        lane.discard()
        if not lane.live:
            self._leaveHeaps(lane)
            self._retire(lane)

    def remove(self, lanes: Iterable[Lane]) -> int:
        """
        Take whole lanes out, at once. Their items still name them as their lane, but do not wait any more.

        @return: The number of items in them.
        """
        count = 0
        for lane in lanes:
            self._leaveHeaps(lane)
            count += lane.live
            self.waiting -= lane.live
            self._retire(lane)
        return count

    def _retire(self, lane: Lane) -> None:
        """
        Forget a lane that nothing waits in, but for its tags, which say what it has been served.
        """
        lane.heaps = None
        family = lane.family
        del family.lanes[lane.band]
        if not (family.lanes or family.pinCount):
            self._families.pop(family.series, None)
        if not self.waiting:
            for group in self._groups:
                group.tags.clear()
        elif lane.weight:
            for group in lane.offsets:
                group.remember(lane)

    # Seats

    def seat(self, seat: Seat, qualifications: frozenset[Hashable]) -> None:
        """
        Seat a newcomer, or seat one elsewhere whose qualifications have changed. It must be offered anew.
        """
        hadPins = seat.pinned is not None
        left = self._leave(seat)
        group = next((group for group in self._groups if group.qualifications == qualifications), None)
        isNew = group is None
        if group is None:
            now = max((each.virtualTime for each in self._groups), default=0)
            group = Group(qualifications, now if left is None else left.virtualTime)
            self._groups.append(group)
        group.members += 1
        seat.group = group
        if left is not None and isNew:
            # Who has been waiting for the seat goes on waiting with what it has been served.
            group.tags.update(left.tags)
            for lane in self.lanes():
                if left in lane.offsets:
                    lane.offsets[group] = lane.offsets[left]
        if left is not None and not left.members:
            self._disband(left)
        if isNew or hadPins or left not in (None, group):
            self._regroup()

    def unseat(self, seat: Seat) -> None:
        """
        Let a seat go. Lanes that were pinned to it are served by others again.
        """
        hadPins = seat.pinned is not None
        group = self._leave(seat)
        if group is None:
            return
        for family in [family for family in self._families.values() if family.pin is seat]:
            family.pin = None
            family.pinCount = 0
            if not family.lanes:
                del self._families[family.series]
        if not group.members:
            self._disband(group)
        if hadPins or not group.members:
            self._regroup()

    def _leave(self, seat: Seat) -> Group | None:
        self.withdraw(seat)
        group, seat.group = seat.group, None
        seat.pinned = None
        if group is not None:
            group.members -= 1
            if seat in group.pinning:
                group.pinning.remove(seat)
        return group

    def _disband(self, group: Group) -> None:
        self._groups.remove(group)
        for lane in self.lanes():
            lane.offsets.pop(group, None)

    def _regroup(self) -> None:
        """
        Settle all lanes anew, since the groups have changed.
        """
        for group in self._groups:
            group.heap = LaneHeap(group)
            group.alone = LaneHeap(group)
            group.weight = 0
            group.pinning = []
        for family in self._families.values():
            if family.pin is not None:
                family.pin.pinned = None
        for lane in self.lanes():
            self._settleIn(lane)

    def _pinnedHeap(self, seat: Seat) -> LaneHeap:
        """
        Return the heap of the lanes that only one seat may serve.
        """
        assert seat.group is not None
        if seat.pinned is None:
            seat.pinned = LaneHeap(seat.group)
        if seat not in seat.group.pinning:
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
        family = self._familyOf(series)
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
            self._leaveHeaps(lane)
            self._settleIn(lane)

    # Matches

    def seatAtOnce(self, series: Hashable) -> Seat | None:
        """
        Choose the seat for an item that comes when nothing waits, and so needs no lane: there is nobody to be fair to.

        @return: The seat, which is not offered any more, or C{None} if the item has to wait.
        """
        # Hot path, watched by `bench --only reactor`.
        if series is not None and series in self._families:
            # It is pinned.
            return None
        chosen: Seat | None = None
        for group in self._groups:
            if series is None or series in group.qualifications:
                place = group.idle or group.roomy
                if place and (chosen is None or isFitter(place[0], chosen)):
                    chosen = place[0]
        if chosen is not None and chosen.offered is not None:
            chosen.offered.popleft()
            chosen.offered = None
        return chosen

    def serve(self, seat: Seat) -> Queueable | None:
        """
        Take the best item for a seat that has got room, if it is the only one in its group; otherwise offer it.

        @return: The item, or C{None} if the seat has been offered.
        """
        # Hot path, watched by `bench --only reactor`.
        group = seat.group
        if group is None:
            return None
        if not (group.idle or group.roomy or group.pinning or group.alone.current):
            rank = group.heap.top()
            if rank is not None:
                return self._take(rank[4], seat)
        self.offer(seat)
        return None

    def isOffered(self) -> bool:
        """
        Tell whether there is a seat that something could be served to.
        """
        # Hot path, watched by `bench --only reactor`: any() takes three times as long.
        for group in self._groups:  # noqa: SIM110
            if group.idle or group.roomy or group.pinning:
                return True
        return False

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
            seat: Seat | None = group.idle[0] if group.idle else group.roomy[0]
            rank = group.heap.top()
            reserved: Seat | None = None
            if group.alone.current:
                seat, rank, reserved = self._besideAlone(group, rank)
            if rank is not None and seat is not None and (best is None or rank < best):
                best = rank
                chosen = seat
            for seat in group.pinning:
                if seat.offered is None or seat.pinned is None or seat is reserved:
                    continue
                rank = seat.pinned.top()
                if rank is not None and (best is None or rank < best) and not (rank[0] == ALONE and seat.held):
                    best = rank
                    chosen = seat
        if best is None or chosen is None:
            return None
        lane = best[4]
        if lane.heaps is not None and len(lane.heaps) > 1:
            chosen = self._fittest(lane, chosen)
        place = chosen.offered
        assert place is not None
        if place[0] is chosen:
            place.popleft()
        else:
            place.remove(chosen)
        chosen.offered = None
        return chosen, self._take(lane, chosen)

    def _besideAlone(self, group: Group, rank: Rank | None) -> tuple[Seat | None, Rank | None, Seat | None]:
        """
        Choose a seat and what it is to get, while an item waits that is to be alone: that item if a seat is idle. Else
        the seat that holds least gets nothing until it is idle, and another one what is next otherwise.

        @return: The seat, what it is to get, and the seat that is to get nothing.
        """
        alone = group.alone.top()
        if group.idle:
            return group.idle[0], rank if alone is None else alone, None
        if alone is None:
            return group.roomy[0], rank, None
        reserved = min(group.roomy, key=lambda seat: seat.held)
        return next((seat for seat in group.roomy if seat is not reserved), None), rank, reserved

    def _fittest(self, lane: Lane, seat: Seat) -> Seat:
        """
        Choose, of the seats that can serve a lane, one that is idle, and of those the one that has been so longest.
        """
        for heap in lane.heaps or ():
            group = heap.group
            if group.idle and isFitter(group.idle[0], seat):
                seat = group.idle[0]
        return seat

    def _take(self, lane: Lane, seat: Seat) -> Queueable:
        """
        Take the first item of the lane that is next in its heap, and charge the lane for it.
        """
        group = seat.group
        heaps = lane.heaps
        assert group is not None
        assert heaps is not None
        item = lane.items.popleft()
        item.lane = None
        lane.live -= 1
        self.waiting -= 1
        if lane.weight:
            tag = lane.offsets[group] + lane.served
            lane.served += lane.cost
            virtualTime = group.virtualTime
            if virtualTime <= tag + lane.cost:
                # A lane that is further behind only catches up with the time that has passed without it.
                virtualTime += UNIT // group.weight
            group.virtualTime = virtualTime if virtualTime > tag else tag
        if not lane.live:
            for heap in heaps:
                heap.remove(lane)
            self._retire(lane)
        elif len(heaps) == 1:
            heap = heaps[0]
            rank = heap.current[lane] = lane.ranked(heap.group)
            heapreplace(heap.entries, rank)
        else:
            for heap in heaps:
                heap.rank(lane)
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
        return [lane for lane in self.lanes() if not lane.heaps]

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
