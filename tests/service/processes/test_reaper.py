"""Many kills at once cost as much as few: what is ordered while one goes on is done together."""

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
    """What was killed, call by call, instead of killing it; the first call waits until it may go on."""

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
    """Counts hunts, instead of hunting; none ends before it may."""

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


async def test_what_is_ordered_during_a_kill_is_killed_together(reaper: Reaper, killed: Killed) -> None:
    over: list[int] = []
    for pid in range(1, 5):
        reaper.kill_tree(pid, pid * 10, lambda pid=pid: over.append(pid))  # type: ignore[misc]
        reaper.kill_group(pid * 100, pid)
    assert over == []
    killed.may_go_on.set()
    await reaper.close(BOUND_S)
    assert killed.trees == [{1: 10}, {2: 20, 3: 30, 4: 40}]
    assert killed.groups == [(100, 1), (200, 2), (300, 3), (400, 4)]
    assert over == [1, 2, 3, 4]


async def test_what_follows_a_kill_follows_one_that_failed_too(
    reaper: Reaper, killed: Killed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    killed.error = OSError("no")
    killed.may_go_on.set()
    is_over = asyncio.Event()
    reaper.kill_tree(1, 10, is_over.set)
    async with asyncio.timeout(BOUND_S):
        await is_over.wait()
    assert "could not be killed" in caplog.text


async def test_after_its_end_it_kills_nobody_and_what_follows_follows(reaper: Reaper, killed: Killed) -> None:
    await reaper.close(BOUND_S)
    await reaper.close(BOUND_S)
    over: list[int] = []
    reaper.kill_tree(1, 10, lambda: over.append(1))
    reaper.kill_group(2, 20)
    assert (over, killed.trees, killed.groups) == ([1], [], [])


async def test_hunts_that_are_asked_for_during_a_hunt_are_one(reaper: Reaper, hunted: Hunted) -> None:
    """It begins after all that they were asked for."""
    for _ in range(5):
        reaper.hunt_strays()
        await asyncio.sleep(0)
    assert hunted.count == 1
    hunted.may_end.set()
    await reaper.close(BOUND_S)
    assert hunted.count == 2


async def test_a_hunt_that_does_not_end_does_not_hold_up_the_end(reaper: Reaper, hunted: Hunted) -> None:
    reaper.hunt_strays()
    await asyncio.sleep(0)
    await reaper.close(0.0)
    assert hunted.count == 1
