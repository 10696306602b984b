"""
Tests of asynqueue.info: what is told about calls, and hashes.
"""

from __future__ import annotations

import io
import math
import os.path
import pickle
import sys
import threading
from collections import OrderedDict, deque
from contextlib import redirect_stdout
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import info as place
from asynqueue.callhistory import MEMORY_LIMIT
from asynqueue.callinfo import CALL_LIMIT, TRACEBACK_LIMIT
from asynqueue.info import Info, InfoHolder, hashIt, showResult, whichThread
from test.support import Outcome


def func(*args: Any, **kw: Any) -> Any:
    """
    Return the first argument.
    """
    return args[0] if args else None


def divide(dividend: float, divisor: float) -> float:
    """
    Return the quotient.
    """
    return dividend / divisor


class Thing:
    """
    Something with methods.
    """

    def __init__(self, name: str = "thing") -> None:
        self.name = name

    def method(self, value: Any) -> Any:
        """
        Return the value.
        """
        return value

    @classmethod
    def make(cls, name: str) -> Thing:
        """
        Return a thing.
        """
        return cls(name)

    @staticmethod
    def plain(value: Any) -> Any:
        """
        Return the value.
        """
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.name == self.name


class Hostile:
    """
    Raises whatever it is asked.
    """

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __reduce_ex__(self, protocol: object) -> Any:
        raise KeyError("no pickle")

    def __getstate__(self) -> Any:
        raise OSError("no state")


def failureOfDivision() -> Failure:
    """
    Return a failure with a traceback.
    """
    try:
        divide(1, 0)
    except ZeroDivisionError:
        return Failure()
    raise AssertionError


