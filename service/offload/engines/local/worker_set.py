"""The workers of all pools and executors of an engine: who is hired, for which lane, and how each ends.

Lives here: the lanes, of which each has one worker or none; the brake on start-ups that fail; killing and watching.
Processes are wanted by threads of the library's, which wait here until a lane is free.  What an end means for jobs is
the engine's, to which all is told on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import Counter
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol

from offload.engines.local.context import StartedProcess, StartPermit, make_context
from offload.engines.local.worker import LocalWorker, LocalWorkerEnd
from offload.errors import StartError
from offload.metrics.layout import WorkerRows
from offload.processes.brake import Brake
from offload.processes.launcher import Launcher
from offload.processes.reaper import Reaper
from offload.processes.watch import Watch, Watched
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.pool_worker import PoolWorkerSpec, run_pool_worker

logger: Final = logging.getLogger("offload.engine")

# A job with a memory limit is looked for so often until a worker has begun it.
_LOOK_AGAIN_S: Final = 0.005


class WorkerSetEvents(Protocol):
    """What the engine is told, on the event loop's thread."""

    def on_worker_ready(self, worker: LocalWorker) -> None: ...
    def on_worker_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None: ...
    def on_worker_not_started(self, permit: StartPermit) -> None: ...
    def on_starts_failing(self) -> None: ...
    def on_job_over_memory(self, number: int, peak_bytes: int) -> None: ...


