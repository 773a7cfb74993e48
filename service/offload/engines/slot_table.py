"""The slots of an engine whose workers belong to a library or a cluster, and the job in each.

Every change is reported as an event of `engines.base`. A slot holds one job and is not bound to one worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome
from offload.engines.base import EngineEvents


class _Slot:
    __slots__ = ("generation", "has_worker", "job", "slot")

    def __init__(self, slot: SlotId) -> None:
        self.slot = slot
        self.generation = 0
        self.has_worker = False
        self.job: Job | None = None


class SlotTable:
    """The slots 0 to `count` - 1, without workers at first. One job at a time in each."""

    def __init__(self, count: int, events: EngineEvents) -> None:
        self._events = events
        self._slots = {SlotId(number): _Slot(SlotId(number)) for number in range(count)}
        self._by_number: dict[int, _Slot] = {}
        for slot in self._slots:
            events.slot_added(slot)

    def slots(self) -> list[SlotId]:
        return sorted(self._slots)

    def add(self, slot: SlotId) -> None:
        """Add a slot without a worker; do nothing if it exists."""
        if slot not in self._slots:
            self._slots[slot] = _Slot(slot)
            self._events.slot_added(slot)

    def remove(self, slot: SlotId) -> None:
        """Remove a slot that has no worker; do nothing if it does not exist."""
        if self._slots.pop(slot, None) is not None:
            self._events.slot_removed(slot)

    def assign(self, slot: SlotId, job: Job) -> None:
        entry = self._slots[slot]
        entry.job = job
        self._by_number[job.number] = entry

    def job(self, number: int) -> Job | None:
        """Returns an assigned job that has not ended."""
        entry = self._by_number.get(number)
        return None if entry is None else entry.job

    def job_in(self, slot: SlotId) -> Job | None:
        return self._slots[slot].job

    def has_worker(self, slot: SlotId) -> bool:
        return self._slots[slot].has_worker

    def jobs_in(self, slots: Iterable[SlotId]) -> Iterator[Job]:
        """Returns the jobs in these slots."""
        return iter([job for slot in slots if (job := self._slots[slot].job) is not None])

    def add_worker(self, slots: Iterable[SlotId]) -> None:
        """One more worker is ready, for the first of these slots that has none."""
        entry = next((self._slots[slot] for slot in slots if not self._slots[slot].has_worker), None)
        if entry is not None:
            entry.has_worker = True
            entry.generation += 1
            self._events.ready(entry.slot, entry.generation)

    def finish(self, number: int, outcome: Outcome, *, is_leaving: bool = False) -> None:
        """The job has ended; its worker is ready for the next unless `is_leaving`. Ignored if it had ended before."""
        entry = self._by_number.pop(number, None)
        if entry is not None:
            entry.job = None
            entry.has_worker = entry.has_worker and not is_leaving
            self._events.finished(entry.slot, entry.generation, [(number, outcome)], is_leaving=is_leaving)

    def drop_worker_of(self, number: int, death: Death, *, begun: bool) -> None:
        """The job's worker is gone, and its slot has none; ignored if the job had ended before."""
        entry = self._by_number.get(number)
        if entry is not None:
            self.drop_worker(entry.slot, death, begun=begun)

    def drop_worker(self, slot: SlotId, death: Death, *, begun: bool = False) -> None:
        """The slot has no worker any more; `begun`: whether its job, if it has one, may have begun."""
        entry = self._slots[slot]
        if entry.job is not None:
            del self._by_number[entry.job.number]
            entry.job = None
        if entry.has_worker:
            entry.has_worker = False
            self._events.died(slot, entry.generation, death, begun=int(begun))
