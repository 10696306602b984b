"""
What a server in a process of its own does for the measurements of wire workers.
"""

from __future__ import annotations

from collections.abc import Iterator

from asynqueue.wire import WireWorkerUniverse


class Universe(WireWorkerUniverse):
    """
    Trivial methods.
    """

    def identity(self, value: int) -> int:
        """
        Be the trivial function that all calls are of.
        """
        return value

    def echo(self, data: bytes) -> bytes:
        """
        Return what has come.
        """
        return data

    def numbers(self, count: int) -> Iterator[int]:
        """
        Be the trivial generator that all streams come from.
        """
        yield from range(count)
