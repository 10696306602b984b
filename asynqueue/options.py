"""
The options of a call: which there are, what values they take, and how they are told from the function's own keywords.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import isfinite
from typing import Any

from attrs import frozen

#: The keywords that C{TaskQueue.call} takes out of those for the function. All other options go through
#: C{TaskQueue.options}, which leaves the function all of its keywords.
RESERVED = frozenset(
    ["niceness", "series", "doNext", "doLast", "timeout", "consumer", "returnFailure", "raw"],
)


@frozen
class CallOptions:
    """
    What applies to one call beside its place in the queue.

    @ivar timeout: Seconds from the acceptance by a worker until the call is run again, once, or C{None}.
    @ivar consumer: What receives the iterations of a result that is an iterator, or C{None}.
    @ivar raw: Whether an iterator is returned as it is; C{None}: as the worker has it.
    @ivar returnFailure: Whether an error arrives as a C{Failure}; C{None}: as the queue has it.
    @ivar timeLimit: Seconds from its start that the call may take until it is ended, or C{None}.
    @ivar softTimeLimit: Seconds from its start until an exception is raised in the call, or C{None}.
    @ivar idempotent: Whether the call may be run again when it has been lost, or has timed out.
    @ivar alone: The call belongs to a worker and is not given to another: an update.
    @ivar lasting: A worker that starts another process or connection is to run the call there, too.
    """

    timeout: float | None = None
    consumer: Any = None
    raw: bool | None = None
    returnFailure: bool | None = None
    idempotent: bool = True
    alone: bool = False
    lasting: bool = False
    timeLimit: float | None = None
    softTimeLimit: float | None = None


#: What applies where no option is given. Shared, so that a queued call costs no more than it must.
DEFAULT_OPTIONS = CallOptions()


def checkedTimeout(timeout: Any, name: str = "timeout") -> float | None:
    """
    Return C{timeout} as seconds, or C{None}.

    @raise TypeError: It is no number.
    @raise ValueError: It is negative, infinite or not a number at all.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"{name} must be a number of seconds or None, not {timeout!r}")
    if not isfinite(timeout) or timeout < 0:
        raise ValueError(f"{name} must be a finite number of seconds from 0 on, or None, not {timeout!r}")
    return timeout


def checkedSeries(series: Hashable) -> Hashable:
    """
    Return C{series} if it can name one.

    @raise TypeError: It is not hashable.
    """
    try:
        hash(series)
    except TypeError:
        raise TypeError(f"series must be hashable, and {series!r} is not") from None
    return series


def checkedCount(count: Any, name: str) -> int | None:
    """
    Return C{count}, a whole number from 1 on, or C{None}.

    @raise TypeError: It is no whole number.
    @raise ValueError: It is less than 1.
    """
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be a whole number or None, not {count!r}")
    if count < 1:
        raise ValueError(f"{name} must be at least 1, or None, not {count!r}")
    return count
