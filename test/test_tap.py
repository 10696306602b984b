"""
Tests of C{twist asynqueue}.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import IServiceMaker
from twisted.internet.defer import Deferred
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue import TaskQueue, deferToDelay, tap
from asynqueue.errors import InsecureTransport
from asynqueue.service.choices import Workers
from asynqueue.service.nodeservice import NodeService
from asynqueue.service.notices import Notices
from asynqueue.testing import LeakCheckMixin
from asynqueue.wire import WireWorker
from test.commands import ROOT, CommandMixin


class OptionsTests(SynchronousTestCase):
    """
    The options.
    """

    def options(self, *arguments: str) -> tap.Options:
        """
        Parse some, after one that says where to listen.
        """
        options = tap.Options()
        options.parseOptions(["--listen", "unix:queue", *arguments])
        return options

    def test_all(self) -> None:
        """
        Each is what a server is made by.
        """
        arguments = ["--workers", "thread:2", "--import", "one", "--import", "two", "--universe", "one.Universe"]
        arguments += ["--serializer", "json", "--no-pickles", "--name", "gpu1", "--grace", "3", "--insecure-root"]
        choices = self.options(*arguments).choices()
        self.assertEqual((choices.listen, choices.workers), ("unix:queue", Workers(2, 0)))
        self.assertEqual((choices.modules, choices.universe), (("one", "two"), "one.Universe"))
        self.assertEqual((choices.serializer, choices.pickles, choices.name), ("json", False, "gpu1"))
        self.assertEqual((choices.grace, choices.insecure_root, choices.insecure_plaintext), (3.0, True, False))

    def test_defaults(self) -> None:
        """
        They are those of the command C{asynqueue worker}.
        """
        choices = self.options().choices()
        self.assertGreaterEqual(choices.workers.processes, 1)
        self.assertEqual((choices.modules, choices.universe, choices.pickles), ((), None, None))
        self.assertEqual((choices.serializer, choices.grace), ("plain", 25.0))

    def test_mistakes(self) -> None:
        """
        Wrong ones are told of as twist does.
        """
        for arguments in (["--workers", "fibre"], ["--pickles", "--no-pickles"], ["--grace", "x"], ["--nothing"]):
            self.assertRaises(UsageError, self.options, *arguments)
        self.assertRaises(UsageError, tap.Options().parseOptions, [])

    def test_insecure(self) -> None:
        """
        What would be insecure ends the program with a line that names the option.
        """
        options = tap.Options()
        options.parseOptions(["--listen", "tcp:8700:interface=127.0.0.1", *ROOT])
        ended = self.assertRaises(SystemExit, tap.makeService, options, object())
        self.assertIn("--insecure-plaintext", str(ended))

    def test_plugin(self) -> None:
        """
        Twisted finds it.
        """
        (maker,) = (each for each in getPlugins(IServiceMaker) if each.tapname == "asynqueue")
        self.assertIs(maker.options, tap.Options)
        self.assertEqual(maker.makeService, tap.makeService)


class ScriptedServer:
    """
    Stands for a server that takes its time.
    """

    description = "unix:queue"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.started: Deferred[Any] = Deferred()

    def start(self) -> Deferred[Any]:
        """
        Take note.
        """
        self.calls.append("start")
        return self.started

    def stop(self) -> Deferred[None]:
        """
        Take note.
        """
        self.calls.append("stop")
        d: Deferred[None] = Deferred()
        d.callback(None)
        return d


class WaitingReactor:
    """
    Stands for a reactor that does not run yet.
    """

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def callWhenRunning(self, func: Callable[..., object], *args: object) -> None:
        """
        Take note.
        """
        self.waiting.append(lambda: func(*args))


class Port:
    """
    Stands for a port.
    """

    def getHost(self) -> object:
        """
        Return an address without a number.
        """
        return object()


class ServiceTests(SynchronousTestCase):
    """
    The service, around a server that is stepped by hand.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.server = ScriptedServer()
        self.failures: list[Failure] = []
        self.service = NodeService(cast(Any, self.server), Notices({}), self.failures.append)

    def test_startAndStop(self) -> None:
        """
        Each is done when the server has done it.
        """
        started = self.service.startService()
        self.assertNoResult(started)
        self.server.started.callback(Port())
        self.assertEqual(self.successResultOf(started), "unix:queue")
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.server.calls, ["start", "stop"])

    def test_stoppedWhileItStarts(self) -> None:
        """
        A server is stopped when it has been started, for it would listen afterwards.
        """
        started = self.service.startService()
        stopped = self.service.stopService()
        self.assertEqual(self.server.calls, ["start"])
        self.assertNoResult(stopped)
        self.server.started.callback(Port())
        self.successResultOf(started)
        self.successResultOf(stopped)
        self.assertEqual(self.server.calls, ["start", "stop"])

    def test_cannotStart(self) -> None:
        """
        The failure is handed on, and stopping afterwards is harmless.
        """
        started = self.service.startService()
        self.server.started.errback(InsecureTransport("x"))
        self.assertIsNone(self.successResultOf(started))
        self.assertEqual([failure.check(InsecureTransport) for failure in self.failures], [InsecureTransport])
        self.successResultOf(self.service.stopService())

    def test_untilTheReactorRuns(self) -> None:
        """
        The service of twist waits for the reactor, and takes no signals, nor starts a server, if it is stopped before.
        """
        options = tap.Options()
        options.parseOptions(["--listen", "unix:/tmp/aq-not-there/queue", "--workers", "reactor", *ROOT])
        reactor = WaitingReactor()
        service = cast(NodeService, tap.makeService(options, reactor))
        handler = signal.getsignal(signal.SIGTERM)
        started = service.startService()
        self.assertNoResult(started)
        self.successResultOf(service.stopService())
        (begin,) = reactor.waiting
        begin()
        self.assertIsNone(self.successResultOf(started))
        self.assertIsNone(service.server.node)
        self.assertIs(signal.getsignal(signal.SIGTERM), handler)

    def test_neverStarted(self) -> None:
        """
        A service that was never started stops at once.
        """
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.server.calls, [])


class TwistTests(LeakCheckMixin, CommandMixin, TestCase):
    """
    The program.
    """

    timeout = 60

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        self.makeFolder()

    async def test_F104_graceful(self) -> None:
        """
        It serves, and a call that is under way when it is told to end has its result.
        """
        command = ["twisted", "--log-format", "text", "--log-file", "log", "asynqueue", "--listen", self.description]
        program = self.start(*command, *ROOT, "--import", "thumbs", "--workers", "thread:1")
        queue = TaskQueue(WireWorker(None, self.description, whenLost="reconnect"), returnFailure=True)
        self.assertEqual(await queue.call("add", 1, 2), 3)
        slow = queue.call("slow", 0.5)
        await deferToDelay(0.2)
        program.send_signal(signal.SIGTERM)
        self.assertEqual(await slow, "none")
        self.assertEqual(self.ended(program), (-signal.SIGTERM, "", ""))
        await queue.shutdown()

    def test_cannotListen(self) -> None:
        """
        Where it cannot listen, the exit code says so.
        """
        self.worker("--workers", "reactor")
        command = ["twisted", "--log-format", "text", "asynqueue", "--listen", self.description, "-w", "reactor", *ROOT]
        code, output, _ = self.ended(self.start(*command))
        self.assertEqual(code, 1)
        self.assertIn("another process listens", output)
        self.assertNotIn("Traceback", output)
