"""The names of served files' modules: child processes of a task import the modules of what they unpickle."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from offload.errors import TargetError
from offload.tasks import served
from offload.tasks.targets.importing import import_file, import_source
from tests.unit.tasks.conftest import WriteFile

CODE = "class Point: ...\ndef square(n): return n * n\n"


def imported(path: Path) -> ModuleType:
    return import_file(str(path), named=path.name)


def in_another_process(value: Any) -> Any:
    """Unpickle a value as a process does that has the same `sys.path` and has imported nothing."""
    data = pickle.dumps(value)
    for other, module in list(sys.modules.items()):
        if "pytest-of-" in str(getattr(module, "__file__", "")) or other.startswith(f"{served.__name__}."):
            del sys.modules[other]
    importlib.invalidate_caches()
    return pickle.loads(data)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("shapes.py", "shapes"),
        ("my-shapes.py", "my-shapes"),
        ("my shapes.py", "my shapes"),
        ("größen.py", "größen"),
        ("class.py", "class"),
        ("a/deeper/shapes.py", "shapes"),
    ],
)
def test_a_file_is_imported_under_its_own_name(write_file: WriteFile, file: str, name: str) -> None:
    assert imported(write_file(file, CODE)).__name__ == name


@pytest.mark.parametrize("file", ["my-shapes.v2.py", "turtle.py", "json.py", "__main__.py", "__init__.py", "pytest.py"])
def test_a_file_whose_own_name_cannot_be_imported_has_a_name_of_its_own(write_file: WriteFile, file: str) -> None:
    """Its name has a dot, or belongs to the standard library, to Python itself, or to an installed module."""
    before = sys.modules.get(Path(file).stem)
    name = imported(write_file(file, CODE)).__name__
    assert name.startswith(f"{served.__name__}.")
    assert sys.modules.get(Path(file).stem) is before


def test_a_file_does_not_hide_an_installed_module(write_file: WriteFile) -> None:
    sys.path.append(str(write_file("installed/solver.py", "").parent))
    module = imported(write_file("served/solver.py", CODE))
    assert "solver" not in sys.modules
    assert module.Point.__module__ == module.__name__


def test_a_file_is_not_mistaken_for_a_package_beside_it(write_file: WriteFile) -> None:
    write_file("shapes/__init__.py", "")
    path = write_file("shapes.py", CODE)
    assert imported(path).__file__ == str(path)


def test_a_folder_of_the_same_name_is_no_obstacle(write_file: WriteFile) -> None:
    write_file("shapes/data.txt", "")
    assert imported(write_file("shapes.py", CODE)).__name__ == "shapes"


@pytest.mark.parametrize("file", ["shapes.py", "my-shapes.py", "my-shapes.v2.py", "turtle.py", "__init__.py"])
def test_another_process_finds_the_file(write_file: WriteFile, file: str) -> None:
    path = write_file(file, CODE)
    module = imported(path)
    square = in_another_process(module.square)
    assert (square(3), square.__code__.co_filename) == (9, str(path))
    assert square.__module__ == module.__name__


def test_another_process_finds_the_right_one_of_two_files_with_one_name(write_file: WriteFile) -> None:
    modules = [imported(write_file(f"{folder}/shapes.py", f"def where(): return {folder!r}")) for folder in "abc"]
    assert len({module.__name__ for module in modules}) == 3
    functions = in_another_process([module.where for module in modules])
    assert [function() for function in functions] == ["a", "b", "c"]


def test_another_process_finds_the_file_although_its_code_changes_the_path(write_file: WriteFile) -> None:
    other = write_file("lib/shapes.py", "def square(n): return 'wrong'").parent
    module = imported(write_file("shapes.py", f"import sys\nsys.path.insert(0, {str(other)!r})\n{CODE}"))
    assert in_another_process(module.square)(3) == 9


def test_the_directories_of_files_keep_their_order(write_file: WriteFile) -> None:
    """A file's own modules come first, even if another file is served beside it."""
    write_file("b/first.py", "wrong")
    files = [imported(write_file(name, CODE)).__file__ for name in ("a/first.py", "b/second.py")]
    first, second = (sys.path.index(str(Path(str(file)).parent)) for file in files)
    assert second == first + 1


def test_a_link_is_the_file_that_it_names(write_file: WriteFile, tmp_path: Path) -> None:
    real = write_file("folder/real.py", CODE)
    link = tmp_path / "link.py"
    link.symlink_to(real)
    module = imported(link)
    assert module.__name__ == "link"
    assert in_another_process(module.square)(3) == 9


def test_a_module_beside_the_file_imports_the_same_module(write_file: WriteFile) -> None:
    write_file("helper.py", "import shapes\nPoint = lambda: shapes.Point()")
    module = imported(write_file("shapes.py", f"import helper\n{CODE}"))
    assert type(module.helper.Point()) is module.Point


def test_a_module_that_was_imported_earlier_is_not_imported_again(write_file: WriteFile) -> None:
    path = write_file("shapes.py", CODE)
    sys.path.insert(0, str(path.parent))
    assert imported(path) is importlib.import_module("shapes")


def test_a_file_is_imported_once(write_file: WriteFile) -> None:
    for file in ("shapes.py", "my-shapes.v2.py"):
        path = write_file(file, CODE)
        assert imported(path) is imported(path)


@pytest.mark.parametrize("file", ["shapes.py", "my-shapes.v2.py"])
def test_a_relative_import_of_a_file_is_rejected(write_file: WriteFile, file: str) -> None:
    with pytest.raises(TargetError) as caught:
        imported(write_file(file, "from . import served"))
    assert "attempted relative import with no known parent package" in str(caught.value)


def test_a_text_is_found_in_the_file_that_still_has_it(write_file: WriteFile) -> None:
    path = write_file("shapes.py", CODE)
    module = import_source(str(path), CODE, named=path.name)
    assert in_another_process(module.square)(3) == 9
    module = import_source(str(path), f"{CODE}\n", named=path.name)
    with pytest.raises(ModuleNotFoundError):
        in_another_process(module.square)


def test_files_that_cannot_be_read_are_not_found(write_file: WriteFile) -> None:
    path = write_file("shapes.py", CODE)
    name = served.name_of_text(str(path), CODE)
    path.write_bytes(b"\xff")
    sys.path[:0] = [str(path.parent), str(path.parent / "missing"), ""]
    assert importlib.util.find_spec(name) is None
    assert importlib.util.find_spec(f"{served.__name__}.unknown") is None
