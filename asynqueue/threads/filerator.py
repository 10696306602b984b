"""
A file to write to, whose chunks blocking code iterates over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from asynqueue.threads.getters import IterationGetter
from asynqueue.threads.pool import isReactorThread

#: A thread that writes waits while more chunks than this do.
MOST = 16


class Filerator(IterationGetter):
    """
    Looks like a file opened for writing, and is an iterator over what is written, one item for each C{write}.

        >>> file = Filerator()
        >>> loaded = file.deferToThreadInPool(load, file)
        >>> csv.writer(file).writerows(rows)
        >>> file.close()
        >>> await loaded

    Any thread may write. The reactor's never waits, however many chunks do; another one waits while there are more
    than 16 of them. Closed, the iteration is over with what has been written; stopped, at once.
    """

    def __init__(self, maxThreads: int | None = None, reactor: Any = None) -> None:
        """
        @param maxThreads: As for L{IterationGetter}.
        @param reactor: The reactor, unless it is the global one.
        """
        super().__init__(maxThreads, reactor)
        self._isClosed = False
        self._room = threading.Condition()

    @property
    def closed(self) -> bool:
        """
        Whether nothing can be written any more.
        """
        return self._isClosed

    def write(self, data: str | bytes) -> int:
        """
        Write a chunk.

        @return: How long it is.
        @raise ValueError: The file is closed, or has been closed or stopped while the thread was waiting; the chunk is
            not written.
        """
        size = len(data)
        with self._room:
            self._checkOpen()
            if len(self._given) > MOST and not isReactorThread():
                # That ends the wait when the reactor does.
                self._startSoon()
                self._room.wait_for(lambda: self._isClosed or len(self._given) <= MOST)
                self._checkOpen()
            self._give(data)
        return size

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        """
        Write chunks, as L{write} does.
        """
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """
        Do nothing: what is written is there at once.

        @raise ValueError: The file is closed.
        """
        self._checkOpen()

    def close(self) -> None:
        """
        Let the iteration be over after what has been written. It may be done again.
        """
        with self._room:
            if not self._isClosed:
                self._isClosed = True
                self._finish()
                self._room.notify_all()

    def __enter__(self) -> Self:
        self._checkOpen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _checkOpen(self) -> None:
        if self._isClosed:
            raise ValueError("I/O operation on closed file")

    def _taken(self) -> None:
        with self._room:
            self._room.notify()

    def _iterationEnded(self) -> None:
        with self._room:
            self._isClosed = True
            self._room.notify_all()
