"""
Misbehaviour for real child processes, as a script has it: deaths, delays, and things that will not travel.

Each function here is for a call on a L{ProcessQueue<asynqueue.ProcessQueue>}, and each object for its arguments::

    d = queue.call(faults.killMyself, signal.SIGSEGV)        # may be run again, and dies again: PoisonTask
    d = queue.call(faults.dieTimes, path, 2, "alive")        # dies twice, then returns C{"alive"}
    d = queue.call(len, [faults.Trap(unpickling="raise")])   # DecodeError

What a call is to do at some point is an act, by its name in L{ACTS}. Nothing here lasts longer than L{LONG} seconds, so
that nothing is left for long behind a test that fails. This module imports nothing that a child does not need.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

#: Seconds that what is meant to last for ever lasts.
LONG = 60.0

#: The descriptor over which a child reports its outcomes.
OUTCOMES = 4

#: What is made to grow by L{keepMemory}, and is never let go of.
_kept: list[bytearray] = []


class PlannedError(Exception):
    """
    What the act C{"raise"} raises.
    """


# Deaths


def killMyself(number: int = signal.SIGKILL) -> None:
    """
    Send this process a signal, without leaving a core file, and wait for what it does.
    """
    _leaveNoCore()
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(1.0)


def exitAtOnce(code: int = 0) -> None:
    """
    End this process without any cleaning up.
    """
    os._exit(code)


def complainAndExit(text: str, code: int = 1) -> None:
    """
    Write a text to standard error, and end this process.
    """
    os.write(2, f"{text}\n".encode())
    os._exit(code)


def exitThroughC(code: int = 0) -> None:
    """
    End this process as a C library does that calls C{exit}.
    """
    import ctypes

    ctypes.CDLL(None).exit(code)


def overflowStack() -> None:
    """
    Let C code use up its stack, which is a segmentation fault.
    """
    import faulthandler

    _leaveNoCore()
    overflow = getattr(faulthandler, "_stack_overflow", None)
    if overflow is not None:
        overflow()
    killMyself(signal.SIGSEGV)


def stopMyself() -> str:
    """
    Stop this process, so that it neither runs nor ends until another one continues it.
    """
    os.kill(os.getpid(), signal.SIGSTOP)
    return "continued"


def exhaustMemory(room: int = 64 << 20) -> int:
    """
    Ask for more memory than the system gives this process, whose limit is set to a little more than it has.

    @param room: How many bytes more.
    @raise MemoryError: Always.
    """
    import resource

    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    return len(bytearray(16 * room))


def dieTimes(path: str, times: int, value: object = None, act: str = "kill") -> object:
    """
    Do something fatal the first C{times} times, and then return a value.

    @param path: Of a file that counts, which need not exist yet.
    @param act: What to do, by its name in L{ACTS}.
    """
    if noteRun(path) <= times:
        ACTS[act]()
    return value


def noteRun(path: str, text: str = ".") -> int:
    """
    Note in a file that this has been called, which outlives the process.

    @param text: What is added to the file.
    @return: How long the file is, which is how often this has been done if each text is one character.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, text.encode("ascii"))
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def runsIn(path: str) -> str:
    """
    Return what L{noteRun} has put into a file.
    """
    try:
        with open(path, encoding="ascii") as notes:
            return notes.read()
    except FileNotFoundError:
        return ""


def killNeighbour(pid: int, number: int = signal.SIGKILL) -> int:
    """
    Send another process a signal.

    @return: This process's ID.
    """
    os.kill(pid, number)
    return os.getpid()


def killOnce(path: str, pid: int, seconds: float = 0.0, value: object = None) -> object:
    """
    Kill a process, if it is there and this is the first time, as a file knows; then sleep and return a value.

    @param path: Of a file that counts, which need not exist yet.
    """
    if noteRun(path) == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(seconds)
    return value


def replyOnceDead(path: str, act: str) -> Trap:
    """
    Note that this has been called, and return what does something fatal when it is pickled, the first time only.

    @param path: Of a file that counts, which need not exist yet.
    """
    return Trap(act if noteRun(path) == 1 else "")


def dieAfterReply(seconds: float = 0.02, act: str = "kill") -> str:
    """
    Return, and do something fatal a little later, in another thread.
    """
    threading.Timer(seconds, ACTS[act]).start()
    return "returned"


