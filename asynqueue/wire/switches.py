"""
The switches that permit what is refused by default: which there are, and which are in use in this process.

Each is logged when it is first used, and C{asynqueue doctor} lists them.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen
from twisted.logger import Logger

#: What each switch permits.
SWITCHES = {
    "insecure_plaintext": "connections that anyone on the way can read, change or make",
    "insecure_one_way_tls": "clients of which TLS does not say who they are, so that anyone may be one",
    "insecure_root": "a listener in a process of root, so that a mistake in it is a mistake of root's",
}


@frozen
class SwitchInUse:
    """
    A switch that is in use.

    @ivar name: Its name, C{insecure_...}.
    @ivar where: What it was given for, mostly the description of an endpoint.
    """

    name: str
    where: str

    @property
    def permits(self) -> str:
        """
        What it permits.
        """
        return SWITCHES[self.name]


class InsecureSwitches:
    """
    Remembers which switches are in use, and logs each the first time that it is used somewhere.
    """

    log = Logger()

    def __init__(self) -> None:
        self._used: dict[SwitchInUse, None] = {}

    def use(self, name: str, where: str) -> None:
        """
        Note that a switch is used.

        @raise ValueError: There is no such switch.
        """
        if name not in SWITCHES:
            raise ValueError(f"name must be one of {', '.join(SWITCHES)}, not {name!r}")
        used = SwitchInUse(name, where)
        if used in self._used:
            return
        self._used[used] = None
        self.log.warn("{switch}=True permits, for {where}: {permits}", switch=name, where=where, permits=used.permits)

    def inUse(self) -> tuple[SwitchInUse, ...]:
        """
        Return what is in use, in the order in which it was first used.
        """
        return tuple(self._used)


#: Those of this process.
switches = InsecureSwitches()


def insecureSwitchesInUse() -> Mapping[str, tuple[str, ...]]:
    """
    Return, by the name of each switch that is in use in this process, where it is.
    """
    found: dict[str, tuple[str, ...]] = {}
    for used in switches.inUse():
        found[used.name] = (*found.get(used.name, ()), used.where)
    return found
