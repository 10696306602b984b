"""
What the command line says of a server: its workers, its switches, and all else.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from attrs import field, frozen

from asynqueue.process.worker import ProcessWorker
from asynqueue.wire.server import GRACE, WireServer

#: How many workers of one kind there may be.
MOST_WORKERS = 1024

#: What C{--workers} is unless told otherwise.
DEFAULT_WORKERS = "process:cores"

#: What C{--serializer} may be. Pickles are a matter of their own.
SERIALIZERS = ("plain", "json", "msgpack")

_FORMS = "thread:N, process:N, both with a comma between them, or reactor, where N is a number or 'cores'"


@frozen
class Workers:
    """
    How many workers of which kinds a server has. Without any, calls run in its reactor.
    """

    threads: int = 0
    processes: int = 0


def parseWorkers(text: str) -> Workers:
    """
    Understand a choice of workers.

    @param text: C{thread:N}, C{process:N}, or both with a comma between them; C{cores} for as many as there are
        processor cores, and nothing for one; or C{reactor}.
    @raise ValueError: It says something else.
    """
    counts: dict[str, int] = {}
    for part in text.split(","):
        kind, colon, number = part.strip().partition(":")
        if kind in counts:
            raise ValueError(f"{text!r} has {kind} twice")
        if kind == "reactor" and not colon and not counts:
            counts[kind] = 0
        elif kind in ("thread", "process") and "reactor" not in counts:
            counts[kind] = _count(text, number if colon else "1")
        else:
            raise ValueError(f"{part.strip()!r} in {text!r} is no choice of workers, which are {_FORMS}")
    return Workers(counts.get("thread", 0), counts.get("process", 0))


def _count(text: str, number: str) -> int:
    if number == "cores":
        return ProcessWorker.cores()
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= MOST_WORKERS):
        raise ValueError(f"{number!r} in {text!r} is no number of workers: from 1 to {MOST_WORKERS}, or 'cores'")
    return int(number)


@frozen(kw_only=True)
class Choices:
    """
    What a server is to be.

    @ivar listen: The description of where it listens.
    @ivar universe: The full name of a universe, or of its class, or C{None}.
    @ivar modules: The names of modules to import, whose functions are exposed by that.
    @see: L{WireServer}, for the rest
    """

    listen: str
    workers: Workers = field(factory=Workers)
    universe: str | None = None
    modules: tuple[str, ...] = ()
    serializer: str = "plain"
    pickles: bool | None = None
    name: str | None = None
    grace: float = GRACE
    insecure_plaintext: bool = False
    insecure_one_way_tls: bool = False
    insecure_root: bool = False

    def makeServer(self, reactor: Any) -> WireServer:
        """
        Import what there is to import, from the current directory too, and make the server.

        @raise ImportError: A module is not there, or cannot be imported.
        @raise ValueError: There is no such serializer, or another choice is wrong.
        @raise Exception: Whatever else L{WireServer} or a module has to complain of.
        """
        here = os.getcwd()
        if (self.modules or self.universe is not None) and "" not in sys.path and here not in sys.path:
            # A command that was installed has its own folder there instead.
            sys.path.insert(0, here)
        if self.serializer not in SERIALIZERS and self.serializer != "pickle":
            known = ", ".join(SERIALIZERS)
            raise ValueError(f"--serializer must be one of {known}, not {self.serializer!r}")
        for module in self.modules:
            try:
                import_module(module)
            except Exception as error:
                # It can be anything that runs.
                problem = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
                raise ImportError(f"the module {module} cannot be imported: {problem}") from error
        return WireServer(
            self.listen,
            self.universe,
            threads=self.workers.threads,
            processes=self.workers.processes,
            serializer=self.serializer,
            pickles=self.pickles,
            name=self.name,
            grace=self.grace,
            reactor=reactor,
            insecure_plaintext=self.insecure_plaintext,
            insecure_one_way_tls=self.insecure_one_way_tls,
            insecure_root=self.insecure_root,
        )
