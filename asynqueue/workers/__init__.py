"""
Workers, by their documented names. What runs where: C{reactor} here, C{threads}, and others in packages of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynqueue.interfaces import IWorker
    from asynqueue.threads.worker import ThreadWorker
    from asynqueue.workers.reactor import AsyncWorker

__all__ = ["AsyncWorker", "IWorker", "ThreadWorker"]

_HOMES = {
    "AsyncWorker": "asynqueue.workers.reactor",
    "IWorker": "asynqueue.interfaces",
    "ThreadWorker": "asynqueue.threads.worker",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
