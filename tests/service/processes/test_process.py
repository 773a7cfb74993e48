"""The end of a process is reported once, with its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from offload.processes.children import SpawnedProcess
from offload.processes.launcher import Launcher
from offload.processes.process import ProcessHandle, open_descriptor
from offload.settings.table import StartMethod
from tests.service.processes.test_launcher import launching

BOUND_S = 30.0


@asynccontextmanager
async def started(launcher: Launcher, target: Any, argument: object) -> AsyncIterator[BaseProcess]:
    process = await launcher.start(target, argument, name="started")
    try:
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        assert process.pid is not None
        launcher.forget(process.pid)
        process.close()


@pytest.mark.parametrize("start_method", [StartMethod.FORKSERVER, StartMethod.SPAWN])
async def test_the_exit_code_is_reported(start_method: StartMethod) -> None:
    async with launching(start_method) as launcher:
        for target, argument, exit_code in ((os._exit, 3, 3), (signal.raise_signal, signal.SIGKILL, -signal.SIGKILL)):
            async with started(launcher, target, argument) as process:
                ended = asyncio.get_running_loop().create_future()
                handle = ProcessHandle(process, open_descriptor(process), on_ended=ended.set_result)
                handle.watch_end()
                assert await asyncio.wait_for(ended, BOUND_S) == exit_code
                handle.close()


async def test_the_exit_code_is_unknown_after_the_death_of_the_forkserver() -> None:
    async with launching(StartMethod.FORKSERVER) as launcher, started(launcher, time.sleep, 1000) as process:
        ended = asyncio.get_running_loop().create_future()
        handle = ProcessHandle(process, open_descriptor(process), on_ended=ended.set_result)
        handle.watch_end()
        launcher.kill_forkserver()
        handle.signal(signal.SIGKILL)
        assert await asyncio.wait_for(ended, BOUND_S) is None
        handle.close()


async def test_a_closed_handle_reports_nothing_and_sends_no_signal() -> None:
    async with launching(StartMethod.SPAWN) as launcher, started(launcher, time.sleep, 1000) as process:
        ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        handle = ProcessHandle(process, open_descriptor(process), on_ended=ended.set_result)
        handle.watch_end()
        handle.close()
        handle.close()
        handle.signal(signal.SIGKILL)
        assert process.exitcode is None
        process.kill()
        await asyncio.to_thread(process.join)
        assert not ended.done()


def test_threads_that_poll_at_once_all_get_the_exit_code() -> None:
    process = SpawnedProcess(target=os._exit, args=(3,))
    process.start()
    assert process.pid is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    barrier = threading.Barrier(8)
    exit_codes: list[int | None] = []

    def poll() -> None:
        barrier.wait()
        exit_codes.append(process.exitcode)

    threads = [threading.Thread(target=poll) for _ in range(barrier.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.close()
    assert exit_codes == [3] * barrier.parties
