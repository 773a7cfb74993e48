"""Short jobs that wait in a slot behind the one that runs: which may, what follows, and how long they wait."""

from __future__ import annotations

import pytest

from offload.core.commands import Settled, Start
from offload.core.deadlines import TICK_S
from offload.core.job import JobState, SlotId
from offload.core.outcome import Reason
from offload.core.prefetch import MAX_IN_SLOT, PATIENCE_S
from offload.core.request import TaskLimits
from offload.core.slot import SlotState
from tests.unit.core.short_jobs import (
    LONG,
    MEASURED,
    MIDDLING,
    RUN_S,
    TALKATIVE,
    TINY,
    UNKNOWN,
    known_stage,
    submit_many,
)
from tests.unit.core.stage import Stage, held, reason_of, settled, slot_state, started

LATE_S = 2 * TICK_S


# Which jobs may wait in a slot


def test_a_short_job_is_given_to_a_slot_where_another_short_one_runs() -> None:
    stage = known_stage()
    first, second = stage.submit(limits=TINY), stage.new_job(limits=TINY)
    assert stage.submit_job(second) == [Start(SlotId(0), second)]
    assert held(stage) == [first, second]
    assert (second.state, second.slot, second.started_at) == (JobState.QUEUED, SlotId(0), None)


def test_no_slot_holds_a_second_job_unless_the_engine_can_withdraw_it() -> None:
    stage = known_stage(prefetch=False)
    first, _ = submit_many(stage, 2)
    assert held(stage) == [first]


def test_an_idle_slot_comes_before_room_behind_another_job() -> None:
    stage = known_stage(slots=2)
    first, second = submit_many(stage, 2)
    assert first.slot != second.slot
    assert stage.scheduler.tally.running == 2


@pytest.mark.parametrize("limits", [LONG, MEASURED, TALKATIVE, UNKNOWN], ids=lambda limits: limits.name)
def test_a_job_of_a_long_measured_printing_or_unknown_task_waits_in_the_queue(limits: TaskLimits) -> None:
    stage = known_stage()
    first = stage.submit(limits=TINY)
    job = stage.submit(limits=limits)
    assert held(stage) == [first]
    assert list(stage.scheduler.queue) == [job]


@pytest.mark.parametrize("limits", [LONG, MEASURED, TALKATIVE, UNKNOWN], ids=lambda limits: limits.name)
def test_no_job_waits_behind_one_of_a_long_measured_printing_or_unknown_task(limits: TaskLimits) -> None:
    stage = known_stage()
    first = stage.submit(limits=limits)
    job = stage.submit(limits=TINY)
    assert held(stage) == [first]
    assert list(stage.scheduler.queue) == [job]


def test_a_task_that_becomes_long_is_not_prefetched() -> None:
    stage = known_stage()
    stage.finish(stage.submit(limits=TINY), run_s=1.0)
    first, _ = submit_many(stage, 2)
    assert held(stage) == [first]


def test_the_work_ahead_in_a_slot_is_bounded() -> None:
    stage = known_stage()
    jobs = [stage.submit(limits=MIDDLING) for _ in range(3)]
    assert held(stage) == jobs[:2]


def test_the_work_ahead_in_a_slot_follows_the_present_estimate() -> None:
    """The jobs were submitted while the run time of their task was not known."""
    stage = Stage(slots=1, prefetch=True)
    jobs = [stage.submit(limits=MIDDLING) for _ in range(4)]
    stage.finish(jobs[0], run_s=RUN_S[MIDDLING])
    assert held(stage) == jobs[1:3]


def test_the_number_of_jobs_in_a_slot_is_bounded() -> None:
    stage = known_stage()
    jobs = submit_many(stage, MAX_IN_SLOT + 2)
    assert held(stage) == jobs[:MAX_IN_SLOT]
    assert list(stage.scheduler.queue) == jobs[MAX_IN_SLOT:]


def test_after_one_slot_is_full_the_next_is_used() -> None:
    stage = known_stage(slots=2)
    jobs = submit_many(stage, 2 * MAX_IN_SLOT + 1)
    assert set(held(stage, 0) + held(stage, 1)) == set(jobs[:-1])


