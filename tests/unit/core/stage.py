"""A stage for tests of the scheduler: slots, a clock that the test moves, and short calls for events.

All invariants are checked after each event.
"""

from __future__ import annotations

from offload.core.admission.admission import AdmissionLimits, Rejection
from offload.core.commands import Command, Settled, Start, Stop
from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome, Reason
from offload.core.request import DEFAULT_URGENCY, TaskLimits
from offload.core.scheduler import Scheduler
from offload.core.slot import SlotState
from tests.support.jobs import make_job

TASK = TaskLimits(name="task", index=0, timeout_s=60.0)
SEGFAULT = Death(signal="SIGSEGV")


def new_job(
    *,
    limits: TaskLimits = TASK,
    now: float = 0.0,
    budget_s: float | None = None,
    urgency: int = DEFAULT_URGENCY,
    size_bytes: int = 0,
    client: str = "",
) -> Job:
    return make_job(limits=limits, now=now, body=bytes(size_bytes), budget_s=budget_s, urgency=urgency, client=client)


def succeeded(run_s: float | None = None, *, has_printed: bool = False) -> Outcome:
    return Outcome(
        reason=Reason.SUCCEEDED, body=b"1", media_type="application/json", run_s=run_s, has_printed=has_printed
    )


class Stage:
    """`slots` slots, each with a ready worker of generation 1.

    With `prefetch` a slot may hold several jobs. Then the test adds to `begun` the jobs that workers have begun without
    the scheduler's knowledge; `withdrawn` are those that were withdrawn, in order. `limits` are further limits of
    admission.
    """

    def __init__(
        self,
        *,
        slots: int = 0,
        queue_limit: int = 100,
        queue_limit_bytes: int = 1000,
        prefetch: bool = False,
        **limits: int,
    ) -> None:
        self.now = 1000.0
        self.begun: set[Job] = set()
        self.withdrawn: list[Job] = []
        self._given: set[Job] = set()
        self.scheduler = Scheduler(
            limits=AdmissionLimits(queue_limit=queue_limit, queue_bytes=queue_limit_bytes, **limits),
            withdraw=self._withdraw if prefetch else None,
        )
        for number in range(slots):
            self.scheduler.slot_added(SlotId(number))
            self.ready(number)

    # Callers

    def new_job(
        self,
        *,
        limits: TaskLimits = TASK,
        budget_s: float | None = None,
        urgency: int = DEFAULT_URGENCY,
        size_bytes: int = 0,
        client: str = "",
    ) -> Job:
        return new_job(
            limits=limits, now=self.now, budget_s=budget_s, urgency=urgency, size_bytes=size_bytes, client=client
        )

    def submit(
        self,
        *,
        limits: TaskLimits = TASK,
        budget_s: float | None = None,
        urgency: int = DEFAULT_URGENCY,
        size_bytes: int = 0,
        client: str = "",
    ) -> Job:
        job = self.new_job(limits=limits, budget_s=budget_s, urgency=urgency, size_bytes=size_bytes, client=client)
        self.submit_job(job)
        return job

    def reject(self, job: Job, rejection: Rejection) -> list[Command]:
        return self._checked(self.scheduler.reject(job, rejection, self.now))

    def submit_job(self, job: Job) -> list[Command]:
        return self._checked(self.scheduler.submit(job, self.now))

    def cancel(self, job: Job, why: Reason = Reason.CANCELLED) -> list[Command]:
        return self._checked(self.scheduler.cancel(job, why, self.now))

    # Time

    def wait(self, seconds: float) -> list[Command]:
        """Advances the clock and calls `expire`."""
        self.now += seconds
        return self._checked(self.scheduler.expire(self.now))

    def stop_all(self) -> list[Command]:
        return self._checked(self.scheduler.stop_all(self.now))

    # The engine

    def ready(self, slot: int, *, generation: int = 1) -> list[Command]:
        return self._checked(self.scheduler.ready(SlotId(slot), generation, self.now))

    def finish(
        self, job: Job, *, run_s: float | None = None, generation: int = 1, is_leaving: bool = False
    ) -> list[Command]:
        """The job's worker reports success."""
        return self.answer(job, succeeded(run_s), generation=generation, is_leaving=is_leaving)

    def answer(self, job: Job, outcome: Outcome, *, generation: int = 1, is_leaving: bool = False) -> list[Command]:
        slot = job.slot
        assert slot is not None
        return self._checked(
            self.scheduler.finished(slot, generation, [(job.number, outcome)], is_leaving=is_leaving, now=self.now)
        )

    def die(self, slot: int, *, generation: int = 1, begun: int = 1, death: Death = SEGFAULT) -> list[Command]:
        return self._checked(self.scheduler.died(SlotId(slot), generation, death, begun=begun, now=self.now))

    def exceed_memory(self, job: Job, *, peak_bytes: int) -> list[Command]:
        return self._checked(self.scheduler.exceed_memory(job, peak_bytes=peak_bytes, now=self.now))

    def fail_to_start(self) -> list[Command]:
        return self._checked(self.scheduler.failing_to_start(self.now))

    def _withdraw(self, slot: SlotId, job: Job) -> bool:
        assert self.scheduler.slots.all[slot].waiting[-1] is job, "only the newest can be withdrawn"
        assert job in self._given, "no worker was given this job"
        if job in self.begun:
            return False
        self.withdrawn.append(job)
        self._given.discard(job)
        return True

    def _checked(self, commands: list[Command]) -> list[Command]:
        self.scheduler.check_invariants()
        self._given.update(started(commands))
        return commands


def started(commands: list[Command]) -> list[Job]:
    return [command.job for command in commands if isinstance(command, Start)]


def settled(commands: list[Command]) -> list[Job]:
    return [command.job for command in commands if isinstance(command, Settled)]


def stopped(commands: list[Command]) -> list[Job]:
    return [command.job for command in commands if isinstance(command, Stop)]


def reason_of(job: Job) -> Reason | None:
    return None if job.outcome is None else job.outcome.reason


def cause_of(job: Job) -> object:
    """Returns the cause of a job that was rejected as overloaded."""
    assert reason_of(job) is Reason.OVERLOADED
    return facts_of(job)["cause"]


def facts_of(job: Job) -> dict[str, object]:
    assert job.outcome is not None
    return dict(job.outcome.facts)


def slot_state(stage: Stage, slot: int = 0) -> SlotState:
    return stage.scheduler.slots.all[SlotId(slot)].state


def held(stage: Stage, slot: int = 0) -> list[Job]:
    """Returns the jobs that the slot's worker holds."""
    return stage.scheduler.slots.all[SlotId(slot)].jobs()
