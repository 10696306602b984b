"""
The parent's main module, loaded in the child under another name, so that what it defines can be unpickled.
"""

from __future__ import annotations

import os
import sys
import types

#: What a child calls the parent's main module. It is C{__main__} as well, but its C{__name__} is this, so that a
#: program's C{if __name__ == "__main__"} does not run.
NAME = "__mp_main__"


#: Why it could not be loaded, or an empty text; C{None} as long as nobody has tried.
_failure: str | None = None


def ensureMain(name: str, path: str) -> None:
    """
    Load it, as L{loadMain} does, unless that has been done.

    @raise ImportError: It cannot be loaded.
    """
    global _failure
    if _failure is None:
        try:
            loadMain(name, path)
            _failure = ""
        except BaseException as error:  # the program's own code runs, and may even exit
            _failure = f"{type(error).__name__}: {error}"
    if _failure:
        raise ImportError(
            f"the program's main module, {path or name}, could not be loaded in the child: {_failure}. "
            'What starts the program must be under `if __name__ == "__main__":`'
        )


def loadMain(name: str, path: str) -> None:
    """
    Load it, by its module name or else its path; if it has neither, as in an interactive session, do nothing.

    @see: C{multiprocessing.spawn}, of which programs know it.
    """
    import runpy

    if name:
        found = runpy.run_module(name, run_name=NAME, alter_sys=True)
    elif path:
        found = runpy.run_path(path, run_name=NAME)
    else:
        return
    module = types.ModuleType(NAME)
    module.__dict__.update(found)
    sys.modules["__main__"] = sys.modules[NAME] = module


def mainOf() -> tuple[str, str]:
    """
    Return the name and the path of this process's main module, as far as it has them.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        # python -m package runs package.__main__, whose name tells that; a folder or an archive that is run is nothing
        # that could be imported.
        return ("" if spec.name == "__main__" else spec.name), ""
    path = getattr(main, "__file__", None)
    # A program that comes over standard input has a path that leads nowhere.
    return "", path if path and os.path.exists(path) else ""
