"""
Tests of the package as a whole: what may import what, what importing it does, and which names it has.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import asynqueue

PACKAGE = Path(asynqueue.__file__).parent

#: Seconds; an import takes less than one.
TIMEOUT = 60

#: The layers, from below, by the first part of a module's name below the package that is listed; the longest counts.
LAYERS = {
    "errors": 0,
    "interfaces": 0,
    "options": 0,
    "states": 0,
    "scheduling": 1,
    "deferreds": 2,
    "iteration": 2,
    "protocol": 3,
    "workers.lifecycle": 3,
    "workers": 4,
    "threads": 4,
    "process": 4,
    "cluster": 4,
    "wire": 5,
    "jobs": 6,
    "slots": 6,
    "serializers": 6,
    "backends": 7,
    "service": 8,
    "tap": 8,
    "cli": 8,
    "__main__": 8,
    "control": 8,
    "rpc": 8,
    "web": 8,
    "observe": 8,
    # The documented paths of old, which only pass on what is elsewhere.
    "base": 9,
    "info": 9,
    "util": 9,
    "null": 9,
    # It ships to users, imports anything, and is imported by nothing.
    "testing": 10,
}

#: Where a module at the top belongs that is not listed.
PLUMBING = 2

#: Packages of one layer that never import each other.
SEPARATE = ("workers", "threads", "process", "cluster")

#: What layer 0 may import beside the standard library.
VOCABULARY = {"attrs", "zope.interface", "twisted.internet.interfaces"}

#: What C{asynqueue} offers. Whoever adds to it documents it.
PUBLIC = {
    "AsyncWorker",
    "Deferator",
    "DeferredLock",
    "DeferredTracker",
    "IManagedWorker",
    "IStreamConsumer",
    "IWorker",
    "Info",
    "IterationProducer",
    "ListConsumer",
    "NullQueue",
    "ProcessBase",
    "ProcessQueue",
    "ProcessWorker",
    "TaskQueue",
    "ThreadQueue",
    "ThreadWorker",
    "currentCall",
    "deferToDelay",
    "deferToThread",
    "errors",
    "showResult",
}


def modules() -> dict[str, Path]:
    """
    Return all modules of the package, by their names below it; the package itself is C{""}.
    """
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def layerOf(module: str) -> int:
    """
    Return the layer of a module, by its name below the package.
    """
    name = module
    while name:
        if name in LAYERS:
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return PLUMBING


def isTypeChecking(test: ast.expr) -> bool:
    """
    Tell whether the condition of an C{if} is C{TYPE_CHECKING}.
    """
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """
    Iterate over all import statements that are run, in functions too.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and isTypeChecking(child.test):
            for other in child.orelse:
                yield from statements(other)
        else:
            yield from statements(child)


def imports(path: Path) -> set[str]:
    """
    Return what a module imports, by full names, as far as they are modules.
    """
    found = set()
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
            continue
        assert not statement.level, f"{path} has a relative import"
        source = statement.module or ""
        for alias in statement.names:
            whole = f"{source}.{alias.name}"
            inside = whole.removeprefix("asynqueue.")
            isModule = inside in modules() if whole.startswith("asynqueue.") else whole in VOCABULARY
            found.add(whole if isModule else source)
    return found


class LayerTests(SynchronousTestCase):
    """
    A module imports its own layer's package and lower layers only.
    """

    def test_directions(self) -> None:
        """
        No module imports a higher layer. What is imported lazily, by name, is exempt, as are types.
        """
        wrong = []
        for module, path in modules().items():
            if not module or layerOf(module) >= LAYERS["base"]:
                continue
            for name in imports(path):
                target = name.removeprefix("asynqueue.")
                if name.startswith("asynqueue.") and layerOf(target) > layerOf(module):
                    wrong.append(f"{module} ({layerOf(module)}) imports {target} ({layerOf(target)})")
        self.assertEqual(wrong, [])

    def test_nobodyImportsThePackageItself(self) -> None:
        """
        Its names are for users.
        """
        users = [module for module, path in modules().items() if "asynqueue" in imports(path)]
        self.assertEqual(users, [])

    def test_workersNeverImportEachOther(self) -> None:
        """
        Each kind stands by itself, on what is common to all.
        """
        wrong = []
        for module, path in modules().items():
            own = module.split(".")[0]
            if own not in SEPARATE:
                continue
            for name in imports(path):
                target = name.removeprefix("asynqueue.")
                other = target.split(".")[0]
                if name.startswith("asynqueue.") and other in SEPARATE and other != own and layerOf(target) != 3:
                    wrong.append(f"{module} imports {target}")
        self.assertEqual(wrong, [])

    def test_testingIsImportedByNothing(self) -> None:
        """
        But by itself.
        """
        users = [
            module
            for module, path in modules().items()
            if module.split(".")[0] != "testing" and any(name.startswith("asynqueue.testing") for name in imports(path))
        ]
        self.assertEqual(users, [])

    def test_vocabularyIsPlain(self) -> None:
        """
        Layer 0 imports the standard library, attrs, zope.interface, Twisted's interfaces and itself.
        """
        wrong = []
        for module, path in modules().items():
            if layerOf(module) != 0:
                continue
            for name in imports(path):
                plain = name.split(".")[0] in sys.stdlib_module_names or name in VOCABULARY
                if not (plain or name.startswith("asynqueue.")):
                    wrong.append(f"{module} imports {name}")
        self.assertEqual(wrong, [])

    def test_schedulingIsWithoutInputAndOutput(self) -> None:
        """
        Layer 1 imports the standard library, but no clock, and what is below it.
        """
        wrong = []
        for module, path in modules().items():
            if layerOf(module) != 1:
                continue
            for name in imports(path):
                top = name.split(".")[0]
                plain = top in sys.stdlib_module_names and top not in {"time", "datetime", "random", "threading", "os"}
                if not (plain or top in {"asynqueue", "attrs"}):
                    wrong.append(f"{module} imports {name}")
        self.assertEqual(wrong, [])

    def test_everyModuleIsFound(self) -> None:
        """
        The tests above look at what is there.
        """
        names = set(modules())
        for layer in (0, 1, 2, 4, 10):
            self.assertTrue(any(layerOf(name) == layer for name in names), f"no module of layer {layer}")
        self.assertIn("", names)
        self.assertIn("asynqueue.scheduling.groups", imports(PACKAGE / "hires.py"))


