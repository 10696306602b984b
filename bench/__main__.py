"""
The command line of the benchmarks: C{python -m bench --only reactor --repeats 9}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from rich.console import Console

from bench.report import asJSON, describeEnvironment, renderTable
from bench.rows import Table
from bench.run import PEERS_PYTHON, Case, Samples, takeTurns
from bench.suites import ANCESTOR, FULL, QUICK, SUITES, chosen

#: How wide the tables are where the output is no terminal, in characters.
WIDTH = 150

EXPLANATION = """\
Figures are medians. A ratio is the median of the ratios within each turn; the spread is the least and the greatest, of
the ratio, or of the figure if the goal is about that. "In doubt" is what the spread does not bear out.

"Without collector" is the same measurement, less the time that CPython's cyclic garbage collector took in it, which
grows with all that is alive in the process. Where everything happens in one thread that never waits, processor time is
the time on the wall, less what other processes took. All other times are those on the wall, turns of the reactor too.

The floor is one object, one push onto a heap and one pop, and one Deferred made and fired. AsynQueue 0.9.9 runs a call
before call() returns if its reactor worker is idle, so it queues nothing in a burst; this library never does that.

The floor of a stream is the bare generator in a loop; with "yield d", a fired Deferred for each item; from a thread,
batches of 16 items by callFromThread. AsynQueue 0.9.9 has no "async for", which is compared with its "for d in".

The floor of a call in a process is a pickled frame from a reactor to a loop in a child, and one back. What AsynQueue
0.9.9 could not settle is left out of its figures: it loses calls of bursts, even of short ones in some turns. Times
added are above what the function itself took by its own clock. Other pools have their processes as they start them by
default, and no reactor."""


class Arguments(argparse.Namespace):
    """
    What the command line asked for.
    """

    only: list[str] | None
    repeats: int
    quick: bool
    json: Path | None
    peers: Path


def makeParser() -> argparse.ArgumentParser:
    """
    Describe the options.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure asynqueue against the bare floor and its peers."
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(SUITES), help="measure this alone; may be given more than once"
    )
    parser.add_argument(
        "--repeats",
        type=_positive,
        default=5,
        metavar="N",
        help="how often to make each measurement; the longest two or three times at most (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="small numbers of calls, to see that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured into a file, too")
    parser.add_argument(
        "--peers",
        type=Path,
        default=PEERS_PYTHON,
        metavar="PYTHON",
        help="the interpreter that has AsynQueue 0.9.9 installed (default: the one that `make bench` makes)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the benchmarks.

    @return: The exit code: 1 if something could not be measured, AsynQueue 0.9.9 apart.
    """
    chosenOptions = makeParser().parse_args(arguments, namespace=Arguments())
    names = chosenOptions.only or list(SUITES)
    sizes = QUICK if chosenOptions.quick else FULL
    output = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    start = perf_counter()
    output.print(describeEnvironment())
    measured: list[tuple[Table, Samples]] = []
    for group in chosen(names, sizes, chosenOptions.repeats):
        samples = takeTurns(group.cases(), group.repeats, chosenOptions.peers, _showTurn)
        _showProgress("")
        for table in group.tables:
            measured.append((table, samples))
            output.print(renderTable(table, samples, judge=not chosenOptions.quick))
    output.print(EXPLANATION, highlight=False)
    if chosenOptions.quick:
        output.print("This was a quick run: the goals are for larger numbers of calls.")
    output.print(f"Measured in {perf_counter() - start:.0f} s.")
    if chosenOptions.json is not None:
        chosenOptions.json.write_text(json.dumps(asJSON(measured), indent=2) + "\n", encoding="utf-8")
    return int(any(_isIncomplete(samples) for _, samples in measured))


def _showTurn(turn: int, case: Case) -> None:
    _showProgress(f"turn {turn}: {case.subject.name}, {case.measurement} {case.count:,}")


def _showProgress(text: str) -> None:
    """
    Show a line that the next one takes the place of, if somebody is watching.
    """
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def _isIncomplete(samples: Samples) -> bool:
    return any(
        sample.problem for case, taken in samples.items() for sample in taken if case.subject.name != ANCESTOR.name
    )


if __name__ == "__main__":
    sys.exit(main())
