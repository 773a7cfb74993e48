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

from tests.engines.supervised_engine import opened


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
