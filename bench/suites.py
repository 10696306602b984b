"""
What is compared with what, and the goals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from bench import processrows, wirerows
from bench.rows import Compare, Goal, Group, Quantity, Row, Table, Value
from bench.run import Case, Subject

OURS = Subject("asynqueue", ("-m", "bench.ours"))
STREAMS = Subject("asynqueue", ("-m", "bench.streams"))
FLOOR = Subject("floor", ("-m", "bench.floor"))
POOL_OF_ONE = Subject("deferToThreadPool, 1 thread", ("-m", "bench.peers", "--threads", "1"))
POOL_OF_TEN = Subject("deferToThreadPool, 10 threads", ("-m", "bench.peers", "--threads", "10"))
EXECUTOR = Subject("ThreadPoolExecutor, 1 thread", ("-m", "bench.peers", "--threads", "1"))
# Isolated, so that it finds neither this library nor this package.
ANCESTOR = Subject("AsynQueue 0.9.9", ("-I", "bench/ancestor.py"), isPeer=True)


@frozen
class Sizes:
    """
    How many calls are made, and how many items come from generators.

    @ivar burst: Calls queued at once.
    @ivar latency: Calls one at a time.
    @ivar backlog: Backlogs that are compared with one another, the least first.
    @ivar held: Calls queued to see how much memory they take.
    @ivar settled: Calls queued to see whether all of them are settled.
    @ivar items: Items of a stream that is read as fast as possible.
    @ivar slow: Items of a stream that is read slowly.
    @ivar left: Streams that are left before their ends.
    """

    burst: int
    latency: int
    backlog: tuple[int, ...]
    held: int
    settled: int
    items: int
    slow: int
    left: int


FULL = Sizes(
    burst=30_000,
    latency=3_000,
    backlog=(10_000, 100_000, 1_000_000),
    held=100_000,
    settled=10_000,
    items=50_000,
    slow=1_000_000,
    left=1_000,
)
QUICK = Sizes(
    burst=2_000,
    latency=300,
    backlog=(1_000, 10_000, 50_000),
    held=10_000,
    settled=1_000,
    items=5_000,
    slow=20_000,
    left=100,
)

#: How many calls, at most, a process makes in rounds where a single round is short.
ROUNDS_OF = 120_000

#: How many turns long measurements have, at most, and those that are still longer.
LONG_REPEATS = 3
LONGEST_REPEATS = 2

#: How much memory a queued call may take, in bytes.
SMALL = Goal(atMost=1024, ofRatio=False)

#: By how much the memory may grow, in bytes, while a stream is read.
FLAT = Goal(atMost=1 << 20, ofRatio=False)

#: How many items a generator may be ahead of its reader.
NEAR = Goal(atMost=16, ofRatio=False)

#: How long, in seconds, the reactor may be blocked.
SHORT_TURN = Goal(atMost=0.05, ofRatio=False)

#: What is added to a title for figures from which the collector's time has been taken.
NET = " (without collector)"


def rounds(count: int, of: int = ROUNDS_OF) -> int:
    """
    Return how many rounds of calls to make, of a number of calls each.
    """
    return max(1, min(10, of // count))


def reactor(sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Compare calls in the reactor worker.
    """
    count = sizes.burst
    ours, floor, ancestor = (Case(each, "burst", count, rounds(count)) for each in (OURS, FLOOR, ANCESTOR))
    rows: Sequence[Row] = (
        _compared("in a burst", Value(ours, "perCall"), Value(floor, "perCall"), goal=Goal(atMost=3)),
        _compared("in a burst" + NET, Value(ours, "perCallNet"), Value(floor, "perCallNet")),
        _compared(
            "in a burst", Value(ours, "perCall"), Value(ancestor, "perCall"), compare=Compare.RATE, goal=Goal(atLeast=2)
        ),
    )
    yield Group(repeats, (Table(f"Reactor worker, {count:,} calls in a burst: processor time per call", rows),))

    ours, floor, ancestor = (Case(each, "latency", sizes.latency) for each in (OURS, FLOOR, ANCESTOR))
    rows = (
        _compared("one at a time (floor: callLater)", Value(ours, "perCall"), Value(floor, "perCall")),
        _compared("one at a time", Value(ours, "perCall"), Value(ancestor, "perCall")),
    )
    yield Group(repeats, (Table("Reactor worker, one call at a time: median time of a call", rows),))


