"""
The rows of a file: as its generator makes them on a worker, and as they are taken in the reactor.

A file's rows are a L{Row} for each of its functions and, last of all, one for the file. The worker makes them no
faster than L{RowConsumer} takes them.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from attrs import field, frozen, validators
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from zope.interface import implementer

from demo.complexity import FunctionReport

#: How many rows of a file are taken before the reactor gets a turn for other things.
ROWS_A_TURN = 8

#: How many of the longest functions are kept.
LONGEST = 5


@frozen
class FileReport:
    """
    What is known of one file.

    @ivar name: The file's name below the root of the library.
    @ivar lines: The number of its lines, as far as it could be read.
    @ivar codeLines: Those with code on them, docstrings included.
    @ivar commentLines: Those with a comment.
    @ivar tokens: The number of its tokens, without those of layout.
    @ivar branches: The number of branches, as L{demo.complexity} counts them.
    @ivar functions: The number of functions and methods.
    @ivar mostComplex: The function with the most branches, if there is any.
    @ivar problem: Why the file could not be measured, otherwise C{None}.
    """

    name: str
    lines: int = field(default=0, validator=validators.ge(0))
    codeLines: int = field(default=0, validator=validators.ge(0))
    commentLines: int = field(default=0, validator=validators.ge(0))
    tokens: int = field(default=0, validator=validators.ge(0))
    branches: int = field(default=0, validator=validators.ge(0))
    functions: int = field(default=0, validator=validators.ge(0))
    mostComplex: FunctionReport | None = None
    problem: str | None = None


@frozen
class Row:
    """
    One item of a file's generator.

    @ivar report: What is known of a function or, in the last row, of the file.
    @ivar madeAt: When the generator has made it, in seconds, by the clock that all processes of a machine share.
    """

    report: FunctionReport | FileReport
    madeAt: float = field(factory=perf_counter)


@frozen
class Place:
    """
    A function and the name of its file.
    """

    function: FunctionReport
    file: str


class Longest:
    """
    The longest functions so far, however many there have been.

    @param size: How many to keep.
    """

    def __init__(self, size: int = LONGEST) -> None:
        self._size = size
        self._places: list[Place] = []

    def add(self, places: Iterable[Place]) -> None:
        """
        Take more functions into account.
        """
        for place in places:
            insort(self._places, place, key=_byLength)
            del self._places[self._size :]

    def places(self) -> tuple[Place, ...]:
        """
        Return the longest, in this order; among equals, by the names of their files.
        """
        return tuple(self._places)


def _byLength(place: Place) -> tuple[int, str, int]:
    return (-place.function.lines, place.file, place.function.line)


class FileFindings:
    """
    What the rows of one file come to.

    @param name: The file's name.
    @ivar longest: Its longest functions.
    """

    def __init__(self, name: str) -> None:
        self.longest = Longest()
        self._name = name
        self._report: FileReport | None = None

    def add(self, row: Row) -> None:
        """
        Take a row into account.
        """
        if isinstance(row.report, FileReport):
            self._report = row.report
        else:
            self.longest.add([Place(row.report, self._name)])

    def report(self) -> FileReport:
        """
        Return what is known of the file.

        @raise LookupError: Its row has not come.
        """
        if self._report is None:
            raise LookupError(f"the rows of {self._name} ended without the one of the file")
        return self._report


@implementer(IConsumer)
class RowConsumer:
    """
    Takes the rows of one file as they come, but only some in each turn of the reactor.

    @param findings: Gets them.
    @param clock: The reactor.
    @param timer: The clock by which rows say when they were made.
    @ivar number: How many rows have come.
    @ivar lead: How many more the generator had made when one was taken, at most.
    """

    def __init__(self, findings: FileFindings, clock: IReactorTime, timer: Callable[[], float] = perf_counter) -> None:
        self.number = 0
        self.lead = 0
        self._findings = findings
        self._clock = clock
        self._timer = timer
        self._producer: Any = None
        self._turn: IDelayedCall | None = None
        # When the latest rows were taken, as far back as the one that comes next may have been made.
        self._taken: deque[float] = deque()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write, which must be one that does so until it is paused.
        """
        self._producer = producer

    def unregisterProducer(self) -> None:
        """
        Let the producer go: there are no more rows.
        """
        self._producer = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def write(self, data: Any) -> None:
        """
        Take a L{Row}, and have the others wait for the next turn if these have been enough.
        """
        while self._taken and self._taken[0] < data.madeAt:
            self._taken.popleft()
        self.lead = max(self.lead, len(self._taken))
        self._taken.append(self._timer())
        self.number += 1
        self._findings.add(data)
        if self.number % ROWS_A_TURN == 0:
            self._producer.pauseProducing()
            self._turn = self._clock.callLater(0, self._goOn)

    def _goOn(self) -> None:
        self._turn = None
        self._producer.resumeProducing()
