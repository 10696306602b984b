"""
asynqueue: a queue of calls, by priority and series, for workers in the reactor, in threads and beyond.

    >>> async def main(reactor):
    ...     async with TaskQueue(ThreadWorker(), returnFailure=True) as queue:
    ...         print(await queue.call(pow, 2, 10))

Importing this package loads nothing but itself: each name comes from its module when it is first asked for, and no
reactor is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynqueue import errors
    from asynqueue.deferreds.context import currentCall
    from asynqueue.interfaces import IManagedWorker, IWorker
    from asynqueue.null import NullQueue
    from asynqueue.taskqueue import TaskQueue
    from asynqueue.threads import ThreadQueue, ThreadWorker, deferToThread
    from asynqueue.workers.reactor import AsyncWorker

__all__ = [
    "AsyncWorker",
    "IManagedWorker",
    "IWorker",
    "NullQueue",
    "TaskQueue",
    "ThreadQueue",
    "ThreadWorker",
    "currentCall",
    "deferToThread",
    "errors",
]

_HOMES = {
    "AsyncWorker": "asynqueue.workers.reactor",
    "IManagedWorker": "asynqueue.interfaces",
    "IWorker": "asynqueue.interfaces",
    "NullQueue": "asynqueue.null",
    "TaskQueue": "asynqueue.taskqueue",
    "ThreadQueue": "asynqueue.threads",
    "ThreadWorker": "asynqueue.threads",
    "currentCall": "asynqueue.deferreds.context",
    "deferToThread": "asynqueue.threads",
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
