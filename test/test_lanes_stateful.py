"""
Stateful tests of the backlog: whatever comes and goes in whatever order, it does what a slow and simple model does.

The model keeps a list for each lane and a record for each seat, and looks at all of them each time. It does not choose
between lanes of the normal class, which is a matter of tags; what holds of that choice is counted for each pair of
lanes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable
from itertools import combinations
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.scheduling.backlog import Backlog
from asynqueue.scheduling.groups import Seat
from asynqueue.scheduling.lanes import ALONE, LAST, NEXT, RERUN, Lane
from asynqueue.scheduling.niceness import COSTS

EXAMPLES = int(os.environ.get("ASYNQUEUE_HYPOTHESIS_EXAMPLES", "200"))

SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

T = TypeVar("T")

#: Beside C{None}, which everybody serves.
SERIES = ("a", "b", "c")

NORMAL_BANDS = (-20, -10, 0, 10, 20)

#: The classes, in their order; those of the normal class are all 0.
ORDERED = (ALONE, RERUN, NEXT, LAST)

anySeries = st.sampled_from((None, *SERIES))
bands = st.sampled_from((*NORMAL_BANDS, 0, 0, NEXT, LAST, RERUN, ALONE))
qualifications = st.frozensets(st.sampled_from(SERIES))
indices = st.integers(0, 1 << 16)

Key = tuple[Hashable, int]


def classOf(band: int) -> int:
    """
    Return what orders the classes.
    """
    return band if band in ORDERED else 0


class Item:
    """
    Something that waits, is held, or is done.
    """

    def __init__(self, ID: int, series: Hashable, band: int) -> None:
        self.ID = ID
        self.series = series
        self.band = band
        self.lane: Lane | None = None

    def __repr__(self) -> str:
        return f"<{self.ID} {self.series!r} {self.band}>"

    @property
    def key(self) -> Key:
        """
        The lane that the item belongs to.
        """
        return self.series, self.band


class Place(Seat):
    """
    A seat, with what its owner knows of it, and what the model does.

    @ivar qualified: The series that it is qualified for.
    @ivar capacity: How many items it may hold.
    @ivar items: Those that it holds.
    @ivar unstarted: Those of them for which their series is pinned.
    @ivar isOffered: Whether it is offered, and since when as one that holds nothing, or as one that holds something.
    """

    def __init__(self, qualified: frozenset[Hashable], capacity: int) -> None:
        super().__init__()
        self.qualified = qualified
        self.capacity = capacity
        self.items: list[Item] = []
        self.unstarted: list[Item] = []
        self.isOffered: tuple[bool, int] | None = None

    def __repr__(self) -> str:
        return f"<place {sorted(map(str, self.qualified))} {len(self.items)}/{self.capacity} {self.isOffered}>"

    @property
    def isExclusive(self) -> bool:
        """
        Whether it holds an item that is to be alone.
        """
        return any(item.band == ALONE for item in self.items)

    @property
    def hasRoom(self) -> bool:
        """
        Whether it may be offered.
        """
        return len(self.items) < self.capacity and not self.isExclusive


class PairCount:
    """
    What two lanes have been served since both have been waiting, and could be served by the same groups of seats.
    """

    def __init__(self, groups: frozenset[frozenset[Hashable]]) -> None:
        self.groups = groups
        self.served = [0, 0]


class BacklogMachine(RuleBasedStateMachine):
    """
    A backlog, and beside it the model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog()
        self.places: list[Place] = []
        self.lanes: dict[Key, list[Item]] = {}
        self.pins: dict[Hashable, list[Any]] = {}
        self.pairs: dict[tuple[Key, Key], PairCount] = {}
        self.owed: set[Key] = set()
        self.groups: dict[Key, frozenset[frozenset[Hashable]]] = {}
        self.lastID = 0
        self.turn = 0

    # The model

    def pick(self, choices: list[T], index: int) -> T:
        """
        Return one of some things.
        """
        return choices[index % len(choices)]

    def waiting(self) -> list[Item]:
        """
        Return all items that wait.
        """
        return [item for items in self.lanes.values() for item in items]

    def servers(self, series: Hashable) -> list[Place]:
        """
        Return the places that may serve a series.
        """
        pin = self.pins.get(series)
        if pin is not None:
            return [pin[0]]
        return [place for place in self.places if series is None or series in place.qualified]

    def drop(self, item: Item) -> None:
        """
        Take an item out of the model's lane.
        """
        lane = self.lanes[item.key]
        lane.remove(item)
        if not lane:
            del self.lanes[item.key]
            self.recount()

    def wait(self, item: Item) -> None:
        """
        Let an item wait.
        """
        self.backlog.push(item, item.band)
        lane = self.lanes.get(item.key)
        if lane is None:
            self.lanes[item.key] = [item]
            self.recount()
        else:
            lane.append(item)
            if item.band in (RERUN, ALONE):
                lane.sort(key=lambda each: each.ID)

    def recount(self) -> None:
        """
        Forget what pairs of lanes have been served that do not both wait, or not for the same places; begin with
        others.
        """
        groups = {
            key: frozenset(place.qualified for place in self.servers(key[0]))
            for key in sorted(self.lanes, key=str)
            if key[1] not in ORDERED
        }
        # A lane that has waited for one seat, or for other groups, while others were served is owed something then.
        self.owed = {
            key
            for key, theirs in groups.items()
            if key in self.owed or key[0] in self.pins or theirs != (self.groups.get(key) or theirs)
        }
        self.groups = groups
        pairs = {}
        for pair in combinations(groups, 2):
            theirs = groups[pair[0]]
            if theirs and theirs == groups[pair[1]] and self.owed.isdisjoint(pair):
                count = self.pairs.get(pair)
                pairs[pair] = count if count is not None and count.groups == theirs else PairCount(theirs)
        self.pairs = pairs

    def offer(self, place: Place) -> None:
        """
        Do what the owner of a seat does whenever something has changed with it.
        """
        place.held = len(place.items)
        if place.hasRoom:
            self.backlog.offer(place)
            idle = not place.items
            if place.isOffered is None or place.isOffered[0] is not idle:
                self.turn += 1
                place.isOffered = (idle, self.turn)
        else:
            self.backlog.withdraw(place)
            place.isOffered = None

    def unpin(self, item: Item, place: Place) -> None:
        """
        Let an item count as started.
        """
        place.unstarted.remove(item)
        self.backlog.unpin(item.series, place)
        pin = self.pins.get(item.series)
        if pin is not None and pin[0] is place:
            pin[1] -= 1
            if not pin[1]:
                del self.pins[item.series]
        self.recount()

    def isHeldBack(self, item: Item) -> bool:
        """
        Tell whether an item waits for one of its series that is to be alone where the series is pinned: else the pin
        might never end.
        """
        return item.series in self.pins and item.band != ALONE and (item.series, ALONE) in self.lanes

    def aloneIsSeenBy(self, place: Place) -> bool:
        """
        Tell whether an item waits to be alone that a place might serve.
        """
        return any(key[1] == ALONE and place in self.servers(key[0]) for key in self.lanes)

    # Items

    @rule(series=anySeries, band=bands, number=st.integers(1, 6))
    def push(self, series: Hashable, band: int, number: int) -> None:
        """
        Let new items wait.
        """
        for _ in range(number):
            self.lastID += 1
            self.wait(Item(self.lastID, series, band))

    @precondition(lambda self: self.backlog.waiting < 200)
    @rule(series=anySeries, band=bands)
    def pushMany(self, series: Hashable, band: int) -> None:
        """
        Let so many items wait that dropping them leaves more husks than are kept.
        """
        self.push(series, band, 60)

    @precondition(lambda self: self.lanes)
    @rule(index=indices)
    def discard(self, index: int) -> None:
        """
        Take one item out.
        """
        item = self.pick(self.waiting(), index)
        self.backlog.discard(item)
        self.drop(item)

    @precondition(lambda self: self.lanes)
    @rule(index=indices, number=st.integers(2, 70), fromEnd=st.booleans())
    def discardMany(self, index: int, number: int, fromEnd: bool) -> None:
        """
        Take many items of one lane out.
        """
        lane = self.pick(list(self.lanes.values()), index)
        for item in lane[-number:] if fromEnd else lane[:number]:
            self.backlog.discard(item)
            self.drop(item)

    @rule(series=anySeries)
    def removeSeries(self, series: Hashable) -> None:
        """
        Take all lanes of a series out.
        """
        keys = [key for key in self.lanes if key[0] == series]
        count = self.backlog.remove(self.backlog.lanesOf(series))
        assert count == sum(len(self.lanes.pop(key)) for key in keys)
        self.recount()

    # Seats

    @rule(qualified=qualifications, capacity=st.integers(1, 4))
    def come(self, qualified: frozenset[Hashable], capacity: int) -> None:
        """
        Seat somebody.
        """
        if len(self.places) >= 5:
            return
        place = Place(qualified, capacity)
        self.places.append(place)
        self.backlog.seat(place, qualified)
        self.recount()
        self.offer(place)

    @precondition(lambda self: self.places)
    @rule(index=indices)
    def go(self, index: int) -> None:
        """
        Let a seat go, with all that it holds.
        """
        place = self.pick(self.places, index)
        self.places.remove(place)
        self.backlog.unseat(place)
        self.pins = {series: pin for series, pin in self.pins.items() if pin[0] is not place}
        for item in place.unstarted:
            # Comes late, and does nothing.
            self.backlog.unpin(item.series, place)
        self.recount()

    @precondition(lambda self: self.places)
    @rule(index=indices)
    def unseatAndReturn(self, index: int) -> None:
        """
        Let a seat go and come back, as a worker does that is unfit for a while. It lets go of its pins first.
        """
        place = self.pick(self.places, index)
        for item in list(place.unstarted):
            self.unpin(item, place)
        self.backlog.unseat(place)
        place.isOffered = None
        self.places.remove(place)
        self.recount()
        self.places.append(place)
        self.backlog.seat(place, place.qualified)
        self.recount()
        self.offer(place)

    @precondition(lambda self: self.places)
    @rule(index=indices, qualified=qualifications)
    def requalify(self, index: int, qualified: frozenset[Hashable]) -> None:
        """
        Change what a place is qualified for: not for less than what is pinned to it.
        """
        place = self.pick(self.places, index)
        place.qualified = qualified.union(item.series for item in place.unstarted)
        self.backlog.seat(place, place.qualified)
        place.isOffered = None
        # Its group may have changed its order; the model's lists of places are in the order of their coming.
        self.recount()
        self.offer(place)

    @precondition(lambda self: self.places)
    @rule(index=indices, capacity=st.integers(0, 4))
    def setCapacity(self, index: int, capacity: int) -> None:
        """
        Give a place room or take some away.
        """
        place = self.pick(self.places, index)
        place.capacity = capacity
        self.offer(place)

    @precondition(lambda self: any(place.unstarted for place in self.places))
    @rule(index=indices)
    def start(self, index: int) -> None:
        """
        Start the first item that has not been.
        """
        place = self.pick([place for place in self.places if place.unstarted], index)
        self.unpin(place.unstarted[0], place)

    @precondition(lambda self: any(place.items for place in self.places))
    @rule(index=indices, again=st.sampled_from((None, None, None, RERUN, ALONE)))
    def finish(self, index: int, again: int | None) -> None:
        """
        Have an item done, or run again.
        """
        place = self.pick([place for place in self.places if place.items], index)
        item = self.pick(place.items, index >> 4)
        if item in place.unstarted:
            self.unpin(item, place)
        place.items.remove(item)
        if again is not None:
            item.band = ALONE if item.band == ALONE else again
            self.wait(item)
        self.offer(place)

    @precondition(lambda self: any(place.items for place in self.places))
    @rule(index=indices)
    def serve(self, index: int) -> None:
        """
        Have an item done where nothing can be served until then, and the place served at once.
        """
        while self.take(False, False):
            pass
        place = self.pick([place for place in self.places if place.items], index)
        item = place.items[0]
        if item in place.unstarted:
            self.unpin(item, place)
            while self.take(False, False):
                pass
        place.items.remove(item)
        place.held = len(place.items)
        if place.isOffered is not None or not place.hasRoom:
            self.offer(place)
            return
        served = self.backlog.serve(place)
        self.turn += 1
        place.isOffered = (not place.items, self.turn)
        if served is not None:
            assert isinstance(served, Item)
            self.taken(place, served, False, False)

    # Matches

    @rule(number=st.integers(1, 12), looksAhead=st.booleans(), isServedAtOnce=st.booleans())
    def match(self, number: int, looksAhead: bool, isServedAtOnce: bool) -> None:
        """
        Make matches, until there is none.

        @param looksAhead: Whether the items have not been started.
        @param isServedAtOnce: Whether they are done at once, so that there is room again.
        """
        for _ in range(number):
            if not self.take(looksAhead, isServedAtOnce):
                break

    def take(self, looksAhead: bool, isServedAtOnce: bool) -> bool:
        """
        Make a match, if there is one, and tell whether there was.
        """
        pair = self.backlog.match()
        if pair is None:
            self.checkNothingCouldBeServed()
            return False
        place, item = pair
        assert isinstance(place, Place)
        assert isinstance(item, Item)
        self.taken(place, item, looksAhead, isServedAtOnce)
        return True

    def taken(self, place: Place, item: Item, looksAhead: bool, isServedAtOnce: bool) -> None:
        """
        Give an item to a place.
        """
        self.checkMatch(place, item)
        self.count(item)
        place.isOffered = None
        self.drop(item)
        if not isServedAtOnce:
            place.items.append(item)
            if looksAhead and item.series is not None:
                self.backlog.pin(item.series, place)
                pin = self.pins.setdefault(item.series, [place, 0])
                if pin[0] is place:
                    pin[1] += 1
                place.unstarted.append(item)
                self.recount()
        self.offer(place)

    def checkMatch(self, place: Place, item: Item) -> None:
        """
        The right item goes to the right place.
        """
        assert item in self.lanes.get(item.key, ()), f"{item} does not wait"
        lane = self.lanes[item.key]
        assert lane[0] is item, f"{item} was served before {lane[0]}"
        servers = self.servers(item.series)
        assert place in servers, f"{item} went to {place}, which may not serve it"
        assert place.isOffered is not None, f"{item} went to {place}, which has no room"
        assert item.band != ALONE or not place.items, f"{item} is not alone at {place}"
        idle = [each for each in servers if each.isOffered is not None and each.isOffered[0]]
        if idle:
            longest = min(idle, key=lambda each: each.isOffered or (False, 0))
            assert place is longest, f"{item} went to {place}, though {longest} has been idle for longer"
        mine = classOf(item.band)
        for key, others in self.lanes.items():
            other = others[0]
            if other is item or (other.band == ALONE and place.items) or place not in self.servers(key[0]):
                continue
            if self.isHeldBack(other):
                continue
            theirs = classOf(other.band)
            assert mine <= theirs, f"{item} went to {place} before {other}"
            assert mine != theirs or not mine or item.ID < other.ID, f"{item} went to {place} before {other}"

    def count(self, item: Item) -> None:
        """
        Lanes that wait together for the same places are served by their weights: each group of seats sees to that, as
        far as it knows.
        """
        for pair, count in self.pairs.items():
            if item.key not in pair:
                continue
            count.served[pair.index(item.key)] += 1
            costs = [COSTS[key[1]] for key in pair]
            apart = abs(count.served[0] * costs[0] - count.served[1] * costs[1])
            assert apart <= sum(costs) * len(count.groups), f"{pair} were served {count.served}"

    def checkNothingCouldBeServed(self) -> None:
        """
        No place is offered for which an item waits, but for one of each kind that is reserved for one to be alone.
        """
        withheld: dict[frozenset[Hashable], Place] = {}
        for place in self.places:
            if place.isOffered is None:
                continue
            for key, items in self.lanes.items():
                if place not in self.servers(key[0]) or (key[1] == ALONE and place.items):
                    continue
                if self.isHeldBack(items[0]):
                    continue
                other = withheld.setdefault(place.qualified, place)
                assert self.aloneIsSeenBy(place), f"{items[0]} waits, though {place} could serve it"
                assert other is place, f"{items[0]} waits, though {place} and {other} could serve it"

    @invariant()
    def modelAgrees(self) -> None:
        """
        The backlog is in the state in which the model is.
        """
        self.checkCounts()
        self.checkWeights()
        self.checkMemory()

    def checkCounts(self) -> None:
        """
        The backlog's counts are those of the model.
        """
        backlog = self.backlog
        assert backlog.waiting == len(self.waiting())
        lanes = {(lane.family.series, lane.band): lane for lane in backlog.lanes()}
        assert lanes.keys() == self.lanes.keys()
        for key, lane in lanes.items():
            assert list(lane) == self.lanes[key]
            assert lane.live == len(self.lanes[key])
        for series in (None, *SERIES):
            isServed = any(series is None or series in place.qualified for place in self.places)
            assert backlog.isServed(series) == isServed
        unserved = {(lane.family.series, lane.band) for lane in backlog.unserved()}
        assert unserved == {key for key in lanes if not self.servers(key[0])}

    def checkWeights(self) -> None:
        """
        The weight of each group is that of the lanes that it can serve.
        """
        for group in self.backlog._groups:
            weights = [
                lane.weight for lane in self.backlog.lanes() if any(heap.group is group for heap in lane.heaps or ())
            ]
            assert group.weight == sum(weights), f"{group.qualifications}: {group.weight}, not {sum(weights)}"
            assert group.members == sum(1 for place in self.places if place.group is group)
            offered = [place for place in self.places if place.group is group and place.isOffered is not None]
            assert set(group.idle) == {place for place in offered if not place.items}
            assert set(group.roomy) == {place for place in offered if place.items}

    def checkMemory(self) -> None:
        """
        When nothing waits, nothing is remembered of any lane.
        """
        backlog = self.backlog
        if not backlog.waiting:
            assert not any(group.tags for group in backlog._groups)
            assert backlog._families.keys() == self.pins.keys()

    # Time

    @precondition(lambda self: self.places)
    @rule(rounds=st.integers(1, 20), series=st.lists(anySeries, min_size=1, max_size=4), band=bands)
    def work(self, rounds: int, series: list[Hashable], band: int) -> None:
        """
        Let as much come as is done, for a while.
        """
        for number in range(rounds):
            self.match(8, bool(number & 1), False)
            for place in self.places:
                if place.unstarted:
                    self.unpin(place.unstarted[0], place)
                if place.items:
                    item = place.items[0]
                    if item in place.unstarted:
                        self.unpin(item, place)
                    place.items.remove(item)
                    self.offer(place)
                    self.push(series[number % len(series)], band, 1)

    def teardown(self) -> None:
        """
        While more and more comes, whatever is to be alone is so before long: nothing starves.
        """
        if sys.exc_info()[0] is not None:
            # It has failed before.
            return
        for place in self.places:
            for item in list(place.unstarted):
                self.unpin(item, place)
            place.capacity = max(place.capacity, 2)
            self.offer(place)
        due = {item for item in self.waiting() if item.band == ALONE and self.servers(item.series)}
        if due:
            for _ in range(20):
                self.work(1 + len(due), [None, *SERIES], 0)
        starved = due.intersection(self.waiting())
        assert not starved, f"{starved} starved"


