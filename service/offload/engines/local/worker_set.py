"""The workers of all pools or executors of an engine: starting, watching and killing them.

Threads of the library ask for processes, and wait here until a slot is free. Failing starts are slowed down. The engine
is notified on the event loop, and decides what the end of a worker means for its job.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, Final, Protocol

from offload.engines.local.context import StartedProcess, StartPermit, make_context
from offload.engines.local.worker import LocalWorker, LocalWorkerEnd, StartedWorker
from offload.errors import StartError
from offload.metrics.layout import WorkerRows
from offload.processes.brake import Brake
from offload.processes.launcher import Launcher
from offload.processes.process import open_descriptor
from offload.processes.reaper import Reaper
from offload.processes.watch import Watch, Watched
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.foreign.pool_worker import PoolWorkerSpec, run_pool_worker

logger: Final = logging.getLogger("offload.engine")


class WorkerSetEvents(Protocol):
    """Called on the event loop's thread."""

    def on_worker_ready(self, worker: LocalWorker) -> None: ...
    def on_worker_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None: ...
    def on_worker_not_started(self, permit: StartPermit) -> None: ...
    def on_starts_failing(self) -> None: ...
    def on_job_over_memory(self, number: int, peak_bytes: int) -> None: ...


class WorkerSet:
    """Made on the event loop's thread, for slots 0 to `slots` - 1. Owns the workers."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        load: bytes,
        metrics: WorkerRows,
        slots: int,
        start_timeout_s: float,
        events: WorkerSetEvents,
    ) -> None:
        self.restarts: Counter[EndCause] = Counter()
        self.restarts_of_slot: Counter[int] = Counter()
        self.brake = Brake()
        self.workers: dict[int, LocalWorker] = {}
        self._launcher = launcher
        self._load = load
        self._metrics = metrics
        self._start_timeout_s = start_timeout_s
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._reaper = Reaper(launcher.hunt_strays)
        # By job number. The watch's thread reads both.
        self._limits: dict[int, int] = {}
        self._stops: dict[int, EndCause] = {}
        self._watch = Watch(self._watched, self, launcher, is_waiting=self._is_waiting)
        # Shared with the library's threads, and held for microseconds.
        self._slot_freed = threading.Condition()
        self._free = set(range(slots))
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._is_closing = False
        self._is_closed = False

    # Starting, asked for by the library

    def issue_permit(self, slots: frozenset[int]) -> tuple[StartPermit, BaseContext]:
        """For one pool or executor, which has to use the context."""
        permit = StartPermit(slots)
        return permit, make_context(self._launcher.start_method, partial(self._start_process, permit))

    def revoke_permit(self, permit: StartPermit) -> None:
        """End the starts under this permit, and the waiting for a slot."""
        with self._slot_freed:
            permit.is_revoked = True
            self._slot_freed.notify_all()

    def started_under(self, permit: StartPermit) -> list[LocalWorker]:
        """Returns the workers that have not ended, including those that are being killed."""
        return [worker for worker in self.workers.values() if worker.permit is permit]

    def _start_process(
        self, permit: StartPermit, *, target: Any, args: tuple[Any, ...] = (), **_: object
    ) -> StartedProcess:
        """Called by the library in a thread of its own. Raises StartError."""
        slot = self._take_slot(permit)
        try:
            started = self._start(permit, slot, target, args)
        except (OSError, StartError) as error:
            self._notify(self._on_not_started, permit, slot, str(error))
            raise StartError(str(error)) from error
        process = StartedProcess(started.process)
        if not self._notify(self._on_started, started):
            started.abandon()
        return process

    def _start(self, permit: StartPermit, slot: int, target: Any, arguments: tuple[Any, ...]) -> StartedWorker:
        with ExitStack() as kept, ExitStack() as passed:
            pipes = []
            for _ in range(2):
                reader, writer = os.pipe()
                kept.callback(os.close, reader)
                pipes.append((reader, passed.enter_context(Connection(writer, readable=False))))
            (ready, ready_end), (output, output_end) = pipes
            spec = PoolWorkerSpec(
                load=self._load,
                lane=slot,
                start_method=self._launcher.start_method,
                ready=ready_end,
                output=output_end,
                metrics=self._metrics,
            )
            process = self._launcher.make(run_pool_worker, spec, target, arguments, name=f"offload-worker-{slot}")
            self._launcher.start_made(process)
            try:
                descriptor = open_descriptor(process)
            except OSError:  # no descriptor is left; the process could not be watched
                process.kill()
                self._notify(self._launcher.forget, process.pid)
                raise
            kept.pop_all()
        return StartedWorker(
            process=process, permit=permit, slot=slot, descriptor=descriptor, ready=ready, output=output
        )

    def _take_slot(self, permit: StartPermit) -> int:
        """Wait until a slot of the permit is free. Raises StartError if the permit is revoked."""
        with self._slot_freed:
            while not permit.is_revoked:
                free = self._free & permit.slots
                if free:
                    slot = min(free)
                    self._free.remove(slot)
                    return slot
                self._slot_freed.wait()
        raise StartError("no more workers are wanted")

    def _notify(self, callback: Callable[..., None], *facts: object) -> bool:
        """Call back on the event loop; return False if it is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *facts)
            return True
        return False

    # The result of a start

    def _on_started(self, started: StartedWorker) -> None:
        if self._is_closed:
            started.abandon()
            return
        worker = LocalWorker(
            started,
            row=self._metrics.worker_row(started.slot),
            start_timeout_s=self._start_timeout_s,
            kill_tree=self._reaper.kill_tree,
            events=self,
        )
        self._launcher.watch(worker.pid)
        self.workers[worker.slot] = worker
        if worker.permit.is_revoked:
            worker.kill(EndCause.RETIRE)

    def _on_not_started(self, permit: StartPermit, slot: int, error: str) -> None:
        self._start_failed(slot, error)
        self._events.on_worker_not_started(permit)

    def report_failure(self, slot: int, error: str) -> None:
        """A pool or executor could not be made, for another reason than a worker: counts as a failed start."""
        with self._slot_freed:
            self._free.discard(slot)
        self._start_failed(slot, error)

    def _start_failed(self, slot: int, error: str) -> None:
        self.brake.failed(slot, error)
        pause_s = self.brake.pause_s()
        fields = {"lane": slot, "error": error, "pause_s": pause_s}
        logger.warning("worker failed to start", extra={"fields": fields})
        if pause_s:
            self._pauses[slot] = self._loop.call_later(pause_s, self._free_slot, slot)
            self._events.on_starts_failing()
        else:
            self._free_slot(slot)

    def _free_slot(self, slot: int) -> None:
        self._pauses.pop(slot, None)
        with self._slot_freed:
            self._free.add(slot)
            self._slot_freed.notify_all()

    # LocalWorkerEvents

    def on_ready(self, worker: LocalWorker) -> None:
        self.brake.succeeded()
        for slot, pause in list(self._pauses.items()):  # what kept workers from starting is gone
            pause.cancel()
            self._free_slot(slot)
        self._events.on_worker_ready(worker)

    def on_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None:
        del self.workers[worker.slot]
        self._launcher.forget(worker.pid)
        self._reaper.kill_group(worker.pid, worker.handle.start_ticks)
        if not self._is_closing:
            self.restarts[end.cause] += 1
            self.restarts_of_slot[end.slot] += 1
            self._reaper.hunt_strays()
        if end.was_ready or end.cause is not EndCause.CRASH:
            if end.cause is EndCause.CRASH and not self._is_closing:
                fields = {"lane": end.slot, "death": str(end.death), "was_busy": end.was_busy}
                logger.warning("worker crashed", extra={"fields": fields})
            self._free_slot(end.slot)
        else:
            self._start_failed(end.slot, end.error)
        self._events.on_worker_ended(worker, end)

    # Jobs

    def worker_running(self, number: int) -> LocalWorker | None:
        """Returns the worker that runs this job now."""
        return next((worker for worker in self.workers.values() if worker.is_running(number)), None)

    def limit_memory(self, number: int, limit_bytes: int) -> None:
        """Limit the job's memory, from the moment at which a worker begins it."""
        self._limits[number] = limit_bytes
        self._watch.look_closely()

    def stop_job(self, number: int, cause: EndCause) -> None:
        """Kill the worker that runs the job, or the one that begins it later, until `forget_job`."""
        self._stops[number] = cause
        self._kill_running(number)

    def forget_job(self, number: int) -> None:
        """The job has ended."""
        self._limits.pop(number, None)
        self._stops.pop(number, None)

    def _kill_running(self, number: int) -> None:
        worker, cause = self.worker_running(number), self._stops.get(number)
        if worker is not None and cause is not None:
            worker.kill_in(number, cause)
        self._watch.look_closely()

    # Watching. A worker takes jobs from the library and writes into its row of shared memory which one it begins, which
    # can only be polled. The watch does so every few milliseconds while a job is awaited.

    def _watched(self) -> list[Watched]:
        """Called in the watch's thread."""
        workers = tuple(self.workers.values())
        for worker in workers:
            watched, number = worker.watched, worker.row.current_job
            is_busy = worker.row.is_busy
            limit_bytes = self._limits.get(number) if is_busy else None
            if limit_bytes is None:
                watched.end()
            elif watched.number != number:
                watched.begin(number, limit_bytes)
            if is_busy and number in self._stops and not worker.is_held and worker.state is not WorkerState.KILLING:
                self._notify(self._kill_running, number)
        return [worker.watched for worker in workers]

    def _is_waiting(self) -> bool:
        """Called in the watch's thread. Whether a worker has yet to begin a job that is limited or to be stopped."""
        workers = tuple(self.workers.values())
        killed_in = {worker.row.current_job for worker in workers if worker.state is WorkerState.KILLING}
        limited = {worker.watched.number for worker in workers}
        return bool(set(self._stops) - killed_in or set(self._limits) - limited)

    def on_stopped(self, watched: Watched) -> None:
        worker = next((worker for worker in self.workers.values() if worker.watched is watched), None)
        if worker is None or worker.is_held or worker.state is WorkerState.KILLING:
            return
        if watched.must_answer():
            fields = {"lane": worker.slot, "pid": worker.pid}
            logger.warning("worker was stopped from outside", extra={"fields": fields})
            worker.kill(EndCause.CRASH, note="it was stopped by a signal from outside")

    def on_over_memory(self, watched: Watched, number: int) -> None:
        self._events.on_job_over_memory(number, watched.peak_bytes)

    # The end

    def begin_close(self) -> None:
        """From now on, the end of a worker is planned."""
        self._is_closing = True
        for pause in self._pauses.values():
            pause.cancel()

    async def close(self, grace_s: float) -> None:
        """Release what is left of the workers. Call it when all have ended, or had the time to end."""
        self._limits.clear()
        self._stops.clear()
        await self._watch.close()
        await self._reaper.close(grace_s)
        self._is_closed = True
        for worker in self.workers.values():
            worker.abandon()
        self.workers.clear()
