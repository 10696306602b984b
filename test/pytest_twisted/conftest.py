"""
For all tests with pytest: nothing is left behind, in the reactor or beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asynqueue.testing import LeakCheck


@pytest.fixture(autouse=True)
def leakCheck() -> Iterator[LeakCheck]:
    """
    Check after each test that it has left nothing.
    """
    from twisted.internet import reactor

    check = LeakCheck(reactor)
    yield check
    check.verify()
