"""
The report: tables of medians, ratios and spreads, beside the goals.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from bench.figures import Spread, ratios
from bench.rows import Compare, Goal, Quantity, Row, Value
from bench.rows import Table as TableOfRows
from bench.run import Sample, Samples

_TIMES_SIGN = "\N{MULTIPLICATION SIGN}"

#: Below which number of seconds a time is shown in which unit.
_UNITS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))


def renderTable(table: TableOfRows, samples: Samples, judge: bool) -> Table:
    """
    Show what has been measured for some rows.

    @param judge: Whether to say which goals have been met; they are for the full sizes.
    """
    shown = Table(title=escape(table.title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for heading in ("", "asynqueue", "compared with", "its figure", "ratio", "spread", "goal", "reached"):
        isFigure = heading in ("asynqueue", "its figure", "ratio", "spread", "goal")
        shown.add_column(heading, justify="right" if isFigure else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in _cells(row, samples, judge)))
    return shown


def _cells(row: Row, samples: Samples, judge: bool) -> Iterator[str]:
    compared = comparison(row, samples)
    yield row.title
    yield _median(row.ours, samples, row.quantity)
    yield row.otherName
    yield "" if row.other is None else _median(row.other, samples, row.quantity)
    word = "its cost" if row.compare is Compare.COST else "its rate"
    yield "" if compared is None else f"{compared.median:.2f} {_TIMES_SIGN} {word}"
    judged = _judged(row, samples)
    if judged is None:
        yield from ("", "", "")
        return
    if row.goal is not None and not row.goal.ofRatio:
        yield " - ".join(_shown(figure, row.quantity) for figure in (judged.low, judged.high))
    else:
        yield f"{judged.low:.2f} - {judged.high:.2f}"
    yield "" if row.goal is None else _goal(row.goal, row.quantity)
    yield verdict(row.goal, judged) if judge and row.goal is not None else ""


def comparison(row: Row, samples: Samples) -> Spread | None:
    """
    Return the ratios of a row, or C{None} if there is nothing to compare, or one of the two could not be measured.
    """
    if row.other is None:
        return None
    ours, other = _figures(row.ours, samples), _figures(row.other, samples)
    found = ratios(ours, other) if row.compare is Compare.COST else ratios(other, ours)
    return Spread.of(found) if found else None


def _judged(row: Row, samples: Samples) -> Spread | None:
    """
    Return what the goal of a row is about: its ratio, or the figure.
    """
    if row.goal is None or row.goal.ofRatio:
        return comparison(row, samples)
    return _spread(row.ours, samples)


def _figures(value: Value, samples: Samples) -> list[float | None]:
    return [sample.figures.get(value.figure) for sample in samples[value.case]]


def _spread(value: Value, samples: Samples) -> Spread | None:
    found = [figure for figure in _figures(value, samples) if figure is not None]
    return Spread.of(found) if found else None


def _median(value: Value, samples: Samples, quantity: Quantity) -> str:
    spread = _spread(value, samples)
    if spread is None:
        return _problem(samples[value.case])
    return _shown(spread.median, quantity)


def _problem(samples: Iterable[Sample]) -> str:
    return next((sample.problem for sample in samples if sample.problem), "not measured")


def _shown(figure: float, quantity: Quantity) -> str:
    if quantity is Quantity.BYTES:
        return f"{figure:,.0f} B"
    if quantity is Quantity.COUNT:
        return f"{figure:,.0f}"
    if quantity is Quantity.RATE:
        return f"{1 / figure:,.0f}/s"
    for limit, factor, unit in _UNITS:
        if abs(figure) < limit:
            return f"{figure * factor:.3g} {unit}" if figure * factor < 1000 else f"{figure * factor:.0f} {unit}"
    raise AssertionError("every figure is below infinity")


def _goal(goal: Goal, quantity: Quantity) -> str:
    limit, sign = (goal.atMost, "≤") if goal.atMost is not None else (goal.atLeast, "≥")
    assert limit is not None
    return f"{sign} {limit:g}" if goal.ofRatio else f"{sign} {_shown(limit, quantity)}"


def verdict(goal: Goal, spread: Spread) -> str:
    """
    Say whether a goal is met by the median, and whether that is beyond doubt.
    """
    word = "met" if goal.isMetBy(spread.median) else "missed"
    isClear = goal.isMetBy(spread.low) == goal.isMetBy(spread.high)
    return word if isClear else f"{word}, in doubt"


def environment() -> dict[str, Any]:
    """
    Tell what was measured, and where.
    """
    return {
        "asynqueue": version("asynqueue"),
        "Twisted": version("Twisted"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def describeEnvironment() -> str:
    """
    Tell the same in a line.
    """
    facts = environment()
    return (
        f"asynqueue {facts['asynqueue']}, Twisted {facts['Twisted']}, {facts['python']}, {facts['system']}, "
        f"{facts['cores']} cores"
    )


def asJSON(tables: Iterable[tuple[TableOfRows, Samples]]) -> dict[str, Any]:
    """
    Return everything that has been measured, for a file.
    """
    return {
        "environment": environment(),
        "rows": [
            {
                "table": table.title,
                "title": row.title,
                "ours": _valueAsJSON(row.ours, samples),
                "other": None if row.other is None else {"name": row.otherName, **_valueAsJSON(row.other, samples)},
                "compare": row.compare.value,
                "ratio": _spreadAsJSON(comparison(row, samples)),
                "goal": None if row.goal is None else _goal(row.goal, row.quantity),
            }
            for table, samples in tables
            for row in table.rows
        ],
    }


def _valueAsJSON(value: Value, samples: Samples) -> dict[str, Any]:
    case = value.case
    return {
        "subject": case.subject.name,
        "measurement": case.measurement,
        "count": case.count,
        "rounds": case.rounds,
        "figure": value.figure,
        "samples": [
            {"problem": sample.problem} if sample.problem else dict(sample.figures) for sample in samples[case]
        ],
    }


def _spreadAsJSON(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {"median": spread.median, "low": spread.low, "high": spread.high}
