"""
What calls at a wire server are compared with, and the goals.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from bench.rows import Compare, Goal, Group, Quantity, Row, Table, Value
from bench.run import Case, Subject

OURS = Subject("asynqueue", ("-m", "bench.wire"))
# Isolated, so that it finds neither this library nor this package.
ANCESTOR = Subject("AsynQueue 0.9.9", ("-I", "bench/ancestorwire.py"), isPeer=True)
EXECUTOR = Subject("ProcessPoolExecutor", ("-m", "bench.pools"))


@frozen
class Counts:
    """
    How much goes over connections.

    @ivar latency: Calls one at a time.
    @ivar burst: Calls queued at once.
    @ivar items: Items from a generator.
    @ivar blocks: How often a block goes there and back, by its length.
    @ivar spins: Calls of 10 milliseconds.
    """

    latency: int
    burst: int
    items: int
    blocks: dict[int, int]
    spins: int


FULL = Counts(2_000, 30_000, 100_000, {64 << 10: 200, 1 << 20: 40, 32 << 20: 6}, 200)
QUICK = Counts(200, 2_000, 5_000, {64 << 10: 20, 1 << 20: 5}, 40)


def wire(counts: Counts, repeats: int) -> Iterator[Group]:
    """
    Compare calls at a wire server.
    """
    yield Group(repeats, (_calls(counts), _items(counts)))
    yield Group(repeats, (_blocks(counts), _spins(counts)))


def _calls(counts: Counts) -> Table:
    latency, ancestral = (Value(Case(each, "latency", counts.latency), "perCall") for each in (OURS, ANCESTOR))
    burst = Value(Case(OURS, "burst", counts.burst, 3), "perCall")
    # It takes ten times as long.
    ancestor = Value(Case(ANCESTOR, "burst", counts.burst // 10), "perCall")
    tls = Value(Case(OURS, "tlsBurst", counts.burst, 3), "perCall")
    rows = (
        Row("one at a time", latency, ancestral, ANCESTOR.name, goal=Goal(atMost=0.85)),
        Row("in a burst", burst, ancestor, ANCESTOR.name, compare=Compare.RATE, goal=Goal(atLeast=10)),
        Row("in a burst, by TLS", tls, burst, "unix socket", compare=Compare.RATE, goal=Goal(atLeast=0.7)),
    )
    return Table("Wire worker, trivial calls over a unix socket: time of a call", rows)


def _items(counts: Counts) -> Table:
    rows = []
    for title, way, ancestral, how in (
        ("async for", "byAsyncFor", "byDeferreds", "for d in"),
        ("consumer=", "byConsumer", "byConsumer", "consumer="),
        ("for d in deferator: yield d", "byDeferreds", "byDeferreds", "for d in"),
    ):
        ours = Value(Case(OURS, way, counts.items, 3), "perItem")
        ancestor = Value(Case(ANCESTOR, ancestral, counts.items // 50), "perItem")
        name = f"{ANCESTOR.name}, {how}"
        rows.append(Row(title, ours, ancestor, name, Quantity.RATE, Compare.RATE, Goal(atLeast=40)))
    return Table(f"Wire worker, {counts.items:,} items from a generator: items in a second", rows)


def _blocks(counts: Counts) -> Table:
    rows = []
    for size, often in counts.blocks.items():
        title = f"{size >> 10:,} KiB" if size < 1 << 20 else f"{size >> 20} MiB"
        ours = Value(Case(OURS, "echo", size, often), "perMiB")
        executor = Value(Case(EXECUTOR, "executorBlocks", size, often), "perMiB")
        rows.append(Row(title, ours, executor, EXECUTOR.name, Quantity.RATE, Compare.RATE, Goal(atLeast=1)))
    return Table("Wire worker, a block of bytes there and back: MiB in a second", rows)


def _spins(counts: Counts) -> Table:
    ideal = counts.spins * 0.005
    ours = Value(Case(OURS, "spins", counts.spins), "total")
    row = Row("all of them", ours, None, "", goal=Goal(atMost=ideal / 0.95, ofRatio=False))
    return Table(
        f"A node with two child processes, {counts.spins} calls that spin for 10 ms (ideal: {ideal:g} s)", (row,)
    )
