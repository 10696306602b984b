"""
Running one call, so that whatever becomes of it is a status and a result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import blockingCallFromThread
from twisted.python import threadable
from twisted.python.failure import Failure

from asynqueue.callinfo import describeCall, safeRepr
from asynqueue.failures import errorText, exceptionOf
from asynqueue.iteration.recognition import isIterator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

#: Of so many calls at most the times are kept. When there are more, the older half is dropped.
TIMES_LIMIT = 100_000


class CallRunner:
    """
    Runs calls where it is called itself, or in the reactor.

        >>> CallRunner()((divmod, (7, 2), {}))
        (b'r', (3, 1))

    @ivar callTimes: With C{callStats}, how long each call took, in seconds, in the order in which they ended: of the
        last 50,000 calls at least. Otherwise, it stays empty.
    """

    def __init__(self, raw: bool = False, callStats: bool = False, reactor: IReactorFromThreads | None = None) -> None:
        """
        @param raw: Whether an iterator is a result like any other.
        @param callStats: Whether C{callTimes} is kept.
        @param reactor: Where the functions run; C{None}: in the thread in which this object is called. With a reactor,
            that is another thread than the reactor's, and waits for the function, which may return a Deferred or be a
            coroutine function. So it waits for ever if the reactor does not run, or the Deferred never fires.
        """
        self.raw = raw
        self.callStats = callStats
        self.reactor = reactor
        self.callTimes: list[float] = []

    def __call__(
        self,
        callTuple: tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any] | None],
        raw: bool | None = None,
    ) -> tuple[bytes, Any]:
        """
        Run a call.

        @param callTuple: The function, its arguments, and its keywords, of which all are the function's.
        @param raw: As for the constructor, for this call; C{None}: as it was there.
        @return: Status and result: C{b"r"} and what the function returned; C{b"i"} and an iterator that it returned; or
            C{b"e"} and the traceback of what it raised, as text, which a queue turns into that exception again.
        @raise TypeError: C{callTuple} is not made of a function, a list or tuple, and a dict.
        @raise RuntimeError: There is a reactor, and this is its thread, which would wait for itself. Before any reactor
            has run, that is the main thread.
        """
        f, args, kw = _checked(callTuple)
        if self.reactor is not None and _isReactorsThread():
            raise RuntimeError(
                f"{describeCall(f, args, kw)} would make the reactor wait for itself: call this object in another "
                "thread, or make it without a reactor"
            )
        began = perf_counter()
        try:
            result = f(*args, **kw) if self.reactor is None else blockingCallFromThread(self.reactor, f, *args, **kw)
        except BaseException as error:  # even a SystemExit of the call's own ends the call, not the thread
            return b"e", errorText(error)
        finally:
            if self.callStats:
                self._keep(perf_counter() - began)
        if isinstance(result, Failure):
            return b"e", errorText(exceptionOf(result))
        isRaw = self.raw if raw is None else raw
        return b"r" if isRaw or not isIterator(result) else b"i", result

    def _keep(self, seconds: float) -> None:
        self.callTimes.append(seconds)
        if len(self.callTimes) > TIMES_LIMIT:
            del self.callTimes[: TIMES_LIMIT // 2]


def _isReactorsThread() -> bool:
    """
    Tell whether the reactor runs in this thread, or will as far as one can tell.
    """
    known: int | None = threadable.ioThread
    if known is not None:
        return bool(threadable.isInIOThread())
    return threading.current_thread() is threading.main_thread()


def _checked(callTuple: Any) -> tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]:
    """
    Return the parts of a call.
    """
    if not isinstance(callTuple, list | tuple) or len(callTuple) != 3:
        raise TypeError(f"a call is a function, its arguments and its keywords, not {safeRepr(callTuple)}")
    f, args, kw = callTuple
    if not callable(f):
        raise TypeError(f"the function must be callable, and {safeRepr(f)} is not")
    if not isinstance(args, list | tuple):
        raise TypeError(f"the arguments must be a list or tuple, not {safeRepr(args)}")
    if kw is not None and not isinstance(kw, Mapping):
        raise TypeError(f"the keywords must be a dict, not {safeRepr(kw)}")
    return f, args, kw or {}
