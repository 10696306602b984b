"""
The children of a worker, one after the other: how they are started, replaced and retired.

A child that has died is replaced: at once, or after a while if children come to nothing. One that is to be retired,
for it has run enough calls, grown too large or is too old, gets no more calls as soon as its successor is ready, and
ends when it is done with those it has.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from asynqueue.errors import EncodeError
from asynqueue.process.childprocess import ChildProcess, Death, Life
from asynqueue.process.conversation import Conversation
from asynqueue.process.encoding import CallEncoder
from asynqueue.process.guard import guard, guardNoMore
from asynqueue.process.health import Vitals, memoryOf, vitalsOf
from asynqueue.process.output import OutputLines
from asynqueue.process.page import sweep
from asynqueue.process.parts import Parts
from asynqueue.process.succession import Succession

if TYPE_CHECKING:
    from collections import deque

    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.process.childspec import ChildSpec
    from asynqueue.tasks import Task

#: How long, in seconds, a child that has been told to end may take for it.
END_LIMIT = 2.0

#: How long, in seconds, between two looks at how a child is that has something to do.
CHECK = 2.0

#: How long, in seconds, between two looks at the memory of a child.
MEMORY_CHECK = 0.25

#: After so many looks in a row at which a child was stopped, or did nothing with calls at hand, it is hung.
STRIKES = 3

#: From this part of its calls on, a child that may run only so many has a successor started.
AHEAD = 0.8


class Family(Protocol):
    """
    The worker, as the lineage of its children knows it.
    """

    raw: bool

    def reported(self, conversation: Conversation, number: int, began: float) -> None:
        """
        Take note that some calls have been given their outcomes, beginning at a time on the monotonic clock.
        """

    def begunMore(self, conversation: Conversation) -> None:
        """
        Take note that a child may hold more calls.
        """

    def childChanged(self) -> None:
        """
        Take note that there is a child that is ready for calls, or no more.
        """

    def startFailed(self, reason: str) -> None:
        """
        Take note that several children in a row could not be started.
        """

    def describeRunning(self) -> str:
        """
        Return what the present child is running, as text.
        """

    def allGone(self, lineage: Lineage) -> None:
        """
        Take note that the last child is gone, after C{end} or C{kill}.
        """


class Lineage:
    """
    Sees to it that there is a child.

    @ivar updates: The pickles of calls that each child is to run before others.
    @ivar current: What is said to and by the child that gets calls, if one is ready.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        spec: ChildSpec,
        family: Family,
        numbers: Callable[[], int],
        times: deque[tuple[float, float]] | None,
    ) -> None:
        self.current: Conversation | None = None
        self.updates: list[bytes] = []
        self._reactor = reactor
        self._spec = spec
        self._family = family
        self._numbers = numbers
        self._times = times
        self._succession = Succession()
        self._wasCurrent: Conversation | None = None
        self._starting: Conversation | None = None
        self._all: dict[Conversation, None] = {}
        self._timers: dict[Conversation, IDelayedCall] = {}
        self._restart: IDelayedCall | None = None
        self._age: IDelayedCall | None = None
        self._check: IDelayedCall | None = None
        self._lastVitals: Vitals | None = None
        self._lastFinished = 0
        self._strikes = 0
        self._checkedMemory = 0.0
        self._memoryLook: IDelayedCall | None = None
        self._baseline: int | None = None
        self._isEnding = False
        self._encoder = CallEncoder(spec.dumps, spec.variables, spec.limit)

    def tasks(self) -> list[Task]:
        """
        Return the tasks that children have been sent and that have no outcome.
        """
        return [task for conversation in self._all for task in conversation.held.values()]

    def begun(self) -> list[Task]:
        """
        Return those of them that children have begun with.
        """
        return [task for conversation in self._all for task in conversation.begun()]

    def find(self, task: Task) -> tuple[Conversation, int] | tuple[None, int]:
        """
        Return where a task has been sent and has no outcome from, and by what number; or C{None}.
        """
        for conversation in self._all:
            number = conversation.numberOf(task)
            if number is not None:
                return conversation, number
        return None, 0

    def begin(self) -> None:
        """
        Start a child, if there is none.
        """
        self._isEnding = False
        sweep()
        if self.current is None and self._starting is None and self._restart is None:
            self._start()

    def _start(self) -> None:
        self._restart = None
        spec = self._spec
        output = OutputLines(lambda: repr(self._family), self._family.describeRunning)
        conversation = self._conversation(output)
        child = conversation.child
        conversation.onBegun = lambda: self._family.begunMore(conversation)
        conversation.onReported = lambda number, began: self._reported(conversation, number, began)
        conversation.grace = spec.grace
        conversation.onWorn = lambda: self._worn(conversation)
        conversation.onDeath = lambda: self._dying(conversation)
        conversation.onGone = lambda death: self._died(conversation, death)
        child.onReady = lambda: self._ready(conversation)
        # A child may have come to its end before the call that starts it returns.
        self._starting = conversation
        self._all[conversation] = None
        try:
            child.start()
        except OSError as error:
            # No room for another process or file; there may be some later.
            self._starting = None
            del self._all[conversation]
            self._failed(f"it could not be started: {error}")
            return
        if conversation not in self._all:
            return
        if spec.isGuarded and child.pid is not None:
            guard(self._reactor, child.pid)
        self._timers[conversation] = self._reactor.callLater(spec.startLimit, child.kill, "took too long to get ready")

    def _conversation(self, output: OutputLines) -> Conversation:
        """
        Return what there is to be between the worker and a child of its kind.
        """
        spec = self._spec
        rest = (self._encoder, self._numbers, self._times)
        if spec.hasReactor:
            # It loads AMP, and with it TLS, which takes a while.
            from asynqueue.process.reactorconversation import ReactorChildProcess, ReactorConversation

            reactorChild = ReactorChildProcess(self._reactor, spec.settings, spec.environment, output, spec.limit)
            return ReactorConversation(reactorChild, self._family.raw, self._reactor, *rest)
        child = ChildProcess(self._reactor, spec.settings, spec.environment, output, spec.limit)
        return Conversation(child, self._family.raw, self._reactor, *rest)

    def _ready(self, conversation: Conversation) -> None:
        """
        Let a child take over that is ready for calls.
        """
        self._stopTimer(conversation)
        self._succession.gotReady()
        self._starting = None
        conversation.prepare(self.updates)
        predecessor, self.current = self.current, conversation
        self._baseline = None
        self._strikes = 0
        self._lastVitals = None
        if self._spec.maxAge is not None:
            # Those that were started together do not retire together.
            self._stopAge()
            age = self._spec.maxAge * random.uniform(0.9, 1.1)
            self._age = self._reactor.callLater(age, self._tooOld)
        if predecessor is not None:
            self._retire(predecessor)
        if self._isEnding:
            self.end()
        self._family.childChanged()

    # Retirement

    def capacity(self, window: int) -> int:
        """
        Return how many calls the present child may hold.

        @param window: How many fit into a few milliseconds.
        """
        # Hot path, watched by `bench --only processes`.
        current = self.current
        if current is None:
            return 0
        capacity = current.capacity(window)
        most = self._spec.maxTasks
        return capacity if most is None else min(capacity, len(current.held) + most - current.accepted)

    def _reported(self, conversation: Conversation, number: int, began: float) -> None:
        if conversation is self.current:
            if self._spec.maxTasks is not None and conversation.accepted >= AHEAD * self._spec.maxTasks:
                self._succeed()
            if self._spec.maxMemory is not None or self._spec.maxGrowth is not None:
                self._checkMemory(conversation)
        self._family.reported(conversation, number, began)
        self._endIfDone(conversation)

    def gaveCall(self) -> None:
        """
        Take note that the present child has been given a call.
        """
        if self._check is None:
            self._check = self._reactor.callLater(CHECK, self._checkVitals)
        most = self._spec.maxTasks
        if most is not None and self.current is not None and self.current.accepted >= most:
            self._succeed()

    def keepUpdate(self, task: Task) -> None:
        """
        Have the successors of the present child run an update, too.
        """
        try:
            name, rest = self._encoder.encode(task)
            self.updates.append(name + (b"".join(rest.inline()) if isinstance(rest, Parts) else rest))
        except EncodeError:
            # The update has failed with that.
            return

    def _succeed(self) -> None:
        """
        Start a successor, unless that has been done.
        """
        if self._starting is None and self._restart is None and not self._isEnding:
            self._start()

    def _worn(self, conversation: Conversation) -> None:
        """
        Give no more calls to a child that has run out of memory.
        """
        if conversation is self.current:
            self._tellRetirement("has run out of memory")
            self.current = None
            self._stopAge()
            self._retire(conversation)
            self._succeed()
            self._family.childChanged()

    def _tooOld(self) -> None:
        self._age = None
        self._tellRetirement("is old enough")
        self._succeed()

    def _checkMemory(self, conversation: Conversation) -> None:
        if not conversation.finished or conversation.child.pid is None or conversation is not self.current:
            return
        now = monotonic()
        if now - self._checkedMemory < MEMORY_CHECK:
            if self._memoryLook is None:
                self._memoryLook = self._reactor.callLater(MEMORY_CHECK, self._lookAgain, conversation)
            return
        self._checkedMemory = now
        memory = memoryOf(conversation.child.pid)
        if memory is None:
            return
        if self._baseline is None:
            self._baseline = memory
        most, growth = self._spec.maxMemory, self._spec.maxGrowth
        if most is not None and memory > most:
            self._tellRetirement(f"has grown to {memory} kilobytes, where {most} are the most")
            self._succeed()
        elif growth is not None and memory > growth * self._baseline:
            self._tellRetirement(f"has grown from {self._baseline} to {memory} kilobytes")
            self._succeed()

    def _lookAgain(self, conversation: Conversation) -> None:
        self._memoryLook = None
        self._checkMemory(conversation)

    def _tellRetirement(self, why: str) -> None:
        if self._starting is None and self.current is not None:
            self.log.info("The child {pid} {why}, and gets a successor", pid=self.current.child.pid, why=why)

    def _retire(self, conversation: Conversation) -> None:
        conversation.isRetired = True
        self._endIfDone(conversation)

    def _endIfDone(self, conversation: Conversation) -> None:
        child = conversation.child
        if conversation.isIdle and (conversation.isRetired or self._isEnding) and child.life is Life.READY:
            child.end()
            self._timers[conversation] = self._reactor.callLater(
                END_LIMIT, child.kill, "did not end when it was told to"
            )

    # Health

    def _checkVitals(self) -> None:
        """
        End a child that is hung: it has been stopped, or it does nothing with calls at hand.
        """
        self._check = None
        current = self.current
        if current is None or current.isIdle or current.child.pid is None:
            self._strikes = 0
            return
        vitals = vitalsOf(current.child.pid)
        last, self._lastVitals = self._lastVitals, vitals
        isLazy = (
            vitals is not None
            and last is not None
            and vitals.ticks == last.ticks
            and current.held
            and (not current.isRunning() or current.isOverdue())
            and current.finished == self._lastFinished
        )
        self._lastFinished = current.finished
        if vitals is not None and (vitals.isStopped or isLazy):
            self._strikes += 1
            if self._strikes >= STRIKES:
                self._strikes = 0
                current.child.kill("was hung: it had been stopped" if vitals.isStopped else "was hung: it did nothing")
        else:
            self._strikes = 0
        self._check = self._reactor.callLater(CHECK, self._checkVitals)

    # The end

    def _dying(self, conversation: Conversation) -> None:
        if conversation is self.current:
            self.current = None
            self._stopAge()
            self._wasCurrent = conversation

    def _died(self, conversation: Conversation, death: Death) -> None:
        self._stopTimer(conversation)
        if self._spec.isGuarded and conversation.child.pid is not None:
            guardNoMore(conversation.child.pid)
        del self._all[conversation]
        wasExpected = death.wasExpected
        if conversation is self._starting:
            self._starting = None
            self._failed(death.describe(), death.lastLines)
        elif conversation is self._wasCurrent:
            self._wasCurrent = None
            if not wasExpected:
                self.log.warn("The child {pid} {how}", pid=conversation.child.pid, how=death.describe())
            if not self._isEnding and self._starting is None and self.current is None and self._restart is None:
                self._restart = self._reactor.callLater(
                    self._succession.ended(True, conversation.finished), self._start
                )
            self._family.childChanged()
        if self._isEnding and not self._all:
            self._stopAll()
            self._family.allGone(self)

    def _failed(self, reason: str, lastLines: list[str] | None = None) -> None:
        """
        Try again later to start a child.
        """
        delay = self._succession.ended(False, 0)
        if self._isEnding:
            return
        self._restart = self._reactor.callLater(delay, self._start)
        if self._succession.isHopeless and self.current is None:
            self._family.startFailed(reason + "".join(f"\n  stderr: {line}" for line in lastLines or []))

    def end(self) -> None:
        """
        Have all children end, those that run calls or have streams when they are done.
        """
        self._isEnding = True
        self._stopRestart()
        if self._starting is not None:
            self._starting.child.kill("was not needed any more")
        for conversation in tuple(self._all):
            self._endIfDone(conversation)
        if not self._all:
            self._stopAll()
            self._family.allGone(self)

    def kill(self) -> list[Conversation]:
        """
        End all children at once.

        @return: What was said to and by them.
        """
        self._isEnding = True
        self._stopAll()
        conversations = list(self._all)
        for conversation in conversations:
            conversation.child.kill("was given up with its worker")
        self.current = None
        if not conversations:
            self._family.allGone(self)
        return conversations

    def _stopAll(self) -> None:
        self._stopRestart()
        self._stopAge()
        for conversation in tuple(self._timers):
            self._stopTimer(conversation)
        timers = (self._check, self._memoryLook)
        self._check = self._memoryLook = None
        for timer in timers:
            if timer is not None:
                timer.cancel()

    def _stopRestart(self) -> None:
        restart, self._restart = self._restart, None
        if restart is not None:
            restart.cancel()

    def _stopAge(self) -> None:
        age, self._age = self._age, None
        if age is not None:
            age.cancel()

    def _stopTimer(self, conversation: Conversation) -> None:
        timer = self._timers.pop(conversation, None)
        if timer is not None and timer.active():
            timer.cancel()
