"""
The entry of a call in the ledger, which is the very Deferred that the caller gets.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from asynqueue.options import DEFAULT_OPTIONS, CallOptions

if TYPE_CHECKING:
    from asynqueue.deferreds.context import Captured
    from asynqueue.dispatch import Dispatcher
    from asynqueue.scheduling.lanes import Lane
    from asynqueue.tasks import Attempt

T = TypeVar("T")


class CallDeferred(Deferred[T]):
    """
    The Deferred of one call on a queue. Being one object with the entry keeps a queued call small.

    It can be cancelled at any time: the call is then never run, or no longer waited for.

    @ivar ID: Identifies the call; grows with each.
    @ivar band: The niceness of the call, or one of the bands in L{asynqueue.scheduling.lanes}.
    @ivar lane: The lane in which the call waits, if it does.
    @ivar current: The attempt that may settle the call.
    @ivar history: One text for each attempt that has failed and is to be followed by another.
    @ivar dispatcher: Who is to settle the call; C{None} once it is settled.
    """

    __slots__ = (
        "ID",
        "args",
        "attempts",
        "band",
        "context",
        "current",
        "dispatcher",
        "func",
        "history",
        "kw",
        "lane",
        "options",
        "series",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        ID: int,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kw: dict[str, Any] | None,
        series: Hashable = None,
        band: int = 0,
        options: CallOptions = DEFAULT_OPTIONS,
        context: Captured | None = None,
    ) -> None:
        # Hot path, watched by `bench --only reactor`.
        Deferred.__init__(self)
        self.dispatcher: Dispatcher | None = dispatcher
        self.ID = ID
        self.func = func
        self.args = args
        self.kw = kw
        self.series = series
        self.band = band
        self.options = options
        self.context = context
        self.lane: Lane | None = None
        self.current: Attempt | None = None
        self.attempts = 0
        self.history: tuple[tuple[str, str], ...] = ()

    def cancel(self) -> None:
        """
        Never run the call, or stop waiting for it, and errback C{CancelledError}. Does nothing once it is settled.

        What happens to a call that is running depends on the worker, which is told. Where the callbacks have returned
        another Deferred that is being waited for, that one is cancelled, as everywhere in Twisted.
        """
        if self.dispatcher is None or self.called:
            Deferred.cancel(self)
        else:
            self.dispatcher.outcomes.cancel(self)
