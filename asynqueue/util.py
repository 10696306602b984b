"""
The documented place of what programs use beside a queue.
"""

from __future__ import annotations

from asynqueue.callrunner import CallRunner
from asynqueue.deferreds.lock import DeferredLock
from asynqueue.deferreds.tracker import DeferredTracker, callAfterDeferred
from asynqueue.pickles import o2p, p2o
from asynqueue.processes import ProcessProtocol, killProcess

__all__ = [
    "CallRunner",
    "DeferredLock",
    "DeferredTracker",
    "ProcessProtocol",
    "callAfterDeferred",
    "killProcess",
    "o2p",
    "p2o",
]
