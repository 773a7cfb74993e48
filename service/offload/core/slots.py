"""All slots of the engine: plain data that the scheduler changes."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Final

from offload.core.job import Job, SlotId
from offload.core.slot import Slot, SlotState
from offload.core.state import Load
from offload.errors import IllegalStep

# An estimate samples this many slots, so that it costs the same on any machine.
_SAMPLED: Final = 32
_NO_TASK: Final = -1


class Slots:
    """`all` slots, and the `idle` ones, in the order in which they became idle.

    `waiting` counts the open jobs that wait in slots behind others. `changes` counts everything that changes how busy
    the slots are, except time.
    """

    def __init__(self, load: Load) -> None:
        self.all: dict[SlotId, Slot] = {}
        self.idle: dict[SlotId, None] = {}
        self.waiting = 0
        self.changes = 0
        self._load = load

    def add(self, slot_id: SlotId) -> None:
        """Add a slot without a worker. Raises IllegalStep if it exists."""
        if slot_id in self.all:
            raise IllegalStep(thing=f"slot {slot_id}", state=self.all[slot_id].state, event="add")
        self.all[slot_id] = Slot(slot_id)

    def remove(self, slot_id: SlotId) -> Slot:
        """Remove a slot. Raises IllegalStep if it has a worker."""
        slot = self.all[slot_id]
        if slot.state is not SlotState.ABSENT:
            raise IllegalStep(thing=f"slot {slot_id}", state=slot.state, event="remove")
        del self.all[slot_id]
        return slot

    def attach_worker(self, slot_id: SlotId, generation: int) -> None:
        self.all[slot_id].attach_worker(generation)
        self.idle[slot_id] = None
        self.changes += 1
        self._load.present_slots += 1

    def detach_worker(self, slot: Slot) -> list[Job]:
        """Empty a slot whose worker is gone. Returns the jobs that it held, in order."""
        jobs = slot.jobs()
        slot.detach_worker()
        self._load.present_slots -= 1
        self.changes += 1
        self.idle.pop(slot.id, None)
        for job in jobs[1:]:
            self.drop_waiting(slot, job)
        return jobs

    def occupy_idle(self, job: Job) -> Slot:
        """Put the job into the slot that became idle last."""
        slot_id, _ = self.idle.popitem()
        slot = self.all[slot_id]
        slot.occupy(job)
        self.changes += 1
        return slot

    def vacate(self, slot: Slot) -> None:
        slot.vacate()
        self.idle[slot.id] = None

    def add_waiting(self, slot: Slot, job: Job) -> None:
        job.slot = slot.id
        slot.add_waiting(job)
        self.waiting += 1

    def drop_waiting(self, slot: Slot, job: Job) -> None:
        """Remove the first or the last job that waits in the slot."""
        slot.drop_waiting(job)
        if not job.is_settled:
            self.waiting -= 1
            job.slot = None

    def of(self, job: Job) -> Slot | None:
        """Returns the slot that holds the job, None if none does."""
        return None if job.slot is None else self.all[job.slot]

    def busy(self, now: float) -> tuple[int, list[tuple[float, int]]]:
        """Returns (slots with a worker, [(remaining seconds, task index), …]); samples at most 32 slots.

        A job that takes longer than expected is expected to take as long again: the longer it takes, the more likely
        it hangs.
        """
        slots = islice(self.all.values(), _SAMPLED)
        return self._load.present_slots, [
            (0.0, _NO_TASK) if slot.job is None else (abs(slot.busy_until - now), slot.job.limits.index)
            for slot in slots
            if slot.job is not None or slot.is_idle
        ]

    def waiting_by_task(self) -> Counter[int]:
        """Returns how many open jobs wait behind others, by task index."""
        if not self.waiting:
            return Counter()
        waiting = (job for slot in self.all.values() for job in slot.waiting)
        return Counter(job.limits.index for job in waiting if not job.is_settled)

    def running_by_task(self) -> Counter[int]:
        """Returns how many jobs run, by task index."""
        heads = (slot.job for slot in self.all.values())
        return Counter(job.limits.index for job in heads if job is not None and job.is_running)
