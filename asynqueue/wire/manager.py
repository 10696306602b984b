"""
Servers in processes of their own, on this host, and the sockets that they listen on.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import WorkerStartError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

#: How long, in seconds, a server may take until it listens.
START_TIME = 20.0

#: How long, in seconds, one that is to end may take for it, and then one that has been told so by a signal.
END_TIME = 5.0

#: How many lines that a server wrote last are told when it could not be started.
LINES = 20

#: What a server writes when it listens.
LISTENING = "listening on "


class ServerProcess(ProcessProtocol):
    """
    A server in a process of its own.

    @ivar pid: The ID of the process.
    @ivar listening: Fires with this object when it listens.
    """

    log = Logger()

    def __init__(self, reactor: Any, description: str) -> None:
        self.pid: int | None = None
        self.listening: Deferred[ServerProcess] = Deferred()
        self._reactor = reactor
        self._description = description
        self._lines: list[str] = []
        self._rest = {1: "", 2: ""}
        self._isListening = False
        self._hasEnded = False
        self._ended: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        Take note of the process.
        """
        transport: Any = self.transport
        self.pid = transport.pid
        self._timer = self._reactor.callLater(START_TIME, self._tooSlow)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Take lines, and wait for the one that tells that it listens.
        """
        *lines, self._rest[childFD] = (self._rest[childFD] + data.decode("utf-8", "replace")).split("\n")
        self._rest[childFD] = self._rest[childFD][-8192:]
        for line in lines:
            if not self._isListening and childFD == 1 and line.startswith(LISTENING):
                self._isListening = True
                self._stopTimer()
                self.listening.callback(self)
            elif line.strip():
                self._lines = [*self._lines[1 - LINES :], line]
                self.log.info("The server at {description}: {line}", description=self._description, line=line[:8192])

    def processEnded(self, reason: Failure) -> None:
        """
        Take note of the end.
        """
        self._hasEnded = True
        self._stopTimer()
        if not self._isListening:
            self._isListening = True
            lines = "".join(f"\n  {line}" for line in self._lines)
            self.listening.errback(
                WorkerStartError(
                    f"the server at {self._description} ended before it listened: {reason.getErrorMessage()}{lines}"
                )
            )
        ended, self._ended = self._ended, []
        for each in ended:
            each.callback(None)

    def _tooSlow(self) -> None:
        self._timer = None
        self._lines.append(f"[it did not listen within {START_TIME:g} s]")
        self._signal("KILL")

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def end(self) -> Deferred[None]:
        """
        End it: at first by a request.

        @return: Fires when it has ended.
        """
        ended: Deferred[None] = Deferred()
        if self._hasEnded:
            ended.callback(None)
            return ended
        self._ended.append(ended)
        if self._timer is None or self._isListening is False:
            self._stopTimer()
            self._signal("TERM")
            self._timer = self._reactor.callLater(END_TIME, self._signal, "KILL")
        return ended

    def _signal(self, name: str) -> None:
        transport: Any = self.transport
        try:
            transport.signalProcess(name)
        except ProcessExitedAlready:
            # It will be reported.
            return


class ServerManager:
    """
    Starts servers of a universe in processes of their own, which end with it.
    """

    def __init__(self, wwuFQN: str | None = None, reactor: Any = None, insecure_root: bool = False) -> None:
        """
        @param wwuFQN: The full name of the universe's class, or C{None} for servers of exposed functions alone.
        @param reactor: The reactor; by default the global one.
        @param insecure_root: Whether the servers may be processes of root.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._wwuFQN = wwuFQN
        self._insecureRoot = insecure_root
        self._numbers = count(1)
        self._folder: str | None = None
        self._servers: dict[int, ServerProcess] = {}

    def newSocket(self) -> str:
        """
        Return a description of a unix socket that is not there yet, in a folder that nobody else gets at.
        """
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="asynqueue-")
        return f"unix:{self._folder}/{next(self._numbers)}"

    def spawn(
        self, description: str, stdio: bool = False, niceness: int = 0, *, threads: int = 0, processes: int = 0
    ) -> Deferred[Any]:
        """
        Start a server.

        @param description: Where it is to listen; see L{asynqueue.wire.serverEndpoint}.
        @param stdio: Whether to return the server itself instead of its process ID.
        @param niceness: That of its process, from 0 to 20.
        @param threads: How many threads run its calls.
        @param processes: How many child processes do.
        @return: Fires with the process ID, or an object that has it as C{pid}, when the server listens. Errbacks
            L{WorkerStartError}, with what it wrote last, if it ends before.
        @raise ValueError: The niceness is out of its range.
        """
        if isinstance(niceness, bool) or not isinstance(niceness, int) or not 0 <= niceness <= 20:
            raise ValueError(f"niceness must be a whole number from 0 to 20, not {niceness!r}")
        command = [sys.executable, "-m", "asynqueue.wire", "--attached"]
        command += [f"--threads={threads}", f"--processes={processes}"]
        if self._insecureRoot:
            command.append("--insecure-root")
        command += [description, *([] if self._wwuFQN is None else [self._wwuFQN])]
        if niceness:
            command = ["/usr/bin/env", "nice", "-n", str(niceness), *command]
        server = ServerProcess(self._reactor, description)
        path = os.pathsep.join(each for each in [os.getcwd(), *sys.path] if each)
        self._reactor.spawnProcess(
            server, command[0], command, {**os.environ, "PYTHONPATH": path}, childFDs={0: "w", 1: "r", 2: "r"}
        )
        assert server.pid is not None
        self._servers[server.pid] = server
        server.listening.addErrback(self._forget, server)
        if stdio:
            return server.listening
        return server.listening.addCallback(lambda _: server.pid)

    def _forget(self, failure: Failure, server: ServerProcess) -> Failure:
        if server.pid is not None:
            self._servers.pop(server.pid, None)
        return failure

    def done(self, pid: int | None = None) -> Deferred[Any]:
        """
        End a server, or all.

        @param pid: The process ID of one.
        @return: Fires when it has ended, or they have.
        @raise ValueError: There is no server of that process ID.
        """
        if pid is None:
            servers, self._servers = list(self._servers.values()), {}
        elif pid in self._servers:
            servers = [self._servers.pop(pid)]
        else:
            raise ValueError(f"there is no server with the process ID {pid!r}")
        return gatherResults([server.end() for server in servers]).addCallback(lambda _: None)

    def shutdown(self) -> Deferred[Any]:
        """
        End all servers, and remove the folder of the sockets.

        @return: Fires when that is done.
        """
        return self.done().addBoth(self._removeFolder)

    def _removeFolder(self, result: Any) -> Any:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return result
