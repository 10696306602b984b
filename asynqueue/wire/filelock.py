"""
A lock between processes, which ends with the process that has it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, wait: bool) -> None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None

else:
    import fcntl

    def _lock(descriptor: int, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """
    A lock on a file that is there for nothing else.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        """
        Get the lock.

        @param wait: Whether to wait, without an end, for another process that has it.
        @raise BlockingIOError: Another process has it.
        @raise OSError: The file cannot be opened, or is a symbolic link.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags, 0o600)
        try:
            _lock(self._descriptor, wait)
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """
        Let others have it.
        """
        # The file stays: whoever waits for the lock of one that is gone would have a lock of its own.
        os.close(self._descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
