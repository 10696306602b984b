"""
Tests for what the demo's workers run: L{demo.complexity}, L{demo.measure} and L{demo.summary}.
"""

import ast
import pickle
import tempfile
import threading
import tokenize
import warnings
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from demo.complexity import FunctionReport, TreeReport, measureTree
from demo.measure import (
    PROBLEM_LIMIT,
    TokenCounts,
    countTokens,
    decodeSource,
    describeProblem,
    measureFile,
    parseSource,
)
from demo.rows import FileReport, Row
from demo.summary import Summary, rankByBranches, summarise


def lastReport(path: str, name: str) -> FileReport:
    """
    Measure a file, and return what its last row says.
    """
    *_, last = measureFile(path, name)
    assert isinstance(last.report, FileReport)
    return last.report


class ComplexityTests(SynchronousTestCase):
    """
    Tests for L{measureTree}.
    """

    def measure(self, source: str) -> TreeReport:
        return measureTree(ast.parse(source))

    def branches(self, source: str) -> int:
        return self.measure(source).branches

    def functions(self, source: str) -> dict[str, int]:
        return {function.name: function.complexity for function in self.measure(source).functions}

    def test_empty(self) -> None:
        self.assertEqual(self.measure(""), TreeReport((), 0))

    def test_statements(self) -> None:
        self.assertEqual(self.branches("if a:\n pass\nelif b:\n pass\nelse:\n pass"), 2)
        self.assertEqual(self.branches("for a in b:\n pass\nelse:\n pass"), 1)
        self.assertEqual(self.branches("while a:\n pass"), 1)
        self.assertEqual(
            self.branches("try:\n pass\nexcept A:\n pass\nexcept B:\n pass\nelse:\n pass\nfinally:\n pass"), 2
        )
        self.assertEqual(self.branches("with a, b:\n pass"), 0)

    def test_expressions(self) -> None:
        self.assertEqual(self.branches("a if b else c"), 1)
        self.assertEqual(self.branches("a and b and c or d"), 3)
        self.assertEqual(self.branches("lambda: a if b else c"), 1)

    def test_comprehensions(self) -> None:
        self.assertEqual(self.branches("[a for a in b]"), 1)
        self.assertEqual(self.branches("{a for b in c if d if e for a in b}"), 4)
        self.assertEqual(self.branches("any(a for a in b if a or c)"), 3)

    def test_match(self) -> None:
        source = "match a:\n case 1:\n  pass\n case [b] if b:\n  pass\n case {}:\n  pass\n case {}:\n  pass"
        self.assertEqual(self.branches(source.format("c if c", "_")), 4)
        self.assertEqual(self.branches(source.format("1 as c", "c")), 4)

    def test_async(self) -> None:
        source = "async def f():\n async for a in b:\n  pass\n async with c:\n  pass\n return [d async for d in e]"
        self.assertEqual(self.functions(source), {"f": 3})

    def test_nested(self) -> None:
        """
        A branch counts for the innermost function around it, and once for the file.
        """
        source = """
            class Outer:
                if a: pass
                def method(self):
                    if a: pass
                    class Inner:
                        if a: pass
                        def method(self):
                            if a or b: pass
                    def inner():
                        pass
            """
        source = "\n".join(line[12:] for line in source.splitlines())
        self.assertEqual(
            self.functions(source), {"Outer.method": 3, "Outer.method.Inner.method": 3, "Outer.method.inner": 1}
        )
        self.assertEqual(self.branches(source), 5)

    def test_header(self) -> None:
        """
        Decorators, defaults and annotations belong to the code around the function, and its lines begin at C{def}.
        """
        source = "def outer():\n @(a if b else c)\n @d\n def inner(e: 'f' = g or h) -> (i and j):\n  pass\n  pass"
        found = {function.name: function for function in self.measure(source).functions}
        self.assertEqual(found["outer.inner"], FunctionReport("outer.inner", 4, 3, 1))
        self.assertEqual(found["outer"], FunctionReport("outer", 1, 6, 4))

    def test_deep(self) -> None:
        """
        A tree that is deeper than the recursion limit is measured.
        """
        tree: ast.expr = ast.Constant(0)
        for _ in range(20_000):
            tree = ast.IfExp(ast.Constant(1), ast.Constant(2), tree)
        self.assertEqual(measureTree(tree).branches, 20_000)
        # It is taken apart again, for to let go of it as a whole would recurse.
        while isinstance(tree, ast.IfExp):
            above, tree = tree, tree.orelse
            above.orelse = ast.Constant(0)


