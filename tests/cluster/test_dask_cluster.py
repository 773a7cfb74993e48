"""Local and external Dask clusters: workers join, leave and die, the scheduler dies, and the service recovers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cluster.clustered import begun, killed_at_the_end, ready_status, until_idle, write_tasks
from tests.service.processes.process_trees import are_gone
from tests.support.dask_cluster import dask_cluster
from tests.support.packages import needed_package
from tests.support.service import assert_books_balance, serving

needed_package("distributed", "the engine dask is NOT tested (pip install '.[dask]')")


async def test_slots_follow_the_workers_and_a_job_whose_worker_was_killed_does_not_begin_again(tmp_path: Path) -> None:
    file, trace = write_tasks(tmp_path), tmp_path / "trace"
    with dask_cluster(tmp_path / "cluster") as cluster:
        cluster.start_scheduler()
        cluster.start_worker(threads=2)
        async with serving(file, "--engine", "dask", "--engine-address", cluster.address) as service:
            await until_idle(service, 2)
            file.unlink()  # later workers can load it only from its text
            second = cluster.start_worker(threads=1)
            await until_idle(service, 3)
            assert [(await service.job("pid")).status for _ in range(3)] == [200] * 3

            spinning = asyncio.create_task(service.job("spin", {"path": str(trace)}))
            (victim,) = await begun(trace)
            os.kill(victim, signal.SIGKILL)
            answer = await spinning
            assert (answer.status, answer.slug) == (500, "worker-crashed")
            await until_idle(service, 3)
            assert await begun(trace) == [victim]
            assert (await service.job("pid")).status == 200

            second.terminate()
            await until_idle(service, 2)
            assert (await service.job("pid")).status == 200


async def test_a_lost_scheduler_is_reported_and_found_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with dask_cluster(tmp_path / "cluster") as cluster:
        scheduler, worker = cluster.start_scheduler(), cluster.start_worker(threads=1)
        async with serving(
            write_tasks(tmp_path), "--engine", "dask", "--engine-address", cluster.address, "--start-timeout", "5"
        ) as service:
            await until_idle(service, 1)
            spinning = asyncio.create_task(service.job("spin", {"path": str(trace)}))
            await begun(trace)
            waiting = asyncio.create_task(service.job("pid"))
            cluster.kill(scheduler)
            cluster.kill(worker)
            answers = [await spinning, await waiting]
            assert [(answer.status, answer.slug) for answer in answers] == [(500, "worker-crashed"), (503, "starting")]
            assert await ready_status(service) == 503
            assert (await service.job("pid")).slug == "starting"
            stats = await service.stats()
            assert stats["pool"]["error"]
            assert stats["workers"] == []
            assert_books_balance(stats)

            cluster.start_scheduler()
            cluster.start_worker(threads=1)
            await until_idle(service, 1)
            assert await ready_status(service) == 200
            assert (await service.job("pid")).status == 200
            assert (await service.stats())["pool"]["error"] is None


async def test_a_job_that_waits_in_the_cluster_is_withdrawn_at_its_deadline_and_never_begins(tmp_path: Path) -> None:
    """The only thread of the cluster runs a job of another service."""
    trace, other_trace = tmp_path / "trace", tmp_path / "other"
    with dask_cluster(tmp_path / "cluster") as cluster:
        cluster.start_scheduler()
        cluster.start_worker(threads=1)
        options: list[Any] = [write_tasks(tmp_path), "--engine", "dask", "--engine-address", cluster.address]
        async with serving(*options) as other, serving(*options) as service:
            for each in (other, service):
                await until_idle(each, 1)
            spinning = asyncio.create_task(other.job("spin", {"path": str(other_trace)}))
            await begun(other_trace)
            answer = await service.job("spin", {"path": str(trace)}, **{"Request-Timeout": "0.3"})
            assert (answer.status, answer.slug) == (504, "deadline-exceeded")
            await until_idle(service, 1)
            assert not spinning.done()
            other_trace.unlink()
            assert (await spinning).json() == "done"
            assert (await service.job("pid")).status == 200
            assert not trace.exists()


async def test_a_local_cluster_ends_when_the_service_is_killed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    options: list[str | Path] = [write_tasks(tmp_path), "--engine", "dask", "--workers", "2"]
    async with killed_at_the_end(*options, TMPDIR=str(tmp_path)) as service:
        await until_idle(service, 2)
        spinning = asyncio.create_task(service.job("spin", {"path": str(trace)}))
        (pid,) = await begun(trace)
    assert are_gone([pid])
    with pytest.raises(aiohttp.ClientError):
        await spinning
