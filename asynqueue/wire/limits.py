"""
How many connections there may be, and how often somebody may fail to say who they are. Nothing here does any input or
output; the time comes from a clock that is passed in.

A I{peer} is whatever tells the hosts of clients apart: an address, or C{None} for clients of a unix socket, all of
which are on this host and are limited in total only.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from attrs import field, frozen
from attrs.validators import ge, gt

#: How many bytes a client may send before it is known; the handshake of TLS 1.3 takes about 2,700 of them.
PRE_AUTH_BYTES = 4096

#: How long it may take to be known, in seconds.
PRE_AUTH_SECONDS = 5.0

#: How many addresses are remembered; beyond that, those that have been quiet longest are forgotten.
PEERS_REMEMBERED = 10_000


@frozen
class Limits:
    """
    The limits of a listener.

    @ivar total: How many connections there may be.
    @ivar perPeer: How many there may be from one address.
    @ivar unauthenticated: How many there may be of which it is not known yet whose they are.
    @ivar acceptsPerSecond: How many may come from one address in a second.
    @ivar failures: How often clients of one address may be refused within C{failurePeriod}.
    @ivar failurePeriod: In seconds.
    @ivar block: How long no connection from an address is accepted after that, in seconds.
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
        if peer is None:
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


class ConnectionCaps:
    """
    Decides which connections are accepted, and counts them.

    Each connection is first asked for by L{accept}. If that says C{None}, it is followed by L{authenticated} at most
    once, and then by L{closed}.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        """
        @param limits: What is allowed.
        @param seconds: The clock.
        """
        self._limits = limits
        self._accepted = RecentEvents(1.0, limits.acceptsPerSecond, seconds)
        self._perPeer: Counter[str] = Counter()
        self.failures = FailureLimiter(limits, seconds)
        self.total = 0
        self.unauthenticated = 0

    def accept(self, peer: str | None) -> str | None:
        """
        Ask whether a connection may be had, and count it if so.

        @return: Why not, as a text, or C{None}.
        """
        limits = self._limits
        problem = None
        if self.failures.isBlocked(peer):
            problem = f"it was refused {limits.failures} times within {limits.failurePeriod:g} s"
        elif self.total >= limits.total:
            problem = f"there are {limits.total} connections"
        elif self.unauthenticated >= limits.unauthenticated:
            problem = f"there are {limits.unauthenticated} connections that have not said whose they are"
        elif peer is not None and self._perPeer[peer] >= limits.perPeer:
            problem = f"it has {limits.perPeer} connections"
        elif peer is not None and self._accepted.count(peer) >= limits.acceptsPerSecond:
            problem = f"it made {limits.acceptsPerSecond} connections within a second"
        if problem is None:
            self.total += 1
            self.unauthenticated += 1
            if peer is not None:
                self._perPeer[peer] += 1
                self._accepted.add(peer)
        elif peer is not None and not self._perPeer[peer]:
            # Asking a Counter leaves nothing behind, but for what was counted down to zero.
            self._perPeer.pop(peer, None)
        return problem

    def authenticated(self) -> None:
        """
        Note that it is known whose an accepted connection is.
        """
        self.unauthenticated -= 1

    def closed(self, peer: str | None, wasAuthenticated: bool) -> None:
        """
        Note that an accepted connection has ended.
        """
        self.total -= 1
        if not wasAuthenticated:
            self.unauthenticated -= 1
        if peer is not None:
            self._perPeer[peer] -= 1
            if self._perPeer[peer] <= 0:
                del self._perPeer[peer]
