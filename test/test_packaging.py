"""
Tests of what the wheel contains.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from email.message import Message
from email.parser import BytesParser
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]

#: What a checkout contains beside the source: environments, what builds and test runs leave behind.
NOT_SOURCE = (".*", "_build", "_trial_temp*", "__pycache__", "*.egg-info", "build", "dist")

#: Seconds; a build takes less than five.
BUILD_TIMEOUT = 120


@cache
def builtWheel() -> tuple[frozenset[str], Message]:
    """
    Build the wheel as C{pip} does it, once for all tests. (Trial calls no C{setUpClass}.)

    It is built from a copy, since a build leaves folders behind in the source, and takes up what an older one left.

    @return: The names of its files, and its metadata.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
        # No index is needed: setuptools comes with the test extra, and the dependencies are not looked at.
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        build = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, str(source)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_TIMEOUT,
            check=False,
        )
        if build.returncode:
            raise AssertionError(f"pip wheel ended with {build.returncode}:\n{build.stdout}")
        (wheel,) = Path(folder).glob("*.whl")
        with ZipFile(wheel) as archive:
            names = frozenset(archive.namelist())
            (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
            return names, BytesParser().parsebytes(archive.read(metadata))


class WheelTests(SynchronousTestCase):
    """
    The wheel that is built from this checkout.
    """

    def setUp(self) -> None:
        """
        Have the wheel built.
        """
        self.names, self.metadata = builtWheel()

    def test_onlyTheLibrary(self) -> None:
        """
        Nothing is installed beside the package C{asynqueue}, the plug-in for Twisted and the metadata: no tests,
        demonstration or benchmarks.
        """
        tops = {name.split("/")[0] for name in self.names}
        self.assertEqual({top for top in tops if not top.endswith(".dist-info")}, {"asynqueue", "twisted"})
        plugins = {name for name in self.names if name.startswith("twisted/")}
        self.assertEqual(plugins, {"twisted/plugins/asynqueue_plugin.py"})

    def test_wholeLibrary(self) -> None:
        """
        Every module of the library is in it.
        """
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "asynqueue").rglob("*.py")}
        self.assertEqual(modules - self.names, set())

    def test_typed(self) -> None:
        """
        The marker that makes type checkers read the package's annotations is in it.
        """
        self.assertIn("asynqueue/py.typed", self.names)

    def test_license(self) -> None:
        """
        The license is named in the metadata, and its text is in it.
        """
        self.assertEqual(self.metadata["License-Expression"], "MIT")
        self.assertEqual(self.metadata.get_all("License-File"), ["LICENSE"])
        texts = [name for name in self.names if name.endswith(".dist-info/licenses/LICENSE")]
        self.assertEqual(len(texts), 1, texts)

    def test_version(self) -> None:
        """
        The version is the one in C{pyproject.toml}.
        """
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self.assertEqual(self.metadata["Version"], project["version"])
