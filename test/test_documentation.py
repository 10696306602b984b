"""
The documentation is true: its programs run, and print what it says that they print.

In C{README.rst}, the first C{code-block:: python} is a program, and the C{code-block:: text} after it is its output. In
the pages under C{doc/}, every C{code-block:: python} has a caption, the name of the file that it is or is a part of:

  - C{name.py}: the blocks of a page that have this caption, one after the other, are a program, or a module that
    others on the page import
  - C{test_name.py}: they are tests, which are run by trial, or by pytest if they import it

and a C{code-block:: text} with one of these captions is what a program writes, to standard output and standard error:

  - C{Output of name.py}: this, where C{...} stands for anything, as in a doctest; a program without such a block
    writes nothing
  - C{One run of name.py}: this, but for the numbers, which are those of one run
"""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

from attrs import asdict, fields, frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.protocols.amp import Command
from twisted.trial.unittest import SynchronousTestCase, TestCase

import asynqueue
import asynqueue.testing
from asynqueue import NullQueue, TaskQueue, ThreadWorker, errors
from asynqueue.callargs import optionsOf
from asynqueue.cli.main import build_parser
from asynqueue.options import RESERVED
from asynqueue.protocol import commands, plain, records
from asynqueue.states import Status
from asynqueue.statistics import Statistics
from asynqueue.testing import Act
from asynqueue.wire import WireServer, WireWorker, hardened, heartbeat, node, session
from asynqueue.wire.identity import ROLES
from asynqueue.wire.limits import Limits
from asynqueue.wire.refusals import Refusal
from asynqueue.wire.switches import SWITCHES

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "doc"
PAGES = sorted(path.stem for path in DOC.glob("*.rst"))

#: Seconds that one program may take. They take less than five.
TIME_LIMIT = 60

_DIRECTIVE = re.compile(r"( *)\.\. code-block:: (\S+)$")
_CAPTION = re.compile(r" +:caption: (.+)$")
_NUMBER = re.compile(r" *\d[\d,.]*")


@frozen
class Block:
    """
    A C{code-block} directive.

    @ivar line: Where it stands.
    """

    language: str
    caption: str
    text: str
    line: int


