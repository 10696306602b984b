"""
The documented place of L{TaskQueue} and what it is seen through.
"""

from __future__ import annotations

from asynqueue.itemqueue import Queue
from asynqueue.load import LoadInfoProducer
from asynqueue.priority import Priority
from asynqueue.taskqueue import TaskQueue

__all__ = ["LoadInfoProducer", "Priority", "Queue", "TaskQueue"]
