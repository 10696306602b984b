"""
asynqueue: a queue of calls, by priority and series, for workers in the reactor, in threads and beyond.

    >>> async def main(reactor):
    ...     async with TaskQueue(ThreadWorker(), returnFailure=True) as queue:
    ...         print(await queue.call(pow, 2, 10))

Importing this package loads nothing but itself: each name comes from its module when it is first asked for, and no
reactor is installed.
"""

from __future__ import annotations

# Importing C{typing} would take a child process longer than all else that it needs of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asynqueue import errors
    from asynqueue.currentcall import currentCall
    from asynqueue.info import Info, showResult
    from asynqueue.interfaces import IManagedWorker, IStreamConsumer, IWorker
    from asynqueue.iteration import Deferator, IterationProducer, ListConsumer, deferToDelay
    from asynqueue.null import NullQueue
    from asynqueue.process import ProcessBase, ProcessQueue, ProcessWorker
    from asynqueue.taskqueue import TaskQueue
    from asynqueue.threads import ThreadQueue, ThreadWorker, deferToThread
    from asynqueue.util import DeferredLock, DeferredTracker
    from asynqueue.workers.reactor import AsyncWorker

__all__ = [
    "AsyncWorker",
    "Deferator",
    "DeferredLock",
    "DeferredTracker",
    "IManagedWorker",
    "IStreamConsumer",
    "IWorker",
    "Info",
    "IterationProducer",
    "ListConsumer",
    "NullQueue",
    "ProcessBase",
    "ProcessQueue",
    "ProcessWorker",
    "TaskQueue",
    "ThreadQueue",
    "ThreadWorker",
    "currentCall",
    "deferToDelay",
    "deferToThread",
    "errors",
    "showResult",
]

_HOMES = {
    "AsyncWorker": "asynqueue.workers.reactor",
    "Deferator": "asynqueue.iteration",
    "DeferredLock": "asynqueue.util",
    "DeferredTracker": "asynqueue.util",
    "IManagedWorker": "asynqueue.interfaces",
    "IStreamConsumer": "asynqueue.interfaces",
    "IWorker": "asynqueue.interfaces",
    "Info": "asynqueue.info",
    "IterationProducer": "asynqueue.iteration",
    "ListConsumer": "asynqueue.iteration",
    "NullQueue": "asynqueue.null",
    "ProcessBase": "asynqueue.process",
    "ProcessQueue": "asynqueue.process",
    "ProcessWorker": "asynqueue.process",
    "TaskQueue": "asynqueue.taskqueue",
    "ThreadQueue": "asynqueue.threads",
    "ThreadWorker": "asynqueue.threads",
    "currentCall": "asynqueue.currentcall",
    "deferToDelay": "asynqueue.iteration",
    "deferToThread": "asynqueue.threads",
    "showResult": "asynqueue.info",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "errors":
        return import_module("asynqueue.errors")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