def blocksOf(path: Path) -> Iterator[Block]:
    """
    Find the code blocks of a page.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        directive = _DIRECTIVE.match(line)
        if directive is None:
            continue
        indentation, language = directive.groups()
        caption = ""
        body: list[str] = []
        for each in lines[number + 1 :]:
            if each.strip() and not each.startswith(indentation + "   "):
                break
            found = _CAPTION.match(each)
            if found is not None and not body:
                caption = found[1]
            elif each.strip() or body:
                body.append(each)
        yield Block(language, caption, dedent("\n".join(body)).rstrip("\n") + "\n", number + 1)


def programsOf(page: Path) -> tuple[dict[str, str], dict[str, Block]]:
    """
    Return the files that the blocks of a page make, and the blocks with what they print, both by file name.
    """
    files: dict[str, str] = {}
    outputs: dict[str, Block] = {}
    for block in blocksOf(page):
        place = f"{page.name}, line {block.line}"
        if block.language == "python":
            if not re.fullmatch(r"\w+\.py", block.caption):
                raise AssertionError(f"{place}: a program must have its file's name as its caption")
            files[block.caption] = f"{files[block.caption]}\n\n{block.text}" if block.caption in files else block.text
        elif block.language == "text":
            name = block.caption.rpartition(" ")[2]
            if block.caption not in (f"Output of {name}", f"One run of {name}") or name not in files:
                raise AssertionError(f"{place}: {block.caption!r} names no program before it")
            outputs[name] = block
        elif block.caption:
            raise AssertionError(f"{place}: nothing is known to be done with {block.language} under a caption")
    return files, outputs


def run(folder: str, *arguments: str) -> tuple[int, str]:
    """
    Run Python in a folder, with the library of this checkout.

    @return: The exit code, and what has been written to standard output and standard error, in which the folder's files
        are named without it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment.update(PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1", PYTHONIOENCODING="utf-8")
    ended = subprocess.run(
        [sys.executable, "-u", *arguments],
        cwd=os.path.realpath(folder),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIME_LIMIT,
        check=False,
    )
    return ended.returncode, ended.stdout.replace(f"{os.path.realpath(folder)}{os.sep}", "")


class Programs(SynchronousTestCase):
    """
    What the classes below share.
    """

    def runPage(self, page: Path) -> None:
        """
        Run the programs and the tests of a page, and compare what they print.
        """
        files, outputs = programsOf(page)
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                Path(folder, name).write_text(text, encoding="utf-8")
            for name, text in files.items():
                if name.startswith("test_"):
                    self.runTests(folder, name, text)
                else:
                    code, printed = run(folder, name)
                    self.assertEqual(code, 0, f"{page.name}: {name} ended with {code}:\n{printed}")
                    self.compare(f"{page.name}: {name}", printed, outputs.get(name))

    def runTests(self, folder: str, name: str, text: str) -> None:
        """
        Run a file of tests, which must be some.
        """
        if "pytest" in text:
            code, printed = run(folder, "-m", "pytest", "-p", "no:cacheprovider", "--reactor=default", name)
            found = re.search(r"\b[1-9]\d* passed", printed)
        else:
            code, printed = run(folder, "-m", "twisted.trial", "--temp-directory=_trial", name.removesuffix(".py"))
            found = re.search(r"\bRan [1-9]\d* tests?", printed)
        self.assertTrue(code == 0 and found, f"{name} ended with {code}:\n{printed}")

    def compare(self, what: str, printed: str, block: Block | None) -> None:
        """
        Compare what a program has printed with the block that shows it.
        """
        expected = "" if block is None else block.text
        if block is not None and block.caption.startswith("One run of"):
            agree = _NUMBER.sub("0", printed) == _NUMBER.sub("0", expected)
        else:
            agree = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
        self.assertTrue(agree, f"{what} printed:\n{printed}\ninstead of:\n{expected}")


class ReadmeTests(Programs):
    """
    What C{README.rst} shows first.
    """

    def test_firstProgram(self) -> None:
        """
        The program has twelve lines at most, runs as it stands, and prints what stands below it.
        """
        blocks = list(blocksOf(ROOT / "README.rst"))
        program = next(block for block in blocks if block.language == "python")
        output = next(block for block in blocks if block.language == "text" and block.line > program.line)
        self.assertLessEqual(len(program.text.splitlines()), 12)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "first.py").write_text(program.text, encoding="utf-8")
            code, printed = run(folder, "first.py")
        self.assertEqual((code, printed), (0, output.text))

    def test_oneProgram(self) -> None:
        """
        No other program is shown there, which nothing would run.
        """
        self.assertEqual([block.language for block in blocksOf(ROOT / "README.rst")].count("python"), 1)

    def test_commands(self) -> None:
        """
        The commands that it names are targets of the Makefile.
        """
        named = set(re.findall(r"(?:``|\$ )make (\w+)", (ROOT / "README.rst").read_text(encoding="utf-8")))
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        self.assertLessEqual({"demo", "test"}, named)
        self.assertLessEqual(named, targets)


class PageTests(Programs):
    """
    The programs of each page under C{doc/}: a test a page, named after it.
    """


def _pageTest(name: str) -> Any:
    def test(self: PageTests) -> None:
        self.runPage(DOC / f"{name}.rst")

    test.__doc__ = f"The programs of C{{{name}.rst}} print what it says."
    return test


for _name in PAGES:
    setattr(PageTests, f"test_{_name.replace('-', '_')}", _pageTest(_name))


