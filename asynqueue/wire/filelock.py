"""
A lock between processes, which ends with the process that has it.
"""

from __future__ import annotations

import os
from pathlib import Path


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
        # Not on Windows, where this module can be imported all the same.
        import fcntl

        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
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
