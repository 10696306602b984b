"""
Keeping CPython's cyclic garbage collector off a large backlog.

Every queued call is a Deferred and a list, which the collector looks at in each full collection, and those come again
with each quarter by which the objects grow. A million outstanding calls cost it some 0.4 s each time, in which the
reactor stands still, and in all half as much time again for each call as it takes otherwise.

C{gc.freeze()} takes all objects that there are out of the collector's sight, in no time. What is frozen is freed as
usual when nothing refers to it any more; only garbage in cycles that was there at that moment is kept until
C{gc.unfreeze()}. So it is done for each 10,000 calls by which the backlog grows, and undone when the backlog is gone.
"""

from __future__ import annotations

import gc

#: By how many calls a backlog grows until the collector need not look at them any more.
STEP = 10_000

_NEVER = 1 << 62


class Collector:
    """
    Says when to freeze and when to thaw, and does it.

    @ivar freezeAt: The number of outstanding calls at which L{freeze} is due.
    @ivar thawAt: The number to which they must fall until L{thaw} is due.
    """

    __slots__ = ("_froze", "_step", "freezeAt", "thawAt")

    def __init__(self, step: int | None = STEP) -> None:
        """
        @param step: The number of calls; C{None}: the collector is left alone.
        """
        self._step = _NEVER if step is None else step
        self._froze = False
        self.freezeAt = self._step
        self.thawAt = -1

    def freeze(self, count: int) -> None:
        """
        Take what there is out of the collector's sight, since C{count} calls are outstanding.
        """
        if not self._froze and gc.isenabled():
            # If the application has frozen its own objects, thawing ours would thaw those. Some versions of CPython
            # begin with a few hundred that are frozen.
            self._froze = gc.get_freeze_count() < 10_000
        if gc.isenabled():
            gc.freeze()
        self._aim(count)

    def thaw(self, count: int) -> None:
        """
        Give it back, if the backlog is gone, since C{count} calls are outstanding.
        """
        if count > self._step // 2:
            self._aim(count)
            return
        self.freezeAt = self._step
        self.thawAt = -1
        if self._froze:
            self._froze = False
            gc.unfreeze()

    def _aim(self, count: int) -> None:
        self.freezeAt = count + self._step
        self.thawAt = count // 2
