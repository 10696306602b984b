"""
Workers on other machines: who may connect to whom, and how it is made sure of.

Importing this package loads nothing else: each name comes from its module when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asynqueue.protocol.plain import registerClass
    from asynqueue.wire.endpoints import clientEndpoint, serverEndpoint
    from asynqueue.wire.fingerprints import ServerURL
    from asynqueue.wire.identity import Identity
    from asynqueue.wire.keys import TemporaryAuthority
    from asynqueue.wire.keystore import KeyStore
    from asynqueue.wire.limits import Limits
    from asynqueue.wire.manager import ServerManager
    from asynqueue.wire.registry import expose
    from asynqueue.wire.running import runServer
    from asynqueue.wire.server import WireServer
    from asynqueue.wire.switches import insecureSwitchesInUse
    from asynqueue.wire.tellings import registerError
    from asynqueue.wire.transports import IIdentifiedTransport
    from asynqueue.wire.universe import WireWorkerUniverse
    from asynqueue.wire.worker import WireWorker

__all__ = [
    "IIdentifiedTransport",
    "Identity",
    "KeyStore",
    "Limits",
    "ServerManager",
    "ServerURL",
    "TemporaryAuthority",
    "WireServer",
    "WireWorker",
    "WireWorkerUniverse",
    "clientEndpoint",
    "expose",
    "insecureSwitchesInUse",
    "registerClass",
    "registerError",
    "runServer",
    "serverEndpoint",
]

_HOMES = {
    "ServerManager": "asynqueue.wire.manager",
    "WireServer": "asynqueue.wire.server",
    "WireWorker": "asynqueue.wire.worker",
    "WireWorkerUniverse": "asynqueue.wire.universe",
    "expose": "asynqueue.wire.registry",
    "registerError": "asynqueue.wire.tellings",
    "runServer": "asynqueue.wire.running",
    "registerClass": "asynqueue.protocol.plain",
    "IIdentifiedTransport": "asynqueue.wire.transports",
    "Identity": "asynqueue.wire.identity",
    "KeyStore": "asynqueue.wire.keystore",
    "Limits": "asynqueue.wire.limits",
    "ServerURL": "asynqueue.wire.fingerprints",
    "TemporaryAuthority": "asynqueue.wire.keys",
    "clientEndpoint": "asynqueue.wire.endpoints",
    "insecureSwitchesInUse": "asynqueue.wire.switches",
    "serverEndpoint": "asynqueue.wire.endpoints",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
