"""Which jobs are accepted and which are rejected, and why."""

from __future__ import annotations

from typing import Any

import pytest

from offload.core.admission.estimate import Inquiry
from offload.core.job import JobState, SlotId
from offload.core.outcome import Outcome, OverloadCause, Reason
from offload.core.request import TaskLimits
from offload.core.run_times import UNKNOWN_S
from tests.unit.core.stage import TASK, Stage, cause_of, facts_of, reason_of, settled, started, stopped

OTHER = TaskLimits(name="other", index=1, timeout_s=60.0)


def known_to_take(stage: Stage, run_s: float, limits: TaskLimits = TASK) -> None:
    """Runs the task once, so that its run time is known."""
    job = stage.submit(limits=limits)
    stage.finish(job, run_s=run_s)


# Workers


def test_before_the_first_worker_is_ready_jobs_are_rejected_as_starting() -> None:
    stage = Stage()
    job = stage.submit()
    assert (job.state, reason_of(job), facts_of(job)) == (
        JobState.REJECTED,
        Reason.STARTING,
        {"retry_after_s": 1},
    )


def test_jobs_are_accepted_after_the_only_worker_died() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    assert stage.submit().state is JobState.QUEUED


def test_without_workers_and_with_failing_start_ups_jobs_are_rejected_until_one_is_ready() -> None:
    stage = Stage(slots=1)
    stage.die(0)
    stage.fail_to_start()
    assert reason_of(stage.submit()) is Reason.STARTING
    stage.ready(0, generation=2)
    assert stage.submit().state is JobState.RUNNING
    stage.die(0, generation=2)
    assert stage.submit().state is JobState.QUEUED


def test_failing_start_ups_do_not_matter_while_a_worker_is_present() -> None:
    stage = Stage(slots=1)
    stage.fail_to_start()
    assert stage.submit().state is JobState.RUNNING
    assert stage.submit().state is JobState.QUEUED


# The queue


def test_a_full_queue_rejects_with_its_length_and_the_expected_wait() -> None:
    stage = Stage(slots=1, queue_limit=2)
    known_to_take(stage, 3.0)
    for _ in range(3):
        stage.submit()
    rejected = stage.submit()
    assert (rejected.state, reason_of(rejected)) == (JobState.REJECTED, Reason.OVERLOADED)
    facts = facts_of(rejected)
    # Two jobs wait and one runs.
    assert (facts["queued"], facts["expected_wait_s"]) == (2, 9.0)
    assert (facts["cause"], facts["limit"]) == (OverloadCause.QUEUE_FULL, 2)


def test_an_idle_slot_accepts_a_job_without_any_queue() -> None:
    stage = Stage(slots=1, queue_limit=0)
    assert stage.submit().state is JobState.RUNNING
    assert reason_of(stage.submit()) is Reason.OVERLOADED


def test_a_queue_full_of_bytes_rejects() -> None:
    stage = Stage(slots=1, queue_limit_bytes=100)
    stage.submit(size_bytes=100)
    assert stage.submit(size_bytes=60).state is JobState.QUEUED
    assert cause_of(stage.submit(size_bytes=50)) is OverloadCause.QUEUE_BYTES_FULL
    assert stage.submit(size_bytes=40).state is JobState.QUEUED


# Displacing


def test_a_more_urgent_job_displaces_the_newest_of_the_least_urgent_in_a_full_queue() -> None:
    stage = Stage(slots=1, queue_limit=4)
    stage.submit()
    older, newer = (stage.submit(urgency=7) for _ in range(2))
    others = [stage.submit(urgency=5), stage.submit(urgency=3)]
    urgent = stage.submit(urgency=4)
    assert (newer.state, cause_of(newer)) == (JobState.REJECTED, OverloadCause.DISPLACED)
    assert facts_of(newer)["limit"] == 4
    assert {job.state for job in (older, *others, urgent)} == {JobState.QUEUED}
    assert facts_of(newer)["retry_after_s"] == 1


def test_a_job_that_is_not_more_urgent_is_rejected_itself() -> None:
    stage = Stage(slots=1, queue_limit=1)
    stage.submit()
    waiting = stage.submit(urgency=3)
    assert reason_of(stage.submit(urgency=3)) is Reason.OVERLOADED
    assert reason_of(stage.submit(urgency=7)) is Reason.OVERLOADED
    assert waiting.state is JobState.QUEUED


