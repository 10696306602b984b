"""
What a service tells systemd: that it is ready, and that it is stopping (C{sd_notify(3)}).
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

from twisted.logger import Logger

#: The variable that has the address to write to.
VARIABLE = "NOTIFY_SOCKET"


class Notices:
    """
    Tells the service manager what there is to tell, if there is one.
    """

    log = Logger()

    def __init__(self, variables: MutableMapping[str, str]) -> None:
        """
        @param variables: The environment, of which the address is taken out, so that no child process has it.
        """
        self._address = variables.pop(VARIABLE, "")

    def ready(self, status: str) -> None:
        """
        Tell that the service is ready, and in a few words what it does.
        """
        self._tell(f"READY=1\nSTATUS={status.splitlines()[0]}")

    def stopping(self) -> None:
        """
        Tell that the service is coming to its end.
        """
        self._tell("STOPPING=1\nSTATUS=stopping")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # An abstract address is written with an at sign, and begins with a zero.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode("utf-8", "surrogateescape"), address)
        except (AttributeError, OSError, ValueError) as error:
            # Where there are no such sockets, or nobody is there: the service is no worse for it.
            self.log.warn("{variable} cannot be written to: {error}", variable=VARIABLE, error=error)
