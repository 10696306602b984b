"""
One child, as its parent sees it: from its start until the system has reported its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any
from weakref import WeakSet

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.process import frames
from asynqueue.process.frames import Splitter, record
from asynqueue.process.output import OutputLines
from asynqueue.process.page import Page, SharedFile
from asynqueue.process.parts import FRESH, Parts, Segment, loaded
from asynqueue.process.pipes import PipeReader, PipeWriter
from asynqueue.process.starter import packSettings, start
from asynqueue.protocol.records import ERROR_LIMIT
from asynqueue.rebuilt import failureFrom

#: How long, in seconds, the system may take to report the end of a child whose pipes are closed.
FAREWELL = 0.25


#: How long, in seconds, the rest of a record may take whose beginning has come.
TORN = 1.0


#: How often what it has written last is read, 64 KiB at most each time. Somebody else may go on writing.
OUTPUT_READS = 64


class Life(Enum):
    """
    How far a child has come::

        STARTING --ready--> READY --end--> ENDING --exited--> GONE
            |                 |                                ^
            +---- exited -----+--------------------------------+
    """

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    GONE = "gone"


class Death:
    """
    How a child has come to its end.

    @ivar exitCode: What it returned, or C{None}.
    @ivar signal: The number of the signal that ended it, or C{None}.
    @ivar begun: The number of the call that it had begun last.
    @ivar lastLines: The last lines that it wrote to standard error.
    @ivar wasExpected: Whether it had been told to end.
    """

    #: Whose end it was, for messages about a call.
    subject = "its child"

    def __init__(
        self,
        reason: Failure,
        begun: int = 0,
        lastLines: Sequence[str] = (),
        verdict: str = "",
        wasExpected: bool = False,
    ) -> None:
        status = reason.value
        self.exitCode: int | None = 0 if isinstance(status, ProcessDone) else getattr(status, "exitCode", None)
        self.signal: int | None = getattr(status, "signal", None)
        self.begun = begun
        self.lastLines = list(lastLines)
        self.wasExpected = wasExpected
        self._verdict = verdict

    def describe(self) -> str:
        """
        Return a text such as C{"was ended by signal 9 (SIGKILL)"}.
        """
        if self._verdict:
            return self._verdict
        if self.signal is not None:
            try:
                name = f" ({signal.Signals(self.signal).name})"
            except ValueError:
                name = ""
            hint = ", perhaps by the system for want of memory" if self.signal == signal.SIGKILL else ""
            return f"was ended by signal {self.signal}{name}{hint}"
        return f"exited with code {self.exitCode}"


class ChildProcess(ProcessProtocol):
    """
    Starts a child, talks to it and takes note of its end.

    @ivar life: How far it has come.
    @ivar pid: Its process ID, once it is started.
    @ivar onReady: Called when it is ready for calls.
    @ivar onRecords: Called with each list of records that it has sent.
    @ivar onDeath: Called once with its L{Death}.
    """

    #: What ampoule's starter hands on to its caller, and nobody needs.
    amp: Any = None
    finished: Any = None

    #: Whether large parts of calls and results travel in shared memory.
    sharesMemory = True

    def __init__(
        self,
        reactor: Any,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        output: OutputLines,
        limit: int,
    ) -> None:
        """
        @param settings: What it gets to know, beside what it needs to begin at all.
        @param environment: Its environment variables.
        @param output: Gets what it writes to standard output and standard error.
        @param limit: How long, in bytes, what it sends of a single thing may be.
        """
        self.life = Life.STARTING
        self.pid: int | None = None
        self.onReady: Callable[[], object] = int
        self.onRecords: Callable[[list[tuple[int, int, int, bytes]]], object] = len
        self.onDeath: Callable[[Death], object] = id
        self._reactor = reactor
        self._settings = settings
        self._environment = environment
        self._output = output
        self._splitter = Splitter(max(limit, ERROR_LIMIT))
        self._limit = limit
        self._packed = b""
        self._page: Page | None = None
        self._files: list[SharedFile] = []
        self._arguments: Segment | None = None
        self._results: Segment | None = None
        self._data: PipeWriter | None = None
        self._control: PipeWriter | None = None
        self._outcomes: PipeReader | None = None
        self._verdict = ""
        self._isBroken = False
        self._farewell: IDelayedCall | None = None
        self._torn: Deadline | None = None
        _forgetInForks(self)

    def start(self) -> None:
        """
        Start it.

        @raise OSError: The system cannot start it.
        """
        self._page = page = Page()
        try:
            if self.sharesMemory:
                for _ in range(2):
                    self._files.append(SharedFile())
                self._arguments, self._results = (Segment(file.descriptor, FRESH) for file in self._files)
            # It fails before anything is started where the working directory has been removed.
            self._packed = packSettings(
                {
                    **self._settings,
                    "page": page.path,
                    "files": [file.path for file in self._files],
                    "limit": self._limit,
                    "parent": os.getpid(),
                }
            )
            start(self, self._environment)
        except BaseException:
            self._page.close()
            self._closeFiles()
            raise

    # Events of the process

    def connectionMade(self) -> None:
        """
        Take over the pipes that carry data, and tell the child what it is to know.
        """
        transport: Any = self.transport
        self.pid = transport.pid
        try:
            self._takePipes(transport)
        except OSError as error:
            # There is no room for more descriptors.
            self.kill(f"could not be talked to: {error}")
            return
        assert self._data is not None
        self._data.write(self._packed)

    def _takePipes(self, transport: Any) -> None:
        # os.dup makes descriptors that no other child gets.
        self._control = PipeWriter(self._reactor, os.dup(transport.pipes[0].fileno()))
        self._data = PipeWriter(self._reactor, os.dup(transport.pipes[3].fileno()))
        self._outcomes = PipeReader(self._reactor, os.dup(transport.pipes[4].fileno()), self._received, self._cutOff)
        for number in (0, 3, 4):
            transport.closeChildFD(number)

    def childConnectionLost(self, childFD: int) -> None:
        """
        Take note that Twisted has closed its own descriptor of a pipe: it lets writes to the pipe block before it does.
        """
        for pipe in (self._control, self._data, self._outcomes):
            if pipe is not None:
                pipe.setNonBlocking()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Take what the child writes to standard output or standard error.
        """
        self._output.received(childFD, data)

    def processExited(self, reason: Failure) -> None:
        """
        Take note of the end, whoever else may still hold the child's pipes.
        """
        if self._outcomes is not None:
            # What it had sent before counts.
            self._outcomes.drain()
        self._close()
        if self._farewell is not None and self._farewell.active():
            self._farewell.cancel()
        if self._torn is not None:
            self._torn.stop()
        page, self._page = self._page, None
        begun = 0
        if page is not None:
            begun = page.begun
            page.close()
        self._closeFiles()
        wasExpected = self.life is Life.ENDING
        self.life = Life.GONE
        transport: Any = self.transport
        for number in (1, 2):
            self._drainOutput(transport, number)
            # A grandchild may hold them open.
            transport.closeChildFD(number)
        _endGroup(self.pid)
        self.onDeath(Death(reason, begun, self._output.close(), self._verdict, wasExpected))

    def _drainOutput(self, transport: Any, number: int) -> None:
        """
        Take what it has written last, which may say why it has come to its end.
        """
        reader = transport.pipes.get(number)
        if reader is None:
            return
        for _ in range(OUTPUT_READS):
            try:
                data = os.read(reader.fileno(), 1 << 16)
            except OSError:
                return
            if not data:
                return
            self._output.received(number, data)

    def _close(self) -> None:
        for pipe in (self._control, self._data, self._outcomes):
            if pipe is not None:
                pipe.close()
        self._control = self._data = self._outcomes = None

    def _closeFiles(self) -> None:
        files, self._files = self._files, []
        self._arguments = self._results = None
        for file in files:
            file.close()

    def _received(self, data: bytes) -> None:
        # Hot path, watched by `bench --only processes`.
        if self._isBroken:
            return
        try:
            records = self._splitter.feed(data)
        except ValueError as error:
            self.broke(str(error))
            return
        missing = self._splitter.missing
        if missing and self._torn is None:
            self._tornLater(missing)
        if self.life is Life.STARTING and records:
            self._started(*records.pop(0))
        self.onRecords(records)

    def _checkTorn(self, missing: int) -> None:
        """
        End a child that does not go on with a record.
        """
        self._torn = None
        now = self._splitter.missing
        if now == missing:
            self.broke("a part of a record")
        elif now:
            self._tornLater(now)

    def _tornLater(self, missing: int) -> None:
        self._torn = Deadline(self._reactor, monotonicOf(self._reactor), TORN, lambda: self._checkTorn(missing))

    def _started(self, kind: int, flags: int, number: int, body: bytes) -> None:
        """
        Take the first record.
        """
        if kind == frames.READY:
            self.life = Life.READY
            self.onReady()
        elif kind == frames.UNREADY:
            self._verdict = f"could not get ready: {failureFrom(body).getErrorMessage()}"
        else:
            self.broke(f"a record of kind {kind} before it was ready")

    def broke(self, what: str) -> None:
        """
        End a child that has broken the protocol, and listen to it no more.

        @param what: What it has sent.
        """
        self._isBroken = True
        self.kill(f"broke the protocol: it sent {what}")

    def _cutOff(self) -> None:
        """
        End a child that has closed the pipe over which it reports, unless that is since it has ended.
        """
        self._farewell = self._reactor.callLater(FAREWELL, self.kill, "closed the pipe over which it reports")

    # What it is told

    @property
    def begun(self) -> int:
        """
        The number of the call that the child has begun last.
        """
        return 0 if self._page is None else self._page.begun

    @property
    def reported(self) -> int:
        """
        The number of the call whose outcome the child has written last.
        """
        return 0 if self._page is None else self._page.reported

    @property
    def entered(self) -> int:
        """
        The number of the call whose function the child has called last.
        """
        return 0 if self._page is None else self._page.entered

    def send(self, data: bytes) -> None:
        """
        Send records.
        """
        # Hot path, watched by `bench --only processes`.
        if self._data is not None:
            self._data.write(data)

    def lay(self, parts: Parts, isFree: bool) -> list[bytes]:
        """
        Copy parts of a call to where the child takes them from.

        @param isFree: Whether it has taken all that was laid there before.
        @return: What is to be sent.
        """
        return parts.inline() if self._arguments is None else parts.laid(self._arguments, isFree)

    def taken(self, body: bytes) -> Any:
        """
        Take a result or items whose parts the child has laid somewhere. May raise anything, for unpickling runs
        anybody's code.

        @param body: That of the record.
        """
        return loaded(body, self._results)

    def tookParts(self) -> None:
        """
        Have the child know that the parts of one more record are not needed there any more.
        """
        if self._page is not None:
            self._page.tookParts()

    def control(self, kind: int, number: int, flags: int = 0) -> None:
        """
        Send a record that is for the control thread.
        """
        if self._control is not None:
            self._control.write(record(kind, number, b"", flags))

    def end(self) -> None:
        """
        Have it end when it has done what it was sent.
        """
        if self.life is Life.READY:
            self.life = Life.ENDING
            self.send(record(frames.END, 0))

    def forget(self) -> None:
        """
        Leave it alone from now on, in a copy of the process that has started it: it is not the copy's.
        """
        # Closing the pipes would take them out of the original's reactor, whose epoll descriptor the two share.
        self.life = Life.GONE
        self._control = self._data = self._outcomes = None

    def kill(self, verdict: str = "") -> None:
        """
        End it at once, with all that it has started in its session.

        @param verdict: Why, for the error of the calls that it had.
        """
        if self.life is not Life.GONE and self.pid is not None:
            self._verdict = self._verdict or verdict
            transport: Any = self.transport
            try:
                transport.signalProcess("KILL")
            except ProcessExitedAlready:
                # It will be reported.
                return


_ours: WeakSet[ChildProcess] = WeakSet()
_isRegistered = False


def _forgetInForks(child: ChildProcess) -> None:
    """
    Have a child left alone by forked copies of this process.
    """
    global _isRegistered
    _ours.add(child)
    if not _isRegistered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forgetAll)
        _isRegistered = True


def _forgetAll() -> None:
    for child in tuple(_ours):
        child.forget()


def _endGroup(pid: int | None) -> None:
    """
    End what a child has left behind in its session.
    """
    if pid is not None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            # Nothing is left, as nearly always.
            return
