"""
The commands of AMP that the two ends of a connection send each other.

Version 1. To the runner: L{Run}, L{Cancel}, L{Recall}, L{Pull} and L{Close}; from it: L{Ready} and L{Outcome}; either
way: L{Credit}. None of them is answered: what comes of a call is pushed, many outcomes in a box, when it is there, and
a box that is not understood ends the connection.

To come with connections to other machines: hello with versions and limits, ping, go-away.
"""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.protocols import amp

#: The version of what is defined here.
VERSION = 1

#: How many pieces a box may have.
PIECES = 16


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
        pieces = objects[name.decode("ascii")]
        strings[name] = pieces[0]
        for number, piece in enumerate(pieces[1:], 1):
            strings[b"%b-%d" % (name, number)] = piece

    def fromBox(self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: object) -> None:
        """
        Take the pieces out of a box.

        @raise KeyError: There is none.
        """
        # Hot path, watched by `bench --only processes`.
        pieces = [strings.pop(name)]
        for number in range(1, PIECES):
            piece = strings.pop(b"%b-%d" % (name, number), None)
            if piece is None:
                break
            pieces.append(piece)
        objects[name.decode("ascii")] = pieces


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
