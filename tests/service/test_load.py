"""Slow callers, many callers, large numbers and deep nesting do not affect others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.raw_http import raw_connection
from tests.support.service import RunningService, assert_books_balance, eventually, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"

shared = pytest.mark.asyncio(loop_scope="module")

SLOW_CLIENTS = 500
LISTENING = "0A"  # in /proc/net/tcp
CALLERS = 32


def accepted(service: RunningService) -> int:
    """Return how many connections the service holds.  Those not yet accepted or already closed have no inode."""
    port = int(service.base.rpartition(":")[2])
    found = 0
    for line in Path(f"/proc/{service.pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        found += local.endswith(f":{port:04X}") and state != LISTENING and inode != "0"
    return found


@shared
async def test_five_hundred_slow_clients_delay_no_other_and_leave_nothing(service: RunningService) -> None:
    """Half of them send a head slowly, half a body."""
    port = int(service.base.rpartition(":")[2])
    submitted = (await service.stats())["jobs"]["submitted"]
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(raw_connection("127.0.0.1", port)) for _ in range(SLOW_CLIENTS)]
        for connection in slow[::2]:
            connection.send(b"POST /jobs/fi")
        for connection in slow[1::2]:
            connection.send(b"POST /jobs/fine HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{")

        async def all_are_there() -> bool:
            return accepted(service) >= SLOW_CLIENTS

        await eventually("all are connected", all_are_there)
        assert [(await service.job("fine", {"x": x})).json() for x in range(20)] == list(range(20))
        stats = await service.stats()
        assert (stats["jobs"]["submitted"], stats["queue"]["bytes"]) == (submitted + 20, 0)

    async def none_is_there() -> bool:
        return accepted(service) == 0

    await eventually("their connections are gone", none_is_there)
    assert (await service.ready())["jobs"]["submitted"] == submitted + 20


async def test_health_and_stats_answer_while_all_workers_are_busy() -> None:
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()
        calls = [asyncio.create_task(service.job("steady", {"ms": 40})) for _ in range(CALLERS)]

        async def are_waiting() -> bool:
            jobs = (await service.stats())["jobs"]
            return bool(jobs["running"] == 2 and jobs["queued"] > CALLERS // 4)

        await eventually("they wait", are_waiting)
        looks = 0
        while not all(call.done() for call in calls):
            async with service.http.get("/health/live") as response:
                assert response.status == 200
            async with service.http.get("/health/ready") as response:
                assert response.status == 200
            assert_books_balance(await service.stats())
            looks += 1
        assert looks > 1
        assert {(await call).status for call in calls} == {200}


@shared
async def test_long_integers_are_exact(service: RunningService) -> None:
    for digits in (400, 5_000, 100_000):
        number = b"-" + b"7" * digits
        answer = await service.post("fine", data=b'{"x": %s}' % number)
        assert (answer.status, answer.body) == (200, number)


NO_OBJECT = {
    "nested objects": b'{"x":' * 100_000,
    "nested brackets": b"[" * 100_000,
    "closed brackets": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "cut off": b"{",
    "wrong UTF-8": b'{"x": "\xff"}',
    "no object": b"[1]",
}


@shared
async def test_a_body_that_holds_no_json_object_is_an_error_and_the_worker_survives(service: RunningService) -> None:
    before = await service.ready()
    for body in NO_OBJECT.values():
        answer = await service.post("fine", data=body)
        assert (answer.status, answer.slug) == (400, "invalid-json")
        assert "position" in answer.json()
    stats = await service.ready()
    assert stats["workers"][0]["pid"] == before["workers"][0]["pid"]
    assert stats["jobs"]["failed"] - before["jobs"]["failed"] == len(NO_OBJECT)


async def test_a_full_queue_rejects_and_says_when_to_retry() -> None:
    async with serving(TASKS, "--workers", "1", "--queue-limit", "4") as service:
        await service.ready()
        answers = await asyncio.gather(*(service.job("steady", {"ms": 100}) for _ in range(12)))
        rejected = [answer for answer in answers if answer.status != 200]
        assert 0 < len(rejected) <= 12 - 1 - 4
        assert {(answer.status, answer.slug) for answer in rejected} == {(503, "overloaded")}
        assert min(int(answer.headers["Retry-After"]) for answer in rejected) >= 1
        stats = await service.ready()
        assert (stats["jobs"]["rejected"], stats["rejections"]["overloaded"]) == (len(rejected), len(rejected))


async def test_large_bodies_and_results_delay_no_other_caller() -> None:
    text = b"x" * 8_000_000
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()

        async def echo() -> bytes:
            from io import BytesIO

            return (await service.post("echo", data=BytesIO(b'{"text": "%s"}' % text))).body

        large = [asyncio.create_task(echo()) for _ in range(4)]
        assert [(await service.job("fine", {"x": x})).json() for x in range(20)] == list(range(20))
        assert {await one == b'"%s"' % text for one in large} == {True}
        await service.ready()
