"""Shared memory across processes: any start method, and a killed writer spoils nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

import pytest

from offload.metrics.layout import MetricsMemory, WorkerRows
from offload.metrics.recorder import Recorder

SECOND_NS = 1_000_000_000
BOUND_S = 60.0
JOBS_BEFORE_THE_KILL = 1000
# Ends a child that was not killed because its parent has died.
JOBS_AT_MOST = 50_000_000


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Iterator[BaseContext]:
    yield multiprocessing.get_context(request.param)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # no public way; does nothing if none was started


def run_one_job(rows: WorkerRows, lane: int, number: int) -> None:
    row = rows.worker_row(lane)
    row.begin(number, 100 * SECOND_NS)
    row.end(102 * SECOND_NS)


def run_jobs_until_killed(rows: WorkerRows, lane: int, ready: Connection) -> None:
    row = rows.worker_row(lane)
    for number in range(1, JOBS_AT_MOST):
        row.begin(number, time.monotonic_ns())
        row.end(time.monotonic_ns())
        if number == JOBS_BEFORE_THE_KILL:
            ready.send_bytes(b"ready")


def test_the_parent_reads_what_a_child_writes(context: BaseContext) -> None:
    rows = WorkerRows(3)
    child = context.Process(target=run_one_job, args=(rows, 1, 7))  # type: ignore[attr-defined]  # of each context
    child.start()
    child.join(BOUND_S)
    assert child.exitcode == 0
    child.close()
    assert [rows.worker_row(lane).jobs for lane in range(3)] == [0, 1, 0]
    assert rows.worker_row(1).busy_ns() == 2 * SECOND_NS


def test_a_child_killed_while_it_writes_leaves_everything_readable_and_countable(context: BaseContext) -> None:
    memory = MetricsMemory(tasks=1, lanes=2)
    recorder = Recorder(memory, ["primes"])
    recorder.count_submission(0)
    before_ns = time.monotonic_ns()
    kill_in_the_middle(context, memory.workers, lane=0)
    row = memory.workers.worker_row(0)
    jobs, number = row.jobs, row.current_job
    assert jobs >= JOBS_BEFORE_THE_KILL
    # Killed between two stores of `end`, the last job may be counted already.
    assert number in (0, jobs, jobs + 1)
    assert row.died(time.monotonic_ns()) == number
    busy_ns = row.busy_ns()
    assert 0 < busy_ns <= time.monotonic_ns() - before_ns
    # The service's own numbers are as they were, and it goes on counting.
    recorder.count_submission(0)
    assert recorder.totals.submitted == 2
    assert (memory.workers.worker_row(1).jobs, memory.workers.worker_row(1).current_job) == (0, 0)
    # So does the lane's next worker.
    run_one_job(memory.workers, lane=0, number=jobs + 1)
    assert (row.jobs, row.busy_ns()) == (jobs + 1, busy_ns + 2 * SECOND_NS)


def kill_in_the_middle(context: BaseContext, rows: WorkerRows, *, lane: int) -> None:
    """Kills a child that does nothing but write its row."""
    ready, child_end = context.Pipe(duplex=False)
    with ready, child_end:
        child = context.Process(  # type: ignore[attr-defined]  # every context has one
            target=run_jobs_until_killed, args=(rows, lane, child_end)
        )
        child.start()
        assert ready.poll(BOUND_S), "the child did not begin to write"
        os.kill(child.pid, signal.SIGKILL)
        child.join(BOUND_S)
        assert child.exitcode == -signal.SIGKILL
        child.close()
