"""
The suite that every worker passes: what a queue relies on, and what a program may.

Each check is a coroutine function that takes a C{WorkerMaker}, a callable that makes a fresh worker each time. With
trial, L{WorkerConformance} makes a test of each. With pytest and pytest-twisted::

    @pytest.mark.parametrize("check", CONFORMANCE_CHECKS, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_conformance(check):
        await check(MyWorker)
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from zope.interface.verify import verifyObject

from asynqueue.errors import WorkerError
from asynqueue.interfaces import IManagedWorker, IStartedWorker, IWorker
from asynqueue.taskqueue import TaskQueue
from asynqueue.tasks import Task
from asynqueue.testing.tasks import fail, identity

WorkerMaker = Callable[[], Any]
Check = Callable[[WorkerMaker], Coroutine[Deferred[Any], Any, None]]


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


async def providesItsInterface(makeWorker: WorkerMaker) -> None:
    """
    The worker provides the interface, and its qualifications are lists of its own.
    """
    one, other = makeWorker(), makeWorker()
    verifyObject(IWorker, one)
    if IManagedWorker.providedBy(one):
        verifyObject(IManagedWorker, one)
        if IStartedWorker.providedBy(one):
            verifyObject(IStartedWorker, one)
            _expect(one.capacity == 0, "a worker that has not started has no room")
        else:
            _expect(one.capacity >= 1, "a worker that holds nothing has room")
        _expect(one.unfitness == "", "a fresh worker is fit")
    IWorker.validateInvariants(one)
    _expect(one.iQualified is not other.iQualified, "iQualified is shared by two instances")
    await gatherResults([one.stop(), other.stop()])


async def reportsEachOutcomeOnce(makeWorker: WorkerMaker) -> None:
    """
    A task gets its result, and run() tells when the worker is ready.
    """
    worker = makeWorker()
    for number in range(5):
        task = Task(identity, (number,), {}, 0, None)
        outcomes: list[Any] = []
        task.d.addCallback(outcomes.append)
        ready = worker.run(task)
        _expect(isinstance(ready, Deferred), f"run() returned {ready!r}, which is no Deferred")
        await ready
        if not outcomes:
            await task.d
        status, result = outcomes[0]
        _expect(status in ("r", b"r"), f"the status of a result was {status!r}")
        _expect(result == number, f"the result was {result!r}, not {number}")
    await worker.stop()


async def reportsErrors(makeWorker: WorkerMaker) -> None:
    """
    A call that raises is an outcome, and the worker goes on.
    """
    worker = makeWorker()
    queue = TaskQueue(worker, returnFailure=True)
    for _ in range(3):
        try:
            await queue.call(fail, ValueError, "as it should")
        except WorkerError as error:
            _expect("as it should" in str(error), f"the text of the error does not say what: {error}")
        else:
            raise AssertionError("the error of a call was its result")
    _expect(await queue.call(identity, "still here") == "still here", "a worker did not survive an error")
    await queue.shutdown()


async def returnsNothing(makeWorker: WorkerMaker) -> None:
    """
    C{None} is a result like any other.
    """
    queue = TaskQueue(makeWorker(), returnFailure=True)
    _expect(await queue.call(identity, None) is None, "None did not arrive as None")
    await queue.shutdown()


async def runsManyInOrder(makeWorker: WorkerMaker) -> None:
    """
    A burst of calls arrives whole, in the order of submission.
    """
    queue = TaskQueue(makeWorker(), returnFailure=True)
    results = await gatherResults([queue.call(identity, number) for number in range(200)])
    _expect(results == list(range(200)), "the results of a burst are not those of its calls")
    _expect(queue.statistics().late == 0, "outcomes were reported more than once")
    await queue.shutdown()


async def takesTasksWhileStopping(makeWorker: WorkerMaker) -> None:
    """
    stop() fires after the tasks at hand are done.
    """
    worker = makeWorker()
    queue = TaskQueue(worker, returnFailure=True)
    calls = [queue.call(identity, number) for number in range(20)]
    done: list[Any] = []
    for call in calls:
        call.addCallback(done.append)
    await queue.shutdown()
    _expect(sorted(done) == list(range(20)), f"of 20 calls, {len(done)} were done when the queue had shut down")


async def canBeCancelled(makeWorker: WorkerMaker) -> None:
    """
    A call that is cancelled, at whatever stage, settles at once, and the worker is usable.
    """
    queue = TaskQueue(makeWorker(), returnFailure=True)
    calls = [queue.call(identity, number) for number in range(10)]
    outcomes = DeferredList(calls, consumeErrors=True)
    for call in calls[::2]:
        call.cancel()
    results = await outcomes
    _expect(all(succeeded for succeeded, _ in results[1::2]), "a call suffered from the cancelling of another")
    _expect(await queue.call(identity, "still here") == "still here", "a worker did not survive cancelling")
    await queue.shutdown()


async def canBeCrashed(makeWorker: WorkerMaker) -> None:
    """
    crash() returns a list at once, and the queue settles what the worker had.
    """
    worker = makeWorker()
    queue = TaskQueue(worker, returnFailure=True)
    calls = DeferredList([queue.call(identity, number) for number in range(5)], consumeErrors=True)
    left = await queue.detachWorker(worker, crash=True)
    _expect(isinstance(left, list), f"detaching a worker gave {left!r}")
    await queue.shutdown()
    results = await calls
    _expect(len(results) == 5, "a call was not settled")
    _expect(isinstance(makeWorker().crash(), list), "crash() did not return a list")


async def canBeAttachedAndDetached(makeWorker: WorkerMaker) -> None:
    """
    Workers come and go under load, and no call is lost.
    """
    queue = TaskQueue(makeWorker(), returnFailure=True)
    calls = [queue.call(identity, number) for number in range(50)]
    second = await queue.attachWorker(makeWorker())
    calls += [queue.call(identity, number) for number in range(50, 100)]
    _expect(await queue.detachWorker(second, reassign=True) == [], "reassigned tasks were returned as left")
    _expect(await gatherResults(calls) == list(range(100)), "a call was lost when a worker left")
    await queue.shutdown()


#: All checks, for parametrised tests.
CONFORMANCE_CHECKS: tuple[Check, ...] = (
    providesItsInterface,
    reportsEachOutcomeOnce,
    reportsErrors,
    returnsNothing,
    runsManyInOrder,
    takesTasksWhileStopping,
    canBeCancelled,
    canBeCrashed,
    canBeAttachedAndDetached,
)


class WorkerConformance:
    """
    For a C{TestCase} of trial that defines C{makeWorker}: a test of each check, named after it.
    """

    #: Seconds that each of the tests may take.
    timeout: ClassVar[float] = 30

    def makeWorker(self) -> Any:
        """
        Make a fresh worker.
        """
        raise NotImplementedError(f"{type(self).__name__} must define makeWorker()")

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        for name, test in _tests(CONFORMANCE_CHECKS):
            if not hasattr(cls, name):
                setattr(cls, name, test)


def _tests(checks: Iterable[Check]) -> Iterable[tuple[str, Callable[[Any], Deferred[None]]]]:
    for check in checks:

        def test(self: Any, check: Check = check) -> Deferred[None]:
            return Deferred.fromCoroutine(check(self.makeWorker))

        test.__doc__ = check.__doc__
        name = f"test_{check.__name__}"
        test.__name__ = name
        yield name, test
