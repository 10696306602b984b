"""
Cancelling Deferreds that others have made.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

_log = Logger()


def cancelQuietly(d: Deferred[Any]) -> None:
    """
    Cancel a Deferred whose canceller may be anybody's: what it raises is logged.
    """
    try:
        d.cancel()
    except Exception:  # the canceller is foreign, and who cancels has other things to see to
        _log.failure("The canceller of {d!r} raised an exception", d=d)
