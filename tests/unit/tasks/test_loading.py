"""What can be served, and the messages for targets that cannot."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from offload.errors import TargetError, TaskDefinitionError
from offload.tasks.definition.decorators import task
from offload.tasks.targets.loading import Registry, Target, load, parse_target, targets_from_json, targets_to_json
from tests.unit.tasks.conftest import WriteFile

TWO_TASKS = """
    from offload.tasks.definition.decorators import on_worker_start, task

    loaded = []

    @task
    def second(x): return x

    @on_worker_start
    def load_model(): loaded.append("model")

    @task(name="first")
    def other(): return len(loaded)
"""

INSTALL = "install the package that provides '{}' for the Python that runs this service, or correct the name"
GUARD = 'put what must not run at import below `if __name__ == "__main__":`'

# The head of a file with decorators.
HEAD = """
import functools
from offload.tasks.definition.decorators import task

def doubled(function):
    return functools.wraps(function)(lambda x: 2 * function(x))

"""


@task
def here() -> str:
    return "here"


def plain() -> None: ...


def served(*targets: object) -> Registry:
    return load([parse_target(target) for target in targets])  # type: ignore[arg-type]  # invalid targets too


def names(registry: Registry) -> list[str]:
    return [task.name for task in registry.tasks]


def problem_with(*targets: object) -> str:
    with pytest.raises(TargetError) as caught:
        served(*targets)
    return str(caught.value)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield


def test_tasks_of_a_file_keep_their_order(write_file: WriteFile) -> None:
    registry = served(write_file("tasks.py", TWO_TASKS))
    assert [(task.index, task.name) for task in registry.tasks] == [(0, "second"), (1, "first")]


def test_worker_start_hooks_are_collected(write_file: WriteFile) -> None:
    registry = served(write_file("tasks.py", TWO_TASKS))
    for hook in registry.hooks:
        hook()
    assert registry.tasks[1].definition.function() == 1


def test_targets_keep_their_order(write_file: WriteFile) -> None:
    one = write_file("one.py", "from offload import task\n@task\ndef b(): ...")
    two = write_file("two.py", "from offload import task\n@task\ndef a(): ...")
    assert names(served(two, one)) == ["a", "b"]


def test_a_target_given_twice_is_served_once(write_file: WriteFile) -> None:
    path = write_file("tasks.py", TWO_TASKS)
    registry = served(path, str(path))
    assert names(registry) == ["second", "first"]
    assert len(registry.hooks) == 1


@pytest.mark.usefixtures("in_tmp")
def test_a_module_is_found_in_the_working_directory(write_file: WriteFile) -> None:
    write_file("package/__init__.py", "")
    write_file("package/work.py", "from .base import task\n@task\ndef run(): ...")
    write_file("package/base.py", "from offload import task")
    assert names(served("package.work")) == ["run"]


@pytest.mark.usefixtures("in_tmp")
def test_a_package_directory_is_served_as_a_module(write_file: WriteFile) -> None:
    write_file("bundle/__init__.py", "from bundle.work import run")
    write_file("bundle/work.py", "from offload import task\n@task\ndef run(): ...")
    assert names(served("bundle")) == ["run"]


def test_a_file_can_import_modules_beside_it(write_file: WriteFile) -> None:
    write_file("neighbour.py", "limit = 7")
    path = write_file(
        "tasks.py",
        "import neighbour\nfrom offload import task\n@task\ndef run(x=neighbour.limit): ...",
    )
    assert names(served(path)) == ["run"]


@pytest.mark.parametrize("name", ["shared_tasks", "turtle"])
def test_a_task_found_in_two_files_is_served_once(write_file: WriteFile, name: str) -> None:
    """A file with the name of a standard module, served and imported by another one, is two modules, but one task."""
    shared = write_file(f"{name}.py", "from offload import task\n@task\ndef run(): ...")
    other = write_file(
        "other.py",
        f"from {name} import run\nfrom offload import task\n@task\ndef more(): ...",
    )
    assert names(served(shared, other)) == ["run", "more"]


def test_classes_of_a_file_can_be_pickled_and_used_in_annotations(write_file: WriteFile) -> None:
    path = write_file(
        "tasks.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from offload.tasks.definition.decorators import task

        @task
        def run(point: Point) -> Point: return point

        @dataclass
        class Point:
            x: int
        """,
    )
    (loaded,) = served(path).tasks
    point = loaded.compiled.validate({"point": {"x": 1}})["point"]
    assert pickle.loads(pickle.dumps(point)) == point


def test_a_decorator_above_task_is_applied(write_file: WriteFile) -> None:
    path = write_file(
        "tasks.py",
        """
        import functools
        from offload.tasks.definition.decorators import task

        def doubled(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs): return 2 * function(*args, **kwargs)
            return wrapper

        @doubled
        @task
        def run(x: int): return x
        """,
    )
    (loaded,) = served(path).tasks
    assert loaded.compiled.call({"x": 4}) == 8