class ImportTests(SynchronousTestCase):
    """
    What importing does, in an interpreter of its own.
    """

    def loadedBy(self, program: str) -> set[str]:
        """
        Run a program in a fresh interpreter, and return the modules that are loaded at its end.
        """
        code = f"import sys\n{program}\nprint(*sys.modules, sep='\\n')"
        result = subprocess.run(
            [sys.executable, "-W", "error::ImportWarning", "-c", code],
            cwd=PACKAGE.parent,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return set(result.stdout.split())

    def test_Z32_importInstallsNoReactor(self) -> None:
        """
        Nor does it load anything that is not always needed.
        """
        loaded = self.loadedBy("import asynqueue")
        self.assertIn("asynqueue", loaded)
        for name in ("twisted.internet.reactor", "ampoule", "OpenSSL", "dask", "distributed", "twisted.internet.ssl"):
            self.assertNotIn(name, loaded)

    def test_Z32_allPublicNamesInstallNoReactor(self) -> None:
        """
        Nor does looking at all that is public, or making a queue.
        """
        loaded = self.loadedBy(
            "import asynqueue\n"
            "for name in asynqueue.__all__: getattr(asynqueue, name)\n"
            "queue = asynqueue.TaskQueue(asynqueue.AsyncWorker())\n"
            "assert queue.shutdown().called\n"
        )
        for name in ("twisted.internet.reactor", "ampoule", "OpenSSL", "dask", "distributed"):
            self.assertNotIn(name, loaded)

    def test_Z32_everyModuleCanBeImportedFirst(self) -> None:
        """
        Without a reactor, and without a circle.
        """
        names = ["asynqueue", *(f"asynqueue.{name}" for name in sorted(modules()) if name)]
        # A command runs when it is imported; plug-ins are looked up by twist.
        names = [name for name in names if not name.endswith("__main__")]
        loaded = self.loadedBy(
            "from importlib import import_module\n"
            f"for name in {names!r}:\n"
            "    for loaded in [each for each in sys.modules if each.split('.')[0] == 'asynqueue']:\n"
            "        del sys.modules[loaded]\n"
            "    import_module(name)\n"
            "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
        )
        self.assertIn("asynqueue", loaded)

    def test_schedulingLoadsNoTwisted(self) -> None:
        """
        It can be used without.
        """
        loaded = self.loadedBy("import asynqueue.scheduling.backlog, asynqueue.scheduling.window")
        self.assertEqual({name for name in loaded if name.split(".")[0] == "twisted"}, set())


class NameTests(SynchronousTestCase):
    """
    The public names.
    """

    def test_publicNames(self) -> None:
        """
        Are those that are listed here.
        """
        self.assertEqual(set(asynqueue.__all__), PUBLIC)
        self.assertEqual(len(asynqueue.__all__), len(PUBLIC))

    def test_publicNamesAreThere(self) -> None:
        """
        Each comes from its module, and C{dir} tells of it.
        """
        for name in asynqueue.__all__:
            self.assertIsNotNone(getattr(asynqueue, name))
            self.assertIn(name, dir(asynqueue))

    def test_unknownName(self) -> None:
        """
        Is an AttributeError that says which.
        """
        with self.assertRaises(AttributeError) as caught:
            asynqueue.nothingOfTheKind  # noqa: B018
        self.assertIn("nothingOfTheKind", str(caught.exception))

    def test_moduleDocstrings(self) -> None:
        """
        Each module says what it is for.
        """
        silent = [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
        self.assertEqual(silent, [])

    def test_typed(self) -> None:
        """
        The package carries its marker for type checkers.
        """
        self.assertTrue((PACKAGE / "py.typed").is_file())
