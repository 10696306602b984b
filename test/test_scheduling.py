"""
Tests of scheduling: niceness, lanes, the backlog, matching, pins and the look-ahead window.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Hashable, Iterable
from fractions import Fraction
from itertools import count
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker
from asynqueue.scheduling.backlog import Backlog
from asynqueue.scheduling.groups import Seat
from asynqueue.scheduling.lanes import ALONE, LAST, NEXT, RERUN, Lane
from asynqueue.scheduling.niceness import COSTS, WEIGHTS, checkedNiceness, nicenessOfPriority
from asynqueue.scheduling.window import CEILING, TARGET, Window
from asynqueue.testing import ManagedMemoryWorker, MemoryWorker
from test.support import OrderTestCase, QueueTestCase


class Item:
    """
    Something that waits.
    """

    def __init__(self, ID: int, series: Hashable, band: int) -> None:
        self.ID = ID
        self.series = series
        self.band = band
        self.lane: Lane | None = None

    def __repr__(self) -> str:
        return f"<{self.ID} {self.series!r} {self.band}>"


class BacklogTestCase(SynchronousTestCase):
    """
    Tests of a backlog by itself.
    """

    def setUp(self) -> None:
        """
        Make an empty backlog.
        """
        self.backlog = Backlog()
        self.nextID = count(1).__next__

    def makeSeat(self, series: Iterable[Hashable] = (), offered: bool = True) -> Seat:
        """
        Make a seat, with room unless told otherwise.
        """
        seat = Seat()
        self.backlog.seat(seat, frozenset(series))
        if offered:
            self.backlog.offer(seat)
        return seat

    def push(self, series: Hashable = None, band: int = 0) -> Item:
        """
        Let an item wait.
        """
        item = Item(self.nextID(), series, band)
        self.backlog.push(item, band)
        return item

    def pushAll(self, number: int, series: Hashable = None, band: int = 0) -> list[Item]:
        """
        Let a number of items wait.
        """
        return [self.push(series, band) for _ in range(number)]

    def take(self) -> Item | None:
        """
        Make one match, after which the seat has room again.
        """
        pair = self.backlog.match()
        if pair is None:
            return None
        seat, item = pair
        self.backlog.offer(seat)
        assert isinstance(item, Item)
        return item

    def takeAll(self, number: int | None = None) -> list[Item]:
        """
        Make a number of matches, or all there are.
        """
        taken: list[Item] = []
        while (number is None or len(taken) < number) and (item := self.take()) is not None:
            taken.append(item)
        return taken


class NicenessTests(SynchronousTestCase):
    """
    What niceness is, and what it costs.
    """

    def test_P01_nicenessIsAnIntegerInItsRange(self) -> None:
        """
        From -20 to 20, and no bool.
        """
        self.assertEqual([checkedNiceness(value) for value in range(-20, 21)], list(range(-20, 21)))
        for wrong in (-21, 21, 1.0, "0", None, True, False, [0]):
            with self.assertRaises(ValueError):
                checkedNiceness(wrong)

    def test_P02_tenMoreCostsTwiceAsMuch(self) -> None:
        """
        To the last bit; and each step costs more than the one before.
        """
        for niceness in range(-20, 11):
            self.assertEqual(COSTS[niceness + 10], 2 * COSTS[niceness])
        costs = [COSTS[niceness] for niceness in range(-20, 21)]
        self.assertEqual(costs, sorted(set(costs)))

    def test_P08_priorityMapsLinearly(self) -> None:
        """
        0 is first, at -20; 9 is last, at 20; and 4 and 5 are on both sides of 0.
        """
        mapped = [nicenessOfPriority(priority) for priority in range(10)]
        self.assertEqual((mapped[0], mapped[9]), (-20, 20))
        self.assertEqual(mapped, sorted(set(mapped)))
        self.assertLess(mapped[4], 0)
        self.assertEqual(mapped[5], -mapped[4])
        for wrong in (-1, 10, 0.0, True, "1", None):
            with self.assertRaises(ValueError):
                nicenessOfPriority(wrong)


class FairnessTests(BacklogTestCase):
    """
    Each lane gets its share.
    """

    def test_P02_halfTheRateAtEveryNiceness(self) -> None:
        """
        At any moment, of n dispatches the lane at N has had two thirds, and the one at N + 10 a third, within one.
        """
        for niceness in range(-20, 11):
            self.setUp()
            self.makeSeat(["a", "b"])
            self.pushAll(400, "a", niceness)
            self.pushAll(400, "b", niceness + 10)
            served = 0
            for number in range(1, 501):
                item = self.take()
                assert item is not None
                served += item.series == "a"
                self.assertLessEqual(abs(served - Fraction(2, 3) * number), 1, f"niceness {niceness}, n = {number}")

    def test_P02_halfTheRateWithOneItemWaitingInEach(self) -> None:
        """
        The same holds when each lane gets its next item just after its last one has been taken.
        """
        for niceness in range(-20, 11):
            self.setUp()
            self.makeSeat(["a", "b"])
            self.push("a", niceness)
            self.push("b", niceness + 10)
            served = 0
            for number in range(1, 301):
                item = self.take()
                assert item is not None
                self.push(item.series, item.band)
                served += item.series == "a"
                self.assertLessEqual(abs(served - Fraction(2, 3) * number), 1, f"niceness {niceness}, n = {number}")

    def test_N06_sharesOfFiftyLanes(self) -> None:
        """
        After 20,000 dispatches, the shares of 50 lanes are their weights, within five per cent.
        """
        random = Random(50)
        bands = {f"s{number}": random.randint(-20, 20) for number in range(50)}
        self.makeSeat(bands)
        for series, band in bands.items():
            self.pushAll(2, series, band)
        served: Counter[Hashable] = Counter()
        for _ in range(20_000):
            item = self.take()
            assert item is not None
            served[item.series] += 1
            self.push(item.series, item.band)
        total = sum(WEIGHTS[band] for band in bands.values())
        for series, band in bands.items():
            due = 20_000 * WEIGHTS[band] / total
            self.assertLessEqual(abs(served[series] - due), max(0.05 * due, 1), f"{series} at {band}")

    def test_P03_batchesOfSeriesInterleave(self) -> None:
        """
        Batches that were queued one after the other take turns.
        """
        self.makeSeat("abc")
        for series in "abc":
            self.pushAll(100, series)
        taken = [item.series for item in self.takeAll(30)]
        self.assertEqual(Counter(taken), {"a": 10, "b": 10, "c": 10})
        for start in range(0, 30, 3):
            self.assertEqual(set(taken[start : start + 3]), {"a", "b", "c"})

    def test_P03_bigBatchFirstDelaysNobody(self) -> None:
        """
        A batch that comes late does not wait behind one that is there.
        """
        self.makeSeat("ab")
        self.pushAll(1000, "a")
        self.takeAll(100)
        self.pushAll(10, "b")
        taken = [item.series for item in self.takeAll(21)]
        self.assertEqual(taken.count("b"), 10)

    def test_Z25_idleLaneDoesNotMonopolise(self) -> None:
        """
        A lane that has been idle while another was served 5,000 times gets no more than its share when it wakes.
        """
        self.makeSeat("ab")
        self.push("b")
        self.takeAll()
        self.pushAll(6000, "a")
        self.takeAll(5000)
        self.pushAll(500, "b")
        taken = Counter(item.series for item in self.takeAll(200))
        self.assertLessEqual(abs(taken["b"] - 100), 1)

    def test_N06_emptyingALaneIsNoAdvantage(self) -> None:
        """
        A lane that runs empty and wakes at once is charged for what it has had.
        """
        self.makeSeat("ab")
        self.pushAll(1000, "a", 0)
        self.push("b", 20)
        served = 0
        for number in range(1, 201):
            item = self.take()
            assert item is not None
            if item.series == "b":
                served += 1
                self.push("b", 20)
            self.assertLessEqual(served, number / 5 + 1.01)

    def test_N06_laneThatBecomesServableStartsAtTheVirtualTime(self) -> None:
        """
        A lane that had nobody to serve it neither monopolises the first who can, nor waits.
        """
        self.makeSeat("a")
        self.pushAll(100, "b")
        self.pushAll(5000, "a")
        self.takeAll(4000)
        seat = self.makeSeat("ab", offered=False)
        self.backlog.offer(seat)
        taken = Counter(item.series for item in self.takeAll(200))
        self.assertLessEqual(abs(taken["b"] - 100), 1)

    def test_N06_wakingLaneDoesNotWaitBehindABacklogElsewhere(self) -> None:
        """
        A lane that wakes is served in its turn, however much workers of other qualifications have served.
        """
        seat = self.makeSeat("a", offered=False)
        other = self.makeSeat("b")
        self.pushAll(1000, "b")
        self.takeAll(1000)
        self.backlog.withdraw(other)
        self.backlog.offer(seat)
        self.pushAll(500, "a")
        self.push(None)
        taken = [item.series for item in self.takeAll(10)]
        self.assertIn(None, taken)

    def test_F91_worstWaitOfTheNicest(self) -> None:
        """
        Beside 50 lanes at -20, one at 20 waits no longer than its weight says: 16 dispatches of each, and one round.
        """
        bands: dict[Hashable, int] = dict.fromkeys(range(50), -20)
        bands["nice"] = 20
        self.makeSeat(bands)
        for series, band in bands.items():
            self.pushAll(2, series, band)
        last, waits = 0, []
        for number in range(1, 10_001):
            item = self.take()
            assert item is not None
            self.push(item.series, item.band)
            if item.series == "nice":
                waits.append(number - last)
                last = number
        self.assertGreaterEqual(len(waits), 11)
        self.assertLessEqual(max([*waits, 10_000 - last]), 50 * 16 + 51)

    def test_F91_streamOfWakingLanesStarvesNobody(self) -> None:
        """
        Lanes that are new again and again do not keep one from its turn.
        """
        fresh = [f"new{number}" for number in range(2000)]
        self.makeSeat(["old", *fresh])
        self.pushAll(500, "old", 20)
        self.push(fresh[0], -20)
        self.push(fresh[1], -20)
        served = 0
        for series in fresh[2:]:
            item = self.take()
            assert item is not None
            served += item.series == "old"
            # Two of the fresh ones wait at any time, and their weights make a share of 1 : 33.
            self.push("old" if item.series == "old" else series, item.band)
        self.assertGreaterEqual(served, 55)

    def test_Z27_idleLanesAreForgotten(self) -> None:
        """
        A series that has been served is kept by nobody, though others wait all the time.
        """

        class Name:
            pass

        names: list[Any] = [Name() for _ in range(500)]
        died = [weakref.ref(name) for name in names]
        self.makeSeat([*range(10)])
        self.pushAll(2000, 0)
        wild = Seat()
        self.backlog.seat(wild, frozenset(names))
        for name in names:
            self.push(name)
        while self.backlog.waiting > 1000:
            self.backlog.offer(wild)
            self.take()
        self.assertEqual([lane.family.series for lane in self.backlog.lanes()], [0])
        self.backlog.unseat(wild)
        del names, name, wild
        self.pushAll(1, 0)
        self.takeAll(400)
        # Others come and go, which is when the tags of those before are swept out.
        for _ in range(30):
            for number in range(1, 10):
                self.push(number)
            self.takeAll(20)
        gc.collect()
        self.assertLess(sum(ref() is not None for ref in died), 100)

    def test_P07_tiesGoBySubmission(self) -> None:
        """
        Lanes that are due at once go by niceness, then in the order of submission.
        """
        self.makeSeat("abcd")
        self.push("c", 10)
        self.push("b", 0)
        self.push("a", 0)
        self.push("d", -10)
        self.assertEqual([item.series for item in self.takeAll()], ["d", "b", "a", "c"])


class ClassTests(BacklogTestCase):
    """
    doNext, the normal class and doLast; re-runs.
    """

    def test_P05_doNextIsFifo(self) -> None:
        """
        Items to go next go in the order of submission, over all series, before the keenest.
        """
        self.makeSeat("abc")
        keen = self.push("a", -20)
        rushed = [self.push(series, NEXT) for series in "cabacb"]
        self.assertEqual(self.takeAll(), [*rushed, keen])

    def test_P06_doLastIsFifo(self) -> None:
        """
        Items to go last go in the order of submission, over all series, after the nicest.
        """
        self.makeSeat("abc")
        relaxed = [self.push(series, LAST) for series in "cabacb"]
        nice = self.push("a", 20)
        self.assertEqual(self.takeAll(), [nice, *relaxed])

    def test_Z24_doLastNeverOvertakes(self) -> None:
        """
        Nor after any number of dispatches does an item that is to go last.
        """
        self.makeSeat("a")
        last = self.push("a", LAST)
        self.pushAll(2, "a", 20)
        for _ in range(20_000):
            item = self.take()
            self.assertIsNot(item, last)
            self.push("a", 20)
        self.assertIs(self.takeAll()[-1], last)

    def test_P05_doNextIsChargedToNoLane(self) -> None:
        """
        What a series has had by doNext and doLast leaves it its share.
        """
        self.makeSeat("ab")
        self.pushAll(50, "a", NEXT)
        self.takeAll()
        self.pushAll(100, "a")
        self.pushAll(100, "b")
        self.assertEqual(Counter(item.series for item in self.takeAll(100)), {"a": 50, "b": 50})

    def test_T02_rerunsGoFirstInTheOrderOfSubmission(self) -> None:
        """
        Items that come back go before everything else, the oldest first, whichever came back first.
        """
        self.makeSeat("ab")
        items = [self.push(series) for series in "abab"]
        self.assertEqual(sorted(self.takeAll(), key=lambda item: item.ID), items)
        self.push("a", NEXT)
        self.push("b", -20)
        for item in (items[2], items[0], items[3], items[1]):
            self.backlog.push(item, RERUN)
        self.assertEqual(self.takeAll(4), items)

    def test_P06_putBack(self) -> None:
        """
        Items that have been taken in vain wait where they were, before what came after them, and not before others.
        """
        for band in (0, 10, NEXT, LAST, RERUN):
            self.makeSeat("a")
            items = self.pushAll(6, "a", band)
            self.assertEqual(self.takeAll(4), items[:4])
            for item in (items[3], items[1], items[2]):
                self.backlog.putBack(item, band)
            urgent = self.push("a", -20)
            expected = [*items[1:], urgent] if band in (NEXT, RERUN) else [urgent, *items[1:]]
            self.assertEqual(self.takeAll(), expected)
            self.assertEqual(self.backlog.waiting, 0)

    def test_P06_putBackWhenNothingWaits(self) -> None:
        """
        So it is when they were the last: who comes then finds them there, and is not behind them for what they had.
        """
        self.makeSeat("a")
        items = self.pushAll(50, "a", 10)
        self.takeAll()
        for item in reversed(items):
            self.backlog.putBack(item, 10)
        urgent = self.push("a", -20)
        self.assertEqual(self.takeAll(), [urgent, *items])

    def test_P06_putBackIsNotCharged(self) -> None:
        """
        A series keeps its share that has been given much, and given it back.
        """
        self.makeSeat("ab")
        items = self.pushAll(100, "a")
        self.takeAll()
        self.pushAll(100, "b")
        for item in reversed(items):
            self.backlog.putBack(item, 0)
        self.assertEqual(Counter(item.series for item in self.takeAll(100)), {"a": 50, "b": 50})

    def test_F16_aloneNeedsAnIdleSeat(self) -> None:
        """
        An item that is to run alone goes only to a seat that holds nothing, before re-runs.
        """
        seat = self.makeSeat()
        seat.held = 1
        self.backlog.withdraw(seat)
        self.backlog.offer(seat)
        alone = self.push(None, ALONE)
        self.push(None, RERUN)
        self.assertIsNone(self.take())
        seat.held = 0
        self.backlog.offer(seat)
        self.assertIs(self.take(), alone)


class LaneTests(BacklogTestCase):
    """
    What stands in lanes.
    """

    def test_P04_orderOfSubmissionInALane(self) -> None:
        """
        Also when items have left from the head, the middle and the end.
        """
        self.makeSeat("a")
        items = self.pushAll(200, "a")
        random = Random(4)
        gone = set(random.sample(range(200), 120)) | {0, 1, 199}
        for number in sorted(gone, key=lambda _: random.random()):
            self.backlog.discard(items[number])
        self.assertEqual(self.backlog.waiting, 200 - len(gone))
        self.assertEqual(self.takeAll(), [item for number, item in enumerate(items) if number not in gone])

    def test_F80_discardedItemIsNeverTaken(self) -> None:
        """
        And leaves no lane behind; discarding it again does nothing.
        """
        item = self.push("a")
        self.backlog.discard(item)
        self.backlog.discard(item)
        self.assertEqual(self.backlog.waiting, 0)
        self.assertEqual(list(self.backlog.lanes()), [])
        self.makeSeat("a")
        self.assertIsNone(self.take())

    def test_T13_lanesAreRemovedAtOnce(self) -> None:
        """
        Whole lanes leave, with the number of items in them, and others stay.
        """
        self.makeSeat("ab")
        items = self.pushAll(10, "a", 0) + self.pushAll(5, "a", NEXT)
        self.backlog.discard(items[3])
        kept = self.pushAll(3, "b")
        self.assertEqual(self.backlog.remove(self.backlog.lanesOf("a")), 14)
        self.assertEqual(self.backlog.waiting, 3)
        self.assertEqual(self.backlog.lanesOf("a"), [])
        self.assertEqual(self.takeAll(), kept)
        self.assertEqual(self.backlog.remove(list(self.backlog.lanes())), 0)

    def test_N15_ahead(self) -> None:
        """
        What stands before an item in its lane is counted.
        """
        first, second, third = self.pushAll(3, "a")
        self.assertEqual([self.backlog.ahead(item) for item in (first, second, third)], [0, 1, 2])
        self.backlog.discard(second)
        self.assertEqual(self.backlog.ahead(third), 1)
        self.assertEqual(self.backlog.ahead(second), 0)


class MatchTests(BacklogTestCase):
    """
    Which seat gets an item.
    """

    def test_P13_unservedSeriesDelaysNobody(self) -> None:
        """
        Items that nobody can serve stand apart, and are told of.
        """
        self.makeSeat("a")
        parked = [*self.pushAll(3, "nobody", -20), self.push("nobody", NEXT)]
        served = self.pushAll(3, "a", 20)
        self.assertEqual(self.takeAll(), served)
        self.assertEqual(self.backlog.waiting, 4)
        self.assertEqual({lane.family.series for lane in self.backlog.unserved()}, {"nobody"})
        self.assertFalse(self.backlog.isServed("nobody"))
        self.assertTrue(self.backlog.isServed("a"))
        self.makeSeat(["nobody"])
        self.assertEqual({item.ID for item in self.takeAll()}, {item.ID for item in parked})

    def test_P12_everySeatServesTheSeriesNone(self) -> None:
        """
        And no other that it is not qualified for.
        """
        item = self.push(None)
        other = self.push("a")
        seat = self.makeSeat()
        self.assertEqual(self.backlog.match(), (seat, item))
        self.backlog.offer(seat)
        self.assertIsNone(self.backlog.match())
        self.backlog.seat(seat, frozenset("a"))
        self.backlog.offer(seat)
        self.assertEqual(self.backlog.match(), (seat, other))

    def test_P12_qualificationsMayShrink(self) -> None:
        """
        A seat that is seated anew without a series does not serve it any more.
        """
        seat = self.makeSeat("a")
        self.push("a")
        self.backlog.seat(seat, frozenset())
        self.backlog.offer(seat)
        self.assertIsNone(self.backlog.match())
        self.assertEqual(len(self.backlog.unserved()), 1)

    def test_P14_longestIdleFirst(self) -> None:
        """
        Of the seats that could serve, the one that has had room longest does, over all qualifications.
        """
        first, second, third = self.makeSeat("ab"), self.makeSeat("a"), self.makeSeat("abc")
        self.pushAll(3, "a")
        seats = [pair[0] for pair in iter(self.backlog.match, None) if pair is not None]
        self.assertEqual(seats, [first, second, third])
        for seat in (third, first, second):
            self.backlog.offer(seat)
        self.pushAll(3, None)
        seats = [pair[0] for pair in iter(self.backlog.match, None) if pair is not None]
        self.assertEqual(seats, [third, first, second])

    def test_P14_idleBeforeBusy(self) -> None:
        """
        A seat that holds nothing goes before one that has room left.
        """
        busy = self.makeSeat(offered=False)
        busy.held = 1
        self.backlog.offer(busy)
        idle = self.makeSeat()
        self.push()
        self.push()
        pair = self.backlog.match()
        self.assertEqual(pair and pair[0], idle)
        pair = self.backlog.match()
        self.assertEqual(pair and pair[0], busy)
        self.assertIsNone(self.backlog.match())

    def test_Z13_nothingIsTakenWithoutASeat(self) -> None:
        """
        An item waits until there is room, so that a later one may still overtake it.
        """
        self.push(None, 0)
        seat = self.makeSeat(offered=False)
        self.assertIsNone(self.backlog.match())
        late = self.push(None, NEXT)
        self.backlog.offer(seat)
        self.backlog.offer(seat)
        self.assertEqual(self.backlog.match(), (seat, late))
        self.assertIsNone(self.backlog.match())

    def test_W02_unseatedSeatServesNoMore(self) -> None:
        """
        What waits is served by those who stay, or is parked.
        """
        seat, other = self.makeSeat("a"), self.makeSeat()
        self.push("a")
        item = self.push(None)
        self.backlog.unseat(seat)
        self.backlog.unseat(seat)
        self.assertEqual(self.backlog.match(), (other, item))
        self.assertIsNone(self.backlog.match())
        self.assertEqual(len(self.backlog.unserved()), 1)


class PinTests(BacklogTestCase):
    """
    A series whose items sit in the window of one seat.
    """

    def test_P04_pinnedSeriesGoesToItsSeatOnly(self) -> None:
        """
        Other series go anywhere, and the pinned one waits.
        """
        self.makeSeat("ab")
        holder = self.makeSeat("ab", offered=False)
        self.backlog.pin("a", holder)
        item = self.push("a")
        other = self.push("b")
        self.assertEqual(self.takeAll(), [other])
        self.backlog.offer(holder)
        self.assertEqual(self.backlog.match(), (holder, item))

    def test_P04_pinsAreCounted(self) -> None:
        """
        As many unpins as pins let the series go.
        """
        free = self.makeSeat("a")
        holder = self.makeSeat("a", offered=False)
        self.backlog.pin("a", holder)
        self.backlog.pin("a", holder)
        item = self.push("a")
        self.backlog.unpin("a", free)
        self.backlog.unpin("a", holder)
        self.assertIsNone(self.backlog.match())
        self.backlog.unpin("a", holder)
        self.assertEqual(self.backlog.match(), (free, item))
        self.backlog.unpin("a", holder)
        self.backlog.unpin("never pinned", holder)

    def test_P04_pinOfWhatWaitsAlready(self) -> None:
        """
        The lanes that wait are reserved, too, in all classes, with their order.
        """
        self.makeSeat("ab")
        holder = self.makeSeat("ab", offered=False)
        items = self.pushAll(3, "a")
        rushed = self.push("a", NEXT)
        self.backlog.pin("a", holder)
        self.assertIsNone(self.backlog.match())
        self.backlog.unpin("a", holder)
        self.assertEqual(self.takeAll(), [rushed, *items])

    def test_W02_leavingSeatLetsItsSeriesGo(self) -> None:
        """
        Lanes pinned to a seat that leaves are served by others.
        """
        free = self.makeSeat("a")
        holder = self.makeSeat("a", offered=False)
        self.backlog.pin("a", holder)
        item = self.push("a")
        self.backlog.unseat(holder)
        self.assertEqual(self.backlog.match(), (free, item))

    def test_P12_pinSurvivesAChangeOfTheGroups(self) -> None:
        """
        Seats that come and go, with new qualifications, leave a series where it is pinned.
        """
        holder = self.makeSeat("a", offered=False)
        self.backlog.pin("a", holder)
        items = self.pushAll(2, "a")
        comer = self.makeSeat("ab")
        self.assertIsNone(self.backlog.match())
        self.backlog.unseat(comer)
        self.backlog.offer(holder)
        self.assertEqual(self.takeAll(), items)

    def test_P12_holderOfAPinIsQualifiedForMore(self) -> None:
        """
        A seat that is seated with others, of more qualifications, keeps what is pinned to it.
        """
        self.makeSeat("a", offered=False)
        self.makeSeat("ab", offered=False)
        holder = self.makeSeat("a", offered=False)
        self.backlog.pin("a", holder)
        items = self.pushAll(2, "a")
        self.backlog.seat(holder, frozenset("ab"))
        self.backlog.offer(holder)
        self.assertEqual(self.takeAll(), items)

    def test_N02_nothingIsLostOrTakenTwice(self) -> None:
        """
        Whatever comes, goes, is pinned, requalified and discarded, each item leaves once.
        """
        for seed in range(150):
            with self.subTest(seed=seed):
                self.setUp()
                self._wander(Random(seed))

    def _wander(self, random: Random) -> None:
        series: list[Hashable] = [None, "a", "b", "c"]
        waiting: set[Item] = set()
        seats: dict[Seat, list[Hashable]] = {}
        for _ in range(200):
            act = random.randrange(10)
            if act < 4:
                band = random.choice([-20, -10, 0, 0, 0, 7, 20, NEXT, LAST, RERUN, ALONE])
                waiting.add(self.push(random.choice(series), band))
            elif act == 4 and waiting:
                item = random.choice(sorted(waiting, key=lambda item: item.ID))
                self.backlog.discard(item)
                waiting.remove(item)
            elif act == 5 or not seats:
                seat = self.makeSeat(random.sample("abc", random.randrange(4)))
                seats[seat] = []
            elif act == 6:
                seat = random.choice(list(seats))
                if random.random() < 0.5:
                    self.backlog.unseat(seat)
                    del seats[seat]
                else:
                    self.backlog.seat(seat, frozenset(random.sample("abc", random.randrange(4))))
                    self.backlog.offer(seat)
            elif act == 7:
                # As the dispatcher does it: a series is pinned to a seat that has just been given an item of it.
                pair = self.backlog.match()
                if pair is not None:
                    waiting.remove(pair[1])  # type: ignore[arg-type]
                    if pair[1].series is not None:
                        self.backlog.pin(pair[1].series, pair[0])
                        seats[pair[0]].append(pair[1].series)
                    self.backlog.offer(pair[0])
            elif act == 8:
                holders = [seat for seat, pins in seats.items() if pins]
                if holders:
                    holder = random.choice(holders)
                    self.backlog.unpin(seats[holder].pop(), holder)
            else:
                taken = self.take()
                if taken is not None:
                    waiting.remove(taken)
            self.assertEqual(self.backlog.waiting, len(waiting))
            self.assertEqual({item for lane in self.backlog.lanes() for item in lane}, waiting)
        for seat in seats:
            self.backlog.unseat(seat)
        self.makeSeat("abc")
        self.assertEqual(set(self.takeAll()), waiting)
        self.assertEqual(list(self.backlog.lanes()), [])


class WindowTests(SynchronousTestCase):
    """
    How many tasks a worker may hold.
    """

    def test_beginsWithOne(self) -> None:
        """
        Nothing is known of the calls yet.
        """
        self.assertEqual(Window().size, 1)

    def test_growsByDoubling(self) -> None:
        """
        While calls are short, up to the ceiling.
        """
        window = Window()
        sizes = []
        for _ in range(12):
            window.finished(window.size, 0.0)
            sizes.append(window.size)
        self.assertEqual(sizes, [min(2**number, CEILING) for number in range(1, 13)])

    def test_holdsNoMoreThanItsTarget(self) -> None:
        """
        A tenth of the target each: ten.
        """
        window = Window()
        for _ in range(10):
            window.finished(window.size, window.size * TARGET / 10.5)
        self.assertEqual(window.size, 10)

    def test_shrinksAtOnce(self) -> None:
        """
        A call that takes longer than the target travels alone.
        """
        for shrink in (lambda window: window.finished(1, 1.0), lambda window: window.stalled()):
            window = Window()
            for _ in range(8):
                window.finished(window.size, 0.0)
            shrink(window)
            self.assertEqual(window.size, 1)

    def test_reports(self) -> None:
        """
        The time that counts is that in which the worker had something; it is told when it has too much.
        """
        window = Window(1.5)
        self.assertFalse(window.reported(1, 0.0, 0), "nothing is known of how long it took")
        self.assertEqual((window.size, window.since), (1, None))
        window.since = 0.0
        for now in (0.0, 0.0, 0.0):
            self.assertFalse(window.reported(8, now, 8))
        self.assertEqual((window.size, window.since), (8, 0.0))
        self.assertFalse(window.reported(0, 1.0, 8), "nothing has finished")
        self.assertFalse(window.reported(2, 2.0, 1), "there is room for another one")
        self.assertEqual(window.size, 3)
        self.assertTrue(window.reported(1, 4.0, 1))
        self.assertEqual(window.size, 1)
        self.assertFalse(window.reported(1, 9.0, 0), "it is no smaller than before")
        self.assertIsNone(window.since)


class OrderTests(OrderTestCase):
    """
    The order in which a queue's calls are started.
    """

    def test_P04_seriesInOrder(self) -> None:
        """
        Calls of one series and niceness are started in the order of submission.
        """
        for number in range(50):
            self.add(number, series="a")
        self.assertEqual(self.served(), list(range(50)))

    def test_P05_doNextIsFifo(self) -> None:
        """
        Calls with doNext go in their order, before a deeply queued one at -20.
        """
        self.add("keen", niceness=-20)
        for number in range(6):
            self.add(number, doNext=True, series="ab"[number % 2])
        self.assertEqual(self.served(), [0, 1, 2, 3, 4, 5, "keen"])

    def test_P06_doLastIsFifo(self) -> None:
        """
        Calls with doLast go in their order, after one at 20.
        """
        for number in range(6):
            self.add(number, doLast=True, series="ab"[number % 2])
        self.add("nice", niceness=20)
        self.assertEqual(self.served(), ["nice", 0, 1, 2, 3, 4, 5])

    def test_P06_bothAreRefused(self) -> None:
        """
        A call cannot be first and last; nor is it queued.
        """
        with self.assertRaises(ValueError):
            self.queue.call(int, doNext=True, doLast=True)
        self.assertEqual(self.queue.statistics().submitted, 1)

    def test_P07_tiesInOrderOfSubmission(self) -> None:
        """
        Calls of the same standing go in their order.
        """
        for number in range(100):
            self.add(number)
        self.assertEqual(self.served(), list(range(100)))

    def test_P01_badNicenessIsRefused(self) -> None:
        """
        At the call, and nothing is queued.
        """
        for wrong in (21, -21, 0.5, True, "1", None):
            with self.assertRaises(ValueError):
                self.queue.call(int, niceness=wrong)
        self.assertEqual(self.queue.statistics().submitted, 1)

    def test_P02_rateOfTheQueue(self) -> None:
        """
        Of 90 calls started, those at 10 are half as many as those at 0.
        """
        for _ in range(100):
            self.add("fast", series="a", niceness=0)
            self.add("slow", series="b", niceness=10)
        self.worker.step(91)
        self.assertLessEqual(abs(self.order.count("fast") - 60), 1)

    def test_P08_priorityThroughOptions(self) -> None:
        """
        Priorities from 0, first, to 9.
        """
        for priority in (9, 5, 0, 4):
            self.queue.options(priority=priority, series="abcd"[priority % 4]).call(self.order.append, priority)
        self.assertEqual(self.served(), [0, 4, 5, 9])

    def test_P08_priorityIsNoReservedKeyword(self) -> None:
        """
        With call(), it is the function's own.
        """
        got = self.call(self.queue, dict, priority=3)
        self.worker.stepAll()
        self.assertValue(got, {"priority": 3})

    def test_P08_badPriorities(self) -> None:
        """
        Out of range, of the wrong type, or together with a niceness.
        """
        for wrong in ({"priority": 10}, {"priority": -1}, {"priority": True}, {"priority": 1, "niceness": 1}):
            with self.assertRaises(ValueError):
                self.queue.options(**wrong)

    def test_Z13_lateDoNextOvertakesWhatWaits(self) -> None:
        """
        Nothing is taken before a worker can have it.
        """
        self.add("first")
        self.add("next", doNext=True)
        self.assertEqual(self.served(), ["next", "first"])

    def test_Z26_rushedAndTiedInOrder(self) -> None:
        """
        Six calls with doNext, of one series, go in order.
        """
        for number in range(6):
            self.add(number, doNext=True)
        self.assertEqual(self.served(), [0, 1, 2, 3, 4, 5])

    def test_Z24_doLastAfterManyCalls(self) -> None:
        """
        A call with doLast waits, however many calls come after it.
        """
        self.add("last", doLast=True)
        for _ in range(2000):
            self.add("nice", niceness=20)
            self.worker.step()
        self.assertNotIn("last", self.order)
        self.assertEqual(self.served()[-1], "last")

    def test_Z25_idleSeriesGetsItsShareOnly(self) -> None:
        """
        A series that was idle takes turns with the one that was not.
        """
        self.add("b", series="b")
        self.worker.step(2)
        for _ in range(1000):
            self.add("a", series="a")
            self.worker.step()
        del self.order[:]
        for _ in range(50):
            self.add("b", series="b")
            self.add("a", series="a")
        self.worker.step(40)
        self.assertLessEqual(abs(self.order.count("b") - 20), 1)


class WorkerChoiceTests(QueueTestCase):
    """
    Which worker a queue gives a call to.
    """

    def test_P12_qualifications(self) -> None:
        """
        Any worker takes calls of series None; others need a qualification, of the class or the instance.
        """

        class Classy(MemoryWorker):
            cQualified = ["class"]

        plain, classy, instance = MemoryWorker(), Classy(), MemoryWorker(["instance"])
        queue = self.makeQueue(plain, classy, instance)
        self.call(queue, int, series="instance")
        self.call(queue, int, series="class")
        self.call(queue, int)
        self.assertEqual([len(worker.started) for worker in (plain, classy, instance)], [1, 1, 1])
        self.assertEqual(
            [worker.started[0].series for worker in (plain, classy, instance)], [None, "class", "instance"]
        )

    def test_P12_qualifyWorkerStartsWhatWaits(self) -> None:
        """
        At once; and a second time does nothing.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        waits = self.call(queue, int, series="a")
        self.assertEqual(worker.held, [])
        queue.qualifyWorker(worker, "a")
        queue.qualifyWorker(worker, "a")
        self.assertEqual(worker.iQualified, ["a"])
        worker.step()
        self.assertValue(waits, 0)

    def test_P12_qualifyWorkerOfAClass(self) -> None:
        """
        Qualifying a worker qualifies none of its class.
        """
        one, other = MemoryWorker(), MemoryWorker()
        queue = self.makeQueue(one, other)
        queue.qualifyWorker(1, "a")
        self.call(queue, int, series="a")
        self.call(queue, int, series="a")
        self.assertEqual((len(one.held), len(other.held)), (1, 0))

    def test_P12_qualifyWorkerErrors(self) -> None:
        """
        A worker that is not attached, and a series that cannot name one.
        """
        worker = MemoryWorker()
        queue = self.makeQueue(worker)
        with self.assertRaises(ValueError):
            queue.qualifyWorker(MemoryWorker(), "a")
        with self.assertRaises(TypeError):
            queue.qualifyWorker(worker, [])  # type: ignore[arg-type]
        self.assertEqual(worker.iQualified, [])

    def test_P13_seriesThatNobodyServesDelaysNoOther(self) -> None:
        """
        Its calls are parked; all others run, and it runs when somebody comes for it.
        """
        worker = MemoryWorker(["a"])
        queue = self.makeQueue(worker)
        parked = [self.call(queue, int, series="nobody", doNext=True) for _ in range(3)]
        others = [self.call(queue, int, series=series) for series in (None, "a") for _ in range(5)]
        worker.stepAll()
        for outcome in others:
            self.assertValue(outcome, 0)
        for outcome in parked:
            self.assertPending(outcome)
        self.assertEqual(queue.statistics().queued, 3)
        late = MemoryWorker(["nobody"])
        queue.attachWorker(late)
        late.stepAll()
        for outcome in parked:
            self.assertValue(outcome, 0)

    def test_P14_longestIdleWorkerFirst(self) -> None:
        """
        Workers take turns by how long they have been idle.
        """
        workers = [MemoryWorker() for _ in range(3)]
        queue = self.makeQueue(*workers)
        for worker in workers:
            self.call(queue, int)
            self.assertEqual(len(worker.held), 1)
        for worker in (workers[1], workers[2], workers[0]):
            worker.step()
        for worker in (workers[1], workers[2], workers[0]):
            self.call(queue, int)
            self.assertEqual(len(worker.held), 1)

    def test_Z15_threeSeriesOnThreeWorkers(self) -> None:
        """
        Each worker gets one of three calls.
        """
        workers = [MemoryWorker("abc") for _ in range(3)]
        queue = self.makeQueue(*workers)
        for series in "abc":
            self.call(queue, int, series=series)
        self.assertEqual([len(worker.held) for worker in workers], [1, 1, 1])

    def test_Z13_busyWorkerOfASeriesDelaysNoOther(self) -> None:
        """
        A series whose only worker is busy stands back for one whose worker is free.
        """
        one, other = MemoryWorker("a"), MemoryWorker("b")
        queue = self.makeQueue(one, other)
        self.call(queue, int, series="a")
        self.call(queue, int, series="a", doNext=True)
        self.call(queue, int, series="b", niceness=20)
        self.assertEqual([task.series for task in other.held], ["b"])

    def test_N06_wakingLaneIsServedInTurn(self) -> None:
        """
        A call that any worker may take does not wait behind a backlog of one worker's own series, just because another
        worker has been busy with other things before.
        """
        one, other = MemoryWorker("a"), MemoryWorker("b")
        queue = self.makeQueue(one, other)
        for _ in range(500):
            self.call(queue, int, series="b")
        other.step(499)
        for _ in range(300):
            self.call(queue, int, series="a")
        anywhere = self.call(queue, int)
        one.step(10)
        self.assertValue(anywhere, 0)


