"""
A server that is started and stopped with a program, and tells who watches over that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.service.notices import Notices

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

    from asynqueue.wire.server import WireServer


def placeOf(description: str, port: IListeningPort) -> str:
    """
    Return where a server listens: as it was described, with the number of a port that was any.
    """
    host: Any = port.getHost()
    number = getattr(host, "port", None)
    return description if number is None else f"{description} ({host.host} port {number})"


class NodeService(Service):
    """
    Starts and stops a server.

    @ivar server: The server.
    """

    log = Logger()

    def __init__(
        self, server: WireServer, notices: Notices, onFailed: Callable[[Failure], object] = lambda failure: None
    ) -> None:
        """
        @param notices: Tells who watches over the program.
        @param onFailed: Called with the failure if the server cannot be started.
        """
        self.server = server
        self._notices = notices
        self._onFailed = onFailed
        self._starting: Deferred[None] | None = None

    def startService(self) -> Deferred[str | None]:
        """
        Start the server.

        @return: Fires with where it listens, when it does; with C{None} if it could not be started.
        """
        super().startService()  # type: ignore[no-untyped-call]
        starting = self._starting = Deferred()
        return Deferred.fromCoroutine(self._start(starting))

    async def _start(self, starting: Deferred[None]) -> str | None:
        try:
            port = await self.server.start()
        except Exception:  # whatever it is, it is handed on
            failure = Failure()
            starting.callback(None)
            self._onFailed(failure)
            return None
        place = placeOf(self.server.description, port)
        self.log.info("listening on {place}", place=place)
        if self.running:
            self._notices.ready(f"listening on {place}")
        starting.callback(None)
        return place

    def stopService(self) -> Deferred[None]:
        """
        Tell callers to go elsewhere, let calls come to their ends, and stop the server.

        @return: Fires when that is done.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._notices.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            # A server that is stopped while it starts would listen afterwards.
            await starting
            await self.server.stop()
