"""The life of a job, as a table.

      NEW ──admit──► QUEUED ──start──► RUNNING ──► SUCCEEDED | FAILED | TIMED_OUT | CANCELLED | CRASHED
       │                ▲ │               │
       └─► REJECTED     │ └─► TIMED_OUT | CANCELLED | REJECTED
                        └────requeue──────┘

A new job may also go to RUNNING directly. An illegal step raises IllegalStep and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NewType

from offload.core.outcome import Outcome, Reason
from offload.core.request import JobRequest
from offload.errors import IllegalStep

JobId = NewType("JobId", str)
SlotId = NewType("SlotId", int)


class JobState(StrEnum):
    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    REJECTED = "rejected"


# Looked up once: until Python 3.12 reading an enum member costs more than a call, and these are read for every job.
_NEW: Final = JobState.NEW
_QUEUED: Final = JobState.QUEUED
_RUNNING: Final = JobState.RUNNING

END_STATE: Final[Mapping[Reason, JobState]] = {
    Reason.SUCCEEDED: JobState.SUCCEEDED,
    Reason.TASK_ERROR: JobState.FAILED,
    Reason.BAD_REQUEST: JobState.FAILED,
    Reason.BODY_TOO_LARGE: JobState.FAILED,
    Reason.UNSUPPORTED_MEDIA_TYPE: JobState.FAILED,
    Reason.INVALID_JSON: JobState.FAILED,
    Reason.INVALID_ARGUMENTS: JobState.FAILED,
    Reason.RESULT_NOT_SERIALISABLE: JobState.FAILED,
    Reason.JOB_TIMEOUT: JobState.TIMED_OUT,
    Reason.DEADLINE_EXCEEDED: JobState.TIMED_OUT,
    Reason.CANCELLED: JobState.CANCELLED,
    Reason.DISCONNECTED: JobState.CANCELLED,
    Reason.STOPPED: JobState.CANCELLED,
    Reason.WORKER_CRASHED: JobState.CRASHED,
    Reason.MEMORY_LIMIT: JobState.CRASHED,
    Reason.OVERLOADED: JobState.REJECTED,
    Reason.CLIENT_QUEUE_FULL: JobState.REJECTED,
    Reason.QUARANTINED: JobState.REJECTED,
    Reason.DRAINING: JobState.REJECTED,
    Reason.STARTING: JobState.REJECTED,
}

_STEPS: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.NEW: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.REJECTED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.TIMED_OUT, JobState.CANCELLED, JobState.REJECTED}),
    JobState.RUNNING: frozenset(
        {
            JobState.QUEUED,
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.TIMED_OUT,
            JobState.CANCELLED,
            JobState.CRASHED,
        }
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.TIMED_OUT: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.CRASHED: frozenset(),
    JobState.REJECTED: frozenset(),
}


class Job:
    """The life of one request, from its submission to its outcome.

    Times are instants on one monotonic clock, seconds. `number` counts the jobs of this service and identifies the job
    between processes. `deadline` is the end of the caller's budget, None without one. `slot` is the slot that holds the
    job, None while none does. `attempt` counts from 1. `crashes` are the attempts that killed their worker, as pairs of
    start and death. `fingerprint` identifies task and arguments; None until it is needed.

    Known at the end, in seconds: `wait_s`, the time until the start, or until the end of a job that never started, and
    `run_s`, the worker's own measure, or else the time from start to end; None if the job never started.
    """

    __slots__ = (
        "_state",
        "attempt",
        "client",
        "crashes",
        "deadline",
        "fingerprint",
        "finished_at",
        "id",
        "limits",
        "number",
        "outcome",
        "request",
        "run_s",
        "size_bytes",
        "slot",
        "started_at",
        "submitted_at",
        "unbegun_deaths",
        "urgency",
        "wait_s",
    )

    def __init__(self, request: JobRequest, *, id: JobId, number: int, submitted_at: float) -> None:
        terms = request.terms
        self.request = request
        self.id = id
        self.number = number
        self.submitted_at = submitted_at
        # Copied from the request: the scheduler reads these several times for each job, and a property costs a call.
        self.limits = terms.limits
        self.client = terms.client
        self.urgency = terms.urgency
        self.size_bytes = len(request.body)
        self.deadline = None if terms.budget_s is None else submitted_at + terms.budget_s
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.attempt = 1
        self.unbegun_deaths = 0
        self.crashes: tuple[tuple[float, float], ...] = ()
        self.fingerprint: str | None = None
        self.slot: SlotId | None = None
        self.outcome: Outcome | None = None
        self.wait_s: float | None = None
        self.run_s: float | None = None
        self._state: JobState = _NEW

    def __repr__(self) -> str:
        return f"<Job {self.number} {self.limits.name} {self._state} attempt={self.attempt} slot={self.slot}>"

    @property
    def state(self) -> JobState:
        return self._state

    @property
    def is_new(self) -> bool:
        return self._state is _NEW

    @property
    def is_queued(self) -> bool:
        return self._state is _QUEUED

    @property
    def is_running(self) -> bool:
        return self._state is _RUNNING

    @property
    def is_settled(self) -> bool:
        return self.outcome is not None

    @property
    def has_survived(self) -> bool:
        """Whether a worker answered the job, and lived."""
        return self._state in (JobState.SUCCEEDED, JobState.FAILED)

    def enqueue(self) -> None:
        """The job was accepted, and waits."""
        if self._state is not _NEW:
            raise self._illegal("enqueue")
        self._state = _QUEUED

    def start(self, slot: SlotId, now: float) -> None:
        """The job was handed to `slot`."""
        self._step(_RUNNING)
        self.slot = slot
        self.started_at = now

    def record_crash(self, died_at: float) -> None:
        """The present attempt killed its worker."""
        if self.started_at is not None:
            self.crashes += ((self.started_at, died_at),)

    def requeue(self, *, begun: bool, is_charged: bool = True) -> None:
        """The worker died and the job waits for another. Only an attempt that had begun is counted.

        `is_charged`: a death before the job had begun may be the job's fault.
        """
        if self._state is not _RUNNING:
            raise self._illegal("requeue")
        self._step(_QUEUED)
        self.slot = None
        self.started_at = None
        if begun:
            self.attempt += 1
        elif is_charged:
            self.unbegun_deaths += 1

    def settle(self, outcome: Outcome, now: float) -> None:
        """The job has its outcome. Raises IllegalStep if it had one, or cannot end this way from its state."""
        self._step(END_STATE[outcome.reason])
        self.outcome = outcome
        self.finished_at = now
        started_at = self.started_at
        if started_at is None:
            self.wait_s = now - self.submitted_at
        else:
            self.wait_s = started_at - self.submitted_at
            self.run_s = now - started_at if outcome.run_s is None else outcome.run_s

    def _step(self, to: JobState) -> None:
        if to not in _STEPS[self._state]:
            raise self._illegal(to)
        self._state = to

    def _illegal(self, event: str) -> IllegalStep:
        return IllegalStep(thing=f"job {self.id}", state=self._state, event=event)
