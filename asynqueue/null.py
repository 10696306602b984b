"""
A queue whose calls run in the reactor.
"""

from __future__ import annotations

from typing import Any

from asynqueue.taskqueue import TaskQueue
from asynqueue.workers.reactor import AsyncWorker


class NullQueue(TaskQueue):
    """
    A L{TaskQueue} with one L{AsyncWorker}.
    """

    def __init__(self, **kw: Any) -> None:
        super().__init__(AsyncWorker(reactor=kw.get("reactor")), **kw)
