"""
Tests of mutual TLS over real sockets: who is let in, who is not, and what both ends are told (F107, F116, S2, S15).
"""

from __future__ import annotations

import contextlib  # trial has a use of its own for a name "suppress" in a module
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import trustme
from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import TLSVersion, optionsForClientTLS
from twisted.internet.task import deferLater
from zope.interface import implementer

from asynqueue.errors import KeysError
from asynqueue.wire import door, judges
from asynqueue.wire.certificates import Leaf, Use, fingerprintOfPEM
from asynqueue.wire.endpoints import clientEndpoint
from asynqueue.wire.keyoffice import KeyOffice
from asynqueue.wire.keys import Keys, TemporaryAuthority
from asynqueue.wire.limits import Limits
from asynqueue.wire.nodes import NodeList
from asynqueue.wire.refusals import ADMITTED
from asynqueue.wire.tls import TLSEnds, bareContext
from test.wires import FAR_AHEAD, LIMIT, LONG_AGO, Altered, Recorder, Recorders, Server, WireTestCase, reactor, run


def fromTrustme(name: str) -> Leaf:
    """
    Make a certificate of an authority that nobody here knows, for a node that there is.
    """
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(
        f"{name}.asynqueue.internal", key_type=trustme.KeyType.ECDSA
    )
    return Leaf(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())


@implementer(IOpenSSLClientConnectionCreator)
class NoCertificate:
    """
    The end of a client that trusts everybody, and shows no certificate.
    """

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        """
        Make the end.
        """
        from OpenSSL.SSL import Connection

        context = bareContext()
        context.set_alpn_protos([b"asynqueue"])
        return Connection(context, None)


def shakeHands(client: Any, server: Any) -> None:
    """
    Let two ends complete their handshake, without a network.
    """
    from OpenSSL.SSL import WantReadError

    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            for act in (
                one.do_handshake,
                lambda one=one: one.recv(1),
                lambda a=one, b=other: b.bio_write(a.bio_read(65536)),
            ):
                with contextlib.suppress(WantReadError):
                    act()


class TLSTestCase(WireTestCase):
    """
    A server C{gpu1} and a client C{laptop} of one authority.
    """

    def setUp(self) -> None:
        """
        Make their keys.
        """
        super().setUp()
        self.authority = TemporaryAuthority()
        self.server = self.authority.node("gpu1", ["worker"])
        self.client = self.authority.node("laptop", ["submit"])
        self.print = fingerprintOfPEM(self.server.leaf(Use.SERVER).certificate)

    def place(self, server: Server, node: str = "gpu1") -> str:
        """
        Return the description of a server.
        """
        return f"aqtls:127.0.0.1:{server.number}:node={node}"

    async def assertRefused(self, serverKeys: Any, clientKeys: Any, here: str, there: str, **options: Any) -> None:
        """
        Neither end lets the other in.

        @param here: Why, at the end of the server.
        @param there: And at that of the client.
        """
        server = await self.serve("aqtls:0", keys=serverKeys)
        error = await self.refused(self.place(server, **options), keys=clientKeys)
        await self.until(lambda: server.refusals, "the refusal at the server's end")
        self.assertEqual((server.reasons, error.reason), ([here], there))
        self.assertEqual(server.factory.made, [], "a protocol was made for a client that was not let in")


