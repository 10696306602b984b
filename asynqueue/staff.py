"""
The staff of a queue: hiring workers, updating them, and letting go of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, FirstError, succeed
from twisted.python.failure import Failure

from asynqueue.errors import ImplementationError, WorkerLost
from asynqueue.hires import Hire, HireState
from asynqueue.interfaces import IManagedWorker, IStartedWorker, IWorker
from asynqueue.options import checkedSeries
from asynqueue.verdicts import callOf

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.dispatch import Dispatcher
    from asynqueue.tasks import Task


@frozen
class Update:
    """
    A call that every worker is to run, those hired later too.

    @ivar makeEntry: Makes the entry for one worker.
    @ivar series: Only workers that are qualified for it run the call.
    """

    makeEntry: Callable[[], CallDeferred[Any]]
    series: Hashable


class Staff:
    """
    Hires and dismisses the workers of a dispatcher.

    @ivar unfinished: The attempts that workers have left unfinished and that nobody else has got.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._hires = dispatcher.hires
        self.unfinished: list[Task] = []
        self._updates: list[Update] = []
        self._nextID = count(1).__next__
        self._departing = 0
        dispatcher.onFit = self._catchUp

    def hire(self, worker: Any) -> Deferred[int]:
        """
        Hire a worker. It runs the updates first, and is not hired if one of them fails.

        @return: Fires with its ID.
        @raise ImplementationError: It provides no L{IWorker}.
        @raise InvariantError: Its qualifications are no lists.
        @raise ValueError: It is hired already.
        """
        if not IWorker.providedBy(worker):
            raise ImplementationError(f"{worker!r} cannot be attached: it provides no IWorker")
        IWorker.validateInvariants(worker)
        known = self.find(worker)
        if known is not None:
            raise ValueError(f"{worker!r} is attached already, as {known.name}")
        hire = Hire(self._dispatcher, worker, self._nextID())
        for series in hire.qualifications:
            checkedSeries(series)
        if hire.managed:
            IManagedWorker(hire.worker).setAttendant(lambda: self._dispatcher.attend(hire))
        worker.setResignator(lambda: self._resigned(hire))
        self._hires[hire.ID] = hire
        entries = [update.makeEntry() for update in self._updates if hire.isQualified(update.series)]
        started = IStartedWorker(worker).whenStarted() if IStartedWorker.providedBy(worker) else None
        if not entries:
            self._activate(hire)
            return succeed(hire.ID) if started is None else started.addCallback(lambda _: hire.ID)
        done: Deferred[int] = Deferred()
        if started is not None:
            # Then the updates fail, too, and say why.
            started.addErrback(lambda failure: None)
        DeferredList(entries, fireOnOneErrback=True, consumeErrors=True).addCallbacks(
            self._updated, self._notUpdated, (hire, done), {}, (hire, done), {}
        )
        for entry in entries:
            self._enlist(hire, entry)
        return done

    def _activate(self, hire: Hire) -> None:
        hire.state = HireState.ACTIVE
        self._dispatcher.seat(hire)
        if hire.managed and hire.worker.unfitness:
            self._dispatcher.attend(hire)
        self._changed()

    def _updated(self, _: object, hire: Hire, done: Deferred[int]) -> None:
        if hire.state is HireState.JOINING:
            self._activate(hire)
            done.callback(hire.ID)
        else:
            done.errback(WorkerLost(f"{hire.name} was lost before it had run its updates"))

    def _notUpdated(self, failure: Failure, hire: Hire, done: Deferred[int]) -> None:
        failure.trap(FirstError)
        reason: Failure = cast(FirstError, failure.value).subFailure
        if hire.state is HireState.JOINING:
            gone = self.dismiss(hire)
            gone.addBoth(lambda _: done.errback(reason))
        else:
            done.errback(reason)

    def _enlist(self, hire: Hire, entry: CallDeferred[Any]) -> None:
        self._dispatcher.ledger.admit(entry)
        hire.updates.append(entry)
        self._dispatcher.roomAt(hire)

    def update(self, update: Update, ephemeral: bool, sequential: bool) -> Deferred[list[Any]]:
        """
        Have all workers that are qualified run a call, ahead of what is queued.

        @param ephemeral: Not those that are hired later.
        @param sequential: One worker after the other.
        @return: Fires with the list of their results, a C{Failure} where there was one. Those of workers that are unfit
            at the moment, which run the call when they are fit again, can't be had.
        """
        if not ephemeral:
            self._updates.append(update)
        recipients = []
        for hire in self._hires.values():
            if hire.isQualified(update.series):
                if hire.state is HireState.UNFIT:
                    hire.missed.append(update)
                elif hire.state is not HireState.LEAVING:
                    recipients.append(hire)
        if sequential:
            return Deferred.fromCoroutine(self._updateEach(update, recipients))
        entries = [update.makeEntry() for _ in recipients]
        results: Deferred[list[Any]] = DeferredList(entries, consumeErrors=True).addCallback(
            lambda pairs: [result for _, result in pairs]
        )
        for hire, entry in zip(recipients, entries, strict=True):
            self._enlist(hire, entry)
        return results

    def _catchUp(self, hire: Hire) -> None:
        """
        Have a worker that is fit again run the updates that it has missed.
        """
        missed, hire.missed = hire.missed, []
        for update in missed:
            entry = update.makeEntry()
            entry.addErrback(
                lambda failure: self._dispatcher.log.failure("An update failed on {worker}", failure, worker=hire.name)
            )
            self._enlist(hire, entry)

    async def _updateEach(self, update: Update, recipients: list[Hire]) -> list[Any]:
        results: list[Any] = []
        for hire in recipients:
            if hire.state in (HireState.JOINING, HireState.ACTIVE):
                entry = update.makeEntry()
                self._enlist(hire, entry)
                try:
                    results.append(await entry)
                except Exception:  # whatever the call raises is its result
                    results.append(Failure())
        return results

    @property
    def isGone(self) -> bool:
        """
        Whether there is no worker, and none that is about to be gone.
        """
        return not (self._hires or self._departing)

    def find(self, workerOrID: Any) -> Hire | None:
        """
        Return the hire of a worker, given it or its ID, or C{None}.
        """
        if isinstance(workerOrID, int):
            return self._hires.get(workerOrID)
        return next((hire for hire in self._hires.values() if hire.worker is workerOrID), None)

    def requalify(self, hire: Hire) -> None:
        """
        Let a worker serve by its qualifications as they are now.
        """
        if hire.state is HireState.ACTIVE:
            self._dispatcher.seat(hire)
            self._changed()

    def dismiss(
        self, hire: Hire, crash: bool = False, reassign: bool = False, timeout: float | None = None
    ) -> Deferred[list[Task]]:
        """
        Let go of a worker. What it has not started goes back to the queue in any case.

        @param crash: At once, whatever it is running; otherwise when it is done.
        @param reassign: Give what it leaves unfinished to others, by the rules for lost calls. Otherwise those calls
            errback C{WorkerLost}.
        @param timeout: Seconds after which it is crashed.
        @return: Fires with the list of attempts that it left unfinished, empty if they have been reassigned.
        """
        farewell: Deferred[list[Task]] = Deferred()
        if hire.state is HireState.GONE:
            farewell.callback([])
            return farewell
        hire.farewell.append(farewell)
        wasLeaving = hire.state is HireState.LEAVING
        hire.state = HireState.LEAVING
        hire.reassigns = hire.reassigns or reassign
        if not wasLeaving:
            self._dispatcher.lookAhead.forget(hire)
            self._dispatcher.backlog.unseat(hire)
            self._dispatcher.lookAhead.recall(hire)
            self._dispatcher.returnUpdates(hire, [])
        if crash:
            self._crash(hire)
            return farewell
        if timeout is not None:
            deadline = self._dispatcher.deadline(timeout, lambda: self._crash(hire))
            farewell.addBoth(_stopping, deadline)
        if not wasLeaving:
            self._stop(hire)
            self._dispatcher.streams.endIdle()
        # Who is left may run what has been given back, and may be all that is left of a queue that is shutting down.
        self._changed()
        self._dispatcher.dispatch()
        return farewell

    def _stop(self, hire: Hire) -> None:
        try:
            stopped = hire.worker.stop()
            if not isinstance(stopped, Deferred):
                raise ImplementationError(f"stop() of {hire.worker!r} returned {stopped!r}, which is no Deferred")
        except Exception:  # a worker may be anybody's; one that cannot stop is crashed
            self._dispatcher.log.failure("{worker} raised an exception when told to stop", worker=hire.name)
            self._crash(hire)
            return
        stopped.addCallbacks(lambda _: self._gone(hire), self._notStopped, errbackArgs=(hire,))

    def _notStopped(self, failure: Failure, hire: Hire) -> None:
        self._dispatcher.log.failure("{worker} failed to stop", failure, worker=hire.name)
        self._crash(hire)

    def _crash(self, hire: Hire) -> None:
        if hire.state is HireState.GONE:
            return
        for task in hire.tasks:
            task.cancelled = True
        # It may report that it has stopped, too, before what it has started is gone.
        self._departing += 1
        gone: Deferred[Any] = succeed(None)
        try:
            hire.worker.crash()
            if IStartedWorker.providedBy(hire.worker):
                gone = hire.worker.whenGone()
        except Exception:  # a worker may be anybody's; the queue lets go of it all the same
            self._dispatcher.log.failure("{worker} raised an exception when it was crashed", worker=hire.name)
        self._gone(hire)
        gone.addBoth(self._departed)

    def _departed(self, _: object) -> None:
        """
        Take note that what a crashed worker had started is gone.
        """
        self._departing -= 1
        self._changed()

    def _gone(self, hire: Hire) -> None:
        """
        Let go of a worker, for good: what it has reported no outcome of is left unfinished.
        """
        if hire.state is HireState.GONE:
            return
        hire.state = HireState.GONE
        del self._hires[hire.ID]
        self._departing += 1
        if hire.managed:
            try:
                IManagedWorker(hire.worker).setAttendant(None)
            except Exception:  # a worker may be anybody's; the queue has let go of it
                self._dispatcher.log.failure("{worker} raised when it was released", worker=hire.name)
        left = [task for task in hire.tasks if task.entry.current is task]
        unfinished: list[Task] = []
        for task in hire.tasks:
            task.hire = None
        hire.tasks.clear()
        hire.pins.clear()
        for task in left:
            if task.entry.current is not task:
                # The errback of another one has cancelled it.
                continue
            if hire.reassigns:
                self._dispatcher.outcomes.report(task, ("l", f"{hire.name} is gone"))
            else:
                unfinished.append(task)
                self._dispatcher.outcomes.report(
                    task,
                    ("x", WorkerLost(f"{callOf(task.entry)} was left unfinished by {hire.name}; it may have run")),
                )
        farewell, hire.farewell = hire.farewell, []
        if not self._dispatcher.isOpen:
            self.unfinished.extend(unfinished)
        self._departing -= 1
        for each in farewell:
            each.callback(list(unfinished))
        self._changed()
        self._dispatcher.dispatch()

    def _resigned(self, hire: Hire) -> None:
        """
        Let go of a worker that can take no more tasks, and give what it had to others.
        """
        if hire.ID not in self._hires:
            return
        self._dispatcher.log.warn("{worker} has resigned", worker=hire.name)
        self.dismiss(hire, crash=True, reassign=True)

    def _changed(self) -> None:
        if self._dispatcher.onHiresChange is not None:
            self._dispatcher.onHiresChange()


def _stopping(result: Any, deadline: Any) -> Any:
    deadline.stop()
    return result
