"""
What workers of all kinds share in coming and going.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Readiness:
    """
    Deferreds for all who wait until a worker is ready.
    """

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """
        @return: Fires with the next L{ready}.
        """
        waiter: Deferred[None] = Deferred(self.waiters.remove)
        self.waiters.append(waiter)
        return waiter

    def ready(self) -> None:
        """
        Let all who wait now go on.
        """
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.callback(None)
