"""Short jobs that wait in a slot behind the one that runs: what follows when one of them, or the worker, ends."""

from __future__ import annotations

import pytest

from offload.core.commands import Settled, Start, Stop
from offload.core.deadlines import TICK_S
from offload.core.job import JobState, SlotId
from offload.core.outcome import Reason
from offload.core.prefetch import MAX_IN_SLOT
from offload.core.request import TaskLimits
from offload.core.slot import SlotState
from tests.unit.core.short_jobs import LONG, TINY, known_stage, submit_many
from tests.unit.core.stage import facts_of, held, reason_of, settled, slot_state, started

LATE_S = 2 * TICK_S


# Settled while it waits behind another


def test_a_cancelled_job_behind_another_is_withdrawn_and_nothing_is_stopped() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    assert stage.cancel(second) == [Settled(second)]
    assert (second.state, stage.withdrawn) == (JobState.CANCELLED, [second])
    assert facts_of(second) == {"stage": "queued"}
    assert stage.finish(first) == [Settled(first)]
    assert slot_state(stage) is SlotState.IDLE


def test_jobs_after_a_cancelled_one_are_withdrawn_and_given_again_in_order() -> None:
    stage = known_stage()
    jobs = submit_many(stage, 4)
    starts = [Start(SlotId(0), jobs[2]), Start(SlotId(0), jobs[3])]
    assert stage.cancel(jobs[1]) == [Settled(jobs[1]), *starts]
    assert stage.withdrawn == [jobs[3], jobs[2], jobs[1]]
    assert held(stage) == [jobs[0], jobs[2], jobs[3]]


def test_a_job_whose_budget_ends_behind_another_is_withdrawn() -> None:
    stage = known_stage()
    first = stage.submit(limits=TINY)
    job = stage.submit(limits=TINY, budget_s=0.001)
    assert stage.wait(0.001 + LATE_S) == [Settled(job)]
    assert (reason_of(job), held(stage)) == (Reason.DEADLINE_EXCEEDED, [first])


def test_a_job_settled_too_late_to_be_withdrawn_is_stopped_when_it_comes_first() -> None:
    stage = known_stage()
    first, settled_one, third = submit_many(stage, 3)
    stage.begun.add(settled_one)
    assert stage.cancel(settled_one) == [Settled(settled_one)]
    assert held(stage) == [first, settled_one]
    assert list(stage.scheduler.queue) == [third]
    assert stage.finish(first) == [Settled(first), Stop(SlotId(0), settled_one, Reason.CANCELLED)]
    assert (slot_state(stage), settled_one.started_at) == (SlotState.STOPPING, None)
    assert started([*stage.die(0), *stage.ready(0, generation=2)]) == [third]


def test_a_settled_job_that_finishes_before_its_stop_affects_no_other() -> None:
    """Two answers are on the way, the second is that of the settled job; the worker has begun the third job."""
    stage = known_stage()
    first, settled_one, third = submit_many(stage, 3)
    stage.begun |= {settled_one, third}
    assert stage.cancel(settled_one) == [Settled(settled_one)]
    assert stage.finish(first) == [Settled(first)]
    assert held(stage) == [settled_one, third]
    assert stage.finish(settled_one) == []
    assert (third.state, held(stage)) == (JobState.RUNNING, [third])
    assert stage.finish(third) == [Settled(third)]


def test_a_settled_job_that_answers_after_its_stop_leaves_an_idle_slot() -> None:
    stage = known_stage()
    first, settled_one = submit_many(stage, 2)
    stage.begun.add(settled_one)
    stage.cancel(settled_one)
    stage.finish(first)
    assert stage.finish(settled_one) == []
    assert (reason_of(settled_one), slot_state(stage)) == (Reason.CANCELLED, SlotState.IDLE)


def test_no_job_is_given_behind_a_settled_one() -> None:
    stage = known_stage()
    first, settled_one, third = submit_many(stage, 3)
    stage.begun |= {settled_one, third}
    stage.cancel(settled_one)
    stage.finish(first)
    job = stage.submit(limits=TINY)
    assert held(stage) == [settled_one, third]
    assert started(stage.finish(settled_one)) == [job]


# Settled while others wait behind it


def test_jobs_behind_a_stopped_one_are_withdrawn_before_the_stop() -> None:
    stage = known_stage()
    jobs = submit_many(stage, 3)
    assert stage.cancel(jobs[0]) == [Settled(jobs[0]), Stop(SlotId(0), jobs[0], Reason.CANCELLED)]
    assert stage.withdrawn == [jobs[2], jobs[1]]
    assert list(stage.scheduler.queue) == jobs[1:]


def test_jobs_behind_a_stopped_one_move_to_an_idle_slot_at_once() -> None:
    stage = known_stage(slots=2)
    jobs = submit_many(stage, 3)
    shared = jobs[2].slot
    assert shared is not None
    head = held(stage, shared)[0]
    other = next(job for job in jobs[:2] if job is not head)
    stage.finish(other)
    assert other.slot is not None
    assert stage.cancel(head) == [
        Settled(head),
        Stop(shared, head, Reason.CANCELLED),
        Start(other.slot, jobs[2]),
    ]


