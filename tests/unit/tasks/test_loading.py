"""What may be served, and how a target that cannot be is told of."""

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

import pytest

from offload.errors import TargetError, TaskDefinitionError
from offload.tasks.definition import task
from offload.tasks.loading import Registry, load, parse_target, targets_from_json, targets_to_json
from tests.unit.tasks.conftest import WriteFile

TWO_TASKS = """
    from offload.tasks.definition import on_worker_start, task

    loaded = []

    @task
    def second(x): return x

    @on_worker_start
    def load_model(): loaded.append("model")

    @task(name="first")
    def other(): return len(loaded)
"""

# For a file with decorators.
HEAD = """
import functools
from offload.tasks.definition import task

def doubled(function):
    return functools.wraps(function)(lambda x: 2 * function(x))

"""


@task
def here() -> str:
    return "here"


def plain() -> None: ...


def served(*targets: object) -> Registry:
    return load([parse_target(target) for target in targets])  # type: ignore[arg-type]  # bad ones are tried, too


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


def test_a_files_tasks_are_in_the_order_of_their_definition(write_file: WriteFile) -> None:
    registry = served(write_file("tasks.py", TWO_TASKS))
    assert [(task.index, task.name) for task in registry.tasks] == [(0, "second"), (1, "first")]
    assert [task.place for task in registry.tasks] == ["tasks.py:6", "tasks.py:12"]


def test_hooks_are_found_beside_tasks(write_file: WriteFile) -> None:
    registry = served(write_file("tasks.py", TWO_TASKS))
    for hook in registry.hooks:
        hook()
    assert registry.tasks[1].definition.function() == 1


def test_targets_are_served_in_the_order_in_which_they_are_named(write_file: WriteFile) -> None:
    one = write_file("one.py", "from offload.tasks.definition import task\n@task\ndef b(): ...")
    two = write_file("two.py", "from offload.tasks.definition import task\n@task\ndef a(): ...")
    assert names(served(two, one)) == ["a", "b"]


def test_a_target_named_twice_is_served_once(write_file: WriteFile) -> None:
    path = write_file("tasks.py", TWO_TASKS)
    registry = served(path, str(path))
    assert names(registry) == ["second", "first"]
    assert len(registry.hooks) == 1


@pytest.mark.usefixtures("in_tmp")
def test_a_module_is_looked_for_in_the_working_directory(write_file: WriteFile) -> None:
    write_file("package/__init__.py", "")
    write_file("package/work.py", "from .base import task\n@task\ndef run(): ...")
    write_file("package/base.py", "from offload.tasks.definition import task")
    assert names(served("package.work")) == ["run"]


@pytest.mark.usefixtures("in_tmp")
def test_a_package_is_a_module_and_not_a_directory(write_file: WriteFile) -> None:
    write_file("bundle/__init__.py", "from bundle.work import run")
    write_file("bundle/work.py", "from offload.tasks.definition import task\n@task\ndef run(): ...")
    assert names(served("bundle")) == ["run"]


def test_a_file_imports_its_neighbours(write_file: WriteFile) -> None:
    write_file("neighbour.py", "limit = 7")
    path = write_file(
        "tasks.py",
        "import neighbour\nfrom offload.tasks.definition import task\n@task\ndef run(x=neighbour.limit): ...",
    )
    assert names(served(path)) == ["run"]


def test_what_two_files_share_is_there_once(write_file: WriteFile) -> None:
    """A file served by its path and imported by another one is two modules, but one task."""
    shared = write_file("shared_tasks.py", "from offload.tasks.definition import task\n@task\ndef run(): ...")
    other = write_file(
        "other.py",
        "from shared_tasks import run\nfrom offload.tasks.definition import task\n@task\ndef more(): ...",
    )
    assert names(served(shared, other)) == ["run", "more"]