def test_a_client_that_fills_the_queue_makes_room_for_another() -> None:
    """It does so only until both have equally many waiting jobs; otherwise they would displace each other for ever."""
    stage = Stage(slots=1, queue_limit=4)
    flood = [stage.submit(client="greedy") for _ in range(5)]
    first, second = (stage.submit(client="modest") for _ in range(2))
    assert [job.state for job in flood[1:]] == [JobState.QUEUED, JobState.QUEUED, JobState.REJECTED, JobState.REJECTED]
    assert (first.state, second.state) == (JobState.QUEUED, JobState.QUEUED)
    assert reason_of(stage.submit(client="modest")) is Reason.OVERLOADED


def test_no_job_is_displaced_for_one_that_would_not_fit_anyway() -> None:
    stage = Stage(slots=1, queue_limit_bytes=100)
    stage.submit()
    waiting = [stage.submit(urgency=7, size_bytes=50) for _ in range(2)]
    assert reason_of(stage.submit(urgency=0, size_bytes=60)) is Reason.OVERLOADED
    assert {job.state for job in waiting} == {JobState.QUEUED}


# Limits of one client and one task


def test_a_client_at_its_limit_of_queued_jobs_is_rejected_with_the_limit() -> None:
    stage = Stage(slots=1, max_queued_per_client=2)
    for _ in range(3):
        stage.submit(client="one")
    rejected = stage.submit(client="one")
    assert (reason_of(rejected), facts_of(rejected)["limit"]) == (Reason.CLIENT_QUEUE_FULL, 2)
    assert facts_of(rejected)["retry_after_s"] == 1
    assert stage.submit(client="other").state is JobState.QUEUED


def test_a_client_at_its_limit_does_not_make_the_service_unready() -> None:
    """All clients of a Unix socket count as one; its limit must not make a proxy send the others elsewhere."""
    stage = Stage(slots=1, max_queued_per_client=1)
    for _ in range(3):
        stage.submit(client="")
    assert stage.scheduler.rejection(Inquiry(), stage.now) is None


def test_a_client_at_its_limit_of_running_jobs_waits_while_others_run() -> None:
    stage = Stage(slots=3, max_running_per_client=1)
    first, second = (stage.submit(client="one") for _ in range(2))
    other = stage.submit(client="other")
    assert (first.state, second.state, other.state) == (JobState.RUNNING, JobState.QUEUED, JobState.RUNNING)
    assert started(stage.finish(first)) == [second]


def test_a_task_at_its_limit_of_running_jobs_waits_while_others_run() -> None:
    stage = Stage(slots=3)
    heavy = TaskLimits(name="heavy", index=1, timeout_s=60.0, max_running=1)
    first, second = (stage.submit(limits=heavy) for _ in range(2))
    assert (first.state, second.state) == (JobState.RUNNING, JobState.QUEUED)
    assert stage.submit().state is JobState.RUNNING
    assert started(stage.finish(first)) == [second]


def test_a_stopped_job_counts_against_the_limit_until_its_work_has_ended() -> None:
    stage = Stage(slots=2)
    heavy = TaskLimits(name="heavy", index=1, timeout_s=60.0, max_running=1)
    first, second = (stage.submit(limits=heavy) for _ in range(2))
    assert started(stage.cancel(first)) == []
    assert started(stage.die(1)) == [second]


def test_a_task_at_its_limit_of_queued_jobs_is_rejected_and_others_are_not() -> None:
    stage = Stage(slots=1)
    heavy = TaskLimits(name="heavy", index=1, timeout_s=60.0, max_queued=1)
    stage.submit(limits=heavy)
    stage.submit(limits=heavy)
    rejected = stage.submit(limits=heavy)
    assert (cause_of(rejected), facts_of(rejected)["limit"]) == (OverloadCause.TASK_QUEUE_FULL, 1)
    assert stage.submit().state is JobState.QUEUED


# Budgets


def test_a_job_that_would_miss_its_deadline_is_rejected_at_once() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 2.0)
    stage.submit()
    stage.submit()
    # One job runs and one waits, which may take twice as long as expected; the job itself takes two seconds; and a
    # twentieth of the budget is reserved for the answer.
    assert cause_of(stage.submit(budget_s=8.4)) is OverloadCause.DEADLINE_UNREACHABLE
    assert stage.submit(budget_s=8.5).state is JobState.QUEUED


def test_the_time_that_a_job_has_run_reduces_the_expected_wait() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 10.0)
    stage.submit()
    stage.wait(9.0)
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx(1.0)


def test_a_job_that_takes_longer_than_expected_is_expected_to_take_as_long_again() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 1.0)
    stage.submit()
    stage.wait(4.0)
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx(3.0)


def test_the_expected_wait_is_zero_while_a_slot_is_idle() -> None:
    stage = Stage(slots=2)
    known_to_take(stage, 10.0)
    stage.submit()
    assert stage.scheduler.expected_wait_s(stage.now) == 0.0


