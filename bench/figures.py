"""
Medians, spreads, and ratios of figures that were measured in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from attrs import frozen


@frozen
class Spread:
    """
    What some measurements of one thing have in common.

    @ivar median: The middle one.
    @ivar low: The least.
    @ivar high: The greatest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """
        Sum up values, of which there must be one at least.
        """
        return cls(median(values), min(values), max(values))


def ratios(dividends: Sequence[float | None], divisors: Sequence[float | None]) -> list[float]:
    """
    Divide each figure by the one that was measured in the same turn, where there are both.

    What slows down the machine for more than a moment slows down both, and the ratio stays what it is.
    """
    return [
        dividend / divisor
        for dividend, divisor in zip(dividends, divisors, strict=True)
        if dividend is not None and divisor is not None and divisor > 0
    ]
