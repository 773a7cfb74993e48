"""A worker of a standard pool is killed in the job that has to end, and in no other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from offload.core.death import Death
from offload.engines.local.context import StartPermit
from offload.engines.local.worker import LocalWorker, LocalWorkerEnd, StartedWorker
from offload.errors import IllegalStep
from offload.metrics.layout import WorkerRows
from offload.processes.killing import kill_trees
from offload.processes.watch import Watch, Watched
from offload.processes.worker_state import EndCause
from tests.service.processes.process_trees import state

BOUND_S = 30.0


class Sleeper:
    """As much of a `multiprocessing` process as its owner needs; it sleeps until it is killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"])
        self.pid = self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def join(self, timeout: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class RecordedEvents:
    """Implements the events of a worker and of a watch."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[LocalWorkerEnd] = asyncio.Queue()

    def on_ready(self, worker: LocalWorker) -> None: ...

    def on_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None:
        self.ends.put_nowait(end)

    def on_stopped(self, watched: Watched) -> None: ...

    def on_over_memory(self, watched: Watched, number: int) -> None: ...


class NoForkserver:
    forkserver_pid = None

    def kill_forkserver(self) -> None: ...


def kill_tree(pid: int, start_ticks: int, then: Callable[[], None]) -> None:
    kill_trees({pid: start_ticks})
    then()


@asynccontextmanager
async def local_worker() -> AsyncIterator[tuple[LocalWorker, Watch, RecordedEvents]]:
    sleeper, events = Sleeper(), RecordedEvents()
    (ready, ready_end), (output, output_end) = os.pipe(), os.pipe()
    started = StartedWorker(
        process=cast(Any, sleeper),
        permit=StartPermit(frozenset({0})),
        slot=0,
        descriptor=os.pidfd_open(sleeper.pid),
        ready=ready,
        output=output,
    )
    row = WorkerRows(1).worker_row(0)
    worker = LocalWorker(started, row=row, start_timeout_s=BOUND_S, kill_tree=kill_tree, events=events)
    watch = Watch(lambda: [worker.watched], events, NoForkserver())
    try:
        yield worker, watch, events
        worker.kill(EndCause.RETIRE)
    finally:
        sleeper.end()
        os.close(ready_end)
        os.close(output_end)
        await watch.close()
        worker.abandon()


async def test_a_worker_is_killed_in_the_job_that_has_to_end() -> None:
    async with local_worker() as (worker, watch, events):
        worker.row.begin(7, time.monotonic_ns())
        worker.kill_in(7, EndCause.TIMEOUT)
        watch.look_closely()
        end = await asyncio.wait_for(events.ends.get(), BOUND_S)
        assert (end.death, end.cause) == (Death(signal="SIGKILL"), EndCause.TIMEOUT)
        assert (end.number, end.was_busy) == (7, True)


async def test_a_worker_that_has_begun_another_job_meanwhile_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_worker() as (worker, watch, events):
        send_signal = worker.handle.signal

        def begin_another_and_stop(number: int) -> None:
            if number == signal.SIGSTOP:
                worker.row.end(time.monotonic_ns())
                worker.row.begin(8, time.monotonic_ns())
            send_signal(number)

        monkeypatch.setattr(worker.handle, "signal", begin_another_and_stop)
        worker.row.begin(7, time.monotonic_ns())
        worker.kill_in(7, EndCause.TIMEOUT)
        watch.look_closely()
        async with asyncio.timeout(BOUND_S):
            while worker.is_held or state(worker.pid) == "T":
                await asyncio.sleep(0.001)
        assert state(worker.pid) in "RS"
        assert events.ends.empty()


async def test_an_abandoned_worker_reports_nothing_and_holds_no_descriptor() -> None:
    async with local_worker() as (worker, _, events):
        worker.abandon()
        worker.abandon()
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        await asyncio.sleep(0)
        assert events.ends.empty()


async def test_a_step_that_is_not_in_the_table_changes_nothing() -> None:
    async with local_worker() as (worker, _, events):
        worker.kill(EndCause.CANCEL)
        await asyncio.wait_for(events.ends.get(), BOUND_S)
        with pytest.raises(IllegalStep, match="is dead: idle is not possible"):
            worker._step(type(worker.state).IDLE)
        assert worker.state == "dead"
