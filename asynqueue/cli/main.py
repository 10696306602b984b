"""
The command C{asynqueue}: finds the subcommand, runs it, and says what went wrong in one line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from asynqueue.cli import doctor, keys, ping, worker
from asynqueue.cli.options import as_options
from asynqueue.cli.terminal import CommandError, Terminal, one_line
from asynqueue.errors import AsynQueueError

#: The exit code of a command that could not do what it was asked for. Wrong arguments have argparse's own, 2.
FAILED = 1


def build_parser() -> argparse.ArgumentParser:
    """
    Return the parser of all arguments.
    """
    parser = argparse.ArgumentParser(prog="asynqueue", description="Queues of calls, and workers on other machines.")
    parser.add_argument("--version", action="version", version=f"asynqueue {_version()}")
    subcommands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    keys.add_parser(subcommands)
    worker.add_parser(subcommands)
    ping.add_parser(subcommands)
    doctor.add_parser(subcommands)
    return parser


def _version() -> str:
    try:
        return version("asynqueue")
    except PackageNotFoundError:
        return "of a checkout that is not installed"


def main(arguments: Sequence[str] | None = None, terminal: Terminal | None = None) -> int:
    """
    Run the command.

    @param arguments: Those after its name, instead of those of the process.
    @param terminal: Where its output goes, instead of those of the process.
    @return: The exit code.
    """
    terminal = Terminal() if terminal is None else terminal
    parsed = build_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace, Terminal], int] = parsed.run
    try:
        return run(parsed, terminal)
    except (AsynQueueError, CommandError, ImportError, OSError, ValueError) as error:
        terminal.errors.write(f"asynqueue: {one_line(as_options(_text_of(error)))}\n")
        return FAILED


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        # Nobody needs to know the number.
        return f"{error.filename}: {error.strerror}"
    return str(error)