class WorkerSet:
    """Made on the event loop's thread, for lanes 0 to `lanes` - 1."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        load: bytes,
        metrics: WorkerRows,
        lanes: int,
        start_timeout_s: float,
        events: WorkerSetEvents,
    ) -> None:
        self.restarts: Counter[EndCause] = Counter()
        self.restarts_of_lane: Counter[int] = Counter()
        self.brake = Brake()
        self.workers: dict[int, LocalWorker] = {}
        self._launcher = launcher
        self._load = load
        self._metrics = metrics
        self._start_timeout_s = start_timeout_s
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._reaper = Reaper(launcher.hunt_strays)
        self._limits: dict[int, int] = {}
        self._watch = Watch(self._watched, self)
        # Shared with the library's threads, and held for microseconds.
        self._changed = threading.Condition()
        self._free = set(range(lanes))
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._is_closing = False

    # Start permits

    def issue_permit(self, lanes: frozenset[int]) -> tuple[StartPermit, BaseContext]:
        """For one pool or executor, which is to use the context."""
        permit = StartPermit(lanes)
        return permit, make_context(self._launcher.start_method, partial(self._start_process, permit))

    def revoke_permit(self, permit: StartPermit) -> None:
        """No more processes for this one; threads that wait for some end."""
        with self._changed:
            permit.is_revoked = True
            self._changed.notify_all()

    def started_under(self, permit: StartPermit) -> list[LocalWorker]:
        """The workers that it has, those included that are being ended."""
        return [worker for worker in self.workers.values() if worker.permit is permit]

    def _start_process(
        self, permit: StartPermit, *, target: Any, args: tuple[Any, ...] = (), **_: object
    ) -> StartedProcess:
        """In a thread of the library's.  Raises StartError."""
        lane = self._take_lane(permit)
        try:
            process, ready, output = self._start(lane, target, args)
        except (OSError, StartError) as error:
            self._loop.call_soon_threadsafe(self._not_started, permit, lane, str(error))
            raise StartError(str(error)) from error
        self._loop.call_soon_threadsafe(self._started, permit, lane, process, ready, output)
        return StartedProcess(process)

    def _start(self, lane: int, target: Any, arguments: tuple[Any, ...]) -> tuple[BaseProcess, int, int]:
        """The process, and our ends of its two pipes."""
        with ExitStack() as ours, ExitStack() as theirs:
            pipes = []
            for _ in range(2):
                reader, writer = os.pipe()
                ours.callback(os.close, reader)
                pipes.append((reader, theirs.enter_context(Connection(writer, readable=False))))
            (ready, ready_end), (output, output_end) = pipes
            spec = PoolWorkerSpec(
                load=self._load,
                lane=lane,
                start_method=self._launcher.start_method,
                ready=ready_end,
                output=output_end,
                metrics=self._metrics,
            )
            process = self._launcher.make(run_pool_worker, spec, target, arguments, name=f"offload-worker-{lane}")
            self._launcher.start_made(process)
            ours.pop_all()
        return process, ready, output

    def _take_lane(self, permit: StartPermit) -> int:
        """Waits until one of its lanes is free."""
        with self._changed:
            while not permit.is_revoked:
                free = self._free & permit.lanes
                if free:
                    lane = min(free)
                    self._free.remove(lane)
                    return lane
                self._changed.wait()
        raise StartError("no more workers are wanted")

    def _give_back_lane(self, lane: int) -> None:
        self._pauses.pop(lane, None)
        with self._changed:
            self._free.add(lane)
            self._changed.notify_all()

    def _started(self, permit: StartPermit, lane: int, process: BaseProcess, ready: int, output: int) -> None:
        assert process.pid is not None
        self._launcher.watch(process.pid)
        self.workers[lane] = worker = LocalWorker(
            process=process,
            permit=permit,
            lane=lane,
            row=self._metrics.worker_row(lane),
            ready=ready,
            output=output,
            start_timeout_s=self._start_timeout_s,
            kill_tree=self._reaper.kill_tree,
            events=self,
        )
        if permit.is_revoked:
            worker.kill(EndCause.RETIRE)

    def _not_started(self, permit: StartPermit, lane: int, error: str) -> None:
        self._start_failed(lane, error)
        self._events.on_worker_not_started(permit)

    def not_made(self, lane: int, error: str) -> None:
        """A pool or an executor could not be made, for another reason than a worker."""
        with self._changed:
            self._free.discard(lane)
        self._start_failed(lane, error)

    # LocalWorkerEvents

    def on_ready(self, worker: LocalWorker) -> None:
        self.brake.succeeded()
        for lane, pause in list(self._pauses.items()):  # what kept workers from starting is gone
            pause.cancel()
            self._give_back_lane(lane)
        self._events.on_worker_ready(worker)

    def on_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None:
        del self.workers[worker.lane]
        self._launcher.forget(worker.pid)
        self._reaper.kill_group(worker.pid, worker.start_ticks)
        if not self._is_closing:
            self.restarts[end.cause] += 1
            self.restarts_of_lane[end.lane] += 1
            self._reaper.hunt_strays()
        if end.was_ready or end.cause is not EndCause.CRASH:
            if end.cause is EndCause.CRASH and not self._is_closing:
                fields = {"lane": end.lane, "death": str(end.death), "was_busy": end.was_busy}
                logger.warning("worker crashed", extra={"fields": fields})
            self._give_back_lane(end.lane)
        else:
            self._start_failed(end.lane, end.error)
        self._events.on_worker_ended(worker, end)

    def _start_failed(self, lane: int, error: str) -> None:
        self.brake.failed(lane, error)
        pause_s = self.brake.pause_s()
        fields = {"lane": lane, "error": error, "pause_s": pause_s}
        logger.warning("worker failed to start", extra={"fields": fields})
        if pause_s:
            self._pauses[lane] = self._loop.call_later(pause_s, self._give_back_lane, lane)
            self._events.on_starts_failing()
        else:
            self._give_back_lane(lane)

    # Watching

    def limit_memory(self, number: int, limit_bytes: int) -> None:
        """From the moment on at which a worker begins this job."""
        self._limits[number] = limit_bytes
        self._look_until_begun(number)

    def forget_job(self, number: int) -> None:
        """It is over."""
        self._limits.pop(number, None)

    def _look_until_begun(self, number: int) -> None:
        if number in self._limits and all(worker.watched.number != number for worker in self.workers.values()):
            self._watch.look_closely()
            self._loop.call_later(_LOOK_AGAIN_S, self._look_until_begun, number)

    def _watched(self) -> list[Watched]:
        """In the watch's thread."""
        records = []
        for worker in tuple(self.workers.values()):
            watched, number = worker.watched, worker.row.current_job
            limit_bytes = self._limits.get(number) if worker.row.is_busy else None
            if limit_bytes is None:
                watched.end()
            elif watched.number != number:
                watched.begin(number, limit_bytes)
            records.append(watched)
        if self._launcher.forkserver_pid is not None:
            records.append(Watched(pid=self._launcher.forkserver_pid))
        return records

    def on_stopped(self, watched: Watched) -> None:
        if watched.pid == self._launcher.forkserver_pid:
            logger.warning("forkserver was stopped from outside", extra={"fields": {"pid": watched.pid}})
            self._launcher.kill_forkserver()
            return
        worker = next((worker for worker in self.workers.values() if worker.watched is watched), None)
        if worker is None or worker.is_held or worker.state is WorkerState.KILLING:
            return
        if watched.must_answer():
            fields = {"lane": worker.lane, "pid": worker.pid}
            logger.warning("worker was stopped from outside", extra={"fields": fields})
            worker.kill(EndCause.CRASH, note="it was stopped by a signal from outside")

    def on_over_memory(self, watched: Watched, number: int) -> None:
        self._events.on_job_over_memory(number, watched.peak_bytes)

    # The end

    def begin_close(self) -> None:
        """Ends from now on are planned."""
        self._is_closing = True
        for pause in self._pauses.values():
            pause.cancel()

    async def close(self, grace_s: float) -> None:
        """To be called when all workers have ended."""
        self._limits.clear()
        await self._watch.close()
        await self._reaper.close(grace_s)
