"""
What makes a program of measurements: its command line, the reactor, and one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from bench.watches import Sample


class Arguments(argparse.Namespace):
    """
    The command line of a measuring process.

    @ivar measurement: Which measurement to make.
    @ivar count: Of how many calls.
    @ivar rounds: How many times over, where the time of one is short.
    @ivar threads: How many threads a pool has, where there is one.
    @ivar workers: How many processes there are for calls, where there are any.
    """

    measurement: str
    count: int
    rounds: int
    threads: int
    workers: int


#: A measurement: a function of the reactor and the command line.
Measurement = Callable[[Any, Arguments], Coroutine[Any, Any, Sample]]


def parseArguments() -> Arguments:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("measurement")
    parser.add_argument("count", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args(namespace=Arguments())


def measure(measurements: Mapping[str, Measurement]) -> None:
    """
    Make the measurement that the command line asks for, in the reactor, write its figures as a line of JSON, and exit.

    @param measurements: What there is, by name.
    """
    arguments = parseArguments()
    measurement = measurements[arguments.measurement]

    async def run(reactor: Any) -> None:
        await deferLater(reactor, 0)
        sample = await measurement(reactor, arguments)
        print(json.dumps(sample), flush=True)
        # Nothing is measured any more, and a million objects, or the thread of a pool, would take a while to go.
        os._exit(0)

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