class BacklogTests(SynchronousTestCase):
    """
    The backlog does what the model does.
    """

    def test_backlog(self) -> None:
        """
        Items, seats and pins come and go.
        """
        try:
            run_state_machine_as_test(BacklogMachine, settings=SETTINGS)
        except Exception as error:  # trial does not show the notes, which say what to do to see it again
            self.fail("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))

    def test_N06_halfTheRateWhateverWasBefore(self) -> None:
        """
        From the moment at which a lane at N and one at N + 10 both wait, the first has had two thirds of n dispatches
        within one, whatever had been served until then.
        """

        @settings(SETTINGS, max_examples=max(EXAMPLES // 2, 1))
        @given(
            before=st.lists(st.tuples(st.sampled_from(SERIES), st.sampled_from(NORMAL_BANDS), st.integers(0, 5))),
            niceness=st.integers(-20, 10),
            head=st.integers(0, 20),
            isNicerFirst=st.booleans(),
            refills=st.lists(st.booleans(), min_size=60, max_size=60),
        )
        def check(
            before: list[tuple[str, int, int]], niceness: int, head: int, isNicerFirst: bool, refills: list[bool]
        ) -> None:
            share(before, niceness, head, isNicerFirst, refills)

        run: Callable[[], None] = check
        run()


def share(
    before: list[tuple[str, int, int]], niceness: int, head: int, isNicerFirst: bool, refills: list[bool]
) -> None:
    """
    Have two lanes served, one of them alone at first, and count.

    @param before: What has been queued and served before: series, niceness, and how many dispatches of whatever waits.
    @param head: How many dispatches the first of the lanes has had when the other comes.
    @param refills: Whether the lanes get new items one at a time, or have enough of them.
    """
    backlog = Backlog()
    seat = Seat()
    backlog.seat(seat, frozenset([*SERIES, "x", "y"]))
    backlog.offer(seat)
    lastID = 0

    def push(series: str, band: int, number: int = 1) -> None:
        nonlocal lastID
        for _ in range(number):
            lastID += 1
            backlog.push(Item(lastID, series, band), band)

    def take() -> Item | None:
        pair = backlog.match()
        if pair is None:
            return None
        backlog.offer(seat)
        assert isinstance(pair[1], Item)
        return pair[1]

    for series, band, number in before:
        push(series, band, 2)
        for _ in range(number):
            take()
    while take() is not None:
        pass
    lanes = [("x", niceness), ("y", niceness + 10)]
    if isNicerFirst:
        lanes.reverse()
    push(*lanes[0], head + len(refills))
    for _ in range(head):
        take()
    push(*lanes[1])
    served = 0
    for number, refillsMany in enumerate(refills, 1):
        item = take()
        assert item is not None
        push(str(item.series), item.band, 3 if refillsMany else 1)
        served += item.series == "x"
        assert abs(3 * served - 2 * number) <= 3, f"{served} of {number}"
