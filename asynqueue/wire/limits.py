"""
How many connections there may be, and how often somebody may fail to say who they are. Nothing here does any input or
output; the time comes from a clock that is passed in.

A I{peer} is whatever tells the hosts of clients apart, as L{peerOf} says, or C{None} for clients of a unix socket, all
of which are on this host and are limited in total only.

Who is known keeps its place. Who is not has it until somebody else comes and there is none left: then the one goes who
has been unknown longest. So nobody is shut out by those who come and say nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

from attrs import define, field, frozen
from attrs.validators import ge, gt

#: The peer that all clients are that connect to this host from itself by TCP. Any process of it, of whatever user, can
#: be any of them, and what one does is no reason to shut out the others.
THIS_HOST = "this host"

#: How much of an address of IPv6 tells the hosts apart: who has one has all that begin with it.
_IPV6_PREFIX = 64

#: How many bytes a client may send before it is known; the handshake of TLS 1.3 takes about 2,700 of them.
PRE_AUTH_BYTES = 4096

#: How long it may take to be known, in seconds.
PRE_AUTH_SECONDS = 5.0

#: How many addresses are remembered; beyond that, those that have been quiet longest are forgotten.
PEERS_REMEMBERED = 10_000


def peerOf(host: str | None) -> str | None:
    """
    Return the peer that a client is.

    @param host: Its address. One of IPv4 that is written as one of IPv6 is one of IPv4, and of others of IPv6, all of
        one /64 are the same peer. What is no address is a peer by itself.
    """
    if host is None:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return THIS_HOST
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
    return str(address)


@frozen
class Limits:
    """
    The limits of a listener.

    @ivar total: How many connections there may be.
    @ivar perPeer: How many there may be from one peer.
    @ivar unauthenticated: How many there may be of which it is not known yet whose they are.
    @ivar acceptsPerSecond: How many may come from one peer in a second, L{THIS_HOST} aside.
    @ivar failures: How often clients of one peer, L{THIS_HOST} aside, may be refused within C{failurePeriod}.
    @ivar failurePeriod: In seconds.
    @ivar block: How long no connection from that peer is accepted after that, in seconds.
    @ivar preAuthBytes: How many bytes a client may send before it is known.
    @ivar preAuthSeconds: How long that may take.
    """

    total: int = field(default=256, validator=ge(1))
    perPeer: int = field(default=16, validator=ge(1))
    unauthenticated: int = field(default=32, validator=ge(1))
    acceptsPerSecond: int = field(default=10, validator=ge(1))
    failures: int = field(default=20, validator=ge(1))
    failurePeriod: float = field(default=60.0, validator=gt(0))
    block: float = field(default=60.0, validator=gt(0))
    preAuthBytes: int = field(default=PRE_AUTH_BYTES, validator=ge(1))
    preAuthSeconds: float = field(default=PRE_AUTH_SECONDS, validator=gt(0))


class RecentEvents:
    """
    Counts the events of each peer within the last so many seconds.
    """

    def __init__(self, period: float, most: int, seconds: Callable[[], float]) -> None:
        """
        @param period: In seconds.
        @param most: How many events of a peer need to be told apart.
        @param seconds: The clock.
        """
        self._period = period
        self._most = most
        self._seconds = seconds
        # In the order in which peers were last active.
        self._times: dict[str, deque[float]] = {}

    def add(self, peer: str) -> None:
        """
        Note an event.
        """
        times = self._times.pop(peer, None) or deque(maxlen=self._most)
        times.append(self._seconds())
        self._times[peer] = times
        if len(self._times) > PEERS_REMEMBERED:
            del self._times[next(iter(self._times))]

    def count(self, peer: str) -> int:
        """
        Return how many events there were, up to C{most}.
        """
        times = self._times.get(peer)
        if times is None:
            return 0
        horizon = self._seconds() - self._period
        while times and times[0] <= horizon:
            times.popleft()
        if not times:
            del self._times[peer]
        return len(times)

    def forget(self, peer: str) -> None:
        """
        Forget the events of a peer.
        """
        self._times.pop(peer, None)

    def __len__(self) -> int:
        return len(self._times)


class FailureLimiter:
    """
    Blocks the peers that have failed too often.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        self._failures = RecentEvents(limits.failurePeriod, limits.failures, seconds)
        self._blockedUntil: dict[str, float] = {}

    def failed(self, peer: str | None) -> None:
        """
        Note that a client has been refused.
        """
        if peer is None or peer == THIS_HOST:
            return
        self._failures.add(peer)
        if self._failures.count(peer) >= self._limits.failures:
            self._failures.forget(peer)
            self._blockedUntil.pop(peer, None)
            self._blockedUntil[peer] = self._seconds() + self._limits.block
            if len(self._blockedUntil) > PEERS_REMEMBERED:
                del self._blockedUntil[next(iter(self._blockedUntil))]

    def isBlocked(self, peer: str | None) -> bool:
        """
        Tell whether connections are not accepted now.
        """
        until = None if peer is None else self._blockedUntil.get(peer)
        if peer is None or until is None:
            return False
        if self._seconds() < until:
            return True
        del self._blockedUntil[peer]
        return False


