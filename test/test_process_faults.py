"""
The crash matrix: whatever a call does to its child, it alone is affected, nobody waits for ever, and nothing is left.

The rows are those of FAULTS.md 5 that concern process workers. After each, L{ProcessTestCase} looks for what is left.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any

from attrs import field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue import ProcessQueue, ProcessWorker
from asynqueue.errors import (
    DecodeError,
    EncodeError,
    NotReadyError,
    PayloadTooLarge,
    PoisonTask,
    ProcessError,
    QueueClosed,
    QueueFull,
    QueueShutdown,
    RemoteError,
    ResultDecodeError,
    ResultEncodeError,
    TimeLimitExceeded,
    TimeoutError,
    WorkerError,
    WorkerLost,
    WorkerStartError,
)
from asynqueue.testing import faults
from asynqueue.testing.tasks import fail, identity
from test.processes import (
    GRACE,
    SOAK,
    WATCHDOG,
    FromACallback,
    ProcessTestCase,
    Program,
    childrenOf,
    isAlive,
    marked,
    reactor,
    stateOf,
    textOf,
)
from test.support import Consumer, Outcome


@frozen
class Row:
    """
    One row of the matrix.

    @ivar name: Its number, and what it is about.
    @ivar func: What is called.
    @ivar args: With what; a callable among them is called with the test, for the argument.
    @ivar value: What the call gets, unless there are C{errors}.
    @ivar errors: The classes that the error of the call is of.
    @ivar text: What its message says.
    @ivar options: Those of the call.
    @ivar isOnce: Whether the call may be run only once.
    @ivar reruns: How often calls are run again; C{None} if the child may go on with others until it is ended.
    @ivar keywords: Those of the queue.
    @ivar bound: Seconds until the call must be settled.
    @ivar dies: Whether the child is replaced: C{None} if that does not matter.
    """

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...] = ()
    value: Any = None
    errors: tuple[type[BaseException], ...] = ()
    text: str = ""
    options: dict[str, Any] = field(factory=dict)
    isOnce: bool = False
    reruns: int | None = 0
    keywords: dict[str, Any] = field(factory=dict)
    bound: float = 4.0
    dies: bool | None = True


def path(test: ProcessTestCase) -> str:
    """
    Make the path of a file that is not there, for an argument of a row.
    """
    return test.path()


def died(name: str, func: Callable[..., Any], *args: Any, text: str = "", **keywords: Any) -> Row:
    """
    Make a row of a call that is lost with its child, and is not to be run again.
    """
    return Row(name, func, args, errors=(WorkerLost,), text=text, isOnce=True, **{"bound": 2.0, **keywords})


def poison(name: str, func: Callable[..., Any], *args: Any) -> Row:
    """
    Make a row of a call that is lost with each child, until it is not run again.
    """
    return Row(name, func, args, errors=(PoisonTask,), text="attempt 3", reruns=2, bound=8.0)


def broken(name: str, func: Callable[..., Any], *args: Any, errors: Any, text: str = "", **keywords: Any) -> Row:
    """
    Make a row of a call that fails, with a child that goes on.
    """
    return Row(name, func, args, errors=errors, text=text, **{"dies": False, "bound": 1.0, **keywords})


_ERRORS = (ProcessError, WorkerError)

ROWS = [
    # A. Death and misbehaviour of a child
    died("F01_kill", faults.killMyself, text="SIGKILL"),
    Row("F01_killThenValue", faults.dieTimes, (path, 2, "alive"), value="alive", reruns=2),
    died("F02_segmentationFault", faults.killMyself, signal.SIGSEGV, text="SIGSEGV"),
    died("F02_abort", faults.killMyself, signal.SIGABRT, text="SIGABRT"),
    died("F02_busError", faults.killMyself, signal.SIGBUS, text="SIGBUS"),
    died("F02_illegalInstruction", faults.killMyself, signal.SIGILL, text="SIGILL"),
    died("F02_terminate", faults.killMyself, signal.SIGTERM, text="SIGTERM"),
    died("F02_stackOverflow", faults.overflowStack, text="SIG"),
    died("F03_exit", faults.exitAtOnce, 0, text="exited with code 0"),
    died("F03_exitWithCode", faults.exitAtOnce, 7, text="exited with code 7"),
    died("F03_exitThroughC", faults.exitThroughC, 0, text="exited with code 0"),
    broken("F04_systemExit", fail, SystemExit, 3, errors=(RemoteError,), text="SystemExit"),
    broken("F04_keyboardInterrupt", fail, KeyboardInterrupt, errors=(RemoteError,), text="KeyboardInterrupt"),
    broken("F04_generatorExit", fail, GeneratorExit, errors=(RemoteError,), text="GeneratorExit"),
    broken("F04_stopIteration", fail, StopIteration, 5, errors=(RemoteError,), text="StopIteration"),
    Row("F05_memoryError", faults.exhaustMemory, errors=(WorkerError,), text="MemoryError", dies=True),
    died("F09_deathBeforeReply", faults.makeTrap, "kill", text="SIGKILL"),
    poison("F09_deathBeforeReplyAgain", faults.makeTrap, "kill"),
    Row("F12_tornFrame", faults.dieTimes, (path, 1, "whole", "half"), value="whole", reruns=1),
    died("F12_tornFrameOnce", faults.writeHalf, text="SIGKILL"),
    Row("F13_deathAfterReply", faults.dieAfterReply, value="returned", dies=None, bound=1.5),
    poison("F16_poison", faults.killMyself),
    Row(
        "F17_ignoresEverything",
        faults.ignoreInterrupts,
        (20.0,),
        errors=(TimeLimitExceeded, WorkerError),
        options={"timeLimit": 0.3},
        bound=2.8,
    ),
    Row("F17_blockedInC", faults.blockInC, (20.0,), errors=(TimeLimitExceeded,), options={"timeLimit": 0.3}, bound=2.8),
    Row(
        "F17_blockedInCTimeout",
        faults.blockInC,
        (20.0,),
        errors=(TimeoutError,),
        options={"timeout": 0.3},
        isOnce=True,
        bound=2.8,
    ),
    Row("F19_garbage", faults.printGarbage, (10 << 20,), value=10 << 20, dies=False),
    Row("F19_garbageOnStderr", faults.printGarbage, (10 << 20, True, 2), value=10 << 20, dies=False),
    Row("F19_manyLines", faults.printGarbage, (2 << 20, False, 1, 64), value=2 << 20, dies=False),
    died("F20_garbageOnThePipe", faults.writeToDescriptor, 4, b"\xff" * 64, text="broke the protocol", reruns=None),
    died(
        "F20_textOnThePipe",
        faults.writeToDescriptor,
        4,
        b"Hello, this is a debugging message!\n",
        text="protocol",
        reruns=None,
    ),
    died("F20_zeros", faults.writeToDescriptor, 4, bytes(14), text="protocol", reruns=None),
    died(
        "F20_halfARecord",
        faults.writeToDescriptor,
        4,
        b"\x22\x00" + (1).to_bytes(8, "little") + (65536).to_bytes(4, "little") + b"begun",
        text="protocol",
        reruns=None,
        bound=3.0,
    ),
    died(
        "F20_unknownRecord",
        faults.writeToDescriptor,
        4,
        b"\x7f\x00" + (1).to_bytes(8, "little") + (4).to_bytes(4, "little") + b"what",
        text="protocol",
        reruns=None,
    ),
    died("F21_closed", faults.closeDescriptor, 4, reruns=None),
    died("F21_replaced", faults.replaceDescriptor, 4, reruns=None),
    Row("F21_dataClosed", faults.closeDescriptor, (3,), value="closed", dies=None, reruns=None),
    Row("F21_dataReplaced", faults.replaceDescriptor, (3,), value="replaced", dies=None, reruns=None),
    died("F22_grandchildHoldsPipes", faults.leaveGrandchild, 30.0, "kill", text="SIGKILL"),
    died("F22_grandchildHoldsPipesExit", faults.leaveGrandchild, 30.0, "exit", text="exited with code 0"),
    # B. Serialization and shape of results
    broken("F30_lambda", lambda: 1, errors=(EncodeError,), text="the callable", bound=0.5),
    broken("F30_local", faults.makeFunction(), errors=(EncodeError,), text="cloudpickle", bound=0.5),
    broken("F31_raises", len, faults.Trap("raise"), errors=(EncodeError,), text="args[0]", bound=0.5),
    broken("F31_exits", len, faults.Trap("leave"), errors=(EncodeError,), text="args[0]", bound=0.5),
    broken("F31_recurses", len, faults.Trap("recurse"), errors=(EncodeError,), text="args[0]", bound=0.5),
    broken("F31_hostile", len, faults.Trap("hostile"), errors=(EncodeError,), text="args[0]", bound=0.5),
    broken("F32_raises", len, faults.Trap("", "raise"), errors=(DecodeError,), text="as planned"),
    broken("F32_exits", len, faults.Trap("", "leave"), errors=(DecodeError,), text="SystemExit"),
    broken("F32_recurses", len, faults.Trap("", "recurse"), errors=(DecodeError,), text="RecursionError"),
    broken("F32_hostile", len, faults.Trap("", "hostile"), errors=(DecodeError,), text="HostileError"),
    died("F33_deathOnDecode", len, faults.Trap("", "kill"), text="SIGKILL"),
    died("F33_exitOnDecode", len, faults.Trap("", "exit"), text="exited with code 0"),
    poison("F33_poison", len, faults.Trap("", "kill")),
    broken("F34_lock", faults.makeLock, errors=(ResultEncodeError,), text="lock"),
    broken("F34_function", faults.makeFunction, errors=(ResultEncodeError,), text="within"),
    broken("F34_raises", faults.makeTrap, "raise", errors=(ResultEncodeError,), text="as planned"),
    broken("F34_exits", faults.makeTrap, "leave", errors=(ResultEncodeError,), text="SystemExit"),
    broken("F34_recurses", faults.makeTrap, "recurse", errors=(ResultEncodeError,), text="RecursionError"),
    broken("F34_tooDeep", faults.makeNested, 100_000, errors=(ResultEncodeError,), text="RecursionError"),
    died("F35_deathOnEncode", faults.makeTrap, "kill", text="SIGKILL"),
    died("F35_exitOnEncode", faults.makeTrap, "exit", text="exited with code 0"),
    poison("F35_poison", faults.makeTrap, "exit"),
    broken("F36_raises", faults.makeTrap, "", "raise", errors=(ResultDecodeError,), text="as planned"),
    broken("F36_exits", faults.makeTrap, "", "leave", errors=(ResultDecodeError,), text="SystemExit"),
    broken("F36_recurses", faults.makeTrap, "", "recurse", errors=(ResultDecodeError,), text="RecursionError"),
    broken("F36_hostile", faults.makeTrap, "", "hostile", errors=(ResultDecodeError,), text="HostileError"),
    broken("F37_locked", faults.raiseLocked, "held", errors=(WorkerError,), text="held"),
    broken("F37_needy", faults.raiseNeedy, errors=(faults.NeedyError, *_ERRORS), text="1, 2 and 3"),
    broken("F37_unknown", faults.raiseUnknown, errors=(RemoteError,), text="known here only"),
    broken("F37_impostor", faults.raiseImpostor, errors=(RemoteError,), text="not what it seems"),
    broken("F37_trapRaises", faults.raiseTrap, "", "raise", errors=(RemoteError,), text="TrapError"),
    broken("F37_trapExits", faults.raiseTrap, "", "leave", errors=(RemoteError,), text="TrapError"),
    broken("F37_trapHostile", faults.raiseTrap, "", "hostile", errors=(RemoteError,), text="TrapError"),
    broken("F37_trapInChild", faults.raiseTrap, "raise", errors=(RemoteError,), text="TrapError"),
    broken("F37_group", faults.raiseGroup, errors=(ExceptionGroup, *_ERRORS), text="a group"),
    *[
        broken(f"F38_{how.replace(' ', '_')}", faults.raiseHostile, how, errors=(WorkerError,), text="HostileError")
        for how in faults.HOSTILE_TEXTS
    ],
    broken("F39_chain", faults.raiseChain, 10_000, errors=(ValueError, *_ERRORS), text="link 0"),
    broken("F39_cycle", faults.raiseChain, 5, True, errors=(ValueError, *_ERRORS), text="link 0"),
    broken("F39_locals", faults.raiseWithLocals, errors=(ValueError, *_ERRORS), text="bytes at hand"),
    broken(
        "F40_resultTooLarge",
        faults.makeBytes,
        300_000,
        errors=(ResultEncodeError,),
        text="limit",
        keywords={"limit": 200_000},
    ),
    broken(
        "F41_callTooLarge", len, bytes(300_000), errors=(PayloadTooLarge,), text="limit", keywords={"limit": 200_000}
    ),
    broken("F43_coroutine", faults.makeCoroutine, errors=(ResultEncodeError,), text="coroutine"),
    broken("F43_deferred", succeed, 3, errors=(ResultEncodeError,), text="useReactor=True"),
    broken("F43_contextManager", faults.makeContext, errors=(ResultEncodeError,), text="generator"),
    broken("F43_asyncGenerator", faults.makeAsyncGenerator, errors=(ResultEncodeError,), text="async"),
    broken(
        "F43_rawGenerator", faults.itemsThen, 3, errors=(ResultEncodeError,), options={"raw": True}, text="generator"
    ),
]


class MatrixTests(ProcessTestCase):
    """
    The rows that are alike: a call between others, of which none may suffer.
    """

    async def strike(self, row: Row, isInside: bool) -> None:
        """
        Let a fault happen.

        @param isInside: In a call from within the callback of another.
        """
        queue = self.makeQueue(**row.keywords)
        await self.within(5.0, queue.d, "a child")
        pid = self.pidOf(queue)
        args = tuple(each(self) if each is path else each for each in row.args)
        options = {**row.options, **({"idempotent": False} if row.isOnce else {})}
        before = [queue.call(identity, number) for number in range(5)]
        if isInside:
            victim = queue.call(identity, "first").addCallback(lambda _: queue.options(**options).call(row.func, *args))
        else:
            victim = queue.options(**options).call(row.func, *args)
        after = [queue.call(identity, number) for number in range(5, 10)]
        outcome = await self.outcomeOf(victim, row.bound, f"the outcome of {row.name}, in time")
        if row.errors:
            self.assertIsNotNone(outcome.failure, f"no error, but {outcome.value!r:.200}")
            for kind in row.errors:
                self.assertIsInstance(outcome.error, kind)
            text = str(outcome.error)
            self.assertTrue(row.text in text, f"{row.text!r} is not in {text[:300]!r} … {text[-300:]!r}")
            self.assertLessEqual(len(text), 70_000)
            self.assertTrue(text.replace("\n", "").isprintable(), f"it is not fit for a log: {text[:300]!r}")
        elif outcome.failure is not None:
            self.fail(f"an error: {outcome.error!r:.1000}")
        else:
            self.assertEqual(outcome.value, row.value)
        self.assertEqual(await self.allOf([*before, *after], 4.0), list(range(10)))
        probe = queue.call(identity, "probe")
        self.assertEqual(await self.within(2.0, probe, "a probe call"), "probe")
        if row.dies is not None:
            self.assertEqual(self.pidOf(queue) != pid, row.dies, "the child was replaced, or it was not")
        await self.shutDownProperly(queue)
        # The accounts: each of the calls is settled once, and each execution beyond the first has its loss.
        self.assertEqual(outcome.fired, 1)
        self.assertEqual(queue.statistics().succeeded, (11 if row.errors else 12) + isInside)
        if row.reruns is not None:
            self.assertEqual(queue.statistics().reruns, row.reruns)
        self.assertEqual(self.flushWarnings(), [])


def _testOf(row: Row, isInside: bool) -> Callable[[MatrixTests], Deferred[None]]:
    def test(self: MatrixTests) -> Deferred[None]:
        return Deferred.fromCoroutine(self.strike(row, isInside))

    where = "fromACallback" if isInside else "direct"
    test.__name__ = f"test_{row.name}_{where}"
    test.__doc__ = f"{row.name}, {where}."
    return test


class ShapeTests(ProcessTestCase):
    """
    What travels, beside the rows.
    """

    async def test_F30_sameTick(self) -> None:
        """
        F30, F31, F41: a call of an idle worker that cannot be sent fails at once, and the child is not touched.
        """
        queue = self.makeQueue(limit=200_000)
        pid = await self.within(5.0, queue.call(os.getpid))
        for func, args, kind in (
            (lambda: 1, (), EncodeError),
            (len, (faults.Trap("raise"),), EncodeError),
            (len, (faults.Trap("leave"),), EncodeError),
            (len, (faults.Trap("recurse"),), EncodeError),
            (len, (bytes(300_000),), PayloadTooLarge),
        ):
            self.failureResultOf(queue.call(func, *args), kind)
        self.assertEqual(await self.within(1.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_F37_impostor(self) -> None:
        """
        F37: what an error's class seems to be, and is none, is not called.
        """
        queue = self.makeQueue()
        note = self.path()
        os.environ["ASYNQUEUE_IMPOSTOR"] = note
        self.addCleanup(os.environ.pop, "ASYNQUEUE_IMPOSTOR", None)
        faults.impostor()
        self.assertEqual(faults.runsIn(note), ".")
        await self.errorOf(queue.call(faults.raiseImpostor), RemoteError)
        self.assertEqual(faults.runsIn(note), ".")
        await self.shutDownProperly(queue)

    async def test_F39_links(self) -> None:
        """
        F39: of a chain of causes, 20 links travel at most, however long it is; a cycle does not travel as one.
        """
        queue = self.makeQueue()
        for isCyclic in (False, True):
            error = await self.errorOf(queue.call(faults.raiseChain, 50, isCyclic), ValueError)
            links = []
            while error is not None:
                links.append(error)
                self.assertLessEqual(len(links), 21)
                error = error.__cause__
            self.assertGreater(len(links), 1)
        await self.shutDownProperly(queue)

    async def test_F40_memory(self) -> None:
        """
        F40: a result over the limit is refused in the child: it does not cost this process its size.
        """
        queue = self.makeQueue(limit=1 << 20)
        await self.errorOf(queue.call(faults.makeBytes, 2 << 20), ResultEncodeError)
        resetPeak()
        before = residentMemory()
        error = await self.errorOf(queue.call(faults.makeBytes, 200 << 20), ResultEncodeError, limit=2.0)
        self.assertIn(str(1 << 20), str(error))
        self.assertLess(peakMemory() - before, 4 << 20)
        await self.shutDownProperly(queue)

    async def test_F42_anyValues(self) -> None:
        """
        F42: whatever can be pickled arrives as it was, of the same type.
        """
        values: list[Any] = []

        @settings(max_examples=300, database=None, derandomize=True, deadline=None)
        @given(_VALUES)
        def collect(value: Any) -> None:
            values.append(value)

        collect()
        queue = self.makeQueue(2)
        results = await self.allOf([queue.call(identity, value) for value in values], 10.0)
        self.assertGreater(len(results), 200)
        for value, result in zip(values, results, strict=True):
            # What it looks like tells all: 0.0 from -0.0 and from 0, and one NaN is like another.
            self.assertEqual((type(result), repr(result)), (type(value), repr(value)))
        await self.shutDownProperly(queue)

    async def test_F44_argumentsAreTakenWhenTheCallIsGivenAway(self) -> None:
        """
        F44: what the caller does to arguments afterwards does not reach a call that its child has.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        first = [1]
        one = queue.call(identity, first)
        first.append(2)
        self.assertEqual(await self.within(2.0, one), [1])
        self.assertEqual(first, [1, 2])
        await self.shutDownProperly(queue)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()

