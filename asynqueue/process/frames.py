"""
Records, as they travel over the pipes between a queue's process and its children.

How they look, and those that travel over AMP, too, is in L{asynqueue.protocol.records}; here are those that a child
without a reactor is sent, and sends, besides. This module is for both ends, and imports neither Twisted nor anything
else that a child does not need.
"""

from __future__ import annotations

from asynqueue.protocol.records import (
    CALL,
    COUNT,
    ERROR,
    HEADER,
    ITEMS,
    NOTHING,
    NUMBER,
    RAW,
    RECALLED,
    RESULT,
    SECONDS,
    SOFT_LIMIT,
    STREAM,
    STREAM_END,
    TOOK,
    UNREADY,
    Splitter,
    record,
)
from asynqueue.protocol.records import UNWANTED as CANCELLED

__all__ = [
    "APART",
    "CALL",
    "CANCELLED",
    "CLOSE",
    "COUNT",
    "END",
    "ERROR",
    "FLUSH",
    "HEADER",
    "INTERRUPT",
    "ITEMS",
    "ITEMS_PARTS",
    "NOTHING",
    "NUMBER",
    "PULL",
    "RAW",
    "READY",
    "RECALL",
    "RECALLED",
    "RESULT",
    "RESULT_PARTS",
    "SECONDS",
    "SOFT_LIMIT",
    "STACK",
    "STACK_TEXT",
    "STREAM",
    "STREAM_END",
    "TOOK",
    "UNREADY",
    "Splitter",
    "record",
]

#: From how many bytes on the parts of a call, a result or items travel in shared memory. The pipe takes less as fast.
APART = 1 << 17

# To the child, over the data pipe

#: So many more items of a stream may come; the body is one C{COUNT}.
PULL = 2
#: Nobody wants more items of a stream.
CLOSE = 3
#: Come to an end, when all before this is done.
END = 4

# To the child, over the control pipe

#: Give back the calls up to the number that have not been started.
RECALL = 16
#: Raise the exception that is numbered by the flags in the call of the number, if that is running.
INTERRUPT = 17
#: Tell where the main thread is; the reply has the same number.
STACK = 18
#: Send the items of a stream that are there, while the iterator is at another one.
FLUSH = 19

# From the child

#: It is ready for calls.
READY = 32
#: The reply to C{STACK}: text, as UTF-8.
STACK_TEXT = 41
#: The result of a call, as parts: see L{asynqueue.process.parts}.
RESULT_PARTS = 45
#: Items of a stream, as parts.
ITEMS_PARTS = 46
