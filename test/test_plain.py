"""
The plain encoding: what travels, what does not, and bytes of which no value can be made.
"""

from __future__ import annotations

import json
import math
import random
import time as clocks
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from struct import pack
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.callinfo import safeRepr
from asynqueue.protocol import foreseeable, plain
from asynqueue.protocol.plain import DEPTH, NotPlain, dumps, loads, registerClass


@registerClass
@dataclass(frozen=True)
class Point:
    """
    A dataclass that travels.
    """

    across: Any
    down: Any = 0


@registerClass
@dataclass(frozen=True, slots=True)
class Mark:
    """
    One without fields, and with slots.
    """


@dataclass
class Stranger:
    """
    A dataclass that does not.
    """

    value: int = 0


class Loud:
    """
    Something that is no plain data, and cannot be shown.
    """

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Unshowable(Exception):
    """
    An exception whose text cannot be had.
    """

    def __str__(self) -> str:
        raise RuntimeError("no")


_offsets = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=[]))
    | st.sampled_from(["~", "~b", "~m", "\ud800", "\ud800\udc00", "\0"])
    | st.binary()
    | st.binary().map(bytearray)
    | st.datetimes()
    | st.datetimes(timezones=_offsets)
    | st.dates()
    | st.times()
    | st.times(timezones=_offsets)
    | st.timedeltas()
    | st.just(Mark())
)
_keys = st.recursive(
    _leaves.filter(lambda value: type(value) is not bytearray),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3) | st.builds(Point, inner, inner)
    ),
    max_leaves=5,
)
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(_keys, max_size=3)
        | st.frozensets(_keys, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(_keys, inner, max_size=3)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=20,
)


