"""
Why one end refuses the other, and how it says so: four bytes, the first that are exchanged inside of a connection.

When it has judged the client, the server sends its verdict; a client that finds the server good answers with its own.
Only then is anything else said. So each end knows that the other has accepted it, or why it has not, which TLS 1.3 by
itself does not tell: there, a client is through before the server has looked at its certificate.

A refusal that TLS finds by itself, such as an expired certificate, travels as an alert of TLS instead.
"""

from __future__ import annotations

from enum import Enum

from asynqueue.errors import AuthError

#: How a verdict begins. The third byte is the version of what follows.
MAGIC = b"AQ\x01"

#: How long a verdict is, in bytes.
VERDICT_SIZE = len(MAGIC) + 1

#: The verdict of one who has no objection.
ADMITTED = MAGIC + b"\0"


class Refusal(Enum):
    """
    The reasons. A member's value is its number on the wire, the word that L{AuthError.reason} is, and what to say.
    """

    EXPIRED = (1, "expired", "the certificate has expired")
    NOT_YET_VALID = (2, "not-yet-valid", "the certificate is not valid yet; compare the clocks")
    WRONG_HOST = (3, "wrong-host", "the certificate is that of another node")
    OTHER_AUTHORITY = (4, "other-authority", "the certificate is not signed by a known authority")
    NO_CERTIFICATE = (5, "no-certificate", "no certificate was shown")
    REVOKED = (6, "revoked", "the key has been revoked")
    WRONG_PURPOSE = (
        7,
        "wrong-purpose",
        "the certificate is not for this end: a server's used by a client, or reversed",
    )
    NOT_LISTED = (8, "not-listed", "the key is not on the list of nodes")
    WRONG_FINGERPRINT = (9, "wrong-fingerprint", "the key has another fingerprint")
    BAD_CERTIFICATE = (10, "bad-certificate", "the certificate is not valid yet, or damaged")
    OTHER_USER = (11, "other-user", "the process belongs to another user")
    WRONG_TOKEN = (12, "wrong-token", "the token is another one")
    TOO_SLOW = (13, "too-slow", "it took too long to say who it is")
    TOO_MUCH = (14, "too-much", "it sent too much before it was known")
    DESCRIPTORS = (15, "descriptors", "it passed open files, which are refused")
    NO_TLS = (16, "no-tls", "it does not speak TLS 1.3")
    OTHER_PROTOCOL = (17, "other-protocol", "it does not speak this protocol")
    HANDSHAKE = (18, "handshake", "the handshake of TLS failed")
    CHANGED = (19, "changed", "what it may do has changed; it can connect again")
    UNSURE = (20, "unsure", "it cannot be told any more whether it may stay")

    def __init__(self, number: int, word: str, text: str) -> None:
        self.number = number
        self.word = word
        self.text = text

    def here(self, peer: str, detail: str = "") -> AuthError:
        """
        Return the error of the end that refuses.

        @param peer: Who is refused: C{"the client at 192.0.2.1"}.
        @param detail: What more there is to say, to this end alone.
        """
        return AuthError(f"{peer} was refused: {self.text}{f' ({detail})' if detail else ''}", self.word)

    def there(self, peer: str) -> AuthError:
        """
        Return the error of the end that is refused.
        """
        return AuthError(f"{peer} refused this side: {self.text}", self.word)

    def verdict(self) -> bytes:
        """
        Return what the end that refuses sends.
        """
        return MAGIC + bytes([self.number])


class Refused(Exception):
    """
    Somebody is not let in.

    @ivar refusal: Why.
    @ivar detail: More, for this end alone.
    """

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(refusal, detail)
        self.refusal = refusal
        self.detail = detail


_BY_NUMBER = {refusal.number: refusal for refusal in Refusal}

#: What the alerts of TLS mean (RFC 8446, 6).
_ALERTS = {
    40: Refusal.HANDSHAKE,
    42: Refusal.BAD_CERTIFICATE,
    43: Refusal.WRONG_PURPOSE,
    44: Refusal.REVOKED,
    45: Refusal.EXPIRED,
    48: Refusal.OTHER_AUTHORITY,
    70: Refusal.NO_TLS,
    116: Refusal.NO_CERTIFICATE,
    120: Refusal.OTHER_PROTOCOL,
}

#: What the errors of OpenSSL's verification mean (C{x509_vfy.h}).
_VERIFICATION = {
    2: Refusal.OTHER_AUTHORITY,
    7: Refusal.OTHER_AUTHORITY,
    9: Refusal.NOT_YET_VALID,
    10: Refusal.EXPIRED,
    18: Refusal.OTHER_AUTHORITY,
    19: Refusal.OTHER_AUTHORITY,
    20: Refusal.OTHER_AUTHORITY,
    21: Refusal.OTHER_AUTHORITY,
    23: Refusal.REVOKED,
    26: Refusal.WRONG_PURPOSE,
    30: Refusal.OTHER_AUTHORITY,
}


def ofVerdict(verdict: bytes) -> Refusal | None:
    """
    Return what a verdict says: C{None} that there is no objection.

    @param verdict: L{VERDICT_SIZE} bytes.
    """
    if verdict == ADMITTED:
        return None
    if not verdict.startswith(MAGIC):
        return Refusal.OTHER_PROTOCOL
    return _BY_NUMBER.get(verdict[-1], Refusal.HANDSHAKE)


def ofAlert(number: int) -> Refusal:
    """
    Return the refusal that an alert of TLS is.
    """
    return _ALERTS.get(number, Refusal.HANDSHAKE)


def ofVerification(number: int) -> Refusal:
    """
    Return the refusal that an error of OpenSSL's verification calls for.
    """
    return _VERIFICATION.get(number, Refusal.BAD_CERTIFICATE)
