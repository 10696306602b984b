"""
Tests of which descriptions make endpoints, and which are refused (S13, S15, S16, F117).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from asynqueue.errors import InsecureTransport, KeysError
from asynqueue.wire import endpoints
from asynqueue.wire.certificates import Use
from asynqueue.wire.challenge import makeToken
from asynqueue.wire.endpoints import clientEndpoint, serverEndpoint
from asynqueue.wire.guarded import GuardedClientEndpoint, GuardedServerEndpoint
from asynqueue.wire.keyoffice import KeyOffice
from asynqueue.wire.keys import TemporaryAuthority
from asynqueue.wire.switches import InsecureSwitches
from test.wires import Recorders, WireTestCase, reactor, run

DIGITS = "0" * 64

#: Seconds that another interpreter may take.
TIME_LIMIT = 60


class PolicyTests(SynchronousTestCase):
    """
    What is refused, without any socket.
    """

    def setUp(self) -> None:
        """
        Make a reactor, keys, and a registry of switches of our own.
        """
        self.reactor = MemoryReactorClock()
        self.keys = TemporaryAuthority().node("gpu1", ["worker"])
        self.switches = InsecureSwitches()
        self.patch(endpoints, "switches", self.switches)

    def server(self, description: str, **options: Any) -> Any:
        """
        Make the endpoint of a server.
        """
        options.setdefault("insecure_root", True)
        return serverEndpoint(self.reactor, description, keys=self.keys, **options)

    def client(self, description: str, **options: Any) -> Any:
        """
        Make the endpoint of a client.
        """
        return clientEndpoint(self.reactor, description, keys=self.keys, **options)

    def listening(self, description: str, **options: Any) -> str:
        """
        Return the address on which an endpoint listens.
        """
        self.successResultOf(self.server(description, **options).listen(Recorders()))
        return str(self.reactor.tcpServers[-1][3])

    def inUse(self) -> list[str]:
        """
        Return the names of the switches in use, but for that which these tests need when root runs them.
        """
        return [used.name for used in self.switches.inUse() if used.name != "insecure_root"]

    def test_secure(self) -> None:
        """
        The secure kinds need no switch.
        """
        for description in ("unix:/run/user/1000/asynqueue/queue", "unix:address=/run/q", "aqtls:8700", "AQTLS:port=1"):
            self.assertIsInstance(self.server(description), GuardedServerEndpoint)
        for description in (
            "unix:/run/user/1000/asynqueue/queue",
            "unix:path=/run/q:timeout=5",
            "aqtls:h:1:node=gpu1",
            f"aqtls:host=h:port=1:fingerprint={DIGITS}:timeout=5",
            f"aq://{DIGITS}@h:1",
        ):
            self.assertIsInstance(self.client(description), GuardedClientEndpoint)
        self.assertEqual(self.inUse(), [])

    def test_S15_plaintext(self) -> None:
        """
        Everything else is refused, also on this host, by an error that names the switch.
        """
        for description in (
            "tcp:8700",
            "tcp:8700:interface=127.0.0.1",
            "tcp6:8700:interface=\\:\\:1",
            "systemd:domain=INET:index=0",
            "haproxy:tcp:80:interface=127.0.0.1",
            "stdio:",
            "nonsense:1",
        ):
            error = self.assertRaises(InsecureTransport, self.server, description)
            self.assertIn("insecure_plaintext=True", str(error))
        for description in ("tcp:127.0.0.1:8700", "nonsense:1"):
            error = self.assertRaises(InsecureTransport, self.client, description)
            self.assertIn("insecure_plaintext=True", str(error))
        self.assertEqual(self.inUse(), [])

    def test_S15_oneWay(self) -> None:
        """
        TLS that does not say who the client is has a switch of its own, and the other is of no use for it.
        """
        for make, descriptions in (
            (self.server, ("ssl:443", "ssl:443:interface=127.0.0.1", "tls:certs:443")),
            (self.client, ("ssl:h:443", "tls:h:443")),
        ):
            for description in descriptions:
                error = self.assertRaises(InsecureTransport, make, description, insecure_plaintext=True)
                self.assertIn("insecure_one_way_tls=True", str(error))
        self.assertRaises(InsecureTransport, self.server, "tcp:1:interface=127.0.0.1", insecure_one_way_tls=True)
        self.assertRaises(InsecureTransport, self.client, "tcp:h:1", insecure_one_way_tls=True)
        self.assertEqual(self.inUse(), [])
        self.client("tls:h:443", insecure_one_way_tls=True)
        self.assertEqual(self.inUse(), ["insecure_one_way_tls"])

    def test_S13_oneWayEverywhere(self) -> None:
        """
        Such a listener is on all addresses only where the description says so.
        """
        key = Path(self.mktemp()).absolute()
        leaf = TemporaryAuthority().node("gpu2", []).leaf(Use.SERVER)
        key.write_bytes(leaf.certificate + leaf.key)
        for address in ("", ":interface="):
            error = self.assertRaises(
                InsecureTransport, self.server, f"ssl:8700:privateKey={key}{address}", insecure_one_way_tls=True
            )
            self.assertIn("all addresses", str(error))
        self.assertEqual(self.inUse(), [])
        for address in ("127.0.0.1", "0.0.0.0"):
            endpoint = self.server(f"ssl:8700:privateKey={key}:interface={address}", insecure_one_way_tls=True)
            self.successResultOf(endpoint.listen(Recorders()))
            self.assertEqual(self.reactor.sslServers[-1][4], address)

    def test_S16_permitted(self) -> None:
        """
        With the switch they are made, and the switch is known to be in use.
        """
        self.server("tcp:8700:interface=127.0.0.1", insecure_plaintext=True)
        self.client("tcp:127.0.0.1:8700", insecure_plaintext=True)
        self.assertEqual(self.inUse(), ["insecure_plaintext"] * 2)
        # Where it is of no use, it is not.
        self.server("aqtls:8700", insecure_plaintext=True)
        self.assertRaises(ValueError, self.server, "nonsense:1", insecure_plaintext=True)
        self.assertEqual(self.inUse(), ["insecure_plaintext"] * 2)

    def test_S13_everywhere(self) -> None:
        """
        Without TLS, nothing listens on all addresses, in whatever way they are written.
        """
        for address in (None, "", "0.0.0.0", "\\:\\:", "\\:\\:0", "\\:\\:ffff\\:0.0.0.0"):
            description = "tcp:8700" if address is None else f"tcp:8700:interface={address}"
            error = self.assertRaises(InsecureTransport, self.server, description, insecure_plaintext=True)
            self.assertIn("all addresses", str(error))
        self.assertRaises(InsecureTransport, self.server, "tcp6:8700", insecure_plaintext=True)

    def test_S13_defaults(self) -> None:
        """
        With TLS, it is this host unless another address is named.
        """
        self.assertEqual(self.listening("aqtls:8700"), "127.0.0.1")
        self.assertEqual(self.listening("aqtls:8700:interface=0.0.0.0"), "0.0.0.0")

    def test_root(self) -> None:
        """
        A process of root does not listen, by whatever kind, unless a switch says so. It may connect.
        """
        self.patch(os, "geteuid", lambda: 0)
        for description in ("aqtls:8700", "unix:/run/queue", "tcp:8700:interface=127.0.0.1"):
            error = self.assertRaises(
                InsecureTransport, self.server, description, insecure_root=False, insecure_plaintext=True
            )
            self.assertIn("insecure_root=True", str(error))
        # What is wrong with the description comes first.
        self.assertRaises(ValueError, self.server, "unix:/a:/b", insecure_root=False)
        self.assertEqual(self.switches.inUse(), ())
        self.server("aqtls:8700", insecure_root=True)
        self.assertEqual([used.name for used in self.switches.inUse()], ["insecure_root"])
        self.client("aqtls:h:1:node=gpu1")
        self.patch(os, "geteuid", lambda: 1000)
        self.server("aqtls:8701", insecure_root=False)
        self.assertEqual(len(self.switches.inUse()), 1)

    def test_mistakes(self) -> None:
        """
        A wrong description is an error that has it and says what would be right.
        """
        for description, word in {
            "aqtls:": "port",
            "aqtls:x": "number",
            "aqtls:65536": "65535",
            "aqtls:1:2": "parts",
            "aqtls:1:port=2": "one port",
            "aqtls:1:certKey=x": "interface=",
            "aqtls:1:backlog=0": "backlog",
            "unix:": "unix:",
            "unix:/a:/b": "parts",
            "unix:/a:address=/b": "one path",
            f"aq://{DIGITS}@h:1": "aqtls:",
        }.items():
            error = self.assertRaises((ValueError, InsecureTransport), self.server, description)
            self.assertIn(word, str(error), description)
        for description, word in {
            "aqtls:h:1": "node=",
            "aqtls:h:node=gpu1": "a host and a port",
            "aqtls::1:node=gpu1": "a host and a port",
            "aqtls:h:0:node=gpu1": "65535",
            "aqtls:h:1:node=GPU": "node=",
            "aqtls:h:1:fingerprint=1": "fingerprint=",
            "aqtls:h:1:node=gpu1:timeout=x": "timeout",
            "aq://h:1": "fingerprint",
            "aqtoken:h:1": "token=",
        }.items():
            error = self.assertRaises(ValueError, self.client, description)
            self.assertIn(word, str(error), description)
        self.assertRaises(TypeError, self.server, b"aqtls:1")
        self.assertRaises(ValueError, self.server, "aqtls:1:keys=/x")
        self.assertRaises(ValueError, self.server, "tcp:1", insecure_plaintext=True, plaintextRoles=["root"])


class KeysTests(SynchronousTestCase):
    """
    Where keys come from.
    """

    def test_folders(self) -> None:
        """
        From the folder that the description names, or from the usual one.
        """
        base = Path(self.mktemp()).absolute()
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": str(base)})
        memory = MemoryReactorClock()
        error = self.assertRaises(KeysError, serverEndpoint, memory, "aqtls:1", insecure_root=True)
        self.assertIn(str(base / "asynqueue" / "pki"), str(error))
        KeyOffice().create("laptop")
        serverEndpoint(memory, "aqtls:1", insecure_root=True)
        clientEndpoint(memory, f"aq://{DIGITS}@h:1")
        self.assertRaises(KeysError, serverEndpoint, memory, f"aqtls:1:keys={base}/none", insecure_root=True)
        KeyOffice(base / "other").create("other")
        serverEndpoint(memory, f"aqtls:1:keys={base}/other", insecure_root=True)


class PluginTests(SynchronousTestCase):
    """
    What Twisted finds.
    """

    def setUp(self) -> None:
        """
        Make a reactor.
        """
        self.reactor: Any = MemoryReactorClock()

    def test_found(self) -> None:
        """
        Parsers of both kinds are found, for servers and for clients.
        """
        for interface in (IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor):
            found: list[Any] = list(getPlugins(interface))
            parsers = [each for each in found if each.prefix.startswith("aq")]
            self.assertEqual(sorted(parser.prefix for parser in parsers), ["aqtls", "aqtoken"])
            for parser in parsers:
                verifyObject(interface, parser)

    def test_used(self) -> None:
        """
        They make the same endpoints as our functions do, whatever is in their parts.
        """
        folder = Path(self.mktemp()).absolute().with_name("with:colon=")
        KeyOffice(folder).create("laptop")
        quoted = str(folder).replace(":", "\\:")
        text = f"aqtls:8700:interface=\\:\\:1:keys={quoted}:insecure_root=yes"
        self.assertIsInstance(serverFromString(self.reactor, text), GuardedServerEndpoint)
        text = f"aqtls:h:8700:node=gpu1:keys={quoted}"
        self.assertIsInstance(clientFromString(self.reactor, text), GuardedClientEndpoint)
        token = Path(self.mktemp()).absolute()
        makeToken(token)
        text = f"aqtoken:8700:token={token}:insecure_root=yes"
        self.assertIsInstance(serverFromString(self.reactor, text), GuardedServerEndpoint)
        text = f"aqtoken:h:8700:token={token}"
        self.assertIsInstance(clientFromString(self.reactor, text), GuardedClientEndpoint)

    def test_root(self) -> None:
        """
        The switch for root is a part of the description there.
        """
        self.patch(os, "geteuid", lambda: 0)
        token = Path(self.mktemp()).absolute()
        makeToken(token)
        self.assertRaises(InsecureTransport, serverFromString, self.reactor, f"aqtoken:8700:token={token}")

    def test_light(self) -> None:
        """
        Looking for plug-ins loads neither OpenSSL nor a reactor of ours, nor does the package of endpoints.
        """
        program = (
            "import sys\n"
            "import twisted.plugins.asynqueue_plugin\n"
            "import asynqueue.wire\n"
            "from asynqueue.wire import Identity, Limits, ServerURL, insecureSwitchesInUse\n"
            "import asynqueue.wire.challenge, asynqueue.cli.main\n"
            "heavy = {'OpenSSL', 'cryptography', 'service_identity', 'twisted.internet.reactor'} & set(sys.modules)\n"
            "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(endpoints.__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)

    def test_withoutTheExtra(self) -> None:
        """
        Where the extra is not installed, a unix socket can be used, and TLS says what to install.
        """
        program = (
            "import sys\n"
            "for name in ('OpenSSL', 'cryptography', 'service_identity'):\n"
            "    sys.modules[name] = None\n"
            "from twisted.internet.testing import MemoryReactorClock\n"
            "from asynqueue.wire import TemporaryAuthority, serverEndpoint\n"
            "reactor = MemoryReactorClock()\n"
            "serverEndpoint(reactor, 'unix:/run/queue', insecure_root=True)\n"
            "try:\n"
            "    TemporaryAuthority()\n"
            "except ImportError as error:\n"
            "    print(error)\n"
            "from asynqueue.cli.main import main\n"
            "sys.exit(main(['keys', 'init', 'laptop']) - 1)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(endpoints.__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn("asynqueue[tls]", ended.stdout)
        self.assertIn("asynqueue[tls]", ended.stderr)


class CensusTests(WireTestCase):
    """
    S13: what really listens, over real sockets.
    """

    @run
    async def test_S13_census(self) -> None:
        """
        With defaults, nothing listens but on this host or on a unix socket.
        """
        keys = TemporaryAuthority().node("gpu1", ["worker"])
        token = Path(self.mktemp()).absolute()
        makeToken(token)
        folder = self.shortFolder()
        for description in ("aqtls:0", f"aqtoken:0:token={token}", f"unix:{folder}/queue"):
            options = {"keys": keys} if description.startswith("aqtls") else {}
            server = await self.serve(description, **options)
            address: Any = server.port and server.port.getHost()
            self.assertIn(getattr(address, "host", None), ("127.0.0.1", None))

    @run
    async def test_S13_wrappedPort(self) -> None:
        """
        A kind that hides on what it listens is found out, and closed.
        """
        with self.assertRaises(InsecureTransport):
            await self.serve("haproxy:tcp:0", insecure_plaintext=True)

    @run
    async def test_plaintext(self) -> None:
        """
        With the switch, anyone is let in, as nobody in particular, with the role C{submit} only.
        """
        server = await self.serve("tcp:0:interface=127.0.0.1", insecure_plaintext=True)
        protocol = await self.connect(f"tcp:127.0.0.1:{server.number}", insecure_plaintext=True)
        await self.assertTalks(protocol)
        identity = server.factory.made[0].transport.identity
        self.assertEqual((identity.how, identity.roles), ("insecure", {"submit"}))
        self.assertFalse(identity.may("code"))

    @run
    async def test_closedWithoutAWord(self) -> None:
        """
        A server that closes the connection at once is no refusal, but a connection that was lost.
        """

        class Closing(Recorders):
            def buildProtocol(self, address: Any) -> Any:
                return None

        port = reactor.listenTCP(0, Closing(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        with self.assertRaises(ConnectionLost):
            await self.connect(f"tcp:127.0.0.1:{port.getHost().port}", insecure_plaintext=True)
