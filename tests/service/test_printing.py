"""What tasks write in the usual ways is in the log, line by line, with the job that wrote it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.service import RunningService, eventually, serving

TASKS = Path(__file__).with_name("printing_tasks.py")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with serving(TASKS, "--workers", "1", "--no-access-log") as one:
        await one.ready()
        yield one


def lines_of(service: RunningService, job_id: str) -> list[str]:
    """Returns the lines of a job in the log, without quotes; escapes stay as the log shows them."""
    printed = [line for line in service.log if "task printed" in line and f"job_id={job_id} " in line]
    return [re.split(r" line=", line, maxsplit=1)[1].strip('"') for line in printed]


@pytest.mark.parametrize(
    ("task", "arguments", "expected"),
    [
        ("prints", {"text": "one\ntwo\r\n\nthree"}, ["one", "two", "three"]),
        ("prints", {"text": "  0%\r 50%\r100%\r"}, ["100%"]),
        ("prints", {"text": "\r 50%\r100%\r      \rdone\n"}, ["done"]),
        ("prints", {"text": "x" * 10_000}, ["x" * 4096 + "… (5,904 more bytes)"]),
        ("bar", {}, ["100%|██████████|"]),
        ("writes", {}, ["raw \\\\xff", "é by descriptor", "from a shell", "to stderr", "\\x1b[31mred\\x1b[0m \\x00 ∑"]),
        ("replaces_the_root_logger", {}, ["on stdout now"]),
    ],
)
async def test_what_a_task_writes_is_in_the_log(
    service: RunningService, task: str, arguments: dict[str, Any], expected: list[str]
) -> None:
    job = await service.job(task, arguments)
    assert job.status == 200

    async def are_logged() -> bool:
        return lines_of(service, job.headers["Job-Id"]) == expected

    await eventually(f"the lines {expected}", are_logged)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("logs", ["INFO shop two", "lines", "ERROR shop caught", "KeyError: 'handled'"]),
        ("warns", ["UserWarning: this is old"]),
        ("aborts", ["before the crash", "Fatal Python error: Aborted", "in aborts"]),
    ],
)
async def test_what_a_library_writes_is_in_the_log(service: RunningService, task: str, words: list[str]) -> None:
    job = await service.job(task)

    async def are_logged() -> bool:
        lines = lines_of(service, job.headers["Job-Id"])
        return all(any(word in line for line in lines) for word in words)

    await eventually(f"the lines {words}", are_logged)


async def test_a_bar_is_in_the_log_while_its_job_runs(service: RunningService, tmp_path: Path) -> None:
    released = tmp_path / "released"
    running = asyncio.create_task(service.job("slow_bar", {"released": str(released)}))

    async def shown() -> list[str]:
        return [line for line in service.log if "task=slow_bar" in line and "50%" in line]

    try:
        (line,) = await eventually("the state of the bar", shown)
    finally:
        released.touch()
    job = await running
    assert f"job_id={job.headers['Job-Id']} " in line

    async def are_logged() -> bool:
        return lines_of(service, job.headers["Job-Id"]) == [" 50%", "100%"]

    await eventually("its end", are_logged)


async def test_streams_are_no_terminals_and_write_utf_8(service: RunningService) -> None:
    assert (await service.job("streams")).json() == [[False, "utf-8", 1], [False, "utf-8", 2]]
