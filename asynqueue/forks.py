"""
Queues in a copy of the process that C{os.fork()} makes: they take no calls there.

The copy has the descriptors of the pipes to child processes, and no threads but one. A call that it wrote would be
answered to the original.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from asynqueue.dispatch import Dispatcher

_dispatchers: WeakSet[Dispatcher] = WeakSet()
_isRegistered = False


def closeInForks(dispatcher: Dispatcher) -> None:
    """
    Have a dispatcher take no calls in forked copies of this process.
    """
    global _isRegistered
    _dispatchers.add(dispatcher)
    if not _isRegistered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)
        _isRegistered = True


def _forked() -> None:
    for dispatcher in tuple(_dispatchers):
        dispatcher.isOpen = False
