"""Whatever a task does to itself: its caller gets one clear answer, everybody else is served, and nothing is left.

One row per fault; rows that differ by start method run with each of them.  While a row runs, the jobs of other callers
run beside it and must all succeed; afterwards the pool is at full strength, the counters add up, and the service has no
more processes and descriptors than before.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.victims import begin_waiting
from tests.support.service import Answer, RunningService, alive, eventually, serving

TASKS = Path(__file__).with_name("fault_tasks.py")
WORKERS = 2
# The exit code of a worker whose channel is closed.
CHANNEL_LOST = 76


@dataclass(frozen=True)
class Row:
    """`status` and `slug` of the answer, and fields that must be in it.

    `leaves_helpers`: a library keeps processes that may live as long as the worker.  `needs_mark`: what is left is
    found by a mark in its environment; a fork of the service does not carry it, so `fork` leaves that process, as
    documented.
    """

    task: str
    status: int
    slug: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    leaves_helpers: bool = False
    needs_mark: bool = False


CRASH = "worker-crashed"

ROWS = {
    "segfault": Row("segfault", 500, CRASH, {"signal": "SIGSEGV"}),
    "abort": Row("abort", 500, CRASH, {"signal": "SIGABRT"}),
    "SIGKILL from inside": Row("kill_self", 500, CRASH, {"signal": "SIGKILL"}),
    "os._exit(0)": Row("leave", 500, CRASH, {"exit_code": 0}),
    "os._exit(3)": Row("leave", 500, CRASH, {"exit_code": 3}, {"code": 3}),
    "sys.exit": Row("system_exit", 500, "task-error", {"exception": "SystemExit"}),
    "closing every descriptor": Row("close_everything", 500, CRASH, {"exit_code": CHANNEL_LOST}),
    "SIGSTOP": Row("stop_self", 504, "job-timeout", {"limit_s": 0.3, "stage": "running"}),
    "endless loop in Python": Row("endless", 504, "job-timeout", {"limit_s": 0.3}),
    "endless loop in C under the GIL": Row("endless_in_c", 504, "job-timeout"),
    "ignoring every signal": Row("deaf", 504, "job-timeout"),
    "swallowing BaseException": Row("swallow", 504, "job-timeout"),
    "grandchild holds the channel of a dead worker": Row(
        "grandchild_holds_channel", 500, CRASH, {"exit_code": 7}, {"mode": "die"}
    ),
    "grandchild leaves the group and burns": Row("grandchild_leaves_group", 504, "job-timeout"),
    "grandchild left behind by a crash": Row(
        "grandchild_left_behind_by_crash", 500, CRASH, {"exit_code": 9}, needs_mark=True
    ),
    "death half-way through a huge result": Row("die_while_sending", 500, CRASH, {"signal": "SIGKILL"}),
    "garbage on the channel": Row("garbage_on_channel", 500, CRASH),
    "10 MB of noise": Row("noise", 200, result="done"),
    "memory hog": Row("hog", 500, "memory-limit", {"limit_bytes": 200_000_000}),
    "memory hog in a child": Row("hog_in_child", 500, "memory-limit", {"limit_bytes": 200_000_000}),
    "exception that cannot be pickled or printed": Row("unprintable", 500, "task-error", {"exception": "Unprintable"}),
    "result that cannot be encoded": Row("unserialisable", 500, "result-not-serialisable"),
    "file returned by mistake": Row("open_file", 500, "result-not-serialisable", {"pointer": "/file"}),
    "iterator without an end": Row("endless_iterator", 504, "job-timeout", {"limit_s": 0.3}),
    "recursion": Row("recursion", 500, "task-error", {"exception": "RecursionError"}),
    "recursion in C until the stack ends": Row("stack_overflow", 500, CRASH, {"signal": "SIGSEGV"}),
    "forked child returns from the task": Row("child_returns", 200, result=0),
    "setsid in the worker": Row("set_session", 500, "task-error", {"exception": "PermissionError"}),
    "setsid in a child": Row("child_sets_session", 504, "job-timeout"),
    "orphans left behind": Row("leave_orphans", 200),
    "a hard limit left lowered": Row("lower_hard_limit", 200),
    "a pending alarm left behind": Row("leave_alarm", 200),
    "broken output left behind": Row("break_output", 200),
    "a multiprocessing pool of its own": Row("own_pool", 200, result=[1, 2, 3], leaves_helpers=True),
    **{
        f"a {method} pool at work in a worker that dies": Row(
            "pool_at_work", 500, CRASH, {"exit_code": 9}, {"method": method}
        )
        for method in ("fork", "spawn", "forkserver")
    },
    "loky at work in a worker that dies": Row("loky_at_work", 500, CRASH, {"exit_code": 9}),
}

# A start method decides who is a worker's parent, what a worker inherits, and how its descendants are found.
OF_EACH_METHOD = [
    "segfault",
    "os._exit(3)",
    "closing every descriptor",
    "SIGSTOP",
    "grandchild holds the channel of a dead worker",
    "grandchild leaves the group and burns",
    "grandchild left behind by a crash",
    "memory hog in a child",
    "forked child returns from the task",
    "setsid in a child",
    "orphans left behind",
    "a hard limit left lowered",
    "a multiprocessing pool of its own",
    "a fork pool at work in a worker that dies",
    "a spawn pool at work in a worker that dies",
    "loky at work in a worker that dies",
]
on_default = pytest.mark.parametrize("service", ["forkserver"], indirect=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["forkserver", "spawn", "fork"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[RunningService]:
    async with serving(TASKS, "--workers", str(WORKERS), "--start-method", request.param) as running:
        await running.ready()
        yield running


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("service")]


async def beside(service: RunningService, done: asyncio.Event) -> list[Answer]:
    """Run jobs beside the fault until `done`."""
    answers = []
    while not done.is_set():
        answers.append(await service.job("steady", {"ms": 5}))
    return answers


def descriptors(service: RunningService) -> int:
    return len(os.listdir(f"/proc/{service.pid}/fd"))


async def check_row(
    service: RunningService,
    act: Callable[[], Awaitable[Answer]],
    check: Callable[[Answer], None],
    *,
    leaves_helpers: bool = False,
) -> None:
    await service.ready()
    processes, open_files = len(service.processes()), descriptors(service)
    done = asyncio.Event()
    bystander = asyncio.create_task(beside(service, done))
    try:
        check(await act())
    finally:
        done.set()
        others = await bystander
    assert [answer for answer in others if answer.status != 200] == []
    stats = await service.ready()
    assert stats["pool"]["size"] == WORKERS

    async def is_as_before() -> bool:
        is_alone = leaves_helpers or len(service.processes()) <= processes
        return is_alone and descriptors(service) <= open_files

    async def has_no_zombie() -> bool:
        """A worker reaps after a job, so both get one."""
        await asyncio.gather(*(service.job("steady", {"ms": 5}) for _ in range(WORKERS)))
        return not [pid for pid, parent in zombies() if parent in service.processes()]

    await eventually(f"{processes} processes and {open_files} descriptors, as before", is_as_before)
    await eventually("no zombie is left", has_no_zombie)


@pytest.mark.parametrize("name", OF_EACH_METHOD)
async def test_one_fault_costs_one_job(service: RunningService, name: str) -> None:
    await check_fault(service, ROWS[name])


@on_default
@pytest.mark.parametrize("name", [name for name in ROWS if name not in OF_EACH_METHOD])
async def test_one_fault_within_a_worker_costs_one_job(service: RunningService, name: str) -> None:
    await check_fault(service, ROWS[name])


async def check_fault(service: RunningService, row: Row) -> None:

    def check(answer: Answer) -> None:
        assert answer.status == row.status, answer
        if row.slug:
            problem = answer.json()
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert (answer.slug, problem["status"], problem["task"]) == (row.slug, row.status, row.task)
            assert problem["job"] == answer.headers["Job-Id"]
            assert problem["detail"]
            assert {key: problem.get(key) for key in row.fields} == row.fields
        else:
            assert answer.json() == row.result

    await check_row(service, lambda: service.job(row.task, row.arguments), check, leaves_helpers=row.leaves_helpers)

    if row.needs_mark and service.start_method == "fork":
        (stray,) = service.strays()
        os.kill(stray, signal.SIGKILL)

    async def no_strays() -> bool:
        return not service.strays()

    await eventually("no stray is left", no_strays)


async def pid_of_running(service: RunningService, task: str) -> int:
    async def find() -> int | None:
        workers = (await service.stats())["workers"]
        return next((worker["pid"] for worker in workers if worker["task"] == task), None)

    pid: int = await eventually(f"{task} runs", find)
    return pid


async def test_a_kill_from_outside_costs_one_job(service: RunningService, tmp_path: Path) -> None:
    await check_signal(service, signal.SIGKILL, tmp_path)


@on_default
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_from_outside_costs_one_job(
    service: RunningService, number: signal.Signals, tmp_path: Path
) -> None:
    await check_signal(service, number, tmp_path)


async def check_signal(service: RunningService, number: signal.Signals, folder: Path) -> None:
    async def act() -> Answer:
        job, pid = await begin_waiting(service, folder / "begun")
        os.kill(pid, number)
        return await job

    def check(answer: Answer) -> None:
        assert (answer.status, answer.slug, answer.json()["signal"]) == (500, "worker-crashed", number.name)

    await check_row(service, act, check)


async def test_an_idle_worker_that_is_stopped_is_replaced(service: RunningService) -> None:
    before = (await service.ready())["workers"]
    victim = before[0]["pid"]
    os.kill(victim, signal.SIGSTOP)

    async def is_replaced() -> bool:
        return victim not in [worker["pid"] for worker in (await service.stats())["workers"]] and not alive({victim})

    await eventually("the stopped worker is replaced", is_replaced)
    answers = await asyncio.gather(*(service.job("where") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    await service.ready()


async def test_all_idle_workers_stopped_lose_no_job(service: RunningService) -> None:
    for worker in (await service.ready())["workers"]:
        os.kill(worker["pid"], signal.SIGSTOP)
    answers = await asyncio.gather(*(service.job("where") for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    await service.ready()


async def test_all_idle_workers_killed_lose_no_job(service: RunningService) -> None:
    for worker in (await service.ready())["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    answers = await asyncio.gather(*(service.job("where") for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    await service.ready()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_forkserver_may_die_or_hang(service: RunningService, number: signal.Signals) -> None:
    servers = [pid for pid, command in service.processes().items() if "forkserver_process import serve" in command]
    parents = [pid for pid in servers if parent_of(pid) == service.pid]
    if service.start_method != "forkserver":
        assert parents == []
        return

    async def act() -> Answer:
        job = asyncio.create_task(service.job("steady", {"ms": 300}))
        await pid_of_running(service, "steady")
        os.kill(parents[0], number)
        crash = await service.job("leave", {"code": 4})
        assert (crash.status, crash.slug) == (500, "worker-crashed")
        return await job

    def check(answer: Answer) -> None:
        assert answer.status == 200, answer

    await check_row(service, act, check)


async def test_resource_limits_are_compared_only_where_a_task_can_change_them(service: RunningService) -> None:
    """Comparing them takes as long as everything else that is compared after a job, so no worker loads the module."""
    answers = await asyncio.gather(*(service.job("is_loaded", {"module": "resource"}) for _ in range(8)))
    assert [answer.json() for answer in answers] == [False] * 8


@on_default
async def test_a_job_may_be_tried_again_when_its_worker_dies(service: RunningService, tmp_path: Path) -> None:
    answer = await service.job("dies_twice", {"path": str(tmp_path / "attempts")})
    assert (answer.status, answer.json()) == (200, 3)
    await service.ready()


def zombies() -> list[tuple[int, int]]:
    """Returns the ended processes that were not reaped, and their parents."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            state, parent, *_ = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()
            if state == "Z":
                found.append((int(name), int(parent)))
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
