"""
Calls on their way to a child, pickled; and what of a call cannot be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pickle import PickleBuffer, dumps, loads
from sys import modules
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from asynqueue.callinfo import safeRepr
from asynqueue.errors import EncodeError, PayloadTooLarge
from asynqueue.process.culprits import cannot, culprit
from asynqueue.process.frames import APART
from asynqueue.process.parts import Parts
from asynqueue.process.variables import valuesIn
from asynqueue.rebuilt import failureFrom

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from asynqueue.tasks import Task

#: The names of so many functions are kept.
FUNCTIONS = 1000

#: What stands before a call whose function is pickled with its arguments.
UNNAMED = bytes(2)

#: What stands before parts, after C{UNNAMED}. No pickle begins so.
MARK = b"\0"

#: Of these, pickles leave out nothing, and calls with others are looked at more closely.
PLAIN = frozenset([int, str, float, bool, type(None)])

#: Pickles an object, and calls a function, if there is one, with each buffer that is to be left out.
Dumps = Callable[..., bytes]


class Encoder(Protocol):
    """
    Makes bytes of calls.
    """

    def encode(self, task: Task) -> tuple[bytes, bytes | Parts]:
        """
        Return two pieces, to be put together: only the second one may be long, or be parts that are to be laid
        somewhere.

        @raise EncodeError: The call cannot travel.
        """


class ResultDecoder(Protocol):
    """
    Makes objects of what comes back.
    """

    def value(self, body: bytes) -> Any:
        """
        Return a result, or the list of some items. May raise anything.
        """

    def failure(self, body: bytes) -> Failure:
        """
        Return the failure that is told of. Must not raise anything.
        """


class Unpickler:
    """
    Unpickles what a child, which is this program itself, sends.
    """

    value = staticmethod(loads)
    failure = staticmethod(failureFrom)


def standardDumps(obj: Any, leaveOut: Callable[[PickleBuffer], object] | None = None) -> bytes:
    """
    Pickle an object with the standard pickler.
    """
    return dumps(obj, 5, buffer_callback=leaveOut)


def picklerOf(name: str | None) -> Dumps:
    """
    Return the function that pickles, by its name: C{"pickle"}, or C{"cloudpickle"}, which must be installed.

    @raise ValueError: There is none of that name.
    @raise ImportError: It is not installed.
    """
    if name in (None, "pickle"):
        return standardDumps
    if name == "cloudpickle":
        try:
            from cloudpickle import dumps as cloudDumps
        except ImportError:
            raise ImportError(
                "pickler='cloudpickle' needs the package cloudpickle: install asynqueue[cloudpickle]"
            ) from None
        return lambda obj, leaveOut=None: bytes(cloudDumps(obj, 5, buffer_callback=leaveOut))
    raise ValueError(f"pickler must be 'pickle' or 'cloudpickle', not {name!r}")


class CallEncoder:
    """
    Pickles calls, for L{asynqueue.process.decoding.CallDecoder}.

    A function that has a name in its module is not pickled: its module and its name are sent before the rest.
    """

    __slots__ = ("_dumps", "_isStandard", "_known", "_limit", "_names")

    def __init__(self, dumps: Dumps, names: Sequence[str], limit: int) -> None:
        """
        @param names: Which context variables are to travel.
        @param limit: How long, in bytes, a pickled call may be.
        """
        self._dumps = dumps
        self._isStandard = dumps is standardDumps
        self._names = names
        self._limit = limit
        self._known: dict[Callable[..., object], bytes] = {}

    def encode(self, task: Task) -> tuple[bytes, bytes | Parts]:
        """
        Pickle a call: the function, its arguments and keywords, the ID of the call and the number of the attempt, and
        the values of context variables, by their names.

        @return: Two pieces, to be put together: only the second one may be long, or be parts that are to be laid
            somewhere.
        @raise EncodeError: Something in it cannot be pickled; the message names it.
        @raise PayloadTooLarge: It is too long.
        """
        # Hot path, watched by `bench --only processes`.
        func, args, kw = task.callTuple
        values = None
        if self._names and task.context is not None:
            values = valuesIn(task.context[0], self._names)
        name = b""
        if self._isStandard and type(func) is FunctionType:
            module = modules.get(func.__module__)
            if module is not None and module.__dict__.get(func.__qualname__) is func:
                name = self._known.get(func) or self._nameOf(func)
        if kw or not name:
            return self._encodeBuffers(task, name, values)
        for arg in args:
            if type(arg) not in PLAIN:
                return self._encodeBuffers(task, name, values)
        try:
            rest = dumps((args, kw, task.ID, task.attempt, values), 5)
        except BaseException as error:  # pickling runs anybody's code, even a SystemExit of which ends the call only
            raise encodeError(self._dumps, task.callTuple, error) from error
        if len(rest) + len(name) > self._limit:
            raise self._tooLarge(len(rest) + len(name))
        return name, rest

    def _encodeBuffers(
        self, task: Task, name: bytes, values: Mapping[str, object] | None
    ) -> tuple[bytes, bytes | Parts]:
        """
        Pickle a call that buffers may have to be left out of.
        """
        # Hot path, watched by `bench --only processes`.
        func, args, kw = task.callTuple
        for arg in (*args, *kw.values()):
            if type(arg) is bytes and len(arg) >= APART:
                args, kw = _leftOut(args, kw)
                break
        buffers: list[PickleBuffer] = []
        try:
            if name:
                rest = dumps((args, kw, task.ID, task.attempt, values), 5, buffer_callback=buffers.append)
            else:
                name = UNNAMED
                rest = self._dumps((func, args, kw, task.ID, task.attempt, values), buffers.append)
        except BaseException as error:  # pickling runs anybody's code, even a SystemExit of which ends the call only
            # The error may be kept, and must not hold buffers.
            buffers = []
            raise encodeError(self._dumps, task.callTuple, error) from error
        if not buffers:
            if len(rest) + len(name) > self._limit:
                raise self._tooLarge(len(rest) + len(name))
            return name, rest
        parts = Parts((name[2:], rest), buffers)
        name = UNNAMED + MARK
        size = len(name) + len(parts)
        if size > self._limit:
            del parts
            for buffer in buffers:
                buffer.release()
            raise self._tooLarge(size)
        return name, parts if parts.size >= APART else b"".join(parts.inline())

    def _tooLarge(self, size: int) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"the call takes {size} bytes, and {self._limit} are the most that travel; see the worker's keyword 'limit'"
        )

    def _nameOf(self, func: Callable[..., object]) -> bytes:
        """
        Return what a function is known by to children, with its length before it.
        """
        place = f"{func.__module__}:{func.__qualname__}".encode()
        if len(place) >> 16:
            return b""
        if len(self._known) >= FUNCTIONS:
            self._known.clear()
        name = self._known[func] = len(place).to_bytes(2, "little") + place
        return name


def _leftOut(args: Sequence[Any], kw: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Return arguments of which long bytes are not copied into the pickle, but those that it would have to hold twice.
    """
    often = Counter(map(id, (*args, *kw.values())))

    def leftOut(arg: Any) -> Any:
        return PickleBuffer(arg) if type(arg) is bytes and len(arg) >= APART and often[id(arg)] == 1 else arg

    return tuple(map(leftOut, args)), {name: leftOut(arg) for name, arg in kw.items()}


