"""One pool or executor of the standard library at a time, replaced by another when it may be broken.

      CLOSED ──open──► OPENING ──made──► OPEN
         ▲                │                │
         └──all ended──── ENDING ◄─────────┘ a worker died that may have held a lock, close, …

A pool that may be broken is never asked to end itself: its processes are killed, and then its threads end, off the
event loop.

Each worker writes into its row of shared memory which job it begins, before it begins it. So it is known for certain
which jobs had begun; a job that no row names counts as not begun once every answer of the pool has been read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from enum import StrEnum
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, Final, Protocol

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome
from offload.engines.answers import broken, call_of, outcome_of
from offload.engines.base import Capabilities
from offload.engines.local.context import StartPermit
from offload.engines.local.worker import LocalWorkerEnd
from offload.engines.local.worker_set import WorkerSet
from offload.engines.off_loop import Done, off_loop
from offload.engines.slot_table import SlotTable
from offload.errors import FrameError, IllegalStep
from offload.processes.process import DUMP_S
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.foreign.remote import Call, read_answer

logger: Final = logging.getLogger("offload.engine")

# If a job that is to be stopped has neither ended nor been killed within this time, its pool is broken.
_STOP_S: Final = 1.0
# How long an executor may know of a death before the service does.
_NOTICE_S: Final = 0.1
# How long the threads of a pool whose processes are all dead may take to end.
_END_S: Final = 5.0
_GIVEN_UP: Final = Death(note="its pool was replaced because another worker died")

OnResult = Callable[[object], None]


class WorkerPool(Protocol):
    """A pool or an executor.

    `submit` is called on the event loop and may raise anything; `on_result` gets a `remote.PlainAnswer` or an
    exception, in any thread. `forget`: the job with this number will not be answered. `leave` lets idle workers end by
    themselves. `end` is called in a thread of its own when no process is left; it returns True if all threads have
    ended, so that every answer has been passed to `on_result`.
    """

    def submit(self, call: Call, on_result: OnResult) -> None: ...
    def forget(self, number: int) -> None: ...
    def leave(self) -> None: ...
    def end(self, timeout_s: float) -> bool: ...


class PoolKind(Protocol):
    """What an engine is made of. Of `workers` workers each pool gets `slots_per_pool(workers)`.

    `make` is called in a thread of its own; the pool may call `give_up` later, in any thread, when it is broken.
    `survives`: whether a pool is certainly intact after this end of one of its workers.
    """

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    def slots_per_pool(self, workers: int) -> int: ...
    def make(self, workers: int, context: BaseContext, give_up: Callable[[], None]) -> WorkerPool: ...
    def survives(self, end: LocalWorkerEnd) -> bool: ...


class PoolState(StrEnum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    ENDING = "ending"


STEPS: Final[Mapping[PoolState, frozenset[PoolState]]] = {
    PoolState.CLOSED: frozenset({PoolState.OPENING}),
    PoolState.OPENING: frozenset({PoolState.OPEN, PoolState.ENDING}),
    PoolState.OPEN: frozenset({PoolState.ENDING}),
    PoolState.ENDING: frozenset({PoolState.CLOSED}),
}


class ReplaceablePool:
    """Runs the jobs of `slots` on one pool at a time. After `begin_close` it is not replaced; `closed` is set at the
    end."""

    def __init__(self, *, kind: PoolKind, slots: range, worker_set: WorkerSet, table: SlotTable, load: bytes) -> None:
        self.closed = asyncio.Event()
        self._kind = kind
        self._slots = [SlotId(slot) for slot in slots]
        self._worker_set = worker_set
        self._table = table
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._state = PoolState.CLOSED
        self._pool: WorkerPool | None = None
        self._permit: StartPermit
        # The call that makes the pool, or the one that ends its threads.
        self._pending: asyncio.Future[Any] | None = None
        # How the workers of jobs died whose answers may still arrive, by job number.
        self._deaths: dict[int, Death] = {}
        self._is_closing = False

    @property
    def is_opening(self) -> bool:
        """Whether the pool is being made; its workers may be ready before it is."""
        return self._state is PoolState.OPENING

    # Jobs

    def submit_job(self, slot: SlotId, job: Job) -> None:
        self._table.assign(slot, job)
        try:
            if self._pool is None or self._state is not PoolState.OPEN:
                raise BrokenExecutor("the pool is being replaced")
            call = call_of(job, load=self._load, lane=slot)
            self._pool.submit(call, partial(self._on_result, self._permit, job.number))
        except Exception as error:
            logger.debug("pool accepted no job", extra={"fields": {"error": repr(error)}})
            # Deferred: the scheduler is still processing the event that caused this call.
            self._loop.call_soon(self._on_not_submitted, slot, job)

    def stop_job(self, job: Job, cause: EndCause) -> None:
        """Kill the worker that runs the job; after a timeout its Python stacks go to the log first.

        A job that has not begun cannot be taken back from the library; it is stopped when it begins.
        """
        worker = self._worker_set.worker_running(job.number)
        if worker is not None and cause is EndCause.TIMEOUT:
            worker.handle.dump_stacks()
            self._loop.call_later(DUMP_S, self._stop_now, job, cause)
        else:
            self._stop_now(job, cause)

    def _stop_now(self, job: Job, cause: EndCause) -> None:
        if self._is_open_with(job):
            self._worker_set.stop_job(job.number, cause)
            self._loop.call_later(_STOP_S, self._on_stop_overdue, job)

    def _on_stop_overdue(self, job: Job) -> None:
        if not self._is_open_with(job):
            return
        worker = self._worker_set.worker_running(job.number)
        if worker is None or worker.state is not WorkerState.KILLING:
            self.end()

    def _is_open_with(self, job: Job) -> bool:
        return self._table.job(job.number) is job and self._state is PoolState.OPEN

    def _on_not_submitted(self, slot: SlotId, job: Job) -> None:
        if self._table.job_in(slot) is job:
            self._worker_set.forget_job(job.number)
            self._table.drop_worker(slot, _GIVEN_UP)
        self.end()

    # Opening

    def open(self) -> None:
        """Make a pool, off the event loop. Its workers report when they are ready."""
        self._step(PoolState.OPENING)
        self._permit, context = self._worker_set.issue_permit(frozenset(self._slots))
        make = partial(self._kind.make, len(self._slots), context, partial(self._give_up, self._permit))
        self._pending = off_loop(make, name="offload-pool-opening")
        self._pending.add_done_callback(self._on_made)

    def _on_made(self, making: asyncio.Future[Done[WorkerPool]]) -> None:
        self._pending = None
        done = making.result()
        self._pool = done.value
        if self._state is PoolState.OPENING and self._pool is not None:
            self._step(PoolState.OPEN)
            for worker in self._worker_set.started_under(self._permit):
                if worker.state is WorkerState.IDLE:
                    self._table.add_worker(self._slots)
            return
        if self._state is PoolState.OPENING:
            logger.error("pool could not be created", exc_info=done.error)
            self._worker_set.report_failure(min(self._slots), str(done.error))
            self.end()
        self._continue_ending()

    # Ending

    def end(self) -> None:
        """Give the pool up and kill all of its workers; the next one is opened when they have ended."""
        if self._state in (PoolState.ENDING, PoolState.CLOSED):
            return
        self._begin_end()
        for worker in self._worker_set.started_under(self._permit):
            worker.kill(EndCause.RETIRE, note=_GIVEN_UP.note)
        self._continue_ending()

    def begin_close(self) -> None:
        """End the pool for good. Idle workers end by themselves, all others are killed."""
        self._is_closing = True
        if self._state is PoolState.CLOSED:
            self.closed.set()
            return
        pool = self._pool if self._state is PoolState.OPEN else None
        if self._state is not PoolState.ENDING:
            self._begin_end()
        for worker in self._worker_set.started_under(self._permit):
            if pool is None or worker.state is not WorkerState.IDLE or worker.row.is_busy:
                worker.kill(EndCause.CANCEL)
        if pool is not None:
            self._in_thread(pool.leave)
        self._continue_ending()

    def on_workers_abandoned(self) -> None:
        """The engine closes, and no longer waits for the ends of workers."""
        self._continue_ending()

    def _begin_end(self) -> None:
        self._step(PoolState.ENDING)
        self._worker_set.revoke_permit(self._permit)
        for slot in self._slots:
            if self._table.job_in(slot) is None:
                self._table.drop_worker(slot, _GIVEN_UP)

    def _continue_ending(self) -> None:
        """Once the workers have ended, ends the threads; once these have ended too, closes."""
        if self._state is not PoolState.ENDING or self._pending is not None:
            return
        if self._worker_set.started_under(self._permit):
            return
        if self._pool is not None:
            pool, self._pool = self._pool, None
            self._pending = self._in_thread(partial(pool.end, _END_S))
            self._pending.add_done_callback(self._on_threads_ended)
            return
        self._step(PoolState.CLOSED)
        if self._is_closing:
            self.closed.set()
        else:
            self.open()

    def _on_threads_ended(self, ending: asyncio.Future[Done[bool]]) -> None:
        self._pending = None
        is_certain = ending.result().value is True
        if not is_certain:
            logger.warning("threads of a broken pool did not end", exc_info=ending.result().error)
        self._drop_unanswered(is_certain=is_certain)
        self._continue_ending()

    def _drop_unanswered(self, *, is_certain: bool) -> None:
        """Every answer has been read: the jobs that have none will get none."""
        for slot in self._slots:
            job = self._table.job_in(slot)
            if job is not None:
                self._worker_set.forget_job(job.number)
                death = self._deaths.get(job.number)
                self._table.drop_worker(slot, death or _GIVEN_UP, begun=death is not None or not is_certain)
        self._deaths.clear()

    def _in_thread(self, call: Callable[[], object]) -> asyncio.Future[Done[bool]]:
        return off_loop(lambda: bool(call()), name="offload-pool-ending")

    def _give_up(self, permit: StartPermit) -> None:
        """Called in any thread."""
        self._loop.call_soon_threadsafe(self._end_if_current, permit)

    def _end_if_current(self, permit: StartPermit) -> None:
        if permit is self._permit:
            self.end()

    # Events of its workers

    def on_worker_ready(self) -> None:
        """One more worker takes jobs. While the pool is being made, that is reported when it is open."""
        if self._state is PoolState.OPEN:
            self._table.add_worker(self._slots)

    def on_worker_ended(self, end: LocalWorkerEnd) -> None:
        if self._table.job(end.number) is not None:
            if end.was_busy:
                if self._pool is not None:
                    self._pool.forget(end.number)
                self._worker_set.forget_job(end.number)
                self._table.drop_worker_of(end.number, end.death, begun=True)
            else:  # its answer may be on its way
                self._deaths[end.number] = end.death
        if not self._kind.survives(end):
            self.end()
        self._continue_ending()

    def on_worker_not_started(self, permit: StartPermit) -> None:
        self._end_if_current(permit)

    # Answers

    def _on_result(self, permit: StartPermit, number: int, values: object) -> None:
        """Called in a thread of the library."""
        self._loop.call_soon_threadsafe(self._on_answer, permit, number, values)

    def _on_answer(self, permit: StartPermit, number: int, values: object) -> None:
        job = self._table.job(number)
        if job is None or permit is not self._permit:
            return
        if isinstance(values, BrokenExecutor):
            # Most often because a worker has died; its end is about to be reported, with its cause.
            self._loop.call_later(_NOTICE_S, self._end_if_current, permit)
        elif isinstance(values, BaseException):
            # While the pool ends, this is about its end, and the job is judged with it.
            if self._state is PoolState.OPEN:
                self._finish(number, broken(f"its answer could not be sent: {type(values).__name__}"))
        else:
            is_leaving = False
            try:
                answer = read_answer(values, number)
                outcome, is_leaving = outcome_of(job, answer), answer.is_leaving
            except FrameError:
                outcome = broken("its answer is invalid")
            self._finish(number, outcome, is_leaving=is_leaving)

    def _finish(self, number: int, outcome: Outcome, *, is_leaving: bool = False) -> None:
        self._deaths.pop(number, None)
        self._worker_set.forget_job(number)
        self._table.finish(number, outcome, is_leaving=is_leaving or self._state is not PoolState.OPEN)

    def _step(self, to: PoolState) -> None:
        if to not in STEPS[self._state]:
            raise IllegalStep(thing=f"pool of slot {min(self._slots)}", state=self._state, event=to)
        self._state = to
