"""
What children write to standard output and standard error: logged by lines, within bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger

#: How long a line may be, in bytes; a longer one is cut into several.
LINE_LIMIT = 8192

#: How much, in bytes a second, is logged of one child. The rest is counted.
RATE_LIMIT = 1 << 20

#: How many lines of standard error are kept for errors.
LINES_KEPT = 20

_NAMES = {1: "stdout", 2: "stderr"}


class OutputLines:
    """
    Logs the lines of one child, each with the worker and what it was running.

    What is not text is escaped. Nothing is kept but the last lines of standard error.
    """

    log = Logger()

    def __init__(
        self, worker: Callable[[], str], running: Callable[[], str], clock: Callable[[], float] = monotonic
    ) -> None:
        """
        @param worker: Names the worker.
        @param running: Tells what it is running.
        @param clock: A monotonic clock, in seconds.
        """
        self._worker = worker
        self._running = running
        self._clock = clock
        self._rests = {1: b"", 2: b""}
        self._kept: deque[bytes] = deque(maxlen=LINES_KEPT)
        self._second = 0
        self._room = RATE_LIMIT
        self._dropped = 0

    def received(self, descriptor: int, data: bytes) -> None:
        """
        Take some bytes of standard output, 1, or standard error, 2.
        """
        *lines, rest = (self._rests.get(descriptor, b"") + data).split(b"\n")
        while len(rest) > LINE_LIMIT:
            lines.append(rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        self._rests[descriptor] = rest
        for line in lines:
            for start in range(0, len(line) or 1, LINE_LIMIT):
                self._take(descriptor, line[start : start + LINE_LIMIT])

    def _take(self, descriptor: int, line: bytes) -> None:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._room = RATE_LIMIT
            self._tellDropped()
        if descriptor == 2:
            self._kept.append(line)
        self._room -= len(line) + 1
        if self._room < 0:
            self._dropped += len(line) + 1
            return
        self.log.info(
            "{worker} {running}, {stream}: {line}",
            worker=self._worker(),
            running=self._running(),
            stream=_NAMES.get(descriptor, descriptor),
            line=_textOf(line),
        )

    def _tellDropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self.log.warn(
                "{worker} has written {dropped} bytes more than are logged in a second",
                worker=self._worker(),
                dropped=dropped,
            )

    def close(self) -> list[str]:
        """
        Take what has no end of line as a line.

        @return: The last lines of standard error.
        """
        for descriptor, rest in self._rests.items():
            if rest:
                self._rests[descriptor] = b""
                self._take(descriptor, rest)
        self._tellDropped()
        return [_textOf(line) for line in self._kept]


def _textOf(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
    return text[:LINE_LIMIT]
