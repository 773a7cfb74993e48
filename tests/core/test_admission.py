"""Who is taken and who is refused, and what the refused are told."""

from __future__ import annotations

import pytest

from offload.core.admission import RunTimes, whole_seconds
from offload.core.job import Job, JobState, Outcome, Reason, TaskLimits
from tests.core.stage import TASK, Stage, reason_of, settled, stopped

OTHER = TaskLimits(name="other", index=1, timeout_s=60.0)


def known_to_take(stage: Stage, run_s: float, limits: TaskLimits = TASK) -> None:
    """One run of the task, so that its run time is known."""
    job = stage.submit(limits=limits)
    stage.finish(job, run_s=run_s)


def facts_of(job: Job) -> dict[str, object]:
    assert job.outcome is not None
    return dict(job.outcome.facts)


# Run times


def test_a_task_that_never_ran_is_expected_to_take_no_time() -> None:
    assert RunTimes().expected_s(0) == 0.0


def test_the_first_run_is_the_mean_and_each_later_one_moves_it_by_a_twentieth() -> None:
    times = RunTimes()
    times.record(0, 2.0)
    assert times.expected_s(0) == 2.0
    times.record(0, 4.0)
    assert times.expected_s(0) == pytest.approx(2.1)
    assert times.expected_s(1) == 0.0


def test_a_stopped_run_is_news_only_if_it_took_longer_than_expected() -> None:
    times = RunTimes()
    times.record(0, 2.0)
    times.record_at_least(0, 1.0)
    assert times.expected_s(0) == 2.0
    times.record_at_least(0, 4.0)
    assert times.expected_s(0) == pytest.approx(2.1)


@pytest.mark.parametrize(("seconds", "told"), [(-1.0, 1), (0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (59.5, 60)])
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(seconds: float, told: int) -> None:
    assert whole_seconds(seconds) == told


# Workers


def test_before_the_first_worker_is_ready_jobs_are_refused_as_starting() -> None:
    stage = Stage()
    job = stage.submit()
    assert (job.state, reason_of(job), facts_of(job)) == (
        JobState.REJECTED,
        Reason.STARTING,
        {"retry_after_s": 1},
    )


def test_a_worker_that_died_is_no_reason_to_refuse() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    assert stage.submit().state is JobState.QUEUED


def test_with_no_worker_and_failing_start_ups_jobs_are_refused_until_one_is_ready() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    stage.fail_to_start()
    assert reason_of(stage.submit()) is Reason.STARTING
    stage.ready(0, generation=2)
    assert stage.submit().state is JobState.RUNNING
    stage.die(0, generation=2)
    assert stage.submit().state is JobState.QUEUED


def test_failing_start_ups_are_no_reason_while_a_worker_is_there() -> None:
    stage = Stage(slots=1)
    stage.fail_to_start()
    assert stage.submit().state is JobState.RUNNING
    assert stage.submit().state is JobState.QUEUED


# The queue


def test_a_full_queue_refuses_with_what_waits_and_for_how_long() -> None:
    stage = Stage(slots=1, queue_limit=2)
    known_to_take(stage, 3.0)
    for _ in range(3):
        stage.submit()
    refused = stage.submit()
    # Two that wait and half of the one that runs.
    assert (refused.state, reason_of(refused), facts_of(refused)) == (
        JobState.REJECTED,
        Reason.OVERLOADED,
        {"queued": 2, "expected_wait_s": 7.5, "retry_after_s": 8},
    )


def test_an_idle_slot_takes_a_job_even_where_none_may_wait() -> None:
    stage = Stage(slots=1, queue_limit=0)
    assert stage.submit().state is JobState.RUNNING
    assert reason_of(stage.submit()) is Reason.OVERLOADED


def test_a_queue_full_of_bytes_refuses() -> None:
    stage = Stage(slots=1, queue_limit_bytes=100)
    stage.submit(size_bytes=100)
    assert stage.submit(size_bytes=60).state is JobState.QUEUED
    assert reason_of(stage.submit(size_bytes=50)) is Reason.OVERLOADED
    assert stage.submit(size_bytes=40).state is JobState.QUEUED


# Budgets


def test_a_job_that_would_wait_longer_than_its_budget_is_refused_at_once() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 2.0)
    stage.submit()
    stage.submit()
    # One waits, half of another is left: three seconds.
    assert reason_of(stage.submit(budget_s=2.9)) is Reason.OVERLOADED
    assert stage.submit(budget_s=3.1).state is JobState.QUEUED


