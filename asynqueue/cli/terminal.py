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

#: The variable that may have a passphrase.
PASSPHRASE_VARIABLE = "ASYNQUEUE_PASSPHRASE"


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

        @param file: Its first line is the passphrase.
        @param purpose: What it is for: C{"to encrypt gpu1.bundle"}.
        @param is_new: Whether it is asked for twice.
        @raise CommandError: There is none to be had, or the two differ.
        """
        if file is not None:
            lines = file.read_text(encoding="utf-8").splitlines()
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
