"""The supervised engine: its lanes, the brake on failing start-ups, spares, and the retirement of workers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from contextlib import suppress
from typing import Final, Self

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Ended, Reason
from offload.engines.base import FULL_CAPABILITIES, EngineEvents
from offload.engines.facts import facts_of_pool, facts_of_worker
from offload.engines.supervised.lane import Lane, LaneParts
from offload.engines.supervised.process import WorkerEnds
from offload.metrics.layout import WorkerRows
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.processes.brake import Brake
from offload.processes.launcher import Launcher
from offload.processes.reaper import Reaper
from offload.processes.watch import Watch, Watched
from offload.processes.worker_state import STOP_CAUSES, EndCause, WorkerEnd, WorkerState
from offload.settings.table import Settings
from offload.wire.spec import LoadSpec, WorkerSpec

logger: Final = logging.getLogger("offload.engine")

_RETIRING: Final = WorkerState.RETIRING
CAPABILITIES: Final = FULL_CAPABILITIES


class SupervisedEngine:
    """Implements `ServedEngine`. Slot ids are lane numbers; with spares there are more lanes than slots."""

    name: Final = "supervised"
    capabilities: Final = CAPABILITIES

    def __init__(
        self, *, settings: Settings, workers: int, launcher: Launcher, load: LoadSpec, metrics: WorkerRows
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._launcher = launcher
        self._load = load
        self._metrics = metrics
        self._has_limits = bool(settings.max_jobs_per_worker or settings.max_rss_per_worker)
        self._brake = Brake()
        self._restarts: Counter[EndCause] = Counter()
        self._lanes: list[Lane] = []
        self._active: set[int] = set()
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._all_dead = asyncio.Event()
        self._is_closing = False
        self._is_open = False

    # Engine

    async def open(self, events: EngineEvents) -> None:
        """Start all workers, which report when they are ready."""
        self._events = events
        self._reaper = Reaper(self._launcher.hunt_strays)
        self._watch = Watch(self._watched, self, self._launcher)
        self._is_open = True
        parts = LaneParts(
            launcher=self._launcher,
            make_spec=self._make_spec,
            kill_tree=self._reaper.kill_tree,
            start_timeout_s=self._settings.start_timeout,
        )
        for number in range(self._workers + self._settings.spares):
            self._lanes.append(Lane(number, self._metrics.worker_row(number), parts, self))
        for lane in self._lanes[: self._workers]:
            self._active.add(lane.number)
            events.slot_added(SlotId(lane.number))
        for lane in self._lanes:
            lane.start()

    def start(self, slot: SlotId, job: Job) -> None:
        self._lanes[slot].add_job(job)
        if job.limits.memory_bytes is not None:
            self._watch.look_closely()

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        lane = self._lanes[slot]
        if lane.job is job:
            cause = STOP_CAUSES[why]
            lane.kill(cause, dump=cause is EndCause.TIMEOUT)

    @property
    def ahead(self) -> Self | None:
        """None if jobs cannot be withdrawn, or if the number of jobs of a worker is limited."""
        return self if hasattr(os, "eventfd") and not self._settings.max_jobs_per_worker else None

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        return self._lanes[slot].withdraw(job)

    def busy_since(self, slot: SlotId) -> float | None:
        """Returns the instant at which the running job began, as its worker reports it; None if none runs."""
        return self._lanes[slot].row.busy_since_s()

    async def close(self, grace_s: float) -> None:
        """Retire idle workers and kill all others; what is left after `grace_s` is killed too."""
        if not self._is_open:
            return
        self._is_open = False
        self._is_closing = True
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for lane in self._lanes:
            if lane.state is WorkerState.IDLE:
                lane.retire()
            else:
                lane.kill(EndCause.CANCEL)
        self._note_dead()
        try:
            await asyncio.wait_for(self._all_dead.wait(), grace_s)
        except TimeoutError:
            self._launcher.kill_forkserver()  # a stopped one would block a start forever
            for lane in self._lanes:
                lane.kill(EndCause.RETIRE)
            with suppress(TimeoutError):  # what is still alive then (stuck in the kernel) is left to the guard
                await asyncio.wait_for(self._all_dead.wait(), grace_s)
        for lane in self._lanes:
            lane.abandon()
        await self._watch.close()
        await self._reaper.close(grace_s)

    # What `/stats` shows

    def worker_facts(self) -> list[WorkerFacts]:
        """Returns the facts of the lanes that take jobs now, without spares."""
        return [self._facts(lane) for lane in self._lanes if lane.number in self._active]

    def pool_facts(self) -> PoolFacts:
        spares = sum(lane.state is WorkerState.IDLE for lane in self._lanes if lane.number not in self._active)
        return facts_of_pool(
            self,
            size=self._workers,
            error=self._brake.error,
            restarts=self._restarts,
            spares=spares,
            start_method=self._launcher.start_method,
        )

    # LaneEvents

    def lane_ready(self, lane: Lane) -> None:
        self._brake.succeeded()
        self._end_pauses()
        if lane.number in self._active:
            self._events.ready(SlotId(lane.number), lane.generation)
        else:
            self._replace_by_spares()

    def lane_lost(self, lane: Lane) -> None:
        if lane.number in self._active:
            death = Death(note="it was killed while idle")
            self._events.died(SlotId(lane.number), lane.generation, death, begun=0)

    def lane_answered(self, lane: Lane, ended: list[Ended]) -> None:
        is_leaving = lane.state is _RETIRING
        if self._has_limits and not is_leaving and self._must_retire(lane):
            is_leaving = True
            lane.retire()
        self._events.finished(SlotId(lane.number), lane.generation, ended, is_leaving=is_leaving)

    def lane_ended(self, lane: Lane, end: WorkerEnd) -> None:
        if end.pid is not None:  # empty after `kill_tree`, unless the worker had died before it
            self._reaper.kill_group(end.pid, end.start_ticks)
        if self._is_closing:
            self._note_dead()
            return
        self._restarts[end.cause] += 1
        if not end.was_ready:
            self._start_failed(lane, end)
        elif end.cause is EndCause.CRASH:
            fields = {"lane": lane.number, "death": str(end.death), "begun": end.begun}
            logger.warning("worker crashed", extra={"fields": fields})
        if lane.number in self._active:
            self._events.died(SlotId(lane.number), lane.generation, end.death, begun=end.begun)
            self._replace_by_spares()
        self._restart(lane, 0.0 if end.was_ready else self._brake.pause_s())
        self._reaper.hunt_strays()  # what it left outside its group; at the close, the guard does that

    # WatchEvents

    def on_stopped(self, watched: Watched) -> None:
        lane = self._lane_of(watched)
        if lane is not None and lane.must_answer():
            logger.warning("worker was stopped from outside", extra={"fields": {"lane": lane.number, "pid": lane.pid}})
            lane.kill(EndCause.CRASH, note="it was stopped by a signal from outside")

    def on_over_memory(self, watched: Watched, number: int) -> None:
        lane = self._lane_of(watched)
        if lane is not None and lane.job is not None and lane.job.number == number:
            self._events.exceeded_memory(lane.job, peak_bytes=watched.peak_bytes)

    # Inside

    def _watched(self) -> list[Watched]:
        return [watched for lane in self._lanes if (watched := lane.watched) is not None]

    def _lane_of(self, watched: Watched) -> Lane | None:
        return next((lane for lane in self._lanes if lane.watched is watched), None)

    def _make_spec(self, number: int, ends: WorkerEnds) -> WorkerSpec:
        return WorkerSpec(
            load=self._load,
            lane=number,
            start_method=self._launcher.start_method,
            channel=ends.channel,
            output=ends.output,
            tokens=ends.tokens,
            descriptors=ends.descriptors,
            metrics=self._metrics,
            is_debug=self._settings.debug,
        )

    def _must_retire(self, lane: Lane) -> bool:
        max_jobs, max_rss = self._settings.max_jobs_per_worker, self._settings.max_rss_per_worker
        if max_jobs and lane.jobs_of_worker >= max_jobs:
            return True
        return bool(max_rss) and lane.watched is not None and lane.watched.rss_bytes > max_rss

    def _start_failed(self, lane: Lane, end: WorkerEnd) -> None:
        self._brake.failed(lane.number, end.error)
        fields = {"lane": lane.number, "error": end.error, "pause_s": self._brake.pause_s()}
        logger.warning("worker failed to start", extra={"fields": fields})
        if self._brake.is_on:
            self._events.failing_to_start()

    def _restart(self, lane: Lane, pause_s: float) -> None:
        if not pause_s:
            lane.start()
            return

        def start() -> None:
            del self._pauses[lane.number]
            lane.start()

        self._pauses[lane.number] = asyncio.get_running_loop().call_later(pause_s, start)

    def _end_pauses(self) -> None:
        """Start the paused lanes: what kept workers from starting is gone."""
        pauses, self._pauses = self._pauses, {}
        for number, pause in pauses.items():
            pause.cancel()
            self._lanes[number].start()

    def _replace_by_spares(self) -> None:
        """Replace each lane without a worker by a warm spare; that lane becomes a spare."""
        missing = [n for n in self._active if self._lanes[n].state in (WorkerState.DEAD, WorkerState.STARTING)]
        spares = [lane for lane in self._lanes if lane.number not in self._active and lane.state is WorkerState.IDLE]
        for number, spare in zip(missing, spares, strict=False):
            self._active.remove(number)
            self._events.slot_removed(SlotId(number))
            self._active.add(spare.number)
            self._events.slot_added(SlotId(spare.number))
            self._events.ready(SlotId(spare.number), spare.generation)

    def _note_dead(self) -> None:
        if all(lane.state is WorkerState.DEAD for lane in self._lanes):
            self._all_dead.set()

    def _facts(self, lane: Lane) -> WorkerFacts:
        return facts_of_worker(
            lane.job,
            lane=lane.number,
            state=lane.state,
            pid=lane.pid,
            rss_bytes=0 if lane.watched is None else lane.watched.rss_bytes,
            started_at=lane.started_at,
            restarts=lane.restarts,
        )
