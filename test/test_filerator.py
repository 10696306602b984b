"""
Tests of the file whose chunks blocking code iterates over.
"""

from __future__ import annotations

import csv
import threading
from functools import partial
from typing import Any

from twisted.internet.defer import gatherResults

from asynqueue.threads.filerator import MOST, Filerator
from test.pools import LIMIT, PoolTestCase
from test.support import Outcome

#: What a blocking call for a single chunk returns at the end.
END = "end"


class FileratorTestCase(PoolTestCase):
    """
    Tests of a file.
    """

    def setUp(self) -> None:
        """
        Make the file, and note what threads have written to it.
        """
        super().setUp()
        self.file = self.make(Filerator)
        self.written: list[int] = []

    async def takeAll(self) -> list[Any]:
        """
        Take all chunks in a thread.
        """
        return await self.file.deferToThreadInPool(list, self.file)

    async def take(self, number: int) -> list[Any]:
        """
        Take some chunks in a thread, one after the other.
        """
        return [await self.file.deferToThreadInPool(next, self.file, END) for _ in range(number)]

    def writeMany(self, number: int) -> None:
        """
        Write numbers, in a thread.
        """
        for each in range(number):
            self.file.write(str(each))
            self.written.append(each)

    async def writerThatWaits(self) -> Outcome:
        """
        Have a thread write until it has to wait.
        """
        writer = Outcome(self.file.deferToThreadInPool(self.writeMany, 10 * MOST))
        # That it is about to wait shows in that it has the iteration begin.
        await self.until(lambda: self.file.runState == "running", "the writer waits")
        self.assertEqual((writer.fired, len(self.written)), (0, MOST + 1))
        return writer


class WriteTests(FileratorTestCase):
    """
    What is written.
    """

    async def test_R16_inOrder(self) -> None:
        """
        Arrives in order, one item for each write, whether it was written before it was waited for or after.
        """
        self.assertEqual(self.file.write("first"), 5)
        taken = self.takeAll()
        self.file.write("")
        self.file.writelines(["second\n", "third\n"])
        self.file.write(b"bytes")
        self.file.flush()
        self.file.close()
        self.assertEqual(await taken, ["first", "", "second\n", "third\n", b"bytes"])
        await self.file.deferUntilDone()
        self.assertEqual(self.file.runState, "stopped")

    async def test_looksLikeAFile(self) -> None:
        """
        To those who write to files.
        """
        with self.file as file:
            writer: Any = file
            csv.writer(writer).writerow([1, "two"])
            print("three", 4, file=writer, flush=True)
            self.assertFalse(self.file.closed)
        self.assertTrue(self.file.closed)
        self.assertEqual("".join(await self.takeAll()), "1,two\r\nthree 4\n")

    async def test_reactorNeverWaits(self) -> None:
        """
        It may write any number of chunks.
        """
        self.file.writelines(map(str, range(500)))
        self.file.close()
        self.assertEqual(await self.takeAll(), [str(each) for each in range(500)])

    def test_notText(self) -> None:
        """
        Is refused at the call.
        """
        wrong: Any = 5
        self.assertRaises(TypeError, self.file.write, wrong)

    async def test_nothingIsReadyBeforeItIsRead(self) -> None:
        """
        A file that nobody reads has no threads.
        """
        self.file.write("chunk")
        self.file.close()
        self.assertEqual((self.threads(), self.reactor.triggers), ([], []))


class CloseTests(FileratorTestCase):
    """
    The end of the file.
    """

    async def test_R16_closed(self) -> None:
        """
        Everything but closing is an error then, as for files.
        """
        self.file.write("chunk")
        self.assertFalse(self.file.closed)
        self.file.close()
        self.file.close()
        self.assertTrue(self.file.closed)
        for call in (lambda: self.file.write("late"), lambda: self.file.writelines(["late"]), self.file.flush):
            self.assertRaises(ValueError, call)
        self.assertRaises(ValueError, self.file.__enter__)
        self.assertEqual(await self.takeAll(), ["chunk"])
        self.assertEqual(await self.takeAll(), [])

    async def test_errorInTheBlock(self) -> None:
        """
        Goes on, and the file is closed.
        """
        with self.assertRaises(ZeroDivisionError), self.file:
            divmod(1, 0)
        self.assertEqual(await self.takeAll(), [])

    async def test_whileWaiting(self) -> None:
        """
        The blocking side goes on.
        """
        waiting = self.takeAll()
        reader = Outcome(self.file.deferToThreadInPool(list, self.file))
        await self.file.start()
        self.file.close()
        self.assertEqual(await waiting, [])
        await self.until(lambda: reader.fired, "the other one goes on, too")

    async def test_stop(self) -> None:
        """
        Ends the iteration at once, and the file is closed.
        """
        self.file.writelines("abc")
        self.assertEqual(await self.take(1), ["a"])
        await self.file.stop()
        self.assertTrue(self.file.closed)
        self.assertRaises(ValueError, self.file.write, "late")
        self.file.close()
        self.assertEqual(self.threads(), [])
        self.assertEqual(await self.takeAll(), [])

    def test_stopBeforeTheStart(self) -> None:
        """
        Likewise.
        """
        self.file.write("chunk")
        self.assertEqual(Outcome(self.file.stop()).fired, 1)
        self.assertRaises(ValueError, self.file.write, "late")
        self.assertEqual(next(self.file, END), END)


