"""
A wire server behind mutual TLS, in a process of its own on this host, and a queue that is connected to it.
"""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

from asynqueue import TaskQueue
from asynqueue.wire import ServerManager, WireWorker
from asynqueue.wire.keyoffice import KeyOffice
from bench.wireuniverse import Universe


async def tlsQueue(reactor: Any) -> TaskQueue:
    """
    Make the keys, start the server, and connect to it.
    """
    folder = tempfile.mkdtemp()
    KeyOffice(f"{folder}/pki").create("bench", ["submit", "worker"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = f"keys={folder}/pki"
    manager = ServerManager("bench.wireuniverse.Universe", insecure_root=os.geteuid() == 0)
    await manager.spawn(f"aqtls:{port}:{keys}")
    queue = TaskQueue(returnFailure=True)
    await queue.attachWorker(WireWorker(Universe(), f"aqtls:127.0.0.1:{port}:node=bench:{keys}"))
    return queue
