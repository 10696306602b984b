"""
Tests for L{demo.rows}.
"""

import pickle
from typing import Any

from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from demo.complexity import FunctionReport
from demo.rows import ROWS_A_TURN, FileFindings, FileReport, Longest, Place, Row, RowConsumer


def place(lines: int, file: str = "some.py", line: int = 1) -> Place:
    return Place(FunctionReport("work", line, lines, 1), file)


class LongestTests(SynchronousTestCase):
    """
    Tests for L{Longest}.
    """

    def test_none(self) -> None:
        self.assertEqual(Longest().places(), ())

    def test_longest(self) -> None:
        """
        Only so many are kept, the longest first.
        """
        longest = Longest(3)
        longest.add([place(lines) for lines in (5, 1, 7)])
        longest.add([place(lines) for lines in (6, 2)])
        self.assertEqual([each.function.lines for each in longest.places()], [7, 6, 5])

    def test_equals(self) -> None:
        """
        Of functions of one length, those of the file with the lesser name come first, whatever the order of arrival.
        """
        places = [place(4, "a.py", 3), place(4, "a.py", 9), place(4, "b.py", 1)]
        for order in (places, places[::-1]):
            longest = Longest(2)
            longest.add(order)
            self.assertEqual(longest.places(), tuple(places[:2]))


class FileFindingsTests(SynchronousTestCase):
    """
    Tests for L{FileFindings}.
    """

    def test_rows(self) -> None:
        findings = FileFindings("some.py")
        report = FileReport("some.py", functions=2)
        for each in (place(3).function, place(5).function, report):
            findings.add(Row(each))
        self.assertIs(findings.report(), report)
        self.assertEqual(findings.longest.places(), (place(5), place(3)))

    def test_withoutFile(self) -> None:
        """
        Rows that stop before the one of the file are an error.
        """
        findings = FileFindings("some.py")
        findings.add(Row(place(3).function))
        self.assertIn("some.py", str(self.assertRaises(LookupError, findings.report)))

    def test_pickle(self) -> None:
        """
        A row can come from another process, and keeps the time when it was made.
        """
        row = Row(place(3).function)
        self.assertEqual(pickle.loads(pickle.dumps(row)), row)


class RecordingProducer:
    """
    Remembers what the consumer wants.
    """

    def __init__(self) -> None:
        self.wishes: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda: self.wishes.append(name)


class RowConsumerTests(SynchronousTestCase):
    """
    Tests for L{RowConsumer}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.findings = FileFindings("some.py")
        self.consumer = RowConsumer(self.findings, self.clock, timer=self.clock.seconds)
        self.producer = RecordingProducer()
        self.consumer.registerProducer(self.producer, True)

    def write(self, *madeAt: float) -> None:
        for each in madeAt:
            self.consumer.write(Row(place(3).function, each))

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IConsumer, self.consumer))

    def test_findings(self) -> None:
        self.write(0, 0)
        self.consumer.write(Row(FileReport("some.py")))
        self.assertEqual(self.consumer.number, 3)
        self.assertEqual(self.findings.report(), FileReport("some.py"))
        self.assertEqual(len(self.findings.longest.places()), 2)

    def test_pace(self) -> None:
        """
        After some rows, the producer is paused until the reactor's next turn.
        """
        for number in (1, 2, 3):
            self.write(*[0.0] * (ROWS_A_TURN - 1))
            self.assertEqual(self.producer.wishes, ["pauseProducing", "resumeProducing"] * (number - 1))
            self.write(0)
            self.assertEqual(self.producer.wishes[-1], "pauseProducing")
            self.clock.advance(0)
            self.assertEqual(self.producer.wishes[-1], "resumeProducing")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_endWhilePaused(self) -> None:
        """
        A producer that ends while it is paused is not resumed, and no timer is left.
        """
        self.write(*[0.0] * ROWS_A_TURN)
        self.consumer.unregisterProducer()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.producer.wishes, ["pauseProducing"])

    def test_lead(self) -> None:
        """
        The lead is the number of rows that had been made when an earlier one was taken.
        """
        self.clock.advance(10)
        self.write(1, 2)
        self.assertEqual(self.consumer.lead, 1)
        self.write(3)
        self.assertEqual(self.consumer.lead, 2)
        self.clock.advance(10)
        # Made after those were taken, and each taken at once.
        self.write(15)
        self.clock.advance(10)
        self.write(25)
        self.clock.advance(10)
        self.write(35)
        self.assertEqual(self.consumer.lead, 2)
        # Four that had been made when the first of them was taken.
        self.clock.advance(10)
        self.write(41, 42, 43, 44)
        self.assertEqual(self.consumer.lead, 3)
