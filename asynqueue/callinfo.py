"""
Calls and exceptions as text, bounded, whatever their arguments do when asked for theirs.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from os.path import dirname
from reprlib import Repr
from types import TracebackType
from typing import Any

#: The longest text of one argument, of a call, and of a traceback, in characters.
ARGUMENT_LIMIT = 1024
CALL_LIMIT = 4 * 1024
TRACEBACK_LIMIT = 64 * 1024

#: How many exceptions of a chain are shown, and how many frames of each.
CHAIN_LIMIT = 20
FRAME_LIMIT = 100

#: How many exceptions of a group are shown, and how deep groups within groups.
GROUP_WIDTH = 15
GROUP_DEPTH = 3

_short = Repr()
_PACKAGE = dirname(__file__)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str, limit: int) -> str:
    """
    Return a text with control characters and lone surrogates escaped, with its middle left out beyond C{limit}.
    """
    cut = _shortened(text, limit)
    cut = cut.encode("utf-8", "backslashreplace").decode("utf-8")
    return _shortened(_CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", cut), limit)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    mark = f" … {len(text)} characters in all … "
    half = max(0, (limit - len(mark)) // 2)
    return f"{text[:half]}{mark}{text[len(text) - half :]}"[:limit]


def safeRepr(value: object, limit: int = ARGUMENT_LIMIT) -> str:
    """
    Return C{repr(value)}, bounded, or a stand-in when that raises.
    """
    try:
        if isinstance(value, str | bytes | bytearray) and len(value) > limit:
            # The text of it all would take the longer the more there is, and be thrown away.
            return printable(f"{value[:limit]!r}… {len(value)} in all", limit)
        if isinstance(value, list | tuple | dict | set | frozenset) and len(value) > limit:
            return printable(f"{_short.repr(value)} {len(value)} in all", limit)
        return printable(repr(value), limit)
    except Exception as error:  # whatever a foreign __repr__ raises, the text is only for people
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def functionName(func: object) -> str:
    """
    Return the name of a callable, as a reader of the source would know it.
    """
    while isinstance(func, partial):
        func = func.func
    if isinstance(func, str):
        return func
    for name in ("__qualname__", "__name__"):
        try:
            value = getattr(func, name, None)
        except Exception:  # whatever a foreign __getattr__ raises, the text is only for people
            value = None
        if isinstance(value, str):
            return value.replace("<locals>.", "")
    return safeRepr(func, 200)


def describeCall(func: object, args: Sequence[Any] = (), kw: Mapping[str, Any] | None = None) -> str:
    """
    Return a call as it reads in a program, such as C{timesTwo(3, exact=True)}.
    """
    parts = [safeRepr(arg) for arg in args]
    parts += [f"{name}={safeRepr(value)}" for name, value in (kw or {}).items()]
    return printable(f"{functionName(func)}({', '.join(parts)})", CALL_LIMIT)


def _withoutOurFrames(trace: TracebackType | None) -> TracebackType | None:
    """
    Skip the frames at the beginning that say how this library came to call the function.
    """
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace


def describeException(error: BaseException) -> str:
    """
    Return the traceback of an exception as text, with its causes, notes and groups, without locals, within bounds.
    """
    links: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    link: BaseException | None = error
    heading = ""
    while link is not None and id(link) not in seen and len(links) < CHAIN_LIMIT:
        seen.add(id(link))
        links.append((link, heading))
        if link.__cause__ is not None:
            heading = "\nThe above exception was the direct cause of the following exception:\n\n"
            link = link.__cause__
        elif link.__context__ is not None and not link.__suppress_context__:
            heading = "\nDuring handling of the above exception, another exception occurred:\n\n"
            link = link.__context__
        else:
            link = None
    parts = []
    if link is not None:
        parts.append("(more exceptions came before)\n\n")
    for each, joint in reversed(links):
        text = _describeOne(each)
        parts.append(printable(text, TRACEBACK_LIMIT if len(links) == 1 else TRACEBACK_LIMIT // 4))
        parts.append(joint)
    return printable("".join(parts), TRACEBACK_LIMIT)


def _describeOne(error: BaseException, depth: int = 0) -> str:
    """
    Return the traceback of an exception by itself. C{traceback} would first go through all that it is linked with.
    """
    trace = _withoutOurFrames(error.__traceback__)
    try:
        frames = traceback.format_tb(trace, limit=-FRAME_LIMIT)
    except Exception as problem:  # a loader that breaks must not break the report
        frames = [f"  (the frames cannot be had: {type(problem).__name__})\n"]
    lines = ["Traceback (most recent call last):\n", *frames] if frames else []
    lines += _lastLines(error)
    if isinstance(error, BaseExceptionGroup) and depth < GROUP_DEPTH:
        for each in error.exceptions[:GROUP_WIDTH]:
            inner = printable(_describeOne(each, depth + 1), TRACEBACK_LIMIT // GROUP_WIDTH)
            lines += [f"  | {line}\n" for line in ["-" * 16, *inner.splitlines()]]
        if len(error.exceptions) > GROUP_WIDTH:
            lines.append(f"  | and {len(error.exceptions) - GROUP_WIDTH} more exceptions\n")
    return "".join(lines)


def _lastLines(error: BaseException) -> list[str]:
    """
    Return the lines that name an exception, with its message and notes.
    """
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        if isinstance(error, SyntaxError):
            return traceback.format_exception_only(kind, error)
        message = printable(str(error), TRACEBACK_LIMIT)
    except Exception as problem:  # whatever a foreign __str__ raises, the text is only for people
        message = f"<its text cannot be had: {type(problem).__name__}>"
    lines = [f"{name}: {message}\n" if message else f"{name}\n"]
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list | tuple):
        lines += [
            f"{printable(note, ARGUMENT_LIMIT) if isinstance(note, str) else safeRepr(note)}\n" for note in notes[:20]
        ]
    return lines


def said(error: BaseException) -> str:
    """
    Return the class and the message of an exception as text, whatever its C{__str__} does.
    """
    try:
        text = str(error)
    except BaseException as other:  # a foreign __str__ may raise anything
        text = f"its message cannot be shown: {type(other).__name__}"
    return printable(f"{type(error).__name__}: {text}", 1024)
