"""`python -m offload` is the command `offload`.

Importing this module does nothing, because spawned child processes import it again.
"""

from __future__ import annotations

import sys

from offload.cli import main

if __name__ == "__main__":
    sys.exit(main())
