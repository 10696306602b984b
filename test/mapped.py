"""
Functions for maps that child processes run: they import this module, and nothing that takes long.
"""

from __future__ import annotations

import os
import signal
from typing import Any


def inverse(number: float) -> float:
    """
    Divide one by a number.
    """
    return 1 / number


def isBad(number: int) -> int:
    """
    Raise an exception for 13.
    """
    if number == 13:
        raise LookupError("13 is none")
    return number


class Unpicklable:
    """
    Cannot be pickled.
    """

    def __reduce__(self) -> Any:
        raise TypeError("this is not to be pickled")


class Ununpicklable:
    """
    Can be pickled, but not unpickled.
    """

    def __reduce__(self) -> Any:
        return inverse, (0,)


def killAt(number: int) -> int:
    """
    End the process for 77.
    """
    if number == 77:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def unpicklableAt(number: int) -> Any:
    """
    Return what cannot be pickled for 77, and what cannot be unpickled for 78.
    """
    return {77: Unpicklable, 78: Ununpicklable}.get(number, lambda: [number])()
