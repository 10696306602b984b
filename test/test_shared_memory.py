"""
Tests of the parts of calls, results and items that travel in shared memory.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from asynqueue import ProcessQueue
from asynqueue.errors import EncodeError, PayloadTooLarge, ResultEncodeError, WorkerLost
from asynqueue.process import page as pages
from asynqueue.process.frames import APART
from asynqueue.process.health import memoryOf
from asynqueue.process.parts import FRESH, ROOM, Parts, Segment, arrived, loaded
from asynqueue.testing import faults
from asynqueue.testing.arrays import Array, changed, dieWith, keep, kept, makeArray, makeArrays, noRoom, withLock
from asynqueue.testing.tasks import identity
from test.processes import ProcessTestCase, Program, isAlive, marked, reactor, segments

#: Bytes that are large.
SIZE = 1 << 20


def shared() -> list[int]:
    """
    Return how much memory each of the files takes that this process shares with its children, but for pages.
    """
    sizes = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
            if "/asynqueue-" in path and os.stat(f"/proc/self/fd/{name}").st_size != pages.SIZE:
                sizes.append(os.stat(f"/proc/self/fd/{name}").st_blocks * 512)
        except OSError:
            continue
    return sorted(sizes)


def descriptors(pid: int) -> int:
    """
    Return how many descriptors a process has.
    """
    return len(os.listdir(f"/proc/{pid}/fd"))


class SegmentTests(SynchronousTestCase):
    """
    Both ends of a file, in one process.
    """

    def setUp(self) -> None:
        """
        Make a file.
        """
        self.file = pages.SharedFile()
        self.addCleanup(self.file.close)
        self.one = Segment(self.file.descriptor)
        self.other = Segment(self.file.descriptor)

    def needRoom(self) -> None:
        """
        Skip the test where files in memory may have little.
        """
        system = os.fstatvfs(self.file.descriptor)
        if system.f_bavail * system.f_frsize < 4 * ROOM:
            raise SkipTest("there is little room in shared memory")

    def size(self) -> int:
        """
        Return how long the file is.
        """
        return os.fstat(self.file.descriptor).st_size

    def test_reuse(self) -> None:
        """
        What the other end needs is not written over, and what it does not need any more is.
        """
        first = self.one.put([b"one", b"two"], 6, False)
        second = self.one.put([b"three"], 5, False)
        self.assertEqual(self.other.take(first, [6, 7]), [b"one", bytearray(b"two")])
        self.assertEqual(self.other.take(second, [10]), [b"three"])
        self.assertEqual(self.one.put([b"four"], 4, True), first)
        self.assertEqual(self.size(), 11)

    def test_missing(self) -> None:
        """
        What is not there is an error, of either kind.
        """
        self.one.put([b"one"], 3, True)
        self.assertRaises(EOFError, self.other.take, 1, [20])
        self.assertRaises(EOFError, self.other.take, 1, [21])

    def test_room(self) -> None:
        """
        What needs more than a file may have gets it if nothing else is there, and it is given back.
        """
        self.needRoom()
        self.assertEqual(self.one.put([bytes(8)], 8, True), 1)
        whole = bytes(ROOM + 1)
        self.assertEqual(self.one.put([whole], len(whole), False), 0)
        place = self.one.put([whole], len(whole), True)
        self.assertEqual(place, 1)
        self.assertEqual(self.one.put([b"more"], 4, False), 0)
        self.assertEqual([len(each) for each in self.other.take(place, [len(whole) << 1])], [len(whole)])
        self.assertEqual(self.size(), ROOM)

    def test_fresh(self) -> None:
        """
        A reactor writes only so much fresh memory, and as much as it wants of what there is.
        """
        self.needRoom()
        one = Segment(self.file.descriptor, 1000)
        self.assertEqual(one.put([bytes(1001)], 1001, True), 0)
        self.assertEqual(self.size(), 0)
        self.other.grow(5000)
        self.assertEqual(self.size(), 5000)
        self.assertEqual(one.put([bytes(5001)], 5001, True), 1)
        self.other.grow(3 * ROOM)
        self.assertEqual(self.size(), ROOM)

    def test_noRoom(self) -> None:
        """
        When there is no room, nothing is written, nor is what has been; and nothing is left of an attempt.
        """
        self.assertEqual(self.one.put([b"one"], 3, True), 1)

        def pwrite(descriptor: int, data: Any, offset: int) -> int:
            if len(data) > 5:
                os.ftruncate(descriptor, offset + 5)
                return 5
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "pwrite", pwrite)
        self.assertEqual(self.one.put([b"a longer one"], 12, False), 0)
        self.assertEqual(self.one.put([b"two"], 3, False), 0)
        self.assertEqual(self.size(), 3)
        self.assertEqual(self.other.take(1, [6]), [b"one"])

    def test_noRoomToGrow(self) -> None:
        """
        When there is no room ahead, that is all there is to it.
        """

        def allocate(*args: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "posix_fallocate", allocate)
        self.other.grow(1000)
        self.assertEqual(self.size(), 0)

    def test_leavesRoom(self) -> None:
        """
        Half of the room that there is, is left to others.
        """
        system = os.fstatvfs(self.file.descriptor)
        free = system.f_bavail * system.f_frsize
        self.assertEqual(self.one.put([b""], free, True), 0)
        self.other.grow(free)
        self.assertLessEqual(self.size(), ROOM)


class PartsTests(SynchronousTestCase):
    """
    Parts, without any file.
    """

    def test_inline(self) -> None:
        """
        Parts come out as they went in: what could be written to can be, and what could not cannot.
        """
        buffers: list[Any] = []
        value = [Array(bytearray(b"one")), Array(b"two"), Array(b""), Array(memoryview(b"0123456789")[2:5])]
        pickled = pickle.dumps(value, 5, buffer_callback=buffers.append)
        travelling = Parts((pickled,), buffers)
        body = b"".join(travelling.inline())
        self.assertEqual(len(body), len(travelling))
        one, two, empty, three = loaded(body, None)
        self.assertEqual([each.data for each in (one, two, empty, three)], [bytearray(b"one"), b"two", b"", b"234"])
        self.assertEqual([type(each.data) for each in (one, two, three)], [bytearray, bytes, bytes])

    def test_bytesAreNotCopied(self) -> None:
        """
        What does not change is not copied to be sent.
        """
        whole = b"x" * 1000
        self.assertIs(Parts((b"",), [pickle.PickleBuffer(whole)]).inline()[-1], whole)
        self.assertIsNot(Parts((b"",), [pickle.PickleBuffer(memoryview(whole)[1:])]).inline()[-1], whole)

    def test_noFile(self) -> None:
        """
        Parts in a file that is not there are an error.
        """
        self.assertRaises(EOFError, arrived, (1).to_bytes(8, "little") + bytes(4), None)


class SweepTests(SynchronousTestCase):
    """
    Names that somebody has left behind who was killed.
    """

    def test_sweep(self) -> None:
        """
        Those of dead processes go, if they are not fresh, and others stay.
        """
        file = pages.SharedFile()
        folder = os.path.dirname(file.path)
        file.close()
        dead = subprocess.Popen([sys.executable, "-c", "pass"])
        dead.wait(10)
        old = time.time() - 2 * pages.AGE
        paths = []
        for pid, when in ((dead.pid, old), (dead.pid, time.time()), (os.getpid(), old), (1, old), ("me", old)):
            descriptor, path = tempfile.mkstemp(prefix=f"asynqueue-{pid}-", dir=folder)
            os.close(descriptor)
            os.utime(path, (when, when))
            paths.append(path)
        pages.sweep()
        there = [os.path.exists(path) for path in paths]
        for path in paths:
            if os.path.exists(path):
                os.unlink(path)
        self.assertEqual(there, [False, True, True, True, True])


class TravelTests(ProcessTestCase):
    """
    Calls with real children.
    """

    async def roundTrip(self, queue: ProcessQueue, value: Any) -> Any:
        """
        Send a value there and back.
        """
        result = await self.within(10.0, queue.call(identity, value))
        self.assertEqual(result, value)
        return result

    async def test_roundTrips(self) -> None:
        """
        Arrays and bytes travel both ways, alone, several and nested, by position and by keyword.
        """
        queue = self.makeQueue()
        one, two = makeArray(SIZE, 1), makeArray(3 * SIZE, 2, isReadOnly=True)
        small = makeArray(10, 3)
        for value in (
            one,
            two,
            [one, two, small],
            {"a": [(one,), {"b": two}], "c": small},
            [makeArray(1000, number) for number in range(300)],
            b"x" * SIZE,
            bytearray(b"y") * SIZE,
            ["z" * SIZE],
            {"whole": b"w" * SIZE, "numbers": list(range(100_000))},
        ):
            await self.roundTrip(queue, value)
        self.assertEqual(await self.within(5.0, queue.call(dict, a=one, b=b"x" * SIZE)), {"a": one, "b": b"x" * SIZE})
        whole = b"z" * SIZE
        self.assertEqual(await self.within(5.0, queue.call(max, whole, whole, b"a" * SIZE)), whole)
        self.assertTrue(all(shared()))
        await self.shutDownProperly(queue)

    async def test_lateImport(self) -> None:
        """
        A child imports what parts need when there are some, and not before.
        """
        queue = self.makeQueue()
        modules = await self.within(5.0, queue.call(eval, "sorted(__import__('sys').modules)"))
        self.assertNotIn("asynqueue.process.parts", modules)
        await self.roundTrip(queue, makeArray(SIZE))
        more = await self.within(5.0, queue.call(eval, "sorted(__import__('sys').modules)"))
        self.assertIn("asynqueue.process.parts", more)
        await self.shutDownProperly(queue)

    async def test_threshold(self) -> None:
        """
        From so many bytes on they travel in shared memory, one less and they do not; they arrive alike.
        """
        queue = self.makeQueue()
        for size in (0, 1, APART - 1):
            await self.roundTrip(queue, makeArray(size))
            await self.roundTrip(queue, makeArray(size, isReadOnly=True))
        # The pickle counts, too.
        self.assertEqual(await self.within(5.0, queue.call(len, bytes(APART - 200))), APART - 200)
        await self.within(5.0, queue.call(bytes, APART - 200))
        for size in (APART - 200, APART - 1, APART, APART + 1):
            await self.roundTrip(queue, bytes(size))
        await self.shutDownProperly(queue)
        queue = self.makeQueue()
        self.assertIsNone(await self.within(5.0, queue.call(int.__init__, 0)))
        await self.within(5.0, queue.call(len, bytes(APART - 200)))
        self.assertEqual(shared(), [0, 0])
        await self.within(5.0, queue.call(len, bytes(APART)))
        self.assertEqual([bool(each) for each in shared()], [False, True])
        await self.shutDownProperly(queue)

    async def test_writable(self) -> None:
        """
        What could be written to can be, as bytearray, and what could not arrives as bytes; nobody else sees a change.
        """
        queue = self.makeQueue()
        for size in (10, SIZE):
            mine = makeArray(size, 7)
            name, theirs = await self.within(5.0, queue.call(changed, mine))
            self.assertEqual((name, mine.data[0], theirs.data[0]), ("bytearray", 7, 248))
            theirs.data[1] = 1
            theirs.data.append(2)
            name, theirs = await self.within(5.0, queue.call(changed, makeArray(size, 7, isReadOnly=True)))
            self.assertEqual((name, type(theirs.data), theirs.data[0]), ("bytes", bytes, 7))
        await self.shutDownProperly(queue)

    async def test_keptResults(self) -> None:
        """
        Results and items are the reader's, whatever comes after them; changes after the call do not travel.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        array = makeArray(SIZE, 1)
        first = queue.call(identity, array)
        array.data[:] = bytes(SIZE)
        kept = [await self.within(5.0, first)]
        kept += await self.allOf([queue.call(makeArray, SIZE, number) for number in range(2, 40)], 10.0)
        self.assertEqual([each.data[-1] for each in kept], list(range(1, 40)))
        self.assertTrue(all(each.data.count(each.data[0]) == SIZE for each in kept))
        await self.shutDownProperly(queue)

    async def test_manyAtOnce(self) -> None:
        """
        Many calls may be on their way, more than there is room for, and from several workers.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        sent = [makeArray(SIZE, number) for number in range(150)]
        self.assertEqual(await self.allOf([queue.call(identity, each) for each in sent], 20.0), sent)
        await self.shutDownProperly(queue)

    async def test_items(self) -> None:
        """
        Items of streams travel likewise, one left early included.
        """
        queue = self.makeQueue()
        stream = await self.within(5.0, queue.call(makeArrays, SIZE, 30))
        self.assertEqual([item.data[0] async for item in stream], list(range(30)))
        for _ in range(3):
            stream = await self.within(5.0, queue.call(makeArrays, SIZE, 100))
            async for item in stream:
                self.assertEqual(item.data[0], 0)
                break
            stream.stop()
        await self.roundTrip(queue, makeArray(SIZE))
        await self.shutDownProperly(queue)

    async def test_large(self) -> None:
        """
        What is larger than all the room travels, and the room is given back.
        """
        queue = self.makeQueue(limit=4 * ROOM)
        for value in (makeArray(2 * FRESH, 1), makeArray(ROOM + SIZE, 2), makeArray(ROOM + SIZE, 3), b"x" * 2 * FRESH):
            await self.roundTrip(queue, value)
        self.assertTrue(all(each <= ROOM + pages.SIZE for each in shared()), shared())
        await self.shutDownProperly(queue)

    async def test_limit(self) -> None:
        """
        The limit is that of a whole call or result, buffers and all, and the child goes on.
        """
        queue = self.makeQueue(limit=SIZE)
        pid = await self.within(5.0, queue.call(os.getpid))
        for value in (makeArray(SIZE), [makeArray(SIZE // 2), makeArray(SIZE // 2)], b"x" * SIZE, "x" * SIZE):
            await self.errorOf(queue.call(identity, value), PayloadTooLarge)
        for call in ((makeArray, SIZE), (bytes, SIZE), (bytearray, SIZE)):
            error = await self.errorOf(queue.call(*call), ResultEncodeError)
            self.assertIn("limit", str(error))
        for spare in (150, 300):
            # Inline, too, it is no longer than it may be.
            value = makeArray(SIZE - spare)
            await self.outcomeOf(queue.call(identity, value))
            await self.outcomeOf(queue.call(makeArray, SIZE - spare))
        await self.roundTrip(queue, makeArray(SIZE - 1000))
        self.assertEqual(await self.within(5.0, queue.call(os.getpid)), pid)
        data = bytearray(SIZE)
        kept = await self.errorOf(queue.call(identity, Array(data)), PayloadTooLarge)
        data.append(1)
        kept = [kept, await self.errorOf(queue.call(identity, [Array(data), faults.makeLock()]), EncodeError)]
        data.append(1)
        self.assertEqual(len(kept), 2)
        await self.shutDownProperly(queue)

    async def test_limitWithoutRoom(self) -> None:
        """
        What just fits travels over the pipe as well.
        """
        queue = self.makeQueue(limit=SIZE)
        pid = await self.within(5.0, queue.call(os.getpid))
        await self.within(5.0, queue.call(noRoom))
        noRoomHere(self)
        fitting = 0
        for spare in range(400):
            outcome = await self.outcomeOf(queue.call(identity, makeArray(SIZE - spare)))
            if outcome.failure is None:
                fitting = SIZE - spare
                break
            self.assertIsInstance(outcome.error, PayloadTooLarge | ResultEncodeError)
        self.assertGreater(fitting, SIZE - 400)
        self.assertEqual(await self.within(5.0, queue.call(os.getpid)), pid)
        await self.shutDownProperly(queue)

    async def test_noRoom(self) -> None:
        """
        When there is no room in shared memory, all goes over the pipe, both ways.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.call(noRoom))
        noRoomHere(self)
        for value in (makeArray(SIZE, 1), b"x" * SIZE, [makeArray(SIZE, 2), "x" * SIZE]):
            await self.roundTrip(queue, value)
        stream = await self.within(5.0, queue.call(makeArrays, SIZE, 5))
        self.assertEqual([item.data[0] async for item in stream], list(range(5)))
        self.assertEqual(shared(), [0, 0])
        await self.shutDownProperly(queue)

    async def test_errors(self) -> None:
        """
        An error in the call, in what is sent and in what is returned is the call's alone.
        """
        queue = self.makeQueue()
        array = makeArray(SIZE)
        await self.errorOf(queue.call(int, array), TypeError)
        for value in ([array, faults.makeLock()], Array(memoryview(bytes(SIZE))[::2])):
            await self.errorOf(queue.call(identity, value), EncodeError)
        await self.errorOf(queue.call(withLock, SIZE), ResultEncodeError)
        await self.errorOf(queue.call(identity, [array, faults.makeTrap(unpickling="raise")]), Exception)
        for _ in range(3):
            await self.roundTrip(queue, array)
        await self.shutDownProperly(queue)

    async def test_cloudpickle(self) -> None:
        """
        Buffers are left out with cloudpickle, too.
        """
        try:
            import cloudpickle  # noqa: F401
        except ImportError:
            raise SkipTest("cloudpickle is not installed") from None
        queue = self.makeQueue(pickler="cloudpickle")
        number = 5
        call = queue.call(lambda array: len(array.data) + number, makeArray(SIZE))
        self.assertEqual(await self.within(5.0, call), SIZE + 5)
        await self.shutDownProperly(queue)

    async def test_updates(self) -> None:
        """
        An update with a large argument is run by the successors, too.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        await self.allOf([queue.update(keep, makeArray(SIZE, 9))], 5.0)
        os.kill(self.pidOf(queue), signal.SIGKILL)
        self.assertEqual(await self.within(5.0, queue.call(kept)), [makeArray(SIZE, 9)])
        await self.shutDownProperly(queue)

    async def test_withReactor(self) -> None:
        """
        Children with a reactor send and are sent all over the pipes.
        """
        queue = self.makeQueue(useReactor=True)
        for value in (makeArray(SIZE, 1), b"x" * SIZE, [makeArray(10), "x" * SIZE]):
            await self.roundTrip(queue, value)
        self.assertEqual(shared(), [])
        await self.shutDownProperly(queue)

    async def test_numpy(self) -> None:
        """
        Arrays of numpy arrive as they are, those that are not contiguous included.
        """
        try:
            import numpy  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise SkipTest("numpy is not installed") from None
        queue = self.makeQueue()
        whole = numpy.arange(1 << 18, dtype="float64").reshape(512, 512)
        frozen = whole.copy()
        frozen.flags.writeable = False
        for array in (whole, whole.T, whole[::2, 1:], whole[:0], frozen, whole.astype("int32")):
            result = await self.within(5.0, queue.call(identity, array))
            self.assertTrue((result == array).all())
            self.assertEqual((result.dtype, result.shape), (array.dtype, array.shape))
        result = await self.within(5.0, queue.call(identity, whole))
        result[0, 0] = 5
        await self.shutDownProperly(queue)


def noRoomHere(test: ProcessTestCase) -> None:
    """
    Let there be no room for what this process writes to files at a given position.
    """

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    test.patch(os, "pwrite", pwrite)


class LeftoverTests(ProcessTestCase):
    """
    Nothing is left, whoever dies when.
    """

    async def test_names(self) -> None:
        """
        When a child is ready, no file has a name.
        """
        before = segments()
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        await self.within(5.0, queue.call(identity, makeArray(SIZE)))
        self.assertEqual({name for name in segments() - before if f"-{os.getpid()}-" in name}, set())
        await self.shutDownProperly(queue)

    async def test_argumentsOfTheKilled(self) -> None:
        """
        A child is killed that has been sent arguments, and has not read them: its successor gets them.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(os.getpid))
        os.kill(pid, signal.SIGSTOP)
        arrays = [makeArray(SIZE, number) for number in range(5)]
        calls = [queue.call(identity, array) for array in arrays]
        await deferLater(reactor, 0.05)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(await self.allOf(calls, 10.0), arrays)
        self.assertEqual(len(shared()), 2)
        await self.shutDownProperly(queue)

    async def test_resultsOfTheKilled(self) -> None:
        """
        A child is killed that has sent results which nobody has read: they count, or are made anew.
        """
        queue = self.makeQueue()
        pid = await self.within(5.0, queue.call(os.getpid))
        calls = [queue.call(makeArray, SIZE, number) for number in range(5)]
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        results = await self.allOf(calls, 10.0)
        self.assertEqual([each.data[0] for each in results], list(range(5)))
        await self.shutDownProperly(queue)

    async def test_deadInTheCall(self) -> None:
        """
        A child dies of a call with a large argument.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        before = descriptors(os.getpid())
        for _ in range(3):
            call = queue.options(idempotent=False).call(dieWith, makeArray(SIZE))
            await self.errorOf(call, WorkerLost)
        await self.within(5.0, queue.call(identity, makeArray(SIZE)))
        self.assertEqual(descriptors(os.getpid()), before)
        await self.shutDownProperly(queue)

    async def test_killedWhileStarting(self) -> None:
        """
        Children that are killed while they start leave nothing.
        """
        before = segments()
        for _ in range(3):
            queue = self.makeQueue(2)
            for worker in queue.workers():
                if worker.pid is not None:
                    os.kill(worker.pid, signal.SIGKILL)
            await self.within(5.0, queue.call(identity, makeArray(SIZE)))
            await self.shutDownProperly(queue)
        self.assertEqual({name for name in segments() - before if f"-{os.getpid()}-" in name}, set())

    async def test_parentKilled(self) -> None:
        """
        A parent is killed with arguments and results on their way: nothing is left of it.
        """
        for pause in (0.0, 0.3):
            program = Program(self.path() + ".py", _PROGRAM, self.mark, str(pause))
            self.addCleanup(program.close)
            self.assertEqual(next(program.lines()), "ready")
            name = f"asynqueue-{program.process.pid}-"
            await deferLater(reactor, pause)
            children = [pid for pid in marked(self.mark) if pid != program.process.pid]
            self.assertEqual(len(children), 2)
            os.kill(program.process.pid, signal.SIGKILL)
            await self.until(lambda pids=children: not any(map(isAlive, pids)), "the children are gone", 2.0)  # type: ignore[misc]
            self.assertEqual([each for each in segments() if each.startswith(name)], [])

    async def test_growth(self) -> None:
        """
        After many calls there is no more memory, and no more descriptors, than after a few.
        """
        queue = self.makeQueue()
        array = makeArray(APART * 2)

        async def some(number: int) -> tuple[int, int, int, int, int]:
            for _ in range(number):
                await queue.call(identity, array)
            [memory] = queue.memUsage()
            pid = self.pidOf(queue)
            return sum(shared()), descriptors(os.getpid()), descriptors(pid), memory or 0, memoryOf(os.getpid()) or 0

        first = await some(100)
        last = await some(1000)
        self.assertEqual(last[:3], first[:3])
        self.assertLess(last[3], first[3] + 2048)
        self.assertLess(last[4], first[4] + 4096)
        await self.shutDownProperly(queue)
        self.assertEqual(shared(), [])

    async def test_rotation(self) -> None:
        """
        Nor are there after many children.
        """
        queue = self.makeQueue(maxTasks=2)
        array = makeArray(APART)
        await self.within(5.0, queue.call(identity, array))
        for _ in range(20):
            await self.within(5.0, queue.call(identity, array))
        await self.shutDownProperly(queue)
        self.assertEqual(shared(), [])


_PROGRAM = """\
import sys, time
from twisted.internet import reactor
from asynqueue import ProcessQueue
from asynqueue.testing.arrays import makeArray
from asynqueue.testing.tasks import identity

def more(array):
    queue.call(identity, array).addCallback(more)

def begin(_):
    print("ready", flush=True)
    for number in range(8):
        more(makeArray(1 << 20))

if __name__ == "__main__":
    queue = ProcessQueue(2)
    queue.d.addCallback(begin)
    reactor.run()
"""
