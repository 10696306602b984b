"""
Where the items of a stream come from: iterators in the reactor, and callables that give one item after another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.callinfo import safeRepr
from asynqueue.deferreds.cancelling import cancelQuietly
from asynqueue.deferreds.context import Surroundings
from asynqueue.deferreds.delay import givenOrGlobal
from asynqueue.failures import errorText, exceptionOf, failureOf
from asynqueue.iteration.batches import Batch, Stepper
from asynqueue.iteration.recognition import isIterator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from asynqueue.tasks import Task

#: How long, in seconds, an iterator may run in the reactor before the reactor gets a turn for other things.
TURN = 0.002


class Source(Protocol):
    """
    Gives the items of a stream, in batches, to one reader.

    @ivar runsAhead: Whether the next batch is to be asked for as soon as the last is used up. Otherwise it costs the
        reader's own time, and is asked for when its items are wanted.
    @ivar tellsEnd: Whether a batch that is not the last is known to have a successor that is not empty.
    """

    @property
    def runsAhead(self) -> bool:
        """
        Whether the next batch is asked for as soon as possible.
        """

    @property
    def tellsEnd(self) -> bool:
        """
        Whether there is another item after each batch but the last.
        """

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Give some items. Not called again before the batch is there, nor after the last.

        @param most: How many there may be.
        @return: The batch, or a Deferred of it.
        """

    def close(self) -> None:
        """
        Give up what the items come from, whether or not there are any left. A batch that is on its way is not wanted.
        """


class TurnShare:
    """
    What one stream may use of each turn of the reactor.
    """

    __slots__ = ("_clock", "_ends", "_turn", "_waiter")

    def __init__(self, clock: IReactorTime | None) -> None:
        self._clock = clock
        self._ends = 0.0
        self._turn: IDelayedCall | None = None
        self._waiter: Callable[[], object] | None = None

    def isUsedUp(self) -> bool:
        """
        Tell whether the stream has had its share of this turn.
        """
        # Hot path, watched by `bench --only streams`.
        if self._turn is None:
            self._begin()
            return False
        return monotonic() > self._ends

    def _begin(self) -> None:
        self._ends = monotonic() + TURN
        self._turn = givenOrGlobal(self._clock).callLater(0, self._next)

    def _next(self) -> None:
        self._turn = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._begin()
            waiter()

    def wait(self, waiter: Callable[[], object]) -> None:
        """
        Have something called in the next turn.
        """
        self._waiter = waiter

    def stop(self) -> None:
        """
        Call nothing any more.
        """
        self._waiter = None
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()


class IteratorSource:
    """
    Steps an iterator in the reactor, for a fraction of each turn.
    """

    runsAhead: ClassVar[bool] = False
    tellsEnd: ClassVar[bool] = False

    def __init__(self, iterator: Iterator[Any], task: Task | None = None, clock: IReactorTime | None = None) -> None:
        """
        @param task: The call that the iterator is the result of, if any.
        @param clock: Where it runs; the global reactor unless given.
        """
        self._stepper = Stepper(iterator, task)
        self._share = TurnShare(clock)

    def pull(self, most: int) -> Batch | Deferred[Batch]:
        """
        Take items at once, or in the next turn if this stream has had enough of this one.
        """
        # Hot path, watched by `bench --only streams`.
        if self._share.isUsedUp():
            pulled: Deferred[Batch] = Deferred()
            self._share.wait(lambda: pulled.callback(self._take(most)))
            return pulled
        return self._take(most)

    def _take(self, most: int) -> Batch:
        batch = self._stepper.take(most)
        if batch.isLast:
            self._share.stop()
        return batch

    def close(self) -> None:
        """
        Close the iterator.
        """
        self._share.stop()
        self._stepper.close()


class WrappedSource:
    """
    Has an iterator stepped by a function that calls others wherever it may be.
    """

    runsAhead: ClassVar[bool] = True
    tellsEnd: ClassVar[bool] = False

    _log = Logger()

    def __init__(self, iterator: Iterator[Any], wrapper: Callable[..., Any]) -> None:
        """
        @param wrapper: Called with a function and its arguments, calls it, and returns its result, or a Deferred of it.
        """
        self._stepper = Stepper(iterator)
        self._wrapper = wrapper
        self._isStepping = False

    def pull(self, most: int) -> Deferred[Batch]:
        """
        Have items taken.
        """
        self._isStepping = True
        return maybeDeferred(self._wrapper, self._stepper.take, most).addBoth(self._stepped)

    def _stepped(self, result: Any) -> Any:
        self._isStepping = False
        if not isinstance(result, Batch | Failure):
            result = Failure(TypeError(f"wrapper must return what the function does, and not {safeRepr(result)}"))
        if self._stepper.isAborted:
            self._close()
        return result

    def close(self) -> None:
        """
        Have the iterator closed where it has been stepped.
        """
        self._stepper.abort()
        if not self._isStepping:
            self._close()

    def _close(self) -> None:
        if not self._stepper.isClosed:
            closed: Deferred[Any] = maybeDeferred(self._wrapper, self._stepper.close)
            closed.addErrback(lambda failure: self._log.failure("An iterator could not be closed", failure))
            # A wrapper that does not call what it is given must not leave it open.
            closed.addCallback(lambda _: self._stepper.close())


