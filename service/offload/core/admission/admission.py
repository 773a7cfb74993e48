"""The decision to take a job or refuse it.

Lives here: the one function that says yes or why not, who has to go for a job that is worth more, and what the refused
are told.  It moves no job; the scheduler asks it, and acts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from offload.core.admission.estimate import Ask, Estimate
from offload.core.admission.quarantine import Quarantine
from offload.core.admission.retry_after import Appointments
from offload.core.admission.traffic import Traffic
from offload.core.job import Job, Reason
from offload.core.queue.job_queue import JobQueue

# Of a caller's budget so much is left for the way back.
MARGIN: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """What may wait and run.  0 is no limit, but for the queue's own.

    `queue_limit` jobs may wait; their bodies, with those that arrive and results that leave, take `queue_bytes`.
    `quarantine_after`: so many attempts at one job in a row that kill their worker are enough.
    """

    queue_limit: int
    queue_bytes: int
    max_queued_per_client: int = 0
    max_running_per_client: int = 0
    quarantine_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a job is not taken.  `free_in_s`: it might be after so long, seconds, as far as it goes by this job alone."""

    reason: Reason
    free_in_s: float
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds, at least 1: `Retry-After` has no others (RFC 9110, section 10.2.3)."""
        return max(1, math.ceil(self.free_in_s))


@dataclass(slots=True, kw_only=True)
class Load:
    """What admission looks at besides the queue: one record, which the scheduler keeps true.

    `present_slots` counts those that have a worker.  `drain_ends_at` is an instant, None unless the service drains.
    """

    present_slots: int = 0
    was_ever_ready: bool = False
    is_failing_to_start: bool = False
    drain_ends_at: float | None = None


class Admission:
    """`traffic` and `quarantine` are its memory; `dispatch` and the scheduler tell them what happens."""

    def __init__(self, *, limits: AdmissionLimits, queue: JobQueue, load: Load, estimate: Estimate) -> None:
        self.traffic = Traffic(queue)
        self.quarantine = Quarantine(limits.quarantine_after)
        self._limits = limits
        self._queue = queue
        self._load = load
        self._estimate = estimate
        self._appointments = Appointments()

    def refusal(self, ask: Ask, now: float) -> Refusal | None:
        """Why such a job may not wait; None if it may."""
        load = self._load
        if load.drain_ends_at is not None:
            return Refusal(reason=Reason.DRAINING, free_in_s=load.drain_ends_at - now)
        if not load.present_slots and (load.is_failing_to_start or not load.was_ever_ready):
            return Refusal(reason=Reason.STARTING, free_in_s=0.0)
        has_limit = self._limits.max_queued_per_client or (ask.limits is not None and ask.limits.max_queued)
        if has_limit and (refusal := self._own_line_full(ask, now)) is not None:
            return refusal
        has_room = self._queue.has_room(ask.size_bytes, besides_bytes=self.traffic.size_bytes)
        if not has_room and self._to_push_out(ask) is None:
            return self.overloaded(ask, now)
        return None if ask.deadline is None else self.too_late(ask, now)

    def poison(self, job: Job, now: float) -> Refusal | None:
        """Why this very job may not run, now or later; None if it may.  That it drains goes first."""
        if self._load.drain_ends_at is not None:
            return None
        crashes = self.quarantine.crashes(job.fingerprint, now)
        return (
            None if crashes is None else Refusal(reason=Reason.QUARANTINED, free_in_s=0.0, facts={"crashes": crashes})
        )

    def overloaded(self, ask: Ask, now: float) -> Refusal:
        """For one that was let in or taken, and has to go after all."""
        wait_s = self._estimate.outlook(ask, now).wait_s
        return self._overloaded(wait_s, self._next_place_s(wait_s))

    def must_go_for(self, ask: Ask) -> Job | None:
        """The job that has to go so that one may wait that was not refused; None while there is room."""
        return None if self._has_room(ask) else self._to_push_out(ask)

    def retry_after_s(self, refusal: Refusal, job: Job, now: float) -> int | None:
        """What a caller is told that is really sent away; not the same for all of them, and None where it is of no use
        to come back."""
        if refusal.reason is Reason.QUARANTINED:
            return None
        if refusal.reason is not Reason.OVERLOADED:
            return refusal.retry_after_s
        cost_s = self._estimate.cost_s(job.limits) / max(self._load.present_slots, 1)
        return self._appointments.make(now, free_in_s=refusal.free_in_s, cost_s=cost_s)

    def _own_line_full(self, ask: Ask, now: float) -> Refusal | None:
        """Whether the caller, or the task, has as many waiting as it may."""
        task = ask.limits
        if task is None:
            return None  # any job, of anybody
        limit = self._limits.max_queued_per_client
        if limit and self._queue.length_of_client(ask.client) >= limit:
            free_in_s = self._next_place_s(self._estimate.outlook(ask, now).wait_s)
            return Refusal(reason=Reason.CLIENT_QUEUE_FULL, free_in_s=free_in_s, facts={"limit": limit})
        if not task.max_queued:
            return None
        queued = self._queue.length_of_task(task.index)
        if queued < task.max_queued:
            return None
        return self._overloaded(
            self._estimate.outlook(ask, now).wait_s, self._estimate.gate_wait_s(task) / (queued + 1)
        )

    def too_late(self, ask: Ask, now: float) -> Refusal | None:
        """Whether it would be done too late for its caller.  One whose time is over already is told that instead."""
        if ask.deadline is None or ask.deadline <= now:
            return None
        outlook = self._estimate.outlook(ask, now)
        done_s = outlook.doubted_wait_s + self._estimate.own_s(ask.limits)
        late_s = done_s - (ask.deadline - now) * (1 - MARGIN)
        return self._overloaded(outlook.wait_s, late_s) if late_s > 0 else None

    def _has_room(self, ask: Ask) -> bool:
        return self._queue.has_room(ask.size_bytes, besides_bytes=self.traffic.size_bytes)

    def _to_push_out(self, ask: Ask) -> Job | None:
        return self._queue.to_push_out(
            urgency=ask.urgency,
            client=ask.client,
            size_bytes=ask.size_bytes,
            besides_bytes=self.traffic.size_bytes,
        )

    def _next_place_s(self, wait_s: float) -> float:
        """When the queue is expected to be shorter by one."""
        return wait_s / (len(self._queue) + 1)

    def _overloaded(self, wait_s: float, free_in_s: float) -> Refusal:
        facts = {"queued": len(self._queue), "expected_wait_s": round(wait_s, 3)}
        return Refusal(reason=Reason.OVERLOADED, free_in_s=free_in_s, facts=facts)
