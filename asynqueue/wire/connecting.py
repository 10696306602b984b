"""
Getting a connection to a node, and getting it again: with a growing delay between attempts, not the same for all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.wire.link import Link, LinkFactory

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds until the second attempt, and at most between two.
FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0


@implementer(IStreamClientEndpoint)
class _Watched:
    """
    An endpoint whose failures are told.
    """

    def __init__(self, inner: IStreamClientEndpoint, failed: Callable[[Failure], object]) -> None:
        self._inner = inner
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect.
        """
        connected: Deferred[IProtocol] = self._inner.connect(protocolFactory)
        return connected.addErrback(self._tell)

    def _tell(self, failure: Failure) -> Failure:
        self._failed(failure)
        return failure


class Connecting:
    """
    Sees to it that there is a connection.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        limit: int,
        connected: Callable[[Link], object],
        failed: Callable[[Failure], bool],
    ) -> None:
        """
        @param limit: How long, in bytes, a result may be.
        @param connected: Called with each link that has answered the hello.
        @param failed: Called with each failure to get one. Returns whether to try again.
        """
        self._connected = connected
        self._failed = failed
        self._link: Link | None = None
        self._isStopping: Deferred[None] | None = None
        self._factory = LinkFactory(clock, limit)
        self._service: Any = ClientService(
            _Watched(endpoint, self._notConnected),
            self._factory,
            retryPolicy=backoffPolicy(FIRST_DELAY, LONGEST_DELAY, 2.0, lambda: random.uniform(0, FIRST_DELAY)),
            clock=clock,
            prepareConnection=self._prepare,
        )

    def start(self) -> None:
        """
        Connect, unless that has been begun with.
        """
        if not self._service.running:
            self._service.startService()

    def _prepare(self, proxy: object) -> Deferred[None]:
        # The service has a proxy of the protocol that is meant.
        link = self._link = self._factory.link
        assert link is not None
        return Deferred.fromCoroutine(self._hello(link))

    async def _hello(self, link: Link) -> None:
        try:
            await link.hello()
        except BaseException:
            self._notConnected(Failure())
            link.abort("did not get through the hello")
            raise
        self._connected(link)

    def _notConnected(self, failure: Failure) -> None:
        if self._service.running and not self._failed(failure):
            self.stop()

    def stop(self) -> Deferred[None]:
        """
        Close the connection when what was sent has gone out, and connect no more.

        @return: Fires when that is done.
        """
        return self.stopped() if not self._service.running else self._stopService()

    def _stopService(self) -> Deferred[None]:
        stopping: Deferred[None] = self._service.stopService()
        self._isStopping = stopping
        return self.stopped()

    def stopped(self) -> Deferred[None]:
        """
        @return: Fires when there is no connection, and none is being made.
        """
        if self._isStopping is None or self._isStopping.called:
            return succeed(None)
        done: Deferred[None] = Deferred()

        def tell(result: Any) -> Any:
            done.callback(None)
            return result

        self._isStopping.addBoth(tell)
        return done

    def abort(self) -> None:
        """
        Close the connection at once, and connect no more.
        """
        if self._link is not None and self._link.transport is not None:
            self._link.transport.abortConnection()
        self.stop()
