"""
Tests for L{demo.program}: whole runs of the demo.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase, TestCase

from demo.program import Program, Settings
from demo.survey import InterruptPolicy
from demo.workers import parseWorkers

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that a run may take.
TIMEOUT = 90


class ProgramTests(TestCase):
    """
    Tests for L{Program} in this process.
    """

    timeout = TIMEOUT

    async def runProgram(self, root: Path, baseline: bool = True) -> tuple[int, str]:
        from twisted.internet import reactor

        output = StringIO()
        settings = Settings(parseWorkers("async"), None, 5, baseline, InterruptPolicy.CANCEL)
        program = Program(reactor, settings, Console(file=output, width=120), root, self.fail)
        exitCode = await program.run()
        return exitCode, " ".join(output.getvalue().split())

    async def test_smallLibrary(self) -> None:
        """
        It leaves the handlers of signals as they were.
        """
        root = Path(self.mktemp())
        root.mkdir()
        (root / "good.py").write_text("def work():\n    return a or b\n", encoding="utf-8")
        (root / "bad.py").write_text("print 'old'\n", encoding="utf-8")
        before = signal.getsignal(signal.SIGINT)
        exitCode, output = await self.runProgram(root)
        self.assertEqual(signal.getsignal(signal.SIGINT), before)
        self.assertEqual(exitCode, 0)
        self.assertIn("2 files: 3 lines", output)
        self.assertIn("good.py 2 1 1 work 2", output)
        self.assertIn("1 file could not be measured", output)
        self.assertIn("AsyncWorker 1 2", output)
        self.assertIn("3 rows of functions and files", output)
        self.assertIn("one by one", output)

    async def test_noSources(self) -> None:
        """
        Where there is no source, a line says so.
        """
        exitCode, output = await self.runProgram(Path(self.mktemp()))
        self.assertEqual(exitCode, 1)
        self.assertTrue(output.startswith("There are no Python sources in"), output)


class ProcessTests(SynchronousTestCase):
    """
    Tests for C{python -m demo}.
    """

    def setUp(self) -> None:
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - it is closed by the cleanup
        self.addCleanup(self.errors.close)

    def start(self, *arguments: str, folder: str = "", own: bool = False) -> "subprocess.Popen[str]":
        """
        Start a run. When its time is up it is killed, so that reading from it never waits for longer.

        @param folder: Where it has its temporary files, unless in the usual place.
        @param own: Whether it has a process group of its own.
        """
        child = subprocess.Popen(
            [sys.executable, "-m", "demo", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONIOENCODING": "utf-8",
                "PYTHONUNBUFFERED": "1",
                **({"TMPDIR": folder} if folder else {}),
            },
            start_new_session=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
        )
        timer = threading.Timer(TIMEOUT, child.kill)
        timer.start()
        self.addCleanup(self.end, child, timer)
        return child

    def end(self, child: "subprocess.Popen[str]", timer: threading.Timer) -> None:
        timer.cancel()
        timer.join()
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()

    def finish(self, child: "subprocess.Popen[str]") -> str:
        """
        Wait for the end, and return what was printed since, as one line.
        """
        assert child.stdout is not None
        output = child.stdout.read()
        child.wait()
        self.errors.seek(0)
        self.assertEqual(self.errors.read(), "")
        return " ".join(output.split())

    def awaitLine(self, child: "subprocess.Popen[str]", beginning: str) -> None:
        """
        Read until a line begins so.
        """
        assert child.stdout is not None
        while not (line := child.stdout.readline()).startswith(beginning):
            self.assertNotEqual(line, "", f"The output ended before a line with {beginning!r}")

    def test_threads(self) -> None:
        """
        A run on threads ends by itself, with the whole report.
        """
        child = self.start("--workers", "thread:2", "--limit", "30", "--top", "3")
        output = self.finish(child)
        self.assertEqual(child.returncode, 0)
        self.assertIn("Measuring 30 files of Python", output)
        self.assertIn("The 3 modules with the most branches", output)
        self.assertIn("ThreadWorker 1", output)
        self.assertIn("ThreadWorker 2", output)
        self.assertRegex(output, r"[\d,]{3,} rows of functions and files came from them through consumers")
        lead = re.search(r"more than (\d+) rows? ahead", output)
        assert lead is not None
        self.assertLessEqual(int(lead[1]), 16)
        self.assertIn("The survey took", output)
        self.assertIn("one by one", output)
        self.assertRegex(output, r"That is [\d.]+ times the survey's time")
        self.assertNotIn("did not find the same", output)

    def test_async(self) -> None:
        child = self.start("--workers", "async:1", "--limit", "30", "--no-baseline")
        output = self.finish(child)
        self.assertEqual(child.returncode, 0)
        self.assertIn("AsyncWorker 1", output)
        self.assertNotIn("one by one", output)

    def test_wire(self) -> None:
        """
        A run on a server, whose children do the work, is like any other; neither the server nor its socket is left.
        """
        if platform.isWindows():
            self.skipTest("There are no unix sockets in Twisted on Windows")
        folder = tempfile.mkdtemp(prefix="aq")
        self.addCleanup(shutil.rmtree, folder)
        child = self.start("--workers", "wire:2", "--limit", "30", folder=folder)
        output = self.finish(child)
        self.assertEqual(child.returncode, 0)
        self.assertIn("with wire:2", output)
        self.assertRegex(output, r"WireWorker 1 3\d ")
        self.assertRegex(output, r"[\d,]{3,} rows of functions and files came from them through consumers")
        self.assertNotIn("could not be measured", output)
        self.assertNotIn("insecure", output)
        self.assertIn("unix socket", output)
        self.assertNotIn("did not find the same", output)
        self.assertEqual(os.listdir(folder), [])

    def test_wireInterrupted(self) -> None:
        """
        Ctrl-C reaches all processes of a terminal. The server goes on with the calls that may come to their ends.
        """
        if platform.isWindows():
            self.skipTest("There are no unix sockets in Twisted on Windows")
        child = self.start("--workers", "wire:1", "--interrupt-policy", "drain", "--limit", "260", own=True)
        self.awaitLine(child, "Survey: ")
        os.killpg(child.pid, signal.SIGINT)
        output = self.finish(child)
        self.assertEqual(child.returncode, 128 + signal.SIGINT)
        self.assertIn("260 of 260 files were measured, 0 were left", output)

    def test_wireCannotStart(self) -> None:
        """
        Where the server cannot be started, the reason is told.
        """
        if platform.isWindows():
            self.skipTest("There are no unix sockets in Twisted on Windows")
        folder = tempfile.mkdtemp(prefix=f"aq{'x' * 100}")
        self.addCleanup(shutil.rmtree, folder)
        child = self.start("--workers", "wire:1", "--limit", "3", folder=folder)
        output = self.finish(child)
        self.assertEqual(child.returncode, 1)
        self.assertIn("The workers could not be started: the server at unix:", output)
        self.assertIn("may have 100", output)
        self.assertEqual(os.listdir(folder), [])

    def interrupted(self, *arguments: str, number: int = signal.SIGINT) -> str:
        """
        Interrupt a survey once it has begun.
        """
        if platform.isWindows():
            self.skipTest("There is no SIGINT for one process on Windows")
        child = self.start("--workers", "thread:2", *arguments)
        self.awaitLine(child, "Survey: ")
        child.send_signal(number)
        output = self.finish(child)
        self.assertEqual(child.returncode, 128 + number)
        return output

    def test_interrupted(self) -> None:
        """
        Ctrl-C ends a run early, with a report of what has been done and of how much was left.
        """
        started = time.monotonic()
        output = self.interrupted()
        self.assertLess(time.monotonic() - started, TIMEOUT / 2)
        self.assertIn("Interrupted: waiting for the calls that run", output)
        self.assertIn("with the most branches", output)
        self.assertIn("rows of functions and files", output)
        self.assertRegex(output, r"Interrupted: [\d,]+ of [\d,]+ files were measured, [1-9][\d,]* were left\.")
        self.assertNotIn("one by one", output)

    def test_terminated(self) -> None:
        self.assertIn("were left", self.interrupted(number=signal.SIGTERM))

    def test_interruptedDraining(self) -> None:
        """
        With few files, the other policy comes to the end of them.
        """
        output = self.interrupted("--interrupt-policy", "drain", "--limit", "260")
        self.assertIn("going on with what is queued", output)
        self.assertIn("260 of 260 files were measured, 0 were left", output)

    def test_interruptedTwice(self) -> None:
        """
        A second Ctrl-C ends the process at once.
        """
        if platform.isWindows():
            self.skipTest("There is no SIGINT for one process on Windows")
        child = self.start("--workers", "thread:2", "--interrupt-policy", "drain")
        self.awaitLine(child, "Survey: ")
        child.send_signal(signal.SIGINT)
        self.awaitLine(child, "Interrupted: ")
        child.send_signal(signal.SIGINT)
        output = self.finish(child)
        self.assertEqual(child.returncode, 130)
        self.assertTrue(output.endswith("Ended at once."), output)

    def test_interruptedComparison(self) -> None:
        """
        Ctrl-C while the same is done one by one ends that, and the report of the survey is there already.
        """
        if platform.isWindows():
            self.skipTest("There is no SIGINT for one process on Windows")
        child = self.start("--workers", "thread:2", "--limit", "300")
        self.awaitLine(child, "The survey took ")
        child.send_signal(signal.SIGINT)
        output = self.finish(child)
        self.assertEqual(child.returncode, 130)
        self.assertRegex(output, r"One by one: stopped after \d+ files")
