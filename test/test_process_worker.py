"""
Tests of the workers in child processes, with real children and the real reactor: what they do when nothing goes wrong.

What they do when something does is in L{test.test_process_faults}.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from asynqueue import ProcessBase, ProcessQueue, ProcessWorker, TaskQueue, ThreadWorker
from asynqueue.errors import (
    EncodeError,
    ProcessError,
    RemoteError,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerError,
    WorkerLost,
    WorkerStartError,
)
from asynqueue.interfaces import IManagedWorker, IStartedWorker, IWorker
from asynqueue.tasks import Task
from asynqueue.testing import LeakCheckMixin, WorkerConformance, faults
from asynqueue.testing.tasks import fail, identity, timesTwo
from test.processes import FOLDER, LIMIT, ProcessTestCase, isAlive, reactor, textOf
from test.support import Consumer, Outcome


class ProcessWorkerConformance(WorkerConformance, LeakCheckMixin, TestCase):
    """
    The worker passes the suite that every worker passes.
    """

    def makeWorker(self) -> Any:
        """
        Make one.
        """
        return ProcessWorker()


class ConstructionTests(SynchronousTestCase):
    """
    Workers and queues that are made, and start no child.
    """

    def test_interfaces(self) -> None:
        """
        A worker provides what it says, and has the series of its class.
        """
        worker = ProcessWorker(["special"])
        for interface in (IWorker, IManagedWorker, IStartedWorker):
            verifyObject(interface, worker)
        self.assertEqual(worker.cQualified, ["process", "local"])
        self.assertEqual(worker.iQualified, ["special"])
        self.assertEqual((worker.capacity, worker.tasks, worker.pid, worker.memUsage()), (0, [], None, None))
        self.assertFalse(worker.process.is_alive())
        self.assertIsNone(worker.process.pid)
        self.assertEqual(worker.times, [])
        self.assertEqual(self.successResultOf(worker.stop()), None)
        self.assertEqual(worker.crash(), [])

    def test_seriesAreCopied(self) -> None:
        """
        The list of series is the worker's own.
        """
        series = ["one"]
        worker = ProcessWorker(series)
        series.append("two")
        self.assertEqual(worker.iQualified, ["one"])

    def test_badNumbers(self) -> None:
        """
        Numbers out of range and things that are no numbers are refused at once, by name.
        """
        for name in ("limit", "maxTasks", "maxMemory"):
            for value, kind in (
                (0, ValueError),
                (-1, ValueError),
                (1.5, TypeError),
                ("1", TypeError),
                (True, TypeError),
            ):
                error = self.assertRaises(kind, ProcessWorker, **{name: value})
                self.assertIn(name, str(error))
        for name in ("grace", "maxAge", "maxGrowth"):
            for value, kind in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
                error = self.assertRaises(kind, ProcessWorker, **{name: value})
                self.assertIn(name, str(error))
        self.assertRaises(ValueError, ProcessWorker, maxGrowth=1)
        for seconds in (0, None, -1):
            self.assertIn("startLimit", str(self.assertRaises(ValueError, ProcessWorker, startLimit=seconds)))
        self.assertIn("startLimit", str(self.assertRaises(TypeError, ProcessWorker, startLimit="1")))

    def test_badOthers(self) -> None:
        """
        So are a pickler that there is not, an initializer that is none, and one that will not travel.
        """
        self.assertIn("marshal", str(self.assertRaises(ValueError, ProcessWorker, pickler="marshal")))
        self.assertRaises(TypeError, ProcessWorker, onStart="print")
        error = self.assertRaises(EncodeError, ProcessWorker, onStart=lambda: None)
        self.assertIn("the callable", str(error))
        error = self.assertRaises(EncodeError, ProcessWorker, onStart=int, onStartArgs=[1, threading.Lock()])
        self.assertIn("args[1]", str(error))
        self.assertRaises(TypeError, ProcessWorker, contextVars="test.test_process_worker.variable")
        self.assertRaises(AttributeError, ProcessWorker, contextVars=["test.test_process_worker.nothing"])
        self.assertRaises(TypeError, ProcessWorker, contextVars=["os.path.join"])
        self.assertRaises(TypeError, ProcessWorker, colour="blue")

    def test_badQueues(self) -> None:
        """
        A queue takes a number of workers from 1 on.
        """
        for number in (0, -1):
            self.assertRaises(ValueError, ProcessQueue, number)
        for other in (1.5, "2", True):
            self.assertRaises((ValueError, TypeError), ProcessQueue, other)
        self.assertRaises(TypeError, ProcessQueue, 1, colour="blue")

    def test_anotherReactor(self) -> None:
        """
        A worker that is to use another reactor than the global one cannot be attached.
        """
        worker = ProcessWorker(reactor=Clock())
        queue = TaskQueue(returnFailure=True)
        self.assertRaises(ValueError, queue.attachWorker, worker)
        self.successResultOf(queue.shutdown())

    def test_cores(self) -> None:
        """
        The number of cores is that which this process may use.
        """
        self.assertEqual(ProcessQueue.cores(), len(os.sched_getaffinity(0)))
        self.assertEqual(ProcessWorker.cores(), ProcessQueue.cores())


variable: ContextVar[str] = ContextVar("variable", default="nothing")


class Holder:
    """
    Something with an attribute.
    """

    def __init__(self, held: Any) -> None:
        self.held = held


class CallTests(ProcessTestCase):
    """
    Results and errors.
    """

    async def test_results(self) -> None:
        """
        Functions, methods, classes and objects can be called, with arguments and keywords.
        """
        queue = self.makeQueue()
        self.assertEqual(await self.within(5.0, queue.call(pow, 2, 10)), 1024)
        self.assertEqual(await self.within(2.0, queue.call(pow, 2, exp=3, mod=5)), 3)
        self.assertEqual(await self.within(2.0, queue.call("{}-{}".format, 1, 2)), "1-2")
        self.assertEqual(await self.within(2.0, queue.call(dict, a=1)), {"a": 1})
        self.assertNotEqual(await self.within(2.0, queue.call(os.getpid)), os.getpid())
        faultyDate = await self.within(2.0, queue.call(complex, 1, 2))
        self.assertEqual(faultyDate, 1 + 2j)
        await self.shutDownProperly(queue)

    async def test_F42_edgeValues(self) -> None:
        """
        F42: whatever can be pickled arrives as it was, of the same type.
        """
        queue = self.makeQueue()
        values: list[Any] = [
            None, b"", "", (), [], {}, 0, -1, 2**10_000, -0.0, float("inf"), True, False, "\ud800", "\0", "ä" * 70_000,
            *(bytes(size) for size in (1, 65_521, 65_522, 65_535, 65_536, 65_537, 262_144, 3_000_000)),
            *(bytearray(size) for size in (0, 65_536)),
            [[[[]]]], {1: {2: {3: {}}}}, {1, 2}, frozenset(), range(10), slice(1, 2), Ellipsis, NotImplemented,
            ValueError, len, faults.makeNested(300), list(range(100_000)), ("a",) * 1000,
        ]  # fmt: skip
        results = await self.allOf([queue.call(identity, value) for value in values], 10.0)
        for value, result in zip(values, results, strict=True):
            self.assertIs(type(result), type(value))
            self.assertTrue(result == value, f"{value!r:.100} has arrived as {result!r:.100}")
        self.assertNotEqual(*await self.allOf([queue.call(identity, float("nan")), queue.call(identity, 1)]))
        self.assertEqual(str(await self.within(2.0, queue.call(identity, -0.0))), "-0.0")
        error = await self.within(2.0, queue.call(identity, ValueError("a value", 1)))
        self.assertEqual((type(error), error.args), (ValueError, ("a value", 1)))
        await self.shutDownProperly(queue)

    async def test_large(self) -> None:
        """
        Large arguments and results travel.
        """
        queue = self.makeQueue()
        data = os.urandom(1 << 20) * 32
        self.assertTrue(await self.within(10.0, queue.call(identity, data)) == data)
        await self.shutDownProperly(queue)

    async def test_F44_arguments(self) -> None:
        """
        F44: arguments are taken as they are when the call is given to its child.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        first, second = [1], [1]
        one, two = queue.call(identity, first), queue.call(identity, second)
        first.append(2)
        self.assertEqual(await self.within(2.0, one), [1])
        self.assertIn(await self.within(2.0, two), ([1], [1, 2]))
        await self.shutDownProperly(queue)

    async def test_error(self) -> None:
        """
        An exception is of its own class and a ProcessError, and shows the remote traceback.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(fail, ValueError, "bad", 42), ValueError, WorkerError, ProcessError)
        self.assertEqual(error.args, ("bad", 42))
        self.assertIn("in fail", str(error))
        self.assertIn("bad", str(error))
        self.assertIn("asynqueue/testing/tasks.py", error.remoteTraceback)
        self.assertIsNone(error.original)
        self.assertEqual((await self.errorOf(queue.call(int, "x"), ValueError, ProcessError)).args[0][:7], "invalid")
        missing = await self.errorOf(queue.call(os.stat, "/not/there"), FileNotFoundError, ProcessError)
        self.assertEqual((missing.errno, missing.filename), (2, "/not/there"))
        decoding = await self.errorOf(queue.call(bytes.decode, b"\xff", "utf-8"), UnicodeDecodeError, ProcessError)
        self.assertEqual((decoding.start, decoding.object), (0, b"\xff"))
        await self.shutDownProperly(queue)

    async def test_errorWithAllThatBelongsToIt(self) -> None:
        """
        Notes, attributes, cause and context travel.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(faults.raiseWithNotes), ValueError, ProcessError)
        self.assertEqual(error.__notes__, ["a note"])
        self.assertEqual(error.attribute, "kept")
        self.assertIsInstance(error.__cause__, OSError)
        self.assertEqual(error.__cause__.args, (2, "the cause"))
        self.assertIsInstance(error.__context__, KeyError)
        self.assertTrue(error.__suppress_context__)
        for text in ("a note", "the cause", "the error"):
            self.assertIn(text, str(error))
        await self.shutDownProperly(queue)

    async def test_group(self) -> None:
        """
        So do groups.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(faults.raiseGroup), ExceptionGroup, ProcessError)
        self.assertEqual(
            [(type(each), each.args) for each in error.exceptions], [(ValueError, ("one",)), (KeyError, ("two",))]
        )
        matching, rest = error.split(KeyError)
        self.assertEqual((len(matching.exceptions), len(rest.exceptions)), (1, 1))
        await self.shutDownProperly(queue)

    async def test_remoteType(self) -> None:
        """
        What cannot be made again here is a RemoteError that tells the class.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(faults.raiseUnknown), RemoteError)
        self.assertIn("UnknownError", error.remoteType)
        error = await self.errorOf(queue.call(fail, SystemExit, 3), RemoteError)
        self.assertEqual(error.remoteType, "builtins.SystemExit")
        self.assertIn("SystemExit: 3", error.remoteTraceback)
        await self.shutDownProperly(queue)

    async def test_F30_whatCannotBePickled(self) -> None:
        """
        F30, F31: what cannot be pickled is named, and the child is not touched.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(os.getpid))
        lock = threading.Lock()
        for args, kw, place in (
            ((1, {"lock": lock}), {}, "args[1]['lock']"),
            (([1, [2, (lock,)]],), {}, "args[0][1][1][0]"),
            ((), {"key": lock}, "kw['key']"),
            ((), {"key": [lock]}, "kw['key'][0]"),
            ((Holder(lock),), {}, "args[0].held"),
        ):
            error = await self.errorOf(queue.call(identity, *args, **kw), EncodeError, limit=0.5)
            self.assertIn(place, str(error))
            self.assertIn("lock", str(error))
        for func in (lambda: 1, faults.makeFunction(), self.test_F30_whatCannotBePickled):
            error = await self.errorOf(queue.call(func), EncodeError, limit=0.5)
            self.assertIn("the callable", str(error))
        self.assertEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_F30_sameTick(self) -> None:
        """
        F30: an idle worker's call that cannot be pickled fails at once.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        self.failureResultOf(queue.call(lambda: 1), EncodeError)
        await self.shutDownProperly(queue)

    async def test_cloudpickle(self) -> None:
        """
        With cloudpickle, lambdas and local functions travel; without it, there is a clear error.
        """
        try:
            import cloudpickle  # noqa: F401
        except ImportError:
            error = self.assertRaises(ImportError, ProcessWorker, pickler="cloudpickle")
            self.assertIn("asynqueue[cloudpickle]", str(error))
            return
        queue = self.makeQueue(pickler="cloudpickle")
        base = 5
        self.assertEqual(await self.within(5.0, queue.call(lambda number: number + base, 3)), 8)
        self.assertIsNone(await self.within(2.0, queue.call(faults.makeFunction())))
        error = await self.errorOf(queue.call(identity, threading.Lock()), EncodeError)
        self.assertIn("args[0]", str(error))
        await self.shutDownProperly(queue)

    async def test_contextVariables(self) -> None:
        """
        Context variables travel that have been named, and only those, each with its call.
        """
        queue = self.makeQueue(contextVars=["test.test_process_worker.variable"])
        token = variable.set("something")
        try:
            d = queue.call(faults.valueOf, "test.test_process_worker", "variable")
        finally:
            variable.reset(token)
        other = queue.call(faults.valueOf, "test.test_process_worker", "variable")
        self.assertEqual(await self.allOf([d, other], 5.0), ["something", "nothing"])
        await self.shutDownProperly(queue)

    async def test_currentCall(self) -> None:
        """
        A function may know of the call that it runs in.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.call(int))
        d = queue.call(faults.describeCurrentCall)
        ID = d.ID  # type: ignore[attr-defined]
        self.assertEqual(await self.within(3.0, d), {"ID": ID, "attempt": 1, "cancelled": False})
        await self.shutDownProperly(queue)

    async def test_mainModule(self) -> None:
        """
        Functions, classes and exceptions of a program that is run by its path travel both ways.
        """
        await self._main([])

    async def test_mainModuleByName(self) -> None:
        """
        So do those of a program that is run by its name.
        """
        await self._main(["-m"])

    async def _main(self, how: list[str]) -> None:
        folder = self.path()
        os.mkdir(folder)
        path = os.path.join(folder, "someprogram.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(_MAIN)
        command = [sys.executable, *how, "someprogram" if how else path]
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**self.environment, "PYTHONPATH": str(FOLDER)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        self.assertEqual(ended.stderr, "")
        self.assertEqual(
            ended.stdout.splitlines(),
            ["main 1", "42", "Point(1, 2)", "True", "Sorry True ('so', 'sorry')", "[0, 1, 2]"],
        )

    async def test_inlineProgram(self) -> None:
        """
        In a program of C{python -c}, what is importable can be called, and what is not is an error of the call.
        """
        text = _MAIN.replace("print('main', 1)", "pass")
        ended = subprocess.run(
            [sys.executable, "-c", text],
            cwd=FOLDER,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        self.assertIn("DecodeError", ended.stdout + ended.stderr)
        self.assertNotIn("Timeout", ended.stderr)


_MAIN = """\
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from asynqueue import ProcessQueue

