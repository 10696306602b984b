"""
What a comparison is made of: figures, goals, rows, tables, and groups of what takes turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from attrs import frozen

from bench.run import Case


class Quantity(Enum):
    """
    What a figure is, which says how it is shown.

    @cvar TIME: Seconds.
    @cvar RATE: Seconds for one thing, shown as how many there are in a second.
    @cvar BYTES: Bytes.
    @cvar COUNT: A number of things.
    """

    TIME = "time"
    RATE = "rate"
    BYTES = "bytes"
    COUNT = "count"


class Compare(Enum):
    """
    How a figure is compared with that of another subject.

    @cvar COST: How many times as much this library takes.
    @cvar RATE: How many times as fast it is.
    """

    COST = "cost"
    RATE = "rate"


@frozen
class Goal:
    """
    What is to be reached.

    @ivar atMost: The most that the ratio, or else the figure itself, may be.
    @ivar atLeast: The least that it must be.
    @ivar ofRatio: Whether it is the ratio that counts.
    """

    atMost: float | None = None
    atLeast: float | None = None
    ofRatio: bool = True

    def isMetBy(self, value: float) -> bool:
        """
        Tell whether a value reaches the goal.
        """
        if self.atMost is not None and value > self.atMost:
            return False
        return self.atLeast is None or value >= self.atLeast


@frozen
class Value:
    """
    One figure of a case.
    """

    case: Case
    figure: str


@frozen
class Row:
    """
    One line of the report.

    @ivar title: What is measured.
    @ivar ours: The figure of this library.
    @ivar other: The figure that it is compared with, if any.
    @ivar otherName: What the report calls that.
    """

    title: str
    ours: Value
    other: Value | None
    otherName: str
    quantity: Quantity = Quantity.TIME
    compare: Compare = Compare.COST
    goal: Goal | None = None


@frozen
class Table:
    """
    Rows that belong together in the report.
    """

    title: str
    rows: Sequence[Row]


@frozen
class Group:
    """
    Measurements that take turns, and what becomes of them.

    @ivar repeats: How many turns there are.
    """

    repeats: int
    tables: Sequence[Table]

    def cases(self) -> list[Case]:
        """
        Return the measurements that the rows need.
        """
        values = [value for table in self.tables for row in table.rows for value in (row.other, row.ours)]
        return list(dict.fromkeys(value.case for value in values if value is not None))