def _leaveNoCore() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# Delays


def hang() -> None:
    """
    Sleep, until interrupted.
    """
    time.sleep(LONG)


def ignoreInterrupts(seconds: float = LONG, path: str | None = None) -> str:
    """
    Go on for a number of seconds whatever is raised in this call, and with C{SIGTERM} ignored.

    @param path: Of a file in which each interrupt is noted.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(until - time.monotonic())
        except BaseException:  # that is what it is for
            if path is not None:
                noteRun(path)
    return "ignored"


def blockInC(seconds: float = LONG) -> str:
    """
    Sleep in C code that does not let any thread of Python's run, and that signals do not wake.
    """
    import ctypes

    library = ctypes.PyDLL(None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            library.usleep(int(1e6 * min(left, 100.0)) + 1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return "unblocked"


def spin(seconds: float) -> float:
    """
    Use the processor for a number of seconds.

    @return: That number.
    """
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return seconds


def noteAndSleep(path: str, seconds: float, value: object = None) -> object:
    """
    Note that this has been called, and return a value after a number of seconds.
    """
    noteRun(path)
    time.sleep(seconds)
    return value


def pidAfter(seconds: float) -> int:
    """
    Sleep for a number of seconds.

    @return: This process's ID.
    """
    time.sleep(seconds)
    return os.getpid()


def noteAndSpin(path: str, seconds: float) -> float:
    """
    Note that this has been called, and use the processor for a number of seconds.
    """
    noteRun(path)
    return spin(seconds)


def noteNumber(path: str, number: int) -> int:
    """
    Note a number, and a space, in a file.

    @return: The number.
    """
    noteRun(path, f"{number} ")
    return number


def noteStart(number: int) -> tuple[int, float]:
    """
    Return the number, and when this has been called, on a clock that all processes share.
    """
    return number, time.clock_gettime(time.CLOCK_MONOTONIC)


def attemptThatHangsOnce(path: str) -> int:
    """
    Note the number of the attempt that this is, and hang if it is the first.

    @return: The number.
    """
    from asynqueue.currentcall import currentCall

    call = currentCall()
    attempt = 0 if call is None else call.attempt
    noteRun(path, str(attempt))
    if attempt == 1:
        hang()
    return attempt


def cleanUpAfterLimit() -> str:
    """
    Hang, and return when the soft time limit is reached.
    """
    from asynqueue.errors import SoftTimeLimitExceeded

    try:
        hang()
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "not interrupted"


def cleanUp(path: str) -> None:
    """
    Hang, bear with each C{Exception}, and note C{"r"} at the beginning and C{"f"} in the end.
    """
    noteRun(path, "r")
    try:
        while True:
            with contextlib.suppress(Exception):
                hang()
    finally:
        noteRun(path, "f")


# What a call can know


def attributeOf(module: str, name: str) -> object:
    """
    Return an attribute of a module, as it is in this process.
    """
    from importlib import import_module

    return getattr(import_module(module), name)


def valueOf(module: str, name: str) -> object:
    """
    Return the value of a context variable.
    """
    variable: Any = attributeOf(module, name)
    return variable.get()


def valuesOf(module: str, name: str, number: int) -> Iterator[object]:
    """
    Give the value of a context variable several times.
    """
    for _ in range(number):
        yield valueOf(module, name)


def describeCurrentCall() -> dict[str, object]:
    """
    Tell of the call that this is.
    """
    from asynqueue.currentcall import currentCall

    call = currentCall()
    return {} if call is None else {"ID": call.ID, "attempt": call.attempt, "cancelled": call.cancelled}


# Misuse of what the child needs


def writeToDescriptor(descriptor: int = OUTCOMES, data: bytes = b"\xff" * 64) -> str:
    """
    Write what does not belong there.
    """
    os.write(descriptor, data)
    return "written"


def writeHalf(size: int = 1 << 20) -> None:
    """
    Write the beginning of a result to where outcomes go, and end the process.
    """
    from asynqueue.process.frames import RESULT, record

    os.write(OUTCOMES, record(RESULT, 1, bytes(size))[: min(size // 2, 32768)])
    killMyself()


def closeDescriptor(descriptor: int = OUTCOMES) -> str:
    """
    Close a descriptor that is the child's.
    """
    os.close(descriptor)
    return "closed"


def replaceDescriptor(descriptor: int = OUTCOMES, path: str = os.devnull) -> str:
    """
    Put a file into the place of a descriptor that is the child's.
    """
    other = os.open(path, os.O_RDWR)
    os.dup2(other, descriptor)
    os.close(other)
    return "replaced"


def printGarbage(size: int = 10 << 20, isBinary: bool = True, descriptor: int = 1, line: int = 0) -> int:
    """
    Write to standard output, or another descriptor.

    @param isBinary: Whether it is no text in any encoding.
    @param line: The length of a line; 0 for no end of line at all.
    @return: How much has been written.
    """
    piece = bytes(range(128, 256)) * 512 if isBinary else b"x" * 65536
    if line:
        piece = (piece[: line - 1].replace(b"\n", b" ") + b"\n") * (65536 // line)
    written = 0
    while written < size:
        written += os.write(descriptor, piece[: size - written])
    return written


def leaveGrandchild(seconds: float = LONG, act: str = "") -> int:
    """
    Start a grandchild that keeps all pipes of this process open.

    @param seconds: How long it stays.
    @param act: What this process does then, by its name in L{ACTS}.
    @return: The grandchild's process ID.
    """
    pid = os.fork()
    if not pid:
        time.sleep(seconds)
        os._exit(0)
    if act:
        ACTS[act]()
    return pid


def leaveProgram(seconds: float = LONG) -> int:
    """
    Start a program, which has none of this process's descriptors.

    @param seconds: How long it stays.
    @return: Its process ID.
    """
    import subprocess

    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"]).pid


def leaveThread(seconds: float = LONG) -> int:
    """
    Start a thread that an interpreter waits for at its end, and that takes so many seconds.

    @return: This process's ID.
    """
    threading.Thread(target=time.sleep, args=(seconds,)).start()
    return os.getpid()


def leaveDaemon(seconds: float = 1.0) -> int:
    """
    Start a daemon, in the way of daemons: in a session of its own, a child of nobody here, with all descriptors closed.

    @return: Its process ID.
    """
    readEnd, writeEnd = os.pipe()
    middle = os.fork()
    if not middle:
        os.setsid()
        daemon = os.fork()
        if daemon:
            os.write(writeEnd, str(daemon).encode("ascii"))
            os._exit(0)
        os.closerange(0, 256)
        time.sleep(seconds)
        os._exit(0)
    os.close(writeEnd)
    os.waitpid(middle, 0)
    try:
        return int(os.read(readEnd, 64))
    finally:
        os.close(readEnd)


def changeSurroundings(folder: str) -> str:
    """
    Change the directory, the mask of new files, the environment, and what signals do.
    """
    os.chdir(folder)
    os.umask(0o077)
    os.environ["ASYNQUEUE_CHANGED"] = "changed"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGURG, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    return os.getcwd()


def changeAndRaise(folder: str) -> None:
    """
    Change the directory, and raise an exception.
    """
    os.chdir(folder)
    raise PlannedError("elsewhere")


def surroundings() -> dict[str, object]:
    """
    Tell what L{changeSurroundings} changes.
    """
    mask = os.umask(0o022)
    os.umask(mask)
    return {
        "cwd": os.getcwd(),
        "umask": mask,
        "ASYNQUEUE_CHANGED": os.environ.get("ASYNQUEUE_CHANGED"),
        "SIGINT": signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.default_int_handler),
    }


def keepMemory(size: int) -> int:
    """
    Make this process larger, for good.

    @return: Its ID.
    """
    _kept.append(bytearray(b"x") * size)
    return os.getpid()


# Things that will not travel


class Trap:
    """
    An object that does something when it is pickled, and something when it is unpickled.
    """

    def __init__(self, pickling: str = "", unpickling: str = "") -> None:
        """
        @param pickling: What, by its name in L{ACTS}; nothing if empty.
        @param unpickling: Likewise.
        """
        self.pickling = pickling
        self.unpickling = unpickling

    def __repr__(self) -> str:
        return f"Trap({self.pickling!r}, {self.unpickling!r})"

    def __reduce__(self) -> Any:
        if self.pickling:
            ACTS[self.pickling]()
        return _sprung, (self.unpickling,)


def _sprung(unpickling: str) -> Trap:
    if unpickling:
        ACTS[unpickling]()
    return Trap()


def makeTrap(pickling: str = "", unpickling: str = "") -> Trap:
    """
    Return a trap, which is sprung on the way to the caller.
    """
    return Trap(pickling, unpickling)


def makeTrapThatRaises() -> Trap:
    """
    Return what raises an exception when it is unpickled.
    """
    return Trap(unpickling="raise")


def makeTrapThatExits() -> Trap:
    """
    Return what raises SystemExit when it is unpickled.
    """
    return Trap(unpickling="leave")


def makeHostileTrap() -> Trap:
    """
    Return what raises an exception when it is unpickled that does not let itself be shown.
    """
    return Trap(unpickling="hostile")


def makeLock() -> Any:
    """
    Return what cannot be pickled.
    """
    return threading.Lock()


def makeFunction() -> Callable[[], None]:
    """
    Return what cannot be pickled, for it is within a function.
    """

    def within() -> None:
        return

    return within


@contextlib.contextmanager
def makeContext() -> Iterator[str]:
    """
    Return a context manager, when it is called.
    """
    yield "entered"


async def makeCoroutine() -> str:
    """
    Return a coroutine, when it is called.
    """
    return "awaited"


async def makeAsyncGenerator() -> AsyncIterator[int]:
    """
    Return an asynchronous iterator, when it is called.
    """
    yield 1


def makeBytes(size: int) -> bytes:
    """
    Return so many bytes.
    """
    return bytes(size)


def makeNested(depth: int) -> list[Any]:
    """
    Return a list in a list in a list, and so on.
    """
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


# Errors


class NeedyError(Exception):
    """
    An exception that needs more arguments than it keeps.
    """

    def __init__(self, first: object, second: object, *, third: object) -> None:
        super().__init__(f"{first}, {second} and {third}")
        self.first = first


class LockedError(Exception):
    """
    An exception that cannot be pickled.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.lock = threading.Lock()


