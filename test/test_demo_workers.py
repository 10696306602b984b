"""
Tests for L{demo.workers}.
"""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker, ThreadWorker
from asynqueue.interfaces import IWorker
from demo.workers import KINDS, MOST_WORKERS, BadWorkers, hasInterpreterLock, parseWorkers


class ParseWorkersTests(SynchronousTestCase):
    """
    Tests for L{parseWorkers}.
    """

    def parse(self, text: str) -> list[tuple[str, int]]:
        return [(kind.name, count) for kind, count in parseWorkers(text).parts]

    def complaint(self, text: str) -> str:
        return str(self.assertRaises(BadWorkers, parseWorkers, text))

    def test_kindAndCount(self) -> None:
        self.assertEqual(self.parse("thread:4"), [("thread", 4)])
        self.assertEqual(self.parse("async:1"), [("async", 1)])
        self.assertEqual(self.parse(f"thread:{MOST_WORKERS}"), [("thread", MOST_WORKERS)])

    def test_kindAlone(self) -> None:
        self.assertEqual(self.parse("thread"), [("thread", 1)])

    def test_several(self) -> None:
        self.assertEqual(self.parse("thread:3, async"), [("thread", 3), ("async", 1)])

    def test_unknownKind(self) -> None:
        """
        The error says what was wrong and names every valid kind.
        """
        for text in ("fibre:4", "", ":4", "Thread:4", "thread:2,", "4", "thread :2"):
            complaint = self.complaint(text)
            self.assertIn(repr(text), complaint)
            for name in KINDS:
                self.assertIn(name, complaint)

    def test_badCount(self) -> None:
        for count in ("", "0", "-1", "four", "1.5", "65", "4:4", "²", "٣", " 4"):
            complaint = self.complaint(f"thread:{count}")
            self.assertIn(repr(count), complaint)
            self.assertIn(f"from 1 to {MOST_WORKERS}", complaint)

    def test_keepsText(self) -> None:
        self.assertEqual(parseWorkers("thread:3,async").text, "thread:3,async")


class WorkerChoiceTests(SynchronousTestCase):
    """
    Tests for L{demo.workers.WorkerChoice}.
    """

    async def hired(self, text: str) -> list[IWorker]:
        async with parseWorkers(text).hire(["tests"]) as workers:
            return workers

    def test_hire(self) -> None:
        """
        Each worker is one of its own, qualified for the series.
        """
        workers = self.successResultOf(Deferred.fromCoroutine(self.hired("thread:2,async")))
        self.assertEqual([type(worker) for worker in workers], [ThreadWorker, ThreadWorker, AsyncWorker])
        self.assertEqual([worker.iQualified for worker in workers], [["tests"]] * 3)
        workers[0].iQualified.append("more")
        self.assertEqual(workers[1].iQualified, ["tests"])
        for worker in workers:
            self.successResultOf(worker.stop())

    def test_compare(self) -> None:
        """
        What to expect of the time is said once for each kind.
        """
        threads = parseWorkers("thread:4").compare()
        self.assertIn("(the GIL)" if hasInterpreterLock() else "side by side", threads)
        both = parseWorkers("thread:4,async:1,thread:2").compare()
        self.assertEqual(both, threads + " " + parseWorkers("async").compare())