def test_a_slot_whose_job_has_run_for_long_gets_no_more_jobs() -> None:
    stage = known_stage()
    first = stage.submit(limits=TINY)
    stage.wait(PATIENCE_S)
    stage.submit(limits=TINY)
    assert held(stage) == [first]


def test_a_slot_that_is_stopping_or_absent_gets_no_more_jobs() -> None:
    stage = known_stage()
    first = stage.submit(limits=TINY)
    stage.cancel(first)
    job = stage.submit(limits=TINY)
    assert held(stage) == [first]
    stage.die(0)
    assert list(stage.scheduler.queue) == [job]


def test_a_long_job_at_the_front_of_the_queue_is_not_overtaken() -> None:
    stage = known_stage()
    first, long, short = stage.submit(limits=TINY), stage.submit(limits=LONG, urgency=2), stage.submit(limits=TINY)
    assert held(stage) == [first]
    assert list(stage.scheduler.queue) == [long, short]


def test_a_job_past_its_deadline_is_settled_and_not_prefetched() -> None:
    """A slot may have room again before the timer fires."""
    stage = known_stage()
    jobs = submit_many(stage, MAX_IN_SLOT)
    overdue, next_one = stage.submit(limits=TINY, budget_s=0.001), stage.submit(limits=TINY)
    stage.now += 0.002
    assert stage.finish(jobs[0]) == [Settled(jobs[0]), Settled(overdue), Start(SlotId(0), next_one)]
    assert reason_of(overdue) is Reason.DEADLINE_EXCEEDED


# From one job to the next


def test_the_next_job_in_a_slot_runs_from_the_answer_of_the_first() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    stage.now += 0.001
    assert stage.finish(first) == [Settled(first)]
    assert (second.state, second.started_at) == (JobState.RUNNING, stage.now)
    assert held(stage) == [second]
    assert stage.finish(second) == [Settled(second)]
    assert slot_state(stage) is SlotState.IDLE


def test_each_answer_makes_room_for_a_queued_job() -> None:
    stage = known_stage()
    jobs = submit_many(stage, MAX_IN_SLOT + 2)
    assert stage.finish(jobs[0]) == [Settled(jobs[0]), Start(SlotId(0), jobs[MAX_IN_SLOT])]


def test_an_answer_of_a_job_that_waits_in_the_slot_is_ignored() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    assert stage.finish(second) == []
    assert held(stage) == [first, second]


def test_the_timeout_does_not_include_the_wait_behind_others() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    stage.now += 0.004
    stage.finish(first)
    assert stage.wait(TINY.timeout_s - 0.001) == []
    assert settled(stage.wait(0.001 + LATE_S)) == [second]


@pytest.mark.parametrize("is_repeated", [True, False])
def test_a_leaving_worker_finishes_its_jobs_and_gets_no_more(is_repeated: bool) -> None:
    stage = known_stage()
    first, second, third = submit_many(stage, 3)
    assert stage.finish(first, is_leaving=True) == [Settled(first)]
    waiting = stage.submit(limits=TINY)
    assert held(stage) == [second, third]
    assert stage.finish(second, is_leaving=is_repeated) == [Settled(second)]
    assert stage.finish(third, is_leaving=is_repeated) == [Settled(third)]
    assert slot_state(stage) is SlotState.ABSENT
    assert started(stage.ready(0, generation=2)) == [waiting]


# Behind a job that takes long


def test_jobs_behind_a_long_one_are_withdrawn_and_given_to_an_idle_slot() -> None:
    stage = known_stage(slots=2)
    jobs = submit_many(stage, 3)
    head, other = held(stage, 0)[0], held(stage, 1)[0]
    behind = jobs[2]
    if behind.slot == other.slot:
        head, other = other, head
    stage.finish(other)
    assert stage.wait(PATIENCE_S - 0.001) == []
    commands = stage.wait(0.001 + LATE_S)
    assert commands == [Start(other.slot or SlotId(0), behind)]
    assert behind.state is JobState.RUNNING
    assert not head.is_settled


