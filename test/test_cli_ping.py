"""
Tests of C{asynqueue ping} and C{asynqueue doctor}.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

import asynqueue
from asynqueue.cli.findings import BAD, Finding, Level, examine
from asynqueue.cli.main import main
from asynqueue.cli.terminal import Terminal
from asynqueue.wire.admissions import AdmissionNote
from asynqueue.wire.challenge import makeToken
from asynqueue.wire.keyoffice import KeyOffice
from asynqueue.wire.keystore import KeyStore
from asynqueue.wire.refusals import ADMITTED
from test.commands import TIME_LIMIT, CommandMixin

reactor: Any = globalReactor


class PingTests(CommandMixin, SynchronousTestCase):
    """
    The command, and a server.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        self.makeFolder()

    def failed(self, *arguments: str) -> str:
        """
        Run the command, which must fail, and return the line that says why.
        """
        code, output, errors = self.ended(self.start("asynqueue", "ping", *arguments))
        self.assertEqual((code, output, errors.count("\n")), (1, "", 1), errors)
        self.assertTrue(errors.startswith("asynqueue: "))
        return errors

    def makeKeys(self) -> None:
        """
        Make the keys of a laptop and of a server.
        """
        laptop, bundle = str(self.folder / "laptop"), str(self.folder / "gpu1.bundle")
        terminal = Terminal(StringIO(), StringIO(), {}, False)
        for arguments in (
            [laptop, "init", "laptop"],
            [laptop, "add", "gpu1", "--role", "worker", "--no-passphrase", "--output", bundle],
            [str(self.folder / "gpu1"), "join", bundle],
        ):
            self.assertEqual(main(["keys", "--folder", *arguments], terminal), 0)

    def test_unix(self) -> None:
        """
        Everything is shown that a worker would know of the server. What that calls itself cannot write to a terminal.
        """
        self.worker("--workers", "thread:3", "--name", "one\x1b[31m")
        code, output, errors = self.ended(self.start("asynqueue", "ping", self.description, "--count", "3"))
        self.assertEqual((code, errors), (0, ""))
        lines = dict(line.split(None, 1) for line in output.replace("calls itself", "calls-itself").splitlines())
        self.assertIn("known by unix, with the roles admin, code, worker", lines["other"])
        self.assertEqual(lines["calls-itself"], "one\\x1b[31m")
        self.assertEqual(lines["protocol"], "version 1")
        self.assertEqual(lines["serializer"], "pickle")
        self.assertTrue(lines["capacity"].startswith("3 calls at once"))
        self.assertRegex(lines["round"], r"^trips   3: [\d.]+ ms at least, [\d.]+ ms the median, [\d.]+ ms at most$")

    def test_tls(self) -> None:
        """
        So it is with certificates; where one end does not want the other, the line says which and why.
        """
        self.makeKeys()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = probe.getsockname()[1]
        self.description = f"aqtls:{number}:keys=gpu1"
        self.worker("--workers", "reactor", told=f"{self.description} (127.0.0.1 port {number})")
        place = f"aqtls:127.0.0.1:{number}:node=gpu1:keys=laptop"
        code, output, _ = self.ended(self.start("asynqueue", "ping", place))
        self.assertEqual(code, 0)
        self.assertIn("gpu1, known by tls, with the roles worker\n", output)
        self.assertRegex(output, r"fingerprint +[0-9a-f]{64}\n")
        self.assertIn("another node", self.failed(place.replace("node=gpu1", "node=laptop")))
        self.assertIn("submit", self.failed(place.replace("=laptop", "=gpu1")))

    def test_nobody(self) -> None:
        """
        Where no server is, or one that does not answer, a line says so.
        """
        self.assertIn("cannot be reached", self.failed(self.description))
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            place = f"tcp:127.0.0.1:{silent.getsockname()[1]}"
            self.assertIn("--insecure-plaintext", self.failed(place))
            self.assertIn("cannot be reached", self.failed(place, "--insecure-plaintext"))
            silent.listen()
            error = self.failed(place, "--insecure-plaintext", "--timeout", "1")
            self.assertIn("does not answer", error)
        self.assertIn("description", self.failed("aqtls:gpu1"))

    def test_usage(self) -> None:
        """
        Numbers that make no sense are wrong arguments.
        """
        for arguments in (["--count", "0"], ["--timeout", "0"], ["--timeout", "nan"], ["--count", "x"]):
            code, _, errors = self.ended(self.start("asynqueue", "ping", "unix:x", *arguments))
            self.assertEqual(code, 2, errors)
            self.assertIn("no whole number" if arguments[0] == "--count" else "no number of seconds", errors)


