"""However the service ends, none of its processes survives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.service import RunningService, eventually

TASKS = Path(__file__).with_name("fault_tasks.py")

# The promise; an idle machine needs a tenth of it.
GONE_WITHIN_S = 2.0


@contextlib.asynccontextmanager
async def busy_service(*arguments: str) -> AsyncIterator[RunningService]:
    """Start a service with two jobs: a grandchild that burns a core in its own session, and C code holding the GIL."""
    service = await RunningService.start(TASKS, "--workers", "2", *arguments, env={"FAULT_LIMIT_S": "100"})
    await service.ready()
    jobs = [asyncio.create_task(service.job(name)) for name in ("grandchild_leaves_group", "endless_in_c")]

    async def both_run() -> bool:
        return bool((await service.stats())["jobs"]["running"] == len(jobs))

    async def is_escaped() -> bool:
        return bool(escaped(service))

    await eventually("both jobs run", both_run)
    await eventually("the grandchild has left", is_escaped)
    try:
        yield service
    finally:
        service.kill()
        await asyncio.gather(*jobs, return_exceptions=True)
        await service.http.close()
        await service.process.wait()
        await service._reader


def escaped(service: RunningService) -> set[int]:
    """Return the service's processes in a session whose leader has ended."""
    family = service.remains() | {service.pid}
    sessions = {}
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            sessions[pid] = os.getsid(pid)
    return {pid for pid, session in sessions.items() if session not in family}


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
async def test_nothing_outlives_a_killed_service(start_method: str) -> None:
    async with busy_service("--start-method", start_method) as service:
        service.kill()
        await service.is_gone(GONE_WITHIN_S)


def guards(service: RunningService) -> list[int]:
    return [pid for pid, command in service.processes().items() if "guard import main" in command]


async def test_a_killed_guard_is_replaced() -> None:
    """A guard that replaces a killed one knows the workers too."""
    async with busy_service() as service:
        (guard,) = guards(service)
        os.kill(guard, signal.SIGKILL)

        async def is_replaced() -> bool:
            return guards(service) not in ([], [guard])

        await eventually("another guard", is_replaced)
        service.kill()
        await service.is_gone(GONE_WITHIN_S)
