"""
Iterators for blocking code, whose values come from Twisted's side: what they have in common.

Data flow, for each value::

    Twisted's side        |  loop(), in a thread            |  the blocking side, in another thread
                          |                                 |
                          |  nLock.acquire()  <-------------+-- __next__: nLock.release()
    a value is there:     |                                 |             bLock.acquire()
    cLock.release() ------+> cLock.acquire()                |                |
                          |  bIterationValue = the value    |                |
                          |  bLock.release()  --------------+----------------+--> return bIterationValue

C{stop} closes all three semaphores, which ends every wait.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import StrEnum
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import QueueRunError
from asynqueue.failures import exceptionOf
from asynqueue.threads.gate import Gate, GateClosed
from asynqueue.threads.pool import PoolUser, isReactorThread
from asynqueue.threads.unseen import KeptFailure
from asynqueue.workers.lifecycle import Readiness


class RunState(StrEnum):
    """
    How far an iteration has come::

        INIT --start--> STARTED --loop() begins--> RUNNING --stop, or loop() is over--> STOPPING --> STOPPED

    C{stop} leads from C{INIT} to C{STOPPED} and from C{STARTED} to C{STOPPING}.
    """

    INIT = "init"
    STARTED = "started"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class IterationGetter(PoolUser):
    """
    An iterator that blocks until there is a value; a method L{loop}, in a thread of its own, hands values over.

    To make one, override L{loop}. The protocol:

      - C{__next__} releases C{nLock}, to say that it wants a value, acquires C{bLock} and returns what is in
        C{bIterationValue}. An L{IterationStopper} in there is the end; its error, if it has one, is raised.
      - C{loop} acquires C{nLock}, gets a value, sets C{bIterationValue} and releases C{bLock}. When Twisted's side has
        a value for it, that releases C{cLock}, once for each, and C{loop} acquires it to wait for that.
      - When the iteration is ended by L{stop}, C{runState} is C{stopping}, and the waits for C{nLock} and C{cLock} are
        over: C{acquire} returns C{False}. C{loop} is to look at either, and to return. From the second such wait on,
        C{acquire} raises an error, so that a loop that does not look ends nevertheless.

    ::

        class Lines(IterationGetter):
            def loop(self):
                with open("lines.txt") as lines:
                    while self.nLock.acquire():
                        self.bIterationValue = next(lines, None) or self.IterationStopper()
                        self.bLock.release()

    The iteration is over, too, when C{loop} has returned. If it raises an exception, the blocking side gets that, once,
    and so does who waits for L{deferUntilDone}; when nobody has seen it, it is logged with the garbage. What it raises
    after L{stop} is dropped. After the end, C{__next__} raises C{StopIteration} and never blocks.

    The blocking side may be any number of threads, in the pool of this object or elsewhere; each value goes to one of
    them. When it leaves before the end, have the reactor call L{stop}. The pool ends by itself with the iteration, and
    the calls that it has. Beside C{maxThreads} calls it has a thread for C{loop}.

    @ivar runState: A L{RunState}, which is a text.
    @ivar bIterationValue: What is handed over.
    """

    class IterationStopper:
        """
        The end of an iteration, in the place of a value.
        """

        def __init__(self, error: BaseException | Failure | None = None) -> None:
            """
            @param error: What the blocking side is to be raised, if not C{StopIteration}.
            """
            self.error: BaseException | None = error.value if isinstance(error, Failure) else error

    _extraThreads = 1
    _log = Logger()

    def __init__(self, maxThreads: int | None = None, reactor: Any = None) -> None:
        """
        @param maxThreads: How many calls may run in the pool at a time; that of the class unless given.
        @param reactor: The reactor, unless it is the global one.
        @raise ValueError: C{maxThreads} is less than 1.
        @raise TypeError: It is no whole number.
        """
        super().__init__(maxThreads, reactor)
        self.runState: str = RunState.INIT
        self.nLock = Gate(raises=True)
        self.cLock = Gate(raises=True)
        self.bLock = Gate()
        self.bIterationValue: Any = None
        self._given: deque[Any] = deque()
        # The end, once nothing is handed over any more, and what guards it and runState.
        self._last: IterationGetter.IterationStopper | None = None
        self._guard = threading.Lock()
        # One thread at a time asks for a value. It may be interrupted, and ask again for what it has asked for.
        self._turn = threading.Lock()
        self._hasAsked = False
        self._isAtEnd = False
        self._failure: KeptFailure | None = None
        self._begins = Readiness()
        self._ends = Readiness()

    def start(self) -> Deferred[None]:
        """
        Have L{loop} run, if that has not been done. The first wait of the blocking side does it, too.

        @return: Fires when it has begun, or is over.
        @raise QueueRunError: The iteration is over, or has been stopped.
        """
        if self.runState == RunState.INIT:
            self.runState = RunState.STARTED
            self.deferToThreadInPool(self._run).addBoth(self._looped)
        elif self._last is not None:
            raise QueueRunError(f"{self!r} cannot be started any more: its iteration is over")
        return succeed(None) if self.runState != RunState.STARTED else self._begins.wait()

    def loop(self) -> None:
        """
        Hand over values, in a thread. To be overridden.

        This one hands over what Twisted's side has given.
        """
        while self.nLock.acquire():
            self._wanted()
            if not self.cLock.acquire():
                return
            value = self._given.popleft()
            self._taken()
            self.bIterationValue = value
            self.bLock.release()
            if isinstance(value, self.IterationStopper):
                return

    def _wanted(self) -> None:
        """
        Called by L{loop}, in its thread, when it is about to wait for a value.
        """

    def _taken(self) -> None:
        """
        Called by L{loop}, in its thread, when there is one value less.
        """

    def _iterationEnded(self) -> None:
        """
        Called in the reactor's thread when nothing is handed over any more; maybe more than once.
        """

    def _give(self, value: Any) -> None:
        """
        Give a value to L{loop}.
        """
        self._given.append(value)
        self.cLock.release()

    def _finish(self, error: BaseException | None = None) -> None:
        """
        Let the iteration be over after what has been given.
        """
        self._give(self.IterationStopper(error))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """
        Wait for the next value.
        """
        with self._turn:
            if self._isAtEnd:
                raise StopIteration
            self._startSoon()
            if not self._hasAsked:
                self._hasAsked = True
                self.nLock.release()
            value = self.bIterationValue if self.bLock.acquire() else self._last
            self._hasAsked = False
            if not isinstance(value, self.IterationStopper):
                return value
            self._isAtEnd = True
        # A loop that goes on shall not wait for ever.
        self.nLock.close()
        self.cLock.close()
        if value.error is None:
            raise StopIteration
        if self._failure is not None:
            self._failure.see()
        raise value.error

    def _startSoon(self) -> None:
        """
        See to it that L{loop} runs, and that the end of the reactor ends all waits. It may be any thread.
        """
        if self.runState == RunState.INIT:
            if isReactorThread():
                self._startIfNew()
            else:
                self._keeper().reactor.callFromThread(self._startIfNew)

    def _startIfNew(self) -> None:
        if self.runState == RunState.INIT:
            self.start()

    def _run(self) -> None:
        with self._guard:
            if self._last is None:
                self.runState = RunState.RUNNING
        error = None
        if self._last is None:
            self._keeper().reactor.callFromThread(self._begins.ready)
            try:
                self.loop()
            except (GateClosed, StopIteration):
                pass
            except BaseException as raised:  # the blocking side and the reactor get it, whatever it is
                error = raised
        self._close(RunState.STOPPING, error)

    def _close(self, state: RunState, error: BaseException | None = None) -> None:
        """
        Hand nothing over any more. It may be any thread.
        """
        with self._guard:
            if self._last is None:
                self.runState = state
                if error is not None:
                    self._failure = KeptFailure(error)
                self._last = self.IterationStopper(error)
            elif error is not None:
                self._log.debug("loop() of an iteration that had been stopped raised {error!r}", error=error)
        # This one first: what a loop that has been woken in vain hands over shall not get through.
        for gate in (self.bLock, self.nLock, self.cLock):
            gate.close()

    def _looped(self, result: Failure | None) -> None:
        """
        Note that there is no loop any more, or has never been, for want of a thread.
        """
        if result is not None:
            self._close(RunState.STOPPING, exceptionOf(result))
        self._stopped()

    def _stopped(self) -> None:
        self.runState = RunState.STOPPED
        self._iterationEnded()
        self._given.clear()
        self._begins.ready()
        self._keeper().letGo().addCallback(lambda _: self._ends.ready())

    def deferUntilDone(self) -> Deferred[None]:
        """
        Wait for the end of the iteration.

        @return: Fires when L{loop} is over, and, unless calls are running in the pool, its threads have gone. It fails
            as L{loop} has.
        """
        return self._whenDone().addCallback(lambda _: None if self._failure is None else self._failure.see())

    def stop(self) -> Deferred[None]:
        """
        End the iteration, whatever has not been handed over. All who wait go on; the blocking side gets
        C{StopIteration}.

        @return: Fires when L{loop} is over, and, unless calls are running in the pool, its threads have gone.
        """
        if self._last is None:
            isNew = self.runState == RunState.INIT
            self._close(RunState.STOPPED if isNew else RunState.STOPPING)
            if isNew:
                self._stopped()
            else:
                self._iterationEnded()
        return self._whenDone()

    def _whenDone(self) -> Deferred[None]:
        return self._keeper().letGo() if self.runState == RunState.STOPPED else self._ends.wait()

    def shutdown(self) -> Deferred[None]:
        """
        End the iteration as L{stop} does, and let the threads end when all is done that has been given to the pool.

        @return: Fires when they have gone.
        """
        stopped = self.stop()
        return super().shutdown().addCallback(lambda _: stopped)
