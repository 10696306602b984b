"""
A worker that misbehaves as its script has it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from asynqueue.failures import errorText
from asynqueue.interfaces import IWorker

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from asynqueue.tasks import Task


_REASON = "the script has it so"


class Act(Enum):
    """
    What a L{ScriptedWorker} does with a task.
    """

    #: Run the call and report its outcome, at once.
    RUN = "run"
    #: Run the call and report its outcome after the worker's delay.
    DELAY = "delay"
    #: Run the call and report its outcome twice.
    REPEAT = "repeat"
    #: Run the call and report it lost, as if the outcome had not arrived.
    LOSE = "lose"
    #: Do not run the call, and report that.
    REFUSE = "refuse"
    #: Do not run the call, and say that it may be given to another worker.
    RETURN = "return"
    #: Do not run the call, and report that it timed out.
    TIME_OUT = "time out"
    #: Run the call, say that the worker is ready, and report nothing, ever.
    FORGET = "forget"
    #: Neither report anything, nor be ready, until crashed.
    HANG = "hang"
    #: Raise an exception when given the task.
    RAISE = "raise"
    #: Return something else than a Deferred when given the task.
    MISTAKE = "mistake"
    #: Return a Deferred that fails when given the task.
    FAIL = "fail"
    #: Report a status that there is none of.
    BABBLE = "babble"
    #: Resign instead of running the call.
    RESIGN = "resign"


@implementer(IWorker)
class ScriptedWorker:
    """
    Does with one task after another what the acts of its script say, and with those beyond it what the last one says.

    @ivar executions: The calls that it has run, as C{(function, args)}.
    """

    cQualified: ClassVar[list[Hashable]] = []

    def __init__(
        self,
        script: Iterable[Act] = (),
        clock: IReactorTime | None = None,
        delay: float = 1.0,
        series: Sequence[Hashable] = (),
    ) -> None:
        """
        @param script: The acts; none for L{Act.RUN} throughout.
        @param clock: The source of timers, which L{Act.DELAY} needs.
        @param delay: Seconds of a delay.
        @param series: What the worker is qualified for.
        """
        self.iQualified: list[Hashable] = list(series)
        self.executions: list[tuple[Any, tuple[Any, ...]]] = []
        self._script = iter(tuple(script))
        self._act = Act.RUN
        self._clock = clock
        self._delay = delay
        self._held: list[Task] = []
        self._stopped: list[Deferred[None]] = []
        self._resign: Callable[[], object] | None = None
        self._acts: dict[Act, Callable[[Task], Any]] = {
            Act.RUN: self._runs,
            Act.DELAY: self._delays,
            Act.REPEAT: self._repeats,
            Act.LOSE: self._loses,
            Act.REFUSE: lambda task: self._report(task, ("x", _REASON)),
            Act.RETURN: lambda task: self._report(task, ("d", None)),
            Act.TIME_OUT: lambda task: self._report(task, (b"t", None)),
            Act.FORGET: self._forgets,
            Act.HANG: lambda task: Deferred(),
            Act.RAISE: self._raises,
            Act.MISTAKE: self._mistakes,
            Act.FAIL: self._fails,
            Act.BABBLE: lambda task: self._report(task, ("?", None)),
            Act.RESIGN: self._resigns,
        }

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        Register what L{Act.RESIGN} calls.
        """
        self._resign = callableObject

    def run(self, task: Task) -> Any:
        """
        Do with the task what is next in the script.
        """
        self._act = next(self._script, self._act)
        self._held.append(task)
        return self._acts[self._act](task)

    def _execute(self, task: Task) -> tuple[str, Any]:
        func, args, kw = task.callTuple
        self.executions.append((func, args))
        try:
            return ("r", func(*args, **kw))
        except Exception as error:  # whatever the call raises is its outcome
            return ("e", errorText(error))

    def _report(self, task: Task, *outcomes: tuple[Any, Any]) -> Deferred[None]:
        if task in self._held:
            self._held.remove(task)
        for outcome in outcomes:
            task.callback(outcome)
        if not self._held:
            stopped, self._stopped = self._stopped, []
            for each in stopped:
                each.callback(None)
        return succeed(None)

    def _runs(self, task: Task) -> Deferred[None]:
        return self._report(task, self._execute(task))

    def _delays(self, task: Task) -> Deferred[None]:
        assert self._clock is not None, "a script with delays needs a clock"
        ready: Deferred[None] = Deferred()
        self._clock.callLater(self._delay, self._delayed, task, ready)
        return ready

    def _delayed(self, task: Task, ready: Deferred[None]) -> None:
        self._runs(task)
        ready.callback(None)

    def _repeats(self, task: Task) -> Deferred[None]:
        outcome = self._execute(task)
        return self._report(task, outcome, outcome)

    def _loses(self, task: Task) -> Deferred[None]:
        self._execute(task)
        return self._report(task, ("l", _REASON))

    def _forgets(self, task: Task) -> Deferred[None]:
        self._execute(task)
        return succeed(None)

    def _raises(self, task: Task) -> Deferred[None]:
        self._held.remove(task)
        raise RuntimeError(_REASON)

    def _mistakes(self, task: Task) -> Any:
        self._held.remove(task)
        return None

    def _fails(self, task: Task) -> Deferred[None]:
        self._held.remove(task)
        return fail(RuntimeError(_REASON))

    def _resigns(self, task: Task) -> Deferred[None]:
        assert self._resign is not None, "a worker can resign only from a queue"
        self._resign()
        return Deferred()

    def stop(self) -> Deferred[None]:
        """
        @return: Fires when all tasks have been reported, which some acts never do.
        """
        stopped: Deferred[None] = Deferred()
        if self._held:
            self._stopped.append(stopped)
        else:
            stopped.callback(None)
        return stopped

    def crash(self) -> list[Task]:
        """
        Let go of all tasks.
        """
        held, self._held = self._held, []
        return held
