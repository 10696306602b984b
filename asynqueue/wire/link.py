"""
A connection, as the worker sees it that sends calls.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from asynqueue.callinfo import printable, said
from asynqueue.errors import NotAuthorized, VersionMismatch
from asynqueue.process import frames
from asynqueue.process.childprocess import Life
from asynqueue.process.reactorconversation import ReactorConversation
from asynqueue.protocol import commands, records
from asynqueue.protocol.caller import Caller, CallerEnd
from asynqueue.protocol.records import HEADER, NUMBER
from asynqueue.wire.hardened import HardenedAMP
from asynqueue.wire.heartbeat import Heartbeat
from asynqueue.wire.peers import Peer, authorizeRunner
from asynqueue.wire.session import CALLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress, IReactorTime

    from asynqueue.tasks import Task

#: How long, in seconds, a node may take to answer a hello.
HELLO_TIME = 5.0

#: How long, in characters, what a node says for a refusal may be.
TEXT = 1024

#: How many bytes of calls may not have gone out until no more calls are sent.
PENDING = 1 << 18

#: How many calls a node is sent at most that have no outcome: far from the number at which it ends the connection.
OUTSTANDING = CALLS // 2

#: What comes from a node, of all records.
KINDS = frozenset(
    [
        records.RESULT,
        records.NOTHING,
        records.ERROR,
        records.RECALLED,
        records.STREAM,
        records.ITEMS,
        records.STREAM_END,
        records.BEGUN,
        records.CANCELLED,
    ]
)


@frozen
class Severance:
    """
    How a connection has come to its end.

    @ivar begun: The number of the last call that may have been begun with.
    @ivar why: Why it was, as the end of a sentence.
    """

    begun: int
    why: str
    lastLines: Sequence[str] = ()

    #: Whose end it was, for messages about a call.
    subject: ClassVar[str] = "its connection"

    def describe(self) -> str:
        """
        Return a text such as C{"was lost: the connection was closed"}.
        """
        return f"was lost: {self.why}"


class Link(CallerEnd, HardenedAMP):
    """
    Sends calls to a node. For a conversation, it is what a child process is.

    @ivar caller: Has the lanes.
    @ivar peer: The node, once it has answered the hello.
    @ivar node: What it calls itself.
    @ivar version: That of the protocol that both speak.
    @ivar places: How many calls it can be at work at, at once.
    @ivar callLimit: How long, in bytes, a call may be.
    @ivar isLeaving: Whether the node takes no more calls.
    @ivar onRecords: Called with each list of records that has come.
    @ivar onDeath: Called once with the L{Severance}.
    @ivar onLeaving: Called when the node says that it takes no more calls.
    @ivar onRoom: Called when calls that were sent before have gone out, and others may be sent.
    @ivar onClosed: Called once when the connection is no more, after everything else.
    """

    #: What a conversation asks a child for, and a node has not.
    begun = 0
    reported = 0
    life = Life.READY

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        """
        @param limit: How long, in bytes, a result may be.
        """
        HardenedAMP.__init__(self, clock)
        self.caller = Caller(self.push, limit)
        self.peer: Peer | None = None
        self.node = ""
        self.version = 0
        self.places = 1
        self.callLimit = 0
        self.isLeaving = False
        self.onRecords: Callable[[list[tuple[int, int, int, bytes]]], object] = len
        self.onDeath: Callable[[Severance], object] = id
        self.onLeaving: Callable[[], object] = int
        self.onClosed: Callable[[], object] = int
        self.onRoom: Callable[[], object] = int
        self._limit = limit
        self._heartbeat = Heartbeat(self)

    @property
    def pid(self) -> str:
        """
        What log entries call the node.
        """
        return "?" if self.peer is None else self.peer.identity.name

    async def hello(self) -> None:
        """
        Say hello.

        @raise VersionMismatch: There is no version that both ends understand.
        @raise NotAuthorized: One of the ends is not trusted with its part.
        @raise TimeoutError: The node does not answer.
        """
        answered: Deferred[dict[str, Any]] = self.callRemote(
            commands.Hello,
            oldest=commands.OLDEST,
            newest=commands.VERSION,
            node=f"{socket.gethostname()}:{os.getpid()}"[:64],
            limit=self._limit,
        )
        try:
            answer = await answered.addTimeout(HELLO_TIME, self.clock)
        except NotAuthorized as error:
            # What the node says is its own.
            raise NotAuthorized(f"the node says: {printable(str(error), TEXT)}") from None
        except (amp.AmpError, KeyError, UnicodeError, ValueError) as error:
            # It may be anybody, and may answer anything.
            raise VersionMismatch(
                f"the node answers in a way that is not understood here: {printable(said(error), TEXT)}"
            ) from None
        if not commands.OLDEST <= answer["version"] <= commands.VERSION:
            raise VersionMismatch(
                f"the node {answer['node']!r:.100} understands none of the versions {commands.OLDEST} to"
                f" {commands.VERSION} of the protocol: one of the two has an asynqueue that is too old"
            )
        self.peer = authorizeRunner(self.transport.identity, answer["serializer"])
        self.node = answer["node"]
        self.version = answer["version"]
        self.places = max(1, min(answer["capacity"], 1 << 16))
        self.callLimit = max(1, answer["limit"])
        self.trust(commands.Outcome, self.caller.received)
        self._heartbeat.start()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell that the connection is no more.
        """
        super().connectionLost(reason)
        self._heartbeat.stop()
        why = f"its peer {self.why}" if self.why else reason.getErrorMessage().rstrip(".")
        self.life = Life.GONE
        self.onDeath(Severance(0, why))
        self.onClosed()

    def hold(self, isHeld: bool) -> None:
        """
        Send no calls for now, or go on.
        """
        self.caller.hold(isHeld)
        self._lookForRoom()

    @commands.Credit.responder
    def _credit(self, size: int) -> dict[str, Any]:
        self.caller.credited(size)
        self._lookForRoom()
        return {}

    def _lookForRoom(self) -> None:
        if not self.isFull:
            self.onRoom()

    @property
    def isFull(self) -> bool:
        """
        Whether there are calls that have not gone out, and no others should be sent.
        """
        # Hot path, watched by `bench --only wire`.
        return self.caller.pending > PENDING

    @commands.Outcome.responder
    def _outcome(self, records: list[bytes]) -> dict[str, Any]:
        self.caller.received(records)
        return {}

    @commands.GoAway.responder
    def _goAway(self) -> dict[str, Any]:
        self.isLeaving = True
        self.onLeaving()
        return {}

    @commands.Ping.responder
    def _ping(self) -> dict[str, Any]:
        return {}

    # As a child

    def begin(self) -> None:
        """
        Hand on what comes from now on.
        """
        self.caller.onRecords = lambda records: self.onRecords(records)

    def send(self, data: bytes) -> None:
        """
        Send records of calls.
        """
        # Hot path, watched by `bench --only wire`.
        self.caller.post(data)

    def control(self, kind: int, number: int, flags: int = 0) -> None:
        """
        Recall calls or cancel one.
        """
        if kind == frames.RECALL:
            self.caller.recall(number)
        elif kind == frames.INTERRUPT:
            self.caller.cancel(number, flags)

    def pull(self, number: int, count: int) -> None:
        """
        Have so many items more of a stream sent.
        """
        self.caller.pull(number, count)

    def closeStream(self, number: int) -> None:
        """
        Have an iterator closed.
        """
        self.caller.close(number)

    def broke(self, what: str) -> None:
        """
        End the connection at once, for the node has broken the protocol.
        """
        self.abort(f"sent {what}")


