"""
Bundles: what a node needs to join, in one file, which may be encrypted with a passphrase.

A bundle with keys is as good as the node that it is for: whoever has it can pass for that node. A bundle that renews
certificates has no keys in it.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from asynqueue.errors import KeysError
from asynqueue.wire.certificates import Use, requireCryptography
from asynqueue.wire.identity import nodeName

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: How a bundle begins.
_PLAIN = "asynqueue bundle 1"
_ENCRYPTED = "asynqueue bundle 1, encrypted"

#: The shortest passphrase that is accepted, in characters.
PASSPHRASE_LEAST = 12

#: What scrypt takes: 64 MiB, and about a fifth of a second.
_SCRYPT = {"n": 1 << 16, "r": 8, "p": 1}


@frozen
class Bundle:
    """
    What a node needs to join.

    @ivar name: Its name.
    @ivar certificates: By their uses, PEM.
    @ivar keys: Likewise; empty if it has them already.
    @ivar nodes: The signed list of nodes, which has the authorities.
    """

    name: str = field(converter=nodeName)
    certificates: Mapping[Use, bytes]
    keys: Mapping[Use, bytes] = field(repr=False)
    nodes: bytes

    def toBytes(self, passphrase: str | None = None) -> bytes:
        """
        Return the content of a file.

        @param passphrase: Encrypts it.
        @raise ValueError: The passphrase is too short.
        """
        content = json.dumps(
            {
                "name": self.name,
                "certificates": {use.value: pem.decode("ascii") for use, pem in self.certificates.items()},
                "keys": {use.value: pem.decode("ascii") for use, pem in self.keys.items()},
                "nodes": self.nodes.decode(),
            }
        ).encode()
        if passphrase is None:
            return _wrapped(_PLAIN, {"content": content})
        if len(passphrase) < PASSPHRASE_LEAST:
            raise ValueError(f"the passphrase must have {PASSPHRASE_LEAST} characters or more")
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        sealed = _cipher(passphrase, salt).encrypt(nonce, content, _ENCRYPTED.encode())
        return _wrapped(_ENCRYPTED, {"salt": salt, "nonce": nonce, "content": sealed})

    @classmethod
    def fromBytes(cls, content: bytes, passphrase: str | None, source: str) -> Bundle:
        """
        Read the content of a file.

        @param source: What an error calls it.
        @raise KeysError: It is damaged, or needs another passphrase, or one at all.
        """
        kind, parts = _unwrapped(content, source)
        if kind == _ENCRYPTED:
            if passphrase is None:
                raise KeysError(f"{source} is encrypted, and needs its passphrase")
            inner = _decrypted(parts, passphrase, source)
        else:
            inner = parts.get("content", b"")
        try:
            found = json.loads(inner)
            return cls(
                found["name"],
                {Use(use): pem.encode("ascii") for use, pem in found["certificates"].items()},
                {Use(use): pem.encode("ascii") for use, pem in found["keys"].items()},
                found["nodes"].encode(),
            )
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise KeysError(f"{source} is damaged: it is no bundle") from None


def isBundle(content: bytes) -> bool:
    """
    Tell whether something looks like a bundle, rather than like a list of nodes.
    """
    try:
        found = json.loads(content)
    except (RecursionError, ValueError):
        return True
    # What is neither is read as a bundle, and complained about there.
    return not (isinstance(found, dict) and "list" in found)


def isEncrypted(content: bytes, source: str) -> bool:
    """
    Tell whether a bundle is encrypted.

    @param source: What an error calls it.
    @raise KeysError: It is no bundle.
    """
    return _unwrapped(content, source)[0] == _ENCRYPTED


def _wrapped(kind: str, parts: Mapping[str, bytes]) -> bytes:
    return json.dumps({"kind": kind, **{name: b64encode(part).decode() for name, part in parts.items()}}).encode()


def _unwrapped(content: bytes, source: str) -> tuple[str, dict[str, bytes]]:
    try:
        found = json.loads(content)
        kind = found.pop("kind")
        parts = {name: b64decode(part, validate=True) for name, part in found.items()}
    except (AttributeError, Base64Error, KeyError, RecursionError, TypeError, ValueError):
        raise KeysError(f"{source} is no bundle") from None
    if kind not in (_PLAIN, _ENCRYPTED):
        raise KeysError(f"{source} is a bundle of an unknown kind; this version knows {_PLAIN!r}")
    return kind, parts


def _decrypted(parts: Mapping[str, bytes], passphrase: str, source: str) -> bytes:
    requireCryptography()
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(passphrase, parts["salt"]).decrypt(parts["nonce"], parts["content"], _ENCRYPTED.encode())
    except InvalidTag:
        raise KeysError(f"{source} has another passphrase, or is damaged") from None
    except (KeyError, ValueError):
        raise KeysError(f"{source} is damaged: it is no bundle") from None


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    requireCryptography()
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase.encode()))