class CallTests(SynchronousTestCase):
    """
    Calls as text.
    """

    def test_R27_aboutCall(self) -> None:
        """
        Reads like the call.
        """
        calls: list[tuple[tuple[Any, ...], str]] = [
            ((func,), "func()"),
            ((func, (1,), {"x": 2}), "func(1, x=2)"),
            ((func, [1, "two"]), "func(1, 'two')"),
            ((func, 1), "func(1)"),
            ((func, "word"), "func('word')"),
            ((func, 1, {"x": 2}), "func(1, x=2)"),
            ((func, {"key": 1}), "func({'key': 1})"),
            (("name", 1), "name(1)"),
            ((math.sqrt, 2), "sqrt(2)"),
            ((Thing().method, 1), "Thing.method(1)"),
            ((partial(func, 1), 2), "func(2)"),
        ]
        for args, text in calls:
            self.assertEqual(Info().setCall(*args).aboutCall(), text)

    def test_R27_keywords(self) -> None:
        """
        Are as good as places.
        """
        self.assertEqual(Info().setCall(func, args=(1,), kw={"x": 2}).aboutCall(), "func(1, x=2)")
        self.assertEqual(Info().setCall(func, kw={"x": 2}).aboutCall(), "func(x=2)")
        self.assertEqual(Info().setCall(func, args=1).aboutCall(), "func(1)")

    def test_R27_instance(self) -> None:
        """
        Tells of what something is a method.
        """
        for f in ("method", Thing.method, Thing().method):
            self.assertEqual(Info().setCall(f, 1, instance=Thing()).aboutCall(), "Thing.method(1)")
        self.assertEqual(Info().setCall("make", 1, instance=Thing).aboutCall(), "Thing.make(1)")

    def test_R27_setCallReturnsItself(self) -> None:
        """
        So that one line is enough; each call has its number.
        """
        info = Info()
        self.assertIsNone(info.ID)
        self.assertIs(info.setCall(func), info)
        first = info.ID
        self.assertIsInstance(first, int)
        self.assertNotEqual(info.setCall(func).ID, first)
        self.assertNotIn(Info().setCall(func).ID, (first, info.ID))

    def test_R27_withoutMemory(self) -> None:
        """
        The last call is known, and no other.
        """
        info = Info()
        first = info.setCall(func, 1).ID
        second = info.setCall(func, 2).ID
        self.assertEqual(info.aboutCall(second), "func(2)")
        self.assertEqual(info.aboutCall(), "func(2)")
        self.assertIn(str(first), info.aboutCall(first))
        self.assertNotIn("func", info.aboutCall(first))

    def test_R27_withMemory(self) -> None:
        """
        All are known until they are forgotten.
        """
        info = Info(remember=True)
        numbers = [info.setCall(func, number).ID for number in range(3)]
        self.assertEqual([info.aboutCall(ID) for ID in numbers], ["func(0)", "func(1)", "func(2)"])
        info.forgetID(numbers[0])
        info.forgetID(numbers[0])
        self.assertEqual(info.aboutCall(numbers[1], nowForget=True), "func(1)")
        self.assertEqual(["func" in info.aboutCall(ID) for ID in numbers], [False, False, True])
        self.assertEqual(info.aboutCall(nowForget=True), "func(2)")
        self.assertIsNone(info.ID)
        self.assertEqual(info._calls, {})

    def test_R27_memoryIsBounded(self) -> None:
        """
        The oldest are forgotten.
        """
        info = Info(remember=True)
        numbers = [info.setCall(func, number).ID for number in range(MEMORY_LIMIT + 2)]
        self.assertEqual(len(info._calls), MEMORY_LIMIT)
        self.assertEqual(["func" in info.aboutCall(ID) for ID in numbers[:3]], [False, False, True])

    def test_R27_whichThread(self) -> None:
        """
        The text names the thread in which the call was set.
        """
        info = Info(whichThread=True)
        thread = threading.Thread(target=info.setCall, args=(func, 1), name="the other")
        thread.start()
        thread.join()
        self.assertEqual(info.aboutCall(), "func(1) in thread 'the other'")

    def test_R27_hostileArguments(self) -> None:
        """
        Spoil no text, and make it no longer than it may be.
        """
        info = Info().setCall(func, (Hostile(), "x" * 100_000, "\ud800\x00"), {"y": Hostile()})
        text = info.aboutCall()
        self.assertIn("Hostile whose repr raises ValueError", text)
        self.assertLessEqual(len(text), CALL_LIMIT)
        text.encode("utf-8")
        self.assertLess(len(info.aboutException(exception=ValueError("x" * 10**6))), TRACEBACK_LIMIT + 3 * CALL_LIMIT)

    def test_R27_nothingSet(self) -> None:
        """
        The texts say so, and nothing is raised.
        """
        info = Info()
        self.assertIn("no call", info.aboutCall())
        self.assertEqual(info.nn(), (None, None))
        self.assertIsNone(info.getInfo(None, "f"))
        info.forgetID()
        self.assertTrue(info.aboutException(exception=KeyError("it")).startswith("Exception ''it''"))

    def test_R27_refused(self) -> None:
        """
        What is no call, at the call.
        """
        wrong: Any
        for wrong in (None, 5, [func]):
            self.assertRaises(TypeError, Info().setCall, wrong)
        wrong = [1]
        self.assertRaises(TypeError, Info().setCall, func, (), wrong)

    def test_R27_savedInfo(self) -> None:
        """
        Is there as long as the call is known, beside what was set.
        """
        info = Info(remember=True)
        ID = info.setCall(func, 1, {"x": 2}).ID
        info.saveInfo("host", "example.net")
        other = info.setCall(func).ID
        info.saveInfo("host", "example.org", other)
        self.assertEqual(info.getInfo(ID, "host"), "example.net")
        self.assertEqual(info.getInfo(None, "host"), "example.org")
        self.assertEqual(info.getInfo(ID, "callTuple"), (func, (1,), {"x": 2}))
        self.assertEqual([info.getInfo(ID, name) for name in ("f", "args", "kw")], [func, (1,), {"x": 2}])
        self.assertIsNone(info.getInfo(ID, "nothing of the kind"))
        self.assertEqual(info.getInfo(ID, "host", nowForget=True), "example.net")
        self.assertIsNone(info.getInfo(ID, "host"))
        with self.assertRaises(KeyError) as caught:
            info.saveInfo("host", "nowhere", ID)
        self.assertIn(str(ID), str(caught.exception))


