"""
Stateful tests of streams: whatever the source, the reader and the engine do in whatever order, the items come in order,
none is lost or comes twice, and there is one end.

The source numbers its items. It answers a pull now, where an answer has been planned, or later. There is one reader at
a time: one that asks for Deferreds, a coroutine, or a producer with its consumer.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.deferreds.deadline import Deadline
from asynqueue.errors import NotReadyError, TimeoutError
from asynqueue.failures import errorText
from asynqueue.iteration.batches import WINDOW, Batch
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.producer import IterationProducer
from asynqueue.iteration.stream import StreamState
from test.streamed import ScriptedSource, ToldConsumer

EXAMPLES = int(os.environ.get("ASYNQUEUE_HYPOTHESIS_EXAMPLES", "200"))

SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

#: Seconds that the source may take for an answer.
PATIENCE = 5

sizes = st.integers(0, WINDOW)
ends = st.sampled_from(["", "", "", "", "last", "error"])

#: The errors that end a stream; each reader may get other ones, which end only his own reading.
FATAL = (KeyError, ValueError, TimeoutError)


class PlannedSource(ScriptedSource):
    """
    A source that makes numbered items, and answers as has been planned.

    @ivar made: How many items it has made that the stream must deliver.
    @ivar plans: The sizes and ends of the answers that are to come now.
    @ivar hasEnded: Whether it has come to its end before it was closed.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.made = 0
        self.plans: list[tuple[int, str]] = []
        self.hasEnded = False

    def batch(self, size: int, end: str) -> Batch:
        """
        Make items.
        """
        most = min(size, self.pulled[-1])
        if self.tellsEnd and not most and end != "error" and (self.made or not end):
            # It has promised one.
            most = 1
        items = list(range(self.made, self.made + most))
        if not self.closed:
            self.made += most
            self.hasEnded = bool(end)
        return Batch(items, end == "last", errorText(KeyError("wrong")) if end == "error" else None)

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Answer by plan, or later.
        """
        if self.plans and self._pending is None:
            self.pulled.append(most)
            self.ready.append(self.batch(*self.plans.pop(0)))
            self.pulled.pop()
        return super().pull(most)

    def answerLater(self, size: int, end: str) -> None:
        """
        Answer the pull that waits.
        """
        batch = self.batch(size, end)
        self.answer(*batch.items, isLast=end == "last", error=batch.error)


class StreamMachine(RuleBasedStateMachine):
    """
    A stream, its source and its reader.
    """

    @initialize(
        runsAhead=st.booleans(), tellsEnd=st.booleans(), isTimed=st.booleans(), least=st.sampled_from((0, 1, 20, 40))
    )
    def make(self, runsAhead: bool, tellsEnd: bool, isTimed: bool, least: int) -> None:
        """
        Make the stream, which nobody ends before so many items have been read: too many would have none otherwise.
        """
        self.least = least
        self.clock = Clock()
        self.source = PlannedSource(runsAhead=runsAhead, tellsEnd=tellsEnd)
        self.deferator: Deferator | None = Deferator.over(self.source)
        self.stream = self.deferator.stream
        if isTimed:
            self.stream.makeDeadline = lambda func: Deadline(self.clock, self.clock.seconds, PATIENCE, func)
        self.onEnds = 0
        self.stream.onEnd = self.onEnd
        self.done: list[bool] = []
        self.stream.done.addCallback(self.done.append)
        self.got: list[int] = []
        self.errors: list[type[BaseException]] = []
        self.fatal: list[type[BaseException]] = []
        self.asked: Deferred[Any] | None = None
        self.reader: Deferred[None] | None = None
        self.producer: IterationProducer | None = None
        self.isPaused = False
        self.isLeaving = False
        self.gate: Deferred[None] | None = None

    def onEnd(self) -> None:
        """
        Count.
        """
        self.onEnds += 1

    def note(self, error: BaseException) -> None:
        """
        Note an error that a reader has got.
        """
        assert isinstance(error, (*FATAL, CancelledError, StopAsyncIteration)), repr(error)
        self.errors.append(type(error))
        if isinstance(error, FATAL):
            self.fatal.append(type(error))

    @property
    def isFree(self) -> bool:
        """
        Whether nobody reads.
        """
        return self.deferator is not None and self.isIdle

    @property
    def isIdle(self) -> bool:
        """
        Likewise, of a Deferator that may have been dropped.
        """
        return self.asked is None and self.reader is None and self.producer is None

    @property
    def mayEnd(self) -> bool:
        """
        Whether enough has been read.
        """
        return len(self.got) >= self.least

    @property
    def isOver(self) -> bool:
        """
        Whether there is nothing left.
        """
        return self.stream.state in (StreamState.CONCLUDED, StreamState.STOPPED)

    # The source

    @rule(size=sizes, end=ends)
    def plan(self, size: int, end: str) -> None:
        """
        Have a pull answered when it comes.
        """
        self.source.plans.append((size, end if self.mayEnd else ""))

    @precondition(lambda self: self.source.isPending)
    @rule(size=sizes, end=ends)
    def answer(self, size: int, end: str) -> None:
        """
        Answer a pull, be it too late.
        """
        self.source.answerLater(size, end if self.mayEnd else "")

    @precondition(lambda self: self.source.isPending and self.mayEnd)
    @rule()
    def failPull(self) -> None:
        """
        Fail it. A source that is broken has to be closed.
        """
        self.source.fail(KeyError("wrong"))

    # Whoever asks for Deferreds

    @precondition(lambda self: self.isFree and not self.isOver)
    @rule(count=st.integers(1, 20))
    def ask(self, count: int) -> None:
        """
        Ask for one item after another, until one is not there.
        """
        assert self.deferator is not None
        for _ in range(count):
            if self.asked is not None:
                break
            more = self.deferator.moreLeft
            try:
                d = next(self.deferator)
            except StopIteration:
                assert not self.deferator.moreLeft
                assert self.isOver
                break
            assert more
            self.asked = d
            d.addCallbacks(self.gotAsked, self.failedAsked)

    def gotAsked(self, item: int) -> None:
        """
        Note it.
        """
        self.asked = None
        self.got.append(item)

    def failedAsked(self, failure: Any) -> None:
        """
        Note it.
        """
        self.asked = None
        self.note(failure.value)

    @precondition(lambda self: self.asked is not None)
    @rule()
    def cancelAsked(self) -> None:
        """
        Wait no longer.
        """
        assert self.asked is not None
        self.asked.cancel()
        assert self.isIdle

    @precondition(lambda self: not self.isFree and self.deferator is not None and not self.isOver)
    @rule()
    def second(self) -> None:
        """
        Be refused while somebody else reads.
        """
        for intrude in (next, aiter):
            intruder: Any = intrude
            try:
                intruder(self.deferator)
            except NotReadyError:
                continue
            raise AssertionError("a second reader was not refused")

    # Coroutines

    @precondition(lambda self: self.isFree and not self.isOver)
    @rule()
    def startReader(self) -> None:
        """
        Read C{async for}.
        """
        self.isPaused = self.isLeaving = False
        done = Deferred.fromCoroutine(self.read())
        self.reader = None if done.called else done

    async def read(self) -> None:
        """
        Take items, until it is to leave.
        """
        assert self.deferator is not None
        try:
            async for item in self.deferator:
                self.got.append(item)
                if self.isPaused:
                    self.gate = Deferred()
                    await self.gate
                if self.isLeaving:
                    break
        except Exception as error:
            self.note(error)
        finally:
            self.gate = None
            self.reader = None

    @precondition(lambda self: self.reader is not None or self.producer is not None)
    @rule()
    def pause(self) -> None:
        """
        Take no more than the next item, or none.
        """
        self.isPaused = True
        if self.producer is not None:
            self.producer.pauseProducing()

    @precondition(lambda self: self.reader is not None or self.producer is not None)
    @rule()
    def resume(self) -> None:
        """
        Go on.
        """
        self.isPaused = False
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.callback(None)
        if self.producer is not None:
            self.producer.resumeProducing()

    @precondition(lambda self: self.reader is not None and self.mayEnd)
    @rule()
    def leave(self) -> None:
        """
        Leave the loop at the next item, or now.
        """
        self.isLeaving = True
        if self.gate is not None:
            self.resume()
            assert self.reader is None
            assert self.isOver

    @precondition(lambda self: self.reader is not None and self.mayEnd)
    @rule()
    def cancelReader(self) -> None:
        """
        Cancel the coroutine.
        """
        assert self.reader is not None
        self.reader.cancel()
        assert self.isIdle
        assert self.isOver

    # Producers

    @precondition(lambda self: self.isFree and not self.isOver)
    @rule()
    def startProducer(self) -> None:
        """
        Have everything written.
        """
        assert self.deferator is not None
        self.isPaused = False
        self.producer = IterationProducer(self.deferator, ToldConsumer(self.got.append))
        self.producer.run().addCallbacks(self.produced, self.notProduced)

    def produced(self, consumer: ToldConsumer) -> None:
        """
        Note the end.
        """
        assert consumer.unregistered == 1
        assert not consumer.failures
        self.producer = None

    def notProduced(self, failure: Any) -> None:
        """
        Note the error.
        """
        self.producer = None
        self.note(failure.value)

    @precondition(lambda self: self.producer is not None and self.mayEnd)
    @rule()
    def stopProducing(self) -> None:
        """
        Have the consumer go away.
        """
        assert self.producer is not None
        self.producer.stopProducing()
        assert self.isIdle
        assert self.isOver

    # Ends

    @precondition(lambda self: self.deferator is not None and self.mayEnd)
    @rule()
    def stop(self) -> None:
        """
        Leave.
        """
        assert self.deferator is not None
        self.deferator.stop()
        assert self.isOver

    @precondition(lambda self: self.isFree and self.mayEnd)
    @rule()
    def drop(self) -> None:
        """
        Forget the Deferator.
        """
        self.deferator = None
        assert self.isOver

    @precondition(lambda self: self.mayEnd)
    @rule()
    def engineFails(self) -> None:
        """
        Have the engine end the stream.
        """
        self.stream.fail(ValueError("given up"))

    @precondition(lambda self: self.mayEnd)
    @rule()
    def wait(self) -> None:
        """
        Let time pass.
        """
        self.clock.advance(PATIENCE + 1)
        assert self.clock.getDelayedCalls() == []

    # What must hold

    @invariant()
    def itemsAreInOrder(self) -> None:
        """
        None is lost, none comes twice.
        """
        assert self.got == list(range(len(self.got))), self.got
        assert self.stream.delivered == len(self.got)

    @invariant()
    def windowHolds(self) -> None:
        """
        The source is not further ahead than it may be.
        """
        if not self.isOver:
            assert self.source.made - len(self.got) == len(self.stream.items) <= WINDOW

    @invariant()
    def sourceIsClosedOnce(self) -> None:
        """
        Unless it has come to its end by itself.
        """
        isFlowing = self.stream.state is StreamState.FLOWING
        assert self.source.closed == (0 if isFlowing or self.source.hasEnded else 1)
        assert self.onEnds == (0 if isFlowing else 1)

    @invariant()
    def thereIsOneEnd(self) -> None:
        """
        What has been promised is kept when it comes, and nothing is left.
        """
        state = self.stream.state
        assert len(self.done) == (1 if self.isOver else 0)
        assert len(self.fatal) <= 1, self.fatal
        if state is StreamState.CONCLUDED:
            assert self.done == [not self.fatal]
            assert len(self.got) == self.source.made
        if state is StreamState.STOPPED:
            assert self.done == [False]
        if self.isOver:
            assert not self.stream.items
            assert self.asked is None
            assert self.reader is None or self.gate is not None
            assert not self.stream.isWaitedFor
        if self.stream.state is not StreamState.FLOWING:
            assert self.clock.getDelayedCalls() == []

    @invariant()
    def whoWaitsIsServed(self) -> None:
        """
        Nobody waits for what is there, or for a source that has not been asked.
        """
        isPausedReader = self.reader is not None and self.gate is not None
        isPausedProducer = self.producer is not None and self.isPaused
        if self.isFree or isPausedReader or isPausedProducer or self.isOver or self.deferator is None:
            return
        assert self.source.isPending
        assert self.stream.state is StreamState.FLOWING
        assert len(self.stream.items) <= (1 if self.asked is not None else 0)

    def teardown(self) -> None:
        """
        Let everybody finish: then all has been delivered.
        """
        if not hasattr(self, "stream"):
            return
        self.isLeaving = False
        if self.reader is not None or self.producer is not None:
            self.resume()
        self.source.plans.clear()
        for _ in range(50):
            if self.source.isPending:
                self.source.answerLater(1, "last")
            if self.isFree and not self.isOver:
                self.ask(20)
        assert self.isOver
        assert self.isIdle
        self.thereIsOneEnd()
        self.itemsAreInOrder()
        self.deferator = None
        gc.collect(0)


class StreamStateTests(SynchronousTestCase):
    """
    Runs the machine.
    """

    def test_streamsNeverLie(self) -> None:
        """
        No items are lost or doubled, nobody waits for ever, and each stream has one end.
        """
        run_state_machine_as_test(StreamMachine, settings=SETTINGS)
        self.assertEqual(self.flushLoggedErrors(), [])
