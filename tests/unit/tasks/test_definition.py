"""What `@task` and `@on_worker_start` promise to those who write tasks."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from offload.errors import TaskDefinitionError
from offload.tasks.definition import TaskDefinition, definition_of, is_worker_start_hook, on_worker_start, task


def double(x: int) -> int:
    return 2 * x


def test_a_decorated_function_stays_the_function_that_it_was() -> None:
    assert task(double) is double
    assert double(4) == 8


def test_without_anything_said_the_name_is_the_functions_and_there_are_no_limits() -> None:
    assert definition_of(task(double)) == TaskDefinition(function=double, name="double")


def test_all_that_is_said_is_in_the_definition() -> None:
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
def test_memory_is_bytes_or_a_text_with_a_unit(memory: int | str, memory_bytes: int) -> None:
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
def test_values_out_of_range_are_refused_by_name(values: dict[str, Any], named: str) -> None:
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


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (generator, "a generator is not supported"),
        (coroutine, "`async def` is not supported"),
        (async_generator, "`async def` is not supported"),
        (functools.wraps(coroutine)(lambda: None), "`async def` is not supported"),
        (Model, "only plain functions"),
        (Model.method, "defined in a class"),
        (Model().method, "defined in a class"),
        (Model.__dict__["static"], "defined in a class"),
        (lambda: None, "no name of its own"),
        (functools.partial(double, 1), "no name of its own"),
        (len, "no plain function"),
        (5, "only plain functions"),
        ("primes", r"@task\(name='primes'\)"),
    ],
)
def test_what_cannot_be_a_task_is_refused_with_the_reason(function: Any, why: str) -> None:
    with pytest.raises(TaskDefinitionError, match=why):
        task(function)


def test_other_callables_are_tasks_as_well() -> None:
    """What caches or compiles a function, and leaves something like a function behind."""
    cached = task(functools.lru_cache(double))
    definition = definition_of(cached)
    assert definition is not None and definition.name == "double"
    assert definition_of(task(name="two")(lambda: 2)) is not None


def test_a_hook_stays_the_function_that_it_was() -> None:
    def load_model(path: str = "model.bin") -> None: ...

    assert on_worker_start(load_model) is load_model
    assert is_worker_start_hook(load_model)
    assert not is_worker_start_hook(double)


def needs_more(path: str) -> None: ...


@pytest.mark.parametrize("function", [needs_more, coroutine, generator, Model.method, 5])
def test_what_cannot_be_called_without_arguments_is_no_hook(function: Callable[..., Any]) -> None:
    with pytest.raises(TaskDefinitionError):
        on_worker_start(function)


def test_a_proxy_that_answers_everything_is_no_task() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> bool:
            raise RuntimeError(f"{name} asked for out of context")

        def __call__(self) -> None: ...

    assert definition_of(Proxy()) is None
    assert not is_worker_start_hook(Proxy())


def test_importing_the_decorators_does_not_import_what_only_workers_need() -> None:
    heavy = {"pydantic", "orjson", "numpy", "aiohttp", "asyncio", "multiprocessing"}
    program = "import sys, offload.tasks.definition, offload.tasks.context; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) & heavy == set()


def test_the_service_reads_targets_and_catalogues_without_pydantic() -> None:
    program = "import sys, offload.tasks.loading, offload.tasks.catalogue; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) & {"pydantic", "pydantic_core", "numpy"} == set()
