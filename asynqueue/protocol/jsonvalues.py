"""
Values as JSON: what that has, and nothing else, within the limits of plain values.
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any, NoReturn

from asynqueue.protocol import plain
from asynqueue.protocol.extent import Extent
from asynqueue.protocol.jsontext import Skeleton

_SCALARS = frozenset([str, int, float, bool, type(None)])

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode


def dumps(value: Any) -> bytes:
    """
    Return a value as JSON, in UTF-8.

    @raise TypeError: There is something in it that JSON would make something else of, or nothing.
    @raise ValueError: It is nested too deeply, or consists of too many values, or has a number that JSON has not.
    """
    Extent(_isContainer, _SCALARS).add(value, plain.DEPTH)
    return _encode(value).encode("utf-8")


def _isContainer(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"a key must be text in JSON, not {key!r:.100}")
        return True
    if kind in _SCALARS:
        return False
    if kind in (list, tuple):
        return True
    raise TypeError(f"an instance of {kind.__module__}.{kind.__qualname__} cannot be written as JSON")


def loads(body: bytes) -> Any:
    """
    Return the value that JSON stands for.

    @raise ValueError: It is none, or not in UTF-8; or nested too deeply, or of too many values; or a key is there
        twice, or a number is none, or infinite.
    """
    try:
        brackets = body.count(b"[") + body.count(b"{")
        # So many are harmless, wherever they stand.
        if brackets > plain.DEPTH or brackets + body.count(b",") > plain.ITEMS:
            _checkExtent(body)
        return _decode(body.decode("utf-8"))
    except Exception as error:  # whoever has sent it may have meant ill: whatever goes wrong has one outcome
        raise ValueError(f"this is no JSON: {error}") from error


def _checkExtent(text: bytes) -> None:
    try:
        skeleton = Skeleton(text, plain.ITEMS)
    except ValueError:
        raise ValueError(f"it consists of more than {plain.ITEMS} values") from None
    if skeleton.depth() > plain.DEPTH:
        raise ValueError(f"it is nested more than {plain.DEPTH} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError(f"{digits:.100} is beyond all numbers")
    return number


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse).decode
