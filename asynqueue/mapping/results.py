"""
What a map returns: its results, to be iterated over or collected.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import Deferred

from asynqueue.errors import NotReadyError
from asynqueue.iteration.deferator import Deferator
from asynqueue.mapping.mapper import Mapper

R = TypeVar("R")


class MapResults(Deferator, Generic[R]):
    """
    The results of a map, as they come.

        >>> async for result in queue.map(func, items):
        ...     await save(result)

        >>> results = await queue.map(func, items)

    Leaving the loop early cancels the calls that wait or run, and closes the iterable; so do C{stop()}, and
    dropping the last reference to this object.
    """

    _mapper: Mapper

    @classmethod
    def of(cls, mapper: Mapper, representation: object) -> MapResults[R]:
        """
        Make the results of a map.

        @param representation: Tells humans what is iterated over.
        """
        results = cast("MapResults[R]", cls.over(mapper, representation))
        results._mapper = mapper
        return results

    def __aiter__(self) -> AsyncIterator[R]:  # type: ignore[override]
        """
        @raise NotReadyError: Somebody else iterates, or the results have been left before their end.
        """
        return super().__aiter__()

    def __iter__(self) -> Iterator[Deferred[R]]:
        return self

    def __await__(self) -> Generator[Any, Any, list[R]]:
        """
        Wait for the list that L{collect} makes.
        """
        return self.collect().__await__()

    def collect(self) -> Deferred[list[R]]:
        """
        Make a list of all results that have not been read.

        @return: Fires with the list at the end of the map. Errbacks with the error that has ended it. To cancel it is
            to leave the map.
        @raise NotReadyError: Somebody else iterates, or the results have been left before their end.
        """
        if self._asked is not None:
            raise NotReadyError("the last item that was asked for is not there, and there can be only one reader")
        self.stream.claim()
        self._mapper.takesAll = True
        collection: Collection[R] = Collection(self)
        collection.goOn()
        return collection.whole


class Collection(Generic[R]):
    """
    A list that is being made of the results of a map, and keeps them going until it is done.

    @ivar whole: Fires with the list.
    """

    __slots__ = ("_list", "_results", "whole")

    def __init__(self, results: MapResults[R]) -> None:
        self._results: MapResults[R] | None = results
        self._list: list[R] = []
        self.whole: Deferred[list[R]] = Deferred(self._cancelled)

    def _cancelled(self, _: Deferred[list[R]]) -> None:
        if self._results is not None:
            self._results.stop()

    def goOn(self) -> None:
        """
        Take what is there, and wait for more.
        """
        # Hot path, watched by `bench --only map`.
        results = self._results
        if results is None:
            return
        stream = results.stream
        items = stream.items
        while stream.request(self.goOn):
            if not items:
                failure = stream.conclude()
                # From now on, to drop the results is not to leave them.
                self._results = None
                self.whole.callback(self._list if failure is None else failure)
                return
            self._list.extend(items)
            stream.delivered += len(items)
            items.clear()
