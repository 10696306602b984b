"""
Process workers whose children have a reactor: real children.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from asynqueue import ProcessQueue, ProcessWorker, TaskQueue
from asynqueue.errors import (
    DecodeError,
    EncodeError,
    PayloadTooLarge,
    PoisonTask,
    ProcessError,
    QueueShutdown,
    RemoteError,
    ResultEncodeError,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerError,
    WorkerLost,
    WorkerStartError,
)
from asynqueue.protocol.runner import MOST
from asynqueue.testing import LeakCheckMixin, faults
from asynqueue.testing import reactortasks as tasks
from asynqueue.testing.conformance import WorkerConformance
from asynqueue.testing.tasks import fail, identity
from test.processes import LIMIT, ProcessTestCase, Program, isAlive

reactor: Any = globalReactor


def textOf(path: str) -> str:
    """
    Return what is in a file, or an empty text if there is none.
    """
    return Path(path).read_text("utf-8") if os.path.exists(path) else ""


class ReactorTestCase(ProcessTestCase):
    """
    Tests of queues whose children have a reactor.
    """

    def makeQueue(self, N: int | None = 1, **keywords: Any) -> ProcessQueue:
        """
        Make a queue.
        """
        return super().makeQueue(N, **{"useReactor": True, **keywords})

    async def linesOf(self, path: str, number: int) -> list[str]:
        """
        Wait until a file has so many lines, and return them.
        """
        await self.until(lambda: textOf(path).count("\n") >= number, f"{number} lines in a file")
        return textOf(path).splitlines()

    async def itemsOf(self, queue: TaskQueue, *call: Any, **keywords: Any) -> list[Any]:
        """
        Iterate over what a call returns.
        """
        return [item async for item in await self.within(LIMIT, queue.call(*call, **keywords))]


async def _collect(items: list[Any], iterator: AsyncIterable[Any]) -> None:
    """
    Add all items of an iterator to a list, one by one.
    """
    async for item in iterator:
        items.append(item)  # noqa: PERF401


class CallTests(ReactorTestCase):
    """
    Calls and what comes of them.
    """

    async def test_kindsOfResults(self) -> None:
        """
        A value, nothing, a Deferred and a coroutine.
        """
        queue = self.makeQueue()
        self.assertEqual(await self.within(LIMIT, queue.call(identity, [1, "two", b"3"])), [1, "two", b"3"])
        self.assertIsNone(await self.within(LIMIT, queue.call(identity, None)))
        self.assertEqual(await self.within(LIMIT, queue.call(tasks.later, 0.01, "later")), "later")
        self.assertEqual(await self.within(LIMIT, queue.call(tasks.awaited, 0.01, "awaited")), "awaited")
        await self.shutDownProperly(queue)

    async def test_sizes(self) -> None:
        """
        Arguments and results on both sides of what AMP can carry in a value, and in a window.
        """
        queue = self.makeQueue()
        for size in (0, 65_535, 65_536, 245_760, 245_761, 1 << 20, (1 << 20) + 1, 8 << 20):
            data = os.urandom(size)
            self.assertEqual(await self.within(LIMIT, queue.call(identity, data)), data)

    async def test_manyAtOnce(self) -> None:
        """
        Sixty-four calls go on at once, not one more, and none of a burst is lost.
        """
        queue = self.makeQueue()
        await self.within(LIMIT, queue.d)
        began = time.monotonic()
        values = await self.allOf([queue.call(tasks.later, 0.3, number) for number in range(2 * MOST)])
        self.assertEqual(values, list(range(2 * MOST)))
        took = time.monotonic() - began
        self.assertGreater(took, 0.6)
        self.assertLess(took, 1.2)

    async def test_burst(self) -> None:
        """
        Many short calls, of all kinds, keep their values.
        """
        queue = self.makeQueue(2)
        calls = [queue.call(*_callOf(number)) for number in range(3000)]
        self.assertEqual(await self.allOf(calls), list(range(3000)))
        await self.shutDownProperly(queue)

    async def test_orderOfSeries(self) -> None:
        """
        Calls of a series begin in order, however many go on.
        """
        queue = self.makeQueue(2, series=["one"])
        path = self.path()
        # Both have to import the module, which takes a while.
        await self.within(LIMIT, queue.d)
        await self.within(LIMIT, queue.update(tasks.later, 0.0))
        names = [str(number) for number in range(40)]
        await self.allOf([queue.call(tasks.telling, path, 0.05, name, series="one") for name in names])
        lines = await self.linesOf(path, 80)
        self.assertEqual([line.split()[1] for line in lines if line.startswith("begun")], names)

    async def test_blockingCallsAreShared(self) -> None:
        """
        Calls that hold up the reactor do not keep others from a worker that is free.
        """
        queue = self.makeQueue(2)
        await self.within(LIMIT, queue.d)
        began = time.monotonic()
        first = queue.call(tasks.block, 1.0, "long")
        await self.allOf([queue.call(tasks.block, 0.01, number) for number in range(40)])
        self.assertLess(time.monotonic() - began, 0.9)
        self.assertEqual(await self.within(LIMIT, first), "long")

    async def test_currentCall(self) -> None:
        """
        The call is known to the function, also after a turn; the reactor is of the kind that the parent has.
        """
        queue = self.makeQueue()
        d = queue.call(tasks.known)
        ID, attempt, pid, cancelled, module = await self.within(LIMIT, d)
        self.assertEqual((ID, attempt, pid, cancelled), (1, 1, self.pidOf(queue), False))
        isAsyncio = type(reactor).__module__.endswith("asyncioreactor")
        self.assertEqual(module.endswith("asyncioreactor"), isAsyncio)

    async def test_callStats(self) -> None:
        """
        The time in the child goes until the Deferred has fired.
        """
        queue = self.makeQueue(callStats=True)
        await self.within(LIMIT, queue.call(tasks.later, 0.1))
        [(whole, inside)] = await self.within(LIMIT, queue.stats())
        self.assertGreaterEqual(inside, 0.09)
        self.assertGreaterEqual(whole, inside)

    async def test_fourthParameter(self) -> None:
        """
        C{useReactor} is the fourth parameter of the worker, and false by default.
        """
        worker = ProcessWorker(["mine"], False, False, True)
        queue = TaskQueue(worker, returnFailure=True)
        self.addCleanup(queue.shutdown)
        self.assertEqual(await self.within(LIMIT, queue.call(tasks.later, 0.0, 5, series="mine")), 5)
        other = TaskQueue(ProcessWorker(), returnFailure=True)
        self.addCleanup(other.shutdown)
        await self.errorOf(other.call(tasks.later, 0.0, 5), ResultEncodeError)


def _callOf(number: int) -> Sequence[Any]:
    return ((identity, number), (tasks.later, 0.0, number), (tasks.awaited, 0.0, number))[number % 3]


class ErrorTests(ReactorTestCase):
    """
    Errors.
    """

    async def test_kinds(self) -> None:
        """
        An exception has its class and is a WorkerError, with the traceback, whether it comes at once or later.
        """
        queue = self.makeQueue()
        for call in (queue.call(fail, KeyError, "a"), queue.call(tasks.failing, 0.01, KeyError, "a")):
            error = await self.errorOf(call, KeyError, ProcessError, WorkerError)
            self.assertEqual(error.args, ("a",))
            self.assertIn("raise kind(*args)", error.remoteTraceback)
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 1)), 1)

    async def test_exits(self) -> None:
        """
        What would end a program ends the call, not the child.
        """
        queue = self.makeQueue()
        await self.within(LIMIT, queue.d)
        pid = self.pidOf(queue)
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
            await self.errorOf(queue.call(fail, kind, 1), RemoteError)
        await self.errorOf(queue.call(tasks.failing, 0.01, ZeroDivisionError), ZeroDivisionError)
        self.assertEqual(await self.within(LIMIT, queue.call(os.getpid)), pid)

    async def test_whatCannotTravel(self) -> None:
        """
        What cannot be pickled, in either direction, fails that call alone, and is named.
        """
        queue = self.makeQueue()
        other = queue.call(tasks.later, 0.2, "other")
        error = await self.errorOf(queue.call(identity, [1, {"lock": faults.makeLock()}]), EncodeError)
        self.assertIn("args[0][1]['lock']", str(error))
        await self.errorOf(queue.call(lambda: 1), EncodeError)
        await self.errorOf(queue.call(faults.makeLock), ResultEncodeError)
        await self.errorOf(queue.call(identity, faults.makeTrap(unpickling="raise")), DecodeError)
        self.assertEqual(await self.within(LIMIT, other), "other")

    async def test_tooLarge(self) -> None:
        """
        So does what is larger than the limit.
        """
        queue = self.makeQueue(limit=100_000)
        await self.errorOf(queue.call(len, bytes(100_000)), PayloadTooLarge)
        error = await self.errorOf(queue.call(bytes, 100_000), ResultEncodeError)
        self.assertIn("100000 are the limit", str(error))
        self.assertEqual(await self.within(LIMIT, queue.call(bytes, 99_000)), bytes(99_000))

    async def test_cancelledByItself(self) -> None:
        """
        A call that lets out the CancelledError of something that it waits for is one that was cancelled.
        """
        queue = self.makeQueue()
        await self.errorOf(queue.call(tasks.failing, 0.0, CancelledError), CancelledError)


class StreamTests(ReactorTestCase):
    """
    Iterators from the child.
    """

    async def test_kinds(self) -> None:
        """
        Generators and asynchronous generators arrive whole, and others are called meanwhile.
        """
        queue = self.makeQueue()
        self.assertEqual(await self.itemsOf(queue, tasks.numbers, 20_000), list(range(20_000)))
        self.assertEqual(await self.itemsOf(queue, tasks.slowNumbers, 2000), list(range(2000)))
        self.assertEqual(await self.within(LIMIT, queue.call(tasks.numbers, 0)), [])
        first = await self.within(LIMIT, queue.call(tasks.slowNumbers, 5, 0.05))
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 7)), 7)
        self.assertEqual([item async for item in first], list(range(5)))
        await self.shutDownProperly(queue)

    async def test_errors(self) -> None:
        """
        An error comes behind the items before it.
        """
        queue = self.makeQueue()
        for func, *args in ((tasks.numbers, 100, "", True), (tasks.slowNumbers, 100, 0.0, "", True)):
            items: list[int] = []
            with self.assertRaises(ValueError) as caught:
                await _collect(items, await self.within(LIMIT, queue.call(func, *args)))
            self.assertEqual(items, list(range(100)))
            self.assertIsInstance(caught.exception, ProcessError)

    async def test_itemThatCannotTravel(self) -> None:
        """
        So does the error of an item that cannot be pickled.
        """
        queue = self.makeQueue()
        items: list[int] = []
        with self.assertRaises(ResultEncodeError):
            await _collect(items, await self.within(LIMIT, queue.call(faults.itemsWith, 3, faults.makeLock)))
        self.assertEqual(len(items), 3)

    async def test_credit(self) -> None:
        """
        A generator that nobody reads from stops within the window.
        """
        queue = self.makeQueue()
        path = self.path()
        deferator = await self.within(LIMIT, queue.call(tasks.slowNumbers, 10_000, 0.0, path))
        await deferLater(reactor, 0.3)
        made = len(await self.linesOf(path, 1))
        self.assertLessEqual(made, 64)
        deferator.stop()

    async def test_leaving(self) -> None:
        """
        Leaving early runs the generator's C{finally}, also if that takes its time.
        """
        queue = self.makeQueue()
        for func, *args in ((tasks.numbers, 1000), (tasks.slowNumbers, 1000, 0.01)):
            path = self.path()
            async for item in await self.within(LIMIT, queue.call(func, *args, path=path)):
                if item == 3:
                    break
            await self.until(partial(_isClosed, path), "the finally")
        await self.shutDownProperly(queue)

    async def test_endWaitsForFinally(self) -> None:
        """
        A child that is to end does so after the C{finally} of a generator that has been left.
        """
        queue = self.makeQueue()
        path = self.path()
        deferator = await self.within(LIMIT, queue.call(tasks.slowNumbers, 1000, 0.01, path))
        deferator.stop()
        await self.within(LIMIT, queue.shutdown())
        self.assertIn("closed", textOf(path))

    async def test_F51_beforeTheFirstItem(self) -> None:
        """
        A call whose child is gone before there is an item is run again.
        """
        queue = self.makeQueue()
        deferator = await self.within(LIMIT, queue.call(faults.itemsAfterDeaths, self.path(), 2, 5))
        self.assertEqual([item async for item in deferator], list(range(5)))

    async def test_cancelBeforeTheFirstItem(self) -> None:
        """
        A call can be cancelled before there is an item, and its generator runs its C{finally}; so it is with limits.
        """
        queue = self.makeQueue()
        path = self.path()
        await self.within(LIMIT, queue.d)
        pid = self.pidOf(queue)
        d = queue.call(tasks.slowNumbers, 5, LIMIT, path)
        await deferLater(reactor, 0.2)
        d.cancel()
        await self.errorOf(d, CancelledError)
        await self.until(partial(_isClosed, path), "the finally")
        await self.errorOf(queue.options(timeLimit=0.1).call(tasks.slowNumbers, 5, LIMIT), TimeLimitExceeded)
        await self.errorOf(queue.options(softTimeLimit=0.1).call(tasks.slowNumbers, 5, LIMIT), SoftTimeLimitExceeded)
        self.assertEqual(await self.within(LIMIT, queue.call(os.getpid)), pid)

    async def test_iteratorThatDoesNotLetGo(self) -> None:
        """
        A child with an iterator that has been left, and is not done with its C{finally} in the grace, is ended.
        """
        queue = self.makeQueue()
        deferator = await self.within(LIMIT, queue.call(tasks.slowToClose, LIMIT))
        pid = self.pidOf(queue)
        deferator.stop()
        await self.until(partial(_isGone, pid), "the end of the child")
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 1)), 1)

    async def test_lost(self) -> None:
        """
        A stream whose child is gone ends with an error.
        """
        queue = self.makeQueue()
        deferator = await self.within(LIMIT, queue.call(tasks.slowNumbers, 1000, 0.01))
        os.kill(self.pidOf(queue), signal.SIGKILL)
        with self.assertRaises(WorkerLost):
            async for _ in deferator:
                pass


class CancelTests(ReactorTestCase):
    """
    Calls that are ended before their time.
    """

    async def test_cancel(self) -> None:
        """
        The call's Deferred is cancelled in the child, which goes on with all others.
        """
        queue = self.makeQueue()
        path = self.path()
        other = queue.call(tasks.later, 1.0, "other")
        d = queue.call(tasks.telling, path, LIMIT)
        await self.linesOf(path, 1)
        pid = self.pidOf(queue)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertEqual(await self.linesOf(path, 2), ["begun", "cancelled"])
        self.assertEqual(await self.within(LIMIT, other), "other")
        self.assertEqual(self.pidOf(queue), pid)
        await self.shutDownProperly(queue)

    async def test_cancelWhatBlocks(self) -> None:
        """
        A child that is held up by a call that was cancelled is replaced after the grace.
        """
        queue = self.makeQueue()
        await self.within(LIMIT, queue.d)
        pid = self.pidOf(queue)
        d = queue.call(tasks.block, LIMIT)
        await deferLater(reactor, 0.1)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertNotEqual(await self.within(LIMIT, queue.call(os.getpid)), pid)

    async def test_cancelWhatIsStubborn(self) -> None:
        """
        So is one with a coroutine that does not end when cancelled; what else it ran is lost and runs again.
        """
        queue = self.makeQueue()
        path, other = self.path(), self.path()
        d = queue.call(tasks.stubborn, path, LIMIT)
        innocent = queue.call(tasks.telling, other, 0.8, "innocent")
        await self.linesOf(path, 1)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertEqual(await self.within(LIMIT, innocent), "innocent")
        self.assertEqual(await self.linesOf(other, 3), ["begun innocent", "begun innocent", "done"])

    async def test_cancelBehindWhatBlocks(self) -> None:
        """
        A call that has not been begun with costs no child its life when it is cancelled.
        """
        queue = self.makeQueue()
        await self.within(LIMIT, queue.d)
        pid = self.pidOf(queue)
        await self.allOf([queue.call(identity, number) for number in range(100)])
        blocking = [queue.call(tasks.block, 0.8, number) for number in range(3)]
        waiting = queue.call(identity, 1)
        waiting.cancel()
        await self.errorOf(waiting, CancelledError)
        self.assertEqual(await self.allOf(blocking), [0, 1, 2])
        self.assertEqual(await self.within(LIMIT, queue.call(os.getpid)), pid)

    async def test_timeLimit(self) -> None:
        """
        A call that waits too long is cancelled, and nothing else suffers; one that goes on all the same costs the
        child.
        """
        queue = self.makeQueue()
        path = self.path()
        other = queue.call(tasks.later, 0.6, "other")
        d = queue.options(timeLimit=0.2).call(tasks.telling, path, LIMIT)
        await self.errorOf(d, TimeLimitExceeded)
        self.assertEqual(await self.linesOf(path, 2), ["begun", "cancelled"])
        self.assertEqual(await self.within(LIMIT, other), "other")
        pid = self.pidOf(queue)
        await self.errorOf(queue.options(timeLimit=0.2).call(tasks.block, LIMIT), TimeLimitExceeded)
        self.assertNotEqual(await self.within(LIMIT, queue.call(os.getpid)), pid)

    async def test_softTimeLimit(self) -> None:
        """
        A call may return something when it is cancelled by its soft limit, or fails with that.
        """
        queue = self.makeQueue()
        limited = queue.options(softTimeLimit=0.2)
        self.assertEqual(await self.within(LIMIT, limited.call(tasks.tidying, self.path(), LIMIT)), "tidy")
        path = self.path()
        await self.errorOf(limited.call(tasks.telling, path, LIMIT), SoftTimeLimitExceeded)
        self.assertEqual(await self.linesOf(path, 2), ["begun", "late"])
        both = queue.options(softTimeLimit=0.2, timeLimit=0.4)
        await self.errorOf(both.call(tasks.stubborn, self.path(), LIMIT), TimeLimitExceeded)

    async def test_shutdownNow(self) -> None:
        """
        A shutdown with a deadline ends what goes on.
        """
        queue = self.makeQueue()
        running = queue.call(tasks.later, LIMIT)
        path = self.path()
        await self.within(LIMIT, queue.call(tasks.telling, path, 0.0))
        await self.within(5.0, queue.shutdown(drain=False, deadline=0.1))
        await self.errorOf(running, WorkerLost, limit=0.5)
        self.assertTrue(running.called)

    async def test_shutdownDrains(self) -> None:
        """
        One that drains waits for what goes on.
        """
        queue = self.makeQueue()
        calls = [queue.call(tasks.later, 0.2, number) for number in range(100)]
        await self.within(LIMIT, queue.shutdown())
        self.assertEqual(await self.allOf(calls), list(range(100)))
        queued = self.makeQueue(1)
        calls = [queued.call(tasks.later, 0.3, number) for number in range(200)]
        await self.within(LIMIT, queued.d)
        await deferLater(reactor, 0.1)
        outcomes = DeferredList(calls, consumeErrors=True)
        await self.within(LIMIT, queued.shutdown(drain=False))
        results = await self.within(LIMIT, outcomes)
        done = [value for succeeded, value in results if succeeded]
        self.assertEqual(done, list(range(MOST)))
        self.assertTrue(all(value.check(QueueShutdown) for succeeded, value in results if not succeeded))


class DeathTests(ReactorTestCase):
    """
    Children that come to their ends.
    """

    async def test_lossIsRunAgain(self) -> None:
        """
        What went on in a child that dies is run again, what it had not begun with, too, and nothing is lost.
        """
        queue = self.makeQueue()
        path = self.path()
        calls = [queue.call(tasks.later, 0.1, number) for number in range(30)]
        once = queue.call(tasks.leaveOnce, path, 0.05)
        calls += [queue.call(tasks.later, 0.1, number) for number in range(30, 200)]
        self.assertEqual(await self.allOf(calls), list(range(200)))
        self.assertEqual(await self.within(LIMIT, once), "survived")

    async def test_deathWhileBegun(self) -> None:
        """
        A child that dies while it begins with a call has begun with it: the call is poison in the end, and those
        around it are not harmed.
        """
        queue = self.makeQueue()
        poison = queue.call(tasks.leaveAtOnce, 0)
        calls = [queue.call(identity, number) for number in range(50)]
        error = await self.errorOf(poison, PoisonTask)
        self.assertEqual(len(error.history), 3)
        self.assertIn("exited with code 0", error.history[0])
        self.assertEqual(await self.allOf(calls), list(range(50)))

    async def test_notIdempotent(self) -> None:
        """
        A call that must not run twice fails at once, with how the child has ended.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.options(idempotent=False).call(tasks.leave, 3, 0.05), WorkerLost)
        self.assertIn("exited with code 3", str(error))

    async def test_reactorStopped(self) -> None:
        """
        A child whose reactor is stopped by a call is lost, and replaced.
        """
        queue = self.makeQueue()
        await self.errorOf(queue.options(idempotent=False).call(tasks.stopReactor), WorkerLost)
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 1)), 1)

    async def test_nonsense(self) -> None:
        """
        A child that writes nonsense where AMP is spoken is ended, and replaced.
        """
        queue = self.makeQueue()
        for data in (b"\xff" * 100, b"\0\0", b"\0\3abc\0\1x\0\0"):
            error = await self.errorOf(queue.options(idempotent=False).call(_writeAndWait, data), WorkerLost)
            self.assertIn("broke the protocol", str(error))
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 1)), 1)

    async def test_closedPipe(self) -> None:
        """
        So is one that closes its end of it.
        """
        queue = self.makeQueue()
        await self.errorOf(queue.options(idempotent=False).call(faults.closeDescriptor), WorkerLost)
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 1)), 1)

    async def test_idleDeath(self) -> None:
        """
        A child that dies while it has nothing to do is replaced.
        """
        queue = self.makeQueue()
        await self.within(LIMIT, queue.d)
        pid = self.pidOf(queue)
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: queue.workers()[0].pid not in (None, pid), "another child")
        self.assertEqual(await self.within(LIMIT, queue.call(identity, 1)), 1)

    async def test_recycling(self) -> None:
        """
        A child is replaced after so many calls, while others go on in it, and none is lost.
        """
        queue = self.makeQueue(maxTasks=10)
        pids = await self.allOf([queue.call(_pidLater, 0.05) for _ in range(50)])
        numbers = [pids.count(pid) for pid in set(pids)]
        self.assertEqual((len(numbers), max(numbers)), (5, 10))
        await self.shutDownProperly(queue)

    async def test_onStart(self) -> None:
        """
        What is to be called first is waited for; if it fails, the child is not used, and the reason is told.
        """
        path = self.path()
        queue = self.makeQueue(onStart=tasks.startLater, onStartArgs=[path])
        self.assertEqual(await self.within(LIMIT, queue.call(tasks.telling, path, 0.0, "call")), "call")
        self.assertEqual(await self.linesOf(path, 3), ["started", "begun call", "done"])
        bad = self.makeQueue(onStart=tasks.startFailing)
        error = await self.errorOf(bad.call(identity, 1), WorkerStartError)
        self.assertIn("nothing to begin with", str(error))

    async def test_surroundings(self) -> None:
        """
        The child has the parent's directory, also for calls after one that has gone elsewhere, and its own session.
        """
        queue = self.makeQueue()
        await self.within(LIMIT, queue.call(os.chdir, "/"))
        self.assertEqual(await self.within(LIMIT, queue.call(os.getcwd)), os.getcwd())
        self.assertEqual(await self.within(LIMIT, queue.call(os.getsid, 0)), self.pidOf(queue))

    async def test_output(self) -> None:
        """
        What the child's code prints, and logs, is logged here.
        """
        events = self.watchLog()
        queue = self.makeQueue()
        await self.within(LIMIT, queue.call(print, "a line"))
        await self.within(LIMIT, queue.call(_log, "a warning"))
        lines = lambda: " ".join(str(event.get("line")) for event in events)  # noqa: E731
        await self.until(lambda: "a line" in lines() and "a warning" in lines(), "the lines")

    async def test_F67_parentKilled(self) -> None:
        """
        A child does not outlive its parent, neither while it waits nor while a call blocks it.
        """
        for call in ("later", "block"):
            program = Program(self.path(), _PARENT.format(call=call), self.mark)
            self.addCleanup(program.close)
            pid = int(next(program.lines()))
            self.assertTrue(isAlive(pid))
            program.process.kill()
            took = await self.until(partial(_isGone, pid), "the end of the child", 3.0)
            self.assertLess(took, 1.0)

    async def test_mainModule(self) -> None:
        """
        Functions of the program itself can be called.
        """
        program = Program(self.path(), _MAIN, self.mark)
        self.addCleanup(program.close)
        code, out, err = program.end(30)
        self.assertEqual((code, out), (0, "42\n"), err)

    async def test_asyncio(self) -> None:
        """
        With the asyncio reactor here, children have it, too.
        """
        program = Program(self.path(), _ASYNCIO, self.mark)
        self.addCleanup(program.close)
        code, out, err = program.end(30)
        self.assertEqual((code, out), (0, "twisted.internet.asyncioreactor 5\n"), err)