class ThreadTests(FileratorTestCase):
    """
    Threads that write.
    """

    async def test_R16_waitsForTheReader(self) -> None:
        """
        A thread waits while more than 16 chunks do, and goes on with each that is taken.
        """
        await self.writerThatWaits()
        self.assertEqual(MOST, 16)
        for number in range(5):
            self.assertEqual(await self.take(1), [str(number)])
            written = [*range(MOST + 2 + number)]
            await self.until(partial(self.hasWritten, written), "one more is written")

    def hasWritten(self, written: list[int]) -> bool:
        """
        Tell what threads have written.
        """
        return self.written == written

    async def test_throughAThread(self) -> None:
        """
        All arrives, in order, with a thread for each side and not one more.
        """
        self.file = self.make(Filerator, maxThreads=2)

        def write() -> None:
            with self.file:
                self.writeMany(2000)

        writing, taken = self.file.deferToThreadInPool(write), self.takeAll()
        self.assertEqual(await taken, [str(number) for number in range(2000)])
        await writing

    async def test_manyThreads(self) -> None:
        """
        Write at once; the chunks of each arrive in order, and never are there too many.
        """
        most = 0

        def write(name: str) -> None:
            for number in range(100):
                self.file.write(f"{name}{number}")

        def read() -> list[str]:
            nonlocal most
            chunks = []
            for chunk in self.file:
                chunks.append(chunk)
                most = max(most, len(self.file._given))
            return chunks

        reading = self.file.deferToThreadInPool(read)
        await gatherResults([self.file.deferToThreadInPool(write, name) for name in "abcde"])
        self.file.close()
        chunks: Any = await reading
        for name in "abcde":
            own = [chunk for chunk in chunks if chunk.startswith(name)]
            self.assertEqual(own, [f"{name}{number}" for number in range(100)])
        # One more than wait when a thread begins to, and the end.
        self.assertLessEqual(most, MOST + 2)

    async def test_R16_closedWhileWaiting(self) -> None:
        """
        The writer gets a ValueError, and its chunk is not written.
        """
        writer = await self.writerThatWaits()
        self.file.close()
        await self.until(lambda: writer.fired, "the writer goes on")
        self.assertIs(writer.kind, ValueError)
        self.assertEqual(await self.takeAll(), [str(number) for number in range(MOST + 1)])

    async def test_stoppedWhileWaiting(self) -> None:
        """
        Likewise.
        """
        writer = await self.writerThatWaits()
        await self.file.shutdown()
        self.assertIs(writer.kind, ValueError)

    async def test_reactorStopsWhileWaiting(self) -> None:
        """
        Likewise.
        """
        writer = await self.writerThatWaits()
        await self.reactor.shutDown()
        self.assertIs(writer.kind, ValueError)
        self.assertEqual(self.threads(), [])

    async def test_foreignThread(self) -> None:
        """
        May write, and close.
        """

        def write() -> None:
            with self.file:
                self.writeMany(100)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        self.assertEqual(len(await self.takeAll()), 100)
        thread.join(LIMIT)
        self.assertTrue(self.file.closed)

    async def test_failingLoop(self) -> None:
        """
        Of a subclass closes the file, so that nobody waits for it.
        """

        class Failing(Filerator):
            def loop(self) -> None:
                self.nLock.acquire()
                raise ZeroDivisionError("failing loop")

        self.file = self.make(Failing)
        writer = await self.writerThatWaits()
        with self.assertRaises(ZeroDivisionError):
            await self.takeAll()
        await self.until(lambda: writer.fired, "the writer goes on")
        self.assertIs(writer.kind, ValueError)
