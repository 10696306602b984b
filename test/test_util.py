"""
Tests of asynqueue.util: pickles, the ends and first words of processes, and running a call.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue import errors, util
from asynqueue.callrunner import TIMES_LIMIT
from asynqueue.deferreds.lock import DeferredLock
from asynqueue.deferreds.tracker import DeferredTracker
from asynqueue.failures import failureOf
from asynqueue.processes import ERRORS_LIMIT, Ladder
from asynqueue.processwatch import AskingWatch
from asynqueue.testing import LeakCheckMixin
from asynqueue.util import CallRunner, ProcessProtocol, callAfterDeferred, killProcess, o2p, p2o
from test.support import Outcome

#: Seconds; a test takes less than one.
TIMEOUT = 30

#: A program that says when it is ready, and then does nothing for longer than the test may take.
IDLE = "import sys, time; print('ready', flush=True); time.sleep(100)"

#: The same, deaf to being told to end.
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {IDLE}"


class PickleTests(SynchronousTestCase):
    """
    Objects as pickles and back.
    """

    def test_thereAndBack(self) -> None:
        """
        Gives an equal object.
        """
        for thing in (None, 0, "", b"", "text", [1], {"key": (1, [2])}, {1}, OrderedDict(), PickleTests):
            self.assertEqual(p2o(o2p(thing)), thing)
            self.assertIs(type(p2o(o2p(thing))), type(thing))

    def test_empty(self) -> None:
        """
        An empty list, tuple or dict is no bytes at all, and those are the default.
        """
        empty: tuple[object, ...] = ([], (), {})
        for thing in empty:
            self.assertEqual(o2p(thing), b"")
        default: list[int] = []
        self.assertIs(p2o(b"", default), default)
        self.assertIs(p2o(b"", default=default), default)
        self.assertIsNone(p2o(b""))

    def test_bytesLike(self) -> None:
        """
        Is as good as bytes.
        """
        for kind in (bytearray, memoryview):
            self.assertEqual(p2o(kind(o2p("x"))), "x")
            self.assertEqual(p2o(kind(b""), "x"), "x")

    def test_errors(self) -> None:
        """
        Are raised at the call.
        """
        wrong: Any
        for wrong in ("text", None, 1, []):
            self.assertRaises(TypeError, p2o, wrong)
        self.assertRaises(pickle.UnpicklingError, p2o, b"no pickle")
        with self.assertRaises((pickle.PicklingError, AttributeError)):
            o2p(lambda: None)


class PlaceTests(SynchronousTestCase):
    """
    The documented place.
    """

    def test_names(self) -> None:
        """
        Are what is documented, and come from where they are at home.
        """
        self.assertEqual(
            set(util.__all__),
            {
                "CallRunner",
                "DeferredLock",
                "DeferredTracker",
                "ProcessProtocol",
                "callAfterDeferred",
                "killProcess",
                "o2p",
                "p2o",
            },
        )
        self.assertIs(util.DeferredLock, DeferredLock)
        self.assertIs(util.DeferredTracker, DeferredTracker)
        self.assertIs(util.callAfterDeferred, callAfterDeferred)


class MemoryWatch:
    """
    A process that exists nowhere.
    """

    def __init__(self, endsAt: int | None = None) -> None:
        self.endsAt = endsAt
        self.error: OSError | None = None
        self.gone = False
        self.sent: list[int] = []
        self.stopped = 0
        self.onGone: Callable[[], object] | None = None

    def isGone(self) -> bool:
        """
        Tell whether it has ended.
        """
        return self.gone

    def send(self, number: int) -> None:
        """
        Note a signal.
        """
        if self.error is not None:
            raise self.error
        self.sent.append(number)
        if number == self.endsAt:
            self.gone = True

    def start(self, gone: Callable[[], object]) -> None:
        """
        Keep the function.
        """
        self.onGone = gone

    def stop(self) -> None:
        """
        Note it.
        """
        self.stopped += 1


class LadderTests(SynchronousTestCase):
    """
    The steps by which a process is ended, on a virtual clock.
    """

    def setUp(self) -> None:
        """
        Make the clock.
        """
        super().setUp()
        self.clock = Clock()
        self.watch = MemoryWatch()
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def climb(self) -> Deferred[bool]:
        """
        Begin.
        """
        return Ladder(self.watch, self.clock, 5.0, "process 7").climb()

    def end(self) -> None:
        """
        The process ends, and that is told.
        """
        self.watch.gone = True
        assert self.watch.onGone is not None
        self.watch.onGone()

    def test_gone(self) -> None:
        """
        Is False, and no signal.
        """
        self.watch.gone = True
        outcome = Outcome(self.climb())
        self.assertEqual((outcome.value, self.watch.sent, self.watch.stopped), (False, [], 1))

    def test_endsWhenTold(self) -> None:
        """
        Is True, as soon as it has.
        """
        outcome = Outcome(self.climb())
        self.clock.advance(4.9)
        self.assertEqual((outcome.fired, self.watch.sent), (0, [signal.SIGTERM]))
        self.end()
        self.assertEqual((outcome.value, self.watch.sent, self.watch.stopped), (True, [signal.SIGTERM], 1))

    def test_endsWhenKilled(self) -> None:
        """
        After its time is over.
        """
        outcome = Outcome(self.climb())
        self.clock.advance(5)
        self.assertEqual((outcome.fired, self.watch.sent), (0, [signal.SIGTERM, signal.SIGKILL]))
        self.end()
        self.assertIs(outcome.value, True)

    def test_neverEnds(self) -> None:
        """
        Is an error, after a time that is known.
        """
        outcome = Outcome(self.climb())
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertIsInstance(outcome.error, errors.TimeoutError)
        self.assertIn("process 7 is still there", str(outcome.error))
        self.assertEqual(self.watch.stopped, 1)

    def test_endsUntold(self) -> None:
        """
        Is seen at the last moment.
        """
        outcome = Outcome(self.climb())
        self.watch.endsAt = signal.SIGKILL
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertIs(outcome.value, True)

    def test_goneMeanwhile(self) -> None:
        """
        Between looking and telling: it was gone.
        """
        self.watch.error = ProcessLookupError()
        self.assertIs(Outcome(self.climb()).value, False)

    def test_goneBeforeTheSecondSignal(self) -> None:
        """
        It has ended on the first.
        """
        outcome = Outcome(self.climb())
        self.watch.error = ProcessLookupError()
        self.clock.advance(5)
        self.assertIs(outcome.value, True)

    def test_notOurs(self) -> None:
        """
        Is an error.
        """
        self.watch.error = PermissionError("not yours")
        outcome = Outcome(self.climb())
        self.assertIs(outcome.kind, PermissionError)
        self.assertEqual(self.watch.stopped, 1)

    def test_cancel(self) -> None:
        """
        Means that no more signals are sent.
        """
        d = self.climb()
        outcome = Outcome(d)
        d.cancel()
        self.assertIs(outcome.kind, CancelledError)
        self.clock.advance(20)
        self.assertEqual((self.watch.sent, self.watch.stopped), ([signal.SIGTERM], 1))

    def test_refused(self) -> None:
        """
        What is the ID of no other process, at the call.
        """
        wrong: Any
        for wrong in (0, -1, 1, os.getpid()):
            self.assertRaises(ValueError, killProcess, wrong, reactor=self.clock)
        for wrong in ("12", None, 1.5, True):
            self.assertRaises(TypeError, killProcess, wrong, reactor=self.clock)
        self.assertRaises(ValueError, killProcess, 12, -1, self.clock)


class RealProcessTests(LeakCheckMixin, TestCase):
    """
    Processes that exist.
    """

    timeout = TIMEOUT

    def start(self, program: str) -> subprocess.Popen[bytes]:
        """
        Start a program that nobody reaps before the end of the test, and wait until it says that it is ready.
        """
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline().strip(), b"ready")
        return process

    async def test_endsWhenTold(self) -> None:
        """
        A child that nobody has reaped counts as gone, and its exit code is left to whoever waits for it.
        """
        process = self.start(IDLE)
        self.assertIs(await killProcess(process.pid), True)
        self.assertIs(await killProcess(process.pid), False)
        self.assertEqual(process.wait(), -signal.SIGTERM)
        self.assertIs(await killProcess(process.pid), False)

    async def test_endsWhenKilled(self) -> None:
        """
        One that does not listen is killed.
        """
        process = self.start(DEAF)
        self.assertIs(await killProcess(process.pid, patience=0.2), True)
        self.assertEqual(process.wait(), -signal.SIGKILL)

    async def test_cancel(self) -> None:
        """
        Leaves nothing behind, and the process alive that does not listen.
        """
        process = self.start(DEAF)
        d = killProcess(process.pid)
        d.cancel()
        with self.assertRaises(CancelledError):
            await d
        self.assertIsNone(process.poll())

    def test_withoutDescriptors(self) -> None:
        """
        A reactor that watches none asks now and then.
        """
        clock = Clock()
        process = self.start(IDLE)
        outcome = Outcome(killProcess(process.pid, reactor=clock))
        self.assertEqual(outcome.fired, 0)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        clock.advance(0.1)
        self.assertIs(outcome.value, True)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertTrue(AskingWatch(process.pid, clock).isGone())
        self.assertEqual(process.wait(), -signal.SIGTERM)
        self.assertTrue(AskingWatch(process.pid, clock).isGone())
        self.assertIs(Outcome(killProcess(process.pid, reactor=clock)).value, False)

    async def spawned(self, program: str, protocol: ProcessProtocol) -> bytes:
        """
        Start a program with a protocol, and return the first that it writes.
        """
        reactor.spawnProcess(protocol, sys.executable, [sys.executable, "-c", program], env=dict(os.environ))
        return await protocol.d

    async def test_firstOutput(self) -> None:
        """
        Comes as bytes; when the process has ended, the stopper is told its ID.
        """
        stopped: Deferred[int | None] = Deferred()
        protocol = ProcessProtocol(stopped.callback)
        self.assertEqual((await self.spawned(IDLE, protocol)).strip(), b"ready")
        assert protocol.pid is not None
        self.assertFalse(stopped.called)
        self.assertIs(await killProcess(protocol.pid), True)
        self.assertEqual(await stopped, protocol.pid)

    async def test_noOutput(self) -> None:
        """
        Is an error that says what the process complained about.
        """
        with self.assertRaises(ProcessTerminated) as caught:
            await self.spawned("import sys; sys.stderr.write('no such thing'); sys.exit(3)", ProcessProtocol())
        self.assertEqual(caught.exception.exitCode, 3)
        self.assertIn("no such thing", "".join(caught.exception.__notes__))


class ProtocolTests(SynchronousTestCase):
    """
    A process protocol without a process.
    """

    def test_firstOnly(self) -> None:
        """
        What comes after the first output is dropped, and so is what is on stderr.
        """
        protocol = ProcessProtocol()
        protocol.errReceived(b"warning")
        self.assertNoResult(protocol.d)
        protocol.outReceived(b"first")
        protocol.outReceived(b"second")
        self.assertEqual(self.successResultOf(protocol.d), b"first")
        protocol.processEnded(Failure(ProcessDone(0)))

    def test_stopperOnce(self) -> None:
        """
        It is called with the process ID, after the Deferred has failed that nothing else has fired.
        """
        stopped: list[Any] = []
        protocol = ProcessProtocol(stopped.append)
        protocol.d.addErrback(lambda failure: stopped.append(failure.type))
        for _ in range(2):
            protocol.processEnded(Failure(ProcessDone(0)))
        self.assertEqual(stopped, [ProcessDone, None])

    def test_stderrIsBounded(self) -> None:
        """
        Of much, the last is kept.
        """
        protocol = ProcessProtocol()
        outcome = Outcome(protocol.d)
        for _ in range(100):
            protocol.errReceived(b"\xff" * 1000)
        protocol.errReceived(b"the end")
        protocol.processEnded(Failure(ProcessDone(0)))
        (note,) = outcome.error.__notes__
        self.assertLess(len(note), ERRORS_LIMIT + 100)
        self.assertTrue(note.endswith("the end"))

    def test_cancelled(self) -> None:
        """
        Who does not wait any more is told nothing.
        """
        protocol = ProcessProtocol()
        outcome = Outcome(protocol.d)
        protocol.d.cancel()
        protocol.outReceived(b"first")
        protocol.processEnded(Failure(ProcessDone(0)))
        self.assertEqual((outcome.fired, outcome.kind), (1, CancelledError))


class RunnerTests(SynchronousTestCase):
    """
    Running a call.
    """

    def test_result(self) -> None:
        """
        Has the status r, also when it is None, and whatever it is that is no iterator.
        """
        run = CallRunner()
        self.assertEqual(run((divmod, (7, 2), {})), (b"r", (3, 1)))
        self.assertEqual(run((int, ["ff"], {"base": 16})), (b"r", 255))
        self.assertEqual(run((dict, (), None)), (b"r", {}))
        results: tuple[Any, ...] = (None, [1], (1,), {1: 2}, {1}, frozenset(), "text", b"bytes", range(3), succeed(1))
        for result in results:
            status, value = run((lambda each: each, (result,), {}))
            self.assertEqual(status, b"r")
            self.assertIs(value, result)

    def test_iterator(self) -> None:
        """
        Has the status i, unless raw.
        """

        def generate() -> Iterator[int]:
            yield 1

        kinds: tuple[Any, ...] = (
            generate,
            lambda: map(abs, ()),
            lambda: zip((), strict=True),
            partial(open, os.devnull),
        )
        for kind in kinds:
            status, result = CallRunner()((kind, (), {}))
            self.assertEqual(status, b"i")
            if hasattr(result, "close"):
                result.close()
        self.assertEqual(CallRunner(raw=True)((iter, ([],), {}))[0], b"r")
        self.assertEqual(CallRunner(raw=True)((iter, ([],), {}), raw=False)[0], b"i")
        self.assertEqual(CallRunner()((iter, ([],), {}), raw=True)[0], b"r")
        # A generator function, and a class of iterators, are none.
        self.assertEqual(CallRunner()((lambda: generate, (), {}))[0], b"r")
        self.assertEqual(CallRunner()((lambda: zip, (), {}))[0], b"r")

    def test_error(self) -> None:
        """
        Has the status e; the text of the traceback turns into the exception again.
        """
        calls: list[tuple[Any, Any, type[BaseException]]] = [
            (divmod, (1, 0), ZeroDivisionError),
            (sys.exit, ("bye",), SystemExit),
            (Failure, (KeyError("it"),), KeyError),
        ]
        for func, args, kind in calls:
            status, text = CallRunner()((func, args, {}))
            self.assertEqual(status, b"e")
            self.assertIn(kind.__name__, text)
            error: Any = failureOf(text).value
            self.assertIsInstance(error.original, kind)

    def test_Z06_keywordsStay(self) -> None:
        """
        They are all the function's, and the call is not changed.
        """
        kw = {"raw": True, "x": 1}
        self.assertEqual(CallRunner()((dict, (), kw)), (b"r", {"raw": True, "x": 1}))
        self.assertEqual(kw, {"raw": True, "x": 1})

    def test_callTimes(self) -> None:
        """
        Are kept on request, of failing calls too, and not without bound.
        """
        run = CallRunner(callStats=True)
        run((int, (), {}))
        run((divmod, (1, 0), {}))
        self.assertEqual([type(each) for each in run.callTimes], [float, float])
        self.assertTrue(all(each >= 0 for each in run.callTimes))
        run.callTimes.extend(repeat(0.0, TIMES_LIMIT))
        run((int, (), {}))
        self.assertLessEqual(TIMES_LIMIT // 2, len(run.callTimes))
        self.assertLessEqual(len(run.callTimes), TIMES_LIMIT)
        plain = CallRunner()
        plain((int, (), {}))
        self.assertEqual(plain.callTimes, [])

    def test_refused(self) -> None:
        """
        What is no call, at the call.
        """
        wrong: Any
        for wrong in (int, (int,), (int, ()), ("int", (), {}), (int, 5, {}), (int, "5", {}), (int, (), 5), None):
            self.assertRaises(TypeError, CallRunner(), wrong)


class ReactorRunnerTests(LeakCheckMixin, TestCase):
    """
    Running a call in the reactor, from a thread.
    """

    timeout = TIMEOUT

    async def test_results(self) -> None:
        """
        Those of Deferreds and coroutines are waited for.
        """
        run = CallRunner(reactor=cast("IReactorFromThreads", reactor), callStats=True)

        async def coroutine(value: int) -> int:
            return value + 1

        def deferred(value: int) -> Deferred[Any]:
            d: Deferred[Any] = Deferred()
            reactor.callLater(0.01, d.callback, (value, threading.current_thread()))
            return d

        self.assertEqual(await deferToThread(run, (deferred, (1,), {})), (b"r", (1, threading.current_thread())))
        self.assertEqual(await deferToThread(run, (coroutine, (1,), {})), (b"r", 2))
        self.assertEqual((await deferToThread(run, (iter, ([],), {})))[0], b"i")
        status, text = await deferToThread(run, (divmod, (1, 0), {}))
        self.assertEqual(status, b"e")
        self.assertIn("ZeroDivisionError", text)
        self.assertEqual(len(run.callTimes), 4)

    def test_inTheReactor(self) -> None:
        """
        It would wait for itself, and says so.
        """
        with self.assertRaises(RuntimeError) as caught:
            CallRunner(reactor=cast("IReactorFromThreads", reactor))((divmod, (1, 0), {}))
        self.assertIn("divmod(1, 0)", str(caught.exception))
