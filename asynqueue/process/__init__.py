"""
Calls in child processes: L{ProcessQueue} and L{ProcessWorker}.

Importing this package loads nothing else: each name comes from its module when it is first asked for. A child imports
it, too.
"""

from __future__ import annotations

# Importing C{typing} would take a child process longer than all else that it needs of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asynqueue.process.ampoulepool import AmpouleWorker
    from asynqueue.process.base import ProcessBase
    from asynqueue.process.queue import ProcessQueue
    from asynqueue.process.worker import ProcessWorker

__all__ = ["AmpouleWorker", "ProcessBase", "ProcessQueue", "ProcessWorker"]

_HOMES = {
    "AmpouleWorker": "asynqueue.process.ampoulepool",
    "ProcessBase": "asynqueue.process.base",
    "ProcessQueue": "asynqueue.process.queue",
    "ProcessWorker": "asynqueue.process.worker",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
