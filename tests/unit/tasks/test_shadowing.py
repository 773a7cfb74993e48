"""A file beside the tasks with the name of a module that this package needs: harmless, or named in the error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import offload
from offload.errors import TargetError
from offload.tasks.targets.shadowing import _own_modules, check_imports, import_needed, module_names_in

BOMB = "raise AssertionError('the file beside the tasks was imported')\n"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """On the path, as the directory of tasks is."""
    before = dict(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before.keys():
        if sys.modules[name] is None:
            del sys.modules[name]


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    return directory / "tasks.py"


def check(directory: Path, file: Path) -> None:
    import_needed(str(directory))
    check_imports(file, str(directory), named="tasks.py")


def test_files_and_packages_are_names(directory: Path) -> None:
    write(directory, one="", two="")
    (directory / "package").mkdir()
    (directory / "package" / "__init__.py").touch()
    (directory / "data").mkdir()
    (directory / "text.txt").touch()
    assert module_names_in(str(directory)) == {"one", "two", "package"}
    assert module_names_in(str(directory / "missing")) == frozenset()


@pytest.mark.parametrize("name", ["json", "random", "email", "pydantic", "numpy", "linecache", "tokenize"])
def test_a_file_that_nothing_of_the_users_imports_is_harmless(directory: Path, name: str) -> None:
    check(directory, write(directory, tasks="import os, helper\n", helper="x = 1\n", **{name: BOMB}))


@pytest.mark.parametrize(
    ("files", "importer"),
    [
        ({"tasks": "import json\n"}, "tasks.py"),
        ({"tasks": "def f():\n    from json import x\n"}, "tasks.py"),
        ({"tasks": "import helper\n", "helper": "import json.decoder\n"}, "helper.py"),
        ({"tasks": "import a\n", "a": "import b\n", "b": "import a, json\n"}, "b.py"),
    ],
)
def test_a_file_that_is_imported_is_named(directory: Path, files: dict[str, str], importer: str) -> None:
    file = write(directory, **files, json=BOMB)
    with pytest.raises(TargetError) as caught:
        check(directory, file)
    assert str(caught.value) == (
        f"tasks.py: {importer} imports 'json', which offload needs itself, so that json.py beside it cannot be "
        "imported; rename that file"
    )


def test_a_file_with_the_name_of_another_library_is_the_users(directory: Path) -> None:
    check(directory, write(directory, tasks="import requests, turtle\n", requests="", turtle=""))


def test_a_module_that_is_part_of_the_interpreter_hides_a_file_in_any_program(directory: Path) -> None:
    check(directory, write(directory, tasks="import time, sys\n", time=BOMB))


def test_a_relative_import_is_of_the_users_own_package(directory: Path) -> None:
    check(directory, write(directory, tasks="from .json import x\n", json=BOMB))


def test_what_cannot_be_parsed_is_left_to_the_import(directory: Path) -> None:
    check(directory, write(directory, tasks="import json\0", json=BOMB))
    check(directory, write(directory, tasks="import json (", json=BOMB))


def test_all_modules_that_a_worker_may_import_late_are_known() -> None:
    """Also those in the folders of a package."""
    package = Path(offload.__file__).parent
    files = [file for part in ("tasks", "wire", "worker") for file in (package / part).rglob("*.py")]
    modules = {".".join(("offload", *file.relative_to(package).with_suffix("").parts)) for file in files}
    assert {module for module in modules if not module.endswith("__init__")} <= set(_own_modules())
