"""
Values as plain data: what may travel between machines that do not trust each other with code.

These travel: C{None}, booleans, whole numbers of any size, floating-point numbers, text, bytes, lists, tuples, sets,
dictionaries with such keys and values, dates and times, and instances of the dataclasses that both ends have
registered. Nothing else does, and nothing is converted in passing: what arrives equals what was sent, and is of the
same type. Reading runs nothing but methods of those classes: C{__post_init__}, and for keys and members of sets
C{__hash__} and C{__eq__}.

The bytes are JSON and, after it, what the JSON stands for but cannot hold::

    4 bytes     the length of the JSON, little-endian
    JSON        in it, whatever JSON has no form for is an object with one key that begins with a tilde
    buffers     the bytes objects, one after the other; the JSON has their lengths
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta
from inspect import signature
from struct import Struct
from typing import Any, TypeVar

from asynqueue.callinfo import safeRepr, said
from asynqueue.protocol.foreseeable import ALIKE, checkHashes, foreseeable
from asynqueue.protocol.jsontext import Skeleton

#: How deeply values may be nested.
DEPTH = 32

#: How many values one may consist of.
ITEMS = 1_000_000

#: How many keys of dictionaries and members of sets may be in one that are neither text nor bytes, all together. A
#: million of them that have been chosen for it take an hour: see L{asynqueue.protocol.foreseeable}.
KEYS = 10_000

_LENGTH = Struct("<I")

#: Whole numbers beyond this are not written in decimal digits, which takes time that grows with their square.
_DECIMAL = 1 << 63

#: How many values of a list, and how deeply nested, are looked through for whether JSON can hold them as they are.
#: Together they are fewer than L{ITEMS}.
BARE_ITEMS = 99
BARE_DEPTH = 3

#: Those of these types are so, and whole numbers that are not too large.
_SCALARS = frozenset([str, bool, float, type(None)])

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().decode

_Set = TypeVar("_Set", set[Any], frozenset[Any])

_classes: dict[str, type] = {}
_names: dict[type, str] = {}


def registerClass(cls: type, name: str | None = None) -> type:
    """
    Let instances of a dataclass travel. To be done at both ends, and of use as a decorator.

    They arrive with the values of their fields, without C{__init__} being called. C{__post_init__} is, if there is one,
    so that what it refuses does not arrive. It must take what it has made itself. What an C{__init__} or C{__new__}
    that is written by hand looks at is not looked at there.

    @param name: What it is called on the way; by default as it is called itself.
    @return: The class.
    @raise TypeError: It is no dataclass, or its C{__post_init__} needs arguments, which do not travel: those of
        C{InitVar}, for instance.
    @raise ValueError: There is another class of that name.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(f"only a dataclass can be registered, and {cls!r} is none")
    # What cannot be made this way could not be read.
    object.__new__(cls)
    _checkPostInit(cls)
    short = cls.__name__ if name is None else name
    if not isinstance(short, str):
        raise TypeError(f"name must be text, not {short!r}")
    if _classes.setdefault(short, cls) is not cls:
        raise ValueError(f"there is a class registered as {short!r} already, {_classes[short]!r}: pass another name")
    _names[cls] = short
    return cls


def _checkPostInit(cls: Any) -> None:
    post = getattr(cls, "__post_init__", None)
    if post is None:
        return
    # Of an C{InitVar} there is an argument, but no field; of a C{ClassVar} neither.
    known = {each.name for each in dataclasses.fields(cls)}
    needed = [name for name in signature(cls).parameters if name in cls.__dataclass_fields__ and name not in known]
    try:
        signature(post).bind(None)
    except TypeError as error:
        needed = needed or [str(error)]
    if needed:
        raise TypeError(
            f"{cls!r} cannot be registered: its __post_init__ needs more than the fields ({', '.join(needed)}), and"
            " only these travel"
        )