def test_classes_of_a_file_can_be_pickled_and_hinted_at(write_file: WriteFile) -> None:
    path = write_file(
        "tasks.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from offload.tasks.definition import task

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


def test_a_decorator_above_task_is_called_as_well(write_file: WriteFile) -> None:
    path = write_file(
        "tasks.py",
        """
        import functools
        from offload.tasks.definition import task

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


def test_a_function_is_a_target_by_itself() -> None:
    registry = served(here)
    assert names(registry) == ["here"]
    assert registry.tasks[0].definition.function is here


def test_targets_survive_the_way_into_another_process(write_file: WriteFile) -> None:
    targets = tuple(parse_target(target) for target in (write_file("a.py", TWO_TASKS), "some.module", here))
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets)))) == targets
    assert pickle.loads(pickle.dumps(targets)) == targets


def test_a_program_serves_its_own_functions(write_file: WriteFile) -> None:
    """Functions of `__main__` are found again by another process, and in this one without a second import."""
    program = write_file(
        "program.py",
        """
        import json, subprocess, sys
        from offload.tasks.definition import task
        from offload.tasks.loading import load, parse_target, targets_to_json

        @task
        def run(): ...

        if __name__ == "__main__":
            target = parse_target(run)
            assert load([target]).tasks[0].definition.function is run
            print(json.dumps(targets_to_json([target])))
        """,
    )
    told = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, env=os.environ)
    assert names(load(targets_from_json(json.loads(told.stdout)))) == ["run"]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.py", "x = 1", "there is no task in it; write `from offload import task` and put `@task` above a function"),
        ("a.py", "x = (", "syntax error in a.py line 1: '(' was never closed"),
        ("a.py", "\n\nraise ValueError('no model')", "line 3: ValueError: no model"),
        ("a.py", "import json\njson.loads('')", "line 2: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("a.py", "\nimport not_there_at_all", "line 2: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("a.py", "raise SystemExit(3)", "line 1: it ended the program while it was imported (SystemExit: 3)"),
        ("a.txt", "x = 1", "this is no Python file; its name must end with .py"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_a_sentence(
    write_file: WriteFile, name: str, text: str, problem: str
) -> None:
    path = write_file(name, text)
    told = problem_with(path)
    assert told.startswith(f"{path}: ")
    assert told.endswith(problem)
    assert "\n" not in told


def test_a_file_that_failed_can_be_mended_and_loaded(write_file: WriteFile) -> None:
    path = write_file("tasks.py", "raise ValueError")
    problem_with(path)
    write_file("tasks.py", TWO_TASKS)
    assert names(served(path)) == ["second", "first"]


def test_a_place_without_a_file_is_told_of(tmp_path: Path) -> None:
    assert problem_with(tmp_path / "none.py").endswith("none.py: there is no such file")
    assert "this is a directory" in problem_with(f"{tmp_path}/")
    assert problem_with("not a module").startswith("not a module: there is no such file, and it is no module's name")
    assert "neither a file nor a module" in problem_with("")
    assert problem_with() == "there is nothing to serve; name a file or a module with tasks in it"


@pytest.mark.usefixtures("in_tmp")
def test_a_missing_module_is_told_apart_from_one_that_misses_something(write_file: WriteFile, tmp_path: Path) -> None:
    missing = f"there is no module of this name, neither installed nor in {tmp_path}"
    assert problem_with("nowhere.tasks") == f"nowhere.tasks: {missing}"
    write_file("incomplete.py", "import nowhere.tasks")
    assert problem_with("incomplete") == "incomplete: line 1: ModuleNotFoundError: No module named 'nowhere'"


def test_two_tasks_of_one_name_are_told_with_both_places(write_file: WriteFile) -> None:
    text = "from offload.tasks.definition import task\n@task\ndef run(): ..."
    one, two = write_file("one.py", text), write_file("two.py", f"\n{text}")
    assert "two tasks are called 'run': one.py:2 and two.py:3; give one another name" in problem_with(one, two)


@pytest.mark.parametrize("decorators", ["@task", "@doubled\n@task", "@task\n@functools.lru_cache", "@task\n@doubled"])
def test_two_tasks_of_one_name_in_one_file_are_told_with_both_places(write_file: WriteFile, decorators: str) -> None:
    """The namespace has only the second, whatever stands above or below `@task`; nobody would miss the first."""
    path = write_file("tasks.py", HEAD + 2 * f"# here\n{decorators}\ndef run(x): return x\n")
    lines = path.read_text().splitlines()
    one, two = (number + 1 for number, line in enumerate(lines, 1) if line == "# here")
    assert f"two tasks are called 'run': tasks.py:{one} and tasks.py:{two}; give one" in problem_with(path)


@pytest.mark.usefixtures("in_tmp")
def test_a_package_that_passes_on_a_task_which_hides_another_is_told_of_it(write_file: WriteFile) -> None:
    write_file("passes_on/__init__.py", "from passes_on.work import run")
    write_file(
        "passes_on/work.py",
        "from offload.tasks.definition import task\n@task\ndef run(): ...\n@task\ndef run(x: int): ...",
    )
    assert "two tasks are called 'run': work.py:2 and work.py:4" in problem_with("passes_on")


@pytest.mark.usefixtures("in_tmp")
def test_a_module_that_was_reloaded_has_each_task_once(write_file: WriteFile) -> None:
    """Reloading runs it once more where the tasks of before still are; they may have moved in the file meanwhile."""
    text = "from offload.tasks.definition import task\n@task\ndef run(): ..."
    write_file("changing.py", text)
    assert names(served("changing")) == ["run"]
    write_file("changing.py", f"# moved\n{text}")
    importlib.reload(sys.modules["changing"])
    (reloaded,) = served("changing").tasks
    assert reloaded.place == "changing.py:3"


@pytest.mark.usefixtures("in_tmp")
def test_a_task_may_stand_for_one_that_was_imported(write_file: WriteFile) -> None:
    write_file("base_tasks.py", "from offload.tasks.definition import task\n@task\ndef run(): return 'slow'")
    path = write_file(
        "better.py",
        "from base_tasks import run\nfrom offload.tasks.definition import task\n@task\ndef run(): return 'fast'",
    )
    (loaded,) = served(path).tasks
    assert loaded.compiled.call({}) == "fast"


def test_a_function_that_is_decorated_twice_is_one_task(write_file: WriteFile) -> None:
    path = write_file(
        "tasks.py",
        "from offload.tasks.definition import task\n@task\ndef run(): ...\nrun = task(timeout=5)(run)",
    )
    (loaded,) = served(path).tasks
    assert loaded.definition.timeout_s == 5


def test_functions_that_workers_cannot_find_are_refused() -> None:
    @task
    def inner() -> None: ...

    assert "define it at the top level of a module" in problem_with(inner)
    assert problem_with(plain) == "plain: this is no task; put `@task` above the function"
    assert "a target is a file, a module's name, or a function" in problem_with(5)


def test_a_function_that_cannot_be_a_task_is_told_of_when_it_is_loaded(write_file: WriteFile) -> None:
    text = "from offload.tasks.definition import task\n@task\ndef run(*numbers): ..."
    with pytest.raises(TaskDefinitionError, match=r"task 'run': `\*numbers` is not supported"):
        served(write_file("tasks.py", text))


def shipped(path: Path) -> Registry:
    """As on a machine that does not have the file."""
    source = path.read_text()
    path.unlink()
    (target,) = targets_from_json(json.loads(json.dumps(targets_to_json([parse_target(str(path))]))))
    return load([replace(target, source=source)])


def test_a_file_may_travel_as_its_text(write_file: WriteFile) -> None:
    registry = shipped(write_file("tasks.py", TWO_TASKS))
    assert names(registry) == ["second", "first"]
    function = registry.tasks[1].definition.function
    assert inspect.getsource(function).startswith('@task(name="first")')
    assert registry.tasks[1].place == "tasks.py:12"


def test_another_text_of_the_same_file_is_another_module(write_file: WriteFile) -> None:
    """A process of a cluster's outlives the service that had it load the first."""
    text = "from offload.tasks.definition import task\n@task\ndef run(): return "
    versions = [shipped(write_file("tasks.py", text + version)) for version in ("1", "2", "1")]
    assert [registry.tasks[0].definition.function() for registry in versions] == [1, 2, 1]
    assert versions[0].tasks[0].definition is versions[2].tasks[0].definition


def test_what_is_wrong_with_a_text_is_told_with_its_line(write_file: WriteFile) -> None:
    with pytest.raises(TargetError) as caught:
        shipped(write_file("tasks.py", "import sys\nsys.no_such_thing"))
    assert "line 2: AttributeError" in caught.value.problem
