"""
What stands before a protocol: it is built, and hears and says something, when both ends have let each other in.

A L{Door} has the other end judged (L{asynqueue.wire.judges}), as soon as the handshake of TLS is complete, if there is
one, and exchanges verdicts with it (L{asynqueue.wire.refusals}). When both are good, it has the protocol built and
connects it to itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.errors import AuthError
from asynqueue.wire.challenge import Challenge
from asynqueue.wire.identity import Identity
from asynqueue.wire.judges import Judge
from asynqueue.wire.refusals import ADMITTED, VERDICT_SIZE, Refusal, Refused, ofAlert, ofVerdict, ofVerification
from asynqueue.wire.transports import IIdentifiedTransport, hostOf

if TYPE_CHECKING:
    from asynqueue.wire.threshold import DoorFactory

#: How long a refused peer has to take its verdict before the connection is aborted, in seconds.
LINGER = 1.0

#: How often it is looked whether somebody who was let in must go, in seconds.
RECHECK = 2.0

#: How often in a row that may fail: a file that is being replaced does no harm, and one that stays away keeps nobody.
LOOKS_MOST = 5


class Stage(Enum):
    """
    How far a connection has come.
    """

    #: The other end is not known yet.
    UNKNOWN = auto()
    #: The other end is to show that it knows a token.
    CHALLENGED = auto()
    #: This end has let it in, and waits for its verdict.
    JUDGED = auto()
    #: Each has let the other in, and the protocol is connected.
    OPEN = auto()
    #: One has refused the other.
    REFUSED = auto()
    #: The connection is no more.
    CLOSED = auto()


@implementer(IIdentifiedTransport, IHandshakeListener)
class Door(ProtocolWrapper):
    """
    Has the other end judged, and lets the protocol begin.

    @ivar opened: Fires with the protocol when it is connected, or with a failure.
    @ivar stage: How far it has come.
    """

    wrappedProtocol: Any
    transport: Any

    def __init__(
        self, factory: DoorFactory, judge: Judge, address: IAddress | None, onKnown: Callable[[], None]
    ) -> None:
        """
        @param onKnown: Called when the other end has been let in: once, or when it is open once more.
        """
        super().__init__(factory, None)  # type: ignore[arg-type]
        self._judge = judge
        self._address = address
        self._onKnown = onKnown
        self._clock = factory.clock
        self._isServer = factory.isServer
        self._buffer = b""
        self._deadline: IDelayedCall | None = None
        self._recheck: IDelayedCall | None = None
        # How often it could not be looked whether the other end may stay, in a row.
        self._failedLooks = 0
        self._findings: Any = None
        self._challenge: Challenge | None = None
        self._identity: Identity | None = None
        self.error: AuthError | None = None
        self.stage = Stage.UNKNOWN
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self._abort())
        if self._isServer:
            # Nobody waits for it there; the factory is told of refusals.
            self.opened.addErrback(lambda _: None)

    @property
    def identity(self) -> Identity:
        """
        Who is at the other end.
        """
        assert self._identity is not None, "the protocol is connected when this is known"
        return self._identity

    @property
    def peer(self) -> str:
        """
        What messages call the other end.
        """
        role = "client" if self._isServer else "server"
        host = hostOf(self._address)
        if host is None:
            # Clients of a unix socket have no address.
            path = getattr(self._address, "name", None)
            return f"the {role} at the unix socket{f' {os.fsdecode(path)}' if path else ''}"
        return (
            f"the {role} at {host}" if self._isServer else f"the {role} at {host}:{getattr(self._address, 'port', '')}"
        )

    def exportKey(self, label: bytes, size: int) -> bytes | None:
        """
        Return bytes that only both ends of this TLS connection have, or C{None} without TLS.
        """
        if self._findings is None:
            return None
        exported: bytes = self.transport.getHandle().export_keying_material(label, size, b"")
        return exported

    # As the protocol of the layer below

    def makeConnection(self, transport: Any) -> None:
        """
        Begin, or wait for the handshake of TLS.
        """
        # Not that of ProtocolWrapper, which would connect the protocol, and would offer it startTLS and the like.
        Protocol.makeConnection(self, transport)
        self._deadline = self._clock.callLater(self.factory.limits.preAuthSeconds, self._tooSlow)
        if self.factory.ends is None:
            self._begin()
        else:
            self._findings = self.factory.ends.findingsOf(transport.getHandle())

    def handshakeCompleted(self) -> None:
        """
        Begin.
        """
        self._begin()

    def dataReceived(self, data: bytes) -> None:
        """
        Take a verdict, or pass data on.
        """
        if self.stage is Stage.OPEN:
            self.wrappedProtocol.dataReceived(data)
        elif self.stage is Stage.CHALLENGED:
            self._judging(self._challenged, data)
        elif self.stage is Stage.JUDGED:
            self._buffer += data
            if len(self._buffer) >= VERDICT_SIZE:
                verdict, rest = self._buffer[:VERDICT_SIZE], self._buffer[VERDICT_SIZE:]
                self._buffer = b""
                self._heard(verdict, rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell the protocol, or whoever waits for it.
        """
        wasOpen = self.stage is Stage.OPEN
        if not wasOpen:
            self._explain(reason)
        self.stage = Stage.CLOSED
        for timer in (self._deadline, self._recheck):
            if timer is not None and timer.active():
                timer.cancel()
        if wasOpen:
            protocol, self.wrappedProtocol = self.wrappedProtocol, None
            protocol.connectionLost(reason)
            return
        error = self.error or ConnectionLost(
            f"{self.peer} closed the connection without a word; it may have too many of them"
        )
        if isinstance(error, AuthError):
            self.factory.refused(error, self._address)
        if not self.opened.called:
            # Whoever waits for it may have cancelled it.
            self.opened.errback(Failure(error))

    # As the transport of the protocol

    def loseConnection(self) -> None:
        """
        Close the connection when everything has been sent.
        """
        self.disconnecting = 1
        # By TLS it would wait for the protocol to have nothing more to say.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """
        Close the connection at once.
        """
        self.disconnecting = 1
        self.transport.abortConnection()

    def __getattr__(self, name: str) -> Any:
        if name in ("startTLS", "sendFileDescriptor"):
            raise AttributeError(f"a transport behind a door has no {name}")
        return getattr(self.transport, name)

    # Decisions

    def refuse(self, refusal: Refusal, detail: str = "", abort: bool = False) -> None:
        """
        Refuse the other end, unless that has been done already. Who was let in before is cut off.

        @param abort: Whether it is not even told.
        """
        if self.stage in (Stage.REFUSED, Stage.CLOSED):
            return
        if self.stage is Stage.OPEN:
            # It counts for nothing against a host that its nodes have been let in before.
            self.factory.dismissed(refusal.here(self.peer, detail or self.identity.name))
            self.abortConnection()
            return
        canTell = self.stage in (Stage.CHALLENGED, Stage.JUDGED) and not abort
        self._refused(refusal.here(self.peer, detail))
        if canTell:
            self._tell(refusal)
        else:
            self._abort()

    def _begin(self) -> None:
        if self.stage is Stage.UNKNOWN:
            self._judging(self._challengeOrJudge)

    def _judging(self, judge: Callable[..., None], *args: Any) -> None:
        try:
            judge(*args)
        except Refused as refused:
            self._refused(refused.refusal.here(self.peer, refused.detail))
            self._tell(refused.refusal)
        except Exception as error:
            # Who cannot be judged is not let in, whatever it is: a list of nodes that is damaged, a token that is gone.
            self.factory.log.failure("{peer} could not be judged, and was refused", peer=self.peer)
            self._refused(Refusal.HANDSHAKE.here(self.peer, f"it could not be judged: {type(error).__name__}"))
            self._tell(Refusal.HANDSHAKE)

    def _challengeOrJudge(self) -> None:
        self._challenge = self._judge.challenge(self.exportKey, self._isServer)
        if self._challenge is None:
            self._judged(b"")
            return
        self.stage = Stage.CHALLENGED
        self.transport.write(self._challenge.begin())

    def _challenged(self, data: bytes) -> None:
        assert self._challenge is not None, "the stage says that there is one"
        self.transport.write(self._challenge.receive(data))
        if self._challenge.isDone:
            self._judged(self._challenge.rest)

    def _judged(self, rest: bytes) -> None:
        self._identity = self._judge.judge(self.transport)
        self.stage = Stage.JUDGED
        if self._identity.how != "insecure":
            # Whoever has shown nothing is not known before it has said something at least.
            self._onKnown()
        if self._isServer:
            self.transport.write(ADMITTED)
        if rest:
            self.dataReceived(rest)

    def _heard(self, verdict: bytes, rest: bytes) -> None:
        refusal = ofVerdict(verdict)
        if refusal is Refusal.OTHER_PROTOCOL:
            self.refuse(refusal)
        elif refusal is not None:
            self._refused(refusal.there(self.peer))
            self.transport.loseConnection()
        else:
            if not self._isServer:
                self.transport.write(ADMITTED)
            self._open(rest)

    def _open(self, rest: bytes) -> None:
        protocol = self.factory.wrappedFactory.buildProtocol(self._address)
        if protocol is None:
            self._abort()
            return
        self.stage = Stage.OPEN
        if self._deadline is not None:
            self._deadline.cancel()
        self._onKnown()
        self.wrappedProtocol = protocol
        self._look()
        protocol.makeConnection(self)
        if rest and self.stage is Stage.OPEN:
            protocol.dataReceived(rest)
        if not self.opened.called:
            self.opened.callback(protocol)

    def _look(self) -> None:
        # Only who has shown a certificate can be known to have lost what it was let in by.
        if self.identity.how != "tls" or self.stage is not Stage.OPEN:
            return
        self._recheck = self._clock.callLater(RECHECK, self._look)
        try:
            objection = self._judge.objection(self.identity, self.transport)
        except Exception:
            self._failedLooks += 1
            if self._failedLooks == 1:
                self.factory.log.failure("it could not be looked whether {peer} may stay", peer=self.peer)
            objection = Refusal.UNSURE if self._failedLooks >= LOOKS_MOST else None
        else:
            self._failedLooks = 0
        if objection is not None:
            self.refuse(objection)

    def _refused(self, error: AuthError) -> None:
        self.stage = Stage.REFUSED
        self.error = error
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self._clock.callLater(LINGER, self._abort)

    def _tell(self, refusal: Refusal) -> None:
        self.transport.write(refusal.verdict())
        self.transport.loseConnection()

    def _tooSlow(self) -> None:
        self.refuse(Refusal.TOO_SLOW)

    def _abort(self) -> None:
        if self.stage is not Stage.CLOSED and self.transport is not None:
            self.transport.abortConnection()

    def _explain(self, reason: Failure) -> None:
        """
        Find out why a connection has ended before it was open.
        """
        if self.error is not None or self._findings is None:
            return
        if self._challenge is not None and self.stage is Stage.CHALLENGED:
            # A peer that gives up in the middle says why where a message of the challenge should be.
            refusal = ofVerdict(self._challenge.rest[:VERDICT_SIZE].ljust(VERDICT_SIZE, b"\0"))
            if refusal is not None and refusal is not Refusal.OTHER_PROTOCOL:
                self.error = refusal.there(self.peer)
                return
        if self._findings.verification is not None:
            self.error = ofVerification(self._findings.verification).here(self.peer)
        elif self._findings.alert is not None:
            self.error = ofAlert(self._findings.alert).there(self.peer)
        elif reason.value is not None and type(reason.value).__module__.startswith("OpenSSL"):
            self.error = self._ofOpenSSL(reason.value)

    def _ofOpenSSL(self, error: BaseException) -> AuthError:
        problems = error.args[0] if error.args and isinstance(error.args[0], list) else []
        texts = [str(problem[-1]) for problem in problems if problem]
        if any("did not return a certificate" in text for text in texts):
            return Refusal.NO_CERTIFICATE.here(self.peer)
        return Refusal.NO_TLS.here(self.peer, "; ".join(texts))
