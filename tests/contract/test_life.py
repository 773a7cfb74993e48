"""An engine reports why it cannot start, rejects settings that it cannot honour, and drains."""

from __future__ import annotations

import asyncio
from concurrent.futures import process
from pathlib import Path
from typing import Any

import pytest

from offload.errors import SettingsError, TargetError
from offload.settings.table import EngineName, Settings
from tests.contract.engines import ROWS, Running, Spinning, ended, eventually, opened
from tests.project.generated_tables import promise_table

FACTORIES = "tests.contract.factories"


@pytest.mark.parametrize("row", ROWS)
async def test_a_drain_finishes_admitted_jobs_and_rejects_new_ones(row: str, tmp_path: Path) -> None:
    async with opened(row, workers=1) as running:
        await running.until_idle(workers=1)
        spinning = Spinning(running, tmp_path / "spin")
        await spinning.pid()
        waiting = running.begin("add", {"a": 1})
        draining = asyncio.create_task(running.service.drain())
        await asyncio.sleep(0)
        assert (await running.outcome("add", {"a": 1})).reason == "draining"
        spinning.finish()
        assert (await spinning.outcome()).reason == "succeeded"
        assert (await ended(*waiting)).reason == "succeeded"
        await draining
        await running.service.close()
        assert [worker["state"] for worker in running.stats()["workers"]] != ["busy"]


@pytest.mark.parametrize("row", ROWS)
async def test_a_job_that_outlasts_the_drain_is_stopped_and_answered(row: str, tmp_path: Path) -> None:
    async with opened(row, workers=1) as running:
        await running.until_idle(workers=1)
        spinning = Spinning(running, tmp_path / "spin")
        await spinning.pid()
        running.service.hurry()
        await running.service.drain()
        assert (await spinning.outcome()).reason == "stopped"
        if not running.can.stops_running_jobs:
            spinning.finish()
            await running.until_idle(workers=1)


@pytest.mark.parametrize("row", ROWS)
async def test_a_failing_hook_is_reported(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails before the first job or with it. Once the cause is gone, jobs are run."""
    broken = tmp_path / "broken"
    broken.touch()
    monkeypatch.setenv("CONTRACT_BROKEN", str(broken))
    async with opened(row) as running:
        if not running.can.starts_before_jobs:
            assert (await running.outcome("add", {"a": 1})).reason in ("worker-crashed", "starting")
        error: str = await eventually("the cause is reported", lambda: error_of(running))
        assert "@on_worker_start begin raised ValueError: the model is missing" in error
        if running.can.starts_before_jobs:
            assert running.stats()["service"]["state"] == "starting"
            assert (await running.outcome("add", {"a": 1})).reason == "starting"
        broken.unlink()
        if not running.can.starts_before_jobs:

            async def is_done() -> bool:
                return (await running.outcome("add", {"a": 1})).reason == "succeeded"

            await eventually("a job is done", is_done)
        await running.until_idle()
        assert await running.result("add", {"a": 1}) == 1
        assert running.stats()["pool"]["error"] is None


async def error_of(running: Running) -> str | None:
    error: str | None = running.stats()["pool"]["error"]
    return error


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("capability", "settings"),
    [
        ("keeps_spares", {"spares": 1}),
        ("retires_workers", {"max_jobs_per_worker": 1}),
        ("retires_workers", {"max_rss_per_worker": "1GiB"}),
    ],
)
async def test_a_setting_that_the_engine_does_not_support_is_an_error(
    row: str, capability: str, settings: dict[str, Any]
) -> None:
    faults: tuple[str, ...] = ()
    can: dict[str, bool] = {capability: False}
    try:
        async with opened(row, **settings) as running:
            can = running.can.as_dict()
    except SettingsError as error:
        faults = error.faults
    flag = "--" + next(iter(settings)).replace("_", "-")
    engine = ROWS[row].settings["engine"]
    fault = f"{flag} cannot be used with --engine {engine}; remove it, or use --engine supervised"
    assert list(faults) == ([] if can[capability] else [fault])


async def test_a_factory_needs_the_engine_executor() -> None:
    with pytest.raises(
        SettingsError, match="--executor cannot be used with --engine pool; remove it, or use --engine executor"
    ):
        async with opened("pool", executor=f"{FACTORIES}:no_executor"):
            pass


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        ("no.such.module:make", "no such module"),
        (f"{FACTORIES}:nothing", "the module has no such function"),
        (
            f"{FACTORIES}:no_executor",
            "the function did not return an executor: it raised OSError: the cluster cannot be reached",
        ),
    ],
)
async def test_a_factory_that_returns_no_executor_is_reported(factory: str, problem: str) -> None:
    with pytest.raises(TargetError) as raised:
        async with opened("executor", executor=factory):
            pass
    assert problem in raised.value.problem


@pytest.mark.parametrize("row", ["pool", "executor"])
async def test_the_interpreter_does_not_wait_for_the_library_at_exit(row: str) -> None:
    """Waiting could take forever: for a lock that a dead worker holds, or for a thread that waits for one."""
    async with opened(row) as running:
        await running.until_idle()
        engine: Any = running.engine
        for pool in engine._pools:
            if row == "pool":
                assert not pool._pool._pool._terminate.still_active()
            else:
                assert pool._pool._manager not in process._threads_wakeups
                assert pool._pool._manager.daemon


def test_the_default_keeps_all_promises() -> None:
    table = promise_table()
    assert [line.split(" | ")[1].strip() for line in table[2:]] == ["yes"] * (len(table) - 2)
    assert Settings().engine is EngineName.SUPERVISED
