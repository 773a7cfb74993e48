"""Programs that tests need and that a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def needed_program(name: str, without_it: str) -> str:
    """The program's path.  Skips the test where there is none, or fails it where REQUIRE_… of its name is set.

    Where it is to be there, its absence must not look like success.
    """
    # Debian has some where only root looks.
    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if program is None:
        reason = f"{name} is not installed: {without_it}"
        if os.environ.get(f"REQUIRE_{name.upper()}"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program
