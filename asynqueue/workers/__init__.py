"""
Workers, by their documented names. What runs in the reactor is here, the others have packages of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynqueue.interfaces import IWorker
    from asynqueue.process.worker import ProcessWorker
    from asynqueue.threads.worker import ThreadWorker
    from asynqueue.workers.reactor import AsyncWorker

__all__ = ["AsyncWorker", "IWorker", "ProcessWorker", "ThreadWorker"]

_HOMES = {
    "AsyncWorker": "asynqueue.workers.reactor",
    "IWorker": "asynqueue.interfaces",
    "ProcessWorker": "asynqueue.process.worker",
    "ThreadWorker": "asynqueue.threads.worker",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
