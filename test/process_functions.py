"""
What children run in the tests of L{test.test_process_reviewed}.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

VALUES: dict[str, Any] = {}


def setValue(name: str, value: Any, seconds: float = 0.0) -> None:
    """
    Set a value in the child, after a while.
    """
    time.sleep(seconds)
    VALUES[name] = value


def getValue(name: str) -> Any:
    """
    Return a value of the child.
    """
    return VALUES.get(name)


def stopMyself() -> None:
    """
    Stop, as SIGSTOP does.
    """
    os.kill(os.getpid(), signal.SIGSTOP)


def slowly(number: int, seconds: float) -> Iterator[int]:
    """
    Iterate over numbers, and sleep after each.
    """
    for each in range(number):
        yield each
        time.sleep(seconds)


class Nasty(Exception):
    """
    An exception that does not bear being looked at.
    """

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def raiseNasty() -> None:
    """
    Raise it.
    """
    raise Nasty("x")


def raiseLong(length: int) -> None:
    """
    Raise an exception with a long text.
    """
    raise ValueError("x" * length)


def raiseFromOSError() -> None:
    """
    Raise an exception that has an OSError without a number as its cause.
    """
    raise ValueError("v") from ConnectionError("conn text")


def lockWithin() -> Any:
    """
    Return something that cannot be pickled, within something that can.
    """
    return [1, {"lock": threading.Lock()}]


def lockWithinItem() -> Iterator[Any]:
    """
    Yield such a thing.
    """
    yield 1
    yield (threading.Lock(),)


def forkAndExit() -> str:
    """
    Make a copy of the process that ends with the call, and another one that exits.
    """
    if os.fork() == 0:
        sys.exit(0)
    time.sleep(0.2)
    return "parent's"


def forkAndReturn() -> int:
    """
    Make a copy of the process which returns, too.
    """
    os.fork()
    return os.getpid()


def changeSignals() -> None:
    """
    Leave signals ignored, blocked and under way, and another mask for files.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGURG])
    signal.alarm(1)
    os.umask(0o777)


def lookAtSignals() -> tuple[bool, set[int], int, int]:
    """
    Return what the function above changes.
    """
    umask = os.umask(0o22)
    os.umask(umask)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, {int(each) for each in blocked}, signal.alarm(0), umask


def writeErrors(lines: int) -> None:
    """
    Write many lines to standard error, and then why the process exits.
    """
    for number in range(lines):
        sys.stderr.write(f"line {number} {'x' * 80}\n")
    sys.stderr.write("the reason\n")
    sys.stderr.flush()
    os._exit(3)


def version() -> str:
    """
    Return which version of the function this is.
    """
    return "first"


def other() -> str:
    """
    Take the place of the function above.
    """
    return "other"


_original = version


def replaceVersion() -> None:
    """
    Have another function be called by that name.
    """
    globals()["version"] = other


def restoreVersion() -> None:
    """
    Undo that.
    """
    globals()["version"] = _original
