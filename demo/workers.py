"""
The choice of workers: what the C{--workers} option may say, and the workers that it stands for.

A kind of worker is one L{WorkerKind} in L{KINDS}, and nothing else here or in the rest of the demo knows the kinds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from attrs import frozen

from asynqueue import AsyncWorker, ProcessWorker, ThreadWorker
from asynqueue.interfaces import IWorker
from asynqueue.wire import ServerManager, WireWorker

#: How many workers of one kind a choice may ask for.
MOST_WORKERS = 64


class BadWorkers(ValueError):
    """
    The text is no choice of workers.
    """


@frozen
class WorkerKind:
    """
    A kind of worker that the demo can use.

    @ivar name: What the option calls it.
    @ivar hire: Makes workers, by their number, each qualified for the series that are given. What they need is there
        within the context that it returns.
    @ivar where: Where its calls run, for the help text.
    @ivar comparison: Says in a sentence what to expect of its time, compared with the same work done one by one.
    """

    name: str
    hire: Callable[[Sequence[str], int], AbstractAsyncContextManager[list[IWorker]]]
    where: str
    comparison: Callable[[], str]


@frozen
class WorkerChoice:
    """
    How many workers of which kinds to use.

    @ivar text: The choice as the user wrote it.
    @ivar parts: Each kind with a number of workers.
    """

    text: str
    parts: tuple[tuple[WorkerKind, int], ...]

    @asynccontextmanager
    async def hire(self, series: Sequence[str] = ()) -> AsyncIterator[list[IWorker]]:
        """
        Return a context whose value is the workers, each qualified for these series besides those of its class.

        @raise WorkerStartError: What they need cannot be started.
        """
        async with AsyncExitStack() as stack:
            yield [
                worker
                for kind, count in self.parts
                for worker in await stack.enter_async_context(kind.hire(series, count))
            ]

    def compare(self) -> str:
        """
        Say what to expect of the time, compared with the same work done one by one.
        """
        return " ".join(dict.fromkeys(kind.comparison() for kind, _ in self.parts))


def hasInterpreterLock() -> bool:
    """
    Tell whether only one thread of this interpreter runs Python code at a time.
    """
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _compareThreads() -> str:
    if hasInterpreterLock():
        return (
            "Threads take turns at the interpreter's lock (the GIL), so pure computing gets no faster on several of "
            "them: what differs from 1 is the cost of switching, and what else the machine was doing. What they give "
            "is a reactor that stays responsive meanwhile."
        )
    return "This interpreter has no global lock, so its threads compute side by side."


def _compareAsync() -> str:
    return "An async worker runs its calls in the reactor's own thread, so they still happen one by one."


def _compareProcesses() -> str:
    return (
        f"Child processes compute side by side, on the {ProcessWorker.cores()} processor cores that there are for this "
        "program; what a call takes and gives travels between them."
    )


def _compareWire() -> str:
    return (
        "The server that a wire worker reaches, over a unix socket, is a process of its own whose children compute "
        f"side by side, on the {ProcessWorker.cores()} processor cores that there are for this program; what a call "
        "takes and gives travels through it."
    )


def _alike(
    make: Callable[[list[str]], IWorker],
) -> Callable[[Sequence[str], int], AbstractAsyncContextManager[list[IWorker]]]:
    """
    Return what hires workers that need nothing, given what makes one.
    """

    @asynccontextmanager
    async def hire(series: Sequence[str], count: int) -> AsyncIterator[list[IWorker]]:
        yield [make(list(series)) for _ in range(count)]

    return hire


@asynccontextmanager
async def _serve(series: Sequence[str], count: int) -> AsyncIterator[list[IWorker]]:
    """
    Start a server with so many children. One worker has all of them at work.
    """
    isRoot = hasattr(os, "geteuid") and os.geteuid() == 0
    manager = ServerManager(insecure_root=isRoot)
    try:
        place = manager.newSocket()
        await manager.spawn(place, processes=count)
        yield [WireWorker(None, place, series)]
    finally:
        await manager.shutdown()


#: The kinds by name. A new kind is a new line here.
KINDS: Mapping[str, WorkerKind] = {
    kind.name: kind
    for kind in (
        WorkerKind("process", _alike(lambda series: ProcessWorker(series)), "in a child process", _compareProcesses),
        WorkerKind("thread", _alike(lambda series: ThreadWorker(series)), "in a thread", _compareThreads),
        WorkerKind("async", _alike(lambda series: AsyncWorker(series)), "in the reactor", _compareAsync),
        WorkerKind("wire", _serve, "in a child process of a server on this host", _compareWire),
    )
}


def describeKinds() -> str:
    """
    Name the valid kinds with what they are, for a help text or an error.
    """
    return ", ".join(f"{kind.name} ({kind.where})" for kind in KINDS.values())


def parseWorkers(text: str) -> WorkerChoice:
    """
    Understand a choice of workers.

    @param text: C{kind:count}, or C{kind} for one worker, or several of these with commas between them:
        C{"thread:4"}, C{"async"}, C{"thread:3,async:1"}. The count may be C{cores}, for as many as there are processor
        cores.
    @raise BadWorkers: If it says anything else; the error names the valid kinds.
    """
    return WorkerChoice(text, tuple(_parsePart(text, part.strip()) for part in text.split(",")))


def _parsePart(text: str, part: str) -> tuple[WorkerKind, int]:
    name, colon, count = part.partition(":")
    if name not in KINDS:
        raise BadWorkers(
            f"{name!r} in {text!r} is no kind of worker; the kinds are {describeKinds()}; for example thread:4"
        )
    if not colon:
        return KINDS[name], 1
    if count == "cores":
        return KINDS[name], min(ProcessWorker.cores(), MOST_WORKERS)
    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= MOST_WORKERS):
        raise BadWorkers(
            f"{count!r} in {text!r} is no number of workers; after the colon comes one from 1 to {MOST_WORKERS}, "
            f"for example {name}:4, or 'cores'"
        )
    return KINDS[name], int(count)
