"""
Failures that are kept until somebody asks.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure


class KeptFailure:
    """
    A failure for whoever asks. When nobody has until it is garbage, it is logged, as that of a Deferred is.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._unseen: Deferred[None] | None = fail(Failure(error))

    def see(self) -> Failure:
        """
        Return the failure, one for each who asks. It may be any thread.
        """
        unseen, self._unseen = self._unseen, None
        if unseen is not None:
            unseen.addErrback(lambda _: None)
        return Failure(self._error)
