"""
The documented place of what tells about calls.
"""

from __future__ import annotations

from asynqueue.callhistory import Info, InfoHolder
from asynqueue.hashing import hashIt
from asynqueue.showcalls import showResult, whichThread

__all__ = ["Info", "InfoHolder", "hashIt", "showResult", "whichThread"]
