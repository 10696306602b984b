"""
Every error the library raises or delivers, under one root.

Where an error carries a fact that a program may want to act on, the fact is an attribute, and the text says what
happened, to which call, and what to do about it.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from zope.interface import Invalid


class AsynQueueError(Exception):
    """
    The root of all errors of this library.
    """


class QueueRunError(AsynQueueError):
    """
    The queue cannot take or run the call, because of the state that the queue is in.
    """


class QueueClosed(QueueRunError):
    """
    The call came after the queue's shutdown had been asked for.
    """


class QueueShutdown(QueueRunError):
    """
    The call was still queued when the queue shut down, and it has not been run.
    """


class QueueFull(QueueRunError):
    """
    The queue holds C{maxPending} calls already, and the call has not been queued.
    """


class ImplementationError(AsynQueueError):
    """
    An object does not provide the interface that it is used for.
    """


class NotReadyError(ImplementationError):
    """
    An iteration was asked for before the one before it had arrived.
    """


class InvariantError(AsynQueueError, Invalid):  # type: ignore[misc]
    """
    An object breaks an invariant of the interface that it provides.
    """


class TimeoutError(AsynQueueError, builtins.TimeoutError):
    """
    The call exceeded its C{timeout}, and so did its one re-run.
    """


class Undeliverable(AsynQueueError):
    """
    The call was handed to workers again and again, and none of them ever started it.
    """


class InsecureTransport(AsynQueueError):
    """
    What was asked for would let others in, and needs a switch that says so, which the message names.
    """


class AuthError(AsynQueueError):
    """
    One end of a connection has refused the other, before anything else was said.

    @ivar reason: Why, as a short text that stays the same, such as C{"expired"}.
    @see: L{asynqueue.wire.refusals.Refusal}, which has them all
    """

    def __init__(self, message: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class VersionMismatch(AsynQueueError):
    """
    The two ends of a connection have no version of the protocol in common.
    """


class KeysError(AsynQueueError):
    """
    Keys, certificates, a list of nodes or a bundle cannot be used: damaged, missing, or not signed by the authority.
    """


class WorkerError(AsynQueueError):
    """
    A worker could not produce the result of a call: mostly because the call itself raised an exception.

    A failure that a queue delivers for a call that raised is an instance of this class I{and}, wherever that class can
    be derived from, of the exception's own class, so that C{failure.check(ValueError)} and
    C{failure.check(WorkerError)} are both true.

    @ivar original: The very exception that was raised, for a call that ran in this process, otherwise C{None}.
    @ivar remoteTraceback: The traceback of the exception as text, bounded, or an empty text.
    """

    original: BaseException | None = None
    remoteTraceback: str = ""


class RemoteError(WorkerError):
    """
    The call raised an exception whose own class cannot be derived from or is not available here.

    @ivar remoteType: The full name of the exception's class.
    """

    remoteType: str = ""


class ThreadError(WorkerError):
    """
    A call in a thread raised an exception.
    """


class ProcessError(WorkerError):
    """
    A call in a child process raised an exception.
    """


class EncodeError(WorkerError):
    """
    The call was not started, for something in it cannot be pickled and so cannot travel to the worker.
    """


class DecodeError(WorkerError):
    """
    The call was not started, for the worker could not unpickle what had travelled to it.
    """


class ResultEncodeError(WorkerError):
    """
    The call was run, and its result, or an item of it, cannot be pickled and so cannot travel back.
    """


class ResultDecodeError(WorkerError):
    """
    The call was run, and its result, or an item of it, could not be unpickled when it was back.
    """


class ResultTooLarge(ResultEncodeError):
    """
    The call was run, and its result, or an item of it, is larger than what may travel back.
    """


class PayloadTooLarge(EncodeError):
    """
    The call was not started, for it is larger than what may travel to the worker.
    """


class NotAuthorized(WorkerError):
    """
    The call was not started, for whoever sent it may not have it run there; or somebody may not run calls at all.
    """


class TimeLimitExceeded(WorkerError, builtins.TimeoutError):
    """
    The call was ended since it took longer than its C{timeLimit}.
    """


class SoftTimeLimitExceeded(WorkerError, builtins.TimeoutError):
    """
    Is raised in a call that takes longer than its C{softTimeLimit}, which may clean up and return.
    """


class WorkerStartError(WorkerError):
    """
    A worker could not be started.
    """


class WorkerLost(WorkerError):
    """
    The worker was lost while it had the call, which may have run, wholly or in part, and nobody knows.
    """


class WorkerHung(WorkerLost):
    """
    All workers that could take the call are stuck in calls that never returned, or have broken their contract.
    """


class PoisonTask(WorkerError):
    """
    The call was lost with its worker again and again, and it is not run any more.

    @ivar history: One text an attempt: its number, the worker and how it ended.
    """

    def __init__(self, message: str = "", history: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.history: tuple[str, ...] = tuple(history)