def encodeStart(dumps: Dumps, func: Callable[..., object], args: tuple[Any, ...]) -> bytes:
    """
    Pickle what a child is to call before its first call.

    @raise EncodeError: It cannot be pickled.
    """
    try:
        return dumps((func, args, {}))
    except BaseException as error:  # pickling runs anybody's code
        raise encodeError(dumps, (func, args, {}), error) from error


def encodeError(
    dumps: Dumps, callTuple: tuple[Any, tuple[Any, ...], dict[str, Any]], error: BaseException
) -> EncodeError:
    func, args, kw = callTuple
    if cannot(dumps, func):
        where = "the callable"
        hint = (
            "; a child process needs a function that it can import, or a worker made with pickler='cloudpickle'"
            if getattr(func, "__qualname__", "").rpartition(".")[2] in ("<lambda>", getattr(func, "__name__", ""))
            else ""
        )
        return EncodeError(f"{where}, {safeRepr(func)}, cannot be pickled: {_said(error)}{hint}")
    for name, part in (("args", args), ("kw", kw)):
        if cannot(dumps, part):
            place, part = culprit(dumps, part, name)
            return EncodeError(f"{place}, {safeRepr(part)}, cannot be pickled: {_said(error)}")
    return EncodeError(f"the values of its context variables cannot be pickled: {_said(error)}")


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:1000]}"
    except Exception:  # a foreign __str__ may raise anything
        return type(error).__name__
