"""
Functions for tests of workers that run calls in a reactor to call, and commands for those of ampoule's pools.

The global reactor is imported inside of functions, where it is the one of the process in which they are called.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.protocols import amp

from asynqueue.currentcall import currentCall


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def write(path: str, text: str) -> None:
    """
    Append a line to a file.
    """
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def later(seconds: float, value: Any = None) -> Deferred[Any]:
    """
    Return a Deferred that fires with the value after some seconds.
    """
    return deferLater(_reactor(), seconds, lambda: value)


async def awaited(seconds: float, value: Any = None) -> Any:
    """
    Return the value after some seconds.
    """
    return await later(seconds, value)


async def failing(seconds: float, kind: type[BaseException], *args: Any) -> None:
    """
    Raise an exception after some seconds.
    """
    await later(seconds)
    raise kind(*args)


async def telling(path: str, seconds: float, name: str = "") -> str:
    """
    Write into a file when begun, when cancelled and when done.
    """
    write(path, f"begun {name}".strip())
    try:
        await later(seconds)
    except CancelledError:
        call = currentCall()
        write(path, "cancelled" if call is not None and call.cancelled else "late")
        raise
    write(path, "done")
    return name


async def stubborn(path: str, seconds: float) -> None:
    """
    Go on for some seconds even when cancelled.
    """
    write(path, "begun")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            await later(until - time.monotonic())
        except CancelledError:
            write(path, "cancelled")


async def tidying(path: str, seconds: float) -> str:
    """
    Return a text even when cancelled.
    """
    write(path, "begun")
    try:
        await later(seconds)
    except CancelledError:
        return "tidy"
    return "undisturbed"


async def known() -> tuple[int, int, int | None, bool, str]:
    """
    Return what there is to be known of the call after a turn, and the name of the reactor's module.
    """
    await later(0)
    call = currentCall()
    assert call is not None
    return call.ID, call.attempt, call.workerID, call.cancelled, type(_reactor()).__module__


def block(seconds: float, value: Any = None) -> Any:
    """
    Hold up the reactor for some seconds.
    """
    time.sleep(seconds)
    return value


async def leave(code: int, seconds: float = 0.0) -> None:
    """
    End the process after some seconds, without a word.
    """
    await later(seconds)
    os._exit(code)


def leaveAtOnce(code: int) -> None:
    """
    End the process while the call is being begun.
    """
    os._exit(code)


def leaveOnce(path: str, seconds: float = 0.0) -> Any:
    """
    End the process, unless that has been done, by a file that tells so; then return a text.
    """
    if os.path.exists(path):
        return "survived"
    write(path, "left")
    return leave(9, seconds)


def stopReactor() -> Deferred[Any]:
    """
    Stop the reactor, and return a Deferred that never fires.
    """
    _reactor().callLater(0, _reactor().stop)
    return Deferred()


def holdPipe(data: bytes) -> None:
    """
    Write bytes where the protocol has its own.
    """
    os.write(4, data)


def pid() -> int:
    """
    Return the ID of the process.
    """
    return os.getpid()


def numbers(stop: int, path: str = "", fail: bool = False) -> Iterator[int]:
    """
    Generate numbers, and write into a file when closed.
    """
    try:
        yield from range(stop)
        if fail:
            raise ValueError("behind the last")
    finally:
        if path:
            write(path, "closed")


async def _slowNumbers(stop: int, seconds: float, path: str, fail: bool) -> AsyncIterator[int]:
    try:
        for number in range(stop):
            await later(seconds)
            if path:
                write(path, str(number))
            yield number
        if fail:
            raise ValueError("behind the last")
    finally:
        if path:
            await later(0.05)
            write(path, "closed")


def slowNumbers(stop: int, seconds: float = 0.0, path: str = "", fail: bool = False) -> AsyncIterator[int]:
    """
    Return an asynchronous generator of numbers, each after some seconds, which writes into a file what it does.
    """
    return _slowNumbers(stop, seconds, path, fail)


async def _slowToClose(seconds: float) -> AsyncIterator[int]:
    try:
        for number in range(1 << 30):
            yield number
    finally:
        await later(seconds)


def slowToClose(seconds: float) -> AsyncIterator[int]:
    """
    Return an asynchronous generator of numbers that takes some seconds to be closed.
    """
    return _slowToClose(seconds)


async def startLater(path: str) -> None:
    """
    Write into a file, after a while.
    """
    await later(0.05)
    write(path, "started")


async def startFailing() -> None:
    """
    Fail after a while.
    """
    await later(0.05)
    raise RuntimeError("nothing to begin with")


class Answer(amp.Command):
    """
    Return twice the number, after some seconds.
    """

    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [
        (b"number", amp.Integer()),
        (b"seconds", amp.Float(optional=True)),
    ]
    response: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"answer", amp.Integer()), (b"pid", amp.Integer())]


class Refuse(amp.Command):
    """
    Raise an error that is declared, or one that is not.
    """

    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"declared", amp.Boolean())]
    errors: ClassVar[dict[type[Exception], bytes]] = {ValueError: b"VALUE"}


class Leave(amp.Command):
    """
    End the process with a code, or by itself with a signal.
    """

    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [
        (b"code", amp.Integer()),
        (b"path", amp.Unicode(optional=True)),
    ]
    response: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"answer", amp.Unicode())]


class Scribble(amp.Command):
    """
    Write bytes where the protocol has its own.
    """


class Note(amp.Command):
    """
    Write a line into a file, and answer nothing.
    """

    requiresAnswer = False
    arguments: ClassVar[list[tuple[bytes, amp.Argument]]] = [(b"path", amp.Unicode()), (b"text", amp.Unicode())]


def _childClass() -> Any:
    # It installs the reactor.
    from ampoule.child import AMPChild

    class ServingChild(AMPChild):  # type: ignore[misc]
        """
        Serves the commands above.
        """

        @Answer.responder
        async def answer(self, number: int, seconds: float | None = None) -> dict[str, Any]:
            """
            Answer, after a while.
            """
            if seconds:
                await later(seconds)
            return {"answer": 2 * number, "pid": os.getpid()}

        @Refuse.responder
        def refuse(self, declared: bool) -> dict[str, Any]:
            """
            Refuse.
            """
            raise ValueError("as declared") if declared else KeyError("not declared")

        @Leave.responder
        def leave(self, code: int, path: str | None = None) -> dict[str, Any]:
            """
            Leave, but only once if there is a file to tell.
            """
            if path is not None:
                if os.path.exists(path):
                    return {"answer": "survived"}
                write(path, "left")
            os._exit(code)

        @Scribble.responder
        def scribble(self) -> dict[str, Any]:
            """
            Write nonsense.
            """
            os.write(4, b"\xff" * 100)
            return {}

        @Note.responder
        def note(self, path: str, text: str) -> dict[str, Any]:
            """
            Write a line.
            """
            write(path, text)
            return {}

    # It is looked up by its name, in the child, too.
    ServingChild.__qualname__ = "ServingChild"
    return ServingChild


def __getattr__(name: str) -> Any:
    if name == "ServingChild":
        value = globals()[name] = _childClass()
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
