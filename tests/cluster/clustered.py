"""Tasks for the tests on clusters, and functions that wait for them to run."""

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


async def at_strength(service: RunningService, slots: int) -> None:
    async def is_there() -> bool:
        states = [worker["state"] for worker in (await service.stats())["workers"]]
        return states == ["idle"] * slots

    await eventually(f"{slots} idle slots", is_there)


async def begun(path: Path) -> list[int]:
    """Wait until `spin` runs; return the processes that have begun it."""

    async def find() -> list[int]:
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    pids: list[int] = await eventually("it runs", find)
    return pids


async def status(service: RunningService) -> int:
    async with service.http.get("/health/ready") as response:
        return response.status


@contextlib.asynccontextmanager
async def killed_in_the_end(*arguments: str | Path, **environment: str) -> AsyncIterator[RunningService]:
    """Start a service that is killed at the end, and check that nothing of it is left."""
    service = await RunningService.start(*arguments, env=environment)
    try:
        yield service
        service.kill()
    finally:
        await service.stop()


def written(directory: Path) -> Path:
    path = directory / "tasks.py"
    path.write_text(TASKS)
    return path
