"""Jobs that kill their workers are quarantined."""

from __future__ import annotations

import pytest

from offload.core.admission.quarantine import FORGET_S
from offload.core.death import Death
from offload.core.job import Job, JobState
from offload.core.outcome import Outcome, Reason
from offload.core.request import TaskLimits
from tests.unit.core.stage import SEGFAULT, Stage, facts_of, reason_of

STUBBORN = TaskLimits(name="stubborn", index=0, timeout_s=60.0, retries=5)


class Scene:
    """A stage with one slot."""

    def __init__(self, quarantine_after: int = 3) -> None:
        self.stage = Stage(slots=1, quarantine_after=quarantine_after)
        self.generation = 1

    def submit(self, arguments: str, limits: TaskLimits | None = None) -> Job:
        """Submits a job as the dispatcher does: with a fingerprint if the task has crashed lately."""
        job = self.stage.new_job() if limits is None else self.stage.new_job(limits=limits)
        if self.stage.scheduler.quarantine.watches(0, self.stage.now):
            job.fingerprint = arguments
        self.stage.submit_job(job)
        return job

    def die(self, death: Death = SEGFAULT) -> None:
        self.stage.now += 1.0
        self.stage.die(0, generation=self.generation, death=death)
        self.generation += 1
        self.stage.ready(0, generation=self.generation)

    def crash(self, arguments: str, death: Death = SEGFAULT) -> Job:
        job = self.submit(arguments)
        assert job.state is JobState.RUNNING
        self.die(death)
        if job.crashes:
            self.stage.scheduler.identify(job, arguments)
        return job

    def succeed(self, arguments: str) -> None:
        self.stage.finish(self.submit(arguments), run_s=0.001, generation=self.generation)


def test_after_three_attempts_that_killed_their_worker_the_job_is_quarantined() -> None:
    scene = Scene()
    for _ in range(3):
        assert reason_of(scene.crash("bad")) is Reason.WORKER_CRASHED
    rejected = scene.submit("bad")
    assert (rejected.state, reason_of(rejected)) == (JobState.REJECTED, Reason.QUARANTINED)
    assert facts_of(rejected) == {"crashes": 3}
    assert scene.submit("good").state is JobState.RUNNING
    assert scene.stage.scheduler.quarantine.size(scene.stage.now) == 1


def test_a_quarantine_expires() -> None:
    scene = Scene()
    for _ in range(3):
        scene.crash("bad")
    scene.stage.now += FORGET_S + 1.0
    assert scene.submit("bad").state is JobState.RUNNING
    assert scene.stage.scheduler.quarantine.size(scene.stage.now) == 0


@pytest.mark.parametrize("reason", [Reason.SUCCEEDED, Reason.TASK_ERROR])
def test_an_attempt_that_the_worker_survives_clears_the_record(reason: Reason) -> None:
    scene = Scene()
    for _ in range(2):
        scene.crash("bad")
    scene.stage.answer(scene.submit("bad"), Outcome(reason=reason, run_s=0.1), generation=scene.generation)
    for _ in range(3):
        assert reason_of(scene.crash("bad")) is Reason.WORKER_CRASHED
    assert reason_of(scene.submit("bad")) is Reason.QUARANTINED


def test_stopped_jobs_do_not_count() -> None:
    scene = Scene()
    scene.crash("bad")
    for _ in range(5):
        job = scene.submit("bad")
        scene.stage.cancel(job)
        scene.die()
    assert scene.submit("bad").state is JobState.RUNNING


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_deaths_by_a_termination_signal_do_not_count(signal: str) -> None:
    scene = Scene()
    for _ in range(4):
        assert reason_of(scene.crash("bad", Death(signal=signal))) is Reason.WORKER_CRASHED
    assert scene.submit("bad").state is JobState.RUNNING


def test_simultaneous_deaths_count_once() -> None:
    stage = Stage(slots=4, quarantine_after=3)
    jobs = [stage.submit() for _ in range(4)]
    stage.now += 1.0
    for job in jobs:
        assert job.slot is not None
        stage.die(job.slot)
        stage.scheduler.identify(job, "unlucky")
    assert stage.scheduler.quarantine.crashes("unlucky", stage.now) is None


def test_every_attempt_of_a_retried_job_counts() -> None:
    scene = Scene()
    job = scene.submit("bad", STUBBORN)
    for _ in range(6):
        scene.die()
    assert reason_of(job) is Reason.WORKER_CRASHED
    scene.stage.scheduler.identify(job, "bad")
    assert facts_of(scene.submit("bad")) == {"crashes": 6}


def test_only_jobs_of_tasks_that_crashed_lately_are_fingerprinted() -> None:
    scene = Scene()
    quarantine = scene.stage.scheduler.quarantine
    assert not quarantine.watches(0, scene.stage.now)
    scene.crash("bad")
    assert quarantine.watches(0, scene.stage.now)
    assert not quarantine.watches(1, scene.stage.now)
    assert not quarantine.watches(0, scene.stage.now + FORGET_S + 1.0)


def test_zero_disables_quarantine() -> None:
    scene = Scene(quarantine_after=0)
    for _ in range(10):
        assert reason_of(scene.crash("bad")) is Reason.WORKER_CRASHED


def test_draining_takes_precedence_over_quarantine() -> None:
    scene = Scene()
    for _ in range(3):
        scene.crash("bad")
    scene.stage.scheduler.begin_drain(scene.stage.now + 1.0)
    assert reason_of(scene.submit("bad")) is Reason.DRAINING


def test_the_number_of_records_is_bounded() -> None:
    scene = Scene()
    for number in range(1500):
        scene.crash(f"bad {number}")
    assert len(vars(scene.stage.scheduler.quarantine)["_records"]) == 1000
