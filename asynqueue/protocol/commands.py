"""
The commands of AMP that the two ends of a connection send each other.

Version 1. To the runner: L{Run}, L{Cancel}, L{Recall}, L{Pull} and L{Close}; from it: L{Ready} and L{Outcome}; either
way: L{Credit}. None of them is answered: what comes of a call is pushed, many outcomes in a box, when it is there, and
a box that is not understood ends the connection.

Between machines, L{Hello} comes first, L{Ping} either way at any time after it, and L{GoAway} from the runner. These
are answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from twisted.protocols import amp

from asynqueue.errors import NotAuthorized

#: The version of what is defined here, and the oldest one that is understood.
VERSION = OLDEST = 1

#: How many pieces a box may have.
PIECES = 16


def namedPieces(name: bytes, pieces: Sequence[Any]) -> Iterator[tuple[bytes, Any]]:
    """
    Iterate over the pairs of a box that pieces make: beside the first, they are named with their numbers.
    """
    # Hot path, watched by `bench --only processes`.
    yield name, pieces[0]
    for number in range(1, len(pieces)):
        yield b"%b-%d" % (name, number), pieces[number]


def piecesIn(strings: dict[bytes, bytes], name: bytes) -> list[bytes]:
    """
    Take pieces out of the pairs of a box.

    @raise KeyError: There is none.
    """
    # Hot path, watched by `bench --only processes`.
    pieces = [strings.pop(name)]
    for number in range(1, PIECES):
        piece = strings.pop(b"%b-%d" % (name, number), None)
        if piece is None:
            break
        pieces.append(piece)
    return pieces


class Pieces(amp.Argument):
    """
    Bytes of a lane: a list of pieces, each a value of its own in the box, beside the first named with their numbers.
    """

    def __init__(self) -> None:
        self.optional = False

    def toBox(self, name: bytes, strings: dict[bytes, Any], objects: dict[str, Any], proto: object) -> None:
        """
        Put the pieces into a box.
        """
        # Hot path, watched by `bench --only processes`.
        strings.update(namedPieces(name, objects[name.decode("ascii")]))

    def fromBox(self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: object) -> None:
        """
        Take the pieces out of a box.

        @raise KeyError: There is none.
        """
        # Hot path, watched by `bench --only processes`.
        objects[name.decode("ascii")] = piecesIn(strings, name)


class Pushed(amp.Command):
    """
    A command that nobody answers.
    """

    requiresAnswer = False


class Run(Pushed):
    """
    Run calls: bytes of the lane of calls, one record a call.
    """

    commandName = b"run"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"records", Pieces())]


class Outcome(Pushed):
    """
    What has become of calls, and the items of streams: bytes of the lane of outcomes.
    """

    commandName = b"outcome"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"records", Pieces())]


class Credit(Pushed):
    """
    So many bytes more of the other end's lane may be under way.
    """

    commandName = b"credit"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"size", amp.Integer())]


class Cancel(Pushed):
    """
    End a call that goes on, or never begin with it. Its outcome follows in any case.

    C{reason} is L{asynqueue.protocol.records.UNWANTED} or L{asynqueue.protocol.records.SOFT_LIMIT}.
    """

    commandName = b"cancel"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"number", amp.Integer()), (b"reason", amp.Integer())]


class Recall(Pushed):
    """
    Give back the calls up to a number that have not been begun with, and never begin with them.
    """

    commandName = b"recall"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"number", amp.Integer())]


class Pull(Pushed):
    """
    So many items more of a stream may come.
    """

    commandName = b"pull"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"number", amp.Integer()), (b"count", amp.Integer())]


class Close(Pushed):
    """
    Nobody wants more items of a stream. Its end follows when its iterator has been closed.
    """

    commandName = b"close"
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"number", amp.Integer())]


class Ready(Pushed):
    """
    The runner can take calls.
    """

    commandName = b"ready"


class Hello(amp.Command):
    """
    What the end that sends calls says of itself, and is told of the other one.

    C{oldest} and C{newest} are the versions of this vocabulary that it understands, C{node} is what it calls itself,
    and C{limit} how long, in bytes, a result may be. The answer has the C{version} that is spoken, which is 0 if there
    is none that both understand; what the other end calls itself; how values are written as bytes (C{serializer}); how
    many calls can be at work at once (C{capacity}), and how long, in bytes, one may be.
    """

    commandName = b"hello"
    errors: ClassVar[dict[type[Exception], bytes]] = {NotAuthorized: b"not-authorized"}
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [
        (b"oldest", amp.Integer()),
        (b"newest", amp.Integer()),
        (b"node", amp.Unicode()),
        (b"limit", amp.Integer()),
    ]
    response: ClassVar[list[tuple[bytes, amp.Argument]]] = [
        (b"version", amp.Integer()),
        (b"node", amp.Unicode()),
        (b"serializer", amp.Unicode()),
        (b"capacity", amp.Integer()),
        (b"limit", amp.Integer()),
    ]


class Ping(amp.Command):
    """
    Tell that you are there.
    """

    commandName = b"ping"


class GoAway(amp.Command):
    """
    Send no more calls: the runner ends when those that it has begun with are done. It gives back the others, also those
    that come before the answer.
    """

    commandName = b"go-away"