@define(eq=False)
class Place:
    """
    The place of one connection among all.

    @ivar peer: Whose it is.
    @ivar drop: Ends the connection, whose place somebody else gets.
    """

    peer: str | None
    drop: Callable[[], object] = int


class ConnectionCaps:
    """
    Decides which connections are accepted, and counts them.

    Each connection is first asked for by L{accept}. If that says C{None}, it is followed by L{authenticated} at most
    once, and then by L{closed}.

    @ivar total: How many connections there are. Those that had to go are no more of them.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        """
        @param limits: What is allowed.
        @param seconds: The clock.
        """
        self._limits = limits
        self._accepted = RecentEvents(1.0, limits.acceptsPerSecond, seconds)
        self._perPeer: Counter[str] = Counter()
        # The one that has been there longest comes first.
        self._unknown: dict[Place, None] = {}
        # Those that had to go, and are not closed yet.
        self._leaving: set[Place] = set()
        self.failures = FailureLimiter(limits, seconds)
        self.total = 0

    @property
    def unauthenticated(self) -> int:
        """
        How many connections there are of which it is not known yet whose they are.
        """
        return len(self._unknown)

    def accept(self, place: Place) -> str | None:
        """
        Ask for a place, and take it if there is one. The connection that has it may have to go for that.

        @return: Why there is none, as a text, or C{None}.
        """
        limits, peer = self._limits, place.peer
        isCounted = peer is not None and peer != THIS_HOST
        if self.failures.isBlocked(peer):
            return f"it was refused {limits.failures} times within {limits.failurePeriod:g} s"
        if peer is not None and isCounted and self._accepted.count(peer) >= limits.acceptsPerSecond:
            return f"it made {limits.acceptsPerSecond} connections within a second"
        problem = self._makeRoom(peer)
        if problem is not None:
            return problem
        self.total += 1
        self._unknown[place] = None
        if peer is not None:
            self._perPeer[peer] += 1
            if isCounted:
                self._accepted.add(peer)
        return None

    def _makeRoom(self, peer: str | None) -> str | None:
        """
        See to it that there is a place.

        @return: Why there is none, or C{None}.
        """
        limits = self._limits
        # Who has too many makes room for itself; it takes nobody else's place.
        if peer is not None and self._perPeer.get(peer, 0) >= limits.perPeer:
            problem = f"it has {limits.perPeer} connections"
            goner = next((place for place in self._unknown if place.peer == peer), None)
        elif len(self._unknown) >= limits.unauthenticated or self.total >= limits.total:
            problem = f"there are {self.total} connections, of which {len(self._unknown)} have not said whose they are"
            goner = next(iter(self._unknown), None)
        else:
            return None
        # Those that had to go take up files for a moment still.
        if goner is None or len(self._leaving) >= limits.unauthenticated:
            return problem
        self._uncount(goner)
        self._leaving.add(goner)
        goner.drop()
        return None

    def authenticated(self, place: Place) -> None:
        """
        Note that it is known whose an accepted connection is.
        """
        self._unknown.pop(place, None)

    def closed(self, place: Place) -> None:
        """
        Note that an accepted connection has ended.
        """
        if place in self._leaving:
            self._leaving.remove(place)
        else:
            self._uncount(place)

    def _uncount(self, place: Place) -> None:
        self.total -= 1
        self._unknown.pop(place, None)
        if place.peer is not None:
            self._perPeer[place.peer] -= 1
            if self._perPeer[place.peer] <= 0:
                del self._perPeer[place.peer]
