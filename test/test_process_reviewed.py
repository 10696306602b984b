"""
Tests of what reviews of the process workers have found.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from asynqueue import TaskQueue
from asynqueue.errors import ProcessError, ResultEncodeError, WorkerLost, WorkerStartError
from asynqueue.process import conversation, frames, lineage
from asynqueue.process.childprocess import Death, Life
from asynqueue.process.encoding import CallEncoder, Unpickler, standardDumps
from asynqueue.testing import faults
from asynqueue.testing.tasks import fail, identity
from test import process_functions as functions
from test.processes import ProcessTestCase, Program, reactor


class UpdateTests(ProcessTestCase):
    """
    Updates over the comings and goings of children.
    """

    async def test_onlyOnesThatSucceededAreKept(self) -> None:
        """
        An update that kills its child, or fails, is not run by the successors.
        """
        queue = self.makeQueue()
        for func, args in ((faults.killMyself, ()), (fail, (ValueError, "no"))):
            [failure] = await self.within(5.0, queue.update(func, *args))
            self.assertIsNotNone(failure.check(WorkerLost, ValueError))
        self.assertEqual(await self.within(5.0, queue.call(identity, 1)), 1)
        os.kill(self.pidOf(queue), signal.SIGKILL)
        self.assertEqual(await self.within(5.0, queue.call(identity, 2)), 2)

    async def test_onEachWorkerOnce(self) -> None:
        """
        An update is run once by each worker, whatever they are at.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        await self.allOf([queue.call(identity, number) for number in range(3000)])
        long = queue.call(faults.spin, 0.3)
        await deferLater(reactor, 0.02)
        pids = await self.within(5.0, queue.update(os.getpid))
        self.assertEqual(set(pids), {worker.pid for worker in queue.workers()})
        await self.within(2.0, long)

    async def test_onAWorkerWhoseChildHasDied(self) -> None:
        """
        Also by one that gets another child meanwhile.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        os.kill(queue.workers()[0].pid, signal.SIGKILL)
        pids = await self.within(5.0, queue.update(os.getpid))
        # One that was given to the dead child may have run.
        told = [pid for pid in pids if isinstance(pid, int)]
        self.assertEqual(len(told), len(set(told)))

    async def test_beforeTheCallsOfASuccessor(self) -> None:
        """
        A successor has run all updates before it runs a call, in order, however many calls wait.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.update(functions.setValue, "A", 1, 0.2))
        await self.within(5.0, queue.update(functions.setValue, "B", 2))
        await self.allOf([queue.call(identity, number) for number in range(200)])
        os.kill(self.pidOf(queue), signal.SIGKILL)
        calls = [queue.call(functions.getValue, name) for name in "ABABAB"]
        self.assertEqual(await self.allOf(calls), [1, 2] * 3)

    async def test_longOne(self) -> None:
        """
        A successor may take long for an update, longer than a child may do nothing.
        """
        self.patch(lineage, "CHECK", 0.2)
        queue = self.makeQueue()
        await self.within(5.0, queue.update(functions.setValue, "A", 1, 1.5))
        os.kill(self.pidOf(queue), signal.SIGKILL)
        self.assertEqual(await self.within(5.0, queue.call(functions.getValue, "A")), 1)

    async def test_whileASuccessorStandsBy(self) -> None:
        """
        An update that comes when a successor is ready already, or has just taken over, is run by that as well.
        """
        queue = self.makeQueue(maxTasks=10)
        await self.allOf([queue.call(identity, number) for number in range(8)])
        await deferLater(reactor, 0.5)
        await self.within(5.0, queue.update(functions.setValue, "A", 1))
        values = [await self.within(5.0, queue.call(functions.getValue, "A")) for _ in range(12)]
        self.assertEqual(values, [1] * 12)
        queue = self.makeQueue(maxAge=0.3)
        await self.within(5.0, queue.d)
        pid = self.pidOf(queue)
        await self.within(5.0, queue.update(functions.setValue, "B", 2, 1.5))
        await self.until(lambda: queue.workers()[0].pid not in (None, pid), "a successor")
        self.assertEqual(await self.within(5.0, queue.call(functions.getValue, "B")), 2)

    def test_deathAfterTheLastUpdate(self) -> None:
        """
        A child that has died does not take over, even if the end of its last update comes to light only then.
        """
        self.patch(conversation, "TURN", -1.0)
        clock: Any = Clock()
        child: Any = SimpleNamespace(send=len, begun=0, reported=0, entered=0, life=Life.READY, pid=1)
        encoder, decoder = CallEncoder(standardDumps, (), 1000), Unpickler()
        talk = conversation.Conversation(child, False, clock, encoder, decoder, count(1).__next__, None)
        prepared: list[str] = []
        talk.prepare([b"one", b"two"], lambda: prepared.append("taken over"))
        child.onRecords([(frames.NOTHING, 0, 1, b""), (frames.NOTHING, 0, 2, b"")])
        child.onDeath(Death(Failure(ProcessDone(0))))
        self.assertEqual(prepared, [])
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_startThatFailsAmidUpdates(self) -> None:
        """
        A worker that is to run updates, and cannot be started, is told of.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.update(os.getpid))
        worker = self.makeWorker(onStart=faults.complainAndExit, onStartArgs=["no licence", 3])
        await self.errorOf(queue.attachWorker(worker), WorkerStartError)

    async def test_detachedWhileBooting(self) -> None:
        """
        Who waits for a worker to start is told when that is not going to be.
        """
        queue = TaskQueue(returnFailure=True)
        worker = self.makeWorker()
        attached = queue.attachWorker(worker)
        await self.within(5.0, queue.detachWorker(worker))
        await self.errorOf(attached, WorkerLost)
        await self.within(5.0, queue.shutdown())


class ChildTests(ProcessTestCase):
    """
    What children do, and what is done to them.
    """

    async def reading(self, queue: Any, number: int, seconds: float) -> tuple[Any, Deferred[Any]]:
        """
        Have a child sleep in a generator that somebody reads.
        """
        reader = aiter(await self.within(5.0, queue.call(functions.slowly, number, seconds)))
        await anext(reader)
        waiting = Deferred.fromCoroutine(reader.__anext__())
        await deferLater(reactor, 0.1)
        return reader, waiting

    async def test_sleepingGenerator(self) -> None:
        """
        A child that sleeps in a generator is not hung, whoever waits behind it.
        """
        self.patch(lineage, "CHECK", 0.2)
        queue = self.makeQueue()
        _, waiting = await self.reading(queue, 2, 1.5)
        call = queue.call(identity, 5)
        self.assertEqual(await self.within(5.0, waiting), 1)
        self.assertEqual(await self.within(5.0, call), 5)

    async def test_cancelBehindAGenerator(self) -> None:
        """
        A call that is cancelled behind a generator costs nobody anything.
        """
        queue = self.makeQueue(grace=0.3)
        _, waiting = await self.reading(queue, 2, 2.0)
        pid = self.pidOf(queue)
        call = queue.call(identity, 5)
        await deferLater(reactor, 0.05)
        call.cancel()
        await self.errorOf(call, CancelledError)
        self.assertEqual(await self.within(5.0, waiting), 1)
        self.assertEqual(self.pidOf(queue), pid)

    async def test_behindAGenerator(self) -> None:
        """
        A call that waits behind a generator is taken by another worker that has nothing to do.
        """
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        _, waiting = await self.reading(queue, 2, 5.0)
        waiting.addErrback(lambda failure: None)
        for number in range(6):
            self.assertEqual(await self.within(1.0, queue.call(identity, number)), number)

    async def test_stoppedWhenRetired(self) -> None:
        """
        A child that is stopped in its last call is found, too.
        """
        self.patch(lineage, "CHECK", 0.2)
        queue = self.makeQueue(maxTasks=1)
        error = await self.errorOf(queue.options(idempotent=False).call(functions.stopMyself), WorkerLost, limit=5.0)
        self.assertIn("stopped", str(error))

    async def test_resultsBeforeADeath(self) -> None:
        """
        What a child has sent before it died counts, however long it takes to hand that on.
        """
        queue = self.makeQueue()
        note = self.path()
        await self.within(5.0, queue.d)
        await self.allOf([queue.call(identity, number) for number in range(3000)])

        def slowly(result: Any) -> Any:
            time.sleep(0.01)
            return result

        sure = queue.options(idempotent=False)
        calls = [sure.call(faults.noteRun, note).addCallback(slowly) for _ in range(30)]
        last = sure.call(faults.killMyself)
        pairs = await self.within(10.0, DeferredList(calls, consumeErrors=True))
        self.assertEqual([isOkay for isOkay, _ in pairs], [True] * 30)
        await self.errorOf(last, WorkerLost)
        self.assertEqual(faults.runsIn(note), "." * 30)

    async def test_nastyException(self) -> None:
        """
        An exception that raises others when it is looked at costs its own call alone.
        """
        queue = self.makeQueue()
        await self.within(5.0, queue.d)
        pid = self.pidOf(queue)
        await self.errorOf(queue.call(functions.raiseNasty), ProcessError, functions.Nasty)
        self.assertEqual(self.pidOf(queue), pid)

    async def test_longError(self) -> None:
        """
        An error may be told of that is longer than a result may be.
        """
        for useReactor in (False, True):
            queue = self.makeQueue(limit=2000, useReactor=useReactor)
            error = await self.errorOf(queue.call(functions.raiseLong, 3000), ValueError)
            self.assertEqual(error.args, ("x" * 3000,))

    async def test_whatOfAResultCannotTravel(self) -> None:
        """
        The part of a result, or of an item, that cannot be pickled is named.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(functions.lockWithin), ResultEncodeError)
        self.assertIn("result[1]['lock']", str(error))
        deferator = await self.within(5.0, queue.call(functions.lockWithinItem))
        reader = aiter(deferator)
        self.assertEqual(await anext(reader), 1)
        error = await self.errorOf(Deferred.fromCoroutine(reader.__anext__()), ResultEncodeError)
        self.assertIn("item[0]", str(error))

    async def test_causeWithoutANumber(self) -> None:
        """
        An OSError that has a text only keeps it.
        """
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(functions.raiseFromOSError), ValueError)
        self.assertEqual(str(error.__cause__), "conn text")

    async def test_fork(self) -> None:
        """
        A copy that a call makes of its process ends with the call, and never speaks for the child.
        """
        queue = self.makeQueue()
        self.assertEqual(await self.within(5.0, queue.call(functions.forkAndExit)), "parent's")
        pid = self.pidOf(queue)
        self.assertEqual(await self.within(5.0, queue.call(functions.forkAndReturn)), pid)
        pids = await self.allOf([queue.call(os.getpid) for _ in range(60)])
        self.assertEqual(set(pids), {pid})

    async def test_surroundings(self) -> None:
        """
        What a call has made of signals, and of the mask for files, is undone.
        """
        queue = self.makeQueue()
        before = await self.within(5.0, queue.call(functions.lookAtSignals))
        await self.within(5.0, queue.call(functions.changeSignals))
        self.assertEqual(await self.within(5.0, queue.call(functions.lookAtSignals)), before)
        self.assertEqual(before[:3], (True, set(), 0))

    async def test_functionThatIsReplaced(self) -> None:
        """
        A function is what its name means in the child at the moment.
        """
        queue = self.makeQueue()
        found = []
        for func in (functions.replaceVersion, None, functions.restoreVersion, None):
            if func is None:
                found.append(await self.within(5.0, queue.call(functions.version)))
            else:
                found.append(await self.within(5.0, queue.call(functions.version)))
                await self.within(5.0, queue.call(func))
        self.assertEqual(found, ["first", "other", "other", "first"])

    async def test_seriesBehindAnImport(self) -> None:
        """
        The next call of a series does not overtake one whose module is being imported.
        """
        folder = Path(self.path())
        folder.mkdir()
        (folder / "slowly_imported.py").write_text(
            "import time\ntime.sleep(0.5)\nfrom asynqueue.testing.faults import noteRun as note\n", encoding="utf-8"
        )
        (folder / "wrapping.py").write_text(
            "class Late:\n"
            "    def __init__(self, path, text):\n"
            "        self.parts = path, text\n"
            "    def __reduce__(self):\n"
            "        return late, self.parts\n"
            "def late(path, text):\n"
            "    import slowly_imported\n"
            "    return Late(path, text)\n"
            "def run(it):\n"
            "    from asynqueue.testing.faults import noteRun\n"
            "    return noteRun(*it.parts)\n",
            encoding="utf-8",
        )
        sys.path.insert(0, str(folder))
        self.addCleanup(sys.path.remove, str(folder))
        import wrapping  # type: ignore[import-not-found]

        self.addCleanup(sys.modules.pop, "wrapping")
        queue = self.makeQueue(2)
        await self.within(5.0, queue.d)
        note = self.path()
        await self.allOf([queue.call(identity, number) for number in range(4)])
        first = queue.call(wrapping.run, wrapping.Late(note, "1"), series="process")
        second = queue.call(faults.noteRun, note, "2", series="process")
        await self.within(5.0, gatherResults([first, second]))
        self.assertEqual(faults.runsIn(note), "12")

    async def test_lastWords(self) -> None:
        """
        What a child writes last is in the error, however much it has written before.
        """
        queue = self.makeQueue()
        for lines in (0, 10, 3000, 30_000):
            error = await self.errorOf(queue.options(idempotent=False).call(functions.writeErrors, lines), WorkerLost)
            self.assertIn("the reason", str(error))

    async def test_directoryThatIsGone(self) -> None:
        """
        A program whose working directory has been removed is told so.
        """
        here = os.getcwd()
        folder = self.path()
        os.mkdir(folder)
        os.chdir(folder)
        self.addCleanup(os.chdir, here)
        os.rmdir(folder)
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(identity, 1), WorkerStartError, limit=5.0)
        self.assertIn("No such file or directory", str(error))

    async def test_idleShrinkSparesStreams(self) -> None:
        """
        A worker that has an open stream is not let go of for having nothing to do.
        """
        queue = self.makeQueue(None, min=1, max=2, idle=0.3)
        await self.within(5.0, queue.d)
        streams = await self.within(5.0, gatherResults([queue.call(functions.slowly, 60, 0.05) for _ in range(2)]))
        readers = [aiter(each) for each in streams]
        for reader in readers:
            await anext(reader)
        await deferLater(reactor, 3.5)
        for reader in readers:
            self.assertEqual(len([item async for item in reader]), 59)

    async def test_guardThatIsKilled(self) -> None:
        """
        A guard that is killed is started again.
        """
        from asynqueue.process import guard

        queue = self.makeQueue(guard=True)
        await self.within(5.0, queue.d)
        first = guard._guard
        assert first is not None
        transport: Any = first.transport
        transport.signalProcess("KILL")
        await self.until(lambda: guard._guard not in (None, first), "another guard")