def test_an_idle_slot_accepts_a_job_that_is_expected_to_exceed_its_budget() -> None:
    """It holds up no other job, and otherwise a task that has become faster would be rejected for ever."""
    stage = Stage(slots=1)
    known_to_take(stage, 10.0)
    assert stage.submit(budget_s=0.1).state is JobState.RUNNING


def test_each_waiting_job_adds_to_the_wait_of_the_next_even_at_the_same_instant() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 1.0)
    stage.submit()
    expected_s = []
    for _ in range(3):
        expected_s.append(stage.scheduler.expected_wait_s(stage.now))
        stage.submit()
    assert expected_s == [pytest.approx(1.0), pytest.approx(2.0), pytest.approx(3.0)]


@pytest.mark.parametrize("unlike", [{"client": "another"}, {"limits": OTHER}, {"urgency": 0}], ids=str)
def test_a_job_that_is_served_sooner_is_accepted_where_another_is_rejected(unlike: dict[str, Any]) -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 0.001, OTHER)
    known_to_take(stage, 1.0)
    for _ in range(20):
        stage.submit(client="greedy")
    assert stage.submit(client="greedy", budget_s=5.0).state is JobState.REJECTED
    assert stage.submit(**{"client": "greedy", "budget_s": 5.0, **unlike}).state is JobState.QUEUED


def test_the_work_ahead_is_shared_by_the_slots_that_have_a_worker() -> None:
    stage = Stage(slots=4)
    known_to_take(stage, 4.0)
    for _ in range(6):
        stage.submit()
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx((2 + 4) * 4.0 / 4)
    stage.die(0)  # its job had begun and has no retries
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx((2 + 3) * 4.0 / 3)


def test_the_expected_wait_uses_each_tasks_own_run_time() -> None:
    stage = Stage(slots=1)
    known_to_take(stage, 4.0)
    known_to_take(stage, 1.0, OTHER)
    stage.submit(limits=OTHER)
    stage.submit()
    assert stage.scheduler.expected_wait_s(stage.now) == 1.0 + 4.0


def test_waiting_work_follows_the_present_estimate() -> None:
    stage = Stage(slots=1)
    first = stage.submit()
    for _ in range(5):
        stage.submit()
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx(6 * UNKNOWN_S)
    stage.finish(first, run_s=2.0)
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx(5 * 2.0)


def test_only_work_that_goes_before_the_job_is_counted() -> None:
    """That is more urgent work, and from each other client of the same urgency no more work than the client's own."""
    stage = Stage(slots=1)
    known_to_take(stage, 1.0)
    for _ in range(10):
        stage.submit(client="greedy")
    for _ in range(5):
        stage.submit(urgency=7, client="greedy")
    assert stage.submit(budget_s=6.0, client="modest").state is JobState.QUEUED
    assert reason_of(stage.submit(budget_s=6.0, client="greedy")) is Reason.OVERLOADED
    assert stage.submit(budget_s=6.0, urgency=0, client="greedy").state is JobState.QUEUED


def test_work_of_a_task_at_its_limit_delays_other_tasks_only_by_its_own_slots() -> None:
    stage = Stage(slots=4)
    heavy = TaskLimits(name="heavy", index=1, timeout_s=600.0, max_running=1)
    known_to_take(stage, 10.0, heavy)
    known_to_take(stage, 1.0)
    for _ in range(20):
        stage.submit(limits=heavy)
    for _ in range(6):
        stage.submit()
    # The heavy jobs keep one slot busy for long; three light ones run, three wait, and the next one follows them.
    assert stage.submit(budget_s=7.0).state is JobState.QUEUED
    assert reason_of(stage.submit(limits=heavy, budget_s=200.0)) is Reason.OVERLOADED


def test_a_task_whose_every_job_is_stopped_is_expected_to_take_that_long() -> None:
    """Otherwise a queue of jobs that hang would look like an empty one."""
    stage = Stage(slots=1)
    stage.submit(limits=TaskLimits(name="hangs", index=0, timeout_s=5.0))
    assert stopped(stage.wait(5.01))
    stage.die(0)
    stage.ready(0, generation=2)
    stage.submit()
    stage.submit()
    assert stage.scheduler.expected_wait_s(stage.now) == pytest.approx(10.0, abs=0.1)
    assert reason_of(stage.submit(budget_s=1.0)) is Reason.OVERLOADED


def test_a_result_after_the_timeout_does_not_count_a_second_time() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=TaskLimits(name="slow", index=0, timeout_s=1.0))
    stage.wait(1.01)
    stage.finish(job, run_s=100.0)
    assert stage.scheduler.run_times.expected_s(0) == pytest.approx(1.01)


