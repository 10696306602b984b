"""
Seats, the groups of seats with the same qualifications, and the lanes of a series.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from asynqueue.scheduling.lanes import NORMAL_CLASS, Lane, LaneHeap


class Group:
    """
    The seats that have the same qualifications.

    @ivar heap: The lanes that these seats can serve, but for those of L{ALONE}.
    @ivar alone: The lanes of L{ALONE} that they can serve.
    @ivar tags: What is remembered of lanes that have run empty: their tags, by series and band.
    @ivar idle: Seats with room that hold nothing, longest idle first.
    @ivar roomy: Seats with room that hold something.
    @ivar pinning: Seats that have lanes pinned to them.
    @ivar weight: The sum of the weights of the lanes that these seats can serve.
    """

    __slots__ = (
        "alone",
        "heap",
        "idle",
        "members",
        "pinning",
        "qualifications",
        "roomy",
        "sweepAt",
        "tags",
        "virtualTime",
        "weight",
    )

    def __init__(self, qualifications: frozenset[Hashable], virtualTime: int) -> None:
        self.qualifications = qualifications
        self.virtualTime = virtualTime
        self.heap = LaneHeap(self)
        self.alone = LaneHeap(self)
        self.tags: dict[tuple[Hashable, int], int] = {}
        self.sweepAt = 64
        self.idle: deque[Seat] = deque()
        self.roomy: deque[Seat] = deque()
        self.members = 0
        self.pinning: list[Seat] = []
        self.weight = 0

    def now(self) -> int:
        """
        Return the virtual time, which is not behind the least tag of the lanes either: those may have been served by
        other groups meanwhile.
        """
        top = self.heap.top()
        if top is not None and top[0] == NORMAL_CLASS and top[1] > self.virtualTime:
            self.virtualTime = top[1]
        return self.virtualTime

    def remember(self, lane: Lane) -> None:
        """
        Keep the tag of a lane that has run empty, and forget those that virtual time has passed.
        """
        self.tags[lane.family.series, lane.band] = lane.offsets[self] + lane.served
        if len(self.tags) > self.sweepAt:
            self.tags = {key: tag for key, tag in self.tags.items() if tag > self.virtualTime}
            self.sweepAt = 2 * len(self.tags) + 64


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


def isFitter(seat: Seat, other: Seat) -> bool:
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
