"""
What the tests of wire workers share: servers and their clients over unix sockets, and both over memory, on a virtual
clock.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import ITransport
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue import TaskQueue
from asynqueue.testing.wiretasks import Universe
from asynqueue.wire import WireServer, WireWorker
from asynqueue.wire.identity import Identity
from test.processes import GRACE, LIMIT, ProcessTestCase, Program
from test.support import QueueTestCase

#: Whether these tests are run by root, whose processes listen only if told so.
IS_ROOT = os.geteuid() == 0


class WireTestCase(ProcessTestCase):
    """
    Tests with servers that listen on unix sockets, in this process. After each, nothing is left.
    """

    def setUp(self) -> None:
        """
        Make a folder for sockets.
        """
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="aq-")
        self.addCleanup(self._folderIsEmpty)
        self.description = f"unix:{self.folder}/socket"
        self.universe = Universe()

    def _folderIsEmpty(self) -> None:
        left = [name for name in os.listdir(self.folder) if not name.endswith(".flock")]
        shutil.rmtree(self.folder)
        self.assertEqual(left, [], "sockets are left")

    def makeServer(self, **keywords: Any) -> WireServer:
        """
        Make a server, which is stopped at the end of the test.
        """
        given: dict[str, Any] = {
            "wwu": self.universe,
            "insecure_root": IS_ROOT,
            "grace": 1.0,
            "name": "node",
            "processKeywords": {"environment": self.environment, "grace": GRACE},
            **keywords,
        }
        server = WireServer(given.pop("description", self.description), given.pop("wwu"), **given)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.within(LIMIT, server.stop(), "the end of a server")))
        return server

    async def serve(self, **keywords: Any) -> WireServer:
        """
        Make a server, and wait until it listens.
        """
        server = self.makeServer(**keywords)
        await self.within(LIMIT, server.start(), "the start of a server")
        return server

    def makeWorker(self, **keywords: Any) -> Any:
        """
        Make a worker without a queue, which is crashed at the end of the test.
        """
        given: dict[str, Any] = {"wwu": None, "description": self.description, **keywords}
        worker = WireWorker(given.pop("wwu"), given.pop("description"), **given)
        self.addCleanup(worker.crash)
        return worker

    def client(self, *workers: Any, **keywords: Any) -> TaskQueue:
        """
        Make a queue with a worker, or with those given; it is shut down at the end of the test.
        """
        queue = TaskQueue(returnFailure=True)
        for worker in workers or (WireWorker(None, self.description, **keywords),):
            queue.attachWorker(worker).addErrback(lambda failure: None)
        self.addCleanup(self._end, queue)
        return queue

    def _end(self, queue: TaskQueue) -> Deferred[Any]:
        done: Deferred[Any] = queue.shutdown(drain=False, deadline=1.0)
        return Deferred.fromCoroutine(self.within(LIMIT, done, "the end of a queue"))

    async def itemsOf(self, queue: TaskQueue, *call: Any, **keywords: Any) -> list[Any]:
        """
        Iterate over what a call returns.
        """
        items = await self.within(LIMIT, queue.call(*call, **keywords))
        # Nothing to iterate over is an empty list.
        return items if isinstance(items, list) else [item async for item in items]

    async def shutDown(self, queue: TaskQueue, limit: float = 5.0) -> None:
        """
        Shut a queue down, and see that its books are in order.
        """
        await self.within(limit, queue.shutdown(), "the end of the queue")
        self.assertSettled(queue)

    def assertSettled(self, queue: TaskQueue) -> None:
        """
        Every call of a queue has been settled once.
        """
        counts = queue.statistics()
        self.assertEqual((counts.queued, counts.running), (0, 0))
        self.assertEqual(counts.submitted, counts.settled)
        self.assertEqual(counts.settled, counts.succeeded + counts.failed + counts.cancelled)
        self.assertEqual(queue.outstanding(), [])

    def spawn(self, *lines: str) -> ServerProgram:
        """
        Start a server in an interpreter of its own.
        """
        program = ServerProgram(self, self.description, *lines)
        self.addCleanup(program.close)
        return program


class ServerProgram(Program):
    """
    A server in an interpreter of its own.
    """

    def __init__(self, case: ProcessTestCase, description: str, *lines: str) -> None:
        text = (
            "import sys\n"
            "from asynqueue.testing.wiretasks import Universe\n"
            "from asynqueue.wire import runServer\n"
            f"runServer({description!r}, Universe, {', '.join(['insecure_root=' + repr(IS_ROOT), *lines])})\n"
        )
        super().__init__(case.path() + ".py", text, case.mark)

    def listening(self) -> ServerProgram:
        """
        Wait until it listens.
        """
        assert next(self.lines()).startswith("listening on ")
        return self


@implementer(ITransport)
class MemoryEnd:
    """
    One end of a connection over memory.
    """

    disconnecting = False
    connected = True

    def __init__(self, reactor: Any, address: IPv4Address) -> None:
        self._reactor = reactor
        self._address = address
        self.other: MemoryEnd
        self.protocol: Any = None
        self.sent: deque[bytes] = deque()
        self.isClosed = False
        self.isCut = False
        #: What has arrived there, all of it.
        self.delivered = 0
        # As identity of the other end, for protocols that have no door before them.
        self.identity = Identity("peer", {"admin", "code", "worker"}, "unix")

    def write(self, data: bytes) -> None:
        """
        Send some bytes.
        """
        if not self.isClosed and not self.disconnecting:
            self.sent.append(bytes(data))

    def writeSequence(self, parts: Any) -> None:
        """
        Send several.
        """
        self.write(b"".join(parts))

    @classmethod
    def pair(cls, reactor: Any, client: Any, server: Any) -> tuple[MemoryEnd, MemoryEnd]:
        """
        Make the two ends of a connection, for a client and a server, which are not told yet.
        """
        address = IPv4Address("TCP", "127.0.0.1", 1)
        here, there = cls(reactor, address), cls(reactor, address)
        here.other, there.other = there, here
        here.protocol, there.protocol = client, server
        return here, there

    def trickle(self, size: int) -> None:
        """
        Let so many bytes arrive, though it is cut.
        """
        data = b"".join(self.sent)
        self.sent = deque([data[size:]] if data[size:] else [])
        if data:
            self.delivered += len(data[:size])
            self.other.protocol.dataReceived(data[:size])

    def loseConnection(self) -> None:
        """
        Close the connection when all has arrived.
        """
        self.disconnecting = True

    def abortConnection(self) -> None:
        """
        Close it at once.
        """
        if not self.isClosed:
            self.disconnecting = True
            self.sent.clear()
            self._reactor.callLater(0, self.close, ConnectionLost())

    def close(self, reason: Exception) -> None:
        """
        Tell the protocol that there is no connection any more.
        """
        if not self.isClosed:
            self.isClosed = True
            self.protocol.connectionLost(Failure(reason))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Do nothing.
        """

    def unregisterProducer(self) -> None:
        """
        Do nothing.
        """

    def getHost(self) -> IPv4Address:
        """
        Return the address.
        """
        return self._address

    getPeer = getHost

    def deliver(self) -> bool:
        """
        Let arrive what has been sent, unless the connection is cut.

        @return: Whether anything has happened.
        """
        if self.isCut:
            return False
        happened = bool(self.sent)
        while self.sent:
            data = self.sent.popleft()
            if not self.other.isClosed:
                self.delivered += len(data)
                self.other.protocol.dataReceived(data)
        if self.disconnecting and not self.isClosed:
            self.close(ConnectionDone())
            happened = True
        if self.isClosed and not self.other.isClosed:
            self.other.close(ConnectionDone())
            happened = True
        return happened


