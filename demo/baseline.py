"""
The same work without a queue: one file after the other, in the reactor's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from demo.measure import measureFile
from demo.rows import FileFindings, FileReport
from demo.sources import Source

#: For how many seconds files are measured before the reactor gets a turn, to show progress and to hear of Ctrl-C.
TURN = 0.05


@frozen
class Baseline:
    """
    What it took to measure files one by one.

    @ivar reports: What was found, in the order of the files.
    @ivar seconds: How long it took, without the reactor's turns in between.
    @ivar complete: Whether it got to the last file.
    """

    reports: tuple[FileReport, ...]
    seconds: float
    complete: bool


class OneByOne:
    """
    Measures files one after the other, and can be stopped between two of them.

    @param sources: The files.
    @param clock: What gives the reactor its turns.
    @param progressed: Called with the number of files done, after each turn.
    @param timer: A clock that never steps back, in seconds.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        clock: IReactorTime,
        *,
        progressed: Callable[[int], object] = lambda done: None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sources = tuple(sources)
        self._clock = clock
        self._progressed = progressed
        self._timer = timer
        self._stopped = False

    def run(self) -> Deferred[Baseline]:
        """
        Measure the files.
        """
        return Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """
        Stop before the next file.
        """
        self._stopped = True

    async def _run(self) -> Baseline:
        reports: list[FileReport] = []
        seconds = 0.0
        while len(reports) < len(self._sources) and not self._stopped:
            started = now = self._timer()
            while len(reports) < len(self._sources) and now - started < TURN:
                source = self._sources[len(reports)]
                findings = FileFindings(source.name)
                for row in measureFile(source.path, source.name):
                    findings.add(row)
                reports.append(findings.report())
                now = self._timer()
            seconds += now - started
            self._progressed(len(reports))
            await deferLater(self._clock, 0)
        return Baseline(tuple(reports), seconds, len(reports) == len(self._sources))
