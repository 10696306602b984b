"""
What the tests of compatibility with AsynQueue 0.9.9 share: programs as they were written for it, on a virtual clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue.null import NullQueue
from asynqueue.testing import MemoryWorker
from test.support import Consumer, QueueTestCase

#: How many turns of the reactor a program may take; those here take a few.
TURNS = 100

Program = Generator[Deferred[Any], Any, None]


def program(test: Callable[[Any], Program]) -> Callable[[Any], None]:
    """
    Make a test of a program that is written as for C{inlineCallbacks}, and runs on the test's clock, on which no time
    passes but by the program's own C{self.clock.advance}.
    """
    start = inlineCallbacks(test)

    @wraps(test)
    def run(self: Any) -> None:
        done = start(self)
        for _ in range(TURNS):
            if done.called:
                break
            self.clock.advance(0)
        self.successResultOf(done)

    return run


class CompatibilityTestCase(QueueTestCase):
    """
    Tests of programs for 0.9.9.
    """

    def setUp(self) -> None:
        """
        Note the level of the logger, which queues set.
        """
        super().setUp()
        logger = logging.getLogger("asynqueue")
        self.addCleanup(logger.setLevel, logger.level)

    def makeNullQueue(self, **keywords: Any) -> NullQueue:
        """
        Make a queue that runs calls in the reactor, with failures unless told otherwise.
        """
        keywords.setdefault("returnFailure", True)
        queue = NullQueue(reactor=self.clock, **keywords)
        self._queues.append(queue)
        return queue

    def makePair(self, **keywords: Any) -> tuple[Any, MemoryWorker]:
        """
        Make a queue and its one worker, which is stepped by hand.
        """
        worker = MemoryWorker()
        return self.makeQueue(worker, **keywords), worker


@implementer(IConsumer)
class ListOf(Consumer):
    """
    A consumer that keeps what it gets, in C{written}.
    """
