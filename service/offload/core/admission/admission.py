"""The decision to accept or reject a job, and which waiting job makes room for a more important one.

Nothing here moves a job: the scheduler asks, and acts on the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from offload.core.admission.estimate import Candidate, Estimate
from offload.core.admission.quarantine import Quarantine
from offload.core.admission.retry_after import RetrySchedule
from offload.core.admission.traffic import Traffic
from offload.core.job import Job
from offload.core.outcome import Outcome, OverloadCause, Reason
from offload.core.queue.job_queue import JobQueue
from offload.core.state import Load

# The share of a caller's budget that is reserved for sending the answer.
MARGIN: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How much may wait and run. 0 means no limit, except for the queue itself.

    At most `queue_limit` jobs wait. Their bodies, the bodies that are arriving and the results that are being sent
    take at most `queue_bytes`. A job is quarantined after `quarantine_after` attempts in a row that killed the worker.
    """

    queue_limit: int
    queue_bytes: int
    max_queued_per_client: int = 0
    max_running_per_client: int = 0
    quarantine_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a job is rejected, and in how many seconds a job like it is expected to be accepted.

    `free_in_s` considers this job alone; `Admission.retry_after_s` spreads many rejected callers.
    """

    reason: Reason
    free_in_s: float
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds, at least 1, the unit of `Retry-After` (RFC 9110, section 10.2.3)."""
        return max(1, math.ceil(self.free_in_s))

    def outcome(self, retry_after_s: int | None) -> Outcome:
        """Returns the outcome of a job with this rejection; `retry_after_s` is None where a retry cannot help."""
        when = {} if retry_after_s is None else {"retry_after_s": retry_after_s}
        return Outcome(reason=self.reason, facts={**self.facts, **when})


