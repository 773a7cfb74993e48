"""The state changes that several events share: a job is started, ended, lost or sent away, and waiting ones move up.

Lives here: what belongs to one such step, whatever the event; each returns the commands that follow.  The scheduler has
a method for each event and is the only caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offload.core.admission.admission import Admission, Load, Rejection
from offload.core.admission.estimate import Candidate
from offload.core.books import Books
from offload.core.commands import Command, Settled, Start, Stop
from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome, crashed, overdue
from offload.core.queue.gates import Gates
from offload.core.queue.job_queue import JobQueue
from offload.core.run_times import RunTimes
from offload.core.slot import Slot
from offload.core.slots import Slots

# A job whose worker died before beginning it is started elsewhere at no charge; but if that happens again and again,
# the job itself is the likeliest cause.  Three: two coincidences in a row are plausible while somebody kills workers.
MAX_UNBEGUN_DEATHS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the steps change."""

    queue: JobQueue
    slots: Slots
    books: Books
    load: Load
    gates: Gates
    run_times: RunTimes
    admission: Admission

    def fill(self, now: float) -> list[Command]:
        """Gives waiting jobs to idle slots, then short ones to slots where short ones run.

        The last step of an event: whatever takes jobs back must come before it, because a worker has none of those that
        are given here until the commands are carried out.
        """
        commands: list[Command] = []
        while self.slots.idle:
            job = self.queue.first(now)
            if job is None:
                return commands
            self.queue.take(job)
            commands.append(self.start(job, now) if self._is_in_time(job, now) else self._too_late(job, now))
        if self.slots.holds_several and self.queue.length:
            self._fill_behind(commands, now)
        return commands

    def _fill_behind(self, commands: list[Command], now: float) -> None:
        while self.slots.may_have_room and (job := self.queue.first(now)) is not None:
            if not self._is_in_time(job, now):
                self.queue.take(job)
                commands.append(self._too_late(job, now))
                continue
            slot = self.slots.find_room(job, now)
            if slot is None:
                return
            self.queue.take(job)
            self.slots.give_behind(job, slot)
            commands.append(Start(slot.id, job))

    def _is_in_time(self, job: Job, now: float) -> bool:
        """Whether a job that has waited can still be done in its caller's time."""
        return job.deadline is None or now + self.run_times.typical_s(job.limits.index) < job.deadline

    def _too_late(self, job: Job, now: float) -> Settled:
        """Its caller's time is over, or will be before it could be done; then another machine may do it."""
        if job.deadline is not None and job.deadline <= now:
            return self.books.settle(job, overdue(job), now)
        return self.send_away(job, self.admission.missed_chance(job, now), now)

    def would_start(self, candidate: Candidate, now: float) -> bool:
        """Whether there is a slot that would take such a job at once.

        Also one that is expected to take longer than its caller's time: nobody else is held up, and it is how we hear
        that the task has become faster.
        """
        if not self.slots.idle or self.load.drain_ends_at is not None:
            return False
        if candidate.deadline is not None and candidate.deadline <= now:
            return False
        return candidate.limits is None or self.gates.lets_pass(candidate.limits, candidate.client)

    def make_room(self, candidate: Candidate, now: float) -> list[Command]:
        """In a full queue another job goes for one that was taken."""
        victim = self.admission.job_to_displace(candidate)
        if victim is None:
            return []
        self.queue.remove(victim)
        return [self.send_away(victim, self.admission.displaced(victim, now), now)]

    def send_away(self, job: Job, rejection: Rejection, now: float) -> Settled:
        return self.books.settle(job, rejection.outcome(self.admission.retry_after_s(rejection, job, now)), now)

    def start(self, job: Job, now: float) -> Start:
        slot_id = self.slots.occupy_idle(job, now)
        self.books.begin(job, slot_id, now)
        return Start(slot_id, job)

    def start_behind(self, job: Job, now: float) -> Start | None:
        """A new job goes straight to a slot where short ones run; None if it has to wait its turn.  For an empty queue:
        nobody is overtaken."""
        if not self.gates.lets_pass(job.limits, job.client):
            return None
        if job.deadline is not None and not self._is_in_time(job, now):
            return None
        slot = self.slots.find_room(job, now)
        if slot is None:
            return None
        self.books.wait(job)
        self.slots.give_behind(job, slot)
        return Start(slot.id, job)

    def go_on(self, slot: Slot, job: Job, now: float) -> list[Command]:
        """The slot's worker has begun this job, which it had behind others."""
        self.slots.go_on(slot, job, now)
        if job.outcome is not None:  # ended while it waited, too late to be taken back
            return self._stop(slot, job, now)
        self.books.begin(job, slot.id, now)
        return []

    def finish(self, job: Job, outcome: Outcome, slot_id: SlotId, now: float) -> Settled:
        """The job has its worker's answer.  One that waited in the slot until now has begun and ended unseen."""
        if job.started_at is None:
            settled = self.books.pass_by(job, slot_id, outcome, now)
        else:
            settled = self.books.settle(job, outcome, now)
        if outcome.has_printed:
            self.run_times.has_printed(job.limits.index)
        if outcome.run_s is not None:
            self.run_times.record(job.limits.index, outcome.run_s)
        if job.fingerprint is not None:
            self.admission.quarantine.record(job)
        return settled

    def lose(self, job: Job, death: Death, *, begun: bool, now: float) -> list[Command]:
        """The worker of a running job is gone: tried again, or over."""
        if begun and not death.was_asked_for:
            job.crash(now)
            self.admission.quarantine.crashed(job, now)
        attempts_left = job.attempt <= job.limits.retries if begun else job.unbegun_deaths < MAX_UNBEGUN_DEATHS
        drain_ends_at = self.load.drain_ends_at
        if attempts_left and (drain_ends_at is None or now < drain_ends_at):
            self.books.requeue(job, begun=begun)
            self.queue.push_back(job)
            return []
        return [self.books.settle(job, crashed(death), now)]

    def end(self, job: Job, outcome: Outcome, now: float) -> list[Command]:
        """Settles a job wherever it is; work that still goes on is stopped.  The event that it is part of fills up."""
        slot = self.slots.of(job)
        if job.is_running:
            assert slot is not None
            commands: list[Command] = [self.books.settle(job, outcome, now), *self._stop(slot, job, now)]
            if job.started_at is not None:
                self.run_times.record_at_least(job.limits.index, now - job.started_at)
            return commands
        if slot is None or self.slots.call_back(job, slot):
            self.queue.remove(job)
        return [self.books.settle(job, outcome, now)]

    def _stop(self, slot: Slot, job: Job, now: float) -> list[Command]:
        """The slot's job is settled and its work is to end, unless it has ended: then the worker is at the next."""
        if job.outcome is None or not self.slots.take_back(slot):
            return []
        slot.stop()
        slot.busy_until = now
        return [Stop(slot.id, job, job.outcome.reason)]
