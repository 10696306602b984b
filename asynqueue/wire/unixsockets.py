"""
Unix sockets for the processes of one user: mode 0600, in a folder of mode 0700.

A socket without a name in the file system, which any user of the host may connect to, is refused. A socket that a
process left behind that is no more is removed: whoever listens holds a lock, which ends with its process.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from asynqueue.errors import InsecureTransport
from asynqueue.wire.filelock import FileLock
from asynqueue.wire.privatefiles import checkAbove, checkPrivateFolder, makePrivateFolder

#: How long the path of a socket may be, in bytes. Systems have 104 or 108, with a zero at the end.
PATH_LIMIT = 100

#: The mode of a socket.
MODE = 0o600


def checkedPath(path: str) -> Path:
    """
    Return the path of a socket, from the root, and with no symbolic link above the folder that it is in. It is to be
    asked for each time that a socket is to be used, and this very path to be looked at and used: a link may point
    elsewhere any time, if somebody else made it.

    @raise InsecureTransport: It is none in the file system, or is too long.
    """
    if not path or path.startswith("@") or "\0" in path:
        raise InsecureTransport(
            f"unix: needs the path of a socket in the file system, not {path!r}: any user of this host could connect to"
            " one that is not there"
        )
    absolute = Path(os.path.abspath(path))
    folder = absolute.parent
    # Its folder must be none itself, which is looked at when it is there.
    real = Path(os.path.realpath(folder.parent)) / folder.name / absolute.name
    if len(os.fsencode(real)) > PATH_LIMIT:
        raise InsecureTransport(
            f"the path of the unix socket {real} has {len(os.fsencode(real))} bytes, and may have {PATH_LIMIT}"
        )
    return real


def checkFolders(folder: Path) -> None:
    """
    Make sure that nobody else can get into a folder, or put another one in its place.

    @raise InsecureTransport: Somebody else can.
    @raise OSError: It is not there.
    """
    checkPrivateFolder(folder, "the folder of the unix socket,")
    checkAbove(folder, "the unix socket")


def checkSocket(path: Path) -> None:
    """
    Make sure that what a client is about to connect to is a socket of this user's.

    @raise InsecureTransport: It is something else, or somebody else's.
    @raise FileNotFoundError: There is nothing.
    """
    checkFolders(path.parent)
    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode):
        raise InsecureTransport(f"{path} is not a unix socket")
    if status.st_uid != os.geteuid():
        raise InsecureTransport(
            f"the unix socket {path} belongs to user {status.st_uid}, and must belong to that of this process"
        )


def _isAnswered(path: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        return probe.connect_ex(os.fspath(path)) not in (errno.ECONNREFUSED, errno.ENOENT)
    finally:
        probe.close()


def _removeStale(path: Path) -> None:
    """
    Remove a socket that nobody listens on.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise InsecureTransport(f"{path} is there already, and is not a unix socket; it is not replaced")
    if status.st_uid != os.geteuid():
        raise InsecureTransport(f"the unix socket {path} belongs to user {status.st_uid}; it is not replaced")
    if _isAnswered(path):
        raise CannotListenError(None, os.fspath(path), OSError(errno.EADDRINUSE, "another process listens"))
    os.unlink(path)


@implementer(IListeningPort)
class PrivateUNIXPort:
    """
    A port that listens on a unix socket, with the lock for it.
    """

    def __init__(self, port: Any, path: Path, lock: FileLock) -> None:
        self._port = port
        self._path = path
        self._lock: FileLock | None = lock

    def startListening(self) -> None:
        """
        Do nothing: it listens from the start.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Stop listening, and remove the socket.

        @return: Fires when that is done.
        """
        if self._lock is not None:
            # Twisted's port would not close if there was nothing to remove.
            with suppress(FileExistsError, FileNotFoundError):
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE))
        stopped: Deferred[Any] = maybeDeferred(self._port.stopListening)
        return stopped.addBoth(self._stopped)

    def getHost(self) -> IAddress:
        """
        Return the address.
        """
        host: IAddress = self._port.getHost()
        return host

    def _stopped(self, result: Any) -> Any:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        return result


@implementer(IStreamServerEndpoint)
class PrivateUNIXServerEndpoint:
    """
    Listens on a unix socket that only processes of this user can connect to.
    """

    def __init__(self, reactor: Any, path: str, backlog: int) -> None:
        """
        @param reactor: Provides C{IReactorUNIX}.
        @param path: Where the socket shall be. Its folder is made if it is not there.
        @raise InsecureTransport: It cannot be there.
        """
        self._reactor = reactor
        # What it is relative to may change.
        checkedPath(path)
        self._given = os.path.abspath(path)
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Begin to listen.

        @return: Fires with a port. Errbacks L{InsecureTransport} if somebody else could get at the socket, and
            C{CannotListenError} if somebody listens there already.
        """
        return maybeDeferred(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        path = checkedPath(self._given)
        if not os.path.lexists(path.parent):
            makePrivateFolder(path.parent, "the folder of the unix socket,")
        checkFolders(path.parent)
        try:
            lock = FileLock(path.with_name(f"{path.name}.flock"))
        except BlockingIOError:
            raise CannotListenError(
                None, os.fspath(path), OSError(errno.EADDRINUSE, "another process listens")
            ) from None
        try:
            _removeStale(path)
            port = self._reactor.listenUNIX(os.fspath(path), factory, self._backlog, MODE, wantPID=False)
        except BaseException:  # whatever it was, it is raised again
            lock.release()
            raise
        return PrivateUNIXPort(port, path, lock)
