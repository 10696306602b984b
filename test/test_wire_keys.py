"""
Tests of certificates, the list of nodes, bundles, and the folder that keys are kept in.
"""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import InsecureTransport, KeysError
from asynqueue.wire.authority import Authority, makeAuthority
from asynqueue.wire.bundles import Bundle
from asynqueue.wire.certificates import (
    Leaf,
    Use,
    fingerprintOfPEM,
    isRenewalDue,
    loadCertificate,
    nameIn,
    namesIn,
    useIn,
)
from asynqueue.wire.filelock import FileLock
from asynqueue.wire.keyoffice import KeyOffice
from asynqueue.wire.keys import TemporaryAuthority
from asynqueue.wire.keystore import RETRY, KeyStore, defaultFolder
from asynqueue.wire.nodes import Node, NodeList

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASSPHRASE = "correct horse battery staple"
DIGITS = "0123456789abcdef" * 4


class CertificateTests(SynchronousTestCase):
    """
    What stands in certificates.
    """

    def setUp(self) -> None:
        """
        Make an authority.
        """
        self.authority = makeAuthority("test", NOW)

    def extension(self, certificate: x509.Certificate, kind: Any) -> Any:
        """
        Return an extension, and whether it must be understood.
        """
        found = certificate.extensions.get_extension_for_class(kind)
        return found.value, found.critical

    def test_authority(self) -> None:
        """
        It can sign certificates of nodes, and of no other authority.
        """
        certificate = loadCertificate(self.authority.certificate)
        constraints, isCritical = self.extension(certificate, x509.BasicConstraints)
        self.assertEqual((constraints.ca, constraints.path_length, isCritical), (True, 0, True))
        usage, isCritical = self.extension(certificate, x509.KeyUsage)
        self.assertEqual((usage.key_cert_sign, usage.digital_signature, isCritical), (True, False, True))

    def test_leaves(self) -> None:
        """
        Each has its own key on P-256, one use, one name, and ninety days.
        """
        prints = set()
        for use, purpose, name in (
            (Use.SERVER, ExtendedKeyUsageOID.SERVER_AUTH, x509.DNSName("gpu1.asynqueue.internal")),
            (Use.CLIENT, ExtendedKeyUsageOID.CLIENT_AUTH, x509.UniformResourceIdentifier("asynqueue:node:gpu1")),
        ):
            leaf = self.authority.issue("gpu1", use, NOW)
            certificate = loadCertificate(leaf.certificate)
            key: Any = certificate.public_key()
            self.assertIsInstance(key.curve, ec.SECP256R1)
            self.assertEqual(list(self.extension(certificate, x509.ExtendedKeyUsage)[0]), [purpose])
            self.assertEqual(list(self.extension(certificate, x509.SubjectAlternativeName)[0]), [name])
            self.assertFalse(self.extension(certificate, x509.BasicConstraints)[0].ca)
            self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=90))
            self.assertEqual((useIn(certificate), nameIn(certificate)), (use, "gpu1"))
            self.assertEqual(namesIn(certificate, Use.CLIENT if use is Use.SERVER else Use.SERVER), [])
            self.assertTrue(leaf.isComplete())
            prints.add(fingerprintOfPEM(leaf.certificate))
        self.assertEqual(len(prints), 2)

    def test_fingerprint(self) -> None:
        """
        It is the SHA-256 of the public key as it stands in the certificate, and stays when that is renewed.
        """
        from hashlib import sha256

        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        leaf = self.authority.issue("gpu1", Use.SERVER, NOW)
        public = loadCertificate(leaf.certificate).public_key()
        expected = sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        self.assertEqual(fingerprintOfPEM(leaf.certificate), expected)
        renewed = self.authority.renew(leaf.certificate, NOW + timedelta(days=60))
        self.assertEqual(fingerprintOfPEM(renewed), expected)
        self.assertEqual(loadCertificate(renewed).not_valid_after_utc, NOW + timedelta(days=150))

    def test_renewalDue(self) -> None:
        """
        After sixty days.
        """
        leaf = self.authority.issue("gpu1", Use.SERVER, NOW)
        self.assertFalse(isRenewalDue(leaf.certificate, NOW + timedelta(days=59)))
        self.assertTrue(isRenewalDue(leaf.certificate, NOW + timedelta(days=60)))

    def test_endOfTheAuthority(self) -> None:
        """
        No certificate outlives the authority that signed it.
        """
        late = NOW + timedelta(days=3649)
        certificate = loadCertificate(self.authority.issue("gpu1", Use.SERVER, late).certificate)
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=3650))

    def test_S14_repr(self) -> None:
        """
        No key is shown.
        """
        leaf = self.authority.issue("gpu1", Use.SERVER, NOW)
        bundle = Bundle("gpu1", {Use.SERVER: leaf.certificate}, {Use.SERVER: leaf.key}, b"")
        node = TemporaryAuthority().node("gpu1", [])
        for thing in (leaf, self.authority, bundle, node):
            self.assertNotIn("PRIVATE", repr(thing))

    def test_mistakes(self) -> None:
        """
        What is damaged is an error that shows nothing of it.
        """
        leaf = self.authority.issue("gpu1", Use.SERVER, NOW)
        other = self.authority.issue("gpu1", Use.CLIENT, NOW)
        self.assertFalse(Leaf(leaf.certificate, other.key).isComplete())
        for wrong in (Leaf(b"secret", leaf.key), Leaf(leaf.certificate, b"secret")):
            error = self.assertRaises(KeysError, wrong.isComplete)
            self.assertNotIn("secret", str(error))
        self.assertRaises(ValueError, self.authority.issue, "a.b", Use.SERVER, NOW)
        self.assertRaises(KeysError, useIn, loadCertificate(self.authority.certificate))


