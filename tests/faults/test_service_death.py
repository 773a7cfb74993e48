"""However the service ends, nothing of it lives on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.service import RunningService, alive, eventually

TASKS = Path(__file__).with_name("fault_tasks.py")

# What the promise says; on a machine that is busy with nothing else it takes a tenth of it.
GONE_WITHIN_S = 2.0


async def busy_service(*arguments: str) -> tuple[RunningService, list[asyncio.Task[object]]]:
    service = await RunningService.start(TASKS, "--workers", "2", *arguments)
    await service.ready()
    jobs: list[asyncio.Task[object]] = [
        asyncio.create_task(service.job("grandchild_leaves_group", {})),
        asyncio.create_task(service.job("endless_in_c")),
    ]

    async def both_run() -> bool:
        return bool((await service.stats())["jobs"]["running"] == len(jobs))

    await eventually("both jobs run", both_run)
    return service, jobs


async def end_of(service: RunningService, jobs: list[asyncio.Task[object]]) -> None:
    await asyncio.gather(*jobs, return_exceptions=True)
    await service.http.close()
    await service.process.wait()
    await service._reader


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
async def test_nothing_outlives_a_killed_service(start_method: str) -> None:
    """`kill -9` while jobs run, one of them a double fork in a session of its own, one in C under the GIL."""
    service, jobs = await busy_service("--start-method", start_method)
    family = set(service.processes())
    assert len(family) >= 5
    service.kill()

    async def is_gone() -> bool:
        return not alive(family)

    await eventually("nothing of the service is left", is_gone, bound_s=GONE_WITHIN_S)
    await end_of(service, jobs)


async def test_a_killed_guard_is_replaced() -> None:
    """The guard that ends what a killed service leaves may be killed itself: the next one knows the workers too."""
    service, jobs = await busy_service()
    guards = [pid for pid, command in service.processes().items() if "guard import main" in command]
    assert len(guards) == 1
    os.kill(guards[0], signal.SIGKILL)

    async def is_replaced() -> bool:
        now = [pid for pid, command in service.processes().items() if "guard import main" in command]
        return bool(now) and now != guards

    await eventually("another guard", is_replaced)
    family = set(service.processes())
    service.kill()

    async def is_gone() -> bool:
        return not alive(family)

    await eventually("nothing of the service is left", is_gone, bound_s=GONE_WITHIN_S)
    await end_of(service, jobs)
