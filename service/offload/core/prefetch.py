"""How many jobs a slot may hold beyond the one that runs.

A worker that gets its next job only after its last answer idles for a round trip, and is woken anew for each job. So a
slot may hold more, as long as all that waits in it is expected to be short. This module knows which slots have room,
and since when jobs wait behind one that should have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from offload.core.deadlines import Alarm, Deadlines
from offload.core.job import Job, SlotId
from offload.core.run_times import RunTimes
from offload.core.slot import Slot

# Several jobs in one write wake the worker once. About this many of the shortest jobs fit into MAX_AHEAD_S.
MAX_IN_SLOT: Final = 32
# The longest expected wait of a job behind others in a slot: unnoticeable, and several times a round trip.
MAX_AHEAD_S: Final = 0.002
# A job that has run for longer is not short: the jobs behind it are withdrawn.
PATIENCE_S: Final = 0.005
# A worker that has neither begun the job nor reported anything for longer is stuck. Before that, the service may just
# be late to read its answers.
SILENT_S: Final = 0.05

# Returns the instant at which the slot's worker began its current job, None while it has none.
BusySince = Callable[[SlotId], float | None]


class Prefetch:
    """Without `busy_since`, a worker is assumed to have begun its job when it got it, or after its last answer."""

    def __init__(self, run_times: RunTimes, busy_since: BusySince | None, alarm: Alarm) -> None:
        self._run_times = run_times
        self._busy_since = busy_since
        self._with_room: dict[Slot, None] = {}
        self._held_up: Deadlines[Slot] = Deadlines(alarm)

    def is_short(self, job: Job) -> bool:
        """Whether the job may wait behind others, and others behind it.

        Memory is measured for one job at a time, and output must be known to be one job's.
        """
        limits = job.limits
        return limits.memory_bytes is None and self._run_times.is_quiet_and_below(limits.index, MAX_AHEAD_S)

    @property
    def may_have_room(self) -> bool:
        """Whether `find_room` may find a slot; cheap."""
        return bool(self._with_room)

    def find_room(self, job: Job, now: float) -> Slot | None:
        """Returns a busy slot in which the job may wait, or None."""
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
        """A job waits in the slot now: check again if the running job takes long."""
        if not slot.is_watched and slot.job is not None and slot.job.started_at is not None:
            self._look_again(slot, slot.job.started_at + PATIENCE_S)

    def forget(self, slot: Slot) -> None:
        """The slot was removed."""
        self._with_room.pop(slot, None)
        self._held_up.discard(slot)

    def pop_held_up(self, now: float) -> list[Slot]:
        """Returns the slots in which jobs wait behind one that takes long, each once."""
        held_up = []
        for slot in self._held_up.pop_due(now):
            slot.is_watched = False
            head = slot.job
            if not slot.waiting or head is None or head.started_at is None:
                continue
            look_again_at = self._is_long_at(slot, head.started_at, now)
            if look_again_at <= now:
                held_up.append(slot)
            else:
                self._look_again(slot, look_again_at)
        return held_up

    def next_instant(self) -> float | None:
        """Returns when `pop_held_up` is due next, monotonic seconds; None for never."""
        return self._held_up.next_instant()

    def check_invariants(self, slots: Collection[Slot]) -> None:
        """Raises AssertionError."""
        assert set(slots) >= self._with_room.keys(), "a removed slot is listed as having room"

    def _is_long_at(self, slot: Slot, started_at: float, now: float) -> float:
        """Returns when the slot's job will count as long, unless the worker reports before.

        `started_at` is when the job was sent, or when the answer before it arrived. The worker knows exactly when it
        began that job, or a later one: while the event loop is busy, answers wait unread.
        """
        long_at = started_at + PATIENCE_S
        if long_at > now or self._busy_since is None:
            return long_at
        since = self._busy_since(slot.id)
        if since is not None:
            return since + PATIENCE_S
        stuck_at = started_at + SILENT_S
        return stuck_at if stuck_at <= now else min(now + PATIENCE_S, stuck_at)

    def _look_again(self, slot: Slot, instant: float) -> None:
        self._held_up.set(slot, instant)
        slot.is_watched = True

    def _has_room(self, slot: Slot, job: Job, now: float) -> bool:
        """Whether `job`, which is short, may wait in the slot."""
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
            return False  # a settled job could not be withdrawn, and is stopped when it comes first
        ahead_s = self._run_times.expected_s(head.limits.index) + slot.waiting_work.expected_s(self._run_times)
        return ahead_s <= MAX_AHEAD_S
