"""What must hold between any two events.

Each check takes time proportional to what it looks at, changes nothing, and raises AssertionError. `check_balance` of
`Tally` is the one that takes constant time.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import Final

from offload.core.deadlines import Deadlines
from offload.core.job import Job, SlotId
from offload.core.queue.job_queue import JobQueue
from offload.core.slot import Slot, SlotState
from offload.core.slots import Slots
from offload.core.state import Load

# Looked up once: a simulation checks a thousand slots a thousand times.
_ABSENT: Final = SlotState.ABSENT
_BUSY: Final = SlotState.BUSY
_STOPPING: Final = SlotState.STOPPING


def check_slots(slots: Slots, load: Load) -> None:
    for slot in slots.all.values():
        _check_slot(slot, slots.idle)
    assert slots.all.keys() >= set(slots.idle), "an idle slot does not exist"
    present = sum(slot.state is not _ABSENT for slot in slots.all.values())
    assert load.present_slots == present, f"{load.present_slots} slots counted as having a worker, {present} have one"
    waiting = sum(not job.is_settled for slot in slots.all.values() for job in slot.waiting)
    assert waiting == slots.waiting, f"{waiting} jobs wait behind others, {slots.waiting} counted"


def _check_slot(slot: Slot, idle: Container[SlotId]) -> None:
    state, job = slot.state, slot.job
    is_occupied = state is _BUSY or state is _STOPPING
    assert (job is not None) == is_occupied, f"{slot!r}: job and state differ"
    assert (slot.id in idle) == slot.is_idle, f"{slot!r}: idle and not listed as such, or the reverse"
    slot.waiting_work.check_is_of(slot.waiting)
    settled = sum(job.is_settled for job in slot.waiting)
    assert settled == slot.settled_waiting, f"{slot!r}: {settled} waiting jobs have ended, not {slot.settled_waiting}"
    if job is None:
        return
    assert job.slot == slot.id, f"{slot!r}: its job names another slot"
    if state is _BUSY:
        # An ended job stays until its answer arrives, if the worker has gone on to the next.
        assert job.is_running or slot.waiting, f"{slot!r}: busy with an ended job"
    else:
        assert job.is_settled, f"{slot!r}: stopping an open job"
        assert not slot.waiting, f"{slot!r}: stopping while jobs wait in it"


def check_jobs(jobs: Collection[Job], slots: Slots, queue: JobQueue, *, running: int) -> None:
    """Each of `jobs`, those that have not ended, waits or runs, in one place. `running` is the number that run."""
    occupied = [slot.job for slot in slots.all.values() if slot.job is not None]
    assert len(set(occupied)) == len(occupied), "one job in two slots"
    at_work = {job for job in occupied if job.is_running}
    assert len(at_work) == running, "running jobs and occupied slots differ"
    queued = set(queue)
    assert len(queued) == len(queue), "the queue's length is wrong"
    behind = [job for slot in slots.all.values() for job in slot.waiting if not job.is_settled]
    waiting = queued.union(behind)
    assert len(waiting) == len(queue) + len(behind), "one job waits twice"
    assert all(job.is_queued for job in waiting), "a waiting job is not in state queued"
    assert all(job.slot is None for job in queued), "a job in the queue names a slot"
    assert waiting | at_work == set(jobs), "a job is lost, or known twice"


def check_deadlines(deadlines: Deadlines[Job], jobs: Collection[Job]) -> None:
    """A running job always has a limit, a waiting one if its caller gave it a budget."""
    timed = [job for job in jobs if job.is_running or job.deadline is not None]
    assert len(deadlines) == len(timed), "a deadline is missing, or left over"
    assert all(job in deadlines for job in timed), "a job without its deadline"