class AdmittedTests(TLSTestCase):
    """
    Whoever is let in.
    """

    @run
    async def test_byName(self) -> None:
        """
        Each end knows who the other is, by its transport.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        protocol = await self.connect(self.place(server), keys=self.client)
        await self.assertTalks(protocol)
        identity = server.factory.made[0].transport.identity
        self.assertEqual((identity.name, identity.roles, identity.how), ("laptop", {"submit"}, "tls"))
        identity = protocol.transport.identity
        self.assertEqual((identity.name, identity.roles, identity.how), ("gpu1", {"worker"}, "tls"))
        self.assertEqual(identity.fingerprint, self.print)
        self.assertEqual(server.refusals, [])

    @run
    async def test_byURL(self) -> None:
        """
        The fingerprint is enough, even where the authority is not known.
        """
        stranger = TemporaryAuthority().node("other", ["submit"])
        keys = Altered(self.client, trusted=stranger.authorities())
        server = await self.serve("aqtls:0", keys=self.server)
        protocol = await self.connect(f"aq://{self.print}@127.0.0.1:{server.number}", keys=keys)
        await self.assertTalks(protocol)
        self.assertTrue(protocol.transport.identity.may("worker"))

    @run
    async def test_exportedKeys(self) -> None:
        """
        Both ends of a connection, and no others, derive the same bytes from it.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        first = await self.connect(self.place(server), keys=self.client)
        second = await self.connect(self.place(server), keys=self.client)
        await self.until(lambda: len(server.factory.made) == 2)
        mine = [each.transport.exportKey(b"EXPORTER-test", 32) for each in (first, second)]
        theirs = [each.transport.exportKey(b"EXPORTER-test", 32) for each in server.factory.made]
        self.assertEqual(mine, theirs)
        self.assertEqual(len(set(mine)), 2)

    @run
    async def test_noStartTLS(self) -> None:
        """
        A protocol cannot begin TLS anew, nor pass open files.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        protocol = await self.connect(self.place(server), keys=self.client)
        for name in ("startTLS", "sendFileDescriptor"):
            self.assertFalse(hasattr(protocol.transport, name), name)

    def test_noResumption(self) -> None:
        """
        A session cannot be taken up again, which would pass by what is looked at in a handshake.
        """
        looked: list[int] = []

        class Looking(TLSEnds):
            def _verified(self, *args: Any) -> bool:
                looked.append(args[3])
                return super()._verified(*args)

        servers, clients = Looking(self.server), TLSEnds(self.client, "gpu1")
        session = None
        for _ in range(2):
            server, client = servers.serverConnectionForTLS(None), clients.clientConnectionForTLS(None)
            if session is not None:
                client.set_session(session)
            shakeHands(client, server)
            session = client.get_session()
        self.assertEqual(looked.count(0), 2, "the server has not looked at the client's certificate each time")

    @run
    async def test_renewedInBetween(self) -> None:
        """
        A server that goes on listening shows the certificate that it has now.
        """
        other = self.authority.node("gpu2", ["worker"])
        keys = [self.server, other]

        class Changing(Altered):
            def leaf(self, use: Use) -> Leaf:
                return keys[0].leaf(use)

        server = await self.serve("aqtls:0", keys=Changing(self.server))
        await self.connect(self.place(server), keys=self.client)
        keys.pop(0)
        await self.connect(self.place(server, "gpu2"), keys=self.client)


class KeyFolderTests(WireTestCase):
    """
    The whole way: keys in folders, descriptions, connections, and what becomes of them when the list changes.
    """

    def setUp(self) -> None:
        """
        Make the keys of a laptop, which has the authority, of a server and of a phone.
        """
        super().setUp()
        base = Path(self.mktemp()).absolute()
        base.mkdir()
        self.laptop = KeyOffice(base / "laptop")
        self.laptop.create("laptop")
        self.server = KeyOffice(base / "gpu1")
        self.server.join(self.laptop.add("gpu1", ["worker"]))
        self.phone = KeyOffice(base / "phone")
        self.phone.join(self.laptop.add("phone", ["read"]))
        self.copyList()

    def copyList(self) -> None:
        """
        Bring the list of the laptop to the server.
        """
        self.server.accept((self.laptop.folder / "nodes.json").read_bytes(), "a copy")

    @run
    async def test_revokedWhileConnected(self) -> None:
        """
        When the list changes, connections of a revoked key end, and others stay.
        """
        self.patch(door, "RECHECK", 0.05)
        server = await self.serve(f"aqtls:0:keys={self.server.folder}")
        place = f"aqtls:127.0.0.1:{server.number}:node=gpu1"
        phone = await self.connect(f"{place}:keys={self.phone.folder}")
        laptop = await self.connect(f"{place}:keys={self.laptop.folder}")
        await self.assertTalks(phone)
        self.laptop.revoke("phone")
        self.copyList()
        await phone.lost.addTimeout(LIMIT, reactor)
        self.assertEqual(server.reasons, ["revoked"])
        await self.assertTalks(laptop)
        error = await self.refused(f"{place}:keys={self.phone.folder}")
        self.assertEqual(error.reason, "revoked")

    @run
    async def test_rotatedWhileListening(self) -> None:
        """
        A server that goes on listening knows the new authority when it has the new list.
        """
        server = await self.serve(f"aqtls:0:keys={self.server.folder}")
        place = f"aqtls:127.0.0.1:{server.number}:node=gpu1"
        self.laptop.rotate()
        error = await self.refused(f"{place}:keys={self.laptop.folder}")
        self.assertEqual(error.reason, "other-authority")
        self.copyList()
        await self.connect(f"{place}:keys={self.laptop.folder}")
        await self.connect(f"{place}:keys={self.phone.folder}")
        self.server.join(self.laptop.renew("gpu1"))
        self.laptop.finishRotation()
        self.copyList()
        await self.connect(f"{place}:keys={self.laptop.folder}")
        error = await self.refused(f"{place}:keys={self.phone.folder}")
        self.assertEqual(error.reason, "other-authority")


class Changing:
    """
    The keys of a node, of which others can take the place.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.leaf = keys.leaf
        self.listed = keys.nodes()
        self.trusted = keys.authorities()

    def nodes(self) -> NodeList:
        """
        Return the list of nodes.
        """
        return self.listed

    def authorities(self) -> tuple[bytes, ...]:
        """
        Return the authorities.
        """
        return self.trusted


