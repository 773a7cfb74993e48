"""Collect what `/stats` shows from the scheduler, the engine and the measurements."""

from __future__ import annotations

import os
import time

from offload.core.scheduler import Scheduler
from offload.dispatch.dispatcher import Dispatcher
from offload.engines.base import ServedEngine
from offload.metrics.layout import ServiceState
from offload.metrics.snapshot import Facts, Instruments, QueueClients, QueueFacts, ServiceFacts, Stats, snapshot
from offload.metrics.timestamp import timestamp


class Statistics:
    """The numbers of one service. `started_at` is the instant of its start, monotonic seconds."""

    def __init__(
        self,
        *,
        version: str,
        started_at: float,
        instruments: Instruments,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        engine: ServedEngine,
    ) -> None:
        self._version = version
        self._started_at = started_at
        self._started = timestamp(time.time() - time.monotonic() + started_at)
        self._instruments = instruments
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self._engine = engine

    def tick(self, now: float) -> None:
        """Update what is measured at intervals; call it a few times a second."""
        self._instruments.rates.tick(now, self._instruments.recorder.totals.ended)
        self._update_state()

    def document(self) -> Stats:
        """Returns the document of `/stats`."""
        self._update_state()
        now = time.monotonic()
        return snapshot(self._instruments, self._facts(now), now)

    def _update_state(self) -> None:
        rejection = self._dispatcher.rejection()
        if self._dispatcher.is_draining:
            state = ServiceState.DRAINING
        elif rejection is None:
            state = ServiceState.READY
        else:
            state = ServiceState(rejection.reason.value)
        self._instruments.memory.state = state

    def _facts(self, now: float) -> Facts:
        queued, running = self._scheduler.queued_by_task(), self._scheduler.slots.running_by_task()
        tasks = range(len(self._instruments.recorder.task_names))
        return Facts(
            service=ServiceFacts(
                name="offload",
                version=self._version,
                pid=os.getpid(),
                state=self._instruments.memory.state,
                started_at=self._started,
                uptime_s=round(now - self._started_at, 3),
            ),
            queued_by_task=[queued[index] for index in tasks],
            running_by_task=[running[index] for index in tasks],
            workers=self._engine.worker_facts(),
            pool=self._engine.pool_facts(),
            queue=self._queue_facts(now),
        )

    def _queue_facts(self, now: float) -> QueueFacts:
        scheduler, queue = self._scheduler, self._scheduler.queue
        queued_by_client = queue.lengths_by_client().values()
        return QueueFacts(
            limit=queue.limit,
            bytes=queue.size_bytes,
            limit_bytes=queue.limit_bytes,
            arriving_bytes=scheduler.traffic.arriving_bytes,
            leaving_bytes=scheduler.traffic.leaving_bytes,
            expected_wait_ms=round(scheduler.expected_wait_s(now) * 1e3, 3),
            by_urgency=queue.lengths(),
            clients=QueueClients(waiting=len(queued_by_client), most_queued=max(queued_by_client, default=0)),
            quarantined=scheduler.quarantine.size(now),
        )
