"""
Values as MessagePack: what JSON has, and bytes, dates and times, within the limits of plain values.

The one module that needs the package C{msgpack}.

@see: U{https://github.com/msgpack/msgpack/blob/master/spec.md}
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgpack

from asynqueue.protocol import plain
from asynqueue.protocol.extent import Extent

#: Most of what is in no need of a closer look.
_SCALARS = frozenset([str, bytes, int, float, bool, type(None)])

#: Those that are as long as their first byte says, in a row; of texts, the short ones.
_SHORT = re.compile(
    rb"(?:[\x00-\x7f\xe0-\xff\xc0\xc2\xc3\xa0]|[\xcc\xd0].|[\xcd\xd1]..|[\xce\xd2\xca].{4}|[\xcf\xd3\xcb].{8}|"
    + b"|".join(b"\\x%x.{%d}" % (0xA0 + length, length) for length in range(1, 16))
    + b")++",
    re.DOTALL,
)

#: Of all others but lists and maps, by their first byte: how many bytes say how long they are, and how many more there
#: are in any case.
_LONG = {
    **{0xA0 + length: (0, length) for length in range(16, 32)},
    **{0xC4 + number: (1 << number, 0) for number in range(3)},
    **{0xC7 + number: (1 << number, 1) for number in range(3)},
    **{0xD4 + number: (0, 1 + (1 << number)) for number in range(5)},
    **{0xD9 + number: (1 << number, 0) for number in range(3)},
}

#: What begins lists and maps: how many bytes say how many values they have.
_CONTAINERS = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}

#: What lists and maps may begin with.
_OPENINGS = bytes([*range(0x80, 0xA0), *_CONTAINERS])


def dumps(value: Any) -> bytes:
    """
    Return a value as MessagePack.

    @raise TypeError: There is something in it that MessagePack has not, or a key that is neither text nor bytes.
    @raise ValueError: It is nested too deeply, or consists of too many values, or has a number beyond 64 bits.
    """
    Extent(_isContainer, _SCALARS).add(value, plain.DEPTH)
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True, datetime=True, strict_types=False)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return packed


def _isContainer(value: Any) -> bool:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | bytes):
                raise TypeError(f"a key must be text or bytes in MessagePack, not {key!r:.100}")
        return True
    if isinstance(value, msgpack.ExtType | msgpack.Timestamp):
        raise TypeError(f"an instance of {type(value).__name__} does not travel")
    return isinstance(value, list | tuple)


def loads(body: bytes) -> Any:
    """
    Return the value that MessagePack stands for.

    @raise ValueError: It is none; or nested too deeply, or of too many values; or a key is there twice, or neither text
        nor bytes; or there is something of a type that MessagePack does not have itself.
    """
    try:
        # A value takes a byte at least.
        if len(body) > plain.ITEMS:
            _checkItems(body)
        value = msgpack.unpackb(
            body, raw=False, strict_map_key=True, timestamp=3, object_pairs_hook=_unique, ext_hook=_refuse
        )
        # So many are harmless, wherever they stand.
        if len(body) - len(body.translate(None, _OPENINGS)) > plain.DEPTH:
            _checkDepth(value, plain.DEPTH)
    except Exception as error:  # whoever has sent it may have meant ill: whatever goes wrong has one outcome
        raise ValueError(f"this is no MessagePack: {error}") from error
    return value


def _checkItems(body: bytes) -> None:
    """
    Count how many values there are in lists and maps, as far as the bytes are MessagePack, before there is room made
    for them.

    @raise ValueError: They are too many.
    """
    left = plain.ITEMS
    # In each turn there is one value at least, or the key of one, or that which is in none.
    turns = 2 * plain.ITEMS + 1
    place = 0
    while place < len(body):
        first = body[place]
        if 0x80 <= first < 0xA0:
            left -= first & 15
            place += 1
        elif first in _CONTAINERS:
            end = place + 1 + _CONTAINERS[first]
            left -= int.from_bytes(body[place + 1 : end], "big")
            place = end
        elif first in _LONG:
            size, more = _LONG[first]
            end = place + 1 + size
            place = end + more + int.from_bytes(body[place + 1 : end], "big")
        else:
            short = _SHORT.match(body, place)
            if short is None:
                # The decoder comes no further.
                return
            place = short.end()
        turns -= 1
        if left < 0 or turns < 0:
            raise ValueError(f"it consists of more than {plain.ITEMS} values")


def _checkDepth(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is not list and kind is not dict:
        return
    if depth <= 0:
        raise ValueError(f"it is nested more than {plain.DEPTH} deep")
    values = value.values() if kind is dict else value
    if not _SCALARS.issuperset(map(type, values)):
        for each in values:
            _checkDepth(each, depth - 1)


def _unique(pairs: list[tuple[str | bytes, Any]]) -> dict[str | bytes, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a map has a key twice")
    return found


def _refuse(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"values of type {code} do not travel")
