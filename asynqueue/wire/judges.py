"""
Who is let in: each kind of connection has its judge, which looks at the other end before anything is read from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from asynqueue.wire.authority import isIssuedBy
from asynqueue.wire.certificates import DOMAIN, Use, fingerprintIn, namesIn
from asynqueue.wire.challenge import BINDING_LABEL, BINDING_SIZE, Challenge
from asynqueue.wire.identity import Identity, rolesFrom
from asynqueue.wire.keys import Keys
from asynqueue.wire.peeruser import peerUser
from asynqueue.wire.refusals import Refusal, Refused
from asynqueue.wire.tls import PROTOCOL

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL.SSL import Connection

#: What a process of the same user may do: it could do all of it without asking.
SAME_USER_ROLES = frozenset({"admin", "code", "worker"})


class Judge(Protocol):
    """
    Decides who is let in.
    """

    def challenge(self, exportKey: Callable[[bytes, int], bytes | None], isServer: bool) -> Challenge | None:
        """
        Return what the two ends must show each other first, if anything.

        @param exportKey: Derives bytes of the TLS connection, as L{IIdentifiedTransport.exportKey} does.
        """

    def judge(self, transport: Any) -> Identity:
        """
        Tell who is at the other end of a connection, whose TLS handshake is complete, if it has one.

        @raise Refused: They are not let in.
        """

    def objection(self, identity: Identity, transport: Any) -> Refusal | None:
        """
        Tell why somebody who was let in must go, or C{None}. May raise anything where it cannot be told.

        @param identity: Who it was when it was let in.
        """


class _NoChallenge:
    def challenge(self, _exportKey: Callable[[bytes, int], bytes | None], _isServer: bool) -> Challenge | None:
        """
        Return C{None}: nothing more than what there is to see is needed.
        """
        return None


class _NoObjection:
    def objection(self, _identity: Identity, _transport: Any) -> Refusal | None:
        """
        Return C{None}: nothing can change.
        """
        return None


class OpenJudge(_NoChallenge, _NoObjection):
    """
    Lets everybody in, as nobody in particular.
    """

    def __init__(self, roles: Iterable[str]) -> None:
        """
        @param roles: What everybody may do.
        """
        self._identity = Identity("anyone", rolesFrom(roles), "insecure")

    def judge(self, transport: Any) -> Identity:
        """
        Return the identity that all have.
        """
        return self._identity


class SameUserJudge(_NoChallenge, _NoObjection):
    """
    Lets processes of this process's user in, at the other end of a unix socket.
    """

    def judge(self, transport: Any) -> Identity:
        """
        Ask the system whose process is there.
        """
        try:
            user = peerUser(transport.getHandle())
        except OSError as error:
            raise Refused(Refusal.OTHER_USER, f"the system does not tell which: {error}") from error
        own = os.geteuid()
        if user != own:
            raise Refused(Refusal.OTHER_USER, f"user {user}, and this process is of user {own}")
        return Identity(f"uid:{user}", SAME_USER_ROLES, "unix")


class TokenJudge(_NoObjection):
    """
    Lets in who knows the token.
    """

    def __init__(self, readToken: Callable[[], bytes], roles: Iterable[str]) -> None:
        """
        @param readToken: Returns the token, which may have changed since.
        @param roles: What whoever knows it may do.
        """
        self._readToken = readToken
        self._identity = Identity("token", rolesFrom(roles), "token")

    def challenge(self, exportKey: Callable[[bytes, int], bytes | None], isServer: bool) -> Challenge | None:
        """
        Return the challenge to show that one knows the token, on this TLS connection.
        """
        return Challenge(self._readToken(), exportKey(BINDING_LABEL, BINDING_SIZE), isServer)

    def judge(self, transport: Any) -> Identity:
        """
        Return the identity of all who know the token. That they do has been seen.
        """
        checkProtocol(transport.getHandle())
        return self._identity


def checkProtocol(connection: Connection) -> None:
    """
    Make sure that a TLS connection is one of version 1.3 and for this protocol.

    @raise Refused: It is not.
    """
    if connection.get_protocol_version_name() != "TLSv1.3":
        raise Refused(Refusal.NO_TLS, connection.get_protocol_version_name())
    if connection.get_alpn_proto_negotiated() != PROTOCOL:
        raise Refused(Refusal.OTHER_PROTOCOL, f"it did not name the protocol {PROTOCOL.decode()}")


class _CertificateJudge(_NoChallenge):
    #: The key that the other end must have, whoever signed its certificate; an empty text for none.
    _fingerprint = ""

    def __init__(self, keys: Keys, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """
        @param keys: Have the list of nodes.
        @param now: Returns the time, with its zone.
        """
        self._keys = keys
        self._now = now

    def judge(self, transport: Any) -> Identity:
        """
        Tell who is at the other end.
        """
        raise NotImplementedError

    def _certificate(self, transport: Any) -> tuple[Certificate, str]:
        connection: Connection = transport.getHandle()
        checkProtocol(connection)
        shown = connection.get_peer_certificate()
        if shown is None:
            raise Refused(Refusal.NO_CERTIFICATE)
        certificate = shown.to_cryptography()
        return certificate, fingerprintIn(certificate)

    def objection(self, identity: Identity, transport: Any) -> Refusal | None:
        """
        Tell whether it would not be let in now, or as somebody else. What OpenSSL has looked at once, when it came, may
        have changed, too.
        """
        try:
            if self.judge(transport) != identity:
                return Refusal.CHANGED
        except Refused as refused:
            return refused.refusal
        certificate, _ = self._certificate(transport)
        now = self._now()
        if now > certificate.not_valid_after_utc:
            return Refusal.EXPIRED
        isSigned = self._fingerprint or any(isIssuedBy(certificate, each, now) for each in self._keys.authorities())
        return None if isSigned else Refusal.OTHER_AUTHORITY


class ClientCertificateJudge(_CertificateJudge):
    """
    At a server's end: lets in who is on the list of nodes.
    """

    def judge(self, transport: Any) -> Identity:
        """
        Look the key up, and whether the certificate has the name that the key has on the list.
        """
        certificate, fingerprint = self._certificate(transport)
        node = self._keys.nodes().byFingerprint(fingerprint)
        if node is None:
            raise Refused(Refusal.NOT_LISTED, fingerprint)
        if node.isRevoked:
            raise Refused(Refusal.REVOKED, f"{node.name}, {fingerprint}")
        if fingerprint != node.client:
            raise Refused(Refusal.WRONG_PURPOSE, f"the key of {node.name} as a server")
        if namesIn(certificate, Use.CLIENT) != [node.name]:
            raise Refused(Refusal.WRONG_HOST, f"the key is that of {node.name}")
        return Identity(node.name, node.roles, "tls", fingerprint)


class ServerCertificateJudge(_CertificateJudge):
    """
    At a client's end: lets in the one server that is meant.
    """

    def __init__(
        self,
        keys: Keys,
        node: str = "",
        fingerprint: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        @param node: Its name; it must be on the list then.
        @param fingerprint: That of its key. One of the two is needed.
        """
        super().__init__(keys, now)
        self._node = node
        self._fingerprint = fingerprint

    def judge(self, transport: Any) -> Identity:
        """
        Compare the fingerprint, the name in the certificate, and the list.
        """
        certificate, fingerprint = self._certificate(transport)
        if self._fingerprint and fingerprint != self._fingerprint:
            raise Refused(Refusal.WRONG_FINGERPRINT, fingerprint)
        if self._node:
            self._checkName(certificate)
        node = self._keys.nodes().byFingerprint(fingerprint)
        if node is not None and node.isRevoked:
            raise Refused(Refusal.REVOKED, f"{node.name}, {fingerprint}")
        if node is not None and fingerprint != node.server:
            raise Refused(Refusal.WRONG_PURPOSE, f"the key of {node.name} as a client")
        if node is not None and (not self._node or node.name == self._node):
            return Identity(node.name, node.roles, "tls", fingerprint)
        if not self._fingerprint:
            raise Refused(Refusal.NOT_LISTED, fingerprint)
        # Whoever names the key of a server means to have calls run there.
        return Identity(self._node or fingerprint[:16], frozenset({"worker"}), "tls", fingerprint)

    def _checkName(self, certificate: Certificate) -> None:
        from service_identity import CertificateError, VerificationError
        from service_identity.cryptography import verify_certificate_hostname

        try:
            verify_certificate_hostname(certificate, f"{self._node}.{DOMAIN}")
        except (CertificateError, VerificationError):
            names = ", ".join(namesIn(certificate, Use.SERVER)) or "nobody"
            raise Refused(Refusal.WRONG_HOST, f"that of {names}, not of {self._node}") from None
