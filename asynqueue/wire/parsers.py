"""
C{aqtls:} for C{serverFromString} and C{clientFromString} of Twisted, by its plug-ins.

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


def _described(arguments: tuple[str, ...], keywords: dict[str, str]) -> str:
    named = [f"{name}={_quoted(value)}" for name, value in keywords.items()]
    return ":".join(["aqtls", *map(_quoted, arguments), *named])


def _quoted(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


@implementer(IPlugin, IStreamServerEndpointStringParser)
class TLSServerParser:
    """
    Makes the endpoints of servers.
    """

    prefix = "aqtls"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """
        Make the endpoint that C{aqtls:PORT:interface=ADDRESS} means. C{insecure_root=yes} permits a process of root.

        @see: L{asynqueue.wire.endpoints.serverEndpoint}
        """
        from asynqueue.wire.endpoints import serverEndpoint

        isRootPermitted = kwargs.pop("insecure_root", "no") == "yes"
        return serverEndpoint(reactor, _described(args, kwargs), insecure_root=isRootPermitted)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class TLSClientParser:
    """
    Makes the endpoints of clients.
    """

    prefix = "aqtls"

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamClientEndpoint:
        """
        Make the endpoint that C{aqtls:HOST:PORT:node=NAME} means.

        @see: L{asynqueue.wire.endpoints.clientEndpoint}
        """
        from asynqueue.wire.endpoints import clientEndpoint

        return clientEndpoint(reactor, _described(args, kwargs))
