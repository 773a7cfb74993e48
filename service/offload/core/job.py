"""The life of a job, as a table.

Lives here: the job, its states, the reasons for which it can end and the one outcome that it ends with.  Nothing here
knows queues, slots or processes.  The scheduler is the only caller of `Job.start`, `Job.requeue` and `Job.settle`;
everybody else reads.

      NEW ──admit──► QUEUED ──start──► RUNNING ──► SUCCEEDED | FAILED | TIMED_OUT | CANCELLED | CRASHED
       │                ▲ │               │
       └─► REJECTED     │ └─► TIMED_OUT | CANCELLED | REJECTED
                        └────requeue──────┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType

from offload.errors import IllegalStep

JobId = NewType("JobId", str)
SlotId = NewType("SlotId", int)

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
DEFAULT_URGENCY: Final = 3  # RFC 9218, section 4.1
URGENCIES: Final = 8  # RFC 9218: 0 (most urgent) to 7


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


# Looked up once: until Python 3.12 it costs more than a call to reach into an enum, and these are needed for every job.
_NEW: Final = JobState.NEW
_QUEUED: Final = JobState.QUEUED
_RUNNING: Final = JobState.RUNNING


class Reason(StrEnum):
    """Why a job ended.  The value is the problem's slug wherever the HTTP interface has one of that name."""

    SUCCEEDED = "succeeded"
    TASK_ERROR = "task-error"
    INVALID_JSON = "invalid-json"
    INVALID_ARGUMENTS = "invalid-arguments"
    RESULT_NOT_SERIALISABLE = "result-not-serialisable"
    JOB_TIMEOUT = "job-timeout"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"
    STOPPED = "stopped"
    WORKER_CRASHED = "worker-crashed"
    MEMORY_LIMIT = "memory-limit"
    OVERLOADED = "overloaded"
    CLIENT_QUEUE_FULL = "client-queue-full"
    QUARANTINED = "quarantined"
    DRAINING = "draining"
    STARTING = "starting"


class OverloadCause(StrEnum):
    """Why a job was rejected as `overloaded`."""

    QUEUE_FULL = "queue-full"
    QUEUE_BYTES_FULL = "queue-bytes-full"
    TASK_QUEUE_FULL = "task-queue-full"
    DEADLINE_UNREACHABLE = "deadline-unreachable"
    DISPLACED = "displaced"


END_STATE: Final[Mapping[Reason, JobState]] = {
    Reason.SUCCEEDED: JobState.SUCCEEDED,
    Reason.TASK_ERROR: JobState.FAILED,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """What the core knows of a task.

    `index` is the task's place in the catalogue.  `timeout_s` limits the run time, seconds.  `memory_bytes` limits the
    peak resident memory of the worker and its descendants, None for no limit.  `retries` is how often a job whose
    worker died is started again.  `max_running` and `max_queued` limit how many jobs of the task run and wait at once,
    0 for no limit.  `urgency` is that of a job whose caller names none.
    """

    name: str
    index: int
    timeout_s: float
    memory_bytes: int | None = None
    retries: int = 0
    max_running: int = 0
    max_queued: int = 0
    urgency: int = DEFAULT_URGENCY


NO_FACTS: Final[Mapping[str, object]] = MappingProxyType({})


# No dataclass: one is made for every job, and a default that is a mapping would cost a call.
class Outcome:
    """The one answer to a job.

    `body` is the result itself, with its `media_type`, or, where the worker found the fault, the fields of the
    problem as one encoded JSON object; a large result lies elsewhere, and whoever settles the job with it lets go of
    it.  `facts` are the fields of a problem that the parent found.  `run_s` is the run time that the worker measured,
    seconds, None where it did not live to tell.  `has_printed`: it wrote to its output.
    """

    __slots__ = ("body", "facts", "has_printed", "media_type", "reason", "run_s")

    def __init__(
        self,
        *,
        reason: Reason,
        body: Sized = b"",
        media_type: str = "",
        facts: Mapping[str, object] = NO_FACTS,
        run_s: float | None = None,
        has_printed: bool = False,
    ) -> None:
        self.reason = reason
        self.body = body
        self.media_type = media_type
        self.facts = facts
        self.run_s = run_s
        self.has_printed = has_printed

    def __repr__(self) -> str:
        return f"<Outcome {self.reason} facts={dict(self.facts)}>"

    @property
    def state(self) -> JobState:
        return END_STATE[self.reason]


# What became of a job, by its number.
Ended = tuple[int, Outcome]


class Job:
    """One request to run one task.

    Times are instants on one monotonic clock, seconds.  `deadline` is the end of the caller's budget, None without
    one.  `number` counts jobs of this service and names the job between processes.  `body` and `meta` are bytes for
    the worker, a large body where those lie; nobody on the way looks into them.  `labels` are fields for every log line
    of the job.  `client` stands for the caller, among whom slots are shared.  `fingerprint` stands for the task and the
    arguments, where it is needed.  `crashes` are the attempts that killed their worker: instants of begin and death.

    `wait_s` and `run_s` are known at the end, seconds: the queue wait up to the start, or up to the end of a job that
    never started; and the run time, the worker's own measure, else from hand-over to end, None if it never started.
    """

    __slots__ = (
        "_state",
        "attempt",
        "body",
        "client",
        "crashes",
        "deadline",
        "fingerprint",
        "finished_at",
        "id",
        "labels",
        "limits",
        "meta",
        "number",
        "outcome",
        "run_s",
        "size_bytes",
        "slot",
        "started_at",
        "submitted_at",
        "unbegun_deaths",
        "urgency",
        "wait_s",
    )

    def __init__(
        self,
        *,
        id: JobId,
        number: int,
        limits: TaskLimits,
        submitted_at: float,
        body: Sized = b"",
        meta: bytes = b"",
        deadline: float | None = None,
        urgency: int = DEFAULT_URGENCY,
        client: str = "",
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        self.id = id
        self.client = client
        self.labels = labels
        self.number = number
        self.limits = limits
        self.body = body
        self.meta = meta
        self.size_bytes = len(body) + len(meta)
        self.deadline = deadline
        self.urgency = urgency
        self.submitted_at = submitted_at
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
        """A worker has answered it, and lived."""
        return self._state in (JobState.SUCCEEDED, JobState.FAILED)

    def enqueue(self) -> None:
        """It was admitted, and waits."""
        if self._state is not _NEW:
            raise self._illegal("enqueue")
        self._state = _QUEUED

    def start(self, slot: SlotId, now: float) -> None:
        """It was handed to `slot`."""
        self._step(_RUNNING)
        self.slot = slot
        self.started_at = now

    def crash(self, died_at: float) -> None:
        """The attempt that had begun has killed its worker."""
        if self.started_at is not None:
            self.crashes += ((self.started_at, died_at),)

    def take_back(self) -> None:
        """The slot that it was given to will not begin it; it waits on."""
        self.slot = None

    def requeue(self, *, begun: bool) -> None:
        """Its worker died; it goes back to wait for another.  Only an attempt that had begun is counted as one."""
        if self._state is not _RUNNING:
            raise self._illegal("requeue")
        self._step(_QUEUED)
        self.slot = None
        self.started_at = None
        if begun:
            self.attempt += 1
        else:
            self.unbegun_deaths += 1

    def settle(self, outcome: Outcome, now: float) -> None:
        """The end.  Raises IllegalStep if it has ended before, or cannot end this way from where it is."""
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
