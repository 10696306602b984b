"""
What a function may know of the call that it runs in, wherever it runs.

This module imports nothing that a child process does not need.
"""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Protocol

    class RunningCall(Protocol):
        """
        A call that is being run.
        """

        @property
        def ID(self) -> int:
            """
            The ID of the call on its queue.
            """

        @property
        def attempt(self) -> int:
            """
            Which attempt at the call this is, from 1 on.
            """

        @property
        def series(self) -> Hashable:
            """
            The series of the call; C{None} in a child process.
            """

        @property
        def workerID(self) -> int | None:
            """
            The ID of the worker that runs it.
            """

        @property
        def cancelled(self) -> bool:
            """
            Whether nobody waits for the outcome any more.
            """


current: ContextVar[RunningCall | None] = ContextVar("asynqueue.currentCall", default=None)


def currentCall() -> RunningCall | None:
    """
    Return the attempt that is running here, in the reactor's thread, any other or a child process, or C{None} outside
    of calls.

    Of interest to a function are its attributes C{ID}, C{attempt} (1 for the first), C{series}, C{workerID}, and
    C{cancelled}, which becomes true as soon as nobody waits for the outcome any more: the call has been cancelled, has
    timed out or has been given up with its worker. A function that runs long in a thread looks at it now and then.
    """
    return current.get()
