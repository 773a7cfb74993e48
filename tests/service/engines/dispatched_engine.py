"""A supervised engine with real workers and a real dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from offload.core.admission.admission import AdmissionLimits
from offload.core.job import Job
from offload.core.request import JobRequest, JobTerms, TaskLimits
from offload.core.scheduler import Scheduler
from offload.dispatch.dispatcher import Dispatcher
from offload.engines.release import release_body
from offload.engines.supervised.engine import SupervisedEngine
from offload.metrics.layout import MetricsMemory
from offload.metrics.recorder import Recorder
from offload.processes.launcher import Launcher
from offload.settings.table import Settings
from offload.tasks.targets.loading import load, parse_target
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes
from offload.wire.spec import LoadSpec
from tests.support.shared_memory import made as made_of

BOUND_S = 30.0


class Dispatched:
    def __init__(self, engine: SupervisedEngine, dispatcher: Dispatcher, limits: dict[str, TaskLimits]) -> None:
        self.engine = engine
        self.dispatcher = dispatcher
        self.limits = limits

    def job(self, task: str, data: bytes) -> Job:
        """Returns a job with `data` as its body, in shared memory if it is large."""
        body = made_of(data) if len(data) > LARGE_BYTES else data
        return self.dispatcher.new_job(JobRequest(JobTerms(limits=self.limits[task]), body))

    async def run(self, job: Job) -> Job:
        """Runs the job to its end as `web` does, and releases its body."""
        try:
            await self.dispatcher.run(job)
        finally:
            release_body(job.request.body)
        return job

    @property
    def pid(self) -> int | None:
        """The process id of the worker of the first lane."""
        return self.engine.worker_facts()[0].pid


def result(job: Job) -> bytes:
    """Returns the large result of the job, and releases it."""
    assert job.outcome is not None
    body = job.outcome.body
    assert isinstance(body, SharedBytes), job.outcome
    data = body.read(0, len(body))
    body.close()
    return data


@asynccontextmanager
async def dispatched(directory: Path, tasks: str, **settings: Any) -> AsyncIterator[Dispatched]:
    """Opens an engine whose workers are ready; `tasks` is the text of the file that they load."""
    path = directory / "tasks.py"
    path.write_text(tasks)
    target = parse_target(str(path))
    definitions = [task.definition for task in load([target]).tasks]
    made = Settings(**{"workers": 1, **settings})
    spec = LoadSpec(targets=(target,), library_threads=1, max_body_bytes=1 << 25)
    launcher = Launcher(made.start_method, spec)
    launcher.warm_up()
    launcher.open()
    metrics = MetricsMemory(tasks=len(definitions), lanes=made.workers)
    engine = SupervisedEngine(
        settings=made, workers=made.workers, launcher=launcher, load=spec, metrics=metrics.workers
    )
    scheduler = Scheduler(
        limits=AdmissionLimits(queue_limit=100, queue_bytes=1 << 30, quarantine_after=made.quarantine_after),
        withdraw=engine.withdraw,
    )
    recorder = Recorder(metrics, [definition.name for definition in definitions])
    dispatcher = Dispatcher(scheduler=scheduler, engine=engine, recorder=recorder)
    limits = {
        definition.name: TaskLimits(
            name=definition.name,
            index=index,
            timeout_s=definition.timeout_s or made.timeout,
            retries=definition.retries,
        )
        for index, definition in enumerate(definitions)
    }
    try:
        await engine.open(dispatcher)
        async with asyncio.timeout(BOUND_S):
            while dispatcher.rejection() is not None:
                await asyncio.sleep(0.001)
        yield Dispatched(engine, dispatcher, limits)
        scheduler.check_balance()
    finally:
        dispatcher.close()
        await engine.close(2.0)
        await launcher.close()
