"""
What the tests of commands share: programs that are started, and what they write.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

import asynqueue

#: Seconds that a program may take, and anything else in a test that fails.
TIME_LIMIT = 30

#: Where the tests are run by root.
ROOT = ["--insecure-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []

MODULE = """
    import os, time
    from asynqueue.wire import expose

    @expose("add")
    def add(one, other):
        return one + other

    @expose("slow")
    def slow(seconds):
        time.sleep(seconds)
        return os.environ.get("NOTIFY_SOCKET", "none")
"""


class CommandMixin:
    """
    A folder of its own, and programs that are started in it.
    """

    addCleanup: Any
    assertEqual: Any

    def makeFolder(self) -> Path:
        """
        Make a folder with a short name that has a module, and will have a socket.
        """
        folder = self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="aq")))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        (folder / "thumbs.py").write_text(dedent(MODULE), encoding="utf-8")
        self.description = f"unix:{folder}/queue"
        return folder

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """
        Start a program in the folder: C{python -m} with these arguments. It is killed when its time is up.
        """
        program = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(asynqueue.__file__).parents[1]), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.bound(program)
        return program

    def bound(self, program: subprocess.Popen[str]) -> None:
        """
        Kill a program when its time is up, or the test ends.
        """
        timer = threading.Timer(TIME_LIMIT, program.kill)
        timer.start()
        self.addCleanup(self._end, program, timer)

    def _end(self, program: subprocess.Popen[str], timer: threading.Timer) -> None:
        timer.cancel()
        timer.join()
        program.kill()
        program.communicate()

    def worker(self, *arguments: str, told: str = "", **variables: str) -> subprocess.Popen[str]:
        """
        Start C{asynqueue worker}, and wait until it listens.

        @param told: What it tells then, if not the description alone.
        """
        command = ["asynqueue", "worker", "--listen", self.description, *ROOT, "--import", "thumbs", *arguments]
        program = self.start(*command, **variables)
        self.assertEqual(self.line(program), f"listening on {told or self.description}\n")
        return program

    def line(self, program: subprocess.Popen[str]) -> str:
        """
        Return the next line of standard output; if there is none, what standard error has.
        """
        assert program.stdout is not None
        assert program.stderr is not None
        return program.stdout.readline() or program.stderr.read()

    def ended(self, program: subprocess.Popen[str]) -> tuple[int, str, str]:
        """
        Return the exit code, and what was written.
        """
        output, errors = program.communicate(timeout=TIME_LIMIT)
        return program.returncode, output, errors
