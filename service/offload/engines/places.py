"""Slots as an engine keeps them whose workers are somebody else's.

Lives here: which slots there are, whether each has a worker, in which generation, and what it was given; every change
is told to the scheduler by the events of `engines.base`.  A slot is a place for one job, not a certain worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from offload.core.death import Death
from offload.core.job import Job, Outcome, SlotId
from offload.engines.base import EngineEvents


class _Place:
    __slots__ = ("generation", "is_present", "job", "slot")

    def __init__(self, slot: SlotId) -> None:
        self.slot = slot
        self.generation = 0
        self.is_present = False
        self.job: Job | None = None


class Places:
    """The slots 0 to `count` - 1, without workers at first.  One job at a time in each."""

    def __init__(self, count: int, events: EngineEvents) -> None:
        self._events = events
        self._places = {SlotId(number): _Place(SlotId(number)) for number in range(count)}
        self._by_number: dict[int, _Place] = {}
        for slot in self._places:
            events.slot_added(slot)

    def slots(self) -> list[SlotId]:
        return sorted(self._places)

    def add(self, slot: SlotId) -> None:
        """One slot more, without a worker; nothing happens if it is known."""
        if slot not in self._places:
            self._places[slot] = _Place(slot)
            self._events.slot_added(slot)

    def remove(self, slot: SlotId) -> None:
        """One slot less, which has no worker; nothing happens if it is not known."""
        if self._places.pop(slot, None) is not None:
            self._events.slot_removed(slot)

    def give(self, slot: SlotId, job: Job) -> None:
        place = self._places[slot]
        place.job = job
        self._by_number[job.number] = place

    def job(self, number: int) -> Job | None:
        """A job that was given, and is not over."""
        place = self._by_number.get(number)
        return None if place is None else place.job

    def job_in(self, slot: SlotId) -> Job | None:
        return self._places[slot].job

    def is_present(self, slot: SlotId) -> bool:
        return self._places[slot].is_present

    def jobs_in(self, slots: Iterable[SlotId]) -> Iterator[Job]:
        """What these slots were given, and is not over."""
        return iter([job for slot in slots if (job := self._places[slot].job) is not None])

    def fill(self, slots: Iterable[SlotId]) -> None:
        """One more worker is ready, for one of these slots that has none."""
        place = next((self._places[slot] for slot in slots if not self._places[slot].is_present), None)
        if place is not None:
            place.is_present = True
            place.generation += 1
            self._events.ready(place.slot, place.generation)

    def finish(self, number: int, outcome: Outcome, *, is_leaving: bool = False) -> None:
        """A job is over, its worker ready for the next unless it `is_leaving`; no news if it was over before."""
        place = self._by_number.pop(number, None)
        if place is not None:
            place.job = None
            place.is_present = place.is_present and not is_leaving
            self._events.finished(place.slot, place.generation, [(number, outcome)], is_leaving=is_leaving)

    def lose(self, number: int, death: Death, *, begun: bool) -> None:
        """A job's worker is gone, and the slot has none; nothing happens if the job was over before."""
        place = self._by_number.get(number)
        if place is not None:
            self.empty(place.slot, death, begun=begun)

    def empty(self, slot: SlotId, death: Death, *, begun: bool = False) -> None:
        """The slot has no worker any more; of its job, if it has one, `begun` is told."""
        place = self._places[slot]
        if place.job is not None:
            del self._by_number[place.job.number]
            place.job = None
        if place.is_present:
            place.is_present = False
            self._events.died(slot, place.generation, death, begun=int(begun))