class ErrorTests(SynchronousTestCase):
    """
    What was raised, as text.
    """

    def test_R27_aboutException(self) -> None:
        """
        Begins with the message, and goes on with the call and the traceback.
        """
        info = Info().setCall(divide, (1, 0))
        try:
            divide(1, 0)
        except ZeroDivisionError:
            text = info.aboutException()
        first, second, *rest = text.splitlines()
        self.assertEqual(first, "Exception 'division by zero' in divide(1, 0):")
        self.assertEqual(second, "Traceback (most recent call last):")
        self.assertIn("return dividend / divisor", text)
        self.assertEqual(rest[-1], "ZeroDivisionError: division by zero")

    def test_R27_aboutGivenException(self) -> None:
        """
        Of a call that was set before.
        """
        info = Info(remember=True)
        ID = info.setCall(func, 1).ID
        info.setCall(func, 2)
        text = info.aboutException(ID, KeyError("key"), nowForget=True)
        self.assertTrue(text.startswith("Exception ''key'' in func(1):\n"))
        self.assertNotIn("func", info.aboutCall(ID))
        self.assertTrue(info.aboutException(exception=KeyError()).startswith("Exception 'KeyError' in func(2):"))

    def test_R27_noException(self) -> None:
        """
        Is told, not raised.
        """
        self.assertEqual(Info().setCall(func).aboutException(), "No exception in func()")

    def test_R27_exceptionThatIsFalse(self) -> None:
        """
        Is one nevertheless, and one without a text has its class.
        """

        class Empty(Exception):
            def __len__(self) -> int:
                return 0

            def __str__(self) -> str:
                raise ValueError

        text = Info().setCall(func).aboutException(exception=Empty())
        self.assertIn("Empty' in func():", text)

    def test_R27_aboutFailure(self) -> None:
        """
        Likewise.
        """
        info = Info(remember=True)
        ID = info.setCall(divide, (1, 0)).ID
        text = info.aboutFailure(failureOfDivision())
        self.assertTrue(text.startswith("Failure 'division by zero' in divide(1, 0):\nTraceback"), text)
        self.assertIn("return dividend / divisor", text)
        self.assertEqual(info.aboutFailure(failureOfDivision(), ID, nowForget=True), text)
        self.assertNotIn("divide(1, 0):", info.aboutFailure(failureOfDivision(), ID))

    def test_R27_failuresWithoutTraceback(self) -> None:
        """
        Those that were cleaned, have come from elsewhere, or never had one.
        """
        info = Info().setCall(divide, (1, 0))
        cleaned = failureOfDivision()
        cleaned.cleanFailure()
        for failure in (cleaned, pickle.loads(pickle.dumps(failureOfDivision()))):
            text = info.aboutFailure(failure)
            self.assertTrue(text.startswith("Failure 'division by zero' in divide(1, 0):\nTraceback"), text)
            self.assertIn("divide", text.splitlines()[2:][-2] + text)
            self.assertIn("ZeroDivisionError: division by zero", text)
        text = info.aboutFailure(Failure(KeyError("key")))
        self.assertTrue(text.startswith("Failure ''key'' in divide(1, 0):\n"))
        self.assertIn("KeyError", text)


