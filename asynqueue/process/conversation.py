"""
What is between a worker and one child: the calls that it has been sent, and what has come of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.callinfo import said
from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.errors import EncodeError, RemoteError, ResultDecodeError, WorkerError, WorkerLost
from asynqueue.iteration.deferator import Deferator
from asynqueue.process import frames
from asynqueue.process.childprocess import ChildProcess, Death, Life
from asynqueue.process.encoding import Encoder, ResultDecoder
from asynqueue.process.frames import CALL, COUNT, HEADER, RESULT, SECONDS, record
from asynqueue.process.parts import Parts
from asynqueue.process.source import ChildSource
from asynqueue.protocol.records import AGAIN, numbersIn

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.tasks import Task

#: How long, in seconds, outcomes may be reported before the reactor gets a turn for other things.
TURN = 0.02

#: How long, in seconds, what nobody waits for any more may go on before the child is ended.
GRACE = 2.0

#: How long, in seconds, a child may take to tell something of itself.
REPLY = 5.0

#: How long, in seconds, items of a stream may wait in the child for those after them.
LOOK = 0.005


class Conversation:
    """
    Sends calls to a child, in batches while it is busy, and reports their outcomes.

    @ivar encoder: Makes bytes of calls.
    @ivar decoder: Makes objects of what the child sends.
    @ivar held: The tasks that the child has been sent and that have no outcome, by their numbers, which grow.
    @ivar accepted: How many calls the child has been sent, but for those that it has given back.
    @ivar finished: How many calls the child has finished.
    @ivar isRetired: Whether it is sent no more calls.
    @ivar onReported: Called each time after some records have been taken, with the number of calls that they have
        finished, and when that began, on the monotonic clock.
    @ivar onWorn: Called when the child has run out of memory, and should have a successor.
    @ivar grace: How long, in seconds, an iterator that nobody reads may go on before its child is ended.
    @ivar onDeath: Called when the child is gone, before what it had been sent is given outcomes.
    @ivar onGone: Called with the L{Death} of the child, when all that it had been sent has been given an outcome, or
        given back.
    @ivar onLasted: Called with each update that the child's successors are to run, too, when it has succeeded.
    @ivar onBegun: Called when the child may hold more calls, for it has begun with some that let others be begun with.
    @ivar times: Where times of calls are put: seconds until the result was here, and seconds in the child.
    """

    #: From how many bytes on something is not copied to be sent with others.
    large = 1 << 16

    log = Logger()

    def __init__(
        self,
        child: ChildProcess,
        raw: bool,
        reactor: Any,
        encoder: Encoder,
        decoder: ResultDecoder,
        numbers: Callable[[], int],
        times: deque[tuple[float, float]] | None,
    ) -> None:
        self.child = child
        self.held: dict[int, Task] = {}
        self.accepted = 0
        self.finished = 0
        self.isRetired = False
        self.onReported: Callable[[int, float], object] = _ignore
        self.onBegun: Callable[[], object] = int
        self.onDeath: Callable[[], object] = int
        self.onWorn: Callable[[], object] = int
        self.grace = GRACE
        self._closings: dict[int, Deadline] = {}
        self.onGone: Callable[[Death], object] = id
        self.onLasted: Callable[[bytes], object] = len
        self.times = times
        self._raw = raw
        self._reactor = reactor
        self.decoder = decoder
        self.encoder = encoder
        self._nextNumber = numbers
        self._sent: dict[int, float] = {}
        self._took: dict[int, float] = {}
        self._lasting: dict[int, bytes] = {}
        self._updates: dict[int, bytes] = {}
        self._onPrepared: Callable[[], object] = int
        self._stacks: dict[int, Deferred[str]] = {}
        self._outbox: list[bytes] = []
        self._posting: IDelayedCall | None = None
        self._inbox: deque[tuple[int, int, int, bytes]] = deque()
        self._reading: IDelayedCall | None = None
        self._look: IDelayedCall | None = None
        self._isReading = False
        self._isRecalling = False
        self._streams: dict[int, ChildSource] = {}
        self._doomed: dict[int, WorkerError] = {}
        self._laid: list[int] = []
        child.onRecords = self._received
        child.onDeath = self._died

    def later(self, seconds: float, func: Callable[[], object]) -> Deadline:
        """
        Have a function called when a number of seconds has passed.
        """
        return Deadline(self._reactor, monotonicOf(self._reactor), seconds, func)

    # To the child

    @property
    def isIdle(self) -> bool:
        """
        Whether the child has nothing to do, and no stream is open.
        """
        return not (self.held or self._streams or self._updates)

    def accept(self, task: Task) -> None:
        """
        Send a call. If it cannot be pickled, that is its outcome.
        """
        # Hot path, watched by `bench --only processes`.
        # Bytes, or Parts, which are large.
        rest: Any
        try:
            name, rest = self.encoder.encode(task)
        except EncodeError as error:
            task.callback(("x", error))
            return
        number = self._nextNumber()
        options = task.options
        isRaw = options.raw
        flags = frames.RAW if (self._raw if isRaw is None else isRaw) else 0
        held = self.held
        held[number] = task
        self.accepted += 1
        if self.times is not None:
            self._sent[number] = monotonic()
        if options.lasting:
            self._lasting[number] = name + (b"".join(rest.inline()) if isinstance(rest, Parts) else rest)
        if len(rest) >= self.large:
            pieces = self._lay(number, rest) if isinstance(rest, Parts) else [rest]
            size = len(name) + sum(map(len, pieces))
            # Copying takes its time.
            for piece in (HEADER.pack(CALL, flags, number, size) + name, *pieces):
                self.post(piece, len(held) == 1)
            return
        start = HEADER.pack(CALL, flags, number, len(name) + len(rest)) + name
        if self._isReading:
            self._outbox.append(start + rest)
        else:
            self.post(start + rest, len(held) == 1)

    def _lay(self, number: int, parts: Parts) -> list[bytes]:
        """
        Put large parts of a call to where the child takes them from. It has done so when the call has an outcome.
        """
        self._laid = [each for each in self._laid if each in self.held]
        isFree = not self._laid
        self._laid.append(number)
        return self.child.lay(parts, isFree)

    def post(self, data: bytes, isUrgent: bool) -> None:
        """
        Send records: now, or with others at the end of this turn if the child has something to do until then.
        """
        # Hot path, watched by `bench --only processes`.
        if self._isReading:
            self._outbox.append(data)
        elif isUrgent and not self._outbox:
            self.child.send(data)
        else:
            self._outbox.append(data)
            if self._posting is None:
                self._posting = self._reactor.callLater(0, self._post)

    def _post(self) -> None:
        posting, self._posting = self._posting, None
        if posting is not None and posting.active():
            posting.cancel()
        if self._outbox:
            outbox = self._outbox
            if len(outbox) > 1 and not any(len(data) >= self.large for data in outbox):
                outbox = [b"".join(outbox)]
            for data in outbox:
                self.child.send(data)
            self._outbox.clear()

    def isOverdue(self) -> bool:
        """
        Tell whether the child has written the outcome of a call, and it has not come.
        """
        return any(number <= self.child.reported for number in self.held)

    def isRunning(self) -> bool:
        """
        Tell whether the child is running a call or an update, or is at an item of a stream.
        """
        begun = self.child.begun
        return begun in self.held or begun in self._streams or begun in self._updates

    def hasBegun(self, number: int) -> bool:
        """
        Tell whether the child has begun with a call.
        """
        return number <= self.child.begun

    def begun(self) -> list[Task]:
        """
        Return the tasks that the child has begun with, and that have no outcome.
        """
        begun = self.child.begun
        return [task for number, task in self.held.items() if number <= begun]

    def entered(self) -> list[Task]:
        """
        Return those of them whose functions the child has called.
        """
        entered = self.child.entered
        return [task for number, task in self.held.items() if number <= entered]

    def numberOf(self, task: Task) -> int | None:
        """
        Return the number under which a task has been sent, or C{None}.
        """
        return next((number for number, each in self.held.items() if each is task), None)

    def capacity(self, window: int) -> int:
        """
        Return how many calls the child may hold.

        @param window: How many calls of those that have finished fit into a few milliseconds.
        """
        return window

    def recall(self) -> bool:
        """
        Ask the child to give back what it has not started.

        @return: Whether there is any.
        """
        if not self.held or next(reversed(self.held)) <= self.child.begun:
            return False
        self._recall()
        return True

    def _recall(self) -> None:
        if not self._isRecalling and self.child.life is Life.READY:
            self._isRecalling = True
            self._post()
            self.child.control(frames.RECALL, next(reversed(self.held)))

    def interrupt(self, number: int, reason: int) -> None:
        """
        Interrupt a call that is running, or never start it.
        """
        self._post()
        self.child.control(frames.INTERRUPT, number, reason)

    def kill(self, number: int, error: WorkerError) -> None:
        """
        End the child for the sake of a call, which gets an error for it.
        """
        self._doomed[number] = error
        self.child.kill(f"was ended for the sake of one call: {error}")

    def abandon(self) -> list[Task]:
        """
        Give up on the child, which is about to be gone. Streams end with an error.

        @return: The tasks that it had been sent and that have no outcome.
        """
        tasks = list(self.held.values())
        self.held.clear()
        self.close()
        self._endStreams("its worker was given up")
        return tasks

    def _endStreams(self, how: str) -> None:
        streams, self._streams = self._streams, {}
        for source in streams.values():
            source.lost(WorkerLost(f"{source!r} was cut off after {source.delivered} items: {how}"))

    def pull(self, number: int, count: int) -> None:
        """
        Have the child send so many items more of a stream.
        """
        self.post(record(frames.PULL, number, COUNT.pack(count)), isUrgent=True)

    def closeStream(self, number: int) -> None:
        """
        Have the child close an iterator: interrupt it, if it is at an item, and end the child if that does not help.
        """
        self.post(record(frames.CLOSE, number), isUrgent=True)
        self._post()
        self.child.control(frames.INTERRUPT, number, frames.CANCELLED)
        self._closings[number] = self.later(self.grace, lambda: self._notClosed(number))

    def closeStreams(self) -> bool:
        """
        Have the child close all iterators and end, if it is at no call.

        @return: Whether it is so.
        """
        if not self._streams or self.begun() or self.child.life is not Life.READY:
            return False
        # One that has been interrupted already may be at its C{finally}.
        numbers = [number for number in self._streams if number not in self._closings]
        for number in numbers:
            self.post(record(frames.CLOSE, number), isUrgent=False)
        self._post()
        for number in numbers:
            self.child.control(frames.INTERRUPT, number, frames.CANCELLED)
        self.child.end()
        return True

    def _notClosed(self, number: int) -> None:
        del self._closings[number]
        self.child.kill("was ended, for an iterator that nobody reads any more did not let go")

    def prepare(self, updates: Sequence[bytes], prepared: Callable[[], object]) -> None:
        """
        Have a fresh child run what its predecessors have run as updates. Errors are logged.

        @param prepared: Called when that is done.
        """
        self._onPrepared = prepared
        for body in updates:
            self._sendUpdate(body)
        if not self._updates:
            prepared()

    def _sendUpdate(self, body: bytes) -> None:
        number = self._nextNumber()
        self._updates[number] = body
        self.post(record(CALL, number, body, AGAIN), isUrgent=True)

    def stack(self) -> Deferred[str]:
        """
        Have the child tell where its main thread is.

        @return: Fires with the stack as text. Errbacks with C{TimeoutError} if the child does not reply, which it
            cannot while C code holds the interpreter, and with L{WorkerLost} if it dies.
        """
        number = self._nextNumber()
        told: Deferred[str] = Deferred(lambda _: self._forgetStack(number))
        self._stacks[number] = told
        self.child.control(frames.STACK, number)
        return told.addTimeout(REPLY, self._reactor)

    def _forgetStack(self, number: int) -> None:
        del self._stacks[number]

    def watch(self) -> None:
        """
        Have the child send after a while what there is of a stream that somebody waits for.
        """
        if self._look is None:
            self._look = self._reactor.callLater(LOOK, self._flushStreams)

    def _flushStreams(self) -> None:
        self._look = None
        waited = [source for source in self._streams.values() if source.isWaitedFor]
        for source in waited:
            self.child.control(frames.FLUSH, source.number)
        if waited:
            # Once is enough for what is there now; the next look is for what has come since.
            self._look = self._reactor.callLater(10 * LOOK, self._flushStreams)

    def close(self) -> None:
        """
        Take no more notice of what the child sends.
        """
        for each in (self._posting, self._reading, self._look):
            if each is not None and each.active():
                each.cancel()
        for closing in self._closings.values():
            closing.stop()
        self._posting = self._reading = self._look = None
        self._closings.clear()
        self._inbox.clear()
        self._outbox.clear()

    # From the child

    def _received(self, records: list[tuple[int, int, int, bytes]]) -> None:
        # Hot path, watched by `bench --only processes`.
        self._inbox.extend(records)
        if self._reading is None and not self._isReading:
            self._readOn()

    def _readOn(self) -> None:
        """
        Report outcomes, for the length of a turn.
        """
        # Hot path, watched by `bench --only processes`. What the outcomes lead to is sent together at the end.
        self._reading = None
        self._isReading = True
        began = monotonic()
        number = 0
        try:
            number = self._takeUntil(began + TURN)
        finally:
            self._isReading = False
        self._post()
        if self._inbox and self._reading is None:
            self._reading = self._reactor.callLater(0, self._readOn)
        self.onReported(number, began)

    def _takeUntil(self, until: float) -> int:
        """
        Take the records that have come, until a time on the monotonic clock.

        @return: How many calls are finished with them.
        """
        # Hot path, watched by `bench --only processes`.
        inbox = self._inbox
        held = self.held
        loads = self.decoder.value
        finished = 0
        while inbox:
            kind, flags, number, body = inbox.popleft()
            if kind == RESULT and self.times is None and (task := held.pop(number, None)) is not None:
                try:
                    outcome: tuple[str, Any] = ("r", loads(body))
                except BaseException as error:  # unpickling runs anybody's code
                    outcome = ("x", _undecodable(error))
                self.finished += 1
                finished += 1
                if self._lasting:
                    self._lasted(number, outcome)
                task.callback(("k", None) if task.cancelled else outcome)
                if finished & 7:
                    # Looking at the clock takes its time, too.
                    continue
            else:
                finished += self._take(kind, flags, number, body)
            if monotonic() > until:
                break
        return finished

    def _take(self, kind: int, flags: int, number: int, body: bytes) -> int:
        """
        Take one record.

        @return: How many calls are finished with it.
        """
        # Hot path, watched by `bench --only processes`.
        if kind == frames.RESULT:
            try:
                outcome: tuple[str, Any] = ("r", self.decoder.value(body))
            except BaseException as error:  # decoding may run anybody's code
                outcome = ("x", _undecodable(error))
        elif kind == frames.NOTHING:
            outcome = ("r", None)
        elif kind == frames.ERROR:
            failure = self.decoder.failure(body)
            outcome = ("e", failure)
            # Nothing can be derived from that class.
            if type(failure.value) is RemoteError and failure.value.remoteType == "builtins.MemoryError":
                self.onWorn()
        elif kind == frames.RESULT_PARTS:
            try:
                outcome = ("r", self.child.taken(body))
            except BaseException as error:  # unpickling runs anybody's code
                outcome = ("x", _undecodable(error))
            self.child.tookParts()
        else:
            return self._takeOther(kind, number, body)
        task = self.held.pop(number, None)
        if task is None:
            self._updated(number, outcome)
            return 0
        self.finished += 1
        if self.times is not None:
            self._time(number)
        self._lasted(number, outcome)
        task.callback(("k", None) if task.cancelled else outcome)
        return 1

    def _lasted(self, number: int, outcome: tuple[str, Any]) -> None:
        """
        Have an update kept that has succeeded.
        """
        body = self._lasting.pop(number, None)
        if body is not None and outcome[0] == "r":
            self.onLasted(body)

    def _takeOther(self, kind: int, number: int, body: bytes) -> int:
        if kind == frames.STREAM:
            return self._begin(number)
        elif kind == frames.ITEMS or kind == frames.STREAM_END:
            source = self._streams.get(number)
            if kind == frames.STREAM_END and source is not None:
                del self._streams[number]
                closing = self._closings.pop(number, None)
                if closing is not None:
                    closing.stop()
            if source is not None:
                source.received(kind, body)
        elif kind == frames.ITEMS_PARTS:
            source = self._streams.get(number)
            if source is not None:
                source.received(frames.ITEMS, body, self.child.taken)
            self.child.tookParts()
        elif kind == frames.RECALLED:
            self._isRecalling = False
            upTo, *others = numbersIn(body)
            given = [each for each in self.held if number < each <= upTo or each in others]
            for each in [each for each in self._updates if number < each <= upTo or each in others]:
                self._sendUpdate(self._updates.pop(each))
            for task in reversed(self._takeBack(given)):
                task.returned()
        elif kind == frames.TOOK:
            self._took[number] = SECONDS.unpack(body)[0]
        elif kind == frames.STACK_TEXT:
            stack = self._stacks.pop(number, None)
            if stack is not None:
                stack.callback(body.decode("utf-8", "replace"))
        else:
            # Nothing that it sends can be relied on.
            self._inbox.clear()
            self.child.broke(f"a record of kind {kind}")
        return 0

    def _takeBack(self, numbers: Iterable[int]) -> list[Task]:
        """
        Take tasks back that the child has never begun with.
        """
        tasks = []
        for number in numbers:
            self._lasting.pop(number, None)
            task = self.held.pop(number, None)
            if task is not None:
                self.accepted -= 1
                self._sent.pop(number, None)
                tasks.append(task)
        return tasks

    def _begin(self, number: int) -> int:
        """
        Begin with the stream that is the result of a call.
        """
        task = self.held.pop(number, None)
        if task is None:
            return 0
        self.finished += 1
        self._time(number)
        self._lasted(number, ("r", None))
        source = self._streams[number] = ChildSource(self, number, task)
        task.callback(("i", Deferator.over(source)))
        return 1

    def _updated(self, number: int, outcome: tuple[str, Any]) -> None:
        """
        Take note of what has become of an update that a successor was to run as well.
        """
        if number in self._updates:
            del self._updates[number]
            self._took.pop(number, None)
            if isinstance(outcome[1], Failure):
                self.log.failure("An update failed in the child {pid}", failure=outcome[1], pid=self.child.pid)
            if not self._updates:
                self._onPrepared()

    def _time(self, number: int) -> None:
        sent, took = self._sent.pop(number, None), self._took.pop(number, None)
        if sent is not None and took is not None and self.times is not None:
            self.times.append((monotonic() - sent, took))

    def _died(self, death: Death) -> None:
        """
        Give all tasks an outcome, or give them back if the child had not begun with them.
        """
        self.onDeath()
        # It is too late to take over, even if it had run all updates.
        self._onPrepared = int
        # What it had sent before counts, however much that is.
        self._isReading = True
        try:
            self._takeUntil(inf)
        finally:
            self._isReading = False
        self.close()
        held, self.held = self.held, {}
        self._endStreams(f"{death.subject} {death.describe()}")
        stacks, self._stacks = self._stacks, {}
        for stack in stacks.values():
            stack.errback(WorkerLost(f"{death.subject} {death.describe()}"))
        for number, task in held.items():
            doomed = self._doomed.get(number)
            if doomed is not None:
                task.callback(("x", doomed))
            elif task.cancelled:
                task.callback(("k", None))
            elif number <= death.begun:
                task.callback(("l", _lossText(death)))
            else:
                task.returned()
        self.onGone(death)


def _ignore(number: int, began: float) -> None:
    return


def _lossText(death: Death) -> str:
    lines = "".join(f"\n  stderr: {line}" for line in death.lastLines[-5:])
    return f"{death.subject} {death.describe()}{lines}"


def _undecodable(error: BaseException) -> ResultDecodeError:
    wrapped = ResultDecodeError(f"the result could not be decoded: {said(error)}")
    wrapped.__cause__ = error
    return wrapped
