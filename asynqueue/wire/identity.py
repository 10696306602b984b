"""
Who is at the other end of a connection, and what they may do.

Roles C{read}, C{submit}, C{control} and C{admin} contain each other, in this order. C{code} and C{worker} stand apart:
nobody has them who was not given them. C{code} is a shell on the host, for whoever may send pickles and functions may
run anything there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from attrs import field, frozen

#: The roles that contain each other, the least first.
LADDER = ("read", "submit", "control", "admin")

#: All roles, with what each is for.
ROLES = {
    "read": "see statistics and states",
    "submit": "have exposed functions called",
    "control": "cancel, retry, pause and reprioritise calls",
    "admin": "shut down, purge, and change keys",
    "code": "have anything at all run: a shell on that host",
    "worker": "run calls for others, whose results are believed",
}

#: What the name of a node looks like: a label of a host name, so that it fits into a certificate.
NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

#: How a peer can have shown who they are.
WAYS = ("tls", "unix", "token", "insecure")


def rolesFrom(names: Iterable[str], argument: str = "roles") -> frozenset[str]:
    """
    Return a set of roles.

    @param argument: What an error calls them.
    @raise ValueError: One of them is no role.
    """
    if isinstance(names, str):
        raise ValueError(f"{argument} must be a collection of roles, such as [{names!r}], not a text")
    roles = frozenset(names)
    unknown = sorted(repr(role) for role in roles if role not in ROLES)
    if unknown:
        raise ValueError(f"{argument} has {', '.join(unknown)}, but the roles are {', '.join(ROLES)}")
    return roles


def nodeName(name: str, argument: str = "name") -> str:
    """
    Return the name of a node, which has been looked at.

    @param argument: What an error calls it.
    @raise ValueError: It cannot be the name of a node.
    """
    if not isinstance(name, str) or not NODE_NAME.fullmatch(name):
        raise ValueError(
            f"{argument} must be 1 to 63 lower-case letters, digits and hyphens, such as 'gpu1', not {name!r}"
        )
    return name


def _checkedRoles(value: Iterable[str]) -> frozenset[str]:
    return rolesFrom(value)


@frozen
class Identity:
    """
    Who is at the other end, as they have shown before anything they said was read.

    @ivar name: The name of a node, C{"uid:1000"} for a user of this host, or a text of the listener's own.
    @ivar roles: What they may do.
    @ivar how: How they have shown it: C{"tls"} by a certificate, C{"unix"} by being a user of this host, C{"token"} by
        knowing a secret, C{"insecure"} not at all.
    @ivar fingerprint: That of the key they have shown, if they have, otherwise an empty text.
    """

    name: str
    roles: frozenset[str] = field(converter=_checkedRoles)
    how: str = field()
    fingerprint: str = ""

    @how.validator
    def _checkHow(self, _attribute: Any, value: str) -> None:
        if value not in WAYS:
            raise ValueError(f"how must be one of {', '.join(WAYS)}, not {value!r}")

    def may(self, role: str) -> bool:
        """
        Tell whether they have a role, by itself or as a part of one that they have.

        @raise ValueError: There is no such role.
        """
        if role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, not {role!r}")
        if role in self.roles:
            return True
        return role in LADDER and any(other in self.roles for other in LADDER[LADDER.index(role) :])
