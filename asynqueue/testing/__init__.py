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

# A child process that runs callables of this package's modules must not load Twisted for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

_HOMES = {
    "CONFORMANCE_CHECKS": "asynqueue.testing.conformance",
    "Act": "asynqueue.testing.scripted",
    "LeakCheck": "asynqueue.testing.leaks",
    "LeakCheckMixin": "asynqueue.testing.leaks",
    "ManagedMemoryWorker": "asynqueue.testing.memory",
    "MemoryWorker": "asynqueue.testing.memory",
    "ScriptedWorker": "asynqueue.testing.scripted",
    "WorkerConformance": "asynqueue.testing.conformance",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
