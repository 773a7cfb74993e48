"""Jobs that are ended by a timeout, a budget, their caller, a memory limit or a drain: one outcome each."""

from __future__ import annotations

import pytest

from offload.core.commands import Settled, Start, Stop
from offload.core.deadlines import TICK_S
from offload.core.job import JobState, SlotId
from offload.core.outcome import Reason
from offload.core.request import TaskLimits
from offload.core.slot import SlotState
from tests.unit.core.stage import Stage, facts_of, reason_of, settled, slot_state, started, stopped

SHORT = TaskLimits(name="short", index=0, timeout_s=1.0)
RETRIED = TaskLimits(name="retried", index=0, timeout_s=60.0, retries=2)
LIMITED = TaskLimits(name="limited", index=0, timeout_s=60.0, memory_bytes=1000)
LATE_S = 2 * TICK_S


# Ended by a timeout or a budget


def test_a_job_over_its_timeout_is_settled_at_once_and_its_work_stopped() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=SHORT)
    assert stage.wait(0.999) == []
    assert stage.wait(0.001 + LATE_S) == [Settled(job), Stop(SlotId(0), job, Reason.JOB_TIMEOUT)]
    assert (job.state, facts_of(job)) == (JobState.TIMED_OUT, {"limit_s": 1.0, "stage": "running"})


def test_the_timeout_does_not_include_the_wait() -> None:
    stage = Stage(slots=1)
    first, second = stage.submit(), stage.submit(limits=SHORT)
    stage.wait(30.0)
    stage.finish(first)
    assert stage.wait(0.999) == []
    assert settled(stage.wait(0.1)) == [second]


def test_a_budget_that_ends_in_the_queue_removes_the_job() -> None:
    stage = Stage(slots=1)
    stage.submit()
    job = stage.submit(budget_s=0.5)
    assert stage.wait(0.5 + LATE_S) == [Settled(job)]
    assert (reason_of(job), facts_of(job)) == (Reason.DEADLINE_EXCEEDED, {"stage": "queued"})
    assert stage.scheduler.queued == 0


def test_a_budget_shorter_than_the_timeout_stops_the_work() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=SHORT, budget_s=0.5)
    assert stopped(stage.wait(0.5 + LATE_S)) == [job]
    assert (reason_of(job), facts_of(job)) == (Reason.DEADLINE_EXCEEDED, {"stage": "running"})


def test_a_budget_longer_than_the_timeout_does_not_extend_it() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=SHORT, budget_s=5.0)
    stage.wait(1.0 + LATE_S)
    assert reason_of(job) is Reason.JOB_TIMEOUT


def test_a_job_whose_budget_ended_while_it_waited_is_never_started() -> None:
    """A slot may become free before the timer fires; starting the job would only cost its worker."""
    stage = Stage(slots=1)
    running, overdue, next_one = stage.submit(), stage.submit(budget_s=0.5), stage.submit()
    stage.now += 0.6
    assert stage.finish(running) == [Settled(running), Settled(overdue), Start(SlotId(0), next_one)]
    assert (reason_of(overdue), facts_of(overdue)) == (Reason.DEADLINE_EXCEEDED, {"stage": "queued"})
    assert stage.wait(1.0) == []


def test_a_job_submitted_after_its_deadline_is_never_started() -> None:
    stage = Stage(slots=1)
    job = stage.new_job(budget_s=0.5)
    stage.now += 0.6
    assert stage.submit_job(job) == [Settled(job)]
    assert reason_of(job) is Reason.DEADLINE_EXCEEDED


def test_the_next_instant_follows_the_earliest_deadline() -> None:
    stage = Stage(slots=1)
    assert stage.scheduler.next_instant() is None
    job = stage.submit(limits=SHORT)
    assert stage.scheduler.next_instant() == pytest.approx(stage.now + 1.0, abs=LATE_S)
    stage.submit(budget_s=0.25)
    assert stage.scheduler.next_instant() == pytest.approx(stage.now + 0.25, abs=LATE_S)
    stage.wait(0.25 + LATE_S)
    stage.finish(job)
    assert stage.scheduler.next_instant() is None


