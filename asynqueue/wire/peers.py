"""
Peers that may have something done, and the one place where what they have sent becomes objects.

Nothing that comes over a connection is decoded but by L{decode} and L{decodeTold}, which ask for a L{Peer}; and nobody
is a peer but by L{authorizeCaller} and L{authorizeRunner}, which look at the roles of who is at the other end. A test
over the syntax tree pins that.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from asynqueue.errors import NotAuthorized
from asynqueue.wire.identity import Identity
from asynqueue.wire.serializers import Serializer, serializerOf

#: Where pickles may come from: a process of the same user, or one that has shown a key or token within TLS.
_PICKLE_WAYS = ("unix", "tls", "token")

#: From how many bytes on something is large.
LARGE = 1 << 16

#: How exceptions are told of, to and from those who do not send pickles.
_PLAIN = serializerOf("plain")


@frozen
class Peer:
    """
    The other end of a connection, which has been authorised.

    @ivar identity: Who it is.
    @ivar serializer: How values travel to and from it.
    """

    identity: Identity
    serializer: Serializer = field(repr=lambda serializer: repr(serializer.name))

    @property
    def mayCode(self) -> bool:
        """
        Whether it may send functions, and not only their names.
        """
        return self.serializer.name == "pickle"


def authorizeCaller(identity: Identity, serializer: str, pickles: bool) -> Peer:
    """
    Let somebody have calls run here.

    @param serializer: How values travel to and from those who have not the role C{code}.
    @param pickles: Whether those who have it send pickles.
    @raise NotAuthorized: They may not.
    """
    if not (identity.may("submit") or identity.may("code")):
        raise NotAuthorized(f"{identity.name} has not the role 'submit', which is needed to have calls run")
    if pickles and identity.may("code") and identity.how in _PICKLE_WAYS:
        return Peer(identity, serializerOf("pickle"))
    if serializer == "pickle":
        raise NotAuthorized(f"{identity.name} has not the role 'code', which is needed to send pickles")
    return Peer(identity, serializerOf(serializer))


def authorizeRunner(identity: Identity, serializer: str) -> Peer:
    """
    Let somebody run calls, and take their results.

    @param serializer: What they say they write values by.
    @raise NotAuthorized: They are not trusted with that.
    """
    if not (identity.may("worker") or identity.may("code")):
        raise NotAuthorized(f"{identity.name} has not the role 'worker', which is needed to run calls for others")
    if serializer == "pickle" and not (identity.may("code") and identity.how in _PICKLE_WAYS):
        raise NotAuthorized(
            f"{identity.name} sends pickles, which can run anything here, and has not the role 'code', which is a"
            " shell on this host"
        )
    try:
        return Peer(identity, serializerOf(serializer))
    except (ValueError, ImportError) as error:
        raise NotAuthorized(f"{identity.name} writes values in a way that is not known here: {error}") from None


def decode(peer: Peer, body: bytes, start: int = 0) -> Any:
    """
    Return the value that a peer has sent. May raise anything.

    @param start: Where it begins.
    """
    # Hot path, watched by `bench --only wire`. What is large is copied as seldom as can be.
    rest: bytes | memoryview = body
    if start:
        rest = memoryview(body)[start:] if len(body) >= LARGE and peer.serializer.takesViews else body[start:]
    return peer.serializer.loads(rest)


def decodeTold(peer: Peer, body: bytes) -> Any:
    """
    Return what a peer tells of an exception, which is plain data, whatever else they send. May raise C{ValueError}.
    """
    return (peer.serializer if peer.mayCode else _PLAIN).loads(body)


def encodeTold(peer: Peer, told: Any) -> bytes:
    """
    Return what is told of an exception, for L{decodeTold}.
    """
    return (peer.serializer if peer.mayCode else _PLAIN).dumps(told)
