"""Workers: spares, retirement, environment and output."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.victims import begin_waiting
from tests.support.service import RunningService, alive, eventually, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"

shared = pytest.mark.asyncio(loop_scope="module")


async def test_a_spare_replaces_a_dead_worker(tmp_path: Path) -> None:
    """A spare takes over, and the dead worker's lane becomes the spare."""
    async with serving(TASKS, "--workers", "1", "--spares", "1") as service:
        await service.ready()

        async def is_warm() -> bool:
            return bool((await service.stats())["pool"]["spares"] == 1)

        async def lanes() -> list[int]:
            return [worker["lane"] for worker in (await service.ready())["workers"]]

        await eventually("the spare is warm", is_warm)
        (first,) = await lanes()  # the lane that was ready first
        job, pid = await begin_waiting(service, tmp_path / "begun")
        os.kill(pid, signal.SIGKILL)
        assert (await job).slug == "worker-crashed"
        assert await lanes() == [1 - first]
        await eventually("the spare is warm again", is_warm)


FORKED = """
import os, sys
from offload import task

before = set()
os.register_at_fork(after_in_child=lambda: before.update(sys.modules))

@task
def imported() -> list[str]:
    return sorted(name for name in set(sys.modules) - before if name.startswith("offload."))
"""


async def test_the_forkserver_has_all_modules_that_a_worker_needs(tmp_path: Path) -> None:
    """Otherwise each replacement of a worker would take longer."""
    (tmp_path / "tasks.py").write_text(FORKED)
    async with serving(tmp_path / "tasks.py", "--workers", "1", "--start-method", "forkserver") as service:
        await service.ready()
        assert (await service.job("imported")).json() == []


async def test_retiring_workers_lose_no_job() -> None:
    async with serving(TASKS, "--workers", "2", "--max-jobs-per-worker", "3") as service:
        await service.ready()
        answers = await asyncio.gather(*(service.job("where") for _ in range(18)))
        assert {answer.status for answer in answers} == {200}
        assert max(Counter(answer.json()["pid"] for answer in answers).values()) <= 3
        stats = await service.ready()
        assert stats["pool"]["restarts"]["retire"] >= 4
        assert stats["pool"]["restarts"]["crash"] == 0


HANGING = """
import os, time
from offload import on_worker_start, task

@on_worker_start
def begin() -> None:
    if os.path.exists("{path}"):
        open("{path}.hangs", "w").close()
        time.sleep(1000)

@task
def fine() -> None: ...
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
async def test_a_starting_worker_that_is_stopped_is_replaced(start_method: str, tmp_path: Path) -> None:
    """It is replaced long before the start timeout."""
    tasks, path = tmp_path / "tasks.py", tmp_path / "broken"
    tasks.write_text(HANGING.format(path=path))
    path.touch()
    async with serving(tasks, "--workers", "1", "--start-method", start_method) as service:

        async def hangs() -> bool:
            return Path(f"{path}.hangs").exists()

        await eventually("the start hangs", hangs)
        (worker,) = (await service.stats())["workers"]
        assert worker["state"] == "starting"
        path.unlink()
        os.kill(worker["pid"], signal.SIGSTOP)
        (other,) = (await service.ready())["workers"]
        assert other["pid"] != worker["pid"]
        assert not alive({worker["pid"]})
        assert (await service.job("fine")).status == 200


HELPED = """
import os, subprocess, sys
from offload import task

def start(name):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    with open(os.path.join({directory!r}, name), "a") as file:
        print(process.pid, file=file)

start("helpers")

@task
def leave_a_stray() -> None:
    start("strays")
    os._exit(9)
