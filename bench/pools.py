"""
Measurements of other pools of processes: ProcessPoolExecutor and Pool of the standard library, pebble and joblib.

None of them has anything to do with a reactor, and none runs here. Each waits in its own way, as a program would that
uses it alone. They start their processes as they do by default.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing.pool import AsyncResult
from time import perf_counter
from typing import Any, Protocol

from bench.child import Arguments, parseArguments
from bench.loops import WARM_UP, identity, latency, middle, perCall
from bench.watches import Collector, Sample
from bench.work import LONG, SPIN, Block, same, sleep, spin

#: How many items travel at once, where one may choose.
CHUNK = 64

#: Seconds that any single result may take.
PATIENCE = 60.0


class Processes(Protocol):
    """
    A pool that calls can be given to, one by one.
    """

    def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """
        Return what stands for the result.
        """

    def result(self, pending: Any) -> Any:
        """
        Wait for the result.
        """

    def close(self) -> None:
        """
        End the processes.
        """


class Executor:
    """
    ProcessPoolExecutor.
    """

    def __init__(self, workers: int) -> None:
        self._executor = ProcessPoolExecutor(workers)
        self.submit = self._executor.submit

    def result(self, pending: Future[Any]) -> Any:
        """
        Wait for the result.
        """
        return pending.result(PATIENCE)

    def close(self) -> None:
        """
        End the processes.
        """
        self._executor.shutdown(cancel_futures=True)


class Pool:
    """
    The Pool of multiprocessing.
    """

    def __init__(self, workers: int) -> None:
        self.pool = multiprocessing.Pool(workers)
        self._apply = self.pool.apply_async

    def submit(self, func: Callable[..., Any], *args: Any) -> AsyncResult[Any]:
        """
        Return what stands for the result.
        """
        return self._apply(func, args)

    def result(self, pending: AsyncResult[Any]) -> Any:
        """
        Wait for the result.
        """
        return pending.get(PATIENCE)

    def close(self) -> None:
        """
        End the processes.
        """
        self.pool.terminate()


class Pebble:
    """
    The ProcessPool of pebble.
    """

    def __init__(self, workers: int) -> None:
        self._pool = import_module("pebble").ProcessPool(max_workers=workers)

    def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """
        Return what stands for the result.
        """
        return self._pool.schedule(func, args=args)

    def result(self, pending: Any) -> Any:
        """
        Wait for the result.
        """
        return pending.result(PATIENCE)

    def close(self) -> None:
        """
        End the processes.
        """
        self._pool.stop()
        self._pool.join(PATIENCE)


def _warm(pool: Processes) -> None:
    for pending in [pool.submit(identity, number) for number in range(WARM_UP)]:
        pool.result(pending)


def burst(pool: Processes, arguments: Arguments) -> Sample:
    """
    Submit many calls at once, and wait until all have their results.
    """
    collector = Collector()
    _warm(pool)
    samples = []
    pending: list[Any] = []
    for _ in range(arguments.rounds):
        pending = []
        collector.clear()
        start = perf_counter()
        pending = [pool.submit(identity, number) for number in range(arguments.count)]
        pool.result(pending[-1])
        results = [pool.result(each) for each in pending]
        samples.append(perCall(arguments.count, perf_counter() - start, collector.seconds))
        if results != list(range(arguments.count)):
            raise AssertionError("some calls had other results")
    return middle(samples)


def oneAtATime(pool: Processes, arguments: Arguments) -> Sample:
    """
    Make many calls, each when the one before it is done.
    """
    _warm(pool)
    gc.collect()
    times = []
    for number in range(arguments.count):
        start = perf_counter()
        if pool.result(pool.submit(identity, number)) != number:
            raise AssertionError(f"call {number} had another result")
        times.append(perf_counter() - start)
    return latency(times)


def added(pool: Processes, arguments: Arguments) -> Sample:
    """
    Make calls that take some milliseconds each, one at a time.

    @see: L{bench.processes.added}
    """
    _warm(pool)
    times = []
    for _ in range(arguments.rounds):
        start = perf_counter()
        took = pool.result(pool.submit(sleep, arguments.count / 1000))
        times.append(perf_counter() - start - took)
    return {"added": sorted(times)[len(times) // 2]}


def spins(pool: Processes, arguments: Arguments) -> Sample:
    """
    Submit calls that keep a core busy, all at once.

    @see: L{bench.processes.spins}
    """
    _warm(pool)
    for pending in [pool.submit(spin, SPIN) for _ in range(2 * arguments.workers)]:
        pool.result(pending)
    start = perf_counter()
    for pending in [pool.submit(spin, SPIN) for _ in range(arguments.count)]:
        pool.result(pending)
    return {"total": perf_counter() - start}


def mixed(pool: Processes, arguments: Arguments, where: float) -> Sample:
    """
    Submit one long call among tiny ones: behind a part of them.

    @see: L{bench.processes.mixed}
    """
    _warm(pool)
    start = perf_counter()
    pendings = []
    for number in range(arguments.count):
        if number == int(where * arguments.count):
            pendings.append(pool.submit(spin, LONG))
        pendings.append(pool.submit(identity, number))
    for pending in pendings:
        pool.result(pending)
    return {"total": perf_counter() - start}


def blocks(pool: Processes, arguments: Arguments) -> Sample:
    """
    Send a block of bytes there and back, several times.

    @see: L{bench.processes.blocks}
    """
    _warm(pool)
    block = Block(bytearray(b"x") * arguments.count)
    times = []
    for _ in range(arguments.rounds):
        began = perf_counter()
        pool.result(pool.submit(same, block))
        times.append(perf_counter() - began)
    return {"perMiB": sorted(times)[arguments.rounds // 2] / 2 / arguments.count * (1 << 20)}


def imap(pool: Pool, arguments: Arguments) -> Sample:
    """
    Map over numbers, and take the results as they come.
    """
    _warm(pool)
    return _mapped(arguments, lambda numbers: pool.pool.imap(identity, numbers, chunksize=CHUNK))


# joblib, which has no calls one by one


def _parallel(arguments: Arguments, calls: Callable[[Any], Iterable[Any]]) -> Any:
    joblib = import_module("joblib")
    return joblib.Parallel(n_jobs=arguments.workers)(calls(joblib.delayed))


def joblibSpins(arguments: Arguments) -> Sample:
    """
    @see: L{spins}
    """
    _parallel(arguments, lambda delayed: (delayed(spin)(SPIN) for _ in range(2 * arguments.workers)))
    start = perf_counter()
    _parallel(arguments, lambda delayed: (delayed(spin)(SPIN) for _ in range(arguments.count)))
    return {"total": perf_counter() - start}


def joblibMap(arguments: Arguments) -> Sample:
    """
    Map over numbers, in batches of which joblib chooses the length.
    """
    return _mapped(arguments, lambda numbers: _parallel(arguments, lambda delayed: map(delayed(identity), numbers)))


def _mapped(arguments: Arguments, run: Callable[[range], Iterable[int]]) -> Sample:
    list(run(range(WARM_UP)))
    gc.collect()
    start = perf_counter()
    results = list(run(range(arguments.count)))
    elapsed = perf_counter() - start
    if results != list(range(arguments.count)):
        raise AssertionError("some calls had other results")
    return {"perItem": elapsed / arguments.count}


# The command line

_KINDS: Mapping[str, Any] = {"executor": Executor, "pool": Pool, "pebble": Pebble}

_MEASUREMENTS: Mapping[str, Callable[[Any, Arguments], Sample]] = {
    "Burst": burst,
    "Latency": oneAtATime,
    "Added": added,
    "Spins": spins,
    "MixFirst": partial(mixed, where=0.0),
    "MixAmong": partial(mixed, where=0.5),
    "Imap": imap,
    "Blocks": blocks,
}

_JOBLIB: Mapping[str, Callable[[Arguments], Sample]] = {"joblibSpins": joblibSpins, "joblibMap": joblibMap}


def main() -> None:
    """
    Make the measurement that the command line asks for, such as C{executorBurst}, and write its figures as JSON.
    """
    arguments = parseArguments()
    name = arguments.measurement
    if name in _JOBLIB:
        print(json.dumps(_JOBLIB[name](arguments)), flush=True)
        return
    kind = next(kind for kind in _KINDS if name.startswith(kind))
    pool = _KINDS[kind](arguments.workers)
    try:
        sample = _MEASUREMENTS[name.removeprefix(kind)](pool, arguments)
    finally:
        pool.close()
    print(json.dumps(sample), flush=True)


if __name__ == "__main__":
    main()
