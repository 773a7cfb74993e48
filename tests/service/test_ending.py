"""Ending a job ends its work: the CPU is free, the lane is back, and each caller gets one answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.service import RunningService, alive, assert_books_balance, eventually, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"

shared = pytest.mark.asyncio(loop_scope="module")


async def running(service: RunningService, task: str) -> dict[str, Any]:
    """Wait until the task runs; return its worker's row in `/stats`."""

    async def find() -> dict[str, Any] | None:
        return next((worker for worker in (await service.stats())["workers"] if worker["task"] == task), None)

    row: dict[str, Any] = await eventually(f"{task} runs", find)
    return row


async def is_free_again(service: RunningService, worker: dict[str, Any]) -> dict[str, Any]:
    """Wait until the worker is gone and its lane is back; return the `/stats` of that moment."""

    async def is_gone() -> bool:
        return not alive({worker["pid"]})

    await eventually("the work has ended", is_gone)
    stats = await service.ready()
    assert [row["lane"] for row in stats["workers"]] == [worker["lane"]]
    assert [row["pid"] for row in stats["workers"]] != [worker["pid"]]
    return stats


@shared
async def test_the_callers_budget_ends_the_work(service: RunningService) -> None:
    before = await service.stats()
    call = asyncio.create_task(service.job("steady", {"ms": 20_000}, **{"Request-Timeout": "0.3"}))
    worker = await running(service, "steady")
    answer = await call
    assert (answer.status, answer.slug, answer.json()["stage"]) == (504, "deadline-exceeded", "running")
    stats = await is_free_again(service, worker)
    assert stats["jobs"]["timed_out"] - before["jobs"]["timed_out"] == 1
    assert stats["pool"]["restarts"]["timeout"] - before["pool"]["restarts"]["timeout"] == 1


@shared
async def test_a_disconnect_ends_the_work(service: RunningService) -> None:
    before = await service.stats()
    call = asyncio.create_task(service.job("steady", {"ms": 20_000}))
    worker = await running(service, "steady")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    stats = await is_free_again(service, worker)
    assert stats["jobs"]["cancelled"] - before["jobs"]["cancelled"] == 1
    assert stats["pool"]["restarts"]["cancel"] - before["pool"]["restarts"]["cancel"] == 1


@shared
async def test_delete_ends_the_work_and_answers_its_caller(service: RunningService) -> None:
    call = asyncio.create_task(service.job("steady", {"ms": 20_000}))
    worker = await running(service, "steady")
    async with service.http.delete(f"/jobs/steady/{worker['job']}") as response:
        document = await response.json()
        assert (response.status, document["state"], document["id"]) == (200, "cancelled", worker["job"])
    answer = await call
    assert (answer.status, answer.slug, answer.headers["Job-Id"]) == (409, "cancelled", worker["job"])
    await is_free_again(service, worker)
    async with service.http.delete(f"/jobs/steady/{worker['job']}") as response:
        assert response.status == 404


@shared
async def test_a_queued_job_is_cancelled_and_the_running_one_continues(service: RunningService) -> None:
    before = await service.stats()
    first = asyncio.create_task(service.job("steady", {"ms": 600}))
    worker = await running(service, "steady")
    second = asyncio.create_task(service.job("steady", {"ms": 1}))
    third = await service.job("steady", {"ms": 1}, **{"Request-Timeout": "0.1"})
    # Rejected at once if its wait is known to be too long, else ended in the queue.
    assert third.status in (503, 504)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    answer = await first
    assert (answer.status, answer.json()) == (200, worker["pid"])
    stats = await service.ready()
    assert stats["pool"]["restarts"] == before["pool"]["restarts"]


async def test_a_result_and_its_timeout_at_the_same_time_are_one_outcome() -> None:
    """Each job's budget is close to its run time; each is answered once and counted once."""
    total, callers = 200, 4
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()
        numbers = iter(range(total))
        slugs: Counter[str] = Counter()

        async def call() -> None:
            for number in numbers:
                # The first job cannot be done in time, nor rejected yet; every 50th can be done on any machine.
                budget_s = 0.002 + 0.016 * (number % 50) / 50 if number % 50 != 49 else 30
                answer = await service.job("steady", {"ms": 4}, **{"Request-Timeout": f"{budget_s:.5f}"})
                slugs["succeeded" if answer.status == 200 else answer.slug] += 1

        await asyncio.gather(*(call() for _ in range(callers)))
        stats = await service.ready()
        assert_books_balance(stats)
        assert slugs.total() == stats["jobs"]["submitted"] == total
        assert set(slugs) <= {"succeeded", "deadline-exceeded", "overloaded"}
        assert slugs["succeeded"] == stats["jobs"]["succeeded"]
        assert slugs["deadline-exceeded"] == stats["jobs"]["timed_out"]
        assert slugs["overloaded"] == stats["jobs"]["rejected"]
        assert min(slugs["succeeded"], slugs["deadline-exceeded"]) > 0
        assert stats["pool"]["restarts"]["crash"] == 0


async def test_callers_that_disconnect_during_their_answer_leave_nothing() -> None:
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()

        async def impatient(number: int) -> None:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(0.0005 * (number % 16)):
                    await service.job("steady", {"ms": 2})

        for start in range(0, 160, 8):
            await asyncio.gather(*(impatient(number) for number in range(start, start + 8)))
        stats = await service.ready()
        assert_books_balance(stats)
        assert stats["pool"]["restarts"]["crash"] == 0
        assert (await service.job("fine")).status == 200
