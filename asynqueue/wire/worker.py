"""
A worker that has calls run on another machine, or in another process of this one.

Data flow::

    queue -> WireWorker.accept -> WireConversation: bytes, number -> Link: lanes, boxes =====> node: Session
                  ^                       |
    queue <- task.callback <--------------+-- outcomes, in the order in which they come <===== node: Session
                  ^
    Connecting: connects, again and again if need be

States::

    APART --connected--> TOGETHER --lost--> APART, or the worker resigns
      |                     |
      +------- stop --------+--> the worker ends when all tasks are done
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.deferreds.deadline import Deadline, monotonicOf
from asynqueue.errors import AuthError, NotAuthorized, VersionMismatch, WorkerLost, WorkerStartError
from asynqueue.interfaces import IStartedWorker
from asynqueue.options import checkedCount, checkedTimeout
from asynqueue.process import frames
from asynqueue.scheduling.window import Window
from asynqueue.wire.calls import WireEncoder, WireResults
from asynqueue.wire.connecting import Connecting
from asynqueue.wire.endpoints import clientEndpoint
from asynqueue.wire.link import Link
from asynqueue.wire.preparing import PreparingConversation, Update
from asynqueue.wire.universe import WireWorkerUniverse
from asynqueue.workers.lifecycle import Readiness, checkedSeriesList, checkUnattached

if TYPE_CHECKING:
    from asynqueue.tasks import Task
    from asynqueue.wire.keys import Keys

#: How long, in bytes, a result may be.
LIMIT = 64 << 20

#: How much work, in seconds, a node may hold that it has not begun with.
TARGET = 0.004

#: What becomes of a worker whose connection is lost.
POLICIES = ("resign", "reconnect")

#: What trying again cannot mend.
FATAL = (AuthError, VersionMismatch, NotAuthorized)


@implementer(IStartedWorker)
class WireWorker:
    """
    Has calls run by a node: a L{asynqueue.wire.WireServer}, which may be on another machine.

    What is called is a name, of a method of the node's universe or of a function that has been exposed there; or a
    function itself, if this side has the role C{code} there. A call that was sent when the connection is lost may have
    run, and is lost; one that was not is given to others.

    @ivar unfitness: Why the worker takes no tasks, or an empty text.
    """

    cQualified: ClassVar[list[Hashable]] = ["wire", "remote"]

    #: What calls fail with that only an unfit worker could run.
    unfitnessKind = WorkerStartError

    #: The node counts the time that calls take from their starts.
    keepsTimeLimits = True

    log = Logger()

    def __init__(
        self,
        wwu: WireWorkerUniverse | None,
        description: str,
        series: Sequence[Hashable] = (),
        raw: bool = False,
        thread: bool = False,
        N_concurrent: int | None = None,
        *,
        reactor: Any = None,
        whenLost: str = "resign",
        keys: Keys | None = None,
        limit: int = LIMIT,
        timeout: float = 30.0,
        insecure_plaintext: bool = False,
        insecure_one_way_tls: bool = False,
    ) -> None:
        """
        @param wwu: An instance of the universe that the node has, or C{None}.
        @param description: Where the node listens, as L{asynqueue.wire.clientEndpoint} has it.
        @param series: What the worker is qualified for beside the series of its class, C{wire} and C{remote}.
        @param raw: Whether iterators are results like any other, which cannot travel mostly.
        @param thread: Whether methods are run in a thread there; the keyword C{thread} of a call says so for that call.
        @param N_concurrent: How many calls the node holds, whatever it can run, but no more than
            L{asynqueue.wire.link.OUTSTANDING}. They stay there until they are run, even if other workers have nothing
            to do. By default as many as it can run soon.
        @param reactor: The reactor; by default the global one.
        @param whenLost: C{"resign"}: the queue lets go of the worker when its connection is lost; C{"reconnect"}: it
            connects again, and takes no tasks meanwhile. Until it is connected first, it always tries again. It resigns
            in any case if an update fails, or cannot travel, that it has the node run then, as a worker is not attached
            on which an update fails.
        @param keys: The keys of this side, if not those of the usual place.
        @param limit: How long, in bytes, a result may be.
        @param timeout: Seconds that making a connection may take; and that a queue which is shut down waits for one.
        @param insecure_plaintext: Whether the connection may be one that others can read, change or use.
        @param insecure_one_way_tls: Whether it may be one of TLS that does not say who this side is.
        @raise ValueError: The description, or another argument, is wrong.
        @raise TypeError: C{wwu} is no universe, or another argument is of the wrong type.
        @raise InsecureTransport: The description is of a kind that needs a switch, which the message names.
        """
        if wwu is not None:
            WireWorkerUniverse.check(wwu)
        if whenLost not in POLICIES:
            raise ValueError(f"whenLost must be one of {', '.join(map(repr, POLICIES))}, not {whenLost!r}")
        if limit is None or timeout is None:
            raise TypeError(f"{'limit' if limit is None else 'timeout'} must be a number, not None")
        checkedCount(limit, "limit")
        checkedTimeout(timeout, "timeout")
        if reactor is None:
            from twisted.internet import reactor
        self.iQualified: list[Hashable] = checkedSeriesList(series)
        self.raw = raw
        self.unfitness = ""
        self._description = description
        self._most = checkedCount(N_concurrent, "N_concurrent")
        self._inThread = bool(thread)
        self._resigns = whenLost == "resign"
        self._reactor = reactor
        endpoint = clientEndpoint(
            reactor,
            description,
            keys=keys,
            timeout=timeout,
            insecure_plaintext=insecure_plaintext,
            insecure_one_way_tls=insecure_one_way_tls,
        )
        self._connecting = Connecting(reactor, endpoint, limit, self._connected, self._failed)
        # The one with the node, and the same when it has run the updates.
        self._conversation: PreparingConversation | None = None
        self._current: PreparingConversation | None = None
        self._waiting: list[Task] = []
        self._numbers = count(1).__next__
        self._window = Window(TARGET)
        self._untold: dict[Task, None] = {}
        # What the queue that the worker is attached to has had run.
        self._updates: list[Update] = []
        self._isStopping = False
        self._isQueueClosing = False
        # While it is waited for a connection that may never come.
        self._patience: Deadline | None = None
        self._timeout = timeout
        self._readiness = Readiness()
        self._starts = Readiness()
        self._ends = Readiness()
        self._attendant: Callable[[], object] | None = None
        self._resignator: Callable[[], object] = int

    def __repr__(self) -> str:
        state = "connected" if self._current is not None else "not connected"
        return f"<WireWorker to {self._description!r}, {state}>"

    # What there is to see

    @property
    def capacity(self) -> int:
        """
        How many tasks the worker may hold.
        """
        # Hot path, watched by `bench --only wire`.
        current = self._current
        return 0 if current is None else current.capacity(self._window.size, self._most)

    @property
    def tasks(self) -> list[Task]:
        """
        The tasks that the worker has and has given no outcome.
        """
        return [*self._waiting, *(() if self._current is None else self._current.held.values())]

    # What the queue asks

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Register what is called when the connection is lost for good.
        """
        self._resignator = callableObject

    def setAttendant(self, callableObject: Callable[[], object] | None) -> None:
        """
        Register who is to be told of changes, and connect.

        @raise ValueError: The worker belongs to a queue already.
        """
        checkUnattached(self, self._attendant, callableObject)
        self._attendant = callableObject
        self._isQueueClosing = False
        self._updates.clear()
        if callableObject is not None:
            self._begin()

    def queueClosing(self) -> None:
        """
        Resign if there is no connection, now or later, for as many seconds as making one may take, and the queue waits
        for calls that it may never be able to give to anybody.
        """
        if not self._isQueueClosing:
            self._isQueueClosing = True
            self._connecting.hurry()
            self._limitAbsence()

    def _limitAbsence(self) -> None:
        if (self._isQueueClosing or self._isStopping) and self._current is None and self._patience is None:
            self._patience = Deadline(self._reactor, monotonicOf(self._reactor), self._timeout, self._absent)

    def _absent(self) -> None:
        """
        Give back what waits for a connection, and wait for none any more.
        """
        self._patience = None
        self.log.warn(
            "{worker!r} has had no connection for {seconds:g} s, and is not waited for any longer",
            worker=self,
            seconds=self._timeout,
        )
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.returned()
        self._letGo()
        self._readiness.ready()
        if self._isStopping:
            self._endIfDone()
        else:
            self._resign()

    def _stopPatience(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.stop()

    def _begin(self) -> None:
        self._isStopping = False
        self.unfitness = ""
        self._connecting.start()

    def whenStarted(self) -> Deferred[None]:
        """
        @return: Fires when there is a connection. Errbacks L{AuthError}, L{NotAuthorized} or L{VersionMismatch} if
            there will be none, for one end does not want the other; and L{WorkerLost} if the worker is let go of first.
        """
        started = self._starts.wait()
        if self._current is not None:
            self._starts.ready()
        return started

    def whenGone(self) -> Deferred[None]:
        """
        @return: Fires when there is no connection.
        """
        return self._connecting.stopped()

    def run(self, task: Task) -> Deferred[None]:
        """
        Run a task after those that are here already.

        @return: Fires when the worker can take another.
        """
        waiter = self._readiness.wait()
        if self._current is None:
            self._waiting.append(task)
            self._begin()
        else:
            self._run(task)
        return waiter

    def _run(self, task: Task) -> None:
        self.accept(task)
        if len(self.tasks) < self.capacity:
            self._readiness.ready()

    def accept(self, task: Task) -> None:
        """
        Run a task after those that are here already.
        """
        # Hot path, watched by `bench --only wire`.
        current = self._current
        if current is None:
            task.returned()
            return
        window = self._window
        if window.since is None:
            window.since = monotonic()
        current.accept(task)
        if task.tellsStart:
            self._untold[task] = None

    def cancel(self, task: Task) -> None:
        """
        Cancel a task there, or never start it. Its place is free when the node has ended it.
        """
        current = self._current
        number = None if current is None else current.numberOf(task)
        if current is not None and number is not None:
            current.interrupt(number, frames.CANCELLED)

    def recall(self) -> list[Task]:
        """
        Ask the node for the tasks that it has not started; but not if it is to hold a certain number of them, until
        the worker is told to stop.

        @return: Those of which nothing has been sent. Each other task is given back when the node has replied.
        """
        current = self._current
        if current is None or (self._most is not None and not self._isStopping):
            return []
        unsent = current.takeUnsent()
        if current.recall():
            self._window.stalled()
        return unsent

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all tasks are done, all streams have ended and the connection is closed. What waits for one
            that cannot be had in as many seconds as making it may take is given back.
        """
        self._isStopping = True
        ended = self._ends.wait()
        if self._most is not None and self._attendant is not None:
            # The queue has asked for them before, when it was not known yet that they were not to stay.
            for task in self.recall():
                task.returned()
        self._endIfDone()
        if self._waiting:
            self._connecting.hurry()
            self._limitAbsence()
        return ended

    def _endIfDone(self) -> None:
        if self._isStopping and not self._waiting and (self._current is None or self._current.isIdle):
            self._stopPatience()
            self._letGo()
            self._connecting.stop().addCallback(lambda _: self._ends.ready())

    def _letGo(self) -> None:
        if self._starts.waiters:
            self._starts.fail(Failure(WorkerLost(f"{self!r} was let go of before it had a connection")))

    def crash(self) -> list[Task]:
        """
        Close the connection at once, and give back all tasks.
        """
        tasks, self._waiting = self._waiting, []
        conversation, self._conversation, self._current = self._conversation, None, None
        if conversation is not None:
            # Whatever becomes of the connection, it is not this worker's any more.
            conversation.onDeath = int
            conversation.onGone = id
            tasks += conversation.abandon()
        self._untold.clear()
        self._stopPatience()
        self._connecting.abort()
        self._letGo()
        self._readiness.ready()
        self._ends.ready()
        return tasks

    # What the connection tells

    def _connected(self, link: Link) -> None:
        """
        Take tasks.
        """
        assert link.peer is not None
        encoder = WireEncoder(link.peer, link.callLimit, self._inThread)
        current = self._conversation = PreparingConversation(
            link, self.raw, self._reactor, encoder, WireResults(link.peer), self._numbers, None
        )
        link.onLeaving = self._left
        link.onRoom = self._roomAgain
        link.begin()
        current.onReported = self._reported
        current.onBegun = self._begunMore
        current.onLasted = lambda body: self._lasted(*encoder.updateOf(body))
        current.onDeath = self._severed
        current.onGone = self._disconnected
        # What the node's workers have forgotten, or those of another node have never known.
        current.prepareBy(self._updates, lambda: self._together(current), self._notPrepared)

    def _lasted(self, task: Task, key: str) -> None:
        again = task.copy()
        again.ID, again.attempt = task.ID, task.attempt
        self._updates.append(Update(again, key))

    def _together(self, conversation: PreparingConversation) -> None:
        self._current = conversation
        self._stopPatience()
        self._window.since = None
        self._starts.ready()
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._run(task)
        self._tellAttendant()
        self._endIfDone()

    def _left(self) -> None:
        """
        Give back what has not been sent: the node takes no more.
        """
        current = self._current
        if current is not None:
            for task in current.takeUnsent():
                task.returned()
        self._tellAttendant()

    def _roomAgain(self) -> None:
        if self._current is not None:
            self._tellAttendant()

    def _failed(self, failure: Failure) -> bool:
        """
        Take note that there is no connection.

        @return: Whether it is worth while to try again.
        """
        if not failure.check(*FATAL):
            self.log.info("{worker!r}: {why}", worker=self, why=failure.getErrorMessage())
            return True
        self.log.error("{worker!r} gives up: {why}", worker=self, why=failure.getErrorMessage())
        self._giveUp(failure, failure.getErrorMessage())
        return False

    def _notPrepared(self, failure: Failure) -> None:
        """
        Resign, for there is an update that the node has not run: a queue does not attach workers on which one fails.
        """
        self.log.failure("{worker!r} gives up: an update failed on its node", failure, worker=self)
        self._giveUp(failure, f"an update failed on its node: {failure.getErrorMessage()}")

    def _giveUp(self, failure: Failure, why: str) -> None:
        """
        Resign, for what trying again cannot mend.
        """
        self.unfitness = f"cannot be used: {why}"
        self._starts.fail(failure)
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.errback(failure)
        self._readiness.ready()
        self._tellAttendant()
        self._resign()
        self._endIfDone()

    def _severed(self) -> None:
        """
        Take no more tasks, before those that are here are given back or lost, which may lead to new ones.
        """
        self._current = None

    def _disconnected(self, severance: Any) -> None:
        """
        Connect again, or resign.
        """
        self._conversation = self._current = None
        self._window.since = None
        self._untold.clear()
        self._window.stalled()
        if self._isStopping:
            self._endIfDone()
        elif self._resigns:
            self._resign()
        else:
            self._limitAbsence()
            self.log.warn("{worker!r}: the connection {how}", worker=self, how=severance.describe())
            self._tellAttendant()

    def _resign(self) -> None:
        self._stopPatience()
        self._connecting.stop()
        if self._attendant is not None:
            self._resignator()

    def _reported(self, number: int, began: float) -> None:
        """
        Note the rate at which calls finish, and let those go on who wait for that.
        """
        # Hot path, watched by `bench --only wire`.
        current = self._current
        if current is None:
            return
        if self._window.reported(number, began, len(current.held)):
            self._tellAttendant()
        if self._readiness.waiters and len(current.held) < self.capacity:
            self._readiness.ready()
        self._endIfDone()

    def _begunMore(self) -> None:
        """
        Tell which tasks have been started, and take more.
        """
        current = self._current
        if self._untold and current is not None:
            for task in current.begun():
                if task in self._untold:
                    del self._untold[task]
                    task.started()
            held = set(current.held.values())
            self._untold = {task: None for task in self._untold if task in held}
        self._tellAttendant()

    def _tellAttendant(self) -> None:
        if self._attendant is not None:
            self._attendant()
