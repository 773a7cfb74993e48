"""What the shared block promises: parts that do not touch, any start method, and no death that spoils it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler

import pytest

from offload.core.job import Job
from offload.core.outcome import Reason
from offload.metrics.layout import JOB_COUNTERS, LATENCIES, OVERLOADED_BY, REJECTIONS, MetricsMemory
from offload.metrics.recorder import Recorder

SECOND_NS = 1_000_000_000
BOUND_S = 60.0
JOBS_BEFORE_THE_KILL = 1000
# Ends a child that nobody killed, because its parent is gone.
JOBS_AT_MOST = 50_000_000


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Iterator[BaseContext]:
    yield multiprocessing.get_context(request.param)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # no public way; does nothing when none was started


def run_one_job(memory: MetricsMemory, lane: int, number: int) -> None:
    row = memory.worker_row(lane)
    row.begin(number, 100 * SECOND_NS)
    row.end(102 * SECOND_NS)


def run_jobs_until_killed(memory: MetricsMemory, lane: int, ready: Connection) -> None:
    row = memory.worker_row(lane)
    for number in range(1, JOBS_AT_MOST):
        row.begin(number, time.monotonic_ns())
        row.end(time.monotonic_ns())
        if number == JOBS_BEFORE_THE_KILL:
            ready.send_bytes(b"ready")


def test_the_parts_of_the_block_do_not_overlap() -> None:
    memory = MetricsMemory(tasks=3, lanes=2)
    parts = [memory.counters(task) for task in range(3)] + list(memory.overall_histograms())
    parts += [words for task in range(3) for words in memory.histograms(task)]
    rows = [memory.worker_row(lane) for lane in range(2)]
    for mark, part in enumerate(parts, start=1):
        for word in range(len(part)):
            part[word] = mark
    for lane, row in enumerate(rows):
        row.begin(lane + 1, 5)
    assert [set(part) for part in parts] == [{mark} for mark in range(1, len(parts) + 1)]
    assert [row.current_job for row in rows] == [1, 2]


def test_a_counter_row_has_room_for_every_counter() -> None:
    memory = MetricsMemory(tasks=1, lanes=1)
    assert len(memory.counters(0)) >= len(JOB_COUNTERS) + len(REJECTIONS) + len(OVERLOADED_BY)
    assert len(memory.histograms(0)) == len(memory.overall_histograms()) == len(LATENCIES)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_that_does_not_exist_is_an_error(index: int) -> None:
    memory = MetricsMemory(tasks=2, lanes=2)
    for part in (memory.worker_row, memory.counters, memory.histograms):
        with pytest.raises(IndexError, match="of 2"):
            part(index)


def test_the_block_is_pickled_for_a_new_process_only() -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        ForkingPickler.dumps(MetricsMemory(tasks=1, lanes=1))


def test_what_a_child_writes_the_parent_reads(context: BaseContext) -> None:
    memory = MetricsMemory(tasks=2, lanes=3)
    child = context.Process(target=run_one_job, args=(memory, 1, 7))  # type: ignore[attr-defined]  # of each context
    child.start()
    child.join(BOUND_S)
    assert child.exitcode == 0
    child.close()
    assert [memory.worker_row(lane).jobs for lane in range(3)] == [0, 1, 0]
    assert memory.worker_row(1).busy_ns() == 2 * SECOND_NS


def test_a_child_killed_while_it_writes_leaves_everything_readable(
    context: BaseContext, ended_job: Callable[..., Job]
) -> None:
    memory = MetricsMemory(tasks=1, lanes=2)
    recorder = Recorder(memory, ["primes"])
    recorder.submitted(0)
    recorder.settled(ended_job(Reason.SUCCEEDED))
    before_ns = time.monotonic_ns()
    kill_in_the_middle(context, memory, lane=0)
    row = memory.worker_row(0)
    jobs, number = row.jobs, row.current_job
    assert jobs >= JOBS_BEFORE_THE_KILL
    # Killed between two stores of `end`, the last job may be counted already.
    assert number in (0, jobs, jobs + 1)
    assert row.died(time.monotonic_ns()) == number
    assert 0 < row.busy_ns() <= time.monotonic_ns() - before_ns
    # The service's own numbers are as they were, and it goes on writing them.
    recorder.submitted(0)
    recorder.settled(ended_job(Reason.TASK_ERROR))
    assert (recorder.totals.submitted, recorder.totals.succeeded, recorder.totals.failed) == (2, 1, 1)
    assert recorder.overall_latencies().response.count == 2
    assert (memory.worker_row(1).jobs, memory.worker_row(1).current_job) == (0, 0)


def test_the_counters_of_a_killed_worker_are_continued_by_the_next(context: BaseContext) -> None:
    memory = MetricsMemory(tasks=1, lanes=1)
    kill_in_the_middle(context, memory, lane=0)
    row = memory.worker_row(0)
    row.died(time.monotonic_ns())
    jobs, busy_ns = row.jobs, row.busy_ns()
    run_one_job(memory, lane=0, number=jobs + 1)
    assert (row.jobs, row.busy_ns()) == (jobs + 1, busy_ns + 2 * SECOND_NS)


def kill_in_the_middle(context: BaseContext, memory: MetricsMemory, *, lane: int) -> None:
    """SIGKILL for a child that does nothing but write its row."""
    ready, childs_end = context.Pipe(duplex=False)
    with ready, childs_end:
        child = context.Process(  # type: ignore[attr-defined]  # every context has one
            target=run_jobs_until_killed, args=(memory, lane, childs_end)
        )
        child.start()
        assert ready.poll(BOUND_S), "the child did not begin to write"
        os.kill(child.pid, signal.SIGKILL)
        child.join(BOUND_S)
        assert child.exitcode == -signal.SIGKILL
        child.close()