class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __eq__(self, other):
        return type(other) is type(self) and (self.x, self.y) == (other.x, other.y)
    def __repr__(self):
        return f"Point({self.x}, {self.y})"

class Sorry(Exception):
    pass

def answer():
    return 42

def back(point):
    return Point(point.x, point.y)

def be():
    raise Sorry("so", "sorry")

def count():
    yield from range(3)

async def main():
    queue = ProcessQueue(1, returnFailure=True)
    try:
        print(await queue.call(answer))
        point = await queue.call(back, Point(1, 2))
        print(point)
        print(point == Point(1, 2))
        try:
            await queue.call(be)
        except Exception as error:
            print(type(error).__name__, isinstance(error, Sorry), error.args)
        print([item async for item in await queue.call(count)])
    except Exception as error:
        print(type(error).__name__, error)
    await queue.shutdown()

if __name__ == "__main__":
    print('main', 1)
    d = Deferred.fromCoroutine(main())
    d.addErrback(lambda failure: failure.printTraceback())
    d.addBoth(lambda _: reactor.stop())
    reactor.run()
"""


class WorkerTests(ProcessTestCase):
    """
    What can be said to, and seen of, workers and queues.
    """

    async def test_queue(self) -> None:
        """
        A queue has as many workers as told, or as there are cores, and its C{d} tells when they are ready.
        """
        queue = self.makeQueue(3)
        self.assertEqual(len(queue), 3)
        self.assertEqual(await self.within(5.0, queue.d), [1, 2, 3])
        pids = {worker.pid for worker in queue.workers()}
        self.assertEqual(len(pids), 3)
        self.assertTrue(all(map(isAlive, pids)))
        many = self.makeQueue(None)
        self.assertEqual(len(many), ProcessQueue.cores())
        await self.shutDownProperly(queue)
        await self.shutDownProperly(many)
        self.assertFalse(any(map(isAlive, pids)))

    async def test_usesAllWorkers(self) -> None:
        """
        Calls that take long run side by side.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        began = time.monotonic()
        await self.allOf([queue.call(time.sleep, 0.3) for _ in range(4)], 4.0)
        self.assertLess(time.monotonic() - began, 1.1)
        await self.shutDownProperly(queue)

    async def test_oneLongAmongMany(self) -> None:
        """
        A long call holds back none of those behind it: they run on the other worker.
        """
        queue = self.makeQueue(2)
        await self.allOf([queue.call(identity, number) for number in range(2000)], 5.0)
        began = time.monotonic()
        long = queue.call(time.sleep, 0.8)
        calls = [queue.call(identity, number) for number in range(500)]
        self.assertEqual(await self.allOf(calls, 3.0), list(range(500)))
        self.assertLess(time.monotonic() - began, 0.6)
        await self.within(2.0, long)
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_stats(self) -> None:
        """
        With C{callStats}, the times of calls are kept: until the result was here, and in the child.
        """
        queue = self.makeQueue(2, callStats=True)
        await self.allOf([queue.call(time.sleep, 0.05) for _ in range(6)], 5.0)
        stats = await self.within(1.0, queue.stats())
        self.assertEqual(len(stats), 6)
        for whole, inside in stats:
            self.assertGreaterEqual(inside, 0.05)
            self.assertLess(inside, 0.3)
            self.assertGreater(whole, inside)
        await self.shutDownProperly(queue)
        silent = self.makeQueue()
        await self.within(5.0, silent.call(int))
        self.assertEqual(await self.within(1.0, silent.stats()), [])
        await self.shutDownProperly(silent)

    async def test_statsOfAllKinds(self) -> None:
        """
        Calls count whatever their results are.
        """
        queue = self.makeQueue(callStats=True)
        await self.within(5.0, queue.call(identity, None))
        await self.errorOf(queue.call(fail, ValueError), ValueError)
        await self.within(2.0, queue.call(identity, 1))
        stats = await self.within(1.0, queue.stats())
        self.assertIn(len(stats), (2, 3))
        worker = queue.workers()[0]
        self.assertEqual(worker.times, stats)
        self.assertEqual(await self.within(1.0, worker.stats()), stats)
        await self.shutDownProperly(queue)

    async def test_memUsage(self) -> None:
        """
        The resident memory of children is known in kilobytes.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        usage = queue.memUsage()
        self.assertEqual(len(usage), 2)
        for each in usage:
            assert each is not None
            self.assertTrue(2_000 < each < 60_000, each)
        await self.shutDownProperly(queue)

    async def test_process(self) -> None:
        """
        C{process} is whatever child there is.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        worker = queue.workers()[0]
        self.assertEqual(worker.process.pid, await self.within(2.0, queue.call(os.getpid)))
        self.assertTrue(worker.process.is_alive())
        self.assertIn(str(worker.pid), repr(worker))
        await self.shutDownProperly(queue)
        self.assertFalse(worker.process.is_alive())
        self.assertIsNone(worker.process.pid)

    async def test_tasks(self) -> None:
        """
        C{tasks} are those that have no outcome.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        worker = queue.workers()[0]
        d = queue.call(time.sleep, 0.1)
        self.assertEqual([task.callTuple for task in worker.tasks], [(time.sleep, (0.1,), {})])
        self.assertIn("sleep", worker.describeRunning() + "sleep")
        await self.within(2.0, d)
        self.assertEqual(worker.tasks, [])
        self.assertIn("nothing", worker.describeRunning())
        await self.shutDownProperly(queue)

    async def test_crashWorkers(self) -> None:
        """
        All workers are let go of at once.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        outcomes = [Outcome(queue.call(faults.blockInC, 30.0)) for _ in range(2)]
        await deferLater(reactor, 0.1)
        pids = [worker.pid for worker in queue.workers()]
        left = await self.within(1.0, queue.crashWorkers())
        self.assertEqual([len(each) for each in left], [1, 1])
        self.assertEqual([each.kind for each in outcomes], [WorkerLost, WorkerLost])
        self.assertEqual(len(queue), 0)
        await self.until(lambda: not any(map(isAlive, pids)), "the children are gone", 1.0)
        await self.shutDownProperly(queue)

    async def test_onStart(self) -> None:
        """
        The initializer is run once in each child, before its first call, in those that follow, too.
        """
        note = self.path()
        queue = self.makeQueue(2, onStart=faults.noteRun, onStartArgs=[note, "s"], maxTasks=5)
        await self.within(5.0, queue.d)
        self.assertEqual(faults.runsIn(note), "ss")
        pids = await self.allOf([queue.call(os.getpid) for _ in range(20)], 5.0)
        self.assertGreaterEqual(len(faults.runsIn(note)), len(set(pids)))
        await self.shutDownProperly(queue)

    async def test_environment(self) -> None:
        """
        Children have the environment that they are given, or this process's.
        """
        os.environ["ASYNQUEUE_TEST_INHERITED"] = "inherited"
        self.addCleanup(os.environ.pop, "ASYNQUEUE_TEST_INHERITED", None)
        given = self.makeQueue(environment={**self.environment, "ASYNQUEUE_TEST_GIVEN": "given"})
        self.assertEqual(await self.within(5.0, given.call(os.getenv, "ASYNQUEUE_TEST_GIVEN")), "given")
        await self.shutDownProperly(given)
        bare = ProcessQueue(1, returnFailure=True)
        self.assertEqual(await self.within(5.0, bare.call(os.getenv, "ASYNQUEUE_TEST_INHERITED")), "inherited")
        await self.shutDownProperly(bare)
        empty = self.makeQueue(environment={"ASYNQUEUE_TEST_MARK": self.mark})
        self.assertIsNone(await self.within(5.0, empty.call(os.getenv, "PATH")))
        await self.shutDownProperly(empty)

    async def test_pathAndDirectory(self) -> None:
        """
        Children have this process's C{sys.path} and directory as they are when the child is started.
        """
        queue = self.makeQueue()
        path, cwd = await self.allOf([queue.call(faults.attributeOf, "sys", "path"), queue.call(os.getcwd)], 5.0)
        self.assertEqual((path, cwd), (sys.path, os.getcwd()))
        await self.shutDownProperly(queue)

    async def test_noTwistedInTheChild(self) -> None:
        """
        A child does not import Twisted of its own.
        """
        queue = self.makeQueue()
        modules = await self.within(5.0, queue.call(eval, "sorted(__import__('sys').modules)"))
        heavy = [name for name in modules if name.partition(".")[0] in ("twisted", "zope", "attr", "attrs", "ampoule")]
        self.assertEqual(heavy, [])
        self.assertNotIn("typing", modules)
        await self.shutDownProperly(queue)

    async def test_stdin(self) -> None:
        """
        Standard input is empty.
        """
        queue = self.makeQueue()
        self.assertEqual(await self.within(5.0, queue.call(os.read, 0, 10)), b"")
        await self.shutDownProperly(queue)

    async def test_output(self) -> None:
        """
        What a call prints is logged by lines, with the worker and the call.
        """
        events = self.watchLog()
        queue = self.makeQueue()
        await self.within(5.0, queue.call(eval, "print('first line\\nsecond \\x1b line')"))
        await self.within(2.0, queue.call(eval, "__import__('sys').stderr.write('an error\\n')"))
        pid = self.pidOf(queue)
        await self.until(lambda: "an error" in textOf(events), "the lines are logged")
        lines = [event for event in events if "line" in event]
        self.assertEqual([event["line"] for event in lines], ["first line", "second \\x1b line", "an error"])
        self.assertEqual([event["stream"] for event in lines], ["stdout", "stdout", "stderr"])
        self.assertIn(str(pid), textOf(lines[:1]))
        await self.shutDownProperly(queue)

    async def test_maxAge(self) -> None:
        """
        A child is replaced when it is old enough, also while it is idle.
        """
        queue = self.makeQueue(maxAge=0.4)
        pid = await self.within(5.0, queue.call(os.getpid))
        took = await self.until(lambda: queue.workers()[0].pid not in (None, pid), "there is another child", 3.0)
        self.assertGreater(took, 0.2)
        await self.until(lambda: not isAlive(pid), "the old one is gone", 1.0)
        self.assertNotEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_maxAgeWhileBusy(self) -> None:
        """
        A call that runs when its child is old enough is let finish.
        """
        queue = self.makeQueue(maxAge=0.2)
        note = self.path()
        self.assertEqual(await self.within(5.0, queue.call(faults.noteAndSleep, note, 1.0, "done")), "done")
        self.assertEqual(faults.runsIn(note), ".")
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_maxGrowth(self) -> None:
        """
        A child is replaced that has grown by a factor.
        """
        queue = self.makeQueue(maxGrowth=4.0)
        pid = await self.within(5.0, queue.call(os.getpid))
        await self.within(5.0, queue.call(faults.keepMemory, 200 << 20))
        await deferLater(reactor, 0.3)
        await self.within(5.0, queue.call(identity, 1))
        await self.until(lambda: queue.workers()[0].pid not in (None, pid), "there is another child", 3.0)
        self.assertNotEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        await self.until(lambda: not isAlive(pid), "the one that has grown is gone", 2.0)
        await self.shutDownProperly(queue)

    async def test_maxTasksOverStreams(self) -> None:
        """
        A child that has run enough calls is let finish its stream.
        """
        queue = self.makeQueue(maxTasks=2)
        deferator = await self.within(5.0, queue.call(faults.itemsThen, 100, "", None, 0.005))
        pids = await self.allOf([queue.call(os.getpid) for _ in range(5)], 5.0)
        self.assertGreater(len(set(pids)), 1)
        self.assertEqual([item async for item in deferator], list(range(100)))
        await self.shutDownProperly(queue)

    async def test_seriesOrder(self) -> None:
        """
        Calls of a series are started in order, on however many workers.
        """
        queue = self.makeQueue(2, series=["one", "two"])
        await self.within(5.0, queue.d)
        await self.within(5.0, queue.update(faults.noteStart, 0))
        calls = {
            series: [queue.call(faults.noteStart, number, series=series) for number in range(300)]
            for series in ("one", "two")
        }
        for each in calls.values():
            starts = [start for _, start in await self.allOf(each, 10.0)]
            for earlier, later in pairwise(starts):
                self.assertLess(earlier, later + 0.1)
        await self.shutDownProperly(queue)

    async def test_detachAndAttachAgain(self) -> None:
        """
        A worker that has been detached can be attached again, here or elsewhere.
        """
        worker = self.makeWorker()
        pids = set()
        for _ in range(2):
            queue = TaskQueue(returnFailure=True)
            for _ in range(2):
                ID = await self.within(5.0, queue.attachWorker(worker))
                pids.add(await self.within(2.0, queue.call(os.getpid)))
                self.assertEqual(await self.within(3.0, queue.detachWorker(ID)), [])
                self.assertIsNone(worker.pid)
            await self.within(2.0, queue.shutdown())
        self.assertEqual(len(pids), 4)

    async def test_attachedTwice(self) -> None:
        """
        A worker belongs to one queue.
        """
        worker = self.makeWorker()
        queue, other = TaskQueue(returnFailure=True), TaskQueue(returnFailure=True)
        await self.within(5.0, queue.attachWorker(worker))
        self.assertRaises(ValueError, other.attachWorker, worker)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.within(2.0, queue.shutdown())
        await self.within(2.0, other.shutdown())

    async def test_runByItself(self) -> None:
        """
        A worker without a queue runs tasks, several at a time too, in order.
        """
        worker = self.makeWorker()
        tasks = [Task(timesTwo, (number,), {}, 0, None) for number in range(5)]
        readies = [worker.run(task) for task in tasks]
        self.assertEqual(await self.allOf([task.d for task in tasks], 5.0), [("r", 2 * number) for number in range(5)])
        await self.allOf(readies, 1.0)
        (failing, lost) = Task(fail, (ValueError, "bad"), {}, 0, None), Task(faults.killMyself, (), {}, 0, None)
        worker.run(failing)
        status, failure = await self.within(2.0, failing.d)
        self.assertEqual((status, failure.check(ValueError)), ("e", ValueError))
        ready = worker.run(lost)
        status, text = await self.within(2.0, lost.d)
        self.assertEqual(status, "l")
        self.assertIn("SIGKILL", text)
        await self.within(3.0, ready, "the worker to be ready after its child has died")
        last = Task(identity, (1,), {}, 0, None)
        worker.run(last)
        self.assertEqual(await self.within(3.0, last.d), ("r", 1))
        await self.within(3.0, worker.stop())
        self.assertIsNone(worker.pid)

    async def test_runByItselfWithoutAChild(self) -> None:
        """
        A worker without a queue whose child cannot be started tells each task so, and is ready for others.
        """
        worker = self.makeWorker(onStart=fail, onStartArgs=[ValueError, "no table"])
        task = Task(identity, (1,), {}, 0, None)
        ready = worker.run(task)
        outcome = await self.outcomeOf(task.d, 8.0)
        self.assertIn("no table", str(outcome.value if outcome.failure is None else outcome.error))
        await self.within(2.0, ready, "the worker to be ready")

    async def test_nicenessAfterABurst(self) -> None:
        """
        However many calls a child was ahead, one that is urgent waits for one that goes on, and not for all.
        """
        for processes in (True, False):
            queue = self.makeQueue() if processes else TaskQueue(ThreadWorker(), returnFailure=True)
            await self.within(LIMIT, gatherResults([queue.call(identity, number) for number in range(3000)]))
            done: list[int] = []
            note = done.append
            for number in range(30):
                call = queue.call(time.sleep, 0.05, niceness=10)
                call.addCallbacks(lambda _, number=number, note=note: note(number), id)
            await deferLater(reactor, 0.1)
            await self.within(LIMIT, queue.call(identity, "urgent", niceness=-20))
            self.assertLess(len(done), 10)
            self.assertEqual(done, list(range(len(done))))
            await self.within(LIMIT, queue.shutdown(drain=False))

    async def test_update(self) -> None:
        """
        An update runs once on each worker; on those attached later, too.
        """
        queue = self.makeQueue(2)
        pids = await self.within(5.0, queue.update(os.getpid))
        self.assertEqual(set(pids), {worker.pid for worker in queue.workers()})
        note = self.path()
        await self.within(2.0, queue.update(faults.noteRun, note))
        await self.within(5.0, queue.attachWorker(self.makeWorker()))
        self.assertEqual(faults.runsIn(note), "...")
        await self.shutDownProperly(queue)

    async def test_updateOfSuccessors(self) -> None:
        """
        The successors of a child run its updates, but for those that were for the present workers only. What goes wrong
        there is logged.
        """
        queue = self.makeQueue()
        note = self.path()
        await self.within(5.0, queue.update(faults.noteRun, note, ephemeral=True))
        await self.within(2.0, queue.update(failsIfThere, note + "s"))
        events = self.watchLog()
        pid = self.pidOf(queue)
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: queue.workers()[0].pid not in (None, pid), "another child")
        with open(note + "s", "x"):
            pid = self.pidOf(queue)
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: "An update failed" in textOf(events), "a line in the log")
        self.assertEqual(len(self.flushLoggedErrors(FileExistsError)), 1)
        with open(note, encoding="utf-8") as file:
            self.assertEqual(len(file.readlines()), 1)

    async def test_stack(self) -> None:
        """
        A worker tells where its child is, also while that computes.
        """
        queue = self.makeQueue()
        running = queue.call(faults.spin, 30.0)
        worker = queue.workers()[0]
        await self.until(lambda: worker.pid is not None, "a child")
        stacks: list[str] = []
        while not any("in spin" in stack for stack in stacks) and len(stacks) < 1000:
            stacks.append(await self.within(2.0, worker.stack()))
        self.assertIn("in spin", stacks[-1])
        running.cancel()
        await self.errorOf(running, CancelledError)

    async def test_stackOfNone(self) -> None:
        """
        Without a child there is no stack, and when it dies there is none any more.
        """
        worker = self.makeWorker()
        self.failureResultOf(worker.stack(), WorkerLost)
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        pid = self.pidOf(queue)
        os.kill(pid, signal.SIGSTOP)
        stack = queue.workers()[0].stack()
        os.kill(pid, signal.SIGKILL)
        self.assertIn("SIGKILL", str(await self.errorOf(stack, WorkerLost)))

    async def test_stackWithReactor(self) -> None:
        """
        A child with a reactor does not tell.
        """
        queue = self.makeQueue(useReactor=True)
        await self.within(10.0, queue.d)
        self.failureResultOf(queue.workers()[0].stack(), NotImplementedError)

    async def test_startLimit(self) -> None:
        """
        A child that takes longer to get ready than it may is ended, and after several the worker says so.
        """
        queue = self.makeQueue(onStart=time.sleep, onStartArgs=[60], startLimit=0.3)
        error = await self.errorOf(queue.call(identity, 1), WorkerStartError)
        self.assertIn("took too long to get ready", str(error))

    async def test_processBase(self) -> None:
        """
        The data of an object stay in the process to which it has been sent.
        """
        queue = self.makeQueue()
        model = Model()
        pid = await self.within(5.0, queue.call(model.load, "loaded"))
        self.assertEqual(pid, self.pidOf(queue))
        self.assertEqual(model.pid, os.getpid())
        self.assertEqual(await self.within(2.0, queue.call(model.look)), "loaded")
        self.assertEqual(model.data, {})
        self.assertRaises(AttributeError, lambda: model.table)
        other = Model()
        error = await self.errorOf(queue.call(other.look), AttributeError, ProcessError)
        self.assertIn("table", str(error))
        await self.shutDownProperly(queue)

    async def test_childEndsWithThreads(self) -> None:
        """
        A child whose calls have left a thread behind ends in time.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(faults.leaveThread, 30.0))
        self.assertEqual(pid, self.pidOf(queue))
        self.assertEqual(await self.within(4.0, queue.shutdown()), [])
        self.assertFalse(isAlive(pid))


def failsIfThere(path: str) -> None:
    """
    Fail if there is a file.
    """
    if os.path.exists(path):
        raise FileExistsError(path)


class Model(ProcessBase):
    """
    Something that keeps data.
    """

    def load(self, table: str) -> int:
        """
        Keep something.
        """
        self.data["table"] = table
        return self.pid

    def look(self) -> Any:
        """
        Look at it.
        """
        return self.table


class LimitTests(ProcessTestCase):
    """
    Time limits.
    """

    async def test_T03_timeLimit(self) -> None:
        """
        T-03: a call that takes longer than its limit is ended with its child, and not run again.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(os.getpid))
        note = self.path()
        began = time.monotonic()
        d = queue.options(timeLimit=0.3).call(faults.noteAndSleep, note, 30.0)
        error = await self.errorOf(d, TimeLimitExceeded, WorkerError, builtinTimeoutError)
        self.assertTrue(0.25 < time.monotonic() - began < 0.3 + 2.5)
        self.assertIn("0.3", str(error))
        self.assertIn("noteAndSleep", str(error))
        self.assertNotEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        self.assertEqual(faults.runsIn(note), ".")
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_T03_countsFromTheStart(self) -> None:
        """
        T-03: the time that a call waits does not count, in the queue or in the child.
        """
        queue = self.makeQueue()
        await self.allOf([queue.call(identity, number) for number in range(500)], 5.0)
        pid = self.pidOf(queue)
        began = time.monotonic()
        calls = [queue.options(timeLimit=0.4).call(time.sleep, 0.2) for _ in range(5)]
        self.assertEqual(await self.allOf(calls, 5.0), [None] * 5)
        # The last of them have waited for longer than that.
        self.assertGreaterEqual(time.monotonic() - began, 1.0)
        self.assertEqual(self.pidOf(queue), pid)
        await self.shutDownProperly(queue)

    async def test_T03_othersDoNotSuffer(self) -> None:
        """
        T-03: calls behind one that is ended are run, once.
        """
        queue = self.makeQueue()
        await self.allOf([queue.call(identity, number) for number in range(500)], 5.0)
        notes = [self.path() for _ in range(20)]
        long = queue.options(timeLimit=0.2).call(faults.hang)
        others = [queue.call(faults.noteRun, each) for each in notes]
        await self.errorOf(long, TimeLimitExceeded)
        self.assertEqual(await self.allOf(others, 5.0), [1] * 20)
        await self.shutDownProperly(queue)

    async def test_T03_inTime(self) -> None:
        """
        T-03: a limit that is not reached leaves nothing.
        """
        queue = self.makeQueue()
        calls = [queue.options(timeLimit=30, softTimeLimit=20).call(identity, number) for number in range(50)]
        self.assertEqual(await self.allOf(calls, 5.0), list(range(50)))
        await self.shutDownProperly(queue)

    async def test_T04_softTimeLimit(self) -> None:
        """
        T-04: an exception is raised in a call that takes longer than its soft limit, which may clean up and return.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(os.getpid))
        d = queue.options(softTimeLimit=0.2).call(faults.hang)
        error = await self.errorOf(d, SoftTimeLimitExceeded)
        self.assertIn("in hang", error.remoteTraceback)
        cleaned = queue.options(softTimeLimit=0.2, timeLimit=5.0).call(faults.cleanUpAfterLimit)
        self.assertEqual(await self.within(2.0, cleaned), "cleaned up")
        self.assertEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_T05_both(self) -> None:
        """
        T-05: a call that goes on after its soft limit is ended at the other.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.call(faults.noteStart, 0))
        note = self.path()
        began = time.monotonic()
        d = queue.options(softTimeLimit=0.2, timeLimit=0.6).call(faults.ignoreInterrupts, 30.0, note)
        await self.errorOf(d, TimeLimitExceeded)
        self.assertTrue(0.5 < time.monotonic() - began < 2.5)
        self.assertEqual(faults.runsIn(note), ".")
        await self.shutDownProperly(queue)

    async def test_T05_limitsOfAStream(self) -> None:
        """
        T-05: a generator that hangs at its first item is ended by its limit.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.call(os.getpid))
        d = queue.options(timeLimit=0.4).call(faults.itemsThen, 0, "hang")
        await self.errorOf(d, TimeLimitExceeded, limit=3.0)
        self.assertEqual(await self.within(3.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_T04_whileArgumentsAreUnpickled(self) -> None:
        """
        T-04: a soft limit that is reached while the arguments are unpickled is not forgotten.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.call(faults.noteStart, 0))
        note = self.path()
        d = queue.options(softTimeLimit=0.2, timeLimit=3.0).call(faults.noteAndSleep, note, 2.0, faults.Trap("", "nap"))
        await self.errorOf(d, SoftTimeLimitExceeded)
        await self.shutDownProperly(queue)

    async def test_cancelWhileArgumentsAreUnpickled(self) -> None:
        """
        A call that is cancelled while its arguments are unpickled is interrupted as soon as its function begins.
        """
        queue = self.makeQueue(grace=3.0)
        await self.within(5.0, queue.call(faults.noteStart, 0))
        pid = self.pidOf(queue)
        d = queue.call(faults.noteAndSleep, self.path(), 2.0, faults.Trap("", "nap"))
        await deferLater(reactor, 0.15)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(await self.within(1.5, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_cancelDuringBoot(self) -> None:
        """
        A call that is cancelled before there is a child is never run.
        """
        queue = self.makeQueue()
        note = self.path()
        d = queue.call(faults.noteRun, note)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        await self.within(5.0, queue.call(int))
        self.assertEqual(faults.runsIn(note), "")
        await self.shutDownProperly(queue)

    async def test_finallyOfACancelledCall(self) -> None:
        """
        A call that is cancelled runs its C{finally}, and cannot swallow the interrupt with C{except Exception}.
        """
        queue = self.makeQueue()
        note = self.path()
        d = queue.call(faults.cleanUp, note)
        await self.until(lambda: faults.runsIn(note) == "r", "it runs")
        pid = self.pidOf(queue)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        await self.until(lambda: faults.runsIn(note) == "rf", "it has cleaned up", 2.0)
        self.assertEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)


builtinTimeoutError = TimeoutError


@implementer(IConsumer)
class ListOf(Consumer):
    """
    A consumer that keeps what it gets.
    """


class StreamTests(ProcessTestCase):
    """
    Iterators from children.
    """

    async def test_order(self) -> None:
        """
        All items arrive in order, however many.
        """
        queue = self.makeQueue()
        for number in (1, 2, 15, 16, 17, 1000, 20_000):
            deferator = await self.within(5.0, queue.call(faults.itemsThen, number))
            self.assertEqual([item async for item in deferator], list(range(number)))
        await self.shutDownProperly(queue)

    async def test_empty(self) -> None:
        """
        An iterator without items is an empty list.
        """
        queue = self.makeQueue()
        self.assertEqual(await self.within(5.0, queue.call(faults.itemsThen, 0)), [])
        await self.shutDownProperly(queue)

    async def test_slowItemsArriveSoon(self) -> None:
        """
        An item arrives soon after it is there, even if the next one takes long.
        """
        queue = self.makeQueue()
        deferator = await self.within(5.0, queue.call(faults.itemsThen, 4, "", None, 0.2))
        began = time.monotonic()
        times = []
        async for _ in deferator:
            times.append(time.monotonic() - began)  # noqa: PERF401  (it is the times that count)
        self.assertEqual(len(times), 4)
        self.assertLess(times[1], 0.6)
        self.assertLess(times[-1], 1.2)
        await self.shutDownProperly(queue)

    async def test_deferreds(self) -> None:
        """
        Items can be had as Deferreds.
        """
        queue = self.makeQueue()
        deferator = await self.within(5.0, queue.call(faults.itemsThen, 40))
        items = []
        for d in deferator:
            items.append(await self.within(2.0, d))  # noqa: PERF401  (each is asked for when the last is there)
        self.assertEqual(items, list(range(40)))
        await self.shutDownProperly(queue)

    async def test_consumer(self) -> None:
        """
        A consumer gets all items, and the call is settled with it.
        """
        queue = self.makeQueue()
        consumer = ListOf()
        self.assertIs(await self.within(5.0, queue.call(faults.itemsThen, 500, consumer=consumer)), consumer)
        self.assertEqual(consumer.written, list(range(500)))
        self.assertEqual(consumer.unregistered, 1)
        await self.shutDownProperly(queue)

    async def test_severalAtATime(self) -> None:
        """
        Several streams of one child, and calls, go on side by side.
        """
        queue = self.makeQueue()
        deferators = await self.allOf([queue.call(faults.itemsThen, 300) for _ in range(5)], 5.0)

        async def read(deferator: Any) -> list[int]:
            return [item async for item in deferator]

        readers = [Deferred.fromCoroutine(read(each)) for each in deferators]
        calls = [queue.call(identity, number) for number in range(50)]
        self.assertEqual(await self.allOf(calls, 5.0), list(range(50)))
        self.assertEqual(await self.allOf(readers, 5.0), [list(range(300))] * 5)
        await self.shutDownProperly(queue)

    async def test_otherIterators(self) -> None:
        """
        Iterators that are no generators are streams, too; iterables are results.
        """
        queue = self.makeQueue()
        for func, args in ((iter, ([1, 2, 3],)), (enumerate, ("ab",)), (reversed, ([1, 2],))):
            deferator = await self.within(5.0, queue.call(func, *args))
            self.assertEqual([item async for item in deferator], list(func(*args)))
        self.assertEqual(await self.within(2.0, queue.call(range, 3)), range(3))
        self.assertEqual(await self.within(2.0, queue.call(list, "ab")), ["a", "b"])
        await self.shutDownProperly(queue)

    async def test_raw(self) -> None:
        """
        With C{raw}, an iterator is a result like any other.
        """
        queue = self.makeQueue()
        iterator = await self.within(5.0, queue.call(iter, [1, 2, 3], raw=True))
        self.assertEqual(list(iterator), [1, 2, 3])
        await self.shutDownProperly(queue)
        raw = self.makeQueue(raw=True)
        self.assertEqual(list(await self.within(5.0, raw.call(iter, [1]))), [1])
        await self.shutDownProperly(raw)

    async def test_largeItems(self) -> None:
        """
        Large items arrive, and few of them are ahead of their reader.
        """
        queue = self.makeQueue()
        deferator = await self.within(5.0, queue.call(faults.itemsOf, 1 << 20, 30))
        self.assertEqual([len(item) async for item in deferator], [1 << 20] * 30)
        await self.shutDownProperly(queue)

    async def test_contextOfAGenerator(self) -> None:
        """
        A generator runs in the context of its call.
        """
        queue = self.makeQueue(contextVars=["test.test_process_worker.variable"])
        token = variable.set("of the caller")
        try:
            d = queue.call(faults.valuesOf, "test.test_process_worker", "variable", 3)
        finally:
            variable.reset(token)
        deferator = await self.within(5.0, d)
        other = await self.within(5.0, queue.call(faults.valuesOf, "test.test_process_worker", "variable", 3))
        self.assertEqual([item async for item in deferator], ["of the caller"] * 3)
        self.assertEqual([item async for item in other], ["nothing"] * 3)
        await self.shutDownProperly(queue)
