"""
Fetching one item ahead of whoever asks for them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from asynqueue.errors import NotReadyError
from asynqueue.iteration.recognition import isIterator
from asynqueue.iteration.sources import CallableSource, Source, sourceOf
from asynqueue.iteration.stream import Stream


class Prefetcherator:
    """
    Gives one item after another, and tells with each whether there is another one.

    @ivar ID: Whatever it was made with.
    """

    def __init__(self, ID: Any = None) -> None:
        self.ID = ID
        self._stream: Stream | None = None

    def __repr__(self) -> str:
        return f"<Prefetcherator {self.ID!r}, {'busy' if self.isBusy() else 'idle'}>"

    def __del__(self) -> None:
        stream: Stream | None = self.__dict__.get("_stream")
        if stream is not None:
            stream.dropped()

    def isBusy(self) -> bool:
        """
        Tell whether there is something to iterate over that has not come to its end.
        """
        return self._stream is not None and self._stream.hasMore()

    def stop(self) -> None:
        """
        Iterate no more: a generator runs its C{finally}.
        """
        if self._stream is not None:
            self._stream.stop()

    def setup(self, iteratorOrCallable: Any, *args: Any, **kw: Any) -> Deferred[bool]:
        """
        Begin to iterate, and fetch the first item.

        @param iteratorOrCallable: An iterator, which is stepped in the reactor; or what is called with the other
            arguments for each item and returns C{(value, isValid, moreLeft)}, or a Deferred of it.
        @return: Fires with whether there is an item: not if the object is of neither kind, or has none, or this one is
            busy. Errbacks with an exception of the iterator, if that is what it begins with.
        """
        result: Deferred[bool] = Deferred(lambda _: self.stop())
        source = None if self.isBusy() else _sourceOf(iteratorOrCallable, args, kw)
        if source is None:
            result.callback(False)
            return result
        stream = self._stream = Stream(source)

        def begun() -> None:
            failure = None if stream.items else stream.conclude()
            if failure is None:
                result.callback(len(stream.items) > 0)
            elif not result.called:
                result.errback(failure)

        if stream.request(begun):
            begun()
        return result

    def getNext(self) -> Deferred[tuple[Any, bool, bool]]:
        """
        Give the next item, as soon as it is known whether there is another one.

        @return: Fires with the item, whether there was one, and whether there is another. Errbacks with an exception of
            the iterator, after the items before it.
        @raise NotReadyError: The last one has not been given yet.
        """
        stream = self._stream
        result: Deferred[tuple[Any, bool, bool]] = Deferred(lambda _: stream.withdraw() if stream is not None else None)
        if stream is None or not stream.hasMore():
            result.callback((None, False, False))
            return result
        if stream.isWaitedFor:
            raise NotReadyError("the next item can be asked for when the one before it is there")

        def ready() -> None:
            assert stream is not None
            if stream.items:
                item = stream.pop()
                moreLeft = stream.hasMore()
                if not moreLeft:
                    stream.conclude()
                result.callback((item, True, moreLeft))
                return
            failure = stream.conclude()
            if failure is None:
                result.callback((None, False, False))
            else:
                result.errback(failure)

        if stream.request(ready, stream.foresight):
            ready()
        return result


def _sourceOf(obj: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> Source | None:
    if isIterator(obj):
        return sourceOf(obj)
    return CallableSource(obj, args, kw, tellsEnd=True) if callable(obj) else None