class NotPlain(TypeError):
    """
    There is something in a value that is no plain data.

    @ivar place: Where: C{"[1]['lock']"}; empty if it is the value itself.
    @ivar what: What it is.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.place = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


def dumps(value: Any) -> bytes:
    """
    Return a value as bytes.

    @raise NotPlain: There is something in it that is no plain data; the message says where.
    @raise ValueError: It is nested too deeply, or consists of too many values, or has too many keys that are neither
        text nor bytes.
    """
    # Hot path, watched by `bench --only wire`.
    if _isBare([value], BARE_DEPTH):
        text = _encode(value).encode("utf-8", "surrogatepass")
        return _LENGTH.pack(len(text)) + text
    packer = _Packer()
    text = _encode(packer.packed(value, DEPTH)).encode("utf-8", "surrogatepass")
    return b"".join([_LENGTH.pack(len(text)), text, *packer.buffers])


def _isBare(values: list[Any], depth: int) -> bool:
    """
    Tell whether JSON has a form for some values as they are, as for most calls. They may be few, and not nested deeply.
    """
    # Hot path, watched by `bench --only wire`.
    if len(values) > BARE_ITEMS:
        return False
    for each in values:
        kind = type(each)
        if kind is int:
            if not -_DECIMAL < each < _DECIMAL:
                return False
        elif kind is list:
            if not depth or not _isBare(each, depth - 1):
                return False
        elif kind not in _SCALARS:
            return False
    return True


def loads(body: bytes | memoryview) -> Any:
    """
    Return the value of which there are the bytes.

    @raise ValueError: They are no such, or the value is nested too deeply, or consists of too many.
    """
    try:
        (length,) = _LENGTH.unpack_from(body)
        text = bytes(body[_LENGTH.size : _LENGTH.size + length])
        if len(text) != length:
            raise ValueError("it is cut off")
        # As many brackets and commas as are allowed are harmless, wherever they stand.
        brackets = text.count(b"[") + text.count(b"{")
        isInDoubt = (brackets > DEPTH or brackets + text.count(b",") > ITEMS) and _mayBeTooMuch(text)
        if b"{" not in text and len(body) == _LENGTH.size + length:
            # As they are.
            value = _decode(text.decode("utf-8", "surrogatepass"))
        else:
            unpacker = _Unpacker(memoryview(body)[_LENGTH.size + length :])
            value = json.loads(text.decode("utf-8", "surrogatepass"), object_hook=unpacker.unpacked)
            unpacker.checkEnd()
        if isInDoubt:
            # What can be written can be read, and nothing else.
            _Packer().packed(value, DEPTH)
    except Exception as error:  # whoever has sent it may have meant ill: whatever goes wrong has one outcome
        raise ValueError(f"this is no plain data: {error}") from error
    return value


class _KeyCount:
    """
    Counts the keys that somebody may have chosen so that they get in each other's way.
    """

    _keysLeft: int

    def countKeys(self, keys: Collection[Any]) -> None:
        """
        Take note of the keys of a dictionary, or the members of a set, before one is made of them.

        @raise ValueError: They are too many, or too many have the same hash.
        """
        number = foreseeable(keys)
        self._keysLeft -= number
        if self._keysLeft < 0:
            raise ValueError(f"it has more than {KEYS} keys and members of sets that are neither text nor bytes")
        if number > ALIKE:
            checkHashes(keys)


class _Packer(_KeyCount):
    """
    Makes what JSON can hold of values.
    """

    def __init__(self) -> None:
        self._keysLeft = KEYS
        self.buffers: list[bytes] = []
        self._left = ITEMS

    def packed(self, value: Any, depth: int) -> Any:
        """
        Make it of one value.

        @param depth: How many levels of others there may be from here on.
        """
        kind = type(value)
        if kind is str or kind is bool or value is None or kind is float:
            return value
        if kind is int:
            return value if -_DECIMAL < value < _DECIMAL else {"~i": hex(value)}
        if kind is list:
            return self._all(value, depth)
        if kind is dict:
            return self._dict(value, depth)
        if kind is bytes or kind is bytearray:
            self.buffers.append(value)
            return {"~b" if kind is bytes else "~a": len(value)}
        pack = _PACKERS.get(kind)
        if pack is not None:
            return pack(self, value, depth)
        if kind not in _names:
            raise NotPlain(f"an instance of {kind.__module__}.{kind.__qualname__} is no plain data")
        return self._instance(value, depth)

    def _count(self, number: int, depth: int) -> None:
        """
        Take note of so many values more, at a level.

        @raise ValueError: They are too many, or nested too deeply.
        """
        if depth <= 0:
            raise ValueError(f"it is nested more than {DEPTH} deep")
        self._left -= number
        if self._left < 0:
            raise ValueError(f"it consists of more than {ITEMS} values")

    def _all(self, values: Any, depth: int) -> list[Any]:
        self._count(len(values), depth)
        packed: list[Any] = []
        try:
            for value in values:
                packed.append(self.packed(value, depth - 1))  # noqa: PERF401 -- their number tells the place
        except NotPlain as error:
            error.place = f"[{len(packed)}]{error.place}"
            raise
        return packed

    def _members(self, values: set[Any] | frozenset[Any], depth: int) -> list[Any]:
        self.countKeys(values)
        return self._all(values, depth)

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        key: Any = None
        isKey = False
        try:
            if all(type(key) is str and key[:1] != "~" for key in value):
                self._count(len(value), depth)
                named: dict[str, Any] = {}
                for key, each in value.items():
                    named[key] = self.packed(each, depth - 1)
                return named
            self._count(2 * len(value), depth)
            self.countKeys(value)
            pairs = []
            for key, each in value.items():
                isKey = True
                packed = self.packed(key, depth - 1)
                isKey = False
                pairs.append([packed, self.packed(each, depth - 1)])
            return {"~m": pairs}
        except NotPlain as error:
            error.place = f" as a key{error.place}" if isKey else f"[{safeRepr(key, 100)}]{error.place}"
            raise

    def _instance(self, value: Any, depth: int) -> dict[str, Any]:
        fields = dataclasses.fields(value)
        self._count(len(fields), depth)
        packed = []
        for field in fields:
            try:
                packed.append(self.packed(getattr(value, field.name), depth - 1))
            except NotPlain as error:
                error.place = f".{field.name}{error.place}"
                raise
        return {"~c": [_names[type(value)], packed]}


_PACKERS: dict[type, Callable[[_Packer, Any, int], Any]] = {
    tuple: lambda packer, value, depth: {"~t": packer._all(value, depth)},
    set: lambda packer, value, depth: {"~s": packer._members(value, depth)},
    frozenset: lambda packer, value, depth: {"~f": packer._members(value, depth)},
    datetime: lambda packer, value, depth: {"~d": _written(value)},
    date: lambda packer, value, depth: {"~D": value.isoformat()},
    time: lambda packer, value, depth: {"~T": _written(value)},
    timedelta: lambda packer, value, depth: {"~l": [value.days, value.seconds, value.microseconds]},
}


def _written(value: datetime | time) -> str:
    """
    Return a time as ISO 8601 has it; with a tilde after the second one of two that a change of the clocks makes alike.
    """
    if value.tzinfo is not None and value.utcoffset() is None:
        raise NotPlain(f"a {type(value).__name__} whose time zone has no offset is no plain data")
    return f"{value.isoformat()}~" if value.fold else value.isoformat()


class _Unpacker(_KeyCount):
    """
    Makes values of what JSON has held.
    """

    def __init__(self, buffers: memoryview) -> None:
        self._keysLeft = KEYS
        self._buffers = buffers
        self._place = 0

    def unpacked(self, found: dict[str, Any]) -> Any:
        if len(found) != 1:
            return found
        [(key, content)] = found.items()
        if key == "~b":
            return bytes(self._buffer(content))
        if key == "~a":
            return bytearray(self._buffer(content))
        if key[:1] != "~":
            return found
        unpack = _UNPACKERS.get(key)
        if unpack is None:
            raise ValueError(f"there is nothing that is written as {key!r:.100}")
        return unpack(self, content)

    def _buffer(self, length: int) -> memoryview:
        if type(length) is not int or not 0 <= length <= len(self._buffers) - self._place:
            raise ValueError("bytes are missing")
        end = self._place + length
        buffer = self._buffers[self._place : end]
        self._place = end
        return buffer

    def members(self, kind: Callable[[list[Any]], _Set], content: Any) -> _Set:
        """
        Return a set, of one kind or the other.
        """
        self.countKeys(_list(content))
        made = kind(content)
        if len(made) != len(content):
            raise ValueError("a member of a set is there twice")
        return made

    def mapping(self, content: Any) -> dict[Any, Any]:
        """
        Return a dictionary of pairs.
        """
        pairs = _list(content)
        self.countKeys([key for key, _ in map(_list, pairs)])
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key of a dictionary is there twice")
        return made

    def checkEnd(self) -> None:
        if self._place != len(self._buffers):
            raise ValueError("there are bytes that belong to nothing")


def _instance(content: list[Any]) -> Any:
    name, values = content
    cls = _classes.get(name)
    if cls is None:
        raise ValueError(f"no class is registered as {name!r:.100}")
    fields = dataclasses.fields(cls)
    if len(fields) != len(values):
        raise ValueError(f"an instance of {name} has {len(fields)} fields, not {len(values)}")
    # As pickling would: without __init__, which may do anything. What __post_init__ refuses could not be made here.
    instance: Any = object.__new__(cls)
    for field, value in zip(fields, values, strict=True):
        object.__setattr__(instance, field.name, value)
    if hasattr(cls, "__post_init__"):
        try:
            instance.__post_init__()
        except Exception as error:  # it is anybody's, and whatever it raises is about what has been sent
            raise ValueError(f"no {name} can have such fields: {said(error):.500}") from error
    return instance


def _list(content: Any) -> list[Any]:
    if type(content) is not list:
        raise ValueError(f"a list should be where {content!r:.100} is")
    return content


def _text(content: Any) -> str:
    if type(content) is not str:
        raise ValueError(f"text should be where {content!r:.100} is")
    return content


def _read(kind: type[datetime | time], content: str) -> datetime | time:
    value = kind.fromisoformat(content.removesuffix("~"))
    return value.replace(fold=1) if content[-1:] == "~" else value


_UNPACKERS: dict[str, Callable[[_Unpacker, Any], Any]] = {
    "~i": lambda unpacker, content: int(_text(content), 16),
    "~t": lambda unpacker, content: tuple(_list(content)),
    "~s": lambda unpacker, content: unpacker.members(set, content),
    "~f": lambda unpacker, content: unpacker.members(frozenset, content),
    "~m": lambda unpacker, content: unpacker.mapping(content),
    "~d": lambda unpacker, content: _read(datetime, _text(content)),
    "~D": lambda unpacker, content: date.fromisoformat(_text(content)),
    "~T": lambda unpacker, content: _read(time, _text(content)),
    "~l": lambda unpacker, content: timedelta(*_list(content)),
    "~c": lambda unpacker, content: _instance(_list(content)),
}

#: So many levels JSON may have for each of a value's, for what is ours takes more of them; and two more for what is at
#: the end of a branch.
_LEVELS = 3


def _mayBeTooMuch(text: bytes) -> bool:
    """
    Tell whether JSON may stand for more than a value may consist of, or be nested too deeply.

    @raise ValueError: It does, by far.
    """
    # What is ours takes up to four values more than it is, and half a pair one.
    ours = min(text.count(b'{"~'), ITEMS + 1)
    try:
        skeleton = Skeleton(text, ITEMS + ITEMS // 2 + 4 * ours if ours else ITEMS)
    except ValueError:
        raise ValueError(f"it consists of more than {ITEMS} values") from None
    depth = skeleton.depth()
    if depth > _LEVELS * DEPTH + 2:
        raise ValueError(f"it is nested more than {DEPTH} deep")
    return depth > DEPTH or (skeleton.most > ITEMS and skeleton.items() > ITEMS)