class NodeListTests(SynchronousTestCase):
    """
    The list of nodes.
    """

    def setUp(self) -> None:
        """
        Make a list.
        """
        self.authority = makeAuthority("test", NOW)
        self.node = Node("gpu1", "1" * 64, "2" * 64, frozenset(["worker"]))
        self.nodes = NodeList().trusting(self.authority).adding(self.node)

    def read(self, content: bytes, *authorities: Authority) -> NodeList:
        """
        Read a signed list.
        """
        return NodeList.fromSigned(content, [each.certificate for each in authorities or (self.authority,)], "a file")

    def test_roundTrip(self) -> None:
        """
        What is signed can be read by whoever knows one of those who signed it.
        """
        other = makeAuthority("other", NOW)
        signed = self.nodes.signed([self.authority, other])
        for reader in (self.authority, other):
            self.assertEqual(self.read(signed, makeAuthority("third", NOW), reader), self.nodes)
        self.assertEqual(NodeList.byItsOwnAuthorities(signed, "a file"), self.nodes)

    def test_changed(self) -> None:
        """
        A list that was changed, or is signed by somebody else, is refused.
        """
        signed = self.nodes.signed([self.authority])
        for one, other in ((b"worker", b"admin!"), (b"gpu1", b"gpu2"), (b"false", b"true "), (b"2222", b"3333")):
            self.assertIn(one, signed)
            self.assertRaises(KeysError, self.read, signed.replace(one, other, 1))
        self.assertRaises(KeysError, self.read, signed, makeAuthority("other", NOW))
        self.assertRaises(KeysError, self.read, self.nodes.signed([]))
        envelope = json.loads(signed)
        envelope["signatures"] = ["AAAA"] * 100
        self.assertRaises(KeysError, self.read, json.dumps(envelope).encode())

    def test_otherSignatures(self) -> None:
        """
        A signature of something else is none of a list.
        """
        from base64 import b64encode

        text = json.loads(self.nodes.signed([self.authority]))["list"]
        signature = b64encode(self.authority.sign(text.encode())).decode()
        forged = json.dumps({"list": text, "signatures": [signature]}).encode()
        self.assertRaises(KeysError, self.read, forged)

    @settings(max_examples=50)
    @given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
    def test_garbage(self, content: Any) -> None:
        """
        Whatever it is, it is a KeysError.
        """
        data = content if isinstance(content, bytes) else content.encode()
        self.assertRaises(KeysError, NodeList.fromSigned, data, [], "a file")
        self.assertRaises(KeysError, NodeList.byItsOwnAuthorities, data, "a file")
        self.assertRaises(KeysError, Bundle.fromBytes, data, None, "a file")

    def test_lookingUp(self) -> None:
        """
        By either fingerprint, or by name. A name may be given again when its node is revoked; its keys stay so.
        """
        self.assertEqual(self.nodes.byFingerprint("1" * 64), self.node)
        self.assertEqual(self.nodes.byFingerprint("2" * 64), self.node)
        self.assertIsNone(self.nodes.byFingerprint("3" * 64))
        self.assertRaises(ValueError, self.nodes.adding, Node("gpu1", "4" * 64, "5" * 64, frozenset()))
        again = self.nodes.revoking("gpu1").adding(Node("gpu1", "4" * 64, "5" * 64, frozenset()))
        for fingerprint, isRevoked in (("1" * 64, True), ("2" * 64, True), ("4" * 64, False)):
            found = again.byFingerprint(fingerprint)
            assert found is not None
            self.assertEqual(found.isRevoked, isRevoked)
        found = again.byName("gpu1")
        assert found is not None
        self.assertEqual(found.client, "4" * 64)

    def test_revokedKeysStayRevoked(self) -> None:
        """
        A key that comes back under another name is refused all the same.
        """
        again = self.nodes.revoking("gpu1").adding(Node("gpu2", "1" * 64, "5" * 64, frozenset(["admin"])))
        found = again.byFingerprint("1" * 64)
        assert found is not None
        self.assertTrue(found.isRevoked)

    def test_mistakes(self) -> None:
        """
        Who is not there cannot be revoked, nor can anybody twice.
        """
        error = self.assertRaises(ValueError, self.nodes.revoking, "gpu2")
        self.assertIn("gpu1", str(error))
        self.assertRaises(ValueError, self.nodes.revoking("gpu1").revoking, "gpu1")


