"""
What a map sends with one call, and what is made of the errors that come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

from twisted.python.failure import Failure

from asynqueue.errors import ResultDecodeError, ThreadError, WorkerError
from asynqueue.failures import errorText, failureOf
from asynqueue.mapping.batch import BatchOutcome
from asynqueue.rebuilt import rebuiltFailure


class Parcel:
    """
    Items that follow one another, on their way.

    @ivar start: The number of the first one.
    @ivar isPlain: Whether it is one item, with which the function itself is called.
    """

    __slots__ = ("isPlain", "items", "start")

    def __init__(self, start: int, items: Sequence[Any], isPlain: bool = False) -> None:
        self.start = start
        self.items = items
        self.isPlain = isPlain


def itemFailure(where: str, error: Any, outcome: BatchOutcome) -> Failure:
    """
    Make the failure of one item of a batch.
    """
    if where == "unpickling":
        undone = ResultDecodeError(f"the result could not be unpickled: {type(error).__name__}: {str(error)[:1000]}")
        undone.__cause__ = error
        return Failure(undone)
    if isinstance(error, BaseException):
        return failureOf(errorText(error, WorkerError if outcome.thread == get_ident() else ThreadError))
    return rebuiltFailure(where, error)
