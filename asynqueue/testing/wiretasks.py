"""
A universe, and exposed functions, for tests of wire workers, whose servers may be processes of their own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from asynqueue.currentcall import currentCall
from asynqueue.errors import SoftTimeLimitExceeded
from asynqueue.testing.reactortasks import later, slowNumbers, write
from asynqueue.wire.registry import expose
from asynqueue.wire.universe import WireWorkerUniverse

#: An attribute of a module that is no method.
secret = "not to be had"


class Universe(WireWorkerUniverse):
    """
    Methods of all kinds.

    @ivar clock: By what time the methods go that wait; C{None} for the global reactor.
    @ivar noted: What they have noted.
    """

    #: An attribute that is no method.
    attribute = "not to be had"

    class Inner:
        """
        A class, which is no method either.
        """

    def __init__(self, wireServer: Any = None) -> None:
        super().__init__(wireServer)
        self.clock: Any = None
        self.noted: list[Any] = []
        self.made = 0

    def _later(self, seconds: float, value: Any = None) -> Deferred[Any]:
        return later(seconds, value) if self.clock is None else deferLater(self.clock, seconds, lambda: value)

    def echo(self, value: Any = None) -> Any:
        """
        Return the value.
        """
        return value

    def repeat(self, size: int) -> bytes:
        """
        Return so many bytes.
        """
        return bytes(size)

    def size(self, value: bytes) -> int:
        """
        Return how long bytes are.
        """
        return len(value)

    def large(self, size: int) -> Iterator[bytes]:
        """
        Generate bytes without end, and count.
        """
        while True:
            self.made += 1
            yield bytes(size)

    def noting(self, name: Any) -> Iterator[int]:
        """
        Generate numbers, and note when nobody wants more.
        """
        try:
            yield from range(1 << 30)
        finally:
            self.noted.append(("closed", name))

    def add(self, first: int, second: int = 1) -> int:
        """
        Return a sum.
        """
        return first + second

    def keywords(self, **keywords: Any) -> dict[str, Any]:
        """
        Return the keywords.
        """
        return keywords

    def note(self, value: Any) -> int:
        """
        Note a value, and return how many there are.
        """
        self.noted.append(value)
        return len(self.noted)

    def taken(self) -> list[Any]:
        """
        Return what has been noted, and forget it.
        """
        noted, self.noted = self.noted, []
        return noted

    def fail(self, text: str = "as it should") -> None:
        """
        Raise an error, with a cause.
        """
        try:
            raise KeyError("the reason")
        except KeyError as error:
            raise ValueError(text, 5) from error

    def later(self, seconds: float, value: Any = None) -> Deferred[Any]:
        """
        Return a Deferred.
        """
        return self._later(seconds, value)

    async def awaited(self, seconds: float, value: Any = None) -> Any:
        """
        Return a value after some seconds.
        """
        return await self._later(seconds, value)

    async def telling(self, name: Any, seconds: float) -> Any:
        """
        Note when the call begins, when it is cancelled and when it is done.
        """
        self.noted.append(("begun", name))
        try:
            await self._later(seconds)
        except CancelledError:
            self.noted.append(("cancelled", name))
            raise
        self.noted.append(("done", name))
        return name

    async def tidying(self, seconds: float) -> str:
        """
        Return a text even when its time is over.
        """
        try:
            await self._later(seconds)
        except (CancelledError, SoftTimeLimitExceeded):
            return "tidy"
        return "undisturbed"

    def block(self, seconds: float, value: Any = None) -> Any:
        """
        Hold up the reactor, or a thread.
        """
        time.sleep(seconds)
        return value

    def thread(self) -> bool:
        """
        Tell whether the call runs in a thread of its own.
        """
        return threading.current_thread() is not threading.main_thread()

    def known(self) -> tuple[int, int] | None:
        """
        Return the ID and the attempt of the call.
        """
        call = currentCall()
        return None if call is None else (call.ID, call.attempt)

    def unplain(self) -> Any:
        """
        Return what does not travel by any means.
        """
        return [1, threading.Lock()]

    def count(self, stop: int, path: str = "", fail: bool = False) -> Iterator[int]:
        """
        Generate numbers, and write into a file when closed.
        """
        try:
            for number in range(stop):
                self.noted.append(number)
                yield number
            if fail:
                raise ValueError("behind the last")
        finally:
            if path:
                write(path, "closed")

    def countSlowly(self, stop: int, seconds: float = 0.0, path: str = "", fail: bool = False) -> AsyncIterator[int]:
        """
        Return an asynchronous generator of numbers.
        """
        return slowNumbers(stop, seconds, path, fail)

    def countOddly(self) -> Iterator[Any]:
        """
        Generate something that travels, and something that does not.
        """
        yield 1
        yield threading.Lock()

    def pid(self) -> int:
        """
        Return the ID of the process.
        """
        return os.getpid()

    def niceness(self) -> int:
        """
        Return the niceness of the process.
        """
        return os.getpriority(os.PRIO_PROCESS, 0)

    def end(self, code: int = 9) -> None:
        """
        End the process at once.
        """
        os._exit(code)

    def stopServer(self) -> None:
        """
        Have the server that has this object stop.
        """
        self.wireServer.stop()

    def _hidden(self) -> str:
        return secret


@expose("tests.echo")
def echo(value: Any = None) -> Any:
    """
    Return the value.
    """
    return value


@expose("tests.pid")
def pid(value: Any = None) -> tuple[int, Any]:
    """
    Return the ID of the process, and the value.
    """
    return os.getpid(), value


@expose("tests.sleep")
def sleep(seconds: float, value: Any = None) -> Any:
    """
    Return the value after some seconds.
    """
    time.sleep(seconds)
    return value


@expose("tests.wait")
def wait(seconds: float, value: Any = None) -> Deferred[Any]:
    """
    Return a Deferred of the value.
    """
    return later(seconds, value)


@expose("tests.write")
def writeLine(path: str, text: str, seconds: float = 0.0) -> str:
    """
    Write a line into a file, then take some seconds.
    """
    write(path, text)
    time.sleep(seconds)
    return text


@expose("tests.once")
def writeOnce(path: str) -> None:
    """
    Make a file, which must not be there.
    """
    with open(path, "x"):
        pass


@expose("tests.tidy")
def tidy(seconds: float) -> str:
    """
    Return a text when the soft limit is reached.
    """
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "tidy"
    return "undisturbed"


@expose("tests.count")
def count(stop: int, path: str = "") -> Iterator[int]:
    """
    Generate numbers.
    """
    try:
        yield from range(stop)
    finally:
        if path:
            write(path, "closed")


@expose("tests.die")
def die(code: int = 9) -> None:
    """
    End the process at once.
    """
    os._exit(code)


@expose("tests.limited", maxArguments=1000, maxResult=1000)
def limited(size: int, *_args: Any) -> bytes:
    """
    Return so many bytes.
    """
    return bytes(size)


@expose("tests.hasty", timeLimit=0.2)
def hasty(seconds: float) -> str:
    """
    Take some seconds, which are limited.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return "done"


@expose("tests.admin", roles=["admin"])
def administer() -> str:
    """
    For administrators only.
    """
    return "administered"


@expose("tests.read", roles=["read"])
def look() -> str:
    """
    For everybody who may have a look.
    """
    return "seen"


@expose("tests.control", roles=["control"])
def steer() -> str:
    """
    For those who control.
    """
    return "steered"


@expose("tests.code", roles=["code"])
def program() -> str:
    """
    For those who may have anything run.
    """
    return "run"
