"""
The signals that ask a program to end: well at the first, at once at the second.

They are counted where they arrive, in their handler, and not in the reactor, which a call may hold up. Code in C that
does not return to the interpreter holds up the handler, too.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort

#: Those signals.
SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: The unix sockets that this process listens on, by their paths, and what tells each from another one in its place.
_sockets: dict[bytes, tuple[int, int]] = {}


def listens(port: IListeningPort) -> None:
    """
    Have the unix socket of a port removed if the process ends at once. Others leave nothing behind.
    """
    host = port.getHost()
    if isinstance(host, UNIXAddress) and host.name:
        with suppress(OSError, ValueError):
            _sockets[host.name] = _identityOf(host.name)


def listensNoMore(port: IListeningPort) -> None:
    """
    Leave it alone: another process may listen there next.
    """
    host = port.getHost()
    if isinstance(host, UNIXAddress) and host.name:
        _sockets.pop(host.name, None)


def enoughOf(
    reactor: Any, signals: tuple[int, ...] = SIGNALS, endProcess: Callable[[int], object] = os._exit
) -> Deferred[None]:
    """
    Hear the signals that ask this program to end.

    @param reactor: The reactor, which must be running: when it starts, it takes signals for itself.
    @param signals: Their numbers.
    @param endProcess: Ends the process at once, for the second signal, with an exit code. It is called in the handler.
    @return: Fires when the first has come, in the reactor's own time. If it has been fired by something else before,
        the first signal is taken for the second.
    """
    enough: Deferred[None] = Deferred()

    def fire() -> None:
        if not enough.called:
            enough.callback(None)

    def hear(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(fire)

    handler = _SecondEnds(hear, lambda: bool(enough.called), endProcess)
    for each in signals:
        signal.signal(each, handler)
    return enough


def endAtSecond(signals: tuple[int, ...] = SIGNALS, endProcess: Callable[[int], object] = os._exit) -> None:
    """
    Leave the first signal to whoever hears it now, such as a running reactor, and end the process at once at the
    second. Signals that nobody hears stay as they are.

    @param signals: Their numbers.
    @param endProcess: Ends the process at once, with an exit code. It is called in the handler.
    """
    if threading.current_thread() is not threading.main_thread():
        # Handlers are changed in the main thread only.
        return
    hearers: dict[int, Callable[[int, FrameType | None], object]] = {}
    for each in signals:
        hearer = signal.getsignal(each)
        if callable(hearer) and hearer is not signal.default_int_handler and not isinstance(hearer, _SecondEnds):
            hearers[each] = hearer
    handler = _SecondEnds(lambda number, frame: hearers[number](number, frame), lambda: False, endProcess)
    for each in hearers:
        signal.signal(each, handler)


class _SecondEnds:
    """
    Hands the first signal on, and ends the process at the second.
    """

    def __init__(
        self,
        hear: Callable[[int, FrameType | None], object],
        isAsked: Callable[[], bool],
        endProcess: Callable[[int], object],
    ) -> None:
        """
        @param hear: Called with the first signal.
        @param isAsked: Tells whether the program has been asked to end by something else.
        """
        self._hear = hear
        self._isAsked = isAsked
        self._endProcess = endProcess
        self._process = os.getpid()
        self._hasHeard = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """
        Take a signal.
        """
        if os.getpid() != self._process:
            # A copy that was made by a fork has no reactor that would end it, and nothing of this is its own.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._hasHeard or self._isAsked():
            _removeSockets()
            _tell(f"asynqueue: ended at once, by a second signal, {signal.Signals(number).name}\n")
            self._endProcess(128 + number)
        else:
            self._hasHeard = True
            self._hear(number, frame)


def _identityOf(path: bytes) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _removeSockets() -> None:
    for path, identity in tuple(_sockets.items()):
        with suppress(OSError):
            if _identityOf(path) == identity:
                os.unlink(path)


def _tell(text: str) -> None:
    # Not through sys.stderr, which the code that was interrupted may be at, and never waiting for a reader.
    with suppress(OSError):
        if os.name != "posix" or select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
