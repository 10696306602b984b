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
from twisted.internet.error import CannotListenError
from twisted.internet.task import react

from asynqueue.errors import AsynQueueError
from asynqueue.wire.manager import LISTENING
from asynqueue.wire.server import WireServer
from asynqueue.wire.signals import enoughOf


def runServer(description: str, wwuFQN: Any = None, isAttached: bool = False, **keywords: Any) -> None:
    """
    Run a server until the process is told to end by a signal, and return then. It runs the global reactor. A second
    signal ends the process at once.

    One line on standard output tells when it listens.

    @param description: Where to listen; see L{asynqueue.wire.serverEndpoint}.
    @param wwuFQN: The full name of the universe or its class, or either itself.
    @param isAttached: Whether to end also when standard input is closed, and to leave Ctrl-C to the program at the
        other end of that.
    @param keywords: Those of L{WireServer}.
    @raise SystemExit: The server has been ended, or could not be started, which standard error tells.
    """
    react(lambda reactor: Deferred.fromCoroutine(_serve(reactor, description, wwuFQN, isAttached, keywords)))


async def _serve(reactor: Any, description: str, wwuFQN: Any, isAttached: bool, keywords: dict[str, Any]) -> None:
    running: Deferred[None] = Deferred()
    reactor.callWhenRunning(running.callback, None)
    await running
    if isAttached:
        enough = enoughOf(reactor, (signal.SIGTERM,))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _Attachment(reactor, enough)
    else:
        enough = enoughOf(reactor)
    try:
        server = WireServer(description, wwuFQN, reactor=reactor, **keywords)
        await server.start()
    except (AsynQueueError, ValueError, TypeError, ImportError, AttributeError, OSError, CannotListenError) as error:
        sys.stderr.write(f"asynqueue: the server at {description} cannot be started: {error}\n")
        raise SystemExit(1) from None
    sys.stdout.write(f"{LISTENING}{description}\n")
    sys.stdout.flush()
    await enough
    await server.stop()


class _Attachment:
    """
    Reads what the program writes that has started this one, until that has ended.
    """

    def __init__(self, reactor: Any, enough: Deferred[None]) -> None:
        # Only where there are pipes that a reactor can read.
        from twisted.internet.process import ProcessReader

        self._enough = enough
        self._reader = ProcessReader(reactor, self, "read", 0)

    def childDataReceived(self, name: str, data: bytes) -> None:
        """
        It has nothing to say.
        """

    def childConnectionLost(self, name: str, reason: object) -> None:
        """
        It has ended, or wants this one to.
        """
        if not self._enough.called:
            self._enough.callback(None)


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
    parser.add_argument(
        "--attached", action="store_true", help="end when standard input is closed, and leave Ctrl-C to its other end"
    )
    given = parser.parse_args(arguments)
    runServer(
        given.description,
        given.universe,
        given.attached,
        threads=given.threads,
        processes=given.processes,
        insecure_root=given.insecure_root,
    )