def test_a_job_whose_answer_is_on_the_way_is_not_stopped() -> None:
    stage = known_stage()
    first, second, third = submit_many(stage, 3)
    stage.begun.add(second)
    assert stage.cancel(first) == [Settled(first)]
    assert (slot_state(stage), held(stage)) == (SlotState.BUSY, [first, second])
    assert list(stage.scheduler.queue) == [third]
    assert stage.finish(first) == [Start(SlotId(0), third)]
    assert (reason_of(first), second.state) == (Reason.CANCELLED, JobState.RUNNING)


def test_a_timeout_does_not_stop_the_next_job() -> None:
    stage = known_stage()
    first = stage.submit(limits=TINY, budget_s=0.001)
    second = stage.submit(limits=TINY)
    stage.begun.add(second)
    assert stage.wait(0.001 + LATE_S) == [Settled(first)]
    assert stage.finish(first) == []
    assert stage.finish(second) == [Settled(second)]


def test_jobs_ended_by_one_event_are_all_stopped() -> None:
    """Jobs that the first end frees must not be given behind a job that the same event ends.

    They could not be withdrawn, because the worker does not hold them yet.
    """
    stage = known_stage(slots=2)
    heads = [stage.submit(limits=TINY, budget_s=budget_s) for budget_s in (TICK_S * 1.5, TICK_S * 0.5)]
    waiting = submit_many(stage, 3)
    assert {job.slot for job in waiting} == {heads[1].slot}
    commands = stage.wait(TICK_S * 2)
    assert [command.job for command in commands if isinstance(command, Stop)] == [heads[1], heads[0]]
    assert list(stage.scheduler.queue) == waiting


def test_a_job_behind_another_that_ends_with_it_is_settled_once() -> None:
    """If the first end were handled alone, the second job would move to the idle slot."""
    stage = known_stage(slots=2)
    heads = [stage.submit(limits=TINY, budget_s=0.001) for _ in range(2)]
    behind = stage.submit(limits=TINY, budget_s=0.001)
    shared = next(head for head in heads if head.slot == behind.slot)
    stage.finish(next(head for head in heads if head is not shared))
    assert settled(stage.wait(0.001 + LATE_S)) == [shared, behind]


def test_at_the_end_of_a_drain_everything_is_stopped_and_nothing_started() -> None:
    stage = known_stage(slots=2)
    jobs = submit_many(stage, MAX_IN_SLOT + 3)
    assert {job.slot for job in jobs[-2:]} == {jobs[0].slot}
    stage.finish(jobs.pop(1))  # its slot has room for a job that the end of the first one frees
    heads = jobs[:2]
    commands = stage.stop_all()
    assert started(commands) == []
    assert settled(commands) == jobs
    assert {command.job for command in commands if isinstance(command, Stop)} == set(heads)
    assert stage.scheduler.is_empty


# Deaths


def test_unbegun_jobs_of_a_dead_worker_wait_on_in_order_at_no_charge() -> None:
    stage = known_stage()
    jobs = submit_many(stage, 3)
    waiting = stage.submit(limits=LONG, urgency=0)
    assert stage.die(0, begun=1) == [Settled(jobs[0])]
    assert list(stage.scheduler.queue) == [*jobs[1:], waiting]
    assert [(job.attempt, job.unbegun_deaths, job.started_at) for job in jobs[1:]] == [(1, 0, None)] * 2


def test_unbegun_jobs_of_a_dead_worker_move_to_an_idle_slot_at_once() -> None:
    stage = known_stage(slots=2)
    jobs = submit_many(stage, 3)
    shared = jobs[2].slot
    assert shared is not None
    head = held(stage, shared)[0]
    stage.finish(next(job for job in jobs[:2] if job is not head))
    assert stage.die(shared) == [Settled(head), Start(SlotId(1 - shared), jobs[2])]


@pytest.mark.parametrize("begun", range(4))
def test_each_job_that_may_have_begun_crashes_with_the_worker(begun: int) -> None:
    stage = known_stage()
    jobs = submit_many(stage, 3)
    assert settled(stage.die(0, begun=begun)) == jobs[:begun]
    assert {reason_of(job) for job in jobs[:begun]} <= {Reason.WORKER_CRASHED}
    assert list(stage.scheduler.queue) == jobs[begun:]


def test_a_job_that_had_begun_behind_another_is_retried() -> None:
    stage = known_stage()
    retried = TaskLimits(name="retried", index=TINY.index, timeout_s=1.0, retries=1)
    first, second = stage.submit(limits=retried), stage.submit(limits=retried)
    assert stage.die(0, begun=2) == []
    assert list(stage.scheduler.queue) == [first, second]
    assert (first.attempt, second.attempt) == (2, 2)


def test_a_death_before_any_job_began_is_charged_to_the_first() -> None:
    stage = known_stage()
    first, second = submit_many(stage, 2)
    stage.die(0, begun=0)
    assert (first.unbegun_deaths, second.unbegun_deaths) == (1, 0)


def test_a_settled_job_is_gone_with_its_worker() -> None:
    stage = known_stage()
    first, settled_one, third = submit_many(stage, 3)
    stage.begun.add(settled_one)
    stage.cancel(settled_one)
    assert stage.die(0, begun=2) == [Settled(first)]
    assert list(stage.scheduler.queue) == [third]
    assert reason_of(settled_one) is Reason.CANCELLED
