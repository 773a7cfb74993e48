"""Makes the reply to a job from its outcome. What a worker wrote is passed on as bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, cast

import orjson

from offload.core.job import Job
from offload.core.outcome import Outcome, OverloadCause, Reason
from offload.web.answers.problems import members, problem_reply, spliced
from offload.web.answers.reply import BYTES, CLIENT_CLOSED_REPLY, JSON, JSON_HEADERS, OK, Headers, Reply
from offload.web.answers.timing import Timing
from offload.web.header_names import CONTENT_TYPE, JOB_ID, RETRY_AFTER, SERVER_TIMING

# Looked up once: until Python 3.12, reading an enum member costs more than a call.
_SUCCEEDED: Final = Reason.SUCCEEDED
_JSON_CONTENT: Final = JSON_HEADERS[0]

# A media type comes from the task; a line break in it would add headers to the response.
_MEDIA_TYPE: Final = re.compile(r"[\x21-\x7e]+/[\x20-\x7e]+")

# The facts of an outcome that are members of its problem.
_FIELDS: Final[Mapping[Reason, tuple[str, ...]]] = {
    Reason.JOB_TIMEOUT: ("limit_s", "stage"),
    Reason.DEADLINE_EXCEEDED: ("stage",),
    Reason.WORKER_CRASHED: ("signal", "exit_code"),
    Reason.MEMORY_LIMIT: ("limit_bytes", "peak_bytes"),
    Reason.OVERLOADED: ("cause", "queued", "expected_wait_s"),
    Reason.CLIENT_QUEUE_FULL: ("limit",),
    Reason.QUARANTINED: ("crashes",),
}
# Reasons whose problem has another name.
_SLUGS: Final[Mapping[Reason, str]] = {Reason.STOPPED: "draining"}


def outcome_reply(job: Job, timing: Timing) -> Reply:
    """Returns the reply for a job that has ended."""
    outcome = job.outcome
    if outcome is None:
        raise _has_not_ended(job)
    queue_ms, run_ms = timing
    server_timing = f"queue;dur={queue_ms}, run;dur={run_ms}" if run_ms else f"queue;dur={queue_ms}"
    if outcome.reason is _SUCCEEDED:
        content = _JSON_CONTENT if outcome.media_type == JSON else _content(outcome.media_type)
        return Reply(OK, (content, (JOB_ID, job.id), (SERVER_TIMING, server_timing)), outcome.body)
    if outcome.reason is Reason.DISCONNECTED:
        return CLIENT_CLOSED_REPLY
    headers: Headers = ((JOB_ID, job.id), (SERVER_TIMING, server_timing))
    retry_after_s = outcome.facts.get("retry_after_s")
    if retry_after_s is not None:
        headers += ((RETRY_AFTER, str(retry_after_s)),)
    return problem_reply(_slug(outcome.reason), _problem_body(job, outcome), headers)


def outcome_problem(job: Job) -> dict[str, object]:
    """Returns the problem of a job that the service ended, for the job document."""
    if job.outcome is None:
        raise _has_not_ended(job)
    return _described(job, job.outcome)


def _content(media_type: str) -> tuple[str, str]:
    return CONTENT_TYPE, media_type if _MEDIA_TYPE.fullmatch(media_type) else BYTES


def _problem_body(job: Job, outcome: Outcome) -> bytes:
    if len(outcome.body):
        head = {**members(_slug(outcome.reason)), "job": job.id, "task": job.limits.name}
        return spliced(head, cast(bytes, outcome.body))  # only results are in shared memory
    return orjson.dumps(_described(job, outcome), default=str)


def _described(job: Job, outcome: Outcome) -> dict[str, object]:
    document = members(_slug(outcome.reason))
    describe = _DETAILS.get(outcome.reason)
    if describe is not None:
        document["detail"] = describe(job, outcome.facts)
    document |= {"job": job.id, "task": job.limits.name}
    for name in _FIELDS.get(outcome.reason, ()):
        if name in outcome.facts:
            document[name] = outcome.facts[name]
    return document


def _slug(reason: Reason) -> str:
    return _SLUGS.get(reason, reason.value)


def _has_not_ended(job: Job) -> RuntimeError:
    return RuntimeError(f"{job!r} has not ended")


def _job_timeout(job: Job, facts: Mapping[str, object]) -> str:
    return (
        f"The job ran for {job.limits.timeout_s:g} s, the timeout of its task, and was stopped. "
        "Ask for less work in one job, or have the task's timeout raised."
    )


def _deadline_exceeded(job: Job, facts: Mapping[str, object]) -> str:
    budget = _budget(job)
    if facts.get("stage") == "queued":
        return (
            f"The budget{budget} given by Request-Timeout ran out while the job was queued. "
            "It was not run. Allow more time, or retry later."
        )
    return (
        f"The budget{budget} given by Request-Timeout ran out while the job was running. "
        "It was stopped. Allow more time, or ask for less work in one job."
    )


def _budget(job: Job) -> str:
    return "" if job.deadline is None else f" of {job.deadline - job.submitted_at:g} s"


def _worker_crashed(job: Job, facts: Mapping[str, object]) -> str:
    attempts = f" {job.attempt} attempts were made." if job.attempt > 1 else ""
    return (
        f"The worker process {facts.get('death', 'ended')} while running this job.{attempts} "
        "Other jobs are not affected. If it happens again with the same arguments, the task is at fault."
    )


def _memory_limit(job: Job, facts: Mapping[str, object]) -> str:
    return (
        f"The job used {facts.get('peak_bytes')} bytes of memory, more than its task's limit of "
        f"{facts.get('limit_bytes')} bytes, and was stopped. "
        "Ask for less work in one job, or have the task's memory limit raised."
    )


def _cancelled(job: Job, facts: Mapping[str, object]) -> str:
    return "The job was cancelled by a DELETE request. Its work has been stopped."


def _stopped(job: Job, facts: Mapping[str, object]) -> str:
    return "The service stopped before the job finished. Send the job again, to this address or another."


def _overloaded(job: Job, facts: Mapping[str, object]) -> str:
    cause, retry = facts["cause"], f"Retry after {facts.get('retry_after_s')} s"
    limit = f"{facts['limit']} jobs" if "limit" in facts else f"{facts.get('limit_bytes')} bytes"
    if cause is OverloadCause.TASK_QUEUE_FULL:
        return f"The queue of task {job.limits.name!r} is full ({limit}). {retry}."
    if cause is OverloadCause.QUEUE_BYTES_FULL:
        return f"The bodies and results in memory leave no room for this body (limit: {limit} in all). {retry}."
    if cause is OverloadCause.DEADLINE_UNREACHABLE:
        return f"The job cannot finish within its Request-Timeout{_budget(job)}. {retry}, or allow more time."
    if cause is OverloadCause.DISPLACED:
        return (
            f"The queue is full ({limit}); this job made room for a more urgent one or one of another client. "
            f"{retry}, or send it with a more urgent Priority."
        )
    return f"The queue is full ({limit}). {retry}."


def _client_queue_full(job: Job, facts: Mapping[str, object]) -> str:
    return f"This caller already has {facts.get('limit')} queued jobs, the limit for one caller. {_retry(facts)}"


def _quarantined(job: Job, facts: Mapping[str, object]) -> str:
    return (
        f"The last {facts.get('crashes')} attempts at this task with these arguments each crashed their worker, so the "
        "job is rejected for a while. Other arguments are accepted. Fix the task, or leave out this job."
    )


def _draining(job: Job, facts: Mapping[str, object]) -> str:
    return f"The service is stopping and accepts no new jobs. {_retry(facts)}"


def _starting(job: Job, facts: Mapping[str, object]) -> str:
    return f"No worker is ready: workers are starting, or fail to start (see /stats). {_retry(facts)}"


def _retry(facts: Mapping[str, object]) -> str:
    retry_after_s = facts.get("retry_after_s")
    return "Retry later." if retry_after_s is None else f"Retry after {retry_after_s} s."


_DETAILS: Final[Mapping[Reason, Callable[[Job, Mapping[str, object]], str]]] = {
    Reason.JOB_TIMEOUT: _job_timeout,
    Reason.DEADLINE_EXCEEDED: _deadline_exceeded,
    Reason.WORKER_CRASHED: _worker_crashed,
    Reason.MEMORY_LIMIT: _memory_limit,
    Reason.CANCELLED: _cancelled,
    Reason.STOPPED: _stopped,
    Reason.OVERLOADED: _overloaded,
    Reason.CLIENT_QUEUE_FULL: _client_queue_full,
    Reason.QUARANTINED: _quarantined,
    Reason.DRAINING: _draining,
    Reason.STARTING: _starting,
}
