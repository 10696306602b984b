"""
Calls as they travel between machines, both ends of it.

A call is the body of a record::

    1 byte      the length of the name, 0 if the function itself travels
    name        of what has been exposed there, ASCII
    the rest    by the serializer, a list: arguments, keywords or C{None}, and what L{Wanted} has; with the function
                before them if there is no name

So it is known what is called, by whom and with how much, before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import frozen

from asynqueue.callinfo import safeRepr
from asynqueue.errors import EncodeError, NotAuthorized, PayloadTooLarge, ResultTooLarge
from asynqueue.options import checkedTimeout
from asynqueue.process.encoding import encodeError
from asynqueue.protocol.plain import NotPlain
from asynqueue.protocol.records import AGAIN, HEADER
from asynqueue.protocol.runner import Call
from asynqueue.wire.peers import Peer, decode
from asynqueue.wire.registry import ANY_NAME, Exposed, Registry
from asynqueue.wire.tellings import failureFrom, tell

if TYPE_CHECKING:
    from collections.abc import Hashable

    from twisted.python.failure import Failure

    from asynqueue.calls import CallDeferred
    from asynqueue.tasks import Task

#: Into so many lanes a node sorts the calls of series, whose order within each is kept.
LANES = 64

#: How long, in characters, what tells an update from others may be.
UPDATE_KEY = 64


@frozen
class Wanted:
    """
    How a call is to be run.

    @ivar ID: Its ID on the queue that it comes from.
    @ivar attempt: Which attempt at it this is.
    @ivar niceness: Its niceness there.
    @ivar lane: Which of L{LANES} its series belongs to, from 1 on; 0 for none.
    @ivar timeLimit: Seconds that it may take, or C{None}.
    @ivar softTimeLimit: Seconds until it is to clean up, or C{None}.
    @ivar inThread: Whether a method is to be run in a thread.
    @ivar isIdempotent: Whether the call may be run again when it has been lost.
    @ivar update: C{None} but for an update, which all workers of the node are to run: what tells it from all others if
        workers that are there later are to run it, too, and an empty text if not.
    """

    ID: int = 0
    attempt: int = 1
    niceness: int = 0
    lane: int = 0
    timeLimit: float | None = None
    softTimeLimit: float | None = None
    inThread: bool = False
    isIdempotent: bool = True
    update: str | None = None

    def __attrs_post_init__(self) -> None:
        """
        Look at what has come from afar.

        @raise ValueError: It cannot be.
        @raise TypeError: Likewise.
        """
        # Hot path, watched by `bench --only wire`.
        if not (
            type(self.ID) is type(self.attempt) is type(self.niceness) is type(self.lane) is int
            and -20 <= self.niceness <= 20
            and 0 <= self.lane <= LANES
            and (self.update is None or (type(self.update) is str and len(self.update) <= UPDATE_KEY))
        ):
            raise ValueError("how the call is to be run is said in a way that cannot be")
        if self.timeLimit is not None:
            checkedTimeout(self.timeLimit, "timeLimit")
        if self.softTimeLimit is not None:
            checkedTimeout(self.softTimeLimit, "softTimeLimit")


def laneOf(series: Hashable) -> int:
    """
    Return the lane that the calls of a series go by: the same for all of them, as long as this process lives.
    """
    return 0 if series is None else 1 + hash(series) % LANES


class WireEncoder:
    """
    Makes bytes of calls.

    @ivar size: How long, in bytes, the record of the last one is.
    """

    def __init__(self, peer: Peer, limit: int, inThread: bool = False) -> None:
        """
        @param peer: Who runs them.
        @param limit: How long, in bytes, one may be.
        @param inThread: Whether methods are to be run in threads, unless their calls say something else.
        """
        self._peer = peer
        self._limit = limit
        self._inThread = inThread
        self.size = 0
        self._token = uuid4().hex
        self._updates = count(1)
        self._sent: dict[bytes, tuple[Task, str]] = {}

    def encode(self, task: Task, key: str | None = None) -> tuple[bytes, bytes]:
        """
        Return the name of what is called, with its length, and the rest.

        @param key: What tells an update from all others, if it has been sent before.
        @raise EncodeError: Something in it cannot travel; the message names it.
        @raise PayloadTooLarge: It is too long.
        """
        # Hot path, watched by `bench --only wire`.
        func: Any
        func, args, kw = task.callTuple
        options = task.options
        inThread = self._inThread
        if isinstance(func, str) and "thread" in kw:
            # It may have to be sent again.
            kw = dict(kw)
            inThread = bool(kw.pop("thread"))
        wanted = (
            task.ID,
            task.attempt,
            max(-20, min(20, task.priority)),
            laneOf(task.series),
            options.timeLimit,
            options.softTimeLimit,
            inThread,
            options.idempotent,
            *((self._keyOf(task) if key is None else key,) if options.alone else ()),
        )
        if isinstance(func, str):
            name = func.encode("ascii", "replace")
            if not ANY_NAME.fullmatch(name):
                raise EncodeError(f"{func!r:.100} cannot be the name of something exposed")
            start = bytes([len(name)]) + name
            whole: list[Any] = [[*args], kw or None, *wanted]
        elif self._peer.mayCode:
            start = b"\0"
            whole = [func, args, kw, *wanted]
        else:
            raise EncodeError(
                f"the callable, {safeRepr(func)}, cannot be sent to {self._peer.identity.name}, which takes the names"
                " of what has been exposed there: this side has not the role 'code'"
            )
        try:
            rest = self._peer.serializer.dumps(whole)
        except BaseException as error:  # pickling runs anybody's code, even a SystemExit of which ends the call only
            raise self._error(task, error) from error
        size = len(start) + len(rest)
        self.size = HEADER.size + size
        if size > self._limit:
            raise PayloadTooLarge(
                f"the call takes {size} bytes, and {self._limit} are the most that travel to {self._peer.identity.name}"
            )
        if options.lasting and key is None:
            self._sent[start + rest] = task, wanted[-1]
        return start, rest

    def _keyOf(self, task: Task) -> str:
        if not task.options.lasting:
            return ""
        # Those that have failed are of no interest any more.
        self._sent = {body: each for body, each in self._sent.items() if not each[0].d.called}
        return f"{self._token}-{next(self._updates)}"

    def updateOf(self, body: bytes) -> tuple[Task, str]:
        """
        Return the lasting update that has become some bytes, and what tells it from all others.
        """
        return self._sent.pop(body)

    def _error(self, task: Task, error: BaseException) -> EncodeError:
        if isinstance(error, NotPlain):
            place = error.place
            for number, part in enumerate(("args", "kw")):
                place = part + place[3:] if place.startswith(f"[{number}]") else place
            return EncodeError(f"{place} cannot travel: {error.what}")
        if self._peer.mayCode:
            return encodeError(self._peer.serializer.dumps, task.callTuple, error)
        return EncodeError(f"the arguments cannot travel: {error}")


class WireResults:
    """
    Makes objects of what comes back.
    """

    def __init__(self, peer: Peer) -> None:
        """
        @param peer: Who runs the calls.
        """
        self._peer = peer

    def value(self, body: bytes) -> Any:
        """
        Return a result, or the list of some items. May raise anything.
        """
        # Hot path, watched by `bench --only wire`.
        return decode(self._peer, body)

    def failure(self, body: bytes) -> Failure:
        """
        Return the failure that is told of.
        """
        return failureFrom(self._peer, body)


class NodeCall(Call):
    """
    A call that has come to a node.

    @ivar exposed: What it is of, or C{None} if the function itself has come.
    @ivar wanted: How it is to be run.
    @ivar entry: Its entry on a queue of the node, if it is on one.
    @ivar isAgain: Whether it is an update that has been run before, over another connection.
    """

    __slots__ = ("_run", "entry", "exposed", "isAgain", "wanted")

    def __init__(
        self,
        run: Callable[[NodeCall], Any],
        exposed: Exposed | None,
        func: Callable[..., Any],
        args: Any,
        kw: dict[str, Any],
        wanted: Wanted,
        isAgain: bool,
    ) -> None:
        """
        @param run: Runs it.
        """
        super().__init__(func, args, kw, wanted.ID, wanted.attempt)
        self.exposed = exposed
        self.wanted = wanted
        self.entry: CallDeferred[Any] | None = None
        self.isAgain = isAgain
        self._run = run

    @property
    def isMethod(self) -> bool:
        """
        Whether it is of a method of the universe.
        """
        # Hot path, watched by `bench --only wire`.
        return self.exposed is not None and self.exposed.isMethod

    @property
    def isWaiting(self) -> bool:  # type: ignore[override]
        """
        Whether no worker of the node has been given it.
        """
        # Hot path, watched by `bench --only wire`.
        entry = self.entry
        return entry is not None and entry.lane is not None and not entry.called

    def begin(self) -> Any:
        """
        Have it run.
        """
        return self._run(self)

    def beginHere(self) -> Any:
        """
        Run it in the reactor.
        """
        return super().begin()


def _refuse(error: Exception) -> None:
    raise error


class NodeEncoding:
    """
    Makes calls of what a caller has sent, and bytes of what has become of them.
    """

    def __init__(self, peer: Peer, registry: Registry, run: Callable[[NodeCall], Any], limit: int) -> None:
        """
        @param peer: Who has sent them.
        @param registry: What there is to be called.
        @param run: Runs a call.
        @param limit: How long, in bytes, a result may be.
        """
        self._peer = peer
        self._registry = registry
        self._run = run
        self._limit = limit

    def call(self, flags: int, body: bytes) -> Call:
        """
        Make a call: one that only raises an exception if it may not be made. May raise anything besides.
        """
        # Hot path, watched by `bench --only wire`.
        start = 1 + body[0]
        exposed: Exposed | None = None
        try:
            if start > 1:
                exposed = self._registry.find(bytes(body[1:start]), self._peer.identity)
                self._checkSize(exposed, len(body) - start)
            elif not self._peer.mayCode:
                raise NotAuthorized(
                    f"{self._peer.identity.name} has not the role 'code', and can only call what has been exposed"
                )
        except (NotAuthorized, PayloadTooLarge) as error:
            return Call(_refuse, (error,), {})
        parts = list(decode(self._peer, body, start))
        func = parts.pop(0) if exposed is None else exposed.function
        args, kw, *rest = parts
        if kw is None:
            kw = {}
        if type(kw) is not dict or not isinstance(args, list | tuple):
            raise TypeError("the arguments must be a list, and the keywords a dictionary")
        wanted = Wanted(*rest)
        return NodeCall(self._run, exposed, func, args, kw, wanted, bool(flags & AGAIN))

    def _checkSize(self, exposed: Exposed, size: int) -> None:
        if exposed.maxArguments is not None and size > exposed.maxArguments:
            raise PayloadTooLarge(
                f"the arguments take {size} bytes, and {exposed.maxArguments} are the most for {exposed.name!r}"
            )

    def result(self, call: Call, value: Any) -> bytes:
        """
        Make bytes of the result of a call. May raise anything.
        """
        # Hot path, watched by `bench --only wire`.
        body = self._peer.serializer.dumps(value)
        if len(body) > self._limit:
            raise ResultTooLarge(f"it takes {len(body)} bytes, and {self._limit} are the most that travel here")
        exposed = call.exposed if isinstance(call, NodeCall) else None
        if exposed is not None and exposed.maxResult is not None and len(body) > exposed.maxResult:
            raise ResultTooLarge(
                f"it takes {len(body)} bytes, and {exposed.maxResult} are the most for {exposed.name!r}"
            )
        return body

    def items(self, items: list[Any]) -> bytes:
        """
        Make bytes of items of a stream. May raise anything.
        """
        body = self._peer.serializer.dumps(items)
        if len(body) > self._limit:
            raise ResultTooLarge(f"it takes {len(body)} bytes, and {self._limit} are the most that travel here")
        return body

    def error(self, error: BaseException, where: str) -> bytes:
        """
        Make bytes of an exception.
        """
        # It is about the call, whatever it was found at.
        return tell(self._peer, error, "" if isinstance(error, ResultTooLarge) else where)
