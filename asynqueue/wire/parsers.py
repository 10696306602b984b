"""
C{aqtls:} and C{aqtoken:} for C{serverFromString} and C{clientFromString} of Twisted, by its plug-ins.

Twisted loads this module when it looks for plug-ins of whatever kind, so that it loads nothing but what it needs then.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


def _described(kind: str, arguments: tuple[str, ...], keywords: dict[str, str]) -> str:
    named = [f"{name}={_quoted(value)}" for name, value in keywords.items()]
    return ":".join([kind, *map(_quoted, arguments), *named])


def _quoted(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


@implementer(IPlugin, IStreamServerEndpointStringParser)
class ServerParser:
    """
    Makes the endpoints of servers.
    """

    def __init__(self, prefix: str) -> None:
        """
        @param prefix: The kind of endpoint.
        """
        self.prefix = prefix

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """
        Make the endpoint that a description means. C{insecure_root=yes} permits a process of root.

        @see: L{asynqueue.wire.endpoints.serverEndpoint}
        """
        from asynqueue.wire.endpoints import serverEndpoint

        isRootPermitted = kwargs.pop("insecure_root", "no") == "yes"
        return serverEndpoint(reactor, _described(self.prefix, args, kwargs), insecure_root=isRootPermitted)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class ClientParser:
    """
    Makes the endpoints of clients.
    """

    def __init__(self, prefix: str) -> None:
        """
        @param prefix: The kind of endpoint.
        """
        self.prefix = prefix

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamClientEndpoint:
        """
        Make the endpoint that a description means.

        @see: L{asynqueue.wire.endpoints.clientEndpoint}
        """
        from asynqueue.wire.endpoints import clientEndpoint

        return clientEndpoint(reactor, _described(self.prefix, args, kwargs))
