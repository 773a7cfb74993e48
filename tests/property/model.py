"""A model of the core in its simplest form: lists, without timers and without constant time.

It knows where each job is, how far each worker is with its jobs, and which commands an event must lead to. The state
machine plays events against the core and the model.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from offload.core.commands import Command, Settled, Start, Stop
from offload.core.deadlines import TICK_S
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome, OverloadCause, Reason
from offload.core.prefetch import MAX_AHEAD_S, MAX_IN_SLOT, PATIENCE_S
from offload.core.queue.job_queue import AGED_S
from offload.core.run_times import RunTimes
from offload.core.scheduler import MAX_UNBEGUN_DEATHS
from offload.core.slot import SlotState

QUEUE_LIMIT = 4
QUEUE_LIMIT_BYTES = 10


@dataclass(slots=True)
class ModelSlot:
    """`jobs` are those that the worker holds and has not answered; it has finished the first `done` of them."""

    id: SlotId
    generation: int = 0
    has_worker: bool = False
    jobs: list[Job] = field(default_factory=list)
    done: int = 0
    is_stopping: bool = False
    is_leaving: bool = False

    @property
    def is_idle(self) -> bool:
        return self.has_worker and not self.jobs

    @property
    def begun(self) -> int:
        """Returns how many have begun: a worker begins the next job before the end of the last one is reported."""
        return min(self.done + 1, len(self.jobs))

    @property
    def state(self) -> SlotState:
        if not self.has_worker:
            return SlotState.ABSENT
        if self.is_stopping:
            return SlotState.STOPPING
        return SlotState.BUSY if self.jobs else SlotState.IDLE

    def empty(self) -> list[Job]:
        jobs, self.jobs = self.jobs, []
        self.has_worker = self.is_stopping = self.is_leaving = False
        self.done = 0
        return jobs


@dataclass(slots=True, order=True)
class Waiting:
    """Sorts as jobs are served: returned jobs first, then by urgency, then by arrival."""

    is_later: bool
    urgency: int
    number: int
    job: Job = field(compare=False)


class Model:
    """`held` are the jobs that each worker holds after the core's commands; `slots` has those that it should hold."""

    def __init__(self, *, prefetch: bool, run_times: RunTimes) -> None:
        self.now = 100.0
        self.slots: dict[SlotId, ModelSlot] = {}
        self.held: dict[SlotId, list[Job]] = {}
        self.asked: list[SlotId] = []
        self.waiting: list[Waiting] = []
        self.settled: dict[Job, Reason] = {}
        self.causes: dict[Job, OverloadCause] = {}
        self.printing: set[int] = set()
        self.was_ready = False
        self.is_failing = False
        self.drain_ends_at: float | None = None
        self._prefetch = prefetch
        self._run_times = run_times
        self._begun_deaths: Counter[Job] = Counter()
        self._unbegun_deaths: Counter[Job] = Counter()
        self._pushes = 0

    # Where jobs are

    def running(self) -> dict[Job, ModelSlot]:
        return {slot.jobs[0]: slot for slot in self.slots.values() if slot.jobs and slot.jobs[0] not in self.settled}

    def behind(self) -> dict[Job, ModelSlot]:
        """Returns the open jobs that wait in a slot."""
        return {job: slot for slot in self.slots.values() for job in slot.jobs[1:] if job not in self.settled}

    def open_jobs(self) -> set[Job]:
        return {entry.job for entry in self.waiting} | self.running().keys() | self.behind().keys()

    def idle(self) -> list[ModelSlot]:
        return [slot for slot in self.slots.values() if slot.is_idle]

    def wait_for_slot(self, job: Job, *, is_first: bool = False) -> None:
        self._pushes += 1
        insort(self.waiting, Waiting(not is_first, 0 if is_first else job.urgency, self._pushes, job))

    def due(self, job: Job) -> tuple[float, Reason] | None:
        """Returns when the job's time is up, and with which reason."""
        budget = None if job.deadline is None else (job.deadline, Reason.DEADLINE_EXCEEDED)
        if job not in self.running():
            return budget
        assert job.started_at is not None
        limit = (job.started_at + job.limits.timeout_s, Reason.JOB_TIMEOUT)
        return limit if budget is None or limit[0] <= budget[0] else budget

    def rejection(self, job: Job, *, is_late: bool) -> Reason | None:
        """Returns why a job submitted now is rejected; the caller says whether its deadline is unreachable."""
        if self.drain_ends_at is not None:
            return Reason.DRAINING
        if self.would_start(job):
            return None
        if not any(slot.has_worker for slot in self.slots.values()) and (self.is_failing or not self.was_ready):
            return Reason.STARTING
        if not self._has_room(job) and self.displaceable(job) is None:
            is_full = len(self.waiting) >= QUEUE_LIMIT
            return self._overloaded(job, OverloadCause.QUEUE_FULL if is_full else OverloadCause.QUEUE_BYTES_FULL)
        return self._overloaded(job, OverloadCause.DEADLINE_UNREACHABLE) if is_late else None

    def _overloaded(self, job: Job, cause: OverloadCause) -> Reason:
        self.causes[job] = cause
        return Reason.OVERLOADED

    def would_start(self, job: Job) -> bool:
        is_in_time = job.deadline is None or job.deadline > self.now
        return bool(self.idle()) and is_in_time and self.passes(job)

    def passes(self, job: Job) -> bool:
        """Whether one more job of its task may be in a slot."""
        held = sum(one.limits is job.limits for slot in self.slots.values() for one in slot.jobs)
        return not job.limits.max_running or held < job.limits.max_running

    def make_room(self, job: Job) -> list[Command]:
        """Returns the commands that make room for an accepted job."""
        victim = None if self.would_start(job) or self._has_room(job) else self.displaceable(job)
        return [] if victim is None else self.end(victim, self._overloaded(victim, OverloadCause.DISPLACED))

    def displaceable(self, job: Job) -> Job | None:
        """Returns the newest of the least urgent, or of the client with two jobs more than this one's."""
        later = [entry for entry in self.waiting if entry.is_later]
        lesser = [entry for entry in later if entry.urgency > job.urgency]
        lengths = Counter(entry.job.client for entry in later if entry.urgency == job.urgency)
        most = max(lengths.values(), default=0)
        if lesser:
            victim = max(lesser, key=lambda entry: (entry.urgency, entry.number)).job
        elif most > lengths[job.client] + 1:
            alike = [entry for entry in later if entry.urgency == job.urgency and lengths[entry.job.client] == most]
            victim = max(alike, key=lambda entry: entry.number).job
        else:
            return None
        left = [entry.job.size_bytes for entry in self.waiting if entry.job is not victim]
        return victim if len(left) < QUEUE_LIMIT and _fit(left, job) else None

    def _has_room(self, job: Job) -> bool:
        return len(self.waiting) < QUEUE_LIMIT and _fit([entry.job.size_bytes for entry in self.waiting], job)

    def next_ones(self) -> list[Job]:
        """Returns the jobs that may be served next, without fairness between clients and tasks of one urgency."""
        passing = [entry for entry in self.waiting if self.passes(entry.job)]
        returned = [entry.job for entry in passing if not entry.is_later]
        if returned:
            return returned[:1]
        most = min((entry.urgency for entry in passing), default=None)
        oldest: dict[int, float] = {}
        for entry in self.waiting:
            if entry.is_later:
                oldest.setdefault(entry.urgency, entry.job.submitted_at)
        firsts: dict[tuple[int, str, int], Job] = {}
        for entry in passing:
            if entry.urgency == most or self.now - oldest[entry.urgency] > AGED_S:
                firsts.setdefault((entry.urgency, entry.job.client, entry.job.limits.index), entry.job)
        return list(firsts.values())

    # The engine's side

    def withdraw(self, slot_id: SlotId, job: Job) -> bool:
        held = self.held[slot_id]
        assert len(held) > 1, "the first job of a slot cannot be withdrawn"
        assert held[-1] is job, "only the newest can be withdrawn"
        self.asked.append(slot_id)
        if len(held) <= self.slots[slot_id].done + 1:
            return False
        held.pop()
        return True

    # Expected commands

    def is_short(self, job: Job) -> bool:
        index = job.limits.index
        is_short = self._run_times.is_quiet_and_below(index, MAX_AHEAD_S)
        return is_short and job.limits.memory_bytes is None and index not in self.printing

    def has_room(self, slot: ModelSlot) -> bool:
        """Whether a short job may wait in the slot."""
        if not self._prefetch or slot.state is not SlotState.BUSY or slot.is_leaving:
            return False
        head = slot.jobs[0]
        if any(job in self.settled for job in slot.jobs) or len(slot.jobs) >= MAX_IN_SLOT or not self.is_short(head):
            return False
        assert head.started_at is not None
        ahead_s = sum(self._run_times.expected_s(job.limits.index) for job in slot.jobs)
        return head.started_at + PATIENCE_S > self.now and ahead_s <= MAX_AHEAD_S

    def end(self, job: Job, reason: Reason) -> list[Command]:
        """Returns the commands that end this job, wherever it is."""
        slot = self.running().get(job) or self.behind().get(job)
        self.settled[job] = reason
        self.waiting = [entry for entry in self.waiting if entry.job is not job]
        if slot is None:
            return [Settled(job)]
        if job is slot.jobs[0]:
            return [Settled(job), *self.stop(slot)]
        self.take_back(slot, slot.jobs.index(job))
        return [Settled(job)]

    def stop(self, slot: ModelSlot) -> list[Command]:
        """Stops the settled first job, unless its worker has begun the next."""
        self.take_back(slot)
        if len(slot.jobs) > 1:
            return []
        slot.is_stopping = True
        job = slot.jobs[0]
        return [Stop(slot.id, job, self.settled[job])]

    def take_back(self, slot: ModelSlot, index: int = 1) -> None:
        """Returns the unbegun jobs from this index on to the queue, in order."""
        first = max(index, slot.begun)
        taken, slot.jobs = slot.jobs[first:], slot.jobs[:first]
        for job in taken:
            if job not in self.settled:
                self.wait_for_slot(job, is_first=True)

    def take_back_held_up(self) -> None:
        """Checks that jobs behind a long one are withdrawn when patience has run out, and at most a tick later."""
        for slot in sorted(self.slots.values(), key=self._last_asked):
            head = next(iter(slot.jobs), None)
            if head is None or head in self.settled or len(slot.jobs) <= slot.begun:
                continue
            assert head.started_at is not None
            long_since = head.started_at + PATIENCE_S
            is_taken_back = len(self.held[slot.id]) < len(slot.jobs)
            assert not is_taken_back or long_since <= self.now, "a job was withdrawn early"
            assert is_taken_back or long_since + 1.01 * TICK_S > self.now, "a job waits behind one that takes long"
            if is_taken_back:
                self.take_back(slot)

    def _last_asked(self, slot: ModelSlot) -> int:
        return max((index for index, asked in enumerate(self.asked) if asked == slot.id), default=-1)

    def patience_instants(self) -> list[float]:
        """Returns when jobs that wait behind others are due to be withdrawn."""
        return [
            head.started_at + PATIENCE_S
            for head, slot in self.running().items()
            if head.started_at is not None and len(slot.jobs) > slot.begun
        ]

    def answer(self, slot: ModelSlot, outcome: Outcome, *, is_leaving: bool, is_last: bool = True) -> list[Command]:
        """Ends the first job. The next one runs, or is stopped if it is settled, unless it has ended as well."""
        commands: list[Command] = []
        job = slot.jobs.pop(0)
        self.held[slot.id].remove(job)
        slot.done = max(slot.done - 1, 0)
        slot.is_stopping = False
        slot.is_leaving = slot.is_leaving or is_leaving
        if job not in self.settled:
            self.settled[job] = outcome.reason
            commands.append(Settled(job))
            if outcome.has_printed:
                self.printing.add(job.limits.index)
        if slot.jobs and slot.jobs[0] in self.settled:
            commands += self.stop(slot) if is_last else []
        elif slot.is_leaving and not slot.jobs:
            slot.empty()
        return commands

    def lose(self, slot: ModelSlot, begun: int) -> list[Command]:
        """Ends the worker, which may have begun the first `begun` of its jobs."""
        commands: list[Command] = []
        for index, job in enumerate(slot.empty()):
            if job in self.settled:
                continue
            if (index and index >= begun) or self._may_try_again(job, begun=index < begun):
                self.wait_for_slot(job, is_first=True)
            else:
                commands += self.end(job, Reason.WORKER_CRASHED)
        self.held[slot.id] = []
        return commands

    def _may_try_again(self, job: Job, *, begun: bool) -> bool:
        deaths = self._begun_deaths if begun else self._unbegun_deaths
        deaths[job] += 1
        is_too_late = self.drain_ends_at is not None and self.now >= self.drain_ends_at
        return not is_too_late and deaths[job] <= (job.limits.retries if begun else MAX_UNBEGUN_DEATHS)

    def expect(self, commands: list[Command], expected: Iterable[Command], *, at_once: Job | None = None) -> None:
        """Checks that the event led to `expected`, and then to starts while there are idle slots and waiting jobs.

        Without idle slots, short jobs may be given to slots with room, and jobs past their time may be settled.
        `at_once`: a job that an idle slot accepts, however long it is expected to take.
        """
        for command in expected:
            assert commands, f"expected {command}"
            assert commands.pop(0) == command
        while self.waiting and (commands or (self.idle() and self.next_ones())):
            assert commands, f"expected one of {self.next_ones()!r} to be served"
            command = commands.pop(0)
            job = command.job
            assert job in self.next_ones(), f"{job!r} was served before {self.next_ones()!r}"
            self.waiting = [entry for entry in self.waiting if entry.job is not job]
            if job is not at_once and not self._is_in_time(job):
                has_passed = job.deadline is not None and job.deadline <= self.now
                unreachable = OverloadCause.DEADLINE_UNREACHABLE
                self.settled[job] = Reason.DEADLINE_EXCEEDED if has_passed else self._overloaded(job, unreachable)
                assert command == Settled(job)
                continue
            assert isinstance(command, Start)
            slot = self.slots[command.slot]
            if self.idle():
                assert slot.is_idle, f"{slot} was used twice"
            else:
                assert self.is_short(job), f"{job!r} is not short"
                assert self.has_room(slot), f"{job!r} is given to {slot}"
            slot.jobs.append(job)
            self.held[slot.id].append(job)
        assert commands == []
        assert self.held == {slot.id: slot.jobs for slot in self.slots.values()}
        self.asked.clear()

    def _is_in_time(self, job: Job) -> bool:
        """Whether the job can meet its deadline, by the typical run time of its task."""
        return job.deadline is None or self.now + self._run_times.typical_s(job.limits.index) < job.deadline


def _fit(waiting_bytes: list[int], job: Job) -> bool:
    return not sum(waiting_bytes) or sum(waiting_bytes) + job.size_bytes <= QUEUE_LIMIT_BYTES