class TrapError(Exception):
    """
    An exception with a L{Trap} among its arguments.
    """


class HostileError(Exception):
    """
    An exception that does not let itself be shown.
    """

    def __init__(self, how: str) -> None:
        """
        @param how: The key of L{HOSTILE_TEXTS}.
        """
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:
        return HOSTILE_TEXTS[self.how]()

    __repr__ = __str__


def _textThatRaises() -> str:
    raise PlannedError("no text")


def _textThatExits() -> str:
    raise SystemExit(7)


def _textThatIsNone() -> str:
    return None  # type: ignore[return-value]


def _textThatRecurses() -> str:
    return _textThatRecurses() + "x"


#: What a L{HostileError} does when it is shown.
HOSTILE_TEXTS: dict[str, Callable[[], str]] = {
    "huge": lambda: "x" * (50 << 20),
    "raises": _textThatRaises,
    "exits": _textThatExits,
    "is no text": _textThatIsNone,
    "recurses": _textThatRecurses,
    "surrogates": lambda: "lone \udcff\ud800 surrogates",
    "escapes": lambda: "\x1b[2J\x1b]0;title\x07 and \r\b\x00 more",
}


def raiseNeedy() -> None:
    """
    Raise an exception that needs arguments.
    """
    raise NeedyError(1, 2, third=3)


