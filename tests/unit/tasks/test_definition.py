"""Tests of `@task` and `@on_worker_start`."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from offload.errors import TaskDefinitionError
from offload.tasks.definition.decorators import (
    TaskDefinition,
    definition_of,
    is_worker_start_hook,
    on_worker_start,
    task,
)


def double(x: int) -> int:
    return 2 * x


def test_the_decorator_returns_the_function_itself() -> None:
    assert task(double) is double
    assert double(4) == 8


def test_without_options_a_task_has_the_functions_name_and_no_limits() -> None:
    assert definition_of(task(double)) == TaskDefinition(function=double, name="double")


def test_the_definition_holds_all_options() -> None:
    decorated = task(name="twice-1.0", timeout=2, memory="512MB", retries=3, max_running=2, max_queued=10, urgency=6)(
        double
    )
    assert definition_of(decorated) == TaskDefinition(
        function=double,
        name="twice-1.0",
        timeout_s=2.0,
        memory_bytes=512_000_000,
        retries=3,
        max_running=2,
        max_queued=10,
        urgency=6,
    )


@pytest.mark.parametrize(
    ("memory", "memory_bytes"), [(1 << 20, 1 << 20), ("1 KiB", 1024), ("1.5GiB", 3 << 29), ("2GB", 2 * 10**9)]
)
def test_memory_is_a_number_of_bytes_or_a_size_with_a_unit(memory: int | str, memory_bytes: int) -> None:
    definition = definition_of(task(memory=memory)(double))
    assert definition is not None and definition.memory_bytes == memory_bytes


@pytest.mark.parametrize(
    ("values", "named"),
    [
        *[({"timeout": value}, "timeout") for value in (0, -1, math.nan, math.inf, 10**400, "5", True)],
        *[({"memory": value}, "memory") for value in (0, -1, "", "much", "5 parsecs", 1.5, True, "0MB")],
        *[({"retries": value}, "retries") for value in (-1, 101, 1.0, None, True, "1")],
        *[({"max_running": value}, "max_running") for value in (0, -1, 1.0, True, 1_000_001)],
        *[({"max_queued": value}, "max_queued") for value in (0, -1, 1.0, True, 1_000_001)],
        *[({"urgency": value}, "urgency") for value in (-1, 8, 1.0, None, True, "1")],
        *[({"name": value}, "name") for value in ("", "a b", "a/b", "é", "..", "x" * 101, 5)],
    ],
)
def test_an_option_out_of_range_is_rejected(values: dict[str, Any], named: str) -> None:
    with pytest.raises(TaskDefinitionError, match=named):
        task(**values)(double)


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> int:
    return 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Model:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


ASYNC = (
    "`async def` is not supported because a worker runs one job at a time; use a plain `def`, which may call "
    "asyncio.run(…)"
)
METHOD = (
    "methods are not supported because a job has no object to call them on; define a function at the top level of a "
    "module, which may call the method"
)
NO_NAME = "the function has no name; set one with @task(name=…)"


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (generator, "generators are not supported; return the whole result instead of `yield`"),
        (coroutine, ASYNC),
        (async_generator, ASYNC),
        (functools.wraps(coroutine)(lambda: None), ASYNC),
        (Model, "classes are not supported; put the decorator above a function that makes the object"),
        (Model.method, METHOD),
        (Model().method, METHOD),
        (Model.__dict__["static"], METHOD),
        (lambda: None, NO_NAME),
        (functools.partial(double, 1), NO_NAME),
        (len, "this is not a plain function; wrap it in one defined with `def`"),
        (functools.lru_cache(Model.method), METHOD),
        (functools.partial(coroutine), ASYNC),
        (property(double), METHOD),
        (None, "a decorator below returned None; it must return the function"),
        (object(), "only functions are supported, not object objects; use `def`"),
        (5, "only functions are supported, not int objects; use `def`"),
        ("primes", "pass a name as @task(name='primes')"),
    ],
)
def test_an_unsupported_function_is_rejected_with_the_reason(function: Any, problem: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        task(function)
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "task 'double': timeout must be a number of seconds above 0 and at most 2592000, not 0"),
        (
            {"memory": "much"},
            "task 'double': memory must be a number of bytes above 0 or a size such as "
            '"512MB" or "2GiB", not \'much\'',
        ),
        ({"retries": -1}, "task 'double': retries must be an integer from 0 to 100, not -1"),
        ({"max_running": 0}, "task 'double': max_running must be an integer from 1 to 1000000, not 0"),
        ({"urgency": 8}, "task 'double': urgency must be an integer from 0 to 7, not 8"),
        ({"name": 5}, "task 'double': name must be a string, not 5"),
        (
            {"name": "a b"},
            "task 'a b': a task name has 1 to 100 ASCII letters, digits, '_', '-' or '.', and more than dots; "
            "set another with @task(name=…)",
        ),
    ],
)
def test_a_rejected_option_is_reported_with_its_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        task(**options)(double)
    assert str(caught.value) == message


def test_a_callable_that_wraps_a_function_can_be_a_task() -> None:
    """As decorators that cache or compile a function return."""
    cached = task(functools.lru_cache(double))
    definition = definition_of(cached)
    assert definition is not None and definition.name == "double"
    assert definition_of(task(name="two")(lambda: 2)) is not None


def test_the_hook_decorator_returns_the_function_itself() -> None:
    def load_model(path: str = "model.bin") -> None: ...

    assert on_worker_start(load_model) is load_model
    assert is_worker_start_hook(load_model)
    assert not is_worker_start_hook(double)


def needs_more(path: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (needs_more, "an @on_worker_start function must be callable without arguments"),
        (coroutine, ASYNC),
        (generator, "generators are not supported; return the whole result instead of `yield`"),
        (Model.method, METHOD),
        (5, "only functions are supported, not int objects; use `def`"),
    ],
)
def test_an_unsupported_worker_start_hook_is_rejected_with_the_reason(function: Any, problem: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        on_worker_start(function)
    assert caught.value.problem == problem


def test_a_proxy_with_every_attribute_is_not_a_task() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> bool:
            raise RuntimeError(f"{name} read outside of a context")

        def __call__(self) -> None: ...

    assert definition_of(Proxy()) is None
    assert not is_worker_start_hook(Proxy())


@pytest.mark.service
def test_importing_the_decorators_does_not_import_worker_dependencies() -> None:
    heavy = {"pydantic", "orjson", "numpy", "aiohttp", "asyncio", "multiprocessing"}
    program = "import sys, offload.tasks.definition.decorators, offload.tasks.context; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) & heavy == set()


@pytest.mark.service
def test_the_service_reads_targets_and_catalogues_without_pydantic() -> None:
    program = "import sys, offload.tasks.targets.loading, offload.tasks.catalogue; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) & {"pydantic", "pydantic_core", "numpy"} == set()
