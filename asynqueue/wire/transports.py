"""
What a protocol can ask of its transport, when the other end has been let in.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, ITransport
from zope.interface import Attribute


class IIdentifiedTransport(ITransport):
    """
    The transport of a protocol behind a door.
    """

    identity = Attribute("The L{Identity} of the other end.")

    def exportKey(label: bytes, size: int) -> bytes | None:
        """
        Return bytes that both ends of this very TLS connection have, and nobody else (RFC 9266), or C{None} without
        TLS.

        @param label: What they are for.
        @param size: How many.
        """

    def abortConnection() -> None:
        """
        Close the connection at once, without sending what is buffered.
        """


def hostOf(address: IAddress | None) -> str | None:
    """
    Return the host in an address, by which connections are limited, or C{None} for one of a unix socket.
    """
    host = getattr(address, "host", None)
    return host if isinstance(host, str) else None
