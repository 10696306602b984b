"""
Exceptions that children and nodes have told of, rebuilt.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from asynqueue.callinfo import TRACEBACK_LIMIT, printable, said
from asynqueue.errors import DecodeError, ProcessError, RemoteError, ResultEncodeError, WorkerError
from asynqueue.failures import workerErrorOf

#: How long, in characters, the name of a class of exceptions may be.
NAME = 256

OriginalOf = Callable[[Any], BaseException | None]

_CIRCUMSTANCES: dict[str, tuple[type[WorkerError], str]] = {
    "arguments": (DecodeError, "the call could not be decoded where it was to run"),
    "result": (ResultEncodeError, "the result cannot be encoded"),
    "item": (ResultEncodeError, "an item cannot be encoded"),
}


def failureFrom(body: bytes) -> Failure:
    """
    Make the failure that a call gets whose child has told of an error. Never raises anything.

    @param body: C{pickle((where, told))}, for L{rebuiltFailure}.
    """
    try:
        where, told = pickle.loads(body)
    except BaseException as error:  # what was told is a child's, and unpickling runs anybody's code
        return _notUnderstood(error)
    return rebuiltFailure(where, told)


def unpickledOriginal(told: Any) -> BaseException | None:
    """
    Make an exception of the class of which a child has told, without calling it; C{None} if that cannot be.
    """
    try:
        kind, args, attributes = pickle.loads(told[3])
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            return None
        original: BaseException = kind.__new__(kind, *args)
        original.args = args
        for name, value in attributes.items():
            setAttribute(original, name, value)
    except BaseException:  # unpickling and __new__ are anybody's code; the text serves
        return None
    return original


def rebuiltFailure(where: str, told: Any, originalOf: OriginalOf = unpickledOriginal) -> Failure:
    """
    Make the failure that a call gets whose child or node has told of an error. Never raises anything.

    @param where: In the C{"arguments"}, the C{"result"} or an C{"item"}, or an empty text: in the call itself.
    @param told: What L{asynqueue.told} makes of the exception.
    @param originalOf: Makes the exception anew of that, or returns C{None}.
    """
    try:
        text = printable(str(told[2]), TRACEBACK_LIMIT)
        if where:
            kind, what = _CIRCUMSTANCES[where]
            error: WorkerError = kind(f"{what}: {_nameIn(told).rpartition('.')[2]}: {printable(str(told[1]), 1024)}")
            error.remoteTraceback = text
            return Failure(error)
        return Failure(_workerError(told, text, originalOf))
    except BaseException as error:  # what was told is a child's, and unpickling runs anybody's code
        return _notUnderstood(error)


def _nameIn(told: Any) -> str:
    return printable(str(told[0]), NAME)


def _notUnderstood(error: BaseException) -> Failure:
    return Failure(RemoteError(f"the worker told of an error in a way that cannot be understood: {said(error)}"))


def _workerError(told: Any, text: str, originalOf: OriginalOf) -> WorkerError:
    original = originalOf(told)
    if original is None:
        error: WorkerError = RemoteError(text)
        error.remoteType = _nameIn(told)  # type: ignore[attr-defined]
        error.remoteTraceback = text
    else:
        error = workerErrorOf(original, text, ProcessError)
        if error is original:
            error.remoteTraceback = error.remoteTraceback or text
        elif isinstance(error, RemoteError):
            error.remoteType = _nameIn(told)
        # It was never in this process.
        error.original = None
    _link(error, told, originalOf)
    return error


def setAttribute(error: BaseException, name: str, value: object) -> None:
    if callable(getattr(type(error), name, None)):
        # A method, without which nobody could do anything with the exception.
        return
    try:
        setattr(error, name, value)
    except (AttributeError, TypeError):
        # Read-only; then __new__ has done what can be done.
        return


def _link(error: BaseException, told: Any, originalOf: OriginalOf) -> None:
    error.__cause__ = _linked(told[4], originalOf)
    isOne = told[5] is None and told[4] is not None
    error.__context__ = error.__cause__ if isOne else _linked(told[5], originalOf)
    error.__suppress_context__ = bool(told[6])


def _linked(told: Any, originalOf: OriginalOf) -> BaseException | None:
    if told is None:
        return None
    error = originalOf(told)
    if error is None:
        error = RemoteError(printable(f"{told[0]}: {told[1]}", 1024))
        error.remoteType = _nameIn(told)
    _link(error, told, originalOf)
    return error
