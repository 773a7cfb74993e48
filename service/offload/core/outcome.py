"""How a job ends: the reasons, the record that the caller is answered from, and the outcomes that the core decides."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from offload.core.death import Death

if TYPE_CHECKING:
    from offload.core.job import Job


class Reason(StrEnum):
    """Why a job ended. The value is the problem's slug where the HTTP interface has one of that name."""

    SUCCEEDED = "succeeded"
    TASK_ERROR = "task-error"
    BAD_REQUEST = "bad-request"
    BODY_TOO_LARGE = "body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
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


NO_FACTS: Final[Mapping[str, object]] = MappingProxyType({})


# Not a dataclass: one is made for every job, and a dataclass with a mapping as default would cost one more call.
class Outcome:
    """The one answer to a job.

    `body` is the result with its `media_type`. Where the worker found a fault, it is the problem's fields as one
    encoded JSON object. A large result is shared memory; the code that settles a job with it also releases it. `facts`
    are the fields of a problem that the service found. `run_s` is the run time that the worker measured, None if it did
    not live to report one. `has_printed`: the job wrote to its output.
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


# A job's number and its outcome, as engines report it.
Ended = tuple[int, Outcome]


def overdue(job: Job) -> Outcome:
    """Returns the outcome of a job whose time is up: the task's timeout or the caller's budget, whichever ended it."""
    if job.started_at is None or not job.is_running:
        return Outcome(reason=Reason.DEADLINE_EXCEEDED, facts={"stage": "queued"})
    limit_s = job.limits.timeout_s
    if job.deadline is not None and job.deadline < job.started_at + limit_s:
        return Outcome(reason=Reason.DEADLINE_EXCEEDED, facts={"stage": "running"})
    return Outcome(reason=Reason.JOB_TIMEOUT, facts={"limit_s": limit_s, "stage": "running"})


def cancelled(job: Job, why: Reason) -> Outcome:
    return Outcome(reason=why, facts={"stage": "running" if job.is_running else "queued"})


def over_memory(job: Job, peak_bytes: int) -> Outcome:
    return Outcome(reason=Reason.MEMORY_LIMIT, facts={"limit_bytes": job.limits.memory_bytes, "peak_bytes": peak_bytes})


def crashed(death: Death) -> Outcome:
    return Outcome(reason=Reason.WORKER_CRASHED, facts={"death": death, **death.facts()})


def abandoned(why: Reason) -> Outcome:
    """Returns the outcome of an accepted job that the service gives up. Another machine may serve it at once."""
    return Outcome(reason=why, facts={"retry_after_s": 1})
