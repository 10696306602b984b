"""
Two ends show each other that they know the same token, without telling it, over one TLS connection.

Nothing here does any input or output. The messages, all of fixed size::

    client -> server   4 bytes that say what this is, and 32 by chance
    server -> client   32 bytes by chance, and HMAC-SHA-256(token, "server", connection, both chances)
    client -> server   HMAC-SHA-256(token, "client", connection, both chances)

I{Connection} are bytes that TLS derives for this very connection, at both of its ends and nowhere else (RFC 9266). So
what is seen on one connection is of no use on another, and whoever sits in between, with a connection to either side,
can pass nothing on. Each message is for one end: sent back to where it came from, it is wrong. The server shows that it
knows the token first.
"""

from __future__ import annotations

import hmac
import secrets
from enum import Enum, auto
from hashlib import sha256
from pathlib import Path

from asynqueue.errors import KeysError
from asynqueue.wire.privatefiles import readPrivate, writePrivate
from asynqueue.wire.refusals import Refusal, Refused

#: How large a token is, in bytes.
TOKEN_SIZE = 32

#: What TLS derives the bytes of the connection for, and how many.
BINDING_LABEL = b"EXPORTER-asynqueue-token"
BINDING_SIZE = 32

_MAGIC = b"AQT\x01"
_CHANCE_SIZE = 32
_PROOF_SIZE = sha256().digest_size


class _Step(Enum):
    #: The server waits for the client's first message.
    GREETING = auto()
    #: The client waits for the server's.
    ANSWER = auto()
    #: The server waits for the client's second message.
    PROOF = auto()
    DONE = auto()
    FAILED = auto()


_SIZES = {
    _Step.GREETING: len(_MAGIC) + _CHANCE_SIZE,
    _Step.ANSWER: _CHANCE_SIZE + _PROOF_SIZE,
    _Step.PROOF: _PROOF_SIZE,
}


class Challenge:
    """
    One end of the exchange.

    @ivar rest: What came after the last message.
    """

    def __init__(self, token: bytes, binding: bytes | None, isServer: bool) -> None:
        """
        @param token: L{TOKEN_SIZE} bytes.
        @param binding: L{BINDING_SIZE} bytes that TLS has derived for the connection.
        @raise ValueError: The token is too short, or there is no TLS.
        """
        if len(token) != TOKEN_SIZE:
            raise ValueError(f"token must be {TOKEN_SIZE} bytes, not {len(token)}")
        if binding is None or len(binding) != BINDING_SIZE:
            raise ValueError(f"binding must be {BINDING_SIZE} bytes of a TLS connection: a token needs TLS")
        self._token = token
        self._binding = binding
        self._chance = secrets.token_bytes(_CHANCE_SIZE)
        self._clientChance = b""
        self._step = _Step.GREETING if isServer else _Step.ANSWER
        self.rest = b""

    @property
    def isDone(self) -> bool:
        """
        Whether the other end has shown that it knows the token.
        """
        return self._step is _Step.DONE

    def begin(self) -> bytes:
        """
        Return what to send first.
        """
        return _MAGIC + self._chance if self._step is _Step.ANSWER else b""

    def receive(self, data: bytes) -> bytes:
        """
        Take what has come.

        @return: What to send.
        @raise Refused: The other end does not know the token, or speaks another protocol.
        """
        self.rest += data
        answer = b""
        while self._step in _SIZES and len(self.rest) >= _SIZES[self._step]:
            size = _SIZES[self._step]
            message, self.rest = self.rest[:size], self.rest[size:]
            answer += self._take(message)
        if self._step is _Step.FAILED:
            raise Refused(Refusal.WRONG_TOKEN)
        return answer

    def _take(self, message: bytes) -> bytes:
        step, self._step = self._step, _Step.FAILED
        if step is _Step.GREETING:
            if not message.startswith(_MAGIC):
                raise Refused(Refusal.OTHER_PROTOCOL)
            self._clientChance = message[len(_MAGIC) :]
            self._step = _Step.PROOF
            return self._chance + self._proof(b"server", self._clientChance, self._chance)
        if step is _Step.ANSWER:
            serverChance, proof = message[:_CHANCE_SIZE], message[_CHANCE_SIZE:]
            self._check(proof, self._proof(b"server", self._chance, serverChance))
            self._step = _Step.DONE
            return self._proof(b"client", self._chance, serverChance)
        self._check(message, self._proof(b"client", self._clientChance, self._chance))
        self._step = _Step.DONE
        return b""

    def _proof(self, end: bytes, clientChance: bytes, serverChance: bytes) -> bytes:
        # All parts have fixed sizes, so that no two different messages are the same bytes.
        message = _MAGIC + end + self._binding + clientChance + serverChance
        return hmac.digest(self._token, message, "sha256")

    def _check(self, proof: bytes, expected: bytes) -> None:
        if not hmac.compare_digest(proof, expected):
            raise Refused(Refusal.WRONG_TOKEN)


def makeToken(path: Path) -> None:
    """
    Write a new token to a file, which only this user may read.

    @raise FileExistsError: It is there already.
    @raise OSError: It cannot be written.
    """
    writePrivate(path, secrets.token_hex(TOKEN_SIZE).encode() + b"\n")


def readToken(path: Path) -> bytes:
    """
    Read a token: 64 hexadecimal digits in a file that only this user may read.

    @return: L{TOKEN_SIZE} bytes.
    @raise InsecureTransport: Others can get at the file.
    @raise KeysError: There is no such file, or no token in it.
    """
    try:
        content = readPrivate(path, "the file of the token,")
    except FileNotFoundError:
        raise KeysError(f"there is no token in {path}: make one by `asynqueue keys token {path}`") from None
    try:
        token = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        token = b""
    if len(token) != TOKEN_SIZE:
        raise KeysError(
            f"the file of the token, {path}, must have {2 * TOKEN_SIZE} hexadecimal digits, and nothing else"
        )
    return token
