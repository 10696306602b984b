"""
C{python -m asynqueue.wire DESCRIPTION [UNIVERSE]}: a server as a program of its own.
"""

from __future__ import annotations

from asynqueue.wire.running import main

if __name__ == "__main__":
    main()
