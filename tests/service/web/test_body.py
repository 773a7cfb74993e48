"""Reading a request's body: its limits, and what ends the reading early."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from aiohttp import web

from offload.core.job import Job
from offload.core.outcome import Outcome
from tests.support.fake_engine import FakeEngine, body_of, result
from tests.support.raw_http import RawConnection
from tests.support.web_service import MOUNTED_AT, eventually, mounted, web_service

LIMIT = 1 << 16


def echoing() -> FakeEngine:
    def echo(job: Job) -> Outcome:
        return result(body_of(job))

    return FakeEngine(answer=echo)


def post(*headers: str) -> bytes:
    return "\r\n".join(["POST /jobs/primes HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def read_100_continue(connection: RawConnection) -> None:
    """Wait until the head has been accepted and the body is asked for."""
    assert await connection.line() == b"HTTP/1.1 100 Continue\r\n"
    assert await connection.line() == b"\r\n"


async def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    async with web_service(engine=echoing()) as service:
        body = b"x" * LIMIT
        assert (await service.post("primes", data=body)).body == body


async def test_a_body_in_pieces_arrives_whole() -> None:
    async with web_service(engine=echoing()) as service, service.raw() as connection:
        connection.send(post("Content-Length: 6", "Expect: 100-continue") + b"ab")
        await read_100_continue(connection)
        connection.send(b"cd")
        connection.send(b"ef")
        assert (await connection.answer()).body == b"abcdef"


async def test_a_chunked_body_arrives_whole() -> None:
    async with web_service(engine=echoing()) as service, service.raw() as connection:
        connection.send(post("Transfer-Encoding: chunked") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
        assert (await connection.answer()).body == b"abc"


@pytest.mark.parametrize("sent", [b"", b"x" * 1000])
async def test_a_body_announced_as_too_large_is_rejected_at_once(sent: bytes) -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(post(f"Content-Length: {LIMIT + 1}") + sent)
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (413, "body-too-large")
        assert answer.json()["limit_bytes"] == LIMIT
        assert answer.headers["Connection"] == "close"
        assert service.counts.submitted == 0


async def test_a_chunked_body_is_rejected_as_soon_as_it_is_too_large() -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(post("Transfer-Encoding: chunked") + b"%x\r\n" % (2 * LIMIT) + b"x" * (LIMIT + 1))
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (413, "body-too-large")
        assert service.counts.submitted == 0


async def test_a_complete_chunked_body_that_is_too_large_is_rejected() -> None:
    async with web_service(max_body_bytes=4) as service, service.raw() as connection:
        connection.send(post("Transfer-Encoding: chunked") + b"5\r\nabcde\r\n0\r\n\r\n")
        assert (await connection.answer()).slug == "body-too-large"


async def test_a_client_that_sends_all_of_a_large_body_still_reads_the_rejection() -> None:
    """Many clients read nothing before they have sent everything; a reset would hide the answer from them."""
    async with web_service() as service, service.raw() as connection:
        size = 64 * LIMIT
        connection.send(post(f"Content-Length: {size}"))
        for _ in range(64):
            connection.send(b"x" * LIMIT)
        await connection.sent()
        assert (await connection.answer()).slug == "body-too-large"
        assert await connection.is_closed_by_peer()


async def test_a_rejected_client_that_keeps_sending_is_disconnected() -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(post("Transfer-Encoding: chunked", "Content-Encoding: gzip"))
        assert (await connection.answer()).status == 415
        connection.send(b"1\r\nx\r\n")
        assert await connection.is_closed_by_peer()


async def test_a_body_that_does_not_arrive_in_time_is_a_problem() -> None:
    async with web_service(body_timeout_s=0.05) as service, service.raw() as connection:
        connection.send(post("Content-Length: 6") + b"ab")
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (408, "body-timeout")
        assert answer.json()["limit_s"] == 0.05
        assert service.counts.submitted == 0


@pytest.mark.parametrize("wrap", [None, mounted], ids=["own server", "mounted"])
@pytest.mark.parametrize(
    "sent", [post("Content-Length: 6") + b"ab", post("Transfer-Encoding: chunked") + b"2\r\nab\r\n"]
)
async def test_an_incomplete_body_makes_no_job(
    sent: bytes, wrap: Callable[[web.Application], web.Application] | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offload.access")
    async with web_service(wrap=wrap) as service:
        async with service.raw() as connection:
            connection.send(sent if wrap is None else sent.replace(b"/jobs", MOUNTED_AT + b"/jobs"))
            connection.finish_sending()
            assert await connection.is_closed_by_peer()
        await eventually("the line is logged", lambda: "status=499" in caplog.text)
        assert service.counts.submitted == 0
    assert "ERROR" not in caplog.text


async def test_malformed_chunks_are_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(post("Transfer-Encoding: chunked", "Expect: 100-continue"))
        await read_100_continue(connection)
        connection.send(b"zzz\r\nab\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (400, "bad-request")
        assert service.counts.submitted == 0
    assert "Traceback" not in caplog.text


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with web_service(engine=echoing()) as service, service.raw() as connection:
        connection.send(post("Content-Length: 2", "Expect: 100-continue"))
        await read_100_continue(connection)
        connection.send(b"{}")
        assert (await connection.answer()).body == b"{}"


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/jobs/primes", LIMIT + 1, 413), ("/jobs/nope", 2, 404), ("/nope", 2, 404), ("/tasks", 2, 405)],
)
async def test_a_client_that_expects_100_continue_is_rejected_without_it(path: str, length: int, status: int) -> None:
    async with web_service() as service, service.raw() as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        connection.send(head.encode())
        assert (await connection.answer()).status == status


async def test_an_http_1_0_client_never_gets_100_continue() -> None:
    async with web_service(engine=echoing()) as service, service.raw() as connection:
        connection.send(b"POST /jobs/primes HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{")
        connection.send(b"}")
        assert (await connection.answer()).body == b"{}"