def test_a_late_answer_does_not_affect_waiting_jobs() -> None:
    """Even one that can no longer meet its deadline is settled only by the next event."""
    stage = Stage(slots=1)
    known_to_take(stage, 1.0)
    running = stage.submit()
    stage.submit(budget_s=4.0)
    stage.die(0)
    stage.now += 3.5
    ended = [(running.number, Outcome(reason=Reason.SUCCEEDED, run_s=1.0))]
    assert stage.scheduler.finished(SlotId(0), 1, ended, now=stage.now) == []


def test_several_answers_are_one_event() -> None:
    """Jobs are started after the last answer. A job that began and ended unseen has no deadline any more."""
    stage = Stage(slots=1, prefetch=True)
    known_to_take(stage, 0.0001)
    first, second, third = stage.submit(), stage.submit(budget_s=5.0), stage.submit()
    ended = [(job.number, Outcome(reason=Reason.SUCCEEDED, run_s=0.0001)) for job in (first, second)]
    stage.now += 0.001
    commands = stage.scheduler.finished(SlotId(0), 1, ended, now=stage.now)
    stage.scheduler.check_invariants()
    assert settled(commands) == [first, second]
    assert second.wait_s == pytest.approx(0.001)
    assert third.is_running


def test_a_task_error_counts_as_a_run() -> None:
    stage = Stage(slots=1)
    stage.answer(stage.submit(), Outcome(reason=Reason.TASK_ERROR, run_s=2.0))
    assert stage.scheduler.run_times.expected_s(0) == 2.0


def test_a_queued_job_that_can_no_longer_meet_its_deadline_is_rejected() -> None:
    """It is rejected when it would be served next; the caller may send it elsewhere."""
    stage = Stage(slots=1)
    known_to_take(stage, 1.0)
    running = stage.submit()
    job = stage.submit(budget_s=4.0)
    stage.wait(3.5)
    assert settled(stage.finish(running, run_s=1.0)) == [running, job]
    assert (cause_of(job), facts_of(job)["retry_after_s"]) == (OverloadCause.DEADLINE_UNREACHABLE, 3)


# Arriving and leaving bytes


def test_arriving_and_leaving_bytes_take_room_from_waiting_ones() -> None:
    stage = Stage(slots=1, queue_limit_bytes=100)
    stage.submit()
    traffic = stage.scheduler.traffic
    assert traffic.body_grows(60, to_bytes=60)
    assert reason_of(stage.submit(size_bytes=41)) is Reason.OVERLOADED
    assert stage.submit(size_bytes=40).state is JobState.QUEUED
    assert not traffic.body_grows(1, to_bytes=1)
    traffic.body_has_arrived(61)
    traffic.result_leaves(60)
    assert reason_of(stage.submit(size_bytes=1)) is Reason.OVERLOADED
    traffic.result_has_left(60)
    assert stage.submit(size_bytes=60).state is JobState.QUEUED


def test_a_body_larger_than_the_limit_may_arrive_alone() -> None:
    stage = Stage(slots=1, queue_limit_bytes=100)
    traffic = stage.scheduler.traffic
    assert traffic.body_grows(90, to_bytes=90)
    assert traffic.body_grows(90, to_bytes=180)
    assert not traffic.body_grows(1, to_bytes=1)


# Draining


def test_a_draining_service_rejects_until_its_end() -> None:
    stage = Stage(slots=1)
    stage.scheduler.begin_drain(stage.now + 12.5)
    job = stage.submit()
    assert (reason_of(job), facts_of(job)) == (Reason.DRAINING, {"retry_after_s": 13})
    stage.wait(100.0)
    assert facts_of(stage.submit()) == {"retry_after_s": 1}


# Checking before the body arrives


def test_checking_for_a_rejection_gives_the_same_answer_as_submitting_and_changes_nothing() -> None:
    stage = Stage(slots=1, queue_limit=1)
    assert stage.scheduler.rejection(Inquiry(), stage.now) is None
    stage.submit()
    assert stage.scheduler.rejection(Inquiry(), stage.now) is None
    stage.submit()
    rejection = stage.scheduler.rejection(Inquiry(), stage.now)
    assert rejection is not None
    assert rejection.reason is Reason.OVERLOADED
    assert stage.scheduler.tally.submitted == 2


def test_a_job_rejected_before_its_body_is_counted_and_settled_like_any_other() -> None:
    stage = Stage(slots=1)
    stage.scheduler.begin_drain(stage.now)
    rejection = stage.scheduler.rejection(Inquiry(), stage.now)
    assert rejection is not None
    job = stage.new_job()
    assert settled(stage.reject(job, rejection)) == [job]
    assert reason_of(job) is Reason.DRAINING
    assert stage.scheduler.tally.ended == {JobState.REJECTED: 1}
