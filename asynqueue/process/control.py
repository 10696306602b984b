"""
The control thread of a child: what the parent asks while the main thread computes.

Which call has been begun with, and which have been recalled, is known to both threads, and changed under one lock: the
parent is never told that a call has not been started which then is. A call is interrupted by a signal to the main
thread, whose handler raises an exception in it, between two of its steps.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from threading import Lock, Thread

from asynqueue.process import frames
from asynqueue.process.frames import HEADER, NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from signal import SIG_IGN, SIGINT, SIGURG, getsignal, pthread_kill, signal
    from typing import Any, Protocol

    class Writes(Protocol):
        """
        Tells the parent something.
        """

        def write(self, kind: int, number: int, body: bytes = b"") -> None:
            """
            Write a record.
            """
else:
    # What `signal` has these from; that would make enumerations besides, which takes time.
    from _signal import SIG_IGN, SIGINT, SIGURG, getsignal, pthread_kill, signal

__all__ = ["SIGINT", "SIG_IGN", "CallInterrupted", "Control", "signal"]

#: The signal that lets the main thread look for an interrupt. Nobody else uses it, and it is ignored by default.
SIGNAL = SIGURG


class CallInterrupted(BaseException):
    """
    Nobody waits for the call any more.
    """


class Control:
    """
    Serves the parent in a thread of its own, and lets the main thread know what it is to do.

    @ivar cancelled: The number of the call or stream that has been cancelled last.
    @ivar running: The number of that which the application's code is running for at the moment, in the main thread, or
        0.
    """

    def __init__(
        self, descriptor: int, outlet: Writes, streams: Container[int], flush: Callable[[int], object]
    ) -> None:
        """
        To be made in the main thread.

        @param descriptor: That of the control pipe.
        @param streams: The numbers of the streams that are open.
        @param flush: Called, in the control thread, to send what there is of a stream.
        """
        self.cancelled = 0
        self.running = 0
        self._descriptor = descriptor
        self._outlet = outlet
        self._streams = streams
        self._flush = flush
        self._lock = Lock()
        self._started = 0
        self._recalledFrom = 0
        self._recalledTo = 0
        self._unwanted: set[int] = set()
        self._interrupts: dict[int, int] = {}
        self._softLimit: type[Exception] | None = None
        self._mainThread = get_ident()

    def start(self) -> None:
        """
        Begin to serve.
        """
        self.listen()
        Thread(target=self._serve, name="asynqueue-control", daemon=True).start()

    # For the main thread

    def listen(self) -> None:
        """
        See to it that interrupts arrive, whatever a call has made of the handlers of signals.
        """
        # Hot path, watched by `bench --only processes`.
        if getsignal(SIGNAL) != self._interrupted:
            signal(SIGNAL, self._interrupted)
        if getsignal(SIGINT) != SIG_IGN:
            signal(SIGINT, SIG_IGN)

    def claim(self, number: int) -> bool | None:
        """
        Begin with a call, unless the parent has thought better of it.

        @return: Whether to run it; C{None} if it has been recalled, and the parent knows that.
        """
        # Hot path, watched by `bench --only processes`.
        with self._lock:
            if self._recalledFrom < number <= self._recalledTo:
                return None
            self._started = number
            if self._interrupts:
                # They came when the calls were at their end.
                self._interrupts = {each: why for each, why in self._interrupts.items() if each in self._streams}
            if self._unwanted and number in self._unwanted:
                self._unwanted.discard(number)
                return False
            return True

    def enter(self, number: int) -> None:
        """
        Take note that from now on the application's code is run for a call or a stream, which may be interrupted.

        @raise CallInterrupted: It is not wanted any more.
        """
        self.running = number
        if self._interrupts:
            # It came while the arguments were unpickled, which imports modules and must not be disturbed.
            self._interrupt()

    def _interrupted(self, signum: int, frame: Any) -> None:
        self._interrupt()

    def _interrupt(self) -> None:
        """
        Raise an exception in that which is running, if there is one for it.
        """
        reason = self._interrupts.pop(self.running, None)
        if reason is None:
            return
        if reason == frames.SOFT_LIMIT and self._softLimit is not None:
            raise self._softLimit("the call takes longer than its soft time limit")
        raise CallInterrupted("the call has been cancelled")

    # The thread

    def _serve(self) -> None:
        try:
            buffer = b""
            while data := os.read(self._descriptor, 4096):
                buffer += data
                while len(buffer) >= HEADER.size:
                    kind, flags, number, _ = HEADER.unpack_from(buffer)
                    buffer = buffer[HEADER.size :]
                    self._received(kind, flags, number)
            # The parent is gone.
            os._exit(0)
        except BaseException as error:  # without this thread the parent could not reach the child
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)

    def _received(self, kind: int, flags: int, number: int) -> None:
        if kind == frames.RECALL:
            self._recall(number)
        elif kind == frames.INTERRUPT:
            self._interruptCall(number, flags)
        elif kind == frames.FLUSH:
            self._flush(number)
        elif kind == frames.STACK:
            self._tellStack(number)

    def _recall(self, number: int) -> None:
        with self._lock:
            started = self._started
            if number > started:
                self._recalledFrom, self._recalledTo = started, number
                self._unwanted = {each for each in self._unwanted if each > number}
        self._outlet.write(frames.RECALLED, started, NUMBER.pack(number))

    def _interruptCall(self, number: int, reason: int) -> None:
        if reason == frames.SOFT_LIMIT and self._softLimit is None:
            from asynqueue.errors import SoftTimeLimitExceeded

            self._softLimit = SoftTimeLimitExceeded
        with self._lock:
            if number > self._started:
                if number > self._recalledTo:
                    self._unwanted.add(number)
                return
            if number != self._started and number not in self._streams:
                # It is over.
                return
            self._interrupts[number] = reason
        if reason == frames.CANCELLED:
            self.cancelled = number
        pthread_kill(self._mainThread, SIGNAL)

    def _tellStack(self, number: int) -> None:
        """
        Tell where the main thread is.
        """
        import traceback

        frame = sys._current_frames().get(self._mainThread)
        text = "" if frame is None else "".join(traceback.format_stack(frame, limit=100))
        self._outlet.write(frames.STACK_TEXT, number, text.encode("utf-8", "backslashreplace"))
