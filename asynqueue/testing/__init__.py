"""
What a program, or the author of a worker, needs to test with: no threads, no processes, no waiting.

    >>> clock = Clock()
    >>> worker = MemoryWorker()
    >>> queue = TaskQueue(worker, reactor=clock, returnFailure=True)
    >>> d = queue.call(pow, 2, 3)
    >>> worker.step()
    >>> d.result
    8

L{MemoryWorker} and L{ManagedMemoryWorker} do nothing until they are told to; L{ScriptedWorker} loses, delays, repeats
and refuses outcomes as its script has it. L{WorkerConformance} is the suite that every worker passes. L{LeakCheck}
tells what a test has left behind.
"""

from __future__ import annotations

from asynqueue.testing.conformance import CONFORMANCE_CHECKS, WorkerConformance
from asynqueue.testing.leaks import LeakCheck, LeakCheckMixin
from asynqueue.testing.memory import ManagedMemoryWorker, MemoryWorker
from asynqueue.testing.scripted import Act, ScriptedWorker

__all__ = [
    "CONFORMANCE_CHECKS",
    "Act",
    "LeakCheck",
    "LeakCheckMixin",
    "ManagedMemoryWorker",
    "MemoryWorker",
    "ScriptedWorker",
    "WorkerConformance",
]
