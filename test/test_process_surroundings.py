"""
The crash matrix, where a fault comes from outside: signals to this program, its end, its forks, what the system
refuses, and clocks that step. Programs in interpreters of their own, mostly.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import ProcessQueue
from asynqueue.errors import PoisonTask, WorkerLost, WorkerStartError
from asynqueue.process import guard
from asynqueue.process.succession import BUDGET, LONGEST_DELAY, Succession
from asynqueue.testing import faults
from asynqueue.testing.tasks import identity
from test.processes import (
    FOLDER,
    MARK,
    SOAK,
    FromACallback,
    ProcessTestCase,
    Program,
    childrenOf,
    isAlive,
    marked,
    reactor,
    textOf,
)

#: The name of the reactor that runs these tests, which the programs are to have, too.
REACTOR = "asyncio" if "Asyncio" in type(reactor).__name__ else "default"


class SuccessionTests(SynchronousTestCase):
    """
    When a child that has come to nothing gets a successor, on a clock that the tests set.
    """

    def setUp(self) -> None:
        """
        Begin at some time.
        """
        super().setUp()
        self.now = 1e6
        self.succession = Succession(lambda: self.now)

    def starts(self, seconds: float, wasReady: bool, life: float, wasStarted: bool = True) -> list[float]:
        """
        Return when children are started that come to nothing after C{life} seconds each.
        """
        begin = self.now
        found = []
        while self.now < begin + seconds:
            found.append(self.now - begin)
            self.now += life
            self.now += self.succession.ended(wasReady, 0, wasStarted)
        return found

    def test_F14_budget(self) -> None:
        """
        F14: of children that come to nothing there are 10 starts in any minute at most, whether or not they get ready.
        """
        for wasReady in (False, True):
            for life in (0.0, 0.05, 1.0, 4.0):
                self.succession = Succession(lambda: self.now)
                starts = self.starts(600.0, wasReady, life)
                for each in starts:
                    self.assertLessEqual(len([other for other in starts if each <= other < each + 60.0]), BUDGET)
                # It goes on trying, and not more seldom than it must.
                self.assertGreaterEqual(len(starts), 80 if life < 2 else 60)

    def test_F14_backOff(self) -> None:
        """
        F14: the first few are soon after one another, and then ever later.
        """
        starts = self.starts(10.0, False, 0.0)
        for found, expected in zip(starts, [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3], strict=True):
            self.assertAlmostEqual(found, expected)

    def test_F71_whatCouldNotBeStarted(self) -> None:
        """
        F71: when the system cannot start any, that is tried every few seconds: it costs little, and may soon be over.
        """
        self.starts(600.0, False, 0.0, wasStarted=False)
        self.assertEqual(self.succession.ended(False, 0, wasStarted=False), LONGEST_DELAY)

    def test_success(self) -> None:
        """
        One that finishes a call clears the accounts.
        """
        self.starts(30.0, True, 0.0)
        self.assertEqual(self.succession.ended(True, 1), 0.0)
        self.assertEqual(self.succession.ended(True, 0), 0.0)
        self.assertAlmostEqual(self.succession.ended(True, 0), 0.2)


class StaffingTests(ProcessTestCase):
    """
    C{min}, C{max} and C{idle} of a queue.
    """

    def test_badNumbers(self) -> None:
        """
        Numbers that make no sense are refused.
        """
        for keywords, kind in (
            ({"min": 0}, ValueError),
            ({"max": 0}, ValueError),
            ({"min": 3, "max": 2}, ValueError),
            ({"N": 2, "max": 3}, ValueError),
            ({"N": 2, "min": 1}, ValueError),
            ({"min": 1.5}, TypeError),
            ({"min": 1, "max": 2, "idle": -1}, ValueError),
            ({"min": 1, "max": 2, "idle": "1"}, TypeError),
        ):
            given: dict[str, Any] = keywords
            self.assertRaises(kind, ProcessQueue, **given)

    async def test_grows(self) -> None:
        """
        There are as many workers as there are calls, between the bounds, and as few as may be when they are idle.
        """
        queue = self.makeQueue(None, min=1, max=3, idle=0.4)
        await self.within(5.0, queue.d)
        self.assertEqual(len(queue), 1)
        one = queue.call(faults.noteAndSleep, self.path(), 0.3, 0)
        self.assertEqual(len(queue), 1)
        rest = [
            self.begin(queue, partial(queue.call, faults.noteAndSleep, self.path(), 0.3, number))
            for number in range(1, 6)
        ]
        began = time.monotonic()
        self.assertEqual(await self.allOf([one, *rest], 4.0), list(range(6)))
        self.assertLess(time.monotonic() - began, 1.5)
        self.assertEqual(len(queue), 3)
        pids = {worker.pid for worker in queue.workers()}
        self.assertEqual(len(pids), 3)
        await self.until(lambda: len(queue) == 1, "the others have been let go of", 3.0)
        await self.until(lambda: sum(map(isAlive, pids)) == 1, "their children are gone", 2.0)
        await deferLater(reactor, 0.5)
        self.assertEqual(len(queue), 1, "one stays")
        self.assertEqual(await self.within(1.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_busyStay(self) -> None:
        """
        A worker that is busy is not let go of, however long that takes, and a death does not change their number.
        """
        queue = self.makeQueue(None, min=1, max=2, idle=0.2)
        await self.within(5.0, queue.d)
        notes = [self.path(), self.path()]
        calls = [self.begin(queue, partial(queue.call, faults.noteAndSleep, note, 1.0, note)) for note in notes]
        await self.until(lambda: all(map(faults.runsIn, notes)), "both run")
        for worker in queue.workers():
            os.kill(worker.pid, signal.SIGKILL)
        self.assertEqual(len(queue), 2)
        self.assertEqual(await self.allOf(calls, 4.0), notes)
        self.assertEqual([faults.runsIn(note) for note in notes], ["..", ".."])
        await self.until(lambda: len(queue) == 1, "one has been let go of", 2.0)
        await self.shutDownProperly(queue)

    async def test_min(self) -> None:
        """
        There are never fewer than C{min}.
        """
        queue = self.makeQueue(None, min=2, max=3, idle=0.1)
        self.assertEqual(await self.within(5.0, queue.d), [1, 2])
        await self.allOf([queue.call(time.sleep, 0.1) for _ in range(8)], 4.0)
        await self.until(lambda: len(queue) == 2, "the third has been let go of", 2.0)
        await deferLater(reactor, 0.5)
        self.assertEqual(len(queue), 2)
        await self.shutDownProperly(queue)

    async def test_shutdownWhileGrowing(self) -> None:
        """
        A queue that is shut down while it grows leaves nothing.
        """
        queue = self.makeQueue(None, min=1, max=3, idle=0.1)
        await self.within(5.0, queue.d)
        calls = self.begin(queue, lambda: gatherResults([queue.call(identity, number) for number in range(50)]))
        await self.until(lambda: len(queue) == 3, "it has grown", 1.0)
        done = queue.shutdown()
        self.assertEqual(await self.within(5.0, calls), list(range(50)))
        self.assertEqual(await self.within(3.0, done), [])

    async def test_noneCanBeStarted(self) -> None:
        """
        When no child can be started, each call is told so.
        """
        queue = self.makeQueue(None, min=1, max=3, idle=0.1, onStart=faults.complainAndExit, onStartArgs=["no"])
        errors = [
            Deferred.fromCoroutine(self.errorOf(queue.call(identity, number), WorkerStartError)) for number in range(5)
        ]
        for error in await gatherResults(errors):
            self.assertIn("no", str(error))
        await self.shutDownProperly(queue)


class StaffingTestsFromACallback(FromACallback, StaffingTests):
    """
    The same, with calls from within callbacks.
    """


class OutsideTests(ProcessTestCase):
    """
    What befalls children from outside.
    """

    async def test_F06_killedFromOutside(self) -> None:
        """
        F06: a child that somebody else kills, as the system does that has run out of memory, is said to have been.
        """
        queue = self.makeQueue()
        note = self.path()
        d = self.begin(queue, partial(queue.options(idempotent=False).call, faults.noteAndSleep, note, 30.0))
        await self.until(lambda: faults.runsIn(note), "it runs")
        os.kill(self.pidOf(queue), signal.SIGKILL)
        error = await self.errorOf(d, WorkerLost, limit=2.0)
        self.assertIn("perhaps by the system for want of memory", str(error))
        d = self.begin(queue, partial(queue.options(timeLimit=0.2).call, faults.blockInC, 30.0))
        self.assertNotIn("want of memory", str(await self.errorOf(d, Exception, limit=3.0)))
        await self.shutDownProperly(queue)

    async def test_F06_poison(self) -> None:
        """
        F06: each of the losses is in the history.
        """
        queue = self.makeQueue()
        error = await self.errorOf(self.begin(queue, partial(queue.call, faults.killMyself)), PoisonTask, limit=8.0)
        self.assertTrue(all("want of memory" in each for each in error.history))
        await self.shutDownProperly(queue)

    async def test_F15_bootHangs(self) -> None:
        """
        F15: a child that does not get ready is ended after 10 s, and who waits for it is told so then.
        """
        events = self.watchLog()
        queues = [self.makeQueue(onStart=func) for func in (faults.hang, faults.blockInC)]
        outcomes = [self.beginUnserved(queue, partial(queue.call, identity, 1)) for queue in queues]
        attached = self.makeQueue()
        worker = self.makeWorker(onStart=faults.hang)
        outcomes.append(self.begin(attached, partial(attached.attachWorker, worker)))
        await self.until(lambda: len(marked(self.mark)) == 4, "the children are there")
        pids = set(marked(self.mark))
        errors = await gatherResults(
            [Deferred.fromCoroutine(self.errorOf(d, WorkerStartError, limit=10.5)) for d in outcomes]
        )
        for error in errors:
            self.assertIn("took too long to get ready", str(error))
        self.assertEqual(len([pid for pid in pids if isAlive(pid)]), 1, textOf(events))
        self.assertEqual(await self.within(1.0, attached.call(identity, 1)), 1)
        for queue in (*queues, attached):
            await self.shutDownProperly(queue)

    async def test_F71_noProcesses(self) -> None:
        """
        F71: when the system has no room for another process, calls are told so, and run when it has again.
        """

        def refuse(*args: object, **keywords: object) -> None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        queue = self.makeQueue(guard=True)
        await self.within(5.0, queue.d)
        # The superuser, which tests may be, has no limit of this kind.
        patches = [self.patch(os, name, refuse) for name in ("fork", "posix_spawn", "posix_spawnp")]
        os.kill(self.pidOf(queue), signal.SIGKILL)
        await self.until(lambda: queue.workers()[0].pid is None, "the child is gone")
        error = await self.errorOf(
            self.beginUnserved(queue, partial(queue.call, identity, 1)), WorkerStartError, limit=10.0
        )
        self.assertIn(os.strerror(errno.EAGAIN), str(error))
        for each in patches:
            each.restore()
        await self.until(lambda: queue.workers()[0].pid, "a child has started", 10.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 2)), 2)
        await self.shutDownProperly(queue)

    async def test_F67_guard(self) -> None:
        """
        F67: a guard is there for as long as there are children that are to be guarded, and guards once more when
        somebody has ended it.
        """
        before = set(childrenOf(os.getpid()))
        queue, other = self.makeQueue(guard=True), self.makeQueue(guard=True)
        await self.within(5.0, gatherResults([queue.d, other.d]))
        pids = {self.pidOf(queue), self.pidOf(other)}
        (first,) = set(childrenOf(os.getpid())) - before - pids
        os.kill(first, signal.SIGKILL)
        await self.until(lambda: not isAlive(first), "the guard is gone")
        grandchild = await self.within(4.0, self.begin(queue, partial(queue.call, faults.leaveGrandchild, 30.0)))
        third = self.makeQueue(guard=True)
        await self.within(5.0, third.d)
        pids.add(self.pidOf(third))
        (second,) = set(childrenOf(os.getpid())) - before - pids
        present: Any = guard._guard
        self.assertEqual(present.groups, pids)
        for each in (queue, other, third):
            self.assertTrue(isAlive(second))
            await self.shutDownProperly(each)
        await self.until(lambda: not isAlive(second), "the guard has gone with the last of them", 2.0)
        await self.until(lambda: not isAlive(grandchild), "the grandchild is gone", 2.0)
        await self.until(lambda: set(childrenOf(os.getpid())) <= before, "this process has been told of all ends", 2.0)


class OutsideTestsFromACallback(FromACallback, OutsideTests):
    """
    The same, from within callbacks and errbacks.
    """


class ProgramTests(ProcessTestCase):
    """
    Programs with children.
    """

    def start(self, text: str, *args: str, reactorName: str = REACTOR, **keywords: Any) -> Program:
        """
        Start a program.
        """
        preamble = _PREAMBLE.replace("@", reactorName)
        program = Program(self.path() + ".py", preamble + text, self.mark, *args, **keywords)
        self.addCleanup(program.close)
        return program

    async def ready(self, program: Program) -> list[int]:
        """
        Wait until a program is ready.

        @return: The IDs of its children, its guard among them, and of theirs.
        """
        for line in program.lines():
            if line == "ready":
                break
        else:
            self.fail(f"the program has ended: {program.end(1.0)}")
        found = {*marked(self.mark), *childrenOf(program.process.pid)} - {program.process.pid}
        self.assertTrue(found)
        return sorted(found)

    async def gone(self, pids: list[int], limit: float) -> None:
        """
        Wait for the end of processes.
        """
        await self.until(lambda: not any(map(isAlive, pids)), "the children of the program are gone", limit)

    async def ended(self, program: Program, limit: float) -> tuple[int, str, str]:
        """
        Wait for the end of a program, and see that it takes all with it.
        """
        began = time.monotonic()
        await self.until(lambda: program.process.poll() is not None, "the program has ended", limit)
        ended = program.end(1.0)
        self.assertLess(time.monotonic() - began, limit + 0.5)
        await self.until(lambda: not marked(self.mark), "nothing of the program is left", 1.0)
        return ended

    # F66

    async def signalledTwice(self, number: int, func: str) -> None:
        """
        Send a program two signals: it lets its calls finish after the first one, and ends at the second.
        """
        program = self.start(_ORDERLY, func, start_new_session=True)
        pids = await self.ready(program)
        os.killpg(program.process.pid, number)
        await deferLater(reactor, 0.5)
        self.assertIsNone(program.process.poll(), "the first signal has ended it")
        self.assertTrue(all(map(isAlive, pids)))
        os.killpg(program.process.pid, number)
        code, out, err = await self.ended(program, 2.0)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(sorted(out.split("\n")[:-1]), ["ended 1", "queued QueueShutdown", "running WorkerLost"])

    async def test_F66_secondSignal(self) -> None:
        """
        F66: at the second SIGTERM or SIGINT a program can stop cold within 2 s, whatever its children are doing.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            for func in ("ignoreInterrupts", "blockInC"):
                await self.signalledTwice(number, func)

    async def test_F66_grace(self) -> None:
        """
        F66: what has not finished when the grace is over is ended.
        """
        program = self.start(_ORDERLY, "blockInC", "0.5", start_new_session=True)
        await self.ready(program)
        os.killpg(program.process.pid, signal.SIGTERM)
        code, out, err = await self.ended(program, 0.5 + 2.0)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(sorted(out.split("\n")[:-1]), ["ended 1", "queued QueueShutdown", "running WorkerLost"])

    async def test_F66_quit(self) -> None:
        """
        F66: a SIGQUIT ends a program that has not said otherwise, at once, and its children within 1 s.
        """
        program = self.start(_ORDERLY, "blockInC", start_new_session=True)
        pids = await self.ready(program)
        os.killpg(program.process.pid, signal.SIGQUIT)
        code, out, _ = program.end(2.0)
        self.assertEqual((code, out), (-signal.SIGQUIT, ""))
        await self.gone(pids, 1.0)

    # F67

    async def test_F67_grandchildren(self) -> None:
        """
        F67: with a guard, and the parent killed, a child that is blocked in C is gone after 1 s, and what it and others
        have started after 3 s, and the guard, too.
        """
        for how in ("fork", "subprocess"):
            program = self.start(_GUARDED, how)
            pids = await self.ready(program)
            # Two children, a grandchild of each, and the guard.
            self.assertEqual(len(pids), 5)
            children = [pid for pid in childrenOf(program.process.pid) if pid in marked(self.mark)]
            self.assertEqual(len(children), 2)
            os.kill(program.process.pid, signal.SIGKILL)
            began = time.monotonic()
            program.process.wait(5)
            await self.gone(children, 1.0)
            await self.gone(pids, 3.0 - (time.monotonic() - began))

    async def test_F67_often(self) -> None:
        """
        F67: so it is each time.
        """
        for _ in range(100 if SOAK else 3):
            program = self.start("queue = makeQueue(2)\nqueue.call(faults.blockInC, 30.0)\nsoon(0.3)\nreactor.run()\n")
            pids = await self.ready(program)
            self.assertEqual(len(pids), 2)
            os.kill(program.process.pid, signal.SIGKILL)
            program.process.wait(5)
            await self.gone(pids, 1.0)

    test_F67_often.timeout = 600 if SOAK else 60  # type: ignore[attr-defined]

    # F68

    async def test_F68_inline(self) -> None:
        """
        F68: a program of C{python -c} comes to the end of its text, or to an exception, with a child at work.
        """
        for rest, code, text in (("", 0, ""), ("sys.exit(9)", 9, ""), ("1 / 0", 1, "ZeroDivisionError")):
            began = time.monotonic()
            ended = subprocess.run(
                [sys.executable, "-c", _PREAMBLE.replace("@", REACTOR) + _AT_WORK + rest],
                cwd=FOLDER,
                env={**os.environ, MARK: self.mark},
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
            self.assertEqual(ended.returncode, code, ended.stderr)
            self.assertIn(text, ended.stderr)
            self.assertLess(time.monotonic() - began, 4.0)
            await self.until(lambda: not marked(self.mark), "nothing of the program is left", 1.0)

    # F69

    async def test_F69_apis(self) -> None:
        """
        F69: whatever a forked copy does with a queue does not concern the children.
        """
        _, out, err = self.start(_FORKING).end(10.0)
        self.assertEqual(err, "")
        self.assertEqual(out.split("\n")[:-1], ["call QueueClosed", "update QueueClosed", "same True"])

    async def test_F69_multiprocessing(self) -> None:
        """
        F69: likewise in a copy that multiprocessing has forked, which ends in its own way.
        """
        _, out, err = self.start(_MULTIPROCESSING).end(10.0)
        self.assertEqual(err, "")
        self.assertEqual(out.split("\n")[:-1], ["QueueClosed", "exit code 0", "same True"])

    # F70

    async def test_F70_reactors(self) -> None:
        """
        F70: deaths, streams and a shutdown with each of the reactors that can start processes.
        """
        for name in ("poll", "select", "epoll", "asyncio"):
            _, out, err = self.start(_ANY_REACTOR, self.path(), reactorName=name).end(15.0)
            self.assertEqual((out, err), ("alive\nWorkerLost\n[0, 1, 2]\nended\n", ""), name)

    async def test_F70_trialWithJobs(self) -> None:
        """
        F70: tests with children run in the workers of C{trial -j}, which have descriptors 3 and 4 of their own.
        """
        folder = self.path()
        os.mkdir(folder)
        # Trial's workers would find CPython's own package by the name of this one.
        with open(os.path.join(folder, "test_jobs.py"), "w", encoding="utf-8") as file:
            file.write(_JOBS)
        ended = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "-j2", f"--reactor={REACTOR}", "test_jobs"],
            cwd=folder,
            env={**os.environ, MARK: self.mark, "PYTHONPATH": str(FOLDER)},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        self.assertIn("PASSED (successes=2)", ended.stdout, ended.stdout + ended.stderr)
        self.assertEqual(ended.returncode, 0)

    # F92

    async def stepped(self, step: float) -> list[str]:
        """
        Let the wall clock step while calls with limits are running and children are being started.
        """
        _, out, err = self.start(_STEPPED, str(step), reactorName="epoll").end(20.0)
        self.assertEqual(err, "")
        return out.split("\n")[:-1]

    async def test_F92_timeouts(self) -> None:
        """
        F92: when the wall clock steps ahead by an hour or a day, no timeout is early, and no start is given up.
        """
        for step in (3600.0, 86400.0):
            lines = await self.stepped(step)
            self.assertEqual(lines[:2], ["timeout done", "start 1"])

    async def test_F92_timeLimits(self) -> None:
        """
        F92: nor is any time limit.
        """
        for step in (3600.0, 86400.0):
            lines = await self.stepped(step)
            self.assertEqual(lines[2:], ["timeLimit done", "softTimeLimit done"])


