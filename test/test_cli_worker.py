"""
Tests of C{asynqueue worker}, with real processes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

import asynqueue
from asynqueue import TaskQueue, deferToDelay
from asynqueue.cli.options import as_options
from asynqueue.errors import WorkerError
from asynqueue.process.worker import ProcessWorker
from asynqueue.service.choices import MOST_WORKERS, Workers, parseWorkers
from asynqueue.service.notices import VARIABLE, Notices
from asynqueue.testing import LeakCheckMixin
from asynqueue.wire import WireWorker
from test.commands import ROOT, TIME_LIMIT, CommandMixin


class ServingTests(LeakCheckMixin, CommandMixin, TestCase):
    """
    A server that is started by the command, and called.
    """

    timeout = 120

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        self.makeFolder()

    async def test_calls(self) -> None:
        """
        Exposed functions of modules in the current directory are run by child processes and threads, and stop when a
        signal says so.
        """
        program = self.worker("--workers", "process:1,thread:1", "--name", "here")
        async with TaskQueue(WireWorker(None, self.description), returnFailure=True) as queue:
            self.assertEqual(await queue.call("add", 1, 2), 3)
            self.assertEqual(await queue.call(len, "abc"), 3)
        program.send_signal(signal.SIGTERM)
        code, output, errors = self.ended(program)
        self.assertEqual((code, output), (0, ""))
        self.assertEqual("insecure_root=True" in errors, bool(ROOT))
        self.assertFalse((self.folder / "queue").exists())

    async def test_F104_graceful(self) -> None:
        """
        A call that is under way when the signal comes has its result.
        """
        for number, workers in ((signal.SIGTERM, "process:1"), (signal.SIGINT, "thread:1")):
            program = self.worker("--workers", workers)
            queue = TaskQueue(WireWorker(None, self.description, whenLost="reconnect"), returnFailure=True)
            await queue.call("add", 1, 2)
            slow = queue.call("slow", 0.5)
            await deferToDelay(0.2)
            program.send_signal(number)
            self.assertEqual(await slow, "none")
            self.assertEqual(self.ended(program)[0], 0)
            await queue.shutdown()

    async def test_secondSignal(self) -> None:
        """
        It ends the server at once, whatever goes on.
        """
        program = self.worker("--workers", "process:1")
        queue = TaskQueue(WireWorker(None, self.description, whenLost="reconnect"), returnFailure=True)
        await queue.call("add", 1, 2)
        slow = queue.options(idempotent=False).call("slow", 60)
        await deferToDelay(0.2)
        program.send_signal(signal.SIGTERM)
        await deferToDelay(0.2)
        program.send_signal(signal.SIGTERM)
        code, _, errors = self.ended(program)
        self.assertEqual(code, 128 + signal.SIGTERM)
        self.assertIn("ended at once", errors)
        await self.assertFailure(slow, WorkerError)
        await queue.shutdown()

    async def test_noPickles(self) -> None:
        """
        Without pickles, a caller of the same user has names called, and nothing else.
        """
        self.worker("--workers", "thread:1", "--no-pickles", "--serializer", "json")
        async with TaskQueue(WireWorker(None, self.description), returnFailure=True) as queue:
            self.assertEqual(await queue.call("add", 1, 2), 3)
            await self.assertFailure(queue.call(len, "abc"), WorkerError)

    async def test_notify(self) -> None:
        """
        systemd is told; calls do not see its socket.
        """
        path = str(self.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(TIME_LIMIT)
            program = self.worker("--workers", "process:1", NOTIFY_SOCKET=path)
            self.assertEqual(manager.recv(4096), f"READY=1\nSTATUS=listening on {self.description}".encode())
            async with TaskQueue(WireWorker(None, self.description), returnFailure=True) as queue:
                self.assertEqual(await queue.call("slow", 0), "none")
            program.send_signal(signal.SIGTERM)
            self.assertTrue(manager.recv(4096).startswith(b"STOPPING=1\n"))
        self.assertEqual(self.ended(program)[0], 0)


class MistakeTests(CommandMixin, SynchronousTestCase):
    """
    What cannot be done is said in one line.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        self.makeFolder()

    def failed(self, *arguments: str, listen: str = "", root: bool = True) -> str:
        """
        Run the command, which must fail, and return the line.
        """
        listening = ["--listen", listen or self.description, "--log-level", "critical", "--workers", "reactor"]
        program = self.start("asynqueue", "worker", *listening, *(ROOT if root else []), *arguments)
        code, output, errors = self.ended(program)
        self.assertEqual((code, output, errors.count("\n")), (1, "", 1), errors)
        self.assertTrue(errors.startswith("asynqueue: "))
        return errors

    def test_mistakes(self) -> None:
        """
        The line names the mistake.
        """
        self.assertIn("nothing", self.failed("--import", "nothing"))
        (self.folder / "wrong.py").write_text("1 +\n", encoding="utf-8")
        self.assertRegex(self.failed("--import", "wrong"), "module wrong .*SyntaxError")
        (self.folder / "failing.py").write_text("1 / 0\n", encoding="utf-8")
        self.assertRegex(self.failed("--import", "failing"), "module failing .*ZeroDivisionError: division by zero")
        self.assertIn("ZeroDivisionError", self.failed("--universe", "failing.Universe"))
        self.assertIn("WireWorkerUniverse", self.failed("--universe", "thumbs.add"))
        self.assertIn("nothing", self.failed("--universe", "thumbs.nothing"))
        self.assertIn("--pickles", self.failed("--serializer", "pickle"))
        error = self.failed("--serializer", "foo")
        self.assertIn("plain, json, msgpack, not 'foo'", error)
        self.assertNotIn("pickle", error)
        self.assertIn("grace", self.failed("--grace", "-1"))
        self.assertIn("--insecure-plaintext", self.failed(listen="tcp:0:interface=127.0.0.1"))
        self.assertIn("keys init", self.failed(listen=f"aqtls:0:keys={self.folder}/keys"))
        if ROOT:
            self.assertIn("--insecure-root", self.failed(root=False))

    def test_inUse(self) -> None:
        """
        So it is where another server listens, and nothing comes before that line but what was logged for a reason.
        """
        self.worker("--workers", "reactor")
        self.assertIn("another process listens", self.failed())
        arguments = ["--listen", self.description, *ROOT, "--workers", "reactor"]
        code, _, errors = self.ended(self.start("asynqueue", "worker", *arguments))
        self.assertEqual(code, 1)
        self.assertNotIn("Main loop", errors)

    def test_anyPort(self) -> None:
        """
        The port that a server got is told.
        """
        self.description = "tcp:0:interface=127.0.0.1"
        arguments = ["--listen", self.description, "--insecure-plaintext", *ROOT, "--workers", "reactor"]
        program = self.start("asynqueue", "worker", *arguments)
        self.assertRegex(self.line(program), r"^listening on tcp:0:interface=127\.0\.0\.1 \(127\.0\.0\.1 port \d+\)\n$")
        program.send_signal(signal.SIGINT)
        self.assertEqual(self.ended(program)[0], 0)

    def test_usage(self) -> None:
        """
        Arguments that are wrong by themselves have an exit code of their own.
        """
        code, _, errors = self.ended(self.start("asynqueue", "worker", "--listen", "x", "--workers", "fibre:2"))
        self.assertEqual(code, 2)
        self.assertIn("fibre:2", errors)


