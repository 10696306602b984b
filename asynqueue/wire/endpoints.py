"""
Endpoints from descriptions: those that are secure, and none else unless a switch says so.

Secure are C{unix:}, C{aqtls:}, C{aqtoken:} and C{aq://} URLs. What they accept, they hand to the protocol with a
transport that provides L{asynqueue.wire.transports.IIdentifiedTransport}, whose C{identity} says who is at the other
end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, NoReturn

from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint

from asynqueue.errors import AuthError, InsecureTransport
from asynqueue.wire.descriptions import Description, described
from asynqueue.wire.fingerprints import SCHEME, ServerURL
from asynqueue.wire.guarded import GuardedClientEndpoint, GuardedServerEndpoint
from asynqueue.wire.identity import rolesFrom
from asynqueue.wire.judges import OpenJudge
from asynqueue.wire.keys import Keys
from asynqueue.wire.kinds import (
    TLS_KIND,
    TOKEN_KIND,
    UNIX_KIND,
    ClientSettings,
    ServerSettings,
    certifiedClient,
    keysFor,
    tlsClient,
    tlsServer,
    tokenClient,
    tokenServer,
    unixClient,
    unixServer,
)
from asynqueue.wire.limits import Limits
from asynqueue.wire.switches import switches

_SERVERS = {UNIX_KIND: unixServer, TLS_KIND: tlsServer, TOKEN_KIND: tokenServer}
_CLIENTS = {UNIX_KIND: unixClient, TLS_KIND: tlsClient, TOKEN_KIND: tokenClient}

#: What is secured by TLS of some kind, though not by ours.
_OTHER_TLS = frozenset({"ssl", "tls"})


def serverEndpoint(
    reactor: Any,
    description: str,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    onRefused: Callable[[AuthError], object] | None = None,
    insecure_plaintext: bool = False,
    insecure_one_way_tls: bool = False,
    insecure_root: bool = False,
    plaintextRoles: Iterable[str] = ("submit",),
) -> IStreamServerEndpoint:
    """
    Return the endpoint for a server that a description means.

    @param description: C{"unix:PATH"}, C{"aqtls:PORT:interface=ADDRESS"} or C{"aqtoken:PORT:token=FILE"}; with
        one of the switches, any of Twisted's, such as C{"tcp:PORT:interface=ADDRESS"}.
    @param keys: This node's; otherwise those in the folder that the description names, or in the usual one.
    @param limits: How many connections there may be, and of what kind.
    @param onRefused: Is told, with an L{AuthError}, of each client that was refused or has refused this server.
    @param insecure_plaintext: Whether it may be none of the secure kinds, though not on all addresses.
    @param insecure_one_way_tls: Whether it may be TLS that says nothing of who the client is, such as C{ssl:}, on
        addresses that the description names by C{interface=}.
    @param insecure_root: Whether a process of root may listen.
    @param plaintextRoles: The roles of whoever connects, to an endpoint that is none of the secure kinds.
    @raise InsecureTransport: It would let others in.
    @raise ValueError: The description is wrong.
    @raise KeysError: There are no keys, or they cannot be used.
    @raise ImportError: It needs the extra C{asynqueue[tls]}, which is not installed.
    """
    parts = described(description)
    isRoot = hasattr(os, "geteuid") and os.geteuid() == 0
    settings = ServerSettings(keys, limits, onRefused)
    used = ["insecure_root"] if isRoot else []
    if parts.kind in _SERVERS:
        endpoint = _SERVERS[parts.kind](reactor, parts, settings)
    elif parts.kind == SCHEME:
        parts.wrong(f"names a server to connect to; listen with {TLS_KIND}:PORT:interface=ADDRESS")
    else:
        switch = _checkKind(parts, insecure_plaintext, insecure_one_way_tls)
        endpoint = _insecureServer(reactor, parts, settings, rolesFrom(plaintextRoles, "plaintextRoles"))
        used.insert(0, switch)
    if isRoot and not insecure_root:
        # What is wrong with the description comes first: no switch would help.
        raise InsecureTransport(
            f"a process of root would listen on {description!r}: run it as a user of its own, or pass"
            " insecure_root=True"
        )
    for name in used:
        switches.use(name, description)
    endpoint.noteSwitches(description, used)
    return endpoint


def clientEndpoint(
    reactor: Any,
    description: str,
    *,
    keys: Keys | None = None,
    timeout: float = 30.0,
    limits: Limits | None = None,
    insecure_plaintext: bool = False,
    insecure_one_way_tls: bool = False,
) -> IStreamClientEndpoint:
    """
    Return the endpoint for a client that a description means.

    @param description: C{"unix:PATH"}, C{"aqtls:HOST:PORT:node=NAME"}, C{"aqtls:HOST:PORT:fingerprint=DIGITS"},
        C{"aq://FINGERPRINT@HOST:PORT"} or C{"aqtoken:HOST:PORT:token=FILE"}; with one of the switches, any of
        Twisted's, such as C{"tcp:HOST:PORT"}.
    @param keys: This node's; otherwise those in the folder that the description names, or in the usual one.
    @param timeout: How long making a connection may take, in seconds, unless the description says it.
    @param limits: How long it may take, and how much the server may send, before each end knows the other.
    @param insecure_plaintext: Whether it may be none of the secure kinds.
    @param insecure_one_way_tls: Whether it may be TLS that says nothing of who the client is, such as C{tls:}.
    @raise InsecureTransport: It would trust others.
    @raise ValueError: The description is wrong.
    @raise KeysError: There are no keys, or they cannot be used.
    @raise ImportError: It needs the extra C{asynqueue[tls]}, which is not installed.
    """
    settings = ClientSettings(keys, limits, timeout)
    if isinstance(description, str) and description.lower().startswith(f"{SCHEME}://"):
        url = ServerURL.fromText(description)
        ownKeys = keysFor(None, keys)
        return certifiedClient(reactor, url.host, url.port, ownKeys, settings, timeout, fingerprint=url.fingerprint)
    parts = described(description)
    if parts.kind in _CLIENTS:
        return _CLIENTS[parts.kind](reactor, parts, settings)
    switch = _checkKind(parts, insecure_plaintext, insecure_one_way_tls)
    from twisted.internet.endpoints import clientFromString

    inner = clientFromString(reactor, description)
    switches.use(switch, description)
    return GuardedClientEndpoint(reactor, lambda: inner, OpenJudge(["worker"]), None, limits)


def _checkKind(parts: Description, mayBePlain: bool, mayBeOneWay: bool) -> str:
    """
    Return the switch that permits a kind of endpoint that is not secure.

    @raise InsecureTransport: It has not been given.
    """
    if parts.kind in _OTHER_TLS:
        switch, isGiven = "insecure_one_way_tls", mayBeOneWay
        problem = "TLS like this tells nobody who the client is, or what the server may do"
    else:
        switch, isGiven = "insecure_plaintext", mayBePlain
        problem = "everything else can be read, changed or used by others, also on this host"
    if not isGiven:
        raise InsecureTransport(
            f"{parts.text!r} is none of the secure kinds, which are {UNIX_KIND}:, {TLS_KIND}:, {TOKEN_KIND}: and, for"
            f" clients, {SCHEME}:// ({problem}); to use it all the same, pass {switch}=True"
        )
    return switch


def _insecureServer(
    reactor: Any, parts: Description, settings: ServerSettings, roles: frozenset[str]
) -> GuardedServerEndpoint:
    from twisted.internet.endpoints import serverFromString

    interface = parts.keywords.get("interface", "").strip()
    isTLS = parts.kind in _OTHER_TLS
    # Even with TLS, all addresses are not what somebody gets who did not say so.
    mayBeEverywhere = isTLS and bool(interface)
    if parts.kind in ("tcp", "tcp6", "ssl") and not mayBeEverywhere and isEverywhere(interface):
        _listensEverywhere(parts, isTLS)

    def check(port: IListeningPort) -> None:
        # There are kinds that are wrapped around others, or take up a port that somebody else has opened.
        host = getattr(port.getHost(), "host", None)
        if not mayBeEverywhere and isinstance(host, str) and isEverywhere(host):
            _listensEverywhere(parts, isTLS)

    inner = serverFromString(reactor, parts.text)
    return GuardedServerEndpoint(
        reactor, inner, OpenJudge(roles), None, settings.limits, settings.onRefused, onListening=check
    )


def isEverywhere(interface: str) -> bool:
    """
    Tell whether an address means all addresses of a host. A name does not.
    """
    try:
        address = ip_address(interface.strip() or "0.0.0.0")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address.is_unspecified or (mapped is not None and mapped.is_unspecified)


def _listensEverywhere(parts: Description, isTLS: bool) -> NoReturn:
    problem = ", which nobody has asked for" if isTLS else " without TLS, which no switch permits"
    raise InsecureTransport(
        f"{parts.text!r} would listen on all addresses{problem}: name one, as in"
        f" {parts.kind}:PORT:interface=127.0.0.1, or use {TLS_KIND}:"
    )
