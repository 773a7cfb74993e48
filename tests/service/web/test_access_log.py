"""The access log has one line per request, batched and bounded."""

from __future__ import annotations

import asyncio
import logging

import pytest

from offload.web.routes.health import HealthHandlers
from offload.web.server import access_log
from offload.web.server.access_log import AccessLog, Batch, LogLine
from tests.support.fake_engine import FakeEngine, result
from tests.support.web_service import BOUND_S, web_service


def batches(caplog: pytest.LogCaptureFixture) -> list[Batch]:
    return [record.msg for record in caplog.records if isinstance(record.msg, Batch)]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for batch in batches(caplog) for line in batch.lines()]


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offload.access")


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("more", [{}, {"Expect": "100-continue"}], ids=["direct", "handlers"])
async def test_a_job_has_one_line_with_its_times(more: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    async with web_service(engine=FakeEngine(answer=lambda job: result(b"[2]", run_s=0.0125))) as service:
        headers = {"X-Request-ID": "r-17", "traceparent": TRACE, **more}
        await service.post("primes?a=secret", data=b"{}", headers=headers)
        job = await service.engine.next_started()
    (line,) = lines(caplog)
    assert line.startswith("request method=POST path=/jobs/primes status=200 bytes=3 duration_ms=")
    assert f" job_id={job.id} task=primes reason=succeeded queue_ms=" in line
    assert line.endswith(f" run_ms=12.500 traceparent={TRACE} request_id=r-17 remote=127.0.0.1")
    assert "secret" not in line


async def test_rejected_requests_have_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async with web_service(is_engine_ready=False) as service:
        await service.post("primes")
        await service.get("/nope")
    rejected, not_found = lines(caplog)
    assert "status=503" in rejected
    assert "reason=starting" in rejected
    assert "path=/nope status=404" in not_found


async def test_health_checks_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with web_service() as service:
        await service.get("/health/live")
        await service.get("/health/ready")
    assert lines(caplog) == []


async def test_an_aborted_health_check_is_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def live(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            ended.set()

    monkeypatch.setattr(HealthHandlers, "live", live)
    async with web_service() as service:
        async with service.raw() as connection:
            connection.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(begun.wait(), BOUND_S)
        await asyncio.wait_for(ended.wait(), BOUND_S)
    assert lines(caplog) == []


async def test_the_access_log_can_be_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    async with web_service(has_access_log=False) as service, service.raw() as connection:
        await service.get("/tasks")
        connection.send(b"NONSENSE\r\n\r\n")
        assert (await connection.answer()).status == 400
    assert lines(caplog) == []


async def test_many_requests_make_one_record(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog()
    for _ in range(50):
        log.add(line_of("/"))
    log.flush()
    (batch,) = batches(caplog)
    assert len(list(batch.lines())) == 50
    assert str(batch) == "\n".join(batch.lines())


async def test_lines_above_the_limit_are_counted_and_dropped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "_MAX_BATCH_LINES", 3)
    log = AccessLog()
    for _ in range(10):
        log.add(line_of("/"))
    log.flush()
    assert len(lines(caplog)) == len(batches(caplog)[0]) == 4
    assert lines(caplog)[-1] == "access log lines were dropped count=7"


async def test_a_path_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog()
    log.add(line_of('/a"\nrequest method=GET status=200 \x1b[31m\udcff'))
    log.flush()
    (line,) = lines(caplog)
    assert "\n" not in line
    assert line.isprintable()
    assert line.count("path=") == 1
    assert r'path="/a\"\nrequest' in line


def line_of(path: str) -> str:
    return LogLine.of("GET", path, remote="127.0.0.1").complete(status=200, body_bytes=0, duration_s=0.001)
