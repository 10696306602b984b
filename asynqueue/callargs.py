"""
The keywords of a call, taken apart: what is the queue's, and what is the function's.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IConsumer

from asynqueue.options import DEFAULT_OPTIONS, CallOptions, checkedSeries, checkedTimeout
from asynqueue.scheduling.lanes import LAST, NEXT
from asynqueue.scheduling.niceness import checkedNiceness, nicenessOfPriority


@frozen
class Place:
    """
    Where a call stands in a queue.

    @ivar series: Its series.
    @ivar band: Its niceness, or L{NEXT} or L{LAST}.
    """

    series: Hashable = None
    band: int = 0


def optionsOf(keywords: dict[str, Any], explicit: bool = False) -> tuple[Place, CallOptions]:
    """
    Take the options out of a dictionary of keywords.

    @param explicit: Whether the keywords are options and nothing else, so that those that are not reserved count too.
    @return: The place of the call, and what else applies to it.
    @raise ValueError: An option has no proper value, or contradicts another.
    @raise TypeError: An option is of the wrong type.
    """
    take = keywords.pop
    band = checkedNiceness(take("niceness", 0)) if "niceness" in keywords else None
    if explicit and "priority" in keywords:
        if band is not None:
            raise ValueError("niceness and priority are two ways of saying one thing; give one of them")
        band = nicenessOfPriority(take("priority"))
    doNext, doLast = take("doNext", False), take("doLast", False)
    if doNext and doLast:
        raise ValueError(f"doNext={doNext!r} and doLast={doLast!r} contradict each other; give one of them")
    if doNext or doLast:
        band = NEXT if doNext else LAST
    series = checkedSeries(take("series", None))
    timeout = checkedTimeout(take("timeout", None))
    consumer = take("consumer", None)
    raw = take("raw", None)
    returnFailure = take("returnFailure", None)
    idempotent = take("idempotent", True) if explicit else True
    timeLimit, softTimeLimit = _limitsOf(keywords) if explicit else (None, None)
    place = Place(series, band or 0)
    given = (timeout, consumer, raw, returnFailure, timeLimit, softTimeLimit)
    if all(value is None for value in given) and idempotent is True:
        return place, DEFAULT_OPTIONS
    if consumer is not None and not IConsumer.providedBy(consumer):
        raise TypeError(f"consumer must provide IConsumer, and {consumer!r} does not")
    return place, CallOptions(
        timeout,
        consumer,
        None if raw is None else bool(raw),
        None if returnFailure is None else bool(returnFailure),
        bool(idempotent),
        timeLimit=timeLimit,
        softTimeLimit=softTimeLimit,
    )


def _limitsOf(keywords: dict[str, Any]) -> tuple[float | None, float | None]:
    """
    Take the limits of the time that a call may run.
    """
    hard = checkedTimeout(keywords.pop("timeLimit", None), "timeLimit")
    soft = checkedTimeout(keywords.pop("softTimeLimit", None), "softTimeLimit")
    if hard is not None and soft is not None and soft >= hard:
        raise ValueError(f"softTimeLimit={soft!r} must be less than timeLimit={hard!r}")
    return hard, soft
