"""
What stands before a door: it bounds what may come before it is known whose it is, and how many connections there are.

The layers of a connection, and what passes between them::

    reactor's transport <-> Threshold <-> TLS, if there is any <-> Door <-> the protocol

A L{Threshold} sees the bytes as they come, which in TLS are those of the handshake first. It closes open files that are
passed over a unix socket, and ends the connection then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IFileDescriptorReceiver, IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.errors import AuthError
from asynqueue.wire.admissions import AdmissionNote
from asynqueue.wire.door import Door, Stage
from asynqueue.wire.judges import Judge
from asynqueue.wire.limits import ConnectionCaps, Limits, Place, peerOf
from asynqueue.wire.refusals import Refusal
from asynqueue.wire.tls import TLSEnds
from asynqueue.wire.transports import hostOf

#: How many bytes are read at once from those who have been let in: a value of 64 KiB, and what is around it. More would
#: be no better, since memory for 128 KiB is not as quickly had.
READ = 96 << 10


@implementer(IFileDescriptorReceiver)
class Threshold(ProtocolWrapper):
    """
    Bounds what may come before it is known whose it is.

    @ivar door: The door behind it.
    @ivar place: Its place among all connections.
    """

    wrappedProtocol: Any
    transport: Any

    def __init__(self, factory: DoorFactory, judge: Judge, address: IAddress | None, place: Place) -> None:
        self.door = Door(factory, judge, address, self._isKnown)
        super().__init__(factory, factory.withLayers(self.door))  # type: ignore[arg-type]
        self.place = place
        self._left = factory.limits.preAuthBytes
        self._hasSpoken = False
        self._isAborted = False

    def dataReceived(self, data: bytes) -> None:
        """
        Pass data on, as long as it is not too much.
        """
        if self._isAborted:
            return
        self._hasSpoken = True
        if self.door.stage in (Stage.UNKNOWN, Stage.CHALLENGED):
            self._left -= len(data)
            if self._left < 0:
                self._drop(Refusal.TOO_MUCH)
                return
        self.wrappedProtocol.dataReceived(data)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """
        Close a file that was passed, and end the connection.
        """
        os.close(descriptor)
        if not self._isAborted:
            self._drop(Refusal.DESCRIPTORS)

    def abortConnection(self) -> None:
        """
        Close the connection at once.
        """
        self._isAborted = True
        self.disconnecting = 1
        self.transport.abortConnection()

    def makeRoom(self) -> None:
        """
        Close the connection at once, without a word, for another has its place.
        """
        self.factory.log.debug("{peer} did not say whose it is, and had to make room", peer=self.door.peer)
        if self._hasSpoken:
            self.abortConnection()
            return
        # Who has said nothing has been sent nothing that would have to go out first, and needs no reset.
        self._isAborted = True
        self.disconnecting = 1
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Pass it on.
        """
        self.factory.closed(self.place)
        inner, self.wrappedProtocol = self.wrappedProtocol, None
        inner.connectionLost(reason)

    def _drop(self, refusal: Refusal) -> None:
        self._isAborted = True
        self.door.refuse(refusal, abort=True)
        # TLS may have ended it already, or have nothing to say of it; this has the last word.
        self.transport.abortConnection()

    def _isKnown(self) -> None:
        # Now that it is known whose they are, more bytes may be read at once.
        self.transport.bufferSize = READ
        self.factory.known(self.place)


