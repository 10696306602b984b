"""
Tests of unix sockets: who can get at them, who is let in, and what they leave behind (F113, F117, S7, S9).
"""

from __future__ import annotations

import array
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from asynqueue.errors import InsecureTransport
from asynqueue.wire import unixsockets
from asynqueue.wire.endpoints import clientEndpoint
from asynqueue.wire.refusals import ADMITTED
from asynqueue.wire.transports import IIdentifiedTransport
from asynqueue.wire.unixsockets import PATH_LIMIT, checkFolders
from test.wires import LIMIT, Recorders, Server, WireTestCase, reactor, run

IS_ROOT = os.geteuid() == 0

#: A user that is on every system, and is nobody in particular.
NOBODY = 65534


class ListeningTests(WireTestCase):
    """
    Where a server listens, and where it does not.
    """

    def setUp(self) -> None:
        """
        Make a folder.
        """
        super().setUp()
        self.folder = self.shortFolder()
        self.path = self.folder / "queue"

    async def assertInsecure(self, path: Path | str, *words: str) -> None:
        """
        Neither a server nor a client has to do with a socket.

        @param words: What the error says.
        """
        with self.assertRaises(InsecureTransport) as caught:
            await self.serve(f"unix:{path}")
        for word in words:
            self.assertIn(word, str(caught.exception))

    @run
    async def test_sameUser(self) -> None:
        """
        A process of the same user is let in, with the role C{code}.
        """
        server = await self.serve(f"unix:{self.path}")
        protocol = await self.connect(f"unix:{self.path}")
        await self.assertTalks(protocol)
        for transport in (protocol.transport, server.factory.made[0].transport):
            verifyObject(IIdentifiedTransport, transport)
            self.assertEqual((transport.identity.name, transport.identity.how), (f"uid:{os.geteuid()}", "unix"))
            self.assertTrue(transport.identity.may("code"))
            self.assertIsNone(transport.exportKey(b"EXPORTER-test", 32))

    @run
    async def test_S9_modes(self) -> None:
        """
        The socket has the mode 0600, and a folder that is made for it 0700, whatever the umask is.
        """
        self.addCleanup(os.umask, os.umask(0))
        path = self.folder / "new" / "queue"
        await self.serve(f"unix:{path}")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)

    @run
    async def test_S9_foldersOfOthers(self) -> None:
        """
        A folder that others can read, or write to, is refused, and so is what is in one that they could replace.
        """
        for mode in (0o777, 0o770, 0o755, 0o701):
            os.chmod(self.folder, mode)
            await self.assertInsecure(self.path, str(self.folder), f"{mode:04o}", "chmod 700")
        inner = self.folder / "inner"
        inner.mkdir(0o700)
        os.chmod(self.folder, 0o777)
        await self.assertInsecure(inner / "queue", str(self.folder), "chmod go-w")

    @run
    async def test_S9_links(self) -> None:
        """
        A folder that is a symbolic link is refused, and so is a link in the place of the socket or of its lock.
        """
        link = self.folder.with_name(f"{self.folder.name}-link")
        link.symlink_to(self.folder)
        self.addCleanup(link.unlink)
        await self.assertInsecure(link / "queue", "symbolic link")
        self.path.symlink_to(self.folder / "elsewhere")
        await self.assertInsecure(self.path, "not a unix socket")
        other = self.folder / "other"
        other.with_name("other.flock").symlink_to(self.folder / "elsewhere")
        with self.assertRaises(OSError):
            await self.serve(f"unix:{other}")
        self.assertFalse((self.folder / "elsewhere").exists())

    @run
    async def test_S9_linksAbove(self) -> None:
        """
        What was looked at is what is used, wherever a link above the folder points to in the meantime.
        """
        real, other = self.folder / "real", self.folder / "other"
        for base in (real, other):
            (base / "inner").mkdir(0o700, parents=True)
        link = self.folder / "link"
        link.symlink_to(real)

        def turned(folder: Path) -> None:
            checkFolders(folder)
            link.unlink()
            link.symlink_to(other)

        self.patch(unixsockets, "checkFolders", turned)
        await self.serve(f"unix:{link}/inner/queue")
        self.assertTrue((real / "inner" / "queue").is_socket())
        self.assertEqual(list((other / "inner").iterdir()), [])
        # A client looks where the link points to when it connects.
        endpoint = clientEndpoint(reactor, f"unix:{link}/inner/queue")
        link.unlink()
        link.symlink_to(real)
        protocol: Any = await endpoint.connect(Recorders())
        await self.assertTalks(protocol)
        await self.disconnect(protocol)  # type: ignore[misc]

    @run
    async def test_F117_paths(self) -> None:
        """
        A path that is too long is refused, one that just fits is not, and neither is there a socket without a path.
        """
        room = PATH_LIMIT - len(os.fsencode(self.folder)) - 1
        await self.assertInsecure(self.folder / ("x" * (room + 1)), str(PATH_LIMIT))
        path = self.folder / ("x" * room)
        await self.serve(f"unix:{path}")
        await self.assertTalks(await self.connect(f"unix:{path}"))
        for name in ("@queue", "\0queue", ""):
            await self.assertInsecure(name, "file system")

    @run
    async def test_S9_mode(self) -> None:
        """
        No other mode can be asked for.
        """
        await self.assertInsecure(f"{self.path}:mode=666", "mode=600")
        await self.serve(f"unix:{self.path}:mode=0600")

    @run
    async def test_F117_nothingElseIsReplaced(self) -> None:
        """
        A file in the place of the socket stays.
        """
        self.path.write_text("precious")
        await self.assertInsecure(self.path, "not replaced")
        self.assertEqual(self.path.read_text(), "precious")

    @run
    async def test_F117_staleSocket(self) -> None:
        """
        What a process left behind that was killed is removed.
        """
        program = (
            "import os, socket, sys, fcntl\n"
            "lock = open(sys.argv[1] + '.flock', 'w')\n"
            "fcntl.flock(lock, fcntl.LOCK_EX)\n"
            "listening = socket.socket(socket.AF_UNIX)\n"
            "listening.bind(sys.argv[1])\n"
            "listening.listen()\n"
            "os.kill(os.getpid(), 9)\n"
        )
        dead = subprocess.run([sys.executable, "-c", program, str(self.path)], timeout=LIMIT, check=False)
        self.assertEqual(dead.returncode, -9)
        self.assertTrue(self.path.exists())
        await self.serve(f"unix:{self.path}")
        await self.assertTalks(await self.connect(f"unix:{self.path}"))

    @run
    async def test_F117_inUse(self) -> None:
        """
        A socket that somebody listens on is left to them, with and without our lock.
        """
        await self.serve(f"unix:{self.path}")
        with self.assertRaises(CannotListenError):
            await self.serve(f"unix:{self.path}")
        await self.assertTalks(await self.connect(f"unix:{self.path}"))
        other = socket.socket(socket.AF_UNIX)
        self.addCleanup(other.close)
        other.bind(str(self.folder / "other"))
        other.listen()
        with self.assertRaises(CannotListenError):
            await self.serve(f"unix:{self.folder / 'other'}")
        self.assertTrue((self.folder / "other").exists())

    @run
    async def test_F117_socketRemoved(self) -> None:
        """
        A server whose socket has been removed stops all the same, and another can listen there.
        """
        server = await self.serve(f"unix:{self.path}")
        self.path.unlink()
        assert server.port is not None
        await server.port.stopListening()  # type: ignore[misc]
        self.assertEqual(sorted(each.name for each in self.folder.iterdir()), ["queue.flock"])
        await self.serve(f"unix:{self.path}")

    @run
    async def test_stopListening(self) -> None:
        """
        The socket is removed; stopping twice does no harm.
        """
        server = await self.serve(f"unix:{self.path}")
        assert server.port is not None
        for _ in range(2):
            await server.port.stopListening()  # type: ignore[misc]
        self.assertFalse(self.path.exists())

    @run
    async def test_nobodyListens(self) -> None:
        """
        A client gets what Twisted has for that.
        """
        with self.assertRaises(ConnectError):
            await self.connect(f"unix:{self.path}")

    @run
    async def test_clientLooksToo(self) -> None:
        """
        A client connects to no socket that others could have put there.
        """
        await self.serve(f"unix:{self.path}")
        os.chmod(self.folder, 0o777)
        with self.assertRaises(InsecureTransport):
            await self.connect(f"unix:{self.path}")
        os.chmod(self.folder, 0o700)
        (self.folder / "file").touch()
        with self.assertRaises(InsecureTransport):
            await self.connect(f"unix:{self.folder / 'file'}")

    @skipIf(not IS_ROOT, "only root can make what belongs to another user")
    @run
    async def test_S9_foreignFolder(self) -> None:
        """
        A folder, or one above it, or a socket that belongs to another user is refused.
        """
        os.chown(self.folder, NOBODY, NOBODY)
        await self.assertInsecure(self.path, f"user {NOBODY}")
        inner = self.folder / "inner"
        inner.mkdir(0o700)
        await self.assertInsecure(inner / "queue", f"user {NOBODY}")

    @run
    async def test_S9_foreignFolderAsTold(self) -> None:
        """
        The same without root: what the system tells of the folder is changed.
        """
        lstat = os.lstat

        def foreign(path: Any, **keywords: Any) -> os.stat_result:
            found = lstat(path, **keywords)
            if os.fspath(path) != os.fspath(self.folder):
                return found
            return os.stat_result((*found[:4], os.geteuid() + 1, *found[5:]))

        self.patch(os, "lstat", foreign)
        await self.assertInsecure(self.path, f"user {os.geteuid() + 1}")


