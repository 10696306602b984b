"""
What a queue tells of its calls: where each stands and what it waits for, in plain words and in numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asynqueue.callinfo import describeCall
from asynqueue.hires import HireState
from asynqueue.scheduling.lanes import ALONE, LAST, NEXT, RERUN
from asynqueue.statistics import OutstandingCall, Statistics, WorkerStatistics

if TYPE_CHECKING:
    from asynqueue.calls import CallDeferred
    from asynqueue.dispatch import Dispatcher

_CLASSES = {ALONE: "re-run alone", RERUN: "re-run", NEXT: "doNext", LAST: "doLast"}


def statistics(dispatcher: Dispatcher) -> Statistics:
    """
    Count.
    """
    ledger = dispatcher.ledger
    hires = list(dispatcher.hires.values())
    queued = dispatcher.backlog.waiting + ledger.condemned + sum(len(hire.updates) for hire in hires)
    return Statistics(
        submitted=ledger.submitted,
        queued=queued,
        running=len(ledger.entries) - queued,
        settled=ledger.settled,
        succeeded=ledger.settled - ledger.failed - ledger.cancelled,
        failed=ledger.failed,
        cancelled=ledger.cancelled,
        refused=ledger.refused,
        reruns=ledger.reruns,
        late=ledger.late,
        workers=tuple(
            WorkerStatistics(hire.ID, type(hire.worker).__name__, hire.state.value, len(hire.tasks), hire.finished)
            for hire in hires
        ),
        lanes=tuple(
            (lane.family.series, _CLASSES.get(lane.band, lane.band), lane.live) for lane in dispatcher.backlog.lanes()
        ),
    )


def outstanding(dispatcher: Dispatcher) -> list[OutstandingCall]:
    """
    List the calls in the ledger.
    """
    return [
        OutstandingCall(
            entry.ID,
            describeCall(entry.func, entry.args, entry.kw),
            entry.series,
            dispatcher.ledger.stateOf(entry),
            entry.attempts,
            None if entry.current is None else entry.current.workerID,
        )
        for entry in dispatcher.ledger.entries.values()
    ]


def explain(dispatcher: Dispatcher, taskID: int) -> str:
    """
    Tell where a call stands.
    """
    entry = dispatcher.ledger.entries.get(taskID)
    if entry is None:
        return f"call {taskID}: unknown here, or settled already"
    said = f"call {taskID}, {describeCall(entry.func, entry.args, entry.kw)}: {_standing(dispatcher, entry)}"
    if entry.history:
        said += f"; before that, {'; '.join(text for _, text in entry.history)}"
    return said


def _standing(dispatcher: Dispatcher, entry: CallDeferred[Any]) -> str:
    current = entry.current
    if current is not None:
        if current.arriving is not None:
            return "its outcome is a value that is still arriving"
        hire = current.hire
        if hire is None:
            return "made by newTask() and not queued"
        ahead = list(hire.tasks).index(current) if current in hire.tasks else 0
        if ahead and hire.managed:
            return f"with {hire.name}, behind {ahead} others that it has been given"
        return f"running on {hire.name}, attempt {current.attempt}"
    if entry.lane is None:
        return "an update that waits for its worker to have room"
    if entry.lane.heaps is None:
        return "cancelled with others, and about to be told so"
    return _waiting(dispatcher, entry)


def _waiting(dispatcher: Dispatcher, entry: CallDeferred[Any]) -> str:
    lane = entry.lane
    assert lane is not None
    place = _CLASSES.get(lane.band, f"niceness {lane.band}")
    hires = [hire for hire in dispatcher.hires.values() if hire.isQualified(entry.series)]
    if not lane.heaps:
        if not dispatcher.hires:
            return f"parked ({place}): no worker is attached"
        reasons = [f"{hire.name} {hire.unfitness or f'is {hire.state.value}'}" for hire in hires]
        if reasons:
            return f"parked ({place}): {'; '.join(reasons)}"
        return f"parked ({place}): no attached worker is qualified for series {entry.series!r}"
    busy = [hire for hire in hires if hire.state is HireState.ACTIVE]
    pin = lane.family.pin
    if pin is not None:
        return f"waits ({place}) for worker {getattr(pin, 'ID', '?')}, which has calls of its series not started"
    ahead = dispatcher.backlog.ahead(entry)
    return (
        f"waits ({place}) behind {ahead} of its own lane and {dispatcher.backlog.waiting - lane.live} of others; "
        f"{len(busy)} qualified workers are busy"
    )
