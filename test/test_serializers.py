"""
The other ways to write values: JSON and MessagePack, within the limits of plain values.
"""

from __future__ import annotations

import math
import struct
import time as clocks
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue.protocol import plain
from asynqueue.wire.serializers import serializerOf


def nested(levels: int, inner: Any, wrap: Any) -> Any:
    """
    Return something within so many levels.
    """
    for _ in range(levels):
        inner = wrap(inner)
    return inner


class Shared(SynchronousTestCase if TYPE_CHECKING else object):  # type: ignore[misc]
    """
    What JSON and MessagePack have in common.
    """

    name = ""

    def setUp(self) -> None:
        """
        Find it.
        """
        serializer = serializerOf(self.name)
        self.dumps = serializer.dumps
        self.loads = serializer.loads

    def unchecked(self, value: Any) -> bytes:
        """
        Return bytes as another program would write them.
        """
        import json

        return json.dumps(value).encode("ascii")

    def assertRefused(self, body: bytes, why: str, seconds: float = 1.0) -> None:
        """
        Bytes are not read, for a reason, and within a time.
        """
        began = clocks.monotonic()
        with self.assertRaises(ValueError, msg=body[:50]) as caught:
            self.loads(body)
        self.assertIn(why, str(caught.exception), body[:50])
        self.assertLess(clocks.monotonic() - began, seconds, body[:50])

    def test_roundTrip(self) -> None:
        """
        What it has arrives as it was; a tuple as a list.
        """
        value: list[Any] = [
            None,
            True,
            0,
            -(1 << 63),
            1.5,
            "",
            'é[{"\\,',
            "\U0001f600" * 20,
            [],
            {},
            {"a": [{"b": 1}] * 100},
        ]
        self.assertEqual(self.loads(self.dumps(value)), value)
        self.assertEqual(self.loads(self.dumps((1, (2,)))), [1, [2]])

    def test_S5_depth(self) -> None:
        """
        Thirty-two levels travel; one more does not, nor ten times as many, and is not read either.
        """
        wraps: list[Callable[[Any], Any]] = [
            lambda value: [value],
            lambda value: {"x": value},
            lambda value: [1, {"[": value}, "[" * 50],
        ]
        for wrap in wraps:
            each = 2 if wrap is wraps[2] else 1
            inners: list[Any] = [1, [], {}]
            for inner in inners:
                levels = plain.DEPTH - (inner != 1)
                value = nested(levels // each, inner, wrap)
                self.assertEqual(self.loads(self.dumps(value)), value)
                for more in (nested(levels // each + 1, inner, wrap), nested(10 * plain.DEPTH, inner, wrap)):
                    error = self.assertRaises(ValueError, self.dumps, more)
                    self.assertIn("nested more than 32 deep", str(error))
                    self.assertRefused(self.unchecked(more), "nested more than 32 deep")

    def test_S5_items(self) -> None:
        """
        As many values as are allowed travel; one more does not, nor ten times as many, and is not read either.
        """
        self.patch(plain, "ITEMS", 1000)
        makers: list[Any] = [
            [0] * 1000,
            [[]] * 1000,
            [{}] * 1000,
            [1.5] * 1000,
            ["["] * 1000,
            ["x" * 40] * 1000,
            {str(number): 200 for number in range(1000)},
            [{"a": []}] * 500,
            [[0] * 99] * 10,
            [[[0] * 998]],
        ]
        for most in makers:
            self.assertEqual(self.loads(self.dumps(most)), most)
            for more in ([most], [most, 0], [most] * 10, [most] * 1000):
                error = self.assertRaises(ValueError, self.dumps, more)
                self.assertIn("more than 1000 values", str(error))
                self.assertRefused(self.unchecked(more), "more than 1000 values")

    def test_S5_aMillion(self) -> None:
        """
        The documented limit, as it is.
        """
        self.assertEqual(self.loads(self.dumps([7] * 1_000_000)), [7] * 1_000_000)
        self.assertRefused(self.unchecked([7] * 1_000_001), "more than 1000000 values")
        self.assertRefused(self.unchecked([[]] * 10_000_000), "more than 1000000 values")

    def test_keysAreText(self) -> None:
        """
        Numbers are no keys.
        """
        self.assertRaises(TypeError, self.dumps, [{1: 2}])
        self.assertRaises(TypeError, self.dumps, {"a": {(): 2}})
        self.assertRaises(TypeError, self.dumps, [object()])

    def test_damage(self) -> None:
        """
        Each kind of damage is a C{ValueError}.
        """
        body = self.dumps([{"a": [1, "two"]}, [3.5] * 50, [[]] * 50])
        for end in range(len(body)):
            self.assertRefused(body[:end], "this is no ")
        self.assertRefused(body + b"1", "this is no ")


class JSONTests(Shared, SynchronousTestCase):
    """
    JSON.
    """

    name = "json"

    def test_keysThatAreThereTwice(self) -> None:
        """
        An object that has a key twice means one thing here, and another elsewhere.
        """
        for text in (b'{"a":1,"a":1}', b'[{"b":{"a":1,"b":2,"\\u0061":3}}]'):
            self.assertRefused(text, "key twice")

    def test_numbersThatAreNone(self) -> None:
        """
        What is not written is not read.
        """
        for text in (b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1e400", b"[-1e999]"):
            self.assertRefused(text, "this is no JSON")
        for value in (math.nan, math.inf, [-math.inf]):
            self.assertRaises(ValueError, self.dumps, value)
        self.assertEqual(self.loads(b"1e300"), 1e300)

    def test_onlyUTF8(self) -> None:
        """
        Not UTF-16, nor UTF-32, nor a mark of the order of bytes.
        """
        for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-32-be", "utf-8-sig"):
            self.assertRefused('{"a":"é"}'.encode(encoding), "this is no JSON")
        self.assertRefused(b'"\xff"', "this is no JSON")

    def test_S5_bombs(self) -> None:
        """
        What took gigabytes is refused at once.
        """
        for text in (b"[" + b"[]," * 20_000_000 + b"0]", b"[" * 10_000_000, b'[""' + b',""' * 10_000_000 + b"]"):
            self.assertRefused(text, "this is no JSON")


class MsgpackTests(Shared, SynchronousTestCase):
    """
    MessagePack.
    """

    name = "msgpack"

    def unchecked(self, value: Any) -> bytes:
        """
        Return bytes as another program would write them.
        """
        import msgpack

        packed: bytes = msgpack.packb(value)
        return packed

    def test_more(self) -> None:
        """
        Bytes, dates and times, and every length of everything.
        """
        when = datetime(2024, 1, 1, 12, 0, 0, 5, UTC)
        value: list[Any] = [when, datetime(1969, 1, 1, tzinfo=UTC), {b"k": b"v"}, math.inf, b"\x80" * 100]
        value += [1 << bits for bits in range(64)] + [-(1 << bits) for bits in range(64)]
        for size in (*range(40), 255, 256, 65_535, 65_536):
            value += [b"\x81" * size, "é" * size, [[]] * size]
        self.assertEqual(self.loads(self.dumps(value)), value)
        self.assertRaises(ValueError, self.dumps, 1 << 64)

    def test_keys(self) -> None:
        """
        Numbers are no keys, and none is there twice.
        """
        for body in (b"\x81\x01\x02", b"\x81\x90\x01", b"\x82\xa1a\x01\xa1a\x02", b"\x91\x81\xc0\x01"):
            self.assertRefused(body, "this is no MessagePack")

    def test_otherTypes(self) -> None:
        """
        Types that somebody has defined do not travel.
        """
        import msgpack

        self.assertRaises(TypeError, self.dumps, [msgpack.ExtType(5, b"x")])
        for body in (b"\xd4\x05x", b"\xc7\x05\xffabcde", b"\xc1", b"\xd7\xff" + b"\xff" * 8):
            self.assertRefused(body, "this is no MessagePack")

    def test_S5_bombs(self) -> None:
        """
        What took gigabytes is refused at once, and so are lists that never end.
        """
        million = struct.pack(">BI", 0xDD, 1_000_000)
        for body in (
            struct.pack(">BI", 0xDD, 30_000_000) + b"\x80" * 30_000_000,
            b"\x80" * 30_000_000,
            b"\xdd\xff\xff\xff\xff",
            million * 1000 + b"\xc0" * 990_000,
            million * 30 + b"\x01" * 29_000_000,
            struct.pack(">BI", 0xDF, 10_000_000) + b"\xa1k\x80" * 10_000_000,
            b"\xb0" + b"x" * 16 + (b"\xb0" + b"x" * 16) * 3_000_000,
        ):
            self.assertRefused(body, "this is no MessagePack")
        self.assertRefused(b"\x91" * 1000 + b"\x01", "nested more than 32 deep")
        self.assertRefused(b"\x91" * 10_000_000 + b"\x01", "this is no MessagePack", 2.0)
