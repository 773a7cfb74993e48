"""Converts jobs and answers for workers that do not use the wire format: those of a pool, an executor or a cluster.

A job becomes the arguments of `worker.foreign.remote.run_job`; what that returns becomes an outcome. That value has
been unpickled before it arrives here (see `Capabilities.unpickles_results`); its content is checked here.
"""

from __future__ import annotations

import logging
from collections.abc import Sized
from typing import Final, cast

from offload.core.death import Death
from offload.core.job import Job
from offload.core.outcome import Outcome, Reason, crashed
from offload.wire.shared_bytes import SharedBytes
from offload.worker.foreign.remote import Call, RemoteAnswer

logger: Final = logging.getLogger("offload.output")

_MAX_LINES: Final = 200


def call_of(job: Job, *, load: bytes, lane: int) -> Call:
    """Returns the argument of `run_job`."""
    head = tuple(job.request.head)
    return load, job.number, job.limits.index, job.attempt, lane, job.id, head, _body_bytes(job.request.body)


def outcome_of(job: Job, answer: RemoteAnswer) -> Outcome:
    """Returns the outcome that the answer stands for, and logs a traceback. Not for NOT_LOADED."""
    reason = answer.reason
    if reason is None:
        logger.error("job could not be run", extra={"fields": _fields(job, answer) | {"error": _text(answer.body)}})
        return broken("internal error; see the log of the service")
    if reason is Reason.TASK_ERROR:
        _log_raised(job, answer)
    return Outcome(
        reason=reason,
        body=answer.body,
        media_type=answer.media_type if reason is Reason.SUCCEEDED else "",
        run_s=answer.run_ns / 1e9,
    )


def broken(note: str) -> Outcome:
    """Returns the outcome of a job that got an invalid answer or none."""
    return crashed(Death(note=note))


def why_not_loaded(answer: RemoteAnswer) -> str:
    return _text(answer.body)


def _body_bytes(request_body: Sized) -> bytes | bytearray:
    """Returns the body as something that can be pickled."""
    body = cast(bytes | bytearray | memoryview | SharedBytes, request_body)
    if isinstance(body, SharedBytes):
        return body.read(0, len(body))
    return body if isinstance(body, (bytes, bytearray)) else bytes(body)


def _log_raised(job: Job, answer: RemoteAnswer) -> None:
    for line in answer.traceback.splitlines()[-_MAX_LINES:]:
        logger.info("task raised", extra={"fields": _fields(job, answer) | {"line": line}})


def _fields(job: Job, answer: RemoteAnswer) -> dict[str, object]:
    return {"job_id": job.id, "task": job.limits.name, "pid": answer.pid, **job.request.head.labels()}


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