class PeerTests(WireTestCase):
    """
    What a server makes of clients that are not ours.
    """

    def setUp(self) -> None:
        """
        Make a folder.
        """
        super().setUp()
        self.folder = self.shortFolder()
        self.path = self.folder / "queue"

    @skipIf(not IS_ROOT, "only root can become another user")
    @run
    async def test_S9_otherUser(self) -> None:
        """
        A process of another user, which has come by a way to the socket, is told that it is not let in.
        """
        server = await self.serve(f"unix:{self.path}")
        # As if a mistake of ours had opened the way.
        os.chmod(self.folder, 0o711)
        os.chmod(self.path, 0o666)
        client = (
            "import os, socket, sys\n"
            f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            "connection = socket.socket(socket.AF_UNIX)\n"
            "connection.connect(sys.argv[1])\n"
            "sys.stdout.buffer.write(connection.recv(100))\n"
        )
        ended = await deferToThread(
            subprocess.run,
            [sys.executable, "-c", client, str(self.path)],
            stdout=subprocess.PIPE,
            timeout=LIMIT,
            check=True,
        )
        self.assertNotIn(ADMITTED, ended.stdout)
        self.assertEqual((server.reasons, server.factory.made), (["other-user"], []))
        self.assertIn(f"user {NOBODY}", str(server.refusals[0]))

    @run
    async def test_S9_otherUserAsTold(self) -> None:
        """
        The same without root: each end believes to be another user than the system says of the other.
        """
        server = await self.serve(f"unix:{self.path}")
        own = os.geteuid()
        answers = iter([own + 1, own])
        self.patch(sys.modules["asynqueue.wire.judges"], "peerUser", lambda _: next(answers))
        error = await self.refused(f"unix:{self.path}")
        await self.until(lambda: server.refusals)
        self.assertEqual((error.reason, server.reasons, server.factory.made), ("other-user", ["other-user"], []))

    async def passing(self, count: int, server: Server | None = None) -> bytes:
        """
        Connect by hand, pass open files, and return what comes back until the connection ends. Afterwards this process
        has none of them.

        @param server: Lets the client in first.
        """
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(LIMIT)
        await deferToThread(connection.connect, str(self.path))
        received = b""
        if server is not None:
            received = await deferToThread(connection.recv, len(ADMITTED))
            connection.sendall(ADMITTED)
            await self.until(lambda: server.factory.made)
        reading, writing = os.pipe()
        files = array.array("i", [reading] * count)
        connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        os.close(reading)
        try:
            received += await deferToThread(self._drain, connection)
        except OSError as error:
            Failure(error).trap(ConnectionResetError)
        # When all ends to read from are closed, there is nobody left to write to.
        with self.assertRaises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)
        return received

    def _drain(self, connection: socket.socket) -> bytes:
        received = b""
        while data := connection.recv(100):
            received += data
        return received

    @run
    async def test_F113_filesBefore(self) -> None:
        """
        Open files that are passed instead of a verdict are closed, and so is the connection.
        """
        server = await self.serve(f"unix:{self.path}")
        for count in (1, 5):
            await self.passing(count)
        self.assertEqual((server.reasons, server.factory.made), (["descriptors"] * 2, []))

    @run
    async def test_F113_filesAfter(self) -> None:
        """
        And so they are from one who was let in.
        """
        server = await self.serve(f"unix:{self.path}")
        received = await self.passing(1, server)
        self.assertEqual(received, ADMITTED)
        self.assertEqual(server.reasons, ["descriptors"])
        self.assertEqual(server.factory.made[0].received, b"")
        self.assertTrue(server.factory.made[0].lost.called)
        await self.assertTalks(await self.connect(f"unix:{self.path}"))

    @run
    async def test_F109_garbage(self) -> None:
        """
        Whoever answers with anything but a verdict is refused.
        """
        server = await self.serve(f"unix:{self.path}")
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(LIMIT)
        await deferToThread(connection.connect, str(self.path))
        connection.sendall(b"\0\4_ask")
        await deferToThread(self._drain, connection)
        await self.until(lambda: server.refusals)
        self.assertEqual((server.reasons, server.factory.made), (["other-protocol"], []))

    @run
    async def test_clientOfAForeignServer(self) -> None:
        """
        A client says nothing to a server that does not speak this protocol.
        """

        class Greeting(Recorders):
            def buildProtocol(self, address: Any) -> Any:
                protocol = super().buildProtocol(address)
                protocol.connectionMade = lambda: protocol.transport.write(b"220 smtp\r\n")  # type: ignore[method-assign]
                return protocol

        factory = Greeting()
        port = await UNIXServerEndpoint(reactor, str(self.path), mode=0o600).listen(factory)
        self.addCleanup(port.stopListening)
        error = await self.refused(f"unix:{self.path}")
        self.assertEqual(error.reason, "other-protocol")
        await factory.made[0].lost.addTimeout(LIMIT, reactor)
        self.assertNotIn(ADMITTED, factory.made[0].received)
