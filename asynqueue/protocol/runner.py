"""
The end that runs calls: many at once, in the reactor.

Calls are begun with in the order in which they come, at most so many at once, and for a fraction of a turn before
outcomes are sent. One that returns a Deferred or a coroutine goes on while others are begun with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context
from time import monotonic, perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.protocols import amp
from twisted.python.failure import Failure

from asynqueue.currentcall import current
from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.errors import QueueFull, SoftTimeLimitExceeded, TimeoutError
from asynqueue.failures import exceptionOf
from asynqueue.iteration.recognition import isIterator
from asynqueue.protocol import commands, records
from asynqueue.protocol.lanes import Incoming, Outgoing
from asynqueue.protocol.records import HEADER, SECONDS, Splitter, numbersAs, record
from asynqueue.protocol.runnerstream import RunnerStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from asynqueue.protocol.caller import Send

#: How many calls may go on at once.
MOST = 64

#: How many bytes of calls may wait to be begun with until no more is let in. One call may always come.
WAITING = 64 << 20

#: How many bytes may wait to be taken by the caller until no more calls are begun with, and no more items made.
UNTAKEN = 4 << 20

#: How often it is looked within a stream's time whether its time is over.
LOOKS = 10

#: From how many bytes on something is not sent together with others.
LARGE = 1 << 16

#: How many calls that have not come may be cancelled.
UNWANTED = 1 << 16

#: How long, in seconds, calls may be begun with before outcomes are sent and the reactor gets a turn for other things.
TURN = 0.002


class Call:
    """
    A call that has been decoded. In its context, it is what L{asynqueue.currentCall} returns.

    @ivar context: Where it runs.
    @ivar cancelled: Whether nobody waits for the outcome any more.
    """

    __slots__ = ("ID", "args", "attempt", "cancelled", "context", "func", "kw")

    series = None

    #: Whether somebody else has been asked to run it, who may not have started with it.
    isWaiting = False

    def __init__(
        self, func: Callable[..., Any], args: Sequence[Any], kw: dict[str, Any], ID: int = 0, attempt: int = 1
    ) -> None:
        self.func = func
        self.args = args
        self.kw = kw
        self.ID = ID
        self.attempt = attempt
        self.cancelled = False
        self.context = Context()
        self.context.run(current.set, self)

    @property
    def workerID(self) -> int | None:
        """
        Not known at this end.
        """
        return None

    def begin(self) -> Any:
        """
        Call the function. A coroutine becomes a Deferred.
        """
        result = self.context.run(self.func, *self.args, **self.kw)
        if type(result) is CoroutineType:
            return self.context.run(Deferred.fromCoroutine, result)
        return result


class Encoding(Protocol):
    """
    Makes bytes of objects, and calls of bytes. Each may raise anything.
    """

    def call(self, flags: int, body: bytes) -> Call:
        """
        Decode a call.
        """

    def result(self, call: Call, value: Any) -> bytes:
        """
        Encode the result of a call.
        """

    def items(self, items: list[Any]) -> bytes:
        """
        Encode items of a stream.
        """

    def error(self, error: BaseException, where: str) -> bytes:
        """
        Encode an exception. Must not raise any.

        @param where: What could not be decoded or encoded for it: C{"arguments"}, C{"result"} or C{"item"}; or nothing,
            if the call itself has raised it.
        """


class Running:
    """
    A call that goes on: until its Deferred fires, and if that is with an iterator, until its first item is there.

    @ivar call: The call.
    @ivar isLate: Whether it has been interrupted since it takes longer than its soft limit.
    """

    __slots__ = ("_deferred", "_stream", "began", "call", "flags", "isLate")

    def __init__(self, call: Call, flags: int, began: float) -> None:
        self.flags = flags
        self.began = began
        self.isLate = False
        self.call = call
        self._deferred: Deferred[Any] | None = None
        self._stream: RunnerStream | None = None

    @property
    def context(self) -> Context:
        """
        Where it runs.
        """
        return self.call.context

    def waitFor(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """
        Go on until a Deferred fires, which is returned.
        """
        self._deferred = deferred
        return deferred

    def waitForFirst(self, stream: RunnerStream) -> Deferred[RunnerStream]:
        """
        Go on until a stream has begun.

        @return: Fires then.
        """
        self._deferred, self._stream = None, stream
        return stream.first()

    def cancel(self, reason: int) -> None:
        """
        Cancel what the call waits for.
        """
        if reason == records.SOFT_LIMIT:
            self.isLate = True
        else:
            self.call.cancelled = True
        if self._deferred is not None:
            cancelQuietly(self._deferred)
        elif self._stream is not None:
            if reason == records.SOFT_LIMIT:
                self._stream.interrupt()
            else:
                self._stream.withdraw()


class Runner:
    """
    Runs calls, and sends what comes of them.
    """

    def __init__(
        self,
        send: Send,
        encoding: Encoding,
        clock: IReactorTime,
        limit: int,
        most: Callable[[], int] = lambda: MOST,
        isTimed: bool = False,
        onBegin: Callable[[int], object] = id,
        onEnter: Callable[[int], object] = id,
        boundsResults: bool = True,
        streams: int | None = None,
        patience: float | None = None,
    ) -> None:
        """
        @param send: Sends a command of L{asynqueue.protocol.commands}, which comes first, with its arguments.
        @param limit: How long, in bytes, a call, a result or an item may be.
        @param boundsResults: Whether that holds for results and items, or the encoding sees to those.
        @param most: Returns how many calls may go on at once, at the moment.
        @param isTimed: Whether the seconds that each call takes are sent, too.
        @param onBegin: Called with the number of each call before it is begun with.
        @param onEnter: Called with it when it has been decoded, before its function is called.
        @param streams: How many streams there may be at once.
        @param patience: After so many seconds, about, in which nobody asks for items, a stream is ended.
        """
        self._send = send
        self._encoding = encoding
        self._clock = clock
        self._limit = limit if boundsResults else None
        self._most = most
        self._isTimed = isTimed
        self._onBegin = onBegin
        self._onEnter = onEnter
        self._lane = Outgoing(lambda pieces: send(commands.Outcome, records=pieces))
        self._incoming = Incoming(lambda size: send(commands.Credit, size=size))
        self._splitter = Splitter(limit, inPlace=True)
        self._mostStreams = streams
        self._patience = patience
        self._calls: deque[tuple[int, int, bytes]] = deque()
        self._last = 0
        self._waiting = 0
        self._taken = 0
        self._running: dict[int, Running] = {}
        self._streams: dict[int, RunnerStream] = {}
        # Those that have no first item yet are among them.
        self._iterators: set[int] = set()
        self._unwanted: set[int] = set()
        self._recalledTo = 0
        self._begun = 0
        # Those that go on, and of which the caller does not know that they do.
        self._untold: list[int] = []
        self._isLeaving = False
        self._isBroken = False
        self._outbox: list[bytes] = []
        self._isWorking = False
        self._isStopped = False
        self._turn: IDelayedCall | None = None
        self._flushing: IDelayedCall | None = None
        self._watching: IDelayedCall | None = None

    def ready(self) -> None:
        """
        Tell that calls can be taken.
        """
        self._send(commands.Ready)

    def refuse(self, error: BaseException) -> None:
        """
        Tell why no calls can be taken.
        """
        self._tell(records.UNREADY, 0, self._encoding.error(error, ""))

    # From the caller

    def received(self, pieces: Sequence[bytes]) -> None:
        """
        Take what has come over the lane of calls.

        @raise ValueError: A call is longer than it may be, or has a number that is not greater than those before it; or
            there was no credit for so much.
        """
        # Hot path, watched by `bench --only processes`.
        if self._isBroken:
            return
        self._isBroken = True
        for piece in pieces:
            self._incoming.came(len(piece))
            for kind, flags, number, body in self._splitter.feed(piece):
                if kind != records.CALL:
                    raise ValueError(f"a record of kind {kind}, which is none of a call")
                if number <= self._last:
                    raise ValueError(f"the call {number} after the call {self._last}")
                self._last = number
                if number > self._recalledTo:
                    self._calls.append((number, flags, body))
                    self._waiting += len(body)
            self._taken += len(piece)
        self._isBroken = False
        self._credit()
        if self._isLeaving:
            self.giveBack()
        self._work()

    def _credit(self) -> None:
        """
        Let the caller send more, unless what waits is too much already.
        """
        # Hot path, watched by `bench --only processes`.
        if self._taken and self._waiting <= WAITING:
            taken, self._taken = self._taken, 0
            self._incoming.took(taken)

    def _gone(self, calls: Iterable[tuple[int, int, bytes]]) -> None:
        """
        Take note that calls wait no more, which have not been begun with.
        """
        self._waiting -= sum(len(body) for _, _, body in calls)
        self._credit()

    def credited(self, size: int) -> None:
        """
        Take note of how much the caller has taken.
        """
        self._lane.credited(size)
        self._goOnSending()

    def hold(self, isHeld: bool) -> None:
        """
        Send nothing for now, or go on: the connection has more to send than it can.
        """
        self._lane.hold(isHeld)
        if not isHeld:
            self._goOnSending()

    def _goOnSending(self) -> None:
        # Hot path, watched by `bench --only processes`.
        if not self.isFull:
            self._workLater()
            for stream in tuple(self._streams.values()):
                stream.goOn()

    @property
    def isFull(self) -> bool:
        """
        Whether so much waits to be taken by the caller that there should not be more.
        """
        # Hot path, watched by `bench --only processes`.
        return self._lane.pending > UNTAKEN

    def cancel(self, number: int, reason: int) -> None:
        """
        Cancel what a call waits for, or never begin with it.

        @raise ValueError: Very many calls are cancelled that have not come.
        """
        running = self._running.get(number)
        if running is not None:
            running.cancel(reason)
            return
        waiting = next((each for each in self._calls if each[0] == number), None)
        if waiting is not None:
            self._calls.remove(waiting)
            self._gone([waiting])
            self._tell(records.CANCELLED, number)
        elif number > max(self._last, self._recalledTo):
            self._unwanted.add(number)
            if len(self._unwanted) > UNWANTED:
                # Those that have not come with a greater one never will.
                self._unwanted = {each for each in self._unwanted if each > self._last}
            if len(self._unwanted) > UNWANTED:
                raise ValueError(f"more than {UNWANTED} calls cancelled that have not come")

    def recall(self, number: int) -> None:
        """
        Give back the calls up to a number that have not been begun with, also if they come later.
        """
        if number > self._begun:
            self._recalledTo = max(self._recalledTo, number)
            kept = [each for each in self._calls if each[0] > number]
            self._gone(each for each in self._calls if each[0] <= number)
            self._calls.clear()
            self._calls.extend(kept)
            self._unwanted = {each for each in self._unwanted if each > number}
        given = [each for each, running in self._running.items() if each <= number and running.call.isWaiting]
        for each in given:
            self._running.pop(each).cancel(records.UNWANTED)
        self._tell(records.RECALLED, self._begun, numbersAs([number, *given]))

    def pull(self, number: int, count: int) -> None:
        """
        Send so many items more of a stream.
        """
        stream = self._streams.get(number)
        if stream is not None:
            stream.pull(count)

    def close(self, number: int) -> None:
        """
        End a stream.
        """
        stream = self._streams.get(number)
        if stream is not None:
            stream.close()

    # Calls

    def _work(self) -> None:
        """
        Begin with calls, for a fraction of a turn.
        """
        # Hot path, watched by `bench --only processes`.
        if self._isWorking or self._isStopped:
            return
        self._isWorking = True
        calls = self._calls
        running = self._running
        until = monotonic() + TURN
        try:
            while calls and len(running) < self._most() and not self.isFull:
                number, flags, body = calls.popleft()
                self._waiting -= len(body)
                self._begin(number, flags, body)
                if monotonic() > until:
                    break
        finally:
            self._isWorking = False
        self._credit()
        self._flush()
        self._workLater()

    def goOn(self) -> None:
        """
        Begin with more calls, for more may go on at once.
        """
        self._workLater()

    def leave(self) -> None:
        """
        Begin with no more calls, and give back those that have not been begun with, now and when more come.
        """
        self._isLeaving = True
        self.giveBack()

    def giveBack(self) -> None:
        """
        Give back all calls that have not been begun with.
        """
        if self._calls or self._running:
            self.recall(self._last)

    @property
    def running(self) -> int:
        """
        How many calls go on.
        """
        return len(self._running)

    @property
    def isIdle(self) -> bool:
        """
        Whether there is neither a call nor a stream.
        """
        return not (self._calls or self._running or self._streams)

    @property
    def clock(self) -> IReactorTime:
        """
        The clock.
        """
        return self._clock

    @property
    def size(self) -> int:
        """
        How many calls there are that have no outcome.
        """
        return len(self._calls) + len(self._running)

    def _workLater(self) -> None:
        if not self._calls or self._turn is not None or self._isStopped or self.isFull:
            return
        if len(self._running) < self._most():
            self._turn = self._clock.callLater(0, self._workOn)

    def _workOn(self) -> None:
        self._turn = None
        self._work()

    def _begin(self, number: int, flags: int, body: bytes) -> None:
        """
        Begin with a call.
        """
        # Hot path, watched by `bench --only processes`.
        if self._unwanted and number in self._unwanted:
            self._unwanted.discard(number)
            self._tell(records.CANCELLED, number)
            return
        self._begun = number
        self._onBegin(number)
        began = perf_counter()
        try:
            call = self._encoding.call(flags, body)
        except BaseException as error:  # decoding may run anybody's code
            self._failed(number, error, "arguments")
            return
        self._onEnter(number)
        try:
            result = call.begin()
        except BaseException as error:  # even a SystemExit of the call's own ends the call, not the runner
            self._failed(number, error)
            return
        # An isinstance(…, Deferred) takes several times as long, since the class is an abstract base class.
        if Deferred in type(result).__mro__ or (isIterator(result) and not flags & records.RAW):
            running = self._running[number] = Running(call, flags, began)
            self._untold.append(number)
            if Deferred in type(result).__mro__:
                running.waitFor(result).addBoth(self._arrived, number, running)
            else:
                self._arrived(result, number, running)
        else:
            self._finished(number, call, began, result)

    def _arrived(self, result: Any, number: int, running: Running) -> None:
        """
        Take what a Deferred has fired with.
        """
        if self._running.get(number) is not running:
            # It has been given back.
            return
        if isIterator(result) and not running.flags & records.RAW:
            if self._mostStreams is not None and len(self._iterators) >= self._mostStreams:
                # It is closed when nothing refers to it.
                result = Failure(QueueFull(f"there are {self._mostStreams} streams, which are the most"))
                self._ended(result, number, running)
                return
            # Until its first item is there, it can be cancelled, and lost, like any other call.
            self._iterators.add(number)
            stream = RunnerStream(self, number, result, running.context)
            running.waitForFirst(stream).addBoth(self._arrived, number, running)
            return
        if type(result) is not RunnerStream:
            self._iterators.discard(number)
        self._ended(result, number, running)

    def _ended(self, result: Any, number: int, running: Running) -> None:
        del self._running[number]
        if running.isLate and isinstance(result, Failure) and result.check(CancelledError):
            result = Failure(SoftTimeLimitExceeded("the call takes longer than its soft time limit"))
        self._finished(number, running.call, running.began, result)
        if not self._isWorking:
            self._workLater()

    def _finished(self, number: int, call: Call, began: float, result: Any) -> None:
        # Hot path, watched by `bench --only processes`.
        if self._isTimed:
            self._tell(records.TOOK, number, SECONDS.pack(perf_counter() - began))
        if result is None:
            self._tell(records.NOTHING, number)
        elif isinstance(result, Failure):
            if result.check(CancelledError):
                self._tell(records.CANCELLED, number)
            else:
                self._failed(number, exceptionOf(result))
        elif isinstance(result, RunnerStream):
            self._streams[number] = result
            self._tell(records.STREAM, number)
            result.begin()
            self._watch()
        else:
            try:
                self._tell(records.RESULT, number, self._bounded(self._encoding.result(call, result)))
            except BaseException as error:  # encoding may run anybody's code
                self._failed(number, error, "result")

    def _bounded(self, body: bytes) -> bytes:
        if self._limit is not None and len(body) > self._limit:
            raise ValueError(f"it takes {len(body)} bytes, and {self._limit} are the limit")
        return body

    def _failed(self, number: int, error: BaseException, where: str = "") -> None:
        self._tell(records.ERROR, number, self._encoding.error(error, where))
        # What the traceback refers to is let go of now.
        error.__traceback__ = None

    # For streams

    def encodeItems(self, items: list[Any]) -> bytes:
        """
        Encode items of a stream. May raise anything.
        """
        return self._bounded(self._encoding.items(items))

    def sendItems(self, number: int, body: bytes) -> None:
        """
        Send items that have been encoded.
        """
        self._tell(records.ITEMS, number, body)

    def streamEnded(self, number: int, error: BaseException | None, where: str = "") -> None:
        """
        Tell that a stream is at its end.
        """
        self._streams.pop(number, None)
        self._iterators.discard(number)
        self._tell(records.STREAM_END, number, b"" if error is None else self._encoding.error(error, where))

    def _watch(self) -> None:
        """
        Look from time to time whether there are streams that nobody reads.
        """
        if self._patience is not None and self._watching is None and self._streams and not self._isStopped:
            self._watching = self._clock.callLater(self._patience / LOOKS, self._look, self._patience)

    def _look(self, patience: float) -> None:
        self._watching = None
        before = self._clock.seconds() - patience
        for stream in tuple(self._streams.values()):
            if stream.waitsSince is not None and stream.waitsSince <= before:
                stream.giveUp(TimeoutError(f"nobody has asked for items for {patience:g} s"))
        self._watch()

    # To the caller

    def _tell(self, kind: int, number: int, body: bytes = b"") -> None:
        """
        Send a record: at once if it is the first in this turn, otherwise with those that follow.
        """
        # Hot path, watched by `bench --only processes`.
        if len(body) >= LARGE:
            # So that it is known how much waits to be taken, and without a copy of it.
            self._flush()
            if not self._isStopped:
                self._lane.postBoth(HEADER.pack(kind, 0, number, len(body)), body)
            return
        self._outbox.append(record(kind, number, body))
        if not self._isWorking and self._flushing is None and not self._isStopped:
            self._flush()
            self._flushing = self._clock.callLater(0, self._flushOn)

    def _flushOn(self) -> None:
        self._flushing = None
        self._flush()

    def _flush(self) -> None:
        # Hot path, watched by `bench --only processes`.
        outbox = self._outbox
        if self._isStopped:
            outbox.clear()
        elif self._untold:
            self._tellBegun(outbox)
        if outbox:
            self._outbox = []
            self._lane.post(outbox[0] if len(outbox) == 1 else b"".join(outbox))

    def _tellBegun(self, outbox: list[bytes]) -> None:
        # Hot path, watched by `bench --only processes`.
        running = self._running
        begun: list[int] = []
        waiting: list[int] = []
        for number in self._untold:
            each = running.get(number)
            if each is not None:
                (waiting if each.call.isWaiting else begun).append(number)
        self._untold = waiting
        if begun:
            outbox.append(record(records.BEGUN, 0, numbersAs(begun)))

    def stop(self) -> None:
        """
        Cancel the calls that go on, close all streams, and begin with and send nothing more: the caller is gone.
        """
        self._isStopped = True
        self._calls.clear()
        for timer in (self._turn, self._flushing, self._watching):
            if timer is not None and timer.active():
                timer.cancel()
        self._turn = self._flushing = self._watching = None
        for number in tuple(self._running):
            self.cancel(number, records.UNWANTED)
        for stream in tuple(self._streams.values()):
            stream.close()


class RunnerEnd(amp.CommandLocator):
    """
    To be mixed into an AMP protocol that talks to a caller: hands on what comes.

    @ivar runner: Who gets it.
    """

    runner: Runner

    @commands.Run.responder
    def _run(self, records: list[bytes]) -> dict[str, Any]:
        self.runner.received(records)
        return {}

    @commands.Cancel.responder
    def _cancel(self, number: int, reason: int) -> dict[str, Any]:
        self.runner.cancel(number, reason)
        return {}

    @commands.Recall.responder
    def _recall(self, number: int) -> dict[str, Any]:
        self.runner.recall(number)
        return {}

    @commands.Pull.responder
    def _pull(self, number: int, count: int) -> dict[str, Any]:
        self.runner.pull(number, count)
        return {}

    @commands.Close.responder
    def _close(self, number: int) -> dict[str, Any]:
        self.runner.close(number)
        return {}

    @commands.Credit.responder
    def _credit(self, size: int) -> dict[str, Any]:
        self.runner.credited(size)
        return {}
