"""
Calls in threads: L{ThreadWorker}, L{ThreadQueue} and L{deferToThread}; and iterators between threads and the reactor.
"""

from __future__ import annotations

from asynqueue.threads.consumerator import Consumerator
from asynqueue.threads.filerator import Filerator
from asynqueue.threads.getters import IterationGetter
from asynqueue.threads.looper import ThreadLooper
from asynqueue.threads.ordered import OrderedItemProducer
from asynqueue.threads.pool import PoolUser
from asynqueue.threads.queue import ThreadQueue
from asynqueue.threads.shared import deferToThread
from asynqueue.threads.worker import ThreadWorker

__all__ = [
    "Consumerator",
    "Filerator",
    "IterationGetter",
    "OrderedItemProducer",
    "PoolUser",
    "ThreadLooper",
    "ThreadQueue",
    "ThreadWorker",
    "deferToThread",
]
