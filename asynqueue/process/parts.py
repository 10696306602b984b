"""
Large pickles and buffers, which travel beside the pipes, in files of memory that a child shares with its parent.

Pickles of protocol 5 may leave out buffers, of arrays for one. A pickle and what it has left out are its parts. If they
are large, the sender copies them into a file, the record that goes over the pipe tells where they are, and the receiver
copies them out. There is a file for each direction, made with the page and like it without a name as soon as the child
has opened it: nothing is left in a folder, and the system takes the memory back when both ends are closed or dead,
however that has come.

Why the receiver copies, and maps nothing: what it gets is its own then, C{bytes} or C{bytearray}, as if it had come
over the pipe; it may be kept, written to and pickled, and holds no descriptor. And it is known when memory may be
written again: in the parent, when a call has its outcome or has been given back; in the child, when the parent says on
the page that it has taken what was sent. Memory that is used again is the point: of 32 MiB, 14 ms go into writing fresh
memory and 4 into memory that is there, and so it is with reading (3 ms for what is mapped, 14 for what is copied).
Whoever maps needs fresh memory each time, and both ways come to the same, but that copying spares the parent.

Nothing is mapped, so nobody can get a SIGBUS; and when there is no room, C{write} tells that, and the parts travel over
the pipe, in the record.

This module is for both ends, and imports nothing that takes time to load. A child imports it when there are parts.
"""

from __future__ import annotations

import os
from struct import Struct, unpack_from

from asynqueue.process.decoding import loads
from asynqueue.process.frames import APART

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Piece = bytes | memoryview

#: How many bytes a file may have. What needs more has the file for itself, which then is cut.
ROOM = 1 << 26

#: How many bytes of fresh memory a reactor may write in a turn.
FRESH = 1 << 24

#: How many bytes one system call is sure to read or write.
AT_ONCE = 1 << 30

#: How many bytes the system maps at once, or more.
PAGE = 4096

#: Where the parts are: in the file, at one less than the number; or in the record, if it is 0. And how many there are.
_START = Struct("<QI")


class Segment:
    """
    One end of a file in memory.
    """

    __slots__ = ("_descriptor", "_end", "_fresh")

    def __init__(self, descriptor: int, fresh: int = AT_ONCE) -> None:
        """
        @param fresh: How many bytes of fresh memory may be written at once.
        """
        self._descriptor = descriptor
        self._end = 0
        self._fresh = fresh

    def put(self, pieces: Sequence[Piece], size: int, isFree: bool) -> int:
        """
        Write some pieces.

        @param size: How many bytes they have.
        @param isFree: Whether the other end needs nothing any more of what has been written.
        @return: The place, or 0 if there is no room.
        """
        start = 0 if isFree else self._end
        end = start + size
        if (start and end > ROOM) or size > AT_ONCE:
            return 0
        try:
            more = self._missing(end)
            if more > self._fresh or not self._hasRoom(more):
                return 0
            at = start
            for piece in pieces:
                # Into memory that has never been touched, the system call would run at each page anew.
                memoryview(piece)[::PAGE].tobytes()
                written = os.pwrite(self._descriptor, piece, at)
                at += written
                if written != len(piece):
                    break
        except OSError:
            at = -1
        if at != end:
            self._cut(start)
            return 0
        self._end = end
        return start + 1

    def _missing(self, size: int) -> int:
        return size - os.fstat(self._descriptor).st_size

    def _hasRoom(self, more: int) -> bool:
        """
        Tell whether so much may be taken. Others need room, too: without a page no child starts.
        """
        if more <= 0:
            return True
        system = os.fstatvfs(self._descriptor)
        return 2 * more <= system.f_bavail * system.f_frsize

    def grow(self, size: int) -> None:
        """
        Make room for as much as has come another way, for which the other end does not have the time.
        """
        size = min(size, ROOM)
        try:
            if (more := self._missing(size)) > 0 and self._hasRoom(more):
                os.posix_fallocate(self._descriptor, 0, size)
        except (OSError, AttributeError):
            # It goes on to come another way.
            return

    def take(self, place: int, sizes: Sequence[int]) -> list[bytes | bytearray]:
        """
        Read what the other end has written.

        @raise EOFError: It is not there.
        """
        at = place - 1
        pieces: list[bytes | bytearray] = []
        for each in sizes:
            size = each >> 1
            piece: bytes | bytearray
            if each & 1:
                piece = bytearray(size)
                isThere = os.preadv(self._descriptor, [piece], at) == size
            else:
                piece = os.pread(self._descriptor, size, at)
                isThere = len(piece) == size
            if not isThere:
                raise EOFError("a part is missing in shared memory")
            pieces.append(piece)
            at += size
        if at > ROOM:
            # Nothing else is there.
            self._cut(ROOM)
        return pieces

    def _cut(self, size: int) -> None:
        """
        Give memory back.
        """
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            # It is given back with the file.
            return


class Parts:
    """
    A pickle and the buffers that it has left out, on their way.
    """

    __slots__ = ("_pieces", "_table", "size")

    def __init__(self, pickles: Sequence[bytes], buffers: Sequence[Any] = ()) -> None:
        """
        @param buffers: Those that the pickler has handed out, C{PickleBuffer}s.
        """
        pieces = self._pieces = [*pickles, *map(_pieceOf, buffers)]
        sizes = [len(each) << 1 | (not isinstance(each, bytes) and not each.readonly) for each in pieces]
        self._table = Struct(f"<I{len(sizes)}Q").pack(len(sizes), *sizes)
        self.size = sum(map(len, pieces))

    def __len__(self) -> int:
        """
        Return how many bytes they have in a record.
        """
        return 8 + len(self._table) + self.size

    def laid(self, segment: Segment, isFree: bool) -> list[bytes]:
        """
        Copy them into shared memory, if they are large and there is room.

        @param isFree: Whether the other end needs nothing any more of what has been written before.
        @return: The body of a record, as L{inline} does if they are not in shared memory.
        """
        place = segment.put(self._pieces, self.size, isFree) if self.size >= APART else 0
        return [place.to_bytes(8, "little") + self._table] if place else self.inline()

    def inline(self) -> list[bytes]:
        """
        Return the body of a record that holds them, in pieces. What does not change is not copied.
        """
        return [bytes(8) + self._table, *map(bytes, self._pieces)]


def _pieceOf(buffer: Any) -> Piece:
    view: memoryview = buffer.raw()
    whole = view.obj
    return whole if type(whole) is bytes and len(whole) == len(view) else view


def arrived(body: bytes | memoryview, segment: Segment | None) -> list[bytes | bytearray]:
    """
    Return parts that have come.

    @param body: That of the record.
    @raise EOFError: They are not there.
    """
    place, count = _START.unpack_from(body)
    sizes = unpack_from(f"<{count}Q", body, _START.size)
    if place:
        if segment is None:
            raise EOFError("there is no shared memory")
        return segment.take(place, sizes)
    pieces: list[bytes | bytearray] = []
    start = _START.size + 8 * count
    for each in sizes:
        end = start + (each >> 1)
        piece = body[start:end]
        pieces.append(bytearray(piece) if each & 1 else bytes(piece))
        start = end
    return pieces


def loaded(body: bytes | memoryview, segment: Segment | None) -> Any:
    """
    Return the object that parts are of which have come. May raise anything, for unpickling runs anybody's code.
    """
    pickled, *buffers = arrived(body, segment)
    return loads(pickled, buffers=buffers)
