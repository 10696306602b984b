"""
The transport of an AMP protocol over the pipes between a queue's process and a child with a reactor, at either end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, ITransport
from zope.interface import implementer

if TYPE_CHECKING:
    from asynqueue.process.pipes import PipeWriter


@implementer(IAddress)
class PipeAddress:
    """
    Where a pipe leads to: there is nothing to tell of it.
    """

    def __repr__(self) -> str:
        return "pipe"


@implementer(ITransport)
class PipeTransport:
    """
    Writes into a pipe; who owns it reads from the other one.
    """

    def __init__(self, writer: PipeWriter, lose: Callable[[], object]) -> None:
        """
        @param lose: Called when the protocol has enough of the connection.
        """
        self._writer = writer
        self._lose = lose

    def write(self, data: bytes) -> None:
        """
        Write some bytes.
        """
        # Hot path, watched by `bench --only processes`.
        self._writer.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """
        Write some bytes.
        """
        self._writer.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """
        End the connection.
        """
        self._lose()

    def getPeer(self) -> IAddress:
        """
        Return an address that tells nothing.
        """
        return PipeAddress()

    def getHost(self) -> IAddress:
        """
        Return an address that tells nothing.
        """
        return PipeAddress()
