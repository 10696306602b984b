"""
What calls in child processes are compared with, and the goals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from bench.rows import Compare, Goal, Group, Quantity, Row, Table, Value
from bench.run import Case, Subject

#: How many turns long measurements have, at most.
LONG_REPEATS = 3

#: How long, in seconds, the reactor may be blocked.
SHORT_TURN = Goal(atMost=0.02, ofRatio=False)

#: How long, in seconds, a mix of calls may take in which one takes a second.
NEARLY_IDEAL = Goal(atMost=1.05, ofRatio=False)

#: How much memory a child may have to itself, in bytes.
SMALL = Goal(atMost=20 << 20, ofRatio=False)

NET = " (without collector)"


@frozen
class Counts:
    """
    How many calls are made in child processes, and how many items come from them.

    @ivar latency: Calls one at a time.
    @ivar burst: Calls queued at once.
    @ivar ancestral: As many as AsynQueue 0.9.9 stands, most of the time.
    @ivar added: Calls, by how many milliseconds each takes.
    @ivar spins: Calls of 10 milliseconds.
    @ivar tiny: Calls beside a long one.
    @ivar items: Items from a generator.
    @ivar mapped: Items of a map.
    @ivar queued: Calls queued while the turns of the reactor are watched.
    @ivar argument: Bytes of a long argument.
    @ivar orphaned: Calls queued when all children die.
    @ivar starts: How often to start a child.
    """

    latency: int
    burst: int
    ancestral: int
    added: dict[int, int]
    spins: int
    tiny: int
    items: int
    mapped: int
    queued: int
    argument: int
    orphaned: int
    starts: int


FULL = Counts(
    latency=3_000,
    burst=30_000,
    ancestral=200,
    added={1: 200, 10: 50, 100: 10, 1_000: 3},
    spins=200,
    tiny=1_000,
    items=100_000,
    mapped=1_000_000,
    queued=100_000,
    argument=32 << 20,
    orphaned=20_000,
    starts=10,
)
QUICK = Counts(
    latency=300,
    burst=2_000,
    ancestral=100,
    added={1: 20, 10: 5, 100: 1},
    spins=40,
    tiny=200,
    items=5_000,
    mapped=20_000,
    queued=5_000,
    argument=2 << 20,
    orphaned=2_000,
    starts=2,
)


def _ours(workers: int = 1) -> Subject:
    return _subject("asynqueue", "bench.processes", workers)


def _executor(workers: int = 1) -> Subject:
    return _subject("ProcessPoolExecutor", "bench.pools", workers)


def _pool(workers: int = 1) -> Subject:
    return _subject("Pool", "bench.pools", workers)


def _installed(name: str, workers: int) -> Subject:
    return Subject(name, ("-m", "bench.pools", "--workers", str(workers)), isPeer=True)


def _subject(name: str, module: str, workers: int) -> Subject:
    return Subject(name, ("-m", module, "--workers", str(workers)))


def _ancestor(workers: int = 1) -> Subject:
    # Isolated, so that it finds neither this library nor this package.
    return Subject("AsynQueue 0.9.9", ("-I", "bench/ancestorprocesses.py", "--workers", str(workers)), isPeer=True)


FLOOR = Subject("floor", ("-m", "bench.pipefloor"))


def processes(counts: Counts, repeats: int) -> Iterator[Group]:
    """
    Compare calls in child processes.
    """
    yield Group(repeats, (_latency(counts), _start(counts)))
    yield Group(repeats, (_burst(counts, 1), _burst(counts, 2)))
    yield Group(min(repeats, LONG_REPEATS), (_added(counts),))
    yield Group(repeats, (_spins(counts), _mix(counts)))
    yield Group(repeats, (_items(counts),))
    yield Group(min(repeats, LONG_REPEATS), (_mapped(counts),))
    yield Group(min(repeats, LONG_REPEATS), (_blocks(counts),))
    yield Group(min(repeats, LONG_REPEATS), (_turns(counts), _memory(counts)))


def _latency(counts: Counts) -> Table:
    ours = Value(Case(_ours(), "latency", counts.latency), "perCall")
    peers = (
        (_executor(), "executorLatency", "submit().result()", 0.5),
        (_pool(), "poolLatency", "apply", 0.75),
        (FLOOR, "latency", "", 1.3),
    )
    rows = [
        Row(
            "one at a time",
            ours,
            Value(Case(subject, measurement, counts.latency), "perCall"),
            ".".join(filter(None, (subject.name, how))),
            goal=Goal(atMost=most),
        )
        for subject, measurement, how, most in peers
    ]
    return Table("Process worker, one trivial call at a time: median time of a call", rows)


def _start(counts: Counts) -> Table:
    ours = Value(Case(_ours(), "start", counts.starts), "total")
    bare = Value(Case(FLOOR, "start", counts.starts), "total")
    row = Row("first result of ProcessQueue(1)", ours, bare, "python -c pass", goal=Goal(atMost=2.5))
    return Table("A cold start, everything imported", (row,))


def _burst(counts: Counts, workers: int) -> Table:
    ours = Value(Case(_ours(workers), "burst", counts.burst, 3), "perCall")
    # It takes ten times as long as the others.
    executor = Value(Case(_executor(workers), "executorBurst", counts.burst // 3), "perCall")
    pool = Value(Case(_pool(workers), "poolBurst", counts.burst, 3), "perCall")
    few = Value(Case(_ours(workers), "burst", counts.ancestral), "perCall")
    ancestor = Value(Case(_ancestor(workers), "burst", counts.ancestral), "perCall")
    peers: Sequence[tuple[str, Value, Value, str, float]] = (
        ("in a burst", ours, executor, executor.case.subject.name, 4),
        ("in a burst", ours, pool, "Pool.apply_async", 2),
        ("in a burst", ours, ancestor, f"AsynQueue 0.9.9, {counts.ancestral}", 8),
        (f"in a burst of {counts.ancestral}", few, ancestor, f"AsynQueue 0.9.9, {counts.ancestral}", 8),
    )
    rows = [
        Row(title, value, other, name, compare=Compare.RATE, goal=Goal(atLeast=least))
        for title, value, other, name, least in peers
    ]
    title = f"Process worker, {counts.burst:,} trivial calls in a burst, workers: {workers}: time per call"
    return Table(title, rows)


def _added(counts: Counts) -> Table:
    rows = []
    for milliseconds, often in counts.added.items():
        ours, executor, ancestor = (
            Value(Case(subject, measurement, milliseconds, often), "added")
            for subject, measurement in ((_ours(), "added"), (_executor(), "executorAdded"), (_ancestor(), "added"))
        )
        title = f"added to {milliseconds:,} ms"
        rows += [
            Row(title, ours, executor, executor.case.subject.name, goal=Goal(atMost=1)),
            Row(title, ours, ancestor, ancestor.case.subject.name),
        ]
    return Table("Process worker, calls that sleep, one at a time: median of the time added", rows)


def _spins(counts: Counts) -> Table:
    count = counts.spins
    ours = Value(Case(_ours(2), "spins", count), "total")
    peers = (
        (_executor(2), "executorSpins"),
        (_installed("pebble", 2), "pebbleSpins"),
        (_installed("joblib", 2), "joblibSpins"),
    )
    rows = [
        _compared("all of them", ours, Value(Case(subject, name, count), "total"), Goal(atMost=1))
        for subject, name in peers
    ]
    return Table(f"Two workers, {count} calls that spin for 10 ms (ideal: {count * 5} ms)", rows)


def _mix(counts: Counts) -> Table:
    rows = []
    for title, name in (("the long one first", "MixFirst"), ("the long one in the midst", "MixAmong")):
        ours = Value(Case(_ours(2), name[0].lower() + name[1:], counts.tiny), "total")
        executor = Value(Case(_executor(2), "executor" + name, counts.tiny), "total")
        rows.append(_compared(title, ours, executor, NEARLY_IDEAL))
    return Table(f"Two workers, {counts.tiny:,} tiny calls and one of 1 s (ideal: 1 s)", rows)


def _items(counts: Counts) -> Table:
    count = counts.items
    imap = Value(Case(_pool(), "poolImap", count), "perItem")
    ways = (
        ("async for", "byAsyncFor", "byDeferreds", "for d in"),
        ("consumer=", "byConsumer", "byConsumer", "consumer="),
        ("for d in deferator: yield d", "byDeferreds", "byDeferreds", "for d in"),
    )
    rows = []
    for title, way, ancestral, how in ways:
        ours = Value(Case(_ours(), way, count, 3), "perItem")
        # The sum of what it takes is what counts, and it takes fifty times as long.
        ancestor = Value(Case(_ancestor(), ancestral, count // 10), "perItem")
        rows += [
            Row(title, ours, other, name, Quantity.RATE, Compare.RATE, Goal(atLeast=least))
            for other, name, least in (
                (ancestor, f"AsynQueue 0.9.9, {how}", 40),
                (imap, "Pool.imap(chunksize=64)", 0.3),
            )
        ]
    return Table(f"Process worker, {count:,} items from a generator: items in a second", rows)


def _mapped(counts: Counts) -> Table:
    rows = []
    for workers in (1, 2):
        ours, joblib, imap = (
            Value(Case(subject, measurement, counts.mapped), "perItem")
            for subject, measurement in (
                (_ours(workers), "map"),
                (_installed("joblib", workers), "joblibMap"),
                (_pool(workers), "poolImap"),
            )
        )
        if workers > 1:  # with one, joblib starts no process
            rows.append(_mapRow(f"{workers} workers", ours, joblib, "joblib", 1))
        rows.append(_mapRow(f"{workers} workers", ours, imap, "Pool.imap(chunksize=64)", 0.5))
    return Table(f"queue.map of a trivial function over {counts.mapped:,} numbers, collected: items in a second", rows)


def _mapRow(title: str, ours: Value, other: Value, name: str, least: float) -> Row:
    return Row(title, ours, other, name, Quantity.RATE, Compare.RATE, Goal(atLeast=least))


def _blocks(counts: Counts) -> Table:
    rows = []
    for size in (1 << 20, counts.argument):
        ours, pool = (
            Value(Case(subject, measurement, size, 9), "perMiB")
            for subject, measurement in ((_ours(), "blocks"), (_pool(), "poolBlocks"))
        )
        rows.append(Row(f"{size >> 20} MiB", ours, pool, "Pool.apply", Quantity.RATE, Compare.RATE))
    return Table("Process worker, an array there and back, one way and the other: MiB in a second", rows)


def _turns(counts: Counts) -> Table:
    kinds = (
        (f"{counts.queued:,} calls queued and settled", "queuedTurn", counts.queued, 2, SHORT_TURN),
        (f"an argument of {counts.argument >> 20} MiB", "argumentTurn", counts.argument, 1, SHORT_TURN),
        (f"a result of {counts.argument >> 20} MiB", "resultTurn", counts.argument, 1, None),
        (f"both children killed amid {counts.orphaned:,} calls", "deathTurn", counts.orphaned, 2, SHORT_TURN),
    )
    rows = [
        Row(title + suffix, Value(Case(_ours(workers), name, count), "longestTurn" + ending), None, "", goal=goal)
        for title, name, count, workers, goal in kinds
        for ending, suffix in (("", ""), ("Net", NET))
    ]
    return Table("Process workers, the longest turn of the reactor", rows)


def _memory(counts: Counts) -> Table:
    rows = [
        Row(title, Value(Case(_ours(), "memory", 20), figure), None, "", Quantity.BYTES, goal=SMALL)
        for title, figure in (("shared with no other process", "private"), ("in no file", "anonymous"))
    ]
    return Table("A child that has nothing to do: its own memory", rows)


def _compared(title: str, ours: Value, other: Value, goal: Goal) -> Row:
    return Row(title, ours, other, other.case.subject.name, goal=goal)
