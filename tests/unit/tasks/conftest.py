"""User's files for the tests, and an interpreter that has forgotten them afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

WriteFile = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def imports_are_forgotten() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if name.startswith("offload_file_") or (file is not None and "pytest-of-" in file):
            del sys.modules[name]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """Writes a Python file below a directory of this test's own."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write
