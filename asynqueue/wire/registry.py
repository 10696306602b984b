"""
Functions that can be called from afar by their names, and by whom.

Nothing else can be reached: a name is looked up once, in a dictionary, and no dot in it means anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from attrs import frozen
from twisted.logger import Logger

from asynqueue.callinfo import functionName
from asynqueue.errors import NotAuthorized
from asynqueue.options import checkedCount, checkedTimeout
from asynqueue.wire.identity import Identity, rolesFrom
from asynqueue.wire.universe import WireWorkerUniverse

#: What the name of an exposed function looks like.
NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}", re.ASCII)

#: What a name looks like that is looked up: the name of an exposed function, or of a method of a universe.
ANY_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_.]{0,63}")


@frozen
class Exposed:
    """
    A function that can be called from afar.

    @ivar name: Its name there.
    @ivar roles: Those of which the caller must have one.
    @ivar isMethod: Whether it is a method of a universe, which is run in the reactor unless the caller wants a thread.
    @ivar maxArguments: How long, in bytes, what it is called with may be, or C{None}: as long as the connection bears.
    @ivar maxResult: The same of its result.
    @ivar timeLimit: Seconds that it may take, or C{None}.
    """

    name: str
    function: Callable[..., Any]
    roles: frozenset[str] = frozenset({"submit"})
    isMethod: bool = False
    maxArguments: int | None = None
    maxResult: int | None = None
    timeLimit: float | None = None


_exposed: dict[str, Exposed] = {}


def expose(
    name: str,
    *,
    roles: Iterable[str] = ("submit",),
    maxArguments: int | None = None,
    maxResult: int | None = None,
    timeLimit: float | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Let a function be called from afar by a name. To be used as a decorator.

    @param name: Lower-case letters, digits, dots and underscores, at most 64, a letter first.
    @param roles: Those of which a caller must have one.
    @param maxArguments: How long, in bytes, what it is called with may be.
    @param maxResult: How long, in bytes, its result may be.
    @param timeLimit: Seconds that a call may take.
    @return: The decorator, which returns the function itself.
    @raise ValueError: The name is none, is taken, also by a method of the universe of a server that there is, or there
        is no such role.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"name must be 1 to 64 lower-case letters, digits, dots and underscores, a letter first, not {name!r}"
        )
    given = rolesFrom(roles)
    checkedCount(maxArguments, "maxArguments")
    checkedCount(maxResult, "maxResult")
    checkedTimeout(timeLimit, "timeLimit")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise TypeError(f"only what can be called can be exposed, not {function!r}")
        known = _exposed.get(name)
        # A module that is loaded again brings its functions again.
        if known is not None and _placeOf(known.function) != _placeOf(function):
            raise ValueError(f"there is another function exposed as {name!r}: {known.function!r}")
        exposed = Exposed(name, function, given, False, maxArguments, maxResult, timeLimit)
        for registry in list(_registries):
            registry.checkUnique(exposed)
        _exposed[name] = exposed
        return function

    return decorate


def _placeOf(function: Any) -> tuple[Any, Any]:
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)


class Registry:
    """
    What there is to be called on a node: the functions that have been exposed, and the methods of its universe.
    """

    log = Logger()

    def __init__(self, universe: WireWorkerUniverse | None = None) -> None:
        """
        @raise TypeError: That is no universe.
        @raise ValueError: A function is exposed by the name of one of its methods.
        """
        self._methods: dict[str, Exposed] = {}
        if universe is not None:
            WireWorkerUniverse.check(universe)
            for name in universe.methodNames():
                self._methods[name] = Exposed(name, getattr(universe, name), isMethod=True)
        for exposed in _exposed.values():
            self.checkUnique(exposed)
        _registries.add(self)

    def checkUnique(self, exposed: Exposed) -> None:
        """
        Make sure that no method has the name of a function: the roles of one are not those of the other.

        @raise ValueError: One has.
        """
        method = self._methods.get(exposed.name)
        if method is not None:
            raise ValueError(
                f"{exposed.name!r} is the name of two things that can be called from afar: of the method"
                f" {functionName(method.function)} of a universe, and of the function {functionName(exposed.function)},"
                " which is exposed by it: give one of them another name"
            )

    def find(self, name: bytes, identity: Identity) -> Exposed:
        """
        Return what is called by a name.

        @raise NotAuthorized: There is no such thing, or not for that caller. Which of the two it is, is not told.
        """
        # Hot path, watched by `bench --only wire`.
        text = name.decode("ascii") if ANY_NAME.fullmatch(name) else ""
        found = self._methods.get(text) or _exposed.get(text)
        if found is not None and any(identity.may(role) for role in found.roles):
            return found
        if found is not None:
            roles = ", ".join(sorted(found.roles))
            self.log.debug("{who} has none of the roles {roles} for {name}", who=identity.name, roles=roles, name=text)
        shown = name.decode("ascii", "backslashreplace")
        raise NotAuthorized(f"nothing is exposed as {shown!r:.100} there that {identity.name} may call")

    def names(self) -> list[str]:
        """
        Return all names, sorted.
        """
        return sorted({*self._methods, *_exposed})


#: All that there are, which a function that is exposed later must fit into.
_registries: WeakSet[Registry] = WeakSet()
