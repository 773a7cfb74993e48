"""Local and external Ray clusters: workers and the whole cluster die, and the service recovers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.clustered import begun, killed_at_the_end, ready_status, until_idle, write_tasks
from tests.service.processes.process_trees import are_gone
from tests.support.packages import needed_package
from tests.support.ray_cluster import ray_cluster
from tests.support.service import alive, assert_books_balance, descendants, eventually

needed_package("ray", "the engine ray is NOT tested (pip install '.[ray]')")


async def test_a_local_cluster_survives_kills_of_workers_and_of_its_driver_but_not_of_the_service(
    tmp_path: Path,
) -> None:
    short = Path(tempfile.mkdtemp(prefix="ray-"))  # Ray creates sockets in it, whose paths must be short
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    options: list[str | Path] = [write_tasks(tmp_path), "--engine", "ray", "--workers", "2"]
    async with killed_at_the_end(*options, HOME=str(tmp_path / "home"), TMPDIR=str(short)) as service:
        await until_idle(service, 2)
        first = asyncio.create_task(service.job("spin", {"path": str(one)}))
        second = asyncio.create_task(service.job("spin", {"path": str(two)}))
        (victim,), _ = await begun(one), await begun(two)
        os.kill(victim, signal.SIGKILL)
        answer = await first
        assert (answer.status, answer.slug) == (500, "worker-crashed")
        assert "its process died" in answer.json()["detail"]
        assert await begun(one) == [victim]
        assert not second.done()

        (driver,) = (pid for pid, command in service.processes().items() if "cluster.driver" in command)
        (survivor,) = await begun(two)
        family = {driver, survivor, *descendants(driver)}
        os.kill(driver, signal.SIGKILL)
        assert (await second).slug == "worker-crashed"
        await until_idle(service, 2)
        assert (await service.job("pid")).status == 200

        async def are_all_gone() -> bool:
            return not alive(family)

        await eventually("nothing is left of the cluster that was lost", are_all_gone)
        assert_books_balance(await service.stats())

        third = asyncio.create_task(service.job("spin", {"path": str(three)}))
        family = {*await begun(three), *service.processes()}
    await eventually("nothing is left of the service that was killed", are_all_gone)
    with pytest.raises(aiohttp.ClientError):
        await third
    assert not (tmp_path / "home").exists()
    shutil.rmtree(short)


async def test_slots_follow_an_external_cluster_which_is_found_again_after_a_loss(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with ray_cluster() as cluster:
        head = cluster.start_head()
        file = write_tasks(tmp_path)
        options: list[str | Path] = [file, "--engine", "ray", "--engine-address", cluster.address]
        async with killed_at_the_end(*options, **cluster.environment) as service:
            await until_idle(service, 1)
            file.unlink()  # later workers can load it only from its text
            cluster.start_node(cpus=2)
            await until_idle(service, 3)
            answers = [await service.job("pid") for _ in range(3)]
            assert [answer.status for answer in answers] == [200] * 3

            spinning = asyncio.create_task(service.job("spin", {"path": str(trace)}))
            await begun(trace)
            cluster.close()
            assert (await spinning).slug == "worker-crashed"

            async def is_not_ready() -> bool:
                return await ready_status(service) == 503

            await eventually("the service is not ready", is_not_ready)
            assert (await service.stats())["pool"]["error"]
            assert head.poll() is not None

            trace.unlink()
            cluster.start_head()
            await until_idle(service, 1)
            last = asyncio.create_task(service.job("spin", {"path": str(trace)}))
            (pid,) = await begun(trace)

        async def is_gone() -> bool:
            return are_gone([pid])

        await eventually("the job of a service that was killed has ended", is_gone)
        with pytest.raises(aiohttp.ClientError):
            await last
