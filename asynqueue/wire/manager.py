"""
Servers in processes of their own, on this host, and the sockets that they listen on.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import WorkerStartError
from asynqueue.wire.universe import WireWorkerUniverse
from asynqueue.workers.lifecycle import Readiness

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

#: How long, in seconds, a server may take until it listens.
START_TIME = 20.0

#: How long, in seconds, one that is to end may take for it, and then one that has been told so by a signal.
END_TIME = 5.0

#: How long, in seconds, is waited for what a process wrote that has ended, while others have its pipes.
LAST_WORDS_TIME = 1.0

#: How many lines that a server wrote last are told when it could not be started.
LINES = 20

#: What a server writes when it listens.
LISTENING = "listening on "


class State(Enum):
    """
    What a server has come to.
    """

    STARTING = auto()
    LISTENING = auto()
    #: It has been told to end.
    ENDING = auto()
    ENDED = auto()


class ServerProcess(ProcessProtocol):
    """
    A server in a process of its own.

    @ivar pid: The ID of the process.
    @ivar state: What it has come to.
    @ivar listening: Fires with this object when it listens. Cancelling it ends the server.
    """

    log = Logger()

    def __init__(self, reactor: Any, description: str, onEnded: Callable[[ServerProcess, bool], object]) -> None:
        """
        @param onEnded: Called when it has ended, with this object and whether it has done so by itself after it had
            listened.
        """
        self.pid: int | None = None
        self.state = State.STARTING
        self.listening: Deferred[ServerProcess] = Deferred(lambda _: self._tellToEnd())
        self._reactor = reactor
        self._description = description
        self._onEnded = onEnded
        self._lines: list[str] = []
        self._rest = {1: "", 2: ""}
        self._ends = Readiness()
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
            if self.state is State.STARTING and childFD == 1 and line.startswith(LISTENING):
                self.state = State.LISTENING
                self._stopTimer()
                self.listening.callback(self)
            elif line.strip():
                self._lines = [*self._lines[1 - LINES :], line]
                self.log.info("The server at {description}: {line}", description=self._description, line=line[:8192])

    def processExited(self, reason: Failure) -> None:
        """
        Wait for what it wrote last, but not for processes that it has left behind, which may have its pipes.
        """
        transport: Any = self.transport
        self._stopTimer()
        self._timer = self._reactor.callLater(LAST_WORDS_TIME, transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """
        Take note of the end.
        """
        self._stopTimer()
        before, self.state = self.state, State.ENDED
        if before is State.LISTENING:
            self.log.warn(
                "The server at {description}, process {pid}, has ended by itself: {why}{lines}",
                description=self._description,
                pid=self.pid,
                why=reason.getErrorMessage(),
                lines=self._lastLines(),
            )
        self._onEnded(self, before is State.LISTENING)
        if not self.listening.called:
            by = "was ended" if before is State.ENDING else "ended"
            self.listening.errback(
                WorkerStartError(
                    f"the server at {self._description} {by} before it listened: {reason.getErrorMessage()}"
                    f"{self._lastLines()}"
                )
            )
        self._ends.ready()

    def end(self) -> Deferred[None]:
        """
        End it: at first by a request.

        @return: Fires when it has ended.
        """
        if self.state is State.ENDED:
            return succeed(None)
        ended = self._ends.wait()
        self._tellToEnd()
        return ended

    def _tellToEnd(self) -> None:
        # Once: a second signal would end it at once.
        if self.state in (State.STARTING, State.LISTENING):
            self.state = State.ENDING
            self._stopTimer()
            self._signal("TERM")
            self._timer = self._reactor.callLater(END_TIME, self._signal, "KILL")

    def _tooSlow(self) -> None:
        self._lines.append(f"[it did not listen within {START_TIME:g} s]")
        self._signal("KILL")

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _lastLines(self) -> str:
        return "".join(f"\n  {line}" for line in self._lines)

    def _signal(self, name: str) -> None:
        transport: Any = self.transport
        try:
            transport.signalProcess(name)
        except ProcessExitedAlready:
            # It will be reported.
            return


class ServerManager:
    """
    Starts servers of a universe in processes of their own, which end with it. Of one that ends by itself, a warning is
    logged.
    """

    def __init__(self, wwuFQN: str | None = None, reactor: Any = None, insecure_root: bool = False) -> None:
        """
        @param wwuFQN: The full name of the universe's class, or C{None} for servers of exposed functions alone.
        @param reactor: The reactor; by default the global one.
        @param insecure_root: Whether the servers may be processes of root.
        @raise TypeError: C{wwuFQN} is no name.
        """
        _checkName(wwuFQN)
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._wwuFQN = wwuFQN
        self._insecureRoot = insecure_root
        self._numbers = count(1)
        self._folder: str | None = None
        self._servers: dict[int, ServerProcess] = {}
        # Those that have ended by themselves, and whose ends nobody has waited for.
        self._gone: set[int] = set()
        self._isEnding = False
        self._ends = Readiness()

    def newSocket(self) -> str:
        """
        Return a description of a unix socket that is not there yet, in a folder that nobody else gets at.
        """
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="asynqueue-")
        with suppress(FileExistsError):
            # It has been removed if this manager has been shut down.
            os.mkdir(self._folder, 0o700)
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
            L{WorkerStartError}, with what it wrote last, if it ends before or cannot be started, and while this
            manager is being shut down. Cancelling it ends the server.
        @raise ValueError: The niceness is out of its range.
        @raise TypeError: The description is no text.
        """
        if not isinstance(description, str):
            raise TypeError(
                f"description must be text, such as 'unix:/run/user/1000/thumbs/socket', not {description!r}"
            )
        if isinstance(niceness, bool) or not isinstance(niceness, int) or not 0 <= niceness <= 20:
            raise ValueError(f"niceness must be a whole number from 0 to 20, not {niceness!r}")
        if self._isEnding:
            return fail(self._cannot(description, "this manager is being shut down"))
        if not sys.executable:
            return fail(self._cannot(description, "Python does not know where its interpreter is (sys.executable)"))
        command = self._command(description, niceness, threads, processes)
        server = ServerProcess(self._reactor, description, self._hasEnded)
        try:
            path = os.pathsep.join(each for each in [os.getcwd(), *sys.path] if each)
            self._reactor.spawnProcess(
                server, command[0], command, {**os.environ, "PYTHONPATH": path}, childFDs={0: "w", 1: "r", 2: "r"}
            )
        except OSError as error:
            return fail(self._cannot(description, f"{command[0]}: {error}"))
        assert server.pid is not None
        self._servers[server.pid] = server
        self._gone.discard(server.pid)
        if stdio:
            return server.listening
        return server.listening.addCallback(lambda _: server.pid)

    def _command(self, description: str, niceness: int, threads: int, processes: int) -> list[str]:
        command = [sys.executable, "-m", "asynqueue.wire", "--attached"]
        command += [f"--threads={threads}", f"--processes={processes}"]
        if self._insecureRoot:
            command.append("--insecure-root")
        command += [description, *([] if self._wwuFQN is None else [self._wwuFQN])]
        return ["/usr/bin/env", "nice", "-n", str(niceness), *command] if niceness else command

    @staticmethod
    def _cannot(description: str, why: str) -> WorkerStartError:
        return WorkerStartError(f"the server at {description} cannot be started: {why}")

    def _hasEnded(self, server: ServerProcess, isByItself: bool) -> None:
        assert server.pid is not None
        del self._servers[server.pid]
        if isByItself:
            self._gone.add(server.pid)

    def done(self, pid: int | None = None) -> Deferred[Any]:
        """
        End a server, or all.

        @param pid: The process ID of one.
        @return: Fires when it has ended, or they have; at once for one that has ended by itself.
        @raise ValueError: There is no server of that process ID, or it has been ended already.
        """
        if pid is None:
            self._gone.clear()
            return gatherResults([server.end() for server in self._servers.values()]).addCallback(lambda _: None)
        if pid in self._servers:
            return self._servers[pid].end()
        if pid in self._gone:
            self._gone.remove(pid)
            return succeed(None)
        raise ValueError(f"there is no server with the process ID {pid!r}")

    def shutdown(self) -> Deferred[Any]:
        """
        End all servers, and remove the folder of the sockets. Afterwards the manager can be used again.

        @return: Fires when that is done, however often it has been asked for meanwhile.
        """
        ended = self._ends.wait()
        if not self._isEnding:
            self._isEnding = True
            self.done().addCallback(self._removeFolder)
        return ended

    def _removeFolder(self, _result: None) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._isEnding = False
        self._ends.ready()


def _checkName(wwuFQN: object) -> None:
    if wwuFQN is None or isinstance(wwuFQN, str):
        return
    universe = wwuFQN if isinstance(wwuFQN, type) else type(wwuFQN)
    example = "planets.Planets"
    if issubclass(universe, WireWorkerUniverse):
        example = f"{universe.__module__}.{universe.__qualname__}"
    raise TypeError(
        f"wwuFQN must be the full name of a universe's class, by which another process can import it, such as"
        f" {example!r}, not {wwuFQN!r}"
    )
