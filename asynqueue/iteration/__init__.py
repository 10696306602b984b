"""
Streams: L{Deferator} and what makes and takes the items that it iterates over.

Importing this package loads nothing else: each name comes from its module when it is first asked for.
"""

from __future__ import annotations

# Importing C{typing} would take a child process longer than all else that it needs of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

_HOMES = {
    "Deferator": "asynqueue.iteration.deferator",
    "Delay": "asynqueue.deferreds.delay",
    "IterationProducer": "asynqueue.iteration.producer",
    "ListConsumer": "asynqueue.iteration.consumers",
    "Prefetcherator": "asynqueue.iteration.prefetch",
    "deferToDelay": "asynqueue.deferreds.delay",
    "isIterator": "asynqueue.iteration.recognition",
    "iteratorToProducer": "asynqueue.iteration.producer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
