"""
C{asynqueue ping}: connects to a server as a worker would, and shows who it is and how far away.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from asynqueue.cli.reactor import run_in_reactor
from asynqueue.cli.terminal import CommandError, one_line
from asynqueue.cli.worker import add_switches
from asynqueue.errors import AsynQueueError
from asynqueue.wire.identity import ROLES

if TYPE_CHECKING:
    from asynqueue.cli.terminal import Terminal
    from asynqueue.wire.link import Link

#: How long, in bytes, a result could be; there will be none.
_LIMIT = 64 << 20

#: How much is shown of what the other end calls itself, in characters.
_NAME_LIMIT = 100


def add_parser(subcommands: Any) -> None:
    """
    Add the parser of C{asynqueue ping}.
    """
    parser = subcommands.add_parser(
        "ping", help="show who a server is, and how far away", description=__doc__.splitlines()[0]
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "description", help="which server, such as unix:/run/user/1000/queue or aq://FINGERPRINT@HOST:PORT"
    )
    parser.add_argument("--count", type=_count, default=5, metavar="N", help="how many round trips (%(default)s)")
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="how long each step may take (%(default)s)"
    )
    add_switches(parser, "insecure_plaintext", "insecure_one_way_tls")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 10000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, more than 0, up to 3600")
    return seconds


def _run(parsed: argparse.Namespace, terminal: Terminal) -> int:
    return run_in_reactor(lambda reactor: ping(reactor, parsed, terminal))


async def ping(reactor: Any, parsed: argparse.Namespace, terminal: Terminal) -> int:
    """
    Connect, ask, and show.

    @return: The exit code.
    @raise CommandError: The server cannot be reached, or does not answer.
    @raise AsynQueueError: One of the two does not want the other.
    """
    from twisted.internet.defer import TimeoutError
    from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError, UserError

    from asynqueue.wire.endpoints import clientEndpoint
    from asynqueue.wire.link import LinkFactory

    endpoint = clientEndpoint(
        reactor,
        parsed.description,
        timeout=parsed.timeout,
        insecure_plaintext=parsed.insecure_plaintext,
        insecure_one_way_tls=parsed.insecure_one_way_tls,
    )
    try:
        connection: Any = await endpoint.connect(LinkFactory(reactor, _LIMIT)).addTimeout(parsed.timeout, reactor)
        link: Link = connection
        times = await _ask(reactor, link, parsed)
    except TimeoutError:
        raise CommandError(f"{parsed.description} does not answer in time") from None
    except (ConnectError, ConnectionClosed, DNSLookupError, UserError, OSError) as error:
        raise CommandError(f"{parsed.description} cannot be reached: {error}") from None
    _show(link, times, terminal)
    return 0


async def _ask(reactor: Any, link: Link, parsed: argparse.Namespace) -> list[float]:
    """
    Say hello, see how long round trips take, and end the connection.

    @raise CommandError: The answer makes no sense.
    """
    from twisted.internet.defer import TimeoutError
    from twisted.internet.error import ConnectionClosed

    try:
        await link.hello()
        return await _round_trips(reactor, link, parsed.count, parsed.timeout)
    except (AsynQueueError, ConnectionClosed, TimeoutError):
        raise
    except Exception as error:  # AMP raises whatever it comes to with answers that are none
        problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise CommandError(f"{parsed.description} answers what is not understood: {problem}") from None
    finally:
        if link.transport is not None:
            link.transport.loseConnection()


async def _round_trips(reactor: Any, link: Link, number: int, timeout: float) -> list[float]:
    """
    Return how long so many round trips take, in seconds, one after the other.
    """
    from asynqueue.protocol.commands import Ping

    times = []
    for _ in range(number):
        began = perf_counter()
        await link.callRemote(Ping).addTimeout(timeout, reactor)
        times.append(perf_counter() - began)
    return times


def _show(link: Link, times: list[float], terminal: Terminal) -> None:
    assert link.peer is not None
    identity = link.peer.identity
    roles = ", ".join(role for role in ROLES if role in identity.roles)
    places = "call" if link.places == 1 else "calls"
    least, middle, most = (1000 * each for each in (min(times), median(times), max(times)))
    terminal.write(f"other end     {one_line(identity.name)}, known by {identity.how}, with the roles {roles}")
    if identity.fingerprint:
        terminal.write(f"fingerprint   {identity.fingerprint}")
    terminal.write(f"calls itself  {one_line(str(link.node), _NAME_LIMIT)}")
    terminal.write(f"protocol      version {link.version}")
    terminal.write(f"serializer    {link.peer.serializer.name}")
    terminal.write(f"capacity      {link.places} {places} at once, of {link.callLimit} bytes each at most")
    terminal.write(
        f"round trips   {len(times)}: {least:.2f} ms at least, {middle:.2f} ms the median, {most:.2f} ms at most"
    )