def _isClosed(path: str) -> bool:
    return "closed" in textOf(path)


def _isGone(pid: int) -> bool:
    return not isAlive(pid)


def _writeAndWait(data: bytes) -> Deferred[Any]:
    tasks.holdPipe(data)
    return tasks.later(LIMIT)


async def _pidLater(seconds: float) -> int:
    await tasks.later(seconds)
    return os.getpid()


def _log(text: str) -> None:
    from twisted.logger import Logger

    Logger().warn(text)


_PARENT = """
import sys
from twisted.internet import reactor
from twisted.internet.task import deferLater
from asynqueue import ProcessQueue
from asynqueue.testing import reactortasks as tasks

async def run():
    queue = ProcessQueue(1, useReactor=True, returnFailure=True)
    pid = await queue.call(tasks.pid)
    queue.call(tasks.{call}, 60.0)
    await deferLater(reactor, 0.2)
    print(pid)

if __name__ == "__main__":
    from twisted.internet.defer import Deferred
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()))
    reactor.run()
"""

_MAIN = """
from twisted.internet.task import react
from asynqueue import ProcessQueue
from asynqueue.testing.reactortasks import later

async def mine(number):
    return await later(0.0, 2 * number)

async def run(reactor):
    queue = ProcessQueue(1, useReactor=True, returnFailure=True)
    print(await queue.call(mine, 21))
    await queue.shutdown()

if __name__ == "__main__":
    react(run)
"""

_ASYNCIO = """
if __name__ == "__main__":
    from twisted.internet import asyncioreactor
    asyncioreactor.install()

import asyncio
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from asynqueue import ProcessQueue

async def mine(number):
    from twisted.internet import reactor
    value = await Deferred.fromFuture(asyncio.ensure_future(asyncio.sleep(0.01, number)))
    return type(reactor).__module__, value

async def run(reactor):
    queue = ProcessQueue(1, useReactor=True, returnFailure=True)
    print(*await queue.call(mine, 5))
    await queue.shutdown()

if __name__ == "__main__":
    react(run)
"""


class ReactorConformanceTests(WorkerConformance, LeakCheckMixin, TestCase):
    """
    The suite that every worker passes.
    """

    def makeWorker(self) -> ProcessWorker:
        """
        Make a worker whose children have a reactor, and which is crashed at the end if it has not been stopped.
        """
        worker = ProcessWorker(useReactor=True)
        self.addCleanup(worker.crash)
        return worker