_VALUES = st.recursive(
    _PLAIN | st.dates() | st.datetimes() | st.timedeltas() | st.decimals() | st.fractions() | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def resetPeak() -> None:
    """
    Forget what this process's largest resident memory was.
    """
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peakMemory() -> int:
    """
    Return what the largest resident memory of this process was, in bytes.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


for _row in ROWS:
    for _isInside in (False, True):
        _test = _testOf(_row, _isInside)
        setattr(MatrixTests, _test.__name__, _test)


class DeathTests(ProcessTestCase):
    """
    Deaths that are not alike.
    """

    async def test_F07_allAtOnce(self) -> None:
        """
        F07: all children are killed at once; each call in flight is run again, and the others are not affected.
        """
        events = self.watchLog()
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        paths = [self.path(), self.path()]
        running = [self.begin(queue, partial(queue.call, faults.noteAndSleep, each, 0.3, each)) for each in paths]
        waiting = [queue.call(identity, number) for number in range(50)]
        await self.until(lambda: all(faults.runsIn(each) for each in paths), "both calls run")
        for worker in queue.workers():
            os.kill(worker.pid, signal.SIGKILL)
        self.assertEqual(await self.allOf(running, 3.5), paths)
        self.assertEqual(await self.allOf(waiting, 3.0), list(range(50)))
        self.assertEqual([faults.runsIn(each) for each in paths], ["..", ".."])
        self.assertEqual(textOf(events).count("was ended by signal 9"), 2)
        await self.shutDownProperly(queue)

    async def kill(self, number: int) -> None:
        """
        Let each of a number of children kill the next one, the last one the first, and one alone itself.
        """
        events = self.watchLog()
        queue = self.makeQueue(number)
        await self.within(10.0, queue.d)
        pids = [worker.pid for worker in queue.workers()]
        notes = [self.path() for _ in pids]
        calls = [
            self.begin(queue, partial(queue.call, faults.killOnce, note, pid, 0.1, note))
            for note, pid in zip(notes, [*pids[1:], pids[0]], strict=True)
        ]
        others = [queue.call(identity, each) for each in range(50)]
        outcomes = [Outcome(each) for each in calls]
        await self.until(lambda: all(each.fired for each in outcomes), "all are settled", 2.0 + 0.2 * number)
        for outcome, note in zip(outcomes, notes, strict=True):
            if outcome.failure is None:
                self.assertEqual(outcome.value, note)
            else:
                # It has been in three children, each of which was killed.
                self.assertGreaterEqual(number, 3)
                self.assertIsInstance(outcome.error, PoisonTask)
                self.assertEqual(len(outcome.error.history), 3)
        self.assertEqual(await self.allOf(others, 2.0), list(range(50)))
        runs = sum(len(faults.runsIn(note)) for note in notes)
        deaths = textOf(events).count("was ended by signal 9")
        self.assertTrue(0 < deaths <= number, f"{deaths} deaths")
        self.assertLessEqual(runs - number, deaths, "each execution beyond the first is explained by a death")
        await self.until(lambda: all(worker.pid for worker in queue.workers()), "there are as many children", 3.0)
        self.assertFalse(any(map(isAlive, set(pids) - {worker.pid for worker in queue.workers()})))
        await self.shutDownProperly(queue)

    async def test_F08_killsItself(self) -> None:
        """
        F08: a child kills itself, as the only one there is.
        """
        await self.kill(1)

    async def test_F08_killsNeighbour(self) -> None:
        """
        F08: each of two children kills the other, which counts as the other's loss.
        """
        await self.kill(2)

    async def test_F08_kill5(self) -> None:
        """
        F08: so do five.
        """
        await self.kill(5)

    async def test_F08_kill13(self) -> None:
        """
        F08: so do thirteen.
        """
        await self.kill(13)

    async def test_F09_workIsDoneTwice(self) -> None:
        """
        F09: a child dies when the work is done, and before it has replied: it is done again, which is counted.
        """
        queue = self.makeQueue()
        note = self.path()
        d = self.begin(queue, lambda: queue.call(faults.replyOnceDead, note, "kill"))
        self.assertIsInstance(await self.within(3.0, d), faults.Trap)
        self.assertEqual(faults.runsIn(note), "..")
        self.assertEqual(queue.statistics().reruns, 1)
        await self.shutDownProperly(queue)

    async def test_F10_idle(self) -> None:
        """
        F10: a child dies while it is idle, and the next call has its value.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        pid = self.pidOf(queue)

        def strike() -> Deferred[Any]:
            os.kill(pid, signal.SIGKILL)
            return queue.call(identity, "next")

        self.assertEqual(await self.within(2.0, self.begin(queue, strike)), "next")
        self.assertNotEqual(self.pidOf(queue), pid)
        await deferLater(reactor, 0.05)
        self.assertFalse(isAlive(pid))
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_F10_replacedAhead(self) -> None:
        """
        F10: the successor is there soon, without a call that asks for it.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        pid = self.pidOf(queue)
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: queue.workers()[0].pid not in (None, pid), "there is another child", 1.5)
        await self.shutDownProperly(queue)

    async def test_F11_whileWriting(self) -> None:
        """
        F11: a child dies while a large call is being written to it, which it has not begun; the reactor is not blocked.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        gaps = Gaps()
        try:
            data = bytes(16 << 20)
            pid = self.pidOf(queue)
            # A reactor that is blocked by the write is let go on, so that the test fails soon.
            rescue = threading.Timer(1.5, os.kill, (pid, signal.SIGKILL))

            def strike() -> Deferred[Any]:
                os.kill(pid, signal.SIGSTOP)
                rescue.start()
                return queue.options(idempotent=False).call(len, data)

            d = self.begin(queue, strike)
            await self.until(lambda: stateOf(pid) == "T", "the child is stopped")
            await deferLater(reactor, 0.05)
            rescue.cancel()
            if isAlive(pid):
                os.kill(pid, signal.SIGKILL)
            self.assertEqual(await self.within(2.0, d), 16 << 20)
        finally:
            worst = gaps.end()
        self.assertLess(worst, 0.25)
        await self.shutDownProperly(queue)

    async def test_F13_deathAfterReplyIsNobodysFault(self) -> None:
        """
        F13: a child dies after it has replied; calls that it had not begun are not charged with it.
        """
        queue = self.makeQueue()
        for _ in range(3):
            d = self.begin(queue, partial(queue.call, faults.dieAfterReply, 0.03))
            self.assertEqual(await self.within(2.0, d), "returned")
            self.assertEqual(await self.within(4.0, queue.call(identity, "next")), "next")
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_F13_whatIsDoneIsDone(self) -> None:
        """
        F13: results that have come before their child's death count, though there has been no time to tell of them.
        """
        queue = self.makeQueue()
        # So that the window is open.
        await self.allOf([queue.call(identity, number) for number in range(2000)], 5.0)
        once = queue.options(idempotent=False)

        def dawdle(value: int) -> int:
            time.sleep(0.02)
            return value

        # What is done with the first results takes longer than the others and the death together.
        calls = [once.call(identity, number).addCallback(dawdle) for number in range(30)]
        pill = once.call(faults.killMyself)
        self.assertEqual(await self.allOf(calls, 4.0), list(range(30)))
        await self.errorOf(pill, WorkerLost)
        await self.shutDownProperly(queue)

    async def test_F14_bootFails(self) -> None:
        """
        F14: children that end before they are ready: who waits is told so, with what they have written to stderr.
        """
        queue = self.makeQueue(onStart=faults.complainAndExit, onStartArgs=["no licence", 3])
        began = time.monotonic()
        d = self.beginUnserved(queue, partial(queue.call, identity, 1))
        error = await self.errorOf(d, WorkerStartError)
        self.assertLess(time.monotonic() - began, 10.0)
        self.assertIn("no licence", str(error))
        self.assertIn("code 3", str(error))
        await self.errorOf(queue.call(identity, 1), WorkerStartError, limit=1.0)
        await self.shutDownProperly(queue)

    async def test_F14_attachWorkerTells(self) -> None:
        """
        F14: so does attachWorker.
        """
        queue = self.makeQueue()
        worker = self.makeWorker(onStart=faults.complainAndExit, onStartArgs=["no licence", 3])
        error = await self.errorOf(self.begin(queue, partial(queue.attachWorker, worker)), WorkerStartError)
        self.assertIn("no licence", str(error))
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)

    async def test_F14_onStartRaises(self) -> None:
        """
        F14: an exception of the initializer is told.
        """
        queue = self.makeQueue(onStart=fail, onStartArgs=[ValueError, "no table of primes"])
        d = self.beginUnserved(queue, partial(queue.call, identity, 1))
        self.assertIn("no table of primes", str(await self.errorOf(d, WorkerStartError)))

    async def test_F14_bootFailsForAWhile(self) -> None:
        """
        F14: a worker whose children could not be started takes calls as soon as one can.
        """
        note = self.path()
        queue = self.makeQueue(onStart=faults.dieTimes, onStartArgs=[note, 4, None, "exit"])
        await self.errorOf(self.beginUnserved(queue, partial(queue.call, identity, 1)), WorkerStartError)
        await self.until(lambda: queue.workers()[0].pid, "a child has started", 10.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F14_fewSpawns(self) -> None:
        """
        F14: there are few attempts at starting children that all fail.
        """
        note = self.path()
        queue = self.makeQueue(onStart=faults.dieTimes, onStartArgs=[note, 1000, None, "exit"])
        await self.errorOf(queue.call(identity, 1), WorkerStartError)
        await deferLater(reactor, 3.0)
        self.assertLess(len(faults.runsIn(note)), 8)

    async def test_F16_poisonAmongOthers(self) -> None:
        """
        F16: a poison pill among 1,000 good calls gets its PoisonTask, and they get their values. Three children die.
        """
        events = self.watchLog()
        good = 1000
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        before = [queue.call(identity, number) for number in range(good // 2)]
        pill = self.begin(queue, partial(queue.call, faults.killMyself))
        after = [queue.call(identity, number) for number in range(good // 2, good)]
        error = await self.errorOf(pill, PoisonTask, limit=8.0)
        self.assertEqual(len(error.history), 3)
        self.assertEqual(await self.allOf([*before, *after], 8.0), list(range(good)))
        # Innocent calls may have been begun in a child that was killed, but were not.
        self.assertEqual(queue.statistics().reruns, 2)
        self.assertEqual(textOf(events).count("was ended by signal 9"), 3)
        await self.shutDownProperly(queue)

    async def test_F16_lastTimeAlone(self) -> None:
        """
        F16: the last time, the pill has a child of its own.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        note, others = self.path(), [self.path() for _ in range(3)]
        pill = self.begin(queue, partial(queue.call, faults.dieTimes, note, 3))
        good = [queue.call(faults.noteAndSleep, each, 0.0, each) for each in others]
        await self.errorOf(pill, PoisonTask, limit=8.0)
        self.assertEqual(await self.allOf(good, 4.0), others)
        self.assertEqual([faults.runsIn(each) for each in others], ["."] * 3)
        await self.shutDownProperly(queue)

    async def test_F18_stopped(self) -> None:
        """
        F18: children that have been stopped, by themselves or while idle, are replaced.
        """
        busy, idle = self.makeQueue(), self.makeQueue()
        await self.within(5.0, gatherResults([busy.d, idle.d]))

        def strike() -> Deferred[Any]:
            os.kill(self.pidOf(idle), signal.SIGSTOP)
            return gatherResults(
                [
                    Deferred.fromCoroutine(
                        self.errorOf(busy.options(idempotent=False).call(faults.stopMyself), WorkerLost)
                    ),
                    idle.call(identity, "woken"),
                ]
            )

        error, value = await self.within(8.0, self.begin(idle, strike))
        self.assertIn("stopped", str(error))
        self.assertEqual(value, "woken")
        for queue in (busy, idle):
            self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
            await self.shutDownProperly(queue)

    async def test_F19_linesAreBounded(self) -> None:
        """
        F19: garbage is logged in lines of bounded length, escaped, at a bounded rate, and what is left out is counted.
        """
        events = self.watchLog()
        queue = self.makeQueue()
        await self.within(5.0, queue.call(faults.printGarbage, 10 << 20))
        await self.within(5.0, queue.call(identity, 1))
        pid = self.pidOf(queue)
        await self.shutDownProperly(queue)
        lines = [event["line"] for event in events if "line" in event]
        self.assertTrue(lines)
        self.assertLessEqual(max(map(len, lines)), 8192 + 100)
        self.assertTrue(all(line.isprintable() for line in lines))
        text = textOf(events)
        self.assertLess(len(text), 8 << 20)
        self.assertIn("bytes more than are logged", text)
        self.assertIn(str(pid), text)
        self.assertIn("printGarbage", text)

    async def test_F22_grandchildOfOneThatGoesOn(self) -> None:
        """
        F22: a grandchild is ended with the session of its child.
        """
        queue = self.makeQueue()
        pid = await self.within(4.0, self.begin(queue, partial(queue.call, faults.leaveGrandchild, 30.0)))
        self.assertTrue(isAlive(pid))
        await self.shutDownProperly(queue)
        await self.until(lambda: not isAlive(pid), "the grandchild is gone", 2.0)

    async def test_F23_daemon(self) -> None:
        """
        F23: a daemon that has left the session holds nothing of ours.
        """
        queue = self.makeQueue()
        pid = await self.within(4.0, self.begin(queue, partial(queue.call, faults.leaveDaemon, 1.5)))

        def holdsNoPipe() -> bool:
            try:
                held = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            except OSError:
                # It is closing some just now.
                return False
            return not any(each.startswith("pipe:") for each in held)

        # It tells its ID before it closes what it has from us.
        await self.until(holdsNoPipe, "it holds no pipe", 1.2)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)
        await self.until(lambda: not isAlive(pid), "the daemon has ended by itself", 3.0)

    async def test_F24_surroundings(self) -> None:
        """
        F24: what a call changes of its process is reset before the next one, or the child is replaced.
        """
        queue = self.makeQueue()
        before = await self.within(4.0, queue.call(faults.surroundings))
        folder = self.path()
        os.mkdir(folder)
        d = self.begin(queue, partial(queue.call, faults.changeSurroundings, folder))
        self.assertEqual(await self.within(2.0, d), folder)
        after = await self.within(2.0, queue.call(faults.surroundings))
        self.assertEqual((after["cwd"], after["SIGINT"]), (before["cwd"], before["SIGINT"]))
        await self.shutDownProperly(queue)

    async def test_F24_directoryOfACallThatReturnsNothing(self) -> None:
        """
        F24: so it is after a call that returns None, one that fails, and one that returns an iterator.
        """
        queue = self.makeQueue()
        before = await self.within(4.0, queue.call(os.getcwd))
        self.assertIsNone(await self.within(2.0, self.begin(queue, partial(queue.call, os.chdir, "/"))))
        self.assertEqual(await self.within(2.0, queue.call(os.getcwd)), before)
        await self.errorOf(self.begin(queue, partial(queue.call, faults.changeAndRaise, "/")), faults.PlannedError)
        self.assertEqual(await self.within(2.0, queue.call(os.getcwd)), before)

    async def test_F24_interruptsStillWork(self) -> None:
        """
        F24: a call that has taken our signal away can still be ended, and so can the next one.
        """
        queue = self.makeQueue()
        folder = self.path()
        os.mkdir(folder)
        await self.within(4.0, queue.call(faults.changeSurroundings, folder))
        note = self.path()
        d = self.begin(queue, partial(queue.call, faults.noteAndSleep, note, 30.0))
        await self.until(lambda: faults.runsIn(note), "it runs")
        pid = self.pidOf(queue)
        d.cancel()
        await self.errorOf(d, CancelledError, limit=1.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        self.assertEqual(self.pidOf(queue), pid)

    async def test_F25_maxTasks(self) -> None:
        """
        F25: with C{maxTasks} and a backlog of 10,000, no child runs more calls, and none is lost. There is no stall: a
        successor is ready ahead of its time.
        """
        queue = self.makeQueue(maxTasks=1000)
        await self.within(5.0, queue.d)
        times: list[float] = []

        def noteTime(pid: int) -> int:
            times.append(time.monotonic())
            return pid

        calls = [queue.call(os.getpid).addCallback(noteTime) for _ in range(5_000)]
        rest = self.begin(queue, lambda: gatherResults([queue.call(os.getpid) for _ in range(5_000)]))
        pids = await self.allOf(calls, 20.0)
        pids += await self.within(20.0, rest)
        counts = [pids.count(each) for each in dict.fromkeys(pids)]
        self.assertLessEqual(max(counts), 1000)
        self.assertGreaterEqual(min(counts[:-1]), 799, "one has left before its successor was to be started")
        self.assertEqual(sum(counts), 10_000)
        self.assertLess(max(later - earlier for earlier, later in pairwise(times)), 1.5)
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_F25_exactly(self) -> None:
        """
        F25: each child runs exactly so many calls, also if they take long.
        """
        queue = self.makeQueue(maxTasks=5)
        await self.within(5.0, queue.d)
        d = self.begin(queue, lambda: gatherResults([queue.call(faults.pidAfter, 0.05) for _ in range(30)]))
        pids = await self.within(10.0, d)
        counts = [pids.count(each) for each in dict.fromkeys(pids)]
        # The call whose callback makes the others is one, too.
        self.assertIn(counts.pop(0), (4, 5))
        counts.pop()
        self.assertEqual(set(counts), {5})
        await self.shutDownProperly(queue)

    async def test_F26_maxMemory(self) -> None:
        """
        F26: a child that has grown too large is replaced between calls.
        """
        queue = self.makeQueue(maxMemory=150_000)
        pid = await self.within(4.0, self.begin(queue, partial(queue.call, faults.keepMemory, 200 << 20)))
        await self.until(lambda: queue.workers()[0].pid not in (None, pid), "there is another child", 1.5)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)


class DeathTestsFromACallback(FromACallback, DeathTests):
    """
    The same, from within callbacks.
    """


@implementer(IConsumer)
class Taker(Consumer):
    """
    Takes items, and stops or pauses its producer at some point.
    """

    def __init__(self, stopAt: int | None = None, pauseAt: int | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self.stopAt = stopAt
        self.pauseAt = pauseAt
        self.error = error

    def write(self, data: Any) -> None:
        """
        Take an item.
        """
        super().write(data)
        if self.error is not None:
            raise self.error
        if len(self.written) == self.stopAt:
            self.producer.stopProducing()
        if len(self.written) == self.pauseAt:
            self.producer.pauseProducing()


class StreamTests(ProcessTestCase):
    """
    Iterators whose generators, children or readers fail.
    """

    async def read(self, deferator: Any, most: int | None = None) -> list[Any]:
        """
        Read some items.
        """
        items = []
        async for item in deferator:
            items.append(item)
            if len(items) == most:
                break
        return items

    async def readError(self, deferator: Any, *kinds: type[BaseException]) -> tuple[list[Any], Any]:
        """
        Read up to an error.
        """
        items: list[Any] = []

        async def readOn() -> None:
            async for item in deferator:
                items.append(item)  # noqa: PERF401  (they are there when an error comes)

        return items, await self.errorOf(Deferred.fromCoroutine(readOn()), *kinds)

    async def test_F50_raises(self) -> None:
        """
        F50: a generator raises an exception, which arrives after the items before it.
        """
        queue = self.makeQueue()
        for number in (1, 2, 40, 3000):
            d = self.begin(queue, partial(queue.call, faults.itemsThen, number, "raise"))
            deferator = await self.within(4.0, d)
            items, _ = await self.readError(deferator, faults.PlannedError, ProcessError)
            self.assertEqual(items, list(range(number)))
        await self.errorOf(queue.call(faults.itemsThen, 0, "raise"), faults.PlannedError, ProcessError)
        d = self.begin(queue, partial(queue.call, faults.itemsThen, 2, "leave"))
        items, _ = await self.readError(await self.within(4.0, d), RemoteError)
        self.assertEqual(items, [0, 1])
        await self.shutDownProperly(queue)

    async def test_F51_diesAtTheBeginning(self) -> None:
        """
        F51: a child dies before the first item; the call is run again.
        """
        queue = self.makeQueue()
        note = self.path()
        d = self.begin(queue, partial(queue.call, faults.itemsAfterDeaths, note, 2, 5))
        deferator = await self.within(4.0, d)
        self.assertEqual(await self.read(deferator), list(range(5)))
        self.assertEqual(faults.runsIn(note), "...")
        await self.errorOf(queue.call(faults.itemsThen, 0, "kill"), PoisonTask, limit=6.0)
        await self.shutDownProperly(queue)

    async def test_F51_diesLater(self) -> None:
        """
        F51: a child dies when there have been items; the reader is told, and the call is not run again.
        """
        queue = self.makeQueue()
        for number, act in ((1, "kill"), (5, "exit"), (2000, "kill")):
            note = self.path()
            pause = 0.02 if number < 9 else 0.0
            d = self.begin(queue, partial(queue.call, faults.itemsThen, number, act, note, pause))
            deferator = await self.within(4.0, d)
            items, error = await self.readError(deferator, WorkerLost)
            self.assertEqual(items, list(range(len(items))))
            self.assertIn(f"after {len(items)} items", str(error))
            self.assertEqual(faults.runsIn(note), "y" * number)
        self.assertEqual(queue.statistics().reruns, 0)
        self.assertEqual(await self.within(4.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F52_stopProducing(self) -> None:
        """
        F52: a consumer stops its producer; the generator's finally is run.
        """
        queue = self.makeQueue()
        note = self.path()
        consumer = Taker(stopAt=3)
        d = self.begin(queue, partial(queue.call, faults.endless, note, consumer=consumer))
        await self.errorOf(d, CancelledError)
        self.assertEqual(consumer.written, [0, 1, 2])
        await self.until(lambda: faults.runsIn(note).endswith("f"), "the generator is closed", 1.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F52_leftEarly(self) -> None:
        """
        F52: a reader leaves; the generator's finally is run.
        """
        queue = self.makeQueue()
        note = self.path()
        deferator = await self.within(4.0, self.begin(queue, partial(queue.call, faults.endless, note)))
        self.assertEqual(await self.read(deferator, 3), [0, 1, 2])
        await self.until(lambda: faults.runsIn(note).endswith("f"), "the generator is closed", 1.0)
        await self.shutDownProperly(queue)

    async def test_F52_leftWhileTheGeneratorHangs(self) -> None:
        """
        F52: a reader leaves a generator that is at an item which takes for ever; the worker is free soon.
        """
        queue = self.makeQueue()
        deferator = await self.within(4.0, self.begin(queue, partial(queue.call, faults.itemsThen, 3, "hang")))
        self.assertEqual(await self.read(deferator, 2), [0, 1])
        deferator.stop()
        self.assertEqual(await self.within(GRACE + 2.5, queue.call(identity, 1), "a call after the stream"), 1)
        await self.shutDownProperly(queue)

    async def test_F52_closingRaises(self) -> None:
        """
        F52: a generator that raises an exception when it is closed is nobody's concern.
        """
        queue = self.makeQueue()
        note = self.path()
        deferator = await self.within(4.0, self.begin(queue, partial(queue.call, faults.refuseToClose, note)))
        self.assertEqual(await self.read(deferator, 3), [0, 1, 2])
        await self.until(lambda: faults.runsIn(note) == "f", "the generator is closed", 1.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F53_paused(self) -> None:
        """
        F53: a consumer that is paused for ever; little is made ahead, and other calls run.
        """
        queue = self.makeQueue()
        note = self.path()
        consumer = Taker(pauseAt=3)
        outcome = Outcome(self.begin(queue, partial(queue.call, faults.endless, note, consumer=consumer)))
        await self.until(lambda: len(consumer.written) == 3, "the consumer has its items")
        await deferLater(reactor, 0.1)
        made = len(faults.runsIn(note))
        await deferLater(reactor, 0.2)
        self.assertEqual(len(faults.runsIn(note)), made)
        self.assertLessEqual(made, 64)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        self.assertEqual(outcome.fired, 0)
        consumer.producer.stopProducing()
        await self.until(lambda: outcome.fired, "the call is settled", 2.0)
        await self.until(lambda: faults.runsIn(note).endswith("f"), "the generator is closed", 1.0)
        await self.shutDownProperly(queue)

    async def test_F54_shutdown(self) -> None:
        """
        F54: a queue with endless streams is shut down; both end with an error.
        """
        queue = self.makeQueue()
        note, consumer = self.path(), Taker()
        read = queue.call(faults.endless, note, 0.001)
        consumed = Outcome(queue.call(faults.endless, None, 0.001, consumer=consumer))
        deferator = await self.within(4.0, read)
        items = []

        async def readOn() -> None:
            async for item in deferator:
                items.append(item)  # noqa: PERF401  (they are looked at meanwhile)

        reading = Outcome(Deferred.fromCoroutine(readOn()))
        await self.until(lambda: len(items) > 3 and len(consumer.written) > 3, "there are items")
        began = time.monotonic()
        await self.within(5.0, self.beginUnserved(queue, lambda: queue.shutdown(drain=False, deadline=0.2)))
        self.assertLess(time.monotonic() - began, 3.0)
        for outcome in (reading, consumed):
            self.assertIsInstance(outcome.error, QueueShutdown)

    async def test_F54_closed(self) -> None:
        """
        F54: the generator is closed then: its C{finally} is run.
        """
        queue = self.makeQueue()
        note = self.path()
        deferator = await self.within(4.0, queue.call(faults.endless, note, 0.001))
        self.assertEqual(await self.read(deferator, 3), [0, 1, 2])
        deferator = await self.within(4.0, queue.call(faults.endless, note, 0.001))
        reading = Outcome(Deferred.fromCoroutine(self.read(deferator)))
        await self.within(5.0, queue.shutdown(drain=False, deadline=0.2))
        self.assertIs(reading.kind, QueueShutdown)
        self.assertEqual(faults.runsIn(note).count("f"), 2)

    async def test_F55_dropped(self) -> None:
        """
        F55: an iterator of which nobody knows any more is closed in the child.
        """
        queue = self.makeQueue()
        note = self.path()
        d = self.begin(queue, partial(queue.call, faults.endless, note))
        deferator = await self.within(4.0, d)
        self.assertNotIn("f", faults.runsIn(note))
        del d, deferator
        gc.collect()
        await self.until(lambda: faults.runsIn(note).endswith("f"), "the generator is closed", 2.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F56_slowItem(self) -> None:
        """
        F56: an item that takes longer than the timeout ends the stream.
        """
        queue = self.makeQueue()
        d = self.begin(queue, partial(queue.call, faults.itemsThen, 2, "hang", timeout=0.3))
        deferator = await self.within(4.0, d)
        items, _ = await self.readError(deferator, TimeoutError)
        self.assertEqual(items, [0, 1])
        self.assertEqual(await self.within(GRACE + 2.5, queue.call(identity, 1), "a call after the stream"), 1)
        await self.shutDownProperly(queue)

    async def test_F56_twoReaders(self) -> None:
        """
        F56: a second reader is refused.
        """
        queue = self.makeQueue()
        deferator = await self.within(4.0, self.begin(queue, partial(queue.call, faults.itemsThen, 100)))
        reader = aiter(deferator)
        self.assertEqual(await self.within(2.0, Deferred.fromCoroutine(anext(reader))), 0)
        self.assertRaises(NotReadyError, aiter, deferator)
        deferator.stop()
        await self.shutDownProperly(queue)

    async def test_F57_writeRaises(self) -> None:
        """
        F57: a consumer's write raises an exception, which is the call's error.
        """
        queue = self.makeQueue()
        note = self.path()
        pid = await self.within(4.0, queue.call(os.getpid))
        consumer = Taker(error=LookupError("no room"))
        d = self.begin(queue, partial(queue.call, faults.endless, note, consumer=consumer))
        await self.errorOf(d, LookupError)
        await self.until(lambda: faults.runsIn(note).endswith("f"), "the generator is closed", 1.0)
        self.assertEqual(await self.within(2.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_F34_itemThatWillNotTravel(self) -> None:
        """
        F34: an item cannot be pickled; those before it arrive, and the error names what it is about.
        """
        queue = self.makeQueue()
        deferator = await self.within(
            4.0, self.begin(queue, partial(queue.call, faults.itemsWith, 30, faults.makeLock))
        )
        items, error = await self.readError(deferator, ResultEncodeError)
        self.assertEqual(items, list(range(30)))
        self.assertIn("lock", str(error))
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F36_itemThatDoesNotArrive(self) -> None:
        """
        F36: an item cannot be unpickled here; the reader is told, whatever the error is like.
        """
        queue = self.makeQueue()
        for make in (faults.makeTrapThatRaises, faults.makeTrapThatExits, faults.makeHostileTrap):
            deferator = await self.within(4.0, self.begin(queue, partial(queue.call, faults.itemsWith, 30, make)))
            items, _ = await self.readError(deferator, ResultDecodeError)
            # Those that travelled with it may be lost.
            self.assertEqual(items, list(range(len(items))), make)
            self.assertGreaterEqual(len(items), 14)
            self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F40_itemsUpToTheLimit(self) -> None:
        """
        F40: items that are each within the limit travel, however many there are; one beyond it is an error.
        """
        queue = self.makeQueue(limit=100_000)
        deferator = await self.within(4.0, queue.call(faults.itemsOf, 50_000, 20))
        self.assertEqual([len(item) for item in await self.read(deferator)], [50_000] * 20)
        d = self.begin(queue, partial(queue.call, faults.itemsOf, 1000, 3, 200_000))
        deferator = await self.within(4.0, d)
        items, _ = await self.readError(deferator, ResultEncodeError)
        self.assertEqual(len(items), 3)
        await self.shutDownProperly(queue)


class StreamTestsFromACallback(FromACallback, StreamTests):
    """
    The same, from within callbacks.
    """


class LifecycleTests(ProcessTestCase):
    """
    Beginnings and ends at bad moments.
    """

    async def test_F60_drain(self) -> None:
        """
        F60: a queue with a long backlog is shut down and runs it all.
        """
        queue = self.makeQueue(2)
        calls = [queue.call(identity, number) for number in range(10_000)]
        done = self.beginUnserved(queue, queue.shutdown)
        self.assertEqual(await self.allOf(calls, 20.0), list(range(10_000)))
        self.assertEqual(await self.within(3.0, done), [])

    async def test_F60_noDrain(self) -> None:
        """
        F60: without draining, what runs goes on for as long as it may, and each queued call is refused.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        note = self.path()
        running = queue.call(faults.noteAndSleep, note, 0.3, "done")
        await self.until(lambda: faults.runsIn(note), "it runs")
        outcomes = [Outcome(queue.call(identity, number)) for number in range(10_000)]
        began = time.monotonic()
        done = self.beginUnserved(queue, lambda: queue.shutdown(drain=False))
        self.assertEqual(await self.within(2.0, running), "done")
        await self.within(3.0, done)
        self.assertLess(time.monotonic() - began, 2.5)
        self.assertEqual({each.kind for each in outcomes}, {QueueShutdown})
        self.assertEqual({each.fired for each in outcomes}, {1})

    async def test_F60_deadline(self) -> None:
        """
        F60: at the deadline, what still runs is ended, and so is its child, even if that is blocked in C.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        outcomes = [Outcome(queue.call(func, 30.0)) for func in (faults.ignoreInterrupts, faults.blockInC)]
        await deferLater(reactor, 0.2)
        pids = [worker.pid for worker in queue.workers()]
        d = self.beginUnserved(queue, lambda: queue.shutdown(drain=False, deadline=0.2))
        left = await self.within(2.0, d)
        self.assertEqual(len(left), 2)
        self.assertEqual([each.kind for each in outcomes], [WorkerLost, WorkerLost])
        await self.until(lambda: not any(map(isAlive, pids)), "the children are gone", 1.0)

    async def test_F61_shutdownTwice(self) -> None:
        """
        F61: a queue that is shut down several times, from a callback too, comes to one end.
        """
        queue = self.makeQueue()
        ends: list[Outcome] = []
        calls = [
            queue.call(identity, number).addCallback(lambda _: ends.append(Outcome(queue.shutdown())))
            for number in range(5)
        ]
        await self.allOf(calls, 5.0)
        ends.append(Outcome(queue.shutdown()))
        await self.until(lambda: all(each.fired for each in ends), "all have been told of the end")
        self.assertEqual([each.value for each in ends], [[]] * 6)
        self.assertEqual(await self.within(1.0, queue.shutdown()), [])

    async def test_F62_callAfterClose(self) -> None:
        """
        F62: a call after the end errbacks at once.
        """
        queue = self.makeQueue()
        await self.within(3.0, queue.call(identity, 1))

        def close() -> Deferred[Any]:
            done = queue.shutdown()
            self.failureResultOf(queue.call(identity, 1), QueueClosed)
            return done

        await self.within(3.0, self.begin(queue, close))
        self.failureResultOf(queue.call(identity, 1), QueueClosed)
        self.failureResultOf(queue.update(identity, 1), QueueClosed)

    async def test_F63_shutdownWhileBooting(self) -> None:
        """
        F63: a queue is shut down while its children start; its calls are refused, and no child appears later.
        """
        queue = self.makeQueue(2)
        outcomes = [Outcome(queue.call(identity, number)) for number in range(10)]
        await self.within(2.0, self.beginUnserved(queue, lambda: queue.shutdown(drain=False)))
        self.assertEqual({each.kind for each in outcomes}, {QueueShutdown})
        await deferLater(reactor, 0.3)
        self.assertEqual(marked(self.mark), [])

    async def test_F63_shutdownWhileBootingHangs(self) -> None:
        """
        F63: likewise while children hang in the initializer.
        """
        queue = self.makeQueue(2, onStart=faults.hang)
        outcome = Outcome(queue.call(identity, 1))
        await deferLater(reactor, 0.3)
        self.assertEqual(len(marked(self.mark)), 2)
        await self.within(2.0, self.beginUnserved(queue, lambda: queue.shutdown(drain=False)))
        self.assertIs(outcome.kind, QueueShutdown)
        self.assertEqual(marked(self.mark), [])

    async def test_F63_drainWhileBooting(self) -> None:
        """
        F63: with draining, the calls are run once there is a child.
        """
        queue = self.makeQueue(2)
        calls = [queue.call(identity, number) for number in range(10)]
        done = self.beginUnserved(queue, queue.shutdown)
        self.assertEqual(await self.allOf(calls, 5.0), list(range(10)))
        await self.within(2.0, done)

    async def test_F64_shutdownInBackOff(self) -> None:
        """
        F64: a queue is shut down while its worker waits to start another child.
        """
        note = self.path()
        queue = self.makeQueue(onStart=faults.dieTimes, onStartArgs=[note, 1000, None, "exit"])
        await self.errorOf(queue.call(identity, 1), WorkerStartError)
        await self.within(2.0, self.beginUnserved(queue, queue.shutdown))
        runs = faults.runsIn(note)
        await deferLater(reactor, 0.5)
        self.assertEqual(faults.runsIn(note), runs)

    async def test_F64_shutdownWhileRecycling(self) -> None:
        """
        F64: a queue is shut down while a successor is being started.
        """
        queue = self.makeQueue(maxTasks=10)
        await self.allOf([queue.call(identity, number) for number in range(9)], 5.0)
        await self.within(2.0, self.begin(queue, queue.shutdown))
        await deferLater(reactor, 0.2)
        self.assertEqual(marked(self.mark), [])

    async def test_F65_detachWaits(self) -> None:
        """
        F65: a busy worker is detached when it is done; what it had not started goes elsewhere.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        note = self.path()
        running = queue.call(faults.noteAndSleep, note, 0.3, "done")
        await self.until(lambda: faults.runsIn(note), "it runs")
        (worker,) = [each for each in queue.workers() if each.tasks]
        others = [queue.call(identity, number) for number in range(20)]
        d = self.beginUnserved(queue, partial(queue.detachWorker, worker))
        self.assertEqual(await self.within(3.0, d), [])
        self.assertEqual(await self.within(1.0, running), "done")
        self.assertEqual(await self.allOf(others, 2.0), list(range(20)))
        self.assertEqual(faults.runsIn(note), ".")
        self.assertEqual(len(queue), 1)
        await self.shutDownProperly(queue)

    async def test_F65_detachCrash(self) -> None:
        """
        F65: a worker is detached at once: what it was running is left unfinished, and nothing else.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        note = self.path()
        running = Outcome(queue.call(faults.noteAndSleep, note, 30.0))
        await self.until(lambda: faults.runsIn(note), "it runs")
        (worker,) = [each for each in queue.workers() if each.tasks]
        pid = worker.pid
        others = [queue.call(identity, number) for number in range(20)]
        left = await self.within(1.0, self.beginUnserved(queue, partial(queue.detachWorker, worker, crash=True)))
        self.assertEqual([task.callTuple[0] for task in left], [faults.noteAndSleep])
        self.assertIs(running.kind, WorkerLost)
        self.assertEqual(await self.allOf(others, 2.0), list(range(20)))
        await self.until(lambda: not isAlive(pid), "the child is gone", 1.0)
        await self.shutDownProperly(queue)

    async def test_F65_detachReassign(self) -> None:
        """
        F65: a worker is detached at once, and what it was running is run elsewhere.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        note = self.path()
        running = queue.call(faults.performOnce, note, "hang")
        await self.until(lambda: faults.runsIn(note), "it runs")
        (worker,) = [each for each in queue.workers() if each.tasks]
        d = self.beginUnserved(queue, partial(queue.detachWorker, worker, reassign=True, crash=True))
        self.assertEqual(await self.within(1.0, d), [])
        await self.within(2.0, running)
        self.assertEqual(faults.runsIn(note), "..")
        await self.shutDownProperly(queue)

    async def test_F65_crashAndAttachAgain(self) -> None:
        """
        F65: a worker that has been crashed is attached again at once; what it had before does not interfere.
        """
        queue = self.makeQueue()
        worker = self.makeWorker()
        for number in range(5):
            ID = await self.within(5.0, queue.attachWorker(worker))
            self.assertEqual(await self.within(2.0, queue.call(identity, number)), number)
            await self.within(2.0, self.begin(queue, partial(queue.detachWorker, ID, crash=True)))
        other = self.makeQueue()
        attached = other.attachWorker(worker)
        done = other.shutdown()
        attached.addErrback(lambda failure: None)
        await self.within(3.0, done)
        self.assertIsNone(worker.pid)
        await self.shutDownProperly(queue)

    async def test_F71_noDescriptors(self) -> None:
        """
        F71: without free descriptors no child can be started; calls are told so, and run when there are some again.
        """
        warm = self.makeQueue()
        await self.within(5.0, warm.call(identity, 1))
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir("/proc/self/fd")}
        free = [number for number in range(max(used) + 10) if number not in used]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[3], before[1]))
        try:
            queue = self.makeQueue()
            d = self.beginUnserved(queue, partial(queue.call, identity, 1))
            error = await self.errorOf(d, WorkerStartError, limit=10.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        self.assertIn("Too many open files", str(error))
        await self.until(lambda: queue.workers()[0].pid, "a child has started", 10.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 2)), 2)
        await self.shutDownProperly(queue)
        await self.shutDownProperly(warm)


class LifecycleTestsFromACallback(FromACallback, LifecycleTests):
    """
    The same, from within callbacks and errbacks.
    """


class CallerTests(ProcessTestCase):
    """
    What callers do: cancel, time out, and call from within callbacks.
    """

    async def test_F80_cancelQueued(self) -> None:
        """
        F80: a call that is cancelled while it waits, in the queue or in the child, is never run.
        """
        queue = self.makeQueue()
        # So that the window is open.
        await self.allOf([queue.call(identity, number) for number in range(500)], 5.0)
        notes = [self.path() for _ in range(20)]
        first = queue.call(faults.noteAndSleep, self.path(), 0.1, "slept")
        waiting = [queue.call(faults.noteRun, each) for each in notes]

        def cancel() -> Deferred[None]:
            for call in waiting:
                call.cancel()
                self.failureResultOf(call, CancelledError)
            return succeed(None)

        await self.within(2.0, self.beginUnserved(queue, cancel))
        self.assertEqual(await self.within(2.0, first), "slept")
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        self.assertEqual([faults.runsIn(each) for each in notes], [""] * 20)
        self.assertIn(queue.statistics().cancelled, (20, 21))
        await self.shutDownProperly(queue)

    async def test_F81_cancelRunning(self) -> None:
        """
        F81: a call that runs is interrupted, and its child goes on.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(os.getpid))
        for func, args in ((faults.noteAndSleep, (30.0,)), (faults.noteAndSpin, (30.0,))):
            note = self.path()
            d = self.begin(queue, partial(queue.call, func, note, *args))
            await self.until(lambda note=note: faults.runsIn(note), "it runs")  # type: ignore[misc]
            d.cancel()
            self.failureResultOf(d, CancelledError)
            self.assertEqual(await self.within(1.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_F81_cancelWhatGoesOn(self) -> None:
        """
        F81: a call that goes on regardless, or is blocked in C, is ended with its child after a grace.
        """
        queue = self.makeQueue()
        for func in (faults.ignoreInterrupts, faults.blockInC):
            pid = await self.within(5.0, queue.call(os.getpid))
            d = self.begin(queue, partial(queue.call, func, 20.0))
            await deferLater(reactor, 0.2)
            d.cancel()
            self.failureResultOf(d, CancelledError)
            self.assertNotEqual(await self.within(GRACE + 1.0, queue.call(os.getpid)), pid)
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_F81_cancelAtAnyMoment(self) -> None:
        """
        F81: calls that are cancelled at any moment of their lives harm no other.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        good = []
        for number in range(150):
            d = self.begin(queue, partial(queue.call, time.sleep, 0.001))
            d.addErrback(lambda failure: failure.trap(CancelledError) and None)
            good.append(queue.call(identity, number))
            await deferLater(reactor, (number % 10) * 0.0003)
            d.cancel()
        self.assertEqual(await self.allOf(good, 10.0), list(range(150)))
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDownProperly(queue)

    async def test_F82_cancelTooLate(self) -> None:
        """
        F82: cancelling a call that is settled, twice, or in its own callback, does nothing.
        """
        queue = self.makeQueue()
        d = queue.call(identity, 1)

        def cancelled(value: int) -> int:
            d.cancel()
            return value

        d.addCallback(cancelled)
        self.assertEqual(await self.within(5.0, d), 1)
        d.cancel()
        other = queue.call(identity, 1)
        other.cancel()
        other.cancel()
        self.failureResultOf(other, CancelledError)
        await self.shutDownProperly(queue)

    async def test_F82_cancelWhileItWaitsToBeRunAgain(self) -> None:
        """
        F82: a call that waits to be run again is cancelled, and is not run.
        """
        queue = self.makeQueue()
        note = self.path()
        await self.within(5.0, queue.d)
        d = self.begin(queue, partial(queue.call, faults.dieTimes, note, 2))
        await self.until(lambda: queue.outstanding()[0].state.name == "QUEUED" and faults.runsIn(note), "it waits")
        runs = faults.runsIn(note)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(await self.within(3.0, queue.call(identity, 1)), 1)
        self.assertEqual(faults.runsIn(note), runs)
        await self.shutDownProperly(queue)

    async def test_F85_timeoutAndResult(self) -> None:
        """
        F85: a call takes about as long as its timeout; it has one outcome, and is executed twice at most.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.call(faults.noteAndSleep, self.path(), 0.0))
        for number in range(20):
            note = self.path()
            timeout = 0.016 + 0.0005 * number
            d = self.begin(queue, partial(queue.call, faults.noteAndSleep, note, 0.02, number, timeout=timeout))
            outcome = await self.outcomeOf(d, 3.0)
            self.assertIn(len(faults.runsIn(note)), (0, 1, 2))
            if outcome.failure is not None:
                self.assertIsInstance(outcome.error, TimeoutError)
        await self.shutDownProperly(queue)

    async def test_F86_rerunAfterTimeout(self) -> None:
        """
        F86, F87: a call that times out is run again, with its number of the attempt, and only that outcome counts.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        note = self.path()
        d = self.begin(queue, partial(queue.call, faults.attemptThatHangsOnce, note, timeout=0.3))
        self.assertEqual(await self.within(3.0, d), 2)
        self.assertEqual(faults.runsIn(note), "12")
        note = self.path()
        d = self.begin(queue, partial(queue.call, faults.noteAndSleep, note, 30.0, timeout=0.2))
        error = await self.errorOf(d, TimeoutError, limit=4.0)
        self.assertEqual(faults.runsIn(note), "..")
        self.assertIn("timed out", str(error))
        await self.shutDownProperly(queue)

    async def test_F89_full(self) -> None:
        """
        F89: a bounded queue refuses calls at once.
        """
        queue = self.makeQueue(maxPending=3)
        await self.within(5.0, queue.d)
        note = self.path()
        running = queue.call(faults.noteAndSleep, note, 0.2)
        await self.until(lambda: faults.runsIn(note), "it runs")
        waiting = [queue.call(identity, number) for number in range(3)]
        await self.errorOf(self.beginUnserved(queue, partial(queue.call, identity, 4)), QueueFull, limit=0.1)
        await self.allOf([running, *waiting], 3.0)
        await self.shutDownProperly(queue)

    async def test_F90_seriesThroughLosses(self) -> None:
        """
        F90: the calls of a series are started in order, over two workers, with deaths and cancellations between them.
        """
        queue = self.makeQueue(2)
        for worker in queue.workers():
            queue.qualifyWorker(worker, "one")
        await self.within(5.0, queue.d)
        await self.within(5.0, queue.update(faults.noteStart, 0))
        count = self.path()
        calls: list[Deferred[Any]] = []

        def call() -> Deferred[None]:
            for number in range(60):
                if number == 20:
                    calls.append(queue.call(faults.dieTimes, count, 2, (20, 0.0), series="one"))
                else:
                    calls.append(queue.call(faults.noteStart, number, series="one"))
            return succeed(None)

        await self.within(2.0, self.beginUnserved(queue, call))
        others = [queue.call(identity, number) for number in range(60)]
        cancelled = calls.pop(40)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        starts = [start for number, start in await self.allOf(calls, 10.0) if number != 20]
        self.assertEqual(len(starts), 58)
        for earlier, later in pairwise(starts):
            # A call has been started a moment before its function runs.
            self.assertLess(earlier, later + 0.1)
        self.assertEqual(await self.allOf(others, 3.0), list(range(60)))
        await self.shutDownProperly(queue)


class CallerTestsFromACallback(FromACallback, CallerTests):
    """
    The same, from within callbacks and errbacks.
    """


class ReentrancyTests(ProcessTestCase):
    """
    What is done in callbacks and errbacks, and nowhere else.
    """

    async def test_F83_chain(self) -> None:
        """
        F83: calls each made in the callback of the one before.
        """
        queue = self.makeQueue()
        depth = 100_000 if SOAK else 3_000
        end: Deferred[int] = Deferred()

        def go(number: int) -> None:
            if number < depth:
                queue.call(identity, number + 1).addCallbacks(go, end.errback)
            else:
                end.callback(number)

        go(0)
        self.assertEqual(await self.within(60.0 if SOAK else 10.0, end), depth)
        await self.shutDownProperly(queue)

    test_F83_chain.timeout = 120  # type: ignore[attr-defined]

    async def test_F83_shutdownFromErrbackOfADeath(self) -> None:
        """
        F83: a queue is shut down in the errback of a call whose child has died.
        """
        queue = self.makeQueue()
        done: list[Outcome] = []
        d = queue.options(idempotent=False).call(faults.killMyself)

        def lost(failure: Failure) -> None:
            failure.trap(WorkerLost)
            done.append(Outcome(queue.shutdown()))

        d.addErrback(lost)
        await self.within(5.0, d)
        await self.until(lambda: done and done[0].fired, "the queue has ended", 3.0)

    async def test_F83_detachFromErrbackOfADeath(self) -> None:
        """
        F83: a worker is detached in the errback of a call whose child has died.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        done: list[Outcome] = []
        d = queue.options(idempotent=False).call(faults.killMyself)
        worker = next(worker for worker in queue.workers() if worker.tasks)
        d.addErrback(lambda failure: done.append(Outcome(queue.detachWorker(worker))))
        await self.within(5.0, d)
        await self.until(lambda: done[0].fired, "the worker is detached", 3.0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)

    async def test_F84_unhandled(self) -> None:
        """
        F84: errors that nobody handles, and callbacks that raise exceptions, are logged once each and harm nothing.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        queue.call(fail, ValueError, "nobody cares")
        queue.call(identity, 1).addCallback(lambda _: 1 / 0)
        self.assertEqual(await self.within(2.0, queue.call(identity, 1)), 1)
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await self.shutDownProperly(queue)

    async def test_F83_everythingInACallback(self) -> None:
        """
        F83: a callback calls, cancels, updates, attaches, detaches and, in the end, shuts the queue down.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        note = self.path()
        done: list[Outcome] = []

        def strike(value: int) -> None:
            doomed = queue.call(faults.noteAndSleep, note, 30.0)
            called = queue.call(identity, value + 1)
            done.append(Outcome(doomed))
            doomed.cancel()
            done.append(Outcome(called))
            done.append(Outcome(queue.update(identity, 2)))
            done.append(Outcome(queue.detachWorker(queue.workers()[0])))
            done.append(Outcome(queue.attachWorker(self.makeWorker())))
            done.append(Outcome(queue.shutdown()))

        await self.within(5.0, queue.call(identity, 1).addCallback(strike))
        await self.until(lambda: all(each.fired for each in done), "all have been settled", 5.0)
        self.assertEqual([each.fired for each in done], [1] * 6)
        cancelled, called, updated, detached, attached, ended = done
        self.assertIs(cancelled.kind, CancelledError)
        self.assertEqual(called.value, 2)
        # The worker that leaves has not run it.
        self.assertIn(2, updated.value)
        self.assertEqual(detached.value, [])
        self.assertEqual(ended.value, [])
        self.assertTrue(attached.value == 3 or attached.kind is not None)
        # It may have been begun with, and is over all the same.
        self.assertIn(faults.runsIn(note), ("", "."))


def residentMemory() -> int:
    """
    Return the resident memory of this process, in bytes.
    """
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


class LongTests(ProcessTestCase):
    """
    What must not add up: a few times as a rule, and as often as FAULTS.md says with C{ASYNQUEUE_SOAK}.
    """

    timeout = 3600 if SOAK else 60

    #: What the memory of this process may grow by, in bytes, over all rounds but the first ones.
    MOST = 5 << 20

    async def repeat(self, often: int, strike: Callable[[int], Awaitable[None]]) -> None:
        """
        Do something as often as there is time for, and see that no memory is lost.
        """
        number = often if SOAK else max(20, often // 50)
        warm = number // 4
        before = 0
        for index in range(number):
            if index == warm:
                before = residentMemory()
            faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=2)
            await strike(index)
        self.assertLess(residentMemory() - before, self.MOST)
        self.assertEqual([pid for pid in childrenOf(os.getpid()) if stateOf(pid) == "Z"], [])

    async def test_F29_kills(self) -> None:
        """
        F29: 1,000 kills in a row leave nothing.
        """
        queue = self.makeQueue(2)

        async def strike(index: int) -> None:
            note = self.path()
            self.assertEqual(await self.within(8.0, queue.call(faults.dieTimes, note, 1, index)), index)
            self.assertEqual(faults.runsIn(note), "..")
            os.unlink(note)

        await self.repeat(1000, strike)
        await self.until(lambda: all(worker.pid for worker in queue.workers()), "there are as many children", 1.5)
        await self.shutDownProperly(queue)
        self.assertEqual(marked(self.mark), [])

    async def test_F73_attachAndDetach(self) -> None:
        """
        F73: 1,000 workers that come and go leave nothing.
        """
        queue = self.makeQueue()

        async def strike(index: int) -> None:
            ID = await self.within(5.0, queue.attachWorker(ProcessWorker(environment=self.environment)))
            self.assertEqual(await self.within(3.0, queue.call(identity, index)), index)
            self.assertEqual(await self.within(3.0, queue.detachWorker(ID)), [])

        await self.repeat(1000, strike)
        self.assertEqual(len(queue), 1)
        await self.shutDownProperly(queue)

    async def test_F73_queues(self) -> None:
        """
        F73: so do 1,000 queues.
        """

        async def strike(index: int) -> None:
            queue = ProcessQueue(1, returnFailure=True, environment=self.environment)
            self.assertEqual(await self.within(5.0, queue.call(identity, index)), index)
            self.assertEqual(await self.within(3.0, queue.shutdown()), [])

        await self.repeat(1000, strike)
        self.assertEqual(marked(self.mark), [])

    async def test_F88_hugeBacklog(self) -> None:
        """
        F88: 1,000,000 calls are queued, and all have their values; they take less than 1 KiB each, and the reactor is
        not held up by them for long.
        """
        number = 1_000_000 if SOAK else 30_000
        queue = self.makeQueue(2)
        await self.allOf([queue.call(identity, each) for each in range(2000)], 5.0)
        gaps = Gaps()
        total = left = 0

        def took(value: int) -> None:
            nonlocal total, left
            total += value
            left -= 1

        before = residentMemory()
        for begin in range(0, number, 1000):
            for each in range(begin, begin + 1000):
                queue.call(identity, each).addCallback(took)
                left += 1
            await deferLater(reactor, 0)
        peak = residentMemory() - before
        waiting = max(left, 1)
        gaps.forget()
        await self.until(lambda: not left, "all have their values", 600.0 if SOAK else 20.0)
        worst = gaps.end()
        self.assertEqual(total, number * (number - 1) // 2)
        self.assertLess(peak / waiting if waiting > number // 2 else 0, 1024)
        self.assertLess(worst, 0.25)
        await self.shutDownProperly(queue)

    async def test_F88_cancelAll(self) -> None:
        """
        F88: so many calls are cancelled within 5 s.
        """
        number = 1_000_000 if SOAK else 30_000
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        note = self.path()
        running = queue.call(faults.noteAndSleep, note, 60.0)
        await self.until(lambda: faults.runsIn(note), "it runs")
        cancelled = 0

        def count(failure: Failure) -> None:
            nonlocal cancelled
            failure.trap(CancelledError)
            cancelled += 1

        for d in (running, *(queue.call(identity, each) for each in range(number))):
            d.addErrback(count)
        began = time.monotonic()
        self.assertEqual(queue.cancelAll(), number)
        running.cancel()
        await self.until(lambda: cancelled == number + 1, "all have been told so", 5.0)
        self.assertLess(time.monotonic() - began, 5.0)
        self.assertEqual(await self.within(GRACE + 2.0, queue.call(identity, 1)), 1)
        await self.shutDownProperly(queue)


class Gaps:
    """
    Measures for how long the reactor does not come to what is due.
    """

    def __init__(self) -> None:
        self._worst = 0.0
        self._last = time.monotonic()
        self._ticking = LoopingCall(self._tick)
        self._ticking.start(0.002)

    def _tick(self) -> None:
        now = time.monotonic()
        self._worst = max(self._worst, now - self._last)
        self._last = now

    def forget(self) -> None:
        """
        Begin again.
        """
        self._worst, self._last = 0.0, time.monotonic()

    def end(self) -> float:
        """
        Return the longest time, in seconds.
        """
        self._ticking.stop()
        return self._worst


class ParentTests(ProcessTestCase):
    """
    What children do when their parent ends, however it does: programs in interpreters of their own.
    """

    def start(self, text: str, *args: str) -> Program:
        """
        Start a program, which gets a queue, and ends in some way once it has written C{ready}.
        """
        program = Program(self.path() + ".py", _PREAMBLE + text, self.mark, *args)
        self.addCleanup(program.close)
        return program

    async def ready(self, program: Program, number: int) -> list[int]:
        """
        Wait until a program is ready.

        @return: The IDs of its children.
        """
        for line in program.lines():
            if line == "ready":
                break
        found = [pid for pid in marked(self.mark) if pid != program.process.pid]
        self.assertEqual(len(found), number)
        return found

    async def gone(self, pids: list[int], limit: float) -> None:
        """
        Wait for the end of processes.
        """
        await self.until(lambda: not any(map(isAlive, pids)), "the children of the program are gone", limit)

    async def killed(self, call: str, keywords: str = "") -> None:
        """
        Kill a program whose one child runs a call.
        """
        text = f"queue = makeQueue({keywords})\n{call}\nsoon(0.4)\nreactor.run()\n"
        program = self.start(text)
        pids = await self.ready(program, 1)
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait(5)
        await self.gone(pids, 1.0)

    async def test_F67_idle(self) -> None:
        """
        F67: the parent is killed while the child is idle.
        """
        await self.killed("queue.call(int)")

    async def test_F67_busy(self) -> None:
        """
        F67: likewise while it sleeps.
        """
        await self.killed("queue.call(faults.ignoreInterrupts, 30.0)")

    async def test_F67_blockedInC(self) -> None:
        """
        F67: likewise while it is blocked in C.
        """
        await self.killed("queue.call(faults.blockInC, 30.0)")

    async def test_F67_streaming(self) -> None:
        """
        F67: likewise while it makes items that nobody reads.
        """
        await self.killed("queue.call(faults.endless).addCallback(globals().__setitem__, 'it')")

    async def test_F67_booting(self) -> None:
        """
        F67: likewise while it hangs in the initializer.
        """
        await self.killed("", "onStart=faults.hang")

    async def test_F67_bootingBlockedInC(self) -> None:
        """
        F67: likewise while it is blocked in C there.
        """
        await self.killed("", "onStart=faults.blockInC")

    async def test_F67_threadsInTheChild(self) -> None:
        """
        F67: likewise while another thread of it runs that is no daemon.
        """
        await self.killed("queue.call(faults.leaveThread, 30.0)")

    async def test_F67_grandchild(self) -> None:
        """
        F67: with a guard, the grandchildren go, too.
        """
        text = "queue = makeQueue(guard=True)\nqueue.call(faults.leaveGrandchild, 30.0)\nsoon(0.4)\nreactor.run()\n"
        program = self.start(text)
        for line in program.lines():
            if line == "ready":
                break
        pids = [pid for pid in marked(self.mark) if pid != program.process.pid]
        self.assertGreaterEqual(len(pids), 2)
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait(5)
        await self.gone(pids, 3.0)

    async def ends(self, text: str, code: int, err: str = "", limit: float = 4.0) -> str:
        """
        Let a program end by itself, and see how.

        @return: What it has written to standard error.
        """
        program = self.start(f"queue = makeQueue()\n{text}\n")
        began = time.monotonic()
        returned, _, errors = program.end(limit)
        self.assertLess(time.monotonic() - began, limit)
        self.assertEqual(returned, code, errors)
        self.assertIn(err, errors)
        await self.until(lambda: not marked(self.mark), "nothing of the program is left", 1.0)
        return errors

    async def test_F68_stopWithoutShutdown(self) -> None:
        """
        F68: the reactor is stopped without a shutdown.
        """
        text = "queue.call(faults.hang).addErrback(id)\nreactor.callLater(0.4, reactor.stop)\nreactor.run()"
        self.assertEqual(await self.ends(text, 0), "")

    async def test_F68_exit(self) -> None:
        """
        F68: the program calls sys.exit while the reactor has not run, or has stopped.
        """
        self.assertEqual(await self.ends("sys.exit(5)", 5), "")
        text = (
            "queue.call(faults.hang).addErrback(id)\nreactor.callLater(0.4, reactor.stop)\nreactor.run()\nsys.exit(6)"
        )
        self.assertEqual(await self.ends(text, 6), "")

    async def test_F68_exitAtOnce(self) -> None:
        """
        F68: the program ends by os._exit, while its child is blocked in C.
        """
        text = "queue.call(faults.blockInC, 30.0).addErrback(id)\nreactor.callLater(0.4, os._exit, 7)\nreactor.run()"
        self.assertEqual(await self.ends(text, 7), "")

    async def test_F68_unhandled(self) -> None:
        """
        F68: the program ends with an exception that nobody handles.
        """
        text = "reactor.callLater(0.3, reactor.stop)\nreactor.run()\nraise ValueError('unhandled')"
        await self.ends(text, 1, "ValueError: unhandled")

    async def signalled(self, number: int, toGroup: bool) -> None:
        """
        Send a signal to a program that does something orderly then, or to its whole group.
        """
        text = (
            "queue = makeQueue()\n"
            "d = queue.call(faults.noteAndSleep, sys.argv[1], 0.8, 'done')\n"
            "d.addBoth(lambda result: print('result', result, flush=True))\n"
            "reactor.addSystemEventTrigger('before', 'shutdown', queue.shutdown)\n"
            "soon(0.4)\n"
            "reactor.run()\n"
            "print('ended', flush=True)\n"
        )
        note = self.path()
        program = Program(self.path() + ".py", _PREAMBLE + text, self.mark, note, start_new_session=True)
        self.addCleanup(program.close)
        await self.ready(program, 1)
        self.assertEqual(faults.runsIn(note), ".")
        if toGroup:
            os.killpg(program.process.pid, number)
        else:
            os.kill(program.process.pid, number)
        _, out, err = program.end(5.0)
        self.assertEqual(out.split("\n")[:2], ["result done", "ended"], err)
        self.assertEqual(faults.runsIn(note), ".")
        self.assertEqual(err, "")

    async def test_F66_interrupt(self) -> None:
        """
        F66: a Ctrl-C, which goes to all processes of the terminal, reaches the application only, which ends orderly.
        """
        await self.signalled(signal.SIGINT, True)

    async def test_F66_terminate(self) -> None:
        """
        F66: so does a SIGTERM.
        """
        await self.signalled(signal.SIGTERM, True)

    async def test_F69_fork(self) -> None:
        """
        F69: a copy of this process refuses calls, and its end does not concern the children.
        """
        text = (
            "queue = makeQueue()\n"
            "async def main():\n"
            "    before = await queue.call(os.getpid)\n"
            "    await deferLater(reactor, 0.05)\n"
            "    pid = os.fork()\n"
            "    if not pid:\n"
            "        try:\n"
            "            d = queue.call(int)\n"
            "            kinds = []\n"
            "            d.addErrback(lambda failure: kinds.append(failure.type.__name__))\n"
            "            os.write(1, f'fork {kinds}\\n'.encode())\n"
            "        finally:\n"
            "            os._exit(0)\n"
            "    os.waitpid(pid, 0)\n"
            "    after = await queue.call(os.getpid)\n"
            "    print('same', before == after, flush=True)\n"
            "    await queue.shutdown()\n"
            "    reactor.stop()\n"
            "Deferred.fromCoroutine(main()).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))\n"
            "reactor.run()\n"
        )
        _, out, err = self.start(text).end(6.0)
        self.assertEqual(err, "")
        self.assertIn("same True", out)
        self.assertIn("fork ['QueueClosed']", out)

    async def test_F72_noRoomInSharedMemory(self) -> None:
        """
        F72: without room for files a child cannot be started, which the call is told.
        """
        text = (
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
            "queue = makeQueue()\n"
            "async def main():\n"
            "    try:\n"
            "        await queue.call(int)\n"
            "    except errors.WorkerStartError as error:\n"
            "        print('refused', error, flush=True)\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "    while queue.workers()[0].pid is None:\n"
            "        await deferLater(reactor, 0.05)\n"
            "    print('then', await queue.call(int), flush=True)\n"
            "    await queue.shutdown()\n"
            "    reactor.stop()\n"
            "Deferred.fromCoroutine(main()).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))\n"
            "reactor.run()\n"
        )
        _, out, err = self.start(text).end(10.0)
        self.assertIn("refused", out, err)
        self.assertIn("then 0", out)


_PREAMBLE = """\
import os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from asynqueue import ProcessQueue, errors
from asynqueue.testing import faults

def makeQueue(**keywords):
    return ProcessQueue(1, returnFailure=True, **keywords)

def soon(seconds):
    reactor.callLater(seconds, print, "ready", flush=True)

"""
