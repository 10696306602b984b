"""
A node: a queue with workers of its own, and what callers from afar may have run on it.

Data flow::

    connection -> Session -> Runner: calls in the order in which they came, as many at once as there is room for
                                |
                                +-> Node.run: a method of the universe -> the reactor, or a thread
                                |             anything else -> TaskQueue -> threads and children
                                |
    connection <- Session <- Runner: outcomes, items of streams
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import deferLater

from asynqueue.options import CallOptions, checkedCount
from asynqueue.protocol.runner import MOST
from asynqueue.taskqueue import TaskQueue
from asynqueue.threads.worker import ThreadWorker
from asynqueue.wire.calls import LANES, NodeCall
from asynqueue.wire.peers import Peer, authorizeCaller
from asynqueue.wire.registry import Registry
from asynqueue.wire.serializers import serializerOf
from asynqueue.workers.lifecycle import Readiness

if TYPE_CHECKING:
    from asynqueue.protocol.runner import Runner
    from asynqueue.wire.identity import Identity
    from asynqueue.wire.session import Session

#: How long, in bytes, a call may be.
LIMIT = 64 << 20

#: What applies to most calls.
PLAIN = CallOptions(returnFailure=True)

#: How long, in seconds, between two looks at whether callers still wait for something.
LOOK = 0.05

#: How long, in seconds, callers may take to close connections.
FAREWELL = 2.0

#: How many threads there are for methods that are to be run in one, where there are no others.
THREADS = 4


class Node:
    """
    Runs calls that come from afar.

    @ivar name: What it calls itself.
    @ivar registry: What there is to be called by name.
    @ivar queue: Runs the calls, but for methods of the universe that are run in the reactor.
    @ivar limit: How long, in bytes, a call may be.
    @ivar sessions: The connections of callers.
    """

    def __init__(
        self,
        registry: Registry,
        makeWorkers: Callable[[list[str]], list[Any]] = lambda lanes: [],
        *,
        reactor: Any = None,
        name: str | None = None,
        serializer: str = "plain",
        pickles: bool = False,
        limit: int = LIMIT,
    ) -> None:
        """
        @param makeWorkers: Makes the workers of the queue, which are to be qualified for the given series.
        @param reactor: The reactor.
        @param name: What the node calls itself; by default the name of the host.
        @param serializer: How values travel to and from callers that have not the role C{code}.
        @param pickles: Whether callers that have it send pickles, and any function.
        @param limit: How long, in bytes, a call may be.
        @raise ValueError: There is no such serializer, or the limit is less than 1.
        """
        if serializer == "pickle":
            raise ValueError("pickles=True is what has callers with the role 'code' send pickles")
        serializerOf(serializer)
        checkedCount(limit, "limit")
        if reactor is None:
            from twisted.internet import reactor
        self.clock = reactor
        self.name = socket.gethostname() if name is None else name
        self.registry = registry
        self.limit = limit
        self.sessions: list[Session] = []
        self._serializer = serializer
        self._pickles = pickles
        self._lanes = [f"lane {number}" for number in range(1, LANES + 1)]
        self._workers = makeWorkers(self._lanes)
        self._threads: list[ThreadWorker] = []
        self._underWay = 0
        self._empty = Readiness()
        self.queue = TaskQueue(returnFailure=True, reactor=reactor)
        self.started: Deferred[Any] = gatherResults(
            [self.queue.attachWorker(worker) for worker in self._workers], consumeErrors=True
        )

    def authorize(self, identity: Identity) -> Peer:
        """
        Let somebody have calls run.

        @raise NotAuthorized: They may not.
        """
        return authorizeCaller(identity, self._serializer, self._pickles)

    # Room

    @property
    def capacity(self) -> int:
        """
        How many calls can be at work at once.
        """
        return len(self._workers) or MOST

    def most(self, runner: Runner) -> int:
        """
        Return how many calls of a caller may go on at once, as far as can be said at the moment.
        """
        # Hot path, watched by `bench --only wire`.
        if not self._workers:
            return MOST
        room = 0
        for worker in self._workers:
            room += worker.capacity
        return runner.running + max(0, room - self._underWay)

    # Calls

    def run(self, call: NodeCall) -> Any:
        """
        Run a call.

        @return: Its result, or a Deferred of it.
        """
        # Hot path, watched by `bench --only wire`.
        exposed = call.exposed
        wanted = call.wanted
        isMethod = exposed is not None and exposed.isMethod
        if isMethod and wanted.inThread:
            if not self._threads:
                self._hireThreads()
            return self._submit(call, "thread")
        if isMethod or not self._workers:
            return call.beginHere()
        done = self._submit(call, self._lanes[wanted.lane - 1] if wanted.lane else None)
        self._underWay += 1
        return done.addBoth(self._freed)

    def _submit(self, call: NodeCall, series: str | None) -> Deferred[Any]:
        exposed = call.exposed
        wanted = call.wanted
        limit, softLimit = wanted.timeLimit, wanted.softTimeLimit
        if exposed is not None and exposed.timeLimit is not None:
            limit = exposed.timeLimit if limit is None else min(limit, exposed.timeLimit)
        if limit is not None and softLimit is not None and softLimit >= limit:
            softLimit = None
        options = PLAIN
        if limit is not None or softLimit is not None or not wanted.isIdempotent:
            options = CallOptions(
                returnFailure=True, timeLimit=limit, softTimeLimit=softLimit, idempotent=wanted.isIdempotent
            )
        return self.queue._submit(call.func, tuple(call.args), call.kw, series, wanted.niceness, options)

    def _freed(self, result: Any) -> Any:
        self._underWay -= 1
        for session in self.sessions:
            session.runner.goOn()
        return result

    def _hireThreads(self) -> None:
        self._threads = [ThreadWorker(reactor=self.clock) for _ in range(THREADS)]
        for worker in self._threads:
            self.queue.attachWorker(worker)

    # Sessions

    def came(self, session: Session) -> None:
        """
        Take note of a caller.
        """
        self.sessions.append(session)

    def left(self, session: Session) -> None:
        """
        Take note that a caller is gone.
        """
        self.sessions.remove(session)
        self._lookForTheEnd()

    def _lookForTheEnd(self) -> None:
        if not self.sessions:
            self._empty.ready()

    async def stop(self, deadline: float) -> None:
        """
        Let the callers go, when what they wait for is done, and end the workers.

        @param deadline: After so many seconds they go in any case.
        """
        until = self.clock.seconds() + deadline
        for session in self.sessions:
            session.goAway()
        while self.sessions and not all(session.isIdle for session in self.sessions):
            left = until - self.clock.seconds()
            if left <= 0:
                break
            await deferLater(self.clock, min(left, LOOK))
        for session in tuple(self.sessions):
            session.transport.loseConnection()
        if self.sessions:
            gone = self._empty.wait()
            gone.addTimeout(FAREWELL, self.clock)
            try:
                await gone
            except TimeoutError:
                for session in tuple(self.sessions):
                    session.abort("did not let go of the connection")
        await self.queue.shutdown(deadline=max(0.1, until - self.clock.seconds()))
