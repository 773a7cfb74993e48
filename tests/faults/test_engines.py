"""Faults that a standard pool or executor does not survive by itself, over HTTP, on the engines built on them.

A fault costs its own job.  On engines that say so, a death that may leave a lock held also costs the jobs that run
beside it.  Afterwards the service is as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.test_fault_table import ROWS, TASKS, WORKERS, descriptors, pid_of_running
from tests.faults.victims import begin_waiting
from tests.support.service import RunningService, eventually, serving

ENGINES = ["pool", "executor"]
# The exit code of a library's worker whose queues are closed.
QUEUES_LOST = 1

NAMES = [
    "segfault",
    "os._exit(0)",
    "SIGSTOP",
    "endless loop in C under the GIL",
    "ignoring every signal",
    "grandchild holds the channel of a dead worker",
    "grandchild leaves the group and burns",
    "grandchild left behind by a crash",
    "death half-way through a huge result",
    "memory hog in a child",
    "forked child returns from the task",
    "a multiprocessing pool of its own",
]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> None:
    """Check after the module's service has ended: it keeps the queues that it creates during a test."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def service(request: pytest.FixtureRequest) -> AsyncIterator[RunningService]:
    async with serving(TASKS, "--workers", str(WORKERS), "--engine", request.param) as running:
        await running.ready()
        yield running


shared = pytest.mark.asyncio(loop_scope="module")


@shared
@pytest.mark.parametrize("name", NAMES)
async def test_one_fault_costs_one_job(service: RunningService, name: str) -> None:
    row = ROWS[name]
    await service.ready()
    processes = len(service.processes())
    beside = asyncio.create_task(service.job("steady", {"ms": 100}))
    answer = await service.job(row.task, row.arguments)
    assert answer.status == row.status, answer
    if row.slug:
        problem = answer.json()
        assert answer.slug == row.slug
        assert {key: problem.get(key) for key in row.fields} == row.fields
    else:
        assert answer.json() == row.result
    assert (await beside).status == 200
    await service.ready()

    async def is_as_before() -> bool:
        return not service.strays() and (row.leaves_helpers or len(service.processes()) <= processes)

    await eventually("nothing is left of the fault", is_as_before)


@shared
async def test_closing_every_descriptor_is_a_crash(service: RunningService) -> None:
    """A worker without queues cannot answer; the library sees it end between two jobs."""
    answer = await service.job("close_everything")
    assert (answer.slug, answer.json()["exit_code"]) == ("worker-crashed", QUEUES_LOST)
    await service.ready()


@shared
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_busy_worker_that_is_killed_costs_its_job(
    service: RunningService, number: signal.Signals, tmp_path: Path
) -> None:
    job, pid = await begin_waiting(service, tmp_path / "begun")
    os.kill(pid, number)
    answer = await job
    assert (answer.status, answer.slug, answer.json()["signal"]) == (500, "worker-crashed", number.name)
    await service.ready()


@shared
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_engine_survives_ten_signals_to_idle_workers(service: RunningService, number: signal.Signals) -> None:
    await service.ready()
    open_files = descriptors(service)
    for round in range(10):
        victim = (await service.ready())["workers"][round % WORKERS]["pid"]
        os.kill(victim, number)

        async def is_replaced(victim: int = victim) -> bool:
            return victim not in [worker["pid"] for worker in (await service.stats())["workers"]]

        await eventually("it is replaced", is_replaced)
        answers = await asyncio.gather(*(service.job("fine", {"x": number}) for number in range(2 * WORKERS)))
        assert [answer.json() for answer in answers] == list(range(2 * WORKERS))
    await service.ready()

    async def are_closed() -> bool:
        await service.job("fine")  # lets garbage collection close unused descriptors
        return descriptors(service) <= open_files + WORKERS

    await eventually("no more descriptors than before", are_closed)


@shared
async def test_jobs_sent_while_all_idle_workers_are_killed_are_done(service: RunningService) -> None:
    """No job had begun."""
    for worker in (await service.ready())["workers"]:
        with contextlib.suppress(ProcessLookupError):  # a pool ends the others once it sees one dead
            os.kill(worker["pid"], signal.SIGKILL)
    answers = await asyncio.gather(*(service.job("fine") for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    await service.ready()


@shared
async def test_a_caller_may_cancel_by_name(service: RunningService) -> None:
    job = asyncio.create_task(service.job("wait_for_signal"))
    await pid_of_running(service, "wait_for_signal")

    async def id_of() -> str | None:
        workers: list[dict[str, Any]] = (await service.stats())["workers"]
        return next((worker["job"] for worker in workers if worker["job"]), None)

    name = await eventually("it has a name", id_of)
    async with service.http.delete(f"/jobs/wait_for_signal/{name}") as response:
        assert response.status == 200
    assert (await job).slug == "cancelled"
    stats = await service.ready()
    assert stats["pool"]["restarts"]["cancel"] >= 1


@pytest.mark.parametrize(
    ("engine", "start_method"), [("pool", "forkserver"), ("pool", "fork"), ("executor", "spawn"), ("executor", "fork")]
)
async def test_every_start_method_serves_and_heals(engine: str, start_method: str, tmp_path: Path) -> None:
    flags = ["--workers", "2", "--engine", engine, "--start-method", start_method]
    async with serving(TASKS, *flags) as service:
        stats = await service.ready()
        os.kill(stats["workers"][0]["pid"], signal.SIGKILL)
        assert (await service.job("endless")).slug in ("job-timeout", "worker-crashed")
        await service.ready()
        assert (await service.job("leave", {"code": 4})).json()["exit_code"] == 4
        assert (await service.job("dies_twice", {"path": str(tmp_path / "attempts")})).json() == 3
        assert (await service.job("threads_at_import")).json() == "1"
        await service.ready()


@pytest.mark.parametrize("engine", ENGINES)
async def test_nothing_outlives_a_killed_service(engine: str) -> None:
    service = await RunningService.start(TASKS, "--workers", "2", "--engine", engine, env={"FAULT_LIMIT_S": "100"})
    try:
        await service.ready()
        jobs = [asyncio.create_task(service.job(name)) for name in ("grandchild_leaves_group", "endless_in_c")]

        async def both_run() -> bool:
            return bool((await service.stats())["jobs"]["running"] == len(jobs))

        await eventually("both jobs run", both_run)
    finally:
        service.kill()
        await asyncio.gather(*jobs, return_exceptions=True)
        await service.http.close()
        await service.process.wait()
        await service._reader
    await service.is_gone()