class ModuleTests(CommandMixin, SynchronousTestCase):
    """
    C{python -m asynqueue.wire}, likewise.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        self.makeFolder()

    def test_attached(self) -> None:
        """
        A server that is attached ends with the program that has started it, which alone hears Ctrl-C.
        """
        reading, writing = os.pipe()
        program = subprocess.Popen(
            [sys.executable, "-m", "asynqueue.wire", "--attached", *ROOT, self.description],
            cwd=Path(asynqueue.__file__).parents[1],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(reading)
        self.bound(program)
        self.assertEqual(self.line(program), f"listening on {self.description}\n")
        program.send_signal(signal.SIGINT)
        self.assertRaises(subprocess.TimeoutExpired, program.wait, 0.5)
        os.close(writing)
        self.assertEqual(self.ended(program)[0], 0)

    def test_inUse(self) -> None:
        """
        Where another server listens, one line says so.
        """
        self.worker("--workers", "reactor")
        code, _, errors = self.ended(self.start("asynqueue.wire", *ROOT, self.description))
        self.assertEqual((code, errors.count("\n")), (1, 1), errors)
        self.assertIn("another process listens", errors)


class PartTests(SynchronousTestCase):
    """
    The parts of it.
    """

    def test_workers(self) -> None:
        """
        What may be said of workers.
        """
        self.assertEqual(parseWorkers("thread:2,process:3"), Workers(2, 3))
        self.assertEqual(parseWorkers("process, thread:4"), Workers(4, 1))
        self.assertEqual(parseWorkers("process:cores"), Workers(0, ProcessWorker.cores()))
        self.assertEqual(parseWorkers("reactor"), Workers())
        wrong = ("", "thread:0", "thread:-1", "thread:x", "thread:", f"thread:{MOST_WORKERS + 1}", "thread:²")
        for text in (*wrong, "thread:1,thread:2", "reactor,thread:1", "thread,reactor", "reactor:1", "async:1"):
            self.assertIn(text, str(self.assertRaises(ValueError, parseWorkers, text)))

    def test_notices(self) -> None:
        """
        Nothing is told where nobody listens, and what cannot be written costs nothing.
        """
        Notices({}).ready("x")
        variables = {VARIABLE: str(Path(self.mktemp()).absolute())}
        notices = Notices(variables)
        self.assertEqual(variables, {})
        notices.ready("x")
        notices.stopping()

    def test_abstractNotices(self) -> None:
        """
        The address may be an abstract one.
        """
        if sys.platform != "linux":
            raise self.skipTest("only Linux has abstract addresses")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0asynqueue-test-{os.getpid()}")
            manager.settimeout(TIME_LIMIT)
            Notices({VARIABLE: f"@asynqueue-test-{os.getpid()}"}).ready("one\ntwo")
            self.assertEqual(manager.recv(100), b"READY=1\nSTATUS=one")

    def test_options(self) -> None:
        """
        Errors name options, not keywords.
        """
        self.assertEqual(as_options("pass insecure_root=True, or x=True"), "pass --insecure-root, or x=True")
        self.assertEqual(as_options("insecure_one_way_tls=True"), "--insecure-one-way-tls")
