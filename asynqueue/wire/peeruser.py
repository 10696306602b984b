"""
Which user's process is at the other end of a unix socket, as the system tells.
"""

from __future__ import annotations

import socket
import struct
import sys

#: Of macOS, and the same in FreeBSD: C{getsockopt(SOL_LOCAL, LOCAL_PEERCRED)} gives a C{struct xucred}.
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_XUCRED_START = "=II"


def peerUser(connection: socket.socket) -> int:
    """
    Return the number of the user at the other end of a connected unix socket: at that of a server, who the user of the
    client was when it connected; at that of a client, who the user of the server was when it began to listen.

    @raise OSError: The system does not tell.
    """
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, user, _ = struct.unpack("=iIi", packed)
        return int(user)
    if sys.platform == "darwin" or "bsd" in sys.platform:
        packed = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 256)
        version, user = struct.unpack_from(_XUCRED_START, packed)
        if version != 0:
            raise OSError(f"the system describes users in the unknown version {version}")
        return int(user)
    raise OSError(f"{sys.platform} does not tell which user is at the other end of a unix socket")
