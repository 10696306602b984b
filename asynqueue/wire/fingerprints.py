"""
Fingerprints of public keys, and URLs that name a server by one: C{aq://FINGERPRINT@HOST:PORT}.

Such a URL locates a server and says what its key is, so that it is enough to connect with: no authority needs to be
known. A certificate that is renewed keeps its key, and so its fingerprint.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from attrs import field, frozen

#: SHA-256, in hexadecimal digits.
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

SCHEME = "aq"

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")


def fingerprintOf(publicKeyInfo: bytes) -> str:
    """
    Return the fingerprint of a public key: the SHA-256 of its SubjectPublicKeyInfo, as 64 hexadecimal digits.

    @param publicKeyInfo: DER, as it stands in a certificate.
    """
    return sha256(publicKeyInfo).hexdigest()


def checkedFingerprint(text: str, argument: str = "fingerprint") -> str:
    """
    Return a fingerprint, which has been looked at, in lower case.

    @param argument: What an error calls it.
    @raise ValueError: It is none.
    """
    if not isinstance(text, str) or not _FINGERPRINT.fullmatch(text.lower()):
        raise ValueError(
            f"{argument} must be 64 hexadecimal digits, as `asynqueue keys show` prints them, not {text!r}"
        )
    return text.lower()


def _fingerprintIn(value: str) -> str:
    return checkedFingerprint(value)


@frozen
class ServerURL:
    """
    Where a server is, and which key it has. C{str()} gives the text of it.

    @ivar fingerprint: Of the key in its certificate.
    @ivar host: A name, or an address without brackets.
    @ivar port: 1 to 65,535.
    """

    fingerprint: str = field(converter=_fingerprintIn)
    host: str = field()
    port: int = field()

    @host.validator
    def _checkHost(self, _attribute: Any, value: str) -> None:
        if not isinstance(value, str) or not _HOST.fullmatch(value):
            raise ValueError(f"host must be a host's name or address, not {value!r}")

    @port.validator
    def _checkPort(self, _attribute: Any, value: int) -> None:
        if not isinstance(value, int) or not 1 <= value <= 65535:
            raise ValueError(f"port must be from 1 to 65535, not {value!r}")

    @classmethod
    def fromText(cls, text: str) -> ServerURL:
        """
        Read a URL.

        @raise ValueError: It is not of the form C{aq://FINGERPRINT@HOST:PORT}.
        """
        scheme, separator, rest = text.partition("://")
        if scheme.lower() != SCHEME or not separator:
            raise ValueError(f"the URL {text!r} must begin with {SCHEME}://")
        fingerprint, separator, place = rest.removesuffix("/").rpartition("@")
        if not separator:
            raise ValueError(f"the URL {text!r} must have a fingerprint and @ before the host")
        host, separator, port = place.rpartition(":")
        if not separator or not port.isascii() or not port.isdigit():
            raise ValueError(f"the URL {text!r} must end with a colon and the number of a port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"the URL {text!r} must have brackets around an address with colons")
        try:
            return cls(fingerprint, host, int(port))
        except ValueError as error:
            raise ValueError(f"the URL {text!r} is wrong: {error}") from None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}://{self.fingerprint}@{host}:{self.port}"
