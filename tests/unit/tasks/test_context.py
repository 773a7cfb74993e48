"""A running task can ask for its job and its lane."""

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


def test_outside_a_worker_job_and_lane_are_none() -> None:
    assert current_job() is None
    assert current_lane() is None


@pytest.mark.usefixtures("running")
def test_threads_of_the_task_see_the_job() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(current_job).result() == current_job() == JOB
        assert threads.submit(current_lane).result() == current_lane() == 3


@pytest.mark.usefixtures("running")
def test_the_lane_remains_known_between_jobs() -> None:
    set_current(None)
    assert current_job() is None
    assert current_lane() == 3