def test_a_function_can_be_a_target() -> None:
    registry = served(here)
    assert names(registry) == ["here"]
    assert registry.tasks[0].definition.function is here


def test_targets_survive_json_and_pickle(write_file: WriteFile) -> None:
    targets = tuple(parse_target(target) for target in (write_file("a.py", TWO_TASKS), "some.module", here))
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets)))) == targets
    assert pickle.loads(pickle.dumps(targets)) == targets


@pytest.mark.service
def test_a_script_can_serve_its_own_functions(write_file: WriteFile) -> None:
    """Another process finds functions of `__main__`; this process does not import them twice."""
    program = write_file(
        "program.py",
        """
        import json, subprocess, sys
        from offload.tasks.definition.decorators import task
        from offload.tasks.targets.loading import load, parse_target, targets_to_json

        @task
        def run(): ...

        if __name__ == "__main__":
            target = parse_target(run)
            assert load([target]).tasks[0].definition.function is run
            print(json.dumps(targets_to_json([target])))
        """,
    )
    printed = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, env=os.environ)
    assert names(load(targets_from_json(json.loads(printed.stdout)))) == ["run"]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.py", "x = 1", "no task found; write `from offload import task` and put `@task` above a function"),
        ("a.py", "x = (", "syntax error in a.py, line 1: '(' was never closed"),
        ("a.py", "\n\nraise ValueError('no model')", "line 3: ValueError: no model"),
        ("a.py", "import json\njson.loads('')", "line 2: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        (
            "a.py",
            "\nimport not_there_at_all",
            f"line 2: ModuleNotFoundError: No module named 'not_there_at_all'; {INSTALL.format('not_there_at_all')}",
        ),
        (
            "a.py",
            "raise SystemExit(3)",
            f"line 1: the file ended the program while it was imported (SystemExit: 3); {GUARD}",
        ),
        ("a.txt", "x = 1", "not a Python file; the name must end in .py"),
    ],
)
def test_a_broken_file_is_reported_in_one_line(write_file: WriteFile, name: str, text: str, problem: str) -> None:
    path = write_file(name, text)
    assert problem_with(path) == f"{path}: {problem}"


def test_a_file_that_failed_can_be_fixed_and_loaded(write_file: WriteFile) -> None:
    path = write_file("tasks.py", "raise ValueError")
    problem_with(path)
    write_file("tasks.py", TWO_TASKS)
    assert names(served(path)) == ["second", "first"]


def test_a_target_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    missing, directory = tmp_path / "none.py", f"{tmp_path}/"
    assert problem_with(missing) == f"{missing}: no such file"
    assert problem_with(directory) == (
        f"{directory}: this is a directory; name a file in it, or a module such as package.module"
    )
    assert problem_with("not a module") == "not a module: no such file or module"
    assert problem_with("") == "'': neither a file nor a module name"
    assert problem_with() == "nothing to serve; name a file or a module that defines tasks"


@pytest.mark.usefixtures("in_tmp")
def test_a_missing_module_differs_from_a_module_with_a_missing_import(write_file: WriteFile, tmp_path: Path) -> None:
    missing = f"no such module; it is neither installed nor in {tmp_path}"
    assert problem_with("nowhere.tasks") == f"nowhere.tasks: {missing}"
    write_file("incomplete.py", "import nowhere.tasks")
    assert (
        problem_with("incomplete")
        == f"incomplete: line 1: ModuleNotFoundError: No module named 'nowhere'; {INSTALL.format('nowhere')}"
    )


def test_two_tasks_with_one_name_are_reported_with_both_locations(write_file: WriteFile) -> None:
    text = "from offload import task\n@task\ndef run(): ..."
    one, two = write_file("one.py", text), write_file("two.py", f"\n{text}")
    assert problem_with(one, two) == (
        f"{two}: two tasks are named 'run': one.py:2 and two.py:3; rename one with @task(name=…)"
    )


@pytest.mark.parametrize("decorators", ["@task", "@doubled\n@task", "@task\n@functools.lru_cache", "@task\n@doubled"])
def test_two_tasks_with_one_name_in_one_file_are_reported(write_file: WriteFile, decorators: str) -> None:
    """The namespace holds only the second task, so the first would be lost silently."""
    path = write_file("tasks.py", HEAD + 2 * f"# here\n{decorators}\ndef run(x): return x\n")
    lines = path.read_text().splitlines()
    one, two = (number + 1 for number, line in enumerate(lines, 1) if line == "# here")
    assert f"two tasks are named 'run': tasks.py:{one} and tasks.py:{two}; rename one" in problem_with(path)


