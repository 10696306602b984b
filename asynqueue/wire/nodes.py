"""
The list of nodes: their names, keys and roles, and which of them are revoked, signed by the authority.

It holds no secret, and may be copied to other hosts by any means: what is not signed by a known authority, or is older
than what is there, is refused.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from itertools import product
from typing import Any

from attrs import evolve, field, frozen

from asynqueue.errors import KeysError
from asynqueue.wire.authority import Authority, isSignedBy
from asynqueue.wire.fingerprints import checkedFingerprint
from asynqueue.wire.identity import nodeName, rolesFrom

#: What is signed begins with this, so that no other signature of the authority's is one of a list.
_CONTEXT = b"asynqueue list of nodes 1\0"

#: How many signatures are looked at.
SIGNATURES_MOST = 4


def _name(value: str) -> str:
    return nodeName(value)


def _print(value: str) -> str:
    return checkedFingerprint(value)


def _roles(value: Iterable[str]) -> frozenset[str]:
    return rolesFrom(value)


@frozen
class Node:
    """
    A node on the list.

    @ivar name: Its name.
    @ivar client: The fingerprint of its key as a client.
    @ivar server: The fingerprint of its key as a server.
    @ivar roles: What it may do as a client; C{worker} is what makes a server one.
    @ivar isRevoked: Whether its keys are refused.
    """

    name: str = field(converter=_name)
    client: str = field(converter=_print)
    server: str = field(converter=_print)
    roles: frozenset[str] = field(converter=_roles)
    isRevoked: bool = False


@frozen
class NodeList:
    """
    A list of nodes.

    @ivar serial: Grows with each change.
    @ivar nodes: All nodes, also the revoked ones.
    @ivar authorities: The certificates of the authorities to trust, PEM: two, while one takes over from another.
    """

    serial: int = 0
    nodes: tuple[Node, ...] = ()
    authorities: tuple[bytes, ...] = ()

    def byFingerprint(self, fingerprint: str) -> Node | None:
        """
        Return the node that has a key, as a client or as a server. If several have had it, a revoked one counts.
        """
        found = [node for node in self.nodes if fingerprint in (node.client, node.server)]
        return max(found, key=lambda node: node.isRevoked, default=None)

    def byName(self, name: str) -> Node | None:
        """
        Return the node that has a name now, or if there is none, the one that had it last.
        """
        found = [node for node in self.nodes if node.name == name]
        return min(reversed(found), key=lambda node: node.isRevoked, default=None)

    def adding(self, node: Node) -> NodeList:
        """
        Return the list with another node.

        @raise ValueError: There is one of that name, which is not revoked.
        """
        present = self.byName(node.name)
        if present is not None and not present.isRevoked:
            raise ValueError(f"there is a node {node.name!r} already: revoke it first, or choose another name")
        return evolve(self, serial=self.serial + 1, nodes=(*self.nodes, node))

    def revoking(self, name: str) -> NodeList:
        """
        Return the list with a node revoked.

        @raise ValueError: There is no node of that name, or it is revoked already.
        """
        present = self.byName(name)
        if present is None:
            known = ", ".join(node.name for node in self.nodes if not node.isRevoked)
            raise ValueError(f"there is no node {name!r}; there are: {known}")
        if present.isRevoked:
            raise ValueError(f"the node {name!r} is revoked already")
        nodes = tuple(evolve(node, isRevoked=True) if node is present else node for node in self.nodes)
        return evolve(self, serial=self.serial + 1, nodes=nodes)

    def trusting(self, *authorities: Authority) -> NodeList:
        """
        Return the list with other authorities.
        """
        return evolve(self, serial=self.serial + 1, authorities=tuple(each.certificate for each in authorities))

    def signed(self, authorities: Iterable[Authority]) -> bytes:
        """
        Return the list as a file's content.

        @param authorities: Who sign it. Whoever trusts one of them can read it.
        """
        content = json.dumps(
            {
                "serial": self.serial,
                "authorities": [authority.decode("ascii") for authority in self.authorities],
                "nodes": [
                    {
                        "name": node.name,
                        "client": node.client,
                        "server": node.server,
                        "roles": sorted(node.roles),
                        "revoked": node.isRevoked,
                    }
                    for node in self.nodes
                ],
            }
        )
        message = _CONTEXT + content.encode()
        signatures = [b64encode(authority.sign(message)).decode() for authority in authorities]
        return json.dumps({"list": content, "signatures": signatures}, indent=1).encode() + b"\n"

    @classmethod
    def fromSigned(cls, content: bytes, authorities: Iterable[bytes], source: str) -> NodeList:
        """
        Read what L{signed} has made.

        @param authorities: The certificates of those of whom one must have signed it, PEM.
        @param source: Where it comes from, for errors.
        @raise KeysError: It is damaged, or signed by somebody else.
        """
        try:
            envelope = json.loads(content)
            text = envelope["list"]
            signatures = [b64decode(each, validate=True) for each in envelope["signatures"][:SIGNATURES_MOST]]
            message = _CONTEXT + text.encode()
        except (AttributeError, Base64Error, KeyError, RecursionError, TypeError, ValueError):
            raise KeysError(f"{source} is damaged: it is no signed list of nodes") from None
        pairs = product(authorities, signatures)
        if not any(isSignedBy(message, signature, authority) for authority, signature in pairs):
            raise KeysError(f"{source} is not signed by an authority that is known here")
        try:
            return cls._fromJSON(json.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise KeysError(f"{source} is damaged: {error}") from None

    @classmethod
    def _fromJSON(cls, content: Any) -> NodeList:
        nodes = [
            Node(each["name"], each["client"], each["server"], each["roles"], bool(each["revoked"]))
            for each in content["nodes"]
        ]
        authorities = tuple(each.encode("ascii") for each in content["authorities"])
        return cls(int(content["serial"]), tuple(nodes), authorities)

    @classmethod
    def byItsOwnAuthorities(cls, content: bytes, source: str) -> NodeList:
        """
        Read what L{signed} has made, by the authorities that it names itself: of a bundle that is trusted as a whole.

        @raise KeysError: It is damaged.
        """
        try:
            named = [each.encode("ascii") for each in json.loads(json.loads(content)["list"])["authorities"]]
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise KeysError(f"{source} is damaged: it is no signed list of nodes") from None
        return cls.fromSigned(content, named, source)
