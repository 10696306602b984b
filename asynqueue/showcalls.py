"""
Decorators that print what is called, for whoever looks for an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import current_thread
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall, safeRepr

P = ParamSpec("P")
T = TypeVar("T")


def showResult(method: Callable[P, T]) -> Callable[P, T]:
    """
    Decorate a function or method, so that each call is printed with its result, as C{timesTwo(3) -> 6}.

    What a call raises is printed likewise, and raised. Where the result is a Deferred or a coroutine, what is printed
    is its own result, when it has that; it stays what it is.
    """

    @wraps(method)
    def shown(*args: P.args, **kw: P.kwargs) -> T:
        text = _describe(method, args, kw)
        try:
            result = method(*args, **kw)
        except BaseException as error:
            _show(f"{text} raised {safeRepr(error)}")
            raise
        if isinstance(result, Deferred):
            result.addBoth(_arrived, text)
        elif isinstance(result, CoroutineType):
            return cast("T", _awaited(result, text))
        else:
            _show(f"{text} -> {safeRepr(result)}")
        return result

    return shown


def whichThread(method: Callable[P, T]) -> Callable[P, T]:
    """
    Decorate a function or method, so that each call is printed with the thread in which it runs, before it does, as
    C{timesTwo(3) in thread 'MainThread'}.
    """

    @wraps(method)
    def shown(*args: P.args, **kw: P.kwargs) -> T:
        _show(inThread(_describe(method, args, kw)))
        return method(*args, **kw)

    return shown


def inThread(text: str) -> str:
    """
    Return the text of a call with the thread that this is.
    """
    return f"{text} in thread {current_thread().name!r}"


def _describe(method: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> str:
    """
    Return a call as it reads in a program: an object of which this is a method is no argument.
    """
    if args:
        owner = getattr(method, "__qualname__", "").rpartition(".")[0]
        kind = args[0] if isinstance(args[0], type) else type(args[0])
        if any(each.__qualname__ == owner for each in kind.__mro__):
            args = args[1:]
    return describeCall(method, args, kw)


def _arrived(result: T, text: str) -> T:
    if isinstance(result, Failure):
        _show(f"{text} raised {safeRepr(result.value)}")
    else:
        _show(f"{text} -> {safeRepr(result)}")
    return result


async def _awaited(coroutine: CoroutineType[Any, Any, T], text: str) -> T:
    try:
        result = await coroutine
    except BaseException as error:
        _show(f"{text} raised {safeRepr(error)}")
        raise
    _show(f"{text} -> {safeRepr(result)}")
    return result


def _show(text: str) -> None:
    try:
        print(text)  # noqa: T201 - it is what these decorators are for
    except (OSError, ValueError):
        # There is nobody to read it, or no way to write it: the call is none the worse for that.
        return
