"""The service's side of one worker that a pool or an executor of the standard library believes to be its own.

Lives here: the process with its descriptor, its output and the pipe on which it says that it is ready; and the certain
knowledge of its end.  Jobs and answers go ways of the library's.  The crew makes one for each process, and owns it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Final, Protocol

from offload.core.death import Death
from offload.engines.local.context import StartPermit
from offload.metrics.layout import WorkerRow
from offload.processes.forkserver import UNKNOWN_EXIT_CODE
from offload.processes.naming import name_death
from offload.processes.output import OutputReader
from offload.processes.proctree import read
from offload.processes.watch import Watched
from offload.processes.worker_state import EndCause, WorkerState
from offload.worker.isolation import DUMP_SIGNAL
from offload.worker.pool_worker import MAX_MESSAGE_BYTES, READY

# As of `supervised.process` and `supervised.lane`, which say why.
_EXIT_CODE_POLLS: Final = 1000
_EXIT_CODE_POLL_S: Final = 0.001
_AWAIT_AGAIN_S: Final = 0.1
DUMP_S: Final = 0.005
# How often a process that is being stopped is looked at.
_LOOK_S: Final = 0.001

KillTree = Callable[[int, int, Callable[[], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWorkerEnd:
    """How a worker ended.

    `number` is that of the job that it had begun last, 0 for none; `was_busy`: it was in it.  If it was not, it may
    have held a lock of the library's.
    """

    lane: int
    pid: int
    start_ticks: int
    death: Death
    cause: EndCause
    was_ready: bool
    was_busy: bool
    number: int
    error: str


class LocalWorkerEvents(Protocol):
    """What the crew is told.  `on_ended` comes last, once."""

    def on_ready(self, worker: LocalWorker) -> None: ...
    def on_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None: ...


class LocalWorker:
    """Made on the event loop's thread, of a process that was started.  Owns both descriptors."""

    def __init__(
        self,
        *,
        process: BaseProcess,
        permit: StartPermit,
        lane: int,
        row: WorkerRow,
        ready: int,
        output: int,
        start_timeout_s: float,
        kill_tree: KillTree,
        events: LocalWorkerEvents,
    ) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.permit = permit
        self.lane = lane
        self.row = row
        self.started_at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self.state = WorkerState.STARTING
        self.watched = Watched(pid=process.pid, must_answer=lambda: not row.is_busy)
        self.start_ticks = 0
        self.is_held = False  # stopped by us, for a moment
        self._process = process
        self._ready = ready
        self._start_timeout_s = start_timeout_s
        self._kill_tree = kill_tree
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._output = OutputReader(output, lane=lane, pid=process.pid)
        self._descriptor: int | None = None
        self._cause = EndCause.CRASH
        self._note = ""
        self._error = ""
        self._was_ready = False
        self._has_ended = False
        self._polls_left = _EXIT_CODE_POLLS
        self._timer = self._loop.call_later(start_timeout_s, self._on_start_timeout)
        self._attach()

    def is_at(self, number: int) -> bool:
        """Whether it is in this job now."""
        return self.row.is_busy and self.row.current_job == number

    def dump_stacks(self) -> None:
        """Asks for the Python stacks of all its threads; they come out of its output."""
        self._signal(DUMP_SIGNAL)

    def kill(self, cause: EndCause, *, note: str = "") -> None:
        """Ends the process with everything that it started."""
        if self._has_ended or self.state is WorkerState.KILLING:
            return
        self.state = WorkerState.KILLING
        self._cause, self._note = cause, note
        self._timer.cancel()
        if self._descriptor is not None:
            self._signal(signal.SIGSTOP)  # frees the CPU now; the rest takes a scan of all processes
            self._kill_tree(self.pid, self.start_ticks, partial(self._signal, signal.SIGKILL))

    def kill_in(self, number: int, cause: EndCause) -> None:
        """Ends the process if it is in this job still.

        It may end the job and begin another, which it has from the library, at any moment; so it is stopped, and looked
        at when it certainly is.
        """
        if not self.is_held and self.state is not WorkerState.KILLING:
            self.is_held = True
            self._signal(signal.SIGSTOP)
            self._judge_stopped(number, cause)

    def _judge_stopped(self, number: int, cause: EndCause) -> None:
        info = read(self.pid)
        if info is not None and not info.is_stopped and not info.is_dead and not self._has_ended:
            self._loop.call_later(_LOOK_S, self._judge_stopped, number, cause)
            return
        self.is_held = False
        if self.is_at(number):
            self.kill(cause)
        elif self.state is not WorkerState.KILLING:
            self._signal(signal.SIGCONT)

    # Its beginning

    def _attach(self) -> None:
        info = read(self.pid)
        self.start_ticks = 0 if info is None else info.start_ticks
        os.set_blocking(self._ready, False)
        self._await_end()  # first: whatever fails below, its end must be seen
        try:
            self._output.open()
            self._loop.add_reader(self._ready, self._read_ready)
        except OSError as error:
            self._error = str(error)
            self._loop.call_soon(partial(self.kill, EndCause.CRASH))

    def _read_ready(self) -> None:
        try:
            told = os.read(self._ready, MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        if told == READY and self.state is WorkerState.STARTING:
            self.state = WorkerState.IDLE
            self._was_ready = True
            self._timer.cancel()
            self._loop.remove_reader(self._ready)
            self._events.on_ready(self)
        else:  # FAILED, or the end
            self._error = told[1:].decode("utf-8", "replace") or self._error
            self._loop.remove_reader(self._ready)

    def _on_start_timeout(self) -> None:
        self._error = f"it was not ready within {self._start_timeout_s:g} s"
        self.dump_stacks()
        self._set_timer(DUMP_S, partial(self.kill, EndCause.CRASH))

    # Its end

    def _signal(self, number: int) -> None:
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def _await_end(self) -> None:
        try:
            if self._descriptor is None:
                self._descriptor = os.pidfd_open(self.pid)
            self._loop.add_reader(self._descriptor, self._on_end)
        except ProcessLookupError:  # it has ended, and the library has waited for it
            self._loop.call_soon(self._on_end)
        except OSError:
            self._loop.call_later(_AWAIT_AGAIN_S, self._await_end)

    def _on_end(self) -> None:
        self._has_ended = True
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        self._poll_exit_code()

    def _poll_exit_code(self) -> None:
        exit_code = self._process.exitcode
        self._polls_left -= 1
        if exit_code is None and self._polls_left > 0:
            self._set_timer(_EXIT_CODE_POLL_S, self._poll_exit_code)
            return
        self._timer.cancel()
        if self.state is WorkerState.STARTING:
            self._read_ready()
        self._loop.remove_reader(self._ready)
        os.close(self._ready)
        self._output.close()
        self._process.join(0)  # or `multiprocessing` would hold on to it until it starts the next
        self._tell_end(None if exit_code == UNKNOWN_EXIT_CODE else exit_code)

    def _tell_end(self, exit_code: int | None) -> None:
        was_busy = self.row.is_busy
        number = self.row.died(time.monotonic_ns())
        self.state = WorkerState.DEAD
        death = name_death(exit_code, note=self._note)
        end = LocalWorkerEnd(
            lane=self.lane,
            pid=self.pid,
            start_ticks=self.start_ticks,
            death=death,
            cause=self._cause,
            was_ready=self._was_ready,
            was_busy=was_busy,
            number=number,
            error=self._error or f"it {death}",
        )
        self._events.on_ended(self, end)

    def _set_timer(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, callback)
