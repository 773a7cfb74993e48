"""Who runs next, who is stopped, and the one outcome of every job.

Lives here: the only code that changes jobs, slots and the queue.  Each method is one event; it changes state in one
synchronous step and returns the commands that follow, so nothing can interleave.  `dispatch` calls it with the time and
carries the commands out; it must not call back before it has taken the whole list.

A result that arrives together with its timeout is settled by whichever event comes first; the other finds the job
settled, or the slot in another generation, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from offload.core.admission import Admission, Load, Refusal
from offload.core.books import Books
from offload.core.commands import Command, Start, Stop
from offload.core.death import Death
from offload.core.invariants import check_jobs
from offload.core.job import Job, JobId, JobState, Outcome, Reason, SlotId
from offload.core.outcomes import cancelled, crashed, over_memory, overdue, refused, sent_away
from offload.core.queue import JobQueue
from offload.core.slot import Slot, SlotState
from offload.core.slots import Slots, Withdraw

# A job whose worker died before beginning it is started elsewhere at no charge; but if that happens again and again,
# the job itself is the likeliest cause.  Three: two coincidences in a row are plausible while somebody kills workers.
MAX_UNBEGUN_DEATHS: Final = 3


class Scheduler:
    """`withdraw` is the engine's; without it no slot is given more than one job."""

    def __init__(self, *, queue: JobQueue, withdraw: Withdraw | None = None) -> None:
        self.queue = queue
        self._load = Load()
        self.admission = Admission(queue, self._load)
        self._slots = Slots(queue=queue, load=self._load, run_times=self.admission.run_times, withdraw=withdraw)
        self._books = Books(self._load)

    # What the outside may look at

    @property
    def running(self) -> int:
        """Jobs in RUNNING state.  A stopped job is none, though its slot may still be occupied."""
        return self._books.running

    @property
    def queued(self) -> int:
        """Jobs in QUEUED state: those in the queue, and those that wait in a slot behind another."""
        return len(self.queue) + self._slots.behind

    @property
    def submitted(self) -> int:
        return self._books.submitted

    @property
    def ended(self) -> Mapping[JobState, int]:
        """How many jobs ended in each final state."""
        return self._books.ended

    @property
    def is_draining(self) -> bool:
        return self._load.drain_ends_at is not None

    @property
    def is_empty(self) -> bool:
        """Nobody waits, nothing runs."""
        return self._books.is_empty

    @property
    def slots(self) -> Mapping[SlotId, Slot]:
        return self._slots.all

    def find(self, job_id: JobId) -> Job | None:
        """A job that has not ended."""
        return self._books.find(job_id)

    def unsettled(self) -> Iterator[Job]:
        """The jobs that have not ended, first come first; they may be ended meanwhile."""
        return self._books.open_jobs()

    def next_instant(self) -> float | None:
        """When `expire` wants to be called next, monotonic seconds; None for never."""
        held_up, due = self._slots.next_instant(), self._books.next_instant()
        return due if held_up is None or (due is not None and due <= held_up) else held_up

    def expected_wait_s(self) -> float:
        """How long a job that came now would wait."""
        return 0.0 if self._slots.idle else self.admission.expected_wait_s()

    def refusal(self, now: float, *, size_bytes: int = 0, budget_s: float | None = None) -> Refusal | None:
        """Why a job that came now would not be taken; None if it would."""
        if self._slots.idle and self._load.drain_ends_at is None:
            return None
        return self.admission.refusal(now, size_bytes=size_bytes, budget_s=budget_s)

    # Callers

    def submit(self, job: Job, now: float) -> list[Command]:
        """A new job: started, queued, or settled as refused.  Raises IllegalStep if it is not new."""
        budget_s = None if job.deadline is None else job.deadline - now
        refusal = self.refusal(now, size_bytes=job.size_bytes, budget_s=budget_s)
        if refusal is not None:
            return self.refuse(job, refusal, now)
        self._books.admit(job)
        self.admission.expect(job)
        if self._slots.idle and (budget_s is None or budget_s > 0):
            return [self._start(job, now)]
        self._books.wait(job)
        self.queue.push(job)
        return self._fill(now)

    def refuse(self, job: Job, refusal: Refusal, now: float) -> list[Command]:
        """A new job that is not taken, for a reason that `refusal` gave: counted, and settled at once."""
        self._books.count_in(job)
        return [self._books.settle(job, refused(refusal), now)]

    def cancel(self, job: Job, why: Reason, now: float) -> list[Command]:
        """Ends a job for a reason of the caller's; nothing happens if it has ended."""
        if job.is_settled:
            return []
        return self._end(job, cancelled(job, why), now) + self._fill(now)

    def exceed_memory(self, job: Job, *, peak_bytes: int, now: float) -> list[Command]:
        """The job's worker and its descendants were seen with more memory than the task may have."""
        if not job.is_running:
            return []
        return self._end(job, over_memory(job, peak_bytes), now) + self._fill(now)

    # Time

    def expire(self, now: float) -> list[Command]:
        """Ends everything whose time is over, and takes back what waits behind a job that takes long."""
        due = self._books.pop_due(now)
        commands = [command for job in due for command in self._end(job, overdue(job), now)]
        self._slots.take_back_held_up(now)
        return commands + self._fill(now)

    def begin_drain(self, ends_at: float) -> None:
        """Take nothing new.  What is queued or running goes on; whoever drains calls `stop_all` at `ends_at`."""
        self._load.drain_ends_at = ends_at

    def stop_all(self, now: float) -> list[Command]:
        """Ends every job that is left, with an answer."""
        return [command for job in self.unsettled() for command in self._end(job, sent_away(Reason.STOPPED), now)]

    # The engine

    def slot_added(self, slot_id: SlotId) -> None:
        """The engine has one slot more, without a worker as yet.  Raises IllegalStep if it is known already."""
        self._slots.add(slot_id)

    def slot_removed(self, slot_id: SlotId) -> None:
        """The engine has one slot less.  Raises IllegalStep if it has a worker, which must have died or left before."""
        self._slots.remove(slot_id)

    def ready(self, slot_id: SlotId, generation: int, now: float) -> list[Command]:
        """A worker is ready for its first job."""
        self._slots.take_worker(slot_id, generation)
        self._load.was_ever_ready = True
        self._load.is_failing_to_start = False
        return self._fill(now)

    def finished(
        self, slot_id: SlotId, generation: int, number: int, outcome: Outcome, *, is_leaving: bool = False, now: float
    ) -> list[Command]:
        """The work of job `number` is over; of the wrong generation or number it is a late answer, and nothing.

        `is_leaving`: the worker retires when it is done with what it has; then the slot has none until the next is
        ready.
        """
        slot = self._slots.all.get(slot_id)
        if slot is None or slot.generation != generation or slot.job is None or slot.job.number != number:
            return []
        job = slot.job
        commands: list[Command] = []
        if not job.is_settled:
            commands.append(self._books.settle(job, outcome, now))
            if outcome.has_printed:
                self.admission.run_times.has_printed(job.limits.index)
            if outcome.run_s is not None:
                self.admission.run_times.record(job.limits.index, outcome.run_s)
        following = self._slots.finish(slot, is_leaving=is_leaving)
        if following is not None:
            commands += self._go_on(slot, following, now)
        return commands + self._fill(now)

    def died(self, slot_id: SlotId, generation: int, death: Death, *, begun: int, now: float) -> list[Command]:
        """The slot's worker is gone.  `begun`: how many of the jobs that it had, in their order, it may have begun."""
        slot = self._slots.all.get(slot_id)
        if slot is None or slot.generation != generation or slot.state is SlotState.ABSENT:
            return []
        commands: list[Command] = []
        for place, job in enumerate(self._slots.lose_worker(slot)):
            if job.is_settled:
                continue
            has_begun = place < begun
            if job.is_queued and not has_begun:
                self.queue.push_back(job)
                continue
            if job.is_queued:
                self._books.begin(job, slot_id, now)
            commands += self._lose(job, death, begun=has_begun, now=now)
        return commands + self._fill(now)

    def failing_to_start(self, now: float) -> list[Command]:
        """Start-ups keep failing.  With no worker left at all, those who wait are told so instead of waiting on."""
        self._load.is_failing_to_start = True
        if self._load.present_slots:
            return []
        waiting = list(self.queue)
        return [command for job in waiting for command in self._end(job, sent_away(Reason.STARTING), now)]

    # State changes that several events share

    def _fill(self, now: float) -> list[Command]:
        """Gives waiting jobs to idle slots, then short ones to slots where short ones run.

        The last step of an event: whatever takes jobs back must come before it, because a worker has none of those that
        are given here until the commands are carried out.
        """
        commands: list[Command] = []
        while self._slots.idle:
            job = self.queue.pop()
            if job is None:
                return commands
            is_overdue = job.deadline is not None and job.deadline <= now
            commands.append(self._books.settle(job, overdue(job), now) if is_overdue else self._start(job, now))
        if self._slots.holds_several and len(self.queue):
            self._fill_behind(commands, now)
        return commands

    def _fill_behind(self, commands: list[Command], now: float) -> None:
        while (job := self.queue.first()) is not None:
            if job.deadline is not None and job.deadline <= now:
                self.queue.remove(job)
                commands.append(self._books.settle(job, overdue(job), now))
                continue
            slot = self._slots.find_room(job, now)
            if slot is None:
                return
            self.queue.remove(job)
            self._slots.give_behind(job, slot)
            commands.append(Start(slot.id, job))

    def _start(self, job: Job, now: float) -> Start:
        slot_id = self._slots.occupy_idle(job)
        self._books.begin(job, slot_id, now)
        return Start(slot_id, job)

    def _go_on(self, slot: Slot, job: Job, now: float) -> list[Command]:
        """The slot's worker has begun the next job that it has."""
        if job.is_settled:
            return self._stop(slot, job)  # ended while it waited, too late to be taken back
        self._books.begin(job, slot.id, now)
        return []

    def _lose(self, job: Job, death: Death, *, begun: bool, now: float) -> list[Command]:
        """The worker of a running job is gone: tried again, or over."""
        attempts_left = job.attempt <= job.limits.retries if begun else job.unbegun_deaths < MAX_UNBEGUN_DEATHS
        drain_ends_at = self._load.drain_ends_at
        if attempts_left and (drain_ends_at is None or now < drain_ends_at):
            self._books.requeue(job, begun=begun)
            self.queue.push_back(job)
            return []
        return [self._books.settle(job, crashed(death), now)]

    def _end(self, job: Job, outcome: Outcome, now: float) -> list[Command]:
        """Settles a job wherever it is; work that still goes on is stopped.  The event that it is part of fills up."""
        slot = self._slots.of(job)
        if job.is_running:
            assert slot is not None
            commands: list[Command] = [self._books.settle(job, outcome, now), *self._stop(slot, job)]
            if job.started_at is not None:
                self.admission.run_times.record_at_least(job.limits.index, now - job.started_at)
            return commands
        if slot is None or self._slots.call_back(job, slot):
            self.queue.remove(job)
        return [self._books.settle(job, outcome, now)]

    def _stop(self, slot: Slot, job: Job) -> list[Command]:
        """The slot's job is settled and its work is to end, unless it has ended: then the worker is at the next."""
        if job.outcome is None or not self._slots.take_back(slot):
            return []
        slot.stop()
        return [Stop(slot.id, job, job.outcome.reason)]

    # Self-checks

    def check_books(self) -> None:
        """In constant time: every job submitted has ended, waits or runs.  Raises AssertionError."""
        self._books.check_balance(queued=self.queued)

    def check_invariants(self) -> None:
        """Everything that must hold between two events; for simulations and tests.  Raises AssertionError."""
        self.check_books()
        self._slots.check_invariants()
        self._books.check_invariants()
        open_jobs = list(self._books.open_jobs())
        check_jobs(open_jobs, self._slots.all, self.queue, self._load, running=self._books.running)
        assert not (self._slots.idle and len(self.queue)), "a slot is idle while a job waits"
