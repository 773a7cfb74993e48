"""The engine on pools or executors of the standard library.

A `PoolKind`, that of `pool` or that of `executor`, makes them and says what they can do.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from offload.core.job import Job, SlotId
from offload.core.outcome import Reason
from offload.engines.base import FULL_CAPABILITIES, EngineEvents
from offload.engines.facts import facts_of_pool, facts_of_worker
from offload.engines.local.context import StartPermit, check_semaphores
from offload.engines.local.replaceable_pool import PoolKind, ReplaceablePool
from offload.engines.local.worker import LocalWorker, LocalWorkerEnd
from offload.engines.local.worker_set import WorkerSet
from offload.engines.slot_table import SlotTable
from offload.metrics.layout import WorkerRows
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.processes.launcher import Launcher
from offload.processes.worker_state import STOP_CAUSES, EndCause, WorkerState
from offload.settings.table import Settings
from offload.wire.spec import LoadSpec
from offload.worker.foreign.remote import pack_load

LOCAL_CAPABILITIES: Final = replace(
    FULL_CAPABILITIES,
    knows_who_printed=False,
    prefetches=False,
    keeps_spares=False,
    retires_workers=False,
    unpickles_results=True,
)


class LocalEngine:
    """Implements `ServedEngine`."""

    ahead = None

    def __init__(
        self,
        *,
        kind: PoolKind,
        settings: Settings,
        workers: int,
        launcher: Launcher,
        load: LoadSpec,
        metrics: WorkerRows,
    ) -> None:
        self.name: Final = kind.name
        self.capabilities: Final = kind.capabilities
        self._kind = kind
        self._slots_per_pool = kind.slots_per_pool(workers)
        self._workers = workers
        self._settings = settings
        self._launcher = launcher
        self._load = pack_load(load, is_debug=settings.debug)
        self._metrics = metrics
        self._pools: list[ReplaceablePool] = []
        self._is_open = False

    # Engine

    async def open(self, events: EngineEvents) -> None:
        """Open all pools; their workers report when they are ready. Raises OSError if there are no semaphores."""
        check_semaphores()
        self._events = events
        self._table = SlotTable(self._workers, events)
        self._worker_set = WorkerSet(
            launcher=self._launcher,
            load=self._load,
            metrics=self._metrics,
            slots=self._workers,
            start_timeout_s=self._settings.start_timeout,
            events=self,
        )
        self._is_open = True
        for first in range(0, self._workers, self._slots_per_pool):
            slots = range(first, first + self._slots_per_pool)
            pool = ReplaceablePool(
                kind=self._kind, slots=slots, worker_set=self._worker_set, table=self._table, load=self._load
            )
            self._pools.append(pool)
            pool.open()

    def start(self, slot: SlotId, job: Job) -> None:
        self._pool_of(slot).submit_job(slot, job)
        if job.limits.memory_bytes is not None:
            self._worker_set.limit_memory(job.number, job.limits.memory_bytes)

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        self._pool_of(slot).stop_job(job, STOP_CAUSES[why])

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        return False

    async def close(self, grace_s: float) -> None:
        """Let idle workers end by themselves, and kill all others; what is left after `grace_s` is killed too."""
        if not self._is_open:
            return
        self._is_open = False
        self._worker_set.begin_close()
        for pool in self._pools:
            pool.begin_close()
        if not await self._are_closed(grace_s):
            for worker in list(self._worker_set.workers.values()):
                worker.kill(EndCause.RETIRE)
            await self._are_closed(grace_s)
        # What has not ended by now (a process in the kernel's hands) is left to the guard.
        await self._worker_set.close(grace_s)
        for pool in self._pools:
            pool.on_workers_abandoned()
        await self._are_closed(grace_s)

    async def _are_closed(self, timeout_s: float) -> bool:
        """Wait until all pools are closed; return whether they are."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for pool in self._pools:
                    await pool.closed.wait()
        return all(pool.closed.is_set() for pool in self._pools)

    # What `/stats` shows

    def worker_facts(self) -> list[WorkerFacts]:
        return [self._facts(slot) for slot in range(self._workers)]

    def pool_facts(self) -> PoolFacts:
        return facts_of_pool(
            self,
            size=self._workers,
            error=self._worker_set.brake.error,
            restarts=self._worker_set.restarts,
            start_method=self._launcher.start_method,
        )

    # WorkerSetEvents

    def on_worker_ready(self, worker: LocalWorker) -> None:
        self._pool_of(worker.slot).on_worker_ready()

    def on_worker_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None:
        self._pool_of(worker.slot).on_worker_ended(end)

    def on_worker_not_started(self, permit: StartPermit) -> None:
        for pool in self._pools:
            pool.on_worker_not_started(permit)

    def on_starts_failing(self) -> None:
        self._events.failing_to_start()

    def on_job_over_memory(self, number: int, peak_bytes: int) -> None:
        job = self._table.job(number)
        if job is not None:
            self._events.exceeded_memory(job, peak_bytes=peak_bytes)

    # Inside

    def _pool_of(self, slot: int) -> ReplaceablePool:
        return self._pools[slot // self._slots_per_pool]

    def _facts(self, slot: int) -> WorkerFacts:
        worker = self._worker_set.workers.get(slot)
        job = self._table.job(worker.row.current_job) if worker is not None and worker.row.is_busy else None
        state = WorkerState.DEAD if worker is None else worker.state
        if state is WorkerState.IDLE and self._pool_of(slot).is_opening:
            state = WorkerState.STARTING  # it gets no job before its pool is open
        return facts_of_worker(
            job,
            lane=slot,
            state=WorkerState.BUSY if job is not None and state is WorkerState.IDLE else state,
            pid=None if worker is None else worker.pid,
            rss_bytes=0 if worker is None else worker.watched.rss_bytes,
            started_at=None if worker is None else worker.started_at,
            restarts=self._worker_set.restarts_of_slot[slot],
        )
