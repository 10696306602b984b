"""
The survey: one call for each file, on whatever workers the queue has, and its rows through a consumer.

This is the part of the demo that shows how a program uses a L{TaskQueue}. It submits all calls at once, for the order
in which they are served is the queue's business:

  - files of the library proper are called with niceness 0, in the series C{None}, which every worker serves
  - files of test directories are called with niceness 10 in a series of their own, so that they get half as many turns
    as the others for as long as both are waiting
  - after every so many files, a call with C{doNext} overtakes all that wait, and sums up what there is

The call for a file is of a generator function. What that yields on its worker, a row for each function and one for the
file, is written to a consumer here as it comes, and the generator goes on only as fast as the consumer takes the rows.

Nothing here prints, and nothing knows what kind of workers there are.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from asynqueue import TaskQueue
from asynqueue.errors import QueueRunError, WorkerLost
from demo.measure import describeProblem, measureFile
from demo.rows import FileFindings, FileReport, Longest, Place, RowConsumer
from demo.sources import Source
from demo.summary import Summary, summarise
from demo.tally import Lane, SeriesCount, Tally, WorkerCount

#: The series of the calls for test directories; a worker must be qualified for it.
TEST_SERIES = "tests"

#: How many files are measured between two summaries.
SUMMARY_EVERY = 200

#: How many seconds calls that are running get to end after an interruption.
GRACE = 10.0

LIBRARY = Lane("library", series=None, niceness=0)
TESTS = Lane("tests", series=TEST_SERIES, niceness=10)
SUMMARIES = Lane("summaries", series=None, niceness=None)


class InterruptPolicy(enum.Enum):
    """
    What an interruption does to calls that are queued; those that run may end in either case.

    @cvar CANCEL: They are dropped.
    @cvar DRAIN: They are run, for as long as the grace lasts.
    """

    CANCEL = "cancel"
    DRAIN = "drain"


class SurveyState(enum.Enum):
    """
    How far a survey is.
    """

    READY = enum.auto()
    RUNNING = enum.auto()
    ENDING = enum.auto()
    FINISHED = enum.auto()


@frozen
class Progress:
    """
    What there is to tell while a survey runs.

    @ivar done: The number of files with a report.
    @ivar total: The number of files.
    @ivar problems: The number of files that could not be measured.
    @ivar summary: What the latest summary call returned, or C{None} before the first.
    """

    done: int
    total: int
    problems: int
    summary: Summary | None


@frozen
class SurveyResult:
    """
    What a survey found, and how the work was shared out.

    @ivar reports: A report for every file that was dealt with, by name.
    @ivar longest: The longest functions.
    @ivar rows: How many rows came from the calls.
    @ivar lead: How many rows more than had been taken a generator had made, at most.
    @ivar left: The files that were not, since the survey was interrupted.
    @ivar seconds: How long it took from the first submission to the last result.
    @ivar workers: What each worker did.
    @ivar series: What became of the calls of each series.
    @ivar contested: How many calls of the library and of the tests ended while both had calls waiting.
    @ivar interrupted: Whether the survey was asked to end early.
    """

    reports: tuple[FileReport, ...]
    longest: tuple[Place, ...]
    rows: int
    lead: int
    left: tuple[Source, ...]
    seconds: float
    workers: tuple[WorkerCount, ...]
    series: tuple[SeriesCount, ...]
    contested: tuple[int, int]
    interrupted: bool


class Survey:
    """
    Measures files through a queue, once.

    Whatever happens to a single call, the survey goes on: of a call that fails, even in the middle of its rows, there
    is a report with the reason as its problem, and nothing else.

    @param queue: A queue that is running, with workers qualified for L{TEST_SERIES}. It stays the caller's to shut
        down, but an interruption shuts it down early.
    @param sources: The files.
    @param clock: The reactor, in whose turns rows are taken.
    @param progressed: Called after each file and each summary.
    @param grace: The seconds that running calls get to end after an interruption.
    @param timer: A clock that never steps back, in seconds.
    """

    def __init__(
        self,
        queue: TaskQueue,
        sources: Sequence[Source],
        clock: IReactorTime,
        *,
        progressed: Callable[[Progress], object] = lambda progress: None,
        summaryEvery: int = SUMMARY_EVERY,
        grace: float = GRACE,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._queue = queue
        self._sources = tuple(sources)
        self._clock = clock
        self._progressed = progressed
        self._summaryEvery = summaryEvery
        self._grace = grace
        self._timer = timer
        self._state = SurveyState.READY
        self._reports: list[FileReport] = []
        self._longest = Longest()
        self._rows = 0
        self._lead = 0
        self._left: list[Source] = []
        self._problems = 0
        self._summary: Summary | None = None
        self._summaries: list[Deferred[None]] = []
        self._ending: Deferred[Any] | None = None
        self._tally = Tally((LIBRARY, TESTS, SUMMARIES))

    def run(self) -> Deferred[SurveyResult]:
        """
        Measure the files.

        @return: A Deferred of what was found. It does not fail for anything that a file or a call does.
        """
        if self._state is not SurveyState.READY:
            raise RuntimeError("A survey runs once")
        self._state = SurveyState.RUNNING
        return Deferred.fromCoroutine(self._run())

    def interrupt(self, policy: InterruptPolicy = InterruptPolicy.CANCEL) -> None:
        """
        End early: shut the queue down, and let L{run} report what there is. Without effect unless the survey runs.
        """
        if self._state is SurveyState.RUNNING:
            self._state = SurveyState.ENDING
            self._ending = self._queue.shutdown(drain=policy is InterruptPolicy.DRAIN, deadline=self._grace)

    async def _run(self) -> SurveyResult:
        started = self._timer()
        # All of them at once: with a bound on what is queued, the order of submission would decide, and not niceness.
        await gatherResults([Deferred.fromCoroutine(self._measure(source, started)) for source in self._sources])
        await gatherResults(self._summaries)
        seconds = self._timer() - started
        self._tally.observed(self._queue.statistics().workers)
        if self._ending is not None:
            await self._ending
        self._state = SurveyState.FINISHED
        return SurveyResult(
            reports=tuple(sorted(self._reports, key=lambda report: report.name)),
            longest=self._longest.places(),
            rows=self._rows,
            lead=self._lead,
            left=tuple(sorted(self._left, key=lambda source: source.name)),
            seconds=seconds,
            workers=self._tally.workers(),
            series=self._tally.series(),
            contested=self._tally.contested(LIBRARY, TESTS),
            interrupted=self._ending is not None,
        )

    async def _measure(self, source: Source, started: float) -> None:
        lane = TESTS if source.isTest else LIBRARY
        self._tally.submitted(lane)
        findings = FileFindings(source.name)
        rows = RowConsumer(findings, self._clock)
        try:
            await self._queue.call(
                measureFile, source.path, source.name, niceness=lane.niceness, series=lane.series, consumer=rows
            )
            report = findings.report()
            self._longest.add(findings.longest.places())
        except Exception as error:  # whatever became of one call, the others go on
            if self._isLeftOver(error):
                self._left.append(source)
                return
            report = FileReport(source.name, problem=describeProblem(error))
        finally:
            self._rows += rows.number
            self._lead = max(self._lead, rows.lead)
        self._tally.finished(lane, self._timer() - started)
        self._tally.observed(self._queue.statistics().workers)
        self._reports.append(report)
        self._problems += report.problem is not None
        if len(self._reports) % self._summaryEvery == 0 and self._state is SurveyState.RUNNING:
            self._summaries.append(Deferred.fromCoroutine(self._summarise(tuple(self._reports), started)))
        self._tell()

    async def _summarise(self, reports: tuple[FileReport, ...], started: float) -> None:
        self._tally.submitted(SUMMARIES)
        try:
            summary: Summary = await self._queue.call(summarise, reports, doNext=True)
        except Exception:  # whatever became of it, it was only for the eye
            return
        self._tally.finished(SUMMARIES, self._timer() - started)
        # On several workers, a later summary may be there first.
        if self._summary is None or self._summary.files < summary.files:
            self._summary = summary
            self._tell()

    def _isLeftOver(self, error: Exception) -> bool:
        """
        Tell whether a call ended because the survey did, and not because of anything in its file.
        """
        if isinstance(error, CancelledError | QueueRunError):
            return True
        return self._state is SurveyState.ENDING and isinstance(error, WorkerLost)

    def _tell(self) -> None:
        self._progressed(Progress(len(self._reports), len(self._sources), self._problems, self._summary))
