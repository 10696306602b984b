"""
Lanes: records on their way, one after the other, cut into boxes, and no more of them under way than the other end
bears.

A lane is a stream of bytes. It goes in boxes of at most L{BOX} bytes, each in pieces that fit into a value of AMP. A
record may begin in one box and end in a later one; many small ones share one. Not more than a window of bytes is
under way without credit, so that boxes of other kinds, such as one that cancels a call, never wait behind more. Credit
is given for many boxes at once: no box waits for an answer. Whoever sends more than there is credit for breaks the
protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

#: How long, in bytes, a piece of a box may be: less than 64 KiB, which a value of AMP cannot hold.
PIECE = 60 << 10

#: How long, in bytes, the pieces of one box may be together.
BOX = 4 * PIECE

#: How many bytes may be under way that there is no credit for.
WINDOW = 1 << 20

#: For so many bytes at a time credit is given.
GRANT = WINDOW // 4

Piece = bytes | memoryview


class Outgoing:
    """
    Cuts what is to be sent into boxes, as far as there is credit.

    @ivar pending: How many bytes wait for credit, or for the connection to take more.
    @ivar sent: How many bytes have been sent.
    """

    __slots__ = ("_isHeld", "_parts", "_room", "_send", "_sending", "pending", "sent")

    def __init__(self, send: Callable[[list[Piece]], object]) -> None:
        """
        @param send: Sends a box with these pieces.
        """
        self._send = send
        self._room = WINDOW
        self._parts: deque[Piece] = deque()
        self._sending = False
        self._isHeld = False
        self.pending = 0
        self.sent = 0

    def post(self, data: Piece) -> None:
        """
        Send some bytes after those before them, now or when there is credit.
        """
        # Hot path, watched by `bench --only processes`.
        size = len(data)
        if size <= PIECE and not self._parts and self._room > 0 and not self._isHeld:
            self._room -= size
            self.sent += size
            self._send([data])
            return
        self._parts.append(data)
        self.pending += size
        self._pump()

    def postBoth(self, start: Piece, rest: Piece) -> None:
        """
        Send what is short, and what follows it.
        """
        self._parts += (start, rest)
        self.pending += len(start) + len(rest)
        self._pump()

    def cutOff(self, end: int) -> None:
        """
        Forget what was posted after so many bytes, none of which have been sent.
        """
        surplus = self.sent + self.pending - end
        self.pending -= surplus
        parts = self._parts
        while surplus > 0:
            last = parts.pop()
            if len(last) > surplus:
                parts.append(memoryview(last)[:-surplus])
            surplus -= len(last)

    def credited(self, size: int) -> None:
        """
        Take note that the other end has taken so many bytes.
        """
        self._room = min(self._room + max(size, 0), WINDOW)
        self._pump()

    def hold(self, isHeld: bool) -> None:
        """
        Send nothing, or go on, whatever credit there is: the connection has more to send than it can.
        """
        self._isHeld = isHeld
        if not isHeld:
            self._pump()

    def _pump(self) -> None:
        if self._sending:
            return
        self._sending = True
        try:
            while self._parts and self._room > 0 and not self._isHeld:
                pieces = self._cut()
                size = sum(map(len, pieces))
                self._room -= size
                self.sent += size
                self.pending -= size
                self._send(pieces)
        finally:
            self._sending = False

    def _cut(self) -> list[Piece]:
        """
        Take the pieces of one box. What is small goes together with others, and what is large is not copied.
        """
        parts = self._parts
        pieces: list[Piece] = []
        small: list[Piece] = []
        length = 0
        left = BOX
        while parts and left > 0:
            part = parts[0]
            room = min(PIECE - length, left)
            if len(part) > room:
                if small and len(part) >= PIECE:
                    # It begins with a piece of its own.
                    pieces.append(b"".join(small))
                    small.clear()
                    length = 0
                    room = min(PIECE, left)
                view = memoryview(part)
                taken: Piece = view[:room]
                parts[0] = view[room:]
            else:
                taken = parts.popleft()
            left -= len(taken)
            length += len(taken)
            small.append(taken)
            if length >= PIECE:
                pieces.append(small[0] if len(small) == 1 else b"".join(small))
                small.clear()
                length = 0
        if small:
            pieces.append(small[0] if len(small) == 1 else b"".join(small))
        return pieces


class Incoming:
    """
    Counts what has come, and tells when credit is due for it.
    """

    __slots__ = ("_grant", "_taken", "_underWay")

    def __init__(self, grant: Callable[[int], object]) -> None:
        """
        @param grant: Gives the other end credit for so many bytes.
        """
        self._grant = grant
        self._taken = 0
        self._underWay = 0

    def came(self, size: int) -> None:
        """
        Take note that so many bytes have come. Who takes them at once need not.

        @raise ValueError: There was no credit for them.
        """
        # Hot path, watched by `bench --only processes`. Credit for one byte is enough to send a box.
        self._underWay += size
        if self._underWay > WINDOW + BOX:
            raise ValueError(f"{self._underWay} bytes on a lane, where there was credit for {WINDOW}")

    def took(self, size: int) -> None:
        """
        Take note that so many bytes have been taken.
        """
        self._taken += size
        if self._taken >= GRANT:
            taken, self._taken = self._taken, 0
            self._underWay -= taken
            self._grant(taken)
