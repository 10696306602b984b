"""
Streams: L{Deferator} and what makes and takes the items that it iterates over.
"""

from __future__ import annotations

from asynqueue.deferreds.delay import Delay, deferToDelay
from asynqueue.iteration.consumers import ListConsumer
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.prefetch import Prefetcherator
from asynqueue.iteration.producer import IterationProducer, iteratorToProducer
from asynqueue.iteration.recognition import isIterator

__all__ = [
    "Deferator",
    "Delay",
    "IterationProducer",
    "ListConsumer",
    "Prefetcherator",
    "deferToDelay",
    "isIterator",
    "iteratorToProducer",
]
