"""
Functions and objects by name or pickle, so that another process can have them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from asynqueue.pickles import o2p


def dottedName(thing: object) -> str | None:
    """
    Return the name by which a module, or a function or class of one, can be imported, or C{None}.
    """
    try:
        if isinstance(thing, ModuleType):
            return thing.__name__ if sys.modules.get(thing.__name__) is thing else None
        module = getattr(thing, "__module__", None)
        name = getattr(thing, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(name, str):
            return None
        found: Any = sys.modules[module]
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:  # a foreign __getattr__ may raise anything; then it has no name
        return None
    return f"{module}.{name}" if found is thing else None


def namedOrPickled(thing: object) -> str | bytes | None:
    """
    Return the dotted name of an object, else its pickle, or C{None} if it has neither.
    """
    name = dottedName(thing)
    if name is not None:
        return name
    try:
        return o2p(thing)
    except Exception:  # what cannot be pickled says so in many ways
        return None


def parentAndName(func: Any, instance: object = None) -> tuple[Any, str | None]:
    """
    Return the object of which a callable is a method, and its name there; two C{None} for any other.

    @param instance: The object, where the callable does not tell.
    """
    name = func if isinstance(func, str) else getattr(func, "__name__", None)
    parent = getattr(func, "__self__", None) if instance is None else instance
    if parent is None or isinstance(parent, ModuleType) or not isinstance(name, str):
        return None, None
    if instance is None and getattr(parent, name, None) != func:
        # An alias, or a private name: it cannot be had by its name.
        return None, None
    return parent, name