"""


async def test_what_a_module_starts_at_its_import_lives_as_long_as_the_service(tmp_path: Path) -> None:
    """It carries the mark by which strays are found, and so does what a new forkserver starts."""
    tasks = tmp_path / "tasks.py"
    tasks.write_text(HELPED.format(directory=str(tmp_path)))

    def pids_of(name: str) -> set[int]:
        return set(map(int, (tmp_path / name).read_text().split()))

    async def strays_are_ended() -> None:
        for _ in range(2):  # when the second search begins, the first one has ended
            assert (await service.job("leave_a_stray")).slug == "worker-crashed"

            async def are_ended() -> bool:
                return not alive(pids_of("strays"))

            await eventually("the stray is ended", are_ended)

    async with serving(tasks, "--workers", "1", "--quarantine-after", "0") as service:
        await service.ready()
        await strays_are_ended()
        forkserver = next(
            pid for pid, command in service.processes().items() if "forkserver_process import serve" in command
        )
        os.kill(forkserver, signal.SIGKILL)
        await strays_are_ended()
        assert len(pids_of("helpers")) == 2
        assert alive(pids_of("helpers")) == pids_of("helpers")

    async def are_gone() -> bool:
        return not alive(pids_of("helpers"))

    await eventually("they are gone with the service", are_gone)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
async def test_what_a_module_starts_ends_with_the_service(start_method: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.py"
    tasks.write_text(HELPED.format(directory=str(tmp_path)))
    async with serving(tasks, "--workers", "1", "--start-method", start_method) as service:
        await service.ready()
        helpers = set(map(int, (tmp_path / "helpers").read_text().split()))
        assert len(helpers) == 2
        assert len(alive(helpers)) == 1, "that of the process that described the tasks has ended with it"

    async def are_gone() -> bool:
        return not alive(helpers)

    await eventually("they are gone", are_gone)


async def test_a_worker_that_has_grown_is_replaced() -> None:
    async with serving(TASKS, "--workers", "1", "--max-rss-per-worker", "1MiB") as service:
        before = (await service.ready())["workers"][0]["pid"]

        async def is_replaced() -> bool:
            answer = await service.job("where")
            return bool(answer.json()["pid"] != before)

        await eventually("another worker", is_replaced)
        assert (await service.ready())["pool"]["restarts"]["crash"] == 0


@shared
async def test_what_a_task_prints_is_in_the_log_with_its_job(service: RunningService) -> None:
    answers = [await service.job("prints", {"text": f"hello {number}"}) for number in range(3)]

    ids = [answer.headers["Job-Id"] for answer in answers]

    async def lines() -> list[str]:
        found = [line for line in service.log if any(job in line for job in ids)]
        return [line for line in found if "by write" in line or "hello" in line]

    async def all_lines() -> bool:
        return len(await lines()) == 6

    await eventually("all lines are in the log", all_lines)
    for number, job in enumerate(ids):
        own = [line for line in await lines() if job in line]
        assert len(own) == 2
        assert f"hello {number}" in own[0]


@shared
async def test_a_printed_line_cannot_forge_a_log_line(service: RunningService) -> None:
    await service.job("prints", {"text": "x\r2026-01-01T00:00:00.000Z ERROR forged \x1b[31m"})

    async def found() -> str | None:
        return next((line for line in service.log if "forged" in line), None)

    line = await eventually("the line", found)
    assert "\x1b" not in line and "\r" not in line
    assert "task printed" in line


async def test_a_flood_of_prints_is_dropped_and_counted() -> None:
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()
        assert (await service.job("noise")).json() == "done"

        async def is_told() -> bool:
            return any("lines were dropped" in line for line in service.log)

        await eventually("the log says that lines were dropped", is_told)
        assert 1000 <= sum("xxxxxxxxxx" in line for line in service.log) < 10_000


@shared
async def test_the_stacks_of_a_stuck_worker_are_in_the_log(service: RunningService) -> None:
    """A kill waits for the stacks a few milliseconds at most: on a busy machine they may be missing."""
    jobs: set[str] = set()

    async def is_dumped() -> bool:
        answer = await service.job("endless_in_c")
        assert answer.slug == "job-timeout"
        jobs.add(answer.headers["Job-Id"])
        return any("in endless_in_c" in line and any(job in line for job in jobs) for line in service.log)

    await eventually("its Python stack", is_dumped)


@pytest.mark.parametrize(
    ("start_method", "flags", "expected"),
    [
        ("forkserver", (), "1"),
        ("spawn", (), "1"),
        ("fork", (), "1"),
        ("forkserver", ("--threads-per-worker", "3"), "3"),
    ],
)
async def test_numeric_libraries_get_their_threads(start_method: str, flags: tuple[str, ...], expected: str) -> None:
    """They read the variable when they are imported."""
    async with serving(TASKS, "--workers", "1", "--start-method", start_method, *flags) as service:
        await service.ready()
        assert (await service.job("threads_at_import")).json() == expected
        assert (await service.job("environment", {"name": "OMP_NUM_THREADS"})).json() == expected


async def test_threads_set_by_the_user_are_kept() -> None:
    async with serving(TASKS, "--workers", "1", env={"OMP_NUM_THREADS": "7"}) as service:
        await service.ready()
        assert (await service.job("environment", {"name": "OMP_NUM_THREADS"})).json() == "7"


@shared
async def test_the_kernel_kills_workers_before_the_service(service: RunningService) -> None:
    stats = await service.ready()
    score = Path(f"/proc/{stats['workers'][0]['pid']}/oom_score_adj").read_text()
    own = Path(f"/proc/{service.pid}/oom_score_adj").read_text()
    assert int(score) > int(own)
    assert "Max core file size        0" in Path(f"/proc/{stats['workers'][0]['pid']}/limits").read_text()


@shared
async def test_the_callers_request_id_is_in_every_log_line_of_the_job(service: RunningService) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"X-Request-ID": "order-17", "traceparent": trace}
    answer = await service.post("prints", json={"text": "hello"}, headers=headers)
    crash = await service.post("leave", json={}, headers=headers)
    ids = {answer.headers["Job-Id"], crash.headers["Job-Id"]}

    async def lines() -> list[str] | None:
        found = [line for line in service.log if any(job in line for job in ids)]
        # Two printed lines and a request; a crash and a request.
        return found if len(found) == 5 else None

    for line in await eventually("all lines of both jobs", lines):
        assert "request_id=order-17" in line and f"traceparent={trace}" in line, line


async def test_a_worker_that_lacks_descriptors_starts_when_there_are_some() -> None:
    """A start that the system rejects is a failed start: reported, delayed and repeated."""
    async with serving(TASKS, "--workers", "1") as service:
        pid = (await service.ready())["workers"][0]["pid"]
        soft, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (4, hard))
        os.kill(pid, signal.SIGKILL)

        async def is_told() -> bool:
            return any("worker failed to start" in line and "Too many open files" in line for line in service.log)

        await eventually("the log says why", is_told)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (soft, hard))
        await service.ready()
        assert (await service.job("fine")).status == 200


async def test_tracebacks_of_prefetched_jobs_are_logged_with_their_own_ids() -> None:
    """From the first job on, although they wait in the worker behind each other."""
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()
        for _ in range(3):  # from now on it is known to be short
            assert (await service.job("raises", {"message": ""})).status == 200

        async def caller(first: int) -> dict[str, str]:
            ids = {}
            for number in range(first, first + 2):
                answer = await service.job("raises", {"message": f"number-{number}-"})
                ids[f"number-{number}-"] = answer.headers["Job-Id"]
            return ids

        own = {text: job for ids in await asyncio.gather(*map(caller, range(0, 64, 2))) for text, job in ids.items()}

        async def all_lines() -> list[str] | None:
            lines = [line for line in service.log if "number-" in line]
            return lines if len(lines) == len(own) else None

        lines = await eventually("a line of each job", all_lines)
        texts = [re.findall(r"number-\d+-", line)[0] for line in lines]
        assert [line for line, text in zip(lines, texts, strict=True) if f"job_id={own[text]}" not in line] == []
        heads = [line for line in service.log if "Traceback" in line]
        assert sorted(re.findall(r"job_id=(\w+)", "".join(heads))) == sorted(own.values())


async def test_output_of_prefetched_jobs_is_never_logged_as_another_jobs() -> None:
    """A line has the id of its own job, or, at the very beginning, no id."""
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()

        async def caller(first: int) -> dict[str, str]:
            ids = {}
            for number in range(first, first + 20):
                answer = await service.job("prints", {"text": f"number-{number}-"})
                ids[f"number-{number}-"] = answer.headers["Job-Id"]
            return ids

        own = {text: job for ids in await asyncio.gather(*map(caller, range(0, 320, 20))) for text, job in ids.items()}

        async def all_lines() -> list[str] | None:
            lines = [line for line in service.log if "number-" in line]
            return lines if len(lines) == len(own) else None

        lines = await eventually("a line of each job", all_lines)
        texts = [re.findall(r"number-\d+-", line)[0] for line in lines]
        wrong = [line for line, text in zip(lines, texts, strict=True) if "job_id=" in line and own[text] not in line]
        assert wrong == []
        assert sum("job_id=" in line for line in lines) > len(lines) / 2
