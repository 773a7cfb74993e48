"""A seeded simulation of the core: a virtual clock, a heap of events, a fake engine.

`Simulation.run` plays one `Mixture` to its end. It checks the counts after each event, all invariants after every few
events, that each job is settled once and for a reason that the event can have, and that no slot is lost or used twice.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from offload.core.admission.admission import AdmissionLimits
from offload.core.commands import Command, Settled, Start
from offload.core.deadlines import TICK_S
from offload.core.job import END_STATE, Job, JobState, SlotId
from offload.core.outcome import Reason
from offload.core.request import URGENCIES, TaskLimits
from offload.core.scheduler import Scheduler
from offload.metrics.layout import MetricsMemory
from offload.metrics.recorder import Recorder
from tests.support.jobs import make_job
from tests.unit.core.fake_engine import POISON, FakeEngine
from tests.unit.core.fake_worker import TIMER_LATE_S
from tests.unit.core.habits import DRAGS_BY, USUAL, Habits

DISCONNECTS: Final = (Reason.CANCELLED, Reason.DISCONNECTED)
ANSWERS: Final = frozenset({Reason.SUCCEEDED, Reason.TASK_ERROR})
SUBMISSION: Final = frozenset(
    {
        Reason.OVERLOADED,
        Reason.CLIENT_QUEUE_FULL,
        Reason.QUARANTINED,
        Reason.STARTING,
        Reason.DEADLINE_EXCEEDED,
    }
)
DRAINING: Final = frozenset({Reason.DRAINING})

TASKS: Final = (
    TaskLimits(name="quick", index=0, timeout_s=0.05, retries=0),
    TaskLimits(name="retried", index=1, timeout_s=0.1, retries=2),
    TaskLimits(name="measured", index=2, timeout_s=0.2, memory_bytes=1000, retries=1),
    TaskLimits(name="patient", index=3, timeout_s=3600.0, retries=0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The jobs and the slots. Probabilities are for one job; `load` is a share of the capacity of the slots."""

    seed: int
    jobs: int
    slots: int
    load: float = 0.9
    queue_limit: int = 1000
    queue_limit_bytes: int = 100_000
    habits: Habits = USUAL
    prefetch: bool = False
    budgets: float = 0.3
    longest_budget_s: float = 0.2
    cancels: float = 0.03
    cancelled_within_s: float = 0.05
    clients: int = 20
    max_queued_per_client: int = 0
    max_running_per_client: int = 0
    poison: float = 0.002  # share of jobs that always kill their worker
    storms: int = 0
    drain_s: float = 0.5
    drains_after: float = 0.98  # share of the jobs after which the service drains
    tasks: tuple[TaskLimits, ...] = TASKS
    invariants_every: int = 20  # events


