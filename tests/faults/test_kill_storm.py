"""Random signals hit workers ten times a second, with load and without; only the jobs they ran are lost."""

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
# Callers alternate between calling and pausing: with more callers than workers, no worker would ever be idle.
LOUD_S, QUIET_S = 2.5, 2.5
# Every fifth hit is at a starting worker.  With more, all starts could fail, and waiting jobs would be rejected.
STARTING_EVERY = 5


class Crowd:
    """Callers that call while `may_call` is set; `calling` counts those that wait for an answer."""

    def __init__(self, service: RunningService) -> None:
        self.may_call = asyncio.Event()
        self.calling = 0
        self.answers: list[Answer] = []
        self._service = service
        self._has_ended = False
        self._callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]

    async def _call(self) -> None:
        while not self._has_ended:
            self.calling += 1
            self.answers.append(await self._service.job("brief"))
            self.calling -= 1
            await self.may_call.wait()

    async def leave(self) -> None:
        """Return when each caller has its last answer."""
        self._has_ended = True
        self.may_call.set()
        await asyncio.gather(*self._callers)


class Storm:
    """Counts `hits` by state of the worker and signal, and by signal the `costly` ones, which may have cost a job."""

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
            if number % STARTING_EVERY == 0:  # usually the successor of the worker just hit
                await self._hit({"starting"}, until=hit_at + 2 / HITS_PER_S)

    async def _hit(self, states: Collection[str], *, until: float) -> None:
        """Send one signal to a worker in one of the states, if one is seen before `until`."""
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
    """Return the signal that cost a job.  A job whose worker was stopped ran into its limit."""
    problem = answer.json()
    if answer.slug == "job-timeout":
        assert problem["stage"] == "running"
        return "SIGSTOP"
    assert answer.slug == "worker-crashed", answer
    return str(problem["signal"])


async def test_a_kill_storm_costs_only_the_jobs_that_it_hits() -> None:
    """Every request is answered, and the pool returns to full strength."""
    # All callers send the same job, which on a slow machine may die three times in a row.
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
