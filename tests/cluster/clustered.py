"""Tasks for the tests on clusters, and services that run them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.service import RunningService, eventually

TASKS = """
import os
import time
from offload import task

@task
def pid() -> int:
    return os.getpid()

@task(timeout=60)
def spin(path: str) -> str:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
    end = time.monotonic() + 60
    while os.path.exists(path) and time.monotonic() < end:
        pass
    return "done"
"""


async def until_idle(service: RunningService, slots: int) -> None:
    """Waits until the service has this number of slots, all of them idle."""

    async def are_idle() -> bool:
        states = [worker["state"] for worker in (await service.stats())["workers"]]
        return states == ["idle"] * slots

    await eventually(f"{slots} idle slots", are_idle)


async def begun(path: Path) -> list[int]:
    """Waits until `spin` runs; returns the ids of the processes that have begun it."""

    async def find() -> list[int]:
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    pids: list[int] = await eventually("it runs", find)
    return pids


async def ready_status(service: RunningService) -> int:
    async with service.http.get("/health/ready") as response:
        return response.status


@contextlib.asynccontextmanager
async def killed_at_the_end(*arguments: str | Path, **environment: str) -> AsyncIterator[RunningService]:
    """Starts a service and kills it at the end; afterwards nothing of it is left, whatever it was doing."""
    service = await RunningService.start(*arguments, env=environment)
    try:
        yield service
        service.kill()
    finally:
        await service.stop()


def write_tasks(directory: Path) -> Path:
    path = directory / "tasks.py"
    path.write_text(TASKS)
    return path
