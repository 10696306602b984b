"""
Whether a child is hung: it has been stopped, or it does nothing with calls at hand.

A child that is silent is not hung: what it computes may take as long as it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asynqueue.process.health import Vitals, vitalsOf

if TYPE_CHECKING:
    from asynqueue.process.conversation import Conversation

#: After so many looks in a row at which a child was stopped, or did nothing with calls at hand, it is hung.
STRIKES = 3


class Checkup:
    """
    Looks at one child again and again.
    """

    __slots__ = ("_conversation", "_finished", "_strikes", "_vitals")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._vitals: Vitals | None = None
        self._finished = 0
        self._strikes = 0

    def look(self) -> str:
        """
        Look at the child.

        @return: What is wrong with it if it is hung, as the end of a sentence; otherwise an empty text.
        """
        conversation = self._conversation
        pid = conversation.child.pid
        if pid is None or conversation.isIdle:
            self._strikes = 0
            return ""
        vitals = vitalsOf(pid)
        if vitals is None:
            return ""
        isLazy = self._isLazy(vitals)
        self._vitals = vitals
        self._finished = conversation.finished
        self._strikes = self._strikes + 1 if vitals.isStopped or isLazy else 0
        if self._strikes < STRIKES:
            return ""
        self._strikes = 0
        return "was hung: it had been stopped" if vitals.isStopped else "was hung: it did nothing"

    def _isLazy(self, vitals: Vitals) -> bool:
        conversation = self._conversation
        return (
            self._vitals is not None
            and vitals.ticks == self._vitals.ticks
            and len(conversation.held) > 0
            and (not conversation.isRunning() or conversation.isOverdue())
            and conversation.finished == self._finished
        )
