"""
Tests of compatibility: what AsynQueue 0.9.9 has in asynqueue.wire.

Plain TCP raises an error that names the switch: the one exception to "runs unchanged".
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from asynqueue import TaskQueue
from asynqueue.errors import InsecureTransport, WorkerError, WorkerStartError
from asynqueue.interfaces import IWorker
from asynqueue.testing.wiretasks import Universe
from asynqueue.wire import ServerManager, WireServer, WireWorker, WireWorkerUniverse, runServer
from test.nodes import IS_ROOT, WireTestCase
from test.processes import FOLDER, LIMIT, MARK, isAlive, reactor

#: The full name of a universe that servers in other processes can import.
UNIVERSE = "asynqueue.testing.wiretasks.Universe"


class MyUniverse(WireWorkerUniverse):
    """
    As the documentation has it.
    """

    def add(self, first: float, second: float) -> float:
        """
        Return the sum.
        """
        return first + second

    def addLater(self, first: float, second: float) -> Deferred[float]:
        """
        Return a Deferred of it.
        """
        return deferLater(reactor, 0.01, lambda: first + second)

    def countTo(self, stop: int) -> Iterator[int]:
        """
        Yield the numbers up to one.
        """
        yield from range(1, stop + 1)

    def divide(self, first: float, second: float) -> float:
        """
        Return the quotient.
        """
        return first / second

    def large(self, size: int) -> bytes:
        """
        Return bytes.
        """
        return bytes(size)

    def _private(self) -> None:
        raise AssertionError("not to be called from afar")


class UniverseTests(WireTestCase):
    """
    wire.WireWorkerUniverse, wire.WireServer and wire.WireWorker.
    """

    def program(self, **keywords: Any) -> tuple[WireServer, TaskQueue]:
        """
        Make a server and a queue, as a program for 0.9.9 does.
        """
        server = self.makeServer(wwu=MyUniverse())
        worker = WireWorker(MyUniverse(), self.description, **keywords)
        queue = TaskQueue(worker, returnFailure=True)
        self.addCleanup(self._end, queue)
        return server, queue

    async def test_wire_methodsByName(self) -> None:
        """
        A task's callable is the name of a method, which may return a Deferred, or an iterator.
        """
        server, queue = self.program()
        await self.within(LIMIT, server.start())
        self.assertEqual(await self.within(LIMIT, queue.call("add", 1, 2)), 3)
        self.assertEqual(await self.within(LIMIT, queue.call("add", 1, second=2.5, niceness=-5)), 3.5)
        self.assertEqual(await self.within(LIMIT, queue.call("addLater", 1, 2)), 3)
        iteration = await self.within(LIMIT, queue.call("countTo", 5))
        numbers = [await self.within(LIMIT, d) for d in iteration]
        self.assertEqual(numbers, [1, 2, 3, 4, 5])
        self.assertEqual(len(await self.within(LIMIT, queue.call("large", 200_000))), 200_000)

    async def test_wire_error(self) -> None:
        """
        An error is an error of the call; the worker stays.
        """
        server, queue = self.program()
        await self.within(LIMIT, server.start())
        error = await self.errorOf(queue.call("divide", 1, 0), ZeroDivisionError, WorkerError)
        self.assertIn("divide", error.remoteTraceback)
        await self.errorOf(queue.call("_private"), WorkerError)
        self.assertEqual(await self.within(LIMIT, queue.call("divide", 1, 2)), 0.5)

    async def test_wire_check(self) -> None:
        """
        What is no universe is a TypeError, by itself and for a worker and a server.
        """
        self.assertIsNone(WireWorkerUniverse.check(MyUniverse()))
        for wrong in (object(), "MyUniverse", MyUniverse):
            self.assertRaises(TypeError, WireWorkerUniverse.check, wrong)
            self.assertRaises(TypeError, WireWorker, wrong, self.description)
        self.assertRaises(TypeError, WireServer, self.description, object(), insecure_root=IS_ROOT)

    async def test_wire_worker(self) -> None:
        """
        The arguments of a worker, by position, and its labels.
        """
        await self.serve(wwu=MyUniverse())
        worker = WireWorker(MyUniverse(), self.description, ["mine"], False, True, 1)
        self.assertTrue(IWorker.providedBy(worker))
        self.assertEqual((worker.cQualified, worker.iQualified), (["wire", "remote"], ["mine"]))
        queue = self.client(worker)
        for series in ("wire", "remote", "mine"):
            self.assertEqual(await self.within(LIMIT, queue.call("add", 1, 2, series=series)), 3)
        self.assertEqual(worker.capacity, 1)

    async def test_wire_thread(self) -> None:
        """
        C{thread} of the worker, or of a call, runs a method in a thread.
        """
        await self.serve()
        queue = self.client()
        self.assertFalse(await self.within(LIMIT, queue.call("thread")))
        self.assertTrue(await self.within(LIMIT, queue.call("thread", thread=True)))
        inThread = self.client(WireWorker(Universe(), self.description, thread=True))
        self.assertTrue(await self.within(LIMIT, inThread.call("thread")))

    async def test_wire_resigns(self) -> None:
        """
        A worker whose connection is lost resigns, and its tasks go elsewhere.
        """
        server, queue = self.program()
        await self.within(LIMIT, server.start())
        self.assertEqual(await self.within(LIMIT, queue.call("add", 1, 2)), 3)
        await self.within(LIMIT, server.stop())
        await self.until(lambda: len(queue) == 0, "the resignation")
        call = queue.call("add", 3, 4)
        await self.serve(wwu=MyUniverse())
        queue.attachWorker(WireWorker(MyUniverse(), self.description))
        self.assertEqual(await self.within(LIMIT, call), 7)

    async def test_wire_server(self) -> None:
        """
        A server takes an instance or its dotted name, has a service, starts and stops.
        """
        for wwu in (MyUniverse(), "test.test_compat_wire.universe", UNIVERSE):
            server = self.makeServer(wwu=wwu)
            self.assertTrue(IService.providedBy(server.service))
            await self.within(LIMIT, server.start())
            self.assertTrue(stat.S_ISSOCK(os.stat(f"{self.folder}/socket").st_mode))
            await self.within(LIMIT, server.stop())
            self.assertFalse(os.path.exists(f"{self.folder}/socket"))

    async def test_wire_plaintext(self) -> None:
        """
        Plain TCP needs a switch, which the error names.
        """
        for make in (
            lambda: WireWorker(MyUniverse(), "tcp:localhost:1234"),
            lambda: WireServer("tcp:1234:interface=127.0.0.1", MyUniverse(), insecure_root=IS_ROOT),
        ):
            with self.assertRaises(InsecureTransport) as caught:
                make()
            self.assertIn("insecure_plaintext=True", str(caught.exception))


#: As a server has it by its dotted name.
universe = MyUniverse()


class ManagerTestCase(WireTestCase):
    """
    Tests of servers in processes of their own.
    """

    def makeManager(self, wwuFQN: str | None = UNIVERSE) -> ServerManager:
        """
        Make a manager, which is shut down at the end of the test.
        """
        manager = ServerManager(wwuFQN, insecure_root=IS_ROOT)
        self.addCleanup(
            lambda: Deferred.fromCoroutine(self.within(LIMIT, manager.shutdown(), "the end of the servers"))
        )
        return manager

    def setUp(self) -> None:
        """
        Mark the processes that this one starts.
        """
        super().setUp()
        os.environ[MARK] = self.mark
        self.addCleanup(os.environ.pop, MARK)


class ManagerTests(ManagerTestCase):
    """
    wire.ServerManager.
    """

    async def test_wire_newSocket(self) -> None:
        """
        Descriptions of unix sockets, all in one folder that nobody else gets at, which goes in the end.
        """
        manager = self.makeManager()
        one, other = manager.newSocket(), manager.newSocket()
        self.assertNotEqual(one, other)
        self.assertTrue(one.startswith("unix:"))
        folder = Path(one.removeprefix("unix:")).parent
        self.assertEqual(folder, Path(other.removeprefix("unix:")).parent)
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        await self.within(LIMIT, manager.shutdown())
        self.assertFalse(folder.exists())

    async def test_wire_spawn(self) -> None:
        """
        A new interpreter, whose process ID arrives when it listens; and its end.
        """
        manager = self.makeManager()
        description = manager.newSocket()
        pid = await self.within(LIMIT, manager.spawn(description))
        self.assertTrue(isAlive(pid))
        queue = self.client(WireWorker(Universe(), description))
        self.assertEqual(await self.within(LIMIT, queue.call("pid")), pid)
        await self.shutDown(queue)
        await self.within(LIMIT, manager.done(pid))
        self.assertFalse(isAlive(pid))
        self.assertFalse(os.path.exists(description.removeprefix("unix:")))
        self.assertRaises(ValueError, manager.done, pid)

    async def test_wire_stdio(self) -> None:
        """
        With C{stdio}, an object that has the process ID.
        """
        manager = self.makeManager()
        server = await self.within(LIMIT, manager.spawn(manager.newSocket(), stdio=True))
        self.assertTrue(isAlive(server.pid))
        await self.within(LIMIT, manager.done(server.pid))
        self.assertFalse(isAlive(server.pid))

    async def test_wire_niceness(self) -> None:
        """
        A server may be nicer than others.
        """
        manager = self.makeManager()
        description = manager.newSocket()
        pid = await self.within(LIMIT, manager.spawn(description, niceness=7))
        queue = self.client(WireWorker(None, description))
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual(await self.within(LIMIT, queue.call("niceness")), min(own + 7, 19))
        self.assertEqual(await self.within(LIMIT, queue.call("pid")), pid)
        await self.shutDown(queue)
        for wrong in (-1, 21, 1.5, "5", True):
            with self.assertRaises(ValueError) as caught:
                manager.spawn(description, niceness=wrong)  # type: ignore[arg-type]
            self.assertIn("niceness", str(caught.exception))

    async def test_wire_done(self) -> None:
        """
        Without a process ID, all servers end; the folder stays.
        """
        manager = self.makeManager()
        first = manager.newSocket()
        pids = [await self.within(LIMIT, manager.spawn(each)) for each in (first, manager.newSocket())]
        await self.within(LIMIT, manager.done())
        self.assertEqual([isAlive(pid) for pid in pids], [False, False])
        self.assertTrue(Path(first.removeprefix("unix:")).parent.exists())
        pid = await self.within(LIMIT, manager.spawn(first))
        await self.within(LIMIT, manager.shutdown())
        self.assertFalse(isAlive(pid))
        await self.within(LIMIT, manager.shutdown())

    async def test_wire_cannotStart(self) -> None:
        """
        A server that cannot start is an error that tells what it wrote, and nothing of it is left.
        """
        for fullName, description, text in (
            ("asynqueue.nothing", None, "there is no universe by the full name 'asynqueue.nothing'"),
            ("asynqueue.TaskQueue", None, "no instance of WireWorkerUniverse"),
            (UNIVERSE, "tcp:1:interface=127.0.0.1", "insecure_plaintext=True"),
            (UNIVERSE, "nothing", "nothing"),
        ):
            manager = self.makeManager(fullName)
            error = await self.errorOf(manager.spawn(description or manager.newSocket()), WorkerStartError)
            self.assertIn(text, str(error))
            self.assertNotIn("Traceback", str(error))

    async def test_wire_endedWhileStarting(self) -> None:
        """
        One that is ended before it listens does not start.
        """
        manager = self.makeManager()
        starting = manager.spawn(manager.newSocket())
        await self.within(LIMIT, manager.shutdown())
        await self.errorOf(starting, WorkerStartError)

    async def test_wire_endsByItself(self) -> None:
        """
        One that has ended by itself is no trouble later.
        """
        manager = self.makeManager()
        description = manager.newSocket()
        pid = await self.within(LIMIT, manager.spawn(description))
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: not isAlive(pid), "the end of the server")
        await self.within(LIMIT, manager.done(pid))
        other = await self.within(LIMIT, manager.spawn(description))
        self.assertNotEqual(pid, other)


class CommandTests(ManagerTestCase):
    """
    wire.runServer, and C{python -m asynqueue.wire}.
    """

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """
        Run the command.
        """
        switches = ["--insecure-root"] if IS_ROOT else []
        process = subprocess.Popen(
            [sys.executable, "-m", "asynqueue.wire", *switches, *arguments],
            cwd=FOLDER,
            env={**self.environment, "PYTHONPATH": str(FOLDER)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.communicate(timeout=10)

        self.addCleanup(end)
        return process

    async def test_wire_module(self) -> None:
        """
        Prints one line once it listens, serves the universe, and ends well when it is told to, by either signal.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.command(self.description, UNIVERSE)
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), f"listening on {self.description}\n")
            queue = self.client()
            self.assertEqual(await self.within(LIMIT, queue.call("pid")), process.pid)
            await self.shutDown(queue)
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
            self.assertEqual((process.returncode, out, err), (0, "", ""))
            self.assertFalse(os.path.exists(f"{self.folder}/socket"))

    async def test_wire_moduleWithoutUniverse(self) -> None:
        """
        The universe may be left out, and the workers be told.
        """
        process = self.command("--threads", "1", "--processes", "1", self.description)
        assert process.stdout is not None
        self.assertTrue(process.stdout.readline().startswith("listening on "))
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call(pow, 2, 5)), 32)
        await self.shutDown(queue)
        process.send_signal(signal.SIGTERM)
        self.assertEqual((process.communicate(timeout=10), process.returncode), (("", ""), 0))

    async def test_wire_moduleThatCannot(self) -> None:
        """
        What is wrong is told in one line, and in the exit code.
        """
        for arguments in ((self.description, "asynqueue.nothing"), ("tcp:1", UNIVERSE), (self.description, "os.path")):
            process = self.command(*arguments)
            out, err = process.communicate(timeout=20)
            self.assertEqual((process.returncode, out, err.count("\n")), (1, "", 1), err)
            self.assertIn("cannot be started", err)

    async def test_wire_runServer(self) -> None:
        """
        The same as a function, with the keywords of a server.
        """
        self.assertTrue(callable(runServer))
        program = self.spawn("threads=1").listening()
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call("pid")), program.process.pid)
        self.assertTrue(await self.within(LIMIT, queue.call("thread", thread=True)))
        await self.shutDown(queue)
        program.process.send_signal(signal.SIGTERM)
        code, _, err = program.end(10)
        self.assertEqual((code, err), (0, ""))
