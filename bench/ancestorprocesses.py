"""
Measurements of AsynQueue 0.9.9's process workers, by its documented API.

As L{bench.ancestor}, which lies beside it and has the loops, this file is run as a script, by an interpreter that has
AsynQueue 0.9.9 installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from asynqueue import ProcessQueue


def nap(seconds: float) -> float:
    """
    Take some time.

    @return: How long it has taken, in seconds.
    """
    start = perf_counter()
    sleep(seconds)
    return perf_counter() - start


async def added(queue: Any, milliseconds: int, rounds: int) -> dict[str, float]:
    """
    Make calls that take some milliseconds each, one at a time.
    """
    times = []
    for _ in range(rounds):
        start = perf_counter()
        took = await queue.call(nap, milliseconds / 1000)
        times.append(perf_counter() - start - took)
    return {"added": sorted(times)[len(times) // 2]}


async def measure(loops: Any, arguments: argparse.Namespace) -> dict[str, float]:
    """
    Make a measurement.
    """
    queue = ProcessQueue(arguments.workers, returnFailure=True)
    count, rounds = arguments.count, arguments.rounds
    if arguments.measurement == "burst":
        return dict(await loops.burst(queue, count, rounds, perf_counter))
    if arguments.measurement == "added":
        return await added(queue, count, rounds)
    readers = {"byDeferreds": loops.byDeferreds, "byConsumer": loops.byConsumer}
    return dict(await loops.read(readers[arguments.measurement], queue, count, rounds, perf_counter))


async def main(reactor: Any) -> None:
    """
    Make the measurement that the command line asks for.
    """
    sys.path.append(str(Path(__file__).parent))
    loops = import_module("ancestor")
    parser = argparse.ArgumentParser()
    parser.add_argument("measurement")
    parser.add_argument("count", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if version("asynqueue") != loops.EXPECTED:
        sys.exit(f"asynqueue {version('asynqueue')} is installed where {loops.EXPECTED} should be")
    # Its warm-up must not be longer than the bursts that it can stand.
    setattr(loops, "WARM_UP", min(vars(loops)["WARM_UP"], 100))  # noqa: B010 -- it is not a name of that module's own
    sample: dict[str, Any]
    try:
        sample = await measure(loops, arguments)
    except loops.Lost as lost:
        sample = {"problem": str(lost)}
    print(json.dumps(sample), flush=True)
    # A shutdown does not end while calls are lost. Its children go with the pipes, or are ended from outside.
    os._exit(0)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
