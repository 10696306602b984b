"""
The child: a plain loop that runs calls, in an interpreter of its own.

Data flow::

    parent                      |  child
                                |
    data pipe (3) --------------+-> main thread: read records -> _calls -> run one -> write -----+
                                |                            -> _streams -> step one -> write ---+
    outcomes (4) <--------------+-----------------------------------------------------------<----+
    control pipe (was 0) -------+-> control thread: recall, interrupt, flush, stack -> write --^
    page (shared memory) <------+-- main thread: the number of the call that it has begun
    files (shared memory) <-----+-> main thread: large parts of calls, results and items

The main thread blocks in reading when it has nothing to do, and looks for records only when it has run out of calls.
The control thread serves the parent while the main thread computes; end-of-file there means that the parent is gone.

No Twisted is imported here, and nothing else that takes time to load.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from contextvars import Context
from mmap import mmap
from time import perf_counter

from asynqueue.currentcall import current
from asynqueue.process import frames
from asynqueue.process.childstreams import ChildStream, ChildStreams
from asynqueue.process.control import SIG_IGN, SIGINT, Control, signal
from asynqueue.process.decoding import CallDecoder, dumps
from asynqueue.process.frames import COUNT, SECONDS, Splitter
from asynqueue.process.orphans import dieWithParent
from asynqueue.process.outlet import PLAIN, Outlet
from asynqueue.process.surroundings import Surroundings, endCopy
from asynqueue.process.variables import setVariables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How much, in bytes, is read at once. More than this is not to be had from a pipe, and costs clearing it.
READ = 1 << 16


class RunningCall:
    """
    What a function may know of the call that it runs in.
    """

    __slots__ = ("ID", "_control", "_number", "attempt")

    series = None

    def __init__(self, control: Control, number: int, ID: int, attempt: int) -> None:
        self.ID = ID
        self.attempt = attempt
        self._control = control
        self._number = number

    @property
    def workerID(self) -> int:
        """
        The ID of the process.
        """
        return os.getpid()

    @property
    def cancelled(self) -> bool:
        """
        Whether nobody waits for the outcome any more.
        """
        return self._number == self._control.cancelled


class Child:
    """
    Runs what the parent sends.
    """

    def __init__(self, settings: dict[str, Any], control: int) -> None:
        """
        @param control: The descriptor of the control pipe.
        """
        self._settings = settings
        self._data = 3
        self._splitter = Splitter(settings["limit"])
        self._page = openPage(settings["page"])
        arguments, results = self._files = [openUnnamed(path) for path in settings["files"]]
        self._outlet = Outlet(4, settings["limit"], results, self._page)
        self._decoder = CallDecoder(settings["main"], arguments)
        self._calls: deque[tuple[int, int, bytes]] = deque()
        self._streams = ChildStreams(self._outlet)
        self._control = Control(control, self._outlet, self._streams, self._streams.flush)
        self._isEnding = False
        self._isCopy = False
        self._timesCalls: bool = settings["callStats"]

    def run(self) -> None:
        """
        Serve until the parent says that it is enough, or is gone.
        """
        dieWithParent(self._settings["parent"])
        os.register_at_fork(after_in_child=self._forked)
        self._control.start()
        try:
            for start in self._settings["starts"]:
                func, args, kw = self._decoder.decodeStart(start)
                func(*args, **kw)
        except BaseException as error:  # whatever the application's initializer raises, the parent is told
            self._outlet.writeError(frames.UNREADY, 0, error)
            return
        self._surroundings = Surroundings(self._settings["cwd"])
        self._outlet.write(frames.READY, os.getpid())
        calls = self._calls
        streams = self._streams
        while True:
            streams.closeBroken()
            if calls:
                self._call(*calls.popleft())
                self._tidyUp()
            elif streams.areSteppable:
                streams.step(self._page, self._control)
                self._read(isWaiting=False)
            elif self._isEnding and not streams:
                return
            else:
                self._read(isWaiting=True)

    def _read(self, isWaiting: bool) -> None:
        """
        Take what the parent has sent.
        """
        # Hot path, watched by `bench --only processes`.
        if not isWaiting and not select.select([self._data], [], [], 0)[0]:
            return
        data = os.read(self._data, READ)
        if not data:
            # The parent is gone.
            os._exit(0)
        for kind, flags, number, body in self._splitter.feed(data):
            if kind == frames.CALL:
                self._calls.append((number, flags, body))
            elif kind == frames.PULL:
                self._streams.pull(number, COUNT.unpack(body)[0])
            elif kind == frames.CLOSE:
                self._streams.close(number)
            elif kind == frames.END:
                self._isEnding = True

    def _call(self, number: int, flags: int, body: bytes) -> None:
        """
        Run one call, unless it has been recalled, and tell its outcome.
        """
        # Hot path, watched by `bench --only processes`.
        control = self._control
        isWanted = control.claim(number)
        if not isWanted:
            if isWanted is not None:
                self._outlet.write(frames.NOTHING, number)
            return
        self._page[0] = number
        began = perf_counter()
        try:
            func, args, kw, ID, attempt, variables = self._decoder.decode(body)
        except BaseException as error:  # unpickling runs anybody's code
            self._failed(number, error, "arguments")
            return
        del body
        stream: ChildStream | None = None
        isLast = False
        try:
            context = Context()
            context.run(current.set, RunningCall(control, number, ID, attempt))
            if variables:
                context.run(setVariables, variables)
            try:
                control.enter(number)
                self._page[2] = number
                result = context.run(func, *args, **kw)
                if not flags & frames.RAW and hasattr(type(result), "__next__"):
                    stream = ChildStream(result, context)
                    isLast = stream.takeFirst()
            finally:
                control.running = 0
                if self._isCopy:
                    endCopy()
        except BaseException as error:  # even a SystemExit of the call's own ends the call, not the child
            control.running = 0
            self._failed(number, error)
            return
        del func, args, kw
        if self._timesCalls:
            self._outlet.write(frames.TOOK, number, SECONDS.pack(perf_counter() - began))
        if result is None:
            self._outlet.write(frames.NOTHING, number)
        elif stream is not None:
            self._streams.begin(number, stream, isLast)
        else:
            self._deliver(number, result)
        self._page[1] = number

    def _deliver(self, number: int, result: Any) -> None:
        # Hot path, watched by `bench --only processes`.
        try:
            kind = type(result)
            if kind not in PLAIN and hasattr(kind, "addBoth"):
                raise TypeError("it is a Deferred, which only a worker with useReactor=True can wait for")
            self._outlet.deliver(frames.RESULT, number, result)
        except BaseException as error:  # pickling runs anybody's code
            from asynqueue.process.culprits import located

            self._failed(number, located(dumps, result, "result", error), "result")

    def _failed(self, number: int, error: BaseException, where: str = "") -> None:
        self._outlet.writeError(frames.ERROR, number, error, where)
        self._page[1] = number
        # What the traceback refers to is let go of now.
        error.__traceback__ = None

    def _tidyUp(self) -> None:
        """
        Undo what a call has changed of the process that would be in the way of the next one.
        """
        # Hot path, watched by `bench --only processes`.
        self._surroundings.restore()
        self._control.listen()

    def _forked(self) -> None:
        """
        Let go of all that is between the child and its parent, in a copy that a call has made of this process. The copy
        ends where the call does.
        """
        if self._isCopy:
            # A copy of a copy has nothing of it, and may have other files by these numbers.
            return
        self._isCopy = True
        self._streams.isCopy = True
        self._control.letGo()
        for descriptor in (3, 4, *self._files):
            try:
                os.close(descriptor)
            except OSError:
                # The call has closed it.
                continue
        self._page = [0] * 3


def openPage(path: str) -> Any:
    """
    Map the shared page, which has no name from then on.
    """
    descriptor = openUnnamed(path)
    try:
        return memoryview(mmap(descriptor, 4096)).cast("Q")
    finally:
        os.close(descriptor)


def openUnnamed(path: str) -> int:
    """
    Open a shared file, which has no name from then on.

    @return: Its descriptor.
    """
    descriptor = os.open(path, os.O_RDWR)
    os.unlink(path)
    return descriptor


def main(settings: dict[str, Any]) -> None:
    """
    Be a child.
    """
    control = settle()
    try:
        Child(settings, control).run()
    finally:
        for output in (sys.stdout, sys.stderr):
            try:
                output.flush()
            except (OSError, ValueError):
                # The application has closed it, or the parent is gone.
                continue


def settle() -> int:
    """
    Make private what is the parent's and the child's alone, and let output be seen as it comes.

    @return: The descriptor of the control pipe.
    """
    control = _privateControl()
    for descriptor in (3, 4):
        os.set_inheritable(descriptor, False)
    signal(SIGINT, SIG_IGN)
    outputs: list[Any] = [sys.stdout, sys.stderr]
    for output in outputs:
        output.reconfigure(line_buffering=True, errors="backslashreplace")
    return control


def _privateControl() -> int:
    """
    Move the control pipe away from descriptor 0, which is standard input and becomes empty.
    """
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    control = fcntl(0, F_DUPFD_CLOEXEC, 5)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return control
