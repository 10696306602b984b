"""
A map at work: items go in as parcels, each of them one call of the queue, and results come out as a stream.

Data flow::

    iterable -> Intake.take -> Parcel -> Submission.submit -> the queue and its workers
                                 ^                                    |
                                 +-- what a batch has left over <-----+-- one by one, when a batch has failed
                                                                      |
    the reader <- Stream.pull <------- InOrder or AsCompleted <-------+

The map sends parcels as long as there is room in its window, and as long as fewer of them wait than the queue has
workers. Whatever comes back makes room, and so does the reader.
"""

from __future__ import annotations

from collections import deque
from sys import getsizeof
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.errors import EncodeError, QueueClosed, QueueRunError
from asynqueue.failures import failureOf
from asynqueue.iteration.batches import Batch
from asynqueue.iteration.deferator import Deferator
from asynqueue.mapping.batch import BatchOutcome, MappedCall
from asynqueue.mapping.collation import AsCompleted, InOrder
from asynqueue.mapping.pace import Pace
from asynqueue.mapping.parcel import Parcel, itemFailure

if TYPE_CHECKING:
    from asynqueue.mapping.intake import Intake

#: How many calls a map has on their way at most, when nobody has said how far it may be ahead.
CALLS = 256


class Submission(Protocol):
    """
    The queue, as a map sees it.
    """

    def submit(self, func: Any, args: tuple[Any, ...]) -> Deferred[Any]:
        """
        Queue a call, with the options and in the context of the map.
        """

    def seats(self) -> int:
        """
        Return how many workers may run such calls, at least 1.
        """

    def room(self) -> Deferred[None] | None:
        """
        Return C{None} if the queue would accept a call, or else a Deferred that fires when it may.
        """

    def over(self, mapper: Mapper) -> None:
        """
        Take note that a map needs the queue no more.
        """


