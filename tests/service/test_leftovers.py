"""Whatever a job leaves behind in its process, the next job in the same worker finds it as the first one did."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.service.leftovers import CASES, KEPT, REPLACED, RESTORED
from tests.support.service import RunningService, eventually, serving

TASKS = Path(__file__).with_name("leftover_tasks.py")
WAYS = ("by print", "by print to stderr", "by descriptor 1", "by descriptor 2", "by a child")

pytestmark = pytest.mark.asyncio(loop_scope="module")
on_default = pytest.mark.parametrize("one", ["forkserver"], indirect=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["forkserver", "spawn", "fork"])
async def one(request: pytest.FixtureRequest) -> AsyncIterator[RunningService]:
    """Yields a service with one worker."""
    async with serving(TASKS, "--workers", "1", "--start-method", request.param) as service:
        yield service


async def look(service: RunningService, line: str = "") -> dict[str, Any]:
    answer = await service.job("look", {"line": line})
    assert answer.status == 200, answer
    state: dict[str, Any] = answer.json()
    return state


async def remember(service: RunningService) -> dict[str, Any]:
    await service.ready()
    assert (await service.job("remember_streams")).status == 200
    return await look(service)


async def has_no_children(service: RunningService) -> bool:
    return bool((await service.job("children")).json() == [])


async def is_printed(service: RunningService, line: str, job_id: str = "") -> None:
    """Wait until the line is in the log, as this job's."""

    async def found() -> bool:
        return any(line in text and job_id in text for text in service.log)

    await eventually(f"{line!r} is in the log", found)


@pytest.mark.parametrize(("name", "fate"), CASES, ids=[name for name, _ in CASES])
async def test_the_next_job_finds_what_the_first_one_found(one: RunningService, name: str, fate: str) -> None:
    before = await remember(one)
    left = await one.job(name)
    assert left.status == 200 or (left.slug, left.json()["exception"]) == ("task-error", "RuntimeError"), left
    line = secrets.token_hex(8)
    after = await look(one, line)
    assert (after.pop("pid") == before.pop("pid")) is (fate != REPLACED)
    if fate == REPLACED:
        for field in ("streams", "kept"):
            del before[field], after[field]
    assert (after == before) is (fate != KEPT)
    if fate == KEPT:
        assert after.pop("kept") != before.pop("kept")
    assert after == before
    for way in WAYS:
        await is_printed(one, f"{line} {way}")
    await eventually("no child is left", lambda: has_no_children(one))
    assert (await one.stats())["pool"]["restarts"]["crash"] == 0


@on_default
async def test_an_alarm_that_comes_while_the_job_ends_costs_that_job_at_most(one: RunningService) -> None:
    """Its handler raises wherever the worker is at that moment."""
    before = await remember(one)
    for delay_us in range(1, 120, 2):
        answer = await one.job("alarm_that_raises", {"delay_s": delay_us / 1e6})
        assert answer.status == 200 or answer.slug in ("task-error", "result-not-serialisable"), answer
    assert await look(one) == before


@on_default
async def test_a_file_that_replaced_stdout_gets_what_was_printed(one: RunningService, tmp_path: Path) -> None:
    path = tmp_path / "printed"
    answer = await one.job("prints_into", {"path": str(path)})
    assert answer.status == 200
    assert (await one.job("read_file", {"path": str(path)})).json() == "into the file"
    await is_printed(one, "before ", answer.headers["Job-Id"])


@on_default
async def test_what_was_printed_before_stdout_broke_is_logged_with_its_job(one: RunningService) -> None:
    answer = await one.job("prints_then_closes")
    assert answer.status == 200
    assert (await one.job("look", {"line": "x"})).status == 200
    half = [text for text in one.log if "half a line" in text]
    assert [answer.headers["Job-Id"] in text for text in half] in ([], [True])


@on_default
async def test_the_exit_code_of_a_process_is_kept_for_the_object_that_stands_for_it(one: RunningService) -> None:
    assert (await one.job("starts_popen")).status == 200
    for _ in range(3):
        assert (await one.job("leaves_orphans")).status == 200
    assert (await one.job("asks_popen")).json() == 7
    await eventually("no child is left", lambda: has_no_children(one))


@on_default
async def test_a_job_waits_for_its_own_children(one: RunningService) -> None:
    assert (await one.job("waits_for_own_children")).json() == [3, 5]


@on_default
async def test_jobs_behind_a_worker_that_is_replaced_are_not_charged(one: RunningService) -> None:
    names = ["lowers_hard_limit", "read_file", "read_file"] * 8
    answers = await asyncio.gather(
        *(one.job(name, {"path": "/dev/null"} if name == "read_file" else {}) for name in names)
    )
    assert {answer.status for answer in answers} == {200}
    restarts = (await one.ready())["pool"]["restarts"]
    assert (restarts["crash"], restarts["retire"] >= 8) == (0, True)
    assert any("the hard limit RLIMIT_NOFILE was lowered; the worker is replaced" in text for text in one.log)


@pytest.mark.parametrize("engine", ["pool", "executor"])
async def test_workers_of_other_engines_are_restored_and_replaced_too(engine: str) -> None:
    async with serving(TASKS, "--workers", "1", "--engine", engine) as service:
        for name, fate in [("closes_stdout", RESTORED), ("changes_folder", RESTORED), ("lowers_hard_limit", "")]:
            before = await remember(service)
            assert (await service.job(name)).status == 200
            after = await look(service)
            assert (after["pid"] == before["pid"]) is (fate == RESTORED)
            assert after["folder"] == before["folder"]
        restarts = (await service.ready())["pool"]["restarts"]
        assert (restarts["crash"], restarts["retire"]) == (0, 1)
