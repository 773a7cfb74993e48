"""Which job runs next, and what follows the end of a job. All invariants are checked after each event."""

from __future__ import annotations

import pytest

from offload.core.commands import Settled, Start
from offload.core.job import JobState, SlotId
from offload.core.outcome import Outcome, Reason
from offload.core.request import TaskLimits
from offload.core.slot import SlotState
from offload.errors import IllegalStep
from tests.unit.core.stage import Stage, reason_of, settled, slot_state, started, succeeded

RETRIED = TaskLimits(name="retried", index=0, timeout_s=60.0, retries=2)


# Starting


def test_a_job_is_started_at_once_on_an_idle_slot() -> None:
    stage = Stage(slots=1)
    job = stage.new_job()
    assert stage.submit_job(job) == [Start(SlotId(0), job)]
    assert (job.state, job.slot, job.started_at) == (JobState.RUNNING, SlotId(0), stage.now)


def test_a_job_waits_while_all_slots_are_busy_and_starts_when_one_finishes() -> None:
    stage = Stage(slots=1)
    first, second = stage.submit(), stage.submit()
    assert (second.state, stage.scheduler.queued, stage.scheduler.tally.running) == (JobState.QUEUED, 1, 1)
    assert stage.finish(first) == [Settled(first), Start(SlotId(0), second)]


def test_the_slot_that_was_idle_last_is_used_first() -> None:
    stage = Stage(slots=3)
    jobs = [stage.submit() for _ in range(3)]
    stage.finish(jobs[2])
    stage.finish(jobs[0])
    assert stage.submit().slot == jobs[0].slot


def test_waiting_jobs_are_started_by_urgency_and_then_by_arrival() -> None:
    stage = Stage(slots=1)
    served = [stage.submit()]
    late, usual, usual_too, urgent = (stage.submit(urgency=urgency) for urgency in (7, 3, 3, 0))
    while stage.scheduler.tally.running:
        served += started(stage.finish(served[-1]))
    assert served[1:] == [urgent, usual, usual_too, late]


def test_a_worker_that_becomes_ready_gets_the_first_waiting_job() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    job = stage.submit()
    assert stage.ready(0, generation=2) == [Start(SlotId(0), job)]


def test_a_job_cannot_be_submitted_twice() -> None:
    stage = Stage(slots=2)
    job = stage.submit()
    with pytest.raises(IllegalStep, match=f"job {job.id} is running: submit is not possible"):
        stage.submit_job(job)
    stage.scheduler.check_invariants()


# Answers


def test_an_answer_settles_the_job_and_frees_the_slot() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    outcome = succeeded(run_s=0.5)
    assert stage.answer(job, outcome) == [Settled(job)]
    assert (job.state, job.outcome, job.finished_at) == (JobState.SUCCEEDED, outcome, stage.now)
    assert slot_state(stage) is SlotState.IDLE


def test_an_impossible_outcome_of_a_running_job_raises_and_changes_nothing() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    with pytest.raises(IllegalStep):
        stage.answer(job, Outcome(reason=Reason.OVERLOADED))
    stage.scheduler.check_invariants()
    assert slot_state(stage) is SlotState.BUSY
    assert settled(stage.finish(job)) == [job]


def test_a_worker_that_leaves_with_its_answer_gets_no_more_jobs() -> None:
    stage = Stage(slots=1)
    job, waiting = stage.submit(), stage.submit()
    assert stage.finish(job, is_leaving=True) == [Settled(job)]
    assert slot_state(stage) is SlotState.ABSENT
    assert stage.die(0) == []
    assert started(stage.ready(0, generation=2)) == [waiting]


@pytest.mark.parametrize("generation", [1, 2])
def test_a_late_answer_of_a_dead_worker_is_ignored(generation: int) -> None:
    """It arrives while the slot is empty, or while the next worker runs another job."""
    stage = Stage(slots=1)
    job = stage.submit()
    stage.die(0)
    other = None
    if generation > 1:
        stage.ready(0, generation=2)
        other = stage.submit()
    assert stage.finish(job) == []
    assert reason_of(job) is Reason.WORKER_CRASHED
    assert other is None or other.state is JobState.RUNNING


def test_a_late_answer_of_a_jobs_first_attempt_does_not_end_its_second() -> None:
    """Same slot and same job: only the generation distinguishes the two workers."""
    stage = Stage(slots=1)
    job = stage.submit(limits=RETRIED)
    stage.die(0)
    stage.ready(0, generation=2)
    assert stage.finish(job, generation=1) == []
    assert stage.die(0, generation=1) == []
    assert (job.state, job.attempt, slot_state(stage)) == (JobState.RUNNING, 2, SlotState.BUSY)


def test_an_answer_for_a_job_not_in_the_slot_is_ignored() -> None:
    stage = Stage(slots=1)
    first = stage.submit()
    stage.finish(first)
    second = stage.submit()
    assert stage.finish(first) == []
    assert second.state is JobState.RUNNING


def test_an_answer_from_a_removed_slot_is_ignored() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    stage.die(0)
    stage.scheduler.slot_removed(SlotId(0))
    assert stage.finish(job) == []
    assert stage.die(0) == []


# Slots


def test_an_added_slot_waits_for_its_worker() -> None:
    stage = Stage(slots=1)
    stage.scheduler.slot_added(SlotId(7))
    assert slot_state(stage, 7) is SlotState.ABSENT
    first, second = stage.submit(), stage.submit()
    assert (first.state, second.state) == (JobState.RUNNING, JobState.QUEUED)
    assert stage.ready(7) == [Start(SlotId(7), second)]


def test_a_slot_cannot_be_added_twice() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    with pytest.raises(IllegalStep, match="slot 0 is busy: add is not possible"):
        stage.scheduler.slot_added(SlotId(0))
    assert settled(stage.finish(job)) == [job]


def test_a_slot_with_a_worker_cannot_be_removed() -> None:
    stage = Stage(slots=1)
    with pytest.raises(IllegalStep, match="slot 0 is idle: remove is not possible"):
        stage.scheduler.slot_removed(SlotId(0))
    stage.die(0)
    stage.scheduler.slot_removed(SlotId(0))
    assert not stage.scheduler.slots.all


def test_a_second_worker_for_an_occupied_slot_raises_and_changes_nothing() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    with pytest.raises(IllegalStep):
        stage.ready(0, generation=2)
    stage.scheduler.check_invariants()
    assert settled(stage.finish(job)) == [job]


# Reading


def test_a_job_is_found_until_it_has_ended() -> None:
    stage = Stage(slots=1)
    running, waiting = stage.submit(), stage.submit()
    assert [stage.scheduler.find(job.id) for job in (running, waiting)] == [running, waiting]
    stage.cancel(running)
    assert stage.scheduler.find(running.id) is None
    assert stage.scheduler.find(waiting.id) is waiting


def test_every_job_is_counted_once() -> None:
    stage = Stage(slots=2, queue_limit=2)
    done, failing, waiting = stage.submit(), stage.submit(), stage.submit()
    stage.finish(done)
    stage.answer(failing, Outcome(reason=Reason.TASK_ERROR))
    stage.cancel(waiting)
    for _ in range(5):
        stage.submit()
    scheduler = stage.scheduler
    assert (scheduler.tally.submitted, scheduler.tally.running, scheduler.queued) == (8, 1, 2)
    assert scheduler.tally.ended == {
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 1,
        JobState.REJECTED: 2,
    }