_PREAMBLE = """\
import os, signal, sys, time
from twisted.application.reactors import installReactor
installReactor("@")
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from asynqueue import ProcessQueue, ProcessWorker, errors
from asynqueue.testing import faults
from asynqueue.testing.tasks import identity

def makeQueue(N=1, **keywords):
    return ProcessQueue(N, returnFailure=True, **keywords)

def soon(seconds):
    reactor.callLater(seconds, print, "ready", flush=True)

def tell(name):
    return lambda result: print(name, getattr(result, "type", type(result)).__name__, flush=True)

def run(main):
    d = Deferred.fromCoroutine(main())
    d.addErrback(lambda failure: failure.printTraceback())
    d.addBoth(lambda _: reactor.stop())
    reactor.run()

"""

_ORDERLY = """\
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
queue = makeQueue()
queue.call(getattr(faults, sys.argv[1]), 30.0).addBoth(tell("running"))
queue.call(identity, 1).addBoth(tell("queued"))
grace = float((sys.argv[2:] or [25.0])[0])
signals = []

def signalled(number, frame):
    reactor.callFromThread(stop, number)

def stop(number):
    signals.append(number)
    if len(signals) == 1:
        d = queue.shutdown(deadline=grace)
        d.addCallback(lambda left: (print("ended", len(left), flush=True), reactor.stop()))
    else:
        queue.shutdown(drain=False, deadline=0)

reactor.callWhenRunning(lambda: [signal.signal(each, signalled) for each in (signal.SIGTERM, signal.SIGINT)])
soon(0.5)
reactor.run()
"""

