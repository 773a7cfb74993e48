"""Workers die at random, ten a second, under load: every request is answered, and the pool heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

from tests.support.service import Answer, RunningService, assert_books_balance, serving

TASKS = Path(__file__).with_name("fault_tasks.py")
SIGNALS = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV]
STORM_S = 20.0
KILLS_PER_S = 10
CALLERS = 32
# A worker that is stopped while it is busy looks like a long job: the caller's budget ends it.
BUDGET_S = 5.0


async def caller(service: RunningService, stop: asyncio.Event) -> list[Answer]:
    answers = []
    while not stop.is_set():
        answers.append(await service.job("steady", {"ms": 10}, **{"Request-Timeout": str(BUDGET_S)}))
    return answers


async def storm(service: RunningService, dice: random.Random) -> int:
    """Hits whatever worker there is, busy, idle or starting; returns how many times it hit."""
    hits = 0
    end = time.monotonic() + STORM_S
    while time.monotonic() < end:
        workers = [worker["pid"] for worker in (await service.stats())["workers"] if worker["pid"]]
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(workers), dice.choice(SIGNALS))
                hits += 1
        await asyncio.sleep(1 / KILLS_PER_S)
    return hits


async def test_a_kill_storm_costs_only_the_jobs_that_it_hits() -> None:
    async with serving(TASKS, "--workers", "4") as service:
        await service.ready()
        stop = asyncio.Event()
        callers = [asyncio.create_task(caller(service, stop)) for _ in range(CALLERS)]
        hits = await storm(service, random.Random(7))
        stop.set()
        answers = [answer for answers in await asyncio.gather(*callers) for answer in answers]
        stats = await service.ready()
    assert_books_balance(stats)
    assert stats["jobs"]["submitted"] == len(answers)
    failed = [answer for answer in answers if answer.status != 200]
    assert {answer.slug for answer in failed} <= {"worker-crashed", "deadline-exceeded"}
    assert len(failed) <= hits
    assert len(answers) - len(failed) > len(failed)
