"""
The keys of a node in a folder: read when they are needed, and again when they have changed.

The files, all of mode 0600 in a folder of mode 0700::

    server.pem       this node's certificate as a server, and the key of it
    client.pem       the same as a client
    authorities.pem  the certificates of the authorities that are trusted, the one that signs now first
    nodes.json       the list of nodes, signed
    authority.key    the key of the authority: on the one host where nodes are added; while one authority takes over
                     from another, the keys of both, the new one first
    issued/          the certificates of all nodes, without their keys: on that host, too

@see: L{asynqueue.wire.keyoffice}, which writes them
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from twisted.logger import Logger

from asynqueue.errors import AsynQueueError, KeysError
from asynqueue.wire.certificates import Leaf, Use, isRenewalDue, loadCertificate, nameIn
from asynqueue.wire.nodes import NodeList
from asynqueue.wire.privatefiles import checkPrivateFolder, readPrivate

T = TypeVar("T")

AUTHORITIES = "authorities.pem"
AUTHORITY_KEY = "authority.key"
NODES = "nodes.json"
ISSUED = "issued"
LOCK = "lock"

#: How long after a renewal that has failed it is tried again.
RETRY = timedelta(hours=1)

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----\r?\n?", re.DOTALL)


def defaultFolder() -> Path:
    """
    Return where keys are kept unless told otherwise: C{$XDG_CONFIG_HOME/asynqueue/pki}.
    """
    home = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".config"
    return base / "asynqueue" / "pki"


def certificatesIn(content: bytes) -> tuple[bytes, ...]:
    """
    Return the certificates in a text, each as PEM.
    """
    return tuple(found[0] for found in _PEM.finditer(content) if found[1] == b"CERTIFICATE")


def keysIn(content: bytes) -> tuple[bytes, ...]:
    """
    Return the private keys in a text, each as PEM.
    """
    return tuple(found[0] for found in _PEM.finditer(content) if found[1].endswith(b"PRIVATE KEY"))


def leafIn(content: bytes, source: str) -> Leaf:
    """
    Return the certificate and the key in a text.

    @param source: What an error calls it.
    @raise KeysError: There is not one of each.
    """
    certificates, keys = certificatesIn(content), keysIn(content)
    if len(certificates) != 1 or len(keys) != 1:
        raise KeysError(f"{source} must have one certificate and one private key, and is damaged")
    return Leaf(certificates[0], keys[0])


class _Watched:
    """
    What was made of a file, until it changes.
    """

    def __init__(self) -> None:
        self._made: dict[Path, tuple[Any, Any]] = {}

    def get(self, path: Path, make: Callable[[bytes], T]) -> T:
        status = os.lstat(path)
        mark = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        present = self._made.get(path)
        if present is None or present[0] != mark:
            present = self._made[path] = (mark, make(readPrivate(path, "the file of keys")))
        value: T = present[1]
        return value


class KeyStore:
    """
    The keys in a folder.
    """

    log = Logger()

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """
        @param folder: Where they are, instead of in L{defaultFolder}.
        @param now: Returns the time, with its zone.
        @raise KeysError: There are none.
        @raise InsecureTransport: Others can get at the folder.
        """
        self.folder = defaultFolder() if folder is None else Path(folder)
        self._now = now
        self._files = _Watched()
        # When it was last tried to renew a certificate, or it was said that it is old.
        self._renewals: dict[bytes, datetime] = {}
        try:
            checkPrivateFolder(self.folder, "the folder of keys,")
        except FileNotFoundError:
            raise KeysError(
                f"there are no keys in {self.folder}: make them by `asynqueue keys init`, or bring them from another"
                " host by `asynqueue keys join`"
            ) from None

    @property
    def name(self) -> str:
        """
        The name of this node.
        """
        return nameIn(loadCertificate(self.leafAsIs(Use.SERVER).certificate))

    @property
    def isAuthority(self) -> bool:
        """
        Whether nodes can be added here.
        """
        return os.path.lexists(self.folder / AUTHORITY_KEY)

    def leaf(self, use: Use) -> Leaf:
        """
        Return this node's certificate and key for a use. One that is old is renewed first, if the authority is here. It
        is good for a month still, and if it cannot be renewed now, that is logged, and tried again an hour later.

        @raise KeysError: It is missing or damaged.
        @raise InsecureTransport: Others can get at it.
        """
        leaf = self.leafAsIs(use)
        return self._renewed(use, leaf) if isRenewalDue(leaf.certificate, self._now()) else leaf

    def authorities(self) -> tuple[bytes, ...]:
        """
        Return the certificates of the authorities that are trusted, PEM.

        @raise KeysError: They are missing or damaged.
        @raise InsecureTransport: Others can get at them.
        """
        return self._read(AUTHORITIES, certificatesIn)

    def nodes(self) -> NodeList:
        """
        Return the list of nodes.

        @raise KeysError: It is missing or damaged, or signed by somebody else.
        @raise InsecureTransport: Others can get at it.
        """
        path = self.folder / NODES
        authorities = self.authorities()
        return self._read(NODES, lambda content: NodeList.fromSigned(content, authorities, str(path)))

    def leafAsIs(self, use: Use) -> Leaf:
        """
        Return this node's certificate and key for a use, however old it is.

        @raise KeysError: It is missing or damaged.
        @raise InsecureTransport: Others can get at it.
        """
        name = f"{use.value}.pem"
        return self._read(name, lambda content: leafIn(content, str(self.folder / name)))

    def _read(self, name: str, make: Callable[[bytes], T]) -> T:
        try:
            return self._files.get(self.folder / name, make)
        except FileNotFoundError:
            raise KeysError(f"{self.folder} has no {name}, and so no usable keys") from None

    def _renewed(self, use: Use, leaf: Leaf) -> Leaf:
        now, before = self._now(), self._renewals.get(leaf.certificate)
        if before is not None and (now - before < RETRY or not self.isAuthority):
            return leaf
        self._renewals[leaf.certificate] = now
        try:
            if self.isAuthority:
                from asynqueue.wire.keyoffice import KeyOffice

                # Whoever is connecting does not wait for what others do to the keys.
                KeyOffice(self.folder, self._now).renewOwn(wait=False)
                return self.leafAsIs(use)
            self.log.warn(
                "the certificate of {node} as a {use} is old: on the host of the authority, do"
                " `asynqueue keys add {node} --renew`, and here `asynqueue keys join` with what that writes",
                node=self.name,
                use=use.value,
            )
        except (AsynQueueError, OSError, ValueError):
            self.log.failure(
                "the certificate as a {use} in {folder} was not renewed", use=use.value, folder=self.folder
            )
        return leaf
