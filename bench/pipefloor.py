"""
The floor of calls in child processes: the least code that sends a pickled frame from a reactor to a child and back.

The child is a plain loop: it reads a frame, unpickles it, calls, pickles the result and writes a frame. The parent
writes to the pipe at once and reads when the reactor says so. There is no queue, no error is caught and nothing is
supervised; one call is on its way at a time. A frame is its length in 4 bytes and a pickle.

The floor of a cold start is the start and the end of an interpreter that does nothing.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from struct import Struct
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred

from bench.child import Arguments, measure
from bench.loops import oneAtATime
from bench.watches import Sample

#: The loop of the child: frames come from its standard input and go to its standard output.
CHILD = """\
import os, pickle, struct
prefix = struct.Struct("=I")
while True:
    data = os.read(0, 65536)
    if not data:
        break
    while len(data) < 4 or len(data) < 4 + prefix.unpack_from(data)[0]:
        data += os.read(0, 65536)
    func, args = pickle.loads(memoryview(data)[4:])
    packed = pickle.dumps(func(*args), 5)
    os.write(1, prefix.pack(len(packed)) + packed)
"""

PREFIX = Struct("=I")


class BareChild:
    """
    A child, as a reactor reads from it and writes to it.
    """

    def __init__(self, reactor: Any) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        self._deferred: Deferred[Any] = Deferred()
        reactor.addReader(self)

    def call(self, func: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """
        Have the child call something, while it calls nothing else.
        """
        deferred: Deferred[Any] = Deferred()
        self._deferred = deferred
        packed = pickle.dumps((func, args), 5)
        os.write(self._in, PREFIX.pack(len(packed)) + packed)
        return deferred

    def doRead(self) -> None:
        """
        Take a result.
        """
        data = os.read(self._out, 65536)
        while len(data) < 4 or len(data) < 4 + PREFIX.unpack_from(data)[0]:
            data += os.read(self._out, 65536)
        self._deferred.callback(pickle.loads(memoryview(data)[4:]))

    def fileno(self) -> int:
        """
        Return the descriptor that results come from.
        """
        return self._out

    def logPrefix(self) -> str:
        """
        Return what the reactor calls this.
        """
        return "floor"

    def connectionLost(self, reason: object) -> None:
        """
        End with the reactor.
        """
        self._process.kill()


async def latency(reactor: Any, arguments: Arguments) -> Sample:
    """
    @see: L{oneAtATime}
    """
    return await oneAtATime(BareChild(reactor).call, arguments.count)


async def start(reactor: Any, arguments: Arguments) -> Sample:
    """
    Start an interpreter that does nothing, and wait for its end. The reactor has no part in it, and stands still.
    """
    times = []
    for _ in range(arguments.count):
        began = perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], stdin=subprocess.DEVNULL, check=True)
        times.append(perf_counter() - began)
    return {"total": sorted(times)[len(times) // 2]}


if __name__ == "__main__":
    measure({"latency": latency, "start": start})
