"""
Tests of the leak check: it finds what is left, and only that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any
from unittest import TestResult

from twisted.internet import protocol
from twisted.internet import reactor as globalReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue.testing import LeakCheck, LeakCheckMixin

reactor: Any = globalReactor

#: A program that ends with its standard input.
READING = "import sys; sys.stdin.read()"


class LeakCheckTests(SynchronousTestCase):
    """
    Tests of the check by itself. What a test has left on purpose, it removes itself; then the check is silent again.
    """

    timeout = 60

    def assertFinds(self, check: LeakCheck, *texts: str) -> None:
        """
        The check finds one thing, says so in these words, and fails.
        """
        found = check.leaks()
        self.assertEqual(len(found), 1, found)
        error = self.assertRaises(AssertionError, check.verify, patience=0)
        for text in texts:
            self.assertIn(text, found[0])
            self.assertIn(text, str(error))

    def assertSilent(self, check: LeakCheck) -> None:
        """
        The check finds nothing, now or soon.
        """
        check.verify()
        self.assertEqual(check.leaks(), [])

    def test_nothing(self) -> None:
        """
        It is silent about what has been there before, and where nothing has happened.
        """
        clock = Clock()
        clock.callLater(1, int)
        event = threading.Event()
        thread = threading.Thread(target=event.wait, args=(30,))
        thread.start()
        try:
            with tempfile.TemporaryFile():
                self.assertSilent(LeakCheck(clock))
                self.assertSilent(LeakCheck(reactor))
                self.assertSilent(LeakCheck())
        finally:
            event.set()
            thread.join()

    def test_less(self) -> None:
        """
        It is silent about what has gone since.
        """
        clock = Clock()
        timer = clock.callLater(1, int)
        with tempfile.TemporaryFile():
            check = LeakCheck(clock)
        timer.cancel()
        self.assertSilent(check)

    def test_thread(self) -> None:
        """
        It finds a thread, by its name.
        """
        check = LeakCheck()
        event = threading.Event()
        thread = threading.Thread(target=event.wait, args=(30,), name="left on purpose")
        thread.start()
        try:
            self.assertFinds(check, "thread", "left on purpose")
        finally:
            event.set()
            thread.join()
        self.assertSilent(check)

    def test_daemonThread(self) -> None:
        """
        It finds a thread that does not keep the interpreter from exiting, too.
        """
        check = LeakCheck()
        event = threading.Event()
        thread = threading.Thread(target=event.wait, args=(30,), daemon=True, name="a daemon")
        thread.start()
        try:
            self.assertFinds(check, "thread", "a daemon")
        finally:
            event.set()
            thread.join()

    def test_file(self) -> None:
        """
        It finds an open file, by its path.
        """
        path = self.mktemp()
        check = LeakCheck()
        with open(path, "w"):
            self.assertFinds(check, "descriptor", os.path.basename(path))
        self.assertSilent(check)

    def test_moreOfTheSame(self) -> None:
        """
        It finds a second descriptor of the same file.
        """
        path = self.mktemp()
        with open(path, "w") as first:
            check = LeakCheck()
            other = os.dup(first.fileno())
            try:
                self.assertFinds(check, "1 more of descriptor", os.path.basename(path))
            finally:
                os.close(other)
            self.assertSilent(check)

    def test_pipe(self) -> None:
        """
        It finds the ends of a pipe, which have no path.
        """
        check = LeakCheck()
        ends = os.pipe()
        try:
            self.assertFinds(check, "2 more of descriptor", "pipe")
        finally:
            for end in ends:
                os.close(end)
        self.assertSilent(check)

    def test_timer(self) -> None:
        """
        It finds a timer of the reactor that it has been given.
        """
        for clock in (Clock(), reactor):
            check = LeakCheck(clock)
            timer = clock.callLater(30, self.test_timer)
            try:
                self.assertFinds(check, "timer", "test_timer")
                self.assertSilent(LeakCheck())
            finally:
                timer.cancel()
            self.assertSilent(check)

    def test_child(self) -> None:
        """
        It finds a child process, by its ID, until its end has been waited for.
        """
        check = LeakCheck()
        child = subprocess.Popen([sys.executable, "-c", READING], stdin=subprocess.PIPE)
        assert child.stdin is not None
        try:
            self.assertIn(f"child process {child.pid} is there", check.leaks())
            child.stdin.close()
            # It is a zombie now, or will be soon, and still there.
            self.assertFinds(check, f"child process {child.pid}")
        finally:
            child.stdin.close()
            child.wait(30)
        self.assertSilent(check)

    def test_childOfAnotherThread(self) -> None:
        """
        It finds a child process that another thread has made, and that thread.
        """
        check = LeakCheck()
        children: list[subprocess.Popen[bytes]] = []
        event, made = threading.Event(), threading.Event()

        def make() -> None:
            children.append(subprocess.Popen([sys.executable, "-c", READING], stdin=subprocess.PIPE))
            made.set()
            event.wait(30)

        thread = threading.Thread(target=make)
        thread.start()
        try:
            self.assertTrue(made.wait(30))
            self.assertIn(f"child process {children[0].pid} is there", check.leaks())
        finally:
            event.set()
            thread.join()
            for child in children:
                assert child.stdin is not None
                child.stdin.close()
                child.wait(30)
        self.assertSilent(check)

    def test_several(self) -> None:
        """
        It tells of all that is left, in one error.
        """
        clock = Clock()
        check = LeakCheck(clock)
        clock.callLater(1, int)
        with tempfile.TemporaryFile():
            error = str(self.assertRaises(AssertionError, check.verify, patience=0))
        self.assertIn("timer", error)
        self.assertIn("descriptor", error)

    def test_patience(self) -> None:
        """
        It waits for a thread that is about to end.
        """
        check = LeakCheck()
        thread = threading.Thread(target=threading.Event().wait, args=(0.1,))
        thread.start()
        self.assertEqual(len(check.leaks()), 1)
        self.assertSilent(check)
        thread.join()

    def test_garbage(self) -> None:
        """
        It does not hold against a test what only the garbage collector has to fetch.
        """

        class Holder:
            def __init__(self) -> None:
                self.descriptor = os.open(__file__, os.O_RDONLY)
                self.itself = self

            def __del__(self) -> None:
                os.close(self.descriptor)

        check = LeakCheck()
        holder: Holder | None = Holder()
        self.assertEqual(len(check.leaks()), 1)
        del holder
        self.assertSilent(check)


class PortTests(TestCase):
    """
    Tests of the check with what takes turns of the reactor to remove.
    """

    timeout = 60

    async def test_listeningPort(self) -> None:
        """
        It finds a port that the reactor listens on, and its descriptor.
        """
        check = LeakCheck(reactor)
        port = reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1")
        found = self.leaks(check)
        await port.stopListening()
        self.assertTrue(any("selectable" in text for text in found), found)
        self.assertTrue(any("descriptor 'socket'" in text for text in found), found)
        self.assertEqual(self.leaks(check), [])

    def leaks(self, check: LeakCheck) -> list[str]:
        """
        Return what is found, but for the timer of trial itself.
        """
        return [text for text in check.leaks() if "onTimeout" not in text]


class MixinTests(SynchronousTestCase):
    """
    Tests of the mixin: a test case of it that leaves something fails, and one that does not, does not.
    """

    timeout = 60

    def runCase(self, body: Callable[[TestCase], object]) -> list[str]:
        """
        Run a test of a case with the mixin, and return the texts of its failures and errors.
        """

        class Case(LeakCheckMixin, TestCase):
            def test_it(self) -> None:
                body(self)

        result = TestResult()
        Case("test_it").run(result)
        self.assertEqual(result.testsRun, 1)
        return [str(text) for _, text in (*result.failures, *result.errors)]

    def test_clean(self) -> None:
        """
        Nothing is left.
        """
        self.assertEqual(self.runCase(lambda case: None), [])

    def test_removedInCleanup(self) -> None:
        """
        What the test's own clean-ups remove is not left.
        """

        def body(case: TestCase) -> None:
            ends = os.pipe()
            for end in ends:
                case.addCleanup(os.close, end)

        self.assertEqual(self.runCase(body), [])

    def test_left(self) -> None:
        """
        Something is left, and the failure says what.
        """
        left: list[int] = []
        failures = self.runCase(lambda case: left.extend(os.pipe()))
        for end in left:
            os.close(end)
        self.assertEqual(len(failures), 1)
        self.assertIn("left behind", failures[0])
        self.assertIn("pipe", failures[0])
