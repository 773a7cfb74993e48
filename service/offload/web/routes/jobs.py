"""`POST /jobs/{task}` and `DELETE /jobs/{task}/{id}`.

Bodies and results pass through as bytes.
"""

from __future__ import annotations

import time
from typing import Final

import orjson
from aiohttp import web

from offload.core.job import Job, JobId
from offload.core.request import JobRequest
from offload.dispatch.arrival import NoRoom
from offload.engines.release import release_body
from offload.metrics.timestamp import timestamp
from offload.web.answers.outcomes import outcome_problem, outcome_reply
from offload.web.answers.reply import JSON_HEADERS, OK, Reply
from offload.web.answers.request_problems import unknown_job
from offload.web.answers.timing import timing_of
from offload.web.parts import LateParts
from offload.web.requests.body import read_body, received_body
from offload.web.requests.disconnects import DisconnectWatch
from offload.web.requests.exchange import Exchange
from offload.web.requests.judge import judge
from offload.web.routes.links import JOB, Links
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes

_MS_PER_S: Final = 1e3


class JobHandlers:
    def __init__(self, parts: LateParts, *, watch: DisconnectWatch, links: Links) -> None:
        self._parts = parts
        self._watch = watch
        self._links = links

    async def run(self, exchange: Exchange) -> Reply:
        """Run one job and return its result.

        Whatever the head can be rejected for, overload included, is checked before the body is read. If the body has
        arrived already, the scheduler rejects the job.
        """
        parts, request = self._parts.current, exchange.request
        dispatcher = parts.dispatcher
        announced_bytes = request.content_length or 0
        terms = judge(
            parts,
            request.match_info["task"],
            request.headers,
            query=request.rel_url.raw_query_string,
            address=request.remote,
            announced_bytes=announced_bytes,
        )
        body: bytes | SharedBytes | None = received_body(request, parts.max_body_bytes)
        if body is None:
            rejection = dispatcher.rejection(terms, size_bytes=announced_bytes)
            if rejection is not None:
                exchange.job = job = dispatcher.reject(terms, rejection)
                return outcome_reply(job, timing_of(job))
            try:
                body = await self._read_body(request)
            except NoRoom:
                exchange.job = job = dispatcher.reject_body(terms)
                return outcome_reply(job, timing_of(job))
        exchange.job = job = dispatcher.new_job(JobRequest(terms, body))
        try:
            await self._run_watched(job, request)
        finally:
            if len(body) > LARGE_BYTES:
                release_body(body)
        return outcome_reply(job, timing_of(job))

    async def _run_watched(self, job: Job, request: web.Request) -> None:
        self._watch.watch(job, request)
        try:
            await self._parts.current.dispatcher.run(job)
        except BaseException:
            if job.outcome is not None:  # it will not be sent
                release_body(job.outcome.body)
            raise
        finally:
            self._watch.forget(job)

    async def _read_body(self, request: web.Request) -> bytes | SharedBytes:
        parts = self._parts.current
        with parts.dispatcher.arrival() as arrival:
            return await read_body(
                request, limit_bytes=parts.max_body_bytes, timeout_s=parts.body_timeout_s, on_bytes=arrival.add
            )

    async def cancel(self, exchange: Exchange) -> Reply:
        """Cancel a queued or running job and return its document."""
        match, dispatcher = exchange.request.match_info, self._parts.current.dispatcher
        job = dispatcher.find(JobId(match["id"]))
        if job is None or job.limits.name != match["task"]:
            raise unknown_job(match["id"], match["task"])
        exchange.job = job
        dispatcher.cancel(job)
        return Reply(OK, JSON_HEADERS, orjson.dumps(job_document(job, self._links)))


def job_document(job: Job, links: Links) -> dict[str, object]:
    """Returns the job document. Monotonic instants are converted with the present offset of the wall clock."""
    monotonic_to_wall_s = time.time() - time.monotonic()
    run_s = job.run_s
    return {
        "id": job.id,
        "task": job.limits.name,
        "state": job.state.value,
        "attempt": job.attempt,
        "created_at": _timestamp(job.submitted_at, monotonic_to_wall_s),
        "started_at": _timestamp(job.started_at, monotonic_to_wall_s),
        "finished_at": _timestamp(job.finished_at, monotonic_to_wall_s),
        "progress": None,
        "timing_ms": {
            "queue": round((job.wait_s or 0.0) * _MS_PER_S, 3),
            "run": None if run_s is None else round(run_s * _MS_PER_S, 3),
        },
        "error": outcome_problem(job) if job.is_settled else None,
        "links": {"self": links.path(JOB, task=job.limits.name, id=job.id)},
    }


def _timestamp(instant: float | None, to_wall_s: float) -> str | None:
    return None if instant is None else timestamp(instant + to_wall_s)
