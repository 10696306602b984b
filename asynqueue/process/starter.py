"""
Starting a child: a fresh interpreter with the parent's path and directory and an explicit environment.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Mapping
from typing import Any

from twisted.internet.protocol import ProcessProtocol

#: What the child runs: reads its settings, which come first over the data pipe, and becomes a child. It leaves one name
#: in C{__main__}, so that nothing there is taken for what the parent's main module has.
BOOTSTRAP = """\
def _becomeChild():
    import marshal, os, sys
    def read(size):
        data = b""
        while len(data) < size:
            more = os.read(3, size - len(data))
            if not more:
                os._exit(0)
            data += more
        return data
    try:
        os.setsid()
    except OSError:
        pass
    settings = marshal.loads(read(int.from_bytes(read(8), "little")))
    sys.path[:] = settings["path"]
    os.chdir(settings["cwd"])
    __import__(settings["module"], fromlist=["main"]).main(settings)
_becomeChild()
"""


def packSettings(settings: Mapping[str, Any]) -> bytes:
    """
    Return what L{BOOTSTRAP} reads, for settings that C{marshal} knows.
    """
    whole = {"path": [each for each in sys.path if isinstance(each, str)], "cwd": os.getcwd(), **settings}
    data = marshal.dumps(whole)
    return len(data).to_bytes(8, "little") + data


def start(protocol: ProcessProtocol, environment: Mapping[str, str]) -> None:
    """
    Start a child with its pipes: control at 0, output at 1 and 2, data at 3 and outcomes at 4.

    @param protocol: Gets the process; its transport's C{pid} is that of the child.
    @raise OSError: The system cannot start a process.
    """
    # It installs the reactor when it is imported.
    from ampoule.main import ProcessStarter

    ProcessStarter(bootstrap=BOOTSTRAP, env=dict(environment)).startPythonProcess(protocol)