# Ended by the caller


@pytest.mark.parametrize("why", [Reason.CANCELLED, Reason.DISCONNECTED])
def test_a_cancelled_waiting_job_is_removed(why: Reason) -> None:
    stage = Stage(slots=1)
    running, job = stage.submit(), stage.submit()
    assert stage.cancel(job, why) == [Settled(job)]
    assert (job.state, reason_of(job), facts_of(job)) == (JobState.CANCELLED, why, {"stage": "queued"})
    assert stage.finish(running) == [Settled(running)]


def test_a_cancelled_running_job_is_stopped() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    assert stage.cancel(job) == [Settled(job), Stop(SlotId(0), job, Reason.CANCELLED)]
    assert facts_of(job) == {"stage": "running"}


def test_cancelling_an_ended_job_does_nothing() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    stage.finish(job)
    assert stage.cancel(job) == []
    assert reason_of(job) is Reason.SUCCEEDED


# Ended for its memory


def test_a_job_over_its_memory_limit_is_settled_and_stopped() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=LIMITED)
    assert stage.exceed_memory(job, peak_bytes=1500) == [Settled(job), Stop(SlotId(0), job, Reason.MEMORY_LIMIT)]
    assert (job.state, facts_of(job)) == (JobState.CRASHED, {"limit_bytes": 1000, "peak_bytes": 1500})


def test_excess_memory_after_the_end_is_ignored() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=LIMITED)
    stage.finish(job)
    assert stage.exceed_memory(job, peak_bytes=1500) == []


# A slot stays occupied until the work has ended


def test_the_slot_of_a_stopped_job_takes_no_job_until_its_worker_has_ended() -> None:
    stage = Stage(slots=1)
    job = stage.submit()
    stage.cancel(job)
    waiting = stage.submit()
    assert (slot_state(stage), waiting.state) == (SlotState.STOPPING, JobState.QUEUED)
    assert (stage.scheduler.tally.running, stage.scheduler.queued) == (0, 1)
    assert stage.die(0) == []
    assert started(stage.ready(0, generation=2)) == [waiting]


def test_a_result_after_the_timeout_frees_the_slot_and_changes_no_outcome() -> None:
    stage = Stage(slots=1)
    job, waiting = stage.submit(limits=SHORT), stage.submit()
    stage.wait(1.1)
    assert stage.finish(job) == [Start(SlotId(0), waiting)]
    assert reason_of(job) is Reason.JOB_TIMEOUT


def test_a_timeout_after_the_result_is_ignored() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=SHORT)
    stage.now += 1.1
    stage.finish(job)
    assert stage.wait(0.0) == []
    assert reason_of(job) is Reason.SUCCEEDED


# Draining


def test_a_draining_service_finishes_the_jobs_that_it_has() -> None:
    stage = Stage(slots=1)
    running, waiting = stage.submit(), stage.submit()
    stage.scheduler.begin_drain(stage.now + 30)
    assert started(stage.finish(running)) == [waiting]
    stage.finish(waiting)
    assert stage.scheduler.is_empty


def test_jobs_left_at_the_end_of_the_drain_are_stopped_with_an_answer() -> None:
    stage = Stage(slots=1)
    running, waiting = stage.submit(), stage.submit()
    stage.scheduler.begin_drain(stage.now)
    assert stage.stop_all() == [
        Settled(running),
        Stop(SlotId(0), running, Reason.STOPPED),
        Settled(waiting),
    ]
    assert {reason_of(running), reason_of(waiting)} == {Reason.STOPPED}
    assert stage.scheduler.is_empty
    assert stage.stop_all() == []


def test_a_job_is_retried_during_the_drain_and_not_after() -> None:
    stage = Stage(slots=1)
    job = stage.submit(limits=RETRIED)
    stage.scheduler.begin_drain(stage.now + 1.0)
    assert stage.die(0) == []
    stage.ready(0, generation=2)
    stage.wait(1.0)
    assert settled(stage.die(0, generation=2)) == [job]
