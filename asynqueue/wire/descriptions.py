"""
The parts of a description of an endpoint, such as C{"aqtls:8700:interface=192.0.2.1"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from attrs import frozen


@frozen
class Description:
    """
    A description of an endpoint, in its parts.

    @ivar text: The whole.
    @ivar kind: What stands before the first colon, in lower case.
    @ivar arguments: What has no name.
    @ivar keywords: What has one.
    """

    text: str
    kind: str
    arguments: tuple[str, ...]
    keywords: Mapping[str, str]

    def wrong(self, problem: str) -> NoReturn:
        """
        Complain.

        @raise ValueError: Always.
        """
        raise ValueError(f"the description {self.text!r} {problem}")


def described(description: str) -> Description:
    r"""
    Take a description apart: its parts stand between colons, and a backslash makes any character a part of the text,
    as in C{"aqtls:8700:interface=\:\:1"}.

    @raise TypeError: It is no text.
    @raise ValueError: It is empty, ends in the middle, or has a name twice.
    """
    if not isinstance(description, str):
        raise TypeError(f"description must be a text, such as 'unix:/run/user/1000/queue', not {description!r}")
    arguments: list[str] = []
    keywords: dict[str, str] = {}
    for name, value in _parts(description):
        if name is None:
            arguments.append(value)
        elif name in keywords:
            raise ValueError(f"the description {description!r} has {name}= twice")
        else:
            keywords[name] = value
    if not arguments or not arguments[0]:
        raise ValueError(f"the description {description!r} must begin with a kind of endpoint, such as unix:")
    return Description(description, arguments[0].lower(), tuple(arguments[1:]), keywords)


def _parts(description: str) -> list[tuple[str | None, str]]:
    parts: list[tuple[str | None, str]] = []
    name: str | None = None
    current = ""
    characters = iter(description)
    for character in characters:
        if character == "\\":
            try:
                current += next(characters)
            except StopIteration:
                raise ValueError(f"the description {description!r} ends with a backslash") from None
        elif character == ":":
            parts.append((name, current))
            name, current = None, ""
        elif character == "=" and name is None:
            name, current = current, ""
        else:
            current += character
    parts.append((name, current))
    return parts