_GUARDED = """\
import subprocess
queue, other = makeQueue(guard=True), makeQueue(guard=True)

async def main():
    for each in (queue, other):
        if sys.argv[1] == "fork":
            await each.call(faults.leaveGrandchild, 30.0)
        else:
            await each.call(faults.leaveProgram, 30.0)
    other.call(faults.blockInC, 30.0).addBoth(id)
    queue.call(faults.ignoreInterrupts, 30.0).addBoth(id)
    soon(0.2)
    await Deferred()

run(main)
"""

_AT_WORK = """\
queue = makeQueue()
queue.call(faults.hang).addErrback(id)
reactor.callLater(0.4, reactor.stop)
reactor.run()
"""

_FORKING = """\
async def main():
    queue = makeQueue(2)
    await queue.d
    pids = [worker.pid for worker in queue.workers()]
    slow = queue.call(faults.noteAndSleep, os.devnull, 0.5, "slept")
    await deferLater(reactor, 0.1)
    pid = os.fork()
    if not pid:
        try:
            for name in ("call", "update"):
                getattr(queue, name)(int).addErrback(
                    lambda failure: os.write(1, f"{name} {failure.type.__name__}\\n".encode()))
            queue.cancelAll()
            slow.addErrback(id)
            slow.cancel()
            queue.detachWorker(queue.workers()[0], crash=True)
            queue.crashWorkers()
            queue.shutdown(drain=False, deadline=0)
            queue.memUsage(), queue.stats(), queue.statistics()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    ok = await slow == "slept" and pids == [worker.pid for worker in queue.workers()]
    found = {await queue.call(os.getpid) for _ in range(20)}
    print("same", ok and found <= set(pids), flush=True)
    await queue.shutdown()

run(main)
"""

