"""
What an end of a connection needs to have of keys, wherever they are kept; and keys that are kept in memory only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from attrs import field, frozen

from asynqueue.wire.authority import Authority, makeAuthority
from asynqueue.wire.certificates import Leaf, Use, fingerprintOfPEM
from asynqueue.wire.nodes import Node, NodeList


class Keys(Protocol):
    """
    The keys of a node, and whom it knows. Each is asked for whenever it is needed, and may have changed since.
    """

    def leaf(self, use: Use) -> Leaf:
        """
        Return this node's certificate and key for a use.
        """

    def authorities(self) -> tuple[bytes, ...]:
        """
        Return the certificates of the authorities that are trusted, PEM.
        """

    def nodes(self) -> NodeList:
        """
        Return the list of nodes.
        """


class _SharedList:
    """
    The list that all nodes of a L{TemporaryAuthority} see.
    """

    def __init__(self) -> None:
        self.nodes = NodeList()


@frozen
class MemoryKeys:
    """
    The keys of a node, in memory. Made by L{TemporaryAuthority.node}.
    """

    name: str
    _leaves: Mapping[Use, Leaf] = field(repr=False)
    _authorities: tuple[bytes, ...] = field(repr=False)
    _shared: _SharedList = field(repr=False)

    def leaf(self, use: Use) -> Leaf:
        """
        Return this node's certificate and key for a use.
        """
        return self._leaves[use]

    def authorities(self) -> tuple[bytes, ...]:
        """
        Return the certificate of the authority, PEM.
        """
        return self._authorities

    def nodes(self) -> NodeList:
        """
        Return the list of nodes as it is now.
        """
        return self._shared.nodes


class TemporaryAuthority:
    """
    An authority that lives as long as this process does, for tests and for nodes that this process starts and ends.
    Nothing of it is written anywhere.

        >>> authority = TemporaryAuthority()
        >>> server = authority.node("gpu1", ["worker"])
        >>> client = authority.node("laptop", ["submit"])
    """

    def __init__(self, now: datetime | None = None) -> None:
        """
        @param now: The time, with its zone, instead of that of the system.
        @raise ImportError: The extra C{asynqueue[tls]} is not installed.
        """
        self._now = now
        self._authority: Authority = makeAuthority("temporary", self._time())
        self._shared = _SharedList()

    def node(self, name: str, roles: Iterable[str], now: datetime | None = None) -> MemoryKeys:
        """
        Make the keys of a node, and add it to the list.

        @param now: When its certificates are made, instead of the time of the system.
        @raise ValueError: The name is none of a node or has been given already, or a role is unknown.
        """
        time = now or self._time()
        leaves = {use: self._authority.issue(name, use, time) for use in Use}
        prints = {use: fingerprintOfPEM(leaf.certificate) for use, leaf in leaves.items()}
        node = Node(name, prints[Use.CLIENT], prints[Use.SERVER], frozenset(roles))
        self._shared.nodes = self._shared.nodes.adding(node)
        return MemoryKeys(name, leaves, (self._authority.certificate,), self._shared)

    def revoke(self, name: str) -> None:
        """
        Revoke the keys of a node, for all nodes at once.

        @raise ValueError: There is no such node.
        """
        self._shared.nodes = self._shared.nodes.revoking(name)

    def _time(self) -> datetime:
        return self._now or datetime.now(UTC)
