"""
A connection, as the node sees it that runs the calls.

The peer is known when the protocol is connected: an endpoint of L{asynqueue.wire.endpoints} has seen to that. It first
says hello; then it is authorised, or not; and only after that is anything else listened to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from asynqueue.protocol import commands
from asynqueue.protocol.runner import Runner, RunnerEnd
from asynqueue.wire.calls import NodeEncoding
from asynqueue.wire.hardened import HardenedAMP
from asynqueue.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall

    from asynqueue.wire.node import Node

#: How long, in seconds, a peer may take to say hello.
HELLO_TIME = 5.0

#: How long, in seconds, a peer may stay that has been refused.
LINGER = 1.0

#: How many streams one connection may have, and after how many seconds one is ended of which nobody asks for items.
STREAMS = 64
STREAM_TIME = 300.0

#: How many calls of one connection a node holds.
CALLS = 8192


class Session(RunnerEnd, HardenedAMP):
    """
    Serves one caller.
    """

    def __init__(self, node: Node) -> None:
        HardenedAMP.__init__(self, node.clock)
        self._node = node
        self._isKnown = False
        self._isLeaving = False
        self._isLeft = False
        self._heartbeat = Heartbeat(self)
        self._patience: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        Wait for a hello.
        """
        super().connectionMade()
        self._patience = self.clock.callLater(HELLO_TIME, self.abort, f"did not say hello in {HELLO_TIME:g} s")
        self._node.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Cancel the calls of the caller, who is gone.
        """
        super().connectionLost(reason)
        self._heartbeat.stop()
        self._stopWaiting()
        if self._isKnown:
            self._isKnown = False
            self.runner.stop()
        self._node.left(self)

    def _stopWaiting(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None and patience.active():
            patience.cancel()

    def _letGo(self) -> None:
        self._patience = None
        if self.transport is not None:
            self.transport.loseConnection()
            # By TLS the peer has to agree.
            self._patience = self.clock.callLater(LINGER, self.abort, "was refused, and did not go")

    def locateResponder(self, name: bytes) -> Callable[..., Any] | None:
        """
        Find what answers a command: before the hello, none but that.
        """
        # Hot path, watched by `bench --only wire`.
        if self._isKnown != (name != commands.Hello.commandName):
            self.abort(f"sent {name!r:.50} out of turn")
            return None
        found = super().locateResponder(name)
        if found is None:
            self.abort(f"sent the unknown command {name!r:.50}")
        return found

    @commands.Hello.responder
    def _hello(self, oldest: int, newest: int, node: str, limit: int) -> dict[str, Any]:
        """
        Authorise the peer, and tell it how to go on.
        """
        self._stopWaiting()
        # Whoever is not let in goes when it has been told so.
        self._patience = self.clock.callLater(0, self._letGo)
        here = self._node
        version = min(newest, commands.VERSION)
        if version < max(oldest, commands.OLDEST):
            version = 0
        peer = here.authorize(self.transport.identity)
        if limit < 1:
            raise ValueError(f"results of {limit} bytes")
        if version:
            self._stopWaiting()
            encoding = NodeEncoding(peer, here.registry, here.run, min(limit, here.settings.resultLimit))
            self.runner = Runner(
                self.push,
                encoding,
                self.clock,
                here.settings.limit,
                most=lambda: here.most(self.runner),
                boundsResults=False,
                streams=STREAMS,
                patience=STREAM_TIME,
            )
            self._isKnown = True
            self.trust(commands.Run, self._ran)
            self._heartbeat.start()
            here.came(self)
        return {
            "version": version,
            "node": here.settings.name,
            "serializer": peer.serializer.name,
            "capacity": here.capacity,
            "limit": here.settings.limit,
        }

    def hold(self, isHeld: bool) -> None:
        """
        Send no outcomes for now, or go on.
        """
        if self._isKnown:
            self.runner.hold(isHeld)

    @commands.Ping.responder
    def _ping(self) -> dict[str, Any]:
        return {}

    @commands.Run.responder
    def _run(self, records: list[bytes]) -> dict[str, Any]:
        self._ran(records)
        return {}

    def _ran(self, records: list[bytes]) -> None:
        # Hot path, watched by `bench --only wire`.
        self.runner.received(records)
        if self.runner.size > CALLS:
            self.abort(f"sent more than {CALLS} calls at once")

    def goAway(self) -> None:
        """
        Tell the caller to send no more calls, and give back those that have not been begun with.
        """
        if self._isKnown and not self._isLeaving:
            self._isLeaving = True
            self.ask(commands.GoAway, self._answered)
            self.runner.leave()

    def _answered(self) -> None:
        # Whatever came before the answer has been given back; nothing comes after it.
        self._isLeft = True

    @property
    def isIdle(self) -> bool:
        """
        Whether there is nothing that the caller waits for, and it knows that it is to send nothing more.
        """
        return not self._isKnown or (self.runner.isIdle and self._isLeft)


class SessionFactory(Factory):
    """
    Makes sessions of connections.
    """

    noisy = False

    def __init__(self, node: Node) -> None:
        self._node = node

    def buildProtocol(self, addr: IAddress | None) -> Session:
        """
        Make one.
        """
        return Session(self._node)
