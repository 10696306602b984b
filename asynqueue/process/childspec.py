"""
What the children of a worker are like: the worker's keywords, checked, in the form in which children are made of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from asynqueue.options import checkedCount, checkedTimeout
from asynqueue.process.encoding import encodeStart, picklerOf
from asynqueue.process.mainmodule import mainOf
from asynqueue.process.variables import variableOf

if TYPE_CHECKING:
    from asynqueue.process.encoding import Dumps


@frozen
class ChildSpec:
    """
    What the children of a worker are like.

    @ivar environment: Their environment variables.
    @ivar settings: What they get to know.
    @ivar dumps: Pickles for them.
    @ivar limit: How long, in bytes, what travels of a single call or result may be.
    @ivar variables: Which context variables travel with calls.
    @ivar maxTasks: How many calls one of them may run, or C{None}.
    @ivar maxMemory: How much resident memory, in kilobytes, it may have after a call, or C{None}.
    @ivar maxGrowth: How many times the memory that it had after its first call, or C{None}.
    @ivar maxAge: How old, in seconds, it may get, or C{None}.
    @ivar isGuarded: Whether what it has started is ended when this process is killed.
    @ivar hasReactor: Whether it runs its calls in a reactor, many at once.
    @ivar grace: How long, in seconds, a call that has been interrupted may go on.
    @ivar startLimit: How long, in seconds, it may take to get ready.
    """

    environment: Mapping[str, str]
    settings: Mapping[str, Any]
    dumps: Dumps
    limit: int
    variables: Sequence[str]
    maxTasks: int | None
    maxMemory: int | None
    maxGrowth: float | None
    maxAge: float | None
    isGuarded: bool
    hasReactor: bool
    grace: float
    startLimit: float


def childSpec(
    *,
    callStats: bool,
    useReactor: bool,
    onStart: Callable[..., object] | None,
    onStartArgs: Sequence[Any],
    pickler: str | None,
    environment: Mapping[str, str] | None,
    contextVars: Sequence[str],
    limit: int,
    grace: float,
    startLimit: float,
    maxTasks: int | None,
    maxMemory: int | None,
    maxGrowth: float | None,
    maxAge: float | None,
    guard: bool,
) -> ChildSpec:
    """
    Check the keywords of a worker.

    @see: C{ProcessWorker} for what they mean.
    @raise ValueError: A number is out of its range.
    @raise TypeError: An argument is of the wrong type.
    @raise EncodeError: C{onStart} or its arguments cannot be pickled.
    """
    checkedCount(limit, "limit")
    checkedCount(maxTasks, "maxTasks")
    checkedCount(maxMemory, "maxMemory")
    checkedTimeout(maxAge, "maxAge")
    if checkedTimeout(maxGrowth, "maxGrowth") is not None and not (maxGrowth or 0) > 1:
        raise ValueError(f"maxGrowth must be more than 1, not {maxGrowth!r}")
    if checkedTimeout(startLimit, "startLimit") is None or not startLimit:
        raise ValueError(f"startLimit must be more than 0 seconds, not {startLimit!r}")
    if isinstance(contextVars, str):
        raise TypeError(f"contextVars must be a list of names, such as [{contextVars!r}], not {contextVars!r}")
    for name in contextVars:
        variableOf(name)
    if onStart is not None and not callable(onStart):
        raise TypeError(f"onStart must be callable, and {onStart!r} is not")
    dumps = picklerOf(pickler)
    settings = {
        "callStats": bool(callStats),
        "starts": [] if onStart is None else [encodeStart(dumps, onStart, tuple(onStartArgs))],
        "main": mainOf(),
        "module": f"asynqueue.process.{'reactorchild' if useReactor else 'child'}",
    }
    return ChildSpec(
        environment=os.environ if environment is None else dict(environment),
        settings=settings,
        dumps=dumps,
        limit=limit,
        variables=tuple(contextVars),
        maxTasks=maxTasks,
        maxMemory=maxMemory,
        maxGrowth=maxGrowth,
        maxAge=maxAge,
        isGuarded=bool(guard),
        hasReactor=bool(useReactor),
        grace=checkedTimeout(grace, "grace") or 0.0,
        startLimit=startLimit,
    )
