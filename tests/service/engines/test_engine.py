"""The supervised engine recovers from failing system calls, and loses no worker."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offload.engines.supervised.engine import SupervisedEngine
from offload.processes import brake, killing, process, reaper
from offload.processes.proctree import read
from offload.settings.table import StartMethod
from tests.service.engines.supervised_engine import BOUND_S, opened
from tests.service.processes.process_trees import are_gone


def failing_once(real: Callable[..., Any], *, after: int = 0) -> Callable[..., Any]:
    """Returns a function that calls `real`, except that one call fails with EMFILE: the one after `after` others."""
    calls = itertools.count()

    def call(*arguments: Any, **more: Any) -> Any:
        if next(calls) == after:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(*arguments, **more)

    return call


@pytest.mark.parametrize("what", ["its output", "a copy of its socket", "its channel"])
async def test_a_worker_that_cannot_be_connected_is_ended_and_replaced(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as (_, events):
        match what:
            case "its output":  # the first is for its end
                monkeypatch.setattr(loop, "add_reader", failing_once(loop.add_reader, after=1))
            case "a copy of its socket":
                monkeypatch.setattr(socket.socket, "dup", failing_once(socket.socket.dup))
            case "its channel":
                monkeypatch.setattr(loop, "create_unix_connection", failing_once(loop.create_unix_connection))
        await events.until(lambda: ("ready", 0, 2) in events.seen)
    assert events.all("died") == [(0, 1)]
    assert "worker failed to start" in caplog.text


async def test_the_end_of_a_worker_is_seen_after_a_failed_attempt_to_watch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as (engine, events):
        monkeypatch.setattr(loop, "add_reader", failing_once(loop.add_reader))
        await events.until(lambda: ("ready", 0, 1) in events.seen)
        (worker,) = engine.worker_facts()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await events.until(lambda: ("ready", 0, 2) in events.seen)


async def newborn(engine: SupervisedEngine) -> int:
    """Returns the id of the first worker as soon as it has one, before it leads a group."""
    async with asyncio.timeout(BOUND_S):
        while True:
            pid = engine.worker_facts()[0].pid
            if pid is not None:
                return pid
            await asyncio.sleep(0)


async def test_a_worker_is_killed_even_if_no_scan_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor no process can be read."""
    async with opened(tmp_path, start_method=StartMethod.SPAWN) as (engine, _):
        pid = await newborn(engine)
        with monkeypatch.context() as patched:
            patched.setattr(killing, "all_processes", dict)
            patched.setattr(killing, "read", lambda pid: None)
            await engine.close(BOUND_S / 3)
        assert are_gone([pid])


async def test_the_start_time_of_a_worker_is_read_again_if_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = []

    def kill(roots: dict[int, int]) -> None:
        killed.append(roots)
        killing.kill_trees(roots)

    monkeypatch.setattr(reaper, "kill_trees", kill)
    async with opened(tmp_path, start_method=StartMethod.SPAWN) as (engine, _):
        with monkeypatch.context() as patched:
            patched.setattr(process, "read", lambda pid: None)
            pid = await newborn(engine)
        info = read(pid)
        assert info is not None
        await engine.close(BOUND_S / 3)
        assert killed == [{pid: info.start_ticks}]


FAILING = """
import os, time
from offload import current_lane, on_worker_start, task

@on_worker_start
def begin() -> None:
    while current_lane() == 0 and os.path.exists({path!r}):
        time.sleep(0.01)
    if os.path.exists({path!r}):
        raise ValueError("broken")

@task
def fine() -> None: ...
"""


async def test_a_ready_worker_ends_the_pauses_of_all_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake, "_FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(brake, "_LONGEST_PAUSE_S", 1000.0)
    broken = tmp_path / "broken"
    broken.touch()
    async with opened(tmp_path, tasks=FAILING.format(path=str(broken)), workers=3) as (_, events):
        await events.until(lambda: ("failing to start",) in events.seen)
        assert events.all("ready") == []
        broken.unlink()
        await events.until(lambda: {slot for slot, _ in events.all("ready")} == {0, 1, 2})
