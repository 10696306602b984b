"""
The handler of tasks: dispatcher, staff and closing, put together, by the documented names of 0.9.9.

L{TaskQueue<asynqueue.taskqueue.TaskQueue>} is built on one. It also works by itself, for tasks that are made by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from asynqueue.calls import CallDeferred
from asynqueue.closing import Closing, Phase
from asynqueue.deferreds.context import captureContext
from asynqueue.dispatch import Dispatcher
from asynqueue.errorpolicy import ErrorPolicy
from asynqueue.errors import QueueClosed
from asynqueue.failures import errorText, exceptionOf
from asynqueue.options import checkedTimeout
from asynqueue.scheduling.lanes import LAST, NEXT
from asynqueue.staff import Staff, Update
from asynqueue.tasks import RELAXED, RUSHED, Attempt, Task

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


def globalClock() -> IReactorTime:
    """
    Return the global reactor, which is looked up when it is first needed.
    """
    from twisted.internet import reactor

    return cast("IReactorTime", reactor)


class TaskHandler:
    """
    Hires workers and gives them tasks.

    @ivar policy: What becomes of errors; by itself, a handler delivers them as failures.
    @ivar dispatcher: Matches calls with workers.
    @ivar staff: Hires and dismisses workers.
    @ivar closing: Brings everything to its end.
    """

    def __init__(
        self,
        clock: Callable[[], IReactorTime] = globalClock,
        policy: ErrorPolicy | None = None,
        monotonic: Callable[[], float] | None = None,
        ids: Iterator[int] | None = None,
    ) -> None:
        self.policy = ErrorPolicy(clock, returnFailure=True) if policy is None else policy
        self.dispatcher = Dispatcher(self.policy, clock, monotonic)
        self.staff = Staff(self.dispatcher)
        self.closing = Closing(self.dispatcher, self.staff)
        self.nextID = (count(1) if ids is None else ids).__next__

    @property
    def isRunning(self) -> bool:
        """
        Whether tasks are taken.
        """
        return self.closing.phase is Phase.OPEN

    @property
    def workers(self) -> dict[int, Any]:
        """
        The hired workers, by ID.
        """
        return {ID: hire.worker for ID, hire in self.dispatcher.hires.items()}

    def roster(self, series: Hashable = None) -> list[Any]:
        """
        Return the hired workers that are qualified for a series; C{None}: all of them.
        """
        return [hire.worker for hire in self.dispatcher.hires.values() if hire.isQualified(series)]

    def hire(self, worker: Any) -> Deferred[int]:
        """
        Hire a worker. It runs the updates first; if one fails, the worker is not hired.

        @return: Fires with the worker's ID.
        @raise ImplementationError: It provides no L{asynqueue.interfaces.IWorker}.
        @raise InvariantError: Its C{cQualified} or C{iQualified} is no list.
        @raise ValueError: It is hired already.
        """
        if not self.closing.takesWorkers:
            return fail(QueueClosed(f"{worker!r} was not attached: the queue is shut down"))
        return self.staff.hire(worker)

    def terminate(
        self, workerID: Any, timeout: float | None = None, crash: bool = False, reassign: bool = False
    ) -> Deferred[list[Task]]:
        """
        Let go of a worker, given it or its ID.

        @param timeout: Seconds after which it is crashed.
        @param crash: At once, whatever it is running.
        @param reassign: Give what it leaves unfinished to others.
        @return: Fires with the list of tasks that it left unfinished, empty if they have been reassigned, or if there
            is no such worker.
        """
        hire = self.staff.find(workerID)
        if hire is None:
            gone: Deferred[list[Task]] = Deferred()
            gone.callback([])
            return gone
        return self.staff.dismiss(hire, crash=crash, reassign=reassign, timeout=checkedTimeout(timeout))

    def shutdown(self, timeout: float | None = None) -> Deferred[list[Task]]:
        """
        Let go of all workers when all tasks are done, or after C{timeout} seconds in any case.

        @return: Fires with the list of tasks that were left unfinished.
        """
        return self.closing.shutdown(True, checkedTimeout(timeout))

    def update(self, task: Task, ephemeral: bool = False, sequential: bool = False) -> Deferred[list[Any]]:
        """
        Have every worker that is qualified for the task's series run its call, and every worker that is hired later.

        @param ephemeral: Only those that are hired now.
        @param sequential: One worker after the other.
        @return: Fires with the list of the results of the workers hired now; a C{Failure} stands where the call failed.
        """
        func, args, kw = task.callTuple
        options = evolve(task.options, timeout=task.timeout, returnFailure=True, alone=True)
        context = captureContext()

        def makeEntry() -> CallDeferred[Any]:
            return CallDeferred(self.dispatcher, self.nextID(), func, args, kw, task.series, 0, options, context)

        return self.staff.update(Update(makeEntry, task.series), ephemeral, sequential)

    def entryOf(self, task: Task) -> CallDeferred[Any]:
        """
        Return what stands for a task in the ledger: its own entry, or one that reports to the task.
        """
        if isinstance(task, Attempt) and task.entry.dispatcher is self.dispatcher:
            task.entry.current = None
            task.entry.attempts = 0
            return task.entry
        func, args, kw = task.callTuple
        band = NEXT if task.priority <= RUSHED else LAST if task.priority >= RELAXED else 0
        options = evolve(task.options, timeout=task.timeout, returnFailure=True)
        entry: CallDeferred[Any] = CallDeferred(
            self.dispatcher, self.nextID(), func, args, kw, task.series, band, options, captureContext()
        )
        entry.addCallbacks(_succeeded, _failed, (task,), {}, (task,), {})
        return entry

    def __call__(self, task: Task) -> Deferred[Any]:
        """
        Have a task run by a worker that is qualified for its series.

        @return: Fires with the worker's ID as soon as a worker has accepted the task, or with C{None} when it has been
            settled otherwise. The outcome goes to the task's own Deferred.
        """
        if not self.isRunning:
            return fail(QueueClosed(f"{task!r} was not taken: the queue is shut down"))
        entry = self.entryOf(task)
        accepted = self.dispatcher.whenAssigned(entry)
        self.dispatcher.submit(entry)
        return accepted


def _succeeded(value: Any, task: Task) -> None:
    task.callback(("r", value))


def _failed(failure: Failure, task: Task) -> None:
    task.callback(("e", errorText(exceptionOf(failure))))


class Assignment:
    """
    A task and the Deferred C{d} that fires with the ID of the worker that has accepted it.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.d: Deferred[Any] = Deferred()

    def accept(self, worker: Any) -> Deferred[Any]:
        """
        Have a worker run the task, past any queue.

        @return: Fires when the worker can take another task.
        """
        self.task.startTimer()
        ready: Deferred[Any] = worker.run(self.task)
        if not self.d.called:
            self.d.callback(None)
        return ready


class AssignmentFactory:
    """
    Makes assignments of a handler.
    """

    def __init__(self, handler: TaskHandler) -> None:
        self._handler = handler

    def new(self, task: Task) -> Assignment:
        """
        Have a task run by a qualified worker.
        """
        assignment = Assignment(task)
        self._handler(task).addBoth(assignment.d.callback)
        return assignment

    def request(self, worker: Any, series: Hashable) -> None:
        """
        Qualify a hired worker for a series, whose tasks it then gets.
        """
        hire = self._handler.staff.find(worker)
        if hire is not None:
            hire.qualify(series)
            self._handler.staff.requalify(hire)

    def cancelRequests(self, worker: Any) -> None:
        """
        Give a worker no more tasks, and let go of it when it is done with those it has.
        """
        self._handler.terminate(worker)
