"""
What the safety of wire workers rests on, looked up in the syntax trees of the modules: nothing that comes from afar
becomes an object but in one place, for a peer that has been authorised.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import asynqueue.wire

FOLDER = Path(asynqueue.wire.__file__).parent

#: Modules by which an object is made of bytes that may run anything.
DANGEROUS = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "copyreg", "jsonpickle", "yaml", "runpy"}

#: What makes code of text, or imports what text names. The name of a universe comes from whoever runs the server.
EVALUATORS = {"eval", "exec", "compile", "__import__", "import_module", "namedAny", "namedObject", "namedModule"}

#: Which modules read JSON, and of what: of files of this user's and of signed bundles, never of what a peer sends.
READS_FILES = {"bundles", "nodes", "keystore"}


def modules() -> dict[str, ast.Module]:
    """
    Return the syntax trees of the package's modules, by their names.
    """
    return {path.stem: ast.parse(path.read_text("utf-8")) for path in FOLDER.glob("*.py")}


def imported(tree: ast.AST) -> set[str]:
    """
    Return the top-level names of the modules that are imported anywhere in a tree, and what is imported from them.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def nameOf(node: ast.expr) -> str:
    """
    Return the name of what is called, without what stands before the last dot.
    """
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST, name: str) -> Iterator[tuple[str, ast.Call]]:
    """
    Iterate over the calls of something by its name, each with the name of the function that it stands in.
    """

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            if isinstance(child, ast.Call) and nameOf(child.func) == name:
                yield inner, child
            yield from walk(child, inner)

    return walk(tree, "")


def mentions(tree: ast.AST, name: str) -> int:
    """
    Count how often a name, or an attribute of that name, stands in a tree, imports aside.
    """
    return sum(
        (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)
        for node in ast.walk(tree)
    )


class DecodingTests(SynchronousTestCase):
    """
    FAULTS 7.4 and 7.6: one function decodes, and asks who has sent it.
    """

    def setUp(self) -> None:
        """
        Parse the modules.
        """
        self.trees = modules()

    def test_picklesAreReadInOneModule(self) -> None:
        """
        No other module of the package as much as imports what could.
        """
        users = {name for name, tree in self.trees.items() if imported(tree) & DANGEROUS}
        self.assertEqual(users, {"serializers"})

    def test_loadsAreSerializersAndPeersAlone(self) -> None:
        """
        What is called C{loads}, of whatever module, is mentioned by the serializers, and called by the two functions
        that decode. Other modules read only JSON, and only of files.
        """
        found = {name for name, tree in self.trees.items() if mentions(tree, "loads") or mentions(tree, "load")}
        self.assertLessEqual(found, {"serializers", "peers", *READS_FILES})
        callers = {function for function, _ in calls(self.trees["peers"], "loads")}
        self.assertEqual(callers, {"decode", "decodeTold"})
        for name in READS_FILES & found:
            for _, call in calls(self.trees[name], "loads"):
                assert isinstance(call.func, ast.Attribute)
                self.assertEqual(ast.unparse(call.func.value), "json", name)

    def test_loadsInPeersAreOfSerializers(self) -> None:
        """
        What decodes is chosen by the peer: its serializer, or plain data.
        """
        ways = {ast.unparse(call.func) for _, call in calls(self.trees["peers"], "loads")}
        self.assertEqual(ways, {"peer.serializer.loads", "(peer.serializer if peer.mayCode else _PLAIN).loads"})

    def test_decodeIsCalledWithAPeer(self) -> None:
        """
        Each call of a function that decodes has a peer as its first argument, and so has the function itself.
        """
        number = 0
        for name, tree in self.trees.items():
            for decoder in ("decode", "decodeTold"):
                for function, call in calls(tree, decoder):
                    if isinstance(call.func, ast.Attribute):
                        # The method of bytes.
                        self.assertEqual(decoder, "decode")
                        continue
                    number += 1
                    self.assertIn(ast.unparse(call.args[0]), ("peer", "self._peer"), f"{function} in {name}")
        self.assertGreaterEqual(number, 4)
        for node in ast.walk(self.trees["peers"]):
            if isinstance(node, ast.FunctionDef) and node.name in ("decode", "decodeTold"):
                first = node.args.args[0]
                self.assertEqual((first.arg, ast.unparse(first.annotation or first)), ("peer", "Peer"))

    def test_peersAreMadeByAuthorising(self) -> None:
        """
        A peer is made in two functions, by nobody else, and not copied with other roles.
        """
        makers = {(name, function) for name, tree in self.trees.items() for function, _ in calls(tree, "Peer")}
        self.assertEqual(makers, {("peers", "authorizeCaller"), ("peers", "authorizeRunner")})
        evolved = [
            name
            for name, tree in self.trees.items()
            for _, call in calls(tree, "evolve")
            if "peer" in ast.unparse(call).lower()
        ]
        self.assertEqual(evolved, [])

    def test_authorisedOnceTheTransportSaysWho(self) -> None:
        """
        Who is authorised is who the transport says it is, in the answer to the hello, at both ends.
        """
        sources = {
            (name, function, ast.unparse(call.args[0]))
            for name, tree in self.trees.items()
            for maker in ("authorizeCaller", "authorizeRunner", "authorize")
            for function, call in calls(tree, maker)
        }
        self.assertEqual(
            sources,
            {
                ("link", "hello", "self.transport.identity"),
                ("session", "_hello", "self.transport.identity"),
                ("node", "authorize", "identity"),
            },
        )

    def test_picklesInErrorsNeedThePeersLeave(self) -> None:
        """
        What makes an exception of a pickle is mentioned once, where the peer may send code.
        """
        users = {name: mentions(tree, "unpickledOriginal") for name, tree in self.trees.items()}
        self.assertEqual({name: number for name, number in users.items() if number}, {"tellings": 1})
        choices = [
            ast.unparse(node.test)
            for node in ast.walk(self.trees["tellings"])
            if isinstance(node, ast.IfExp) and ast.unparse(node.body) == "unpickledOriginal"
        ]
        self.assertEqual(choices, ["peer.mayCode"])

    def test_nothingIsEvaluated(self) -> None:
        """
        No text becomes code, and no name a module, but that of a universe, and names that are written in these modules.
        """
        users = {
            (name, evaluator)
            for name, tree in self.trees.items()
            for evaluator in EVALUATORS
            for _, call in calls(tree, evaluator)
            if ast.unparse(call.func) != "re.compile"
        }
        self.assertEqual(
            users, {("__init__", "import_module"), ("certificates", "import_module"), ("server", "namedAny")}
        )

    def test_attributesAreNotLookedUpByNamesFromAfar(self) -> None:
        """
        C{getattr} with a name that is no literal stands where no name comes from afar.
        """
        users = {
            (name, function)
            for name, tree in self.trees.items()
            for function, call in calls(tree, "getattr")
            if not isinstance(call.args[1], ast.Constant)
        }
        self.assertLessEqual(
            users,
            {
                ("__init__", "__getattr__"),
                ("registry", "__init__"),
                ("universe", "methodNames"),
                ("door", "__getattr__"),
            },
        )

    def test_noStartTLS(self) -> None:
        """
        No plain connection becomes a secure one.
        """
        self.assertEqual([name for name, tree in self.trees.items() if mentions(tree, "startTLS")], [])
