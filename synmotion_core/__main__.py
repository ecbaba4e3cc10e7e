"""`python -m synmotion_core`: the command line, see cli.py."""

from __future__ import annotations

import sys

from synmotion_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
