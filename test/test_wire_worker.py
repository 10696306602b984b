"""
Wire workers, and the servers that they have calls run by: over unix sockets, and over memory where time matters.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker, TaskQueue
from asynqueue.errors import (
    DecodeError,
    EncodeError,
    InsecureTransport,
    NotAuthorized,
    PayloadTooLarge,
    PoisonTask,
    QueueFull,
    QueueShutdown,
    RemoteError,
    ResultEncodeError,
    ResultTooLarge,
    TimeLimitExceeded,
    WorkerError,
    WorkerLost,
)
from asynqueue.protocol import commands
from asynqueue.testing import WorkerConformance
from asynqueue.testing.tasks import identity
from asynqueue.testing.wiretasks import Universe, echo
from asynqueue.wire import WireServer, WireWorker, WireWorkerUniverse, expose, node, registerError
from asynqueue.wire.registry import Registry
from test.nodes import IS_ROOT, WireTestCase
from test.processes import LIMIT, reactor
from test.support import Consumer, Outcome


class WireWorkerConformanceTests(WorkerConformance, WireTestCase):  # type: ignore[misc]
    """
    The suite that every worker passes.
    """

    def setUp(self) -> Deferred[Any]:  # type: ignore[override]
        """
        Start a server.
        """
        super().setUp()
        return Deferred.fromCoroutine(self.serve(threads=2))

    def makeWorker(self, **keywords: Any) -> Any:
        """
        Make one.
        """
        return WireTestCase.makeWorker(self, **keywords)


class ResultTests(WireTestCase):
    """
    Calls and what comes of them.
    """

    async def test_kindsOfMethods(self) -> None:
        """
        A method may return a value, nothing, a Deferred or a coroutine.
        """
        await self.serve()
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call("echo", [1, "two", (3, b"4")])), [1, "two", (3, b"4")])
        self.assertIsNone(await self.within(LIMIT, queue.call("echo")))
        self.assertEqual(await self.within(LIMIT, queue.call("add", 3, second=4)), 7)
        self.assertEqual(await self.within(LIMIT, queue.call("later", 0.01, "later")), "later")
        self.assertEqual(await self.within(LIMIT, queue.call("awaited", 0.01, "awaited")), "awaited")
        self.assertEqual(await self.within(LIMIT, queue.call("tests.echo", {1: date.min})), {1: date.min})
        await self.shutDown(queue)

    async def test_currentCall(self) -> None:
        """
        The call is known there by the ID that it has here.
        """
        await self.serve()
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call("known")), (1, 1))
        self.assertEqual(await self.within(LIMIT, queue.call("known")), (2, 1))

    async def test_burst(self) -> None:
        """
        Many short calls keep their values, on nodes of all kinds.
        """
        for workers in ({}, {"threads": 2}, {"processes": 1}):
            server = await self.serve(**workers)
            queue = self.client()
            calls = [queue.call("tests.echo", number) for number in range(2000)]
            self.assertEqual(await self.allOf(calls), list(range(2000)))
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_namesThatAreNotExposed(self) -> None:
        """
        Attributes, classes, what begins with an underscore, and what the universe has from its base are not to be had.
        """
        await self.serve()
        queue = self.client()
        for name in (
            "nothing",
            "attribute",
            "Inner",
            "wireServer",
            "check",
            "methodNames",
            "Universe",
            "tests",
            "tests.nothing",
            "echo.__self__",
            "echo.func",
            "asynqueue.testing.wiretasks.echo",
            "os.system",
        ):
            error = await self.errorOf(queue.call(name), NotAuthorized)
            self.assertIn("nothing is exposed as", str(error))
            self.assertIn(name, str(error))
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)

    async def test_S4_namesThatCannotBe(self) -> None:
        """
        What cannot be a name is not even sent: dunders, look-alikes, spaces, nothing at all.
        """
        await self.serve()
        queue = self.client()
        for name in (
            "",
            "_hidden",
            "__class__",
            "__init__",
            "ec\u04bbo",
            "\u0435cho",
            "echo ",
            " echo",
            "echo\n",
            "e\0cho",
            "ECHO\u0000",
            "\uff45cho",
            "a" * 65,
            "1echo",
            ".echo",
            "../echo",
            "\ud800",
        ):
            error = await self.errorOf(queue.call(name), EncodeError)
            self.assertIn("cannot be the name of something exposed", str(error))
        await self.shutDown(queue)

    async def test_thread(self) -> None:
        """
        A method is run in a thread if the worker or the call says so; C{thread} is not the method's own then.
        """
        await self.serve()
        queue = self.client()
        self.assertFalse(await self.within(LIMIT, queue.call("thread")))
        self.assertTrue(await self.within(LIMIT, queue.call("thread", thread=True)))
        self.assertEqual(await self.within(LIMIT, queue.call("keywords", thread=True, other=1)), {"other": 1})
        await self.shutDown(queue)
        queue = self.client(thread=True)
        self.assertTrue(await self.within(LIMIT, queue.call("thread")))
        self.assertFalse(await self.within(LIMIT, queue.call("thread", thread=False)))

    async def test_threadAgain(self) -> None:
        """
        A call that is run again is run in a thread again.
        """
        server = await self.serve()
        queue = self.client(whenLost="reconnect")
        first = queue.call("block", 0.3, thread=True)
        call = queue.call("thread", thread=True)
        await self.until(lambda: server.node is not None and server.node.sessions, "a connection")
        await deferLater(reactor, 0.1)
        assert server.node is not None
        server.node.sessions[0].transport.abortConnection()
        self.assertTrue(await self.within(LIMIT, call))
        await self.outcomeOf(first)

    async def test_threadsOfANode(self) -> None:
        """
        A node with threads runs exposed functions in them, and several methods in threads at once.
        """
        await self.serve(threads=2)
        queue = self.client()
        began = time.monotonic()
        await self.allOf([queue.call("block", 0.2, thread=True) for _ in range(2)])
        await self.allOf([queue.call("tests.sleep", 0.2) for _ in range(2)])
        self.assertLess(time.monotonic() - began, 0.75)

    async def test_raw(self) -> None:
        """
        With C{raw}, an iterator is a result that does not travel.
        """
        await self.serve()
        queue = self.client()
        await self.errorOf(queue.call("count", 3, raw=True), ResultEncodeError)
        raw = self.client(raw=True)
        await self.errorOf(raw.call("count", 3), ResultEncodeError)
        self.assertEqual(await self.itemsOf(raw, "count", 3, raw=False), [0, 1, 2])

    async def test_stillThere(self) -> None:
        """
        Errors of all kinds in one connection do not end it.
        """
        server = await self.serve()
        queue = self.client()
        await self.within(LIMIT, queue.call("echo", 0))
        assert server.node is not None
        session = server.node.sessions[0]
        for name in ("fail", "unplain", "nothing", "countOddly"):
            await self.outcomeOf(queue.call(name))
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        self.assertIs(server.node.sessions[0], session)

    async def test_universeByName(self) -> None:
        """
        A universe may be given by its full name, as a class, or as an instance, which knows its server.
        """
        for wwu in ("asynqueue.testing.wiretasks.Universe", Universe, Universe(), None):
            server = await self.serve(wwu=wwu)
            queue = self.client()
            if wwu is None:
                await self.errorOf(queue.call("echo", 5), NotAuthorized)
            else:
                self.assertEqual(await self.within(LIMIT, queue.call("echo", 5)), 5)
            self.assertEqual(await self.within(LIMIT, queue.call("tests.echo", 5)), 5)
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())
            if isinstance(wwu, Universe):
                self.assertIs(wwu.wireServer, server)


class ByReferenceTests(WireTestCase):
    """
    Functions themselves, for those who have the role C{code}.
    """

    async def test_function(self) -> None:
        """
        A process of the same user may send a function, and what can be pickled.
        """
        await self.serve()
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call(identity, {1j, "two"})), {1j, "two"})
        self.assertEqual(await self.within(LIMIT, queue.call(partial(pow, 2), 5)), 32)

    async def test_inProcesses(self) -> None:
        """
        The workers of the node run it.
        """
        await self.serve(processes=1)
        queue = self.client()
        self.assertNotEqual(await self.within(LIMIT, queue.call(os.getpid)), os.getpid())

    async def test_unpicklable(self) -> None:
        """
        What cannot be pickled is named, at once, and the worker goes on.
        """
        await self.serve()
        queue = self.client()
        await self.within(LIMIT, queue.call("echo"))
        lock = threading.Lock()
        for call, place in (
            ((identity, lock), "args[0]"),
            ((identity, [1, lock]), "args[0][1]"),
            ((lambda: None,), "the callable"),
        ):
            error = await self.errorOf(queue.call(*call), EncodeError)
            self.assertIn(place, str(error))
        error = await self.errorOf(queue.call("echo", value={"deep": [lock]}), EncodeError)
        self.assertIn("kw['value']['deep'][0]", str(error))
        await self.errorOf(queue.call("unplain"), ResultEncodeError)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)

    async def test_notWithoutTheRole(self) -> None:
        """
        Where pickles are not wanted, a function is refused before it is sent, and so is what is no plain data.
        """
        await self.serve(pickles=False)
        queue = self.client()
        error = await self.errorOf(queue.call(identity, 5), EncodeError)
        self.assertIn("the callable", str(error))
        self.assertIn("role 'code'", str(error))
        error = await self.errorOf(queue.call("echo", [1, object()]), EncodeError)
        self.assertIn("args[0][1] cannot travel: an instance of builtins.object", str(error))
        error = await self.errorOf(queue.call("echo", value={"a": object()}), EncodeError)
        self.assertIn("kw['value']['a'] cannot travel", str(error))
        error = await self.errorOf(queue.call("echo", list(range(40)) and _deep(40)), EncodeError)
        self.assertIn("nested more than 32 deep", str(error))
        await self.errorOf(queue.call("unplain"), ResultEncodeError)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", (1,))), (1,))

    async def test_serializers(self) -> None:
        """
        The node chooses how values travel.
        """
        for name, value, back in (
            ("plain", (1, {2: b"3"}), (1, {2: b"3"})),
            ("json", [1, {"2": (3,)}], [1, {"2": [3]}]),
            ("msgpack", [1, {"2": b"3"}], [1, {"2": b"3"}]),
        ):
            server = await self.serve(pickles=False, serializer=name)
            queue = self.client()
            self.assertEqual(await self.within(LIMIT, queue.call("echo", value)), back)
            error = await self.errorOf(queue.call("fail", "still"), ValueError)
            self.assertEqual(error.args, ("still", 5))
            await self.errorOf(queue.call("unplain"), ResultEncodeError)
            await self.errorOf(queue.call("echo", object()), EncodeError)
            self.assertEqual(await self.itemsOf(queue, "count", 3), [0, 1, 2])
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Odd(Exception):
    """
    An exception that only those make anew who have registered it.
    """


@registerError
class Known(Exception):
    """
    An exception that has been registered.
    """


class ErrorTests(WireTestCase):
    """
    Errors.
    """

    async def test_error(self) -> None:
        """
        Is of its own class and a C{WorkerError}, with the traceback there as text, and its cause; however it travels.
        """
        for pickles in (False, True):
            server = await self.serve(pickles=pickles)
            queue = self.client()
            error = await self.errorOf(queue.call("fail", "as planned"), ValueError, WorkerError)
            self.assertEqual(error.args, ("as planned", 5))
            self.assertIn("in fail", error.remoteTraceback)
            self.assertIn("the reason", error.remoteTraceback)
            self.assertIsInstance(error.__cause__, KeyError)
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_classes(self) -> None:
        """
        Without pickles only registered classes are made anew; of others the text arrives.
        """
        await self.serve(pickles=False, wwu=Raising())
        queue = self.client()
        error = await self.errorOf(queue.call("known"), Known, WorkerError)
        self.assertEqual(error.args, (1, b"2"))
        self.assertEqual((error.detail, error.hidden if hasattr(error, "hidden") else None), ("more", None))
        error = await self.errorOf(queue.call("odd"), RemoteError)
        self.assertNotIsInstance(error, Odd)
        self.assertTrue(error.remoteType.endswith(".Odd"))
        self.assertIn("quite odd", str(error))
        error = await self.errorOf(queue.call("group"), WorkerError)
        self.assertIn("several", str(error))
        error = await self.errorOf(queue.call("leave"), RemoteError)
        self.assertEqual(error.remoteType, "builtins.SystemExit")
        error = await self.errorOf(queue.call("hostile"), RemoteError)
        self.assertLess(len(str(error)), 200_000)
        error = await self.errorOf(queue.call("poison"), PoisonTask)
        self.assertEqual(error.history, ("one", "two"))
        error = await self.errorOf(queue.call("missing"), FileNotFoundError)
        self.assertEqual((error.errno, error.filename), (2, "/nothing"))
        self.assertEqual(await self.within(LIMIT, queue.call("fine")), "fine")

    async def test_inProcesses(self) -> None:
        """
        An error of a child of the node arrives like any other.
        """
        await self.serve(processes=1, pickles=False)
        queue = self.client()
        error = await self.errorOf(queue.call("tests.echo", 1, 2, 3), TypeError, WorkerError)
        self.assertIn("positional argument", str(error))
        error = await self.errorOf(queue.call("tests.die"), PoisonTask, WorkerError)
        self.assertEqual(len(error.history), 3)

    async def test_damagedCall(self) -> None:
        """
        A call that cannot be decoded there is an error, of that call.
        """
        await self.serve(pickles=False)
        queue = self.client()
        await self.within(LIMIT, queue.call("echo"))
        worker = queue.workers()[0]
        worker._current.encoder._peer = _Mangling(worker._current.encoder._peer)
        await self.errorOf(queue.call("echo", 5), DecodeError)


class _Mangling:
    """
    A peer whose arguments arrive damaged.
    """

    def __init__(self, peer: Any) -> None:
        self._peer = peer
        self.mayCode = False
        self.identity = peer.identity
        self.serializer = self

    def dumps(self, value: Any) -> bytes:
        """
        Encode, and leave something out.
        """
        return self._peer.serializer.dumps(value)[:-1]  # type: ignore[no-any-return]


class _Hostile(Exception):
    """
    An exception that makes trouble when it is told of.
    """

    def __str__(self) -> str:
        return "\ud800" + "\x1b[2J" * 1_000_000

    def __repr__(self) -> str:
        raise SystemExit(3)


class Raising(WireWorkerUniverse):
    """
    Methods that raise exceptions of several classes.
    """

    def known(self) -> None:
        """
        Raise an exception of a class that is registered.
        """
        error = Known(1, b"2")
        error.detail = "more"  # type: ignore[attr-defined]
        error.hidden = object()  # type: ignore[attr-defined]
        raise error

    def odd(self) -> None:
        """
        Raise one that is not.
        """
        raise Odd("quite odd")

    def group(self) -> None:
        """
        Raise several.
        """
        raise ExceptionGroup("several", [ValueError(1), KeyError(2)])

    def leave(self) -> None:
        """
        Ask to end the program.
        """
        raise SystemExit(5)

    def hostile(self) -> None:
        """
        Raise one that makes trouble.
        """
        raise _Hostile(object())

    def poison(self) -> None:
        """
        Raise an error of the library with an attribute.
        """
        raise PoisonTask("again and again", ["one", "two"])

    def missing(self) -> None:
        """
        Raise an error of the system.
        """
        raise FileNotFoundError(2, "No such file", "/nothing")

    def fine(self) -> str:
        """
        Raise nothing.
        """
        return "fine"


class SizeTests(WireTestCase):
    """
    How large calls and results may be.
    """

    async def test_F42_sizes(self) -> None:
        """
        Bytes arrive whole, both ways, whatever their length.
        """
        await self.serve()
        queue = self.client()
        for size in (0, 65_535, 65_536, 65_537, 245_760, 245_761, 1 << 20, (1 << 20) + 1):
            data = os.urandom(size)
            self.assertEqual(await self.within(LIMIT, queue.call("echo", data)), data)

    async def test_large(self) -> None:
        """
        So do 32 MiB, as plain data and pickled; other calls go on meanwhile.
        """
        data = os.urandom(1 << 20) * 32
        for pickles in (False, True):
            server = await self.serve(pickles=pickles)
            queue = self.client()
            await self.within(LIMIT, queue.call("echo"))
            large = Outcome(queue.call("echo", data))
            longest = 0.0
            while not large.fired:
                began = time.monotonic()
                await deferLater(reactor, 0.0)
                longest = max(longest, time.monotonic() - began)
            self.assertEqual(large.value == data, True)
            # What is decoded, and what is encoded, holds up the reactor that both ends have here.
            self.assertLess(longest, 2.0)
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_pingsMeanwhile(self) -> None:
        """
        While 32 MiB go to a server and back, it answers pings all the time, half of them within a tenth of a second.
        """
        program = self.spawn().listening()
        queue = self.client()
        await self.within(LIMIT, queue.call("echo"))
        link = queue.workers()[0]._conversation.child
        data = os.urandom(1 << 20) * 32
        large = Outcome(queue.call("echo", data))
        pauses = []
        while not large.fired:
            began = time.monotonic()
            await self.within(LIMIT, link.callRemote(commands.Ping))
            pauses.append(time.monotonic() - began)
        self.assertTrue(large.value == data)
        self.assertGreater(len(pauses), 10)
        self.assertLess(sorted(pauses)[len(pauses) // 2], 0.1)
        await self.shutDown(queue)
        program.process.send_signal(signal.SIGTERM)
        self.assertEqual(program.end(10)[0], 0)

    async def test_S5_payload(self) -> None:
        """
        A call may be as long as the node says, and one byte more is refused before it is sent.
        """
        await self.serve(pickles=False, limit=10_000)
        queue = self.client()
        room = 10_000
        await self.within(LIMIT, queue.call("echo"))
        while True:
            outcome = await self.outcomeOf(queue.call("echo", bytes(room)))
            if outcome.failure is None:
                break
            self.assertIsInstance(outcome.error, PayloadTooLarge)
            self.assertIn("10000 are the most", str(outcome.error))
            room -= 1
        self.assertGreater(room, 9800)
        await self.errorOf(queue.call("echo", bytes(100_000)), PayloadTooLarge)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)

    async def test_S5_result(self) -> None:
        """
        A result may be as long as the worker says, and one that is longer does not travel; nor do items. Errors do.
        """
        await self.serve(pickles=False)
        queue = self.client(limit=1000)
        self.assertEqual(len(await self.within(LIMIT, queue.call("tests.limited", 900))), 900)
        for size in (1000, 10_000):
            error = await self.errorOf(queue.call("echo", bytes(size)), ResultTooLarge)
            self.assertIn("1000 are the most that travel here", str(error))
        error = await self.errorOf(queue.call("fail", "x" * 5000), ValueError)
        self.assertIn("x" * 1000, str(error))
        self.assertEqual(await self.itemsOf(queue, "count", 5000), list(range(5000)))
        await self.shutDown(queue)

    async def test_S5_itemTooLarge(self) -> None:
        """
        An item that is longer ends the stream, after those before it.
        """
        await self.serve(pickles=False, wwu=Sizes())
        queue = self.client(limit=1000)
        items = await self.within(LIMIT, queue.call("sizes", [10, 900, 1000]))
        lengths = []
        with self.assertRaises(ResultEncodeError):
            async for item in items:
                lengths.append(len(item))  # noqa: PERF401 -- an error follows
        self.assertEqual(lengths, [10, 900])
        self.assertEqual(await self.within(LIMIT, queue.call("fine")), "fine")

    async def test_resultsAreNotBoundedByTheNode(self) -> None:
        """
        How long a call may be says nothing of results.
        """
        await self.serve(limit=1000)
        queue = self.client()
        self.assertEqual(len(await self.within(LIMIT, queue.call("tests.echo", "x" * 500))), 500)
        self.assertEqual(len(await self.within(LIMIT, queue.call("echo", range(2000)))), 2000)
        self.assertEqual(len(await self.within(LIMIT, queue.call(bytes, 5000))), 5000)

    async def test_S5_limitsOfAFunction(self) -> None:
        """
        An exposed function may have limits of its own.
        """
        await self.serve(pickles=False)
        queue = self.client()
        self.assertEqual(len(await self.within(LIMIT, queue.call("tests.limited", 900))), 900)
        for size in (1000, 10_000):
            error = await self.errorOf(queue.call("tests.limited", size), ResultTooLarge)
            self.assertIn("1000 are the most for 'tests.limited'", str(error))
        self.assertEqual(await self.within(LIMIT, queue.call("tests.limited", 1, bytes(800))), b"\0")
        for size in (1000, 10_000):
            error = await self.errorOf(queue.call("tests.limited", 1, bytes(size)), PayloadTooLarge)
            self.assertIn("1000 are the most for 'tests.limited'", str(error))


class Sizes(WireWorkerUniverse):
    """
    Items of several sizes.
    """

    def sizes(self, sizes: list[int]) -> Any:
        """
        Generate bytes.
        """
        return (bytes(size) for size in sizes)

    def fine(self) -> str:
        """
        Return a text.
        """
        return "fine"


class StreamTests(WireTestCase):
    """
    Streams.
    """

    async def test_order(self) -> None:
        """
        All items arrive, in order, from generators of both kinds, of methods, threads and children.
        """
        await self.serve()
        queue = self.client()
        for number in (0, 1, 17, 5000):
            self.assertEqual(await self.itemsOf(queue, "count", number), list(range(number)))
        self.assertEqual(await self.itemsOf(queue, "countSlowly", 20), list(range(20)))
        self.assertEqual(await self.itemsOf(queue, "count", 500, thread=True), list(range(500)))
        await self.shutDown(queue)

    async def test_ofANodesWorkers(self) -> None:
        """
        Those of a node's threads and children do, too.
        """
        for workers in ({"threads": 1}, {"processes": 1}):
            server = await self.serve(**workers)
            queue = self.client()
            self.assertEqual(await self.itemsOf(queue, "tests.count", 3000), list(range(3000)))
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_leftEarly(self) -> None:
        """
        Who stops reading has the generator closed there, and its C{finally} run, wherever it is.
        """
        for workers in ({}, {"threads": 1}, {"processes": 1}):
            server = await self.serve(**workers)
            queue = self.client()
            for name in ("tests.count", "count", "countSlowly"):
                path = self.path()
                arguments = (1 << 30, 0.0, path) if name == "countSlowly" else (1 << 30, path)
                items = await self.within(LIMIT, queue.call(name, *arguments))
                async for item in items:
                    if item >= 5:
                        break
                await self.within(LIMIT, items.stop() or Deferred.fromCoroutine(_nothing()))
                await self.until(lambda path=path: "closed" in _textOf(path), f"the end of {name}")  # type: ignore[misc]
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_errorAfterItems(self) -> None:
        """
        The items before an error arrive, and then the error, not an end.
        """
        await self.serve(pickles=False)
        queue = self.client()
        for name, arguments in (("count", (40, "", True)), ("countSlowly", (5, 0.0, "", True))):
            items = await self.within(LIMIT, queue.call(name, *arguments))
            found = []
            with self.assertRaises(ValueError) as caught:
                async for item in items:
                    found.append(item)  # noqa: PERF401 -- an error follows
            self.assertEqual(found, list(range(arguments[0])))
            self.assertIn("behind the last", str(caught.exception))

    async def test_itemThatStays(self) -> None:
        """
        An item that does not travel ends the stream with an error, after those before it.
        """
        for pickles in (True, False):
            server = await self.serve(pickles=pickles)
            queue = self.client()
            items = await self.within(LIMIT, queue.call("countOddly"))
            found = []
            with self.assertRaises(ResultEncodeError):
                async for item in items:
                    found.append(item)  # noqa: PERF401 -- an error follows
            self.assertEqual(found, [1])
            await self.shutDown(queue)
            await self.within(LIMIT, server.stop())

    async def test_F53_consumerPauses(self) -> None:
        """
        A consumer that pauses is waited for, and not far ahead of; other calls go on.
        """
        await self.serve()
        queue = self.client()
        consumer = _Pausing()
        done = queue.call("count", 5000, consumer=consumer)
        await self.until(lambda: len(consumer.written) >= 10, "ten items")
        await deferLater(reactor, 0.1)
        self.assertEqual(len(consumer.written), 10)
        self.assertLess(len(self.universe.noted), 3000)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        consumer.producer.resumeProducing()
        self.assertIs(await self.within(LIMIT, done), consumer)
        self.assertEqual(consumer.written, list(range(5000)))

    async def test_lostMidway(self) -> None:
        """
        A stream that is cut off ends with an error that tells how many items there were.
        """
        server = await self.serve()
        queue = self.client(whenLost="reconnect")
        items = await self.within(LIMIT, queue.call("countSlowly", 1000, 0.01))
        found = []
        with self.assertRaises(WorkerLost) as caught:
            async for item in items:
                found.append(item)
                if len(found) == 3:
                    assert server.node is not None
                    server.node.sessions[0].transport.abortConnection()
        self.assertIn(f"after {len(found)} items", str(caught.exception))
        self.assertEqual(found, list(range(len(found))))


async def _nothing() -> None:
    return


def _textOf(path: str) -> str:
    return Path(path).read_text("utf-8") if os.path.exists(path) else ""


class _Pausing(Consumer):
    """
    Pauses after ten items.
    """

    def __init__(self) -> None:
        super().__init__()
        from twisted.internet.interfaces import IConsumer
        from zope.interface import alsoProvides

        alsoProvides(self, IConsumer)

    def write(self, data: Any) -> None:
        """
        Take an item.
        """
        super().write(data)
        if len(self.written) == 10:
            self.producer.pauseProducing()


class CancelTests(WireTestCase):
    """
    Cancelling calls.
    """

    async def test_F81_whatItWaitsFor(self) -> None:
        """
        A call that goes on is cancelled there, and its caller told at once.
        """
        await self.serve()
        queue = self.client()
        call = queue.call("telling", "one", 30.0)
        await self.until(lambda: ("begun", "one") in self.universe.noted, "the start")
        call.cancel()
        await self.errorOf(call, CancelledError)
        await self.until(lambda: ("cancelled", "one") in self.universe.noted, "the cancelling")
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        await self.shutDown(queue)

    async def test_F80_whatWaits(self) -> None:
        """
        One that has not begun never does: at the queue, at the worker, or at the node.
        """
        await self.serve(threads=1)
        queue = self.client(N_concurrent=5)
        path = self.path()
        first = queue.call("tests.sleep", 0.3)
        calls = [queue.call("tests.write", path, str(number)) for number in range(20)]
        await deferLater(reactor, 0.1)
        for call in calls:
            call.cancel()
            await self.errorOf(call, CancelledError)
        await self.within(LIMIT, first)
        self.assertEqual(await self.within(LIMIT, queue.call("tests.echo", 1)), 1)
        self.assertEqual(_textOf(path), "")
        await self.shutDown(queue)

    async def test_beforeThereIsAConnection(self) -> None:
        """
        And so one that no connection is there for yet.
        """
        queue = self.client()
        call = queue.call("echo", 1)
        call.cancel()
        await self.errorOf(call, CancelledError)

    async def test_inChildren(self) -> None:
        """
        One that computes in a child of the node is interrupted, and the child goes on.
        """
        await self.serve(processes=1)
        queue = self.client()
        pid, _ = await self.within(LIMIT, queue.call("tests.pid"))
        call = queue.call("tests.sleep", 30.0)
        await deferLater(reactor, 0.2)
        call.cancel()
        await self.errorOf(call, CancelledError)
        self.assertEqual((await self.within(LIMIT, queue.call("tests.pid")))[0], pid)
        await self.shutDown(queue)

    async def test_F82_afterTheResult(self) -> None:
        """
        Cancelling twice, or too late, does nothing.
        """
        await self.serve()
        queue = self.client()
        call = queue.call("echo", 1)
        self.assertEqual(await self.within(LIMIT, call), 1)
        call.cancel()
        call = queue.call("later", 30.0)
        await deferLater(reactor, 0.05)
        call.cancel()
        call.cancel()
        await self.errorOf(call, CancelledError)
        await self.shutDown(queue)

    async def test_many(self) -> None:
        """
        Of many calls, each second one cancelled at some time or other, the others have their values.
        """
        await self.serve(threads=2)
        queue = self.client()
        calls = [queue.call(("echo", "tests.echo", "later")[number % 3], 0.001 * (number % 7)) for number in range(300)]
        for number, call in enumerate(calls):
            if number % 2:
                reactor.callLater(0.0003 * number, call.cancel)
        for number, call in enumerate(calls):
            outcome = await self.outcomeOf(call)
            if not number % 2:
                self.assertIsNone(outcome.failure)
            elif outcome.failure is not None:
                self.assertIsInstance(outcome.error, CancelledError)
        await self.shutDown(queue)

    async def test_F115_clientVanishes(self) -> None:
        """
        The calls of a client that is gone are cancelled, and its iterators closed.
        """
        server = await self.serve()
        queue = self.client()
        path = self.path()
        call = queue.call("telling", "one", 30.0)
        items = await self.within(LIMIT, queue.call("countSlowly", 1 << 30, 0.001, path))
        await self.until(lambda: ("begun", "one") in self.universe.noted, "the start")
        left = await self.within(LIMIT, queue.detachWorker(1, crash=True))
        self.assertEqual(len(left), 1)
        await self.errorOf(call, WorkerLost)
        with self.assertRaises(WorkerLost):
            async for _ in items:
                pass
        await self.until(lambda: ("cancelled", "one") in self.universe.noted, "the cancelling")
        await self.until(lambda: "closed" in _textOf(path), "the end of the iterator")
        assert server.node is not None
        await self.until(lambda: server.node is not None and not server.node.sessions, "the end of the session")


class TimeLimitTests(WireTestCase):
    """
    Limits of the time that calls take.
    """

    async def test_inChildren(self) -> None:
        """
        A call that takes longer than its limit is ended there; one that may clean up is told so before.
        """
        await self.serve(processes=1, pickles=False)
        queue = self.client()
        await self.within(LIMIT, queue.call("tests.echo"))
        limited = queue.options(timeLimit=0.3)
        began = time.monotonic()
        await self.errorOf(limited.call("tests.sleep", 30.0), TimeLimitExceeded, TimeoutError)
        self.assertLess(time.monotonic() - began, 3.0)
        self.assertEqual(await self.within(LIMIT, limited.call("tests.echo", 1)), 1)
        self.assertEqual(await self.within(LIMIT, queue.options(softTimeLimit=0.2).call("tests.tidy", 30.0)), "tidy")
        await self.errorOf(queue.call("tests.hasty", 30.0), TimeLimitExceeded)
        await self.errorOf(queue.options(timeLimit=20.0).call("tests.hasty", 30.0), TimeLimitExceeded)
        self.assertEqual(await self.within(LIMIT, queue.call("tests.hasty", 0.0)), "done")
        await self.shutDown(queue)

    async def test_inThreads(self) -> None:
        """
        In a thread, likewise, though the thread goes on.
        """
        await self.serve(threads=1)
        queue = self.client()
        await self.errorOf(queue.options(timeLimit=0.2).call("tests.sleep", 1.0), TimeLimitExceeded)
        await self.errorOf(queue.options(timeLimit=0.2).call("block", 1.0, thread=True), TimeLimitExceeded)
        await self.errorOf(queue.call("tests.hasty", 1.0), TimeLimitExceeded)
        await self.shutDown(queue)

    async def test_inTheReactor(self) -> None:
        """
        In the reactor, what the call waits for is cancelled.
        """
        await self.serve()
        queue = self.client()
        await self.errorOf(queue.options(timeLimit=0.2).call("telling", "one", 30.0), TimeLimitExceeded)
        await self.until(lambda: ("cancelled", "one") in self.universe.noted, "the cancelling")
        await self.errorOf(queue.options(timeLimit=0.2).call("tests.wait", 30.0), TimeLimitExceeded)
        await self.errorOf(queue.options(softTimeLimit=0.2).call("later", 30.0), TimeLimitExceeded)
        self.assertEqual(await self.within(LIMIT, queue.options(timeLimit=5.0).call("later", 0.01, 1)), 1)
        await self.shutDown(queue)

    async def test_timeout(self) -> None:
        """
        A call that times out is run again, once.
        """
        await self.serve()
        queue = self.client()
        await self.errorOf(queue.call("telling", "one", 30.0, timeout=0.2), TimeoutError)
        self.assertEqual(self.universe.noted.count(("begun", "one")), 2)


class OrderTests(WireTestCase):
    """
    Series and niceness.
    """

    async def test_series(self) -> None:
        """
        Calls of a series are begun with in order by a node with several workers, and end in order.
        """
        await self.serve(processes=2)
        queue = self.client(series=["one"])
        path = self.path()
        # Both children have to import the module, which takes a while.
        await self.allOf([queue.call("tests.sleep", 0.2) for _ in range(8)])
        calls = [
            queue.call("tests.write", path, str(number), 0.01 * (number % 3), series="one") for number in range(40)
        ]
        await self.allOf(calls)
        self.assertEqual(_textOf(path).split(), [str(number) for number in range(40)])
        await self.shutDown(queue)

    async def test_qualifications(self) -> None:
        """
        A worker is qualified for C{wire} and C{remote}, and for what it is given.
        """
        await self.serve()
        worker = WireWorker(None, self.description, series=["mine", 5])
        queue = self.client(worker)
        for series in ("wire", "remote", "mine", 5, None):
            self.assertEqual(await self.within(LIMIT, queue.call("echo", 1, series=series)), 1)
        self.assertEqual((worker.cQualified, worker.iQualified), (["wire", "remote"], ["mine", 5]))

    async def test_niceness(self) -> None:
        """
        A node is given no more than it can run soon, so that what is urgent does not wait long.
        """
        await self.serve(threads=1)
        queue = self.client()
        await self.within(LIMIT, queue.call("tests.echo"))
        done: list[str] = []
        calls = [queue.call("tests.sleep", 0.02, "nice", niceness=10).addCallback(done.append) for _ in range(30)]
        await deferLater(reactor, 0.1)
        calls.append(queue.call("tests.sleep", 0.0, "urgent", niceness=-20).addCallback(done.append))
        await self.allOf(calls)
        self.assertLess(done.index("urgent"), 10)

    async def test_concurrent(self) -> None:
        """
        With C{N_concurrent} the node holds that many; without, as many as it has workers go on.
        """
        await self.serve()
        queue = self.client(N_concurrent=2)
        await self.within(LIMIT, queue.call("echo"))
        calls = [queue.call("telling", number, 0.1) for number in range(4)]
        await deferLater(reactor, 0.05)
        self.assertEqual(self.universe.noted, [("begun", 0), ("begun", 1)])
        await self.allOf(calls)
        self.universe.noted.clear()
        many = self.client()
        await self.within(LIMIT, many.call("echo"))
        calls = [many.call("telling", number, 0.1) for number in range(64)]
        await deferLater(reactor, 0.07)
        self.assertEqual(len(self.universe.noted), 64)
        await self.allOf(calls)


class NodeTests(WireTestCase):
    """
    Nodes: their capacity, and several clients.
    """

    async def test_capacity(self) -> None:
        """
        A worker has the capacity of its node.
        """
        await self.serve(threads=3)
        queue = self.client()
        await self.within(LIMIT, queue.call("tests.echo"))
        self.assertGreaterEqual(queue.workers()[0].capacity, 3)
        began = time.monotonic()
        await self.allOf([queue.call("tests.sleep", 0.2) for _ in range(6)])
        self.assertLess(time.monotonic() - began, 0.75)

    async def test_twoClients(self) -> None:
        """
        Two clients share a node, and neither waits until the other has no more calls.
        """
        await self.serve(threads=1)
        greedy, modest = self.client(N_concurrent=200), self.client()
        await self.allOf([greedy.call("tests.echo"), modest.call("tests.echo")])
        calls = [greedy.call("tests.sleep", 0.01, number) for number in range(200)]
        await deferLater(reactor, 0.1)
        began = time.monotonic()
        for number in range(5):
            self.assertEqual(await self.within(LIMIT, modest.call("tests.echo", number)), number)
        self.assertLess(time.monotonic() - began, 0.6)
        self.assertEqual(await self.allOf(calls), list(range(200)))
        self.assertSettled(greedy)

    async def test_F10_childDiesWhileIdle(self) -> None:
        """
        A call that comes while the node's only child is being replaced is run when there is one.
        """
        await self.serve(processes=1)
        queue = self.client()
        pid, _ = await self.within(LIMIT, queue.call("tests.pid"))
        os.kill(pid, 9)
        await deferLater(reactor, 0.05)
        other, _ = await self.within(LIMIT, queue.call("tests.pid"))
        self.assertNotEqual(pid, other)

    async def test_F10_oneOfTwoDies(self) -> None:
        """
        And one that comes while the other child is at a long call.
        """
        await self.serve(processes=2)
        queue = self.client()
        await self.within(LIMIT, queue.call("tests.pid"))
        long = queue.call("tests.sleep", 3.0)
        await deferLater(reactor, 0.1)
        pid, _ = await self.within(LIMIT, queue.call("tests.pid"))
        os.kill(pid, 9)
        await deferLater(reactor, 0.05)
        await self.within(2.5, queue.call("tests.pid"))
        long.cancel()
        await self.outcomeOf(long)

    async def test_updates(self) -> None:
        """
        An update is run when it is asked for, when a worker is attached later, and when there is a connection to a
        node that has not run it.
        """
        server = await self.serve()
        queue = self.client(whenLost="reconnect")
        self.assertEqual(await self.within(LIMIT, queue.update("note", "updated")), [1])
        assert server.node is not None
        sessions = server.node.sessions
        sessions[0].transport.abortConnection()
        await self.until(lambda: not sessions, "the end of the connection")
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        self.assertEqual(self.universe.noted, ["updated"])
        await self.within(LIMIT, server.stop())
        await self.within(LIMIT, server.start())
        await self.until(lambda: self.universe.noted == ["updated", "updated"], "the update")
        queue.attachWorker(WireWorker(None, self.description))
        await self.until(lambda: self.universe.noted == ["updated"] * 3, "the update of another worker")
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        await self.shutDown(queue)

    async def test_updateOfAllWorkers(self) -> None:
        """
        Every worker of a node runs an update, and so does the successor of a child, unless it was for the present ones.
        A connection that is made again to the same node changes nothing.
        """
        server = await self.serve(processes=2)
        queue = self.client(whenLost="reconnect")
        lasting, passing = f"{self.folder}/lasting", f"{self.folder}/passing"
        self.addCleanup(os.remove, lasting)
        self.addCleanup(os.remove, passing)
        await self.within(LIMIT, queue.update("tests.write", lasting, "x", 0.1))
        await self.within(LIMIT, queue.update("tests.write", passing, "x", 0.1, ephemeral=True))
        self.assertEqual((_lines(lasting), _lines(passing)), (2, 2))
        assert server.node is not None
        server.node.sessions[0].transport.abortConnection()
        pid, _ = await self.within(LIMIT, queue.call("tests.pid"))
        self.assertEqual((_lines(lasting), _lines(passing)), (2, 2))
        os.kill(pid, 9)
        await self.until(lambda: _lines(lasting) == 3, "the update of a child's successor")
        self.assertEqual(_lines(passing), 2)

    async def test_updateThatFailsInOneWorker(self) -> None:
        """
        Has failed.
        """
        await self.serve(processes=2)
        queue = self.client()
        path = f"{self.folder}/line"
        self.addCleanup(os.remove, path)
        [failure] = await self.within(LIMIT, queue.update("tests.once", path))
        self.assertIsInstance(failure.value, FileExistsError)

    async def test_updatesAreLimited(self) -> None:
        """
        A node does not keep any number of them.
        """
        self.patch(node, "UPDATES", 2)
        await self.serve()
        queue = self.client()
        for _ in range(2):
            await self.within(LIMIT, queue.update("note", "updated"))
        [failure] = await self.within(LIMIT, queue.update("note", "once more"))
        self.assertIsInstance(failure.value, QueueFull)
        self.assertEqual(self.universe.noted, ["updated"] * 2)
        # One that is for the present workers is not kept.
        self.assertEqual(await self.within(LIMIT, queue.update("note", "passing", ephemeral=True)), [3])

    async def test_updateInAThread(self) -> None:
        """
        An update that is to be run in a thread is, also in the same node after its restart.
        """
        server = await self.serve(wwu=Threads())
        queue = self.client(whenLost="reconnect")
        self.assertEqual(await self.within(LIMIT, queue.update("where", thread=True)), [True])
        await self.within(LIMIT, server.stop())
        await self.within(LIMIT, server.start())
        assert server.node is not None
        found: list[bool] = server.node.registry.find(b"seen", _anyone()).function()
        await self.until(lambda: len(found) == 2, "the update")
        self.assertEqual(found, [True, True])

    async def test_updateThatStays(self) -> None:
        """
        An update that cannot travel fails, and does not count against the worker.
        """
        await self.serve(pickles=False)
        queue = self.client()
        for _ in range(4):
            [failure] = await self.within(LIMIT, queue.update("note", object(), ephemeral=True))
            self.assertIsInstance(failure.value, EncodeError)
            [failure] = await self.within(LIMIT, queue.update(identity, 1))
            self.assertIsInstance(failure.value, EncodeError)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)


def _lines(path: str) -> int:
    """
    Return how many lines there are in a file.
    """
    try:
        with open(path) as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def _anyone() -> Any:
    from asynqueue.wire.identity import Identity

    return Identity("somebody", {"submit"}, "unix")


class Threads(WireWorkerUniverse):
    """
    Notes where it is run.
    """

    def __init__(self, wireServer: Any = None) -> None:
        super().__init__(wireServer)
        self._seen: list[bool] = []

    def where(self) -> bool:
        """
        Tell whether this is a thread of its own.
        """
        self._seen.append(threading.current_thread() is not threading.main_thread())
        return self._seen[-1]

    def seen(self) -> list[bool]:
        """
        Return what has been noted.
        """
        return self._seen


class ConnectionTests(WireTestCase):
    """
    Connections that come, go and are not there.
    """

    async def test_F105_beforeTheServer(self) -> None:
        """
        A worker waits for its server, and calls wait for the worker.
        """
        queue = self.client()
        call = queue.call("echo", 5)
        await deferLater(reactor, 0.15)
        await self.serve()
        self.assertEqual(await self.within(LIMIT, call), 5)

    async def test_resigns(self) -> None:
        """
        When the connection is lost, the worker resigns; what it had goes to others.
        """
        server = await self.serve()
        wire = WireWorker(None, self.description, series=["shared"])
        queue = self.client(wire)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        call = queue.call(os.getpid, series="shared")
        self.assertEqual(await self.within(LIMIT, call), os.getpid())
        await self.within(LIMIT, server.stop())
        await self.until(lambda: not queue.workers(), "the resignation")
        call = queue.call(identity, 7, series="shared")
        queue.attachWorker(AsyncWorker(["shared"]))
        self.assertEqual(await self.within(LIMIT, call), 7)

    async def test_reconnects(self) -> None:
        """
        Or it connects again, and goes on.
        """
        server = await self.serve()
        queue = self.client(whenLost="reconnect")
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        await self.within(LIMIT, server.stop())
        call = queue.call("echo", 2)
        await deferLater(reactor, 0.1)
        await self.serve()
        self.assertEqual(await self.within(LIMIT, call), 2)
        self.assertEqual(len(queue.workers()), 1)
        await self.shutDown(queue)

    async def test_stopInEachPhase(self) -> None:
        """
        A queue can be shut down before there is a server, while a connection is made, while it says hello, and later.
        """
        queue = self.client()
        await self.shutDown(queue)
        queue = self.client()
        await deferLater(reactor, 0.05)
        call = queue.call("echo", 1)
        await self.within(LIMIT, queue.shutdown(drain=False))
        await self.errorOf(call, QueueShutdown)
        await self.serve(threads=1)
        for turns in range(12):
            queue = self.client()
            for _ in range(turns):
                await deferLater(reactor, 0)
            await self.shutDown(queue)
        for turns in range(12):
            queue = self.client()
            call = queue.call("tests.sleep", 0.02, turns)
            for _ in range(turns):
                await deferLater(reactor, 0)
            done = queue.shutdown()
            self.assertEqual(await self.within(LIMIT, call), turns)
            await self.within(LIMIT, done)

    async def test_crashInEachPhase(self) -> None:
        """
        And a worker can be crashed: a call that it has is lost, one that it has not got yet waits for another.
        """
        await self.serve()
        kinds: list[Any] = []
        # Some turns later there is a connection.
        for turns in range(40):
            queue = self.client()
            call = queue.call("later", 5.0)
            for _ in range(turns):
                await deferLater(reactor, 0)
            hasIt = bool(queue.workers()[0].tasks)
            left = await self.within(LIMIT, queue.detachWorker(1, crash=True))
            self.assertEqual((len(left), call.called), (int(hasIt), hasIt))
            self.assertEqual(queue.workers(), [])
            await self.within(LIMIT, queue.shutdown(drain=False, deadline=0.1))
            kinds.append(WorkerLost if hasIt else QueueShutdown)
            error = await self.errorOf(call, kinds[-1])
            self.assertIs(type(error), kinds[-1])
            self.assertSettled(queue)
        self.assertEqual((kinds[0], kinds[-1]), (QueueShutdown, WorkerLost))

    async def test_startsAreSettled(self) -> None:
        """
        What C{attachWorker} returns fires, also if the worker is let go of before it has a connection.
        """
        for end in (
            lambda queue: queue.shutdown(),
            lambda queue: queue.detachWorker(1),
            lambda queue: queue.detachWorker(1, crash=True),
        ):
            queue = TaskQueue(returnFailure=True)
            attached = queue.attachWorker(WireWorker(None, self.description))
            await self.within(LIMIT, end(queue))
            await self.errorOf(attached, WorkerLost)
            await self.within(LIMIT, queue.shutdown())

    async def test_detach(self) -> None:
        """
        A worker that is detached is done with its calls first.
        """
        await self.serve()
        queue = self.client()
        call = queue.call("later", 0.2, 5)
        await deferLater(reactor, 0.1)
        self.assertEqual(await self.within(LIMIT, queue.detachWorker(1)), [])
        self.assertEqual(await self.within(LIMIT, call), 5)

    async def test_attachAgain(self) -> None:
        """
        A worker that has been detached, or crashed, can be attached to another queue, at once or later.
        """
        await self.serve()
        worker = WireWorker(None, self.description)
        for crash in (False, True, True):
            queue = self.client(worker)
            self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
            await self.within(LIMIT, queue.detachWorker(worker, crash=crash))
        queue = self.client(worker)
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 1)), 1)
        with self.assertRaises(ValueError):
            self.client(worker)

    async def test_withoutAQueue(self) -> None:
        """
        A worker that is told to stop before it has a connection runs what it has been given, when it has one.
        """
        from asynqueue.tasks import Task

        worker = self.makeWorker()
        name: Any = "echo"
        task = Task(name, (5,), {}, 0, None)
        worker.run(task)
        stopped = worker.stop()
        self.assertFalse(stopped.called)
        await self.serve()
        self.assertEqual(await self.within(LIMIT, task.d), ("r", 5))
        await self.within(LIMIT, stopped)

    async def test_crashedWithoutAQueue(self) -> None:
        """
        One that is crashed before it has a connection gives back what it has been given.
        """
        from asynqueue.tasks import Task

        worker = self.makeWorker()
        name: Any = "echo"
        task = Task(name, (5,), {}, 0, None)
        worker.run(task)
        self.assertEqual(worker.tasks, [task])
        self.assertEqual(worker.crash(), [task])
        self.assertEqual(worker.tasks, [])

    async def test_repr(self) -> None:
        """
        Tells where it leads, and whether there is a connection.
        """
        await self.serve()
        worker = WireWorker(None, self.description)
        self.assertIn("not connected", repr(worker))
        queue = self.client(worker)
        await self.within(LIMIT, queue.call("echo"))
        self.assertEqual(repr(worker), f"<WireWorker to {self.description!r}, connected>")


class ServerTests(WireTestCase):
    """
    Servers that start and stop.
    """

    async def test_F104_graceful(self) -> None:
        """
        A server that stops finishes what it has begun with; what it has not goes to another, at once.
        """
        server = await self.serve(threads=1, grace=5.0)
        queue = self.client(N_concurrent=10)
        await self.within(LIMIT, queue.call("tests.echo"))
        path = self.path()
        first = queue.call("tests.write", path, "first", 0.4)
        others = [queue.call("tests.write", path, str(number), 0.0) for number in range(8)]
        await deferLater(reactor, 0.1)
        stopped = server.stop()
        began = time.monotonic()
        self.description = f"unix:{self.folder}/other"
        await self.serve(threads=1)
        queue.attachWorker(WireWorker(None, self.description))
        await self.allOf(others)
        self.assertLess(time.monotonic() - began, 0.35)
        self.assertEqual(await self.within(LIMIT, first), "first")
        await self.within(LIMIT, stopped)
        self.assertEqual(sorted(_textOf(path).split()), sorted(["first", *map(str, range(8))]))
        self.assertEqual(queue.statistics().reruns, 0)
        await self.shutDown(queue)

    async def test_graceIsOver(self) -> None:
        """
        What takes longer than the grace is cancelled.
        """
        server = await self.serve(grace=0.3)
        queue = self.client()
        call = queue.options(idempotent=False).call("telling", "one", 30.0)
        await self.until(lambda: ("begun", "one") in self.universe.noted, "the start")
        began = time.monotonic()
        await self.within(LIMIT, server.stop())
        self.assertLess(time.monotonic() - began, 2.0)
        await self.errorOf(call, WorkerLost)
        self.assertIn(("cancelled", "one"), self.universe.noted)

    async def test_stopInEachPhase(self) -> None:
        """
        A server can be stopped before it is started, while it starts, twice, and started again.
        """
        server = self.makeServer(processes=1)
        await self.within(LIMIT, server.stop())
        starting = server.start()
        await self.within(LIMIT, server.stop())
        await self.outcomeOf(starting)
        self.assertIsNone(server.port)
        self.assertFalse(os.path.exists(f"{self.folder}/socket"))
        await self.within(LIMIT, server.start())
        self.assertRaises(RuntimeError, server.start)
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call("tests.echo", 5)), 5)
        call = queue.call("tests.sleep", 0.3)
        await deferLater(reactor, 0.1)
        one, two = server.stop(), server.stop()
        await self.within(LIMIT, two)
        self.assertTrue(one.called, "the second stop() was done before the first")
        await self.within(LIMIT, call)
        await self.within(LIMIT, server.start())

    async def test_stopWithSilentClients(self) -> None:
        """
        Connections that have not said hello end with the server.
        """
        server = await self.serve()
        from twisted.internet.protocol import Factory, Protocol

        from asynqueue.wire import clientEndpoint

        silent = Protocol()
        lost: list[Any] = []
        silent.connectionLost = lost.append  # type: ignore[assignment,method-assign]
        factory = Factory()
        factory.buildProtocol = lambda addr: silent  # type: ignore[method-assign]
        await self.within(LIMIT, clientEndpoint(reactor, self.description).connect(factory))
        await deferLater(reactor, 0.05)
        await self.within(LIMIT, server.stop())
        await self.until(lambda: lost, "the end of the connection")

    async def test_cannotListen(self) -> None:
        """
        A server that cannot listen says so, and leaves nothing; it can be started again.
        """
        await self.serve()
        other = self.makeServer(threads=1, processes=1)
        error = await self.errorOf(other.start(), Exception)
        self.assertIn("another process listens", str(error))
        self.assertIsNone(other.node)

    async def test_service(self) -> None:
        """
        A server is a service.
        """
        from twisted.application.service import IService, MultiService

        server = self.makeServer()
        self.assertTrue(IService.providedBy(server.service))
        parent = MultiService()
        server.service.setServiceParent(parent)
        parent.startService()
        queue = self.client()
        self.assertEqual(await self.within(LIMIT, queue.call("echo", 5)), 5)
        await self.within(LIMIT, parent.stopService())
        self.assertIsNone(server.port)

    async def test_stopsItself(self) -> None:
        """
        A method may stop the server that has its universe.
        """
        server = await self.serve()
        queue = self.client()
        await self.within(LIMIT, queue.call("stopServer"))
        await self.until(lambda: not queue.workers(), "the end of the connection")
        self.assertIsNone(server.port)


class ArgumentTests(SynchronousTestCase):
    """
    Arguments that are wrong: the message names them.
    """

    def assertNamed(self, argument: str, make: Callable[[], Any]) -> None:
        """
        Making something fails, with an error that names an argument.
        """
        with self.assertRaises((TypeError, ValueError)) as caught:
            make()
        self.assertIn(argument, str(caught.exception))

    def test_worker(self) -> None:
        """
        Of a worker.
        """
        make = partial(WireWorker, None, "unix:/tmp/nothing/socket")
        wrongs: Any
        for name, wrongs in {
            "series": ["one", b"one"],
            "N_concurrent": [0, -1, 1.5, "2", True],
            "whenLost": ["", "wait", None],
            "limit": [0, -1, "1", None],
            "timeout": [-1, "1", float("nan"), None],
        }.items():
            for wrong in wrongs:
                self.assertNamed(name, partial(make, **{name: wrong}))
        self.assertRaises(TypeError, make, series=[[]])
        for wrong in (object(), Universe, "Universe"):
            self.assertRaises(TypeError, WireWorker, wrong, "unix:/tmp/nothing/socket")
        for description in ("", "nothing", 5, None):
            self.assertRaises((TypeError, ValueError, InsecureTransport), WireWorker, None, description)
        for description in ("tcp:localhost:1", "ssl:localhost:1", "tls:localhost:1"):
            with self.assertRaises(InsecureTransport) as caught:
                WireWorker(None, description)
            switch = "insecure_plaintext" if description.startswith("tcp:") else "insecure_one_way_tls"
            self.assertIn(f"{switch}=True", str(caught.exception))

    def test_server(self) -> None:
        """
        Of a server.
        """
        make = partial(WireServer, "unix:/tmp/nothing/socket", None, insecure_root=IS_ROOT)
        wrongs: Any
        for name, wrongs in {
            "threads": [-1, 1.5, "2", True, None],
            "processes": [-1, 1.5, "2", True, None],
            "serializer": ["pickle", "yaml", None, 5],
            "limit": [0, -1, "1", None],
            "grace": [-1, "1", float("inf"), None],
            "name": ["", "x" * 300, 5],
            "plaintextRoles": ["submit", ["nothing"]],
        }.items():
            for wrong in wrongs:
                if name == "plaintextRoles":
                    maker = partial(
                        WireServer,
                        "tcp:0:interface=127.0.0.1",
                        None,
                        insecure_root=IS_ROOT,
                        insecure_plaintext=True,
                    )
                    self.assertNamed(name, partial(maker, **{name: wrong}))
                else:
                    self.assertNamed(name, partial(make, **{name: wrong}))
        for wrong in (object(), 5, "asynqueue.TaskQueue"):
            self.assertRaises(TypeError, WireServer, "unix:/tmp/nothing/socket", wrong, insecure_root=IS_ROOT)
        for wrong in ("nothing.at.all", "asynqueue.wire.Nothing", "", "nothing", ".", "asynqueue..wire"):
            with self.assertRaises(ImportError) as caught:
                WireServer("unix:/tmp/nothing/socket", wrong, insecure_root=IS_ROOT)
            self.assertIn(repr(wrong), str(caught.exception))

    def test_expose(self) -> None:
        """
        Of exposed functions.
        """
        name: Any
        for name in ("", "Upper", "_x", "1x", "x" * 65, "a-b", "a b", "\u00e9", 5, None, "x\n"):
            self.assertNamed("name", partial(expose, name))
        for keywords in (
            {"roles": "submit"},
            {"roles": ["nobody"]},
            {"maxArguments": 0},
            {"maxResult": -1},
            {"timeLimit": -1},
            {"timeLimit": "1"},
        ):
            self.assertNamed(next(iter(keywords)), partial(expose, "tests.never", **keywords))
        with self.assertRaises(TypeError):
            expose("tests.never")(5)  # type: ignore[arg-type]
        with self.assertRaises(ValueError) as caught:
            expose("tests.echo")(identity)
        self.assertIn("another function exposed as 'tests.echo'", str(caught.exception))
        self.assertIs(expose("tests.echo")(echo), echo)
        self.assertNotIn("tests.never", Registry().names())

    def test_universe(self) -> None:
        """
        What is no universe is told so.
        """
        for wrong in (object(), Universe, None):
            with self.assertRaises(TypeError) as caught:
                WireWorkerUniverse.check(wrong)
            self.assertIn("WireWorkerUniverse", str(caught.exception))
        WireWorkerUniverse.check(Universe())
        self.assertNotIn("Inner", Universe().methodNames())
        self.assertNotIn("attribute", Universe().methodNames())

    def test_registerError(self) -> None:
        """
        Only classes of exceptions can be registered.
        """
        for wrong in (int, ValueError(), "ValueError", None):
            with self.assertRaises(TypeError):
                registerError(wrong)  # type: ignore[arg-type]
