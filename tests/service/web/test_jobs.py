"""`POST /jobs/{task}`: what of a request reaches the job, and what of its outcome reaches the caller."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from offload.core.death import Death
from offload.core.outcome import Outcome, Reason
from offload.core.request import JobHead
from tests.support.fake_engine import FakeEngine, body_of, result
from tests.support.web_service import BOUND_S, catalogue, eventually, web_service


def engine_with(outcome: Outcome) -> FakeEngine:
    return FakeEngine(answer=lambda job: outcome)


async def test_the_result_is_the_body_as_the_worker_sent_it() -> None:
    async with web_service(engine=engine_with(result(b"[2,3,5]"))) as service:
        response = await service.post("primes", data=b'{"limit": 6}')
        assert (response.status, response.body) == (200, b"[2,3,5]")
        assert response.headers["Content-Type"] == "application/json"


async def test_the_body_reaches_the_worker_unchanged() -> None:
    async with web_service(engine=engine_with(result())) as service:
        await service.post("primes", data=b"\xff not JSON at all \x00")
        job = await service.engine.next_started()
        assert job.request.body == b"\xff not JSON at all \x00"


async def test_the_head_of_the_request_reaches_the_worker() -> None:
    async with web_service(engine=engine_with(result()), content_codings=("gzip",)) as service:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {
            "Content-Type": "image/png",
            "Content-Encoding": "identity, X-GZip",
            "Accept": "application/x-npy",
            "X-Request-ID": "r-17",
            "traceparent": trace,
            "Priority": "u=1, i",
        }
        await service.post("resize?width=10&name=a%20b", data=b"\x89PNG", headers=headers)
        job = await service.engine.next_started()
        expected = JobHead(
            query="width=10&name=a%20b",
            content_type="image/png",
            accept="application/x-npy",
            request_id="r-17",
            traceparent=trace,
            content_encoding="gzip",
        )
        assert job.request.head == expected
        assert job.urgency == 1


async def test_an_answer_has_the_job_id_the_times_and_the_request_id() -> None:
    async with web_service(engine=engine_with(result(run_s=0.0125))) as service:
        response = await service.post("primes", headers={"X-Request-ID": "r-17"})
        job = await service.engine.next_started()
        assert response.headers["Job-Id"] == job.id
        assert response.headers["X-Request-ID"] == "r-17"
        queue, run = response.headers["Server-Timing"].split(", ")
        assert queue.startswith("queue;dur=")
        assert run == "run;dur=12.500"
        assert response.headers["Server"] == "offload"


@pytest.mark.parametrize(
    "body", [b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG")], ids=["bytes", "bytearray", "view"]
)
async def test_a_result_of_any_bytes_is_sent_with_its_media_type(body: Any) -> None:
    outcome = Outcome(reason=Reason.SUCCEEDED, body=body, media_type="image/png", run_s=0.0)
    async with web_service(engine=engine_with(outcome)) as service:
        response = await service.post("primes")
        assert (response.headers["Content-Type"], response.body) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize("media_type", ["", "text/plain\r\nSet-Cookie: a=b", "nonsense", "text/\udcff"])
async def test_an_invalid_media_type_is_not_sent(media_type: str) -> None:
    async with web_service(engine=engine_with(result(b"x", media_type))) as service:
        response = await service.post("primes")
        assert (response.status, response.headers["Content-Type"]) == (200, "application/octet-stream")
        assert "Set-Cookie" not in response.headers


DEATH = Death(signal="SIGSEGV")
ENDS: dict[str, tuple[Outcome, int, str, dict[str, object]]] = {
    "crash": (
        Outcome(reason=Reason.WORKER_CRASHED, facts={"death": DEATH, **DEATH.facts()}),
        500,
        "worker-crashed",
        {"signal": "SIGSEGV"},
    ),
    "exit": (
        Outcome(reason=Reason.WORKER_CRASHED, facts={"death": Death(exit_code=0), "exit_code": 0}),
        500,
        "worker-crashed",
        {"exit_code": 0},
    ),
    "memory": (
        Outcome(reason=Reason.MEMORY_LIMIT, facts={"limit_bytes": 10, "peak_bytes": 12}),
        500,
        "memory-limit",
        {"limit_bytes": 10, "peak_bytes": 12},
    ),
    "timeout": (
        Outcome(reason=Reason.JOB_TIMEOUT, facts={"limit_s": 5.0, "stage": "running"}),
        504,
        "job-timeout",
        {"limit_s": 5.0, "stage": "running"},
    ),
    "budget": (
        Outcome(reason=Reason.DEADLINE_EXCEEDED, facts={"stage": "running"}),
        504,
        "deadline-exceeded",
        {"stage": "running"},
    ),
    "cancel": (Outcome(reason=Reason.CANCELLED, facts={"stage": "running"}), 409, "cancelled", {}),
    "stop": (Outcome(reason=Reason.STOPPED, facts={"retry_after_s": 3}), 503, "draining", {}),
}


@pytest.mark.parametrize(("outcome", "status", "slug", "fields"), ENDS.values(), ids=ENDS)
async def test_an_outcome_that_the_service_found_is_a_problem_with_its_facts(
    outcome: Outcome, status: int, slug: str, fields: dict[str, object]
) -> None:
    async with web_service(engine=engine_with(outcome)) as service:
        response = await service.post("primes")
        document = response.json()
        assert (response.status, response.headers["Content-Type"]) == (status, "application/problem+json")
        assert document.pop("type") == f"/problems/{slug}"
        assert document.pop("status") == status
        assert document.pop("job") == response.headers["Job-Id"]
        assert document.pop("task") == "primes"
        assert document.pop("title")
        assert document.pop("detail").endswith(".")
        assert document == fields
        assert response.headers.get("Retry-After") == ("3" if slug == "draining" else None)


FAULTS = {
    Reason.BAD_REQUEST: (400, b'{"detail":"no form"}'),
    Reason.BODY_TOO_LARGE: (413, b'{"limit_bytes":5,"detail":"inflated"}'),
    Reason.UNSUPPORTED_MEDIA_TYPE: (415, b'{"supported":["gzip"],"detail":"no zstd"}'),
    Reason.INVALID_JSON: (400, b'{"position":3,"detail":"no JSON"}'),
    Reason.INVALID_ARGUMENTS: (422, b'{"errors":[{"pointer":"/limit","detail":"missing"}],"detail":"one"}'),
    Reason.TASK_ERROR: (500, b'{"exception":"ValueError","message":"no","detail":"it raised"}'),
    Reason.RESULT_NOT_SERIALISABLE: (500, b'{"result_type":"object","detail":"cannot"}'),
}


@pytest.mark.parametrize("reason", FAULTS)
async def test_a_fault_that_the_worker_found_is_passed_on_unchanged(reason: Reason) -> None:
    status, fields = FAULTS[reason]
    async with web_service(engine=engine_with(Outcome(reason=reason, body=fields, run_s=0.0))) as service:
        response = await service.post("primes")
        document = response.json()
        assert response.status == document["status"] == status
        assert document["type"] == f"/problems/{reason}"
        assert document["job"] == response.headers["Job-Id"]
        assert orjson.loads(fields).items() <= document.items()


@pytest.mark.parametrize("body", [b"", b"{}", b"not an object"])
async def test_a_worker_that_does_not_write_an_object_still_causes_a_problem(body: bytes) -> None:
    async with web_service(engine=engine_with(Outcome(reason=Reason.TASK_ERROR, body=body))) as service:
        response = await service.post("primes")
        assert response.slug == "task-error"


async def test_the_budget_of_the_caller_ends_a_running_job() -> None:
    async with web_service() as service:
        response = await service.post("primes", headers={"Request-Timeout": "0.2"})
        assert response.status == 504
        assert response.json()["stage"] == "running"
        assert [why for _, why in service.engine.stopped] == [Reason.DEADLINE_EXCEEDED]


async def test_the_timeout_of_the_task_ends_a_running_job() -> None:
    async with web_service(tasks=catalogue(timeout_s=0.05)) as service:
        response = await service.post("primes", headers={"Request-Timeout": "30"})
        document = response.json()
        assert (response.status, document["type"], document["limit_s"]) == (504, "/problems/job-timeout", 0.05)


async def test_a_full_queue_rejects_before_the_body_is_read(unfinished_head: bytes) -> None:
    async with web_service(queue_limit=1) as service, service.raw() as first, service.raw() as second:
        for connection in (first, second):
            connection.send(b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await eventually("one job runs, one is queued", lambda: service.scheduler.queued == 1)
        async with service.raw() as third:
            third.send(unfinished_head)
            answer = await third.answer()
            document = answer.json()
            assert (answer.status, document["type"]) == (503, "/problems/overloaded")
            assert document["queued"] == 1
            assert 0.0 < document["expected_wait_s"] < 10.0
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["job-id"] == document["job"]
            assert answer.headers["connection"] == "close"
        assert service.counts.rejected == 1
        assert service.counts.submitted == 3


async def test_a_rejection_keeps_the_connection_if_the_body_has_arrived() -> None:
    async with web_service(is_engine_ready=False) as service, service.raw() as connection:
        for _ in range(2):
            connection.send(b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            answer = await connection.answer()
            assert (answer.status, answer.json()["type"]) == (503, "/problems/starting")
            assert "connection" not in answer.headers
        assert service.counts.rejected == service.counts.submitted == 2


async def test_queued_jobs_run_in_the_order_of_their_urgency() -> None:
    async with web_service() as service, service.raw() as one, service.raw() as two, service.raw() as three:
        post = b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        one.send(post + b"\r\n1")
        running = await service.engine.next_started()
        two.send(post + b"Priority: u=5\r\n\r\n2")
        await eventually("one job is queued", lambda: service.scheduler.queued == 1)
        three.send(post + b"Priority: u=0\r\n\r\n3")
        await eventually("both jobs are queued", lambda: service.scheduler.queued == 2)
        bodies = []
        for connection in (one, three, two):
            service.engine.finish(running, result())
            assert (await connection.answer()).status == 200
            if connection is not two:
                running = await service.engine.next_started()
                bodies.append(body_of(running))
        assert bodies == [b"3", b"2"]


async def test_the_body_timeout_does_not_limit_the_run_time() -> None:
    async with web_service(body_timeout_s=0.01, tasks=catalogue(timeout_s=BOUND_S)) as service, service.raw() as caller:
        caller.send(b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        job = await service.engine.next_started()
        response = await service.post("primes", headers={"Request-Timeout": "0.2"})
        assert response.status == 504
        service.engine.finish(job, result())
        assert (await caller.answer()).status == 200
