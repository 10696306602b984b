"""
How TLS is spoken: 1.3 only, with certificates at both ends, without resumption, renegotiation or compression.

OpenSSL verifies here what it can: that a certificate is signed by a known authority, is valid now and is for that end
of a connection. Whose it is, and whether that is somebody who is let in, is decided in L{asynqueue.wire.judges}, as
soon as the handshake is complete and before anything else is read.

Needs the packages of the extra C{asynqueue[tls]}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from attrs import define
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from asynqueue.wire.certificates import DOMAIN, Leaf, Use, fingerprintIn, loadCertificate, loadKey, requireCryptography
from asynqueue.wire.keys import Keys, TemporaryAuthority

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from OpenSSL.SSL import Connection, Context

#: The protocol that both ends must name (RFC 7301), so that no other service can be taken for this one.
PROTOCOL = b"asynqueue"

#: The errors of OpenSSL's verification that say no more than that the authority is unknown, which does not matter where
#: the key itself is known.
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})

#: What C{where} is for C{set_info_callback} when an alert has come.
_READ_ALERT = 0x4004

#: C{SSL_MODE_NO_AUTO_CHAIN}: the authority's certificate is not sent along, whoever trusts it has it.
_MODE_NO_AUTO_CHAIN = 0x8

#: The level of an alert that ends the connection.
_FATAL = 2


@define
class Findings:
    """
    What OpenSSL has found on a connection.

    @ivar verification: The error that it has refused the peer's certificate for, by its number.
    @ivar alert: The fatal alert that has come from the peer, by its number.
    """

    verification: int | None = None
    alert: int | None = None


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class TLSEnds:
    """
    Makes the ends of TLS connections. When the keys have changed, the next end has the new ones.
    """

    def __init__(self, keys: Keys, node: str = "", fingerprint: str = "") -> None:
        """
        @param keys: Those of this node.
        @param node: At a client's end: the name of the server, which it is told so that it can choose a certificate.
        @param fingerprint: At a client's end: that of the server's key, which needs no known authority then.
        @raise ImportError: The extra C{asynqueue[tls]} is not installed.
        """
        requireCryptography()
        self._keys = keys
        self._node = node
        self._fingerprint = fingerprint
        self._made: tuple[Any, Context] | None = None
        # Twisted has use for what else could hold them, the "app data" of a connection.
        self._findings: WeakKeyDictionary[Connection, Findings] = WeakKeyDictionary()

    def prepare(self, isServer: bool) -> None:
        """
        Make sure that an end can be made: a protocol of TLS has no way to say that it cannot.

        @raise KeysError: The keys cannot be used.
        @raise InsecureTransport: Others can get at them.
        """
        self._contextFor(Use.SERVER if isServer else Use.CLIENT)

    def findingsOf(self, connection: Connection) -> Findings:
        """
        Return what OpenSSL has found on a connection that was made here; more is added to it.
        """
        return self._findings.setdefault(connection, Findings())

    def serverConnectionForTLS(self, protocol: Any) -> Connection:
        """
        Make the server's end of a connection.
        """
        return self._connection(Use.SERVER)

    def clientConnectionForTLS(self, protocol: Any) -> Connection:
        """
        Make the client's end of a connection.
        """
        connection = self._connection(Use.CLIENT)
        if self._node:
            connection.set_tlsext_host_name(f"{self._node}.{DOMAIN}".encode("ascii"))
        return connection

    def _connection(self, use: Use) -> Connection:
        from OpenSSL.SSL import Connection

        return Connection(self._contextFor(use), None)

    def _contextFor(self, use: Use) -> Context:
        material = (use, self._keys.leaf(use), self._keys.authorities())
        if self._made is None or self._made[0] != material:
            self._made = (material, self._context(*material))
        return self._made[1]

    def _bareContext(self, use: Use) -> Context:
        context = bareContext()
        context.set_info_callback(self._noted)
        if use is Use.SERVER:
            context.set_alpn_select_callback(_chooseProtocol)
        else:
            context.set_alpn_protos([PROTOCOL])
        return context

    def _context(self, use: Use, leaf: Leaf, authorities: tuple[bytes, ...]) -> Context:
        from OpenSSL import SSL
        from OpenSSL.crypto import X509

        context = self._bareContext(use)
        _useLeaf(context, leaf)
        store = context.get_cert_store()
        assert store is not None, "a context has a store from the start"
        for authority in authorities:
            store.add_cert(X509.from_cryptography(loadCertificate(authority)))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verified)
        return context

    def _verified(self, connection: Connection, certificate: X509, error: int, depth: int, isGood: int) -> bool:
        findings = self.findingsOf(connection)
        try:
            if isGood or (depth == 0 and error in _UNKNOWN_AUTHORITY and self._isPinned(certificate)):
                return True
        except BaseException:  # OpenSSL can pass none on, and what cannot be read is refused
            error = 0
        if findings.verification is None:
            findings.verification = error
        return False

    def _noted(self, connection: Connection, where: int, value: int) -> None:
        level, number = value >> 8, value & 0xFF
        if where & _READ_ALERT == _READ_ALERT and level == _FATAL:
            self.findingsOf(connection).alert = number

    def _isPinned(self, certificate: X509) -> bool:
        return bool(self._fingerprint) and fingerprintIn(certificate.to_cryptography()) == self._fingerprint


class TokenEnds(TLSEnds):
    """
    Makes the ends of TLS connections that certificates say nothing about, for ends that show each other a token
    (L{asynqueue.wire.challenge}), bound to the connection.
    """

    def __init__(self) -> None:
        """
        @raise ImportError: The extra C{asynqueue[tls]} is not installed.
        """
        super().__init__(TemporaryAuthority().node("token", []))

    def _context(self, use: Use, leaf: Leaf, authorities: tuple[bytes, ...]) -> Context:
        from OpenSSL import SSL

        context = self._bareContext(use)
        if use is Use.SERVER:
            _useLeaf(context, leaf)
        context.set_verify(SSL.VERIFY_NONE)
        return context


def bareContext() -> Context:
    """
    Make a context for TLS 1.3, as yet without any certificate.
    """
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    return context


def _useLeaf(context: Context, leaf: Leaf) -> None:
    from OpenSSL.crypto import X509, PKey

    context.use_certificate(X509.from_cryptography(loadCertificate(leaf.certificate)))
    context.use_privatekey(PKey.from_cryptography_key(loadKey(leaf.key)))
    context.check_privatekey()


def _chooseProtocol(_connection: Connection, offered: list[bytes]) -> Any:
    from OpenSSL.SSL import NO_OVERLAPPING_PROTOCOLS

    # Whoever offers nothing is refused by the judge, with a reason.
    return PROTOCOL if PROTOCOL in offered else NO_OVERLAPPING_PROTOCOLS
