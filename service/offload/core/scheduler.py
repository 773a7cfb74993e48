"""Who runs next, who is stopped, and the one outcome of every job.

Each event is one synchronous method: it changes jobs, slots, queue and counters, and returns the commands that follow,
so that no other event can come in between. The caller carries out the whole list before it reports the next event.

The last transition of an event fills idle slots. A transition that withdraws jobs must come before it, because a
worker holds none of the jobs that are given there until the commands are carried out.

If a result arrives together with its timeout, whichever event comes first settles the job; the other finds it settled,
or the slot in another generation, and changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from offload.core.admission.admission import Admission, AdmissionLimits, Rejection
from offload.core.admission.estimate import Candidate, Estimate, Inquiry
from offload.core.commands import Command, Settled, Start, Stop
from offload.core.deadlines import Alarm, Deadlines
from offload.core.death import Death
from offload.core.invariants import check_deadlines, check_jobs, check_slots
from offload.core.job import END_STATE, Job, JobId, SlotId
from offload.core.outcome import Ended, Outcome, Reason, abandoned, cancelled, crashed, over_memory, overdue
from offload.core.prefetch import BusySince, Prefetch
from offload.core.queue.job_queue import JobQueue
from offload.core.queue.running_limits import RunningLimits
from offload.core.run_times import RunTimes
from offload.core.slot import Slot, SlotState
from offload.core.slots import Slots
from offload.core.state import Load, Tally
from offload.errors import IllegalStep

# A job that had not begun when its worker died is started elsewhere at no charge. If that happens again and again, the
# job is the likeliest cause. Three: two coincidences in a row are plausible while workers are being killed.
MAX_UNBEGUN_DEATHS: Final = 3

# Takes a job back from a slot where it waits behind another. True: it has not begun, and never will there.
Withdraw = Callable[[SlotId, Job], bool]


class Scheduler:
    """`withdraw` and `busy_since` are the engine's. Without `withdraw` no slot is given more than one job.

    `tally`, `load`, `slots` and `queue` may be read. `expire` is due at the instant of `alarm`, which events set.
    """

    def __init__(
        self, *, limits: AdmissionLimits, withdraw: Withdraw | None = None, busy_since: BusySince | None = None
    ) -> None:
        self.alarm = Alarm()
        self.run_times = RunTimes()
        self._running_limits = RunningLimits(max_running_per_client=limits.max_running_per_client)
        self.queue = JobQueue(
            limit=limits.queue_limit,
            limit_bytes=limits.queue_bytes,
            running_limits=self._running_limits,
            run_times=self.run_times,
        )
        self.load = Load()
        self.tally = Tally()
        self._jobs: dict[JobId, Job] = {}  # those that have not ended, in order of submission
        self.slots = Slots(self.load)
        self._deadlines: Deadlines[Job] = Deadlines(self.alarm)
        self._prefetch = Prefetch(self.run_times, busy_since, self.alarm)
        self._withdraw = withdraw
        self._estimate = Estimate(
            queue=self.queue, running_limits=self._running_limits, run_times=self.run_times, slots=self.slots
        )
        self._admission = Admission(limits=limits, queue=self.queue, load=self.load, estimate=self._estimate)
        self.traffic = self._admission.traffic
        self.quarantine = self._admission.quarantine

    # Reading

    @property
    def queued(self) -> int:
        """Jobs in state QUEUED: those in the queue and those that wait in a slot behind another."""
        return self.queue.length + self.slots.waiting

    @property
    def is_empty(self) -> bool:
        """Whether no job waits or runs."""
        return not self._jobs

    def find(self, job_id: JobId) -> Job | None:
        """Returns a job that has not ended."""
        return self._jobs.get(job_id)

    def queued_by_task(self) -> Counter[int]:
        """Returns how many jobs wait, by task index."""
        return self.queue.lengths_by_task() + self.slots.waiting_by_task()

    def next_instant(self) -> float | None:
        """Returns when `expire` is due next, monotonic seconds; None for never. `alarm` is not later."""
        held_up, due = self._prefetch.next_instant(), self._deadlines.next_instant()
        return due if held_up is None or (due is not None and due <= held_up) else held_up

    def expected_wait_s(self, now: float) -> float:
        """Returns how long a job submitted now would wait."""
        return 0.0 if self.slots.idle else self._estimate.outlook(Inquiry(), now).wait_s

    def rejection(self, candidate: Candidate, now: float) -> Rejection | None:
        """Returns why the candidate would be rejected if it were submitted now, None if it would be accepted."""
        return None if self._would_start(candidate, now) else self._admission.rejection(candidate, now)

    def body_without_room(self, now: float) -> Rejection:
        """Returns the rejection of a job whose body found no room while it arrived."""
        return self._admission.body_without_room(Inquiry(), now)

    # Events: callers

    def submit(self, job: Job, now: float) -> list[Command]:
        """Start, queue or reject a new job. A waiting job may be rejected to make room for it.

        Raises IllegalStep if the job is not new.
        """
        if job.fingerprint is not None and (rejection := self._admission.quarantined(job, now)) is not None:
            return self.reject(job, rejection, now)
        if self.slots.idle and self._would_start(job, now):
            self._admit(job)
            return [self._start(job, now)]
        rejection = self._admission.rejection(job, now)
        if rejection is not None:
            return self.reject(job, rejection, now)
        self._admit(job)
        if self._withdraw is not None and not self.queue.length and (start := self._start_behind(job, now)) is not None:
            return [start]
        commands = self._make_room(job, now)
        self._enqueue(job)
        self.queue.push(job)
        return commands + self._fill(now)

    def reject(self, job: Job, rejection: Rejection, now: float) -> list[Command]:
        """Count and settle a new job that is rejected."""
        self._count(job)
        return [self._settle_rejected(job, rejection, now)]

    def identify(self, job: Job, fingerprint: str) -> None:
        """Record the fingerprint of a job that killed its worker."""
        job.fingerprint = fingerprint
        self.quarantine.record(job)

    def cancel(self, job: Job, why: Reason, now: float) -> list[Command]:
        """End a job on behalf of its caller. Does nothing if the job has ended."""
        if job.is_settled:
            return []
        return self._end(job, cancelled(job, why), now) + self._fill(now)

    # Events: time and draining

    def expire(self, now: float) -> list[Command]:
        """End the jobs whose time is up, and withdraw those that wait behind a job that takes long."""
        commands: list[Command] = []
        for job in self._deadlines.pop_due(now):
            commands += self._end(job, overdue(job), now)
        for slot in self._prefetch.pop_held_up(now):
            self._take_back(slot)
        commands += self._fill(now)
        due_at = self.next_instant()
        self.alarm.at = math.inf if due_at is None else due_at
        return commands

    def begin_drain(self, ends_at: float) -> None:
        """Accept no more jobs. Queued and running jobs go on until `stop_all`, which is due at `ends_at`."""
        self.load.drain_ends_at = ends_at

    def stop_all(self, now: float) -> list[Command]:
        """End every job that is left, with an answer."""
        return self._abandon(list(self._jobs.values()), Reason.STOPPED, now)

    # Events: the engine

    def slot_added(self, slot_id: SlotId) -> None:
        """The engine has one more slot, without a worker. Raises IllegalStep if the slot exists."""
        self.slots.add(slot_id)

    def slot_removed(self, slot_id: SlotId) -> None:
        """The engine has one slot less. Raises IllegalStep if the slot has a worker."""
        self._prefetch.forget(self.slots.remove(slot_id))

    def ready(self, slot_id: SlotId, generation: int, now: float) -> list[Command]:
        """A worker is ready for its first job."""
        self.slots.attach_worker(slot_id, generation)
        self.load.was_ever_ready = True
        self.load.is_failing_to_start = False
        return self._fill(now)

    def finished(
        self, slot_id: SlotId, generation: int, ended: Sequence[Ended], *, is_leaving: bool = False, now: float
    ) -> list[Command]:
        """The work of one or more jobs has ended, reported in the order of the slot.

        Late answers, of another generation or number, are ignored. `is_leaving`: the worker retires after the jobs that
        it holds; then the slot has no worker until the next is ready.
        """
        slot = self.slots.all.get(slot_id)
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
                commands.append(self._finish(job, outcome, slot_id, now))
            following = self._release(slot, job, is_leaving=is_leaving)
        if following is not None:
            commands += self._advance(slot, following, now)
        return commands + self._fill(now)

    def died(self, slot_id: SlotId, generation: int, death: Death, *, begun: int, now: float) -> list[Command]:
        """The slot's worker is gone. It may have begun the first `begun` of its jobs."""
        slot = self.slots.all.get(slot_id)
        if slot is None or slot.generation != generation or slot.state is SlotState.ABSENT:
            return []
        commands: list[Command] = []
        jobs = self.slots.detach_worker(slot)
        for job in jobs:
            self._running_limits.leave(job)
        for position, job in enumerate(jobs):
            if job.is_settled:
                continue
            has_begun = position < begun
            if job.is_queued and not has_begun:
                self.queue.push_back(job)
                continue
            if job.is_queued:
                self._begin(job, slot_id, now)
            commands += self._retry_or_crash(job, death, begun=has_begun, now=now)
        return commands + self._fill(now)

    def exceed_memory(self, job: Job, *, peak_bytes: int, now: float) -> list[Command]:
        """The job's worker and its descendants were seen above the task's memory limit."""
        if not job.is_running:
            return []
        return self._end(job, over_memory(job, peak_bytes), now) + self._fill(now)

    def failing_to_start(self, now: float) -> list[Command]:
        """Start-ups keep failing. Without any worker, waiting jobs are answered instead of waiting on."""
        self.load.is_failing_to_start = True
        if self.load.present_slots:
            return []
        return self._abandon(list(self.queue), Reason.STARTING, now)

    # Transitions: from submission to a slot

    def _count(self, job: Job) -> None:
        if not job.is_new:
            raise IllegalStep(thing=f"job {job.id}", state=job.state, event="submit")
        self.tally.submitted += 1

    def _admit(self, job: Job) -> None:
        self._count(job)
        self._jobs[job.id] = job

    def _enqueue(self, job: Job) -> None:
        job.enqueue()
        if job.deadline is not None:
            self._deadlines.set(job, job.deadline)

    def _would_start(self, candidate: Candidate, now: float) -> bool:
        """Whether an idle slot would take the candidate at once.

        Also a job that is expected to take longer than its budget: it holds up no other, and it shows whether the task
        has become faster.
        """
        if not self.slots.idle or self.load.drain_ends_at is not None:
            return False
        if candidate.deadline is not None and candidate.deadline <= now:
            return False
        return candidate.limits is None or self._running_limits.may_run(candidate.limits, candidate.client)

    def _make_room(self, candidate: Candidate, now: float) -> list[Command]:
        """Reject a waiting job if the queue is full."""
        victim = self._admission.job_to_displace(candidate)
        if victim is None:
            return []
        self.queue.remove(victim)
        return [self._settle_rejected(victim, self._admission.displaced(victim, now), now)]

    def _fill(self, now: float) -> list[Command]:
        """Give waiting jobs to idle slots, then short ones to slots where short ones run."""
        commands: list[Command] = []
        while self.slots.idle:
            job = self.queue.first(now)
            if job is None:
                return commands
            self.queue.take_turn(job)
            commands.append(self._start(job, now) if self._is_in_time(job, now) else self._settle_too_late(job, now))
        if self._withdraw is not None and self.queue.length:
            self._fill_behind(commands, now)
        return commands

    def _fill_behind(self, commands: list[Command], now: float) -> None:
        while self._prefetch.may_have_room and (job := self.queue.first(now)) is not None:
            if not self._is_in_time(job, now):
                self.queue.take_turn(job)
                commands.append(self._settle_too_late(job, now))
                continue
            slot = self._prefetch.find_room(job, now)
            if slot is None:
                return
            self.queue.take_turn(job)
            commands.append(self._give_behind(job, slot))

    def _is_in_time(self, job: Job, now: float) -> bool:
        """Whether a job that has waited can still meet its deadline."""
        return job.deadline is None or now + self.run_times.typical_s(job.limits.index) < job.deadline

    def _start(self, job: Job, now: float) -> Start:
        """Start the job in the slot that became idle last, because its caches are warm."""
        slot = self.slots.occupy_idle(job)
        self._running_limits.enter(job)
        self._expect(slot, job, now)
        self._begin(job, slot.id, now)
        return Start(slot.id, job)

    def _start_behind(self, job: Job, now: float) -> Start | None:
        """Give a new job to a slot where short ones run, None if it must be queued. The queue must be empty."""
        if not self._running_limits.may_run(job.limits, job.client) or not self._is_in_time(job, now):
            return None
        slot = self._prefetch.find_room(job, now)
        if slot is None:
            return None
        self._enqueue(job)
        return self._give_behind(job, slot)

    def _give_behind(self, job: Job, slot: Slot) -> Start:
        self.slots.add_waiting(slot, job)
        self._running_limits.enter(job)
        self._prefetch.watch(slot)
        return Start(slot.id, job)

    def _expect(self, slot: Slot, job: Job, now: float) -> None:
        """The slot's worker is at this job from now on."""
        slot.busy_until = now + self.run_times.expected_s(job.limits.index)
        self._prefetch.note_room(slot)

    def _begin(self, job: Job, slot_id: SlotId, now: float) -> None:
        job.start(slot_id, now)
        self.tally.running += 1
        limit = now + job.limits.timeout_s
        self._deadlines.set(job, limit if job.deadline is None else min(limit, job.deadline))

    # Transitions: from a slot to the outcome

    def _finish(self, job: Job, outcome: Outcome, slot_id: SlotId, now: float) -> Settled:
        """Settle a job with its worker's answer, even one that the service still counts as waiting in the slot."""
        if job.started_at is None:
            job.start(slot_id, now)
            job.settle(outcome, now)
            if job.deadline is not None:
                self._deadlines.discard(job)
            settled = self._close(job, outcome)
        else:
            settled = self._settle(job, outcome, now)
        if outcome.has_printed:
            self.run_times.note_printed(job.limits.index)
        if outcome.run_s is not None:
            self.run_times.record(job.limits.index, outcome.run_s)
        if job.fingerprint is not None:
            self.quarantine.record(job)
        return settled

    def _release(self, slot: Slot, job: Job, *, is_leaving: bool) -> Job | None:
        """The work of the slot's job has ended. Returns the next job that the worker holds; `_advance` is due for it
        unless its work has ended as well."""
        self._running_limits.leave(job)
        self.slots.changes += 1
        if is_leaving:
            slot.is_leaving = True
        if slot.waiting:
            following = slot.advance()
            if following.outcome is None:
                self.slots.waiting -= 1
            return following
        if slot.is_leaving:
            slot.vacate()
            self.slots.detach_worker(slot)
        else:
            self.slots.vacate(slot)
        return None

    def _advance(self, slot: Slot, job: Job, now: float) -> list[Command]:
        """The slot's worker has begun this job, which waited in it."""
        self._expect(slot, job, now)
        if job.outcome is not None:  # settled while it waited, too late to be withdrawn
            return self._stop(slot, job, job.outcome, now)
        self._begin(job, slot.id, now)
        return []

    def _retry_or_crash(self, job: Job, death: Death, *, begun: bool, now: float) -> list[Command]:
        """The worker of a running job is gone: the job waits for another, or has crashed."""
        if begun and not death.was_asked_for:
            job.record_crash(now)
            self.quarantine.note_crash(job, now)
        if begun:
            has_attempts = job.attempt <= job.limits.retries
        else:
            has_attempts = death.is_planned or job.unbegun_deaths < MAX_UNBEGUN_DEATHS
        drain_ends_at = self.load.drain_ends_at
        if not has_attempts or (drain_ends_at is not None and now >= drain_ends_at):
            return [self._settle(job, crashed(death), now)]
        job.requeue(begun=begun, is_charged=not death.is_planned)
        self.tally.running -= 1
        self._deadlines.discard(job)
        if job.deadline is not None:
            self._deadlines.set(job, job.deadline)
        self.queue.push_back(job)
        return []

    def _abandon(self, jobs: list[Job], why: Reason, now: float) -> list[Command]:
        return [command for job in jobs for command in self._end(job, abandoned(why), now)]

    def _end(self, job: Job, outcome: Outcome, now: float) -> list[Command]:
        """Settle a job wherever it is, and stop its work."""
        slot = self.slots.of(job)
        if job.is_running:
            assert slot is not None
            commands: list[Command] = [self._settle(job, outcome, now), *self._stop(slot, job, outcome, now)]
            if job.started_at is not None:
                self.run_times.record_at_least(job.limits.index, now - job.started_at)
            return commands
        if slot is None or self._take_back(slot, until=job):
            self.queue.remove(job)
        else:
            # It has begun, but the answer of the job before it is still on its way. It is stopped after that answer.
            self.slots.waiting -= 1
            slot.settled_waiting += 1
        return [self._settle(job, outcome, now)]

    def _stop(self, slot: Slot, job: Job, outcome: Outcome, now: float) -> list[Command]:
        """Stop the work of the slot's settled job, unless it has ended and the worker is at the next."""
        if not self._take_back(slot):
            return []
        slot.stop_work()
        slot.busy_until = now
        return [Stop(slot.id, job, outcome.reason)]

    def _take_back(self, slot: Slot, *, until: Job | None = None) -> bool:
        """Move jobs that wait in the slot back to the queue: all of them, or the newest down to `until`.

        False: one of them has begun, and so have all before it; the slot's first job has ended, its answer is on the
        way.
        """
        taken: list[Job] = []
        while slot.waiting and until not in taken:
            job = slot.waiting[-1]
            if self._withdraw is None or not self._withdraw(slot.id, job):
                break
            taken.append(job)
            self.slots.drop_waiting(slot, job)
            self._running_limits.leave(job)
        for job in reversed(taken):
            if not job.is_settled:
                self.queue.push_back(job)
        if taken:
            self._prefetch.note_room(slot)
        return not slot.waiting or until in taken

    def _settle_too_late(self, job: Job, now: float) -> Settled:
        """Settle a queued job that can no longer meet its deadline. Before the deadline another machine may."""
        if job.deadline is not None and job.deadline <= now:
            return self._settle(job, overdue(job), now)
        return self._settle_rejected(job, self._admission.missed_chance(job, now), now)

    def _settle_rejected(self, job: Job, rejection: Rejection, now: float) -> Settled:
        return self._settle(job, rejection.outcome(self._admission.retry_after_s(rejection, job, now)), now)

    def _settle(self, job: Job, outcome: Outcome, now: float) -> Settled:
        job.settle(outcome, now)
        if job.started_at is not None:
            self.tally.running -= 1
        self._deadlines.discard(job)
        return self._close(job, outcome)

    def _close(self, job: Job, outcome: Outcome) -> Settled:
        self._jobs.pop(job.id, None)
        self.tally.ended[END_STATE[outcome.reason]] += 1
        return Settled(job)

    # Self-checks

    def check_balance(self) -> None:
        """Raises AssertionError unless each submitted job has ended, waits or runs. Takes constant time."""
        self.tally.check_balance(queued=self.queued)

    def check_invariants(self) -> None:
        """Raises AssertionError if anything is wrong that must hold between two events."""
        self.check_balance()
        due_at = self.next_instant()
        assert due_at is None or self.alarm.at <= due_at, f"the alarm is set to {self.alarm.at}, not to {due_at}"
        check_slots(self.slots, self.load)
        check_deadlines(self._deadlines, self._jobs.values())
        check_jobs(self._jobs.values(), self.slots, self.queue, running=self.tally.running)
        self._running_limits.check_invariants([job for slot in self.slots.all.values() for job in slot.jobs()])
        self._prefetch.check_invariants(self.slots.all.values())
        self.queue.check_invariants()
        may_run = any(self._running_limits.may_run(job.limits, job.client) for job in self.queue)
        assert not (self.slots.idle and may_run), "a slot is idle while a job waits that may run"
