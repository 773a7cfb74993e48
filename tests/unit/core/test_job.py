"""The states of a job, and what each step records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from offload.core.job import END_STATE, Job, JobState, SlotId
from offload.core.outcome import Outcome, Reason
from offload.errors import IllegalStep
from tests.unit.core.stage import new_job

SLOT = SlotId(7)

ENDS = {
    JobState.SUCCEEDED: Reason.SUCCEEDED,
    JobState.FAILED: Reason.TASK_ERROR,
    JobState.TIMED_OUT: Reason.JOB_TIMEOUT,
    JobState.CANCELLED: Reason.CANCELLED,
    JobState.CRASHED: Reason.WORKER_CRASHED,
    JobState.REJECTED: Reason.OVERLOADED,
}


def settle(job: Job, state: JobState, now: float = 5.0) -> None:
    job.settle(Outcome(reason=ENDS[state]), now)


def enqueue(job: Job) -> None:
    job.enqueue()


def start(job: Job) -> None:
    job.start(SLOT, 2.0)


def requeue(job: Job) -> None:
    job.requeue(begun=True)


STEPS: dict[str, Callable[[Job], None]] = {
    "enqueue": enqueue,
    "start": start,
    "requeue": requeue,
    **{f"end {state}": partial(settle, state=state) for state in ENDS},
}
FROM_NEW = {"enqueue", "start", f"end {JobState.REJECTED}"}
FROM_QUEUED = {"start", *(f"end {s}" for s in (JobState.TIMED_OUT, JobState.CANCELLED, JobState.REJECTED))}
FROM_RUNNING = {"requeue", *(f"end {state}" for state in ENDS if state is not JobState.REJECTED)}


def job_in(state: JobState) -> Job:
    job = new_job()
    match state:
        case JobState.NEW:
            pass
        case JobState.QUEUED:
            job.enqueue()
        case JobState.REJECTED:
            settle(job, state)
        case JobState.RUNNING:
            start(job)
        case _:
            start(job)
            settle(job, state)
    return job


def facts(job: Job) -> list[object]:
    return [getattr(job, name) for name in Job.__slots__]


POSSIBLE = {JobState.NEW: FROM_NEW, JobState.QUEUED: FROM_QUEUED, JobState.RUNNING: FROM_RUNNING}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", JobState)
def test_a_step_follows_the_table_or_raises_and_changes_nothing(state: JobState, step: str) -> None:
    """The whole table: a step that is not in it raises an error that names the job."""
    job = job_in(state)
    before = facts(job)
    if step in POSSIBLE.get(state, set()):
        STEPS[step](job)
        assert facts(job) != before
    else:
        with pytest.raises(IllegalStep, match=f"job {job.id} is {state}: .* is not possible"):
            STEPS[step](job)
        assert facts(job) == before


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_ends_a_job_in_one_final_state(reason: Reason) -> None:
    assert END_STATE[reason] in ENDS


def test_a_new_job_has_no_slot_and_no_outcome() -> None:
    job = new_job()
    assert (job.state, job.attempt, job.slot, job.outcome, job.is_settled) == (JobState.NEW, 1, None, None, False)


def test_the_size_of_a_job_is_that_of_its_body() -> None:
    assert new_job(size_bytes=7).size_bytes == 7


def test_the_deadline_of_a_job_is_the_end_of_its_budget() -> None:
    assert (new_job(now=3.0).deadline, new_job(now=3.0, budget_s=2.0).deadline) == (None, 5.0)


def test_a_death_after_the_job_began_costs_an_attempt() -> None:
    job = job_in(JobState.RUNNING)
    job.requeue(begun=True)
    assert (job.state, job.attempt, job.unbegun_deaths, job.slot, job.started_at) == (JobState.QUEUED, 2, 0, None, None)


def test_a_death_before_the_job_began_costs_no_attempt() -> None:
    job = job_in(JobState.RUNNING)
    job.requeue(begun=False)
    assert (job.state, job.attempt, job.unbegun_deaths) == (JobState.QUEUED, 1, 1)


def test_a_planned_end_of_the_worker_before_the_job_began_is_not_counted() -> None:
    job = job_in(JobState.RUNNING)
    job.requeue(begun=False, is_charged=False)
    assert (job.state, job.attempt, job.unbegun_deaths) == (JobState.QUEUED, 1, 0)


def test_queue_time_ends_and_run_time_begins_at_the_start() -> None:
    job = new_job(now=1.0)
    job.start(SLOT, 3.0)
    settle(job, JobState.SUCCEEDED, now=7.0)
    assert (job.wait_s, job.run_s) == (2.0, 4.0)


def test_the_workers_own_measure_of_run_time_is_preferred() -> None:
    job = new_job(now=1.0)
    job.start(SLOT, 3.0)
    job.settle(Outcome(reason=Reason.SUCCEEDED, run_s=3.5), 7.0)
    assert job.run_s == 3.5


def test_a_job_that_never_started_has_queue_time_only() -> None:
    job = new_job(now=1.0)
    job.enqueue()
    settle(job, JobState.CANCELLED, now=4.0)
    assert (job.wait_s, job.run_s) == (3.0, None)


def test_the_repr_of_a_job_has_number_task_state_attempt_and_slot() -> None:
    job = job_in(JobState.RUNNING)
    assert repr(job) == f"<Job {job.number} task running attempt=1 slot=7>"
