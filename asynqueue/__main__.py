"""
C{python -m asynqueue}: the same as the command C{asynqueue}.
"""

from __future__ import annotations

import sys

from asynqueue.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
