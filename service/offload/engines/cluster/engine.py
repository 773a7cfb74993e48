"""`ClusterEngine`: the slots, jobs and `/stats` of the engines `dask` and `ray`.

A driver process connects to the cluster. When it ends, for any reason, the cluster is lost: running jobs are answered,
the service is not ready, and a new driver is started after a growing pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import decode_source
from pathlib import Path
from typing import Any, Final

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Reason
from offload.engines.answers import broken, call_of, outcome_of
from offload.engines.base import Capabilities, EngineEvents, EngineParts
from offload.engines.cluster.driver_process import DriverProcess
from offload.engines.cluster.messages import Message
from offload.engines.facts import facts_of_pool, facts_of_slot
from offload.engines.slot_table import SlotTable
from offload.errors import TargetError
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.metrics.timestamp import timestamp
from offload.processes.brake import Brake
from offload.processes.worker_state import STOP_CAUSES, EndCause, WorkerState
from offload.tasks.targets.loading import Target
from offload.wire.spec import LoadSpec
from offload.worker.foreign.remote import RemoteAnswer, pack_load

logger: Final = logging.getLogger("offload.engine")

# Time for a driver that lost its cluster to end.
_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKind:
    """`driver` is "module:class" of the `driver.Cluster` that the driver makes."""

    name: str
    capabilities: Capabilities
    driver: str


class ClusterEngine:
    """Implements `ServedEngine`. Has as many slots as the cluster, up to the number of workers."""

    ahead = None

    def __init__(self, kind: ClusterKind, parts: EngineParts) -> None:
        self.name: Final = kind.name
        self.capabilities: Final = kind.capabilities
        self._kind = kind
        self._workers = parts["workers"]
        self._settings = parts["settings"]
        self._launcher = parts["launcher"]
        self._metrics = parts["metrics"]
        load = parts["load"] if not self._settings.engine_address else with_sources(parts["load"])
        self._load = pack_load(load, is_debug=self._settings.debug)
        self._generations: dict[SlotId, int] = {}
        self._last_answers: dict[SlotId, RemoteAnswer] = {}
        self._ready_at: dict[SlotId, str] = {}
        self._restarts: Counter[EndCause] = Counter()
        self._restarts_of_slot: Counter[SlotId] = Counter()
        self._brake = Brake()
        self._error = ""
        self._driver: DriverProcess | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[str] | None = None
        self._grace_s = _GRACE_S

    # Engine

    async def open(self, events: EngineEvents) -> None:
        """Start a driver; slots are added when it has connected to the cluster."""
        self._events = events
        self._table = SlotTable(0, events)
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(_log_fault)

    def start(self, slot: SlotId, job: Job) -> None:
        self._table.assign(slot, job)
        if self._driver is not None:
            _, number, task_index, attempt, _, job_id, head, body = call_of(job, load=b"", lane=slot)
            start = ["start", slot, self._generations[slot], number, task_index, attempt, job_id, head]
            self._driver.send(start, body)

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        if self._driver is not None and self._table.job_in(slot) is job:
            self._driver.send(["stop", slot, job.number])

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        return False

    async def close(self, grace_s: float) -> None:
        """Stop the driver and a local cluster; jobs that cannot be stopped elsewhere go on."""
        if self._running is None:
            return
        running, self._running = self._running, None
        self._grace_s = grace_s
        running.cancel()
        await asyncio.wait([running])
        if self._stopping is not None:
            await asyncio.wait([self._stopping])

    # Statistics

    def worker_facts(self) -> list[WorkerFacts]:
        return [self._facts(slot) for slot in self._table.slots()]

    def pool_facts(self) -> PoolFacts:
        return facts_of_pool(self, size=len(self._table.slots()), error=self._brake.error, restarts=self._restarts)

    # The driver

    async def _run(self) -> None:
        while True:
            try:
                launcher = self._launcher
                driver = DriverProcess.start(
                    self._kind.driver, mark=launcher.mark, descriptor_limit=launcher.descriptor_limit
                )
            except OSError as error:
                self._on_cluster_lost(f"the driver could not be started: {error}")
            else:
                await self._run_driver(driver)
            await asyncio.sleep(self._brake.pause_s())

    async def _run_driver(self, driver: DriverProcess) -> None:
        self._error = ""
        self._launcher.watch(driver.pid)
        try:
            await driver.receive(partial(self._on_connected, driver), self._on_message)
            self._driver = None
            self._on_cluster_lost(self._error or "the driver ended")
        finally:
            self._driver = None
            self._stopping = asyncio.create_task(driver.stop(self._grace_s))
            how = await asyncio.shield(self._stopping)
            self._launcher.forget(driver.pid)
        if not self._error:
            logger.warning("driver ended", extra={"fields": {"pid": driver.pid, "how": how}})

    def _on_connected(self, driver: DriverProcess) -> None:
        self._driver = driver
        settings = self._settings
        driver.send(["open", settings.engine_address, self._workers, settings.start_timeout], self._load)

    def _on_cluster_lost(self, why: str) -> None:
        """Answer the running jobs and remove all slots."""
        self._brake.failed(0, why)
        fields = {"engine": self.name, "error": why, "pause_s": self._brake.pause_s()}
        logger.warning("cluster lost", extra={"fields": fields})
        for slot in self._table.slots():
            self._table.drop_worker(slot, Death(note="the cluster was lost"), begun=True)
            self._table.remove(slot)
        self._events.failing_to_start()

    # Messages of the driver

    def _on_message(self, message: Message) -> bool:
        """Returns whether to receive further messages."""
        match message.head:
            case ["connected"]:
                logger.info("connected to the cluster", extra={"fields": {"engine": self.name}})
            case ["ready", slot, generation]:
                self._on_ready(slot, generation)
            case ["finished", slot, number, *answer]:
                self._on_finished(slot, number, answer, message.body)
            case ["invalid-answer", _, number]:
                self._table.finish(number, broken("its answer was invalid"))
            case ["lost", slot, number, begun, why, detail]:
                self._on_worker_lost(slot, number, begun, why, detail)
            case ["removed", slot]:
                self._table.remove(slot)
            case ["start-failed", why]:
                self._on_start_failed(why)
            case ["disconnected", why]:
                self._error = why
                return False
        return True

    def _on_ready(self, slot: SlotId, generation: int) -> None:
        self._brake.succeeded()
        self._generations[slot] = generation
        self._ready_at[slot] = timestamp()
        self._table.add(slot)
        self._table.add_worker([slot])

    def _on_finished(self, slot: SlotId, number: int, answer: list[Any], body: bytes) -> None:
        job = self._table.job(number)
        if job is None:
            return
        status, media_type, run_ns, traceback, pid, rss_bytes = answer
        self._last_answers[slot] = RemoteAnswer(number, status, media_type, body, run_ns, traceback, pid, rss_bytes)
        self._metrics.worker_row(slot).ran(run_ns)
        self._table.finish(number, outcome_of(job, self._last_answers[slot]))

    def _on_worker_lost(self, slot: SlotId, number: int, begun: bool, why: str, detail: str) -> None:
        """`number` is 0, or another job's, if the slot's job was still on its way and so had not begun."""
        job = self._table.job_in(slot)
        self._last_answers.pop(slot, None)
        self._restarts_of_slot[slot] += 1
        if job is not None and job.outcome is not None:
            self._restarts[STOP_CAUSES.get(job.outcome.reason, EndCause.CRASH)] += 1
        else:  # an idle worker may just have left the cluster
            self._restarts[EndCause.CRASH] += job is not None
            fields = {"lane": slot, "why": why, "detail": detail, "job_id": None if job is None else job.id}
            logger.log(logging.INFO if job is None else logging.WARNING, "worker lost", extra={"fields": fields})
        self._table.drop_worker(slot, Death(note=why), begun=begun and job is not None and job.number == number)

    def _on_start_failed(self, why: str) -> None:
        self._brake.failed(0, why)
        logger.warning("worker failed to start", extra={"fields": {"engine": self.name, "error": why}})
        if not any(self._table.has_worker(slot) for slot in self._table.slots()):
            self._events.failing_to_start()

    def _facts(self, slot: SlotId) -> WorkerFacts:
        return facts_of_slot(
            self._table,
            slot,
            last=self._last_answers.get(slot),
            vacant=WorkerState.STARTING,
            started_at=self._ready_at.get(slot),
            restarts=self._restarts_of_slot[slot],
        )


def with_sources(load: LoadSpec) -> LoadSpec:
    """Returns `load` with the text of each file, for machines without the files. Raises TargetError."""
    return replace(load, targets=tuple(_with_source(target) for target in load.targets))


def _with_source(target: Target) -> Target:
    if target.file is None:
        return target
    try:
        return replace(target, source=decode_source(Path(target.file).read_bytes()))
    except (OSError, SyntaxError, UnicodeError) as error:
        raise TargetError(target.named, str(error)) from error


def _log_fault(running: asyncio.Task[None]) -> None:
    if not running.cancelled() and running.exception() is not None:
        logger.error("cluster engine failed", exc_info=running.exception())
