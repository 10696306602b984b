"""
Endpoints that let in only whom a judge lets in, around endpoints that let in everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from asynqueue.errors import AuthError
from asynqueue.wire.admissions import AdmissionNote
from asynqueue.wire.judges import Judge
from asynqueue.wire.limits import Limits
from asynqueue.wire.threshold import ClientDoorFactory, ServerDoorFactory
from asynqueue.wire.tls import TLSEnds


@implementer(IStreamServerEndpoint)
class GuardedServerEndpoint:
    """
    Listens, and lets in only whom its judge lets in.
    """

    def __init__(
        self,
        reactor: Any,
        inner: IStreamServerEndpoint,
        judge: Judge,
        ends: TLSEnds | None = None,
        limits: Limits | None = None,
        onRefused: Callable[[AuthError], object] | None = None,
        onListening: Callable[[IListeningPort], None] | None = None,
    ) -> None:
        """
        @param inner: Where it listens.
        @param judge: Decides who is let in.
        @param ends: Makes the ends of TLS connections; C{None} for none.
        @param limits: How many connections there may be.
        @param onRefused: Is told of each refusal, on either side.
        @param onListening: Looks at the port, and may raise an exception, which closes it.
        """
        self._reactor = reactor
        self._inner = inner
        self._judge = judge
        self._ends = ends
        self._limits = limits or Limits()
        self._onRefused = onRefused
        self._onListening = onListening
        self._note: AdmissionNote | None = None

    def noteSwitches(self, description: str, names: Sequence[str]) -> None:
        """
        Have it noted, while this endpoint listens, which switches it was made by.

        @see: L{asynqueue.wire.admissions}
        """
        self._note = AdmissionNote(description, names) if names else None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Begin to listen.

        @param protocolFactory: Makes a protocol for each client that has been let in.
        @return: Fires with the port. Errbacks L{InsecureTransport} where others could get at it.
        """
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, protocolFactory: IProtocolFactory) -> IListeningPort:
        factory = ServerDoorFactory(
            protocolFactory, self._judge, self._reactor, self._limits, self._ends, self._onRefused, self._note
        )
        port: IListeningPort = await self._inner.listen(factory)
        if self._onListening is not None:
            try:
                self._onListening(port)
            except BaseException:  # it is raised again when the port is closed
                await maybeDeferred(port.stopListening)
                raise
        return port


@implementer(IStreamClientEndpoint)
class GuardedClientEndpoint:
    """
    Connects, to none but the server that is meant.
    """

    def __init__(
        self,
        reactor: Any,
        inner: Callable[[], IStreamClientEndpoint],
        judge: Judge,
        ends: TLSEnds | None = None,
        limits: Limits | None = None,
    ) -> None:
        """
        @param inner: Returns where it connects to, or raises an exception if that cannot be trusted now.
        @param judge: Decides which server is the one.
        @param ends: Makes the ends of TLS connections; C{None} for none.
        @param limits: How long it may take, and how much the server may send, before each knows the other.
        """
        self._reactor = reactor
        self._inner = inner
        self._judge = judge
        self._ends = ends
        self._limits = limits or Limits(preAuthBytes=16_384)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect.

        @param protocolFactory: Makes the protocol, when each end has let the other in.
        @return: Fires with the protocol. Errbacks L{AuthError} if one end refuses the other, L{InsecureTransport} for
            a unix socket that others can get at, and with what Twisted has if there is no connection.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        if self._ends is not None:
            self._ends.prepare(isServer=False)
        factory = ClientDoorFactory(protocolFactory, self._judge, self._reactor, self._limits, self._ends)
        threshold: Any = await self._inner().connect(factory)
        protocol: IProtocol = await threshold.door.opened
        return protocol