class NameTests(SynchronousTestCase):
    """
    What is called, so that another process can have it.
    """

    def nn(self, *args: Any, raw: bool = False, **kw: Any) -> tuple[Any, Any]:
        """
        Return namespace and name.
        """
        return Info().setCall(*args, **kw).nn(raw=raw)

    def test_R27_functions(self) -> None:
        """
        Have a dotted name.
        """
        self.assertEqual(self.nn(func), (None, "test.test_info.func"))
        self.assertEqual(self.nn(Thing), (None, "test.test_info.Thing"))
        self.assertEqual(self.nn(Thing.plain), (None, "test.test_info.Thing.plain"))
        self.assertEqual(self.nn(math.sqrt), (None, "math.sqrt"))
        self.assertEqual(self.nn(len), (None, "builtins.len"))
        self.assertEqual(self.nn(os.path.join), (None, f"{os.path.__name__}.join"))
        self.assertEqual(self.nn("name"), (None, "name"))

    def test_R27_methods(self) -> None:
        """
        Have their object, as dotted name or pickle, and their name.
        """
        parent, name = self.nn(Thing("one").method)
        self.assertEqual((pickle.loads(parent), name), (Thing("one"), "method"))
        self.assertEqual(self.nn(Thing.make), ("test.test_info.Thing", "make"))
        parent, name = self.nn([1, 2].index)
        self.assertEqual((pickle.loads(parent), name), ([1, 2], "index"))
        for f in ("method", Thing.method):
            parent, name = self.nn(f, instance=Thing("two"))
            self.assertEqual((pickle.loads(parent), name), (Thing("two"), "method"))

    def test_R27_pickledFunctions(self) -> None:
        """
        Where there is no name.
        """
        parent, name = self.nn(partial(func, 5))
        self.assertIsNone(parent)
        self.assertEqual(pickle.loads(name)(), 5)

    def test_R27_noWay(self) -> None:
        """
        Is two times None.
        """

        class Local(Thing):
            pass

        for f in (lambda: None, Local().method, partial(func, Hostile()), Local):
            self.assertEqual(self.nn(f), (None, None))

    def test_R27_notAsNamed(self) -> None:
        """
        What another has the name of is not had by it.
        """
        thing = Thing()
        thing.method, original = func, thing.method  # type: ignore[method-assign]
        self.assertNotEqual(self.nn(original)[1], "method")

    def test_R27_raw(self) -> None:
        """
        Are the objects themselves.
        """
        thing = Thing()
        self.assertEqual(self.nn(func, raw=True), (None, func))
        parent, name = self.nn(thing.method, raw=True)
        self.assertIs(parent, thing)
        self.assertEqual(name, "method")


class ContextTests(SynchronousTestCase):
    """
    A call for a block.
    """

    def test_R27_context(self) -> None:
        """
        Its value tells of the call, and the Info knows it no longer than that.
        """
        info = Info()
        with info.context(divide, (1, 0)) as holder:
            self.assertIsInstance(holder, InfoHolder)
            self.assertEqual(holder.aboutCall(), "divide(1, 0)")
            self.assertEqual(info.aboutCall(holder.ID), "divide(1, 0)")
            self.assertEqual(info.aboutCall(), "divide(1, 0)")
            info.saveInfo("host", "example.net")
            self.assertEqual(holder.getInfo("host"), "example.net")
            self.assertEqual(holder.nn(), (None, "test.test_info.divide"))
            try:
                divide(1, 0)
            except ZeroDivisionError as error:
                text = holder.aboutException()
                self.assertEqual(holder.aboutException(error), text)
            self.assertTrue(text.startswith("Exception 'division by zero' in divide(1, 0):\nTraceback"))
            self.assertTrue(
                holder.aboutFailure(failureOfDivision()).startswith("Failure 'division by zero' in divide(")
            )
        self.assertEqual(info._calls, {})
        self.assertIsNone(info.ID)
        self.assertEqual(holder.aboutCall(), "divide(1, 0)")

    def test_R27_contextsWithin(self) -> None:
        """
        Leave others as they are, in whatever order they end.
        """
        info = Info().setCall(func, 1)
        outer, inner = info.context(func, 2), info.context(func, 3)
        with self.assertRaises(ZeroDivisionError), info.context(func, 4):
            divide(1, 0)
        first = outer.__enter__()
        second = inner.__enter__()
        self.assertEqual([info.aboutCall(first.ID), info.aboutCall(second.ID)], ["func(2)", "func(3)"])
        outer.__exit__(None, None, None)
        self.assertEqual([info.aboutCall(), second.aboutCall(), first.aboutCall()], ["func(3)", "func(3)", "func(2)"])
        inner.__exit__(None, None, None)
        self.assertEqual(len(info._calls), 1)
        self.assertEqual(info.aboutCall(), "func(1)")

    def test_R27_callBefore(self) -> None:
        """
        Is the one again that is told about.
        """
        info = Info().setCall(func, 1)
        with info.context(func, 2):
            self.assertEqual(info.aboutCall(), "func(2)")
        self.assertEqual(info.aboutCall(), "func(1)")


