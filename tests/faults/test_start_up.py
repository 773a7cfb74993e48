"""Workers that cannot start are reported, delayed, never ready, and recover when the cause is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import RunningService, eventually, serving

TASKS = Path(__file__).with_name("start_tasks.py")
WORKERS = 2

FAULTS = {
    "raise": "ValueError: the model is missing",
    "exit": "SystemExit: 3",
    "die": "exited with code 9",
    "hang": "not ready within",
}
# For starts that hang: several times as long as a normal start.
START_TIMEOUT_S = 1


class Faults:
    """Files that say what the start hook of each lane's worker does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.env = {"START_FAULTS": str(folder)}

    def begin(self, fault: str) -> None:
        for lane in range(WORKERS):
            (self._folder / str(lane)).write_text(fault)

    def end(self, lane: int) -> None:
        (self._folder / str(lane)).unlink()


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


async def failing(service: RunningService) -> dict[str, Any] | None:
    stats = await service.stats()
    return stats if stats["pool"]["error"] else None


async def job_is_done(service: RunningService) -> bool:
    return (await service.job("lane")).status == 200


@pytest.mark.parametrize(
    ("fault", "start_method"),
    [*((fault, "forkserver") for fault in FAULTS), ("die", "spawn"), ("die", "fork"), ("hang", "fork")],
)
async def test_a_failing_start_hook_is_reported_and_affects_no_other_worker(
    faults: Faults, fault: str, start_method: str
) -> None:
    """While no worker can start, the service says why it rejects jobs; while one cannot, the others run them."""
    faults.begin(fault)
    timeout = ["--start-timeout", str(START_TIMEOUT_S)] if fault == "hang" else []
    workers = ["--workers", str(WORKERS), "--start-method", start_method]
    async with serving(TASKS, *workers, *timeout, env=faults.env) as service:
        stats = await eventually("the error is in /stats", lambda: failing(service))
        assert FAULTS[fault] in stats["pool"]["error"]
        assert stats["service"]["state"] == "starting"
        await assert_is_not_ready(service)

        async def is_logged() -> bool:
            return any("worker failed to start" in line and FAULTS[fault] in line for line in service.log)

        await eventually("the log says why", is_logged)

        faults.end(0)
        await eventually("a job is done", lambda: job_is_done(service))
        stats = await eventually("the other worker fails again", lambda: failing(service))
        assert FAULTS[fault] in stats["pool"]["error"]
        answers = await asyncio.gather(*(service.job("lane") for _ in range(20)))
        assert [(answer.status, answer.json()) for answer in answers] == [(200, [0])] * 20

        faults.end(1)
        stats = await service.ready()
        assert stats["pool"]["error"] is None


async def assert_is_not_ready(service: RunningService) -> None:
    answer = await service.job("lane")
    assert (answer.status, answer.slug) == (503, "starting")
    assert int(answer.headers["Retry-After"]) >= 1
    async with service.http.get("/health/ready") as response:
        assert response.status == 503
    async with service.http.get("/health/live") as response:
        assert response.status == 200


async def test_repeated_failing_starts_are_delayed_and_recover(faults: Faults) -> None:
    """Ready workers die and their successors cannot start: jobs are rejected until the cause is gone."""
    async with serving(TASKS, "--workers", str(WORKERS), env=faults.env) as service:
        await service.ready()
        faults.begin("raise")
        for _ in range(WORKERS):
            answer = await service.job("leave")
            assert (answer.status, answer.slug) == (500, "worker-crashed")

        async def is_starting() -> bool:
            return bool((await service.stats())["service"]["state"] == "starting")

        await eventually("the service says that it is starting", is_starting)
        await assert_is_not_ready(service)
        for lane in range(WORKERS):
            faults.end(lane)
        stats = await service.ready()
        assert stats["pool"]["error"] is None
        assert (await service.job("lane")).status == 200


async def test_a_hook_knows_its_lane(faults: Faults) -> None:
    async with serving(TASKS, "--workers", str(WORKERS), env=faults.env) as service:
        await service.ready()
        answers = await asyncio.gather(*(service.job("lane") for _ in range(20)))
        assert {tuple(answer.json()) for answer in answers} <= {(0,), (1,)}
