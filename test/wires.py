"""
What the tests of wire security share: servers and clients over real sockets on this host, and what became of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import provider

from asynqueue.errors import AuthError
from asynqueue.testing import LeakCheckMixin
from asynqueue.wire.certificates import Leaf, Use
from asynqueue.wire.endpoints import clientEndpoint, serverEndpoint
from asynqueue.wire.keys import Keys
from asynqueue.wire.nodes import NodeList

reactor: Any = globalReactor

#: Seconds that anything may take, in a test that fails.
LIMIT = 10.0

LONG_AGO = datetime.now(UTC) - timedelta(days=200)
FAR_AHEAD = datetime.now(UTC) + timedelta(days=200)


@frozen
class Altered:
    """
    The keys of a node, with other leaves or other authorities.
    """

    keys: Keys
    server: Leaf | None = None
    client: Leaf | None = None
    trusted: tuple[bytes, ...] | None = None

    def leaf(self, use: Use) -> Leaf:
        """
        Return the other leaf, if there is one.
        """
        return (self.server if use is Use.SERVER else self.client) or self.keys.leaf(use)

    def authorities(self) -> tuple[bytes, ...]:
        """
        Return the other authorities, if there are any.
        """
        return self.keys.authorities() if self.trusted is None else self.trusted

    def nodes(self) -> NodeList:
        """
        Return the list of nodes.
        """
        return self.keys.nodes()


class Recorder(Protocol):
    """
    Keeps what it receives.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it, and tell who waits for it.
        """
        self.received += data
        waiting, self._waiting = self._waiting, []
        for size, d in waiting:
            if len(self.received) >= size:
                d.callback(self.received)
            else:
                self._waiting.append((size, d))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell who waits for it.
        """
        self.lost.callback(None)

    def have(self, size: int) -> Deferred[bytes]:
        """
        Wait until so many bytes have come.
        """
        d: Deferred[bytes] = Deferred()
        self._waiting.append((size, d))
        self.dataReceived(b"")
        return d.addTimeout(LIMIT, reactor)


class Echo(Recorder):
    """
    Sends back what it receives.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        super().dataReceived(data)
        if data:
            self.transport.write(data)


class Recorders(Factory):
    """
    Makes protocols, and keeps them.
    """

    noisy = False

    def __init__(self, kind: Callable[[], Recorder] = Recorder) -> None:
        self.kind = kind
        self.made: list[Recorder] = []

    def buildProtocol(self, address: Any) -> Recorder:
        """
        Make one.
        """
        protocol = self.kind()
        self.made.append(protocol)
        return protocol


class Server:
    """
    A server that listens.

    @ivar factory: Has the protocols of the clients that were let in.
    @ivar refusals: What its endpoint has told of refusals.
    """

    def __init__(self) -> None:
        self.factory = Recorders(Echo)
        self.refusals: list[AuthError] = []
        self.port: IListeningPort | None = None

    @property
    def number(self) -> int:
        """
        The number of its port.
        """
        address: Any = self.port and self.port.getHost()
        return int(address.port)

    @property
    def reasons(self) -> list[str]:
        """
        Why somebody was refused.
        """
        return [error.reason for error in self.refusals]


class WireTestCase(LeakCheckMixin, TestCase):
    """
    Tests with real sockets, all on this host. Afterwards none is left.
    """

    timeout = 60

    def shortFolder(self) -> Path:
        """
        Make a private folder with a short name, for sockets: their names may not be as long as those of tests.
        """
        folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="aq")))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def watchLog(self) -> list[LogEvent]:
        """
        Return a list to which all events of Twisted's log are added during the test.
        """
        events: list[LogEvent] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return events

    async def serve(self, description: str, **options: Any) -> Server:
        """
        Listen until the end of the test.
        """
        server = Server()
        options.setdefault("insecure_root", True)
        endpoint = serverEndpoint(reactor, description, onRefused=server.refusals.append, **options)
        port = server.port = await endpoint.listen(server.factory)
        self.addCleanup(port.stopListening)
        return server

    async def connect(self, description: str, **options: Any) -> Recorder:
        """
        Connect, until the end of the test.
        """
        d = clientEndpoint(reactor, description, **options).connect(Recorders())
        protocol: Any = await d.addTimeout(LIMIT, reactor)
        self.addCleanup(self.disconnect, protocol)
        return protocol  # type: ignore[no-any-return]

    def disconnect(self, protocol: Recorder) -> Deferred[None] | None:
        """
        End a connection.
        """
        if protocol.lost.called:
            return None
        protocol.transport.abortConnection()
        return protocol.lost.addTimeout(LIMIT, reactor)

    async def refused(self, description: str, **options: Any) -> AuthError:
        """
        Try to connect, and return the refusal.
        """
        try:
            await self.connect(description, **options)
        except AuthError as error:
            return error
        self.fail("the client was let in")

    async def assertTalks(self, protocol: Recorder) -> None:
        """
        What is sent comes back.
        """
        protocol.transport.write(b"hello")
        self.assertEqual(await protocol.have(5), b"hello")

    async def until(self, condition: Callable[[], Any], what: str = "the condition") -> None:
        """
        Wait until something is so.
        """
        for _ in range(int(LIMIT / 0.01)):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail(f"{what} has not come about")


def run(method: Callable[..., Any]) -> Callable[..., Deferred[Any]]:
    """
    Make a test of a coroutine function.
    """

    def test(self: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(method(self))

    test.__name__ = method.__name__
    test.__doc__ = method.__doc__
    return test
