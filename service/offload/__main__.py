"""`python -m offload` is `offload`.  Nothing happens on import: spawned children import this module again."""

from __future__ import annotations

import sys

from offload.cli import main

if __name__ == "__main__":
    sys.exit(main())
