"""
C{twist asynqueue}: a server as a service of Twisted's, with the options of C{asynqueue worker}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from asynqueue.cli.options import as_options
from asynqueue.cli.terminal import one_line
from asynqueue.errors import AsynQueueError
from asynqueue.service.choices import DEFAULT_WORKERS, Choices, parseWorkers
from asynqueue.service.nodeservice import NodeService
from asynqueue.service.notices import Notices
from asynqueue.wire.server import GRACE, WireServer
from asynqueue.wire.signals import endAtSecond
from asynqueue.wire.switches import SWITCHES

log = Logger()


class Options(UsageOptions):
    """
    The options.
    """

    optParameters: ClassVar[list[list[Any]]] = [
        ["listen", "l", None, "Where to listen, such as unix:/run/user/1000/asynqueue/queue. Must be given."],
        ["workers", "w", DEFAULT_WORKERS, "What runs the calls: thread:N, process:N, both with a comma, or reactor."],
        ["universe", "u", None, "The full name of a WireWorkerUniverse, or of its class."],
        ["serializer", None, "plain", "How values travel: plain, json or msgpack."],
        ["name", None, None, "What the node calls itself, instead of the name of the host."],
        ["grace", None, GRACE, "How many seconds calls may take at the end.", float],
    ]

    optFlags: ClassVar[list[list[Any]]] = [
        ["pickles", None, "Have callers with the role 'code' send pickles, and any function."],
        ["no-pickles", None, "Have nobody send pickles, not even over unix: sockets."],
        *(["-".join(name.split("_")), None, f"Permit {permits}."] for name, permits in SWITCHES.items()),
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["modules"] = []

    def opt_import(self, module: str) -> None:
        """
        Import a module whose functions are exposed. May be given again.
        """
        self["modules"].append(module)

    def postOptions(self) -> None:
        """
        Look at what belongs together.

        @raise UsageError: It does not.
        """
        if self["listen"] is None:
            raise UsageError("--listen must say where to listen")
        if self["pickles"] and self["no-pickles"]:
            raise UsageError("--pickles and --no-pickles exclude each other")
        try:
            self["workers"] = parseWorkers(self["workers"])
        except ValueError as error:
            raise UsageError(f"--workers: {error}") from None

    def choices(self) -> Choices:
        """
        Return what the server is to be.
        """
        pickles = True if self["pickles"] else False if self["no-pickles"] else None
        return Choices(
            listen=self["listen"],
            workers=self["workers"],
            universe=self["universe"],
            modules=tuple(self["modules"]),
            serializer=self["serializer"],
            pickles=pickles,
            name=self["name"],
            grace=self["grace"],
            **{name: bool(self["-".join(name.split("_"))]) for name in SWITCHES},
        )


def makeService(options: Options, reactor: Any = None, endProcess: Callable[[int], object] = os._exit) -> IService:
    """
    Make the service.

    @param reactor: The reactor, by default the global one, which C{twist} has installed.
    @param endProcess: Ends the process with an exit code: when the reactor has stopped for the server could not be
        started, and at the second signal.
    @raise SystemExit: The server cannot be made; the text says why.
    """
    if reactor is None:
        from twisted.internet import reactor
    description = options["listen"]

    def failed(failure: Failure) -> None:
        log.critical("the server at {place} cannot be started: {why}", place=description, why=failure.getErrorMessage())
        if not failure.check(AsynQueueError, CannotListenError, OSError):
            log.failure("this is where it went wrong", failure)
        # Twist would exit with 0, and nobody who watches over it would know.
        reactor.addSystemEventTrigger("after", "shutdown", endProcess, 1)
        reactor.callWhenRunning(reactor.stop)

    try:
        server = options.choices().makeServer(reactor)
    except (AsynQueueError, AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        problem = one_line(as_options(str(error)))
        raise SystemExit(f"asynqueue: the server at {description} cannot be started: {problem}") from None
    service: IService = _TwistService(server, failed, reactor, endProcess)
    return service


class _TwistService(NodeService):
    """
    Starts and stops a server with the reactor, which hears the first signal that asks the program to end. At the second
    one the process ends at once.
    """

    def __init__(
        self,
        server: WireServer,
        onFailed: Callable[[Failure], object],
        reactor: Any,
        endProcess: Callable[[int], object],
    ) -> None:
        super().__init__(server, Notices(os.environ), onFailed)
        self._reactor = reactor
        self._endProcess = endProcess

    def startService(self) -> Deferred[str | None]:
        """
        Start the server when the reactor runs. Until it hears signals, an interrupt is an exception, which would be
        lost in the midst of a start.
        """
        Service.startService(self)
        begun: Deferred[str | None] = Deferred()
        self._reactor.callWhenRunning(self._begin, begun)
        return begun

    def _begin(self, begun: Deferred[str | None]) -> None:
        if self.running:
            endAtSecond(endProcess=self._endProcess)
            super().startService().chainDeferred(begun)
        else:
            begun.callback(None)
