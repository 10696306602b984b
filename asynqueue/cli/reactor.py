"""
Commands that need Twisted's reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

#: The exit code of a command that was interrupted: that of a shell for SIGINT.
INTERRUPTED = 130


def run_in_reactor(work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """
    Run the global reactor until a coroutine has come to its end.

    @param work: Called with the reactor, when it is running.
    @return: What the coroutine returns, or L{INTERRUPTED} if a signal has ended the reactor before.
    @raise Exception: What the coroutine raises.
    """
    # Importing it makes it.
    from twisted.internet import reactor as global_reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    reactor: Any = global_reactor
    ended: list[int | Failure] = []

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor)).addBoth(end)

    def end(result: int | Failure) -> None:
        ended.append(result)
        if reactor.running:
            reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    result = ended[0] if ended else INTERRUPTED
    if isinstance(result, Failure):
        result.raiseException()
    return result
