"""Where the benchmark keeps what it makes on demand: environments of peers, and older revisions.

Lives here: the one folder, in the working directory, beside the environments of the Makefile.  It can be deleted at
any time.
"""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    return Path.cwd() / ".bench" / name
