"""What must hold between any two events.

Lives here: the checks of slots, jobs and deadlines against each other, each in time that grows with what is there.
They change nothing.  `Scheduler.check_invariants` calls them for simulations and tests; all raise AssertionError.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import Final

from offload.core.admission.admission import Load
from offload.core.deadlines import Deadlines
from offload.core.job import Job, SlotId
from offload.core.queue.job_queue import JobQueue
from offload.core.slot import Slot, SlotState

# Looked up once, as in `slot`: a simulation asks a thousand slots a thousand times.
_ABSENT: Final = SlotState.ABSENT
_BUSY: Final = SlotState.BUSY
_STOPPING: Final = SlotState.STOPPING


def check_slots(slots: Mapping[SlotId, Slot], idle: Collection[SlotId], load: Load) -> None:
    for slot in slots.values():
        _check_slot(slot, idle)
    assert slots.keys() >= set(idle), "a slot is known as idle and not known at all"
    present = sum(slot.state is not _ABSENT for slot in slots.values())
    assert load.present_slots == present, f"{load.present_slots} slots are said to have a worker, {present} have"


def _check_slot(slot: Slot, idle: Container[SlotId]) -> None:
    state, job = slot.state, slot.job
    is_occupied = state is _BUSY or state is _STOPPING
    assert (job is not None) == is_occupied, f"{slot!r}: job and state differ"
    assert (slot.id in idle) == slot.is_idle, f"{slot!r}: idle and not known as such, or the reverse"
    if job is None:
        return
    assert job.slot == slot.id, f"{slot!r}: its job believes to be elsewhere"
    if state is _BUSY:
        # An ended job may be there for as long as its answer takes, if the worker has gone on to the next.
        assert job.is_running or slot.behind, f"{slot!r}: busy with an ended job"
    else:
        assert job.is_settled, f"{slot!r}: stopping an open job"
        assert not slot.behind, f"{slot!r}: stopping under jobs that wait in it"


def check_jobs(jobs: Collection[Job], slots: Mapping[SlotId, Slot], queue: JobQueue, *, running: int) -> None:
    """`jobs` are those that have not ended: each of them waits or runs, once.  `running` is how many run."""
    occupied = [slot.job for slot in slots.values() if slot.job is not None]
    assert len(set(occupied)) == len(occupied), "one job in two slots"
    at_work = {job for job in occupied if job.is_running}
    assert len(at_work) == running, "running jobs and occupied slots differ"
    queued = set(queue)
    assert len(queued) == len(queue), "the queue's length is wrong"
    behind = [job for slot in slots.values() for job in slot.behind if not job.is_settled]
    waiting = queued.union(behind)
    assert len(waiting) == len(queue) + len(behind), "one job waits in two places"
    assert all(job.is_queued for job in waiting), "something that waits does not know it"
    assert all(job.slot is None for job in queued), "something in the queue believes to be in a slot"
    assert waiting | at_work == set(jobs), "a job is lost, or known twice"


def check_deadlines(deadlines: Deadlines[Job], jobs: Collection[Job]) -> None:
    """A running job always has a limit, a waiting one if its caller gave it a budget."""
    timed = [job for job in jobs if job.is_running or job.deadline is not None]
    assert len(deadlines) == len(timed), "a deadline is missing, or left over"
    assert all(job in deadlines for job in timed), "a job without its deadline"
