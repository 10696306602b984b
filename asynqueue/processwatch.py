"""
What stands for another process, knows whether it has ended, and sends it signals.

A process that has the ID of one that is gone is never mistaken for it where the system has descriptors for processes,
as Linux has: from the first moment on, the descriptor stands for the process, and tells the reactor of its end.
Elsewhere, the system is asked for it some times a second.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two questions whether a process is gone, where nothing else tells.
INTERVAL = 0.05


class ProcessWatch(Protocol):
    """
    What stands for a process.
    """

    def isGone(self) -> bool:
        """
        Tell whether it has ended, reaped or not.
        """

    def send(self, number: int) -> None:
        """
        Send it a signal. Raises C{OSError} if that cannot be, C{ProcessLookupError} if it is gone.
        """

    def start(self, gone: Callable[[], object]) -> None:
        """
        Call a function once, when it has ended.
        """

    def stop(self) -> None:
        """
        Be done with it. Always called.
        """


def watchFor(pid: int, clock: Any) -> ProcessWatch:
    """
    Return what stands for a process, as exactly as it can be had.

    @param clock: The source of timers; a reactor that watches descriptors is told of the end.
    @raise ProcessLookupError: There is none.
    """
    watchesDescriptors: bool = IReactorFDSet.providedBy(clock)
    if watchesDescriptors and hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        try:
            return DescriptorWatch(os.pidfd_open(pid), clock)
        except ProcessLookupError:
            raise
        except OSError:
            # An old kernel, one that does not let us, or no descriptor is left.
            return AskingWatch(pid, clock)
    return AskingWatch(pid, clock)


@implementer(IReadDescriptor)
class DescriptorWatch:
    """
    A process by its descriptor, which can be read when the process has ended.
    """

    def __init__(self, descriptor: int, reactor: IReactorFDSet) -> None:
        self._descriptor = descriptor
        self._reactor = reactor
        self._onGone: Callable[[], object] | None = None

    def isGone(self) -> bool:
        """
        Tell whether it has ended.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, number: int) -> None:
        """
        Send it a signal.
        """
        signal.pidfd_send_signal(self._descriptor, number)

    def start(self, gone: Callable[[], object]) -> None:
        """
        Wait for it in the reactor.
        """
        self._onGone = gone
        self._reactor.addReader(self)

    def stop(self) -> None:
        """
        Close the descriptor.
        """
        if self._descriptor < 0:
            return
        if self._onGone is not None:
            self._onGone = None
            self._reactor.removeReader(self)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def fileno(self) -> int:
        """
        Return the descriptor.
        """
        return self._descriptor

    def doRead(self) -> None:
        """
        The process has ended.
        """
        if self._onGone is not None:
            self._onGone()

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor has ended, and nobody waits any more.
        """
        self.stop()

    def logPrefix(self) -> str:
        """
        Return what the reactor's log calls it.
        """
        return type(self).__name__


class AskingWatch:
    """
    A process by its ID.
    """

    def __init__(self, pid: int, clock: IReactorTime) -> None:
        self._pid = pid
        self._clock = clock
        self._onGone: Callable[[], object] | None = None
        self._next: IDelayedCall | None = None

    def isGone(self) -> bool:
        """
        Tell whether it has ended.
        """
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        if not hasattr(os, "waitid"):
            return False
        try:
            # It may be a child of ours that nobody has reaped, which is left to whoever will.
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False

    def send(self, number: int) -> None:
        """
        Send it a signal.
        """
        os.kill(self._pid, number)

    def start(self, gone: Callable[[], object]) -> None:
        """
        Ask now and then.
        """
        self._onGone = gone
        self._next = self._clock.callLater(INTERVAL, self._ask)

    def stop(self) -> None:
        """
        Ask no more.
        """
        self._onGone = None
        waiting, self._next = self._next, None
        if waiting is not None:
            waiting.cancel()

    def _ask(self) -> None:
        self._next = None
        if self._onGone is None:
            return
        if self.isGone():
            self._onGone()
        else:
            self._next = self._clock.callLater(INTERVAL, self._ask)