class ShowTests(SynchronousTestCase):
    """
    Printing calls.
    """

    def shown(self, f: Any, *args: Any, **kw: Any) -> tuple[Any, str]:
        """
        Call a function, and return what it returned and what it printed.
        """
        with redirect_stdout(io.StringIO()) as output:
            result = f(*args, **kw)
        return result, output.getvalue()

    def test_R27_showResult(self) -> None:
        """
        Prints call and result, and changes neither.
        """
        result, text = self.shown(showResult(func), 3, x="y")
        self.assertEqual((result, text), (3, "func(3, x='y') -> 3\n"))
        self.assertEqual(showResult(func).__name__, "func")

    def test_R27_showResultOfMethods(self) -> None:
        """
        The object is no argument.
        """

        class Shown(Thing):
            @showResult
            def method(self, value: Any) -> Any:
                return value

            @classmethod
            @showResult
            def make(cls, name: str) -> Any:
                return name

            @staticmethod
            @showResult
            def plain(value: Any) -> Any:
                return value

        class Derived(Shown):
            pass

        for kind in (Shown, Derived):
            for name in ("method", "make", "plain"):
                _, text = self.shown(getattr(kind(), name), 1)
                self.assertTrue(text.endswith(f"Shown.{name}(1) -> 1\n"), text)

    def test_R27_showResultOfDeferred(self) -> None:
        """
        Comes when it comes, and what comes after gets it unchanged.
        """
        d: Deferred[str] = Deferred()
        result, text = self.shown(showResult(func), d)
        self.assertIs(result, d)
        self.assertEqual(text, "")
        _, text = self.shown(d.callback, "value")
        self.assertTrue(text.endswith(" -> 'value'\n"), text)
        self.assertEqual(self.successResultOf(d), "value")

    def test_R27_showResultOfFailure(self) -> None:
        """
        Is the failure, which goes on.
        """
        d: Deferred[str] = Deferred()
        self.shown(showResult(func), d)
        _, text = self.shown(d.errback, KeyError("key"))
        self.assertTrue(text.endswith(") raised KeyError('key')\n"), text)
        self.failureResultOf(d, KeyError)

    def test_R27_showResultOfError(self) -> None:
        """
        Is raised as ever.
        """

        def call() -> None:
            with self.assertRaises(ZeroDivisionError):
                showResult(divide)(1, 0)

        self.assertEqual(self.shown(call)[1], "divide(1, 0) raised ZeroDivisionError('division by zero')\n")

    def test_R27_showResultOfCoroutine(self) -> None:
        """
        Is what it returns or raises when it is awaited.
        """
        inner: Deferred[int] = Deferred()

        @showResult
        async def shown(divisor: int) -> float:
            return divide(await inner, divisor)

        outcomes: list[Outcome] = []
        _, text = self.shown(lambda: outcomes.append(Outcome(Deferred.fromCoroutine(shown(2)))))
        self.assertEqual(text, "")
        _, text = self.shown(inner.callback, 6)
        self.assertTrue(text.endswith("shown(2) -> 3.0\n"), text)
        self.assertEqual(outcomes[0].value, 3.0)
        inner = Deferred()
        d = Deferred.fromCoroutine(shown(2))
        outcome = Outcome(d)
        _, text = self.shown(d.cancel)
        self.assertIn("raised CancelledError", text)
        self.assertIs(outcome.kind, CancelledError)

    def test_R27_nowhereToPrint(self) -> None:
        """
        Is no reason for a call to fail.
        """
        closed = io.StringIO()
        closed.close()
        narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        nothing: Any = None
        for output in (closed, narrow, nothing):
            with redirect_stdout(output):
                self.assertEqual(showResult(func)("\u00e9"), "\u00e9")

    def test_R27_whichThread(self) -> None:
        """
        Prints call and thread before the call is run, and changes no result.
        """

        @whichThread
        def told() -> Any:
            output: Any = sys.stdout
            return output.getvalue()

        result, text = self.shown(told)
        self.assertEqual(result, text)
        name = threading.current_thread().name
        self.assertTrue(text.endswith(f"told() in thread {name!r}\n"), text)