def test_withdrawn_jobs_wait_before_all_others_in_their_order() -> None:
    stage = known_stage()
    jobs = submit_many(stage, 4)
    urgent = stage.submit(limits=LONG, urgency=0)
    assert held(stage) == jobs
    stage.wait(PATIENCE_S + LATE_S)
    assert stage.withdrawn == jobs[:0:-1]
    assert list(stage.scheduler.queue) == [*jobs[1:], urgent]
    assert all(job.slot is None for job in jobs[1:])
    assert held(stage) == jobs[:1]


def test_withdrawn_jobs_are_not_given_back_to_their_slot() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    stage.wait(PATIENCE_S + LATE_S)
    stage.wait(LATE_S)
    assert stage.withdrawn == [second]
    assert started(stage.finish(first)) == [second]


def test_a_job_that_has_begun_meanwhile_is_not_withdrawn() -> None:
    """The first job's answer is on the way: the worker already runs the second."""
    stage = known_stage()
    first, second, third = submit_many(stage, 3)
    stage.begun.add(second)
    stage.wait(PATIENCE_S + LATE_S)
    assert stage.withdrawn == [third]
    assert held(stage) == [first, second]
    assert stage.finish(first) == [Settled(first), Start(SlotId(0), third)]
    assert held(stage) == [second, third]


def test_patience_counts_from_the_start_of_the_running_job() -> None:
    stage = known_stage()
    submit_many(stage, 1)
    began_at = stage.now
    stage.now += PATIENCE_S * 0.8
    stage.submit(limits=TINY)
    instant = stage.scheduler.next_instant()
    assert instant is not None
    assert began_at + PATIENCE_S <= instant <= began_at + PATIENCE_S + LATE_S
    stage.now = instant
    stage.wait(0.0)
    assert stage.scheduler.queued == len(stage.scheduler.queue) == 1


def test_patience_starts_again_with_each_running_job() -> None:
    stage = known_stage()
    jobs = submit_many(stage, 3)
    stage.wait(PATIENCE_S * 0.8)
    stage.finish(jobs[0])
    stage.wait(PATIENCE_S * 0.8)
    assert stage.withdrawn == []
    stage.wait(PATIENCE_S * 0.2 + LATE_S)
    assert stage.withdrawn == [jobs[2]]


def test_a_slot_without_waiting_jobs_has_no_instant() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    stage.finish(first)
    stage.finish(second)
    stage.wait(PATIENCE_S + LATE_S)
    assert stage.scheduler.next_instant() is None


def test_a_removed_slot_is_forgotten() -> None:
    stage = known_stage(slots=2)
    submit_many(stage, 2 * MAX_IN_SLOT)
    stage.stop_all()
    for slot in range(2):
        stage.die(slot)
        stage.scheduler.slot_removed(SlotId(slot))
    assert stage.scheduler.next_instant() is None


# Counting


def test_jobs_that_wait_in_a_slot_count_as_queued() -> None:
    stage = known_stage(queue_limit=MAX_IN_SLOT)
    jobs = submit_many(stage, MAX_IN_SLOT + 3)
    scheduler = stage.scheduler
    assert (scheduler.tally.running, scheduler.queued, len(scheduler.queue)) == (1, MAX_IN_SLOT + 2, 3)
    stage.cancel(jobs[1])
    assert (stage.scheduler.tally.running, stage.scheduler.queued) == (1, MAX_IN_SLOT + 1)


def test_a_settled_job_that_could_not_be_withdrawn_is_neither_queued_nor_running() -> None:
    stage = known_stage()
    first, settled_one = submit_many(stage, 2)
    stage.begun.add(settled_one)
    stage.cancel(settled_one)
    assert (stage.scheduler.tally.running, stage.scheduler.queued) == (1, 0)
    stage.finish(first)
    assert (stage.scheduler.tally.running, stage.scheduler.queued, stage.scheduler.is_empty) == (0, 0, True)
