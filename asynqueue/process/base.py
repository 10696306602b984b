"""
An object that keeps data in each process to which it has been sent.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The data of this process, by the identity that an object and all its copies have.
_data: dict[str, dict[str, Any]] = {}


class ProcessBase:
    """
    The base of objects whose methods are called in child processes, and keep something there from call to call.

        >>> class Model(ProcessBase):
        ...     def load(self, path):
        ...         self.data["table"] = read(path)
        ...     def look(self, key):
        ...         return self.table[key]

    A copy of the object travels with each call. L{data} is that of the process in which it is read, and is the same
    dictionary for all copies of one object there. Attributes that the object does not have are looked up in it.
    """

    @property
    def pid(self) -> int:
        """
        The ID of the process in which this is read.
        """
        return os.getpid()

    @property
    def data(self) -> dict[str, Any]:
        """
        What the object has in the process in which this is read.
        """
        identity = self.__dict__.get("_identity")
        if identity is None:
            identity = self.__dict__["_identity"] = f"{os.getpid()}-{os.urandom(8).hex()}"
        return _data.setdefault(identity, {})

    def __getstate__(self) -> dict[str, Any]:
        # A copy is known for one of this object, even if nobody has looked at the data here.
        self.data  # noqa: B018
        return dict(self.__dict__)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            try:
                return self.data[name]
            except KeyError:
                pass
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}, neither of its own nor in its data of process "
            f"{os.getpid()}"
        )
