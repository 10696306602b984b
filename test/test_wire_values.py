"""
Tests of the values that wire security rests on: identities, fingerprints and URLs, descriptions, refusals, switches,
limits and private files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import AuthError, InsecureTransport
from asynqueue.wire.descriptions import described
from asynqueue.wire.fingerprints import ServerURL, checkedFingerprint
from asynqueue.wire.identity import LADDER, ROLES, Identity, nodeName, rolesFrom
from asynqueue.wire.limits import (
    PEERS_REMEMBERED,
    THIS_HOST,
    ConnectionCaps,
    Limits,
    Place,
    RecentEvents,
    peerOf,
)
from asynqueue.wire.privatefiles import (
    SIZE_LIMIT,
    checkPrivateFolder,
    makePrivateFolder,
    readPrivate,
    writePrivate,
)
from asynqueue.wire.refusals import ADMITTED, VERDICT_SIZE, Refusal, ofAlert, ofVerdict, ofVerification
from asynqueue.wire.switches import SWITCHES, InsecureSwitches
from asynqueue.wire.transports import hostOf

DIGITS = "0123456789abcdef" * 4


class IdentityTests(SynchronousTestCase):
    """
    Who may do what.
    """

    def test_S3_ladder(self) -> None:
        """
        Each of four roles contains those below it. The other two are contained in none, and contain none.
        """
        for role in ROLES:
            identity = Identity("gpu1", [role], "tls")
            contained = set(LADDER[: LADDER.index(role) + 1]) if role in LADDER else {role}
            self.assertEqual({other for other in ROLES if identity.may(other)}, contained, role)

    def test_nothing(self) -> None:
        """
        Whoever has no role may do nothing.
        """
        identity = Identity("gpu1", [], "tls")
        self.assertFalse(any(identity.may(role) for role in ROLES))

    def test_mistakes(self) -> None:
        """
        Unknown roles and ways are errors that say which there are; C{"code"} is no collection of roles.
        """
        identity = Identity("gpu1", ["read"], "tls")
        for wrong in (
            lambda: identity.may("root"),
            lambda: Identity("gpu1", ["root"], "tls"),
            lambda: Identity("gpu1", "code", "tls"),
            lambda: rolesFrom(["read", "write"]),
        ):
            error = self.assertRaises(ValueError, wrong)
            self.assertIn("role", str(error))
        error = self.assertRaises(ValueError, Identity, "gpu1", [], "magic")
        self.assertIn("insecure", str(error))

    def test_names(self) -> None:
        """
        The name of a node is a label of a host name.
        """
        for name in ("a", "gpu1", "gpu-1", "0", "x" * 63):
            self.assertEqual(nodeName(name), name)
        wrong: Any
        for wrong in ("", "GPU", "gpu_1", "-a", "a-", "a.b", "x" * 64, "é", "a\n", "a b", None):
            self.assertRaises(ValueError, nodeName, wrong)


class URLTests(SynchronousTestCase):
    """
    URLs of servers.
    """

    def test_roundTrip(self) -> None:
        """
        What is printed can be read.
        """
        for host in ("gpu1.example.org", "192.0.2.1", "2001:db8::1"):
            url = ServerURL(DIGITS, host, 8700)
            self.assertEqual(ServerURL.fromText(str(url)), url)
        self.assertEqual(str(ServerURL(DIGITS, "::1", 1)), f"aq://{DIGITS}@[::1]:1")

    def test_case(self) -> None:
        """
        Digits may be upper-case.
        """
        self.assertEqual(ServerURL.fromText(f"AQ://{DIGITS.upper()}@h:1/").fingerprint, DIGITS)

    def test_mistakes(self) -> None:
        """
        Each error has the URL, and says what is wrong.
        """
        for text, word in {
            "": "aq://",
            f"http://{DIGITS}@h:1": "aq://",
            "aq://h:1": "fingerprint",
            f"aq://{DIGITS[1:]}@h:1": "64",
            f"aq://{DIGITS[1:]}g@h:1": "64",
            f"aq://{DIGITS}@h": "port",
            f"aq://{DIGITS}@h:": "port",
            f"aq://{DIGITS}@h:x": "port",
            f"aq://{DIGITS}@h:0": "65535",
            f"aq://{DIGITS}@h:65536": "65535",
            f"aq://{DIGITS}@h:\u0661": "port",
            f"aq://{DIGITS}@:1": "host",
            f"aq://{DIGITS}@::1:1": "brackets",
            f"aq://{DIGITS}@h h:1": "host",
            f"aq://{DIGITS}@h\n:1": "host",
        }.items():
            error = self.assertRaises(ValueError, ServerURL.fromText, text)
            self.assertIn(word, str(error), text)
            self.assertIn(repr(text), str(error))

    @given(st.text(max_size=200))
    def test_anything(self, text: str) -> None:
        """
        Whatever it is, it is read or is a ValueError.
        """
        try:
            url = ServerURL.fromText(f"aq://{text}")
        except ValueError:
            return
        self.assertEqual(ServerURL.fromText(str(url)), url)

    def test_fingerprint(self) -> None:
        """
        Only text of 64 digits is one.
        """
        for wrong in (None, b"0" * 64, "0" * 63, DIGITS + "\n"):
            self.assertRaises(ValueError, checkedFingerprint, wrong)


class DescriptionTests(SynchronousTestCase):
    """
    Descriptions of endpoints, taken apart.
    """

    def test_parts(self) -> None:
        """
        Colons part them, an equals sign makes a name, and a backslash makes either a part of the text.
        """
        parts = described(r"AQTLS:8700:interface=\:\:1:keys=/a\=b\\c=d:")
        self.assertEqual((parts.kind, parts.arguments), ("aqtls", ("8700", "")))
        self.assertEqual(parts.keywords, {"interface": "::1", "keys": r"/a=b\c=d"})

    def test_asTwisted(self) -> None:
        """
        They are taken apart as Twisted does it.
        """
        from twisted.internet.endpoints import _parse

        for text in (r"unix:/a\:b", "tcp:80:interface=127.0.0.1", r"x:a\=b", "x:=a", "x::", "x:a=b=c"):
            arguments, keywords = _parse(text)
            parts = described(text)
            self.assertEqual([parts.kind, *parts.arguments], arguments, text)
            self.assertEqual(parts.keywords, keywords, text)

    def test_mistakes(self) -> None:
        """
        What is none is an error.
        """
        for text in ("", ":", "interface=1", "x:a=1:a=2", "x:\\"):
            self.assertRaises(ValueError, described, text)
        self.assertRaises(TypeError, described, b"unix:/a")


class RefusalTests(SynchronousTestCase):
    """
    What one end tells the other.
    """

    def test_verdicts(self) -> None:
        """
        Each refusal arrives as it was sent, as an error of either end with the same reason.
        """
        for refusal in Refusal:
            verdict = refusal.verdict()
            self.assertEqual(len(verdict), VERDICT_SIZE)
            self.assertIs(ofVerdict(verdict), refusal)
            for error in (refusal.here("the client"), refusal.there("the client")):
                self.assertIsInstance(error, AuthError)
                self.assertEqual(error.reason, refusal.word)
                self.assertIn(refusal.text, str(error))
        self.assertIsNone(ofVerdict(ADMITTED))
        self.assertEqual(len({refusal.number for refusal in Refusal}), len(Refusal))

    def test_unknown(self) -> None:
        """
        Nothing that is not known is good.
        """
        self.assertIs(ofVerdict(ADMITTED[:-1] + b"\xff"), Refusal.HANDSHAKE)
        for wrong in (b"HTTP", bytes(4), ADMITTED[::-1], ADMITTED[:3]):
            self.assertIsNotNone(ofVerdict(wrong))
        self.assertIs(ofAlert(255), Refusal.HANDSHAKE)
        self.assertIs(ofVerification(0), Refusal.BAD_CERTIFICATE)


class SwitchTests(SynchronousTestCase):
    """
    S16: insecure switches.
    """

    def test_S16_warnsOnce(self) -> None:
        """
        A switch is logged once for each place, and is listed.
        """
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        switches = InsecureSwitches()
        for where in ("tcp:1", "tcp:1", "tcp:2"):
            switches.use("insecure_plaintext", where)
        self.assertEqual(
            [(event["switch"], event["where"]) for event in events],
            [
                ("insecure_plaintext", "tcp:1"),
                ("insecure_plaintext", "tcp:2"),
            ],
        )
        self.assertEqual({event["log_level"].name for event in events}, {"warn"})
        self.assertEqual([used.where for used in switches.inUse()], ["tcp:1", "tcp:2"])
        self.assertTrue(all(used.permits for used in switches.inUse()))

    def test_names(self) -> None:
        """
        All have the beginning by which they are found; others are none.
        """
        self.assertTrue(all(name.startswith("insecure_") for name in SWITCHES))
        self.assertRaises(ValueError, InsecureSwitches().use, "secure", "tcp:1")


class LimitTests(SynchronousTestCase):
    """
    S5: how many connections there may be. Each limit at the limit, and one above it.
    """

    def setUp(self) -> None:
        """
        Make a clock.
        """
        self.clock = Clock()
        self.dropped: list[Place] = []

    def caps(self, **limits: Any) -> ConnectionCaps:
        """
        Make caps that permit everything but what is given.
        """
        everything = {"total": 10**6, "perPeer": 10**6, "unauthenticated": 10**6, "acceptsPerSecond": 10**6}
        return ConnectionCaps(Limits(**{**everything, **limits}), self.clock.seconds)

    def test_S5_defaults(self) -> None:
        """
        The limits are those that are documented.
        """
        self.assertEqual(Limits(), Limits(256, 16, 32, 10, 20, 60.0, 60.0, 4096, 5.0))
        self.assertRaises(ValueError, Limits, total=0)
        self.assertRaises(ValueError, Limits, preAuthSeconds=0)

    def accept(self, caps: ConnectionCaps, peer: str | None) -> Place | None:
        """
        Ask for a place, and return it if it was given.
        """
        place = Place(peer)
        place.drop = lambda: self.dropped.append(place)
        return place if caps.accept(place) is None else None

    def known(self, caps: ConnectionCaps, peer: str | None) -> Place:
        """
        Make a connection of which it is known whose it is.
        """
        place = self.accept(caps, peer)
        assert place is not None
        caps.authenticated(place)
        return place

    def test_S5_total(self) -> None:
        """
        From all addresses and sockets together.
        """
        caps = self.caps(total=3)
        known = [self.known(caps, peer) for peer in ("a", "b", None)]
        self.assertEqual([self.accept(caps, peer) for peer in ("c", None)], [None, None])
        caps.closed(known[0])
        self.assertIsNotNone(self.accept(caps, "c"))

    def test_S5_perPeer(self) -> None:
        """
        From one address; those of a unix socket are on this host, and not counted so.
        """
        caps = self.caps(perPeer=2)
        known = [self.known(caps, "a") for _ in range(2)]
        self.assertIsNone(self.accept(caps, "a"))
        self.assertIsNotNone(self.accept(caps, "b"))
        self.assertNotIn(None, [self.accept(caps, None) for _ in range(20)])
        caps.closed(known[0])
        self.known(caps, "a")
        self.assertIsNone(self.accept(caps, "a"))

    def test_S5_unauthenticated(self) -> None:
        """
        Of those that are not known yet: the one that came first has to go, and nobody else.
        """
        caps = self.caps(unauthenticated=2)
        first, second, third = (self.accept(caps, None) for _ in range(3))
        self.assertEqual(self.dropped, [first])
        assert first is not None
        assert second is not None
        assert third is not None
        self.assertEqual((caps.total, caps.unauthenticated), (2, 2))
        caps.authenticated(second)
        self.assertIsNotNone(self.accept(caps, None))
        self.assertEqual(self.dropped, [first])
        self.accept(caps, None)
        self.assertEqual(self.dropped, [first, third])
        # They are closed some time later, and count no more, whatever it was that they were told before.
        for place in (first, third):
            caps.closed(place)
        self.assertEqual((caps.total, caps.unauthenticated), (3, 2))

    def test_S5_makingRoom(self) -> None:
        """
        Nobody has to go who is known; who has too many takes nobody else's place; and no more are on their way out at
        once than may be unknown.
        """
        caps = self.caps(total=4, perPeer=2, unauthenticated=3)
        self.known(caps, "a")
        silent = [self.accept(caps, peer) for peer in ("b", "a", "c")]
        # All places are taken, and those of two unknown are given to others.
        self.assertIsNotNone(self.accept(caps, "a"))
        self.assertEqual(self.dropped, [silent[1]])
        self.assertIsNotNone(self.accept(caps, "d"))
        self.assertEqual(self.dropped, [silent[1], silent[0]])
        self.assertIsNotNone(self.accept(caps, "e"))
        self.assertIsNone(self.accept(caps, "f"))
        caps.closed(self.dropped[0])
        self.assertIsNotNone(self.accept(caps, "f"))
        self.assertEqual((caps.total, caps.unauthenticated), (4, 3))

    def test_S5_rate(self) -> None:
        """
        Within any second, from one address.
        """
        caps = self.caps(acceptsPerSecond=2)
        results = []
        for _ in range(6):
            results.append(self.accept(caps, "a") is not None)
            self.clock.advance(0.25)
        self.assertEqual(results, [True, True, False, False, True, True])
        self.assertIsNotNone(self.accept(caps, "b"))

    def test_S5_failures(self) -> None:
        """
        Whoever fails too often within a time is blocked for another.
        """
        caps = self.caps(failures=3, failurePeriod=60.0, block=30.0)
        for _ in range(2):
            caps.failures.failed("a")
        self.clock.advance(60)
        for _ in range(2):
            caps.failures.failed("a")
        self.assertIsNotNone(self.accept(caps, "a"))
        caps.failures.failed("a")
        self.assertIn("refused", str(caps.accept(Place("a"))))
        self.assertIsNotNone(self.accept(caps, "b"))
        self.clock.advance(29.9)
        self.assertTrue(caps.failures.isBlocked("a"))
        self.clock.advance(0.1)
        self.assertIsNotNone(self.accept(caps, "a"))
        for _ in range(100):
            caps.failures.failed(None)
        self.assertIsNotNone(self.accept(caps, None))

    def test_S5_thisHost(self) -> None:
        """
        What one process of this host does shuts out no other.
        """
        caps = self.caps(failures=3, acceptsPerSecond=2, perPeer=2)
        for _ in range(100):
            caps.failures.failed(THIS_HOST)
            self.assertIsNotNone(self.accept(caps, THIS_HOST))
        self.assertEqual(caps.total, 2)

    def test_S5_peers(self) -> None:
        """
        Who has one address of IPv6 has many, and this host has more than one.
        """
        self.assertEqual(peerOf("192.0.2.1"), "192.0.2.1")
        self.assertNotEqual(peerOf("192.0.2.1"), peerOf("192.0.2.2"))
        self.assertEqual(peerOf("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(peerOf("2001:db8:0:1::1"), peerOf("2001:db8:0:1:ffff:ffff:ffff:ffff"))
        self.assertNotEqual(peerOf("2001:db8:0:1::1"), peerOf("2001:db8:0:2::1"))
        self.assertEqual(peerOf("fe80::1%1"), peerOf("fe80::2%1"))
        for address in ("127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"):
            self.assertEqual(peerOf(address), THIS_HOST)
        self.assertEqual((peerOf("somewhere"), peerOf(None)), ("somewhere", None))

    def test_S5_memory(self) -> None:
        """
        An attacker with many addresses does not fill the memory, and refused connections leave nothing behind.
        """
        events = RecentEvents(60.0, 20, self.clock.seconds)
        for number in range(PEERS_REMEMBERED + 100):
            events.add(str(number))
        self.assertEqual(len(events), PEERS_REMEMBERED)
        self.assertEqual((events.count("0"), events.count("200")), (0, 1))
        self.clock.advance(60)
        self.assertEqual(events.count("200"), 0)
        caps = self.caps(total=1)
        self.known(caps, None)
        for number in range(100):
            self.accept(caps, str(number))
        self.assertEqual((caps.total, len(caps._perPeer)), (1, 0))
        caps = self.caps(unauthenticated=1)
        for number in range(100):
            self.accept(caps, str(number))
            for place in self.dropped:
                caps.closed(place)
            self.dropped.clear()
        self.assertEqual((caps.total, len(caps._perPeer), len(caps._leaving)), (1, 1, 0))

    def test_peers(self) -> None:
        """
        A peer is the host of an address; a unix socket has none.
        """
        self.assertEqual(hostOf(IPv4Address("TCP", "192.0.2.1", 1)), "192.0.2.1")
        for address in (UNIXAddress("/a"), UNIXAddress(None), None):
            self.assertIsNone(hostOf(address))


class PrivateFileTests(SynchronousTestCase):
    """
    Files and folders that nobody else may read or write.
    """

    def setUp(self) -> None:
        """
        Make a folder.
        """
        self.folder = Path(self.mktemp()).absolute()
        makePrivateFolder(self.folder)
        self.path = self.folder / "key"

    def test_modes(self) -> None:
        """
        Whatever the umask is, a file has 0600 and a folder 0700.
        """
        for mask in (0, 0o022, 0o777):
            old = os.umask(mask)
            try:
                makePrivateFolder(self.folder / f"inner{mask}")
                writePrivate(self.folder / f"key{mask}", b"secret")
            finally:
                os.umask(old)
            self.assertEqual(stat.S_IMODE((self.folder / f"inner{mask}").stat().st_mode), 0o700)
            self.assertEqual(stat.S_IMODE((self.folder / f"key{mask}").stat().st_mode), 0o600)
            self.assertEqual(readPrivate(self.folder / f"key{mask}"), b"secret")

    def test_replaced(self) -> None:
        """
        What is there is replaced only where that is asked for, and as a whole; no draft is left.
        """
        writePrivate(self.path, b"one")
        self.assertRaises(FileExistsError, writePrivate, self.path, b"two")
        self.assertEqual(readPrivate(self.path), b"one")
        writePrivate(self.path, b"two", replace=True)
        self.assertEqual(readPrivate(self.path), b"two")
        self.assertEqual([each.name for each in self.folder.iterdir()], ["key"])

    def test_readableByOthers(self) -> None:
        """
        Is refused, with the command that helps.
        """
        writePrivate(self.path, b"secret")
        for mode in (0o640, 0o604, 0o620, 0o602, 0o666):
            self.path.chmod(mode)
            error = self.assertRaises(InsecureTransport, readPrivate, self.path)
            self.assertIn(f"chmod 600 {self.path}", str(error))
        self.folder.chmod(0o750)
        error = self.assertRaises(InsecureTransport, checkPrivateFolder, self.folder)
        self.assertIn(f"chmod 700 {self.folder}", str(error))
        self.assertRaises(InsecureTransport, makePrivateFolder, self.folder)

    def test_links(self) -> None:
        """
        Are not followed, neither for reading nor for writing.
        """
        target = self.folder / "target"
        writePrivate(target, b"secret")
        self.path.symlink_to(target)
        self.assertRaises(InsecureTransport, readPrivate, self.path)
        self.assertRaises(FileExistsError, writePrivate, self.path, b"other")
        writePrivate(self.path, b"other", replace=True)
        self.assertEqual((readPrivate(target), readPrivate(self.path)), (b"secret", b"other"))
        link = self.folder / "link"
        link.symlink_to(self.folder)
        self.assertRaises(InsecureTransport, checkPrivateFolder, link)

    def test_otherThings(self) -> None:
        """
        A folder, a pipe and a file that is too large are no files of keys. Nothing waits for a pipe.
        """
        os.mkfifo(self.path, 0o600)
        self.assertRaises(ValueError, readPrivate, self.path)
        self.assertRaises(ValueError, readPrivate, self.folder)
        self.assertRaises(NotADirectoryError, checkPrivateFolder, self.path)
        large = self.folder / "large"
        writePrivate(large, bytes(SIZE_LIMIT + 1))
        self.assertRaises(ValueError, readPrivate, large)
        self.assertRaises(FileNotFoundError, readPrivate, self.folder / "nothing")

    def test_foreign(self) -> None:
        """
        What belongs to another user is refused.
        """
        writePrivate(self.path, b"secret")
        own = os.geteuid()
        self.patch(os, "geteuid", lambda: own + 1)
        for look in (lambda: readPrivate(self.path), lambda: checkPrivateFolder(self.folder)):
            error = self.assertRaises(InsecureTransport, look)
            self.assertIn(f"user {own}", str(error))
