"""
What a node has to do before it gets tasks of a worker: run the updates that the worker's queue has had run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.python.failure import Failure

from asynqueue.errors import EncodeError
from asynqueue.wire.link import Link, WireConversation

if TYPE_CHECKING:
    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.tasks import Task

#: How long, in seconds, a node may take to run the updates that it has not run, until the connection is given up.
UPDATES_TIME = 300.0


@frozen
class Update:
    """
    An update that has been run, and is to be run by each node that has not run it.

    @ivar task: The call, as it came. How it travels depends on the node.
    @ivar key: What tells it from all others, whichever way it travels.
    """

    task: Task
    key: str


class PreparingConversation(WireConversation):
    """
    Has updates run before anything else, and comes to nothing if one of them fails.
    """

    def __init__(self, child: Link, *args: Any) -> None:
        super().__init__(child, *args)
        self._onFailed: Callable[[Failure], object] = id
        self._timeLeft: Deadline | None = None

    def prepareBy(
        self, updates: Iterable[Update], prepared: Callable[[], object], failed: Callable[[Failure], object]
    ) -> None:
        """
        Have the node run updates, unless it has run them already.

        @param prepared: Called when that is done.
        @param failed: Called instead when one of them has failed, or cannot travel.
        """
        try:
            bodies = [b"".join(self.encoder.encode(update.task, update.key)) for update in updates]
        except EncodeError:
            failed(Failure())
            return
        self._onFailed = failed
        if bodies:
            self._timeLeft = self.later(UPDATES_TIME, self._tooLong)
        self.prepare(bodies, prepared)

    def _tooLong(self) -> None:
        self._timeLeft = None
        self.child.abort(f"has not run {len(self._updates)} updates in {UPDATES_TIME:g} s")

    def _sendUpdate(self, body: bytes) -> None:
        # What a node gives back that is about to end, it would give back again and again.
        if not self.child.isLeaving:
            super()._sendUpdate(body)

    def _updated(self, number: int, outcome: tuple[str, Any]) -> None:
        if number in self._updates and outcome[0] != "r":
            self._updates.clear()
            self._onPrepared = int
            self._stopTime()
            error = outcome[1]
            self._onFailed(error if isinstance(error, Failure) else Failure(error))
            return
        super()._updated(number, outcome)
        if not self._updates:
            self._stopTime()

    def _stopTime(self) -> None:
        timeLeft, self._timeLeft = self._timeLeft, None
        if timeLeft is not None:
            timeLeft.stop()

    def close(self) -> None:
        """
        Take no more notice of what the node sends.
        """
        super().close()
        self._stopTime()
