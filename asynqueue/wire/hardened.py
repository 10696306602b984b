"""
AMP, for peers that may mean ill: boxes are bounded in number of pairs, in bytes and in time, and whatever does not
belong ends the connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How many pairs of a key and a value a box may have.
PAIRS = 32

#: How long, in bytes, the keys and values of a box may be together.
BOX = 256 << 10

#: How long, in seconds, a box may take to arrive.
BOX_TIME = 30.0

#: How many pairs, and bytes, the box may have that says who somebody is.
FIRST_PAIRS = 8
FIRST_BOX = 4096


class HardenedAMP(amp.AMP):
    """
    A protocol of AMP whose peer is bounded in what they can make it hold, and whose first box is L{FIRST_BOX} at most.

    @ivar why: Why the connection has been ended from this side, or an empty text.
    @ivar heard: When something came last, by the clock.
    """

    log = Logger()

    # AMP's methods have no types.
    transport: Any
    callRemote: Callable[..., Any]
    _currentKey: bytes | None
    _MAX_VALUE_LENGTH: int
    connectionMade: Callable[[], None]
    locateResponder: Callable[[bytes], Callable[..., Any] | None]

    def __init__(self, clock: IReactorTime) -> None:
        amp.AMP.__init__(self)
        self.why = ""
        self.clock = clock
        self.heard = clock.seconds()
        self._pairs = 0
        self._bytes = 0
        self._mostPairs = FIRST_PAIRS
        self._mostBytes = FIRST_BOX
        self._arrival: IDelayedCall | None = None

    def trust(self) -> None:
        """
        Let boxes be as large as they may be from now on.
        """
        self._mostPairs = PAIRS
        self._mostBytes = BOX

    def makeConnection(self, transport: Any) -> None:
        """
        Begin, without a line in the log as AMP writes it.
        """
        self.heard = self.clock.seconds()
        amp.BinaryBoxProtocol.makeConnection(self, transport)

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
        self.heard = self.clock.seconds()
        try:
            amp.AMP.dataReceived(self, data)
        except Exception as error:  # AMP raises whatever it comes to with boxes that are none
            self.abort(f"sent a box that is none: {error}")
            return
        isWithin = self._pairs > 0 or self.recvd
        if isWithin and self._arrival is None and self.transport is not None:
            self._arrival = self.clock.callLater(BOX_TIME, self.abort, f"did not complete a box in {BOX_TIME:g} s")
        elif not isWithin:
            self._stopArrival()

    def _stopArrival(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and arrival.active():
            arrival.cancel()

    def proto_key(self, string: bytes) -> str | None:
        """
        Take a key, or the end of a box.
        """
        # Hot path, watched by `bench --only wire`.
        if not string:
            self._pairs = self._bytes = 0
            self._stopArrival()
            state: str | None = amp.AMP.proto_key(self, string)
            return state
        self._pairs += 1
        self._bytes += len(string)
        if self._pairs > self._mostPairs:
            raise ValueError(f"more than {self._mostPairs} pairs")
        state = amp.AMP.proto_key(self, string)
        # So that not even the value is held that would be too much.
        self.MAX_LENGTH = min(self._MAX_VALUE_LENGTH, max(0, self._mostBytes - self._bytes))
        return state

    def proto_value(self, string: bytes) -> str | None:
        """
        Take a value.
        """
        # Hot path, watched by `bench --only wire`.
        self._bytes += len(string)
        state: str | None = amp.AMP.proto_value(self, string)
        return state

    def lengthLimitExceeded(self, length: int) -> None:
        """
        Refuse a key or a value that is too long.

        @raise ValueError: Always.
        """
        if self._currentKey is None:
            raise ValueError(f"a key of {length} bytes")
        raise ValueError(f"more than {self._mostBytes} bytes")

    def ampBoxReceived(self, box: Any) -> None:
        """
        Take a box, unless it answers what has not been asked.
        """
        # Hot path, watched by `bench --only wire`.
        if self.why:
            return
        tag = box.get(amp.ANSWER, box.get(amp.ERROR))
        if tag is not None and tag not in self._outstandingRequests:
            self.abort("answered what it has not been asked")
            return
        amp.AMP.ampBoxReceived(self, box)

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
            self._unprocessed = b""
            self._currentBox = None
            self.log.warn("A connection was ended, for its peer {why}", why=why)
            self.transport.abortConnection()

    def push(self, command: type[amp.Command], **arguments: Any) -> None:
        """
        Send a command that is not answered, if there is a connection.
        """
        # Hot path, watched by `bench --only wire`.
        if self.transport is not None and not self.why:
            self.callRemote(command, **arguments)

    def ask(self, command: type[amp.Command], **arguments: Any) -> None:
        """
        Send a command whose answer is of no interest, if there is a connection.
        """
        if self.transport is not None and not self.why:
            self.callRemote(command, **arguments).addErrback(lambda failure: None)
