"""
The caller's context: contextvars and C{twisted.python.context} as they were at the call, for whoever runs the callable.

What a callable sets in it stays in it: each attempt gets a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.python import context as twistedContext

from asynqueue.currentcall import current

if TYPE_CHECKING:
    from asynqueue.currentcall import RunningCall
    from asynqueue.tasks import Task

T = TypeVar("T")

#: A captured context: contextvars, and the dictionary of C{twisted.python.context}, either C{None} where empty.
Captured = tuple[Context | None, dict[Any, Any] | None]


def captureContext() -> Captured | None:
    """
    Return the context of the caller, or C{None} when it is empty, as it mostly is.
    """
    # Hot path, watched by `bench --only reactor`.
    variables = copy_context()
    stack = twistedContext.theContextTracker.currentContext().contexts
    if len(stack) == 1:
        return (variables, None) if variables else None
    merged: dict[Any, Any] = {}
    for each in stack[1:]:
        merged.update(each)
    return (variables or None, merged)


def runInContext(
    captured: Captured | None, task: Task, func: Callable[..., T], args: tuple[Any, ...], kw: Mapping[str, Any]
) -> T:
    """
    Call a function in a copy of a captured context, in which L{asynqueue.currentCall} tells of C{task}.
    """
    if captured is None:
        return Context().run(_invoke, task, func, args, kw)
    variables, inherited = captured
    fresh = Context() if variables is None else variables.copy()
    if inherited is None:
        return fresh.run(_invoke, task, func, args, kw)
    result: T = twistedContext.call(inherited, fresh.run, _invoke, task, func, args, kw)
    return result


class Surroundings:
    """
    One copy of a captured context, for code that runs bit by bit: what it sets stays set for the next bit.
    """

    __slots__ = ("_inherited", "_variables")

    def __init__(self, captured: Captured | None = None, task: RunningCall | None = None) -> None:
        """
        @param task: What L{asynqueue.currentCall} tells of, if anything.
        """
        variables, self._inherited = (None, None) if captured is None else captured
        self._variables = Context() if variables is None else variables.copy()
        self._variables.run(current.set, task)

    def run(self, func: Callable[..., T], *args: Any) -> T:
        """
        Call a function here. Not to be called by what it calls.
        """
        if self._inherited is None:
            return self._variables.run(func, *args)
        result: T = twistedContext.call(self._inherited, self._variables.run, func, *args)
        return result

    def keep(self) -> None:
        """
        Run the next bit in a copy of the context in which this is called.
        """
        self._variables = copy_context()


def _invoke(task: Task, func: Callable[..., T], args: tuple[Any, ...], kw: Mapping[str, Any]) -> T:
    current.set(task)
    return func(*args, **kw)
