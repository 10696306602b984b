"""
Niceness: what values it takes, and what a dispatch at each niceness costs.

A lane at niceness M{n} has the weight M{2 ** (-n / 10)}. Each dispatch advances the tag of its lane by M{1 / weight}.
Both are kept as integers, so that nothing drifts and M{cost(n + 10) == 2 * cost(n)} holds to the last bit.
"""

from __future__ import annotations

NICEST = 20
KEENEST = -20

#: The cost of a dispatch at niceness -20 … -11; ten steps further on it is exactly twice as much.
_FIRST_COSTS = [round((1 << 20) * 2 ** ((niceness + 20) / 10)) for niceness in range(-20, -10)]

#: What one dispatch adds to the tag of a lane, by niceness.
COSTS: dict[int, int] = {
    niceness: _FIRST_COSTS[(niceness + 20) % 10] << ((niceness + 20) // 10) for niceness in range(KEENEST, NICEST + 1)
}

#: M{cost * weight}, the same for every niceness, rounded; virtual time advances by this over the weight at work.
UNIT = 1 << 48

#: The weight of a lane, by niceness.
WEIGHTS: dict[int, int] = {niceness: UNIT // cost for niceness, cost in COSTS.items()}


def checkedNiceness(niceness: object) -> int:
    """
    Return C{niceness} if it is one.

    @raise ValueError: It is no integer (a bool is none), or out of -20 … 20.
    """
    if type(niceness) is not int:
        if isinstance(niceness, bool) or not isinstance(niceness, int):
            raise ValueError(f"niceness must be an integer from {KEENEST} to {NICEST}, not {niceness!r}")
        niceness = int(niceness)
    if not KEENEST <= niceness <= NICEST:
        raise ValueError(f"niceness must be from {KEENEST} to {NICEST}, not {niceness!r}")
    return niceness


def nicenessOfPriority(priority: object) -> int:
    """
    Map a priority of 0 (first) … 9 (last) linearly onto niceness -20 … 20.

    @raise ValueError: It is no integer (a bool is none), or out of 0 … 9.
    """
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 9:
        raise ValueError(f"priority must be an integer from 0 (first) to 9 (last), not {priority!r}")
    return round(KEENEST + priority * (NICEST - KEENEST) / 9)
