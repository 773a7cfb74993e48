"""Workers that cannot start: told, braked, never counted as ready, and healed as soon as the cause is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import RunningService, eventually, serving

TASKS = Path(__file__).with_name("start_tasks.py")
METHODS = ["forkserver", "spawn", "fork"]

FAULTS = {
    "raise": "ValueError: the model is missing",
    "exit": "SystemExit: 3",
    "die": "exited with code 9",
    "hang": "not ready within 0.5 s",
}


async def failing(service: RunningService) -> dict[str, Any] | None:
    stats = await service.stats()
    return stats if stats["pool"]["error"] else None


@pytest.mark.parametrize("start_method", METHODS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_start_hook_that_fails_is_told(fault: str, start_method: str) -> None:
    """The service stays up and says why it takes no jobs: 503, not ready, the reason in `/stats` and in the log."""
    timeout = ["--start-timeout", "0.5"] if fault == "hang" else []
    async with serving(
        TASKS, "--workers", "1", "--start-method", start_method, *timeout, env={"START_FAULT": fault}
    ) as service:
        stats = await eventually("the error is in /stats", lambda: failing(service))
        assert FAULTS[fault] in stats["pool"]["error"]
        assert stats["service"]["state"] == "starting"
        answer = await service.job("lane")
        assert (answer.status, answer.slug) == (503, "starting")
        assert int(answer.headers["Retry-After"]) >= 1
        async with service.http.get("/health/ready") as response:
            assert response.status == 503
        async with service.http.get("/health/live") as response:
            assert response.status == 200

        async def is_logged() -> bool:
            return any("worker failed to start" in line and FAULTS[fault] in line for line in service.log)

        await eventually("the log says why", is_logged)


async def test_start_ups_that_keep_failing_are_braked_and_heal(tmp_path: Path) -> None:
    """Workers die after they were ready, their successors cannot start: who waits is told; then the cause goes away."""
    broken = tmp_path / "broken"
    env = {"START_FAULT": "raise", "START_FAULT_WHILE": str(broken)}
    async with serving(TASKS, "--workers", "2", env=env) as service:
        await service.ready()
        broken.touch()
        for _ in range(2):
            answer = await service.job("leave")
            assert (answer.status, answer.slug) == (500, "worker-crashed")

        async def is_starting() -> bool:
            return bool((await service.stats())["service"]["state"] == "starting")

        await eventually("the service says that it is starting", is_starting)
        answer = await service.job("lane")
        assert (answer.status, answer.slug) == (503, "starting")
        broken.unlink()
        stats = await service.ready()
        assert stats["pool"]["error"] is None
        assert (await service.job("lane")).status == 200


async def test_a_hook_knows_its_lane() -> None:
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()
        answers = await asyncio.gather(*(service.job("lane") for _ in range(20)))
        assert {tuple(answer.json()) for answer in answers} <= {(0,), (1,)}
