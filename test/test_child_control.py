"""
Tests of what the two threads of a child share, in one thread: which calls are run, recalled and interrupted.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import SoftTimeLimitExceeded
from asynqueue.process import frames
from asynqueue.process.control import CallInterrupted, Control
from asynqueue.process.frames import NUMBER


class Written:
    """
    Stands for the pipe to the parent.
    """

    def __init__(self) -> None:
        self.records: list[tuple[int, int, bytes]] = []

    def write(self, kind: int, number: int, body: bytes = b"") -> None:
        """
        Note a record.
        """
        self.records.append((kind, number, body))


class ControlTests(SynchronousTestCase):
    """
    Requests of the parent that come before, while and after calls are run.
    """

    def setUp(self) -> None:
        """
        Make a control without its thread: what it would receive is handed to it.
        """
        for number in (signal.SIGURG, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.outlet: Any = Written()
        self.streams: set[int] = set()
        self.flushed: list[int] = []
        self.control = Control(-1, self.outlet, self.streams, self.flushed.append)
        self.control.listen()

    def receive(self, kind: int, number: int, flags: int = 0) -> None:
        """
        Have the control thread receive something.
        """
        self.control._received(kind, flags, number)

    def test_recall(self) -> None:
        """
        What has been begun with is run; what has not, up to the number, never is; what comes later is.
        """
        self.assertIs(self.control.claim(1), True)
        self.receive(frames.RECALL, 3)
        self.assertEqual(self.outlet.records, [(frames.RECALLED, 1, NUMBER.pack(3))])
        self.assertEqual([self.control.claim(number) for number in (2, 3, 4)], [None, None, True])

    def test_recallTooLate(self) -> None:
        """
        A recall of what has been begun with gives back nothing.
        """
        self.assertIs(self.control.claim(3), True)
        self.receive(frames.RECALL, 3)
        self.assertEqual(self.outlet.records, [(frames.RECALLED, 3, NUMBER.pack(3))])
        self.assertIs(self.control.claim(4), True)

    def test_cancelledBeforeItsStart(self) -> None:
        """
        A call that is cancelled before it is begun with is not run, and the next one is.
        """
        self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        self.assertEqual([self.control.claim(number) for number in (1, 2)], [False, True])

    def test_cancelledAndRecalled(self) -> None:
        """
        A call that is cancelled and recalled, in either order, is forgotten.
        """
        self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        self.receive(frames.RECALL, 2)
        self.receive(frames.INTERRUPT, 2, frames.CANCELLED)
        self.assertEqual([self.control.claim(number) for number in (1, 2, 3)], [None, None, True])
        self.assertEqual(self.control._unwanted, set())

    def test_interrupt(self) -> None:
        """
        A running call is interrupted once, at its next step.
        """
        self.control.claim(1)
        self.control.enter(1)
        with self.assertRaises(CallInterrupted):
            self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        self.assertEqual(self.control.cancelled, 1)
        os.kill(os.getpid(), signal.SIGURG)

    def test_softLimit(self) -> None:
        """
        A soft limit raises what a call may catch, and does not count as a cancellation.
        """
        self.control.claim(1)
        self.control.enter(1)
        with self.assertRaises(SoftTimeLimitExceeded):
            self.receive(frames.INTERRUPT, 1, frames.SOFT_LIMIT)
        self.assertEqual(self.control.cancelled, 0)

    def test_whileArgumentsAreUnpickled(self) -> None:
        """
        An interrupt that comes before the application's code is run takes effect when it is.
        """
        self.control.claim(1)
        self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        with self.assertRaises(CallInterrupted):
            self.control.enter(1)

    def test_tooLate(self) -> None:
        """
        An interrupt for what is over, or came to its end meanwhile, disturbs nobody, and is forgotten.
        """
        self.control.claim(1)
        self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        self.control.claim(2)
        self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        self.control.enter(2)
        self.control.enter(1)
        self.assertEqual(self.control._interrupts, {})

    def test_streamAndCall(self) -> None:
        """
        An interrupt for an open stream does not take the place of one for the call that is at its arguments, nor the
        other way round.
        """
        self.streams.add(1)
        self.control.claim(2)
        self.receive(frames.INTERRUPT, 2, frames.CANCELLED)
        self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
        with self.assertRaises(CallInterrupted):
            self.control.enter(2)
        self.control.running = 0
        self.control.claim(3)
        with self.assertRaises(CallInterrupted):
            self.control.enter(1)

    def test_others(self) -> None:
        """
        The other requests are served, and an unknown one is passed over.
        """
        self.receive(frames.FLUSH, 7)
        self.assertEqual(self.flushed, [7])
        self.receive(frames.STACK, 8)
        [(kind, number, body)] = self.outlet.records
        self.assertEqual((kind, number), (frames.STACK_TEXT, 8))
        self.assertIn("test_others", body.decode("utf-8"))
        self.receive(99, 9)
        self.assertEqual(len(self.outlet.records), 1)

    def test_listensAgain(self) -> None:
        """
        What a call has made of the handlers of signals is undone.
        """
        signal.signal(signal.SIGURG, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.control.listen()
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
        self.control.claim(1)
        self.control.enter(1)
        with self.assertRaises(CallInterrupted):
            self.receive(frames.INTERRUPT, 1, frames.CANCELLED)
