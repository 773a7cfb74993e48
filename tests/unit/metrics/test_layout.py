"""The shared memory: parts that do not overlap, Values and Arrays, and no lock."""

from __future__ import annotations

import ast
import ctypes
import multiprocessing
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

import offload
from offload.core.outcome import OverloadCause
from offload.metrics.layout import (
    JOB_COUNTERS,
    LATENCIES,
    REJECTIONS,
    MetricsMemory,
    ServiceState,
    WorkerRows,
)

PACKAGE = Path(offload.__file__).parent


def scalars(memory: MetricsMemory) -> list[ctypes.c_longlong]:
    return [*memory.rejections.values(), *memory.overloaded_by.values(), memory._state]


def test_the_parts_of_the_memory_do_not_overlap() -> None:
    memory = MetricsMemory(tasks=3, lanes=2)
    parts = [memory.counters(task) for task in range(3)] + list(memory.overall_histograms())
    parts += [words for task in range(3) for words in memory.histograms(task)]
    for mark, part in enumerate(parts, start=1):
        for word in range(len(part)):
            part[word] = mark
    for mark, scalar in enumerate(scalars(memory), start=1001):
        scalar.value = mark
    for lane in range(2):
        memory.workers.worker_row(lane).begin(lane + 1, 5)
    assert [set(part) for part in parts] == [{mark} for mark in range(1, len(parts) + 1)]
    assert [scalar.value for scalar in scalars(memory)] == list(range(1001, 1001 + len(scalars(memory))))
    assert [memory.workers.worker_row(lane).current_job for lane in range(2)] == [1, 2]


def test_there_is_room_for_every_counter() -> None:
    memory = MetricsMemory(tasks=1, lanes=1)
    assert len(memory.counters(0)) >= len(JOB_COUNTERS)
    assert len(memory.histograms(0)) == len(memory.overall_histograms()) == len(LATENCIES)
    assert (tuple(memory.rejections), tuple(memory.overloaded_by)) == (REJECTIONS, tuple(OverloadCause))


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_that_does_not_exist_is_an_error(index: int) -> None:
    memory = MetricsMemory(tasks=2, lanes=2)
    for part in (memory.workers.worker_row, memory.counters, memory.histograms):
        with pytest.raises(IndexError, match="of 2"):
            part(index)


def test_the_state_is_read_as_it_was_written() -> None:
    memory = MetricsMemory(tasks=1, lanes=1)
    assert memory.state is ServiceState.STARTING
    for state in ServiceState:
        memory.state = state
        assert memory.state is state


def test_nothing_in_the_memory_has_a_lock() -> None:
    """A process killed while it holds a lock would block every other process."""
    memory = MetricsMemory(tasks=1, lanes=1)
    assert {type(scalar) for scalar in scalars(memory)} == {ctypes.c_longlong}
    assert isinstance(memory.workers._array, ctypes.Array)
    assert not hasattr(memory.workers._array, "get_lock")


def test_every_value_and_array_of_the_package_is_made_without_a_lock() -> None:
    locks = [
        [ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "lock"]
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("Value", "Array")
    ]
    assert locks == [[False], [False]]


def test_the_memory_leaves_the_start_method_of_the_process_open() -> None:
    before = multiprocessing.get_start_method(allow_none=True)
    MetricsMemory(tasks=1, lanes=1)
    assert multiprocessing.get_start_method(allow_none=True) == before


def test_worker_rows_are_pickled_for_a_new_process_only() -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        ForkingPickler.dumps(WorkerRows(1))
