"""`/stats` and `--debug` in a real service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import RunningService, eventually, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"

JOBS = 6
WORK_MS = 50


async def measured(service: RunningService) -> dict[str, Any] | None:
    """Returns `/stats` once everything that is sampled has been sampled, else None."""
    stats = await service.ready()
    are_counted = stats["rate"]["jobs_per_s_60s"] * stats["service"]["uptime_s"] > 0.99 * JOBS
    are_seen = all(worker["rss_bytes"] for worker in stats["workers"])
    # A worker counts a job after it has sent the answer, so the answer may arrive first.
    are_over = sum(worker["jobs"] for worker in stats["workers"]) >= JOBS
    return stats if are_counted and are_seen and are_over and stats["loop"]["lag_ms"]["max"] > 0 else None


async def test_the_statistics_show_what_jobs_do() -> None:
    async with serving(TASKS, "--workers", "2") as service:
        before = await service.ready()
        assert set(before["rate"].values()) == {0}
        assert before["pool"]["restarts"] == dict.fromkeys(("crash", "timeout", "cancel", "memory", "retire"), 0)
        answers = await asyncio.gather(*(service.job("steady", {"ms": WORK_MS}) for _ in range(JOBS)))
        assert {answer.status for answer in answers} == {200}
        stats = await eventually("everything is measured", lambda: measured(service))
        lag_ms, workers, uptime_s = stats["loop"]["lag_ms"], stats["workers"], stats["service"]["uptime_s"]
        assert 0 <= lag_ms["p50"] <= lag_ms["p99"] <= lag_ms["max"]
        assert sum(worker["jobs"] for worker in workers) == JOBS
        assert JOBS * WORK_MS / 1000 <= sum(worker["busy_s"] for worker in workers) <= uptime_s * len(workers)
        for worker in workers:
            assert worker["utilisation"] == pytest.approx(worker["busy_s"] / uptime_s, abs=0.01)
            assert 1 << 20 < worker["rss_bytes"] < 1 << 30


@pytest.mark.parametrize(("flags", "is_shown"), [((), False), (("--debug",), True)], ids=["default", "--debug"])
async def test_a_tasks_traceback_is_shown_only_with_debug(flags: tuple[str, ...], is_shown: bool) -> None:
    async with serving(TASKS, "--workers", "1", *flags) as service:
        await service.ready()
        problem = (await service.job("raises", {"message": "no such thing"})).json()
        assert (problem["status"], problem["exception"]) == (500, "KeyError")
        assert ("traceback" in problem) == is_shown
        assert "raise KeyError(message)\nKeyError: 'no such thing'" in problem.get("traceback", "") or not is_shown
