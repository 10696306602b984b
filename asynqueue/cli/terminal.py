"""
What a command writes to and asks from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from getpass import getpass
from pathlib import Path
from typing import TextIO

from attrs import Factory, frozen

from asynqueue.callinfo import printable

#: The variable that may have a passphrase.
PASSPHRASE_VARIABLE = "ASYNQUEUE_PASSPHRASE"


#: How long a line may be that has text of somebody else's in it, in characters.
LINE_LIMIT = 4096


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """
    Return a text as a part of a line that does nothing to a terminal but stand there, wherever it came from.
    """
    shown = printable(text, limit).replace("\n", "\\x0a").replace("\t", "\\x09")
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in shown)


class CommandError(Exception):
    """
    A command cannot do what it was asked for; the text says why.
    """


@frozen
class Terminal:
    """
    Where a command's output goes, and where its answers come from.

    @ivar output: For what was asked for.
    @ivar errors: For what went wrong.
    @ivar variables: The environment.
    @ivar is_interactive: Whether somebody can be asked.
    """

    output: TextIO = Factory(lambda: sys.stdout)
    errors: TextIO = Factory(lambda: sys.stderr)
    variables: Mapping[str, str] = Factory(lambda: os.environ)
    is_interactive: bool = Factory(lambda: sys.stdin is not None and sys.stdin.isatty())

    def write(self, line: str = "") -> None:
        """
        Write a line of output.
        """
        self.output.write(f"{line}\n")

    def passphrase(self, file: Path | None, purpose: str, is_new: bool) -> str:
        """
        Return a passphrase: from a file, else from the environment, else from whoever sits there.

        @param file: Its first line is the passphrase. Only this user may read or write it.
        @param purpose: What it is for: C{"to encrypt gpu1.bundle"}.
        @param is_new: Whether it is asked for twice.
        @raise CommandError: There is none to be had, or the two differ.
        @raise InsecureTransport: Others can get at the file.
        """
        if file is not None:
            from asynqueue.wire.privatefiles import readPrivate

            try:
                lines = readPrivate(file, "the file of the passphrase,").decode("utf-8").splitlines()
            except UnicodeDecodeError:
                raise CommandError(f"the file of the passphrase, {file}, is not written in UTF-8") from None
            if not lines or not lines[0]:
                raise CommandError(f"the file of the passphrase, {file}, has an empty first line")
            return lines[0]
        if self.variables.get(PASSPHRASE_VARIABLE):
            return self.variables[PASSPHRASE_VARIABLE]
        if not self.is_interactive:
            raise CommandError(
                f"a passphrase is needed {purpose}, and there is nobody to ask: name a file that has it by"
                f" --passphrase-file, or set {PASSPHRASE_VARIABLE}"
            )
        entered = getpass(f"Passphrase {purpose}: ")
        if is_new and getpass("The same again: ") != entered:
            raise CommandError("the two passphrases differ; nothing was changed")
        return entered
