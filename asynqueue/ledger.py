"""
The ledger: every call that a queue has accepted, until its Deferred has fired, and the one gate by which it leaves.

States of an entry::

    queued ----> running ----> settled          Only the entry's current attempt can move it on. An outcome of any
      ^  |        |   |           ^             other attempt is dropped and counted.
      |  |        |   +-> settling|             Settling: the outcome is a Deferred of the value.
      |  |        |         | |   |
      |  +-cancel-)---------)-+---+
      +---re-run--+---------+
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from asynqueue.collector import Collector
from asynqueue.load import LoadInfoProducer
from asynqueue.scheduling.lanes import Lane
from asynqueue.states import CallState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime

    from asynqueue.calls import CallDeferred

#: How long, in seconds, work on a backlog may hold the reactor before it lets others have a turn.
TURN = 0.02


class Ledger:
    """
    All calls that are not settled, and the count of those that are.

    @ivar entries: The calls, by ID, in the order of their submission.
    @ivar load: Tells consumers how many calls are in the ledger.
    @ivar condemned: How many calls wait for no worker any more, but to be told so.
    @ivar collector: Keeps the garbage collector off a large ledger.
    @ivar onEmpty: Called each time that the last entry has left.
    """

    def __init__(self, clock: Callable[[], IReactorTime]) -> None:
        self.entries: dict[int, CallDeferred[Any]] = {}
        self.load: LoadInfoProducer | None = None
        self.onEmpty: Callable[[], object] = int
        self.submitted = 0
        self.condemned = 0
        self.failed = 0
        self.cancelled = 0
        self.refused = 0
        self.reruns = 0
        self.late = 0
        self.collector = Collector()
        self._clock = clock
        self._condemned: deque[tuple[deque[Any], Lane, Callable[[CallDeferred[Any]], BaseException]]] = deque()
        self._execution: IDelayedCall | None = None

    @property
    def settled(self) -> int:
        """
        How many calls have been settled.
        """
        return self.submitted - len(self.entries)

    def admit(self, entry: CallDeferred[Any]) -> None:
        """
        Take responsibility for a call.
        """
        # Hot path, watched by `bench --only reactor`.
        self.entries[entry.ID] = entry
        self.submitted += 1
        if len(self.entries) >= self.collector.freezeAt:
            self.collector.freeze(len(self.entries))
        if self.load is not None:
            self.load.changed(len(self.entries))

    def subscribe(self, consumer: IConsumer) -> None:
        """
        Tell a consumer how many calls are in the ledger, each time that it changes.

        @raise ImplementationError: It does not provide C{IConsumer}.
        """
        load = LoadInfoProducer() if self.load is None else self.load
        load.registerConsumer(consumer)
        self.load = load
        load.changed(len(self.entries))

    def settle(self, entry: CallDeferred[Any], value: Any) -> None:
        """
        Let a call go, with its value or a C{Failure}.
        """
        # Hot path, watched by `bench --only reactor`.
        entries = self.entries
        # What newTask has made, and nobody has queued, is not counted.
        if entries.pop(entry.ID, None) is not None and isinstance(value, Failure):
            if isinstance(value.value, CancelledError):
                self.cancelled += 1
            else:
                self.failed += 1
        entry.dispatcher = entry.current = entry.func = entry.args = entry.kw = entry.context = None  # type: ignore[assignment]
        if self.load is not None:
            self.load.changed(len(entries))
        if len(entries) <= self.collector.thawAt:
            self.collector.thaw(len(entries))
        entry.callback(value)
        if not entries:
            self.onEmpty()

    def stateOf(self, entry: CallDeferred[Any]) -> CallState:
        """
        Tell where a call stands.
        """
        if entry.dispatcher is None:
            return CallState.SETTLED
        if entry.lane is not None or entry.current is None:
            return CallState.QUEUED
        return CallState.RUNNING if entry.current.arriving is None else CallState.SETTLING

    def condemn(self, lanes: Iterable[Lane], reason: Callable[[CallDeferred[Any]], BaseException]) -> None:
        """
        Settle all calls in lanes that have been taken out of the backlog, with errors, over as many turns as it takes.

        @param reason: Makes the error for a call.
        """
        for lane in lanes:
            self.condemned += lane.live
            self._condemned.append((lane.items, lane, reason))
        if self._condemned and self._execution is None:
            self._execution = self._clock().callLater(0, self._execute)

    def _execute(self) -> None:
        """
        Settle condemned calls for the length of a turn.
        """
        self._execution = None
        until = monotonic() + TURN
        while self._condemned:
            items, lane, reason = self._condemned[0]
            while items:
                entry = items.popleft()
                if entry.lane is lane:
                    entry.lane = None
                    self.condemned -= 1
                    self.settle(entry, Failure(reason(entry)))
                    if monotonic() > until:
                        break
            else:
                self._condemned.popleft()
                continue
            break
        if self._condemned and self._execution is None:
            self._execution = self._clock().callLater(0, self._execute)

    def close(self) -> None:
        """
        Let go of the timer and of those who are told the load, when no call is left.
        """
        self.collector.thaw(0)
        if self.load is not None:
            self.load.shutdown()
        execution, self._execution = self._execution, None
        if execution is not None:
            execution.cancel()
