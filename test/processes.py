"""
What the tests of process workers share: queues with real children, what becomes of their calls, and what must not be
left of them.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import provider

import asynqueue
from asynqueue import ProcessQueue, ProcessWorker
from asynqueue.testing import LeakCheckMixin
from asynqueue.testing.tasks import identity
from test.support import Outcome

reactor: Any = globalReactor

#: Seconds that anything may take, in a test that fails.
LIMIT = 10.0

#: Seconds that a call which has been interrupted may go on, in these tests.
GRACE = 0.3

#: Whether there is time for what takes long.
SOAK = bool(os.environ.get("ASYNQUEUE_SOAK"))

#: By this variable in their environments the processes that a test has led to are found, whoever their parents are.
MARK = "ASYNQUEUE_TEST_MARK"

#: Seconds until a reactor that does not run any more, so that no test can time out, ends the tests, with all stacks.
WATCHDOG = 240.0

FOLDER = Path(asynqueue.__file__).parent.parent


def marked(mark: str) -> list[int]:
    """
    Return the IDs of the processes that have a mark in their environment and are no zombies.
    """
    found = []
    needle = f"{MARK}={mark}".encode("ascii")
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as environment:
                    if needle not in environment.read().split(b"\0"):
                        continue
                if stateOf(int(name)) != "Z":
                    found.append(int(name))
            except OSError:
                # It has gone, or is somebody else's.
                continue
    return found


def stateOf(pid: int) -> str:
    """
    Return the letter for the state of a process, or an empty text.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def childrenOf(pid: int) -> list[int]:
    """
    Return the IDs of the processes that a process has started and that it has not been told the end of.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as children:
                found.extend(int(word) for word in children.read().split())
    except OSError:
        # It has gone.
        return found
    return found


def isAlive(pid: int) -> bool:
    """
    Tell whether a process is there that has not ended.
    """
    return stateOf(pid) not in ("", "Z", "X")


#: Whose files in shared memory are looked for: this process's and those of its programs.
_owners = {os.getpid()}


def segments() -> set[str]:
    """
    Return the names of the files in shared memory that this process and its programs have made for their children.
    """
    try:
        names = os.listdir("/dev/shm")
    except OSError:
        return set()
    return {name for name in names if name.startswith(tuple(f"asynqueue-{pid}-" for pid in _owners))}


class ProcessTestCase(LeakCheckMixin, TestCase):
    """
    Tests with children. After each, its queues are shut down, and nothing is left: no child or grandchild, thread,
    descriptor, timer, file in shared memory or logged error.
    """

    timeout = 60

    def setUp(self) -> None:
        """
        Note what there is.
        """
        faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=2)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        super().setUp()
        self.mark = uuid4().hex
        self.queues: list[ProcessQueue] = []
        self._segments = segments()
        self.addCleanup(lambda: Deferred.fromCoroutine(self._nothingIsLeft()))

    async def _nothingIsLeft(self) -> None:
        until = time.monotonic() + 3.0
        while marked(self.mark) and time.monotonic() < until:
            await deferLater(reactor, 0.02)
        left = marked(self.mark)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(left, [], "processes are left, and had to be killed")
        self.assertEqual(segments() - self._segments, set(), "files in shared memory are left")

    # Making

    @property
    def environment(self) -> dict[str, str]:
        """
        The environment of children, with the mark.
        """
        return {**os.environ, MARK: self.mark}

    def makeQueue(self, N: int | None = 1, **keywords: Any) -> ProcessQueue:
        """
        Make a queue that delivers failures, and is shut down at the end of the test.
        """
        given = {"returnFailure": True, "environment": self.environment, "grace": GRACE, **keywords}
        queue = ProcessQueue(N, **given)
        # Whether it has started is looked at by those tests that are about it.
        queue.d.addErrback(lambda failure: None)
        self.queues.append(queue)
        self.addCleanup(self._shutDown, queue)
        return queue

    def makeWorker(self, **keywords: Any) -> ProcessWorker:
        """
        Make a worker without a queue, which is crashed at the end of the test.
        """
        worker = ProcessWorker(**{"environment": self.environment, "grace": GRACE, **keywords})
        self.addCleanup(worker.crash)
        return worker

    def _shutDown(self, queue: ProcessQueue) -> Deferred[Any]:
        done: Deferred[Any] = queue.shutdown(drain=False, deadline=1.0)
        return Deferred.fromCoroutine(self.within(LIMIT, done, "the end of a queue"))

    def path(self) -> str:
        """
        Return the path of a file that is not there yet.
        """
        name: str = self.mktemp()
        return os.path.abspath(name)

    # Striking

    def begin(self, queue: ProcessQueue, func: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """
        Do what the test is about: call a function, which may use the queue.
        """
        return func()

    def beginUnserved(self, queue: ProcessQueue, func: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """
        Likewise, with a queue that need not be able to run a call now.
        """
        return func()

    # Waiting

    async def until(self, condition: Callable[[], object], what: str, limit: float = LIMIT) -> float:
        """
        Wait for something that is not told.

        @return: How many seconds it took.
        """
        began = time.monotonic()
        while not condition():
            if time.monotonic() > began + limit:
                self.fail(f"in {limit} s it has not come to this: {what}")
            await deferLater(reactor, 0.002)
        return time.monotonic() - began

    async def outcomeOf(self, d: Deferred[Any], limit: float = LIMIT, what: str = "an outcome") -> Outcome:
        """
        Wait for what a Deferred fires with. It is not cancelled if that takes too long.
        """
        outcome = Outcome(d)
        await self.until(lambda: outcome.fired, what, limit)
        return outcome

    async def within(self, limit: float, d: Deferred[Any], what: str = "a result") -> Any:
        """
        Wait for the value of a Deferred.
        """
        outcome = await self.outcomeOf(d, limit, what)
        if outcome.failure is not None:
            outcome.failure.raiseException()
        return outcome.value

    async def errorOf(self, d: Deferred[Any], *kinds: type[BaseException], limit: float = LIMIT) -> Any:
        """
        Wait for the error of a Deferred, which must be of each of the given kinds.
        """
        outcome = await self.outcomeOf(d, limit, "an error")
        if outcome.failure is None:
            self.fail(f"no error, but {outcome.value!r:.200}")
        for kind in kinds:
            self.assertIsInstance(outcome.error, kind)
        return outcome.error

    async def allOf(self, ds: Sequence[Deferred[Any]], limit: float = LIMIT) -> list[Any]:
        """
        Wait for the values of several Deferreds.
        """
        until = time.monotonic() + limit
        outcomes = [Outcome(d) for d in ds]
        await self.until(lambda: all(each.fired for each in outcomes), "the results of all calls", limit)
        for each in outcomes:
            if each.failure is not None:
                self.fail(f"a call failed: {each.error!r}")
        self.assertLess(time.monotonic(), until + 1)
        return [each.value for each in outcomes]

    # Looking

    def pidOf(self, queue: ProcessQueue) -> int:
        """
        Return the ID of the child of a queue's first worker, which must be there.
        """
        pid = queue.workers()[0].pid
        assert isinstance(pid, int), "there is no child"
        return pid

    def watchLog(self) -> list[LogEvent]:
        """
        Return a list to which all events of Twisted's log are added during the test.
        """
        events: list[LogEvent] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return events

    async def shutDownProperly(self, queue: ProcessQueue, limit: float = 5.0) -> None:
        """
        Shut a queue down, and see that its books are in order.
        """
        await self.within(limit, queue.shutdown(), "the end of the queue")
        counts = queue.statistics()
        self.assertEqual((counts.queued, counts.running), (0, 0))
        self.assertEqual(counts.submitted, counts.settled)
        self.assertEqual(counts.settled, counts.succeeded + counts.failed + counts.cancelled)
        self.assertEqual(queue.outstanding(), [])
        self.assertEqual(len(queue), 0)


class FromACallback:
    """
    The tests of a C{ProcessTestCase}, with what each is about done within a callback, or an errback, of another call.
    """

    def begin(self, queue: ProcessQueue, func: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """
        Call a function in the callback of a call, when the child's outcomes are being reported.
        """
        return queue.call(identity, 0).addCallback(lambda _: func())

    def beginUnserved(self, queue: ProcessQueue, func: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """
        Call a function in the errback of a call, when that is being cancelled.
        """
        d = queue.call(identity, 0)
        d.addErrback(lambda _: func())
        d.cancel()
        return d


def textOf(events: Sequence[LogEvent]) -> str:
    """
    Return what events look like in a log.
    """
    return "\n".join(formatEvent(event) for event in events)


class Program:
    """
    A program that runs in an interpreter of its own, and is ended with the object.
    """

    def __init__(
        self, path: str, text: str, mark: str, *args: str, prefix: Sequence[str] = (), **keywords: Any
    ) -> None:
        """
        @param prefix: What runs the interpreter.
        """
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, path, *args],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, MARK: mark, "PYTHONPATH": str(FOLDER), "PYTHONUNBUFFERED": "1"},
            text=True,
            **keywords,
        )
        _owners.add(self.process.pid)

    def lines(self) -> Iterator[str]:
        """
        Read what it writes, line by line.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip("\n")

    def end(self, seconds: float) -> tuple[int, str, str]:
        """
        Wait for its end.

        @return: Its exit code, or the negative of the signal that has ended it, and what it has written.
        """
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"the program has not ended in {seconds} s") from None
        return self.process.returncode, out, err

    def close(self) -> None:
        """
        End it, if it has not ended.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=10)
