"""What a target that cannot be imported says: the place, the reason and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from offload.errors import TargetError, TaskDefinitionError
from offload.tasks.targets.loading import load, parse_target
from tests.unit.tasks.conftest import WriteFile

TASK = "from offload import task\n@task\ndef run(): ...\n"
FILES = {
    "tasks.py": TASK,
    "shop/__init__.py": "",
    "shop/prices.py": "x = 1",
    "shop/tasks.py": f"{TASK}from .prices import x",
    "shop/my-tasks.py": f"{TASK}from .prices import x",
    "shop/sub/__init__.py": "",
    "shop/sub/deep.py": f"{TASK}from ..prices import x",
    "plain/tasks.py": f"{TASK}from . import prices",
    "plain/inner/tasks.py": f"{TASK}from ..prices import x",
    "lonely.py": f"{TASK}from ownerless import x",
    "ownerless.py": "from .other import x",
    "circle/__init__.py": "",
    "circle/one.py": "from circle.two import y\nx = 1",
    "circle/two.py": "from circle.one import x\ny = 1",
    "round.py": f"{TASK}from circle.one import x",
    "bundle/__init__.py": "",
    "bundle/first.py": TASK,
    "bundle/second.py": "import offload\n\n@offload.task(timeout=5)\ndef run(): ...",
    "bundle/none.py": "x = 1",
    "loose/first.py": TASK,
    "outer.py": "import middle",
    "middle.py": "\n\nimport inner_most",
    "inner_most.py": "def count():\n    int('x')\ncount()",
    "bad_outer.py": "import bad_inner",
    "bad_inner.py": "x = (",
    "reads.py": "import json\nimport reads_json",
    "reads_json.py": "import json\njson.loads('')",
    "wants.py": "import wants_more",
    "wants_more.py": "import numpyy.linalg",
    "wants_part.py": "import json.no_such_part",
    "asks.py": "raise EOFError('EOF when reading a line')",
    "parses.py": "import argparse\nargparse.ArgumentParser().parse_args(['--speed'])",
    "evaluates.py": "eval('(')",
    "tabs.py": "if 1:\n\tx = 1\n        y = 2\n",
    "starred.py": "import offload\n\n\n@offload.task\nasync def run(): ...",
    "failing/__init__.py": "1 / 0",
    "failing/tasks.py": TASK,
    "tasks.ipynb": "{}",
    "bundle.zip": "",
    "old.pyc": "",
    "fast.so": "",
    "tasks.txt": "",
    "no_suffix": "",
    "only/here.py": TASK,
    "guarded.py": "from offload import task\nif __name__ == '__main__':\n    @task\n    def run(): ...",
    "lost.py": "from offload import task\ndef forget(function): ...\n@forget\n@task\ndef run(): ...",
    "unknown_import.py": "raise ModuleNotFoundError('not today')",
    "models.py": "import pydantic\n\nclass Point(pydantic.BaseModel):\n    x: int\n\nPoint(x='a')",
    "uses_models.py": "import models",
}
BYTES = {
    "with_bom.py": b"\xef\xbb\xbf" + TASK.encode(),
    "latin.py": b"x = 'caf\xe9'\n",
    "utf_16.py": TASK.encode("utf-16"),
    "cookie.py": b"# coding: klingon\n",
}
RELATIVE = "ImportError: attempted relative import with no known parent package"
GUARD = 'put what must not run at import below `if __name__ == "__main__":`'
TOP_LEVEL = "define the function at the top level of the module, where its name must still refer to it"
ALL_SERVED = "all of its tasks are served"


@pytest.fixture
def directory(write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        write_file(name, text)
    for name, data in BYTES.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("shop/tasks.py", f"line 4: {RELATIVE}; serve it as `shop.tasks`"),
        ("shop/sub/deep.py", f"line 4: {RELATIVE}; serve it as `shop.sub.deep`"),
        ("plain/tasks.py", f"line 4: {RELATIVE}; serve it as `plain.tasks`"),
        ("plain/inner/tasks.py", f"line 4: {RELATIVE}; serve it as `plain.inner.tasks`"),
        (
            "shop/my-tasks.py",
            f"line 4: {RELATIVE}; rename 'my-tasks', which cannot be a part of a module's name, and serve the file as "
            "a module",
        ),
        (
            "lonely.py",
            f"line 4: {RELATIVE} (raised in ownerless.py, line 1); import this module as a part of its package",
        ),
        (
            "round.py",
            "line 4: ImportError: cannot import name 'x' from partially initialized module 'circle.one' (most likely "
            "due to a circular import) (raised in circle/two.py, line 1); the modules import each other (round.py "
            "imports circle/one.py, circle/one.py imports circle/two.py); move one import into the function that "
            "needs it",
        ),
        (
            "outer.py",
            "line 1: ValueError: invalid literal for int() with base 10: 'x' (raised in inner_most.py, line 2)",
        ),
        ("outer", "line 1: ValueError: invalid literal for int() with base 10: 'x' (raised in inner_most.py, line 2)"),
        ("bad_outer.py", "line 1: syntax error in bad_inner.py, line 1: '(' was never closed"),
        (
            "reads.py",
            "line 2: JSONDecodeError: Expecting value: line 1 column 1 (char 0) (raised in reads_json.py, line 2)",
        ),
        (
            "wants.py",
            "line 1: ModuleNotFoundError: No module named 'numpyy' (raised in wants_more.py, line 1); install the "
            "package that provides 'numpyy' for the Python that runs this service, or correct the name",
        ),
        (
            "wants_part.py",
            "line 1: ModuleNotFoundError: No module named 'json.no_such_part'; correct the name",
        ),
        ("asks.py", f"line 1: EOFError: EOF when reading a line; input is not available at import; {GUARD}"),
        ("parses.py", f"line 2: the file ended the program while it was imported (SystemExit: 2); {GUARD}"),
        ("evaluates.py", "line 1: SyntaxError: '(' was never closed (<string>, line 1)"),
        (
            "uses_models.py",
            "line 1: ValidationError: 1 validation error for Point x Input should be a valid integer, unable to parse "
            "string as an integer [type=int_parsing, input_value='a', input_type=str] (raised in models.py, line 6)",
        ),
        ("guarded.py", f"no task found, although line 3 has `@task`; {TOP_LEVEL}"),
        ("lost.py", f"no task found, although line 4 has `@task`; {TOP_LEVEL}"),
        ("unknown_import.py", "line 1: ModuleNotFoundError: not today"),
        ("tabs.py", "syntax error in tabs.py, line 3: inconsistent use of tabs and spaces in indentation"),
        ("failing.tasks", "failing/__init__.py, line 1: ZeroDivisionError: division by zero"),
        ("cookie.py", "syntax error in cookie.py: unknown encoding: klingon; save the file as UTF-8 text"),
        (
            "latin.py",
            "syntax error in latin.py, line 1: (unicode error) 'utf-8' codec can't decode byte 0xe9 in position 3: "
            "unexpected end of data; save the file as UTF-8 text",
        ),
        (
            "bundle",
            "no task found; the package itself has no task; serve a module in it, such as `bundle.first` or "
            "`bundle.second`",
        ),
        ("loose", "no task found; the package itself has no task; serve a module in it, such as `loose.first`"),
        ("bundle/", "this is a directory; name a module in it, such as `bundle.first` or `bundle.second`"),
        ("./loose", "this is a directory; name a file in it, such as `loose/first.py`"),
        ("./plain", "this is a directory; name a file in it, such as `plain/tasks.py`"),
        (
            "tasks.ipynb",
            "a notebook is not a Python file; export it with `jupyter nbconvert --to script tasks.ipynb`",
        ),
        (
            "missing.ipynb",
            "a notebook is not a Python file; export it with `jupyter nbconvert --to script missing.ipynb`",
        ),
        ("bundle.zip", "this is an archive; unpack it, or put it on PYTHONPATH and name a module in it"),
        ("old.pyc", "this is compiled; name its source, which ends in .py"),
        ("fast.so", "this is an extension module; serve a Python file that imports it"),
        ("tasks.txt", "not a Python file; the name must end in .py"),
        ("no_suffix", "not a Python file; the name must end in .py"),
        ("tsks.py", "no such file; did you mean `tasks.py`?"),
        ("shop.tasks.py", "no such file; did you mean `shop/tasks.py`?"),
        ("only/here", "no such file or module; did you mean `only/here.py`?"),
        ("tasks.py:run", f"name a file or module only, `tasks.py`; {ALL_SERVED}"),
        ("tasks.py::run", f"name a file or module only, `tasks.py`; {ALL_SERVED}"),
        ("tasks:run", f"name a file or module only, `tasks`; {ALL_SERVED}"),
        ("shop.tasks:make()", f"name a file or module only, `shop.tasks`; {ALL_SERVED}"),
        ("tasks.run", f"'tasks' is a module, not a package; name it without `.run`: {ALL_SERVED}"),
    ],
)
def test_a_target_that_cannot_be_imported_names_the_place_and_the_remedy(target: str, problem: str) -> None:
    assert str(error_of(target)) == f"{target}: {problem}"


@pytest.mark.usefixtures("directory")
def test_a_file_of_null_bytes_is_reported_as_not_being_text() -> None:
    """Python 3.11 raises a ValueError, later versions a SyntaxError."""
    assert error_of("utf_16.py").problem.endswith(
        "source code string cannot contain null bytes; save the file as UTF-8 text"
    )


@pytest.mark.usefixtures("directory")
def test_a_file_with_a_byte_order_mark_is_served() -> None:
    assert [task.name for task in load([parse_target("with_bom.py")]).tasks] == ["run"]


@pytest.mark.parametrize(
    ("working_directory", "target", "remedy"),
    [
        ("shop", "tasks.py", "serve it as `shop.tasks` from the directory `..`"),
        ("shop", "sub.deep", "serve it as `shop.sub.deep` from the directory `..`"),
        ("plain", "../shop/tasks.py", "serve it as `shop.tasks` from the directory `..`"),
        ("shop", "{}/shop/tasks.py", "serve it as `shop.tasks` from the directory `{}`"),
    ],
)
def test_a_relative_import_is_reported_with_the_directory_to_serve_from(
    directory: Path, monkeypatch: pytest.MonkeyPatch, working_directory: str, target: str, remedy: str
) -> None:
    monkeypatch.chdir(directory / working_directory)
    problem = error_of(target.format(directory)).problem
    assert problem.rpartition("; ")[2] == remedy.format(directory)


def test_a_file_that_imports_its_own_package_by_name_is_to_be_served_as_a_module(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file("inside_shop/__init__.py", "")
    write_file("inside_shop/tasks.py", "import inside_shop.prices")
    monkeypatch.chdir(tmp_path / "inside_shop")
    assert error_of("tasks.py").problem == (
        "line 1: ModuleNotFoundError: No module named 'inside_shop'; serve it as `inside_shop.tasks` from the "
        "directory `..`"
    )


@pytest.mark.usefixtures("directory")
def test_the_stack_of_a_nested_error_is_kept_for_the_log() -> None:
    """It names the lines of the user's files, and neither this package nor the import system."""
    stack = error_of("outer.py").stack
    names = ["outer.py", "middle.py", "inner_most.py", "inner_most.py"]
    assert [Path(line.split('"')[1]).name for line in stack.splitlines() if "File " in line] == names
    assert stack.rstrip().endswith("ValueError: invalid literal for int() with base 10: 'x'")
    assert error_of("failing.tasks").stack == ""


@pytest.mark.usefixtures("directory")
def test_a_function_that_cannot_be_a_task_is_reported_with_its_place() -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        load([parse_target("starred.py")])
    assert str(caught.value).startswith("task 'run' (starred.py:4): `async def` is not supported")


def error_of(target: str) -> TargetError:
    with pytest.raises(TargetError) as caught:
        load([parse_target(target)])
    return caught.value
