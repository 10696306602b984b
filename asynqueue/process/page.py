"""
The page of memory that a child shares with its parent: which call it has begun is known there, even after its death.

And other files in memory that the two share.
"""

from __future__ import annotations

import os
import tempfile
import time
from mmap import mmap

SIZE = 4096

#: Where files are memory, on Linux.
_MEMORY = "/dev/shm"

#: How their names begin; the process ID of the parent follows.
_PREFIX = "asynqueue-"

#: How old, in seconds, a file is whose name nobody needs: it may be of a process that has its ID in another container.
AGE = 60.0


class SharedFile:
    """
    A file in memory that a child gets to know by its name.

    @ivar path: The name, which the child removes as soon as it has opened it.
    @ivar descriptor: The parent's.
    """

    def __init__(self) -> None:
        """
        @raise OSError: There is no room for another file.
        """
        self.descriptor, self.path = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_folder())

    def close(self) -> None:
        """
        Give up the memory, and the name if the child has not.
        """
        os.close(self.descriptor)
        _removeName(self.path)


class Page:
    """
    The parent's view.

    @ivar path: The name of the file, which the child removes as soon as it has opened it.
    """

    def __init__(self) -> None:
        """
        @raise OSError: There is no room for a file of 4 KiB.
        """
        file = SharedFile()
        descriptor, self.path = file.descriptor, file.path
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

    def tookParts(self) -> None:
        """
        Have the child know that one more record with parts has been taken.
        """
        self._view[3] += 1

    def close(self) -> None:
        """
        Give up the memory, and the name if the child has not.
        """
        self._view.release()
        self._map.close()
        _removeName(self.path)


def _folder() -> str:
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else tempfile.gettempdir()


def _removeName(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        # The child has come so far.
        return


def sweep() -> None:
    """
    Remove the names of files that processes of this user have left behind which were killed while they started a child.
    """
    long = time.time() - AGE
    try:
        entries = list(os.scandir(_folder()))
    except OSError:
        # It cannot be looked into.
        return
    for entry in entries:
        pid = entry.name.removeprefix(_PREFIX).partition("-")[0]
        if entry.name.startswith(_PREFIX) and pid.isdecimal():
            try:
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == os.getuid() and status.st_mtime < long and not _isThere(int(pid)):
                    os.unlink(entry.path)
            except OSError:
                # Somebody else has been faster.
                continue


def _isThere(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        # Somebody else's, or no process ID.
        return True
    return True
