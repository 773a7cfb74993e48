"""A running task can ask which job it is, and on which lane."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from offload.tasks.context import CurrentJob, current_job, current_lane, set_current, set_lane

JOB = CurrentJob(id="j1", task="primes", attempt=1, lane=3, request_id="r1", traceparent="")


@pytest.fixture
def running() -> Iterator[None]:
    set_lane(3)
    set_current(JOB)
    yield
    set_current(None)
    set_lane(None)


def test_outside_of_a_worker_there_is_neither_job_nor_lane() -> None:
    assert current_job() is None
    assert current_lane() is None


@pytest.mark.usefixtures("running")
def test_the_job_is_seen_by_the_tasks_own_threads_too() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(current_job).result() == current_job() == JOB
        assert threads.submit(current_lane).result() == current_lane() == 3


@pytest.mark.usefixtures("running")
def test_between_two_jobs_the_lane_stays() -> None:
    set_current(None)
    assert current_job() is None
    assert current_lane() == 3
