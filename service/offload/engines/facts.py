"""Makes the records of workers and pools that `/stats` shows."""

from __future__ import annotations

import time
from collections import Counter

from offload.core.job import Job, SlotId
from offload.engines.base import Engine
from offload.engines.slot_table import SlotTable
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.foreign.remote import RemoteAnswer


def facts_of_worker(
    job: Job | None,
    *,
    lane: int,
    state: WorkerState,
    pid: int | None,
    rss_bytes: int,
    started_at: str | None,
    restarts: int,
) -> WorkerFacts:
    """Returns the facts of a worker that runs `job`, None if it runs none."""
    return WorkerFacts(
        lane=lane,
        pid=pid,
        state=state,
        task=None if job is None else job.limits.name,
        job=None if job is None else job.id,
        running_s=None if job is None or job.started_at is None else time.monotonic() - job.started_at,
        rss_bytes=rss_bytes,
        started_at=started_at,
        restarts=restarts,
    )


def facts_of_slot(
    table: SlotTable,
    slot: SlotId,
    *,
    last: RemoteAnswer | None,
    vacant: WorkerState,
    started_at: str | None,
    restarts: int,
) -> WorkerFacts:
    """Returns the facts of a slot in which another library chooses the process of each job.

    The process is that of the slot's `last` answer; the next job may run in another. `vacant` is the state of a slot
    without a worker.
    """
    job = table.job_in(slot)
    if job is not None:
        state = WorkerState.KILLING if job.is_settled else WorkerState.BUSY
    else:
        state = WorkerState.IDLE if table.has_worker(slot) else vacant
    return facts_of_worker(
        job,
        lane=slot,
        state=state,
        pid=None if last is None else last.pid,
        rss_bytes=0 if last is None else last.rss_bytes,
        started_at=started_at,
        restarts=restarts,
    )


def facts_of_pool(
    engine: Engine,
    *,
    size: int,
    error: str | None,
    restarts: Counter[EndCause],
    spares: int = 0,
    start_method: str | None = None,
) -> PoolFacts:
    return PoolFacts(
        engine=engine.name,
        size=size,
        spares=spares,
        start_method=start_method,
        capabilities=engine.capabilities.as_dict(),
        error=error,
        restarts={cause.value: restarts[cause] for cause in EndCause},
    )
