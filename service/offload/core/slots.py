"""All places to run jobs, and what each of them holds.

Lives here: which slots there are, which are idle, giving a job to one and taking jobs back from one.  What becomes of a
job, and which job comes next, is not decided here.  The scheduler is its only caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final

from offload.core.admission.admission import Load
from offload.core.deadlines import Alarm
from offload.core.invariants import check_slots
from offload.core.job import Job, SlotId
from offload.core.prefetch import BusySince, Prefetch
from offload.core.queue.gates import Gates
from offload.core.queue.job_queue import JobQueue
from offload.core.run_times import RunTimes
from offload.core.slot import Slot, SlotState
from offload.errors import IllegalStep

# Takes a job back from a slot that was given it behind others.  True: it had not begun, and never will there.
Withdraw = Callable[[SlotId, Job], bool]

# Of more slots than this the first stand for all: an estimate needs no more, and must cost the same on any machine.
_LOOKED_AT: Final = 32
_NO_TASK: Final = -1


class Slots:
    """`queue` is where jobs go that are taken back.  Without `withdraw` no slot is given more than one job.

    For the scheduler to read: `all` of them; `idle`, those with nothing to do; `behind`, how many open jobs wait in
    slots behind others; `holds_several`, whether that can happen at all; `changes`, how many jobs and workers came and
    went.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        load: Load,
        gates: Gates,
        run_times: RunTimes,
        withdraw: Withdraw | None,
        busy_since: BusySince | None,
        alarm: Alarm,
    ) -> None:
        self.all: dict[SlotId, Slot] = {}
        self.idle: dict[SlotId, None] = {}
        self.behind = 0
        self.changes = 0
        self.holds_several = withdraw is not None
        self._queue = queue
        self._load = load
        self._gates = gates
        self._run_times = run_times
        self._withdraw = withdraw
        self._prefetch = Prefetch(run_times, busy_since, alarm)

    def of(self, job: Job) -> Slot | None:
        """The slot that holds the job, None while it is in the queue."""
        return None if job.slot is None else self.all[job.slot]

    # Workers come and go

    def add(self, slot_id: SlotId) -> None:
        """One slot more, without a worker.  Raises IllegalStep if it is known already."""
        if slot_id in self.all:
            raise IllegalStep(thing=f"slot {slot_id}", state=self.all[slot_id].state, event="add")
        self.all[slot_id] = Slot(slot_id)

    def remove(self, slot_id: SlotId) -> None:
        """One slot less.  Raises IllegalStep if it has a worker."""
        slot = self.all[slot_id]
        if slot.state is not SlotState.ABSENT:
            raise IllegalStep(thing=f"slot {slot_id}", state=slot.state, event="remove")
        del self.all[slot_id]
        self._prefetch.forget(slot)

    def take_worker(self, slot_id: SlotId, generation: int) -> None:
        self.all[slot_id].take_worker(generation)
        self._load.present_slots += 1
        self.changes += 1
        self.idle[slot_id] = None

    def lose_worker(self, slot: Slot) -> list[Job]:
        """Empties the slot, which has no worker any more; returns what it held, in the order of the slot."""
        jobs = slot.jobs()
        slot.die()
        self._load.present_slots -= 1
        self.changes += 1
        self.idle.pop(slot.id, None)
        for job in jobs:
            self._gates.leave(job)
        for job in jobs[1:]:
            self._leave(slot, job)
        return jobs

    # Giving

    def occupy_idle(self, job: Job, now: float) -> SlotId:
        """Gives the job to the slot that was idle last: its caches are warm."""
        slot_id, _ = self.idle.popitem()
        slot = self.all[slot_id]
        self._gates.enter(job)
        slot.start(job)
        self.changes += 1
        self.go_on(slot, job, now)
        return slot_id

    @property
    def may_have_room(self) -> bool:
        """Whether there is any point in asking for room; quickly answered."""
        return self._prefetch.may_have_room

    def find_room(self, job: Job, now: float) -> Slot | None:
        """A slot that `job` may be given to although another runs there, None if there is none."""
        return self._prefetch.find_room(job, now)

    def give_behind(self, job: Job, slot: Slot) -> None:
        """The job waits in the slot from now on; its worker begins it without being told."""
        job.slot = slot.id
        slot.put_behind(job)
        self.behind += 1
        self._gates.enter(job)
        self._prefetch.gave(slot)

    def finish(self, slot: Slot, *, is_leaving: bool) -> Job | None:
        """The work of the slot's first job is over; returns the job that comes first now, if there is one: `go_on`
        follows, unless that is over as well."""
        if slot.job is not None:
            self._gates.leave(slot.job)
        self.changes += 1
        if is_leaving:
            slot.is_leaving = True
        if slot.behind:
            job = slot.go_on()
            if job.outcome is None:
                self.behind -= 1
            return job
        slot.finish()
        if slot.is_leaving:
            self.lose_worker(slot)
        else:
            self.idle[slot.id] = None
        return None

    def go_on(self, slot: Slot, job: Job, now: float) -> None:
        """It is this job from now on that the slot's worker is at."""
        slot.busy_until = now + self._run_times.expected_s(job.limits.index)
        self._prefetch.look_at(slot)

    # Taking back

    def take_back(self, slot: Slot, *, until: Job | None = None) -> bool:
        """Takes back what waits in the slot, newest first, all of it or `until` that job; it goes to the queue.

        False: one of them has begun, and so have all before it; the slot's first job is over, its answer on its way.
        """
        taken: list[Job] = []
        while slot.behind and until not in taken and self._withdraws(slot.id, slot.behind[-1]):
            taken.append(slot.behind[-1])
            self._leave(slot, taken[-1])
            self._gates.leave(taken[-1])
        for job in reversed(taken):
            if not job.is_settled:
                self._queue.push_back(job)
        if taken:
            self._prefetch.look_at(slot)
        return not slot.behind or until in taken

    def call_back(self, job: Job, slot: Slot) -> bool:
        """Takes back a job that is to end; True: it is in the queue now.

        False: it has begun, though the slot's first job has not answered yet.  It stays, counted no more, and is to be
        stopped when it comes first.
        """
        if self.take_back(slot, until=job):
            return True
        self.behind -= 1
        slot.settled_behind += 1
        return False

    def take_back_held_up(self, now: float) -> None:
        """Takes back what waits behind jobs that take long."""
        for slot in self._prefetch.held_up(now):
            self.take_back(slot)

    def next_instant(self) -> float | None:
        """When `take_back_held_up` is wanted next, monotonic seconds; None for never."""
        return self._prefetch.next_instant()

    def busy(self, now: float) -> tuple[int, list[tuple[float, int]]]:
        """How many slots have a worker; and of each of them, or of many some, for how long it goes on with a job of
        which task.

        One that takes longer than expected is expected to take as long again: the longer, the more likely it hangs.
        """
        slots = islice(self.all.values(), _LOOKED_AT)
        return self._load.present_slots, [
            (0.0, _NO_TASK) if slot.job is None else (abs(slot.busy_until - now), slot.job.limits.index)
            for slot in slots
            if slot.job is not None or slot.is_idle
        ]

    def behind_by_task(self) -> Counter[int]:
        """How many open jobs wait behind others, by their task's index."""
        if not self.behind:
            return Counter()
        waiting = (job for slot in self.all.values() for job in slot.behind)
        return Counter(job.limits.index for job in waiting if not job.is_settled)

    def _withdraws(self, slot_id: SlotId, job: Job) -> bool:
        return self._withdraw is not None and self._withdraw(slot_id, job)

    def _leave(self, slot: Slot, job: Job) -> None:
        """The job waits behind no other in this slot any more."""
        slot.leave_behind(job)
        if not job.is_settled:
            self.behind -= 1
            job.take_back()

    def check_invariants(self) -> None:
        self._gates.check_invariants([job for slot in self.all.values() for job in slot.jobs()])
        check_slots(self.all, self.idle, self._load)
        for slot in self.all.values():
            slot.work_behind.check_is_of(slot.behind)
            settled = sum(job.is_settled for job in slot.behind)
            assert settled == slot.settled_behind, f"{slot!r}: {settled} behind have ended, not {slot.settled_behind}"
        waiting = sum(not job.is_settled for slot in self.all.values() for job in slot.behind)
        assert waiting == self.behind, f"{waiting} jobs wait behind others, {self.behind} were counted"
        self._prefetch.check_invariants(self.all.values())
