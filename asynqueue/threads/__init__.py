"""
Calls in threads: L{ThreadWorker}, L{ThreadQueue} and L{deferToThread}.
"""

from __future__ import annotations

from asynqueue.threads.looper import ThreadLooper
from asynqueue.threads.queue import ThreadQueue
from asynqueue.threads.shared import deferToThread
from asynqueue.threads.worker import ThreadWorker

__all__ = ["ThreadLooper", "ThreadQueue", "ThreadWorker", "deferToThread"]