def alike(one: Any, other: Any) -> bool:
    """
    Tell whether two values are equal and of the same types, throughout.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return pack("<d", one) == pack("<d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike(list(one), list(other)) and all(map(alike, one.values(), other.values()))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and sorted(map(shown, one)) == sorted(map(shown, other))
    if isinstance(one, Point):
        return alike([one.across, one.down], [other.across, other.down])
    if isinstance(one, datetime | time) and (one.utcoffset(), one.fold) != (other.utcoffset(), other.fold):
        return False
    return bool(one == other)


def shown(value: Any) -> str:
    """
    Return a text that tells values in sets apart, types included, in whatever order those have that are in them.
    """
    if isinstance(value, frozenset):
        return f"frozenset({', '.join(sorted(map(shown, value)))})"
    if isinstance(value, tuple):
        return f"tuple({', '.join(map(shown, value))})"
    if isinstance(value, Point):
        return f"Point {shown(value.across)} {shown(value.down)}"
    return f"{type(value).__name__} {value!r}"


def nested(levels: int, inner: Any, wrap: Any = lambda value: [value]) -> Any:
    """
    Return something within so many levels.
    """
    for _ in range(levels):
        inner = wrap(inner)
    return inner


class RoundTripTests(SynchronousTestCase):
    """
    What travels.
    """

    @settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_values)
    def test_F42_arrivesAsItWas(self, value: Any) -> None:
        """
        Equal, and of the same type, in all its parts.
        """
        back = loads(dumps(value))
        self.assertTrue(alike(back, value), f"{back!r}")

    def test_F42_edges(self) -> None:
        """
        The values that encodings get wrong.
        """
        values: list[Any] = [
            -0.0,
            math.inf,
            -math.inf,
            math.nan,
            (1 << 63) - 1,
            1 << 63,
            -(1 << 63),
            1 << 100_000,
            -(1 << 100_000),
            True,
            {1: "a", True + 1: "b"},
            {"~b": 5},
            {"~": None},
            {"": {}},
            {"a": 1, "~b": 2},
            {(1, (2,)): {None: b""}},
            b"",
            bytes(65_535),
            bytes(65_536),
            bytes(65_537),
            (),
            [()],
            frozenset(),
            datetime.max,  # noqa: DTZ901 -- one without a zone is meant
            datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001 -- likewise
            time(2, 30, fold=1, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=UTC),
            timedelta.min,
            [bytearray(b"x"), b"y", "z"],
            Point(Point(1, b"2"), {3: Mark()}),
            "\ud83d\ude00 \U0001f600",
        ]
        for value in values:
            self.assertTrue(alike(loads(dumps(value)), value), safeRepr(value))

    def test_namedTimeZone(self) -> None:
        """
        Of a zone with a name the offset travels: the same instant.
        """
        there = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
        back = loads(dumps(there))
        self.assertEqual((back, back.utcoffset()), (there, timedelta(hours=2)))

    def test_whatFollowsIsNotTheSame(self) -> None:
        """
        A value that arrives shares nothing with that which was sent.
        """
        value = {"inner": [1]}
        loads(dumps(value))["inner"].append(2)
        self.assertEqual(value, {"inner": [1]})

    def test_largeBytesAreNotInTheText(self) -> None:
        """
        Bytes take as many bytes as they are, and a few.
        """
        self.assertLess(len(dumps([bytes(1 << 20)])), (1 << 20) + 64)


class NotPlainTests(SynchronousTestCase):
    """
    What does not travel.
    """

    def assertPlace(self, value: Any, place: str, what: str = "is no plain data") -> None:
        """
        A value does not travel, and the error says which part of it, and what that is.
        """
        with self.assertRaises(NotPlain) as caught:
            dumps(value)
        self.assertEqual(caught.exception.place, place)
        self.assertIn(what, caught.exception.what)
        self.assertEqual(str(caught.exception), f"{place}: {caught.exception.what}" if place else caught.exception.what)

    def test_place(self) -> None:
        """
        The place is named as one would write it.
        """
        thing = object()
        self.assertPlace(thing, "", "an instance of builtins.object")
        self.assertPlace([1, thing], "[1]")
        self.assertPlace({"a": (0, [thing])}, "['a'][1][0]")
        self.assertPlace({1: "one", 2: thing}, "[2]")
        self.assertPlace([{thing: 1}], "[0] as a key")
        self.assertPlace({(1, thing): 1}, " as a key[1]")
        self.assertPlace(Point(0, [thing]), ".down[0]")
        self.assertPlace([Stranger()], "[0]", "test.test_plain.Stranger")
        self.assertPlace({Point(1, Mark()): Loud()}, "[Point(across=1, down=Mark())]")

    def test_placesAreBounded(self) -> None:
        """
        A long key makes no long message.
        """
        with self.assertRaises(NotPlain) as caught:
            dumps({"k" * 1_000_000: object()})
        self.assertLess(len(str(caught.exception)), 1000)

    def test_subclasses(self) -> None:
        """
        An instance of a class that is derived from one that travels would arrive as something else.
        """

        class Text(str):
            """
            A text of its own class.
            """

            __slots__ = ()

        derived: list[Any] = [
            Text("x"),
            type("Int", (int,), {})(1),
            type("Dict", (dict,), {})(),
            type("List", (list,), {})(),
        ]
        for value in derived:
            self.assertPlace([value], "[0]")
        self.assertPlace({Text("x"): 1}, " as a key")

    def test_others(self) -> None:
        """
        Functions, classes, iterators, complex numbers and views stay where they are.
        """
        others: list[Any] = [len, int, iter([]), 1j, memoryview(b""), range(3), {}.keys(), ...]
        for value in others:
            self.assertPlace({"x": value}, "['x']")

    def test_timesWithoutOffset(self) -> None:
        """
        A time of day in a zone with a name has no offset, and would lose its zone.
        """
        self.assertPlace([time(12, tzinfo=ZoneInfo("Europe/Berlin"))], "[0]", "has no offset")


class LimitTests(SynchronousTestCase):
    """
    How deep, and how much.
    """

    def test_S5_depth(self) -> None:
        """
        Thirty-two levels travel, whatever is in them; one more does not, and ten times as many.
        """
        wraps = (
            lambda value: [value],
            lambda value: (value,),
            lambda value: {"x": value},
            lambda value: {1: value},
            lambda value: Point(value),
        )
        leaves = (1, 1 << 70, "x", b"x", date.min, timedelta(1))
        for wrap in wraps:
            for leaf in leaves:
                value = nested(DEPTH, leaf, wrap)
                self.assertTrue(alike(loads(dumps(value)), value))
            for levels in (DEPTH + 1, 10 * DEPTH):
                with self.assertRaises(ValueError) as caught:
                    dumps(nested(levels, 1, wrap))
                self.assertIn("nested more than 32 deep", str(caught.exception))

    def test_S5_depthOfKeys(self) -> None:
        """
        Keys and members of sets count as deep as what they belong to.
        """
        for value in ({nested(31, 1, lambda value: (value,)): 1}, {nested(31, 1, lambda value: frozenset([value]))}):
            self.assertTrue(alike(loads(dumps(value)), value))
        self.assertRaises(ValueError, dumps, {nested(32, 1, lambda value: (value,)): 1})

    def test_S5_itemsByAThousand(self) -> None:
        """
        As many values as are allowed travel, of any kind; one more does not, and ten times as many.
        """
        self.patch(plain, "ITEMS", 1000)
        makers: list[Callable[[int], Any]] = [
            lambda number: list(range(number)),
            lambda number: [timedelta(1)] * number,
            lambda number: [b"x"] * number,
            lambda number: {str(key): key for key in range(number)},
            lambda number: {timedelta(key): timedelta(key) for key in range(number // 2)},
            lambda number: {(): Mark(), **{key: Mark() for key in range(number // 2 - 1)}},
            lambda number: [[]] * number,
            lambda number: [Mark()] * number,
            lambda number: [Point(1, 2)] * (number // 3) + [1] * (number % 3),
            lambda number: [list(range(number - 1))],
        ]
        for most in makers:
            value = most(1000)
            self.assertTrue(alike(loads(dumps(value)), value))
            for number in (1002, 10_000):
                with self.assertRaises(ValueError) as caught:
                    dumps(most(number))
                self.assertIn("more than 1000 values", str(caught.exception))

    def test_S5_itemsOneAbove(self) -> None:
        """
        The bound is exact.
        """
        self.patch(plain, "ITEMS", 1000)
        self.assertRaises(ValueError, dumps, list(range(1001)))
        self.assertRaises(ValueError, dumps, [[], list(range(999))])

    def test_S5_readingTooDeep(self) -> None:
        """
        What is read may be as deep as what is written, to the level, and far deeper texts are refused before anything
        is made of them.
        """
        forms = [
            (b"[", b"]"),
            (b'{"x":', b"}"),
            (b'{"~t":[', b"]}"),
            (b'{"~m":[[1,', b"]]}"),
            (b'{"~c":["Point",[1,', b"]]}"),
        ]
        for opening, closing in forms:
            loads(bytesOf(opening * DEPTH + b'{"~l":[1,2,3]}' + closing * DEPTH))
            for levels in (DEPTH + 1, 10 * DEPTH, 100_000):
                with self.assertRaises(ValueError) as caught:
                    loads(bytesOf(opening * levels + b"1" + closing * levels))
                self.assertIn("nested more than 32 deep", str(caught.exception))
        self.assertRaises(ValueError, loads, bytesOf(b"[" * 100_000))

    def test_S5_readingTooMuch(self) -> None:
        """
        As many values can be read as can be written, of any kind, and not one more; bytes that stand for many times as
        many are refused before anything is made of them.
        """
        self.patch(plain, "ITEMS", 1000)
        # Each with the number of values that it is.
        forms = [
            (b"0", 1),
            (b"[]", 1),
            (b'{"a":[ ]}', 2),
            (b'"["', 1),
            (b'{"~t":[]}', 1),
            (b'{"~t":["\\"{",2,3]}', 4),
            (b'{"~l":[1,2,3]}', 1),
            (b'{"~c":["Mark",[]]}', 1),
            (b'{"~c":["Point",[1,[]]]}', 3),
            (b'{"~m":[[{"~l":[1,2,3]},{"~c":["Mark",[]]}]]}', 3),
        ]
        for form, count in forms:
            most = [form] * (1000 // count) + [b"0"] * (1000 % count)
            loads(bytesOf(b"[" + b",".join(most) + b"]"))
            for more in ([*most, b"0"], most * 10, most * 1000):
                with self.assertRaises(ValueError, msg=form) as caught:
                    loads(bytesOf(b"[" + b",".join(more) + b"]"))
                self.assertIn("more than 1000 values", str(caught.exception))

    def test_S5_readingAMillion(self) -> None:
        """
        The documented limit, as it is: a million values, and one more.
        """
        self.assertEqual((plain.ITEMS, plain.DEPTH), (1_000_000, 32))
        self.assertEqual(len(loads(bytesOf(b"[" + b"0," * 999_999 + b"0]"))), 1_000_000)
        self.assertRaises(ValueError, loads, bytesOf(b"[" + b"0," * 1_000_000 + b"0]"))
        # Lists that are short enough to be written as they are.
        self.assertRaises(ValueError, dumps, [[list(range(100))] * 100] * 100)

    def test_S5_keys(self) -> None:
        """
        As many keys as may be travel that are neither text nor bytes, of all dictionaries and sets together; one more
        does not, nor ten times as many, and is not read either. Text and bytes are not counted.
        """
        keys: list[Callable[[int], Any]] = [
            lambda number: number,
            lambda number: float(number),
            lambda number: (number,),
            lambda number: frozenset([str(number)]),
            lambda number: timedelta(number),
            lambda number: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(number),
            lambda number: Point(number),
            lambda number: 1 << 64 | number,
        ]
        for key in keys:
            made = [key(number) for number in range(10 * plain.KEYS)]
            for most, more, tenfold in (
                (set(made[: plain.KEYS]), set(made[: plain.KEYS + 1]), set(made)),
                (
                    dict.fromkeys(made[: plain.KEYS], 0),
                    [{each} for each in made[: plain.KEYS + 1]],
                    dict.fromkeys(made, 0),
                ),
            ):
                body = dumps(most)
                self.assertEqual(loads(body), most)
                for value in (more, tenfold):
                    with self.assertRaises(ValueError) as caught:
                        dumps(value)
                    self.assertIn("more than 10000 keys and members of sets", str(caught.exception))
        texts = [str(number) for number in range(20_000)] + [str(number).encode() for number in range(20_000)]
        self.assertEqual(loads(dumps([set(texts), dict.fromkeys(texts)])), [set(texts), dict.fromkeys(texts)])

    def test_S5_readingKeys(self) -> None:
        """
        What could not be written for its keys is not read.
        """
        for form in (b"%d", b'{"~i":"%x"}', b"%d.5", b'{"~t":[%d]}', b'{"~l":[%d,0,0]}', b'{"~c":["Point",[%d,0]]}'):
            for wrap, text in ((b'{"~s":[%b]}', form), (b'{"~f":[%b]}', form), (b'{"~m":[%b]}', b"[%b,0]" % form)):
                each = [text % number for number in range(plain.KEYS + 1)]
                loads(bytesOf(wrap % b",".join(each[1:])))
                with self.assertRaises(ValueError) as caught:
                    loads(bytesOf(wrap % b",".join(each)))
                self.assertIn("more than 10000 keys and members of sets", str(caught.exception))

    def test_S5_keysThatGetInEachOthersWay(self) -> None:
        """
        Keys that have been chosen so that a dictionary of them takes long are refused at once: those with one hash, and
        those that are led from one to the next.
        """
        prime = (1 << 61) - 1
        alike = [number * prime for number in range(4 * plain.KEYS)]
        for form in (b"%d", b'{"~i":"%x"}', b'{"~t":[1,%d]}', b'{"~f":[%d]}', b'{"~c":["Point",[%d,0]]}'):
            for wrap, text in ((b'{"~s":[%b]}', form), (b'{"~m":[%b]}', b"[%b,0]" % form)):
                each = [text % number for number in alike]
                loads(bytesOf(wrap % b",".join(each[: foreseeable.ALIKE])))
                for some in (each[: foreseeable.ALIKE + 1], each[: 10 * foreseeable.ALIKE], each):
                    began = clocks.monotonic()
                    with self.assertRaises(ValueError) as caught:
                        loads(bytesOf(wrap % b",".join(some)))
                    self.assertLess(clocks.monotonic() - began, 2.0)
                    why = "more than 10000 keys" if some is each else "have the same hash"
                    self.assertIn(why, str(caught.exception))
        led = chained(15, 21_000)
        for number in (len(led), plain.KEYS):
            began = clocks.monotonic()
            body = bytesOf(b'{"~m":[%b]}' % b",".join(b"[%d,0]" % key for key in led[:number]))
            if number > plain.KEYS:
                self.assertRaises(ValueError, loads, body)
            else:
                loads(body)
            self.assertLess(clocks.monotonic() - began, 1.0)
        self.assertRaises(ValueError, dumps, set(alike[:101]))

    def test_keysThatAreThereTwice(self) -> None:
        """
        Are refused: none are written.
        """
        for text in (b'{"~s":[1,1.0]}', b'{"~f":["a","a"]}', b'{"~m":[[1,2],[true,3]]}'):
            self.assertRaises(ValueError, loads, bytesOf(text))

    def test_textIsNotCounted(self) -> None:
        """
        Brackets and commas in a text are neither levels nor values.
        """
        self.patch(plain, "ITEMS", 1000)
        for text in ('[{"' * 5000, '\\"[' * 5000, '"' * 5000 + "[" * 100, "," * 5000, "\\" * 4999, "\n[" * 5000):
            value = [text, {text: [text]}, nested(20, text)]
            self.assertEqual(loads(dumps(value)), value)

    def test_countingTakesNoTime(self) -> None:
        """
        What looks for levels takes a time that is in proportion to the bytes, and no memory to speak of, whatever they
        are: text without an end took a time that grew with the square of its length.
        """
        size = 4 << 20
        for text in (
            b"[" * 33 + b'"' + b'\\"' * (size // 2),
            b"[" * 33 + b'"' * size,
            b"[" * 33 + b'"' + b"x" * size,
            b"[" * 33 + b"\\" * size,
            b'["",' * (size // 4),
            b"[" * size,
            b"[]" * (size // 2),
            (b"[" * 90 + b"]" * 90) * (size // 180),
            b"[" + b",".join([b"[" * 95 + b"]" * 95] * 10_000) + b"]",
            b"[" * 4_000_000 + b"]" * 4_000_000,
            b"[" + b'{"a":[]},' * 2_000_000 + b"0]",
            b"[" + b'"[",' * size + b"0]",
            b'["\\n",' + b'"[\\"",' * size + b"0]",
        ):
            began = clocks.monotonic()
            self.assertRaises(ValueError, loads, bytesOf(text))
            self.assertLess(clocks.monotonic() - began, 1.0, text[:40])

    def test_numbersWithManyDigits(self) -> None:
        """
        A long number in decimal digits, which takes a time that grows with their square, is refused; ours is not.
        """
        self.assertRaises(ValueError, loads, bytesOf(b"9" * 100_000))
        self.assertEqual(loads(dumps(1 << 1_000_000)), 1 << 1_000_000)


def chained(bits: int, number: int) -> list[int]:
    """
    Return whole numbers that a dictionary with so many bits of places leads from one to the next: half of them are in
    places that follow each other, and the others begin with one of these.
    """
    mask = (1 << bits) - 1
    keys = [0]
    while len(keys) < number // 2:
        keys.append((5 * keys[-1] + 1) & mask)
    taken = set(keys)
    early = set(keys[: number // 6])
    key = mask
    while len(keys) < number:
        key += 1
        place, rest = key & mask, key
        while rest and place in taken:
            rest >>= 5
            place = (5 * place + rest + 1) & mask
        if not rest and place in early:
            keys.append(key)
    return keys


def bytesOf(text: bytes, buffers: bytes = b"") -> bytes:
    """
    Return JSON as the bytes that it travels in.
    """
    return len(text).to_bytes(4, "little") + text + buffers


class DamageTests(SynchronousTestCase):
    """
    Bytes of which no value can be made.
    """

    def test_everyKindOfDamage(self) -> None:
        """
        Each is a C{ValueError}, which says that this is no plain data.
        """
        for body in (
            b"",
            b"\0\0\0",
            b"\0\0\0\0",
            b"\xff\xff\xff\xff[]",
            dumps([1])[:-1],
            dumps([1]) + b"x",
            dumps([b"abc"])[:-1],
            dumps([b"abc"]) + b"x",
            bytesOf(b"\xff"),
            bytesOf(b"[1"),
            bytesOf(b"[1]]"),
            bytesOf(b"nil"),
            bytesOf(b'{"~":1}'),
            bytesOf(b'{"~x":1}'),
            bytesOf(b'{"~b":-1}'),
            bytesOf(b'{"~b":1}'),
            bytesOf(b'{"~b":true}', b"x"),
            bytesOf(b'{"~b":1.0}', b"x"),
            bytesOf(b'{"~b":"1"}', b"x"),
            bytesOf(b'{"~b":[]}', b"x"),
            bytesOf(b'[{"~b":3},{"~b":-1}]', b"xyz"),
            bytesOf(b'{"~i":5}'),
            bytesOf(b'{"~i":"0xq"}'),
            bytesOf(b'{"~t":{}}'),
            bytesOf(b'{"~t":"abc"}'),
            bytesOf(b'{"~s":[[]]}'),
            bytesOf(b'{"~s":"abc"}'),
            bytesOf(b'{"~f":[{"a":1}]}'),
            bytesOf(b'{"~m":[[1]]}'),
            bytesOf(b'{"~m":[[1,2,3]]}'),
            bytesOf(b'{"~m":["ab"]}'),
            bytesOf(b'{"~m":[[[],1]]}'),
            bytesOf(b'{"~m":{"a":1}}'),
            bytesOf(b'{"~d":"tomorrow"}'),
            bytesOf(b'{"~d":5}'),
            bytesOf(b'{"~D":"2024-13-01"}'),
            bytesOf(b'{"~T":"25:00"}'),
            bytesOf(b'{"~l":[1,2,"3"]}'),
            bytesOf(b'{"~l":[1e400,0,0]}'),
            bytesOf(b'{"~l":[1,2,3,4,5,6,7,8]}'),
            bytesOf(b'{"~c":[]}'),
            bytesOf(b'{"~c":["Stranger",[0]]}'),
            bytesOf(b'{"~c":[[],[]]}'),
            bytesOf(b'{"~c":["Point",[1]]}'),
            bytesOf(b'{"~c":["Point",[1,2,3]]}'),
            bytesOf(b'{"~c":["Point",1]}'),
            bytesOf(b'{"~c":"Point"}'),
        ):
            with self.assertRaises(ValueError, msg=body) as caught:
                loads(body)
            self.assertTrue(str(caught.exception).startswith("this is no plain data: "), body)
            self.assertLess(len(str(caught.exception)), 1000)

    def test_longNamesMakeNoLongMessages(self) -> None:
        """
        What is wrong is quoted in part.
        """
        long = b"~" + b"x" * 1_000_000
        for text in (b'{"%b":1}' % long, b'{"~c":["%b",[]]}' % long, b'{"~i":"%b"}' % long, b'{"~t":"%b"}' % long):
            with self.assertRaises(ValueError) as caught:
                loads(bytesOf(text))
            self.assertLess(len(str(caught.exception)), 1000)

    def test_twoKeysAreNoneOfOurs(self) -> None:
        """
        An object with more than one key is a dictionary, whatever they are.
        """
        self.assertEqual(loads(bytesOf(b'{"~b":1,"~x":2}')), {"~b": 1, "~x": 2})

    def test_classesAreMadeWithoutBeingCalled(self) -> None:
        """
        Reading runs nothing of a registered class but C{__post_init__}.
        """
        made: list[str] = []

        @dataclass
        class Eager:
            """
            A dataclass that notes what is done with it.
            """

            value: int

            def __post_init__(self) -> None:
                made.append(f"post {self.value}")

            def __new__(cls, *args: object) -> Eager:
                made.append("new")
                return object.__new__(cls)

            def __setattr__(self, name: str, value: object) -> None:
                made.append(name)
                object.__setattr__(self, name, value)

        registerClass(Eager, "test_plain.Eager")
        body = dumps(Eager(5))
        made.clear()
        self.assertEqual(loads(body).value, 5)
        self.assertEqual(made, ["post 5"])

    def test_whatAClassRefusesDoesNotArrive(self) -> None:
        """
        What C{__post_init__} raises, whatever it is, is about the bytes. It may complete the instance as well.
        """

        @dataclass(frozen=True, slots=True)
        class Name:
            """
            A name without slashes.
            """

            text: str
            size: int = field(init=False)

            def __post_init__(self) -> None:
                if "/" in self.text:
                    raise Unshowable(self.text)
                object.__setattr__(self, "size", len(self.text))

        registerClass(Name, "test_plain.Name")
        self.assertEqual(loads(dumps([Name("a"), {Name("bc"): 1}])), [Name("a"), {Name("bc"): 1}])
        self.assertEqual(loads(bytesOf(b'{"~c":["test_plain.Name",["abc",99]]}')).size, 3)
        for text in (b'"/"', b'"a/b"', b'"%b/"' % (b"x" * 100_000), b"5", b"null", b'{"~b":0}'):
            for wrap in (b"%b", b"[[%b]]", b'{"~s":[%b]}'):
                with self.assertRaises(ValueError, msg=text) as caught:
                    loads(bytesOf(wrap % (b'{"~c":["test_plain.Name",[%b,1]]}' % text)))
                self.assertIn("no test_plain.Name can have such fields", str(caught.exception))
                self.assertLess(len(str(caught.exception)), 1000)

    def test_mutated(self) -> None:
        """
        Whatever is done to good bytes, the outcome is a value or a C{ValueError}.
        """
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        originals = [
            dumps(value)
            for value in (
                [1, "two", b"three", None, 4.5, True, -(1 << 80)],
                {"a": [1, (2, {3}), frozenset([4])], 5: bytearray(b"six"), (7,): "~b"},
                [Point(1, Mark()), datetime(2024, 1, 1, tzinfo=UTC), date.min, time.max, timedelta(1, 2, 3)],
                nested(30, b"deep"),
            )
        ]
        read = 0
        for _ in range(10_000):
            body = mutated(chance, originals)
            try:
                loads(body)
            except ValueError:
                continue
            except BaseException as error:
                self.fail(f"{error!r} for {body!r}, with the seed {seed}")
            read += 1
        self.assertGreater(read, 100)


def mutated(chance: random.Random, originals: list[bytes]) -> bytes:
    """
    Return one of some texts, changed in a few places.
    """
    body = bytearray(chance.choice(originals))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(body) + 1)
        match chance.randrange(6):
            case 0:
                body[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                body[place:place] = chance.choice([b"[", b"{", b'"', b"~", b"}", b"]", b",", b"\\", b"0", b"\xed"])
            case 2:
                del body[place : place + chance.randint(1, 5)]
            case 3:
                other = chance.choice(originals)
                start = chance.randrange(len(other))
                body[place:place] = other[start : start + chance.randint(1, 20)]
            case 4:
                del body[place:]
            case _:
                body[:4] = (len(body) - 4 - chance.randrange(3)).to_bytes(4, "little", signed=True)
    if chance.random() < 0.5:
        body[:4] = max(0, len(body) - 4).to_bytes(4, "little")
    return bytes(body)


class RegisterTests(SynchronousTestCase):
    """
    Registering dataclasses.
    """

    def test_nameAndDecorator(self) -> None:
        """
        A class is returned, and known by its own name or by one that is given.
        """

        @dataclass
        class Local:
            """
            A dataclass.
            """

            value: int

        self.assertIs(registerClass(Local, "test_plain.Local"), Local)
        self.assertIs(registerClass(Local, "test_plain.Local"), Local)
        body = dumps(Local(3))
        self.assertIn('["test_plain.Local",[3]]', json.dumps(body.decode("utf-8", "replace")).replace("\\", ""))
        self.assertEqual(loads(body), Local(3))

    def test_taken(self) -> None:
        """
        Two classes cannot have one name.
        """
        with self.assertRaises(ValueError) as caught:
            registerClass(Stranger, "Point")
        self.assertIn("registered as 'Point' already", str(caught.exception))
        self.assertRaises(NotPlain, dumps, Stranger())

    def test_notEverythingCanBe(self) -> None:
        """
        Only dataclasses can be registered, themselves, and those that can be made without being called.
        """

        @dataclass
        class Oops(Exception):
            """
            An exception cannot.
            """

            value: int = 0

        for wrong in (int, len, Stranger(), "Stranger", Oops):
            self.assertRaises(TypeError, registerClass, wrong)
        self.assertRaises(TypeError, registerClass, Stranger, 5)

    def test_whatPostInitNeedsMustTravel(self) -> None:
        """
        A class whose C{__post_init__} could not be called there is refused, with an error that says what it needs.
        """

        @dataclass
        class Given:
            """
            A dataclass whose initialiser takes more than the fields.
            """

            value: int
            unit: InitVar[str] = "m"

            def __post_init__(self, unit: str) -> None:
                pass

        @dataclass
        class Wanting:
            """
            One that cannot be made at all.
            """

            value: int

            def __post_init__(self, unit: str) -> None:  # type: ignore[override]
                pass

        @dataclass
        class Idle:
            """
            One that does nothing with what it takes.
            """

            value: int
            unit: InitVar[str] = "m"
            kind: ClassVar[str] = "idle"

        @dataclass
        class Passing(Idle):
            """
            One that passes on whatever it takes.
            """

            def __post_init__(self, *args: object, **kw: object) -> None:
                pass

        for wrong in (Given, Wanting, Passing):
            with self.assertRaises(TypeError) as caught:
                registerClass(wrong, "test_plain.Wrong")
            self.assertIn("__post_init__ needs more than the fields", str(caught.exception))
            self.assertIn("'unit'" if wrong is Wanting else "unit", str(caught.exception))
        registerClass(Idle, "test_plain.Idle")
        self.assertEqual(loads(dumps(Idle(5))), Idle(5))
