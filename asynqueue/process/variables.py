"""
Context variables that travel with a call to a child: those that a program has named, and whose values can be pickled.

A variable is named by its module and its name there, such as C{"myprogram.requests.requestID"}, since both ends have to
find it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context, ContextVar
    from typing import Any

_known: dict[str, ContextVar[Any]] = {}


def variableOf(name: str) -> ContextVar[Any]:
    """
    Return a context variable by its name.

    @raise TypeError: The name is none, or there is something else by it.
    @raise ImportError: Its module cannot be imported.
    @raise AttributeError: Its module has no such variable.
    """
    variable = _known.get(name)
    if variable is None:
        from contextvars import ContextVar
        from importlib import import_module

        if not isinstance(name, str) or "." not in name:
            raise TypeError(f"a context variable must be named by its module and its name, not {name!r}")
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, ContextVar):
            raise TypeError(f"{name} is no context variable, but {found!r}")
        variable = _known[name] = found
    return variable


def valuesIn(context: Context | None, names: Sequence[str]) -> dict[str, Any] | None:
    """
    Return the values that variables have in a context, by the names of those that have one.
    """
    if context is None:
        return None
    values = {name: context[variableOf(name)] for name in names if variableOf(name) in context}
    return values or None


def setVariables(values: dict[str, Any]) -> None:
    """
    Set variables in the present context.
    """
    for name, value in values.items():
        variableOf(name).set(value)
