"""
Bytes of all kinds, for what reads bytes from afar: boxes of AMP, the hello, records of calls, and plain data.

C{ASYNQUEUE_FUZZ=1000000} in the environment tries so many inputs, and C{ASYNQUEUE_SEED} those of another run. What has
been of interest is kept in C{test/corpus/wire}, one file an input, and is tried first, and changed, each time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.protocol import commands, plain, records
from asynqueue.protocol.commands import Outcome
from asynqueue.protocol.records import Splitter, record
from asynqueue.wire.calls import NodeEncoding, WireResults
from asynqueue.wire.hardened import FIRST_BOX
from asynqueue.wire.identity import Identity
from asynqueue.wire.link import Link
from asynqueue.wire.node import Node, NodeSettings
from asynqueue.wire.peers import authorizeCaller, authorizeRunner
from asynqueue.wire.registry import Registry
from asynqueue.wire.session import Session
from asynqueue.wire.universe import WireWorkerUniverse

#: How many inputs there are, for all readers together.
INPUTS = int(os.environ.get("ASYNQUEUE_FUZZ", "100000"))

#: What the inputs are made of.
SEED = int(os.environ.get("ASYNQUEUE_SEED", str(random.randrange(1 << 32))))

CORPUS = Path(__file__).parent / "corpus" / "wire"

#: What is put into inputs.
TOKENS = [
    b"\0",
    b"\0\0",
    b"\xff\xff",
    b"\0\1",
    b"\x10\0",
    b"\0\x08_command",
    b"\0\x04_ask\0\x011",
    b"\0\x07_answer\0\x011",
    b"\0\x06_error",
    b"\0\x05hello",
    b"\0\x03run",
    b"\0\x07records",
    b"[",
    b"{",
    b'"',
    b'{"~',
    b"}",
    b"]",
    b",",
    b"\\",
    b"-1",
    b"1" * 40,
    b"\xed\xa0\x80",
]


def corpus(kind: str) -> list[bytes]:
    """
    Return the inputs that are kept for a reader.
    """
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"{kind}-*"))]


def mutated(chance: random.Random, originals: list[bytes]) -> bytes:
    """
    Return one of some inputs, changed in a few places.
    """
    body = bytearray(chance.choice(originals))
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(body) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            body[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            body[place:place] = chance.choice(TOKENS)
        elif kind == 2:
            del body[place : place + chance.randint(1, 8)]
        elif kind == 3:
            other = chance.choice(originals)
            start = chance.randrange(len(other) + 1)
            body[place:place] = other[start : start + chance.randint(1, 40)]
        elif kind == 4:
            del body[place:]
        elif body:
            place %= len(body)
            body[place] ^= 1 << chance.randrange(8)
    return bytes(body)


class Transport:
    """
    A transport that counts, and remembers whether the connection has been ended.
    """

    def __init__(self) -> None:
        self.identity = Identity("somebody", {"submit", "worker"}, "tls")
        self.isAborted = False
        self.written = 0

    def write(self, data: bytes) -> None:
        """
        Count.
        """
        self.written += len(data)

    def loseConnection(self) -> None:
        """
        Remember.
        """
        self.isAborted = True

    abortConnection = loseConnection

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """
        Do nothing: there is always room.
        """

    def getPeer(self) -> IPv4Address:
        """
        Return an address.
        """
        return IPv4Address("TCP", "127.0.0.1", 1)

    getHost = getPeer


class Echo(WireWorkerUniverse):
    """
    Something to call.
    """

    def echo(self, value: Any = None) -> Any:
        """
        Return the value.
        """
        return value


class FuzzTests(SynchronousTestCase):
    """
    Each input is read, or ends the connection; nothing else is raised, nothing is logged as an error, and no more is
    held than may be.
    """

    timeout = 36_000

    def setUp(self) -> None:
        """
        Make a node.
        """
        self.clock = Clock()
        self.node = Node(Registry(Echo()), settings=NodeSettings(name="node"), reactor=self.clock)
        self.addCleanup(self.node.queue.shutdown)

    def fuzz(self, kind: str, share: float, read: Callable[[bytes], object]) -> None:
        """
        Have a function read inputs.

        @param share: Which part of all inputs these are.
        """
        chance = random.Random(f"{SEED} {kind}")
        originals = corpus(kind)
        self.assertGreater(len(originals), 3, f"there is nothing in {CORPUS} for {kind}")
        for number in range(int(INPUTS * share)):
            data = originals[number] if number < len(originals) else mutated(chance, originals)
            try:
                read(data)
            except Exception as error:
                self.fail(f"{error!r} for {data!r}, with ASYNQUEUE_SEED={SEED}")
        self.assertEqual(self.flushLoggedErrors(), [], f"with ASYNQUEUE_SEED={SEED}")

    def test_plain(self) -> None:
        """
        Plain data.
        """

        def read(data: bytes) -> None:
            try:
                value = plain.loads(data)
            except ValueError:
                return
            # It was made of these bytes alone.
            assert len(repr(value)) < 100 * len(data) + 1000

        self.fuzz("plain", 0.35, read)

    def test_calls(self) -> None:
        """
        Records, and the bodies of calls and outcomes in them.
        """
        encoding = NodeEncoding(
            authorizeCaller(Identity("somebody", {"submit"}, "tls"), "plain", True),
            self.node.registry,
            lambda call: None,
            1 << 20,
        )
        results = WireResults(authorizeRunner(Identity("somebody", {"worker"}, "tls"), "plain"))

        def read(data: bytes) -> None:
            splitter = Splitter(10_000)
            try:
                found = splitter.feed(data[:20]) + splitter.feed(data[20:])
            except ValueError:
                return
            for kind, flags, _, body in found:
                if kind == records.ERROR:
                    results.failure(body)
                    continue
                try:
                    encoding.call(flags, body)
                except (ValueError, TypeError, IndexError):
                    continue

        self.fuzz("record", 0.25, read)

    def test_hello(self) -> None:
        """
        What comes first.
        """

        def read(data: bytes) -> None:
            session = Session(self.node)
            transport = Transport()
            session.makeConnection(transport)
            for start in range(0, len(data), 700):
                session.dataReceived(data[start : start + 700])
                held = session._reader.held
                assert session._isKnown or held <= FIRST_BOX + 700, f"{held} bytes are held"
            self.close(session)

        self.fuzz("hello", 0.2, read)

    def test_boxes(self) -> None:
        """
        What comes after the hello, at a server and at a client.
        """
        first = corpus("hello")[0]

        def read(data: bytes) -> None:
            session = Session(self.node)
            transport = Transport()
            session.makeConnection(transport)
            session.dataReceived(first)
            assert session._isKnown
            session.dataReceived(data)
            self.clock.advance(0)
            self.close(session)
            link = Link(self.clock, 10_000)
            link.makeConnection(Transport())
            link.trust(Outcome, link.caller.received)
            link.dataReceived(data)
            link.connectionLost()

        self.fuzz("box", 0.2, read)

    def close(self, session: Session) -> None:
        """
        End a connection, of which nothing is left.
        """
        session.connectionLost()
        self.clock.advance(0)
        assert not self.node.sessions
        assert not self.clock.getDelayedCalls(), self.clock.getDelayedCalls()


def seeds() -> dict[str, bytes]:
    """
    Return the inputs that the corpus began with, by the names of their files. C{python -m test.test_wire_fuzz} writes
    them.
    """
    values: list[Any] = [
        [1, "two", b"three", None, 4.5, True, -(1 << 80)],
        {"a": [1, (2, {3}), frozenset([4])], 5: bytearray(b"six"), (7,): "~b"},
        [[], {}, 1, 1, 0, 0, None, None, False, True],
        ("", ("builtins.ValueError", "text", "traceback", plain.dumps(((1,), {"note": 2})), None, None, False)),
        [[[[[[[[[[["deep"]]]]]]]]]], '\ud800\\"[,{'],
    ]
    good = [b"\4echo" + plain.dumps([[value], {}, 1, 1, 0, 0, None, None, False, True]) for value in (1, b"2", "3")]
    told = [plain.dumps(values[3]), plain.dumps(("item", values[3][1]))]
    hello = {b"_command": b"hello", b"_ask": b"1", b"oldest": b"1", b"newest": b"1", b"node": b"c", b"limit": b"10000"}
    every = [each for each in vars(commands).values() if isinstance(each, type) and issubclass(each, amp.Command)]
    boxes = [
        {b"_command": each.commandName, **{name: b"1" for name, _ in each.arguments}}
        for each in every
        if each is not commands.Pushed
    ]
    run = record(records.CALL, 1, good[0]) + record(records.CALL, 2, good[1], 1)
    boxes += [{b"_command": b"run", b"records": run[:30], b"records-1": run[30:]}, {b"_answer": b"1"}]
    boxes += [{b"_command": b"outcome", b"records": record(records.RESULT, 1, plain.dumps(5))}]
    bodies = [*good, b"\0" + plain.dumps(values[2]), b"", b"\4echo"]
    found = {f"plain-{number}": plain.dumps(value) for number, value in enumerate(values)}
    found |= {f"record-{number}": record(records.CALL, number, body) for number, body in enumerate(bodies)}
    found |= {f"record-told{number}": record(records.ERROR, number, body) for number, body in enumerate(told)}
    found |= {"hello-0": amp.Box(hello).serialize(), "hello-1": amp.Box({**hello, b"oldest": b"7"}).serialize()}
    found |= {"hello-2": amp.Box({**hello, b"node": b"n" * 4000}).serialize(), "hello-3": b"\0\1a\xff\xff" + bytes(99)}
    found |= {f"box-{number}": amp.Box(box).serialize() for number, box in enumerate(boxes)}
    return found


if __name__ == "__main__":
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)
