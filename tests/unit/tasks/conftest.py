"""Writes task files for the tests, and removes their modules from the interpreter afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

WriteFile = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def forget_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if name.startswith("offload.tasks.served.") or (file is not None and "pytest-of-" in file):
            del sys.modules[name]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """Write a Python file below the test's own directory."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write
