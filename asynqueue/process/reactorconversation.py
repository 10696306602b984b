"""
What is between a worker and a child that runs its calls in a reactor, many at once.

Data flow::

    worker -> ReactorConversation -> Caller: boxes of AMP -> PipeWriter ====> data pipe (3): ReactorChild -> Runner
                  ^      ^              ^                                                       |        |
                  |      |              +--- PipeReader <================== outcomes (4) -------+        |
                  |      +---- Page: the number of the call that the child has begun with last <---------+
                  +-- Lineage: starts, replaces, retires

Everything that the child has begun with, by the page or by its own word, may have run when the child is lost. It goes
on with the calls that it has begun with while it begins with others; so it may hold more calls than one that runs one
after the other, by those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from asynqueue.process import frames
from asynqueue.process.childprocess import ChildProcess, Life
from asynqueue.process.conversation import Conversation
from asynqueue.process.pipetransport import PipeTransport
from asynqueue.protocol import records
from asynqueue.protocol.caller import Caller, CallerEnd
from asynqueue.protocol.records import numbersIn
from asynqueue.protocol.runner import MOST

if TYPE_CHECKING:
    from asynqueue.deferreds.deadline import Deadline
    from asynqueue.errors import WorkerError
    from asynqueue.process.output import OutputLines
    from asynqueue.tasks import Task

#: The kinds of records that are the outcome of a call.
_FINAL = frozenset([records.RESULT, records.NOTHING, records.ERROR, records.CANCELLED, records.STREAM])


class ParentEnd(CallerEnd, amp.AMP):
    """
    The parent's end of the connection.
    """

    def __init__(self, caller: Caller, broken: Callable[[str], object]) -> None:
        """
        @param broken: Called with a text if the child does not keep to the protocol.
        """
        amp.AMP.__init__(self)
        self.caller = caller
        self._broken = broken

    def makeConnection(self, transport: PipeTransport) -> None:
        """
        Begin, without a line in the log as AMP writes it.
        """
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End, likewise.
        """
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None

    def unhandledError(self, failure: Failure) -> None:
        """
        End the connection, and the child: it has sent something that cannot be understood.
        """
        self._broken(failure.getErrorMessage())


class ReactorChildProcess(ChildProcess):
    """
    A child with a reactor, as its parent sees it.
    """

    # Calls go on side by side, and results are cut to pieces for AMP.
    sharesMemory = False

    def __init__(
        self,
        reactor: Any,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        output: OutputLines,
        limit: int,
    ) -> None:
        # What the parent's coroutines may await, those in the child may, too.
        isAsyncio = type(reactor).__module__ == "twisted.internet.asyncioreactor"
        super().__init__(reactor, {**settings, "isAsyncio": isAsyncio}, environment, output, limit)
        # A ParentEnd, whose methods have no types.
        self._protocol: Any = None
        self._caller = Caller(self._callRemote, limit)
        self._caller.onReady = self._gotReady
        self._caller.onRecords = self._gotRecords

    def connectionMade(self) -> None:
        """
        Take over the pipes, and speak AMP over them.
        """
        super().connectionMade()
        assert self._data is not None
        self._protocol = ParentEnd(self._caller, self.broke)
        self._protocol.makeConnection(PipeTransport(self._data, lambda: self.broke("a key that is too long")))

    def _callRemote(self, command: type[amp.Command], **arguments: Any) -> None:
        if self._protocol is not None:
            self._protocol.callRemote(command, **arguments)

    def _received(self, data: bytes) -> None:
        # Hot path, watched by `bench --only processes`.
        if self._protocol is not None and not self._isBroken:
            try:
                self._protocol.dataReceived(data)
            except Exception as error:  # AMP raises whatever it comes to with boxes that are none
                self.broke(f"a box that is none: {type(error).__name__}: {error}")

    def _gotReady(self) -> None:
        if self.life is Life.STARTING:
            self.life = Life.READY
            self.onReady()

    def _gotRecords(self, received: list[tuple[int, int, int, bytes]]) -> None:
        if self.life is Life.STARTING:
            self._started(*received[0])
        else:
            self.onRecords(received)

    def _close(self) -> None:
        super()._close()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost()

    def send(self, data: bytes) -> None:
        """
        Send records of calls.
        """
        self._caller.post(data)

    def control(self, kind: int, number: int, flags: int = 0) -> None:
        """
        Recall calls or cancel one.
        """
        if kind == frames.RECALL:
            self._caller.recall(number)
        elif kind == frames.INTERRUPT:
            self._caller.cancel(number, flags)

    def pull(self, number: int, count: int) -> None:
        """
        Have so many items more of a stream sent.
        """
        self._caller.pull(number, count)

    def closeStream(self, number: int) -> None:
        """
        Have an iterator closed.
        """
        self._caller.close(number)

    def end(self) -> None:
        """
        Have it end when it has done what it was sent.
        """
        from ampoule.commands import Shutdown

        if self.life is Life.READY and self._protocol is not None:
            self.life = Life.ENDING
            self._protocol.callRemote(Shutdown).addErrback(lambda failure: None)