class MeasureTests(SynchronousTestCase):
    """
    Tests for L{measureFile} and its parts.
    """

    def write(self, data: bytes) -> str:
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def measure(self, data: bytes) -> FileReport:
        report = lastReport(self.write(data), "some.py")
        self.assertEqual(report.name, "some.py")
        self.assertEqual(pickle.loads(pickle.dumps(report)), report)
        return report

    def problem(self, data: bytes) -> str:
        problem = self.measure(data).problem
        assert problem is not None
        return problem

    def test_empty(self) -> None:
        self.assertEqual(self.measure(b""), FileReport("some.py"))

    def test_whole(self) -> None:
        report = self.measure(
            b'"""Doc\nstring"""\n\ndef first(a): # remark\n    return a or 1\n\ndef second():\n    pass\n    pass\n'
        )
        self.assertEqual(
            report,
            FileReport(
                "some.py",
                lines=9,
                codeLines=7,
                commentLines=1,
                tokens=19,
                branches=1,
                functions=2,
                mostComplex=FunctionReport("first", 4, 2, 2),
            ),
        )

    def test_rows(self) -> None:
        """
        There is a row for each function, and then one for the file. They are made when they are asked for.
        """
        rows = measureFile(self.write(b"def one(): pass\nclass Two:\n    def two(self): return a or b\n"), "some.py")
        first = next(rows)
        others = list(rows)
        reports = [row.report for row in (first, *others)]
        self.assertCountEqual(
            reports[:-1], [FunctionReport("one", 1, 1, 1), FunctionReport("Two.two", 3, 1, 2)], "not the functions"
        )
        self.assertIsInstance(reports[-1], FileReport)
        times = [row.madeAt for row in (first, *others)]
        self.assertEqual(times, sorted(times))

    def test_rowsOfBadFile(self) -> None:
        """
        A file that cannot be measured has its own row, and none of functions.
        """
        rows = list(measureFile(self.write(b"def one(): pass\nif\n"), "some.py"))
        self.assertEqual([type(row) for row in rows], [Row])
        assert isinstance(rows[0].report, FileReport)
        self.assertIn("SyntaxError", rows[0].report.problem or "")

    def test_lastLineOpen(self) -> None:
        """
        A last line without a line end is a line.
        """
        self.assertEqual(self.measure(b"a\nb").lines, 2)
        self.assertEqual(self.measure(b"a\nb\n").lines, 2)
        self.assertEqual(self.measure(b"\n").lines, 1)

    def test_equals(self) -> None:
        """
        Of functions that are equally complex, the first one counts.
        """
        report = self.measure(b"def one(): pass\ndef two(): pass\n")
        assert report.mostComplex is not None
        self.assertEqual(report.mostComplex.name, "one")

    def test_lineEnds(self) -> None:
        for ending in (b"\n", b"\r\n", b"\r"):
            report = self.measure(ending.join([b"if a:", b"    b", b"# c", b""]))
            self.assertEqual((report.problem, report.lines, report.codeLines, report.commentLines), (None, 3, 2, 1))

    def test_byteOrderMark(self) -> None:
        report = self.measure(b"\xef\xbb\xbfname = '\xc3\xa9'\n")
        self.assertEqual((report.problem, report.tokens), (None, 3))

    def test_declaredEncoding(self) -> None:
        self.assertEqual(
            decodeSource(b"# -*- coding: latin-1 -*-\nname = '\xe9'"), "# -*- coding: latin-1 -*-\nname = 'é'"
        )
        self.assertIsNone(self.measure(b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nname = '\x80'\n").problem)

    def test_badSyntax(self) -> None:
        report = self.measure(b"a = 1\nprint 'a'\n")
        self.assertEqual(report.lines, 2)
        self.assertIn("SyntaxError", report.problem or "")
        self.assertIn("(line 2)", report.problem or "")
        self.assertEqual((report.functions, report.tokens), (0, 0))

    def test_badIndentation(self) -> None:
        self.assertIn("IndentationError", self.problem(b"if a:\n        b\n    c\n"))
        self.assertIn("TabError", self.problem(b"if a:\n        b\n\tc\n"))

    def test_badEncoding(self) -> None:
        self.assertIn("unknown encoding", self.problem(b"# coding: no-such-thing\n"))
        self.assertIn("SyntaxError", self.problem(b"name = '\xe9'\n"))
        self.assertIn("UnicodeDecodeError", self.problem(b"#\n#\nname = '\xe9'\n"))
        self.assertIn("SyntaxError", self.problem(b"\xef\xbb\xbf# coding: latin-1\n"))
        # These are known names, but not of encodings for text, or of none that decodes anything.
        self.assertIn("not a text encoding", self.problem(b"# coding: rot13\n"))
        self.assertIn("Unicode", self.problem(b"# coding: undefined\n"))

    def test_nulBytes(self) -> None:
        self.assertIn("null bytes", self.problem(b"a = 1\n\0\n"))

    def test_tooDeep(self) -> None:
        """
        What exceeds the parser's limits is a problem of the file.
        """
        self.assertTrue(self.problem(b"(" * 5_000 + b")" * 5_000))
        self.assertTrue(self.problem(b"-" * 200_000 + b"1"))

    def test_noFile(self) -> None:
        path = self.mktemp()
        report = lastReport(path, "gone.py")
        self.assertIn("FileNotFoundError: No such file", report.problem or "")
        self.assertNotIn(path, report.problem or "")
        self.assertIn("Error", lastReport(tempfile.gettempdir(), "directory.py").problem or "")

    def test_warningsSilenced(self) -> None:
        """
        What the parser warns of is not shown, not even where warnings are errors, and the filters stay as they were.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("error")
            before = list(warnings.filters)
            self.assertIsNone(self.measure(b"'\\d'\n1 is 1\n() ()\n").problem)
            self.assertEqual(list(warnings.filters), before)
        self.assertEqual(caught, [])

    def test_warningsSilencedInThreads(self) -> None:
        """
        Filters stay as they were when several threads measure at once.
        """
        path = self.write(b"'\\d'\n" * 50)
        before = list(warnings.filters)
        problems: list[str | None] = []

        def measureOften() -> None:
            problems.extend(lastReport(path, "some.py").problem for _ in range(50))

        threads = [threading.Thread(target=measureOften, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(problems, [None] * 200)
        self.assertEqual(list(warnings.filters), before)

    def test_tokens(self) -> None:
        self.assertEqual(countTokens(""), TokenCounts(0, 0, 0))
        self.assertEqual(countTokens("\n\n   \n"), TokenCounts(0, 0, 0))
        self.assertEqual(countTokens("# one\na = 1; b = 2 # two\n"), TokenCounts(9, 1, 2))
        self.assertEqual(countTokens('a = """\n\n"""; b = (\n  1,\n\n  2)\n').codeLines, 5)

    def test_problemBounded(self) -> None:
        text = describeProblem(ValueError("long\nlines " * 1000))
        self.assertEqual(len(text), PROBLEM_LIMIT)
        self.assertNotIn("\n", text)
        self.assertTrue(text.startswith("ValueError: long lines"))
        self.assertEqual(describeProblem(tokenize.TokenError("EOF", (1, 0))), "TokenError: ('EOF', (1, 0))")

    @given(st.one_of(st.binary(), st.text(alphabet="if elsdfor:()[]\n\t '\"\\#=1\x0cé€\0").map(str.encode)))
    def test_neverRaises(self, data: bytes) -> None:
        """
        Whatever bytes a file has, it gets a report, and the tokens never claim more lines than there are.
        """
        report = lastReport(self.write(data), "some.py")
        self.assertTrue(report.problem is None or report.problem)
        self.assertLessEqual(max(report.codeLines, report.commentLines), report.lines)

    def test_thisFile(self) -> None:
        """
        A real file has what can be seen in it.
        """
        text = Path(__file__).read_text(encoding="utf-8")
        report = lastReport(__file__, "self.py")
        self.assertIsNone(report.problem)
        self.assertEqual(report.lines, len(text.splitlines()))
        self.assertEqual(report.functions, sum(isinstance(n, ast.FunctionDef) for n in ast.walk(parseSource(text))))


class SummaryTests(SynchronousTestCase):
    """
    Tests for L{summarise}.
    """

    reports = (
        FileReport("b.py", lines=10, codeLines=6, commentLines=2, tokens=50, branches=7, functions=3),
        FileReport("a.py", lines=20, codeLines=8, commentLines=1, tokens=60, branches=7, functions=1),
        FileReport("bad.py", lines=3, problem="SyntaxError: nonsense"),
        FileReport("c.py", lines=1, branches=9),
    )

    def test_empty(self) -> None:
        self.assertEqual(summarise([]), Summary())

    def test_sums(self) -> None:
        summary = summarise(self.reports)
        self.assertEqual(summary, Summary(4, 1, 34, 14, 3, 110, 4, 23, "c.py"))
        self.assertEqual(pickle.loads(pickle.dumps(summary)), summary)

    def test_onlyProblems(self) -> None:
        self.assertEqual(summarise(self.reports[2:3]).mostComplex, "")

    def test_rank(self) -> None:
        """
        Most branches first, then by name, and without those that could not be measured.
        """
        self.assertEqual([report.name for report in rankByBranches(self.reports)], ["c.py", "a.py", "b.py"])
