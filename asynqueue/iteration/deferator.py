"""
Iterating over what is not there yet.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed

from asynqueue.callinfo import safeRepr
from asynqueue.errors import NotReadyError
from asynqueue.iteration.prefetch import Prefetcherator
from asynqueue.iteration.recognition import isIterator
from asynqueue.iteration.sources import CallableSource, Source, sourceOf
from asynqueue.iteration.stream import Stream


class Deferator:
    """
    An iterator over items that come from a thread, another process or machine, or from an iterator in the reactor that
    must not hold it up.

        >>> async for row in deferator:
        ...     await save(row)

    An exception of the iterator is raised there, after the items before it. Leaving the loop early, by C{break},
    C{return} or an exception, closes the iterator where it runs, so that a generator runs its C{finally}; so does
    L{stop}, and dropping the last reference to this object. There is one reader; another one gets L{NotReadyError}.

    In a generator of C{inlineCallbacks}, ask for Deferreds of the items::

        for d in deferator:
            row = yield d
            if isEnough(row):
                d.stop()

    Whether there is another item is known only when that is there, so each item is held back until then.

    Attributes that this object does not have are those of C{d}.
    """

    def __init__(
        self, objectOrRepresentation: Any, callable: Callable[..., Any] | None = None, *args: Any, **kw: Any
    ) -> None:
        """
        @param objectOrRepresentation: An iterator, which is stepped in the reactor; or a L{Prefetcherator}; or, with a
            C{callable}, something that tells humans what is iterated over.
        @param callable: Called with the other arguments for each item, returns a Deferred of C{(value, isValid,
            moreLeft)}: the item, whether there was one, and whether there will be another.
        @raise TypeError: The object is no iterator, or C{callable} cannot be called.
        """
        if callable is not None:
            if not builtins.callable(callable):
                raise TypeError(f"callable must be one, and {safeRepr(callable)} is not")
            source: Source = CallableSource(callable, args, kw)
        elif isinstance(objectOrRepresentation, Prefetcherator):
            source = CallableSource(objectOrRepresentation.getNext, onClose=objectOrRepresentation.stop)
        else:
            source = sourceOf(objectOrRepresentation)
        self._stream = Stream(source)
        self._stop = self._stream.stop
        # Not the object itself: what is in an iterator is freed when it is closed.
        self._representation: object = (
            objectOrRepresentation if isinstance(objectOrRepresentation, str) else safeRepr(objectOrRepresentation, 200)
        )
        self._asked: Deferred[Any] | None = None

    @classmethod
    def over(cls, source: Source, representation: object = None) -> Deferator:
        """
        Iterate over the items of a source.

        @param representation: Tells humans what is iterated over.
        """
        deferator = cls.__new__(cls)
        deferator._stream = Stream(source)
        deferator._stop = deferator._stream.stop
        deferator._representation = source if representation is None else representation
        deferator._asked = None
        return deferator

    isIterator = staticmethod(isIterator)

    def __repr__(self) -> str:
        shown = self._representation if isinstance(self._representation, str) else safeRepr(self._representation, 200)
        return f"<Deferator of {shown}: {self._stream.state.value}, {self._stream.delivered} items delivered>"

    @property
    def stream(self) -> Stream:
        """
        What is iterated over.
        """
        return self._stream

    @property
    def d(self) -> Deferred[bool]:
        """
        Fires with C{True} when all has been iterated over, with C{False} after L{stop} or an error.
        """
        return self._stream.done

    @property
    def moreLeft(self) -> bool:
        """
        Whether there is anything more to come, an item or an error, as far as is known.
        """
        return self._stream.hasMore()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._stream.done, name)

    def stop(self) -> None:
        """
        Leave the iteration. Whoever waits for an item gets a C{CancelledError}.
        """
        self._stream.stop()

    def __del__(self) -> None:
        stream: Stream | None = self.__dict__.get("_stream")
        if stream is not None:
            # A Deferred that is asked for refers to this object, and so is dropped, too.
            stream.withdraw()
            stream.dropped()

    # One Deferred for each item

    def __iter__(self) -> Iterator[Deferred[Any]]:
        return self

    def __next__(self) -> Deferred[Any]:
        """
        Return a Deferred of the next item. Its attribute C{stop} is L{stop}.

        @raise NotReadyError: The last one has not fired, or somebody else iterates.
        """
        # Hot path, watched by `bench --only streams`.
        stream = self._stream
        if len(stream.items) > 1 and self._asked is None and not stream.isClaimed:
            there: Deferred[Any] = succeed(stream.items.popleft())
            there.stop = self._stop  # type: ignore[attr-defined]
            stream.delivered += 1
            return there
        if self._asked is not None or stream.isClaimed:
            raise NotReadyError("the next item can be asked for when the one before it is there, by one reader")
        if not stream.hasMore():
            raise StopIteration
        d: Deferred[Any] = Deferred(self._unasked)
        d.stop = self.stop  # type: ignore[attr-defined]
        self._asked = d
        if stream.request(self._answer, stream.foresight):
            if not stream.hasMore():
                # It turns out that it was empty from the beginning.
                self._asked = None
                stream.conclude()
                raise StopIteration
            self._answer()
        return d

    def _unasked(self, _: Deferred[Any]) -> None:
        self._asked = None
        self._stream.withdraw()

    def _answer(self) -> None:
        stream = self._stream
        asked, self._asked = self._asked, None
        assert asked is not None
        if stream.items:
            asked.callback(stream.pop())
            if not stream.hasMore():
                stream.conclude()
        else:
            asked.errback(stream.conclude() or StopAsyncIteration(f"{self!r} turned out to be empty"))

    # For coroutines

    def __aiter__(self) -> Reader:
        """
        @raise NotReadyError: Somebody else iterates, or the iteration has been left before its end.
        """
        if self._asked is not None:
            raise NotReadyError("the last item that was asked for is not there, and there can be only one reader")
        self._stream.claim()
        return Reader(self)


class Reader:
    """
    Iterates asynchronously, and leaves the iteration when nobody refers to it any more, as after a C{break}.
    """

    __slots__ = ("_deferator", "_stream")

    def __init__(self, deferator: Deferator) -> None:
        self._deferator = deferator
        self._stream = deferator.stream

    def __del__(self) -> None:
        self._stream.dropped()

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Any:
        # Hot path, watched by `bench --only streams`.
        try:
            stream = self._stream
            return stream.pop() if stream.items else await _next(stream)
        finally:
            # The traceback of whatever is raised keeps this frame, which must not keep the reader.
            del self

    async def aclose(self) -> None:
        """
        Leave the iteration.
        """
        self._deferator.stop()


async def _next(stream: Stream) -> Any:
    """
    Wait for an item of a stream.
    """
    if stream.state not in stream.OPEN:
        raise StopAsyncIteration
    if stream.isWaitedFor:
        raise NotReadyError("the last item that was asked for is not there, and there can be only one reader")
    waiting: Deferred[None] = Deferred(lambda _: stream.withdraw())
    if not stream.request(partial(waiting.callback, None)):
        await waiting
    if not stream.items:
        _conclude(stream)
        raise StopAsyncIteration
    return stream.pop()


def _conclude(stream: Stream) -> None:
    """
    Take note of the end of a stream, and raise the error that has ended it, if any.
    """
    failure = stream.conclude()
    if failure is not None:
        try:
            failure.raiseException()
        finally:
            # It refers to this frame.
            del failure
