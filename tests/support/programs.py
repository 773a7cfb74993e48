"""Programs that tests need and that a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def needed_program(name: str, without_it: str) -> str:
    """Return the program's path.  Skip the test if it is missing, or fail it if REQUIRE_<NAME> is set.

    Where the program is expected, its absence must not look like success.
    """
    # Debian installs some in folders that are on root's path only.
    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if program is None:
        reason = f"{name} is not installed: {without_it}"
        if os.environ.get(f"REQUIRE_{name.upper()}"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program
