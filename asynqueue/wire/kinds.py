"""
The secure kinds of endpoints, each made from the parts of its description.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.abstract import isIPv6Address
from twisted.internet.interfaces import IStreamClientEndpoint

from asynqueue.errors import AuthError, InsecureTransport
from asynqueue.wire.challenge import readToken
from asynqueue.wire.descriptions import Description
from asynqueue.wire.fingerprints import checkedFingerprint
from asynqueue.wire.guarded import GuardedClientEndpoint, GuardedServerEndpoint
from asynqueue.wire.identity import nodeName, rolesFrom
from asynqueue.wire.judges import ClientCertificateJudge, Judge, SameUserJudge, ServerCertificateJudge, TokenJudge
from asynqueue.wire.keys import Keys
from asynqueue.wire.limits import Limits
from asynqueue.wire.tls import TLSEnds, TokenEnds
from asynqueue.wire.unixsockets import PrivateUNIXServerEndpoint, checkedPath, checkSocket

#: What descriptions begin with: of our TLS with certificates, of our TLS with a token, of a unix socket.
TLS_KIND = "aqtls"
TOKEN_KIND = "aqtoken"
UNIX_KIND = "unix"

#: Where a server listens unless told otherwise.
LOOPBACK = "127.0.0.1"

#: How many connections may wait to be accepted, as a description has it: who comes at the same time as many whom nobody
#: wants is not to wait until the kernel tries again.
BACKLOG = "1024"

_LONGEST_TIMEOUT = 86_400


@frozen
class ServerSettings:
    """
    What holds for a server whatever its kind is.

    @see: L{asynqueue.wire.endpoints.serverEndpoint}
    """

    keys: Keys | None = None
    limits: Limits | None = None
    onRefused: Callable[[AuthError], object] | None = None


@frozen
class ClientSettings:
    """
    What holds for a client whatever its kind is.

    @see: L{asynqueue.wire.endpoints.clientEndpoint}
    """

    keys: Keys | None = None
    limits: Limits | None = None
    timeout: float = 30.0


def unixServer(reactor: Any, parts: Description, settings: ServerSettings) -> GuardedServerEndpoint:
    """
    Make the endpoint of C{unix:PATH}.
    """
    given = _known(parts, ["address", "mode", "backlog", "lockfile"], 1)
    path = _unixPath(parts, given, "address")
    inner = PrivateUNIXServerEndpoint(reactor, path, _backlog(parts))
    return GuardedServerEndpoint(reactor, inner, SameUserJudge(), None, settings.limits, settings.onRefused)


def unixClient(reactor: Any, parts: Description, settings: ClientSettings) -> IStreamClientEndpoint:
    """
    Make the endpoint of C{unix:PATH}.
    """
    from twisted.internet.endpoints import UNIXClientEndpoint

    given = _known(parts, ["path", "mode", "timeout", "lockfile"], 1)
    named = _unixPath(parts, given, "path")
    checkedPath(named)
    absolute = os.path.abspath(named)
    timeout = _timeout(parts, settings)

    def inner() -> IStreamClientEndpoint:
        path = checkedPath(absolute)
        if os.path.lexists(path):
            # Otherwise connecting fails, with an error that says so.
            checkSocket(path)
        return UNIXClientEndpoint(reactor, os.fspath(path), timeout=timeout)

    return GuardedClientEndpoint(reactor, inner, SameUserJudge(), None, settings.limits)


def tlsServer(reactor: Any, parts: Description, settings: ServerSettings) -> GuardedServerEndpoint:
    """
    Make the endpoint of C{aqtls:PORT}.
    """
    _known(parts, ["port", "interface", "backlog", "keys"], 1)
    keys = keysFor(parts, settings.keys)
    return _tcpServer(reactor, parts, settings, ClientCertificateJudge(keys), TLSEnds(keys))


def tokenServer(reactor: Any, parts: Description, settings: ServerSettings) -> GuardedServerEndpoint:
    """
    Make the endpoint of C{aqtoken:PORT:token=FILE}.
    """
    given = _known(parts, ["port", "interface", "backlog", "token", "roles"], 1)
    roles = rolesFrom(given.get("roles", "submit").split(","), "roles=")
    judge = TokenJudge(_tokenReader(parts), roles)
    return _tcpServer(reactor, parts, settings, judge, TokenEnds())


def tlsClient(reactor: Any, parts: Description, settings: ClientSettings) -> IStreamClientEndpoint:
    """
    Make the endpoint of C{aqtls:HOST:PORT:node=NAME}, or with C{fingerprint=DIGITS}.
    """
    given = _known(parts, ["host", "port", "node", "fingerprint", "timeout", "keys"], 2)
    host, port = _place(parts)
    if "node" not in given and "fingerprint" not in given:
        parts.wrong("must say which server is meant, by node=NAME or fingerprint=DIGITS")
    node = nodeName(given["node"], "node=") if "node" in given else ""
    fingerprint = checkedFingerprint(given["fingerprint"], "fingerprint=") if "fingerprint" in given else ""
    keys = keysFor(parts, settings.keys)
    return certifiedClient(reactor, host, port, keys, settings, _timeout(parts, settings), node, fingerprint)


def certifiedClient(
    reactor: Any,
    host: str,
    port: int,
    keys: Keys,
    settings: ClientSettings,
    timeout: float,
    node: str = "",
    fingerprint: str = "",
) -> IStreamClientEndpoint:
    """
    Make an endpoint that connects to the server with a certain name or key, or both.
    """
    judge = ServerCertificateJudge(keys, node, fingerprint)
    ends = TLSEnds(keys, node, fingerprint)
    return _tcpClient(reactor, host, port, settings, timeout, judge, ends)


def tokenClient(reactor: Any, parts: Description, settings: ClientSettings) -> IStreamClientEndpoint:
    """
    Make the endpoint of C{aqtoken:HOST:PORT:token=FILE}.
    """
    _known(parts, ["host", "port", "token", "timeout"], 2)
    host, port = _place(parts)
    judge = TokenJudge(_tokenReader(parts), ["worker"])
    return _tcpClient(reactor, host, port, settings, _timeout(parts, settings), judge, TokenEnds())


def keysFor(parts: Description | None, keys: Keys | None) -> Keys:
    """
    Return the keys to use: those that are passed, those that a description names, or those in the usual folder.

    @raise ValueError: There are two of them.
    @raise KeysError: There are none.
    """
    folder = None if parts is None else parts.keywords.get("keys")
    if keys is not None:
        if folder is not None:
            raise ValueError(f"keys is given twice: as an argument, and as keys={folder} in the description")
        return keys
    from asynqueue.wire.keystore import KeyStore

    return KeyStore(folder)


def _tcpServer(
    reactor: Any, parts: Description, settings: ServerSettings, judge: Judge, ends: TLSEnds
) -> GuardedServerEndpoint:
    from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint

    named = [parts.keywords["port"]] if "port" in parts.keywords else []
    given = [*parts.arguments, *named]
    if len(given) != 1:
        parts.wrong(f"must have one port, as in {parts.kind}:8700:interface=192.0.2.1")
    port = _number(parts, "port", given[0], 0, 65535)
    interface = parts.keywords.get("interface", LOOPBACK)
    kind = TCP6ServerEndpoint if isIPv6Address(interface) else TCP4ServerEndpoint
    inner = kind(reactor, port, _backlog(parts), interface)
    return GuardedServerEndpoint(reactor, inner, judge, ends, settings.limits, settings.onRefused)


def _tcpClient(
    reactor: Any, host: str, port: int, settings: ClientSettings, timeout: float, judge: Judge, ends: TLSEnds
) -> IStreamClientEndpoint:
    from twisted.internet.endpoints import HostnameEndpoint

    inner = HostnameEndpoint(reactor, host, port, timeout)
    return GuardedClientEndpoint(reactor, lambda: inner, judge, ends, settings.limits)


def _known(parts: Description, names: Iterable[str], mostArguments: int) -> dict[str, str]:
    known = tuple(names)
    unknown = [f"{name}=" for name in parts.keywords if name not in known]
    if unknown:
        parts.wrong(f"has {', '.join(unknown)}, but {parts.kind}: knows {', '.join(f'{name}=' for name in known)}")
    if len(parts.arguments) > mostArguments:
        parts.wrong(f"may have {mostArguments} parts without a name; a colon within one is written \\:")
    return dict(parts.keywords)


def _number(parts: Description, name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        parts.wrong(f"has {text!r} as {name}, which must be a number from {least} to {most}")
    return int(text)


def _backlog(parts: Description) -> int:
    return _number(parts, "backlog", parts.keywords.get("backlog", BACKLOG), 1, 65535)


def _timeout(parts: Description, settings: ClientSettings) -> float:
    if "timeout" not in parts.keywords:
        return settings.timeout
    return float(_number(parts, "timeout", parts.keywords["timeout"], 1, _LONGEST_TIMEOUT))


def _place(parts: Description) -> tuple[str, int]:
    place = [*parts.arguments, *(parts.keywords[name] for name in ("host", "port") if name in parts.keywords)]
    if len(place) != 2 or not place[0]:
        parts.wrong(f"must have a host and a port, as in {parts.kind}:gpu1.example.org:8700")
    return place[0], _number(parts, "port", place[1], 1, 65535)


def _unixPath(parts: Description, given: dict[str, str], name: str) -> str:
    if len(parts.arguments) + (name in given) != 1:
        parts.wrong("must have one path, as in unix:/run/user/1000/asynqueue/queue")
    if given.get("mode", "600").lstrip("0") != "600":
        raise InsecureTransport(f"{parts.text!r} has mode={given['mode']}, and a unix socket must have mode=600")
    return parts.arguments[0] if parts.arguments else given[name]


def _tokenReader(parts: Description) -> Callable[[], bytes]:
    if "token" not in parts.keywords:
        parts.wrong("must name the file of the token, by token=FILE")
    path = Path(parts.keywords["token"])
    # What is wrong with it is said now, and not to the first who connects.
    readToken(path)
    return lambda: readToken(path)
