"""An engine on another library's workers, of which only the answers are known.

A `Backend` calls a function elsewhere and says what its errors mean. Workers load the tasks with their first job, and
this engine writes their rows of metrics.

A slot stays occupied until its work has really ended: one that the backend cannot stop takes no other job until then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Reason
from offload.engines.answers import broken, call_of, outcome_of, why_not_loaded
from offload.engines.base import Capabilities, EngineEvents, EngineParts
from offload.engines.facts import facts_of_pool, facts_of_slot
from offload.engines.off_loop import off_loop
from offload.engines.slot_table import SlotTable
from offload.errors import EngineError, FrameError, OffloadError
from offload.metrics.snapshot import PoolFacts, WorkerFacts
from offload.metrics.timestamp import timestamp
from offload.processes.brake import Brake
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.foreign.remote import NOT_LOADED, Call, RemoteAnswer, pack_load, read_answer

logger: Final = logging.getLogger("offload.engine")

# A broken backend may take this long to fail each of its jobs.
_FAIL_S: Final = 1.0
_MAX_ERROR: Final = 200

OnResult = Callable[[object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoss:
    """What an error of a backend means for the job: how its worker died, and whether the job may have begun.

    `is_broken`: the backend runs no other job either until it is opened again.
    """

    death: Death
    begun: bool
    is_broken: bool = False


class Backend(Protocol):
    """`open` and `close` are called in threads of their own and may block; a broken backend is closed and opened again.

    `submit` has `worker.foreign.remote.run_job(call)` called somewhere; `on_result` gets what that returns, or an
    exception, in any thread, exactly once. It returns a handle for `stop`, which ends the work if the backend can do
    that. Both are called on the event loop and return at once. `submit` may raise anything that `judge` takes.
    """

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    def open(self, workers: int) -> None: ...
    def submit(self, call: Call, on_result: OnResult) -> Any: ...
    def stop(self, handle: Any) -> None: ...
    def judge(self, error: BaseException) -> WorkerLoss: ...
    def close(self) -> None: ...


class ForeignEngine:
    """Implements `ServedEngine`. As many jobs run at once as the settings ask for workers."""

    ahead = None

    def __init__(self, backend: Backend, parts: EngineParts) -> None:
        self.name: Final = backend.name
        self.capabilities: Final = backend.capabilities
        self._backend = backend
        self._workers = parts["workers"]
        self._load = pack_load(parts["load"], is_debug=parts["settings"].debug)
        self._rows = [parts["metrics"].worker_row(slot) for slot in range(self._workers)]
        self._last: dict[SlotId, RemoteAnswer] = {}
        self._handles: dict[int, Any] = {}
        self._slots = [SlotId(slot) for slot in range(self._workers)]
        self._brake = Brake()
        self._restarts: Counter[EndCause] = Counter()
        self._started_at: str | None = None
        self._generation = 0
        self._is_broken = True
        self._is_open = False
        self._reopening: asyncio.Task[None] | None = None
        self._pauses: dict[SlotId, asyncio.TimerHandle] = {}

    # Engine

    async def open(self, events: EngineEvents) -> None:
        """Raises UserError if the backend cannot be opened for a reason that the user can fix."""
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._table = SlotTable(self._workers, events)
        self._is_open = True
        await self._open_backend()

    def start(self, slot: SlotId, job: Job) -> None:
        self._table.assign(slot, job)
        on_result = partial(self._on_result, self._generation, job.number)
        try:
            call = call_of(job, load=self._load, lane=slot)
            self._handles[job.number] = self._backend.submit(call, on_result)
        except Exception as error:  # a library may raise anything
            # Deferred: the scheduler is still processing the event that caused this call.
            self._loop.call_soon(self._failed, job, replace(self._backend.judge(error), begun=False), error)

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        handle = self._handles.get(job.number)
        if handle is not None:
            self._backend.stop(handle)

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        return False

    async def close(self, grace_s: float) -> None:
        """Work that cannot be stopped is left to the backend, and continues."""
        if not self._is_open:
            return
        self._is_open = False
        self._generation += 1
        for pause in self._pauses.values():
            pause.cancel()
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.wait([self._reopening])
        with suppress(TimeoutError):
            await asyncio.wait_for(off_loop(self._backend.close, name="offload-backend-closing"), grace_s)

    # What `/stats` shows

    def worker_facts(self) -> list[WorkerFacts]:
        return [self._facts(slot) for slot in self._slots]

    def pool_facts(self) -> PoolFacts:
        return facts_of_pool(self, size=self._workers, error=self._brake.error, restarts=self._restarts)

    # Answers

    def _on_result(self, generation: int, number: int, values: object) -> None:
        """Called in any thread."""
        with suppress(RuntimeError):  # the loop is closed: work that could not be stopped has outlived it
            self._loop.call_soon_threadsafe(self._on_answer, generation, number, values)

    def _on_answer(self, generation: int, number: int, values: object) -> None:
        job = self._table.job(number)
        if generation != self._generation or job is None or job.slot is None:
            return
        self._handles.pop(number, None)
        if isinstance(values, CancelledError):
            note = "it was cancelled before it began"
            self._failed(job, WorkerLoss(death=Death(note=note), begun=False), None)
            return
        if isinstance(values, BaseException):
            self._failed(job, self._backend.judge(values), values)
            return
        try:
            answer = read_answer(values, number)
        except FrameError:
            self._table.finish(number, broken("its answer is invalid"))
            return
        if answer.status == NOT_LOADED:
            self._not_loaded(job, job.slot, answer)
            return
        self._brake.succeeded()
        self._last[job.slot] = answer
        self._rows[job.slot].ran(answer.run_ns)
        self._table.finish(number, outcome_of(job, answer), is_leaving=self._is_broken)

    def _failed(self, job: Job, loss: WorkerLoss, error: BaseException | None) -> None:
        slot = job.slot
        if slot is None or self._table.job_in(slot) is not job:
            return
        if error is not None:
            fields = {"job_id": job.id, "error": repr(error)[:_MAX_ERROR]}
            logger.warning("worker lost", extra={"fields": fields})
            self._restarts[EndCause.CRASH] += 1
        if loss.is_broken:
            self._break()
        self._table.drop_worker(slot, loss.death, begun=loss.begun)
        if not self._is_broken:
            self._table.add_worker([slot])

    def _not_loaded(self, job: Job, slot: SlotId, answer: RemoteAnswer) -> None:
        """The job has not begun, so it may be tried elsewhere; this slot pauses if loading keeps failing."""
        error = why_not_loaded(answer)
        self._brake.failed(slot, error)
        pause_s = self._brake.pause_s()
        logger.warning("worker failed to start", extra={"fields": {"error": error, "pause_s": pause_s}})
        self._table.drop_worker(slot, Death(note=f"could not load the tasks: {error}"))
        self._pauses[slot] = self._loop.call_later(pause_s, self._fill_after_pause, slot)
        if self._brake.is_on:
            self._events.failing_to_start()

    def _fill_after_pause(self, slot: SlotId) -> None:
        del self._pauses[slot]
        if not self._is_broken:
            self._table.add_worker([slot])

    # A backend that broke

    def _break(self) -> None:
        if self._is_broken:
            return
        self._is_broken = True
        for slot in self._slots:
            if self._table.job_in(slot) is None:
                self._table.drop_worker(slot, Death(note="its executor is broken"))
        self._reopening = asyncio.create_task(self._reopen())
        self._reopening.add_done_callback(self._on_reopened)

    async def _reopen(self) -> None:
        give_up_at = time.monotonic() + _FAIL_S
        while any(self._table.jobs_in(self._slots)) and time.monotonic() < give_up_at:
            await asyncio.sleep(_FAIL_S / 100)
        self._generation += 1
        for slot in self._slots:
            self._table.drop_worker(slot, Death(note="its executor is broken"), begun=True)
        self._handles.clear()
        await off_loop(self._backend.close, name="offload-backend-closing")
        while True:
            try:
                await self._open_backend()
                return
            except OffloadError as error:
                self._brake.failed(0, str(error))
                logger.warning("executor could not be created", extra={"fields": {"error": str(error)}})
                self._events.failing_to_start()
                await asyncio.sleep(max(self._brake.pause_s(), _FAIL_S))

    def _on_reopened(self, reopening: asyncio.Task[None]) -> None:
        self._reopening = None
        if not reopening.cancelled() and reopening.exception() is not None:
            logger.error("executor could not be replaced", exc_info=reopening.exception())

    async def _open_backend(self) -> None:
        done = await off_loop(partial(self._backend.open, self._workers), name="offload-backend-opening")
        if isinstance(done.error, OffloadError):
            raise done.error
        if done.error is not None:
            raise EngineError(f"{type(done.error).__name__}: {done.error}") from done.error
        self._started_at = timestamp()
        self._is_broken = False
        for slot in self._slots:
            self._table.add_worker([slot])

    def _facts(self, slot: SlotId) -> WorkerFacts:
        return facts_of_slot(
            self._table,
            slot,
            last=self._last.get(slot),
            vacant=WorkerState.DEAD,
            started_at=self._started_at,
            restarts=self._restarts.total(),
        )
