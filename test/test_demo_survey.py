"""
Tests for L{demo.survey}.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue import AsyncWorker, TaskQueue, ThreadWorker
from asynqueue.testing import MemoryWorker
from demo.complexity import FunctionReport
from demo.measure import measureFile
from demo.rows import ROWS_A_TURN, FileReport, Row
from demo.sources import Source, findSources
from demo.summary import summarise
from demo.survey import GRACE, TEST_SERIES, InterruptPolicy, Progress, Survey, SurveyResult

#: Seconds that a test with a real reactor may take.
TIMEOUT = 30


def makeSources(root: Path, library: int, tests: int) -> list[Source]:
    """
    Make files to measure: C{a00.py} and so on, and C{test/t00.py}.
    """
    (root / "test").mkdir(parents=True)
    for name in [f"a{number:02}" for number in range(library)] + [f"test/t{number:02}" for number in range(tests)]:
        root.joinpath(f"{name}.py").write_text("def work():\n    return a or b\n", encoding="utf-8")
    return findSources(root)


class TurningClock(Clock):
    """
    A clock on which a turn of the reactor takes some time, so that each L{advance} is one turn.
    """

    turn = 0.001

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:
        return super().callLater(max(delay, self.turn), callable, *args, **kw)


class SurveyTests(SynchronousTestCase):
    """
    Tests for L{Survey} on a worker that is stepped by hand.
    """

    def setUp(self) -> None:
        self.clock = TurningClock()
        self.worker = MemoryWorker([TEST_SERIES])
        self.queue = TaskQueue(self.worker, returnFailure=True, reactor=self.clock)
        self.progress: list[Progress] = []

    def tearDown(self) -> None:
        ended = self.queue.shutdown(drain=False, deadline=0)
        self.clock.pump([1] * 5)
        self.successResultOf(ended)

    def begin(self, sources: list[Source], **keywords: Any) -> tuple[Survey, "Deferred[SurveyResult]"]:
        survey = Survey(
            self.queue, sources, self.clock, progressed=self.progress.append, timer=self.clock.seconds, **keywords
        )
        return survey, survey.run()

    def step(self, times: int = 1000) -> None:
        for _ in range(times):
            if not self.worker.held:
                break
            self.worker.step()
            self.clock.advance(1)

    def names(self) -> list[str]:
        """
        Return the files in the order in which the worker got them.
        """
        return [task.callTuple[1][1] for task in self.worker.started if task.callTuple[0] is measureFile]

    def test_all(self) -> None:
        """
        Every file has a report, and it is counted who did what in which time.
        """
        sources = makeSources(Path(self.mktemp()), 6, 3)
        _, running = self.begin(sources)
        self.assertNoResult(running)
        self.step()
        result = self.successResultOf(running)
        self.assertEqual([report.name for report in result.reports], [source.name for source in sources])
        self.assertEqual([report.branches for report in result.reports], [1] * 9)
        self.assertEqual((result.left, result.interrupted), ((), False))
        self.assertEqual([(worker.kind, worker.finished) for worker in result.workers], [("MemoryWorker", 9)])
        self.assertEqual(
            [(each.lane.name, each.submitted, each.finished) for each in result.series],
            [("library", 6, 6), ("tests", 3, 3), ("summaries", 0, 0)],
        )
        self.assertEqual((result.rows, len(result.longest)), (18, 5))
        self.assertEqual(result.seconds, 8)
        self.assertEqual(max(each.lastAfter for each in result.series), 8)

    def test_niceness(self) -> None:
        """
        While both have files waiting, the library gets two turns for each one of the tests.
        """
        _, running = self.begin(makeSources(Path(self.mktemp()), 20, 20))
        self.step()
        contested = self.names()[:27]
        self.assertApproximates(sum(name.startswith("test/") for name in contested), 9, 1)
        library, tests = self.successResultOf(running).contested
        self.assertGreaterEqual(library, 19)
        self.assertApproximates(library / tests, 2, 0.3)

    def test_order(self) -> None:
        """
        Within its series, each file is measured in the order of the names.
        """
        self.begin(makeSources(Path(self.mktemp()), 12, 12))
        self.step()
        for prefix in ("a", "test/"):
            names = [name for name in self.names() if name.startswith(prefix)]
            self.assertEqual(names, sorted(names))

    def test_summaries(self) -> None:
        """
        After every so many files, a summary overtakes all files that wait.
        """
        _, running = self.begin(makeSources(Path(self.mktemp()), 10, 0), summaryEvery=3)
        self.step()
        result = self.successResultOf(running)
        places = [place for place, task in enumerate(self.worker.started) if task.callTuple[0] is summarise]
        # One more file had been given to the worker before the summary was submitted.
        self.assertEqual(len(places), 3)
        for number, place in enumerate(places, 1):
            self.assertLessEqual(place - (4 * number - 1), 1)
        self.assertEqual((result.series[2].submitted, result.series[2].finished), (3, 3))
        told = [progress.summary.files for progress in self.progress if progress.summary is not None]
        self.assertEqual(sorted(set(told)), [3, 6, 9])
        self.assertEqual(told, sorted(told))

    def test_progress(self) -> None:
        sources = makeSources(Path(self.mktemp()), 3, 0)
        Path(sources[1].path).write_bytes(b"if\n")
        self.begin(sources)
        self.step()
        self.assertEqual(self.progress, [Progress(1, 3, 0, None), Progress(2, 3, 1, None), Progress(3, 3, 1, None)])

    def test_unparsable(self) -> None:
        """
        A file that cannot be parsed, or has gone, is a row with its problem, and the others are measured.
        """
        sources = makeSources(Path(self.mktemp()), 4, 1)
        Path(sources[1].path).write_bytes(b"print 'old'\n")
        Path(sources[2].path).unlink()
        _, running = self.begin(sources)
        self.step()
        result = self.successResultOf(running)
        self.assertEqual([report.problem is None for report in result.reports], [True, False, False, True, True])
        self.assertIn("SyntaxError", result.reports[1].problem or "")
        self.assertIn("FileNotFoundError", result.reports[2].problem or "")

    def test_failedCall(self) -> None:
        """
        Even a call that fails, as no file makes it, is a row.
        """
        _, running = self.begin(makeSources(Path(self.mktemp()), 3, 0))
        self.step(1)
        self.worker.report("x", RuntimeError("the worker is unwell"))
        self.step()
        result = self.successResultOf(running)
        self.assertEqual([report.problem is None for report in result.reports], [True, False, True])
        self.assertIn("the worker is unwell", result.reports[1].problem or "")
        self.assertEqual(result.left, ())

    def test_failedInTheMiddle(self) -> None:
        """
        A call that fails after some of its rows is a report of a problem, and of its functions nothing is kept.
        """

        def rows() -> Iterator[Row]:
            yield Row(FunctionReport("work", 1, 100, 1))
            raise RuntimeError("the generator is unwell")

        _, running = self.begin(makeSources(Path(self.mktemp()), 3, 0))
        self.step(1)
        self.worker.report("i", rows())
        self.step()
        result = self.successResultOf(running)
        self.assertEqual([report.problem is None for report in result.reports], [True, False, True])
        self.assertIn("the generator is unwell", result.reports[1].problem or "")
        self.assertEqual((result.rows, result.left), (5, ()))
        self.assertEqual({place.function.lines for place in result.longest}, {2})

    def test_endsInTheMiddle(self) -> None:
        """
        So is one whose rows stop before that of the file.
        """
        _, running = self.begin(makeSources(Path(self.mktemp()), 1, 0))
        self.worker.report("i", iter([Row(FunctionReport("work", 1, 100, 1))]))
        result = self.successResultOf(running)
        self.assertIn("ended without the one of the file", result.reports[0].problem or "")
        self.assertEqual((result.rows, result.longest), (1, ()))

    def test_pace(self) -> None:
        """
        The generator of a file does not go on while its consumer has had enough of this turn.
        """
        made: list[Row] = []

        def rows() -> Iterator[Row]:
            for number in range(100):
                made.append(Row(FunctionReport("work", 1 + number, 1, 1)))
                yield made[-1]
            yield Row(FileReport("a00.py"))

        _, running = self.begin(makeSources(Path(self.mktemp()), 1, 0))
        self.worker.report("i", rows())
        for turn in range(1, 100 // ROWS_A_TURN):
            self.assertGreaterEqual(len(made), turn * ROWS_A_TURN)
            self.assertLessEqual(len(made), turn * ROWS_A_TURN + 16)
            self.assertNoResult(running)
            self.clock.advance(self.clock.turn)
        self.clock.pump([self.clock.turn] * 5)
        result = self.successResultOf(running)
        self.assertEqual((result.rows, len(result.reports)), (101, 1))
        self.assertLessEqual(result.lead, 16)

    def endless(self) -> Iterator[Row]:
        try:
            while True:
                yield Row(FunctionReport("work", 1, 100, 1))
        finally:
            self.closed = True

    def test_interruptInTheMiddle(self) -> None:
        """
        A file whose rows are coming gets the grace; then its generator is closed, and it is among those that are left.
        """
        for policy in InterruptPolicy:
            self.closed = False
            survey, running = self.begin(makeSources(Path(self.mktemp()), 3, 0), grace=2)
            self.step(1)
            self.worker.report("i", self.endless())
            survey.interrupt(policy)
            if policy is InterruptPolicy.DRAIN:
                self.worker.step()
            self.clock.pump([0.1] * 15)
            self.assertNoResult(running)
            self.assertFalse(self.closed)
            self.clock.pump([0.1] * 10)
            result = self.successResultOf(running)
            self.assertTrue(self.closed)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            names = [source.name for source in result.left]
            self.assertEqual(names, ["a01.py"] if policy is InterruptPolicy.DRAIN else ["a01.py", "a02.py"])
            self.assertEqual({place.file for place in result.longest}, {report.name for report in result.reports})
            self.assertGreater(result.rows, 4)
            self.worker = MemoryWorker([TEST_SERIES])
            self.queue = TaskQueue(self.worker, returnFailure=True, reactor=self.clock)

    def test_failedSummary(self) -> None:
        """
        A summary that fails costs nothing but itself.
        """
        _, running = self.begin(makeSources(Path(self.mktemp()), 4, 0), summaryEvery=2)
        for _ in range(1000):
            if not self.worker.held:
                break
            if self.worker.held[0].callTuple[0] is summarise:
                self.worker.report("x", RuntimeError("no"))
            self.step(1)
        self.assertEqual(len(self.successResultOf(running).reports), 4)
        self.assertEqual({progress.summary for progress in self.progress}, {None})

    def test_interruptCancels(self) -> None:
        """
        By default an interruption drops what is queued and waits for what runs, and the rest is named.
        """
        survey, running = self.begin(makeSources(Path(self.mktemp()), 6, 3))
        self.step(2)
        survey.interrupt()
        self.clock.pump([0.1] * 5)
        self.assertNoResult(running)
        self.step()
        self.clock.pump([0.1] * 5)
        result = self.successResultOf(running)
        self.assertTrue(result.interrupted)
        self.assertEqual((len(result.reports), len(result.left)), (3, 6))
        names = {report.name for report in result.reports} | {source.name for source in result.left}
        self.assertEqual(len(names), 9)
        self.assertEqual(sum(each.finished for each in result.series), 3)
        self.assertEqual([worker.finished for worker in result.workers], [3])

    def test_interruptCancelsTheHung(self) -> None:
        """
        A call that does not end is waited for as long as the grace lasts, and then it is among those that are left.
        """
        survey, running = self.begin(makeSources(Path(self.mktemp()), 4, 0))
        self.step(1)
        survey.interrupt()
        self.clock.pump([GRACE / 10] * 9)
        self.assertNoResult(running)
        self.clock.pump([GRACE / 10] * 3)
        result = self.successResultOf(running)
        self.assertEqual((len(result.reports), len(result.left)), (1, 3))

    def test_interruptDrains(self) -> None:
        """
        With the other policy, what is queued is run until the grace is over.
        """
        survey, running = self.begin(makeSources(Path(self.mktemp()), 6, 3), grace=3.5)
        self.step(2)
        survey.interrupt(InterruptPolicy.DRAIN)
        self.step()
        self.clock.pump([1] * 5)
        result = self.successResultOf(running)
        self.assertTrue(result.interrupted)
        self.assertEqual((len(result.reports), len(result.left)), (6, 3))

    def test_interruptDrainsAll(self) -> None:
        survey, running = self.begin(makeSources(Path(self.mktemp()), 3, 0), grace=100)
        self.step(1)
        survey.interrupt(InterruptPolicy.DRAIN)
        self.step()
        result = self.successResultOf(running)
        self.assertEqual((len(result.reports), len(result.left), result.interrupted), (3, 0, True))

    def test_noSummaryWhenEnding(self) -> None:
        survey, running = self.begin(makeSources(Path(self.mktemp()), 6, 0), summaryEvery=2)
        survey.interrupt(InterruptPolicy.DRAIN)
        self.step(6)
        self.assertEqual(self.successResultOf(running).series[2].submitted, 0)

    def test_cancelAll(self) -> None:
        """
        Files whose calls somebody else cancels are left.
        """
        _, running = self.begin(makeSources(Path(self.mktemp()), 5, 0))
        self.step(1)
        self.assertEqual(self.queue.cancelAll(), 3)
        self.clock.pump([0.1] * 5)
        self.step()
        result = self.successResultOf(running)
        self.assertEqual((len(result.reports), len(result.left), result.interrupted), (2, 3, False))

    def test_closedQueue(self) -> None:
        """
        On a queue that is shut down, all files are left.
        """
        self.successResultOf(self.queue.shutdown())
        _, running = self.begin(makeSources(Path(self.mktemp()), 2, 1))
        self.assertEqual(len(self.successResultOf(running).left), 3)

    def test_interruptLate(self) -> None:
        """
        An interruption before the start or after the end does nothing, and there is only one start.
        """
        survey = Survey(self.queue, makeSources(Path(self.mktemp()), 1, 0), self.clock, timer=self.clock.seconds)
        survey.interrupt()
        running = survey.run()
        self.step()
        self.assertFalse(self.successResultOf(running).interrupted)
        survey.interrupt()
        self.assertTrue(self.queue.isRunning())
        self.assertRaises(RuntimeError, survey.run)

    def test_noFiles(self) -> None:
        _, running = self.begin([])
        self.assertEqual(self.successResultOf(running).reports, ())


class RealWorkerTests(TestCase):
    """
    Tests for L{Survey} on the workers that the demo uses.
    """

    timeout = TIMEOUT

    def reactor(self) -> Any:
        from twisted.internet import reactor

        return reactor

    async def survey(self, *workers: Any) -> SurveyResult:
        sources = makeSources(Path(self.mktemp()), 40, 20)
        Path(sources[3].path).write_bytes(b"\0")
        async with TaskQueue(*workers, returnFailure=True) as queue:
            result = await Survey(queue, sources, self.reactor(), summaryEvery=10).run()
        self.assertEqual([report.name for report in result.reports], [source.name for source in sources])
        self.assertEqual([report.name for report in result.reports if report.problem], [sources[3].name])
        rows = [list(measureFile(source.path, source.name)) for source in sources]
        self.assertEqual(list(result.reports), [each[-1].report for each in rows])
        self.assertEqual(result.rows, sum(map(len, rows)))
        self.assertEqual(sum(worker.finished for worker in result.workers), 60 + result.series[2].finished)
        self.assertEqual([(each.submitted, each.finished) for each in result.series], [(40, 40), (20, 20), (6, 6)])
        return result

    async def test_threads(self) -> None:
        result = await self.survey(*[ThreadWorker(series=[TEST_SERIES]) for _ in range(3)])
        self.assertEqual([worker.kind for worker in result.workers], ["ThreadWorker"] * 3)

    async def test_async(self) -> None:
        result = await self.survey(AsyncWorker(series=[TEST_SERIES]))
        self.assertEqual([worker.kind for worker in result.workers], ["AsyncWorker"])

    async def test_mixed(self) -> None:
        result = await self.survey(AsyncWorker(series=[TEST_SERIES]), ThreadWorker(series=[TEST_SERIES]))
        self.assertEqual([worker.kind for worker in result.workers], ["AsyncWorker", "ThreadWorker"])

    async def test_longCalls(self) -> None:
        """
        Files that take long, which workers give back while they are busy, count once for the worker that measured them.
        """
        sources = makeSources(Path(self.mktemp()), 6, 3)
        for source in sources:
            Path(source.path).write_text("def work():\n    return a or b\n" * 1000, encoding="utf-8")
        async with TaskQueue(*[ThreadWorker(series=[TEST_SERIES]) for _ in range(2)], returnFailure=True) as queue:
            result = await Survey(queue, sources, self.reactor()).run()
        self.assertEqual([report.functions for report in result.reports], [1000] * 9)
        self.assertEqual(result.rows, 9 * 1001)
        self.assertGreater(result.lead, 0)
        self.assertLessEqual(result.lead, 16)
        self.assertEqual([place.file for place in result.longest], [sources[0].name] * 5)
        self.assertEqual(sum(worker.finished for worker in result.workers), 9)

    async def test_unqualified(self) -> None:
        """
        Tests whose series nobody serves keep nobody else waiting, and are left at an interruption.
        """
        sources = makeSources(Path(self.mktemp()), 5, 5)
        done: Deferred[None] = Deferred()

        def progressed(progress: Progress) -> None:
            if progress.done == 5:
                done.callback(None)

        async with TaskQueue(ThreadWorker(), returnFailure=True) as queue:
            survey = Survey(queue, sources, self.reactor(), progressed=progressed)
            running = survey.run()
            await done
            survey.interrupt(InterruptPolicy.DRAIN)
            result = await running
        self.assertEqual({source.isTest for source in result.left}, {True})
        self.assertEqual((len(result.reports), len(result.left)), (5, 5))

    async def test_interrupted(self) -> None:
        """
        Whenever an interruption comes, each file is either reported or left, and the queue ends.
        """
        for moment in (0, 1, 17, 59, 60):
            sources = makeSources(Path(self.mktemp()), 40, 20)
            async with TaskQueue(*[ThreadWorker(series=[TEST_SERIES]) for _ in range(2)], returnFailure=True) as queue:

                def progressed(progress: Progress) -> None:
                    if progress.done == moment:  # noqa: B023 - it is called within this turn of the loop
                        survey.interrupt()  # noqa: B023

                survey = Survey(queue, sources, self.reactor(), progressed=progressed)
                running = survey.run()
                if moment == 0:
                    survey.interrupt()
                result = await running
            self.assertTrue(result.interrupted)
            self.assertEqual(len(result.reports) + len(result.left), 60)
            self.assertGreaterEqual(len(result.reports), moment)
