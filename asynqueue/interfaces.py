"""
What a worker provides to a queue, and the interfaces of Twisted that go with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import Attribute, Interface, invariant

from asynqueue.errors import InvariantError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from asynqueue.tasks import Task

__all__ = ["IConsumer", "IManagedWorker", "IPushProducer", "IStartedWorker", "IStreamConsumer", "IWorker"]


def _qualificationsAreLists(worker: Any) -> None:
    for name in ("cQualified", "iQualified"):
        value = getattr(worker, name, None)
        if not isinstance(value, list):
            raise InvariantError(f"{worker!r}: its {name} must be a list of series, not {value!r}")


class IWorker(Interface):
    """
    A provider runs the tasks that a queue assigns to it.

    What a provider guarantees: each task that L{run} has accepted gets exactly one outcome, through
    C{task.callback((status, result))}. What it need not: a queue drops an outcome that comes late or twice. Before
    C{task.callback} returns, any other method of the provider may be called.

    The statuses are letters, as bytes or text:

      - C{r}: the result of the call
      - C{n}: the call returned C{None}
      - C{e}: the call raised an exception; the result is its traceback as text, or better a C{Failure}
      - C{i}: the result is an iterator
      - C{c}: the result is a Deferred of the value, which is arriving in pieces
      - C{t}: the call timed out
      - C{d}: the call has not been started and may be given to another worker
      - C{l}: the call was lost, after it may have been started
      - C{k}: the call was cancelled
      - C{x}: the worker refuses the call; the result is the reason, as an exception or text
    """

    cQualified = Attribute("A list of the series that all instances of the provider's class are qualified for.")
    iQualified = Attribute("A list of the series that this very instance is qualified for.")

    invariant(_qualificationsAreLists)

    def setResignator(callableObject: Callable[[], object]) -> None:
        """
        Register what the worker must call when it can take no more tasks, for example since its connection is gone.

        @param callableObject: A callable without arguments. The queue then crashes the worker, lets go of it and gives
            the tasks that it had left to others.
        """

    def run(task: Task) -> Deferred[Any]:
        """
        Run a task, now or as soon as the worker can.

        @param task: An L{asynqueue.tasks.Task}: the call is C{func, args, kw = task.callTuple}, and the outcome goes to
            C{task.callback}.
        @return: A C{Deferred} that fires when the worker can take another task. A worker that can overlap tasks returns
            one that has fired already.
        """

    def stop() -> Deferred[Any]:
        """
        Finish the tasks at hand and come to an end.

        @return: A C{Deferred} that fires after all of the worker's tasks are done.
        """

    def crash() -> list[Task]:
        """
        Come to an end at once, whatever is running.

        @return: A list of the tasks that were left unfinished.
        """


class IManagedWorker(IWorker):
    """
    A provider lets its queue manage what it holds, which gives it cancellation and look-ahead.

    A queue gives it tasks by L{accept}, and takes it that the worker can take another whenever it holds fewer than
    L{capacity}; a task that it has given an outcome is held no more. When it has started a task whose attribute
    C{tellsStart} is true, and there is no outcome yet, it calls C{task.started()}.
    """

    capacity = Attribute(
        """
        How many tasks the worker may hold at the moment, started or not: an C{int}. It starts them in the order in
        which it got them. More than one means that it looks ahead; the queue then sees to it that the order within a
        series is kept, and recalls what is stuck.
        """
    )

    unfitness = Attribute(
        """
        Why the worker can take no tasks at all at the moment, such as C{"is stuck in calls that do not return"}, or an
        empty text.
        """
    )

    def setAttendant(callableObject: Callable[[], object] | None) -> None:
        """
        Register what the worker must call when L{capacity} or L{unfitness} has changed otherwise than with an outcome.

        @param callableObject: A callable without arguments, or C{None} when the queue has let go of the worker.
        @raise ValueError: The worker belongs to a queue already.
        """

    def accept(task: Task) -> None:
        """
        Take a task, as C{run} does, but without a Deferred.
        """

    def cancel(task: Task) -> None:
        """
        Stop working on a task whose outcome nobody waits for any more, as far as that is possible.

        The worker holds the task until it gives it an outcome, of any status, which must follow when the place that
        the task takes is truly free.
        """

    def recall() -> list[Task]:
        """
        Give back the tasks that have not been started, and never start them.

        @return: A list of them, in the order in which the worker got them. They are not held any more and get no
            outcome from this worker. A worker that has to ask for them first returns what it has, and calls
            C{task.returned()} for each of the others when it has it.
        """


class IStartedWorker(IManagedWorker):
    """
    A provider needs some time until it can take its first task, or may never come so far.

    It begins to start when it gets an attendant. Until it has started, its C{capacity} is 0. When it cannot start, it
    is unfit, and may become fit later.
    """

    unfitnessKind = Attribute("The class of the errors of calls that only this worker could run while it is unfit.")

    def whenStarted() -> Deferred[None]:
        """
        @return: A C{Deferred} that fires when the worker can take tasks, and errbacks when it could not be started.
        """

    def whenGone() -> Deferred[None]:
        """
        @return: A C{Deferred} that fires when nothing is left of what has been started, after C{stop} or C{crash}.
        """


class IStreamConsumer(IConsumer):
    """
    A consumer that tells a stream that has come to its end from one that an error has cut short.
    """

    def streamFailed(failure: Failure) -> None:
        """
        Take note that an error has ended the stream, before C{unregisterProducer} is called.

        @param failure: The error that the caller gets, too.
        """