class DoorFactory(WrappingFactory):
    """
    What the factories of both ends share.

    @ivar isServer: Which end this is.
    @ivar ends: Makes the ends of TLS connections, or C{None}.
    """

    log = Logger()
    noisy = False
    isServer = False

    def __init__(
        self, wrapped: IProtocolFactory, judge: Judge, clock: IReactorTime, limits: Limits, ends: TLSEnds | None
    ) -> None:
        """
        @param wrapped: Makes the protocols.
        @param judge: Decides who is let in.
        @param ends: Makes the ends of TLS connections; C{None} for connections without.
        """
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.judge = judge
        self.clock = clock
        self.limits = limits
        self.ends = ends
        self._layers: Any = None
        if ends is not None:
            # Loads OpenSSL.
            from twisted.protocols.tls import TLSMemoryBIOFactory

            self._layers = TLSMemoryBIOFactory(ends, not self.isServer, wrapped, clock=clock)

    def buildProtocol(self, address: IAddress | None) -> Any:
        """
        Make the layers for a connection.
        """
        return Threshold(self, self.judge, address, Place(peerOf(hostOf(address))))

    def withLayers(self, door: Door) -> Any:
        """
        Return a door with TLS before it, if there is any.
        """
        return door if self._layers is None else self._layers.protocol(self._layers, door)

    def registerProtocol(self, protocol: Any) -> None:
        """
        Do nothing: connections are counted elsewhere.
        """

    def unregisterProtocol(self, protocol: Any) -> None:
        """
        Do nothing.
        """

    def known(self, place: Place) -> None:
        """
        The other end of a connection has been let in.
        """

    def closed(self, place: Place) -> None:
        """
        A connection has ended.
        """

    def refused(self, error: AuthError, address: IAddress | None) -> None:
        """
        One end has refused the other.
        """

    def dismissed(self, error: AuthError) -> None:
        """
        This end has let the other in, and does so no longer.
        """
        self.log.warn("{error}", error=str(error), reason=error.reason)


class ClientDoorFactory(DoorFactory):
    """
    Makes the client's end of connections.
    """


class ServerDoorFactory(DoorFactory):
    """
    Makes the server's end of connections, as many as its limits permit.
    """

    isServer = True

    def __init__(
        self,
        wrapped: IProtocolFactory,
        judge: Judge,
        clock: IReactorTime,
        limits: Limits,
        ends: TLSEnds | None,
        onRefused: Callable[[AuthError], object] | None = None,
        note: AdmissionNote | None = None,
    ) -> None:
        """
        @param onRefused: Is told of each client that was refused, or has refused this server.
        @param note: Is there as long as something listens.
        """
        super().__init__(wrapped, judge, clock, limits, ends)
        self._caps = ConnectionCaps(limits, clock.seconds)
        self._onRefused = onRefused
        self._note = note

    def startFactory(self) -> None:
        """
        Write the note.
        """
        if self._note is not None:
            self._note.write()

    def stopFactory(self) -> None:
        """
        Remove it.
        """
        if self._note is not None:
            self._note.remove()

    def buildProtocol(self, address: IAddress | None) -> Any:
        """
        Make the layers for a connection, or return C{None}, which closes it, if there may not be another.
        """
        host = hostOf(address)
        place = Place(peerOf(host))
        problem = self._caps.accept(place)
        if problem is not None:
            self.log.debug("a connection from {host} was closed: {problem}", host=host, problem=problem)
            return None
        try:
            if self.ends is not None:
                self.ends.prepare(isServer=True)
        except Exception:
            # Files of keys can be anything at any time; whatever is wrong with them, nobody is let in by them.
            self.log.failure("a connection was closed, since the keys of this server cannot be used")
            self._caps.closed(place)
            return None
        threshold = Threshold(self, self.judge, address, place)
        place.drop = threshold.makeRoom
        return threshold

    def known(self, place: Place) -> None:
        """
        The other end of a connection has been let in.
        """
        self._caps.authenticated(place)

    def closed(self, place: Place) -> None:
        """
        A connection has ended.
        """
        self._caps.closed(place)

    def refused(self, error: AuthError, address: IAddress | None) -> None:
        """
        Log it, and count it.
        """
        self._caps.failures.failed(peerOf(hostOf(address)))
        self.dismissed(error)

    def dismissed(self, error: AuthError) -> None:
        """
        Log it, and tell who wants to know.
        """
        super().dismissed(error)
        if self._onRefused is None:
            return
        try:
            self._onRefused(error)
        except Exception:
            # What a program's own function raises must not keep a connection from ending.
            self.log.failure("onRefused raised an exception")
