"""
Tests for L{demo.sources}.
"""

import sys
import sysconfig
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from demo.sources import NoSources, Source, findSources, isTestFile, standardLibrary


class FindSourcesTests(SynchronousTestCase):
    """
    Tests for L{findSources}.
    """

    def makeTree(self, *names: str) -> Path:
        root = Path(self.mktemp())
        root.mkdir(parents=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return root

    def test_standardLibrary(self) -> None:
        """
        Without arguments, it is the library of the running interpreter, without what others have installed.
        """
        sources = findSources()
        names = {source.name for source in sources}
        self.assertEqual(len(names), len(sources))
        self.assertLessEqual({"ast.py", "json/decoder.py", "asyncio/tasks.py", "unittest/case.py"}, names)
        self.assertEqual({source.path for source in sources if source.name == "ast.py"}, {sys.modules["ast"].__file__})
        self.assertFalse([name for name in names if "site-packages" in name or "dist-packages" in name])
        self.assertFalse([source for source in sources if not Path(source.path).is_file()])

    def test_overThousand(self) -> None:
        """
        With its tests, the library has more than a thousand files, and hundreds of them are tests.
        """
        if not Path(sysconfig.get_path("stdlib"), "test", "test_ast.py").exists():
            raise SkipTest("This interpreter comes without its tests")
        tests = [source.isTest for source in findSources()]
        self.assertGreater(len(tests), 1000)
        self.assertGreater(tests.count(True), 300)
        self.assertGreater(tests.count(False), 300)

    def test_selection(self) -> None:
        """
        Sources are found at any depth, in the order of their names; packages of others and the rest are not.
        """
        root = self.makeTree(
            "b.py", "a/c.py", "a/b/d.py", "e.txt", "f.pyc", "g.pyi", "site-packages/h.py", "a/dist-packages/i.py",
            "__pycache__/j.py", "test/k.py",
        )  # fmt: skip
        self.assertEqual(
            findSources(root),
            [
                Source(str(root / "a" / "b" / "d.py"), "a/b/d.py", False),
                Source(str(root / "a" / "c.py"), "a/c.py", False),
                Source(str(root / "b.py"), "b.py", False),
                Source(str(root / "test" / "k.py"), "test/k.py", True),
            ],
        )

    def test_limit(self) -> None:
        root = self.makeTree("a.py", "b.py", "c.py")
        self.assertEqual([source.name for source in findSources(root, limit=2)], ["a.py", "b.py"])
        self.assertEqual(len(findSources(root, limit=9)), 3)

    def test_none(self) -> None:
        """
        An interpreter whose library is no directory of sources gets a clear error.
        """
        error = self.assertRaises(NoSources, findSources, self.makeTree("a.zip"))
        self.assertIn("no Python sources in", str(error))
        self.assertRaises(NoSources, findSources, Path(self.mktemp()))

    def test_isTestFile(self) -> None:
        """
        Directories decide, at any depth; the name of the file does not, nor does that of the root.
        """
        for name in ("test/a.py", "test/support/a.py", "ctypes/test/a.py", "lib2to3/tests/data/a.py"):
            self.assertTrue(isTestFile(Path(name)), name)
        self.assertTrue(isTestFile(Path("idlelib/idle_test/a.py")))
        for name in ("test.py", "unittest/case.py", "doctest.py", "latest/a.py", "contest/a.py", "idlelib/test_a.py"):
            self.assertFalse(isTestFile(Path(name)), name)
        root = self.makeTree("tests/a.py") / "tests"
        self.assertFalse(findSources(root)[0].isTest)
        self.assertEqual(standardLibrary(), Path(sysconfig.get_path("stdlib")))
