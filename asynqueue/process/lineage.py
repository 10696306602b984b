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

from asynqueue.process.checkup import Checkup
from asynqueue.process.childprocess import ChildProcess, Death, Life
from asynqueue.process.conversation import Conversation
from asynqueue.process.encoding import CallEncoder, Unpickler
from asynqueue.process.guard import guard, guardNoMore
from asynqueue.process.health import memoryOf
from asynqueue.process.output import OutputLines
from asynqueue.process.page import sweep
from asynqueue.process.succession import Succession

if TYPE_CHECKING:
    from collections import deque

    from twisted.internet.interfaces import IDelayedCall

    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.process.childspec import ChildSpec
    from asynqueue.tasks import Task

#: How long, in seconds, a child that has been told to end may take for it.
END_LIMIT = 2.0

#: How long, in seconds, between two looks at how a child is that has something to do.
CHECK = 2.0

#: How long, in seconds, between two looks at the memory of a child.
MEMORY_CHECK = 0.25

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
        self._standby: Conversation | None = None
        self._all: dict[Conversation, Checkup] = {}
        self._timers: dict[Conversation, Deadline] = {}
        self._restart: IDelayedCall | None = None
        self._age: IDelayedCall | None = None
        self._check: IDelayedCall | None = None
        self._checkedMemory = 0.0
        self._memoryLook: IDelayedCall | None = None
        self._baseline: int | None = None
        self._isEnding = False
        self._isDue = False
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

    def entered(self) -> list[Task]:
        """
        Return those of them whose functions have been called.
        """
        return [task for conversation in self._all for task in conversation.entered()]

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
        conversation.onLasted = lambda body: self._keepUpdate(conversation, body)
        conversation.onGone = lambda death: self._died(conversation, death)
        child.onReady = lambda: self._ready(conversation)
        # A child may have come to its end before the call that starts it returns.
        self._starting = conversation
        self._all[conversation] = Checkup(conversation)
        try:
            child.start()
        except OSError as error:
            # No room for another process or file; there may be some later.
            self._starting = None
            del self._all[conversation]
            self._failed(f"it could not be started: {error}", wasStarted=False)
            return
        if conversation not in self._all:
            return
        if spec.isGuarded and child.pid is not None:
            guard(self._reactor, child.pid)
        self._timers[conversation] = conversation.later(spec.startLimit, lambda: self._tookTooLong(child))

    def _tookTooLong(self, child: ChildProcess) -> None:
        self._succession.tookTooLong()
        child.kill("took too long to get ready")

    def _conversation(self, output: OutputLines) -> Conversation:
        """
        Return what there is to be between the worker and a child of its kind.
        """
        spec = self._spec
        rest = (self._encoder, Unpickler, self._numbers, self._times)
        if spec.hasReactor:
            # It loads AMP, and with it TLS, which takes a while.
            from asynqueue.process.reactorconversation import ReactorChildProcess, ReactorConversation

            reactorChild = ReactorChildProcess(self._reactor, spec.settings, spec.environment, output, spec.limit)
            return ReactorConversation(reactorChild, self._family.raw, self._reactor, *rest)
        child = ChildProcess(self._reactor, spec.settings, spec.environment, output, spec.limit)
        return Conversation(child, self._family.raw, self._reactor, *rest)

    def _ready(self, conversation: Conversation) -> None:
        """
        Have a child run the updates that its predecessors have run, and then let it take over.
        """
        self._stopTimer(conversation)
        self._prepare(conversation, 0)
        self._checkLater()

    def _prepare(self, conversation: Conversation, start: int) -> None:
        missing = self.updates[start:]
        if missing:
            # Meanwhile there may come more.
            conversation.prepare(missing, lambda: self._prepare(conversation, start + len(missing)))
        else:
            self._takesOver(conversation)

    def _takesOver(self, conversation: Conversation) -> None:
        """
        Let a child take over that is ready for calls, unless the present one has some left that it may run.
        """
        self._succession.gotReady()
        most, current = self._spec.maxTasks, self.current
        if most is not None and current is not None and not self._isDue and current.accepted < most:
            self._standby = conversation
            return
        self._standby = None
        self._isDue = False
        self._starting = None
        predecessor, self.current = self.current, conversation
        self._baseline = None
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
        self._checkLater()
        most = self._spec.maxTasks
        if most is not None and self.current is not None and self.current.accepted >= most:
            self._replace()

    def _keepUpdate(self, conversation: Conversation, body: bytes) -> None:
        """
        Have the successors of a child run an update, too, which has succeeded: those to come, and one that is ready.
        """
        self.updates.append(body)
        for other in (self.current, self._standby):
            if other is not None and other is not conversation:
                # It runs that before the calls that it is going to be sent.
                other.prepare([body], int)

    def _replace(self) -> None:
        """
        Let a successor take over as soon as there is one.
        """
        self._isDue = True
        if self._standby is not None:
            self._takesOver(self._standby)
        else:
            self._succeed()

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
            self._replace()
            self._family.childChanged()

    def _tooOld(self) -> None:
        self._age = None
        self._tellRetirement("is old enough")
        self._replace()

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
            self._replace()
        elif growth is not None and memory > growth * self._baseline:
            self._tellRetirement(f"has grown from {self._baseline} to {memory} kilobytes")
            self._replace()

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
            self._timers[conversation] = conversation.later(
                END_LIMIT, lambda: child.kill("did not end when it was told to")
            )

    # Health

    def _checkLater(self) -> None:
        # Hot path, watched by `bench --only processes`.
        if self._check is None:
            self._check = self._reactor.callLater(CHECK, self._checkVitals)

    def _checkVitals(self) -> None:
        """
        End the children that are hung.
        """
        self._check = None
        busy = False
        for conversation, checkup in tuple(self._all.items()):
            if conversation is not self._starting or conversation.child.life is Life.READY:
                busy = busy or not conversation.isIdle
                verdict = checkup.look()
                if verdict:
                    conversation.child.kill(verdict)
        if busy:
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
            self._starting = self._standby = None
            self._failed(death.describe(), death.lastLines)
        elif conversation is self._wasCurrent:
            self._wasCurrent = None
            if not wasExpected:
                self.log.warn("The child {pid} {how}", pid=conversation.child.pid, how=death.describe())
            if self._standby is not None and not self._isEnding:
                self._takesOver(self._standby)
            elif not self._isEnding and self._starting is None and self.current is None and self._restart is None:
                self._restart = self._reactor.callLater(
                    self._succession.ended(True, conversation.finished), self._start
                )
            self._family.childChanged()
        if self._isEnding and not self._all:
            self._stopAll()
            self._family.allGone(self)

    def _failed(self, reason: str, lastLines: list[str] | None = None, wasStarted: bool = True) -> None:
        """
        Try again later to start a child.
        """
        delay = self._succession.ended(False, 0, wasStarted)
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
            self._giveUp(conversation)
        self.current = None
        if not conversations:
            self._family.allGone(self)
        return conversations

    def _giveUp(self, conversation: Conversation) -> None:
        """
        End a child at once, or as soon as it has closed its iterators, if it is at nothing else.
        """
        child = conversation.child
        if conversation.closeStreams():
            self._timers[conversation] = conversation.later(
                END_LIMIT, lambda: child.kill("did not let go of its iterators")
            )
        else:
            child.kill("was given up with its worker")

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
        if timer is not None:
            timer.stop()
