"""
A small process that ends what children have left running when this process has been killed.

A child ends itself when its parent is gone. What it has started in its session may go on: only somebody outside can end
that. The guard holds one end of a pipe, over which it is told of each child; when the other end is closed without a
word, as by a SIGKILL, it ends the sessions of all that it has been told of.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

#: What the guard runs. It is out of the reach of signals for this process's terminal.
_PROGRAM = """\
import os, signal, sys
os.setsid()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    word, _, group = line.strip().partition(" ")
    if word == "add":
        groups.add(int(group))
    elif word == "remove":
        groups.discard(int(group))
    elif word == "end":
        sys.exit(0)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        continue
"""


class Guard(ProcessProtocol):
    """
    The guard of all children of this process that are to be guarded.
    """

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        """
        @raise OSError: The system cannot start a process.
        """
        self._groups: set[int] = set()
        self._reactor = reactor
        self._isGone = False
        reactor.spawnProcess(
            self, sys.executable, [sys.executable, "-I", "-S", "-c", _PROGRAM], env={}, childFDs={0: "w"}
        )

    @property
    def groups(self) -> frozenset[int]:
        """
        The sessions that it guards.
        """
        return frozenset(self._groups)

    @property
    def isNeeded(self) -> bool:
        """
        Whether there is a child to be guarded.
        """
        return bool(self._groups)

    def processExited(self, reason: object) -> None:
        """
        Take note that the guard is gone. If that is too early, start another one.
        """
        self._isGone = True
        if self._groups and self is _guard:
            self.log.warn("The guard of child processes has been ended, and is started again")
            _restart(self._reactor, self._groups)

    def add(self, group: int) -> None:
        """
        Guard the session of a child.
        """
        self._groups.add(group)
        self._tell(f"add {group}")

    def remove(self, group: int) -> None:
        """
        Guard it no more.
        """
        self._groups.discard(group)
        self._tell(f"remove {group}")

    def end(self) -> None:
        """
        Be gone.
        """
        self._tell("end")

    def _tell(self, line: str) -> None:
        transport: Any = self.transport
        if not self._isGone and transport is not None:
            transport.write(line.encode("ascii") + b"\n")


_guard: Guard | None = None


def guard(reactor: Any, group: int) -> None:
    """
    Have the session of a child ended when this process is killed.

    @raise OSError: The system cannot start the guard.
    """
    global _guard
    if _guard is None:
        _guard = Guard(reactor)
    _guard.add(group)


def _restart(reactor: Any, groups: set[int]) -> None:
    """
    Have the sessions guarded whose guard is gone, if the system can.
    """
    global _guard
    _guard = None
    for each in groups:
        try:
            guard(reactor, each)
        except OSError:
            Guard.log.failure("The children cannot be guarded")
            return


def guardNoMore(group: int) -> None:
    """
    Take note that a child is gone, with all of its session.
    """
    global _guard
    if _guard is not None:
        _guard.remove(group)
        if not _guard.isNeeded:
            _guard.end()
            _guard = None