def threads(sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Compare calls in a thread worker.
    """
    count = sizes.latency
    ours = Value(Case(OURS, "threadLatency", count), "perCall")
    peers: Sequence[tuple[Subject, str, Goal | None]] = (
        (POOL_OF_ONE, "poolLatency", Goal(atMost=1)),
        (POOL_OF_TEN, "poolLatency", Goal(atMost=1)),
        (EXECUTOR, "executorLatency", None),
        (ANCESTOR, "threadLatency", None),
    )
    rows = [
        _compared("one at a time", ours, Value(Case(subject, measurement, count), "perCall"), goal=goal)
        for subject, measurement, goal in peers
    ]
    yield Group(repeats, (Table("Thread worker, one call at a time: median time of a call", rows),))

    count = sizes.burst
    often = rounds(count, of=2 * count)
    ours = Value(Case(OURS, "threadBurst", count, often), "perCall")
    peers = (
        (POOL_OF_ONE, "poolBurst", Goal(atLeast=2.5)),
        (POOL_OF_TEN, "poolBurst", Goal(atLeast=2.5)),
        (EXECUTOR, "executorBurst", Goal(atLeast=1)),
        (ANCESTOR, "threadBurst", Goal(atLeast=6)),
    )
    rows = [
        _compared(
            "in a burst",
            ours,
            Value(Case(subject, measurement, count, often), "perCall"),
            compare=Compare.RATE,
            goal=goal,
        )
        for subject, measurement, goal in peers
    ]
    yield Group(repeats, (Table(f"Thread worker, {count:,} calls in a burst: time per call", rows),))


def backlog(sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Measure what many waiting calls cost.
    """
    yield Group(min(repeats, LONG_REPEATS), (_backlogTimes(sizes), _backlogMemory(sizes)))
    yield Group(min(repeats, LONGEST_REPEATS), (_backlogTurns(sizes.backlog[-1]),))
    yield Group(1, (_unhandled(sizes.backlog[-1]), _heldMemory(sizes.held), _settled(sizes.settled)))


def _bursts(subject: Subject, sizes: Sizes) -> list[Case]:
    return [Case(subject, "burst", size, rounds(size)) for size in sizes.backlog]


def _backlogTimes(sizes: Sizes) -> Table:
    ours, floor = _bursts(OURS, sizes), _bursts(FLOOR, sizes)
    least, most = sizes.backlog[0], sizes.backlog[-1]
    figures = (("perCall", ""), ("perCallNet", NET))
    rows = [
        _compared(f"{size:,}{suffix}", Value(each, figure), Value(bare, figure))
        for figure, suffix in figures
        for size, each, bare in zip(sizes.backlog, ours, floor, strict=True)
    ]
    rows += [
        Row(
            f"{title} from {least:,} to {most:,}{suffix}",
            Value(cases[-1], figure),
            Value(cases[0], figure),
            f"{cases[0].subject.name}, {least:,}",
            goal=goal,
        )
        for title, cases, goal in (("growth", ours, Goal(atMost=1.3)), ("the floor's growth", floor, None))
        for figure, suffix in figures
    ]
    return Table("Reactor worker, backlogs: processor time per call, queued and settled", rows)


def _backlogMemory(sizes: Sizes) -> Table:
    rows = [
        _compared(
            f"{size:,} in the reactor worker",
            Value(ours, "bytesPerCall"),
            Value(floor, "bytesPerCall"),
            quantity=Quantity.BYTES,
            goal=SMALL,
        )
        for size, ours, floor in zip(sizes.backlog, _bursts(OURS, sizes), _bursts(FLOOR, sizes), strict=True)
    ]
    return Table("Memory per queued call", rows)


def _backlogTurns(count: int) -> Table:
    """
    Compare how long the reactor is blocked.
    """
    drained, bareDrained = Case(OURS, "drain", count), Case(FLOOR, "drain", count)
    kinds = (("longest turn, queueing", "queueTurn"), ("longest turn, settling", "drainTurn"))
    rows = [
        _compared(title + suffix, Value(drained, figure + ending), Value(bareDrained, figure + ending), goal=SHORT_TURN)
        for title, figure in kinds
        for ending, suffix in (("", ""), ("Net", NET))
    ]
    rows += _cancelled("cancel", count)
    return Table(f"Reactor worker, a backlog of {count:,}", rows)


def _cancelled(measurement: str, count: int) -> list[Row]:
    ours, floor = Case(OURS, measurement, count), Case(FLOOR, measurement, count)
    kinds = (
        ("cancelling them all, processor time", "total", Goal(atMost=5, ofRatio=False)),
        ("longest turn, cancelling", "cancelTurn", SHORT_TURN),
    )
    return [
        _compared(title + suffix, Value(ours, figure + ending), Value(floor, figure + ending), goal=goal)
        for title, figure, goal in kinds
        for ending, suffix in (("", ""), ("Net", NET))
    ]


def _unhandled(count: int) -> Table:
    """
    See what it costs that nobody takes the failures, so that all of them are alive at once.
    """
    title = f"Reactor worker, a backlog of {count:,} Deferreds without errbacks, which keep their failures"
    return Table(title, _cancelled("cancelUnhandled", count))


def _heldMemory(count: int) -> Table:
    kinds = (
        ("reactor", Case(OURS, "burst", count, rounds(count)), Case(ANCESTOR, "memory", count)),
        ("thread", Case(OURS, "threadMemory", count), Case(POOL_OF_ONE, "poolMemory", count)),
        ("thread", Case(OURS, "threadMemory", count), Case(EXECUTOR, "executorMemory", count)),
    )
    rows = [
        _compared(
            f"{count:,} in the {where} worker",
            Value(ours, "bytesPerCall"),
            Value(peer, "bytesPerCall"),
            quantity=Quantity.BYTES,
            goal=SMALL,
        )
        for where, ours, peer in kinds
    ]
    return Table("Memory per queued call, peers", rows)


def _settled(count: int) -> Table:
    """
    See whether all is settled in the end.
    """
    rows = [
        _compared(title, Value(Case(OURS, name, count), "total"), Value(Case(ANCESTOR, name, count), "total"))
        for title, name in (("run", "drain"), ("cancelled", "cancel"))
    ]
    return Table(f"Reactor worker, {count:,} calls queued behind one that takes its time: time until settled", rows)


def streams(sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Compare items that come from a generator, and see what becomes of streams that are read slowly, or left.
    """
    count = sizes.items
    yield Group(
        repeats,
        (
            Table(
                f"Reactor worker, {count:,} items from a generator: items in a second of processor time",
                _read(count, "by", ("readDeferreds", "read", "read"), Goal(atLeast=3)),
            ),
            Table(
                f"Thread worker, {count:,} items from a generator: items in a second",
                _read(count, "threadBy", ("readFromThread",) * 3, Goal(atLeast=10)),
            ),
        ),
    )
    yield Group(min(repeats, LONG_REPEATS), (_readSlowly(sizes.slow), _left(sizes.left)))


def _read(count: int, prefix: str, floors: Sequence[str], goal: Goal) -> list[Row]:
    """
    Compare each way of reading with that of the ancestor that is nearest to it, and with the floor.
    """
    ways = (
        ("for d in deferator: yield d", "Deferreds", "Deferreds", "for d in"),
        ("async for", "AsyncFor", "Deferreds", "for d in"),
        ("consumer=", "Consumer", "Consumer", "consumer="),
    )
    often = rounds(count, of=3 * count)
    rows = []
    for (title, way, ancestral, how), bare in zip(ways, floors, strict=True):
        ours, ancestor, floor = (
            Value(Case(subject, measurement, count, often), "perItem")
            for subject, measurement in ((STREAMS, prefix + way), (ANCESTOR, prefix + ancestral), (FLOOR, bare))
        )
        name = f"{ANCESTOR.name}, {how}"
        rows.append(Row(title, ours, ancestor, name, Quantity.RATE, compare=Compare.RATE, goal=goal))
        rows.append(_compared(title, ours, floor, quantity=Quantity.RATE))
    return rows


def _readSlowly(count: int) -> Table:
    rows = []
    for where, measurement in (("reactor", "slowly"), ("thread", "threadSlowly")):
        case = Case(STREAMS, measurement, count)
        rows += [
            _alone(f"{where} worker, memory grown at most", Value(case, "grown"), Quantity.BYTES, FLAT),
            _alone(f"{where} worker, generator ahead at most", Value(case, "lead"), Quantity.COUNT, NEAR),
            _alone(f"{where} worker, items in a second", Value(case, "perItem"), Quantity.RATE),
        ]
    return Table(f"{count:,} items to a consumer that pauses in each turn of the reactor", rows)


def _left(count: int) -> Table:
    """
    See whether all is cleared up.
    """
    all_, none = Goal(atLeast=count, ofRatio=False), Goal(atMost=0, ofRatio=False)
    rows = []
    for where, measurement in (("reactor", "left"), ("thread", "threadLeft")):
        case = Case(STREAMS, measurement, count)
        rows += [
            _alone(f"{where} worker, generators closed", Value(case, "closed"), Quantity.COUNT, all_),
            _alone(f"{where} worker, threads left", Value(case, "threads"), Quantity.COUNT, none),
            _alone(f"{where} worker, time until then", Value(case, "total"), Quantity.TIME),
        ]
    return Table(f"{count:,} endless streams left at random points, in all the ways there are", rows)


def _alone(title: str, ours: Value, quantity: Quantity, goal: Goal | None = None) -> Row:
    return Row(title, ours, None, "", quantity, goal=goal)


def _compared(
    title: str,
    ours: Value,
    other: Value,
    quantity: Quantity = Quantity.TIME,
    compare: Compare = Compare.COST,
    goal: Goal | None = None,
) -> Row:
    return Row(title, ours, other, other.case.subject.name, quantity, compare, goal)


def processes(sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Compare calls in child processes.
    """
    yield from processrows.processes(processrows.QUICK if sizes is QUICK else processrows.FULL, repeats)


def wire(sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Compare calls at a wire server.
    """
    yield from wirerows.wire(wirerows.QUICK if sizes is QUICK else wirerows.FULL, repeats)


#: What C{--only} may name.
SUITES = {
    "reactor": reactor,
    "threads": threads,
    "backlog": backlog,
    "streams": streams,
    "processes": processes,
    "wire": wire,
}


def chosen(names: Sequence[str], sizes: Sizes, repeats: int) -> Iterator[Group]:
    """
    Iterate over the groups of suites.
    """
    for name in names:
        yield from SUITES[name](sizes, repeats)