_MULTIPROCESSING = """\
import multiprocessing

def copied(queue):
    queue.call(int).addErrback(lambda failure: print(failure.type.__name__, flush=True))

async def main():
    queue = makeQueue()
    before = await queue.call(os.getpid)
    process = multiprocessing.get_context("fork").Process(target=copied, args=(queue,))
    process.start()
    process.join(5)
    print("exit code", process.exitcode, flush=True)
    print("same", await queue.call(os.getpid) == before, flush=True)
    await queue.shutdown()

run(main)
"""

_ANY_REACTOR = """\
async def main():
    queue = makeQueue(2)
    print(await queue.call(faults.dieTimes, sys.argv[1], 2, "alive"))
    try:
        await queue.options(idempotent=False).call(faults.killMyself)
    except errors.WorkerLost as error:
        print(type(error).__name__)
    print([item async for item in await queue.call(faults.itemsThen, 3)])
    await queue.shutdown()
    print("ended", flush=True)

run(main)
"""

_JOBS = """\
from twisted.trial.unittest import TestCase
from asynqueue import ProcessQueue
from asynqueue.testing import LeakCheckMixin, faults

class JobTests(LeakCheckMixin, TestCase):
    async def strike(self, times):
        async with ProcessQueue(2, returnFailure=True) as queue:
            self.assertEqual(await queue.call(faults.dieTimes, self.mktemp(), times, "alive"), "alive")

    async def test_one(self):
        await self.strike(1)

    async def test_two(self):
        await self.strike(2)
"""

_STEPPED = """\
offset = 0.0
wall = reactor.seconds
reactor.seconds = lambda: wall() + offset

def step():
    global offset
    offset += float(sys.argv[1])

async def main():
    queue = makeQueue()
    await queue.d
    for name in ("timeout", "start", "timeLimit", "softTimeLimit"):
        if name == "start":
            other = makeQueue()
            d = other.call(identity, 1)
            reactor.callLater(0.02, step)
        else:
            d = queue.options(idempotent=False, **{name: 5.0}).call(faults.noteAndSleep, os.devnull, 0.5, "done")
            reactor.callLater(0.2, step)
        try:
            print(name, await d, flush=True)
        except Exception as error:
            print(name, type(error).__name__, flush=True)
    await other.shutdown()
    await queue.shutdown()

run(main)
"""
