"""
The call that a worker makes for each file: read it, parse it, tokenise it, measure it.

L{measureFile} is an ordinary blocking generator function at the top level of an importable module, with arguments and
items that can be pickled, so that it runs on every kind of worker.
"""

from __future__ import annotations

import ast
import contextlib
import io
import sys
import threading
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from demo.complexity import measureTree
from demo.rows import FileReport, Row

#: The longest text of a problem, in characters.
PROBLEM_LIMIT = 200

_LAYOUT = frozenset(
    {tokenize.ENCODING, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)

# What reading, decoding, parsing and tokenising raise for a bad file. A NUL byte is a ValueError up to Python 3.11, and
# so is text that does not decode; an encoding that is none for text is a LookupError; the parser's limits of depth show
# as MemoryError and RecursionError.
_BAD_FILE = (OSError, SyntaxError, ValueError, LookupError, RecursionError, MemoryError, tokenize.TokenError)

# catch_warnings changes the whole process, so two threads must not be in it at once. The parser holds the interpreter
# lock all the while, and nothing is lost by taking turns; without that lock the filters are per thread, and so is this.
_onlyParser = threading.Lock()


@frozen
class TokenCounts:
    """
    The tokens of a text, and the lines that they stand on.
    """

    tokens: int
    codeLines: int
    commentLines: int


def measureFile(path: str, name: str) -> Iterator[Row]:
    """
    Measure the Python source at a path, and yield a row for each of its functions, and the one of the file.

    Of a file that cannot be read, decoded, parsed or tokenised, there is its own row, with the reason as its
    C{problem}; nothing is raised for it.

    @param path: Where the file is.
    @param name: What the report calls it.
    """
    lines = 0
    try:
        text = decodeSource(Path(path).read_bytes())
        lines = text.count("\n") + (not text.endswith("\n") and text != "")
        found = measureTree(parseSource(text))
        counts = countTokens(text)
    except _BAD_FILE as error:
        yield Row(FileReport(name, lines=lines, problem=describeProblem(error)))
        return
    yield from map(Row, found.functions)
    yield Row(
        FileReport(
            name,
            lines=lines,
            codeLines=counts.codeLines,
            commentLines=counts.commentLines,
            tokens=counts.tokens,
            branches=found.branches,
            functions=len(found.functions),
            mostComplex=max(found.functions, key=lambda each: (each.complexity, -each.line), default=None),
        )
    )


def decodeSource(data: bytes) -> str:
    """
    Decode a source as the interpreter would: by its byte order mark or its declaration of PEP 263, otherwise as UTF-8.

    @return: The text, with every kind of line end as C{"\\n"}.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    with io.TextIOWrapper(io.BytesIO(data), encoding) as text:
        return text.read()


def parseSource(text: str) -> ast.Module:
    """
    Parse a source, without the warnings that its string escapes or comparisons may give rise to.
    """
    with _warningsSilenced():
        return ast.parse(text)


def countTokens(text: str) -> TokenCounts:
    """
    Count the tokens of a source, those of layout left out, and the lines that hold code and comments.
    """
    tokens = codeLines = commentLines = lastCodeLine = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _LAYOUT:
            continue
        tokens += 1
        if token.type == tokenize.COMMENT:
            commentLines += 1
            continue
        first, last = token.start[0], token.end[0]
        codeLines += max(0, last - max(first, lastCodeLine + 1) + 1)
        lastCodeLine = last
    return TokenCounts(tokens, codeLines, commentLines)


def describeProblem(error: BaseException) -> str:
    """
    Say in one bounded line what is wrong with a file, without the path that many such errors repeat.
    """
    detail = str(error)
    if isinstance(error, SyntaxError):
        detail = error.msg if error.lineno is None else f"{error.msg} (line {error.lineno})"
    elif isinstance(error, OSError) and error.strerror:
        detail = error.strerror
    elif detail.startswith("Traceback ("):
        # What a worker tells of an error; its last line is the error itself.
        detail = detail.strip().rpartition("\n")[2].partition(": ")[2]
    words = " ".join(f"{type(error).__name__}: {detail}".split())
    return words if len(words) <= PROBLEM_LIMIT else words[: PROBLEM_LIMIT - 1] + "…"


@contextlib.contextmanager
def _warningsSilenced() -> Iterator[None]:
    perThread = getattr(sys.flags, "context_aware_warnings", False)
    with contextlib.nullcontext() if perThread else _onlyParser, warnings.catch_warnings():
        for category in (SyntaxWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield
