"""
Calls whose results are iterators: from the worker's report until the last item has been read.

The call is settled when the first item is there: until then, it can be lost, time out and be run again like any other.
With a consumer, it is settled when that has had everything. From the first item on, its C{timeout} is the time that
each further batch of items may take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall, safeRepr
from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.errors import AsynQueueError, QueueShutdown, WorkerError, WorkerLost
from asynqueue.hires import HireState
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.prefetch import Prefetcherator
from asynqueue.iteration.producer import IterationProducer
from asynqueue.iteration.recognition import isIterator
from asynqueue.iteration.sources import sourceOf
from asynqueue.iteration.stream import Stream, StreamState
from asynqueue.verdicts import Refusal, callOf, workerOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from asynqueue.calls import CallDeferred
    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.dispatch import Dispatcher
    from asynqueue.tasks import Attempt

#: How long, in seconds, a queue that is shutting down bears with a stream that nobody reads.
PATIENCE = 2.0


class OpenStream:
    """
    A stream whose source is not at its end, and the call that it is the result of.

    @ivar ID: The ID of the call.
    @ivar workerID: The ID of the worker that has reported the stream.
    """

    __slots__ = ("ID", "_call", "_entry", "seen", "stream", "workerID")

    def __init__(self, stream: Stream, entry: CallDeferred[Any], workerID: int | None) -> None:
        self.stream = stream
        self.ID = entry.ID
        # The stream must end when its reader is dropped, which is the result of the call, and kept by its entry.
        self._entry = ref(entry)
        self.workerID = workerID
        self.seen = -1
        # A call that is settled forgets what it was.
        self._call = (entry.func, entry.args, entry.kw)

    @property
    def entry(self) -> CallDeferred[Any] | None:
        """
        The call, or C{None} once it is settled and its caller iterates.
        """
        entry = self._entry()
        return None if entry is None or entry.dispatcher is None else entry

    def isIdle(self) -> bool:
        """
        Tell whether nobody has read from the stream since this was asked last.
        """
        seen, self.seen = self.seen, self.stream.delivered
        return seen == self.seen and not self.stream.isWaitedFor

    def describe(self) -> str:
        """
        Return the call as text, with its ID.
        """
        return f"call {self.ID}, {describeCall(*self._call)}"


class Streams:
    """
    The streams of a queue that have been begun and have not come to their ends.

    @ivar onEmpty: Called each time that the last of them has ended.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.onEmpty: Callable[[], object] = int
        self._dispatcher = dispatcher
        self._open: dict[Stream, OpenStream] = {}
        self._watch: Deadline | None = None

    def __len__(self) -> int:
        return len(self._open)

    def start(self, entry: CallDeferred[Any], task: Attempt, result: Any) -> Any:
        """
        Begin with what a worker has reported as an iterator.

        @param result: The iterator; or a Deferred of one, or of any other value, which is then what the call gets.
        @return: What the call gets: a L{Deferator}, or an empty list if there is nothing to iterate over, or the
            consumer after everything has been written to it; or a failure; or a Deferred of any of these.
        """
        if isinstance(result, Deferred):
            return result.addCallback(lambda value: self.start(entry, task, value) if isIterator(value) else value)
        if task.cancelled:
            self.drop(result)
            return None
        try:
            deferator = _deferatorOf(result, task, self._dispatcher.clock())
        except TypeError:
            return Failure(
                WorkerError(f"{workerOf(task)} reported {safeRepr(result)} as an iterator, of {callOf(entry)}")
            )
        stream = deferator.stream
        if stream.state is StreamState.FLOWING:
            self._open[stream] = OpenStream(stream, entry, task.workerID)
            others = stream.onEnd
            stream.onEnd = lambda: self._ended(stream, others)
        begun: Deferred[Any] = Deferred(lambda _: stream.stop())
        if stream.request(lambda: begun.callback(None)):
            return self._begun(entry, task, deferator)
        return begun.addCallback(lambda _: self._begun(entry, task, deferator))

    def _begun(self, entry: CallDeferred[Any], task: Attempt, deferator: Deferator) -> Any:
        stream = deferator.stream
        options = entry.options
        if task.cancelled:
            # Whoever waits has been told.
            deferator.stop()
            return stream.conclude()
        if stream.items:
            if task.deadline is not None:
                task.deadline.stop()
                task.deadline = None
            timeout = options.timeout
            if timeout is not None:
                stream.name = f"the stream of {callOf(entry)}"
                stream.makeDeadline = lambda func: self._dispatcher.deadline(timeout, func)
        elif options.consumer is None:
            return stream.conclude() or []
        if options.consumer is None:
            return deferator
        try:
            producer = IterationProducer(deferator)
            # What the consumer does may lead to the end of the call, which then finds what to cancel.
            done = task.arriving = producer.deferUntilDone()
            producer.registerConsumer(options.consumer)
            producer.run().addBoth(lambda _: None)
        except BaseException:  # a consumer may be anybody's; even a SystemExit of its own is the caller's
            task.arriving = None
            deferator.stop()
            return Failure()
        return done.addErrback(_judged, stream)

    def drop(self, result: Any) -> None:
        """
        Close an iterator that nobody waits for, or what is to give one.
        """
        if isinstance(result, Deferator):
            result.stop()
        elif isinstance(result, Deferred):
            result.addErrback(lambda failure: None)
            cancelQuietly(result)
        elif isIterator(result):
            Deferator(result).stop()

    def _ended(self, stream: Stream, others: Callable[[], object] | None = None) -> None:
        """
        Forget a stream, and tell whoever else has it open, as another queue that it has come from.
        """
        if others is not None:
            others()
        if self._open.pop(stream, None) is not None and not self._open:
            self.close()
            self.onEmpty()

    # Ends that are not the reader's

    def endIdle(self) -> None:
        """
        From now on, end each stream whose queue or worker is about to go, and that nobody has read from for a while.
        """
        if self._open and self._watch is None:
            for each in tuple(self._open.values()):
                each.isIdle()
            self._watch = self._dispatcher.deadline(PATIENCE, self._look)

    def _look(self) -> None:
        self._watch = None
        for each in tuple(self._open.values()):
            reason = self._reasonToEnd(each)
            if each.isIdle() and reason is not None:
                each.stream.fail(reason)
        self.endIdle()

    def _reasonToEnd(self, each: OpenStream) -> AsynQueueError | None:
        if each.entry is not None:
            return None
        if not self._dispatcher.isOpen:
            return _shutDown(each)
        hire = self._dispatcher.hires.get(each.workerID or 0)
        if hire is not None and hire.state is HireState.LEAVING:
            return WorkerLost(f"the stream of {each.describe()} has been ended, for nobody read it and its worker left")
        return None

    def endAll(self) -> None:
        """
        End all streams: with an error behind the items that wait for their readers, or with consumers, at once.
        """
        for each in tuple(self._open.values()):
            if each.stream.state is not StreamState.FLOWING:
                self._ended(each.stream)
                continue
            entry = each.entry
            if entry is None:
                each.stream.fail(_shutDown(each))
            else:
                self._dispatcher.outcomes.cancel(entry, _shutDown(each))

    def close(self) -> None:
        """
        Let go of the timer, when no stream is left.
        """
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()


def _deferatorOf(result: Any, task: Attempt, clock: IReactorTime) -> Deferator:
    if isinstance(result, Deferator):
        return result
    if isinstance(result, Prefetcherator):
        return Deferator(result)
    return Deferator.over(sourceOf(result, task.excerpt(), clock), safeRepr(result, 200))


def _judged(failure: Failure, stream: Stream) -> Failure | Refusal:
    """
    Tell an error of the call from one that its queue has ended the stream with.
    """
    return Refusal(failure) if stream.wasCutShort or failure.check(WorkerLost) else failure


def _shutDown(each: OpenStream) -> QueueShutdown:
    return QueueShutdown(f"the stream of {each.describe()} has been ended, for its queue was shut down")
