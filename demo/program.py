"""
The program: one run of the demo in a reactor, from the list of files to the last line of the report.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from rich.console import Console
from twisted.internet.defer import Deferred

from asynqueue import TaskQueue
from asynqueue.errors import WorkerStartError
from demo.baseline import OneByOne
from demo.display import ProgressDisplay
from demo.heartbeat import Heartbeat
from demo.interrupts import SignalCatcher
from demo.report import describeComparison, describeInterruption, describeTime, renderSurvey
from demo.sources import NoSources, Source, findSources
from demo.survey import GRACE, TEST_SERIES, InterruptPolicy, Survey, SurveyResult
from demo.workers import WorkerChoice


@frozen
class Settings:
    """
    What the command line asked for.

    @ivar limit: How many files to measure at most, or C{None} for all.
    @ivar top: How many of the most complex modules to show.
    @ivar baseline: Whether to do the same work one by one afterwards.
    @ivar policy: What the first Ctrl-C does to calls that are queued.
    """

    workers: WorkerChoice
    limit: int | None
    top: int
    baseline: bool
    policy: InterruptPolicy


class Program:
    """
    Runs the demo once.

    @param reactor: The reactor, running or about to run.
    @param console: Where to show it all.
    @param root: The directory whose sources to measure, by default the standard library's.
    @param endProcess: Ends the process at once, for a second Ctrl-C: threads that are at work would otherwise be
        waited for.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        console: Console,
        root: Path | None = None,
        endProcess: Callable[[int], object] = os._exit,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._console = console
        self._root = root
        self._endProcess = endProcess
        self._display: ProgressDisplay | None = None
        self._stop: Callable[[], str] = lambda: ""
        self._exitCode = 0

    async def run(self) -> int:
        """
        Do everything.

        @return: The exit code: 0, or 1 if there is nothing to measure or nobody to do it, or 128 and the number of the
            signal that interrupted it.
        """
        running: Deferred[None] = Deferred()
        self._reactor.callWhenRunning(running.callback, None)
        await running
        with SignalCatcher(self._reactor, self._signalled):
            try:
                sources = findSources(self._root, self._settings.limit)
            except NoSources as error:
                self._say(str(error))
                return 1
            try:
                result = await self._survey(sources)
            except WorkerStartError as error:
                self._say(f"The workers could not be started: {error}")
                return 1
            if self._settings.baseline and self._exitCode == 0:
                await self._compare(sources, result)
        return self._exitCode

    async def _survey(self, sources: list[Source]) -> SurveyResult:
        self._say(
            f"Measuring {len(sources):,} files of Python {platform.python_version()}'s standard library "
            f"with {self._settings.workers.text}. Ctrl-C ends it early."
        )
        self._stop = lambda: "waiting for the workers"
        display, heartbeat = self._show("Survey", len(sources))
        try:
            async with (
                self._settings.workers.hire([TEST_SERIES]) as workers,
                TaskQueue(*workers, returnFailure=True) as queue,
            ):
                survey = Survey(queue, sources, self._reactor, progressed=display.surveyed)
                self._stop = partial(self._stopSurvey, survey)
                surveyed = survey.run()
                if self._exitCode:
                    # It was interrupted while the workers were being started.
                    self._stop()
                result = await surveyed
        finally:
            pause = heartbeat.stop()
            display.stop()
        for each in renderSurvey(result, self._settings.top):
            self._console.print(each, highlight=False)
        self._say(*describeTime(result, pause))
        if result.interrupted:
            self._say(*describeInterruption(result))
        return result

    async def _compare(self, sources: list[Source], result: SurveyResult) -> None:
        display, heartbeat = self._show("One by one", len(sources))
        oneByOne = OneByOne(sources, self._reactor, progressed=display.advanced)
        self._stop = partial(self._stopComparison, oneByOne)
        try:
            baseline = await oneByOne.run()
        finally:
            heartbeat.stop()
            display.stop()
        self._say(*describeComparison(result, baseline, self._settings.workers.compare()))

    def _show(self, title: str, total: int) -> tuple[ProgressDisplay, Heartbeat]:
        self._display = ProgressDisplay(self._console, title, total)
        self._display.start()
        heartbeat = Heartbeat(self._reactor, self._display.refresh)
        heartbeat.start()
        return self._display, heartbeat

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(line, highlight=False, markup=False)

    def _stopSurvey(self, survey: Survey) -> str:
        survey.interrupt(self._settings.policy)
        if self._settings.policy is InterruptPolicy.DRAIN:
            return f"going on with what is queued for up to {GRACE:.0f} s"
        return "waiting for the calls that run"

    def _stopComparison(self, oneByOne: OneByOne) -> str:
        oneByOne.stop()
        return "stopping after this file"

    def _signalled(self, number: int) -> None:
        """
        The first signal ends the work early, the second one the process.
        """
        if self._exitCode == 0:
            self._exitCode = 128 + number
            self._say(f"Interrupted: {self._stop()}. Once more to end at once.")
            return
        if self._display is not None:
            self._display.stop()
        self._say("Ended at once.")
        self._console.file.flush()
        self._endProcess(self._exitCode)
