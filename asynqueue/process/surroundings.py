"""
What a call may change of its process, put back before the next one; and the end of a copy that it has made of it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        SIG_BLOCK,
        SIG_SETMASK,
        SIGALRM,
        SIGCHLD,
        SIGHUP,
        SIGPIPE,
        SIGTERM,
        SIGUSR1,
        SIGUSR2,
        alarm,
        getsignal,
        pthread_sigmask,
        signal,
    )
    from typing import Any
else:
    # What `signal` has these from; that would make enumerations besides, which takes time.
    from _signal import (
        SIG_BLOCK,
        SIG_SETMASK,
        SIGALRM,
        SIGCHLD,
        SIGHUP,
        SIGPIPE,
        SIGTERM,
        SIGUSR1,
        SIGUSR2,
        alarm,
        getsignal,
        pthread_sigmask,
        signal,
    )

#: The signals whose handlers are put back; the control thread looks after its own.
SIGNALS = (SIGTERM, SIGALRM, SIGCHLD, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2)


class Surroundings:
    """
    The working directory, the mask for new files, and the handling of signals, as they are when this is made.
    """

    __slots__ = ("_directory", "_handlers", "_mask", "_umask")

    def __init__(self, directory: str) -> None:
        """
        @param directory: The working directory.
        """
        self._directory = directory
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._mask = pthread_sigmask(SIG_BLOCK, ())
        self._handlers: list[tuple[int, Any]] = [(number, getsignal(number)) for number in SIGNALS]

    def restore(self) -> None:
        """
        Put back what is different now.
        """
        # Hot path, watched by `bench --only processes`.
        try:
            hasMoved = os.getcwd() != self._directory
        except OSError:
            # The directory has been removed.
            hasMoved = True
        if hasMoved:
            _changeTo(self._directory)
        os.umask(self._umask)
        alarm(0)
        for number, handler in self._handlers:
            # None is a handler that was not installed from Python, and cannot be put back.
            if getsignal(number) is not handler and getsignal(number) != handler and handler is not None:
                signal(number, handler)
        pthread_sigmask(SIG_SETMASK, self._mask)


def _changeTo(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError:
        # It is gone for all, and no call's fault.
        return


def endCopy() -> None:
    """
    End a copy of the process, as its own end of the program would: with the exit code that is due.
    """
    error = sys.exc_info()[1]
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    for output in (sys.stdout, sys.stderr):
        try:
            output.flush()
        except (OSError, ValueError):
            continue
    os._exit(code & 255)
