"""
A server as a program of its own: C{python -m asynqueue.wire DESCRIPTION [UNIVERSE]}.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from asynqueue.errors import AsynQueueError
from asynqueue.wire.manager import LISTENING
from asynqueue.wire.server import WireServer


def runServer(description: str, wwuFQN: Any = None, **keywords: Any) -> None:
    """
    Run a server until the process is told to end by a signal, and return then. It runs the global reactor.

    One line on standard output tells when it listens.

    @param description: Where to listen; see L{asynqueue.wire.serverEndpoint}.
    @param wwuFQN: The full name of the universe or its class, or either itself.
    @param keywords: Those of L{WireServer}.
    @raise SystemExit: The server has been ended, or could not be started, which standard error tells.
    """
    react(lambda reactor: Deferred.fromCoroutine(_serve(reactor, description, wwuFQN, keywords)))


async def _serve(reactor: Any, description: str, wwuFQN: Any, keywords: dict[str, Any]) -> None:
    try:
        server = WireServer(description, wwuFQN, reactor=reactor, **keywords)
        await server.start()
    except (AsynQueueError, ValueError, TypeError, ImportError, AttributeError, OSError) as error:
        sys.stderr.write(f"asynqueue: the server at {description} cannot be started: {error}\n")
        raise SystemExit(1) from None
    # When the reactor begins to run it takes over signals, and would stop at once.
    await deferLater(reactor, 0)
    told: Deferred[None] = Deferred()

    def tell(number: int, frame: object) -> None:
        reactor.callFromThread(lambda: None if told.called else told.callback(None))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    sys.stdout.write(f"{LISTENING}{description}\n")
    sys.stdout.flush()
    await told
    await server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a server, by the arguments of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m asynqueue.wire", description="Have calls run that come over connections, until told to end."
    )
    parser.add_argument("description", help="where to listen, such as unix:/run/user/1000/thumbs/socket")
    parser.add_argument("universe", nargs="?", help="the full name of a WireWorkerUniverse, or of its class")
    parser.add_argument("--threads", type=int, default=0, help="how many threads run calls (0)")
    parser.add_argument("--processes", type=int, default=0, help="how many child processes run calls (0)")
    parser.add_argument("--insecure-root", action="store_true", help="listen although the process is root's")
    given = parser.parse_args(arguments)
    runServer(
        given.description,
        given.universe,
        threads=given.threads,
        processes=given.processes,
        insecure_root=given.insecure_root,
    )