class BundleTests(SynchronousTestCase):
    """
    What a node joins with.
    """

    def setUp(self) -> None:
        """
        Make a bundle.
        """
        self.bundle = Bundle("gpu1", {Use.SERVER: b"certificate"}, {Use.SERVER: b"secret key"}, b"nodes")

    def test_plain(self) -> None:
        """
        Without a passphrase, it can be read.
        """
        self.assertEqual(Bundle.fromBytes(self.bundle.toBytes(), None, "a file"), self.bundle)

    def test_encrypted(self) -> None:
        """
        With one, only by who knows it; it is another text each time.
        """
        sealed = self.bundle.toBytes(PASSPHRASE)
        self.assertNotEqual(sealed, self.bundle.toBytes(PASSPHRASE))
        self.assertEqual(Bundle.fromBytes(sealed, PASSPHRASE, "a file"), self.bundle)
        for passphrase, word in ((None, "passphrase"), ("another passphrase", "another passphrase")):
            error = self.assertRaises(KeysError, Bundle.fromBytes, sealed, passphrase, "a file")
            self.assertIn(word, str(error))
        found = json.loads(sealed)
        found["content"] = found["content"][:-8] + "AAAAAAA="
        self.assertRaises(KeysError, Bundle.fromBytes, json.dumps(found).encode(), PASSPHRASE, "a file")
        self.assertRaises(ValueError, self.bundle.toBytes, "short")


