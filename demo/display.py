"""
What the terminal shows while the work goes on: rich's progress bar, drawn by the reactor and not by a thread.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from demo.summary import Summary
from demo.survey import Progress as SurveyProgress

#: The width of the output, in columns, when it goes to a file or a pipe.
FILE_WIDTH = 120


def makeConsole() -> Console:
    """
    Make the console for standard output.
    """
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


class ProgressDisplay:
    """
    A progress bar with a line of text after it. On anything but a terminal there is no bar, and each new text is
    printed as a line.

    @param console: Where to show it.
    @param title: What is going on.
    @param total: How many files there are.
    """

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._title = title
        self._note = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total = total
        self._task: TaskID | None = None

    def start(self) -> None:
        """
        Show the bar.
        """
        self._task = self._bar.add_task(self._title, total=self._total, note="")
        self._bar.start()

    def advanced(self, done: int) -> None:
        """
        So many files are done.
        """
        if self._task is not None:
            self._bar.update(self._task, completed=done)

    def noted(self, note: str) -> None:
        """
        There is something else to say.
        """
        if note == self._note:
            return
        self._note = note
        if self._task is not None:
            self._bar.update(self._task, note=note)
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {note}", highlight=False, soft_wrap=True)

    def surveyed(self, progress: SurveyProgress) -> None:
        """
        The survey has got so far.
        """
        self.advanced(progress.done)
        if progress.summary is not None:
            self.noted(describeSummary(progress.summary))

    def refresh(self) -> None:
        """
        Draw the bar as things are now.
        """
        self._bar.refresh()

    def stop(self) -> None:
        """
        Take the bar away and give the terminal back as it was. It may be called twice.
        """
        self._bar.stop()


def describeSummary(summary: Summary) -> str:
    """
    Put a summary in a few words.
    """
    return f"{summary.files:,} files: {summary.lines:,} lines, {summary.functions:,} functions"
