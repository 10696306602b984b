"""
Ctrl-C and SIGTERM, heard in the reactor.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalCatcher:
    """
    A context in which signals that would end the process are told to a function instead, in the reactor's own time.

    Enter it while the reactor runs, for the reactor puts handlers of its own in place when it starts. What was in
    place before is put back at the end.

    @param reactor: The reactor.
    @param caught: Called in the reactor with the number of each signal.
    """

    def __init__(self, reactor: IReactorFromThreads, caught: Callable[[int], object]) -> None:
        self._reactor = reactor
        self._caught = caught
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalCatcher:
        for each in SIGNALS:
            self._before[each] = signal.signal(each, self._signalled)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            # None stands for a handler that was not installed by Python, and cannot be put back by it.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._caught, number)
