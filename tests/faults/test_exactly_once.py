"""Jobs that wait in a worker behind another begin once and are answered once, however the worker ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.service import Answer, RunningService, serving

TASKS = Path(__file__).with_name("fault_tasks.py")
JOBS = 1000
CALLERS = 48


async def flood(service: RunningService, trace: Path, long_ones: frozenset[int]) -> dict[int, Answer]:
    """Send all jobs from many callers; those in `long_ones` take long without warning."""
    numbers = iter(range(JOBS))
    answers: dict[int, Answer] = {}

    async def caller() -> None:
        for number in numbers:
            arguments = {"path": str(trace), "number": number, "ms": 300 if number in long_ones else 0}
            answers[number] = await service.job("mark", arguments)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return answers


async def kill_at_random(service: RunningService, done: asyncio.Event) -> None:
    dice = random.Random(11)
    while not done.is_set():
        # Spare starting workers: if starts are slow, all of them would fail and no worker would be left.
        workers = (await service.stats())["workers"]
        pids = [worker["pid"] for worker in workers if worker["pid"] and worker["state"] != "starting"]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(pids), signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.05)


def begun(trace: Path) -> Counter[int]:
    return Counter(int(line) for line in trace.read_text().splitlines())


@pytest.mark.parametrize("start_method", ["forkserver", "fork"])
async def test_jobs_behind_a_killed_one_begin_once_elsewhere(tmp_path: Path, start_method: str) -> None:
    trace = tmp_path / "trace"
    async with serving(TASKS, "--workers", "2", "--start-method", start_method) as service:
        await service.ready()
        done = asyncio.Event()
        killer = asyncio.create_task(kill_at_random(service, done))
        answers = await flood(service, trace, frozenset())
        done.set()
        await killer
        stats = await service.ready()
    assert len(answers) == JOBS
    assert set(begun(trace).values()) == {1}
    succeeded = {number for number, answer in answers.items() if answer.status == 200}
    crashed = {number for number, answer in answers.items() if answer.status != 200}
    assert {answers[number].slug for number in crashed} <= {"worker-crashed"}
    # A kill costs the job that ran, not those that waited behind it.
    assert len(crashed) <= stats["pool"]["restarts"]["crash"]
    assert succeeded <= set(begun(trace))


async def test_jobs_behind_an_unexpectedly_long_one_begin_once(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()
        answers = await flood(service, trace, frozenset(range(250, JOBS, 75)))
        await service.ready()
    assert {answer.status for answer in answers.values()} == {200}
    assert begun(trace) == Counter(range(JOBS))


async def test_callers_who_disconnect_cost_no_other_job(tmp_path: Path) -> None:
    """Cancelling jobs that wait behind others affects no other job and no worker."""
    trace = tmp_path / "trace"
    async with serving(TASKS, "--workers", "2") as service:
        await service.ready()
        dice = random.Random(3)

        async def leaver(number: int) -> None:
            job = asyncio.create_task(service.job("mark", {"path": str(trace), "number": JOBS + number}))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(job, dice.random() * 0.01)

        flooding = asyncio.create_task(flood(service, trace, frozenset()))
        for number in range(200):
            await leaver(number)
        answers = await flooding
        await service.ready()
    assert {answer.status for answer in answers.values()} == {200}
    assert set(begun(trace).values()) == {1}
