"""Malformed HTTP and slow clients get a clear answer or none, no traceback, and leave nothing behind."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from offload.web.server import connection as web_connection
from tests.support.fake_engine import FakeEngine, result
from tests.support.web_service import eventually, web_service


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    ],
    ids=[
        "TLS",
        "no request line",
        "unknown version",
        "unknown method",
        "header without colon",
        "long header",
        "many headers",
        "long path",
        "negative length",
        "two lengths",
        "length and chunks",
    ],
)
async def test_a_malformed_head_is_a_problem(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offload.access")
    async with web_service() as service, service.raw() as connection:
        connection.send(sent)
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (400, "bad-request")
        assert await connection.is_closed_by_peer()
    assert "Traceback" not in caplog.text
    assert "status=400" in caplog.text


async def test_garbage_after_a_request_leaves_its_answer_intact() -> None:
    async with web_service(engine=FakeEngine(answer=lambda job: result())) as service, service.raw() as connection:
        connection.send(b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert (await connection.answer()).status == 200
        connection.send(b"\x00\x01\x02\r\n\r\n")
        assert (await connection.answer()).slug == "bad-request"


async def test_a_connection_whose_first_head_never_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_connection, "_FIRST_HEAD_S", 0.05)
    async with web_service() as service, service.raw() as silent, service.raw() as slow:
        slow.send(b"POST /jobs/primes HT")
        assert await silent.is_closed_by_peer()
        assert await slow.is_closed_by_peer()


async def test_a_connection_with_a_running_first_request_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_connection, "_FIRST_HEAD_S", 0.05)
    async with web_service() as service, service.raw() as busy, service.raw() as silent:
        busy.send(b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        job = await service.engine.next_started()
        assert await silent.is_closed_by_peer()
        service.engine.finish(job, result())
        assert (await busy.answer()).status == 200


async def test_five_hundred_slow_clients_do_not_affect_others() -> None:
    """Half of them send part of a head, half part of a body. Others are served, and nothing is left behind."""
    engine = FakeEngine(answer=lambda job: result())
    async with web_service(engine=engine) as service:
        tasks_before = len(asyncio.all_tasks())
        async with AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(service.raw()) for _ in range(500)]
            for connection in slow[::2]:
                connection.send(b"POST /jobs/pri")
            for connection in slow[1::2]:
                connection.send(b"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{")
            for connection in slow[1::2]:
                connection.send(b" ")
            assert (await service.post("primes", data=b"{}")).status == 200
            assert (await service.get("/health/live")).status == 200
        await eventually("their tasks have ended", lambda: len(asyncio.all_tasks()) <= tasks_before + 2)
        assert service.counts.submitted == 1