class KeyFolderTests(SynchronousTestCase):
    """
    Keys in folders: a laptop that has the authority, and gpu1, which joins.
    """

    def setUp(self) -> None:
        """
        Make the keys of the laptop.
        """
        base = Path(self.mktemp()).absolute()
        base.mkdir()
        self.now = NOW
        self.laptop = KeyOffice(base / "laptop", self.time)
        self.gpu = KeyOffice(base / "gpu", self.time)
        self.laptop.create("laptop")

    def time(self) -> datetime:
        """
        Return what time it is.
        """
        return self.now

    def listFile(self) -> bytes:
        """
        Return the list of the laptop, to be copied.
        """
        return (self.laptop.folder / "nodes.json").read_bytes()

    def isTrusted(self, leaf: Leaf, store: KeyStore) -> bool:
        """
        Tell whether a leaf is signed by an authority that somebody trusts.
        """
        certificate = loadCertificate(leaf.certificate)
        for authority in map(loadCertificate, store.authorities()):
            try:
                certificate.verify_directly_issued_by(authority)
            except Exception:
                continue
            return True
        return False

    def test_modes(self) -> None:
        """
        Everything is private, and keys are kept where they are expected.
        """
        self.laptop.add("gpu1", ["worker"])
        for path in [self.laptop.folder, *self.laptop.folder.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(mode, 0o700 if path.is_dir() else 0o600, path)
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": "/somewhere"})
        self.assertEqual(defaultFolder(), Path("/somewhere/asynqueue/pki"))
        # The specification of these folders says to ignore what is relative.
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": "somewhere", "HOME": "/home/me"})
        self.assertEqual(defaultFolder(), Path("/home/me/.config/asynqueue/pki"))

    def test_created(self) -> None:
        """
        The node that makes the authority may do everything. It is made once.
        """
        store = self.laptop.store()
        self.assertEqual((store.name, store.isAuthority), ("laptop", True))
        node = store.nodes().byName("laptop")
        assert node is not None
        self.assertEqual(node.roles, {"admin", "code", "worker"})
        self.assertEqual(node.server, fingerprintOfPEM(store.leaf(Use.SERVER).certificate))
        before = self.listFile()
        self.assertRaises(KeysError, self.laptop.create, "laptop")
        self.assertEqual(self.listFile(), before)

    def test_join(self) -> None:
        """
        A node that joins has its keys, the authority's certificate and the list, and not the authority's key.
        """
        bundle = self.laptop.add("gpu1", ["worker"])
        store = self.gpu.join(Bundle.fromBytes(bundle.toBytes(PASSPHRASE), PASSPHRASE, "a file"))
        self.assertEqual((store.name, store.isAuthority), ("gpu1", False))
        self.assertEqual(store.nodes(), self.laptop.store().nodes())
        for use in Use:
            self.assertTrue(store.leaf(use).isComplete())
            self.assertTrue(self.isTrusted(store.leaf(use), self.laptop.store()))
            secret = store.leaf(use).key
            self.assertFalse(any(secret in path.read_bytes() for path in self.laptop.folder.rglob("*.*")))
        for change in (lambda: self.gpu.add("x", ["read"]), lambda: self.gpu.revoke("laptop"), self.gpu.rotate):
            error = self.assertRaises(KeysError, change)
            self.assertIn("keys init", str(error))

    def test_joinTwice(self) -> None:
        """
        A node does not become another one, and the host of the authority joins no other.
        """
        self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        self.assertRaises(KeysError, self.gpu.join, self.laptop.add("gpu2", ["worker"]))
        stranger = KeyOffice(self.gpu.folder.with_name("stranger"), self.time)
        stranger.create("stranger")
        self.assertRaises(KeysError, self.gpu.join, stranger.add("gpu1", ["worker"]))
        self.assertRaises(KeysError, self.laptop.join, stranger.add("laptop", ["worker"]))

    def test_forgedBundle(self) -> None:
        """
        A bundle with an authority of its own does not make a node trust that, though it have the node's name.
        """
        self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        forger = makeAuthority("forger", NOW)
        good = self.gpu.store()
        known = good.nodes()
        forged = NodeList(99, known.nodes, (*known.authorities, forger.certificate)).signed([forger])
        leaves = {use: forger.issue("gpu1", use, NOW) for use in Use}
        bundle = Bundle(
            "gpu1",
            {use: leaf.certificate for use, leaf in leaves.items()},
            {use: leaf.key for use, leaf in leaves.items()},
            forged,
        )
        self.assertRaises(KeysError, self.gpu.join, bundle)
        self.assertRaises(KeysError, self.gpu.accept, forged, "a file")
        self.assertEqual(self.gpu.store().authorities(), good.authorities())

    def test_revoked(self) -> None:
        """
        A revocation reaches other nodes by the list, which is read again when it has changed. An older list is refused.
        """
        self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        self.laptop.add("phone", ["read"])
        old = self.listFile()
        self.gpu.accept(old, "a file")
        store = self.gpu.store()
        phone = store.nodes().byName("phone")
        assert phone is not None
        self.assertFalse(phone.isRevoked)
        self.laptop.revoke("phone")
        self.gpu.accept(self.listFile(), "a file")
        revoked = store.nodes().byFingerprint(phone.client)
        assert revoked is not None
        self.assertTrue(revoked.isRevoked)
        error = self.assertRaises(KeysError, self.gpu.accept, old, "a file")
        self.assertIn("older", str(error))
        self.assertRaises(ValueError, self.laptop.revoke, "laptop")

    def test_renewed(self) -> None:
        """
        A renewal has no key in it, needs none to travel, and keeps the fingerprints.
        """
        self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        before = self.gpu.store().leaf(Use.SERVER)
        self.now += timedelta(days=70)
        bundle = self.laptop.renew("gpu1")
        self.assertEqual(bundle.keys, {})
        self.gpu.join(bundle)
        after = self.gpu.store().leaf(Use.SERVER)
        self.assertNotEqual(before.certificate, after.certificate)
        self.assertEqual(before.key, after.key)
        self.assertRaises(KeysError, KeyOffice(self.gpu.folder.with_name("third"), self.time).join, bundle)
        self.laptop.revoke("gpu1")
        self.assertRaises(ValueError, self.laptop.renew, "gpu1")
        self.assertRaises(ValueError, self.laptop.renew, "nobody")

    def test_renewsItself(self) -> None:
        """
        Where the authority is, a certificate that is sixty days old is renewed when it is needed.
        """
        store = self.laptop.store()
        before = store.leaf(Use.SERVER)
        self.now += timedelta(days=59)
        self.assertEqual(store.leaf(Use.SERVER), before)
        self.now += timedelta(days=1)
        after = store.leaf(Use.SERVER)
        self.assertEqual((before.key, after.isComplete()), (after.key, True))
        self.assertEqual(loadCertificate(after.certificate).not_valid_after_utc, self.now + timedelta(days=90))
        self.assertEqual(store.leaf(Use.SERVER), after)

    def test_renewalFails(self) -> None:
        """
        What keeps a certificate from being renewed keeps nobody from connecting, and is tried again an hour later.
        """
        store = self.laptop.store()
        before = store.leaf(Use.SERVER)
        self.now += timedelta(days=60)
        key = self.laptop.folder / "authority.key"
        whole = key.read_bytes()
        for content in (b"damaged", b"x" * (1 << 20) + b"x"):
            key.write_bytes(content)
            for _ in range(2):
                self.assertEqual(store.leaf(Use.SERVER), before)
            self.assertEqual(len(self.flushLoggedErrors(KeysError, ValueError)), 1)
            self.now += RETRY
        key.write_bytes(whole)
        with FileLock(self.laptop.folder / "lock"):
            self.assertEqual(store.leaf(Use.SERVER), before)
        self.assertEqual(len(self.flushLoggedErrors(BlockingIOError)), 1)
        self.now += RETRY - timedelta(seconds=1)
        self.assertEqual(store.leaf(Use.SERVER), before)
        self.now += timedelta(seconds=1)
        self.assertNotEqual(store.leaf(Use.SERVER), before)

    def test_saysThatItIsOld(self) -> None:
        """
        Where it is not, that is said once.
        """
        from twisted.logger import globalLogPublisher

        store = self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.now += timedelta(days=60)
        leaf = store.leaf(Use.SERVER)
        self.assertEqual(store.leaf(Use.SERVER), leaf)
        self.assertEqual([event["node"] for event in events if event["log_level"].name == "warn"], ["gpu1"])

    def test_rotated(self) -> None:
        """
        While one authority takes over from another, nodes of both know each other; afterwards only those of the new.
        """
        self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        self.laptop.rotate()
        laptop, gpu = self.laptop.store(), self.gpu.store()
        self.assertRaises(KeysError, self.laptop.rotate)
        self.assertTrue(self.isTrusted(gpu.leaf(Use.CLIENT), laptop))
        self.assertFalse(self.isTrusted(laptop.leaf(Use.SERVER), gpu))
        self.gpu.accept(self.listFile(), "a file")
        self.assertTrue(self.isTrusted(laptop.leaf(Use.SERVER), gpu))
        self.laptop.revoke("gpu1")
        self.laptop.add("gpu2", ["worker"])
        self.gpu.accept(self.listFile(), "a file")
        self.laptop.finishRotation()
        self.gpu.accept(self.listFile(), "a file")
        self.assertEqual(len(gpu.authorities()), 1)
        self.assertFalse(self.isTrusted(gpu.leaf(Use.CLIENT), laptop))
        self.assertTrue(self.isTrusted(laptop.leaf(Use.CLIENT), gpu))
        self.assertRaises(KeysError, self.laptop.finishRotation)

    def test_rotatedAndRenewed(self) -> None:
        """
        A node that is renewed in between stays.
        """
        self.gpu.join(self.laptop.add("gpu1", ["worker"]))
        fingerprint = fingerprintOfPEM(self.gpu.store().leaf(Use.SERVER).certificate)
        self.laptop.rotate()
        self.gpu.join(self.laptop.renew("gpu1"))
        self.laptop.finishRotation()
        self.gpu.accept(self.listFile(), "a file")
        leaf = self.gpu.store().leaf(Use.SERVER)
        self.assertTrue(self.isTrusted(leaf, self.laptop.store()))
        self.assertEqual(fingerprintOfPEM(leaf.certificate), fingerprint)

    def test_damaged(self) -> None:
        """
        Files that are missing or damaged are errors that name them.
        """
        store = self.laptop.store()
        for name, use in (
            ("server.pem", lambda: store.leaf(Use.SERVER)),
            ("nodes.json", store.nodes),
            ("authority.key", lambda: self.laptop.add("gpu1", ["read"])),
        ):
            path = self.laptop.folder / name
            content = path.read_bytes()
            path.write_bytes(b"secret")
            error = self.assertRaises(KeysError, use)
            self.assertNotIn("secret", str(error))
            path.write_bytes(content)
            path.chmod(0o644)
            self.assertRaises(InsecureTransport, use)
            path.unlink()
            error = self.assertRaises(KeysError, use)
            self.assertIn(str(self.laptop.folder), str(error))
            path.write_bytes(content)
            path.chmod(0o600)
            use()

    def test_noKeys(self) -> None:
        """
        Where there are none, the commands are named by which there can be.
        """
        error = self.assertRaises(KeysError, KeyStore, self.gpu.folder)
        self.assertIn("asynqueue keys init", str(error))
        self.assertIn("asynqueue keys join", str(error))
        self.laptop.folder.chmod(0o755)
        self.assertRaises(InsecureTransport, self.laptop.store)
        self.laptop.folder.chmod(0o700)

    def test_mistakesChangeNothing(self) -> None:
        """
        A name that is taken, an unknown role and no role at all leave everything as it was.
        """
        before = {path: path.read_bytes() for path in self.laptop.folder.rglob("*") if path.is_file()}
        for name, roles in (("laptop", ["read"]), ("gpu1", ["root"]), ("gpu1", []), ("GPU1", ["read"])):
            self.assertRaises(ValueError, self.laptop.add, name, roles)
        after = {path: path.read_bytes() for path in self.laptop.folder.rglob("*") if path.is_file()}
        self.assertEqual(after, before)