class ParserTests(SynchronousTestCase):
    """
    The convention that this module finds the programs by.
    """

    def parse(self, text: str) -> tuple[dict[str, str], dict[str, Block]]:
        """
        Parse a page.
        """
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder, "page.rst")
            page.write_text(dedent(text), encoding="utf-8")
            return programsOf(page)

    def test_blocks(self) -> None:
        """
        Blocks of one name make one file, without their indentation; text around them is no part of it.
        """
        files, outputs = self.parse(
            """
            Before.

            .. code-block:: python
               :caption: one.py

               if True:
                   print(1)

            Between.

            .. code-block:: python
               :caption: one.py

               print(2)

            .. code-block:: text
               :caption: Output of one.py

               1
               2
            After.
            """
        )
        self.assertEqual(files, {"one.py": "if True:\n    print(1)\n\n\nprint(2)\n"})
        self.assertEqual(outputs["one.py"].text, "1\n2\n")

    def test_nothingEscapes(self) -> None:
        """
        A block that would not be run, and an output of no program, are errors.
        """
        self.assertRaises(AssertionError, self.parse, ".. code-block:: python\n\n   print(1)\n")
        self.assertRaises(AssertionError, self.parse, ".. code-block:: text\n   :caption: Output of one.py\n\n   1\n")

    def test_somePagesHavePrograms(self) -> None:
        """
        The pages are found, and programs in them.
        """
        self.assertGreater(sum(len(programsOf(DOC / f"{name}.rst")[0]) for name in PAGES), 10)


