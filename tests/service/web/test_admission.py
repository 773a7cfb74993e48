"""Limits per caller, per task and on bytes: what rejected callers get, and that others are served."""

from __future__ import annotations

from dataclasses import replace

import pytest
from multidict import istr

from offload.core.death import Death
from offload.tasks.catalogue import Catalogue
from tests.support.fake_engine import FakeEngine, result
from tests.support.raw_http import RawConnection
from tests.support.web_service import WebService, catalogue, eventually, web_service

CLIENT = istr("X-Forwarded-For")
LARGE = bytes(range(256)) * (1 << 14)


def head(*lines: str, body: bytes = b"{}", task: str = "primes", size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    return (
        "\r\n".join([f"POST /jobs/{task} HTTP/1.1", "Host: x", f"Content-Length: {length}", *lines, "", ""]).encode()
        + body
    )


def with_limits(*, max_running: int = 0, max_queued: int = 0, urgency: int = 3) -> Catalogue:
    """Return the usual tasks, each with these limits."""
    tasks = {}
    for name, info in catalogue().items():
        limits = replace(info.limits, max_running=max_running, max_queued=max_queued, urgency=urgency)
        tasks[name] = replace(info, limits=limits)
    return Catalogue(tasks)


async def queued(service: WebService, count: int) -> None:
    await eventually(f"{count} jobs are queued", lambda: service.scheduler.queued == count)


# Callers


async def test_a_caller_above_its_limit_of_queued_jobs_is_rejected_and_others_are_not() -> None:
    limits = {"max_queued_per_client": 1}
    async with (
        web_service(limits=limits, client_header=CLIENT) as service,
        service.raw() as first,
        service.raw() as second,
    ):
        first.send(head("X-Forwarded-For: 192.0.2.1"))
        running = await service.engine.next_started()
        second.send(head("X-Forwarded-For: 192.0.2.1"))
        await queued(service, 1)
        answer = await service.post("primes", data=b"{}", headers={"X-Forwarded-For": "198.51.100.9, 192.0.2.1"})
        assert (answer.status, answer.slug, answer.json()["limit"]) == (429, "client-queue-full", 1)
        assert int(answer.headers["Retry-After"]) >= 1
        async with service.raw() as other:
            other.send(head("X-Forwarded-For: 203.0.113.7"))
            await queued(service, 2)
            service.engine.finish(running, result())
            for _ in range(2):
                service.engine.finish(await service.engine.next_started(), result())
            assert (await other.answer()).status == 200


async def test_jobs_of_a_caller_at_its_limit_of_running_jobs_wait_while_others_run() -> None:
    limits = {"max_running_per_client": 1}
    engine = FakeEngine(slots=2)
    async with (
        web_service(engine=engine, limits=limits, client_header=CLIENT) as service,
        service.raw() as first,
        service.raw() as second,
        service.raw() as other,
    ):
        first.send(head("X-Forwarded-For: 192.0.2.1"))
        running = await engine.next_started()
        second.send(head("X-Forwarded-For: 192.0.2.1"))
        await queued(service, 1)
        other.send(head("X-Forwarded-For: 203.0.113.7"))
        others = await engine.next_started()
        assert others.client == "203.0.113.7"
        engine.finish(running, result())
        engine.finish(await engine.next_started(), result())
        engine.finish(others, result())
        assert [(await one.answer()).status for one in (first, second, other)] == [200, 200, 200]


async def test_without_a_trusted_header_a_caller_is_identified_by_its_address() -> None:
    async with web_service() as service, service.raw() as caller:
        caller.send(head("X-Forwarded-For: 192.0.2.1"))
        job = await service.engine.next_started()
        assert job.client == "127.0.0.1"
        service.engine.finish(job, result())


# Tasks


async def test_a_task_runs_at_most_its_limit_of_jobs_at_once() -> None:
    engine = FakeEngine(slots=2)
    async with (
        web_service(engine=engine, tasks=with_limits(max_running=1)) as service,
        service.raw() as first,
        service.raw() as second,
    ):
        first.send(head())
        running = await engine.next_started()
        second.send(head())
        await queued(service, 1)
        assert engine.started.empty()
        engine.finish(running, result())
        engine.finish(await engine.next_started(), result())
        assert [(await one.answer()).status for one in (first, second)] == [200, 200]


async def test_a_task_queues_at_most_its_limit_of_jobs() -> None:
    async with web_service(tasks=with_limits(max_queued=1)) as service, service.raw() as first, service.raw() as second:
        first.send(head())
        running = await service.engine.next_started()
        second.send(head())
        await queued(service, 1)
        assert (await service.post("primes", data=b"{}")).json()["cause"] == "task-queue-full"
        service.engine.finish(running, result())
        service.engine.finish(await service.engine.next_started(), result())


@pytest.mark.parametrize(
    ("sent", "urgency"), [([], 6), (["Priority: u=1"], 1), (["Priority: u=9"], 6), (["Priority: i"], 6)]
)
async def test_without_a_priority_a_job_has_the_urgency_of_its_task(sent: list[str], urgency: int) -> None:
    async with web_service(tasks=with_limits(urgency=6)) as service, service.raw() as caller:
        caller.send(head(*sent))
        job = await service.engine.next_started()
        assert job.urgency == urgency
        service.engine.finish(job, result())


async def test_the_caller_of_a_displaced_job_gets_the_cause() -> None:
    async with (
        web_service(queue_limit=1) as service,
        service.raw() as first,
        service.raw() as patient,
        service.raw() as urgent,
    ):
        first.send(head())
        running = await service.engine.next_started()
        patient.send(head("Priority: u=7"))
        await queued(service, 1)
        urgent.send(head("Priority: u=0"))
        answer = await patient.answer()
        assert (answer.status, answer.slug, answer.json()["cause"]) == (503, "overloaded", "displaced")
        assert int(answer.headers["Retry-After"]) >= 1
        service.engine.finish(running, result())
        service.engine.finish(await service.engine.next_started(), result())
        assert (await urgent.answer()).status == 200


# Quarantine


async def crash(service: WebService, body: bytes) -> None:
    async with service.raw() as caller:
        caller.send(head(body=body))
        job = await service.engine.next_started()
        service.engine.die(job, Death(signal="SIGSEGV"))
        answer = await caller.answer()
        assert (answer.status, answer.slug) == (500, "worker-crashed")


@pytest.mark.parametrize("size", [2, 1 << 20])
async def test_a_job_that_killed_three_workers_is_quarantined(size: int) -> None:
    """A large body is hashed in several steps."""
    body = b"{" + b" " * (size - 2) + b"}"
    async with web_service(limits={"quarantine_after": 3}, max_body_bytes=1 << 21, queue_bytes=1 << 24) as service:
        for _ in range(3):
            await crash(service, body)
        answer = await service.post("primes", data=body)
        assert (answer.status, answer.slug, answer.json()["crashes"]) == (422, "quarantined", 3)
        assert "Retry-After" not in answer.headers
        assert service.engine.started.empty()
        async with service.raw() as other:
            other.send(head(body=b'{"other": 1}'))
            service.engine.finish(await service.engine.next_started(), result())
            assert (await other.answer()).status == 200
        assert (service.counts.crashed, service.counts.rejected) == (3, 1)


# Bytes of bodies and results


async def test_slowly_arriving_bodies_stay_within_the_limit_on_bytes() -> None:
    """The body that exceeds the limit is rejected while it arrives and its connection closes; others are served."""
    async with web_service(queue_bytes=100_000, max_body_bytes=80_000) as service:
        async with service.raw() as busy, service.raw() as first, service.raw() as second:
            busy.send(head())
            running = await service.engine.next_started()
            first.send(head(body=b" " * 60_000, size=70_000))
            traffic = service.scheduler.traffic
            await eventually("the body arrives", lambda: traffic.arriving_bytes == 60_000)
            second.send(head(body=b" " * 60_000, size=70_000))
            answer = await second.answer()
            assert (answer.status, answer.slug, answer.headers["Connection"]) == (503, "overloaded", "close")
            assert answer.json()["cause"] == "queue-bytes-full"
            assert traffic.arriving_bytes == 60_000
            assert (await service.post("primes", data=b"x" * 50_000)).slug == "overloaded"
            service.engine.finish(running, result())
            assert (await busy.answer()).status == 200
        await eventually("the body is released", lambda: traffic.arriving_bytes == 0)


async def stop_reading(service: WebService, caller: RawConnection, size: int) -> None:
    """Finish a job whose caller does not read: the system buffers only part of the result."""
    caller.send(head())
    service.engine.finish(await service.engine.next_started(), result(body=b"1" * size))
    traffic = service.scheduler.traffic
    await eventually("the result is being sent", lambda: traffic.leaving_bytes == size)


async def test_unread_results_count_until_their_callers_disconnect() -> None:
    size = 64 << 20  # more than the buffers of the system and the client
    async with web_service(queue_bytes=1 << 20) as service:
        async with service.raw() as caller:
            await stop_reading(service, caller, size)
            async with service.raw() as busy:
                busy.send(head())
                running = await service.engine.next_started()
                answer = await service.post("primes", data=b"{}")
                assert (answer.status, answer.slug) == (503, "overloaded")
                service.engine.finish(running, result())
                assert (await busy.answer()).status == 200
        await eventually("the result is released", lambda: service.scheduler.traffic.leaving_bytes == 0)


async def test_a_caller_that_stops_reading_its_result_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offload.web.server.connection._STALLED_S", 0.05)
    async with web_service(queue_bytes=1 << 20) as service, service.raw() as caller:
        await stop_reading(service, caller, 64 << 20)
        await eventually("the result is released", lambda: service.scheduler.traffic.leaving_bytes == 0)


async def test_a_large_result_arrives_whole_and_the_connection_continues() -> None:
    async with web_service(engine=FakeEngine(answer=lambda job: result(body=LARGE))) as service:
        async with service.raw() as caller:
            for _ in range(2):
                caller.send(head())
                answer = await caller.answer()
                assert (answer.status, answer.body) == (200, LARGE)
        await eventually("the results are released", lambda: service.scheduler.traffic.leaving_bytes == 0)
