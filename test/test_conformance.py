"""
Every worker of the library passes the conformance suite.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from asynqueue import AsyncWorker, ThreadWorker
from asynqueue.testing import LeakCheckMixin, ScriptedWorker, WorkerConformance


class AsyncWorkerTests(WorkerConformance, LeakCheckMixin, TestCase):
    """
    The worker in the reactor.
    """

    def makeWorker(self) -> Any:
        """
        Make one.
        """
        return AsyncWorker()


class ThreadWorkerTests(WorkerConformance, LeakCheckMixin, TestCase):
    """
    The worker in a thread.
    """

    def makeWorker(self) -> Any:
        """
        Make one.
        """
        return ThreadWorker()


class ScriptedWorkerTests(WorkerConformance, LeakCheckMixin, TestCase):
    """
    A third party's worker of the documented shape, which runs tasks at once.
    """

    def makeWorker(self) -> Any:
        """
        Make one.
        """
        return ScriptedWorker()