def raiseLocked(*args: object) -> None:
    """
    Raise an exception that cannot be pickled.
    """
    raise LockedError(*args)


def raiseTrap(pickling: str = "", unpickling: str = "") -> None:
    """
    Raise an exception that springs a trap on its way.
    """
    raise TrapError(Trap(pickling, unpickling))


def raiseHostile(how: str) -> None:
    """
    Raise an exception that does not let itself be shown.
    """
    raise HostileError(how)


def raiseUnknown() -> None:
    """
    Raise an exception whose class is nowhere to be imported from.
    """

    class UnknownError(Exception):
        pass

    raise UnknownError("of a class that is known here only")


def raiseImpostor() -> None:
    """
    Raise an exception whose class, when it is looked up, is a function with consequences.
    """
    kind = type("impostor", (Exception,), {"__module__": __name__})
    raise kind("not what it seems")


def impostor(*args: object) -> None:
    """
    Must never be called.
    """
    noteRun(os.environ.get("ASYNQUEUE_IMPOSTOR", os.devnull))


def raiseChain(links: int = 10_000, isCyclic: bool = False) -> None:
    """
    Raise an exception with as many causes.

    @param isCyclic: Whether the last one's cause is the first.
    """
    first = error = ValueError("link 0")
    for number in range(1, links):
        cause = ValueError(f"link {number}")
        error.__cause__ = cause
        error = cause
    if isCyclic:
        error.__cause__ = first
    raise first


