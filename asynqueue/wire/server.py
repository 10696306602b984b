"""
A server of calls: a node behind a listener.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, FirstError, TimeoutError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import InvalidName, namedAny

from asynqueue.errors import AsynQueueError, AuthError, WorkerStartError
from asynqueue.options import checkedTimeout
from asynqueue.process.worker import ProcessWorker
from asynqueue.threads.worker import ThreadWorker
from asynqueue.wire.endpoints import serverEndpoint
from asynqueue.wire.node import FAREWELL, LIMIT, PER_IDENTITY, Node, NodeSettings
from asynqueue.wire.registry import Registry
from asynqueue.wire.session import SessionFactory
from asynqueue.wire.signals import listens, listensNoMore
from asynqueue.wire.universe import WireWorkerUniverse
from asynqueue.workers.lifecycle import Readiness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twisted.internet.interfaces import IListeningPort

    from asynqueue.wire.keys import Keys
    from asynqueue.wire.limits import Limits

#: How long, in seconds, callers may take to come to an end when a server stops.
GRACE = 25.0


class WireServer:
    """
    Has calls run that come over connections.

    @ivar service: What starts and stops the server, for a program that is made of Twisted's services. If the server
        cannot be started, that is logged, and the service does not run.
    @ivar node: Runs the calls; C{None} while the server is not started.
    @ivar port: Where it listens; C{None} while it does not.
    """

    log = Logger()

    def __init__(
        self,
        description: str,
        wwu: WireWorkerUniverse | str | None = None,
        *,
        threads: int = 0,
        processes: int = 0,
        processKeywords: Mapping[str, Any] | None = None,
        serializer: str = "plain",
        pickles: bool | None = None,
        name: str | None = None,
        keys: Keys | None = None,
        limits: Limits | None = None,
        limit: int = LIMIT,
        resultLimit: int = LIMIT,
        perIdentity: int = PER_IDENTITY,
        grace: float = GRACE,
        reactor: Any = None,
        onRefused: Callable[[AuthError], None] | None = None,
        insecure_plaintext: bool = False,
        insecure_one_way_tls: bool = False,
        insecure_root: bool = False,
        plaintextRoles: Iterable[str] = ("submit",),
    ) -> None:
        """
        @param description: Where to listen, as L{asynqueue.wire.serverEndpoint} has it.
        @param wwu: The universe whose methods can be called, its full name or that of its class, or C{None}.
        @param threads: How many threads run calls.
        @param processes: How many child processes do. Without either, calls are run in the reactor.
        @param processKeywords: The keywords of the L{ProcessWorker}s.
        @param serializer: How values travel to and from callers that have not the role C{code}.
        @param pickles: Whether callers that have the role C{code} send pickles, and any function. By default they do
            over a unix socket, whose other end is a process of the same user.
        @param name: What the node calls itself; by default the name of the host.
        @param keys: The keys of this side, if not those of the usual place.
        @param limits: How many connections there may be.
        @param limit: How long, in bytes, a call may be.
        @param resultLimit: How long, in bytes, a result may be, whatever the caller would take.
        @param perIdentity: How many connections one identity may have.
        @param grace: Seconds that callers may take to come to an end when the server stops.
        @param reactor: The reactor; by default the global one.
        @param onRefused: Is told of each caller that was refused.
        @param insecure_plaintext: Whether connections may be such that others can read, change or use them.
        @param insecure_one_way_tls: Whether connections may be of TLS that does not say who the client is.
        @param insecure_root: Whether a process of root may listen.
        @param plaintextRoles: The roles of whoever connects where it is not known who that is.
        @raise InsecureTransport: The description is of a kind that needs a switch, which the message names.
        @raise ValueError: The description, or another argument, is wrong.
        @raise TypeError: C{wwu} is no universe.
        @raise ImportError: There is nothing by the full name.
        """
        if reactor is None:
            from twisted.internet import reactor
        for argument, number in (("threads", threads), ("processes", processes)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(f"{argument} must be a whole number from 0 on, not {number!r}")
        self.description = description
        self.service = _WireService(self)
        self.port: IListeningPort | None = None
        self.node: Node | None = None
        self._reactor = reactor
        if grace is None:
            raise TypeError("grace must be a number of seconds, not None")
        self._grace = checkedTimeout(grace, "grace") or 0.0
        arePickled = description.startswith("unix:") if pickles is None else bool(pickles)
        settings = NodeSettings(
            serializer=serializer, pickles=arePickled, limit=limit, resultLimit=resultLimit, perIdentity=perIdentity
        )
        if name is not None:
            settings = evolve(settings, name=name)
        self._isStopping = False
        self._ends = Readiness()
        # How many starts are under way: more than one, if one that was given up has not come to its end.
        self._underWay = 0
        self._starts = Readiness()
        self._registry = Registry(_universe(wwu, self))
        self._endpoint = serverEndpoint(
            reactor,
            description,
            keys=keys,
            limits=limits,
            onRefused=onRefused,
            insecure_plaintext=insecure_plaintext,
            insecure_one_way_tls=insecure_one_way_tls,
            insecure_root=insecure_root,
            plaintextRoles=plaintextRoles,
        )

        def makeWorkers(lanes: list[str]) -> list[Any]:
            children = [ProcessWorker(lanes, **dict(processKeywords or {})) for _ in range(processes)]
            return [*children, *(ThreadWorker(lanes, reactor=reactor) for _ in range(threads))]

        def makeNode() -> Node:
            return Node(self._registry, makeWorkers, settings, reactor)

        self._makeNode = makeNode

    def start(self) -> Deferred[IListeningPort]:
        """
        Start the workers, and listen.

        @return: Fires with the port when callers can connect. Errbacks if a worker could not be started, or this
            process cannot listen there, and L{WorkerStartError} if the server is stopped before.
        @raise RuntimeError: The server is started, or is about to stop.
        """
        if self.node is not None or self._isStopping:
            state = "is about to stop" if self._isStopping else "is started already"
            raise RuntimeError(f"the server at {self.description} {state}")
        node = self.node = self._makeNode()
        return Deferred.fromCoroutine(self._start(node))

    async def _start(self, node: Node) -> IListeningPort:
        self._underWay += 1
        try:
            return await self._listen(node)
        finally:
            self._underWay -= 1
            if not self._underWay:
                self._starts.ready()

    async def _listen(self, node: Node) -> IListeningPort:
        cause = None
        try:
            await node.started
            if self.node is node:
                port = await self._endpoint.listen(SessionFactory(node))
                if self.node is node:
                    self.port = port
                    listens(port)
                    return port
                # Nobody else knows of it.
                await maybeDeferred(port.stopListening)
        except BaseException as error:  # it is raised again, or what comes of it
            if self.node is node:
                self.node = None
                await self._stop(node)
                if isinstance(error, FirstError):
                    error.subFailure.raiseException()
                raise
            cause = error
        raise WorkerStartError(f"the server at {self.description} was stopped before it listened") from cause

    def stop(self) -> Deferred[None]:
        """
        Listen no more, tell callers to go elsewhere, and end the workers when the calls are done.

        @return: Fires when that is so, after the grace of the server in any case.
        """
        ended = self._ends.wait()
        if not self._isStopping:
            self._isStopping = True
            node, self.node = self.node, None
            Deferred.fromCoroutine(self._end(node)).addBoth(self._stopped)
        return ended

    async def _end(self, node: Node | None) -> None:
        await self._stop(node, self._grace)
        if self._underWay:
            # It may be about to listen; then it closes its port.
            started = self._starts.wait()
            started.addTimeout(max(self._grace, FAREWELL), self._reactor)
            try:
                await started
            except TimeoutError:
                self.log.warn(
                    "The server at {place} was stopped before it listened. It may listen yet for a moment, and close"
                    " its port then.",
                    place=self.description,
                )

    async def _stop(self, node: Node | None, grace: float = 0.0) -> None:
        port, self.port = self.port, None
        if port is not None:
            listensNoMore(port)
            await maybeDeferred(port.stopListening)
        if node is not None:
            await node.stop(grace)

    def _stopped(self, result: Any) -> None:
        self._isStopping = False
        if isinstance(result, Failure):
            self._ends.fail(result)
        else:
            self._ends.ready()


class _WireService(Service):
    """
    Starts and stops a server with the program.
    """

    log = Logger()

    def __init__(self, server: WireServer) -> None:
        self._server = server

    def startService(self) -> Deferred[IListeningPort | None]:
        """
        Start. If that fails, it is logged, for who starts services does not look at what they return.

        @return: Fires with the port, or with C{None} if the server could not be started, or was stopped before.
        @raise RuntimeError: The server is started, or is about to stop.
        """
        started: Deferred[Any] = self._server.start()
        super().startService()  # type: ignore[no-untyped-call]
        return started.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            # It has been stopped.
            return
        self.running = 0
        place = self._server.description
        why = failure.getErrorMessage()
        self.log.critical("the server at {place} cannot be started: {why}", place=place, why=why)
        if not failure.check(AsynQueueError, CannotListenError, OSError):
            self.log.failure("this is where it went wrong", failure)

    def stopService(self) -> Deferred[None]:
        """
        Stop.

        @return: Fires when the server has stopped, be it that it was still starting.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._server.stop()


def _universe(wwu: Any, server: WireServer) -> WireWorkerUniverse | None:
    """
    Return a universe, given it, its class, or the full name of either.
    """
    if isinstance(wwu, str):
        try:
            wwu = namedAny(wwu)
        except (InvalidName, AttributeError, ImportError) as error:
            raise ImportError(f"there is no universe by the full name {wwu!r}: {error}") from error
    if isinstance(wwu, type) and issubclass(wwu, WireWorkerUniverse):
        wwu = wwu(server)
    if wwu is not None:
        WireWorkerUniverse.check(wwu)
        wwu.wireServer = server
    universe: WireWorkerUniverse | None = wwu
    return universe
