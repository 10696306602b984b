"""
What C{asynqueue doctor} looks at, and what it has to say of each. It changes nothing, connects to nobody, and listens
nowhere.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence, Set
from datetime import UTC, datetime
from enum import Enum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from asynqueue.cli.options import as_options
from asynqueue.errors import AsynQueueError
from asynqueue.wire.switches import SWITCHES, insecureSwitchesInUse

#: How each extra can be told to be installed: by modules that can be imported, and what it is for.
EXTRAS = {
    "tls": (("cryptography.x509", "OpenSSL.SSL", "service_identity"), "keys, aqtls:, aq:// and aqtoken: need it"),
    "msgpack": (("msgpack",), "--serializer msgpack needs it"),
    "cloudpickle": (("cloudpickle",), "functions that are defined in functions, and __main__, travel with it"),
    "cli": (("rich",), "the demonstration needs it"),
}

#: The oldest Twisted that is supported.
OLDEST_TWISTED = (24, 11)

#: The oldest OpenSSL that is: 3.0, as it writes its versions.
OLDEST_OPENSSL = 0x30000000


class Level(Enum):
    """
    How good or bad it is what was found.
    """

    FINE = "fine"
    NOTE = "note"
    INSECURE = "insecure"
    WRONG = "wrong"


#: What makes the exit code 1.
BAD = frozenset({Level.INSECURE, Level.WRONG})


@frozen
class Finding:
    """
    Something that was found.

    @ivar subject: What it is about.
    @ivar text: What there is to say, and what to do if it is bad.
    """

    level: Level
    subject: str
    text: str


def examine(
    descriptions: Sequence[str],
    folder: Path | None,
    asked: Set[str] = frozenset(),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Finding]:
    """
    Look at everything.

    @param descriptions: Those of endpoints, of servers or clients.
    @param folder: That of the keys, if not the usual one.
    @param asked: The names of the switches that are to be asked for.
    @param now: Returns the time, with its zone.
    """
    findings = [*_packages(), *_user(), *_keys(folder, now())]
    for description in descriptions:
        findings += _endpoint(description, folder, asked)
    findings += _switches(asked, descriptions)
    findings += _running()
    return findings


def _packages() -> Iterator[Finding]:
    yield Finding(Level.FINE, "Python", platform.python_version())
    twisted = version("Twisted")
    release = tuple(int(part) for part in twisted.split(".")[:2] if part.isdigit())
    if release < OLDEST_TWISTED:
        oldest = ".".join(map(str, OLDEST_TWISTED))
        yield Finding(Level.WRONG, "Twisted", f"{twisted} is older than {oldest}, the oldest that is supported")
    else:
        yield Finding(Level.FINE, "Twisted", twisted)
    yield Finding(Level.FINE, "asynqueue", _own_version())
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [module for module in modules if find_spec(module.partition(".")[0]) is None]
        if missing:
            text = f"is not installed ({', '.join(missing)} missing): {purpose}; pip install 'asynqueue[{extra}]'"
            yield Finding(Level.NOTE, f"extra {extra}", text)
            continue
        try:
            for module in modules:
                import_module(module)
        except Exception as error:  # what others' packages raise that are broken
            yield Finding(Level.WRONG, f"extra {extra}", f"is installed, but cannot be used: {error}")
            continue
        yield Finding(Level.FINE, f"extra {extra}", "is installed")
        if extra == "tls":
            yield _openssl()


def _openssl() -> Finding:
    from OpenSSL import SSL

    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii", "replace")
    if SSL.OPENSSL_VERSION_NUMBER < OLDEST_OPENSSL:
        text = f"{openssl} gets no security fixes any more: install a newer cryptography"
        return Finding(Level.WRONG, "OpenSSL", text)
    return Finding(Level.FINE, "OpenSSL", openssl)


def _own_version() -> str:
    try:
        return version("asynqueue")
    except PackageNotFoundError:
        return "a checkout that is not installed"


def is_root() -> bool:
    """
    Tell whether this is a process of root.
    """
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _user() -> Iterator[Finding]:
    if is_root():
        yield Finding(
            Level.NOTE, "user", "this is root, as whom no server should listen: give a server a user of its own"
        )
    elif hasattr(os, "geteuid"):
        yield Finding(Level.FINE, "user", f"number {os.geteuid()}, not root")


def _keys(folder: Path | None, now: datetime) -> Iterator[Finding]:
    from asynqueue.wire.keystore import KeyStore, defaultFolder

    place = str(folder or defaultFolder())
    if not os.path.lexists(place):
        yield Finding(Level.NOTE, place, "there are no keys; unix: needs none, and `asynqueue keys init` makes them")
        return
    try:
        store = KeyStore(folder)
    except (AsynQueueError, OSError) as error:
        yield Finding(_level_of(error), place, str(error))
        return
    files = list(_key_files(store.folder))
    yield from files
    if any(finding.level in BAD for finding in files):
        return
    yield Finding(Level.FINE, place, "nobody else can read or write the folder of keys, or what is in it")
    if store.isAuthority:
        text = "the key of the authority is here: whoever gets it can make any node; run nobody else's code here"
        yield Finding(Level.NOTE, place, text)
    try:
        yield from _leaves(store, now)
        yield from _place_on_the_list(store)
    except ImportError as error:
        yield Finding(Level.NOTE, place, f"the keys were not looked into: {error}")
    except (AsynQueueError, OSError, ValueError) as error:
        yield Finding(_level_of(error), place, str(error))


def _key_files(folder: Path) -> Iterator[Finding]:
    """
    Look at whether others can get at a file.
    """
    from asynqueue.wire.privatefiles import checkAbove, checkPrivateFolder, readPrivate

    try:
        checkAbove(folder, "the keys")
    except (AsynQueueError, OSError) as error:
        yield Finding(_level_of(error), str(folder), str(error))
    for path in sorted(folder.iterdir()):
        try:
            if path.is_dir() and not path.is_symlink():
                checkPrivateFolder(path, "the folder")
                continue
            readPrivate(path, "the file")
        except (AsynQueueError, OSError, ValueError) as error:
            yield Finding(_level_of(error), str(path), str(error))


def _leaves(store: Any, now: datetime) -> Iterator[Finding]:
    """
    Look at the ages of this node's certificates.
    """
    from asynqueue.wire.certificates import RENEWAL_AGE, Use, loadCertificate, useIn

    for use in Use:
        leaf = store.leafAsIs(use)
        subject = f"certificate as a {use.value}"
        certificate = loadCertificate(leaf.certificate)
        age = (now - certificate.not_valid_before_utc).days
        end = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        remedy = (
            "it is renewed when it is used next"
            if store.isAuthority
            else f"`asynqueue keys add {store.name} --renew` on the host of the authority, `asynqueue keys join` here"
        )
        if useIn(certificate) is not use:
            yield Finding(Level.WRONG, subject, f"it is one as a {useIn(certificate).value}")
        elif not leaf.isComplete():
            yield Finding(Level.WRONG, subject, "the key beside it is that of another certificate")
        elif now >= certificate.not_valid_after_utc:
            level = Level.NOTE if store.isAuthority else Level.WRONG
            yield Finding(level, subject, f"it expired on {end}: {remedy}")
        elif now < certificate.not_valid_before_utc:
            yield Finding(Level.WRONG, subject, "it is not valid yet: look at the clock of this host")
        elif age >= RENEWAL_AGE.days:
            level = Level.NOTE if store.isAuthority else Level.WRONG
            yield Finding(level, subject, f"{age} days old, and valid until {end}: {remedy}")
        else:
            yield Finding(Level.FINE, subject, f"{age} days old, valid until {end}")


def _place_on_the_list(store: Any) -> Iterator[Finding]:
    """
    Look for this node on the list of nodes.
    """
    from asynqueue.wire.certificates import Use, fingerprintOfPEM

    nodes = store.nodes()
    authorities = len(store.authorities())
    for use in Use:
        subject = f"key as a {use.value}"
        node = nodes.byFingerprint(fingerprintOfPEM(store.leafAsIs(use).certificate))
        if node is None:
            yield Finding(Level.WRONG, subject, "it is not on the list of nodes: join a newer nodes.json")
        elif node.isRevoked:
            yield Finding(Level.WRONG, subject, f"that of {node.name} has been revoked; other nodes refuse it")
        else:
            roles = ", ".join(sorted(node.roles))
            yield Finding(Level.FINE, subject, f"{node.name} on the list of nodes, with the roles {roles}")
    shells = sorted(node.name for node in nodes.nodes if "code" in node.roles and not node.isRevoked)
    if shells:
        text = f"the role code, which is a shell on hosts that take pickles, is that of {', '.join(shells)}"
        yield Finding(Level.NOTE, "list of nodes", text)
    if authorities > 1:
        text = f"{authorities} authorities are trusted: end the rotation by `asynqueue keys rotate --finish`"
        yield Finding(Level.NOTE, "list of nodes", text)


def _level_of(error: Exception) -> Level:
    """
    Return whether it is broken or insecure what an error is about.
    """
    from asynqueue.errors import InsecureTransport

    return Level.INSECURE if isinstance(error, InsecureTransport) else Level.WRONG


class _NoReactor:
    """
    Stands for a reactor where an endpoint is made and not used.
    """


def _keys_for(description: str, folder: Path | None) -> Any:
    """
    Return the keys that an endpoint is to have, or C{None} for those that it finds by itself.
    """
    from asynqueue.wire.descriptions import described
    from asynqueue.wire.fingerprints import SCHEME
    from asynqueue.wire.keystore import KeyStore
    from asynqueue.wire.kinds import TLS_KIND

    if folder is None:
        return None
    if not description.lower().startswith(f"{SCHEME}://"):
        parts = described(description)
        if parts.kind != TLS_KIND or "keys" in parts.keywords:
            return None
    return KeyStore(folder)


def _endpoint(description: str, folder: Path | None, asked: Set[str]) -> Iterator[Finding]:
    """
    Make an endpoint as its user would, and look at what it complains of: as a server's, and as a client's.
    """
    from asynqueue.wire.endpoints import clientEndpoint, serverEndpoint

    complaints: list[Exception] = []
    ends: list[str] = []
    switches: dict[str, Any] = dict.fromkeys(asked, True)
    # Root may connect.
    permitted = {name: is_asked for name, is_asked in switches.items() if name != "insecure_root"}

    def make_server() -> None:
        serverEndpoint(_NoReactor(), description, keys=_keys_for(description, folder), **switches)

    def make_client() -> None:
        clientEndpoint(_NoReactor(), description, keys=_keys_for(description, folder), **permitted)

    for end, make in (("server", make_server), ("client", make_client)):
        try:
            make()
        except (AsynQueueError, ImportError, OSError, TypeError, ValueError) as error:
            complaints.append(error)
        else:
            ends.append(end)
    if not ends:
        # What is no description of either is best explained by the end that understands more of it.
        complaints.sort(key=lambda complaint: isinstance(complaint, ValueError))
        worst = complaints[-1 if description.startswith("aq://") else 0]
        yield Finding(_level_of(worst), description, as_options(str(worst)))
        return
    if "server" not in ends and not isinstance(complaints[0], ValueError):
        yield Finding(Level.NOTE, f"{description} as a server", as_options(str(complaints[0])))
    for end in ends:
        yield Finding(Level.FINE, f"{description} as a {end}", "is accepted")
    if "server" in ends:
        yield from _token(description)
    yield from _socket(description)


def _token(description: str) -> Iterator[Finding]:
    """
    Look at what whoever knows the token of a server may do, and from where.
    """
    from asynqueue.wire.descriptions import described
    from asynqueue.wire.endpoints import isEverywhere
    from asynqueue.wire.kinds import LOOPBACK, TOKEN_KIND

    parts = described(description)
    if parts.kind != TOKEN_KIND:
        return
    roles = parts.keywords.get("roles", "").split(",")
    for role, power in (("code", "has a shell on this host"), ("admin", "can shut it down, and change keys")):
        if role in roles:
            text = (
                f"whoever gets the token {power}, and nobody could tell who it was: leave the role {role} to"
                " certificates, by aqtls:"
            )
            yield Finding(Level.INSECURE, description, text)
    if isEverywhere(parts.keywords.get("interface", LOOPBACK)):
        text = "listens on all addresses, where everybody who has the token is the same: name one if one is enough"
        yield Finding(Level.NOTE, description, text)


def _socket(description: str) -> Iterator[Finding]:
    """
    Look at where a unix socket is, or will be.
    """
    from asynqueue.wire.descriptions import described
    from asynqueue.wire.kinds import UNIX_KIND
    from asynqueue.wire.unixsockets import checkedPath, checkFolders, checkSocket

    if "://" in description:
        return
    parts = described(description)
    if parts.kind != UNIX_KIND:
        return
    named = [parts.keywords[name] for name in ("address", "path") if name in parts.keywords]
    path = checkedPath([*parts.arguments, *named][0])
    try:
        if not os.path.lexists(path.parent):
            yield Finding(Level.NOTE, str(path.parent), "the folder is not there; a server makes it")
        elif not os.path.lexists(path):
            checkFolders(path.parent)
            yield Finding(Level.NOTE, str(path), "no server listens there")
        else:
            checkSocket(path)
            yield Finding(Level.FINE, str(path), "is a socket that only this user can connect to")
    except (AsynQueueError, OSError) as error:
        yield Finding(_level_of(error), str(path), str(error))


def _switches(asked: Set[str], descriptions: Sequence[str]) -> Iterator[Finding]:
    """
    Tell which switches are asked for, of what use they were, and what each permits.
    """
    used = insecureSwitchesInUse()
    for name in SWITCHES:
        if name in asked:
            places = [place for place in used.get(name, ()) if place in descriptions]
            where = f", of use for {', '.join(places)}" if places else ""
            text = f"is asked for{where}: it permits {SWITCHES[name]}"
            yield Finding(Level.INSECURE, as_options(f"{name}=True"), text)


def _running() -> Iterator[Finding]:
    """
    Tell which switches servers of this user are running with.
    """
    from asynqueue.callinfo import printable
    from asynqueue.wire.admissions import DESCRIPTION_LIMIT, admissionsNoted

    for admission in admissionsNoted():
        for name in admission.switches:
            if name in SWITCHES:
                place = printable(admission.description, DESCRIPTION_LIMIT)
                text = f"process {admission.process} listens at {place} by it: it permits {SWITCHES[name]}"
                yield Finding(Level.INSECURE, as_options(f"{name}=True"), text)
