"""
The class to derive from for objects whose methods are called from afar by their names.
"""

from __future__ import annotations

from typing import Any


class WireWorkerUniverse:
    """
    Derive from this class, and the public methods of the derived class can be called by their names: those that do not
    begin with an underscore. They may return Deferreds, or be coroutine functions.

    @ivar wireServer: The server that has the object, or C{None}.
    """

    def __init__(self, wireServer: Any = None) -> None:
        self.wireServer = wireServer

    @classmethod
    def check(cls, instance: object) -> None:
        """
        @raise TypeError: An object is no instance of a class that is derived from this one.
        """
        if not isinstance(instance, cls):
            raise TypeError(f"{instance!r} is no instance of {cls.__name__}, or of a class derived from it")

    def methodNames(self) -> list[str]:
        """
        Return the names of the methods that can be called.
        """
        own = set(dir(WireWorkerUniverse))
        return [
            name
            for name in dir(type(self))
            if not name.startswith("_") and name not in own and self._isMethod(getattr(type(self), name))
        ]

    @staticmethod
    def _isMethod(member: object) -> bool:
        return callable(member) and not isinstance(member, type)
