"""How many jobs a slot may hold beyond the one that runs.

A worker that gets its next job only after its last answer idles for a round trip, and is woken anew for each job.  So a
slot may hold more, but only while all that waits in it is expected to be short.  Lives here: which slots have room,
and since when somebody waits behind a job that should have been over by now.  The scheduler gives and takes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from offload.core.deadlines import Alarm, Deadlines
from offload.core.job import Job, SlotId
from offload.core.run_times import RunTimes
from offload.core.slot import Slot

# More in one write wake fewer processes for each of them; of the shortest jobs so many fit into MAX_AHEAD_S.
MAX_IN_SLOT: Final = 32
# What a job may be expected to wait behind others in a slot: less than anybody notices, several times a round trip.
MAX_AHEAD_S: Final = 0.002
# A job that has run for so long was no short one: who waits behind it is taken back.
PATIENCE_S: Final = 0.005
# A worker that has neither begun it nor been heard of for so long is stuck; before, it may be we who are late to read.
UNHEARD_S: Final = 0.05

# Since when the slot's worker is at the job that it is at, an instant; None while it is at none.
BusySince = Callable[[SlotId], float | None]


class Prefetch:
    """Without `busy_since`, a worker is at a job since we gave it, or heard of the one before it."""

    def __init__(self, run_times: RunTimes, busy_since: BusySince | None, alarm: Alarm) -> None:
        self._run_times = run_times
        self._busy_since = busy_since
        self._with_room: dict[Slot, None] = {}
        self._held_up: Deadlines[Slot] = Deadlines(alarm)

    def is_short(self, job: Job) -> bool:
        """Whether it may wait behind others, and others behind it.

        Memory is measured for one job at a time, and what is printed must be known for one job's.
        """
        limits = job.limits
        return limits.memory_bytes is None and self._run_times.is_quiet_and_below(limits.index, MAX_AHEAD_S)

    @property
    def may_have_room(self) -> bool:
        return bool(self._with_room)

    def find_room(self, job: Job, now: float) -> Slot | None:
        """A slot that `job` may be given to although another runs there, None if there is none."""
        with_room = self._with_room
        if not with_room or not self.is_short(job):
            return None
        while with_room:
            slot = next(reversed(with_room))
            if self._has_room(slot, job, now):
                return slot
            del with_room[slot]
        return None

    def note_room(self, slot: Slot) -> None:
        """The slot may have room now."""
        self._with_room[slot] = None

    def watch(self, slot: Slot) -> None:
        """The slot, in which `find_room` found room, was given one more job."""
        if not slot.is_watched and slot.job is not None and slot.job.started_at is not None:
            self._look_again(slot, slot.job.started_at + PATIENCE_S)

    def forget(self, slot: Slot) -> None:
        """The slot is no more."""
        self._with_room.pop(slot, None)
        self._held_up.discard(slot)

    def pop_held_up(self, now: float) -> list[Slot]:
        """The slots in which jobs wait behind one that takes long, each told once."""
        long_ones = []
        for slot in self._held_up.pop_due(now):
            slot.is_watched = False
            head = slot.job
            if not slot.waiting or head is None or head.started_at is None:
                continue
            look_again_at = self._is_long_at(slot, head.started_at, now)
            if look_again_at <= now:
                long_ones.append(slot)
            else:
                self._look_again(slot, look_again_at)
        return long_ones

    def next_instant(self) -> float | None:
        return self._held_up.next_instant()

    def check_invariants(self, slots: Collection[Slot]) -> None:
        assert set(slots) >= self._with_room.keys(), "a slot that is no more is said to have room"

    def _is_long_at(self, slot: Slot, started_at: float, now: float) -> float:
        """When the slot is to count as one in which a job takes long, if nothing is heard of it before.

        Its job was started when we gave it, or heard of the one before it.  The worker knows better since when it is at
        it, or at the next: while the loop is busy, answers lie there unread.
        """
        long_at = started_at + PATIENCE_S
        if long_at > now or self._busy_since is None:
            return long_at
        since = self._busy_since(slot.id)
        if since is not None:
            return since + PATIENCE_S
        unheard_at = started_at + UNHEARD_S
        return unheard_at if unheard_at <= now else min(now + PATIENCE_S, unheard_at)

    def _look_again(self, slot: Slot, instant: float) -> None:
        self._held_up.set(slot, instant)
        slot.is_watched = True

    def _has_room(self, slot: Slot, job: Job, now: float) -> bool:
        """For `job`, which is a short one."""
        head = slot.job
        if head is None or head.started_at is None or head.outcome is not None or slot.is_leaving:
            return False
        if len(slot.waiting) + 1 >= MAX_IN_SLOT:
            return False
        if head.limits is not job.limits and not self.is_short(head):
            return False
        if head.started_at + PATIENCE_S <= now and self._is_long_at(slot, head.started_at, now) <= now:
            return False
        if slot.settled_waiting:
            return False  # it could not be taken back, and is stopped when it comes first
        ahead_s = self._run_times.expected_s(head.limits.index) + slot.waiting_work.expected_s(self._run_times)
        return ahead_s <= MAX_AHEAD_S
