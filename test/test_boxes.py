"""
Tests of boxes of AMP as bytes, against AMP's own.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.amp import AmpBox, parseString
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.protocol.boxes import BoxReader, written

BOXES = st.lists(
    st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=300), min_size=1, max_size=5), max_size=5
)


class BoxTests(SynchronousTestCase):
    """
    What is read, and what is not.
    """

    @given(BOXES, st.lists(st.integers(1, 100), min_size=1))
    def test_anyCut(self, boxes: list[dict[bytes, bytes]], sizes: list[int]) -> None:
        """
        Boxes that AMP has written come out as they were, however they are cut, and nothing is kept of them.
        """
        data = b"".join(AmpBox(box).serialize() for box in boxes)
        reader = BoxReader(5, 10_000)
        found = []
        place = 0
        while data:
            size = sizes[place % len(sizes)]
            found += reader.feed(data[:size])
            data = data[size:]
            place += 1
        self.assertEqual(found, boxes)
        self.assertFalse(reader.isWithin)
        self.assertEqual(reader.held, 0)

    @given(BOXES)
    def test_written(self, boxes: list[dict[bytes, bytes]]) -> None:
        """
        AMP reads what is written.
        """
        data = b"".join(written(box.items()) for box in boxes)
        self.assertEqual([dict(box) for box in parseString(data)], boxes)

    def refused(self, data: bytes, text: str) -> None:
        """
        Some bytes are refused for a reason, by a reader of 2 pairs and 20 bytes.
        """
        error = self.assertRaises(ValueError, BoxReader(2, 20).feed, data)
        self.assertIn(text, str(error))

    def test_limits(self) -> None:
        """
        A box may be as large as it may be, and what is larger is refused before it is there.
        """
        box = {b"a": bytes(9), b"b": bytes(9)}
        self.assertEqual(BoxReader(2, 20).feed(written(box.items())), [box])
        self.refused(written({b"a": bytes(9), b"b": bytes(10)}.items())[:19], "more than 20 bytes")
        self.refused(written({b"a": b"", b"b": b"", b"c": b""}.items())[:13], "more than 2 pairs")
        self.refused(b"\x01\x00", "a key of 256 bytes")
        self.refused(b"\xff\xff", "a key of 65535 bytes")

    def test_eachBoxByItself(self) -> None:
        """
        The limits are those of each box, not of all of them.
        """
        box = {b"a": bytes(19)}
        self.assertEqual(BoxReader(1, 20).feed(3 * written(box.items())), [box] * 3)

    def test_nonsense(self) -> None:
        """
        A box without pairs is none, nor is one that has a key twice.
        """
        self.refused(b"\0\0", "nothing in it")
        self.refused(written([(b"a", b"1"), (b"a", b"2")]), "a key that it has already")
