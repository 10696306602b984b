"""
The report at the end: tables of what was found and of who did it, and a comparison of times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from demo.baseline import Baseline
from demo.rows import ROWS_A_TURN, FileReport, Place
from demo.summary import rankByBranches, summarise
from demo.survey import SurveyResult
from demo.tally import SeriesCount, WorkerCount


def renderSurvey(result: SurveyResult, top: int) -> Iterator[RenderableType]:
    """
    Show what a survey found.

    @param top: How many of the most complex modules to show.
    """
    found = summarise(result.reports)
    yield (
        f"{found.files:,} files: {found.lines:,} lines ({found.codeLines:,} with code, {found.commentLines:,} with "
        f"comments), {found.tokens:,} tokens, {found.functions:,} functions, {found.branches:,} branches."
    )
    ranked = rankByBranches(result.reports)[:top]
    if ranked:
        yield complexModules(ranked)
    if result.longest:
        yield longestFunctions(result.longest[:top])
    problems = [report for report in result.reports if report.problem is not None]
    if problems:
        yield unparsableFiles(problems)
    yield callsPerWorker(result.workers)
    yield callsPerSeries(result.series)
    yield from describeShares(result.contested)
    yield from describeRows(result)


def complexModules(reports: Sequence[FileReport]) -> Table:
    """
    Tabulate modules, with the most complex function of each. On a narrow terminal, names are cut.
    """
    table = _table(f"The {_number(len(reports), 'module')} with the most branches")
    _addNames(table, "module")
    _addFigures(table, "lines", "functions", "branches")
    _addNames(table, "most complex function")
    _addFigures(table, "complexity")
    for report in reports:
        function = report.mostComplex
        table.add_row(
            escape(report.name),
            f"{report.lines:,}",
            f"{report.functions:,}",
            f"{report.branches:,}",
            "" if function is None else escape(function.name),
            "" if function is None else f"{function.complexity:,}",
        )
    return table


def longestFunctions(places: Sequence[Place]) -> Table:
    """
    Tabulate the longest functions.
    """
    table = _table(f"The {_number(len(places), 'longest function')}")
    _addNames(table, "module", "function")
    _addFigures(table, "lines", "complexity")
    for place in places:
        function = place.function
        table.add_row(escape(place.file), escape(function.name), f"{function.lines:,}", f"{function.complexity:,}")
    return table


def unparsableFiles(reports: Sequence[FileReport]) -> Table:
    """
    Tabulate the files that could not be measured, with the reasons.
    """
    table = _table(f"{_number(len(reports), 'file')} could not be measured")
    table.add_column("file", overflow="fold")
    table.add_column("problem", overflow="fold")
    for report in reports:
        table.add_row(escape(report.name), escape(report.problem or ""))
    return table


def callsPerWorker(workers: Sequence[WorkerCount]) -> Table:
    """
    Tabulate what each worker did.
    """
    table = _table("Calls per worker")
    _addNames(table, "worker")
    _addFigures(table, "calls")
    for worker in workers:
        table.add_row(f"{escape(worker.kind)} {worker.number}", f"{worker.finished:,}")
    return table


def callsPerSeries(series: Sequence[SeriesCount]) -> Table:
    """
    Tabulate what became of the calls of each series.
    """
    table = _table("Calls per series")
    _addNames(table, "calls for", "series")
    _addFigures(table, "niceness", "submitted", "finished", "last after")
    for count in series:
        table.add_row(
            count.lane.name,
            str(count.lane.series),
            "doNext" if count.lane.niceness is None else str(count.lane.niceness),
            f"{count.submitted:,}",
            f"{count.finished:,}",
            f"{count.lastAfter:.1f} s" if count.finished else "",
        )
    return table


def describeShares(contested: tuple[int, int]) -> Iterator[str]:
    """
    Say how the turns were shared while both the library and the tests had calls waiting.
    """
    library, tests = contested
    if library and tests:
        yield (
            f"While both had files waiting, {library:,} of the library's and {tests:,} of the tests' were measured: "
            f"{library / tests:.2f} to 1. Ten steps of niceness make it 2 to 1."
        )


def describeRows(result: SurveyResult) -> Iterator[str]:
    """
    Say how the rows came.
    """
    if result.rows:
        yield (
            f"The calls are generators: {_number(result.rows, 'row')} of functions and files came from them through "
            f"consumers that take {ROWS_A_TURN} of a file in a turn of the reactor. No generator was ever more than "
            f"{_number(result.lead, 'row')} ahead of the one that was being taken."
        )


def describeTime(result: SurveyResult, pause: float) -> Iterator[str]:
    """
    Say how long the survey took.

    @param pause: The longest time, in seconds, for which the reactor was kept from its work.
    """
    yield f"The survey took {result.seconds:.2f} s; the reactor never had to wait longer than {pause * 1000:.0f} ms."


def describeComparison(result: SurveyResult, baseline: Baseline, explanation: str) -> Iterator[str]:
    """
    Compare the time of a survey with that of the same work done one by one.

    @param explanation: What to expect of the workers that were used.
    """
    if not baseline.complete:
        yield f"One by one: stopped after {len(baseline.reports):,} files and {baseline.seconds:.2f} s; no comparison."
        return
    yield (
        f"The same files one by one, in this process and after the survey, so that they were read from the cache: "
        f"{baseline.seconds:.2f} s."
    )
    if result.seconds > 0:
        ratio = baseline.seconds / result.seconds
        yield f"That is {ratio:.2f} times the survey's time; above 1, the workers were faster. {explanation}"
    if sorted(baseline.reports, key=lambda report: report.name) != list(result.reports):
        yield "The two did not find the same, so a file changed in between or a call failed."


def describeInterruption(result: SurveyResult) -> Iterator[str]:
    """
    Say what an interrupted survey left.
    """
    total = len(result.reports) + len(result.left)
    yield f"Interrupted: {len(result.reports):,} of {total:,} files were measured, {len(result.left):,} were left."
    if result.left:
        names = [source.name for source in result.left[:3]]
        more = ", …" if len(result.left) > len(names) else ""
        yield f"Left were {', '.join(names)}{more}"


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )


def _addNames(table: Table, *headings: str) -> None:
    # A name is one word, so it is cut where there is no room for it, while `no_wrap` would take room from the figures.
    for heading in headings:
        table.add_column(heading, overflow="ellipsis")


def _addFigures(table: Table, *headings: str) -> None:
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