class Admission:
    def __init__(self, *, limits: AdmissionLimits, queue: JobQueue, load: Load, estimate: Estimate) -> None:
        self.traffic = Traffic(queue)
        self.quarantine = Quarantine(limits.quarantine_after)
        self._limits = limits
        self._queue = queue
        self._load = load
        self._estimate = estimate
        self._retries = RetrySchedule()

    def rejection(self, candidate: Candidate, now: float) -> Rejection | None:
        """Returns why the candidate may not wait, None if it may."""
        load = self._load
        if load.drain_ends_at is not None:
            return Rejection(reason=Reason.DRAINING, free_in_s=load.drain_ends_at - now)
        if not load.present_slots and (load.is_failing_to_start or not load.was_ever_ready):
            return Rejection(reason=Reason.STARTING, free_in_s=0.0)
        limits = candidate.limits
        has_limit = self._limits.max_queued_per_client or (limits is not None and limits.max_queued)
        if has_limit and (rejection := self._too_many_queued(candidate, now)) is not None:
            return rejection
        has_room = self._queue.has_room(candidate.size_bytes, besides_bytes=self.traffic.size_bytes)
        if not has_room and self._displaceable(candidate) is None:
            if self._queue.length < self._queue.limit:
                return self.body_without_room(candidate, now)
            return self._queue_full(OverloadCause.QUEUE_FULL, candidate, now, limit=self._queue.limit)
        return None if candidate.deadline is None else self.deadline_unreachable(candidate, now)

    def quarantined(self, job: Job, now: float) -> Rejection | None:
        """Returns a rejection if this job is quarantined, else None. Draining takes precedence."""
        if self._load.drain_ends_at is not None:
            return None
        crashes = self.quarantine.crashes(job.fingerprint, now)
        return (
            None if crashes is None else Rejection(reason=Reason.QUARANTINED, free_in_s=0.0, facts={"crashes": crashes})
        )

    def deadline_unreachable(self, candidate: Candidate, now: float) -> Rejection | None:
        """Returns a rejection if the candidate would finish after its deadline.

        None if the deadline has passed already: that is another outcome.
        """
        if candidate.deadline is None or candidate.deadline <= now:
            return None
        outlook = self._estimate.outlook(candidate, now)
        done_s = outlook.cautious_wait_s + self._estimate.own_s(candidate.limits)
        late_s = done_s - (candidate.deadline - now) * (1 - MARGIN)
        if late_s <= 0:
            return None
        return self._overloaded(OverloadCause.DEADLINE_UNREACHABLE, outlook.wait_s, late_s)

    def missed_chance(self, job: Job, now: float) -> Rejection:
        """Returns the rejection of a queued job that can no longer meet its deadline."""
        return self._queue_full(OverloadCause.DEADLINE_UNREACHABLE, job, now)

    def body_without_room(self, candidate: Candidate, now: float) -> Rejection:
        """Returns the rejection of a job whose body has no room, or found none while it arrived."""
        limit_bytes = self._queue.limit_bytes
        return self._queue_full(OverloadCause.QUEUE_BYTES_FULL, candidate, now, limit_bytes=limit_bytes)

    def displaced(self, job: Job, now: float) -> Rejection:
        """Returns the rejection of a job that has just been removed from the queue to make room for another."""
        queue = self._queue
        was_full = queue.length + 1 >= queue.limit
        limit = {"limit": queue.limit} if was_full else {"limit_bytes": queue.limit_bytes}
        return self._queue_full(OverloadCause.DISPLACED, job, now, **limit)

    def job_to_displace(self, candidate: Candidate) -> Job | None:
        """Returns the waiting job that must make room for an accepted candidate, None while there is room."""
        return None if self._has_room(candidate) else self._displaceable(candidate)

    def retry_after_s(self, rejection: Rejection, job: Job, now: float) -> int | None:
        """Returns the `Retry-After` of a job that is being rejected, None where a retry cannot help.

        Under overload each call reserves capacity, so that rejected callers return spread over time.
        """
        if rejection.reason is Reason.QUARANTINED:
            return None
        if rejection.reason is not Reason.OVERLOADED:
            return rejection.retry_after_s
        cost_s = self._estimate.cost_s(job.limits) / max(self._load.present_slots, 1)
        return self._retries.reserve(now, free_in_s=rejection.free_in_s, cost_s=cost_s)

    def _too_many_queued(self, candidate: Candidate, now: float) -> Rejection | None:
        """Check the limits on queued jobs of one client and of one task."""
        task = candidate.limits
        if task is None:
            return None  # any job of any client
        limit = self._limits.max_queued_per_client
        if limit and self._queue.length_of_client(candidate.client) >= limit:
            free_in_s = self._shorter_in_s(self._estimate.outlook(candidate, now).wait_s)
            return Rejection(reason=Reason.CLIENT_QUEUE_FULL, free_in_s=free_in_s, facts={"limit": limit})
        if not task.max_queued:
            return None
        queued = self._queue.length_of_task(task.index)
        if queued < task.max_queued:
            return None
        wait_s = self._estimate.outlook(candidate, now).wait_s
        free_in_s = self._estimate.limit_wait_s(task) / (queued + 1)
        return self._overloaded(OverloadCause.TASK_QUEUE_FULL, wait_s, free_in_s, limit=task.max_queued)

    def _has_room(self, candidate: Candidate) -> bool:
        return self._queue.has_room(candidate.size_bytes, besides_bytes=self.traffic.size_bytes)

    def _displaceable(self, candidate: Candidate) -> Job | None:
        return self._queue.displaceable(
            urgency=candidate.urgency,
            client=candidate.client,
            size_bytes=candidate.size_bytes,
            besides_bytes=self.traffic.size_bytes,
        )

    def _shorter_in_s(self, wait_s: float) -> float:
        """Returns in how many seconds the queue is expected to be one job shorter."""
        return wait_s / (len(self._queue) + 1)

    def _queue_full(self, cause: OverloadCause, candidate: Candidate, now: float, **limit: int) -> Rejection:
        wait_s = self._estimate.outlook(candidate, now).wait_s
        return self._overloaded(cause, wait_s, self._shorter_in_s(wait_s), **limit)

    def _overloaded(self, cause: OverloadCause, wait_s: float, free_in_s: float, **limit: int) -> Rejection:
        facts = {"cause": cause, "queued": len(self._queue), "expected_wait_s": round(wait_s, 3), **limit}
        return Rejection(reason=Reason.OVERLOADED, free_in_s=free_in_s, facts=facts)
