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
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from asynqueue.callargs import Place
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.errors import NotAuthorized, QueueFull
from asynqueue.options import CallOptions, checkedCount
from asynqueue.protocol.runner import MOST
from asynqueue.taskqueue import TaskQueue
from asynqueue.threads.worker import ThreadWorker
from asynqueue.wire.calls import LANES, NodeCall
from asynqueue.wire.identity import Identity
from asynqueue.wire.peers import Peer, authorizeCaller
from asynqueue.wire.registry import Registry
from asynqueue.wire.serializers import serializerOf
from asynqueue.workers.lifecycle import Readiness
from asynqueue.workers.reactor import AsyncWorker

if TYPE_CHECKING:
    from asynqueue.protocol.runner import Runner
    from asynqueue.wire.session import Session

#: How long, in bytes, a call may be.
LIMIT = 64 << 20

#: What applies to most calls.
PLAIN = CallOptions(returnFailure=True)

#: How many updates are kept for workers that are there later.
UPDATES = 1024

#: How long, in seconds, between two looks at whether callers still wait for something.
LOOK = 0.05

#: How long, in seconds, callers may take to close connections.
FAREWELL = 2.0

#: How many threads there are for methods that are to be run in one, where there are no others.
THREADS = 4

#: Somebody who may call any method.
ANYBODY = Identity("anybody", {"submit"}, "unix")

#: How many connections one identity may have, so that there are some for others.
PER_IDENTITY = 128

#: How long, in characters, the name of a node may be.
NAME = 255


def _first(results: list[Any]) -> Any:
    """
    Return what an update has come to in the first worker, or the failure of the first in which it failed.
    """
    return next((result for result in results if isinstance(result, Failure)), results[0] if results else None)


@frozen
class NodeSettings:
    """
    What a node tells callers, and how.

    @ivar name: What it calls itself.
    @ivar serializer: How values travel to and from callers that have not the role C{code}.
    @ivar pickles: Whether callers that have it send pickles, and any function.
    @ivar limit: How long, in bytes, a call may be.
    @ivar resultLimit: How long, in bytes, a result may be, whatever the caller would take.
    @ivar perIdentity: How many connections one identity may have.
    """

    name: str = field(factory=lambda: socket.gethostname()[:NAME])
    serializer: str = field(default="plain")
    pickles: bool = False
    limit: int = field(default=LIMIT)
    resultLimit: int = field(default=LIMIT)
    perIdentity: int = field(default=PER_IDENTITY)

    @name.validator
    def _checkName(self, _attribute: Any, value: str) -> None:
        if not isinstance(value, str) or not 1 <= len(value) <= NAME:
            raise ValueError(f"name must be text of 1 to {NAME} characters, not {value!r:.100}")

    @serializer.validator
    def _checkSerializer(self, _attribute: Any, value: str) -> None:
        if value == "pickle":
            raise ValueError(
                "serializer must not be 'pickle': pickles=True is what has callers with the role 'code' send them"
            )
        serializerOf(value)

    @limit.validator
    @resultLimit.validator
    @perIdentity.validator
    def _checkLimit(self, attribute: Any, value: int) -> None:
        if checkedCount(value, attribute.name) is None:
            raise TypeError(f"{attribute.name} must be a whole number, not None")


