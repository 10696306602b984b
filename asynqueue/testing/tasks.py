"""
Functions for tests to call: small, and importable wherever a worker runs them.
"""

from __future__ import annotations

from typing import Any


def identity(value: Any) -> Any:
    """
    Return the value.
    """
    return value


def timesTwo(number: Any) -> Any:
    """
    Return twice the number.
    """
    return 2 * number


def fail(kind: type[BaseException], *args: Any) -> Any:
    """
    Raise an exception of a class.
    """
    raise kind(*args)
