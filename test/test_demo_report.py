"""
Tests for what the demo shows: L{demo.report}, L{demo.display} and the options of L{demo.__main__}.
"""

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from attrs import evolve
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from demo.__main__ import main, makeParser
from demo.baseline import Baseline
from demo.complexity import FunctionReport
from demo.display import ProgressDisplay
from demo.report import (
    describeComparison,
    describeInterruption,
    describeRows,
    describeShares,
    describeTime,
    renderSurvey,
)
from demo.rows import ROWS_A_TURN, FileReport, Place
from demo.sources import Source
from demo.summary import Summary
from demo.survey import LIBRARY, SUMMARIES, TESTS, Progress, SurveyResult
from demo.tally import SeriesCount, WorkerCount

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that a child process may take.
CHILD_TIMEOUT = 60

RESULT = SurveyResult(
    reports=(
        FileReport("bad.py", lines=7, problem="SyntaxError: [bold]nonsense (line 3)"),
        FileReport(
            "big.py",
            lines=1234,
            branches=99,
            functions=12,
            mostComplex=FunctionReport("Big.work", 5, 70, 41),
        ),
        FileReport("small.py", lines=1),
    ),
    longest=(
        Place(FunctionReport("Big.talk", 90, 71, 3), "big.py"),
        Place(FunctionReport("Big.work", 5, 70, 41), "big.py"),
    ),
    rows=1234,
    lead=15,
    left=(),
    seconds=2.0,
    workers=(WorkerCount(1, "ThreadWorker", 2), WorkerCount(2, "AsyncWorker", 1)),
    series=(SeriesCount(LIBRARY, 2, 2, 1.5), SeriesCount(TESTS, 1, 1, 1.25), SeriesCount(SUMMARIES)),
    contested=(0, 0),
    interrupted=False,
)


class ReportTests(SynchronousTestCase):
    """
    Tests for L{demo.report}.
    """

    def render(self, result: SurveyResult, top: int = 10, width: int = 80) -> str:
        console = Console(file=StringIO(), width=width)
        for each in renderSurvey(result, top):
            console.print(each)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    def row(self, text: str, *words: str) -> None:
        """
        Assert that there is a line with these words, in this order.
        """
        lines = [line.split() for line in text.splitlines()]
        self.assertIn(" ".join(words).split(), lines)

    def test_tables(self) -> None:
        text = self.render(RESULT)
        self.row(text, "big.py 1,234 12 99 Big.work 41")
        self.row(text, "small.py 1 0 0")
        self.row(text, "big.py Big.talk 71 3")
        self.row(text, "big.py Big.work 70 41")
        self.assertIn("1 file could not be measured", text)
        self.row(text, "bad.py SyntaxError: [bold]nonsense (line 3)")
        self.row(text, "ThreadWorker 1 2")
        self.row(text, "AsyncWorker 2 1")
        self.row(text, "library None 0 2 2 1.5 s")
        self.row(text, "tests tests 10 1 1 1.2 s")
        self.row(text, "summaries None doNext 0 0")

    def test_top(self) -> None:
        text = self.render(RESULT, top=1)
        self.assertNotIn("small.py", text)
        self.assertIn("The 1 longest function ", text)
        self.assertNotIn("70", text)

    def test_narrow(self) -> None:
        """
        On a terminal of 80 columns, long names are cut, and figures are not.
        """
        name = "package/" * 20 + "module.py"
        function = FunctionReport("Class." * 20 + "method", 1, 12345, 678)
        long = FileReport(name, 1_234_567, branches=45_678, functions=23_456, mostComplex=function)
        text = self.render(evolve(RESULT, reports=(long,), longest=(Place(function, name),)))
        for figure in ("1,234,567", "45,678", "23,456", " 678", "12,345"):
            self.assertIn(figure, text)
        self.assertLessEqual(max(len(line) for line in text.splitlines()), 80)

    def test_nothing(self) -> None:
        """
        A survey that was interrupted before its first result has a report, too.
        """
        text = self.render(evolve(RESULT, reports=(), longest=(), rows=0, lead=0, workers=(), series=()))
        self.assertIn("0 files: 0 lines", text)
        self.assertNotIn("could not be measured", text)
        self.assertNotIn("generator", text)

    def test_rows(self) -> None:
        """
        It is told how many rows came, and how far a generator was ahead.
        """
        text = " ".join(describeRows(RESULT))
        self.assertIn(
            f"1,234 rows of functions and files came from them through consumers that take {ROWS_A_TURN}", text
        )
        self.assertIn("more than 15 rows ahead", text)
        self.assertIn("more than 1 row ahead", " ".join(describeRows(evolve(RESULT, lead=1))))

    def test_shares(self) -> None:
        self.assertIn("2.00 to 1", " ".join(describeShares((40, 20))))
        for contested in ((0, 0), (5, 0), (0, 5)):
            self.assertEqual(list(describeShares(contested)), [])

    def test_time(self) -> None:
        self.assertIn(
            "took 2.00 s; the reactor never had to wait longer than 12 ms", " ".join(describeTime(RESULT, 0.0123))
        )

    def compare(self, baseline: Baseline) -> str:
        return " ".join(describeComparison(RESULT, baseline, "Because."))

    def test_faster(self) -> None:
        text = self.compare(Baseline(RESULT.reports[::-1], 3.0, True))
        self.assertIn("after the survey", text)
        self.assertIn("3.00 s", text)
        self.assertIn("1.50 times the survey's time; above 1, the workers were faster. Because.", text)
        self.assertNotIn("did not find the same", text)

    def test_slower(self) -> None:
        self.assertIn("0.80 times", self.compare(Baseline(RESULT.reports, 1.6, True)))

    def test_different(self) -> None:
        self.assertIn("did not find the same", self.compare(Baseline(RESULT.reports[1:], 3.0, True)))

    def test_stopped(self) -> None:
        text = self.compare(Baseline(RESULT.reports[1:], 3.0, False))
        self.assertIn("stopped after 2 files", text)
        self.assertNotIn(" times ", text)

    def test_interrupted(self) -> None:
        left = tuple(Source(f"/{name}.py", f"{name}.py", False) for name in "abcd")
        text = " ".join(describeInterruption(evolve(RESULT, left=left, interrupted=True)))
        self.assertIn("3 of 7 files were measured, 4 were left", text)
        self.assertIn("a.py, b.py, c.py, …", text)
        text = " ".join(describeInterruption(evolve(RESULT, interrupted=True)))
        self.assertIn("3 of 3 files were measured, 0 were left", text)


