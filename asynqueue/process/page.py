"""
The page of memory that a child shares with its parent: which call it has begun is known there, even after its death.
"""

from __future__ import annotations

import os
import tempfile
from mmap import mmap

SIZE = 4096

#: Where files are memory, on Linux.
_MEMORY = "/dev/shm"


class Page:
    """
    The parent's view.

    @ivar path: The name of the file, which the child removes as soon as it has opened it.
    """

    def __init__(self) -> None:
        """
        @raise OSError: There is no room for a file of 4 KiB.
        """
        folder = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
        descriptor, self.path = tempfile.mkstemp(prefix=f"asynqueue-{os.getpid()}-", dir=folder)
        try:
            os.truncate(descriptor, SIZE)
            # Writing makes sure that there is room, which a hole in a file is not.
            os.pwrite(descriptor, bytes(SIZE), 0)
            self._map = mmap(descriptor, SIZE)
        except BaseException:
            os.unlink(self.path)
            raise
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map).cast("Q")

    @property
    def begun(self) -> int:
        """
        The number of the call that the child has begun last.
        """
        return self._view[0]

    @property
    def reported(self) -> int:
        """
        The number of the call whose outcome the child has written last.
        """
        return self._view[1]

    @property
    def entered(self) -> int:
        """
        The number of the call whose function the child has called last: what it is called with has been unpickled.
        """
        return self._view[2]

    def close(self) -> None:
        """
        Give up the memory, and the name if the child has not.
        """
        self._view.release()
        self._map.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            # The child has come so far.
            return
