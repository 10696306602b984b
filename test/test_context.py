"""
Tests of the context of the caller, in which calls run.
"""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import context

from asynqueue import AsyncWorker, currentCall
from asynqueue.testing import Act, ScriptedWorker
from asynqueue.testing.tasks import identity
from test.support import Outcome, QueueTestCase

variable: ContextVar[str] = ContextVar("variable", default="unset")
other: ContextVar[str] = ContextVar("other", default="unset")


class ContextTests(QueueTestCase):
    """
    Calls in the reactor.
    """

    def setUp(self) -> None:
        """
        Make a queue of one worker.
        """
        super().setUp()
        self.worker = AsyncWorker(reactor=self.clock)
        self.queue = self.makeQueue(self.worker)

    def calledWith(self, value: str, func: Any, *args: Any) -> Outcome:
        """
        Queue a call in a context in which the variable has a value.
        """

        def call() -> Outcome:
            variable.set(value)
            return self.call(self.queue, func, *args)

        return copy_context().run(call)

    def test_N08_contextVariables(self) -> None:
        """
        Each call sees the caller's values, as they were at the call.
        """
        outcomes = [self.calledWith(value, variable.get) for value in ("one", "two")]
        unset = self.call(self.queue, variable.get)

        def changing() -> Outcome:
            variable.set("before")
            outcome = self.call(self.queue, variable.get)
            variable.set("after")
            return outcome

        changed = copy_context().run(changing)
        self.turn()
        self.assertValue(outcomes[0], "one")
        self.assertValue(outcomes[1], "two")
        self.assertValue(unset, "unset")
        self.assertValue(changed, "before")

    def test_N08_nothingFlowsBack(self) -> None:
        """
        What a call sets is seen by nobody else: not the caller, nor a later call.
        """

        def change() -> None:
            variable.set("changed")
            other.set("changed")

        self.calledWith("mine", change)
        later = self.call(self.queue, lambda: (variable.get(), other.get()))
        self.turn()
        self.assertValue(later, ("unset", "unset"))
        self.assertEqual((variable.get(), other.get()), ("unset", "unset"))

    def test_N08_contextOfTwisted(self) -> None:
        """
        Travels, too.
        """
        outcome = context.call({"key": "value"}, self.call, self.queue, context.get, "key", "default")
        nested = context.call(
            {"key": "outer", "more": 1},
            context.call,
            {"key": "inner"},
            self.call,
            self.queue,
            lambda: (context.get("key"), context.get("more")),
        )
        without = self.call(self.queue, context.get, "key", "default")
        self.turn()
        self.assertValue(outcome, "value")
        self.assertValue(nested, ("inner", 1))
        self.assertValue(without, "default")

    def test_N08_bothTogether(self) -> None:
        """
        In one call.
        """
        outcome = context.call({"key": "value"}, self.calledWith, "mine", lambda: (context.get("key"), variable.get()))
        self.turn()
        self.assertValue(outcome, ("value", "mine"))

    def test_N08_coroutines(self) -> None:
        """
        Keep it over what they wait for.
        """
        waited: Deferred[None] = Deferred()

        async def coroutine() -> tuple[str, str]:
            before = variable.get()
            await waited
            return before, variable.get()

        outcome = self.calledWith("mine", coroutine)
        self.turn()
        waited.callback(None)
        self.assertValue(outcome, ("mine", "mine"))

    def test_N08_rerunsBeginAnew(self) -> None:
        """
        A second attempt sees what the caller had, and not what the first has set.
        """
        seen: list[str] = []
        first: Deferred[None] = Deferred()

        def func() -> Any:
            seen.append(variable.get())
            variable.set("set by the first")
            return first if len(seen) == 1 else None

        def call() -> Outcome:
            variable.set("mine")
            return self.call(self.queue, func, timeout=5)

        outcome = copy_context().run(call)
        self.turn()
        self.clock.advance(5)
        self.turn()
        self.assertEqual(seen, ["mine", "mine"])
        self.assertValue(outcome, None)

    def test_N08_updates(self) -> None:
        """
        Run in the context of who has asked for them, also on workers that come later.
        """
        seen: list[str] = []

        def update() -> None:
            variable.set("mine")
            self.queue.update(lambda: seen.append(variable.get()))

        copy_context().run(update)
        self.turn()
        self.queue.attachWorker(AsyncWorker(reactor=self.clock))
        self.turn()
        self.assertEqual(seen, ["mine", "mine"])

    def test_N08_workersOfOthersCanHaveIt(self) -> None:
        """
        The calls that a worker without contexts runs, and the caller's, are not touched.
        """
        queue = self.makeQueue(ScriptedWorker([Act.RUN]))
        self.assertValue(self.call(queue, identity, 1), 1)
        self.assertEqual(variable.get(), "unset")


class CurrentCallTests(QueueTestCase):
    """
    currentCall().
    """

    def test_N09_outsideOfCalls(self) -> None:
        """
        There is none.
        """
        self.assertIsNone(currentCall())
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        seen: list[Any] = []
        queue.call(int).addCallback(lambda _: seen.append(currentCall()))
        self.turn()
        self.assertEqual(seen, [None])

    def test_N09_whatItTells(self) -> None:
        """
        The call, the attempt, the series and the worker.
        """
        queue = self.makeQueue(AsyncWorker(["a"], reactor=self.clock))
        outcome = self.call(queue, currentCall, series="a")
        (listed,) = queue.outstanding()
        self.turn()
        task = outcome.value
        self.assertEqual((task.ID, task.attempt, task.series, task.workerID), (listed.ID, 1, "a", 1))
        self.assertFalse(task.cancelled)

    def test_F87_attemptsAreNumbered(self) -> None:
        """
        For a function that must know whether it may have been run before.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        attempts: list[int] = []

        def func() -> Any:
            task = currentCall()
            assert task is not None
            attempts.append(task.attempt)
            return Deferred() if task.attempt == 1 else "done"

        outcome = self.call(queue, func, timeout=5)
        self.turn()
        self.clock.advance(5)
        self.turn()
        self.assertEqual(attempts, [1, 2])
        self.assertValue(outcome, "done")

    def test_F81_cancelledIsSeen(self) -> None:
        """
        By the function of a call that is cancelled, has timed out, or is given up with its worker.
        """
        for end in ("cancel", "timeout", "crash"):
            worker = AsyncWorker(reactor=self.clock)
            queue = self.makeQueue(worker)
            tasks: list[Any] = []
            seen: list[bool] = []

            def func(tasks: list[Any] = tasks, seen: list[bool] = seen) -> Any:
                task = currentCall()
                tasks.append(task)
                return Deferred(lambda _: seen.append(tasks[0].cancelled))

            call = queue.options(idempotent=False, timeout=5).call(func)
            outcome = Outcome(call)
            self.turn()
            self.assertFalse(tasks[0].cancelled)
            if end == "cancel":
                call.cancel()
            elif end == "timeout":
                self.clock.advance(5)
            else:
                queue.detachWorker(worker, crash=True)
            self.assertTrue(tasks[0].cancelled, end)
            self.assertEqual(seen, [True], end)
            self.assertEqual(outcome.fired, 1)

    def test_N08_nestedCalls(self) -> None:
        """
        A call that is made in a call runs under its own name.
        """
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        inner: list[Any] = []

        def outer() -> Any:
            task = currentCall()
            inner.append(self.call(queue, currentCall))
            return task

        outcome = self.call(queue, outer)
        self.turn()
        self.assertNotEqual(outcome.value.ID, inner[0].value.ID)
