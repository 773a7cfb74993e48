"""The core beside a model of it, for any order of events on small sizes.

The model says which commands each event must lead to, and so how each job must end. All invariants are checked after
every step. In most runs a slot may hold several jobs.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from offload.core.admission.admission import AdmissionLimits
from offload.core.commands import Command, Settled
from offload.core.deadlines import TICK_S
from offload.core.death import Death
from offload.core.job import Job, JobState, SlotId
from offload.core.outcome import Outcome, Reason
from offload.core.prefetch import PATIENCE_S
from offload.core.queue.job_queue import AGED_S
from offload.core.request import TaskLimits
from offload.core.scheduler import Scheduler
from tests.property.model import QUEUE_LIMIT, QUEUE_LIMIT_BYTES, Model, ModelSlot
from tests.unit.core.stage import facts_of, new_job, reason_of

SLOTS = 3
TASKS = (
    TaskLimits(name="short", index=0, timeout_s=0.1),
    TaskLimits(name="retried", index=1, timeout_s=1.0, retries=2),
    TaskLimits(name="retried often", index=2, timeout_s=10.0, retries=9),
    TaskLimits(name="long", index=3, timeout_s=10.0, memory_bytes=5),
    TaskLimits(name="one at a time", index=4, timeout_s=10.0, max_running=1),
)
CLIENTS = ("first", "second", "third")
KILLED = Death(signal="SIGKILL")
WORKERS_REASONS = (Reason.SUCCEEDED, Reason.TASK_ERROR, Reason.INVALID_ARGUMENTS)

picks = st.integers(min_value=0, max_value=1000)
mostly = st.sampled_from([True, True, False])


class Core(RuleBasedStateMachine):
    @initialize(slots=st.integers(min_value=1, max_value=SLOTS), prefetch=mostly, known=mostly)
    def open(self, slots: int, prefetch: bool, known: bool) -> None:
        """Opens a new service, or one whose workers are ready and whose tasks have all run once."""
        self.scheduler = Scheduler(
            limits=AdmissionLimits(queue_limit=QUEUE_LIMIT, queue_bytes=QUEUE_LIMIT_BYTES),
            withdraw=self.withdraw if prefetch else None,
        )
        self.model = Model(prefetch=prefetch, run_times=self.scheduler.run_times)
        self.jobs: list[Job] = []
        self.gone: list[tuple[SlotId, int, Job | None]] = []
        self.next_slot = 0
        for _ in range(slots):
            self.add_slot()
            if known:
                self.worker_is_ready(0)
        for limits in TASKS if known else ():
            self.submit(limits, None, 3, 0)
            self.worker_answers(0, Reason.SUCCEEDED, 0.3 if limits.memory_bytes else 0.00009, False, False)

    def withdraw(self, slot_id: SlotId, job: Job) -> bool:
        return self.model.withdraw(slot_id, job)

    def slots(self) -> list[ModelSlot]:
        return list(self.model.slots.values())

    # Callers

    @rule(
        limits=st.sampled_from(TASKS),
        budget_s=st.sampled_from([None, None, None, 0.0, 0.003, 0.02, 0.5]),
        urgency=st.sampled_from([0, 3, 3, 7]),
        size_bytes=st.sampled_from([0, 0, 1, 4, 12]),
        client=st.sampled_from(CLIENTS),
    )
    def submit(
        self, limits: TaskLimits, budget_s: float | None, urgency: int, size_bytes: int, client: str = CLIENTS[0]
    ) -> None:
        model = self.model
        job = new_job(
            limits=limits, now=model.now, budget_s=budget_s, urgency=urgency, size_bytes=size_bytes, client=client
        )
        self.jobs.append(job)
        rejection = model.rejection(
            job, is_late=self.scheduler._admission.deadline_unreachable(job, model.now) is not None
        )
        commands = self.scheduler.submit(job, model.now)
        if rejection is None:
            displaced = model.make_room(job)
            at_once = job if model.would_start(job) else None
            model.wait_for_slot(job)
            model.expect(commands, displaced, at_once=at_once)
        else:
            model.expect(commands, model.end(job, rejection))

    @rule(limits=st.sampled_from(TASKS[:2]), count=st.integers(min_value=3, max_value=6))
    def submit_several(self, limits: TaskLimits, count: int) -> None:
        for _ in range(count):
            self.submit(limits, None, 3, 0)

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, why=st.sampled_from([Reason.CANCELLED, Reason.DISCONNECTED]))
    def cancel(self, pick: int, why: Reason) -> None:
        jobs = [job for job in self.jobs if job in self.model.open_jobs()] if pick % 4 else self.jobs
        if not jobs:
            return
        job = jobs[-1 - pick % len(jobs)]
        was_settled = job in self.model.settled
        commands = self.scheduler.cancel(job, why, self.model.now)
        self.model.expect(commands, [] if was_settled else self.model.end(job, why))

    @precondition(lambda self: self.model.behind())
    @rule(pick=picks, has_begun=mostly)
    def cancel_behind_another(self, pick: int, has_begun: bool) -> None:
        """The worker may have begun the job, unknown to the scheduler."""
        job, slot = list(self.model.behind().items())[pick % len(self.model.behind())]
        if has_begun:
            slot.done = max(slot.done, slot.jobs.index(job))
        commands = self.scheduler.cancel(job, Reason.CANCELLED, self.model.now)
        self.model.expect(commands, self.model.end(job, Reason.CANCELLED))

    # Time

    @rule(seconds=st.sampled_from([0.0005, 0.001, 0.002, PATIENCE_S]))
    def time_passes(self, seconds: float) -> None:
        self.model.now += seconds

    @rule(seconds=st.sampled_from([PATIENCE_S + TICK_S, PATIENCE_S, 0.003, 0.03, 0.0, 0.2, 2.0, AGED_S]))
    def timer(self, seconds: float) -> None:
        model = self.model
        model.now += seconds
        dues = {job: due for job in model.open_jobs() if (due := model.due(job)) is not None}
        # The timer wheel is never early, and at most a tick late.
        due_jobs = {job for job, (instant, _) in dues.items() if (int(instant / TICK_S) + 1) * TICK_S <= model.now}
        commands = self.scheduler.expire(model.now)
        ended = [command.job for command in commands if isinstance(command, Settled) and command.job in due_jobs]
        assert set(ended) == due_jobs
        expected: list[Command] = [command for job in ended for command in model.end(job, dues[job][1])]
        model.take_back_held_up()
        model.expect(commands, expected)

    # The engine

    @precondition(lambda self: len(self.model.slots) < SLOTS)
    @rule()
    def add_slot(self) -> None:
        slot = ModelSlot(SlotId(self.next_slot))
        self.next_slot += 1
        self.model.slots[slot.id] = slot
        self.model.held[slot.id] = []
        self.scheduler.slot_added(slot.id)

    @precondition(lambda self: any(not slot.has_worker for slot in self.slots()))
    @rule(pick=picks)
    def remove_slot(self, pick: int) -> None:
        empty = [slot for slot in self.slots() if not slot.has_worker]
        slot = empty[pick % len(empty)]
        del self.model.slots[slot.id]
        del self.model.held[slot.id]
        self.scheduler.slot_removed(slot.id)

    @precondition(lambda self: any(not slot.has_worker for slot in self.slots()))
    @rule()
    def all_workers_are_ready(self) -> None:
        while any(not slot.has_worker for slot in self.slots()):
            self.worker_is_ready(0)

    @precondition(lambda self: any(not slot.has_worker for slot in self.slots()))
    @rule(pick=picks)
    def worker_is_ready(self, pick: int) -> None:
        empty = [slot for slot in self.slots() if not slot.has_worker]
        slot = empty[pick % len(empty)]
        slot.generation += 1
        slot.has_worker = self.model.was_ready = True
        self.model.is_failing = False
        self.model.expect(self.scheduler.ready(slot.id, slot.generation, self.model.now), [])

    @precondition(lambda self: not all(slot.has_worker for slot in self.slots()))
    @rule()
    def start_ups_keep_failing(self) -> None:
        self.model.is_failing = True
        has_worker = any(slot.has_worker for slot in self.slots())
        waiting = [] if has_worker else [entry.job for entry in self.model.waiting]
        commands = self.scheduler.failing_to_start(self.model.now)
        self.model.expect(commands, [one for job in waiting for one in self.model.end(job, Reason.STARTING)])

    @precondition(lambda self: any(slot.jobs and slot.done < len(slot.jobs) for slot in self.slots()))
    @rule(pick=picks)
    def worker_advances(self, pick: int) -> None:
        """One more job has ended and the next has begun, unknown to the scheduler."""
        busy = [slot for slot in self.slots() if slot.jobs and slot.done < len(slot.jobs)]
        busy[pick % len(busy)].done += 1

    @precondition(lambda self: any(slot.jobs for slot in self.slots()))
    @rule(
        pick=picks,
        reason=st.sampled_from(WORKERS_REASONS),
        run_s=st.sampled_from([None, 0.00009, 0.00009, 0.00009, 0.0006, 0.3]),
        is_leaving=st.sampled_from([False, False, True]),
        has_printed=st.sampled_from([False] * 5 + [True]),
    )
    def worker_answers(
        self, pick: int, reason: Reason, run_s: float | None, is_leaving: bool, has_printed: bool
    ) -> None:
        occupied = [slot for slot in self.slots() if slot.jobs]
        slot = occupied[pick % len(occupied)]
        outcome = Outcome(reason=reason, run_s=run_s, has_printed=has_printed)
        number, generation = slot.jobs[0].number, slot.generation
        commands = self.scheduler.finished(
            slot.id, generation, [(number, outcome)], is_leaving=is_leaving, now=self.model.now
        )
        self.gone.append((slot.id, generation, slot.jobs[0]))
        self.model.expect(commands, self.model.answer(slot, outcome, is_leaving=is_leaving))

    @precondition(lambda self: any(len(slot.jobs) > 1 for slot in self.slots()))
    @rule(
        pick=picks,
        count=st.integers(min_value=2, max_value=4),
        reason=st.sampled_from(WORKERS_REASONS),
        run_s=st.sampled_from([0.00009, 0.00009, 0.3]),
        is_leaving=st.sampled_from([False, False, True]),
    )
    def worker_answers_to_several(self, pick: int, count: int, reason: Reason, run_s: float, is_leaving: bool) -> None:
        """The scheduler receives the answers together."""
        with_several = [slot for slot in self.slots() if len(slot.jobs) > 1]
        slot = with_several[pick % len(with_several)]
        jobs, generation = slot.jobs[:count], slot.generation
        slot.done = max(slot.done, len(jobs))
        outcome = Outcome(reason=reason, run_s=run_s)
        ended = [(job.number, outcome) for job in jobs]
        commands = self.scheduler.finished(slot.id, generation, ended, is_leaving=is_leaving, now=self.model.now)
        self.gone += [(slot.id, generation, job) for job in jobs]
        commands_of = [self.model.answer(slot, outcome, is_leaving=is_leaving, is_last=job is jobs[-1]) for job in jobs]
        self.model.expect(commands, chain.from_iterable(commands_of))

    @rule()
    def all_workers_answer(self) -> None:
        """Every job in a slot is answered after a short run."""
        for _ in range(sum(len(slot.jobs) for slot in self.slots())):
            self.worker_answers(0, Reason.SUCCEEDED, 0.00009, False, False)

    @precondition(lambda self: any(slot.has_worker for slot in self.slots()))
    @rule(pick=picks, more=st.integers(min_value=0, max_value=3))
    def worker_dies(self, pick: int, more: int) -> None:
        """Unreported answers are lost: those jobs have begun, and perhaps some more."""
        present = [slot for slot in self.slots() if slot.has_worker]
        slot = present[pick % len(present)]
        begun = min(slot.done + more, len(slot.jobs))
        self.gone.append((slot.id, slot.generation, slot.jobs[0] if slot.jobs else None))
        commands = self.scheduler.died(slot.id, slot.generation, KILLED, begun=begun, now=self.model.now)
        self.model.expect(commands, self.model.lose(slot, begun))

    @precondition(lambda self: self.gone)
    @rule(pick=st.integers(min_value=0, max_value=3), begun=st.integers(min_value=0, max_value=2))
    def dead_worker_is_reported_again(self, pick: int, begun: int) -> None:
        """A late answer of an ended attempt is ignored, and so is a second report of a death."""
        slot_id, generation, job = self.gone[-1 - pick % len(self.gone)]
        slot, now = self.model.slots.get(slot_id), self.model.now
        if job is not None and (slot is None or slot.jobs[:1] != [job] or slot.generation != generation):
            outcome = Outcome(reason=Reason.SUCCEEDED, run_s=9.0)
            self.model.expect(self.scheduler.finished(slot_id, generation, [(job.number, outcome)], now=now), [])
        if slot is None or not slot.has_worker or slot.generation != generation:
            self.model.expect(self.scheduler.died(slot_id, generation, KILLED, begun=begun, now=now), [])

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def memory_is_exceeded(self, pick: int) -> None:
        job = self.jobs[-1 - pick % len(self.jobs)]
        was_running = job in self.model.running()
        commands = self.scheduler.exceed_memory(job, peak_bytes=7, now=self.model.now)
        self.model.expect(commands, self.model.end(job, Reason.MEMORY_LIMIT) if was_running else [])

    # Stopping

    @precondition(lambda self: len(self.model.settled) > 60 and self.model.drain_ends_at is None)
    @rule(seconds=st.sampled_from([0.0, 0.5]))
    def drain(self, seconds: float) -> None:
        self.model.drain_ends_at = self.model.now + seconds
        self.scheduler.begin_drain(self.model.drain_ends_at)

    @precondition(lambda self: self.model.drain_ends_at is not None)
    @rule()
    def stop_all(self) -> None:
        jobs = [job for job in self.jobs if job in self.model.open_jobs()]
        commands = self.scheduler.stop_all(self.model.now)
        self.model.expect(commands, [one for job in jobs for one in self.model.end(job, Reason.STOPPED)])
        assert self.scheduler.is_empty

    # Invariants

    @invariant()
    def all_invariants_hold(self) -> None:
        self.scheduler.check_invariants()

    @invariant()
    def every_job_ended_as_the_model_says(self) -> None:
        settled = self.model.settled
        assert {job: reason_of(job) for job in self.jobs} == {job: settled.get(job) for job in self.jobs}
        assert dict(self.scheduler.tally.ended) == Counter(job.state for job in settled)

    @invariant()
    def every_overloaded_job_has_the_cause_of_the_model(self) -> None:
        overloaded = [job for job in self.jobs if reason_of(job) is Reason.OVERLOADED]
        assert {job: facts_of(job)["cause"] for job in overloaded} == self.model.causes

    @invariant()
    def all_other_jobs_wait_or_run(self) -> None:
        model, scheduler = self.model, self.scheduler
        assert list(scheduler.queue) == [entry.job for entry in model.waiting]
        running = model.running()
        queued = len(model.waiting) + len(model.behind())
        assert (scheduler.queued, scheduler.tally.running) == (queued, len(running))
        assert {job for job in self.jobs if job.state is JobState.RUNNING} == running.keys()
        assert {job for job in self.jobs if scheduler.find(job.id) is job} == model.open_jobs()
        for slot in self.slots():
            seen = scheduler.slots.all[slot.id]
            assert (seen.state, seen.jobs()) == (slot.state, slot.jobs)
            assert all(job.slot == slot.id for job in slot.jobs)

    @invariant()
    def the_next_instant_is_early_enough(self) -> None:
        """For every deadline, and for jobs that wait behind others."""
        dues = [due[0] for job in self.model.open_jobs() if (due := self.model.due(job)) is not None]
        wanted = [*dues, *self.model.patience_instants()]
        instant = self.scheduler.next_instant()
        assert (instant is not None) or not wanted
        if wanted:
            assert instant is not None
            assert instant <= min(wanted) + 1.01 * TICK_S


TestCore = Core.TestCase
TestCore.settings = settings(max_examples=60, stateful_step_count=60)


@pytest.mark.long
def test_the_core_follows_the_model_in_many_runs() -> None:
    run_state_machine_as_test(Core, settings=settings(max_examples=1000, stateful_step_count=60))
