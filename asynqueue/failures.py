"""
The exceptions of calls, as they reach whoever waits: a worker's error and, where possible, the original class in one.

A worker that runs in this process reports the status C{e} with an L{ErrorText}: the traceback as text, as the contract
has it, which carries the exception itself.
"""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any

from twisted.python.failure import Failure

from asynqueue.callinfo import TRACEBACK_LIMIT, describeException, printable
from asynqueue.errors import RemoteError, WorkerError


class ErrorText(str):
    """
    The text of a traceback, with the exception.

    @ivar exception: The exception that was raised in this process.
    @ivar kind: The kind of L{WorkerError} that it is to become.
    """

    __slots__ = ("exception", "kind")

    exception: BaseException
    kind: type[WorkerError]


def errorText(error: BaseException, kind: type[WorkerError] = WorkerError) -> ErrorText:
    """
    Make the result that goes with the status C{e}.
    """
    text = ErrorText(describeException(error))
    text.exception = error
    text.kind = kind
    return text


def exceptionOf(failure: Failure) -> BaseException:
    """
    Return the exception of a C{Failure}, with a traceback as far as there is one.
    """
    error = failure.value
    if error is None:
        return WorkerError(f"a failure without an exception: {failure.getErrorMessage()}")
    trace = failure.getTracebackObject()
    if error.__traceback__ is None and isinstance(trace, TracebackType):
        error.__traceback__ = trace
    return error


def failureOf(result: object) -> Failure:
    """
    Make the C{Failure} that a call gets whose worker reported the status C{e}.

    @param result: An L{ErrorText}, a C{Failure}, or any text.
    """
    if isinstance(result, Failure):
        if isinstance(result.value, WorkerError):
            return result
        result = errorText(exceptionOf(result))
    if isinstance(result, ErrorText):
        error = workerErrorOf(result.exception, result, result.kind)
        return Failure(error, type(error), result.exception.__traceback__)
    text = printable(str(result), TRACEBACK_LIMIT)
    error = WorkerError(text)
    error.remoteTraceback = text
    return Failure(error)


#: How many derived classes are kept, for programs that make exception classes as they go.
DERIVED_LIMIT = 1000

#: The derived classes, by kind and original; classes of exceptions are few and live long.
_derived: dict[tuple[type[WorkerError], type[BaseException]], type[WorkerError] | None] = {}


def workerErrorOf(original: BaseException, text: str, kind: type[WorkerError]) -> WorkerError:
    """
    Make an exception that is both of C{kind} and of the original's class.

    It is built without C{__init__} and has the original's arguments and attributes. Where the class cannot be derived
    from, or is none that C{except Exception} would catch, a plain L{RemoteError} stands for it.

    @param text: The traceback as text, which is what the result shows as its own.
    """
    if isinstance(original, WorkerError):
        # The call waited for another call, whose error this is.
        return original
    error = _instance(original, kind)
    try:
        if error is not None:
            error.remoteTraceback = str(text)
            error.original = original
    except Exception:  # a foreign __setattr__ may raise anything; then the stand-in serves
        error = None
    if error is None:
        error = RemoteError(str(text))
        error.remoteType = f"{type(original).__module__}.{type(original).__qualname__}"
        error.remoteTraceback = str(text)
        error.original = original
    error.__cause__ = original.__cause__
    error.__context__ = original.__context__
    error.__suppress_context__ = original.__suppress_context__
    return error


def _instance(original: BaseException, kind: type[WorkerError]) -> WorkerError | None:
    derived = _derivedClass(type(original), kind)
    if derived is None:
        return None
    try:
        error = derived.__new__(derived, *original.args)
        _copyAttributes(original, error)
    except Exception:  # a foreign __new__ or __setattr__ may raise anything; then the stand-in serves
        return None
    return error


def _copyAttributes(original: BaseException, error: BaseException) -> None:
    for base in type(original).__mro__:
        for name, value in vars(base).items():
            if isinstance(value, MemberDescriptorType | GetSetDescriptorType) and not name.startswith("__"):
                _copyAttribute(original, error, name)
    for name, value in getattr(original, "__dict__", {}).items():
        error.__dict__.setdefault(name, value)


def _copyAttribute(original: BaseException, error: BaseException, name: str) -> None:
    try:
        setattr(error, name, getattr(original, name))
    except (AttributeError, TypeError):
        # Read-only, or not set; then __new__ has done what can be done.
        return


def _derivedClass(original: type[BaseException], kind: type[WorkerError]) -> type[WorkerError] | None:
    """
    Derive a class from (kind, original), once, or return C{None} where that cannot be.
    """
    key = (kind, original)
    if key in _derived:
        return _derived[key]
    derived: type[WorkerError] | None = None
    # A coroutine cannot raise the two that end iterations.
    if issubclass(original, Exception) and not issubclass(original, StopIteration | StopAsyncIteration):
        namespace: dict[str, Any] = {
            "__module__": original.__module__,
            "__qualname__": original.__qualname__,
            "__doc__": f"A {kind.__name__} that is a {original.__name__} too.",
            "__str__": _textOf,
            "__reduce__": _reduced,
        }
        try:
            derived = type(original.__name__, (kind, original), namespace)
        except Exception:  # a metaclass or __init_subclass__ may raise anything; then the stand-in serves
            derived = None
    if len(_derived) >= DERIVED_LIMIT:
        _derived.clear()
    _derived[key] = derived
    return derived


def originalClassOf(error: BaseException) -> type[BaseException]:
    """
    Return the class of an exception, or that which its class has been derived from by L{workerErrorOf}.
    """
    kind = type(error)
    original: type[BaseException] = kind.__bases__[1] if vars(kind).get("__reduce__") is _reduced else kind
    return original


def _textOf(error: WorkerError) -> str:
    return error.remoteTraceback.rstrip("\n")


def _reduced(error: WorkerError) -> tuple[Any, ...]:
    kind, original = type(error).__bases__
    state = {name: value for name, value in error.__dict__.items() if name != "original"}
    return (_restored, (kind, original, error.args, state))


def _restored(
    kind: type[WorkerError], original: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> WorkerError:
    derived = _derivedClass(original, kind)
    error = RemoteError(*args) if derived is None else derived.__new__(derived, *args)
    error.__dict__.update(state)
    return error