class RecordingDict(dict[str, Any]):
    """
    A dictionary that remembers which keys have been looked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.seen.add(str(name))
        return super().__contains__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """
        Remember, and do what is asked.
        """
        self.seen.add(name)
        return super().pop(name, *default)


def tableIn(page: str, caption: str) -> list[list[str]]:
    """
    Return the cells of a C{list-table}, without its heading, each as one line of text.
    """
    text = (DOC / f"{page}.rst").read_text(encoding="utf-8")
    body = text.partition(f".. list-table:: {caption}\n")[2]
    if not body:
        raise AssertionError(f"{page}.rst has no table {caption!r}")
    rows: list[list[str]] = []
    for line in body.splitlines():
        if line and not line.startswith(" "):
            break
        row = re.match(r"   (\*| ) - ?(.*)", line)
        if row is not None and row[1] == "*":
            rows.append([row[2]])
        elif row is not None:
            rows[-1].append(row[2])
        elif rows and line.strip():
            rows[-1][-1] += f" {line.strip()}"
    return rows[1:]


def unquoted(cell: str) -> str:
    """
    Return the text of a cell that is a literal.
    """
    return cell.strip("`")


class TableTests(SynchronousTestCase):
    """
    Tables that must list all of something.
    """

    def options(self, **options: Any) -> bool:
        """
        Tell whether C{TaskQueue.options} accepts an option at all.
        """
        try:
            NullQueue(reactor=Clock(), returnFailure=True).options(**options)
        except TypeError:
            return False
        return True

    def test_options(self) -> None:
        """
        The table of options has every option, says truly where it is given, and gives defaults that are accepted.
        """
        documented = {unquoted(row[0]): row[1:] for row in tableIn("options", "Options of a call")}
        recorder = RecordingDict()
        optionsOf(recorder, explicit=True)
        beside = set(re.findall(r'given\.pop\("(\w+)"', inspect.getsource(TaskQueue.options)))
        self.assertEqual(set(documented), RESERVED | recorder.seen | beside)
        for name, (default, byCall, byOptions, _) in documented.items():
            value = 5 if default == "—" else ast.literal_eval(unquoted(default))
            self.assertEqual(byCall, "yes" if name in RESERVED else "no", name)
            self.assertEqual(byOptions, "yes" if self.options(**{name: value}) else "no", name)

    def test_keywordsOfQueue(self) -> None:
        """
        The table of keywords of a queue is the signature of its constructor.
        """
        documented = {unquoted(row[0]): unquoted(row[1]) for row in tableIn("options", "Keywords of TaskQueue()")}
        parameters = inspect.signature(TaskQueue).parameters.values()
        self.assertEqual(
            documented, {each.name: repr(each.default) for each in parameters if each.kind is each.KEYWORD_ONLY}
        )

    def test_keywordsOfWire(self) -> None:
        """
        So are those of wire workers and of their servers.
        """
        for kind, beside in ((WireWorker, {"wwu", "description", "series", "raw", "thread"}), (WireServer, {"wwu"})):
            documented = {
                unquoted(row[0]): unquoted(row[1]) for row in tableIn("options", f"Keywords of {kind.__name__}()")
            }
            parameters = inspect.signature(kind).parameters.values()
            expected = {each.name: repr(each.default) for each in parameters if each.default is not each.empty}
            for name in beside:
                expected.pop(name, None)
            self.assertEqual(documented, expected)

    def test_protocol(self) -> None:
        """
        The tables of the protocol have all commands with their arguments, kinds of records, keys and limits.
        """
        documented = {unquoted(row[0]): row[2].replace("`", "").split(", ") for row in tableIn("protocol", "Commands")}
        defined = {
            each.commandName.decode(): [name.decode() for name, _ in each.arguments] or [""]
            for each in vars(commands).values()
            if inspect.isclass(each) and issubclass(each, Command) and each not in (Command, commands.Pushed)
        }
        del defined["ready"]
        self.assertEqual(documented, defined)
        kinds = {unquoted(row[1]): int(row[0]) for row in tableIn("protocol", "Kinds of records")}
        others = {"AGAIN", "RAW", "UNWANTED", "SOFT_LIMIT"}
        # A kind is a byte.
        small = {name: value for name, value in vars(records).items() if type(value) is int and value < 256}
        self.assertEqual(kinds, {name: value for name, value in small.items() if name not in others})
        keys = {unquoted(row[0]) for row in tableIn("protocol", "Keys of plain values")}
        self.assertEqual(keys, set(re.findall(r'"(~[a-zA-Z])"', inspect.getsource(plain))))
        limits = {unquoted(row[0]): ast.literal_eval(row[1]) for row in tableIn("protocol", "Limits of a connection")}
        for name, value in limits.items():
            places = [module for module in (hardened, session, node, heartbeat) if hasattr(module, name)]
            self.assertEqual([getattr(module, name) for module in places], [value] * len(places), name)
            self.assertTrue(places, name)

    def test_commandLines(self) -> None:
        """
        The commands that pages show are such, with options that there are.
        """
        seen = 0
        for page in PAGES:
            for block in blocksOf(DOC / f"{page}.rst"):
                for line in block.text.splitlines():
                    found = re.match(r"(?:\$ |ExecStart=)(?:sudo -u \w+ )?(?:/\S+/)?asynqueue (.+)$", line)
                    if block.language in ("console", "ini") and found is not None:
                        self.parse(found[1].split(), f"{page}.rst, line {block.line}")
                        seen += 1
        self.assertGreater(seen, 10)
        (options,) = (
            action.choices["worker"]._option_string_actions
            for action in build_parser()._actions
            if isinstance(action.choices, dict)
        )
        documented = {unquoted(row[0]) for row in tableIn("two-machines", "Options of asynqueue worker")}
        self.assertEqual(documented, {name for name in options if name.startswith("--")} - {"--help", "--no-pickles"})

    def parse(self, arguments: list[str], place: str) -> None:
        """
        Parse the arguments of a command.
        """
        complaints = StringIO()
        try:
            with redirect_stderr(complaints):
                build_parser().parse_args(arguments)
        except SystemExit:
            self.fail(f"{place}: {arguments}: {complaints.getvalue()}")

    def test_errors(self) -> None:
        """
        The table of errors has every class of C{asynqueue.errors}.
        """
        documented = {unquoted(row[0]) for row in tableIn("errors", "Error classes")}
        defined = {
            name
            for name, value in vars(errors).items()
            if inspect.isclass(value) and value.__module__ == errors.__name__
        }
        self.assertEqual(documented, defined)

    def test_names(self) -> None:
        """
        The tables of names have every public name of each module, and no other.
        """
        text = (DOC / "names.rst").read_text(encoding="utf-8")
        for name in re.findall(r"list-table:: Names of (\S+)\n", text):
            module = import_module(name)
            documented = {re.findall(r"(\w+)`", row[0])[0] for row in tableIn("names", f"Names of {name}")}
            self.assertEqual([each for each in documented if not hasattr(module, each)], [], name)
            self.assertEqual(documented, set(getattr(module, "__all__", documented)), name)

    def test_statuses(self) -> None:
        """
        The table of statuses has every letter.
        """
        documented = {unquoted(row[0]) for row in tableIn("errors", "Statuses")}
        self.assertEqual(documented, {status.value for status in Status})

    def test_statistics(self) -> None:
        """
        The table of the fields of C{statistics()} has every field.
        """
        documented = [
            name for row in tableIn("looking-inside", "Fields of statistics()") for name in row[0].split(", ")
        ]
        self.assertEqual({unquoted(name) for name in documented}, {field.name for field in fields(Statistics)})

    def test_wire(self) -> None:
        """
        The tables of refusals, limits, switches and roles have all of them.
        """
        documented = {unquoted(row[0]) for row in tableIn("endpoints", "Reasons of an AuthError")}
        self.assertEqual(documented, {refusal.word for refusal in Refusal})
        limits = {unquoted(row[0]): ast.literal_eval(row[1]) for row in tableIn("endpoints", "Limits of a listener")}
        self.assertEqual(limits, asdict(Limits()))
        documented = {unquoted(row[0]) for row in tableIn("endpoints", "Insecure switches")}
        self.assertEqual(documented, set(SWITCHES))
        self.assertEqual({unquoted(row[0]) for row in tableIn("trust", "Roles")}, set(ROLES))

    def test_acts(self) -> None:
        """
        The table of acts of a scripted worker has every act.
        """
        documented = [name for row in tableIn("testing", "Acts of a ScriptedWorker") for name in row[0].split(", ")]
        self.assertEqual({unquoted(name) for name in documented}, set(Act.__members__))

    def test_testKit(self) -> None:
        """
        The pages about workers and tests name every public name of C{asynqueue.testing}.
        """
        text = "".join((DOC / f"{page}.rst").read_text(encoding="utf-8") for page in ("workers", "testing"))
        self.assertEqual([name for name in asynqueue.testing.__all__ if not re.search(rf"\b{name}\b", text)], [])


class DocstringTests(TestCase):
    """
    The examples in the docstrings of the packages.
    """

    timeout = 30

    def runExamples(self, module: Any, names: dict[str, Any]) -> dict[str, Any]:
        """
        Run the examples of a docstring.

        @return: The names that there are afterwards.
        """
        test = doctest.DocTestParser().get_doctest(module.__doc__, names, module.__name__, module.__file__, 0)
        self.assertTrue(test.examples)
        report = StringIO()
        doctest.DocTestRunner(verbose=False).run(test, out=report.write, clear_globs=False)
        self.assertEqual(report.getvalue(), "")
        return test.globs

    def test_asynqueue(self) -> Deferred[None]:
        """
        The coroutine function in the docstring of C{asynqueue} prints its result.
        """
        names = self.runExamples(asynqueue, {"TaskQueue": TaskQueue, "ThreadWorker": ThreadWorker})
        printed = StringIO()

        async def check() -> None:
            with redirect_stdout(printed):
                await names["main"](reactor)
            self.assertEqual(printed.getvalue(), "1024\n")

        return Deferred.fromCoroutine(check())

    def test_testing(self) -> None:
        """
        The session in the docstring of C{asynqueue.testing} is what happens.
        """
        kit = {name: getattr(asynqueue.testing, name) for name in asynqueue.testing.__all__}
        names: dict[str, Any] = {"Clock": Clock, "TaskQueue": TaskQueue, **kit}
        self.runExamples(asynqueue.testing, names)
