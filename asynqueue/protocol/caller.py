"""
The end that sends calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.protocols import amp

from asynqueue.protocol import commands
from asynqueue.protocol.lanes import Incoming, Outgoing, Piece
from asynqueue.protocol.records import ERROR_LIMIT, Splitter

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Sends a command with its arguments.
Send = Callable[..., object]

#: The kind, the flags, the number and the body of a record.
Record = tuple[int, int, int, bytes]


class Caller:
    """
    Sends calls, and takes what comes of them. It does no input or output, and knows no clock.

    @ivar onReady: Called when the runner can take calls.
    @ivar onRecords: Called with each list of records that has come.
    """

    def __init__(self, send: Send, limit: int) -> None:
        """
        @param send: Sends a command of L{asynqueue.protocol.commands}, which comes first, with its arguments.
        @param limit: How long, in bytes, the body of a record may be that comes.
        """
        self.onReady: Callable[[], object] = int
        self.onRecords: Callable[[list[Record]], object] = len
        self._send = send
        self._lane = Outgoing(self._run)
        self._incoming = Incoming(lambda size: send(commands.Credit, size=size))
        self._splitter = Splitter(max(limit, ERROR_LIMIT), inPlace=True)

    def _run(self, pieces: list[Piece]) -> None:
        self._send(commands.Run, records=pieces)

    # To the runner

    @property
    def pending(self) -> int:
        """
        How many bytes of calls wait until others have been taken.
        """
        return self._lane.pending

    @property
    def sent(self) -> int:
        """
        How many bytes of calls have been sent.
        """
        return self._lane.sent

    def post(self, data: bytes) -> None:
        """
        Send records of calls, or parts of such.
        """
        self._lane.post(data)

    def cutOff(self, end: int) -> None:
        """
        Forget what was posted after so many bytes, none of which have been sent.
        """
        self._lane.cutOff(end)

    def hold(self, isHeld: bool) -> None:
        """
        Send no calls for now, or go on: the connection has more to send than it can.
        """
        self._lane.hold(isHeld)

    def cancel(self, number: int, reason: int) -> None:
        """
        Have a call cancelled, for one of the reasons of L{asynqueue.protocol.records}.
        """
        self._send(commands.Cancel, number=number, reason=reason)

    def recall(self, number: int) -> None:
        """
        Have calls up to a number given back that have not been begun with.
        """
        self._send(commands.Recall, number=number)

    def pull(self, number: int, count: int) -> None:
        """
        Have so many items more of a stream sent.
        """
        self._send(commands.Pull, number=number, count=count)

    def close(self, number: int) -> None:
        """
        Have a stream ended.
        """
        self._send(commands.Close, number=number)

    # From the runner

    def ready(self) -> None:
        """
        Take note that the runner can take calls.
        """
        self.onReady()

    def received(self, pieces: Sequence[bytes]) -> None:
        """
        Take what has come over the lane of outcomes.

        @raise ValueError: A record is longer than it may be.
        """
        # Hot path, watched by `bench --only processes`.
        records: list[Record] = []
        for piece in pieces:
            records += self._splitter.feed(piece)
            self._incoming.took(len(piece))
        if records:
            self.onRecords(records)

    def credited(self, size: int) -> None:
        """
        Take note of how much the runner has taken.
        """
        self._lane.credited(size)


class CallerEnd(amp.CommandLocator):
    """
    To be mixed into an AMP protocol that talks to a runner: hands on what comes.

    @ivar caller: Who gets it.
    """

    caller: Caller

    @commands.Ready.responder
    def _ready(self) -> dict[str, Any]:
        self.caller.ready()
        return {}

    @commands.Outcome.responder
    def _outcome(self, records: list[bytes]) -> dict[str, Any]:
        self.caller.received(records)
        return {}

    @commands.Credit.responder
    def _credit(self, size: int) -> dict[str, Any]:
        self.caller.credited(size)
        return {}
