"""
Finding what a test has left behind: threads, child processes, descriptors, timers and selectables.
"""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

_PATIENCE = 2.0


#: The module of the selectables by which a reactor wakes itself, some of them made only when it first runs.
_WAKERS = "twisted.internet._signals"

#: How the names of the reactor's own threads begin, which it keeps until it ends.
_POOL = "PoolThread-twisted.internet.reactor"

#: The module of the timers that bound the tests themselves.
_RUNNER = "twisted.trial._asynctest"

#: What leads to here is Twisted's, which keeps one descriptor in reserve from the first port that it listens on.
_RESERVE = "/dev/null"


def _descriptors(ignored: set[int]) -> Counter[str]:
    """
    Count the open descriptors by what they lead to, where the system tells.
    """
    found: Counter[str] = Counter()
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if int(name) in ignored:
                continue
            try:
                found[os.readlink(f"{folder}/{name}").split(":[")[0]] += 1
            except OSError:
                # The one that listed the folder is gone by now.
                continue
        break
    return found


def _children() -> set[int]:
    """
    Return the process IDs of this process's children, where the system tells.
    """
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children") as lines:
                found.update(int(word) for word in lines.read().split())
    except OSError:
        return found
    return found


class LeakCheck:
    """
    Remembers what there is, and tells what there is more of later.

        >>> check = LeakCheck(reactor)
        >>> ...
        >>> check.verify()

    With pytest, a fixture that yields between the two.
    """

    def __init__(self, reactor: Any = None) -> None:
        """
        @param reactor: Whose timers and selectables are looked at; C{None} for no reactor's.
        """
        self._reactor = reactor
        self._threads = set(threading.enumerate())
        self._children = _children()
        self._descriptors = _descriptors(self._wakers())
        self._timers = set(self._pending())
        self._seen = self._selected()

    def _pending(self) -> list[Any]:
        if self._reactor is None:
            return []
        calls = self._reactor.getDelayedCalls()
        return [each for each in calls if getattr(each.func, "__module__", None) != _RUNNER]

    def _selectables(self) -> list[Any]:
        if self._reactor is None or not hasattr(self._reactor, "getReaders"):
            return []
        return [*self._reactor.getReaders(), *self._reactor.getWriters()]

    def _selected(self) -> set[str]:
        return {repr(each) for each in self._selectables() if type(each).__module__ != _WAKERS}

    def _wakers(self) -> set[int]:
        wakers = [each for each in self._selectables() if type(each).__module__ == _WAKERS]
        return {
            end for each in wakers for end in (getattr(each, "i", None), getattr(each, "o", None)) if type(end) is int
        }

    def leaks(self) -> list[str]:
        """
        Return what there is that there was not, one text each.
        """
        found = [
            f"thread {each.name!r} is alive"
            for each in threading.enumerate()
            if each not in self._threads and not each.name.startswith(_POOL)
        ]
        found += [f"child process {pid} is there" for pid in sorted(_children() - self._children)]
        more = _descriptors(self._wakers()) - self._descriptors - Counter([_RESERVE])
        found += [f"{number} more of descriptor {name!r}" for name, number in more.items()]
        found += [f"timer {each} is pending" for each in self._pending() if each not in self._timers]
        found += [f"selectable {each} is in the reactor" for each in sorted(self._selected() - self._seen)]
        return found

    def verify(self, patience: float = _PATIENCE) -> None:
        """
        Fail if anything is left, after giving it some time to go by itself, as threads need that have been told to end.

        @param patience: How long to wait, in seconds. The reactor does not run meanwhile.
        @raise AssertionError: Something is left; the text says what.
        """
        gc.collect()
        until = monotonic() + patience
        while (found := self.leaks()) and monotonic() < until:
            sleep(0.01)
        if found:
            raise AssertionError("left behind: " + "; ".join(found))

    async def verifySoon(self, patience: float = _PATIENCE) -> None:
        """
        Fail if anything is left, after letting the reactor run for some time, which brings to an end what is about to.

        @param patience: How long to wait, in seconds.
        @raise AssertionError: Something is left; the text says what.
        """
        until = monotonic() + patience
        while self.leaks() and monotonic() < until:
            await deferLater(self._reactor, 0.01)
        self.verify(0)


class LeakCheckMixin:
    """
    For a C{TestCase} of trial, which may wait for Deferreds: after each test, and after its other clean-ups, nothing is
    left behind.
    """

    addCleanup: Callable[..., Any]

    def setUp(self) -> None:
        """
        Begin to check. Called first, so that the check is made last.
        """
        super().setUp()  # type: ignore[misc]
        from twisted.internet import reactor

        check = LeakCheck(reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(check.verifySoon()))
