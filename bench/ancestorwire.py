"""
Measurements of AsynQueue 0.9.9's wire workers, by its documented API.

As L{bench.ancestor}, which lies beside it and has the loops, this file is run as a script, by an interpreter that has
AsynQueue 0.9.9 installed. Its server imports this file, too, for the universe.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from asynqueue import TaskQueue
from asynqueue.wire import ServerManager, WireWorker, WireWorkerUniverse


class Universe(WireWorkerUniverse):
    """
    Trivial methods.
    """

    def identity(self, value: int) -> int:
        """
        Be the trivial function that all calls are of.
        """
        return value

    def numbers(self, count: int) -> Iterator[int]:
        """
        Be the trivial generator that all streams come from.
        """
        yield from range(count)


class Named:
    """
    A queue whose calls are by the names of what they are of.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def call(self, func: Any, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Call a method of the universe.
        """
        called: Deferred[Any] = self._queue.call(func.__name__, *args, **kw)
        return called


async def main(reactor: Any) -> None:
    """
    Make the measurement that the command line asks for.
    """
    here = str(Path(__file__).parent)
    sys.path.append(here)
    loops = import_module("ancestor")
    parser = argparse.ArgumentParser()
    parser.add_argument("measurement")
    parser.add_argument("count", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if version("asynqueue") != loops.EXPECTED:
        sys.exit(f"asynqueue {version('asynqueue')} is installed where {loops.EXPECTED} should be")
    # The server finds its universe here, and must not find this library in the working directory.
    os.environ["PYTHONPATH"] = here
    os.chdir(tempfile.mkdtemp())
    # Its warm-up must not be longer than what it can stand.
    setattr(loops, "WARM_UP", min(vars(loops)["WARM_UP"], 100))  # noqa: B010 -- it is not a name of that module's own
    manager = ServerManager("ancestorwire.Universe")
    description = manager.newSocket()
    await manager.spawn(description)
    queue = TaskQueue()
    await queue.attachWorker(WireWorker(Universe(), description))
    named = Named(queue)
    sample: dict[str, Any]
    try:
        if arguments.measurement == "burst":
            sample = dict(await loops.burst(named, arguments.count, arguments.rounds, perf_counter))
        elif arguments.measurement == "latency":
            sample = dict(await loops.latency(named, arguments.count))
        else:
            reader = {"byDeferreds": loops.byDeferreds, "byConsumer": loops.byConsumer}[arguments.measurement]
            sample = dict(await loops.read(reader, named, arguments.count, arguments.rounds, perf_counter))
    except loops.Lost as lost:
        sample = {"problem": str(lost)}
    print(json.dumps(sample), flush=True)
    await manager.shutdown()
    os._exit(0)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
