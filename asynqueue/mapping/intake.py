"""
The items of a map, taken from what its user has given, in the reactor and a few at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.callinfo import safeRepr
from asynqueue.currentcall import currentCall
from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.deferreds.context import Captured, Surroundings
from asynqueue.failures import errorText, exceptionOf, failureOf
from asynqueue.iteration.sources import TURN, TurnShare

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_log = Logger()


class Intake(Protocol):
    """
    Gives items.

    @ivar isEnded: Whether there are no more.
    @ivar failure: What has ended them, if not their natural end.
    @ivar onMore: Called when there are more, or none any more, after L{take} gave fewer than wanted.
    """

    isEnded: bool
    failure: Failure | None
    onMore: Callable[[], object]

    def take(self, most: int) -> list[Any]:
        """
        Give the items that are there, up to a number.
        """

    def close(self) -> None:
        """
        Give up what the items come from.
        """


class IterableIntake:
    """
    Steps an iterator, for a fraction of each turn of the reactor.
    """

    def __init__(self, iterator: Iterator[Any], context: Captured | None, clock: IReactorTime) -> None:
        """
        @param context: That in which it is stepped.
        """
        self.isEnded = False
        self.failure: Failure | None = None
        self.onMore: Callable[[], object] = int
        self._iterator: Iterator[Any] | None = iterator
        self._surroundings = Surroundings(context, currentCall())
        self._share = TurnShare(clock)
        self._isStepping = False

    def take(self, most: int) -> list[Any]:
        """
        Step the iterator, unless it has had its share of this turn.
        """
        # Hot path, watched by `bench --only map`.
        items: list[Any] = []
        if self.isEnded or self._isStepping:
            return items
        if self._share.isUsedUp():
            self._share.wait(self.onMore)
            return items
        self._isStepping = True
        try:
            self._surroundings.run(self._step, most, items)
        except StopIteration:
            self._end()
        except BaseException as error:  # even a SystemExit of the iterator's own ends the map, not the reactor
            self._failed(error)
        finally:
            self._isStepping = False
        self._stepped()
        return items

    def _step(self, most: int, items: list[Any]) -> None:
        # Hot path, watched by `bench --only map`.
        assert self._iterator is not None
        step = self._iterator.__next__
        append = items.append
        until = monotonic() + TURN
        for _ in range(most):
            append(step())
            if monotonic() > until or self.isEnded:
                return

    def _failed(self, error: BaseException) -> None:
        if not self.isEnded:
            self.failure = inputFailure(error)
        self._end()

    def _stepped(self) -> None:
        # While it was stepped, the iterator may have ended its own map.
        if self.isEnded:
            self._close()

    def _end(self) -> None:
        """
        Take note that the iterator has come to its end by itself.
        """
        self.isEnded = True
        self._iterator = None
        self._share.stop()

    def close(self) -> None:
        """
        Close the iterator, now or as soon as it has given the item at hand.
        """
        self.isEnded = True
        self._share.stop()
        if not self._isStepping:
            self._close()

    def _close(self) -> None:
        iterator, self._iterator = self._iterator, None
        close = getattr(iterator, "close", None)
        if callable(close):
            try:
                self._surroundings.run(close)
            except BaseException:  # even a SystemExit of the iterator's own: nobody wants its items any more
                _log.failure("An iterator raised an exception when it was closed")


class AsyncIntake:
    """
    Awaits the items of an asynchronous iterator, one after the other.
    """

    def __init__(self, iterator: AsyncIterator[Any], context: Captured | None, clock: IReactorTime) -> None:
        """
        @param context: That in which it is stepped.
        """
        self.isEnded = False
        self.failure: Failure | None = None
        self.onMore: Callable[[], object] = int
        self._iterator: AsyncIterator[Any] | None = iterator
        self._surroundings = Surroundings(context, currentCall())
        self._share = TurnShare(clock)
        self._items: list[Any] = []
        self._step: Deferred[None] | None = None
        self._isStepping = False
        self._isTaking = False
        self._hasEnded = False

    def take(self, most: int) -> list[Any]:
        """
        Begin to wait for items, and give those that are there.
        """
        self._isTaking = True
        while not self.isEnded and not self._isStepping and len(self._items) < most:
            if self._share.isUsedUp():
                self._share.wait(self.onMore)
                break
            self._begin()
        self._isTaking = False
        items, self._items = self._items, []
        return items

    def _begin(self) -> None:
        self._isStepping = True
        step: Deferred[None] = self._surroundings.run(Deferred.fromCoroutine, self._next())
        if self._isStepping:
            self._step = step
            if self.isEnded:
                # It was closed by itself before it had anything to wait for.
                cancelQuietly(step)

    async def _next(self) -> None:
        assert self._iterator is not None
        try:
            item = await anext(self._iterator)
            self._items.append(item)
            # What it has set in its context stays set for the next item.
            self._surroundings.keep()
        except StopAsyncIteration:
            self._hasEnded = True
        except GeneratorExit:
            raise
        except BaseException as error:  # even a SystemExit of the iterator's own ends the map, not the reactor
            self._hasEnded = True
            if not self.isEnded:
                self.failure = inputFailure(error)
        self._isStepping = False
        self._step = None
        if self.isEnded:
            self._close()
        elif self._hasEnded:
            self.isEnded = True
            self._share.stop()
        if not self._isTaking:
            self.onMore()

    def close(self) -> None:
        """
        Cancel what the iterator awaits, and close it.
        """
        if self.isEnded:
            return
        self.isEnded = True
        self._share.stop()
        if not self._isStepping:
            self._close()
        elif self._step is not None:
            cancelQuietly(self._step)

    def _close(self) -> None:
        # Some iterators, such as that of a stream, are left when nobody refers to them any more.
        iterator, self._iterator = self._iterator, None
        close = getattr(iterator, "aclose", None)
        if callable(close) and not self._hasEnded:
            self._hasEnded = True
            closed: Deferred[Any] = self._surroundings.run(Deferred.fromCoroutine, _closed(close))
            closed.addErrback(
                lambda failure: _log.failure("An iterator raised an exception when it was closed", failure)
            )


async def _closed(close: Callable[[], Any]) -> None:
    await close()


def inputFailure(error: BaseException) -> Failure:
    """
    Make the failure that ends a map whose items could not be had: the exception as it is, for no worker has raised it,
    unless it would end more than the map.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return Failure(error, type(error), error.__traceback__)
    return failureOf(errorText(exceptionOf(Failure(error))))


def intakeOf(iterable: Iterable[Any] | AsyncIterable[Any], context: Captured | None, clock: IReactorTime) -> Intake:
    """
    Return what gives the items of an iterable, asynchronous or not.

    @raise TypeError: It is none.
    """
    if hasattr(type(iterable), "__aiter__"):
        return AsyncIntake(aiter(iterable), context, clock)  # type: ignore[arg-type]
    try:
        iterator = iter(iterable)  # type: ignore[arg-type]
    except TypeError:
        if hasattr(type(iterable), "__iter__"):
            raise
        raise TypeError(f"iterable must be one, and {safeRepr(iterable)} is not") from None
    return IterableIntake(iterator, context, clock)
