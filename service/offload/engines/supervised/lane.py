"""One lane: starts a worker, sends it jobs, ends it, reports its death, and starts the next.

A lane decides nothing about jobs; it reports to the engine. Its states are in `processes.worker_state`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from offload.core.death import Death
from offload.core.job import Job
from offload.core.outcome import Ended, Outcome
from offload.engines.release import release_body
from offload.engines.supervised.answer import outcome_of
from offload.engines.supervised.channel import Frame
from offload.engines.supervised.process import WorkerEnds, WorkerProcess
from offload.errors import FrameError, IllegalStep, StartError
from offload.metrics.layout import WorkerRow
from offload.metrics.timestamp import timestamp
from offload.processes.launcher import Launcher
from offload.processes.naming import name_death
from offload.processes.process import DUMP_S, KillTree
from offload.processes.watch import Watched
from offload.processes.worker_state import STEPS, EndCause, WorkerEnd, WorkerState
from offload.wire.frames import LEAVING, FrameKind, Header
from offload.wire.shared_bytes import SharedBytes
from offload.wire.spec import WorkerSpec

logger: Final = logging.getLogger("offload.engine")

# A worker whose channel has ended cannot answer any more. It may still end by itself within this time, with a cause.
_SILENT_S: Final = 0.1
# With fewer jobs than this, a worker's output can be attributed to its job.
_AMBIGUOUS_JOBS: Final = 2
# How long a retired worker may take to end: exit handlers of the user's libraries may be slow.
_RETIRE_S: Final = 5.0


# Looked up once, as in `core.job`.
_DONE: Final = FrameKind.DONE
_BUSY: Final = WorkerState.BUSY
_KILLING: Final = WorkerState.KILLING


class LaneEvents(Protocol):
    """`lane_lost`: an idle lane is being killed; `lane_ended` follows."""

    def lane_ready(self, lane: Lane) -> None: ...
    def lane_lost(self, lane: Lane) -> None: ...
    def lane_answered(self, lane: Lane, ended: list[Ended]) -> None: ...
    def lane_ended(self, lane: Lane, end: WorkerEnd) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneParts:
    """What all lanes of an engine share. A worker that is not ready after `start_timeout_s` is a failed start."""

    launcher: Launcher
    make_spec: Callable[[int, WorkerEnds], WorkerSpec]
    kill_tree: KillTree
    start_timeout_s: float


class Lane:
    def __init__(self, number: int, row: WorkerRow, parts: LaneParts, events: LaneEvents) -> None:
        self.number = number
        self.row = row
        self.generation = 0
        self.restarts = 0
        self.started_at: str | None = None
        self.jobs_of_worker = 0
        self.watched: Watched | None = None
        self._jobs: deque[Job] = deque()
        self._state = WorkerState.DEAD
        self._parts = parts
        self._events = events
        self._worker: WorkerProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cause = EndCause.CRASH
        self._note = ""
        self._error = ""
        self._was_ready = False
        self._is_spoiled = False  # by a job; the worker begins no other, and ends by itself

    def __repr__(self) -> str:
        return f"<Lane {self.number} {self._state} generation={self.generation} pid={self.pid}>"

    @property
    def state(self) -> WorkerState:
        return self._state

    @property
    def job(self) -> Job | None:
        """The running job; others may wait behind it."""
        return self._jobs[0] if self._jobs else None

    @property
    def pid(self) -> int | None:
        return None if self._worker is None else self._worker.pid

    # Orders

    def start(self) -> None:
        """Start a worker."""
        self._step(WorkerState.STARTING)
        self.generation += 1
        self.jobs_of_worker = 0
        self.started_at = timestamp()
        self._cause, self._note, self._error = EndCause.CRASH, "", ""
        self._was_ready = self._is_spoiled = False
        self._timer = asyncio.get_running_loop().call_later(self._parts.start_timeout_s, self._on_start_timeout)
        self._starting = asyncio.create_task(self._start())
        self._starting.add_done_callback(self._on_started)

    def add_job(self, job: Job) -> None:
        """Send the job to the worker, which runs it after those that it has."""
        assert self._worker is not None and self.watched is not None
        if not self._jobs:
            self._step(_BUSY)
        elif self._state not in (_BUSY, _KILLING):
            raise IllegalStep(thing=f"lane {self.number}", state=self._state, event="one more job")
        self._jobs.append(job)
        if len(self._jobs) <= _AMBIGUOUS_JOBS:
            self._attribute_to_first()
        # To the core, a busy worker that is being killed is still busy; its end gives back the jobs that had not begun.
        if self._state is _BUSY:
            self._worker.outbox.send_job(job, is_idle=len(self._jobs) == 1)

    def withdraw(self, job: Job) -> bool:
        """Withdraw the newest job. Returns False if it has begun."""
        if self._worker is None or self._jobs[-1] is not job or not self._worker.outbox.withdraw(job):
            return False
        self._jobs.pop()
        return True

    def kill(self, cause: EndCause, *, note: str = "", dump: bool = False) -> None:
        """Kill the worker with everything that it started; with `dump`, its Python stacks go to the log first."""
        if self._state in (WorkerState.DEAD, WorkerState.KILLING):
            return
        was_idle = self._state is WorkerState.IDLE
        self._step(WorkerState.KILLING)
        self._cause, self._note = cause, note
        if was_idle:
            self._events.lane_lost(self)
        if self._worker is None:
            return  # it is still being started, and is killed then
        if dump:
            self._worker.handle.dump_stacks()
            self._set_timer(DUMP_S, self._kill_now)
        else:
            self._kill_now()

    def retire(self) -> None:
        """Make the worker end by itself, after the jobs that it has."""
        self._step(WorkerState.RETIRING)
        self._cause = EndCause.RETIRE
        assert self._worker is not None
        self._worker.outbox.send_retire()
        self._expect_to_leave()

    def abandon(self) -> None:
        """Release the descriptors of a worker whose end was not seen in time, when the engine closes."""
        self._clear_timer()
        if self._worker is not None:
            self._worker.close()

    def must_answer(self) -> bool:
        """Whether the worker, if it were stopped now, would delay a job that it has not begun."""
        if self._state is WorkerState.BUSY:
            return not self._has_begun()
        return self._state in (WorkerState.STARTING, WorkerState.IDLE)

    # WorkerEvents

    def frames(self, frames: list[Frame]) -> None:
        """Report answers that were received together in one event, before whatever follows them."""
        ended: list[Ended] = []
        for header, meta, body in frames:
            jobs = self._jobs
            if header.kind == _DONE and jobs and jobs[0].number == header.number and self._state is not _KILLING:
                ended.append((header.number, self._end_first(header, meta, body)))
                continue
            if ended:
                self._report(ended)
                ended = []
            self._on_other_frame(header, meta, body)
        if ended:
            self._report(ended)

    def channel_closed(self, error: FrameError | None) -> None:
        """The worker cannot answer any more. Most often its end follows at once, with its cause."""
        if error is not None:
            self.kill(EndCause.CRASH, note="it wrote an invalid frame to its channel")
        elif self._state not in (WorkerState.KILLING, WorkerState.RETIRING):
            self._set_timer(_SILENT_S, lambda: self.kill(EndCause.CRASH, note="it closed its channel"))

    def worker_ended(self, exit_code: int | None) -> None:
        worker, self._worker = self._worker, None
        assert worker is not None
        self._parts.launcher.forget(worker.pid)
        death = name_death(exit_code, note=self._note)
        self._end(replace(death, is_planned=self._cause is EndCause.RETIRE), worker)

    # Steps

    async def _start(self) -> None:
        try:
            worker = await WorkerProcess.start(
                self._parts.launcher, lambda ends: self._parts.make_spec(self.number, ends), self
            )
        except StartError as error:
            self._error = str(error)
            self._end(Death(note=str(error)), None)
            return
        self._worker = worker
        self.watched = Watched(pid=worker.pid, must_answer=self.must_answer)
        if self._state is WorkerState.KILLING:
            self._kill_now()
        try:
            await worker.connect()
        except OSError as error:  # no more descriptors, most likely
            self._error = str(error)
            self.kill(EndCause.CRASH)

    def _on_started(self, starting: asyncio.Task[None]) -> None:
        self._starting = None
        error = None if starting.cancelled() else starting.exception()
        if error is None:
            return
        logger.error("a worker could not be started", exc_info=error, extra={"fields": {"lane": self.number}})
        self._error = "internal error; see the log of the service"
        if self._worker is None:
            self._end(Death(note=self._error), None)
        else:
            self.kill(EndCause.CRASH, note=self._error)

    def _on_other_frame(self, header: Header, meta: bytes, body: bytes | bytearray) -> None:
        """Handle a frame that is not a small answer to the first job."""
        kind = header.kind
        if self._state is WorkerState.STARTING and kind == FrameKind.READY:
            self._step(WorkerState.IDLE)
            self._clear_timer()
            self._was_ready = True
            self._events.lane_ready(self)
        elif self._state is WorkerState.STARTING and kind == FrameKind.START_FAILED:
            self._error = bytes(body).decode("utf-8", "replace")
        elif self._jobs and kind == FrameKind.LARGE_DONE and self._state is not _KILLING:
            self._end_first_with_large_result(header, meta, body)
        elif kind == FrameKind.SKIPPED and self._worker is not None and self._worker.outbox.skip_was_read():
            return
        elif self._jobs or self._state is WorkerState.IDLE:
            self.kill(EndCause.CRASH, note="it wrote an invalid frame to its channel")

    def _end_first_with_large_result(self, header: Header, meta: bytes, announced: bytes | bytearray) -> None:
        """End the first job with a result in shared memory, and report it."""
        assert self._worker is not None
        job = self._jobs[0]
        try:
            body = self._worker.receive_body(header.number, announced)
        except FrameError:
            self.kill(EndCause.CRASH, note="it wrote an invalid frame to its channel")
            return
        except OSError as error:
            self.kill(EndCause.CRASH, note=f"its result could not be received: {error.strerror}")
            return
        if job.number == header.number:
            self._report([(job.number, self._end_first(header, meta, body))])
        else:
            self.kill(EndCause.CRASH, note="it wrote an invalid frame to its channel")
        if job.outcome is None or job.outcome.body is not body:
            release_body(body)  # the job was settled before

    def _end_first(self, header: Header, meta: bytes, body: bytes | bytearray | SharedBytes) -> Outcome:
        """End the first job; return its outcome."""
        assert self._worker is not None and self.watched is not None
        outcome = outcome_of(self._jobs.popleft(), header, meta, body, self._worker.output)
        if self.watched.limit_bytes is not None:
            self.watched.end()
        self.jobs_of_worker += 1
        if header.flag & LEAVING:
            self._expect_end_of_spoiled()
        elif self._jobs:
            if len(self._jobs) < _AMBIGUOUS_JOBS:
                self._attribute_to_first()
        elif self._state is WorkerState.RETIRING:
            self._expect_to_leave()
        else:
            self._step(WorkerState.IDLE)
        return outcome

    def _report(self, ended: list[Ended]) -> None:
        self._events.lane_answered(self, ended)
        if self._is_spoiled and self._jobs:
            self.kill(EndCause.RETIRE)  # its exit handlers must not delay the jobs that it has not begun

    def _expect_end_of_spoiled(self) -> None:
        if self._state is not WorkerState.RETIRING:
            self._step(WorkerState.RETIRING)
        self._cause, self._is_spoiled = EndCause.RETIRE, True
        self._set_timer(_RETIRE_S, lambda: self.kill(EndCause.RETIRE))

    def _attribute_to_first(self) -> None:
        """Attribute output and memory to the first job from now on.

        With others behind it, the worker may have begun the next one already, so it is unknown which job has printed a
        line. From then on, no other job waits in a worker that runs this task (see `core.prefetch`).
        """
        assert self._worker is not None and self.watched is not None
        first = self._jobs[0]
        self._worker.output.belongs_to(first if len(self._jobs) == 1 else None)
        if first.limits.memory_bytes is not None and self.watched.limit_bytes is None:
            self.watched.begin(first.number, first.limits.memory_bytes)

    def _has_begun(self) -> bool:
        begun = self.row.current_job
        first = next(iter(tuple(self._jobs)), None)  # also called in the watch's thread
        return first is not None and first.number == begun

    def _expect_to_leave(self) -> None:
        if not self._jobs:
            self._set_timer(_RETIRE_S, lambda: self.kill(EndCause.RETIRE))

    def _on_start_timeout(self) -> None:
        self._error = f"it was not ready within {self._parts.start_timeout_s:g} s"
        if self._worker is None:
            self._parts.launcher.kill_forkserver()  # only a stopped forkserver blocks a start
        self.kill(EndCause.CRASH, dump=True)

    def _kill_now(self) -> None:
        self._clear_timer()
        if self._worker is not None:
            self._worker.handle.kill_tree(self._parts.kill_tree)

    def _end(self, death: Death, worker: WorkerProcess | None) -> None:
        number_begun = self.row.died(time.monotonic_ns())
        begun = next((position for position, job in enumerate(self._jobs, 1) if job.number == number_begun), 0)
        self._clear_timer()
        self.watched = None
        self._jobs.clear()
        self.restarts += 1
        self._step(WorkerState.DEAD)
        if not self._error:
            self._error = f"it {death}"
        end = WorkerEnd(
            pid=None if worker is None else worker.pid,
            start_ticks=0 if worker is None else worker.handle.start_ticks,
            death=death,
            cause=self._cause,
            was_ready=self._was_ready,
            begun=begun,
            error=self._error,
        )
        self._events.lane_ended(self, end)

    def _set_timer(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._clear_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, callback)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self, to: WorkerState) -> None:
        if to not in STEPS[self._state]:
            raise IllegalStep(thing=f"lane {self.number}", state=self._state, event=to)
        self._state = to
