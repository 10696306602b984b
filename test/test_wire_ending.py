"""
Tests of how servers come to their ends: by signals, with the program that has started them, or before they listen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from textwrap import dedent
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from asynqueue import TaskQueue, deferToDelay
from asynqueue.errors import WorkerError
from asynqueue.testing import LeakCheckMixin
from asynqueue.wire import WireWorker
from test.commands import ROOT, TIME_LIMIT, CommandMixin
from test.processes import childrenOf, isAlive

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

    class Universe(WireWorkerUniverse):
        def block(self, path, seconds):
            return block(path, seconds)

        def spin(self, path, seconds):
            return spin(path, seconds)

        def fork(self):
            return fork()
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

    async def command(self, *workers: str) -> subprocess.Popen[str]:
        """
        Start C{asynqueue worker}.
        """
        return self.worker("--import", "blocking", "--workers", *(workers or ("reactor",)))

    async def module(self, *workers: str) -> subprocess.Popen[str]:
        """
        Start C{python -m asynqueue.wire}.
        """
        options = [f"--{kind}={number}" for kind, number in self.counts(workers).items()]
        program = self.start("asynqueue.wire", *ROOT, *options, self.description, "blocking.Universe")
        self.assertEqual(self.line(program), f"listening on {self.description}\n")
        return program

    async def twist(self, *workers: str) -> subprocess.Popen[str]:
        """
        Start C{twist asynqueue}.
        """
        command = ["twisted", "--log-format", "text", "--log-file", "log", "asynqueue", "--listen", self.description]
        program = self.start(*command, *ROOT, "--import", "blocking", "--workers", *(workers or ("reactor",)))
        await self.until(lambda: "listening on" in self.log(), "the start of twist")
        return program

    @staticmethod
    def counts(workers: tuple[str, ...]) -> dict[str, str]:
        """
        Return how many workers of which kind there are to be.
        """
        parts = (each.split(":") for each in workers)
        return {{"thread": "threads", "process": "processes"}[kind]: number for kind, number in parts}

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
