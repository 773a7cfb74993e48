"""A worker in the library's hands is killed in the job that is to end, and in no other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from offload.core.death import Death
from offload.engines.local.context import StartPermit
from offload.engines.local.worker import LocalWorker, LocalWorkerEnd
from offload.metrics.layout import WorkerRows
from offload.processes.killing import kill_trees
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
        self._process.wait(timeout)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Told:
    def __init__(self) -> None:
        self.ends: asyncio.Queue[LocalWorkerEnd] = asyncio.Queue()

    def on_ready(self, worker: LocalWorker) -> None: ...

    def on_ended(self, worker: LocalWorker, end: LocalWorkerEnd) -> None:
        self.ends.put_nowait(end)


def kill_tree(pid: int, start_ticks: int, then: Callable[[], None]) -> None:
    kill_trees({pid: start_ticks})
    then()


@asynccontextmanager
async def hired() -> AsyncIterator[tuple[LocalWorker, Told]]:
    sleeper, told = Sleeper(), Told()
    (ready, ready_end), (output, output_end) = os.pipe(), os.pipe()
    worker = LocalWorker(
        process=cast(Any, sleeper),
        permit=StartPermit(frozenset({0})),
        lane=0,
        row=WorkerRows(1).worker_row(0),
        ready=ready,
        output=output,
        start_timeout_s=BOUND_S,
        kill_tree=kill_tree,
        events=told,
    )
    try:
        yield worker, told
        worker.kill(EndCause.RETIRE)
    finally:
        sleeper.end()
        os.close(ready_end)
        os.close(output_end)
    if worker.state != "dead":
        await asyncio.wait_for(told.ends.get(), BOUND_S)


async def test_it_is_killed_in_the_job_that_is_to_end() -> None:
    async with hired() as (worker, told):
        worker.row.begin(7, time.monotonic_ns())
        worker.kill_in(7, EndCause.TIMEOUT)
        end = await asyncio.wait_for(told.ends.get(), BOUND_S)
        assert (end.death, end.cause) == (Death(signal="SIGKILL"), EndCause.TIMEOUT)
        assert (end.number, end.was_busy) == (7, True)


async def test_it_goes_on_when_it_has_begun_another_in_the_meantime(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hired() as (worker, told):
        signal_it = worker._signal

        def begin_another_and_stop(number: int) -> None:
            if number == signal.SIGSTOP:
                worker.row.end(time.monotonic_ns())
                worker.row.begin(8, time.monotonic_ns())
            signal_it(number)

        monkeypatch.setattr(worker, "_signal", begin_another_and_stop)
        worker.row.begin(7, time.monotonic_ns())
        worker.kill_in(7, EndCause.TIMEOUT)
        async with asyncio.timeout(BOUND_S):
            while worker.is_held or state(worker.pid) == "T":
                await asyncio.sleep(0.001)
        assert state(worker.pid) in "RS"
        assert told.ends.empty()