def joined(reactor: Any, client: Any, server: Any) -> tuple[MemoryEnd, MemoryEnd]:
    """
    Connect two protocols.

    @return: The transports of the client and of the server.
    """
    here, there = MemoryEnd.pair(reactor, client, server)
    server.makeConnection(there)
    client.makeConnection(here)
    return here, there


class MemoryPort:
    """
    A port of a L{MemoryNet}.
    """

    def __init__(self, net: MemoryNet, port: int, interface: str) -> None:
        self._net = net
        self._address = IPv4Address("TCP", interface, port)

    def getHost(self) -> IPv4Address:
        """
        Return the address.
        """
        return self._address

    def stopListening(self) -> None:
        """
        Let no more connections come.
        """
        self._net.tcpServers = [each for each in self._net.tcpServers if each[0] != self._address.port]


class MemoryNet(MemoryReactorClock):
    """
    A reactor whose connections lead over memory.

    @ivar connections: The transports of clients and servers.
    @ivar isDown: Whether connections are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[tuple[MemoryEnd, MemoryEnd]] = []
        self.attempts: list[float] = []
        self.isDown = False

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """
        Let connections come.
        """
        self.tcpServers.append((port, factory, backlog, interface))
        return MemoryPort(self, port, interface)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """
        Connect to a server of this reactor, in a later turn.
        """
        connector = super().connectTCP(host, port, factory, timeout, bindAddress)
        self.attempts.append(self.seconds())
        self.callLater(0, self._connect, factory, connector, port)
        return connector

    def _connect(self, factory: Any, connector: Any, port: int) -> None:
        servers = [each[1] for each in self.tcpServers if each[0] == port]
        address = IPv4Address("TCP", "127.0.0.1", port)
        accepted = None if self.isDown or not servers else servers[-1].buildProtocol(address)
        if accepted is None:
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            return
        self.connections.append(joined(self, factory.buildProtocol(address), accepted))

    def run(self, seconds: float = 0.0, step: float = 0.1) -> None:
        """
        Let everything arrive, and time pass.
        """
        until = self.seconds() + seconds
        while True:
            for _ in range(1000):
                self.advance(0)
                happened = [end.deliver() for pair in tuple(self.connections) for end in pair]
                if not any(happened) and not any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                    break
            left = until - self.seconds()
            if left <= 1e-9:
                return
            self.advance(min(step, left))

    def cut(self, isCut: bool = True) -> None:
        """
        Let nothing arrive any more, and nobody know.
        """
        for pair in self.connections:
            for end in pair:
                end.isCut = isCut

    def heal(self) -> None:
        """
        Let things arrive again.
        """
        self.cut(False)


class MemoryTestCase(QueueTestCase):
    """
    Tests of servers and clients over memory, on a virtual clock.
    """

    net: MemoryNet

    def setUp(self) -> None:
        """
        Make the reactor.
        """
        super().setUp()
        self.net = MemoryNet()
        self.clock = self.net
        self.universe = Universe()
        self.universe.clock = self.net
        self.servers: list[WireServer] = []

    def serve(self, **keywords: Any) -> WireServer:
        """
        Start a server.
        """
        given: dict[str, Any] = {
            "wwu": self.universe,
            "insecure_root": IS_ROOT,
            "insecure_plaintext": True,
            "reactor": self.net,
            "name": "node",
            "grace": 0.0,
            **keywords,
        }
        server = WireServer("tcp:1:interface=127.0.0.1", given.pop("wwu"), **given)
        self.successResultOf(server.start())
        self.servers.append(server)
        return server

    def worker(self, **keywords: Any) -> WireWorker:
        """
        Make a worker.
        """
        return WireWorker(None, "tcp:127.0.0.1:1", insecure_plaintext=True, reactor=self.net, **keywords)

    def client(self, **keywords: Any) -> TaskQueue:
        """
        Make a queue with a worker.
        """
        queue = self.makeQueue()
        queue.attachWorker(self.worker(**keywords)).addErrback(lambda failure: None)
        return queue

    def turn(self) -> None:
        """
        Let everything happen that is to happen now.
        """
        self.net.run()

    def _nothingIsLeft(self) -> None:
        for queue in self._queues:
            queue.shutdown(drain=False, deadline=0)
        self.net.run()
        for server in self.servers:
            server.stop()
        self.net.heal()
        self.net.run(5.0)
        super()._nothingIsLeft()
        self.assertEqual([pair for pair in self.net.connections if not all(end.isClosed for end in pair)], [])
