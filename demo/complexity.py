"""
Functions and branches of a syntax tree.

A branch is a point where the control flow divides: an C{if}, C{elif} or conditional expression, a loop, an C{except}
clause, a C{case} that can fail to match and its guard, each C{for} and C{if} of a comprehension, and each C{and} or
C{or}. The complexity of a function is McCabe's: its own branches and one. What a nested function contains is counted
for the nested function only, and for the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from attrs import define, field, frozen, validators

_ONE_BRANCH = frozenset({ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler})


@frozen
class FunctionReport:
    """
    What is known of one function.

    @ivar name: The name, qualified within its file, such as C{"Parser.feed"}.
    @ivar line: The line of its C{def}.
    @ivar lines: The number of lines from there to its end.
    @ivar complexity: The number of its branches, and one.
    """

    name: str
    line: int = field(validator=validators.ge(1))
    lines: int = field(validator=validators.ge(1))
    complexity: int = field(validator=validators.ge(1))


@frozen
class TreeReport:
    """
    What is known of a whole tree.

    @ivar functions: Every function and method, in no particular order.
    @ivar branches: The number of branches, in functions and outside of them.
    """

    functions: tuple[FunctionReport, ...]
    branches: int = field(validator=validators.ge(0))


@define
class _Scope:
    """
    A function that is being measured, or the code outside of all functions.
    """

    node: ast.FunctionDef | ast.AsyncFunctionDef | None
    name: str = ""
    branches: int = 0


def measureTree(tree: ast.AST) -> TreeReport:
    """
    Count the functions and branches of a syntax tree.

    The tree may be of any depth: nothing here recurses.
    """
    outside = _Scope(None)
    scopes = [outside]
    pending: list[tuple[ast.AST, _Scope, str]] = [(tree, outside, "")]
    while pending:
        node, scope, prefix = pending.pop()
        scope.branches += countBranches(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = prefix + node.name
            inner = _Scope(node, name)
            scopes.append(inner)
            # Decorators, defaults and annotations are evaluated outside of the function, so they belong there.
            pending.extend((child, scope, prefix) for child in _header(node))
            pending.extend((child, inner, name + ".") for child in node.body)
            continue
        if isinstance(node, ast.ClassDef):
            prefix += node.name + "."
        pending.extend((child, scope, prefix) for child in ast.iter_child_nodes(node))
    return TreeReport(
        functions=tuple(_reported(scope.node, scope) for scope in scopes if scope.node is not None),
        branches=sum(scope.branches for scope in scopes),
    )


def countBranches(node: ast.AST) -> int:
    """
    Count the branches that a node adds by itself, without those of the nodes below it.
    """
    if type(node) in _ONE_BRANCH:
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        alwaysMatches = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None
        return (not alwaysMatches) + (node.guard is not None)
    return 0


def _header(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    body = set(map(id, node.body))
    return (child for child in ast.iter_child_nodes(node) if id(child) not in body)


def _reported(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: _Scope) -> FunctionReport:
    last = node.end_lineno or node.lineno
    return FunctionReport(scope.name, node.lineno, last - node.lineno + 1, scope.branches + 1)
