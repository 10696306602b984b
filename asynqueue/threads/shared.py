"""
One thread that the whole program shares.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from asynqueue.threads.worker import ThreadWorker

_shared: ThreadWorker | None = None


def deferToThread(f: Any = None, *args: Any, **kw: Any) -> Deferred[Any]:
    """
    Run a call in the thread that the program shares for such calls, after those before it.

    The thread begins with the first call. Called with nothing, the function ends it, and the next call begins another.

    @keyword doNext: Before the calls that have not been started.
    @keyword raw: Whether an iterator is to be returned as it is.
    @keyword consumer: An C{IConsumer} that gets the iterations if the result is an iterator.
    @return: Fires with the result of the call; errors errback as L{asynqueue.errors.ThreadError}. Cancelled before it
        has started, the call is never run. Without a call: fires when the thread has gone.
    @raise TypeError: C{f} is not callable.
    """
    global _shared
    if f is None and not args and not kw:
        worker, _shared = _shared, None
        return succeed(None) if worker is None else worker.stop()
    if _shared is None:
        _shared = ThreadWorker()
    return _shared.deferToThread(f, *args, **kw)
