"""Jobs ended early: by DELETE, by a disconnect, by stopping the service, by a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from offload.core.job import JobState
from offload.core.outcome import Reason
from tests.support.fake_engine import result
from tests.support.web_service import MOUNTED_AT, catalogue, eventually, mounted, web_service

POST = b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


async def test_delete_cancels_a_running_job_and_answers_both_callers() -> None:
    async with web_service() as service, service.raw() as caller:
        caller.send(POST)
        job = await service.engine.next_started()
        answer = await service.request("DELETE", f"/jobs/primes/{job.id}")
        document = answer.json()
        assert (answer.status, document["id"], document["state"]) == (200, job.id, "cancelled")
        cancelled = await caller.answer()
        assert (cancelled.status, cancelled.slug) == (409, "cancelled")
        assert service.engine.stopped == [(job, Reason.CANCELLED)]


async def test_delete_removes_a_queued_job() -> None:
    async with web_service() as service, service.raw() as first, service.raw() as second:
        first.send(POST)
        running = await service.engine.next_started()
        second.send(POST)
        await eventually("the job is queued", lambda: service.scheduler.queued == 1)
        (waiting,) = service.scheduler.queue
        document = (await service.request("DELETE", f"/jobs/primes/{waiting.id}")).json()
        assert (document["state"], document["started_at"], document["timing_ms"]["run"]) == ("cancelled", None, None)
        assert (await second.answer()).slug == "cancelled"
        service.engine.finish(running, result())
        assert (await first.answer()).status == 200
        assert service.engine.stopped == []


async def test_the_job_document_has_all_its_members() -> None:
    async with web_service(root_path="/x") as service, service.raw() as caller:
        before = datetime.now(UTC)
        caller.send(POST)
        job = await service.engine.next_started()
        document = (await service.request("DELETE", f"/jobs/primes/{job.id}")).json()
        assert list(document) == [
            "id",
            "task",
            "state",
            "attempt",
            "created_at",
            "started_at",
            "finished_at",
            "progress",
            "timing_ms",
            "error",
            "links",
        ]
        times = [datetime.fromisoformat(document[f"{event}_at"]) for event in ("created", "started", "finished")]
        assert times == sorted(times)
        assert abs((times[0] - before).total_seconds()) < 10
        assert (document["task"], document["attempt"], document["progress"]) == ("primes", 1, None)
        assert document["timing_ms"].keys() == {"queue", "run"}
        assert document["error"]["type"] == "/problems/cancelled"
        assert document["links"] == {"self": f"/x/jobs/primes/{job.id}"}


async def test_a_job_is_found_only_under_its_own_task() -> None:
    async with web_service() as service, service.raw() as caller:
        caller.send(POST)
        job = await service.engine.next_started()
        for path in (f"/jobs/resize/{job.id}", f"/jobs/nope/{job.id}", "/jobs/primes/nope", "/jobs/primes/%ff"):
            answer = await service.request("DELETE", path)
            assert (answer.status, answer.slug) == (404, "unknown-job")
        assert job.state is JobState.RUNNING


async def test_a_job_that_has_ended_is_unknown() -> None:
    async with web_service() as service, service.raw() as caller:
        caller.send(POST)
        job = await service.engine.next_started()
        service.engine.finish(job, result())
        assert (await caller.answer()).status == 200
        assert (await service.request("DELETE", f"/jobs/primes/{job.id}")).slug == "unknown-job"


@pytest.mark.parametrize("wrap", [None, mounted], ids=["own server", "mounted"])
async def test_a_disconnect_ends_the_job(
    wrap: Callable[[web.Application], web.Application] | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offload.access")
    path = b"/jobs/primes" if wrap is None else MOUNTED_AT + b"/jobs/primes"
    async with web_service(wrap=wrap) as service, service.raw() as caller:
        caller.send(POST.replace(b"/jobs/primes", path))
        job = await service.engine.next_started()
        caller.hang_up()
        await eventually("the work is stopped", lambda: service.engine.stopped == [(job, Reason.DISCONNECTED)])
        assert service.counts.cancelled == 1
        await eventually("the line is logged", lambda: "status=499" in caplog.text)
    assert f"job_id={job.id} task=primes reason=disconnected" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_queued_job_whose_caller_disconnects_never_runs() -> None:
    async with web_service() as service, service.raw() as first, service.raw() as second:
        first.send(POST)
        running = await service.engine.next_started()
        second.send(POST)
        await eventually("the job is queued", lambda: service.scheduler.queued == 1)
        second.hang_up()
        await eventually("the queue is empty", lambda: service.scheduler.queued == 0)
        service.engine.finish(running, result())
        assert (await first.answer()).status == 200
        assert service.engine.started.empty()


async def test_while_draining_new_jobs_are_rejected_and_old_ones_answered() -> None:
    async with web_service() as service, service.raw() as caller, service.raw() as late:
        caller.send(POST)
        job = await service.engine.next_started()
        drain = asyncio.create_task(service.dispatcher.drain(10, asyncio.Event()))
        await eventually("draining has begun", lambda: service.dispatcher.is_draining)
        late.send(POST)
        rejected = await late.answer()
        assert (rejected.status, rejected.slug) == (503, "draining")
        assert 1 <= int(rejected.headers["Retry-After"]) <= 10
        assert rejected.headers["Connection"] == "close"
        ready = await service.get("/health/ready")
        assert (ready.status, ready.json()) == (503, {"status": "not-ready", "reason": "draining"})
        assert int(ready.headers["Retry-After"]) >= 1
        assert (await service.get("/health/live")).status == 200
        service.engine.finish(job, result(b"[2]"))
        answer = await caller.answer()
        assert (answer.status, answer.body, answer.headers["Connection"]) == (200, b"[2]", "close")
        assert await caller.is_closed_by_peer()
        await drain


async def test_jobs_left_after_the_drain_are_stopped_and_answered() -> None:
    async with web_service() as service, service.raw() as caller:
        caller.send(POST)
        job = await service.engine.next_started()
        await service.dispatcher.drain(0, asyncio.Event())
        answer = await caller.answer()
        assert (answer.status, answer.slug) == (503, "draining")
        assert answer.json()["job"] == job.id
        assert answer.headers["Retry-After"] == "1"


async def test_a_budget_that_runs_out_in_the_queue_is_a_problem() -> None:
    async with web_service(tasks=catalogue(timeout_s=10)) as service, service.raw() as first:
        first.send(POST)
        await service.engine.next_started()
        answer = await service.post("primes", headers={"Request-Timeout": "0.2"})
        assert (answer.status, answer.slug, answer.json()["stage"]) == (504, "deadline-exceeded", "queued")
        assert "run;" not in answer.headers["Server-Timing"]
        assert service.engine.started.empty()
