"""
Notes of the insecure switches that servers are running with, for C{asynqueue doctor}.

A server that listens by a switch has a file, of mode 0600 in a folder of mode 0700, as long as it listens. It holds a
lock on it, which ends with its process, so that what a process left behind that is no more is known for that. Where no
such file can be had, only the log has what switches are in use.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.logger import Logger

from asynqueue.callinfo import printable
from asynqueue.errors import InsecureTransport
from asynqueue.wire.filelock import FileLock
from asynqueue.wire.keystore import defaultFolder
from asynqueue.wire.privatefiles import checkPrivateFolder, makePrivateFolder, readPrivate

#: The folder of the notes.
FOLDER = "running"

#: How much of a description is noted, in characters.
DESCRIPTION_LIMIT = 1024

_SUFFIX = ".note"

#: How many notes of a folder are read.
_NOTES_MOST = 1000


@frozen
class Admission:
    """
    What a server that is running was permitted.

    @ivar process: The number of its process.
    @ivar description: Where it listens.
    @ivar switches: The names of the switches.
    """

    process: int
    description: str
    switches: tuple[str, ...]


def noteFolders() -> Iterator[Path]:
    """
    Iterate over where notes may be, the best place first.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        yield Path(runtime) / "asynqueue" / FOLDER
    with suppress(RuntimeError):  # there is no home
        yield defaultFolder().with_name(FOLDER)


class AdmissionNote:
    """
    The note of one server.
    """

    log = Logger()

    def __init__(self, description: str, switches: Iterable[str]) -> None:
        self._lines = [str(os.getpid()), *switches, printable(description, DESCRIPTION_LIMIT)]
        self._path: Path | None = None
        self._lock: FileLock | None = None

    def write(self) -> None:
        """
        Write it, unless it is there already.
        """
        if self._lock is not None:
            return
        problem: Exception | None = None
        for folder in noteFolders():
            path = folder / f"{os.getpid()}-{secrets.token_hex(8)}{_SUFFIX}"
            try:
                if not os.path.lexists(folder.parent):
                    # There may be sockets in it, later.
                    makePrivateFolder(folder.parent)
                makePrivateFolder(folder, "the folder of notes,")
                _removeStale(folder)
                self._lock, self._path = FileLock(path), path
                path.write_text("\n".join(self._lines), "utf-8")
            except (InsecureTransport, OSError) as error:
                problem = error
                self.remove()
            else:
                return
        self.log.info("there is no note for `asynqueue doctor` of this server: {problem}", problem=problem)

    def remove(self) -> None:
        """
        Remove it, if it is there.
        """
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)
        if self._lock is not None:
            self._lock.release()
        self._path = self._lock = None


def admissionsNoted() -> list[Admission]:
    """
    Return what servers of this user that are running now have noted.
    """
    found = []
    for folder in noteFolders():
        for path in _notesIn(folder):
            with suppress(InsecureTransport, OSError, ValueError):
                if not _isStale(path):
                    process, *switches, description = readPrivate(path).decode("utf-8", "replace").split("\n")
                    found.append(Admission(int(process), description, tuple(switches)))
    return found


def _notesIn(folder: Path) -> list[Path]:
    try:
        checkPrivateFolder(folder)
        return sorted(folder.glob(f"*{_SUFFIX}"))[:_NOTES_MOST]
    except (InsecureTransport, OSError):
        return []


def _isStale(path: Path) -> bool:
    """
    Tell whether nobody holds the lock on a note.
    """
    try:
        FileLock(path).release()
    except BlockingIOError:
        return False
    return True


def _removeStale(folder: Path) -> None:
    for path in _notesIn(folder):
        # One that is being written at this moment is not locked yet, but its process is there.
        with suppress(OSError, ValueError):
            if not _isRunning(int(path.name.partition("-")[0])) and _isStale(path):
                os.unlink(path)


def _isRunning(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
