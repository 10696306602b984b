"""
AMP, for peers that may mean ill: boxes are bounded in number of pairs, in bytes and in time, and whatever does not
belong ends the connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.deferreds.deadline import monotonicOf
from asynqueue.protocol.boxes import BoxReader, written
from asynqueue.protocol.commands import namedPieces, piecesIn

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How many pairs of a key and a value a box may have.
PAIRS = 32

#: How long, in bytes, the keys and values of a box may be together.
BOX = 256 << 10

#: How long, in seconds, a box may take to arrive.
BOX_TIME = 30.0

#: Unless at least so many bytes of it come in a second: the line may be no faster.
SLOWEST = 256

#: How many questions may be answered to a peer that does not read what it is sent, and how long, in bytes, the tag of
#: a question may be.
UNREAD = 100
TAG = 32

#: How many pairs, and bytes, the box may have that says who somebody is.
FIRST_PAIRS = 8
FIRST_BOX = 4096


@implementer(IPushProducer)
class HardenedAMP(amp.AMP):
    """
    A protocol of AMP whose peer is bounded in what they can make it hold, and whose first box is L{FIRST_BOX} at most.

    @ivar why: Why the connection has been ended from this side, or an empty text.
    @ivar monotonic: What tells the time, whatever becomes of the wall clock.
    @ivar heard: When something came last, by that.
    """

    log = Logger()

    # AMP's methods have no types.
    transport: Any
    callRemote: Callable[..., Any]
    connectionMade: Callable[[], None]
    locateResponder: Callable[[bytes], Callable[..., Any] | None]

    def __init__(self, clock: IReactorTime) -> None:
        amp.AMP.__init__(self)
        self.why = ""
        self.clock = clock
        self.monotonic = monotonicOf(clock)
        self.heard = self.monotonic()
        self._reader = BoxReader(FIRST_PAIRS, FIRST_BOX)
        self._takers: dict[bytes, Callable[[list[bytes]], object]] = {}
        self._arrival: IDelayedCall | None = None
        self._isHeld = False
        self._unread = 0

    def trust(self, command: type[amp.Command], taker: Callable[[list[bytes]], object]) -> None:
        """
        Let boxes be as large as they may be from now on.

        @param command: The one of which most boxes are: its only argument is C{records}, and it is not answered.
        @param taker: Gets the pieces of that, by a shorter way than others go.
        """
        self._reader.mostPairs = PAIRS
        self._reader.mostBytes = BOX
        self._takers[command.commandName] = taker

    def makeConnection(self, transport: Any) -> None:
        """
        Begin, without a line in the log as AMP writes it.
        """
        self.heard = self.monotonic()
        amp.BinaryBoxProtocol.makeConnection(self, transport)
        if self.transport is not None:
            self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """
        Send no calls and no outcomes for now: the peer does not take what there is.
        """
        self._isHeld = True
        self.hold(True)

    def resumeProducing(self) -> None:
        """
        Go on sending them.
        """
        self._isHeld = False
        self._unread = 0
        self.hold(False)

    def stopProducing(self) -> None:
        """
        Do nothing: the connection is gone.
        """

    def hold(self, isHeld: bool) -> None:
        """
        Send nothing for now that can wait, or go on.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End, likewise.
        """
        self._stopArrival()
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None

    def dataReceived(self, data: bytes) -> None:
        """
        Take what has come.
        """
        # Hot path, watched by `bench --only wire`.
        if self.why:
            return
        self.heard = self.monotonic()
        try:
            for box in self._reader.feed(data):
                self._boxReceived(box)
        except Exception as error:  # AMP raises whatever it comes to with boxes that are none
            self.abort(f"sent a box that is none: {error}")
            return
        if not self._reader.isWithin:
            self._stopArrival()
        elif self._arrival is None and self.transport is not None:
            self._watchArrival()

    def _boxReceived(self, box: dict[bytes, Any]) -> None:
        # Hot path, watched by `bench --only wire`.
        if self.why:
            return
        self._stopArrival()
        taker = self._takers.get(box.get(amp.COMMAND, b""))
        if taker is not None and amp.ASK not in box:
            taker(piecesIn(box, b"records"))
        else:
            self.ampBoxReceived(amp.AmpBox({key: bytes(value) for key, value in box.items()}))

    def _watchArrival(self) -> None:
        self._arrival = self.clock.callLater(BOX_TIME, self._lookAtArrival, self._reader.held)

    def _lookAtArrival(self, before: int) -> None:
        if self._reader.held - before >= SLOWEST * BOX_TIME:
            self._watchArrival()
        else:
            self.abort(f"did not complete a box in {BOX_TIME:g} s")

    def _stopArrival(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and arrival.active():
            arrival.cancel()

    def ampBoxReceived(self, box: Any) -> None:
        """
        Take a box, unless it answers what has not been asked.
        """
        # Hot path, watched by `bench --only wire`.
        if self.why:
            return
        if amp.ASK in box and not self._mayAsk(box[amp.ASK]):
            return
        tag = box.get(amp.ANSWER, box.get(amp.ERROR))
        if tag is not None and tag not in self._outstandingRequests:
            self.abort("answered what it has not been asked")
            return
        amp.AMP.ampBoxReceived(self, box)

    def _mayAsk(self, tag: bytes) -> bool:
        self._unread += self._isHeld
        if self._unread > UNREAD:
            self.abort(f"asked {self._unread} questions without reading the answers")
        elif len(tag) > TAG:
            self.abort(f"sent a tag of {len(tag)} bytes")
        return not self.why

    def dispatchCommand(self, box: Any) -> Deferred[Any]:
        """
        Have a command answered. One that is not understood ends the connection, and is not answered.
        """
        # Hot path, watched by `bench --only wire`.
        dispatched: Deferred[Any] = amp.AMP.dispatchCommand(self, box)
        return dispatched.addErrback(self._notUnderstood)

    def _notUnderstood(self, failure: Failure) -> Any:
        if failure.check(amp.RemoteAmpError):
            return failure
        self.unhandledError(failure)
        return Deferred()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """
        Close a descriptor, and end the connection.
        """
        os.close(descriptor)
        self.abort("passed a file descriptor")

    def unhandledError(self, failure: Failure) -> None:
        """
        End the connection: the peer has sent something that cannot be understood.
        """
        self.abort(f"sent what cannot be understood: {failure.getErrorMessage()}")

    def abort(self, why: str) -> None:
        """
        End the connection at once.

        @param why: What the peer has done.
        """
        if not self.why and self.transport is not None:
            self.why = why
            self._reader = BoxReader(0, 0)
            self.log.warn("A connection was ended, for its peer {why}", why=why)
            self.transport.abortConnection()

    def push(self, command: type[amp.Command], **arguments: Any) -> None:
        """
        Send a command that is not answered, if there is a connection.
        """
        # Hot path, watched by `bench --only wire`.
        if self.transport is None or self.why:
            return
        pieces = arguments.get("records")
        if pieces is None:
            self.callRemote(command, **arguments)
        else:
            pairs = [(amp.COMMAND, command.commandName), *namedPieces(b"records", pieces)]
            self.transport.write(written(pairs))

    def ask(self, command: type[amp.Command], answered: Callable[[], object] = int) -> None:
        """
        Send a command, if there is a connection, of whose answer nothing is of interest but that it is there.
        """
        if self.transport is not None and not self.why:
            self.callRemote(command).addCallbacks(lambda answer: answered(), lambda failure: None)