class Simulation:
    """One service from its start to the end of its drain, decided by the seed."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture
        self.random = Random(mixture.seed)
        self.now = 0.0
        self.events = 0
        self.reasons: Counter[Reason] = Counter()
        self.causes: Counter[str] = Counter()
        self.recorder = Recorder(
            MetricsMemory(tasks=len(mixture.tasks), lanes=0), [task.name for task in mixture.tasks]
        )
        self.scheduler = Scheduler(
            limits=AdmissionLimits(
                queue_limit=mixture.queue_limit,
                queue_bytes=mixture.queue_limit_bytes,
                max_queued_per_client=mixture.max_queued_per_client,
                max_running_per_client=mixture.max_running_per_client,
                quarantine_after=3,
            ),
            withdraw=self._withdraw if mixture.prefetch else None,
            busy_since=self._busy_since if mixture.prefetch else None,
        )
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._entries = 0
        self._timer_at = float("inf")
        self._settled = bytearray(mixture.jobs)
        self._jobs = 0
        self._is_stopped = False
        self._checks_every = mixture.invariants_every
        self._states: Counter[JobState] = Counter()
        habits = mixture.habits
        self.engine = FakeEngine(self, habits, slots=mixture.slots, jobs=mixture.jobs)
        mean_run_s = sum(habits.run_s[limits.index] for limits in mixture.tasks) / len(mixture.tasks)
        self._per_s = mixture.load * mixture.slots / (mean_run_s * (1 + habits.drags * (DRAGS_BY - 1)))

    def run(self) -> None:
        """Plays the mixture. Raises AssertionError if a promise is broken."""
        mixture = self.mixture
        whole_s = mixture.jobs / self._per_s
        self.engine.open()
        self.at(0.0, self._arrive)
        for _ in range(mixture.storms):
            self.at(self.random.random() * whole_s, self.engine.storm, self.random.random() * whole_s / 20)
        heap = self._heap
        while heap:
            self.now, _, event, arguments = heapq.heappop(heap)
            event(*arguments)
        self._check_end()

    # The clock

    def at(self, delay_s: float, event: Callable[..., None], *arguments: object) -> None:
        """Schedules `event` for `delay_s` from now."""
        self._entries += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._entries, event, arguments))

    # Commands

    def carry_out(self, commands: list[Command], possible: frozenset[Reason]) -> None:
        """Carries out the commands. `possible` are the reasons for which this event may end a job."""
        for command in commands:
            if isinstance(command, Start):
                self._check_start(command.job)
                self.engine.start(command.slot, command.job)
            elif isinstance(command, Settled):
                self._note_settled(command.job, possible)
            else:
                self.engine.stop(command.slot, command.job, command.why)
        self._arm_timer()
        self.scheduler.check_balance()
        self.events += 1
        if self.events % self._checks_every == 0:
            self.scheduler.check_invariants()
            self.engine.check_same_slots()

    def _busy_since(self, slot: SlotId) -> float | None:
        return self.engine.busy_since(slot)

    def _withdraw(self, slot: SlotId, job: Job) -> bool:
        return self.engine.withdraw(slot, job)

    def _check_start(self, job: Job) -> None:
        assert not job.is_settled, f"{job!r} was started after its end"
        assert job.deadline is None or self.now < job.deadline, f"{job!r} was started after its deadline"
        assert not self._is_stopped, f"{job!r} was started after the end of the drain"

    def _note_settled(self, job: Job, possible: frozenset[Reason]) -> None:
        assert not self._settled[job.number], f"{job!r} was settled twice"
        self._settled[job.number] = 1
        outcome = job.outcome
        assert outcome is not None, f"{job!r} was settled without an outcome"
        reason = outcome.reason
        # A waiting job can be rejected by any event: displaced, or because its deadline became unreachable.
        is_possible = reason in possible or reason is Reason.OVERLOADED
        assert is_possible, f"{job!r} ended with {reason}, possible are {sorted(possible)}"
        self.recorder.count_outcome(job)
        if reason is Reason.OVERLOADED:
            self.causes[str(outcome.facts["cause"])] += 1
        if job.crashes:
            self.scheduler.identify(job, fingerprint(job))
        assert job.state is END_STATE[reason]
        if reason in ANSWERS:
            assert self.engine.begun[job.number], f"{job!r} was answered and had never begun"
        elif reason in (Reason.JOB_TIMEOUT, Reason.DEADLINE_EXCEEDED):
            self._check_punctual(job, reason)
        self.reasons[reason] += 1
        self._states[job.state] += 1

    def _check_punctual(self, job: Job, reason: Reason) -> None:
        due = job.deadline
        if reason is Reason.JOB_TIMEOUT:
            assert job.started_at is not None
            due = job.started_at + job.limits.timeout_s
        assert due is not None
        # A timer that is set again for an instant in the past is late once more.
        latest = due + TICK_S + 2 * TIMER_LATE_S + 1e-6
        assert due <= self.now <= latest, f"{job!r} was due {due}, ended {self.now}"

    # Callers

    def _arrive(self) -> None:
        number, self._jobs = self._jobs, self._jobs + 1
        mixture, chance = self.mixture, self.random.random
        job = make_job(
            number=number,
            limits=mixture.tasks[int(chance() * len(mixture.tasks))],
            now=self.now,
            body=POISON if chance() < mixture.poison else bytes(int(chance() * 200)),
            budget_s=chance() * mixture.longest_budget_s if chance() < mixture.budgets else None,
            urgency=int(chance() * URGENCIES),
            client=str(int(chance() ** 2 * mixture.clients)),  # some send more than others
        )
        if self.scheduler.quarantine.watches(job.limits.index, self.now):
            job.fingerprint = fingerprint(job)
        is_draining = self.scheduler.load.drain_ends_at is not None
        self.carry_out(self.scheduler.submit(job, self.now), DRAINING if is_draining else SUBMISSION)
        assert job.is_settled or not is_draining, f"{job!r} was accepted during the drain"
        if chance() < mixture.cancels:
            self.at(chance() * mixture.cancelled_within_s, self._disconnect, job)
        if self._jobs < mixture.jobs:
            wave = 0.4 if self._jobs // 5000 % 2 else 1.6
            self.at(self.random.expovariate(self._per_s * wave), self._arrive)
        if self._jobs == int(mixture.jobs * mixture.drains_after):
            self._drain()

    def _disconnect(self, job: Job) -> None:
        was_settled = job.is_settled
        why = DISCONNECTS[self.random.random() < 0.5]
        commands = self.scheduler.cancel(job, why, self.now)
        assert bool(commands) != was_settled, f"{job!r}: a cancel ends what has not ended, once"
        self.carry_out(commands, frozenset({why, Reason.DEADLINE_EXCEEDED}))

    # Time

    def _arm_timer(self) -> None:
        instant = self.scheduler.alarm.at
        if instant < self._timer_at:
            self._timer_at = instant
            late_s = self.random.random() * TIMER_LATE_S
            self.at(max(0.0, instant - self.now) + late_s, self._on_timer, instant)

    def _on_timer(self, armed_for: float) -> None:
        if armed_for != self._timer_at:
            return  # replaced by an earlier timer
        self._timer_at = float("inf")
        self.carry_out(self.scheduler.expire(self.now), frozenset({Reason.JOB_TIMEOUT, Reason.DEADLINE_EXCEEDED}))

    # Stopping

    def _drain(self) -> None:
        self.scheduler.begin_drain(self.now + self.mixture.drain_s)
        self.at(self.mixture.drain_s, self._stop_all)

    def _stop_all(self) -> None:
        self.carry_out(self.scheduler.stop_all(self.now), frozenset({Reason.STOPPED}))
        assert self.scheduler.is_empty
        self._is_stopped = True
        self.engine.calm_down()

    def _check_end(self) -> None:
        scheduler = self.scheduler
        scheduler.check_invariants()
        assert self._jobs == scheduler.tally.submitted == self.mixture.jobs
        assert self._settled.count(1) == self.mixture.jobs, "a job was never settled"
        assert {state: n for state, n in scheduler.tally.ended.items() if n} == dict(self._states)
        assert (scheduler.queued, scheduler.tally.running, scheduler.is_empty) == (0, 0, True)
        overloaded_by = self.recorder.overloaded_by()
        assert (
            sum(overloaded_by.values()) == self.recorder.rejections()["overloaded"] == self.reasons[Reason.OVERLOADED]
        )
        assert +Counter(overloaded_by) == self.causes
        assert scheduler.next_instant() is None, "a deadline is left over"
        self.engine.check_all_back()


def fingerprint(job: Job) -> str:
    return f"{job.limits.name} {job.request.body == POISON} {job.size_bytes}"
