"""
The child: a plain loop that runs calls, in an interpreter of its own.

Data flow::

    parent                      |  child
                                |
    data pipe (3) --------------+-> main thread: read records -> _calls -> run one -> _write ----+
                                |                            -> _streams -> step one -> _write --+
    outcomes (4) <--------------+-----------------------------------------------------------<----+
    control pipe (was 0) -------+-> control thread: recall, interrupt, ping -> _write --^
    page (shared memory) <------+-- main thread: the number of the call that it has begun

The main thread blocks in reading when it has nothing to do, and looks for records only when it has run out of calls.
The control thread serves the parent while the main thread computes; end-of-file there means that the parent is gone.
What is shared by the two threads is changed under one lock: which call has been started, and which have been recalled.

No Twisted is imported here, and nothing else that takes time to load.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from collections import deque
from contextvars import Context
from mmap import mmap
from time import monotonic, perf_counter

from asynqueue.currentcall import current
from asynqueue.process import frames
from asynqueue.process.frames import HEADER, NUMBER, SECONDS, Splitter, record
from asynqueue.process.variables import setVariables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How much, in bytes, is read at once.
READ = 1 << 18

#: How long, in seconds, a stream may be stepped before calls have their turn.
SPAN = 0.002

#: How much, in bytes, pickled items may take that are ahead of their reader.
MEMORY = 1 << 20

#: The signal that lets the main thread look for an interrupt. Nobody else uses it, and it is ignored by default.
SIGNAL = signal.SIGURG


class CallInterrupted(BaseException):
    """
    Nobody waits for the call any more.
    """


class RunningCall:
    """
    What a function may know of the call that it runs in.
    """

    __slots__ = ("ID", "_child", "_number", "attempt")

    series = None

    def __init__(self, child: Child, number: int) -> None:
        self.ID = 0
        self.attempt = 1
        self._child = child
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
        return self._number == self._child.cancelled


class ChildStream:
    """
    An iterator whose items the parent gets.
    """

    __slots__ = ("context", "credit", "items", "iterator", "step")

    def __init__(self, iterator: Any, context: Context) -> None:
        self.iterator = iterator
        self.context = context
        self.step = iterator.__next__
        self.items: deque[Any] = deque()
        self.credit = 0


class Child:
    """
    Runs what the parent sends.
    """

    def __init__(self, settings: dict[str, Any], control: int) -> None:
        self._settings = settings
        self._data = 3
        self._outcomes = 4
        self._control = control
        self._limit: int = settings["limit"]
        self._splitter = Splitter(self._limit)
        self._calls: deque[tuple[int, int, bytes]] = deque()
        self._streams: dict[int, ChildStream] = {}
        self._steppable: deque[int] = deque()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._flushing = threading.Lock()
        self._closings: deque[ChildStream] = deque()
        self._started = 0
        self._recalledFrom = 0
        self._recalledTo = 0
        self._unwanted: set[int] = set()
        self.cancelled = 0
        self._inUser = 0
        self._interrupt: tuple[int, int] = (0, 0)
        self._softLimit: type[Exception] | None = None
        self._isEnding = False
        self._mainThread = threading.get_ident()
        self._page = openPage(settings["page"])
        self._timesCalls: bool = settings["callStats"]

    def run(self) -> None:
        """
        Serve until the parent says that it is enough, or is gone.
        """
        signal.signal(SIGNAL, self._interrupted)
        if self._settings["starts"]:
            # What the application does there may take long, and the parent may be gone meanwhile.
            from asynqueue.process.orphans import dieWithParent

            dieWithParent(self._settings["parent"])
        threading.Thread(target=self._serve, name="asynqueue-control", daemon=True).start()
        try:
            for start in self._settings["starts"]:
                if b"__main__" in start:
                    self._ensureMain()
                func, args, kw = pickle.loads(start)
                func(*args, **kw)
        except BaseException as error:  # whatever the application's initializer raises, the parent is told
            from asynqueue.told import told

            self._write(frames.UNREADY, 0, pickle.dumps(("", told(error)), 5))
            return
        self._write(frames.READY, os.getpid())
        calls = self._calls
        while True:
            while self._closings:
                self._closeIterator(self._closings.popleft())
            if calls:
                self._call(*calls.popleft())
                self._tidyUp()
            elif self._steppable:
                self._step(self._steppable.popleft())
                self._read(isWaiting=False)
            elif self._isEnding and not self._streams:
                return
            else:
                self._read(isWaiting=True)

    # Reading and writing

    def _read(self, isWaiting: bool) -> None:
        """
        Take what the parent has sent.
        """
        if not isWaiting and not select.select([self._data], [], [], 0)[0]:
            return
        data = os.read(self._data, READ)
        if not data:
            self._gone()
        for kind, flags, number, body in self._splitter.feed(data):
            if kind == frames.CALL:
                self._calls.append((number, flags, body))
            elif kind == frames.PULL:
                self._pull(number, frames.COUNT.unpack(body)[0])
            elif kind == frames.CLOSE:
                self._close(number)
            elif kind == frames.END:
                self._isEnding = True

    def _write(self, kind: int, number: int, body: bytes = b"") -> None:
        """
        Tell the parent something, from either thread.
        """
        data: bytes | memoryview = record(kind, number, body)
        with self._writing:
            while True:
                try:
                    written = os.write(self._outcomes, data)
                except OSError:
                    self._gone()
                if written == len(data):
                    return
                data = memoryview(data)[written:]

    def _gone(self) -> None:
        """
        End at once: the parent is gone.
        """
        os._exit(0)

    # Calls

    def _call(self, number: int, flags: int, body: bytes) -> None:
        """
        Run one call, unless it has been recalled, and tell its outcome.
        """
        with self._lock:
            if self._recalledFrom < number <= self._recalledTo:
                return
            self._started = number
            isWanted = number not in self._unwanted
            self._unwanted.discard(number)
        if not isWanted:
            self._write(frames.NOTHING, number)
            return
        self._page[0] = number
        began = perf_counter()
        call = RunningCall(self, number)
        try:
            if flags & frames.MAIN:
                self._ensureMain()
            func, args, kw, call.ID, call.attempt, variables = pickle.loads(body)
        except BaseException as error:  # unpickling runs anybody's code
            self._failed(number, error, "arguments")
            return
        del body
        isStream = isLast = False
        try:
            context = Context()
            context.run(current.set, call)
            if variables:
                context.run(setVariables, variables)
            self._inUser = number
            try:
                if self._interrupt[0] == number:
                    # It came while the arguments were unpickled, which imports modules and must not be disturbed.
                    self._raiseInterrupt()
                result = context.run(func, *args, **kw)
                isStream = not flags & frames.RAW and hasattr(type(result), "__next__")
                if isStream:
                    stream = ChildStream(result, context)
                    isLast = self._takeFirst(stream)
            finally:
                self._inUser = 0
        except BaseException as error:  # even a SystemExit of the call's own ends the call, not the child
            self._inUser = 0
            self._failed(number, error)
            return
        del func, args, kw
        if self._timesCalls:
            self._write(frames.TOOK, number, SECONDS.pack(perf_counter() - began))
        if result is None:
            self._write(frames.NOTHING, number)
        elif isStream:
            self._streams[number] = stream
            self._write(frames.STREAM, number)
            self._flush(number, stream)
            if isLast and number in self._streams:
                del self._streams[number]
                self._endStream(number, None)
        else:
            self._deliver(number, result)
        self._page[1] = number

    def _deliver(self, number: int, result: Any) -> None:
        try:
            if hasattr(type(result), "addBoth"):
                raise TypeError("it is a Deferred, which only a worker with useReactor=True can wait for")
            packed = pickle.dumps(result, 5)
            if len(packed) > self._limit:
                raise ValueError(f"it takes {len(packed)} bytes, and {self._limit} are the limit")
        except BaseException as error:  # pickling runs anybody's code
            self._failed(number, error, "result")
            return
        self._write(frames.RESULT, number, packed)

    def _tidyUp(self) -> None:
        """
        Undo what a call has changed of the process that would be in the way of the next one.
        """
        try:
            hasMoved = os.getcwd() != self._settings["cwd"]
        except FileNotFoundError:
            # The directory has been removed.
            hasMoved = True
        if hasMoved:
            os.chdir(self._settings["cwd"])
        if signal.getsignal(SIGNAL) != self._interrupted:
            signal.signal(SIGNAL, self._interrupted)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _failed(self, number: int, error: BaseException, where: str = "") -> None:
        from asynqueue.told import told

        self._write(frames.ERROR, number, pickle.dumps((where, told(error)), 5))
        self._page[1] = number
        # What the traceback refers to is let go of now.
        error.__traceback__ = None

    def _ensureMain(self) -> None:
        """
        Load the parent's main module, by another name, as C{multiprocessing} does.

        @raise ImportError: It cannot be loaded.
        """
        from asynqueue.process.mainmodule import ensureMain

        ensureMain(*self._settings["main"])

    # Streams

    def _pull(self, number: int, count: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            if not stream.credit:
                self._steppable.append(number)
            stream.credit += count

    def _close(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._closeIterator(stream)
            self._write(frames.STREAM_END, number)

    def _closeIterator(self, stream: ChildStream) -> None:
        close = getattr(stream.iterator, "close", None)
        if callable(close):
            try:
                stream.context.run(close)
            except BaseException as error:  # a generator's finally may raise anything
                sys.excepthook(type(error), error, error.__traceback__)

    def _step(self, number: int) -> None:
        """
        Take some items of a stream, and send them.
        """
        stream = self._streams.get(number)
        if stream is None:
            return
        error: BaseException | None = None
        isLast = False
        until = monotonic() + SPAN
        self._page[0] = number
        try:
            self._inUser = number
            try:
                stream.context.run(self._take, stream, until)
            finally:
                self._inUser = 0
        except StopIteration:
            isLast = True
        except BaseException as caught:  # even a SystemExit of the iterator's own ends the stream, not the child
            self._inUser = 0
            error = caught
        self._flush(number, stream)
        if error is not None or isLast:
            self._streams.pop(number, None)
            self._endStream(number, error)
        elif stream.credit:
            self._steppable.append(number)

    def _takeFirst(self, stream: ChildStream) -> bool:
        """
        Take the first item of a stream, which is still a part of its call.

        @return: Whether there is none.
        """
        stream.credit = 1
        try:
            stream.context.run(self._take, stream, 0.0)
        except StopIteration:
            return True
        return False

    def _take(self, stream: ChildStream, until: float) -> None:
        # Hot path, watched by `bench --only processes`.
        step = stream.step
        append = stream.items.append
        memory = MEMORY
        while stream.credit and memory > 0:
            item = step()
            stream.credit -= 1
            memory -= sys.getsizeof(item, 0)
            append(item)
            if monotonic() > until:
                return

    def _flush(self, number: int, stream: ChildStream) -> None:
        """
        Send the items that are there. In either thread; the main thread may be adding to them.
        """
        with self._flushing:
            waiting = stream.items
            items = [waiting.popleft() for _ in range(len(waiting))]
            if items:
                self._send(number, items)

    def _send(self, number: int, items: list[Any]) -> None:
        try:
            packed = pickle.dumps(items, 5)
            if len(packed) > self._limit:
                raise ValueError(f"it takes {len(packed)} bytes, and {self._limit} are the limit")
        except BaseException as error:  # pickling runs anybody's code
            if len(items) > 1:
                # Those before the one that will not travel do.
                for item in items:
                    if number in self._streams:
                        self._send(number, [item])
                return
            self._broken(number, error)
            return
        self._write(frames.ITEMS, number, packed)

    def _broken(self, number: int, error: BaseException) -> None:
        """
        End a stream of which an item cannot travel. The main thread closes the iterator when it comes to that.
        """
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._endStream(number, error, "item")
            self._closings.append(stream)

    def _endStream(self, number: int, error: BaseException | None, where: str = "") -> None:
        if error is None:
            self._write(frames.STREAM_END, number)
        else:
            from asynqueue.told import told

            self._write(frames.STREAM_END, number, pickle.dumps((where, told(error)), 5))

    # The control thread

    def _serve(self) -> None:
        from asynqueue.process.orphans import dieWithParent

        dieWithParent(self._settings["parent"])
        size = HEADER.size
        buffer = b""
        while True:
            data = os.read(self._control, 4096)
            if not data:
                self._gone()
            buffer += data
            while len(buffer) >= size:
                kind, flags, number, _ = HEADER.unpack_from(buffer)
                buffer = buffer[size:]
                if kind == frames.RECALL:
                    self._recall(number)
                elif kind == frames.INTERRUPT:
                    self._interruptCall(number, flags)
                elif kind == frames.PING:
                    self._pong(number)
                elif kind == frames.FLUSH:
                    stream = self._streams.get(number)
                    if stream is not None:
                        self._flush(number, stream)

    def _recall(self, number: int) -> None:
        with self._lock:
            started = self._started
            if number > started:
                self._recalledFrom, self._recalledTo = started, number
        self._write(frames.RECALLED, started, NUMBER.pack(number))

    def _interruptCall(self, number: int, reason: int) -> None:
        with self._lock:
            if number > self._started:
                self._unwanted.add(number)
                return
        if reason == frames.CANCELLED:
            self.cancelled = number
        elif self._softLimit is None:
            from asynqueue.errors import SoftTimeLimitExceeded

            self._softLimit = SoftTimeLimitExceeded
        self._interrupt = (number, reason)
        signal.pthread_kill(self._mainThread, SIGNAL)

    def _pong(self, number: int) -> None:
        from asynqueue.process.condition import condition

        self._write(frames.PONG, number, pickle.dumps(condition(self._mainThread), 5))

    def _interrupted(self, signum: int, frame: Any) -> None:
        """
        Raise an exception in the call that is to be interrupted. In the main thread, between two of its steps.
        """
        number = self._interrupt[0]
        if number and number == self._inUser:
            self._raiseInterrupt()

    def _raiseInterrupt(self) -> None:
        reason = self._interrupt[1]
        self._interrupt = (0, 0)
        if reason == frames.SOFT_LIMIT and self._softLimit is not None:
            raise self._softLimit("the call takes longer than its soft time limit")
        raise CallInterrupted("the call has been cancelled")


def openPage(path: str) -> Any:
    """
    Map the shared page, which has no name from then on.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.unlink(path)
        return memoryview(mmap(descriptor, 4096)).cast("Q")
    finally:
        os.close(descriptor)


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
