"""What follows a worker's death, and what happens when no worker starts."""

from __future__ import annotations

from offload.core.commands import Settled
from offload.core.death import Death
from offload.core.job import JobState
from offload.core.outcome import Reason
from offload.core.request import TaskLimits
from offload.core.scheduler import MAX_UNBEGUN_DEATHS
from offload.core.slot import SlotState
from tests.unit.core.stage import SEGFAULT, Stage, facts_of, reason_of, settled, slot_state, started

RETRIED = TaskLimits(name="retried", index=0, timeout_s=60.0, retries=2)


# Deaths of workers


def test_the_death_of_a_worker_costs_its_own_job_and_no_other() -> None:
    stage = Stage(slots=2)
    job, other, waiting = stage.submit(), stage.submit(), stage.submit()
    assert job.slot is not None
    assert stage.die(job.slot) == [Settled(job)]
    assert (job.state, facts_of(job)) == (JobState.CRASHED, {"death": SEGFAULT, "signal": "SIGSEGV"})
    assert (other.state, waiting.state) == (JobState.RUNNING, JobState.QUEUED)


def test_a_crash_reports_the_exit_code_without_a_signal() -> None:
    stage = Stage(slots=1)
    job, death = stage.submit(), Death(exit_code=0)
    stage.die(0, death=death)
    assert facts_of(job) == {"death": death, "exit_code": 0}


def test_the_death_of_an_idle_worker_costs_no_job() -> None:
    stage = Stage(slots=1)
    assert stage.die(0) == []
    assert slot_state(stage) is SlotState.ABSENT


def test_a_death_counts_once_and_only_for_the_present_generation() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    assert stage.die(0) == []
    stage.ready(0, generation=2)
    job = stage.submit()
    assert stage.die(0, generation=1) == []
    assert job.state is JobState.RUNNING


def test_a_retried_job_starts_before_all_others_as_often_as_retries_allow() -> None:
    stage = Stage(slots=1)
    job, urgent = stage.submit(limits=RETRIED), stage.submit(urgency=0)
    for attempt in (2, 3):
        assert stage.die(0, generation=attempt - 1) == []
        assert started(stage.ready(0, generation=attempt)) == [job]
        assert job.attempt == attempt
    assert settled(stage.die(0, generation=3)) == [job]
    assert reason_of(job) is Reason.WORKER_CRASHED
    assert started(stage.ready(0, generation=4)) == [urgent]


def test_a_retried_job_moves_to_an_idle_slot_at_once() -> None:
    stage = Stage(slots=2)
    job = stage.submit(limits=RETRIED)
    first = job.slot
    assert first is not None
    assert started(stage.die(first)) == [job]
    assert job.slot != first


def test_each_attempt_has_the_whole_timeout() -> None:
    stage = Stage(slots=2)
    job = stage.submit(limits=TaskLimits(name="t", index=0, timeout_s=1.0, retries=1))
    stage.wait(0.9)
    assert job.slot is not None
    stage.die(job.slot)
    assert stage.wait(0.9) == []
    assert settled(stage.wait(0.2)) == [job]


def test_the_budget_spans_all_attempts() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=RETRIED, budget_s=1.0)
    stage.wait(0.9)
    stage.die(0)
    assert settled(stage.wait(0.2)) == [job]
    assert facts_of(job) == {"stage": "queued"}


def test_an_unbegun_job_is_started_elsewhere_at_no_charge() -> None:
    stage = Stage(slots=2)
    job = stage.submit()
    assert job.slot is not None
    assert started(stage.die(job.slot, begun=0)) == [job]
    assert job.attempt == 1


def test_a_job_crashes_if_its_workers_keep_dying_before_they_begin_it() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    for generation in range(1, MAX_UNBEGUN_DEATHS + 1):
        assert stage.die(0, generation=generation, begun=0) == []
        stage.ready(0, generation=generation + 1)
    assert settled(stage.die(0, generation=MAX_UNBEGUN_DEATHS + 1, begun=0)) == [job]
    assert reason_of(job) is Reason.WORKER_CRASHED


def test_planned_ends_of_workers_never_crash_a_job_that_they_had_not_begun() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    for generation in range(1, MAX_UNBEGUN_DEATHS + 3):
        assert stage.die(0, generation=generation, begun=0, death=Death(exit_code=0, is_planned=True)) == []
        assert started(stage.ready(0, generation=generation + 1)) == [job]
    assert (job.attempt, job.unbegun_deaths) == (1, 0)


def test_a_cancelled_job_is_not_retried() -> None:
    stage = Stage(slots=2)
    job = stage.submit(limits=RETRIED)
    stage.cancel(job)
    assert job.slot is not None
    assert stage.die(job.slot) == []


def test_a_retry_may_wait_in_a_full_queue() -> None:
    stage = Stage(slots=1, queue_limit=1)
    job = stage.submit(limits=RETRIED)
    stage.submit()
    assert stage.die(0) == []
    assert (job.state, stage.scheduler.queued) == (JobState.QUEUED, 2)


# Start-ups that fail


def test_without_workers_waiting_jobs_are_rejected_as_starting() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    job = stage.submit()
    assert stage.fail_to_start() == [Settled(job)]
    assert (job.state, facts_of(job)) == (JobState.REJECTED, {"retry_after_s": 1})
    assert reason_of(job) is Reason.STARTING


def test_waiting_jobs_keep_waiting_while_a_worker_is_present() -> None:
    stage = Stage(slots=2)
    running = [stage.submit(), stage.submit()]
    waiting = stage.submit()
    stage.die(0)
    assert stage.fail_to_start() == []
    survivor = next(job for job in running if not job.is_settled)
    assert started(stage.finish(survivor)) == [waiting]
