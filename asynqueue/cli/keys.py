"""
C{asynqueue keys}: makes, shows and changes the keys of a node.

No secret is ever an argument, which every user of the host could see: passphrases come from a file, the environment or
a prompt.
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynqueue.cli.terminal import CommandError, Terminal, one_line
from asynqueue.wire.fingerprints import ServerURL
from asynqueue.wire.identity import NODE_NAME, ROLES

if TYPE_CHECKING:
    from asynqueue.wire.bundles import Bundle
    from asynqueue.wire.keyoffice import KeyOffice

#: What C{show} writes where nothing tells the host or the port.
DEFAULT_PORT = 8700

#: The largest file that is joined with, in bytes.
_FILE_LIMIT = 1 << 20


def add_parser(subcommands: Any) -> None:
    """
    Add the parser of C{asynqueue keys}.
    """
    parser = subcommands.add_parser("keys", help="make, show and change keys", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, metavar="DIRECTORY", help="where the keys are, instead of in $XDG_CONFIG_HOME/asynqueue"
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_init, _add_add, _add_join, _add_show, _add_revoke, _add_rotate, _add_token):
        add(verbs)


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace, Terminal], int], text: str) -> Any:
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _add_init(verbs: Any) -> None:
    parser = _verb(verbs, "init", _init, "make an authority, and the keys of this node")
    parser.add_argument("name", nargs="?", help="the name of this node, instead of that of the host")


def _add_add(verbs: Any) -> None:
    parser = _verb(verbs, "add", _add, "add a node to the list, and write a bundle with its keys")
    parser.add_argument("name", help="the name of the node")
    roles = "; ".join(f"{role}: {meaning}" for role, meaning in ROLES.items())
    parser.add_argument("--role", action="append", default=[], dest="roles", metavar="ROLE", help=roles)
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write, instead of to NAME.bundle")
    parser.add_argument("--renew", action="store_true", help="make new certificates for the keys that the node has")
    passphrases = parser.add_mutually_exclusive_group()
    _add_passphrase_file(passphrases)
    passphrases.add_argument("--no-passphrase", action="store_true", help="do not encrypt the bundle")


def _add_join(verbs: Any) -> None:
    parser = _verb(verbs, "join", _join, "take up a bundle, or a list of nodes, from the host of the authority")
    parser.add_argument("file", type=Path, help="what `keys add` has written, or a copy of nodes.json")
    _add_passphrase_file(parser)


def _add_show(verbs: Any) -> None:
    parser = _verb(verbs, "show", _show, "show this node, its URL as a server, and the list of nodes")
    parser.add_argument("--host", help="the host in the URL, instead of the name of this one")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="the port in the URL, instead of %(default)s")


def _add_revoke(verbs: Any) -> None:
    parser = _verb(verbs, "revoke", _revoke, "revoke the keys of a node")
    parser.add_argument("name", help="the name of the node")


def _add_rotate(verbs: Any) -> None:
    parser = _verb(verbs, "rotate", _rotate, "replace the authority; both are trusted until --finish")
    parser.add_argument("--finish", action="store_true", help="trust the old authority no more")


def _add_token(verbs: Any) -> None:
    parser = _verb(verbs, "token", _token, "write a new token to a file, for aqtoken: endpoints")
    parser.add_argument("file", type=Path, help="where to write; it must not be there yet")


def _add_passphrase_file(parser: Any) -> None:
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="a file with the passphrase of the bundle")


def _office(parsed: argparse.Namespace) -> KeyOffice:
    # Needs the extra, which is not needed to be told that it is.
    from asynqueue.wire.keyoffice import KeyOffice

    return KeyOffice(parsed.folder)


def _init(parsed: argparse.Namespace, terminal: Terminal) -> int:
    name = parsed.name or socket.gethostname().split(".")[0].lower()
    if parsed.name is None and not NODE_NAME.fullmatch(name):
        raise CommandError(f"the name of this host, {name!r}, cannot be that of a node: pass another one")
    store = _office(parsed).create(name)
    terminal.write(f"Made an authority, and the keys of the node {store.name}, in {store.folder}.")
    return 0


def _add(parsed: argparse.Namespace, terminal: Terminal) -> int:
    output: Path = parsed.output or Path(f"{parsed.name}.bundle")
    if output.exists():
        raise CommandError(f"{output} is there already, and is not overwritten")
    if not output.parent.is_dir():
        raise CommandError(f"there is no folder {output.parent} to write the bundle to")
    office = _office(parsed)
    if parsed.renew:
        if parsed.roles:
            raise CommandError("--role cannot be given with --renew: a node keeps its roles")
        return _write_bundle(office.renew(parsed.name), None, output, terminal)
    if not parsed.roles:
        raise CommandError(f"--role must be given, once or more: {', '.join(ROLES)}")
    passphrase = None
    if not parsed.no_passphrase:
        # Asked for before anything is changed.
        passphrase = terminal.passphrase(parsed.passphrase_file, f"to encrypt {output}", is_new=True)
        _check_passphrase(passphrase)
    return _write_bundle(office.add(parsed.name, parsed.roles), passphrase, output, terminal)


def _check_passphrase(passphrase: str) -> None:
    from asynqueue.wire.bundles import PASSPHRASE_LEAST

    if len(passphrase) < PASSPHRASE_LEAST:
        raise CommandError(f"the passphrase must have {PASSPHRASE_LEAST} characters or more; nothing was changed")


def _write_bundle(bundle: Bundle, passphrase: str | None, output: Path, terminal: Terminal) -> int:
    from asynqueue.wire.privatefiles import writePrivate

    writePrivate(output, bundle.toBytes(passphrase))
    terminal.write(f"Wrote {output}. On the host of {bundle.name}: asynqueue keys join {output.name}")
    if bundle.keys and passphrase is None:
        terminal.write(f"It is not encrypted: whoever reads it can pass for {bundle.name}.")
    if bundle.keys:
        terminal.write("The other nodes need the new nodes.json: asynqueue keys show says where it is.")
    return 0


def _read(path: Path) -> tuple[bytes, bool]:
    """
    Return what a file has, and whether only its user may read or write it.
    """
    if path.is_dir():
        raise CommandError(f"{path} is a folder, and neither a bundle nor a list of nodes")
    with open(path, "rb") as file:
        is_private = not os.fstat(file.fileno()).st_mode & 0o077 or not hasattr(os, "geteuid")
        content = file.read(_FILE_LIMIT + 1)
    if len(content) > _FILE_LIMIT:
        raise CommandError(f"{path} is larger than {_FILE_LIMIT} bytes, and no bundle")
    return content, is_private


def _join(parsed: argparse.Namespace, terminal: Terminal) -> int:
    from asynqueue.wire.bundles import Bundle, isBundle, isEncrypted
    from asynqueue.wire.privatefiles import readPrivate

    content, is_private = _read(parsed.file)
    office = _office(parsed)
    source = str(parsed.file)
    if not isBundle(content):
        nodes = office.accept(content, source)
        terminal.write(f"Took up the list of {len(nodes.nodes)} nodes.")
        return 0
    if isEncrypted(content, source):
        if not is_private:
            warning = f"{source} can be read by others, who need no more than its passphrase: chmod 600 {source}"
            terminal.errors.write(f"asynqueue: {one_line(warning)}\n")
        passphrase = terminal.passphrase(parsed.passphrase_file, f"for {parsed.file}", is_new=False)
        bundle = Bundle.fromBytes(content, passphrase, source)
    else:
        bundle = Bundle.fromBytes(content, None, source)
        if bundle.keys:
            bundle = Bundle.fromBytes(readPrivate(parsed.file, "the bundle, which has keys,"), None, source)
    store = office.join(bundle)
    terminal.write(f"This is the node {store.name} now, with its keys in {store.folder}.")
    return 0


def _show(parsed: argparse.Namespace, terminal: Terminal) -> int:
    from asynqueue.wire.certificates import Use, fingerprintOfPEM, loadCertificate

    store = _office(parsed).store()
    certificate = store.leaf(Use.SERVER).certificate
    url = ServerURL(fingerprintOfPEM(certificate), parsed.host or socket.gethostname(), parsed.port)
    terminal.write(f"node          {store.name}")
    terminal.write(f"as a server   {url}")
    terminal.write(f"valid until   {loadCertificate(certificate).not_valid_after_utc:%Y-%m-%d}")
    terminal.write(f"authority     {'here' if store.isAuthority else 'on another host'}")
    terminal.write(f"folder        {store.folder}")
    nodes = store.nodes()
    terminal.write(f"list          {store.folder / 'nodes.json'}, number {nodes.serial}")
    terminal.write()
    width = max(len(node.name) for node in nodes.nodes) if nodes.nodes else 0
    for node in nodes.nodes:
        state = "revoked" if node.isRevoked else ", ".join(role for role in ROLES if role in node.roles)
        terminal.write(f"{node.name:<{width}}  {state}")
    return 0


def _revoke(parsed: argparse.Namespace, terminal: Terminal) -> int:
    office = _office(parsed)
    office.revoke(parsed.name)
    terminal.write(
        f"Revoked {parsed.name}. Other nodes refuse it when they have the new list: copy {office.folder / 'nodes.json'}"
        " there, and do: asynqueue keys join nodes.json"
    )
    return 0


def _rotate(parsed: argparse.Namespace, terminal: Terminal) -> int:
    office = _office(parsed)
    if parsed.finish:
        office.finishRotation()
        terminal.write("The old authority is trusted no more on this host, and on others when they have the new list.")
        return 0
    office.rotate()
    terminal.write("Made a new authority; both are trusted. Now, in this order:")
    terminal.write("  1. on every other node, join the new nodes.json")
    terminal.write("  2. for every other node, asynqueue keys add NAME --renew, and join there what that writes")
    terminal.write("  3. asynqueue keys rotate --finish, and join the new nodes.json everywhere")
    return 0


def _token(parsed: argparse.Namespace, terminal: Terminal) -> int:
    from asynqueue.wire.challenge import makeToken

    makeToken(parsed.file)
    terminal.write(f"Wrote a token to {parsed.file}. Whoever has it can connect; both ends need it.")
    return 0