def raiseWithNotes() -> None:
    """
    Raise an exception with notes, an attribute, a cause and a context.
    """
    try:
        raise KeyError("the context")
    except KeyError:
        error = ValueError("the error", 42)
        error.add_note("a note")
        error.attribute = "kept"  # type: ignore[attr-defined]
        raise error from OSError(2, "the cause")


def raiseGroup() -> None:
    """
    Raise a group of exceptions.
    """
    raise ExceptionGroup("a group", [ValueError("one"), KeyError("two")])


def raiseWithLocals(size: int = 1 << 28) -> None:
    """
    Raise an exception from a frame that holds much.
    """
    much = bytes(size)
    raise ValueError(f"with {len(much)} bytes at hand")


# Iterators


def itemsThen(number: int, act: str = "", path: str | None = None, pause: float = 0.0) -> Iterator[int]:
    """
    Give the numbers below C{number}, then do something.

    @param act: What, by its name in L{ACTS}; nothing if empty.
    @param path: Of a file in which C{"y"} is noted for each item, and C{"f"} when the C{finally} clause is run.
    @param pause: Seconds before each item.
    """
    try:
        for item in range(number):
            if pause:
                time.sleep(pause)
            if path is not None:
                noteRun(path, "y")
            yield item
        if act:
            ACTS[act]()
    finally:
        if path is not None:
            noteRun(path, "f")


def endless(path: str | None = None, pause: float = 0.0) -> Iterator[int]:
    """
    Give one number after the other, for ever.
    """
    return itemsThen(sys.maxsize, path=path, pause=pause)


def itemsWith(number: int, make: Callable[[], object]) -> Iterator[object]:
    """
    Give the numbers below C{number}, then what a function makes, then more numbers.
    """
    yield from range(number)
    yield make()
    yield from range(number)


def itemsOf(size: int, number: int, last: int = 0) -> Iterator[bytes]:
    """
    Give so many items of a size, and a last one of another, if that is not 0.
    """
    for _ in range(number):
        yield bytes(size)
    if last:
        yield bytes(last)


def itemsAfterDeaths(path: str, times: int, number: int) -> Iterator[int]:
    """
    Die before the first item, the first C{times} times; then give the numbers below C{number}.
    """
    dieTimes(path, times)
    yield from range(number)


def refuseToClose(path: str) -> Iterator[int]:
    """
    Give numbers, and raise an exception when the iterator is closed.
    """
    try:
        yield from range(sys.maxsize)
    finally:
        noteRun(path, "f")
        raise PlannedError("the iterator was closed")


# Acts


def _raise() -> None:
    raise PlannedError("as planned")


def _leave() -> None:
    raise SystemExit(3)


def _recurse() -> None:
    _recurse()


def _nap() -> None:
    time.sleep(0.5)


def _raiseHostile() -> None:
    raise HostileError("raises")


#: What can be done at some point, by name.
ACTS: dict[str, Callable[[], object]] = {
    "raise": _raise,
    "leave": _leave,
    "recurse": _recurse,
    "kill": killMyself,
    "exit": exitAtOnce,
    "stop": stopMyself,
    "hang": hang,
    "block": blockInC,
    "half": writeHalf,
    "hostile": _raiseHostile,
    "nap": _nap,
    "nothing": int,
}


def perform(act: str) -> object:
    """
    Do something, by its name in L{ACTS}.
    """
    return ACTS[act]()


def performOnce(path: str, act: str) -> None:
    """
    Do something, by its name in L{ACTS}, unless it has been done before, as the file knows.
    """
    if noteRun(path) == 1:
        ACTS[act]()


def swallow(act: str) -> str:
    """
    Do something, and bear with any exception.
    """
    with contextlib.suppress(BaseException):
        ACTS[act]()
    return "swallowed"
