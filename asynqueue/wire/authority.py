"""
The authority that signs the certificates of nodes: ECDSA over P-256.

What it signs cannot sign anything itself. Needs the package cryptography, which the extra C{asynqueue[tls]} has.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import field, frozen

from asynqueue.wire.certificates import (
    DOMAIN,
    URI_PREFIX,
    Leaf,
    Use,
    loadCertificate,
    loadKey,
    nameIn,
    publicKeyIn,
    requireCryptography,
    useIn,
)
from asynqueue.wire.identity import nodeName

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.x509 import Certificate, GeneralName, KeyUsage

#: How long the certificate of a node is valid.
LEAF_LIFETIME = timedelta(days=90)

#: How long the certificate of an authority is valid.
AUTHORITY_LIFETIME = timedelta(days=3650)

#: How much the clocks of two hosts may differ.
CLOCK_SKEW = timedelta(minutes=5)


@frozen
class Authority:
    """
    An authority with its key.

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
        return Leaf(self.certificate, self.key).isComplete()

    def issue(self, name: str, use: Use, now: datetime) -> Leaf:
        """
        Make a key for a node, and a certificate for it.

        @param now: The time, with its zone.
        @raise ValueError: The name cannot be one of a node.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        return Leaf(self._sign(name, use, key.public_key(), now), _keyPEM(key))

    def renew(self, certificate: bytes, now: datetime) -> bytes:
        """
        Make a new certificate for the key, the name and the use of an old one.

        @param certificate: PEM.
        @return: PEM.
        """
        old = loadCertificate(certificate)
        return self._sign(nameIn(old), useIn(old), publicKeyIn(old), now)

    def sign(self, message: bytes) -> bytes:
        """
        Sign a message, with ECDSA and SHA-256.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return loadKey(self.key).sign(message, ec.ECDSA(hashes.SHA256()))

    def _sign(self, name: str, use: Use, publicKey: EllipticCurvePublicKey, now: datetime) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        nodeName(name)
        authority = loadCertificate(self.certificate)
        isServer = use is Use.SERVER
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if isServer else ExtendedKeyUsageOID.CLIENT_AUTH
        alternative: GeneralName = (
            x509.DNSName(f"{name}.{DOMAIN}") if isServer else x509.UniformResourceIdentifier(f"{URI_PREFIX}{name}")
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority.subject)
            .public_key(publicKey)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + LEAF_LIFETIME, authority.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_keyUsage(signsCertificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(publicKey), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(publicKeyIn(authority)), critical=False)
            .sign(loadKey(self.key), hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def makeAuthority(label: str, now: datetime) -> Authority:
    """
    Make an authority, which can sign the certificates of nodes and no other authority.

    @param label: What it is called in its certificate.
    @param now: The time, with its zone.
    @raise ImportError: The extra is not installed.
    """
    requireCryptography()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number tells two authorities of one label apart, whose names must differ.
    serial = x509.random_serial_number()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "asynqueue"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{label[:40]} {serial & 0xFFFFFFFF:08x}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_keyUsage(signsCertificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _keyPEM(key))


def isSignedBy(message: bytes, signature: bytes, authority: bytes) -> bool:
    """
    Tell whether a signature of a message is that of an authority.

    @param authority: Its certificate, PEM.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        publicKeyIn(loadCertificate(authority)).verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def isIssuedBy(certificate: Certificate, authority: bytes, now: datetime) -> bool:
    """
    Tell whether a certificate is one of an authority's, which is valid now.

    @param authority: Its certificate, PEM.
    """
    from cryptography.exceptions import InvalidSignature

    issuer = loadCertificate(authority)
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc


def _keyUsage(signsCertificates: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signsCertificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signsCertificates,
        crl_sign=signsCertificates,
        encipher_only=False,
        decipher_only=False,
    )


def _keyPEM(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
