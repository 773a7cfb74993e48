"""An engine that cannot have what it needs from the system gets over it, and lets no worker out of its hands."""

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
    """As `real`, but one call fails for want of a descriptor: the first, or the one after so many."""
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
    async with opened(tmp_path) as (_, told):
        match what:
            case "its output":  # the first is for its end
                monkeypatch.setattr(loop, "add_reader", failing_once(loop.add_reader, after=1))
            case "a copy of its socket":
                monkeypatch.setattr(socket.socket, "dup", failing_once(socket.socket.dup))
            case "its channel":
                monkeypatch.setattr(loop, "create_unix_connection", failing_once(loop.create_unix_connection))
        await told.until(lambda: ("ready", 0, 2) in told.events)
    assert told.all("died") == [(0, 1)]
    assert "worker failed to start" in caplog.text


async def test_the_end_of_a_worker_is_seen_though_it_could_not_be_waited_for_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as (engine, told):
        monkeypatch.setattr(loop, "add_reader", failing_once(loop.add_reader))
        await told.until(lambda: ("ready", 0, 1) in told.events)
        (worker,) = engine.worker_facts()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await told.until(lambda: ("ready", 0, 2) in told.events)


async def newborn(engine: SupervisedEngine) -> int:
    """The id of the first worker as soon as it has one: by then it leads no group yet."""
    async with asyncio.timeout(BOUND_S):
        while True:
            pid = engine.worker_facts()[0].pid
            if pid is not None:
                return pid
            await asyncio.sleep(0)


async def test_a_worker_that_is_to_be_killed_is_killed_though_no_scan_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of descriptors nothing can be read of any process."""
    async with opened(tmp_path, start_method=StartMethod.SPAWN) as (engine, _):
        pid = await newborn(engine)
        with monkeypatch.context() as patched:
            patched.setattr(killing, "all_processes", dict)
            patched.setattr(killing, "read", lambda pid: None)
            await engine.close(BOUND_S / 3)
        assert are_gone([pid])


async def test_a_worker_that_could_not_be_told_from_others_at_its_start_is_told_from_them_later(
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


async def test_as_soon_as_one_worker_is_ready_no_other_start_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brake, "_FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(brake, "_LONGEST_PAUSE_S", 1000.0)
    broken = tmp_path / "broken"
    broken.touch()
    async with opened(tmp_path, tasks=FAILING.format(path=str(broken)), workers=3) as (_, told):
        await told.until(lambda: ("failing to start",) in told.events)
        assert told.all("ready") == []
        broken.unlink()
        await told.until(lambda: {slot for slot, _ in told.all("ready")} == {0, 1, 2})
