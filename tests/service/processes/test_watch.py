"""The watch reports memory above the limit, and workers that were stopped from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from offload.processes.watch import Rhythm, Watch, Watched
from tests.service.processes.process_trees import tree

BOUND_S = 30.0
MB = 1_000_000


def looks_of(took_s: float, *, is_close: bool) -> tuple[list[float], list[float]]:
    """Returns when looks that take `took_s` begin, and which are glances, in ten simulated seconds."""
    rhythm, now = Rhythm(), 1000.0
    looks, glances = [], []
    while now < 1010.0:
        looks.append(now)
        if rhythm.begin(now):
            glances.append(now)
        now += took_s
        now += rhythm.pause_s(now, is_close=is_close)
    return looks, glances


def longest_gap(instants: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(instants))


@pytest.mark.parametrize("took_s", [0.0, 0.001, 0.008, 0.016])
def test_memory_is_sampled_every_20_ms_however_long_a_look_takes(took_s: float) -> None:
    looks, glances = looks_of(took_s, is_close=True)
    assert longest_gap(looks) <= 0.020
    assert longest_gap(glances) <= 0.250 + 0.020


@pytest.mark.parametrize("is_close", [True, False])
def test_a_pause_follows_a_long_look(is_close: bool) -> None:
    looks, glances = looks_of(0.5, is_close=is_close)
    assert looks == glances
    assert 0.5 < longest_gap(looks) < 0.51


def test_without_a_memory_limit_there_are_four_glances_a_second() -> None:
    looks, glances = looks_of(0.001, is_close=False)
    assert looks == glances
    assert len(looks) == 40


class RecordedEvents:
    def __init__(self) -> None:
        self.stopped: list[Watched] = []
        self.over: list[tuple[Watched, int]] = []
        self.threads: set[int] = set()
        self._happened = asyncio.Event()

    def on_stopped(self, watched: Watched) -> None:
        self._note()
        self.stopped.append(watched)

    def on_over_memory(self, watched: Watched, number: int) -> None:
        self._note()
        self.over.append((watched, number))

    def _note(self) -> None:
        self.threads.add(threading.get_ident())
        self._happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


class NoForkserver:
    forkserver_pid = None

    def kill_forkserver(self) -> None: ...


@asynccontextmanager
async def watching(*records: Watched) -> AsyncIterator[tuple[Watch, RecordedEvents]]:
    events = RecordedEvents()
    watch = Watch(lambda: records, events, NoForkserver())
    try:
        yield watch, events
    finally:
        await watch.close()
        await watch.close()


async def looks(record: Watched, count: int = 3) -> None:
    """Waits until the watch has glanced at the record `count` times."""
    for _ in range(count):
        record.rss_bytes = -1
        async with asyncio.timeout(BOUND_S):
            while record.rss_bytes < 0:
                await asyncio.sleep(0.005)


async def test_a_stopped_idle_worker_is_reported_on_the_event_loop() -> None:
    with tree("sleep()", count=1) as worker:
        record = Watched(pid=worker.root)
        async with watching(record) as (_, events):
            await looks(record)
            assert events.stopped == []
            os.kill(worker.root, signal.SIGSTOP)
            await events.until(lambda: events.stopped[:1] == [record])
            assert events.threads == {threading.get_ident()}


async def test_a_stopped_busy_worker_is_not_reported() -> None:
    with tree("sleep()", count=1) as worker:
        os.kill(worker.root, signal.SIGSTOP)
        record = Watched(pid=worker.root, must_answer=lambda: False)
        async with watching(record) as (_, events):
            await looks(record)
            assert events.stopped == []


async def test_a_job_over_its_limit_is_reported_with_its_number_and_peak() -> None:
    with tree("data = b'x' * 100_000_000; child('a'); sleep()", count=2) as worker:
        record = Watched(pid=worker.root)
        async with watching(record) as (watch, events):
            record.begin(7, 60 * MB)
            watch.look_closely()
            await events.until(lambda: bool(events.over))
            assert events.over[0] == (record, 7)
            assert record.peak_bytes > 100 * MB


async def test_the_memory_of_descendants_counts() -> None:
    body = (
        "child('a', lambda: (globals().update(data=b'x' * 100_000_000), say('full'), sleep()), session=True); sleep()"
    )
    with tree(body, count=3) as worker:
        record = Watched(pid=worker.root)
        async with watching(record) as (watch, events):
            record.begin(1, 90 * MB)
            watch.look_closely()
            await events.until(lambda: bool(events.over))
            assert record.peak_bytes > 100 * MB


async def test_a_job_below_its_limit_is_sampled_and_not_reported() -> None:
    with tree("sleep()", count=1) as worker:
        record = Watched(pid=worker.root)
        async with watching(record) as (watch, events):
            record.begin(1, 1000 * MB)
            watch.look_closely()
            async with asyncio.timeout(BOUND_S):
                while not record.peak_bytes:
                    await asyncio.sleep(0.005)
            record.end()
            assert events.over == []
            assert record.peak_bytes < 1000 * MB


async def test_without_a_limit_nothing_is_sampled() -> None:
    with tree("data = b'x' * 100_000_000; child('a'); sleep()", count=2) as worker:
        record = Watched(pid=worker.root)
        async with watching(record) as (_, events):
            await looks(record)
            assert events.over == []
            assert record.peak_bytes == 0


async def test_a_worker_that_has_ended_is_ignored() -> None:
    with tree("sleep()", count=1) as gone, tree("sleep()", count=1) as alive:
        gone.process.kill()
        gone.process.wait()
        records = Watched(pid=gone.root, rss_bytes=5), Watched(pid=alive.root)
        async with watching(*records) as (watch, events):
            records[0].begin(1, MB)
            watch.look_closely()
            await looks(records[1])
            assert records[0].rss_bytes == 0
            assert (events.stopped, events.over) == ([], [])
