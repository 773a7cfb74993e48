"""Decorators around a task: those that keep its signature work, and the others are named with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offload.errors import TaskDefinitionError
from offload.tasks.targets.loading import load, parse_target
from tests.unit.tasks.conftest import WriteFile

# The lines of a file above its task.
HEAD = """
import functools, inspect
from offload.tasks.definition.decorators import task

def bare(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

def renaming(function):
    def wrapper(x):
        return function(n=x)
    return wrapper

class Bare:
    def __init__(self, function):
        self.inner = function
    def __call__(self, **kwargs):
        return self.inner(**kwargs)

class Slotted:
    __slots__ = ("inner",)
    __init__, __call__ = Bare.__init__, Bare.__call__

class Kept:
    def __init__(self, function):
        functools.update_wrapper(self, function)
    def __call__(self, **kwargs):
        return self.__wrapped__(**kwargs)

def wrapped(function):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))

def signed(function):
    wrapper = bare(function)
    wrapper.__signature__, wrapper.__name__ = inspect.signature(function), function.__name__
    return wrapper

def forgetful(function):
    function.seen = True

"""
BARE = (
    "wrapped by a decorator without functools.wraps, 'bare', which returns 'wrapper' (tasks.py:6); "
    "put @functools.wraps(function) above 'wrapper'"
)
RENAMING = BARE.replace("bare", "renaming").replace("tasks.py:6", "tasks.py:11")
CLASS = (
    "wrapped by a decorator without functools.wraps, the class 'Bare' (tasks.py:18); "
    "call functools.update_wrapper(self, self.inner) in it"
)
METHOD = (
    "methods are not supported because a job has no object to call them on; define a function at the top level of a "
    "module, which may call the method"
)
ASYNC = (
    "`async def` is not supported because a worker runs one job at a time; use a plain `def`, which may call "
    "asyncio.run(…)"
)


def file_with(decorators: str, definition: str) -> str:
    return HEAD + "\n".join([*decorators.split(), definition])


@pytest.mark.parametrize(
    ("decorators", "problem"),
    [
        ("@task @bare", BARE),
        ("@task() @bare", BARE),
        ("@task(name='given') @bare", BARE),
        ("@task @bare @wrapped", BARE),
        ("@task @wrapped @bare", BARE),
        ("@task @functools.lru_cache @bare", BARE),
        ("@task @renaming", RENAMING),
        ("@task @Bare", CLASS),
        ("@task @wrapped @Bare", CLASS),
        ("@task @Slotted", CLASS.replace("'Bare'", "'Slotted'")),
        ("@bare @task", BARE),
        ("@renaming @task", RENAMING),
        ("@wrapped @bare @task", BARE),
        ("@Bare @task", CLASS),
    ],
)
def test_a_decorator_that_loses_the_signature_is_named(write_file: WriteFile, decorators: str, problem: str) -> None:
    path = write_file("tasks.py", file_with(decorators, "def hidden(n: int) -> int: return n"))
    error = problem_with(path)
    assert (error.task, error.problem) == ("hidden", problem)
    file, _, line = error.place.partition(":")
    assert (file, int(line) > HEAD.count("\n")) == ("tasks.py", True)


def test_a_task_that_a_decorator_hides_is_reported_also_beside_others(write_file: WriteFile) -> None:
    """The service would start without it."""
    text = file_with("@task", "def seen(): ...") + "\n@bare\n@task\ndef hidden(): ..."
    assert problem_with(write_file("tasks.py", text)).problem == BARE


def test_a_start_hook_that_a_decorator_hides_is_reported(write_file: WriteFile) -> None:
    """Workers would not call it."""
    text = (
        f"{HEAD}from offload import on_worker_start\n@task\ndef seen(): ...\n@bare\n@on_worker_start\ndef load(): ..."
    )
    error = problem_with(write_file("tasks.py", text))
    assert (error.task, error.problem) == ("load", BARE)


@pytest.mark.parametrize(
    ("decorators", "definition", "problem"),
    [
        ("@task @forgetful", "def f(): ...", "a decorator below returned None; it must return the function"),
        ("@task @bare", "async def f(): ...", ASYNC),
        (
            "@task @functools.lru_cache",
            "def f(*n): ...",
            "`*n` is not supported because arguments are passed by name; take a list",
        ),
        (
            "@task",
            "def f(*args, **kwargs): ...",
            "`*args` is not supported because arguments are passed by name; take a list, or put functools.wraps into "
            "the decorator if a decorator made this function",
        ),
    ],
)
def test_an_unsupported_function_is_reported(
    write_file: WriteFile, decorators: str, definition: str, problem: str
) -> None:
    assert problem_with(write_file("tasks.py", file_with(decorators, definition))).problem == problem


@pytest.mark.parametrize("decorators", ["@task", "@task @wrapped", "@staticmethod @task", "@task @functools.cache"])
def test_a_method_is_reported(write_file: WriteFile, decorators: str) -> None:
    lines = [f"    {line}" for line in [*decorators.split(), "def predict(self, x): ..."]]
    path = write_file("tasks.py", HEAD + "class Model:\n" + "\n".join(lines))
    error = problem_with(path)
    assert (error.task, error.problem) == ("predict", METHOD)


@pytest.mark.parametrize(
    "decorators",
    [
        "@task @wrapped",
        "@wrapped @task",
        "@task @Kept",
        "@Kept @task",
        "@task @functools.lru_cache",
        "@functools.cache @task",
        "@task @wrapped @functools.lru_cache(maxsize=8)",
        "@task @signed",
    ],
)
def test_a_decorator_that_keeps_the_signature_works(write_file: WriteFile, decorators: str) -> None:
    path = write_file(
        "tasks.py",
        "from __future__ import annotations\n"
        + file_with(decorators, "def f(n: Number) -> Number: return 2 * n")
        + "\nNumber = int",
    )
    assert answers(path, {"n": "4"}) == {"f": 8}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("given = task(name='given')(renaming(lambda n: n))", {"given": 3}),
        ("@task(name='given')\n@renaming\ndef f(n): return n", {"given": 3}),
        ("def make(factor, score):\n    @task\n    def scale(x): return factor * score(x)\n    return scale\n"
         "scale = make(2, abs)", {"scale": 6}),
        ("def score(x): return x\ndef make(score):\n    @task\n    def scale(x): return score(x)\n    return scale\n"
         "scale = make(score)", {"scale": 3}),
        ("@task\ndef f(x): return x\nrun = lambda: f(1)\nlater = functools.partial(f, 1)\nagain = bare(f)", {"f": 3}),
        ("class Scale:\n    def __call__(self, x: Number) -> Number: return 2 * x\n"
         "double = task(name='double')(Scale())\nNumber = int", {"double": 6}),
        ("def power(x: Number, n: Number): return x ** n\n"
         "square = task(name='square')(functools.partial(power, n=2))\nNumber = int", {"square": 9}),
        ("class Model:\n    def predict(self, x): return 2 * x\n"
         "predict = task(name='predict')(functools.partial(Model().predict))", {"predict": 6}),
    ],
)  # fmt: skip
def test_a_function_that_refers_to_another_is_not_taken_for_a_decorator(
    write_file: WriteFile, text: str, answer: dict[str, Any]
) -> None:
    assert answers(write_file("tasks.py", f"from __future__ import annotations\n{HEAD}{text}"), {"x": 3}) == answer


def problem_with(path: Path) -> TaskDefinitionError:
    with pytest.raises(TaskDefinitionError) as caught:
        load([parse_target(path)])
    return caught.value


def answers(path: Path, members: dict[str, Any]) -> dict[str, Any]:
    """Returns the result of each task."""
    return dict(_answers(path, members))


def _answers(path: Path, members: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for task in load([parse_target(path)]).tasks:
        yield task.name, task.compiled.call(task.compiled.validate(dict(members)))
