"""
Endpoints from descriptions: those that are secure, and none else unless a switch says so.

Secure are C{unix:}, C{aqtls:} and C{aq://} URLs. What they accept, they hand to the protocol with a transport that
provides L{IIdentifiedTransport}, whose C{identity} says who is at the other end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint

from asynqueue.errors import AuthError, InsecureTransport
from asynqueue.wire.descriptions import Description, described
from asynqueue.wire.fingerprints import SCHEME, ServerURL, checkedFingerprint
from asynqueue.wire.guarded import GuardedClientEndpoint, GuardedServerEndpoint
from asynqueue.wire.identity import nodeName, rolesFrom
from asynqueue.wire.judges import ClientCertificateJudge, Judge, OpenJudge, SameUserJudge, ServerCertificateJudge
from asynqueue.wire.keys import Keys
from asynqueue.wire.limits import Limits
from asynqueue.wire.switches import switches
from asynqueue.wire.tls import TLSEnds
from asynqueue.wire.unixsockets import PrivateUNIXServerEndpoint, checkedPath, checkSocket

#: What a description of our TLS begins with.
TLS_KIND = "aqtls"

#: The addresses that mean all addresses of a host.
_EVERYWHERE = frozenset({"", "0.0.0.0", "::", "0", "*"})

#: What is secured by TLS of some kind, though not by ours.
_OTHER_TLS = frozenset({"ssl", "tls"})


def serverEndpoint(
    reactor: Any,
    description: str,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    onRefused: Callable[[AuthError], None] | None = None,
    insecure_plaintext: bool = False,
    insecure_root: bool = False,
    plaintextRoles: Iterable[str] = ("submit",),
) -> IStreamServerEndpoint:
    """
    Return the endpoint for a server that a description means.

    @param description: C{"unix:PATH"} or C{"aqtls:PORT:interface=ADDRESS"}; with C{insecure_plaintext}, any of
        Twisted's, such as C{"tcp:PORT:interface=ADDRESS"}.
    @param keys: This node's; otherwise those in the folder that the description names, or in the usual one.
    @param limits: How many connections there may be, and of what kind.
    @param onRefused: Is told, with an L{AuthError}, of each client that was refused or has refused this server.
    @param insecure_plaintext: Whether it may be neither of the secure kinds, though not on all addresses without TLS.
    @param insecure_root: Whether a process of root may listen.
    @param plaintextRoles: The roles of whoever connects, to an endpoint that is neither of the secure kinds.
    @raise InsecureTransport: It would let others in.
    @raise ValueError: The description is wrong.
    @raise KeysError: There are no keys, or they cannot be used.
    @raise ImportError: It needs the extra C{asynqueue[tls]}, which is not installed.
    """
    parts = described(description)
    _checkRoot(description, insecure_root)
    if parts.kind == "unix":
        inner = _unixServer(reactor, parts)
        return GuardedServerEndpoint(reactor, inner, SameUserJudge(), None, limits, onRefused)
    if parts.kind == TLS_KIND:
        return _tlsServer(reactor, parts, keys, limits, onRefused)
    if parts.kind == SCHEME:
        parts.wrong(f"names a server to connect to; listen with {TLS_KIND}:PORT:interface=ADDRESS")
    _checkPlaintext(parts, insecure_plaintext)
    return _plaintextServer(reactor, parts, OpenJudge(rolesFrom(plaintextRoles, "plaintextRoles")), limits, onRefused)


def clientEndpoint(
    reactor: Any,
    description: str,
    *,
    keys: Keys | None = None,
    timeout: float = 30.0,
    limits: Limits | None = None,
    insecure_plaintext: bool = False,
) -> IStreamClientEndpoint:
    """
    Return the endpoint for a client that a description means.

    @param description: C{"unix:PATH"}, C{"aqtls:HOST:PORT:node=NAME"}, C{"aqtls:HOST:PORT:fingerprint=..."} or
        C{"aq://FINGERPRINT@HOST:PORT"}; with C{insecure_plaintext}, any of Twisted's, such as C{"tcp:HOST:PORT"}.
    @param keys: This node's; otherwise those in the folder that the description names, or in the usual one.
    @param timeout: How long making a connection may take, in seconds, unless the description says it.
    @param limits: How long it may take, and how much the server may send, before each end knows the other.
    @param insecure_plaintext: Whether it may be none of the secure kinds.
    @raise InsecureTransport: It would trust others.
    @raise ValueError: The description is wrong.
    @raise KeysError: There are no keys, or they cannot be used.
    @raise ImportError: It needs the extra C{asynqueue[tls]}, which is not installed.
    """
    if isinstance(description, str) and description.lower().startswith(f"{SCHEME}://"):
        url = ServerURL.fromText(description)
        return _tlsClient(reactor, url.host, url.port, keys, "", url.fingerprint, timeout, limits)
    parts = described(description)
    if parts.kind == "unix":
        return _unixClient(reactor, parts, timeout, limits)
    if parts.kind == TLS_KIND:
        return _describedTLSClient(reactor, parts, keys, timeout, limits)
    _checkPlaintext(parts, insecure_plaintext)
    from twisted.internet.endpoints import clientFromString

    inner = clientFromString(reactor, description)
    return GuardedClientEndpoint(reactor, lambda: inner, OpenJudge(["worker"]), None, limits)


def _checkRoot(description: str, isPermitted: bool) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    if not isPermitted:
        raise InsecureTransport(
            f"a process of root would listen on {description!r}: run it as a user of its own, or pass"
            " insecure_root=True"
        )
    switches.use("insecure_root", description)


def _checkPlaintext(parts: Description, isPermitted: bool) -> None:
    if not isPermitted:
        raise InsecureTransport(
            f"{parts.text!r} is none of the secure kinds, which are unix:, {TLS_KIND}: and, for clients, {SCHEME}://"
            " (everything else can be read, changed or used by others, also on this host); to use it all the same,"
            " pass insecure_plaintext=True"
        )
    switches.use("insecure_plaintext", parts.text)


def _plaintextServer(
    reactor: Any,
    parts: Description,
    judge: Judge,
    limits: Limits | None,
    onRefused: Callable[[AuthError], None] | None,
) -> IStreamServerEndpoint:
    from twisted.internet.endpoints import serverFromString

    if parts.kind in ("tcp", "tcp6") and parts.keywords.get("interface", "").strip() in _EVERYWHERE:
        _listensEverywhere(parts)

    def check(port: IListeningPort) -> None:
        if parts.kind not in _OTHER_TLS and getattr(port.getHost(), "host", None) in _EVERYWHERE:
            _listensEverywhere(parts)

    inner = serverFromString(reactor, parts.text)
    return GuardedServerEndpoint(reactor, inner, judge, None, limits, onRefused, check)


def _listensEverywhere(parts: Description) -> None:
    raise InsecureTransport(
        f"{parts.text!r} would listen on all addresses without TLS, which no switch permits: name one, as in"
        f" {parts.kind}:PORT:interface=127.0.0.1, or use {TLS_KIND}:"
    )


def _number(parts: Description, name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        parts.wrong(f"has {text!r} as {name}, which must be a number from {least} to {most}")
    return int(text)


def _known(parts: Description, names: Iterable[str], mostArguments: int) -> dict[str, str]:
    known = tuple(names)
    unknown = [f"{name}=" for name in parts.keywords if name not in known]
    if unknown:
        parts.wrong(f"has {', '.join(unknown)}, but {parts.kind}: knows {', '.join(f'{name}=' for name in known)}")
    if len(parts.arguments) > mostArguments:
        parts.wrong(f"has too many parts; a colon within one is written \\:, and it may have {mostArguments}")
    return dict(parts.keywords)


def _unixPath(parts: Description, given: dict[str, str], name: str) -> str:
    if len(parts.arguments) + (name in given) != 1:
        parts.wrong("must have one path, as in unix:/run/user/1000/asynqueue/queue")
    if given.get("mode", "600").lstrip("0") != "600":
        raise InsecureTransport(f"{parts.text!r} has mode={given['mode']}, and a unix socket of ours has mode=600")
    return parts.arguments[0] if parts.arguments else given[name]


def _unixServer(reactor: Any, parts: Description) -> IStreamServerEndpoint:
    given = _known(parts, ["address", "mode", "backlog", "lockfile"], 1)
    backlog = _number(parts, "backlog", given.get("backlog", "50"), 1, 65535)
    return PrivateUNIXServerEndpoint(reactor, _unixPath(parts, given, "address"), backlog)


def _unixClient(reactor: Any, parts: Description, timeout: float, limits: Limits | None) -> IStreamClientEndpoint:
    from twisted.internet.endpoints import UNIXClientEndpoint

    given = _known(parts, ["path", "mode", "timeout", "lockfile"], 1)
    seconds = float(_number(parts, "timeout", given["timeout"], 1, 86_400)) if "timeout" in given else timeout
    path = checkedPath(_unixPath(parts, given, "path"))

    def inner() -> IStreamClientEndpoint:
        if os.path.lexists(path):
            # Otherwise connecting fails, with an error that says so.
            checkSocket(path)
        return UNIXClientEndpoint(reactor, os.fspath(path), timeout=seconds)

    return GuardedClientEndpoint(reactor, inner, SameUserJudge(), None, limits)


def _keysFor(parts: Description | None, keys: Keys | None) -> Keys:
    folder = None if parts is None else parts.keywords.get("keys")
    if keys is not None:
        if folder is not None:
            raise ValueError(f"keys is given twice: by the argument, and by keys={folder} in the description")
        return keys
    from asynqueue.wire.keystore import KeyStore

    return KeyStore(folder)


def _tlsServer(
    reactor: Any,
    parts: Description,
    keys: Keys | None,
    limits: Limits | None,
    onRefused: Callable[[AuthError], None] | None,
) -> IStreamServerEndpoint:
    from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint

    given = _known(parts, ["port", "interface", "backlog", "keys"], 1)
    if len(parts.arguments) + ("port" in given) != 1:
        parts.wrong(f"must have one port, as in {TLS_KIND}:8700:interface=192.0.2.1")
    port = _number(parts, "port", (*parts.arguments, given.get("port", ""))[0], 0, 65535)
    interface = given.get("interface", "127.0.0.1")
    backlog = _number(parts, "backlog", given.get("backlog", "50"), 1, 65535)
    ownKeys = _keysFor(parts, keys)
    endpoint = TCP6ServerEndpoint if isIPv6Address(interface) else TCP4ServerEndpoint
    inner = endpoint(reactor, port, backlog, interface)
    judge = ClientCertificateJudge(ownKeys)
    return GuardedServerEndpoint(reactor, inner, judge, TLSEnds(ownKeys), limits, onRefused)


def _describedTLSClient(
    reactor: Any, parts: Description, keys: Keys | None, timeout: float, limits: Limits | None
) -> IStreamClientEndpoint:
    given = _known(parts, ["host", "port", "node", "fingerprint", "timeout", "keys"], 2)
    place = [*parts.arguments, *(given[name] for name in ("host", "port") if name in given)]
    if len(place) != 2:
        parts.wrong(f"must have a host and a port, as in {TLS_KIND}:gpu1.example.org:8700:node=gpu1")
    if "node" not in given and "fingerprint" not in given:
        parts.wrong("must say which server is meant, by node=NAME or fingerprint=DIGITS")
    return _tlsClient(
        reactor,
        place[0],
        _number(parts, "port", place[1], 1, 65535),
        _keysFor(parts, keys),
        nodeName(given["node"], "node") if "node" in given else "",
        checkedFingerprint(given["fingerprint"]) if "fingerprint" in given else "",
        float(_number(parts, "timeout", given["timeout"], 1, 86_400)) if "timeout" in given else timeout,
        limits,
    )


def _tlsClient(
    reactor: Any,
    host: str,
    port: int,
    keys: Keys | None,
    node: str,
    fingerprint: str,
    timeout: float,
    limits: Limits | None,
) -> IStreamClientEndpoint:
    from twisted.internet.endpoints import HostnameEndpoint

    ownKeys = _keysFor(None, keys)
    inner = HostnameEndpoint(reactor, host, port, timeout)
    judge = ServerCertificateJudge(ownKeys, node, fingerprint)
    return GuardedClientEndpoint(reactor, lambda: inner, judge, TLSEnds(ownKeys, node, fingerprint), limits)
