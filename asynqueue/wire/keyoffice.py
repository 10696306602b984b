"""
Changes of the keys in a folder: what C{asynqueue keys} does.

The authority's key is on one host. There, nodes are added and revoked; each node gets a bundle
(L{asynqueue.wire.bundles}). The list of nodes is one signed file, which goes to all nodes when it has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from asynqueue.errors import KeysError
from asynqueue.wire.authority import Authority, makeAuthority
from asynqueue.wire.bundles import Bundle
from asynqueue.wire.certificates import Leaf, Use, fingerprintOfPEM, requireCryptography
from asynqueue.wire.filelock import FileLock
from asynqueue.wire.identity import nodeName, rolesFrom
from asynqueue.wire.keystore import (
    AUTHORITIES,
    AUTHORITY_KEY,
    ISSUED,
    LOCK,
    NODES,
    KeyStore,
    certificatesIn,
    defaultFolder,
    keysIn,
)
from asynqueue.wire.nodes import Node, NodeList
from asynqueue.wire.privatefiles import makePrivateFolder, readPrivate, writePrivate

#: What the node may do on which the keys are made: its user can do all of it anyway.
OWN_ROLES = ("admin", "code", "worker")


class KeyOffice:
    """
    Changes the keys in a folder. Each change holds a lock, so that none is lost.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """
        @param folder: Where they are, instead of in L{defaultFolder}.
        @param now: Returns the time, with its zone.
        @raise ImportError: The extra C{asynqueue[tls]} is not installed.
        """
        requireCryptography()
        self.folder = defaultFolder() if folder is None else Path(folder)
        self._now = now

    def store(self) -> KeyStore:
        """
        Return the keys that are there.

        @raise KeysError: There are none.
        """
        return KeyStore(self.folder, self._now)

    def create(self, name: str, roles: Iterable[str] = OWN_ROLES) -> KeyStore:
        """
        Make an authority, and the keys of this node.

        @param name: That of this node.
        @raise KeysError: There are keys already.
        @raise ValueError: The name cannot be that of a node, or a role is unknown.
        """
        nodeName(name)
        granted = rolesFrom(roles)
        with self._changing():
            if os.path.lexists(self.folder / AUTHORITIES):
                raise KeysError(f"there are keys in {self.folder} already; nothing was changed")
            authority = makeAuthority(f"authority of {name}", self._now())
            leaves = self._issue(authority, name)
            self._writeLeaves(leaves)
            self._writeList(NodeList().trusting(authority).adding(_nodeOf(name, leaves, granted)), [authority])
            self._write(AUTHORITY_KEY, authority.key)
            # What makes the folder complete comes last.
            self._write(AUTHORITIES, authority.certificate)
        return self.store()

    def add(self, name: str, roles: Iterable[str]) -> Bundle:
        """
        Add a node to the list, and make its keys.

        @return: What that node needs. Its keys are nowhere else.
        @raise KeysError: The authority is not here.
        @raise ValueError: The name is taken or cannot be that of a node, or a role is unknown, or there is none.
        """
        granted = rolesFrom(roles)
        if not granted:
            raise ValueError("roles must have one role at least")
        with self._changing():
            store, authorities = self._authorities()
            present = store.nodes().byName(nodeName(name))
            if present is not None and not present.isRevoked:
                raise ValueError(f"there is a node {name!r} already: revoke it first, or choose another name")
            leaves = self._issue(authorities[0], name)
            self._writeList(store.nodes().adding(_nodeOf(name, leaves, granted)), authorities)
            return self._bundle(name, leaves)

    def renew(self, name: str) -> Bundle:
        """
        Make new certificates for the keys that a node has.

        @return: What that node needs; there is no key in it.
        @raise KeysError: The authority is not here, or did not make the certificates of that node.
        @raise ValueError: There is no such node, or it is revoked.
        """
        with self._changing():
            store, authorities = self._authorities()
            node = store.nodes().byName(nodeName(name))
            if node is None or node.isRevoked:
                raise ValueError(f"there is no node {name!r} that could be renewed")
            renewed = {use: Leaf(authorities[0].renew(self._issued(name, use), self._now()), b"") for use in Use}
            for use, leaf in renewed.items():
                self._writeIssued(name, use, leaf.certificate)
            return self._bundle(name, renewed)

    def renewOwn(self, wait: bool = True) -> None:
        """
        Make new certificates for the keys that this node has.

        @param wait: Whether to wait for another process that is changing the keys.
        @raise KeysError: The authority is not here.
        @raise BlockingIOError: Another process is changing the keys.
        """
        with self._changing(wait):
            self._renewOwn(self._authorities()[1][0])

    def revoke(self, name: str) -> NodeList:
        """
        Revoke the keys of a node.

        @return: The list of nodes.
        @raise KeysError: The authority is not here.
        @raise ValueError: There is no such node, or it is this one.
        """
        with self._changing():
            store, authorities = self._authorities()
            if name == store.name:
                raise ValueError(f"{name!r} is this node, which has the authority; it cannot revoke itself")
            nodes = store.nodes().revoking(name)
            self._writeList(nodes, authorities)
            return nodes

    def rotate(self) -> None:
        """
        Make another authority, and new certificates for this node. The authority that there was stays trusted until
        L{finishRotation}.

        @raise KeysError: The authority is not here, or has been rotated and that is not finished.
        """
        with self._changing():
            store, authorities = self._authorities()
            if len(authorities) > 1:
                raise KeysError("the authority is being rotated already: finish that first, by --finish")
            old, new = authorities[0], makeAuthority(f"authority of {store.name}", self._now())
            # First it is trusted, then it is used: wherever this is interrupted, what is there can be used.
            self._write(AUTHORITIES, new.certificate + old.certificate)
            self._write(AUTHORITY_KEY, new.key + old.key)
            self._writeList(store.nodes().trusting(new, old), [new, old])
            self._renewOwn(new)

    def finishRotation(self) -> None:
        """
        Trust the old authority no more: nodes that have not been renewed cannot connect from now on.

        @raise KeysError: The authority is not here, or is not being rotated.
        """
        with self._changing():
            store, authorities = self._authorities()
            if len(authorities) < 2:
                raise KeysError("the authority is not being rotated, so there is nothing to finish")
            new = authorities[0]
            self._writeList(store.nodes().trusting(new), [new])
            self._write(AUTHORITY_KEY, new.key)
            self._write(AUTHORITIES, new.certificate)

    def join(self, bundle: Bundle) -> KeyStore:
        """
        Take up a bundle: become the node that it is for, or renew this node's certificates by it.

        @raise KeysError: It is damaged, is for another node than this one, or has certificates for other keys.
        """
        with self._changing():
            isNew = not os.path.lexists(self.folder / AUTHORITIES)
            if isNew:
                nodes = NodeList.byItsOwnAuthorities(bundle.nodes, "the list in the bundle")
            else:
                nodes = self._succession(bundle)
            self._writeLeaves(self._leavesOf(bundle, None if isNew else self.store()))
            self._writeAccepted(nodes, bundle.nodes)
        return self.store()

    def accept(self, signed: bytes, source: str) -> NodeList:
        """
        Take up a list of nodes from the host of the authority.

        @param source: What an error calls it.
        @raise KeysError: It is damaged, signed by somebody else, or older than the one that there is.
        """
        with self._changing():
            nodes = self._newer(signed, source)
            self._writeAccepted(nodes, signed)
            return nodes

    def _changing(self, wait: bool = True) -> FileLock:
        makePrivateFolder(self.folder, "the folder of keys,")
        return FileLock(self.folder / LOCK, wait)

    def _authorities(self) -> tuple[KeyStore, list[Authority]]:
        store = self.store()
        certificates = store.authorities()
        try:
            keys = keysIn(readPrivate(self.folder / AUTHORITY_KEY, "the key of the authority,"))
        except FileNotFoundError:
            raise KeysError(
                f"the key of the authority is not in {self.folder}: do this on the host where `asynqueue keys init` was"
            ) from None
        pairs = [Authority(certificate, key) for key in keys for certificate in certificates]
        found = [authority for authority in pairs if authority.isComplete()]
        if not found:
            raise KeysError(f"the key of the authority in {self.folder} is that of none of its certificates")
        return store, found

    def _issue(self, authority: Authority, name: str) -> dict[Use, Leaf]:
        leaves = {use: authority.issue(name, use, self._now()) for use in Use}
        for use, leaf in leaves.items():
            self._writeIssued(name, use, leaf.certificate)
        return leaves

    def _renewOwn(self, authority: Authority) -> None:
        store = self.store()
        for use in Use:
            leaf = store.leafAsIs(use)
            renewed = Leaf(authority.renew(leaf.certificate, self._now()), leaf.key)
            self._write(f"{use.value}.pem", renewed.certificate + renewed.key)
            self._writeIssued(store.name, use, renewed.certificate)

    def _bundle(self, name: str, leaves: dict[Use, Leaf]) -> Bundle:
        return Bundle(
            name,
            {use: leaf.certificate for use, leaf in leaves.items()},
            {use: leaf.key for use, leaf in leaves.items() if leaf.key},
            readPrivate(self.folder / NODES),
        )

    def _leavesOf(self, bundle: Bundle, present: KeyStore | None) -> dict[Use, Leaf]:
        leaves = {}
        for use in Use:
            if use not in bundle.certificates:
                raise KeysError(f"the bundle has no certificate for a {use.value}")
            certificate = bundle.certificates[use]
            if use in bundle.keys:
                leaf = Leaf(certificate, bundle.keys[use])
            elif present is None:
                raise KeysError("the bundle renews certificates, and the keys for them are not here")
            else:
                leaf = Leaf(certificate, present.leafAsIs(use).key)
            if not leaf.isComplete():
                raise KeysError(f"the certificate for a {use.value} in the bundle is not for the key of this node")
            leaves[use] = leaf
        return leaves

    def _succession(self, bundle: Bundle) -> NodeList:
        store = self.store()
        if store.isAuthority:
            raise KeysError(f"{self.folder} has the authority itself, and can join no other")
        if store.name != bundle.name:
            raise KeysError(f"the bundle is for the node {bundle.name}, and this is {store.name}")
        return self._newer(bundle.nodes, "the list in the bundle")

    def _newer(self, signed: bytes, source: str) -> NodeList:
        store = self.store()
        nodes = NodeList.fromSigned(signed, store.authorities(), source)
        present = store.nodes()
        if nodes.serial < present.serial:
            raise KeysError(f"{source} is older ({nodes.serial}) than the list here ({present.serial})")
        return nodes

    def _writeAccepted(self, nodes: NodeList, signed: bytes) -> None:
        if not nodes.authorities:
            raise KeysError("the list of nodes names no authority, and is damaged")
        self._write(NODES, signed)
        # What makes the folder complete comes last.
        self._write(AUTHORITIES, b"".join(nodes.authorities))

    def _writeLeaves(self, leaves: dict[Use, Leaf]) -> None:
        for use, leaf in leaves.items():
            self._write(f"{use.value}.pem", leaf.certificate + leaf.key)

    def _writeList(self, nodes: NodeList, authorities: list[Authority]) -> None:
        self._write(NODES, nodes.signed(authorities))

    def _write(self, name: str, content: bytes) -> None:
        writePrivate(self.folder / name, content, replace=True)

    def _issued(self, name: str, use: Use) -> bytes:
        with suppress(FileNotFoundError):
            found = certificatesIn(readPrivate(self.folder / ISSUED / f"{name}.{use.value}.pem"))
            if len(found) == 1:
                return found[0]
        raise KeysError(f"{self.folder / ISSUED} has no certificate of {name} as a {use.value} that could be renewed")

    def _writeIssued(self, name: str, use: Use, certificate: bytes) -> None:
        makePrivateFolder(self.folder / ISSUED, "the folder of issued certificates,")
        writePrivate(self.folder / ISSUED / f"{name}.{use.value}.pem", certificate, replace=True)


def _nodeOf(name: str, leaves: dict[Use, Leaf], roles: frozenset[str]) -> Node:
    prints = {use: fingerprintOfPEM(leaf.certificate) for use, leaf in leaves.items()}
    return Node(name, prints[Use.CLIENT], prints[Use.SERVER], roles)
