"""
Tests of compatibility: the names that a program for AsynQueue 0.9.9 uses are where it looks for them, and take the
arguments that it gives them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.interfaces import IInterface

from asynqueue.testing import LeakCheckMixin
from test.compat import Program

#: Every module of the documentation, and the names in it.
NAMES = {
    "asynqueue": [
        "AsyncWorker",
        "DeferredLock",
        "DeferredTracker",
        "Info",
        "TaskQueue",
        "ThreadQueue",
        "ThreadWorker",
        "deferToDelay",
        "deferToThread",
        "showResult",
        # What ours adds to those.
        "Deferator",
        "IWorker",
        "IterationProducer",
        "ListConsumer",
        "NullQueue",
        "errors",
    ],
    "asynqueue.base": ["LoadInfoProducer", "Priority", "Queue", "TaskQueue"],
    "asynqueue.tasks": ["Assignment", "AssignmentFactory", "Task", "TaskFactory", "TaskHandler"],
    "asynqueue.interfaces": ["IConsumer", "IPushProducer", "IWorker"],
    "asynqueue.errors": [
        "ImplementationError",
        "InvariantError",
        "NotReadyError",
        "ProcessError",
        "QueueRunError",
        "ThreadError",
        "TimeoutError",
        "WorkerError",
    ],
    "asynqueue.workers": ["AsyncWorker", "IWorker", "ProcessWorker", "ThreadWorker"],
    "asynqueue.process": ["ProcessBase", "ProcessQueue", "ProcessWorker"],
    "asynqueue.wire": ["ServerManager", "WireServer", "WireWorker", "WireWorkerUniverse", "runServer"],
    "asynqueue.null": ["NullQueue"],
    "asynqueue.threads": [
        "Consumerator",
        "Filerator",
        "IterationGetter",
        "OrderedItemProducer",
        "PoolUser",
        "ThreadLooper",
        "ThreadQueue",
        "ThreadWorker",
        "deferToThread",
    ],
    "asynqueue.iteration": [
        "Deferator",
        "Delay",
        "IterationProducer",
        "ListConsumer",
        "Prefetcherator",
        "deferToDelay",
        "isIterator",
        "iteratorToProducer",
    ],
    "asynqueue.util": [
        "CallRunner",
        "DeferredLock",
        "DeferredTracker",
        "ProcessProtocol",
        "callAfterDeferred",
        "killProcess",
        "o2p",
        "p2o",
    ],
    "asynqueue.info": ["Info", "InfoHolder", "hashIt", "showResult", "whichThread"],
}

#: Names that are one and the same in two places.
SAME = {
    "asynqueue.AsyncWorker": "asynqueue.workers.AsyncWorker",
    "asynqueue.Deferator": "asynqueue.iteration.Deferator",
    "asynqueue.DeferredLock": "asynqueue.util.DeferredLock",
    "asynqueue.DeferredTracker": "asynqueue.util.DeferredTracker",
    "asynqueue.IWorker": "asynqueue.interfaces.IWorker",
    "asynqueue.Info": "asynqueue.info.Info",
    "asynqueue.IterationProducer": "asynqueue.iteration.IterationProducer",
    "asynqueue.ListConsumer": "asynqueue.iteration.ListConsumer",
    "asynqueue.NullQueue": "asynqueue.null.NullQueue",
    "asynqueue.TaskQueue": "asynqueue.base.TaskQueue",
    "asynqueue.ThreadQueue": "asynqueue.threads.ThreadQueue",
    "asynqueue.ThreadWorker": "asynqueue.threads.ThreadWorker",
    "asynqueue.deferToDelay": "asynqueue.iteration.deferToDelay",
    "asynqueue.deferToThread": "asynqueue.threads.deferToThread",
    "asynqueue.showResult": "asynqueue.info.showResult",
    "asynqueue.workers.IWorker": "asynqueue.interfaces.IWorker",
    "asynqueue.workers.ThreadWorker": "asynqueue.threads.ThreadWorker",
}

#: Every function, class and method of the documentation, with its parameters: by name and in order, with the default
#: where there is one, which is C{...} where the documentation does not tell it. C{None}: the documentation tells no
#: parameters. A class stands for its constructor.
SIGNATURES: dict[str, dict[str, str | None]] = {
    "asynqueue.base": {
        "TaskQueue": "*workers, timeout=None, warn=False, verbose=False, spew=False, returnFailure=False",
        "TaskQueue.__len__": "self",
        "TaskQueue.__bool__": "self",
        "TaskQueue.isRunning": "self",
        "TaskQueue.shutdown": "self",
        "TaskQueue.attachWorker": "self, worker",
        "TaskQueue.detachWorker": "self, workerOrID, reassign=False, crash=False",
        "TaskQueue.qualifyWorker": "self, worker, series",
        "TaskQueue.workers": "self, ID=None",
        "TaskQueue.taskDone": "self, statusResult, task, **kw",
        "TaskQueue.newTask": "self, func, args, kw",
        "TaskQueue.call": "self, func, *args, **kw",
        "TaskQueue.update": "self, func, *args, **kw",
        "Queue": "handler, timeout=None",
        "Queue.isRunning": "self",
        "Queue.put": "self, item",
        "Queue.shutdown": "self",
        "Queue.cancelSeries": "self, series",
        "Queue.cancelAll": "self",
        "Queue.subscribe": "self, consumer",
        "Priority": "",
        "Priority.put": "self, item",
        "Priority.get": "self",
        "Priority.cancel": "self, selector",
        "Priority.shutdown": "self",
        "LoadInfoProducer": "",
        "LoadInfoProducer.registerConsumer": "self, consumer",
        "LoadInfoProducer.shutdown": "self",
        "LoadInfoProducer.oneLess": "self",
        "LoadInfoProducer.oneMore": "self",
        "LoadInfoProducer.pauseProducing": "self",
        "LoadInfoProducer.resumeProducing": "self",
        "LoadInfoProducer.stopProducing": "self",
    },
    "asynqueue.tasks": {
        "Task": "f, args, kw, priority, series, timeout=None",
        "Task.callback": "self, statusResult",
        "Task.errback": "self, failure",
        "Task.addCallback": "self, f, *args, **kw",
        "Task.startTimer": "self",
        "Task.timedout": "self",
        "Task.reset": "self",
        "Task.rush": "self",
        "Task.relax": "self",
        "Task.copy": "self",
        "TaskFactory": "klass=None",
        "TaskFactory.new": "self, func, args, kw, niceness, series=None, timeout=None",
        "TaskHandler": "",
        "TaskHandler.hire": "self, worker",
        "TaskHandler.terminate": "self, workerID, timeout=None, crash=False, reassign=False",
        "TaskHandler.roster": "self, series=None",
        "TaskHandler.update": "self, task, ephemeral=False, sequential=False",
        "TaskHandler.shutdown": "self, timeout=None",
        "TaskHandler.__call__": "self, task",
    },
    "asynqueue.interfaces": {},
    "asynqueue.errors": {},
    "asynqueue.workers": {
        "AsyncWorker": "series=[], raw=False",
        "AsyncWorker.setResignator": "self, callableObject",
        "AsyncWorker.run": "self, task",
        "AsyncWorker.stop": "self",
        "AsyncWorker.crash": "self",
    },
    "asynqueue.null": {"NullQueue": "**kw"},
    "asynqueue.threads": {
        "deferToThread": "f=..., *args, **kw",
        "ThreadQueue": "raw=False, **kw",
        "ThreadQueue.deferToThread": "self, f, *args, **kw",
        "ThreadWorker": "series=[], raw=False",
        "ThreadWorker.setResignator": "self, callableObject",
        "ThreadWorker.run": "self, task",
        "ThreadWorker.stop": "self",
        "ThreadWorker.crash": "self",
        "ThreadLooper": "raw=False",
        "ThreadLooper.call": "self, f, *args, **kw",
        "ThreadLooper.deferToThread": "self, f, *args, **kw",
        "ThreadLooper.dr2ip": "self, deferator, consumer=None",
        "ThreadLooper.stop": "self",
        "PoolUser.setup": "self, maxThreads=None",
        "PoolUser.deferToThreadInPool": "self, f, *args, **kw",
        "PoolUser.shutdown": "self",
        "IterationGetter": "maxThreads=None",
        "IterationGetter.start": "self",
        "IterationGetter.loop": "self",
        "IterationGetter.deferUntilDone": "self",
        "IterationGetter.__iter__": "self",
        "IterationGetter.__next__": "self",
        "Consumerator": "producer=None, maxThreads=None",
        "Consumerator.registerProducer": "self, producer, streaming",
        "Consumerator.unregisterProducer": "self",
        "Consumerator.write": "self, data",
        "Consumerator.stop": "self",
        "Consumerator.__iter__": "self",
        "Consumerator.__next__": "self",
        "Filerator": "maxThreads=None",
        "Filerator.write": "self, data",
        "Filerator.writelines": "self, lines",
        "Filerator.flush": "self",
        "Filerator.close": "self",
        "Filerator.__iter__": "self",
        "Filerator.__next__": "self",
        "OrderedItemProducer": "maxThreads=None",
        "OrderedItemProducer.start": "self, fb, *args, **kw",
        "OrderedItemProducer.produceItem": "self, fp, *args, **kw",
        "OrderedItemProducer.stop": "self",
    },
    "asynqueue.iteration": {
        "deferToDelay": "seconds",
        "isIterator": "x",
        "Delay": "interval=0.001, backoff=1.10, timeout=None",
        "Delay.__call__": "self, seconds=None",
        "Delay.untilEvent": "self, f, *args, **kw",
        "Delay.shutdown": "self",
        "Deferator": "objectOrRepresentation, callable=None, *args, **kw",
        "Deferator.__iter__": "self",
        "Deferator.__next__": "self",
        "Deferator.stop": "self",
        "Deferator.isIterator": "obj",
        "Prefetcherator": "ID=None",
        "Prefetcherator.setup": "self, iteratorOrCallable, *args, **kw",
        "Prefetcherator.getNext": "self",
        "Prefetcherator.isBusy": "self",
        "ListConsumer": "**attributes",
        "ListConsumer.__call__": "self",
        "ListConsumer.registerProducer": "self, producer, streaming",
        "ListConsumer.unregisterProducer": "self",
        "ListConsumer.write": "self, data",
        "ListConsumer.processItem": "self, item",
        "IterationProducer": "deferator, consumer=None",
        "IterationProducer.registerConsumer": "self, consumer",
        "IterationProducer.run": "self",
        "IterationProducer.deferUntilDone": "self",
        "IterationProducer.pauseProducing": "self",
        "IterationProducer.resumeProducing": "self",
        "IterationProducer.stopProducing": "self",
        "iteratorToProducer": "iterator, consumer=None, wrapper=None",
    },
    "asynqueue.wire": {
        "WireWorkerUniverse": "wireServer=None",
        "WireWorkerUniverse.check": "instance",
        # It was 1. By design a worker has the capacity of its node unless it is told otherwise.
        "WireWorker": "wwu, description, series=[], raw=False, thread=False, N_concurrent=None",
        "WireWorker.setResignator": "self, callableObject",
        "WireWorker.run": "self, task",
        "WireWorker.stop": "self",
        "WireWorker.crash": "self",
        "WireServer": "description, wwu",
        "WireServer.start": "self",
        "WireServer.stop": "self",
        "ServerManager": "wwuFQN=None",
        "ServerManager.newSocket": "self",
        "ServerManager.spawn": "self, description, stdio=False, niceness=0",
        "ServerManager.done": "self, pid=None",
        "ServerManager.shutdown": "self",
        "runServer": "description, wwuFQN",
    },
    "asynqueue.util": {
        "o2p": "obj",
        "p2o": "pickle, default=None",
        "callAfterDeferred": "namespace, name, f, *args, **kw",
        "killProcess": "pid",
        "DeferredTracker": "interval=None, backoff=None",
        "DeferredTracker.put": "self, d",
        "DeferredTracker.addWait": "self",
        "DeferredTracker.removeWait": "self",
        "DeferredTracker.quitWaiting": "self",
        "DeferredTracker.notWaiting": "self",
        "DeferredTracker.deferToAll": "self, timeout=None",
        "DeferredTracker.deferToAny": "self, timeout=None",
        "DeferredTracker.deferUntilFewer": "self, N, timeout=None",
        "DeferredLock": "allowZombies=False",
        "DeferredLock.acquire": "self, vip=False",
        "DeferredLock.release": "self",
        "DeferredLock.context": "self, vip=False",
        "DeferredLock.acquireAndRelease": "self, vip=False",
        "DeferredLock.addStopper": "self, f, *args, **kw",
        "DeferredLock.stop": "self",
        "CallRunner": "raw=False, callStats=False, reactor=None",
        "CallRunner.__call__": "self, callTuple",
        "ProcessProtocol": "stopper=None",
    },
    "asynqueue.info": {
        "hashIt": "*args",
        "showResult": "method",
        "whichThread": "method",
        "Info": "remember=False, whichThread=False",
        "Info.setCall": "self, f, args=..., kw=..., instance=...",
        "Info.aboutCall": "self, ID=None, nowForget=False",
        "Info.aboutException": "self, ID=None, exception=None",
        "Info.aboutFailure": "self, failure, ID=None",
        "Info.nn": "self, ID=None, raw=False",
        "Info.saveInfo": None,
        "Info.getInfo": None,
        "Info.forgetID": None,
        "Info.context": "self, f, args=..., kw=..., instance=...",
        "InfoHolder.getInfo": None,
        "InfoHolder.nn": None,
        "InfoHolder.aboutCall": None,
        "InfoHolder.aboutException": None,
        "InfoHolder.aboutFailure": None,
    },
}

#: Parameters that the documentation shows by their place only, so that they may be called something else.
UNNAMED = {"args", "attributes", "data", "f", "fb", "fp", "kw", "lines", "obj", "workers", "x"}

#: How to make an object of a class, the method that ends it, and the documented attributes that it has.
ATTRIBUTES: dict[str, tuple[Callable[[Any], Any], str | None, list[str]]] = {
    "asynqueue.base.TaskQueue": (lambda kind: kind(reactor=Clock()), "shutdown", ["q", "taskFactory", "th"]),
    "asynqueue.tasks.Task": (
        lambda kind: kind(int, (), {}, 0, None),
        None,
        ["callTuple", "d", "priority", "series", "timeout"],
    ),
    "asynqueue.tasks.TaskFactory": (lambda kind: kind(), None, ["TaskClass"]),
    "asynqueue.tasks.TaskHandler": (lambda kind: kind(), "shutdown", ["isRunning", "workers"]),
    "asynqueue.workers.AsyncWorker": (lambda kind: kind(), "stop", ["cQualified", "iQualified"]),
    "asynqueue.threads.ThreadQueue": (lambda kind: kind(), "shutdown", ["d", "q", "taskFactory", "th", "worker"]),
    "asynqueue.threads.ThreadWorker": (lambda kind: kind(), "stop", ["cQualified", "iQualified", "t", "tasks"]),
    "asynqueue.threads.ThreadLooper": (lambda kind: kind(), "stop", ["thread", "threadRunning"]),
    "asynqueue.threads.PoolUser": (lambda kind: setUp(kind()), "shutdown", ["pool"]),
    "asynqueue.threads.IterationGetter": (
        lambda kind: kind(),
        "shutdown",
        ["IterationStopper", "bLock", "cLock", "nLock", "pool", "runState"],
    ),
    "asynqueue.threads.Filerator": (lambda kind: kind(), "shutdown", ["closed"]),
    "asynqueue.util.CallRunner": (lambda kind: kind(), None, ["callTimes"]),
    "asynqueue.util.ProcessProtocol": (lambda kind: kind(), None, ["d", "pid"]),
    "asynqueue.info.Info": (lambda kind: kind().setCall(int), None, ["ID"]),
    "asynqueue.iteration.Deferator": (lambda kind: kind(iter([1])), None, ["d", "moreLeft"]),
}


def setUp(user: Any) -> Any:
    """
    Return a user of a pool that has been set up.
    """
    user.setup(2)
    return user


def find(path: str) -> Any:
    """
    Return what a dotted name of the library stands for.
    """
    place, _, name = path.rpartition(".")
    return getattr(import_module(place), name)


def documented(text: str) -> inspect.Signature:
    """
    Return the signature that a text tells.
    """
    scope: dict[str, Any] = {}
    exec(f"def f({text}): pass", scope)
    return inspect.signature(scope["f"])


def isSame(default: Any, wanted: Any) -> bool:
    """
    Tell whether a default is what is wanted: an empty tuple is as good as an empty list.
    """
    if wanted is ...:
        return default is not inspect.Parameter.empty
    if wanted == []:
        return default in ([], ())
    return type(default) is type(wanted) and bool(default == wanted)


def differences(found: inspect.Signature, wanted: inspect.Signature) -> list[str]:
    """
    Return what a program that calls by one signature would stumble over in another one.
    """
    kinds = inspect.Parameter
    problems = []
    left = list(found.parameters.values())
    for parameter in wanted.parameters.values():
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            if not any(each.kind is parameter.kind for each in left):
                problems.append(f"takes no {parameter}")
        elif parameter.kind is kinds.KEYWORD_ONLY:
            other = found.parameters.get(parameter.name)
            if other is None or not isSame(other.default, parameter.default):
                problems.append(f"takes no {parameter}, but {other}")
        else:
            other = left.pop(0) if left else None
            isPlaced = other is not None and other.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
            if other is None or not isPlaced:
                problems.append(f"has {other} in the place of {parameter}")
            elif other.name != parameter.name and parameter.name not in UNNAMED:
                problems.append(f"calls {other.name} what is {parameter.name}")
            elif parameter.default is not kinds.empty and not isSame(other.default, parameter.default):
                problems.append(f"has {other} instead of {parameter}")
    problems += [
        f"needs {each.name}, too"
        for each in left
        if each.default is kinds.empty
        and each.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        and each.name not in wanted.parameters
    ]
    return problems


class NameTests(SynchronousTestCase):
    """
    Where names are.
    """

    maxDiff = None

    def test_all(self) -> None:
        """
        All names are there, and C{from ... import} finds them.
        """
        missing = []
        for module, names in NAMES.items():
            for name in names:
                try:
                    exec(f"from {module} import {name}", {})
                except ImportError as error:
                    missing.append(f"{module}.{name}: {error}")
        self.assertEqual("\n".join(missing), "")

    def test_interfaces(self) -> None:
        """
        Those of asynqueue.interfaces are interfaces.
        """
        for name in NAMES["asynqueue.interfaces"]:
            self.assertTrue(IInterface.providedBy(find(f"asynqueue.interfaces.{name}")), name)

    def test_errors(self) -> None:
        """
        Those of asynqueue.errors are exceptions.
        """
        for name in NAMES["asynqueue.errors"]:
            self.assertTrue(issubclass(find(f"asynqueue.errors.{name}"), Exception), name)

    def test_same(self) -> None:
        """
        A name in two places is one thing.
        """
        different = []
        for one, other in SAME.items():
            try:
                if find(one) is not find(other):
                    different.append(f"{one} is not {other}")
            except (ImportError, AttributeError) as error:
                different.append(f"{one}: {error}")
        self.assertEqual("\n".join(different), "")


class SignatureTests(SynchronousTestCase):
    """
    What arguments the documented names take.
    """

    maxDiff = None

    def test_all(self) -> None:
        """
        All functions, classes and methods take what they are documented to take.
        """
        self.assertEqual("\n".join(each for module in SIGNATURES for each in self.problems(module)), "")

    def problems(self, module: str) -> list[str]:
        """
        Return what is different about a module.
        """
        problems = []
        for path, text in SIGNATURES[module].items():
            try:
                found: Any = import_module(module)
                for name in path.split("."):
                    owner, found = found, getattr(found, name)
                isOfTheClass = inspect.ismethod(found) or (
                    inspect.isclass(owner) and isinstance(inspect.getattr_static(owner, name), staticmethod)
                )
            except (ImportError, AttributeError) as error:
                problems.append(f"{module}.{path}: {error}")
                continue
            if text is None:
                problems += [] if callable(found) else [f"{module}.{path} is not callable"]
                continue
            # A method that needs no object can be called where there is one, too.
            wanted = text.removeprefix("self").removeprefix(", ") if isOfTheClass else text
            different = differences(inspect.signature(found), documented(wanted))
            problems += [f"{module}.{path} {each}" for each in different]
        return problems

    def test_differencesAreFound(self) -> None:
        """
        By these tests themselves.
        """
        for wanted, found in (
            ("one", "other"),
            ("one, two", "two, one"),
            ("one, two=None", "one"),
            ("one, two=None", "one, two"),
            ("one, two=None", "one, two=0"),
            ("one, two=False", "one, two=0"),
            ("one, two=None", "one, *, two=None"),
            ("one", "one, two"),
            ("*, one=None", "**kw"),
            ("*, one=None", "*, one=1"),
            ("one, *args", "one"),
            ("one, **kw", "one, two=None"),
            ("one=...", "one"),
            ("self, f, *args, **kw", "self, f, *args"),
        ):
            self.assertNotEqual(differences(documented(found), documented(wanted)), [], f"{wanted}: {found}")

    def test_additionsAreNone(self) -> None:
        """
        Nor are other spellings of the same.
        """
        for wanted, found in (
            ("one", "one, two=None"),
            ("one", "one, *, two=None"),
            ("one=[]", "one=()"),
            ("one, two=...", "one, two=5"),
            ("raw=False, **kw", "raw=False, N=1, **kw"),
            ("*workers, one=None", "*workers, one=None, two=None"),
            ("f=..., *args, **kw", "g=None, *args, **kw"),
        ):
            self.assertEqual(differences(documented(found), documented(wanted)), [])


class AttributeTests(LeakCheckMixin, TestCase):
    """
    The attributes of documented classes that are no methods.
    """

    timeout = 30

    @inlineCallbacks
    def test_attributes(self) -> Program:
        """
        Are there in a new object.
        """
        missing = []
        for path, (make, end, names) in ATTRIBUTES.items():
            try:
                made = make(find(path))
            except (ImportError, AttributeError) as error:
                missing.append(f"{path}: {error}")
                continue
            missing += [f"{path}.{name}" for name in names if not hasattr(made, name)]
            if end is not None:
                yield maybeDeferred(getattr(made, end))
        self.assertEqual("\n".join(missing), "")
