"""Who runs next, who is stopped, and the one outcome of every job.

Lives here: the only code that changes jobs, slots and the queue.  Each method is one event; it changes state in one
synchronous step and returns the commands that follow, so nothing can interleave.  `dispatch` calls it with the time and
carries the commands out; it must not call back before it has taken the whole list.

A result that arrives together with its timeout is settled by whichever event comes first; the other finds the job
settled, or the slot in another generation, and changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from offload.core.admission.admission import Admission, AdmissionLimits, Load, Rejection
from offload.core.admission.estimate import Candidate, Estimate, Inquiry
from offload.core.books import Books
from offload.core.commands import Command
from offload.core.deadlines import Alarm
from offload.core.death import Death
from offload.core.invariants import check_jobs
from offload.core.job import Job, JobId, JobState, SlotId
from offload.core.outcome import Ended, Reason, abandoned, cancelled, over_memory, overdue
from offload.core.prefetch import BusySince
from offload.core.queue.gates import Gates
from offload.core.queue.job_queue import JobQueue
from offload.core.run_times import RunTimes
from offload.core.slot import Slot, SlotState
from offload.core.slots import Slots, Withdraw
from offload.core.steps import Steps


class Scheduler:
    """`withdraw` is the engine's; without it no slot is given more than one job.  So is `busy_since`: a worker knows
    best since when it is at its job; see `prefetch`."""

    def __init__(
        self,
        *,
        limits: AdmissionLimits,
        withdraw: Withdraw | None = None,
        busy_since: BusySince | None = None,
    ) -> None:
        self.alarm = Alarm()
        self.run_times = RunTimes()
        self._gates = Gates(max_running_per_client=limits.max_running_per_client)
        self.queue = JobQueue(
            limit=limits.queue_limit, limit_bytes=limits.queue_bytes, gates=self._gates, run_times=self.run_times
        )
        self._load = Load()
        self._slots = Slots(
            queue=self.queue,
            load=self._load,
            gates=self._gates,
            run_times=self.run_times,
            withdraw=withdraw,
            busy_since=busy_since,
            alarm=self.alarm,
        )
        self._estimate = Estimate(queue=self.queue, gates=self._gates, run_times=self.run_times, slots=self._slots)
        self._admission = Admission(limits=limits, queue=self.queue, load=self._load, estimate=self._estimate)
        self.traffic = self._admission.traffic
        self.quarantine = self._admission.quarantine
        self._books = Books(self._load, self.alarm)
        self._steps = Steps(
            queue=self.queue,
            slots=self._slots,
            books=self._books,
            load=self._load,
            gates=self._gates,
            run_times=self.run_times,
            admission=self._admission,
        )

    # What the outside may look at

    @property
    def running(self) -> int:
        """Jobs in RUNNING state.  A stopped job is none, though its slot may still be occupied."""
        return self._books.running

    @property
    def queued(self) -> int:
        """Jobs in QUEUED state: those in the queue, and those that wait in a slot behind another."""
        return self.queue.length + self._slots.behind

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

    def queued_by_task(self) -> Counter[int]:
        """How many jobs wait, by their task's index."""
        return self.queue.lengths_by_task() + self._slots.behind_by_task()

    def running_by_task(self) -> Counter[int]:
        """How many jobs run, by their task's index."""
        heads = (slot.job for slot in self._slots.all.values())
        return Counter(job.limits.index for job in heads if job is not None and job.is_running)

    def unsettled(self) -> Iterator[Job]:
        """The jobs that have not ended, first come first; they may be ended meanwhile."""
        return self._books.open_jobs()

    def next_instant(self) -> float | None:
        """When `expire` wants to be called next, monotonic seconds; None for never.  `alarm` is no later."""
        held_up, due = self._slots.next_instant(), self._books.next_instant()
        return due if held_up is None or (due is not None and due <= held_up) else held_up

    def expected_wait_s(self, now: float) -> float:
        """How long a job that came now would wait."""
        return 0.0 if self._slots.idle else self._estimate.outlook(Inquiry(), now).wait_s

    def rejection(self, candidate: Candidate, now: float) -> Rejection | None:
        """Why such a job would not be taken if it came now; None if it would."""
        if self._steps.would_start(candidate, now):
            return None
        return self._admission.rejection(candidate, now)

    # Callers

    def submit(self, job: Job, now: float) -> list[Command]:
        """A new job: started, queued, or settled as refused.  Raises IllegalStep if it is not new.

        Another that waits may have to go for it, with an answer.
        """
        if job.fingerprint is not None:
            rejection = self._admission.quarantined(job, now)
            if rejection is not None:
                return self.reject(job, rejection, now)
        if self._slots.idle and self._steps.would_start(job, now):
            self._books.admit(job)
            return [self._steps.start(job, now)]
        rejection = self._admission.rejection(job, now)
        if rejection is not None:
            return self.reject(job, rejection, now)
        self._books.admit(job)
        if not self.queue.length and self._slots.holds_several:
            start = self._steps.start_behind(job, now)
            if start is not None:
                return [start]
        commands = self._steps.make_room(job, now)
        self._books.wait(job)
        self.queue.push(job)
        return commands + self._steps.fill(now)

    def reject(self, job: Job, rejection: Rejection, now: float) -> list[Command]:
        """A new job that is not taken, for a reason that `rejection` gave: counted, and settled at once."""
        self._books.count_in(job)
        return [self._steps.send_away(job, rejection, now)]

    def body_without_room(self, now: float) -> Rejection:
        """Returns the rejection of a job whose body found no room while it arrived."""
        return self._admission.body_without_room(Inquiry(), now)

    def identify(self, job: Job, fingerprint: str) -> None:
        """Which job it was that has killed its worker."""
        job.fingerprint = fingerprint
        self.quarantine.record(job)

    def cancel(self, job: Job, why: Reason, now: float) -> list[Command]:
        """Ends a job for a reason of the caller's; nothing happens if it has ended."""
        if job.is_settled:
            return []
        return self._steps.end(job, cancelled(job, why), now) + self._steps.fill(now)

    def exceed_memory(self, job: Job, *, peak_bytes: int, now: float) -> list[Command]:
        """The job's worker and its descendants were seen with more memory than the task may have."""
        if not job.is_running:
            return []
        return self._steps.end(job, over_memory(job, peak_bytes), now) + self._steps.fill(now)

    # Time

    def expire(self, now: float) -> list[Command]:
        """Ends everything whose time is over, and takes back what waits behind a job that takes long."""
        due = self._books.pop_due(now)
        commands = [command for job in due for command in self._steps.end(job, overdue(job), now)]
        self._slots.take_back_held_up(now)
        commands += self._steps.fill(now)
        due_at = self.next_instant()
        self.alarm.at = math.inf if due_at is None else due_at
        return commands

    def begin_drain(self, ends_at: float) -> None:
        """Take nothing new.  What is queued or running goes on; whoever drains calls `stop_all` at `ends_at`."""
        self._load.drain_ends_at = ends_at

    def stop_all(self, now: float) -> list[Command]:
        """Ends every job that is left, with an answer."""
        return [command for job in self.unsettled() for command in self._steps.end(job, abandoned(Reason.STOPPED), now)]

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
        return self._steps.fill(now)

    def finished(
        self, slot_id: SlotId, generation: int, ended: Sequence[Ended], *, is_leaving: bool = False, now: float
    ) -> list[Command]:
        """The work of some jobs is over, at least one, told in the order of the slot; of the wrong generation or number
        they are late answers, and nothing.

        `is_leaving`: the worker retires when it is done with what it has; then the slot has none until the next is
        ready.
        """
        slot = self._slots.all.get(slot_id)
        head = None if slot is None else slot.job
        if slot is None or slot.generation != generation or head is None or head.number != ended[0][0]:
            return []
        commands: list[Command] = []
        following: Job | None = None
        for number, outcome in ended:
            job = slot.job
            if job is None or job.number != number:
                break
            if job.outcome is None:
                commands.append(self._steps.finish(job, outcome, slot_id, now))
            following = self._slots.finish(slot, is_leaving=is_leaving)
        if following is not None:
            commands += self._steps.go_on(slot, following, now)
        return commands + self._steps.fill(now)

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
            commands += self._steps.lose(job, death, begun=has_begun, now=now)
        return commands + self._steps.fill(now)

    def failing_to_start(self, now: float) -> list[Command]:
        """Start-ups keep failing.  With no worker left at all, those who wait are told so instead of waiting on."""
        self._load.is_failing_to_start = True
        if self._load.present_slots:
            return []
        waiting = list(self.queue)
        return [command for job in waiting for command in self._steps.end(job, abandoned(Reason.STARTING), now)]

    # Self-checks

    def check_books(self) -> None:
        """In constant time: every job submitted has ended, waits or runs.  Raises AssertionError."""
        self._books.check_balance(queued=self.queued)

    def check_invariants(self) -> None:
        """Everything that must hold between two events; for simulations and tests.  Raises AssertionError."""
        self.check_books()
        due_at = self.next_instant()
        assert due_at is None or self.alarm.at <= due_at, f"the alarm is set to {self.alarm.at}, not to {due_at}"
        self._slots.check_invariants()
        self._books.check_invariants()
        open_jobs = list(self._books.open_jobs())
        check_jobs(open_jobs, self._slots.all, self.queue, running=self._books.running)
        self.queue.check_invariants()
        may_run = any(self._gates.lets_pass(job.limits, job.client) for job in self.queue)
        assert not (self._slots.idle and may_run), "a slot is idle while a job waits that may run"
