"""
Other processes: hearing the first word of one, and ending one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol as TwistedProcessProtocol
from twisted.python.failure import Failure

from asynqueue.callinfo import printable
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.deferreds.delay import checkedSeconds, givenOrGlobal
from asynqueue.errors import TimeoutError
from asynqueue.processwatch import ProcessWatch, watchFor

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProcessTransport, IReactorTime

#: How long a process has, in seconds, to end by itself when told to, and the system to end it.
PATIENCE = 5.0

#: How much of what a process writes to stderr is kept, in bytes.
ERRORS_LIMIT = 4096


def killProcess(pid: int, patience: float = PATIENCE, reactor: IReactorTime | None = None) -> Deferred[bool]:
    """
    End a process: it is told to (SIGTERM), and killed (SIGKILL) when it has not ended after a while.

    A child of this process is left to be reaped by whoever started it.

    @param pid: The process ID.
    @param patience: How long it has, in seconds, to end by itself, and how long it may be there after SIGKILL.
    @param reactor: Where to wait; the global reactor unless given.
    @return: Fires C{True} when the process has ended, and C{False} if it had ended before. Fails with
        L{asynqueue.errors.TimeoutError} when it is there in spite of all, and with C{PermissionError} if it is somebody
        else's. When it is cancelled, no more signals are sent.
    @raise TypeError: The ID is no whole number.
    @raise ValueError: It is that of no process, of the first, or of this one.
    @raise NotImplementedError: The system has no such signals.
    """
    if isinstance(pid, bool) or not isinstance(pid, int):
        raise TypeError(f"pid must be a whole number, not {pid!r}")
    if pid <= 1 or pid == os.getpid():
        raise ValueError(f"pid must be that of another process, not {pid!r}")
    checkedSeconds(patience, "patience")
    if os.name != "posix":
        raise NotImplementedError("a process can be ended only where there are POSIX signals")
    clock = givenOrGlobal(reactor)
    try:
        watch = watchFor(pid, clock)
    except ProcessLookupError:
        return succeed(False)
    return Ladder(watch, clock, patience, f"process {pid}").climb()


class Ladder:
    """
    Ends a process, step by step.
    """

    def __init__(self, watch: ProcessWatch, clock: IReactorTime, patience: float, name: str) -> None:
        self._watch = watch
        self._clock = clock
        self._patience = patience
        self._name = name
        self._steps = [signal.SIGTERM, signal.SIGKILL]
        self._done: Deferred[bool] = Deferred(lambda _: self._stop())
        self._deadline: Deadline | None = None
        self._hasSent = False

    def climb(self) -> Deferred[bool]:
        """
        Begin.

        @return: As for L{killProcess}.
        """
        if self._watch.isGone():
            self._watch.stop()
            return succeed(False)
        self._watch.start(self._gone)
        self._step()
        return self._done

    def _step(self) -> None:
        if not self._steps:
            if self._watch.isGone():
                self._gone()
                return
            self._fail(TimeoutError(f"{self._name} is still there, {self._patience} seconds after SIGKILL"))
            return
        try:
            self._watch.send(self._steps.pop(0))
        except ProcessLookupError:
            self._gone()
        except OSError as error:
            self._fail(error)
        else:
            self._hasSent = True
            self._deadline = Deadline(self._clock, monotonicOf(self._clock), self._patience, self._step)

    def _gone(self) -> None:
        if not self._done.called:
            self._stop()
            self._done.callback(self._hasSent)

    def _fail(self, error: Exception) -> None:
        if not self._done.called:
            self._stop()
            self._done.errback(error)

    def _stop(self) -> None:
        self._watch.stop()
        if self._deadline is not None:
            self._deadline.stop()


class ProcessProtocol(TwistedProcessProtocol):
    """
    For C{spawnProcess}: waits for the first that a process writes to stdout.

    @ivar d: Fires with that, as bytes. Fails with C{ProcessDone} or C{ProcessTerminated} when the process ends without;
        a note tells what it has written to stderr last.
    @ivar pid: The process ID, or C{None} as long as there is no process.
    """

    def __init__(self, stopper: Callable[[int | None], object] | None = None) -> None:
        """
        @param stopper: Called with the process ID, once, when the process has ended.
        """
        self.d: Deferred[bytes] = Deferred()
        self.pid: int | None = None
        self._stopper = stopper
        self._errors = b""

    def connectionMade(self) -> None:
        """
        The process has been started.
        """
        self.pid = cast("IProcessTransport", self.transport).pid

    def outReceived(self, data: bytes) -> None:
        """
        The process has written something. But for the first, it is dropped.
        """
        if not self.d.called:
            self.d.callback(data)

    def errReceived(self, data: bytes) -> None:
        """
        The process has complained. It is kept, as far as it may be the reason why nothing else is written.
        """
        if not self.d.called:
            self._errors = (self._errors + data)[-ERRORS_LIMIT:]

    def processEnded(self, reason: Failure) -> None:
        """
        The process has ended, and all that it wrote has come.
        """
        if not self.d.called:
            if self._errors and reason.value is not None:
                text = printable(self._errors.decode("utf-8", "backslashreplace"), ERRORS_LIMIT)
                reason.value.add_note(f"stderr: {text}")
            self.d.errback(reason)
        stopper, self._stopper = self._stopper, None
        if stopper is not None:
            stopper(self.pid)
