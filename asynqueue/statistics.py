"""
What a queue tells of itself: snapshots, made when asked for.
"""

from __future__ import annotations

from collections.abc import Hashable

from attrs import frozen

from asynqueue.states import CallState


@frozen
class WorkerStatistics:
    """
    One attached worker.

    @ivar ID: Its ID.
    @ivar kind: The name of its class.
    @ivar state: Where its employment stands, such as C{"active"}.
    @ivar running: How many attempts it has.
    @ivar finished: How many outcomes it has reported.
    """

    ID: int
    kind: str
    state: str
    running: int
    finished: int


@frozen
class Statistics:
    """
    A queue at a moment. The counts are of calls since the queue was made, but for C{queued} and C{running}.

    @ivar submitted: Accepted by the queue. Always the sum of C{queued}, C{running} and C{settled}.
    @ivar queued: Waiting, or cancelled in bulk and about to be told so.
    @ivar running: Given to a worker, or waiting for their value to arrive.
    @ivar settled: Whose Deferred has fired; the sum of the next three.
    @ivar succeeded: With a value.
    @ivar failed: With a failure, or as the error policy has it.
    @ivar cancelled: By their Deferred, or in bulk.
    @ivar refused: Never accepted, since the queue was full or closed.
    @ivar reruns: Attempts that followed another attempt.
    @ivar late: Outcomes that came for an attempt that was over, and were dropped.
    @ivar workers: The attached workers, by ID.
    @ivar lanes: The lanes in which calls wait: (series, niceness or class, number waiting).
    """

    submitted: int
    queued: int
    running: int
    settled: int
    succeeded: int
    failed: int
    cancelled: int
    refused: int
    reruns: int
    late: int
    workers: tuple[WorkerStatistics, ...]
    lanes: tuple[tuple[Hashable, int | str, int], ...]


@frozen
class OutstandingCall:
    """
    A call that a queue has accepted and not settled.

    @ivar ID: Identifies it, for L{asynqueue.TaskQueue.explain}.
    @ivar call: The call as text.
    @ivar series: Its series.
    @ivar state: Where it stands.
    @ivar attempts: How many attempts have been made at it.
    @ivar workerID: The worker that has it, or C{None}.
    """

    ID: int
    call: str
    series: Hashable
    state: CallState
    attempts: int
    workerID: int | None
