"""A real service under overload and with jobs that kill its workers: who is served and who is rejected."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.service import RunningService, assert_books_balance, eventually, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"
FLOOD = 150


def call(service: RunningService, client: str, ms: int) -> asyncio.Task[int]:
    async def status() -> int:
        return (await service.job("steady", {"ms": ms}, **{"X-Forwarded-For": client})).status

    return asyncio.create_task(status())


async def test_a_flood_of_one_caller_does_not_delay_another() -> None:
    async with serving(TASKS, "--workers", "2", "--client-header", "X-Forwarded-For") as service:
        await service.ready()
        flood = [call(service, "192.0.2.1", 20) for _ in range(FLOOD)]

        async def most_wait() -> bool:
            clients = (await service.stats())["queue"]["clients"]
            return bool(clients["most_queued"] > FLOOD * 2 / 3)

        await eventually("the flood waits", most_wait)
        assert await call(service, "203.0.113.7", 20) == 200
        stats = await service.stats()
        assert stats["jobs"]["queued"] > FLOOD / 3
        assert_books_balance(stats)
        assert set(await asyncio.gather(*flood)) == {200}


async def test_a_job_that_always_kills_its_worker_is_rejected_and_others_are_served() -> None:
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()
        for _ in range(3):
            assert (await service.job("leave", {"code": 3})).slug == "worker-crashed"
        rejected = await service.job("leave", {"code": 3})
        assert (rejected.status, rejected.slug, rejected.json()["crashes"]) == (422, "quarantined", 3)
        assert (await service.job("leave", {"code": 4})).slug == "worker-crashed"
        assert (await service.job("fine", {"x": 7})).json() == 7
        stats = await service.ready()
        assert (stats["queue"]["quarantined"], stats["rejections"]["quarantined"]) == (1, 1)
