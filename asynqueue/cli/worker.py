"""
C{asynqueue worker}: runs calls that come over connections, until it is told to end.

The first SIGTERM or SIGINT has it tell its callers to go elsewhere, and wait for the calls that are under way; the
second one ends it at once.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from zope.interface import provider

from asynqueue.cli.reactor import INTERRUPTED, run_in_reactor
from asynqueue.cli.terminal import CommandError
from asynqueue.errors import AsynQueueError
from asynqueue.wire.switches import SWITCHES

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from asynqueue.cli.terminal import Terminal
    from asynqueue.service.choices import Workers

#: The levels of what is logged, on standard error.
LEVELS = ("debug", "info", "warn", "error", "critical")


def add_parser(subcommands: Any) -> None:
    """
    Add the parser of C{asynqueue worker}.
    """
    parser = subcommands.add_parser(
        "worker", help="run calls that come over connections", description=__doc__.splitlines()[0]
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--listen",
        required=True,
        metavar="DESCRIPTION",
        help="where to listen, such as unix:/run/user/1000/asynqueue/queue or aqtls:8700:interface=192.0.2.1",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default="process:cores",
        metavar="KIND:N",
        help="what runs the calls: thread:N, process:N, or both with a comma between them; N is a number or 'cores';"
        " 'reactor' for calls that do not block (%(default)s)",
    )
    parser.add_argument("--universe", metavar="NAME", help="the full name of a WireWorkerUniverse, or of its class")
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module whose functions are exposed; may be given again",
    )
    parser.add_argument(
        "--serializer", default="plain", metavar="NAME", help="how values travel: plain, json or msgpack (%(default)s)"
    )
    parser.add_argument(
        "--pickles",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether callers with the role 'code' send pickles, and any function (by default over unix: only)",
    )
    parser.add_argument("--name", help="what the node calls itself, instead of the name of the host")
    parser.add_argument(
        "--grace", type=float, default=25.0, metavar="SECONDS", help="how long calls may take at the end (%(default)s)"
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", metavar="LEVEL", help=f"{', '.join(LEVELS)} (%(default)s)"
    )
    add_switches(parser)


def add_switches(parser: argparse.ArgumentParser, *names: str) -> None:
    """
    Add switches that permit what is refused by default: all, unless some are named.
    """
    for name in names or SWITCHES:
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=f"permit {SWITCHES[name]}")


def _workers(text: str) -> Workers:
    from asynqueue.service.choices import parseWorkers

    try:
        return parseWorkers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(parsed: argparse.Namespace, terminal: Terminal) -> int:
    _begin_logging(terminal, parsed.log_level)
    code = run_in_reactor(lambda reactor: serve(reactor, parsed, terminal))
    # A signal that comes before this program hears signals by itself asks it to end, as later ones do.
    return 0 if code == INTERRUPTED else code


def _begin_logging(terminal: Terminal, level: str) -> None:
    from twisted.logger import (
        FilteringLogObserver,
        ILogFilterPredicate,
        LogEvent,
        LogLevel,
        LogLevelFilterPredicate,
        PredicateResult,
        globalLogBeginner,
        textFileLogObserver,
    )

    @provider(ILogFilterPredicate)
    def no_farewell(event: LogEvent) -> Any:
        # Twisted logs it whenever its reactor ends: before the line that says why it did.
        texts = (event.get("log_format"), *(event.get("message") or ()))
        return PredicateResult.no if "Main loop terminated." in texts else PredicateResult.maybe

    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.lookupByName(level))
    observer = FilteringLogObserver(textFileLogObserver(terminal.errors), [no_farewell, predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


async def serve(reactor: Any, parsed: argparse.Namespace, terminal: Terminal) -> int:
    """
    Serve until a signal says that it is enough.

    @return: The exit code.
    """
    from twisted.internet.error import CannotListenError

    from asynqueue.service.choices import Choices
    from asynqueue.service.nodeservice import NodeService
    from asynqueue.service.notices import Notices
    from asynqueue.wire.signals import enoughOf

    enough = enoughOf(reactor)
    failures: list[Failure] = []
    choices = Choices(
        listen=parsed.listen,
        workers=parsed.workers,
        universe=parsed.universe,
        modules=tuple(parsed.modules),
        serializer=parsed.serializer,
        pickles=parsed.pickles,
        name=parsed.name,
        grace=parsed.grace,
        **{name: getattr(parsed, name) for name in SWITCHES},
    )
    try:
        service = NodeService(choices.makeServer(reactor), Notices(os.environ), failures.append)
        place = await service.startService()
        if failures:
            failures[0].raiseException()
    except (AsynQueueError, ImportError, OSError, ValueError):
        raise
    except (AttributeError, CannotListenError, TypeError) as error:
        raise CommandError(f"the server at {parsed.listen} cannot be started: {error}") from None
    except Exception as error:  # whatever a module of somebody else's raises
        raise CommandError(
            f"the server at {parsed.listen} cannot be started: {type(error).__name__}: {error}"
        ) from error
    terminal.write(f"listening on {place}")
    terminal.output.flush()
    await enough
    await service.stopService()
    return 0
