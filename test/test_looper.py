"""
Tests of the looper by itself: calls and streams in one thread, without a queue.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar, copy_context
from types import GeneratorType
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from asynqueue import Deferator, ThreadQueue, ThreadWorker, currentCall, deferToThread
from asynqueue.errors import ImplementationError, NotReadyError, ThreadError, WorkerLost
from asynqueue.iteration import IterationProducer
from asynqueue.testing.tasks import fail, identity
from asynqueue.threads import ThreadLooper
from test.streaming import GRACE, WINDOW, AsyncNumbers, Numbers, Taker
from test.support import Outcome
from test.test_threads import CountingReactor, ThreadTestCase

reactor: Any = globalReactor

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class LooperTestCase(ThreadTestCase):
    """
    Tests of a looper. After each, it is stopped, its thread has gone, and nothing has been logged.
    """

    def setUp(self) -> None:
        """
        Make the looper.
        """
        super().setUp()
        self.looper = self.makeLooper()

    def makeLooper(self, **keywords: Any) -> ThreadLooper:
        """
        Make a looper, which is crashed at the end of the test if it has not been stopped.
        """
        looper = ThreadLooper(**{"grace": GRACE, **keywords})
        self.addCleanup(looper.crash)
        return looper

    def tearDown(self) -> None:
        """
        What the test has not named is not in the log.
        """
        self.assertNothingLogged()

    async def read(self, deferator: Any, most: int | None = None) -> list[Any]:
        """
        Read a stream to its end, or so many items. An error that it ends with is the last of the list.
        """
        items: list[Any] = []
        try:
            async for item in deferator:
                items.append(item)
                if len(items) == most:
                    break
        except Exception as error:  # the test looks at it
            items.append(error)
        return items

    async def rest(self, reader: Any) -> list[Any]:
        """
        Read what is left. An error that it ends with is the last of the list.
        """
        items: list[Any] = []
        try:
            while True:
                items.append(await anext(reader))
        except StopAsyncIteration:
            return items
        except Exception as error:  # the test looks at it
            return [*items, error]

    async def begun(self, numbers: Numbers, number: int = 1) -> tuple[Any, Any]:
        """
        Have a generator begun, and read some of its items.

        @return: Its Deferator, and what reads it.
        """
        deferator = await self.bounded(self.looper.deferToThread(numbers))
        reader = aiter(deferator)
        self.assertEqual([await anext(reader) for _ in range(number)], list(range(number)))
        return deferator, reader

    async def fired(self, outcome: Outcome) -> None:
        """
        Wait until a Deferred has fired.
        """
        await self.until(lambda: outcome.fired, "the Deferred has fired")

    async def written(self, taker: Taker, number: int) -> None:
        """
        Wait until a consumer has so many items at least.
        """
        await self.until(lambda: len(taker.written) >= number, f"{number} items have been written")

    async def stopped(self) -> None:
        """
        Stop the looper, which must come to an end by itself.
        """
        thread = self.looper.thread
        self.assertIsNone(await self.bounded(self.looper.stop()))
        self.assertEqual((self.looper.threadRunning, self.looper.thread), (False, None))
        self.assertFalse(thread is not None and thread.is_alive())
        self.assertEqual(self.looper.tasks, {})

    async def closed(self, numbers: Numbers, thread: threading.Thread | None = None) -> None:
        """
        Wait until all generators are closed, which must have been in one thread: the looper's.
        """
        await self.until(lambda: numbers.closed == numbers.begun > 0, "all generators are closed")
        self.assertEqual(numbers.threads, {thread or self.looper.thread})


class CallTests(LooperTestCase):
    """
    L{ThreadLooper.call}, which tells the status.
    """

    async def test_status(self) -> None:
        """
        r and the result; e and the traceback; i and a Deferator; t and nothing.
        """
        self.assertEqual(await self.bounded(self.looper.call(divmod, 7, 2)), (b"r", (3, 1)))
        self.assertEqual(await self.bounded(self.looper.call(dict, a=1)), (b"r", {"a": 1}))
        self.assertEqual(await self.bounded(self.looper.call(int)), (b"r", 0))
        self.assertEqual(await self.bounded(self.looper.call(list, "ab")), (b"r", ["a", "b"]))
        status, text = await self.bounded(self.looper.call(fail, KeyError, "where"))
        self.assertEqual(status, b"e")
        self.assertIsInstance(text, str)
        self.assertIn("Traceback", text)
        self.assertIn("KeyError: 'where'", text)
        numbers = Numbers(40)
        status, deferator = await self.bounded(self.looper.call(numbers))
        self.assertEqual(status, b"i")
        self.assertIsInstance(deferator, Deferator)
        self.assertEqual(await self.read(deferator), list(range(40)))
        await self.closed(numbers)
        gate = self.makeGate()
        self.assertEqual(await self.bounded(self.looper.call(gate, timeout=0.05)), (b"t", None))
        self.assertTrue(gate.call.cancelled)
        gate.open()
        await self.stopped()

    async def test_F04_exits(self) -> None:
        """
        What would end a program is an error like any other.
        """
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
            status, text = await self.bounded(self.looper.call(fail, kind, "leaving"))
            self.assertEqual((status, kind.__name__ in text), (b"e", True))
        self.assertEqual(await self.bounded(self.looper.call(int)), (b"r", 0))

    async def test_order(self) -> None:
        """
        Calls run in order, one after the other, in one thread; with C{doNext}, before those that have not been started.
        """
        gate = self.makeGate()
        order: list[Any] = []
        calls = [self.looper.call(gate)]
        await self.bounded(gate.entered.get())
        calls += [self.looper.call(order.append, number) for number in range(500)]
        calls += [self.looper.call(order.append, text, doNext=True) for text in "ab"]
        calls.append(self.looper.call(order.append, "last", doNext=False))
        gate.open()
        await self.bounded(gatherResults(calls))
        self.assertEqual(order, ["b", "a", *range(500), "last"])
        threads = await self.bounded(gatherResults([self.looper.call(threading.current_thread) for _ in range(50)]))
        self.assertEqual({thread for _, thread in threads}, {self.looper.thread})

    async def test_arguments(self) -> None:
        """
        The function gets all but the looper's own keywords.
        """
        result = await self.bounded(self.looper.call(lambda *args, **kw: (args, kw), 1, series=2, niceness=3, raw=True))
        self.assertEqual(result, (b"r", ((1,), {"series": 2, "niceness": 3})))

    async def test_notCallable(self) -> None:
        """
        Is a TypeError at once, and so is a consumer that is none.
        """
        for method in (self.looper.call, self.looper.deferToThread):
            self.assertRaises(TypeError, method, 5)
            self.assertRaises(TypeError, method, int, consumer=[])
        self.assertEqual((self.looper.threadRunning, self.looper.tasks), (False, {}))

    async def test_raw(self) -> None:
        """
        As the looper has it, unless the call says otherwise.
        """
        for isRaw in (False, True):
            looper = self.looper = self.makeLooper(raw=isRaw)
            self.assertEqual(looper.raw, isRaw)
            for options in ({}, {"raw": not isRaw}, {"raw": isRaw}, {"raw": None}):
                status, result = await self.bounded(looper.call(Numbers(3), **options))
                expected = isRaw if options.get("raw") is None else options["raw"]
                self.assertEqual((status, type(result)), (b"r", GeneratorType) if expected else (b"i", Deferator))
                self.assertEqual(list(result) if expected else await self.read(result), [0, 1, 2])
            await self.stopped()

    async def test_empty(self) -> None:
        """
        Nothing to iterate over is a stream without items.
        """
        status, result = await self.bounded(self.looper.call(Numbers(0)))
        self.assertEqual(status, b"i")
        self.assertEqual(await self.read(result), [])
        await self.stopped()

    async def test_consumer(self) -> None:
        """
        The consumer gets the items, and then the caller the consumer, with the status i.
        """
        for number in (0, 1, WINDOW, 100):
            taker = Taker()
            self.assertEqual(await self.bounded(self.looper.call(Numbers(number), consumer=taker)), (b"i", taker))
            self.assertEqual(taker.written, list(range(number)))
            self.assertEqual((taker.registered, taker.unregistered), ([True], 1))
        taker = Taker()
        self.assertEqual(await self.bounded(self.looper.call(int, "5", consumer=taker)), (b"r", 5))
        self.assertEqual(taker.registered, [])
        await self.stopped()

    async def test_Z22_errors(self) -> None:
        """
        An error of the generator reaches whoever reads, after the items before it; with a consumer, it is the status.
        """
        for number in (1, WINDOW, 40):
            numbers = Numbers(number, ValueError("bad"))
            status, deferator = await self.bounded(self.looper.call(numbers))
            *items, error = await self.read(deferator)
            self.assertEqual((status, items), (b"i", list(range(number))))
            self.assertIsInstance(error, ThreadError)
            self.assertIsInstance(error, ValueError)
            taker = Taker()
            numbers = Numbers(number, ValueError("bad"))
            status, text = await self.bounded(self.looper.call(numbers, consumer=taker))
            self.assertEqual((status, taker.written), (b"e", list(range(number))))
            self.assertIn("ValueError: bad", text)

    async def test_F57_write(self) -> None:
        """
        So is what the consumer raises.
        """

        def refuse(item: int) -> None:
            if item == 20:
                raise RuntimeError("no more")

        numbers = Numbers()
        status, text = await self.bounded(self.looper.call(numbers, consumer=Taker(refuse)))
        self.assertEqual(status, b"e")
        self.assertIn("no more", text)
        await self.closed(numbers)
        await self.stopped()

    async def test_awaited(self) -> None:
        """
        What a function returns as a Deferred or coroutine is waited for, also if that gives an iterator.
        """

        async def work(value: Any) -> Any:
            await deferLater(reactor, 0)
            return value

        async def bad() -> None:
            raise KeyError("bad")

        self.assertEqual(await self.bounded(self.looper.call(work, 5)), (b"r", 5))
        inner: Deferred[int] = Deferred()
        call = self.looper.call(identity, inner)
        self.assertEqual(await self.bounded(self.looper.call(int)), (b"r", 0))
        inner.callback(6)
        self.assertEqual(await self.bounded(call), (b"r", 6))
        status, text = await self.bounded(self.looper.call(bad))
        self.assertEqual((status, "KeyError: 'bad'" in text), (b"e", True))
        status, deferator = await self.bounded(self.looper.call(work, iter([7, 8])))
        self.assertEqual((status, await self.read(deferator)), (b"i", [7, 8]))
        numbers = AsyncNumbers(40)
        status, deferator = await self.bounded(self.looper.call(numbers))
        self.assertEqual((status, await self.read(deferator)), (b"i", list(range(40))))
        self.assertEqual(numbers.threads, {threading.main_thread()})
        taker = Taker()
        self.assertEqual(await self.bounded(self.looper.call(AsyncNumbers(5), consumer=taker)), (b"i", taker))
        self.assertEqual(taker.written, list(range(5)))
        status, result = await self.bounded(self.looper.call(work, iter([9]), raw=True))
        self.assertEqual((status, list(result)), (b"r", [9]))

    async def test_timeout(self) -> None:
        """
        A call that does not come to its end in time, started or not, gets status t.
        """
        gate = self.makeGate()
        running = self.looper.call(gate, timeout=0.05)
        await self.bounded(gate.entered.get())
        ran: list[int] = []
        waiting = self.looper.call(ran.append, 1, timeout=0.01)
        self.assertEqual(await self.bounded(waiting), (b"t", None))
        self.assertEqual(await self.bounded(running), (b"t", None))
        # The thread has been written off, and another one goes on.
        self.assertEqual(await self.bounded(self.looper.call(int)), (b"r", 0))
        gate.open()
        self.assertEqual(ran, [])
        await self.stopped()

    async def test_timeoutInTime(self) -> None:
        """
        One that does leaves no timer.
        """
        for func, value in ((int, (b"r", 0)), (lambda: fail(KeyError), None)):
            result = await self.bounded(self.looper.call(func, timeout=100))
            self.assertEqual(result if value else result[0], value or b"e")
        call = self.looper.call(int, timeout=100)
        call.cancel()
        await self.bounded(self.assertFailure(call, CancelledError))
        await self.stopped()

    async def test_late(self) -> None:
        """
        A generator that comes after the time is up, or after a cancellation, is closed in its thread.
        """
        for options in ({"timeout": 0.02}, {}):
            numbers = Numbers()
            gate = self.makeGate(numbers.begin)
            call = self.looper.call(gate, **options)
            outcome = Outcome(call)
            thread = await self.bounded(gate.entered.get())
            if options:
                await self.fired(outcome)
                self.assertEqual(outcome.value, (b"t", None))
            else:
                call.cancel()
                self.assertEqual(outcome.kind, CancelledError)
            gate.open()
            await self.closed(numbers, thread)
            self.assertLessEqual(numbers.made, 1 + WINDOW)
        await self.stopped()

    async def test_context(self) -> None:
        """
        The caller's context is there, in calls and generators.
        """
        seen: list[Any] = []

        def look(_: int = 0) -> None:
            seen.append((variable.get(), currentCall() is not None))

        def call() -> list[Deferred[Any]]:
            variable.set("the caller's")
            numbers = Numbers(3)
            numbers.before = look
            return [self.looper.call(look), self.looper.call(numbers, consumer=Taker())]

        await self.bounded(gatherResults(copy_context().run(call)))
        self.assertEqual(seen, [("the caller's", True)] * 4)


class DeferToThreadTests(LooperTestCase):
    """
    L{ThreadLooper.deferToThread}, which gives the result.
    """

    async def test_results(self) -> None:
        """
        The result; a Deferator for an iterator; the consumer after everything; or a L{ThreadError}.
        """
        self.assertEqual(await self.bounded(self.looper.deferToThread(int, "5")), 5)
        error = await self.bounded(self.assertFailure(self.looper.deferToThread(fail, KeyError, "where"), ThreadError))
        self.assertIsInstance(error, KeyError)
        self.assertIn("where", str(error))
        numbers = Numbers(40)
        deferator = await self.bounded(self.looper.deferToThread(numbers))
        self.assertIsInstance(deferator, Deferator)
        self.assertEqual(await self.read(deferator), list(range(40)))
        await self.closed(numbers)
        taker = Taker()
        self.assertIs(await self.bounded(self.looper.deferToThread(Numbers(40), consumer=taker)), taker)
        self.assertEqual(taker.written, list(range(40)))
        result = await self.bounded(self.looper.deferToThread(Numbers(2), raw=True))
        self.assertEqual(list(result), [0, 1])
        await self.stopped()

    async def test_Z22_errors(self) -> None:
        """
        An error of the generator is a L{ThreadError} of its class, for the reader or, with a consumer, for the caller.
        """
        for number in (1, 40):
            deferator = await self.bounded(self.looper.deferToThread(Numbers(number, ValueError("bad"))))
            *items, error = await self.read(deferator)
            self.assertEqual(items, list(range(number)))
            self.assertIsInstance(error, ThreadError)
            self.assertIsInstance(error, ValueError)
            taker = Taker()
            call = self.looper.deferToThread(Numbers(number, ValueError("bad")), consumer=taker)
            error = await self.bounded(self.assertFailure(call, ThreadError))
            self.assertIsInstance(error, ValueError)
            self.assertEqual((taker.written, taker.unregistered), (list(range(number)), 1))

    async def test_cancelBeforeTheStart(self) -> None:
        """
        Such a call is never run.
        """
        gate = self.makeGate()
        running = self.looper.deferToThread(gate)
        await self.bounded(gate.entered.get())
        ran: list[int] = []
        waiting = self.looper.deferToThread(ran.append, 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        gate.open()
        self.assertEqual(await self.bounded(running), "through")
        await self.stopped()
        self.assertEqual(ran, [])

    async def test_cancelWhileRunning(self) -> None:
        """
        Such a call knows, and its thread is written off.
        """
        gate = self.makeGate()
        running = self.looper.deferToThread(gate)
        thread = await self.bounded(gate.entered.get())
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertTrue(gate.call.cancelled)
        other = await self.bounded(self.looper.deferToThread(threading.current_thread))
        self.assertIsNot(other, thread)
        self.assertIs(self.looper.thread, other)
        gate.open()
        await self.ended(thread)
        await self.stopped()

    async def test_cancelWhileStreaming(self) -> None:
        """
        With a consumer that has paused, or is being written to, the generator is closed.
        """
        for isPaused in (False, True):
            numbers = Numbers()
            taker = Taker(pauseAt=20 if isPaused else None)
            call = self.looper.deferToThread(numbers, consumer=taker)
            await self.written(taker, 21)
            call.cancel()
            self.failureResultOf(call, CancelledError)
            number = len(taker.written)
            await self.closed(numbers)
            self.assertEqual((len(taker.written), taker.unregistered), (number, 1))
        await self.stopped()

    async def test_F52_stopProducing(self) -> None:
        """
        So it is when the consumer goes away.
        """
        numbers = Numbers()
        taker = Taker(lambda item: taker.producer.stopProducing() if item == 20 else None)
        call = self.looper.deferToThread(numbers, consumer=taker)
        await self.bounded(self.assertFailure(call, CancelledError))
        await self.closed(numbers)
        self.assertEqual(len(taker.written), 21)
        await self.stopped()

    async def test_leaving(self) -> None:
        """
        A stream that is left, in whatever way, has its generator closed in the thread.
        """
        for number in (1, WINDOW, 20):
            numbers = Numbers()
            deferator = await self.bounded(self.looper.deferToThread(numbers))
            self.assertEqual(await self.read(deferator, number), list(range(number)))
            await self.closed(numbers)
            numbers = Numbers()
            deferator, reader = await self.begun(numbers, number)
            deferator.stop()
            await self.closed(numbers)
            self.assertEqual([item async for item in reader], [])
            numbers = Numbers()
            deferator, reader = await self.begun(numbers, number)
            del deferator, reader
            await self.closed(numbers)
            self.assertLessEqual(numbers.made, number + WINDOW)
        await self.stopped()

    async def test_unread(self) -> None:
        """
        So has one that nobody has begun to read, and then the looper can be stopped.
        """
        for isDropped in (False, True):
            numbers = Numbers()
            deferator = await self.bounded(self.looper.deferToThread(numbers))
            if isDropped:
                del deferator
            else:
                deferator.stop()
            await self.stopped()
            self.assertEqual(numbers.closed, numbers.begun)
            self.assertLessEqual(numbers.made, WINDOW)

    async def test_callsBetween(self) -> None:
        """
        Calls run between the items of a stream that does not end, which is not more than its window ahead.
        """
        numbers = Numbers()
        deferator = await self.bounded(self.looper.deferToThread(numbers))
        reader = aiter(deferator)
        for number in range(200):
            self.assertEqual(await anext(reader), number)
            self.assertEqual(await self.bounded(self.looper.deferToThread(identity, number)), number)
            self.assertLessEqual(numbers.made, number + 1 + WINDOW)
        deferator.stop()
        await self.closed(numbers)

    async def test_manyItemsAHop(self) -> None:
        """
        The reactor is called for each window, not for each item.
        """
        counting = CountingReactor()
        self.looper = self.makeLooper(reactor=counting)
        deferator = await self.bounded(self.looper.deferToThread(Numbers(8000)))
        self.assertEqual(len(await self.read(deferator)), 8000)
        self.assertLessEqual(counting.fromThread, 8000 // WINDOW + 20)
        await self.stopped()


class ProducerTests(LooperTestCase):
    """
    L{ThreadLooper.dr2ip}.
    """

    async def test_producer(self) -> None:
        """
        Makes a producer of a Deferator, for a consumer now or later.
        """
        for isLater in (False, True):
            taker = Taker()
            deferator = await self.bounded(self.looper.deferToThread(Numbers(40)))
            producer = self.looper.dr2ip(deferator, None if isLater else taker)
            self.assertIsInstance(producer, IterationProducer)
            if isLater:
                producer.registerConsumer(taker)
            self.assertEqual((taker.registered, taker.written), ([True], []))
            self.assertIs(await self.bounded(producer.run()), taker)
            self.assertEqual(taker.written, list(range(40)))
        await self.stopped()

    async def test_arguments(self) -> None:
        """
        What is no Deferator, or no consumer, is refused.
        """
        self.assertRaises(TypeError, self.looper.dr2ip, iter([]))
        deferator = await self.bounded(self.looper.deferToThread(Numbers(1)))
        self.assertRaises(ImplementationError, self.looper.dr2ip, deferator, object())
        self.assertRaises(ImplementationError, self.looper.dr2ip(deferator).run)
        self.assertEqual(await self.read(deferator), [0])

    async def test_oneReader(self) -> None:
        """
        It reads alone.
        """
        deferator = await self.bounded(self.looper.deferToThread(Numbers(40)))
        taker = Taker(pauseAt=3)
        run = self.looper.dr2ip(deferator, taker).run()
        self.assertRaises(NotReadyError, aiter, deferator)
        await self.until(lambda: len(taker.written) == 4, "the consumer has paused")
        self.assertRaises(NotReadyError, aiter, deferator)
        taker.producer.resumeProducing()
        self.assertIs(await self.bounded(run), taker)


class StopTests(LooperTestCase):
    """
    The end of the thread, and its beginning.
    """

    async def test_thread(self) -> None:
        """
        There is none before the first call, nor after the end; the next call begins another.
        """
        self.assertEqual((self.looper.threadRunning, self.looper.thread), (False, None))
        await self.stopped()
        for _ in range(3):
            thread = await self.bounded(self.looper.deferToThread(threading.current_thread))
            self.assertEqual((self.looper.threadRunning, self.looper.thread), (True, thread))
            self.assertTrue(thread.daemon)
            await self.stopped()
            self.assertFalse(thread.is_alive())

    async def test_stopTwice(self) -> None:
        """
        Whoever stops it is told, also when it is stopped already.
        """
        gate = self.makeGate()
        call = self.looper.call(gate)
        await self.bounded(gate.entered.get())
        ends = [self.looper.stop(), self.looper.stop()]
        self.assertEqual([end.called for end in ends], [False, False])
        gate.open()
        await self.bounded(gatherResults(ends))
        self.assertEqual(self.successResultOf(call), (b"r", "through"))
        await self.stopped()

    async def test_calls(self) -> None:
        """
        What has been asked for is done before.
        """
        calls = [self.looper.call(identity, number) for number in range(200)]
        await self.stopped()
        self.assertEqual([self.successResultOf(call) for call in calls], [(b"r", number) for number in range(200)])

    async def test_runningDeferators(self) -> None:
        """
        Deferators are waited for, until they have been read or left.
        """
        for isLeft in (False, True):
            numbers = Numbers(100)
            deferator, reader = await self.begun(numbers, 20)
            thread = self.looper.thread
            items = list(range(20))
            end = Outcome(self.looper.stop())
            for _ in range(10):
                await deferLater(reactor, 0.002)
            self.assertEqual((end.fired, self.looper.threadRunning), (0, True))
            if isLeft:
                deferator.stop()
            else:
                items += [item async for item in reader]
                self.assertEqual(items, list(range(100)))
            await self.fired(end)
            self.assertEqual((numbers.closed, numbers.threads), (1, {thread}))
            self.assertFalse(thread is not None and thread.is_alive())

    async def test_consumers(self) -> None:
        """
        So are consumers.
        """
        taker = Taker(pauseAt=20)
        call = Outcome(self.looper.call(Numbers(100), consumer=taker))
        await self.until(lambda: len(taker.written) == 21, "the consumer has paused")
        end = Outcome(self.looper.stop())
        for _ in range(10):
            await deferLater(reactor, 0.002)
        self.assertEqual(end.fired, 0)
        taker.producer.resumeProducing()
        await self.until(lambda: end.fired, "it has come to its end")
        self.assertEqual(call.value, (b"i", taker))

    async def test_endedStreams(self) -> None:
        """
        Streams whose generators have come to their ends are not, and can be read afterwards.
        """
        _, reader = await self.begun(Numbers(10))
        await self.stopped()
        self.assertEqual([item async for item in reader], list(range(1, 10)))

    async def test_crash(self) -> None:
        """
        Crashed, it lets go of everything: each generator is closed in its thread, and each reader is told.
        """
        sources = [Numbers() for _ in range(20)]
        streams = [await self.begun(source, number) for number, source in enumerate(sources, 1)]
        readers = [reader for _, reader in streams]
        taker = Taker()
        consumed = Outcome(self.looper.deferToThread(Numbers(), consumer=taker))
        await self.until(lambda: len(taker.written) > 100, "it flows")
        thread = self.looper.thread
        assert thread is not None
        self.assertEqual(self.looper.crash(), [])
        self.assertEqual((self.looper.threadRunning, self.looper.tasks), (False, {}))
        await self.ended(thread)
        await self.until(lambda: consumed.fired, "the consumer's caller is told")
        self.assertIsInstance(consumed.error, WorkerLost)
        for number, (source, reader) in enumerate(zip(sources, readers, strict=True), 1):
            self.assertEqual((source.begun, source.closed, source.threads), (1, 1, {thread}))
            *items, error = await self.rest(reader)
            self.assertIsInstance(error, WorkerLost)
            self.assertEqual(items, list(range(number, number + len(items))))

    async def test_crashWhileBusy(self) -> None:
        """
        So is one whose turn would have come after the call that is running, or that has been left meanwhile.
        """
        left, asked, idle = sources = [Numbers() for _ in range(3)]
        streams = [await self.begun(each) for each in sources]
        thread = self.looper.thread
        assert thread is not None
        gate = self.makeGate()
        call = self.looper.deferToThread(gate)
        await self.bounded(gate.entered.get())
        streams[0][0].stop()
        reader = streams[1][1]
        self.assertEqual([await anext(reader) for _ in range(WINDOW - 1)], list(range(1, WINDOW)))
        self.looper.crash()
        self.failureResultOf(call, WorkerLost)
        gate.open()
        await self.ended(thread)
        self.assertEqual(
            [(each.closed, each.threads) for each in (idle, left, asked)], [(1, {thread})] * 3, "idle, left, asked"
        )

    async def test_crashInAStep(self) -> None:
        """
        So is one that is in the middle of a step, when that returns.
        """
        gate = self.makeGate()
        numbers = Numbers()
        numbers.before = lambda number: gate() if number == 20 else None
        reading = Outcome(Deferred.fromCoroutine(self.read(await self.bounded(self.looper.deferToThread(numbers)))))
        thread = await self.bounded(gate.entered.get())
        self.looper.crash()
        await self.until(lambda: reading.fired, "the reader is told")
        *items, error = reading.value
        self.assertEqual(items, list(range(len(items))))
        self.assertIsInstance(error, WorkerLost)
        self.assertEqual(numbers.closed, 0)
        gate.open()
        await self.ended(thread)
        self.assertEqual((numbers.closed, numbers.threads), (1, {thread}))

    async def test_writtenOffInAStep(self) -> None:
        """
        A step that does not return after its stream has been left: another thread takes over. Other streams were of the
        thread that is lost, and say so; all generators are closed in it when it returns.
        """
        gate = self.makeGate()
        numbers = Numbers()
        numbers.before = lambda number: gate() if number == 20 else None
        others = Numbers(100)
        other = await self.bounded(self.looper.deferToThread(others))
        deferator, _ = await self.begun(numbers, WINDOW)
        thread = await self.bounded(gate.entered.get())
        deferator.stop()
        self.assertIsNot(await self.bounded(self.looper.deferToThread(threading.current_thread)), thread)
        *items, error = await self.read(other)
        self.assertEqual(items, list(range(len(items))))
        self.assertIsInstance(error, WorkerLost)
        self.assertEqual((thread.is_alive(), numbers.closed), (True, 0))
        gate.open()
        await self.ended(thread)
        self.assertEqual((numbers.closed, numbers.threads, numbers.made), (1, {thread}, 21))
        self.assertEqual((others.closed, others.threads), (1, {thread}))
        await self.stopped()

    async def test_stopWhileStuckInAStep(self) -> None:
        """
        It is not waited for at the end.
        """
        gate = self.makeGate()
        numbers = Numbers()
        numbers.before = lambda number: gate() if number == 0 else None
        deferator = await self.bounded(self.looper.deferToThread(numbers))
        reading = Outcome(Deferred.fromCoroutine(self.read(deferator)))
        thread = await self.bounded(gate.entered.get())
        deferator.stop()
        await self.until(lambda: reading.fired, "the reader is told")
        self.assertIsInstance(reading.value[0], CancelledError)
        await self.bounded(self.looper.stop())
        self.assertTrue(thread.is_alive())
        gate.open()
        await self.ended(thread)
        self.assertEqual((numbers.closed, numbers.threads), (1, {thread}))
        self.assertFalse(self.looper.threadRunning)

    async def test_stuckInFinally(self) -> None:
        """
        Nor is a C{finally} that does not return, and other calls go on.
        """
        gate = self.makeGate()
        numbers = Numbers()
        numbers.last = gate
        deferator, _ = await self.begun(numbers)
        deferator.stop()
        thread = await self.bounded(gate.entered.get())
        self.assertEqual(await self.bounded(self.looper.deferToThread(int), 5), 0)
        await self.bounded(self.looper.stop())
        gate.open()
        await self.ended(thread)


class OthersTests(LooperTestCase):
    """
    What has a looper: workers, thread queues, and the thread that the program shares.
    """

    def setUp(self) -> None:
        """
        Have the shared thread end after each test.
        """
        super().setUp()
        self.addCleanup(deferToThread)

    async def test_worker(self) -> None:
        """
        The looper of a worker, its attribute C{t}, runs in the worker's thread what the worker's method runs there.
        """
        worker = self.makeWorker()
        self.assertIsInstance(worker.t, ThreadLooper)
        self.assertFalse(worker.t.threadRunning)
        queue = self.makeQueue(worker)
        thread = await self.bounded(queue.call(threading.current_thread))
        self.assertIs(worker.t.thread, thread)
        self.assertEqual(await self.bounded(worker.t.call(threading.current_thread)), (b"r", thread))
        self.assertIs(await self.bounded(worker.deferToThread(threading.current_thread)), thread)
        numbers = Numbers(40)
        self.assertEqual(await self.read(await self.bounded(worker.t.deferToThread(numbers))), list(range(40)))
        await self.closed(numbers, thread)
        self.assertEqual((worker.raw, worker.t.raw), (False, False))
        self.assertEqual((ThreadWorker(raw=True).raw, ThreadWorker(raw=True).t.raw), (True, True))
        self.assertEqual(queue.statistics().submitted, 1)

    async def test_Z23_threadQueue(self) -> None:
        """
        Past the queue, a consumer gets what it would get on the queue.
        """
        queue = ThreadQueue(returnFailure=True)
        self.addCleanup(queue.shutdown, drain=False, deadline=5)
        thread = await self.bounded(queue.call(threading.current_thread))
        for number in (0, 1, 40):
            taker = Taker()
            numbers = Numbers(number)
            self.assertIs(await self.bounded(queue.deferToThread(numbers, consumer=taker)), taker)
            self.assertEqual((taker.written, taker.unregistered), (list(range(number)), 1))
            await self.closed(numbers, thread)
            taker = Taker()
            self.assertIs(await self.bounded(queue.call(Numbers(number), consumer=taker)), taker)
            self.assertEqual(taker.written, list(range(number)))
        self.assertEqual(list(await self.bounded(queue.deferToThread(Numbers(2), raw=True))), [0, 1])
        error = await self.bounded(
            self.assertFailure(queue.deferToThread(Numbers(0, KeyError(1)), consumer=Taker()), KeyError)
        )
        self.assertIsInstance(error, ThreadError)

    async def test_Z23_rawThreadQueue(self) -> None:
        """
        A raw queue returns iterators as they are, unless the call says otherwise.
        """
        queue = ThreadQueue(raw=True, returnFailure=True)
        self.addCleanup(queue.shutdown, drain=False, deadline=5)
        self.assertEqual(list(await self.bounded(queue.deferToThread(Numbers(2)))), [0, 1])
        self.assertEqual(await self.read(await self.bounded(queue.deferToThread(Numbers(2), raw=False))), [0, 1])
        self.assertEqual(list(await self.bounded(queue.call(Numbers(2)))), [0, 1])
        self.assertEqual(await self.read(await self.bounded(queue.call(Numbers(2), raw=False))), [0, 1])

    async def test_C30_shared(self) -> None:
        """
        The shared thread, too, has consumers, raw iterators and streams, and ends after them.
        """
        thread = await self.bounded(deferToThread(threading.current_thread))
        taker = Taker()
        numbers = Numbers(40)
        self.assertIs(await self.bounded(deferToThread(numbers, consumer=taker)), taker)
        self.assertEqual(taker.written, list(range(40)))
        await self.closed(numbers, thread)
        self.assertIs(type(result := await self.bounded(deferToThread(Numbers(2), raw=True))), GeneratorType)
        self.assertEqual(list(result), [0, 1])
        numbers = Numbers(40)
        deferator = await self.bounded(deferToThread(numbers))
        end = Outcome(deferToThread())
        for _ in range(10):
            await deferLater(reactor, 0.002)
        self.assertEqual((end.fired, thread.is_alive()), (0, True))
        self.assertEqual(await self.read(deferator), list(range(40)))
        await self.until(lambda: end.fired, "the thread has gone")
        self.assertFalse(thread.is_alive())
        self.assertRaises(TypeError, deferToThread, int, consumer=5)

    async def test_C30_infinite(self) -> None:
        """
        A stream that does not end is left before the shared thread can end.
        """
        numbers = Numbers()

        async def firstOf(deferator: Any) -> Any:
            async for item in deferator:
                return item

        self.assertEqual(await firstOf(await self.bounded(deferToThread(numbers))), 0)
        await self.bounded(deferToThread())
        self.assertEqual((numbers.begun, numbers.closed), (1, 1))

    async def test_manyLoopers(self) -> None:
        """
        Many loopers at once, each with streams that are left: all threads go.
        """
        loopers = [self.makeLooper() for _ in range(10)]
        sources = [Numbers() for _ in loopers]

        async def leave(looper: ThreadLooper, numbers: Any, number: int) -> None:
            deferator = await looper.deferToThread(numbers)
            reader = aiter(deferator)
            for _ in range(number + 1):
                await anext(reader)
            if number % 2:
                deferator.stop()
            del deferator, reader
            await looper.stop()

        await self.bounded(
            gatherResults(
                [
                    Deferred.fromCoroutine(leave(looper, numbers, number))
                    for number, (looper, numbers) in enumerate(zip(loopers, sources, strict=True))
                ]
            )
        )
        # One that was left at once may not have begun.
        self.assertEqual([each.closed for each in sources], [each.begun for each in sources])
        self.assertEqual([each.closed for each in sources[1::2]], [1] * 5)
        self.assertEqual([len(each.threads) for each in sources[1::2]], [1] * 5)
