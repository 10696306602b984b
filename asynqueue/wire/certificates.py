"""
What stands in the certificates of nodes, and whose they are.

A node has two: one as a server, with C{DNS:NAME.asynqueue.internal}, and one as a client, with
C{URI:asynqueue:node:NAME}, each with a key of its own and with the one use that it is for. Neither can be used as the
other, and no certificate but the authority's can sign others.

Needs the package cryptography, which the extra C{asynqueue[tls]} has.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from attrs import field, frozen

from asynqueue.errors import KeysError
from asynqueue.wire.fingerprints import fingerprintOf

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.x509 import Certificate

#: How old it may be before it is renewed.
RENEWAL_AGE = timedelta(days=60)

#: What the name of a node is in a certificate of a server.
DOMAIN = "asynqueue.internal"

#: And in one of a client.
URI_PREFIX = "asynqueue:node:"


class Use(Enum):
    """
    What a certificate is for. A member's value is the part of a file's name that says so.
    """

    SERVER = "server"
    CLIENT = "client"


def requireCryptography() -> None:
    """
    Make sure that what TLS needs is installed.

    @raise ImportError: It is not.
    """
    from importlib import import_module

    for name in ("cryptography.x509", "OpenSSL.SSL", "service_identity"):
        try:
            import_module(name)
        except ImportError as error:
            raise ImportError(f"keys and TLS need the package {error.name}: install asynqueue[tls]") from error


@frozen
class Leaf:
    """
    A certificate of a node with its key.

    @ivar certificate: PEM.
    @ivar key: PEM, PKCS #8, not encrypted. It is never shown.
    """

    certificate: bytes
    key: bytes = field(repr=False)

    def isComplete(self) -> bool:
        """
        Tell whether the key is that of the certificate.

        @raise KeysError: One of them is damaged.
        """
        return loadKey(self.key).public_key() == publicKeyIn(loadCertificate(self.certificate))


def loadCertificate(certificate: bytes) -> Certificate:
    """
    Read a certificate.

    @param certificate: PEM.
    @raise KeysError: It is damaged.
    """
    requireCryptography()
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise KeysError(f"a certificate cannot be read as PEM: {error}") from None


def fingerprintIn(certificate: Certificate) -> str:
    """
    Return the fingerprint of the key in a certificate.
    """
    from cryptography.hazmat.primitives import serialization

    public = certificate.public_key()
    return fingerprintOf(
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def fingerprintOfPEM(certificate: bytes) -> str:
    """
    Return the fingerprint of the key in a certificate.

    @param certificate: PEM.
    """
    return fingerprintIn(loadCertificate(certificate))


def namesIn(certificate: Certificate, use: Use) -> list[str]:
    """
    Return the names of the nodes that a certificate is for, in that use. An ordinary one has one.
    """
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        # It has none, or one that cannot be read.
        return []
    if use is Use.SERVER:
        ends = f".{DOMAIN}"
        return [each.removesuffix(ends) for each in names.get_values_for_type(x509.DNSName) if each.endswith(ends)]
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [each.removeprefix(URI_PREFIX) for each in uris if each.startswith(URI_PREFIX)]


def useIn(certificate: Certificate) -> Use:
    """
    Return what a certificate is for.

    @raise KeysError: It is for neither or for both.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        purposes = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        purposes = set()
    if purposes == {ExtendedKeyUsageOID.SERVER_AUTH}:
        return Use.SERVER
    if purposes == {ExtendedKeyUsageOID.CLIENT_AUTH}:
        return Use.CLIENT
    raise KeysError("a certificate must be either for servers or for clients, and this one is not")


def nameIn(certificate: Certificate) -> str:
    """
    Return the name of the node that a certificate is for.

    @raise KeysError: It is for none, or for several.
    """
    names = namesIn(certificate, useIn(certificate))
    if len(names) != 1:
        raise KeysError(f"a certificate must have the name of one node, and this one has {len(names)}")
    return names[0]


def isRenewalDue(certificate: bytes, now: datetime) -> bool:
    """
    Tell whether a certificate is old enough to be renewed.

    @param certificate: PEM.
    """
    return now - loadCertificate(certificate).not_valid_before_utc >= RENEWAL_AGE


def loadKey(key: bytes) -> EllipticCurvePrivateKey:
    """
    Read a key.

    @param key: PEM, PKCS #8, not encrypted.
    @raise KeysError: It is damaged, or of another kind.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        loaded = serialization.load_pem_private_key(key, None)
    except (TypeError, ValueError):
        raise KeysError("a private key cannot be read as PEM") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise KeysError("a private key must be one of ECDSA")
    return loaded


def publicKeyIn(certificate: Certificate) -> EllipticCurvePublicKey:
    """
    Return the key in a certificate.

    @raise KeysError: It is of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise KeysError("the key in a certificate must be one of ECDSA")
    return public
