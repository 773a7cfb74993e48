"""A cluster engine with a real driver and a fake cluster."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from offload.core.job import Job
from offload.core.request import TaskLimits
from offload.engines.cluster.dask import CAPABILITIES
from offload.engines.cluster.engine import ClusterEngine, ClusterKind
from offload.metrics.layout import WorkerRows
from offload.processes.launcher import Launcher
from offload.settings.table import Settings, StartMethod
from offload.wire.spec import LoadSpec
from tests.service.engines.supervised_engine import RecordedEvents
from tests.support.jobs import make_job

KIND = ClusterKind(
    name="fake",
    capabilities=replace(CAPABILITIES, stops_running_jobs=True),
    driver="tests.service.engines.cluster.fake_cluster:FakeCluster",
)
SLOTS = 2


def job(what: str = "", *, body: bytes | None = None) -> Job:
    """Returns a job that makes the fake cluster do `what`."""
    limits = TaskLimits(name="work", index=0, timeout_s=10)
    given = json.dumps([what]).encode() if body is None else body
    return make_job(limits=limits, body=given)


@asynccontextmanager
async def opened(address: str = "", **settings: Any) -> AsyncIterator[tuple[ClusterEngine, RecordedEvents]]:
    launcher = Launcher(StartMethod.SPAWN, LoadSpec(targets=(), library_threads=1, max_body_bytes=1 << 25))
    engine = ClusterEngine(
        KIND,
        {
            "settings": Settings(engine_address=address, **settings),
            "workers": SLOTS,
            "launcher": launcher,
            "load": LoadSpec(targets=(), library_threads=1, max_body_bytes=1 << 25),
            "metrics": WorkerRows(SLOTS),
        },
    )
    events = RecordedEvents()
    try:
        await engine.open(events)
        yield engine, events
    finally:
        await engine.close(2.0)
        await engine.close(2.0)
        await launcher.close()
