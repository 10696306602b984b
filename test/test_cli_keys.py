"""
Tests of C{asynqueue keys}.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import asynqueue
from asynqueue.cli import terminal as terminalModule
from asynqueue.cli.main import main
from asynqueue.cli.terminal import PASSPHRASE_VARIABLE, Terminal
from asynqueue.wire.certificates import Use
from asynqueue.wire.challenge import readToken
from asynqueue.wire.fingerprints import ServerURL
from asynqueue.wire.keystore import KeyStore

PASSPHRASE = "correct horse battery staple"

#: Seconds that another interpreter may take.
TIME_LIMIT = 60


class KeysCommandTests(SynchronousTestCase):
    """
    The command, in this process.
    """

    def setUp(self) -> None:
        """
        Make a folder for all files.
        """
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.output = ""
        self.errors = ""

    def keys(self, *arguments: str, folder: str = "laptop", passphrase: str = "", interactive: bool = False) -> int:
        """
        Run the command.

        @return: Its exit code.
        """
        output, errors = StringIO(), StringIO()
        variables = {PASSPHRASE_VARIABLE: passphrase} if passphrase else {}
        terminal = Terminal(output, errors, variables, interactive)
        code = main(["keys", "--folder", str(self.base / folder), *arguments], terminal)
        self.output, self.errors = output.getvalue(), errors.getvalue()
        self.assertNotIn(PASSPHRASE, self.output + self.errors)
        self.assertNotIn("PRIVATE", self.output + self.errors)
        return code

    def done(self, *arguments: str, folder: str = "laptop", passphrase: str = "") -> str:
        """
        Run the command, which must succeed, and return what it writes.
        """
        self.assertEqual(self.keys(*arguments, folder=folder, passphrase=passphrase), 0, self.errors)
        self.assertEqual(self.errors, "")
        return self.output

    def failed(self, *arguments: str, folder: str = "laptop", passphrase: str = "") -> str:
        """
        Run the command, which must fail, and return the one line that says why.
        """
        self.assertEqual(self.keys(*arguments, folder=folder, passphrase=passphrase), 1)
        self.assertEqual((self.output, self.errors.count("\n")), ("", 1))
        self.assertTrue(self.errors.startswith("asynqueue: "))
        return self.errors

    def bundle(self, name: str = "gpu1") -> str:
        """
        Return the path of a bundle.
        """
        return str(self.base / f"{name}.bundle")

    def copiedList(self) -> str:
        """
        Return the path of the list of the laptop.
        """
        return str(self.base / "laptop" / "nodes.json")

    def test_twoNodes(self) -> None:
        """
        From nothing to two nodes that know each other, and back to one.
        """
        self.assertIn("laptop", self.done("init", "laptop"))
        self.done("add", "gpu1", "--role", "worker", "--output", self.bundle(), passphrase=PASSPHRASE)
        self.assertIn("gpu1", self.done("join", self.bundle(), folder="gpu", passphrase=PASSPHRASE))
        shown = self.done("show", "--host", "gpu1.example.org", "--port", "9000", folder="gpu")
        found = re.search(r"aq://\S+", shown)
        assert found is not None
        url = ServerURL.fromText(found[0])
        self.assertEqual((url.host, url.port), ("gpu1.example.org", 9000))
        self.assertRegex(shown, r"laptop +admin, code, worker\n")
        self.assertRegex(shown, r"gpu1 +worker\n")
        self.assertIn("on another host", shown)
        self.done("revoke", "gpu1")
        self.done("join", self.copiedList(), folder="gpu")
        self.assertRegex(self.done("show", folder="gpu"), r"gpu1 +revoked\n")

    def test_rotate(self) -> None:
        """
        As the command says that it is done.
        """
        self.done("init", "laptop")
        self.done("add", "gpu1", "--role", "worker", "--no-passphrase", "--output", self.bundle())
        self.assertIn("not encrypted", self.output)
        self.done("join", self.bundle(), folder="gpu")
        self.assertIn("--finish", self.done("rotate"))
        self.done("join", self.copiedList(), folder="gpu")
        self.done("add", "gpu1", "--renew", "--output", self.bundle("renewed"))
        self.done("join", self.bundle("renewed"), folder="gpu")
        self.done("rotate", "--finish")
        self.done("join", self.copiedList(), folder="gpu")
        self.assertEqual(len(KeyStore(self.base / "gpu").authorities()), 1)
        self.assertIn("nothing to finish", self.failed("rotate", "--finish"))

    def test_S14_passphrases(self) -> None:
        """
        A passphrase comes from a file, the environment or whoever sits there; from nowhere else. Without one, nothing
        is changed.
        """
        self.done("init", "laptop")
        before = Path(self.copiedList()).read_bytes()
        error = self.failed("add", "gpu1", "--role", "worker", "--output", self.bundle())
        self.assertIn("--passphrase-file", error)
        self.failed("add", "gpu1", "--role", "worker", "--output", self.bundle(), passphrase="short")
        self.assertEqual(Path(self.copiedList()).read_bytes(), before)
        file = self.base / "passphrase"
        file.write_text(f"{PASSPHRASE}\n")
        os.chmod(file, 0o644)
        error = self.failed("add", "gpu1", "--role", "read", "--output", self.bundle(), "--passphrase-file", str(file))
        self.assertIn(f"chmod 600 {file}", error)
        os.chmod(file, 0o600)
        self.done("add", "gpu1", "--role", "worker", "--output", self.bundle(), "--passphrase-file", str(file))
        self.assertNotIn(b"PRIVATE", Path(self.bundle()).read_bytes())
        self.assertIn("passphrase", self.failed("join", self.bundle(), folder="gpu"))
        self.failed("join", self.bundle(), folder="gpu", passphrase="another passphrase")
        self.done("join", self.bundle(), "--passphrase-file", str(file), folder="gpu")
        for content in (b"\n", b"\xff\n", b"x" * (1 << 20) + b"xx"):
            file.write_bytes(content)
            self.failed("join", self.bundle(), "--passphrase-file", str(file), folder="gpu")
        file.write_text("\n")
        self.failed("add", "gpu2", "--role", "read", "--output", self.bundle("x"), "--passphrase-file", str(file))

    def test_prompt(self) -> None:
        """
        A new passphrase is asked for twice.
        """
        self.done("init", "laptop")
        answers = [PASSPHRASE, "another", PASSPHRASE, PASSPHRASE, PASSPHRASE]
        self.patch(terminalModule, "getpass", lambda prompt: answers.pop(0))
        arguments = ["add", "gpu1", "--role", "worker", "--output", self.bundle()]
        self.assertEqual(self.keys(*arguments, interactive=True), 1)
        self.assertIn("differ", self.errors)
        self.assertEqual(self.keys(*arguments, interactive=True), 0)
        self.assertEqual(self.keys("join", self.bundle(), folder="gpu", interactive=True), 0)
        self.assertEqual(answers, [])

    def test_S14_bundlesThatOthersCanRead(self) -> None:
        """
        Keys that others can read are not taken up; of those that are encrypted, it is said. What has no keys is no
        secret.
        """
        self.done("init", "laptop")
        self.done("add", "gpu1", "--role", "worker", "--no-passphrase", "--output", self.bundle())
        os.chmod(self.bundle(), 0o644)
        self.assertIn(f"chmod 600 {self.bundle()}", self.failed("join", self.bundle(), folder="gpu"))
        self.assertFalse((self.base / "gpu").exists())
        os.chmod(self.bundle(), 0o600)
        self.done("join", self.bundle(), folder="gpu")
        os.chmod(self.copiedList(), 0o644)
        self.done("join", self.copiedList(), folder="gpu")
        os.chmod(self.copiedList(), 0o600)
        self.done("add", "gpu1", "--renew", "--output", self.bundle("renewed"))
        os.chmod(self.bundle("renewed"), 0o644)
        self.done("join", self.bundle("renewed"), folder="gpu")
        self.done("add", "gpu2", "--role", "read", "--output", self.bundle("gpu2"), passphrase=PASSPHRASE)
        os.chmod(self.bundle("gpu2"), 0o640)
        self.assertEqual(self.keys("join", self.bundle("gpu2"), folder="gpu2", passphrase=PASSPHRASE), 0)
        self.assertIn(f"chmod 600 {self.bundle('gpu2')}", self.errors)
        self.assertEqual(self.errors.count("\n"), 1)

    def test_bundleFile(self) -> None:
        """
        It is private, and overwrites nothing.
        """
        self.done("init", "laptop")
        self.done("add", "gpu1", "--role", "worker", "--no-passphrase", "--output", self.bundle())
        self.assertEqual(os.stat(self.bundle()).st_mode & 0o777, 0o600)
        before = Path(self.copiedList()).read_bytes()
        self.assertIn("there already", self.failed("add", "gpu2", "--role", "read", "--output", self.bundle()))
        self.assertIn(
            "no folder", self.failed("add", "gpu2", "--role", "read", "--output", str(self.base / "no" / "x"))
        )
        self.assertEqual(Path(self.copiedList()).read_bytes(), before)

    def test_mistakes(self) -> None:
        """
        Each is one line that says what would be right.
        """
        self.assertIn("keys init", self.failed("show"))
        self.assertIn("GPU", self.failed("init", "GPU"))
        self.done("init", "laptop")
        self.assertIn("already", self.failed("init", "laptop"))
        self.assertIn("--role", self.failed("add", "gpu1", "--no-passphrase"))
        self.assertIn("worker", self.failed("add", "gpu1", "--role", "root", "--no-passphrase"))
        self.assertIn("--renew", self.failed("add", "laptop", "--role", "read", "--renew"))
        self.assertIn("gpu1", self.failed("revoke", "gpu1"))
        garbage = self.base / "garbage"
        garbage.write_text("secret")
        self.assertIn("no bundle", self.failed("join", str(garbage), folder="gpu"))
        self.assertIn("nothing.bundle", self.failed("join", str(self.base / "nothing.bundle"), folder="gpu"))

    def test_plainErrors(self) -> None:
        """
        What the system has to say is said without its numbers.
        """
        self.assertIn("is a folder", self.failed("join", str(self.base)))
        error = self.failed("join", str(self.base / "nothing\x1b[1m"))
        self.assertIn("nothing\\x1b[1m: No such file or directory", error)
        self.assertNotIn("Errno", error)

    def test_nameOfTheHost(self) -> None:
        """
        Where no name is passed, it is that of the host, if that can be one.
        """
        self.patch(sys.modules["asynqueue.cli.keys"].socket, "gethostname", lambda: "Desk-1.example.org")
        self.assertIn("desk-1", self.done("init"))
        self.patch(sys.modules["asynqueue.cli.keys"].socket, "gethostname", lambda: "my_host")
        self.assertIn("my_host", self.failed("init", folder="other"))

    def test_token(self) -> None:
        """
        A token is written to a file, and shown nowhere.
        """
        path = self.base / "token"
        written = self.done("token", str(path))
        self.assertNotIn(readToken(path).hex(), written)
        self.assertIn(str(path), self.failed("token", str(path)))

    def test_show(self) -> None:
        """
        The keys that are shown are those that there are.
        """
        from asynqueue.wire.certificates import fingerprintOfPEM

        self.done("init", "laptop")
        certificate = KeyStore(self.base / "laptop").leaf(Use.SERVER).certificate
        self.assertIn(f"aq://{fingerprintOfPEM(certificate)}@h:8700", self.done("show", "--host", "h"))


class ProgramTests(SynchronousTestCase):
    """
    The command as a program.
    """

    def asynqueue(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """
        Run it.
        """
        return subprocess.run(
            [sys.executable, "-m", "asynqueue", *arguments],
            cwd=Path(asynqueue.__file__).parents[1],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )

    def test_module(self) -> None:
        """
        C{python -m asynqueue} is the command.
        """
        folder = str(Path(self.mktemp()).absolute())
        self.assertEqual(self.asynqueue("keys", "--folder", folder, "init", "laptop").returncode, 0)
        ended = self.asynqueue("keys", "--folder", folder, "init", "laptop")
        self.assertEqual((ended.returncode, ended.stdout), (1, ""))
        self.assertEqual(ended.stderr.count("\n"), 1)

    def test_help(self) -> None:
        """
        It helps; wrong arguments are told from what could not be done.
        """
        self.assertIn("keys", self.asynqueue("--help").stdout)
        for verb in ("init", "add", "join", "show", "revoke", "rotate", "token"):
            self.assertIn(verb, self.asynqueue("keys", "--help").stdout)
        self.assertEqual(self.asynqueue("nothing").returncode, 2)
        self.assertIn("asynqueue", self.asynqueue("--version").stdout)
