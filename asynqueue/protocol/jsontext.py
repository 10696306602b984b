"""
How large what JSON stands for is, and how deeply nested, told from the text before anything is made of it.

Whatever the text is, JSON or not, that takes a time in proportion to its length. Of a text that is no JSON it is told
as if it ended where it ceases to be JSON, or more: a decoder comes no further.
"""

from __future__ import annotations

import re
from itertools import accumulate

#: Texts, whose brackets and commas do not count, when nothing is escaped in them any more; one may have no end.
_TEXTS = re.compile(rb'"[^"]*"?')

#: Everything but what parts JSON. Without colons, a text would end where the next begins.
_CONTENT = bytes(set(range(256)) - set(b'[]{},":'))

#: What may stand between brackets in which there is nothing.
_SPACE = b" \t\r\n"

#: Brackets of all kinds as two, and everything else.
_SQUARE = bytes.maketrans(b"{}", b"[]")
_OTHER = bytes(set(range(256)) - set(b"[]{}"))

#: Brackets as steps, up and down, each a signed byte.
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")


class Skeleton:
    """
    The brackets and commas of JSON, but for those in texts.
    """

    def __init__(self, text: bytes, limit: int) -> None:
        """
        @param limit: How many values there may be in its lists and objects together.
        @raise ValueError: There are more.
        """
        self._text = text
        if b"\\" in text:
            # What is escaped stands in texts only, and brackets never are.
            self._text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        # Most of it goes at once. Two quotes in a row are a text in which there is nothing that counts.
        parts = self._text.translate(None, _CONTENT)
        # A value has a key at most, and there is one that is in nothing.
        if parts.count(b'"') > 4 * limit + 2:
            raise ValueError("there are more texts in it than values may be")
        self._bare = _TEXTS.sub(b"", parts.replace(b'""', b""))
        #: As many values as there can be; up to twice as many as there are, and one.
        self.most = self._bare.count(b",") + self._bare.count(b"[") + self._bare.count(b"{")
        if self.most > 2 * limit + 1 or (self.most > limit and self.items() > limit):
            raise ValueError("there are more values in it than may be")

    def items(self) -> int:
        """
        Return how many values there are in its lists and objects together. Takes more time than all else.
        """
        shown = _TEXTS.sub(b'"', self._text.translate(None, _SPACE))
        return self.most - shown.count(b"[]") - shown.count(b"{}")

    def depth(self) -> int:
        """
        Return how many levels of lists and objects there are.
        """
        brackets = self._bare.translate(_SQUARE, _OTHER)
        depth = 0
        while brackets:
            # With each turn the innermost level goes, which is most of it, but for what is made to be read slowly.
            outer = brackets.replace(b"[]", b"")
            if 4 * len(outer) > 3 * len(brackets):
                steps = memoryview(brackets.translate(_STEPS)).cast("b")
                return depth + max(accumulate(steps))
            brackets = outer
            depth += 1
        return depth
