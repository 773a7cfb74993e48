"""The life of one pool or executor of the standard library, and of those that replace it.

Lives here: when a host is opened, when it may be broken and is given up whole, and what becomes of the jobs that it had
then.  A host that may be broken is never asked to end itself: its processes are killed, and its threads end for want of
them, off the event loop.

      CLOSED ──open──► OPENING ──made──► OPEN
         ▲                │                │
         └──all is over── ENDING ◄─────────┘ a worker died that may have held a lock, close, …

Which jobs had begun is known for certain: each worker writes into its row of shared memory which one it begins, before
it does; and a job that no row names is said not to have begun only when every answer of the host has been read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from enum import Enum
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, Final, Protocol

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome
from offload.engines.answers import broken, call_of, outcome_of
from offload.engines.base import Capabilities
from offload.engines.local.context import StartPermit
from offload.engines.local.worker import DUMP_S, LocalWorker, LocalWorkerEnd
from offload.engines.local.worker_set import WorkerSet
from offload.engines.off_loop import Done, off_loop
from offload.engines.slot_table import SlotTable
from offload.errors import FrameError
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.remote import Call, read_answer

logger: Final = logging.getLogger("offload.engine")

# A job that is to be stopped and has not begun is looked at so often until it has; after so many looks something is
# wrong with its host.  They make a second.
_LOOK_S: Final = 0.001
_MAX_LOOKS: Final = 1000
# How long an executor may know of a death before we do.
_HEAR_S: Final = 0.1
# What the threads of a host whose processes are all dead may take to end.
_END_S: Final = 5.0
_GIVEN_UP: Final = Death(note="its pool was replaced, because another worker of it had died")

Tell = Callable[[object], None]


class WorkerPool(Protocol):
    """A pool or an executor.  `submit` is called on the loop and raises whatever it likes; `tell` gets a
    `remote.PlainAnswer` or an exception, in any thread.

    `leave` lets idle workers leave by themselves.  `end` is called, in a thread of its own, when no process is left:
    True if all threads have ended, and so every answer that was given has been told.
    """

    def submit(self, call: Call, tell: Tell) -> None: ...
    def forget(self, number: int) -> None: ...
    def leave(self) -> None: ...
    def end(self, timeout_s: float) -> bool: ...


class PoolKind(Protocol):
    """What an engine is made of.  Of `workers` workers each host gets `slots_per_pool(workers)`.

    `make` is called in a thread of its own; it may call `give_up` later, in any thread, when the host is broken.

    `survives`: whether a host is certainly whole after this end of one of its workers.
    """

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    def slots_per_pool(self, workers: int) -> int: ...
    def make(self, workers: int, context: BaseContext, give_up: Callable[[], None]) -> WorkerPool: ...
    def survives(self, end: LocalWorkerEnd) -> bool: ...


class PoolState(Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    ENDING = "ending"


class ReplaceablePool:
    """One host at a time, for `lanes`, which are also its slots."""

    def __init__(self, *, kind: PoolKind, lanes: range, worker_set: WorkerSet, table: SlotTable, load: bytes) -> None:
        self.closed = asyncio.Event()
        self._kind = kind
        self._lanes = frozenset(lanes)
        self._slots = [SlotId(lane) for lane in lanes]
        self._worker_set = worker_set
        self._table = table
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._state = PoolState.CLOSED
        self._pool: WorkerPool | None = None
        self._permit: StartPermit
        self._claimed: dict[int, Death] = {}
        self._calls: set[asyncio.Future[Any]] = set()
        self._is_opening = False
        self._is_tearing = False
        self._is_closing = False

    # Orders

    def open(self) -> None:
        if self._is_closing:
            return
        self._state = PoolState.OPENING
        self._is_opening = True
        self._permit, context = self._worker_set.issue_permit(self._lanes)
        make = partial(self._kind.make, len(self._lanes), context, partial(self._give_up, self._permit))
        opening = off_loop(make, name="offload-host-opening")
        self._calls.add(opening)
        opening.add_done_callback(self._opened)

    def give(self, slot: SlotId, job: Job) -> None:
        self._table.assign(slot, job)
        try:
            if self._pool is None or self._state is not PoolState.OPEN:
                raise BrokenExecutor("it is being replaced")
            call = call_of(job, load=self._load, lane=slot)
            self._pool.submit(call, partial(self._tell, self._permit, job.number))
        except Exception as error:
            logger.debug("host took no job", extra={"fields": {"error": repr(error)}})
            self._loop.call_soon(self._not_given, slot, job)

    def stop(self, job: Job, cause: EndCause) -> None:
        """Ends the work of a job: the worker that is in it is killed.  If time ran out, its Python stacks go to the log
        before."""
        worker = self._worker_in(job)
        if worker is not None and cause is EndCause.TIMEOUT:
            worker.dump_stacks()
            self._loop.call_later(DUMP_S, self._stop, job, cause, _MAX_LOOKS)
        else:
            self._stop(job, cause, _MAX_LOOKS)

    def _stop(self, job: Job, cause: EndCause, looks_left: int) -> None:
        """Until the job is over.  One that has not begun is waited for: it cannot be taken back, and would begin."""
        if self._table.job(job.number) is not job or self._state is not PoolState.OPEN:
            return
        worker = self._worker_in(job)
        if worker is not None and worker.state is WorkerState.KILLING:
            return
        if worker is not None:
            worker.kill_in(job.number, cause)
        if looks_left:
            self._loop.call_later(_LOOK_S, self._stop, job, cause, looks_left - 1)
        else:
            self.end()

    def _worker_in(self, job: Job) -> LocalWorker | None:
        return next(
            (worker for worker in self._worker_set.started_under(self._permit) if worker.is_at(job.number)), None
        )

    def end(self) -> None:
        """Gives the host up, with all of its workers; the next is opened when that is over."""
        if self._state in (PoolState.ENDING, PoolState.CLOSED):
            return
        self._begin_end()
        for worker in self._worker_set.started_under(self._permit):
            worker.kill(EndCause.RETIRE, note=_GIVEN_UP.note)
        self._go_on_ending()

    def begin_close(self) -> None:
        """For good.  Idle workers leave by themselves, all others are killed."""
        self._is_closing = True
        if self._state is PoolState.CLOSED:
            self.closed.set()
            return
        host = self._pool if self._state is PoolState.OPEN else None
        if self._state is not PoolState.ENDING:
            self._begin_end()
        for worker in self._worker_set.started_under(self._permit):
            if host is None or worker.state is not WorkerState.IDLE or worker.row.is_busy:
                worker.kill(EndCause.CANCEL)
        if host is not None:
            self._run(host.leave)
        self._go_on_ending()

    def _not_given(self, slot: SlotId, job: Job) -> None:
        """Not at once: the scheduler must not hear of it before it has been heard to the end."""
        if self._table.job_in(slot) is job:
            self._worker_set.forget_job(job.number)
            self._table.drop_worker(slot, _GIVEN_UP)
        self.end()

    # Events of the worker set

    def is_of(self, permit: StartPermit) -> bool:
        return permit is self._permit

    def ready(self) -> None:
        """One more worker takes jobs; as long as the host is being opened, that is told when it is open."""
        if self._state is PoolState.OPEN:
            self._table.add_worker(self._slots)

    def ended(self, end: LocalWorkerEnd) -> None:
        if self._table.job(end.number) is not None:
            if end.was_busy:
                if self._pool is not None:
                    self._pool.forget(end.number)
                self._worker_set.forget_job(end.number)
                self._table.drop_worker_of(end.number, end.death, begun=True)
            else:  # its answer may be on its way
                self._claimed[end.number] = end.death
        if not self._kind.survives(end):
            self.end()
        self._go_on_ending()

    # Steps

    def _opened(self, opening: asyncio.Future[Done[WorkerPool]]) -> None:
        self._calls.discard(opening)
        self._is_opening = False
        done = opening.result()
        self._pool = done.value
        if self._state is PoolState.OPENING and self._pool is not None:
            self._state = PoolState.OPEN
            for worker in self._worker_set.started_under(self._permit):
                if worker.state is WorkerState.IDLE:
                    self._table.add_worker(self._slots)
            return
        if self._state is PoolState.OPENING:
            logger.error("no workers could be had", exc_info=done.error)
            self._worker_set.not_made(min(self._lanes), str(done.error))
            self.end()
        self._go_on_ending()

    def _begin_end(self) -> None:
        self._state = PoolState.ENDING
        self._worker_set.revoke_permit(self._permit)
        for slot in self._slots:
            if self._table.job_in(slot) is None:
                self._table.drop_worker(slot, _GIVEN_UP)

    def _go_on_ending(self) -> None:
        if self._state is not PoolState.ENDING or self._is_opening or self._worker_set.started_under(self._permit):
            return
        if self._pool is not None:
            host, self._pool = self._pool, None
            self._is_tearing = True
            self._run(partial(host.end, _END_S)).add_done_callback(self._torn)
        elif not self._is_tearing:
            self._state = PoolState.CLOSED
            if self._is_closing:
                self.closed.set()
            else:
                self.open()

    def _torn(self, ending: asyncio.Future[Done[bool]]) -> None:
        is_certain = ending.result().value is True
        if not is_certain:
            logger.warning("threads of a broken pool did not end", exc_info=ending.result().error)
        self._is_tearing = False
        self._judge(is_certain=is_certain)
        self._go_on_ending()

    def _judge(self, *, is_certain: bool) -> None:
        """All answers of the host have been told: whoever has none yet will get none."""
        for slot in self._slots:
            job = self._table.job_in(slot)
            if job is not None:
                self._worker_set.forget_job(job.number)
                death = self._claimed.get(job.number)
                self._table.drop_worker(slot, death or _GIVEN_UP, begun=death is not None or not is_certain)
        self._claimed.clear()

    def _run(self, call: Callable[[], object]) -> asyncio.Future[Done[bool]]:
        running: asyncio.Future[Done[bool]] = off_loop(lambda: bool(call()), name="offload-host-ending")
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)
        return running

    def _give_up(self, permit: StartPermit) -> None:
        """In any thread."""
        self._loop.call_soon_threadsafe(self._give_up_now, permit)

    def _give_up_now(self, permit: StartPermit) -> None:
        if permit is self._permit:
            self.end()

    # Answers

    def _tell(self, permit: StartPermit, number: int, values: object) -> None:
        """In a thread of the library's."""
        self._loop.call_soon_threadsafe(self._told, permit, number, values)

    def _told(self, permit: StartPermit, number: int, values: object) -> None:
        job = self._table.job(number)
        if job is None or permit is not self._permit:
            return
        if isinstance(values, BrokenExecutor):
            # Most often because a worker has died, of which we hear at once, and more.
            self._loop.call_later(_HEAR_S, self._give_up_now, permit)
        elif isinstance(values, BaseException):
            # While the host ends that is about its end, and judged with it.
            if self._state is PoolState.OPEN:
                self._finish(number, broken(f"its answer could not be sent: {type(values).__name__}"))
        else:
            try:
                outcome = outcome_of(job, read_answer(values, number))
            except FrameError:
                outcome = broken("what came back is no answer")
            self._finish(number, outcome)

    def _finish(self, number: int, outcome: Outcome) -> None:
        self._claimed.pop(number, None)
        self._worker_set.forget_job(number)
        self._table.finish(number, outcome, is_leaving=self._state is not PoolState.OPEN)
