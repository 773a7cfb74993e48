"""Silent hazards: copied random seeds, processes left behind, a log that is not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.service import BOUND_S, alive, eventually, serving

TASKS = Path(__file__).with_name("hazard_tasks.py")


@pytest.mark.parametrize("start_method", ["forkserver", "fork"])
async def test_workers_have_their_own_random_numbers(start_method: str) -> None:
    """Copies of a process have the same random state, in Python and in NumPy."""
    async with serving(TASKS, "--workers", "1", "--start-method", start_method) as service:
        throws = []
        for _ in range(3):
            await service.ready()
            throws.append((await service.job("dice")).json())
            assert (await service.job("leave")).slug == "worker-crashed"
    for thrown in zip(*throws, strict=True):
        assert len(set(thrown)) == len(throws)


# Under `fork`, a process in its own session is not found.
@pytest.mark.parametrize(
    ("start_method", "has_own_session"), [("forkserver", False), ("forkserver", True), ("spawn", True), ("fork", False)]
)
async def test_what_a_job_leaves_running_ends_with_its_worker(start_method: str, has_own_session: bool) -> None:
    """It ends with the worker, by crash or retirement, and not with another job."""
    flags = ("--workers", "1", "--max-jobs-per-worker", "3", "--start-method", start_method)
    async with serving(TASKS, *flags) as service:
        for last_job, status in (("leave", 500), ("fine", 200)):
            await service.ready()
            helper = (await service.job("leave_helper", {"has_own_session": has_own_session})).json()
            assert (await service.job("fine")).status == 200
            assert alive({helper})
            assert (await service.job(last_job)).status == status
            await eventually(f"it has ended after {last_job}", partial(is_gone, helper))
        restarts = (await service.ready())["pool"]["restarts"]
        assert (restarts["crash"], restarts["retire"]) == (1, 1)


async def is_gone(pid: int) -> bool:
    return not alive({pid})


async def test_an_unread_log_blocks_neither_jobs_nor_the_end(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        async with unread(write, tmp_path / "socket") as (service, http):
            await eventually("it is ready", lambda: answers(http, "/health/ready"))

            async def is_full() -> bool:
                assert await answers(http, "/jobs/noise", "{}")
                return not select.select([], [write], [], 0)[1]

            await eventually("the pipe is full", is_full)
            for _ in range(50):
                assert await answers(http, "/jobs/noise", "{}")
                assert await answers(http, "/health/live")
            service.terminate()
            assert await asyncio.wait_for(service.wait(), BOUND_S) == 0
    finally:
        os.close(write)
        os.close(read)


@asynccontextmanager
async def unread(log: int, path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    """Start a service whose stderr is `log`, and a client at its Unix socket `path`."""
    flags = ("--workers", "1", "--port", "0", "--uds", str(path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offload", "serve", str(TASKS), *flags), stdin=asyncio.subprocess.DEVNULL, stderr=log
    )
    connector, timeout = aiohttp.UnixConnector(str(path)), aiohttp.ClientTimeout(total=BOUND_S)
    try:
        async with aiohttp.ClientSession("http://offload", connector=connector, timeout=timeout) as http:
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answers(http: aiohttp.ClientSession, path: str, body: str | None = None) -> bool:
    """Return whether the answer has status 200."""
    with contextlib.suppress(aiohttp.ClientConnectionError):
        async with http.request("GET" if body is None else "POST", path, data=body) as response:
            return response.status == 200
    return False