@pytest.mark.usefixtures("in_tmp")
def test_a_duplicate_task_is_found_through_a_package_that_imports_it(write_file: WriteFile) -> None:
    write_file("passes_on/__init__.py", "from passes_on.work import run")
    write_file(
        "passes_on/work.py",
        "from offload import task\n@task\ndef run(): ...\n@task\ndef run(x: int): ...",
    )
    assert "two tasks are named 'run': work.py:2 and work.py:4" in problem_with("passes_on")


@pytest.mark.usefixtures("in_tmp")
def test_a_reloaded_module_has_each_task_once(write_file: WriteFile) -> None:
    """A reload runs the module in its old namespace, which still holds the old tasks, perhaps from other lines."""
    text = "from offload import task\n@task\ndef run(): ..."
    write_file("changing.py", text)
    assert names(served("changing")) == ["run"]
    write_file("changing.py", f"# moved\n{text}")
    importlib.reload(sys.modules["changing"])
    (reloaded,) = served("changing").tasks
    assert reloaded.definition.function.__code__.co_firstlineno == 3


@pytest.mark.usefixtures("in_tmp")
def test_a_task_may_replace_an_imported_one(write_file: WriteFile) -> None:
    write_file("base_tasks.py", "from offload import task\n@task\ndef run(): return 'slow'")
    path = write_file(
        "better.py",
        "from base_tasks import run\nfrom offload import task\n@task\ndef run(): return 'fast'",
    )
    (loaded,) = served(path).tasks
    assert loaded.compiled.call({}) == "fast"


def test_a_function_decorated_twice_is_one_task(write_file: WriteFile) -> None:
    path = write_file(
        "tasks.py",
        "from offload import task\n@task\ndef run(): ...\nrun = task(timeout=5)(run)",
    )
    (loaded,) = served(path).tasks
    assert loaded.definition.timeout_s == 5


def test_functions_that_workers_cannot_find_are_rejected() -> None:
    @task
    def inner() -> None: ...

    assert problem_with(inner) == (
        f"{inner.__qualname__}: workers cannot find this function; define it at the top level of a module"
    )
    assert problem_with(plain) == "plain: this function is not a task; put `@task` above it"
    assert problem_with(5) == "5: a target must be a file, a module name or a function with `@task` above it"


def test_a_function_of_an_interactive_session_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))

    def run() -> None: ...

    run.__module__, run.__qualname__ = "__main__", "run"
    assert (
        problem_with(task(run)) == "run: workers cannot load a function from an interactive session; put it into a file"
    )


def test_a_missing_module_without_a_directory_is_reported() -> None:
    with pytest.raises(TargetError) as caught:
        load([Target(named="nowhere.tasks", module="nowhere.tasks")])
    assert str(caught.value) == "nowhere.tasks: no such module; it is not installed"


def test_an_unsupported_signature_is_reported_on_load(write_file: WriteFile) -> None:
    text = "from offload import task\n@task\ndef run(*numbers): ..."
    with pytest.raises(TaskDefinitionError) as caught:
        served(write_file("tasks.py", text))
    assert str(caught.value) == (
        "task 'run' (tasks.py:2): `*numbers` is not supported because arguments are passed by name; take a list"
    )


def load_as_text(path: Path) -> Registry:
    """Load the tasks as a machine without the file does."""
    source = path.read_text()
    path.unlink()
    (target,) = targets_from_json(json.loads(json.dumps(targets_to_json([parse_target(str(path))]))))
    return load([replace(target, source=source)])


def test_a_file_can_be_loaded_from_its_text(write_file: WriteFile) -> None:
    path = write_file("tasks.py", TWO_TASKS)
    registry = load_as_text(path)
    assert names(registry) == ["second", "first"]
    function = registry.tasks[1].definition.function
    assert inspect.getsource(function).startswith('@task(name="first")')
    assert inspect.getsourcefile(function) == str(path)


def test_a_changed_text_of_a_file_is_a_new_module(write_file: WriteFile) -> None:
    """A cluster's process outlives the service that loaded the first text."""
    text = "from offload import task\n@task\ndef run(): return "
    versions = [load_as_text(write_file("tasks.py", text + version)) for version in ("1", "2", "1")]
    assert [registry.tasks[0].definition.function() for registry in versions] == [1, 2, 1]
    assert versions[0].tasks[0].definition is versions[2].tasks[0].definition


def test_an_error_in_a_text_is_reported_with_its_line(write_file: WriteFile) -> None:
    with pytest.raises(TargetError) as caught:
        load_as_text(write_file("tasks.py", "import sys\nsys.no_such_thing"))
    assert "line 2: AttributeError" in caught.value.problem
