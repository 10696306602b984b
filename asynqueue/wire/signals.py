"""
The signals that ask a program to end, heard in the reactor.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred

#: Those signals.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def enoughOf(
    reactor: Any, signals: tuple[int, ...] = SIGNALS, endProcess: Callable[[int], object] = os._exit
) -> Deferred[None]:
    """
    Hear the signals that ask this program to end.

    @param reactor: The reactor, which must be running: when it starts, it takes signals for itself.
    @param signals: Their numbers.
    @param endProcess: Ends the process at once, for the second signal, with an exit code.
    @return: Fires when the first has come, in the reactor's own time.
    """
    enough: Deferred[None] = Deferred()

    def heard(number: int) -> None:
        if not enough.called:
            enough.callback(None)
            return
        sys.stderr.write("asynqueue: ended at once\n")
        sys.stderr.flush()
        endProcess(128 + number)

    def tell(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(heard, number)

    for each in signals:
        signal.signal(each, tell)
    return enough
