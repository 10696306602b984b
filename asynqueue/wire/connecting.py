"""
Getting a connection to a node, and getting it again: with a growing delay between attempts, not the same for all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from asynqueue.deferreds.deadline import monotonicOf
from asynqueue.wire.link import Link, LinkFactory
from asynqueue.workers.lifecycle import Readiness

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint

#: Seconds until the second attempt, and at most between two.
FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0

#: After a connection that has lasted so many seconds, the delay is the first one again.
STEADY = 5.0


class Connecting:
    """
    Sees to it that there is a connection.

    There is at most one of these at any time: an attempt, a delay until the next one, and a connection that is no
    attempt's any more. While none of them is there, nothing is wanted.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        limit: int,
        connected: Callable[[Link], object],
        failed: Callable[[Failure], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        @param limit: How long, in bytes, a result may be.
        @param connected: Called with each link that has answered the hello.
        @param failed: Called with each failure to get one. Returns whether to try again.
        @param chance: Returns numbers from 0 to 1, for delays.
        """
        self._clock = clock
        self._monotonic = monotonicOf(clock)
        self._endpoint = endpoint
        self._factory = LinkFactory(clock, limit)
        self._connected = connected
        self._failed = failed
        self._chance = chance
        self._isWanted = False
        self._failures = 0
        self._attempt: Deferred[Any] | None = None
        self._delay: IDelayedCall | None = None
        self._link: Link | None = None
        # When the link has answered the hello.
        self._since: float | None = None
        self._stopped = Readiness()

    def start(self) -> None:
        """
        Connect, unless that has been begun with.
        """
        if not self._isWanted:
            self._isWanted = True
            self._failures = 0
            self._goOn()

    def _goOn(self) -> None:
        """
        Do what is next, unless something is under way.
        """
        if self._attempt is not None or self._link is not None or self._delay is not None:
            return
        if not self._isWanted:
            self._stopped.ready()
        elif not self._failures:
            self._try()
        else:
            longest = min(FIRST_DELAY * 2 ** min(self._failures - 1, 30), LONGEST_DELAY)
            self._delay = self._clock.callLater(longest * (1 + self._chance()) / 2, self._delayIsOver)

    def hurry(self) -> None:
        """
        Make the next attempt soon, if it is waited until that is due, as if only one had failed.
        """
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
            self._failures = 1
            self._goOn()

    def _delayIsOver(self) -> None:
        self._delay = None
        self._try()

    def _try(self) -> None:
        self._attempt = Deferred.fromCoroutine(self._reach())
        self._attempt.addCallbacks(self._reached, self._notReached)

    async def _reach(self) -> Link:
        connection: Any = await self._endpoint.connect(self._factory)
        link: Link = connection
        if link.transport is None:
            raise ConnectionLost("the connection was lost before anything was said")
        self._link = link
        link.onClosed = self._closed
        try:
            await link.hello()
        except BaseException:
            if link.transport is not None:
                link.transport.abortConnection()
            raise
        return link

    def _reached(self, link: Link) -> None:
        self._attempt = None
        self._since = self._monotonic()
        self._connected(link)

    def _notReached(self, failure: Failure) -> None:
        self._attempt = None
        self._failures += 1
        if self._isWanted and not self._failed(failure):
            self._isWanted = False
        self._goOn()

    def _closed(self) -> None:
        since, self._link, self._since = self._since, None, None
        if since is not None:
            self._failures = 1 if self._monotonic() - since >= STEADY else self._failures + 1
        self._goOn()

    def stop(self) -> Deferred[None]:
        """
        Close the connection when what was sent has gone out, and connect no more.

        @return: Fires when that is done.
        """
        self._isWanted = False
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        if self._attempt is not None:
            self._attempt.cancel()
        elif self._link is not None and self._link.transport is not None:
            self._link.transport.loseConnection()
        self._goOn()
        return self.stopped()

    def stopped(self) -> Deferred[None]:
        """
        @return: Fires when there is no connection, and none is being made.
        """
        if self._attempt is None and self._link is None and self._delay is None:
            return succeed(None)
        return self._stopped.wait()

    def abort(self) -> None:
        """
        Close the connection at once, and connect no more.
        """
        link = self._link
        self.stop()
        if link is not None and link.transport is not None:
            link.transport.abortConnection()
