"""Packages that tests need and that an environment may lack."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest


def needed_package(name: str, without_it: str) -> None:
    """Skip the test, or the module that is being imported, if the package is not installed.

    Fail it if REQUIRE_<NAME> is set: where the package is expected, its absence must not look like success.
    """
    if find_spec(name) is not None:
        return
    reason = f"{name} is not installed: {without_it}"
    if os.environ.get(f"REQUIRE_{name.upper()}"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
