"""
The call that sums up, now and then, what the survey has found so far.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen, validators

from demo.rows import FileReport


@frozen
class Summary:
    """
    The sums over a number of files.

    @ivar files: How many they are.
    @ivar problems: How many of them could not be measured.
    @ivar mostComplex: The name of the file with the most branches, or an empty text.
    """

    files: int = field(default=0, validator=validators.ge(0))
    problems: int = field(default=0, validator=validators.ge(0))
    lines: int = field(default=0, validator=validators.ge(0))
    codeLines: int = field(default=0, validator=validators.ge(0))
    commentLines: int = field(default=0, validator=validators.ge(0))
    tokens: int = field(default=0, validator=validators.ge(0))
    functions: int = field(default=0, validator=validators.ge(0))
    branches: int = field(default=0, validator=validators.ge(0))
    mostComplex: str = ""


def summarise(reports: Sequence[FileReport]) -> Summary:
    """
    Sum up reports.
    """
    ranked = rankByBranches(reports)
    return Summary(
        files=len(reports),
        problems=sum(report.problem is not None for report in reports),
        lines=sum(report.lines for report in reports),
        codeLines=sum(report.codeLines for report in reports),
        commentLines=sum(report.commentLines for report in reports),
        tokens=sum(report.tokens for report in reports),
        functions=sum(report.functions for report in reports),
        branches=sum(report.branches for report in reports),
        mostComplex=ranked[0].name if ranked else "",
    )


def rankByBranches(reports: Sequence[FileReport]) -> list[FileReport]:
    """
    Order the reports of files that could be measured, those with the most branches first, then by name.
    """
    measured = [report for report in reports if report.problem is None]
    return sorted(measured, key=lambda report: (-report.branches, report.name))
