"""
Files and folders that nobody else may read or write, and the refusal of those that others can.

Nothing here follows a symbolic link at the last part of a path, and files are looked at when they are open already, so
that none can be exchanged in between.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from asynqueue.errors import InsecureTransport

#: How large a file of keys may be, in bytes.
SIZE_LIMIT = 1 << 20

#: No links are followed, and on Windows no ends of lines are changed.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _ownUser() -> int | None:
    # Windows has no users by number, and no modes to look at either.
    return os.geteuid() if hasattr(os, "geteuid") else None


def _checkOwner(path: Path, status: os.stat_result, what: str) -> None:
    own = _ownUser()
    if own is not None and status.st_uid != own:
        raise InsecureTransport(
            f"{what} {path} belongs to user {status.st_uid}, and must belong to the user of this process, {own}"
        )


def checkPrivateFolder(path: Path, what: str = "the folder") -> None:
    """
    Make sure that a folder is this user's, and that nobody else can get into it.

    @param what: What an error calls it.
    @raise InsecureTransport: It is a symbolic link, belongs to another user, or others may read or write it.
    @raise FileNotFoundError: There is none.
    @raise NotADirectoryError: It is something else.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        raise InsecureTransport(f"{what} {path} is a symbolic link, and must be a folder itself")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{what} {path} is not a folder")
    _checkOwner(path, status, what)
    mode = stat.S_IMODE(status.st_mode)
    if _ownUser() is not None and mode & 0o077:
        # One that all users share, such as /tmp, is to stay as it is.
        remedy = f"chmod 700 {path}" if not mode & stat.S_ISVTX else "make one in it that has"
        raise InsecureTransport(f"{what} {path} has the mode {mode:04o}, and must have 0700: {remedy}")


def checkAbove(folder: Path, what: str) -> None:
    """
    Make sure that nobody else can put another folder in the place of one, or of one above it.

    @param what: What an error calls it: C{"the unix socket"}.
    @raise InsecureTransport: Somebody else can.
    @raise OSError: It is not there.
    """
    own = _ownUser()
    if own is None:
        return
    for above in Path(os.path.realpath(folder)).parents:
        status = os.stat(above)
        if status.st_uid not in (0, own):
            raise InsecureTransport(
                f"the folder {above}, above that of {what}, belongs to user {status.st_uid}, who could replace"
                " it; it must belong to this user or to root"
            )
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            raise InsecureTransport(
                f"the folder {above}, above that of {what}, can be written to by others, who could replace it:"
                f" chmod go-w {above}"
            )


def makePrivateFolder(path: Path, what: str = "the folder") -> None:
    """
    Make a folder that nobody else can get into, and the folders above it as the system makes them. One that is there
    already must be so.

    @param what: What an error calls it.
    @raise InsecureTransport: It is there already, and is not private.
    @raise OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    else:
        # A umask may have taken away even more.
        os.chmod(path, 0o700)
    checkPrivateFolder(path, what)


def readPrivate(path: Path, what: str = "the file") -> bytes:
    """
    Read a file that only this user may read or write.

    @param what: What an error calls it.
    @raise InsecureTransport: It is a symbolic link, belongs to another user, or others may read or write it.
    @raise ValueError: It is larger than L{SIZE_LIMIT}, or no ordinary file.
    @raise OSError: It cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _PLAIN | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        if os.path.islink(path):
            raise InsecureTransport(f"{what} {path} is a symbolic link, and must be a file itself") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{what} {path} is not an ordinary file")
        _checkOwner(path, status, what)
        mode = stat.S_IMODE(status.st_mode)
        if _ownUser() is not None and mode & 0o077:
            raise InsecureTransport(f"{what} {path} has the mode {mode:04o}, and must have 0600: chmod 600 {path}")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(SIZE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(content) > SIZE_LIMIT:
        raise ValueError(f"{what} {path} is larger than {SIZE_LIMIT} bytes")
    return content


def writePrivate(path: Path, content: bytes, replace: bool = False) -> None:
    """
    Write a file that only this user may read or write, whatever the umask is. Others see it whole or not at all.

    @param replace: Whether it may be there already.
    @raise FileExistsError: It is there already, and may not be.
    @raise OSError: It cannot be written.
    """
    if not replace and os.path.lexists(path):
        raise FileExistsError(f"{path} is there already, and is not overwritten")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600)
    try:
        with open(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(draft, path)
        else:
            # Unlike a rename, this fails if somebody else was faster.
            os.link(draft, path)
            os.unlink(draft)
    except BaseException:  # nothing half-written is left, whatever happened, and it is raised again
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