class ProgressDisplayTests(SynchronousTestCase):
    """
    Tests for L{ProgressDisplay}.
    """

    progress = Progress(5, 20, 1, Summary(files=4, lines=1000, functions=30))

    def display(self, terminal: bool) -> tuple[ProgressDisplay, StringIO]:
        output = StringIO()
        console = Console(file=output, width=120, force_terminal=terminal, color_system=None)
        return ProgressDisplay(console, "Survey", 20), output

    def test_terminal(self) -> None:
        """
        There is a bar with the latest summary, and at the end it is gone and the cursor is back.
        """
        display, output = self.display(True)
        display.start()
        display.surveyed(self.progress)
        display.refresh()
        display.stop()
        display.stop()
        self.assertIn("5/20", output.getvalue())
        self.assertIn("4 files: 1,000 lines, 30 functions", output.getvalue())
        self.assertIn("\x1b[?25h", output.getvalue().rpartition("\x1b[?25l")[2])

    def test_file(self) -> None:
        """
        In a file there is a line for each summary, and nothing else.
        """
        display, output = self.display(False)
        display.start()
        display.advanced(3)
        for _ in range(3):
            display.surveyed(self.progress)
            display.refresh()
        display.stop()
        self.assertEqual(output.getvalue(), "Survey: 4 files: 1,000 lines, 30 functions\n")


class OptionsTests(SynchronousTestCase):
    """
    Tests for the command line.
    """

    def complaint(self, *arguments: str) -> str:
        output = StringIO()
        with redirect_stderr(output):
            error = self.assertRaises(SystemExit, main, arguments)
        self.assertEqual(error.code, 2)
        return output.getvalue()

    def test_defaults(self) -> None:
        options = makeParser().parse_args([])
        self.assertEqual((options.workers, options.limit, options.top), ("process:cores", None, 10))
        self.assertEqual((options.baseline, options.interrupt_policy), (True, "cancel"))

    def test_badWorkers(self) -> None:
        complaint = self.complaint("--workers", "fibre:2")
        self.assertIn("'fibre'", complaint)
        self.assertIn("thread (in a thread)", complaint)
        self.assertNotIn("Traceback", complaint)

    def test_badNumbers(self) -> None:
        self.assertIn("0 is not positive", self.complaint("--limit", "0"))
        self.assertIn("-3 is not positive", self.complaint("--top=-3"))
        self.assertIn("invalid", self.complaint("--limit", "some"))

    def test_badPolicy(self) -> None:
        complaint = self.complaint("--interrupt-policy", "panic")
        self.assertIn("drain", complaint)
        self.assertIn("cancel", complaint)

    def test_help(self) -> None:
        output = StringIO()
        with redirect_stdout(output):
            self.assertRaises(SystemExit, main, ["--help"])
        for option in ("--workers", "--limit", "--top", "--no-baseline", "--interrupt-policy"):
            self.assertIn(option, output.getvalue())

    def runChild(self, program: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT,
            check=False,
        )

    def test_withoutRich(self) -> None:
        """
        Without rich, one line says which extra to install.
        """
        child = self.runChild(
            "import sys; sys.modules['rich'] = None; from demo.__main__ import main; sys.exit(main([]))"
        )
        self.assertEqual((child.returncode, child.stdout), (2, ""))
        self.assertIn("asynqueue[cli]", child.stderr)
        self.assertEqual(len(child.stderr.splitlines()), 1)

    def test_importsNoReactor(self) -> None:
        """
        No module of the demo installs a reactor when it is imported.
        """
        names = [f"demo.{path.stem}" for path in ROOT.joinpath("demo").glob("*.py") if path.stem != "__init__"]
        child = self.runChild(f"import sys, {', '.join(names)}; sys.exit('twisted.internet.reactor' in sys.modules)")
        self.assertEqual((child.returncode, child.stderr), (0, ""))
