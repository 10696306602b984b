"""
Who did what: the calls of a survey, counted by series and by worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import evolve, field, frozen, validators


@frozen
class Lane:
    """
    Calls that are submitted in the same way.

    @ivar name: What a report calls them.
    @ivar series: Their series.
    @ivar niceness: Their niceness, or C{None} where it has no meaning, as with C{doNext}.
    """

    name: str
    series: str | None
    niceness: int | None


@frozen
class SeriesCount:
    """
    What became of the calls of a lane.

    @ivar finished: How many calls ended with a result or an error; a call that was dropped did not.
    @ivar lastAfter: When the last of them did so, in seconds from the start.
    """

    lane: Lane
    submitted: int = field(default=0, validator=validators.ge(0))
    finished: int = field(default=0, validator=validators.ge(0))
    lastAfter: float = 0.0


@frozen
class WorkerCount:
    """
    What a worker did.

    @ivar number: Its ID in the queue.
    @ivar kind: The name of its class.
    @ivar finished: How many calls ended on it.
    """

    number: int
    kind: str
    finished: int = field(validator=validators.ge(0))


class WorkerStatistics(Protocol):
    """
    What a queue's statistics say of one worker.
    """

    @property
    def ID(self) -> int: ...

    @property
    def kind(self) -> str: ...

    @property
    def finished(self) -> int: ...


class Tally:
    """
    Counts calls as they are submitted and as they end.

    @param lanes: The lanes in the order in which they are to be reported.
    """

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self._series = {lane: SeriesCount(lane) for lane in lanes}
        self._workers: dict[int, WorkerCount] = {}
        self._ended: list[Lane] = []

    def submitted(self, lane: Lane) -> None:
        """
        A call has been submitted.
        """
        count = self._series[lane]
        self._series[lane] = evolve(count, submitted=count.submitted + 1)

    def finished(self, lane: Lane, after: float) -> None:
        """
        A call has ended with a result or an error.

        @param after: The seconds from the start.
        """
        count = self._series[lane]
        self._series[lane] = evolve(count, finished=count.finished + 1, lastAfter=after)
        self._ended.append(lane)

    def observed(self, workers: Iterable[WorkerStatistics]) -> None:
        """
        The queue has said what its workers did so far. What a worker did stays counted after it has gone.
        """
        for worker in workers:
            self._workers[worker.ID] = WorkerCount(worker.ID, worker.kind, worker.finished)

    def series(self) -> tuple[SeriesCount, ...]:
        """
        Say what became of the calls of each lane.
        """
        return tuple(self._series.values())

    def workers(self) -> tuple[WorkerCount, ...]:
        """
        Say what each worker did, by their IDs.
        """
        return tuple(self._workers[number] for number in sorted(self._workers))

    def contested(self, one: Lane, other: Lane) -> tuple[int, int]:
        """
        Count how many calls of two lanes ended before either of them had ended its last.
        """
        counts = dict.fromkeys((one, other), 0)
        for lane in self._ended:
            if any(counts[each] == self._series[each].finished for each in counts):
                break
            if lane in counts:
                counts[lane] += 1
        return counts[one], counts[other]
