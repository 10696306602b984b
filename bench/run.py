"""
Processes that measure, each for one figure, those that are compared taking turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from attrs import field, frozen

from bench.leftovers import VARIABLE, endLeftovers, newMark

#: The folder in which C{python -m bench} finds both this package and the library.
ROOT = Path(__file__).resolve().parent.parent

#: Where C{make bench} installs the peers that cannot be installed beside this library.
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"

#: Seconds that a process may take.
TIME_LIMIT = 120.0


@frozen
class Subject:
    """
    Something that is measured.

    @ivar name: What the report calls it.
    @ivar command: What its process is started with, after the interpreter.
    @ivar isPeer: Whether its interpreter is that of the peers.
    """

    name: str
    command: tuple[str, ...]
    isPeer: bool = False


@frozen
class Case:
    """
    One measurement of one subject.

    @ivar measurement: Its name in the subject's process.
    @ivar count: Of how many calls.
    @ivar rounds: How many times over, in the same process, where the time of one is short.
    """

    subject: Subject
    measurement: str
    count: int
    rounds: int = 1


@frozen
class Sample:
    """
    What a process has measured.

    @ivar figures: By name; times are in seconds. Empty if there is a problem.
    @ivar problem: Why it has measured nothing, or an empty text.
    """

    figures: dict[str, float] = field(factory=dict)
    problem: str = ""


#: The samples of each case, in the order of the turns.
Samples = dict[Case, list[Sample]]


def runCase(case: Case, peersPython: Path, timeLimit: float = TIME_LIMIT) -> Sample:
    """
    Have a process of its own make a measurement.

    @param peersPython: The interpreter with the peers.
    @param timeLimit: Seconds that the process may take.
    """
    if case.subject.isPeer and not peersPython.exists():
        return Sample(problem="not installed")
    interpreter = str(peersPython) if case.subject.isPeer else sys.executable
    command = [interpreter, *case.subject.command, case.measurement, str(case.count), "--rounds", str(case.rounds)]
    mark = newMark()
    environment = {**os.environ, VARIABLE: mark}
    # Otherwise each process that is started, and each child of it, might compile what it imports anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # Into files and not over pipes, which a child that is left behind would hold open.
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        try:
            ended = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=timeLimit,
            )
        except subprocess.TimeoutExpired:
            return Sample(problem=f"took more than {timeLimit:g} s")
        finally:
            endLeftovers(mark)
        output.seek(0)
        lines = output.read().splitlines()
        if ended.returncode or not lines:
            errors.seek(0)
            print(errors.read(), file=sys.stderr)
            return Sample(problem=f"ended with exit code {ended.returncode}")
    figures = json.loads(lines[-1])
    if "problem" in figures:
        return Sample(problem=figures["problem"])
    return Sample(figures)


def takeTurns(
    cases: Sequence[Case],
    repeats: int,
    peersPython: Path,
    progress: Callable[[int, Case], object],
) -> Samples:
    """
    Make each measurement a number of times: all of them once, then all of them again, and so on.

    @param progress: Called with the number of the turn, from 1 on, and the case, before each measurement.
    """
    samples: Samples = {case: [] for case in cases}
    for turn in range(1, repeats + 1):
        for case in samples:
            progress(turn, case)
            samples[case].append(runCase(case, peersPython))
    return samples
