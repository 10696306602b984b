"""
The parent's ends of the pipes to a child: read in large pieces, and written to at once as far as there is room.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: How much, in bytes, is read at once. More than this is not to be had from a pipe, and costs clearing it.
READ = 1 << 16


class PipeEnd:
    """
    One end of a pipe, which never waits.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        """
        @param descriptor: Is closed with this object.
        """
        self._reactor = reactor
        self._descriptor = descriptor
        self.setNonBlocking()

    def fileno(self) -> int:
        """
        Return the descriptor, or -1 when it is closed.
        """
        return self._descriptor

    def setNonBlocking(self) -> None:
        """
        Never wait in reading or writing, whatever others have done to the pipe.
        """
        if self._descriptor >= 0:
            os.set_blocking(self._descriptor, False)

    def logPrefix(self) -> str:
        """
        Return what the log calls this.
        """
        return "asynqueue"

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


@implementer(IReadDescriptor)
class PipeReader(PipeEnd):
    """
    Reads what comes.
    """

    def __init__(
        self, reactor: Any, descriptor: int, received: Callable[[bytes], object], lost: Callable[[], object]
    ) -> None:
        """
        @param descriptor: Is closed with this object.
        @param received: Called with what has come.
        @param lost: Called once when there is no more.
        """
        super().__init__(reactor, descriptor)
        self._received = received
        self._lost = lost
        reactor.addReader(self)

    def doRead(self) -> None:
        """
        Take what is there.
        """
        # Hot path, watched by `bench --only processes`.
        try:
            data = os.read(self._descriptor, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self.close()
            self._lost()

    def drain(self) -> None:
        """
        Take all that has come, whether or not the reactor has noticed.
        """
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, READ)
            except OSError:
                return
            if not data:
                return
            self._received(data)

    def connectionLost(self, reason: Failure) -> None:
        """
        Take note that the reactor lets go of this: the other end is closed, or what was read has led to an exception.
        """
        if self._descriptor >= 0:
            self.close()
            self._lost()

    def close(self) -> None:
        """
        Read no more.
        """
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            self._close()


@implementer(IWriteDescriptor)
class PipeWriter(PipeEnd):
    """
    Writes at once, and later what there was no room for.

    @ivar pending: How many bytes are still to be written.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        """
        @param descriptor: Is closed with this object.
        """
        super().__init__(reactor, descriptor)
        self._parts: deque[memoryview | bytes] = deque()
        self.pending = 0

    def write(self, data: bytes) -> None:
        """
        Write some bytes, after those before them. When the other end is gone, they go nowhere.
        """
        # Hot path, watched by `bench --only processes`.
        if self._descriptor < 0:
            return
        if not self._parts:
            try:
                written = os.write(self._descriptor, data)
            except BlockingIOError:
                written = 0
            except OSError:
                self.close()
                return
            if written == len(data):
                return
            self._reactor.addWriter(self)
            rest: memoryview | bytes = memoryview(data)[written:]
        else:
            rest = data
        self._parts.append(rest)
        self.pending += len(rest)

    def doWrite(self) -> None:
        """
        Write what there is room for.
        """
        try:
            while self._parts:
                part = self._parts[0]
                written = os.write(self._descriptor, part)
                self.pending -= written
                if written < len(part):
                    self._parts[0] = memoryview(part)[written:]
                    return
                self._parts.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        """
        Take note that the reactor lets go of this.
        """
        self.close()

    def close(self) -> None:
        """
        Write no more.
        """
        if self._descriptor >= 0:
            self._reactor.removeWriter(self)
            self._close()
            self._parts.clear()
            self.pending = 0
