"""
Tests of what stands between a connection and its protocol, over memory transports and a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import AuthError
from asynqueue.wire.challenge import Challenge
from asynqueue.wire.door import LINGER, LOOKS_MOST, RECHECK, Stage
from asynqueue.wire.identity import Identity
from asynqueue.wire.limits import Limits
from asynqueue.wire.refusals import ADMITTED, Refusal, Refused
from asynqueue.wire.threshold import ClientDoorFactory, ServerDoorFactory
from test.wires import Recorders

ADDRESS = IPv4Address("TCP", "192.0.2.1", 8700)


class Judge:
    """
    Lets in, or not, as it is told.
    """

    def __init__(self) -> None:
        self.identity = Identity("laptop", ["submit"], "tls")
        self.refusal: Refusal | None = None
        self.error: Exception | None = None

    def challenge(self, exportKey: Callable[[bytes, int], bytes | None], isServer: bool) -> Challenge | None:
        """
        Return no challenge.
        """
        return None

    def judge(self, transport: Any) -> Identity:
        """
        Let in, or not.
        """
        if self.refusal is not None:
            raise Refused(self.refusal, "a detail")
        return self.identity

    def objection(self, identity: Identity, transport: Any) -> Refusal | None:
        """
        Object, or not.
        """
        if self.error is not None:
            raise self.error
        return self.refusal


class Transport(StringTransport):
    """
    A transport that is closed as a real one is: its protocol is told.
    """

    def __init__(self) -> None:
        super().__init__(peerAddress=ADDRESS)
        self.threshold: Any = None

    def loseConnection(self) -> None:
        """
        Begin to close.
        """
        super().loseConnection()

    def abortConnection(self) -> None:
        """
        Close.
        """
        super().abortConnection()
        self.close()

    def close(self) -> None:
        """
        The connection is gone.
        """
        threshold, self.threshold = self.threshold, None
        if threshold is not None:
            threshold.connectionLost(Failure(ConnectionDone()))


class DoorTests(SynchronousTestCase):
    """
    Connections without TLS, whose ends are judged at once.
    """

    def setUp(self) -> None:
        """
        Make a clock and a judge.
        """
        self.clock = Clock()
        self.judge = Judge()
        self.protocols = Recorders()
        self.refusals: list[AuthError] = []
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def accept(self, limits: Limits | None = None) -> Transport:
        """
        Make the server's end of a connection.
        """
        self.factory = ServerDoorFactory(
            self.protocols, self.judge, self.clock, limits or Limits(), None, self.refusals.append
        )
        return self.connected(self.factory)

    def connected(self, factory: Any, address: IPv4Address = ADDRESS) -> Transport:
        """
        Make an end of a connection.
        """
        transport = Transport()
        transport.threshold = factory.buildProtocol(address)
        transport.threshold.makeConnection(transport)
        self.addCleanup(transport.close)
        return transport

    def test_server(self) -> None:
        """
        The server speaks first; the protocol is made when the client has answered, and gets what follows.
        """
        transport = self.accept()
        self.assertEqual(transport.value(), ADMITTED)
        transport.threshold.dataReceived(ADMITTED[:2])
        self.assertEqual(self.protocols.made, [])
        transport.threshold.dataReceived(ADMITTED[2:] + b"hello")
        self.assertEqual(self.protocols.made[0].received, b"hello")
        self.assertEqual(self.protocols.made[0].transport.identity, self.judge.identity)

    def test_client(self) -> None:
        """
        The client says nothing until the server has spoken.
        """
        factory = ClientDoorFactory(self.protocols, self.judge, self.clock, Limits(), None)
        transport = self.connected(factory)
        opened = transport.threshold.door.opened
        self.assertEqual((transport.value(), self.protocols.made), (b"", []))
        transport.threshold.dataReceived(ADMITTED + b"hello")
        self.assertEqual(transport.value(), ADMITTED)
        self.assertIs(self.successResultOf(opened), self.protocols.made[0])
        self.assertEqual(self.protocols.made[0].received, b"hello")

    def test_clientRefuses(self) -> None:
        """
        A client that does not like the server says why, and whoever waits is told in more detail.
        """
        self.judge.refusal = Refusal.WRONG_HOST
        factory = ClientDoorFactory(self.protocols, self.judge, self.clock, Limits(), None)
        transport = self.connected(factory)
        opened = transport.threshold.door.opened
        self.assertEqual(transport.value(), Refusal.WRONG_HOST.verdict())
        self.assertTrue(transport.disconnecting)
        transport.close()
        error = self.failureResultOf(opened, AuthError).value
        self.assertEqual(error.reason, "wrong-host")
        self.assertIn("a detail", str(error))
        self.assertIn("192.0.2.1:8700", str(error))

    def test_lingering(self) -> None:
        """
        A refused peer that does not go is cut off.
        """
        self.judge.refusal = Refusal.REVOKED
        transport = self.accept()
        self.assertEqual(transport.value(), Refusal.REVOKED.verdict())
        self.assertNotIn(b"detail", transport.value())
        transport.threshold.dataReceived(ADMITTED + b"hello")
        self.clock.advance(LINGER)
        self.assertIsNone(transport.threshold)
        self.assertEqual(([error.reason for error in self.refusals], self.protocols.made), (["revoked"], []))

    def test_S7_slow(self) -> None:
        """
        Each byte in its time is not in time.
        """
        transport = self.accept(Limits(preAuthSeconds=5.0))
        for byte in ADMITTED[:3]:
            self.clock.advance(1.6)
            transport.threshold.dataReceived(bytes([byte]))
        self.clock.advance(0.2)
        self.assertEqual(transport.value(), ADMITTED + Refusal.TOO_SLOW.verdict())
        self.clock.advance(LINGER)
        self.assertEqual(([error.reason for error in self.refusals], self.protocols.made), (["too-slow"], []))

    def test_openConnectionsHaveTime(self) -> None:
        """
        When both ends are known, there is no such limit.
        """
        self.judge.identity = Identity("uid:1", ["code"], "unix")
        transport = self.accept()
        transport.threshold.dataReceived(ADMITTED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_revokedWhileOpen(self) -> None:
        """
        A connection of a key that is revoked is cut off within five seconds, and its protocol is told.
        """
        transport = self.accept()
        transport.threshold.dataReceived(ADMITTED)
        self.clock.pump([RECHECK] * 3)
        self.assertEqual(self.refusals, [])
        self.judge.refusal = Refusal.REVOKED
        self.assertLess(RECHECK, 5)
        self.clock.advance(RECHECK)
        self.assertEqual([error.reason for error in self.refusals], ["revoked"])
        self.assertTrue(self.protocols.made[0].lost.called)

    def test_listUnreadableWhileOpen(self) -> None:
        """
        A list that cannot be read for a moment makes nobody go, and is complained about.
        """
        transport = self.accept()
        transport.threshold.dataReceived(ADMITTED)
        for _ in range(2):
            self.judge.error = OSError("no list today")
            self.clock.pump([RECHECK] * (LOOKS_MOST - 1))
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
            self.judge.error = None
            self.clock.advance(RECHECK)
        self.assertFalse(self.protocols.made[0].lost.called)
        self.judge.refusal = Refusal.REVOKED
        self.clock.advance(RECHECK)
        self.assertTrue(self.protocols.made[0].lost.called)

    def test_listStaysUnreadable(self) -> None:
        """
        One that stays away keeps nobody; who is dropped for that is not blocked when it is back.
        """
        transport = self.accept(Limits(failures=1))
        transport.threshold.dataReceived(ADMITTED)
        self.judge.error = OSError("no list today")
        self.clock.pump([RECHECK] * LOOKS_MOST)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertTrue(self.protocols.made[0].lost.called)
        self.assertEqual([error.reason for error in self.refusals], ["unsure"])
        self.connected(self.factory)

    def test_dataAfterAbort(self) -> None:
        """
        A protocol that has aborted its connection receives nothing more.
        """
        transport = self.accept()
        threshold = transport.threshold
        threshold.dataReceived(ADMITTED)
        self.protocols.made[0].transport.abortConnection()
        threshold.dataReceived(b"hello")
        self.assertEqual(self.protocols.made[0].received, b"")
        self.assertEqual(threshold.door.stage, Stage.CLOSED)

    def test_onRefusedRaises(self) -> None:
        """
        What the program's own function raises is logged, and keeps nothing from ending.
        """
        self.judge.refusal = Refusal.REVOKED
        self.factory = ServerDoorFactory(self.protocols, self.judge, self.clock, Limits(), None, lambda error: 1 / 0)
        transport = self.connected(self.factory)
        transport.close()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.factory._caps.total, 0)

    def test_noProtocol(self) -> None:
        """
        A factory may want no protocol; the connection ends.
        """
        self.protocols.buildProtocol = lambda address: None  # type: ignore[assignment,method-assign,return-value]
        transport = self.accept()
        transport.threshold.dataReceived(ADMITTED)
        self.assertIsNone(transport.threshold)

    def test_capsAreGivenBack(self) -> None:
        """
        However a connection ends, it counts no more.
        """
        limits = Limits(total=1, acceptsPerSecond=1000)
        self.judge.identity = Identity("anyone", ["submit"], "insecure")
        factory = ServerDoorFactory(self.protocols, self.judge, self.clock, limits, None)
        for end in ("open", "refused", "silent", "garbage", "crowded out"):
            self.judge.refusal = Refusal.REVOKED if end == "refused" else None
            transport = self.connected(factory)
            self.assertEqual(factory._caps.total, 1)
            if end == "open":
                transport.threshold.dataReceived(ADMITTED)
                self.assertIsNone(factory.buildProtocol(ADDRESS), "there is room for one only")
            elif end == "garbage":
                transport.threshold.dataReceived(b"garbage")
            elif end == "crowded out":
                self.connected(factory).close()
                self.assertTrue(transport.disconnecting)
            transport.close()
            self.assertEqual((factory._caps.total, factory._caps.unauthenticated), (0, 0))

    def test_S7_crowd(self) -> None:
        """
        Those who come and say nothing shut nobody out: whoever has said nothing longest makes room, and is not refused,
        which would count against honest clients, too.
        """
        limits = Limits(unauthenticated=4, acceptsPerSecond=1000)
        self.judge.identity = Identity("anyone", ["submit"], "insecure")
        factory = ServerDoorFactory(self.protocols, self.judge, self.clock, limits, None, self.refusals.append)
        friend = self.connected(factory)
        friend.threshold.dataReceived(ADMITTED)
        silent = [self.connected(factory) for _ in range(4)]
        late = self.connected(factory)
        self.assertEqual([each.disconnecting for each in silent], [True, False, False, False])
        silent[1].threshold.dataReceived(ADMITTED[:1])
        self.connected(factory)
        self.assertIsNone(silent[1].threshold, "what it has been told may never reach it")
        late.threshold.dataReceived(ADMITTED + b"hello")
        self.assertEqual(self.protocols.made[1].received, b"hello")
        self.assertFalse(self.protocols.made[0].lost.called)
        self.assertEqual(self.refusals, [])
        for transport in (friend, late):
            transport.close()

    def test_S7_nearlyOpen(self) -> None:
        """
        Who has been let in makes no room, though its verdict is still on its way.
        """
        factory = ServerDoorFactory(self.protocols, self.judge, self.clock, Limits(total=1), None)
        transport = self.connected(factory)
        self.assertIsNone(factory.buildProtocol(ADDRESS))
        transport.threshold.dataReceived(ADMITTED)
        self.assertEqual(len(self.protocols.made), 1)
        transport.close()
        self.assertEqual((factory._caps.total, factory._caps.unauthenticated), (0, 0))

    def test_blockedAfterFailures(self) -> None:
        """
        An address whose clients are refused too often is not even talked to, unless it is that of this host, which
        others have, too.
        """
        limits = Limits(failures=2, block=30.0)
        factory = ServerDoorFactory(self.protocols, self.judge, self.clock, limits, None)
        self.judge.refusal = Refusal.REVOKED
        here = IPv4Address("TCP", "127.0.0.1", 8700)
        for address in (ADDRESS, here):
            for _ in range(2):
                self.connected(factory, address).close()
        self.judge.refusal = None
        self.assertIsNone(factory.buildProtocol(ADDRESS))
        self.connected(factory, here)
        self.clock.advance(30.0)
        self.connected(factory)
