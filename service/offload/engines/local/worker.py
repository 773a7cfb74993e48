"""One worker process of a standard pool or executor, as the service sees it.

The worker reports on a pipe of its own that it is ready. Its jobs and answers travel through the library's queues.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Protocol

from offload.core.death import Death
from offload.engines.local.context import StartPermit
from offload.errors import IllegalStep
from offload.metrics.layout import WorkerRow
from offload.metrics.timestamp import timestamp
from offload.processes.naming import name_death
from offload.processes.process import DUMP_S, KillTree, WorkerHandle
from offload.processes.watch import Watched
from offload.processes.worker_state import STEPS, EndCause, WorkerState
from offload.worker.foreign.pool_worker import EXIT_LEFT, MAX_MESSAGE_BYTES, READY


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedWorker:
    """A process that has just been started for `slot`, and the service's descriptors for it.

    `descriptor` as of `open_descriptor`; `ready` and `output` are the reading ends of two pipes.
    """

    process: BaseProcess
    permit: StartPermit
    slot: int
    descriptor: int | None
    ready: int
    output: int

    def abandon(self) -> None:
        """Kill the process and release the descriptors: the service has ended and cannot watch it."""
        self.process.kill()
        for descriptor in (self.descriptor, self.ready, self.output):
            if descriptor is not None:
                os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWorkerEnd:
    """How a worker ended.

    `number` is the job that it had begun last, 0 for none; `was_busy`: it died in that job. If it was not busy, it may
    have held a lock of the library.
    """

    slot: int
    pid: int
    death: Death
    cause: EndCause
    was_ready: bool
    was_busy: bool
    number: int
    error: str


class LocalWorkerEvents(Protocol):
    """`on_ended` is called once, last."""

    def on_ready(self, worker: LocalWorker) -> None: ...
    def on_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None: ...


class LocalWorker:
    """Made on the event loop's thread. Owns the descriptors of `started`."""

    def __init__(
        self,
        started: StartedWorker,
        *,
        row: WorkerRow,
        start_timeout_s: float,
        kill_tree: KillTree,
        events: LocalWorkerEvents,
    ) -> None:
        self.permit = started.permit
        self.slot = started.slot
        self.row = row
        self.started_at = timestamp()
        self.handle = WorkerHandle(
            started.process, started.descriptor, output=started.output, lane=started.slot, on_ended=self._on_ended
        )
        self.pid = self.handle.pid
        self.watched = Watched(pid=self.pid, must_answer=lambda: not row.is_busy)
        self.is_held = False  # stopped by the service until it is clear which job it runs
        self._state = WorkerState.STARTING
        self._ready = started.ready
        self._start_timeout_s = start_timeout_s
        self._kill_tree = kill_tree
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._cause = EndCause.CRASH
        self._note = ""
        self._error = ""
        self._was_ready = False
        self._timer = self._loop.call_later(start_timeout_s, self._on_start_timeout)
        self._attach()

    @property
    def state(self) -> WorkerState:
        """BUSY does not occur: the library hands out the jobs."""
        return self._state

    def is_running(self, number: int) -> bool:
        """Whether it runs this job now."""
        return self.row.is_busy and self.row.current_job == number

    def kill(self, cause: EndCause, *, note: str = "") -> None:
        """End the process with everything that it started."""
        if self.handle.has_ended or self._state is WorkerState.KILLING:
            return
        self._step(WorkerState.KILLING)
        self._cause, self._note = cause, note
        self._timer.cancel()
        self.handle.kill_tree(self._kill_tree)

    def kill_in(self, number: int, cause: EndCause) -> None:
        """Kill the worker if it still runs this job; needs a close look of the watch.

        The library may hand it the next job at any moment. So the process is stopped first; once it certainly is, its
        row shows which job it runs.
        """
        if not self.is_held and self._state is not WorkerState.KILLING:
            self.is_held = True
            self.watched.on_halted = partial(self._on_halted, number, cause)
            self.handle.signal(signal.SIGSTOP)

    def abandon(self) -> None:
        """Release every descriptor; nothing is reported any more. May be called twice."""
        self._timer.cancel()
        self.watched.on_halted = None
        self._close_ready()
        self.handle.close()

    def _on_halted(self, number: int, cause: EndCause) -> None:
        self.is_held = False
        if self.is_running(number):
            self.kill(cause)
        elif self._state is not WorkerState.KILLING:
            self.handle.signal(signal.SIGCONT)

    # The start

    def _attach(self) -> None:
        os.set_blocking(self._ready, False)
        self.handle.watch_end()  # first: whatever fails below, its end must be seen
        try:
            self.handle.output.open()
            self._loop.add_reader(self._ready, self._read_ready)
        except OSError as error:
            self._error = str(error)
            self._loop.call_soon(partial(self.kill, EndCause.CRASH))

    def _read_ready(self) -> None:
        try:
            message = os.read(self._ready, MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        if message == READY and self._state is WorkerState.STARTING:
            self._step(WorkerState.IDLE)
            self._was_ready = True
            self._timer.cancel()
            self._loop.remove_reader(self._ready)
            self._events.on_ready(self)
        else:  # FAILED, or the end of the pipe
            self._error = message[1:].decode("utf-8", "replace") or self._error
            self._loop.remove_reader(self._ready)

    def _on_start_timeout(self) -> None:
        self._error = f"it was not ready within {self._start_timeout_s:g} s"
        self.handle.dump_stacks()
        self._timer = self._loop.call_later(DUMP_S, partial(self.kill, EndCause.CRASH))

    # The end

    def _on_ended(self, exit_code: int | None) -> None:
        if self._state is WorkerState.STARTING:
            self._read_ready()
        self.abandon()
        was_busy = self.row.is_busy
        number = self.row.died(time.monotonic_ns())
        if exit_code == EXIT_LEFT and not was_busy and self._cause is EndCause.CRASH:
            self._cause = EndCause.RETIRE
        self._step(WorkerState.DEAD)
        death = name_death(exit_code, note=self._note)
        end = LocalWorkerEnd(
            slot=self.slot,
            pid=self.pid,
            death=death,
            cause=self._cause,
            was_ready=self._was_ready,
            was_busy=was_busy,
            number=number,
            error=self._error or f"it {death}",
        )
        self._events.on_ended(self, end)

    def _close_ready(self) -> None:
        if self._ready >= 0:
            self._loop.remove_reader(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _step(self, to: WorkerState) -> None:
        if to not in STEPS[self._state]:
            raise IllegalStep(thing=f"worker {self.pid}", state=self._state, event=to)
        self._state = to
