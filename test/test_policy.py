"""
Tests of what a queue does with errors of calls, by its settings, and of what it logs.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock

from asynqueue.errors import PoisonTask, TimeoutError, WorkerError
from asynqueue.testing import Act, MemoryWorker, ScriptedWorker
from asynqueue.testing.tasks import fail as raising
from asynqueue.testing.tasks import timesTwo
from test.support import QueueTestCase


class StoppableClock(Clock):
    """
    A clock that can be stopped, as a reactor can.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.stopped: list[float] = []
        self._error = error

    def stop(self) -> None:
        """
        Note when.
        """
        self.stopped.append(self.seconds())
        if self._error is not None:
            raise self._error


class Records(logging.Handler):
    """
    Keeps the records of a logger.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """
        Keep it.
        """
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        """
        What the records say.
        """
        return [record.getMessage() for record in self.records]


class DefaultTests(QueueTestCase):
    """
    Neither warn nor returnFailure: errors are reported on standard error, and the reactor is stopped.
    """

    def setUp(self) -> None:
        """
        Make a queue whose clock can be stopped, and keep what is written.
        """
        super().setUp()
        self.clock = self.reactor = StoppableClock()
        self.written = io.StringIO()
        self.patch(sys, "stderr", self.written)
        self.worker = MemoryWorker()
        self.queue = self.makeQueue(self.worker, returnFailure=False)

    def test_Z01_textIsTheResult(self) -> None:
        """
        The callback gets the traceback.
        """
        outcome = self.call(self.queue, raising, ValueError, "the text")
        self.worker.step()
        self.assertIsNone(outcome.failure)
        self.assertEqual(outcome.fired, 1)
        self.assertIsInstance(outcome.value, str)
        self.assertIn("ValueError: the text", outcome.value)
        self.assertIn("Traceback", outcome.value)
        self.clock.advance(1)

    def test_Z01_message(self) -> None:
        """
        It names the call, shows the remote traceback, and says what can be done.
        """
        self.call(self.queue, raising, ValueError, "the text")
        self.worker.step()
        message = self.written.getvalue()
        for part in ("fail(", "'the text'", "ValueError: the text", "Traceback", "returnFailure=True", "warn=True"):
            self.assertIn(part, message)
        self.clock.advance(1)

    def test_Z01_reactorIsStoppedASecondLater(self) -> None:
        """
        Once, however many errors there are meanwhile.
        """
        for _ in range(3):
            self.call(self.queue, raising, ValueError)
        self.worker.stepAll()
        self.assertEqual(self.written.getvalue().count("raised an exception"), 3)
        self.clock.advance(0.99)
        self.assertEqual(self.reactor.stopped, [])
        self.clock.advance(0.02)
        self.assertEqual(len(self.reactor.stopped), 1)
        self.clock.advance(100)
        self.assertEqual(len(self.reactor.stopped), 1)

    def test_Z01_reactorThatHasStoppedAlready(self) -> None:
        """
        Is no error.
        """
        reactor = StoppableClock(ReactorNotRunning())
        worker = MemoryWorker()
        queue = self.makeQueue(worker, returnFailure=False, reactor=reactor)
        self.call(queue, raising, ValueError)
        worker.step()
        reactor.advance(1)
        self.assertEqual(len(reactor.stopped), 1)

    def test_Z01_goodCallsStopNothing(self) -> None:
        """
        Nor do calls that are cancelled, or that ask for failures.
        """
        good = self.call(self.queue, timesTwo, 2)
        asked = self.call(self.queue, raising, ValueError, returnFailure=True)
        optioned = self.call(self.queue.options(niceness=1), raising, ValueError)
        call = self.queue.call(int)
        call.addErrback(lambda _: None)
        call.cancel()
        self.worker.stepAll()
        self.assertValue(good, 4)
        self.assertFailed(asked, ValueError)
        self.assertFailed(optioned, ValueError)
        self.assertEqual(self.written.getvalue(), "")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_Z01_workersErrorsAreFailures(self) -> None:
        """
        What is no error of the call's own arrives as a failure, and stops nothing.
        """
        for act, kind in ((Act.LOSE, PoisonTask), (Act.TIME_OUT, TimeoutError), (Act.BABBLE, WorkerError)):
            queue = self.makeQueue(ScriptedWorker([act]), returnFailure=False)
            self.assertFailed(self.call(queue, int), kind)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_Z01_uglyTextOnTheTerminal(self) -> None:
        """
        Is escaped.
        """
        self.call(self.queue, raising, ValueError, "\x1b[2J\ud800")
        self.worker.step()
        self.assertNotIn("\x1b", self.written.getvalue())
        self.written.getvalue().encode("utf-8")
        self.clock.advance(1)


class LoggingTests(QueueTestCase):
    """
    warn, verbose and spew.
    """

    def setUp(self) -> None:
        """
        Keep what is logged.
        """
        super().setUp()
        self.logger = logging.getLogger("asynqueue")
        self.handler = Records()
        self.logger.addHandler(self.handler)
        self.addCleanup(self.logger.removeHandler, self.handler)
        self.addCleanup(self.logger.setLevel, self.logger.level)
        self.patch(self.logger, "propagate", False)
        self.written = io.StringIO()
        self.patch(sys, "stderr", self.written)

    def run1(self, func: Any, *args: Any, **settings: Any) -> Any:
        """
        Run a call on a queue with certain settings, and return its result.
        """
        worker = MemoryWorker()
        settings.setdefault("returnFailure", False)
        queue = self.makeQueue(worker, **settings)
        outcome = self.call(queue, func, *args)
        worker.step()
        self.assertEqual(outcome.fired, 1)
        return outcome.value if outcome.failure is None else outcome.failure

    def test_I36_warn(self) -> None:
        """
        An error is a record at level ERROR with the traceback, and nothing is stopped.
        """
        self.run1(raising, ValueError, "the text", warn=True)
        (record,) = self.handler.records
        self.assertEqual((record.levelno, record.name), (logging.ERROR, "asynqueue"))
        self.assertIn("ValueError: the text", record.getMessage())
        self.assertFalse(record.getMessage().startswith("fail("))
        self.assertEqual(self.written.getvalue(), "")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_Z02_warnDeliversTheText(self) -> None:
        """
        As the result.
        """
        result = self.run1(raising, ValueError, "the text", warn=True)
        self.assertIsInstance(result, str)
        self.assertIn("ValueError: the text", result)

    def test_Z02_warnInTheLogOfTwisted(self) -> None:
        """
        The error is told there, too.
        """
        events = self.watchLog()
        self.run1(raising, ValueError, "the text", warn=True)
        self.flushLoggedErrors()
        found = [event for event in events if str(event.get("log_namespace")).startswith("asynqueue")]
        self.assertEqual(len(found), 1)

    def test_I36_verbose(self) -> None:
        """
        The record begins with the call.
        """
        self.run1(timesTwo, None, warn=True, verbose=True)
        (text,) = self.handler.texts
        self.assertTrue(text.startswith("timesTwo(None): "), text)
        self.assertIn("TypeError", text)

    def test_I36_spew(self) -> None:
        """
        Each finished call is a record at level INFO.
        """
        self.assertEqual(self.run1(timesTwo, 3, spew=True), 6)
        (record,) = self.handler.records
        self.assertEqual(record.levelno, logging.INFO)
        self.assertEqual(record.getMessage(), "timesTwo(3) -> 6")

    def test_I36_spewImpliesVerbose(self) -> None:
        """
        Errors are logged with their calls, and all calls with their results.
        """
        self.run1(timesTwo, None, warn=True, spew=True)
        error, finished = self.handler.records
        self.assertEqual((error.levelno, finished.levelno), (logging.ERROR, logging.INFO))
        self.assertTrue(error.getMessage().startswith("timesTwo(None): "))
        self.assertTrue(finished.getMessage().startswith("timesTwo(None) -> "))

    def test_I36_spewOfFailures(self) -> None:
        """
        The result that is logged is the error.
        """
        failure = self.run1(raising, ValueError, "the text", spew=True, returnFailure=True)
        self.assertTrue(failure.check(ValueError))
        (text,) = self.handler.texts
        self.assertIn("the text", text)

    def test_I36_levels(self) -> None:
        """
        The logger's level is ERROR with C{warn}, INFO with C{spew}.
        """
        self.makeQueue(warn=True)
        self.assertEqual(self.logger.level, logging.ERROR)
        self.makeQueue(spew=True)
        self.assertEqual(self.logger.level, logging.INFO)

    def test_I36_silentOtherwise(self) -> None:
        """
        With C{returnFailure}, errors are the caller's, and are not logged.
        """
        failure = self.run1(raising, ValueError, warn=True, returnFailure=True)
        self.assertTrue(failure.check(ValueError))
        self.assertEqual(self.handler.records, [])

    def test_F38_spewOfHugeResults(self) -> None:
        """
        Is bounded and printable.
        """
        self.run1(timesTwo, "\x1b[2J" * 100_000, spew=True)
        (text,) = self.handler.texts
        self.assertLessEqual(len(text), 10_000)
        self.assertNotIn("\x1b", text)
