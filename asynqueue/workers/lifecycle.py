"""
What workers of all kinds share in coming and going.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.options import checkedSeries


def checkedSeriesList(series: Sequence[Hashable]) -> list[Hashable]:
    """
    Return a list of the series that a worker is to be qualified for.

    @raise TypeError: C{series} is a single text, or has something in it that is not hashable.
    """
    if isinstance(series, str | bytes):
        raise TypeError(f"series must be a list of series, such as [{series!r}], not {series!r}")
    return [checkedSeries(each) for each in series]


def checkUnattached(worker: object, attendant: object, newcomer: object) -> None:
    """
    @raise ValueError: A worker that has an attendant is to get another one.
    """
    if attendant is not None and newcomer is not None:
        raise ValueError(f"{worker!r} is attached to a queue, and has to be detached before it is attached to another")


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

    def fail(self, failure: Failure) -> None:
        """
        Let all who wait now know that it has come to nothing.
        """
        for waiter in tuple(self.waiters):
            if waiter in self.waiters:
                self.waiters.remove(waiter)
                waiter.errback(failure)

    def ready(self) -> None:
        """
        Let all who wait now go on.
        """
        for waiter in tuple(self.waiters):
            # One of them may cancel another one.
            if waiter in self.waiters:
                self.waiters.remove(waiter)
                waiter.callback(None)