class ReactorConversation(Conversation):
    """
    Sends calls to a child that runs many at once, and reports their outcomes.
    """

    child: ReactorChildProcess

    def __init__(self, child: ReactorChildProcess, *args: Any) -> None:
        """
        @param args: Those of L{Conversation}.
        """
        super().__init__(child, *args)
        self._underWay: set[int] = set()
        self._cancelled: set[int] = set()
        self._graces: dict[int, Deadline] = {}

    # To the child

    def capacity(self, window: int) -> int:
        """
        Return how many calls the child may hold: those that go on, and a few that have not been begun with.
        """
        number = len(self._underWay)
        return number if number >= MOST else number + window

    def isRunning(self) -> bool:
        """
        Tell whether a call, an update or a stream goes on in the child.
        """
        return bool(self.begun() or self._streams or self._updates)

    def hasBegun(self, number: int) -> bool:
        """
        Tell whether the child has begun with a call.
        """
        return number <= self.child.begun or number in self._underWay

    def begun(self) -> list[Task]:
        """
        Return the tasks that the child has begun with, and that have no outcome.
        """
        return [task for number, task in self.held.items() if self.hasBegun(number)]

    def recall(self) -> bool:
        """
        Ask the child to give back what it has not begun with.
        """
        if all(map(self.hasBegun, self.held)):
            return False
        self._recall()
        return True

    def interrupt(self, number: int, reason: int) -> None:
        """
        Cancel what a call waits for, or never begin with it.
        """
        if reason == records.UNWANTED:
            self._cancelled.add(number)
        super().interrupt(number, reason)

    def kill(self, number: int, error: WorkerError) -> None:
        """
        Cancel a call, which gets an error for it, and end the child if it goes on nevertheless.
        """
        self._doomed[number] = error
        if number not in self._cancelled:
            self.interrupt(number, records.UNWANTED)
        elif self.hasBegun(number):
            super().kill(number, error)
            return
        # The child would be ended in vain for a call that it has not come to.
        self._stopGrace(number)
        self._graces[number] = self.later(self.grace, lambda: self._graceOver(number, error))

    def _graceOver(self, number: int, error: WorkerError) -> None:
        del self._graces[number]
        if number in self.held:
            self.kill(number, error)

    def _stopGrace(self, number: int) -> None:
        timer = self._graces.pop(number, None)
        if timer is not None:
            timer.stop()

    def pull(self, number: int, count: int) -> None:
        """
        Have the child send so many items more of a stream.
        """
        self.child.pull(number, count)

    def closeStream(self, number: int) -> None:
        """
        Have the child close an iterator, and end the child if that takes too long.
        """
        self.child.closeStream(number)
        self._closings[number] = self.later(self.grace, lambda: self._notClosed(number))

    def closeStreams(self) -> bool:
        """
        Return C{False}: such a child closes its iterators when it notices that its parent is gone.
        """
        return False

    def watch(self) -> None:
        """
        Do nothing: items are sent as they come.
        """

    def stack(self) -> Deferred[str]:
        """
        @return: Errbacks with C{NotImplementedError}: such a child does not listen to its control pipe.
        """
        return fail(NotImplementedError("a child with a reactor does not tell its stack"))

    def close(self) -> None:
        """
        Take no more notice of what the child sends.
        """
        super().close()
        for number in tuple(self._graces):
            self._stopGrace(number)

    # From the child

    def _takeUntil(self, until: float) -> int:
        # Hot path, watched by `bench --only processes`. What ends a call is looked at more closely here.
        inbox = self._inbox
        finished = 0
        while inbox:
            finished += self._take(*inbox.popleft())
            if monotonic() > until:
                break
        return finished

    def _take(self, kind: int, flags: int, number: int, body: bytes) -> int:
        # Hot path, watched by `bench --only processes`.
        if kind == records.BEGUN:
            before = len(self._underWay)
            self._underWay.update(each for each in numbersIn(body) if each in self.held)
            if len(self._underWay) > before:
                self.onBegun()
            return 0
        if kind in _FINAL:
            self._underWay.discard(number)
            if self._cancelled:
                self._cancelled.discard(number)
                self._stopGrace(number)
            doomed = self._doomed.pop(number, None) if self._doomed else None
            if doomed is not None or kind == records.CANCELLED:
                return self._ended(number, ("k", None) if doomed is None else ("x", doomed), kind)
        finished = super()._take(kind, flags, number, body)
        if kind == records.RECALLED:
            self._cancelled.intersection_update(self.held)
            self._underWay.intersection_update(self.held)
        return finished

    def _ended(self, number: int, outcome: tuple[str, Any], kind: int) -> int:
        task = self.held.pop(number, None)
        if task is None:
            return 0
        self._lasting.pop(number, None)
        self.finished += 1
        if kind == records.STREAM:
            # Nobody is going to read it.
            self.child.closeStream(number)
        task.callback(outcome)
        return 1
