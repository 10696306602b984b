"""
The command line of the demo: C{python -m demo --workers process:cores}.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from demo.survey import InterruptPolicy
from demo.workers import BadWorkers, describeKinds, parseWorkers

if TYPE_CHECKING:
    from demo.program import Settings

NEEDS_RICH = "The demo shows its progress with rich, which is not installed. Get it with: pip install 'asynqueue[cli]'"


def makeParser() -> argparse.ArgumentParser:
    """
    Describe the options.
    """
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Survey the Python sources of this interpreter's standard library with asynqueue.",
    )
    parser.add_argument(
        "--workers",
        default="process:cores",
        metavar="KIND:COUNT",
        help=f"which workers to use, separated by commas; the kinds are {describeKinds()} (default: %(default)s)",
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="take the first N files only (default: all)")
    parser.add_argument(
        "--top", type=_positive, default=10, metavar="N", help="show the N most complex modules (default: %(default)s)"
    )
    parser.add_argument(
        "--no-baseline",
        dest="baseline",
        action="store_false",
        help="do not measure how long the same takes one by one",
    )
    parser.add_argument(
        "--interrupt-policy",
        choices=[policy.value for policy in InterruptPolicy],
        default=InterruptPolicy.CANCEL.value,
        help="what the first Ctrl-C does to calls that are queued: drop them, or go on with them for up to ten seconds "
        "(default: %(default)s); the second one ends the program at once",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the demo.

    @return: The exit code, if the reactor has not been started. Otherwise it is raised as C{SystemExit}.
    """
    parser = makeParser()
    options = parser.parse_args(arguments)
    try:
        workers = parseWorkers(options.workers)
    except BadWorkers as error:
        parser.error(str(error))
    try:
        from demo.program import Settings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        print(NEEDS_RICH, file=sys.stderr)
        return 2
    runInReactor(
        Settings(
            workers=workers,
            limit=options.limit,
            top=options.top,
            baseline=options.baseline,
            policy=InterruptPolicy(options.interrupt_policy),
        )
    )


def runInReactor(settings: Settings) -> NoReturn:
    """
    Start the reactor for one run of the program.
    """
    from twisted.internet import task

    from demo.display import makeConsole
    from demo.program import Program

    async def run(reactor: object) -> None:
        exitCode = await Program(reactor, settings, makeConsole()).run()
        if exitCode:
            raise SystemExit(exitCode)

    task.react(run)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before the reactor was there to hear of it
        sys.exit(130)
