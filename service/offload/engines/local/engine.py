"""An engine on pools or executors of the standard library.

Lives here: the slots, the hosts and the crew of one engine, and what `/stats` shows of them.  What a host is, and what
can be promised of it, is said by a `HostKind`: that of `pool`, or that of `executor`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from offload.core.job import Job, Reason, SlotId
from offload.engines.base import EngineEvents
from offload.engines.local.context import Hiring
from offload.engines.local.crew import Crew
from offload.engines.local.hosting import Hosting, HostKind
from offload.engines.local.worker import HiredEnd, HiredWorker
from offload.engines.places import Places
from offload.engines.running import running_s
from offload.metrics.layout import MetricsMemory
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.processes.launcher import Launcher
from offload.processes.life import STOP_CAUSES, EndCause, WorkerState
from offload.settings.table import Settings
from offload.wire.spec import LoadSpec
from offload.worker.remote import pack_load


class LocalEngine:
    """Implements `ServedEngine`.  Slot ids are lane numbers."""

    ahead = None

    def __init__(
        self,
        *,
        kind: HostKind,
        settings: Settings,
        workers: int,
        launcher: Launcher,
        load: LoadSpec,
        metrics: MetricsMemory,
    ) -> None:
        self.name: Final = kind.name
        self.capabilities: Final = kind.capabilities
        self._kind = kind
        self._lanes_per_host = kind.lanes_per_host(workers)
        self._workers = workers
        self._settings = settings
        self._launcher = launcher
        self._load = pack_load(load, is_debug=settings.debug)
        self._metrics = metrics
        self._hostings: list[Hosting] = []
        self._is_open = False

    # Engine

    async def open(self, events: EngineEvents) -> None:
        """Opens all hosts; their workers are ready when they say so."""
        self._events = events
        self._places = Places(self._workers, events)
        self._crew = Crew(
            launcher=self._launcher,
            load=self._load,
            metrics=self._metrics,
            lanes=self._workers,
            start_timeout_s=self._settings.start_timeout,
            events=self,
        )
        self._is_open = True
        for first in range(0, self._workers, self._lanes_per_host):
            lanes = range(first, first + self._lanes_per_host)
            hosting = Hosting(kind=self._kind, lanes=lanes, crew=self._crew, places=self._places, load=self._load)
            self._hostings.append(hosting)
            hosting.open()

    def start(self, slot: SlotId, job: Job) -> None:
        self._hostings[slot // self._lanes_per_host].give(slot, job)
        if job.limits.memory_bytes is not None:
            self._crew.limit_memory(job.number, job.limits.memory_bytes)

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        self._hostings[slot // self._lanes_per_host].stop(job, STOP_CAUSES[why])

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        return False

    async def close(self, grace_s: float) -> None:
        """Idle workers leave, all others are killed; whatever is left after `grace_s` is killed too."""
        if not self._is_open:
            return
        self._is_open = False
        self._crew.begin_close()
        for hosting in self._hostings:
            hosting.begin_close()
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    for hosting in self._hostings:
                        await hosting.closed.wait()
            for worker in list(self._crew.workers.values()):
                worker.kill(EndCause.RETIRE)
        await self._crew.close(grace_s)

    # What `/stats` shows

    def worker_facts(self) -> list[WorkerFacts]:
        return [self._facts(lane) for lane in range(self._workers)]

    def pool_facts(self) -> PoolFacts:
        return PoolFacts(
            engine=self.name,
            size=self._workers,
            spares=0,
            start_method=self._launcher.start_method,
            capabilities=self.capabilities.as_dict(),
            error=self._crew.brake.error,
            restarts={cause.value: self._crew.restarts[cause] for cause in EndCause},
        )

    # CrewEvents

    def crew_ready(self, worker: HiredWorker) -> None:
        self._hostings[worker.lane // self._lanes_per_host].ready()

    def crew_ended(self, worker: HiredWorker, end: HiredEnd) -> None:
        self._hostings[worker.lane // self._lanes_per_host].ended(end)

    def crew_not_started(self, hiring: Hiring) -> None:
        for hosting in self._hostings:
            if hosting.is_of(hiring):
                hosting.end()

    def crew_failing_to_start(self) -> None:
        self._events.failing_to_start()

    def crew_exceeded_memory(self, number: int, peak_bytes: int) -> None:
        job = self._places.job(number)
        if job is not None:
            self._events.exceeded_memory(job, peak_bytes=peak_bytes)

    # Inside

    def _facts(self, lane: int) -> WorkerFacts:
        worker = self._crew.workers.get(lane)
        job = self._places.job(worker.row.current_job) if worker is not None and worker.row.is_busy else None
        state = WorkerState.DEAD if worker is None else worker.state
        return WorkerFacts(
            lane=lane,
            pid=None if worker is None else worker.pid,
            state=WorkerState.BUSY if job is not None and state is WorkerState.IDLE else state,
            task=None if job is None else job.limits.name,
            job=None if job is None else job.id,
            running_s=running_s(job),
            rss_bytes=0 if worker is None else worker.watched.rss_bytes,
            started_at=None if worker is None else worker.started_at,
            restarts=self._crew.restarts_of_lane[lane],
        )