class AsyncIteratorSource:
    """
    Steps an asynchronous iterator in the reactor.
    """

    runsAhead: ClassVar[bool] = False
    tellsEnd: ClassVar[bool] = False

    _log = Logger()

    def __init__(
        self, iterator: AsyncIterator[Any], task: Task | None = None, clock: IReactorTime | None = None
    ) -> None:
        """
        @param task: The call that the iterator is the result of, if any.
        @param clock: Where it runs; the global reactor unless given.
        """
        self._iterator = iterator
        self._task = task
        self._surroundings = Surroundings(None if task is None else task.context, task)
        self._share = TurnShare(clock)
        self._step: Deferred[Batch] | None = None
        self._isStepping = False
        self._isClosing = False
        self._isEnded = False

    def pull(self, most: int) -> Deferred[Batch]:
        """
        Await one item.
        """
        if self._share.isUsedUp():
            pulled: Deferred[Batch] = Deferred()
            self._share.wait(lambda: self._take().chainDeferred(pulled))
            return pulled
        return self._take()

    def _take(self) -> Deferred[Batch]:
        self._isStepping = True
        step = self._surroundings.run(Deferred.fromCoroutine, self._next())
        self._step = step
        step.addBoth(self._stepped)
        if self._isClosing and self._isStepping:
            # It was closed by itself before it had anything to wait for.
            cancelQuietly(step)
        return step

    async def _next(self) -> Batch:
        try:
            batch = Batch([await anext(self._iterator)])
        except StopAsyncIteration:
            self._isEnded = True
            return Batch([], isLast=True)
        except BaseException as error:  # even a SystemExit of the iterator's own ends the stream, not the reactor
            # Unlike a generator, an iterator may not be at its end when what it awaits has been cancelled.
            self._isEnded = not self._isClosing
            return Batch([], error=errorText(error))
        # What it has set in its context stays set for the next item.
        self._surroundings.keep()
        return batch

    def _stepped(self, result: Batch | Failure) -> Batch:
        self._isStepping = False
        self._step = None
        if isinstance(result, Failure):
            self._isEnded = not self._isClosing
            result = Batch([], error=errorText(exceptionOf(result)))
        if self._isClosing:
            self._close()
        elif result.isLast:
            self._share.stop()
        return result

    def close(self) -> None:
        """
        Cancel what the iterator awaits, and close it.
        """
        if self._isClosing:
            return
        self._isClosing = True
        self._share.stop()
        if self._task is not None:
            self._task.cancelled = True
        if not self._isStepping:
            self._close()
        elif self._step is not None:
            cancelQuietly(self._step)

    def _close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if callable(close) and not self._isEnded:
            self._isEnded = True
            closed: Deferred[Any] = self._surroundings.run(Deferred.fromCoroutine, _closed(close))
            closed.addErrback(
                lambda failure: self._log.failure("An iterator raised an exception when it was closed", failure)
            )


async def _closed(close: Callable[[], Any]) -> None:
    await close()


class CallableSource:
    """
    Asks a callable for one item after another.
    """

    runsAhead: ClassVar[bool] = False

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kw: dict[str, Any] | None = None,
        onClose: Callable[[], object] | None = None,
        tellsEnd: bool = False,
    ) -> None:
        """
        @param func: Returns C{(value, isValid, moreLeft)}, or a Deferred of it: an item, whether there was one, and
            whether there will be another.
        @param onClose: Called when no more items are wanted.
        @param tellsEnd: Whether it can be relied on that there is another item when it says so.
        """
        self.tellsEnd = tellsEnd
        self._func = func
        self._args = args
        self._kw = kw or {}
        self._onClose = onClose
        self._step: Deferred[Any] | None = None

    def pull(self, most: int) -> Deferred[Batch]:
        """
        Ask for one item.
        """
        step = maybeDeferred(self._func, *self._args, **self._kw)
        self._step = step
        return step.addCallbacks(_batchOf).addErrback(_failedBatch).addBoth(self._stepped)

    def _stepped(self, result: Batch) -> Batch:
        self._step = None
        return result

    def close(self) -> None:
        """
        Cancel what the callable has promised.
        """
        if self._step is not None:
            cancelQuietly(self._step)
        if self._onClose is not None:
            self._onClose()


def _batchOf(result: Any) -> Batch:
    try:
        value, isValid, moreLeft = result
    except (TypeError, ValueError):
        raise TypeError(f"an iteration must be (value, isValid, moreLeft), not {result!r}") from None
    return Batch([value] if isValid else [], isLast=not (isValid and moreLeft))


def _failedBatch(failure: Failure) -> Batch:
    return Batch([], error=failureOf(failure))


def sourceOf(obj: Any, task: Task | None = None, clock: IReactorTime | None = None) -> Source:
    """
    Return the source that gives the items of an iterator, which runs in the reactor.

    @param task: The call that it is the result of, if any.
    @param clock: Where it runs; the global reactor unless given.
    @raise TypeError: It is none.
    """
    if not isIterator(obj):
        raise TypeError(f"an iterator is needed, such as iter(…) makes, and {safeRepr(obj)} is none")
    return IteratorSource(obj, task, clock) if hasattr(type(obj), "__next__") else AsyncIteratorSource(obj, task, clock)
