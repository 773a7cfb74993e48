"""An engine on a standard pool or executor: the states of its workers, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from offload.engines.executor import FuturesKind
from offload.engines.local.engine import LocalEngine
from offload.engines.local.replaceable_pool import PoolKind, PoolState, ReplaceablePool, WorkerPool
from offload.engines.pool import MultiprocessingKind
from offload.errors import IllegalStep
from offload.metrics.layout import WorkerRows
from offload.processes.launcher import Launcher
from offload.processes.process import ProcessHandle
from offload.processes.worker_state import WorkerState
from offload.settings.table import EngineName, Settings
from offload.tasks.targets.loading import parse_target
from offload.wire.spec import LoadSpec
from tests.service.engines.supervised_engine import TASKS, RecordedEvents
from tests.support.web_service import BOUND_S, eventually

GRACE_S = 0.2


KINDS: dict[str, type[MultiprocessingKind | FuturesKind]] = {"pool": MultiprocessingKind, "executor": FuturesKind}


@contextlib.asynccontextmanager
async def unopened_engine(kind: PoolKind, folder: Path) -> AsyncIterator[LocalEngine]:
    path = folder / "tasks.py"
    path.write_text(TASKS)
    load = LoadSpec(targets=(parse_target(str(path)),), library_threads=1, max_body_bytes=1 << 25)
    settings = Settings(workers=2, engine=EngineName(kind.name))
    launcher = Launcher(settings.start_method, load)
    launcher.warm_up()
    launcher.open()
    try:
        yield LocalEngine(kind=kind, settings=settings, workers=2, launcher=launcher, load=load, metrics=WorkerRows(2))
    finally:
        await launcher.close()


@pytest.mark.parametrize("name", KINDS)
async def test_workers_whose_end_is_not_seen_leave_no_descriptor(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a starved core; the check around every test looks for descriptors."""
    events = RecordedEvents()
    monkeypatch.setattr(ProcessHandle, "_on_descriptor", lambda handle: None)
    async with unopened_engine(KINDS[name](), tmp_path) as engine:
        await engine.open(events)
        await events.until(lambda: len(events.all("ready")) == 2)
        async with asyncio.timeout(30.0):
            await engine.close(GRACE_S)


@pytest.mark.parametrize("name", KINDS)
async def test_a_worker_is_shown_as_idle_once_its_pool_is_open(name: str, tmp_path: Path) -> None:
    """Workers may be ready before the call that makes their pool returns."""
    kind, may_return = KINDS[name](), threading.Event()

    class LateKind:
        name = kind.name
        capabilities = kind.capabilities
        slots_per_pool = staticmethod(kind.slots_per_pool)
        survives = staticmethod(kind.survives)

        def make(self, *arguments: Any) -> WorkerPool:
            pool = kind.make(*arguments)
            may_return.wait(BOUND_S)
            return pool

    events = RecordedEvents()
    async with unopened_engine(LateKind(), tmp_path) as engine:
        await engine.open(events)
        workers = engine._worker_set.workers
        await eventually("ready", lambda: [worker.state for worker in workers.values()] == [WorkerState.IDLE] * 2)
        assert [facts.state for facts in engine.worker_facts()] == ["starting", "starting"]
        may_return.set()
        await events.until(lambda: len(events.all("ready")) == 2)
        assert [facts.state for facts in engine.worker_facts()] == ["idle", "idle"]
        await engine.close(GRACE_S)


async def test_a_step_of_a_pool_that_is_not_in_the_table_changes_nothing() -> None:
    unused: Any = None
    pool = ReplaceablePool(kind=unused, slots=range(2), worker_set=unused, table=unused, load=b"")
    with pytest.raises(IllegalStep, match="pool of slot 0 is closed: open is not possible"):
        pool._step(PoolState.OPEN)
    pool.end()
    pool.begin_close()
    assert pool.closed.is_set()
