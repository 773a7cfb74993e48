"""An engine on a standard pool or executor releases everything when it closes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from offload.engines.base import ServedEngine
from offload.engines.executor import executor_engine
from offload.engines.local.replaceable_pool import PoolState, ReplaceablePool
from offload.engines.pool import pool_engine
from offload.errors import IllegalStep
from offload.metrics.layout import WorkerRows
from offload.processes.launcher import Launcher
from offload.processes.process import ProcessHandle
from offload.settings.table import EngineName, Settings
from offload.tasks.loading import parse_target
from offload.wire.spec import LoadSpec
from tests.service.engines.supervised_engine import TASKS, RecordedEvents

GRACE_S = 0.2


@pytest.mark.parametrize("name", ["pool", "executor"])
async def test_workers_whose_end_is_not_seen_leave_no_descriptor(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a starved core; the check around every test looks for descriptors."""
    path = tmp_path / "tasks.py"
    path.write_text(TASKS)
    load = LoadSpec(targets=(parse_target(str(path)),), library_threads=1)
    settings = Settings(workers=2, engine=EngineName(name))
    launcher = Launcher(settings.start_method, load)
    launcher.warm_up()
    launcher.open()
    make = pool_engine if name == "pool" else executor_engine
    metrics = WorkerRows(2)
    engine: ServedEngine = make(settings=settings, workers=2, launcher=launcher, load=load, metrics=metrics)
    events = RecordedEvents()
    monkeypatch.setattr(ProcessHandle, "_on_descriptor", lambda handle: None)
    try:
        await engine.open(events)
        await events.until(lambda: len(events.all("ready")) == 2)
        async with asyncio.timeout(30.0):
            await engine.close(GRACE_S)
    finally:
        await launcher.close()


async def test_a_step_of_a_pool_that_is_not_in_the_table_changes_nothing() -> None:
    unused: Any = None
    pool = ReplaceablePool(kind=unused, slots=range(2), worker_set=unused, table=unused, load=b"")
    with pytest.raises(IllegalStep, match="pool of slot 0 is closed: open is not possible"):
        pool._step(PoolState.OPEN)
    pool.end()
    pool.begin_close()
    assert pool.closed.is_set()
