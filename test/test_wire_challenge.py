"""
Tests of the token challenge, without a network and with one (F108, S8).
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import InsecureTransport, KeysError
from asynqueue.wire.challenge import BINDING_SIZE, TOKEN_SIZE, Challenge, makeToken, readToken
from asynqueue.wire.keys import TemporaryAuthority
from asynqueue.wire.refusals import Refusal, Refused
from test.wires import WireTestCase, run

TOKEN = bytes(range(TOKEN_SIZE))
BINDING = b"b" * BINDING_SIZE


def pair(token: bytes = TOKEN, binding: bytes = BINDING) -> tuple[Challenge, Challenge]:
    """
    Make the ends of a client, with the token and the connection of the tests, and of a server.
    """
    return Challenge(TOKEN, BINDING, isServer=False), Challenge(token, binding, isServer=True)


class ChallengeTests(SynchronousTestCase):
    """
    The exchange itself.
    """

    def assertRefuses(self, end: Challenge, data: bytes, refusal: Refusal = Refusal.WRONG_TOKEN) -> None:
        """
        An end does not accept something, nor anything after it.
        """
        error = self.assertRaises(Refused, end.receive, data)
        self.assertIs(error.refusal, refusal)
        self.assertFalse(end.isDone)
        self.assertRaises(Refused, end.receive, data)
        self.assertFalse(end.isDone)

    def exchange(self, client: Challenge, server: Challenge) -> list[bytes]:
        """
        Let two ends talk, and return what was said.
        """
        first = client.begin()
        self.assertEqual(server.begin(), b"")
        second = server.receive(first)
        third = client.receive(second)
        self.assertEqual(server.receive(third), b"")
        return [first, second, third]

    def test_agreed(self) -> None:
        """
        Both know that the other has the token.
        """
        client, server = pair()
        said = self.exchange(client, server)
        self.assertTrue(client.isDone and server.isDone)
        self.assertEqual([len(each) for each in said], [36, 64, 32])
        self.assertFalse(any(TOKEN in each or TOKEN.hex().encode() in each for each in said))

    def test_F108_wrongToken(self) -> None:
        """
        The client finds out first, and tells a server that does not know the token nothing.
        """
        client, server = pair(token=b"x" * TOKEN_SIZE)
        self.assertRefuses(client, server.receive(client.begin()))
        client, server = pair()
        server.receive(client.begin())
        self.assertRefuses(server, hmac.digest(b"x" * TOKEN_SIZE, b"anything", "sha256"))

    def test_S8_otherConnection(self) -> None:
        """
        Whoever sits in between, with one TLS connection to each, can pass nothing on.
        """
        client, server = pair(binding=b"c" * BINDING_SIZE)
        self.assertRefuses(client, server.receive(client.begin()))

    def test_S8_replay(self) -> None:
        """
        What was said once is wrong the next time, at either end.
        """
        first, second, third = self.exchange(*pair())
        client, server = pair()
        client.begin()
        self.assertRefuses(client, second)
        server.receive(first)
        self.assertRefuses(server, third)

    def test_S8_reflection(self) -> None:
        """
        An end does not accept what it has said itself, or what another of its kind has.
        """
        client, server = pair()
        first = client.begin()
        self.assertRefuses(client, first[4:] + first[4:])
        client, server = pair()
        answer = server.receive(client.begin())
        self.assertRefuses(server, answer[32:])
        client, server = pair()
        other = Challenge(TOKEN, BINDING, isServer=True)
        server.receive(client.begin())
        self.assertRefuses(server, other.receive(client.begin())[32:])
        # A client that takes the chance of the server for its own, and has the server prove what it should itself.
        client, server = pair()
        chance = server.receive(client.begin())[:32]
        helper = Challenge(TOKEN, BINDING, isServer=True)
        self.assertRefuses(server, helper.receive(b"AQT\x01" + chance)[32:])

    def test_S8_truncation(self) -> None:
        """
        A part of a message is not enough, wherever it ends.
        """
        said = self.exchange(*pair())
        for cut in range(len(said[0])):
            _, server = pair()
            self.assertEqual(server.receive(said[0][:cut]), b"")
            self.assertFalse(server.isDone)
        client, server = pair()
        answer = server.receive(client.begin())
        for number in range(len(answer) - 1):
            self.assertEqual(client.receive(answer[number : number + 1]), b"")
            self.assertFalse(client.isDone)
        proof = client.receive(answer[-1:])
        self.assertTrue(client.isDone)
        for number in range(len(proof)):
            self.assertFalse(server.isDone)
            server.receive(proof[number : number + 1])
        self.assertTrue(server.isDone)

    @given(st.integers(0, 63), st.integers(1, 255))
    def test_S8_anyByteChanged(self, place: int, change: int) -> None:
        """
        Any changed byte of either proof is found.
        """
        client, server = pair()
        answer = bytearray(server.receive(client.begin()))
        good = bytes(answer)
        answer[place] ^= change
        self.assertRaises(Refused, client.receive, bytes(answer))
        client, server = pair()
        proof = bytearray(client.receive(server.receive(client.begin())))
        proof[place % 32] ^= change
        self.assertRaises(Refused, server.receive, bytes(proof))
        self.assertEqual(len(good), 64)

    @given(st.binary(max_size=300))
    def test_garbage(self, data: bytes) -> None:
        """
        Nothing that was not made with the token is accepted, whatever it is.
        """
        for end in pair():
            end.begin()
            try:
                end.receive(data)
                end.receive(data)
            except Refused as refused:
                self.assertIn(refused.refusal, (Refusal.WRONG_TOKEN, Refusal.OTHER_PROTOCOL))
            self.assertFalse(end.isDone)

    def test_rest(self) -> None:
        """
        What follows the last message is kept.
        """
        client, server = pair()
        proof = client.receive(server.receive(client.begin()) + b"rest")
        self.assertEqual(client.rest, b"rest")
        server.receive(proof + b"more")
        self.assertEqual(server.rest, b"more")

    def test_chances(self) -> None:
        """
        No two ends begin alike.
        """
        self.assertEqual(len({pair()[0].begin() for _ in range(100)}), 100)

    def test_neverWithoutTLS(self) -> None:
        """
        There is no challenge without the bytes of a TLS connection, nor with a short token.
        """
        for token, binding in ((TOKEN, None), (TOKEN, b""), (TOKEN[1:], BINDING), (b"", BINDING)):
            self.assertRaises(ValueError, Challenge, token, binding, isServer=True)

    def test_S8_constantTime(self) -> None:
        """
        Proofs are compared by the function that takes as long for each of them. (How long is not measured.)
        """
        compared: list[Any] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        self.patch(hmac, "compare_digest", compare)
        self.exchange(*pair())
        self.assertEqual(len(compared), 2)

    def test_S14_repr(self) -> None:
        """
        Nothing shows the token.
        """
        for end in pair():
            self.assertNotIn(repr(TOKEN), repr(end))


class TokenFileTests(SynchronousTestCase):
    """
    The file of a token.
    """

    def setUp(self) -> None:
        """
        Choose a place.
        """
        self.path = Path(self.mktemp())

    def test_made(self) -> None:
        """
        A token is new each time, and overwrites nothing.
        """
        makeToken(self.path)
        self.assertEqual(len(readToken(self.path)), TOKEN_SIZE)
        self.assertRaises(FileExistsError, makeToken, self.path)
        other = Path(self.mktemp())
        makeToken(other)
        self.assertNotEqual(readToken(other), readToken(self.path))

    def test_mistakes(self) -> None:
        """
        Errors name the file, and not what is in it.
        """
        error = self.assertRaises(KeysError, readToken, self.path)
        self.assertIn("asynqueue keys token", str(error))
        for content in ("", "secret", "ab" * 31, "ab" * 33, "é"):
            self.path.write_text(content, encoding="utf-8")
            self.path.chmod(0o600)
            error = self.assertRaises(KeysError, readToken, self.path)
            self.assertIn(str(self.path), str(error))
            self.assertFalse(content and content in str(error))
        self.path.chmod(0o644)
        self.assertRaises(InsecureTransport, readToken, self.path)


class TokenEndpointTests(WireTestCase):
    """
    C{aqtoken:} over real sockets.
    """

    def setUp(self) -> None:
        """
        Make a token.
        """
        super().setUp()
        self.token = Path(self.mktemp()).absolute()
        makeToken(self.token)

    @run
    async def test_admitted(self) -> None:
        """
        Who knows the token has the roles that the server gives.
        """
        server = await self.serve(f"aqtoken:0:token={self.token}:roles=submit,code")
        protocol = await self.connect(f"aqtoken:127.0.0.1:{server.number}:token={self.token}")
        await self.assertTalks(protocol)
        identity = server.factory.made[0].transport.identity
        self.assertEqual((identity.how, identity.roles), ("token", {"submit", "code"}))
        self.assertEqual(protocol.transport.identity.roles, {"worker"})

    @run
    async def test_F108_wrongToken(self) -> None:
        """
        Both ends are told, and nothing of the token is.
        """
        events = self.watchLog()
        other = Path(self.mktemp()).absolute()
        makeToken(other)
        server = await self.serve(f"aqtoken:0:token={self.token}")
        error = await self.refused(f"aqtoken:127.0.0.1:{server.number}:token={other}")
        await self.until(lambda: server.refusals)
        self.assertEqual((error.reason, server.reasons), ("wrong-token", ["wrong-token"]))
        self.assertEqual(server.factory.made, [])
        for token in (self.token, other):
            self.assertNotIn(token.read_text().strip(), repr(events))
            self.assertNotIn(repr(readToken(token)), repr(events))

    @run
    async def test_changedToken(self) -> None:
        """
        A token that is replaced holds for the next connection.
        """
        server = await self.serve(f"aqtoken:0:token={self.token}")
        place = f"aqtoken:127.0.0.1:{server.number}:token={self.token}"
        await self.connect(place)
        self.token.unlink()
        makeToken(self.token)
        await self.connect(place)

    @run
    async def test_mixed(self) -> None:
        """
        A client with a token and a server with certificates, or reversed, refuse each other with a reason.
        """
        authority = TemporaryAuthority()
        serverKeys, clientKeys = authority.node("gpu1", ["worker"]), authority.node("laptop", ["submit"])
        byCertificate = await self.serve("aqtls:0", keys=serverKeys)
        byToken = await self.serve(f"aqtoken:0:token={self.token}")
        error = await self.refused(f"aqtls:127.0.0.1:{byToken.number}:node=gpu1", keys=clientKeys)
        self.assertEqual(error.reason, "other-authority")
        with self.assertRaises(Exception):  # noqa: B017  # the alert can be lost, when the server resets the connection
            await self.connect(f"aqtoken:127.0.0.1:{byCertificate.number}:token={self.token}")
        await self.until(lambda: byCertificate.refusals)
        self.assertEqual(byCertificate.reasons, ["no-certificate"])

    @run
    async def test_mistakes(self) -> None:
        """
        A description without a token, or with one that is missing, is an error at once.
        """
        for description, kind in (
            ("aqtoken:0", ValueError),
            (f"aqtoken:0:token={self.mktemp()}", KeysError),
            (f"aqtoken:0:token={self.token}:roles=root", ValueError),
            (f"aqtoken:0:token={self.token}:keys=/x", ValueError),
        ):
            with self.assertRaises(kind):
                await self.serve(description)
