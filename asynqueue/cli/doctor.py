"""
C{asynqueue doctor}: shows what is insecure or broken about this host's keys, endpoints and packages, and why.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynqueue.cli.worker import add_switches
from asynqueue.wire.switches import SWITCHES

if TYPE_CHECKING:
    from asynqueue.cli.terminal import Terminal


def add_parser(subcommands: Any) -> None:
    """
    Add the parser of C{asynqueue doctor}.
    """
    parser = subcommands.add_parser(
        "doctor", help="show what is insecure or broken, and why", description=__doc__.splitlines()[0]
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "descriptions",
        nargs="*",
        metavar="DESCRIPTION",
        help="where a server is to listen, or which one a client is to connect to, as they are given to those",
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIRECTORY", help="where the keys are, instead of in $XDG_CONFIG_HOME/asynqueue"
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    add_switches(parser)


def _run(parsed: argparse.Namespace, terminal: Terminal) -> int:
    from asynqueue.cli.findings import BAD, examine

    asked = {name for name in SWITCHES if getattr(parsed, name)}
    findings = examine(parsed.descriptions, parsed.folder, asked)
    bad = [finding for finding in findings if finding.level in BAD]
    if parsed.json:
        listed = [
            {"level": finding.level.value, "subject": finding.subject, "text": finding.text} for finding in findings
        ]
        terminal.write(json.dumps({"well": not bad, "findings": listed}, indent=1))
        return 1 if bad else 0
    width = max(len(finding.level.value) for finding in findings)
    for finding in findings:
        terminal.write(f"{finding.level.value:<{width}}  {finding.subject}: {finding.text}")
    terminal.write()
    terminal.write(f"{len(bad)} of {len(findings)} findings need attention." if bad else "Nothing needs attention.")
    return 1 if bad else 0
