"""
How the options of commands are called, of which errors speak as keywords.
"""

from __future__ import annotations

import re

_SWITCH = re.compile(r"\b(insecure_[a-z_]+|pickles)=True")


def as_options(text: str) -> str:
    """
    Return a text in which keywords that are named are the options of a command, such as C{--insecure-root}.
    """
    return _SWITCH.sub(lambda found: f"--{found[1].replace('_', '-')}", text)