class OddServerTests(CommandMixin, TestCase):
    """
    The command, and servers that do not answer as they should.
    """

    timeout = 60

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        self.makeFolder()

    async def pinged(self, answer: bytes) -> str:
        """
        Have a server give an answer to the hello, and return the line that the command ends with.

        @param answer: What follows the tag, and ends the box.
        """

        class Odd(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                self.transport.write(ADMITTED)

            def dataReceived(self, data: bytes) -> None:
                if b"_ask" in data:
                    tag = data[data.index(b"_ask") + 6 :][:1]
                    self.transport.write(answer.replace(b"TAG", b"\x00\x01" + tag))

        port = reactor.listenTCP(0, Factory.forProtocol(Odd), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        command = ["-m", "asynqueue", "ping", f"tcp:127.0.0.1:{port.getHost().port}", "--insecure-plaintext"]
        variables = {**os.environ, "PYTHONPATH": str(Path(asynqueue.__file__).parents[1])}
        ended = getProcessOutputAndValue(sys.executable, command, variables)
        output, errors, code = await ended.addTimeout(TIME_LIMIT, reactor)
        self.assertEqual((code, output, errors.count(b"\n")), (1, b"", 1), errors)
        self.assertTrue(errors.startswith(b"asynqueue: "))
        self.assertNotIn(b"\x1b", errors)
        self.assertNotIn(b"\r", errors)
        return str(errors, "utf-8")

    async def test_oddAnswers(self) -> None:
        """
        Whatever the answer is, one line says that it is none, and nothing of it does anything to the terminal.
        """

        def box(**pairs: bytes) -> bytes:
            written = b""
            for name, value in pairs.items():
                key = name.encode()
                written += len(key).to_bytes(2, "big") + key
                written += value if value == b"TAG" else len(value).to_bytes(2, "big") + value
            return written + b"\0\0"

        whole = {"version": b"1", "node": b"n", "serializer": b"plain", "capacity": b"1", "limit": b"1"}
        odd = "\x1b[31m\r\nroot: all is well"
        for answer in (
            box(_error=b"TAG", _error_code=b"NONSENSE", _error_description=odd.encode()),
            box(_error=b"TAG", _error_code=b"UNHANDLED", _error_description=odd.encode()),
            box(_answer=b"TAG", **{name: value for name, value in whole.items() if name != "node"}),
            box(_answer=b"TAG", **{**whole, "version": b"x"}),
            box(_answer=b"TAG", **{**whole, "version": b"7", "node": odd.encode()}),
            box(_answer=b"TAG", **{**whole, "serializer": odd.encode()}),
        ):
            line = await self.pinged(answer)
            self.assertNotIn("Traceback", line)


class PackageTests(CommandMixin, SynchronousTestCase):
    """
    What the doctor says of packages.
    """

    def test_brokenExtra(self) -> None:
        """
        A package that is there and cannot be imported is wrong, and nothing else is the worse for it.
        """
        self.makeFolder()
        (self.folder / "msgpack.py").write_text("raise ImportError('half of it is missing')\n", encoding="utf-8")
        places = {"XDG_RUNTIME_DIR": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        code, output, errors = self.ended(
            self.start("asynqueue", "doctor", "--folder", f"{self.folder}/keys", **places)
        )
        self.assertEqual((code, errors), (1, ""))
        self.assertRegex(output, r"wrong +extra msgpack: is installed, but cannot be used: half of it is missing\n")
        self.assertIn("1 of ", output)


class DoctorTests(SynchronousTestCase):
    """
    What is found.
    """

    def setUp(self) -> None:
        """
        Make a folder with keys.
        """
        # A short name: there are paths of sockets in it.
        self.base = Path(os.path.realpath(tempfile.mkdtemp(prefix="aq")))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.pki = self.base / "pki"
        # Not those of servers that are running while the tests are.
        variables = {"XDG_RUNTIME_DIR": str(self.base / "run"), "XDG_CONFIG_HOME": str(self.base / "settings")}
        self.patch(os, "environ", {**os.environ, **variables})
        KeyOffice(self.pki).create("laptop")

    def bad(self, *descriptions: str, folder: Path | None = None, **keywords: Any) -> list[str]:
        """
        Return what is bad.
        """
        findings = examine(descriptions, folder or self.pki, **keywords)
        return [f"{each.level.value} {each.subject} {each.text}" for each in findings if each.level in BAD]

    def command(self, *arguments: str) -> tuple[int, str]:
        """
        Run the command.

        @return: The exit code, and what it writes.
        """
        output, errors = StringIO(), StringIO()
        code = main(["doctor", "--folder", str(self.pki), *arguments], Terminal(output, errors, {}, False))
        self.assertEqual(errors.getvalue(), "")
        return code, output.getvalue()

    def test_well(self) -> None:
        """
        Where all is well, it says so, and what it has looked at; no secret is shown.
        """
        code, output = self.command()
        self.assertEqual(code, 0)
        for word in ("OpenSSL", "Twisted", "extra tls", "certificate as a server", "0 days old", "laptop", "code"):
            self.assertIn(word, output)
        self.assertTrue(output.endswith("Nothing needs attention.\n"))
        self.assertNotIn("PRIVATE", output)

    def test_json(self) -> None:
        """
        The same can be had as JSON.
        """
        code, output = self.command("--json")
        told = json.loads(output)
        self.assertEqual((code, told["well"]), (0, True))
        self.assertLessEqual({each["level"] for each in told["findings"]}, {level.value for level in Level})
        os.chmod(self.pki, 0o755)
        code, output = self.command("--json")
        self.assertEqual((code, json.loads(output)["well"]), (1, False))

    def test_modes(self) -> None:
        """
        A folder or a file that others can read is insecure, and the text has the command that puts it right.
        """
        for path, mode in ((self.pki, 0o711), (self.pki / "nodes.json", 0o640), (self.pki / "issued", 0o750)):
            before = path.stat().st_mode & 0o777
            os.chmod(path, mode)
            (found,) = self.bad()
            self.assertTrue(found.startswith("insecure "), found)
            self.assertIn(f"chmod {before:o} {path}", found)
            os.chmod(path, before)
        self.assertEqual(self.bad(), [])

    def test_ages(self) -> None:
        """
        Certificates that are old are told, by what is to be done: nothing where the authority is.
        """

        def after(days: int) -> list[str]:
            then = datetime.now(UTC) + timedelta(days=days, hours=1)
            return self.bad(now=lambda: then)

        self.assertEqual(after(59), [])
        self.assertEqual(after(61), [])
        os.unlink(self.pki / "authority.key")
        self.assertEqual(after(59), [])
        for days, word in ((61, "61 days old"), (100, "expired"), (-2, "clock")):
            found = after(days)
            self.assertEqual(len(found), 2)
            self.assertIn(word, found[0])
        self.assertIn("keys add laptop --renew", after(61)[0])

    def test_keys(self) -> None:
        """
        Keys that are damaged, revoked or exchanged are wrong.
        """
        server, client = self.pki / "server.pem", self.pki / "client.pem"
        whole = server.read_bytes()
        server.write_bytes(client.read_bytes())
        self.assertIn("it is one as a client", self.bad()[0])
        server.write_bytes(whole)
        office = KeyOffice(self.pki)
        other = self.base / "other"
        bundle = office.add("gpu1", ["worker"])
        KeyOffice(other).join(bundle)
        self.assertEqual(self.bad(folder=other), [])
        office.revoke("gpu1")
        (other / "nodes.json").write_bytes((self.pki / "nodes.json").read_bytes())
        found = self.bad(folder=other)
        self.assertEqual(len(found), 2)
        self.assertIn("revoked", found[0])
        server.write_bytes(b"nothing")
        self.assertIn("damaged", self.bad()[0])
        server.unlink()
        self.assertIn("server.pem", self.bad()[0])
        self.assertEqual(KeyStore(other).name, "gpu1")

    def test_noKeys(self) -> None:
        """
        That there are none is wrong for endpoints that need some.
        """
        self.assertEqual(self.bad(folder=self.base / "nothing"), [])
        (found,) = self.bad(f"aqtls:8700:keys={self.base}/nothing", folder=self.base / "nothing")
        self.assertIn("keys init", found)

    def test_S16_switches(self) -> None:
        """
        Each switch that is asked for is told, with what it permits.
        """
        for found, switch in (
            (self.bad(asked={"insecure_plaintext"}), "plaintext"),
            (self.bad(asked={"insecure_one_way_tls"}), "one-way-tls"),
            (self.bad(asked={"insecure_root"}), "root"),
        ):
            self.assertEqual(len(found), 1)
            self.assertIn(f"--insecure-{switch} is asked for", found[0])
        code, output = self.command("--insecure-plaintext", "tcp:gpu1:8700")
        self.assertEqual(code, 1)
        self.assertIn("of use for tcp:gpu1:8700", output)
        self.assertIn("1 of ", output)

    def test_descriptions(self) -> None:
        """
        Descriptions are looked at as servers and clients would, and where a socket is, too.
        """
        self.assertIn("insecure tcp:gpu1:8700 ", self.bad("tcp:gpu1:8700")[0])
        self.assertIn("wrong aq://x@y:1 ", self.bad("aq://x@y:1")[0])
        self.assertIn("insecure unix:@queue ", self.bad("unix:@queue")[0])
        # Whoever is told of this is not to be told of root, too, for whom it would be just as wrong.
        for description, word in (("unix:", "path of a socket"), ("unix:a:b", "parts")):
            (found,) = self.bad(description)
            self.assertIn(word, found)
        (self.base / "open").mkdir(mode=0o755)
        self.assertIn("chmod 700", self.bad(f"unix:{self.base}/open/queue")[0])
        self.assertEqual(self.bad(f"unix:{self.base}/queue", f"unix:{self.base}/new/queue"), [])
        self.assertEqual(self.bad(f"aqtls:gpu1:8700:node=gpu1:keys={self.pki}"), [])
        self.assertEqual(os.listdir(self.base / "open"), [])

    def test_above(self) -> None:
        """
        A folder of keys that others could replace is insecure, however private it is itself.
        """
        (self.base / "shared").mkdir()
        os.chmod(self.base / "shared", 0o777)
        KeyOffice(self.base / "shared" / "pki").create("laptop")
        (found,) = self.bad(folder=self.base / "shared" / "pki")
        self.assertIn(f"chmod go-w {self.base}/shared", found)

    def test_keysOfTheFolder(self) -> None:
        """
        Endpoints that name no keys are looked at with those that the doctor was told of.
        """
        switches = {"insecure_root"}
        for description in ("aqtls:8700", "aqtls:gpu1:8700:node=gpu1", f"aq://{'0' * 64}@gpu1:8700"):
            found = [each for each in self.bad(description, asked=switches) if "asked for" not in each]
            self.assertEqual(found, [])
            found = self.bad(description, folder=self.base / "none", asked=switches)
            self.assertIn(f"there are no keys in {self.base}/none", found[0])

    def test_tokens(self) -> None:
        """
        A shared secret that is a shell is insecure; one that is good on all addresses is worth a word.
        """
        makeToken(self.base / "token")
        base = f"aqtoken:8700:token={self.base}/token"

        def found(description: str) -> list[Finding]:
            findings = examine([description], self.pki, {"insecure_root"})
            return [each for each in findings if each.subject == description]

        self.assertEqual(found(base), [])
        self.assertEqual(found(f"{base}:roles=submit,worker"), [])
        self.assertIn("shell", found(f"{base}:roles=code")[0].text)
        both = found(f"{base}:roles=code,admin:interface=0.0.0.0")
        self.assertEqual([each.level for each in both], [Level.INSECURE, Level.INSECURE, Level.NOTE])
        self.assertIn("all addresses", both[2].text)

    def test_S16_running(self) -> None:
        """
        The switches of a server that is running are told, and are no more when it has stopped.
        """
        self.assertEqual(self.bad(), [])
        note = AdmissionNote("tcp:1:interface=127.0.0.1", ["insecure_plaintext", "insecure_root"])
        note.write()
        self.addCleanup(note.remove)
        one, other = self.bad()
        self.assertIn(f"insecure --insecure-plaintext process {os.getpid()} listens at tcp:1:interface=127.0.0.1", one)
        self.assertIn("--insecure-root", other)
        self.assertEqual(self.command()[0], 1)
        note.remove()
        self.assertEqual(self.bad(), [])
