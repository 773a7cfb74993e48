"""A stopped job really ends and frees its CPU, on every engine that promises it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from offload.core.outcome import Outcome
from tests.contract.engines import WORKERS, Running, Spinning, ended, eventually
from tests.service.processes.process_trees import are_gone

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def check_stopped(running: Running, spinning: Spinning, pid: int) -> None:
    """Checks after the answer that the work has ended; if it cannot be stopped, that its slot stays occupied."""
    if running.can.stops_running_jobs:

        async def is_gone() -> bool:
            return are_gone([pid])

        await eventually("the process that burned the CPU is gone", is_gone)
    else:
        states = [worker["state"] for worker in running.stats()["workers"]]
        assert sorted(states) == ["idle", "killing"]
        assert await running.result("add", {"a": 1}) == 1
        assert not are_gone([pid])
        spinning.finish()
    stats = await running.until_idle()
    assert await running.result("add", {"a": 1}) == 1
    assert (not are_gone([pid])) == (not running.can.stops_running_jobs)
    assert stats["pool"]["restarts"]["crash"] == 0 or not running.can.isolates_deaths


async def spinning_with_a_limit(running: Running, path: Path, budget_s: float | None) -> tuple[Spinning, int]:
    """Returns a job that wrote down its process id before its limit of 0.3 s, which it may not on a loaded machine."""
    task = "spin_too_long" if budget_s is None else "spin"
    for attempt in itertools.count():
        spinning = Spinning(running, path.with_name(f"{path.name}-{attempt}"), task, budget_s=budget_s)
        pid = asyncio.create_task(spinning.pid())
        await asyncio.wait({pid, spinning.caller}, return_when=asyncio.FIRST_COMPLETED)
        if pid.done() or await spinning.has_begun() or not running.can.stops_running_jobs:
            return spinning, await pid
        pid.cancel()
    raise AssertionError("unreachable")


@pytest.mark.parametrize("budget_s", [None, 0.3], ids=["of the task", "of the caller"])
async def test_a_timeout_or_budget_ends_a_job(running: Running, tmp_path: Path, budget_s: float | None) -> None:
    spinning, pid = await spinning_with_a_limit(running, tmp_path / "spin", budget_s)
    outcome = await spinning.outcome()
    assert outcome.reason == ("job-timeout" if budget_s is None else "deadline-exceeded")
    assert outcome.facts["stage"] == "running"
    await check_stopped(running, spinning, pid)


async def test_a_cancel_ends_a_job(running: Running, tmp_path: Path) -> None:
    spinning = Spinning(running, tmp_path / "spin")
    pid = await spinning.pid()
    running.service.dispatcher.cancel(spinning.job)
    assert (await spinning.outcome()).reason == "cancelled"
    await check_stopped(running, spinning, pid)


async def test_a_disconnect_ends_a_job(running: Running, tmp_path: Path) -> None:
    spinning = Spinning(running, tmp_path / "spin")
    pid = await spinning.pid()
    spinning.caller.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await spinning.caller
    assert spinning.job.outcome is not None
    assert spinning.job.outcome.reason == "disconnected"
    await check_stopped(running, spinning, pid)


async def test_a_job_that_is_cancelled_before_it_begins_ends(running: Running) -> None:
    """It may be cancelled at any moment on its way to the worker."""
    for _ in range(20):
        job, caller = running.begin("add", {"a": 1})
        await asyncio.sleep(0)
        running.service.dispatcher.cancel(job)
        assert (await ended(job, caller)).reason in ("cancelled", "succeeded")
    await running.until_idle()


async def test_a_cancel_never_hits_the_next_job(running: Running) -> None:
    """The cancelled work ends by itself at about the time of the cancel, and its worker begins the next job."""
    dice = random.Random(5)
    outcomes: list[Outcome] = []

    async def caller(cancels: bool) -> None:
        for _ in range(40):
            job, waiting = running.begin("work", {"ms": 2})
            if cancels:
                await asyncio.sleep(dice.uniform(0.001, 0.005))
                running.service.dispatcher.cancel(job)
                await ended(job, waiting)
            else:
                outcomes.append(await ended(job, waiting))

    await asyncio.gather(*(caller(number < 2) for number in range(5)))
    assert Counter(outcome.reason.value for outcome in outcomes) == {"succeeded": 120}
    await running.until_idle()


DEATHS: dict[str, dict[str, Any]] = {
    "exit": {"exit_code": 3},
    "SIGSEGV": {"signal": "SIGSEGV"},
    "SIGKILL": {"signal": "SIGKILL"},
    "SIGTERM": {"signal": "SIGTERM"},
}


@pytest.mark.parametrize("how", DEATHS)
async def test_a_crash_is_named_and_costs_one_job(running: Running, how: str) -> None:
    outcome = await running.outcome("die", {"how": how})
    assert outcome.reason == "worker-crashed"
    named = {name: value for name, value in outcome.facts.items() if name in ("signal", "exit_code") and value}
    assert named == (DEATHS[how] if running.can.names_deaths else {})
    await running.until_idle()
    assert await running.result("add", {"a": 1}) == 1


def reasons_after_a_death(running: Running) -> set[str]:
    """Returns the possible reasons for a job that was sent to a worker which had just died.

    A job that had not begun runs elsewhere. If that is unknown, or if others die too, it may crash.
    """
    is_safe = running.can.knows_what_had_begun and running.can.isolates_deaths
    return {"succeeded"} if is_safe else {"succeeded", "worker-crashed"}


async def pid_of_idle(running: Running, busy: int) -> int:
    async def find() -> int | None:
        pid: int = (await running.result("about_job"))["pid"]
        return pid if pid != busy else None

    idle: int = await eventually("another worker", find)
    return idle


async def test_the_death_of_an_idle_worker_costs_no_job_if_promised(running: Running, tmp_path: Path) -> None:
    spinning = Spinning(running, tmp_path / "spin")
    os.kill(await pid_of_idle(running, await spinning.pid()), signal.SIGKILL)
    if running.can.isolates_deaths:
        assert (await running.outcome("add", {"a": 1})).reason in reasons_after_a_death(running)
        spinning.finish()
        assert (await spinning.outcome()).reason == "succeeded"
    else:
        assert (await spinning.outcome()).reason == "worker-crashed"
        spinning.finish()
    await running.until_idle()


async def pid_of_any(running: Running, number: int) -> int:
    """Returns the id of a living idle worker; another number selects another worker."""

    async def find() -> int | None:
        rows = (await running.until_idle())["workers"]
        pids = [row["pid"] for row in rows if row["pid"] is not None and not are_gone([row["pid"]])]
        if pids:
            return int(pids[number % len(pids)])
        await running.outcome("add", {"a": 1})  # some engines know their workers only by answers
        return None

    pid: int = await eventually("a worker", find)
    return pid


async def test_an_engine_survives_repeated_kills_of_idle_workers(running: Running) -> None:
    """One idle worker of a standard pool holds the lock of its queue.  Loky replaces all workers after each death."""
    deaths = 10 if running.engine.name in ("supervised", "pool") else 3
    for number in range(2 if running.is_on_cluster else deaths):
        pid = await pid_of_any(running, number)
        os.kill(pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*(running.outcome("add", {"a": 1}) for _ in range(WORKERS)))
        assert {outcome.reason.value for outcome in outcomes} <= reasons_after_a_death(running)

        async def is_gone(pid: int = pid) -> bool:
            return are_gone([pid])

        await eventually("the death is seen", is_gone)
    await running.until_idle()


async def test_no_job_begins_twice_when_workers_are_killed(running: Running, tmp_path: Path) -> None:
    """A job that crashed had begun, if the engine can know that."""
    trace = tmp_path / "trace"
    numbers = iter(range(300))
    outcomes: dict[int, Outcome] = {}

    async def caller() -> None:
        for number in numbers:
            outcomes[number] = await running.outcome("mark", {"path": str(trace), "number": number})

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    for at in (60, 130, 200):
        async with asyncio.timeout(30):
            while len(outcomes) < at:
                await asyncio.sleep(0.001)
        pid = next((row["pid"] for row in running.stats()["workers"] if row["pid"]), None)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*callers)
    begun = Counter(int(line) for line in trace.read_text().splitlines())
    assert set(begun.values()) == {1}
    crashed = {number for number, outcome in outcomes.items() if outcome.reason == "worker-crashed"}
    assert {number for number, outcome in outcomes.items() if outcome.reason == "succeeded"} | crashed == set(outcomes)
    assert len(crashed) <= 3 * WORKERS
    await running.until_idle()


async def test_a_job_with_retries_is_retried_after_a_crash(running: Running, tmp_path: Path) -> None:
    assert await running.result("die_twice", {"path": str(tmp_path / "attempts")}) == 3
    await running.until_idle()


async def test_memory_is_limited_if_promised(running: Running) -> None:
    outcome = await running.outcome("hog")
    if running.can.limits_memory:
        assert outcome.reason == "memory-limit"
        assert outcome.facts["peak_bytes"] > outcome.facts["limit_bytes"] == 200_000_000  # type: ignore[operator]
    else:
        assert outcome.reason == "succeeded"
    await running.until_idle()