def test_what_runs_is_waited_for_even_when_nobody_waits_yet() -> None:
    """The first in the queue waits too: for a slot, none of which is idle."""
    stage = Stage(slots=1)
    known_to_take(stage, 10.0)
    stage.submit()
    assert stage.scheduler.expected_wait_s() == 5.0
    assert reason_of(stage.submit(budget_s=1.0)) is Reason.OVERLOADED


def test_nobody_is_expected_to_wait_while_a_slot_is_idle() -> None:
    stage = Stage(slots=2)
    known_to_take(stage, 10.0)
    stage.submit()
    assert stage.scheduler.expected_wait_s() == 0.0
    assert stage.submit(budget_s=0.1).state is JobState.RUNNING


def test_the_work_ahead_is_shared_by_the_slots_that_have_a_worker() -> None:
    stage = Stage(slots=4)
    known_to_take(stage, 4.0)
    for _ in range(6):
        stage.submit()
    assert stage.scheduler.expected_wait_s() == (2 * 4.0 + 4 * 4.0 / 2) / 4
    stage.die(0)  # its job waits no more: it had begun, and may not be tried again
    assert stage.scheduler.expected_wait_s() == pytest.approx((2 * 4.0 + 3 * 4.0 / 2) / 3)


def test_tasks_are_expected_to_take_what_they_took_each_for_itself() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 4.0)
    known_to_take(stage, 1.0, OTHER)
    stage.submit(limits=OTHER)
    stage.submit()
    assert stage.scheduler.expected_wait_s() == 4.0 + 0.5


def test_with_nothing_known_nobody_is_refused_for_the_wait() -> None:
    stage = Stage(slots=1)
    for _ in range(5):
        stage.submit()
    assert stage.submit(budget_s=0.001).state is JobState.QUEUED


def test_a_task_of_which_every_job_is_stopped_is_expected_to_take_that_long() -> None:
    """Else a queue of jobs that hang would look like no work at all."""
    stage = Stage(slots=1)
    stage.submit(limits=TaskLimits(name="hangs", index=0, timeout_s=5.0))
    assert stopped(stage.wait(5.01))
    stage.die(0)
    stage.ready(0, generation=2)
    stage.submit()
    stage.submit()
    assert stage.scheduler.expected_wait_s() == pytest.approx(7.5, abs=0.1)
    assert reason_of(stage.submit(budget_s=1.0)) is Reason.OVERLOADED


def test_a_result_that_came_too_late_tells_nothing_twice() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=TaskLimits(name="slow", index=0, timeout_s=1.0))
    stage.wait(1.01)
    stage.finish(job, run_s=100.0)
    assert stage.scheduler.admission.run_times.expected_s(0) == pytest.approx(1.01)


def test_a_fault_that_the_worker_found_counts_as_a_run_too() -> None:
    stage = Stage(slots=1)
    stage.answer(stage.submit(), Outcome(reason=Reason.TASK_ERROR, run_s=2.0))
    assert stage.scheduler.admission.run_times.expected_s(0) == 2.0


# Draining


def test_a_draining_service_refuses_until_it_is_gone() -> None:
    stage = Stage(slots=1)
    stage.scheduler.begin_drain(stage.now + 12.5)
    job = stage.submit()
    assert (reason_of(job), facts_of(job)) == (Reason.DRAINING, {"retry_after_s": 13})
    stage.wait(100.0)
    assert facts_of(stage.submit()) == {"retry_after_s": 1}


# Asking before


def test_asking_is_answered_as_submitting_would_be_and_changes_nothing() -> None:
    stage = Stage(slots=1, queue_limit=1)
    assert stage.scheduler.refusal(stage.now) is None
    stage.submit()
    assert stage.scheduler.refusal(stage.now) is None
    stage.submit()
    refusal = stage.scheduler.refusal(stage.now)
    assert refusal is not None
    assert refusal.reason is Reason.OVERLOADED
    assert stage.scheduler.submitted == 2


def test_a_job_refused_beforehand_is_counted_and_told_like_any_other() -> None:
    stage = Stage(slots=1)
    stage.scheduler.begin_drain(stage.now)
    refusal = stage.scheduler.refusal(stage.now)
    assert refusal is not None
    job = stage.new_job()
    assert settled(stage.refuse(job, refusal)) == [job]
    assert reason_of(job) is Reason.DRAINING
    assert stage.scheduler.ended == {JobState.REJECTED: 1}
