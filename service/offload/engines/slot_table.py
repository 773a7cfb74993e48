"""Slots as an engine keeps them whose workers are somebody else's.

Lives here: which slots there are, whether each has a worker, in which generation, and what it was given; every change
is told to the scheduler by the events of `engines.base`.  A slot is an entry for one job, not a certain worker.
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
    """The slots 0 to `count` - 1, without workers at first.  One job at a time in each."""

    def __init__(self, count: int, events: EngineEvents) -> None:
        self._events = events
        self._slots = {SlotId(number): _Slot(SlotId(number)) for number in range(count)}
        self._by_number: dict[int, _Slot] = {}
        for slot in self._slots:
            events.slot_added(slot)

    def slots(self) -> list[SlotId]:
        return sorted(self._slots)

    def add(self, slot: SlotId) -> None:
        """One slot more, without a worker; nothing happens if it is known."""
        if slot not in self._slots:
            self._slots[slot] = _Slot(slot)
            self._events.slot_added(slot)

    def remove(self, slot: SlotId) -> None:
        """One slot less, which has no worker; nothing happens if it is not known."""
        if self._slots.pop(slot, None) is not None:
            self._events.slot_removed(slot)

    def assign(self, slot: SlotId, job: Job) -> None:
        entry = self._slots[slot]
        entry.job = job
        self._by_number[job.number] = entry

    def job(self, number: int) -> Job | None:
        """A job that was given, and is not over."""
        entry = self._by_number.get(number)
        return None if entry is None else entry.job

    def job_in(self, slot: SlotId) -> Job | None:
        return self._slots[slot].job

    def has_worker(self, slot: SlotId) -> bool:
        return self._slots[slot].has_worker

    def jobs_in(self, slots: Iterable[SlotId]) -> Iterator[Job]:
        """What these slots were given, and is not over."""
        return iter([job for slot in slots if (job := self._slots[slot].job) is not None])

    def add_worker(self, slots: Iterable[SlotId]) -> None:
        """One more worker is ready, for one of these slots that has none."""
        entry = next((self._slots[slot] for slot in slots if not self._slots[slot].has_worker), None)
        if entry is not None:
            entry.has_worker = True
            entry.generation += 1
            self._events.ready(entry.slot, entry.generation)

    def finish(self, number: int, outcome: Outcome, *, is_leaving: bool = False) -> None:
        """A job is over, its worker ready for the next unless it `is_leaving`; no news if it was over before."""
        entry = self._by_number.pop(number, None)
        if entry is not None:
            entry.job = None
            entry.has_worker = entry.has_worker and not is_leaving
            self._events.finished(entry.slot, entry.generation, [(number, outcome)], is_leaving=is_leaving)

    def drop_worker_of(self, number: int, death: Death, *, begun: bool) -> None:
        """A job's worker is gone, and the slot has none; nothing happens if the job was over before."""
        entry = self._by_number.get(number)
        if entry is not None:
            self.drop_worker(entry.slot, death, begun=begun)

    def drop_worker(self, slot: SlotId, death: Death, *, begun: bool = False) -> None:
        """The slot has no worker any more; of its job, if it has one, `begun` is told."""
        entry = self._slots[slot]
        if entry.job is not None:
            del self._by_number[entry.job.number]
            entry.job = None
        if entry.has_worker:
            entry.has_worker = False
            self._events.died(slot, entry.generation, death, begun=int(begun))