class MainTests(ProcessTestCase):
    """
    The program's main module in children.
    """

    def runProgram(self, text: str, *args: str) -> str:
        """
        Run a program to its end.
        """
        program = Program(self.path() + ".py", text, self.mark, *args)
        self.addCleanup(program.close)
        code, out, err = program.end(20.0)
        self.assertEqual(code, 0, err)
        return out

    def test_mentioned(self) -> None:
        """
        Data in which the main module is only mentioned does not have it loaded.
        """
        out = self.runProgram(
            "from twisted.internet.task import react\n"
            "from twisted.internet.defer import Deferred\n"
            "from asynqueue import ProcessQueue\n"
            "from asynqueue.testing.tasks import identity\n"
            "print('top level', __name__, flush=True)\n"
            "async def main():\n"
            "    async with ProcessQueue(1, returnFailure=True) as queue:\n"
            "        print(await queue.call(identity, 'text with __main__ in it'))\n"
            "react(lambda reactor: Deferred.fromCoroutine(main()))\n"
        )
        self.assertEqual(out.splitlines(), ["top level __main__", "text with __main__ in it"])

    def test_namesOfTheChildsOwn(self) -> None:
        """
        A function of the main module is that one, whatever the child's own main module has by its name.
        """
        out = self.runProgram(
            "from twisted.internet.task import react\n"
            "from twisted.internet.defer import Deferred\n"
            "from asynqueue import ProcessQueue\n"
            "def read(text):\n"
            "    return 'read ' + text\n"
            "def _becomeChild():\n"
            "    return 'mine'\n"
            "async def main():\n"
            "    async with ProcessQueue(1, returnFailure=True) as queue:\n"
            "        print(await queue.call(read, 'it'), await queue.call(_becomeChild))\n"
            "if __name__ == '__main__':\n"
            "    react(lambda reactor: Deferred.fromCoroutine(main()))\n"
        )
        self.assertEqual(out, "read it mine\n")
