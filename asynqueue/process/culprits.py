"""
What it is in an object that cannot be pickled.

This module is for both ends, and imports neither Twisted nor anything else that a child does not need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Dumps = Callable[..., bytes]

#: How deep the search goes.
DEPTH = 8

#: How many members of a container it looks at.
MEMBERS = 1000

#: How much of a key, in characters, is shown.
KEY = 100


def cannot(dumps: Dumps, obj: Any) -> bool:
    """
    Tell whether an object cannot be pickled.
    """
    try:
        dumps(obj)
    except BaseException:  # pickling runs anybody's code
        return True
    return False


def culprit(dumps: Dumps, obj: Any, place: str, depth: int = DEPTH) -> tuple[str, Any]:
    """
    Find the smallest part of an object that cannot be pickled, as far as one can look into it.

    @param place: What the object is called, such as C{"args"}.
    @return: What the part is called, such as C{"args[1]['lock']"}, and the part.
    """
    if depth > 0:
        for where, member in _members(obj, place):
            if cannot(dumps, member):
                return culprit(dumps, member, where, depth - 1)
    return place, obj


def located(dumps: Dumps, obj: Any, place: str, error: BaseException) -> BaseException:
    """
    Return an error that says what it is in an object that cannot be pickled.

    @param error: What was raised when it was tried to pickle the object; it is returned if no more is found.
    """
    if not isinstance(error, TypeError | AttributeError) and type(error).__name__ != "PicklingError":
        # It is not about a part: it is too long, or too deep.
        return error
    try:
        where, _ = culprit(dumps, obj, place)
        if where == place:
            return error
        return TypeError(f"{str(error)[: KEY * 10]}: it is {where}").with_traceback(error.__traceback__)
    except BaseException:  # looking into it runs anybody's code, too
        return error


def _members(obj: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(obj, Mapping):
        return [(f"{place}[{_shown(key)}]", value) for key, value in list(obj.items())[:MEMBERS]]
    if isinstance(obj, Sequence) and not isinstance(obj, str | bytes | bytearray | range | memoryview):
        return [(f"{place}[{index}]", value) for index, value in enumerate(obj[:MEMBERS])]
    if isinstance(obj, set | frozenset):
        return [(f"a member of {place}", value) for value in list(obj)[:MEMBERS]]
    attributes = getattr(obj, "__dict__", None)
    if isinstance(attributes, dict) and not callable(obj):
        return [(f"{place}.{name}", value) for name, value in list(attributes.items())[:MEMBERS]]
    return []


def _shown(key: object) -> str:
    try:
        shown = repr(key)
    except BaseException:  # a foreign __repr__ may raise anything
        return f"<{type(key).__name__}>"
    return shown if len(shown) <= KEY else f"{shown[: KEY - 3]}..."
