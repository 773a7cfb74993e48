"""Packages that tests need and that an environment may lack."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest


def needed_package(name: str, engine: str) -> None:
    """Skips the test, or the module that is being imported, where the package of an engine is not installed.

    Fails it where REQUIRE_… of the engine's name is set: where the package is to be there, its absence must not look
    like success.
    """
    if find_spec(name) is not None:
        return
    reason = f"{name} is not installed: the engine {engine} is NOT tested (pip install '.[{engine}]')"
    if os.environ.get(f"REQUIRE_{engine.upper()}"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
