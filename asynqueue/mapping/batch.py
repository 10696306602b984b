"""
Several items with one call: what a worker runs of a map, and what it reports of each item.

A child process imports this module, which imports nothing that a child does not need.
"""

from __future__ import annotations

import pickle
from contextvars import copy_context
from sys import getsizeof
from threading import get_ident
from time import perf_counter

from asynqueue.currentcall import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: How much memory, in bytes, the results of one call may take until the items after them are left to another call: as
#: far as C{sys.getsizeof} knows.
MEMORY = 1 << 20

#: Types whose instances consist of themselves alone, and can always be pickled.
SCALARS = frozenset([type(None), bool, int, float, complex, str, bytes])

#: Types of results that are frequent, and neither awaited nor iterated over.
PLAIN = SCALARS | {bytearray, list, tuple, dict, set, frozenset}


class MappedCall:
    """
    Calls a function with one item after the other, until time is up.

    An exception of the function costs its item only. Each item has a copy of the context for itself.
    """

    __slots__ = ("func", "span")

    def __init__(self, func: Callable[[Any], Any], span: float) -> None:
        """
        @param span: After how many seconds the items that are left are not begun with.
        """
        self.func = func
        self.span = span

    @property
    def __name__(self) -> str:
        from asynqueue.callinfo import functionName

        return f"map of {functionName(self.func)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedCall, (self.func, self.span)

    def __call__(self, *items: Any) -> Any:
        """
        Call the function with each item, with the first one in any case.

        @return: A L{BatchOutcome}, of fewer items if time is up, nobody waits any more or the results are large; or a
            coroutine that makes one, if the function returned something to be awaited; or, if that is what it returned
            for the first item, an iterator.
        """
        # Hot path, watched by `bench --only map`.
        func = self.func
        outcome = BatchOutcome()
        append = outcome.values.append
        call = current.get()
        memory = MEMORY
        began = perf_counter()
        until = began + self.span
        for item in items:
            try:
                value = copy_context().run(func, item)
            except BaseException as error:  # even a SystemExit of the function's own is an error of the item
                _forgetFrame(error)
                outcome.fail(error)
                if not isinstance(error, Exception):
                    # Perhaps it was meant for more than the item, such as an interrupt of the whole call.
                    break
            else:
                kind = type(value)
                if kind not in PLAIN:
                    if hasattr(kind, "__await__"):
                        outcome.elapsed = perf_counter() - began
                        return _awaited(value, outcome)
                    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
                        if not outcome.values:
                            return value
                        # It is made again by a call of its own.
                        outcome.isPlain = False
                        _close(value)
                        break
                append(value)
                memory -= getsizeof(value, 0)
            if perf_counter() > until or memory <= 0 or (call is not None and call.cancelled):
                break
        outcome.elapsed = perf_counter() - began
        return outcome


class BatchOutcome:
    """
    What has come of the first items of a batch, as many as there are values.

    When it is pickled, a result that cannot be becomes an error of its item; when it is unpickled, likewise.

    @ivar values: The results, and C{None} in the places of errors.
    @ivar errors: For each error, in order: the index of the item; where it was: C{"result"} if the result could not be
        pickled, C{"unpickling"} if that could not be undone, otherwise an empty text; and the exception, or what
        L{asynqueue.told} makes of it.
    @ivar elapsed: Seconds that the items have taken.
    @ivar isPlain: Whether the function returned nothing that is to be awaited or iterated over.
    @ivar thread: The identity of the thread, or C{None} after pickling.
    """

    __slots__ = ("elapsed", "errors", "isPlain", "thread", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.errors: list[tuple[int, str, Any]] = []
        self.elapsed = 0.0
        self.isPlain = True
        self.thread: int | None = get_ident()

    def fail(self, error: BaseException) -> None:
        """
        Note that the next item has failed.
        """
        self.errors.append((len(self.values), "", error))
        self.values.append(None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Hot path, watched by `bench --only map`.
        errors = [] if not self.errors else [(index, where, _told(error)) for index, where, error in self.errors]
        if SCALARS.issuperset(map(type, self.values)):
            return _restored, (self.values, errors, self.elapsed, self.isPlain)
        # One by one, so that each keeps its trouble for itself, and no two results share a part.
        pickled = [_pickled(index, value, errors) for index, value in enumerate(self.values)]
        errors.sort(key=_first)
        return _unpickled, (pickled, errors, self.elapsed, self.isPlain)


def _first(error: tuple[int, str, Any]) -> int:
    return error[0]


def _told(error: Any) -> Any:
    if not isinstance(error, BaseException):
        return error
    from asynqueue.told import told

    return told(error)


def _pickled(index: int, value: Any, errors: list[tuple[int, str, Any]]) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except BaseException as error:  # pickling runs anybody's code
        errors.append((index, "result", _told(error)))
        return None


def _restored(values: list[Any], errors: list[tuple[int, str, Any]], elapsed: float, isPlain: bool) -> BatchOutcome:
    outcome = BatchOutcome()
    outcome.values = values
    outcome.errors = errors
    outcome.elapsed = elapsed
    outcome.isPlain = isPlain
    outcome.thread = None
    return outcome


def _unpickled(
    pickled: list[bytes | None], errors: list[tuple[int, str, Any]], elapsed: float, isPlain: bool
) -> BatchOutcome:
    values: list[Any] = []
    failed = False
    for packed in pickled:
        try:
            values.append(None if packed is None else pickle.loads(packed))
        except BaseException as error:  # unpickling runs anybody's code
            failed = True
            errors.append((len(values), "unpickling", error))
            values.append(None)
    if failed:
        errors.sort(key=_first)
    return _restored(values, errors, elapsed, isPlain)


async def _awaited(value: Any, outcome: BatchOutcome) -> Any:
    """
    Wait for the result of an item, which is the last of its batch.
    """
    outcome.isPlain = False
    try:
        result = await value
    except GeneratorExit:
        raise
    except BaseException as error:  # even a SystemExit of the function's own is an error of the item
        _forgetFrame(error)
        outcome.fail(error)
        return outcome
    if not outcome.values and (hasattr(type(result), "__next__") or hasattr(type(result), "__anext__")):
        return result
    outcome.values.append(result)
    return outcome


def _forgetFrame(error: BaseException) -> None:
    """
    Take the frame of this module out of a traceback: it refers to all items and results.
    """
    trace = error.__traceback__
    if trace is not None and trace.tb_next is not None:
        error.__traceback__ = trace.tb_next


def _close(iterator: Any) -> None:
    close = getattr(iterator, "close", None)
    if callable(close):
        try:
            close()
        except BaseException as error:  # an iterator may be anybody's, and nobody waits for it
            error.__traceback__ = None