class StayingTests(TLSTestCase):
    """
    Who was let in stays as long as what it was let in by.
    """

    def setUp(self) -> None:
        """
        Look often.
        """
        super().setUp()
        self.patch(door, "RECHECK", 0.02)
        self.later = timedelta()
        self.patch(judges, "datetime", self)

    def now(self, zone: tzinfo) -> datetime:
        """
        Return the time, or a later one.
        """
        return datetime.now(zone) + self.later

    async def assertDropped(self, change: Callable[[Changing], None], reason: str) -> None:
        """
        A connection ends when something has changed at one end, whichever it is.
        """
        for isServer in (True, False):
            serverKeys, clientKeys = Changing(self.server), Changing(self.client)
            server = await self.serve("aqtls:0", keys=serverKeys)
            protocol = await self.connect(self.place(server), keys=clientKeys)
            await self.assertTalks(protocol)
            events = self.watchLog()
            await deferLater(reactor, 0.1)
            self.assertFalse(protocol.lost.called)
            change(serverKeys if isServer else clientKeys)
            await protocol.lost.addTimeout(LIMIT, reactor)
            await server.factory.made[0].lost
            self.assertEqual([event["reason"] for event in events if "error" in event], [reason])
            self.assertEqual(server.reasons, [reason] if isServer else [])

    @run
    async def test_notListedAnyMore(self) -> None:
        """
        A node that is on the list no longer goes.
        """

        def change(keys: Changing) -> None:
            keys.listed = NodeList()

        await self.assertDropped(change, "not-listed")

    @run
    async def test_otherRoles(self) -> None:
        """
        A node that has got other roles goes; it can come back with those.
        """

        def change(keys: Changing) -> None:
            nodes = tuple(evolve(node, roles={"read"}) for node in keys.listed.nodes)
            keys.listed = evolve(keys.listed, nodes=nodes)

        await self.assertDropped(change, "changed")

    @run
    async def test_otherAuthority(self) -> None:
        """
        A node whose authority is trusted no longer goes.
        """

        def change(keys: Changing) -> None:
            keys.trusted = TemporaryAuthority().node("other", ["read"]).authorities()

        await self.assertDropped(change, "other-authority")

    @run
    async def test_pinned(self) -> None:
        """
        A server that is known by its key needs no authority, afterwards either.
        """

        class Foreign(Altered):
            def nodes(self) -> NodeList:
                return NodeList()

            def authorities(self) -> tuple[bytes, ...]:
                return ()

        server = await self.serve("aqtls:0", keys=self.server)
        url = f"aq://{self.print}@127.0.0.1:{server.number}"
        protocol = await self.connect(url, keys=Foreign(self.client))
        await deferLater(reactor, 0.1)
        await self.assertTalks(protocol)

    @run
    async def test_expiredWhileConnected(self) -> None:
        """
        So does one whose certificate is no longer valid.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        protocol = await self.connect(self.place(server), keys=self.client)
        self.later = timedelta(days=89)
        await deferLater(reactor, 0.1)
        await self.assertTalks(protocol)
        self.later = timedelta(days=91)
        await protocol.lost.addTimeout(LIMIT, reactor)


class BadCertificateTests(TLSTestCase):
    """
    F107, S2: bad certificates, in both directions. Each end is told why, and no protocol is made.
    """

    @run
    async def test_F107_clientExpired(self) -> None:
        """
        The certificate of the client has expired.
        """
        old = self.authority.node("old", ["submit"], now=LONG_AGO)
        await self.assertRefused(self.server, old, "expired", "expired")

    @run
    async def test_F107_serverExpired(self) -> None:
        """
        That of the server has.
        """
        old = self.authority.node("old", ["worker"], now=LONG_AGO)
        await self.assertRefused(old, self.client, "expired", "expired", node="old")

    @run
    async def test_F107_clientNotYetValid(self) -> None:
        """
        The certificate of the client is not valid yet. TLS has no word for that.
        """
        early = self.authority.node("early", ["submit"], now=FAR_AHEAD)
        await self.assertRefused(self.server, early, "not-yet-valid", "bad-certificate")

    @run
    async def test_F107_serverNotYetValid(self) -> None:
        """
        That of the server is not.
        """
        early = self.authority.node("early", ["worker"], now=FAR_AHEAD)
        await self.assertRefused(early, self.client, "bad-certificate", "not-yet-valid", node="early")

    @run
    async def test_F107_serverOfAnotherName(self) -> None:
        """
        The server is another node than the one that is meant.
        """
        self.authority.node("gpu2", ["worker"])
        await self.assertRefused(self.server, self.client, "wrong-host", "wrong-host", node="gpu2")

    @run
    async def test_F107_clientOfAnotherName(self) -> None:
        """
        The certificate of the client has another name than its key has on the list.
        """
        listed = self.authority.node("desktop", ["admin"]).nodes().byName("laptop")
        assert listed is not None
        renamed = NodeList(1, (type(listed)("desktop", listed.client, listed.server, ["admin"]),))

        class Renamed(Altered):
            def nodes(self) -> NodeList:
                return renamed

        keys = Altered(self.client)
        server = await self.serve("aqtls:0", keys=Renamed(self.server))
        error = await self.refused(self.place(server), keys=keys)
        self.assertEqual(error.reason, "wrong-host")

    @run
    async def test_F107_clientOfAnotherAuthority(self) -> None:
        """
        The certificate of the client is signed by somebody else.
        """
        keys = Altered(self.client, client=fromTrustme("laptop"))
        await self.assertRefused(self.server, keys, "other-authority", "other-authority")

    @run
    async def test_F107_serverOfAnotherAuthority(self) -> None:
        """
        That of the server is.
        """
        keys = Altered(self.server, server=fromTrustme("gpu1"))
        await self.assertRefused(keys, self.client, "other-authority", "other-authority")

    @run
    async def test_F107_clientWithout(self) -> None:
        """
        The client shows no certificate.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        inner = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
        protocol: Recorder = await connectProtocol(wrapClientTLS(NoCertificate(), inner), Recorder())
        await protocol.lost.addTimeout(LIMIT, reactor)
        await self.until(lambda: server.refusals)
        self.assertEqual(server.reasons, ["no-certificate"])
        self.assertEqual((server.factory.made, protocol.received), ([], b""))

    @run
    async def test_F107_clientRevoked(self) -> None:
        """
        The key of the client has been revoked.
        """
        self.authority.revoke("laptop")
        await self.assertRefused(self.server, self.client, "revoked", "revoked")

    @run
    async def test_F107_serverRevoked(self) -> None:
        """
        That of the server has.
        """
        self.authority.revoke("gpu1")
        server = await self.serve("aqtls:0", keys=self.server)
        for place in (self.place(server), f"aq://{self.print}@127.0.0.1:{server.number}"):
            error = await self.refused(place, keys=self.client)
            self.assertEqual(error.reason, "revoked")
        await self.until(lambda: len(server.refusals) == 2)
        self.assertEqual((server.reasons, server.factory.made), (["revoked", "revoked"], []))

    @run
    async def test_F107_serversCertificateAtTheClient(self) -> None:
        """
        A node that has been broken into cannot pass for a client by what it has as a server.
        """
        keys = Altered(self.client, client=self.server.leaf(Use.SERVER))
        await self.assertRefused(self.server, keys, "wrong-purpose", "wrong-purpose")

    @run
    async def test_F107_clientsCertificateAtTheServer(self) -> None:
        """
        Nor the other way round.
        """
        keys = Altered(self.server, server=self.client.leaf(Use.CLIENT))
        await self.assertRefused(keys, self.client, "wrong-purpose", "wrong-purpose")
        place = fingerprintOfPEM(self.client.leaf(Use.CLIENT).certificate)
        server = await self.serve("aqtls:0", keys=keys)
        error = await self.refused(f"aq://{place}@127.0.0.1:{server.number}", keys=self.client)
        self.assertEqual(error.reason, "wrong-purpose")

    @run
    async def test_F107_clientNotListed(self) -> None:
        """
        A certificate of the authority is not enough: the key must be on the list.
        """
        listed = self.authority.node("gpu2", []).nodes()
        gone = type(listed)(1, tuple(node for node in listed.nodes if node.name != "laptop"))

        class Shorter(Altered):
            def nodes(self) -> Any:
                return gone

        await self.assertRefused(Shorter(self.server), self.client, "not-listed", "not-listed")

    @run
    async def test_F107_otherFingerprint(self) -> None:
        """
        The server does not have the key that the URL names.
        """
        for trusted in (None, ()):
            server = await self.serve("aqtls:0", keys=self.server)
            keys = Altered(self.client, trusted=trusted)
            error = await self.refused(f"aq://{'0' * 64}@127.0.0.1:{server.number}", keys=keys)
            self.assertIn(error.reason, ("wrong-fingerprint", "other-authority"))
            await self.until(lambda server=server: server.refusals)  # type: ignore[misc]
            self.assertEqual(server.factory.made, [])

    @run
    async def test_listThatCannotBeRead(self) -> None:
        """
        Nobody is let in, and the error is logged.
        """

        class Broken(Altered):
            def nodes(self) -> Any:
                raise OSError("no list today")

        server = await self.serve("aqtls:0", keys=Broken(self.server))
        error = await self.refused(self.place(server), keys=self.client)
        self.assertEqual(error.reason, "handshake")
        self.assertEqual(server.factory.made, [])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    @run
    async def test_S2_goodClientMeanwhile(self) -> None:
        """
        Refusals do not disturb anybody else.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        good = await self.connect(self.place(server), keys=self.client)
        keys = Altered(self.client, client=fromTrustme("laptop"))
        await self.refused(self.place(server), keys=keys)
        await self.assertTalks(good)


class DowngradeTests(TLSTestCase):
    """
    F116, S15: nothing but TLS 1.3 is spoken.
    """

    async def rawly(self, server: Server, sent: bytes) -> bytes:
        """
        Send bytes to a server, and return what it answers until it closes the connection.
        """
        protocol: Recorder = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", server.number), Recorder())
        protocol.transport.write(sent)
        await protocol.lost.addTimeout(LIMIT, reactor)
        return protocol.received

    @run
    async def test_F116_plaintext(self) -> None:
        """
        A verdict, an AMP box and HTTP in plain text are refused.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        for sent in (
            ADMITTED,
            b"\0\4_ask\0\0011\0\x08_command\0\x08StartTLS\0\0",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            answer = await self.rawly(server, sent.ljust(64, b"\0"))
            self.assertNotIn(ADMITTED, answer)
        await self.until(lambda: len(server.refusals) == 3)
        self.assertEqual((set(server.reasons), server.factory.made), ({"no-tls"}, []))

    @run
    async def test_S15_TLS12(self) -> None:
        """
        TLS 1.2 is refused, whatever certificate it comes with.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        options = optionsForClientTLS(
            "gpu1.asynqueue.internal", extraCertificateOptions={"lowerMaximumSecurityTo": TLSVersion.TLSv1_2}
        )
        inner = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
        protocol: Recorder = await connectProtocol(wrapClientTLS(options, inner), Recorder())
        await protocol.lost.addTimeout(LIMIT, reactor)
        await self.until(lambda: server.refusals)
        self.assertEqual((server.reasons, server.factory.made), (["no-tls"], []))

    @run
    async def test_S15_serverWithoutTLS(self) -> None:
        """
        A client sends nothing to a server in plain text but the beginning of a handshake.
        """
        server = await self.serve("tcp:0:interface=127.0.0.1", insecure_plaintext=True)
        error = await self.refused(self.place(server), keys=self.client)
        self.assertEqual(error.reason, "no-tls")
        self.assertEqual(server.factory.made, [])

    @run
    async def test_otherProtocol(self) -> None:
        """
        Who does not name this protocol is refused, though their certificate be good.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        ends = TLSEnds(self.client, "gpu1")

        @implementer(IOpenSSLClientConnectionCreator)
        class Other:
            def clientConnectionForTLS(self, tls: Any) -> Any:
                connection = ends.clientConnectionForTLS(tls)
                connection.set_alpn_protos([b"http/1.1"])
                return connection

        inner = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
        protocol: Recorder = await connectProtocol(wrapClientTLS(Other(), inner), Recorder())
        await protocol.lost.addTimeout(LIMIT, reactor)
        await self.until(lambda: server.refusals)
        self.assertEqual((server.reasons, server.factory.made), (["other-protocol"], []))


class LimitTests(TLSTestCase):
    """
    What a server takes of those that it does not know.
    """

    @run
    async def test_silentClient(self) -> None:
        """
        Who says nothing is dropped, and nobody else is.
        """
        limits = Limits(preAuthSeconds=0.2)
        server = await self.serve("aqtls:0", keys=self.server, limits=limits)
        good = await self.connect(self.place(server), keys=self.client)
        inner = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
        silent: Recorder = await connectProtocol(inner, Recorder())
        await silent.lost.addTimeout(LIMIT, reactor)
        self.assertEqual(server.reasons, ["too-slow"])
        await self.assertTalks(good)

    @run
    async def test_talkativeClient(self) -> None:
        """
        Who sends more than a handshake takes is dropped.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        inner = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
        talkative: Recorder = await connectProtocol(inner, Recorder())
        # The beginning of a record that is as long as records may be.
        talkative.transport.write(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(5000))
        await talkative.lost.addTimeout(LIMIT, reactor)
        self.assertEqual(server.reasons, ["too-much"])

    @run
    async def test_F112_manyConnections(self) -> None:
        """
        No more connections than the limit are taken, and the next one is when there is room.
        """
        limits = Limits(perPeer=2, acceptsPerSecond=100)
        server = await self.serve("aqtls:0", keys=self.server, limits=limits)
        first = await self.connect(self.place(server), keys=self.client)
        await self.connect(self.place(server), keys=self.client)
        with self.assertRaises(ConnectionClosed):
            await self.connect(self.place(server), keys=self.client)
        first.transport.abortConnection()
        await self.until(lambda: server.factory.made[0].lost.called)
        third = await self.connect(self.place(server), keys=self.client)
        await self.assertTalks(third)

    @run
    async def test_F111_silentCrowd(self) -> None:
        """
        More who say nothing than there may be, renewed all the time, shut nobody out.
        """
        server = await self.serve("aqtls:0", keys=self.server)
        silent = Recorders()
        inner = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
        for _ in range(40):
            await inner.connect(silent)
        for _ in range(3):
            await self.assertTalks(await self.connect(self.place(server), keys=self.client))
            await inner.connect(silent)
        self.assertEqual(server.reasons, [])
        for protocol in silent.made:
            protocol.transport.abortConnection()
            await protocol.lost.addTimeout(LIMIT, reactor)

    @run
    async def test_failuresOfThisHost(self) -> None:
        """
        However often one process of this host is refused, no other is shut out.
        """
        server = await self.serve("aqtls:0", keys=self.server, limits=Limits(failures=2))
        keys = Altered(self.client, client=fromTrustme("laptop"))
        for _ in range(4):
            await self.refused(self.place(server), keys=keys)
        await self.until(lambda: len(server.refusals) == 4)
        await self.assertTalks(await self.connect(self.place(server), keys=self.client))

    @run
    async def test_cancelledConnect(self) -> None:
        """
        A connection that nobody waits for any more is closed.
        """
        silent = Recorders()
        port = reactor.listenTCP(0, silent, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        place = f"aqtls:127.0.0.1:{port.getHost().port}:node=gpu1"
        d = clientEndpoint(reactor, place, keys=self.client).connect(Recorders())
        await self.until(lambda: silent.made and silent.made[0].received)
        d.cancel()
        with self.assertRaises(CancelledError):
            await d
        await silent.made[0].lost.addTimeout(LIMIT, reactor)

    @run
    async def test_keysGone(self) -> None:
        """
        A server whose keys cannot be read lets nobody in, and does again when they can; a client says so at once.
        """
        problem: list[Exception] = []

        class Gone(Altered):
            def leaf(self, use: Use) -> Leaf:
                if problem:
                    raise problem[0]
                return super().leaf(use)

        server = await self.serve("aqtls:0", keys=Gone(self.server))
        problem.append(KeysError("no keys today"))
        with self.assertRaises(ConnectionClosed):
            await self.connect(self.place(server), keys=self.client)
        with self.assertRaises(KeysError):
            await self.connect(self.place(server), keys=Gone(self.client))
        self.assertEqual(len(self.flushLoggedErrors(KeysError)), 1)
        problem.clear()
        await self.assertTalks(await self.connect(self.place(server), keys=self.client))