class LookAheadTests(QueueTestCase):
    """
    Workers that hold more than they have started.
    """

    def test_P04_seriesStaysWithItsWorker(self) -> None:
        """
        Calls of a series are not started elsewhere while one of it waits in a worker's window.
        """
        ahead, other = ManagedMemoryWorker("a", capacity=3), ManagedMemoryWorker("a", capacity=1)
        queue = self.makeQueue(ahead, other)
        blocked = self.call(queue, int, series="blocker")
        queue.qualifyWorker(other, "blocker")
        for number in range(5):
            self.call(queue, int, number, series="a")
        other.step()
        self.assertValue(blocked, 0)
        self.assertEqual(len(ahead.held), 3)
        self.assertEqual(other.held, [])

    def test_P04_seriesStaysWithItsWorkerWhenAnotherComes(self) -> None:
        """
        A worker that is attached later gets nothing of a series either, of which calls wait in another's window.
        """
        ahead = ManagedMemoryWorker("a", capacity=3)
        queue = self.makeQueue(ahead)
        for number in range(4):
            self.call(queue, int, number, series="a")
        self.assertEqual(len(ahead.held), 3)
        comer = ManagedMemoryWorker("a")
        queue.attachWorker(comer)
        self.assertEqual([task.callTuple[1] for task in comer.held], [])

    def test_P04_pinEndsWhenItsCallsHaveStarted(self) -> None:
        """
        Once the last call of a series in the window has started, others may run the next one.
        """
        ahead, other = ManagedMemoryWorker("ab", capacity=2), ManagedMemoryWorker("ab")
        queue = self.makeQueue(ahead, other)
        for _ in range(3):
            self.call(queue, int, series="b")
        # Each has one, and the third of the series is in the first worker's window.
        self.assertEqual((len(ahead.held), len(other.held)), (2, 1))
        self.call(queue, int, series="b")
        other.step()
        self.assertEqual(len(other.held), 0)
        ahead.step()
        self.assertEqual(len(ahead.held) + len(other.held), 2)

    def test_P13_seriesWhoseCallHasStartedIsFree(self) -> None:
        """
        A worker that is attached while a long call of a series runs elsewhere takes the next one of that series.
        """
        long: Deferred[None] = Deferred()
        queue = self.makeQueue(AsyncWorker(["a"], reactor=self.clock))
        running = self.call(queue, lambda: long, series="a")
        waiting = self.call(queue, int, series="a")
        self.turn()
        queue.attachWorker(AsyncWorker(["a"], reactor=self.clock))
        self.turn()
        self.assertPending(running)
        self.assertValue(waiting, 0)
        long.callback(None)

    def test_P04_stalledWindowIsRecalled(self) -> None:
        """
        What a worker has not started for some milliseconds is given to one that is idle.
        """
        ahead, other = ManagedMemoryWorker("a", capacity=2), ManagedMemoryWorker("b")
        queue = self.makeQueue(ahead, other)
        self.call(queue, int)
        self.call(queue, int, series="b")
        self.call(queue, int, series="a")
        waiting = self.call(queue, int, series="a")
        self.assertEqual(len(ahead.held), 2)
        ahead.capacity = 1
        queue.qualifyWorker(other, "a")
        other.step()
        for _ in range(5):
            self.clock.advance(0.01)
        self.assertGreaterEqual(len(ahead.recalled), 1)
        other.stepAll()
        self.assertValue(waiting, 0)

    def test_T01_recallCostsNothing(self) -> None:
        """
        A call that was recalled has had no attempt, and its timeout does not run while it waits.
        """
        worker = ManagedMemoryWorker(capacity=2)
        queue = self.makeQueue(worker)
        self.call(queue, int)
        waiting = self.call(queue, int, timeout=5)
        worker.capacity = 1
        self.clock.advance(0.01)
        self.clock.advance(0.01)
        self.assertEqual(len(worker.recalled), 1)
        self.clock.advance(60)
        self.assertPending(waiting)
        worker.stepAll()
        self.assertValue(waiting, 0)
        self.assertEqual(queue.statistics().reruns, 0)

    def test_T01_recalledCallLeavesNoTimer(self) -> None:
        """
        A call with a timeout that was recalled, and then has its result, leaves no timer behind.
        """
        worker = ManagedMemoryWorker(capacity=2)
        queue = self.makeQueue(worker)
        self.call(queue, int)
        waiting = self.call(queue, int, timeout=5)
        worker.capacity = 1
        self.clock.advance(0.01)
        self.clock.advance(0.01)
        worker.stepAll()
        self.assertValue(waiting, 0)
        self.shutDown(queue)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_P12_holderOfAWindowIsQualifiedForMore(self) -> None:
        """
        A worker that is qualified for more while calls of a series wait in its window goes on with them.
        """
        second, third = ManagedMemoryWorker("a"), ManagedMemoryWorker("ab")
        queue = self.makeQueue(second, third)
        for _ in range(2):
            self.call(queue, int)
        ahead = ManagedMemoryWorker("a", capacity=2)
        queue.attachWorker(ahead)
        calls = [self.call(queue, int, series="a") for _ in range(4)]
        self.assertEqual(len(ahead.held), 2)
        queue.qualifyWorker(ahead, "b")
        ahead.stepAll()
        for worker in (second, third):
            worker.stepAll()
        for outcome in calls:
            self.assertValue(outcome, 0)

    def test_C05_updatesOfASeriesInTheWindowOfANewWorker(self) -> None:
        """
        Updates of a series that wait in the window of a worker that is not attached yet keep nobody from that series.
        """
        first, comer = ManagedMemoryWorker("a"), ManagedMemoryWorker("a", capacity=3)
        queue = self.makeQueue(first)
        queue.update(int, series="a")
        queue.update(int, series="a")
        first.stepAll()
        queue.attachWorker(comer)
        self.assertEqual(len(comer.held), 2)
        ordinary = self.call(queue, int, series="a")
        comer.stepAll()
        first.stepAll()
        self.assertValue(ordinary, 0)