class Mapper:
    """
    Applies a function to items, and is the source of a stream of the results.

    @ivar takesAll: Whether the reader keeps whatever there is, so that nothing waits for him.
    """

    runsAhead: ClassVar[bool] = False
    tellsEnd: ClassVar[bool] = False

    def __init__(
        self,
        func: Any,
        intake: Intake,
        submission: Submission,
        pace: Pace,
        isOrdered: bool,
        isRaising: bool,
        isBatching: bool,
    ) -> None:
        """
        @param isOrdered: Whether results come in the order of the items.
        @param isRaising: Whether the first error ends the map, instead of taking the place of a result.
        @param isBatching: Whether several items may go with one call.
        """
        self.takesAll = False
        self._func = func
        self._intake = intake
        self._submission = submission
        self._pace = pace
        self._isRaising = isRaising
        self._isBatching = isBatching
        self._collation = InOrder() if isOrdered else AsCompleted()
        self._unsent: deque[Parcel] = deque()
        self._running: dict[Parcel, Deferred[Any]] = {}
        self._waiting: deque[Any] = deque()
        self._room: Deferred[None] | None = None
        self._taken = 0
        self._handed = 0
        self._delivered = 0
        self._isFilling = False
        self._hasMissed = False
        self._isShort = False
        self._isOver = False
        self._failedAt: int | None = None
        self._failure: Failure | None = None
        self._pulled: Deferred[Batch] | None = None
        intake.onMore = self._go

    def __repr__(self) -> str:
        return f"<Mapper: {self._taken} items taken, {len(self._running)} calls on their way>"

    # For the stream

    def start(self) -> None:
        """
        Begin.
        """
        self._fill()

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Give results that are ready.
        """
        # Hot path, watched by `bench --only map`.
        self._delivered = self._handed
        self._fill()
        if self._collation.ready or self._isDone():
            return self._batch()
        pulled = self._pulled = Deferred()
        self._lookFurther()
        return pulled

    def close(self) -> None:
        """
        Cancel what is on its way, and close the iterable.
        """
        self._pulled = None
        self._collation.ready.clear()
        self._finish()

    # For the queue

    def queueClosed(self) -> None:
        """
        Take no more items: there will be no more calls. What is on its way is waited for.
        """
        if not (self._intake.isEnded and not self._unsent):
            self._cutShort(Failure(QueueClosed("the map has not come to its end: the queue is shut down")))
            self._give()

    # Results

    def _batch(self) -> Batch:
        """
        Hand over results, and the end behind the last.
        """
        # Hot path, watched by `bench --only map`.
        ready = self._collation.ready
        # What has been handed over is known to be used up when the reader comes for more, and not before.
        most = len(ready) if self.takesAll else max(1, self._pace.window // 4)
        if most >= len(ready):
            results = list(ready)
            ready.clear()
        else:
            results = [ready.popleft() for _ in range(most)]
        self._handed += len(results)
        if self.takesAll:
            self._delivered = self._handed
        if ready or not self._isDone():
            return Batch(results)
        self._finish()
        return Batch(results, isLast=True, error=self._failure or self._intake.failure)

    def _isDone(self) -> bool:
        """
        Tell whether there will be nothing more.
        """
        if self._isOver:
            return True
        if self._failedAt is not None and self._collation.hasAllBefore(self._failedAt):
            return True
        return self._intake.isEnded and not self._running and not self._unsent

    def _finish(self) -> None:
        if not self._isOver:
            self._isOver = True
            self._unsent.clear()
            self._waiting.clear()
            room, self._room = self._room, None
            running, self._running = self._running, {}
            if room is not None:
                room.cancel()
            # The last first, so that none gets the worker of one before it.
            for call in reversed(running.values()):
                cancelQuietly(call)
            self._intake.close()
            self._submission.over(self)

    def _give(self) -> None:
        """
        Let the reader have what there is, if it waits for that.
        """
        # Hot path, watched by `bench --only map`.
        pulled = self._pulled
        if pulled is not None:
            if self._collation.ready or self._isDone():
                self._pulled = None
                pulled.callback(self._batch())
            else:
                self._lookFurther()

    def _lookFurther(self) -> None:
        """
        Be further ahead if that is what keeps the reader waiting.
        """
        if self._isShort and self._pace.grow():
            self._fill()

    def _go(self) -> None:
        self._fill()
        self._give()

    # Items

    def _fill(self) -> None:
        """
        Send as much as may be sent.
        """
        # Hot path, watched by `bench --only map`.
        if self._isFilling:
            self._hasMissed = True
            return
        self._isFilling = True
        self._isShort = False
        try:
            while self._send() or self._hasMissed:
                self._hasMissed = False
        finally:
            self._isFilling = False

    def _send(self) -> bool:
        """
        Send one parcel.

        @return: Whether there was one.
        """
        # Hot path, watched by `bench --only map`.
        if self._isOver or self._room is not None or not (self._unsent or self._mayTake()):
            return False
        seats = self._submission.seats()
        waiting = self._waiting
        while waiting and waiting[0].lane is None:
            waiting.popleft()
        if len(waiting) >= seats or (not self._pace.isFixed and len(self._running) >= CALLS):
            return False
        room = self._submission.room()
        if room is not None:
            self._room = room
            room.addCallbacks(self._hasRoom, self._hasNoRoom)
            return self._room is None
        parcel = self._unsent.popleft() if self._unsent else self._take(seats)
        if parcel is None:
            return False
        self._submit(parcel)
        return True

    def _mayTake(self) -> bool:
        return self._failedAt is None and not self._intake.isEnded

    def _take(self, seats: int) -> Parcel | None:
        """
        Make a parcel of items, as far as the window has room for them.
        """
        pace = self._pace
        free = pace.window - self._taken + self._delivered
        wanted = pace.batch(seats) if self._isBatching else 1
        if wanted < pace.size:
            self._isShort = True
        if free < wanted:
            self._isShort = True
            if free <= 0 or self._running:
                # What is on its way makes room for more than a few.
                return None
        items = self._intake.take(min(free, wanted))
        if not items or self._isOver or self._failure is not None:
            # While it was stepped, the iterable may have ended the map.
            return None
        start = self._taken
        self._taken += len(items)
        return Parcel(start, items)

    def _submit(self, parcel: Parcel) -> None:
        # Hot path, watched by `bench --only map`.
        if parcel.isPlain or not self._isBatching:
            if len(parcel.items) > 1:
                self._split(parcel)
                return
            parcel.isPlain = True
            func = self._func
        else:
            func = MappedCall(self._func, self._pace.span)
        call = self._submission.submit(func, tuple(parcel.items))
        self._running[parcel] = call
        call.addCallbacks(self._succeeded, self._failed, (parcel,), {}, (parcel,), {})
        if parcel in self._running and getattr(call, "lane", None) is not None:
            self._waiting.append(call)

    def _hasRoom(self, _: object) -> None:
        self._room = None
        self._go()

    def _hasNoRoom(self, failure: Failure) -> None:
        self._room = None
        if not self._isOver:
            self._cutShort(failure)
            self._give()

    # Outcomes

    def _succeeded(self, value: Any, parcel: Parcel) -> None:
        # Hot path, watched by `bench --only map`.
        if self._running.pop(parcel, None) is None:
            if isinstance(value, Deferator):
                value.stop()
            return
        if type(value) is BatchOutcome and not parcel.isPlain:
            self._takeOutcome(parcel, value)
        else:
            if not parcel.isPlain:
                # It is to be read itself, item by item.
                self._isBatching = False
                self._leaveOver(parcel, 1)
            self._put(parcel.start, [value], [])
        self._fill()
        self._give()

    def _takeOutcome(self, parcel: Parcel, outcome: BatchOutcome) -> None:
        # Hot path, watched by `bench --only map`.
        values = outcome.values
        number = len(values)
        self._isBatching = self._isBatching and outcome.isPlain
        if number:
            self._pace.finished(number, outcome.elapsed)
            self._pace.weighed(getsizeof(parcel.items[0], 0) + getsizeof(values[0], 0))
        if number < len(parcel.items):
            self._leaveOver(parcel, number)
        errors = [(index, itemFailure(where, error, outcome)) for index, where, error in outcome.errors]
        if outcome.thread is not None:
            # After pickling, the outcome of a call is an error anyway if it is a C{Failure}.
            known = {index for index, _ in errors}
            errors += [
                (index, failureOf(value))
                for index, value in enumerate(values)
                if isinstance(value, Failure) and index not in known
            ]
            errors.sort(key=_first)
        self._put(parcel.start, values, errors)

    def _leaveOver(self, parcel: Parcel, number: int) -> None:
        """
        Send the items behind the first so many once more, in another parcel.
        """
        rest = parcel.items[number:]
        if rest:
            self._unsent.appendleft(Parcel(parcel.start + number, rest))

    def _put(self, start: int, values: list[Any], errors: list[tuple[int, Failure]]) -> None:
        """
        Take results, and errors in the places of some.
        """
        for index, failure in errors:
            if self._isRaising:
                self._fail(start + index, failure)
                break
            values[index] = failure
        if self._failedAt is not None:
            if self._collation.isOrdered:
                values = values[: max(0, self._failedAt - start)]
            elif errors:
                values = values[: errors[0][0]]
        self._collation.put(start, values)

    def _failed(self, failure: Failure, parcel: Parcel) -> None:
        if self._running.pop(parcel, None) is None:
            return
        if isinstance(failure.value, QueueRunError):
            self._cutShort(failure, hasLost=True)
        elif not parcel.isPlain and not failure.check(CancelledError) and self._mayRunSingly(parcel, failure):
            self._split(parcel)
        else:
            failures = [(index, Failure(failure.value)) for index in range(1, len(parcel.items))]
            self._put(parcel.start, [None] * len(parcel.items), [(0, failure), *failures])
        self._fill()
        self._give()

    def _mayRunSingly(self, parcel: Parcel, failure: Failure) -> bool:
        # A single item that cannot travel is sent once more for an error that tells what of it cannot.
        return len(parcel.items) > 1 or isinstance(failure.value, EncodeError)

    def _split(self, parcel: Parcel) -> None:
        """
        Send each item of a parcel by itself, so that only the one fails whose fault it is.
        """
        self._pace.broke()
        start = parcel.start
        for index in range(len(parcel.items) - 1, -1, -1):
            if self._failedAt is None or start + index < self._failedAt:
                self._unsent.appendleft(Parcel(start + index, parcel.items[index : index + 1], isPlain=True))

    # Ends before the end

    def _fail(self, number: int, failure: Failure) -> None:
        """
        Let an item be the last, since it has failed. Only those before it are waited for.
        """
        if self._failedAt is not None and number >= self._failedAt:
            return
        self._failedAt = number
        self._failure = failure
        self._intake.close()
        before = number if self._collation.isOrdered else 0
        self._unsent = deque(parcel for parcel in self._unsent if parcel.start < before)
        unwanted = [parcel for parcel in reversed(self._running) if parcel.start >= before]
        for call in [self._running.pop(parcel) for parcel in unwanted]:
            cancelQuietly(call)

    def _cutShort(self, failure: Failure, hasLost: bool = False) -> None:
        """
        Send nothing more, since the queue takes nothing more.

        @param hasLost: Whether something that has been sent is not to come back.
        """
        if self._failedAt is None or self._unsent or hasLost:
            known = self._failure
            self._failure = known if known is not None and isinstance(known.value, QueueRunError) else failure
        self._unsent.clear()
        self._intake.close()


def _first(error: tuple[int, Failure]) -> int:
    return error[0]