class HashTests(SynchronousTestCase):
    """
    A hash of nearly anything.
    """

    def test_R27_hashIt(self) -> None:
        """
        Is a whole number, the same for equal arguments.
        """
        pairs: list[tuple[Any, Any]] = [
            (1, 1.0),
            ("text", "te" + "xt"),
            ([1, [2, {3}]], [1, [2, {3}]]),
            ({"a": [1], "b": {}}, {"b": {}, "a": [1]}),
            (OrderedDict(a=1), {"a": 1}),
            ({1, 2}, frozenset([2, 1])),
            (bytearray(b"x"), b"x"),
            (deque([1, []]), deque([1, []])),
            ((1, [2]), (1, [2])),
            (Thing("one"), Thing("one")),
            (None, None),
        ]
        for one, other in pairs:
            self.assertEqual(one, other)
            self.assertIs(type(hashIt(one)), int)
            self.assertEqual(hashIt(one), hashIt(other), f"{one!r} and {other!r}")
            self.assertEqual(hashIt(0, one), hashIt(0, other))
        self.assertEqual(hashIt(), hashIt())

    def test_R27_differences(self) -> None:
        """
        Count: of order, of nesting, of content.
        """
        different: list[tuple[Any, ...]] = [
            (),
            (1, 2),
            (2, 1),
            ((1, 2),),
            ([1, 2],),
            ([2, 1],),
            ([[1], 2],),
            ({1: 2},),
            ({1: [2]},),
            ({1, 2},),
            (Thing("one"),),
            (Thing("two"),),
            ("text",),
        ]
        self.assertEqual(len({hashIt(*args) for args in different}), len(different))

    def test_R27_hostile(self) -> None:
        """
        Gets a number in spite of all.
        """
        thing = Hostile()
        self.assertEqual(hashIt(thing), hashIt(thing))
        self.assertIs(type(hashIt([thing], {"x": thing})), int)

    def test_R27_bounded(self) -> None:
        """
        What is within itself, or deep, or many times in one, takes no long time.
        """
        cycle: list[Any] = []
        cycle.append(cycle)
        self.assertIs(type(hashIt(cycle)), int)
        deep: list[Any] = []
        wide: list[Any] = []
        for _ in range(10_000):
            deep = [deep]
        for _ in range(45):
            wide = [wide, wide]
        self.assertIs(type(hashIt(deep)), int)
        self.assertIs(type(hashIt(wide)), int)


class PlaceTests(SynchronousTestCase):
    """
    The documented place.
    """

    def test_names(self) -> None:
        """
        Are what is documented.
        """
        self.assertEqual(set(place.__all__), {"Info", "InfoHolder", "hashIt", "showResult", "whichThread"})
