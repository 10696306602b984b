"""
One call as it is remembered, and the texts about it and what it raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Factory, define

from asynqueue.callinfo import (
    ARGUMENT_LIMIT,
    TRACEBACK_LIMIT,
    describeCall,
    describeException,
    functionName,
    printable,
)
from asynqueue.dottednames import namedOrPickled, parentAndName

if TYPE_CHECKING:
    from twisted.python.failure import Failure


@define(eq=False)
class Call:
    """
    What is known of one call.
    """

    f: Any
    args: tuple[Any, ...]
    kw: dict[str, Any]
    instance: Any
    #: What the text says after the call.
    place: str
    saved: dict[str, Any] = Factory(dict)

    def text(self) -> str:
        """
        Return the call as it reads in a program.
        """
        func = self.f
        if self.instance is not None:
            kind = self.instance if isinstance(self.instance, type) else type(self.instance)
            func = f"{kind.__qualname__}.{functionName(func).rpartition('.')[2]}"
        return describeCall(func, self.args, self.kw) + self.place

    def names(self, raw: bool) -> tuple[Any, Any]:
        """
        Return parent and name, as L{Info.nn} does.
        """
        parent, name = parentAndName(self.f, self.instance)
        if raw:
            return (None, self.f) if parent is None else (parent, name)
        if parent is None:
            return None, self.f if isinstance(self.f, str) else namedOrPickled(self.f)
        wireable = namedOrPickled(parent)
        return (None, None) if wireable is None else (wireable, name)

    def get(self, name: str) -> Any:
        """
        Return what is known of the call by a name, or C{None}.
        """
        if name == "callTuple":
            return self.f, self.args, self.kw
        if name in ("f", "args", "kw", "instance"):
            return getattr(self, name)
        return self.saved.get(name)


def exceptionText(error: BaseException | None, call: str) -> str:
    """
    Return the text about an exception: its message, the call, and the traceback.
    """
    if error is None:
        return f"No exception{call}"
    return f"Exception '{_message(error)}'{call}:\n{describeException(error)}"


def failureText(failure: Failure, call: str) -> str:
    """
    Return the text about a failure: its message, the call, and the traceback.
    """
    error = failure.value
    if error is None:
        return f"Failure '{printable(failure.getErrorMessage(), ARGUMENT_LIMIT)}'{call}"
    trace = failure.getTracebackObject()
    if error.__traceback__ is None and trace is not None:
        # It has been cleaned, or has come from elsewhere: what it keeps of its frames is text already.
        body = printable(failure.getTraceback(elideFrameworkCode=True), TRACEBACK_LIMIT)
    else:
        body = describeException(error)
    return f"Failure '{_message(error)}'{call}:\n{body}"


def _message(error: BaseException) -> str:
    try:
        text = printable(str(error), ARGUMENT_LIMIT)
    except Exception:  # whatever a foreign __str__ raises, the text is only for people
        text = ""
    return text or type(error).__qualname__
