"""
Whether the peer of a connection is still there: it is asked from time to time, and given up if it stays silent.

It is asked also while it is being heard: what it hears from this end tells it that this end is there, and on a slow
connection the answers to its own questions come late, behind everything that it has sent.

Silence is measured on a monotonic clock. The reactor's timers are not: when the wall clock steps ahead, it is looked
and asked early, which does no harm; when it steps back, a look that is due before long is late by the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asynqueue.protocol import commands

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.wire.hardened import HardenedAMP

#: How often, in seconds, a peer is asked whether it is there.
BEAT = 5.0

#: After so many seconds of silence a connection is given up.
DEAD = 15.0


class Heartbeat:
    """
    Watches a connection.
    """

    def __init__(self, protocol: HardenedAMP) -> None:
        """
        @param protocol: Knows when something was heard last.
        """
        self._protocol = protocol
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """
        Begin to watch.
        """
        self._timer = self._protocol.clock.callLater(BEAT, self._look)

    def _look(self) -> None:
        self._timer = None
        protocol = self._protocol
        silence = protocol.monotonic() - protocol.heard
        if silence >= DEAD:
            protocol.abort(f"was silent for {silence:.0f} s")
            return
        protocol.ask(commands.Ping)
        self._timer = protocol.clock.callLater(max(0.1, min(BEAT, DEAD - silence)), self._look)

    def stop(self) -> None:
        """
        Watch no more.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
