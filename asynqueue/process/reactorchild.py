"""
The child that runs its calls in a reactor: an C{AMPChild} of ampoule that serves the commands of
L{asynqueue.protocol.commands}.

A second thread waits for end-of-file on the control pipe, which means that the parent is gone. Nothing else comes that
way: while a call holds up the reactor, the child does not listen.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from asynqueue.process.child import openPage, settle
from asynqueue.process.decoding import CallDecoder, dumps
from asynqueue.process.orphans import dieWithParent
from asynqueue.process.pipes import PipeReader, PipeWriter
from asynqueue.process.pipetransport import PipeTransport
from asynqueue.process.variables import setVariables
from asynqueue.protocol.runner import Call, Runner, RunnerEnd
from asynqueue.told import told


class ChildCall(Call):
    """
    A call in a child.
    """

    __slots__ = ()

    @property
    def workerID(self) -> int:
        """
        The ID of the process.
        """
        return os.getpid()


class PickleEncoding:
    """
    Pickles what travels between a parent and its child.
    """

    def __init__(self, decoder: CallDecoder) -> None:
        """
        @param decoder: Unpickles calls.
        """
        self._decoder = decoder

    def call(self, flags: int, body: bytes) -> Call:
        """
        Unpickle a call, with the context variables that have come with it.
        """
        func, args, kw, ID, attempt, variables = self._decoder.decode(body)
        call = ChildCall(func, args, kw, ID, attempt)
        if variables:
            call.context.run(setVariables, variables)
        return call

    def result(self, call: Call, value: Any) -> bytes:
        """
        Pickle the result of a call.
        """
        return dumps(value, 5)

    def items(self, items: list[Any]) -> bytes:
        """
        Pickle items of a stream.
        """
        return dumps(items, 5)

    def error(self, error: BaseException, where: str) -> bytes:
        """
        Pickle what is told of an exception.
        """
        return dumps((where, told(error)), 5)


class Connection:
    """
    The child's end of the pipes, and the AMP protocol over them.
    """

    def __init__(self, reactor: Any, protocol: Any) -> None:
        self._writer = PipeWriter(reactor, 4)
        self._protocol = protocol
        self._reactor = reactor
        self._isOpen = True
        protocol.makeConnection(PipeTransport(self._writer, self.close))
        self._reader = PipeReader(reactor, 3, self._received, self.close)

    def _received(self, data: bytes) -> None:
        try:
            self._protocol.dataReceived(data)
        except Exception:  # AMP raises whatever it comes to with boxes that are none
            traceback.print_exc()
            os._exit(1)

    def close(self) -> None:
        """
        End the connection, and with it the child.
        """
        if self._isOpen:
            self._isOpen = False
            self._reader.close()
            self._protocol.connectionLost(Failure(ConnectionDone()))
            self._writer.close()

    def end(self) -> None:
        """
        End the child when all has been written that it has to tell.
        """
        if self._writer.pending:
            self._reactor.callLater(0.01, self.end)
        else:
            self._protocol.shutdown = True
            self.close()


def main(settings: dict[str, Any]) -> None:
    """
    Be a child.
    """
    control = settle()
    dieWithParent(settings["parent"])
    threading.Thread(target=_watchParent, args=(control,), name="asynqueue-control", daemon=True).start()
    if settings["isAsyncio"]:
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
    # Not before: importing it installs one.
    from twisted.internet import reactor

    _beginLogging()
    child: Any = reactor
    child.callWhenRunning(lambda: Deferred.fromCoroutine(_begin(settings, child)))
    child.run()


def _watchParent(control: int) -> None:
    """
    End this process when its parent is gone, whatever its reactor is busy with.
    """
    while os.read(control, 4096):
        # Nothing comes that way.
        continue
    os._exit(0)


def _beginLogging() -> None:
    """
    Write what is logged to standard error, as ampoule does, but for AMP's own comings and goings.
    """
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        globalLogBeginner,
        textFileLogObserver,
    )

    levels = LogLevelFilterPredicate(LogLevel.info)
    for namespace in ("twisted.protocols.amp", "ampoule.child", "twisted.internet"):
        levels.setLogLevelForNamespace(namespace, LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


async def _begin(settings: dict[str, Any], reactor: Any) -> None:
    """
    Get ready for calls, and tell the parent, or else why that could not be.
    """
    page = openPage(settings["page"])
    directory: str = settings["cwd"]

    def begun(number: int) -> None:
        page[0] = number
        _returnTo(directory)

    protocol = _protocolClass()()
    decoder = CallDecoder(settings["main"])
    runner = protocol.runner = Runner(
        protocol.callRemote,
        PickleEncoding(decoder),
        reactor,
        settings["limit"],
        isTimed=settings["callStats"],
        onBegin=begun,
    )
    connection = Connection(reactor, protocol)
    try:
        for start in settings["starts"]:
            await _start(*decoder.decodeStart(start))
    except BaseException as error:  # whatever the application's initializer raises, the parent is told
        runner.refuse(error)
        connection.end()
    else:
        runner.ready()


async def _start(func: Callable[..., Any], args: Any, kw: Any) -> None:
    """
    Call what the application wants to be called before the first call.
    """
    result = func(*args, **kw)
    if isinstance(result, Deferred | CoroutineType):
        await result


def _returnTo(directory: str) -> None:
    """
    Begin in the parent's directory, wherever another call has gone.
    """
    try:
        hasMoved = os.getcwd() != directory
    except FileNotFoundError:
        # The directory has been removed.
        hasMoved = True
    if hasMoved:
        os.chdir(directory)


def _protocolClass() -> Any:
    """
    Make the class of the protocol: its base must not be imported before there is a reactor.
    """
    from ampoule.child import AMPChild

    class ReactorChild(RunnerEnd, AMPChild):  # type: ignore[misc]
        """
        Serves the commands of L{asynqueue.protocol.commands}, and those of ampoule.
        """

        def unhandledError(self, failure: Failure) -> None:
            """
            End the child: the parent has sent something that cannot be understood.
            """
            failure.printTraceback(sys.stderr)
            os._exit(1)

    return ReactorChild