class WireConversation(ReactorConversation):
    """
    Sends calls to a node, and reports their outcomes.
    """

    child: Any
    encoder: Any

    # To send it in a box of its own would take longer than to copy it.
    large = 1 << 18

    def __init__(self, child: Link, *args: Any) -> None:
        """
        @param args: Those of L{asynqueue.process.conversation.Conversation}.
        """
        super().__init__(child, *args)  # type: ignore[arg-type]
        self._produced = 0
        # The numbers of calls that may not have gone out as a whole, and after how many bytes each begins and ends.
        self._ends: deque[tuple[int, int, int]] = deque()
        self._sentTo = 0
        self._sentBefore = -1

    def accept(self, task: Task) -> None:
        """
        Send a call. If it cannot travel, that is its outcome.
        """
        # Hot path, watched by `bench --only wire`.
        before = self.accepted
        super().accept(task)
        if self.accepted > before:
            start = self._produced
            self._produced = end = start + self.encoder.size
            self._ends.append((next(reversed(self.held)), start, end))
            self._lookWhatWasSent()

    def _sendUpdate(self, body: bytes) -> None:
        super()._sendUpdate(body)
        self._produced += HEADER.size + len(body)

    def _lookWhatWasSent(self) -> None:
        """
        Take note of the last call that has gone out as a whole. Those after it cannot have been begun with.
        """
        # Hot path, watched by `bench --only wire`.
        sent = self.child.caller.sent
        ends = self._ends
        while ends and ends[0][2] <= sent:
            self._sentTo = ends.popleft()[0]

    def takeUnsent(self) -> list[Task]:
        """
        Take back the tasks of which nothing has gone out.
        """
        self._post()
        self._lookWhatWasSent()
        sent = self.child.caller.sent
        unsent = [each for each in self._ends if each[1] >= sent]
        if not unsent:
            return []
        self._produced = unsent[0][1]
        self.child.caller.cutOff(self._produced)
        for _ in unsent:
            self._ends.pop()
        return self._takeBack(number for number, _, _ in unsent)

    def recall(self) -> bool:
        """
        Ask the node to give back what it has not begun with of what it has; unless there is more on its way.
        """
        caller = self.child.caller
        if caller.pending and caller.sent != self._sentBefore:
            self._sentBefore = caller.sent
            return False
        return super().recall()

    def _recall(self) -> None:
        if not self._isRecalling and self._sentTo:
            self._isRecalling = True
            self.child.control(frames.RECALL, self._sentTo)

    def _take(self, kind: int, flags: int, number: int, body: bytes) -> int:
        # Hot path, watched by `bench --only wire`.
        if kind not in KINDS:
            self._broke(f"a record of kind {kind}")
        elif (kind == records.RECALLED or kind == records.BEGUN) and (len(body) % NUMBER.size or not body):
            self._broke("numbers that are none")
        elif kind == records.RECALLED and not (self._isRecalling or self.child.isLeaving):
            self._broke("back calls that it was not asked for")
        else:
            return super()._take(kind, flags, number, body)
        return 0

    def _broke(self, what: str) -> None:
        # Nothing that it sends can be relied on.
        self._inbox.clear()
        self.child.broke(what)

    def _died(self, death: Any) -> None:
        self._lookWhatWasSent()
        super()._died(evolve(death, begun=self._sentTo))

    def capacity(self, window: int, most: int | None = None) -> int:
        """
        Return how many calls the node may hold: as many as it can be at work at, or a few more than it is.

        @param most: That many instead, if it is given.
        """
        # Hot path, watched by `bench --only wire`.
        if self.child.isLeaving:
            return 0
        if self.child.isFull:
            return len(self.held)
        if most is None:
            places: int = self.child.places
            most = max(places, len(self._underWay) + window)
        return min(most, OUTSTANDING)

    def closeStream(self, number: int) -> None:
        """
        Have the node close an iterator. However long that takes, it holds up nobody.
        """
        self.child.closeStream(number)


class LinkFactory(Factory):
    """
    Makes links of connections.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        self._clock = clock
        self._limit = limit

    def buildProtocol(self, addr: IAddress | None) -> Link:
        """
        Make one.
        """
        return Link(self._clock, self._limit)
