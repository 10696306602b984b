"""
The files to survey: the Python sources of the running interpreter's standard library.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from attrs import frozen

#: Directories that hold other people's packages, or nothing that is a source.
EXCLUDED = frozenset({"site-packages", "dist-packages", "__pycache__"})

#: Directories that hold tests, apart from those whose names end like C{idle_test}.
TEST_DIRECTORIES = frozenset({"test", "tests"})


@frozen
class Source:
    """
    One file to measure.

    @ivar path: Where it is.
    @ivar name: Its path below the root of the library, with slashes.
    @ivar isTest: Whether it belongs to a directory of tests.
    """

    path: str
    name: str
    isTest: bool


class NoSources(Exception):
    """
    There is no Python source where the standard library should be.
    """


def standardLibrary() -> Path:
    """
    Say where the running interpreter has its standard library.
    """
    return Path(sysconfig.get_path("stdlib"))


def findSources(root: Path | None = None, limit: int | None = None) -> list[Source]:
    """
    Find the Python sources below a directory, in the order of their names.

    @param root: The directory, by default that of the standard library.
    @param limit: How many to return at most, by default all.
    @raise NoSources: If there are none, as with an interpreter that keeps its library in an archive.
    """
    top = standardLibrary() if root is None else root
    found: list[Source] = []
    for directory, subdirectories, names in os.walk(top):
        subdirectories[:] = [name for name in subdirectories if name not in EXCLUDED]
        for name in names:
            if name.endswith(".py"):
                path = Path(directory, name)
                relative = path.relative_to(top)
                found.append(Source(str(path), relative.as_posix(), isTestFile(relative)))
    if not found:
        raise NoSources(f"There are no Python sources in {top}; is the standard library kept in an archive?")
    return sorted(found, key=lambda source: source.name)[:limit]


def isTestFile(relative: Path) -> bool:
    """
    Tell by the directories of a path below the library's root whether it belongs to tests.
    """
    return any(part in TEST_DIRECTORIES or part.endswith(("_test", "_tests")) for part in relative.parts[:-1])
