"""
Tests of the notes of insecure switches that servers are running with (S16).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from asynqueue.wire.admissions import FOLDER, Admission, AdmissionNote, admissionsNoted
from asynqueue.wire.endpoints import serverEndpoint
from test.wires import Recorders, WireTestCase, reactor, run

#: Writes a note, and ends without removing it when its standard input does.
PROGRAM = """
import sys
from asynqueue.wire.admissions import AdmissionNote

AdmissionNote("tcp:1", ["insecure_plaintext"]).write()
print("there", flush=True)
sys.stdin.read()
import os
os._exit(1)
"""

#: Seconds that another interpreter may take.
TIME_LIMIT = 60


class AdmissionTests(WireTestCase):
    """
    Notes, where the environment says.
    """

    def setUp(self) -> None:
        """
        Make a place for them.
        """
        super().setUp()
        self.base = self.shortFolder()
        self.runtime = self.base / "runtime"
        self.runtime.mkdir(0o700)
        self.settings = self.base / "settings"
        self.variables = {"XDG_RUNTIME_DIR": str(self.runtime), "XDG_CONFIG_HOME": str(self.settings)}
        self.patch(os, "environ", {**os.environ, **self.variables})
        self.folder = self.runtime / "asynqueue" / FOLDER

    @run
    async def test_S16_whileItListens(self) -> None:
        """
        A server has a note as long as it listens, if it does so by a switch.
        """
        server = await self.serve("tcp:0:interface=127.0.0.1", insecure_plaintext=True)
        (found,) = admissionsNoted()
        self.assertEqual((found.process, found.description), (os.getpid(), "tcp:0:interface=127.0.0.1"))
        self.assertIn("insecure_plaintext", found.switches)
        (note,) = self.folder.iterdir()
        self.assertEqual(note.stat().st_mode & 0o777, 0o600)
        for folder in (self.folder, self.folder.parent):
            self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        port: Any = server.port
        await port.stopListening()
        self.assertEqual((admissionsNoted(), list(self.folder.iterdir())), ([], []))

    @run
    async def test_S16_none(self) -> None:
        """
        One that needs no switch has none.
        """
        endpoint: Any = serverEndpoint(reactor, f"unix:{self.base}/queue", insecure_root=True)
        endpoint.noteSwitches("unix:", [])
        port = await endpoint.listen(Recorders())
        self.assertEqual((admissionsNoted(), self.folder.exists()), ([], False))
        await port.stopListening()

    def test_gone(self) -> None:
        """
        What a process has left behind that is no more does not count, and is removed by the next.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=Path(__file__).parents[1],
            env={**os.environ, **self.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "there\n")
            self.assertEqual(admissionsNoted(), [Admission(process.pid, "tcp:1", ("insecure_plaintext",))])
        finally:
            process.communicate(timeout=TIME_LIMIT)
        self.assertEqual(admissionsNoted(), [])
        self.assertEqual(len(list(self.folder.iterdir())), 1)
        note = AdmissionNote("tcp:2\nX", ["insecure_plaintext"])
        note.write()
        note.write()
        self.addCleanup(note.remove)
        self.assertEqual(len(list(self.folder.iterdir())), 1)
        self.assertEqual([each.process for each in admissionsNoted()], [os.getpid()])

    def test_elsewhere(self) -> None:
        """
        Where the first place cannot be used, there is another; where none can, the server does without.
        """
        self.folder.parent.mkdir(0o700)
        self.folder.mkdir(0o755)
        note = AdmissionNote("tcp:1", ["insecure_plaintext"])
        note.write()
        self.assertEqual(len(list((self.settings / "asynqueue" / FOLDER).iterdir())), 1)
        self.assertEqual(len(admissionsNoted()), 1)
        note.remove()
        self.assertEqual(admissionsNoted(), [])
        (self.settings / "asynqueue" / FOLDER).rmdir()
        (self.settings / "asynqueue" / FOLDER).write_text("a file", encoding="utf-8")
        events = self.watchLog()
        note.write()
        self.assertEqual(len([event for event in events if "doctor" in event.get("log_format", "")]), 1)
        note.remove()

    def test_damaged(self) -> None:
        """
        What is no note is none.
        """
        note = AdmissionNote("tcp:1", ["insecure_plaintext"])
        note.write()
        self.addCleanup(note.remove)
        (path,) = self.folder.iterdir()
        path.write_text("nothing", encoding="utf-8")
        self.assertEqual(admissionsNoted(), [])
