"""The recorder: every job is counted once, in the right counter, and the counters add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.core.job import END_STATE, Job, JobState, SlotId
from offload.core.outcome import OverloadCause, Reason
from offload.core.request import TaskLimits
from offload.errors import IllegalStep
from offload.metrics.layout import JOB_COUNTERS, REJECTIONS, JobCounts, MetricsMemory
from offload.metrics.recorder import Recorder
from tests.support.jobs import make_job

TASKS = ("primes", "mandelbrot", "sort")
REJECTED = [reason for reason, state in END_STATE.items() if state is JobState.REJECTED]

events = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(Reason), st.none() | st.floats(0, 1)), max_size=60)


def new_recorder() -> Recorder:
    return Recorder(MetricsMemory(tasks=len(TASKS), lanes=1), TASKS)


def counts(recorder: Recorder, task_index: int) -> JobCounts:
    return JobCounts(*recorder.counters(task_index))


def measured(recorder: Recorder) -> tuple[int, int, int]:
    """Returns the numbers of queue times, run times and response times."""
    latencies = recorder.overall_latencies()
    return latencies.queue.count, latencies.run.count, latencies.response.count


@pytest.mark.parametrize("reason", Reason)
def test_every_outcome_is_counted_as_its_state(reason: Reason, ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    recorder.count_submission(1)
    recorder.count_outcome(ended_job(reason, task_index=1))
    expected = {**dict.fromkeys(JOB_COUNTERS, 0), "submitted": 1, str(END_STATE[reason]): 1}
    assert asdict(counts(recorder, 1)) == asdict(recorder.totals) == expected
    assert counts(recorder, 0) == counts(recorder, 2) == JobCounts(0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("reason", REJECTED)
def test_a_rejected_job_is_counted_by_reason_and_has_no_latency(reason: Reason, ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    recorder.count_outcome(ended_job(reason))
    assert recorder.rejections() == {**dict.fromkeys(REJECTIONS, 0), str(reason): 1}
    assert measured(recorder) == (0, 0, 0)


def test_overloaded_jobs_are_counted_by_cause(ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    for count, cause in enumerate(OverloadCause, 1):
        for task_index in (0, 1, 1)[:count]:
            recorder.count_outcome(ended_job(Reason.OVERLOADED, task_index=task_index, cause=cause))
    by_cause = recorder.overloaded_by()
    assert list(by_cause.items()) == [
        ("queue-full", 1),
        ("queue-bytes-full", 2),
        ("task-queue-full", 3),
        ("deadline-unreachable", 3),
        ("displaced", 3),
    ]
    assert sum(by_cause.values()) == recorder.rejections()["overloaded"]


def test_a_job_that_ran_is_in_all_three_histograms(ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    recorder.count_outcome(ended_job(began_s=0.25, end_s=1.0, run_s=0.5))
    latencies = recorder.latencies(0)
    assert (latencies.queue.max, latencies.run.max, latencies.response.max) == (250.0, 500.0, 1000.0)
    assert recorder.overall_latencies() == latencies
    assert recorder.latencies(1).run.count == 0


@pytest.mark.parametrize("jobs", [63, 64, 65, 200])
def test_latencies_can_be_read_at_any_time(jobs: int, ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    for number in range(jobs):
        recorder.count_outcome(ended_job(task_index=number % 2, end_s=float(number)))
    assert measured(recorder) == (jobs, jobs, jobs)
    assert recorder.overall_latencies().response.max == (jobs - 1) * 1000
    assert recorder.latencies(0).response.count == (jobs + 1) // 2


def test_the_run_time_of_a_job_whose_worker_died_lasts_to_its_end(ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    recorder.count_outcome(ended_job(Reason.WORKER_CRASHED, began_s=0.25, end_s=1.0))
    assert recorder.latencies(0).run.max == 750.0


def test_a_job_that_never_ran_has_a_queue_time_and_no_run_time(ended_job: Callable[..., Job]) -> None:
    recorder = new_recorder()
    recorder.count_outcome(ended_job(Reason.DEADLINE_EXCEEDED, began_s=None, end_s=2.0))
    assert measured(recorder) == (1, 0, 1)
    assert recorder.latencies(0).queue.max == 2000.0


def test_a_job_that_has_not_ended_cannot_be_counted() -> None:
    recorder = new_recorder()
    limits = TaskLimits(name="primes", index=0, timeout_s=1.0)
    job = make_job(limits=limits, id="open")
    job.start(SlotId(0), 0.0)
    with pytest.raises(IllegalStep, match="job open is running"):
        recorder.count_outcome(job)
    assert recorder.totals == JobCounts(0, 0, 0, 0, 0, 0, 0)


@given(events)
def test_the_counters_add_up(ended_job: Callable[..., Job], events: list[tuple[int, Reason, float | None]]) -> None:
    """Submitted jobs have ended or were rejected, for each task and in total; latencies agree with the counters."""
    recorder = new_recorder()
    for task_index, reason, began_s in events:
        recorder.count_submission(task_index)
        recorder.count_outcome(ended_job(reason, task_index=task_index, began_s=began_s))
    totals = recorder.totals
    assert totals.submitted == len(events) == totals.ended + totals.rejected
    assert totals.rejected == sum(recorder.rejections().values())
    waits, runs, responses = measured(recorder)
    assert waits == responses == totals.ended >= runs
    for index in range(len(TASKS)):
        of_task = counts(recorder, index)
        assert of_task.submitted == of_task.ended + of_task.rejected
        assert recorder.latencies(index).response.count == of_task.ended
