"""
Exceptions as plain data: what a peer tells of them, and what is made of that.

An exception is made anew only if its class is one of Python's own or of this library, or has been registered here; a
peer cannot have any other class looked up. Otherwise its text and its traceback as text have to do.
"""

from __future__ import annotations

import builtins
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from asynqueue import errors
from asynqueue.callinfo import said
from asynqueue.errors import RemoteError
from asynqueue.failures import originalClassOf
from asynqueue.protocol import plain
from asynqueue.rebuilt import rebuiltFailure, setAttribute, unpickledOriginal
from asynqueue.told import attributesOf, pickledState, told
from asynqueue.wire.peers import Peer, decodeTold, encodeTold

#: How long, in bytes, what an exception is made anew of may be.
STATE_LIMIT = 1 << 16


def _nameOf(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


#: The classes of which exceptions are made, by their full names.
_classes: dict[str, type[BaseException]] = {
    _nameOf(each): each
    for module in (builtins, errors)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Exception) and not issubclass(each, BaseExceptionGroup)
}
_classes[_nameOf(CancelledError)] = CancelledError


def registerError(kind: type[BaseException]) -> type[BaseException]:
    """
    Let exceptions of a class be made anew that a peer tells of. To be done where calls are made, and of use as a
    decorator. Their arguments must be plain data.

    @return: The class.
    @raise TypeError: It is no class of exceptions.
    """
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError(f"only a class of exceptions can be registered, not {kind!r}")
    _classes[_nameOf(kind)] = kind
    return kind


def tell(peer: Peer, error: BaseException, where: str = "") -> bytes:
    """
    Return what a peer is told of an exception. Never raises any.

    @param where: What could not be decoded or encoded for it, or nothing; see L{asynqueue.rebuilt.rebuiltFailure}.
    """
    return encodeTold(peer, (where, told(error, partial(_pickledState, peer) if peer.mayCode else _plainState)))


def _pickledState(peer: Peer, error: BaseException) -> bytes:
    kind = originalClassOf(error)
    if kind is type(error):
        return pickledState(error)
    # It is an error of a worker of this node. The peer is going to make one of its own of it.
    attributes = {name: value for name, value in vars(error).items() if name not in ("original", "remoteTraceback")}
    try:
        state = peer.serializer.dumps((kind, error.args, attributes))
    except Exception:  # what pickling an exception of anybody's raises does not matter: the text tells
        return b""
    return state if len(state) <= STATE_LIMIT else b""


def _plainState(error: BaseException) -> bytes:
    attributes = {name: value for name, value in attributesOf(error).items() if _isPlain(name, value)}
    try:
        state = plain.dumps((error.args, attributes))
    except Exception:  # arguments that are no plain data stay here: the text tells
        return b""
    return state if len(state) <= STATE_LIMIT else b""


def _isPlain(name: object, value: object) -> bool:
    """
    Tell whether an attribute of an exception travels.
    """
    if type(name) is not str or name.startswith("_"):
        return False
    try:
        plain.dumps(value)
    except Exception:  # the others travel without it
        return False
    return True


def _plainOriginal(peer: Peer, story: Any) -> BaseException | None:
    """
    Make an exception of a registered class without calling it; C{None} if that cannot be.
    """
    kind = _classes.get(story[0])
    if kind is None or not story[3]:
        return None
    try:
        args, attributes = decodeTold(peer, story[3])
        original = kind.__new__(kind, *args)
        original.args = tuple(args)
        for name, value in attributes.items():
            if not name.startswith("_"):
                setAttribute(original, name, value)
    except Exception:  # what was told is a peer's, and __new__ may be anybody's; the text serves
        return None
    return original


def failureFrom(peer: Peer, body: bytes) -> Failure:
    """
    Make the failure that a call gets of whose error a peer has told. Never raises anything.
    """
    try:
        where, story = decodeTold(peer, body)
    except BaseException as error:  # what was told is a peer's
        return Failure(RemoteError(f"the peer told of an error in a way that cannot be understood: {said(error)}"))
    return rebuiltFailure(where, story, unpickledOriginal if peer.mayCode else partial(_plainOriginal, peer))