class Node:
    """
    Runs calls that come from afar.

    @ivar settings: What it tells callers, and how.
    @ivar registry: What there is to be called by name.
    @ivar queue: Runs the calls, but for methods of the universe that are run in the reactor.
    @ivar sessions: The connections of callers who have been let in; whose turn it is comes first.
    """

    def __init__(
        self,
        registry: Registry,
        makeWorkers: Callable[[list[str]], list[Any]] = lambda lanes: [],
        settings: NodeSettings | None = None,
        reactor: Any = None,
    ) -> None:
        """
        @param makeWorkers: Makes the workers of the queue, which are to be qualified for the given series.
        @param settings: What it tells callers, and how.
        @param reactor: The reactor; by default the global one.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.clock = reactor
        self.settings = settings or NodeSettings()
        self.registry = registry
        self.sessions: deque[Session] = deque()
        self._connections: dict[Session, None] = {}
        self._isStopping = False
        self._lanes = [f"lane {number}" for number in range(1, LANES + 1)]
        self._workers = makeWorkers(self._lanes)
        self._aside: TaskQueue | None = None
        self._underWay = 0
        # What tells those apart that have been run, and are to be run by workers that are there later.
        self._updates: set[str] = set()
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
        return authorizeCaller(identity, self.settings.serializer, self.settings.pickles)

    # Room

    @property
    def capacity(self) -> int:
        """
        How many calls can be at work at once, where there are workers beside methods.
        """
        return len(self._workers) or MOST

    def most(self, runner: Runner) -> int:
        """
        Return how many calls of a caller may go on at once, as far as can be said at the moment.

        Methods of the universe need no worker, and do not wait until there is one; but no more of them go on than
        L{MOST}, and those of a caller for whom workers are at something count as if that were methods of others.
        """
        # Hot path, watched by `bench --only wire`.
        if not self._workers:
            return MOST
        running = runner.running
        room = -self._underWay
        for worker in self._workers:
            # One that is being replaced has none, and will take what waits when it is there: nobody tells this node.
            room += worker.capacity or 1
        mayBeMethod = running - self._underWay < MOST
        if mayBeMethod and room > 0:
            return running + room
        if mayBeMethod or room > 0:
            return running + (self._isMethodNext(runner) == mayBeMethod)
        return running

    def _isMethodNext(self, runner: Runner) -> bool:
        """
        Tell whether the call of a caller that is to be begun with next is one of a method.
        """
        if not runner._calls:
            return False
        body = runner._calls[0][2]
        try:
            return self.registry.find(body[1 : 1 + body[0]], ANYBODY).isMethod
        except (NotAuthorized, IndexError):
            # There is no such thing, or it is for others than anybody, which methods are not.
            return False

    # Calls

    def run(self, call: NodeCall) -> Any:
        """
        Run a call.

        @return: Its result, or a Deferred of it.
        """
        # Hot path, watched by `bench --only wire`.
        if call.wanted.update is None:
            return self._runOnce(call)
        return self._runUpdate(call, call.wanted.update)

    def _runUpdate(self, call: NodeCall, key: str) -> Any:
        """
        Run an update in all workers, unless they have run it already.

        @param key: What tells it from others, or an empty text if workers that are there later need not run it.
        @return: C{None}, or a Deferred of the result in the first worker. Errbacks if it failed in one.
        """
        if call.isAgain and key in self._updates:
            return None
        if key and len(self._updates) >= UPDATES:
            raise QueueFull(f"the node keeps {UPDATES} updates for workers that are there later, which are the most")
        if call.isMethod or not self._workers:
            done = maybeDeferred(self._runOnce, call)
        else:
            place, options = Place(), self._optionsOf(call)
            done = self.queue._update(call.func, tuple(call.args), call.kw, place, options, not key, sequential=False)
            done.addCallback(_first)
        return done.addCallback(self._keep, key) if key else done

    def _keep(self, result: Any, key: str) -> Any:
        self._updates.add(key)
        return result

    def _runOnce(self, call: NodeCall) -> Any:
        # Hot path, watched by `bench --only wire`.
        exposed = call.exposed
        wanted = call.wanted
        isMethod = call.isMethod
        if isMethod and wanted.inThread:
            return self._submit(self._queueAside(), call, "thread")
        if isMethod or not self._workers:
            if wanted.timeLimit is wanted.softTimeLimit is None and (exposed is None or exposed.timeLimit is None):
                return call.beginHere()
            return self._submit(self._queueAside(), call, "async")
        done = self._submit(self.queue, call, self._lanes[wanted.lane - 1] if wanted.lane else None)
        self._underWay += 1
        return done.addBoth(self._freed)

    def _submit(self, queue: TaskQueue, call: NodeCall, series: str | None) -> Deferred[Any]:
        options = self._optionsOf(call)
        entry: Any = queue._submit(call.func, tuple(call.args), call.kw, series, call.wanted.niceness, options)
        call.entry = entry
        return entry  # type: ignore[no-any-return]

    def _optionsOf(self, call: NodeCall) -> CallOptions:
        exposed = call.exposed
        wanted = call.wanted
        limit, softLimit = wanted.timeLimit, wanted.softTimeLimit
        if exposed is not None and exposed.timeLimit is not None:
            limit = exposed.timeLimit if limit is None else min(limit, exposed.timeLimit)
        if limit is not None and softLimit is not None and softLimit >= limit:
            softLimit = None
        if limit is softLimit is None and wanted.isIdempotent:
            return PLAIN
        return CallOptions(returnFailure=True, timeLimit=limit, softTimeLimit=softLimit, idempotent=wanted.isIdempotent)

    def _freed(self, result: Any) -> Any:
        self._underWay -= 1
        # Whoever comes first may take all the room there is.
        self.sessions.rotate(-1)
        for session in self.sessions:
            session.runner.goOn()
        return result

    def _queueAside(self) -> TaskQueue:
        """
        Return the queue of methods that are run in threads, or in the reactor for a limited time. It is another one,
        for calls that are of no series may be run by any worker.
        """
        if self._aside is None:
            threads = [ThreadWorker(reactor=self.clock) for _ in range(THREADS)]
            self._aside = TaskQueue(AsyncWorker(), *threads, returnFailure=True, reactor=self.clock)
        return self._aside

    # Sessions

    def connected(self, session: Session) -> None:
        """
        Take note of somebody who has not been let in yet.
        """
        most = self.settings.perIdentity
        name = session.transport.identity.name
        self._connections[session] = None
        if sum(each.transport.identity.name == name for each in self._connections) > most:
            session.abort(f"has {most} connections already, as {name}, which are the most")
        if self._isStopping:
            session.transport.loseConnection()

    def came(self, session: Session) -> None:
        """
        Take note of a caller.
        """
        self.sessions.append(session)

    def left(self, session: Session) -> None:
        """
        Take note that somebody is gone.
        """
        del self._connections[session]
        if session in self.sessions:
            self.sessions.remove(session)
        if not self._connections:
            self._empty.ready()

    async def stop(self, deadline: float) -> None:
        """
        Let the callers go, when what they wait for is done, and end the workers.

        @param deadline: After so many seconds they go in any case.
        """
        self._isStopping = True
        # However the wall clock steps meanwhile.
        monotonic = monotonicOf(self.clock)
        until = monotonic() + deadline
        for session in tuple(self.sessions):
            session.goAway()
        while self.sessions and not all(session.isIdle for session in self.sessions):
            left = until - monotonic()
            if left <= 0:
                break
            await deferLater(self.clock, min(left, LOOK))
        for session in tuple(self._connections):
            session.transport.loseConnection()
        if self._connections:
            gone = self._empty.wait()
            late = Deadline(self.clock, monotonic, FAREWELL, gone.cancel)
            try:
                await gone
            except CancelledError:
                for session in tuple(self._connections):
                    session.abort("did not let go of the connection")
            finally:
                late.stop()
        queues = [self.queue] if self._aside is None else [self.queue, self._aside]
        left = max(0.1, until - monotonic())
        await gatherResults([queue.shutdown(deadline=left) for queue in queues])
