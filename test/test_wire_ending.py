"""
Tests of how servers come to their ends: by signals, with the program that has started them, or before they listen.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

import asynqueue
from asynqueue import TaskQueue, deferToDelay
from asynqueue.errors import WorkerError, WorkerStartError
from asynqueue.testing import LeakCheckMixin
from asynqueue.wire import ServerManager, WireServer, WireWorker, WireWorkerUniverse
from asynqueue.wire.manager import END_TIME, LAST_WORDS_TIME, START_TIME, ServerProcess, State
from asynqueue.wire.node import FAREWELL
from test.commands import ROOT, TIME_LIMIT, CommandMixin
from test.nodes import IS_ROOT, WireTestCase
from test.processes import LIMIT, childrenOf, isAlive, textOf
from test.support import Outcome, QueueTestCase
from test.test_compat_wire import UNIVERSE, ManagerTestCase

#: Seconds within which a program ends that is told to end at once: "second signal" of the default time bounds.
AT_ONCE = 2.0

#: Seconds within which one ends that has nothing to do.
SOON = 5.0

BLOCKING = """
    import os, signal, time
    from asynqueue.wire import WireWorkerUniverse, expose

    @expose("block")
    def block(path, seconds):
        open(path, "x").close()
        time.sleep(seconds)
        return "done"

    @expose("spin")
    def spin(path, seconds):
        open(path, "x").close()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        return "done"

    @expose("fork")
    def fork():
        pid = os.fork()
        if not pid:
            time.sleep(50)
            os._exit(0)
        # A signal that comes right after the fork is forgotten by the copy.
        time.sleep(0.3)
        os.kill(pid, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @expose("nothing")
    def nothing():
        pass

    class Universe(WireWorkerUniverse):
        pass
"""


class SignalTestCase(LeakCheckMixin, CommandMixin, TestCase):
    """
    Tests with programs that get signals.
    """

    timeout = 120

    def setUp(self) -> None:
        """
        Make the folder, with functions that hold up whoever runs them.
        """
        super().setUp()
        self.makeFolder()
        (self.folder / "blocking.py").write_text(dedent(BLOCKING), encoding="utf-8")
        self.begun = self.folder / "begun"

    # Three programs

    async def command(self, workers: str = "reactor", *options: str, isAwaited: bool = True) -> subprocess.Popen[str]:
        """
        Start C{asynqueue worker}.
        """
        command = ["asynqueue", "worker", "--listen", self.description, *ROOT, "--import", "thumbs"]
        program = self.start(*command, "--import", "blocking", "--workers", workers, *options)
        return self.listening(program, isAwaited)

    async def module(self, workers: str = "reactor", *options: str, isAwaited: bool = True) -> subprocess.Popen[str]:
        """
        Start C{python -m asynqueue.wire}.
        """
        kind, _, number = workers.partition(":")
        counts = [f"--{kind}s" if kind == "thread" else "--processes", number] if number else []
        program = self.start("asynqueue.wire", *ROOT, *counts, *options, self.description, "blocking.Universe")
        return self.listening(program, isAwaited)

    def listening(self, program: subprocess.Popen[str], isAwaited: bool) -> subprocess.Popen[str]:
        """
        Wait until a program listens.
        """
        if isAwaited:
            self.assertEqual(self.line(program), f"listening on {self.description}\n")
        return program

    async def twist(self, workers: str = "reactor", *options: str, isAwaited: bool = True) -> subprocess.Popen[str]:
        """
        Start C{twist asynqueue}.
        """
        command = ["twisted", "--log-format", "text", "--log-file", "log", "asynqueue", "--listen", self.description]
        program = self.start(*command, *ROOT, "--import", "blocking", "--workers", workers, *options)
        if isAwaited:
            await self.until(lambda: "listening on" in self.log(), "the start of twist")
        return program

    def log(self) -> str:
        """
        Return what twist has logged.
        """
        path = self.folder / "log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    # What happens to them

    async def until(self, condition: Any, what: str, limit: float = TIME_LIMIT) -> float:
        """
        Wait for something.

        @return: How long it took.
        """
        began = time.monotonic()
        while not condition():
            if time.monotonic() > began + limit:
                self.fail(f"in {limit} s it has not come to {what}")
            await deferToDelay(0.01)
        return time.monotonic() - began

    def connect(self) -> TaskQueue:
        """
        Make a queue with a worker that is the program, shut down at the end of the test.
        """
        queue = TaskQueue(WireWorker(None, self.description, whenLost="reconnect"), returnFailure=True)
        self.addCleanup(queue.shutdown, drain=False, deadline=1.0)
        return queue

    async def begin(self, queue: TaskQueue, name: str, seconds: float) -> Deferred[Any]:
        """
        Call a function, and wait until it has begun.
        """
        self.begun.unlink(missing_ok=True)
        call = queue.options(idempotent=False).call(name, str(self.begun), seconds)
        await self.until(self.begun.exists, "the beginning of the call")
        return call

    async def ends(self, program: subprocess.Popen[str], limit: float) -> tuple[int, str]:
        """
        Wait until a program has ended.

        @return: The exit code, and what it wrote on standard error.
        """
        await self.until(lambda: program.poll() is not None, "the end of the program", limit)
        code, _, errors = self.ended(program)
        return code, errors


class SecondSignalTests(SignalTestCase):
    """
    F66: the second signal ends a server at once, whatever it is at.
    """

    async def endedAtOnce(self, program: subprocess.Popen[str], first: int, second: int) -> None:
        """
        Send a program two signals, and see that it ends after the second.
        """
        program.send_signal(first)
        await deferToDelay(0.3)
        self.assertIsNone(program.poll(), "the program has ended at the first signal")
        program.send_signal(second)
        code, errors = await self.ends(program, AT_ONCE)
        self.assertEqual(code, 128 + second)
        line = f"asynqueue: ended at once, by a second signal, {signal.Signals(second).name}"
        self.assertEqual(errors.splitlines()[-1], line)
        self.assertFalse((self.folder / "queue").exists(), "the socket is left")

    async def test_F66_blocked(self) -> None:
        """
        A call holds up the reactor.
        """
        for start, name, first, second in (
            (self.command, "block", signal.SIGTERM, signal.SIGTERM),
            (self.command, "spin", signal.SIGINT, signal.SIGINT),
            (self.module, "block", signal.SIGINT, signal.SIGTERM),
            (self.module, "spin", signal.SIGTERM, signal.SIGTERM),
            (self.twist, "block", signal.SIGTERM, signal.SIGTERM),
            (self.twist, "spin", signal.SIGINT, signal.SIGINT),
        ):
            program = await start()
            queue = self.connect()
            call = await self.begin(queue, name, 50)
            await self.endedAtOnce(program, first, second)
            await self.assertFailure(call, WorkerError)
            await queue.shutdown()
            (self.folder / "log").unlink(missing_ok=True)

    async def test_F66_waiting(self) -> None:
        """
        The reactor waits for a call in a thread, or in a child process, which ends, too.
        """
        for start, workers, number in (
            (self.command, "process:1", signal.SIGTERM),
            (self.module, "thread:1", signal.SIGINT),
            (self.twist, "process:1", signal.SIGTERM),
            (self.twist, "thread:1", signal.SIGINT),
        ):
            program = await start(workers)
            queue = self.connect()
            call = await self.begin(queue, "block", 50)
            children = childrenOf(program.pid)
            self.assertEqual(bool(children), workers == "process:1")
            await self.endedAtOnce(program, number, number)
            await self.until(lambda of=children: not any(map(isAlive, of)), "the end of the child processes", AT_ONCE)
            self.assertNotIn("Traceback", self.log())
            await self.assertFailure(call, WorkerError)
            await queue.shutdown()
            (self.folder / "log").unlink(missing_ok=True)

    async def test_F66_socketOfAnother(self) -> None:
        """
        The socket of a server that has come to listen there meanwhile is left alone.
        """
        program = await self.command("thread:1")
        queue = self.connect()
        call = await self.begin(queue, "block", 50)
        program.send_signal(signal.SIGTERM)
        await self.until(lambda: not (self.folder / "queue").exists(), "the end of listening")
        await self.command("thread:1")
        program.send_signal(signal.SIGTERM)
        self.assertEqual((await self.ends(program, AT_ONCE))[0], 128 + signal.SIGTERM)
        self.assertTrue((self.folder / "queue").exists())
        await self.assertFailure(call, WorkerError)
        self.assertEqual(await queue.call("add", 1, 2), 3)

    async def test_F66_nobodyReads(self) -> None:
        """
        It does not wait for anybody to read what it says.
        """
        program = await self.command("reactor", "--log-level", "critical")
        queue = self.connect()
        call = await self.begin(queue, "block", 50)
        with open(f"/proc/{program.pid}/fd/2", "wb", buffering=0) as pipe:
            os.set_blocking(pipe.fileno(), False)
            while pipe.write(bytes(4096)):
                continue
        program.send_signal(signal.SIGTERM)
        await deferToDelay(0.3)
        program.send_signal(signal.SIGTERM)
        self.assertEqual((await self.ends(program, AT_ONCE))[0], 128 + signal.SIGTERM)
        await self.assertFailure(call, WorkerError)

    async def test_Z19_fork(self) -> None:
        """
        A copy of a server that is made by a fork ends at a signal, as if it had no handler.
        """
        for start in (self.command, self.module, self.twist):
            program = await start()
            queue = self.connect()
            self.assertEqual(await queue.call("fork"), -signal.SIGTERM)
            self.assertTrue((self.folder / "queue").exists())
            await queue.shutdown()
            program.send_signal(signal.SIGTERM)
            code, _ = await self.ends(program, SOON)
            self.assertIn(code, (0, -signal.SIGTERM))


class FirstSignalTests(SignalTestCase):
    """
    F66: at the first signal a server ends when its calls have, or its grace is over, and with nothing to do at once.
    """

    def codeOf(self, start: Any, number: int) -> int:
        """
        Return the exit code of a program that was ended well by a signal. Twist ends by it, whatever the service.
        """
        return -number if start == self.twist else 0

    async def endsWell(self, start: Any, program: subprocess.Popen[str], number: int) -> None:
        """
        See that a program ends at once, without an error, and that nothing is left.
        """
        code, errors = await self.ends(program, AT_ONCE)
        self.assertEqual(code, self.codeOf(start, number), errors)
        for word in ("Traceback", "Error", "Unhandled", "at once"):
            self.assertNotIn(word, errors + self.log())
        self.assertFalse((self.folder / "queue").exists())
        (self.folder / "log").unlink(missing_ok=True)

    async def test_F66_idle(self) -> None:
        """
        Nothing goes on, with and without a caller.
        """
        for start in (self.command, self.module, self.twist):
            for workers, number in (("thread:1", signal.SIGTERM), ("process:1", signal.SIGINT)):
                program = await start(workers)
                children = childrenOf(program.pid)
                program.send_signal(number)
                await self.endsWell(start, program, number)
                self.assertFalse(any(map(isAlive, children)))
            program = await start()
            queue = self.connect()
            self.assertEqual(await queue.call("nothing"), None)
            program.send_signal(signal.SIGTERM)
            await self.endsWell(start, program, signal.SIGTERM)
            await queue.shutdown()

    async def test_F66_starting(self) -> None:
        """
        A server that is told to end while it starts does not go on, and does not stay either.
        """
        for start in (self.command, self.module, self.twist):
            for seconds in (0.15, 0.2, 0.25, 0.4):
                for number in (signal.SIGTERM, signal.SIGINT):
                    program = await start("process:2", isAwaited=False)
                    await deferToDelay(seconds)
                    program.send_signal(number)
                    with contextlib.suppress(AssertionError):
                        await self.until(lambda of=program: of.poll() is not None, "its end", SOON)
                    if number == signal.SIGINT and program.poll() is None:
                        # The interrupt was an exception that nobody passed on, as where Twisted looks for plug-ins.
                        program.send_signal(number)
                    code, errors = await self.ends(program, AT_ONCE)
                    # It may not have come to hear signals.
                    self.assertIn(
                        code,
                        (self.codeOf(start, number), -number),
                        f"{start.__name__}, {seconds}, {number}: {code}\n{errors}",
                    )
                    self.assertFalse((self.folder / "queue").exists())

    def test_F66_beforeItHearsSignals(self) -> None:
        """
        A signal that the reactor hears before the program does ends it no less well.
        """
        text = (
            "import os, signal, sys\n"
            "from asynqueue.cli.main import main\n"
            "from asynqueue.wire import signals\n"
            "def early(*args):\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    return enoughOf(*args)\n"
            "enoughOf, signals.enoughOf = signals.enoughOf, early\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        arguments = ["worker", "--listen", self.description, "--workers", "process:1", *ROOT]
        ended = subprocess.run(
            [sys.executable, "-c", text, *arguments],
            cwd=Path(asynqueue.__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertNotIn("Traceback", ended.stderr)

    async def test_F66_graceful(self) -> None:
        """
        A call goes on: in the reactor, in a thread, in a child process. It has its result, and the server ends then.
        """
        for start in (self.command, self.module, self.twist):
            for workers, number in (
                ("reactor", signal.SIGINT),
                ("thread:1", signal.SIGTERM),
                ("process:1", signal.SIGINT),
            ):
                program = await start(workers)
                queue = self.connect()
                call = await self.begin(queue, "block", 0.5)
                program.send_signal(number)
                self.assertEqual(await call, "done")
                await self.endsWell(start, program, number)
                await queue.shutdown()

    async def test_F66_grace(self) -> None:
        """
        A call goes on for longer than the grace. It is lost, and the server ends, without a second signal.
        """
        for start in (self.command, self.twist):
            program = await start("process:1", "--grace", "0.5")
            queue = self.connect()
            call = await self.begin(queue, "block", 50)
            program.send_signal(signal.SIGTERM)
            await self.assertFailure(call, WorkerError)
            await self.endsWell(start, program, signal.SIGTERM)
            await queue.shutdown()


class ManagerTests(ManagerTestCase):
    """
    Servers of a manager.
    """

    async def test_shutdownTwice(self) -> None:
        """
        All who have shut it down learn of the end when it has come, and the folder stays until then.
        """
        manager = self.makeManager()
        description = manager.newSocket()
        folder = Path(description.removeprefix("unix:")).parent
        pid = await self.within(LIMIT, manager.spawn(description))
        left: list[bool] = []

        def ended(_: None) -> None:
            left.extend([isAlive(pid), folder.exists()])

        shutdowns = [manager.shutdown().addCallback(ended) for _ in range(3)]
        cancelled = manager.shutdown()
        cancelled.cancel()
        await self.errorOf(cancelled, CancelledError)
        self.assertTrue(folder.exists())
        self.assertEqual(left, [])
        await self.allOf(shutdowns)
        self.assertEqual(left, [False] * 6)

    async def test_shutdownAfterDone(self) -> None:
        """
        It waits for a server that has been told to end before.
        """
        manager = self.makeManager()
        pid = await self.within(LIMIT, manager.spawn(manager.newSocket()))
        ends = [Outcome(manager.done(pid)), Outcome(manager.done(pid)), Outcome(manager.done())]
        await self.within(LIMIT, manager.shutdown())
        self.assertFalse(isAlive(pid))
        self.assertEqual([(each.fired, each.kind) for each in ends], [(1, None)] * 3)
        self.assertRaises(ValueError, manager.done, pid)

    async def test_spawnAndShutdown(self) -> None:
        """
        A server that is shut down right after it has been started does not start, whenever that is.
        """
        for seconds in (0, 0.05, 0.2, 0.4):
            manager = self.makeManager()
            starting = Outcome(manager.spawn(manager.newSocket()))
            await deferToDelay(seconds)
            await self.within(LIMIT, manager.shutdown())
            self.assertEqual(starting.fired, 1)
            if starting.failure is not None:
                self.assertIn("was ended before it listened", str(starting.error))
                self.assertEqual(starting.kind, WorkerStartError)

    async def test_spawnWhileShuttingDown(self) -> None:
        """
        Servers are started before and after it, not meanwhile. The folder goes each time.
        """
        manager = self.makeManager()
        description = manager.newSocket()
        folder = Path(description.removeprefix("unix:")).parent
        await self.within(LIMIT, manager.spawn(description))
        end = manager.shutdown()
        error = await self.errorOf(manager.spawn(manager.newSocket()), WorkerStartError)
        self.assertIn("is being shut down", str(error))
        await self.within(LIMIT, end)
        for again in (description, manager.newSocket()):
            pid = await self.within(LIMIT, manager.spawn(again))
            self.assertTrue(isAlive(pid))
            await self.within(LIMIT, manager.shutdown())
            self.assertFalse(isAlive(pid))
            self.assertFalse(folder.exists())

    async def test_endsByItself(self) -> None:
        """
        A server that has ended by itself is logged, and waiting for its end is no mistake, once.
        """
        events = self.watchLog()
        manager = self.makeManager()
        for isNamed in (True, False):
            pid = await self.within(LIMIT, manager.spawn(manager.newSocket()))
            os.kill(pid, signal.SIGKILL)
            await self.until(lambda: "has ended by itself" in textOf(events), "the warning")
            (warning,) = (event for event in events if "has ended by itself" in textOf([event]))
            self.assertEqual((warning["log_level"].name, warning["pid"]), ("warn", pid))
            events.clear()
            self.assertEqual(Outcome(manager.done(pid if isNamed else None)).fired, 1)
            self.assertRaises(ValueError, manager.done, pid)

    async def test_leftBehind(self) -> None:
        """
        The end of a server is told though a process that it has left behind has its pipes.
        """
        (Path(self.folder) / "leaving.py").write_text(
            "import subprocess\n"
            "from asynqueue.wire import WireWorkerUniverse\n"
            "class Universe(WireWorkerUniverse):\n"
            "    def leave(self):\n"
            "        return subprocess.Popen(['sleep', '30'], start_new_session=True).pid\n"
        )
        self.addCleanup(os.unlink, f"{self.folder}/leaving.py")
        sys.path.insert(0, self.folder)
        self.addCleanup(sys.path.remove, self.folder)
        self.patch(sys, "dont_write_bytecode", True)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        self.addCleanup(os.environ.pop, "PYTHONDONTWRITEBYTECODE")
        manager = self.makeManager("leaving.Universe")
        description = manager.newSocket()
        pid = await self.within(LIMIT, manager.spawn(description))
        queue = self.client(WireWorker(None, description))
        left = await self.within(LIMIT, queue.call("leave"))
        self.addCleanup(os.kill, left, signal.SIGKILL)
        await self.shutDown(queue)
        await self.within(LAST_WORDS_TIME + SOON, manager.done(pid))
        self.assertTrue(isAlive(left))

    async def test_cannotBeStarted(self) -> None:
        """
        Where there is no interpreter, the Deferred says so.
        """
        for executable in ("/nowhere/python", self.folder, "", None):
            self.patch(sys, "executable", executable)
            manager = self.makeManager()
            error = await self.errorOf(manager.spawn(manager.newSocket()), WorkerStartError)
            self.assertIn(executable or "sys.executable", str(error))
            await self.within(LIMIT, manager.shutdown())

    async def test_cancelled(self) -> None:
        """
        When the Deferred of a start is cancelled, the server ends.
        """
        for seconds in (0, 0.02):
            manager = self.makeManager()
            starting = manager.spawn(manager.newSocket(), stdio=True)
            await deferToDelay(seconds)
            (pid,) = (each for each in childrenOf(os.getpid()) if isAlive(each))
            starting.cancel()
            await self.errorOf(starting, CancelledError)
            await self.within(LIMIT, manager.shutdown())
            self.assertFalse(isAlive(pid))

    async def test_arguments(self) -> None:
        """
        What is no name is told at once, with what would be one.
        """

        class Local(WireWorkerUniverse):
            pass

        for wrong, example in ((Local, Local.__qualname__), (Local(), Local.__qualname__), (5, "planets.Planets")):
            with self.assertRaises(TypeError) as caught:
                ServerManager(wrong)  # type: ignore[arg-type]
            self.assertIn("wwuFQN", str(caught.exception))
            self.assertIn(example, str(caught.exception))
        with self.assertRaises(TypeError) as caught:
            self.makeManager(UNIVERSE).spawn(None)  # type: ignore[arg-type]
        self.assertIn("description", str(caught.exception))


class ScriptedProcess:
    """
    Stands for a process.
    """

    pid = 7

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.isLost = False
        self.isGone = False

    def signalProcess(self, name: str) -> None:
        """
        Take note of a signal.
        """
        if self.isGone:
            raise ProcessExitedAlready
        self.signals.append(name)

    def loseConnection(self) -> None:
        """
        Take note that the pipes are to be closed.
        """
        self.isLost = True


class ServerProcessTests(SynchronousTestCase):
    """
    A server, with its process stepped by hand.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.clock = Clock()
        self.ended: list[bool] = []
        self.server = ServerProcess(self.clock, "unix:x", lambda server, isByItself: self.ended.append(isByItself))
        self.process = ScriptedProcess()
        self.server.makeConnection(self.process)
        self.listening = Outcome(self.server.listening)

    def end(self, number: int = signal.SIGKILL) -> None:
        """
        Let the process end.
        """
        self.process.isGone = True
        reason = Failure(ProcessTerminated(signal=number))
        self.server.processExited(reason)
        self.server.processEnded(reason)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIs(self.server.state, State.ENDED)

    def test_listensTooLate(self) -> None:
        """
        A server that listens when it has been told to end is told once, has not started, and is killed.
        """
        ends = [Outcome(self.server.end()), Outcome(self.server.end())]
        self.server.childDataReceived(1, b"listening on unix:x\n")
        self.assertEqual(self.listening.fired, 0)
        self.clock.advance(END_TIME)
        self.assertEqual(self.process.signals, ["TERM", "KILL"])
        self.end()
        self.assertIn("was ended before it listened", str(self.listening.error))
        self.assertEqual([each.fired for each in ends], [1, 1])
        self.assertEqual(self.ended, [False])
        self.assertEqual(Outcome(self.server.end()).fired, 1)

    def test_listensNever(self) -> None:
        """
        One that takes too long is killed, and the error says so.
        """
        self.server.childDataReceived(2, b"thinking\n")
        self.clock.advance(START_TIME)
        self.assertEqual(self.process.signals, ["KILL"])
        self.end()
        self.assertIn("thinking", str(self.listening.error))
        self.assertIn("did not listen within", str(self.listening.error))
        self.assertEqual(self.ended, [False])

    def test_pipesOfOthers(self) -> None:
        """
        The pipes are closed some time after the end.
        """
        self.server.childDataReceived(1, b"listening on unix:x\n")
        self.assertIs(self.listening.value, self.server)
        self.process.isGone = True
        self.server.processExited(Failure(ProcessTerminated(1)))
        self.clock.advance(LAST_WORDS_TIME)
        self.assertTrue(self.process.isLost)
        self.end()
        self.assertEqual(self.ended, [True])


class ServiceTests(WireTestCase):
    """
    The service of a server.
    """

    def loggedBadly(self, events: list[Any]) -> str:
        """
        Return what has been logged that is worse than a warning, with what comes when garbage is collected.
        """
        gc.collect()
        return textOf([event for event in events if event["log_level"].name in ("error", "critical")])

    async def test_cannotListen(self) -> None:
        """
        A server that cannot listen is logged at once, and its service does not run. It can be started later.
        """
        events = self.watchLog()
        other = await self.serve()
        services = MultiService()
        service = self.makeServer().service
        service.setServiceParent(services)
        services.startService()
        await self.until(lambda: not service.running, "the failure")
        text = self.loggedBadly(events)
        self.assertIn(f"the server at {self.description} cannot be started: ", text)
        self.assertIn("another process listens", text)
        self.assertEqual((text.count("\n"), self.flushLoggedErrors()), (0, []))
        await self.within(LIMIT, other.stop())
        self.assertIsNotNone(await self.within(LIMIT, service.startService()))
        self.assertTrue(service.running)
        self.assertRaises(RuntimeError, service.startService)
        self.assertTrue(service.running)
        await self.within(LIMIT, services.stopService())
        self.assertFalse(service.running)

    async def test_stoppedWhileItStarts(self) -> None:
        """
        A service that is stopped while child processes start stops, without a word, and can be started again.
        """
        events = self.watchLog()
        for seconds in (0, 0.1, 0.5):
            server = self.makeServer(processes=1)
            started = Outcome(server.service.startService())
            await deferToDelay(seconds)
            await self.within(LIMIT, server.service.stopService())
            self.assertEqual((started.fired, started.failure), (1, None))
            self.assertFalse(server.service.running)
            self.assertIsNone(server.port)
            self.assertFalse(os.path.exists(f"{self.folder}/socket"))
            self.assertEqual(self.loggedBadly(events), "")
            self.assertIsNotNone(await self.within(LIMIT, server.service.startService()))
            await self.within(LIMIT, server.service.stopService())

    async def test_deadChild(self) -> None:
        """
        Why a child process could not be started is logged.
        """
        events = self.watchLog()
        environment = {**self.environment, "PYTHONHOME": "/nowhere"}
        server = self.makeServer(processes=1, processKeywords={"environment": environment})
        self.assertIsNone(await self.within(LIMIT, server.service.startService()))
        self.assertFalse(server.service.running)
        self.assertIn("cannot be started: ", self.loggedBadly(events))
        self.assertEqual(self.flushLoggedErrors(), [])


class SlowPort:
    """
    A port that takes its time to close.
    """

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.isTold = False

    def getHost(self) -> IPv4Address:
        """
        Return an address.
        """
        return IPv4Address("TCP", "127.0.0.1", 1)

    def stopListening(self) -> Deferred[None]:
        """
        Take note.
        """
        self.isTold = True
        return self.closed


class SlowEndpoint:
    """
    An endpoint that takes its time to listen.
    """

    def __init__(self) -> None:
        self.listenings: list[Deferred[Any]] = []

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """
        Return a Deferred for the test to fire.
        """
        listening: Deferred[Any] = Deferred()
        self.listenings.append(listening)
        return listening


class SlowServer(WireServer):
    """
    A server at such an endpoint.
    """

    def __init__(self, endpoint: SlowEndpoint, reactor: Any) -> None:
        super().__init__(
            "tcp:1:interface=127.0.0.1", reactor=reactor, grace=0, insecure_plaintext=True, insecure_root=IS_ROOT
        )
        self._endpoint = endpoint  # type: ignore[assignment]


class SlowlyListeningTests(QueueTestCase):
    """
    Servers that are stopped while their endpoint has not said yet whether they listen.
    """

    def setUp(self) -> None:
        """
        Start one.
        """
        super().setUp()
        self.clock = MemoryReactorClock()
        self.endpoint = SlowEndpoint()
        self.server = SlowServer(self.endpoint, self.clock)
        self.events = self.watchLog()
        self.started = Outcome(self.server.start())

    def stop(self) -> Outcome:
        """
        Stop it, which takes until it has listened.
        """
        stopped = Outcome(self.server.stop())
        self.turn()
        self.assertPending(self.started)
        self.assertPending(stopped)
        return stopped

    def test_closes(self) -> None:
        """
        The port is closed when it comes, and the stop is over when that is done.
        """
        stopped = self.stop()
        port = SlowPort()
        self.endpoint.listenings[0].callback(port)
        self.assertTrue(port.isTold)
        self.assertPending(stopped)
        port.closed.callback(None)
        self.assertValue(stopped, None)
        self.assertIn("was stopped before it listened", str(self.assertFailed(self.started, WorkerStartError)))
        self.assertIsNone(self.server.port)

    def test_fails(self) -> None:
        """
        That it could not have listened makes no difference, but as a cause.
        """
        for error in (CannotListenError("127.0.0.1", 1, OSError("in use")), ZeroDivisionError()):
            stopped = self.stop()
            self.endpoint.listenings.pop().errback(error)
            self.assertValue(stopped, None)
            self.assertIs(self.assertFailed(self.started, WorkerStartError).__cause__, error)
            self.started = Outcome(self.server.start())
        self.stop()
        self.endpoint.listenings.pop().errback(ZeroDivisionError())

    def test_never(self) -> None:
        """
        The stop does not wait for ever. A port that comes afterwards is closed, and is none of the next start's.
        """
        stopped = self.stop()
        self.clock.advance(FAREWELL)
        self.assertValue(stopped, None)
        self.assertIn("was stopped before it listened", textOf(self.events))
        again = Outcome(self.server.start())
        late, port = SlowPort(), SlowPort()
        self.endpoint.listenings[1].callback(port)
        self.endpoint.listenings[0].callback(late)
        late.closed.callback(None)
        self.assertFailed(self.started, WorkerStartError)
        self.assertValue(again, port)
        self.assertIs(self.server.port, port)
        self.assertEqual((late.isTold, port.isTold), (True, False))
        port.closed.callback(None)
        self.assertValue(Outcome(self.server.stop()), None)
        self.assertTrue(port.isTold)

    def test_service(self) -> None:
        """
        A service is stopped without a word; what nobody expects is logged as an error.
        """
        self.stop()
        self.endpoint.listenings.pop().errback(ZeroDivisionError())
        service = self.server.service
        started, stopped = Outcome(service.startService()), Outcome(service.stopService())
        self.endpoint.listenings.pop().errback(ZeroDivisionError())
        self.assertValue(started, None)
        self.assertValue(stopped, None)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        started = Outcome(service.startService())
        self.endpoint.listenings.pop().errback(ZeroDivisionError("odd"))
        self.assertValue(started, None)
        self.assertFalse(service.running)
        self.assertIn("cannot be started: odd", textOf(self.events))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
