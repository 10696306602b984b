"""
What is known of calls, for the texts of logs and errors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from asynqueue.callinfo import safeRepr
from asynqueue.callrecord import Call, exceptionText, failureText
from asynqueue.showcalls import inThread

if TYPE_CHECKING:
    from twisted.python.failure import Failure

#: How many calls are remembered; then the oldest is forgotten.
MEMORY_LIMIT = 10_000

# Calls have their numbers throughout the process, so that those of two Infos can be told apart.
_numbers = count(1)


class InfoHolder:
    """
    What L{Info.context} knows of its call, for as long as anybody has it.

    @ivar ID: The number of the call.
    """

    def __init__(self, call: Call, ID: int) -> None:
        self.ID = ID
        self._call = call

    def getInfo(self, name: str) -> Any:
        """
        As L{Info.getInfo}.
        """
        return self._call.get(name)

    def nn(self, raw: bool = False) -> tuple[Any, Any]:
        """
        As L{Info.nn}.
        """
        return self._call.names(raw)

    def aboutCall(self) -> str:
        """
        As L{Info.aboutCall}.
        """
        return self._call.text()

    def aboutException(self, exception: BaseException | None = None) -> str:
        """
        As L{Info.aboutException}.
        """
        return exceptionText(sys.exception() if exception is None else exception, f" in {self._call.text()}")

    def aboutFailure(self, failure: Failure) -> str:
        """
        As L{Info.aboutFailure}.
        """
        return failureText(failure, f" in {self._call.text()}")


class Info:
    """
    Tells about calls.

        >>> info = Info().setCall(divide, (1, 0))
        >>> try:
        ...     divide(1, 0)
        ... except ZeroDivisionError:
        ...     print(info.aboutException())
        Exception 'division by zero' in divide(1, 0):
        Traceback (most recent call last): ...

    Where a method takes the C{ID} of a call, C{None} is for the one that was set last. Of a call that is not known, or
    not any more, the texts say just that. Every text is bounded, whatever the arguments do when asked for theirs.

    @ivar ID: The number of the call that was set last, or C{None}.
    """

    def __init__(self, remember: bool = False, whichThread: bool = False) -> None:
        """
        @param remember: Whether calls stay known when another is set, until L{forgetID}: the last 10,000.
        @param whichThread: Whether the text of a call tells in which thread it was set.
        """
        self.remember = remember
        self.whichThread = whichThread
        self.ID: int | None = None
        self._calls: dict[int, Call] = {}
        self._last: int | None = None

    def setCall(
        self,
        f: Callable[..., Any] | str,
        args: Any = (),
        kw: Mapping[str, Any] | None = None,
        instance: object = None,
    ) -> Self:
        """
        Set the call that the other methods tell about.

        @param f: What is called, or its name.
        @param args: The arguments, as a list or tuple; anything else is the only argument.
        @param kw: The keywords.
        @param instance: The object of which C{f} is a method, where that does not tell.
        @return: This object.
        @raise TypeError: C{f} cannot be called and is no name, or the keywords are no mapping.
        """
        ID = self._begin(f, args, kw, instance)
        if not self.remember and self._last is not None:
            self._calls.pop(self._last, None)
        self._last = ID
        return self

    def saveInfo(self, name: str, value: Any, ID: int | None = None) -> None:
        """
        Keep something that is known of a call, by a name, as long as the call is known.

        @raise KeyError: The call is not known.
        """
        call = self._known(ID)
        if call is None:
            raise KeyError(f"there is no {self._unknown(ID)}, of which to keep {name!r}")
        call.saved[name] = value

    def getInfo(self, ID: int | None, name: str, nowForget: bool = False) -> Any:
        """
        Return what is known of a call by a name: what L{saveInfo} was given, or C{f}, C{args}, C{kw}, C{instance},
        C{callTuple}; otherwise C{None}.

        @param nowForget: Whether to forget the call then.
        """
        call = self._known(ID)
        self._forgetIf(nowForget, ID)
        return None if call is None else call.get(name)

    def forgetID(self, ID: int | None = None) -> None:
        """
        Forget a call. May be called again.
        """
        chosen = self.ID if ID is None else ID
        if chosen is not None:
            self._calls.pop(chosen, None)
        if chosen == self.ID:
            self.ID = None

    def nn(self, ID: int | None = None, raw: bool = False) -> tuple[Any, Any]:
        """
        Return namespace and name of what is called, so that another process can have it.

        For a method: the object that it belongs to, as dotted name (text) or else as pickle (bytes), and the method's
        name there. For any other: C{None}, and its dotted name or else pickle. Two C{None} if there is no way.

        @param raw: Whether object or function are given as they are.
        """
        call = self._known(ID)
        return (None, None) if call is None else call.names(raw)

    def aboutCall(self, ID: int | None = None, nowForget: bool = False) -> str:
        """
        Return a call as it reads in a program, such as C{func(1, x=2)}.

        @param nowForget: Whether to forget the call then.
        """
        text = self._text(ID)
        self._forgetIf(nowForget, ID)
        return text

    def aboutException(
        self, ID: int | None = None, exception: BaseException | None = None, nowForget: bool = False
    ) -> str:
        """
        Return a text that begins with C{Exception '…'}, the message in it, and goes on with the call and the traceback.

        @param exception: The exception; C{None}: the one that is being handled.
        @param nowForget: Whether to forget the call then.
        """
        text = exceptionText(sys.exception() if exception is None else exception, self._heading(ID))
        self._forgetIf(nowForget, ID)
        return text

    def aboutFailure(self, failure: Failure, ID: int | None = None, nowForget: bool = False) -> str:
        """
        Return a text that begins with C{Failure '…'}, the message in it, and goes on with the call and the traceback.

        @param nowForget: Whether to forget the call then.
        """
        text = failureText(failure, self._heading(ID))
        self._forgetIf(nowForget, ID)
        return text

    @contextmanager
    def context(
        self,
        f: Callable[..., Any] | str,
        args: Any = (),
        kw: Mapping[str, Any] | None = None,
        instance: object = None,
    ) -> Generator[InfoHolder]:
        """
        Set a call for a block, which gets an L{InfoHolder}. After it, the call is forgotten but by that.

        Takes what L{setCall} takes. The call set before is known as ever, and so are those of other blocks.
        """
        before = self.ID
        ID = self._begin(f, args, kw, instance)
        try:
            yield InfoHolder(self._calls[ID], ID)
        finally:
            self._calls.pop(ID, None)
            if self.ID == ID:
                self.ID = next((each for each in (before, self._last) if each in self._calls), None)

    def _begin(self, f: Any, args: Any, kw: Mapping[str, Any] | None, instance: object) -> int:
        if not (callable(f) or isinstance(f, str)):
            raise TypeError(f"f must be callable, or a name, and {safeRepr(f)} is neither")
        if kw is not None and not isinstance(kw, Mapping):
            raise TypeError(f"the keywords must be a mapping, and {safeRepr(kw)} is none")
        arguments = tuple(args) if isinstance(args, list | tuple) else (args,)
        place = inThread("") if self.whichThread else ""
        ID = self.ID = next(_numbers)
        self._calls[ID] = Call(f, arguments, dict(kw or {}), instance, place)
        if len(self._calls) > MEMORY_LIMIT:
            del self._calls[next(iter(self._calls))]
        return ID

    def _known(self, ID: int | None) -> Call | None:
        chosen = self.ID if ID is None else ID
        return None if chosen is None else self._calls.get(chosen)

    def _unknown(self, ID: int | None) -> str:
        return "call that has been set" if ID is None else f"call {safeRepr(ID)} any more"

    def _text(self, ID: int | None) -> str:
        call = self._known(ID)
        if call is not None:
            return call.text()
        return f"<no {self._unknown(ID)}>"

    def _heading(self, ID: int | None) -> str:
        return "" if ID is None and self._known(ID) is None else f" in {self._text(ID)}"

    def _forgetIf(self, isWanted: bool, ID: int | None) -> None:
        if isWanted:
            self.forgetID(ID)
