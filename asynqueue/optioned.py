"""
The verbs of a queue with options of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from asynqueue.mapping.verb import MapVerb

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from asynqueue.callargs import Place
    from asynqueue.options import CallOptions
    from asynqueue.taskqueue import TaskQueue

T = TypeVar("T")
P = ParamSpec("P")


class OptionedQueue(MapVerb):
    """
    The verbs of a queue, for calls with certain options. Made by L{asynqueue.taskqueue.TaskQueue.options}.
    """

    __slots__ = ("_ephemeral", "_options", "_place", "_queue", "_sequential")

    def __init__(self, queue: TaskQueue, place: Place, options: CallOptions, ephemeral: bool, sequential: bool) -> None:
        self._queue = queue
        self._place = place
        self._options = options
        self._ephemeral = ephemeral
        self._sequential = sequential

    @overload
    def call(self, func: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> Deferred[T]: ...

    @overload
    def call(self, func: Callable[P, T], *args: P.args, **kw: P.kwargs) -> Deferred[T]: ...

    @overload
    def call(self, func: str, *args: Any, **kw: Any) -> Deferred[Any]: ...

    def call(self, func: Callable[..., Any] | str, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Queue a call of C{func(*args, **kw)}.

        @return: Fires with the result of the call; errors errback.
        """
        submit = self._queue._submit
        return submit(func, args, kw, self._place.series, self._place.band, self._options)

    def update(self, func: Callable[P, Any], *args: P.args, **kw: P.kwargs) -> Deferred[list[Any]]:
        """
        Have every attached worker run a call, and every worker that is attached later.

        @return: Fires with the list of the results, as that of L{asynqueue.taskqueue.TaskQueue.update}.
        """
        if self._options.consumer is not None:
            raise ValueError("an update cannot have a consumer")
        return self._queue._update(func, args, kw, self._place, self._options, self._ephemeral, self._sequential)

    def _mapped(self) -> tuple[TaskQueue, Place, CallOptions]:
        return self._queue, self._place, self._options
