"""Workers are hit at random, ten times a second, under load and without: only what they were at is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Collection
from itertools import cycle, product
from pathlib import Path

from tests.support.service import Answer, RunningService, assert_books_balance, serving

TASKS = Path(__file__).with_name("fault_tasks.py")
SIGNALS = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV]
STATES = {"busy", "idle", "starting"}
STORM_S = 10.0
HITS_PER_S = 10
CALLERS = 32
# In turn callers call and keep quiet: with more callers than workers none of these would ever be idle.
LOUD_S, QUIET_S = 2.5, 2.5
# Every fifth hit is at a worker that starts.  Not more: when one start after the other fails, and no worker is left,
# those who wait are told so, as they should be.
STARTING_EVERY = 5


class Crowd:
    """Callers who call as long as they may; `calling` counts those who wait for an answer."""

    def __init__(self, service: RunningService) -> None:
        self.may_call = asyncio.Event()
        self.calling = 0
        self.answers: list[Answer] = []
        self._service = service
        self._is_over = False
        self._callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]

    async def _call(self) -> None:
        while not self._is_over:
            self.calling += 1
            self.answers.append(await self._service.job("brief"))
            self.calling -= 1
            await self.may_call.wait()

    async def leave(self) -> None:
        """When each has its last answer."""
        self._is_over = True
        self.may_call.set()
        await asyncio.gather(*self._callers)


class Storm:
    """`hits` by the state of the worker and the signal; `costly` those by signal that may have cost somebody a job."""

    def __init__(self, service: RunningService, crowd: Crowd) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        self.costly: Counter[str] = Counter()
        self._service = service
        self._crowd = crowd
        self._dice = random.Random(7)
        self._signals = {state: cycle(SIGNALS) for state in STATES}
        self._victims: set[int] = set()

    async def rage(self) -> None:
        began_at = time.monotonic()
        for number in range(round(STORM_S * HITS_PER_S)):
            hit_at = began_at + number / HITS_PER_S
            await asyncio.sleep(hit_at - time.monotonic())
            if (hit_at - began_at) % (LOUD_S + QUIET_S) < LOUD_S:
                self._crowd.may_call.set()
                await self._hit({"busy", "idle"}, until=hit_at + 1 / HITS_PER_S)
            else:
                self._crowd.may_call.clear()
                await self._hit({"idle"}, until=hit_at + 1 / HITS_PER_S)
            if number % STARTING_EVERY == 0:  # most often the successor of the one that was just hit
                await self._hit({"starting"}, until=hit_at + 2 / HITS_PER_S)

    async def _hit(self, states: Collection[str], *, until: float) -> None:
        """Any worker in one of the states, once; none if none is seen for so long."""
        while time.monotonic() < until:
            rows = (await self._service.stats())["workers"]
            chosen = [row for row in rows if row["state"] in states and row["pid"] not in {None, *self._victims}]
            if chosen:
                worker = self._dice.choice(chosen)
                number = next(self._signals[worker["state"]])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker["pid"], number)
                    self.hits[worker["state"], number.name] += 1
                    self.costly[number.name] += self._crowd.may_call.is_set() or self._crowd.calling > 0
                self._victims.add(worker["pid"])
                return


def cause(answer: Answer) -> str:
    """The signal that a job was lost by.  One whose worker was stopped in the middle ran into its limit."""
    problem = answer.json()
    if answer.slug == "job-timeout":
        assert problem["stage"] == "running"
        return "SIGSTOP"
    assert answer.slug == "worker-crashed", answer
    return str(problem["signal"])


async def test_a_kill_storm_costs_only_the_jobs_that_it_hits() -> None:
    """Every request is answered, and the pool comes back to full strength by itself."""
    # All callers send the same job, and on a slow machine three deaths in a row may well be its.
    async with serving(TASKS, "--workers", "4", "--quarantine-after", "0") as service:
        await service.ready()
        crowd = Crowd(service)
        storm = Storm(service, crowd)
        await storm.rage()
        await crowd.leave()
        stats = await service.ready()
    assert_books_balance(stats)
    assert stats["jobs"]["submitted"] == len(crowd.answers)
    lost = Counter(cause(answer) for answer in crowd.answers if answer.status != 200)
    assert lost <= storm.costly
    assert lost.total() < len(crowd.answers) / 2
    assert set(storm.hits) == set(product(STATES, (number.name for number in SIGNALS)))
