"""Kills that are requested during a kill are done together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from offload.processes import reaper as module
from offload.processes.reaper import Reaper

BOUND_S = 30.0


class Killed:
    """Records kills instead of killing; the first call blocks until it is released."""

    def __init__(self) -> None:
        self.trees: list[dict[int, int]] = []
        self.groups: list[tuple[int, int]] = []
        self.may_go_on = threading.Event()
        self.error: Exception | None = None

    def kill_trees(self, roots: dict[int, int]) -> None:
        self.trees.append(roots)
        assert self.may_go_on.wait(BOUND_S)
        if self.error is not None:
            raise self.error

    def kill_group(self, pid: int, start_ticks: int) -> None:
        self.groups.append((pid, start_ticks))


class Hunted:
    """Counts hunts instead of hunting; each lasts until it is released."""

    def __init__(self) -> None:
        self.count = 0
        self.may_end = asyncio.Event()

    async def hunt(self) -> None:
        self.count += 1
        await self.may_end.wait()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Killed:
    killed = Killed()
    monkeypatch.setattr(module, "kill_trees", killed.kill_trees)
    monkeypatch.setattr(module, "kill_group", killed.kill_group)
    return killed


@pytest.fixture
def hunted() -> Hunted:
    return Hunted()


@pytest_asyncio.fixture
async def reaper(killed: Killed, hunted: Hunted) -> AsyncIterator[Reaper]:
    reaper = Reaper(hunted.hunt)
    yield reaper
    killed.may_go_on.set()
    hunted.may_end.set()
    await reaper.close(BOUND_S)


async def test_kills_requested_during_a_kill_are_done_together(reaper: Reaper, killed: Killed) -> None:
    done: list[int] = []
    for pid in range(1, 5):
        reaper.kill_tree(pid, pid * 10, lambda pid=pid: done.append(pid))  # type: ignore[misc]
        reaper.kill_group(pid * 100, pid)
    assert done == []
    killed.may_go_on.set()
    await reaper.close(BOUND_S)
    assert killed.trees == [{1: 10}, {2: 20, 3: 30, 4: 40}]
    assert killed.groups == [(100, 1), (200, 2), (300, 3), (400, 4)]
    assert done == [1, 2, 3, 4]


async def test_callbacks_are_called_even_if_the_kill_fails(
    reaper: Reaper, killed: Killed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    killed.error = OSError("no")
    killed.may_go_on.set()
    is_done = asyncio.Event()
    reaper.kill_tree(1, 10, is_done.set)
    async with asyncio.timeout(BOUND_S):
        await is_done.wait()
    assert "could not be killed" in caplog.text


async def test_after_closing_callbacks_are_called_without_a_kill(reaper: Reaper, killed: Killed) -> None:
    await reaper.close(BOUND_S)
    await reaper.close(BOUND_S)
    done: list[int] = []
    reaper.kill_tree(1, 10, lambda: done.append(1))
    reaper.kill_group(2, 20)
    assert (done, killed.trees, killed.groups) == ([1], [], [])


async def test_hunts_requested_during_a_hunt_are_one(reaper: Reaper, hunted: Hunted) -> None:
    """It begins after the last request."""
    for _ in range(5):
        reaper.hunt_strays()
        await asyncio.sleep(0)
    assert hunted.count == 1
    hunted.may_end.set()
    await reaper.close(BOUND_S)
    assert hunted.count == 2


async def test_closing_does_not_wait_for_an_endless_hunt(reaper: Reaper, hunted: Hunted) -> None:
    reaper.hunt_strays()
    await asyncio.sleep(0)
    await reaper.close(0.0)
    assert hunted.count == 1
