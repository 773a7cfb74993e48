"""A stopping service is not ready at once, finishes accepted jobs, and exits with code 0."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.service import RunningService, alive, eventually, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"


async def running(service: RunningService, count: int) -> None:
    async def do_run() -> bool:
        return bool((await service.stats())["jobs"]["running"] == count)

    await eventually(f"{count} jobs run", do_run)


async def drains(service: RunningService) -> None:
    async def is_draining() -> bool:
        return bool((await service.stats())["service"]["state"] == "draining")

    await eventually("it drains", is_draining)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_and_queued_jobs_finish_and_new_ones_are_rejected(number: signal.Signals) -> None:
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()
        jobs = [asyncio.create_task(service.job("steady", {"ms": 400})) for _ in range(2)]
        await running(service, 1)
        service.process.send_signal(number)
        await drains(service)
        rejected = await service.job("fine")
        assert (rejected.status, rejected.slug) == (503, "draining")
        assert int(rejected.headers["Retry-After"]) >= 1
        async with service.http.get("/health/ready") as response:
            assert response.status == 503
        assert [answer.status for answer in await asyncio.gather(*jobs)] == [200, 200]
        assert await service.process.wait() == 0


async def test_a_job_that_outlasts_the_drain_is_stopped_and_answered() -> None:
    async with serving(TASKS, "--workers", "1", "--drain-timeout", "0.3") as service:
        await service.ready()
        jobs = [asyncio.create_task(service.job("wait_for_signal")) for _ in range(2)]
        await running(service, 1)
        service.process.terminate()
        answers = await asyncio.gather(*jobs)
        assert [(answer.status, answer.slug) for answer in answers] == [(503, "draining")] * 2
        assert await service.process.wait() == 0


async def test_a_second_signal_ends_the_drain() -> None:
    async with serving(TASKS, "--workers", "1", "--drain-timeout", "1000") as service:
        await service.ready()
        job = asyncio.create_task(service.job("wait_for_signal"))
        await running(service, 1)
        service.process.terminate()
        await drains(service)
        service.process.terminate()
        answer = await job
        assert (answer.status, answer.slug) == (503, "draining")
        assert await service.process.wait() == 0


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
async def test_what_a_successful_job_left_running_ends_with_the_service(start_method: str) -> None:
    async with serving(TASKS, "--workers", "1", "--start-method", start_method) as service:
        await service.ready()
        answer = await service.job("grandchild_holds_channel", {"mode": "succeed"})
        assert answer.status == 200
        assert alive({answer.json()})
    assert not alive({answer.json()})


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    import aiohttp

    path = tmp_path / "offload.sock"
    async with serving(TASKS, "--workers", "1", "--port", "0", "--uds", path) as service:
        await service.ready()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
            client.post("http://offload/jobs/fine", json={"x": 3}) as response,
        ):
            assert await response.json() == 3
    assert not path.exists()


async def test_a_signal_to_a_process_of_an_executor_leaves_the_service_running(tmp_path: Path) -> None:
    """One that is forked from the service shares what wakes the service's event loop."""
    tasks = tmp_path / "tasks.py"
    tasks.write_text(
        "import os, signal\n"
        "from offload import task\n"
        "@task\n"
        "def end() -> None: os.kill(os.getpid(), signal.SIGTERM)\n"
        "@task\n"
        "def one() -> int: return 1\n"
    )
    (tmp_path / "factory.py").write_text(
        "import multiprocessing, concurrent.futures\n"
        "def forking(workers):\n"
        "    context = multiprocessing.get_context('fork')\n"
        "    return concurrent.futures.ProcessPoolExecutor(workers, context)\n"
    )
    arguments = (tasks, "--workers", "1", "--engine", "executor", "--executor", "factory:forking")
    async with serving(*arguments, env={"PYTHONPATH": str(tmp_path)}) as service:
        await service.ready()
        assert (await service.job("end")).slug == "worker-crashed"

        async def is_served() -> bool:
            return (await service.job("one")).status == 200

        await eventually("a job is served", is_served)
        assert (await service.stats())["service"]["state"] != "draining"
