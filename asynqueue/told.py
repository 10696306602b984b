"""
Exceptions as a child tells of them: what can be made of them anew, and the text of the traceback in any case.

This module is for the child, and imports nothing that a child does not need. L{asynqueue.rebuilt} is its
counterpart.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: How long the text of a traceback may be, in characters.
TEXT_LIMIT = 65_536

#: How many exceptions are told of that belong to one: causes and contexts.
LINKS_LIMIT = 20

#: How long, in bytes, what is pickled of one exception may be.
STATE_LIMIT = 1 << 20

#: What an exception is told as: the full name of its class; its text; its traceback as text; what it can be made anew
#: of, mostly C{pickle} of its class, arguments and attributes, or nothing if that cannot be; its cause and its context
#: likewise, or C{None}; and whether the context is suppressed. The exceptions of a group are among its arguments.
if TYPE_CHECKING:
    Told = tuple[Any, ...]


def pickledState(error: BaseException) -> bytes:
    """
    Return the pickle of an exception's class, arguments and attributes, or nothing if that cannot be. Never raises any.
    """
    return pickledParts(type(error), error.args, attributesOf(error))


def pickledParts(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> bytes:
    """
    Return the pickle of what an exception can be made anew of, or nothing if that cannot be. Never raises any.
    """
    from pickle import dumps

    try:
        state = dumps((kind, args, attributes), 5)
    except BaseException:  # what pickling an exception of anybody's raises does not matter: the text tells
        return b""
    return state if len(state) <= STATE_LIMIT else b""


def told(error: BaseException, stateOf: Callable[[BaseException], bytes] = pickledState) -> Told:
    """
    Tell of an exception. Never raises one.

    @param stateOf: Returns what the exception can be made anew of, or nothing. Never raises any.
    """
    return _told(error, stateOf, set(), [LINKS_LIMIT], withText=True)


def _told(
    error: BaseException,
    stateOf: Callable[[BaseException], bytes],
    seen: set[int],
    left: list[int],
    withText: bool = False,
) -> Told:
    seen.add(id(error))
    left[0] -= 1
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    cause, context = error.__cause__, error.__context__
    return (
        name,
        _safely(str, error),
        _text(error) if withText else "",
        stateOf(error),
        _linked(cause, stateOf, seen, left),
        _linked(context, stateOf, seen, left) if context is not cause else None,
        error.__suppress_context__,
    )


def _linked(
    error: BaseException | None, stateOf: Callable[[BaseException], bytes], seen: set[int], left: list[int]
) -> Told | None:
    if error is None or id(error) in seen or left[0] <= 0:
        return None
    return _told(error, stateOf, seen, left)


def attributesOf(error: BaseException) -> dict[str, Any]:
    """
    Return what an exception has beside its arguments: its dictionary, and what its class keeps elsewhere.
    """
    found: dict[str, Any] = {}
    for base in type(error).__mro__:
        for name, value in vars(base).items():
            if type(value).__name__ in ("member_descriptor", "getset_descriptor") and not name.startswith("__"):
                try:
                    value = getattr(error, name)
                except AttributeError:
                    # It is not set.
                    continue
                if value is not None:
                    # OSError for one makes a difference between None and nothing.
                    found[name] = value
    found.pop("args", None)
    found.update(getattr(error, "__dict__", {}))
    return found


def _text(error: BaseException) -> str:
    from traceback import TracebackException

    try:
        lines = TracebackException(type(error), error, error.__traceback__, limit=-100, compact=True).format()
        text = "".join(lines)
        # The error itself comes last, after what has led to it; and its name comes before its message.
        half = TEXT_LIMIT // 2
        return text if len(text) <= TEXT_LIMIT else f"{text[:half]}\n[cut]\n{text[-half:]}"
    except BaseException as other:  # a foreign __str__ may raise anything
        return f"{type(error).__name__}: its traceback cannot be shown, for {type(other).__name__} was raised at that\n"


def _safely(show: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        shown = show(error)
        return shown[:TEXT_LIMIT] if isinstance(shown, str) else ""
    except BaseException:  # a foreign __str__ may raise anything
        return ""
