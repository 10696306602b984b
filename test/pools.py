"""
What the tests of pools of threads, and of what uses them, share.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

import asynqueue
from asynqueue.testing import LeakCheckMixin
from asynqueue.threads.pool import PoolUser

reactor: Any = globalReactor

#: Seconds that anything may block or be waited for, in a test that fails.
LIMIT = 10.0

User = TypeVar("User", bound=PoolUser)


class StoppableReactor:
    """
    The global reactor, but with timers on a virtual clock, and an end that comes when a test wants it.

    @ivar clock: The clock.
    @ivar triggers: What is to be called at the end, one triple each.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.triggers: list[tuple[str, str, Callable[[], Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def addSystemEventTrigger(self, phase: str, event: str, called: Callable[[], Any]) -> Any:
        """
        Note a trigger.
        """
        self.triggers.append((phase, event, called))
        return self.triggers[-1]

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        """
        Forget a trigger.
        """
        self.triggers.remove(trigger)

    def shutDown(self) -> Deferred[Any]:
        """
        Call the triggers, as the reactor does when it stops.

        @return: Fires when the reactor would go on stopping.
        """
        triggers, self.triggers = self.triggers, []
        return gatherResults([maybeDeferred(called) for _, _, called in triggers])


class Barrier:
    """
    A function for a thread, which returns when it is let through.

    @ivar entered: Fires when it has been called for the first time.
    """

    def __init__(self) -> None:
        self.entered: Deferred[threading.Thread] = Deferred()
        self._event = threading.Event()

    def __call__(self, result: Any = "through") -> Any:
        """
        Wait until the barrier is open.
        """
        reactor.callFromThread(self._enter, threading.current_thread())
        if not self._event.wait(LIMIT):
            raise AssertionError("the barrier has not been opened")
        return result

    def _enter(self, thread: threading.Thread) -> None:
        if not self.entered.called:
            self.entered.callback(thread)

    def open(self) -> None:
        """
        Let through who waits, and who will come.
        """
        self._event.set()


class PoolTestCase(LeakCheckMixin, TestCase):
    """
    Tests with pools of threads. After each, they are shut down, and neither a thread nor a trigger is left.
    """

    timeout = 30

    def setUp(self) -> None:
        """
        Make the reactor.
        """
        super().setUp()
        self.reactor = StoppableReactor()
        self.addCleanup(self._nothingIsLeft)

    def _nothingIsLeft(self) -> None:
        self.assertEqual((self.reactor.triggers, self.reactor.clock.getDelayedCalls()), ([], []))

    def make(self, kind: type[User], *args: Any, **kw: Any) -> User:
        """
        Make a user of a pool, which is shut down at the end of the test.
        """
        user = kind(*args, **{"reactor": self.reactor, **kw})
        self.addCleanup(user.shutdown)
        return user

    def makeBarrier(self) -> Barrier:
        """
        Make a barrier, which is opened at the end of the test, before the pools made until now are shut down.
        """
        barrier = Barrier()
        self.addCleanup(barrier.open)
        return barrier

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """
        Wait for something that is not told.
        """
        limit = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > limit:
                self.fail(f"in {LIMIT} s it has not come to this: {what}")
            await deferLater(reactor, 0.002)

    def threads(self) -> list[str]:
        """
        Return the names of the threads of our pools.
        """
        return [each.name for each in threading.enumerate() if each.name.startswith("PoolThread-asynqueue")]

    def assertNothingLogged(self) -> None:
        """
        Neither an error nor a warning has been logged, those of the garbage collector's making included.
        """
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.flushWarnings(), [])


def outputOf(program: str, seconds: float) -> str:
    """
    Run a program in an interpreter of its own, which must end by itself.

    @raise AssertionError: It has not, in that time, or there was an error.
    """
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(asynqueue.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, ended.stderr
    return ended.stdout
